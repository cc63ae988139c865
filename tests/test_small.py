"""Small organisms and the scaling study: what they are told is true, a seed is a seed, and nothing
is measured twice."""

import dataclasses
import json
import os
import random
import re
from itertools import permutations
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import whatwhere as ww
from closeness import SAME, apart
from whatwhere import rope, world
from whatwhere.book.training import Stage, build, checkpoints, data, scaling_study, small
from whatwhere.book.training.evaluate import exact
from whatwhere.book.training.stages import language_logits
from whatwhere.book.training.towers import Tower
from whatwhere.models import VLM
from whatwhere.world.question_bank import NUMBERS

FAMILIES = {"existence", "texture", "category", "background", "counting", "relation"}

pytestmark = pytest.mark.usefixtures("one_thread")
TWO_STEPS = (Stage("vision", 2, 4, rate=2e-3, warm=2), Stage("tune", 2, 4, warm=2))
FINE = Stage("fine-tune", 1, 4, warm=1)


def weights(organism):
    return {name: each.clone() for name, each in organism.parts().state_dict().items()}


def changed(before, after):
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


def grown(seed):
    organism = small.sprout(seed)
    logs = [small.learn(organism, stage) for stage in TWO_STEPS]
    return organism, logs


@pytest.fixture(scope="module")
def organism(one_thread):
    """One after two steps of each stage. Tests that change it put it back."""
    return grown(0)[0]


@pytest.fixture(scope="module")
def taught():
    """toy-qwen2vl as the study takes it: it knows answers, so that right and wrong ones can be told
    apart."""
    model = ww.load(small.NAME, "cpu", "float32").model
    return small.Small(
        Tower(model, small.NAME),
        torch.nn.Identity(),
        0,
        data.draw_questions,
        lambda s, rnd: world.questions(s),
    )


@pytest.fixture
def turned(organism):
    """The organism with the frequencies that it is given; afterwards they are what they were."""
    usual = organism.frequencies

    def give(values):
        organism.frequencies = values
        return organism

    yield give
    organism.frequencies = usual


def many(n=150):
    return [scene for split in world.SPLITS for scene in world.scenes(split, n)]


# -- what it is told
# ----------------------------------------------------------------------------------------------


def by_colour(scene, colour):
    """The one thing of this colour."""
    (one,) = [thing for thing in scene.things if thing.colour == colour]
    return one


def truth(scene, question):
    """The answer to a question, from its words alone."""
    text, worn = question.text, [thing.colour for thing in scene.things]
    if found := re.fullmatch(r"is there an? (\w+) object \?", text):
        return "existence", "yes" if found[1] in worn else "no"
    if found := re.fullmatch(r"what texture is the (\w+) object \?", text):
        return "texture", by_colour(scene, found[1]).texture
    if found := re.fullmatch(r"what is the (\w+) object \?", text):
        return "category", by_colour(scene, found[1]).category
    if text == "what is the background ?":
        return "background", scene.background
    if found := re.fullmatch(r"how many (\w+) objects are there \?", text):
        return "counting", NUMBERS[worn.count(found[1])]
    found = re.fullmatch(r"where is the (\w+) object relative to the (\w+) object \?", text)
    return "relation", world.relation(by_colour(scene, found[1]), by_colour(scene, found[2]))


def test_questions_are_true_of_the_scene():
    rnd, asked, answers = random.Random(0), [], {}
    words = set(build.vocabulary(small.NAME))
    for scene in many():
        these = small.questions(scene, rnd)
        for question in these:
            assert (question.family, question.answer) == truth(scene, question)
            assert {*question.text.split(), *question.answer.split()} <= words  # no <unk>
            answers.setdefault(question.family, set()).add(question.answer)
        assert len({question.text for question in these}) == len(these)
        asked += [question.family for question in these]
        assert asked.count("relation") == 0 or [q.family for q in these].count("relation") <= 3
    assert set(asked) == set(answers) == FAMILIES
    assert answers["existence"] == {"yes", "no"} and answers["relation"] == set(data.RELATIONS)
    assert answers["background"] == set(world.BACKGROUNDS) and answers["category"] == set(
        world.CATEGORIES
    ) - {"sign"}


