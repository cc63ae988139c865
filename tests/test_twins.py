"""Twins of chapter 11: the same pixels on both sides, and a nucleus that is placed by angle."""

import numpy as np
import pytest
import torch

import whatwhere as ww
from whatwhere import rope, world
from whatwhere.book import production, twins


@pytest.fixture(scope="module")
def vlm():
    return ww.load("toy-qwen2vl")


@pytest.fixture(scope="module")
def pair():
    for one in world.controlled("B", 8):
        left, right = twins.of(one.scenes["left"])
        if left.satellite.any() and left.nucleus.sum() > 1:
            return left, right
    raise AssertionError("no set of eight has patches to look at")


def pixels(seen, mask):
    image = np.asarray(seen.scene.image)
    return [image[9 * r : 9 * r + 9, 9 * c : 9 * c + 9] for r, c in np.argwhere(mask)]


def test_twins_show_the_same_pixels_five_patches_to_either_side(pair):
    left, right = pair
    for seen, apart in ((left, -45), (right, 45)):
        satellite, nucleus = seen.scene.things
        assert (satellite.x - nucleus.x, satellite.y - nucleus.y) == (apart, 0)
    assert left.satellite.any() and left.nucleus.any()
    for mask in ("satellite", "nucleus"):
        ours, theirs = (pixels(seen, getattr(seen, mask)) for seen in pair)
        assert len(ours) == len(theirs) and np.array_equal(ours, theirs)
    assert not np.array_equal(left.scene.image, right.scene.image)


def test_numbers_find_patches_in_the_encoders_own_order(vlm, pair):
    left, _ = pair
    heads = rope.heads(vlm, left.scene.image)
    found = twins.numbers(heads, left.nucleus)
    assert heads.at[found].tolist() == np.argwhere(left.nucleus).tolist()
    assert found.tolist() != np.flatnonzero(left.nucleus).tolist(), "that would be raster order"


def test_four_places_are_those_of_the_derivation():
    own = rope.place("left", 5)
    for name, at in twins.four_places(own).items():
        assert at.tolist() == rope.place(name, 5).tolist()


def test_what_is_placed_where_it_stands_gives_the_models_own_outputs(vlm, pair):
    left, _ = pair
    outputs, told = twins.placed(vlm, left)
    assert told.shape[2:] == (left.satellite.sum(), left.nucleus.sum())
    heads = rope.heads(vlm, left.scene.image)
    satellite = twins.numbers(heads, left.satellite)
    really = torch.stack(production.vision_outputs(vlm, left.scene.image))[:, satellite]
    ours = outputs["left"].transpose(1, 2).flatten(2)
    assert (ours - really).abs().max() < 1e-4 * really.abs().max()
    moved = outputs["right"].transpose(1, 2).flatten(2)
    assert (moved - really).abs().max() > 1e-2 * really.abs().max(), "the check can fail"


def test_one_patch_moves_on_a_line_and_small_changes_are_of_first_order(vlm, pair):
    left, _ = pair
    outputs, told = twins.placed(vlm, left, patches=1)
    assert told.shape[3] == 1
    across = outputs["left"] - outputs["right"]
    along = outputs["front"] - outputs["behind"]
    counts = ~twins.looks_elsewhere(outputs)
    assert counts.any()
    cosines = torch.nn.functional.cosine_similarity(across, along, dim=-1).abs()
    assert cosines[counts].min() > 1 - 1e-6
    # where telling logits are small, the first order misses a share of the order of the logit
    small = (told[..., 0].abs() < 0.05) & (told[..., 0].abs() > 1e-3) & counts
    change = outputs["left"] - outputs["none"]
    missed = (change - outputs["first order"]).norm(dim=-1) / change.norm(dim=-1)
    assert small.any() and missed[small].max() < 0.05


def test_a_nucleus_that_gets_no_attention_is_found(vlm, pair):
    left, _ = pair
    outputs, _ = twins.placed(vlm, left, patches=1)
    same = {place: outputs["none"] for place in outputs}
    assert twins.looks_elsewhere(same).all()
