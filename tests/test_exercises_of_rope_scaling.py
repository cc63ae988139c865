"""The checks of the chapter on RoPE scaling: right answers pass, plausible wrong ones are refused
with a sentence that does not give the answer away."""

import numpy as np
import pytest
import torch

from whatwhere import rope
from whatwhere.book.exercises import rope_scaling as checks


def refused(outcome, *values):
    assert not outcome and str(outcome).startswith("✗ not yet: "), outcome
    for value in values:
        assert value not in str(outcome), outcome
    return str(outcome)


def reach(theta, alpha, p, i):
    return (np.pi / (theta * rope.gains(len(theta), alpha, p))[i - 1]).item()


WRONG_REACHES = {
    "a whole circle": lambda *named: 2 * reach(*named),
    "from 0": lambda theta, alpha, p, i: reach(theta, alpha, p, min(i + 1, len(theta))),
    "unscaled": lambda theta, alpha, p, i: reach(theta, 0, p, i),
    "further": lambda theta, alpha, p, i: (
        np.pi / theta[i - 1].item() * rope.gains(len(theta), alpha, p)[i - 1].item()
    ),
    "rounded": lambda *named: round(reach(*named)),
    "all of them": lambda theta, alpha, p, i: np.pi / (theta * rope.gains(len(theta), alpha, p)),
}


def test_reach(capsys):
    assert checks.reach(reach, {"as it is": (0, 2)})
    assert "as it is: 14.6 patches" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", WRONG_REACHES)
def test_a_wrong_reach_is_refused(wrong):
    said = refused(checks.reach(WRONG_REACHES[wrong], {}), "3.14", "8.08", "8.1", "π")
    assert ("less far" in said) == (wrong in ("further", "unscaled"))
    assert ("rounded" in said) == (wrong == "rounded")


def both_axes(rows, columns):
    gains = torch.ones(2, 6)
    gains[0, 1], gains[1, 1] = rows, columns
    return gains


def third(rows, columns):
    return both_axes(rows, columns)[:, [0, 2, 1, 3, 4, 5]]


def narrow_sets(gains):
    assert torch.as_tensor(gains).shape == (2, 6)
    return np.ones((3, 4), bool)


def test_both_axes(capsys):
    assert checks.both_axes(both_axes, narrow_sets)
    assert "both: behind and in front 100%" in capsys.readouterr().out
    wrong = {
        "rows come first": lambda rows, columns: both_axes(columns, rows),
        "third frequency": third,
        "the other way round": lambda rows, columns: both_axes(rows, columns).T,
        "all else stays": lambda rows, columns: torch.tensor([[rows] * 6, [columns] * 6]),
    }
    for sentence, answer in wrong.items():
        assert sentence in refused(checks.both_axes(answer, narrow_sets), "[1", "1.0,")


def luck(settings, questions, accuracy, trials=2000):
    rng = np.random.default_rng(0)
    right = rng.binomial(questions, accuracy, (trials, settings)) / questions
    return 100 * (right.max(axis=1).mean() - accuracy)


def lucky_trial(settings, questions, accuracy, trials=2000):
    """The best trial of all, in place of the best setting in each."""
    rng = np.random.default_rng(0)
    right = rng.binomial(questions, accuracy, (trials, settings)) / questions
    return 100 * (right.max() - accuracy)


def test_luck(capsys):
    assert checks.luck(luck)
    assert "points with 100 questions" in capsys.readouterr().out
    wrong = (
        lambda *named: luck(*named) / 100,
        lambda *named: 0.0,
        lambda settings, questions, accuracy: luck(settings, questions, accuracy) + 75,
        lambda settings, questions, accuracy: luck(max(1, settings // 2), questions, accuracy),
        lambda settings, questions, accuracy: luck(settings, questions, 0.75),
        lucky_trial,
    )
    for answer in wrong:
        refused(checks.luck(answer), "8.", "9 ", "eight")
