"""Any picture with a truth is a scene; and truth is laid over what a model really sees of the
picture."""

import ast
import re
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

import whatwhere as ww
from whatwhere import answers, geometry, images, intervene, lens, scenes, stages, world
from whatwhere.book.rehearsal.checkpoints import internvl, llava, qwen2vl

pytestmark = pytest.mark.usefixtures("one_thread")


# -- a scene of one's own
# -------------------------------------------------------------------------------------------------


@dataclass
class Item:
    category: str
    attributes: tuple
    box: tuple  # left, top, right, bottom, in pixels

    @property
    def words(self):
        return (self.category, *self.attributes)


@dataclass
class Photograph:
    id: str
    image: Image.Image
    things: list

    def cover(self, rows, columns):
        y, x = np.mgrid[: self.image.height, : self.image.width]
        boxes = [thing.box for thing in self.things]
        masks = [(a <= x) & (x < c) & (b <= y) & (y < d) for a, b, c, d in boxes]
        return scenes.cover_of(masks, self.image.size, rows, columns)

    def relation(self, a, b):
        return "left" if self.things[a].box[0] < self.things[b].box[0] else "right"


def photograph(size=(150, 100), cup=(10, 20, 50, 80), bear=(90, 25, 140, 85), id="street.jpg"):
    """A red cup and a blue bear on grey, each in the one colour that is its own channel's."""
    image = Image.new("RGB", size, (0, 0, 0))
    for box, colour in ((cup, (250, 0, 0)), (bear, (0, 0, 250))):
        ImageDraw.Draw(image).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=colour)
    return Photograph(id, image, [Item("cup", ("red",), cup), Item("bear", ("blue",), bear)])


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """Checkpoints by name, each made and loaded once."""
    known = {}

    def load(make, **options):
        key = (make.__name__, *sorted(options.items()))
        if key not in known:
            make(folder := tmp_path_factory.mktemp(make.__name__), **options)
            known[key] = ww.load(folder, device="cpu", dtype="float32")
        return known[key]

    return load


WHOLE = {
    "llava": lambda load: load(llava, image=48, patch=6),
    "qwen2vl": lambda load: load(qwen2vl, patch=6, max_tokens=150),
    "qwen2.5vl": lambda load: load(qwen2vl, patch=6, max_tokens=150, window=2),
    "internvl": lambda load: load(internvl),
}


@pytest.mark.parametrize("family", WHOLE)
def test_every_statistic_of_scenes_takes_any(loaded, family):
    """Two photographs that are no scenes of the world, on all families; LLaVA crops them."""
    vlm = WHOLE[family](loaded)
    street = photograph(cup=(30, 20, 70, 80))
    park = photograph(cup=(80, 15, 120, 60), bear=(30, 30, 70, 90), id="park.jpg")
    park.things[1] = replace(park.things[1], category="bowl")
    photographs = [street, park]
    read = stages.read(vlm, photographs, asked=["cup", "bear", "bowl"])
    (rows, columns), patches = read.ids.shape[2:], read.ids[0, 0].size

    table = stages.counts(read, photographs)
    views = [vlm.viewed(each.image) for each in photographs]
    own = [stages.owners(each, (rows, columns), view) for each, view in zip(photographs, views)]
    assert table.groupby("scene")["object patches"].first().tolist() == [
        (each >= 0).sum() for each in own
    ]
    kinds = {"attribute": ["red", "blue"], "object": ["cup", "bear", "bowl"]}
    for kind, words in kinds.items():
        assert table[kind].sum() == np.isin(read.words, words).sum()
    segments = stages.segments(read, photographs)
    assert (segments == 0).sum() == np.isin(read.words, ["cup", "red"]).sum()
    truth = np.stack(own)[:, None]
    sums, things = stages.overlap(truth, photographs, vlm)
    assert things.tolist() == [2, 2] and sums.tolist() == [[2], [2]]

    asked = stages.existence(read, photographs)
    assert asked.groupby("scene")["there"].sum().tolist() == [vlm.last_depth + 1] * 2 and len(
        asked
    ) == 4 * (vlm.last_depth + 1)
    assert set(asked.query("scene == 0 and not there")["word"]) == {"bowl"}
    states, labels = stages.labelled(vlm, photographs)
    assert states.shape[1:3] == (2, patches) and set(labels) == {"attribute", "category"}
    assert labels["category"][1].tolist() == [
        {0: "cup", 1: "bowl"}.get(n, "") for n in own[1].ravel()
    ]
    assert labels["attribute"][0].tolist() == [
        {0: "red", 1: "blue"}.get(n, "") for n in own[0].ravel()
    ]
    assert stages.clustered(states[-1, 0], street, (rows, columns), views[0]).shape == own[0].shape

    assert all(geometry.has_patches(vlm, each) for each in photographs)
    vectors = geometry.thing_vectors(vlm, photographs)
    for place in ("ViT 1", "LM 1"):
        (mask, _), state = (
            geometry.patches(vlm, photographs, 0, place),
            next(geometry.states(vlm, [street.image]))[place],
        )
        assert np.allclose(vectors[place][0, 0], state[mask].mean(0), atol=1e-5)
        assert not (mask & geometry.ground(vlm, photographs, 0, place)[0]).any()
    masks = geometry.patches(vlm, photographs, 0, "LM 0")
    with intervene.replaced(vlm, masks, vectors["LM 0"][:, 1], layer=0):
        answered = answers.chances(
            vlm, vlm.prepare([street.image, park.image], "where is the cup ?"), ["left", "right"]
        )
    assert answered.shape == (2, 2)
    assert answers.Exam(vlm, [street.image, park.image], ["?"] * 2, ["left"] * 2).right().shape == (
        2,
    )
    assert lens.token_maps(vlm, street.image).words.shape[1:] == (rows, columns)


