"""RoPE scaling: the formula in place, nothing else, undone bit for bit, saved and found again; and
what is refused."""

import json
import math
import shutil
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from transformers import (
    LlavaForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLForConditionalGeneration,
)

import whatwhere as ww
from closeness import OTHER, SAME, apart
from whatwhere import rope
from whatwhere.book.rehearsal.checkpoints import enliven, llava, qwen2vl

pytestmark = pytest.mark.usefixtures("one_thread")
# 3 × 5 tokens of rehearsal/checkpoints.py
IMAGE = np.random.default_rng(0).integers(0, 255, (24, 40, 3), dtype=np.uint8)
PROMPT = "is there a red cup ?"
CHOICES = [
    {"alpha": 99, "p": 8},
    {"alpha": 2.5, "p": 0.5},
    {"alpha": -0.9, "p": 1},
    {"alpha": 9, "k": 12, "c": 0.5},
    {"alpha": np.float64(29), "k": 0.1, "c": -3},
]
NAN, INF = float("nan"), float("inf")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    qwen2vl(made := tmp_path_factory.mktemp("scaling") / "qwen2vl")
    return made


@pytest.fixture(scope="module")
def vlm(folder):
    vlm = ww.load(folder, "cpu", "float32")
    native(vlm)  # transformers adds hooks of its own on the first run, for good
    return vlm


@pytest.fixture(scope="module")
def tables():
    """Models without 2-D RoPE."""
    vlm = ww.load("toy-llava", "cpu", "float32")
    return {"toy-llava": vlm, "LlavaForConditionalGeneration": vlm.model}


@pytest.fixture(scope="module")
def windowed():
    """A bare Qwen2.5-VL, with a block that sees windows and one that sees all."""
    text = {"vocab_size": 40, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
        "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4,
                "mrope_section": [2, 1, 1]}}  # fmt: skip
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 2,
        "patch_size": 4,
        "window_size": 16,
        "fullatt_block_indexes": [1],
        "out_hidden_size": 32,
    }
    torch.manual_seed(0)
    return enliven(
        Qwen2_5_VLForConditionalGeneration(
            Qwen2_5_VLConfig(text_config=text, vision_config=vision)
        ).eval()
    )


@pytest.fixture(params=["toy-qwen2vl", "Qwen2-VL", "bare Qwen2-VL", "bare Qwen2.5-VL"])
def turning(request, vlm, windowed):
    """A model of every kind that can be scaled."""
    if request.param == "toy-qwen2vl":
        return ww.load(request.param, "cpu", "float32")
    return {"Qwen2-VL": vlm, "bare Qwen2-VL": vlm.model, "bare Qwen2.5-VL": windowed}[request.param]


def bare(model):
    return model if hasattr(model, "config") else model.model


def table(model):
    return bare(model).model.visual.rotary_pos_emb.inv_freq


def everything(model):
    """All tensors of a model, also those that are not saved, and what it says of itself."""
    model = bare(model)
    tensors = {
        name: each.clone() for name, each in (*model.named_parameters(), *model.named_buffers())
    }
    return (
        tensors,
        json.dumps(model.config.to_dict(), default=str, sort_keys=True),
        hasattr(model.config, "whatwhere"),
    )


def same(one, other):
    return (
        one[1:] == other[1:]
        and one[0].keys() == other[0].keys()
        and all(map(torch.equal, one[0].values(), other[0].values()))
    )


@contextmanager
def untouched(model):
    before = everything(model)
    yield
    assert same(everything(model), before) and rope.scaling.settings(model) is None


def hooks(model):
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return [len(getattr(module, kind)) for module in bare(model).modules() for kind in kinds]


@torch.no_grad()
def native(vlm, image=IMAGE):
    return vlm.model(**vlm.prepare(image, PROMPT)).logits


