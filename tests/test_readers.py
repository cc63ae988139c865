"""Every lens by hand, on models in the hub's layout, and where it is given what it cannot use."""

import copy
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import whatwhere as ww
from closeness import SAME, apart
from whatwhere import lens, stages, world
from whatwhere.book.rehearsal.checkpoints import llava
from whatwhere.finite import NotFinite

FAMILIES = ["hub/llava", "hub/qwen2_5_vl", "hub/qwen3_vl", "hub/internvl", "hub/idefics3"]
TEXTS = ["A red mug on wood.", "the blue mug, and a red apple", "No apple is red or blue", "wood"]
WORDS = np.array(["x", "y", "both"], dtype=object)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    llava(folder)
    return ww.load(folder)


@pytest.fixture(scope="module")
def organism():
    return ww.load("toy-llava")


@pytest.fixture(scope="module", params=FAMILIES)
def vlm(request, checkpoint):
    return ww.load(checkpoint(request.param))


@pytest.fixture
def plain(small):
    """A model of two hidden dimensions and three words, so that lenses can be worked out on
    paper."""
    vlm = copy.copy(small)
    vlm.final_norm = torch.nn.Identity()
    vlm.unembedding = torch.nn.Linear(2, 3, bias=False)
    vlm.unembedding.weight.data = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    vlm.__dict__["words"] = WORDS
    return vlm


def picture(vlm):
    size = vlm.seen(Image.new("RGB", (112, 112))).size
    return Image.fromarray(
        np.random.default_rng(0).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)
    )


def bank_of(vlm, states, ids, words=WORDS):
    """A bank of one layer with given directions, of this model."""
    about = lens.keeping.model_of(vlm)
    contexts = np.array([f"a [{words[n]}]" for n in ids], dtype=object)
    return lens.Bank(words, torch.tensor(ids), {1: torch.tensor(states)}, contexts, about)


# -- by hand ---------------------------------------------------------------------------------------


def test_the_embedding_lens_by_hand(plain, monkeypatch):
    table = torch.nn.Embedding.from_pretrained(torch.tensor([[2.0, 0.0], [0.0, 9.0], [3.0, 3.0]]))
    monkeypatch.setattr(plain, "model", copy.copy(plain.model))
    monkeypatch.setattr(plain.model, "get_input_embeddings", lambda: table, raising=False)
    # [3, 4] has length 5: cosines 3/5 to x, 4/5 to y, 7/(5 √2) to both
    found = lens.EmbeddingLens(plain).read(torch.tensor([3.0, 4.0]), top_k=3)
    assert found.words.tolist() == ["both", "y", "x"]
    assert np.allclose(found.scores, [7 / (5 * 2**0.5), 0.8, 0.6])


def test_the_contextual_lens_by_hand(plain):
    # x has two entries, and the better one counts; y's only one is the best of all for [0, 2]
    made = bank_of(plain, [[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]], [0, 0, 1])
    found = lens.ContextualLens(plain, made).read(torch.tensor([[0.0, 2.0], [5.0, 0.0]]), 1, 2)
    assert found.words.tolist() == [["y", "x"], ["x", "y"]]
    assert np.allclose(found.scores, [[1, 0.8], [1, 0]])
    near = lens.ContextualLens(plain, made).neighbours(torch.tensor([0.0, 2.0]), 1, 2)
    assert [context for context, _ in near] == ["a [y]", "a [x]"]
    assert np.allclose([cosine for _, cosine in near], [1, 0.8])
    other = torch.tensor([[0.0, -1.0], [0.0, -1.0], [0.8, 0.6]])
    made.states[2] = other  # of all layers together, y is now like [4, 3] as well
    merged = lens.ContextualLens(plain, made, against=(1, 2))
    found = merged.read(torch.tensor([4.0, 3.0]), layer=0, top_k=2)
    assert found.words.tolist() == ["y", "x"]
    assert np.allclose(found.scores, [1, 0.6 * 0.8 + 0.8 * 0.6])


