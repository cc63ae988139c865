"""The checks of chapter "More attention to rows …": right answers pass, plausible wrong ones are
refused with a sentence that does not give the answer away."""

import numpy as np
import pandas as pd
import pytest

from whatwhere.book.exercises import axis_attention as checks

TERMS, AXIS = np.arange(1.0, 7.0), np.array([0, 0, 0, 1, 1, 1])
THETA = np.array([1.0, 0.2, 0.05])
TABLE = pd.DataFrame({"block": [1, 2, 1, 2], "rows": [1.0, 8, 3, 4], "columns": [2.0, 2, 2, 2]})


def refused(outcome, *values):
    assert not outcome and str(outcome).startswith("✗ not yet: "), outcome
    for value in values:
        assert value not in str(outcome), outcome
    return str(outcome)


def split(terms, axis):
    return terms[axis == 0].sum(), terms[axis == 1].sum()


def test_split(capsys):
    assert checks.split(split, TERMS, AXIS)
    assert "rows 6.00, columns 15.00" in capsys.readouterr().out
    other_way = refused(checks.split(lambda t, a: split(t, a)[::-1], TERMS, AXIS))
    assert "the other way round" in other_way
    halves = refused(checks.split(lambda t, a: (t[:3].sum(), t[3:].sum()), TERMS, AXIS))
    assert "mixed" in halves
    refused(checks.split(lambda t, a: (t[a == 0], t[a == 1]), TERMS, AXIS))
    refused(checks.split(lambda t, a: (t[a == 0].mean(), t[a == 1].mean()), TERMS, AXIS))
    refused(checks.split(lambda t, a: t.sum(), TERMS, AXIS), "363")


def by_itself(theta, rows, columns):
    return np.cos(theta * rows).sum() / np.cos(theta * columns).sum()


def test_by_itself(capsys):
    assert checks.by_itself(by_itself, THETA)
    assert capsys.readouterr().out.count("apart: ") == 5


@pytest.mark.parametrize(
    "wrong",
    [
        lambda theta, rows, columns: by_itself(theta, columns, rows),
        lambda theta, rows, columns: np.mean(np.cos(theta * rows) / np.cos(theta * columns)),
        lambda theta, rows, columns: (
            np.sin(theta * (rows + 1)).sum() / np.sin(theta * (columns + 1)).sum()
        ),
        lambda theta, rows, columns: np.cos(theta * rows) / np.cos(theta * columns),
        lambda theta, rows, columns: np.cos(theta.sum() * rows) / np.cos(theta.sum() * columns),
        lambda theta, rows, columns: 1.0,
    ],
)
def test_another_ratio_is_refused(wrong):
    right = by_itself(np.array([0.5, 0.3, 0.02]), 1, 4)
    refused(checks.by_itself(wrong, THETA), "cos", f"{right:.2f}", f"{1 / right:.2f}")


def without(logits, block):
    kept = logits[logits["block"] != block]
    return kept["rows"].sum() / kept["columns"].sum()


def test_without(capsys):
    assert checks.without(without, {"left, right": TABLE})
    assert "without block 1: 3.00, 2: 1.00" in capsys.readouterr().out
    turned = refused(checks.without(lambda t, b: 1 / without(t, b), {}))
    assert "upside down" in turned
    first = refused(checks.without(lambda t, b: without(t, b - 1), {}))
    assert "another block" in first
    alone = refused(checks.without(lambda t, b: without(t, 1) * 0 + 70 / 15, {}))
    assert "alone" in alone
    every = refused(checks.without(lambda t, b: t["rows"].sum() / t["columns"].sum(), {}))
    assert "no block is left out" in every

    def mean_of_ratios(table, block):
        kept = table[table["block"] != block]
        return (kept["rows"] / kept["columns"]).mean()

    assert "add up first" in refused(checks.without(mean_of_ratios, {}))
    refused(checks.without(lambda t, b: t, {}))
    for wrong in (lambda t, b: without(t, 3), lambda t, b: without(t[t["block"] <= b], b)):
        assert "block 2 and no other" in refused(checks.without(wrong, {}))
