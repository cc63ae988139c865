"""The visual decoder: what it learns, what it remembers, and whom it serves."""

import json
import string

import numpy as np
import pytest
import torch
from PIL import Image

import whatwhere as ww
from closeness import OTHER, SAME, apart
from whatwhere import compress
from whatwhere.book.rehearsal.checkpoints import llava, qwen2vl
from whatwhere.compress import decoder as module
from whatwhere.compress import speed


def pictures(n, size=(24, 24)):
    rng = np.random.default_rng(n)
    return [Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for _ in range(n)]


@pytest.fixture(scope="module", params=["llava", "qwen2vl"])
def vlm(request, folders):
    return ww.load(folders / request.param, device="cpu", dtype="float32")


def test_lessons_are_the_first_and_the_last_of_the_lm(vlm):
    images = pictures(3)
    for image, (tokens, states) in zip(images, compress.lessons(vlm, images, batch_size=2)):
        assert apart(tokens, vlm.visual_tokens(image)) < SAME
        logits = vlm.logits(image, "what is there ?")[vlm.positions(image, "what is there ?").index]
        assert apart(vlm.unembedding(vlm.final_norm(states)), logits) < SAME


def test_lessons_of_different_grids(tmp_path):
    qwen2vl(tmp_path)
    vlm = ww.load(tmp_path, device="cpu", dtype="float32")
    images = [*pictures(2), *pictures(1, (16, 32)), *pictures(2)]
    taught = compress.lessons(vlm, images)
    assert [len(tokens) for tokens, _ in taught] == [9, 9, 8, 9, 9]
    assert len(compress.distil(vlm, taught, epochs=1, batch=2).history) == 3


def test_the_loss_is_the_papers():
    """α τ² KL(teacher ‖ decoder) + (1 − α) CE, by hand for two tokens and three words."""

    class Toy:
        unembedding = torch.nn.Identity()
        final_norm = torch.nn.Identity()

    tokens, teacher = torch.eye(2), torch.tensor([[2.0, 0, -1], [0.5, 1, 0]])
    weight = torch.tensor([[0.1, 0.3], [0.2, -0.4], [1.0, 0.0]], requires_grad=True)
    soft, hard = module._learn(Toy, weight, tokens, teacher, 0.7, 2.5)
    p, q = (torch.softmax(logits / 2.5, -1) for logits in (teacher, weight.T))
    kl = 2.5**2 * (p * (p / q).log()).sum(-1).mean()
    ce = -torch.log_softmax(weight.T, -1)[[0, 1], [0, 1]].mean()
    assert (soft, hard) == (pytest.approx(kl.item(), rel=SAME), pytest.approx(ce.item(), rel=SAME))
    (expected,) = torch.autograd.grad(0.7 * kl + 0.3 * ce, weight)
    assert apart(weight.grad, expected) < SAME


def test_pieces_add_up(vlm, monkeypatch):
    taught = compress.lessons(vlm, pictures(2))
    whole = compress.distil(vlm, taught, epochs=2, lr=0.01)
    monkeypatch.setattr(ww.compress.decoder, "LARGEST", 5 * len(vlm.words))
    pieces = compress.distil(vlm, taught, epochs=2, lr=0.01)
    assert apart(whole.weight, pieces.weight) < SAME and len(whole.history) == 2


def test_a_linear_teacher_is_learnt(vlm):
    rng = torch.Generator().manual_seed(0)
    taught = []
    # states that are the tokens turned: the teacher is a norm away from linear
    for _ in range(180):
        tokens = torch.randn(16, 32, generator=rng)
        taught.append((tokens, tokens.flip(-1)))
    decoder = compress.distil(vlm, taught[:160], lr=0.05, epochs=12)
    assert decoder.history["soft"].iloc[-1] < decoder.history["soft"].iloc[0] / 4
    right = [
        (decoder(t).argmax(-1) == vlm.unembedding(vlm.final_norm(s)).argmax(-1)).float().mean()
        for t, s in taught[160:]
    ]
    before = [
        (vlm.unembedding(t).argmax(-1) == vlm.unembedding(vlm.final_norm(s)).argmax(-1))
        .float()
        .mean()
        for t, s in taught
    ]
    assert np.mean(right) > 0.7 > 0.3 > np.mean(before)
    assert decoder.weight.dtype == vlm.dtype and not decoder.weight.requires_grad


