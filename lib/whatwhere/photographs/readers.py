"""Photographs from the files that people publish, as these are, and from one of our own."""

from __future__ import annotations

import random
import warnings
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import benchmarks
from ..benchmarks.files import Folder, field
from ..images import read as read_image
from ..scenes import OPPOSITE
from .fetching import fetched, kept
from .photograph import Photograph, Thing

# those of a clone, or else those in the package
SHIPPED = (Path(__file__).parents[3] / "data" / "photographs", Path(__file__).parent / "shipped")
OWN = "photographs.json"

# The paper's boxes of What's Up B, in pixels of the photographs: fetched, and not ours to ship.
BOXES = (
    "https://raw.githubusercontent.com/Siriuslala/vlm_interp/"
    "1b502c68f31e96df761d9dc62e203374a3e59964/eval/WhatsUp/bboxes/bbox.jsonl"
)
BOXES_SUM = "d64527f2d2ca6e5573524eb551d727bda4504a04887d485997d4d793d51f7486"
NAMED = {"left": "left_of", "right": "right_of", "behind": "behind", "front": "in-front_of"}

# GQA's pictures are Visual Genome's, which lie in two folders
VISUAL_GENOME = (
    "https://cs.stanford.edu/people/rak248/VG_100K/{}.jpg",
    "https://cs.stanford.edu/people/rak248/VG_100K_2/{}.jpg",
)
SAID = {
    "to the left of": "left", "to the right of": "right", "on": "on", "on top of": "on",
    "under": "under", "below": "under", "beneath": "under", "underneath": "under",
    "behind": "behind", "in front of": "front",
}  # fmt: skip


def read(folder: str | Path) -> list[Photograph]:
    """Photographs that were marked by hand: a folder of pictures with a file `photographs.json`.

        {"photographs": [
          {"image": "desk.jpg",
           "things": [
             {"word": "mug", "attributes": ["red"], "also": ["cup"], "box": [40, 60, 120, 160]},
             {"word": "book", "outline": [[10, 100], [200, 100], [180, 220], [30, 220]]}],
           "relations": [["mug", "on", "book"]]}]}

    Pixels are counted from the top left corner of the picture as one sees it. A box is left, top,
    right, bottom; an outline goes once around; `outlines` has several for one that is hidden in
    part; `mask` names a picture of the same size that is white where the thing is. A relation names
    its things by their words, or by their numbers from 0 where a word stands twice.

    Raises:
        FileNotFoundError or ValueError: with a sentence that names the file and the entry.
    """
    files = Folder(folder, "a folder of photographs")
    rows = field(files.json(OWN, dict), "photographs", list, OWN)
    return [_own(files, row, f"photograph {n} of {OWN}") for n, row in enumerate(rows)]


def shipped() -> list[Photograph]:
    """The six photographs that come with the book, with our outlines: their licences are in the
    file beside them."""
    return read(next((place for place in SHIPPED if place.is_dir()), SHIPPED[-1]))


def _own(files, row, at):
    name = field(row, "image", str, at)
    path = files.path / files.picture(name).relative_to(files.path)
    size = _size(path, at)
    things = []
    for m, entry in enumerate(field(row, "things", list, at)):
        where = f"Thing {m} of {at}"
        regions = [key for key in ("box", "outline", "outlines", "mask") if key in entry]
        if len(regions) != 1:
            raise ValueError(
                f"{where} has a box, an outline, outlines or a mask: one of them, and it has "
                f"{' and '.join(regions) or 'none'}."
            )
        things.append(
            Thing(
                field(entry, "word", str, where),
                tuple(_words(entry, "attributes", where)),
                tuple(_words(entry, "also", where)),
                entry.get("box"),
                entry.get("outlines") or ([entry["outline"]] if "outline" in entry else ()),
                _painted(files, entry["mask"], where) if "mask" in entry else None,
            )
        )
    words = [thing.category for thing in things]
    relations = {}
    for relation in row.get("relations", []):
        if not isinstance(relation, list) or len(relation) != 3 or relation[1] not in OPPOSITE:
            raise ValueError(
                f"A relation of {at} is [thing, {', '.join(OPPOSITE)}, thing], not "
                f"{str(relation)[:80]}."
            )
        a, b = (_index(named, words, at) for named in (relation[0], relation[2]))
        relations[a, b] = relation[1]
    return _photograph(f"{files.path.name}/{name}", path, size, things, relations, at)