def test_the_page_on_scenes_of_ones_own_runs_as_it_stands():
    page = (Path(__file__).parents[1] / "book" / "how_to_run.md").read_text(encoding="utf-8")
    section = page.split("\n## Your own scenes\n")[1].split("\n## ")[0]
    makes, uses = re.findall(r"```python\n(.*?)```", section, re.S)
    exec(makes, names := {"__name__": __name__})
    mug, lamp = (
        names["Item"]("mug", ("red",), (10, 20, 60, 90)),
        names["Item"]("lamp", (), (80, 30, 130, 120)),
    )
    other = replace(mug, box=lamp.box)
    pictured = [
        ("both.jpg", world.scene(0).image, [mug, lamp]),
        ("mugs.jpg", world.scene(1).image, [mug, other]),
    ]
    names |= {
        "vlm": ww.load("toy-llava"),
        "photographs": [names["Photograph"](*each) for each in pictured],
    }
    exec(uses, names)
    assert names["maps"].ids.shape == (2, 7, 12, 12)


def test_the_world_is_one_implementation():
    scene = world.scene(7)
    for each, thing in ((scene, scene.things[0]), (photograph(), photograph().things[0])):
        assert isinstance(each, scenes.Scene) and isinstance(thing, scenes.Thing)
    assert not isinstance(scene.image, scenes.Scene)
    assert scenes.relation(scene, 0, 1) == world.relation(scene.things[0], scene.things[1])
    assert scenes.relation(photograph(), 1, 0) == "right"
    assert (
        scenes.vocabulary([scene])
        == scenes.vocabulary(world.scenes("test", 3))
        == world.vocabulary()
    )
    assert scenes.vocabulary([photograph()]) == {
        "attribute": ("red", "blue"),
        "category": ("cup", "bear"),
    }
    for kind in world.ABSENTEES:
        (asked,), (there, absent) = scenes.existence([scene], kind), world.existence(scene, kind)
        assert [
            f"is there {'an' if word[0] in 'aeiou' else 'a'} {word} ?" for word, _ in asked
        ] == [there.text, absent.text]
        assert [is_there for _, is_there in asked] == [True, False]


def test_a_scene_is_known_again():
    ids = {scene.id for scene in world.scenes("test", 20)} | {
        scene.id for scene in world.scenes("dev", 20)
    }
    ids |= {scene.id for scene in world.controlled("B", 1)[0].scenes.values()}
    assert len(ids) == 44 and world.scene(3).id == world.scene(3).id
    assert replace(world.scene(3), light=1.0).id != world.scene(3).id


def test_the_core_knows_nothing_of_the_world():
    root = Path(scenes.__file__).parent
    core = [
        "scenes",
        "stages",
        "geometry",
        "answers",
        "models",
        "images",
        "intervene",
        "stats",
    ]
    for file in [
        *(root / f"{name}.py" for name in core),
        *(root / "lens").glob("*.py"),
        *(root / "families").glob("*.py"),
        *(root / "compress").glob("*.py"),
    ]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            named = [alias.name for alias in getattr(node, "names", [])] + [
                getattr(node, "module", None) or ""
            ]
            assert "world" not in {part for name in named for part in name.split(".")}, file.name


