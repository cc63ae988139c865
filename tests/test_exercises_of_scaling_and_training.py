"""The checks of the chapter on scaling and training: right answers pass, plausible wrong ones are
refused with a sentence that does not give the answer away."""

import numpy as np
import pytest
import torch
from scipy.stats import norm, t

from whatwhere import rope
from whatwhere.book.exercises import scaling_and_training as checks
from whatwhere.book.training import scaling_study


def refused(outcome, *values):
    assert not outcome and str(outcome).startswith("✗ not yet: "), outcome
    for value in values:
        assert value not in str(outcome), outcome
    return str(outcome)


def fitting(theta, near, far):
    reach = np.pi / theta
    return int(((reach >= near) & (reach <= far)).sum())


WRONG_FITS = {
    "a whole turn": lambda theta, near, far: fitting(theta / 2, near, far),
    "the near end alone": lambda theta, near, far: int((np.pi / theta >= near).sum()),
    "the far end alone": lambda theta, near, far: int((np.pi / theta <= far).sum()),
    "is there any": lambda theta, near, far: int(fitting(theta, near, far) > 0),
    "without the ends": lambda theta, near, far: fitting(theta, near + 1e-6, far - 1e-6),
    "radians": lambda theta, near, far: int(((theta >= near) & (theta <= far)).sum()),
}


def test_fitting(capsys):
    assert checks.fitting(fitting, rope.frequencies(16), scaling_study.scalings(4))
    printed = capsys.readouterr().out
    assert "none: 0" in printed and "α 29, p 2: 1" in printed and "α 99, p 8: 0" in printed


@pytest.mark.parametrize("wrong", WRONG_FITS)
def test_a_wrong_fit_is_refused(wrong):
    refused(checks.fitting(WRONG_FITS[wrong], torch.ones(1), {}), "π", "6.28", "pi /")


def step_of(share, steps, curve):
    if curve[0] >= share:
        return steps[0]
    for n in range(1, len(curve)):
        if curve[n] >= share:
            part = (share - curve[n - 1]) / (curve[n] - curve[n - 1])
            return steps[n - 1] + part * (steps[n] - steps[n - 1])
    return None


def stair(share, steps, curve):
    return next((step for step, value in zip(steps, curve) if value >= share), None)


WRONG_STEPS = {
    "straight line": stair,
    "stays below": lambda share, steps, curve: step_of(share, steps, curve) or steps[-1],
    "from the start": lambda share, steps, curve: step_of(share, steps[1:], curve[1:]),
    "first time": lambda share, steps, curve: (
        None if max(curve) < share else np.interp(share, sorted(curve), steps)
    ),
}


def test_step_of(capsys):
    curves = {("as it is", 0): [0.2, 0.4, 0.6], ("as it is", 1): [0.2, 0.3, 0.3]}
    assert checks.step_of(step_of, range(40, 121, 40), curves)
    printed = capsys.readouterr().out
    assert "as it is, seed 0: step 100" in printed and "as it is, seed 1: never" in printed


@pytest.mark.parametrize("wrong", WRONG_STEPS)
def test_a_wrong_step_is_refused(wrong):
    refused(checks.step_of(WRONG_STEPS[wrong], [], {}), "22.5", " 15 ")


def models_needed(differences, effect, ddof=1, factor=lambda n: t.ppf(0.975, n - 1)):
    n = 2
    while factor(n) * np.std(differences, ddof=ddof) / np.sqrt(n) >= effect:
        n += 1
    return n


def off_mean(differences, effect):
    """How far the differences are from zero, in the place of how much they differ."""
    s, n = np.sqrt(np.mean(np.square(differences))), 2
    while t.ppf(0.975, n - 1) * s / np.sqrt(n) >= effect:
        n += 1
    return n


WRONG_NUMBERS = {
    "one less": lambda values, effect: models_needed(values, effect, ddof=0),
    "Student's t": lambda values, effect: models_needed(
        values, effect, factor=lambda n: norm.ppf(0.975)
    ),
    "not their mean": off_mean,
    "the first to do it": lambda values, effect: models_needed(values, effect) + 1,
    "whole numbers": lambda values, effect: models_needed(values, effect) - 0.5,
    "large one": lambda values, effect: 13,
}


def test_models_needed(capsys):
    assert checks.models_needed(models_needed, {"two alike": [0.01, 0.01]})
    assert "two alike: 2 for an effect of 2 points" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", WRONG_NUMBERS)
def test_a_wrong_number_of_models_is_refused(wrong):
    said = refused(checks.models_needed(WRONG_NUMBERS[wrong], {}), "13", "12", " 5")
    assert wrong in said
