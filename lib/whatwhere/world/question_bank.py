"""Questions about a scene, with answers that follow from its truth."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .rules import POPULARITY, THEMES, relation
from .sprites import BACKGROUNDS, CATEGORIES, CHARACTERS, COLOURS, PORTABLE, TEXTURES

if TYPE_CHECKING:
    from .rendering import Scene

QUESTION_FAMILIES = (
    "existence",
    "colour",
    "texture",
    "category",
    "background",
    "reading",
    "counting",
    "relation",
    "description",
)
NUMBERS = ("zero", "one", "two", "three", "four", "five")
ABSENTEES = ("random", "popular", "adversarial")


@dataclass(frozen=True)
class Question:
    """`text` and its one right `answer`; `about` holds the indices of the things asked about,
    `kind` a sub-family."""

    family: str
    text: str
    answer: str
    about: tuple[int, ...] = ()
    kind: str = ""


def article(word: str) -> str:
    """The word with "a" or "an" before it."""
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def words_of(kind: str) -> tuple[str, ...]:
    """The world's words of a kind: 'category', 'colour', 'texture', 'attribute', 'background' or
    'character'."""
    kinds = {
        "category": CATEGORIES, "colour": tuple(COLOURS), "texture": TEXTURES,
        "attribute": (*COLOURS, *TEXTURES), "background": BACKGROUNDS, "character": CHARACTERS,
    }  # fmt: skip
    if kind not in kinds:
        raise ValueError(f"No words of kind {kind!r}; there are {', '.join(kinds)}.")
    return kinds[kind]


def kinds_of_words(*kinds: str) -> dict[str, str]:
    """{word: its kind}, such as the colours of a token map need; of all kinds that exclude each
    other where none is named."""
    kinds = kinds or ("category", "colour", "texture", "background", "character")
    return {word: kind for kind in kinds for word in words_of(kind)}


def vocabulary() -> dict[str, tuple[str, ...]]:
    """{kind: words} of all that can be in a scene: colours, textures, categories and
    backgrounds."""
    return {kind: words_of(kind) for kind in ("colour", "texture", "category", "background")}


def _companions(category):
    """How often a category shares a scene's theme with another: the world's own co-occurrence."""
    theme = next((things for things, _ in THEMES.values() if category in things), ())
    return {
        c: (2.0 if c in theme else 1.0) * POPULARITY.get(c, 1.0) for c in PORTABLE if c != category
    }


def absentee(scene: Scene, kind: str, rnd: random.Random) -> str:
    """A category that is not in the scene, by POPE's three kinds.

    random: any; popular: one of the world's three most common; adversarial: one of the three
        likeliest companions of what is there. The latter two are of those that still are absent,
        stands and signs aside.
    """
    present = {t.category for t in scene.things}
    absent = [c for c in CATEGORIES if c not in present]
    if kind == "random":
        return rnd.choice(absent)
    absent = [c for c in absent if c in PORTABLE]
    if kind == "popular":
        top = sorted(absent, key=lambda c: (-POPULARITY.get(c, 1.0), c))
    elif kind == "adversarial":

        def company(c):
            return sum(_companions(p).get(c, 0.0) for p in sorted(present) if p in PORTABLE)

        top = sorted(absent, key=lambda c: (-company(c), c))
    else:
        raise ValueError(f"Absentees are {', '.join(ABSENTEES)}; got {kind!r}.")
    return rnd.choice(top[:3])


def existence(scene: Scene, kind: str = "random") -> list[Question]:
    """POPE's form: one question about something that is there, one about an absentee of the kind
    asked for."""
    return _existence(scene, kind, _existence_seed(scene, kind))


def existence_words(scene: Scene, kind: str = "random") -> list[tuple[str, bool]]:
    """What these questions are about: [(a word, True), (another, False)]."""
    return [
        (word, bool(about)) for word, about in _asked_for(scene, kind, _existence_seed(scene, kind))
    ]


def _existence_seed(scene, kind):
    return random.Random(f"existence/{kind}/{scene.split}/{scene.seed}")


def _asked_for(scene, kind, rnd):
    """[(a category that is there, (its index,)), (one that is not, ())]; nothing of a scene without
    things."""
    if not scene.things:
        return []
    i = rnd.randrange(len(scene.things))
    return [(scene.things[i].category, (i,)), (absentee(scene, kind, rnd), ())]


def _existence(scene, kind, rnd):
    return [
        Question("existence", f"is there {article(word)} ?", "yes" if about else "no", about, kind)
        for word, about in _asked_for(scene, kind, rnd)
    ]


def relation_question(scene: Scene, a: int, b: int) -> Question | None:
    """Where is thing `a` relative to thing `b` (indices)? None where no single word is right."""
    word = relation(scene.things[a], scene.things[b])
    if word is None:
        return None
    text = f"where is the {scene.things[a].category} relative to the {scene.things[b].category} ?"
    return Question("relation", text, word, (a, b))


def _phrase(thing):
    if thing.category == "sign":
        return "a sign " + " ".join(thing.text)
    return f"{article(thing.colour)} {thing.texture} {thing.category}"


def description(scene: Scene) -> str:
    """The scene in one sentence, things from left to right."""
    phrases = [_phrase(t) for t in sorted(scene.things, key=lambda t: (t.x, t.y))]
    return " , ".join(phrases) + f" , on {scene.background} ."


def questions(
    scene: Scene, families: Iterable[str] = QUESTION_FAMILIES, seed: float | None = None
) -> list[Question]:
    """Questions of the asked families, in order; the same for the same scene, unless `seed` draws
    others.

    A family that a scene gives no ground for (reading without a sign) yields none.
    """
    families = (families,) if isinstance(families, str) else families
    unknown = [f for f in families if f not in QUESTION_FAMILIES]
    if unknown:
        raise ValueError(
            f"No question family {unknown[0]!r}; there are {', '.join(QUESTION_FAMILIES)}."
        )
    rnd = random.Random(f"questions/{scene.split}/{scene.seed}/{seed}")
    return [q for family in families for q in _MAKERS[family](scene, rnd)]


def _painted(scene):
    return [i for i, t in enumerate(scene.things) if t.colour]


def _colour(scene, rnd):
    if not _painted(scene):
        return []
    i = rnd.choice(_painted(scene))
    return [
        Question(
            "colour",
            f"what colour is the {scene.things[i].category} ?",
            scene.things[i].colour,
            (i,),
        )
    ]


def _texture(scene, rnd):
    if not _painted(scene):
        return []
    i = rnd.choice(_painted(scene))
    return [
        Question(
            "texture",
            f"what texture is the {scene.things[i].category} ?",
            scene.things[i].texture,
            (i,),
        )
    ]


def _category(scene, rnd):
    """Named by colour alone where that is enough, else by colour and texture; skipped if two things
    share both."""
    painted = _painted(scene)
    rnd.shuffle(painted)
    for i in painted:
        thing = scene.things[i]
        twins = [t for t in scene.things if t.colour == thing.colour]
        if len(twins) == 1:
            return [
                Question("category", f"what is the {thing.colour} object ?", thing.category, (i,))
            ]
        if sum(t.texture == thing.texture for t in twins) == 1:
            return [
                Question(
                    "category",
                    f"what is the {thing.colour} {thing.texture} object ?",
                    thing.category,
                    (i,),
                )
            ]
    return []


def _background(scene, rnd):
    return [Question("background", "what is the background ?", scene.background)]


def _reading(scene, rnd):
    if scene.sign is None:
        return []
    i = next(i for i, t in enumerate(scene.things) if t.category == "sign")
    return [Question("reading", "what does the sign say ?", " ".join(scene.sign), (i,))]


def _counting(scene, rnd):
    if rnd.random() < 0.4:
        return [
            Question(
                "counting", "how many objects are there ?", NUMBERS[len(scene.things)], kind="all"
            )
        ]
    kind = rnd.choice(("colour", "texture"))
    here = [getattr(t, kind) for t in scene.things if getattr(t, kind)]
    word = rnd.choice(here) if rnd.random() < 0.7 else rnd.choice(words_of(kind))
    return [
        Question(
            "counting", f"how many {word} objects are there ?", NUMBERS[here.count(word)], kind=kind
        )
    ]


def _relation(scene, rnd):
    """One clear pair, feet at least 20 pixels apart unless one stands on or under the other."""
    pairs = [(a, b) for a in range(len(scene.things)) for b in range(len(scene.things)) if a != b]
    rnd.shuffle(pairs)
    for a, b in pairs:
        s, n = scene.things[a], scene.things[b]
        held = (s.place and s.support == b) or (n.place and n.support == a)
        # its foot is not on the ground: only its stand is a clear neighbour
        lifted = s.place == "on" or n.place == "on"
        if held or (not lifted and max(abs(s.x - n.x), abs(s.y - n.y)) >= 20):
            question = relation_question(scene, a, b)
            if question:
                return [question]
    return []


def _description(scene, rnd):
    return [Question("description", "describe the scene .", description(scene))]


_MAKERS = {
    "existence": lambda scene, rnd: _existence(scene, "random", rnd),
    "colour": _colour, "texture": _texture, "category": _category, "background": _background,
    "reading": _reading, "counting": _counting, "relation": _relation, "description": _description,
}  # fmt: skip