def _painted(files, name, where):
    """(height, width) booleans: where a picture is white rather than black."""
    if not isinstance(name, str):
        raise ValueError(f"{where}: its mask is the name of a picture, not {name!r}.")
    try:
        return np.array(read_image(files.picture(name)).convert("L")) > 127
    except (OSError, ValueError) as error:
        raise type(error)(f"{where}: its mask cannot be read. {error}") from error


def _words(entry, name, where):
    words = entry.get(name, [])
    if not isinstance(words, list) or not all(isinstance(w, str) and w.strip() for w in words):
        raise ValueError(f"{where}: '{name}' is a list of words, not {str(words)[:80]}.")
    return words


def _index(named, words, at):
    if isinstance(named, str) and words.count(named) == 1:
        return words.index(named)
    if isinstance(named, int) and not isinstance(named, bool) and 0 <= named < len(words):
        return named
    raise ValueError(
        f"A relation of {at} names a thing {named!r}; its things are {', '.join(words)}, by their "
        f"word if it stands once, else by number from 0 to {len(words) - 1}."
    )


@dataclass(frozen=True)
class PhotographSet:
    """The same two things in four relations, as `world.ControlledSet`: `scenes` maps relation to
    Photograph, whose thing 0 is the satellite and thing 1 the nucleus."""

    satellite: str
    nucleus: str
    scenes: dict[str, Photograph]


def whatsup_sets(
    data: str | Path | None = None,
    boxes: str | Path | None = None,
    revision: str | None = None,
) -> list[PhotographSet]:
    """What's Up B with the boxes of the paper's authors: 102 sets of four photographs.

    Args:
        data: a folder with the benchmark in its original layout; by default from the hub.
        boxes: their file `bbox.jsonl`; by default fetched from the paper's code, with its checksum.
        revision: of the hub's data set.

    Raises:
        ConnectionError, FileNotFoundError or ValueError: with a sentence.
    """
    path = Path(boxes) if boxes else fetched(BOXES, "whatsup/bbox.jsonl", BOXES_SUM)
    rows = {}
    for at, row in Folder(path.parent, "What's Up's boxes").lines(path.name):
        rows[field(row, "image", str, at)] = at, field(row, "bbox", dict, at)
    items, _ = benchmarks.items("whatsup-b", data, revision=revision)
    sets: dict[str, dict[str, Photograph]] = defaultdict(dict)
    for item in items:
        first, second = item.group.split(" and ")
        name = f"{first}_{NAMED[item.about['relation']]}_{second}"
        if name not in rows:
            raise ValueError(f"'{path}' has no boxes of {name}, a photograph of What's Up B.")
        at, own = rows[name]
        things = [Thing(word, box=field(own, word, list, at)) for word in (first, second)]
        size = _size(item.image, at)
        sets[item.group][item.about["relation"]] = _photograph(
            f"whatsup-b/{name}", item.image, size, things, {(0, 1): item.about["relation"]}, at
        )
    pairs = ((group.split(" and "), scenes) for group, scenes in sets.items())
    return [PhotographSet(satellite, nucleus, scenes) for (satellite, nucleus), scenes in pairs]


