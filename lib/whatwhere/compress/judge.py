"""The judgement: the same questions under any method, wherever its place is, beside all tokens.

    before = judge.judged(vlm, scenes, families)
    after = judge.judged(vlm, scenes, families, "visionzip", keep=36)
    answers.loss(before.right, after.right, before.counts)  # points, with a paired interval

`answers.Exam` runs the ViT when it is made. A method that works in the ViT, or makes the picture
smaller, has to be at work by then, and one that chooses by the question cannot share what the LM
makes of an image among its questions: all that is seen to here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import answers
from ..models import VLM
from ..scenes import Scene
from .groups import Method, Sight
from .registry import METHODS, named
from .within import compressed


@dataclass(frozen=True, eq=False)
class Judged:
    """What a method left of a model's answers.

    Attributes:
        right: (scenes, families) right answers; counts: of so many questions.
        each: (questions,) booleans, in the order scene by scene, family by family.
        kept: how many visual tokens an image keeps on average, of `given`; on_average: how many a
            block of the LM is given, by which its work goes.
    """

    right: np.ndarray
    counts: np.ndarray
    each: np.ndarray
    kept: float
    given: float
    on_average: float

    @property
    def accuracy(self) -> float:
        """The share of right answers, mean over families."""
        return answers.accuracy(self.right, self.counts)


def judged(
    vlm: VLM,
    scenes: Sequence[Scene],
    families: Mapping[str, Sequence[str]],
    which: int | str | Callable[[Sight], Any] | None = None,
    keep: int | float | Callable[[Sight], Any] | None = None,
    **options: Any,
) -> Judged:
    """The answers of `vlm` to all questions about `scenes`, under a method.

    Args:
        scenes, families: what `answers.Exam.on` takes.
        which, keep, options: what `compressed` takes; which=None leaves all tokens.
    """
    method = _method(which, keep)
    asks = method is not None and "question" in method.needs
    right, counts, each, kept, given, seen = [], [], [], [], [], []
    for start in range(0, len(scenes), answers.AT_ONCE):
        part = scenes[start : start + answers.AT_ONCE]
        how = {"which": "random", "keep": 1.0} if which is None else {"which": which, "keep": keep}
        # draws of its own for each part, the same whatever came before
        seed = options.get("seed", 0) + 1_000_003 * (start // answers.AT_ONCE)
        with compressed(vlm, **how, **{**options, "seed": seed}) as log:
            exam = answers.Exam.on(vlm, part, families, shared=not asks)
            each.append(exam.right())
        right.append(np.zeros_like(exam.counts))
        np.add.at(right[-1], exam.at, each[-1])
        counts.append(exam.counts)
        kept, given, seen = kept + log.kept, given + log.given, seen + log.on_average
    return Judged(
        np.concatenate(right), np.concatenate(counts), np.concatenate(each),
        float(np.mean(kept)), float(np.mean(given)), float(np.mean(seen)),
    )  # fmt: skip


def _method(which, keep):
    """The `Method` that is asked for, to see what it needs; None where it is a mere function."""
    if which is None or isinstance(which, Method):
        return which
    if callable(which):
        return None
    name = named(which)
    return METHODS[name](1.0 if keep is None else keep) if name in METHODS else None
