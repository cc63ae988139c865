"""The checks of the chapter on interventions: right answers pass, plausible wrong ones are refused
with a sentence that does not give the answer away."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch

import whatwhere as ww
from whatwhere import world
from whatwhere.book.exercises import moving_objects_by_hand as checks

SETS = world.controlled("B", 3)


def refused(outcome, *values):
    assert not outcome and str(outcome).startswith("✗ not yet: "), outcome
    for value in values:
        assert value not in str(outcome), outcome
    return str(outcome)


def enough(sizes, flipped):
    over = np.flatnonzero(np.asarray(flipped) >= 0.5)
    if not len(over):
        return None
    n = over[0]
    if n == 0:
        return sizes[0]
    return float(np.interp(0.5, flipped[n - 1 : n + 1], sizes[n - 1 : n + 1]))


def sorted_first(sizes, flipped):
    """It takes the curve to rise everywhere."""
    return float(np.interp(0.5, flipped, sizes)) if max(flipped) >= 0.5 else None


def measured_dose(sizes, flipped):
    """No line: the first dose that was tried."""
    over = [size for size, share in zip(sizes, flipped) if share >= 0.5]
    return over[0] if over else None


def test_enough(capsys):
    curves = {"a model": np.array([0.0, 0.25, 0.75]), "another": np.zeros(3)}
    assert checks.enough(enough, [0, 1, 2], curves)
    said = capsys.readouterr().out
    assert "a model: 1.50" in said and "another: never half" in said


@pytest.mark.parametrize("wrong", [sorted_first, measured_dose, lambda sizes, flipped: 1.0])
def test_a_wrong_dose_is_refused(wrong):
    refused(checks.enough(wrong, [0, 1, 2], {}), "1.5", "0.83", "5/6")


def satellites(start, end):
    feet = [[one.scenes[r].things[0] for one in SETS] for r in (start, end)]
    return np.array(
        [((b.y - a.y) / checks.PATCH, (b.x - a.x) / checks.PATCH) for a, b in zip(*feet)]
    )


def all_follow(steps, start, end):
    return 1.0


def test_nucleus_steps(capsys):
    assert checks.nucleus_steps(lambda *pair: -satellites(*pair), SETS, all_follow)
    assert "100% of the answers follow" in capsys.readouterr().out
    wrong = {
        "satellite's steps": satellites,
        "other way round": lambda *pair: -satellites(*pair)[:, ::-1],
        "should have the shape": lambda *pair: -satellites(*pair)[0],
        "not displaced as they should be": lambda *pair: -3 * satellites(*pair),
    }
    for sentence, answer in wrong.items():
        assert sentence in refused(checks.nucleus_steps(answer, SETS, all_follow), "minus", "left,")
    few = checks.nucleus_steps(lambda *pair: -satellites(*pair), SETS, lambda *_: 0.5)
    assert "too few" in refused(few)


@pytest.fixture(scope="module")
def vlm():
    return ww.load("toy-qwen2vl")


def exchanging(vlm, scene, tokens):
    """A context in which some tokens have each other's positions."""

    @contextmanager
    def changed(vlm):
        index = tokens(vlm.positions(scene.image).index)
        generator = torch.Generator().manual_seed(0)
        order = index[torch.randperm(len(index), generator=generator)]

        def hook(module, args, named):
            positions = named["position_ids"]
            source = torch.arange(positions.shape[-1])
            source[index] = order
            return args, {**named, "position_ids": positions[..., source]}

        handle = vlm.lm.register_forward_pre_hook(hook, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()

    return changed


@contextmanager
def untouched(vlm):
    yield


def share_right(changes):
    assert len(changes) == 1
    return 0.9


def test_shuffled_positions(vlm, capsys):
    scene = SETS[0].scenes["left"]
    right = exchanging(vlm, scene, lambda index: index)
    assert checks.shuffled_lm(right, vlm, scene, share_right)
    assert "90% of the relations are right" in capsys.readouterr().out
    some = exchanging(vlm, scene, lambda index: index[:8])
    everything = exchanging(vlm, scene, lambda index: torch.arange(int(index[-1]) + 4))
    for wrong in (untouched, some, everything):
        refused(checks.shuffled_lm(wrong, vlm, scene, share_right))
