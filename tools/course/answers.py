"""Worked answers to the open exercises, for the instructor's edition only: one very good, one poor,
with marks.

    python -m tools.course.answers [chapter …]      # make instructor: run them, into _build/answers

`tools/course/answers/<chapter without its number>.md` holds, for each exercise that a person marks,

    # The exercise's title
    ## Very good
    prose, and ```python blocks
    ### Marks
    - 2 of 2: a sentence for each line of the rubric, in its order
    ## Poor
    …

Code runs, so that no number is typed: what it prints is shown below it. It may use the names of its
chapter. A whole chapter takes minutes, so only those of its statements run that define what the
answer uses, and what these use in turn.
"""

import ast
import builtins
import hashlib
import json
import os
import re
import symtable
import sys
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import v4

from tools.course.chapters import NOTEBOOKS, ROOT, chosen, exercises, read, tags

FOLDER = Path(__file__).with_name("answers")
STORE = ROOT / "_build" / "answers"
TIMEOUT = 300  # seconds a cell may take
GRADES = ("Very good", "Poor")
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = re.compile(r"^- (\d+) of (\d+): ", re.MULTILINE)
CHANGES = ("append", "extend", "update", "add", "insert")  # methods that fill a list, dict or set


@dataclass(frozen=True)
class Answer:
    """`title`: of its exercise. `grade`: "Very good" or "Poor". `text`: Markdown with code blocks.
    `marks`: Markdown, a line for each of the rubric's."""

    title: str
    grade: str
    text: str
    marks: str

    @property
    def points(self):
        return sum(int(got) for got, _ in MARK.findall(self.marks))

    @property
    def code(self):
        return BLOCK.findall(self.text)

    def cells(self):
        """The answer as cells: prose, code, prose …"""
        parts = BLOCK.split(self.text)
        made = []
        for n, part in enumerate(parts):
            if part.strip():
                make = v4.new_code_cell if n % 2 else v4.new_markdown_cell
                made.append(make(part.strip(), metadata={"tags": ["answer"]}))
        return made


def written(path):
    """The answers to a chapter's exercises: a list of `Answer`s, two for each exercise."""
    file = FOLDER / f"{path.stem[3:]}.md"
    if not file.is_file():
        return []
    found = []
    # a comment in a code block is no heading
    text = BLOCK.sub(lambda match: match[0].replace("\n#", "\n\0"), file.read_text("utf-8"))
    for title, part in _sections(text, "#"):
        for grade, answer in _sections(part, "##"):
            body, marks = answer.split("### Marks\n")
            found.append(Answer(title, grade, body.replace("\0", "#").strip(), marks.strip()))
    return found


def _sections(text, mark):
    parts = re.split(rf"^{mark} (.+)$", text, flags=re.MULTILINE)[1:]
    return list(zip([part.strip() for part in parts[::2]], parts[1::2]))


def names(code):
    """(names that the code gives a value or changes, names of others that it uses)."""
    top = symtable.symtable(code, "cell", "exec")
    given = {
        each.get_name() for each in top.get_symbols() if each.is_assigned() or each.is_imported()
    }
    used = {each.get_name() for each in top.get_symbols() if each.is_referenced()}

    def inner(table):
        for child in table.get_children():
            used.update(each.get_name() for each in child.get_symbols() if each.is_global())
            inner(child)

    inner(top)
    for node in ast.walk(ast.parse(code)):
        target = None
        if isinstance(node, (ast.Subscript, ast.Attribute)) and isinstance(node.ctx, ast.Store):
            target = node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            target = node.func.value if node.func.attr in CHANGES else None
        if isinstance(target, ast.Name) and target.id in used:
            given.add(target.id)
    return given, used - set(dir(builtins))


def statements(path):
    """The statements of a chapter before its exercises, in order, as text."""
    found = []
    for cell in read(path).cells:
        if cell.source.startswith("## Exercises"):
            break
        if cell.cell_type == "code" and "setup" not in tags(cell):
            code = re.sub(r"^[%!].*$", "", cell.source, flags=re.MULTILINE)
            lines = code.splitlines()
            for part in ast.parse(
                code
            ).body:  # decorators stand before the first line of a function
                first = min([part.lineno, *(d.lineno for d in getattr(part, "decorator_list", []))])
                whole = first < part.lineno or part.col_offset == 0
                text = "\n".join(lines[first - 1 : part.end_lineno]) if whole else None
                found.append(text or ast.get_source_segment(code, part))
    return found


