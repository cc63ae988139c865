"""Qwen2-VL and Qwen2.5-VL."""

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import (
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLForConditionalGeneration,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from .adapter import Adapter, Grid, Model, Module, Pixels, Projection
from .preprocessing import picture


class Qwen2VL(Adapter):
    """Qwen2-VL: ViT with 2-D RoPE, m × m patches merged into one visual token, M-RoPE in the LM.

    The patches of one merged token are neighbours in the ViT's sequence, and the merged tokens
    come in raster order. The merger (LayerNorm and MLP) is the connector. Any image size is kept,
    rounded to whole tokens. A ViT state is (patches of all images, hidden).
    """

    model_class = Qwen2VLForConditionalGeneration
    image_processor_class = Qwen2VLImageProcessorPil

    def __init__(self, model: Model, image_processor: Any):
        super().__init__(model, image_processor)
        config = model.config.vision_config
        for name, expected in (
            ("merge_size", config.spatial_merge_size),
            ("patch_size", config.patch_size),
            ("temporal_patch_size", config.temporal_patch_size),
        ):
            size = getattr(image_processor, name)
            if size != expected:
                raise ValueError(
                    f"The image processor's {name} is {size}, the model's is {expected}."
                )
        self.vision = model.model.visual
        self.vision_blocks, self.connector = self.vision.blocks, self.vision.merger
        self.rotary = self.vision.rotary_pos_emb
        self.depth, self.merge = len(self.vision_blocks), config.spatial_merge_size
        self._patch, self._frames = config.patch_size, config.temporal_patch_size
        self.token_area = (self.merge * self._patch) ** 2

    def bounds(self) -> tuple[int, int]:
        processor = self.image_processor
        least, most = getattr(processor, "min_pixels", None), getattr(processor, "max_pixels", None)
        if least is None:  # such an attribute overrules `size`
            least = processor.size["shortest_edge"]
        return least, processor.size["longest_edge"] if most is None else most

    def set_bounds(self, least: int, most: int) -> None:
        for name in ("min_pixels", "max_pixels"):
            vars(self.image_processor).pop(name, None)
        self.image_processor.size = {"shortest_edge": least, "longest_edge": most}

    def _processed(self, images: list[Image.Image], **how: Any) -> dict[str, Any]:
        return self.image_processor(images, input_data_format="channels_last", **how)

    def pixels(self, images: list[Image.Image]) -> Pixels:
        return dict(self._processed(images, return_tensors="pt"))

    def pick(self, pixels: Pixels, index: list[int]) -> Pixels:
        grids = pixels["image_grid_thw"]
        patches = pixels["pixel_values"].split(grids.prod(-1).tolist())
        chosen = torch.cat([patches[n] for n in index])
        return {"pixel_values": chosen, "image_grid_thw": grids[index]}

    def grids(self, pixels: Pixels) -> list[Grid]:
        sizes = pixels["image_grid_thw"].tolist()
        return [(rows // self.merge, columns // self.merge) for _, rows, columns in sizes]

    def vision_arguments(self, pixels: Pixels) -> tuple[tuple, dict[str, Any]]:
        return (pixels["pixel_values"],), {"grid_thw": pixels["image_grid_thw"]}

    def vit_grids(self, args: tuple, named: dict[str, Any]) -> list[Grid]:
        return [(rows, columns) for _, rows, columns in named["grid_thw"].tolist()]

    def in_vit(self, maps: list[Tensor]) -> Tensor:
        m = self.merge
        tokens = [grid.unflatten(1, (-1, m)).unflatten(0, (-1, m)) for grid in maps]
        return torch.cat([of_image.transpose(1, 2).flatten() for of_image in tokens])

    def vision_heads(self, block: Module) -> tuple[Projection, Projection, Projection]:
        n = block.attn.num_heads

        def part(which: int) -> Projection:
            return block.attn.qkv, lambda output: output.unflatten(-1, (3, n, -1))[..., which, :, :]

        return part(0), part(1), part(2)

    def patches(self, hidden: Tensor, pixels: Pixels) -> list[Tensor]:
        states = self._by_image(hidden, pixels, self.merge**2)
        return [state.reshape(-1, self.merge**2 * state.shape[-1]) for state in states]

    def connect(self, hidden: Tensor, pixels: Pixels) -> list[Tensor]:
        return self._by_image(self.connector(hidden), pixels)

    def _by_image(self, states: Tensor, pixels: Pixels, per_token: int = 1) -> list[Tensor]:
        """Split (all images' states, …) into images of so many states a token, in raster order."""
        sizes = [per_token * rows * columns for rows, columns in self.grids(pixels)]
        return list(states.split(sizes))

    def model_inputs(
        self, input_ids: Tensor, attention_mask: Tensor, pixels: Pixels
    ) -> dict[str, Tensor]:
        kinds = (input_ids == self.model.config.image_token_id).int()  # 1 marks an image token
        named = {"input_ids": input_ids, "attention_mask": attention_mask}
        return {**named, "mm_token_type_ids": kinds, **pixels}

    def position_ids(self, inputs: dict[str, Tensor]) -> Tensor:
        """(3, batch, length): time, row and column; text counts on all three axes at once."""
        names = ("input_ids", "mm_token_type_ids", "image_grid_thw", "attention_mask")
        return self.model.model.get_rope_index(**{name: inputs[name] for name in names})[0]

    def grid_at(self, positions: Tensor) -> Grid:
        rows, columns = (int(axis.max() - axis.min()) + 1 for axis in positions[1:])
        return rows, columns

    def lm_axes(self) -> Tensor:
        sections = torch.tensor(self.lm.config.rope_parameters["mrope_section"])
        return torch.arange(3).repeat_interleave(sections)

    def patch_positions(self, pixels: Pixels) -> Tensor:
        (rows, columns), m = self.grids(pixels)[0], self.merge
        grid = torch.cartesian_prod(*map(torch.arange, (rows, columns, m, m)))
        return grid[:, :2] * m + grid[:, 2:]  # of the token, and within it

    def seen(self, image: Image.Image) -> Image.Image:
        raw = self._processed([image], do_rescale=False, do_normalize=False)
        (rows, columns), m, p = self.grids(raw)[0], self.merge, self._patch
        patches = np.asarray(raw["pixel_values"])
        patches = patches.reshape(rows, columns, m, m, 3, self._frames, p, p)[:, :, :, :, :, 0]
        return picture(
            patches.transpose(4, 0, 2, 5, 1, 3, 6).reshape(3, rows * m * p, columns * m * p)
        )


class Qwen25VL(Qwen2VL):
    """Qwen2.5-VL: as Qwen2-VL, but most ViT blocks attend within square windows.

    The ViT's states come window by window; what the connector makes of them is put back into
    raster order.
    """

    model_class = Qwen2_5_VLForConditionalGeneration

    def __init__(self, model: Model, image_processor: Any):
        super().__init__(model, image_processor)
        pixels = model.config.vision_config.window_size
        self._window = pixels // self.merge // self._patch  # visual tokens a side

    def _windows(self, rows: int, columns: int) -> Tensor:
        """(tokens,): the ViT's first token is the raster's window[0]-th, and so on."""
        row, column = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).T
        across = -(-columns // self._window)
        return torch.argsort(row // self._window * across + column // self._window, stable=True)

    def _by_image(self, states: Tensor, pixels: Pixels, per_token: int = 1) -> list[Tensor]:
        by_image = []
        for state, grid in zip(super()._by_image(states, pixels, per_token), self.grids(pixels)):
            raster = torch.argsort(self._windows(*grid)).to(state.device)
            by_image.append(state.unflatten(0, (-1, per_token))[raster].flatten(0, 1))
        return by_image

    def in_vit(self, maps: list[Tensor]) -> Tensor:
        by_image = []
        for grid in maps:
            rows, columns = (side // self.merge for side in grid.shape)
            windows = self._windows(rows, columns).to(grid.device)
            tokens = super().in_vit([grid]).unflatten(0, (-1, self.merge**2))
            by_image.append(tokens[windows].flatten())
        return torch.cat(by_image)

    def patch_positions(self, pixels: Pixels) -> Tensor:
        tokens = super().patch_positions(pixels).unflatten(0, (-1, self.merge**2))
        return tokens[self._windows(*self.grids(pixels)[0])].flatten(0, 1)
