"""LLaVA-1.5."""

import numpy as np
import torch
from PIL import Image
from transformers import LlavaForConditionalGeneration
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from ..images import View
from .picture import picture


class Llava:
    """LLaVA-1.5: CLIP ViT with a learnt table of positions, MLP connector, Llama.

    The connector reads the residual stream of CLIP after `vision_feature_layer` blocks, before CLIP's last
    LayerNorm; its first vector is the class token, which the strategy "default" drops and "full" keeps.
    """

    model_class = LlavaForConditionalGeneration
    image_processor_class = CLIPImageProcessorPil
    around = ()

    def __init__(self, model, image_processor):
        config = model.config
        if config.vision_config.model_type != "clip_vision_model":
            raise ValueError(
                f"This LLaVA sees through a '{config.vision_config.model_type}'; whatwhere knows those "
                "with a 'clip_vision_model'."
            )
        if not isinstance(config.vision_feature_layer, int):
            raise ValueError(
                f"This LLaVA's connector reads several ViT layers at once ({config.vision_feature_layer}), "
                "so that no single depth feeds it; whatwhere knows those with one 'vision_feature_layer'."
            )
        self.vision, self.rotary = model.model.vision_tower, None  # its positions are the table below
        inner = getattr(self.vision, "vision_model", self.vision)  # transformers before 5.6 or so wraps once more
        self.vision_blocks, self.position_table = inner.encoder.layers, inner.embeddings.position_embedding
        self.connector = model.model.multi_modal_projector
        self.image_processor = image_processor
        self.leading = int(config.vision_feature_select_strategy == "full")  # visual tokens before the first patch
        layer = config.vision_feature_layer
        self.depth = layer if layer >= 0 else len(self.vision_blocks) + 1 + layer
        self.patch, self.merge = config.vision_config.patch_size, 1  # pixels; patches of a visual token
        self.side = config.vision_config.image_size // self.patch
        crop = image_processor.crop_size if image_processor.do_center_crop else image_processor.size
        if (crop["height"], crop["width"]) != (config.vision_config.image_size,) * 2:
            raise ValueError(
                f"The image processor makes pictures of {crop['height']} × {crop['width']} pixels, but the ViT "
                f"takes {config.vision_config.image_size} × {config.vision_config.image_size}."
            )

    def pixels(self, images):
        """What the ViT takes: {"pixel_values": (images, 3, height, width)}."""
        return dict(self._processed(images, return_tensors="pt"))

    def pick(self, pixels, index):
        """What `pixels` would give for these of its images."""
        return {name: values[index] for name, values in pixels.items()}

    def grids(self, pixels):
        """(rows, columns) of the visual tokens, for each image."""
        return [(self.side, self.side)] * len(pixels["pixel_values"])

    def vision_arguments(self, pixels):
        return (pixels["pixel_values"],), {}

    def vit_grids(self, args, named):
        """(rows, columns) of the ViT's patches for each image, from what the vision tower is called with."""
        return [(self.side, self.side)] * len(args[0] if args else named["pixel_values"])

    def in_vit(self, maps):
        """Whole numbers (rows, columns) for each image → (images, 1 + patches), like the ViT's states; −1 for the class token."""
        return torch.nn.functional.pad(torch.stack(maps).flatten(1), (1, 0), value=-1)

    def patches(self, hidden, pixels):
        """ViT states (images, 1 + patches, hidden) → for each image (tokens, hidden), without the class token."""
        return list(hidden[:, 1:])

    def connect(self, hidden, pixels):
        """ViT states (images, 1 + patches, hidden) → for each image, visual tokens (leading + patches, hidden)."""
        return list(self.connector(hidden if self.leading else hidden[:, 1:]))

    def model_inputs(self, input_ids, attention_mask, pixels):
        return {"input_ids": input_ids, "attention_mask": attention_mask, **pixels}

    def position_ids(self, inputs):
        """(batch, length): the place in the sequence, counted from the first token that is not padding."""
        return (inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0)

    def grid_at(self, positions):
        """(rows, columns) of one image's visual tokens, from their positions in the LM."""
        return self.side, self.side

    def patch_positions(self, pixels):
        """(patches, 2): row and column of each ViT patch, in the ViT's order, which is raster order."""
        return torch.cartesian_prod(torch.arange(self.side), torch.arange(self.side))

    def seen(self, image):
        """The PIL image that is left after resizing and cropping."""
        raw = self._processed([image], do_rescale=False, do_normalize=False)
        return picture(np.asarray(raw["pixel_values"][0]))

    def viewed(self, size):
        """What of a picture of this (width, height) reaches the patches: an `images.View`."""
        blank = self._processed([Image.new("RGB", size)], do_center_crop=False, do_rescale=False, do_normalize=False)
        height, width = np.shape(blank["pixel_values"][0])[1:]
        shown, crop = self.side * self.patch, self.image_processor.crop_size
        left, top = 0, 0  # what does not fill a last patch is on the right and below, and no patch is made of it
        if self.image_processor.do_center_crop:  # or pad, by the same formula, where the crop is larger
            left, top = (width - crop["width"]) // 2, (height - crop["height"]) // 2
        return View((width, height), (left, top, left + shown, top + shown))

    def _processed(self, images, **how):
        return self.image_processor(images, input_data_format="channels_last", **how)