def gain(i, n, alpha, p=None, k=None, c=None):
    """The formula in plain numbers; d is the half of a head that turns with one axis, two
    dimensions a pair."""
    share = 2 * i / (2 * n)
    return 1 + alpha * (share**p if k is None else 1 / (1 + math.exp(-k * (share - c))))


# -- what it does
# -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chosen", CHOICES, ids=str)
def test_the_formula_in_place(turning, chosen):
    before, at, n = table(turning).clone(), table(turning).data_ptr(), len(table(turning))
    expected = [theta * gain(i, n, **chosen) for i, theta in enumerate(before.tolist())]
    with untouched(turning):
        with rope.scaled(turning, **chosen):
            assert table(turning).data_ptr() == at and table(turning).dtype == before.dtype
            assert table(turning).tolist() == pytest.approx(expected, rel=1e-6) and not torch.equal(
                table(turning), before
            )
    assert n > 1 and (chosen.get("p") is None or table(turning)[0] == before[0])


def test_the_gains_by_hand():
    assert rope.gains(4, 99, 2).tolist() == pytest.approx(
        [1, 1 + 99 / 16, 1 + 99 / 4, 1 + 99 * 9 / 16]
    )
    assert rope.sigmoid_gains(4, 9, 20, 0.5)[2] == pytest.approx(5.5)  # half way where 2i/d is c
    rising = rope.sigmoid_gains(64, 9, 5, 0.5)
    assert (rising.diff() > 0).all() and 1 < rising[0] and rising[-1] < 10
    steep = rope.sigmoid_gains(64, 9, 1e4, 0.505)
    assert torch.allclose(steep, torch.where(torch.arange(64) / 64 > 0.505, 10.0, 1.0).double())


def test_only_the_frequencies_change_and_no_hook_is_there(turning):
    tensors, described, _ = everything(turning)
    hung = hooks(turning)
    with rope.scaled(turning, 9, 2):
        now, says, _ = everything(turning)
        assert {name for name in tensors if not torch.equal(now[name], tensors[name])} == {
            "model.visual.rotary_pos_emb.inv_freq"
        }
        assert now.keys() == tensors.keys() and hooks(turning) == hung
        says = json.loads(says)
        assert says["whatwhere"].pop("rope_scaling") == {"alpha": 9, "p": 2}
        described = json.loads(described)
        assert says.pop("whatwhere") == described.pop("whatwhere", {}) and says == described
    assert hooks(turning) == hung


def test_logits_change_inside_and_are_the_same_bit_for_bit_afterwards(vlm):
    before, ours = native(vlm), vlm.logits(IMAGE, PROMPT)
    for chosen in CHOICES:
        with untouched(vlm), rope.scaled(vlm, **chosen):
            inside = native(vlm)
            assert (
                apart(inside, before) > OTHER and apart(vlm.logits(IMAGE, PROMPT), inside[0]) < SAME
            )
        assert torch.equal(native(vlm), before) and torch.equal(vlm.logits(IMAGE, PROMPT), ours)


@pytest.mark.parametrize("chosen", [{"p": 8}, {"k": 3, "c": 0.5}], ids=str)
def test_alpha_zero_changes_nothing(vlm, chosen):
    before, theta = native(vlm), table(vlm).clone()
    with rope.scaled(vlm, 0, **chosen):
        assert torch.equal(table(vlm), theta) and torch.equal(native(vlm), before)


@torch.no_grad()
@pytest.mark.parametrize("grid", [(6, 10), (2, 14), (18, 6)])
def test_windows_turn_too(windowed, grid):
    """Qwen2.5-VL's tower on unequal sides, which its windows do not divide."""
    patches = torch.randn(
        math.prod(grid), 3 * 2 * 4 * 4, generator=torch.Generator().manual_seed(0)
    )

    def run():
        return windowed.model.visual(patches, grid_thw=torch.tensor([[1, *grid]])).pooler_output

    before = run()
    with rope.scaled(windowed, 9, 2):
        inside = run()
    assert apart(inside, before) > OTHER and torch.equal(run(), before)