def test_the_tuned_lens_by_hand(plain):
    # A turns [a, b] into [b, a] when h is added: A = [[-1, 1], [1, -1]]; b adds [0, 1]
    translator = torch.tensor([[-1.0, 1.0, 0.0], [1.0, -1.0, 1.0]])
    tuned = lens.TunedLens(plain, {0: translator})
    logits = torch.tensor([4.0, 3.0 + 1, 8.0])  # of [4, 4]
    found = tuned.read(torch.tensor([3.0, 4.0]), layer=0, top_k=3)
    assert found.ids[0] == 2 and np.allclose(found.scores.sum(), 1)
    assert np.allclose(found.scores[0], float(logits.softmax(0)[2]))
    # the last layer has no translator: [3, 4] itself
    last = tuned.read(torch.tensor([3.0, 4.0]), layer=plain.n_layers, top_k=3)
    assert np.allclose(last.scores, torch.tensor([7.0, 4.0, 3.0]).softmax(0))


def test_the_decoder_and_the_probe_by_hand(plain):
    weight = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    read = lens.DecoderLens(plain, ww.compress.Decoder(weight, WORDS))
    found = read.read(torch.tensor([3.0, 4.0]), top_k=3)
    assert found.words.tolist() == ["y", "x", "both"]
    assert np.allclose(found.scores, torch.tensor([8.0, 3.0, 0.0]).softmax(0))
    parts = (
        weight,
        torch.tensor([0.0, 0.0, 1.0]),
        torch.tensor([1.0, 2.0]),
        torch.tensor([2.0, 4.0]),
    )
    # ([3, 4] - [1, 2]) / [2, 4] = [1, 0.5]; logits 1, 1, 0 + 1
    probe = lens.Probe(plain, 0, WORDS, *parts)
    found = probe.read(torch.tensor([3.0, 4.0]), top_k=3)
    assert np.allclose(found.scores, 1 / 3)
    with pytest.warns(UserWarning, match="This linear probe never says 'key'"):
        few = probe.limited(["x", "key", "y"])
    assert sorted(few.read(torch.tensor([3.0, 4.0]), top_k=2).words) == ["x", "y"]
    with pytest.raises(ValueError, match="cannot be limited to 'key'"):
        probe.limited(["key"])


def test_limited_to_some_words_by_hand(plain):
    # logits of [3, 4]: 3, 4, 7; without "both", softmax over the first two
    few = lens.LogitLens(plain).limited(["x", "Y"])
    found = few.read(torch.tensor([3.0, 4.0]), top_k=2)
    assert found.words.tolist() == ["y", "x"] and found.ids.tolist() == [1, 0]
    assert np.allclose(found.scores, torch.tensor([4.0, 3.0]).softmax(0))
    (_, _, asked) = next(iter(few.scored(torch.tensor([[3.0, 4.0]]), 0, 1, [1, 0])))
    assert np.allclose(asked, torch.tensor([[4.0, 3.0]]).log_softmax(-1))
    made = bank_of(plain, [[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]], [0, 0, 1])
    few = lens.ContextualLens(plain, made).limited(["x"])
    assert few.read(torch.tensor([0.0, 2.0]), 1, 1).words.tolist() == ["x"]
    for words, said in ((["z"], "'z'"), ([], "no words at all")):
        with pytest.raises(ValueError, match=f"cannot be limited to {said}"):
            few.limited(words)
    with pytest.raises(ValueError, match="top_k is a whole number from 1 to 1"):
        few.read(torch.tensor([0.0, 2.0]), 1, 2)
    with pytest.raises(ValueError, match="asked for words that it cannot say"):
        next(iter(few.scored(torch.tensor([[0.0, 2.0]]), 1, 1, [1])))


# -- on models -------------------------------------------------------------------------------------


def each_lens(vlm, folder):
    """One of each kind, for this model."""
    file = folder / "texts.txt"
    file.write_text("\n".join(TEXTS), encoding="utf-8")
    image = picture(vlm)
    made = lens.bank(vlm, file)
    decoder = ww.compress.distil(vlm, ww.compress.lessons(vlm, [image]), epochs=1)
    tuned = lens.tune(vlm, images=[image], steps=2)
    return {
        each.name: each
        for each in (
            lens.LogitLens(vlm), lens.EmbeddingLens(vlm), lens.ContextualLens(vlm, made),
            lens.DecoderLens(vlm, decoder), tuned,
        )
    }  # fmt: skip


