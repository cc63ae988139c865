"""The visual decoder: what it learns, what it remembers, and whom it serves."""

import json
import os
import socket
import string
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import whatwhere as ww
from closeness import OTHER, SAME, apart
from whatwhere import compress
from whatwhere.__main__ import main
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


def stopped_at(monkeypatch, number):
    """`distil` is interrupted in its n-th step; returns the list of steps that were begun."""
    learn, steps = module._learn, []

    def stopped(*args):
        steps.append(1)
        if len(steps) == number:
            raise KeyboardInterrupt
        return learn(*args)

    monkeypatch.setattr(module, "_learn", stopped)
    return steps


# seconds between two states, by a clock that goes on by one for each step: after which of seven
# steps is the last one kept?
@pytest.mark.parametrize("save_every, kept", [(0, 7), (3, 6), (5, 5)])
def test_what_is_interrupted_goes_on_as_if_it_had_not_been(
    vlm, tmp_path, monkeypatch, save_every, kept
):
    taught = compress.lessons(vlm, pictures(6))
    how = {"lr": 0.01, "batch": 2, "epochs": 4, "save_every": save_every}
    whole = compress.distil(vlm, taught, **how)
    steps = stopped_at(monkeypatch, 8)
    monkeypatch.setattr(module, "monotonic", lambda: len(steps))
    with pytest.raises(KeyboardInterrupt):
        compress.distil(vlm, taught, **how, folder=tmp_path)
    assert [f.name for f in tmp_path.iterdir()] == [module.UNFINISHED]
    for other in ({"lr": 0.02}, {"warmup": 2}, {"held_out": taught}):
        with pytest.raises(ValueError, match=f"was begun otherwise .{next(iter(other))}.* differ"):
            compress.distil(vlm, taught, **how | other, folder=tmp_path)
    resumed = compress.distil(vlm, taught, **how, folder=tmp_path)
    assert len(steps) == 8 + 12 - kept
    assert torch.equal(resumed.weight, whole.weight) and resumed.history.equals(whole.history)
    assert {f.name for f in tmp_path.iterdir()} == {module.WEIGHTS, module.CARD}
    assert torch.equal(compress.load_decoder(tmp_path, vlm).weight, whole.weight)


def test_agreement_is_measured_on_what_is_held_out(vlm):
    """At the steps asked for and the last; it is the share of tokens with the LM's first word."""
    taught = compress.lessons(vlm, pictures(7))
    learnt, held_out = taught[:4], taught[4:]
    how = {"lr": 0.05, "batch": 1, "epochs": 2}
    decoder = compress.distil(vlm, learnt, **how, held_out=held_out, measure_every=3)
    measured = decoder.history["agreement"].dropna()
    assert measured.index.tolist() == [2, 5, 7] and len(decoder.history) == 8
    alike = [
        decoder(tokens).argmax(-1) == vlm.unembedding(vlm.final_norm(states)).argmax(-1)
        for tokens, states in held_out
    ]
    assert measured.iloc[-1] == pytest.approx(torch.cat(alike).float().mean().item())
    plain = compress.distil(vlm, learnt, **how)
    assert torch.equal(plain.weight, decoder.weight), "looking changes nothing"
    assert list(plain.history) == ["soft", "hard"]
    pixels = compress.distil(vlm, learnt, **how, held_out=pictures(7)[4:], measure_every=3)
    assert pixels.history["agreement"].dropna().tolist() == pytest.approx(
        measured.tolist(), abs=0.1
    )


def test_training_stops_when_the_agreement_has_been_no_better_for_so_long(
    vlm, tmp_path, monkeypatch
):
    taught, shares = compress.lessons(vlm, pictures(2)), [1, 4, 3, 6, 5, 6, 2, 9, 9, 9, 9, 9]
    how = {"lr": 0.01, "batch": 2, "epochs": 12, "held_out": taught, "measure_every": 1}
    how |= {"patience": 3, "save_every": 0}
    after = []  # the weights after each step

    def agreement(vlm, weight, *_):
        after.append(weight.detach().clone())
        return torch.tensor([shares[len(after) - 1], 10])

    monkeypatch.setattr(module, "_agreement", agreement)
    decoder = compress.distil(vlm, taught, **how)
    assert decoder.history["agreement"].tolist() == [0.1, 0.4, 0.3, 0.6, 0.5, 0.6, 0.2]
    assert torch.equal(decoder.weight, after[3]), "the decoder is that of the best measurement"
    weights = after.copy()
    after.clear()
    stopped_at(monkeypatch, 6)
    with pytest.raises(KeyboardInterrupt):
        compress.distil(vlm, taught, **how, folder=tmp_path)
    again = compress.distil(vlm, taught, **how, folder=tmp_path)
    assert torch.equal(again.weight, weights[3]) and again.history.equals(decoder.history)
    assert torch.equal(compress.load_decoder(tmp_path, vlm).weight, weights[3])


