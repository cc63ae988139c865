"""The benchmarks' own files → items: their original layout in a folder, or the hub's parquet files.

Each reader takes a `Folder`, the seed of the options' order (None: as they stand), and what makes a
question: a function of `prompts`, whose words are lmms-eval's, or of `paper`. It finds out which of
the two layouts lies there, and refuses what it does not understand with a sentence that names the
file. Nothing is downloaded here.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from ..files import first_line
from . import prompts
from .files import Folder, empty, field, from_base64, from_column
from .item import Item, by_letter

POPE = ("random", "popular", "adversarial")
_RELATIONS = {
    "on": "on", "under": "under", "to the left of": "left", "to the right of": "right",
    "behind": "behind", "in front of": "front",
}  # fmt: skip


def whatsup(
    folder: Folder, seed: int | None, ask: Callable[..., str], *, stem: str, split: str
) -> list[Item]:
    """What's Up's controlled images: four captions, the first of which is right; the same two
    things in four relations.

    Args:
        stem: what its own files are called.
        split: what the hub's are.
    """

    def original():
        for n, row in enumerate(folder.json(f"{stem}_dataset.json", list)):
            at = f"entry {n} of {stem}_dataset.json"
            path = field(row, "image_path", str, at)
            image = folder.picture(
                path.removeprefix("data/"), path, f"{stem}/{Path(path).name}", Path(path).name
            )
            yield at, image, field(row, "caption_options", list, at)

    rows = _captioned(folder, split)
    rows = original() if rows is None else rows
    return [
        controlled(f"{split}/{n}", image, captions, seed, at, ask)
        for n, (at, image, captions) in enumerate(rows)
    ]


def controlled(
    name: str,
    image: Any,
    captions: Any,
    seed: int | None,
    at: str,
    ask: Callable[..., str] = prompts.captions,
) -> Item:
    """The item of one controlled picture, from its four captions."""
    captions = _captions(captions, 4, at)
    (first, relation, second), *others = [_related(caption, at) for caption in captions]
    if len({relation, *(other for _, other, _ in others)}) < 4:
        raise ValueError(
            f"{at} has two captions of one relation, of which only one can be right: "
            f"{str(captions)[:200]}."
        )
    about: dict[str, Any] = {"relation": relation}
    is_swapped = (first, second) == ("pillow", "chair") and relation in ("left", "right")
    if name.startswith("Controlled_Images_A") and is_swapped:
        # these two pictures carry each other's label: amitakamath/whatsup_vlms, issue 4
        about["swapped"] = True
    return by_letter(name, image, captions, seed, ask, group=f"{first} and {second}", about=about)


def spatial(
    folder: Folder,
    seed: int | None,
    ask: Callable[..., str],
    *,
    stem: str,
    split: str,
    pictures: str,
    digits: int = 0,
) -> list[Item]:
    """COCO- and GQA-spatial of What's Up: a right and a wrong caption, about one thing or about
    two.

    Args:
        stem, split: as for `whatsup`.
        pictures: the folder of its pictures, whose names are numbers of so many digits at least.
    """

    def original(part):
        for n, row in enumerate(folder.json(f"{stem}_{part}_obj.json", list)):
            at = f"entry {n} of {stem}_{part}_obj.json"
            if not isinstance(row, list) or len(row) != 3:
                raise ValueError(
                    f"The {at} is not [image id, right caption, wrong caption], but "
                    f"{str(row)[:80]!r}."
                )
            name = f"{str(row[0]).zfill(digits)}.jpg"
            yield at, folder.picture(f"{pictures}/{name}", name), row[1:]

    items = []
    for part in ("one", "two"):
        rows = _captioned(folder, f"{split}_{part}_obj")
        rows = enumerate(original(part) if rows is None else rows)
        items += [
            placed(f"{split}_{part}_obj/{n}", image, captions, seed, at, ask)
            for n, (at, image, captions) in rows
        ]
    return items


def placed(
    name: str,
    image: Any,
    captions: Any,
    seed: int | None,
    at: str,
    ask: Callable[..., str] = prompts.captions,
) -> Item:
    """The item of one picture of COCO- or GQA-spatial, from its right and its wrong caption."""
    # questions about one picture are drawn together, where its name is known
    group = getattr(image, "stem", name)
    about = {"part": "one object" if "_one_obj/" in name else "two objects"}
    captions = _captions(captions, 2, at)
    return by_letter(name, image, captions, seed, ask, group=group, about=about)


def _captioned(folder, split):
    """(place, picture, captions) of the hub's files of a split; None where there are none."""
    paths = folder.find(f"*{split}*.parquet")
    if not paths:
        return None
    rows = folder.parquet(paths, ["image_options", "caption_options"])
    return [(at, from_column(row["image_options"], at), row["caption_options"]) for at, row in rows]