def test_maps_of_every_lens_are_its_reading_of_the_states(vlm, tmp_path):
    image = picture(vlm)
    for read in each_lens(vlm, tmp_path).values():
        maps = lens.token_maps(vlm, image, lens=read, top_k=2, depths=[0, vlm.last_depth])
        assert maps.layer == read.layer and maps.lens == read.name
        ((_, grid, hidden),) = lens.maps.visual_states(
            vlm, [image], "", read.layer, [0, vlm.last_depth]
        )
        rows = read.prepared(hidden[0].flatten(0, 1), read.layer).float()
        weight, bias, ids = read.table(read.layer)
        scores = rows @ weight.float().T + (0 if bias is None else bias.float())
        if ids is not None:  # the best entry of each word
            scores = torch.stack([scores[:, ids == n].amax(1) for n in range(len(read.words))], 1)
        scores = scores.softmax(-1) if read.measure == "probability" else scores
        best = scores.max(1)
        assert apart(maps.scores[..., 0].ravel(), best.values) < SAME
        chosen = torch.from_numpy(maps.ids.ravel())[:, None]
        assert apart(scores.gather(1, chosen)[:, 0], best.values) < SAME
        assert maps.ids.shape == (2, *grid) and maps.show().html()


def test_statistics_take_every_lens(organism, tmp_path):
    scenes = list(world.scenes("dev", 3))
    texts = [question.answer for scene in scenes for question in world.questions(scene)]
    texts += [" ".join(world.words_of(kind)) for kind in ("category", "attribute", "background")]
    made = lens.bank(organism, texts)
    for read in (lens.EmbeddingLens(organism), lens.ContextualLens(organism, made)):
        word = world.words_of("category")[0]
        found = stages.read(organism, scenes, lens=read, asked=[word])
        assert found.lens == read.name and repr(read)[1:].startswith(read.name)
        table = stages.counts(found, scenes)
        assert (
            table["object patches"].sum() and (table["own word"] <= table["object patches"]).all()
        )
        assert np.abs(found.scores).max() <= 1
        maps = lens.token_maps(organism, scenes[0].image, lens=read)
        best = np.where(maps.top_words[..., 0] == word, maps.scores[..., 0], -1).max((1, 2))
        assert (found.scores[0, :, 0] >= best - SAME).all()


def test_cosines_are_no_probabilities(organism):
    maps = lens.token_maps(organism, world.scene(7).image, lens=lens.EmbeddingLens(organism))
    with pytest.raises(ValueError, match="gives a cosine for each word: see `scores`"):
        maps.probabilities  # noqa: B018
    assert "cosine" in maps.to_pandas() and "&quot;unit&quot;:&quot;&quot;" in maps.show().html()
    assert lens.explore(organism, world.scene(7).image, lens=lens.EmbeddingLens(organism)).html()


def test_a_lens_is_of_one_model(small, organism):
    image = world.scene(7).image
    with pytest.raises(ValueError, match="made for toy-llava, another model"):
        lens.token_maps(small, picture(small), lens=lens.LogitLens(organism))
    decoder = ww.compress.Decoder(organism.unembedding.weight, organism.words)
    for wrong in (decoder, "embedding"):
        with pytest.raises(TypeError, match="A lens is one of whatwhere.lens"):
            lens.token_maps(organism, image, lens=wrong)


def test_numbers_that_are_none_are_refused_by_every_lens(organism):
    hidden = torch.zeros(2, 96)
    hidden[1, 3] = torch.nan
    made = lens.bank(organism, TEXTS)
    tuned = lens.TunedLens(organism, {0: torch.zeros(96, 97)})
    for read in (lens.EmbeddingLens(organism), lens.ContextualLens(organism, made), tuned):
        with pytest.raises(NotFinite):
            read.read(hidden, 0)


# -- banks -----------------------------------------------------------------------------------------