@torch.no_grad()
@pytest.mark.parametrize("chosen", [None, *CHOICES], ids=str)
def test_a_scaled_model_does_what_the_algebra_says(vlm, chosen):
    """From queries, keys and values before rotation to what the attention of every block puts
    out."""
    unscaled, out = rope.vision(vlm), []
    with rope.scaled(vlm, **chosen or {"alpha": 0, "p": 1}):
        rotary, heads = rope.vision(vlm), rope.heads(vlm, IMAGE)
        tools = [
            b.attn.proj.register_forward_pre_hook(lambda m, args: out.append(args[0]))
            for b in vlm.vision_blocks
        ]
        vlm.vit_states(IMAGE, [vlm.last_depth])
        [tool.remove() for tool in tools]

    def off(rotary):
        made = (
            rotary.logits(heads.q.double(), heads.k.double(), heads.at).softmax(-1)
            @ heads.v.double()
        ).transpose(1, 2)
        return max(apart(*both) for both in zip(made.flatten(2), out, strict=True))

    assert off(rotary) < SAME and (chosen is None) == (off(unscaled) < OTHER)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("cast", ["loaded", "cast afterwards"])
def test_other_precisions(folder, dtype, cast):
    vlm = ww.load(folder, "cpu", dtype if cast == "loaded" else "float32")
    vlm.model.to(dtype)
    before, exact = native(vlm), table(vlm).clone().double()
    with untouched(vlm), rope.scaled(vlm, 9, 2):
        assert (
            not torch.equal(native(vlm), before)
            and native(vlm).isfinite().all()
            and table(vlm).dtype == dtype
        )
        assert torch.equal(table(vlm), (exact * rope.gains(3, 9, 2)).to(dtype))
    assert torch.equal(native(vlm), before)


# -- undone
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_inside_leaves_the_model_as_it_was(vlm, error):
    before = native(vlm)
    with untouched(vlm):
        with pytest.raises(error, match="of my own"), rope.scaled(vlm, 99, 8):
            raise error("of my own")
    assert torch.equal(native(vlm), before)


@pytest.mark.parametrize("about", [None, {"lens_layer": 2, "organism": True}])
def test_the_config_is_what_it_was(about, tmp_path):
    qwen2vl(tmp_path, about=about)
    vlm = ww.load(tmp_path, "cpu", "float32")
    noted = getattr(vlm.model.config, "whatwhere", None)
    assert noted == about and hasattr(vlm.model.config, "whatwhere") == bool(about)
    with untouched(vlm), rope.scaled(vlm, 9, k=3, c=0.5):
        assert vlm.model.config.whatwhere == {
            **(about or {}),
            "rope_scaling": {"alpha": 9, "k": 3, "c": 0.5},
        }
        assert vlm.about == (about or {})
    assert getattr(vlm.model.config, "whatwhere", None) is noted


def test_one_after_the_other(vlm):
    with untouched(vlm):
        seen = []
        for chosen in (*CHOICES, *CHOICES):
            with rope.scaled(vlm, **chosen):
                seen.append(table(vlm).clone())
        assert all(map(torch.equal, seen, seen[len(CHOICES) :]))


def test_a_model_that_is_cast_inside_is_undone_too(folder):
    """`.to` puts another tensor where the frequencies were."""
    vlm, other = ww.load(folder, "cpu", "float32"), ww.load(folder, "cpu", "float32")
    with rope.scaled(vlm, 99, 8):
        vlm.model.to(torch.float64)
    other.model.to(torch.float64)
    assert same(everything(vlm), everything(other))


