"""What tests and tools need to know of a chapter: its parts and its exercises.

An exercise is, in this order:
  a Markdown cell that starts with "### Exercise N: title", then a line such as "*Warm-up · easy · 5
  min.*", a code cell tagged `exercise` whose metadata has {"exercise": N}: the stub, a code cell
  tagged `check`, which calls whatwhere.book.exercises.check, a Markdown cell with
  <details><summary>Hint… and <details><summary>Solution… around a ```python block.
One that no check can mark has neither stub nor check, and in the place of a solution what a good
answer holds, with points.
"""

import ast
import re
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
HEADING = re.compile(r"### Exercise (\d+): (.+)")
KINDS = ("Warm-up", "Measurement", "Derivation", "Open")
LABEL = re.compile(rf"^\*({'|'.join(KINDS)}) · (easy|medium|hard) · (\d+) min\.\*$", re.MULTILINE)
RUBRIC = re.compile(r"<summary>\s*What a good answer holds\s*</summary>(.*?)</details>", re.DOTALL)
SOLUTION = re.compile(r"<summary>\s*Solution.*?</summary>.*?```python\n(.*?)```", re.DOTALL)


def read(path):
    return nbformat.read(path, as_version=4)


def chosen(names):
    """The notebooks that a command line names, by number ("1" or "01") or by file; all of them
    where it names none. A name without a chapter ends the program with a sentence."""
    found = []
    for name in names:
        stem = Path(name).stem
        fits = [path for path in NOTEBOOKS if stem.zfill(2) in (path.stem, path.stem[:2])]
        if not fits:
            sys.exit(
                f"There is no chapter '{name}': give numbers such as 1, or files of notebooks/."
            )
        found += fits
    return found or NOTEBOOKS


def tags(cell):
    return cell["metadata"].get("tags", [])


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def label(text):
    """(kind, difficulty, minutes) of an exercise, or None where its text has no such line."""
    found = LABEL.search(text)
    return (found[1], found[2], int(found[3])) if found else None


def exercises(notebook):
    """A list of {number, title, text, stub, checks, answer, solution}; a missing part is None or
    empty."""
    found = []
    for cell in notebook.cells:
        heading = HEADING.match(cell.source) if cell.cell_type == "markdown" else None
        if heading:
            found.append(
                {
                    "number": int(heading[1]),
                    "title": heading[2].strip(),
                    "text": cell.source,
                    "stub": None,
                    "checks": [],
                    "answer": None,
                    "solution": None,
                }
            )
        elif found and found[-1]["answer"] is None:
            if cell.cell_type == "code" and "exercise" in tags(cell):
                found[-1]["stub"] = cell
            elif cell.cell_type == "code" and "check" in tags(cell):
                found[-1]["checks"].append(cell)
            elif cell.cell_type == "markdown" and "<details>" in cell.source:
                found[-1]["answer"] = cell.source
                solution = SOLUTION.search(cell.source)
                found[-1]["solution"] = solution[1] if solution else None
    return found


def minutes(notebook):
    """How long a chapter takes to read, its quiz and exercises apart: 200 words a minute, and 5
    seconds for each line of code in sight."""
    words = lines = 0
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            if cell.source.startswith(("## Quiz", "## Exercises")):
                break
            words += len(cell.source.split())
        elif not {"setup", "hide-input", "hide-cell"} & set(tags(cell)):
            lines += sum(1 for line in cell.source.splitlines() if line.strip())
    return words / 200 + lines * 5 / 60


def offers(code):
    """What a cell offers to those after it: {function: its parameters} and {assigned name: its
    statement}."""
    body = ast.parse(code).body
    functions = {
        part.name: ast.unparse(part.args) for part in body if isinstance(part, ast.FunctionDef)
    }
    assigned = {
        name.id: part
        for part in body
        if isinstance(part, ast.Assign)
        for target in part.targets
        for name in ast.walk(target)
        if isinstance(name, ast.Name)
    }
    return functions, assigned


def answered(exercise):
    """The stub with its solution: what the stub gives, such as an import or an example to try, and
    then the solution."""
    stub, solution = exercise["stub"].source, exercise["solution"].strip()
    _, given = offers(stub)
    _, found = offers(solution)
    imports = [
        part for part in ast.parse(stub).body if isinstance(part, ast.Import | ast.ImportFrom)
    ]
    parts = imports + [part for name, part in given.items() if name not in found]
    kept = [ast.get_source_segment(stub, part) for part in parts]
    return "\n".join(dict.fromkeys(kept)) + "\n\n\n" * bool(kept) + solution


def marks(cell):
    """The ✓ and ✗ lines that an executed cell printed."""
    text = "".join(
        out.get("text", "") for out in cell.get("outputs", []) if out.output_type == "stream"
    )
    return [line for line in text.splitlines() if line[:1] in "✓✗" and line]
