"""From rows to scores: each benchmark's official ones, with intervals, beside the paper's."""

from collections import namedtuple
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from .. import stats
from . import identity, paper, running, scoring
from .formats import OPPOSITE
from .items import read

Score = namedtuple("Score", "value low high n")
Score.__doc__ = """A share in [0, 1], or a mean of such; its 95% interval by bootstrap over groups (scenes); of n questions."""

# what an earlier version did not write down
UNSAID = {"model": "a model", "scale": None, "compress": None, "blind": False, "protocol": "ours", "limit": None}


class Result:
    """A run's answers and scores.

    settings: what was asked of whom. rows: a DataFrame with a row for each question, its answer as it came, what was read
    in it (`parsed`, None where nothing that counts), and how `right` that is. scores: {name: Score}. complete: is every
    question answered? By the paper's protocol answers are read as there, and a score says what a model would get that always
    says "A".
    """

    def __init__(self, settings, rows):
        if not rows:
            raise ValueError("No question has been answered yet, so there is nothing to score.")
        self.settings = settings = UNSAID | {"questions": len(rows)} | settings
        self.rows = pd.DataFrame(rows)
        theirs = settings["protocol"] == "paper"
        reading = paper.reader(settings.get("family")) if theirs else read
        self.rows[["parsed", "right"]] = [reading(row) for row in rows]
        self.rows["right"] = self.rows["right"].astype(float)
        self.complete = len(rows) >= settings["questions"]
        score = _SCORES.get(settings["benchmark"], _plain)
        self.scores = score(self.rows)
        if theirs and any(self.rows["options"]):
            always = self.rows.assign(parsed="A", right=(self.rows["gold"] == "A").astype(float))
            self.scores["who always says A"] = score(always)["accuracy"]

    @property
    def accuracy(self):
        """The benchmark's headline score, in [0, 1]."""
        return self.scores["accuracy"].value

    @property
    def unparsed(self):
        """The share of answers in which the benchmark's rules found nothing that counts."""
        return float(self.rows["parsed"].isna().mean())

    @property
    def removed(self):
        """The share of visual tokens that compression removed; 0 without it."""
        return 1 - self.rows["kept"].sum() / self.rows["given"].sum() if "kept" in self.rows else 0.0

    @property
    def paper(self):
        """The paper's accuracy, in percent, where it is of the very same thing; None where it has none, or something differs."""
        value, otherwise = paper.figure(self.settings)
        return None if otherwise else value

    @property
    def beside(self):
        """The paper's figure in words, with all that is otherwise there; "" where it has none."""
        return paper.beside(self.settings)

    def table(self):
        """A DataFrame with a row for each score, in percent."""
        lines = {
            name: {"%": 100 * s.value, "95% interval": _interval(s), "questions": s.n}
            for name, s in self.scores.items()
        }
        table = pd.DataFrame.from_dict(lines, orient="index")
        table["%"] = table["%"].round(2)
        return table

    def __repr__(self):
        """What `whatwhere bench` prints."""
        s, said = self.settings, []
        changes = {"scaled: ": identity.plainly(s["scale"]), "compressed: ": _compressed(s["compress"])}
        changes = {what: words for what, words in changes.items() if words != "none"}
        changes |= {"": "blind" * s["blind"], "protocol: ": s["protocol"] * (s["protocol"] != "ours")}
        changes |= {"changed by: ": ", ".join(s.get("hooks", ()))}
        how = [f", {what}{words}" for what, words in changes.items() if words]
        said.append(f"{s['model']} on {s['benchmark']}{''.join(how)}")
        if not self.complete:
            said.append(f"unfinished: {len(self.rows)} of {s['questions']} questions are answered")
        said += [self.table().to_string(), f"unparsed answers: {self.unparsed:.1%} (counted as their benchmark does)"]
        if s["compress"]:
            said.append(f"visual tokens removed: {self.removed:.1%}")
        if "decoding" in s:
            plain = s["decoding"].get("greedy") == "plain"
            said.append(f"decoded greedily{'' if plain else ', by what else the checkpoint asks for'}")
        if self.beside:
            said.append(f"the paper has {self.beside}")
        return "\n".join(said)


