"""From rows to scores: each benchmark's official ones, with intervals, beside the paper's."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import stats
from . import conditions, identity, paper, running
from .item import read
from .record import known
from .scores import Score, headline, macro

# what an earlier version did not write down
UNSAID = {
    "model": "a model", "scale": None, "compress": None, "blind": False, "protocol": "ours",
    "limit": None, **conditions.NONE,
}  # fmt: skip


class Result:
    """A run's answers and scores.

    Attributes:
        settings: what was asked of whom.
        rows: a DataFrame with a row for each question, its answer as it came, what was read in it
            (`parsed`, None where nothing that counts), and how `right` that is.
        scores: {name: Score}.
        complete: is every question answered? By the paper's protocol answers are read as there, and
            a score says what a model would get that always says "A".
    """

    def __init__(self, settings: dict[str, Any], rows: list[dict[str, Any]]):
        if not rows:
            raise ValueError("No question has been answered yet, so there is nothing to score.")
        settings = UNSAID | {"questions": len(rows)} | settings
        self.settings: dict[str, Any] = settings
        self.rows = pd.DataFrame(rows)
        as_paper = settings["protocol"] == "paper"
        reading: Any = paper.reader(settings.get("family")) if as_paper else read
        self.rows[["parsed", "right"]] = [reading(row) for row in rows]
        self.rows["right"] = self.rows["right"].astype(float)
        self.complete = len(rows) >= settings["questions"]
        score: Any = known(settings["benchmark"]).score
        self.scores = score(self.rows)
        if "accuracy" not in self.scores:
            names = ", ".join(self.scores) or "nothing"
            raise ValueError(
                f"The score of '{settings['benchmark']}' names no \"accuracy\", but {names}."
            )
        if as_paper and any(self.rows["options"]):
            always = self.rows.assign(parsed="A", right=(self.rows["gold"] == "A").astype(float))
            self.scores["who always says A"] = score(always)["accuracy"]

    @property
    def accuracy(self) -> float:
        """The benchmark's headline score, in [0, 1]."""
        return self.scores["accuracy"].value

    @property
    def unparsed(self) -> float:
        """The share of answers in which the benchmark's rules found nothing that counts."""
        return float(np.mean(self.rows["parsed"].isna()))

    @property
    def removed(self) -> float:
        """The share of visual tokens that compression removed; 0 without it."""
        if "kept" not in self.rows:
            return 0.0
        kept, given = (self.rows[name].to_numpy(float).sum() for name in ("kept", "given"))
        return float(1 - kept / given)

    @property
    def paper(self) -> float | None:
        """The paper's accuracy, in percent, where it is of the very same thing; None where it has
        none, or something differs."""
        value, otherwise = paper.figure(self.settings)
        return None if otherwise else value

    @property
    def beside(self) -> str:
        """The paper's figure in words, with all that is otherwise there; "" where it has none."""
        return paper.beside(self.settings)

    def table(self) -> pd.DataFrame:
        """A DataFrame with a row for each score, in percent."""
        lines = {
            name: {"%": 100 * score.value, "95% interval": _interval(score), "questions": score.n}
            for name, score in self.scores.items()
        }
        table = pd.DataFrame.from_dict(lines, orient="index")
        table["%"] = table["%"].round(2)
        return table

    def __repr__(self):
        """What `whatwhere bench` prints."""
        settings, lines = self.settings, []
        changes = {
            "scaled: ": identity.plainly(settings["scale"]),
            "compressed: ": _compressed(settings["compress"]),
            "under: ": conditions.plainly(settings),
            "": "blind" if settings["blind"] else "",
            "protocol: ": "" if settings["protocol"] == "ours" else settings["protocol"],
            "changed by: ": ", ".join(settings.get("hooks", ())),
        }
        how = [f", {what}{words}" for what, words in changes.items() if words not in ("", "none")]
        lines.append(f"{settings['model']} on {settings['benchmark']}{''.join(how)}")
        if not self.complete:
            n, asked = len(self.rows), settings["questions"]
            lines.append(f"unfinished: {n} of {asked} questions are answered")
        lines.append(self.table().to_string())
        lines.append(f"unparsed answers: {self.unparsed:.1%} (counted as their benchmark does)")
        if settings["compress"]:
            lines.append(f"visual tokens removed: {self.removed:.1%}")
        if "decoding" in settings:
            plain = settings["decoding"].get("greedy") == "plain"
            lines.append(
                f"decoded greedily{'' if plain else ', by what else the checkpoint asks for'}"
            )
        if self.beside:
            lines.append(f"the paper has {self.beside}")
        return "\n".join(lines)


