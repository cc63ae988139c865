"""LLaVA-1.5."""

from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor
from transformers import LlavaForConditionalGeneration
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from ..images import View
from .adapter import Model, Pixels
from .square import Square


class Llava(Square):
    """LLaVA-1.5: CLIP ViT with a learnt table of positions, MLP connector, Llama.

    The connector reads the residual stream of CLIP after `vision_feature_layer` blocks, before
    CLIP's last LayerNorm; its first vector is the class token, which the strategy "default" drops
    and "full" keeps.
    """

    model_class = LlavaForConditionalGeneration
    image_processor_class = CLIPImageProcessorPil
    _class_token = True

    def __init__(self, model: Model, image_processor: Any):
        config, vision = model.config, model.config.vision_config
        if vision.model_type != "clip_vision_model":
            raise ValueError(
                f"This LLaVA sees through a '{vision.model_type}'; whatwhere knows those with a "
                "'clip_vision_model'."
            )
        layer = config.vision_feature_layer
        if not isinstance(layer, int):
            raise ValueError(
                f"This LLaVA's connector reads several ViT layers at once ({layer}), so that no "
                "single depth feeds it; whatwhere knows those with one 'vision_feature_layer'."
            )
        crop = image_processor.size
        if image_processor.do_center_crop:
            crop = image_processor.crop_size
        if (crop["height"], crop["width"]) != (vision.image_size,) * 2:
            raise ValueError(
                f"The image processor makes pictures of {crop['height']} × {crop['width']} pixels, "
                f"but the ViT takes {vision.image_size} × {vision.image_size}."
            )
        super().__init__(model, image_processor, vision.image_size, vision.patch_size)
        self.vision, self.connector = model.model.vision_tower, model.model.multi_modal_projector
        # transformers before 5.6 or so wraps once more
        inner = getattr(self.vision, "vision_model", self.vision)
        self.vision_blocks = inner.encoder.layers
        self.position_table = inner.embeddings.position_embedding
        self.leading = int(config.vision_feature_select_strategy == "full")
        self.depth = layer if layer >= 0 else len(self.vision_blocks) + 1 + layer
        self.merge = 1

    def connect(self, hidden: Tensor, pixels: Pixels) -> list[Tensor]:
        return list(self.connector(hidden if self.leading else hidden[:, 1:]))

    def viewed(self, size: tuple[int, int]) -> View:
        settings = {"do_center_crop": False, "do_rescale": False, "do_normalize": False}
        blank = self._processed([Image.new("RGB", size)], **settings)
        height, width = np.shape(blank["pixel_values"][0])[1:]
        side, crop = self.side * self._patch, self.image_processor.crop_size
        left, top = 0, 0
        if self.image_processor.do_center_crop:  # or pad, by the same formula, where it is larger
            left, top = (width - crop["width"]) // 2, (height - crop["height"]) // 2
        return View((width, height), (left, top, left + side, top + side))
