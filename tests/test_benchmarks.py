"""The field's benchmarks, from small files in each of their formats: what is asked, what is
refused, and how it is scored."""

import base64
import json
import random
import re
from io import BytesIO, StringIO
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from whatwhere import benchmarks, images
from whatwhere.__main__ import main
from whatwhere.benchmarks import paper, scoring, tabletop
from whatwhere.benchmarks.files import Folder, check_pictures
from whatwhere.benchmarks.item import Item, read
from whatwhere.benchmarks.results import Result

BRIEFLY = "Answer the question using a single word or phrase."
BY_LETTER = "Answer with the option's letter from the given choices directly."
ON_PAPER = dict(zip(
    ("on", "under", "left", "right", "behind", "front"),
    ("on", "under", "to the left of", "to the right of", "behind", "in front of"),
))  # fmt: skip
IN_NAMES = {"left": "left_of", "right": "right_of", "front": "in-front_of"}
REAL = [name for name, known in benchmarks.BENCHMARKS.items() if known.read]


# -- small files in each format, in the benchmark's own layout and in the hub's
# ----------------------------------------


def png(number):
    """The bytes of a small picture that no other number has."""
    kept = BytesIO()
    Image.new("RGB", (8, 8), (number * 37 % 256, number * 91 % 256, number)).save(kept, "PNG")
    return kept.getvalue()


def save(path, number):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(number))


