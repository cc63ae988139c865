"""Install the book's package on Colab: without its dependencies, then only the ones that are
missing.

Colab brings torch, numpy and most of the rest. Those two are never touched: exchanging them would
cost minutes and a restart. Run by the setup cell; `--show` says what would be installed and
installs nothing.
"""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
LEAVE_ALONE = {"torch", "numpy"}


def wanted(root=ROOT):
    """What pyproject.toml asks for."""
    with open(root / "pyproject.toml", "rb") as file:
        return [Requirement(line) for line in tomllib.load(file)["project"]["dependencies"]]


def missing(requirements, installed=version):
    """Those of the requirements that this machine does not meet, as pip arguments."""
    out = []
    for requirement in requirements:
        if re.sub(r"[-_.]+", "-", requirement.name).lower() in LEAVE_ALONE:
            continue
        try:
            met = requirement.specifier.contains(installed(requirement.name), prereleases=True)
        except PackageNotFoundError:
            met = False
        if not met:
            out.append(str(requirement))
    return out


def commands(root=ROOT, installed=version):
    """The pip commands to run, at most two."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    yield [*pip, "--no-deps", "--editable", str(root)]
    packages = missing(wanted(root), installed)
    if packages:
        # pinning these two to what is installed keeps pip from exchanging them on a dependency's
        # behalf
        pins = [f"{name}=={installed(name)}" for name in sorted(LEAVE_ALONE)]
        yield [*pip, "--upgrade-strategy", "only-if-needed", *packages, *pins]


def main():
    for command in commands():
        if "--show" in sys.argv[1:]:
            print(" ".join(command))
        else:
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
