"""A photograph and the regions of the things in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw

from ..scenes import OPPOSITE, cover_of

if TYPE_CHECKING:
    from ..types import ImageLike


@dataclass(frozen=True, eq=False)
class Thing:
    """A thing in a photograph, by one of three kinds of region, in pixels of the picture.

    Attributes:
        category: the word for what it is.
        attributes: words for how it is.
        also: other words for what it is, as right as the first.
        box: (left, top, right, bottom); the two last are the first pixels beyond it.
        outlines: polygons, each of three (x, y) or more; one that is hidden in part has several.
        mask: (height, width) booleans, of the picture's size.
    """

    category: str
    attributes: Sequence[str] = ()
    also: Sequence[str] = ()
    box: tuple[float, float, float, float] | None = None
    outlines: Sequence[Sequence[tuple[float, float]]] = ()
    mask: np.ndarray | None = field(default=None, repr=False)

    @property
    def words(self) -> tuple[str, ...]:
        """All of its own words: what it is, how it is, and what else it is called."""
        return (self.category, *self.attributes, *self.also)

    def region(self, size: tuple[int, int]) -> np.ndarray:
        """(height, width) booleans: the pixels that are its own.

        A pixel is inside a box if its middle is. What reaches beyond the picture is cut off.

        Args:
            size: (width, height) of the picture.

        Raises:
            ValueError: for none or several kinds of region, one of another size, and one without a
                pixel.
        """
        width, height = size
        kinds = [self.box is not None, bool(len(self.outlines)), self.mask is not None]
        if sum(kinds) != 1:
            raise ValueError(
                f"A region is a box, outlines or a mask; the {self.category} has {sum(kinds)} of "
                "the three."
            )
        if self.mask is not None:
            mask = np.asarray(self.mask)
            if mask.shape != (height, width) or mask.dtype != bool:
                raise ValueError(
                    f"The mask of the {self.category} is of {mask.dtype} and shape {mask.shape}; "
                    f"one of this picture is of booleans and shape {(height, width)}."
                )
            pixels = mask
        elif self.box is not None:
            left, top, right, bottom = _numbers(self.box, 4, f"The box of the {self.category}")
            x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
            pixels = ((y > top) & (y < bottom))[:, None] & ((x > left) & (x < right))
        else:
            canvas = Image.new("1", size)
            for outline in self.outlines:
                what = f"An outline of the {self.category}"
                points = [
                    tuple(_numbers(point, 2, f"A point of {what.lower()}")) for point in outline
                ]
                if len(points) < 3:
                    raise ValueError(f"{what} has three points or more, not {len(points)}.")
                ImageDraw.Draw(canvas).polygon(points, fill=1)
            pixels = np.array(canvas)
        if not pixels.any():
            raise ValueError(
                f"The {self.category} has no pixel in this picture of {width} × {height}: its "
                f"region is {self._where()}."
            )
        return pixels

    def _where(self):
        if self.box is not None:
            return f"the box {tuple(self.box)}"
        return "an empty mask" if self.mask is not None else f"{str(self.outlines)[:100]}"


@dataclass(frozen=True, eq=False)
class Photograph:
    """A photograph and what is known about it: a `scenes.Scene`.

    Attributes:
        id: by which it is known again: its source and its name there.
        image: anything `images.read` takes.
        size: (width, height) that its regions are made for.
        things: its things; their regions may overlap, as boxes do.
        relations: {(a, b): where thing `a` is relative to thing `b`}, by index; the opposite
            follows by itself.
    """

    id: str
    image: ImageLike = field(repr=False)
    size: tuple[int, int]
    things: tuple[Thing, ...]
    relations: Mapping[tuple[int, int], str] = field(default_factory=dict)

    def __post_init__(self):
        # only looked at; a region may be much larger than what it is made from
        for thing in self.things:
            if thing.mask is None:
                thing.region(self.size)

    @property
    def masks(self) -> np.ndarray:
        """(things, height, width) booleans: each thing's region."""
        width, height = self.size
        regions = [thing.region(self.size) for thing in self.things]
        return np.array(regions, dtype=bool).reshape(-1, height, width)

    def cover(self, rows: int, columns: int) -> np.ndarray:
        """(things + 1, rows, columns) shares of the cells of a grid over the whole picture: of each
        thing, and last of what none covers."""
        return cover_of(self.masks, self.size, rows, columns)

    def relation(self, a: int, b: int) -> str | None:
        """Where thing `a` is relative to thing `b`; None where nobody has said so."""
        other = self.relations.get((b, a))
        return self.relations.get((a, b)) or (OPPOSITE.get(other) if other else None)


def _numbers(values: Any, n: int, what: str) -> list[float]:
    """`n` finite numbers, as floats."""
    is_list = isinstance(values, Sequence | np.ndarray) and not isinstance(values, str)
    if not is_list or len(values) != n:
        raise ValueError(f"{what} is {n} numbers, in pixels, not {str(values)[:80]}.")
    if not all(
        isinstance(value, Real) and not isinstance(value, bool) and np.isfinite(float(value))
        for value in values
    ):
        raise ValueError(f"{what} is {n} numbers, in pixels, not {str(values)[:80]}.")
    return [float(value) for value in values]