def test_the_rate_rises_and_then_falls_along_a_cosine():
    rates = [module._rate(step, 12, 4) for step in range(12)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1] and rates[4] == 1
    assert rates[8] == pytest.approx(0.5) and sorted(rates[4:], reverse=True) == rates[4:]
    assert module._rate(0, 12, 0) == 1


WORKER = """
import sys
import torch
import whatwhere as ww
from whatwhere import compress, processes
from test_decoder import AT_SCALE, pictures

torch.set_num_threads(1)
vlm = ww.load(sys.argv[1], device="cpu", dtype="float32")
images = [*pictures(2), *pictures(1, (16, 32)), *pictures(4)]
decoder = compress.distil(vlm, images, **AT_SCALE, held_out=pictures(3), folder=sys.argv[2])
assert processes.processes().count == 2
if processes.processes().rank == 1:
    decoder.save(sys.argv[2] + "-of-the-other")
"""
# batches of three, of pictures of two sizes, the last of one picture alone
AT_SCALE = {"lr": 0.01, "batch": 3, "epochs": 2, "warmup": 2, "measure_every": 2, "patience": 9}


def test_two_processes_come_to_what_one_comes_to(tmp_path):
    """By gloo, as torchrun and accelerate start them."""
    qwen2vl(tmp_path / "model")
    vlm = ww.load(tmp_path / "model", device="cpu", dtype="float32")
    (tmp_path / "worker.py").write_text(WORKER)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(ww.__file__).parents[1])])
    shared = {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "WORLD_SIZE": "2"}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    started = [
        subprocess.Popen(
            [sys.executable, "worker.py", "model", "two"],
            cwd=tmp_path,
            env=os.environ | shared | {"RANK": rank, "LOCAL_RANK": rank},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    images = [*pictures(2), *pictures(1, (16, 32)), *pictures(4)]
    one = compress.distil(vlm, images, **AT_SCALE, held_out=pictures(3), folder=tmp_path / "one")
    errors = [process.communicate(timeout=300)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], errors
    start = vlm.unembedding.weight
    for name in ("two", "two-of-the-other"):
        two = compress.load_decoder(tmp_path / name, vlm)
        assert apart(two.weight - start, one.weight - start) < 1e-3, "relative to what was learnt"
        assert {**two.about, "model": ""} == {**one.about, "model": ""}
    assert {path.name for path in (tmp_path / "two").iterdir()} == {module.WEIGHTS, module.CARD}


def test_several_processes_need_accelerate(vlm, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install accelerate"):
        compress.distil(vlm, compress.lessons(vlm, pictures(2)))


@pytest.fixture
def folder_of_pictures(tmp_path):
    (tmp_path / "pictures").mkdir()
    for n, picture in enumerate(pictures(20)):
        picture.save(tmp_path / f"pictures/{n:02}.png")
    return tmp_path / "pictures"


def test_the_command_takes_the_papers_settings_and_tells_the_agreement(
    folders, folder_of_pictures, tmp_path, monkeypatch, capsys
):
    made, distil = [], compress.distil

    def seen(*given, **named):
        made.append((given, named, distil(*given, **named)))
        return made[-1][-1]

    monkeypatch.setattr(compress, "distil", seen)
    command = ["distil", str(folders / "qwen2vl"), str(folder_of_pictures)]
    command += ["--out", str(tmp_path / "decoder")]
    assert main([*command, "--batch", "1"]) == 0
    (_, paths, *settings), named, decoder = made[0]
    assert settings == [0.7, 2.5, 1e-4, 2, 1] and (named["warmup"], named["patience"]) == (3, None)
    names = [path.name for path in (*paths, *named["held_out"])]
    assert len(named["held_out"]) == 2 and sorted(names) == [f"{n:02}.png" for n in range(20)]
    share = decoder.history["agreement"].iloc[-1]
    said = capsys.readouterr().out
    assert f"taught by 18 pictures: {tmp_path / 'decoder'}" in said
    assert said.endswith(f"agreement with the LM on 2 held-out pictures: {share:.3f}\n")
    more = "--held-out 5 --alpha 0.8 --temperature 4 --lr 2e-4 --epochs 1 --batch 4 --warmup 1"
    more += " --patience 9 --measure-every 2 --save-every 2 --seed 3"
    assert main([*command[:-1], str(tmp_path / "other"), *more.split()]) == 0
    (_, paths, *settings), named, decoder = made[1]
    assert settings == [0.8, 4, 2e-4, 1, 4] and len(paths) == 15 and named["save_every"] == 120
    about = {"warmup": 1, "held_out": 5, "measure_every": 2, "patience": 9, "seed": 3}
    assert {name: decoder.about[name] for name in about} == about


@pytest.mark.parametrize("more, words", [
    ("--held-out 20", "--held-out 20 leaves none of the 20 pictures"),
    ("--held-out -1", "--held-out is a whole number from 0 up"),
    ("--warmup 36 --batch 1", "A warm-up of 36 steps leaves nothing of a training of 36"),
    ("--patience 2 --held-out 0", "Patience is with the agreement on held-out pictures"),
    ("--batch 0", "--batch is a whole number from 1 up"),
    ("--alpha 2", "α is from 0 to 1"),
])  # fmt: skip
def test_the_command_refuses_in_a_sentence(
    folders, folder_of_pictures, tmp_path, capsys, more, words
):
    command = ["distil", str(folders / "qwen2vl"), str(folder_of_pictures), "--out"]
    assert main([*command, str(tmp_path / "decoder"), *more.split()]) == 1
    error = capsys.readouterr().err
    assert error.startswith("whatwhere: ") and words in error and error.count("\n") == 1
    assert not (tmp_path / "decoder").exists()


@pytest.mark.parametrize("options, words", [
    ({"warmup": 4}, "A warm-up of 4 steps leaves nothing of a training of 4"),
    ({"warmup": -1}, "warmup is a whole number from 0 up"),
    ({"measure_every": 0}, "measure_every is a whole number from 1 up"),
    ({"patience": 2}, "Patience is with the agreement on held-out pictures"),
    ({"patience": 0}, "patience is a whole number from 1 up"),
    ({"save_every": -1}, "save_every is a number of seconds from 0 up"),
    ({"save_every": float("nan")}, "save_every is a number of seconds from 0 up"),
])  # fmt: skip
def test_a_schedule_that_no_training_can_follow(vlm, tmp_path, options, words):
    with pytest.raises(ValueError, match=words):
        compress.distil(
            vlm, compress.lessons(vlm, pictures(4)), batch=2, folder=tmp_path / "d", **options
        )
    assert not (tmp_path / "d").exists()


def test_saved_and_loaded_it_is_one_more_lens(vlm, tmp_path):
    image = pictures(1)[0]
    decoder = compress.distil(vlm, compress.lessons(vlm, [image]), lr=0.01)
    decoder.save(tmp_path)
    loaded = compress.load_decoder(tmp_path, vlm)
    assert json.loads((tmp_path / module.CARD).read_text()) == decoder.about == loaded.about
    maps = ww.lens.token_maps(vlm, image, lens=ww.lens.DecoderLens(vlm, loaded))
    assert maps.layer == 0 and maps.ids.shape == (vlm.last_depth + 1, *vlm.patch_grid(image))
    assert (maps.ids[-1].ravel() == decoder.top(vlm.visual_tokens(image))[:, 0]).all()
    read = ww.stages.read(vlm, [image], lens=ww.lens.DecoderLens(vlm, loaded))
    assert (read.ids[0] == maps.ids).all() and read.layer == 0
    with pytest.raises(ValueError, match="cannot read LM layer 2; it can read 0"):
        ww.lens.token_maps(vlm, image, lens=ww.lens.DecoderLens(vlm, loaded), layer=2)


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
    maps = ww.lens.token_maps(vlm, images[0], lens=ww.lens.DecoderLens(vlm, few), top_k=5)
    assert apart(maps.probabilities.sum(-1), 1) < SAME and set(maps.words.ravel()) <= set(few.words)
    assert (maps.words[-1].ravel() == few.words[few.top(vlm.visual_tokens(images[0]))[:, 0]]).all()
    read = ww.stages.read(vlm, images[:1], asked=[few.words[3]], lens=ww.lens.DecoderLens(vlm, few))
    assert (read.vocabulary[read.ids[0]] == maps.words).all() and read.scores.max() <= 0
    left_out = next(
        word
        for word in vlm.words
        if word.isalpha() and word.lower() not in [each.lower() for each in few.words]
    )
    with pytest.raises(ValueError, match=left_out):
        ww.stages.read(vlm, images[:1], asked=[left_out], lens=ww.lens.DecoderLens(vlm, few))
    with pytest.raises(ValueError, match="from 1 to 5"):
        ww.lens.token_maps(vlm, images[0], lens=ww.lens.DecoderLens(vlm, few), top_k=6)
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
            ww.lens.token_maps(vlm, pictures(1)[0], lens=ww.lens.DecoderLens(vlm, decoder))
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
