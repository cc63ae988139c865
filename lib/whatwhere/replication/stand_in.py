"""The organisms' world in the files of every data set that a study needs: nothing is fetched, and
every step can be tried, on an organism or on random weights.

    data = stand_in.write("stand-in")
    replication.run("toy-qwen2vl", "results/toy", data=data)

Masks are exact in COCO's run lengths; in GQA's and What's Up's files a thing is its bounding box,
which is larger than the thing.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd

from .. import world
from ..benchmarks import tabletop
from ..benchmarks.formats import POPE
from ..files import write as write_text
from ..world import Scene

NAMED = {"left": "to the left of", "right": "to the right of", "front": "in front of"}
IN_NAMES = {"left": "left_of", "right": "right_of", "behind": "behind", "front": "in-front_of"}
SIDES = {"left": "right", "right": "left"}


def write(folder: str | Path, n: int = 12, split: str = "test", start: int = 0) -> Path:
    """A folder with a folder for each name in `DATA`, of `n` scenes and of `n` controlled sets at
    most; returns it."""
    folder, scenes = Path(folder), list(world.scenes(split, n, start=start))
    scene_graphs(folder / "gqa-scenes", scenes)
    instances(folder / "coco", scenes)
    for which in "AB":
        tabletop.write(folder / f"whatsup-{which.lower()}", which, max(2, n // 3), split)
    _boxes(folder / "whatsup-b" / "bbox.jsonl", tabletop.distinct("B", max(2, n // 3), split))
    for name, stem, pictures in (
        ("coco-spatial", "coco_qa", "val2017"), ("gqa-spatial", "vg_qa", "vg_images"),
    ):  # fmt: skip
        _captions(folder / name, scenes, stem, pictures)
    _questions(folder, scenes)
    _pope(folder / "pope", scenes)
    return folder


def scene_graphs(folder: str | Path, scenes: Iterable[Scene], split: str = "val") -> Path:
    """Scenes as GQA's scene graphs, with the pictures in images/: boxes of what can be seen of each
    thing."""
    folder, graphs = Path(folder), {}
    for n, scene in enumerate(scenes):
        _save(scene, folder / "images" / f"{n}.jpg")
        objects = {}
        for i, (thing, mask) in enumerate(zip(scene.things, scene.masks)):
            if not mask.any():
                continue
            left, top, right, bottom = _box(mask)
            relations = [
                {"name": NAMED.get(word, word), "object": str(j)}
                for j in range(len(scene.things))
                if j != i and (word := scene.relation(i, j))
            ]
            objects[str(i)] = {
                "name": thing.category, "attributes": list(thing.attributes),
                "relations": relations, "x": left, "y": top, "w": right - left, "h": bottom - top,
            }  # fmt: skip
        graphs[str(n)] = {"width": scene.width, "height": scene.height, "objects": objects}
    write_text(folder / f"{split}_sceneGraphs.json", json.dumps(graphs))
    return folder


def instances(folder: str | Path, scenes: Iterable[Scene], split: str = "val2017") -> Path:
    """Scenes as COCO's instances, with the pictures in a folder of the split's name: masks as run
    lengths, not packed."""
    folder, scenes = Path(folder), list(scenes)
    categories = sorted({thing.category for scene in scenes for thing in scene.things})
    images, annotations = [], []
    for n, scene in enumerate(scenes):
        name, size = f"{n:012}.jpg", [scene.height, scene.width]
        _save(scene, folder / split / name)
        images.append({"id": n, "file_name": name, "width": scene.width, "height": scene.height})
        annotations += [
            {"image_id": n, "category_id": categories.index(thing.category) + 1, "iscrowd": 1,
             "segmentation": {"size": size, "counts": _run_lengths(mask)}}
            for mask, thing in zip(scene.masks, scene.things)
        ]  # fmt: skip
    listed = [{"id": n + 1, "name": word} for n, word in enumerate(categories)]
    file = {"images": images, "annotations": annotations, "categories": listed}
    write_text(folder / f"instances_{split}.json", json.dumps(file))
    return folder


def _run_lengths(mask):
    """COCO's: column by column, how many pixels are not, are, are not, … the thing's."""
    flat = np.concatenate([[0], mask.T.ravel().astype(int), [2]])
    return np.diff(np.concatenate([[0], np.flatnonzero(np.diff(flat))])).tolist()


def _box(mask):
    """(left, top, right, bottom) of a mask; the two last are the first pixels beyond it."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _save(scene, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    scene.image.save(path, "PNG")  # whatever its name says: nothing of it may be lost


