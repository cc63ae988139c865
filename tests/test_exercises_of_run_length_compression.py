"""The checks refuse plausible wrong answers, without telling the right one."""

import numpy as np
import pytest
import torch

import whatwhere as ww
from whatwhere import answers, compress, world
from whatwhere.book.exercises import run_length_compression as checks
from whatwhere.compress import groups

PAGE = np.array([["red", "red", "mug"], [".", ".", "."]], object)


def sentence(capsys, outcome):
    assert not outcome
    return capsys.readouterr().out.splitlines()[-1]


@pytest.fixture(scope="module")
def vlm():
    return ww.load("toy-llava")


def test_unfolded(capsys):
    assert checks.unfolded(lambda code: [w for w, n in code for _ in range(n)], PAGE)
    capsys.readouterr()
    for wrong, said in {
        lambda code: [w for w, _ in code]: "comes back with",
        lambda code: [w * n for w, n in code]: "comes back with",
        lambda code: " ".join(w for w, n in code for _ in range(n)): "a list of words",
        lambda code: [w for w, n in code for _ in range(n)][::-1]: "other places",
        lambda code: None: "is None",
    }.items():
        assert said in sentence(capsys, checks.unfolded(wrong, PAGE))


def labels_of(sight, decoder):
    return decoder.top(sight.tokens)[:, 0].reshape(sight.grid)


def columns(sight, decoder):
    labels = labels_of(sight, decoder).T
    return groups.rows(labels).reshape(labels.shape).T.ravel()


def test_columns(vlm, capsys):
    decoder = compress.Decoder(vlm.unembedding.weight.detach(), vlm.words)
    assert checks.columns(columns, vlm, decoder)
    capsys.readouterr()
    for wrong, said in {
        lambda sight, d: groups.rows(labels_of(sight, d)): "the other way round",
        lambda sight, d: groups.regions(labels_of(sight, d)): "different columns",
        lambda sight, d: groups.rows(labels_of(sight, d).T): "column by column",
        lambda sight, d: labels_of(sight, d).ravel() * 9 + np.arange(len(sight.tokens)) % 3: (
            "do not touch"
        ),
        lambda sight, d: np.arange(len(sight.tokens)): "one above the other",
        lambda sight, d: columns(sight, d).reshape(sight.grid): "should have the shape",
        lambda sight, d: columns(sight, d) - 1: "below zero",
    }.items():
        assert said in sentence(capsys, checks.columns(wrong, vlm, decoder)), said


def alike(sight, threshold, unit=True, ends=True, above=True, signed=True):
    tokens = sight.tokens
    if unit:
        tokens = torch.nn.functional.normalize(tokens, dim=-1)
    cosines = (tokens[1:] * tokens[:-1]).sum(-1).cpu().numpy()
    if not signed:
        cosines = np.abs(cosines)
    starts = np.arange(len(tokens)) % (sight.grid[1] if ends else len(tokens)) == 0
    starts[1:] |= cosines <= threshold if above else cosines > threshold
    return starts.cumsum()


def like_the_first(sight, threshold):
    """Holds each token against the first of its run."""
    unit = torch.nn.functional.normalize(sight.tokens, dim=-1)
    found, first = [0], 0
    for n in range(1, len(unit)):
        if n % sight.grid[1] == 0 or unit[n] @ unit[first] <= threshold:
            first = n
        found.append(first)
    return found


def test_alike(vlm, capsys):
    signs = [scene for scene in world.scenes("dev", 20) if scene.sign][:4]
    families = {"a": ["existence"], "b": ["colour"], "c": ["relation"], "d": ["reading"]}
    exam = answers.Exam.on(vlm, signs, families, shared=True)
    assert checks.alike(alike, exam)
    capsys.readouterr()
    for wrong, said in {
        lambda s, t: alike(s, t, unit=False): "how long a vector is",
        lambda s, t: alike(s, t, ends=False): "its row ends",
        lambda s, t: alike(s, t, above=False): "the first two are alike",
        lambda s, t: np.zeros(len(s.tokens)): "the first two are alike",
        lambda s, t: alike(s, t)[1:]: "should have the shape",
        like_the_first: "its neighbour only",
        lambda s, t: alike(s, 0.9): "at a threshold of 0.99",
        lambda s, t: alike(s, t, signed=False): "opposite vectors",
    }.items():
        assert said in sentence(capsys, checks.alike(wrong, exam)), said
