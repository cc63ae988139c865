"""Checks of the chapter on relation vectors."""

from typing import Any

import numpy as np

from ... import relations
from . import array, exercise, expect, number, pair

# what stands left and right, and in front and behind, of a middle that is not zero
MIDDLE = np.array([5.0, 3.0])
CROSS = np.array([[0, 1.0], [0, -1], [-1, 0], [1, 0]]) + MIDDLE
PLACES = ("ViT 6", "LM 0", "LM 4")
FAR = 43  # pixels, as in the controlled sets themselves


@exercise("this score sees which vector is which")
def opposite(opposite: Any, vectors: Any) -> None:
    got = number(opposite(CROSS.copy()), "opposite(four)")
    expect(-1.000001 <= got <= 1.000001, "a mean of cosines lies between −1 and 1")
    expect(
        np.isclose(got, number(opposite(CROSS - MIDDLE))),
        "the middle of the four should not matter: take away their mean vector first",
    )
    neighbours = "these are cosines of vectors at right angles here: which row is which?"
    expect(not np.isclose(got, 0), neighbours)
    expect(np.isclose(got, _by_hand(CROSS)), "two pairs of exact opposites do not get what is due")
    mixed = CROSS[[0, 2, 1, 3]]
    expect(
        np.isclose(number(opposite(mixed)), _by_hand(mixed)),
        "with left and front exchanged, the number is wrong: which row is which?",
    )
    skew = np.array([[0, 1.0], [1, 1], [-1, 0], [1, 0]])
    expect(np.isclose(number(opposite(skew)), _by_hand(skew)), "both cosines count, and equally")
    for name, of_pairs in vectors.items():
        print(f"{name}: {np.mean([opposite(four) for four in of_pairs]):.2f}")


def _by_hand(four):
    found = relations.cosines(relations.centred(four))
    return (found[0, 1] + found[2, 3]) / 2


@exercise("two cosines, each a mean over pairs")
def compare(compare: Any, vectors: Any) -> None:
    several = np.random.default_rng(0).normal(size=(5, 4, 3)) + 1
    both = pair(compare(several.copy()), "compare(vectors)")
    got = array([number(one, "each of the two numbers") for one in both], (2,))
    plain, fair = (relations.cosines(v).mean(0) for v in (several, relations.centred(several)))
    right = [fair[0, 1], fair[2, 3]]
    expect(
        not np.allclose(got, right[::-1]),
        "the two are the other way round: on with under comes first",
    )
    expect(not np.allclose(got, [plain[0, 1], plain[2, 3]]), "they are not centred in each pair")
    over = relations.cosines(several - several.mean(0)).mean(0)
    of_all = "they are centred over all pairs: centre the four of each pair"
    expect(not np.allclose(got, [over[0, 1], over[2, 3]]), of_all)
    expect(np.allclose(got, right), "these are not the means over pairs of the two cosines")
    for name, by_place in vectors.items():
        for place in PLACES:
            vertical, sideways = compare(by_place[place])
            print(f"{name}, {place}: on, under {vertical:.2f}; left, right {sideways:.2f}")


@exercise("a length for each distance")
def ruler(ruler: Any, states: Any) -> None:
    got = number(ruler(FAR), f"ruler({FAR})")
    expect(got > 0, "a length is above zero")
    difference = states[:20, 2, 0] - states[:20, 3, 0]
    everywhere = np.linalg.norm(states[:, 2, 0] - states[:, 3, 0], axis=-1).mean()
    expect(
        len(states) <= 20 or not np.isclose(got, everywhere, rtol=1e-3),
        "this is the mean over all sets: take the first twenty",
    )
    expect(
        not np.isclose(got, np.linalg.norm(difference.mean(0)), rtol=1e-3),
        "this is the length of the mean: lengths come first, then their mean",
    )
    if states.shape[2] > 1:
        of_both = difference - (states[:20, 2, 1] - states[:20, 3, 1])
        expect(
            not np.isclose(got, np.linalg.norm(of_both, axis=-1).mean(), rtol=1e-3),
            "these are relation vectors: take the satellite's states alone",
        )
    expect(
        np.isclose(got, np.linalg.norm(difference, axis=-1).mean(), rtol=1e-3),
        f"at {FAR} pixels the satellite stands where the sets have it, and the states should agree "
        "with theirs",
    )
    lengths = {distance: number(ruler(distance)) for distance in (24, 30, 36, FAR, 48)}
    expect(
        not np.isclose(lengths[24], lengths[48], rtol=1e-6),
        "24 and 48 pixels give the same length: is the distance used?",
    )
    for distance, length in lengths.items():
        print(f"{distance} pixels: {length:.2f}")