def load(folder: str | Path) -> Result:
    """The `Result` of a run's folder, finished or not, without its model or its pictures."""
    settings = running.read_settings(folder)
    try:
        known(settings["benchmark"])
    except ValueError as error:
        raise ValueError(
            f"'{Path(folder) / running.SETTINGS}' cannot be scored. {error}"
        ) from error
    return Result(settings, running.rows(folder))


def compare(folders: Iterable[str | Path]) -> pd.DataFrame:
    """One table of several runs: model, benchmark, what was changed, our accuracy with its
    interval, the paper's, in percent."""
    lines = []
    for folder in folders:
        result = load(folder)
        s, score = result.settings, result.scores["accuracy"]
        lines.append({
            "model": s["model"], "benchmark": s["benchmark"],
            "scaled": identity.plainly(s["scale"] or ""),
            "compressed": _compressed(s["compress"]).replace("none", ""),
            "conditions": conditions.plainly(s),
            "protocol": s["protocol"],
            "questions": score.n if result.complete else f"{len(result.rows)} of {s['questions']}",
            "accuracy": round(100 * score.value, 2),
            "95% interval": _interval(score), "unparsed": round(100 * result.unparsed, 1),
            "removed": round(100 * result.removed, 2), "paper": result.beside,
            "run": Path(folder).name,
        })  # fmt: skip
    return pd.DataFrame(lines)


def by_method(folders: Iterable[str | Path]) -> pd.DataFrame:
    """Methods of compression × benchmarks, of runs of one model: in percent the accuracy with all
    tokens, and for each method what it gains or loses by that, with its paired 95% interval.

    A method has a row for each way in which it was asked (how many tokens it keeps, lengths and so
    on), with the share of visual tokens that it removed, mean over benchmarks. Runs that are not
    finished, or that were changed otherwise too, are left out.

    Raises:
        ValueError: where a benchmark has no run with all tokens, or the runs are of several models.
    """
    results = [load(folder) for folder in folders]
    usual = [
        result
        for result in results
        if result.complete
        and not result.settings["scale"]
        and not result.settings["blind"]
        and not conditions.plainly(result.settings)
    ]
    models = {result.settings["model"] for result in usual}
    if len(models) != 1:
        raise ValueError(
            "A table of methods is of finished runs of one model; these are of "
            f"{', '.join(sorted(models)) or 'none'}."
        )
    whole = {r.settings["benchmark"]: r for r in usual if not r.settings["compress"]}
    rows: dict[str, dict[str, Any]] = {
        "all tokens": {name: f"{100 * result.accuracy:.1f}" for name, result in whole.items()}
    }
    removed: dict[str, list[float]] = {"all tokens": [0.0]}
    for result in usual:
        name = result.settings["benchmark"]
        if not result.settings["compress"]:
            continue
        if name not in whole:
            raise ValueError(
                f"No run here asks {name} with all tokens: run it without compression first."
            )
        what, change = _compressed(result.settings["compress"]), gain(whole[name], result)
        rows.setdefault(what, {})[name] = f"{100 * change.value:+.1f} ({_interval(change)})"
        removed.setdefault(what, []).append(result.removed)
    table = pd.DataFrame.from_dict(rows, orient="index", columns=list(whole)).fillna("–")
    table.insert(0, "removed", [f"{np.mean(removed[what]):.1%}" for what in table.index])
    return table


def _interval(score):
    return "–" if score.low != score.low else f"{100 * score.low:.1f} to {100 * score.high:.1f}"


def _compressed(settings):
    """What a run's settings say of its compression, in words, less what `compress.compressed` does
    unless told otherwise."""
    named = {**settings, "method": identity.method(settings)} if settings else {}
    for name, usual in running.WAYS.items():
        if name in named and named[name] == usual:
            del named[name]
    return identity.plainly(named)


def gain(before: Result, after: Result, beside: tuple[Result, Result] | None = None) -> Score:
    """What a change is worth: `Score` of the accuracy of `after` less that of `before`, paired,
    with its interval over groups.

    Args:
        beside: a control's two results, before and after; what the same change is worth there is
            taken away, group by group.

    Raises:
        ValueError: where the results are not of the same questions.
    """
    results = [before, after, *(beside or ())]
    asked = [(list(each.rows["id"]), each.settings["benchmark"]) for each in results]
    if any(each != asked[0] for each in asked):
        raise ValueError(
            "A gain is between two results of the same questions; these differ in what was asked."
        )
    record = known(before.settings["benchmark"])
    right = [headline(each.rows, bool(record.parts), record.counted) for each in results]

    def gained(n, old, new, *control):
        own = macro(new, n) - macro(old, n)
        return own - (macro(control[1], n) - macro(control[0], n)) if control else own

    value, low, high = stats.interval(gained, right[0][1], *(hits for hits, _ in right))
    return Score(float(value), float(low), float(high), len(after.rows))