def test_absentees_by_popes_rule():
    """Common ones are popular; what is often seen beside the things that are there is
    adversarial."""

    def alone(n, *names):
        return Photograph(
            f"{n}.jpg", Image.new("RGB", (9, 9)), [Item(name, (), (0, 0, 4, 4)) for name in names]
        )

    common = ["car", "bus", "van"]
    seen = (
        [["knife", "fork"]] * 4
        + [["knife", "spoon"]] * 3
        + [["knife", "plate"]] * 2
        + [common] * 9
        + [["knife"], []]
    )
    many = [alone(n, *names) for n, names in enumerate(seen)]
    for kind, absent in (("popular", common), ("adversarial", ["fork", "spoon", "plate"])):
        yes, no = scenes.existence(many, kind)[-2]
        assert yes == ("knife", True) and no[0] in absent and no[1] is False
    assert scenes.existence(many)[-1] == [] and scenes.existence(many) == scenes.existence(many)
    everything = scenes.existence(many, "random")
    assert all(asked[1][0] not in names for asked, names in zip(everything, seen) if asked)
    with pytest.raises(ValueError, match="Absentees are random, popular, adversarial; got 'rare'"):
        scenes.existence(many, "rare")


def test_a_word_that_is_listed_twice_counts_once():
    orange = photograph()
    orange.things = [
        Item("orange", ("orange", "of"), (0, 0, 5, 5)),
        Item("Bear", ("red",), (5, 5, 9, 9)),
    ]
    kinds = stages.by_kind(scenes.vocabulary([orange, photograph()]))
    assert kinds["object"] == ("orange", "bear", "cup") and kinds["attribute"] == (
        "of",
        "red",
        "blue",
    )
    assert kinds["function"] == stages.FUNCTION
    twice = stages.by_kind({"category": ["a"], "colour": ["on", "A"]})
    assert (
        twice["object"] == ("a",) and twice["attribute"] == ("on",) and "a" not in twice["function"]
    )


# -- what is seen
# --------------------------------------------------------------------------------------------------


def squeezed(vlm):
    vlm.image_processor.size = {"height": 48, "width": 48}
    vlm.image_processor.do_center_crop = False


def laid_on_black(vlm):
    vlm.image_processor.do_resize = False


def small_on_black(vlm):
    vlm.image_processor.size = {"shortest_edge": 30}


def with_a_rim(vlm):
    vlm.image_processor.size = {"shortest_edge": 60}


CLIP = dict(image=48, patch=6)
SEEN = {
    "CLIP, cropped": (llava, CLIP, None),
    "CLIP, squeezed": (llava, CLIP | {"seed": 1}, squeezed),
    "CLIP, laid on black": (llava, CLIP | {"seed": 2}, laid_on_black),
    "CLIP, small on black": (llava, CLIP | {"seed": 3}, small_on_black),
    "CLIP, cropped on all sides": (llava, CLIP | {"seed": 4}, with_a_rim),
    "CLIP, patches that do not fill the picture": (
        llava,
        dict(image=50, patch=6, strategy="full"),
        None,
    ),
    "Qwen2-VL": (qwen2vl, dict(patch=6, max_tokens=150), None),
    "Qwen2-VL, reduced": (qwen2vl, dict(patch=6, max_tokens=30), None),
    "Qwen2.5-VL": (qwen2vl, dict(patch=6, max_tokens=150, window=2), None),
    "InternVL": (internvl, {}, None),
}
SIZES = {(144, 144): 1, (216, 144): 1, (101, 67): 1, (67, 151): 1, (53, 50): 1}


@pytest.mark.parametrize("name", SEEN)
def test_cover_is_of_what_is_seen(loaded, name):
    """One thing is painted red and the other blue: the pixels that the ViT gets say what each
    token's field holds."""
    make, options, change = SEEN[name]
    vlm = loaded(make, **options)
    if change:
        change(vlm)
    for width, height in SIZES:
        cup = (round(0.3 * width), round(0.2 * height), round(0.55 * width), round(0.9 * height))
        bear = (round(0.6 * width), round(0.35 * height), round(0.8 * width), round(0.7 * height))
        scene = photograph((width, height), cup, bear)
        rest = Image.new("RGB", (width, height), (0, 250, 0))
        image = Image.fromarray(
            np.where(np.asarray(scene.image).any(-1, keepdims=True), scene.image, rest)
        )
        scene.image = image
        rows, columns = vlm.patch_grid(image)
        side = vlm.adapter.merge * patch_size(vlm)
        seen = np.asarray(vlm.seen(image), float)[: rows * side, : columns * side] / 250
        expected = (
            seen.reshape(rows, side, columns, side, 3).mean((1, 3)).transpose(2, 0, 1)[[0, 2, 1]]
        )
        cover = vlm.cover(scene)
        assert cover.shape == expected.shape
        # an edge is blurred over two pixels or so of a field of `side`; a shift by one pixel would
        # be 1 / side everywhere
        assert np.abs(cover - expected).max() < 0.6 / side + 0.01, (width, height)
        assert np.abs(cover.sum((1, 2)) - expected.sum((1, 2))).max() < 0.012 * rows * columns, (
            width,
            height,
        )
        fine = vlm.cover(scene, (rows * vlm.adapter.merge, columns * vlm.adapter.merge))
        pooled = fine.reshape(3, rows, vlm.adapter.merge, columns, vlm.adapter.merge).mean((2, 4))
        assert np.abs(pooled - cover).max() < 1e-9