def load(folder):
    """The `Result` of a run's folder, finished or not, without its model or its pictures."""
    settings = running.read_settings(folder)
    return Result(settings, running.rows(folder))


def compare(folders):
    """One table of several runs: model, benchmark, what was changed, our accuracy with its interval, the paper's, in percent."""
    lines = []
    for folder in folders:
        result = load(folder)
        s, score = result.settings, result.scores["accuracy"]
        lines.append({
            "model": s["model"], "benchmark": s["benchmark"],
            "scaled": identity.plainly(s["scale"] or ""), "compressed": _compressed(s["compress"]).replace("none", ""),
            "protocol": s["protocol"],
            "questions": score.n if result.complete else f"{len(result.rows)} of {s['questions']}",
            "accuracy": round(100 * score.value, 2),
            "95% interval": _interval(score), "unparsed": round(100 * result.unparsed, 1),
            "removed": round(100 * result.removed, 2), "paper": result.beside,
            "run": Path(folder).name,
        })  # fmt: skip
    return pd.DataFrame(lines)


def _interval(score):
    return "–" if score.low != score.low else f"{100 * score.low:.1f} to {100 * score.high:.1f}"


def _compressed(settings):
    """What a run's settings say of its compression, in words, less what `compress.compressed` does unless told otherwise."""
    named = (settings or {}).items()
    return identity.plainly({name: value for name, value in named if name not in running.WAYS or value != running.WAYS[name]})


def gain(before, after):
    """What a change is worth: `Score` of the accuracy of `after` less that of `before`, paired, with its interval over groups.

    Raises ValueError where the two results are not of the same questions.
    """
    if list(before.rows["id"]) != list(after.rows["id"]) or before.settings["benchmark"] != after.settings["benchmark"]:
        raise ValueError("A gain is between two results of the same questions; these differ in what was asked.")
    (was, n), (now, _) = (_headline(each.rows, each.settings["benchmark"]) for each in (before, after))
    value, low, high = stats.interval(lambda b, a, c: _macro(a, c) - _macro(b, c), was, now, n)
    return Score(float(value), float(low), float(high), len(after.rows))


# -- scores ----------------------------------------------------------------------------------------------------------


def _share(rows, right="right"):
    """The mean of a column, with its interval over groups."""
    groups = rows.groupby("group", sort=True)[right]
    value, low, high = stats.share(groups.sum().to_numpy(), groups.count().to_numpy())
    if value in (0, 1):  # a bootstrap of equals has no width; so many groups without exception leave room for some
        low, high = binomtest(round(value * len(groups)), len(groups)).proportion_ci(method="wilson")
    return Score(value, float(low), float(high), len(rows))


def _headline(rows, benchmark):
    """((groups, parts) sums, (groups, parts) counts): the headline score is the mean of its parts' shares."""
    if _SCORES.get(benchmark) is _mmbench:
        rows = _circular(rows)
    part = _about(rows, "part") if _SCORES.get(benchmark) in (_parts, _pope) else ""
    wide = rows.assign(part=part).pivot_table(index="group", columns="part", values="right", aggfunc=["sum", "count"]).fillna(0)
    return wide["sum"].to_numpy(float), wide["count"].to_numpy(float)


def _macro(sums, counts):
    asked = counts.sum(0) > 0  # a draw of few groups may leave a part out
    return float(np.mean(sums.sum(0)[asked] / counts.sum(0)[asked]))


def _mean(rows, benchmark):
    """The mean of the parts' shares (a macro-average), with its interval over groups."""
    value, low, high = stats.interval(_macro, *_headline(rows, benchmark))
    if rows["group"].nunique() == 1:
        low = high = np.nan  # one scene says nothing of others
    return Score(value, float(low), float(high), len(rows))


def _plain(rows):
    return {"accuracy": _share(rows)}


