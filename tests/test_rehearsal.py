"""Every chapter's calls on every family's true class: they work, or say why not; and 4-bit loading
asks for what it needs."""

import json
import re

import pytest
import torch
from safetensors import safe_open
from transformers import AutoTokenizer

import whatwhere as ww
from tools.course import chapters
from tools.trials import rehearse
from whatwhere.book import rehearsal
from whatwhere.book.rehearsal.hub import precision

pytestmark = pytest.mark.usefixtures("one_thread")
NO_ROTATIONS, ONE_TENSOR, TWICE = (
    "has no 2-D RoPE",
    "which no hook reaches",
    "by a table and by 2-D RoPE",
)
# "m" and "st" say too little
NO_PIECE = r"'mug', 'stool': no word of .*, nor a first piece that is long enough"
TABLE_OF_POSITIONS = {
    "queries and keys of the ViT's 2-D RoPE": NO_ROTATIONS, "RoPE scaling": NO_ROTATIONS,
    "an answer's dependence on row and column": NO_ROTATIONS,
}  # fmt: skip
REFUSED = {
    "llava": TABLE_OF_POSITIONS | {"is it there? by the words of a map": NO_PIECE},
    "qwen2_vl": {},
    "qwen2_5_vl": {},
    "qwen3_vl": {
        "patches moved elsewhere": TWICE,
        "an answer's dependence on row and column": TWICE,
        "a thing's tokens replaced, by object masks": "after LM layers 1 to 2 .DeepStack.",
    },
    "internvl": TABLE_OF_POSITIONS | {"patches moved elsewhere": ONE_TENSOR},
    "idefics3": TABLE_OF_POSITIONS,
}


@pytest.mark.filterwarnings("ignore:.*no token")
@pytest.mark.parametrize("family", rehearsal.FAMILIES)
def test_every_call_works_or_says_why_not(family, folders):
    vlm = ww.load(folders / "hub" / family)
    before = [p.clone() for p in vlm.model.parameters()]
    tour = rehearsal.tour(vlm, ww.world.scene(seed=3).image)
    known = {int(path.stem[:2]) for path in chapters.NOTEBOOKS}
    assert len(tour) == 23 and set(tour["chapter"]) <= known
    for _, (_, what, works) in tour.iterrows():
        due = REFUSED[family].get(what, "yes")
        assert re.search(due, works) and (due == "yes") == (works == "yes"), (what, works)
    assert all(a.equal(b) for a, b in zip(before, vlm.model.parameters()))
    assert not vlm.lm._forward_pre_hooks and not vlm.adapter.vision._forward_pre_hooks


# -- the hub's layout
# -------------------------------------------------------------------------------------------------

NAMES = {  # some of the weights' names in the published indices
    "llava": ("language_model.lm_head.weight",
        "language_model.model.layers.0.self_attn.q_proj.weight",
              "multi_modal_projector.linear_1.bias",
              "vision_tower.vision_model.pre_layrnorm.weight"),
    "qwen2_vl": ("model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight",
        "visual.merger.mlp.0.weight"),
    "qwen2_5_vl": ("lm_head.weight", "model.norm.weight", "visual.blocks.0.mlp.gate_proj.bias",
        "visual.patch_embed.proj.weight"),
    "qwen3_vl": ("model.language_model.layers.0.self_attn.q_norm.weight",
        "model.visual.pos_embed.weight",
                 "model.visual.deepstack_merger_list.1.linear_fc1.bias",
                 "model.visual.blocks.0.attn.qkv.weight"),
    "idefics3": ("lm_head.weight", "model.text_model.layers.0.self_attn.q_proj.weight",
        "model.vision_model.post_layernorm.bias",
                 "model.connector.modality_projection.proj.weight"),
    "internvl": ("language_model.lm_head.weight", "language_model.model.norm.weight",
        "multi_modal_projector.layer_norm.weight",
                 "vision_tower.encoder.layer.0.lambda_1"),
}  # fmt: skip
PUBLISHED = {  # tokens, rows of the embedding, files of weights
    "llava": (32002, 32064, 3), "qwen2_vl": (151657, 151936, 2), "qwen2_5_vl": (151665, 152064, 5),
    "internvl": (151675, 151674, 1), "qwen3_vl": (151669, 151936, 1), "idefics3": (49280, 49280, 1),
}  # fmt: skip


