"""Qwen2-VL and Qwen2.5-VL."""

import numpy as np
import torch
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from .picture import picture


class Qwen2VL:
    """Qwen2-VL: ViT with two-dimensional RoPE, m × m patches merged into one visual token, M-RoPE in the LM.

    The patches of one merged token are neighbours in the ViT's sequence, and the merged tokens come in raster
    order. The merger (LayerNorm and MLP) is the connector. Any image size is kept, rounded to whole tokens.
    """

    model_class = Qwen2VLForConditionalGeneration
    image_processor_class = Qwen2VLImageProcessorPil
    leading, around = 0, ()

    def __init__(self, model, image_processor):
        config = model.config.vision_config
        for name, ours in (
            ("merge_size", config.spatial_merge_size),
            ("patch_size", config.patch_size),
            ("temporal_patch_size", config.temporal_patch_size),
        ):
            if getattr(image_processor, name) != ours:
                raise ValueError(f"The image processor's {name} is {getattr(image_processor, name)}, the model's is {ours}.")
        self.vision = model.model.visual
        self.vision_blocks, self.connector = self.vision.blocks, self.vision.merger
        self.rotary = self.vision.rotary_pos_emb  # holds the frequencies, `inv_freq`, of both axes
        self.image_processor = image_processor
        self.depth = len(self.vision_blocks)
        self.model = model
        self.merge, self.patch, self.frames = config.spatial_merge_size, config.patch_size, config.temporal_patch_size

    @property
    def token_area(self):
        """Pixels of one visual token."""
        return (self.merge * self.patch) ** 2

    def bounds(self):
        """(least, most) pixels of a picture that reaches the ViT; smaller and larger ones are resized."""
        processor = self.image_processor  # an attribute of its own overrules its size
        own = getattr(processor, "min_pixels", None), getattr(processor, "max_pixels", None)
        size = processor.size["shortest_edge"], processor.size["longest_edge"]
        return tuple(by_size if each is None else each for each, by_size in zip(own, size))

    def set_bounds(self, least, most):
        for name in ("min_pixels", "max_pixels"):
            vars(self.image_processor).pop(name, None)
        self.image_processor.size = {"shortest_edge": least, "longest_edge": most}

    def pixels(self, images):
        """What the ViT takes: {"pixel_values": (patches of all images, values), "image_grid_thw": (images, 3)}."""
        return dict(self.image_processor(images, input_data_format="channels_last", return_tensors="pt"))

    def pick(self, pixels, index):
        """What `pixels` would give for these of its images."""
        patches = pixels["pixel_values"].split(pixels["image_grid_thw"].prod(-1).tolist())
        return {"pixel_values": torch.cat([patches[i] for i in index]), "image_grid_thw": pixels["image_grid_thw"][index]}

    def grids(self, pixels):
        """(rows, columns) of the visual tokens, after merging, for each image."""
        return [(rows // self.merge, columns // self.merge) for _, rows, columns in pixels["image_grid_thw"].tolist()]

    def vision_arguments(self, pixels):
        return (pixels["pixel_values"],), {"grid_thw": pixels["image_grid_thw"]}

    def vit_grids(self, args, named):
        """(rows, columns) of the ViT's patches for each image, from what the vision tower is called with."""
        return [(rows, columns) for _, rows, columns in named["grid_thw"].tolist()]

    def in_vit(self, maps):
        """Whole numbers (rows, columns) for each image → (patches of all images,), like the ViT's states."""
        m = self.merge
        blocks = [each.reshape(each.shape[0] // m, m, each.shape[1] // m, m).transpose(1, 2) for each in maps]
        return torch.cat([each.flatten() for each in blocks])

    def patches(self, hidden, pixels):
        """ViT states (patches of all images, hidden) → for each image (tokens, m² × hidden), a token's patches in a row."""
        return [each.reshape(-1, self.merge**2 * each.shape[-1]) for each in self._by_image(hidden, pixels, self.merge**2)]

    def connect(self, hidden, pixels):
        """ViT states (patches of all images, hidden) → for each image, visual tokens (rows × columns, hidden)."""
        return self._by_image(self.connector(hidden), pixels)

    def _by_image(self, states, pixels, each=1):
        """Split (all images' states, …) into images of `each` states a token."""
        return states.split([each * rows * columns for rows, columns in self.grids(pixels)])

    def model_inputs(self, input_ids, attention_mask, pixels):
        kinds = (input_ids == self.model.config.image_token_id).int()  # 1 marks an image token
        return {"input_ids": input_ids, "attention_mask": attention_mask, "mm_token_type_ids": kinds, **pixels}

    def position_ids(self, inputs):
        """(3, batch, length): time, row and column; text counts on all three axes at once."""
        return self.model.model.get_rope_index(
            input_ids=inputs["input_ids"],
            mm_token_type_ids=inputs["mm_token_type_ids"],
            image_grid_thw=inputs["image_grid_thw"],
            attention_mask=inputs["attention_mask"],
        )[0]

    def grid_at(self, positions):
        """(rows, columns) of one image's visual tokens, from their positions (3, tokens) in the LM."""
        return tuple(int(axis.max() - axis.min()) + 1 for axis in positions[1:])

    def patch_positions(self, pixels):
        """(patches, 2): row and column of each ViT patch, in the ViT's order: block by block."""
        (rows, columns), m = self.grids(pixels)[0], self.merge
        grid = torch.cartesian_prod(*map(torch.arange, (rows, columns, m, m)))  # token row, token column, row, column
        return grid[:, :2] * m + grid[:, 2:]

    def seen(self, image):
        """The PIL image that is left after resizing."""
        raw = self.image_processor([image], do_rescale=False, do_normalize=False, input_data_format="channels_last")
        (rows, columns), m, p = self.grids({"image_grid_thw": np.asarray(raw["image_grid_thw"])})[0], self.merge, self.patch
        patches = np.asarray(raw["pixel_values"]).reshape(rows, columns, m, m, 3, self.frames, p, p)[:, :, :, :, :, 0]
        return picture(patches.transpose(4, 0, 2, 5, 1, 3, 6).reshape(3, rows * m * p, columns * m * p))


class Qwen25VL(Qwen2VL):
    """Qwen2.5-VL: as Qwen2-VL, but most ViT blocks attend within square windows, and a window's tokens lie next to each other.

    The ViT's states come window by window; what the connector makes of them is put back into raster order.
    """

    model_class = Qwen2_5_VLForConditionalGeneration

    def __init__(self, model, image_processor):
        super().__init__(model, image_processor)
        self.window = model.config.vision_config.window_size // self.merge // self.patch  # visual tokens a side

    def _windows(self, rows, columns):
        """(tokens,): the ViT's first token is the raster's window[0]-th, and so on."""
        row, column = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).T
        across = -(-columns // self.window)
        return torch.argsort(row // self.window * across + column // self.window, stable=True)

    def _by_image(self, states, pixels, each=1):
        found = []
        for own, grid in zip(super()._by_image(states, pixels, each), self.grids(pixels)):
            raster = torch.argsort(self._windows(*grid)).to(own.device)
            found.append(own.unflatten(0, (-1, each))[raster].flatten(0, 1))
        return found

    def in_vit(self, maps):
        """Whole numbers (rows, columns) for each image → (patches of all images,), like the ViT's states."""
        return torch.cat([
            super(Qwen25VL, self).in_vit([each]).unflatten(0, (-1, self.merge**2))[
                self._windows(*(side // self.merge for side in each.shape)).to(each.device)
            ].flatten() for each in maps
        ])  # fmt: skip

    def patch_positions(self, pixels):
        """(patches, 2): row and column of each ViT patch, in the ViT's order: window by window."""
        tokens = super().patch_positions(pixels).unflatten(0, (-1, self.merge**2))
        return tokens[self._windows(*self.grids(pixels)[0])].flatten(0, 1)