def _about(rows, name, among=None):
    """What each row says of itself. among: the values that it may have, any words if None."""
    found = [about.get(name) for about in rows["about"]]
    for id, value in zip(rows["id"], found):
        if not isinstance(value, str) or among and value not in among:
            raise ValueError(f"The row of question '{id}' says {value!r} where its {name} should be, so it cannot be scored.")
    return found


def _controlled(rows):
    """What's Up: each caption for itself; both of a pair of opposites; all four of a set."""
    rows = rows.assign(relation=_about(rows, "relation", OPPOSITE))
    rows["axis"] = [min(r, OPPOSITE[r]) for r in rows["relation"]]
    scores = {"accuracy": _share(rows)}
    pairs = rows.groupby(["group", "axis"]).agg(right=("right", "min"), n=("relation", "nunique")).reset_index()
    sets = rows.groupby("group").agg(right=("right", "min"), n=("relation", "nunique")).reset_index()
    for name, some, size in (("pairs", pairs, 2), ("sets of four", sets, 4)):
        whole = some[some["n"] == size]
        if len(whole):
            scores[name] = _share(whole)
    if any(about.get("swapped") for about in rows["about"]):
        scores["accuracy, two labels mended"] = _share(rows.assign(right=[_mended(row) for _, row in rows.iterrows()]))
    return scores


def _mended(row):
    """Right or wrong, had the two pictures not each other's label."""
    if not row["about"].get("swapped"):
        return row["right"]
    chosen = row["options"].get(row["parsed"], "")
    return float(f" {OPPOSITE[row['relation']]} of " in chosen)


def _parts(rows):
    """By part, and their plain mean."""
    rows = rows.assign(part=_about(rows, "part"))
    return {"accuracy": _mean(rows, "gqa-spatial"), **{part: _share(some) for part, some in rows.groupby("part", sort=False)}}


def _pope(rows):
    """Accuracy, precision, recall and F1 ("yes" is positive) and the share of yes, in each part and on average over them.

    As in lmms-eval, what is neither yes nor no is wrong, and left out of the recall. The accuracy by POPE's own evaluation,
    which takes whatever is not a no for a yes, stands beside.
    """
    rows = rows.assign(part=_about(rows, "part"))
    yes, due = rows["parsed"] == "yes", (rows["gold"] == "yes") & rows["parsed"].notna()
    rows = rows.assign(yes=yes.astype(float), due=due.astype(float))
    own = [float(scoring.yes_or_no(answer) == gold) for answer, gold in zip(rows["answer"], rows["gold"])]
    scores = {"accuracy": _mean(rows, "pope"), "accuracy, read as POPE does": _mean(rows.assign(right=own), "pope")}
    for part, some in rows.groupby("part", sort=False):
        wide = some.assign(hit=some["yes"] * some["due"]).groupby("group")[["hit", "yes", "due"]].sum().to_numpy()
        scores[f"{part}: accuracy"] = _share(some)
        found = stats.interval(lambda sums: np.array(_precision_recall_f1(*sums.sum(0))), wide)
        for name, *values in zip(("precision", "recall", "F1"), *found):
            scores[f"{part}: {name}"] = Score(*map(float, values), len(some))
        scores[f"{part}: says yes"] = _share(some, "yes")
    return scores


def _precision_recall_f1(hit, yes, due):
    return hit / max(yes, 1), hit / max(due, 1), 2 * hit / max(yes + due, 1)


def _mmbench(rows):
    """A question counts where it is answered right in every rotation of its options (circular), else row by row."""
    return {"accuracy": _share(_circular(rows)), "each rotation for itself": _share(rows)}


def _circular(rows):
    return rows.groupby("group").agg(right=("right", "min"), about=("about", "first")).reset_index()


_SCORES = {
    "whatsup-a": _controlled, "whatsup-b": _controlled, "tabletop-a": _controlled, "tabletop-b": _controlled,
    "tabletop-b-narrow": _controlled,
    "coco-spatial": _parts, "gqa-spatial": _parts, "pope": _pope, "tabletop-pope": _pope, "mmbench": _mmbench,
}  # fmt: skip
