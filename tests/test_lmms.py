"""The plug-in for lmms-eval, without lmms-eval: its two classes are stood in for, and its task
files are read.

`make agreement` runs the real one; what it found is in data/results/lmms_eval_agreement.json.
"""

import importlib
import json
import sys
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import yaml
from PIL import Image

import whatwhere as ww
from whatwhere import benchmarks

ROOT = Path(__file__).parents[1]
TASKS = ROOT / "lib/whatwhere/lmms/tasks"
CAPTIONS = [
    f"A mug {where} a bowl"
    for where in ("behind", "in front of", "to the left of", "to the right of")
]


@pytest.fixture
def plugin(monkeypatch):
    class Base:
        def __init__(self):
            self.task_dict = {}

    class Manifest(SimpleNamespace):
        pass

    for name, content in (
        ("lmms_eval", {}),
        ("lmms_eval.api", {}),
        ("lmms_eval.api.model", {"lmms": Base}),
        ("lmms_eval.models", {}),
        ("lmms_eval.models.registry_v2", {"ModelManifest": Manifest}),
    ):
        module = ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "whatwhere.lmms", raising=False)
    yield importlib.import_module("whatwhere.lmms")
    sys.modules.pop("whatwhere.lmms", None)


def test_lmms_eval_finds_it_by_the_entry_point(plugin):
    [found] = [each for each in entry_points(group="lmms_eval.models") if each.name == "whatwhere"]
    assert found.value == "whatwhere.lmms:MANIFEST"
    module, name = plugin.MANIFEST.simple_class_path.rsplit(".", 1)
    assert getattr(importlib.import_module(module), name) is plugin.WhatWhere


def requests(documents, **settings):
    return [
        SimpleNamespace(
            args=(doc["question"], settings, lambda doc: doc["pictures"], n, "task", "test")
        )
        for n, doc in enumerate(documents)
    ]


def test_it_answers_as_our_own_harness_does(plugin, monkeypatch):
    # two batches and a bit
    vlm, items = ww.load("toy-qwen2vl"), benchmarks.items("tabletop-b", limit=9)[0]
    documents = [{"question": item.question, "pictures": [item.image]} for item in items]
    short = {"keep": 0.2}
    ways = (
        ({}, {}),
        ({"alpha": 29, "p": 2}, {"scale": (29, 2)}),
        ({"method": "grid", **short}, {"compress": "grid", **short}),
        (
            {"depth": 4, "without_positions": "1-2+4", "shuffle": "tokens"},
            {"depth": 4, "without_positions": [1, 2, 4], "shuffle": "tokens"},
        ),
        (
            {"image_attention": "removed"},
            {"image_attention": "removed"},
        ),
    )
    for arguments, how in ways:
        model = plugin.WhatWhere("toy-qwen2vl", batch_size=4, **arguments)
        model.task_dict = {"task": {"test": documents}}
        ours = benchmarks.run(vlm, "tabletop-b", limit=9, batch_size=4, progress=False, **how)
        assert model.generate_until(requests(documents, max_new_tokens=16)) == list(
            ours.rows["answer"]
        )
    assert ww.rope.scaling.settings(model.vlm) is None and model.vlm.last_depth == 6


def test_stopping_words_and_what_it_cannot_do(plugin):
    model = plugin.WhatWhere("toy-qwen2vl")
    image = ww.world.scene(3).image
    documents = [{"question": "describe the scene .", "pictures": [image]}]
    model.task_dict = {"task": {"test": documents}}
    [whole] = model.generate_until(requests(documents, max_new_tokens=40))
    [cut] = model.generate_until(requests(documents, max_new_tokens=40, until=[","]))
    assert "," in whole and cut == whole.split(",")[0].strip()
    model.task_dict = {"task": {"test": [{"question": "how many ?", "pictures": [image, image]}]}}
    with pytest.raises(ValueError, match="one picture at a time; question 0 of task has 2"):
        model.generate_until(requests(model.task_dict["task"]["test"]))
    for act in (model.loglikelihood, model.generate_until_multi_round):
        with pytest.raises(NotImplementedError, match="[.]$"):
            act([])
    with pytest.raises(ValueError, match="takes alpha and p"):
        plugin.WhatWhere("toy-qwen2vl", alpha=9)
    with pytest.raises(ValueError, match="either shuffled or compressed"):
        plugin.WhatWhere("toy-qwen2vl", shuffle="tokens", method="grid", keep=0.2)


