"""Photographs: regions as they are drawn, the published files as they are, and the strong test:
tabletop scenes written out and read back are the world itself."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as tools

import whatwhere as ww
from whatwhere import geometry, photographs, scenes, stages
from whatwhere.photographs import Photograph, Thing, readers

SCENES = list(ww.world.scenes("test", 6, start=40))


def picture(path, size=(8, 6), colour="gray"):
    Image.new("RGB", size, colour).save(path)
    return path


def written(folder, made, entry):
    """A folder in our own format: `entry(number, scene)` gives the things and the relations."""
    rows = []
    for n, scene in enumerate(made):
        scene.image.save(folder / f"{n}.png")
        rows.append({"image": f"{n}.png", **entry(n, scene)})
    (folder / "photographs.json").write_text(json.dumps({"photographs": rows}))
    return photographs.read(folder)


@pytest.fixture(scope="module")
def painted(tmp_path_factory):
    """The scenes as photographs with painted masks."""
    folder = tmp_path_factory.mktemp("painted")

    def entry(n, scene):
        things = []
        for i, thing in enumerate(scene.things):
            Image.fromarray(scene.masks[i]).save(folder / f"{n}-{i}.png")
            also = [word for word in thing.words if word not in (thing.category, *thing.attributes)]
            things.append(
                {
                    "word": thing.category, "attributes": list(thing.attributes), "also": also,
                    "mask": f"{n}-{i}.png",
                }
            )  # fmt: skip
        pairs = [(a, b) for a in range(len(things)) for b in range(a)]
        told = [[a, scene.relation(a, b), b] for a, b in pairs if scene.relation(a, b)]
        return {"things": things, "relations": told}

    return written(folder, SCENES, entry)


# ---------------------------------------------------------------------------------- regions


def test_regions_are_the_pixels_that_one_counts_by_hand():
    size, box = (4, 3), Thing("mug", box=(1, 0, 3, 2))
    assert box.region(size).tolist() == [[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    # a pixel is inside if its middle is
    assert Thing("mug", box=(0.6, 0, 1.6, 1)).region(size).nonzero()[1].tolist() == [1]
    assert Thing("mug", box=(-5, -5, 1, 99)).region(size)[:, 0].all(), "cut off at the edge"
    corner = Thing("mug", outlines=[[(0, 0), (3, 0), (0, 2)]]).region(size)
    assert corner[0].all() and corner[2].tolist() == [1, 0, 0, 0]
    two = Thing("mug", outlines=[[(0, 0), (0, 2), (0, 1)], [(3, 0), (3, 2), (3, 1)]]).region(size)
    assert two.tolist() == [[1, 0, 0, 1]] * 3


@pytest.mark.parametrize(
    ("region", "words"),
    [({}, "has 0 of the three"), ({"box": (0, 0, 1, 1), "mask": np.ones((3, 4), bool)}, "has 2"),
     ({"box": (7, 0, 9, 2)}, "has no pixel in this picture of 4 × 3"),
     ({"box": (3, 0, 1, 2)}, "has no pixel"), ({"box": (0, 0, 1)}, "is 4 numbers"),
     ({"box": (0, 0, float("nan"), 1)}, "is 4 numbers"), ({"box": "0011"}, "is 4 numbers"),
     ({"outlines": [[(0, 0), (1, 1)]]}, "three points or more, not 2"),
     ({"mask": np.ones((4, 3), bool)}, r"shape \(3, 4\)"), ({"mask": np.ones((3, 4))}, "booleans")],
)  # fmt: skip
def test_what_is_no_region_is_said(region, words):
    with pytest.raises(ValueError, match=words):
        Thing("mug", **region).region((4, 3))


def test_a_photograph_is_a_scene(tmp_path):
    image = picture(tmp_path / "a.png")
    things = (Thing("mug", ["red"], ["cup"], (0, 0, 4, 6)), Thing("book", box=(2, 0, 8, 3)))
    photograph = Photograph("a", image, (8, 6), things, {(0, 1): "left"})
    assert scenes.checked([photograph]) and things[0].words == ("mug", "red", "cup")
    assert photograph.cover(1, 2).tolist() == [[[1, 0]], [[0.25, 0.5]], [[0, 0.5]]]
    assert photograph.relation(0, 1) == "left" and photograph.relation(1, 0) == "right"
    assert scenes.vocabulary([photograph]) == {"attribute": ("red",), "category": ("mug", "book")}


def test_the_shipped_ones_are_marked_where_things_are():
    six = {each.id.split("/")[-1]: each for each in photographs.shipped()}
    assert len(six) == 6
    for photograph in six.values():
        assert Image.open(photograph.image).size == photograph.size
    # mean colours inside an outline: what is red in it is red
    for name, word, channel in (
        ("coffee.jpg", "saucer", 0),
        ("astronaut.jpg", "suit", 0),
        ("china.jpg", "sky", 2),
    ):
        photograph = six[name]
        at = [thing.category for thing in photograph.things].index(word)
        colour = np.array(Image.open(photograph.image).convert("RGB"))[photograph.masks[at]].mean(0)
        assert colour.argmax() == channel, (name, word, colour)


# ------------------------------------------------------------------------- the strong test


@pytest.mark.parametrize("name", ["toy-llava", "toy-qwen2vl"])
def test_scenes_read_back_give_the_worlds_own_statistics(painted, name):
    vlm = ww.load(name)
    words = stages.by_kind(scenes.vocabulary(SCENES))
    own, back = (stages.read(vlm, given) for given in (SCENES, painted))
    assert (own.ids == back.ids).all()
    counted = stages.counts(back, painted, words)  # photographs name no ground
    assert stages.counts(own, SCENES, words)[counted.columns].equals(counted)
    assert (stages.segments(own, SCENES) == stages.segments(back, painted)).all()
    for ours, theirs in zip(SCENES, painted):
        assert [ours.relation(0, 1), ours.relation(1, 0)] == [
            theirs.relation(0, 1),
            theirs.relation(1, 0),
        ]
    both = [
        [each[n] for n in range(len(SCENES)) if geometry.has_patches(vlm, SCENES[n])]
        for each in (SCENES, painted)
    ]
    assert len(both[0]) > 1
    for ours, theirs in zip(*(geometry.thing_vectors(vlm, given).items() for given in both)):
        assert ours[0] == theirs[0] and np.array_equal(ours[1], theirs[1])


def instances(folder, made, runs):
    """The scenes in COCO's layout: masks as run lengths of a kind."""
    categories = sorted({thing.category for scene in made for thing in scene.things})
    file = {
        "images": [],
        "annotations": [],
        "categories": [{"id": n + 1, "name": word} for n, word in enumerate(categories)],
    }
    for n, scene in enumerate(made):
        scene.image.save(folder / f"{n:012}.png")
        file["images"].append(
            {"id": n, "file_name": f"{n:012}.png", "width": scene.width, "height": scene.height}
        )
        for mask, thing in zip(scene.masks, scene.things):
            packed = tools.encode(np.asfortranarray(mask.astype(np.uint8)))
            counts = packed["counts"].decode()
            if runs == "plain":
                steps = np.flatnonzero(
                    np.diff(np.concatenate([[0], mask.T.ravel().astype(int), [2]]))
                )
                counts = np.diff(np.concatenate([[0], steps])).tolist()
            file["annotations"].append(
                {"image_id": n, "category_id": categories.index(thing.category) + 1, "iscrowd": int(runs == "plain"),
                 "segmentation": {"size": [scene.height, scene.width], "counts": counts}}
            )  # fmt: skip
    (folder / "instances_val2017.json").write_text(json.dumps(file))


