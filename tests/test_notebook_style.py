"""Chapters are read aloud: short lines, one idea a cell, bookkeeping out of sight."""

import ast
import io
import re
import tokenize

import pytest

from tools.course import chapters

WIDEST, MEAN = 80, 45  # columns
LONGEST = 45  # minutes
LOOPS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)

every_chapter = pytest.mark.parametrize("path", chapters.NOTEBOOKS, ids=lambda path: path.stem)


def own_cells(path):
    """The chapter's code cells but for the setup, which is the same everywhere."""
    cells = chapters.code_cells(chapters.read(path))
    return [cell for cell in cells if "setup" not in chapters.tags(cell)]


def hidden(cell):
    return any(tag in chapters.tags(cell) for tag in ("hide-input", "hide-cell"))


@every_chapter
def test_lines_fit_the_page(path):
    cells = chapters.code_cells(chapters.read(path))
    lines = [line for cell in cells for line in cell.source.splitlines() if line.strip()]
    wide = [line for line in lines if len(line) > WIDEST]
    assert not wide, f"{len(wide)} lines are wider than {WIDEST} columns:\n" + "\n".join(wide[:5])
    mean = sum(map(len, lines)) / len(lines)
    assert mean <= MEAN, f"a line has {mean:.1f} columns on average, at most {MEAN}"
    solutions = [each["solution"] or "" for each in chapters.exercises(chapters.read(path))]
    wide = [line for code in solutions for line in code.splitlines() if len(line) > WIDEST]
    assert not wide, "solutions: " + "\n".join(wide[:5])


@every_chapter
def test_code_can_be_read_aloud(path):
    for cell in own_cells(path):
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, LOOPS):
                inner = [n for n in ast.walk(node) if isinstance(n, LOOPS) and n is not node]
                assert not inner and len(node.generators) == 1, f"nested: {ast.unparse(node)}"
            if isinstance(node, ast.Assign):
                assert not isinstance(node.value, ast.Lambda), f"{ast.unparse(node)}: use def"
            if isinstance(node, ast.IfExp):
                nested = isinstance(node.orelse, ast.IfExp) or isinstance(node.body, ast.IfExp)
                assert not nested, f"nested: {ast.unparse(node)}"
        assert all(token.string != ";" for token in tokens(cell.source)), (
            f"one statement a line, and none ends in a semicolon: {cell.source[:200]}"
        )


def tokens(source):
    return list(tokenize.generate_tokens(io.StringIO(source).readline))


@every_chapter
def test_comments_stand_on_lines_of_their_own(path):
    for cell in own_cells(path):
        for token in tokens(cell.source):
            if token.type == tokenize.COMMENT:
                assert token.line.strip().startswith("#"), token.line
                assert "noqa" not in token.string, token.line


@every_chapter
def test_bookkeeping_is_out_of_sight(path):
    for cell in own_cells(path):
        if hidden(cell):
            continue
        for node in ast.walk(ast.parse(cell.source)):
            assert not isinstance(node, ast.Assert), f"an assert in sight: {cell.source[:200]}"
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            assert called != "ledger.record", f"a ledger row in sight: {cell.source[:200]}"


@every_chapter
def test_its_time_is_honest(path):
    notebook = chapters.read(path)
    minutes = chapters.minutes(notebook)
    assert minutes <= LONGEST, f"{minutes:.0f} minutes of reading, at most {LONGEST}"
    said = re.search(r"\*\*Time:\*\* (\d+) minutes of reading", notebook.cells[0].source)
    assert said and abs(int(said[1]) - minutes) <= 3, f"it takes {minutes:.0f} minutes to read"


@every_chapter
def test_stubs_have_one_form(path):
    """A function that waits raises NotImplementedError, a name that waits is `...`."""
    for exercise in chapters.exercises(chapters.read(path)):
        if exercise["stub"] is None:
            continue
        functions = [
            part
            for part in ast.parse(exercise["stub"].source).body
            if isinstance(part, ast.FunctionDef)
        ]
        waits = [f for f in functions if "NotImplementedError" in ast.unparse(f.body[-1])]
        _, names = chapters.offers(exercise["stub"].source)
        empty = [n for n, part in names.items() if ast.unparse(part.value) == "..."]
        name = f"exercise {exercise['number']}"
        assert waits or empty, f"{name}: nothing waits for the reader's code"
        assert "return None" not in exercise["stub"].source, name
        for cell in exercise["checks"]:
            assert "assert " not in cell.source and "def check" not in cell.source, (
                f"{name}: checks live in whatwhere.book.exercises"
            )


@every_chapter
def test_a_rule_stands_in_its_box(path):
    """Every chapter that records rows states its rules before the numbers, all in one form."""
    cells = chapters.read(path).cells
    if not any("ledger.record" in cell.source for cell in cells):
        return
    boxes = [c.source for c in cells if c.cell_type == "markdown" and "> **Rule" in c.source]
    assert boxes, "no box that begins with '> **Rule'"
    for source in boxes:
        for part in ("> - *Reproduced* if", "> - *Control*"):
            assert part in source, f"{part!r} is not in the box:\n{source[:400]}"
