"""Lay out an nbgrader course: the student's edition, a folder for each chapter, and the settings
that the chapters need.

    python -m tools.course.nbgrader_course [folder]     # make nbgrader: into nbgrader/
"""

import shutil
import sys
from pathlib import Path

import nbformat

from tools.course import editions
from tools.course.chapters import NOTEBOOKS, ROOT

CONFIG = Path(__file__).with_name("nbgrader_config.py")


def write(folder, paths=NOTEBOOKS):
    """The course of these chapters. Ends the program where somebody has changed one there."""
    editions.stop_where_worked_in(folder / "source")
    for path in paths:
        assignment = folder / "source" / path.stem
        assignment.mkdir(parents=True, exist_ok=True)
        nbformat.write(editions.student(path), assignment / path.name)
    shutil.copy(CONFIG, folder / CONFIG.name)


if __name__ == "__main__":
    place = Path(sys.argv[1]) if sys.argv[1:] else ROOT / "nbgrader"
    write(place)
    print(f"Wrote {len(NOTEBOOKS)} assignments into {place / 'source'}")
