"""Editions for students and instructors, and the script that marks."""

import re
import sys

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbformat import v4

from tools.course import chapters, editions, execute, grade
from tools.site import sync

every_chapter = pytest.mark.parametrize(
    "path", [pytest.param(path, id=path.stem) for path in chapters.NOTEBOOKS]
)


@every_chapter
def test_a_student_gets_no_solution(path):
    chapter, edition = chapters.read(path), editions.student(path)
    text = "\n".join(cell.source for cell in edition.cells)
    assert "<summary>Solution" not in text and "```python" not in text
    for exercise in chapters.exercises(chapter):
        if exercise["solution"]:
            assert exercise["solution"].strip() not in text
            assert exercise["stub"].source in text
            for check in exercise["checks"]:  # all of it, but for the points at its end
                start = check.source.rindex("checks.")
                assert check.source[:start] in text and check.source[start:].rstrip() in text
        heading = exercise["text"].splitlines()[0]
        assert heading in text and f"# Exercise {exercise['number']}: your" in text, (
            "every exercise has a cell to answer in"
        )
    for word in ("Hint", "## Quiz", "What next"):
        assert word in text
    nbformat.validate(edition)


@every_chapter
def test_an_instructor_gets_every_solution(path):
    edition = editions.instructor(path, "Some notes.")
    code = [cell.source for cell in edition.cells if cell.cell_type == "code"]
    for exercise in chapters.exercises(chapters.read(path)):
        if exercise["solution"]:
            assert chapters.answered(exercise) in code and exercise["stub"].source not in code
    assert "Some notes." in edition.cells[1].source
    nbformat.validate(edition)


def test_a_solution_keeps_what_its_stub_gives():
    stub = "from math import tau\n\nstart, end = 0, 1\n\n\ndef turn(x):\n    ...  # your code"
    exercise = {
        "stub": v4.new_code_cell(stub),
        "solution": "end = 2\n\n\ndef turn(x):\n    return tau * x * start\n",
    }
    names = {}
    exec(chapters.answered(exercise), names)
    assert names["turn"](1) == 0 and names["end"] == 2


@every_chapter
def test_links_of_an_edition_lead_somewhere(path):
    """Handed out alone, a notebook has no pages of the book around it, but its chapters and the
    published book."""
    site = sync.pages(sync.address()[0])
    for edition in (editions.student(path), editions.instructor(path)):
        text = "\n".join(cell.source for cell in edition.cells if cell.cell_type == "markdown")
        assert "](../" not in text and "colab.svg" not in text
        for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", text)):
            if link.startswith(site):
                page = chapters.ROOT / link.removeprefix(site).split("#")[0]
                assert page.with_suffix(".md").exists() or page.with_suffix(".ipynb").exists(), link
            elif not link.startswith("http"):
                assert (path.parent / link.split("#")[0]).exists(), link


def test_every_chapter_has_its_notes_for_teachers():
    for path in chapters.NOTEBOOKS:
        assert len(editions.notes_on(path)) > 300, (
            f"book/teaching_notes.md has no section for {path.stem}"
        )


# --- a class of four hands in a small chapter ---

SETUP = "import whatwhere as ww\nfrom whatwhere.book import exercises\nbase = 2"
CHECK = """def check_double(answer):
    "doubles"
    assert answer(3) == 6, "double(3) should be 6"

exercises.check(check_double, double)"""
SOLUTION = "def double(x):\n    return base * x"


