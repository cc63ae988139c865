"""Checks of the chapter on the learnt table of positions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import world
from . import array, exercise, expect, number

if TYPE_CHECKING:
    from ...models import VLM

Answer = Callable[..., Any]


@exercise("one vector for each group, whatever the groups are")
def explained_by(explained_by: Answer, table: np.ndarray, places: np.ndarray) -> None:
    labels = np.repeat([3, 8], 4)
    grouped = np.outer(labels, [1.0, -2.0])
    whole = number(explained_by(grouped, labels), "explained_by(vectors, labels)")
    expect(abs(whole - 1) < 1e-9, "a table with one vector for each group is explained in full")
    same = number(explained_by(grouped + 5.0, labels), "explained_by(vectors, labels)")
    expect(abs(same - whole) < 1e-9, "a vector added to all patches should change nothing")
    halves = number(explained_by(grouped, np.tile([0, 1], 4)), "explained_by(vectors, labels)")
    expect(abs(halves) < 1e-9, "groups with the same mean explain nothing")
    centred = table.astype(float) - table.astype(float).mean(axis=0)
    shares = {}
    for lines, labels in {"rows": places[:, 0], "diagonals": places.sum(axis=1)}.items():
        shares[lines] = number(explained_by(table, labels), f"explained_by(table, {lines})")
        members = [centred[labels == label] for label in np.unique(labels)]
        within = sum(((each - each.mean(axis=0)) ** 2).sum() for each in members)
        off = (
            f"for the {lines} of the model's table, the share and what is left do not add up to one"
        )
        if lines == "diagonals":
            off += " (its groups are of different sizes)"
        expect(abs(shares[lines] + within / (centred**2).sum() - 1) < 1e-5, off)
    print("explained of the table:", ", ".join(f"{x} {share:.1%}" for x, share in shares.items()))


@exercise("places are there at the first depth and at the last, and not in noise")
def readable(readable: Answer, vlm: VLM, table: np.ndarray, places: np.ndarray) -> None:
    noise = np.random.default_rng(0).normal(size=table.shape)
    nothing = array(readable(noise, places), (2,), "readable(states, places)")
    expect(nothing.max() < 0.3, "noise tells no places, on patches that the fit has not seen")
    straight = places @ np.array([[1.0, 0.0, 2.0], [0.0, 1.0, -1.0]])
    both = array(readable(straight, places), (2,), "readable(states, places)")
    expect(
        both.min() > 0.99,
        "places that are written in the states as they are can be read (R² is over all patches)",
    )
    only = array(readable(places[:, :1] * 1.0, places), (2,), "readable(states, places)")
    turned = "where the states hold the row alone, the second number should be low"
    expect(only[0] > 0.9, "where the states hold the row alone, the first number should be high")
    expect(only[1] < 0.5, turned)
    codes = np.eye(places[:, 0].max() + 1)[places[:, 0]]
    unseen = array(readable(codes, places), (2,), "readable(states, places)")
    known = "where each row has a code of its own, no fit can know a row that is left out of it"
    expect(unseen[0] < 0.5, known)
    states = vlm.vit_states(world.scene(1).image).float().cpu().numpy()
    for depth in (0, len(states) - 1):
        found = array(readable(states[depth], places), (2,), f"R² at depth {depth}")
        expect(found.min() > 0.3, f"rows and columns should be readable at depth {depth}")
        print(f"depth {depth}: R² of rows and columns", found.round(2))


@exercise("most things that were told to be on the other side are said to be there")
def moved(moved: Answer, table: np.ndarray, side: tuple[int, int], ask: Answer) -> None:
    """
    Args:
        ask: called with a scene and a table (patches, hidden); the first word of the answer.
    """
    rows, columns = side
    given, table = table, table.copy()
    one = np.zeros(side, bool)
    one[2, 3] = True
    found = array(moved(one, 4), table.shape, "moved(which, by)")
    own = "the chapter's table has changed: work on a copy, and run the cell that makes it again"
    expect(np.array_equal(given, table), own)
    patch = 2 * columns + 3
    others = np.arange(len(table)) != patch
    expect(np.allclose(found[others], table[others]), "all other patches should keep their vectors")
    mirrored = np.allclose(found[patch], table[(2 + 4) * columns + 3])
    expect(not mirrored, "the patch has moved down (rows and columns are the other way round)")
    expect(np.allclose(found[patch], table[patch + 4]), "the patch has not moved as it should")
    far = array(moved(one, columns + 5), table.shape, "moved(which, by)")
    inside = np.allclose(far[patch], table[3 * columns - 1])
    back = array(moved(one, -8), table.shape, "moved(which, by)")
    inside &= np.allclose(back[patch], table[2 * columns])
    expect(inside, "a patch that would leave the grid should stop at its edge, in its own row")
    scenes = [each.scenes["left"] for each in world.controlled("B", 20)]
    words = [ask(scene, moved(scene.cover(*side)[0] > 0.2, 8)) for scene in scenes]
    share = np.mean(np.array(words) == "right")
    expect(share > 0.5, "few of the things that were moved are said to be on the other side")
    print(f"{share:.0%} of the things moved from the left are said to be on the right")
