"""Published sizes against published counts, the arithmetic against real bytes, and the rehearsal
from end to end."""

import json

import pytest
import torch
from transformers import AutoModelForImageTextToText, DynamicCache

import whatwhere as ww
from closeness import SAME
from tools.trials import rehearse
from whatwhere import families, images
from whatwhere.book import published

pytestmark = pytest.mark.usefixtures("one_thread")

# Where the counts are from: GitHub repositories that print them. LLaVA-1.5: sum(p.numel() …) after
# from_pretrained, in notes on training; Qwen2-VL: a table of models' sizes, which has
# InternVL2.5-1B as well, of the same dimensions as InternVL3-1B (of which Tenstorrent's loader says
# "~938M"); Qwen2.5-VL: checks of downloaded checkpoints, of 3B in its 824 tensors.
COUNTS = {
    "llava-hf/llava-1.5-7b-hf": 7_063_427_072,
    "Qwen/Qwen2-VL-2B-Instruct": 2_208_985_600,
    "Qwen/Qwen2-VL-7B-Instruct": 8_291_375_616,
    "Qwen/Qwen2.5-VL-3B-Instruct": 3_754_622_976,
    "Qwen/Qwen2.5-VL-7B-Instruct": 8_292_166_656,
    "OpenGVLab/InternVL3-1B-hf": 938_193_024,
}
# Of these two no exact count was found: they are InternVL3-1B's ViT before language models whose
# own counts are known.
QWEN25 = {
    "OpenGVLab/InternVL3-2B-hf": (1_543_714_304, 151_936, 1536, 1),
    "OpenGVLab/InternVL3-8B-hf": (7_615_616_512, 152_064, 3584, 2),
}
FOUR = (
    "llava-hf/llava-1.5-7b-hf",
    "Qwen/Qwen2-VL-2B-Instruct",
    "Qwen/Qwen2.5-VL-7B-Instruct",
    "OpenGVLab/InternVL3-1B-hf",
)


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_are_as_many_as_published(name):
    parts = published.parameters(name)
    assert (
        parts["total"] == COUNTS[name] == parts["vision"] + parts["connector"] + parts["language"]
    )


@pytest.mark.parametrize("name", QWEN25)
def test_internvl_is_qwen_with_its_own_vocabulary(name):
    count, vocabulary, hidden, tables = QWEN25[name]  # tables: of words, one where the two are tied
    own = published.LANGUAGE[name]
    assert own.hidden == hidden and not own.tied
    expected = (
        count
        - tables * (vocabulary - own.vocabulary) * hidden
        + (2 - tables) * own.vocabulary * hidden
    )
    parts = published.parameters(name)
    assert parts["language"] == expected
    assert parts["vision"] == published.parameters("OpenGVLab/InternVL3-1B-hf")["vision"]


def test_a_part_that_was_counted_alone():
    parts = published.parameters("Qwen/Qwen2.5-VL-7B-Instruct")
    # "visual", printed before fine-tuning by a public script
    assert parts["vision"] + parts["connector"] == 676_550_144


@pytest.mark.parametrize("name", published.LANGUAGE)
def test_skeletons_are_of_the_true_class_and_take_no_memory(name):
    model = published.skeleton(name)
    assert type(model) is families.adapter_class(model.config.model_type).model_class
    assert {(each.device.type, each.dtype) for each in model.parameters()} == {
        ("meta", torch.bfloat16)
    }
    tied = model.lm_head.weight is model.get_input_embeddings().weight
    assert tied == published.LANGUAGE[name].tied
    assert model.config.text_config.num_key_value_heads == published.LANGUAGE[name].kv


def test_qwens_rotary_frequencies_at_full_size():
    sight = published.config("Qwen/Qwen2-VL-2B-Instruct").vision_config
    rotary = type(published.skeleton("Qwen/Qwen2-VL-2B-Instruct").model.visual.rotary_pos_emb)(
        sight
    )
    assert torch.allclose(rotary.inv_freq.double(), ww.rope.frequencies(80), rtol=SAME)


# -- a model filled with random numbers
# ---------------------------------------------------------------------------


@pytest.fixture(scope="module", params=FOUR)
def filled(request):
    return rehearse.dress(
        rehearse.build(rehearse.settings(request.param, small=True)), request.param
    )


@torch.no_grad()
def test_a_filled_model_is_like_one_built_normally(filled):
    model = filled.model
    normal = AutoModelForImageTextToText.from_config(model.config, dtype=torch.bfloat16).eval()
    there, here = dict(normal.named_buffers()), dict(model.named_buffers())
    assert there.keys() == here.keys() and there
    assert all(
        torch.equal(there[name], here[name]) and there[name].dtype == here[name].dtype
        for name in there
    )
    assert [(name, each.shape, each.dtype) for name, each in normal.named_parameters()] == [
        (name, each.shape, each.dtype) for name, each in model.named_parameters()
    ]
    normal.load_state_dict(model.state_dict())
    inputs = filled.prepare(ww.world.scene(seed=1).image, "which ?")
    assert torch.equal(
        normal.model(**inputs).last_hidden_state, model.model(**inputs).last_hidden_state
    )


