"""Checks of the chapter in which methods of compression are judged."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from ... import compress, world
from ...compress import judge
from ...models import VLM
from . import array, exercise, expect, pair


@exercise("each next one is farthest from all before it")
def farthest(farthest: Callable[[np.ndarray, int], Any]) -> None:
    points = np.array([0.0, 1.0, 2.0, 9.0, 10.0])
    distances = np.abs(points[:, None] - points)
    got = array(farthest(distances.copy(), 3), (3,), "farthest(distances, 3)")
    expect(got[0] == 0, "the list begins with 0")
    expect(len(set(got)) == 3, "each is chosen once")
    expect(got[1] == distances[0].argmax(), "the second is not the farthest from the first")
    nearest = distances[[0, int(got[1])]].min(0)
    expect(got[2] == nearest.argmax(), "the third is not the farthest from *all* that were chosen")
    everyone = array(farthest(distances.copy(), 5), (5,), "farthest(distances, 5)")
    expect(sorted(everyone) == [0, 1, 2, 3, 4], "in the end each is chosen once")


@exercise("the right tokens stay, and no others")
def longest(
    longest: Callable[..., Any], models: Mapping[str, VLM], families: Mapping[str, Sequence[str]]
) -> None:
    tokens = torch.tensor([[1.0, 0], [3, 4], [0, 2], [0, 0.5]])
    got = longest(compress.Sight(tokens, (2, 2)), 2)
    got = array(got, (4,), "longest(sight, 2)")
    expect((got >= 0).sum() == 2, "two tokens stay, and the others are below zero")
    expect((got >= 0).tolist() == [False, True, True, False], "other tokens are longer than these")
    dev = list(world.scenes("dev", 16))
    for name, vlm in models.items():
        n = int(np.prod(vlm.patch_grid(dev[0].image)) // 4)
        ours = judge.judged(vlm, dev, families, partial(longest, keep=n))
        luck = judge.judged(vlm, dev, families, "random", 0.25)
        expect(ours.kept == luck.kept, "a quarter of the tokens stays")
        print(f"{name}: {ours.accuracy:.1%}, random {luck.accuracy:.1%}")


@exercise("both have as many tokens in a block")
def equal_work(equal_work: Callable[..., Any], models: Mapping[str, VLM]) -> None:
    dev = list(world.scenes("dev", 16))
    for name, vlm in models.items():
        inside, before = pair(equal_work(vlm, dev, 8), "equal_work(vlm, scenes, 8)")
        both = all(isinstance(each, judge.Judged) for each in (inside, before))
        expect(both, "both are what judge.judged returns")
        expect(inside.kept == 8, "the first keeps as many tokens in the end as it was told")
        expect(inside.on_average > 8, "the first works inside the LM: on average it has more")
        expect(before.kept == round(inside.on_average), "the second has not as many in a block")
        print(f"{name}: FastV {inside.accuracy:.1%}, DivPrune {before.accuracy:.1%}")
