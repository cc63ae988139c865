"""Controlled sets: what they show, which of them a model can see, and means over them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

from .. import geometry
from ..scenes import OPPOSITE
from ..stats import interval, share

if TYPE_CHECKING:
    from ..models import VLM


class ControlledSet(Protocol):
    """The same two things in several relations, such as `world.ControlledSet`."""

    @property
    def scenes(self) -> dict[str, Any]: ...


def names(sets: Sequence[ControlledSet]) -> tuple[str, ...]:
    """The relations that all sets show, in the order of the first.

    Raises:
        TypeError, ValueError: for no sets, what is none, sets of several kinds, and a relation
            without its opposite.
    """
    if not len(sets):
        raise ValueError("There are no controlled sets.")
    for each in sets:
        if not isinstance(getattr(each, "scenes", None), dict):
            raise TypeError(
                "A controlled set has `scenes`, {relation: scene}; this "
                f"{type(each).__name__} has not."
            )
    first = tuple(sets[0].scenes)
    for n, each in enumerate(sets):
        if set(each.scenes) != set(first):
            raise ValueError(
                f"All sets show the same relations: set 0 has {', '.join(first) or 'none'}, set "
                f"{n} {', '.join(each.scenes) or 'none'}. Take sets of one kind at a time."
            )
    if not first:
        raise ValueError("These sets show no relations: their `scenes` are empty.")
    lone = [relation for relation in first if OPPOSITE.get(relation) not in first]
    if lone:
        raise ValueError(
            f"A set shows relations and their opposites, of {', '.join(OPPOSITE)}; here there is "
            f"no opposite of {', '.join(map(repr, lone))}."
        )
    return first


def usable(
    vlm: VLM, sets: Iterable[ControlledSet], ground: str | None = None
) -> tuple[dict[int, ControlledSet], dict[int, str]]:
    """The sets in which both things have patches of their own in all relations, and why the others
    are left out, both by the number of the set.

    Args:
        ground: a place, such as "LM 0", at which each scene must also have as many patches of no
            thing as the satellite has.

    Raises:
        ValueError: where none is left.
    """
    sets = list(sets)
    relations, kept, left_out = names(sets), {}, {}
    for n, each in enumerate(sets):
        scenes = [each.scenes[relation] for relation in relations]
        coarse = [scene.id for scene in scenes if not geometry.has_patches(vlm, scene)]
        if coarse:
            left_out[n] = f"a thing has no patch of its own in scene {', '.join(coarse)}"
            continue
        if ground:
            own = geometry.patches(vlm, scenes, 0, ground)
            free = geometry.bare(vlm, scenes, ground)
            full = [s.id for s, a, b in zip(scenes, own, free) if b.sum() < max(1, a.sum())]
            if full:
                left_out[n] = f"too few patches show no thing in scene {', '.join(full)}"
                continue
        kept[n] = each
    if not kept:
        raise ValueError(
            f"None of these {len(sets)} sets can be used with {vlm.name}: {left_out[0]}."
        )
    return kept, left_out


def over_sets(
    table: pd.DataFrame, by: str | list[str], value: str, per: str | None = None
) -> pd.DataFrame:
    """The mean of a column over sets, with its 95% interval, for each condition.

    A set counts once, with the mean of its rows.

    Args:
        table: with a column "set".
        by: columns that make a condition.
        value: the column.
        per: another column: the ratio of the two means is given instead.

    Returns:
        value, low, high and sets, by condition. Of one set there is no interval.
    """
    conditions = [by] if isinstance(by, str) else list(by)
    columns = [value] if per is None else [value, per]
    lacking = [name for name in ["set", *conditions, *columns] if name not in table.columns]
    if lacking:
        raise ValueError(
            f"This table has no column {', '.join(map(repr, lacking))}; it has "
            f"{', '.join(map(str, table.columns))}."
        )
    rows_of_sets: Any = table.groupby([*conditions, "set"], sort=False)
    by_set = rows_of_sets[columns].mean().reset_index()
    keys, rows = [], []
    for key, part in by_set.groupby(conditions, sort=False):
        of_sets = part[columns].to_numpy(float).T
        if per is None:
            estimate = share(of_sets[0])
        else:
            estimate = interval(lambda a, b: a.mean() / b.mean(), *of_sets)
            if len(part) == 1:
                estimate = (estimate[0], np.nan, np.nan)
        keys.append(key)
        rows.append([*estimate, len(part)])
    index: Any = pd.MultiIndex.from_tuples(keys, names=conditions)
    if len(conditions) == 1:
        index = index.get_level_values(0)
    result = pd.DataFrame(rows, index, pd.Index(["value", "low", "high", "sets"]))
    return result.astype({"sets": int})


def table(rows: pd.DataFrame | list[pd.DataFrame], left_out: dict[int, str]) -> pd.DataFrame:
    """One table of the rows, that knows which sets were left out."""
    whole = pd.concat(rows, ignore_index=True) if isinstance(rows, list) else rows
    whole.attrs["left_out"] = left_out
    return whole
