"""Scenes: who stands where, the picture, and the truth about it."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256

import numpy as np
from PIL import Image

from .. import scenes as protocol
from . import sprites
from .question_bank import Question, existence_words, questions, vocabulary
from .rules import POPULARITY, THEMES, relation
from .sprites import BACKGROUNDS, CHARACTERS, COLOURS, PORTABLE, SIZE, STANDS, TEXTURES

SPLITS = ("train", "dev", "test", "unseen")

EXTENT = {"portable": 40, "stand": 56}  # pixels of the larger side, half way between far and near
FAR, NEAR = 0.40, 0.95  # where things may stand: share of the height, from the top


def held_out(category: str, colour: str) -> bool:
    """True for the (category, colour) pairs that only the `unseen` split shows: one colour in eight
    for each category."""
    if category not in PORTABLE or colour not in COLOURS:
        return False
    return (3 * PORTABLE.index(category) + 1) % len(COLOURS) == list(COLOURS).index(colour)


@dataclass(frozen=True)
class Thing:
    """One object. `x` is its middle and `y` its foot, in pixels; `extent` the pixels of its larger
    side."""

    category: str
    colour: str | None = None
    texture: str | None = None
    x: int = 0
    y: int = 0
    extent: int = 40
    text: str | None = None  # a sign's letters
    support: int | None = None  # index of the stand this one is on or under
    place: str | None = None  # "on" or "under", with `support`
    order: float = 0.0  # who hides whom: larger is drawn later

    @property
    def attributes(self) -> tuple[str, ...]:
        """Its colour and its texture; a sign has neither."""
        return tuple(word for word in (self.colour, self.texture) if word)

    @property
    def words(self) -> tuple[str, ...]:
        """The object's own words: its category, its attributes, a sign's letters."""
        return (self.category, *self.attributes, *(self.text or ""))

    @cached_property
    def silhouette(self) -> np.ndarray:
        """`(height, width)` booleans: its whole shape, hidden parts included."""
        return (
            sprites.board(self.text)[0]
            if self.category == "sign"
            else sprites.sprite(self.category, self.extent)[0]
        )

    @property
    def box(self) -> tuple[int, int, int, int]:
        """`(x0, y0, x1, y1)` in pixels, whole silhouette, hidden parts included; may reach outside
        the picture."""
        height, width = self.silhouette.shape
        x0, y0 = self.x - width // 2, self.y - height
        return x0, y0, x0 + width, y0 + height

    @property
    def letters(self) -> tuple[tuple[str, tuple[int, int, int, int]], ...]:
        """`((letter, (x0, y0, x1, y1)), …)` of a sign, empty for anything else."""
        if self.category != "sign" or self.text is None:
            return ()
        left, top = self.box[:2]
        boxes = sprites.board(self.text)[2]
        return tuple(
            (c, (left + b[0], top + b[1], left + b[2], top + b[3]))
            for c, b in zip(self.text, boxes, strict=True)
        )


@dataclass(frozen=True)
class Scene:
    """A picture and the truth about it. Change one with `dataclasses.replace`; the picture follows.

    `owner` is `(height, width)` int8: the index in `things` of what each pixel shows, -1 for
    background.
    """

    seed: int
    split: str
    background: str
    things: tuple[Thing, ...]
    height: int = SIZE
    width: int = SIZE
    light: float = 1.0
    window: tuple[int, int] = (0, 0)  # where the background is cut from

    @cached_property
    def _drawn(self):
        x, y = self.window
        rows = (y + np.arange(self.height)) % 512
        columns = (x + np.arange(self.width)) % 512
        ground = sprites.background(self.background)
        inside = y + self.height <= 512 and x + self.width <= 512
        ground = (
            ground[y : y + self.height, x : x + self.width]
            if inside
            else ground[np.ix_(rows, columns)]
        )
        # The far end of the table lies in a little shade: depth can be seen without any object.
        canvas = ground * np.linspace(0.82, 1.04, self.height, dtype=np.float32)[:, None, None]
        owner = np.full((self.height, self.width), -1, np.int8)
        for i in sorted(range(len(self.things)), key=lambda i: (self.things[i].order, i)):
            self._draw(canvas, owner, i)
        canvas *= self.light
        np.clip(canvas, 0, 255, out=canvas)
        return canvas.astype(np.uint8), owner

    def _draw(self, canvas, owner, index):
        thing = self.things[index]
        x0, y0, x1, y1 = thing.box
        left, top, right, bottom = max(x0, 0), max(y0, 0), min(x1, self.width), min(y1, self.height)
        if left >= right or top >= bottom:
            return
        cut = np.s_[top - y0 : bottom - y0, left - x0 : right - x0]
        alpha = thing.silhouette[cut]
        if thing.category == "sign":
            fill = np.array((238, 232, 215), np.float32)
            dark, deep = sprites.board(thing.text)[1][cut], 0.12
        else:
            if thing.colour not in COLOURS:
                raise ValueError(f"No colour {thing.colour!r}; there are {', '.join(COLOURS)}.")
            fill = np.array(COLOURS[thing.colour], np.float32)
            dark = sprites.texture(thing.texture)[: y1 - y0, : x1 - x0][cut]
            deep = 0.42
        shade = np.where(dark, np.float32(deep), np.float32(1))
        if thing.category != "sign":
            shade = np.where(
                sprites.sprite(thing.category, thing.extent)[1][cut], np.float32(0.2), shade
            )
        spot = canvas[top:bottom, left:right]
        np.copyto(spot, fill * shade[..., None], where=alpha[..., None])
        np.copyto(owner[top:bottom, left:right], np.int8(index), where=alpha)

    @property
    def pixels(self) -> np.ndarray:
        """`(height, width, 3)` uint8."""
        return self._drawn[0]

    @property
    def owner(self) -> np.ndarray:
        """`(height, width)` int8: the index in `things` of what each pixel shows, -1 for
        background."""
        return self._drawn[1]

    @property
    def image(self) -> Image.Image:
        """The picture, a PIL image."""
        return Image.fromarray(self.pixels)

    @property
    def masks(self) -> np.ndarray:
        """`(things, height, width)` booleans: the visible part of each thing."""
        return self.owner[None] == np.arange(len(self.things), dtype=np.int8)[:, None, None]

    @property
    def visible(self) -> list[float]:
        """Share of each thing's silhouette that can be seen, a list of floats in 0..1."""
        counts = np.bincount(self.owner.ravel() + 1, minlength=len(self.things) + 1)[1:]
        return [
            float(n) / int(t.silhouette.sum()) for n, t in zip(counts, self.things, strict=True)
        ]

    @property
    def sign(self) -> str | None:
        """The sign's letters, or None."""
        return next((t.text for t in self.things if t.category == "sign"), None)

    def find(self, category: str) -> Thing | None:
        """The thing of a category, or None. A category occurs at most once in a scene."""
        return next((t for t in self.things if t.category == category), None)

    @property
    def id(self) -> str:
        """By which this very scene is known again: its split and seed, and a digest of all that it
        is made of."""
        return f"tabletop/{self.split}/{self.seed}/{sha256(repr(self).encode()).hexdigest()[:8]}"

    def cover(self, rows: int, columns: int) -> np.ndarray:
        """`(things + 1, rows, columns)` floats: the share of each grid cell that each thing covers,
        background last.

        The grid is laid over the whole picture. It need not divide it evenly: a pixel on the border
        of cells belongs to each of them by its area there.
        """
        return protocol.cover_of(self.masks, (self.width, self.height), rows, columns)

    def relation(self, a: int, b: int) -> str | None:
        """Where thing `a` is relative to thing `b`, by index: `world.relation`."""
        return relation(self.things[a], self.things[b])

    @property
    def vocabulary(self) -> dict[str, tuple[str, ...]]:
        """The words of each kind in the whole world: `world.vocabulary()`."""
        return vocabulary()

    def existence(self, kind: str = "random") -> list[tuple[str, bool]]:
        """What `world.existence` asks about: a word, and whether it is there."""
        return existence_words(self, kind)

    def questions(self, families: Sequence[str]) -> list[Question]:
        """`world.questions` of these families, with their answers."""
        return questions(self, families)


