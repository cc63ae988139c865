"""The checks of chapter 3 take right answers and refuse plausible wrong ones, without a hint at
the right ones."""

import numpy as np
import pytest
import torch

import whatwhere as ww
from whatwhere import lens, stages, world
from whatwhere.book.exercises import which_lens as checks


def said(check, *answer, capsys):
    """Whether an answer passes, and the last line that the check prints."""
    passed = check(*answer)
    return bool(passed), capsys.readouterr().out.splitlines()[-1]


def states_of(vlm, scenes):
    images = [scene.image for scene in scenes]
    return torch.stack(vlm.states(images, list(range(vlm.n_layers + 1))), dim=1)


@pytest.fixture(scope="module")
def llava():
    return ww.load("toy-llava")


@pytest.fixture(scope="module")
def dev():
    return list(world.scenes("dev", 4))


@pytest.fixture(scope="module")
def states(llava, dev):
    return states_of(llava, dev)


@pytest.fixture(scope="module")
def bank(llava):
    texts = [f"{q.text} {q.answer}" for s in world.scenes("train", 20) for q in s.questions(
        ("colour", "category")
    )]  # fmt: skip
    heard = set(" ".join(texts).split())
    words = [w for kind in ("category", "attribute") for w in world.words_of(kind) if w in heard]
    return lens.bank(llava, texts, words=words)


def unit(vectors):
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp(min=1e-6)


def nearest(states, bank, labels):
    return [labels[i] for i in (unit(states) @ unit(bank).T).argmax(dim=1)]


def test_nearest_neighbours(bank, states, capsys):
    assert said(checks.nearest, nearest, bank, states, capsys=capsys)[0]
    for wrong, sentence in {
        lambda s, b, names: [names[i] for i in (s @ b.T).argmax(1)]: "of 3 labels are not those",
        lambda s, b, names: [names[i] for i in (unit(s) @ unit(b).T).argmax(0)]: "row of the bank",
        lambda s, b, names: [names[i] for i in torch.cdist(s, b).argmin(1)]: "are not those",
        lambda s, b, names: (unit(s) @ unit(b).T).argmax(1): "the list holds labels",
        lambda s, b, names: None: "is there a return",
    }.items():
        passed, line = said(checks.nearest, wrong, bank, states, capsys=capsys)
        assert not passed and sentence in line
        assert "unit(" not in line


def rate(read, scenes, states, layer):
    grid = read.vlm.patch_grid(scenes[0].image)
    words = read.read(states[layer], layer, top_k=1).words[..., 0]
    own = []
    for scene, told in zip(scenes, words):
        owner = stages.owners(scene, grid).ravel()
        own += [w in scene.things[i].words for w, i in zip(told, owner) if i >= 0]
    return float(np.mean(own))


def test_all_layers_at_once(llava, bank, dev, states, capsys):
    whole = lens.ContextualLens(llava, bank, against=bank.layers)
    right = rate(whole, dev, states, checks.LAYER)
    rest = llava, bank, dev, states
    assert said(checks.merged, lambda name: right, *rest, capsys=capsys)[0]
    alone = rate(lens.ContextualLens(llava, bank), dev, states, checks.LAYER)
    assert alone != right, "the two lenses differ on these scenes"
    for wrong, sentence in {
        alone: "with itself alone",
        rate(whole, dev, states, 3): "which layer, which scenes and which bank",
        100 * right: "between 0 and 1",
    }.items():
        passed, line = said(checks.merged, lambda name, w=wrong: w, *rest, capsys=capsys)
        assert not passed and sentence in line
        assert f"{right:.1%}" not in line


def test_words_that_no_patch_shows(llava, dev, states, capsys):
    qwen = ww.load("toy-qwen2vl")
    models = {"toy-llava": llava, "toy-qwen2vl": qwen}
    both = {"toy-llava": states, "toy-qwen2vl": states_of(qwen, dev)}
    content = [w for kind in ("category", "attribute", "background") for w in world.words_of(kind)]

    def idle(name, layer, right=lambda word: word not in content, patches=slice(None)):
        words = lens.LogitLens(models[name]).read(both[name][layer], layer, top_k=1).words
        return np.mean([right(word) for word in words.ravel()[patches]])

    rest = models, both, content
    assert said(checks.idle, idle, *rest, capsys=capsys)[0]
    share = idle("toy-llava", 4)
    for wrong, sentence in {
        lambda *of: idle(*of, lambda word: word in content): "whose word *is* one",
        lambda *of: idle(*of, patches=slice(0, 200)): "is another share than",
        lambda name, layer: idle(name, 0): "is another share than",
        lambda *of: None: "is there a return",
    }.items():
        passed, line = said(checks.idle, wrong, *rest, capsys=capsys)
        assert not passed and sentence in line
        assert f"{share:.1%}" not in line