def test_filling_is_repeatable_and_leaves_states_finite(filled):
    again = rehearse.build(filled.model.config)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), filled.model.parameters()))
    tokens = filled.visual_tokens(ww.world.scene(seed=1).image).float()
    assert torch.isfinite(tokens).all() and tokens.std() > 0.1


def test_the_image_token_stands_at_its_published_id(filled):
    published_at = {"llava": 32000, "qwen2_vl": 151655, "qwen2_5_vl": 151655, "internvl": 151667}
    image = ww.world.scene(seed=1).image
    seen = filled.prepare(image, "which ?")["input_ids"][
        0, filled.positions(image, "which ?").index
    ]
    assert set(seen.tolist()) == {published_at[filled.family]}
    assert len(filled.words) == filled.model.config.text_config.vocab_size


@torch.no_grad()
def test_bytes_by_arithmetic_are_bytes_in_memory(filled):
    model, config = filled.model, filled.model.config
    inputs = filled.prepare(ww.world.scene(seed=1).image, "which ?")
    length, image = inputs["input_ids"].shape[1], int(filled.image_places(inputs).sum())
    asked = published.memory(config, "bfloat16", text=length - image, image=image, new=0)
    assert asked["weights"] == sum(
        each.numel() * each.element_size() for each in model.parameters()
    )
    cache = DynamicCache(config=filled.lm.config)
    model.model(**inputs, past_key_values=cache, use_cache=True)
    held = [values for layer in cache.layers for values in (layer.keys, layer.values)]
    assert asked["cache"] == sum(each.numel() * each.element_size() for each in held)
    assert asked["total"] == asked["weights"] + asked["cache"] + asked["activations"]


def test_four_bits_are_of_linear_layers_alone(filled):
    linear = [
        each
        for name, each in filled.model.named_modules()
        if type(each) is torch.nn.Linear and name != "lm_head"
    ]
    inside = sum(each.in_features * each.out_features for each in linear)
    outside = published.parameters(filled.model.config)["total"] - inside
    quantised = published.memory(filled.model.config, "4-bit")["weights"]
    assert quantised == pytest.approx(2 * outside + inside / 2 + inside / 64 * 4, abs=1)


# -- which GPU
# --------------------------------------------------------------------------------------------------


def test_more_memory_holds_more_and_a_longer_prompt_less():
    found = [published.fits(gib) for gib in (2, 6, 15, 24, 40, 80)]
    for less, more in zip(found, found[1:]):
        assert all(set(less[name]) <= set(more[name]) for name in published.LANGUAGE)
    for kinder, harder in (
        ({}, {"margin": 4}),
        ({"text": 60}, {"text": 60_000}),
        ({"batch": 1}, {"batch": 64}),
    ):
        few, many = published.fits(16, **harder), published.fits(16, **kinder)
        assert all(set(few[name]) <= set(many[name]) for name in published.LANGUAGE) and few != many
    assert not any(published.fits(0.5, margin=0).values()) and all(published.fits(139).values())


def test_gpus_as_people_know_them():
    t4, l4 = published.fits("T4"), published.fits("L4")
    assert not any("bfloat16" in dtypes for dtypes in t4.values())
    assert t4["Qwen/Qwen2-VL-2B-Instruct"] == ("float16", "4-bit") and t4[
        "llava-hf/llava-1.5-7b-hf"
    ] == ("4-bit",)
    assert all(dtypes[0] == "bfloat16" for dtypes in l4.values())
    sizes = [gpu.gib for gpu in published.GPUS.values()]
    assert sizes == sorted(sizes) and all(
        gpu.gib < float(gpu.sold.split()[0]) for gpu in published.GPUS.values()
    )