def test_distilling_leaves_the_model_alone_and_repeats_itself(vlm):
    taught, before = compress.lessons(vlm, pictures(4)), vlm.unembedding.weight.clone()
    one, two = (compress.distil(vlm, taught, lr=0.01, batch=2) for _ in range(2))
    assert torch.equal(one.weight, two.weight) and torch.equal(vlm.unembedding.weight, before)
    assert not torch.equal(one.weight, before) and vlm.unembedding.weight.grad is None
    again = compress.distil(vlm, pictures(4), lr=0.01, batch=2)  # lessons taken anew
    assert apart(one.weight, again.weight) < SAME
    for start in ("zeros", "random"):
        other = compress.distil(vlm, taught, lr=0.01, batch=2, start=start)
        assert apart(one.weight, other.weight) > OTHER


def test_what_is_interrupted_goes_on_as_if_it_had_not_been(vlm, tmp_path, monkeypatch):
    taught = compress.lessons(vlm, pictures(6))
    whole = compress.distil(vlm, taught, lr=0.01, batch=2, epochs=4)
    monkeypatch.setattr(module, "SAVED", 5)
    learn, steps = module._learn, []

    def stopped(*args):
        steps.append(1)
        if len(steps) == 8:
            raise KeyboardInterrupt
        return learn(*args)

    monkeypatch.setattr(module, "_learn", stopped)
    with pytest.raises(KeyboardInterrupt):
        compress.distil(vlm, taught, lr=0.01, batch=2, epochs=4, folder=tmp_path)
    assert [f.name for f in tmp_path.iterdir()] == [module.UNFINISHED]
    with pytest.raises(ValueError, match="was begun otherwise .lr differ"):
        compress.distil(vlm, taught, lr=0.02, batch=2, epochs=4, folder=tmp_path)
    resumed = compress.distil(vlm, taught, lr=0.01, batch=2, epochs=4, folder=tmp_path)
    assert len(steps) == 8 + 12 - 5, "it goes on after the fifth step, the last that was kept"
    assert torch.equal(resumed.weight, whole.weight) and resumed.history.equals(whole.history)
    assert {f.name for f in tmp_path.iterdir()} == {module.WEIGHTS, module.CARD}
    assert torch.equal(compress.load_decoder(tmp_path, vlm).weight, whole.weight)


def test_saved_and_loaded_it_is_one_more_lens(vlm, tmp_path):
    image = pictures(1)[0]
    decoder = compress.distil(vlm, compress.lessons(vlm, [image]), lr=0.01)
    decoder.save(tmp_path)
    loaded = compress.load_decoder(tmp_path, vlm)
    assert json.loads((tmp_path / module.CARD).read_text()) == decoder.about == loaded.about
    maps = ww.lens.token_maps(vlm, image, decoder=loaded)
    assert maps.layer == 0 and maps.ids.shape == (vlm.last_depth + 1, *vlm.patch_grid(image))
    assert (maps.ids[-1].ravel() == decoder.top(vlm.visual_tokens(image))[:, 0]).all()
    read = ww.stages.read(vlm, [image], decoder=loaded)
    assert (read.ids[0] == maps.ids).all() and read.layer == 0
    with pytest.raises(ValueError, match="at layer 0; it cannot read layer 2"):
        ww.lens.token_maps(vlm, image, decoder=loaded, layer=2)


