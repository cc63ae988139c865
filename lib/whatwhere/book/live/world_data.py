"""What `world.js` needs to know to draw the world inside a page, and scenes as that page has them.

    Path("world_data.js").write_text(world_data.script())
    world_data.fields(world.scene(7))        # the scene as JSON, for `render` of world.js
    world_data.query(world.scene(7))         # the scene as a link: the page opens with it

All of it follows from `whatwhere.world`: nothing is drawn by hand for the page. Silhouettes are
sent large, and the page makes them smaller as Pillow does. Grounds are not sent: the page draws
their random numbers anew, from the generators' states.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np

from ...world import rendering, sprites, words_of
from ...world.rendering import Scene, Thing

ALLOWED = (12, 96)  # pixels of the larger side of a thing; in the world they are 27 to 66
LIGHT = (0.4, 1.4)  # in the world 0.85 to 1.08
MOST = 5  # things in a scene: as many as the world's numbers count
KINDS = ("category", "colour", "texture", "background", "character")


def data() -> dict[str, Any]:
    """All that the page knows of the world, as JSON has it.

    Masks are {width, height, runs}: the lengths of runs of equal cells, row by row, the first of
    them outside.
    """
    return {
        "words": {kind: list(words_of(kind)) for kind in KINDS},
        "portable": list(sprites.PORTABLE),
        "stands": list(sprites.STANDS),
        "splits": list(rendering.SPLITS),
        "heldOut": {
            category: next(c for c in sprites.COLOURS if rendering.held_out(category, c))
            for category in sprites.PORTABLE
        },
        "colours": {name: list(rgb) for name, rgb in sprites.COLOURS.items()},
        "sizes": {
            **rendering.EXTENT,
            "sign": sprites.BOARD[0],
            "far": rendering.FAR,
            "near": rendering.NEAR,
            "allowed": list(ALLOWED),
        },
        "light": list(LIGHT),
        "most": MOST,
        "silhouettes": {
            category: _mask(np.asarray(sprites._silhouette(category)) > 127)
            for category in (*sprites.PORTABLE, *sprites.STANDS)
        },
        # one period of each
        "textures": {name: _mask(sprites.texture(name, 8)) for name in sprites.TEXTURES},
        "board": _board(),
        "grounds": {name: _generator(n) for n, name in enumerate(sprites.BACKGROUNDS)},
    }


def script() -> str:
    """The data as a script that sets `whatwhereWorld`, the same at every call."""
    # not of `window`, which a worker has not
    return f"globalThis.whatwhereWorld = {json.dumps(data(), separators=(',', ':'))};\n"


def _mask(cells):
    flat = np.concatenate([[False], cells.ravel()])  # so that the first run is outside
    turns = np.flatnonzero(flat[1:] != flat[:-1])
    height, width = cells.shape
    runs = np.diff(np.concatenate([[0], turns, [cells.size]]))
    return {"width": width, "height": height, "runs": runs.tolist()}


def _board():
    """A sign without letters, each letter, and the corners (x, y) where the letters go."""
    letters = {}
    for letter in sprites.CHARACTERS:
        alpha, ink, boxes = sprites.board(2 * letter)
        x0, y0, x1, y1 = boxes[0]
        letters[letter] = _mask(ink[y0:y1, x0:x1])
    frame = ink.copy()
    for x0, y0, x1, y1 in boxes:
        frame[y0:y1, x0:x1] = False
    places = [list(corners[:2]) for corners in boxes]
    return {"alpha": _mask(alpha), "frame": _mask(frame), "letters": letters, "places": places}


def _generator(index):
    """The generator of a ground before its first draw: 128 bits each, in eights of 16, lowest
    first."""
    state = np.random.default_rng([index, 11]).bit_generator.state["state"]
    halves = {"state": state["state"], "increment": state["inc"]}
    return {
        name: [int(value) >> shift & 0xFFFF for shift in range(0, 128, 16)]
        for name, value in halves.items()
    }


def fields(scene: Scene) -> dict[str, Any]:
    """The scene as the page has it: its own fields and those of its things, as JSON has them."""
    return {**asdict(scene), "things": [asdict(t) for t in scene.things], "window": [*scene.window]}


def query(scene: Scene) -> str:
    """The scene as the end of a link, after its "?": what `sceneToQuery` of the page gives."""
    parts = [
        f"ground={scene.background}",
        f"window={_said(*scene.window)}",
        f"light={_said(scene.light)}",
        *(f"thing={_thing(thing, scene.things)}" for thing in scene.things),
        f"from={scene.split},{scene.seed}",
    ]
    return "&".join(parts)


def _thing(thing: Thing, things: tuple[Thing, ...]):
    where = (thing.x, thing.y)
    named = [thing.category, thing.text, *where]
    if thing.category != "sign":
        named = [thing.category, *thing.attributes, *where, thing.extent]
    usual = thing.y
    if thing.place and thing.support is not None:
        stand = things[thing.support]
        named += [thing.place, stand.category]
        usual = stand.order + (0.1 if thing.place == "on" else -0.1)
    if thing.order != usual:
        named += ["order", thing.order]
    return _said(*named)


def _said(*values):
    """Numbers as JavaScript writes them: 1.0 is 1."""
    return ",".join(
        str(int(v)) if isinstance(v, float) and v.is_integer() else str(v) for v in values
    )
