"""Checks of the chapter in which runs of equal words go on as one token."""

from typing import Any

import numpy as np
import torch

from ... import answers, compress
from . import array, exercise, expect


@exercise("every line of the page comes back")
def unfolded(unfolded: Any, page: Any) -> Any:
    def of(code):
        found = unfolded(code)
        expect(found is not None, "unfolded(code) is None: is there a return at the end?")
        expect(not isinstance(found, str), "the line should be a list of words, not one text")
        return [str(word) for word in found]

    expect(of([]) == [], "an empty code is an empty line")
    for line in [["a"], ["b", "b", "a", "b"], *np.asarray(page).astype(str).tolist()]:
        starts = [n for n, word in enumerate(line) if n == 0 or line[n - 1] != word]
        ends = [*starts[1:], len(line)]
        found = of([[line[start], end - start] for start, end in zip(starts, ends)])
        expect(len(found) == len(line), f"a line of {len(line)} words comes back with {len(found)}")
        expect(found == line, "a line comes back with its words in other places")


def _numbers(groups, tokens, grid, *more):
    """The groups of tokens (rows × columns, hidden), on their grid."""
    found = groups(compress.Sight(tokens, grid), *more)
    found = array(found, (len(tokens),), "what you return")
    expect((found == np.round(found)).all(), "what you return should be whole numbers")
    expect((found >= 0).all(), "numbers below zero drop tokens; here all are kept")
    return found.reshape(grid)


@exercise("runs go down, and tokens keep their order")
def columns(columns: Any, vlm: Any, decoder: Any) -> None:
    simple = compress.Decoder(torch.eye(4), np.array(["red", "mug", "wood", "."], object))
    labels = np.array([[0, 1, 1], [0, 1, 2], [3, 1, 2], [0, 1, 2]])
    found = _numbers(columns, torch.eye(4)[labels.ravel()], labels.shape, simple)
    # right, but numbered down each column as if it were a row
    listed = found.reshape(labels.T.shape).T
    turned = np.array_equal(listed[1:] == listed[:-1], labels[1:] == labels[:-1])
    expect(
        not turned or (listed[:, 1:] == listed[:, :-1]).any(),
        "the numbers come column by column; raster order goes row by row",
    )
    down = (found[1:] == found[:-1]) == (labels[1:] == labels[:-1])
    across = (found[:, 1:] == found[:, :-1]).any()
    expect(
        not across or down.all(), "it joins along rows (rows and columns are the other way round)"
    )
    expect(
        down.all(),
        "two that lie one above the other go on as one if, and only if, their words are equal",
    )
    expect(not across, "tokens of different columns never go on as one")
    expect(len(np.unique(found)) == 6, "equal words that do not touch should not go on as one")
    with compress.compressed(vlm, lambda sight: columns(sight, decoder)) as log:
        vlm.answer(np.zeros((144, 144, 3), np.uint8), "how many ?", max_new_tokens=1)
    expect(0 < log.removed < 1, "in the model it removes nothing, or everything")


@exercise("like tokens go on as one, and signs can still be read")
def alike(alike: Any, exam: Any) -> None:
    tokens = torch.tensor([[1.0, 0], [1, 0.1], [0, 1], [0, 0.5], [0, 1], [1, 0]])
    found = _numbers(alike, tokens, (2, 3), 0.9).ravel()
    expect(found[0] == found[1] != found[2], "in the first row, the first two are alike")
    expect(found[3] == found[4] != found[5], "how long a vector is should not matter")
    expect(found[2] != found[3], "a run ends where its row ends")
    fan = torch.tensor([[1.0, 0], [1, 0.3], [1, 0.7]])
    found = _numbers(alike, fan, (1, 3), 0.9)
    expect((found == found[0, 0]).all(), "each token is to be held against its neighbour only")
    found = _numbers(alike, fan, (1, 3), 0.99)
    expect(len(np.unique(found)) == 3, "at a threshold of 0.99, no two of these are alike")
    turned = torch.tensor([[1.0, 0], [-1, 0]])
    found = _numbers(alike, turned, (1, 2), 0.9)
    expect(found[0, 0] != found[0, 1], "opposite vectors are not alike")
    with compress.compressed(exam.vlm, lambda sight: alike(sight, 0.9), lengths="kept") as log:
        right = exam.tally()
    reading = answers.accuracy(right, exam.counts, [3])
    print(f"at 0.9: {log.removed:.0%} of the tokens removed, {reading:.0%} of the signs read")
    expect(log.removed > 0.5, "at a threshold of 0.9 more than half of the tokens should go")
    expect(reading > 0.9, "at a threshold of 0.9, with lengths kept, signs should still be read")