# -- saved and found again
# ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "chosen", [{"alpha": 9, "p": 2}, {"alpha": 9, "k": 3, "c": 0.5}, {"alpha": 0, "p": 1}], ids=str
)
def test_a_model_saved_while_scaled_is_scaled_for_good(vlm, chosen, tmp_path):
    before = native(vlm)
    with rope.scaled(vlm, **chosen):
        inside, theta = native(vlm), table(vlm).clone()
        assert vlm.save(tmp_path / "scaled") == tmp_path / "scaled"
    vlm.save(tmp_path / "as it was")
    note = json.loads((tmp_path / "scaled/config.json").read_text())["whatwhere"]["rope_scaling"]
    assert note == chosen and "whatwhere" not in json.loads(
        (tmp_path / "as it was/config.json").read_text()
    )
    found = ww.load(tmp_path / "scaled", "cpu", "float32")
    assert torch.equal(native(found), inside) and torch.equal(table(found), theta)
    assert torch.equal(rope.vision(found).theta[:3], theta.double())
    tensors, *said = everything(found)
    with pytest.raises(
        ValueError,
        match="scaled already, by .'alpha'.*leave that context first, or load it unscaled",
    ):
        with rope.scaled(found, 1, 1):
            raise AssertionError("it went in")
    assert (
        all(map(torch.equal, everything(found)[0].values(), tensors.values()))
        and [*everything(found)[1:]] == said
    )
    found.save(tmp_path / "again")  # and once more: it is not scaled twice
    assert torch.equal(native(ww.load(tmp_path / "again", "cpu", "float32")), inside)
    plain = ww.load(tmp_path / "as it was", "cpu", "float32")
    assert torch.equal(native(plain), before)
    with rope.scaled(plain, **chosen):
        assert torch.equal(native(plain), inside)


def test_transformers_alone_passes_over_the_note(vlm, tmp_path):
    theta = table(vlm).clone()
    with rope.scaled(vlm, 9, 2):
        vlm.save(tmp_path)
    assert torch.equal(table(Qwen2VLForConditionalGeneration.from_pretrained(tmp_path)), theta)


@pytest.mark.parametrize(
    "make, options",
    [(llava, {}), (llava, dict(strategy="full", tied=True)), (qwen2vl, dict(tied=True))],
)
def test_any_model_can_be_saved(make, options, tmp_path):
    make(tmp_path / "made", **options)
    vlm = ww.load(tmp_path / "made", "cpu", "float32")
    found = ww.load(vlm.save(tmp_path / "saved"), "cpu", "float32")
    assert torch.equal(vlm.logits(IMAGE, PROMPT), found.logits(IMAGE, PROMPT))
    assert vlm.answer(IMAGE, PROMPT) == found.answer(IMAGE, PROMPT)
    assert not [
        file.name
        for file in (tmp_path / "saved").iterdir()
        if file.suffix in (".bin", ".pt", ".pkl")
    ]


# -- refused
# --------------------------------------------------------------------------------------------------

WRONG = [
    *[
        ({"alpha": alpha, **rest}, "alpha is a finite number above -1")
        for alpha in (-1, -1.5, NAN, INF, -INF, True, "9", None, [9])
        for rest in ({"p": 2}, {"k": 3, "c": 0.5})
    ],
    *[
        ({"alpha": 9, "p": p}, "p is a finite number above 0")
        for p in (0, -1, NAN, INF, True, "2", [2])
    ],
    *[
        ({"alpha": 9, "k": k, "c": 0.5}, "k is a finite number above 0")
        for k in (0, -3, NAN, INF, False, "3")
    ],
    *[
        ({"alpha": 9, "k": 3, "c": c}, "c is a finite number; got")
        for c in (NAN, INF, -INF, True, "0.5")
    ],
    *[
        (
            {"alpha": 9, **rest},
            "alpha and either p, the paper's power, or both k and c, for the sigmoid",
        )
        for rest in (
            {},
            {"k": 3},
            {"c": 0.5},
            {"p": 2, "k": 3},
            {"p": 2, "c": 0.5},
            {"p": 2, "k": 3, "c": 0.5},
            {"c": 0},
        )
    ],
]


@pytest.mark.parametrize(("chosen", "says"), WRONG, ids=str)
def test_wrong_numbers_are_refused_in_a_sentence(vlm, chosen, says):
    with untouched(vlm), pytest.raises(ValueError, match=says), rope.scaled(vlm, **chosen):
        raise AssertionError("it went in")