def test_at_the_default_bound_of_pixels_a_t4_holds_what_it_holds_of_small_pictures():
    """And without a bound, where a photograph of 12 megapixels is some 15,000 visual tokens, no
    Qwen."""
    qwen = [name for name in published.LANGUAGE if "Qwen" in name]
    small, bounded, unbounded = (
        published.fits("T4", image=tokens) for tokens in (256, images.MOST_PIXELS // 28**2, 15_552)
    )
    assert all(small[name] == bounded[name] for name in qwen) and all(small[name] for name in qwen)
    assert not any("float16" in unbounded[name] for name in qwen)


def test_the_table_says_that_it_is_arithmetic():
    table = published.table()
    assert list(table.index) == list(published.LANGUAGE) and table.columns.name == "by arithmetic"
    assert table.shape[1] == 3 + len(published.GPUS)
    assert table.loc["llava-hf/llava-1.5-7b-hf", "T4 (14.6 GiB)"] == "4-bit"
    assert (published.table(text=10**7).iloc[:, 3:] == "–").all(axis=None)


@pytest.mark.parametrize(
    "act, sentence",
    [
        (
            lambda: published.config("llava-hf/llava-1.5-7b"),
            "one of the book's models .did you mean 'llava-hf/llava-1.5-7b-hf'",
        ),
        (
            lambda: published.parameters("gpt"),
            "'gpt' is not one of the book's models: those are llava-hf",
        ),
        (lambda: published.skeleton(["x"]), "is not one of the book's models"),
        (
            lambda: published.memory("Qwen/Qwen2-VL-2B-Instruct", "int8"),
            "The dtype is bfloat16, .*, float32, not 'int8'",
        ),
        (
            lambda: published.memory("Qwen/Qwen2-VL-2B-Instruct", text=-1),
            "'text' is a whole number from 0 on, not -1",
        ),
        (
            lambda: published.memory("Qwen/Qwen2-VL-2B-Instruct", batch=0),
            "'batch' is a whole number from 1 on, not 0",
        ),
        (
            lambda: published.fits("T5"),
            "A GPU is one of T4, L4, .* or a number of GiB above zero; got 'T5'",
        ),
        (lambda: published.fits(float("nan")), "a number of GiB above zero; got nan"),
        (lambda: published.fits(16, margin=-1), "The margin is a number of GiB from 0 on, not -1"),
    ],
)
def test_refusals_are_sentences(act, sentence):
    with pytest.raises(ValueError, match=sentence):
        act()


# -- the rehearsal
# --------------------------------------------------------------------------------------------------


def test_a_small_rehearsal_from_end_to_end(tmp_path, capsys):
    out = tmp_path / "results" / "rehearsal.json"
    small = ["--small", "--words", "2", "--out", str(out)]
    assert rehearse.main([*small, "--depths", "1", "--beside", "a test"]) == 0
    rows = json.loads(out.read_text())["runs"]
    assert [row["model"] for row in rows] == sorted(rehearse.MODELS)
    for row in rows:
        seconds = row["measured"]["seconds"]
        assert all(value >= 0 for value in seconds.values())
        assert {
            "build",
            "ViT and connector",
            "lens",
            "first word",
            "each later word",
        } <= seconds.keys()
        assert ("ViT and connector, RoPE scaled" in seconds) == ("Qwen" in row["model"])
        assert (
            row["small"]
            and row["dtype"] == "bfloat16"
            and row["device"]
            and row["machine"]["beside"] == "a test"
        )
        assert row["tokens"]["said"] == 3 and len(row["tokens"]["ViT depths"]) == 1
    assert {row["model"]: row["tokens"]["visual"] for row in rows} == dict(
        zip(rehearse.MODELS, (256, 576))
    )
    assert 290 < rows[0]["tokens"]["prompt"] < 320  # Qwen's: about 300
    assert (
        rehearse.main(
            [*small, "--models", rehearse.MODELS[1], "--depths", "2", "--beside", "again"]
        )
        == 0
    )
    after = json.loads(out.read_text())["runs"]
    assert after[0] == rows[0] and [row["machine"]["beside"] for row in after] == [
        "a test",
        "again",
    ]
    assert after[1]["tokens"]["ViT depths"] == [0, 2]  # LLaVA-1.5 does not use its last block
    # nothing half-written is left
    assert [path.name for path in out.parent.iterdir()] == ["rehearsal.json"]
    assert "peak memory" in capsys.readouterr().out


def test_a_rehearsal_that_would_not_fit_is_not_begun(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(rehearse, "free", lambda device: 3.5)
    monkeypatch.setattr(rehearse, "build", lambda *args: pytest.fail("it began to build"))
    out = tmp_path / "rehearsal.json"
    assert (
        rehearse.main(["--models", "Qwen/Qwen2-VL-2B-Instruct", "somebody/else", "--out", str(out)])
        == 1
    )
    said = capsys.readouterr().err
    assert "Qwen/Qwen2-VL-2B-Instruct in bfloat16 takes 4.3 GiB, and 3.5 are free." in said
    assert "'somebody/else' is not one of the book's models" in said
    assert not out.exists()


def test_states_that_are_not_numbers_are_told(monkeypatch):
    name = "llava-hf/llava-1.5-7b-hf"
    vlm = rehearse.dress(rehearse.build(rehearse.settings(name, small=True)), name)
    vlm.connector.linear_2.bias[:] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        rehearse.rehearse(vlm, depths=1, words=1)
