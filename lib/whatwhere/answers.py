"""Are the answers right? The same questions, as often as one likes, whatever is done to the model
in between.

    exam = answers.Exam.on(vlm, scenes, {"existence": ["existence"], "attributes": ["colour"]})
    before = exam.tally()  # (scenes, families) right answers
    with compress.compressed(vlm, 1, decoder):
        after = exam.tally()
    answers.loss(before, after, exam.counts)

The last line gives the points lost on average over families, with an interval.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import DynamicCache

from . import places
from .finite import check_finite
from .hooks import check_count
from .scenes import Scene, checked
from .stats import Interval, crossed

if TYPE_CHECKING:
    from .models import VLM

AT_ONCE = 16  # images


def chances(
    vlm: VLM,
    inputs: dict[str, Any],
    options: Sequence[str],
    visual: list[torch.Tensor] | None = None,
) -> torch.Tensor:
    """(prompts, options) tensor on the CPU: with what probability each option is the next word
    after each prompt.

    Args:
        inputs: what `vlm.prepare(images, questions)` gives.
        options: words; what counts is their first token, so that no two may begin alike.
        visual: what `vlm.embed` takes, where the ViT need not run again. The gradient is kept where
            one is asked for.
    """
    if visual is not None and vlm.adapter.vision._forward_pre_hooks:
        raise ValueError(
            "The ViT is being changed, and `visual` is what it gave before: leave that out, and "
            "it runs again."
        )
    first_ids = [ids[0] if ids else None for ids in vlm.token_ids(options)]
    if None in first_ids or not first_ids or len(set(first_ids)) < len(first_ids):
        raise ValueError(
            "Options are words that begin with different tokens; "
            f"{', '.join(map(repr, options)) or 'none'} do not."
        )
    named = vlm.lm_inputs(
        vlm.embed(inputs, visual), inputs["attention_mask"], vlm.position_ids(inputs)
    )
    last = vlm.lm(**named, use_cache=False).last_hidden_state[:, -1]
    next_word = vlm.unembedding(last).float().softmax(-1)
    return check_finite(next_word, "the words that may come next")[:, first_ids].cpu()


class Exam:
    """Questions with their right answers, put to one model as often as one likes.

    `exam.right()` is (questions,) booleans: would greedy decoding, as `VLM.answer` does it, give
    exactly this answer, and then stop? The vision tower runs when the exam is made, the language
    model when it is sat: to change the former, make the exam inside the change.

    Args:
        images, questions, answers: lists of one length; an image that is asked about several times
            is looked at once.
        shared: what the LM makes of an image is computed once for all questions about it, which is
            several times faster. That is exact, since attention looks only back; but nothing that
            chooses by the question can be examined so.

    Raises:
        ValueError: where the lists do not match, or the model has no token that ends an answer.
    """

    @torch.no_grad()
    def __init__(
        self,
        vlm: VLM,
        images: Sequence[Any],
        questions: Sequence[str],
        answers: Sequence[str],
        shared: bool = False,
        batch_size: int = 128,
    ):
        if not len(questions) or not len(images) == len(questions) == len(answers):
            raise ValueError(
                f"An exam takes an image and an answer for each question; got {len(images)} "
                f"images, {len(questions)} questions and {len(answers)} answers."
            )
        check_count("batch_size", batch_size)
        self.vlm, self.n, self.batches = vlm, len(questions), []
        self.at, self.counts = ([], []), np.zeros((0, 0))  # of an exam `on` scenes
        if not vlm.ends:
            raise ValueError(
                f"The generation_config of {vlm.name} names no eos_token_id, so no answer of "
                "its would ever end."
            )
        self.due = vlm.token_ids(answers)
        by_image = {}  # numbers of the questions about each image
        for n, image in enumerate(images):
            by_image.setdefault(id(image), []).append(n)
        by_image = list(by_image.values())
        for first in range(0, len(by_image), AT_ONCE):
            batch = by_image[first : first + AT_ONCE]
            pictures = [images[ns[0]] for ns in batch]
            inputs = vlm.prepare(pictures, "")
            visual = [tokens[0] for tokens in vlm.visual(inputs, [vlm.last_depth])]
            if shared:
                self._add(pictures, [""] * len(batch), visual, batch, questions)
                continue
            single = [(n, tokens) for ns, tokens in zip(batch, visual) for n in ns]
            for start in range(0, len(single), batch_size):
                ns, tokens = zip(*single[start : start + batch_size])
                self._add(
                    [images[n] for n in ns],
                    [questions[n] for n in ns],
                    list(tokens),
                    [[n] for n in ns],
                )

    def _add(self, images, prompts, visual, by_image, questions=None):
        """A batch: what the LM is given first, once for each image; then what it is fed, for each
        question about it.

        Args:
            by_image: for each image the numbers of the questions about it.
            questions: without them the prompts ask already, and only the answer is left to be fed.
        """
        vlm = self.vlm
        inputs = vlm.prepare(images, prompts)
        positions, mask, ids = (
            vlm.position_ids(inputs),
            inputs["attention_mask"],
            inputs["input_ids"],
        )
        width, rows = max(map(len, by_image)), []
        if questions is not None:
            # of all rows: they end alike, and padding is on the left
            end = places.find(vlm, ids).end[0]
            positions, mask, ids = positions[..., :end], mask[:, :end], ids[:, :end]
        for ns in by_image:
            for n in ns:
                question_ids = [] if questions is None else vlm.after_image(questions[n])
                rows.append((n, len(question_ids), question_ids + self.due[n]))
            rows += [(None, 0, [])] * (width - len(ns))  # as many for each image: some are nobody's
        longest = max(len(fed) for *_, fed in rows)
        padded = [fed + [0] * (longest - len(fed)) for *_, fed in rows]
        fed = torch.tensor(padded, dtype=torch.long, device=mask.device)
        self.batches.append(
            ({"input_ids": ids}, visual, mask, positions, [row[:2] for row in rows], fed, width)
        )

    @classmethod
    def on(
        cls,
        vlm: VLM,
        scenes: Iterable[Scene],
        families: Mapping[str, Sequence[str]],
        shared: bool = False,
    ) -> Exam:
        """An exam on scenes that have questions of their own, with `exam.counts`, (scenes,
        families) numbers of questions.

        Args:
            families: {name: kinds of questions}; those of the organisms' world are
                `world.QUESTION_FAMILIES`.

        Raises:
            ValueError: for scenes without `questions(kinds)`, and where there is no question of
                these kinds.
        """
        listed: list[Any] = checked(scenes)  # which may be an iterator, as `world.scenes` is
        for scene in listed:
            if not hasattr(scene, "questions"):
                raise ValueError(
                    f"Scene {scene.id} has no questions of its own, by a method "
                    "`questions(kinds)`: give them with their answers, Exam(vlm, images, "
                    "questions, answers)."
                )
        rows = [
            (n, f, image, question)
            for n, (scene, image) in enumerate((scene, scene.image) for scene in listed)
            for f, kinds in enumerate(families.values())
            for question in scene.questions(kinds)
        ]
        if not rows:
            raise ValueError(
                f"None of these {len(listed)} scenes has a question of "
                f"{', '.join(families) or 'no kind'}."
            )
        scene_numbers, family_numbers, images, questions = map(list, zip(*rows))
        exam = cls(vlm, images, [q.text for q in questions], [q.answer for q in questions], shared)
        exam.at, exam.counts = (
            (scene_numbers, family_numbers),
            np.zeros((len(listed), len(families))),
        )
        np.add.at(exam.counts, exam.at, 1.0)
        return exam

    def tally(self) -> np.ndarray:
        """(scenes, families) how many answers are right, of an exam `on` scenes."""
        sums = np.zeros_like(self.counts)
        np.add.at(sums, self.at, self.right())
        return sums

    @torch.no_grad()
    def right(self) -> np.ndarray:
        """(questions,) booleans.

        The right answer is fed in after the question, in one go, which is many times faster than
        decoding: greedy decoding follows it as long as every next token is the likeliest one, and
        is wrong from the first that is not.
        """
        right, lm = np.zeros(self.n, bool), self.vlm.lm
        for ids, visual, mask, positions, rows, fed, width in self.batches:
            cache = DynamicCache(config=lm.config)
            named = self.vlm.lm_inputs(self.vlm.embed(ids, visual), mask, positions)
            hidden = lm(**named, past_key_values=cache, use_cache=True).last_hidden_state[:, -1:]
            if fed.shape[1]:
                cache.batch_repeat_interleave(width)
                following = positions.reshape(-1, *mask.shape).amax((0, 2))[:, None] + 1
                mask, following, hidden = (
                    tensor.repeat_interleave(width, 0) for tensor in (mask, following, hidden)
                )
                named = {
                    "inputs_embeds": self.vlm.model.get_input_embeddings()(fed),
                    "attention_mask": torch.cat([mask, torch.ones_like(fed)], 1),
                    "position_ids": following + torch.arange(fed.shape[1], device=fed.device),
                }
                hidden = torch.cat(
                    [hidden, lm(**named, past_key_values=cache, use_cache=True).last_hidden_state],
                    1,
                )
            best, answer_ids = self.vlm.unembedding(hidden).max(-1)
            check_finite(best, "the logits of an answer")
            for (n, start), row in zip(rows, answer_ids.tolist()):
                if n is not None:
                    end = start + len(self.due[n])
                    right[n] = row[start:end] == self.due[n] and row[end] in self.vlm.ends
        return right


def accuracy(right: np.ndarray, counts: np.ndarray, families: Any = slice(None)) -> float:
    """The share of right answers, on average over families: right and counts are (scenes,
    families), families some columns."""
    return (right.sum(0) / np.maximum(counts.sum(0), 1))[families].mean()


def loss(
    before: np.ndarray,
    after: np.ndarray,
    counts: np.ndarray,
    families: Any = slice(None),
    beside: tuple[np.ndarray, np.ndarray, Any] | None = None,
) -> Interval:
    """Points of accuracy lost on average over families, with the 95% interval of the paired
    difference over scenes, a percentile bootstrap.

    Args:
        before, after: (scenes, families) right answers; or (draws, scenes, families) where what
            was learnt, such as a decoder, was learnt several times. The interval is then Student's
            over draws and scenes (`stats.crossed`), since a few draws are too few to resample.
        beside: another loss of the same scenes and draws, as its before, after and families, that
            is taken away: the result is by how much more is lost here than there.

    Raises:
        ValueError: where the tallies do not go together, or hold what is no number.
    """
    terms = [(1, after, families), (-1, before, families)]
    if beside is not None:
        terms += [(-1, beside[1], beside[2]), (1, beside[0], beside[2])]
    tallies = np.broadcast_arrays(*(_drawn(tally) for _, tally, _ in terms))
    draws, scenes, _ = tallies[0].shape
    if scenes != len(counts):
        raise ValueError(f"These are tallies of {scenes} scenes, and counts of {len(counts)}.")

    if not all(np.isfinite(tally).all() for tally in (*tallies, counts)):
        raise ValueError(
            "A tally of right answers, or their counts, hold what is no finite number."
        )

    def points(tallies, counts):
        parts = zip(terms, tallies)
        return -100 * sum(sign * accuracy(t.mean(0), counts, of) for (sign, _, of), t in parts)

    if draws > 1:
        # differences of whole numbers first, so that no rounding error is taken for an effect
        lost = _by_scene(tallies[1] - tallies[0], counts, families)
        if beside is not None:
            lost = lost - _by_scene(tallies[3] - tallies[2], counts, beside[2])
        return crossed(100 * lost)
    rng, values = np.random.default_rng(0), []
    for _ in range(1000):
        scene = rng.integers(scenes, size=scenes)
        values.append(points([t[:, scene] for t in tallies], counts[scene]))
    low, high = map(float, np.quantile(values, (0.025, 0.975)))
    return Interval(float(points(tallies, counts)), low, high)


def _by_scene(tally, counts, families):
    """(draws, scenes) with each draw's `accuracy` as its mean over scenes.

    A scene's number is that accuracy, and how far the scene's right answers are from as many as it
    lets expect of its questions: the usual linear form of a ratio of sums.
    """
    asked = np.maximum(counts.sum(0), 1)
    rate = (tally.sum(1) / asked)[:, None]  # (draws, 1, families)
    parts = rate + (tally - rate * counts) / asked * len(counts)
    return parts[..., families].reshape(*tally.shape[:2], -1).mean(-1)


def _drawn(tally):
    """A tally of floats with the draws first."""
    tally = np.asarray(tally, float)
    return tally if tally.ndim == 3 else tally[None]
