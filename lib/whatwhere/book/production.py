"""What the code of `transformers` computes, caught while it runs: chapter 11 holds algebra to it.

cos, sin = production.tables(80, (16, 40))
production.vision_outputs(vlm, image)  # what the heads of each block put out
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from ..models import VLM
    from ..types import ImageLike


@torch.no_grad()
def tables(head_size: int, grid: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines, (patches, head size) each and float32, that a Qwen2-VL vision encoder
    hands to its first block. Its weights are random, and play no part in them.

    Args:
        grid: (rows, columns) of patches, even numbers both.
    """
    from transformers.models.qwen2_vl import modeling_qwen2_vl as qwen2_vl

    rows, columns = grid
    if rows % 2 or columns % 2:
        raise ValueError(f"Two by two patches make one token, so {grid} are not even numbers both.")
    config = qwen2_vl.Qwen2VLVisionConfig(
        embed_dim=2 * head_size, num_heads=2, patch_size=2, hidden_size=8, depth=1
    )
    with torch.random.fork_rng(devices=[]):
        tower = qwen2_vl.Qwen2VisionTransformerPretrainedModel(config)
    caught: dict[str, Any] = {}

    def catch(block, inputs, named):
        caught.update(named)

    tower.blocks[0].register_forward_pre_hook(catch, with_kwargs=True)
    # 3 channels, 2 frames, 2 × 2 pixels
    tower(torch.zeros(rows * columns, 24), grid_thw=torch.tensor([[1, rows, columns]]))
    return caught["position_embeddings"]


def merged_order(grid: tuple[int, int]) -> torch.Tensor:
    """(patches, 2) row and column of each patch in the order of a Qwen2-VL vision encoder: the two
    by two that will be one token follow each other."""
    rows, columns = grid
    two = torch.arange(2)
    at = torch.cartesian_prod(torch.arange(rows // 2), torch.arange(columns // 2), two, two)
    return 2 * at[:, :2] + at[:, 2:]


def vision_outputs(vlm: VLM, image: ImageLike) -> list[torch.Tensor]:
    """For each block of the ViT what its heads put out, (patches, heads times head size), before
    a matrix joins them."""
    joins = [block.attn.proj for block in vlm.vision_blocks]
    return _going_into(joins, lambda: vlm.vit_states(image, [vlm.last_depth]))


def language_outputs(vlm: VLM, image: ImageLike, question: str) -> list[torch.Tensor]:
    """For each layer of the LM what its heads put out, (tokens, heads times head size)."""
    joins = [layer.self_attn.o_proj for layer in vlm.lm_layers]
    return [each[0] for each in _going_into(joins, lambda: vlm.logits(image, question))]


@torch.no_grad()
def _going_into(modules: Iterable[torch.nn.Module], run: Callable[[], Any]):
    """What goes into each module while run() runs, on the CPU."""
    caught = []

    def note(module, inputs):
        caught.append(inputs[0].cpu())

    with ExitStack() as stack:
        for module in modules:
            stack.callback(module.register_forward_pre_hook(note).remove)
        run()
    return caught
