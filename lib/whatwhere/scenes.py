"""Scenes: pictures with a truth about them, whoever made them, as all statistics of things take
them.

    class Photograph:                        # a class of your own: nothing has to be inherited
        id, image, things = …
        def cover(self, rows, columns):  # (things, rows, columns), here from masks of the things
            return scenes.cover_of(self.masks, self.image.size, rows, columns)
        def relation(self, a, b): …

    stages.counts(stages.read(vlm, photographs), photographs)

`Scene` and `Thing` say what is needed. The organisms' world is one such source of scenes
(`world.Scene`). Truth is laid over what a model really sees of a picture, after its own resizing
and cropping: `vlm.cover(scene)`.
"""

import random
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Protocol, runtime_checkable

import numpy as np

from .images import View


@runtime_checkable
class Thing(Protocol):
    """One thing in a picture.

    Attributes:
        category: the word for what it is, "mug".
        attributes: words for how it is, ("red", "striped").
        words: all of its own words, which are these and perhaps more (the letters of a sign).
    """

    @property
    def category(self) -> str: ...
    @property
    def attributes(self) -> Sequence[str]: ...
    @property
    def words(self) -> Sequence[str]: ...


@runtime_checkable
class Scene(Protocol):
    """A picture and what is known about it.

    Four more members are used where a scene has them: `background`, the word for its ground;
    `vocabulary`, {kind: words} of all that its
    source may show, with the kinds "category", "background" and any kinds of attributes ("colour");
    without it, its things' own words. `existence(kind)`, its existence questions: [(word, whether
    it is there), …]. `questions(kinds)`, questions with `text` and `answer` for an `answers.Exam`.

    Attributes:
        id: a string by which it is known again, in error messages, tables and files.
        image: anything `images.read` takes.
        things: a sequence of `Thing`.
    """

    @property
    def id(self) -> str: ...
    @property
    def image(self) -> Any: ...
    @property
    def things(self) -> Sequence[Thing]: ...

    def cover(self, rows: int, columns: int) -> np.ndarray:
        """(things + 1, rows, columns) shares of the cells of a grid laid over the whole picture.

        Row by row what each thing covers, from 0 to 1, and last what none does: the ground.
        """
        ...

    def relation(self, a: int, b: int) -> str | None:
        """Where thing `a` is relative to thing `b`, by index, as a word; None where none is
        clear."""
        ...


OPPOSITE = {
    "left": "right", "right": "left", "on": "under", "under": "on", "behind": "front",
    "front": "behind",
}  # fmt: skip
USED = ("id", "image", "things", "cover")  # by every statistic; a relation only by some


def checked(scenes: Iterable[Scene], about: Iterable[int] = ()) -> list[Scene]:
    """The scenes as a list, if they are scenes.

    Args:
        about: indices of things that each of them must have.

    Raises:
        TypeError: for what is no scene, with the members that it lacks.
        ValueError: for a thing without words, and for one that is asked about and not there.
    """
    if isinstance(scenes, Scene):
        raise TypeError("Scenes come as a list, and this is one scene: put it in brackets.")
    scenes = list(scenes)
    for scene in scenes:
        # of the class first: to read `image` may be to draw the picture
        lacking = [
            name for name in USED if not (hasattr(type(scene), name) or hasattr(scene, name))
        ]
        if lacking:
            raise TypeError(
                f"A scene has {', '.join(USED)}; this {type(scene).__name__} has no "
                f"{' and no '.join(lacking)} (see whatwhere.scenes)."
            )
        for n, thing in enumerate(scene.things):
            words = [getattr(thing, "category", None), *(getattr(thing, "words", None) or [None])]
            if isinstance(getattr(thing, "words", None), str):
                raise ValueError(
                    f"The words of thing {n} of scene {scene.id} are a list, not a string."
                )
            if not all(isinstance(word, str) and word.strip() for word in words):
                raise ValueError(
                    f"Thing {n} of scene {scene.id} has no words: a thing has a `category`, "
                    "a word, and `words`, a list with that word and all others of its own."
                )
        for n in about:
            if not 0 <= n < len(scene.things):
                raise ValueError(
                    f"Scene {scene.id} has {_number(scene.things, 'thing')}, and what was asked "
                    f"about is thing {n}, counted from 0: leave the scene out."
                )
    return scenes


