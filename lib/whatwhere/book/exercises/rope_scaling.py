"""Checks of the chapter on RoPE scaling."""

from typing import Any

import numpy as np

from ... import rope
from . import array, exercise, expect, number


@exercise("half a turn, of the scaled frequency")
def reach(reach: Any, settings: Any) -> Any:
    theta = rope.frequencies(24)

    def asked(alpha, p, i):
        return number(reach(theta, alpha, p, i), f"reach(theta, {alpha}, {p}, {i})")

    first = asked(0, 2, 1)
    whole = np.isclose(first, 2 * np.pi)
    expect(not whole, "what counts is half a turn, and this is a whole one")
    expect(first != 3, "this is rounded; the exact number is asked for")
    expect(np.isclose(first, np.pi), "the first frequency, i = 1, turns by one radian a patch")
    expect(np.isclose(asked(29, 2, 1), first), "the first frequency keeps its pace: i is from 1")
    shorter = asked(29, 2, 2) < asked(0, 2, 2)
    expect(shorter, "a frequency that turns faster reaches less far, and not further")
    faster = theta * rope.gains(6, 29, 2)
    expect(
        np.isclose(asked(29, 2, 2), np.pi / faster[1].item()),
        "the second frequency does not reach as far as that when α = 29 and p = 2",
    )
    ratio = asked(99, 8, 6) / asked(0, 8, 6)
    due = 1 / rope.gains(6, 99, 8)[5].item()
    expect(np.isclose(ratio, due), "a frequency that is g times as fast reaches 1/g as far")
    for what, (alpha, p) in settings.items():
        print(f"{what}: {asked(alpha, p, 2):.1f} patches")


@exercise("gains of two axes")
def both_axes(both_axes: Any, narrow_sets: Any) -> None:
    made = array(both_axes(2.0, 3.0), (2, 6), "both_axes(2, 3)")
    changed = np.argwhere(made != 1)
    expect(len(changed) == 2, "one frequency of each axis changes, and all else stays")
    expect((changed[:, 1] != 2).all(), "that is the third frequency: columns are counted from 0")
    expect((changed[:, 1] == 1).all(), "another frequency than the second one changes")
    one, other = made[:, 1]
    expect(one < other, "rows come first, and columns second")
    expect((one, other) == (2, 3), "the two frequencies are not as fast as they were asked to be")
    ways = {"none": (1, 1), "columns": (1, 1.5), "rows": (1.5, 1), "both": (1.5, 1.5)}
    for what, by in ways.items():
        seen = narrow_sets(both_axes(*by))
        deep, across = seen[:, :2].mean(), seen[:, 2:].mean()
        print(f"{what}: behind and in front {deep:.0%}, left and right {across:.0%}")


@exercise("what the winner owes to luck")
def luck(luck: Any) -> Any:
    def asked(settings, questions, accuracy=0.75):
        what = f"luck({settings}, {questions}, {accuracy})"
        return number(luck(settings, questions, accuracy), what)

    expect(abs(asked(1, 100)) < 0.5, "where there is one setting, there is no choice and no luck")
    many, few = asked(24, 100), asked(24, 1600)
    expect(many > 0.5, "these are shares, or less: the answer is in percentage points")
    rng = np.random.default_rng(1)
    best = rng.binomial(100, 0.75, (2000, 24)).max(axis=1).mean() - 75
    expect(abs(many - best) < 0.5, "of 24 settings with 100 questions, the best has another mean")
    expect(abs(many / few - 4) < 0.6, "with sixteen times the questions it falls otherwise")
    expect(asked(24, 100, 0.95) < many - 1, "with another accuracy the luck is another")
    print(f"24 settings: {many:.1f} points with 100 questions, {few:.1f} with 1600")