def extent_at(category: str, y: int, height: int) -> int:
    """How many pixels the larger side of a thing has whose foot is at `y`: the nearer, the more."""
    kind = "stand" if category in STANDS else "portable"
    near = (y / height - FAR) / (NEAR - FAR)
    return round(EXTENT[kind] * (0.82 + 0.36 * min(max(near, 0), 1)))


def dress(rnd: random.Random, category: str, split: str, novel: bool = False) -> tuple[str, str]:
    """A colour and a texture, keeping held-out pairs where they belong."""
    colours = [c for c in COLOURS if held_out(category, c) == novel]
    return rnd.choice(colours), rnd.choice(TEXTURES)


def _overlap(a, b):
    """Share of the smaller box that the two boxes have in common."""
    ax0, ay0, ax1, ay1 = a
    bx0, by0, bx1, by1 = b
    common = max(0, min(ax1, bx1) - max(ax0, bx0)) * max(0, min(ay1, by1) - max(ay0, by0))
    return common / min((ax1 - ax0) * (ay1 - ay0), (bx1 - bx0) * (by1 - by0))


def _whole(number):
    return isinstance(number, int | np.integer) and not isinstance(number, bool)


def guard(seed: int, split: str, size: int, n: int = 0) -> None:
    """Refuse a seed, a split, a size or a number that the world does not have."""
    if not _whole(seed):
        raise TypeError(f"A scene's seed is a whole number, such as 7; got {seed!r}.")
    if seed < 0:
        raise ValueError(f"A scene's seed is zero or more; got {seed}.")
    if split not in SPLITS:
        raise ValueError(f"No split {split!r}; there are {', '.join(SPLITS)}.")
    if not _whole(size) or size < SIZE:  # a smaller room would not hold the things
        raise ValueError(
            f"A picture's size is a whole number of pixels, {SIZE} or more; got {size!r}."
        )
    if not _whole(n) or n < 0:
        raise ValueError(f"How many is a whole number, zero or more; got {n!r}.")