def gqa(
    data: str | Path,
    split: str = "val",
    sample: int | None = None,
    seed: int = 0,
    pictures: str | Path | None = None,
) -> list[Photograph]:
    """GQA's scene graphs: boxes of things with their attributes and relations.

    Args:
        data: the folder with `val_sceneGraphs.json` or `train_sceneGraphs.json` (from GQA's page,
            sceneGraphs.zip).
        split: "val" or "train".
        sample: so many photographs at random; by default all.
        seed: of the sample.
        pictures: the folder of GQA's images; by default those that are sampled are fetched one by
            one from Visual Genome, and kept.

    Raises:
        ConnectionError, FileNotFoundError or ValueError: with a sentence.
    """
    name = f"{split}_sceneGraphs.json"
    graphs = Folder(data, "GQA's scene graphs").json(name, dict)
    chosen = _sample(sorted(graphs), sample, seed, name)
    paths = _pictures(
        {key: (f"{key}.jpg", [address.format(key) for address in VISUAL_GENOME]) for key in chosen},
        pictures,
        "gqa",
    )
    photographs = []
    for key in chosen:
        graph, at = graphs[key], f"picture {key} of {name}"
        objects = field(graph, "objects", dict, at)
        numbers = {each: n for n, each in enumerate(objects)}
        things, relations = [], {}
        for own, entry in objects.items():
            left, top, width, height = (field(entry, side, (int, float), at) for side in "xywh")
            things.append(
                Thing(
                    field(entry, "name", str, at),
                    tuple(_words(entry, "attributes", at)),
                    box=(left, top, left + width, top + height),
                )
            )
            for relation in entry.get("relations", []):
                word = SAID.get(field(relation, "name", str, at))
                other = numbers.get(field(relation, "object", str, at))
                if word and other is not None:
                    relations.setdefault((numbers[own], other), word)
        size = (field(graph, "width", int, at), field(graph, "height", int, at))
        photographs.append(_checked(f"gqa/{key}", paths[key], size, things, relations, at))
    return photographs


def coco(
    data: str | Path,
    split: str = "val2017",
    sample: int | None = None,
    seed: int = 0,
    pictures: str | Path | None = None,
) -> list[Photograph]:
    """COCO's instances: outlines and masks of things of 80 categories.

    A crowd is one thing. Pictures without a thing are left out before the sample is drawn.

    Args:
        data: the folder with `instances_val2017.json` (from annotations_trainval2017.zip).
        split: "val2017", "train2017", "val2014" or "train2014".
        sample: so many photographs at random; by default all.
        seed: of the sample.
        pictures: the folder of COCO's images; by default those that are sampled are fetched one by
            one, and kept.

    Raises:
        ConnectionError, FileNotFoundError or ValueError: with a sentence.
        ImportError: without pycocotools, where masks are run lengths.
    """
    name = f"instances_{split}.json"
    file = Folder(data, "COCO's instances").json(name, dict)
    listed = {
        kind: field(file, kind, list, name) for kind in ("images", "annotations", "categories")
    }
    categories = {row["id"]: field(row, "name", str, name) for row in listed["categories"]}
    by_picture = defaultdict(list)
    for row in listed["annotations"]:
        by_picture[field(row, "image_id", int, name)].append(row)
    images = {field(row, "id", int, name): row for row in listed["images"]}
    chosen = _sample(sorted(set(images) & set(by_picture)), sample, seed, name)
    addresses = {}
    for key in chosen:
        row, at = images[key], f"picture {key} of {name}"
        own = field(row, "file_name", str, at)
        addresses[key] = (
            own,
            [row.get("coco_url") or f"http://images.cocodataset.org/{split}/{own}"],
        )
    paths = _pictures(addresses, pictures, f"coco/{split}")
    photographs = []
    for key in chosen:
        at = f"picture {key} of {name}"
        size = (field(images[key], "width", int, at), field(images[key], "height", int, at))
        things = []
        for row in by_picture[key]:
            category = categories.get(row.get("category_id"))
            if category is None:
                raise ValueError(
                    f"{at} has a thing of category {row.get('category_id')!r}, which is none."
                )
            things.append(Thing(category, mask=_mask(row.get("segmentation"), size, at)))
        photographs.append(_checked(f"coco/{key}", paths[key], size, things, {}, at))
    return photographs


