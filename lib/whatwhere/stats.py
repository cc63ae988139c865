"""Shares and their 95% intervals, by bootstrap over scenes; and Student's interval of a mean over
models, of which there are too few to resample, or over both."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import bootstrap, t


class Interval(NamedTuple):
    """A number with its 95% interval, written as one: f"{rate:.1%}" is "12.0% (10.1% to 14.2%)".

    Of a statistic that is an array, each of the three is one, and there is nothing to format.
    """

    value: Any
    low: Any
    high: Any

    def __format__(self, spec: str) -> str:
        value, low, high = (format(float(number), spec or ".3g") for number in self)
        return f"{value} ({low} to {high})"


def share(
    hits: Sequence[float] | np.ndarray,
    counts: Sequence[float] | np.ndarray | None = None,
    seed: int = 0,
    resamples: int = 2000,
) -> Interval:
    """The sum of `hits` over the sum of `counts`, with a 95% percentile interval over scenes.

    `hits` and `counts` are `(scenes,)`: what a scene contributes above and below the line, so that
    a scene with many patches weighs more but is still drawn as one. Without `counts` each scene
    counts one. Deterministic in `seed`.

    Raises:
        ValueError: where there are no scenes, a number is not one, or nothing was counted.
    """
    hits = np.asarray(hits, float)
    counts = np.ones_like(hits) if counts is None else np.asarray(counts, float)
    if hits.ndim != 1 or hits.shape != counts.shape or not len(hits):
        raise ValueError(
            f"share() takes one number a scene in hits and in counts; got shapes {hits.shape} "
            f"and {counts.shape}."
        )
    if not (np.isfinite(hits).all() and np.isfinite(counts).all()) or counts.min() < 0:
        raise ValueError("share() counts: its numbers are finite, and counts are zero or more.")
    if counts.sum() <= 0:
        raise ValueError("share() was given nothing to count: all counts are zero.")
    value = float(hits.sum() / counts.sum())
    if len(hits) == 1:
        return Interval(value, float("nan"), float("nan"))

    def ratio(h, c, axis):
        return h.sum(axis) / np.maximum(c.sum(axis), 1e-12)

    bounds = bootstrap(
        (hits, counts), ratio, paired=True, vectorized=True, n_resamples=resamples, batch=200,
        method="percentile", rng=np.random.default_rng(seed),
    ).confidence_interval  # fmt: skip
    return Interval(value, float(bounds.low), float(bounds.high))


def interval(
    statistic: Callable[..., Any],
    *arrays: Sequence[Any] | np.ndarray,
    seed: int = 0,
    resamples: int = 1000,
) -> Interval:
    """The value of any `statistic(*arrays)`, with a 95% percentile interval over scenes.

    Args:
        arrays: (scenes, …) each, drawn together, scene by scene. The statistic is a number or an
            array, such as one number for each depth; so are the three results. For a share that
            `share` can take, prefer `share`. Deterministic in `seed`.

    Raises:
        ValueError: where there are no scenes, the arrays differ in length, or the statistic is no
            finite number: of all scenes, or of one draw of them.
    """
    samples = [np.asarray(sample) for sample in arrays]
    if len({len(sample) for sample in samples}) != 1 or not len(samples[0]):
        raise ValueError(
            "interval() takes arrays of as many scenes each; got "
            f"{[len(sample) for sample in samples]}."
        )
    rng, n = np.random.default_rng(seed), len(samples[0])
    draws = (rng.integers(n, size=n) for _ in range(resamples))
    values = np.array([statistic(*(sample[drawn] for sample in samples)) for drawn in draws])
    value = statistic(*samples)
    if not np.isfinite(value).all():
        raise ValueError(
            f"interval() takes a statistic that is a finite number; of these {n} scenes it is "
            f"{value}."
        )
    if not np.isfinite(values).all():
        bad = (~np.isfinite(values.reshape(resamples, -1)).all(1)).sum()
        raise ValueError(
            f"interval() draws scenes anew {resamples} times, and in {bad} of these the statistic "
            "is no finite number: it may divide by what a draw can lack. Give it more scenes, or a "
            "statistic that is one for every draw."
        )
    low, high = np.quantile(values, (0.025, 0.975), axis=0)
    return Interval(value, low, high)


def over_models(values: Sequence[float] | np.ndarray) -> Interval:
    """The mean of one number from each of a few models, with Student's 95% interval, as there are
    too few to resample.

    Raises:
        ValueError: for fewer than two.
    """
    values = np.asarray(values, float)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise ValueError(
            "over_models() takes one finite number from each of two or more models; got "
            f"{values.tolist()}."
        )
    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    mean = float(values.mean())
    return Interval(mean, mean - half, mean + half)


def crossed(table: Sequence[Sequence[float]] | np.ndarray) -> Interval:
    """The mean of `table` (draws, scenes), with Student's 95% interval where both are samples: a
    few draws of what was learnt, such as decoders, each tried on the same scenes.

    Draws are too few to resample: a bootstrap over three or five of them gives intervals that are
    too narrow. The variance of the mean is that over scenes, and that over draws beyond what
    chance in their scenes would give; its degrees of freedom are Satterthwaite's (1946). Studies of
    several readers and cases in radiology do the same (Hillis 2007).

    Raises:
        ValueError: for fewer than two draws or scenes, or what is no finite number.
    """
    table = np.asarray(table, float)
    if table.ndim != 2 or min(table.shape) < 2 or not np.isfinite(table).all():
        raise ValueError(
            "crossed() takes a finite number from each of two or more draws on each of two or more "
            f"scenes, as (draws, scenes); got an array of shape {table.shape}"
            + ("." if table.ndim != 2 or min(table.shape) < 2 else " that holds what is none.")
        )
    draws, scenes = table.shape
    mean, of_draws, of_scenes = float(table.mean()), table.mean(1), table.mean(0)
    rest = table - of_draws[:, None] - of_scenes + mean
    # of the mean, by draws, by scenes, and by what is of both together
    by_draws = of_draws.var(ddof=1) / draws
    by_scenes = of_scenes.var(ddof=1) / scenes
    by_both = (rest**2).sum() / ((draws - 1) * (scenes - 1)) / table.size
    variance = by_scenes + max(by_draws - by_both, 0.0)
    if not variance:
        return Interval(mean, mean, mean)
    freedom = variance**2 / (by_scenes**2 / (scenes - 1) + by_draws**2 / (draws - 1))
    half = float(t.ppf(0.975, freedom) * variance**0.5)
    return Interval(mean, mean - half, mean + half)
