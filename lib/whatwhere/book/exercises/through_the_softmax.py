"""Checks of the chapter that takes left and right through the softmax, and scales a head."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ...rope import gains
from . import array, exercise, expect, number, pair

Answer = Callable[..., Any]


@exercise("the two weights are exact, for small steps and for large ones")
def weights(weights: Answer) -> None:
    def both(w, delta):
        found = pair(weights(w, delta), "weights(w, delta)")
        return [number(each, "a weight") for each in found]

    still = both(0.3, 0.0)
    expect(np.allclose(still, 0.3), "where nothing is added, B's weight should stay as it was")
    more, less = both(0.3, 0.5)
    expect(more > less, "the first weight is that with δ added (the two are the other way round)")
    expect(more > 0.3 > less, "one weight should rise and the other fall")
    for w, delta in ((0.1, 8.0), (0.9, 8.0)):
        inside = all(0 < each < 1 for each in both(w, delta))
        expect(inside, f"a weight lies between 0 and 1, also for w = {w} and δ = {delta:g}")
    for w, delta in ((0.5, 0.2), (0.1, 1.0), (0.02, 3.0), (0.9, 2.0)):
        # the softmax itself, over B and three patches that share the rest
        logits = np.log([w] + 3 * [(1 - w) / 3])
        for found, change, what in zip(both(w, delta), (delta, -delta), ("added", "taken away")):
            powers = np.exp(logits + np.array([change, 0, 0, 0]))
            due = powers[0] / powers.sum()
            wrong = f"with w = {w} and δ = {delta:g} {what}, this is not what the softmax gives"
            expect(np.isclose(found, due, rtol=1e-6), wrong)


@exercise("the share is right at every distance, scaled or not")
def head_share(head_share: Answer, theta: np.ndarray) -> None:
    """
    Args:
        theta: (N,) a model's own frequencies, for which the answer is printed.
    """
    what = "head_share(theta, distances, alpha, p)"

    def shares(theta, distances, alpha=0.0, p=1.0):
        found = head_share(np.array(theta), np.array(distances), alpha, p)
        return array(found, (len(distances),), what)

    found = shares([0.7, 0.2, 0.1], [1, 2, 3, 4, 5])
    expect(((found >= 0) & (found <= 0.5)).all(), "a share lies between 0 and a half here")
    # one pair that has turned by a quarter of a turn tells all that its half has
    quarter = shares([np.pi / 2], [1])[0]
    turns = not np.isclose(shares([0.7], [1])[0], 0)
    expect(turns, "with α = 0 a pair should still turn, at its own frequency")
    expect(not np.isclose(quarter, 1), "the Y half has energy too, and tells nothing")
    expect(np.isclose(quarter, 1 / 2), "for a pair at a quarter of a turn the share is not right")
    expect(np.isclose(shares([np.pi / 2], [2])[0], 0), "at half a turn the sine is zero")
    for theta_tried in ([0.7], [0.7, 0.2, 0.1]):
        due = [np.mean([np.sin(m * t) ** 2 for t in theta_tried]) / 2 for m in (1, 4)]
        expect(np.allclose(shares(theta_tried, [1, 4]), due), "unscaled, the share is not right")
    alone = np.allclose(shares([0.7], [1, 4], 9.0, 2.0), shares([0.7], [1, 4]))
    expect(alone, "scaling should leave the fastest pair as it is")
    for alpha, p in ((9.0, 2.0), (99.0, 8.0)):
        faster = np.array([0.7, 0.2, 0.1]) * gains(3, alpha, p).numpy()
        due = [np.mean(np.sin(m * faster) ** 2) / 2 for m in (1, 4)]
        got = shares([0.7, 0.2, 0.1], [1, 4], alpha, p)
        said = f"with α = {alpha:g} and p = {p:g}"
        still = np.allclose(got, shares([0.7, 0.2, 0.1], [1, 4]))
        expect(not still, f"{said} the share should not be that of α = 0")
        gain = "is the gain of each pair that of the formula? Its 2i/d stays below 1"
        expect(np.allclose(got, due), f"{said} the share is not right: {gain}")
    for alpha, p in ((0.0, 8.0), (99.0, 8.0), (99.0, 6.0)):
        said = f"α = {alpha:g}, p = {p:g}" if alpha else "unscaled"
        print(f"{said}: {shares(theta, [4], alpha, p)[0]:.2%} at a distance of 4")
