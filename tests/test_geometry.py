"""What things' patches hold and how heads look along an axis: in the right places, and as by
hand."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

import whatwhere as ww
from closeness import OTHER, SAME, apart
from whatwhere import answers, geometry, images, intervene, lens, rope, stages, world
from whatwhere.book.rehearsal.checkpoints import internvl, llava, qwen2vl
from whatwhere.hooks import residual_stream
from whatwhere.world import Scene, Thing

SHAPES = {
    "llava": (llava, {}),
    "llava, class token kept, second-last block": (
        llava,
        dict(strategy="full", feature_layer=-2, image=30),
    ),
    "qwen2vl": (qwen2vl, {}),
    "qwen2vl, merging 3 x 3": (qwen2vl, dict(merge=3, layers=2)),
    "qwen2vl, no merging": (qwen2vl, dict(merge=1)),
    "qwen2.5vl": (qwen2vl, dict(window=2)),
    "internvl": (internvl, {}),
}
pytestmark = pytest.mark.usefixtures("one_thread")
SIZES = (3, 5), (1, 6), (5, 3)  # tokens; LLaVA resizes them all to one grid


@pytest.fixture(scope="module", params=SHAPES)
def vlm(request, tmp_path_factory):
    make, options = SHAPES[request.param]
    make(folder := tmp_path_factory.mktemp("checkpoint"), **options)
    return ww.load(folder, device="cpu", dtype="float32")


@pytest.fixture(scope="module", params=["toy-llava", "toy-qwen2vl"])
def organism(request):
    return ww.load(request.param, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def turning():
    return ww.load("toy-qwen2vl", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def coarse(tmp_path_factory):
    """It merges 3 × 3 patches of 12 pixels: 4 × 4 visual tokens of a scene."""
    qwen2vl(folder := tmp_path_factory.mktemp("coarse"), patch=12, merge=3)
    return ww.load(folder, device="cpu", dtype="float32")


def patch_size(vlm):
    size = vlm.model.config.vision_config.patch_size
    return size if isinstance(size, int) else size[0]


def picture(vlm, rows, columns, seed=0):
    side = vlm.adapter.merge * patch_size(vlm)
    return Image.fromarray(
        np.random.default_rng(seed).integers(
            0, 256, (rows * side, columns * side, 3), dtype=np.uint8
        )
    )


def pictures(vlm):
    return [picture(vlm, *size, seed) for seed, size in enumerate(SIZES)]


# -- grids, places, masks
# -------------------------------------------------------------------------------------------


def test_grids_are_of_patches_and_of_tokens(vlm):
    for image, size in zip(pictures(vlm), SIZES):
        size = size if "qwen" in vlm.family else (vlm.adapter.side // vlm.adapter.merge,) * 2
        patches, tokens = geometry.grids(vlm, image)
        assert tokens == size and patches == tuple(vlm.adapter.merge * n for n in size)
        assert len(vlm.positions(image).vit) == np.prod(patches) and len(
            vlm.positions(image).index
        ) == np.prod(tokens)


def test_places_are_named_in_the_order_they_are_reached():
    vlm = ww.load("toy-qwen2vl", device="cpu", dtype="float32")
    named = [
        "ViT 0",
        "ViT 1",
        "ViT 2",
        "ViT 3",
        "ViT 4",
        "ViT 5",
        "ViT 6",
        "LM 0",
        "LM 1",
        "LM 2",
        "LM 3",
        "LM 4",
    ]
    assert (
        geometry.hook_points(vlm)
        == named
        == list(next(geometry.states(vlm, [world.scene(7).image])))
    )


def test_a_place_is_where_intervene_looks_for_it(turning):
    assert geometry.at(turning, "ViT 4") == {"depth": 4} and geometry.at(turning, "LM 0") == {
        "layer": 0
    }
    for wrong in ("LM 5", "vit 1", "LM", 3, None):
        with pytest.raises(ValueError, match="'ViT 0' to 'ViT 6' and 'LM 0' to 'LM 4'; got"):
            geometry.at(turning, wrong)


def hidden_and_small():
    """A mug behind a house that hides it, and an apple of some ten pixels."""
    house = Thing("house", "red", "plain", x=60, y=110, extent=56, order=9)
    mug, apple = (
        Thing("mug", "blue", "plain", x=60, y=100, extent=14, order=1),
        Thing("apple", "blue", "plain", 126, 36, 12),
    )
    return Scene(3, "test", "grass", (house, mug, apple))


@pytest.mark.parametrize("grid", [(8, 8), (16, 16), (12, 12), (4, 9)])
@pytest.mark.parametrize("least", [0.25, 0.6, 0.01])
def test_a_things_patches_are_those_it_covers_more_than_any_other(grid, least):
    """Patch by patch; in test scene 22 there are two that cover the same share of one."""
    for scene in [*world.scenes("test", 12), world.scene(22), hidden_and_small()]:
        found, (height, width) = (
            geometry.masks(scene, grid, least),
            (144 // grid[0], 144 // grid[1]),
        )
        assert (
            found.shape == (len(scene.things), *grid)
            and found.dtype == bool
            and found.sum(0).max() <= 1
        )
        for row, column in np.ndindex(grid):
            patch = scene.owner[
                row * height : (row + 1) * height, column * width : (column + 1) * width
            ]
            cover = [(patch == n).mean() for n in range(len(scene.things))]
            own = [n for n, one in enumerate(cover) if one >= least and one == max(cover)]
            assert found[:, row, column].nonzero()[0].tolist() == own[:1]


@pytest.fixture(scope="module")
def as_published(tmp_path_factory):
    """Qwen2-VL's own patches of 14 pixels, 2 × 2 merged: a scene of 144 pixels becomes 140, and 5 ×
    5 visual tokens."""
    qwen2vl(folder := tmp_path_factory.mktemp("published"), patch=14, max_tokens=16384)
    return ww.load(folder, device="cpu", dtype="float32")


def test_truth_on_a_grid_that_does_not_divide_the_picture(as_published):
    scenes = list(world.scenes("test", 6))
    grids = geometry.grids(as_published, scenes[0].image)
    assert grids == ((10, 10), (5, 5)) and as_published.seen(scenes[0].image).size == (140, 140)
    for scene in scenes:
        for thing, mask, cover in zip(scene.things, scene.masks, scene.cover(*grids[1])):
            middle, cells = (np.argwhere(mask) + 0.5).mean(0) / 144, (np.indices((5, 5)) + 0.5) / 5
            found = (cells * cover).sum((1, 2)) / cover.sum()
            assert np.abs(found - middle).max() < 0.1, (
                f"the {thing.category} is where it is in the picture"
            )
    large = [scene for scene in scenes if geometry.has_patches(as_published, scene, (0,))]
    vectors = geometry.thing_vectors(as_published, large, (0,))
    assert len(large) > 2 and all(each.shape[:2] == (len(large), 1) for each in vectors.values())
    seen = next(geometry.states(as_published, [large[0].image]))
    for place, grid in (("ViT 2", (10, 10)), ("LM 1", (5, 5))):
        (own,), (bare,) = (
            of(as_published, large[:1], 0, place) for of in (geometry.patches, geometry.ground)
        )
        assert (
            own.shape == bare.shape == grid and own.sum() == bare.sum() and not (own & bare).any()
        )
        assert np.allclose(vectors[place][0, 0], seen[place][own].mean(0), atol=1e-5)


def test_all_statistics_of_maps_on_such_a_grid(as_published):
    scenes = list(world.scenes("test", 3))
    with images.bounded(as_published, min_pixels=144 * 28**2):  # enlarged: 12 × 12 tokens
        assert as_published.patch_grid(scenes[0].image) == (12, 12)
    read = stages.read(as_published, scenes, asked=["red"])
    assert read.ids.shape[2:] == (5, 5)
    words = {
        "attribute": ["red", "green", "blue", "yellow", "striped", "plain"],
        "object": ["bowl"],
    }
    table = stages.counts(read, scenes, words)
    assert (table["patches"] == 25).all() and (table["object patches"] > 0).any()
    assert stages.segments(read, scenes).shape == read.ids.shape
    assert stages.overlap(np.zeros((3, 1, 5, 5), int), scenes, read)[1].any()
    states, truth = stages.labelled(as_published, scenes)
    assert states.shape[2] == 25 and truth["category"].shape == (3, 25)
    assert stages.clustered(states[-1, 0], scenes[0], (5, 5)).shape == (5, 5)


def test_a_control_needs_as_much_ground_as_the_thing_has(as_published):
    things = tuple(
        Thing("house", "red", "plain", x, y, 60, order=y)
        for x in (24, 72, 120)
        for y in (50, 98, 146)
    )
    full = Scene(5, "test", "grass", things)
    with pytest.raises(
        ValueError,
        match="Scene tabletop.* has .* patches of thing 0, and of 25 in all only .* of no thing",
    ):
        geometry.ground(as_published, [full], 0, "LM 0")


def test_of_large_pictures_few_states_are_held_at_once(as_published, monkeypatch):
    pictures = [scene.image for scene in world.scenes("test", 5)]
    together = [seen["LM 2"] for seen in geometry.states(as_published, pictures)]
    monkeypatch.setattr(geometry, "NUMBERS", 1)
    assert geometry.at_once(as_published, pictures[0]) == 1
    alone = [seen["LM 2"] for seen in geometry.states(as_published, pictures)]
    assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(together, alone, strict=True))


def test_a_hidden_thing_has_no_patch(organism):
    scene = hidden_and_small()
    assert not geometry.masks(scene, (16, 16))[1].any() and geometry.masks(scene, (16, 16))[2].any()
    assert geometry.has_patches(organism, scene, about=(0,)) and not geometry.has_patches(
        organism, scene
    )
    assert not geometry.has_patches(organism, scene, about=(1,)) and not geometry.has_patches(
        organism, scene, about=(2, 1)
    )
    with pytest.raises(
        ValueError,
        match="The mug of scene tabletop.* covers 25% of no patch of 1[26] × 1[26]: leave the "
        "scene",
    ):
        geometry.thing_vectors(organism, [world.scene(7), scene])


def test_a_thing_needs_patches_in_the_vit_and_as_tokens(coarse):
    scene = hidden_and_small()
    patches, tokens = (
        geometry.masks(scene, grid)[2].any() for grid in geometry.grids(coarse, scene.image)
    )
    assert patches and not tokens
    assert not geometry.has_patches(coarse, scene, about=(2,)) and not geometry.has_patches(
        coarse, scene, about=(0, 2)
    )
    assert geometry.has_patches(coarse, scene, about=(0, 2), least=0.01)
    with pytest.raises(
        ValueError, match="The apple of scene tabletop.* covers 25% of no patch of 4 × 4"
    ):
        geometry.thing_vectors(coarse, [scene], about=(2,))
    assert geometry.thing_vectors(coarse, [scene], about=(2,), least=0.01)["LM 0"].shape == (
        1,
        1,
        32,
    )


# -- states
# --------------------------------------------------------------------------------------------------


def close(one, two):
    return apart(one, two) < SAME


@torch.no_grad()
def test_states_are_where_the_model_has_them(vlm, monkeypatch):
    """Images of several grids, two at a time, against each alone; and in the ViT's own order, one
    patch after the other."""
    monkeypatch.setattr(geometry, "AT_ONCE", 2)
    images = pictures(vlm)
    for image, seen in zip(images, geometry.states(vlm, images), strict=True):
        patches, tokens = geometry.grids(vlm, image)
        assert list(seen) == geometry.hook_points(vlm)
        arguments, named = vlm.adapter.vision_arguments(vlm.prepare(image, ""))
        depths, at = list(range(vlm.last_depth + 1)), vlm.positions(image).vit
        for depth, raw in enumerate(
            residual_stream(vlm.adapter.vision, vlm.vision_blocks, depths, *arguments, **named)
        ):
            found = seen[f"ViT {depth}"]
            assert found.shape[:2] == patches and found.dtype == np.float32
            # without a class token
            assert close(found[at[:, 0], at[:, 1]], raw.reshape(-1, raw.shape[-1])[-len(at) :])
        whole = vlm.vit_states(image)
        if vlm.adapter.merge == 1:
            assert all(close(seen[f"ViT {n}"].reshape(len(at), -1), whole[n]) for n in depths)
        for layer in range(vlm.n_layers + 1):
            ((_, grid, hidden),) = lens.maps.visual_states(
                vlm, [image], "", layer, [vlm.last_depth]
            )
            assert grid == tokens and close(seen[f"LM {layer}"], hidden[0, 0].reshape(*tokens, -1))
        if vlm.family == "qwen2_vl":  # M-RoPE knows the row and the column of a token
            row, column = (each - each.min() for each in vlm.positions(image).lm[1:])
            assert close(seen["LM 0"][row, column], vlm.visual_tokens(image))
    assert not close(seen["ViT 0"], seen["ViT 0"][::-1]) and not close(
        seen["LM 0"], seen["LM 0"][:, ::-1]
    )


def test_a_patch_is_found_where_it_is_in_the_picture(vlm):
    """Every patch has a grey of its own. At depth 0 it is as in a picture that is of this grey all
    over."""
    p, (rows, columns) = patch_size(vlm), geometry.grids(vlm, picture(vlm, 3, 5))[0]
    greys = np.random.default_rng(0).permutation(250)[: rows * columns].reshape(rows, columns)

    def states(grey):
        image = Image.fromarray(np.kron(grey, np.ones((p, p))).astype(np.uint8)).convert("RGB")
        return next(geometry.states(vlm, [image]))["ViT 0"]

    found = states(greys)
    for row, column in (
        (0, 0),
        (0, 1),
        (1, 0),
        (rows - 1, 0),
        (0, columns - 1),
        (2, columns - 2),
        (rows - 1, columns - 1),
    ):
        plain = states(np.full((rows, columns), greys[row, column]))
        alike = np.abs(found - plain).max(-1) < SAME * np.abs(plain).max()
        assert alike.sum() == 1 and close(found[row, column], plain[row, column])


def test_a_things_vector_is_the_mean_of_its_patches(organism):
    scenes = [scene for scene in world.scenes("test", 6, start=20) if len(scene.things) > 2][:3]
    found = geometry.thing_vectors(organism, scenes, about=(2, 0))
    assert list(found) == geometry.hook_points(organism)
    for n, scene in enumerate(scenes):
        alone = next(geometry.states(organism, [scene.image]))
        for place, states in alone.items():
            assert found[place].shape == (len(scenes), 2, states.shape[-1])
            mask = geometry.masks(scene, states.shape[:2])
            for i, thing in enumerate((2, 0)):
                patches = [states[at] for at in np.ndindex(states.shape[:2]) if mask[thing][at]]
                assert close(found[place][n, i], sum(patches) / len(patches))
    usual, more = (
        geometry.thing_vectors(organism, scenes, least=least)["ViT 1"] for least in (0.25, 0.01)
    )
    assert close(usual[:, 0], found["ViT 1"][:, 1]) and not close(usual, more)


def test_scenes_of_several_sizes_have_patches_of_their_own(coarse):
    """A larger room has more patches."""
    scenes = [world.scene(7), dataclasses.replace(world.scene(7), height=216, width=252)]
    assert [geometry.grids(coarse, scene.image)[1] for scene in scenes] == [(4, 4), (6, 7)]
    together = geometry.thing_vectors(coarse, scenes)
    for n, scene in enumerate(scenes):
        alone = geometry.thing_vectors(coarse, [scene])
        assert all(close(together[place][n], alone[place][0]) for place in together)


def test_scenes_may_come_one_by_one(organism):
    """`world.scenes` is an iterator: what it gives is not lost on the way."""
    found, scenes = (
        geometry.thing_vectors(organism, world.scenes("test", 2)),
        list(world.scenes("test", 2)),
    )
    for place, expected in geometry.thing_vectors(organism, scenes).items():
        assert found[place].shape == expected.shape and np.array_equal(found[place], expected)


# -- along an axis
# --------------------------------------------------------------------------------------------------


def made(rotary, tokens, seed=0):
    """Random `Heads` (2 blocks, 3 heads) on random places."""
    generator = torch.Generator().manual_seed(seed)
    q, k, v = torch.randn(3, 2, 3, tokens, rotary.head_size, generator=generator)
    return rope.Heads(
        q, k, v, torch.randint(9, (tokens, int(rotary.axis.max()) + 1), generator=generator)
    )


ROTARIES = {
    "a ViT's": rope.axial(rope.frequencies(16)),
    "M-RoPE": rope.Rotary(10.0 ** -(torch.arange(8) / 8), [0, 0, 1, 1, 1, 2, 2, 2]),
    "one axis": rope.Rotary(10.0 ** -(torch.arange(8) / 8), [0] * 8),
}
QUERIES, KEYS = torch.tensor([1, 4, 5, 11]), torch.arange(2, 10)


@pytest.fixture(params=ROTARIES)
def rotary(request):
    return ROTARIES[request.param]


def of_axis(rotary, axis):
    """(head size,) which dimensions turn with an axis: pair i is dimensions i and i + pairs."""
    return torch.cat([rotary.axis == axis] * 2)


def test_an_axis_has_to_say_what_its_pairs_alone_would(rotary):
    """All pairs of the other axes put to zero: then the whole logit is the part of this axis."""
    heads = made(rotary, 12)
    found = geometry.axis_attention(rotary, heads, QUERIES, KEYS)
    assert found.shape == (2, 3, int(rotary.axis.max()) + 1) and found.min() > 0.05
    for axis in range(found.shape[-1]):
        for block, head in np.ndindex(2, 3):
            q, k = heads.q[block, head, QUERIES] * of_axis(rotary, axis), heads.k[block, head, KEYS]
            logits = rotary.logits(q, k, heads.at[QUERIES], heads.at[KEYS])
            by_hand = np.mean([[abs(float(one - row.mean())) for one in row] for row in logits])
            assert found[block, head, axis] == pytest.approx(by_hand, rel=SAME)


def test_only_the_axis_that_is_turned_speaks(rotary):
    heads = made(rotary, 12)
    for axis in range(int(rotary.axis.max()) + 1):
        only = heads._replace(q=heads.q * of_axis(rotary, axis), k=heads.k * of_axis(rotary, axis))
        found = geometry.axis_attention(rotary, only, QUERIES, KEYS)
        spoken = np.arange(found.shape[-1]) == axis
        assert found[..., spoken].min() > 0.05 and (found[..., ~spoken] == 0).all()


def test_keys_that_are_alike_say_nothing(rotary):
    """Same vector, same place: nothing. Same vector, places that differ along one axis: this axis
    alone."""
    heads = made(rotary, 12)
    alike = heads._replace(
        k=heads.k[:, :, :1].expand_as(heads.k), at=heads.at[:1].expand_as(heads.at)
    )
    usual = geometry.axis_attention(rotary, heads, QUERIES, KEYS)
    assert geometry.axis_attention(rotary, alike, QUERIES, KEYS).max() < SAME * usual.max()
    for axis in range(heads.at.shape[-1]):
        at = alike.at.clone()
        at[:, axis] = torch.arange(12)
        found = geometry.axis_attention(rotary, alike._replace(at=at), QUERIES, KEYS)
        along = np.arange(found.shape[-1]) == axis
        assert found[..., along].min() > OTHER and (found[..., ~along] < SAME * usual.max()).all()


def test_the_heads_of_a_model_are_taken_as_they_are(turning):
    """The ViT's, and the LM's with its question; half precision is counted in whole."""
    image = world.scene(7).image
    for rotary, heads, blocks in (
        (rope.vision(turning), rope.heads(turning, image), turning.last_depth),
        (
            rope.language(turning),
            rope.language_heads(turning, image, "where is the mug ?"),
            turning.n_layers,
        ),
    ):
        found = geometry.axis_attention(rotary, heads, torch.arange(40, 50), torch.arange(10, 60))
        assert found.shape == (blocks, heads.q.shape[1], heads.at.shape[1]) and found.max() > 0.1
        half = heads._replace(q=heads.q.bfloat16(), k=heads.k.bfloat16())
        rounded = geometry.axis_attention(rotary, half, torch.arange(40, 50), torch.arange(10, 60))
        assert rounded.dtype == np.float32 and np.allclose(rounded, found, atol=0.05 * found.max())


@pytest.fixture(scope="module")
def asked(turning):
    """Two controlled sets, one question of each scene: what `axis_sensitivity` takes."""
    opposite = {"left": "right", "right": "left", "behind": "front", "front": "behind"}
    pairs = [(r, scene) for one in world.controlled("B", 2) for r, scene in one.scenes.items()]
    right, scenes = zip(*pairs)
    questions = [world.relation_question(scene, 0, 1).text for scene in scenes]
    images = [scene.image for scene in scenes]
    masks = [
        geometry.masks(scene, geometry.grids(turning, image)[0])[0]
        for scene, image in zip(scenes, images)
    ]
    return images, questions, list(right), [opposite[r] for r in right], masks


def growth(vlm, asked, blocks, by=0.02):
    """The same by steps there and back, one way after the other."""
    images, questions, right, wrong, masks = asked
    words = ["left", "right", "behind", "front"]

    @torch.no_grad()
    def margin(steps):
        with intervene.moved(vlm, masks, steps, blocks=blocks):
            said = answers.chances(vlm, vlm.prepare(images, questions), words).double().log()
        return np.array(
            [
                float(row[words.index(r)] - row[words.index(w)])
                for row, r, w in zip(said, right, wrong)
            ]
        )

    return np.stack(
        [(margin(step) - margin(-step)) / (2 * by) for step in np.array([(by, 0), (0, by)])], 1
    )


@pytest.mark.parametrize("blocks", [None, [2, 5]])
def test_sensitivity_is_how_much_a_small_step_does(turning, asked, blocks):
    modules = [*turning.model.modules()]
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules]
    with torch.no_grad():  # as a notebook may have it
        found = geometry.axis_sensitivity(turning, *asked, blocks=blocks)
    expected = growth(turning, asked, blocks)
    assert found.shape == expected.shape == (8, 2)
    assert np.linalg.norm(found - expected) < 0.02 * np.linalg.norm(expected)
    assert (
        np.linalg.norm(found - expected, axis=1) < 0.02 * np.linalg.norm(expected, axis=1).max()
    ).all()
    assert np.linalg.norm(found - expected[:, ::-1]) > 0.5 * np.linalg.norm(expected) > 0.05
    assert all(p.grad is None for p in turning.model.parameters())
    assert [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules] == hooks


def test_sensitivity_of_each_question_is_its_own(turning, asked):
    """And the sign is the right word's: swapped, it is the opposite."""
    images, questions, right, wrong, masks = asked
    together = geometry.axis_sensitivity(turning, *asked)
    alone = geometry.axis_sensitivity(
        turning, images[3:4], questions[3:4], right[3:4], wrong[3:4], masks[3:4]
    )
    assert apart(alone, together[3:4]) < OTHER and np.abs(alone).max() > 1e-2
    assert (
        apart(geometry.axis_sensitivity(turning, images, questions, wrong, right, masks), -together)
        < OTHER
    )


