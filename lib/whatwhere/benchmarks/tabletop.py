"""The organisms' own world in the benchmarks' forms, so that every step of a run can be tried on a
laptop, with answers known.

`tabletop-a`, `-b` and `-b-narrow` are What's Up's controlled sets, `tabletop-pope` is POPE, asked
in the organisms' few words. `write` renders such sets as a folder in What's Up's original layout,
for those who would try that path without its pictures.
"""

import json
from pathlib import Path

from .. import files, world
from ..world.question_bank import ABSENTEES
from .item import Item

_ON_PAPER = {
    "on": "on", "under": "under", "left": "to the left of", "right": "to the right of",
    "behind": "behind", "front": "in front of",
}  # fmt: skip
FRESH = 300  # the first of the test sets that nothing else in the book looks at


def controlled(
    which: str, spacing: str = "wide", n: int = 100, split: str = "test", start: int = FRESH
) -> list[Item]:
    """Items of `n` controlled sets: where is the one thing relative to the other?"""
    items = []
    for number, group in enumerate(world.controlled(which, n, spacing, split, start)):
        for relation, (scene, question) in zip(group.scenes, group.asked(), strict=True):
            name, about = f"{number}/{relation}", {"relation": relation}
            items.append(
                Item(
                    name,
                    scene.image,
                    question.text,
                    "word",
                    question.answer,
                    group=str(number),
                    about=about,
                )
            )
    return items


def pope(n: int = 200, split: str = "test") -> list[Item]:
    """Items of `n` scenes: is it there, of one thing that is and one that is not, three times."""
    items = []
    for scene in world.scenes(split, n):
        image = scene.image
        for kind in ABSENTEES:
            for i, question in enumerate(world.existence(scene, kind)):
                name, group, about = f"{kind}/{scene.seed}/{i}", str(scene.seed), {"part": kind}
                items.append(
                    Item(
                        name,
                        image,
                        question.text,
                        "yes/no",
                        question.answer,
                        group=group,
                        about=about,
                    )
                )
    return items


def distinct(
    which: str, n: int, split: str = "test", start: int = FRESH
) -> list[world.ControlledSet]:
    """`n` controlled sets at most, of different pairs of things."""
    sets = {
        (group.satellite, group.nucleus): group
        for group in world.controlled(which, 10 * n, "wide", split, start)
    }
    return list(sets.values())[:n]


def write(
    folder: str | Path, which: str = "B", n: int = 4, split: str = "test", start: int = FRESH
) -> Path:
    """Render `n` controlled sets, of different pairs of things, in What's Up's original layout.
    Returns the folder."""
    stem = {"A": "controlled_images", "B": "controlled_clevr"}[which]
    pictures, entries = Path(folder) / stem, []
    pictures.mkdir(parents=True, exist_ok=True)
    for number, group in enumerate(distinct(which, n, split, start)):
        captions = {
            r: f"A {group.satellite} {_ON_PAPER[r]} a {group.nucleus}" for r in group.scenes
        }
        for relation, scene in group.scenes.items():
            path = f"{stem}/{group.satellite}_{relation}_{group.nucleus}_{number}.png"
            scene.image.save(Path(folder) / path)
            others = [captions[r] for r in captions if r != relation]
            entries.append(
                {"image_path": f"data/{path}", "caption_options": [captions[relation], *others]}
            )
    files.write(Path(folder) / f"{stem}_dataset.json", json.dumps(entries, indent=1))
    return Path(folder)
