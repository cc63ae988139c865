"""Mark submissions: run every exercise that has a check, in the chapter as we wrote it, and write a
table.

    python -m tools.course.grade submissions [--out grades.csv] [--workers 2]

`submissions` holds notebooks of the student's edition, at any depth; who handed one in is told by
the folder it lies in. Of each, only the code between an exercise's heading and its check is taken:
everything else, the checks too, comes from our chapter, whatever was done to it. An easy exercise
is worth 1 point, a medium one 2, a hard one 3. Open exercises, and others without a check, are
marked by hand, by the rubric beside them: their rows have no points yet.

This runs other people's code, with your rights. Do it where it can do no harm, such as in a
container.
"""

import argparse
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
from nbclient import NotebookClient
from nbformat import v4
from tqdm import tqdm

from tools.course.chapters import HEADING, NOTEBOOKS, ROOT, exercises, label, marks, read, tags
from tools.course.editions import BY_HAND, OURS, POINTS

TIMEOUT = 300  # seconds a cell may take
# our own check again, should a submission have exchanged it, its module or the package's name
ARMED = (
    "import importlib, sys\nimport whatwhere as ww, whatwhere.book.exercises\n"
    "exercises = ww.book.exercises = importlib.reload(sys.modules['whatwhere.book.exercises'])"
)


def handed_in(notebook):
    """{exercise: the student's code cells} of a submission."""
    found, here = {}, None
    for cell in notebook.cells:
        heading = HEADING.match(cell.source) if cell.cell_type == "markdown" else None
        here = int(heading[1]) if heading else here
        if cell.cell_type == "markdown" and cell.source.startswith("## "):
            here = None
        if here and cell.cell_type == "code" and "check" not in tags(cell):
            found.setdefault(here, []).append(cell.source)
    return found


def assembled(path, answers):
    """Our chapter with a student's answers, and {exercise: numbers of its check cells} in it."""
    cells, where, number = [], {}, None
    for cell in read(path).cells:
        if cell.cell_type != "code":
            continue
        if "exercise" in tags(cell):
            number = cell.metadata["exercise"]
            # a wrong answer may raise: that is a mark, not an end
            cells += [
                v4.new_code_cell(source, metadata={"tags": ["raises-exception"]})
                for source in answers.get(number, [])
            ]
            cells.append(v4.new_code_cell(ARMED))
        elif "check" in tags(cell):
            where.setdefault(number, []).append(len(cells))
            cells.append(v4.new_code_cell(cell.source, metadata={"tags": ["raises-exception"]}))
        else:
            cells.append(v4.new_code_cell(cell.source))
    return v4.new_notebook(cells=cells), where


def said(cell):
    """(passed, sentence) of an executed check."""
    errors = [f"{out.ename}: {out.evalue}" for out in cell.outputs if out.output_type == "error"]
    lines = errors or marks(cell) or ["the check said nothing"]
    return not errors and all(line.startswith("✓") for line in lines), "; ".join(
        lines
    ).splitlines()[0]


def grade(file):
    """The rows of one submission. A notebook that cannot be read or belongs to no chapter gives one
    row that says so."""
    who = {"student": file.parent.name, "file": file.name}
    try:
        notebook = read(file)
        path = next(
            path
            for path in NOTEBOOKS
            if path.stem == notebook.metadata.get(OURS, {}).get("chapter", file.stem)
        )
    except StopIteration:
        return [
            who | {"said": "this notebook belongs to no chapter: it was not made by make student"}
        ]
    except Exception as error:
        return [who | {"said": f"this notebook cannot be read: {error}"}]
    answers = handed_in(notebook)
    trial, where = assembled(path, answers)
    with tempfile.TemporaryDirectory() as claims:
        place = {"metadata": {"path": str(ROOT / "notebooks")}}
        client = NotebookClient(trial, timeout=TIMEOUT, interrupt_on_timeout=True, resources=place)
        environment = {key: value for key, value in os.environ.items() if key != "MPLBACKEND"}
        try:
            client.execute(
                env=environment
                | {"WHATWHERE_CLAIMS": claims, "TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"}
            )
        except Exception as error:
            return [
                who
                | {
                    "chapter": path.stem,
                    "said": f"the chapter stopped: {str(error).strip().splitlines()[-1]}",
                }
            ]
    rows = []
    for exercise in exercises(read(path)):
        kind, difficulty, _ = label(exercise["text"])
        row = who | {
            "chapter": path.stem,
            "exercise": exercise["number"],
            "kind": kind,
            "difficulty": difficulty,
        }
        if exercise["number"] in where:
            each = [said(trial.cells[n]) for n in where[exercise["number"]]]
            passed = bool(answers.get(exercise["number"])) and all(ok for ok, _ in each)
            row |= {
                "points": POINTS[difficulty] * passed,
                "of": POINTS[difficulty],
                "said": "; ".join(line for _, line in each),
            }
        # an open one's check says only that the form is right
        if kind == "Open" or exercise["number"] not in where:
            row |= {
                "points": None,
                "of": BY_HAND,
                "said": f"by hand. {row.get('said', '')}".strip(),
            }
        rows.append(row)
    return rows


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "submissions", type=Path, help="a folder of notebooks, one folder for each student"
    )
    parser.add_argument("--out", type=Path, default=Path("grades.csv"))
    parser.add_argument(
        "--workers",
        type=int,
        default=2,
        help="submissions at a time; a chapter takes a minute or two",
    )
    options = parser.parse_args()
    files = [
        file
        for file in sorted(options.submissions.rglob("*.ipynb"))
        if ".ipynb_checkpoints" not in file.parts
    ]
    if not files:
        sys.exit(f"{options.submissions} holds no notebook.")
    with ThreadPoolExecutor(options.workers) as pool:
        rows = [
            row
            for found in tqdm(pool.map(grade, files), total=len(files), unit="submission")
            for row in found
        ]
    table = pd.DataFrame(rows)
    table.to_csv(options.out, index=False)
    if "points" in table:
        marked = table.dropna(subset=["points"])
        print(
            marked.groupby(["student", "chapter"])[["points", "of"]].sum().astype(int).to_string()
        )
        print(f"{len(table) - len(marked)} rows are to be marked or looked at by hand.")
    print(f"Every exercise is in {options.out}")


if __name__ == "__main__":
    main()