def test_questions_are_drawn_by_the_given_chance_alone():
    scene = world.scene(5)
    random.seed(1)
    first = [small.questions(scene, random.Random(n)) for n in range(20)]
    random.seed(2)
    assert [small.questions(scene, random.Random(n)) for n in range(20)] == first and len(
        {str(each) for each in first}
    ) > 5


def test_captions_say_every_clear_relation_and_no_other():
    said = 0
    for scene in many(60):
        worn = [thing.colour for thing in scene.things]
        alone = [thing for thing in scene.things if thing.colour and worn.count(thing.colour) == 1]
        expected = {
            (a.colour, b.colour, word)
            for a, b in permutations(alone, 2)
            if (word := world.relation(a, b))
        }
        found = [
            (small.COLOURS[a], small.COLOURS[b], data.RELATIONS[word])
            for a, b, word in small.captions(scene)
        ]
        assert set(found) == expected and len(found) == len(expected)
        said += len(found)
    assert said > 100


@pytest.mark.parametrize("side", [small.SIDE, small.SIDE // 2])
def test_patches_are_told_what_they_show(side):
    kinds = {"thing": 0, "ground": 0, "partly": 0}
    for scene in world.scenes("train", 12):
        told, cell = small.shown(scene, side), scene.width // side
        assert told.shape == (side**2, len(small.WORDS)) and told.dtype == torch.float32
        for at, row in enumerate(told):
            said = {word for word, value in zip(small.WORDS, row.tolist()) if value}
            top, left = at // side * cell, at % side * cell
            here = scene.owner[top : top + cell, left : left + cell]
            share = [(here == n).mean() for n in range(len(scene.things))]
            first = scene.things[int(np.argmax(share))]
            if max(share) >= 0.3:
                assert said == {
                    word for word in (first.colour, first.texture, first.category) if word
                } & set(small.WORDS)
                kinds["thing"] += 1
            else:
                assert said == {scene.background}
                kinds["partly" if max(share) else "ground"] += 1
    assert min(kinds.values()) > 20


@pytest.mark.parametrize("at", scaling_study.SETTINGS, ids=str)
@pytest.mark.parametrize("split", ["dev", "test", "unseen"])
def test_controlled_sets(at, split):
    items = small.controlled(*at, split, 6)
    order = world.RELATIONS_A if at[0] == "A" else world.RELATIONS_B
    assert len(items) == 24 and [question.answer for _, (question,) in items] == 6 * list(order)
    for n in range(0, 24, 4):
        scenes = [scene for scene, _ in items[n : n + 4]]
        assert (
            len({tuple((t.category, t.colour, t.texture) for t in s.things) for s in scenes}) == 1
        )
        assert (
            len({s.background for s in scenes}) == 1
            and scenes[0].things[0].colour != scenes[0].things[1].colour
        )
    for scene, (question,) in items:
        assert (
            ("relation", question.answer) == truth(scene, question)
            and len(scene.things) == 2
            and scene.split == split
        )
    assert items[:8] == small.controlled(*at, split, 2) and small.controlled(*at, split, 0) == []


def test_controlled_sets_in_a_larger_room():
    items = small.controlled("B", "wide", "test", 2, scaling_study.LARGE)
    assert {(scene.width, scene.height) for scene, _ in items} == {
        (216, 216)
    } and scaling_study.LARGE // 9 == 24


# -- a seed is a seed
# ---------------------------------------------------------------------------------------------


def test_a_seed_gives_the_same_weights(organism):
    torch.manual_seed(1234)  # whatever has been drawn before
    again, logs = grown(0)
    assert not changed(weights(organism), weights(again)) and torch.equal(
        organism.frequencies, again.frequencies
    )
    assert [[set(entry) for entry in log] for log in logs] == 2 * [[{"step", "loss", "right"}]]


def test_another_seed_gives_others(organism):
    other = weights(grown(1)[0])
    differ = changed(weights(organism), other)
    assert {
        name for name in other if name.endswith(".weight") and "visual.blocks" in name
    } <= differ
    # the same at first; other scenes, other questions
    assert {name for name in other if "language_model" in name} <= differ


def test_it_starts_from_the_language_model_of_toy_qwen2vl(organism, taught):
    sprout = small.sprout(3)
    theirs = taught.tower.lm.state_dict()
    assert not changed(theirs, sprout.tower.lm.state_dict())
    assert (
        len(sprout.tower.blocks) == small.BLOCKS == 3
        and sprout.pairs == 4
        and sprout.tower.blocks[0].attn.num_heads == 4
    )
    assert torch.equal(sprout.frequencies, rope.frequencies(16).float())
    for block in sprout.tower.blocks:
        queries_and_keys, values = block.attn.qkv.bias.split([2 * small.WIDTH, small.WIDTH])
        assert queries_and_keys.std() > 1 and values.abs().max() == 0
    assert sprout.tower.head.weight is sprout.tower.lm.get_input_embeddings().weight


def test_the_language_model_sees_no_rows_and_columns(organism, monkeypatch):
    """It is given rows and columns as ever, and turns with neither. (It does see which token comes
    first: its attention is causal.)"""
    tower, pages = organism.tower, data.Pages(small.NAME)
    rows = pages.rows(
        [small.questions(scene, random.Random(0)) for scene in world.scenes("test", 2)]
    )
    visual = torch.randn(2, 64, 96, generator=torch.Generator().manual_seed(0))
    usual, chance = tower.positions, torch.Generator().manual_seed(1)

    @torch.no_grad()
    def logits(axes):
        def positions(*args):
            at = usual(*args).clone()
            at[axes] = torch.randint(50, at[axes].shape, generator=chance)
            return at

        monkeypatch.setattr(tower, "positions", positions)
        return language_logits(tower, pages, rows, visual)[0]

    assert torch.equal(logits([]), logits([1, 2])) and (logits([]) - logits([0])).abs().max() > 0.1


# -- positions in the vision tower
# --------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize(
    "gains",
    [[1.0, 1, 1, 1], [0.3, 2, 5, 9], [[1.0, 1, 1, 1]] * 2, [[1.0, 2, 5, 9], [0.5, 0, 2, 1]]],
    ids=str,
)
def test_frequencies_by_axis_are_what_transformers_makes_of_them(turned, gains):
    organism, gains = turned(rope.frequencies(16) * torch.tensor(gains)), torch.tensor(gains)
    vlm = VLM(
        organism.tower.model,
        build.tokenizer(small.NAME),
        build.image_processor(small.NAME),
        "small",
    )
    scenes = list(world.scenes("test", 2))
    pixels = vlm.adapter.pixels([scene.image for scene in scenes])
    assert (
        organism.tower.vision.rotary_pos_emb.inv_freq.shape == gains.shape and organism.pairs == 4
    )
    states = organism.tower.vision(
        pixels["pixel_values"], pixels["image_grid_thw"]
    ).last_hidden_state.reshape(2, 256, -1)
    raster = torch.arange(256).reshape(8, 2, 8, 2).transpose(1, 2).flatten()
    ours = organism.tower.patches(data.normalise(data.stack(scenes)))
    assert apart(ours[:, raster], states) < SAME < ours.std()


@torch.no_grad()
@pytest.mark.parametrize("blind", [{"rows"}, {"columns"}, {"rows", "columns"}, set()], ids=str)
def test_a_tower_without_positions_knows_no_places(turned, blind):
    """Patches change places, and their states with them, if and only if the tower does not turn
    with the axis of the change."""
    theta = rope.frequencies(16)
    organism = turned(
        torch.stack([theta * ("rows" not in blind), theta * ("columns" not in blind)])
    )
    pixels = data.normalise(data.stack(list(world.scenes("test", 1))))
    cells = pixels.unfold(2, 9, 9).unfold(3, 9, 9)  # (1, 3, rows, columns, 9, 9)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    before = organism.tower.patches(pixels).unflatten(1, (16, 16))
    for axis, name in ((0, "rows"), (1, "columns")):
        moved = (
            cells.index_select(2 + axis, order).permute(0, 1, 2, 4, 3, 5).reshape(1, 3, 144, 144)
        )
        off = apart(
            organism.tower.patches(moved).unflatten(1, (16, 16)),
            before.index_select(1 + axis, order),
        )
        assert (off < SAME) == (name in blind)


def test_scaled_by_starts_from_the_unscaled(turned):
    organism = turned(rope.frequencies(16))
    usual = organism.frequencies.clone()
    for gains in (rope.gains(4, 29, 2), torch.rand(2, 4), 0.0, rope.gains(4, 29, 2)):
        scaling_study.scaled_by(organism, gains)
        assert torch.allclose(organism.frequencies, usual * torch.as_tensor(gains).float())
    scaling_study.scaled_by(organism, 1.0)
    assert torch.equal(organism.frequencies, usual)


# -- learning and exams
# -------------------------------------------------------------------------------------------


def test_a_stage_leaves_the_rest_as_it_was():
    organism, parts = small.sprout(2), {}
    theta = organism.frequencies.clone()
    for stage in (*TWO_STEPS, FINE):
        before = weights(organism)
        small.learn(organism, stage)
        parts[stage.name] = {
            re.match(r"reader|model\.lm_head|model\.model\.(visual|language_model)", name)[0]
            for name in changed(before, weights(organism))
        }
    assert parts["vision"] == {"reader", "model.model.visual"}
    everything = {"model.lm_head", "model.model.visual", "model.model.language_model"}
    assert parts["tune"] == parts["fine-tune"] == everything
    assert torch.equal(organism.frequencies, theta) and not organism.tower.model.training


def test_the_log_is_of_every_so_many_steps():
    organism, watched = small.sprout(2), []

    def watch(it):
        assert it is organism and not it.tower.model.training
        watched.append(1)
        return {"seen": len(watched)}

    log = small.learn(organism, dataclasses.replace(TWO_STEPS[0], steps=5), watch, every=2)
    assert [(entry["step"], entry["seen"]) for entry in log] == [(2, 1), (4, 2), (5, 3)]
    assert all(entry["loss"] > 0 and 0 <= entry["right"] <= 1 for entry in log)


# what it says is compared, not believed
@pytest.mark.filterwarnings("ignore:taught has only ever seen")
@pytest.mark.parametrize("size", [world.SIZE, scaling_study.LARGE])
def test_right_is_what_the_model_would_answer(taught, size):
    """Many questions packed behind one picture, against one question at a time through
    `generate`."""
    vlm = VLM(
        taught.tower.model, build.tokenizer(small.NAME), build.image_processor(small.NAME), "taught"
    )
    items = [
        (scene, world.questions(scene, ("existence", "colour", "counting", "relation", "reading")))
        for scene in world.scenes("test", 4, size=size)
    ]
    for _, asked in items:  # and answers that are wrong
        asked += [dataclasses.replace(question, answer="brick") for question in asked[:1]]
    found = exact(taught.tower, items, batch=3)
    expected = [
        [vlm.answer(scene.image, q.text, 4) == q.answer for q in asked] for scene, asked in items
    ]
    assert [list(map(bool, each)) for each in found] == expected
    assert {verdict for each in expected for verdict in each} == {True, False}


def test_kept_and_opened_again(organism, tmp_path):
    file = tmp_path / "deep" / "small.safetensors"
    small.keep(organism, file)
    again = small.reopen(file, 0)
    items = [item for at in scaling_study.SETTINGS for item in small.controlled(*at, "test", 1)]
    assert not changed(weights(organism), weights(again)) and exact(again.tower, items) == exact(
        organism.tower, items
    )
    assert again.tower.head.weight is again.tower.lm.get_input_embeddings().weight
    assert [each.name for each in file.parent.iterdir()] == ["small.safetensors"]


def test_half_kept_never_replaces_what_was_kept(organism, tmp_path, monkeypatch):
    file = tmp_path / "small.safetensors"
    small.keep(organism, file)
    whole = file.read_bytes()

    def fails(tensors, path, metadata):
        with open(path, "wb") as part:
            part.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "save_file", fails)
    with pytest.raises(KeyboardInterrupt):
        small.keep(organism, file)
    assert file.read_bytes() == whole


