"""Make slides of the chapters: one file a chapter, from the same executions as the book.

    python -m tools.course.slides [chapter …]       # make slides: into _build/slides

Which parts of a chapter become slides is decided by its form, so a chapter that is rewritten needs
nothing done here:

    heading "## …"                        a slide with the first two sentences below it
    "**Your prediction.** …", a rule      a slide of its own, before the numbers
    display formula                       a slide
    sentences in bold                     one slide a cell: what to remember
    each figure, each table               a slide
    what a cell says in Markdown          a slide: the number, or the verdict
    a single short function               a slide of code; other code stays in the notebook
    each quiz question                    a slide; the right answer is in the speaker notes
    exercises                             one slide with the list

A cell's metadata can overrule this, as in Jupyter's own slides: {"slideshow": {"slide_type":
"skip"}} leaves the cell out, "slide" shows it, code included. The rest of the prose, and what the
notes for teachers say of a section, go into the speaker notes (key S).

A deck is one file that needs no network: nbconvert's exporter with a template and a copy of
reveal.js of our own (`tools/course/deck`, version 5.2.1, MIT licence). Its own template loads six
scripts from afar. A package from npm or PyPI at build time would be one more thing to install, for
235 kB that never change.
"""

import ast
import base64
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

from nbconvert.exporters import SlidesExporter
from nbformat import v4

from tools.course import editions, execute
from tools.course.chapters import NOTEBOOKS, ROOT, chosen, exercises, label, tags
from tools.course.quizzes import quiz
from tools.site import sync
from tools.site.maths import Setter

OUT = ROOT / "_build" / "slides"
DECK = Path(__file__).with_name("deck")  # a template of nbconvert, too
KATEX = ROOT / "book" / "_static" / "katex"
LEFT_OUT = ("The ledger", "References")  # sections that a room does not read
SENTENCE_END = re.compile(r"(?<=[.?!])(?<!e\.g\.)(?<!i\.e\.)\s+(?=[A-Z*`$\"(])")
ANNOUNCED = re.compile(
    r"^(?:>\s*)?\*\*[^*]*\b(predict|prediction|rules?)\b[^*]*\*\*", re.IGNORECASE
)
BOLD = re.compile(r"\*\*([^*]+[.?!:])\*\*")
FORMULA = re.compile(r"\$\$(.+?)\$\$", re.DOTALL)
MATHS = re.compile(r"(```.*?```|`[^`\n]+`)|\$\$(.+?)\$\$|(?<!\\)\$([^$\n]+?)\$", re.DOTALL)
CHAPTER_LINK = re.compile(r"\]\((\d\d_[a-z0-9_]+)\.ipynb(#[^)]*)?\)")
LINES = 14  # of a function on a slide


@dataclass
class Slide:
    """`kind`: what made it a slide. `text`: Markdown. `outputs`: of an executed cell. `notes`:
    paragraphs for the speaker. `new`: whether a section begins here."""

    kind: str
    text: str
    outputs: list = field(default_factory=list)
    notes: list = field(default_factory=list)
    new: bool = False


def paragraphs(markdown):
    """The blocks of a Markdown text: split at blank lines, but not in fences and formulas."""
    blocks, inside = [""], False
    for line in markdown.splitlines():
        inside ^= line.lstrip().startswith("```") or line.count("$$") % 2 == 1
        if not line.strip() and not inside:
            blocks.append("")
        else:
            blocks[-1] += line + "\n"
    return [block.strip() for block in blocks if block.strip()]


def sentences(text):
    return SENTENCE_END.split(" ".join(text.split()))


def opening(text, words=45):
    """The first sentence, and the second where both are short."""
    first, *more = sentences(text)
    both = " ".join([first, *more[:1]])
    return both if len(both.split()) <= words else first


def remembered(text):
    """Sentences in bold, each with the one after it: a text's own summary. Bold terms are none."""
    found = []
    for match in BOLD.finditer(" ".join(text.split())):
        if len(match[1].split()) >= 3:
            after = sentences(match.string[match.end() :].strip() or "")[0]
            found.append(f"**{match[1]}** {after if len(after.split()) <= 30 else ''}".strip())
    return found


def one_function(code):
    """Whether a cell is one short function with a sentence on what it does."""
    try:
        body = ast.parse(code).body
    except SyntaxError:  # a magic of Jupyter's
        return False
    lines = code.strip().splitlines()
    short = len(lines) <= LINES and max(map(len, lines), default=0) <= 80
    return (
        short
        and len(body) == 1
        and isinstance(body[0], ast.FunctionDef)
        and ast.get_docstring(body[0]) is not None
    )


