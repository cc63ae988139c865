"""Do the chapters come out the same, whatever is changed that should not matter? Four trials of all chapters, ten minutes each.

    python tools/steady.py                        # make steady: all trials
    python tools/steady.py --trials again --chapters 07 08
    python tools/steady.py --transformers 5.15.1  # the other version to try

In each trial every chapter is executed anew, and its claim rows are compared with those committed: verdicts and words exactly,
numbers within each row's own tolerance. How far the numbers moved within it is noted too. The figures go to
data/results/steadiness.json, as the page on performance quotes them; the exit code is 1 where anything differs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import nbformat
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

import execute
from chapters import NOTEBOOKS, ROOT, code_cells, read
from whatwhere import ledger
from whatwhere.files import write

RESULTS = ROOT / "data" / "results" / "steadiness.json"
TRIALS = {
    "again": "a second clean execution, last chapter first, all rows into one folder",
    "two threads": "two threads instead of one, one chapter at a time",
    "twice": "twice in one kernel, with a cell interrupted and a cell failed in between",
    "transformers": "another minor version of transformers",
}
AFTER = 0.5  # seconds until the interrupted cell is interrupted


def twice(notebook):
    """The notebook's code, its longest cell again, which is interrupted, a cell that fails, and then the whole notebook."""
    first = [nbformat.v4.new_code_cell(cell.source) for cell in code_cells(notebook)]
    longest = max(code_cells(notebook)[1:], key=lambda cell: len(cell.source) * ("for " in cell.source))
    stop = f"import _thread, threading\nthreading.Timer({AFTER}, _thread.interrupt_main).start()\n"
    may_fail = {"tags": ["raises-exception"]}
    broken = [
        nbformat.v4.new_code_cell(code, metadata=may_fail)
        for code in (stop + longest.source, f"import time\ntime.sleep({AFTER})", "1 / 0")
    ]
    return nbformat.v4.new_notebook(cells=[*first, *broken, *notebook.cells], metadata=notebook.metadata)


def other_transformers(version, folder):
    """A folder that, first on Python's path, brings another transformers with its hub and tokenizers, and all else as it is."""
    if not (folder / "transformers").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        own = ("transformers", "tokenizers", "huggingface_hub")
        pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        (folder / "constraints.txt").write_text("\n".join(line for line in pinned if not line.startswith(own)), encoding="utf-8")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", folder]
        subprocess.run([*pip, "-c", folder / "constraints.txt", f"transformers=={version}"], check=True)
    return {"PYTHONPATH": str(folder)}


def trial(name, paths, folder, version):
    """{chapter: {"seconds", "rows", "moved", "differences"}} of one trial."""
    workers, threads, variables = 2, 1, {}
    if name == "again":
        paths, variables = paths[::-1], {"WHATWHERE_CLAIMS": str(folder / "claims")}
        (folder / "claims").mkdir(parents=True)
    if name == "two threads":
        workers, threads = 1, 2
    if name == "transformers":
        variables = other_transformers(version, ROOT / ".training" / f"transformers-{version}")

    def one(path):
        source, start = path, time.monotonic()
        if name == "twice":
            source = folder / "twice" / path.name
            source.parent.mkdir(parents=True, exist_ok=True)
            nbformat.write(twice(read(path)), source)
        try:
            execute.run(source, folder / path.stem, threads, variables)
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            return {"seconds": round(time.monotonic() - start, 1), "rows": 0, "moved": None, "differences": [str(error)[-2000:]]}
        where = Path(variables.get("WHATWHERE_CLAIMS", folder / path.stem / "claims"))
        return {"seconds": round(time.monotonic() - start, 1)} | compared(path, where)

    with ThreadPoolExecutor(workers) as pool:
        found = {}
        for path, row in zip(paths, pool.map(one, paths)):
            found[path.stem] = row
            print(f"{name}: {path.stem} in {row['seconds']:.0f} s, {len(row['differences'])} differences", flush=True)
            for difference in row["differences"]:
                print(f"    {difference}", flush=True)
    return dict(sorted(found.items()))


def compared(path, where):
    """A chapter's rows in the folder `where` beside the committed ones: how many, the farthest that a number moved as a share of
    its tolerance, and what differs beyond that."""
    fresh, committed = (
        [row for row in ledger.rows(each) if row["notebook"] == path.stem] for each in (where, ROOT / "data/claims")
    )
    by_key = {(row["id"], (row["measured"] or {}).get("model")): row for row in committed}
    moved = 0.0
    for row in fresh:
        old = by_key.get((row["id"], (row["measured"] or {}).get("model")))
        for field in ("measured", "control") if old and row["measured"] and old["measured"] else ():
            new, was = ([part["value"], *(part["ci95"] or [])] for part in (row[field], old[field]))
            far = max((abs(a - b) for a, b in zip(new, was)), default=0.0)
            moved = max(moved, far / old["tolerance"] if old["tolerance"] else float(far > 0))
    return {"rows": len(fresh), "moved": round(moved, 3), "differences": ledger.compare(fresh, committed)}


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", nargs="+", choices=TRIALS, default=list(TRIALS))
    parser.add_argument("--chapters", nargs="+", metavar="NN", help="such as 07 08; then nothing is written down")
    parser.add_argument("--transformers", default="5.15.1", metavar="VERSION")
    chosen = parser.parse_args(arguments)
    paths = [path for path in NOTEBOOKS if not chosen.chapters or path.stem[:2] in chosen.chapters]
    record = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    failed = False
    for name in chosen.trials:
        with tempfile.TemporaryDirectory() as folder:
            found = trial(name, paths, Path(folder), chosen.transformers)
        failed = failed or any(row["differences"] for row in found.values())
        what = TRIALS[name] + (f", {chosen.transformers}" if name == "transformers" else "")
        record[name] = {"what": what, "date": date.today().isoformat(), "machine": execute.machine(), "chapters": found}
        if not chosen.chapters:
            write(RESULTS, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    return failed


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.exit(main())
