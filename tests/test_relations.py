"""The paper's experiments on controlled sets: by hand, on the organisms, on photographs."""

import ast
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import whatwhere as ww
from closeness import SAME, apart
from whatwhere import answers, geometry, photographs, relations, rope, world
from whatwhere.photographs import Photograph, PhotographSet, Thing
from whatwhere.relations.axes import _mean_logits

pytestmark = pytest.mark.usefixtures("one_thread")
ROOT = Path(__file__).parents[1]
BEHIND, FRONT, LEFT, RIGHT = range(4)
CROSS = np.array([[0, 1.0], [0, -1], [-2, 0], [2, 0]])  # behind, front, left, right


@pytest.fixture(scope="module")
def turning(one_thread):
    return ww.load("toy-qwen2vl", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def tabled(one_thread):
    return ww.load("toy-llava", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def sets(turning):
    return geometry.pairs(turning, world.controlled("B", 30), 4)


def mean(table, condition, column, **where):
    rows = table[table["condition"] == condition]
    for name, value in where.items():
        rows = rows[rows[name] == value]
    assert len(rows)
    return rows[column].mean()


# -- vectors
# --------------------------------------------------------------------------------------------------


def test_a_cross_is_opposite_and_orthogonal():
    table = relations.cosines(np.stack([CROSS, 3 * CROSS]))
    assert table.shape == (2, 4, 4)
    assert np.allclose(table[:, LEFT, RIGHT], -1) and np.allclose(table[:, BEHIND, FRONT], -1)
    assert np.allclose(table[:, LEFT, FRONT], 0)
    moved = np.stack([CROSS + [50, 9], CROSS - 7])
    assert relations.cosines(moved)[0, LEFT, RIGHT] > 0.9, "what all share hides it"
    assert np.allclose(relations.cosines(relations.centred(moved)), table)


def test_axes_are_differences():
    vectors = np.stack([CROSS, CROSS]) + 100.0
    assert np.allclose(relations.cosine_of_axes(vectors, (LEFT, RIGHT), (FRONT, BEHIND)), 0)
    wrong = relations.cosine_of_axes(vectors, (LEFT, FRONT), (RIGHT, BEHIND))
    assert np.allclose(wrong, np.dot([-2, 1], [2, -1]) / 5)


def test_permuted_sets_keep_their_own_vectors():
    vectors = np.random.default_rng(0).normal(size=(60, 4, 3))
    dealt = relations.permuted(vectors, 1)
    assert np.allclose(np.sort(dealt, 1), np.sort(vectors, 1)) and not np.allclose(dealt, vectors)
    assert np.array_equal(dealt, relations.permuted(vectors, 1))
    assert not np.array_equal(dealt, relations.permuted(vectors, 2))

    def left_right(each):
        return relations.cosines(each)[:, LEFT, RIGHT].mean()

    crosses = np.tile(CROSS, (200, 1, 1))  # of its six cosines two are −1 and four 0
    assert left_right(crosses) == -1
    assert relations.null(left_right, crosses) == pytest.approx(-1 / 3, abs=0.02)


def test_the_score_cannot_fail():
    random = np.random.default_rng(1).normal(size=(50, 4, 1536))
    scores = relations.geometry_score(random)
    assert scores.shape == (50,) and scores.min() > 0.99
    assert relations.geometry_score(CROSS) == pytest.approx(1)
    lopsided = np.array([[1.0, 0, 0], [1, 0.1, 0], [1, 0, 0.1], [-9, 0, 0]])
    assert relations.geometry_score(lopsided) < 0.8
    exchanged = relations.geometry_score(random[:, [0, 2, 1, 3]])
    assert np.allclose(scores, exchanged), "it does not see whose is which"
    mean_cosine = (relations.cosines(relations.centred(random)).sum((1, 2)) - 4) / 12
    assert np.allclose(scores, 1 / (3 + 6 * mean_cosine))


def test_the_score_is_the_one_that_the_chapter_teaches():
    """With the paper's projection on three principal components, which changes nothing."""
    notebook = json.loads((ROOT / "notebooks/12_left_is_minus_right.ipynb").read_text("utf-8"))
    (source,) = [
        "".join(c["source"]) for c in notebook["cells"] if "def score(" in "".join(c["source"])
    ]
    from sklearn import decomposition

    names = {"decomposition": decomposition, "np": np}
    (taught,) = [
        part
        for part in ast.parse(source).body
        if isinstance(part, ast.FunctionDef) and part.name == "score"
    ]
    exec(ast.unparse(taught), names)
    vectors = np.random.default_rng(2).normal(size=(5, 4, 7)) * [[[1], [5], [1], [3]]]
    scores = [names["score"](four) for four in vectors]
    assert np.allclose(relations.geometry_score(vectors), scores) and np.ptp(scores) > 0.01


def test_vectors_without_length_are_refused():
    with pytest.raises(ValueError, match="without length has no cosine"):
        relations.cosines(np.zeros((1, 4, 3)))
    with pytest.raises(ValueError, match="no direction to score"):
        relations.geometry_score(np.ones((1, 4, 3)))


def test_states_are_by_set_and_relation(turning, sets):
    states = relations.states(turning, sets)
    assert list(states) == geometry.hook_points(turning)
    assert states["LM 0"].shape[:3] == (4, 4, 2)
    own = geometry.thing_vectors(turning, [sets[2].scenes["left"]])["LM 0"][0]
    assert apart(states["LM 0"][2, LEFT], own) < SAME


def test_similarities_of_an_organism(turning, sets):
    table = relations.similarities(turning, sets)
    assert table.attrs["left_out"] == {} and set(table["set"]) == set(range(4))
    assert len(table) == 4 * 12 * (6 + 6 + 1 + 1)
    late = table[table["place"] == "LM 0"].groupby("measure")[["value", "null"]].mean()
    left_right, axes = late.loc["left, right, centred"], late.loc["behind − front, left − right"]
    assert left_right["value"] < -0.7 and left_right["null"] == pytest.approx(-1 / 3, abs=0.02)
    assert abs(axes["value"]) < 0.3 < abs(axes["null"])
    assert late.loc["score", "null"] > 0.95
    two = table[(table["place"] == "ViT 3") & (table["set"] == 1)].set_index("measure")
    plain = [m for m in two.index if "centred" not in m and "−" not in m and m != "score"]
    assert np.allclose(two.loc[plain, "null"], two.loc[plain, "value"].mean())
    states = relations.states(turning, sets)["ViT 3"][1]
    by_hand = relations.cosines((states[:, 0] - states[:, 1]).astype(float))
    assert two.loc["front, right", "value"] == pytest.approx(by_hand[FRONT, RIGHT], rel=SAME)


# -- means over sets
# --------------------------------------------------------------------------------------------------


def test_a_set_counts_once():
    rows = {
        "set": [0, 0, 0, 5],
        "way": ["a", "a", "a", "a"],
        "hit": [1, 1, 1, 0],
        "of": [2, 2, 2, 4],
    }
    found = relations.over_sets(pd.DataFrame(rows), "way", "hit")
    assert found.index.name == "way" and found.loc["a", "value"] == 0.5
    assert found.loc["a", "sets"] == 2 and found.loc["a", ["low", "high"]].tolist() == [0, 1]
    ratio = relations.over_sets(pd.DataFrame(rows), ["way"], "hit", per="of")
    assert ratio.loc["a", "value"] == pytest.approx(1 / 6), "of means, not a mean of ratios"


def test_of_one_set_there_is_no_interval():
    rows = pd.DataFrame({"set": [3, 3], "a": [1, 2], "b": ["x", "x"], "v": [0.5, 1], "w": [2.0, 2]})
    for per in (None, "w"):
        found = relations.over_sets(rows, ["a", "b"], "v", per)
        assert found.index.names == ["a", "b"] and list(found["sets"]) == [1, 1]
        assert np.isnan(found[["low", "high"]].to_numpy()).all()
    assert found.loc[(2, "x"), "value"] == 0.5
    with pytest.raises(ValueError, match="no column 'size'; it has set, a, b"):
        relations.over_sets(rows, "a", "size")


# -- axes
# --------------------------------------------------------------------------------------------------


def test_mean_logits_are_the_mean_of_all_logits():
    """And with a constant query and key, what is displaced along an axis falls by the cosine."""
    rotary, generator = rope.axial([0.7, 0.1]), torch.Generator().manual_seed(0)
    q, k = (torch.randn(3, 2, 9, 8, generator=generator) for _ in range(2))
    at = torch.randint(9, (9, 2), generator=generator)
    one, other = np.arange(4), np.array([5, 8])
    found = _mean_logits(rotary, rope.Heads(q, k, k, at), one, other)
    due = rotary.logits_by_axis(q[:, :, one], k[:, :, other], at[one], at[other])
    assert found.shape == (3, 2) and apart(found, due.mean((2, 3, 4)).T) < SAME

    ones, row = torch.ones(1, 1, 2, 8), torch.tensor([[4, 2], [4, 7]])
    rows, columns = _mean_logits(rotary, rope.Heads(ones, ones, ones, row), [0], [1])[0]
    assert rows == pytest.approx(4 / math.sqrt(8))  # two pairs, 1 · 1 + 1 · 1 each
    assert columns == pytest.approx(2 * (math.cos(3.5) + math.cos(0.5)) / math.sqrt(8))


def test_the_papers_statistic_and_what_it_is_of(turning, sets):
    """Row 5.0 and column 2.0 for left in block 3 over more sets; 9.8 and 9.2 at one position."""
    table = relations.axis_logits(turning, sets)
    assert len(table) == 4 * 4 * 6 * 3
    third = table[table["block"] == 3].groupby(["statistic", "relation"])[["rows", "columns"]]
    third = third.mean()
    expected = {"left": (5.0, 2.0), "right": (5.1, 2.7), "behind": (1.5, 5.8), "front": (1.7, 5.1)}
    for relation, due in expected.items():
        assert np.allclose(third.loc[("logits", relation)], due, atol=1.2)
        assert np.allclose(third.loc[("logits, no displacement", relation)], (9.8, 9.2), atol=0.6)
    scene = sets[1].scenes["front"]
    heads = rope.heads(turning, scene.image)
    own = geometry.patches(turning, [scene], 0, "ViT 0")[0][tuple(heads.at.T)].nonzero()[0]
    due = geometry.axis_attention(rope.vision(turning), heads, own, slice(None)).mean(1)
    ours = table.query("set == 1 and relation == 'front' and statistic == 'spread'")
    assert apart(ours[["rows", "columns"]].to_numpy(), due) < SAME


def test_a_learnt_table_has_no_axes(tabled, sets):
    with pytest.raises(ValueError, match="no 2-D RoPE"):
        relations.axis_logits(tabled, sets)


# -- interventions
# --------------------------------------------------------------------------------------------------


def test_blending_turns_the_answer_and_no_control_does(turning, sets):
    image, question = (
        sets[0].scenes["left"].image,
        world.relation_question(sets[0].scenes["left"], 0, 1).text,
    )
    before = turning.logits(image, question)
    table = relations.blended(turning, sets, weights=(0, 0.5, 1))
    assert torch.equal(turning.logits(image, question), before)
    assert (
        len(table) == 4 * 4 * 5 * 3
        and (table["is correct"] == (table["answer"] == table["relation"])).all()
    )
    assert mean(table, "both things", "is opposite", weight=1) > 0.7
    assert mean(table, "both things", "is opposite", weight=0) == 0
    for control in ("random direction", "same relation", "wrong thing"):
        assert mean(table, control, "is opposite", weight=1) < 0.15
    own = answers.chances(turning, turning.prepare(image, question), world.RELATIONS_B)[0]
    rows = table.query("set == 0 and relation == 'left' and weight == 0")
    assert len(rows) == 5 and (rows["target"] == "right").all()
    words = [f"P({relation})" for relation in world.RELATIONS_B]
    assert apart(rows[words].to_numpy(), np.tile(own.detach().numpy(), (5, 1))) < SAME


def test_weight_one_is_replacing_by_the_mean_of_the_other_picture(turning, sets):
    left, right = sets[0].scenes["left"], sets[0].scenes["right"]
    donors = geometry.thing_vectors(turning, [right])["LM 0"][0]
    question = world.relation_question(left, 0, 1).text
    own = [geometry.patches(turning, [left], n, "LM 0") for n in (0, 1)]
    with (
        torch.no_grad(),
        ww.intervene.replaced(turning, own[0], donors[0], layer=0),
        ww.intervene.replaced(turning, own[1], donors[1], layer=0),
    ):
        inputs = turning.prepare(left.image, question)
        due = answers.chances(turning, inputs, world.RELATIONS_B)[0].numpy()
    table = relations.blended(turning, sets[:1], weights=[1.0])
    row = table[(table["relation"] == "left") & (table["condition"] == "both things")]
    words = [f"P({relation})" for relation in world.RELATIONS_B]
    assert np.allclose(row[words].to_numpy()[0], due, atol=1e-3)


def test_sets_of_kind_a_are_asked_for_their_own_words(tabled):
    sets = geometry.pairs(tabled, world.controlled("A", 30), 2)
    table = relations.blended(tabled, sets, place="ViT 3", weights=[1.0])
    assert {"P(on)", "P(under)"} <= set(table) and "P(front)" not in table
    pairs = set(zip(table["relation"], table["target"]))
    assert pairs == {("on", "under"), ("under", "on"), ("left", "right"), ("right", "left")}
    assert mean(table, "both things", "is opposite") > mean(table, "same relation", "is opposite")


@pytest.mark.parametrize("name", ["turning", "tabled"])
def test_a_moved_thing_is_elsewhere_and_a_moved_pair_is_not(name, sets, request):
    vlm = request.getfixturevalue(name)
    table = relations.moved(vlm, sets)
    assert len(table) == 4 * 4 * 5
    assert mean(table, "untouched", "is correct") == 1
    assert mean(table, "as much ground", "is correct") > 0.8
    assert mean(table, "both alike", "is opposite") < 0.2
    assert mean(table, "satellite", "is opposite", relation="left") > 0.7
    way = table[table["condition"] == "satellite"].set_index(["set", "relation"])
    assert (way.xs("left", level=1)["across"] > 2).all()
    assert (way.xs("right", level=1)["across"] < -2).all()
    assert (way.xs("behind", level=1)["down"] > 1).all()
    steps = table[["down", "across"]].to_numpy()
    assert (steps == steps.round()).all() == (name == "tabled")


def test_erasing_takes_away_what_is_erased(turning, sets):
    table = relations.erased(turning, sets)
    assert len(table) == 4 * 4 * 7 and "target" not in table
    assert mean(table, "untouched", "is correct") == 1
    assert mean(table, "both", "is correct") < 0.5
    for control in ("ground", "as much ground"):
        assert mean(table, control, "is correct") > 0.9 and mean(table, control, "P(there)") > 0.7
    assert mean(table, "satellite", "P(there)") < 0.4 < mean(table, "nucleus", "P(there)")
    after_one = relations.erased(turning, sets[:1], place="LM 1")  # all has been read by then
    assert mean(after_one, "both", "is correct") == 1


def test_the_parts_of_a_scene(turning, sets):
    scenes = list(sets[0].scenes.values())
    part = relations.parts(turning, scenes, "LM 0")
    for n in range(4):
        satellite, nucleus, both, ground = (
            part[name][n] for name in ("satellite", "nucleus", "both", "ground")
        )
        assert (both == (satellite | nucleus)).all() and not (both & ground).any()
        assert part["everything"][n].all() and not (part["as much ground"][n] & ~ground).any()
    state = np.arange(8.0).reshape(2, 2, 2)
    mask = np.array([[True, False], [False, True]])
    assert relations.means([state, -state], [mask, mask]).tolist() == [[3, 4], [-3, -4]]


# -- photographs
# --------------------------------------------------------------------------------------------------


def photographed(controlled, number=0, scale=1.0, box=False):
    """A drawn set as photographs, with masks of each thing or boxes around them."""
    shots = {}
    for relation, scene in controlled.scenes.items():
        size = (round(scene.image.width * scale), round(scene.image.height * scale))
        owner = np.asarray(scene.cover(scene.image.height, scene.image.width))[:-1].argmax(0)
        things = []
        for n, thing in enumerate(scene.things):
            drawn = scene.cover(scene.image.height, scene.image.width)[n] > 0
            mask = np.asarray(Image.fromarray(drawn & (owner == n)).resize(size))
            rows, columns = np.nonzero(mask)
            edges = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            region = {"box": tuple(map(int, edges))} if box else {"mask": mask}
            things.append(Thing(thing.category, **region))
        name = f"{number}/{relation}"
        shots[relation] = Photograph(name, scene.image.resize(size), size, tuple(things))
    return PhotographSet(controlled.satellite, controlled.nucleus, shots)


def test_photographs_with_masks_are_the_drawn_sets_themselves(turning, sets):
    for experiment in (relations.erased, relations.axis_logits):
        drawn = experiment(turning, sets[:1])
        photo = experiment(turning, [photographed(sets[0])])
        assert list(drawn) == list(photo) and len(drawn) == len(photo)
        numbers = drawn.select_dtypes(float).columns
        assert np.allclose(drawn[numbers], photo[numbers], rtol=SAME, atol=1e-4)


def test_boxes_and_other_sizes_do_and_what_is_too_small_is_counted(turning, sets):
    shown = [photographed(each, n, 1 + 0.25 * n, box=True) for n, each in enumerate(sets[:2])]
    speck = dict(shown[0].scenes)
    things = speck["front"].things
    speck["front"] = replace(
        speck["front"], things=(replace(things[0], box=(0, 0, 2, 2)), things[1])
    )
    tiny = PhotographSet("a", "b", speck)
    table = relations.blended(turning, [tiny, *shown], weights=[0, 1])
    assert set(table["set"]) == {1, 2}
    assert table.attrs["left_out"] == {0: "a thing has no patch of its own in scene 0/front"}
    assert mean(table, "both things", "is correct", weight=0) > 0.7
    assert mean(table, "both things", "is opposite", weight=1) > 0.5
    with pytest.raises(
        ValueError, match="None of these 1 sets can be used with toy-qwen2vl: a thi"
    ):
        relations.similarities(turning, [tiny])


def test_a_picture_full_of_things_is_left_out_of_what_needs_ground(turning, sets):
    full = photographed(sets[0], box=True)
    width, height = full.scenes["left"].size
    halves = (0, 0, width // 2, height), (width // 2, 0, width, height)
    things = tuple(
        replace(thing, box=half) for thing, half in zip(full.scenes["left"].things, halves)
    )
    full.scenes["left"] = replace(full.scenes["left"], things=things)
    table = relations.erased(turning, [photographed(sets[1], 1), full])
    assert table.attrs["left_out"] == {1: "too few patches show no thing in scene 0/left"}
    assert set(relations.similarities(turning, [full])["set"]) == {0}


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl", "internvl", "qwen3_vl"])
def test_shipped_photographs_on_random_weights_of_other_families(folders, family):
    """Two of them, of different sizes, as if they showed one pair: every experiment runs, or says
    why it cannot."""
    vlm = ww.load(folders / "hub" / family, device="cpu", dtype="float32")
    shots = {}
    for relation, shot in zip(("left", "right"), photographs.shipped()):
        width, height = shot.size
        boxes = (0, 0, 2 * width // 5, height / 2), (3 * width // 5, 0, width, height / 2)
        things = tuple(Thing(word, box=box) for word, box in zip(("cup", "book"), boxes))
        shots[relation] = replace(shot, things=things, relations={})
    assert len({shot.size for shot in shots.values()}) == 2
    pair, place = [PhotographSet("cup", "book", shots)], "LM 0"
    if family == "qwen3_vl":
        with pytest.raises(ValueError, match="DeepStack"):
            relations.blended(vlm, pair)
        place = f"LM {vlm.n_layers}"
    for table in (
        relations.similarities(vlm, pair),
        relations.blended(vlm, pair, place),
        relations.erased(vlm, pair, place),
    ):
        assert len(table) and np.isfinite(table.select_dtypes(float)).all(axis=None)
    if vlm.adapter.rotary is not None and vlm.adapter.position_table is None:
        assert len(relations.axis_logits(vlm, pair)) == 2 * vlm.last_depth * 3
        assert len(relations.moved(vlm, pair)) == 2 * 5


# -- bad input
# --------------------------------------------------------------------------------------------------


@dataclass
class Bare:
    scenes: dict


def test_what_is_no_set_is_refused_in_a_sentence(turning, sets):
    scenes = sets[0].scenes
    a = world.controlled("A", 1)[0]
    for wrong, error, says in (
        ([], ValueError, "There are no controlled sets"),
        ([scenes["left"]], TypeError, "A controlled set has `scenes`"),
        ([sets[0], a], ValueError, "set 0 has behind, front, left, right, set 1 on, under"),
        ([Bare({"left": scenes["left"]})], ValueError, "no opposite of 'left'"),
        ([Bare({})], ValueError, "show no relations"),
        ([Bare({"near": 1, "far": 2})], ValueError, "no opposite of 'near', 'far'"),
        (
            [Bare({r: replace(s, things=s.things[:1]) for r, s in scenes.items()})],
            ValueError,
            "1 thing",
        ),
    ):
        with pytest.raises(error, match=says):
            relations.blended(turning, wrong)


def test_other_arguments_are_refused_in_a_sentence(turning, sets):
    for experiment, wrong, says in (
        (relations.blended, {"place": "LM 9"}, "places 'ViT 0' to 'ViT 6' and 'LM 0' to 'LM 4'"),
        (relations.erased, {"place": 0}, "got 0"),
        (relations.blended, {"weights": []}, "Name one weight"),
        (relations.blended, {"weights": [2.0]}, "from 0 .* to 1"),
        (relations.moved, {"where": "where is the {mug} ?"}, "this one has others"),
        (relations.erased, {"there": "is it there ?"}, "names the satellite"),
    ):
        with pytest.raises(ValueError, match=says):
            experiment(turning, sets[:1], **wrong)