class Loader(yaml.SafeLoader):
    """Reads `!function module.name` as the text after it."""


Loader.add_constructor("!function", lambda loader, node: loader.construct_scalar(node))


def test_task_files_name_functions_and_splits_that_exist():
    sys.path.insert(0, str(TASKS))
    try:
        utils = importlib.import_module("utils")
    finally:
        sys.path.remove(str(TASKS))
        sys.modules.pop("utils", None)
    splits, files = set(), sorted(TASKS.glob("*.yaml"))
    for file in files:
        task = yaml.load(file.read_text(), Loader)
        if "group" in task:
            assert all((TASKS / f"{each}.yaml").is_file() for each in task["task"])
            continue
        assert task["task"] == file.stem
        splits.add(task["test_split"])
        task |= yaml.load((TASKS / task["include"]).read_text(), Loader)
        assert task["dataset_path"] == benchmarks.BENCHMARKS["whatsup-a"].hub
        named = [
            task[key]
            for key in (
                "process_docs",
                "doc_to_visual",
                "doc_to_text",
                "doc_to_target",
                "process_results",
            )
        ]
        for name in named + [each["aggregation"] for each in task["metric_list"]]:
            assert callable(getattr(utils, name.removeprefix("utils.")))
    assert len(files) == 8 and splits == {
        "Controlled_Images_A", "Controlled_Images_B", "COCO_QA_one_obj", "COCO_QA_two_obj",
        "VG_QA_one_obj", "VG_QA_two_obj"
    }  # fmt: skip


def test_task_functions_ask_and_score_as_our_harness_does(plugin, tmp_path):
    utils = importlib.import_module("whatwhere.lmms.tasks.utils")
    drawn = benchmarks.tabletop.write(tmp_path, "B", 3)
    items = benchmarks.items("whatsup-b", drawn)[0]
    entries = json.loads((drawn / "controlled_clevr_dataset.json").read_text())
    documents = [
        {"name": f"Controlled_Images_B/{n}", "caption_options": e["caption_options"]}
        for n, e in enumerate(entries)
    ]
    assert [utils.question(doc) for doc in documents] == [item.question for item in items]
    assert [utils.gold(doc) for doc in documents] == [item.gold for item in items]
    said = [["A"] if n % 2 else [item.gold] for n, item in enumerate(items)]
    rows = [utils.rows(doc, each) for doc, each in zip(documents, said)]
    ours = benchmarks.Result(
        {"benchmark": "whatsup-b", "questions": 12}, [i.row(s[0]) for i, s in zip(items, said)]
    )
    assert utils.accuracy([row["accuracy"] for row in rows]) == ours.accuracy
    assert utils.pairs([row["pairs"] for row in rows]) == ours.scores["pairs"].value
    assert utils.sets([row["sets"] for row in rows]) == ours.scores["sets of four"].value
    assert utils.unparsed([utils.rows(documents[0], ["I cannot tell"])["unparsed"]]) == 1
    captions = [f"A photo of a cat to the {side} of a dog" for side in ("left", "right")]
    two = {"name": "VG_QA_two_obj/0", "caption_options": captions}
    assert utils.accuracy([utils.rows_of_two(two, [utils.gold(two)])["accuracy"]]) == 1
    assert utils.pictures({"image_options": Image.new("L", (4, 4))})[0].mode == "RGB"


def test_the_committed_agreement_is_one():
    found = json.loads((ROOT / "data/results/lmms_eval_agreement.json").read_text())
    assert found["about"]["agreed"] is True
    answered = [run for run in found["runs"].values() if "same answers" in run]
    assert len(answered) == 9 and all(
        run["same answers"] == run["questions"] > 0 for run in answered
    )
    lazy = found["runs"]["whatsup-b, always A"]
    assert 0 < lazy["ours"]["accuracy"] == lazy["lmms-eval"]["accuracy"] < 1
