"""Try the notebooks as Colab or Kaggle gives them to a reader: each alone in an empty folder, among
the packages of that place.

    python -m tools.trials.colab_trial                    # make colab: among the versions in colab-packages.txt
    python -m tools.trials.colab_trial --notebooks 01 02  # some of them
    python -m tools.trials.colab_trial --torch 2.13.0  # where the listed one cannot be had
    python -m tools.trials.colab_trial --here             # among the packages of this Python, as in Colab

What is tried is the last commit of the branch that the setup cell clones, not what is uncommitted:
the clone is redirected from the public address to this repository. The setup cell has to end within
a minute, must leave the versions of the packages in use as they are, and gives the package of its
clone; then the notebook has to run from top to bottom. An environment of its own, .venv-colab, is
kept between trials. The exit code is 1 where anything fails.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from tools.site import sync

ROOT = Path(__file__).resolve().parents[2]
LIST = Path(__file__).with_name("colab-packages.txt")
# what a setup cell must not exchange
KEPT = ("torch", "numpy", "transformers", "ipython", "ipykernel", "ipywidgets")
SECONDS = 60  # that the setup cell may take
TIMEOUT = 600  # seconds that any other cell may take
PLATFORMS = {
    "colab": ("content", "COLAB_RELEASE_TAG"),
    "kaggle": ("working", "KAGGLE_KERNEL_RUN_TYPE"),
}
PROBE = f"""
import importlib.metadata as _metadata, importlib.util as _util, json as _json, platform as _platform
_found = {{name: _metadata.version(name) for name in {KEPT}}} | {{"python": _platform.python_version()}}
_spec = _util.find_spec("whatwhere")
print(_json.dumps([_found, _spec and _spec.origin]))
"""
# all notebooks of a trial share one environment, and each installs into it
ONE_SETUP_AT_A_TIME = threading.Lock()


def listed(text):
    """{package: version} of a list of packages."""
    lines = (line.strip() for line in text.splitlines())
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def installing(python, torch):
    """The two pip commands that fill an environment: the list as it is, then torch with what its
    build needs."""
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    rest = [
        f"{name}=={version}"
        for name, version in listed(LIST.read_text(encoding="utf-8")).items()
        if name != "torch"
    ]
    return [[*pip, "--no-deps", *rest], [*pip, f"torch=={torch}"]]


def environment(folder, base, torch):
    """The Python of an environment of Colab's packages, made or renewed where it is not there yet
    as asked for."""
    python, stamp = folder / "bin" / "python", folder / "made-of"
    commands = installing(python, torch)
    if not stamp.is_file() or stamp.read_text() != json.dumps([base, commands]):
        print(f"Creating {folder.name} (minutes)", flush=True)
        subprocess.run([base, "-m", "venv", "--clear", folder], check=True)
        for command in commands:
            subprocess.run(command, check=True)
        stamp.write_text(json.dumps([base, commands]))
    return python


def settings(work, python, platform, root=ROOT, threads=1):
    """The environment variables of a notebook's kernel, after writing the files that some of them
    point to."""
    url, _ = sync.address(root)
    spec = {
        "argv": [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "trial",
    }
    (work / "kernels" / "trial").mkdir(parents=True)
    (work / "kernels" / "trial" / "kernel.json").write_text(json.dumps(spec))
    (work / "gitconfig").write_text(
        f'[url "{root.as_uri()}"]\n\tinsteadOf = {url}\n[safe]\n\tdirectory = *\n'
    )
    out = {
        name: value
        for name, value in os.environ.items()
        if name not in ("MPLBACKEND", "PYTHONPATH", "VIRTUAL_ENV")
    }
    out |= {
        "PATH": f"{Path(python).parent}{os.pathsep}{out.get('PATH', '')}",
        "OMP_NUM_THREADS": str(threads),
    }
    return out | {
        "JUPYTER_PATH": str(work), "GIT_CONFIG_GLOBAL": str(work / "gitconfig"),
        "WHATWHERE_CLAIMS": str(work / "claims"),
        # Python 3.11 and later: a warning of no use here
        PLATFORMS[platform][1]: "trial", "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }  # fmt: skip


def trial(source, folder, variables):
    """Execute one notebook alone in an empty folder. Returns {seconds of the setup cell and of all
    cells, versions, failures}."""
    folder.mkdir(parents=True)
    (folder / "chapter.ipynb").write_text(source, encoding="utf-8")
    notebook = nbformat.reads(source, as_version=4)
    setup = next(cell for cell in notebook.cells if "setup" in cell.metadata.get("tags", []))
    before, after = (nbformat.v4.new_code_cell(PROBE) for _ in range(2))
    place = notebook.cells.index(setup)
    notebook.cells[place : place + 1] = [before, setup, after]
    client = NotebookClient(
        notebook,
        timeout=TIMEOUT,
        kernel_name="trial",
        resources={"metadata": {"path": str(folder)}},
    )
    row = {"setup, s": None, "all, s": 0.0, "versions": {}, "failures": []}
    try:
        with client.setup_kernel(env=variables):
            for number, cell in enumerate(notebook.cells):
                with ONE_SETUP_AT_A_TIME if cell is setup else nullcontext():
                    start = time.monotonic()
                    client.execute_cell(cell, number)
                seconds = round(time.monotonic() - start, 1)
                row["all, s"] = round(row["all, s"] + seconds, 1)
                if cell is setup:
                    row["setup, s"] = seconds
                if cell is after:
                    row["versions"] = said(before)[0]
                    row["failures"] = complaints(
                        said(before)[0], *said(after), folder, row["setup, s"]
                    )
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        row["failures"].append(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip())
    return row


def said(cell):
    """What a probe found: [{package: version}, the file that `import whatwhere` reads]."""
    return json.loads("".join(output.get("text", "") for output in cell.outputs))


def complaints(before, after, origin, folder, seconds):
    """What is wrong after the setup cell, in sentences."""
    out = [
        f"The setup cell exchanged {name} {before[name]} for {after[name]}."
        for name in before
        if before[name] != after[name]
    ]
    if not origin or not Path(origin).resolve().is_relative_to(folder.resolve()):
        out.append(f"whatwhere comes from {origin}, not from the clone.")
    if seconds > SECONDS:
        out.append(f"The setup cell took {seconds:.0f} s, more than {SECONDS}.")
    return out


def git(*arguments, root=ROOT):
    """What git says of this repository."""
    command = ["git", "-c", "safe.directory=*", "-C", str(root), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def record(rows, platform, commit, here):
    """What is written down of a trial."""
    sys.path.insert(0, str(ROOT / "lib"))  # Colab's own image has not installed it
    from whatwhere.book.training.scaling_study import processor

    versions = next((row["versions"] for row in rows.values() if row["versions"]), {})
    asked = {} if here else listed(LIST.read_text(encoding="utf-8"))
    return {
        "about": "Each notebook alone in an empty folder, after its own setup cell: make colab. "
        "Seconds are of single runs.",
        "platform": platform,
        "packages": "of the Python that ran this" if here else f"tools/{LIST.name}",
        "not as listed": {
            name: asked[name]
            for name in KEPT
            if not here and versions.get(name, "").split("+")[0] != asked[name]
        },
        "versions": versions,
        "commit": commit,
        "machine": f"{processor()}, {os.cpu_count()} cores",
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "notebooks": {
            name: {key: value for key, value in row.items() if key != "versions"}
            for name, row in rows.items()
        },
    }


def main(arguments=None):
    """Returns what the shell is told: 0, or 1 where a notebook failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--notebooks",
        nargs="+",
        default=[""],
        metavar="NAME",
        help="how their names begin, as 01 02 (all)",
    )
    parser.add_argument("--platform", default="colab", choices=PLATFORMS)
    parser.add_argument(
        "--here", action="store_true", help="make no environment: install into that of this Python"
    )
    parser.add_argument(
        "--torch",
        default=listed(LIST.read_text())["torch"],
        help="its version in .venv-colab (%(default)s)",
    )
    parser.add_argument(
        "--python",
        default=sys.executable,
        help="which Python .venv-colab is made with (the one that runs this)",
    )
    parser.add_argument("--workers", type=int, default=2, help="notebooks at a time (2)")
    parser.add_argument(
        "--out",
        type=Path,
        help="the result (data/results/PLATFORM.json, if all notebooks are tried)",
    )
    chosen = parser.parse_args(arguments)
    _, branch = sync.address()
    if not git("branch", "--list", branch).strip():
        parser.error(
            f"The setup cell clones the branch {branch}, which this repository does not have."
        )
    found = [
        Path(name)
        for name in git("ls-tree", "--name-only", branch, "notebooks/").split()
        if name.endswith(".ipynb")
    ]
    names = [path for path in found if path.name.startswith(tuple(chosen.notebooks))]
    if not names:
        parser.error(f"No notebook begins with {' or '.join(chosen.notebooks)}.")
    if chosen.here and find_spec("whatwhere"):
        parser.error(
            "--here installs into this environment, which has a whatwhere already: it would be "
            "exchanged."
        )
    python = (
        sys.executable
        if chosen.here
        else environment(ROOT / ".venv-colab", chosen.python, chosen.torch)
    )
    if not chosen.here:  # as Colab is: without our package
        subprocess.run(
            [python, "-m", "pip", "uninstall", "--quiet", "--yes", "whatwhere"],
            check=True,
            stderr=subprocess.DEVNULL,
        )
    rows = {}
    with tempfile.TemporaryDirectory() as work:
        work = Path(work)
        variables = settings(
            work, python, chosen.platform, threads=max(1, (os.cpu_count() or 1) // chosen.workers)
        )
        os.environ["JUPYTER_PATH"] = variables["JUPYTER_PATH"]

        def one(path):
            row = trial(
                git("show", f"{branch}:{path}"),
                work / path.stem / PLATFORMS[chosen.platform][0],
                variables,
            )
            told = f"{path.stem}: {row['all, s']:.0f} s, the setup cell {row['setup, s']} s"
            print(told, *row["failures"], sep="\n    ", flush=True)
            return row

        with ThreadPoolExecutor(chosen.workers) as pool:
            rows = dict(zip((path.stem for path in names), pool.map(one, names)))
    out = chosen.out or (
        ROOT / "data" / "results" / f"{chosen.platform}.json" if names == found else None
    )
    if out:
        told = record(
            rows, chosen.platform, git("rev-parse", "--short", branch).strip(), chosen.here
        )
        out.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return int(any(row["failures"] for row in rows.values()))


if __name__ == "__main__":
    sys.exit(main())