def shown(output):
    """What an output is on a slide: "figure", "table", "said", "formula", or None."""
    data = output.get("data", {})
    page = "".join(data.get("text/html", ""))
    if "image/png" in data or re.search(r"<(img|svg|figure|canvas)\b", page):
        return "figure"
    if "<table" in page:
        return "table"
    return "said" if "text/markdown" in data else "formula" if "text/latex" in data else None


def of_code(cell, heading, wanted):
    """The slides of a code cell."""
    found, gathered = [], {"said": [], "formula": []}
    if wanted or (one_function(cell.source) and "hide-input" not in tags(cell)):
        found.append(Slide("code", f"### {heading}\n\n```python\n{cell.source.strip()}\n```"))
    for output in cell.get("outputs", []):
        kind = shown(output)
        if kind in ("figure", "table"):
            found.append(Slide(kind, f"### {heading}", outputs=[output]))
        elif kind:
            data = output.data["text/markdown" if kind == "said" else "text/latex"]
            gathered[kind].append("".join(data).replace(r"\displaystyle ", ""))
    for kind, texts in gathered.items():
        for start in range(0, len(texts), 3):
            some = "\n\n".join(texts[start : start + 3])
            found.append(Slide(kind, f"### {heading}\n\n{some}"))
    return found


def of_prose(text, heading):
    """The slides of a Markdown cell after its heading, and what is left for the speaker."""
    found, left, before = [], [], ""
    for block in paragraphs(text):
        if ANNOUNCED.match(block):
            quoted = block if block.startswith(">") else "> " + block.replace("\n", "\n> ")
            found.append(Slide("announced", f"### {heading}\n\n{quoted}"))
        elif FORMULA.search(block):
            lead = sentences(before)[-1] if before else ""
            formulas = "\n\n".join(match[0] for match in FORMULA.finditer(block))
            found.append(Slide("formula", f"### {heading}\n\n{lead}\n\n{formulas}"))
            left.append(block)
        else:
            left.append(block)
        before = block
    told = [block for block in left if not block.startswith("- ")]  # a list is its own summary
    keep = [sentence for block in told for sentence in remembered(block)]
    if keep:
        bullets = "\n".join(f"- {sentence}" for sentence in keep[:4])
        found.append(Slide("remember", f"### {heading}\n\n{bullets}"))
    return found, left


def first(cell, notes):
    """The title, and what one learns."""
    title, *_ = cell.source.splitlines()
    learn = [block for block in paragraphs(cell.source) if block.startswith("- ")][:1]
    found = [Slide("title", title, notes=notes, new=True)]
    return found + [
        Slide("learn", "## What you will learn\n\n" + block, new=True) for block in learn
    ]


def by_section(notes):
    """The notes for teachers, taken apart: {heading of a section: what is said of it}, and under ""
    all of it. A note says which section it means by naming it in italics."""
    found = {"": [notes]} if notes else {}
    for block in re.split(r"\n(?=- |\n)", notes):
        said = " ".join(block.replace("**", "").split())
        for heading in re.findall(r"\*([^*]+)\*", said):
            found.setdefault(heading, []).append(said.removeprefix("- "))
    return found


def slides(notebook, notes=""):
    """The slides of an executed chapter. notes: what the notes for teachers say of it."""
    told, heading, section = by_section(notes), "", False
    found = first(notebook.cells[0], told.get("", []))
    for cell in notebook.cells[1:]:
        wanted = cell.metadata.get("slideshow", {}).get("slide_type")
        if cell.cell_type == "markdown" and cell.source.startswith("## Exercises"):
            break
        if wanted == "skip" or "setup" in tags(cell) or cell.source.startswith("## Quiz"):
            continue
        if cell.cell_type == "code":
            found += of_code(cell, heading, wanted in ("slide", "subslide")) if heading else []
            continue
        for part in re.split(r"^(?=## )", cell.source, flags=re.MULTILINE):
            text = part.strip()
            if text.startswith("## "):
                heading, _, text = text.removeprefix("## ").partition("\n")
                section = heading not in LEFT_OUT
                if not section:
                    continue
                lead, bullets = "", [block for block in paragraphs(text) if block.startswith("- ")]
                blocks = [b for b in paragraphs(text) if not ANNOUNCED.match(b) and "$$" not in b]
                if blocks and not blocks[0].startswith(("- ", "#", "|", "```", "<")):
                    lead = opening(blocks[0])
                elif bullets:
                    items = re.split(r"^- ", bullets[0], flags=re.MULTILINE)[1:]
                    lead = "\n".join(f"- {sentences(item)[0]}" for item in items[:5])
                said = told.get(heading, [])
                found.append(Slide("section", f"## {heading}\n\n{lead}", notes=[*said], new=True))
            if section and heading:
                more, left = of_prose(text, heading)
                found[-1].notes += left
                found += more
    return found + last(notebook)