@pytest.mark.parametrize("runs", ["packed", "plain"])
def test_cocos_masks_are_the_worlds(tmp_path, runs):
    instances(tmp_path, SCENES, runs)
    for ours, theirs in zip(SCENES, photographs.coco(tmp_path, pictures=tmp_path), strict=True):
        assert np.array_equal(ours.masks, theirs.masks)
        assert [thing.category for thing in ours.things] == [
            thing.category for thing in theirs.things
        ]
        assert np.array_equal(ours.cover(5, 7), theirs.cover(5, 7))


def test_cocos_polygons_are_read_as_its_own_tools_do(tmp_path):
    picture(tmp_path / "000000000007.jpg", (10, 10))
    file = {
        "images": [{"id": 7, "file_name": "000000000007.jpg", "width": 10, "height": 10}],
        "categories": [{"id": 1, "name": "cup"}],
        "annotations": [{"image_id": 7, "category_id": 1, "segmentation": [[1, 1, 5, 1, 5, 5, 1, 5], [7, 7, 9, 7, 9, 9, 7, 9]]}],
    }  # fmt: skip
    (tmp_path / "instances_val2017.json").write_text(json.dumps(file))
    (photograph,) = photographs.coco(tmp_path, pictures=tmp_path)
    assert photograph.masks.sum() == 16 + 4 and photograph.masks[0, 1:5, 1:5].all()


