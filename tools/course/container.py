"""Mark submissions in a container: one for each student, without network and with limits.

    docker build -f tools/course/marking.Dockerfile -t whatwhere-marking .
    python -m tools.course.container submissions [--out grades.csv] [--engine podman]

`submissions` is what tools/course/grade.py takes: a folder for each student. A container sees that
one folder, read-only, and an empty one for its grades; so nobody's code reads another's work or
writes another's marks. It has no network, no rights, two cores, 6 GB of memory, 256 processes and
half an hour. What it cannot prevent is code that forges its own row, since our marking runs beside
it: look at full marks before you enter them.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

IMAGE = "whatwhere-marking"
MINUTES = 30
LIMITS = (
    "--network=none",
    "--read-only",
    "--tmpfs=/tmp:rw,size=2g",
    "--memory=6g",
    "--memory-swap=6g",
    "--cpus=2",
    "--pids-limit=256",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
)


def command(engine, folder, grades):
    """The command that marks one student's folder and leaves a table in `grades`."""
    # grades are told by the folder's name, so it is mounted below /submissions
    mounts = (f"{folder}:/submissions/{folder.name}:ro", f"{grades}:/grades")
    volumes = [part for mount in mounts for part in ("--volume", mount)]
    return [engine, "run", "--rm", *LIMITS, *volumes, IMAGE]


def marked(engine, folder):
    """A student's rows; one that says why where there are none."""
    with tempfile.TemporaryDirectory() as place:
        grades = Path(place)
        grades.chmod(0o777)  # written by nobody
        try:
            done = subprocess.run(
                command(engine, folder.resolve(), grades),
                timeout=60 * MINUTES,
                capture_output=True,
                text=True,
            )
            why = done.stderr.strip().splitlines()[-1:] or ["it wrote no grades"]
        except subprocess.TimeoutExpired:
            why = [f"not done after {MINUTES} minutes"]
        file = grades / "grades.csv"
        if file.is_file() and not file.is_symlink():
            table = pd.read_csv(file)
            return table[table.student == folder.name] if "student" in table else table.head(0)
    return pd.DataFrame([{"student": folder.name, "said": f"the container stopped: {why[0]}"}])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("submissions", type=Path, help="a folder for each student")
    parser.add_argument("--out", type=Path, default=Path("grades.csv"))
    parser.add_argument("--engine", default="docker", help="docker, or podman")
    options = parser.parse_args()
    folders = sorted(each for each in options.submissions.iterdir() if each.is_dir())
    if not folders:
        sys.exit(f"{options.submissions} holds no folder: put each student's notebooks into one.")
    tables = []
    for folder in folders:
        tables.append(marked(options.engine, folder))
        print(f"{folder.name}: {len(tables[-1])} rows", flush=True)
    pd.concat(tables).to_csv(options.out, index=False)
    print(f"Every exercise is in {options.out}")


if __name__ == "__main__":
    main()
