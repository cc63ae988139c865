"""Do the chapters and the tests come out the same, whatever is changed that should not matter?

    python -m tools.trials.steady  # make steady: all trials of all chapters, then the tests
    python -m tools.trials.steady --trials again --chapters 09 11
    python -m tools.trials.steady --transformers 5.15.1  # the other version to try
    python -m tools.trials.steady --trials tests --files towers models --settings "last bits"

In each trial every chapter is executed anew, and its claim rows are compared with those committed:
verdicts and words exactly, numbers within each row's own tolerance. How far the numbers moved
within it is noted too. The trial `tests` runs each file of tests that computes, in each of the
settings. The figures go to data/results/steadiness.json, as the page on performance quotes them;
the exit code is 1 where anything differs.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from itertools import product
from pathlib import Path

import nbformat
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from tools.course import execute
from tools.course.chapters import NOTEBOOKS, ROOT, code_cells, read
from whatwhere.book import ledger
from whatwhere.files import write

RESULTS = ROOT / "data" / "results" / "steadiness.json"
# What a processor, or the libraries on it, decide by themselves: the order of sums and the curves
# of exp and its like.
# name: (what it changes, more of the environment); one thread where nothing is said of threads
SETTINGS = {
    "usual": ("one thread, and what this processor has", {}),
    "no vectors": ("PyTorch's kernels for any processor", {"ATEN_CPU_CAPABILITY": "default"}),
    "AVX2": ("PyTorch's kernels for processors with AVX2", {"ATEN_CPU_CAPABILITY": "avx2"}),
    "two threads": ("two threads instead of one", {"OMP_NUM_THREADS": "2"}),
    "old libraries": (
        "all libraries as on a processor of 2004",
        {
            "ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE", "DNNL_MAX_CPU_ISA": "SSE41",
            "OPENBLAS_CORETYPE": "Prescott", "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4",
        },
    ),
    "last bits": ("the last bit of every sum and curve moved, see tools/trials/last_bits.py",
        {"WHATWHERE_LAST_BITS": "1"}),
}  # fmt: skip
TRIALS = {
    "again": "a second clean execution, last chapter first, all rows into one folder",
    "two threads": "two threads instead of one, one chapter at a time",
    "twice": "twice in one kernel, with a cell interrupted and a cell failed in between",
    "transformers": "another minor version of transformers",
    **{name: SETTINGS[name][0] for name in ("no vectors", "AVX2", "old libraries", "last bits")},
    "tests": "every file of tests that computes, in each setting of a processor",
}
COMPUTES = re.compile(r"^import (numpy|torch)\b|^from transformers|ww\.load\(", flags=re.MULTILINE)
FILES = [  # of tests, by their names without test_; the chapters' are the other trials
    path.stem.removeprefix("test_")
    for path in sorted((ROOT / "tests").glob("test_*.py"))
    if COMPUTES.search(path.read_text(encoding="utf-8")) and path.stem != "test_notebooks"
]
COUNTED = re.compile(r"(\d+) (passed|failed|error)")
# seconds a cell may take: without vector instructions, all takes several times as long
PATIENCE = 7200
AFTER = 0.5  # seconds until the interrupted cell is interrupted


def twice(notebook):
    """The notebook's code, its longest cell again, which is interrupted, a cell that fails, and
    then the whole notebook."""
    first = [nbformat.v4.new_code_cell(cell.source) for cell in code_cells(notebook)]
    longest = max(
        code_cells(notebook)[1:], key=lambda cell: len(cell.source) * ("for " in cell.source)
    )
    stop = f"import _thread, threading\nthreading.Timer({AFTER}, _thread.interrupt_main).start()\n"
    may_fail = {"tags": ["raises-exception"]}
    broken = [
        nbformat.v4.new_code_cell(code, metadata=may_fail)
        for code in (stop + longest.source, f"import time\ntime.sleep({AFTER})", "1 / 0")
    ]
    return nbformat.v4.new_notebook(
        cells=[*first, *broken, *notebook.cells], metadata=notebook.metadata
    )


def other_transformers(version, folder):
    """A folder that, first on Python's path, brings another transformers with its hub and
    tokenizers, and all else as it is."""
    if not (folder / "transformers").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        own = ("transformers", "tokenizers", "huggingface_hub")
        pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        (folder / "constraints.txt").write_text(
            "\n".join(line for line in pinned if not line.startswith(own)), encoding="utf-8"
        )
        pip = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--target",
            folder,
        ]
        subprocess.run(
            [*pip, "-c", folder / "constraints.txt", f"transformers=={version}"], check=True
        )
    return {"PYTHONPATH": str(folder)}


def trial(name, paths, folder, version):
    """{chapter: {"seconds", "rows", "moved", "differences"}} of one trial."""
    workers, threads, variables = 2, 1, {}
    if name == "again":
        paths, variables = paths[::-1], {"WHATWHERE_CLAIMS": str(folder / "claims")}
        (folder / "claims").mkdir(parents=True)
    if name in SETTINGS:
        variables = SETTINGS[name][1]
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
            execute.run(source, folder / path.stem, threads, variables, PATIENCE)
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            return {
                "seconds": round(time.monotonic() - start, 1),
                "rows": 0,
                "moved": None,
                "differences": [str(error)[-2000:]],
            }
        where = Path(variables.get("WHATWHERE_CLAIMS", folder / path.stem / "claims"))
        return {"seconds": round(time.monotonic() - start, 1)} | compared(path, where)

    with ThreadPoolExecutor(workers) as pool:
        found = {}
        for path, row in zip(paths, pool.map(one, paths)):
            found[path.stem] = row
            print(
                f"{name}: {path.stem} in {row['seconds']:.0f} s, {len(row['differences'])} "
                "differences",
                flush=True,
            )
            for difference in row["differences"]:
                print(f"    {difference}", flush=True)
    return dict(sorted(found.items()))


def tested(file, setting):
    """{"passed", "failed", "seconds"} of one file of tests in one of the SETTINGS."""
    start = time.monotonic()
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        f"tests/test_{file}.py",
    ]
    variables = os.environ | {"OMP_NUM_THREADS": "1"} | SETTINGS[setting][1]
    done = subprocess.run(
        command, cwd=ROOT, env=variables, capture_output=True, text=True, errors="replace"
    )
    counts = {what: int(n) for n, what in COUNTED.findall((done.stdout.splitlines() or [""])[-1])}
    failed = counts.get("failed", 0) + counts.get("error", 0)
    failed = failed or int(done.returncode not in (0, 5))  # 5: there is no test in it
    row = {
        "passed": counts.get("passed", 0),
        "failed": failed,
        "seconds": round(time.monotonic() - start, 1),
    }
    print(f"tests: {file}, {setting}: {row['passed']} passed, {failed} failed", flush=True)
    if failed:
        print(done.stdout[-4000:] + done.stderr[-1000:], flush=True)
    return row


def compared(path, where):
    """A chapter's rows in the folder `where` beside the committed ones: how many, the farthest that
    a number moved as a share of its tolerance, and what differs beyond that."""
    fresh, committed = (
        [row for row in ledger.rows(each) if row["notebook"] == path.stem]
        for each in (where, ROOT / "data/claims")
    )
    by_key = {(row["id"], (row["measured"] or {}).get("model")): row for row in committed}
    moved = 0.0
    for row in fresh:
        old = by_key.get((row["id"], (row["measured"] or {}).get("model")))
        for field in ("measured", "control") if old and row["measured"] and old["measured"] else ():
            new, was = ([part["value"], *(part["ci95"] or [])] for part in (row[field], old[field]))
            far = max((abs(a - b) for a, b in zip(new, was)), default=0.0)
            moved = max(moved, far / old["tolerance"] if old["tolerance"] else float(far > 0))
    return {
        "rows": len(fresh),
        "moved": round(moved, 3),
        "differences": ledger.compare(fresh, committed),
    }


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", nargs="+", choices=TRIALS, default=list(TRIALS))
    parser.add_argument(
        "--chapters", nargs="+", metavar="NN", help="such as 07 08; then nothing is written down"
    )
    parser.add_argument(
        "--files",
        nargs="+",
        choices=FILES,
        default=FILES,
        metavar="NAME",
        help="of tests, such as towers",
    )
    parser.add_argument(
        "--settings",
        nargs="+",
        choices=SETTINGS,
        default=list(SETTINGS),
        metavar="NAME",
        help="for the tests",
    )
    parser.add_argument("--transformers", default="5.15.1", metavar="VERSION")
    chosen = parser.parse_args(arguments)
    paths = [path for path in NOTEBOOKS if not chosen.chapters or path.stem[:2] in chosen.chapters]
    failed = False
    for name in chosen.trials:
        record = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
        what = TRIALS[name] + (f", {chosen.transformers}" if name == "transformers" else "")
        about = {"what": what, "date": date.today().isoformat(), "machine": execute.machine()}
        if name == "tests":
            files = record.get(name, {}).get("files", {})
            record[name] = about | {
                "settings": {each: what for each, (what, _) in SETTINGS.items()},
                "files": files,
            }
            for file, setting in product(chosen.files, chosen.settings):
                files.setdefault(file, {})[setting] = row = tested(file, setting)
                failed = failed or row["failed"] > 0
                write(RESULTS, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
            continue
        with tempfile.TemporaryDirectory() as folder:
            found = trial(name, paths, Path(folder), chosen.transformers)
        failed = failed or any(row["differences"] for row in found.values())
        record[name] = about | {"chapters": found}
        if not chosen.chapters:
            write(RESULTS, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    return failed


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.exit(main())
