"""Token Merging, inside the ViT."""

from __future__ import annotations

from ..groups import Keep, Method, matched, number


def tome(keep: Keep) -> Method:
    """Token Merging (Bolya et al., *Token Merging: Your ViT But Faster*, ICLR 2023).

    After each block of the ViT an equal number of the most similar tokens merge, by the keys of
    that block (mean over heads, cosine); a token counts in a mean by how many it stands for.
    Where a visual token is m × m patches, these stay together, and their keys are compared side by
    side.

    Otherwise than there: tokens merge between two blocks, not between a block's attention and its
    MLP; a block can halve them at most, so that the last makes up for what is missing; and there is
    no proportional attention in the ViT (in the LM: lengths="kept").
    """

    def choose(sight):
        of_all, kept = sight.grid[0] * sight.grid[1], number(keep, sight)
        left = of_all - round((of_all - kept) * (sight.step + 1) / sight.steps)
        last = sight.step == sight.steps - 1
        n = len(sight.tokens)
        left = left if last else max(left, n - n // 2)
        return matched(sight.vision_keys(sight.block), sight.sizes, left, n - left)

    return Method("tome", choose, place="ViT all", needs=("vision_keys",))