def cover(scene: Scene, grid: tuple[int, int], view: View | None = None) -> np.ndarray:
    """(things + 1, rows, columns) what each thing covers of a grid laid over what a model sees.

    A thing that is cropped away covers nothing, and a warning names it. Where the model pads a
    picture there is neither thing nor ground: there the shares add up to less than 1.

    Args:
        grid: (rows, columns), of visual tokens or of the ViT's patches.
        view: `vlm.viewed(scene.image)`; without it, the grid lies over the whole picture.

    Raises:
        ValueError: where `scene.cover` gives what is no such array.
    """
    if view is None or view.whole:
        return _shares(scene, *grid)
    width, height = view.size
    left, top, right, bottom = view.box
    pixels = _shares(scene, height, width)  # of the resized picture, whose pixels are cropped
    inside = pixels[:, max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    padding = (
        (0, 0),
        (max(-top, 0), max(bottom - height, 0)),
        (max(-left, 0), max(right - width, 0)),
    )
    lost = np.flatnonzero(pixels[:-1].any((1, 2)) & ~inside[:-1].any((1, 2)))
    for n in lost.tolist():
        warnings.warn(
            f"The {scene.things[n].category} of scene {scene.id} is cropped away by the model: it "
            "covers nothing of what is seen.",
            stacklevel=3,
        )
    return covered(np.pad(inside, padding), *grid)


def _shares(scene, rows, columns):
    shares = np.asarray(scene.cover(rows, columns), float)
    expected = (len(scene.things) + 1, rows, columns)
    if shares.shape != expected:
        raise ValueError(
            f"`cover({rows}, {columns})` of scene {scene.id} gives an array of shape "
            f"{shares.shape}; with {_number(scene.things, 'thing')} and the ground it is of shape "
            f"{expected}."
        )
    if not ((shares >= 0) & (shares <= 1 + 1e-6)).all():  # not a number is refused as well
        raise ValueError(
            f"`cover` of scene {scene.id} gives shares of cells, from 0 to 1; some are not."
        )
    return shares


def cover_of(
    masks: Sequence | np.ndarray, size: tuple[int, int], rows: int, columns: int
) -> np.ndarray:
    """(things + 1, rows, columns) what `Scene.cover` gives, from a mask of each thing.

    Args:
        masks: (things, height, width) booleans; they may overlap, as boxes do.
        size: (width, height) of the picture.

    Raises:
        ValueError: for a mask of another size, or of other than booleans.
    """
    width, height = size
    masks = [np.asarray(mask) for mask in masks]
    for n, mask in enumerate(masks):
        if mask.shape != (height, width):
            raise ValueError(
                f"A mask is of the picture's size, {height} rows of {width} pixels; that of thing "
                f"{n} has the shape {mask.shape}. Resize it, or take the picture that it was made "
                "for."
            )
        if mask.dtype != bool:
            raise ValueError(
                f"A mask is booleans, true where the thing is; that of thing {n} is {mask.dtype}."
            )
    ground = ~np.any(masks, axis=0) if masks else np.ones((height, width), bool)
    return covered([*masks, ground], rows, columns)


def covered(masks: Sequence | np.ndarray, rows: int, columns: int) -> np.ndarray:
    """(masks, rows, columns) what share of each cell of a grid laid over them masks (masks, height,
    width) fill, by area."""
    if not (_whole(rows) and _whole(columns) and min(rows, columns) >= 1):
        raise ValueError(
            f"A grid has a whole number of rows and of columns, 1 or more; got {rows!r} x "
            f"{columns!r}."
        )
    height, width = np.shape(masks[0])
    down, across = _overlaps(height, rows), _overlaps(width, columns).T
    # whole numbers as long as they are added up, so that the shares are exact: an even grid gives
    # plain means, bit for bit; and one mask at a time, since photographs are large
    return np.stack([down @ np.asarray(mask, float) @ across for mask in masks]) / (height * width)


def _overlaps(side, cells):
    """(cells, side) how much of each of `side` pixels is in each cell, where a pixel is `cells`
    long and a cell `side`."""
    cell, pixel = np.arange(cells)[:, None] * side, np.arange(side) * cells
    return (np.minimum(cell + side, pixel + cells) - np.maximum(cell, pixel)).clip(0).astype(float)


def _whole(number):
    return isinstance(number, int | np.integer) and not isinstance(number, bool)


def relation(scene: Scene, a: int, b: int) -> str | None:
    """`scene.relation(a, b)`, where thing `a` is relative to thing `b`; None where no word is
    clearly right.

    Raises:
        ValueError: for a thing that is not there, and for a scene that knows of no relations.
    """
    checked([scene], (a, b))
    if not hasattr(scene, "relation"):
        raise ValueError(
            f"Scene {scene.id} does not know where its things are to each other: it has no "
            "`relation(a, b)`."
        )
    return scene.relation(a, b)


def vocabulary(scenes: Iterable[Scene]) -> dict[str, tuple[str, ...]]:
    """{kind: words} of scenes: their own `vocabulary`, or the categories and attributes of their
    things ("attribute")."""
    words: dict[str, dict[str, None]] = {}  # dictionaries for sets that keep their order
    for scene in scenes:
        by_kind: Mapping[str, Iterable[str]] = getattr(scene, "vocabulary", None) or {
            "attribute": chain.from_iterable(thing.attributes for thing in scene.things),
            "category": (thing.category for thing in scene.things),
        }
        for kind, listed in by_kind.items():
            words.setdefault(kind, {}).update(dict.fromkeys(listed))
    return {kind: tuple(listed) for kind, listed in words.items()}


def existence(scenes: Iterable[Scene], kind: str = "random") -> list[list[tuple[str, bool]]]:
    """For each scene what to ask for: (a word, whether it is there), once for a thing that is
    there, once for none.

    A scene's own questions where it has some (`Scene.existence`). Otherwise by POPE's rule, of the
    categories of the scenes given: an absentee is any that is not there ("random"), one of the
    three commonest ("popular"), or one of the three that are most often seen together with what is
    there ("adversarial"). The same scenes are asked the same. Of a scene without things, or with
    things of all categories, nothing is asked.

    Raises:
        ValueError: for another kind.
    """
    scenes = checked(scenes)
    present = [list(dict.fromkeys(thing.category for thing in scene.things)) for scene in scenes]
    common = Counter(chain.from_iterable(present))
    ranks: dict[str, Callable] = {
        "random": lambda categories: dict.fromkeys(common, 0),
        "popular": lambda categories: common,
        "adversarial": lambda categories: Counter(
            chain.from_iterable(words * len({*words} & {*categories}) for words in present)
        ),
    }
    if kind not in ranks:
        raise ValueError(f"Absentees are {', '.join(ranks)}; got {kind!r}.")
    questions = []
    for scene, categories in zip(scenes, present):
        own_existence = getattr(scene, "existence", None)
        if own_existence is not None:
            questions.append(
                [(str(word), bool(is_there)) for word, is_there in own_existence(kind)]
            )
            continue
        rank, rnd = ranks[kind](categories), random.Random(f"existence/{kind}/{scene.id}")
        absent = sorted(set(common) - set(categories), key=lambda word: (-rank[word], word))
        if kind != "random":
            absent = absent[:3]
        questions.append(
            [(rnd.choice(categories), True), (rnd.choice(absent), False)]
            if categories and absent
            else []
        )
    return questions


def _number(things, noun):
    return f"{len(things) or 'no'} {noun}{'' if len(things) == 1 else 's'}"
