"""Two functions that do different things have different checksums; one function always has the
same."""

import importlib
import random
import sys
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch

from whatwhere import compress
from whatwhere.benchmarks import fingerprint

SHARE = 0.5


def alike(threshold, weights=None):
    def way(sight):
        return threshold, weights

    return way


def by_global(sight):
    return SHARE


def helped(sight):
    return by_global(sight)


@dataclass
class Setting:
    number: int = 1

    @property
    def doubled(self):
        return 2 * self.number


class Way:
    def __init__(self, threshold):
        self.threshold = threshold

    def __call__(self, sight):
        return self.threshold


def decoder(factor):
    return compress.Decoder(torch.eye(3) * factor, np.array(["a", "b", "."], object))


DIFFERENT = {
    "closure": (alike(0.5), alike(0.9)), "kind of number": (alike(1), alike(1.0)),
    "array": (alike(1, np.arange(3)), alike(1, np.arange(3)[::-1])),
    "tensor": (alike(1, torch.ones(2)), alike(1, torch.zeros(2))),
    "order": (alike(1, {"a": 1, "b": 2}), alike(1, {"b": 2, "a": 1})),
    "nested": (alike(1, [alike(2)]), alike(1, [alike(3)])),
    "default": (lambda sight, n=1: n, lambda sight, n=2: n),
    "constant": (lambda sight: 1, lambda sight: 2),
    "keyword default": (lambda sight, *, n=1: n, lambda sight, *, n=2: n),
    "name that is looked up": (lambda sight: sight.tokens, lambda sight: sight.grid),
    "function within": (lambda sight: (lambda: 1)(), lambda sight: (lambda: 2)()),
    "partial": (partial(by_global, n=1), partial(by_global, n=2)), "object": (Way(1), Way(2)),
    "method": (Way(1).__call__, Way(2).__call__),
    "dataclass": (alike(Setting(1)), alike(Setting(2))), 
    "function in C": (alike(len), alike(sum)),
    "function of numpy": (alike(np.where), alike(np.sort)),
    "ufunc": (alike(np.add), alike(np.subtract)), "of torch": (alike(torch.add), alike(torch.topk)),
    "decoder": (compress.by_words(decoder(1), 1), compress.by_words(decoder(2), 1)),
    "way": (compress.by_words(decoder(1), 1), compress.by_words(decoder(1), 1, shape="regions")),
    "number": (compress.BASELINES["grid"](3), compress.BASELINES["grid"](4)),
    "place": (compress.Method("m", by_global), compress.Method("m", by_global, place="LM 1")),
}  # fmt: skip


@pytest.mark.parametrize("what", DIFFERENT)
def test_what_differs_has_another_checksum(what):
    one, other = DIFFERENT[what]
    assert (
        fingerprint.of(one) == fingerprint.of(one) != fingerprint.of(other) == fingerprint.of(other)
    )


def test_a_function_that_is_made_again_is_the_same():
    assert fingerprint.of(alike(0.5, torch.ones(2))) == fingerprint.of(alike(0.5, torch.ones(2)))
    assert fingerprint.of(compress.by_words(decoder(1), 1)) == fingerprint.of(
        compress.by_words(decoder(1), "rle")
    )
    assert fingerprint.of(alike(0.5)).startswith("alike.<locals>.way ")
    assert fingerprint.of(compress.Method("mine", by_global)).startswith("mine ")


@pytest.mark.parametrize("function", [by_global, helped])
def test_a_global_that_is_read_counts_also_through_another_function(monkeypatch, function):
    before = fingerprint.of(function)
    monkeypatch.setitem(globals(), "SHARE", 0.2)
    assert fingerprint.of(function) != before


def test_a_module_of_ones_own_counts_by_its_file(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    found = []
    for n in (1, 1, 2):
        (tmp_path / "helpers_of_mine.py").write_text(f"def number():\n    return {n}\n")
        sys.modules.pop("helpers_of_mine", None)
        importlib.invalidate_caches()
        mine = importlib.import_module("helpers_of_mine")
        found.append(
            (
                fingerprint.of(alike(mine)),
                fingerprint.of(alike(mine.number)),
                fingerprint.of(mine.number),
            )
        )
    sys.modules.pop("helpers_of_mine")
    assert found[0] == found[1] and not set(found[1]) & set(found[2])


def test_a_function_that_calls_itself_has_an_end():
    def way(n):
        return way(n - 1) if n else 0

    assert fingerprint.of(way) == fingerprint.of(way)


def test_what_a_function_carries_and_what_its_class_does_count():
    before = fingerprint.of(by_global)
    by_global.threshold = 3
    try:
        assert fingerprint.of(by_global) != before
    finally:
        del by_global.threshold
    before, usual = fingerprint.of(alike(Setting(1))), Setting.doubled
    Setting.doubled = property(lambda self: 3 * self.number)
    try:
        assert fingerprint.of(alike(Setting(1))) != before
    finally:
        Setting.doubled = usual
    assert fingerprint.of(alike(Setting(1))) == before


@pytest.mark.parametrize("held", [
    random.Random(0), np.random.default_rng(0), torch.Generator(), iter([1]), {1}.union,
    np.frompyfunc(len, 1, 1),
], ids=lambda held: type(held).__name__)  # fmt: skip
def test_what_may_hide_something_is_refused(held):
    with pytest.raises(ValueError, match="no checksum can tell from another: let it hold numbers"):
        fingerprint.of(alike(held))
