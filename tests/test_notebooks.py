"""Every chapter keeps to the skeleton, runs, and has exercises whose checks mean something."""

import ast
import re
import tempfile

import nbformat
import pytest
from nbformat import v4

from tools.course import chapters, execute, quizzes
from tools.site import setup_cell, sync
from whatwhere.book import ledger

CHAPTERS = [pytest.param(path, id=path.stem) for path in chapters.NOTEBOOKS] or [
    pytest.param(None, marks=pytest.mark.skip(reason="no chapter is written yet"))
]
every_chapter = pytest.mark.parametrize("path", CHAPTERS)


WRITABLE = (
    tempfile.gettempdir(),
    "/_build/executed/",
    "/.cache/",
    "/.config/matplotlib",
    "/__pycache__",
    "/dev/",
)


def notebook_headings(notebook):
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return re.findall(r"^#+ .*$", text, flags=re.MULTILINE)


@every_chapter
def test_skeleton(path):
    notebook = chapters.read(path)
    first = notebook.cells[0].source
    assert re.fullmatch(r"\d\d_[a-z0-9_]+", path.stem), (
        "a chapter is named like 02_reading_patches_as_words"
    )
    assert first.startswith("# "), "a chapter starts with its title"
    assert setup_cell.badges(*sync.address(), path.name) in first, (
        "the badge row is stale: make sync"
    )
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown").lower()
    for part in (
        "what you will learn",
        "before you start",
        "minutes",
        "## quiz",
        "what next",
        "references",
    ):
        assert part in text, f"{path.stem} has no '{part}'"
    setup = chapters.code_cells(notebook)[0]
    assert "setup" in chapters.tags(setup), "the first code cell is tagged setup"
    assert "## Exercises" in notebook_headings(notebook), "the exercises stand under '## Exercises'"
    assert setup.source == setup_cell.cell(*sync.address()), "the setup cell is stale: make sync"


@every_chapter
def test_size(path):
    for number, cell in enumerate(chapters.code_cells(chapters.read(path)), start=1):
        length = len(cell.source.strip().splitlines())
        # what is folded, such as a row of the ledger, is not read aloud
        most = 30 if "hide-input" in chapters.tags(cell) else 20
        assert length <= most, (
            f"code cell {number} has {length} lines, at most {most}:\n{cell.source[:200]}"
        )


@every_chapter
def test_plain_markdown(path):
    """Colab shows MyST directives and roles as raw text, so chapters use none."""
    for cell in chapters.read(path).cells:
        if cell.cell_type == "markdown":
            prose = re.sub(r"```.*?```|`[^`\n]*`", "", cell.source, flags=re.DOTALL)
            assert not re.search(r"^(:::|```\{)|\{[a-z:]+\}`", cell.source, flags=re.MULTILINE), (
                cell.source[:200]
            )
            assert not re.search(r"^\([a-z-]+\)=\s*$", prose, flags=re.MULTILINE), cell.source[:200]


@every_chapter
def test_no_stored_outputs(path):
    for cell in chapters.code_cells(chapters.read(path)):
        if "skip-execution" not in chapters.tags(cell):
            assert not cell.outputs and cell.execution_count is None, "stored outputs: make sync"


@every_chapter
def test_exercises_are_complete(path):
    found = chapters.exercises(chapters.read(path))
    assert len(found) >= 3, f"{len(found)} exercises, at least 3"
    assert [exercise["number"] for exercise in found] == list(range(1, len(found) + 1))
    for exercise in found:
        name = f"exercise {exercise['number']}"
        assert chapters.label(exercise["text"]), (
            f"{name} has no line such as *Warm-up · easy · 5 min.*"
        )
        assert re.search(r"<summary>\s*Hint", exercise["answer"] or ""), f"{name} has no hint"
        if exercise["stub"] is None:
            assert not exercise["checks"] and exercise["solution"] is None, (
                f"{name} has no code cell tagged exercise"
            )
        else:
            assert exercise["stub"].metadata.get("exercise") == exercise["number"], (
                f"{name}: stub metadata"
            )
            assert exercise["checks"], f"{name} has no code cell tagged check"
            assert exercise["solution"], f"{name} has no solution in a ```python block"
    kinds = {chapters.label(exercise["text"])[0] for exercise in found}
    assert {"Warm-up", "Open"} <= kinds and kinds & {"Measurement", "Derivation"}, f"only {kinds}"


