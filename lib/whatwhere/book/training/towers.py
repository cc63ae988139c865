"""The organisms' parts as training needs them: whole batches of equal pictures, and windows of
pictures.

The families' own forward passes take one packed row of patches (Qwen2-VL) or whole pictures only
(CLIP). These are the same weights and the same arithmetic, batched; the tests hold them against the
families' own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from transformers.models.qwen2_vl.modeling_qwen2_vl import apply_rotary_pos_emb_vision

from .build import MERGE, PATCH
from .data import whitening

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Tower:
    """Vision, connector and language model of an organism by one set of names."""

    def __init__(self, model: PreTrainedModel, name: str):
        self.model, self.name, self.patch, self.merge = model, name, PATCH[name], MERGE[name]
        inner: Any = model.model  # whose parts torch knows by no type
        self.lm, self.head = inner.language_model, model.lm_head
        if name == "toy-llava":
            self.vision, self.connector = inner.vision_tower, inner.multi_modal_projector
            self.blocks = self.vision.encoder.layers
        else:
            self.vision, self.connector = inner.visual, inner.visual.merger
            self.blocks = self.vision.blocks

    @torch.no_grad()
    def start(self) -> None:
        """First weights: whitened patches (see `data.whitening`), positions of equal strength, an
        LM in which a word looks at words like itself (equal query and key weights, after Trockman
        and Kolter 2023), and a silent connector.

        A question that names a thing is answered from where that thing is told: heads that match
        like with like from the start learn this in hundreds of steps, others in thousands.

        A connector that starts at random fills the visual tokens with noise that the LM learns to
        see past but that never leaves: they would answer questions and read as nothing. One that
        starts at zero grows only what the LM makes use of.
        """
        for layer in self.lm.layers:
            layer.self_attn.k_proj.weight.copy_(layer.self_attn.q_proj.weight)
        last = self.connector.linear_2 if self.name == "toy-llava" else self.connector.mlp[-1]
        last.weight.zero_()
        last.bias.zero_()
        e = (
            self.vision.embeddings.patch_embedding
            if self.name == "toy-llava"
            else self.vision.patch_embed.proj
        )
        first = whitening(self.name, e.weight.shape[0])
        e.weight.copy_(first if e.weight.ndim == 4 else first[:, :, None] / e.weight.shape[2])
        if self.name == "toy-llava":
            self.vision.embeddings.position_embedding.weight.normal_(0, 0.5)

    def patches(self, pixels: torch.Tensor, corner: torch.Tensor | None = None) -> torch.Tensor:
        """Last patch states `(batch, rows * columns, hidden)` in raster order, of `pixels` `(batch,
        3, height, width)`.

        `corner` `(batch, 2)` says where in the whole picture a window's first patch lies (row,
        column); None is whole.
        """
        rows, columns = pixels.shape[2] // self.patch, pixels.shape[3] // self.patch
        at = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).to(pixels.device)[None]
        if corner is not None:
            at = at + corner[:, None]
        return self._clip(pixels, at) if self.name == "toy-llava" else self._qwen(pixels, at)

    def _clip(self, pixels, at):
        e = self.vision.embeddings
        x = e.patch_embedding(pixels).flatten(2).transpose(1, 2)
        side = e.image_size // e.patch_size
        x = x + e.position_embedding(1 + at[..., 0] * side + at[..., 1])
        first = (e.class_embedding + e.position_embedding.weight[0]).expand(len(x), 1, -1)
        x = self.vision.pre_layrnorm(torch.cat([first, x], 1))
        return self.vision.encoder(inputs_embeds=x).last_hidden_state[:, 1:]

    def _qwen(self, pixels, at):
        # A still picture is two equal frames: the two temporal slices of the kernel see the same
        # patch.
        kernel = self.vision.patch_embed.proj.weight.sum(2)
        x = F.conv2d(pixels, kernel, stride=self.patch).flatten(2).transpose(1, 2)
        batch, n, width = x.shape
        # (batch or 1, n, 2, pairs a side)
        freq = at[..., None].float() * self.vision.rotary_pos_emb.inv_freq
        freq = freq.flatten(2)
        cos, sin = (
            torch.cat([f(freq)] * 2, -1).expand(batch, -1, -1).flatten(0, 1)
            for f in (torch.cos, torch.sin)
        )
        for block in self.vision.blocks:
            a = block.attn
            q, k, v = a.qkv(block.norm1(x)).reshape(batch * n, 3, a.num_heads, -1).unbind(1)
            q, k = apply_rotary_pos_emb_vision(q, k, cos, sin)
            q, k, v = (t.reshape(batch, n, a.num_heads, -1).transpose(1, 2) for t in (q, k, v))
            mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, n, width)
            x = x + a.proj(mixed)
            x = x + block.mlp(block.norm2(x))
        return x

    def tokens(self, states: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
        """Visual tokens `(batch, tokens, LM hidden)` in raster order from patch states in raster
        order."""
        if self.merge > 1:
            m, (batch, _, width) = self.merge, states.shape
            states = (
                states.reshape(batch, rows // m, m, columns // m, m, width)
                .transpose(2, 3)
                .reshape(-1, width)
            )
            return self.connector(states).reshape(batch, -1, self.lm.config.hidden_size)
        return self.connector(states)

    def positions(self, before: int, rows: int, columns: int, offset: torch.Tensor) -> torch.Tensor:
        """LM positions of a sequence: prefix, `rows x columns` visual tokens, then text at `offset`
        tokens after them.

        `offset` is `(batch, text)`. Returns `(batch, length)`, or `(3, batch, length)` for M-RoPE.
        """
        batch = len(offset)
        start = torch.arange(before)
        if self.name == "toy-llava":
            head = torch.arange(before + rows * columns)
            return torch.cat([head.expand(batch, -1), before + rows * columns + offset], 1)
        grid = (
            torch.cartesian_prod(torch.arange(1), torch.arange(rows), torch.arange(columns)).T
            + before
        )
        head = torch.cat([start.expand(3, -1), grid], 1)[:, None].expand(3, batch, -1)
        after = (before + max(rows, columns) + offset)[None].expand(3, -1, -1)
        return torch.cat([head, after], 2)