@pytest.mark.parametrize("family", rehearsal.FAMILIES)
def test_weights_are_named_and_spread_as_on_the_hub(family, folders):
    files = sorted((folders / "hub" / family).glob("*.safetensors"))
    held = {}
    for path in files:
        with safe_open(path, "pt") as file:
            held |= {name: (path.name, str(file.get_tensor(name).dtype)) for name in file.keys()}
    assert set(NAMES[family]) <= held.keys() and len(files) == PUBLISHED[family][2]
    todays = ("model.language_model", "model.visual", "model.vision_tower")
    assert any(name.startswith(todays) for name in held) == (family == "qwen3_vl")
    # those of Qwen2-VL-2B and Qwen3-VL-2B are tied, the others' stand elsewhere
    assert ("lm_head.weight" in held) == (family in ("qwen2_5_vl", "idefics3"))
    config = json.loads((folders / "hub" / family / "config.json").read_text())
    assert {dtype for _, dtype in held.values()} == {f"torch.{precision(config)}"}
    if len(files) > 1:
        index = json.loads((folders / "hub" / family / "model.safetensors.index.json").read_text())
        assert index["weight_map"] == {name: file for name, (file, _) in held.items()}


@pytest.mark.parametrize("family", rehearsal.FAMILIES)
def test_tokens_stand_where_they_stand_on_the_hub(family, folders):
    """After the words, and in the published order, here by less; rows beyond the tokens, or a token
    beyond the rows."""
    tokenizer = AutoTokenizer.from_pretrained(folders / "hub" / family)
    marks = {mark: n for mark, n in rehearse.MARKS[family].items() if n > 2}
    assert len({n - tokenizer.convert_tokens_to_ids(mark) for mark, n in marks.items()}) == 1
    tokens, rows, _ = PUBLISHED[family]
    ours = len(ww.load(folders / "hub" / family).words)
    assert (ours > len(tokenizer)) == (rows > tokens) and (ours - len(tokenizer) == -1) == (
        rows - tokens == -1
    )


@torch.no_grad()
@pytest.mark.parametrize("family", rehearsal.FAMILIES)
def test_saved_in_todays_layout_and_loaded_again(family, folders, tmp_path):
    vlm, image = ww.load(folders / "hub" / family), ww.world.scene(seed=3).image
    again = ww.load(vlm.save(tmp_path / "again"))
    assert torch.equal(
        vlm.logits(image, "Is there a striped mug?"), again.logits(image, "Is there a striped mug?")
    )
    assert (again.words == vlm.words).all()


def test_llamas_words_are_its_pieces(folders):
    """The world's nine words that are two pieces of the published vocabulary are the same two here;
    and no more are."""
    vlm = ww.load(folders / "hub" / "llava")
    words = [
        word for kind in ("category", "attribute", "background") for word in ww.world.words_of(kind)
    ]
    split = {word: vlm.tokenizer.tokenize(word) for word in words}
    assert {word: "|".join(pieces) for word, pieces in split.items() if len(pieces) > 1} == {
        "bottle": "▁bott|le", "bowl": "▁bow|l", "candle": "▁cand|le", "mug": "▁m|ug",
        "stool": "▁st|ool", "purple": "▁pur|ple", "pink": "▁p|ink", "striped": "▁strip|ed",
        "dotted": "▁d|otted",
    }  # fmt: skip
    assert set(words) - {word for word in split if len(split[word]) > 1} <= set(vlm.words)
    assert "Ġ" in vlm.words and "⏎" in vlm.words


def test_a_family_without_a_rehearsal(tmp_path):
    with pytest.raises(
        ValueError, match="no rehearsal for the family 'gpt'; there are llava, qwen2_vl"
    ):
        rehearsal.tiny_random(tmp_path, "gpt")
    with pytest.raises(
        ValueError, match="no layout 'old' of a rehearsal; there are hub and transformers"
    ):
        rehearsal.tiny_random(tmp_path, layout="old")


def test_a_fault_in_the_code_is_no_refusal(monkeypatch, tmp_path):
    vlm = ww.load(rehearsal.tiny_random(tmp_path / "llava", "llava"))
    monkeypatch.setattr(vlm, "vit_states", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        rehearsal.tour(vlm, ww.world.scene(seed=3).image)


def test_four_bits_need_bitsandbytes(monkeypatch, tmp_path):
    from whatwhere import loading

    folder = rehearsal.tiny_random(tmp_path / "llava", "llava")
    monkeypatch.setattr(loading, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="needs bitsandbytes.*`pip install bitsandbytes"):
        ww.load(folder, dtype="4-bit")


def test_four_bits_where_bitsandbytes_is(tmp_path):
    pytest.importorskip("bitsandbytes")
    folder = rehearsal.tiny_random(tmp_path / "qwen2_vl", "qwen2_vl")
    vlm, picture = ww.load(folder, dtype="4-bit"), ww.world.scene(seed=3).image
    assert type(vlm.lm_layers[0].mlp.down_proj).__name__ == "Linear4bit"
    assert vlm.answer(picture, "what is this ?", max_new_tokens=2)
    assert ww.lens.token_maps(vlm, picture).ids.shape[0] == vlm.last_depth + 1


def test_a_folder_has_no_revision(tmp_path):
    folder = rehearsal.tiny_random(tmp_path / "llava", "llava")
    with pytest.raises(ValueError, match="only the hub's models have revisions"):
        ww.load(folder, revision="abc")
