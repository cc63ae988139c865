"""The world: same seed, same bytes; truth about every pixel; what it refuses. (What it says:
test_questions.py.)"""

import dataclasses
import hashlib
import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from whatwhere import world
from whatwhere.world import questions as ask
from whatwhere.world.rendering import FAR, NEAR
from whatwhere.world.sprites import _GLYPHS, DOT, background, board, sprite, texture

STORED = "12a4ff26f55c001d"


@pytest.fixture(scope="module")
def many():
    """500 test scenes."""
    return list(world.scenes("test", 500))


# -- same seed, same bytes
# ----------------------------------------------------------------------------------------


def fingerprint():
    """One hash of pictures, truth, questions and controlled sets."""
    seal = hashlib.sha256()
    for split in world.SPLITS:
        for scene in world.scenes(split, 4, 7):
            seal.update(
                scene.pixels.tobytes() + scene.owner.tobytes() + repr(scene.things).encode()
            )
            seal.update(repr(ask(scene)).encode())
            seal.update(
                repr(
                    [world.existence(scene, kind) for kind in ("random", "popular", "adversarial")]
                ).encode()
            )
    for which in "AB":
        for scene in world.controlled(which, 1, "narrow")[0].scenes.values():
            seal.update(scene.pixels.tobytes())
    return seal.hexdigest()[:16]


def test_the_bytes_are_those_the_organisms_were_trained_on():
    """A change here changes the world: the organisms and every number in the book would have to be
    made again.

    (Or Pillow draws its polygons in another way: compare its version with constraints.txt.)
    """
    assert fingerprint() == STORED


