"""Try the chapters and the commands on a GPU that is not there: under the stand-in for CUDA (see
`standin.py`).

    python -m tools.trials.gpu_trial  # make gpu: everything, in both precisions (an hour on two cores)
    python -m tools.trials.gpu_trial --precision float32 --chapters 08 15
    python -m tools.trials.gpu_trial --chapters none          # the commands alone

Every chapter is executed with all exercises' solutions and checks, cell by cell: a cell that fails
is noted, and the next one is tried. In float32 its claim rows are compared with the committed ones.
In bfloat16 the chapter meets organisms whose config.json says bfloat16, as hub checkpoints do, so
that `ww.load` takes it by itself on a GPU; rows may differ there, which is counted and not judged.
Results go to data/results/gpu.json, chapter by chapter, as the status page shows them; the exit
code is 1 where a cell or a command fails, or where a float32 row differs.
"""

import argparse
import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from tools.course import execute
from tools.course.chapters import NOTEBOOKS, ROOT, exercises, read, tags
from tools.trials import steady
from whatwhere.files import alone, write

RESULTS = ROOT / "data" / "results" / "gpu.json"
PRECISIONS = ("float32", "bfloat16")
ENTER = (
    "import sys; sys.path.append({root!r}); from tools.trials import standin; _gpu = "
    "standin.cuda(); _gpu.__enter__()"
)
MODELS = ("llava", "qwen2_vl", "qwen2_5_vl", "internvl")


def book(folder, precision):
    """A copy of what the chapters and commands use, its organisms in this precision; and the
    environment that uses it."""
    for name in ("lib", "data", "notebooks"):
        shutil.copytree(
            ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
        )
    shutil.copy(ROOT / "_config.yml", folder)
    for path in (folder / "data" / "models").glob("*/config.json"):
        said(path, precision)
    return {
        **{name: value for name, value in os.environ.items() if name != "MPLBACKEND"},
        "PYTHONPATH": os.pathsep.join([str(folder / "lib"), str(ROOT)]), "TQDM_DISABLE": "1",
        "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1",
    }  # fmt: skip


def said(path, precision):
    """Let a config.json name a precision."""
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(config | {"dtype": precision}), encoding="utf-8")


def chapter(path, folder, environment):
    """Execute one chapter cell by cell. Returns {seconds, cells, rows, moved, differences,
    failures}."""
    notebook = read(path)
    for exercise in exercises(notebook):
        if exercise["checks"]:
            notebook.cells.append(nbformat.v4.new_code_cell(exercise["solution"] or ""))
            notebook.cells += [
                nbformat.v4.new_code_cell(check.source) for check in exercise["checks"]
            ]
    claims = folder / "claims" / path.stem
    claims.mkdir(parents=True)
    enter = ENTER.format(root=str(ROOT))
    client = NotebookClient(
        notebook, timeout=execute.TIMEOUT,
        resources={"metadata": {"path": str(folder / "notebooks")}},
        extra_arguments=[f"--IPKernelApp.exec_lines={[enter]}"],
    )  # fmt: skip
    start, failures, cells = time.monotonic(), [], 0
    with client.setup_kernel(env=environment | {"WHATWHERE_CLAIMS": str(claims)}):
        for number, cell in enumerate(notebook.cells):
            if cell.cell_type != "code" or "skip-execution" in tags(cell):
                continue
            cells += 1
            try:
                client.execute_cell(cell, number)
            except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
                failures.append({"cell": cells, "error": last_line(error), "trace": plain(error)})
    row = {"seconds": round(time.monotonic() - start, 1), "cells": cells}
    return row | steady.compared(path, claims) | {"failures": failures}


def plain(error):
    return re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()


def last_line(error):
    return plain(error).splitlines()[-1]


def commands(folder, precision, environment):
    """{command: "" or what it said when it failed}, on the organisms and on a rehearsal checkpoint
    of each family."""
    given = json.dumps({"families": MODELS, "precision": precision})
    subprocess.run(
        [sys.executable, "-m", "tools.trials.gpu_trial", "--inside", given],
        check=True,
        env=environment,
        cwd=folder,
    )
    return json.loads((folder / "commands.json").read_text(encoding="utf-8"))


