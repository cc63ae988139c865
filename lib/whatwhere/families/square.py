"""Families that show every picture at one square size, to a ViT with a learnt table of places."""

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..images import View
from .adapter import Adapter, Grid, Model, Pixels
from .preprocessing import picture


class Square(Adapter):
    """One grid of `side` × `side` patches in raster order, m × m of them merged into a token.

    A family says with which arguments its image processor runs (`_processed`) and what its
    connector makes of a state (`connect`), and sets in `__init__` what has no default. One that
    crops or pads pictures says so in a `viewed` of its own.
    """

    side: int
    _class_token = False  # is the first vector of a ViT state no patch?

    def __init__(self, model: Model, image_processor: Any, image: int, patch: int):
        """image, patch: pixels along a side of what the ViT sees, and of a patch."""
        super().__init__(model, image_processor)
        self.side, self._image, self._patch = image // patch, image, patch

    def _processed(self, images: list[Any], **how: Any) -> dict[str, Any]:
        """What the image processor makes of pictures, with these settings besides the family's."""
        return self.image_processor(images, input_data_format="channels_last", **how)

    @property
    def _grid(self) -> Grid:
        return self.side // self.merge, self.side // self.merge

    def pixels(self, images: list[Image.Image]) -> Pixels:
        return dict(self._processed(images, return_tensors="pt"))

    def seen(self, image: Image.Image) -> Image.Image:
        raw = self._processed([image], do_rescale=False, do_normalize=False)["pixel_values"]
        raw = np.asarray(raw)
        return picture(raw.reshape(raw.shape[-3:]))

    def viewed(self, size: tuple[int, int]) -> View:
        """Squeezed, all of it but what does not fill a last patch, on the right and below."""
        side = self.side * self._patch
        return View((self._image, self._image), (0, 0, side, side))

    def grids(self, pixels: Pixels) -> list[Grid]:
        return [self._grid] * len(pixels["pixel_values"])

    def grid_at(self, positions: Tensor) -> Grid:
        return self._grid

    def patch_positions(self, pixels: Pixels) -> Tensor:
        return torch.cartesian_prod(torch.arange(self.side), torch.arange(self.side))

    def vision_arguments(self, pixels: Pixels) -> tuple[tuple, dict[str, Any]]:
        return (pixels["pixel_values"],), {}

    def vit_grids(self, args: tuple, named: dict[str, Any]) -> list[Grid]:
        return [(self.side, self.side)] * len(args[0] if args else named["pixel_values"])

    def in_vit(self, maps: list[Tensor]) -> Tensor:
        flat = torch.stack(maps).flatten(1)
        return torch.nn.functional.pad(flat, (int(self._class_token), 0), value=-1)

    def patches(self, hidden: Tensor, pixels: Pixels) -> list[Tensor]:
        (n, _), m = self._grid, self.merge
        state = hidden[:, int(self._class_token) :]
        return list(state.unflatten(1, (n, m, n, m)).transpose(2, 3).flatten(3).flatten(1, 2))