def parquet(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_parquet(path)


def written(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")


def controlled_sets(relations, pairs):
    """(file name, captions with the right one first) of whole sets."""
    for first, second in pairs:
        captions = {r: f"A {first} {ON_PAPER[r]} a {second}" for r in relations}
        for r in relations:
            name = f"{first.replace(' ', '-')}_{IN_NAMES.get(r, r)}_{second.replace(' ', '-')}.jpeg"
            yield name, [captions[r], *(captions[other] for other in relations if other != r)]


PAIRS = {
    "a": [("beer bottle", "armchair"), ("pillow", "chair")],
    "b": [("bowl", "candle"), ("mug", "plate")],
}


def whatsup(folder, hub, which, pairs=None):
    stem = {"a": "controlled_images", "b": "controlled_clevr"}[which]
    relations = (
        ["on", "under", "left", "right"] if which == "a" else ["front", "behind", "left", "right"]
    )
    sets = list(controlled_sets(relations, pairs or PAIRS[which]))
    if hub:
        rows = [
            {"image_options": {"bytes": png(n), "path": None}, "caption_options": own}
            for n, (_, own) in enumerate(sets)
        ]
        half = len(rows) // 2  # in two shards
        for n, some in enumerate((rows[:half], rows[half:])):
            parquet(
                folder / f"data/Controlled_Images_{which.upper()}-0000{n}-of-00002.parquet", some
            )
        return
    for n, (name, _) in enumerate(sets):
        save(folder / stem / name, n)
    entries = [
        {"image_path": f"data/{stem}/{name}", "caption_options": captions}
        for name, captions in sets
    ]
    written(folder / f"{stem}_dataset.json", entries)


PLACED = {
    "one": [
        [139, "A photo of a cup on the left", "A photo of a cup on the right"],
        [285, "A photo of a bear on the top", "… bottom"],
    ],
    "two": [
        [285, "A photo of a cat to the left of a dog", "A photo of a cat to the right of a dog"]
    ],
}


def spatial(folder, hub, which):
    for part, entries in PLACED.items():
        if hub:
            stem = {"coco": "COCO_QA", "gqa": "VG_QA"}[which]
            rows = [
                {"image_options": {"bytes": png(n % 256), "path": None}, "caption_options": own}
                for n, *own in entries
            ]
            parquet(folder / f"data/{stem}_{part}_obj-00000-of-00001.parquet", rows)
        else:
            stem, pictures = {"coco": ("coco_qa", "val2017"), "gqa": ("vg_qa", "vg_images")}[which]
            for number, *_ in entries:
                save(
                    folder
                    / pictures
                    / (f"{number:012d}.jpg" if which == "coco" else f"{number}.jpg"),
                    number % 256,
                )
            named = [[number if which == "coco" else str(number), *own] for number, *own in entries]
            written(folder / f"{stem}_{part}_obj.json", named)


POPE = [(1, 7, "Is there a cat in the image?", "yes"), (2, 7, "Is there a dog in the image?", "no"),
        (3, 9, "Is there a bus in the image?", "yes")]  # fmt: skip


def pope(folder, hub, mixed=False):
    rows = []
    for part in ("random", "popular", "adversarial"):
        if hub:
            own = [{"id": str(n), "question_id": str(n), "question": asked, "answer": due,
                "category": part,
                    "image_source": f"COCO_val2014_{at:012d}",
                    "image": {"bytes": png(at), "path": None}}
                   for n, at, asked, due in POPE]  # fmt: skip
            rows += own
            if not mixed:
                parquet(folder / f"Full/{part}-00000-of-00001.parquet", own)
        else:
            own = [
                {
                    "question_id": n,
                    "image": f"COCO_val2014_{at:012d}.jpg",
                    "text": asked,
                    "label": due,
                }
                for n, at, asked, due in POPE
            ]
            written(folder / f"coco_pope_{part}.json", "\n".join(map(json.dumps, own)) + "\n")
            for _, at, *_ in POPE:
                save(folder / f"val2014/COCO_val2014_{at:012d}.jpg", at)
    if mixed:
        parquet(folder / "data/test-00000-of-00001.parquet", rows)


GQA = [
    ("201307251", "n161313", "Is it overcast?", "no"),
    ("201640614", "n235859", "Who wears the dress?", "woman"),
]


def gqa(folder, hub):
    if hub:
        rows = [
            {"id": n, "imageId": at, "question": asked, "answer": due, "isBalanced": True}
            for n, at, asked, due in GQA
        ]
        parquet(folder / "testdev_balanced_instructions/testdev-00000-of-00001.parquet", rows)
        shown = [
            {"id": at, "image": {"bytes": png(n), "path": None}}
            for n, (_, at, *_) in enumerate(GQA)
        ]
        parquet(folder / "testdev_balanced_images/testdev-00000-of-00001.parquet", shown)
        return
    for n, (_, at, *_) in enumerate(GQA):
        save(folder / f"images/{at}.jpg", n)
    asked = {
        n: {"imageId": at, "question": asked, "answer": due, "isBalanced": True}
        for n, at, asked, due in GQA
    }
    written(folder / "testdev_balanced_questions.json", asked)


TEN = ["nokia"] * 6 + ["toshiba", "Nokia 3310", "phone", "unanswerable"]
TEXTVQA = [
    (34602, "003a8ae2ef43b901", "what is the brand of this camera?", TEN),
    (34603, "4d", "WHAT year is it?", ["2011"] * 10),
]


def textvqa(folder, hub):
    own = [
        {"question_id": n, "image_id": at, "question": asked, "answers": people}
        for n, at, asked, people in TEXTVQA
    ]
    if hub:
        rows = [{**each, "image": {"bytes": png(n), "path": None}} for n, each in enumerate(own)]
        parquet(folder / "data/validation-00000-of-00001.parquet", rows)
        return
    for n, each in enumerate(own):
        save(folder / f"train_images/{each['image_id']}.jpg", n)
    written(folder / "TextVQA_0.5.1_val.json", {"dataset_type": "val", "data": own})


CIRCULAR = [  # each with its options rotated, as the benchmark does
    (241, "Which is warm?", "The oven is on.", "B", ["ice", "oven", "snow", "frost"], 5),
    (1000241, "Which is warm?", "The oven is on.", "A", ["oven", "snow", "frost", "ice"], 241),
    (242, "Which is tall?", "", "A", ["tower", "mouse"], 6),
    (1000242, "Which is tall?", "", "B", ["mouse", "tower"], 242),
]


def mmbench(folder, hub):
    rows = []
    for index, asked, hint, due, options, shown in CIRCULAR:
        lettered = dict(zip("ABCD", [*options, "", ""]))
        row = {
            "index": index,
            "question": asked,
            "hint": hint,
            **lettered,
            "answer": due,
            "category": "x",
        }
        if hub:
            own = shown if shown < 200 else next(each[5] for each in CIRCULAR if each[0] == shown)
            row |= {"hint": hint or "nan", **{letter: row[letter] or "nan" for letter in "ABCD"}}
            row["image"] = {"bytes": png(own), "path": None}
        else:
            row["image"] = base64.b64encode(png(shown)).decode() if shown < 200 else str(shown)
        rows.append(row)
    if hub:
        parquet(folder / "data/dev-00000-of-00001.parquet", rows)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(rows).to_csv(folder / "mmbench_dev_en.tsv", sep="\t", index=False)


STATED = [
    {"image": "000000017697.jpg", "caption": "The car is behind the suitcase.", "label": 1,
     "relation": "behind", "subj": "car", "obj": "suitcase", "annotator_id": 2},
    {"image": "000000017697.jpg", "caption": "The suitcase is on the car.", "label": 0,
     "relation": "on"},
    {"image": "000000001675.jpg", "caption": " The cat faces the keyboard.", "label": 0,
     "relation": "facing"},
]  # fmt: skip


def vsr(folder, hub):
    """The hub has its lines, and no pictures."""
    for n, row in enumerate(STATED):
        save(folder / "images" / row["image"], n)
    written(folder / "test.jsonl", "\n".join(map(json.dumps, STATED)) + "\n")


WRITERS = {
    "whatsup-a": lambda folder, hub: whatsup(folder, hub, "a"), "whatsup-b": lambda folder,
    hub: whatsup(folder, hub, "b"), "coco-spatial": lambda folder,
    hub: spatial(folder, hub, "coco"), "gqa-spatial": lambda folder,
    hub: spatial(folder, hub, "gqa"), "vsr": vsr, "pope": pope, "gqa": gqa, "textvqa": textvqa,
    "mmbench": mmbench,
}  # fmt: skip


def asked(benchmark, folder, **more):
    return benchmarks.items(benchmark, folder, **more)[0]


def told(items):
    return [(i.id, i.question, i.kind, i.gold, i.options, i.about) for i in items]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """{(benchmark, layout): folder}; tests that change a file make their own."""
    root = tmp_path_factory.mktemp("formats")
    found = {}
    for name, write in WRITERS.items():
        for hub in (False, True):
            found[name, hub] = root / name / ("hub" if hub else "original")
            write(found[name, hub], hub)
    return found


# -- what is asked
# --------------------------------------------------------------------------------------------------


def test_there_is_a_test_file_of_every_real_benchmark():
    assert REAL == list(WRITERS)


@pytest.mark.parametrize("benchmark", [name for name in REAL if benchmarks.BENCHMARKS[name].hub])
def test_both_layouts_give_the_same_questions_about_the_same_pictures(folders, benchmark):
    original, hub = (
        asked(benchmark, folders[benchmark, False]),
        asked(benchmark, folders[benchmark, True]),
    )
    assert told(original) == told(hub) and len(original) > 1
    for ours, theirs in zip(original, hub):
        assert images.read(ours.image).getpixel((0, 0)) == images.read(theirs.image).getpixel(
            (0, 0)
        )


def test_whats_up_asks_for_one_of_four_captions(folders):
    item = asked("whatsup-a", folders["whatsup-a", False])[2]
    captions = [f"A beer bottle {ON_PAPER[r]} a armchair" for r in ("on", "under", "left", "right")]
    assert sorted(item.options.values()) == sorted(captions) and list(item.options) == list("ABCD")
    assert item.options[item.gold] == "A beer bottle to the left of a armchair"
    lines = [
        "Which caption describes the image?",
        *(f"{letter}. {text}" for letter, text in item.options.items()),
        BY_LETTER,
    ]
    assert item.question == "\n".join(lines)
    assert (item.id, item.group, item.about) == (
        "Controlled_Images_A/2",
        "beer bottle and armchair",
        {"relation": "left"},
    )
    assert Path(item.image).name == "beer-bottle_left_of_armchair.jpeg"


def test_vsr_asks_whether_a_caption_is_true(folders, tmp_path):
    items = asked("vsr", folders["vsr", False])
    assert [(item.gold, item.group, item.about["relation"]) for item in items] == [
        ("yes", "000000017697", "behind"), ("no", "000000017697", "on"),
        ("no", "000000001675", "facing"),
    ]  # fmt: skip
    assert items[2].question == (
        "Is this true of the image? The cat faces the keyboard.\n"
        "Answer the question using a single word or phrase."
    )
    for label in (None, "1", 2, True):
        vsr(tmp_path, False)
        written(tmp_path / "test.jsonl", json.dumps({**STATED[0], "label": label}))
        refused("vsr", tmp_path, "test.jsonl', line 1: a label is 1 of a true caption")
    answers = ["Yes", "yes", "perhaps"]
    rows = [item.row(answer) for item, answer in zip(items, answers)]
    scores = benchmarks.Result({"benchmark": "vsr"}, rows).scores
    assert scores["accuracy"][0] == pytest.approx(1 / 3)
    assert scores["says yes"][0] == pytest.approx(2 / 3)


def test_whats_up_knows_its_relations_and_its_two_swapped_labels(folders):
    a, b = (asked(name, folders[name, False]) for name in ("whatsup-a", "whatsup-b"))
    assert [item.about["relation"] for item in a] == ["on", "under", "left", "right"] * 2
    assert [item.about["relation"] for item in b] == ["front", "behind", "left", "right"] * 2
    assert [item.id for item in a if item.about.get("swapped")] == [
        "Controlled_Images_A/6",
        "Controlled_Images_A/7",
    ]
    assert not any(item.about.get("swapped") for item in b)


@pytest.mark.parametrize("benchmark, stem", [("coco-spatial", "COCO_QA"), ("gqa-spatial", "VG_QA")])
def test_spatial_benchmarks_ask_for_one_of_two_captions_about_one_thing_or_two(
    folders, benchmark, stem
):
    items = asked(benchmark, folders[benchmark, False])
    assert [item.id for item in items] == [
        f"{stem}_one_obj/0",
        f"{stem}_one_obj/1",
        f"{stem}_two_obj/0",
    ]
    assert [item.about["part"] for item in items] == ["one object", "one object", "two objects"]
    assert items[1].group == items[2].group != items[0].group, (
        "questions about one picture belong together"
    )
    assert items[2].options[items[2].gold] == "A photo of a cat to the left of a dog"


def test_pope_asks_in_three_parts(folders, tmp_path):
    items = asked("pope", folders["pope", False])
    assert [item.id for item in items] == [
        f"{part}/{n}" for part in ("random", "popular", "adversarial") for n in (1, 2, 3)
    ]
    assert items[0].question == f"Is there a cat in the image?\n{BRIEFLY}"
    assert [item.gold for item in items[:3]] == ["yes", "no", "yes"]
    assert items[0].group == items[4].group != items[2].group
    pope(tmp_path, True, mixed=True)
    assert told(asked("pope", tmp_path)) == told(items), (
        "all parts in one file, told apart by their category"
    )


def test_a_sample_of_pope_is_the_same_from_both_layouts(folders):
    first, second = (asked("pope", folders["pope", hub], limit=3, seed=4) for hub in (False, True))
    assert told(first) == told(second) and 0 < len(first) < 9


def test_gqa_and_textvqa_ask_for_a_word_or_two(folders):
    item = asked("gqa", folders["gqa", False])[1]
    assert (item.id, item.question, item.gold) == (
        "201640614",
        f"Who wears the dress?\n{BRIEFLY}",
        "woman",
    )
    items = asked("textvqa", folders["textvqa", True])
    assert (items[0].id, items[0].question, items[0].gold) == (
        "34602",
        f"What is the brand of this camera?\n{BRIEFLY}",
        TEN,
    )
    assert items[1].question == f"What year is it?\n{BRIEFLY}"


def test_mmbench_gives_its_options_in_their_order_and_rotated_copies_their_picture(folders):
    first, rotated, two, _ = asked("mmbench", folders["mmbench", False])
    assert first.question == (
        "The oven is on. Which is warm? There are several options:\nA. ice\nB. oven\nC. "
        f"snow\nD. frost\n\n{BY_LETTER}"
    )
    assert (first.gold, rotated.gold, first.group, rotated.group) == ("B", "A", "241", "241")
    assert rotated.options["A"] == "oven" and first.image == rotated.image == png(5)
    assert (
        two.question
        == f"Which is tall? There are several options:\nA. tower\nB. mouse\n\n{BY_LETTER}"
    )


def test_a_folder_that_tabletop_writes_is_read_as_whats_up(tmp_path):
    for which in "AB":
        items = asked(f"whatsup-{which.lower()}", tabletop.write(tmp_path / which, which, 3))
        assert len(items) == 12 and all(
            images.read(item.image).size == images.read(items[0].image).size for item in items
        )


# -- the order of the options, and samples
# ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    folder = tmp_path_factory.mktemp("many")
    whatsup(folder, False, "b", [(f"thing{n}", f"other{n}") for n in range(100)])
    return folder


def test_the_seed_alone_orders_the_options(many):
    first, again, other = (asked("whatsup-b", many, seed=seed) for seed in (0, 0, 1))
    assert told(first) == told(again)
    moved = np.mean([ours.options != theirs.options for ours, theirs in zip(first, other)])
    assert 0.9 < moved < 1, "23 of 24 orders are another one"
    assert [i.options[i.gold] for i in first] == [i.options[i.gold] for i in other]


def test_the_right_answer_stands_at_every_letter_equally_often(many):
    for seed in range(3):
        counts = pd.Series(
            [item.gold for item in asked("whatsup-b", many, seed=seed)]
        ).value_counts()
        assert list(counts.sort_index().index) == list("ABCD")
        assert ((counts - 100) ** 2 / 100).sum() < 16.3, (
            "chi-square with three degrees of freedom, p = 0.001"
        )


def test_the_order_of_options_does_not_depend_on_the_other_entries(tmp_path, many):
    (tmp_path / "controlled_clevr").symlink_to(many / "controlled_clevr")
    entries = json.loads((many / "controlled_clevr_dataset.json").read_text())
    written(tmp_path / "controlled_clevr_dataset.json", entries[7::-1] + entries[8:12])
    ours = asked("whatsup-b", tmp_path)
    assert [i.options for i in ours[8:]] == [i.options for i in asked("whatsup-b", many)[8:12]]


def test_a_sample_is_of_whole_sets_and_repeats_itself(many):
    found = asked("whatsup-b", many, limit=42, seed=3)
    assert len(found) == 40 and len({item.group for item in found}) == 10
    assert told(found) == told(asked("whatsup-b", many, limit=42, seed=3))
    assert told(found) != told(asked("whatsup-b", many, limit=42, seed=4))
    assert [i.id for i in found] == [
        i.id for i in asked("whatsup-b", many) if i.group in {i.group for i in found}
    ]
    assert len(asked("whatsup-b", many, limit=1)) == 4, "one set at least"
    assert len(asked("whatsup-b", many, limit=10_000)) == 400


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "5"])
def test_a_limit_is_a_whole_number_of_questions(limit):
    with pytest.raises(ValueError, match="limit is a whole number of questions from 1 up, not"):
        benchmarks.items("tabletop-b", limit=limit)


