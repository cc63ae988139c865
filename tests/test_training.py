"""Training: a killed run loses nothing, a stage trains its part, and what comes out is a standard
checkpoint."""

import dataclasses
import functools
import json
import re

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import whatwhere as ww
from whatwhere import world
from whatwhere.book import training
from whatwhere.book.training import ORGANISMS, Stage, build, card, checkpoints, evaluate, stages
from whatwhere.book.training.muon import Muon, orthogonal
from whatwhere.book.training.towers import Tower


def fresh(name):
    model = build.model(name, layers=1, blocks=1)
    return Tower(model, name), stages.Reader(build.VISION_WIDTH)


def learn(name, stage, folder):
    """(weights, log without the clock) after a stage of a fresh organism, or what is left of the
    stage."""
    tower, reader = fresh(name)
    state = stages.run(tower, reader, stage, folder, workers=0, every=2)
    weights = {
        **tower.model.state_dict(),
        **{f"reader.{k}": v for k, v in reader.state_dict().items()},
    }
    return weights, [{k: v for k, v in entry.items() if k != "seconds"} for entry in state["log"]]


def fail_at(monkeypatch, module, function, call, part=None):
    """The `call`-th call of a function of `module` fails, as if the machine had gone."""
    whole, calls = getattr(module, function), []

    def failing(*args, **kwargs):
        calls.append(1)
        if len(calls) == call:
            if part:
                part(*args)
            raise KeyboardInterrupt
        return whole(*args, **kwargs)

    monkeypatch.setattr(module, function, failing)


@pytest.mark.parametrize(
    "name, kind",
    [
        ("toy-llava", "text"),
        ("toy-llava", "tune"),
        ("toy-qwen2vl", "close-ups"),
        ("toy-qwen2vl", "tune"),
    ],
)
def test_a_killed_run_ends_with_the_same_weights(name, kind, tmp_path, monkeypatch):
    stage = Stage(kind, 5, 2, warm=2)
    unbroken, log = learn(name, stage, tmp_path / "whole")
    start = fresh(name)[0].model.state_dict()
    assert any(not torch.equal(start[k], unbroken[k]) for k in start) and [
        e["step"] for e in log
    ] == [2, 4, 5]
    with monkeypatch.context() as patch:
        fail_at(patch, stages, "losses", 4)
        with pytest.raises(KeyboardInterrupt):
            learn(name, stage, tmp_path / "broken")
    for _ in range(2):  # go on; then once more, when nothing is left to do
        found, its_log = learn(name, stage, tmp_path / "broken")
        assert its_log == log and all(torch.equal(found[k], unbroken[k]) for k in unbroken)


def test_a_half_written_checkpoint_never_replaces_a_good_one(tmp_path, monkeypatch):
    stage = Stage("align", 5, 2, warm=2)
    unbroken, _ = learn("toy-llava", stage, tmp_path / "whole")
    with monkeypatch.context() as patch:
        fail_at(
            patch,
            checkpoints,
            "save_file",
            2,
            part=lambda tensors, path: open(path, "wb").write(b"half"),
        )
        with pytest.raises(KeyboardInterrupt):
            learn("toy-llava", stage, tmp_path)
    with safe_open(tmp_path / "align.safetensors", "pt") as file:
        assert json.loads(file.metadata()["state"])["step"] == 2
    assert (tmp_path / "align.safetensors.part").read_bytes() == b"half"
    found, _ = learn("toy-llava", stage, tmp_path)
    assert all(torch.equal(found[k], unbroken[k]) for k in unbroken)
    for other in (dataclasses.replace(stage, rate=1e-4), dataclasses.replace(stage, steps=6)):
        with pytest.raises(
            ValueError,
            match="made by other settings of stage 'align'; delete it, or train in another folder",
        ):
            learn("toy-llava", other, tmp_path)