def pope(folder: Folder, seed: int | None, ask: Callable[..., str]) -> list[Item]:
    """POPE: is it there? Half the things asked about are; the others are random, popular or
    adversarial."""
    pictures = {}  # each is asked about many times

    def hub(paths, part=None):
        columns = ["question_id", "question", "answer", "image_source", "image"]
        columns += ["category"] if part is None else []
        for at, row in folder.parquet(paths, columns):
            source = field(row, "image_source", str, at)
            image = pictures.setdefault(source, from_column(row["image"], at))
            number = field(row, "question_id", (str, int), at)
            yield at, part or row["category"], number, image, source, row["question"], row["answer"]

    def original(part):
        for at, row in folder.lines(f"coco_pope_{part}.json"):
            number, name = field(row, "question_id", (str, int), at), field(row, "image", str, at)
            image = folder.picture(f"val2014/{name}", f"images/{name}", name)
            question, label = (field(row, column, None, at) for column in ("text", "label"))
            yield at, part, number, image, image.stem, question, label

    by_part = {part: folder.find(f"*{part}*.parquet") for part in POPE}
    mixed = folder.find("test-*.parquet")
    if all(by_part.values()):
        rows = [row for part in POPE for row in hub(by_part[part], part)]
    else:
        rows = list(hub(mixed)) if mixed else [row for part in POPE for row in original(part)]
    items = []
    for at, part, number, image, source, question, label in rows:
        gold = str(label).strip().lower()
        if gold not in ("yes", "no") or part not in POPE:
            raise ValueError(
                f"{at}: a label is yes or no, in one of {', '.join(POPE)}; not {label!r} in "
                f"{part!r}."
            )
        question, about = ask(_text(question, "question", at)), {"part": part}
        items.append(
            Item(f"{part}/{number}", image, question, "yes/no", gold, group=source, about=about)
        )
    return items


def vsr(folder: Folder, seed: int | None, ask: Callable[..., str]) -> list[Item]:
    """VSR: is this caption true of the picture? One line of its split for each caption."""
    items = []
    for n, (at, row) in enumerate(folder.lines("test.jsonl")):
        name = field(row, "image", str, at)
        image = folder.picture(f"images/{name}", f"trainval2017/{name}", name)
        caption, label = _text(field(row, "caption", None, at), "caption", at), row.get("label")
        if isinstance(label, bool) or label not in (0, 1):
            raise ValueError(
                f"{at}: a label is 1 of a true caption and 0 of others, not {label!r}."
            )
        about = {"relation": field(row, "relation", str, at)}
        gold = "yes" if label else "no"
        items.append(
            Item(str(n), image, ask(caption), "yes/no", gold, group=image.stem, about=about)
        )
    return items


def gqa(
    folder: Folder,
    seed: int | None,
    ask: Callable[..., str],
    *,
    stem: str = "testdev_balanced",
    wanted: Callable[[str, str], bool] = lambda question, answer: True,
) -> list[Item]:
    """GQA: one right answer, a word or two.

    Args:
        stem: what the files of a split are called.
        wanted: of a question and its answer: is it one of those that are asked for?
    """
    questions = folder.find(f"{stem}_instructions/*.parquet")
    if questions:
        images = folder.parquet(folder.find(f"{stem}_images/*.parquet"), ["id", "image"])
        pictures = {str(row["id"]): from_column(row["image"], at) for at, row in images}
        rows = folder.parquet(questions, ["id", "imageId", "question", "answer"])
        rows = [(at, field(row, "id", (str, int), at), row) for at, row in rows]
    else:
        pictures = None
        rows = [
            (f"question {n} of {stem}_questions.json", n, row)
            for n, row in folder.json(f"{stem}_questions.json", dict).items()
        ]
    items = []
    for at, number, row in rows:
        question, gold = (
            _text(field(row, column, str, at), column, at) for column in ("question", "answer")
        )
        if not wanted(question, gold):
            continue
        name = str(field(row, "imageId", (str, int), at))
        if pictures is None:
            image = folder.picture(f"images/{name}.jpg", f"{name}.jpg")
        elif name in pictures:
            image = pictures[name]
        else:
            raise ValueError(
                f"{at}: the picture '{name}' is not among those of the hub's files; fetch them "
                "again."
            )
        items.append(Item(str(number), image, ask(question), "word", gold, group=name))
    return items


