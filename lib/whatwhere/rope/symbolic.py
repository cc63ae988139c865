"""The terms of a rotated dot product, as algebra (sympy), and as functions made of that algebra.

One pair of dimensions of a query, written as the complex number q = q₁ + i q₂, is turned by its
position times the pair's frequency θ, and so is the key's pair k. What the two give to the
attention logit depends on their displacement Δ alone:

    Re[q k* e^{iΔθ}]  =  Re(q k*) cos(Δθ)  −  Im(q k*) sin(Δθ)
                             SHARED               TELLING

Shared, since it is the same for Δ and −Δ; telling, since it is the opposite. Chapter 9 derives this
and holds its own result against these two; the numbers everywhere else in the book are computed by
`terms`, which is these two, lambdified.
"""

from collections.abc import Callable
from functools import cache

import sympy
import torch

Q1, Q2, K1, K2 = sympy.symbols("q_1 q_2 k_1 k_2", real=True)
DISPLACEMENT, THETA = sympy.symbols("Delta theta", real=True)

SHARED = (Q1 * K1 + Q2 * K2) * sympy.cos(DISPLACEMENT * THETA)
TELLING = -(Q2 * K1 - Q1 * K2) * sympy.sin(DISPLACEMENT * THETA)


@cache
def terms() -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    """The function (q₁, q₂, k₁, k₂, Δ, θ) → (shared, telling), of torch tensors that broadcast."""
    return sympy.lambdify(
        (Q1, Q2, K1, K2, DISPLACEMENT, THETA),
        (SHARED, TELLING),
        [{"cos": torch.cos, "sin": torch.sin}],
    )
