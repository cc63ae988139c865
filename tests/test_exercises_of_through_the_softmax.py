"""The checks of chapter 10 refuse plausible wrong answers, and do not say the right one."""

import numpy as np
import pytest

from whatwhere.book.exercises import through_the_softmax as checks
from whatwhere.rope import frequencies

THETA = frequencies(80).numpy()


def weights(w, delta):
    more, less = w * np.exp(delta), w * np.exp(-delta)
    return more / (more + 1 - w), less / (less + 1 - w)


def first_order(w, delta):
    return w + w * (1 - w) * delta, w - w * (1 - w) * delta


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (lambda w, d: weights(w, d)[::-1], "the other way round"),
        (first_order, "between 0 and 1"),
        (lambda w, d: (w * np.exp(d), w * np.exp(-d)), "between 0 and 1"),
        (lambda w, d: weights(w, 2 * d), "not what the softmax gives"),
        (lambda w, d: (weights(w, d)[0], 2 * w - weights(w, d)[0]), "between 0 and 1"),
        (lambda w, d: (w + d, w - d, w), "two things"),
        (lambda w, d: None, ""),
    ],
)
def test_other_weights_are_refused(wrong, why, capsys):
    assert not checks.weights(wrong)
    said = capsys.readouterr().out
    assert said.startswith("✗") and why in said
    assert "exp" not in said and f"{weights(0.1, 1.0)[0]:.3f}" not in said


def test_the_weights(capsys):
    assert checks.weights(weights)
    assert checks.weights(lambda w, d: np.array(weights(w, d)))
    assert "✗" not in capsys.readouterr().out


def head_share(theta, distances, alpha, p, of=2, gain=None):
    i = np.arange(len(theta)) / len(theta)
    faster = theta * (1 + alpha * i**p if gain is None else gain(i))
    angles = np.asarray(distances)[:, None] * faster
    return (np.sin(angles) ** 2).sum(axis=1) / (of * len(theta))


def steep(theta, distances, alpha, p):
    """2i/d read as if d were the number of frequencies."""
    return head_share(theta, distances, alpha, p, gain=lambda i: 1 + alpha * (2 * i) ** p)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (lambda t, m, a, p: head_share(t, m, a, p, of=1), "the Y half"),
        (lambda t, m, a, p: head_share(t, m, a, p, of=4), "quarter of a turn"),
        (lambda t, m, a, p: head_share(t, m, 0, p), "not be that of α = 0"),
        (lambda t, m, a, p: head_share(t, m, a, p, gain=lambda i: a * i**p), "still turn"),
        (lambda t, m, a, p: head_share(t, m, a, 1), "α = 9"),
        (steep, "stays below 1"),
        (lambda t, m, a, p: head_share(t, m, a, p, gain=lambda i: 1 + a * (1 - i) ** p), "fastest"),
        (lambda t, m, a, p: np.sin(np.outer(m, t)) ** 2, "shape"),
        (lambda t, m, a, p: head_share(t, m, a, p).sum(), "shape"),
        (lambda t, m, a, p: 0.5 * np.cos(np.outer(m, t)).mean(1) ** 2, "quarter of a turn"),
    ],
)
def test_other_shares_are_refused(wrong, why, capsys):
    assert not checks.head_share(wrong, THETA)
    said = capsys.readouterr().out
    assert said.startswith("✗") and why in said and "sin" not in said.replace("the sine", "")


def test_the_share_of_a_head(capsys):
    assert checks.head_share(head_share, THETA)
    said = capsys.readouterr().out
    assert said.count("at a distance of 4") == 3 and said.splitlines()[-1].startswith("✓")