def test_a_bank_holds_the_models_own_states_of_words(vlm, tmp_path):
    """Against transformers' own forward pass of the language model on the text alone."""
    file = tmp_path / "texts.txt"
    file.write_text("\n\n".join(TEXTS) + "\n123 , .\n", encoding="utf-8")
    made = lens.bank(vlm, file, layers=[0, vlm.n_layers - 1], per_word=9)
    spoken = [
        word for text in TEXTS for word in text.lower().replace(",", " ").replace(".", " ").split()
    ]
    assert set(made.words) == {*spoken, "123"} and made.layers == (0, vlm.n_layers - 1)
    assert [int((made.ids == n).sum()) for n in range(len(made.words))] == [
        max(1, spoken.count(word)) for word in made.words
    ]
    # the last word of a text ends with its last token
    ids = torch.tensor([vlm.tokenizer(TEXTS[2])["input_ids"]])
    with torch.no_grad():
        states = vlm.lm(input_ids=ids, output_hidden_states=True, use_cache=False).hidden_states
    for layer in made.layers:
        expected = torch.nn.functional.normalize(states[layer][0, -1].float(), dim=0)
        entries = made.states[layer][made.ids == list(made.words).index("blue")].float()
        assert float((entries @ expected).max()) > 1 - 1e-3
        assert apart(entries.norm(dim=1), torch.ones(len(entries))) < 1e-2


def test_so_many_occurrences_of_a_word_are_drawn(organism):
    texts = [f"{n * 'on '}red mug" for n in range(30)] + ["red apple"] * 3
    made = lens.bank(organism, texts, per_word=5, layers=[1])
    counts = {word: int((made.ids == n).sum()) for n, word in enumerate(made.words)}
    assert counts == {"apple": 3, "mug": 5, "on": 5, "red": 5}
    again, other = (lens.bank(organism, texts, per_word=5, seed=seed) for seed in (0, 1))
    assert torch.equal(made.states[1], again.states[1])
    assert not torch.equal(again.states[1], other.states[1])
    few = lens.bank(organism, texts, words=["Mug"], prefix="<s> user : red ")
    long = "on " * 20 + "a red mug, and " + "on " * 20
    few = lens.bank(organism, [long], words=["Mug"], prefix="<s> user : red ")
    (context,) = few.contexts
    assert context == f"…{8 * 'on '}a red [mug], and {8 * 'on '}…"
    assert list(few.words) == ["mug"] and "1 words" in repr(few)


def test_a_bank_that_was_interrupted_is_gone_on_with(organism, tmp_path, monkeypatch):
    texts = [f"{a} mug on {b}" for a in ("red", "blue") for b in ("wood", "sand")]
    whole = lens.bank(organism, texts, batch_size=1)
    ran, read = [], lens.texts.states

    def stopping(vlm, encoded, *rest):
        for n, each in enumerate(read(vlm, encoded, *rest)):
            if not ran and n == 2:
                raise KeyboardInterrupt
            yield each

    monkeypatch.setattr(lens.texts, "states", stopping)
    folder = tmp_path / "bank"
    with pytest.raises(KeyboardInterrupt):
        lens.bank(organism, texts, batch_size=1, folder=folder, save_every=0)
    assert (folder / "unfinished.safetensors").is_file()
    with pytest.raises(
        ValueError, match=r"of another bank \(seed differ\). Nothing was overwritten"
    ):
        lens.bank(organism, texts, batch_size=1, folder=folder, seed=1)
    ran.append(True)
    lens.bank(organism, texts, batch_size=1, folder=folder)
    made = lens.load_bank(folder, organism)
    for layer in made.layers:
        assert apart(made.states[layer], whole.states[layer]) < SAME
    assert not (folder / "unfinished.safetensors").exists()
    with pytest.raises(ValueError, match=r"\(per_word differ\). Nothing was overwritten"):
        lens.bank(organism, texts, folder=folder, per_word=1)
    # what is finished is not made again
    monkeypatch.setattr(lens.texts, "states", lambda vlm, encoded, *rest: iter(encoded))
    assert torch.equal(lens.bank(organism, texts, folder=folder).states[1], made.states[1])