def test_a_learnt_table_has_no_sensitivity():
    vlm, image = ww.load("toy-llava", device="cpu", dtype="float32"), world.scene(7).image
    with pytest.raises(ValueError, match="toy-llava has no 2-D RoPE"):
        geometry.axis_sensitivity(
            vlm, [image], ["where ?"], ["left"], ["right"], np.eye(12, dtype=bool)
        )


def test_pairs_have_patches_in_all_four_relations(organism, coarse):
    every = world.controlled("B", 40, split="dev")
    found = geometry.pairs(organism, every, 4)
    assert len(found) == 4 and all(
        geometry.has_patches(organism, s) for one in found for s in one.scenes.values()
    )
    assert (
        found
        == [
            one
            for one in every
            if all(geometry.has_patches(organism, s) for s in one.scenes.values())
        ][:4]
    )
    assert geometry.pairs(organism, iter(every), 4) == found
    with pytest.raises(
        ValueError,
        match="grid is too coarse: both things have patches of their own in \\d+ of 20 sets",
    ):
        geometry.pairs(coarse, world.controlled("B", 20, spacing="narrow"), 2)


def test_patches_are_masks_on_the_grid_of_a_place(organism):
    scenes = list(world.scenes("dev", 3))
    vit, tokens = geometry.grids(organism, scenes[0].image)
    for place, grid in (
        ("ViT 0", vit),
        (f"ViT {organism.last_depth}", vit),
        ("LM 0", tokens),
        ("LM 2", tokens),
    ):
        found = geometry.patches(organism, scenes, 1, place, 0.1)
        assert all(
            np.array_equal(mask, geometry.masks(s, grid, 0.1)[1])
            for mask, s in zip(found, scenes, strict=True)
        )


def test_ground_is_as_large_as_the_thing_and_no_things(organism):
    scenes = list(world.scenes("dev", 4))
    for place in ("ViT 0", "LM 0"):
        found = (
            geometry.ground(organism, scenes, 0, place),
            geometry.patches(organism, scenes, 0, place),
        )
        for bare, own, scene in zip(*found, scenes, strict=True):
            assert bare.shape == own.shape and bare.sum() == own.sum()
            assert not (bare & geometry.masks(scene, bare.shape, 0.01).any(0)).any()
