"""Shares and their intervals, held against numbers worked out by hand."""

import numpy as np
import pytest

from whatwhere.stats import share


def test_a_share_is_a_sum_over_a_sum():
    assert share([1, 0, 1, 0])[0] == 0.5
    assert share([True, True, False])[0] == pytest.approx(2 / 3)
    assert share([3, 0], [3, 1])[0] == 0.75  # a scene that holds more weighs more


def test_intervals_worked_out_by_hand():
    assert share([1, 1, 1]) == (1, 1, 1)
    assert share([0, 1]) == (0.5, 0, 1)  # four equally likely draws: 0, ½, ½, 1
    low, high = share([3, 0], [3, 1])[1:]
    assert (low, high) == (0, 1)
    hits = np.arange(400) % 2  # a binomial share: ½ ± 1.96 √(¼ / 400)
    assert share(hits)[1:] == pytest.approx((0.451, 0.549), abs=0.006)
    clustered = np.repeat(hits[:40], 10).reshape(40, 10).sum(1)  # ten equal patches a scene are no more than one
    assert share(clustered, np.full(40, 10))[1:] == pytest.approx(share(hits[:40])[1:])
    value, low, high = share([1])
    assert value == 1 and np.isnan([low, high]).all()  # one scene has no spread to draw from


def test_the_same_seed_gives_the_same_interval():
    hits = np.random.default_rng(0).random(50)
    assert share(hits) == share(hits.tolist()) == share(hits, np.ones(50))
    assert share(hits, seed=1) != share(hits)


@pytest.mark.parametrize(
    "given, sentence",
    [
        (([],), "one number a scene"),
        (([[1, 0]],), r"got shapes \(1, 2\)"),
        (([1, 0], [1]), r"got shapes \(2,\) and \(1,\)"),
        (([0, 0], [0, 0]), "nothing to count"),
        (([1, float("nan")],), "numbers are finite"),
        (([1, 0], [1, float("inf")]), "numbers are finite"),
        (([1, 0], [2, -1]), "counts are zero or more"),
    ],
)
def test_refused_with_a_sentence(given, sentence):
    with pytest.raises(ValueError, match=sentence):
        share(*given)
