"""What scenes are made by and questions are asked by: which things come together, and what "left
of" means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .sprites import STANDS

if TYPE_CHECKING:
    from .rendering import Thing

OPPOSITE = {
    "left": "right",
    "right": "left",
    "behind": "front",
    "front": "behind",
    "on": "under",
    "under": "on",
}

# Co-occurrence priors: a scene has a theme, and most of its things and its ground come from it.
# Popular things are common in every theme. Nothing here is needed to see, everything to guess.
THEMES = {
    "kitchen": (("apple", "bottle", "bowl", "mug"), ("wood", "brick")),
    "study": (("candle", "key", "lamp", "star"), ("wood", "sand")),
    "outdoors": (("boot", "fish", "hat", "house"), ("grass", "water", "snow")),
}
POPULARITY = {"mug": 3.0, "lamp": 2.5, "hat": 2.5, "apple": 1.8, "candle": 1.5, "fish": 1.5}


def relation(a: Thing, b: Thing) -> str | None:
    """Where `a` is relative to `b`: left, right, behind, front, on, under, or None where it is none
    of them clearly.

    On and under come from support. The plane is seen at a slant, so a pixel of height counts 1.4
    pixels of depth, and one direction must be at least twice the other. A thing on a stand is not
    on the plane: it has no clear place relative to anything but its stand.
    """
    if a.place and b.category in STANDS:
        return a.place
    if b.place and a.category in STANDS:
        return OPPOSITE[b.place]
    across, deep = a.x - b.x, 1.4 * (a.y - b.y)
    if "on" in (a.place, b.place) or not (across or deep):
        return None
    if abs(across) >= 2 * abs(deep):
        return "left" if across < 0 else "right"
    if abs(deep) >= 2 * abs(across):
        return "behind" if deep < 0 else "front"
    return None
