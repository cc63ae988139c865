"""A chapter's claim rows, measured elsewhere: on other organisms, or on other scenes.

What is executed is the chapter up to its quiz, by the rules as they are, without its `assert`s:
these hold its text to the numbers of the book's own organisms, and elsewhere numbers differ. Nor are
its sentences made, the cells' bare `Markdown(…)`: nobody reads them, and some read these results.
"""

import ast
import hashlib
import json
import re
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from threading import Lock

import nbformat
from nbclient.exceptions import CellExecutionError

from tools.course import execute
from tools.course.chapters import read
from whatwhere.book import ledger
from whatwhere.book.training.scaling_study import processor
from whatwhere.files import read_json, write

ELSEWHERE = Path(__file__).with_name("elsewhere.py")
PATIENCE = 3600  # seconds a cell may take
FIELDS = ("id", "measured", "control", "verdict")


class _Measuring(ast.NodeTransformer):
    def visit_Assert(self, node):
        return ast.copy_location(ast.Pass(), node)

    def visit_Expr(self, node):
        said = isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "Markdown"
        return ast.copy_location(ast.Pass(), node) if said else node


def measured_part(path):
    """The notebook up to its quiz or exercises, without asserts, sentences, outputs and
    comments."""
    notebook = read(path)
    cells = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and cell.source.startswith(("## Quiz", "## Exercises")):
            break
        if cell.cell_type == "code":
            code = ast.unparse(_Measuring().visit(ast.parse(cell.source)))
            cells.append(nbformat.v4.new_code_cell(code))
    return nbformat.v4.new_notebook(cells=cells, metadata=notebook.metadata)


def mark(path):
    """A digest of what a chapter measures with, however it is cut into cells, and its number apart,
    which a new chapter may change."""
    code = "\n".join(cell.source for cell in measured_part(path).cells)
    code = re.sub(r"\b[0-9]{2}_(?=[a-z])", "", code)
    return hashlib.sha256(code.encode()).hexdigest()[:16]


def records(path):
    """Has this chapter claims of its own?"""
    return any("ledger.record" in cell.source for cell in measured_part(path).cells)


def rows(path, variables):
    """The claim rows of one chapter with more of the environment, shortened to FIELDS.

    Raises CellExecutionError where a cell fails."""
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / path.name
        nbformat.write(measured_part(path), part)
        done = Path(folder) / path.stem
        execute.run(part, done, 1, variables, PATIENCE, [ELSEWHERE])
        return [{field: row[field] for field in FIELDS} for row in ledger.rows(done / "claims")]


def missing(paths, wanted, kept, models=None):
    """[(name, path)] of what is not in `kept` {name: {chapter: {"mark", "models", "rows"}}}, or was
    measured by a chapter that has changed since, or on other weights.

    models: {name: {kind: digest of its weights}}, where names are other models.
    """

    def current(name, path):
        entry = kept.get(name, {}).get(path.stem, {})
        same = not models or entry.get("models") == models[name]
        return same and entry.get("mark") == mark(path)

    return [(name, path) for name in wanted for path in paths if not current(name, path)]


def into(file, paths, wanted, models=None, **more):
    """Measure what a file of results lacks, and keep it there, with `more`; returns sentences on
    what failed. `wanted` and `models` as `measure` takes them."""
    kept = {**(read_json(file) if file.exists() else {}), **more}

    def save():
        write(file, json.dumps(kept, indent=1, ensure_ascii=False) + "\n")

    failed = measure(paths, wanted, kept.setdefault("rows", {}), save, models)
    save()
    return failed


def measure(paths, wanted, kept, save, models=None):
    """Measure what is missing, two chapters at a time, and `save()` after each; returns sentences
    on what failed. Rows are kept with the day and the machine that they were measured on.

    wanted: {name: variables}. models: as `missing` takes them.
    """
    failed, alone = [], Lock()

    def one(job):
        name, path = job
        found = {
            "mark": mark(path), "date": date.today().isoformat(), "machine": execute.machine(),
            "processor": processor(),
        }  # fmt: skip
        if models:
            found["models"] = models[name]
        try:
            found["rows"] = rows(path, wanted[name])
        except CellExecutionError as error:
            failed.append(f"{name}, {path.stem}: {str(error)[-600:]}")
            print(failed[-1], flush=True)
            return
        with alone:
            kept.setdefault(name, {})[path.stem] = found
            save()
        verdicts = ", ".join(f"{row['id']} {row['verdict']}" for row in found["rows"])
        print(f"{name}, {path.stem}: {verdicts}", flush=True)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(one, missing(paths, wanted, kept, models)))
    return failed
