"""The package on a GPU, by its stand-in: what leaves a model is numbers that numpy takes, and the
same as on the CPU."""

from functools import cache

import numpy as np
import pytest
import torch

import whatwhere as ww
from closeness import SAME, apart
from tools.trials import gpu_trial, standin
from whatwhere import answers, compress, geometry, lens, rope, stages
from whatwhere.__main__ import main
from whatwhere.book import rehearsal
from whatwhere.book.rehearsal import tour

pytestmark = pytest.mark.usefixtures("one_thread")
QUESTIONS = ["is there a cup ?", "what colour is the bear on the left ?"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("rehearsal")
    return {family: rehearsal.tiny_random(root / family, family) for family in rehearsal.FAMILIES}


@pytest.fixture(scope="module")
def scenes():
    return list(ww.world.scenes("test", 2))


def readings(vlm, scenes):
    """Everything that is handed out to be read, by name."""
    images = [scene.image for scene in scenes]
    yield "logits", vlm.logits(images[0], QUESTIONS[0])
    yield "logits of a batch", vlm.logits(images, QUESTIONS)
    yield "visual tokens", vlm.visual_tokens(images[0])
    yield "visual tokens by depth", vlm.visual_tokens_by_depth(images)[1]
    yield "vit states", vlm.vit_states(images)[0]
    yield from (
        (f"positions, {name}", each)
        for name, each in vlm.positions(images[0], QUESTIONS[0])._asdict().items()
    )
    yield "chances", answers.chances(vlm, vlm.prepare(images, QUESTIONS), ["yes", "no"])
    spoken = rope.language_heads(vlm, images[0], QUESTIONS[0])
    yield from ((f"heads of the LM, {name}", each) for name, each in spoken._asdict().items())
    if vlm.adapter.rotary is not None:
        yield from (
            (f"heads of the ViT, {name}", each)
            for name, each in rope.heads(vlm, images[0])._asdict().items()
        )
        yield "theta", rope.vision(vlm).theta


@pytest.mark.parametrize("family", rehearsal.FAMILIES)
def test_what_is_read_is_the_same_numbers_as_on_the_cpu(folders, scenes, family):
    expected = dict(readings(ww.load(folders[family], device="cpu"), scenes))
    with standin.cuda():
        for name, each in readings(ww.load(folders[family], dtype="float32"), scenes):
            assert each.is_cpu and np.array_equal(each.numpy(), expected[name].numpy()), name


@pytest.mark.parametrize("family", rehearsal.FAMILIES)
def test_half_precision_is_read_in_single(folders, scenes, family):
    with standin.cuda():
        vlm = ww.load(folders[family], dtype="bfloat16")
        for name, each in readings(vlm, scenes):
            assert (
                each.is_cpu and each.dtype != torch.bfloat16 and np.isfinite(each.numpy()).all()
            ), name
        tokens = vlm.visual_tokens(scenes[0].image)
        whole = not vlm.adapter.leading and not vlm.adapter.extra_depths
        given = vlm.embed(vlm.prepare(scenes[0].image, QUESTIONS[0]), [tokens]) if whole else None
        assert given is None or given.is_cuda and given.dtype == vlm.dtype, "and goes back in"
        assert lens.logit_lens(vlm, tokens).ids.shape == (len(tokens), 5), "wherever states lie"
        ((tokens, states),) = compress.lessons(vlm, [scenes[0].image], progress=False)
        assert tokens.is_cpu and states.is_cpu and states.dtype == torch.bfloat16, (
            "lessons, which are many, as they are"
        )


@pytest.fixture(scope="module")
def on_the_cpu(folders, scenes):
    return cache(lambda family: tour(ww.load(folders[family], device="cpu"), scenes[0].image))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", rehearsal.FAMILIES)
def test_every_chapter_s_calls_run_there(folders, scenes, on_the_cpu, family, dtype):
    expected = on_the_cpu(family)
    with standin.cuda():
        vlm = ww.load(folders[family], dtype=dtype)
        assert vlm.device.type == "cuda" and str(vlm.dtype) == f"torch.{dtype}"
        found = tour(vlm, scenes[0].image)
    assert found.equals(expected), found.to_string()


@pytest.mark.parametrize("name", ["toy-llava", "toy-qwen2vl"])
def test_an_organism_takes_the_gpu_in_the_precision_of_its_checkpoint(name, scenes):
    with standin.cuda():
        vlm = ww.load(name)
        assert vlm.device.type == "cuda" and vlm.dtype == torch.float32
        here = ww.load(name, device="cpu")
        exam, same = (
            answers.Exam.on(each, scenes, {"existence": ["existence"]}, shared=True)
            for each in (vlm, here)
        )
        assert (exam.right() == same.right()).all()
        read, expected = (stages.read(each, scenes, asked=["mug"]) for each in (vlm, here))
        assert (read.ids == expected.ids).all() and apart(read.scores, expected.scores) < SAME
        assert apart(stages.labelled(vlm, scenes)[0], stages.labelled(here, scenes)[0]) < SAME
        ours = [one.scenes["left"] for one in geometry.pairs(vlm, ww.world.controlled("B", 20), 2)]
        found, usual = (geometry.thing_vectors(each, ours) for each in (vlm, here))
        assert all(apart(found[place], usual[place]) < SAME for place in usual)


def test_a_derivative_by_places_comes_back(scenes):
    with standin.cuda():
        vlm = ww.load("toy-qwen2vl")
        scene = geometry.pairs(vlm, ww.world.controlled("B", 10), 1)[0].scenes["left"]
        own, question = (
            geometry.patches(vlm, [scene], 0, "ViT 0"),
            [ww.world.relation_question(scene, 0, 1).text],
        )
        slope = geometry.axis_sensitivity(vlm, [scene.image], question, ["left"], ["right"], own)
        assert slope.shape == (1, 2) and np.isfinite(slope).all() and slope.any()


def test_a_decoder_is_taught_there_and_goes_on(folders, scenes, tmp_path, monkeypatch):
    from whatwhere.compress import decoder as module

    images = [scene.image for scene in scenes]
    with standin.cuda():
        vlm = ww.load(folders["qwen2_vl"], dtype="bfloat16")
        how = {"epochs": 3, "batch": 1, "start": "random", "save_every": 0}
        whole = compress.distil(vlm, images, **how, folder=tmp_path / "whole")

        kept, keep = [], module._keep

        def interrupted(*given):
            kept.append(keep(*given))
            if len(kept) == 4:
                raise KeyboardInterrupt

        monkeypatch.setattr(module, "_keep", interrupted)
        with pytest.raises(KeyboardInterrupt):
            compress.distil(vlm, images, **how, folder=tmp_path / "part")
        monkeypatch.setattr(module, "_keep", keep)
        again = compress.distil(vlm, images, **how, folder=tmp_path / "part")
        assert torch.equal(again.weight, whole.weight) and whole.weight.is_cuda
        assert torch.equal(compress.load_decoder(tmp_path / "part", vlm).weight, whole.weight)


def test_the_commands_run_there(folders, scenes, tmp_path, monkeypatch, capsys):
    """Some of them, and on one family: `make gpu` runs them all."""
    commands = list(gpu_trial.asked("qwen2_vl", folders["qwen2_vl"]))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    for n, scene in enumerate(scenes):
        scene.image.save(f"pictures/{n}.png")
    gpu_trial.said(gpu_trial.Path(folders["qwen2_vl"]) / "config.json", "bfloat16")
    with standin.cuda():
        for arguments in (*commands[:3], commands[4], commands[-2], commands[-1]):
            assert main(arguments) == 0, (arguments, capsys.readouterr().err)
        assert "bfloat16 on stand-in" in capsys.readouterr().out
