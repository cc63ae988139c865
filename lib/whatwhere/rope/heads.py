"""The rotary positions of a loaded model, and what its heads ask and answer before they are turned."""

from collections import namedtuple

import torch

from ..finite import check_finite
from ..streams import off_device
from .rotary import Rotary, axial

Heads = namedtuple("Heads", "q k v at")
Heads.__doc__ = """Queries, keys and values of all heads of a tower, before rotation: (blocks, heads, tokens, head size) each.

at: (tokens, axes) positions: row and column of every patch of a ViT, in its own order; time, row and column in the LM.
All four are on the CPU.
"""


def vision(vlm):
    """The `Rotary` of the model's ViT. Raises ValueError for a ViT without 2-D RoPE, such as LLaVA's."""
    rotary = vlm.adapter.rotary
    if rotary is None:
        raise ValueError(
            f"{vlm.name} has no 2-D RoPE: its ViT adds a learnt table of positions. Take a model of the Qwen2-VL family, "
            "such as 'toy-qwen2vl'."
        )
    return axial(rotary.inv_freq)


def language(vlm):
    """The `Rotary` of the model's LM: three axes (time, row, column) with M-RoPE, else one."""
    theta = vlm.lm.rotary_emb.inv_freq
    sections = (vlm.lm.config.rope_parameters or {}).get("mrope_section", [len(theta)])
    return Rotary(theta, torch.arange(len(sections)).repeat_interleave(torch.tensor(sections)))


@torch.no_grad()
def heads(vlm, image):
    """What every head of the ViT makes of `image`: a `Heads`. Needs 2-D RoPE, as `vision` does."""
    vision(vlm)
    made = []
    hooks = [block.attn.qkv.register_forward_hook(lambda _, args, out: made.append(out)) for block in vlm.vision_blocks]
    try:
        vlm.vit_states(image, [vlm.depths])
    finally:
        for hook in hooks:
            hook.remove()
    n = vlm.vision_blocks[0].attn.num_heads
    made = off_device(check_finite(torch.stack(made), "the ViT's queries, keys and values"))
    q, k, v = (part.transpose(1, 2) for part in made.unflatten(-1, (3, n, -1)).unbind(2))
    return Heads(q, k, v, vlm.positions(image).vit)


@torch.no_grad()
def language_heads(vlm, image, question):
    """What every head of the LM makes of a prompt: a `Heads` for all its tokens, keys and values repeated for the heads that
    share them. The positions are those that the LM's own `language` rotary turns by.
    """
    inputs, made = vlm.prepare(image, question), []
    attention = [layer.self_attn for layer in vlm.lm_layers]
    hooks = [getattr(one, name).register_forward_hook(lambda _, args, out: made.append(out[0]))
             for one in attention for name in ("q_proj", "k_proj", "v_proj")]  # fmt: skip
    try:
        vlm.lm_hidden(vlm.embed(inputs), inputs["attention_mask"], vlm.position_ids(inputs))
    finally:
        for hook in hooks:
            hook.remove()
    size, n = attention[0].head_dim, vlm.lm.config.num_attention_heads
    parts = [off_device(check_finite(torch.stack(made[i::3]), "the LM's queries, keys and values")) for i in range(3)]
    q, k, v = (part.unflatten(-1, (-1, size)).transpose(1, 2) for part in parts)
    k, v = (each.repeat_interleave(n // each.shape[1], 1) for each in (k, v))
    return Heads(q, k, v, vlm.position_ids(inputs).cpu().reshape(-1, q.shape[2]).T)