def _mask(segmentation, size, at):
    """(height, width) booleans, of polygons or of run lengths, as COCO's own tools make them."""
    try:
        import pycocotools.mask
    except ImportError as error:
        raise ImportError(
            "COCO's masks are read by pycocotools: pip install pycocotools."
        ) from error
    width, height = size
    tools: Any = pycocotools.mask
    try:
        if isinstance(segmentation, list):
            runs = tools.merge(tools.frPyObjects(segmentation, height, width))
        elif isinstance(segmentation, dict) and list(segmentation["size"]) == [height, width]:
            runs = segmentation
            if isinstance(runs["counts"], list):
                runs = tools.frPyObjects(runs, height, width)
        elif isinstance(segmentation, dict):
            raise ValueError(
                f"run lengths of {segmentation['size']}, where the picture has {height} rows of "
                f"{width} pixels"
            )
        else:
            raise ValueError(f"{str(segmentation)[:60]!r} where polygons or run lengths should be")
        mask = tools.decode(runs)
        if mask.shape != (height, width):
            raise ValueError(f"run lengths that add up to another picture, {mask.shape}")
        return mask.astype(bool)
    except Exception as error:  # pycocotools has many, for lists of another form
        raise ValueError(f"{at} has a mask that cannot be read: {error}.") from error


def _sample(keys, sample, seed, name):
    """`sample` of the keys, at random, in order."""
    if sample is None:
        return keys
    if isinstance(sample, bool) or not isinstance(sample, int) or sample < 1:
        raise ValueError(f"A sample is a whole number of photographs, not {sample!r}.")
    if sample > len(keys):
        raise ValueError(f"{name} has {len(keys)} photographs with things, fewer than {sample}.")
    return sorted(random.Random(f"{name}/{seed}").sample(keys, sample))


def _pictures(addresses: Mapping[Any, tuple[str, list[str]]], pictures, source):
    """{key: path} of pictures, in a folder of them or else fetched one by one."""
    if pictures is None:
        return kept(addresses, source)
    folder = Folder(pictures, f"the pictures of {source}")
    paths = {key: folder.path / name for key, (name, _) in addresses.items()}
    lacking = sorted(str(path) for path in paths.values() if not path.is_file())
    if lacking:
        raise FileNotFoundError(
            f"{len(lacking)} of {len(paths)} pictures are not there, '{lacking[0]}' for one. Give "
            "the folder that holds them, or none, and they are fetched."
        )
    return paths


def _size(image, at):
    """(width, height) of a picture as one sees it."""
    try:
        return read_image(image).size
    except (OSError, ValueError, TypeError) as error:
        raise type(error)(f"The picture of {at} cannot be read. {error}") from error


def _photograph(name, image, size, things, relations, at):
    try:
        return Photograph(name, image, size, tuple(things), relations)
    except ValueError as error:
        raise ValueError(f"{at[:1].upper()}{at[1:]}: {error}") from error


def _checked(name, image, size, things, relations, at):
    """A photograph of a published file, without the things whose region has no pixel."""
    seen = _size(image, at)
    if seen != size:
        raise ValueError(
            f"The picture of {at} has {seen[0]} × {seen[1]} pixels, and its regions were made for "
            f"{size[0]} × {size[1]}: take the original picture."
        )
    numbers, fit, lost = {}, [], []
    for n, thing in enumerate(things):
        try:
            thing.region(size)
        except ValueError as error:
            lost.append(str(error))
            continue
        numbers[n] = len(fit)
        fit.append(thing)
    if lost:
        warnings.warn(
            f"{len(lost)} of {len(things)} things of {at} are left out. {lost[0]}", stacklevel=3
        )
    relations = {
        (numbers[a], numbers[b]): word
        for (a, b), word in relations.items()
        if a in numbers and b in numbers
    }
    return Photograph(name, image, size, tuple(fit), relations)
