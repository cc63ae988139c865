"""Checks of the chapter on axis attention."""

from typing import Any

import numpy as np
import pandas as pd

from . import array, exercise, expect, number, pair

# which axis turns which pair where they are mixed, as in some models
MIXED = np.array([1, 0, 0, 1, 0, 1])


@exercise("two parts, and together they are the logit")
def split(split: Any, terms: Any, axis: Any) -> None:
    own = np.array([1.0, 20.0, -3.0, 400.0, 5.0, -60.0])
    both = pair(split(own.copy(), MIXED.copy()), "split(terms, axis)")
    got = array([number(one, "each of the two parts") for one in both], (2,))
    expect(np.isclose(got.sum(), own.sum()), "together they are not the whole logit")
    right = np.array([own[MIXED == 0].sum(), own[MIXED == 1].sum()])
    expect(
        not np.allclose(got, right[::-1]),
        "the two are the other way round: the rows' part comes first",
    )
    expect(
        not np.allclose(got, [own[:3].sum(), own[3:].sum()]),
        "this takes the first half of the pairs for the rows'; here the axes are mixed",
    )
    expect(np.allclose(got, right), "some pair counts for the axis that does not turn it")
    rows, columns = split(terms, axis)
    print(f"block 4, head 2, foot to foot: rows {rows:.2f}, columns {columns:.2f}")


@exercise("a ratio without any preference")
def by_itself(by_itself: Any, theta: Any) -> None:
    own = np.array([0.5, 0.3, 0.02])
    still = number(by_itself(own.copy(), 0, 0), "by_itself(theta, 0, 0)")
    expect(np.isclose(still, 1), "with no displacement both axes give the same")
    got = number(by_itself(own.copy(), 1, 4), "by_itself(theta, 1, 4)")
    other = number(by_itself(own.copy(), 4, 1), "by_itself(theta, 4, 1)")
    expect(
        np.isclose(got * other, 1), "with rows and columns exchanged, the ratio should turn over"
    )
    right = np.cos(own * 1).sum() / np.cos(own * 4).sum()
    expect(not np.isclose(other, right), "it is upside down: Y is above the line, X below")
    expect(
        not np.isclose(got, np.mean(np.cos(own * 1) / np.cos(own * 4))),
        "a ratio of two sums is asked for, and not a mean of ratios",
    )
    expect(np.isclose(got, right), "some pair does not give what the text says")
    for rows, columns in ((0, 0), (0, 3), (0, 5), (3, 0), (5, 0)):
        ratio = by_itself(theta, rows, columns)
        print(f"{rows} rows and {columns} columns apart: {ratio:.2f}")


@exercise("a ratio of sums over the other blocks")
def without(without: Any, logits: Any) -> None:
    own = pd.DataFrame(
        {
            "block": [1, 2, 3, 1, 2, 3],
            "rows": [1.0, 5.0, 30.0, 2.0, 7.0, 40.0],
            "columns": [2.0, 3.0, 10.0, 3.0, 4.0, 5.0],
        }
    )
    got = number(without(own.copy(), 3), "without(logits, 3)")
    rest = own[own["block"] != 3]
    right = rest["rows"].sum() / rest["columns"].sum()
    expect(np.isfinite(got) and got > 0, "all parts of the example are above zero, and so is this")
    expect(not np.isclose(got, own["rows"].sum() / own["columns"].sum()), "no block is left out")
    alone = own[own["block"] == 3]
    expect(
        not np.isclose(got, alone["rows"].sum() / alone["columns"].sum()),
        "this is the one block alone, and not all others",
    )
    expect(
        not np.isclose(got, (rest["rows"] / rest["columns"]).mean()),
        "add up first, and then divide",
    )
    expect(not np.isclose(got, 1 / right), "it is upside down: Y is above the line, X below")
    expect(np.isclose(got, right), "another block is left out, or something else is added up")
    rest = own[own["block"] != 2]
    expect(
        np.isclose(number(without(own.copy(), 2)), rest["rows"].sum() / rest["columns"].sum()),
        "without(logits, 2) should leave out block 2 and no other",
    )
    for displaced, table in logits.items():
        found = {block: without(table, block) for block in sorted(set(table["block"]))}
        said = ", ".join(f"{block}: {ratio:.2f}" for block, ratio in found.items())
        print(f"{displaced}, without block {said}")