def graphs(folder, made, **more):
    """The scenes as GQA's scene graphs: boxes of what can be seen of each thing."""
    file = {}
    for n, scene in enumerate(made):
        scene.image.save(folder / f"{n}.jpg", "PNG")
        objects = {}
        for i, (thing, mask) in enumerate(zip(scene.things, scene.masks)):
            rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
            if not len(rows):
                continue
            relations = [
                {"name": {"left": "to the left of", "right": "to the right of", "front": "in front of"}.get(word, word), "object": str(j)}
                for j in range(len(scene.things)) if j != i and (word := scene.relation(i, j))
            ]  # fmt: skip
            objects[str(i)] = {
                "name": thing.category, "attributes": list(thing.attributes), "relations": relations,
                "x": int(columns[0]), "y": int(rows[0]), "w": int(np.ptp(columns)) + 1, "h": int(np.ptp(rows)) + 1,
            }  # fmt: skip
        file[str(n)] = {"width": scene.width, "height": scene.height, "objects": objects, **more}
    (folder / "val_sceneGraphs.json").write_text(json.dumps(file))


def test_gqas_graphs_give_boxes_attributes_and_relations(tmp_path):
    graphs(tmp_path, SCENES)
    for ours, theirs in zip(SCENES, photographs.gqa(tmp_path, pictures=tmp_path), strict=True):
        seen = [n for n, mask in enumerate(ours.masks) if mask.any()]
        assert [thing.words[:3] for thing in theirs.things] == [
            (ours.things[n].category, *ours.things[n].attributes) for n in seen
        ]
        for box, n in zip(theirs.masks, seen):
            mask = ours.masks[n]
            # a box holds its thing, touches it on four sides, and is larger than it: no more is true
            assert not (mask & ~box).any() and box.sum() >= mask.sum()
            assert all((mask.any(axis) == box.any(axis))[[0, -1]].all() for axis in (0, 1))
        for a, b in [(0, 1), (1, 0)]:
            if max(a, b) < len(seen) == len(ours.things):
                assert theirs.relation(a, b) == ours.relation(a, b)


def test_whats_up_is_read_with_the_papers_boxes(tmp_path, monkeypatch):
    (tmp_path / "controlled_clevr").mkdir()
    captions = {
        "left": "to the left of",
        "right": "to the right of",
        "behind": "behind",
        "front": "in front of",
    }
    rows, boxes = [], []
    for relation, words in captions.items():
        name = f"mug_{readers.NAMED[relation]}_plate"
        picture(tmp_path / "controlled_clevr" / f"{name}.jpeg", (40, 30))
        others = [other for other in captions.values() if other != words]
        rows.append({
            "image_path": f"data/controlled_clevr/{name}.jpeg",
            "caption_options": [f"A mug {told} a plate" for told in (words, *others)],
        })  # fmt: skip
        boxes.append({"image": name, "bbox": {"plate": [0, 0, 20, 10], "mug": [20, 0, 40, 30]}})
    (tmp_path / "controlled_clevr_dataset.json").write_text(json.dumps(rows))
    path = tmp_path / "bbox.jsonl"
    path.write_text("\n".join(map(json.dumps, boxes)))
    (only,) = photographs.whatsup_sets(tmp_path, path)
    assert (only.satellite, only.nucleus, set(only.scenes)) == ("mug", "plate", set(captions))
    left = only.scenes["left"]
    assert [thing.category for thing in left.things] == ["mug", "plate"] and left.relation(
        0, 1
    ) == "left"
    assert left.cover(1, 2).tolist() == [[[0, 1]], [[1 / 3, 0]], [[2 / 3, 0]]]
    path.write_text(json.dumps(boxes[0]))
    with pytest.raises(ValueError, match="has no boxes of mug_right_of_plate"):
        photographs.whatsup_sets(tmp_path, path)


# -------------------------------------------------------------------------------- bad input


def own(tmp_path, things, relations=()):
    picture(tmp_path / "a.png", (8, 6))
    row = {"image": "a.png", "things": things, "relations": list(relations)}
    (tmp_path / "photographs.json").write_text(json.dumps({"photographs": [row]}))
    return photographs.read(tmp_path)


MUG = {"word": "mug", "box": [0, 0, 4, 6]}


@pytest.mark.parametrize(
    ("things", "relations", "words"),
    [([{"word": "mug"}], [], "Thing 0 of photograph 0 .* has none"),
     ([MUG | {"outline": [[0, 0], [1, 1], [2, 0]]}], [], "has box and outline"),
     ([{"box": [0, 0, 1, 1]}], [], "has no 'word'"), ([MUG | {"attributes": "red"}], [], "is a list of words"),
     ([MUG | {"box": [20, 0, 30, 9]}], [], "Photograph 0 .*: The mug has no pixel"),
     ([{"word": "mug", "mask": "b.png"}], [], "Thing 0 .* its mask cannot be read. There is no file"),
     ([MUG, MUG], [["mug", "left", 1]], "names a thing 'mug'"), ([MUG], [[0, "near", 1]], "is \\[thing, left"),
     ([MUG], [[0, "left", 5]], "names a thing 5")],
)  # fmt: skip
def test_a_mistake_made_by_hand_is_named(tmp_path, things, relations, words):
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        own(tmp_path, things, relations)


