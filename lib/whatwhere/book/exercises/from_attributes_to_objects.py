"""Checks of the chapter in which attributes come before objects."""

from typing import Any

import numpy as np

from ... import stages, world
from . import array, exercise, expect, number


@exercise("shares are of all patches, and add up to one")
def shares(shares: Any, read: Any, table: Any) -> Any:
    def of(words):
        found = shares(np.array(words, dtype=object))
        expect(isinstance(found, dict), "shares(words) should return a dictionary")
        expect(
            set(found) == {*stages.KINDS, "other"},
            f"the keys should be those of stages.KINDS and 'other'; they are {sorted(found)}",
        )
        return {kind: number(share, f"the share of {kind!r}") for kind, share in found.items()}

    small = of([["red", "mug", "."], ["striped", "wood", "z"]])
    most = max(small.values())
    expect(most <= 1, "these are shares, between 0 and 1, and not numbers of patches")
    expect(abs(sum(small.values()) - 1) < 1e-9, "the shares should add up to one")
    for kind, patches in {"attribute": 2, "object": 1, "other": 1}.items():
        right = abs(small[kind] - patches / 6) < 1e-9
        expect(right, f"of the words red, mug, '.', striped, wood and z, {kind!r} is not right")
    words, row = read.words[0, 3], table.iloc[3]
    for kind, share in of(words).items():
        same = abs(share - row[kind] / row["patches"]) < 1e-9
        expect(same, f"for a map of the chapter, {kind!r} differs from the chapter's own count")


@exercise("votes are of the thing's own patches, for categories only")
def elected(elected: Any, scene: Any) -> Any:
    grid = (12, 12)
    owner = stages.owners(scene, grid)

    def of(words, what):
        found: Any = elected(words, scene)
        expect(found is not None, "elected(words, scene) is None: is there a return at the end?")
        n = len(scene.things)
        expect(len(found) == n, f"{what}: {n} things should give {n} entries, not {len(found)}")
        return list(found)

    red = of(np.full(grid, "red", object), "a map that says red")
    expect(red == [None] * len(red), "a colour is no category")
    words = np.full(grid, "star", object)
    for i, thing in enumerate(scene.things):
        words[owner == i] = thing.category
    right = [thing.category if (owner == i).any() else None for i, thing in enumerate(scene.things)]
    expect(of(words, "a perfect map") == right, "on a perfect map some thing is not what it says")
    largest = max(range(len(right)), key=lambda i: (owner == i).sum())
    other = next(word for word in world.CATEGORIES if word != right[largest])
    where = np.argwhere(owner == largest)
    words[tuple(where[0])] = other
    one = of(words, "a map with one wrong patch") == right
    expect(one, "one wrong patch should not overturn the others")
    words[owner == largest] = "red"
    words[tuple(where[0])] = other
    lone = of(words, "a map with one vote")[largest] == other
    expect(lone, "where one patch says a category and the others a colour, its vote decides")


@exercise("the same labels, on other object patches")
def mixed_up(mixed_up: Any, vlm: Any, scenes: Any) -> Any:
    _, kinds = stages.labelled(vlm, scenes)
    truth = kinds["category"]
    kept = truth.copy()

    def of(seed):
        found = mixed_up(truth, seed)
        expect(found is not None, "mixed_up(labels, seed) is None: is there a return at the end?")
        return np.asarray(found)

    found = of(1)
    expect((truth == kept).all(), "leave the labels as they were: copy them first")
    # only the shape is of interest
    array(np.zeros(found.shape), truth.shape, "mixed_up(labels, seed)")
    expect(((found == "") == (truth == "")).all(), "patches without a label should keep none")
    same = sorted(found.ravel()) == sorted(truth.ravel())
    expect(same, "every label should be used as often as before")
    moved = (found != truth).mean() > 0.5 * (truth != "").mean()
    expect(moved, "most object patches should have another label than before")
    across = any(sorted(one) != sorted(other) for one, other in zip(found, truth))
    expect(across, "labels should also go to object patches of other scenes")
    expect((of(1) == found).all(), "the same seed should give the same labels")
    expect((of(2) != found).any(), "another seed should give other labels")
