"""The organisms in JavaScript: what they see, say and answer is what they do in Python."""

import json
import os
import re
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import whatwhere as ww
from whatwhere.book import rehearsal
from whatwhere.book.live import weights

NODE, HERE = shutil.which("node"), Path(__file__).parent
MODELS = ["toy-llava", "toy-qwen2vl"]
QUESTIONS = [
    "is there a mug ?",
    "What color is the lamp?",
    "how many objects are there ?",
    "what is the background ?",
    "where is the mug relative to the lamp ?",
    "describe the scene .",
]
SHORT = QUESTIONS[:-1]
WORDS, PICTURES, NEAR = ["yes", "no", "red", "left", "water", "three", "a"], 20, 0.005

RUNS = [{"method": method, "same": same} for method in (1, 2, 3) for same in (1, 2, 3)]
LOOKS = [
    {"place": place, "head": head, "from": of, "row": 2, "column": 3}
    for place, head, of in (
        ("LM 1", "mean", "last"), ("LM 4", 1, 3), ("LM 2", 0, "patch"), ("ViT 1", "mean", "patch"),
        ("ViT 5", 2, "patch"),
    )
]  # fmt: skip
PLACES = ["ViT 0", "ViT 4", "LM 0", "LM 3"]

if not NODE and os.environ.get("CI"):
    raise RuntimeError("The live figures are tested in Node.js, and a CI without it tests nothing.")
needs_node = pytest.mark.skipif(not NODE, reason="no Node.js on this machine")
pytestmark = pytest.mark.usefixtures("one_thread")


def halved(name):
    """The organism with its weights rounded to half precision, as a page has them."""
    vlm = ww.load(name, device="cpu", dtype="float32")
    with torch.no_grad():
        for parameter in vlm.model.parameters():
            parameter.copy_(parameter.half())
    return vlm


