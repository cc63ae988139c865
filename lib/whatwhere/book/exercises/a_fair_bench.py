"""Checks of the chapter in which published methods leave equally many tokens."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ... import compress
from ...compress import judge
from ...scenes import Scene
from . import array, exercise, expect, pair

if TYPE_CHECKING:
    from ...models import VLM


@exercise("every next point is well chosen")
def farthest(farthest: Callable[..., Any]) -> None:
    rng = np.random.default_rng(0)
    for points in (np.array([[0.0], [1], [2], [9], [10]]), rng.integers(9, size=(12, 2))):
        distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
        given = distances.copy()
        for n in (1, 3, len(points)):
            answer = array(farthest(distances, n), (n,), "what you return")
            expect((distances == given).all(), "the distances you are given should not change")
            expect(set(answer) <= set(range(len(points))), "these are no numbers of points")
            found = answer.astype(int).tolist()
            expect(found[0] == 0, "the first one is given in the text")
            expect(len(set(found)) == n, "a point is chosen twice")
            for k in range(1, n):
                nearest = distances[found[:k]].min(axis=0)
                far = nearest[found[k]] == nearest.max()
                closer = f"after {k} of {n}, another point is farther from its nearest chosen one"
                expect(far, closer)
                left = [p for p in np.flatnonzero(nearest == nearest.max()) if p not in found[:k]]
                expect(found[k] == left[0], "of points that are equally far, the first is wanted")


@exercise("the right tokens stay, and as many as were asked for")
def longest(
    longest: Callable[..., Any],
    models: "Mapping[str, VLM]",
    scenes: Sequence[Scene],
    families: Mapping[str, Sequence[str]],
) -> None:
    rng = np.random.default_rng(0)
    tokens = torch.from_numpy(rng.normal(size=(40, 8))).float()
    size = (tokens.numpy() ** 2).sum(axis=1)
    for keep in (1, 5, 10):
        found = longest(compress.Sight(tokens, (5, 8)), keep)
        stays = array(found, (40,), "what you return") >= 0
        expect(stays.sum() == keep, f"of 40 tokens {stays.sum()} stay, where {keep} should")
        expect(
            size[stays].min() > size[~stays].max(), "one that stays is shorter than one that goes"
        )
    for name, vlm in models.items():
        keep = int(np.prod(vlm.patch_grid(scenes[0].image))) // 4
        ours = judge.judged(vlm, scenes, families, lambda s, n=keep: longest(s, n))
        luck = judge.judged(vlm, scenes, families, "random", keep)
        expect(ours.kept == keep, f"in {name}, it should leave as many tokens as it was asked for")
        print(f"{name}: {ours.accuracy:.1%} right, random tokens {luck.accuracy:.1%}")


@exercise("both give a block equally many tokens")
def equal_work(
    equal_work: Callable[..., Any],
    models: "Mapping[str, VLM]",
    scenes: Sequence[Scene],
    families: Mapping[str, Sequence[str]],
) -> None:
    for name, vlm in models.items():
        inside, before = pair(equal_work(vlm, scenes, 7), "what you return")
        for each in (inside, before):
            expect(isinstance(each, judge.Judged), "both should be results of judge.judged")
        for each in (inside, before):
            expect(len(each.counts) == len(scenes), "both should be asked about all the scenes")
        expect(
            inside.on_average > inside.kept,
            "the first should drop tokens inside the language model (is it the other way round?)",
        )
        expect(inside.kept == 7, "the first should have `keep` tokens in the end")
        equal = before.on_average == before.kept and abs(before.kept - inside.on_average) <= 0.5
        expect(equal, "the second should give a block as many tokens as the first does on average")
        for found, which in ((inside, "fastv"), (before, "divprune")):
            own = judge.judged(vlm, scenes, families, which, int(found.kept))
            expect((own.each == found.each).mean() > 0.99, f"this is not what {which} answers")
        print(f"{name}: FastV {inside.accuracy:.1%} right, DivPrune {before.accuracy:.1%}")
