"""The checks of chapter 2 take right answers and refuse plausible wrong ones, without a hint at
the right ones."""

from itertools import groupby

import numpy as np
import pytest
import torch

import whatwhere as ww
from whatwhere import stages, world
from whatwhere.book.exercises import reading_patches_as_words as checks


def said(check, *answer, capsys):
    """Whether an answer passes, and the last line that the check prints."""
    passed = check(*answer)
    return bool(passed), capsys.readouterr().out.splitlines()[-1]


def segments(strip):
    return [(word, len(list(run))) for word, run in groupby(strip)]


def test_runs(capsys):
    for right in (segments, lambda strip: [list(run) for run in segments(strip)]):
        assert said(checks.segments, right, capsys=capsys)[0]
    for wrong, sentence in {
        lambda strip: segments(strip)[:-1]: "should give the strip back",
        lambda strip: [(w, strip.count(w)) for w in dict.fromkeys(strip)]: "give the strip back",
        lambda strip: [(word, 1) for word in strip]: "they are one",
        lambda strip: [run[::-1] for run in segments(strip)]: "a word and a length",
        lambda strip: [word for word, _ in segments(strip)]: "each run should be two things",
        lambda strip: None: "is there a return at the end?",
    }.items():
        passed, line = said(checks.segments, wrong, capsys=capsys)
        assert not passed and sentence in line


@pytest.fixture(scope="module")
def vlm():
    return ww.load("toy-llava")


def test_with_and_without_the_norm(vlm, capsys):
    scene = world.scene(seed=12)

    def agreement(layer):
        states = vlm.states(scene.image, layer)
        normed = vlm.unembedding(vlm.final_norm(states)).argmax(-1)
        return (normed == vlm.unembedding(states).argmax(-1)).float().mean().item()

    with torch.no_grad():
        assert said(checks.agreement, agreement, vlm, scene, capsys=capsys)[0]
        for wrong, sentence in {
            lambda layer: 1 - agreement(layer): "is not the share of equal words",
            lambda layer: agreement(2): "is not the share of equal words",
            lambda layer: 100 * agreement(layer): "between 0 and 1",
            lambda layer: None: "is there a return at the end?",
        }.items():
            passed, line = said(checks.agreement, wrong, vlm, scene, capsys=capsys)
            assert not passed and sentence in line
            assert f"{agreement(0):.3f}" not in line


def counted(words, scene, holds):
    """(hits, object patches), where a hit holds of a word, its own words and those of others."""
    hits = count = 0
    for word, n in zip(words.ravel(), stages.owners(scene, words.shape).ravel()):
        if n >= 0:
            others = {w for i, thing in enumerate(scene.things) if i != n for w in thing.words}
            hits += holds(word, scene.things[n].words, others)
            count += 1
    return hits, count


def test_words_of_other_things(capsys):
    scene = world.scene(seed=12)
    words = np.full((12, 12), ".", dtype=object)

    def swapped(words, scene):
        return counted(words, scene, lambda word, own, others: word in others and word not in own)

    def with_own(words, scene):
        return counted(words, scene, lambda word, own, others: word in others)

    def any_miss(words, scene):
        return counted(words, scene, lambda word, own, others: word not in own)

    assert said(checks.swapped, swapped, words, scene, capsys=capsys)[0]
    for wrong, sentence in {
        with_own: "things have that word",
        any_miss: "a map of full stops is wrong, but holds no swap",
        lambda *of: swapped(*of)[::-1]: "that of all object patches",
        lambda *of: swapped(*of)[0]: "should be two things",
        lambda *of: (0, swapped(*of)[1]): "things have that word",
        lambda *of: None: "is there a return at the end?",
    }.items():
        passed, line = said(checks.swapped, wrong, words, scene, capsys=capsys)
        assert not passed and sentence in line


@pytest.mark.parametrize("check", [checks.segments, checks.agreement, checks.swapped])
def test_stubs_wait(check, vlm, capsys):
    def stub(*_):
        raise NotImplementedError

    scene = world.scene(seed=12)
    more = {checks.agreement: (vlm, scene), checks.swapped: (np.full((12, 12), "."), scene)}
    passed, line = said(check, stub, *more.get(check, ()), capsys=capsys)
    assert not passed and line.startswith("✗ not yet: this one still waits")
