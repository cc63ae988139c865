"""From rows to a benchmark's official scores, with intervals.

A score is a function of a `Result`'s rows, {name: Score}; the one named "accuracy" is the
benchmark's headline. The rows' columns are those of `Item.row`, and `parsed` and `right`, what was
read in the answer and how right that is in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.stats import binomtest

from .. import stats
from . import scoring

if TYPE_CHECKING:
    import pandas as pd


class Score(NamedTuple):
    """A share in [0, 1], or a mean of such; its 95% interval by bootstrap over groups (scenes); of
    n questions."""

    value: float
    low: float
    high: float
    n: int


OPPOSITE = {
    "left": "right", "right": "left", "on": "under", "under": "on",
    "behind": "front", "front": "behind",
}  # fmt: skip


def _share(rows, right="right"):
    """The mean of a column, with its interval over groups."""
    groups = rows.groupby("group", sort=True)[right]
    value, low, high = stats.share(groups.sum().to_numpy(), groups.count().to_numpy())
    # a bootstrap of equals has no width; so many groups without exception leave room for some
    if value in (0, 1):
        low, high = binomtest(round(value * len(groups)), len(groups)).proportion_ci(
            method="wilson"
        )
    return Score(value, float(low), float(high), len(rows))


def headline(
    rows: pd.DataFrame,
    parts: bool = True,
    counted: Callable[[pd.DataFrame], pd.DataFrame] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """((groups, parts) sums, (groups, parts) counts) of right: the headline score is the mean of
    its parts' shares.

    Args:
        parts: is it one of parts, or of all rows alike?
        counted: as `Benchmark.counted`.
    """
    rows = rows if counted is None else counted(rows)
    part = _about(rows, "part") if parts else ""
    table = rows.assign(part=part)
    sums, counts = (
        table.pivot_table(index="group", columns="part", values="right", aggfunc=how).fillna(0)
        for how in ("sum", "count")
    )
    return sums.to_numpy(float), counts.to_numpy(float)


def macro(sums: np.ndarray, counts: np.ndarray) -> float:
    """The mean of the parts' shares, of what `headline` gives."""
    drawn = counts.sum(0) > 0  # a draw of few groups may leave a part out
    return float(np.mean(sums.sum(0)[drawn] / counts.sum(0)[drawn]))


def _mean(rows):
    """The mean of the parts' shares (a macro-average), with its interval over groups."""
    value, low, high = stats.interval(macro, *headline(rows))
    if rows["group"].nunique() == 1:
        low = high = np.nan  # one scene says nothing of others
    return Score(value, float(low), float(high), len(rows))


def accuracy(rows: pd.DataFrame) -> dict[str, Score]:
    """The mean over questions."""
    return {"accuracy": _share(rows)}


def _about(rows, name, among=None):
    """What each row says of itself. among: the values that it may have, any words if None."""
    values = [about.get(name) for about in rows["about"]]
    for id, value in zip(rows["id"], values):
        if not isinstance(value, str) or among and value not in among:
            raise ValueError(
                f"The row of question '{id}' says {value!r} where its {name} should be, so it "
                "cannot be scored."
            )
    return values


def controlled(rows: pd.DataFrame) -> dict[str, Score]:
    """What's Up: each caption for itself; both of a pair of opposites; all four of a set."""
    rows = rows.assign(relation=_about(rows, "relation", OPPOSITE))
    rows["axis"] = [min(r, OPPOSITE[r]) for r in rows["relation"]]
    scores = {"accuracy": _share(rows)}
    for name, by, size in (("pairs", ["group", "axis"], 2), ("sets of four", ["group"], 4)):
        sets = rows.groupby(by).agg(right=("right", "min"), n=("relation", "nunique"))
        whole = sets[sets["n"] == size].reset_index()
        if len(whole):
            scores[name] = _share(whole)
    if any(about.get("swapped") for about in rows["about"]):
        mended = [_mended(row) for _, row in rows.iterrows()]
        scores["accuracy, two labels mended"] = _share(rows.assign(right=mended))
    return scores


def _mended(row):
    """Right or wrong, had the two pictures not each other's label."""
    if not row["about"].get("swapped"):
        return row["right"]
    chosen = row["options"].get(row["parsed"], "")
    return float(f" {OPPOSITE[row['relation']]} of " in chosen)


def by_part(rows: pd.DataFrame) -> dict[str, Score]:
    """By part, and their plain mean."""
    rows = rows.assign(part=_about(rows, "part"))
    parts = {str(part): _share(of_part) for part, of_part in rows.groupby("part", sort=False)}
    return {"accuracy": _mean(rows), **parts}


def yes_or_no(rows: pd.DataFrame) -> dict[str, Score]:
    """The mean over questions, and how often the answer is yes."""
    yes = rows.assign(yes=(rows["parsed"] == "yes").astype(float))
    return {"accuracy": _share(rows), "says yes": _share(yes, "yes")}


def pope(rows: pd.DataFrame) -> dict[str, Score]:
    """Accuracy, precision, recall and F1 ("yes" is positive) and the share of yes, in each part and
    on average over them.

    As in lmms-eval, what is neither yes nor no is wrong, and left out of the recall. The accuracy
    by POPE's own evaluation, which takes whatever is not a no for a yes, stands beside.
    """
    rows = rows.assign(part=_about(rows, "part"))
    yes, due = rows["parsed"] == "yes", (rows["gold"] == "yes") & rows["parsed"].notna()
    rows = rows.assign(yes=yes.astype(float), due=due.astype(float))
    by_pope = [
        float(scoring.yes_or_no(answer) == gold)
        for answer, gold in zip(rows["answer"], rows["gold"])
    ]
    scores = {
        "accuracy": _mean(rows),
        "accuracy, read as POPE does": _mean(rows.assign(right=by_pope)),
    }
    for part, of_part in rows.groupby("part", sort=False):
        of_part = of_part.assign(hit=of_part["yes"] * of_part["due"])
        sums = (of_part.groupby("group")[name].sum() for name in ("hit", "yes", "due"))
        wide = np.column_stack([np.asarray(of_groups) for of_groups in sums])
        scores[f"{part}: accuracy"] = _share(of_part)
        intervals = stats.interval(lambda sums: np.array(_precision_recall_f1(*sums.sum(0))), wide)
        for name, value, low, high in zip(("precision", "recall", "F1"), *intervals):
            scores[f"{part}: {name}"] = Score(float(value), float(low), float(high), len(of_part))
        scores[f"{part}: says yes"] = _share(of_part, "yes")
    return scores


def _precision_recall_f1(hit, yes, due):
    return hit / max(yes, 1), hit / max(due, 1), 2 * hit / max(yes + due, 1)


def mmbench(rows: pd.DataFrame) -> dict[str, Score]:
    """A question counts where it is answered right in every rotation of its options (circular),
    else row by row."""
    return {"accuracy": _share(circular(rows)), "each rotation for itself": _share(rows)}


def circular(rows: pd.DataFrame) -> pd.DataFrame:
    """One row for each question of MMBench, right where every rotation is."""
    return rows.groupby("group").agg(right=("right", "min"), about=("about", "first")).reset_index()
