"""Write the chapters for a course: without their solutions for students, with them for instructors.

    python -m tools.course.editions student [folder]        # make student: into student/
    python -m tools.course.editions instructor [folder]     # make instructor: into instructor/

Both are made of the same notebooks as the book, so there is one source. The folders lie beside
`notebooks/`, where the chapters' paths hold. A student's edition has stubs, checks, hints and, for
open exercises, what a good answer holds, with a cell to write in. An instructor's edition has each
solution in the place of its stub, the outputs of the last execution where there is one (`make
book`), what the page for teachers says of the chapter, and worked answers to open exercises
(`answers.py`).
"""

import ast
import hashlib
import json
import re
import sys

import nbformat
from nbformat import v4

from tools.course import answers, execute
from tools.course.chapters import (
    HEADING,
    NOTEBOOKS,
    ROOT,
    RUBRIC,
    answered,
    exercises,
    label,
    read,
    tags,
)
from tools.site import sync

EDITIONS = ("student", "instructor")
ANSWER = re.compile(r"<details>\s*<summary>\s*Solution.*?</details>\s*", re.DOTALL)
BADGES = re.compile(r"^\[!\[Open in Colab\].*$\n*", re.MULTILINE)
BOOK_LINK = re.compile(r"\]\(\.\./(book/[a-z_]+)\.md(#[\w-]+)?\)")
POINTS = {"easy": 1, "medium": 2, "hard": 3}
BY_HAND = 10  # points of a rubric
OURS = "whatwhere"  # the key of an edition's metadata, by which tools/course/grade.py knows it


def edited(cells, path, edition):
    """What both editions have in common: no badges, links into the published book, a line that says
    which edition this is."""
    site = sync.pages(sync.address()[0])
    for cell in cells:
        if cell.cell_type == "markdown":
            cell.source = BOOK_LINK.sub(rf"]({site}\1.html\2)", cell.source)
    first = cells[0]
    said = (
        f"*{edition.capitalize()}'s edition. [This chapter in the "
        f"book]({site}notebooks/{path.stem}.html).*\n\n"
    )
    first.source = BADGES.sub(lambda _: said, first.source, count=1)
    metadata = sync.METADATA | {
        OURS: {"chapter": path.stem, "edition": edition, "sources": digest(cells)}
    }
    return v4.new_notebook(cells=cells, metadata=json.loads(json.dumps(metadata)))


def digest(cells):
    return hashlib.sha256("\0".join(cell.source for cell in cells).encode()).hexdigest()


def worked_in(path):
    """Whether somebody has changed the notebook since an edition was written there."""
    notebook = read(path)
    return notebook.metadata.get(OURS, {}).get("sources") != digest(notebook.cells)


def stop_where_worked_in(folder):
    """End the program before somebody's work is overwritten."""
    changed = [path.name for path in sorted(folder.rglob("*.ipynb")) if worked_in(path)]
    if changed:
        sys.exit(
            f"Nothing was written: in {folder} someone has worked in {', '.join(changed)}. Move "
            "what is there first."
        )


def student(path):
    """The chapter without its solutions, its cells marked for nbgrader."""
    cells, here = [], None
    found = {exercise["number"]: exercise for exercise in exercises(read(path))}
    for cell in read(path).cells:
        heading = HEADING.match(cell.source) if cell.cell_type == "markdown" else None
        here = int(heading[1]) if heading else here
        ident = f"{path.stem[3:]}-{here}"
        if cell.cell_type == "markdown":
            cell.source = ANSWER.sub("", cell.source).strip()
        if "exercise" in tags(cell):
            cell.source = f"# Exercise {cell.metadata['exercise']}: your answer\n{cell.source}"
            cell.metadata["nbgrader"] = marked(f"{ident}-answer", solution=True)
        elif "check" in tags(cell):
            graded(cell, f"{ident}-check", found[here])
        cells.append(cell)
        if (
            heading and found[here]["stub"] is None
        ):  # nothing to fill in: an exercise to write about
            room = {"tags": ["exercise"], "exercise": here}
            room["nbgrader"] = marked(f"{ident}-answer", solution=True)
            cells.append(v4.new_code_cell(f"# Exercise {here}: your measurement", metadata=room))
        # after the last cell to fill in, room for the words that a rubric asks for
        filled = heading if here and found[here]["stub"] is None else "check" in tags(cell)
        if filled and by_hand(found[here]):
            words = f"*Exercise {here}: what you found, and what your control did.*"
            points = marked(f"{ident}-text", solution=True, grade=True, points=BY_HAND)
            cells.append(v4.new_markdown_cell(words, metadata={"nbgrader": points}))
    return edited(cells, path, "student")