@every_chapter
def test_an_open_exercise_says_what_a_good_answer_holds(path):
    for exercise in chapters.exercises(chapters.read(path)):
        if exercise["stub"] is None or chapters.label(exercise["text"])[0] == "Open":
            rubric = chapters.RUBRIC.search(exercise["answer"])
            assert rubric, f"exercise {exercise['number']} does not say what a good answer holds"
            points = [int(n) for n in re.findall(r"(\d+)\s*points?", rubric[1])]
            assert len(points) >= 3 and sum(points) == 10, (
                f"exercise {exercise['number']}: {points} are not 10 points"
            )
            assert "control" in rubric[1] and "interval" in rubric[1]


@every_chapter
def test_stub_and_solution_have_the_same_signature(path):
    for exercise in chapters.exercises(chapters.read(path)):
        if exercise["stub"] is None:
            continue
        (asked, names), (given, answers) = (
            chapters.offers(exercise["stub"].source),
            chapters.offers(exercise["solution"]),
        )
        name = f"exercise {exercise['number']}"
        assert asked or names, f"{name}: the stub asks for nothing"
        assert asked.items() <= given.items(), f"{name}: the stub has {asked}, the solution {given}"
        empty = {each for each, part in names.items() if ast.unparse(part.value) in ("None", "...")}
        assert empty <= answers.keys(), (
            f"{name}: the solution does not say {empty - answers.keys()}"
        )
        both = chapters.offers(chapters.answered(exercise))
        assert asked.items() <= both[0].items() and names.keys() <= both[1].keys(), (
            f"{name}: the instructor lacks something"
        )


@every_chapter
def test_quiz(path):
    """An option opens and says Yes or No: that works in the book, on Colab, on GitHub and without a
    script."""
    found = quizzes.quiz(chapters.read(path))
    assert len(found) >= 3, f"{len(found)} questions, at least 3"
    places = set()
    for question, options in found.items():
        assert len(options) >= 3, f"{question}: {len(options)} options, at least 3"
        right = [n for n, (_, answer) in enumerate(options) if answer.startswith("Yes.")]
        assert len(right) == 1, f"{question}: {len(right)} right answers"
        assert all(
            answer.startswith(("Yes. ", "No. ")) and len(answer) > 40 for _, answer in options
        ), f"{question}: say why"
        assert len({option for option, _ in options}) == len(options)
        places.add(right[0])
    assert len(places) > 1, "the right answer always stands in the same place"


@pytest.fixture(scope="session")
def failures(chapters_executed):
    """{chapter: why it failed}: those that did are tried again."""
    return execute.ensure()


@every_chapter
def test_runs_and_proves_its_exercises_and_rows(path, failures):
    if path in failures:
        raise failures[path]
    done = execute.kept(path)
    assert done, (
        "the chapter, the package or the organisms changed while it was executed: run the tests "
        "again"
    )
    for number, said in done.marks.items():
        assert any(mark.startswith("✗") for mark in said["stub"]), (
            f"exercise {number}: the stub passes {said}"
        )
        passed = said["solution"] and all(mark.startswith("✓") for mark in said["solution"])
        assert passed, f"exercise {number}: its solution does not pass {said['solution']}"
    elsewhere = [each for each in done.wrote if not any(part in each for part in WRITABLE)]
    assert not elsewhere, "a chapter writes its rows, and otherwise into temporary folders"
    committed = [
        row
        for row in ledger.rows(chapters.ROOT / "data" / "claims")
        if row["notebook"] == path.stem
    ]
    differences = ledger.compare(ledger.rows(done.claims), committed)
    assert not differences, "\n".join(differences)


