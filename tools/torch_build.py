"""Which build of torch a new environment gets: without an NVIDIA GPU on Linux, the one without
CUDA.

    .venv/bin/python tools/torch_build.py [cpu|cuda]   # make runs it before it installs all else
    python3 tools/torch_build.py --address            # where CPU builds are, if they are wanted

It needs nothing but Python and pip. Where torch is there already, of any build and at the version
of constraints.txt, it does nothing; where no CPU build can be reached, it says so and leaves torch
to pip.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PAGE = "https://download.pytorch.org/whl/cpu"  # PyTorch's own; it is named nowhere else
PLACES = (), ("-i", PAGE)  # where pip looks by itself, perhaps a mirror or a disk; and the page
CONSTRAINTS = Path(__file__).resolve().parents[1] / "constraints.txt"
CHOICES = ("auto", "cpu", "cuda")
PATIENCE = 20  # seconds that a place has for saying what it offers; a download may take its time
DRIVER = ("/proc/driver/nvidia", "/dev/nvidia0", "/dev/nvidiactl")
DRIVER_OF_WSL = "/usr/lib/wsl/lib/nvidia-smi"


def pinned() -> str:
    """The version of torch in constraints.txt."""
    text = CONSTRAINTS.read_text(encoding="utf-8")
    return re.search(r"^torch==(\S+)$", text, flags=re.MULTILINE)[1]


def installed() -> str | None:
    """The version of torch that this Python has, without the name of its build."""
    try:
        return version("torch").split("+")[0]
    except PackageNotFoundError:
        return None


def has_nvidia() -> bool:
    return bool(shutil.which("nvidia-smi")) or any(map(os.path.exists, (*DRIVER, DRIVER_OF_WSL)))


def wants_cpu(choice: str = "auto") -> bool:
    """Is a CPU build to be looked for? On other systems than Linux, pip's own torch is one."""
    return choice == "cpu" or choice == "auto" and sys.platform == "linux" and not has_nvidia()


def pip(*arguments, **options):
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, text=True, encoding="utf-8", errors="replace", **options)


def offered(wanted: str, place: tuple[str, ...]) -> bool:
    """Does pip find this version of torch there? It does not wait for longer than PATIENCE."""
    asking = ("index", "versions", "torch", "--timeout", "5", "--retries", "0", *place)
    try:
        answer = pip(*asking, capture_output=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return False
    return not answer.returncode and wanted in re.split(r"[\s,()]+", answer.stdout)


def install(choice: str) -> int:
    """Install torch's CPU build where it is wanted and can be had. 1 where it should have been."""
    if installed() == pinned() or not wants_cpu(choice):
        return 0
    wanted, asked = f"{pinned()}+cpu", choice == "cpu"
    why = "TORCH=cpu" if asked else "No NVIDIA GPU is to be seen here"
    place = next((each for each in PLACES if offered(wanted, each)), None)
    if place is None:
        print(
            f"{why}, but torch {wanted} cannot be reached at {PAGE}: "
            + ("install it by hand into this environment, or leave TORCH=cpu out." if asked else
               "pip brings its own torch, on Linux with gigabytes of CUDA, which do no harm.")
        )  # fmt: skip
        return int(asked)
    print(f"{why}: installing torch {wanted} (TORCH=cuda brings the other build)", flush=True)
    if pip("install", "--quiet", "--no-deps", f"torch=={wanted}", *place).returncode:
        print("That failed, for the reason above: try again, or let pip bring its own, TORCH=cuda.")
        return 1
    return 0


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("choice", nargs="?", default="auto", metavar="/".join(CHOICES))
    parser.add_argument("--address", action="store_true")
    chosen = parser.parse_args(arguments)
    if chosen.choice not in CHOICES:
        print(
            f"TORCH={chosen.choice} is no choice: TORCH=cpu brings torch's CPU build, TORCH=cuda "
            "the one that pip brings by itself, and without either the machine decides."
        )
        return 2
    if chosen.address:
        print(PAGE if wants_cpu(chosen.choice) else "")
        return 0
    return install(chosen.choice)


if __name__ == "__main__":
    sys.exit(main())
