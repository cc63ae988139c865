"""How good an organism is: exact answers per question family, with intervals over scenes."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from ... import stages, world
from ...stats import share
from ...world.question_bank import ABSENTEES
from .data import Pages, draw_questions, grid_words, labels, normalise, relations, stack
from .stages import Reader, language_logits
from .stages import told as as_words

if TYPE_CHECKING:
    from ...models import VLM
    from .towers import Tower


@torch.no_grad()
def exact(
    tower: Tower,
    items: Iterable[tuple[world.Scene, Sequence[world.Question]]],
    device: str = "cpu",
    batch: int = 25,
) -> list[list[bool]]:
    """For each `(scene, questions)`, a list of booleans: would greedy decoding give exactly this
    answer?

    One pass with the right answer fed in tells: greedy decoding follows the right answer as long as
    every next token is the most likely one, and is wrong from the first that is not. All pictures
    are squares of one size.
    """
    pages, verdicts = Pages(tower.name), []
    for chunk in _batched(items, batch):
        side = chunk[0][0].width // tower.patch
        rows = pages.rows([questions for _, questions in chunk])
        states = tower.patches(normalise(stack([s for s, _ in chunk]), device))
        logits, target, before = language_logits(
            tower, pages, rows, tower.tokens(states, side, side)
        )
        wrong = (logits[:, before:].argmax(-1) != target) & (target >= 0)
        segment = rows["segment"].to(device)
        for i, (_, questions) in enumerate(chunk):
            verdicts.append(
                [not bool(wrong[i][segment[i] == k].any()) for k in range(1, len(questions) + 1)]
            )
    return verdicts


def _batched(items, n):
    items = iter(items)
    while chunk := list(itertools.islice(items, n)):
        yield chunk


def families(
    tower: Tower, split: str = "test", n: int = 1000, device: str = "cpu"
) -> dict[str, dict[str, Any]]:
    """Accuracy per question family on `n` scenes of a split; existence by kind of absentee. One
    pass a scene."""
    items, kinds = [], []
    for scene in world.scenes(split, n):
        asked = [
            (f"existence ({kind})", q) for kind in ABSENTEES for q in world.existence(scene, kind)
        ]
        asked += [(q.family, q) for q in world.questions(scene, world.QUESTION_FAMILIES[1:])]
        items.append((scene, [q for _, q in asked]))
        kinds.append([family for family, _ in asked])
    verdicts, found = exact(tower, items, device), {}
    for family in dict.fromkeys(k for scene_kinds in kinds for k in scene_kinds):
        right = [
            [v for v, k in zip(*pair, strict=True) if k == family]
            for pair in zip(verdicts, kinds, strict=True)
        ]
        right = [r for r in right if r]
        value, low, high = share([sum(r) for r in right], [len(r) for r in right])
        found[family] = {
            "accuracy": round(value, 4), "ci95": [round(low, 4), round(high, 4)],
            "n": sum(map(len, right)), "scenes": len(right),
        }  # fmt: skip
    order = [*(f"existence ({kind})" for kind in ABSENTEES), *world.QUESTION_FAMILIES[1:]]
    return {family: found[family] for family in order if family in found}


def controlled(
    tower: Tower, split: str = "test", n: int = 200, device: str = "cpu"
) -> dict[str, dict[str, Any]]:
    """Individual, pair and set accuracy on the controlled sets, by spacing."""
    found = {}
    for which, spacing in itertools.product("AB", ("wide", "narrow")):
        sets = world.controlled(which, n, spacing, split)
        items = [(s, [question]) for group in sets for s, question in group.asked()]
        # sets, pairs of opposites, members
        right = torch.tensor(exact(tower, items, device)).reshape(n, 2, 2)
        rows = {
            "individual": right.flatten(1).float().mean(1),
            "pair": right.all(2).float().mean(1),
            "set": right.all(2).all(1),
        }
        for kind, values in rows.items():
            value, low, high = share(values.numpy())
            found[f"{which} {spacing} {kind}"] = {
                "accuracy": round(value, 4),
                "ci95": [round(low, 4), round(high, 4)],
                "n": n,
            }
    return found


@torch.no_grad()
def labelling(
    tower: Tower, reader: Reader, split: str = "dev", n: int = 300, device: str = "cpu"
) -> dict[str, float]:
    """What the ViT alone knows of a picture: share of words right, by kind, and of relations
    between things.

    Words are balanced: the mean of the share of present words found and the share of absent words
    left out.
    """
    truths, scores, related = [], [], []
    for chunk in _batched(world.scenes(split, n), 50):
        states = tower.patches(normalise(stack(chunk), device))
        truths.append(torch.stack([torch.from_numpy(labels(s)) for s in chunk]))
        scores.append(reader(states).cpu())
        pairs = torch.tensor(
            [(i, *pair) for i, s in enumerate(chunk) for pair in relations(s)], device=device
        )
        related.append((reader.relate(states, pairs).argmax(1) == pairs[:, 3]).float().cpu())
    truth, hit, found, at = torch.cat(truths), torch.cat(scores) > 0, {}, 0
    # the order of `label_names`
    for kind in ("category", "colour", "texture", "background", "character"):
        size = len(world.words_of(kind)) * (2 if kind == "character" else 1)
        t, h = truth[:, at : at + size], hit[:, at : at + size]
        found[kind] = round(float((h[t == 1].float().mean() + (~h[t == 0]).float().mean()) / 2), 4)
        at += size
    return found | {"relation": round(float(torch.cat(related).mean()), 4)}


@torch.no_grad()
def told(tower: Tower, split: str = "dev", n: int = 300, device: str = "cpu") -> float:
    """What the LM alone knows: share of answers right when the scene is told as a raster of
    words."""
    pages, side, rnd = (
        Pages(tower.name),
        world.SIZE // tower.patch // tower.merge,
        random.Random("told"),
    )
    right = total = 0
    for chunk in _batched(world.scenes(split, n), 50):
        rows = pages.rows([draw_questions(s, rnd) for s in chunk])
        grid = pages.grid([grid_words(s, side, side, rnd) for s in chunk]).to(device)
        logits, target, before = language_logits(tower, pages, rows, as_words(tower, grid))
        due = target >= 0
        right += int((logits[:, before:].argmax(-1) == target)[due].sum())
        total += int(due.sum())
    return round(right / total, 4)


def lens_layer(vlm: VLM, n: int = 200) -> int:
    """The LM layer at which most object patches decode to a word of their own thing, on `n`
    development scenes."""
    scenes = list(world.scenes("dev", n))

    def on_topic(layer):
        return stages.counts(stages.read(vlm, scenes, layer, [vlm.last_depth]), scenes)[
            "own word"
        ].sum()

    return max(range(vlm.n_layers + 1), key=on_topic)