def inside(families, precision):
    """In a process of its own, in the copy's folder: all commands, one after another, under the
    stand-in."""
    import whatwhere as ww
    from tools.trials import standin
    from whatwhere.__main__ import main as whatwhere

    Path("pictures").mkdir()
    for n in range(6):
        ww.world.scene(n).image.save(f"pictures/{n}.png")
    models = {name: name for name in ("toy-llava", "toy-qwen2vl")}
    for family in families:
        models[family] = ww.book.rehearsal.tiny_random(f"rehearsal/{family}", family)
        said(Path(models[family]) / "config.json", precision)
    found = {}
    with standin.cuda():
        for name, model in models.items():
            for arguments in asked(name, model):
                told = io.StringIO()
                with (
                    contextlib.redirect_stderr(told),
                    contextlib.redirect_stdout(io.StringIO()) as shown,
                ):
                    try:
                        failed = whatwhere(arguments)
                    except Exception as error:  # none should leave a command
                        failed = True
                        print(f"{type(error).__name__}: {error}", file=told)
                lines = (told.getvalue() or shown.getvalue()).strip().splitlines()
                found["whatwhere " + " ".join(arguments)] = (
                    (lines or ["failed"])[-1] if failed else ""
                )
    Path("commands.json").write_text(json.dumps(found), encoding="utf-8")


def asked(name, model):
    """The commands that a model is tried with."""
    decoder, bench = f"decoders/{name}", ["bench", model, "tabletop-a", "--limit", "8"]
    yield ["check", model]
    yield ["distil", model, "pictures", "--out", decoder]
    yield bench
    yield [*bench, "--blind"]
    yield from ([*bench, "--compress", n, "--decoder", decoder] for n in "123")
    yield from (
        [*bench, "--compress", way, "--keep", "0.5"]
        for way in ("random", "grid", "tome-like", "fastv-rank")
    )
    if "qwen" in name:
        yield [*bench, "--scale", "9", "2"]


def main(arguments=None):
    """Returns what the shell is told: 0, or 1 where anything failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--chapters", nargs="+", metavar="NN", help="such as 07 08, or none")
    parser.add_argument("--no-commands", action="store_true")
    parser.add_argument(
        "--trace", action="store_true", help="show what a failing cell said in full"
    )
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.inside:
        return inside(**json.loads(chosen.inside))
    paths = [path for path in NOTEBOOKS if not chosen.chapters or path.stem[:2] in chosen.chapters]
    failed = False
    for precision in chosen.precision:
        with tempfile.TemporaryDirectory() as folder:
            environment = book(Path(folder), precision)
            for path in paths:
                row = chapter(path, Path(folder), environment)
                print(
                    f"{precision}: {path.stem} in {row['seconds']:.0f} s, {len(row['failures'])} "
                    f"cells failed, {len(row['differences'])} differences of rows",
                    flush=True,
                )
                for failure in row["failures"]:
                    print(
                        f"    cell {failure['cell']}: "
                        f"{failure['trace' if chosen.trace else 'error']}",
                        flush=True,
                    )
                    failure.pop("trace")
                for difference in row["differences"]:
                    print(f"    {difference}", flush=True)
                failed |= (
                    bool(row["failures"]) or precision == "float32" and bool(row["differences"])
                )
                keep(precision, "chapters", {path.stem: row})
            if not chosen.no_commands:
                found = commands(Path(folder), precision, environment)
                for command, told in found.items():
                    print(f"{precision}: {command}: {told or 'done'}", flush=True)
                failed |= any(found.values())
                keep(precision, "commands", found)
    return int(failed)


def keep(precision, kind, found):
    """Write down what was found beside what is known of other chapters, with day and machine."""
    with alone(RESULTS.parent):
        record = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
        part = record.setdefault(precision, {"chapters": {}, "commands": {}})
        part[kind] = dict(sorted((part[kind] | found).items())) if kind == "chapters" else found
        record |= {"machine": execute.machine(), "date": date.today().isoformat()}
        write(RESULTS, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    sys.exit(main())
