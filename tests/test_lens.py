"""The lens is exact where it can be checked, puts words in the right cells, and keeps its memory
small."""

import copy
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import regex
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import Unigram
from transformers import PreTrainedTokenizerFast

import shapes
import whatwhere as ww
from closeness import SAME, apart
from whatwhere import lens, stages, tokens, world
from whatwhere.book.rehearsal.checkpoints import llava


@pytest.fixture(scope="module", params=shapes.LENS)
def vlm(request, checkpoint):
    return ww.load(checkpoint(request.param))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    llava(folder)
    return ww.load(folder)


def token(vlm):
    """Pixels along the side of one of Qwen's visual tokens."""
    return vlm.image_processor.patch_size * vlm.image_processor.merge_size


def picture(vlm, seed=0, scale=1):
    """Of the size the ViT takes, and not square where it need not be."""
    size = vlm.seen(Image.new("RGB", (24, 24))).size if "qwen" not in vlm.family else None
    size = size or (6 * scale * token(vlm), 4 * scale * token(vlm))
    return Image.fromarray(
        np.random.default_rng(seed).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)
    )


def twice_resized(vlm):
    """SmolVLM's image processor makes a picture of the ViT's size larger, and then small again."""
    return vlm.family in ("smolvlm", "idefics3")


@torch.no_grad()
def test_last_depth_and_layer_are_the_models_own_logits(vlm):
    image = picture(vlm)
    maps = lens.token_maps(vlm, image, "is there a cup?", layer=vlm.n_layers, top_k=7)
    inputs = vlm.prepare(image, "is there a cup?")
    logits = vlm.model(**inputs).logits[0]  # the whole prompt, by transformers
    expected = logits[vlm.positions(image).index].softmax(-1).topk(7)
    rows, columns = vlm.patch_grid(image)
    assert maps.top_ids.shape == maps.probabilities.shape == (vlm.last_depth + 1, rows, columns, 7)
    assert apart(maps.probabilities[-1].reshape(-1, 7), expected.values) < SAME
    assert (maps.top_ids[-1].reshape(-1, 7) == expected.indices.numpy()).all()


@torch.no_grad()
def test_every_depth_and_layer_is_the_full_forward_of_a_shorter_vit(vlm):
    """Nothing is lost by stopping after the visual tokens, at `layer`, with every depth in one
    pass."""
    image = picture(vlm)
    inputs = vlm.prepare(image, "what colour is the bear ?")
    index = vlm.positions(image).index
    for layer in (0, 1, vlm.n_layers - 1):
        maps = lens.token_maps(vlm, image, layer=layer, batch_size=2)
        for depth in range(1, vlm.last_depth + 1):
            out = shapes.cut(vlm, depth)(**inputs, output_hidden_states=True)
            expected = (
                vlm.unembedding(vlm.final_norm(out.hidden_states[layer][0, index]))
                .softmax(-1)
                .topk(5)
            )
            assert apart(maps.probabilities[depth].reshape(-1, 5), expected.values) < SAME


def test_the_question_after_the_image_changes_nothing(vlm):
    image = picture(vlm)
    one, other = (
        lens.token_maps(vlm, image, question)
        for question in ("", "is there a red bear on the left ?")
    )
    assert np.array_equal(one.top_ids, other.top_ids) and np.array_equal(
        one.probabilities, other.probabilities
    )


def test_a_list_is_as_one_by_one(vlm):
    images = [picture(vlm, seed) for seed in range(3)]
    together = lens.token_maps(vlm, images, batch_size=2)
    for image, maps in zip(images, together):
        alone = lens.token_maps(vlm, image)
        assert apart(alone.probabilities, maps.probabilities) < SAME
        assert maps.image.size == alone.image.size
    unequal = [picture(vlm), picture(vlm, 1, scale=2)]
    for image, maps in zip(unequal, lens.token_maps(vlm, unequal)):
        assert maps.ids.shape[1:] == vlm.patch_grid(image)
        assert apart(lens.token_maps(vlm, image).probabilities, maps.probabilities) < SAME


def cells(vlm, painted):
    """Rows and columns of the visual tokens that `painted` changes, where a token sees only its own
    patch."""
    plain = Image.new("RGB", painted.size, (90, 90, 90))
    before, after = (vlm.visual_tokens(image, 0) for image in (plain, painted))
    changed = (before - after).abs().amax(-1).reshape(
        vlm.patch_grid(painted)
    ) > SAME * before.abs().max()
    return {tuple(cell) for cell in changed.nonzero().tolist()}