def needed(path, code):
    """(the statements of the chapter that the code rests on, names that nobody gives a value)."""
    parts = [(text, *names(text)) for text in statements(path)]
    own, wanted = names(code)
    wanted, kept, count = wanted - own, set(), -1
    while count != len(kept):
        count = len(kept)
        for n, (_, given, used) in enumerate(parts):
            if given & wanted:
                kept.add(n)
                wanted |= used
    given = set().union(own, *(parts[n][1] for n in kept))
    return [parts[n][0] for n in sorted(kept)], sorted(wanted - given)


def digest(path, answers):
    """What the outputs of a chapter's answers depend on: their code, the chapter's, the package."""
    code = [block for answer in answers for block in answer.code]
    library = sorted((ROOT / "lib" / "whatwhere").rglob("*.py"))
    parts = [
        *code,
        *needed(path, "\n".join(code))[0],
        *(file.read_text("utf-8") for file in library),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def outputs(path, answers, store=STORE):
    """{code block: its outputs}, of the last run of these very answers; else empty."""
    file = store / f"{path.stem[3:]}.json"
    if not file.is_file():
        return {}
    kept = json.loads(file.read_text("utf-8"))
    if kept["digest"] != digest(path, answers):
        return {}
    return {code: [nbformat.from_dict(each) for each in got] for code, got in kept["outputs"]}


def run(path, answers, store=STORE):
    """Run a chapter's answers, each in a kernel of its own, and keep their outputs.

    Raises CellExecutionError where a cell fails, and NameError where nothing defines a name.
    """
    ran, place = [], {"metadata": {"path": str(ROOT / "notebooks")}}
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    for answer in answers:
        if not answer.code:
            continue
        before, missing = needed(path, "\n".join(answer.code))
        if missing:
            raise NameError(f"{path.stem}, {answer.title}: nothing defines {', '.join(missing)}")
        first = v4.new_code_cell("\n".join(before))
        cells = [first, *(v4.new_code_cell(code) for code in answer.code)]
        client = NotebookClient(v4.new_notebook(cells=cells), timeout=TIMEOUT, resources=place)
        client.execute(env=environment | {"TQDM_DISABLE": "1"})
        ran += [[code, cell.outputs] for code, cell in zip(answer.code, cells[1:])]
    store.mkdir(parents=True, exist_ok=True)
    kept = {"digest": digest(path, answers), "outputs": ran}
    (store / f"{path.stem[3:]}.json").write_text(json.dumps(kept), encoding="utf-8")


def cells(path, title):
    """What the instructor's edition shows below an exercise."""
    answers = [each for each in written(path) if each.title == title]
    done, made = outputs(path, written(path)), []
    for answer in answers:
        made.append(
            v4.new_markdown_cell(
                f"#### A worked answer: {answer.grade.lower()}, {answer.points} of 10"
            )
        )
        for cell in answer.cells():
            if cell.cell_type == "code":
                cell.outputs = done.get(cell.source + "\n", [])
            made.append(cell)
        made.append(v4.new_markdown_cell(f"**Marks**\n\n{answer.marks}"))
    return made


def marked_by_hand(path):
    """The exercises of a chapter that need worked answers: those with a rubric."""
    return [
        each
        for each in exercises(read(path))
        if "What a good answer holds" in (each["answer"] or "")
    ]


def main(paths=NOTEBOOKS):
    failed = False
    for path in paths:
        answers = written(path)
        if answers and not outputs(path, answers):
            try:
                run(path, answers)
                print(f"{path.stem}: worked answers run", flush=True)
            except (CellExecutionError, NameError) as error:
                print(f"{path.stem}: a worked answer failed\n{error}", flush=True)
                failed = True
    return failed


if __name__ == "__main__":
    sys.exit(main(chosen(sys.argv[1:])))
