"""InternVL in the form that `transformers` knows."""

import torch
from transformers import InternVLForConditionalGeneration
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

from .llava import Llava


class InternVL(Llava):
    """InternVL: ViT with a learnt table of positions, m × m patches merged by "pixel shuffle", MLP connector, 1-D RoPE in the LM.

    The model is shown the whole picture as one tile, squeezed to a square: 448 × 448 pixels are 16 × 16 visual tokens. Cutting
    large pictures into several tiles, as the model may do for documents, would give several grids, one after the other, and is
    not done here. Its table of positions is added as one tensor, in no module of its own: `intervene.moved` cannot reach it.
    """

    model_class = InternVLForConditionalGeneration
    image_processor_class = GotOcr2ImageProcessorPil
    leading, viewed = 0, None  # all of a picture is seen, squeezed
    around = ("<img>", "</img>")  # what is written before and after the visual tokens

    def __init__(self, model, image_processor):
        config = model.config
        if (config.vision_feature_layer, config.vision_feature_select_strategy) != (-1, "default"):
            raise ValueError(
                f"This InternVL's connector reads ViT layer {config.vision_feature_layer!r} with the strategy "
                f"{config.vision_feature_select_strategy!r}; whatwhere knows those that read the last one, patches only."
            )
        self.vision, self.rotary, self.position_table = model.model.vision_tower, None, None
        self.vision_blocks, self.connector = self.vision.encoder.layer, model.model.multi_modal_projector
        self.image_processor, self.depth = image_processor, len(self.vision_blocks)
        self.merge = round(1 / config.downsample_ratio)
        self.size = dict(zip(("height", "width"), config.vision_config.image_size))
        self.side = self.size["height"] // config.vision_config.patch_size[0]

    def pixels(self, images):
        return {"pixel_values": self._processed(images, return_tensors="pt")["pixel_values"]}

    def _processed(self, images, **how):
        return self.image_processor(images, crop_to_patches=False, size=self.size, input_data_format="channels_last", **how)

    def grids(self, pixels):
        return [(self.side // self.merge,) * 2] * len(pixels["pixel_values"])

    def patches(self, hidden, pixels):
        """ViT states (images, 1 + patches, hidden) → for each image (tokens, m² × hidden), a token's patches in a row."""
        m, n = self.merge, self.side // self.merge
        return list(hidden[:, 1:].unflatten(1, (n, m, n, m)).transpose(2, 3).flatten(3).flatten(1, 2))

    def connect(self, hidden, pixels):
        return list(self.connector(torch.stack(self.patches(self.vision.layernorm(hidden), pixels))))

    def grid_at(self, positions):
        return (self.side // self.merge,) * 2
