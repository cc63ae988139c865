"""From rows to scores: each benchmark's official ones, with intervals, beside the paper's."""

from collections import namedtuple
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from .. import stats
from . import running, scoring
from .formats import OPPOSITE
from .items import read

Score = namedtuple("Score", "value low high n")
Score.__doc__ = """A share in [0, 1], or a mean of such; its 95% interval by bootstrap over groups (scenes); of n questions."""

# Table 1 of the paper: accuracy, and the share of visual tokens removed, in percent
TABLE_1 = {
    ("llava-1.5-7b", None): dict(gqa=60.50, textvqa=45.01, mmbench=53.73, pope=85.96),
    ("llava-1.5-7b", 1): dict(gqa=61.32, textvqa=43.16, mmbench=51.40, pope=86.00, removed=27.83),
    ("llava-1.5-7b", 2): dict(gqa=60.14, textvqa=35.04, mmbench=47.33, pope=85.66, removed=58.35),
    ("llava-1.5-7b", 3): dict(gqa=61.06, textvqa=38.53, mmbench=50.45, pope=85.90, removed=48.55),
    ("qwen2.5-vl-7b", None): dict(gqa=61.20, textvqa=78.21, mmbench=84.68, pope=89.23),
    ("qwen2.5-vl-7b", 1): dict(gqa=60.80, textvqa=76.33, mmbench=84.27, pope=87.46, removed=16.19),
    ("qwen2.5-vl-7b", 3): dict(gqa=60.03, textvqa=74.78, mmbench=83.58, pope=86.83, removed=32.09),
}
# Table 2, training-free; the paper's code has these powers, and the text does not say which gave which figure
POWERS = (6, 8, 10)
TABLE_2 = {
    ("qwen2-vl-2b", False): {"whatsup-a": 74.61, "whatsup-b": 53.16, "coco-spatial": 49.84, "gqa-spatial": 76.61},
    ("qwen2-vl-2b", True): {"whatsup-a": 77.27, "whatsup-b": 58.25, "coco-spatial": 50.24, "gqa-spatial": 78.22},
    ("qwen2-vl-7b", False): {"whatsup-a": 98.06, "whatsup-b": 87.84, "coco-spatial": 88.79, "gqa-spatial": 92.84},
    ("qwen2-vl-7b", True): {"whatsup-a": 98.86, "whatsup-b": 88.97, "coco-spatial": 89.27, "gqa-spatial": 94.31},
}


UNSAID = {"model": "a model", "scale": None, "compress": None, "blind": False}


class Result:
    """A run's answers and scores.

    settings: what was asked of whom. rows: a DataFrame with a row for each question, its answer as it came, what was read
    in it (`parsed`, None where nothing that counts), and how `right` that is. scores: {name: Score}. complete: is every
    question answered?
    """

    def __init__(self, settings, rows):
        if not rows:
            raise ValueError("No question has been answered yet, so there is nothing to score.")
        self.settings = settings = UNSAID | {"questions": len(rows)} | settings
        self.rows = pd.DataFrame(rows)
        self.rows[["parsed", "right"]] = [read(row) for row in rows]
        self.rows["right"] = self.rows["right"].astype(float)
        self.complete = len(rows) >= settings["questions"]
        self.scores = _SCORES.get(settings["benchmark"], _plain)(self.rows)

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
        """The paper's accuracy for this model, method and benchmark, in percent; None where it has none."""
        return _paper(self.settings)

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
        changes = {"scaled: ": _in_words(s["scale"]), "compressed: ": _in_words(s["compress"]), "": "blind" * s["blind"]}
        how = [f", {what}{words}" for what, words in changes.items() if words]
        said.append(f"{s['model']} on {s['benchmark']}{''.join(how)}")
        if not self.complete:
            said.append(f"unfinished: {len(self.rows)} of {s['questions']} questions are answered")
        said += [self.table().to_string(), f"unparsed answers: {self.unparsed:.1%} (counted as their benchmark does)"]
        if s["compress"]:
            said.append(f"visual tokens removed: {self.removed:.1%}")
        if self.paper is not None:
            said.append(f"the paper has {self.paper:.2f}%")
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
            "scaled": _in_words(s["scale"]), "compressed": _in_words(s["compress"]),
            "questions": score.n if result.complete else f"{len(result.rows)} of {s['questions']}",
            "accuracy": round(100 * score.value, 2),
            "95% interval": _interval(score), "unparsed": round(100 * result.unparsed, 1),
            "removed": round(100 * result.removed, 2), "paper": "" if result.paper is None else result.paper,
            "run": Path(folder).name,
        })  # fmt: skip
    return pd.DataFrame(lines)


def _interval(score):
    return "–" if score.low != score.low else f"{100 * score.low:.1f} to {100 * score.high:.1f}"


def _in_words(change):
    """{"alpha": 99.0, "p": 8.0} as "alpha 99, p 8"; nothing as ""."""
    numbers = ((name, f"{value:g}" if isinstance(value, float) else value) for name, value in (change or {}).items())
    return ", ".join(f"{name} {value}" for name, value in numbers if value is not None)


def gain(before, after):
    """What a change is worth: `Score` of the accuracy of `after` less that of `before`, paired, with its interval over groups.

    Raises ValueError where the two results are not of the same questions.
    """
    if list(before.rows["id"]) != list(after.rows["id"]) or before.settings["benchmark"] != after.settings["benchmark"]:
        raise ValueError("A gain is between two results of the same questions; these differ in what was asked.")
    (was, n), (now, _) = (_headline(each.rows, each.settings["benchmark"]) for each in (before, after))
    value, low, high = stats.interval(lambda b, a, c: _macro(a, c) - _macro(b, c), was, now, n)
    return Score(float(value), float(low), float(high), len(after.rows))


def _paper(settings):
    if settings["blind"]:
        return None
    name = settings["model"].lower()
    size = next((known for known in {k for k, _ in (*TABLE_1, *TABLE_2)} if known in name), None)
    compressed, scaled, which = settings["compress"], settings["scale"], settings["benchmark"]
    if scaled and not (scaled["alpha"] == 99 and scaled["p"] in POWERS):
        return None
    method = compressed["method"] if compressed else None
    if which in ("gqa", "textvqa", "mmbench", "pope") and not scaled:
        return TABLE_1.get((size, method), {}).get(which)
    return TABLE_2.get((size, bool(scaled)), {}).get(which) if not compressed else None


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