@pytest.fixture
def small(tmp_path, monkeypatch):
    """One chapter of three exercises: one with a check, two to be marked by hand."""
    answer = (
        "<details><summary>Hint</summary>\n\nTwice.\n\n</details>\n\n<details><summary>Solution</summary>\n\n"
        f"```python\n{SOLUTION}\n```\n\n</details>"
    )
    cells = [
        v4.new_markdown_cell(
            "# A trial\n\n[![Open in Colab](x)](y)\n\nSee "
            "[notation](../book/notation.md#positions)."
        ),
        v4.new_code_cell(SETUP),
        v4.new_markdown_cell("## Exercises"),
        v4.new_markdown_cell("### Exercise 1: twice\n\n*Warm-up · medium · 2 min.*\n\nDouble."),
        v4.new_code_cell(
            "def double(x):\n    ...  # your code", metadata={"tags": ["exercise"], "exercise": 1}
        ),
        v4.new_code_cell(CHECK, metadata={"tags": ["check"]}),
        v4.new_markdown_cell(answer),
        v4.new_markdown_cell("### Exercise 2: why\n\n*Open · hard · 20 min.*\n\nWhy?"),
        v4.new_markdown_cell("<details><summary>Hint</summary>\n\nBecause.\n\n</details>"),
        v4.new_markdown_cell(
            "### Exercise 3: how much\n\n*Measurement · easy · 20 min.*\n\nMeasure."
        ),
        v4.new_markdown_cell("<details><summary>Hint</summary>\n\nA ruler.\n\n</details>"),
        v4.new_markdown_cell("## What next\n\nNothing."),
    ]
    path = tmp_path / "notebooks" / "01_trial.ipynb"
    path.parent.mkdir()
    nbformat.write(v4.new_notebook(cells=cells), path)
    for module in (editions, grade):
        monkeypatch.setattr(module, "NOTEBOOKS", [path])
        monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(execute, "kept", lambda path: None)
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "teaching_notes.md").write_text(
        "## Chapter 1: a trial\n\nSay little.\n\n## Chapter 2\n\nMore.\n"
    )
    return tmp_path


def test_both_editions_are_written_from_one_source(small, capsys):
    editions.main("student")
    editions.main("instructor")
    student, teacher = (
        chapters.read(small / edition / "01_trial.ipynb") for edition in editions.EDITIONS
    )
    first = student.cells[0].source
    assert (
        first.splitlines()[2].startswith("*Student's edition.")
        and "/book/notation.html#positions" in first
    )
    assert SOLUTION in [cell.source for cell in teacher.cells] and teacher.cells[1].source.endswith(
        "Say little."
    )
    assert "01_trial" in capsys.readouterr().out, "it says which chapters are without outputs"
    with pytest.raises(SystemExit, match="student or instructor"):
        editions.main("teacher")


def test_nobodys_work_is_overwritten(small):
    editions.main("student")
    editions.main("student")
    path = small / "student" / "01_trial.ipynb"
    notebook = chapters.read(path)
    notebook.cells[4].source = SOLUTION
    nbformat.write(notebook, path)
    with pytest.raises(SystemExit, match="someone has worked in 01_trial.ipynb"):
        editions.main("student")
    assert chapters.read(path).cells[4].source == SOLUTION


def hand_in(small, student, change):
    editions.main("student")
    notebook = chapters.read(small / "student" / "01_trial.ipynb")
    change(notebook)
    path = small / "submissions" / student / "01_trial.ipynb"
    path.parent.mkdir(parents=True)
    nbformat.write(notebook, path)


