"""Pictures of one thing that is not whole: broken into parts, drawn apart, or partly hidden.

The Gestalt school asked when people see parts as one thing: when they look alike (similarity), when
they are near one another (proximity), and when something could be hiding what is missing (closure).
Each probe is a picture and the truth about it, and has a twin in which the principle is switched
off and all else is the same.
"""

import random
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from ..scenes import covered
from .rendering import Scene, Thing, dress, guard
from .sprites import BACKGROUNDS, PORTABLE, SIZE

EXTENT = 46  # pixels: as large as things get in scenes
# the way of each quarter, row by row: down and right
OUTWARDS = np.array([(-1, -1), (-1, 1), (1, -1), (1, 1)])
BOARD = (128, 128, 128)  # an occluder of no ground's and no thing's colour


@dataclass(frozen=True, eq=False)
class Probe:
    """`pixels` (height, width, 3) uint8; `shown` and `hidden` (height, width) booleans: where the
    thing is to be seen, and where it would be but is not. `thing` has its words."""

    pixels: np.ndarray
    shown: np.ndarray
    hidden: np.ndarray
    thing: Thing

    @property
    def image(self) -> Image.Image:
        """The picture, a PIL image."""
        return Image.fromarray(self.pixels)

    def cells(self, which: str, grid: tuple[int, int]) -> np.ndarray:
        """(rows, columns) true where what is "shown" or "hidden" fills 30% of a cell or more:
        things are thin in places."""
        return covered([getattr(self, which)], *grid)[0] >= 0.3


def lone(seed: int, split: str = "test") -> Scene:
    """A scene with one thing alone in the middle."""
    guard(seed, split, SIZE)
    rnd = random.Random(f"lone/{split}/{int(seed)}")
    category = rnd.choice(PORTABLE)
    x, y = SIZE // 2 + rnd.randint(-12, 12), SIZE // 2 + EXTENT // 2 + rnd.randint(-8, 8)
    thing = Thing(category, *dress(rnd, category, split), x=x, y=y, extent=EXTENT, order=y)
    return Scene(
        int(seed),
        split,
        rnd.choice(BACKGROUNDS),
        (thing,),
        window=(rnd.randrange(368), rnd.randrange(368)),
    )


def _parts(scene):
    """The thing's mask cut into quarters, row by row."""
    mask = scene.masks[0]
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    lower, right = np.arange(mask.shape[0]) > rows.mean(), np.arange(mask.shape[1]) > columns.mean()
    return [
        mask & (lower == down)[:, None] & (right == across)[None]
        for down in (False, True)
        for across in (False, True)
    ]


def _assemble(scene, pieces):
    """The scene's ground with pieces on it: (mask of a part, its move in pixels down and right, the
    picture it is cut from)."""
    pixels, shown = replace(scene, things=()).pixels.copy(), np.zeros(scene.owner.shape, bool)
    for part, (down, right), look in pieces:
        y, x = np.nonzero(part)
        pixels[y + down, x + right] = look[y, x]
        shown[y + down, x + right] = True
    return Probe(pixels, shown, np.zeros_like(shown), scene.things[0])


def apart(scene: Scene, distance: int, alone: bool = False) -> Probe:
    """Proximity: the thing's quarters, each moved outwards by `distance` pixels down or up and as
    many across.

    Args:
        alone: draw the largest quarter only, where it would be with the others: the twin without
            company.
    """
    parts = _parts(scene)
    kept = [max(range(4), key=lambda n: parts[n].sum())] if alone else range(4)
    return _assemble(scene, [(parts[n], distance * OUTWARDS[n], scene.pixels) for n in kept])


def patched(scene: Scene, alike: bool = True, distance: int = 3) -> Probe:
    """Similarity: the quarters a little apart, all of one look, or (the twin) each of a look of its
    own."""
    rnd, thing = random.Random(f"patched/{scene.split}/{scene.seed}"), scene.things[0]
    dresses = [(thing.colour, thing.texture)]
    while len(dresses) < 4:
        other = dress(rnd, thing.category, scene.split)
        dresses += [other] if other not in dresses else []
    looks = [
        replace(scene, things=(replace(thing, colour=c, texture=t),)).pixels for c, t in dresses
    ]
    looks = [scene.pixels] * 4 if alike else looks
    return _assemble(
        scene,
        [(part, distance * way, look) for part, way, look in zip(_parts(scene), OUTWARDS, looks)],
    )


def occluded(
    scene: Scene, grid: tuple[int, int], present: bool = True, board: bool = True
) -> Probe:
    """Closure: a band across the thing's middle is covered, by a grey board or (board=False) by the
    ground.

    The band is made of whole cells of `grid` (rows, columns), across the longer side and about half
    as wide as the thing is long, so that a hidden patch holds not one pixel of the thing.
    present=False leaves the thing out and keeps the board and `hidden`: the twin with nothing to
    complete.
    """
    mask = scene.masks[0]
    spans = [
        (seen[0], seen[-1] + 1) for seen in (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    ]
    along = int(np.argmax([b - a for a, b in spans]))
    band = np.zeros_like(mask)
    band[
        np.ix_(
            *(
                _band(*spans[axis], mask.shape[axis], grid[axis], middle=axis == along)
                for axis in (0, 1)
            )
        )
    ] = True
    ground = replace(scene, things=()).pixels
    shown = mask & present & ~band
    pixels = np.where(shown[..., None], scene.pixels, ground)
    if board:
        pixels = np.where(band[..., None], np.array(BOARD, np.uint8), pixels)
    return Probe(pixels, shown, mask & band, scene.things[0])


def _band(start, stop, side, cells, middle):
    """The pixels of those of `cells` along `side` pixels that hold start … stop, or of a few of
    them about its middle.

    A pixel on the border of two cells belongs to both.
    """
    if middle:
        n = max(1, 24 * cells // side)
        first = round((start + stop) / 2 * cells / side - n / 2)
        last = first + n
    else:
        first, last = start * cells // side, -(-stop * cells // side)
    return np.arange(first * side // cells, -(-last * side // cells))