# -- the study
# --------------------------------------------------------------------------------------------------


def test_scalings():
    for n in (4, 6, 20):
        some = scaling_study.scalings(n)
        assert (some["none"] == 1).all() and all(
            gains.shape == (n,) and (gains > 0).all() for gains in some.values()
        )
        assert torch.equal(some["paper: α 99, p 8"], rope.gains(n, 99, 8)) and torch.equal(
            some["α 9, p 2"], rope.gains(n, 9, 2)
        )
        assert set(scaling_study.FROM_THE_START) <= set(some) and len(
            set(map(str, some.values()))
        ) == len(some)


@pytest.mark.parametrize("n", [4, 6])
def test_alternatives_are_what_their_names_say(n):
    some, theta, steps = scaling_study.alternatives(n), rope.frequencies(4 * n), torch.arange(n)
    assert set(scaling_study.scalings(n)) < set(some) and (some["none"] == 1).all()
    for name, gains in some.items():
        assert gains.shape in ((n,), (2, n)) and (gains > 0).all()
        if found := re.fullmatch(r"base 10000 → (\d+)", name):
            assert torch.allclose(theta * gains, rope.frequencies(4 * n, base=int(found[1])))
        elif found := re.fullmatch(r"all × ([\d.]+)", name):
            assert (gains == float(found[1])).all()
        elif found := re.fullmatch(r"frequency (\d+) alone × ([\d.]+)", name):
            assert torch.equal(
                gains, torch.where(steps == int(found[1]) - 1, float(found[2]), 1.0).double()
            )
        elif found := re.fullmatch(r"(?:paper: )?α (\d+), p (\d+)(.*)", name):
            formula, one = rope.gains(n, int(found[1]), int(found[2])), torch.ones(n)
            assert torch.equal(gains, {
                "": formula, ", rows alone": torch.stack([formula, one]),
                ", columns alone": torch.stack([one, formula]),
                ", without frequency 2": torch.cat([formula[:1], one[:1], formula[2:]]).double(),
            }[found[3]])  # fmt: skip
        elif found := re.fullmatch(r"sigmoid: α ([\d.]+), k (\d+), c ([\d.]+)", name):
            assert torch.equal(gains, rope.sigmoid_gains(n, *map(float, found.groups())))
        else:
            assert name == "none"


