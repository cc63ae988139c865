"""How long the book takes on this machine, in a fresh clone: to install, to execute and build, and
to test."""

import json
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
STEPS = {
    "install": "make .venv/.whatwhere",
    "execute and build": "make book",
    "test, after that": "make test",
    "build again": "make book",
}


def measure():
    """({step: seconds}, {chapter: seconds}, pytest's list of slow tests). Raises CalledProcessError
    where a step fails."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "book"
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        took, said = {}, ""
        for step, command in STEPS.items():
            print(f"{step}: {command}", flush=True)
            start = time.monotonic()
            done = subprocess.run(command.split(), cwd=clone, capture_output=True, text=True)
            took[step] = time.monotonic() - start
            if done.returncode:
                print(done.stdout[-5000:], done.stderr[-5000:])
                done.check_returncode()
            said += done.stdout
        facts = {
            path.parent.name: json.loads(path.read_text())
            for path in (clone / "_build" / "executed").glob("*/facts.json")
        }
        slow = [line for line in said.splitlines() if " call " in line or " setup " in line]
        return took, {name: each["seconds"] for name, each in sorted(facts.items())}, slow