def textvqa(folder: Folder, seed: int | None, ask: Callable[..., str]) -> list[Item]:
    """TextVQA, validation: ten people's answers each."""
    paths, file = folder.find("validation-*.parquet"), "TextVQA_0.5.1_val.json"
    if paths:
        columns = ["question_id", "image_id", "question", "answers", "image"]
        rows = folder.parquet(paths, columns)
        rows = [(at, row, from_column(row["image"], at)) for at, row in rows]
    else:
        data = field(folder.json(file, dict), "data", list, file)
        rows = [(f"entry {n} of {file}", row, None) for n, row in enumerate(data)]
    items = []
    for at, row, image in rows:
        name = str(field(row, "image_id", (str, int), at))
        answers = _strings(field(row, "answers", None, at))
        if answers is None or len(answers) != 10:
            raise ValueError(
                f"{at} has not the ten people's answers that TextVQA has, but "
                f"{str(row['answers'])[:80]!r}."
            )
        if image is None:
            image = folder.picture(f"train_images/{name}.jpg", f"images/{name}.jpg", f"{name}.jpg")
        question = ask(_text(row.get("question"), "question", at))
        number = str(field(row, "question_id", (str, int), at))
        items.append(Item(number, image, question, "soft", answers, group=name))
    return items


def mmbench(folder: Folder, seed: int | None, ask: Callable[..., str]) -> list[Item]:
    """MMBench-EN, dev: options in the given order, each question also with its options rotated
    (index + millions)."""
    paths = folder.find("dev-*.parquet")
    needed = ["index", "question", "hint", "answer", "A", "B", "C", "D", "image"]
    if paths:
        rows = folder.parquet(paths, needed)
    else:
        path = folder.only("*.tsv")
        try:
            table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
        except Exception as error:  # pandas has many
            raise ValueError(
                f"'{path}' is no table that can be read ({first_line(error)})."
            ) from None
        lacking = [name for name in needed if name not in table]
        if lacking:
            raise ValueError(
                f"'{path}' has no column '{lacking[0]}', which {folder.benchmark} needs; it has "
                f"{', '.join(table)}."
            )
        rows = [(f"'{path}', row {n}", row) for n, row in enumerate(table.to_dict("records"))]
    pictures = {str(row["index"]): row["image"] for _, row in rows}
    items = []
    for at, row in rows:
        if not re.fullmatch("[0-9]{1,18}", str(row["index"])):
            raise ValueError(f"{at}: an index is a whole number, not {row['index']!r}.")
        options = {
            letter: _text(row[letter], f"option {letter}", at)
            for letter in "ABCD"
            if not empty(row[letter])
        }
        gold = str(row["answer"]).strip()
        if gold not in options:
            raise ValueError(
                f"{at}: the answer {row['answer']!r} is none of its options ({', '.join(options)})."
            )
        image = row["image"]
        if isinstance(image, str):
            if image.isdecimal() and image not in pictures:
                raise ValueError(
                    f"{at} has no picture of its own, and names row {image!r} for it, which is "
                    "not in the file."
                )
            # a rotated copy may name the row that has the picture
            image = from_base64(pictures.get(image, image), at)
        else:
            image = from_column(image, at)
        hint = "" if empty(row["hint"]) else _text(row["hint"], "hint", at)
        question = ask(_text(row["question"], "question", at), options, hint)
        index = int(row["index"])
        group, about = str(index % 1_000_000), {"part": str(row.get("category", ""))}
        items.append(Item(str(index), image, question, "choice", gold, options, group, about))
    return items


def _related(caption, at):
    """("beer bottle", "left", "armchair") of "A beer bottle to the left of a armchair"."""
    match = re.fullmatch(
        rf"an? (.+?) ({'|'.join(_RELATIONS)}) an? (.+?)\.?", caption.strip(), flags=re.IGNORECASE
    )
    if not match:
        raise ValueError(
            f"{at}: {caption!r} is no caption of What's Up, such as 'A mug to the left of a plate'."
        )
    return match[1].lower(), _RELATIONS[match[2].lower()], match[3].lower()


def _captions(captions, n, at):
    texts = _strings(captions) or []
    if not len(texts) == len(set(texts)) == n or not all(text.strip() for text in texts):
        raise ValueError(
            f"{at} has not {n} different captions to choose from, but {str(captions)[:120]}."
        )
    return texts


def _strings(value):
    """A list of strings, of a list or of a parquet file's array of them; None of anything else."""
    value = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(value, (list, tuple)) or not all(isinstance(text, str) for text in value):
        return None
    return list(value)


def _text(value, what, at):
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{at}: its {what} should be words, not {value!r}.")
    return value
