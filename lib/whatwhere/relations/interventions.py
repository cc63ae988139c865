"""Answers of a model whose patches are blended, moved or erased."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from .. import geometry, intervene
from ..answers import chances
from ..scenes import OPPOSITE, Scene, checked, cover
from .sets import ControlledSet, names, table, usable

if TYPE_CHECKING:
    from ..models import VLM

# What is asked, with the words for the two things. Any wording of one's own may be given instead.
WHERE = "where is the {satellite} relative to the {nucleus} ?"
THERE = "is there {a_satellite} ?"
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
YES = ("yes", "no")


def blended(
    vlm: VLM,
    sets: Iterable[ControlledSet],
    place: str = "LM 0",
    weights: Sequence[float] = WEIGHTS,
    where: str = WHERE,
) -> pd.DataFrame:
    """The paper's intervention: both things' patches are blended with what these things hold in the
    set's picture of the opposite relation, and the model is asked where the satellite is.

    Every patch becomes (1 − weight) · its state + weight · (its thing's mean state + a step), by
    condition:

    - "both things", "satellite alone": the step leads to the mean state in the other picture;
    - "random direction": both things, steps as long;
    - "same relation": both things, no step, so that only the blending is left;
    - "wrong thing": each has the other's step, as long as its own.

    Args:
        place: a hook point of the model.
        weights: from 0 (untouched) to 1.
        where: the question, with {satellite} and {nucleus}.

    Returns:
        set, relation, target (its opposite), condition, weight, P(left) … (the probabilities of the
        sets' relation words as the next word), answer (the likeliest of them), is correct, is
        opposite.
    """
    at = geometry.at(vlm, place)
    if not len(weights):
        raise ValueError("Name one weight at least, from 0 (untouched) to 1.")
    kept, left_out = usable(vlm, sets)
    rows = []
    for batch in _batches(vlm, kept, place, where):
        own = [geometry.patches(vlm, batch.scenes, thing, place) for thing in (0, 1)]
        now = np.stack([means(batch.states, masks) for masks in own], 1)  # scenes, things, features
        steps = now[batch.opposite] - now
        random = [np.random.default_rng([*key]).normal(size=now.shape[1:]) for key in batch.keys]
        conditions = {
            "both things": ((0, 1), steps),
            "satellite alone": ((0,), steps),
            "random direction": ((0, 1), _as_long(np.array(random), steps)),
            "same relation": ((0, 1), np.zeros_like(steps)),
            "wrong thing": ((0, 1), _as_long(steps[:, ::-1], steps)),
        }
        untouched = batch.asked([])
        for condition, (things, by) in conditions.items():
            for weight in weights:
                changes = [
                    intervene.replaced(vlm, own[n], now[:, n] + by[:, n], weight, **at)
                    for n in things
                ]
                answers = batch.asked(changes, "depth" in at) if weight else untouched
                rows.append(batch.table(answers, condition=condition, weight=weight))
    return table(rows, left_out)


def moved(vlm: VLM, sets: Iterable[ControlledSet], where: str = WHERE) -> pd.DataFrame:
    """Positions alone: the ViT takes patches to be where they would be in the opposite relation,
    and what they show stays (`intervene.moved`).

    The way is that from the things' displacement in this picture to that in the other one. With a
    learnt table it is cut to whole patches, and to what stays on the picture. By condition:

    - "satellite": it goes all the way; "nucleus": it goes the same way back;
    - "both alike": both things go the satellite's way, which leaves their displacement;
    - "as much ground": as many patches of no thing as the satellite has.

    Returns:
        as `blended`, with the steps in patches, down and across, in the place of the weight; and
        the condition "untouched".
    """
    kept, left_out = usable(vlm, sets, ground="ViT 0")
    rows = []
    for batch in _batches(vlm, kept, None, where):
        satellite, nucleus = (
            geometry.patches(vlm, batch.scenes, thing, "ViT 0") for thing in (0, 1)
        )
        ground = geometry.ground(vlm, batch.scenes, 0, "ViT 0")
        displaced = np.array([_displacement(vlm, scene) for scene in batch.scenes])
        grids = np.array([mask.shape for mask in satellite])
        way = (displaced[batch.opposite] - displaced) * grids
        conditions = {
            "untouched": ([], way * 0),
            "satellite": ([satellite], way),
            "nucleus": ([nucleus], -way),
            "both alike": ([satellite, nucleus], way),
            "as much ground": ([ground], way),
        }
        for condition, (masks, steps) in conditions.items():
            if masks and vlm.adapter.rotary is None:
                steps = np.array([_within(np.any(of, 0), step) for *of, step in zip(*masks, steps)])
            answers = batch.asked([intervene.moved(vlm, mask, steps) for mask in masks], True)
            down, across = steps.T
            rows.append(batch.table(answers, condition=condition, down=down, across=across))
    return table(rows, left_out)


def erased(
    vlm: VLM,
    sets: Iterable[ControlledSet],
    place: str = "LM 0",
    where: str = WHERE,
    there: str = THERE,
) -> pd.DataFrame:
    """The paper's erasure: things' patches, all that they touch, are replaced, and the model is
    asked where the satellite is, and whether it is there at all.

    By condition, after "untouched":

    - "satellite", "nucleus", "both": by the mean state of the picture's ground;
    - "exchanged": each thing by the other's mean state;
    - the controls "ground": all of it by its own mean; and "as much ground" as the satellite has:
      by the mean of the nucleus.

    Args:
        place: a hook point of the model.
        where: the question, with {satellite} and {nucleus}.
        there: the second question, with {satellite} or {a_satellite}, answered by yes or no.

    Returns:
        as `blended`, without target and weight, and with "P(there)", what yes has of the
        probability of yes and no.
    """
    at = geometry.at(vlm, place)
    kept, left_out = usable(vlm, sets, ground=place)
    rows = []
    for batch in _batches(vlm, kept, place, where, there):
        of = parts(vlm, batch.scenes, place)
        mean = {name: means(batch.states, of[name]) for name in ("satellite", "nucleus", "ground")}
        conditions = {
            "untouched": {},
            "satellite": {"satellite": "ground"},
            "nucleus": {"nucleus": "ground"},
            "both": {"both": "ground"},
            "exchanged": {"satellite": "nucleus", "nucleus": "satellite"},
            "ground": {"ground": "ground"},
            "as much ground": {"as much ground": "nucleus"},
        }
        for condition, erasures in conditions.items():
            answers = batch.asked(
                [
                    intervene.replaced(vlm, of[what], mean[by], **at)
                    for what, by in erasures.items()
                ],
                "depth" in at,
            )
            rows.append(batch.table(answers, condition=condition).drop(columns="target"))
    return table(rows, left_out)


def parts(vlm: VLM, scenes: Sequence[Scene], place: str) -> dict[str, list[np.ndarray]]:
    """{part: a mask of each scene}, for erasure, of all that a thing touches: "satellite",
    "nucleus", "both", "ground", "everything", and "as much ground" as the satellite has."""
    satellite, nucleus = (geometry.patches(vlm, scenes, n, place, 0.01) for n in (0, 1))
    return {
        "satellite": satellite,
        "nucleus": nucleus,
        "both": [a | b for a, b in zip(satellite, nucleus)],
        "ground": geometry.bare(vlm, scenes, place),
        "everything": [np.ones_like(mask) for mask in satellite],
        "as much ground": geometry.ground(vlm, scenes, 0, place),
    }


def means(states: Iterable[np.ndarray], masks: Iterable[np.ndarray]) -> np.ndarray:
    """(scenes, features): the mean state of the masked patches of each scene, of states (rows,
    columns, features)."""
    return np.array([of[mask].mean(0) for of, mask in zip(states, masks, strict=True)])


@dataclass
class _Batch:
    """A few sets, prepared once for everything that is done to them."""

    vlm: VLM
    numbers: list[int]
    relations: tuple[str, ...]
    scenes: list[Scene]  # set by set, in the order of the relations
    prepared: list[dict[str, Any]]  # of each question
    visual: list[torch.Tensor]  # what the ViT gives, which need not run for each change in the LM
    states: list[np.ndarray]  # (rows, columns, features) of each scene, at one place

    @property
    def keys(self) -> list[tuple[int, int]]:
        """Of each scene the number of its set and that of its relation."""
        return [(number, n) for number in self.numbers for n in range(len(self.relations))]

    @property
    def opposite(self) -> np.ndarray:
        """(scenes,) the index of the picture of the opposite relation, of the same set."""
        other = np.array([self.relations.index(OPPOSITE[relation]) for relation in self.relations])
        starts = len(self.relations) * np.arange(len(self.numbers))
        return (starts[:, None] + other).ravel()

    @torch.no_grad()
    def asked(self, changes: Iterable[Any], vit: bool = False) -> list[np.ndarray]:
        """Of each question the probabilities (scenes, words) of its answers under some changes, for
        which the ViT runs again or not."""
        with ExitStack() as stack:
            for change in changes:
                stack.enter_context(change)
            return [
                chances(self.vlm, inputs, words, None if vit else self.visual).numpy()
                for inputs, words in zip(self.prepared, (self.relations, YES))
            ]

    def table(self, answers: list[np.ndarray], **about: Any) -> pd.DataFrame:
        """A row for each scene."""
        relation = np.tile(np.array(self.relations), len(self.numbers))
        target, said = relation[self.opposite], np.array(self.relations)[answers[0].argmax(1)]
        by_word = {f"P({word})": of for word, of in zip(self.relations, answers[0].T)}
        number = [number for number, _ in self.keys]
        rows = pd.DataFrame({"set": number, "relation": relation, "target": target, **about})
        rows = rows.assign(**by_word, answer=said)
        rows["is correct"], rows["is opposite"] = said == relation, said == target
        if len(answers) > 1:
            rows["P(there)"] = answers[1][:, 0] / answers[1].sum(1)
        return rows


def _batches(vlm, kept, place, *questions) -> Iterator[_Batch]:
    relations, numbers = names(list(kept.values())), list(kept)
    fit = min(
        geometry.at_once(vlm, s.image) for each in kept.values() for s in each.scenes.values()
    )
    n_at_once = max(1, fit // len(relations))
    for start in range(0, len(numbers), n_at_once):
        chosen = numbers[start : start + n_at_once]
        scenes = [kept[n].scenes[relation] for n in chosen for relation in relations]
        images = [scene.image for scene in scenes]
        prepared = [
            vlm.prepare(images, [_question(question, scene) for scene in scenes])
            for question in questions
        ]
        with torch.no_grad():
            visual = [tokens[0] for tokens in vlm.visual(prepared[0], [vlm.last_depth])]
        states = [of[place] for of in geometry.states(vlm, images)] if place else []
        yield _Batch(vlm, chosen, relations, scenes, prepared, visual, states)


def _question(wording, scene):
    satellite, nucleus = (thing.category for thing in checked([scene], (0, 1))[0].things[:2])
    article = "an" if satellite[0].lower() in "aeiou" else "a"
    words = {"satellite": satellite, "nucleus": nucleus, "a_satellite": f"{article} {satellite}"}
    try:
        question = wording.format(**words)
    except (AttributeError, LookupError, ValueError) as error:
        raise ValueError(
            f"A question has its words in braces, {', '.join(f'{{{word}}}' for word in words)}; "
            f"this one has others: {wording!r}."
        ) from error
    if satellite not in question:
        raise ValueError(
            f"A question names the satellite, by {{satellite}} or {{a_satellite}}: {wording!r}."
        )
    return question


def _as_long(vectors, others):
    """The vectors, each made as long as its other."""
    own, due = (np.linalg.norm(of, axis=-1, keepdims=True) for of in (vectors, others))
    return vectors * (due / np.maximum(own, np.finfo(own.dtype).tiny))


def _displacement(vlm, scene):
    """(rows, columns) from the nucleus's middle to the satellite's, as shares of what is seen."""
    grid, _ = geometry.grids(vlm, scene.image)
    shares = cover(scene, grid, vlm.viewed(scene.image))[:2]
    middles = [(np.argwhere(np.ones(grid)) + 0.5).T @ of.ravel() / of.sum() / grid for of in shares]
    return middles[0] - middles[1]


def _within(mask, step):
    """Whole steps, towards zero, that leave all masked patches on the grid."""
    masked = np.argwhere(mask)
    low, high = -masked.min(0), np.array(mask.shape) - 1 - masked.max(0)
    return np.trunc(step).clip(low, high)
