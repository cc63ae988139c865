"""Ours: run lengths and regions of alike neighbours, with as many tokens as one asks for.

Neither reads attention, words or the question: they look at the connector's output alone. Both mean
a token to stand for several, so that they belong with lengths="kept".
"""

from __future__ import annotations

import numpy as np

from ..groups import Keep, Method, number
from .diverse import unit


def runs(keep: Keep) -> Method:
    """A run-length code without words: the picture is read row by row, and a new run begins at the
    `keep` − 1 places where neighbours are least alike (cosine).

    A run may go on into the next row where it has to: that ends of rows come first is what makes it
    keep to them, as far as there are enough tokens.
    """

    def choose(sight):
        tokens, kept = unit(sight.tokens).numpy(), number(keep, sight)
        alike = np.r_[-np.inf, (tokens[1:] * tokens[:-1]).sum(1)]
        ends = np.arange(len(tokens)) % sight.grid[1] == 0
        if kept >= sight.grid[0]:
            alike[ends] = -np.inf
        starts = np.zeros(len(tokens), bool)
        starts[np.argsort(alike, kind="stable")[:kept]] = True
        return starts.cumsum() - 1

    return Method("runs", choose)


def regions(keep: Keep) -> Method:
    """Regions of alike neighbours: the two that touch, and whose joining adds least to the squared
    distance of tokens from their region's mean (Ward 1963), join, until `keep` are left."""

    def choose(sight):
        (rows, columns), kept = sight.grid, number(keep, sight)
        means, n = unit(sight.tokens).numpy(), len(sight.tokens)
        at = np.arange(n).reshape(rows, columns)
        pairs = np.r_[
            np.c_[at[:, :-1].ravel(), at[:, 1:].ravel()], np.c_[at[:-1].ravel(), at[1:].ravel()]
        ]
        sizes, owner = np.ones(n), np.arange(n)
        for _ in range(n - kept):
            a, b = pairs.T
            apart = (
                ((means[a] - means[b]) ** 2).sum(1) * sizes[a] * sizes[b] / (sizes[a] + sizes[b])
            )
            keeps, goes = pairs[np.argmin(apart)]
            both = sizes[keeps] + sizes[goes]
            means[keeps] = (sizes[keeps] * means[keeps] + sizes[goes] * means[goes]) / both
            sizes[keeps], owner[owner == goes] = both, keeps
            pairs[pairs == goes] = keeps
            pairs = pairs[pairs[:, 0] != pairs[:, 1]]
        return owner

    return Method("regions", choose)
