"""Add a chapter from the template, and renumber the chapters after it.

    python -m tools.course.new_chapter which_lens --after 02  # make chapter NAME=… AFTER=02
    python -m tools.course.new_chapter which_lens             # make chapter NAME=…: it comes last

The new notebook (from `template.ipynb`) has all that tests/test_notebooks.py asks of a chapter;
what is still to be written in it says TODO, and `make test` fails until none is left. The table of
contents and the page of notes for teachers get an entry.

The number of a chapter is that of its file. Wherever else it is written, it is rewritten here:
stems such as 07_deriving_2d_rope, "chapter 7" and "chapters 3 to 5" in prose and comments, the
catalogue of claims, and tables with a column "chapters".
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

from tools.site import sync

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = Path(__file__).with_name("template.ipynb")
SUFFIXES = {"", ".cfg", ".csv", ".ipynb", ".js", ".json", ".md", ".py", ".toml", ".yaml", ".yml"}
# Invented chapters of its own; organisms and what they were made from.
EXCEPT = ("tests/test_new_chapter.py", "tools/course/new_chapter.py", "data/models/")

STEM = re.compile(r"[0-9]{2}_[a-z][a-z0-9]*(_[a-z0-9]+)*")
NUMBER = re.compile(r"[0-9]+")
# Between words of a sentence, which may go on in the next line of a page, of a comment or of a
# notebook's JSON.
GAP = r'(?:&nbsp;| |\n[ #>]*|\\n",\n\s*")'
AND = (
    rf"(?:,?{GAP}(?:and|or|to){GAP}|,{GAP}|–|-|{GAP}(?=[0-9]{{2}}\b))"  # the last: --chapters 07 08
)
MENTION = re.compile(
    rf"\b[Cc]hapters{GAP}[0-9]{{1,2}}\b(?:{AND}[0-9]{{1,2}}\b)*|\b[Cc]hapter{GAP}[0-9]{{1,2}}\b"
)
# In code that compares: claim["chapter"] == 12, in Python and in a notebook's JSON.
COMPARED = re.compile(r'(?<=\["chapter"\] == )[0-9]+|(?<=\[\\"chapter\\"\] == )[0-9]+')
# Where the number of a chapter stands without the word in front of it.
ALONE = {
    "lib/whatwhere/book/catalogue.json": re.compile(r'(?<="chapter": )[0-9]+'),
    "lib/whatwhere/book/rehearsal/itinerary.py": re.compile(
        r'(?<=^        \()[0-9]+(?=, ")', re.MULTILINE
    ),
}
NOTES = """## Chapter {number}: {title}

[Read it](../notebooks/{stem}.ipynb).

**Misconceptions, and what dispels them.**

- *"TODO: what a reader may believe before, or after."* TODO: where the chapter shows otherwise.

**In a short course, skip** TODO. **But keep** the prediction before the control.

**What the outputs should look like.**

- TODO: each figure and table, without numbers.

**A project.** TODO: a question beyond the chapter, how to start, its control, and what would be a finding. About 8 hours.

