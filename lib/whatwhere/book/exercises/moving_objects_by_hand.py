"""Checks of the chapter on interventions."""

from typing import Any

import numpy as np
import torch

from ... import world
from . import array, exercise, expect, number

PATCH = world.SIZE / 16  # pixels, of toy-qwen2vl's ViT
RISES = ([0, 1, 2], [0.0, 0.0, 1.0], 1.5)
NEVER = ([0, 1, 2], [0.1, 0.2, 0.3], None)
RETURNS = ([0, 1, 2, 3, 4], [0.0, 0.6, 0.2, 0.1, 0.1], 5 / 6)
ANEW = ([0, 1, 2, 3], [0.0, 0.8, 0.2, 0.9], 5 / 8)
AT_ONCE = ([1, 2], [0.7, 0.9], 1)


@exercise("half of the answers, on the line between two doses")
def enough(enough: Any, sizes: Any, curves: Any) -> None:
    expect(enough(*NEVER[:2]) is None, "where half is never reached, it should be None")
    cases = (
        (RISES, "the doses 0, 1, 2 with shares 0, 0, 1 give another one on the straight line"),
        (RETURNS, "where the share falls again, the first time that half is reached counts"),
        (ANEW, "where half is reached twice, the first time counts"),
        (AT_ONCE, "where the first dose is enough already, it is that dose"),
    )
    for (doses, flipped, due), sentence in cases:
        found = enough(list(doses), list(flipped))
        expect(abs(number(found, "the dose") - due) < 1e-9, sentence)
    for name, flipped in curves.items():
        found = enough(sizes, flipped)
        print(f"{name}:", "never half" if found is None else f"{number(found):.2f}")


@exercise("the answer follows")
def nucleus_steps(nucleus_steps: Any, sets: Any, share_that_follows: Any) -> None:
    shape = (len(sets), 2)
    found = {}
    for start in world.RELATIONS_B:
        for end in world.RELATIONS_B:
            if start != end:
                what = f"nucleus_steps({start!r}, {end!r})"
                found[start, end] = array(nucleus_steps(start, end), shape, what)
    sideways, vertical = found["left", "right"], found["front", "behind"]
    expect(
        not (_still(sideways[:, 1]) and _still(vertical[:, 0])),
        "rows and columns are the other way round: a step is (rows, columns)",
    )
    expect(
        _still(sideways[:, 0]),
        "from left to right no row changes",
    )
    for (start, end), steps in found.items():
        due = _displacement(sets, end) - _displacement(sets, start)
        expect(
            not np.allclose(steps, due, atol=0.02),
            f"from {start} to {end} these are the satellite's steps; here it stays where it is",
        )
        far = np.abs(steps + due).max() < 1
        expect(far, f"from {start} to {end} the two things are not displaced as they should be")
    mean = np.mean([share_that_follows(steps, *pair) for pair, steps in found.items()])
    expect(mean > 0.8, "too few of the answers follow")
    print(f"{mean:.0%} of the answers follow")


def _still(steps):
    return (np.abs(steps) < 0.02).all()


def _displacement(sets, relation):
    """(sets, 2) rows and columns in patches, from the nucleus to the satellite."""
    rows = []
    for one in sets:
        satellite, nucleus = one.scenes[relation].things
        rows.append((satellite.y - nucleus.y, satellite.x - nucleus.x))
    return np.array(rows) / PATCH


@exercise("positions are exchanged inside, and put back")
def shuffled_lm(shuffled_lm: Any, vlm: Any, scene: Any, share_right: Any) -> None:
    question = world.relation_question(scene, 0, 1)
    asked = scene.image, question.text if question else ""
    index = vlm.positions(scene.image).index
    before, given = vlm.logits(*asked), []

    def note(module, args, named):
        given.append([each.clone() for each in named["position_embeddings"]])

    handle = vlm.lm_layers[0].register_forward_pre_hook(note, with_kwargs=True)
    try:
        with shuffled_lm(vlm):
            vlm.logits(*asked)
        after = vlm.logits(*asked)
    finally:
        handle.remove()
    expect(torch.equal(after, before), "afterwards all should be as it was before")
    (inside, _), (outside, _) = given
    other = (inside != outside).any(-1).reshape(-1, len(before)).any(0)
    expect(other.any(), "inside, every token still has its own position")
    moved = other[index].float().mean()
    expect(moved > 0.9, "inside, most visual tokens should have another position")
    expect(other.sum() == other[index].sum(), "words should keep their positions")
    same = torch.equal(_sorted(inside, index), _sorted(outside, index))
    expect(same, "visual tokens should have each other's positions, and no new ones")
    print(f"{share_right([shuffled_lm(vlm)]):.0%} of the relations are right")


def _sorted(cosines, index):
    """The positions of some tokens, in an order of their own."""
    rows = cosines.reshape(-1, cosines.shape[-2], cosines.shape[-1])[:, index]
    return torch.stack([each[torch.from_numpy(np.lexsort(each.numpy().T))] for each in rows])