def last(notebook):
    """Quiz, exercises."""
    found = []
    for n, (question, options) in enumerate(quiz(notebook).items()):
        listed = "\n".join(f"{letter}. {text}" for letter, (text, _) in zip("ABCDEF", options))
        listed = re.sub(r"^(\w)\. ", r"- **\1**  ", listed, flags=re.MULTILINE)
        right = [
            f"{letter}: {why}"
            for letter, (_, why) in zip("ABCDEF", options)
            if why.startswith("Yes")
        ]
        text = f"### Quiz\n\n**{question}**\n\n{listed}"
        found.append(Slide("quiz", text, notes=right, new=n == 0))
    rows = []
    for exercise in exercises(notebook):
        kind, difficulty, minutes = label(exercise["text"]) or ("", "", 0)
        rows.append(
            f"{exercise['number']}. **{exercise['title']}** {kind}, {difficulty}, {minutes} min"
        )
    return [*found, Slide("exercises", "## Exercises\n\n" + "\n".join(rows), new=True)]


def deck(found, title):
    """The slides as a notebook that nbconvert's exporter understands."""
    cells = []
    for slide in found:
        kind = {
            "slideshow": {"slide_type": "slide" if slide.new else "subslide"},
            "kind": slide.kind,
        }
        cells.append(v4.new_markdown_cell(linked(slide.text), metadata=kind))
        if slide.outputs:
            same = {"slideshow": {"slide_type": "-"}}
            cells.append(v4.new_code_cell("", outputs=slide.outputs, metadata=same))
        if slide.notes:
            aside = {"slideshow": {"slide_type": "notes"}}
            cells.append(v4.new_markdown_cell(linked("\n\n".join(slide.notes)), metadata=aside))
    return v4.new_notebook(cells=cells, metadata={**sync.METADATA, "title": title})


def linked(text):
    """Links into the book lead to where it is published: a deck lies beside no other page."""
    site = sync.pages(sync.address()[0])
    text = editions.BOOK_LINK.sub(rf"]({site}\1.html\2)", text)
    return CHAPTER_LINK.sub(rf"]({site}notebooks/\1.html\2)", text)


def set_maths(notebook):
    """Put a mark where a formula stands, and return {mark: the formula's HTML}."""
    marks, setter = {}, Setter()

    def mark(match):
        if match[1]:  # code
            return match[0]
        latex = (match[2] or match[3]).strip()
        name = f"FORMULA{len(marks)}END"
        marks[name] = setter.html(latex, display=match[2] is not None)
        return name

    try:
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = MATHS.sub(mark, cell.source)
    finally:
        setter.close()
    return marks


def katex_style():
    """KaTeX's style sheet with its fonts inside."""

    def inside(match):
        font = base64.b64encode((KATEX / match[1]).read_bytes()).decode()
        return f'src:url(data:font/woff2;base64,{font}) format("woff2")'

    style = (KATEX / "katex.min.css").read_text(encoding="utf-8")
    return re.sub(r"src:url\((fonts/[\w-]+\.woff2)\)[^}]*?(?=[;}])", inside, style)


def page(notebook):
    """The deck as HTML, whole in itself."""
    marks = set_maths(notebook)

    def text(name):
        return (DECK / name).read_text(encoding="utf-8")

    styles = [text("reveal.css"), *([katex_style()] if marks else []), text("deck.css")]
    scripts = [text(name).replace("</script", r"<\/script") for name in ("reveal.js", "notes.js")]
    exporter = SlidesExporter(
        template_name=DECK.name,
        extra_template_basedirs=[str(DECK.parent)],
        exclude_input=True,
    )
    html, _ = exporter.from_notebook_node(
        notebook, {"deck": {"styles": styles, "scripts": scripts}}
    )
    return re.sub(r"FORMULA\d+END", lambda match: marks[match[0]], html)


def write(path, notebook, notes="", folder=OUT):
    """The deck of one chapter. Returns its file."""
    title = notebook.cells[0].source.splitlines()[0].lstrip("# ")
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{path.stem}.html"
    file.write_text(page(deck(slides(notebook, notes), title)), encoding="utf-8")
    return file


def main(paths=NOTEBOOKS):
    failed = execute.ensure(paths)
    for path in paths:
        done = execute.kept(path)
        if path in failed or done is None:
            print(f"No slides for {path.stem}: it could not be executed. See make book.")
            continue
        file = write(path, done.notebook, editions.notes_on(path))
        print(f"{file.relative_to(ROOT)}, {file.stat().st_size / 1e6:.1f} MB", flush=True)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(chosen(sys.argv[1:])))
