"""Questions, splits, statistics and controlled sets: what the world says of itself is so."""

import dataclasses
import itertools
from collections import Counter

import numpy as np
import pytest

from whatwhere import world
from whatwhere.world import questions as ask
from whatwhere.world.question_bank import NUMBERS, absentee
from whatwhere.world.rules import OPPOSITE, POPULARITY, THEMES

THEME = {c: things for things, _ in THEMES.values() for c in things}


@pytest.fixture(scope="module")
def many():
    """500 test scenes."""
    return list(world.scenes("test", 500))


@pytest.fixture(scope="module")
def census():
    """What stands together in 3000 training scenes: (scenes, count of categories, count of
    pairs)."""
    scenes = list(world.scenes("train", 3000))
    sets = [sorted({t.category for t in s.things}) for s in scenes]
    return (
        scenes,
        Counter(c for s in sets for c in s),
        Counter(p for s in sets for p in itertools.combinations(s, 2)),
    )


# -- splits and statistics
# ----------------------------------------------------------------------------------------


def test_held_out_pairs_are_only_in_unseen_and_there_in_every_scene():
    pairs = list(itertools.product(world.CATEGORIES, world.COLOURS))
    assert all(
        sum(world.held_out(c, k) for k in world.COLOURS) == (c in world.PORTABLE)
        for c in world.CATEGORIES
    )
    # no colour is spared
    assert {k for c, k in pairs if world.held_out(c, k)} == set(world.COLOURS)
    seen = {}
    for split in world.SPLITS:
        per_scene = [
            [(t.category, t.colour) for t in s.things]
            for s in world.scenes(split, 1200 if split == "train" else 300)
        ]
        assert {sum(world.held_out(*pair) for pair in scene) for scene in per_scene} == {
            int(split == "unseen")
        }
        seen[split] = {pair for scene in per_scene for pair in scene}
    shown = {(c, k) for c, k in pairs if c != "sign" and not world.held_out(c, k)} | {
        ("sign", None)
    }
    assert seen["train"] == shown  # and training shows every other pair
    for which in "AB":
        for split in ("test", "unseen"):
            for s in (
                s for g in world.controlled(which, 20, split=split) for s in g.scenes.values()
            ):
                assert [world.held_out(t.category, t.colour) for t in s.things] == [
                    split == "unseen",
                    False,
                ]


def test_things_of_a_theme_keep_company(census):
    scenes, single, pairs = census
    lift = {
        p: pairs[p] * len(scenes) / (single[p[0]] * single[p[1]])
        for p in itertools.combinations(sorted(world.PORTABLE), 2)
    }
    within = [v for (a, b), v in lift.items() if THEME[a] is THEME[b]]
    across = [v for (a, b), v in lift.items() if THEME[a] is not THEME[b]]
    assert min(within) > 1.1 and np.mean(within) > 1.3 and np.mean(across) < 0.7
    for things, grounds in THEMES.values():
        at_home = np.mean(
            [
                s.background in grounds
                for s in scenes
                if {t.category for t in s.things} & set(things)
            ]
        )
        away = np.mean(
            [
                s.background in grounds
                for s in scenes
                if not {t.category for t in s.things} & set(things)
            ]
        )
        assert at_home > away + 0.15
    common = [c for c, _ in single.most_common() if c in POPULARITY]
    assert set(common[:3]) == {"mug", "lamp", "hat"}


def test_absentees_are_absent_and_of_their_kind(census):
    scenes, single, pairs = census
    tempting = {}
    for kind in ("random", "popular", "adversarial"):
        tempting[kind], popularity = [], []
        for scene in scenes:
            present = [t.category for t in scene.things]
            yes, no = world.existence(scene, kind)
            there, gone = yes.text.split()[3], no.text.split()[3]
            assert (yes.answer, no.answer, yes.kind, no.kind) == ("yes", "no", kind, kind)
            assert (
                there == scene.things[yes.about[0]].category
                and gone not in present
                and gone in world.CATEGORIES
            )
            if kind == "popular":
                rest = sorted(
                    (c for c in world.PORTABLE if c not in present),
                    key=lambda c: -POPULARITY.get(c, 1),
                )
                assert POPULARITY.get(gone, 1) >= POPULARITY.get(rest[2], 1)
            popularity.append(single[gone])
            tempting[kind] += [
                pairs[tuple(sorted((gone, c)))] / single[c] for c in present if c in world.PORTABLE
            ]
        tempting[kind] = np.mean(popularity), np.mean(tempting[kind])
    assert tempting["popular"][0] > 1.3 * tempting["random"][0]
    # popular things are likely companions of anything, so popular and adversarial lie close
    # together
    assert (
        tempting["adversarial"][1]
        > 1.02 * tempting["popular"][1]
        > 1.02 * 1.3 * tempting["random"][1]
    )
    with pytest.raises(ValueError, match="Absentees are random, popular, adversarial; got 'rare'"):
        absentee(scenes[0], "rare", None)


# -- questions
# --------------------------------------------------------------------------------------------------