def test_a_step_is_measured_once(tmp_path, capsys):
    calls = []

    def measure():
        calls.append(1)
        return {"found": len(calls)}

    file = tmp_path / "deep" / "task.json"
    notes = scaling_study.Notes(file)
    first = notes.once("α 9, p 2", measure)
    assert (
        first["found"] == 1 and first["seconds"] >= 0 and notes.once("α 9, p 2", measure) == first
    )
    again = scaling_study.Notes(file)  # another run
    assert again.once("α 9, p 2", measure) == first and again.once("none", measure)["found"] == 2
    assert json.loads(file.read_text()) == again.found and len(calls) == 2
    assert [each.name for each in file.parent.iterdir()] == ["task.json"]


@pytest.mark.parametrize("when", ["measuring", "writing", "before it is put in place"])
def test_a_killed_step_leaves_the_others(when, tmp_path, monkeypatch):
    file = tmp_path / "task.json"
    first = scaling_study.Notes(file).once("one", lambda: {"found": 1})

    def killed(*args, **kwargs):
        if when == "writing":
            file.with_suffix(".part").write_bytes(b'{"one": ')
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        if when == "writing":
            patch.setattr(json, "dumps", killed)
        elif when != "measuring":
            patch.setattr(os, "replace", killed)
        scaling_study.Notes(file).once(
            "two", killed if when == "measuring" else lambda: {"found": 2}
        )
    notes = scaling_study.Notes(file)
    assert notes.found == {"one": first} and notes.once("two", lambda: {"found": 3})["found"] == 3
    assert list(json.loads(file.read_text())) == ["one", "two"]


