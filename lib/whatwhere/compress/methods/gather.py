"""Ours: what a method drops joins what it keeps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..groups import Keep, Merge, Method
from .diverse import divprune, unit


def gathered(method: Method) -> Method:
    """The same method, but that no token is dropped: each joins the one that stays and is most
    alike (cosine), which goes on as the mean of all of these, in its own place.

    With lengths="kept" each then counts for as many as have joined it: a code in which nothing is
    forgotten but the differences within a group. As many tokens go on as before.
    """

    def choose(sight):
        made = method(sight)
        made = made if isinstance(made, Merge) else Merge(made)
        groups = np.array(made.groups)
        stay, gone = np.flatnonzero(groups >= 0), np.flatnonzero(groups < 0)
        if not len(stay) or not len(gone):
            return made
        tokens = unit(sight.tokens)
        nearest = (tokens[gone] @ tokens[stay].T).argmax(1).numpy()
        groups[gone] = groups[stay[nearest]]
        centres = np.isin(np.arange(len(groups)), stay) if made.centres is None else made.centres
        return Merge(groups, made.weights, centres)

    return replace(method, name=f"{method.name}, gathered", groups=choose)


def gather(keep: Keep) -> Method:
    """DivPrune's tokens, and all others gathered by them. It belongs with lengths="kept".

    Tokens that are far from each other make good middles of groups, as in the clustering of
    Gonzalez (1985), which takes them in the same order. Chosen among a few of its kind on
    development scenes.
    """
    return replace(gathered(divprune(keep)), name="gather")