def by_hand(exercise):
    """Whether a person marks it: an open exercise, or one without a check."""
    kind, *_ = label(exercise["text"]) or ("Open",)
    return exercise["stub"] is None or kind == "Open"


def marked(ident, solution=False, grade=False, points=None):
    """A cell's metadata for nbgrader (schema 3). What is to be filled in is a `solution`, checks
    are locked; a solution that is graded is marked by hand."""
    out = {
        "schema_version": 3,
        "grade_id": ident,
        "grade": grade,
        "solution": solution,
        "locked": not solution,
        "task": False,
    }
    return out | ({"points": points} if grade else {})


def graded(cell, ident, exercise):
    """Give a check its points. nbgrader takes a cell's last value for its points, and a check that
    says "not yet" raises nothing: so that value is made to be the points. The check of an exercise
    that is marked by hand looks at its form only, and has none."""
    if by_hand(exercise):
        cell.metadata["nbgrader"] = marked(ident)
        return
    _, difficulty, _ = label(exercise["text"]) or ("", "easy", 0)
    points = POINTS[difficulty]
    cell.metadata["nbgrader"] = marked(ident, grade=True, points=points)
    last = ast.parse(cell.source).body[-1]
    before = "".join(cell.source.splitlines(keepends=True)[: last.lineno - 1])
    call = ast.get_source_segment(cell.source, last)
    cell.source = f"{before}{points} * bool({call})  # points"


def instructor(path, notes=""):
    """The chapter with its solutions and, where it has been executed, its outputs."""
    done = execute.kept(path)
    notebook = done.notebook if done else read(path)
    notebook.metadata.pop("mystnb", None)
    for exercise in exercises(notebook):
        if exercise["stub"] is not None:
            exercise["stub"].source = answered(exercise)
            exercise["stub"].outputs = []
            marks = iter(done.marks[exercise["number"]]["solution"] if done else ())
            for check in exercise["checks"]:
                said = next(marks, None)
                check.outputs = (
                    [v4.new_output("stream", name="stdout", text=f"{said}\n")] if said else []
                )
    cells, here = [], None
    titles = {exercise["number"]: exercise["title"] for exercise in exercises(notebook)}
    for cell in notebook.cells:
        heading = HEADING.match(cell.source) if cell.cell_type == "markdown" else None
        here = int(heading[1]) if heading else here
        cells.append(cell)
        if cell.cell_type == "markdown" and RUBRIC.search(cell.source):
            cells += answers.cells(path, titles[here])
    if notes:
        cells.insert(1, v4.new_markdown_cell(f"## For the instructor\n\n{notes}"))
    return edited(cells, path, "instructor")


def notes_on(path):
    """What the teaching page says of a chapter, from its heading "Chapter N" to the next heading of
    that level."""
    text = (ROOT / "book" / "teaching_notes.md").read_text(encoding="utf-8")
    found = re.search(
        rf"^## Chapter {int(path.stem[:2])}\b.*?\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL
    )
    return found[1].strip() if found else ""


def main(edition, folder=None):
    if edition not in EDITIONS:
        sys.exit(f"There is no edition '{edition}': it is {' or '.join(EDITIONS)}.")
    folder = ROOT / (folder or edition)
    folder.mkdir(parents=True, exist_ok=True)
    stop_where_worked_in(folder)
    for path in NOTEBOOKS:
        notebook = student(path) if edition == "student" else instructor(path, notes_on(path))
        nbformat.write(notebook, folder / path.name)
    bare = [
        path.stem for path in NOTEBOOKS if edition == "instructor" and execute.kept(path) is None
    ]
    if bare:
        print(f"Without outputs, since not executed as they are now (make book): {', '.join(bare)}")
    print(f"Wrote {len(NOTEBOOKS)} notebooks into {folder}")


if __name__ == "__main__":
    main(*(sys.argv[1:3] or ["which?"]))
