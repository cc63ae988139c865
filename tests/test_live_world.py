"""The world inside a page (`world.js`, in Node): pixel for pixel as Python draws it."""

import base64
import json
import os
import random
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from whatwhere import stages, world
from whatwhere.book import live
from whatwhere.book.live import world_data
from whatwhere.world import rendering, sprites
from whatwhere.world.rendering import Scene, Thing

GRIDS = [(12, 12), (24, 24), (7, 10), (1, 1), (145, 3)]
EXTENTS = range(world_data.ALLOWED[0], world_data.ALLOWED[1] + 1)
NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(
    NODE is None and not os.environ.get("CI"),
    reason="the world of a page is run in Node, and there is no `node` here",
)

RUN = """
const fs = require('fs'), given = JSON.parse(fs.readFileSync(0));
require(given.data); require(given.code);
const tabletop = globalThis.whatwhereTabletop;
const base64 = values => Buffer.from(values.buffer, values.byteOffset, values.byteLength).toString('base64');
// an error is what its message is; one of another class than Error is a crash
const safely = make => {
    try { return { made: make() } } catch (error) { return { error: error.message, kind: error.constructor.name } }
};
const does = {
    render: scene => {
        const { rgb, owner } = tabletop.render(scene), n = scene.things.length, all = [...Array(n).keys()];
        return {
            rgb: base64(rgb), owner: base64(owner), kinds: [rgb.constructor.name, owner.constructor.name],
            owners: given.grids.map(([rows, columns]) => [...tabletop.owners(owner, rows, columns)]),
            relations: all.map(a => all.map(b => tabletop.relation(scene.things[a], scene.things[b]))),
            words: scene.things.map(tabletop.words), boxes: scene.things.map(tabletop.box),
            order: tabletop.drawOrder(scene), query: tabletop.sceneToQuery(scene),
        };
    },
    ground: name => base64(tabletop.ground(name)),
    shape: thing => base64(tabletop.shape(thing).inside),
    call: ([name, ...values]) => tabletop[name](...values),
    at: ([scene, ...where]) => tabletop.thingAt(tabletop.render(scene).owner, ...where),
};
const made = given.asked.map(([what, value]) => safely(() => does[what](value)));
fs.writeFileSync(1, JSON.stringify(made));
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """What the page makes of ("render" | "ground" | "shape" | "call" | "at", value): one process
    for each list."""
    folder = tmp_path_factory.mktemp("page")
    data, answer = folder / "world_data.js", folder / "answer.json"
    data.write_text(world_data.script())
    code = Path(live.__file__).with_name("world.js")

    def ask(asked):
        assert NODE, "these tests need Node.js: `node` is not on the PATH"
        given = {"data": str(data), "code": str(code), "grids": GRIDS, "asked": asked}
        with answer.open("w") as out:  # a file, since a pipe may not take all of it at once
            subprocess.run(
                [NODE, "-e", RUN], input=json.dumps(given), stdout=out, text=True, check=True
            )
        return json.loads(answer.read_text())

    return ask


def read(text, dtype, *shape):
    return np.frombuffer(base64.b64decode(text), dtype).reshape(shape)


def edited(seed):
    """A scene such as a reader makes: anything, anywhere, of any size and in any light."""
    rnd = random.Random(seed)
    things = []
    for category in rnd.sample(world.CATEGORIES, rnd.randint(0, world_data.MOST)):
        y = rnd.randint(20, 150)
        thing = Thing(
            category,
            *(rnd.choice(list(world.COLOURS)), rnd.choice(world.TEXTURES)),
            x=rnd.randint(5, 139),
            y=y,
            extent=rnd.choice(EXTENTS),
            order=rnd.choice((y, y + 0.1, rnd.uniform(-300, 300))),
        )
        if category == "sign":
            text = "".join(rnd.choices(world.CHARACTERS, k=2))
            thing = replace(thing, colour=None, texture=None, extent=40, text=text)
        x0, y0, x1, y1 = thing.box
        within = max(min(x1, 144) - max(x0, 0), 0) * max(min(y1, 144) - max(y0, 0), 0)
        if 2 * within >= (x1 - x0) * (y1 - y0):
            things.append(thing)
    return Scene(
        seed,
        "test",
        rnd.choice(world.BACKGROUNDS),
        tuple(things),
        light=rnd.choice((1.0, rnd.uniform(*world_data.LIGHT))),
        window=(rnd.randrange(512), rnd.randrange(512)),
    )


@pytest.fixture(scope="module")
def scenes():
    made = [s for split in world.SPLITS for s in world.scenes(split, 35)]
    for which in "AB":
        for spacing in ("wide", "narrow"):
            for split in ("test", "unseen"):
                for one in world.controlled(which, 3, spacing, split):
                    made += one.scenes.values()
    made += [world.gestalt.lone(seed) for seed in range(8)]
    made += [edited(seed) for seed in range(64)]
    assert {s.background for s in made} == set(world.BACKGROUNDS)
    assert {t.category for s in made for t in s.things} == set(world.CATEGORIES)
    return made


@pytest.fixture(scope="module")
def drawn(page, scenes):
    made = page([("render", world_data.fields(scene)) for scene in scenes])
    assert not [one["error"] for one in made if "error" in one]
    return [one["made"] for one in made]


def test_every_pixel_is_as_python_draws_it(scenes, drawn):
    assert len(scenes) >= 300
    for scene, one in zip(scenes, drawn):
        assert one["kinds"] == ["Uint8Array", "Int8Array"]
        off = read(one["rgb"], np.uint8, 144, 144, 3) != scene.pixels
        assert not off.any(), f"{off.any(-1).sum()} pixels of {scene.id}"
        assert np.array_equal(read(one["owner"], np.int8, 144, 144), scene.owner), scene.id


def test_the_truth_is_as_in_python(scenes, drawn):
    for scene, one in zip(scenes, drawn):
        n = len(scene.things)
        assert one["relations"] == [[scene.relation(a, b) for b in range(n)] for a in range(n)]
        assert one["words"] == [list(thing.words) for thing in scene.things]
        assert one["boxes"] == [list(thing.box) for thing in scene.things]
        assert one["order"] == sorted(range(n), key=lambda i: (scene.things[i].order, i))
        for grid, owners in zip(GRIDS, one["owners"]):
            assert np.array_equal(np.reshape(owners, grid), stages.owners(scene, grid)), scene.id


def test_a_patch_in_two_halves_is_of_the_first_thing_and_the_ground_is_last(page):
    half = [n // 72 for n in range(144)] * 144
    cases = [(half, 0), ([1 - n for n in half], 0), ([n - 1 for n in half], 0), ([-n for n in half], 0)]  # fmt: skip
    made = page([("call", ["owners", owner, 1, 1]) for owner, _ in cases])
    assert [one["made"]["0"] for one in made] == [whose for _, whose in cases]
    assert "whole number" in page([("call", ["owners", half, 0, 1.5])])[0]["error"]


def test_grounds_are_the_same_numbers(page):
    made = page([("ground", name) for name in world.BACKGROUNDS])
    for name, one in zip(world.BACKGROUNDS, made):
        ground, here = sprites.background(name), read(one["made"], np.float32, 512, 512, 3)
        # but for the last bit of a sine, which not all processors round alike
        assert (ground != here).sum() <= 30, name
        assert np.abs(ground - here).max() < 2e-5, name


def test_silhouettes_are_the_same_at_every_size(page):
    asked = [
        Thing(category, extent=extent)
        for category in (*world.PORTABLE, *world.STANDS)
        for extent in EXTENTS
    ]
    made = page([("shape", {"category": t.category, "extent": t.extent}) for t in asked])
    for thing, one in zip(asked, made):
        assert np.array_equal(
            read(one["made"], np.uint8, *thing.silhouette.shape), thing.silhouette
        ), thing


def test_what_is_sent_is_small_and_always_the_same():
    assert world_data.script() == world_data.script()
    assert len(world_data.script()) < 60_000
    data = world_data.data()
    for category, colour in data["heldOut"].items():
        assert rendering.held_out(category, colour)
    for name in world.TEXTURES:
        assert np.array_equal(np.tile(sprites.texture(name, 8), (20, 20)), sprites.texture(name))


def test_a_scene_comes_back_from_its_link(page, scenes, drawn):
    links = [one["query"] for one in drawn]
    assert links == [world_data.query(scene) for scene in scenes]
    assert len(set(links)) == len(set(scenes)) and max(map(len, links)) < 400
    assert not re.search(r"[^\w.,=&-]", "".join(links))
    percent = ["?theme=dark&" + link.replace(",", "%2C") + "&highlight=%E0" for link in links]
    for sent in (links, percent):
        made = page([("call", ["queryToScene", link]) for link in sent])
        for scene, one in zip(scenes, made):
            assert one.get("made") == json.loads(json.dumps(world_data.fields(scene))), one


LINK = (
    "ground=wood&window=12,300&light=0.97&thing=table,red,plain,70,120,56"
    "&thing=mug,blue,striped,70,82,32,on,table&thing=sign,ch,30,100"
)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("ground=wood&", "", "names no ground"),
        ("wood", "lava", "No background \"lava\"; there are brick, grass"),
        ("light=0.97", "light=bright", "\"bright\" as light, which is no number"),
        ("light=0.97", "light=7", "a number from 0.4 to 1.4"),
        ("light=0.97", "light=0.97&light=1", "two of light"),
        ("12,300", "12", "two whole numbers from 0 to 511"),
        ("mug,blue", "cup,blue", "No category \"cup\""),
        ("blue", "teal", "No colour \"teal\" for the mug"),
        ("striped", "woolly", "No texture \"woolly\" for the mug"),
        ("70,82,32", "70,82", "\"on\" as the extent of a thing"),
        ("70,82,32", "70,82,99", "is 12 to 96 whole pixels; got 99"),
        ("70,82,32", "70.5,82,32", "The x of the mug is a whole number"),
        ("30,100", "300,100", "More than half of the sign is outside"),
        ("on,table", "on,stool", "on or under a stand"),
        ("on,table", "near,table", "it can say on, under or order"),
        ("sign,ch", "sign,oh", "two of the letters c e h k l n t v x z; got \"oh\""),
        ("sign,ch,30,100", "mug,red,plain,30,100,40", "two of the mug"),
        ("&thing=sign", "&thing=fish,red,plain,9,140,12&thing=hat,red,plain,9,140,12&thing=key,red,plain,9,140,12&thing=sign", "up to 5 things; this one has 6"),  # fmt: skip
        ("ground=", "from=exam,3&ground=", "comes from a split"),
        ("ground=", "from=test&ground=", "of a split and a seed"),
        ("wood", "w%zz", "broken at"),
        ("on,table", "on,table,order,1e9", "from -1000 to 1000"),
        ("thing=table,red,plain,70,120,56", "thing=", "\"\" as the x"),
    ],
)  # fmt: skip
def test_a_broken_link_gets_a_sentence(page, old, new, says):
    assert LINK.count(old) >= 1
    right, broken = page(
        [("call", ["queryToScene", link]) for link in (LINK, LINK.replace(old, new))]
    )
    assert [t["category"] for t in right["made"]["things"]] == ["table", "mug", "sign"]
    if old == "thing=table,red,plain,70,120,56":  # which field it is matters less than a sentence
        says = "which is no number"
    assert broken["kind"] == "Error" and says in broken["error"], broken
    assert re.fullmatch(r"[A-Z].*[.]", broken["error"])


def test_whatever_comes_gets_a_scene_or_a_sentence(page, scenes):
    rnd = random.Random(0)
    links, broken = [], []
    letters = "abcdefgmnoruwxyz0123456789.,=&%?-+ é\0"
    for _ in range(1000):
        link = list(world_data.query(rnd.choice(scenes)))
        for _ in range(rnd.randint(1, 4)):
            at = rnd.randrange(len(link))
            link[at : at + rnd.randint(0, 9)] = rnd.choices(letters, k=rnd.randint(0, 2))
        links.append("".join(link))
    odd = [None, True, -1, 0.5, 1e300, "", "mug", "__proto__", [], [1, 2], {}, [None], [[]], "0"]
    for _ in range(1000):
        scene = json.loads(json.dumps(world_data.fields(rnd.choice(scenes))))
        for _ in range(rnd.randint(1, 2)):
            place = rnd.choice([scene, *[t for t in scene["things"] or [] if isinstance(t, dict)]])
            place[rnd.choice(list(place))] = rnd.choice(odd)
            if not isinstance(scene["things"], list):
                break
        broken.append(scene)
    made = page(
        [("call", ["queryToScene", link]) for link in [*links, *odd]]
        + [("render", scene) for scene in [*broken, *odd]]
    )
    errors = [one for one in made if "error" in one]
    assert 300 < len(errors) < len(made)
    for one in errors:
        assert one["kind"] == "Error" and re.fullmatch(r"[A-Z].*[.]", one["error"]), one


def as_scene(made):
    things = tuple(Thing(**thing) for thing in made.pop("things"))
    return Scene(things=things, **{**made, "window": tuple(made["window"])})


def test_sizes_and_places_follow_the_worlds_rules(page):
    categories, feet = (*world.PORTABLE[:2], *world.STANDS), range(-5, 150)
    asked = [(c, y) for c in categories for y in feet]
    made = page([("call", ["extentAt", *each]) for each in asked])
    assert [one["made"] for one in made] == [rendering.extent_at(c, y, 144) for c, y in asked]
    link = LINK + "&from=test,1"
    scene = as_scene(page([("call", ["queryToScene", link])])[0]["made"])
    asked, expected = [], []
    for stand in world.STANDS:
        for extent in EXTENTS:  # halves are among their heights
            table = replace(scene.things[0], category=stand, extent=extent)
            given = replace(scene, things=(table, *scene.things[1:]))
            for place in ("on", "under"):
                asked.append(("call", ["put", world_data.fields(given), 1, 0, place]))
                mug = rendering.beside(table, scene.things[1], place, support=0)
                expected.append((table, mug, scene.things[2]))
    assert [as_scene(one["made"]).things for one in page(asked)] == expected


def test_things_stay_inside_and_stands_take_along_what_they_hold(page):
    def do(name, *values):
        [one] = page([("call", [name, json.loads(json.dumps(scene)), *values])])
        return one["made"]

    [one] = page([("call", ["queryToScene", LINK])])
    scene = one["made"]
    table, mug, sign = scene["things"]
    for x, y in ((-500, -500), (999, 999), (30.4, 140)):
        moved = as_scene(do("moved", 0, x, y) | {"seed": 1, "split": "test"})
        boxes = np.array([t.box for t in moved.things])
        assert boxes.min() >= 0 and boxes.max() <= 144
        first, second = moved.things[:2]
        assert (second.x - first.x, second.y - first.y) == (0, mug["y"] - table["y"])
        assert (second.support, second.place) == (0, "on") and second.order == first.order + 0.1
        assert moved.things[2] == Thing(**sign)
    lone = do("moved", 1, 100, 130)["things"][1]
    assert lone == mug | {"x": 100, "y": 130, "support": None, "place": None, "order": 130}
    assert [t["category"] for t in do("removed", 2)["things"]] == ["table", "mug"]
    assert do("removed", 0)["things"] == [
        mug | {"support": None, "place": None, "y": 120, "order": 120}, sign
    ]  # fmt: skip
    wide = do("resized", 0, 70)["things"]
    assert wide[0]["extent"] == 70 and wide[1] == do("put", 1, 0, "on")["things"][1] | {
        "extent": round(0.58 * 70), "y": 120 - round(0.9 * 59),
    }  # fmt: skip
    assert do("resized", 1, 1000)["things"][1]["extent"] == world_data.ALLOWED[1]
    more = do(
        "added", {"category": "key", "colour": "pink", "texture": "dotted", "x": 200, "y": 90}
    )
    key = Thing(**more["things"][3])
    assert key.extent == rendering.extent_at("key", 90, 144) and key.box[2] == 144
    [twice] = page([("call", ["added", scene, {"category": "mug"}])])
    assert twice["kind"] == "Error" and "two of the mug" in twice["error"]


def test_a_thing_is_found_under_a_finger(page):
    scene = replace(
        edited(0), things=(Thing("key", "red", "plain", x=70, y=90, extent=40, order=90),)
    )
    rows, columns = np.nonzero(scene.owner == 0)
    inside = int(columns[0]), int(rows[0])
    above = inside[0], inside[1] - 3
    asked = [inside, above, (*above, 3), (*above, 2), (2, 2, 5)]
    made = page([("at", [world_data.fields(scene), *where]) for where in asked])
    assert [one["made"] for one in made] == [0, -1, 0, -1, -1]
