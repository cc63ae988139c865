"""The first code cell of every notebook and the badge row above it. `make sync` writes both."""

NAME = "what-and-where"

CELL = """\
# Setup. On Colab and Kaggle this fetches the book and its small package,
# and leaves torch and numpy as they are. Elsewhere it does nothing.
import os
import subprocess
import sys

HOSTS = ("COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE")
URL = "{url}"
hosted = any(name in os.environ for name in HOSTS)
if hosted and not os.path.isdir("../lib/whatwhere"):
    book = os.path.abspath("{name}")
    if not os.path.isdir(book):
        clone = ["git", "clone", "--quiet", "--depth", "1"]
        clone += ["--branch", "{branch}", URL, book]
        subprocess.run(clone, check=True)
    colab = f"{{book}}/tools/course/colab.py"
    subprocess.run([sys.executable, colab], check=True)
    sys.path.insert(0, f"{{book}}/lib")
    os.chdir(f"{{book}}/notebooks")"""

BADGE = (
    "[![Open in Colab](../book/_static/colab.svg)]({colab}/blob/{branch}/notebooks/{file}) "
    "[![Source](../book/_static/source.svg)]({url}/blob/{branch}/notebooks/{file})"
)


def cell(url, branch):
    """The setup cell's source."""
    return CELL.format(name=NAME, url=url, branch=branch)


def badges(url, branch, file):
    """The badge row of the notebook `file`, for example 01_meet_the_model.ipynb."""
    colab = url.replace("https://github.com/", "https://colab.research.google.com/github/")
    return BADGE.format(colab=colab, url=url, branch=branch, file=file)
