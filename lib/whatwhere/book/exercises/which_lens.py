"""Checks of the chapter in which six lenses are compared."""

from typing import Any

import numpy as np
import torch

from ... import lens, stages
from . import exercise, expect, number

LAYER = 4  # the LM layer whose states exercise 2 reads


@exercise("directions count, and lengths do not")
def nearest(nearest: Any, bank: Any, states: Any) -> None:
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [9.0, 9.0], [-1.0, 0.0]])
    few = torch.tensor([[5.0, 0.5], [0.1, 0.2], [0.0, 8.0]])
    names = ["right", "up", "slanting", "left"]
    _same(nearest(few, rows, names), few, rows, names)
    labels = [bank.words[n] for n in bank.ids]
    hidden = states[2][:2].flatten(0, 1)
    _same(nearest(hidden, bank.states[2], labels), hidden, bank.states[2], labels)


def _same(got, states, bank, labels):
    expect(got is not None, "nearest(…) is None: is there a return at the end?")
    got = [str(label) for label in got]
    turned = " (one for each row of the bank?)" if len(got) == len(bank) else ""
    expect(
        len(got) == len(states),
        f"there is a label for each of {len(states)} states; you have {len(got)}{turned}",
    )
    unknown = set(got) - {str(label) for label in labels}
    expect(not unknown, f"the list holds labels; {min(unknown, default='')!r} is none")
    a, b = states.double().numpy(), bank.double().numpy()
    lengths = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)
    cosines = (a @ b.T) / np.maximum(lengths, 1e-12)
    # as good as the best: rows may be equally near
    best_of = {label: cosines[:, np.array(labels) == label].max(1) for label in set(labels)}
    missed = [n for n, label in enumerate(got) if best_of[label][n] < cosines[n].max() - 1e-5]
    expect(
        not missed,
        f"{len(missed)} of {len(states)} labels are not those of the largest cosine; the first "
        f"is {got[missed[0]]!r}"
        if missed
        else "",
    )


def _on_topic(read, scenes, states):
    """The share of object patches that say an own word of their object."""
    grid = read.vlm.patch_grid(scenes[0].image)
    words = read.read(states[LAYER], LAYER, top_k=1).words[..., 0]
    hits = count = 0
    for scene, said in zip(scenes, words):
        for word, owner in zip(said, stages.owners(scene, grid).ravel()):
            count += owner >= 0
            hits += owner >= 0 and word in scene.things[owner].words
    return hits / count


@exercise("states of one layer, neighbours from all of them")
def merged(merged: Any, vlm: Any, bank: Any, scenes: Any, states: Any) -> None:
    got = number(merged("toy-llava"), "merged('toy-llava')")
    expect(0 <= got <= 1, f"a rate lies between 0 and 1; you have {got:.3g}")
    alone = _on_topic(lens.ContextualLens(vlm, bank), scenes, states)
    whole = _on_topic(lens.ContextualLens(vlm, bank, against=bank.layers), scenes, states)
    if abs(got - whole) > 1e-3:
        expect(abs(got - alone) > 1e-3, f"{got:.1%} compares layer {LAYER} with itself alone")
        expect(False, f"{got:.1%} is another rate: which layer, which scenes and which bank?")
    print(f"all layers: {got:.1%}; layer {LAYER} alone: {alone:.1%}")


@exercise("all patches count, those of the background included")
def idle(idle: Any, models: Any, states: Any, content: Any) -> None:
    for name, layer in (("toy-llava", 4), ("toy-qwen2vl", 0)):
        read = lens.LogitLens(models[name]).read(states[name][layer], layer, 1)
        share = 1 - np.isin(read.words.astype(str), content).mean()
        got = number(idle(name, layer), f"idle({name!r}, {layer})")
        expect(0 <= got <= 1, f"a share lies between 0 and 1; you have {got:.3g}")
        off = abs(got - share) > 1e-6
        turned = (
            " (are those the patches whose word *is* one?)" if abs(1 - got - share) < 1e-6 else ""
        )
        expect(not off, f"idle({name!r}, {layer}) is another share than {got:.1%}{turned}")
        print(f"{name}, layer {layer}: {got:.0%} say no content word")
