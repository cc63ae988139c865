"""Rotary positions in numbers: which pair of dimensions turns with which axis, how fast, and what
that does to a logit."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
import torch

# (row, column) of the satellite seen from the nucleus, for a distance of one. Rows count downwards,
# and on a table seen from above, lower is nearer: the paper's (−m, 0), (m, 0), (0, n) and (0, −n)
# for left, right, front and behind are (column, row).
PLACES = {"left": (0, -1), "right": (0, 1), "behind": (-1, 0), "front": (1, 0)}


def place(relation: str, distance: float = 1) -> torch.Tensor:
    """(2,) row and column, in patches, of a satellite that is left, right, behind or front of the
    nucleus at the origin.

    Raises:
        ValueError: for another relation, or a distance that is not above zero.
    """
    if relation not in PLACES:
        raise ValueError(f"A satellite is {', '.join(PLACES)} of the nucleus; got {relation!r}.")
    if isinstance(distance, bool) or not isinstance(distance, Real) or not 0 < distance < math.inf:
        raise ValueError(
            "The distance is a number of patches above zero, and the relation gives the sign; "
            f"got {distance!r}."
        )
    return torch.tensor(PLACES[relation], dtype=torch.float64) * distance


def frequencies(head_size: int, base: float = 10_000.0) -> torch.Tensor:
    """(head_size / 4,) float64: θ_i = base^(−2i/d), radians per patch, of each axis of a 2-D rotary
    ViT; d = head_size / 2.

    Half of a head's dimensions turn with the row and half with the column, two at a time.

    Raises:
        ValueError: for a head size that is not a multiple of four, or a base that is not above one.
    """
    whole = isinstance(head_size, Integral) and not isinstance(head_size, bool)
    if not whole or head_size < 4 or head_size % 4:
        is_odd = isinstance(head_size, Integral) and head_size % 2
        odd = ": an odd number of dimensions makes no pairs" if is_odd else ""
        raise ValueError(
            f"A head of {head_size!r} dimensions cannot have 2-D RoPE{odd}. Its size is a multiple "
            "of four, such as 80: two axes, and two dimensions to a pair."
        )
    if isinstance(base, bool) or not isinstance(base, Real) or not 1 < base < math.inf:
        raise ValueError(f"The base is a number above one, such as 10000; got {base!r}.")
    half = head_size // 2
    return float(base) ** -(torch.arange(0, half, 2, dtype=torch.float64) / half)


def gains(n: int, alpha: float, p: float) -> torch.Tensor:
    """(n,) float64: g(i) = 1 + α (2i/d)^p of the paper's RoPE scaling, for the n = d/2 frequencies
    of one axis.

    Raises:
        ValueError: unless α is a finite number above −1 (at −1 a frequency could stop) and p one
            above 0.
    """
    _above("alpha", alpha, -1)
    _above("p", p, 0)
    return 1 + alpha * (torch.arange(n, dtype=torch.float64) / n) ** p


def sigmoid_gains(n: int, alpha: float, k: float, c: float) -> torch.Tensor:
    """(n,) float64: g(i) = 1 + α σ(k (2i/d − c)), which rises from 1 to 1 + α around 2i/d = c, the
    more abruptly the larger k.

    Raises:
        ValueError: unless α is a finite number above −1, k one above 0 and c any finite number.
    """
    _above("alpha", alpha, -1)
    _above("k", k, 0)
    _above("c", c, -math.inf)
    return 1 + alpha * torch.sigmoid(k * (torch.arange(n, dtype=torch.float64) / n - c))


def _above(name, value, least):
    if isinstance(value, bool) or not isinstance(value, Real) or not least < value < math.inf:
        raise ValueError(
            f"{name} is a finite number{f' above {least}' if least > -math.inf else ''}; got "
            f"{value!r}."
        )


def largest_alpha(theta: torch.Tensor | np.ndarray | Sequence[float], side: int, p: float) -> float:
    """The bound on α below which scaling makes no further frequency ambiguous on a grid of `side`
    patches.

    A pair whose angle reaches π within the largest displacement, side − 1, gives opposite
    displacements the same phase.

    Args:
        theta: (frequencies,) of one axis. Those that reach π unscaled are left out: scaling is not
            to blame for them, and a slower pair tells what they cannot. Infinite if no frequency is
            left that α could move.
    """
    if isinstance(side, bool) or not isinstance(side, Integral) or side < 2:
        raise ValueError(
            f"The side of a grid is a whole number of patches, 2 or more; got {side!r}."
        )
    theta = torch.as_tensor(theta, dtype=torch.float64)
    growth = gains(len(theta), 1.0, p) - 1
    room = math.pi / ((side - 1) * theta) - 1
    limits = (room / growth)[(room >= 0) & (growth > 0)]
    return limits.min().item() if len(limits) else math.inf


@dataclass(frozen=True)
class Rotary:
    """How a head's dimensions turn: pair i is dimensions i and i + pairs, the "split-half" layout
    of `transformers`.

    Attributes:
        theta: (pairs,) radians per step.
        axis: (pairs,) which number of a position turns the pair: 0 row and 1 column in a ViT; 0
            time, 1 row and 2 column in an LM with M-RoPE; 0 alone in any other LM.
    """

    theta: torch.Tensor
    axis: torch.Tensor

    def __post_init__(self):
        theta = torch.as_tensor(self.theta, dtype=torch.float64)
        axis = torch.as_tensor(self.axis, dtype=torch.long)
        fits = theta.ndim == 1 and theta.shape == axis.shape and len(theta)
        if not fits or not theta.isfinite().all():
            raise ValueError(
                f"A Rotary has a finite frequency and an axis for each pair; got {theta.shape} "
                f"and {axis.shape}."
            )
        object.__setattr__(self, "theta", theta.cpu())
        object.__setattr__(self, "axis", axis.cpu())

    @property
    def head_size(self) -> int:
        """How many dimensions a head has: two for each pair."""
        return 2 * len(self.theta)

    def terms(
        self, q: torch.Tensor, k: torch.Tensor, displacement: torch.Tensor | Sequence[float]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(shared, telling), each (…, pairs): what every pair gives to the logit q·k; their sum
        over both is the logit.

        Args:
            q, k: (…, head size) before they are turned.
            displacement: (…, axes) the query's position minus the key's. They broadcast. Not yet
                divided by √(head size).
        """
        for name, size in (("query", q.shape[-1]), ("key", k.shape[-1])):
            if size != self.head_size:
                raise ValueError(
                    f"The {name} has {size} dimensions; this head has {self.head_size}."
                )
        steps = torch.as_tensor(displacement, dtype=q.dtype)
        if steps.shape[-1] <= self.axis.max():
            raise ValueError(
                f"A displacement has {self.axis.max() + 1} numbers here, one for each axis; got "
                f"{steps.shape[-1]}."
            )
        (q1, q2), (k1, k2) = q.chunk(2, -1), k.chunk(2, -1)
        from .symbolic import terms  # sympy takes a while to import

        return terms()(q1, q2, k1, k2, steps[..., self.axis].to(q), self.theta.to(q))

    def turned(self, states: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        """(…, n, pairs) complex: queries or keys (…, n, head size) turned to positions (n, axes).

        The real part of one times the conjugate of another is what a pair gives to their logit, so
        that sums and means over tokens can be taken before the product.
        """
        if states.shape[-1] != self.head_size:
            raise ValueError(
                f"The states have {states.shape[-1]} dimensions; this head has {self.head_size}."
            )
        first, second = states.chunk(2, -1)
        angle = (at[:, self.axis].double() * self.theta).to(states)
        return torch.complex(first, second) * torch.polar(torch.ones_like(angle), angle)

    def logits(
        self, q: torch.Tensor, k: torch.Tensor, at_q: torch.Tensor, at_k: torch.Tensor | None = None
    ) -> torch.Tensor:
        """(…, queries, keys) attention logits, divided by √(head size), of q and k (…, n, head
        size) at positions (n, axes)."""
        return self.logits_by_axis(q, k, at_q, at_k).sum(0)

    def logits_by_axis(
        self, q: torch.Tensor, k: torch.Tensor, at_q: torch.Tensor, at_k: torch.Tensor | None = None
    ) -> torch.Tensor:
        """(axes, …, queries, keys): the part of each logit that the pairs of each axis give; their
        sum is the logit."""
        at_k = at_q if at_k is None else at_k
        shared, telling = self.terms(
            q[..., :, None, :], k[..., None, :, :], at_q[:, None] - at_k[None]
        )
        terms = (shared + telling) / math.sqrt(self.head_size)
        return torch.stack(
            [terms[..., self.axis == axis].sum(-1) for axis in range(int(self.axis.max()) + 1)]
        )


def axial(theta: torch.Tensor | np.ndarray | Sequence[float]) -> Rotary:
    """The `Rotary` of a 2-D ViT with these frequencies on both axes: the row turns the first half
    of the pairs."""
    theta = torch.as_tensor(theta, dtype=torch.float64)
    return Rotary(torch.cat([theta, theta]), torch.arange(2).repeat_interleave(len(theta)))