def truth(scene, question):
    """The answer worked out again, from the question's words and the attributes of things that have
    pixels."""
    there = [t for t, mask in zip(scene.things, scene.masks) if mask.any()]
    words = question.text.split()
    match question.family:
        case "existence":
            return "yes" if words[3] in {t.category for t in there} else "no"
        case "colour" | "texture":
            (thing,) = (t for t in there if t.category == words[4])
            return getattr(thing, question.family)
        case "category":
            (thing,) = (t for t in there if {t.colour, t.texture} >= set(words[3:-2]))
            return thing.category
        case "background":
            return scene.background
        case "reading":
            (sign,) = (t for t in there if t.text)
            return " ".join(sign.text)
        case "counting":
            attribute = None if words[2] == "objects" else words[2]
            return NUMBERS[sum(attribute in (None, t.colour, t.texture) for t in there)]
        case "relation":
            a, b = (next(t for t in there if t.category == words[i]) for i in (3, 7))
            return place(scene, a, b)
        case "description":
            said = [["a", "sign", *t.text] if t.text else ["?", t.colour, t.texture, t.category]
                    for t in sorted(there, key=lambda t: (t.x, t.y))]  # fmt: skip
            for phrase in said:
                phrase[0] = "an" if phrase[1][0] in "aeiou" else "a"
            return " , ".join(map(" ".join, said)) + f" , on {scene.background} ."


def place(scene, a, b):
    for one, other, name in ((a, b, a.place), (b, a, OPPOSITE.get(b.place))):
        if one.place and scene.things[one.support] is other:
            stand, (x0, y0, x1, y1) = other.box, one.box
            assert stand[0] < (x0 + x1) / 2 < stand[2]
            assert y0 < stand[1] if one.place == "on" else y0 > stand[1] + 5 and y1 < stand[3]
            return name
    (ax0, _, ax1, ay), (bx0, _, bx1, by) = a.box, b.box
    across, deep = ((ax0 + ax1) - (bx0 + bx1)) / 2, 1.4 * (ay - by)
    # boxes' middles are rounded
    assert max(abs(across), abs(deep)) > 1.8 * min(abs(across), abs(deep))
    return (
        ("left", "right")[across > 0] if abs(across) > abs(deep) else ("behind", "front")[deep > 0]
    )


def test_every_answer_can_be_worked_out_again(many):
    asked = Counter()
    for scene in many[:300]:
        for question in [*ask(scene), *ask(scene, seed=1), *world.existence(scene, "adversarial")]:
            assert question.answer == truth(scene, question), (scene.seed, question)
            assert all(
                scene.things[i].category in question.text
                for i in question.about
                if question.family != "category"
            )
            asked[
                question.family,
                question.answer if question.family in ("relation", "counting") else "",
            ] += 1
    assert {family for family, _ in asked} == set(world.QUESTION_FAMILIES)
    assert {a for f, a in asked if f == "relation"} == {*world.RELATIONS_A, *world.RELATIONS_B}
    assert {a for f, a in asked if f == "counting"} >= set(NUMBERS[:6])
    assert all((scene.sign is None) == (ask(scene, ["reading"]) == []) for scene in many)
    assert ask(many[0], "colour") == ask(many[0], ("colour",)) == ask(many[0], ["colour"])


def test_relations_have_opposites(many):
    for scene in many[:200]:
        for a, b in itertools.permutations(range(len(scene.things)), 2):
            one, other = world.relation_question(scene, a, b), world.relation_question(scene, b, a)
            assert (one and OPPOSITE[one.answer]) == (other and other.answer)
            if one:
                assert one.answer == truth(scene, one) and one.about == (a, b)
    thing = many[0].things[0]
    assert world.relation(thing, thing) is None


# -- controlled sets
# ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spacing", ["wide", "narrow"])
@pytest.mark.parametrize("which", "AB")
def test_in_a_controlled_set_only_the_relation_changes(which, spacing):
    names = world.RELATIONS_A if which == "A" else world.RELATIONS_B
    for group in world.controlled(which, 100, spacing):
        assert (group.which, group.spacing, tuple(group.scenes)) == (which, spacing, names)
        satellites = [s.things[0] for s in group.scenes.values()]
        first = next(iter(group.scenes.values()))
        for name, scene in group.scenes.items():
            satellite, nucleus = scene.things
            question, back = (
                world.relation_question(scene, 0, 1),
                world.relation_question(scene, 1, 0),
            )
            assert (
                question.answer == name == truth(scene, question) and back.answer == OPPOSITE[name]
            )
            assert (
                nucleus == first.things[1]
                and nucleus.category == group.nucleus
                and satellite.category == group.satellite
            )
            assert (satellite.colour, satellite.texture) == (
                satellites[0].colour,
                satellites[0].texture,
            )
            assert (scene.background, scene.light, scene.window) == (
                first.background,
                first.light,
                first.window,
            )
            for x0, y0, x1, y1 in (satellite.box, nucleus.box):
                assert x0 >= 0 and y0 >= 0 and x1 <= scene.width and y1 <= scene.height
            untouched = (scene.owner == first.owner) & (scene.owner != 0)
            assert untouched.mean() > 0.8 and (scene.pixels == first.pixels)[untouched].all()
            assert min(scene.visible) > (0.4 if spacing == "wide" else 0)
        if which == "A":  # the size of the satellite tells nothing
            assert len({t.extent for t in satellites}) == 1


def test_wide_and_narrow_differ_in_spacing_only():
    for which, moved in (("A", {"left", "right"}), ("B", set(world.RELATIONS_B))):
        for wide, narrow in zip(world.controlled(which, 30), world.controlled(which, 30, "narrow")):
            for name, far in wide.scenes.items():
                near = narrow.scenes[name]
                assert (
                    dataclasses.replace(far, things=near.things) == near
                    and far.things[1] == near.things[1]
                )
                a, b = far.things[0], near.things[0]
                distances = [np.hypot(t.x - far.things[1].x, t.y - far.things[1].y) for t in (a, b)]
                assert distances[0] > distances[1] + 10 if name in moved else a == b
                assert dataclasses.replace(a, x=b.x, y=b.y, extent=b.extent, order=b.order) == b
