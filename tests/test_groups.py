"""Which tokens go on as one, and which go: by hand where it is small, against a library where it is
not."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from tokenizers import Tokenizer, decoders
from tokenizers.models import WordLevel

import whatwhere as ww
from whatwhere import compress
from whatwhere.compress import groups
from whatwhere.tokens import readable, spelt


def sight(tokens, grid, attention=None, seed=0):
    return compress.Sight(tokens, grid, attention, np.random.default_rng(seed))


def test_runs_and_regions_by_hand():
    labels = np.array([[1, 1, 2], [2, 2, 2], [1, 2, 1]])
    assert groups.rows(labels).tolist() == [0, 0, 1, 2, 2, 2, 3, 4, 5]
    assert groups.raster(labels).tolist() == [0, 0, 1, 1, 1, 1, 2, 3, 4]
    regions = groups.regions(labels)
    assert regions.tolist() == [0, 0, 1, 1, 1, 1, 2, 1, 3]
    one = groups.rows(np.array([[7, 7, 7, 7]]))
    assert one.tolist() == [0] * 4 and groups.raster(np.array([[7]])).tolist() == [0]


def test_regions_are_those_of_an_image_library():
    labels = np.random.default_rng(0).integers(0, 3, (14, 9))
    found = groups.regions(labels)
    expected = np.zeros(labels.shape, int)
    for value in range(3):
        own, n = ndimage.label(labels == value)
        expected[own > 0] = own[own > 0] + expected.max()
    pairs = set(zip(found.tolist(), expected.ravel().tolist()))
    assert len(pairs) == len(set(found.tolist())) == expected.max()


def test_the_papers_methods_by_hand():
    """Words: 0 is a full stop, 1 a comma, 2 and 3 are words. Each token says first and second word
    as told."""
    said = np.array([[0, 1], [0, 2], [2, 0], [2, 3], [2, 3], [0, 1], [3, 2], [1, 0]])
    tokens = (
        torch.zeros(8, 4)
        .scatter_(1, torch.from_numpy(said[:, :1]), 2.0)
        .scatter_(1, torch.from_numpy(said[:, 1:]), 1.0)
    )
    decoder = compress.Decoder(torch.eye(4), np.array([".", ",", "cup", "red"], object))
    assert decoder.top(tokens, 2).tolist() == said.tolist() and decoder.punctuation.tolist() == [
        True,
        True,
        False,
        False,
    ]
    found = {n: compress.by_words(decoder, n)(sight(tokens, (2, 4))).tolist() for n in (1, 2, 3)}
    assert found[1] == [0, 0, 1, 1, 2, 3, 4, 5]
    assert [g >= 0 for g in found[2]] == [False, False, True, True, True, False, True, False]
    assert found[2][2] == found[2][3] != found[2][4]
    assert [g >= 0 for g in found[3]] == [False, True, True, True, True, False, True, False]
    assert groups.count(np.array(found[3])) == 4
    strict = compress.by_words(decoder, 1, same=2)(sight(tokens, (2, 4)))
    assert groups.count(strict) == 8, "equal in both words: none of these neighbours are"


# the same words in two vocabularies: each as a tokenizer keeps it, with what it spells
LLAMA = {
    "<unk>": "<unk>",
    "</s>": "</s>",
    "▁cat": " cat",
    "cat": "cat",
    "▁Cat": " Cat",
    "▁": " ",
    "▁▁": "  ",
    "": "",
    "<0x0A>": "\n",
    ".": ".",
    "<0x2E>": ".",
    "▁.": " .",
    "▁$": " $",
    "▁in": " in",
    "...": "...",
    "`": "`",
}
BYTES = {
    "<|im_end|>": "<|im_end|>",
    "<unk>": "<unk>",
    "Ġcat": " cat",
    "cat": "cat",
    "ĠCat": " Cat",
    "Ġ": " ",
    "ĠĠ": "  ",
    "": "",
    "Ċ": "\n",
    ".": ".",
    "..": "..",
    "Ġ.": " .",
    "Ġ$": " $",
    "Ġin": " in",
    "...": "...",
    "`": "`",
}


@pytest.mark.parametrize("spelling", [LLAMA, BYTES], ids=["like Llama's", "byte-level"])
def test_texts_are_what_the_tokenizer_itself_spells(spelling):
    assert spelt(list(spelling)).tolist() == list(spelling.values())
    own = Tokenizer(WordLevel({piece: n for n, piece in enumerate(spelling)}, unk_token="<unk>"))
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    own.decoder = decoders.Sequence(steps) if spelling is LLAMA else decoders.ByteLevel()
    assert [own.decode([n], skip_special_tokens=False) for n in range(len(spelling))] == list(
        spelling.values()
    )
    assert spelt(["▁a", None]).tolist() == [" a", "‹1›"]


@pytest.mark.parametrize("name", ["hub/llava", "hub/qwen2_5_vl"])
def test_texts_are_what_the_hubs_own_kinds_of_tokenizer_spell(folders, name):
    """But for a blank at the start, which Llama's leaves out of what it decodes, and for parts of
    characters."""
    vlm = ww.load(folders / name, device="cpu")
    own = vlm.tokenizer
    due = [own.decode([n], clean_up_tokenization_spaces=False) for n in range(len(own))]
    found = [text.removeprefix(" ") if name == "hub/llava" else text for text in vlm.texts]
    assert [(a, b) for a, b in zip(found, due) if a != b and "\ufffd" not in b] == []
    dropped = {text for text, blank in zip(vlm.texts, compress.punctuation(vlm.texts)) if blank}
    assert {".", "\n", " "} < dropped and not any(c.isalnum() for text in dropped for c in text)


@pytest.mark.parametrize("spelling", [LLAMA, BYTES], ids=["like Llama's", "byte-level"])
def test_methods_go_by_what_words_spell(spelling):
    """One patch for each word of a vocabulary of pieces, and which of them is said second."""
    pieces, n = list(spelling), len(spelling)
    decoder = compress.Decoder(torch.eye(n), readable(pieces), texts=spelt(pieces))

    def chosen(number, first, second=None, **how):
        tokens = torch.eye(n)[[pieces.index(each) for each in first]]
        if second is not None:
            tokens = tokens + torch.eye(n)[[pieces.index(each) for each in second]] / 2
        return compress.by_words(decoder, number, **how)(sight(tokens, (1, len(tokens)))).tolist()

    cat, other, capital, blank = pieces[2], pieces[3], pieces[4], pieces[5]
    inside, newline, dollar = pieces[13], pieces[8], pieces[12]
    assert chosen(1, [cat, other, cat, capital]) == [0, 0, 0, 1], (
        "a word's start is the same word, a capital is not"
    )
    assert chosen(1, [".", pieces[11], ".", blank, ""]) == [0, 0, 0, 1, 1]
    kept = [group >= 0 for group in chosen(2, pieces)]
    assert [piece for piece, stays in zip(pieces, kept) if stays] == [*pieces[:5], inside]
    kept = [group >= 0 for group in chosen(2, pieces, marks="paper-in")]
    assert [piece for piece, stays in zip(pieces, kept) if stays] == pieces[:5]
    kept = [
        group >= 0
        for group in chosen(2, [newline, dollar, "`", blank, "", ".", "..."], marks="unicode")
    ]
    assert kept == [True] * 5 + [False] * 2
    assert [group >= 0 for group in chosen(3, [".", ".", cat], [dollar, other, "."])] == [
        False,
        True,
        True,
    ]
    twice = chosen(1, [cat, other, cat], [".", pieces[11], dollar], same=2)
    assert twice == [0, 0, 1], "two words are the same if both are spelt the same"


def test_a_byte_that_is_no_character_stays_itself():
    pieces = ["▁a", "<0xE4>", "<0xB8>"]
    decoder = compress.Decoder(torch.eye(3), readable(pieces), texts=spelt(pieces))
    assert not decoder.punctuation.any()
    assert compress.by_words(decoder, 1)(sight(torch.eye(3), (1, 3))).tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", ["toy-llava", "toy-qwen2vl"])
def test_in_the_organisms_all_sets_and_both_ways_to_compare_are_one(name):
    """So that chapter 6's rows are what they were before words were compared by what they spell."""
    vlm = ww.load(name)
    texts = list(vlm.texts)
    assert texts == list(vlm.words) and len(set(texts)) == len(texts)
    sets = {marks: compress.punctuation(texts, marks).tolist() for marks in ("paper", "unicode")}
    assert sets["paper"] == sets["unicode"] and [
        t for t, one in zip(texts, sets["paper"]) if one
    ] == [".", ",", "?", ":"]


