"""What rows and columns have to say in a ViT's heads, as the paper's code has it and as we do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from .. import geometry, rope
from .sets import ControlledSet, table, usable

if TYPE_CHECKING:
    from ..models import VLM


def axis_logits(vlm: VLM, sets: Iterable[ControlledSet]) -> pd.DataFrame:
    """How much rows and columns have to say in each block of a ViT with 2-D RoPE; no question is
    asked.

    Returns:
        set, relation, block (from 1), statistic, rows and columns, which are means over heads. The
        statistics:

        - "logits": the paper's, as its code computes it: the logits from the satellite's patches to
          the nucleus's, with their signs, split into what the pairs of dimensions that rows turn
          give and those that columns turn. Its ratio is rows by columns, or rows by the sum.
        - "logits, no displacement": the same queries and keys, with all patches at one position. A
          pair's part is largest there, and falls with the cosine of an angle that grows along the
          axis on which the things are displaced: what the ratio is about.
        - "spread": ours, `geometry.axis_attention`, for the satellite's patches among all.

    Raises:
        ValueError: for a ViT without 2-D RoPE.
    """
    rotary = rope.vision(vlm)
    kept, left_out = usable(vlm, sets)
    rows = []
    for number, each in kept.items():
        for relation, scene in each.scenes.items():
            heads = rope.heads(vlm, scene.image)
            satellite, nucleus = (
                np.flatnonzero(geometry.patches(vlm, [scene], n, "ViT 0")[0][tuple(heads.at.T)])
                for n in (0, 1)
            )
            found = {
                what: _mean_logits(rotary, heads._replace(at=at), satellite, nucleus)
                for what, at in (
                    ("logits", heads.at),
                    ("logits, no displacement", torch.zeros_like(heads.at)),
                )
            }
            found["spread"] = geometry.axis_attention(rotary, heads, satellite, slice(None)).mean(1)
            rows += [
                (number, relation, block, what, *by_axis)
                for what, by_block in found.items()
                for block, by_axis in enumerate(by_block.tolist(), 1)
            ]
    columns = ["set", "relation", "block", "statistic", "rows", "columns"]
    return table(pd.DataFrame(rows, columns=columns), left_out)


def _mean_logits(rotary, heads, queries, keys):
    """(blocks, 2) signed logits by axis, mean over heads, queries and keys: of the mean query and
    the mean key, which is the same and needs no table of all pairs."""
    q, k = (
        rotary.turned(of[:, :, tokens].double(), heads.at[tokens]).mean(-2)
        for of, tokens in ((heads.q, queries), (heads.k, keys))
    )
    by_pair = (q * k.conj()).real.mean(1) / rotary.head_size**0.5
    return np.stack([by_pair[:, rotary.axis == axis].sum(-1).numpy() for axis in (0, 1)], -1)