# -- what is refused
# --------------------------------------------------------------------------------------------------


def sentence(error):
    """The message, if it is one that a person can use."""
    said = str(error)
    assert re.fullmatch(r"[\w'].{25,}[.)]", said, flags=re.DOTALL) and "Traceback" not in said, said
    return said


def refused(benchmark, folder, *words, kinds=(ValueError, FileNotFoundError), **more):
    with pytest.raises(kinds) as caught:
        benchmarks.items(benchmark, folder, **more)
    said = sentence(caught.value)
    assert type(caught.value) in (ValueError, FileNotFoundError), repr(caught.value)
    for word in words:
        assert word in said, said


def changed(tmp_path, benchmark, name, change, hub=False):
    """The folder of a benchmark with one JSON file changed."""
    WRITERS[benchmark](tmp_path, hub)
    path = tmp_path / name
    value = json.loads(path.read_text())
    path.write_text(json.dumps(change(value)))
    return tmp_path


def test_unknown_benchmarks_folders_and_settings(tmp_path, folders):
    refused("whatsup-c", None, "'whatsup-c'", "whatsup-a, whatsup-b")
    refused(["pope"], None, "no benchmark ['pope']")
    refused("pope", tmp_path / "nowhere", "nowhere", "looked from")
    refused("tabletop-b", tmp_path, "takes neither data nor a revision")
    refused("pope", folders["pope", False], "data", "revision", revision="abc")
    for seed in (-1, 1.5, None, True):
        refused("tabletop-b", None, "seed is a whole number from 0 up", seed=seed)
    (tmp_path / "file").write_text("x")
    refused("pope", tmp_path / "file", "There is no folder")


@pytest.mark.parametrize("benchmark", REAL)
def test_an_empty_folder_is_told_what_it_lacks(tmp_path, benchmark):
    refused(benchmark, tmp_path, str(tmp_path), "holds no", benchmark)


FILES = [
    ("whatsup-a", "controlled_images_dataset.json"), ("whatsup-b", "controlled_clevr_dataset.json"),
    ("coco-spatial", "coco_qa_two_obj.json"), ("gqa-spatial", "vg_qa_one_obj.json"),
    ("vsr", "test.jsonl"), ("pope", "coco_pope_popular.json"),
    ("gqa", "testdev_balanced_questions.json"), ("textvqa", "TextVQA_0.5.1_val.json"),
    ("mmbench", "mmbench_dev_en.tsv"),
]  # fmt: skip


@pytest.mark.parametrize("benchmark, name", FILES)
def test_the_mark_that_editors_of_windows_begin_a_text_with_is_read_over(tmp_path, benchmark, name):
    WRITERS[benchmark](tmp_path, False)
    whole, asked = (tmp_path / name).read_bytes(), benchmarks.items(benchmark, tmp_path)
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + whole)
    assert benchmarks.items(benchmark, tmp_path) == asked


@pytest.mark.parametrize("benchmark, name", FILES)
def test_files_that_are_cut_short_empty_or_no_text_are_refused_by_name(tmp_path, benchmark, name):
    WRITERS[benchmark](tmp_path, False)
    whole = (tmp_path / name).read_bytes()
    for broken in (whole[: len(whole) * 2 // 3 - 9], whole[:1], b"\xff\xfe\x00\x81" + whole):
        (tmp_path / name).write_bytes(broken)
        refused(benchmark, tmp_path, name)
    (tmp_path / name).write_bytes(b"")
    refused(benchmark, tmp_path)


@pytest.mark.parametrize("benchmark, name", FILES[:4] + FILES[5:7])
def test_another_type_at_the_top_is_refused(tmp_path, benchmark, name):
    WRITERS[benchmark](tmp_path, False)
    for wrong in (
        "null",
        "7",
        '"text"',
        '{"a": 1}' if "data" not in name and benchmark != "gqa" else "[1]",
    ):
        (tmp_path / name).write_text(wrong)
        refused(benchmark, tmp_path, name)


@pytest.mark.parametrize("benchmark, name", FILES[:4])
def test_a_benchmark_without_a_question_is_refused(tmp_path, benchmark, name):
    """Also one of two parts: the mean of the other would pass for that of both."""
    WRITERS[benchmark](tmp_path, False)
    (tmp_path / name).write_text("[]")
    refused(benchmark, tmp_path, "hold no question", benchmark)


@pytest.mark.parametrize(
    "captions",
    [
        ["A mug on a table", "A mug under a table", "A mug to the left of a table"],
        ["A mug on a table", "A mug on a table", "A mug under a table",
         "A mug to the left of a table"],
        ["A mug near a table", "A mug on a table", "A mug under a table",
         "A mug to the left of a table"],
        ["A mug on a table", "A cup on a table", "A mug under a table",
         "A mug to the left of a table"],
        ["A mug on a table", None, "A mug under a table", "A mug to the left of a table"],
        ["", "A mug on a table", "A mug under a table", "A mug to the left of a table"],
        [1, 2, 3, 4], [], "A mug on a table", None, {"a": 1},
    ],
)  # fmt: skip
def test_wrong_captions_of_whats_up(tmp_path, captions):
    def change(entries):
        entries[3]["caption_options"] = captions
        return entries

    refused(
        "whatsup-a",
        changed(tmp_path, "whatsup-a", "controlled_images_dataset.json", change),
        "entry 3 of controlled_images",
    )


@pytest.mark.parametrize(
    "entry",
    [
        [139, "one caption"],
        [139, "same", "same"],
        [139, "right", None],
        [139, 1, 2],
        [139, "", "x"],
        "text",
        {"a": 1},
        None,
    ],
)
def test_wrong_entries_of_the_spatial_benchmarks(tmp_path, entry):
    folder = changed(
        tmp_path, "coco-spatial", "coco_qa_one_obj.json", lambda entries: [*entries, entry]
    )
    refused("coco-spatial", folder, "entry 2 of coco_qa_one_obj.json")


@pytest.mark.parametrize("field, value", [
    ("label", "maybe"), ("label", None), ("label", ""), ("label", True), ("text", None),
    ("text", " "), ("text", 5),
    ("image", "no.jpg"), ("question_id", 1),
])  # fmt: skip
def test_wrong_lines_of_pope(tmp_path, field, value):
    pope(tmp_path, False)
    path = tmp_path / "coco_pope_random.json"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], json.dumps({**json.loads(lines[2]), field: value})]))
    refused(
        "pope",
        tmp_path,
        {"question_id": "random/1", "image": "no.jpg"}.get(field, "coco_pope_random.json', line 3"),
    )
    path.write_text(
        "\n".join(
            [*lines[:2], json.dumps({k: v for k, v in json.loads(lines[2]).items() if k != field})]
        )
    )
    refused("pope", tmp_path, f"has no '{field}'", "line 3")


def test_a_line_of_pope_may_hold_any_character(tmp_path):
    pope(tmp_path, False)
    line = {
        "question_id": 9,
        "image": f"COCO_val2014_{9:012d}.jpg",
        "text": "Is there\u2028a \x85cat?",
        "label": "no",
    }
    with (tmp_path / "coco_pope_random.json").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\r\n\n")
    assert [item.id for item in asked("pope", tmp_path)][3] == "random/9"


@pytest.mark.parametrize("change, words", [
    (lambda row: row.pop("answer"), "has no 'answer'"),
    (lambda row: row.update(answer=""), "answer"),
    (lambda row: row.update(question=None), "question"),
    (lambda row: row.pop("imageId"), "imageId"),
    (lambda row: row.update(imageId=["n1"]), "imageId"),
    (lambda row: row.update(answer=True), "answer"),
])  # fmt: skip
def test_wrong_questions_of_gqa(tmp_path, change, words):
    def damage(questions):
        change(questions["201640614"])
        return questions

    name = "testdev_balanced_questions.json"
    refused("gqa", changed(tmp_path, "gqa", name, damage), f"question 201640614 of {name}", words)


@pytest.mark.parametrize("change, words", [
    (lambda row: row["answers"].pop(), "ten people's"),
    (lambda row: row.update(answers="abcdefghij"), "ten people's"),
    (lambda row: row.update(answers=None), "ten people's"),
    (lambda row: row.update(answers=5), "ten people's"),
    (lambda row: row.update(answers=[1] * 10), "ten people's"),
    (lambda row: row.pop("answers"), "has no 'answers'"),
    (lambda row: row.pop("question"), "question"),
    (lambda row: row.update(image_id=None), "image_id"),
    (lambda row: row.update(question=""), "question"),
])  # fmt: skip
def test_wrong_entries_of_textvqa(tmp_path, change, words):
    def damage(all_):
        change(all_["data"][1])
        return all_

    refused(
        "textvqa",
        changed(tmp_path, "textvqa", "TextVQA_0.5.1_val.json", damage),
        "entry 1 of TextVQA_0.5.1_val.json",
        words,
    )