def test_a_narrowed_decoder_reads_as_the_whole_one_would_among_its_words(vlm, tmp_path):
    images = pictures(3)
    tokens = torch.cat([vlm.visual_tokens(each) for each in images])
    whole = compress.distil(vlm, compress.lessons(vlm, images), lr=0.01)
    said = np.unique(whole.top(tokens, 2))[::-1]  # in any order
    assert 2 < len(said) < len(vlm.words)
    narrow = whole.narrowed(said)
    assert (narrow.words[narrow.top(tokens, 2)] == whole.words[whole.top(tokens, 2)]).all()
    assert (narrow.punctuation == whole.punctuation[said]).all() and apart(
        narrow(tokens), whole(tokens)[:, said.copy()]
    ) < SAME
    for number in (1, 2, 3):  # what is removed depends on two words at most, and these are the same
        with compress.compressed(vlm, number, whole) as log:
            expected = vlm.logits(images, "x")
        with compress.compressed(vlm, number, narrow) as own:
            assert torch.equal(vlm.logits(images, "x"), expected) and own.kept == log.kept
    again = whole.narrowed(said[:6]).narrowed([4, 1])
    assert (
        again.ids.tolist() == [said[4], said[1]]
        and again.words.tolist() == whole.words[again.ids].tolist()
    )
    # it is a lens for its own words
    few = whole.narrowed(said[:5])
    maps = ww.lens.token_maps(vlm, images[0], decoder=few, top_k=5)
    assert apart(maps.probabilities.sum(-1), 1) < SAME and set(maps.words.ravel()) <= set(few.words)
    assert (maps.words[-1].ravel() == few.words[few.top(vlm.visual_tokens(images[0]))[:, 0]]).all()
    read = ww.stages.read(vlm, images[:1], asked=[few.words[3]], decoder=few)
    assert (read.vocabulary[read.ids[0]] == maps.words).all() and read.scores.max() <= 0
    left_out = next(
        word
        for word in vlm.words
        if word.isalpha() and word.lower() not in [each.lower() for each in few.words]
    )
    with pytest.raises(ValueError, match=left_out):
        ww.stages.read(vlm, images[:1], asked=[left_out], decoder=few)
    with pytest.raises(ValueError, match="from 1 to 5"):
        ww.lens.token_maps(vlm, images[0], decoder=few, top_k=6)
    # and is kept
    again.save(tmp_path)
    loaded = compress.load_decoder(tmp_path, vlm)
    assert (
        torch.equal(loaded.weight, again.weight)
        and (loaded.words == again.words).all()
        and (loaded.ids == again.ids).all()
    )


@pytest.mark.parametrize(
    "ids",
    [[], [3], [3, 3], [-1, 2], [0, 10**6], [0.0, 1.0], [True, False], [[1, 2], [3, 4]], "ab", None],
)
def test_words_that_are_none(vlm, ids):
    decoder = compress.Decoder(vlm.unembedding.weight.detach(), vlm.words)
    with pytest.raises(ValueError, match="two at least, each once, by ids from 0 to"):
        decoder.narrowed(ids)


def test_a_decoder_of_another_model_is_refused(tmp_path):
    for name, make, options in (
        ("own", llava, {}), ("twin", llava, {"seed": 1}), ("wide", llava, {"hidden": 64}),
        ("other", qwen2vl, {}),
    ):  # fmt: skip
        make(tmp_path / name, **options)
    own, twin, wide, other = (
        ww.load(tmp_path / n, device="cpu", dtype="float32")
        for n in ("own", "twin", "wide", "other")
    )
    decoder = compress.distil(own, compress.lessons(own, pictures(1)))
    decoder.save(tmp_path / "decoder")
    for vlm, said in (
        (twin, "taught by another checkpoint"),
        (wide, "reads tokens of width 32"),
        (other, "This decoder knows"),
    ):
        with pytest.raises(ValueError, match=said):
            compress.load_decoder(tmp_path / "decoder", vlm)
        with pytest.raises(ValueError, match=said), compress.compressed(vlm, 1, decoder):
            pass
        with pytest.raises(ValueError, match=said):
            ww.lens.token_maps(vlm, pictures(1)[0], decoder=decoder)
    half = ww.load(tmp_path / "own", device="cpu", dtype="bfloat16")
    assert compress.load_decoder(tmp_path / "decoder", half).weight.dtype == torch.bfloat16