"""


def add(name: str, after: str | None = None, root: Path = ROOT) -> Path:
    """Write the new chapter and renumber those after it.

    Args:
        name: the chapter's name, without a number, such as "which_lens".
        after: the number of the chapter before it, such as "02"; None for the last one.
        root: the book, a git repository.

    Returns:
        The new notebook.

    Raises:
        ValueError: for a name that cannot be one, or is one already; for an `after` that is no
            chapter; where files that would be rewritten hold changes that are not committed. Then
            nothing is written.
    """
    stems = sorted(path.stem for path in (root / "notebooks").glob("*.ipynb"))
    if not STEM.fullmatch(f"00_{name}"):
        raise ValueError(
            "A chapter's name is of small letters, digits and underscores, such as which_lens, "
            f"not {name!r}."
        )
    if name in [stem[3:] for stem in stems]:
        raise ValueError(f"There is a chapter '{name}' already: choose another name.")
    known = {int(stem[:2]): stem for stem in stems}
    before = max(known) if after is None else int(after) if NUMBER.fullmatch(after) else 0
    if before not in known:
        raise ValueError(
            f"There is no chapter {after!r} to come after: AFTER is one of "
            f"{', '.join(s[:2] for s in stems)}."
        )
    numbers = {number: number + 1 for number in known if number > before}
    renamed = {known[number]: f"{number + 1:02d}{known[number][2:]}" for number in numbers}

    number, stem = before + 1, f"{before + 1:02d}_{name}"
    texts = {path: path.read_bytes().decode("utf-8") for path in _files(root)}
    changed = {
        path: renumbered(text, renamed, path.relative_to(root).as_posix())
        for path, text in texts.items()
    }
    contents, notes = root / "_toc.yml", root / "book" / "teaching_notes.md"
    changed[contents] = _with_entry(changed[contents], known[before], stem)
    title = name.replace("_", " ").capitalize()
    changed[notes] = _with_section(
        changed[notes], NOTES.format(number=number, stem=stem, title=title), number + 1
    )
    changed = {path: text for path, text in changed.items() if text != texts[path]}
    moved = {
        path: path.with_name(renamed[path.stem] + path.suffix)
        for path in texts
        if path.stem in renamed
    }
    _refuse_uncommitted(root, [*changed, *moved])

    for path, text in changed.items():
        path.write_bytes(text.encode("utf-8"))
    for path, new in moved.items():
        path.rename(new)
    new = root / "notebooks" / f"{stem}.ipynb"
    new.write_text(_chapter(new.name, title, known[before], root), encoding="utf-8")
    return new


def renumbered(text: str, renamed: dict[str, str], name: str = "") -> str:
    """The text with new numbers wherever it speaks of a chapter.

    Args:
        text: of a page, a notebook's JSON, code or data.
        renamed: {old stem: new stem} of the chapters that move.
        name: of the file, relative to the root: some have numbers that stand without the word
            "chapter".
    """
    if not renamed:
        return text
    numbers = {int(old[:2]): int(new[:2]) for old, new in renamed.items()}

    def renumber(match):
        def put(digits):
            new = numbers.get(int(digits[0]))
            return (
                digits[0] if new is None else str(new).zfill(2 if digits[0].startswith("0") else 1)
            )

        return NUMBER.sub(put, match[0])

    text = re.sub(rf"\b(?:{'|'.join(renamed)})\b", lambda match: renamed[match[0]], text)
    text = COMPARED.sub(renumber, MENTION.sub(renumber, text))
    if name in ALONE:
        text = ALONE[name].sub(renumber, text)
    return _columns(text, renumber) if name.endswith(".md") else text


def _columns(text, renumber):
    """The text with the columns of its tables that are headed "chapter" or "chapters"
    renumbered."""
    lines, here = text.split("\n"), None
    for n, line in enumerate(lines):
        cells = re.split(r"(?<!\\)\|", line)
        if not line.startswith("|"):
            here = None
        elif here is None:
            here = [k for k, cell in enumerate(cells) if cell.strip() in ("chapter", "chapters")]
        else:
            for k in here:
                cells[k] = re.sub(r"^[0-9, ]+$", renumber, cells[k])
            lines[n] = "|".join(cells)
    return "\n".join(lines)


def _with_entry(contents, before, stem):
    """The table of contents with the new chapter after the one before it."""
    return re.sub(
        rf"^(.*notebooks/){before}\n", rf"\g<0>\g<1>{stem}\n", contents, flags=re.MULTILINE
    )


def _with_section(notes, section, following):
    """The notes with a section before that of the following chapter, or at the end."""
    heading = re.search(rf"^## Chapter {following}\b", notes, re.MULTILINE)
    if heading:
        return notes[: heading.start()] + section + notes[heading.start() :]
    return notes.rstrip("\n") + "\n\n" + section.rstrip("\n") + "\n"


def _chapter(file, title, previous, root):
    """The template as the notebook of this file."""
    notebook = json.loads(TEMPLATE.read_text(encoding="utf-8"))
    first = json.loads((root / "notebooks" / f"{previous}.ipynb").read_text(encoding="utf-8"))[
        "cells"
    ][0]["source"]
    words = {
        "title": title,
        "previous": f"{previous}.ipynb",
        "previous_title": first[0].removeprefix("# ").strip(),
    }
    source = "".join(notebook["cells"][0]["source"])
    for word, said in words.items():
        source = source.replace(f"{{{word}}}", said)
    notebook["cells"][0]["source"] = source.splitlines(keepends=True)
    notebook = sync.synced(notebook, file, *sync.address(root))
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def _git(root, *arguments):
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        said = (getattr(error, "stderr", "") or str(error)).strip()
        raise ValueError(
            f"A chapter is added in a git repository, but git says of '{root}': {said}"
        ) from error
    return [name for name in done.stdout.split("\0") if name]


def _files(root):
    """The text files in which a chapter may be mentioned."""
    names = _git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    paths = [root / name for name in names if not name.startswith(EXCEPT) and "/katex/" not in name]
    return [path for path in dict.fromkeys(paths) if path.suffix in SUFFIXES and path.is_file()]


def _refuse_uncommitted(root, paths):
    names = {path.relative_to(root).as_posix() for path in paths}
    states = _git(root, "status", "--porcelain", "-z", "--untracked-files=all", "--no-renames")
    unsaved = sorted(names & {state[3:] for state in states})
    if unsaved:
        raise ValueError(
            "Changes that are not committed would be mixed with new numbers, in "
            f"{', '.join(unsaved[:5])}{', …' if len(unsaved) > 5 else ''}: commit them first, so "
            "that the renumbering can be taken back."
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Add a chapter from the template, and renumber those after it."
    )
    parser.add_argument("name", nargs="?", help="such as which_lens")
    parser.add_argument(
        "--after", metavar="NN", help="the chapter before it, such as 02; by default it comes last"
    )
    asked = parser.parse_args()
    try:
        new = add(asked.name, asked.after or None)
    except ValueError as error:
        sys.exit(str(error))
    print(
        f"Wrote {new.relative_to(ROOT)}, an entry in _toc.yml and a section in "
        "book/teaching_notes.md;"
    )
    print(
        "git diff shows what was renumbered. What is still to be written says TODO: make test "
        "finds it."
    )


if __name__ == "__main__":
    main()