def changes(vlm, picture):
    """[(options of the engine, the same in Python)], one for each kind of change."""
    rows, columns = vlm.patch_grid(picture)
    side, width = rows * vlm.adapter.merge, vlm.unembedding.weight.shape[1]
    some = np.zeros((rows, columns), bool)
    some[1:3, 2:5] = True
    tokens, patches = np.flatnonzero(some).tolist(), some.repeat(side // rows, 0)
    patches = patches.repeat(side // columns, 1)
    vector = np.random.default_rng(3).normal(size=width).round(3)
    of = np.arange(rows * columns) // 3
    of[10:20], of[-1] = -1, of[0]
    cut = ww.intervene.knockout
    one = np.zeros_like(patches)
    one[3, 5:8], one[4, 5] = True, True  # patches that are no whole visual tokens in toy-qwen2vl
    made = [
        ({}, []),
        (
            {"moved": [{"patches": np.flatnonzero(one).tolist(), "steps": [3, -2]}]},
            [ww.intervene.moved(vlm, one, (3, -2))],
        ),
        (
            {"headsOff": [[1, 0], [4, 3]]},
            [cut(vlm, depths=[1], heads=[0]), cut(vlm, depths=[4], heads=[3])],
        ),
        (
            {"added": [{"tokens": tokens, "vector": vector.tolist()}]},
            [ww.intervene.added(vlm, some, vector, layer=0)],
        ),
        (
            {"moved": [{"tokens": tokens, "steps": [2, 1]}]},
            [ww.intervene.moved(vlm, patches, (2, 1))],
        ),
    ]
    for how in (
        {},
        {"pool": "first", "lengths": "kept"},
        {"positions": "renumbered", "lengths": "kept"},
    ):
        compressed = ww.compress.compressed(vlm, lambda sight: of, **how)
        made.append(({"groups": {"of": of.tolist()} | how}, [compressed]))
    if vlm.adapter.rotary is not None:
        gains = ww.rope.gains(6, 9, 2).tolist()
        made += [
            ({"gains": gains}, [ww.rope.scaled(vlm, 9, 2)]),
            ({"gains": [gains] * 6}, [ww.rope.scaled(vlm, 9, 2)]),  # block by block
            (
                {"moved": [{"tokens": tokens, "steps": [0.5, -7], "blocks": [2, 5]}]},
                [ww.intervene.moved(vlm, patches, (0.5, -7), blocks=[2, 5])],
            ),
        ]
    return made


def owned(vlm, place):
    """The patches of the first two things of the first scene, in raster order: lists."""
    masks = [ww.geometry.patches(vlm, [ww.world.scene(seed=0)], n, place)[0] for n in (0, 1)]
    return [np.flatnonzero(mask).tolist() for mask in masks]


@pytest.fixture(scope="module", params=MODELS)
def both(request, tmp_path_factory):
    """One organism in Python (`vlm`), and what it says in JavaScript (`found`)."""
    name, folder = request.param, tmp_path_factory.mktemp(request.param)
    vlm, pictures = halved(name), [ww.world.scene(seed=seed).image for seed in range(PICTURES)]
    (folder / f"{name}.js").write_text(weights.export(name), encoding="ascii")
    (folder / "engine.js").write_text(weights.engine(), encoding="utf-8")
    raw = b"".join(np.asarray(picture.convert("RGB")).tobytes() for picture in pictures)
    (folder / "pictures.bin").write_bytes(raw)
    layers = [0, vlm.n_layers]
    asked = {
        "pictures": PICTURES, "layers": layers, "questions": QUESTIONS, "words": WORDS, "short": SHORT,
        "changes": [options for options, _ in changes(vlm, pictures[0])],
        "runs": RUNS, "looks": LOOKS, "places": [{"place": p, "things": owned(vlm, p)} for p in PLACES],
    }  # fmt: skip
    (folder / "asked.json").write_text(json.dumps(asked))
    command = [NODE, HERE / "live_engine.js", folder, name]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((folder / "found.json").read_text())
    # milliseconds: pytest -s shows them
    print(name, {what: round(float(np.median(ms)), 1) for what, ms in found["times"].items()})
    return SimpleNamespace(vlm=vlm, pictures=pictures, layers=layers, **found)


def said(vlm, pictures, questions):
    """What Python answers, (pictures, questions), and its chances, (pictures, questions, words):
    all pictures at once."""
    answers, shares = [], []
    for question in questions:
        inputs = vlm.prepare(pictures, [question] * len(pictures))
        with torch.no_grad():
            shares.append(ww.answers.chances(vlm, inputs, WORDS).numpy())
        answers.append(vlm.answer(pictures, question, batch_size=len(pictures)))
    return [list(of_picture) for of_picture in zip(*answers)], np.stack(shares, 1)


@needs_node
def test_it_sees_the_same_pixels_and_states(both):
    vlm, picture = both.vlm, both.pictures[0]
    pixels = vlm.adapter.pixels([picture])["pixel_values"]
    if vlm.family == "llava":
        size = vlm.model.config.vision_config.patch_size
        pixels = pixels[0].unfold(1, size, size).unfold(2, size, size).permute(1, 2, 0, 3, 4)
    else:  # twice the same frame
        pixels = pixels.unflatten(1, (3, 2, -1))[:, :, 0]
    assert np.array_equal(pixels.reshape(-1).numpy(), np.float32(both.prepared)) and both.fourth
    theirs = vlm.vit_states(picture).flatten(1).numpy()
    assert np.abs(theirs - both.states).max() < 1e-4 * np.abs(theirs).max()
    tokens = vlm.visual_tokens(picture).flatten().numpy()
    assert np.abs(tokens - both.tokens).max() < 1e-4 * np.abs(tokens).max()


@needs_node
def test_the_language_model_holds_the_same_at_every_layer(both):
    vlm = both.vlm
    inputs = vlm.prepare(both.pictures[0], QUESTIONS[0])
    given = vlm.embed(inputs), inputs["attention_mask"], vlm.position_ids(inputs)
    with torch.no_grad():
        theirs = torch.stack(vlm.lm_hidden(*given, list(range(vlm.n_layers + 1)))).flatten(1)
    assert np.abs(theirs.numpy() - both.hidden).max() < 1e-4 * theirs.abs().max()


@needs_node
def test_patches_decode_to_the_same_words(both):
    for n, layer in enumerate(both.layers):
        theirs = ww.lens.token_maps(both.vlm, both.pictures, layer=layer, top_k=1)
        for their, our in zip(theirs, both.maps, strict=True):
            for depth, one in enumerate(our[n]):
                assert their.ids[depth].flatten().tolist() == one["ids"], (layer, depth)
                due = their.probabilities[depth].flatten()
                assert np.abs(due - one["probabilities"]).max() < NEAR


@needs_node
def test_maps_come_one_depth_after_another(both):
    assert [step["depth"] for step in both.steps] == [0, 3]
    theirs = ww.lens.token_maps(both.vlm, both.pictures[0], depths=[0, 3], top_k=3)
    for step, ids, scores in zip(both.steps, theirs.top_ids, theirs.scores):
        assert (step["rows"], step["columns"]) == ids.shape[:2] and step["layer"] == theirs.layer
        assert step["ids"] == ids.flatten().tolist()
        assert np.abs(scores.flatten() - step["probabilities"]).max() < NEAR


@needs_node
def test_it_answers_the_same(both):
    answers, shares = said(both.vlm, both.pictures, QUESTIONS)
    assert answers == both.answers and np.abs(shares - both.chances).max() < NEAR
    assert len({tuple(answers) for answers in both.answers}) > PICTURES / 2  # not one for all


@needs_node
def test_it_says_the_same_without_webassembly(both):
    assert both.fast
    for fast, plain in zip(both.maps[0], both.plain["maps"]):
        assert fast[-1]["ids"] == plain["ids"]
        assert np.abs(np.subtract(fast[-1]["probabilities"], plain["probabilities"])).max() < 1e-4
    assert np.abs(np.subtract(both.chances[0], both.plain["chances"])).max() < 1e-4


@needs_node
def test_what_is_changed_changes_the_same(both):
    picture, vlm, usual = both.pictures[0], both.vlm, both.changed[0]["chances"]
    for (options, contexts), our in zip(changes(vlm, picture), both.changed, strict=True):
        with ExitStack() as stack:
            for context in contexts:
                stack.enter_context(context)
            answers, shares = said(vlm, [picture], SHORT)
            if "groups" not in options:
                ids = ww.lens.token_maps(vlm, picture, layer=2, depths=[6]).ids
                assert ids.flatten().tolist() == our["ids"], options
        apart, effect = np.abs(shares - our["chances"]).max(), np.abs(shares - usual).max()
        assert apart < NEAR and answers == [our["answers"]], options
        assert not options or effect > 100 * apart  # what is compared is the change
        assert our["stand"] == sorted(our["stand"]) and len(our["ids"]) == len(our["stand"])


@needs_node
def test_the_embedding_lens_reads_the_same(both):
    lens = ww.lens.EmbeddingLens(both.vlm)
    for layer, our in zip(both.layers, both.embedding, strict=True):
        theirs = ww.lens.token_maps(
            both.vlm, both.pictures[0], depths=[both.vlm.last_depth], layer=layer, lens=lens
        )
        assert theirs.ids[0].flatten().tolist() == our["ids"]
        cosines = theirs.scores[0][..., 0].flatten()
        assert np.abs(cosines - our["probabilities"]).max() < 1e-4


@needs_node
def test_runs_of_words_are_those_of_chapter_6(both):
    """By the package's method, with a decoder that says what the lens says."""
    vlm, words = both.vlm, np.reshape(both.words, (-1, 3))
    decoder = SimpleNamespace(
        words=vlm.words, texts=vlm.texts, top=lambda tokens, k=1: words[:, :k]
    )
    sight = ww.compress.Sight(torch.zeros(len(words), 1), vlm.patch_grid(both.pictures[0]))
    for how, ours in zip(RUNS, both.runs, strict=True):
        theirs = ww.compress.by_words(decoder, how["method"], same=how["same"])(sight)
        ours = np.array(ours)
        assert np.array_equal(ours < 0, theirs < 0), how
        # the numbers of groups mean nothing, which tokens share one does
        assert np.array_equal(ours[:, None] == ours, theirs[:, None] == theirs), how
    assert len({tuple(each) for each in both.runs}) > 3


@needs_node
def test_things_hold_the_same_at_each_place(both):
    theirs = ww.geometry.thing_vectors(both.vlm, [ww.world.scene(seed=0)], (0, 1))
    for place, ours in zip(PLACES, both.vectors, strict=True):
        due = theirs[place][0]
        assert np.abs(due - ours).max() < 1e-4 * np.abs(due).max(), place


def looked(vlm, image, how):
    """(rows × columns,) what the package says of the same attention, and what goes elsewhere."""
    (tower, block), merge = how["place"].split(), vlm.adapter.merge
    where = {"layers": [int(block)]} if tower == "LM" else {"depths": [int(block)]}
    seen = vlm.attention(image, QUESTIONS[0] if tower == "LM" else "", **where)
    mask = np.zeros(seen.grid, bool)
    one = merge if tower == "ViT" else 1
    mask[2 * one : 3 * one, 3 * one : 4 * one] = True
    if how["from"] == "patch":
        of = seen.places[torch.from_numpy(mask.ravel())]
    else:
        word = len(seen.words) - 1 if how["from"] == "last" else seen.words.index("mug")
        of = torch.tensor([word])
    heads = slice(None) if how["head"] == "mean" else [how["head"]]
    weights = seen.weights[0][heads][:, of].mean((0, 1))
    on_image = weights[seen.places]
    return on_image.numpy(), 1 - on_image.sum().item()


@needs_node
def test_a_token_looks_where_it_looks(both):
    shapes = []
    for how, ours in zip(LOOKS, both.looks, strict=True):
        weights, elsewhere = looked(both.vlm, both.pictures[0], how)
        assert np.abs(weights - ours["weights"]).max() < 1e-3 * weights.max(), how
        assert abs(elsewhere - ours["elsewhere"]) < 1e-4
        shapes.append(weights.max() / weights.mean())
    assert max(shapes) > 2, "some are far from even, so that what is compared has a shape"


@needs_node
def test_what_it_cannot_do_it_says_in_a_sentence(both):
    says = {
        "word": "does not know “unicorn”", "option": "does not know “maybe”",
        "mark": "does not know “<”", "empty": "this one is empty",
        "size": "pictures of 144 × 144 pixels.*has 62205 numbers", "canvas": "has 288 × 72 pixels",
        "depth": "depth is a whole number from 0 to 6", "head": "no head 1 in block 0",
        "groups": "visual tokens, not 2", "token": "visual token is a whole number.*not 999",
        "model": "“toy-flamingo”.*toy-", "patch": "patch is a whole number.*not 256",
        "lens": "no tuned lens.*logit and embedding", "method": "1, 2 or 3, not 4",
    }  # fmt: skip
    assert both.errors.keys() == says.keys()
    for what, sentence in both.errors.items():
        assert re.search(says[what], sentence) and sentence.endswith((".", ").")), sentence


def test_the_engine_calls_what_pages_and_workers_have():
    script = re.sub(r"/\*.*?\*/|//.*", "", weights.engine(), flags=re.S)
    assert not re.findall(r"\b(window|document|process|require|import|fetch|eval)\b", script)


@pytest.mark.parametrize("name", MODELS)
def test_a_script_is_the_same_each_time_and_calls_nothing(name):
    script = weights.export(name)
    assert script == weights.export(name) and script.isascii() and "://" not in script
    assert script.startswith("globalThis.whatwhereModels") and 3e6 < len(script) < 4e6


def test_other_families_are_refused(tmp_path):
    rehearsal.tiny_random(tmp_path / "other", "qwen2_5_vl")
    with pytest.raises(ValueError, match="is a qwen2_5_vl"):
        weights.export(str(tmp_path / "other"))