def test_committed_rows_belong_to_chapters():
    stems = {path.stem for path in chapters.NOTEBOOKS}
    for row in ledger.rows(chapters.ROOT / "data" / "claims"):
        assert row["notebook"] in stems, (
            f"{row['id']} was recorded by {row['notebook']}, which is no chapter"
        )


CHAPTER = {
    "stub": "def double(x):\n    ...  # your code here",
    "check": (
        "import whatwhere as ww\n\ndef check_double(answer):\n"
        "    assert answer(2) == 4, 'double(2) should be "
        "4'\n\nww.book.exercises.check(check_double, double)"
    ),
    "solution": "def double(x):\n    return 2 * x",
}


def chapter(tmp_path, solution):
    record = (
        "import whatwhere as ww\nww.book.ledger.record('02_reading_patches_as_words', "
        "id='what.lens.on_topic',\n"
        "    measured={'value': 0.5, 'ci95': [0.4, 0.6], 'n': 10, 'unit': 'share', 'model': "
        "'none'},\n"
        "    control={'what': 'nothing', 'value': 0.1, 'ci95': [0.0, 0.2]},\n"
        "    verdict='partly', tolerance=0.01);"
    )
    answer = (
        "<details><summary>Hint</summary>\n\nTwice.\n\n</details>\n\n<details><summary>Solution</summary>\n\n"
        f"```python\n{solution}\n```\n\n</details>"
    )
    notebook = v4.new_notebook(
        cells=[
            v4.new_markdown_cell("# A trial"),
            v4.new_code_cell(record),
            v4.new_markdown_cell("### Exercise 1: twice\n\n*Warm-up · easy · 2 min.*"),
            v4.new_code_cell(CHAPTER["stub"], metadata={"tags": ["exercise"], "exercise": 1}),
            v4.new_code_cell(CHAPTER["check"], metadata={"tags": ["check"]}),
            v4.new_markdown_cell(answer),
        ]
    )
    path = tmp_path / "02_trial.ipynb"
    nbformat.write(notebook, path)
    return path


def test_the_proof_tells_a_solution_from_a_stub(tmp_path):
    """The proof itself: a right solution passes, a wrong one is found out, the row lands where it
    should."""
    execute.run(chapter(tmp_path, CHAPTER["solution"]), tmp_path / "done")
    done = execute.opened(tmp_path / "done")
    assert [mark[0] for mark in done.marks[1]["stub"]] == ["✗"]
    assert done.marks[1]["solution"] == ["✓ double"]
    assert [row["id"] for row in ledger.rows(done.claims)] == ["what.lens.on_topic"]
    assert len(done.notebook.cells) == 6, "the solutions are tried, not shown"
    execute.run(chapter(tmp_path, "def double(x):\n    return 3 * x"), tmp_path / "done")
    assert execute.opened(tmp_path / "done").marks[1]["solution"] == [
        "✗ not yet: double(2) should be 4"
    ]


def test_an_execution_counts_until_its_chapter_changes(tmp_path, capsys):
    path = chapter(tmp_path, CHAPTER["solution"])
    assert execute.kept(path, tmp_path / "store") is None
    assert not execute.ensure([path], tmp_path / "store")
    assert execute.kept(path, tmp_path / "store").marks
    capsys.readouterr()
    assert not execute.ensure([path], tmp_path / "store")
    assert capsys.readouterr().out == "", "nothing was executed again"
    notebook = chapters.read(path)
    notebook.cells[1].source = "1 / 0"
    nbformat.write(notebook, path)
    assert execute.kept(path, tmp_path / "store") is None
    assert "ZeroDivisionError" in str(execute.ensure([path], tmp_path / "store")[path])
    assert execute.kept(path, tmp_path / "store") is None
