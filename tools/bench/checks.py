"""What it costs to look for numbers that are none: the checks' own time, within a token map at all
depths."""

import time
from contextlib import contextmanager
from unittest import mock

import whatwhere as ww
from whatwhere import finite, hooks, models

from . import models as sizes


def shares(names, repeats=20):
    """{model: the share of a token map's seconds that its checks take}."""
    for name in names:
        yield name, share(ww.load(name), ww.world.scene(seed=7).image, repeats)
    vlm = sizes.half(vocabulary=4096)
    yield (
        vlm.name,
        share(
            vlm, ww.world.scene(seed=7).image.resize((16 * sizes.TOKEN,) * 2), max(1, repeats // 10)
        ),
    )


def share(vlm, image, repeats):
    with timed() as spent:
        ww.lens.token_maps(vlm, image)  # the first is slower
        spent.clear()
        start = time.perf_counter()
        for _ in range(repeats):
            ww.lens.token_maps(vlm, image)
        return sum(spent) / (time.perf_counter() - start)


@contextmanager
def timed():
    """Within it, what the checks of states take, in seconds, call by call. On a CPU, where a call
    returns when it is done."""
    spent = []

    def clocked(check):
        def run(values):
            start = time.perf_counter()
            found = check(values)
            spent.append(time.perf_counter() - start)
            return found

        return run

    with (
        mock.patch.multiple(
            hooks, extremes=clocked(finite.extremes), first_bad=clocked(finite.first_bad)
        ),
        mock.patch.multiple(
            models, extremes=clocked(finite.extremes), first_bad=clocked(finite.first_bad)
        ),
    ):
        yield spent