def test_published_files_that_are_broken_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no val_sceneGraphs.json"):
        photographs.gqa(tmp_path)
    graphs(tmp_path, SCENES[:2])
    with pytest.raises(ValueError, match="has 2 photographs with things, fewer than 3"):
        photographs.gqa(tmp_path, sample=3, pictures=tmp_path)
    whole = (tmp_path / "val_sceneGraphs.json").read_text()
    (tmp_path / "val_sceneGraphs.json").write_text(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="damaged or cut short"):
        photographs.gqa(tmp_path, pictures=tmp_path)
    graphs(tmp_path, SCENES[:1], width=99)
    with pytest.raises(ValueError, match="regions were made for 99 × "):
        photographs.gqa(tmp_path, pictures=tmp_path)
    instances(tmp_path, SCENES[:1], "packed")
    file = json.loads((tmp_path / "instances_val2017.json").read_text())
    file["annotations"][0]["segmentation"]["size"] = [3, 4]
    (tmp_path / "instances_val2017.json").write_text(json.dumps(file))
    with pytest.raises(ValueError, match=r"run lengths of \[3, 4\], where the picture has"):
        photographs.coco(tmp_path, pictures=tmp_path)


def test_a_thing_without_a_pixel_is_left_out_aloud(tmp_path):
    graphs(tmp_path, SCENES[:1])
    file = json.loads((tmp_path / "val_sceneGraphs.json").read_text())
    own_things = file["0"]["objects"]
    own_things["1"]["x"] = 9999
    (tmp_path / "val_sceneGraphs.json").write_text(json.dumps(file))
    with pytest.warns(
        UserWarning, match=rf"1 of {len(own_things)} things of picture 0 .* are left out"
    ):
        (photograph,) = photographs.gqa(tmp_path, pictures=tmp_path)
    assert len(photograph.things) == len(own_things) - 1


def test_pictures_are_fetched_one_by_one_and_kept(tmp_path, monkeypatch):
    graphs(tmp_path, SCENES[:3])
    monkeypatch.setenv("WHATWHERE_CACHE", str(tmp_path / "cache"))
    asked = []

    def web(address):
        asked.append(address)
        name = address.rsplit("/", 1)[1]
        if len(asked) == 4:
            raise KeyboardInterrupt
        if "VG_100K_2" not in address and name != "0.jpg":
            raise ConnectionError("not there")
        return (tmp_path / name).read_bytes()

    monkeypatch.setattr("whatwhere.photographs.fetching.fetch", web)
    with pytest.raises(KeyboardInterrupt):
        photographs.gqa(tmp_path)
    three = photographs.gqa(tmp_path)
    assert [each.id for each in three] == ["gqa/0", "gqa/1", "gqa/2"]
    assert sum("/0.jpg" in each for each in asked) == 1, "what was there is not asked for again"
    one = photographs.gqa(tmp_path, sample=1, seed=4)
    assert one[0].id == photographs.gqa(tmp_path, sample=1, seed=4)[0].id


def test_offline_says_what_to_do(tmp_path, monkeypatch):
    graphs(tmp_path, SCENES[:1])
    monkeypatch.setenv("WHATWHERE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ConnectionError, match="save the image and give its path"):
        photographs.gqa(tmp_path)


def test_the_papers_boxes_are_known_by_their_checksum(tmp_path, monkeypatch):
    monkeypatch.setenv("WHATWHERE_CACHE", str(tmp_path))
    monkeypatch.setattr("whatwhere.photographs.fetching.fetch", lambda address: b"something else")
    with pytest.raises(ValueError, match="its checksum is another"):
        photographs.whatsup_sets(tmp_path)
    assert not list(tmp_path.rglob("*.jsonl"))


def test_a_thing_that_is_cropped_away_is_said(tmp_path):
    image = picture(tmp_path / "a.png", (400, 100))
    photograph = Photograph(
        "a",
        image,
        (400, 100),
        (Thing("mug", box=(0, 0, 20, 100)), Thing("book", box=(150, 0, 250, 100))),
    )
    assert replace(photograph, id="b").id == "b"
    vlm = ww.load("toy-llava")
    seen = vlm.viewed(image)
    if seen.whole:
        pytest.skip("this organism shows whole pictures")
    with pytest.warns(UserWarning, match="The mug of scene a is cropped away"):
        assert not vlm.cover(photograph)[0].any()
