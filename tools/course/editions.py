"""Write the chapters for a course: without their solutions for students, with them for instructors.

    python -m tools.course.editions student [folder]        # make student: into student/
    python -m tools.course.editions instructor [folder]     # make instructor: into instructor/

Both are made of the same notebooks as the book, so there is one source. The folders lie beside
`notebooks/`, where the chapters' paths hold. A student's edition has stubs, checks, hints and, for
open exercises, what a good answer holds, with a cell to write in. An instructor's edition has each
solution in the place of its stub, the outputs of the last execution where there is one (`make
book`), and what the page for teachers says of the chapter.
"""

import hashlib
import json
import re
import sys

import nbformat
from nbformat import v4

from tools.course import execute
from tools.course.chapters import HEADING, NOTEBOOKS, ROOT, answered, exercises, read, tags
from tools.site import sync

EDITIONS = ("student", "instructor")
ANSWER = re.compile(r"<details>\s*<summary>\s*Solution.*?</details>\s*", re.DOTALL)
BADGES = re.compile(r"^\[!\[Open in Colab\].*$\n*", re.MULTILINE)
BOOK_LINK = re.compile(r"\]\(\.\./(book/[a-z_]+)\.md(#[\w-]+)?\)")
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


def student(path):
    """The chapter without its solutions."""
    cells, here = [], None
    stubs = {exercise["number"]: exercise["stub"] for exercise in exercises(read(path))}
    for cell in read(path).cells:
        heading = HEADING.match(cell.source) if cell.cell_type == "markdown" else None
        if cell.cell_type == "markdown":
            cell.source = ANSWER.sub("", cell.source).strip()
        if "exercise" in tags(cell):
            cell.source = f"# Exercise {cell.metadata['exercise']}: your answer\n{cell.source}"
        cells.append(cell)
        here = int(heading[1]) if heading else here
        if heading and stubs[here] is None:  # nothing to fill in: an exercise to write about
            room = {"tags": ["exercise"], "exercise": here}
            cells.append(v4.new_code_cell(f"# Exercise {here}: your measurement", metadata=room))
            cells.append(
                v4.new_markdown_cell(
                    f"*Exercise {here}: what you found, and what your control did.*"
                )
            )
    return edited(cells, path, "student")


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
    cells = list(notebook.cells)
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
    changed = [path.name for path in sorted(folder.glob("*.ipynb")) if worked_in(path)]
    if changed:
        sys.exit(
            f"Nothing was written: in {folder} someone has worked in {', '.join(changed)}. Move "
            "what is there first."
        )
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