def patch_size(vlm):
    size = vlm.model.config.vision_config.patch_size
    return size if isinstance(size, int) else size[0]


def test_what_is_cropped_away_covers_nothing_and_is_named(loaded):
    vlm, scene = loaded(llava, **CLIP), photograph((300, 100), (10, 20, 80, 80), (140, 20, 190, 80))
    with pytest.warns(
        UserWarning, match="The cup of scene street.jpg is cropped away by the model"
    ):
        cover = vlm.cover(scene)
    assert not cover[0].any() and cover[1].any() and np.allclose(cover.sum(0), 1)
    with pytest.warns(UserWarning, match="cropped away"):
        assert not geometry.has_patches(vlm, scene) and geometry.has_patches(vlm, scene, [1])
        with pytest.raises(
            ValueError, match="The cup of scene street.jpg covers 25% of no patch of 8 × 8: leave"
        ):
            geometry.thing_vectors(vlm, [scene])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded(qwen2vl, patch=6, max_tokens=150).cover(scene)  # which sees it all
        half = photograph((300, 100), (60, 20, 130, 80), (140, 20, 190, 80))
        assert vlm.cover(half)[0].any()
    assert vlm.viewed(scene.image).within(scene.image.size) == (100, 0, 200, 100)


def test_padding_is_nobodys(loaded):
    vlm, scene = (
        loaded(llava, **CLIP, seed=5),
        photograph((24, 24), (2, 2, 10, 22), (14, 2, 22, 22)),
    )
    laid_on_black(vlm)
    whose = stages.owners(scene, (8, 8), vlm.viewed(scene.image))
    rim = np.ones((8, 8), bool)
    rim[2:-2, 2:-2] = False
    assert (whose[rim] == -2).all() and {0, 1} <= set(whose[~rim])
    with pytest.raises(
        ValueError, match="Scene street.jpg has .* of no thing: too few for this control"
    ):
        geometry.ground(vlm, [scene], 0, "ViT 0")
    with pytest.raises(ValueError, match="does not see all of a picture of 100 × 100 pixels"):
        stages.says(vlm, [probe(100)], "shown", lambda thing: thing.words)


def probe(side):
    blank = np.zeros((side, side), bool)
    return world.gestalt.Probe(
        np.zeros((side, side, 3), np.uint8), blank, blank, world.Thing("mug")
    )


def test_maps_keep_what_their_model_sees(loaded):
    """Readings know how their pictures were cropped, on whatever scenes they are put."""
    vlm = loaded(llava, **CLIP)
    wide, tall = (
        photograph((150, 100), (60, 10, 100, 90)),
        photograph((100, 150), (30, 60, 70, 140), (0, 0, 20, 40), "tall.jpg"),
    )
    read = stages.read(vlm, [wide, tall])
    for each in (read, read.of_other_scenes(), read.shuffled()):
        assert each.viewed(wide.image).box == (12, 0, 60, 48) and each.viewed(tall.image).box == (
            0,
            12,
            48,
            60,
        )
    assert (
        stages.Readings(read.ids, read.scores, (), read.vocabulary, read.depths, 1)
        .viewed(wide.image)
        .whole
    )


# -- refusals
# --------------------------------------------------------------------------------------------------


class Flat:
    """A scene whose cover is what it is told."""

    id, image = "flat.png", Image.new("RGB", (20, 10))
    things = [Item("cup", (), (0, 0, 9, 9))]

    def __init__(self, cover):
        self.cover = lambda rows, columns: cover


@pytest.mark.parametrize(
    ("shares", "sentence"),
    [
        (
            np.zeros((1, 2, 2)),
            r"`cover\(2, 2\)` of scene flat.png gives an array of shape \(1, 2, 2\); with 1 "
            r"thing and",
        ),
        (
            np.zeros((2, 4)),
            r"of shape \(2, 4\); with 1 thing and the ground it is of shape \(2, 2, 2\)",
        ),
        (np.full((2, 2, 2), 7.0), "from 0 to 1; some are not"),
        (np.full((2, 2, 2), np.nan), "from 0 to 1; some are not"),
    ],
)
def test_a_cover_that_is_none(shares, sentence):
    with pytest.raises(ValueError, match=sentence):
        scenes.cover(Flat(shares), (2, 2))


