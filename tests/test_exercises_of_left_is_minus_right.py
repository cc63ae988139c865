"""The checks of chapter "Left is the opposite of right": right answers pass, plausible wrong ones
are refused with a sentence that does not give the answer away."""

import numpy as np
import pytest

from whatwhere.book.exercises import left_is_minus_right as checks
from whatwhere.relations import centred, cosines

BEHIND, FRONT, LEFT, RIGHT = range(4)
VECTORS = np.random.default_rng(0).normal(size=(6, 4, 5))
STATES = np.random.default_rng(1).normal(size=(30, 4, 2, 7))


def refused(outcome, *values):
    assert not outcome and str(outcome).startswith("✗ not yet: "), outcome
    for value in values:
        assert value not in str(outcome), outcome
    return str(outcome)


def opposite(four):
    found = cosines(centred(four))
    return (found[LEFT, RIGHT] + found[FRONT, BEHIND]) / 2


def not_centred(four):
    found = cosines(four)
    return (found[LEFT, RIGHT] + found[FRONT, BEHIND]) / 2


def wrong_rows(four):
    found = cosines(centred(four))
    return (found[BEHIND, LEFT] + found[FRONT, RIGHT]) / 2


def left_right_alone(four):
    return cosines(centred(four))[LEFT, RIGHT]


def centred_along_the_wrong_axis(four):
    found = cosines(four - four.mean(axis=1, keepdims=True))
    return (found[LEFT, RIGHT] + found[FRONT, BEHIND]) / 2


def the_papers_score(four):
    unit = centred(four) / np.linalg.norm(centred(four), axis=1, keepdims=True)
    return 1 / (1 + 0.5 * np.linalg.norm(unit.sum(0)) ** 2)


def test_opposite(capsys):
    assert checks.opposite(opposite, {"a model": VECTORS})
    assert "a model: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (not_centred, "mean vector"),
        (centred_along_the_wrong_axis, "mean vector"),
        (wrong_rows, "which row is which"),
        (left_right_alone, "both cosines"),
        (the_papers_score, "exact opposites"),
        (lambda four: cosines(four), "number"),
    ],
)
def test_a_wrong_score_is_refused(wrong, why):
    said = refused(checks.opposite(wrong, {"a model": VECTORS}), "-1", "−1 for", "is 0", "1/3")
    assert why in said


def compare(vectors):
    found = cosines(centred(vectors)).mean(0)
    return found[0, 1], found[2, 3]


def plain(vectors):
    found = cosines(vectors).mean(0)
    return found[0, 1], found[2, 3]


def test_compare(capsys):
    by_place = dict.fromkeys(checks.PLACES, VECTORS)
    assert checks.compare(compare, {"a model": by_place})
    assert capsys.readouterr().out.count("on, under") == 3
    exchanged = refused(checks.compare(lambda v: compare(v)[::-1], {}))
    assert "the other way round" in exchanged
    assert "not centred" in refused(checks.compare(plain, {}))
    assert "each pair" in refused(checks.compare(lambda v: plain(v - v.mean(0)), {}))
    refused(checks.compare(lambda v: compare(v)[0], {}))
    refused(checks.compare(lambda v: (cosines(centred(v))[:, 0, 1], 0.0), {}))


def test_ruler():
    change = STATES[:, LEFT] - STATES[:, RIGHT]
    difference = change[:20, 0]
    right = np.linalg.norm(difference, axis=-1).mean()
    assert checks.ruler(lambda distance: right * distance / 43, STATES)
    assert "is the distance used" in refused(checks.ruler(lambda distance: right, STATES))
    wrong = {
        "lengths come first": np.linalg.norm(difference.mean(0)),
        "the first twenty": np.linalg.norm(change[:, 0], axis=-1).mean(),
        "satellite's states": np.linalg.norm(change[:20, 0] - change[:20, 1], axis=-1).mean(),
        "states should agree": 2 * right,
    }
    for why, value in wrong.items():
        said = refused(
            checks.ruler(lambda distance, value=value: value, STATES),
            f"{right:.2f}",
            f"{right:.1f}",
        )
        assert why in said
    refused(checks.ruler(lambda distance: difference, STATES))
