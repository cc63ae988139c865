"""What runs first in a kernel that measures elsewhere: other organisms, or other scenes.

WHATWHERE_ORGANISMS names a folder: an organism that is in it is loaded in the place of the book's
own. WHATWHERE_DRAW is a number: test and training scenes are those of other seeds, and what is
distilled begins from another seed. Development scenes stay, so that all that a chapter chooses is
chosen as before. The chapters know of neither.
"""

import os
from pathlib import Path

from whatwhere import compress, loading, world
from whatwhere.world import gestalt

FAR = 10_000_000  # seeds from one draw to the next


def organisms(folder):
    """Load organisms from a folder, as far as it has them."""
    at_home = loading.find

    def find(name):
        there = Path(folder) / str(name)
        return at_home(there if name in loading.ORGANISMS and there.is_dir() else name)

    loading.find = find


def draw(number):
    """Draw scenes, sets and probes of other seeds, and distil from another one."""
    by = FAR * number
    scenes, controlled, lone, distil = (
        world.scenes, world.controlled, gestalt.lone, compress.distil,
    )  # fmt: skip

    def other_scenes(split="test", n=100, start=0, **more):
        return scenes(split, n, start if split == "dev" else start + by, **more)

    def other_sets(which, n=50, spacing="wide", split="test", start=0, **more):
        return controlled(which, n, spacing, split, start if split == "dev" else start + by, **more)

    def other_probe(seed, split="test"):
        return lone(seed + by, split)

    def other_decoder(vlm, taught, *args, seed=0, **more):
        return distil(vlm, taught, *args, seed=seed + 1000 * number, **more)

    world.scenes, world.controlled = other_scenes, other_sets
    gestalt.lone, compress.distil = other_probe, other_decoder


if os.environ.get("WHATWHERE_ORGANISMS"):
    organisms(os.environ["WHATWHERE_ORGANISMS"])
if os.environ.get("WHATWHERE_DRAW"):
    draw(int(os.environ["WHATWHERE_DRAW"]))