def test_marking_a_class(small, monkeypatch, capsys):
    monkeypatch.setattr(grade, "TIMEOUT", 5)

    def answer(source):
        def change(notebook):
            notebook.cells[4].source = source

        return change

    def cheat(notebook):
        fake = (
            "exercises.check = lambda *_: print('✓ all of it')\nclass ww: book = "
            "ww.book\ndouble = print"
        )
        notebook.cells[4].source = (
            fake + "\nimport whatwhere; whatwhere.book.exercises = exercises = ww"
        )
        notebook.cells[5].source = "print('✓ doubles')"

    def helped(notebook):  # a cell of one's own, and the setup cell gone
        notebook.cells[4].source = "double = lambda x: twice(x)"
        notebook.cells.insert(4, v4.new_code_cell("def twice(x):\n    return 2 * x"))
        del notebook.cells[1]

    hand_in(small, "ada", answer(SOLUTION))
    hand_in(small, "bob", lambda notebook: None)
    hand_in(small, "cy", answer("raise ValueError('no')"))
    hand_in(small, "dan", cheat)
    hand_in(small, "eve", helped)
    hand_in(small, "fay", answer("while True:\n    pass"))
    (small / "submissions" / "gus").mkdir()
    (small / "submissions" / "gus" / "01_trial.ipynb").write_text("{")
    nbformat.write(v4.new_notebook(), small / "submissions" / "gus" / "holiday.ipynb")
    monkeypatch.setattr(
        sys, "argv", ["grade.py", str(small / "submissions"), "--out", str(small / "grades.csv")]
    )
    grade.main()
    table = pd.read_csv(small / "grades.csv")
    points = table[table.exercise == 1].set_index("student").points.to_dict()
    assert points == {"ada": 2, "bob": 0, "cy": 0, "dan": 0, "eve": 2, "fay": 0}
    said = table[table.exercise == 1].set_index("student").said
    assert (
        said["ada"] == "✓ doubles"
        and said["bob"].startswith("✗ not yet")
        and "NameError" in said["cy"]
    )
    by_hand = table[table.exercise >= 2]
    assert len(by_hand) == 12 and by_hand.points.isna().all() and (by_hand.of == 10).all()
    assert sorted(table[table.student == "gus"].said.str.split(":").str[0]) == [
        "this notebook belongs to no chapter", "this notebook cannot be read",
    ]  # fmt: skip
    assert "ada" in capsys.readouterr().out


def test_the_marks_on_the_teaching_page_are_what_the_script_gives(
    tmp_path, monkeypatch, chapters_executed
):
    """Three invented students hand in a real chapter: Ada all solutions, Bob the stubs, Cy what is
    wrong and what raises.

    What the checks say of solutions and stubs is known from the chapter's own execution, so only
    Cy's notebook runs again. Where this differs rightly, the new table belongs into data/results.
    """
    path = chapters.NOTEBOOKS[0]
    committed = pd.read_csv(chapters.ROOT / "data" / "results" / "grading.csv")
    assert list(committed.student.unique()) == ["Ada", "Bob", "Cy"]
    answers = {
        1: "def token_at(x, y):\n    return x // P",
        2: "def right_kind(model, family, n):\n    return unknown",
    }
    notebook = editions.student(path)
    for cell in notebook.cells:
        if "exercise" in chapters.tags(cell) and cell.metadata["exercise"] in answers:
            cell.source = answers[cell.metadata["exercise"]]
    (tmp_path / "Cy").mkdir()
    nbformat.write(notebook, tmp_path / "Cy" / path.name)
    monkeypatch.setattr(
        sys, "argv", ["grade.py", str(tmp_path), "--out", str(tmp_path / "grading.csv")]
    )
    grade.main()
    rows = {
        name: table.drop(columns="student").reset_index(drop=True)
        for name, table in committed.groupby("student")
    }
    cy = pd.read_csv(tmp_path / "grading.csv").drop(columns="student")
    pd.testing.assert_frame_equal(cy, rows["Cy"])

    done = execute.kept(path)
    assert done, f"{path.stem} has not been executed as it is now: see its own test"
    for student, kind in (("Ada", "solution"), ("Bob", "stub")):
        expected = cy.copy()
        said = ["; ".join(done.marks[number][kind]) for number in cy.exercise]
        by_hand = cy.points.isna()
        expected["points"] = np.where(by_hand, np.nan, cy.of if student == "Ada" else 0)
        expected["said"] = ["by hand. " * hand + line for hand, line in zip(by_hand, said)]
        pd.testing.assert_frame_equal(expected, rows[student])


def test_marking_nothing_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["grade.py", str(tmp_path)])
    with pytest.raises(SystemExit, match="holds no notebook"):
        grade.main()
