"""By what the ViT attends to, where the connector reads: VisionZip and PruMerge."""

from __future__ import annotations

import numpy as np
import torch

from ..groups import Keep, Merge, Method, number, only

CONTEXTUAL = 10 / 64  # of the tokens that VisionZip keeps, in each of the paper's settings
WHERE, LOOKS_AT = "ViT last", ("vision_attention", "vision_keys")


def visionzip(keep: Keep) -> Method:
    """VisionZip (Yang et al., *VisionZip: Longer is Better but Not Necessary in Vision Language
    Models*, CVPR 2025).

    *Dominant* tokens, which the class token attends to most in the block that the connector reads
    (in a ViT without one: which are attended to most on average), stay. Of the others, some at
    equal steps are *contextual* tokens, and each other merges with the most similar of these, by
    keys.

    Otherwise than there: a contextual token is the plain mean of its group.
    """

    def choose(sight):
        n, kept = len(sight.tokens), number(keep, sight)
        contextual = round(CONTEXTUAL * kept)
        rank = np.argsort(-sight.vision_attention(sight.block), kind="stable")
        groups = only(rank[: kept - contextual], n)
        others = np.flatnonzero(groups < 0)
        if not contextual or not len(others):
            return groups
        centres = others[np.arange(contextual) * len(others) // contextual]
        nearest = _nearest(sight.vision_keys(sight.block), others, centres)
        groups[others] = kept + nearest
        return Merge(groups, centres=_at(centres, n) | (groups < kept))

    return Method("visionzip", choose, place=WHERE, needs=LOOKS_AT)


def prumerge(keep: Keep) -> Method:
    """PruMerge (Shang et al., *LLaVA-PruMerge: Adaptive Token Reduction for Efficient Large
    Multimodal Models*, ICCV 2025).

    The tokens that the class token attends to most stay; each other merges with the one of them
    whose key is most similar, weighed by the class token's attention.

    Otherwise than there: how many stay is asked for, where the paper lets outliers of the attention
    decide; and a token merges with its nearest, where there each that stays takes its k nearest, so
    that a token may count twice or not at all.
    """

    def choose(sight):
        attention = sight.vision_attention(sight.block)
        n, kept = len(sight.tokens), number(keep, sight)
        centres = np.sort(np.argsort(-attention, kind="stable")[:kept])
        groups = _nearest(sight.vision_keys(sight.block), np.arange(n), centres)
        groups[centres] = np.arange(kept)
        return Merge(groups, np.maximum(attention, 1e-12), _at(centres, n))

    return Method("prumerge", choose, place=WHERE, needs=(*LOOKS_AT, "class_token"))


def _nearest(keys, tokens, centres):
    """For each of `tokens` which of the `centres` has the most similar key (cosine)."""
    unit = torch.nn.functional.normalize(keys.float(), dim=-1).cpu()
    return (unit[tokens] @ unit[centres].T).argmax(-1).numpy()


def _at(index, n):
    """(n,) booleans, true at `index`."""
    return np.isin(np.arange(n), index)
