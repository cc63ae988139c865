"""Model cards, written from an organism's own numbers and nothing else."""

from html import escape
from typing import Any


def _percent(row):
    low, high = row["ci95"]
    return f"{row['accuracy']:.1%} ({low:.1%} to {high:.1%})"


def _table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows])


WHAT = {
    "toy-llava": "A LLaVA: CLIP vision transformer, two-layer connector, Llama. "
    "Positions are a learnt table in the vision tower.",
    "toy-qwen2vl": "A Qwen2-VL: vision transformer with 2-D RoPE, 2 x 2 merger, Qwen2 language "
    "model with M-RoPE.",
}
STAGES = {
    "text": "LM on the world's language: scenes told as rasters of words, indistinctly as it "
    "goes on, then questions",
    "close-ups": "ViT on words of windows that mostly hold one thing",
    "vision": "ViT on what captions of whole scenes say",
    "align": "connector alone on questions, LM and ViT frozen",
    "tune": "everything on questions",
}

TEXTS = """and that the language model learns to read scenes as rasters of words with noise
on them, each cell the mean of the words of what it shows, before any picture reaches it."""
NO_TEXTS = """and, as an ablation, that the language model never reads a text: pictures and
questions about them are all it learns from."""


def render(numbers: dict[str, Any]) -> str:
    """The card as Markdown, from the numbers in `training.json`."""
    stages = [
        (
            i,
            f"**{s['stage']}**: {STAGES[s['stage']]}"
            + (f", one batch in {s['text_every']} on texts" if s["text_every"] else ""),
            f"{s['steps']} x {s['batch']}",
            s["minutes"],
            "; ".join(f"{k} {v:.1%}" for k, v in s["effect"].items()),
        )
        for i, s in enumerate(numbers["stages"], 1)
    ]
    answers = [
        (family, _percent(row), row["n"], _percent(numbers["unseen"][family]))
        for family, row in numbers["test"].items()
    ]
    kinds = ("individual", "pair", "set")
    settings = list(dict.fromkeys(key.rsplit(" ", 1)[0] for key in numbers["controlled"]))
    controlled = [
        (setting, *(_percent(numbers["controlled"][f"{setting} {kind}"]) for kind in kinds))
        for setting in settings
    ]
    minutes = sum(s["minutes"] for s in numbers["stages"])
    machine = numbers["machine"]
    texts = TEXTS if any(s["stage"] == "text" for s in numbers["stages"]) else NO_TEXTS
    return f"""---
license: mit
library_name: transformers
pipeline_tag: image-text-to-text
tags: [model-organism, interpretability, vision-language-model]
---

# {escape(numbers["name"])}

{WHAT[numbers["organism"]]} {numbers["parameters"] / 1e6:.2f} million parameters, trained from
scratch on `tabletop`, a rendered world whose every pixel is accounted for. It is a model organism for *What and Where*:
it knows its world and nothing else.

This card is generated from `training.json` beside it. Seed {numbers["seed"]}; {minutes:.0f} minutes of training on
{machine["device"]}, PyTorch {machine["torch"]}.

## Recipe and what each stage brought

{_table(("", "stage", "steps x scenes", "minutes", "measured on development scenes after it"), stages)}

Chosen by us: the world, the vocabulary, what captions say, the stages, {texts}
Not chosen by us: what the vision tower's patches say at which depth, which layer of the language model reads them best,
and how popular and adversarial absentees fare: training asks about random ones only. No patch was ever told its own word.
On development scenes the lens reads best at LM layer {numbers["lens_layer"]}: `config.json` says so, and `whatwhere` reads there.

## Accuracy on new scenes

Exact answers by greedy decoding, with 95% bootstrap intervals over scenes. *Unseen pairs* are scenes with a
(category, colour) pair that training never showed.

{_table(("family", "test", "questions", "unseen pairs"), answers)}

## Controlled sets

The same two things in four relations (A: on, under, left, right; B: behind, front, left, right), on test scenes.

{_table(("set and spacing", "individual", "pair", "set of four"), controlled)}
"""