@pytest.mark.parametrize("name", compress.BASELINES)
@pytest.mark.parametrize("grid", [(12, 12), (3, 7), (1, 5), (6, 1)])
def test_baselines_leave_as_many_as_they_are_told(name, grid):
    n = grid[0] * grid[1]
    tokens = torch.randn(n, 8, generator=torch.Generator().manual_seed(0))
    looked = sight(tokens, grid, lambda layer: np.random.default_rng(layer).random(n))
    for keep in sorted({1, 2, n // 3 or 1, n - 1 or 1, n, n + 5}):
        found = compress.BASELINES[name](keep)(looked)
        assert found.shape == (n,) and groups.count(found) == min(keep, n), (name, grid, keep)
        if name in ("grid", "tome-like"):
            assert (found >= 0).all(), "it merges, it drops nothing"
    assert groups.count(compress.BASELINES[name](0.5)(looked)) == max(1, round(n / 2))
    assert groups.count(compress.BASELINES[name](lambda s: np.zeros(n, int))(looked)) == 1


def test_a_uniform_grid_is_uniform():
    found = compress.BASELINES["grid"](9)(sight(torch.zeros(144, 2), (12, 12))).reshape(12, 12)
    assert np.unique(found, return_counts=True)[1].tolist() == [16] * 9
    for value in range(9):
        rows, columns = np.where(found == value)
        assert np.ptp(rows) == np.ptp(columns) == 3


def test_merging_by_similarity_merges_what_is_alike():
    # each has a copy on the other side, so that four merges make no mistake
    kind = np.array([0, 0, 1, 1, 2, 2, 0, 0])
    noise = 0.01 * torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    found = compress.BASELINES["tome-like"](4)(sight(torch.eye(3)[kind] + noise, (2, 4)))
    assert len(set(zip(found.tolist(), kind.tolist()))) == 4
    tokens = torch.tensor([[1.0, 0], [1, 0.1], [0, 1], [-1, 0]])
    assert compress.BASELINES["tome-like"](3)(sight(tokens, (1, 4))).tolist() == [0, 0, 1, 2]


def test_every_method_says_what_it_needs():
    """With what it names and nothing else, it chooses; without, it cannot."""
    decoder, grid = (
        compress.Decoder(torch.eye(4), np.array([".", ",", "cup", "red"], object)),
        (2, 4),
    )
    tokens, drawn = (
        torch.randn(8, 4, generator=torch.Generator().manual_seed(0)),
        np.random.default_rng(0),
    )
    known = [compress.by_words(decoder, name) for name in compress.WORDS] + [
        make(3) for make in compress.BASELINES.values()
    ]
    assert [method.name for method in known] == [*compress.WORDS, *compress.BASELINES]
    for method in known:
        assert method.place == "LM 0" and ("decoder" in method.needs) == (
            method.name in compress.WORDS
        )
        bare = compress.Sight(tokens, grid, rng=drawn)
        if "attention" in method.needs:
            with pytest.raises(TypeError):
                method(bare)
            bare = compress.Sight(tokens, grid, lambda layer: np.arange(8.0), drawn)
        assert len(method(bare)) == 8


def test_methods_are_known_by_the_papers_numbers_and_by_their_former_names():
    names = {
        1: "rle",
        2: "rle-drop",
        3: "rle-drop-both",
        "similar": "tome-like",
        "attended": "fastv-rank",
        "grid": "grid",
    }
    assert {which: compress.named(which) for which in names} == names
    for wrong in (0, True, "2", None, 1.0, ["rle"]):
        with pytest.raises(
            ValueError,
            match="^No method .*; there are rle, rle-drop, rle-drop-both, random, grid, ",
        ):
            compress.named(wrong)


def test_a_method_that_is_none_is_refused():
    with pytest.raises(ValueError, match="groups are a function of a Sight, not 3"):
        compress.Method("m", 3)
    with pytest.raises(
        ValueError,
        match="No need of a method 'luck'; there are decoder, question, attention, states",
    ):
        compress.Method("m", len, needs=("luck",))
