"""The lenses beside each other: what each adds to a token map at all depths, in time and memory."""

import statistics

import torch

import whatwhere as ww
from whatwhere import compress, lens

from . import models, timing
from .lens import GRID

TEXTS, WORDS = 200, 1000  # of a bank of random words, for the model that has no texts of its own
ROUNDS = 5


def measure(names):
    """One row for each model and lens."""
    for name in names:
        vlm = ww.load(name)
        scenes = list(ww.world.scenes("train", 40))
        texts = [f"{q.text} {q.answer}" for scene in scenes for q in ww.world.questions(scene)]
        made = lenses(vlm, texts, [s.image for s in scenes])
        probe = lens.probe(vlm, scenes, layer=0)
        yield from rows(vlm, scenes[0].image, {**made, probe.name: probe})
    # a probe needs scenes whose truth is known, and this one reads none
    vlm = models.half()
    image = ww.world.scene(seed=7).image.resize((GRID * models.TOKEN,) * 2)
    picks = torch.randint(WORDS, (TEXTS, 20), generator=torch.Generator().manual_seed(0))
    texts = [" ".join(vlm.words[row]) for row in picks.numpy()]
    yield from rows(vlm, image, lenses(vlm, texts, [image]))


def lenses(vlm, texts, images):
    """{name: a lens}: how well they were taught does not matter here."""
    decoder = compress.Decoder(vlm.unembedding.weight.detach().float(), vlm.words)
    made = [
        lens.LogitLens(vlm),
        lens.EmbeddingLens(vlm),
        lens.ContextualLens(vlm, lens.bank(vlm, texts)),
        lens.tune(vlm, images=images, steps=2),
        lens.DecoderLens(vlm, decoder),
    ]
    return {each.name: each for each in made}


@torch.no_grad()
def rows(vlm, image, made):
    """Seconds, how many times the logit lens's, and MiB at most, of token maps at all depths with
    each lens: all at layer 0, which all can read, so that the LM costs none of them anything."""
    acts = {
        name: lambda each=each: ww.lens.token_maps(vlm, image, layer=0, lens=each)
        for name, each in made.items()
    }
    for act in acts.values():  # the first is slower
        act()
    took = timing.interleaved(acts, ROUNDS, vlm.device, vlm.name)
    for name, seconds in took.items():
        yield {
            "model": vlm.name, "lens": name, "seconds": statistics.median(seconds),
            "times": timing.ratio(seconds, took["logit lens"]),
            "peak": timing.peak(acts[name], vlm.device),
        }  # fmt: skip
