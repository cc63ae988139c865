"""The checks refuse plausible wrong answers, without telling the right one."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from whatwhere.book.exercises import distilling_a_visual_decoder as checks

SAID = np.random.default_rng(0).choice([3, 5, 8], p=[0.6, 0.3, 0.1], size=(50, 144))


def sentence(capsys, outcome):
    assert not outcome
    return capsys.readouterr().out.splitlines()[-1]


def softened(logits, temperature):
    return (logits / temperature).softmax(-1)


def test_softened(capsys):
    assert checks.softened(softened)
    capsys.readouterr()
    for wrong, said in {
        lambda logits, t: logits / t: "add up to one",
        lambda logits, t: logits.softmax(-1): "equally likely",
        lambda logits, t: (logits * t).softmax(-1): "equally likely",
        lambda logits, t: (logits / t).softmax(0): "add up to one",
        lambda logits, t: (logits / t**2).softmax(-1): "at 2.5",
        lambda logits, t: (logits / t).softmax(-1).T: "the other way round",
        lambda logits, t: None: "is None",
    }.items():
        assert said in sentence(capsys, checks.softened(wrong))


def chance(said):
    shares = np.unique(said, return_counts=True)[1] / np.size(said)
    return (shares**2).sum(), shares.max()


def test_chance(capsys):
    assert checks.chance(chance, SAID)
    capsys.readouterr()
    for wrong, said in {
        lambda said: chance(said)[::-1]: "the other way round",
        lambda said: chance(said)[0]: "two things",
        lambda said: (1 / len(np.unique(said)), chance(said)[1]): "the first",
        lambda said: (chance(said)[0], chance(said)[1] * np.size(said)): "no way to miss",
    }.items():
        told = sentence(capsys, checks.chance(wrong, SAID))
        assert said in told and "0.375" not in told and "3 / 8" not in told


class Model:
    """Its words are the directions of its states."""

    words, device = np.array(["red", "mug", "."], object), "cpu"

    def final_norm(self, states):
        return states

    def unembedding(self, states):
        return states


def lessons(n, seed):
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(n):
        states = torch.nn.functional.one_hot(torch.arange(30) % 3, 3).float()
        found.append((states + 0.1 * torch.randn(30, 3, generator=generator), states))
    return found


def test_deeper(capsys):
    def answered(fit):
        given = Model(), lessons(5, 0), lessons(4, 1), np.ones((4, 30), bool)
        return checks.deeper(fit, *given)

    assert answered(lambda x, y: KNeighborsClassifier(3).fit(x, y).predict)
    capsys.readouterr()
    for wrong, said in {
        lambda x, y: LogisticRegression().fit(x, y).predict: "exclusive or",
        lambda x, y: KNeighborsClassifier(3).fit(x, y): "return a function",
        lambda x, y: KNeighborsClassifier(3).fit(x, y).predict_proba: "one word for each token",
        lambda x, y: KNeighborsClassifier(3).fit(x, y == "mug").predict: "it gives numbers",
    }.items():
        assert said in sentence(capsys, answered(wrong))
    # right for the small set, and blind for pictures
    blind = sentence(
        capsys,
        answered(
            lambda x, y: (
                KNeighborsClassifier(3).fit(x, y).predict
                if x.shape[1] == 2
                else lambda tokens: np.full(len(tokens), ".")
            )
        ),
    )
    assert "worse than a linear layer" in blind


@pytest.mark.parametrize("check", [checks.softened, lambda stub: checks.chance(stub, SAID)])
def test_a_stub_waits(check, capsys):
    def stub(*_):
        raise NotImplementedError

    assert "still waits" in sentence(capsys, check(stub))