def scene(seed: int, split: str = "test", size: int = SIZE) -> Scene:
    """The scene of a seed: 2 to 4 things, sometimes a sign, on one of six grounds.

    `size` is the side of the square picture in pixels; things keep their size, so a larger picture
    is a larger room.
    """
    guard(seed, split, size)
    rnd = random.Random(f"tabletop/{split}/{int(seed)}")
    things_of, grounds = THEMES[rnd.choice(list(THEMES))]
    ground = rnd.choice(grounds) if rnd.random() < 0.5 else rnd.choice(BACKGROUNDS)
    wanted = rnd.choice((2, 3, 3, 4, 4))
    categories = []
    if rnd.random() < 0.35:
        categories.append(rnd.choice(STANDS))
    while len(categories) < wanted:
        pool = things_of if rnd.random() < 0.6 else PORTABLE
        pick = rnd.choices(pool, [POPULARITY.get(c, 1.0) for c in pool])[0]
        if pick not in categories:
            categories.append(pick)
    placed = []
    if rnd.random() < 0.4:  # the sign first: its board must stay readable, so the others make way
        text = "".join(rnd.choices(CHARACTERS, k=2))
        y = rnd.randint(round(size * FAR), round(size * NEAR))
        placed.append(
            Thing(
                "sign",
                x=rnd.randint(22, size - 22),
                y=y,
                text=text,
                extent=sprites.BOARD[0],
                order=y,
            )
        )
    novel_at = rnd.randrange(len(categories)) if split == "unseen" else -1
    if split == "unseen" and categories[novel_at] in STANDS:
        novel_at = next(i for i, c in enumerate(categories) if c in PORTABLE)
    for i, category in enumerate(categories):
        thing = _place(
            rnd,
            category,
            placed,
            size,
            dress(rnd, category, split, i == novel_at),
            must=i == novel_at,
        )
        if thing:
            placed.append(thing)
    return Scene(int(seed), split, ground, tuple(placed), size, size, rnd.uniform(0.85, 1.08),
                 (rnd.randrange(512 - SIZE), rnd.randrange(512 - SIZE)))  # fmt: skip


def _place(rnd, category, placed, size, dress, must=False):
    """Find room for one more thing; None if forty tries find none (never for one that must be
    there)."""
    stand = next((i for i, t in enumerate(placed) if t.category in STANDS), None)
    free = stand is not None and not any(t.support == stand for t in placed)
    if category in PORTABLE and free and rnd.random() < 0.6:
        place, across = (
            rnd.choice(("on", "on", "under", "under", "left", "right")),
            rnd.randint(38, 58),
        )
        thing = beside(placed[stand], Thing(category, *dress), place, support=stand, across=across)
        x0, y0, x1, _ = thing.box
        near = [other for other in placed if thing.support is None or other is not placed[stand]]
        if x0 > 0 and y0 > 0 and x1 < size and all(_fits(thing, other, 0.25) for other in near):
            return thing
    for attempt in range(400 if must else 40):
        y = rnd.randint(round(size * FAR), round(size * NEAR))
        extent = extent_at(category, y, size)
        x = rnd.randint(extent // 2, size - extent // 2)
        thing = Thing(category, *dress, x=x, y=y, extent=extent, order=y)
        crowd = 0.25 if attempt < 200 else 0.6
        if all(_fits(thing, other, crowd) for other in placed):
            return thing
    return None


def _fits(thing, other, crowd):
    if other.category == "sign":
        return _overlap(thing.box, other.box) == 0
    return _overlap(thing.box, other.box) <= crowd and (
        abs(thing.x - other.x) >= 16 or abs(thing.y - other.y) >= 12
    )


def beside(
    stand: Thing, thing: Thing, place: str, support: int | None = None, across: int = 0
) -> Thing:
    """`thing` put on, under, left or right of a stand, small enough to fit between its legs
    wherever it is put.

    `across` is the distance in pixels of one that stands to the left or right, on its own feet.
    """
    height, width = stand.silhouette.shape
    thing = replace(
        thing, support=support, place=place, x=stand.x, extent=round(0.58 * max(height, width))
    )
    if place == "on":
        return replace(thing, y=stand.y - round(0.90 * height), order=stand.order + 0.1)
    if place == "under":
        return replace(thing, y=stand.y - 1, order=stand.order - 0.1)
    x = stand.x - across if place == "left" else stand.x + across
    return replace(thing, support=None, place=None, x=x, y=stand.y, order=stand.order + 0.1)


def scenes(split: str = "test", n: int = 100, start: int = 0, size: int = SIZE) -> Iterator[Scene]:
    """An iterator over `n` scenes of a split, seeds `start`, `start + 1`, …"""
    guard(start, split, size, n)
    return (scene(seed, split, size) for seed in range(start, start + n))
