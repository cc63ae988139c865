"""Qwen3-VL."""

from typing import Any

import torch
from torch import Tensor
from transformers import Qwen3VLForConditionalGeneration

from .adapter import Model, Pixels
from .qwen import Qwen2VL


class Qwen3VL(Qwen2VL):
    """Qwen3-VL: as Qwen2-VL, with an interpolated table in the ViT besides, and with DeepStack.

    DeepStack: the states of some ViT blocks go through connectors of their own, and are added to
    the visual tokens' states after the LM's first blocks, one after each. So the LM is given
    more than the connector's output: `pack` lays the additions beside it, zeros for text.

    Two things follow. With the ViT cut at depth d, what would come of deeper states is left out,
    as the model itself would leave it out if those blocks were taken from it. And the state after
    LM block l, the lens's and `output_hidden_states`' layer l, is what that block gives out; what
    DeepStack adds after it is read by block l + 1.

    A patch's place is said twice, by the table and by 2-D RoPE (whose frequencies `rope.scaled`
    can change), so that `intervene.moved`, which would change one of the two, refuses. In the LM
    the frequencies of time, row and column are interleaved.
    """

    model_class = Qwen3VLForConditionalGeneration

    def __init__(self, model: Model, image_processor: Any):
        super().__init__(model, image_processor)
        indices = model.config.vision_config.deepstack_visual_indexes  # of blocks, from 0
        self.position_table = self.vision.pos_embed
        self.extra_depths = tuple(sorted(block + 1 for block in indices))
        mergers = {
            block + 1: merger for block, merger in zip(indices, self.vision.deepstack_merger_list)
        }
        self.extra_connectors = tuple(mergers[depth] for depth in self.extra_depths)

    def connect_extra(self, hidden: Tensor, pixels: Pixels, depth: int) -> list[Tensor]:
        merger = self.extra_connectors[self.extra_depths.index(depth)]
        return self._by_image(merger(hidden), pixels)

    def pack(self, named: dict[str, Any]) -> Tensor:
        embeds, added = named["inputs_embeds"], named.get("deepstack_visual_embeds") or ()
        wide = embeds.new_zeros(*embeds.shape[:-1], 1 + len(self.extra_depths), embeds.shape[-1])
        wide[..., 0, :] = embeds
        for n, of_depth in enumerate(added, start=1):
            wide[..., n, :][named["visual_pos_masks"]] = of_depth.to(embeds)
        return wide.flatten(-2)

    def unpack(self, embeddings: Tensor) -> dict[str, Any]:
        embeds, *added = embeddings.unflatten(-1, (1 + len(self.extra_depths), -1)).unbind(-2)
        places = torch.stack(added).ne(0).any(0).any(-1) if added else None
        return {
            "inputs_embeds": embeds,
            "visual_pos_masks": places,
            "deepstack_visual_embeds": [of_depth[places] for of_depth in added],
        }

    def lm_axes(self) -> Tensor:
        sections = self.lm.config.rope_parameters["mrope_section"]
        axes = torch.zeros(sum(sections), dtype=torch.long)
        for axis in (1, 2):
            axes[axis : 3 * sections[axis] : 3] = axis
        return axes
