"""What our Sphinx extensions make of a page: formulas are set, first uses are linked."""

import json
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from sphinx.application import Sphinx

from tools.site import first_use, maths

ROOT = Path(__file__).parents[1]
PAGES = [
    *sorted((ROOT / "book").glob("*.md")),
    *sorted((ROOT / "notebooks").glob("*.ipynb")),
    ROOT / "README.md",
]
CONF = """
import sys
sys.path.insert(0, {tools!r})
extensions = ["myst_parser", "tools.site.maths", "tools.site.first_use"]
myst_enable_extensions = ["dollarmath", "amsmath"]
html_math_renderer = "katex"
html_theme = "basic"
"""
GLOSSARY = """# Glossary

```{glossary}
patch
  A small square.

logit lens
  Reads words off patches.

lens
  Something else.

step (of steering)
  A vector.
```
"""
NOTATION = """# Notation

| symbol | meaning |
|---|---|
| $N_V = h\\,w$ | number of visual tokens |
| $m$, $n$ | distances |
| $\\theta_i$ | an angle $\\theta$ |

| symbol | chapters | meaning there |
|---|---|---|
| $m$ | 1, 12 | a mass |
| $n$ | 12 | a number |
"""
CHAPTER = """# A patch

A `patch` is not linked in code; Patches are, and a patch is not again.
The [patch](https://example.org) and the LOGIT LENS, dispatched.
A step is any step.

$$
N_V = 3
$$

Then $N_V$ and $m = 4$ and $n$ and $N_V$ and $\\theta_i$ and $z$.
"""


def build(folder, chapter=CHAPTER):
    """(the built chapter, what Sphinx warned of)"""
    from io import StringIO

    for name, text in (
        ("book/glossary", GLOSSARY),
        ("book/notation", NOTATION),
        ("notebooks/01_a", chapter),
    ):
        path = folder / f"{name}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "index.md").write_text(
        "# I\n\n```{toctree}\nbook/glossary\nbook/notation\nnotebooks/01_a\n```\n"
    )
    (folder / "conf.py").write_text(CONF.format(tools=str(maths.SCRIPT.parents[3])))
    warned = StringIO()
    Sphinx(
        folder, folder, folder / "out", folder / "trees", "html", status=None, warning=warned
    ).build()
    return BeautifulSoup(
        (folder / "out/notebooks/01_a.html").read_text(), "html.parser"
    ), warned.getvalue()


def test_a_first_use_leads_to_its_meaning_and_a_second_does_not(tmp_path):
    page, warned = build(tmp_path)
    assert not warned
    links = [(a.get_text(), a["href"], a.get("title")) for a in page.select("a.ww-first-use")]
    assert [(text, href, said) for text, href, said in links if "glossary" in href] == [
        ("Patches", "../book/glossary.html#term-patch", "A small square."),
        ("LOGIT LENS", "../book/glossary.html#term-logit-lens", "Reads words off patches."),
    ]
    symbols = [(href, said) for _, href, said in links if "notation" in href]
    assert symbols == [
        ("../book/notation.html#symbol-N-V", "number of visual tokens"),
        ("../book/notation.html#symbol-m-in-1", "a mass"),
        ("../book/notation.html#symbol-n", "distances"),
        ("../book/notation.html#symbol-theta-i", "its meaning, among the symbols"),
    ], "a meaning that holds LaTeX is not for hovering"
    notation = BeautifulSoup((tmp_path / "out/book/notation.html").read_text(), "html.parser")
    assert all(notation.find(id=href.split("#")[1]) for href, _ in symbols)


def test_formulas_are_set_while_the_book_is_built(tmp_path):
    page, _ = build(tmp_path)
    assert (
        len(page.select("span.katex")) == 7 and len(page.select("div.math span.katex-display")) == 1
    )
    assert all(formula.find("annotation") for formula in page.select("math")), (
        "screen readers get MathML"
    )
    assert not page.find_all("script", src=lambda src: src and "mathjax" in src.lower())


def test_a_formula_that_cannot_be_set_is_a_warning(tmp_path):
    page, warned = build(tmp_path, "# A\n\nSee $\\nonsense{x}$.\n")
    assert "01_a.md:3" in warned and "cannot be set" in warned and "nonsense" in warned
    assert page.find("code", string="\\nonsense{x}")


@pytest.mark.parametrize(
    ("latex", "found"),
    [
        ("N_V = h\\,w", "N_V"),
        ("r_A", "r_A"),
        ("(-m, 0)", None),
        ("q k^* = a + b", "qk^*"),
        ("", None),
    ],
)
def test_what_a_formula_introduces(latex, found):
    assert first_use.symbol(latex) == found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_holds_a_note_to_its_editors(page):
    """Such as "(Term to use: …)" or "TODO": they are for those who write, and readers wonder."""
    text = page.read_text(encoding="utf-8")
    notes = re.findall(r"\b(?:TODO|FIXME|XXX)\b|\((?:Terms? to use|Only if)\b[^)]*\)", text)
    assert not notes


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.suffix == ".md"], ids=lambda page: page.name
)
def test_what_a_page_imports_is_there(page):
    """The code of a page is run when the book is built; here is seen at least that its modules have
    not moved."""
    code = "\n".join(
        re.findall(
            r"^```\{code-cell\}.*?\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S
        )
    )
    for start, name in re.findall(
        r"^(?:from ((?:tools|whatwhere)[\w.]*) )?import (\w+(?:\.\w+)*)", code, re.M
    ):
        __import__(start or name, fromlist=[name])
        if start:
            assert hasattr(sys.modules[start], name) or find_spec(f"{start}.{name}"), (
                f"{start} has no {name}"
            )


def test_lent_letters_stand_in_their_chapters():
    """`notation.md` says in which chapters a letter means something else."""
    notation = (ROOT / "book" / "notation.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\$.+?) \| ([\d, ]+) \|", notation, re.MULTILINE)
    assert len(rows) > 5
    for letters, numbers in rows:
        for number in numbers.split(", "):
            (chapter,) = (ROOT / "notebooks").glob(f"{int(number):02}_*.ipynb")
            cells = json.loads(chapter.read_text(encoding="utf-8"))["cells"]
            text = "".join("".join(cell["source"]) for cell in cells)
            for letter in re.findall(r"\$(.+?)\$", letters):
                # in a formula, or written out, as α is
                written = rf"\$[^$]*(?<![A-Za-z\\]){re.escape(letter)}(?![A-Za-z])[^$]*\$"
                plain = {r"\alpha": "α", "p": "p = "}.get(letter, "")
                found = re.search(written, text) or (plain and plain in text)
                assert found, f"{letter} is no letter of chapter {number}"