def test_banks_that_cannot_be(organism, small, tmp_path):
    refused = [
        (dict(texts=[]), "no word in these texts"),
        (dict(texts=["", " . , ", "…"]), "no word in these texts"),
        (dict(texts=TEXTS, words=["zebra"]), "'zebra' occurs in none of the texts"),
        (dict(texts=TEXTS, words=[]), "No word occurs"),
        (dict(texts=TEXTS, layers=[9]), "layer"),
        (dict(texts=TEXTS, layers=[]), "one LM layer at least"),
        (dict(texts=TEXTS, per_word=0), "per_word"),
        (dict(texts=tmp_path / "none.txt"), "cannot be read"),
    ]
    for given, said in refused:
        with pytest.raises(ValueError, match=said):
            lens.bank(organism, **given)
    for given, said in [
        (dict(texts=[1, 2]), "texts is a list of strings; number 0 of these is 1"),
        (dict(texts=["a mug", None]), "number 1 of these is None"),
        (dict(texts=3), r"texts is a list of strings, such as \['3'\], not 3"),
        (dict(texts=TEXTS, words="mug"), r"words is a list of strings, such as \['mug'\]"),
        (dict(texts=TEXTS, words=[1]), "words is a list of strings; number 0"),
        (dict(texts=TEXTS, layers=3), r"layers is a list of LM layers, such as \[3\], not 3"),
    ]:
        with pytest.raises(TypeError, match=said):
            lens.bank(organism, **given)
    made = lens.bank(organism, TEXTS, layers=[1, 2])
    with pytest.raises(TypeError, match=r"such as \[1\], not 1"):
        lens.ContextualLens(organism, made, against=1)
    with pytest.raises(ValueError, match=r"cannot read LM layer 3; it can read 1, 2"):
        lens.token_maps(
            organism, world.scene(7).image, lens=lens.ContextualLens(organism, made), layer=3
        )
    with pytest.raises(ValueError, match="The bank has LM layers 1, 2, and not 4"):
        lens.ContextualLens(organism, made, against=[1, 4])
    with pytest.raises(ValueError, match="with the tokenizer of toy-llava, which is not that of"):
        lens.ContextualLens(small, made)
    textless = ww.load(Path(ww.loading.find("toy-llava")).with_name("toy-llava-without-text"))
    with pytest.raises(ValueError, match="made with toy-llava, whose weights are not those of"):
        lens.ContextualLens(textless, made)


