"""Execute chapters, two at a time, and remember what came of it: the tests and the book use the
same executions.

    python -m tools.course.execute [chapter …]  # those whose inputs changed, of all by default

An execution is the chapter run from top to bottom and, after that and in the same kernel, each
exercise's solution and checks. It is kept in `_build/executed`, with all that it depended on (see
`dependencies.py`), and counts until one of those changes.
"""

import json
import os
import platform
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from tools.course import dependencies
from tools.course.chapters import NOTEBOOKS, ROOT, chosen, exercises, marks, read

STORE = ROOT / "_build" / "executed"
# seconds a cell may take, and a kernel to start, which on a busy machine can be more than a minute
TIMEOUT, STARTUP = 600, 300
WATCH, LAST_BITS = (
    ROOT / "tools" / "course" / "watch.py",
    ROOT / "tools" / "trials" / "last_bits.py",
)
DEPENDENCIES = "dependencies.json"


@dataclass(frozen=True)
class Execution:
    """`notebook`: the executed chapter. `claims`: a folder with its rows. `seconds`, `when`,
    `machine`: how long, and on what.

    `marks`: {exercise: {"stub": [✓ and ✗ of its checks], "solution": [the same]}}. `wrote`: files
    and folders that were made, changed or removed.
    """

    notebook: nbformat.NotebookNode
    claims: Path
    marks: dict
    wrote: list
    seconds: float
    when: str
    machine: str


def run(path, folder, threads=None, variables=None, timeout=TIMEOUT, first=()):
    """Execute one notebook into `folder`, whole or not at all. Raises CellExecutionError where a
    cell fails.

    threads: that PyTorch may use. variables: more of the kernel's environment. timeout: seconds a
        cell may take. first: files that run in the kernel before the notebook.
    """
    notebook, start = read(path), time.time()
    count, found = len(notebook.cells), [each for each in exercises(notebook) if each["checks"]]
    for exercise in found:
        notebook.cells.append(nbformat.v4.new_code_cell(exercise["solution"] or ""))
        notebook.cells += [nbformat.v4.new_code_cell(check.source) for check in exercise["checks"]]
    part = Path(f"{folder}.part")
    shutil.rmtree(part, ignore_errors=True)
    (part / "claims").mkdir(parents=True)
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    environment |= {
        "WHATWHERE_CLAIMS": str(part / "claims"),
        "WHATWHERE_WATCHED": str(part / "watched.json"),
    }
    environment |= {"TQDM_DISABLE": "1"}  # progress is for someone who waits
    if threads:
        environment |= {"OMP_NUM_THREADS": str(threads)}
    environment |= variables or {}
    last_bits = [LAST_BITS] if environment.get("WHATWHERE_LAST_BITS") else []
    files = [WATCH, *last_bits, *first]
    watch = [f"--IPKernelApp.exec_files={[str(file) for file in files]}"]
    place = {"metadata": {"path": str(ROOT / "notebooks")}}
    client = NotebookClient(
        notebook, timeout=timeout, startup_timeout=STARTUP, resources=place, extra_arguments=watch
    )
    client.execute(env=environment)
    watched = json.loads((part / "watched.json").read_text(encoding="utf-8"))
    depended = dependencies.found(path, watched, ROOT)
    # else it is not known what this came of
    if not dependencies.edited(path, depended, start, ROOT):
        (part / DEPENDENCIES).write_text(json.dumps(depended), encoding="utf-8")
    results, last = {}, count
    for exercise in found:
        after = notebook.cells[last + 1 : last + 1 + len(exercise["checks"])]
        last += 1 + len(exercise["checks"])
        results[exercise["number"]] = {
            "stub": [mark for check in exercise["checks"] for mark in marks(check)],
            "solution": [mark for check in after for mark in marks(check)],
        }
    notebook.cells = notebook.cells[:count]
    notebook.metadata["mystnb"] = {"execution_mode": "off"}  # for Sphinx: it is executed
    nbformat.write(notebook, part / "notebook.ipynb")
    facts = {
        "marks": results,
        "wrote": watched["written"],
        "seconds": round(time.time() - start, 1),
    }
    facts |= {"when": date.today().isoformat(), "machine": machine()}
    (part / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def kept(path, store=STORE):
    """The `Execution` of a chapter as it is now, or None."""
    folder = store / path.stem
    if not (folder / DEPENDENCIES).is_file() or dependencies.changed(path, known(folder), ROOT):
        return None
    return opened(folder)


def known(folder):
    """What the execution in this folder depended on."""
    return json.loads((folder / DEPENDENCIES).read_text(encoding="utf-8"))


def opened(folder):
    facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    facts["marks"] = {int(number): each for number, each in facts["marks"].items()}
    return Execution(read(folder / "notebook.ipynb"), folder / "claims", **facts)


def machine():
    """The machine and the versions that count, in words."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "numpy"))
    return (
        f"{os.cpu_count()} cores ({platform.machine()}), {platform.system()}, Python "
        f"{platform.python_version()}, {packages}"
    )


def ensure(paths=NOTEBOOKS, store=STORE, workers=2):
    """Execute those of the chapters that have changed, `workers` at a time. Returns {path: its
    CellExecutionError}."""
    # later chapters take longer: nobody waits for one alone
    due = [path for path in paths if kept(path, store) is None][::-1]
    threads = max(1, (os.cpu_count() or 1) // workers)

    def one(path):
        try:
            run(path, store / path.stem, threads)
        except CellExecutionError as error:
            print(f"{path.stem} failed", flush=True)
            return error
        print(f"{path.stem} in {opened(store / path.stem).seconds:.0f} s", flush=True)

    if due:
        print(f"Executing {len(due)} of {len(paths)} notebooks, {workers} at a time", flush=True)
    with ThreadPoolExecutor(workers) as pool:
        return {path: error for path, error in zip(due, pool.map(one, due)) if error}


if __name__ == "__main__":
    failed = ensure(chosen(sys.argv[1:]))
    for path, error in failed.items():
        print(f"\n{path.name}\n{error}")
    sys.exit(bool(failed))
