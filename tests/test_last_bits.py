"""The trial of another processor's last bits moves what a processor decides, and nothing else."""

import pytest
import torch

from closeness import OTHER, SAME, apart
from tools.trials.last_bits import AMPLITUDE, LastBits, begin


@pytest.fixture(autouse=True)
def as_on_this_processor():
    """Where the tests themselves run in the mode, it is left for a while."""
    from torch.utils._python_dispatch import _disable_current_modes

    with _disable_current_modes():
        yield


def drawn(*shape, dtype=torch.float32, seed=0):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("inference", [True, False])
def test_sums_and_curves_are_moved_in_their_last_bits(dtype, inference):
    x, w = drawn(50, 64, dtype=dtype), drawn(96, 64, dtype=dtype, seed=1)
    for act in (
        lambda: torch.nn.functional.linear(x, w), lambda: x.softmax(-1), lambda: x.exp(),
        lambda: x.mean(1), lambda: torch.nn.functional.layer_norm(x, (64,)),
        lambda: torch.nn.functional.scaled_dot_product_attention(*3 * [x[None, None]]),
    ):  # fmt: skip
        with torch.inference_mode(inference):
            here = act()
            with LastBits():
                there, again = act(), act()
        assert torch.equal(there, again) and there.dtype == dtype, "a processor repeats itself"
        assert 0 < apart(here, there) < 30 * torch.finfo(dtype).eps


def test_what_is_exact_on_any_processor_stays():
    x, mask = drawn(30, 30), torch.ones(30, 30, dtype=torch.bool).triu(1)
    for act in (
        lambda: x + x.T, lambda: x * x.T, lambda: x[:, 3:].clone(),
        lambda: torch.where(mask, x, 0.5), lambda: x.sort().values,
        lambda: mask.float() @ mask.float(), lambda: mask.double().sum(0),
    ):  # fmt: skip
        here = act()
        with LastBits():
            assert torch.equal(act(), here)
    with LastBits():
        weights = x.masked_fill(mask, -torch.inf).softmax(-1)
        assert (weights[mask] == 0).all() and x.masked_fill(mask, torch.inf).exp()[
            mask
        ].isinf().all()


def test_a_batch_is_not_what_each_is_alone():
    x, w = drawn(50, 64), drawn(64, 96, seed=1)
    with LastBits():
        together, alone = x @ w, torch.cat([row[None] @ w for row in x])
    assert 0 < apart(together, alone) < SAME


def test_gradients_and_random_weights_are_moved_too():
    slopes = {}
    for name, mode in (("here", None), ("there", LastBits())):
        if mode:
            mode.__enter__()
        w = torch.nn.Parameter(
            torch.empty(96, 64).normal_(0, 0.02, generator=torch.Generator().manual_seed(1))
        )
        (slopes[name],) = torch.autograd.grad((drawn(50, 64) @ w.T).square().sum(), w)
        slopes[name, "weights"] = w.detach()
        if mode:
            mode.__exit__(None, None, None)
    assert 0 < apart(slopes["here"], slopes["there"]) < SAME
    assert 0 < apart(slopes["here", "weights"], slopes["there", "weights"]) < SAME


def test_the_environment_begins_it(monkeypatch):
    thirds = torch.ones(9) / 3
    for amplitude, moves in ((None, False), ("0", False), ("1", True)):
        monkeypatch.delenv(AMPLITUDE, raising=False)
        if amplitude:
            monkeypatch.setenv(AMPLITUDE, amplitude)
        mode = begin()
        try:
            found = thirds.exp()
        finally:
            if mode:
                mode.__exit__(None, None, None)
        assert (len(found.unique()) > 1) == (mode is not None) == moves


# -- how far apart numbers are
# ------------------------------------------------------------------------------------


def test_apart_is_a_share_of_the_size():
    x = drawn(40, 8, dtype=torch.float64)
    for scale in (1e-9, 1.0, 1e9):
        for share in (1e-6, 1e-3):
            moved = scale * x
            moved[3, 4] += share * scale * x.square().mean().sqrt()
            assert (
                apart(moved, scale * x)
                == pytest.approx(share, rel=1e-3)
                == apart(scale * x.numpy(), moved)
            )
    assert apart(x, x) == 0 == apart(torch.zeros(3), torch.zeros(3)) and apart([0.5, 0.5], 0.5) == 0
    assert apart(x, x.flip(0)) > OTHER and apart(x.bfloat16(), x) > 1e-4


def test_apart_takes_nothing_for_the_same_that_is_not():
    assert apart(torch.tensor([1.0, torch.nan]), torch.tensor([1.0, torch.nan])) == float("inf")
    assert apart([1.0, float("inf")], [1.0, float("inf")]) == float("inf")
    for one, other in (
        (torch.ones(3), torch.ones(4)),
        (torch.ones(2, 3), torch.ones(3)),
        (torch.ones(0), torch.ones(0)),
    ):
        with pytest.raises(AssertionError):
            apart(one, other)
