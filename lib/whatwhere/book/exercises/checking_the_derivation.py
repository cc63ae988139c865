"""Checks of the chapter that holds the derivation against code and against a trained model."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ...rope import frequencies
from . import array, exercise, expect, number, pair

Answer = Callable[..., Any]


@exercise("there and back again, from both sides")
def together(together: Answer, neighbours: Answer) -> None:
    """
    Args:
        neighbours: the chapter's function, whose inverse is asked for.
    """
    numbers = torch.arange(12.0)
    found = torch.as_tensor(array(together(numbers), (12,), "together(q)"))
    same = sorted(found.tolist()) == numbers.tolist()
    expect(same, "every number should still be there, once")
    twice = torch.equal(found, neighbours(numbers).double())
    expect(not twice, "this does the same as neighbours, and should undo it")
    several = torch.randn(2, 3, 80, generator=torch.Generator().manual_seed(0))
    shape = tuple(several.shape)
    undone = array(together(neighbours(several)), shape, "together(neighbours(q))")
    expect(np.array_equal(undone, several.double()), "after neighbours, it should give q back")
    undone = array(neighbours(together(several)), shape, "neighbours(together(q))")
    expect(np.array_equal(undone, several.double()), "before neighbours, it should do so too")


@exercise("the heads are ranked by what they tell")
def along_share(along_share: Answer, energy: np.ndarray) -> None:
    """
    Args:
        energy: (2, heads, pairs) of the model, on pictures of a thing in front of another.
    """
    dice = np.random.default_rng(0)
    drawn = dice.uniform(1, 2, (2, 3, 12))
    before = array(along_share(drawn.copy()), (3,), "along_share(energy)")
    expect(((before > 0) & (before < 1)).all(), "a share lies between 0 and 1")
    again = array(along_share(5 * drawn), (3,), "along_share(energy)")
    expect(np.allclose(before, again), "a share does not change where all energy is five times it")
    for term in (0, 1):
        for axis, half in enumerate((slice(0, 6), slice(6, 12))):
            more = drawn.copy()
            more[term, 2, half] *= 9
            change = array(along_share(more), (3,), "along_share(energy)") - before
            expect(abs(change[:2]).max() < 1e-12, "one head's energy is no other head's business")
            rises = change[2] > 1e-9
            due = term == 1 and axis == 0
            which = f"{('shared', 'telling')[term]} terms of the {'YX'[axis]} half"
            wrong = f"where the {which} grow, the share should {'rise' if due else 'fall'}"
            expect(rises == due and abs(change[2]) > 1e-9, wrong)
    equal = array(along_share(np.ones((2, 3, 12))), (3,), "along_share(energy)")
    expect(np.allclose(equal * 48, 12), "where all terms are alike, the share is not right")
    found = array(along_share(energy), energy.shape[1:2], "along_share(energy)")
    strongest = [f"block {h // 4 + 1} head {h % 4} ({found[h]:.0%})" for h in (-found).argsort()]
    print("strongest:", ", ".join(strongest[:3]))


@exercise("the most similar displacements are found, near or far")
def closest(closest: Answer) -> None:
    def both(theta, side):
        found = pair(closest(np.array(theta), side), "closest(theta, side)")
        value = number(found[0], "the sum")
        apart = number(found[1], "the difference")
        inside = apart == int(apart) and 1 <= apart <= 2 * side - 2
        expect(inside, f"no two displacements on {side} patches a side are {apart:g} apart")
        return value, apart

    cases = [
        ([np.pi / 2], 8, "one pair, a quarter of a turn a patch, on 8 patches"),
        ([np.pi / 5], 8, "one pair, a tenth of a turn a patch, on 8 patches"),
        ([np.pi / 5], 4, "one pair, a tenth of a turn a patch, on 4 patches"),
        ([np.pi / 2, 0.01], 8, "a fast pair and a slow one, on 8 patches"),
        (frequencies(80).tolist(), 32, "Qwen2-VL's pairs, on 32 patches"),
    ]
    for theta, side, name in cases:
        value, apart = both(theta, side)
        turned = np.outer(np.arange(1, 2 * side - 1), theta)
        unlike = 2 * (np.sin(turned / 2) ** 2).sum(axis=1)
        expect(
            abs(value - unlike[int(apart) - 1]) < 1e-9, f"{name}: the sum is not the difference's"
        )
        expect(value < unlike.min() + 1e-9, f"{name}: two others are more alike")
        first = not (unlike[: int(apart) - 1] < unlike.min() + 1e-9).any()
        expect(first, f"{name}: of several that are equally alike, take the smallest difference")
