"""Checks of the chapter on scaling and training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from . import exercise, expect, number


@exercise("neither too short nor too coarse")
def fitting(fitting: Any, theta: torch.Tensor, arms: Mapping[str, torch.Tensor]) -> None:
    def asked(angles, near, far):
        given = torch.tensor(angles, dtype=torch.float64)
        return number(fitting(given, near, far), f"fitting({angles}, {near}, {far})")

    fits = asked([0.5], 5, 16)
    expect(fits == 1, "0.5 radians per patch come to half a turn after more than 5 patches")
    expect(asked([0.5], 5, 6) == 0, "0.5 radians per patch come to half a turn after more than 6")
    expect(asked([0.5], 7, 16) == 0, "0.5 radians per patch come to half a turn before 7 patches")
    expect(asked([0.3, 0.5, 0.01, 2.0], 5, 16) == 2, "of several frequencies each one counts")
    edge = np.pi / 8
    ends = asked([edge], 8, 16), asked([edge], 2, 8)
    expect(ends == (1, 1), "at least and at most: both ends belong to what fits")
    for arm, gains in arms.items():
        print(f"{arm}: {number(fitting(theta * gains, 5, 16)):g}")


@exercise("a step for each curve")
def step_of(
    step_of: Any, steps: Sequence[int], curves: Mapping[tuple[str, int], Sequence[float]]
) -> None:
    def asked(share, at, curve):
        return number(step_of(share, at, curve), f"step_of({share}, {at}, {curve})")

    at = [10, 20, 30]
    late = step_of(0.9, at, [0.1, 0.2, 0.3])
    expect(late is None, "a curve that stays below the share has no such step")
    expect(asked(0.2, at, [0.1, 0.2, 0.3]) == 20, "a note may hit the share exactly")
    expect(asked(0.2, at, [0.4, 0.5, 0.6]) == 10, "this curve is above the share from the start")
    between = asked(0.2, at, [0.1, 0.1, 0.5])
    expect(between not in at, "between two notes the curve is a straight line, not a stair")
    expect(np.isclose(between, 22.5), "a straight line crosses the share at another step than that")
    again = asked(0.2, at, [0.1, 0.3, 0.1])
    expect(np.isclose(again, 15), "the first time is asked for, though the curve falls again")
    for (arm, seed), curve in curves.items():
        found = step_of(0.5, list(steps), list(curve))
        print(f"{arm}, seed {seed}: {'never' if found is None else f'step {found:.0f}'}")


@exercise("as many as it takes")
def models_needed(models_needed: Any, differences: Mapping[str, Any]) -> None:
    known = [0.0, 1.0, 2.0, 3.0, 4.0]

    def asked(values, effect):
        what = f"models_needed({values}, {effect})"
        return number(models_needed(np.array(values), effect), what)

    many, few = asked(known, 1.0), asked(known, 2.0)
    expect(many == int(many) and many >= 2, "models are counted in whole numbers, from 2 up")
    expect(many > few, "a small effect takes more models than a large one")
    expect(many != 10, "with so few models it is Student's t, which changes with n")
    expect(many != 11, "s divides by one less than the number of differences")
    shifted = asked([v + 7 for v in known], 1.0)
    expect(shifted == many, "only how much the differences differ counts, not their mean")
    expect((many, few) == (13, 5), "a smaller or larger number of models is the first to do it")
    for what, values in differences.items():
        found = models_needed(100 * np.asarray(values), 2.0)
        print(f"{what}: {found:g} for an effect of 2 points")
