"""Muon in float32: momentum whose matrices are made orthogonal before they are applied (Jordan et
al., 2024).

`torch.optim.Muon` does the same in bfloat16, which takes longer than the rest of a training step on
processors without bfloat16 arithmetic. Matrices of one shape are handled together.
"""

from collections.abc import Iterable

import torch


def orthogonal(g: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """The nearest semi-orthogonal matrices to `g` `(n, rows, columns)`, roughly: Newton-Schulz with
    Muon's coefficients."""
    flip = g.shape[1] > g.shape[2]
    x = g.mT if flip else g
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.mT if flip else x


class Muon(torch.optim.Optimizer):
    """`rate` is on AdamW's scale: a step's entries have a root mean square of 0.2 times the
    rate."""

    def __init__(
        self,
        params: Iterable[torch.Tensor],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.2,
    ):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            shapes = {}
            for p in group["params"]:
                if p.grad is not None:
                    shapes.setdefault(p.shape, []).append(p)
            for shape, params in shapes.items():
                ahead = []
                for p in params:
                    m = self.state[p].setdefault("momentum", torch.zeros_like(p))
                    m.lerp_(p.grad, 1 - group["momentum"])
                    ahead.append(p.grad.lerp(m, group["momentum"]))
                step = orthogonal(torch.stack(ahead)) * (0.2 * max(shape) ** 0.5 * group["lr"])
                for p, s in zip(params, step, strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(s)