def test_files_of_banks_that_are_damaged(organism, tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no bank"):
        lens.load_bank(tmp_path, organism)
    lens.bank(organism, TEXTS, layers=[1], folder=tmp_path / "whole")
    file = tmp_path / "whole" / "bank.safetensors"
    tensors, header = load_file(file), lens.keeping.opened(file, "bank").header
    broken = {
        "nan": {**tensors, "layer.1": tensors["layer.1"] * torch.nan},
        "short": {**tensors, "layer.1": tensors["layer.1"][1:]},
        "ids": {**tensors, "ids": tensors["ids"] + 99},
        "none": {"ids": tensors["ids"]},
    }
    for name, each in broken.items():
        shutil.copytree(tmp_path / "whole", tmp_path / name)
        save_file(each, tmp_path / name / "bank.safetensors", header)
        with pytest.raises(ValueError, match="is damaged|could not be read"):
            lens.load_bank(tmp_path / name, organism)
    file.write_bytes(b"x")
    with pytest.raises(ValueError, match="is damaged"):
        lens.load_bank(file.parent, organism)


# -- tuned lens ------------------------------------------------------------------------------------


def test_a_tuned_lens_begins_as_the_logit_lens_and_learns(organism, tmp_path):
    images = [scene.image for scene in world.scenes("train", 12)]
    tuned = lens.tune(organism, images=images, layers=[0, 2], steps=30)
    assert tuned.losses.shape == (30, 2) and tuned.layers == (0, 2, 4)
    assert (tuned.losses[-5:].mean(0) < 0.5 * tuned.losses[0]).all()
    # the divergence of the first step is that of the logit lens: no step was taken yet
    first = np.random.default_rng([0, 0]).permutation(12)[:8]
    states = lens.tuned._of_images(organism, [images[i] for i in first], [0])
    said, last = (
        organism.unembedding(organism.final_norm(each)).log_softmax(-1) for each in states
    )
    assert apart(tuned.losses[0, 0], (last.exp() * (last - said)).sum(-1).mean()) < 1e-4
    tuned.save(tmp_path)
    loaded = lens.load_tuned(tmp_path, organism)
    assert loaded.about == tuned.about and np.array_equal(loaded.losses, tuned.losses)
    image = world.scene(7).image
    one, other = (lens.token_maps(organism, image, lens=each, layer=0) for each in (tuned, loaded))
    assert (one.ids == other.ids).all()


def test_a_tuned_lens_learns_from_texts(organism):
    tuned = lens.tune(organism, texts=["red mug on wood"] * 9, steps=20)
    assert (tuned.losses[-1] < tuned.losses[0]).all() and tuned.about["learnt from"] == "texts"


def test_a_tuned_lens_that_was_interrupted_is_gone_on_with(organism, tmp_path, monkeypatch):
    images = [scene.image for scene in world.scenes("train", 4)]
    whole = lens.tune(organism, images=images, steps=5, batch=2)
    ran, learn = [], lens.tuned._learn

    def stopping(*given):
        ran.append(True)
        if len(ran) == 4:
            raise KeyboardInterrupt
        return learn(*given)

    monkeypatch.setattr(lens.tuned, "_learn", stopping)
    with pytest.raises(KeyboardInterrupt):
        lens.tune(organism, images=images, steps=5, batch=2, folder=tmp_path, save_every=0)
    with pytest.raises(ValueError, match=r"of another tuned lens \(lr differ\)"):
        lens.tune(organism, images=images, steps=5, batch=2, folder=tmp_path, lr=0.5)
    resumed = lens.tune(organism, images=images, steps=5, batch=2, folder=tmp_path)
    assert apart(resumed.losses, whole.losses) < 1e-5 and len(ran) == 4 + 2
    for layer in range(4):
        assert apart(resumed.translators[layer], whole.translators[layer]) < 1e-4
    again = lens.tune(organism, images=images, steps=5, batch=2, folder=tmp_path)
    assert len(ran) == 6 and np.array_equal(again.losses, resumed.losses)
    # as many others are not these
    others = [scene.image for scene in world.scenes("dev", 4)]
    with pytest.raises(ValueError, match=r"\(digest differ\). Nothing was overwritten"):
        lens.tune(organism, images=others, steps=5, batch=2, folder=tmp_path)


def test_a_lens_is_not_saved_over_another(organism, tmp_path):
    textless = ww.load(Path(ww.loading.find("toy-llava")).with_name("toy-llava-without-text"))
    image, makes = world.scene(7).image, {}
    makes["bank"] = lambda vlm: lens.bank(vlm, TEXTS, layers=[1])
    makes["tuned lens"] = lambda vlm: lens.tune(vlm, images=[image], layers=[1], steps=1)
    for what, make in makes.items():
        folder, made = tmp_path / what, make(organism)
        made.save(folder)
        made.save(folder)  # itself, once more
        before = {path: path.read_bytes() for path in folder.iterdir()}
        with pytest.raises(ValueError, match=f"of another {what} .*Nothing was overwritten"):
            make(textless).save(folder)
        assert before == {path: path.read_bytes() for path in folder.iterdir()}


def test_tuned_lenses_that_cannot_be(organism, small, tmp_path):
    image = world.scene(7).image
    for given, said in [
        ({}, "from images or from texts: give one of the two"),
        (dict(images=[image], texts=TEXTS), "give one of the two"),
        (dict(images=[]), "an image or a text to learn from"),
        (dict(images=[image], layers=[4]), "layer"),
        (dict(images=[image], layers=[]), "needs a layer"),
        (dict(images=[image], steps=0), "steps"),
        (dict(texts=["."]), "no word in these texts"),
    ]:
        with pytest.raises(ValueError, match=said):
            lens.tune(organism, **given)
    for images in (np.asarray(image), np.stack([image, image]), image, "picture.png", 3):
        with pytest.raises(TypeError, match=r"images is a list of pictures, such as \[scene"):
            lens.tune(organism, images=images)
    with pytest.raises(TypeError, match=r"layers is a list of LM layers, such as \[3\], not 3"):
        lens.tune(organism, images=[image], layers=3)
    # pictures as arrays, in a list, are pictures
    two = [np.asarray(image), image]
    assert lens.tune(organism, images=two, steps=1).about["learnt from"] == "images"
    with pytest.raises(FileNotFoundError, match="holds no tuned lens"):
        lens.load_tuned(tmp_path, organism)
    lens.tune(organism, images=[image], steps=1, folder=tmp_path)
    with pytest.raises(
        ValueError, match="This tuned lens was made with the tokenizer of toy-llava"
    ):
        lens.load_tuned(tmp_path, small)


def test_files_of_tuned_lenses_that_are_damaged(organism, tmp_path):
    lens.tune(organism, images=[world.scene(7).image], layers=[1], steps=1, folder=tmp_path)
    file = tmp_path / "translators.safetensors"
    tensors, header = load_file(file), lens.keeping.opened(file, "tuned lens").header
    for broken in (
        {**tensors, "layer.1": tensors["layer.1"] * torch.nan},
        {**tensors, "layer.1": tensors["layer.1"][1:]},
        {"losses": tensors["losses"], "layer.9": tensors["layer.1"]},
        {"losses": tensors["losses"], "layer.first": tensors["layer.1"]},
        {"layer.1": tensors["layer.1"]},
        {"losses": tensors["losses"]},
    ):
        save_file(broken, file, header)
        with pytest.raises(ValueError, match="is damaged|could not be read .*train the lens again"):
            lens.load_tuned(tmp_path, organism)


# -- probe -----------------------------------------------------------------------------------------


def test_a_probe_learns_what_is_written_in_the_states(organism, monkeypatch):
    """States in which the word of a patch is a direction: every patch is read rightly."""
    scenes = list(world.scenes("train", 12))
    grid = organism.patch_grid(scenes[0].image)
    words = sorted({word for scene in scenes for thing in scene.things for word in thing.words[:1]})

    def written(vlm, images, prompt, layer, depths, batch_size=None):
        hidden = torch.zeros(len(images), 1, grid[0] * grid[1], 96)
        for n, scene in enumerate(scenes):
            for patch, owner in enumerate(stages.owners(scene, grid).ravel()):
                if owner >= 0:
                    hidden[n, 0, patch, words.index(scene.things[owner].words[0])] = 1
        yield images, grid, hidden

    class Bare:
        """A scene whose things have one word each."""

        def __init__(self, scene):
            self.id, self.image, self.cover = scene.id, scene.image, scene.cover
            self.relation = scene.relation
            self.things = [Named(thing.words[0]) for thing in scene.things]

    class Named:
        attributes = ()

        def __init__(self, word):
            self.category, self.words = word, (word,)

    monkeypatch.setattr(lens.probes, "visual_states", written)
    probe = lens.probe(organism, [Bare(scene) for scene in scenes], layer=2, depth=0)
    ((_, _, hidden),) = written(organism, scenes, "", 2, [0])
    for n, scene in enumerate(scenes):
        owner = stages.owners(scene, grid).ravel()
        said = probe.read(hidden[n, 0], top_k=1).words[:, 0]
        for patch in np.flatnonzero(owner >= 0):
            assert said[patch] == scene.things[owner[patch]].words[0]
    assert probe.layers == (2,) and set(probe.words) == set(words)


def test_a_probe_reads_more_than_the_logit_lens(organism):
    probe = lens.probe(organism, world.scenes("train", 60), most=3000)
    scenes = list(world.scenes("dev", 20))
    rates = []
    for read in (probe, lens.LogitLens(organism)):
        table = stages.counts(stages.read(organism, scenes, lens=read, depths=[6]), scenes)
        rates.append(table["own word"].sum() / table["object patches"].sum())
    assert rates[0] > rates[1] + 0.05 and set(probe.words) >= set(world.words_of("background"))
    with pytest.raises(ValueError, match="cannot read LM layer 0"):
        stages.read(organism, scenes, lens=probe, layer=0)


def test_probes_that_cannot_be(organism):
    for given, said in [
        (dict(scenes=[]), "at least one image|two at least"),
        (dict(scenes=world.scenes("train", 1), most=0), "most"),
        (dict(scenes=world.scenes("train", 1), layer=9), "layer"),
    ]:
        with pytest.raises(ValueError, match=said):
            lens.probe(organism, **given)
