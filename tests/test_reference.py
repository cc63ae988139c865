"""The reference pages: nothing public is missing, and docstrings come out as they are meant."""

import ast
import re
from pathlib import Path
from types import ModuleType

import pytest

import whatwhere
from tools.site import reference
from whatwhere import attention

ROOT, PACKAGE = Path(__file__).parents[1], Path(whatwhere.__file__).parent
SHOWN = re.findall(
    r"automodule:: (whatwhere\S+)",
    "".join(page.read_text(encoding="utf-8") for page in ROOT.glob("book/api_*.md")),
)
# what only the package itself calls
INNER = {
    "benchmarks.conditions", "benchmarks.files", "benchmarks.fingerprint", "benchmarks.identity", "benchmarks.item",
    "benchmarks.record", "benchmarks.records", "benchmarks.results", "benchmarks.running",
    "checkpoints", "failures", "selection", "taps", "templates",
    "views.page",
}  # fmt: skip
ROOMS = (
    "compress",
    "families",
    "lens",
    "photographs",
    "relations",
    "replication",
    "rope",
    "world",
)  # whose `__init__` says what is public


def name_of(file):
    return (
        file.relative_to(PACKAGE)
        .with_suffix("")
        .as_posix()
        .replace("/", ".")
        .removesuffix(".__init__")
    )


def test_every_module_of_core_and_benchmarks_is_on_a_page():
    names = {name_of(file) for file in PACKAGE.rglob("*.py")}
    outside = {name for name in names if name.startswith(("book", "lmms", "_"))}
    within = {name for name in names if name.startswith(tuple(f"{room}." for room in ROOMS))}
    shown = {name.removeprefix("whatwhere.") for name in SHOWN}
    assert names - outside - within - INNER - {"views"} == shown - outside - within
    assert not INNER & shown and len(set(SHOWN)) == len(SHOWN)


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=name_of)
def test_what_is_on_a_page_says_what_it_is(file):
    if f"whatwhere.{name_of(file)}" not in SHOWN:
        return
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            overload = any("overload" in ast.unparse(each) for each in node.decorator_list)
            assert overload or ast.get_docstring(node), node.name


def test_an_example_stands_as_it_is_and_no_mark_means_anything():
    made = reference.restructured(
        [
            "What *it* is, `a * b_`, of |x| and y_.",
            "",
            "    with it:",
            "        go(*them)",
            "",
            "Then.",
        ]
    )
    expected = [
        r"What \*it\* is, `a * b_`, of \|x\| and y\_.",
        "",
        "::",
        "",
        "    with it:",
        "        go(*them)",
        "",
        "Then.",
    ]
    assert made == expected


def test_sections_are_left_to_napoleon_and_tables_are_not():
    table = ["| a | b |", "|---|---|", "| 1 | 2 |"]
    made = reference.restructured(["A.", "", "Args:", "    of: more", "        of it.", "", *table])
    assert made[:6] == ["A.", "", "Args:", "    of: more", "        of it.", ""]
    assert made[6:] == ["::", "", *(f"    {line}" for line in table)]


def test_types_for_checkers_alone_get_a_meaning():
    copy = ModuleType("attention")
    vars(copy).update(vars(attention))
    assert not hasattr(copy, "VLM")
    reference.import_types(copy)
    assert copy.VLM is whatwhere.models.VLM