@pytest.mark.parametrize(
    "corner", ["top left", "top right", "bottom left", "bottom right", "middle"]
)
def test_a_painted_cell_changes_that_cell(vlm, corner):
    image = Image.new("RGB", picture(vlm).size, (90, 90, 90))
    rows, columns = vlm.patch_grid(image)
    row = {"top": 0, "bottom": rows - 1, "middle": rows // 2}[corner.split()[0]]
    column = {"left": 0, "right": columns - 1, "middle": columns // 2}[corner.split()[-1]]
    high, wide = image.height // rows, image.width // columns
    soft = wide // 4 if twice_resized(vlm) else 0  # of edges, within the cell
    painted = (
        column * wide + soft,
        row * high + soft,
        (column + 1) * wide - soft,
        (row + 1) * high - soft,
    )
    image.paste((250, 20, 20), painted)
    share = (wide - 2 * soft) * (high - 2 * soft) / (wide * high)
    assert cells(vlm, image) == {(row, column)}
    plain = lens.token_maps(
        vlm, Image.new("RGB", image.size, (90, 90, 90)), layer=0, depths=[0], top_k=1
    )
    painted = lens.token_maps(vlm, image, layer=0, depths=[0], top_k=1)
    changed = (
        np.abs(plain.probabilities - painted.probabilities)[0, ..., 0]
        > SAME * plain.probabilities.max()
    )
    assert changed[row, column] and changed.sum() == 1
    # the picture under the words shows it in the same place
    seen = np.asarray(painted.image).astype(int)
    red = (seen[..., 0] - seen[..., 1] > 100).reshape(rows, high, columns, wide).mean((1, 3))
    assert red[row, column] > 0.9 * share and red.sum() < 1.2 * share


def test_by_hand(small):
    """Two numbers, three words: RMS norm, unembedding and softmax worked out on paper."""
    vlm = copy.copy(small)
    vlm.final_norm = torch.nn.RMSNorm(2, eps=0)
    vlm.final_norm.weight.data = torch.tensor([1.0, 2.0])
    vlm.unembedding = torch.nn.Linear(2, 3, bias=False)
    vlm.unembedding.weight.data = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    vlm.__dict__["words"] = np.array(["x", "y", "both"], dtype=object)
    # [3, 4]: mean square 12.5, so the norm gives [3, 4] / sqrt(12.5) * [1, 2] = [0.8485, 2.2627]
    # logits 0.8485, 2.2627, 3.1113; exponentials 2.3362, 9.6094, 22.4492; sum 34.3948
    reading = lens.logit_lens(vlm, torch.tensor([[3.0, 4.0]]), top_k=3)
    assert reading.words.tolist() == [["both", "y", "x"]] and reading.ids.tolist() == [[2, 1, 0]]
    assert np.allclose(reading.scores, [[0.6527, 0.2794, 0.0679]], atol=1e-4)
    # without the norm: logits 3, 4, 7; exponentials 20.0855, 54.5982, 1096.6332; sum 1171.3169
    reading = lens.logit_lens(vlm, torch.tensor([3.0, 4.0]), top_k=2, norm=False)
    assert reading.words.tolist() == ["both", "y"]
    assert np.allclose(reading.scores, [0.9362, 0.0466], atol=1e-4)


def test_memory_does_not_grow_with_depths_times_vocabulary(small, monkeypatch):
    vlm, linear, sizes = small, torch.nn.functional.linear, []

    def counted(rows, weight, *bias):
        sizes.append(len(rows) * len(weight))
        return linear(rows, weight, *bias)

    usual = lens.token_maps(vlm, [picture(vlm)] * 3, top_k=7)
    # fewer words than are wanted of them
    monkeypatch.setattr(lens.readers, "_tile", lambda weight: (20, 5))
    monkeypatch.setattr(lens.readers.F, "linear", counted)
    # the LM's own matrices come before it
    vlm.final_norm.register_forward_pre_hook(lambda *_: sizes.clear())
    tiled = lens.token_maps(vlm, [picture(vlm)] * 3, top_k=7)
    vlm.final_norm._forward_pre_hooks.clear()
    assert max(sizes) <= 20 * 5 and sum(sizes) == (3 * (vlm.last_depth + 1) * 16 % 20 or 20) * len(
        vlm.words
    )
    for one, other in zip(usual, tiled):
        assert (one.top_ids == other.top_ids).all() and apart(
            one.probabilities, other.probabilities
        ) < SAME


def test_a_wide_model_is_given_fewer_sequences_at_once(small, monkeypatch):
    batches = []
    handle = small.lm_layers[0].register_forward_pre_hook(
        lambda _, args: batches.append(len(args[0]))
    )
    maps = lens.token_maps(small, [picture(small)] * 9)
    assert max(batches) == lens.maps.MOST and sum(batches) == 9 * (small.last_depth + 1)
    batches.clear()
    monkeypatch.setattr(lens.maps, "MOST", 1)
    alone = lens.token_maps(small, [picture(small)] * 9)
    handle.remove()
    assert set(batches) == {1} and apart(alone[0].probabilities, maps[0].probabilities) < SAME


def test_one_vit_pass_and_no_later_block(small):
    vlm, ran = small, []
    handles = [
        block.register_forward_hook(lambda *_, n=n: ran.append(("vit", n)))
        for n, block in enumerate(vlm.vision_blocks)
    ]
    handles += [
        block.register_forward_hook(lambda *_, n=n: ran.append(("lm", n)))
        for n, block in enumerate(vlm.lm_layers)
    ]
    lens.token_maps(vlm, picture(vlm), layer=1, depths=[0, 2])
    for handle in handles:
        handle.remove()
    assert ran == [("vit", 0), ("vit", 1), ("lm", 0)]


def test_fields(small):
    maps = lens.token_maps(small, picture(small), depths=[0, 3], top_k=3)
    assert maps.depths == [0, 3] and maps.layer == small.lens_layer
    assert maps.words.shape == maps.ids.shape == (2, 4, 4) and maps.top_words.shape == (2, 4, 4, 3)
    assert (np.diff(maps.probabilities) <= 0).all()
    assert maps.word_at(1, 2).tolist() == maps.words[:, 1, 2].tolist()
    assert "2 ViT depths, 4 × 4 patches" in repr(maps)
    table = maps.to_pandas()
    assert (
        list(table.columns) == ["depth", "row", "column", "rank", "word", "probability"]
        and len(table) == 2 * 16 * 3
    )
    line = table[
        (table.depth == 3) & (table.row == 1) & (table.column == 2) & (table["rank"] == 2)
    ].iloc[0]
    assert (
        line.word == maps.top_words[1, 1, 2, 1]
        and line.probability == maps.probabilities[1, 1, 2, 1]
    )
    assert lens.token_maps(small, picture(small), depths=2).depths == [2]


def test_two_sliders_carry_every_depth_and_layer(small):
    shown = lens.explore(small, picture(small), layers=[0, 3], depths=[1, 2])
    assert shown.depths == [1, 2] and shown.layers == [0, 3]
    for n, (layer, depth) in enumerate([(0, 1), (0, 2), (3, 1), (3, 2)]):
        alone = lens.token_maps(small, picture(small), layer=layer, depths=[depth], top_k=3)
        assert (shown.words[n] == alone.top_words[0]).all()
        assert f"ViT depth {depth}, LM layer {layer}." in shown.html(n)
    assert len(lens.explore(small, picture(small)).words) == (small.last_depth + 1) * (
        small.n_layers + 1
    )
    with pytest.raises(ValueError, match="at least one LM layer"):
        lens.explore(small, picture(small), layers=[])


def test_hits_are_whole_words():
    vocabulary = np.array(["bear", "b", "Bear", "bearing", "‹3›", "∅"], dtype=object)
    ids = np.array([0, 1, 2, 3, 4, 5]).reshape(1, 2, 3, 1).repeat(2, -1)
    ids[..., 1] = 0
    maps = lens.TokenMaps(ids, np.ones(ids.shape), [0], 1, None, vocabulary)
    assert maps.hits({"bear"}).tolist() == [[[True, False, True], [False, False, False]]]
    assert maps.hits("b").sum() == 1
    assert maps.hits({"BEAR"}).sum() == 2
    assert maps.hits({""}).sum() == maps.hits(set()).sum() == maps.hits({"polar bear"}).sum() == 0
    assert maps.hits({"bear"}, k=2).all()


def llama_like(words):
    """A tokenizer as LLaMA's: SentencePiece's marks, and pieces for the words that it does not
    know."""
    core = Tokenizer(Unigram([("<unk>", 0.0), *((word, -1.0) for word in words)], unk_id=0))
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>")


def test_forms_of_words():
    pieces = [
        "▁bear",
        "bear",
        "▁Bear",
        "▁bears",
        "▁bearing",
        "▁cand",
        "le",
        "▁m",
        "ug",
        "▁stri",
        "ped",
        "ct",
        "▁dot",
        "ted",
        "▁berries",
        "▁box",
        "▁boxes",
        "▁a",
        "s",
        "▁as",
        "▁blue",
        "▁polar",
        "▁",
    ]
    model = SimpleNamespace(tokenizer=llama_like(pieces))
    names = model.tokenizer.convert_ids_to_tokens(range(len(model.tokenizer)))
    model.words = tokens.readable(names)

    def shows(*words):
        return {word: {names[n] for n in ids} for word, ids in lens.forms(model, words).ids.items()}

    assert shows("bear", "Bear") == {
        each: {"▁bear", "bear", "▁Bear", "▁bears"} for each in ("bear", "Bear")
    }
    assert shows("box", "berry", "a") == {
        "box": {"▁box", "▁boxes"},
        "berry": {"▁berries"},
        "a": {"▁a"},
    }
    assert shows("candle", "dotted") == {"candle": {"▁cand"}, "dotted": {"▁dot"}}
    assert lens.forms(model, "striped")["striped"].tolist() == [names.index("▁stri")]
    both = lens.forms(
        model, ["striped", "strict", "dotted", "dot", "blue", "mug", "polar bear", ""]
    )
    assert both.collisions == {"stri": ("striped", "strict"), "dot": ("dotted", "dot")}
    assert both.missing == ("striped", "strict", "dotted", "mug", "polar bear", "") and set(
        both.ids
    ) == {"dot", "blue"}
    ids = np.array([[[[names.index(piece)] for piece in ("▁cand", "▁stri", "▁m")]]])
    maps = lens.TokenMaps(ids, np.ones(ids.shape), [0], 1, None, model.words, model.tokenizer)
    assert maps.hits("candle").tolist() == [[[True, False, False]]]
    assert maps.hits(["striped", "mug"]).tolist() == [[[False, True, False]]]


@pytest.mark.parametrize("name", ["toy-llava", "toy-qwen2vl"])
def test_every_word_of_the_organisms_world_is_one_token(name):
    vlm = ww.load(name, device="cpu", dtype="float32")
    words = [word for own in stages.by_kind(world.vocabulary()).values() for word in own] + list(
        world.CHARACTERS
    )
    found = lens.forms(vlm, words)
    assert not found.missing and not found.collisions
    assert {word: vlm.words[ids].tolist() for word, ids in found.ids.items()} == {
        word: [word] for word in words
    }


def test_refusals(small):
    image = picture(small)
    for layer in (-1, 4, 1.0, True):
        with pytest.raises(ValueError, match="layer is a whole number from 0 to 3"):
            lens.token_maps(small, image, layer=layer)
    with pytest.raises(ValueError, match="depth is a whole number from 0 to 3"):
        lens.token_maps(small, image, depths=[4])
    for top_k in (0, 10**6, 1.5):
        with pytest.raises(ValueError, match="top_k is a whole number from 1 to"):
            lens.token_maps(small, image, top_k=top_k)
    with pytest.raises(ValueError, match="at least one image and one depth"):
        lens.token_maps(small, [])
    with pytest.raises(ValueError, match="at least one image and one depth"):
        lens.token_maps(small, image, depths=[])
    with pytest.raises(FileNotFoundError, match="no file"):
        lens.token_maps(small, "no-such-photo.jpg")


def test_any_picture(small, tmp_path):
    image = picture(small)
    image.save(tmp_path / "photo.png")
    expected = lens.token_maps(small, image).top_ids
    for given in (tmp_path / "photo.png", str(tmp_path / "photo.png"), np.asarray(image)):
        assert np.array_equal(lens.token_maps(small, given).top_ids, expected)


@pytest.mark.parametrize(
    "piece, shown",
    [
        ("▁bear", "bear"),
        ("bear", "bear"),
        ("▁", "␣"),
        ("▁▁", "␣␣"),
        ("<0x0A>", "⏎"),
        ("<0x41>", "A"),
        ("<0xE4>", "‹E4›"),
        ("<0x00>", "‹U+0000›"),
        ("\u200b", "‹U+200B›"),
        ("▁\u200b", "‹U+200B›"),
        ("▁\u3000", "␣‹U+3000›"),
        ("a\u202ecba", "a‹U+202E›cba"),
        ("\ufeffcat", "‹U+FEFF›cat"),
        ("co\xadop", "co‹U+00AD›op"),
        ("\xa0", "‹U+00A0›"),
        ("\u2028", "‹U+2028›"),
        ("\x7f", "‹U+007F›"),
        ("\ue000", "‹U+E000›"),
        ("\ud800", "‹U+D800›"),
        ("\u0378", "‹U+0378›"),
        ("\u3164", "‹U+3164›"),
        ("\u2800", "‹U+2800›"),
        ("❤\ufe0f", "❤‹U+FE0F›"),
        ("\u0301", "◌\u0301"),
        ("▁\u0301a", "◌\u0301a"),
        ("\u200b\u0301", "‹U+200B›◌\u0301"),
        ("e\u0301\u0302", "e\u0301\u0302"),
        ("ा", "◌ा"),
        ("हिन्दी", "हिन्दी"),
        ("שלום", "שלום"),
        ("中文", "中文"),
        ("😀", "😀"),
        ("naïve", "naïve"),
        ("<s>", "<s>"),
        (None, "‹0›"),
    ],
)
def test_sentencepiece_is_readable(piece, shown):
    assert tokens.readable([piece]).tolist() == [shown]


@pytest.mark.parametrize(
    "piece, shown",
    [
        ("Ġbear", "bear"),
        ("Ċ", "⏎"),
        ("Ġ", "␣"),
        ("Ã©", "é"),
        ("ä¸", "‹E4B8›"),
        ("<|im_end|>", "<|im_end|>"),
        ("ĠĠ", "␣␣"),
        ("ĉ", "⇥"),
        ("âĢĭ", "‹U+200B›"),
        ("ãĢĢ", "‹U+3000›"),
        ("Ā", "‹U+0000›"),
        ("Ġ×©", "ש"),
    ],
)
def test_byte_level_is_readable(piece, shown):
    assert tokens.readable([piece, "Ġis"]).tolist() == [shown, "is"]


def test_nothing_in_a_word_is_unseen_or_turns_the_text():
    """Over all of Unicode, by the properties that another package's tables give."""
    # of the others nothing is assigned
    planes = [*range(0x40000), *range(0xE0000, 0xE1000), sys.maxunicode]
    every = [chr(code) for code in planes if chr(code) != "Ġ"]  # which means bytes
    shown = "".join(tokens.readable(every))
    assert not regex.findall(
        r"[\p{Default_Ignorable_Code_Point}\p{White_Space}\p{Bidi_Control}\p{C}\p{Z}]", shown
    )
    assert set("éש中😀กa$\\") <= set(shown)


@pytest.mark.parametrize(
    "word, wide",
    [("", 0), ("bear", 4), ("中文", 4), ("😀", 2), ("e\u0301", 1), ("‹U+200B›", 8), ("שלום", 4)],
)
def test_the_width_of_a_word_is_in_letters(word, wide):
    assert tokens.columns(word) == wide


def test_llamas_vocabulary_has_a_letter_that_byte_level_ones_write_for_a_blank():
    assert tokens.readable(["▁bear", "▁the", "ção", "Ġ", "<0x0A>"]).tolist() == [
        "bear",
        "the",
        "ção",
        "Ġ",
        "⏎",
    ]
    assert tokens.readable(["Ġbear", "Ġthe", "Ã©", "<｜end▁of▁sentence｜>"]).tolist()[:3] == [
        "bear",
        "the",
        "é",
    ]


def test_the_picture_under_the_words_is_the_picture(vlm):
    """To the pixel, where nothing is resized: patches are put back where they were."""
    image = picture(vlm)
    shown, own = np.asarray(lens.token_maps(vlm, image, depths=[0]).image), np.asarray(image)
    if twice_resized(vlm):
        assert shown.shape == own.shape and np.corrcoef(shown.ravel(), own.ravel())[0, 1] > 0.95
    else:
        assert np.array_equal(shown, own)