@pytest.mark.parametrize(
    "kind, change, sentence",
    [
        # which torch would stretch
        ("w.", lambda tensor: tensor.flatten()[:1].clone(), "has the shape (1,) in place of"),
        ("o.", lambda tensor: tensor.flatten()[:1].clone(), "has the shape (1,) in place of"),
        ("w.", lambda tensor: tensor * float("nan"), "it holds what is no number"),
        ("w.", None, "'w."),  # one is missing
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(kind, change, sentence, tmp_path):
    stage = Stage("align", 2, 2, warm=2)
    learn("toy-llava", stage, tmp_path)
    path = tmp_path / "align.safetensors"
    with safe_open(path, "pt") as file:
        header, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}
    name = next(
        name for name, tensor in tensors.items() if name.startswith(kind) and tensor.ndim == 2
    )
    changed = {} if change is None else {name: change(tensors[name])}
    save_file(
        {key: value for key, value in tensors.items() if key != name} | changed,
        path,
        metadata=header,
    )
    with pytest.raises(
        ValueError,
        match=f"'{path}' is damaged .*{re.escape(sentence)}.*; delete it, and the stage starts "
        "anew",
    ):
        learn("toy-llava", stage, tmp_path)
    save_file(tensors, path)
    with pytest.raises(ValueError, match="is damaged .*; delete it"):
        learn("toy-llava", stage, tmp_path)


def test_a_stage_trains_its_own_part_and_nothing_else():
    for name in ORGANISMS:
        tower, reader = fresh(name)
        for stage, parts in {
            "text": {"language_model", "lm_head"}, "close-ups": {"vision"}, "vision": {"vision"},
            "align": {"connector"},
        }.items():  # fmt: skip
            modules = {
                "language_model": tower.lm,
                "lm_head": tower.head,
                "vision": tower.vision,
                "connector": tower.connector,
            }
            allowed = {id(p) for part in parts for p in modules[part].parameters()} | {
                id(p) for p in reader.parameters()
            }
            chosen = [p for group in stages.trainable(tower, reader, stage) for p in group]
            assert {id(p) for p in chosen} <= allowed and len({id(p) for p in chosen}) == len(
                chosen
            ) > 0
        everything = [p for group in stages.trainable(tower, reader, "tune") for p in group]
        assert {id(p) for p in everything} == {id(p) for p in tower.model.parameters()}


def test_the_rate_warms_holds_and_cools():
    stage = Stage("tune", 100, 1, cool=0.4, warm=10)
    rates = [stages.rate_at(stage, step) for step in range(100)]
    assert (
        rates[0] == 0.1
        and set(rates[9:60]) == {1.0}
        and rates[80] == 0.5
        and rates[-1] == pytest.approx(1 / 40)
    )


def test_muon_steps_are_nearly_orthogonal():
    for shape in ((3, 20, 50), (2, 50, 20), (1, 30, 30)):
        values = torch.linalg.svdvals(
            orthogonal(torch.randn(shape, generator=torch.Generator().manual_seed(0)), steps=8)
        )
        assert 0.5 < values.min() and values.max() < 1.3
    weights = [torch.nn.Parameter(torch.zeros(96, 288)), torch.nn.Parameter(torch.zeros(96, 96))]
    for w in weights:
        w.grad = torch.randn(w.shape, generator=torch.Generator().manual_seed(1))
    Muon(weights, lr=0.01).step()
    for w in weights:  # entries of 0.2 times the rate, whatever the shape and the gradient's size
        assert (
            w.detach().square().mean().sqrt() == pytest.approx(0.002, rel=0.2)
            and (w * w.grad).sum() < 0
        )


# -- the whole of it
# ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ORGANISMS)
def test_from_scratch_to_a_folder(name, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "model", functools.partial(build.model, layers=1, blocks=1))
    for slow in ("told", "labelling", "lens_layer"):
        monkeypatch.setattr(evaluate, slow, functools.partial(getattr(evaluate, slow), n=8))
    all_of_it = evaluate.families
    monkeypatch.setattr(
        evaluate,
        "families",
        lambda tower, split, n, device: all_of_it(tower, split, min(n, 10), device),
    )
    recipe = [Stage(s, 2, 2) for s in ("text", "close-ups", "vision", "align", "tune")]
    folder = training.train(name, tmp_path / name, tmp_path / "work", recipe, workers=0, scenes=10)
    numbers = json.loads((folder / "training.json").read_text())
    text = (folder / "README.md").read_text()
    assert text == card.render(numbers) and all(f"**{s.name}**" in text for s in recipe)
    assert all(f"| {family} |" in text for family in numbers["test"]) and "| B narrow |" in text
    assert set(numbers["test"]) == {
        f"existence ({k})" for k in ("random", "popular", "adversarial")
    } | set(world.QUESTION_FAMILIES[1:])
    assert not [
        f.name for f in folder.iterdir() if f.suffix in (".bin", ".pt", ".pth", ".pkl", ".py")
    ]
    vlm = ww.load(folder)
    assert vlm.n_layers == vlm.last_depth == 1 and vlm.about["organism"]
    assert isinstance(vlm.answer(world.scene(7).image, "how many objects are there ?"), str)
    # all stages are done: asked again, they only load what they kept, and that is what was saved
    tower, _, report = training.prepare(name, tmp_path / "work", recipe, workers=0)
    assert [s["log"] for s in report] == [s["log"] for s in numbers["stages"]]
    assert all(
        torch.equal(p, vlm.model.state_dict()[k]) for k, p in tower.model.state_dict().items()
    )


def test_unknown_organisms_are_refused(tmp_path):
    for call in (lambda: build.model("toy"), lambda: training.train("toy", tmp_path, tmp_path)):
        with pytest.raises(ValueError, match="No organism 'toy'; there are toy-llava, toy-qwen2vl"):
            call()
