"""SmolVLM and Idefics3, which are one architecture by two names."""

from typing import Any

from PIL import Image
from torch import Tensor
from transformers import Idefics3ForConditionalGeneration, SmolVLMForConditionalGeneration
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

from .adapter import Model, Pixels
from .square import Square


class SmolVLM(Square):
    """SmolVLM: SigLIP ViT with a learnt table, m × m patches merged by a matrix, Llama.

    The model is shown the whole picture once, squeezed to a square; it is not cut into tiles.
    """

    model_class = SmolVLMForConditionalGeneration
    image_processor_class = SmolVLMImageProcessorPil
    processor_options = {"do_image_splitting": False}
    around = ("<fake_token_around_image><global-img>", "<fake_token_around_image>")

    def __init__(self, model: Model, image_processor: Any):
        vision = model.config.vision_config
        super().__init__(model, image_processor, vision.image_size, vision.patch_size)
        self.vision, self.lm = model.model.vision_model, model.model.text_model
        self.vision_blocks = self.vision.encoder.layers
        self.position_table = self.vision.embeddings.position_embedding
        self.connector = model.model.connector
        self.depth, self.merge = len(self.vision_blocks), model.config.scale_factor
        self._size = {"longest_edge": vision.image_size}

    def _processed(self, images: list[Image.Image], **how: Any) -> dict[str, Any]:
        how |= {"max_image_size": self._size, **self.processor_options}
        return super()._processed([[image] for image in images], **how)

    def vision_arguments(self, pixels: Pixels) -> tuple[tuple, dict[str, Any]]:
        return (pixels["pixel_values"][:, 0],), {}

    def connect(self, hidden: Tensor, pixels: Pixels) -> list[Tensor]:
        return list(self.connector(self.vision.post_layernorm(hidden)))


class Idefics3(SmolVLM):
    """Idefics3, and the SmolVLMs whose config.json says `idefics3`."""

    model_class = Idefics3ForConditionalGeneration
