"""InternVL in the form that `transformers` knows."""

from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import InternVLForConditionalGeneration
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

from .adapter import Model, Pixels
from .square import Square


class InternVL(Square):
    """InternVL: ViT with a learnt table, m × m patches merged by "pixel shuffle", MLP, 1-D RoPE.

    The model is shown the whole picture as one tile, squeezed to a square: 448 × 448 pixels are
    16 × 16 visual tokens. Cutting large pictures into several tiles, as the model may do for
    documents, would give several grids, one after the other, and is not done here. Its table of
    positions is added as one tensor, in no module of its own: `intervene.moved` cannot reach it.
    """

    model_class = InternVLForConditionalGeneration
    image_processor_class = GotOcr2ImageProcessorPil
    processor_options = {"crop_to_patches": False}
    around = ("<img>", "</img>")
    _class_token = True

    def __init__(self, model: Model, image_processor: Any):
        config, vision = model.config, model.config.vision_config
        read = config.vision_feature_layer, config.vision_feature_select_strategy
        if read != (-1, "default"):
            raise ValueError(
                f"This InternVL's connector reads ViT layer {read[0]!r} with the strategy "
                f"{read[1]!r}; whatwhere knows those that read the last one, patches only."
            )
        super().__init__(model, image_processor, vision.image_size[0], vision.patch_size[0])
        self.vision, self.connector = model.model.vision_tower, model.model.multi_modal_projector
        self.vision_blocks = self.vision.encoder.layer
        self.position_tensor = self.vision.embeddings.position_embeddings
        self.depth, self.merge = len(self.vision_blocks), round(1 / config.downsample_ratio)
        self._size = dict(zip(("height", "width"), vision.image_size))

    def _processed(self, images: list[Image.Image], **how: Any) -> dict[str, Any]:
        return super()._processed(images, size=self._size, **self.processor_options, **how)

    def pixels(self, images: list[Image.Image]) -> Pixels:
        return {"pixel_values": super().pixels(images)["pixel_values"]}  # no numbers of tiles

    def connect(self, hidden: Tensor, pixels: Pixels) -> list[Tensor]:
        normed = self.vision.layernorm(hidden)
        return list(self.connector(torch.stack(self.patches(normed, pixels))))
