"""DeepSeek-VL with one ViT."""

from typing import Any

from PIL import Image
from torch import Tensor
from transformers import DeepseekVLForConditionalGeneration
from transformers.models.deepseek_vl.image_processing_pil_deepseek_vl import (
    DeepseekVLImageProcessorPil,
)

from ..images import View
from .adapter import Model, Pixels
from .square import Square


class DeepseekVL(Square):
    """DeepSeek-VL 1.3B: SigLIP ViT with a learnt table, a token for each patch, MLP, Llama.

    The picture keeps its shape: its longer side fills the square, and the rest is grey.
    """

    model_class = DeepseekVLForConditionalGeneration
    image_processor_class = DeepseekVLImageProcessorPil

    def __init__(self, model: Model, image_processor: Any):
        vision = model.config.vision_config
        super().__init__(model, image_processor, vision.image_size, vision.patch_size)
        self.vision, self.connector = model.model.vision_model, model.model.aligner
        self.vision_blocks = self.vision.encoder.layers
        self.position_table = self.vision.embeddings.position_embedding
        self.depth, self.merge = len(self.vision_blocks), 1
        self._size = {"height": vision.image_size, "width": vision.image_size}

    def _processed(self, images: list[Image.Image], **how: Any) -> dict[str, Any]:
        return super()._processed(images, size=self._size, **how)

    def connect(self, hidden: Tensor, pixels: Pixels) -> list[Tensor]:
        return list(self.connector(self.vision.post_layernorm(hidden)))

    def viewed(self, size: tuple[int, int]) -> View:
        blank = [Image.new("RGB", size)]
        kept = self._processed(blank, do_pad=False, do_rescale=False, do_normalize=False)
        height, width = kept["pixel_values"][0].shape[1:]
        left, top = -((self._image - width) // 2), -((self._image - height) // 2)
        shown = self.side * self._patch
        return View((width, height), (left, top, left + shown, top + shown))
