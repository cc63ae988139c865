"""Write what stands in one place into everything that quotes it.

    python -m tools.site.sync          # write
    python -m tools.site.sync --check  # only say what differs; the exit code is 1 if anything does

The repository's public address (`repository.url` in _config.yml) goes into the README, the citation
file, pyproject.toml and the how-to-run page, and the address of its pages into the README and
_config.yml; the setup cell and the badge row go into every notebook, and the notebooks' outputs are
removed.
"""

import json
import re
import sys
from pathlib import Path

import yaml

from tools.site import setup_cell

ROOT = Path(__file__).resolve().parents[2]

# file → pattern whose first group is the address
QUOTES = {
    "README.md": r"git clone (\S+?)(?:\.git)?\s",
    "CITATION.cff": r'^repository-code: "(.*)"',
    "pyproject.toml": r'^Repository = "(.*)"',
    "book/how_to_run.md": r"git clone (\S+?)(?:\.git)?\s",
}
# the same for the address under which GitHub publishes the pages
PAGES = {
    "_config.yml": r"^  baseurl: (\S+)",
    "README.md": r"^\[Read the book\]\((\S+)\)",
}
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
HIDDEN = {"hide-input", "hide-cell"}  # bookkeeping, which a reader may open
KEPT = "skip-execution"  # cells whose committed outputs are shown instead of a fresh run


def address(root=ROOT):
    """The repository's public address and branch."""
    repository = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))["repository"]
    return repository["url"].rstrip("/"), repository["branch"]


def pages(url):
    """Where GitHub publishes the pages of a repository."""
    owner, name = url.removeprefix("https://github.com/").split("/")
    return f"https://{owner.lower()}.github.io/{name}/"


def quoted(text, pattern, url):
    """The text with every address that the pattern finds set to url."""

    def put(match):
        start, end = match.span(1)
        whole, offset = match.group(0), match.start()
        return whole[: start - offset] + url + whole[end - offset :]

    return re.sub(pattern, put, text, flags=re.MULTILINE)


def lines(source):
    """A cell's source the way notebooks store it."""
    return source.splitlines(keepends=True)


def synced(notebook, file, url, branch):
    """The notebook as it should be committed."""
    notebook = json.loads(json.dumps(notebook))
    notebook["metadata"] = METADATA
    notebook.update(nbformat=4, nbformat_minor=5)
    for number, cell in enumerate(notebook["cells"], start=1):
        cell.setdefault("id", f"cell-{number}")
        if cell["cell_type"] == "code":
            if "setup" in cell["metadata"].get("tags", []):
                cell["source"] = lines(setup_cell.cell(url, branch))
                cell["metadata"]["tags"] = ["setup", "hide-input"]  # folded in the built page
            if HIDDEN & set(cell["metadata"].get("tags", [])):
                # folded in JupyterLab and on Colab, as it is in the built page
                cell["metadata"]["jupyter"] = {"source_hidden": True}
                cell["metadata"]["cellView"] = "form"
            if KEPT not in cell["metadata"].get("tags", []):
                cell.update(outputs=[], execution_count=None)
            for key in ("execution", "collapsed", "scrolled", "ExecuteTime"):
                cell["metadata"].pop(key, None)
        source = "".join(cell["source"])
        if number == 1:
            row = setup_cell.badges(url, branch, file)
            old = re.search(r"^\[!\[Open in Colab\].*$", source, flags=re.MULTILINE)
            source = source.replace(old.group(0), row) if old else source
        cell["source"] = lines(source)
    return notebook


def plan(root=ROOT):
    """{path: the text it should hold} for every file that quotes something."""
    url, branch = address(root)
    out = {}
    for quotes, text in ((QUOTES, url), (PAGES, pages(url))):
        for name, pattern in quotes.items():
            path = root / name
            out[path] = quoted(out.get(path) or path.read_text(encoding="utf-8"), pattern, text)
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        out[path] = (
            json.dumps(synced(notebook, path.name, url, branch), indent=1, ensure_ascii=False)
            + "\n"
        )
    return out


def main(root=ROOT, check=False):
    differing = [
        path for path, text in plan(root).items() if path.read_text(encoding="utf-8") != text
    ]
    for path in differing:
        print(f"{'differs' if check else 'rewritten'}: {path.relative_to(root)}")
        if not check:
            path.write_text(plan(root)[path], encoding="utf-8")
    if check and differing:
        print("Run make sync.")
    return len(differing) if check else 0


if __name__ == "__main__":
    sys.exit(min(1, main(check="--check" in sys.argv[1:])))
