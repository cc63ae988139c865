"""By the question: SparseVLM inside the LM, and CDPruner before it."""

from __future__ import annotations

import numpy as np
import torch

from ..groups import NO_PROMPT, Keep, Merge, Method, Sight, number, only
from .diverse import dpp, unit

RECYCLED, CLUSTERS = 0.3, 0.1  # of what is pruned, and of what is recycled


def sparsevlm(keep: Keep) -> Method:
    """SparseVLM (Zhang et al., *SparseVLM: Visual Token Sparsification for Efficient
    Vision-Language Model Inference*, ICML 2025).

    *Raters* are the tokens of the question that match the picture: by the softmax over the question
    of each visual token's inner products with it, more than on average. Visual tokens are ranked by
    the raters' attention. Of those that go, the best 30% are *recycled*: clustered by the peaks of
    their density, a tenth as many tokens.

    Otherwise than there: how many stay is asked for, and falls by equal shares from place to place,
    where the paper lets the rank of the attention matrix decide; places are its blocks 2, 6 and 15
    of 32; and inner products are divided by the root of their length.
    """

    def choose(sight):
        n, of_all = len(sight.tokens), sight.grid[0] * sight.grid[1]
        share = (number(keep, sight) / of_all) ** ((sight.step + 1) / sight.steps)
        kept = max(1, round(share * of_all))
        rank = np.argsort(-sight.attention(sight.block, raters(sight)), kind="stable")
        recycled = rank[kept : kept + round(RECYCLED * (n - kept))]
        clusters = min(max(1, round(CLUSTERS * len(recycled))), kept - 1) if len(recycled) else 0
        groups = only(rank[: kept - clusters], n)
        if clusters:
            recycled = np.sort(np.r_[rank[kept - clusters : kept], recycled])
            own = density_peaks(sight.tokens[recycled].float().cpu(), clusters)
            groups[recycled] = n + own
        return Merge(groups)

    places = ("LM 2/32", "LM 6/32", "LM 15/32")
    return Method("sparsevlm", choose, place=places, needs=("attention", "question"))


def raters(sight: Sight) -> np.ndarray:
    """Indices into `sight.ids` of what asks about the picture."""
    if sight.embeddings is None or sight.index is None:
        raise ValueError(NO_PROMPT)
    visual, asked = sight.embeddings[sight.index].float(), sight.embeddings[sight.asked].float()
    relevance = (visual @ asked.T / visual.shape[1] ** 0.5).softmax(-1).mean(0)
    return sight.asked[relevance >= relevance.mean()].cpu().numpy()


def density_peaks(points: torch.Tensor, clusters: int, k: int = 5) -> np.ndarray:
    """(points,) cluster of each (Rodriguez & Laio 2014, with density by the k nearest): centres
    have high density and lie far from all that is denser; others go to the nearest centre."""
    distances = torch.cdist(points, points)
    nearest = distances.topk(min(k, len(points)), largest=False).values
    density = (-(nearest**2).mean(1)).exp()
    # of equals, the first is taken for the denser
    order = torch.arange(len(points))
    denser = (density > density[:, None]) | (
        (density == density[:, None]) & (order < order[:, None])
    )
    apart = distances.masked_fill(~denser, torch.inf).amin(1)
    apart = apart.where(apart.isfinite(), distances.max())
    centres = (density * apart).argsort(descending=True, stable=True)[:clusters]
    own = distances[:, centres].argmin(1)
    own[centres] = torch.arange(len(centres))
    return own.numpy()


def cdpruner(keep: Keep) -> Method:
    """CDPruner (Zhang et al., *Beyond Attention or Similarity: Maximizing Conditional Diversity for
    Token Pruning in MLLMs*, NeurIPS 2025): of all sets of so many tokens, a determinantal point
    process prefers the one that is diverse and matches the question; the best is sought greedily.

    The kernel is the cosine of two tokens times how relevant each is. Otherwise than there for
    LLaVA: relevance is a token's mean cosine to the question's embeddings, in the LM's own space
    and from 0 to 1, as the paper has it where there is no text encoder of CLIP.
    """

    def choose(sight):
        tokens = unit(sight.tokens)
        relevance = (tokens @ unit(sight.embeddings[sight.asked]).T).mean(-1)
        least, most = relevance.min(), relevance.max()
        relevance = (relevance - least + 1e-6) / (most - least + 1e-6)
        kernel = relevance[:, None] * (tokens @ tokens.T) * relevance
        return only(dpp(kernel, number(keep, sight)), len(tokens))

    return Method("cdpruner", choose, needs=("question",))
