"""Checks of the chapter in which a visual decoder is distilled."""

from typing import Any

import numpy as np
import torch

from . import array, exercise, expect, number, pair


@exercise("probabilities at every temperature, flatter as it rises")
def softened(softened: Any) -> Any:
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 0.0, 5.0]])

    def at(temperature):
        return array(softened(logits, temperature), (2, 3), "softened(logits, temperature)")

    sums = at(2.5).sum(axis=1)
    expect(np.allclose(sums, 1), "probabilities of one patch should add up to one")
    usual = logits.softmax(dim=-1).numpy()
    expect(np.allclose(at(1.0), usual), "at temperature 1 it should be the usual softmax")
    expect(np.ptp(at(1e4), axis=1).max() < 1e-3, "when very hot, words should be equally likely")
    expect(at(0.05)[0, 0] > 0.999, "when very cold, the first word should take all")
    probabilities = torch.tensor(at(2.5))
    warm = probabilities.log()[:, :1] - probabilities.log()
    plain = logits[:, :1] - logits
    ratio = "at 2.5, log-probabilities do not differ by what they should"
    expect(torch.allclose(warm, plain.double() / 2.5, atol=1e-4), ratio)


@exercise("both are what a reader without eyes can reach")
def chance(chance: Any, said: Any) -> Any:
    def of(words):
        drawn, commonest = pair(chance(np.array(words)), "chance(said)")
        return number(drawn, "the first"), number(commonest, "the second")

    expect(np.allclose(of(["red"] * 4), 1), "with one word there is no way to miss")
    drawn, commonest = of([["red", "red"], ["mug", "."]])
    turned = np.allclose((commonest, drawn), (3 / 8, 1 / 2))
    expect(not turned, "the two are the other way round")
    expect(
        abs(commonest - 1 / 2) < 1e-9, "the second is not right for four patches, two of one word"
    )
    expect(abs(drawn - 3 / 8) < 1e-9, "the first is not right for four patches, two of one word")
    drawn, commonest = of(said)
    words = np.ravel(said)
    rng = np.random.default_rng(0)
    shuffled = np.mean([rng.permutation(words) == words for _ in range(20)])
    near = abs(shuffled - drawn) < 0.01
    expect(near, "the teacher's words, shuffled, agree with themselves at another rate")
    print(f"here: {drawn:.1%} by drawing, {commonest:.1%} by the commonest word")


@exercise("a network with a hidden layer, held to the linear one")
def deeper(deeper: Any, vlm: Any, lessons: Any, exam: Any, on: Any) -> Any:
    rng = np.random.default_rng(0)
    # of the type that tokens of pictures have
    corners = np.array([[x, y] for x in (-1, 1) for y in (-1, 1)] * 100, np.float32)
    words = np.where(corners.prod(axis=1) > 0, "mug", "red")
    near = corners + rng.normal(0, 0.1, corners.shape).astype(np.float32)
    reader = deeper(near, words)
    expect(callable(reader), "deeper(tokens, words) should return a function")
    found = np.asarray(reader(corners))
    expect(found.shape == words.shape, "the function should give one word for each token")
    expect(found.dtype.kind in "UO", "the function should give words, and it gives numbers")
    expect(
        (found == words).mean() > 0.95, "it should solve exclusive or, which no linear layer can"
    )

    def taught(some):
        """Tokens (patches, hidden), and the teacher's words (patches,)."""
        tokens, states = map(torch.cat, zip(*some))
        with torch.no_grad():
            logits = vlm.unembedding(vlm.final_norm(states.to(vlm.device)))
        return tokens.float().numpy(), vlm.words[logits.argmax(-1).cpu()].astype(str)

    reader = deeper(*taught(lessons))
    tokens, words = taught(exam)
    right = (np.asarray(reader(tokens)) == words)[np.ravel(on)].mean()
    print(f"top-1 on object patches of development scenes: {right:.1%}")
    expect(right > 0.55, "on pictures it does worse than a linear layer")