def test_masks_that_are_none():
    fits = np.zeros((10, 20), bool)
    for mask, sentence in (
        (fits.T, r"10 rows of 20 pixels; that of thing 1 has the shape \(20, 10\)"),
        (
            fits.astype(float),
            "A mask is booleans, true where the thing is; that of thing 1 is float64",
        ),
    ):
        with pytest.raises(ValueError, match=sentence):
            scenes.cover_of([fits, mask], (20, 10), 2, 2)
    assert (scenes.cover_of([], (20, 10), 2, 3) == np.ones((1, 2, 3))).all()
    both = scenes.cover_of([fits | True, fits | True], (20, 10), 1, 1)  # as boxes may, they overlap
    assert both.ravel().tolist() == [1, 1, 0]
    with pytest.raises(ValueError, match="whole number of rows and of columns"):
        scenes.cover_of([fits], (20, 10), 0, 2)


def test_what_is_no_scene(loaded):
    vlm, scene = loaded(llava, **CLIP), photograph()
    read = stages.read(vlm, [scene])
    for call in (
        lambda no: stages.counts(read, no),
        lambda no: stages.segments(read, no),
        lambda no: stages.overlap(np.zeros((1, 1, 8, 8)), no, vlm),
        lambda no: stages.existence(read, no),
        lambda no: stages.labelled(vlm, no),
        lambda no: geometry.has_patches(vlm, no[0]),
        lambda no: geometry.thing_vectors(vlm, no),
        lambda no: geometry.patches(vlm, no, 0, "LM 0"),
        lambda no: geometry.ground(vlm, no, 0, "LM 0"),
        lambda no: answers.Exam.on(vlm, no, {}),
    ):
        with pytest.raises(
            TypeError,
            match="A scene has id, image, things, cover; this Half has no id and no things and no",
        ):
            call([Half(scene.image)])
        with pytest.raises(
            ValueError, match="Thing 0 of scene street.jpg has no words: a thing has a `category`"
        ):
            call([replace(scene, things=[Item("", (), (0, 0, 9, 9)), scene.things[1]])])
    with pytest.raises(TypeError, match="this is one scene: put it in brackets"):
        stages.counts(read, scene)


@dataclass
class Half:
    """Something with a picture, but no scene."""

    image: Image.Image


def test_what_a_scene_does_not_have(loaded):
    vlm, scene = loaded(llava, **CLIP), photograph()
    empty, one = replace(scene, things=[]), replace(scene, things=scene.things[:1])
    for call in (
        lambda no: geometry.has_patches(vlm, no),
        lambda no: geometry.thing_vectors(vlm, [no]),
    ):
        with pytest.raises(
            ValueError,
            match="Scene street.jpg has no things, and what was asked about is thing 0, counted",
        ):
            call(empty)
        with pytest.raises(
            ValueError, match="Scene street.jpg has 1 thing, and what was asked about is thing 1"
        ):
            call(one)
    read = stages.read(vlm, [empty])
    (row,) = stages.counts(read, [empty]).query("depth == 0").to_dict("records")
    assert row["object patches"] == 0 and geometry.masks(empty, (8, 8)).shape == (0, 8, 8)
    with pytest.raises(
        ValueError, match="There is nothing to ask of these scenes: no thing in any"
    ):
        stages.existence(read, [empty])
    with pytest.raises(ValueError, match="no masks to compare with"):
        stages.overlap(np.zeros((1, 1, 8, 8)), [empty], vlm)
    with pytest.raises(
        ValueError, match="Scene street.jpg has no questions of its own, by a method `questions"
    ):
        answers.Exam.on(vlm, [scene], {"existence": ["existence"]})
    with pytest.raises(ValueError, match="None of these 1 scenes has a question of reading"):
        answers.Exam.on(vlm, [replace(world.scene(7), things=())], {"reading": ["reading"]})
    with pytest.raises(ValueError, match="does not know where its things are to each other"):
        scenes.relation(Flat(np.zeros((2, 1, 1))), 0, 0)
    with pytest.raises(ValueError, match="has 2 things, and what was asked about is thing 2"):
        scenes.relation(scene, 0, 2)


def test_a_view_within_the_picture():
    view = images.View((90, 60), (15, 0, 75, 60))
    assert (
        not view.whole
        and view.within((180, 120)) == (30, 0, 150, 120)
        and images.View((9, 6), (0, 0, 9, 6)).whole
    )
