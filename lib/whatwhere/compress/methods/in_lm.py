"""Inside the LM, by the attention of the prompt's last token: FastV and PyramidDrop.

Blocks before the method's place see all visual tokens, and so does their cache: that much of the
work is not saved (`Log.on_average`). The weights of the block at the place are computed as it runs;
its own output, and all other blocks, stay with the attention that the model was loaded with.
"""

from __future__ import annotations

import numpy as np

from ..groups import Keep, Method, number, only

NEEDS = ("attention", "question")


def fastv(keep: Keep, layer: int = 2) -> Method:
    """FastV (Chen et al., *An Image is Worth 1/2 Tokens After Layer 2*, ECCV 2024): after block
    `layer` of the LM, only the tokens go on that the prompt's last token attends to most there.

    The paper ranks by the attention from all other tokens, its code by the last token's, which is
    what others compare with, and so do we.
    """

    def choose(sight):
        rank = np.argsort(-sight.attention(sight.block), kind="stable")
        return only(rank[: number(keep, sight)], len(rank))

    return Method("fastv", choose, place=f"LM {layer}", needs=NEEDS)


def pyramiddrop(keep: Keep) -> Method:
    """PyramidDrop (Xing et al., *PyramidDrop: Accelerating Your Large Vision-Language Models via
    Pyramid Visual Redundancy Reduction*, CVPR 2025): the LM is cut into four stages, and after each
    but the last the same share of tokens is dropped, those that the prompt's last token attends to
    least.

    `keep` is what is left in the last stage. Otherwise than there: tokens are ranked by the
    attention of the stage's last block, where the paper takes the next block's queries and keys.
    """

    def choose(sight):
        of_all = sight.grid[0] * sight.grid[1]
        share = (number(keep, sight) / of_all) ** ((sight.step + 1) / sight.steps)
        rank = np.argsort(-sight.attention(sight.block), kind="stable")
        return only(rank[: max(1, round(share * of_all))], len(rank))

    return Method("pyramiddrop", choose, place=("LM 1/4", "LM 1/2", "LM 3/4"), needs=NEEDS)