def test_a_decoder_that_cannot_be_read(vlm, tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no decoder"):
        compress.load_decoder(tmp_path, vlm)
    (tmp_path / module.WEIGHTS).write_bytes(b"not safetensors")
    (tmp_path / module.CARD).write_text("{}")
    with pytest.raises(ValueError, match="could not be read"):
        compress.load_decoder(tmp_path, vlm)
    decoder = compress.Decoder(vlm.unembedding.weight.detach(), vlm.words).narrowed([4, 1, 3])
    decoder.ids = decoder.ids[:2]  # of three rows
    decoder.save(tmp_path)
    with pytest.raises(ValueError, match="could not be read; .* not those of a decoder"):
        compress.load_decoder(tmp_path, vlm)


@pytest.mark.parametrize(
    "options",
    [
        {"alpha": 1.5},
        {"alpha": -0.1},
        {"temperature": 0},
        {"epochs": 0},
        {"taught": []},
        {"start": "unembed"},
    ],
)
def test_bad_settings_are_refused(vlm, options):
    options = {"taught": compress.lessons(vlm, pictures(1))} | options
    with pytest.raises(ValueError, match="α is from 0 to 1|starts from 'unembedding'"):
        compress.distil(vlm, **options)
    with pytest.raises(ValueError, match="needs images to learn from"):
        compress.lessons(vlm, [])


TEXTS = [
    ".",
    "...",
    "?!",
    "a.",
    "",
    " ",
    "\n",
    " .",
    "-",
    "$",
    "+",
    "<",
    "=",
    ">",
    "^",
    "`",
    "|",
    "~",
    "—",
    "、",
    " «",
    "in",
    " in",
    "In",
    "‹3›",
    "</s>",
    "1",
    "\u3000",
]


BY_THE_PAPER = {".", "...", "?!", "", " ", "\n", " .", "-", *"$+<=>^`|~", "\u3000"}


@pytest.mark.parametrize("marks, due", [
    ("paper", BY_THE_PAPER), ("paper-in", BY_THE_PAPER | {"in", " in"}),
    ("unicode", {".", "...", "?!", " .", "-", "—", "、", " «"}),
])  # fmt: skip
def test_what_punctuation_is(marks, due):
    found = compress.punctuation(TEXTS, marks)
    assert {text for text, is_one in zip(TEXTS, found) if is_one} == due
    assert set(compress.MARKS) == {"paper", "paper-in", "unicode"}


def test_all_of_string_punctuation_is_the_papers_and_an_unknown_set_is_refused():
    assert compress.punctuation(list(string.punctuation + string.whitespace)).all()
    for unknown in ("papers", None, ["paper"]):
        with pytest.raises(
            ValueError,
            match="^No set of punctuation marks .*; there are 'paper', 'paper-in', 'unicode'[.]$",
        ):
            compress.punctuation(["."], unknown)


def test_a_decoder_knows_what_its_words_spell(vlm, tmp_path):
    """Made, kept, read and narrowed, its punctuation is by the model's own texts, not by how they
    are shown."""
    decoder = compress.distil(vlm, compress.lessons(vlm, pictures(2)), epochs=1)
    decoder.save(tmp_path)
    for made in (decoder, compress.load_decoder(tmp_path, vlm)):
        assert list(made.texts) == list(vlm.texts) and list(made.narrowed([4, 1, 3]).texts) == list(
            vlm.texts[[4, 1, 3]]
        )
    made.narrowed([4, 1, 3]).save(tmp_path / "narrow")
    assert list(compress.load_decoder(tmp_path / "narrow", vlm).texts) == list(vlm.texts[[4, 1, 3]])


def test_speed_is_measured_for_the_way_and_its_ideal(vlm):
    images = pictures(2)
    ways = {
        "half": {"which": "random", "keep": 0.5},
        "lengths": {"which": "grid", "keep": 3, "lengths": "kept"},
    }
    table = speed.measure(vlm, images, ["is there a red cup ?", "what"], ways, words=2, repeats=2)
    n = vlm.visual_tokens(images[0]).shape[0]
    assert list(table.index) == ["all tokens", "half", "half, ideal", "lengths", "lengths, ideal"]
    assert table["visual tokens"].tolist() == [n, round(n / 2), round(n / 2), 3, 3]
    assert (table[["prefill", "word"]] > 0).all(None) and table.loc[
        "all tokens", "prefill, times"
    ] == 1
    assert table["cache"].tolist() == sorted(table["cache"], reverse=True)
    assert (
        table.loc["half", "cache"]
        == table.loc["half, ideal", "cache"]
        < table.loc["all tokens", "cache"]
    )
    assert (table["least"] <= table["prefill, times"]).all() and (
        table["prefill, times"] <= table["most"]
    ).all()
    assert not vlm.lm._forward_pre_hooks