@pytest.mark.parametrize("field, value, words", [
    ("answer", "E", "none of its options (A, B, C, D)"), ("answer", "", "none of its options"),
    ("answer", "oven", "none of its"),
    ("image", "%%%no base64%%%", "base64"), ("image", "", "base64"), ("image", "999999", "999999"),
    ("index", "two", "whole number"), ("question", "", "question"), ("index", "²", "whole number"),
])  # fmt: skip
def test_wrong_rows_of_mmbench(tmp_path, field, value, words):
    mmbench(tmp_path, False)
    path = tmp_path / "mmbench_dev_en.tsv"
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    table.loc[0, field] = value
    table.to_csv(path, sep="\t", index=False)
    refused("mmbench", tmp_path, words, "mmbench_dev_en.tsv', row 0")


def test_a_table_of_mmbench_without_a_column_and_a_folder_with_two_tables(tmp_path):
    mmbench(tmp_path, False)
    path = tmp_path / "mmbench_dev_en.tsv"
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    table.drop(columns="hint").to_csv(path, sep="\t", index=False)
    refused("mmbench", tmp_path, "mmbench_dev_en.tsv", "no column 'hint'")
    table.to_csv(path, sep="\t", index=False)
    table.to_csv(tmp_path / "mmbench_dev_cn.tsv", sep="\t", index=False)
    refused("mmbench", tmp_path, "2 files *.tsv")
    (tmp_path / "mmbench_dev_cn.tsv").unlink()
    pd.concat([table, table[2:3]]).to_csv(path, sep="\t", index=False)
    refused("mmbench", tmp_path, "question '242' twice")


@pytest.mark.parametrize("benchmark, pictures", [
    ("whatsup-a", "controlled_images"), ("coco-spatial", "val2017"), ("gqa-spatial", "vg_images"),
    ("vsr", "images"), ("pope", "val2014"),
    ("gqa", "images"), ("textvqa", "train_images"),
])  # fmt: skip
def test_missing_pictures_are_counted_and_named_before_anything_is_asked(
    tmp_path, benchmark, pictures
):
    WRITERS[benchmark](tmp_path, False)
    there = sorted((tmp_path / pictures).iterdir())
    there[0].unlink()
    refused(
        benchmark,
        tmp_path,
        "1 of the pictures",
        there[0].name,
        "nothing was asked",
        kinds=FileNotFoundError,
    )
    for path in there[1:]:
        path.unlink()
    refused(
        benchmark, tmp_path, f"{len(there)} of the pictures of {benchmark}", kinds=FileNotFoundError
    )


@pytest.mark.parametrize("benchmark, name", [FILES[1], *FILES[4:8]])
@pytest.mark.parametrize("absolute", [True, False])
def test_a_picture_outside_of_the_folder_is_not_looked_at(tmp_path, benchmark, name, absolute):
    WRITERS[benchmark](tmp_path / "data", False)
    save(tmp_path / "outside.jpg", 1)
    path, outside = (
        tmp_path / "data" / name,
        str(tmp_path / "outside") if absolute else "../../outside",
    )
    text = path.read_text()
    for shown, led in (
        ("data/controlled_clevr/bowl_in-front_of_candle.jpeg", outside + ".jpg"),
        ("n161313", outside),
        (f"COCO_val2014_{7:012d}.jpg", outside + ".jpg"),
        ("003a8ae2ef43b901", outside),
        ("000000017697.jpg", outside + ".jpg"),
    ):
        text = text.replace(f'"{shown}"', json.dumps(led))
    assert text != path.read_text()
    path.write_text(text)
    refused(benchmark, tmp_path / "data", "outside", "does not lie in")


PARQUETS = {
    "whatsup-a": ("data/Controlled_Images_A-00000-of-00002.parquet", "caption_options"),
    "coco-spatial": ("data/COCO_QA_one_obj-00000-of-00001.parquet", "image_options"),
    "gqa-spatial": ("data/VG_QA_two_obj-00000-of-00001.parquet", "caption_options"),
    "pope": ("Full/popular-00000-of-00001.parquet", "image_source"),
    "gqa": ("testdev_balanced_instructions/testdev-00000-of-00001.parquet", "imageId"),
    "textvqa": ("data/validation-00000-of-00001.parquet", "answers"),
    "mmbench": ("data/dev-00000-of-00001.parquet", "hint"),
}


