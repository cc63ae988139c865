"""The checks refuse plausible wrong answers, without telling the right one."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

import whatwhere as ww
from test_stages import pair, told
from whatwhere import stages, world
from whatwhere.book.exercises import from_attributes_to_objects as checks

KINDS = {w: k for k, words in stages.by_kind(world.vocabulary()).items() for w in words}


def sentence(capsys, outcome):
    assert not outcome
    return capsys.readouterr().out.splitlines()[-1]


def shares(words):
    found = [KINDS.get(word, "other") for word in words.ravel()]
    return {kind: found.count(kind) / len(found) for kind in (*stages.KINDS, "other")}


def test_shares(capsys):
    one = told(pair())
    read = replace(one, ids=np.repeat(one.ids, 4, axis=1), depths=(0, 1, 2, 3))
    table = stages.counts(read, [pair()])
    assert checks.shares(shares, read, table)
    capsys.readouterr()
    for wrong, said in {
        lambda words: {kind: 6 * share for kind, share in shares(words).items()}: "between 0 and 1",
        lambda words: {kind: shares(words)[kind] for kind in stages.KINDS}: "the keys should be",
        lambda words: list(shares(words).values()): "a dictionary",
        lambda words: shares(words) | {"other": 0.0}: "add up to one",
        lambda words: shares(words) | {"attribute": 1 / 6, "object": 1 / 3}: "is not right",
    }.items():
        assert said in sentence(capsys, checks.shares(wrong, read, table))


def elected(words, scene, only=world.CATEGORIES, best=True):
    owner, winners = stages.owners(scene, words.shape), []
    for i in range(len(scene.things)):
        votes = Counter(word for word in words[owner == i] if word in only).most_common()
        winners.append(votes[0 if best else -1][0] if votes else None)
    return winners


def test_elected(capsys):
    scene = world.scene(seed=5)
    assert checks.elected(elected, scene)
    capsys.readouterr()
    everything = [*KINDS]
    for wrong, said in {
        lambda words, scene: elected(words, scene, everything): "a colour is no category",
        lambda words, scene: elected(words, scene, best=False): "should not overturn",
        lambda words, scene: elected(words, scene)[:-1]: "entries",
        lambda words, scene: elected(words, scene)[::-1]: "not what it says",
        lambda words, scene: None: "is None",
    }.items():
        assert said in sentence(capsys, checks.elected(wrong, scene)), said


def mixed_up(truth, seed=0):
    mixed, on = truth.copy(), truth != ""
    mixed[on] = np.random.default_rng(seed).permutation(truth[on])
    return mixed


@pytest.fixture(scope="module")
def given():
    return ww.load("toy-qwen2vl"), list(world.scenes("dev", 6))


def test_mixed_up(given, capsys):
    def within(truth, seed=0):
        rng, mixed = np.random.default_rng(seed), truth.copy()
        for row in mixed:
            row[row != ""] = rng.permutation(row[row != ""])
        return mixed

    def in_place(truth, seed=0):
        truth[:] = mixed_up(truth, seed)
        return truth

    def everywhere(truth, seed=0):
        return np.random.default_rng(seed).permutation(truth.ravel()).reshape(truth.shape)

    def drawn(truth, seed=0):
        mixed, on = truth.copy(), truth != ""
        mixed[on] = np.random.default_rng(seed).choice(truth[on], on.sum())
        return mixed

    assert checks.mixed_up(mixed_up, *given)
    capsys.readouterr()
    for wrong, said in {
        in_place: "copy them first",
        everywhere: "keep none",
        drawn: "as often as before",
        within: "other scenes",
        lambda truth, seed=0: truth.copy(): "another label",
        lambda truth, seed=0: mixed_up(truth, 7): "another seed",
        lambda truth, seed=0: mixed_up(truth, seed).T: "the other way round",
    }.items():
        assert said in sentence(capsys, checks.mixed_up(wrong, *given)), said
