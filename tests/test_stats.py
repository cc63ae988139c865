"""Shares and their intervals, held against numbers worked out by hand."""

import numpy as np
import pytest
from scipy.stats import t

from whatwhere import stats
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
    # ten equal patches a scene are no more than one
    clustered = np.repeat(hits[:40], 10).reshape(40, 10).sum(1)
    assert share(clustered, np.full(40, 10))[1:] == pytest.approx(share(hits[:40])[1:])
    value, low, high = share([1])
    assert value == 1 and np.isnan([low, high]).all()  # one scene has no spread to draw from


def test_an_interval_writes_itself():
    rate = share(np.arange(400) % 2)
    assert (rate.value, rate.low, rate.high) == tuple(rate)
    assert f"{stats.Interval(0.123, 0.1, 0.1449):.1%}" == "12.3% (10.0% to 14.5%)"
    assert f"{stats.Interval(1.0, -2.0, 3.0):+.1f} points" == "+1.0 (-2.0 to +3.0) points"
    assert f"{stats.Interval(1 / 3, 0, 1)}" == "0.333 (0 to 1)"
    value, low, high = stats.interval(lambda x: x.mean(0), np.eye(3))
    assert isinstance(stats.interval(np.mean, [1.0, 2.0]), stats.Interval)
    assert value.shape == low.shape == high.shape == (3,)


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


def test_intervals_of_any_statistic():
    rng = np.random.default_rng(0)
    hits, counts = rng.integers(0, 5, 200), rng.integers(5, 9, 200)
    one = stats.share(hits, counts)
    other = stats.interval(lambda h, c: h.sum() / c.sum(), hits, counts, resamples=2000)
    assert other[0] == pytest.approx(one[0]) and np.allclose(one, other, atol=0.01)
    assert stats.interval(lambda h: h.sum(), hits) == stats.interval(lambda h: h.sum(), hits), (
        "the same each time"
    )
    by_depth = rng.normal(size=(300, 4)) + np.arange(4)
    value, low, high = stats.interval(lambda x: x.mean(0), by_depth)
    assert (
        value.shape == low.shape == high.shape == (4,)
        and (low < value).all()
        and (value < high).all()
    )
    assert np.allclose((high - low) / 2, 1.96 / 300**0.5, rtol=0.2)
    for bad in ((hits, counts[:-1]), (np.zeros(0), np.zeros(0))):
        with pytest.raises(ValueError, match="as many scenes each"):
            stats.interval(lambda *a: 0, *bad)


def test_an_interval_of_what_is_no_number_is_refused():
    with pytest.raises(ValueError, match="of these 3 scenes it is nan"):
        stats.interval(lambda x: x.mean(), np.array([1.0, np.nan, 2.0]))
    # a third of all draws of ten lack the one that is divided by
    rare = np.array([1.0, *[0.0] * 9])
    with (
        pytest.raises(ValueError, match=r"in \d+ of these the statistic is no finite number"),
        np.errstate(all="ignore"),
    ):
        stats.interval(lambda x: 1 / x.sum(), rare)


def test_an_interval_over_a_few_models():
    mean, low, high = stats.over_models([1.0, 2.0, 3.0])
    # t of 2 degrees
    assert mean == 2 and high - mean == pytest.approx(mean - low) == pytest.approx(
        4.303 / 3**0.5, rel=1e-3
    )
    assert stats.over_models([5, 5]) == (5, 5, 5)
    for bad in ([1.0], [], [1.0, float("nan")], [[1.0, 2.0]]):
        with pytest.raises(ValueError, match="two or more models"):
            stats.over_models(bad)


def test_an_interval_over_draws_and_scenes_by_hand():
    # means of draws 1 and 3, of scenes 1, 2 and 3; what is left over is zero
    table = [[0.0, 1.0, 2.0], [2.0, 3.0, 4.0]]
    mean, low, high = stats.crossed(table)
    by_draws, by_scenes = 2 / 2, 1 / 3
    variance = by_draws + by_scenes
    freedom = variance**2 / (by_draws**2 / 1 + by_scenes**2 / 2)
    assert mean == 2 and high - mean == pytest.approx(mean - low)
    assert high - mean == pytest.approx(t.ppf(0.975, freedom) * variance**0.5)
    # draws that differ by no more than chance in their scenes add nothing to the variance
    noise = np.array([[1.0, -1.0, 0.0, 0.0], [-1.0, 1.0, 0.0, 0.0]]) + [0.0, 1.0, 2.0, 3.0]
    _, low, high = stats.crossed(noise)
    half = (np.var([0, 1, 2, 3], ddof=1) / 4) ** 0.5 * t.ppf(0.975, 3)
    assert (high - low) / 2 == pytest.approx(half)
    assert stats.crossed([[5, 5], [5, 5]]) == (5, 5, 5)
    for bad in ([[1.0, 2.0]], [[1.0], [2.0]], [1.0, 2.0], [[1.0, np.nan], [1.0, 2.0]]):
        with pytest.raises(ValueError, match="two or more draws on each of two or more scenes"):
            stats.crossed(bad)


@pytest.mark.parametrize("draws", [3, 5])
@pytest.mark.parametrize("spread", [0.0, 0.1, 0.3, 1.0], ids="draws differ by {}".format)
def test_an_interval_over_few_draws_holds_the_truth_as_often_as_it_says(draws, spread):
    """Scenes, and what is of a draw and a scene together, have the standard deviation one."""
    rng, repeats, scenes = np.random.default_rng(1), 1000, 200
    held = 0
    for _ in range(repeats):
        table = spread * rng.standard_normal((draws, 1)) + rng.standard_normal((1, scenes))
        _, low, high = stats.crossed(table + rng.standard_normal((draws, scenes)))
        held += low <= 0 <= high
    assert 0.91 < held / repeats < 0.98
