"""The rotary positions of a loaded model, and what its heads ask and answer before they are
turned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from ..finite import check_finite
from ..hooks import off_device
from ..places import check_order
from ..types import ImageLike
from .rotary import Rotary, axial

if TYPE_CHECKING:
    from ..models import VLM


class Heads(NamedTuple):
    """Queries, keys and values of all heads of a tower, before rotation: (blocks, heads, tokens,
    head size) each.

    All four are on the CPU.

    Attributes:
        at: (tokens, axes) positions: row and column of every patch of a ViT, in its own order;
            time, row and column in the LM.
    """

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    at: torch.Tensor


def vision(vlm: VLM) -> Rotary:
    """The `Rotary` of the model's ViT.

    Raises:
        ValueError: for a ViT without 2-D RoPE, such as LLaVA's.
    """
    rotary = vlm.adapter.rotary
    if rotary is None:
        raise ValueError(
            f"{vlm.name} has no 2-D RoPE: its ViT adds a learnt table of positions. Take a model "
            "of the Qwen2-VL family, such as 'toy-qwen2vl'."
        )
    return axial(rotary.inv_freq)


def language(vlm: VLM) -> Rotary:
    """The `Rotary` of the model's LM: three axes (time, row, column) with M-RoPE, else one."""
    return Rotary(vlm.lm.rotary_emb.inv_freq, vlm.adapter.lm_axes())


@torch.no_grad()
def heads(vlm: VLM, image: ImageLike) -> Heads:
    """What every head of the ViT makes of `image`: a `Heads`. Needs 2-D RoPE, as `vision` does."""
    vision(vlm)
    projections = [vlm.adapter.vision_heads(block) for block in vlm.vision_blocks]
    q, k, v = projected(projections, lambda: vlm.vit_states(image, [vlm.last_depth]), "the ViT's")
    return Heads(q, k, v, vlm.positions(image).vit)


@torch.no_grad()
def language_heads(vlm: VLM, image: ImageLike, question: str) -> Heads:
    """What every head of the LM makes of a prompt: a `Heads` for all its tokens, keys and values
    repeated for the heads that share them. The positions are those that the LM's own `language`
    rotary turns by.
    """
    check_order(vlm, "Queries and keys are", "positions")
    inputs = vlm.prepare(image, question)
    positions = vlm.position_ids(inputs)
    projections = [vlm.adapter.lm_heads(block) for block in vlm.lm_layers]
    q, k, v = projected(
        projections,
        lambda: vlm.lm_hidden(vlm.embed(inputs), inputs["attention_mask"], positions),
        "the LM's",
    )
    k, v = (part.repeat_interleave(q.shape[1] // part.shape[1], 1) for part in (k, v))
    return Heads(q, k, v, positions.cpu().reshape(-1, q.shape[2]).T)


def projected(
    projections: Sequence[Any], run: Callable[[], Any], whose: str = ""
) -> list[torch.Tensor]:
    """Queries, keys and values that flow while `run()` runs: three of (blocks, heads, tokens, head
    size), on the CPU.

    Args:
        projections: for each block what the adapter's `vision_heads` or `lm_heads` gives. One
            image, or one prompt.
    """
    by_kind = [[], [], []]
    with ExitStack() as stack:
        for block in projections:
            for states, (module, split) in zip(by_kind, block, strict=True):

                def hook(_, args, output, states=states, split=split):
                    states.append(split(output).flatten(0, -3))

                stack.callback(module.register_forward_hook(hook).remove)
        run()
    parts = [
        check_finite(torch.stack(states), f"{whose} queries, keys and values") for states in by_kind
    ]
    return [off_device(part).transpose(1, 2) for part in parts]
