"""By diversity: DivPrune before the LM, DART inside it."""

from __future__ import annotations

import numpy as np
import torch

from ..groups import Keep, Method, number, only

PIVOTS = 8  # half of them visual tokens, half words


def unit(vectors: torch.Tensor) -> torch.Tensor:
    """(…, features) vectors of length one, in float32 on the CPU."""
    return torch.nn.functional.normalize(vectors.float(), dim=-1).cpu()


def divprune(keep: Keep) -> Method:
    """DivPrune (Alvar et al., *DivPrune: Diversity-based Visual Token Pruning for Large Multimodal
    Models*, CVPR 2025): the set of tokens in which the least distance (one minus cosine) is
    largest, greedily.

    The first is the token farthest from its nearest; each next is the one farthest from all that
    were chosen.
    """

    def choose(sight):
        tokens, kept = unit(sight.tokens), number(keep, sight)
        distances = 1 - tokens @ tokens.T
        alone = distances.clone().fill_diagonal_(torch.inf).amin(1)
        chosen = [int(alone.argmax())] if len(tokens) > 1 else [0]
        nearest = distances[chosen[0]].clone()
        while len(chosen) < kept:
            nearest[chosen[-1]] = -torch.inf  # copies of a chosen one are at distance zero
            chosen.append(int(nearest.argmax()))
            nearest = torch.minimum(nearest, distances[chosen[-1]])
        return only(np.array(chosen), len(tokens))

    return Method("divprune", choose)


def dart(keep: Keep, layer: int = 2) -> Method:
    """DART (Wen et al., *Stop Looking for "Important Tokens" in Multimodal Language Models:
    Duplication Matters More*, EMNLP 2025): after block `layer` of the LM, a few pivots stay, and
    for each as many of the tokens that are least similar (cosine) to it.

    Otherwise than there: pivots, four visual tokens and four words of the question, are those whose
    states are longest, where the paper takes keys; it finds that other choices do as well.
    """

    def choose(sight):
        kept, n = number(keep, sight), len(sight.tokens)
        tokens, asked = unit(sight.tokens), sight.hidden[sight.asked]
        pivots, words = (_longest(each, PIVOTS // 2) for each in (sight.tokens, asked))
        chosen = list(pivots[:kept])
        shown = torch.cat([tokens[pivots], unit(asked)[words]])
        for left, pivot in zip(range(len(shown), 0, -1), shown):
            rank = torch.argsort(tokens @ pivot, stable=True).tolist()
            share = -(-(kept - len(chosen)) // left)
            chosen += [token for token in rank if token not in set(chosen)][:share]
        return only(np.array(chosen), n)

    return Method("dart", choose, place=f"LM {layer}", needs=("question",))


def _longest(vectors, n):
    return vectors.float().norm(dim=-1).cpu().argsort(descending=True, stable=True)[:n].tolist()


def dpp(kernel: torch.Tensor, n: int) -> np.ndarray:
    """(n,) indices of the set whose determinant of the kernel is largest, greedily (Chen et al.,
    *Fast Greedy MAP Inference for Determinantal Point Process*, NeurIPS 2018).

    Where the kernel has no more dimensions than were chosen, the next are the first that are left.
    """
    kernel = kernel.double()
    gain, basis = kernel.diagonal().clone(), kernel.new_zeros(n, len(kernel))
    chosen = []
    for step in range(n):
        best = int(gain.argmax())
        chosen.append(best)
        row = kernel[best] - basis[:step].T @ basis[:step, best]
        if gain[best] > 1e-12:
            basis[step] = row / gain[best].sqrt()
        gain = (gain - basis[step] ** 2).clamp(min=0)
        gain[chosen] = -1.0
    return np.array(chosen)
