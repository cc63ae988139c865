"""One question of a benchmark, and what its answer is compared with."""

import hashlib
import json
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from . import prompts, scoring


@dataclass(frozen=True)
class Item:
    """One question about one picture.

    Attributes:
        id: its name, the only one in its benchmark.
        image: anything `images.read` takes.
        question: as the model is asked.
        kind: how its answer is read: "letter" (strictly), "choice" (a letter, as MMBench reads it),
            "yes/no", "word" or "soft".
        gold: the right letter, "yes" or "no", the right word, or everyone's answers.
        options: {letter: text}, of a question by letter.
        group: what is drawn together when intervals are made, a scene or a set.
        about: what else scoring or a reader needs: the part of the benchmark, the relation, whom it
            is paired with.
    """

    id: str
    image: Any = field(repr=False, compare=False)
    question: str
    kind: str
    gold: Any
    options: dict = field(default_factory=dict)
    group: str = ""
    about: dict = field(default_factory=dict)

    def row(self, answer: str) -> dict[str, Any]:
        """What a results file keeps of the question and its answer: all but the picture."""
        kept = {
            name: getattr(self, name)
            for name in ("id", "question", "kind", "gold", "options", "group", "about")
        }
        return {**kept, "answer": answer}


def is_row(row: Any) -> bool:
    """Is this a row as `Item.row` makes it? What a results file holds is scored only if it is."""
    if not isinstance(row, dict) or not _texts(
        row.get(name) for name in ("id", "question", "kind", "group", "answer")
    ):
        return False
    gold, options, kept, given = (row.get(name) for name in ("gold", "options", "kept", "given"))
    if not isinstance(row.get("about"), dict) or not isinstance(options, dict):
        return False
    if not _texts(options.values()):
        return False
    if "kept" in row or "given" in row:  # of a run with compression
        if type(kept) is not int or type(given) is not int:
            return False
        if not 0 <= kept <= given < 2**53 or not given:
            return False
    if row["kind"] == "soft":
        return isinstance(gold, list) and bool(gold) and _texts(gold)
    choices = {"letter": options, "choice": options, "yes/no": ("yes", "no"), "word": (gold,)}
    return isinstance(gold, str) and gold in choices.get(row["kind"], ())


def _texts(values):
    return all(isinstance(value, str) for value in values)


def by_letter(
    id: str,
    image: Any,
    texts: Sequence[str],
    seed: int | None,
    ask: Callable[..., str] = prompts.captions,
    right: int = 0,
    **more: Any,
) -> Item:
    """An item whose options are shuffled, by its id and the seed alone.

    Args:
        texts: the options, the `right`-th of which is right.
        seed: None leaves them in their order.
        ask: what makes a question of options.
    """
    order = list(range(len(texts)))
    if seed is not None:
        random.Random(f"{id}/{seed}").shuffle(order)
    texts = [texts[i] for i in order]
    options = dict(zip(prompts.LETTERS, texts))
    gold = prompts.LETTERS[order.index(right)]
    return Item(id, image, ask(texts), "letter", gold, options, **more)


def read(row: dict) -> tuple[str | None, float]:
    """(parsed, right) of a row: what the answer says, None if it says nothing that counts, and how
    right that is in [0, 1].

    By the rules of `scoring`, each kind by its own.
    """
    kind, gold, answer = row["kind"], row["gold"], scoring.said(row["answer"])
    if kind == "soft":
        parsed, right = scoring.vqa(answer), scoring.soft(answer, gold)
    elif kind == "word":
        parsed = scoring.word(answer)
        right = float(parsed == scoring.word(gold))
    else:
        parsed = _READERS[kind](answer, row["options"])
        right = float(parsed == gold)
    # "A" is read as nothing, and right where people say "a"
    return (parsed if parsed or right else None), right


_READERS = {
    "letter": scoring.letter,
    "choice": scoring.choice,
    "yes/no": lambda answer, _: scoring.only_yes_or_no(answer),
}


def digest(items: Iterable[Item]) -> str:
    """A checksum of all questions, right answers and options, in their order."""
    rows = [[item.id, item.question, item.gold, item.options] for item in items]
    return hashlib.sha256(json.dumps(rows, ensure_ascii=False).encode()).hexdigest()[:16]


def blinded(items: Sequence[Item], seed: int) -> list[Item]:
    """The same questions, each beside a picture of another group: what is still answered rightly is
    answered without seeing.

    Raises:
        ValueError: where there is but one group, so that there is no other picture.
    """
    groups = [item.group or item.id for item in items]
    if len(set(groups)) < 2:
        raise ValueError(
            "Questions about one scene alone cannot be put to another's picture: take more of them."
        )
    rnd, blind = random.Random(f"blind/{seed}"), []
    for item, group in zip(items, groups):
        other = rnd.randrange(len(items))
        while groups[other] == group:
            other = rnd.randrange(len(items))
        blind.append(replace(item, image=items[other].image))
    return blind


def sample(items: Sequence[Item], limit: int, seed: int) -> list[Item]:
    """About `limit` of the items, in their order: whole groups, drawn by the seed, as many as go
    into the limit, one at least."""
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise ValueError(f"limit is a whole number of questions from 1 up, not {limit!r}.")
    groups = {}
    for item in items:
        groups.setdefault(item.group or item.id, []).append(item.id)
    names = sorted(groups)
    random.Random(f"sample/{seed}").shuffle(names)
    chosen = set()
    for name in names:
        if chosen and len(chosen) + len(groups[name]) > limit:
            break
        chosen.update(groups[name])
    return [item for item in items if item.id in chosen]
