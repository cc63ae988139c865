"""Relation vectors of controlled sets, and how they lie to each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .. import geometry
from ..scenes import OPPOSITE
from .sets import ControlledSet, names, table, usable

if TYPE_CHECKING:
    from ..models import VLM


def states(
    vlm: VLM, sets: Sequence[ControlledSet], about: Sequence[int] = (0, 1)
) -> dict[str, np.ndarray]:
    """{place: (sets, relations, things, features)}: `geometry.thing_vectors` of controlled sets.

    The relation vector of the paper is satellite less nucleus: `of[:, :, 0] - of[:, :, 1]`.
    """
    relations = names(sets)
    scenes = [each.scenes[relation] for each in sets for relation in relations]
    return {
        place: of.reshape(len(sets), len(relations), *of.shape[1:])
        for place, of in geometry.thing_vectors(vlm, scenes, about).items()
    }


def cosines(vectors: np.ndarray) -> np.ndarray:
    """(…, relations, relations) cosines between the vectors (…, relations, features) of one set.

    Raises:
        ValueError: for a vector without length.
    """
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    if not (lengths > 0).all():
        raise ValueError(
            "A vector without length has no cosine: are the pictures of some set all the same?"
        )
    unit = vectors / lengths
    return unit @ unit.swapaxes(-1, -2)


def centred(vectors: np.ndarray) -> np.ndarray:
    """Vectors (…, relations, features) less their mean over the relations of a set.

    The cosines of four that are equally long are −1/3 on average then, whatever they hold.
    """
    return vectors - vectors.mean(-2, keepdims=True)


def permuted(vectors: np.ndarray, seed: int) -> np.ndarray:
    """Vectors (sets, relations, …) of which each set's are dealt out to the relations at random."""
    order = np.tile(np.arange(vectors.shape[1]), (len(vectors), 1))
    order = np.random.default_rng(seed).permuted(order, axis=1)
    return vectors[np.arange(len(vectors))[:, None], order]


def null(
    measure: Callable[[np.ndarray], Any], vectors: np.ndarray, permutations: int = 50
) -> np.ndarray:
    """What `measure(vectors)` gives where relations mean nothing: its mean over permutations of the
    relations within each set (`permuted`)."""
    return np.mean([measure(permuted(vectors, seed)) for seed in range(permutations)], 0)


def cosine_of_axes(vectors: np.ndarray, one: Sequence[int], other: Sequence[int]) -> np.ndarray:
    """(sets,) cosines of two differences of relations, by index: with `one` (a, b) and `other`
    (c, d) those of a − b and c − d."""
    (a, b), (c, d) = one, other
    differences = [vectors[:, a] - vectors[:, b], vectors[:, c] - vectors[:, d]]
    return cosines(np.stack(differences, 1))[:, 0, 1]


def geometry_score(vectors: np.ndarray) -> np.ndarray:
    """(…,) the "visual geometry score" of the paper's code, of the vectors (…, relations, features)
    of each set.

    1 / (1 + ½ ‖Σ û‖²), where û are the centred vectors at unit length. (The code first projects
    them on three principal components; four centred vectors have no more.) It cannot fail: centred
    vectors of equal length sum to zero whatever they hold, so that random ones score next to 1, and
    it does not see which vector is whose.
    """
    vectors = centred(vectors)
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    if not (lengths > 0).all():
        raise ValueError("A vector that is the mean of its set has no direction to score.")
    return 1 / (1 + 0.5 * ((vectors / lengths).sum(-2) ** 2).sum(-1))


def similarities(vlm: VLM, sets: Iterable[ControlledSet]) -> pd.DataFrame:
    """How relation vectors lie to each other at each place of the model, with what comes out where
    there is nothing to find.

    Returns:
        set, place, measure, value and null. For each two relations the measures "left, right" (the
        cosine as the vectors are) and "left, right, centred": their null is the mean over all ways
        to deal out the set's vectors to its relations. For each two pairs of opposites "behind −
        front, left − right", the cosine of the two axes: its null puts the axes together wrongly.
        "score", `geometry_score`: its null is of random vectors of as many features.
    """
    kept, left_out = usable(vlm, sets)
    relations, rows = names(list(kept.values())), []
    index = {relation: n for n, relation in enumerate(relations)}
    axes = [(r, OPPOSITE[r]) for r in relations if index[r] < index[OPPOSITE[r]]]
    rng = np.random.default_rng(0)
    for place, both in states(vlm, list(kept.values())).items():
        vectors = (both[:, :, 0] - both[:, :, 1]).astype(np.float64)
        measures = {}
        for suffix, of in ("", vectors), (", centred", centred(vectors)):
            of_all = cosines(of)
            two = list(combinations(range(len(relations)), 2))
            by_chance = np.mean([of_all[:, a, b] for a, b in two], 0)
            for a, b in two:
                measures[f"{relations[a]}, {relations[b]}{suffix}"] = of_all[:, a, b], by_chance
        for (a, b), (c, d) in combinations(axes, 2):
            measures[f"{a} − {b}, {c} − {d}"] = [
                cosine_of_axes(vectors, [index[r] for r in one], [index[r] for r in other])
                for one, other in (((a, b), (c, d)), ((a, d), (b, c)))
            ]
        random = rng.normal(size=vectors.shape)
        measures["score"] = geometry_score(vectors), geometry_score(random)
        rows += [
            pd.DataFrame(
                {"set": list(kept), "place": place, "measure": name, "value": value, "null": chance}
            )
            for name, (value, chance) in measures.items()
        ]
    return table(rows, left_out)
