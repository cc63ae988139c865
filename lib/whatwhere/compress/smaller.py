"""The baseline of all: a smaller picture, with as many visual tokens as a method would keep.

Nothing is chosen, dropped or merged: the picture is made smaller before the ViT sees it, so that
the ViT's work is saved as well. What a method of compression is worth is what it is worth beyond
this.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from .. import places
from ..families.square import Square
from ..images import bounded
from .groups import Keep, Method, Sight, number

if TYPE_CHECKING:
    from ..models import VLM

PLACE = "picture"


def smaller(keep: Keep) -> Method:
    """Baseline: the picture is made smaller, to at most `keep` visual tokens; their grid is the one
    that has most of them among those of its shape.

    A ViT that shows every picture at one size gets a smaller square, with its table of positions
    interpolated; it was hardly ever trained on that, and its `keep` is rounded down to a square.
    """
    return Method("smaller", Smaller(keep), place=PLACE)


@dataclass(frozen=True)
class Smaller:
    """What stands for the groups of a method that has none.

    Attributes:
        keep: how many tokens, a number or a share.
    """

    keep: Keep

    def __call__(self, sight: Sight) -> Any:
        raise ValueError("A smaller picture has no groups: its tokens are other tokens.")


def grid_of(rows: int, columns: int, keep: int, square: bool = False) -> tuple[int, int]:
    """(rows, columns) of a smaller grid of at most `keep` cells: the shape of the larger one, as
    far as whole numbers have it, then the most cells."""
    if keep >= rows * columns:
        return rows, columns
    if square:
        side = int(keep**0.5)
        return side, side
    best, scale = (1, 1), (keep / (rows * columns)) ** 0.5
    for high in {max(1, int(rows * scale)), max(1, int(rows * scale) + 1)}:
        wide = min(columns, keep // high)
        # neither side shrinks more than one and a half times as much as the other
        fits = 2 / 3 <= (high / rows) / (wide / columns) <= 3 / 2 if wide else False
        if wide and (fits or best == (1, 1)) and high * wide > best[0] * best[1]:
            best = high, wide
    return best


def check_plain(way: Method, pool: str, positions: str, lengths: str) -> None:
    """Refuse what is said about tokens that go on for others, of which there are none."""
    if (pool, positions, lengths) != ("mean", "kept", "dropped"):
        raise ValueError(
            f"Method '{way.name}' shows a smaller picture, in which each token stands for itself: "
            "leave pool, positions and lengths out."
        )


class Shown:
    """What notes, for each prompt, how many visual tokens it has, and how many it would have had.

    Attributes:
        whole: of each grid that was shown, that of the whole picture, in order.
    """

    def __init__(self, vlm: VLM, log: Any):
        self.vlm, self.log, self.whole = vlm, log, []
        self.prompt = places.Running(vlm)

    def note(self, _: Any, args: tuple, named: dict[str, Any]) -> None:
        """Before the LM."""
        found, self.prompt.found = self.prompt.found, None
        if found is None:
            return
        if not self.whole:
            raise ValueError(
                "A smaller picture is made when a prompt is prepared, and this one was prepared "
                "before: call vlm.prepare within this context."
            )
        given, repeats = self.whole, max(1, len(found.index) // max(1, len(self.whole)))
        for n, index in enumerate(found.index):
            rows, columns = given[min(n // repeats, len(given) - 1)]
            self.log.kept.append(len(index))
            self.log.given.append(rows * columns)
            self.log.on_average.append(float(len(index)))


@contextmanager
def shown(vlm: VLM, way: Any, log: Any) -> Iterator[Any]:
    """Within this context `vlm` sees smaller pictures; yields the log.

    Raises:
        ValueError: for a family whose pictures have one size that cannot be made smaller.
    """
    adapter, shower = vlm.adapter, Shown(vlm, log)
    usual, before = adapter.pixels, (vlm._grids, vlm._views)
    if isinstance(adapter, Square):
        change = _square(vlm, way, shower, usual)
    elif adapter.bounds() is not None:
        change = _resized(vlm, way, shower, usual)
    else:
        raise ValueError(f"{vlm.name} shows its pictures at one size, which cannot be smaller.")
    handles = [
        shower.prompt.attach(),
        vlm.lm.register_forward_pre_hook(shower.note, with_kwargs=True),
    ]
    vlm._grids, vlm._views = {}, {}  # which go by the picture's size alone
    try:
        with change:
            yield log
    finally:
        vlm._grids, vlm._views = before
        for handle in handles:
            handle.remove()


@contextmanager
def _resized(vlm, way, shower, usual):
    """A family that keeps the size of its pictures: they are resized, whatever its bounds are."""
    adapter = vlm.adapter

    def pixels(images: list[Image.Image]):
        grids = [each for image in images for each in adapter.grids(usual([image]))]
        shower.whole = grids
        resized = [_small(adapter, image, grid, way) for image, grid in zip(images, grids)]
        with bounded(vlm, min_pixels=adapter.token_area, max_pixels=2**40):
            return usual(resized)

    with _pixels(adapter, pixels):
        yield


def _small(adapter, image, grid, way):
    high, wide = grid
    rows, columns = grid_of(high, wide, _wanted(way, grid))
    side = round(adapter.token_area**0.5)
    return image.resize((columns * side, rows * side), Image.Resampling.BICUBIC)


@contextmanager
def _square(vlm, way, shower, usual):
    """A family that shows every picture as one square: the square is smaller, and the table of
    positions is interpolated (by transformers, where the ViT is told so)."""
    adapter, side, m = vlm.adapter, vlm.adapter.side, vlm.adapter.merge
    tokens = side // m
    new = m * grid_of(tokens, tokens, _wanted(way, (tokens, tokens)), square=True)[0]
    pixels_each = adapter._image // side

    def pixels(images: list[Any]):
        shower.whole = [(tokens, tokens)] * len(images)
        made = usual(images)
        values = torch.as_tensor(made["pixel_values"])
        flat = values.flatten(0, -4)
        small = torch.nn.functional.interpolate(
            flat.float(), (new * pixels_each,) * 2, mode="bicubic", antialias=True
        )
        made["pixel_values"] = small.to(values.dtype).unflatten(0, values.shape[:-3])
        if "pixel_attention_mask" in made:  # of pixels that are no padding: all
            mask = made["pixel_attention_mask"]
            made["pixel_attention_mask"] = mask[..., : small.shape[-2], : small.shape[-1]]
        return made

    def told(_, args, named):
        return args, {**named, "interpolate_pos_encoding": True}

    handle = None
    if vlm.family == "llava" and new != side:
        handle = adapter.vision.register_forward_pre_hook(told, with_kwargs=True)
    image = adapter._image
    adapter.side, adapter._image = new, new * pixels_each
    try:
        with _pixels(adapter, pixels):
            yield
    finally:
        adapter.side, adapter._image = side, image
        if handle is not None:
            handle.remove()


@contextmanager
def _pixels(adapter, pixels):
    """Within it the adapter makes pixels by another function."""
    adapter.pixels = pixels
    try:
        yield
    finally:
        del adapter.pixels


def _wanted(way, grid):
    """How many tokens to keep of a grid."""
    sight = Sight(torch.zeros(grid[0] * grid[1], 1), grid)
    return number(way.groups.keep, sight)
