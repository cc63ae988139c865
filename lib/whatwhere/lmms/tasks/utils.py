"""What the task files of What's Up, COCO-spatial and GQA-spatial call: our own reading and scoring,
on lmms-eval's documents.

The package must be importable where lmms-eval runs; these functions are found by lmms-eval beside
the task files.
"""

from typing import Any

from whatwhere.benchmarks import Result, formats

SEED = 0  # of the options' order


def numbered(documents: Any) -> Any:
    """Give every document its name, by which its options are shuffled."""
    return documents.add_column("name", [f"{documents.split}/{n}" for n in range(len(documents))])


def pictures(document: dict[str, Any]) -> list[Any]:
    return [document["image_options"].convert("RGB")]


def question(
    document: dict[str, Any], lmms_eval_specific_kwargs: dict[str, Any] | None = None
) -> str:
    return _item(document).question


def gold(document: dict[str, Any]) -> Any:
    return _item(document).gold


def rows(document: dict[str, Any], results: list[str]) -> dict[str, Any]:
    """The row of one answer, for each of our metrics."""
    row = _item(document).row(results[0])
    return {metric: row for metric in ("accuracy", "pairs", "sets", "unparsed")}


def rows_of_two(document: dict[str, Any], results: list[str]) -> dict[str, Any]:
    row = _item(document).row(results[0])
    return {metric: row for metric in ("accuracy", "unparsed")}


def accuracy(rows: list[dict[str, Any]]) -> float:
    return _result(rows).scores["accuracy"].value


def pairs(rows: list[dict[str, Any]]) -> float:
    return _result(rows).scores["pairs"].value


def sets(rows: list[dict[str, Any]]) -> float:
    return _result(rows).scores["sets of four"].value


def unparsed(rows: list[dict[str, Any]]) -> float:
    return _result(rows).unparsed


def _item(document):
    name = document["name"]
    make = formats.controlled if name.startswith("Controlled") else formats.placed
    return make(name, None, document["caption_options"], SEED, name)


def _result(rows):
    controlled = rows[0]["id"].startswith("Controlled")
    settings = {"benchmark": "whatsup-a" if controlled else "coco-spatial", "questions": len(rows)}
    return Result(settings, rows)
