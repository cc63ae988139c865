"""What the patches of two things hold about where they are, learnt from pairs of things as in
chapters 12 and 14, for the live figures.

    notes.step("toy-llava", "LM 0", "left", "right")   # (2, features): of satellite and nucleus
    notes.told("toy-llava", "LM 0", vector)            # {"behind": score, …} of a relation vector
"""

from __future__ import annotations

import json
from functools import cache

import numpy as np

from ... import geometry, loading, relations, world

PAIRS = 50  # development pairs of kind B


@cache
def learnt(name: str) -> dict[str, np.ndarray]:
    """{place: (2, 4, features)}: of satellite and nucleus the mean state in each relation (behind,
    front, left, right), less the mean over the four relations of the same pair."""
    return {place: v - v.mean(1, keepdims=True) for place, v in _means(name).items()}


@cache
def middles(name: str) -> dict[str, np.ndarray]:
    """{place: (features,)}: the mean relation vector, satellite less nucleus, of all pictures."""
    return {place: (v[0] - v[1]).mean(0) for place, v in _means(name).items()}


@cache
def _means(name):
    vlm = loading.load(name, device="cpu", dtype="float32")
    sets = geometry.pairs(vlm, world.controlled("B", 10 * PAIRS, split="dev"), PAIRS)
    # (pairs, relations, things, features): what is linear in the pairs needs their mean alone
    found = relations.states(vlm, sets)
    return {place: v.mean(0, dtype=np.float64).swapaxes(0, 1) for place, v in found.items()}


def step(name: str, place: str, start: str, end: str) -> np.ndarray:
    """(2, features): what is added to the satellite's patches, and to the nucleus', at dose 1."""
    order = world.RELATIONS_B.index
    found = learnt(name)[place]
    return found[:, order(end)] - found[:, order(start)]


def told(name: str, place: str, vector: np.ndarray) -> dict[str, float]:
    """{relation: cosine} of a relation vector (features,), less the mean of all, with the mean
    vector of each relation."""
    directions = learnt(name)[place][0] - learnt(name)[place][1]
    vector = np.asarray(vector, np.float64) - middles(name)[place]
    lengths = np.linalg.norm(directions, axis=-1) * np.linalg.norm(vector)
    return dict(zip(world.RELATIONS_B, (directions @ vector / lengths).tolist()))


def script(name: str) -> str:
    """The notes as a script that sets `whatwhereNotes[name]`: {relations, places: {place: {middle,
    satellite, nucleus}}}, in six digits."""
    places = {
        place: {
            "middle": _short(middles(name)[place]),
            "satellite": _short(found[0]),
            "nucleus": _short(found[1]),
        }
        for place, found in learnt(name).items()
    }
    about = json.dumps({"relations": list(world.RELATIONS_B), "places": places})
    return (
        "globalThis.whatwhereNotes = globalThis.whatwhereNotes || {};\n"
        f"globalThis.whatwhereNotes[{json.dumps(name)}] = {about};\n"
    )


def _short(values):
    return json.loads(
        json.dumps(values.tolist()), parse_float=lambda text: float(f"{float(text):.6g}")
    )
