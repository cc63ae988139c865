"""Controlled sets, after What's Up: the same two things in four relations, and nothing else
changed."""

import random
from dataclasses import dataclass, replace

from .question_bank import Question, relation_question
from .rendering import Scene, Thing, beside, dress, extent_at, guard
from .sprites import BACKGROUNDS, PORTABLE, SIZE, STANDS

RELATIONS_A = ("on", "under", "left", "right")
RELATIONS_B = ("behind", "front", "left", "right")


@dataclass(frozen=True)
class ControlledSet:
    """The same satellite and nucleus in four relations, as in What's Up: `scenes` maps relation to
    Scene."""

    which: str
    spacing: str
    satellite: str
    nucleus: str
    scenes: dict[str, Scene]

    def asked(self) -> list[tuple[Scene, Question]]:
        """Each scene with the question where the satellite is: a controlled set always has an
        answer."""
        pairs = [(scene, relation_question(scene, 0, 1)) for scene in self.scenes.values()]
        return [(scene, question) for scene, question in pairs if question]


# Pixels between the two feet: across, and in depth. Narrow things overlap; training hardly ever
# asks about things so close.
SPACING = {"wide": {"A": (46, 0), "B": (43, 32)}, "narrow": {"A": (30, 0), "B": (15, 10)}}


def controlled(
    which: str,
    n: int = 50,
    spacing: str = "wide",
    split: str = "test",
    start: int = 0,
    size: int = SIZE,
) -> list[ControlledSet]:
    """`n` controlled sets: A puts a thing on, under, left or right of a stand; B behind, in front,
    left or right of another.

    Within a set all but the relation is fixed: things, colours, textures, ground, light, and the
    nucleus' place.
    """
    if which not in ("A", "B"):
        raise ValueError(
            "Controlled sets are 'A' (on, under, left, right) or 'B' (behind, front, left, "
            f"right); got {which!r}."
        )
    if spacing not in SPACING:
        raise ValueError(f"Spacing is {' or '.join(map(repr, SPACING))}; got {spacing!r}.")
    guard(start, split, size, n)
    return [_controlled(which, seed, spacing, split, size) for seed in range(start, start + n)]


def _controlled(which, seed, spacing, split, size):
    # not of spacing: wide and narrow twins
    rnd = random.Random(f"tabletop/controlled/{which}/{split}/{seed}")
    satellite = rnd.choice(PORTABLE)
    nucleus = rnd.choice(STANDS if which == "A" else [c for c in PORTABLE if c != satellite])
    dressed = {
        c: dress(rnd, c, split, split == "unseen" and c == satellite) for c in (satellite, nucleus)
    }
    across, deep = SPACING[spacing][which]
    x, y = size // 2 + rnd.randint(-8, 8), round(size * 0.68) + rnd.randint(-6, 10)
    ground, light = rnd.choice(BACKGROUNDS), rnd.uniform(0.9, 1.05)
    window = rnd.randrange(512 - SIZE), rnd.randrange(512 - SIZE)
    centre = Thing(
        nucleus, *dressed[nucleus], x=x, y=y, extent=extent_at(nucleus, y, size), order=y
    )
    shift = {"left": (-across, 0), "right": (across, 0), "behind": (0, -deep), "front": (0, deep)}
    made = {}
    for name in RELATIONS_A if which == "A" else RELATIONS_B:
        thing = Thing(satellite, *dressed[satellite])
        if which == "A":  # one size in all four places, so that size says nothing
            fitted = beside(centre, thing, name, support=1, across=across)
        else:
            foot = y + shift[name][1]
            fitted = replace(
                thing,
                x=x + shift[name][0],
                y=foot,
                extent=extent_at(satellite, foot, size),
                order=foot,
            )
        made[name] = Scene(seed, split, ground, (fitted, centre), size, size, light, window)
    return ControlledSet(which, spacing, satellite, nucleus, made)