@pytest.mark.parametrize("benchmark", PARQUETS)
def test_parquet_files_that_are_cut_short_or_lack_a_column_are_refused_by_name(tmp_path, benchmark):
    WRITERS[benchmark](tmp_path, True)
    name, column = PARQUETS[benchmark]
    path = tmp_path / name
    whole, table = path.read_bytes(), pd.read_parquet(path)
    for broken in (whole[: len(whole) // 2], whole[:3], b"", b"no parquet at all"):
        path.write_bytes(broken)
        refused(benchmark, tmp_path, path.name, "no parquet file that can be read")
    table.drop(columns=column).to_parquet(path)
    refused(benchmark, tmp_path, path.name, f"no column '{column}'")
    table[:0].to_parquet(path)
    if benchmark != "whatsup-a":  # whose other shard is enough
        refused(benchmark, tmp_path, "hold no question")


def test_pictures_of_the_hub_that_are_not_there(tmp_path):
    gqa(tmp_path, True)
    path = tmp_path / "testdev_balanced_images/testdev-00000-of-00001.parquet"
    table = pd.read_parquet(path)
    table[:1].to_parquet(path)
    refused("gqa", tmp_path, "row 1", "'n235859'")
    for nothing in ({"bytes": b"", "path": None}, {"bytes": None, "path": "a.jpg"}, None):
        broken = table.copy()
        broken["image"] = [table["image"][0], nothing]
        broken.to_parquet(path)
        refused("gqa", tmp_path, "row 1", "holds no picture")


def test_the_hubs_questions_without_a_source_do_not_share_a_picture(tmp_path):
    pope(tmp_path, True)
    path = tmp_path / PARQUETS["pope"][0]
    table = pd.read_parquet(path)
    table["image_source"] = None
    table.to_parquet(path)
    refused("pope", tmp_path, path.name, "image_source")


VALUES = (None, 5, -1.5, True, "", "x", [], ["x"], {}, {"x": 1}, [None] * 4, "null", 10**30)


def mutated(value, rnd):
    """The value with one thing in it replaced, taken out or doubled."""
    if isinstance(value, (list, dict)) and value and rnd.random() < 0.8:
        value = value.copy()
        key = rnd.choice(list(value) if isinstance(value, dict) else range(len(value)))
        act = rnd.random()
        if act < 0.15:
            value.pop(key)
        elif act < 0.3 and isinstance(value, list):
            value.append(value[key])
        else:
            value[key] = mutated(value[key], rnd)
        return value
    return rnd.choice(VALUES)


BY_LETTERS = ("letter", "choice")  # how answers by letter are read, strictly or not


def sound(items):
    """No question, option or answer that a person would not recognise as one."""
    assert items and len({item.id for item in items}) == len(items)
    for item in items:
        assert item.question.strip() and (
            item.kind in BY_LETTERS or not re.match("(None|nan|[{\\[])", item.question)
        )
        if item.kind in BY_LETTERS:
            assert item.gold in item.options and all(
                isinstance(each, str) for each in item.options.values()
            )
        elif item.kind == "yes/no":
            assert item.gold in ("yes", "no")
        elif item.kind == "soft":
            assert len(item.gold) == 10 and all(isinstance(each, str) for each in item.gold)
        else:
            assert isinstance(item.gold, str) and item.gold


def holds(benchmark, folder):
    """Read or refused, but with a sentence."""
    try:
        found = asked(benchmark, folder)
    except (ValueError, FileNotFoundError) as error:
        sentence(error)
        return False
    sound(found)
    return True


@pytest.mark.parametrize("benchmark, name", FILES)
def test_whatever_stands_in_a_file_it_is_read_or_refused_with_a_sentence(tmp_path, benchmark, name):
    WRITERS[benchmark](tmp_path, False)
    path, rnd, understood = tmp_path / name, random.Random(name), 0
    whole = path.read_text()
    for turn in range(60):
        if benchmark == "mmbench":
            broken = pd.read_csv(StringIO(whole), sep="\t", dtype=str, keep_default_na=False)
            broken.loc[rnd.randrange(4), rnd.choice(list(broken))] = str(rnd.choice(VALUES))
            text = broken.to_csv(sep="\t", index=False)
        elif benchmark in ("pope", "vsr"):
            lines = [json.loads(line) for line in whole.splitlines()]
            text = "\n".join(
                map(
                    json.dumps,
                    [mutated(each, rnd) if n == turn % 3 else each for n, each in enumerate(lines)],
                )
            )
        else:
            text = json.dumps(mutated(json.loads(whole), rnd))
        path.write_text(text)
        understood += holds(benchmark, tmp_path)
        spot = rnd.randrange(len(whole))
        path.write_text(
            whole[:spot] + rnd.choice('",:[]{}x\n\t\0é') + whole[spot + 1 :], encoding="utf-8"
        )
        holds(benchmark, tmp_path)
    assert 0 < understood < 60, "some of that is damage, and some is not"


@pytest.mark.parametrize("benchmark", PARQUETS)
def test_whatever_stands_in_the_hubs_columns_it_is_read_or_refused_with_a_sentence(
    tmp_path, benchmark
):
    WRITERS[benchmark](tmp_path, True)
    path = tmp_path / PARQUETS[benchmark][0]
    table = pd.read_parquet(path)
    for column in table:
        for value in (None, 5, True, "", "x", ["x"], [None] * 10, {"bytes": b"x", "path": None}):
            for which in (slice(0, 1), slice(None)):  # one row, and all
                broken = table.copy()
                broken[column] = broken[column].astype(object)
                broken[column] = [
                    value if n in range(*which.indices(len(table))) else old
                    for n, old in enumerate(table[column])
                ]
                try:
                    broken.to_parquet(path)
                except Exception:  # pyarrow has no column of such a mixture
                    continue
                holds(benchmark, tmp_path)


# -- from answers to right and wrong
# ------------------------------------------------------------------------------------


CAPTIONS = {"A": "A mug on a table", "B": "a cat", "C": "Yes.", "D": "D major"}


@pytest.mark.parametrize("answer, due", [
    ("B", "B"), ("b", "B"), (" B\n", "B"), ("(B)", "B"), ("B.", "B"), ("B)", "B"), ("B:", "B"),
    ("(B).", "B"),
    ("B. a cat", "B"), ("B: A CAT.", "B"), ("(B) a cat", "B"), ("a cat", "B"), ("A cat.", "B"),
    ("A mug on a table", "A"),
    ("a mug on a table.", "A"), ("yes", "C"), ("D major", "D"), ("D. D major", "D"),
    ("C\n\nYes", "C"),
    ("E", None), ("", None), (" ", None), ("B or C", None), ("A B", None), ("Answer: B", None),
    ("The answer is B.", None),
    ("B. a dog", None), ("A a cat", None), ("a dog", None), ("cat", None), ("AB", None),
    ("Both", None), ("?", None), ("2", None),
    ("a mug", None), ("B. a cat, because it purrs", None), ("Б", None),
])  # fmt: skip
def test_a_letter_is_read_strictly(answer, due):
    assert scoring.letter(answer, CAPTIONS) == due


def test_a_caption_that_two_options_share_gives_no_letter():
    assert scoring.letter("same", {"A": "same", "B": "Same.", "C": "other"}) is None
    assert scoring.letter("B. same", {"A": "same", "B": "Same.", "C": "other"}) == "B"


MAGNETS = {"A": "The magnets attract.", "B": "The magnets repel.", "C": "Nothing happens."}


@pytest.mark.parametrize("answer, due", [
    ("B", "B"), ("Answer: B", "B"), ("The answer is B.", "B"), ("B. The magnets repel.", "B"),
    ("Option B", "B"),
    ("**B**", "B"), ("the magnets repel. I think", "B"), ("A magnet repels", "A"), ("", None),
    ("I say so", None),
    ("D", "D"), ("E", "E"), ("B or C", "B"), ("<think>A or C?</think>\nB", "B"),
])  # fmt: skip
def test_mmbench_reads_a_letter_within_a_sentence(answer, due):
    """D and E are none of the options: read, and wrong."""
    row = Item("1", None, "?", "choice", "B", MAGNETS).row(answer)
    assert read(row) == (due, float(due == "B"))


@pytest.mark.parametrize("answer, own, read_by_lmms", [
    ("Yes", "yes", "yes"), ("No", "no", "no"), ("NO", "yes", "no"), (" yes\n", "yes", "yes"),
    ("No.", "no", None),
    ("Yes, there is a cat in the image.", "yes", None), ("Yes, there is no doubt.", "no", None),
    ("A cat", "yes", None),
    ("There is a cat. No dog.", "yes", None), ("There is not a cat.", "no", None),
    ("No!", "yes", None), ("", "yes", None),
    ("Not sure", "yes", None), ("No, it is not.", "no", None), ("yes\nno", "yes", None),
    (",no", "no", None),
    ("There are none", "yes", None), ("I cannot see", "yes", None),
])  # fmt: skip
def test_yes_and_no_are_read_as_lmms_eval_does_and_as_popes_own_evaluation_does(
    answer, own, read_by_lmms
):
    assert scoring.yes_or_no(answer) == own
    for gold in ("yes", "no"):
        assert read(Item("1", None, "?", "yes/no", gold).row(answer)) == (
            read_by_lmms,
            float(read_by_lmms == gold),
        )


@pytest.mark.parametrize("answer, gold, due", [
    ("No", "no", 1), (" Woman. ", "woman", 1), ("T-shirt", "t-shirt", 1), ("t-shirt!", "tshirt", 1),
    ("the woman", "woman", 0),
    ("women", "woman", 0), ("", "no", 0), ("...", "no", 0), ("yes no", "no", 0),
    ("'left'", "left", 1), ("woman .", "woman", 0),
])  # fmt: skip
def test_gqa_wants_the_very_word(answer, gold, due):
    parsed, right = read(Item("1", None, "?", "word", gold).row(answer))
    assert right == due and (parsed is None) == (not answer.strip(" ."))


def leave_one_out(said, people):
    """The definition: over each nine of ten people, min(1, how many said the same / 3), on
    average."""
    return np.mean(
        [
            min(1, sum(each == said for each in nine) / 3)
            for nine in combinations(people, len(people) - 1)
        ]
    )


@pytest.mark.parametrize("same, due", [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (10, 1)])
def test_the_soft_accuracy_of_an_answer_that_so_many_of_ten_gave(same, due):
    people = ["nokia"] * same + [f"other{n}" for n in range(10 - same)]
    assert (
        scoring.soft("Nokia", people)
        == pytest.approx(due)
        == pytest.approx(leave_one_out("nokia", people))
    )


@pytest.mark.parametrize("answer, due", [
    ("The Nokia.", "nokia"), ("a  dog", "dog"), ("two", "2"), ("none", "0"),
    ("ten dogs", "10 dogs"), ("1,000", "1000"),
    ("3.50", "3.50"), ("3.", "3"), ("dont", "don't"), ("isnt", "isn't"), ("don't", "don't"),
    ("stop!", "stop"), ("why?", "why"),
    ("john's", "john 's"), ("e-mail", "e mail"), ("re - use", "re use"), ("5:30", "5:30"),
    ("new\nline", "new line"), ("a", ""),
    ("U.S.A.", "usa"), ("$5", "$5"), ("(left)", "left"), ("and/or", "and or"),
    ("couldnt've", "couldn't've"), ("its", "its"),
    ("An apple a day", "apple day"), ("wed", "wed"), ("well", "well"),
])  # fmt: skip
def test_vqa_compares_answers_in_its_own_spelling(answer, due):
    assert scoring.vqa(answer).split() == due.split()


@pytest.mark.parametrize("answer, people, due", [
    ("A", ["a"] * 10, ("", 1.0)), ("", ["a"] * 10, ("", 1.0)), ("The.", ["the"] * 10, ("", 1.0)),
    ("", ["x"] * 10, (None, 0.0)),
    ("the", ["x"] * 10, (None, 0.0)), ("x", ["a"] * 10, ("x", 0.0)),
])  # fmt: skip
def test_an_answer_of_which_nothing_is_left_is_right_where_people_said_so(answer, people, due):
    assert read(Item("1", None, "?", "soft", people).row(answer)) == due


def test_a_long_row_of_full_stops_is_cut_short_as_the_definition_does():
    """Its code removes 32 at most, by a slip that everyone's scores are made with."""
    assert scoring.vqa("stop" + "." * 32) == "stop" and scoring.vqa("stop" + "." * 34) == "stop.."


@pytest.mark.parametrize("answer, due", [
    ("<think>no</think> yes", "yes"), ("no</think>yes", "yes"), ("<think>no", "<think>no"),
    (" yes\n", "yes"),
    ("<analysis>a</analysis>b<analysis>c</analysis>d", "bd"),
    ("<think>a<think>b</think>c</think>d", "d"),
    ("a</think>b<think>c", "a</think>b<think>c"), ("<THINK>no</THINK>yes", "<THINK>no</THINK>yes"),
])  # fmt: skip
def test_what_is_thought_aloud_is_no_answer(answer, due):
    assert scoring.said(answer) == due


READ_BY_LMMS = json.loads(
    (Path(__file__).parent / "lmms_eval_reading.json").read_text(encoding="utf-8")
)


@pytest.mark.parametrize("benchmark", ["mmbench", "textvqa", "pope", "gqa"])
def test_answers_are_read_as_lmms_eval_reads_them(benchmark):
    """Some hundred of those on which `make agreement` holds us to it: all that were once read
    otherwise, and all kinds."""
    sample, kind = (
        READ_BY_LMMS[benchmark],
        {"mmbench": "choice", "textvqa": "soft", "pope": "yes/no", "gqa": "word"}[benchmark],
    )
    assert len(sample) > 200
    for gold, answer, due in sample:
        options, gold = (gold, "A") if kind == "choice" else ({}, gold)
        parsed, right = read(Item("1", None, "?", kind, gold, options).row(answer))
        found = {"choice": parsed, "soft": [parsed or "", pytest.approx(right)]}.get(kind, right)
        assert found == due, (gold, answer)


def test_answers_may_be_as_long_as_in_lmms_eval():
    words = READ_BY_LMMS["max_new_tokens"]
    assert words == {"mmbench": 1024, "textvqa": None, "pope": 128, "gqa": 16}
    found = {name: benchmarks.BENCHMARKS[name].words for name in words}
    assert found == words | {"textvqa": 128}


# -- from rows to scores
# ------------------------------------------------------------------------------------------------


def result(benchmark, items, answers, **settings):
    kept = {
        "benchmark": benchmark,
        "model": "m",
        "questions": len(items),
        "scale": None,
        "compress": None,
        **settings,
    }
    return Result(kept, [item.row(answer) for item, answer in zip(items, answers)])


def values(found):
    return {name: score.value for name, score in found.scores.items()}


def inside(found):
    for name, (value, low, high, n) in found.scores.items():
        assert 0 <= low <= value + 1e-12 and value - 1e-12 <= high <= 1 and n >= 1, name
    return found


def set_of(n, right, relations=("front", "behind", "left", "right"), **about):
    """The items of a set and answers, of which those for `right` are right."""
    items = [
        Item(f"{n}/{r}", None, "?", "word", r, group=str(n), about={"relation": r, **about})
        for r in relations
    ]
    return items, [r if r in right else "no idea" for r in relations]


def test_whats_up_by_hand():
    """Two sets: one whole, and one with left and behind right, which is half the captions but no
    pair."""
    sets = [
        set_of(0, ["front", "behind", "left", "right"]),
        set_of(1, ["left", "behind"]),
        set_of(2, ["left", "right"]),
    ]
    items, answers = (sum(part, []) for part in zip(*sets))
    found = inside(result("whatsup-b", items, answers))
    assert values(found) == {"accuracy": 8 / 12, "pairs": 3 / 6, "sets of four": 1 / 3}
    assert [score.n for score in found.scores.values()] == [12, 6, 3]
    assert found.accuracy == 8 / 12 and found.complete and found.unparsed == 0
    on = [set_of(0, ["on", "under", "left"], ("on", "under", "left", "right"))]
    assert values(result("whatsup-a", *on[0])) == {
        "accuracy": 3 / 4,
        "pairs": 1 / 2,
        "sets of four": 0,
    }


def test_sets_that_are_not_whole_yet_are_not_counted_as_right():
    items, answers = set_of(0, ["front", "behind", "left", "right"])
    found = result("whatsup-b", items[:3], answers[:3], questions=4)
    assert (
        "sets of four" not in found.scores and found.scores["pairs"].n == 1 and not found.complete
    )
    assert "3 of 4 questions" in repr(found)


def test_the_two_swapped_labels_are_scored_as_they_are_and_mended(folders):
    """The pictures show left as right: who sees what is there is wrong by the file, and right once
    it is mended."""
    items = asked("whatsup-a", folders["whatsup-a", False])
    by_file = [item.gold for item in items]
    found = inside(result("whatsup-a", items, by_file))
    assert found.accuracy == 1 and values(found)["accuracy, two labels mended"] == 6 / 8
    seen = list(by_file)
    for n, other in ((6, "to the right of"), (7, "to the left of")):
        seen[n] = next(letter for letter, text in items[n].options.items() if other in text)
    found = result("whatsup-a", items, seen)
    assert found.accuracy == 6 / 8 and values(found)["accuracy, two labels mended"] == 1
    seen[6] = "what?"
    found = result("whatsup-a", items, seen)
    assert values(found)["accuracy, two labels mended"] == 7 / 8 and found.unparsed == 1 / 8


def test_spatial_accuracy_is_the_mean_of_one_object_and_two():
    items = [
        Item(f"x/{n}", None, "?", "letter", "A", {"A": "a b", "B": "c d"}, str(n), {"part": part})
        for n, part in enumerate(["one object"] * 8 + ["two objects"] * 2)
    ]
    found = inside(result("coco-spatial", items, ["A"] * 6 + ["B", "neither", "B", "A"]))
    assert values(found) == {
        "accuracy": (6 / 8 + 1 / 2) / 2,
        "one object": 6 / 8,
        "two objects": 1 / 2,
    }
    assert found.unparsed == 0.1 and found.scores["accuracy"].n == 10


def yes_no(part, golds, start=0):
    return [Item(f"{part}/{n}", None, "?", "yes/no", gold, group=str(n // 2), about={"part": part})
            for n, gold in enumerate(golds, start)]  # fmt: skip


def test_pope_by_hand():
    """random: 3 hits, 1 false alarm, 1 miss, 2 rejections, 1 neither; popular: all is yes;
    adversarial: all is no."""
    golds = ["yes"] * 4 + ["no"] * 4
    items = [item for part in ("random", "popular", "adversarial") for item in yes_no(part, golds)]
    answers = ["Yes", "yes", "YES", "No", "Yes", "no", "No", "It is not."]
    found = inside(result("pope", items, answers + ["Yes"] * 8 + ["No"] * 8))
    scores = values(found)
    assert (
        scores["accuracy"] == pytest.approx((5 / 8 + 1 / 2 + 1 / 2) / 3)
        and found.unparsed == 1 / 24
    )
    assert scores["accuracy, read as POPE does"] == pytest.approx((6 / 8 + 1 / 2 + 1 / 2) / 3)
    parts = {
        "random": (5 / 8, 3 / 4, 3 / 4, 3 / 4, 4 / 8),
        "popular": (1 / 2, 1 / 2, 1, 2 / 3, 1),
        "adversarial": (1 / 2, 0, 0, 0, 0),
    }
    for part, due in parts.items():
        said = [
            scores[f"{part}: {name}"]
            for name in ("accuracy", "precision", "recall", "F1", "says yes")
        ]
        assert said == pytest.approx(due), part


def test_pope_leaves_what_is_neither_yes_nor_no_out_of_the_recall():
    """As lmms-eval does: 2 hits of 3 that were answered with either, 2 of the 3 yes right."""
    answers = ["yes", "yes", "no", "Yes, I do.", "yes", "no", "no", "I do not."]
    scores = values(inside(result("pope", yes_no("random", ["yes"] * 4 + ["no"] * 4), answers)))
    said = [
        scores[f"random: {name}"] for name in ("accuracy", "precision", "recall", "F1", "says yes")
    ]
    assert said == pytest.approx((4 / 8, 2 / 3, 2 / 3, 2 / 3, 3 / 8))


@pytest.mark.parametrize("gold", ["yes", "no"])
@pytest.mark.parametrize("answer", ["yes", "no", ""])
def test_pope_without_a_positive_or_a_negative_does_not_break(gold, answer):
    found = inside(result("pope", yes_no("random", [gold] * 4), [answer] * 4))
    assert found.accuracy == float(answer == gold) and found.unparsed == float(answer == "")
    assert values(found)["random: F1"] == float(answer == gold == "yes")
    own = "no" if answer == "no" else "yes"
    assert values(found)["accuracy, read as POPE does"] == float(own == gold)


def test_gqa_and_textvqa_are_means_over_questions(folders):
    items = asked("gqa", folders["gqa", False])
    assert values(inside(result("gqa", items, ["No.", "man"]))) == {"accuracy": 0.5}
    items = asked("textvqa", folders["textvqa", False])
    found = inside(result("textvqa", items, ["Nokia", ""]))
    assert values(found) == {"accuracy": 0.5} and found.unparsed == 0.5
    assert result("textvqa", items, ["phone", "2011"]).accuracy == pytest.approx((0.3 + 1) / 2)


def test_mmbench_counts_a_question_only_where_every_rotation_is_right(folders):
    items = asked("mmbench", folders["mmbench", False])
    found = inside(result("mmbench", items, ["B", "A", "A", "A"]))
    assert values(found) == {"accuracy": 0.5, "each rotation for itself": 0.75}
    assert [score.n for score in found.scores.values()] == [2, 4]
    assert result("mmbench", items, ["B. oven", "oven", "tower", "(B)"]).accuracy == 1
    assert result("mmbench", items, ["the oven", "A", "A", "I say so"]).unparsed == 0.25


def test_intervals_are_the_same_at_every_reading_and_shrink_with_more_groups():
    def found(n):
        rnd = random.Random(0)
        items = [Item(str(i), None, "?", "word", "x", group=str(i // 2)) for i in range(n)]
        return inside(result("gqa", items, [rnd.choice("xy") for _ in items])).scores["accuracy"]

    small, large = found(40), found(640)
    assert small == found(40) and large.high - large.low < 0.5 * (small.high - small.low)
    assert 0.05 < large.high - large.low < 0.12, (
        "about four standard errors of 640 throws of a coin, 0.08"
    )


def test_groups_widen_an_interval():
    """Questions of one picture that stand or fall together count as one."""
    answers = ["x" if n % 20 < 10 else "y" for n in range(200)]
    alone, together = (
        result(
            "gqa",
            [Item(str(i), None, "?", "word", "x", group=str(i // size)) for i in range(200)],
            answers,
        )
        for size in (1, 10)
    )
    wide, narrow = (
        each.scores["accuracy"].high - each.scores["accuracy"].low for each in (together, alone)
    )
    assert wide > 2 * narrow


# -- the paper's protocol, and its figures
# -------------------------------------------------------------------------------


def asked_by_paper(benchmark, folder, **more):
    return benchmarks.items(benchmark, folder, protocol="paper", **more)[0]


def test_the_papers_words(folders):
    """As its public code puts them: indented, with empty lines between options, questions and what
    follows run together."""
    assert asked_by_paper("gqa", folders["gqa", False])[1].question == (
        "Who wears the dress?Please answer with a single word in lowercase."
    )
    assert asked_by_paper("textvqa", folders["textvqa", False])[1].question == (
        "WHAT year is it?Please answer with a single word in lowercase."
    )
    assert asked_by_paper("pope", folders["pope", False])[0].question == (
        "Is there a cat in the image?\n\nPlease answer with either 'yes' or 'no'. Your answer is:"
    )
    item, blanks = asked_by_paper("whatsup-b", folders["whatsup-b", False])[0], "\n" + 12 * " "
    options = "".join(f"\n{blanks}{letter}: {text}" for letter, text in item.options.items())
    which = "Please choose the best decription for the image from the following 4 options:"
    ask = f"\n{blanks}Please answer with A, B, C or D.\nYour answer is:"
    assert item.question == f"{blanks}{which}{options}{ask}{blanks}"
    two = asked_by_paper("gqa-spatial", folders["gqa-spatial", False])[0]
    assert "the following 2 options:" in two.question and "answer with A or B.\n" in two.question
    first = asked_by_paper("mmbench", folders["mmbench", False])[0]
    assert (
        first.question.startswith(f"\n{20 * ' '}Which is warm?\n\n{20 * ' '}A: ice\n")
        and "is on" not in first.question
    )
    for family, due in (
        ("llava", "return only the letter of the option.\nYour choice is:"),
        ("qwen2_vl", "A, B, C or D.\n"),
    ):
        told_ = paper.asked_of(family, [item])[0]
        assert due in told_.question and ("A, B, C or D" in told_.question) == (family != "llava")
    assert paper.asked_of("llava", asked_by_paper("gqa", folders["gqa", False])) == asked_by_paper(
        "gqa", folders["gqa", False]
    )


def test_the_papers_samples(folders, tmp_path):
    assert len(asked_by_paper("pope", folders["pope", False])) == len(
        asked("pope", folders["pope", False])
    )
    assert [item.id for item in asked_by_paper("mmbench", folders["mmbench", True])] == [
        "241",
        "242",
    ], "without rotated copies"
    textvqa(tmp_path, False)
    path = tmp_path / "TextVQA_0.5.1_val.json"
    data = json.loads(path.read_text())
    data["data"].append({**data["data"][0], "question_id": 34699, "question": "is it new?"})
    path.write_text(json.dumps(data))
    assert [item.id for item in asked_by_paper("textvqa", tmp_path)] == ["34699", "34603"], (
        "the last about each picture"
    )
    items = [Item(str(n), None, "?", "word", "x") for n in range(5000)]
    drawn = benchmarks.BENCHMARKS["gqa"].paper.drawn
    first, again, other = (drawn(items, seed) for seed in (0, 0, 1))
    assert (
        first == again != other and len(first) == 1000 and len({item.id for item in first}) == 1000
    )
    assert (
        drawn(items[:900], 0) == items[:900] and benchmarks.BENCHMARKS["pope"].paper.drawn is None
    )
    assert len(asked_by_paper("gqa", folders["gqa", False], limit=1)) == 1


def test_coco_spatial_is_not_shuffled_and_the_table_says_what_always_saying_a_earns(folders, many):
    for name in ("coco-spatial", "gqa-spatial"):
        golds = [
            [item.gold for item in asked_by_paper(name, folders[name, False], seed=seed)]
            for seed in range(8)
        ]
        assert (golds == [["A"] * 3] * 8) == (name == "coco-spatial"), (
            "GQA's are shuffled there too"
        )
    items = asked_by_paper("coco-spatial", folders["coco-spatial", False])
    found = inside(
        result("coco-spatial", items, ["A", "B", "A. A cat"], protocol="paper", family="qwen2_vl")
    )
    assert (
        values(found)["who always says A"] == 1
        and found.accuracy == 0.25
        and found.unparsed == pytest.approx(1 / 3)
    )
    assert "who always says A" in repr(found) and "protocol: paper" in repr(found)
    items = asked_by_paper("whatsup-b", many)
    found = inside(result("whatsup-b", items, ["B"] * 400, protocol="paper"))
    assert 0.18 < values(found)["who always says A"] < 0.32 and values(found)["pairs"] < 0.2
    ours = asked("coco-spatial", folders["coco-spatial", False])
    assert "who always says A" not in values(result("coco-spatial", ours, ["A"] * 3))


@pytest.mark.parametrize("family, answer, parsed, right", [
    ("qwen2_vl", "B", "B", 1), ("qwen2_vl", "B.", None, 0), ("qwen2_vl", "b", None, 0),
    ("qwen2_vl", "B: a cat", None, 0),
    ("llava", "B", "B", 1), ("llava", "B: a cat", "B", 1), ("llava", "B  ", "B", 1),
    ("llava", "B. a cat", None, 0),
    ("internvl", "A: yes", "A", 0), ("llava", "b", None, 0), ("llava", "", None, 0),
    ("llava", "E", None, 0),
])  # fmt: skip
def test_letters_are_read_as_the_paper_reads_them(family, answer, parsed, right):
    assert paper.read(Item("1", None, "?", "letter", "B", CAPTIONS).row(answer), family) == (
        parsed,
        right,
    )


@pytest.mark.parametrize("kind, gold, family, answer, parsed, right", [
    ("yes/no", "yes", "qwen2_vl", "yes", "yes", 1), ("yes/no", "yes", "qwen2_vl", "Yes", None, 0),
    ("yes/no", "yes", "llava", "Yes", "yes", 1), ("yes/no", "yes", "llava", "Yes.", None, 0),
    ("yes/no", "no", "llava", "NO", "no", 1),
    ("word", "woman", "qwen2_vl", "woman", "woman", 1),
    ("word", "woman", "qwen2_vl", "Woman", "Woman", 0),
    ("word", "woman", "llava", "Woman", "woman", 1),
    ("word", "t-shirt", "llava", "t-shirt.", "t-shirt.", 0),
    ("soft", TEN, "qwen2_vl", "nokia", "nokia", 1), ("soft", TEN, "qwen2_vl", "Nokia", "Nokia", 0),
    ("soft", TEN, "qwen2_vl", "toshiba", "toshiba", 1 / 3),
    ("soft", TEN, "llava", "Nokia 3310", "nokia 3310", 0),
    ("soft", TEN, "llava", "", None, 0),
])  # fmt: skip
def test_words_are_read_as_the_paper_reads_them(kind, gold, family, answer, parsed, right):
    row = Item("1", None, "?", kind, gold).row(answer)
    assert paper.read(row, family) == (parsed, pytest.approx(right))
    settings = {"benchmark": "gqa", "model": "m", "protocol": "paper", "family": family}
    assert Result(settings, [row]).accuracy == pytest.approx(right)


TWO_B, SCALED = "Qwen/Qwen2-VL-2B-Instruct", {"alpha": 99.0, "p": 8.0}
PUBLISHED = "Qwen2-VL-2B-Instruct as it was published"
P, OWN = "p 6, 8 or 10 (not said which)", "its own protocol"


@pytest.mark.parametrize("benchmark, settings, due", [
    ("whatsup-b", {"model": TWO_B, "protocol": "paper"}, "53.16"),
    ("whatsup-b", {"model": TWO_B}, f"53.16 with {OWN}"),
    ("whatsup-b", {"model": TWO_B, "protocol": "paper", "limit": 40},
     "53.16 with all of its questions"),
    ("whatsup-b", {"model": TWO_B, "protocol": "paper", "scale": SCALED}, f"58.25 with {P}"),
    ("whatsup-b", {"model": TWO_B, "scale": SCALED}, f"58.25 with {P}, {OWN}"),
    ("whatsup-b", {"model": TWO_B, "protocol": "paper", "scale": {"alpha": 9.0, "p": 2.0}},
     f"58.25 with α 99, {P}"),
    ("whatsup-b", {"model": TWO_B, "protocol": "paper",
        "scale": {"alpha": 99.0, "k": 40.0, "c": 0.6}}, f"58.25 with α 99, {P}"),
    ("whatsup-b", {"model": "models/Qwen2-VL-2B-Instruct/", "protocol": "paper"}, "53.16"),
    ("whatsup-b", {"model": "C:\\models\\Qwen2-VL-2B-Instruct", "protocol": "paper"}, "53.16"),
    ("whatsup-b", {"model": "me/Qwen2-VL-2B-Instruct-sft", "protocol": "paper"},
     f"53.16 with {PUBLISHED}"),
    ("whatsup-b", {"model": "Qwen/Qwen2-VL-2B", "protocol": "paper"}, f"53.16 with {PUBLISHED}"),
    ("whatsup-b", {"model": TWO_B, "protocol": "paper", "quantisation": "ab"},
     "53.16 with weights that are not rounded"),
    ("whatsup-b", {"model": TWO_B, "protocol": "paper", "blind": True}, ""),
    ("whatsup-b", {"model": "toy-qwen2vl"}, ""),
    ("whatsup-b", {"model": TWO_B, "protocol": "paper", "hooks": ["somebody"]}, ""),
    ("whatsup-b", {"model": TWO_B, "protocol": "paper", "depth": 20}, ""),
    ("whatsup-b", {"model": TWO_B, "protocol": "paper", "shuffle": "tokens"}, ""),
    ("gqa", {"model": TWO_B}, ""),
    ("coco-spatial", {"model": TWO_B, "protocol": "paper"},
     "49.84 with one object and two joined in a way that is not said"),
    ("gqa", {"model": "llava-hf/llava-1.5-7b-hf", "protocol": "paper"}, "60.50"),
    ("gqa", {"model": "llava-hf/llava-1.5-7b-hf", "protocol": "paper",
             "compress": {"method": 1, "keep": None, **paper.COMPRESSED}},
             "61.32 with a decoder of its own"),
    ("gqa", {"model": "llava-hf/llava-1.5-7b-hf", "protocol": "paper",
             "compress": {"method": 1, "keep": None, **paper.COMPRESSED, "pool": "mean",
                 "positions": "kept"}},
     "61.32 with pool random, positions renumbered, a decoder of its own"),
    ("gqa", {"model": "llava-hf/llava-1.5-7b-hf", "compress": {"method": "random", "keep": 9}}, ""),
    ("gqa", {"model": "llava-hf/llava-1.5-7b-hf", "scale": SCALED}, ""),
])  # fmt: skip
def test_the_papers_figure_stands_alone_only_beside_the_very_same(benchmark, settings, due):
    """Else the table says what is otherwise there: a model called …-sft stood beside the
    training-free figure."""
    items, answers = (
        set_of(0, ["left"])
        if benchmark == "whatsup-b"
        else ([Item("1", None, "?", "word", "x")], ["x"])
    )
    if benchmark == "coco-spatial":
        items = [Item("1", None, "?", "letter", "A", {"A": "x"}, about={"part": "one object"})]
    found = result(benchmark, items, answers, **settings)
    assert found.beside == due and found.paper == (
        float(due) if re.fullmatch(r"[\d.]+", due) else None
    )
    assert (f"the paper has {due}\n" in f"{found!r}\n") == bool(due)


def test_a_table_and_what_is_printed():
    sets = [
        set_of(n, ["left"] if n % 2 else ["left", "right", "front", "behind"]) for n in range(6)
    ]
    items, answers = (sum(part, []) for part in zip(*sets))
    found = result(
        "whatsup-b",
        items,
        answers,
        model="Qwen/Qwen2-VL-2B-Instruct",
        scale={"alpha": 99.0, "p": 8.0},
    )
    table = found.table()
    assert list(table.index) == ["accuracy", "pairs", "sets of four"] and list(table["%"]) == [
        62.5,
        50.0,
        50.0,
    ]
    assert (
        "scaled: alpha 99, p 8" in repr(found)
        and "62.5" in repr(found)
        and "decoded" not in repr(found)
    )
    plain, not_plain = ({"decoding": {"greedy": how, "ends": [2]}} for how in ("plain", "0" * 16))
    assert repr(result("whatsup-b", items, answers, **plain)).endswith("decoded greedily")
    assert "decoded greedily, by what else the checkpoint asks for" in repr(
        result("whatsup-b", items, answers, **not_plain)
    )


def test_a_gain_is_paired_and_only_between_the_same_questions():
    items = [Item(str(n), None, "?", "word", "x", group=str(n)) for n in range(40)]
    before, after = (
        result("gqa", items, ["x", "y"] * 20),
        result("gqa", items, ["x", "y", "x", "x"] * 10),
    )
    gain = benchmarks.gain(before, after)
    assert gain.value == pytest.approx(0.25) and 0.1 < gain.low < 0.25 < gain.high < 0.4
    assert benchmarks.gain(before, before)[:3] == (0, 0, 0)
    # beside a control that gains as much in every group, nothing is left
    assert benchmarks.gain(before, after, beside=(before, after))[:3] == (0, 0, 0)
    assert benchmarks.gain(before, after, beside=(after, before)).value == pytest.approx(0.5)
    with pytest.raises(ValueError, match="of the same questions"):
        benchmarks.gain(before, after, beside=(before, result("gqa", items[1:], ["x"] * 39)))
    with pytest.raises(ValueError, match="of the same questions"):
        benchmarks.gain(before, result("gqa", items[1:], ["x"] * 39))


def test_nothing_answered_is_nothing_to_score():
    with pytest.raises(ValueError, match="nothing to score"):
        Result({"benchmark": "gqa", "questions": 4}, [])


def test_a_folder_names_every_missing_picture_once(tmp_path):
    there = tmp_path / "there.png"
    there.write_bytes(png(1))
    paths = [there, tmp_path / "b", tmp_path / "a", tmp_path / "a"]
    items = [Item(str(n), path, "?", "word", "x") for n, path in enumerate(paths)]
    with pytest.raises(
        FileNotFoundError,
        match="^2 of the pictures of gqa are missing, '.*/a' for one; nothing was asked",
    ):
        check_pictures(items, "gqa")
    assert check_pictures(items[:1], "gqa") == items[:1]
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        Folder(tmp_path / "nowhere", "gqa")


# -- a benchmark of one's own
# ---------------------------------------------------------------------------------------------


@pytest.fixture
def unregistered():
    """What a test registers is forgotten afterwards."""
    before = dict(benchmarks.BENCHMARKS)
    yield
    benchmarks.BENCHMARKS.clear()
    benchmarks.BENCHMARKS.update(before)


def read_mine(folder, seed, ask):
    rows = folder.json("mine.json", list)
    return [
        Item(
            str(n),
            folder.picture(row["image"]),
            ask(row["question"]),
            "word",
            row["answer"],
            about={"part": row["part"]},
        )
        for n, row in enumerate(rows)
    ]


def mine(**more):
    about = {
        "title": "one's own",
        "read": read_mine,
        "ask": "{} In a word.".format,
        "score": benchmarks.scores.by_part,
    }
    return benchmarks.Benchmark(name="mine", **{**about, "parts": ("easy", "hard"), **more})


def test_a_benchmark_of_ones_own_is_one_record(tmp_path, unregistered, capsys):
    assert benchmarks.register(mine()).name == "mine"
    (tmp_path / "1.png").write_bytes(png(1))
    rows = [{"image": "1.png", "question": f"{n}?", "answer": "yes", "part": part}
            for n, part in enumerate(("easy", "easy", "hard"))]  # fmt: skip
    (tmp_path / "mine.json").write_text(json.dumps(rows))
    items = asked("mine", tmp_path)
    assert [item.question for item in items] == ["0? In a word.", "1? In a word.", "2? In a word."]
    assert values(result("mine", items, ["yes", "no", "yes"])) == {
        "accuracy": 0.75,
        "easy": 0.5,
        "hard": 1,
    }
    before, after = (
        result("mine", items, ["yes", "no", "no"]),
        result("mine", items, ["yes", "no", "yes"]),
    )
    assert benchmarks.gain(before, after).value == 0.5, "the mean over parts, as its accuracy is"
    assert main(["benchmarks"]) == 0 and "mine           one's own" in capsys.readouterr().out
    refused("mine", None, "mine is not on the hub: give data, the folder that holds its files")
    refused("mine", tmp_path, "The paper has no protocol for mine", protocol="paper")
    (tmp_path / "mine.json").write_text(json.dumps(rows[:2]))
    refused("mine", tmp_path, "hold no question of the part 'hard'")


@pytest.mark.parametrize(
    "more, words",
    [
        (
            {"score": None},
            "The benchmark 'mine' has no score, so that its answers would count for nothing: "
            "give score=",
        ),
        ({"read": None}, "from files, by read=, or draws them, by draw=: one of the two"),
        ({"draw": list}, "one of the two"),
        ({"hub": "a/b"}, "names no files of the hub's 'a/b': give patterns="),
        ({"words": 0}, "not words=0"),
    ],
)
def test_a_record_that_could_not_be_run_or_scored_is_refused(more, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        mine(**more)


def test_a_name_is_taken_once(unregistered):
    benchmarks.register(mine())
    with pytest.raises(
        ValueError, match="There is a benchmark 'mine' already .one's own.: choose another name"
    ):
        benchmarks.register(mine())
    with pytest.raises(
        TypeError, match="is registered by its record, a benchmarks.Benchmark, not by 'mine'"
    ):
        benchmarks.register("mine")
    for name in ("", "Mine", "my bench", "a--b", None, 3):
        with pytest.raises(ValueError, match="name is of small letters, digits and hyphens"):
            benchmarks.Benchmark(name, "x", len, read_mine)


def test_answers_to_a_benchmark_that_is_not_known_are_not_scored_by_another_rule(unregistered):
    items = [Item("1", None, "?", "word", "x")]
    with pytest.raises(
        ValueError,
        match="no benchmark 'mine'; there are whatsup-a, .*registered .benchmarks.register",
    ):
        result("mine", items, ["x"])
    benchmarks.register(mine(score=lambda rows: {}))
    with pytest.raises(ValueError, match="score of 'mine' names no \"accuracy\", but nothing"):
        result("mine", items, ["x"])
    benchmarks.register(
        benchmarks.Benchmark("odd", "x", benchmarks.scores.accuracy, draw=lambda: ["a question"])
    )
    refused("odd", None, "The items of odd are not a list of benchmarks.Item")