def test_right_answers_as_words(monkeypatch):
    nobody, verdicts = (
        SimpleNamespace(tower=None),
        [[True], [True], [False], [True], [False], [True], [True], [np.True_]],
    )
    monkeypatch.setattr(scaling_study, "exact", lambda tower, items: verdicts[: len(items)])
    assert (
        scaling_study.by_set(nobody, range(8)) == "1101 0111"
        and scaling_study.by_set(nobody, range(4)) == "1101"
    )


def test_every_setting_and_family_is_noted(monkeypatch):
    """As of an organism that knows no answers but "left" and "yes"."""

    def right(tower, items):
        return [[question.answer in ("left", "yes") for question in asked] for _, asked in items]

    monkeypatch.setattr(scaling_study, "exact", right)
    organism = SimpleNamespace(examine=small.questions, tower=None)
    found = scaling_study.sit(organism, small.controlled, sets=2, large=1, scenes=12)
    places = {"A": "0010", "B": "0010"}  # on, under, left, right; behind, front, left, right
    expected = {" ".join(at): f"{places[at[0]]} {places[at[0]]}" for at in scaling_study.SETTINGS}
    assert found["where"] == {
        **expected,
        "B wide large": places["B"],
        "B narrow large": places["B"],
    }
    assert found["unseen"] == {name: each.split()[0] for name, each in expected.items()}
    assert found["general"].keys() == FAMILIES and found["general"]["existence"] == [12, 24]
    assert found["general"]["background"] == [0, 12] and json.loads(json.dumps(found)) == found