def test_every_kind_of_model_refuses(turning):
    with (
        untouched(turning),
        pytest.raises(ValueError, match="alpha is a finite number"),
        rope.scaled(turning, -1, 2),
    ):
        raise AssertionError("it went in")


@pytest.mark.parametrize("name", ["toy-llava", "LlavaForConditionalGeneration"])
def test_a_model_without_two_axes_is_refused(tables, name):
    model = tables[name]
    assert isinstance(bare(model), LlavaForConditionalGeneration)
    before = everything(model)
    with (
        pytest.raises(ValueError, match=f"{name} has no 2-D RoPE.*model of the Qwen2-VL"),
        rope.scaled(model, 9, 2),
    ):
        raise AssertionError("it went in")
    assert same(everything(model), before)


def test_twice_is_refused_and_the_first_goes_on(turning):
    with untouched(turning), rope.scaled(turning, 9, 2):
        first = everything(turning)
        for again in ({"alpha": 9, "p": 2}, {"alpha": 0, "k": 3, "c": 0.5}):
            with pytest.raises(ValueError, match="scaled already"), rope.scaled(turning, **again):
                raise AssertionError("it went in")
            assert same(everything(turning), first)


def test_a_model_and_what_it_holds_are_one(vlm):
    with untouched(vlm), rope.scaled(vlm, 9, 2), pytest.raises(ValueError, match="scaled already"):
        with rope.scaled(vlm.model, 9, 2):
            raise AssertionError("it went in")


def noted(source, folder, note):
    """A copy of a checkpoint whose config says so of its scaling."""
    shutil.copytree(source, folder)
    config = json.loads((folder / "config.json").read_text())
    config["whatwhere"] = {**config.get("whatwhere", {}), "rope_scaling": note}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


DAMAGED = [{"alpha": "x"}, {"alpha": "x", "p": 2}, {"alpha": 9}, {"p": 2}, {"alpha": 9, "k": 3},
    {"alpha": 9, "c": 3}, {}, [], "",
           0, False, {"alpha": 9, "p": 2, "k": 3, "c": 0}, {"alpha": 9, "p": 2, "beta": 1},
           {"alpha": 9, "p": 2, "n": 3},
           "α 9, p 2", ["alpha", 9, "p", 2], 9, True, {"alpha": -1, "p": 2},
           {"alpha": None, "p": 2}, {"alpha": 9, "p": 0},
           {"alpha": NAN, "p": 2}, {"alpha": INF, "p": 2}, {"alpha": True, "p": 2},
           {"Alpha": 9, "p": 2}]  # fmt: skip


@pytest.mark.parametrize("note", DAMAGED, ids=str)
def test_a_damaged_note_is_refused_in_a_sentence(folder, note, tmp_path):
    with pytest.raises(
        ValueError,
        match="The config's note on RoPE scaling is damaged: .* does not say alpha and p, or",
    ):
        ww.load(noted(folder, tmp_path / "damaged", note), "cpu", "float32")


def test_a_note_on_a_model_without_two_axes_is_refused(tmp_path):
    llava(tmp_path / "made")
    with pytest.raises(ValueError, match="has no 2-D RoPE"):
        ww.load(
            noted(tmp_path / "made", tmp_path / "noted", {"alpha": 9, "p": 2}), "cpu", "float32"
        )


def test_a_note_written_by_hand_is_as_good(vlm, folder, tmp_path):
    with rope.scaled(vlm, 9, 2):
        inside = native(vlm)
    found = ww.load(noted(folder, tmp_path / "by hand", {"p": 2, "alpha": 9}), "cpu", "float32")
    assert torch.equal(native(found), inside)
    assert torch.equal(
        native(ww.load(noted(folder, tmp_path / "null", None), "cpu", "float32")), native(vlm)
    )