def _boxes(path, sets):
    """The paper's `bbox.jsonl` of controlled sets."""
    lines = []
    for group in sets:
        for relation, scene in group.scenes.items():
            name = f"{group.satellite}_{IN_NAMES[relation]}_{group.nucleus}"
            words = (group.satellite, group.nucleus)
            boxes = dict(zip(words, (list(_box(mask)) for mask in scene.masks)))
            lines.append(json.dumps({"image": name, "bbox": boxes}))
    write_text(path, "\n".join(lines) + "\n")


def _captions(folder, scenes, stem, pictures):
    """COCO-spatial's and GQA-spatial's entries: a true and a false caption, about one thing and
    about two."""
    one, two = [], []
    for n, scene in enumerate(scenes):
        key = n if stem == "coco_qa" else str(n)
        _save(scene, folder / pictures / (f"{n:012d}.jpg" if stem == "coco_qa" else f"{n}.jpg"))
        left, _, right, _ = _box(scene.masks[0])
        side = "left" if left + right < scene.width else "right"
        first = scene.things[0].category
        one.append([key, *(f"A photo of a {first} on the {word}" for word in (side, SIDES[side]))])
        for other in range(1, len(scene.things)):
            word = scene.relation(0, other)
            if word in SIDES:
                name = scene.things[other].category
                two.append([key, *(f"A photo of a {first} to the {side} of a {name}"
                                   for side in (word, SIDES[word]))])  # fmt: skip
                break
    write_text(folder / f"{stem}_one_obj.json", json.dumps(one))
    write_text(folder / f"{stem}_two_obj.json", json.dumps(two or one))


def _questions(folder, scenes):
    """GQA's, TextVQA's and MMBench's files: what colour is it, in each one's form."""
    gqa, textvqa, mmbench = {}, [], []
    for n, scene in enumerate(scenes):
        coloured = [thing for thing in scene.things if thing.attributes]
        if not coloured:
            continue
        thing, other = coloured[0], coloured[-1]
        asked, answer = f"What colour is the {thing.category}?", thing.attributes[0]
        wrong = next(word for word in (other.attributes[0], "red", "blue") if word != answer)
        _save(scene, folder / "gqa" / "images" / f"{n}.jpg")
        _save(scene, folder / "textvqa" / "train_images" / f"{n}.jpg")
        gqa[str(n)] = {"imageId": str(n), "question": asked, "answer": answer, "isBalanced": True}
        textvqa.append(
            {"question_id": n, "image_id": str(n), "question": asked, "answers": [answer] * 10}
        )
        packed = BytesIO()
        scene.image.save(packed, "PNG")
        options = (answer, wrong) if n % 2 else (wrong, answer)
        mmbench.append({
            "index": n, "question": asked, "hint": "", **dict(zip("AB", options)), "C": "", "D": "",
            "answer": "BA"[n % 2], "category": "colour",
            "image": base64.b64encode(packed.getvalue()).decode(),
        })  # fmt: skip
    write_text(folder / "gqa" / "testdev_balanced_questions.json", json.dumps(gqa))
    write_text(folder / "textvqa" / "TextVQA_0.5.1_val.json", json.dumps({"data": textvqa}))
    (folder / "mmbench").mkdir(parents=True, exist_ok=True)
    path = folder / "mmbench" / "mmbench_dev_en.tsv"
    pd.DataFrame(mmbench).to_csv(path, sep="\t", index=False)


def _pope(folder, scenes):
    for part in POPE:
        lines = []
        for n, scene in enumerate(scenes):
            _save(scene, folder / "val2014" / f"{n}.jpg")
            for i, (word, there) in enumerate(scene.existence(part)):
                lines.append(json.dumps({
                    "question_id": 10 * n + i, "image": f"{n}.jpg",
                    "text": f"Is there a {word} in the image?", "label": "yes" if there else "no",
                }))  # fmt: skip
        write_text(folder / f"coco_pope_{part}.json", "\n".join(lines) + "\n")