def test_the_choice_is_the_best_that_costs_little():
    points = [f"{alpha}/{p}" for alpha in scaling_study.ALPHAS for p in scaling_study.POWERS]
    plain = (
        {"dev": {" ".join(at): "1100 1100" for at in scaling_study.SETTINGS}},
        {"general": {"existence": [90, 100], "counting": [50, 50]}},
    )

    def chosen(better, dear=()):
        found = {}
        for name in ("none", *points):
            found[f"free {name}"], found[f"free {name}, general"] = json.loads(json.dumps(plain))
            if name in better:
                found[f"free {name}"]["dev"]["B wide"] = (
                    "1111 " + "1" * better[name] + "0" * (4 - better[name])
                )
            if name in dear:
                found[f"free {name}, general"]["general"]["existence"] = [87, 100]
        return scaling_study.choose(found)

    assert chosen({}) == "none" and chosen({"29/2": 3}) == "29/2"
    assert (
        chosen({"9/8": 3, "29/2": 3, "299/1": 2}) == "9/8"
        and chosen({"9/8": 3, "299/1": 4}) == "299/1"
    )
    assert (
        chosen({"9/8": 3, "299/1": 4}, ["299/1"]) == "9/8" and chosen({"9/8": 3}, ["9/8"]) == "none"
    )
    assert scaling_study.gains_of("none", 4).tolist() == [1] * 4 and torch.equal(
        scaling_study.gains_of("29/2", 4), rope.gains(4, 29, 2)
    )


def test_the_small_model_is_asked_in_larger_rooms_too(organism):
    assert re.fullmatch(
        "[01]{4}",
        scaling_study.by_set(
            organism, small.controlled("B", "narrow", "test", 1, scaling_study.LARGE)
        ),
    )
