"""The checks of chapter 11 refuse plausible wrong answers, and do not say the right one."""

import numpy as np
import pytest
import torch

from whatwhere.book.exercises import checking_the_derivation as checks


def neighbours(q):
    return torch.cat([q[..., ::2], q[..., 1::2]], dim=-1)


def together(q):
    return torch.stack(q.chunk(2, dim=-1), dim=-1).flatten(-2)


def in_fours(q):
    """Pairs of neighbours of neighbours."""
    return torch.stack(q.chunk(4, dim=-1), dim=-1).flatten(-2)


def other_order(q):
    first, second = q.chunk(2, dim=-1)
    return torch.stack([second, first], dim=-1).flatten(-2)


@pytest.mark.parametrize(
    "wrong", [neighbours, in_fours, other_order, lambda q: q, lambda q: 0 * q, lambda q: q[:4]]
)
def test_other_layouts_are_refused(wrong, capsys):
    assert not checks.together(wrong, neighbours)
    said = capsys.readouterr().out
    assert said.startswith("✗") and "half" not in said and "stack" not in said


def test_the_layout_is_taken():
    assert checks.together(together, neighbours)


ENERGY = np.random.default_rng(0).uniform(1, 3, (2, 24, 12))


def along_share(energy):
    half = energy.shape[-1] // 2
    return energy[1, :, :half].sum(axis=-1) / energy.sum(axis=(0, 2))


@pytest.mark.parametrize(
    "wrong",
    [
        # left and right; shared; of the telling terms alone; of the Y half alone; of all heads
        lambda e: e[1, :, 6:].sum(-1) / e.sum((0, 2)),
        lambda e: e[0, :, :6].sum(-1) / e.sum((0, 2)),
        lambda e: e[1, :, :6].sum(-1) / e[1].sum(-1),
        lambda e: e[1, :, :6].sum(-1) / e[:, :, :6].sum((0, 2)),
        lambda e: e[1, :, :6].sum(-1) / e.sum(),
        lambda e: e[1, :, :6].mean(-1) / e.sum((0, 2)),
        lambda e: along_share(e).mean(),
    ],
)
def test_other_shares_are_refused(wrong, capsys):
    assert not checks.along_share(wrong, ENERGY)
    said = capsys.readouterr().out
    assert said.startswith("✗") and "0.25" not in said and "strongest" not in said


def test_the_share_is_taken(capsys):
    assert checks.along_share(along_share, ENERGY)
    best = along_share(ENERGY).argmax()
    assert f"strongest: block {best // 4 + 1} head {best % 4}" in capsys.readouterr().out


def closest(theta, side, far=None, last=False, sums=None):
    apart = np.arange(1, far or 2 * side - 1)
    unlike = (1 - np.cos(apart[:, None] * np.asarray(theta))).sum(axis=1)
    found = np.flatnonzero(unlike <= unlike.min() + 1e-12)
    best = found[-1 if last else 0]
    return (unlike[best] if sums is None else sums), apart[best]


def alone(theta, side):
    """Looks at the fastest pair only."""
    return closest(theta[:1], side)


@pytest.mark.parametrize(
    "wrong",
    [
        # displacements to one side only; the last of several; not the sum; pairs out of order
        lambda theta, side: closest(theta, side, far=side),
        lambda theta, side: closest(theta, side, last=True),
        lambda theta, side: closest(theta, side, sums=0.5),
        lambda theta, side: closest(theta, side)[::-1],
        lambda theta, side: (0.0, 0),
        lambda theta, side: closest(theta, side)[1],
        alone,
    ],
)
def test_other_differences_are_refused(wrong, capsys):
    assert not checks.closest(wrong)
    said = capsys.readouterr().out
    assert said.startswith("✗") and "neighbour" not in said


def test_the_difference_is_taken():
    assert checks.closest(closest)
