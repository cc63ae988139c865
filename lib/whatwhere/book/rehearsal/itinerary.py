"""Every chapter's calls, once each, on one model: what works on it, and what it says of what does
not."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from ... import (
    answers,
    benchmarks,
    compress,
    geometry,
    images,
    intervene,
    lens,
    rope,
    stages,
    world,
)
from ...types import ImageLike

if TYPE_CHECKING:
    from ...models import VLM

FEW, KINDS = 3, {"attributes": ["colour", "texture"]}  # scenes, and questions about them


def tour(vlm: VLM, picture: ImageLike, question: str = "what is this ?") -> pd.DataFrame:
    """A DataFrame with a row for each kind of call: its chapter, and "yes" or the sentence with
    which it was refused.

    It runs the model a few hundred times: on a picture that may be anything `images.read` takes,
    and, where truth about a picture is needed, on scenes of the organisms' world. Only a ValueError
    counts as a refusal; any other error is raised. What the answers are worth is not looked at: see
    each family's parity tests.
    """
    picture, scenes, asked = (
        images.read(picture),
        list(world.scenes("test", FEW)),
        world.words_of("category"),
    )
    probes = [world.gestalt.apart(world.gestalt.lone(seed), 12) for seed in range(FEW)]
    rows, columns = vlm.patch_grid(picture)
    one = np.zeros((rows, columns), bool)
    one[0, 0] = True
    # the same place on the ViT's own grid
    fine = one.repeat(vlm.adapter.merge, 0).repeat(vlm.adapter.merge, 1)
    decoder = compress.distil(vlm, compress.lessons(vlm, [picture], progress=False), epochs=1)

    def answered(change):
        with change:
            vlm.answer(picture, question, max_new_tokens=2)

    def pair():
        """A scene of two things, both with patches of their own, the one's as masks in the ViT and
        as visual tokens."""
        scene = geometry.pairs(vlm, world.controlled("B", 10), 1)[0].scenes["left"]
        return (
            scene,
            geometry.patches(vlm, [scene], 0, "ViT 0"),
            geometry.patches(vlm, [scene], 0, "LM 0"),
        )

    def asking(scene):
        """Where the one thing is relative to the other: in a controlled set it always has a clear
        place."""
        asked_of = world.relation_question(scene, 0, 1)
        assert asked_of is not None
        return asked_of.text

    def where(scene, masks):
        """How the answer to a question depends on the row and column of the masked patches."""
        geometry.axis_sensitivity(vlm, [scene.image], [asking(scene)], ["left"], ["right"], masks)

    def exchanged(scene, masks):
        """One thing's visual tokens replaced by the mean of the other's, and what is likely to be
        answered then."""
        vectors = geometry.thing_vectors(vlm, [scene])["LM 0"][:, 1]
        inputs = vlm.prepare([scene.image], [asking(scene)])
        with intervene.replaced(vlm, masks, vectors, layer=0):
            answers.chances(vlm, inputs, ("left", "right"))

    def overlap():
        return stages.overlap(stages.segments(mapped(), scenes), scenes, vlm)

    def by_axis(rotary, heads):
        geometry.axis_attention(rotary(vlm), heads, [0], range(len(heads.at)))

    def mapped(**how):
        return stages.read(vlm, scenes, **how)

    width = vlm.unembedding.weight.shape[1]
    calls = {
        (1, "answers a question"): lambda: vlm.answer(picture, question, max_new_tokens=2),
        (1, "answers to questions about scenes, right or wrong"): lambda: answers.Exam.on(
            vlm, scenes, KINDS
        ).tally(),
        (2, "token maps, at every depth"): lambda: lens.token_maps(vlm, picture),
        (2, "token maps, at every depth and layer"): lambda: lens.explore(vlm, picture),
        (4, "the ViT's states, at every depth"): lambda: vlm.vit_states(picture),
        (4, "words counted, on things and beside them"): lambda: stages.counts(mapped(), scenes),
        (4, "things found by their words, against their masks"): overlap,
        (4, "is it there? by the words of a map"): lambda: stages.existence(
            mapped(asked=asked), scenes
        ),
        (4, "what a linear probe learns from"): lambda: stages.labelled(vlm, scenes),
        (4, "words of a thing that is torn apart"): lambda: stages.says(
            vlm, probes, "shown", lambda thing: thing.words
        ),
        (5, "a visual decoder"): lambda: lens.token_maps(
            vlm, picture, lens=lens.DecoderLens(vlm, decoder)
        ),
        (6, "compression, by words"): lambda: [
            answered(compress.compressed(vlm, n, decoder)) for n in (1, 2, 3)
        ],
        (6, "compression, the baselines"): lambda: [
            answered(compress.compressed(vlm, b, keep=0.5)) for b in compress.BASELINES
        ],
        (8, "patches moved elsewhere"): lambda: answered(
            intervene.moved(vlm, fine, (0, 1 if columns > 1 else 0))
        ),
        (11, "queries and keys of the ViT's 2-D RoPE"): lambda: by_axis(
            rope.vision, rope.heads(vlm, picture)
        ),
        (11, "queries and keys of the language model"): lambda: by_axis(
            rope.language, rope.language_heads(vlm, picture, question)
        ),
        (12, "states at every place"): lambda: list(geometry.states(vlm, [picture])),
        (12, "things' vectors, by object masks"): lambda: geometry.thing_vectors(vlm, [pair()[0]]),
        (12, "an answer's dependence on row and column"): lambda: where(*pair()[:2]),
        (14, "a vector added, in the language model"): lambda: answered(
            intervene.added(vlm, one, torch.zeros(width), layer=1)
        ),
        (14, "a thing's tokens replaced, by object masks"): lambda: exchanged(*pair()[::2]),
        (15, "RoPE scaling"): lambda: answered(rope.scaled(vlm, alpha=9, p=2)),
        (18, "a benchmark, by its own rules"): lambda: benchmarks.run(
            vlm, "tabletop-b", limit=4, progress=False
        ),
    }
    found = [
        {"chapter": chapter, "what": what, "works": _tried(call)}
        for (chapter, what), call in calls.items()
    ]
    return pd.DataFrame(found)


def _tried(call):
    try:
        with warnings.catch_warnings():
            # of words that a small vocabulary lacks, for one
            warnings.simplefilter("ignore", UserWarning)
            call()
    except ValueError as error:
        return str(error)
    return "yes"