def test_another_process_makes_the_same_bytes():
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here), str(here.parent / "lib")])
    for hash_seed in ("1", "4321"):
        found = subprocess.run(
            [sys.executable, "-c", "import test_world; print(test_world.fingerprint())"],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": paths},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert found.stdout.strip() == STORED


def test_scenes_do_not_depend_on_what_was_drawn_before():
    twice = [world.scene(11), *world.scenes("test", 3, 10)]
    assert (
        twice[0] == twice[2]
        and hash(twice[0]) == hash(twice[2])
        and (twice[0].pixels == twice[2].pixels).all()
    )
    assert (
        len({s.pixels.tobytes() for split in world.SPLITS for s in world.scenes(split, 50)}) == 200
    )


def test_three_hundred_scenes_a_second():
    def seconds(start):
        began = time.process_time()  # of this process alone: others on the machine do not count
        for scene in world.scenes("test", 60, start):
            assert scene.pixels is not None
        return time.process_time() - began

    seconds(0)  # sprites and grounds are drawn once
    assert min(seconds(start) for start in range(1000, 1300, 60)) < 60 / 300


# -- truth about every pixel
# --------------------------------------------------------------------------------------


def test_owner_masks_boxes_and_visible_agree(many):
    for scene in many[:150]:
        assert (
            scene.pixels.shape == (144, 144, 3)
            and scene.pixels.dtype == np.uint8
            and scene.image.size == (144, 144)
        )
        assert 2 <= len(scene.things) <= 5 and len({t.category for t in scene.things}) == len(
            scene.things
        )
        assert sum(t.category in world.STANDS for t in scene.things) <= 1
        drawn = np.full((144, 144), -1)
        # painter's algorithm, again
        for index in sorted(range(len(scene.things)), key=lambda i: scene.things[i].order):
            thing = scene.things[index]
            x0, y0, x1, y1 = thing.box
            assert (y1 - y0, x1 - x0) == thing.silhouette.shape and y1 == thing.y
            spot = drawn[max(y0, 0) : y1, max(x0, 0) : x1]
            spot[
                thing.silhouette[max(-y0, 0) :, max(-x0, 0) :][: spot.shape[0], : spot.shape[1]]
            ] = index
        assert (scene.owner == drawn).all()
        assert (scene.masks == (drawn == np.arange(len(scene.things))[:, None, None])).all()
        assert np.allclose(
            scene.visible,
            [(drawn == i).sum() / t.silhouette.sum() for i, t in enumerate(scene.things)],
        )


def test_things_are_seen_well_enough_to_be_asked_about(many):
    shares = np.array([v for s in many for v in s.visible])
    assert shares.min() > 0.5 and np.quantile(shares, 0.01) > 0.75
    assert (shares < 0.999).mean() > 0.15  # and some are hidden in part
    assert min(mask.sum() for s in many for mask in s.masks) >= 140  # a LLaVA patch has 144 pixels
    assert all(
        s.visible[i] == 1 for s in many for i, t in enumerate(s.things) if t.category == "sign"
    )
    assert min(x0 for s in many for x0, *_ in (t.box for t in s.things)) >= 0


def test_things_have_the_colour_texture_and_ground_they_are_said_to_have(many):
    grounds = np.array([background(b).mean((0, 1)) for b in world.BACKGROUNDS])
    grounds /= np.linalg.norm(grounds, axis=1, keepdims=True)
    right = []
    for scene in many[:100]:
        for thing, mask in zip(scene.things, scene.masks):
            if thing.category == "sign":
                continue
            paint = scene.pixels[inside(mask)].astype(float)
            bright = np.clip(np.array(world.COLOURS[thing.colour]) * scene.light, 0, 255)
            assert np.abs(np.percentile(paint, 95, axis=0) - bright).max() <= 1, (scene.seed, thing)
            assert (np.ptp(paint, axis=0).max() <= 1) == (thing.texture == "plain")
        mean = scene.pixels[scene.owner < 0].mean(0)
        right.append(world.BACKGROUNDS[(grounds @ mean).argmax()] == scene.background)
    assert np.mean(right) == 1


def inside(mask):
    """A mask without its border, two pixels deep."""
    for _ in range(2):
        padded = np.pad(mask, 1)
        mask = (
            padded[1:-1, 1:-1]
            & padded[:-2, 1:-1]
            & padded[2:, 1:-1]
            & padded[1:-1, :-2]
            & padded[1:-1, 2:]
        )
    return mask


def test_the_letters_can_be_read_off_the_pixels(many):
    signs = [(s, t) for s in many for t in s.things if t.category == "sign"]
    for scene, sign in signs[:80]:
        read = ""
        for letter, (x0, y0, x1, y1) in sign.letters:
            dark = scene.pixels[y0:y1, x0:x1].max(-1) < 100
            dots = dark[DOT // 2 :: DOT, DOT // 2 :: DOT]
            fits = [
                c
                for c, rows in _GLYPHS.items()
                if (dots == [[d == "#" for d in row] for row in rows]).all()
            ]
            assert fits == [letter]
            read += letter
        assert read == scene.sign == sign.text and set(read) <= set(world.CHARACTERS)
    assert {c for _, t in signs for c in t.text} == set(world.CHARACTERS)


def test_cover_sums_to_one(many):
    for scene, (rows, columns) in itertools.product(many[:10], [(12, 12), (8, 8), (1, 1), (16, 6)]):
        cover = scene.cover(rows, columns)
        assert cover.shape == (len(scene.things) + 1, rows, columns) and np.allclose(
            cover.sum(0), 1
        )
        cell = scene.owner[: 144 // rows, -(144 // columns) :]
        assert np.allclose(
            cover[:-1, 0, -1], [(cell == i).mean() for i in range(len(scene.things))]
        )
    for grid in [(0, 12), (-12, 12), (12, 2.5), (True, 12)]:
        with pytest.raises(ValueError, match="whole number of rows and of columns, 1 or more; got"):
            many[0].cover(*grid)


def test_a_grid_need_not_divide_the_picture(many):
    """Each pixel cut into as many as the grid has cells: then it does."""
    for scene, (rows, columns) in itertools.product(
        many[:4], [(5, 5), (7, 12), (10, 10), (3, 11), (150, 1)]
    ):
        fine = scene.owner.repeat(rows, 0).repeat(columns, 1).reshape(rows, 144, columns, 144)
        cover = scene.cover(rows, columns)
        assert cover.shape == (len(scene.things) + 1, rows, columns)
        for share, index in zip(cover, [*range(len(scene.things)), -1]):
            assert (share == (fine == index).mean((1, 3))).all()


def test_an_even_grid_gives_plain_means_bit_for_bit(many):
    for scene, (rows, columns) in itertools.product(
        many[:10], [(12, 12), (8, 8), (16, 16), (9, 24)]
    ):
        cells = scene.masks.reshape(-1, rows, 144 // rows, columns, 144 // columns)
        assert (scene.cover(rows, columns)[:-1] == cells.mean((2, 4))).all()


def test_far_is_higher_and_smaller(many):
    for category in world.PORTABLE:
        # not those on, under or beside a stand, which are cut to its size and drawn just after or
        # before it
        placed = [t for s in many for t in s.things if t.category == category and t.order == t.y]
        assert np.corrcoef([t.y for t in placed], [t.extent for t in placed])[0, 1] > 0.95
        assert all(round(144 * FAR) <= t.y <= round(144 * NEAR) for t in placed)


def test_a_changed_scene_changes_its_picture_and_its_truth():
    scene = world.scene(7)
    without = dataclasses.replace(scene, things=scene.things[:1])
    assert (without.pixels != scene.pixels).any() and set(np.unique(without.owner)) == {-1, 0}
    assert (
        ask(
            dataclasses.replace(scene, things=()),
            ("existence", "colour", "texture", "category", "relation"),
        )
        == []
    )
    for size in (145, 300, 600):
        for larger in world.scenes("unseen", 5, size=size):
            assert (
                larger.pixels.shape == (size, size, 3) == (larger.height, larger.width, 3)
                and min(larger.visible) > 0.5
            )
            assert (
                all(larger.find(t.category) is t for t in larger.things)
                and larger.find("cat") is None
            )
        # a larger room, not larger things
        assert {t.extent for t in world.scene(7, size=size).things} <= set(range(30, 70))


# -- bad input
# --------------------------------------------------------------------------------------------------

REFUSED = {
    "a float": (lambda: world.scene(7.0), TypeError, "whole number, such as 7; got 7.0"),
    "a string": (lambda: world.scene("7"), TypeError, "got '7'"),
    "true": (lambda: world.scene(True), TypeError, "got True"),
    "none": (lambda: world.scene(None), TypeError, "got None"),
    "a negative seed": (lambda: world.scene(-1), ValueError, "zero or more; got -1"),
    "many from a float": (lambda: world.scenes("test", 3, 1.5), TypeError, "got 1.5"),
    "a float of them": (
        lambda: world.scenes("test", 3.0),
        ValueError,
        "How many is a whole number",
    ),
    "fewer than none": (
        lambda: world.controlled("A", -1),
        ValueError,
        "How many is a whole number",
    ),
    "a split": (
        lambda: world.scene(7, "val"),
        ValueError,
        "No split 'val'; there are train, dev, test, unseen",
    ),
    "a split of many": (lambda: world.scenes("val"), ValueError, "No split 'val'"),
    "a controlled split": (
        lambda: world.controlled("A", split="val"),
        ValueError,
        "No split 'val'",
    ),
    "a controlled seed": (lambda: world.controlled("A", start="0"), TypeError, "got '0'"),
    "a set": (lambda: world.controlled("C"), ValueError, "'A' .* or 'B' .*; got 'C'"),
    "a spacing": (
        lambda: world.controlled("A", spacing="far"),
        ValueError,
        "Spacing is 'wide' or 'narrow'; got 'far'",
    ),
    "a small size": (lambda: world.scene(7, size=100), ValueError, "144 or more; got 100"),
    "a float size": (lambda: world.scene(7, size=144.5), ValueError, "got 144.5"),
    "a family": (
        lambda: ask(world.scene(7), ["color"]),
        ValueError,
        "No question family 'color'; there are existence",
    ),
    "a kind": (lambda: world.existence(world.scene(7), "rare"), ValueError, "got 'rare'"),
    "a kind of word": (
        lambda: world.words_of("verb"),
        ValueError,
        "No words of kind 'verb'; there are category",
    ),
    "a category": (lambda: sprite("cat", 40), ValueError, "No silhouette for category 'cat'"),
    "a texture": (lambda: texture("furry"), ValueError, "No texture 'furry'"),
    "a ground": (
        lambda: dataclasses.replace(world.scene(7), background="lava").pixels,
        ValueError,
        "No background 'lava'",
    ),
    "a colour": (lambda: recoloured("teal").pixels, ValueError, "No colour 'teal'"),
    "a letter": (lambda: board("ab"), ValueError, "A sign holds two of the letters c e h"),
}


def recoloured(colour):
    scene = world.scene(7)
    return dataclasses.replace(
        scene, things=tuple(dataclasses.replace(t, colour=colour) for t in scene.things if t.colour)
    )


@pytest.mark.parametrize("what", REFUSED)
def test_refused_with_a_sentence(what):
    call, error, sentence = REFUSED[what]
    with pytest.raises(error, match=sentence):
        call()


def test_whole_numbers_of_numpy_are_whole_numbers():
    assert (
        world.scene(np.int64(7)) == world.scene(7) == world.scene(np.uint8(7))
        and type(world.scene(np.int64(7)).seed) is int
    )
    assert list(world.scenes("test", np.int32(2), np.int64(5))) == [world.scene(5), world.scene(6)]
    assert world.controlled("A", 1, start=np.int64(3)) == world.controlled("A", 1, start=3)


def test_every_word_has_one_kind():
    kinds = world.kinds_of_words()
    assert kinds["mug"] == "category" and kinds["red"] == "colour" and kinds["sand"] == "background"
    assert set(world.kinds_of_words("texture").values()) == {"texture"}
    with pytest.raises(ValueError, match="No words of kind 'verb'"):
        world.kinds_of_words("verb")
