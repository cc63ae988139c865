"""Fine-tuning on GQA's train questions: what is learnt from, what is trained, and what goes on."""

import json
import shutil
from collections import namedtuple

import numpy as np
import psutil
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file

import whatwhere as ww
from closeness import OTHER, SAME, apart
from whatwhere import rope, tuning
from whatwhere.__main__ import main
from whatwhere.benchmarks.item import Item
from whatwhere.book import published, rehearsal

FILE = "train_balanced_questions.json"
ASKED = (
    ("is the cup left of the bear ?", "yes"), ("is the cup behind the bear ?", "no"),
    ("what is under the book ?", "cup"), ("which cup is in front of the bear ?", "red"),
)  # fmt: skip
HOW = {"limit": 8, "batch": 4, "at_once": 2, "epochs": 2, "lr": 1e-2, "save_every": 1}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """GQA's layout: eight questions with a spatial word and four without."""
    folder = tmp_path_factory.mktemp("gqa")
    (folder / "images").mkdir()
    asked = [*ASKED, *ASKED, *[("what colour is the cup ?", "red")] * 4]
    rng, questions = np.random.default_rng(0), {}
    for n, (question, answer) in enumerate(asked):
        pixels = rng.integers(0, 256, (24, 24 if n % 2 else 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"images/n{n}.jpg")
        questions[f"0{n}"] = {"imageId": f"n{n}", "question": question, "answer": answer}
    (folder / FILE).write_text(json.dumps(questions))
    return folder


@pytest.fixture(scope="module")
def model(folders):
    """One whose weights are kept in float32, so that nothing is rounded at the end."""
    return folders / "qwen2vl"


def weights(folder):
    return {
        name: weight.double()
        for path in sorted(folder.glob("*.safetensors"))
        for name, weight in load_file(path).items()
    }


def largest(one, two):
    """The greatest distance between two checkpoints' tensors, relative to their size."""
    assert one.keys() == two.keys()
    return max(apart(one[name], two[name]) for name in one)


# -- what is learnt from
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("question, answer, due", [
    ("Is the cup to the left of the bear?", "yes", True), ("Where is the cup?", "right", True),
    ("What is on top of the book?", "cup", True), ("Is it in front of the bear?", "no", True),
    ("BEHIND what is it?", "cup", True), ("What colour is the cup?", "red", False),
    ("Is it bright or overcast?", "bright", False), ("What is in the front yard?", "cup", False),
])  # fmt: skip
def test_a_spatial_word_is_a_whole_word_of_question_or_answer(question, answer, due):
    assert tuning.is_spatial(question, answer) is due


def test_so_many_spatial_questions_are_drawn(data):
    all_ = tuning.questions(data, None)
    assert {(item.question, item.gold) for item in all_} == set(ASKED) and len(all_) == 8
    drawn = [[item.id for item in tuning.questions(data, 5, seed)] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2] and len(set(drawn[0])) == 5
    assert all(item.image.is_file() for item in all_)


@pytest.mark.parametrize("change, limit, error, words", [
    (shutil.rmtree, 1, FileNotFoundError, "There is no folder '.*' for fine-tuning on GQA"),
    (lambda d: (d / FILE).unlink(), 1, FileNotFoundError,
     f"holds no {FILE}, which fine-tuning on GQA needs; .* in its original layout[.]$"),
    (lambda d: (d / FILE).write_text((d / FILE).read_text()[:99]), 1, ValueError,
     f"{FILE}' is damaged or cut short"),
    (lambda d: (d / FILE).write_text("[]"), 1, ValueError, "holds a list where .* has a dict"),
    (lambda d: (d / FILE).write_text("{}"), 1, ValueError, "None of the train questions in"),
    (lambda d: (d / FILE).write_text('{"1": {"imageId": "n1", "question": "What is left?"}}'), 1,
     ValueError, f"question 1 of {FILE} has no 'answer'"),
    (lambda d: None, 9, ValueError, "holds 8 train questions with a spatial word, fewer than the 9"),
    (lambda d: None, 0, ValueError, "limit is a whole number from 1 up"),
    (lambda d: shutil.rmtree(d / "images"), 8, FileNotFoundError, "8 of the pictures of"),
])  # fmt: skip
def test_questions_that_cannot_be_had(data, tmp_path, change, limit, error, words):
    folder = shutil.copytree(data, tmp_path / "gqa")
    change(folder)
    with pytest.raises(error, match=words):
        tuning.questions(folder, limit)


@pytest.mark.parametrize("family", rehearsal.FAMILIES)
def test_the_loss_is_that_of_the_answer_and_its_end(folders, data, family):
    vlm = ww.load(folders / "hub" / family, device="cpu", dtype="float32")
    items = tuning.questions(data, 3)
    batch = tuning._Collator(vlm)(items)
    end = vlm.tokenizer.eos_token_id
    assert end in vlm.ends
    for item, ids, labels in zip(items, batch["input_ids"], batch["labels"]):
        answer = [*vlm.token_ids([item.gold])[0], end]
        assert (
            labels[labels != tuning.IGNORED].tolist() == answer == labels[-len(answer) :].tolist()
        )
        prompt = vlm.prepare(item.image, item.question)["input_ids"][0].tolist()
        assert ids[-len(answer) - len(prompt) :].tolist() == prompt + answer
    with torch.no_grad():
        found = vlm.model(**batch).loss
        logits = vlm.model(**{k: v for k, v in batch.items() if k != "labels"}).logits
    told = (batch["labels"] != tuning.IGNORED).nonzero().tolist()
    due = [-logits[r, at - 1].log_softmax(-1)[batch["input_ids"][r, at]] for r, at in told]
    assert found.item() == pytest.approx(torch.stack(due).mean().item(), rel=1e-4)


def test_an_end_that_the_model_does_not_know(folders):
    vlm = ww.load(folders / "hub" / "qwen2_vl", device="cpu", dtype="float32")
    vlm.model.generation_config.eos_token_id = 7
    with pytest.raises(ValueError, match="does not name as an end of answers"):
        tuning._Collator(vlm)


# -- what is trained
# --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(data, model, tmp_path_factory):
    """{lora: folder} of a training of four steps, in full and by LoRA, with the ViT's RoPE
    scaled."""
    root = tmp_path_factory.mktemp("tuned")
    return {
        lora: tuning.finetune(model, data, root / f"{lora}", scale=(99, 8), lora=lora, **HOW)
        for lora in (False, True)
    }


def test_a_new_checkpoint_is_whole_and_says_how_it_was_made(whole, model, tmp_path):
    before = weights(model)
    for lora, folder in whole.items():
        vlm = ww.load(folder, device="cpu", dtype="float32")
        assert rope.scaling.settings(vlm) == {"alpha": 99, "p": 8}
        after = weights(folder)
        changed = {name for name in before if apart(before[name], after[name]) > SAME}
        assert changed == (
            {name for name in before if "self_attn." in name and name.endswith("_proj.weight")}
            if lora
            else set(before)
        )
        assert not [p for p in folder.rglob("*") if p.suffix in (".pt", ".pth", ".bin", ".pkl")]
        card = json.loads((folder / tuning.CARD).read_text())
        assert card["finished"] and card["scale"] == {"alpha": 99, "p": 8}
        assert card["lora"] == (tuning.LORA if lora else None) and card["questions"] == 8
        assert [step for step, _ in card["losses"]] == [1, 2, 3, 4]
        ww.load(model, device="cpu").save(tmp_path / f"as-it-was-{lora}")
        settings, own = (
            json.loads((each / "config.json").read_text())
            for each in (folder, tmp_path / f"as-it-was-{lora}")
        )
        assert settings.pop("whatwhere")["rope_scaling"] == {"alpha": 99, "p": 8}
        assert settings == own, "what the Trainer sets in a config is undone"
        assert vlm.max_pixels == ww.load(model, device="cpu").max_pixels
    losses = json.loads((whole[False] / tuning.CARD).read_text())["losses"]
    assert losses[-1][1] < losses[0][1]


def test_loras_changes_are_merged_and_kept_by_themselves(whole, model):
    adapter = load_file(whole[True] / tuning.ADAPTER / "adapter_model.safetensors")
    before, after = weights(model), weights(whole[True])
    assert len(adapter) == 2 * 4 * 3 and not (whole[True] / "adapter_config.json").exists()
    for name in (name for name in adapter if ".lora_A." in name):
        a, b = (adapter[name.replace(".lora_A.", f".lora_{part}.")].double() for part in "AB")
        tail = name.split(".layers.")[1].replace(".lora_A", "")
        (own,) = (each for each in before if each.endswith(f".layers.{tail}"))
        assert apart(after[own], before[own] + 32 / 16 * b @ a) < SAME


@pytest.mark.parametrize("lora", [False, True])
def test_what_is_killed_goes_on_and_ends_the_same(whole, data, model, tmp_path, monkeypatch, lora):
    step, steps, out = transformers.Trainer.training_step, [], tmp_path / "out"
    how = {"scale": (99, 8), "lora": lora, **HOW}

    def killed(*args, **named):
        steps.append(1)
        if len(steps) == 6:  # the second half of the third step
            raise KeyboardInterrupt
        return step(*args, **named)

    monkeypatch.setattr(transformers.Trainer, "training_step", killed)
    with pytest.raises(KeyboardInterrupt):
        tuning.finetune(model, data, out, **how)
    assert {path.name for path in out.iterdir()} == {tuning.CARD, tuning.UNFINISHED}
    states = out / tuning.UNFINISHED
    shutil.copytree(states / "checkpoint-2", states / "checkpoint-3")  # as if cut off meanwhile
    (states / "checkpoint-3" / "trainer_state.json").unlink()
    for other, named in (
        ({"lr": 1e-3}, "lr"), ({"scale": None}, "scale"), ({"lora": not lora}, "lora"),
        ({"limit": 4}, "questions, data"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=rf"was begun otherwise \({named} differ\)"):
            tuning.finetune(model, data, out, **how | other)
    tuning.finetune(model, data, out, **how)
    assert len(steps) == 6 + 4, "it goes on after the second step, the last that was kept"
    assert largest(weights(out), weights(whole[lora])) < SAME
    assert not (out / tuning.UNFINISHED).exists()
    monkeypatch.setattr(ww.loading, "load", lambda *_, **__: pytest.fail("it is finished"))
    assert tuning.finetune(model, data, out, **how) == out


@pytest.mark.parametrize("family", rehearsal.FAMILIES)
def test_weights_of_a_state_are_taken_whole(folders, tmp_path, family):
    """By the names that they have on the hub, which the Trainer would pass over."""
    vlm = ww.load(folders / "hub" / family, device="cpu", dtype="float32")
    before = {name: weight.clone() for name, weight in vlm.model.state_dict().items()}
    vlm.model.save_pretrained(tmp_path)
    for weight in vlm.model.parameters():
        weight.add_(1)
    tuning._take_weights(vlm.model, str(tmp_path))
    after = vlm.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    kept = load_file(tmp_path / "model.safetensors")
    del kept[next(name for name in kept if name.endswith("layers.1.self_attn.q_proj.weight"))]
    save_file(kept, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="lacks .* of the model's tensors: delete it"):
        tuning._take_weights(vlm.model, str(tmp_path))


def test_how_many_go_through_at_once_changes_nothing_but_rounding(whole, data, model, tmp_path):
    out = tuning.finetune(model, data, tmp_path / "out", scale=(99, 8), **HOW | {"at_once": 4})
    plain = tuning.finetune(model, data, tmp_path / "plain", **HOW)
    assert largest(weights(out), weights(whole[False])) < 1e-3
    assert largest(weights(plain), weights(whole[False])) > OTHER
    assert rope.scaling.settings(ww.load(plain, device="cpu")) is None


def test_a_new_checkpoint_is_of_the_old_ones_dtype_and_size(folders, data, tmp_path):
    how = HOW | {"limit": 4, "epochs": 1}
    out = tuning.finetune(folders / "hub" / "qwen2_5_vl", data, tmp_path / "out", **how)
    kept = load_file(out / "model.safetensors")
    assert {weight.dtype for weight in kept.values()} == {torch.bfloat16}
    needed = tuning.estimate(folders / "hub" / "qwen2_5_vl")
    assert needed.disk == 2 * needed.parameters + 24 * needed.trained
    assert sum(weight.numel() for weight in kept.values()) == needed.parameters


# -- what is refused
# --------------------------------------------------------------------------------------------------


def test_what_it_needs_by_arithmetic(tmp_path):
    """Of Qwen2-VL-2B, whose weights are not needed for that."""
    published.config("Qwen/Qwen2-VL-2B-Instruct").save_pretrained(tmp_path)
    save_file({}, tmp_path / "model.safetensors")
    n = 2_208_985_600
    whole, lora = tuning.estimate(tmp_path), tuning.estimate(tmp_path, lora=True)
    assert whole[:5] == (n, n, 4 * n, 4 * n, 8 * n) and whole.memory == 16 * n
    # rank × (in + out) of q, k, v, o in 28 layers
    low = 28 * 16 * (2 * (1536 + 1536) + 2 * (1536 + 256))
    assert lora[:5] == (n, low, 4 * (n + low), 4 * low, 8 * low)
    assert whole.disk - lora.disk == 24 * (n - low)
    assert f"{n:,} parameters, {n:,} trained. Memory, by arithmetic: weights 8.2" in str(whole)


Disk, Memory = namedtuple("Disk", "free"), namedtuple("Memory", "total")


def test_too_little_room_is_said_before_anything_is_loaded(data, model, tmp_path, monkeypatch):
    monkeypatch.setattr(ww.loading, "load", lambda *_, **__: pytest.fail("a model was loaded"))
    out = tmp_path / "deep" / "out"
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda path: Disk(10_000))
        with pytest.raises(OSError, match=f"Disk: .* '{tmp_path}' has 0.0 GiB left: make room"):
            tuning.finetune(model, data, out, **HOW)
    with monkeypatch.context() as patched:
        patched.setattr(psutil, "virtual_memory", lambda: Memory(10_000))
        with pytest.raises(MemoryError, match="'cpu' has 0.0 GiB: take LoRA"):
            tuning.finetune(model, data, out, **HOW)
    assert not out.parent.exists()


@pytest.mark.parametrize("options, words", [
    ({"batch": 5}, "A batch of 5 questions is not 1 × 2 of them"), ({"at_once": 0}, "at_once is"),
    ({"epochs": 0}, "epochs is a whole number from 1 up"), ({"lr": 0}, "lr is a number above 0"),
    ({"lr": float("nan")}, "lr is a number"), ({"warmup": 1}, "warmup is a number from 0 and below"),
    ({"save_every": 0}, "save_every is"), ({"max_pixels": 0}, "max_pixels is a whole number"),
    ({"limit": 9}, "fewer than the 9"), ({"scale": 99}, "scale is two numbers"),
])  # fmt: skip
def test_settings_that_are_none(data, model, tmp_path, monkeypatch, options, words):
    monkeypatch.setattr(ww.loading, "load", lambda *_, **__: pytest.fail("a model was loaded"))
    with pytest.raises(ValueError, match=words):
        tuning.finetune(model, data, tmp_path / "out", **HOW | options)
    assert not (tmp_path / "out").exists()


def test_a_vit_without_2d_rope_is_not_scaled(folders, data, tmp_path):
    with pytest.raises(ValueError, match="2-D RoPE"):
        tuning.finetune(folders / "hub" / "llava", data, tmp_path / "out", scale=(9, 2), **HOW)
    assert not (tmp_path / "out").exists()


def test_folders_that_are_taken(data, model, tmp_path):
    (tmp_path / "taken").mkdir()
    for path in (tmp_path / "file", tmp_path / "taken" / "photo.jpg"):
        path.write_text("mine")
    for out, words in (
        ("file", "is a file"),
        ("taken", "holds something else already .'photo.jpg'"),
    ):
        with pytest.raises(ValueError, match=words):
            tuning.finetune(model, data, tmp_path / out, **HOW)
    assert (tmp_path / "taken" / "photo.jpg").read_text() == "mine"


def test_packages_that_are_missing_and_ways_that_share_a_model_out(model, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(tuning, "find_spec", lambda name: None)
        with pytest.raises(ImportError, match="Fine-tuning needs accelerate and peft: pip install"):
            tuning.estimate(model, lora=True)
        with pytest.raises(ImportError, match="Fine-tuning needs accelerate: pip install accele"):
            tuning.estimate(model)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ValueError, match="here each process holds all of it"):
        tuning.estimate(model)


def test_weights_that_training_has_broken_are_not_saved(data, model, tmp_path, monkeypatch):
    def broken(trainer, **_):
        trainer.model.lm_head.weight.data[3, 3] = float("nan")

    monkeypatch.setattr(transformers.Trainer, "train", broken)
    with pytest.raises(ValueError, match="'lm_head.weight' after training are not finite"):
        tuning.finetune(model, data, tmp_path / "out", **HOW)
    assert not list((tmp_path / "out").glob("*.safetensors"))


def test_memory_that_ends_in_the_middle_is_a_sentence(data, model, tmp_path, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(transformers.Trainer, "training_step", full)
    with pytest.raises(MemoryError, match="too small for 2 questions at once; .* smaller at_once"):
        tuning.finetune(model, data, tmp_path / "out", **HOW)


def test_the_command_hands_on_what_it_is_told(data, model, tmp_path, monkeypatch, capsys):
    asked = {}
    monkeypatch.setattr(tuning, "finetune", lambda *given, **named: asked.update(named, _=given))
    command = ["finetune", str(model), "--data", str(data), "--out", str(tmp_path / "out")]
    assert main(command) == 0
    assert asked.pop("_") == (str(model), str(data), str(tmp_path / "out"))
    assert asked == {name: asked[name] for name in tuning.finetune.__kwdefaults__ or asked}
    printed = capsys.readouterr().out
    assert "Memory, by arithmetic" in printed and printed.endswith(
        f"fine-tuned: {tmp_path / 'out'}\n"
    )
    more = "--lora --limit 7 --sigmoid 99 40 0.6 --at-once 4 --save-every 9 --epochs 1"
    assert main([*command, *more.split()]) == 0
    due = {"lora": True, "limit": 7, "at_once": 4, "save_every": 9, "epochs": 1}
    assert {name: asked[name] for name in due} == due
    assert asked["scale"] == {"alpha": 99, "k": 40, "c": 0.6}


def test_the_command_says_in_a_sentence_what_is_wrong(data, model, tmp_path, capsys):
    command = ["finetune", str(model), "--data", str(data), "--out", str(tmp_path / "out")]
    for more, words in (
        (["--limit", "9"], "fewer than the 9"),
        (["--scale", "9", "2", "--sigmoid", "9", "4", "1"], "two forms of one thing"),
        (["--batch", "7"], "A batch of 7 questions"),
    ):
        assert main([*command, *more]) == 1
        error = capsys.readouterr().err
        assert error.startswith("whatwhere: ") and words in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_item_is_what_benchmarks_have(data):
    assert all(isinstance(item, Item) for item in tuning.questions(data, 2))
