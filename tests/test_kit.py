"""The course kit: slides, quizzes, worked answers, the plan of the course, cells for nbgrader, marking in a
container. No chapter is executed here."""

import os
import re
import shlex
import stat
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree as ET

import jsonschema
import nbformat
import numpy as np
import pandas as pd
import pytest
from nbformat import v4

from tools.course import (
    answers,
    chapters,
    container,
    course,
    editions,
    nbgrader_course,
    quizzes,
    slides,
)
from whatwhere.book import figures

every_chapter = pytest.mark.parametrize(
    "path", [pytest.param(path, id=path.stem) for path in chapters.NOTEBOOKS]
)

# --- slides ---

FIGURE = v4.new_output(
    "display_data",
    data={"text/html": "<div><img alt='a dot' src='data:image/png;base64,AA=='></div>"},
)
TABLE = v4.new_output("execute_result", data={"text/html": "<table><tr><td>7</td></tr></table>"})
SAID = v4.new_output(
    "display_data", data={"text/markdown": "It is **seven**. By the rule: *reproduced*."}
)
QUIZ = """## Quiz

**1. Which is right?**

<details><summary>The first of these options</summary>

No. It is the second one, as one sees.

</details>
<details><summary>The second of these</summary>

Yes. It says so itself, and nothing else does.

</details>"""


def small_chapter():
    code = [
        v4.new_code_cell("import numpy", metadata={"tags": ["setup"]}),
        v4.new_code_cell("x = 1\nshow(x)", outputs=[FIGURE, TABLE]),
        v4.new_code_cell('def half(x):\n    """Half of it."""\n    return x / 2'),
        v4.new_code_cell("record(7)", outputs=[SAID]),
        v4.new_code_cell("y = 2", metadata={"slideshow": {"slide_type": "slide"}}),
        v4.new_code_cell("z", outputs=[FIGURE], metadata={"slideshow": {"slide_type": "skip"}}),
    ]
    text = [
        "# A trial: seven\n\n**What you will learn**\n\n- to count;\n- to stop.\n\n**Time:** 1 minute",
        "## How many?\n\nWe count. Then we count again. A third sentence is for the speaker.\n\n"
        "> **Your prediction.** Seven?\n\nSo `$5` and $x_1$:\n\n$$x^2 = 49$$",
        "**Seven is the number.** Nobody doubts it. See [notation](../book/notation.md).",
        QUIZ,
        "## Exercises",
        "### Exercise 1: count\n\n*Warm-up · easy · 5 min.*\n\nCount.",
        "## References\n\n- A paper.",
    ]
    made = [v4.new_markdown_cell(each) for each in text]
    return v4.new_notebook(cells=[made[0], code[0], made[1], *code[1:], *made[2:]])


NOTES = '- *"Seven is even."* The figure of *How many?* shows that it is not.\n- Elsewhere.'


def test_what_becomes_a_slide():
    found = slides.slides(small_chapter(), NOTES)
    assert [slide.kind for slide in found] == [
        "title", "learn", "section", "announced", "formula", "figure", "table", "code", "said",
        "code", "remember", "quiz", "exercises",
    ]  # fmt: skip
    by_kind = {slide.kind: slide for slide in found}
    assert by_kind["section"].text == "## How many?\n\nWe count. Then we count again."
    assert by_kind["announced"].text.endswith("> **Your prediction.** Seven?")
    assert by_kind["remember"].text.endswith("- **Seven is the number.** Nobody doubts it.")
    assert "count" in by_kind["exercises"].text and "5 min" in by_kind["exercises"].text
    said = "\n".join(by_kind["section"].notes)
    assert "Seven is even" in said and "A third sentence" in said and "Elsewhere" not in said
    assert by_kind["title"].notes == [NOTES], "the whole of it stands with the title"
    assert "Yes" not in by_kind["quiz"].text and by_kind["quiz"].notes[0].startswith("B: Yes.")


def test_a_deck_is_one_file_that_needs_no_network():
    html = slides.page(slides.deck(slides.slides(small_chapter(), NOTES), "A <trial>"))
    assert "<title>A &lt;trial&gt;: slides</title>" in html
    assert html.count("Reveal.initialize") >= 1 and html.count('class="notes"') >= 2
    assert not re.search(r'<(script|img|link|iframe)[^>]*\b(src|href)="?(https?:)?//', html)
    assert not re.search(r"@import|url\(\s*['\"]?(https?:)?//", html)
    assert "FORMULA" not in html and "<code>$5</code>" in html, "code is no formula"
    assert html.count('class="katex"') == 4, "two formulas, on a slide and in its notes"
    assert "a dot" in html and "x = 1" not in html and "y = 2" in re.sub("<[^>]+>", "", html)
    assert "/book/notation.html" in html and "../book" not in html


def test_figures_fill_their_slides():
    """The deck's style names the class that a figure carries in the book."""
    figure = figures.scene(np.zeros((4, 4, 3), "uint8"))
    html = figures.html(figure, "A black square and nothing else.")
    assert re.search(r'<img class="[^"]*\bww-figure\b', html)
    style = (slides.DECK / "deck.css").read_text(encoding="utf-8")
    assert re.search(r"img\.ww-figure \{ width: 100% !important", style)


def test_a_command_line_names_chapters():
    first, second, *_ = chapters.NOTEBOOKS
    assert chapters.chosen([]) == chapters.NOTEBOOKS
    assert chapters.chosen(["1", "02"]) == [first, second]
    assert chapters.chosen([f"notebooks/{second.name}", first.stem]) == [second, first]
    for name in ("99", "0", "--help"):
        with pytest.raises(SystemExit, match=f"no chapter '{name}'"):
            chapters.chosen(["1", name])


def test_a_deck_without_formulas_has_no_fonts_of_theirs():
    plain = v4.new_notebook(cells=[v4.new_markdown_cell("# Nothing")])
    assert "KaTeX_Main" not in slides.page(slides.deck(slides.slides(plain), "x"))


@every_chapter
def test_a_chapter_makes_a_deck(path):
    """From the notebook as it is: without outputs, and with the notes for teachers."""
    notebook = chapters.read(path)
    found = slides.slides(notebook, editions.notes_on(path))
    kinds = [slide.kind for slide in found]
    assert kinds[:2] == ["title", "learn"] and kinds[-1] == "exercises"
    assert kinds.count("quiz") == len(quizzes.quiz(notebook)) >= 3
    assert kinds.count("section") >= 4 and "announced" in kinds, (
        "a prediction or a rule has a slide"
    )
    for slide in found:
        words = re.sub(r"```.*?```|\$\$.*?\$\$", "", slide.text, flags=re.DOTALL).split()
        assert len(words) <= 160, f"{len(words)} words on one slide:\n{slide.text}"
    assert any(slide.notes for slide in found if slide.kind == "section")


# --- quizzes ---


def test_quizzes_hold_every_question_and_can_be_read(tmp_path):
    count = quizzes.write(tmp_path)
    asked = sum(len(quizzes.quiz(chapters.read(path))) for path in chapters.NOTEBOOKS)
    root = ET.parse(tmp_path / "moodle.xml").getroot()
    questions = root.findall("question[@type='multichoice']")
    assert count == len(questions) == asked
    assert len(root.findall("question[@type='category']")) == len(chapters.NOTEBOOKS)
    assert len({q.findtext("name/text") for q in questions}) == asked
    for question in questions:
        fractions = [answer.get("fraction") for answer in question.findall("answer")]
        assert fractions.count("100") == 1 and set(fractions) == {"0", "100"}
        right = question.find("answer[@fraction='100']")
        assert "Yes." in right.findtext("feedback/text") and right.findtext("text").strip()
        assert "$" not in question.findtext("questiontext/text")
    space = {"p": quizzes.PACKAGE, "q": quizzes.QTI}
    with zipfile.ZipFile(tmp_path / "canvas.zip") as package:
        listed = ET.fromstring(package.read("imsmanifest.xml"))
        files = [each.get("href") for each in listed.findall(".//p:file", space)]
        assert {*files, "imsmanifest.xml"} == set(package.namelist())
        items = [
            i for f in files for i in ET.fromstring(package.read(f)).findall(".//q:item", space)
        ]
    assert len(items) == asked
    for item in items:
        options = {each.get("ident") for each in item.findall(".//q:response_label", space)}
        rules = item.findall(".//q:respcondition", space)
        paid = [rule for rule in rules if rule.find("q:setvar", space) is not None]
        assert (
            len(paid) == 1 and paid[0].findtext("q:conditionvar/q:varequal", None, space) in options
        )
        feedback = {each.get("ident") for each in item.findall("q:itemfeedback", space)}
        assert feedback == {f"{option}_fb" for option in options}


def test_the_same_questions_make_the_same_files(tmp_path):
    for folder in ("one", "two"):
        quizzes.write(tmp_path / folder, chapters.NOTEBOOKS[:1])
    for name in ("moodle.xml", "canvas.zip"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


# --- worked answers ---


@every_chapter
def test_open_exercises_have_two_worked_answers(path):
    written = answers.written(path)
    wanted = {each["title"]: each for each in answers.marked_by_hand(path)}
    assert [(a.title, a.grade) for a in written] == [
        (title, grade) for title in wanted for grade in answers.GRADES
    ], f"answers/{path.stem[3:]}.md has to follow the chapter's titles and order"
    for answer in written:
        rubric = chapters.RUBRIC.search(wanted[answer.title]["answer"])[1]
        points = [int(n) for n in re.findall(r"(\d+)\s*points?\b", rubric)]
        marks = [(int(got), int(of)) for got, of in answers.MARK.findall(answer.marks)]
        assert [of for _, of in marks] == points, (
            f"{answer.title}: a mark for each line of the rubric"
        )
        assert all(got <= of for got, of in marks)
        assert answer.points >= 9 if answer.grade == "Very good" else answer.points <= 3
        if answer.grade == "Very good":
            assert answer.code, f"{answer.title}: numbers come from code"
        for code in answer.code:
            assert max(map(len, code.splitlines())) <= 170
    for answer in written:
        _, missing = answers.needed(path, "\n".join(answer.code))
        assert not missing, f"{path.stem}, {answer.title}: nothing defines {missing}"


@every_chapter
def test_students_do_not_get_them(path):
    student = "\n".join(cell.source for cell in editions.student(path).cells)
    teacher = "\n".join(cell.source for cell in editions.instructor(path).cells)
    assert "worked answer" not in student and "**Marks**" not in student
    for answer in answers.written(path):
        for code in answer.code:
            assert code.strip() not in student and code.strip() in teacher
        assert answer.marks in teacher and answer.marks not in student
    assert "worked answer" in teacher


@pytest.fixture
def answered(tmp_path, monkeypatch):
    """A chapter whose measurement would fail if it were run, and an answer that needs none of it."""
    rubric = (
        "<details><summary>What a good answer holds</summary>\n\n- 10 points: all.\n\n</details>"
    )
    cells = [
        v4.new_code_cell("import math\nbase = 2\nfound = []"),
        v4.new_code_cell("def double(x):\n    return base * math.floor(x)"),
        v4.new_code_cell("found.append(double(4))"),
        v4.new_code_cell("slow = 1 / 0"),
        v4.new_markdown_cell("## Exercises"),
        v4.new_markdown_cell("### Exercise 1: why\n\n*Open · hard · 20 min.*\n\nWhy?"),
        v4.new_markdown_cell(rubric),
    ]
    (tmp_path / "notebooks").mkdir()
    path = tmp_path / "notebooks" / "01_trial.ipynb"
    nbformat.write(v4.new_notebook(cells=cells), path)
    text = "# why\n## Very good\nSo:\n\n```python\n# a comment\nprint(double(3), found)\n```\n\nThus.\n### Marks\n- 10 of 10: yes.\n"
    (tmp_path / "trial.md").write_text(text + "## Poor\nBecause.\n### Marks\n- 1 of 10: no.\n")
    monkeypatch.setattr(answers, "FOLDER", tmp_path)
    monkeypatch.setattr(answers, "ROOT", tmp_path)
    return path


def test_an_answer_runs_on_what_it_needs_of_its_chapter(answered, tmp_path):
    good, poor = answers.written(answered)
    assert good.points == 10 and poor.points == 1 and not poor.code
    before, missing = answers.needed(answered, good.code[0])
    assert "slow = 1 / 0" not in before and "base = 2" in before and not missing
    assert answers.needed(answered, "print(nowhere)")[1] == ["nowhere"]
    store = tmp_path / "store"
    assert answers.outputs(answered, [good, poor], store) == {}
    answers.run(answered, [good, poor], store)
    ((code, (output,)),) = answers.outputs(answered, [good, poor], store).items()
    assert code == good.code[0] and output.text == "6 [8]\n"
    changed = answers.Answer("why", "Very good", good.text.replace("3", "5"), good.marks)
    assert answers.outputs(answered, [changed, poor], store) == {}, "an old number is no number"


def test_decorators_and_classes_come_along(answered):
    notebook = chapters.read(answered)
    notebook.cells[
        1
    ].source = "import functools\n\n@functools.cache\ndef double(x):\n    return 2 * x; y = 3"
    nbformat.write(notebook, answered)
    assert any(text.startswith("@functools.cache") for text in answers.statements(answered))


# --- nbgrader ---

# nbgrader/nbgraderformat/v3.json of nbgrader 0.9.6, without what is only written later
SCHEMA = {
    "type": "object",
    "properties": {
        "schema_version": {"type": "integer", "minimum": 3, "maximum": 3},
        "grade": {"type": "boolean"},
        "locked": {"type": "boolean"},
        "solution": {"type": "boolean"},
        "task": {"type": "boolean"},
        "grade_id": {"type": "string", "pattern": r"^[a-zA-Z0-9_\-]*$"},
        "points": {"type": "number", "minimum": 0},
    },
    "required": ["schema_version", "grade", "locked", "solution"],
    "additionalProperties": False,
}


@every_chapter
def test_cells_are_marked_for_nbgrader(path):
    edition, found = editions.student(path), chapters.exercises(chapters.read(path))
    marked = [cell for cell in edition.cells if "nbgrader" in cell.metadata]
    ids = [cell.metadata.nbgrader.grade_id for cell in marked]
    assert len(set(ids)) == len(ids)
    for cell in marked:
        about = cell.metadata.nbgrader
        jsonschema.validate(about, SCHEMA)
        assert ("points" in about) == about.grade and about.locked != about.solution
        if about.grade and not about.solution:  # nbgrader takes the last value for the points
            assert f"\n{about.points} * bool(checks." in "\n" + cell.source
            assert cell.source.endswith(")  # points")
    due = sum(
        editions.BY_HAND
        if editions.by_hand(each)
        else editions.POINTS[chapters.label(each["text"])[1]]
        for each in found
    )
    assert sum(cell.metadata.nbgrader.get("points", 0) for cell in marked) == due
    by_hand = [
        cell for cell in marked if cell.metadata.nbgrader.grade and cell.metadata.nbgrader.solution
    ]
    assert all(cell.cell_type == "markdown" for cell in by_hand)
    assert len(by_hand) == sum(map(editions.by_hand, found))


@pytest.mark.parametrize("passes, value", [(True, "2"), (False, "0")])
def test_a_check_is_worth_its_points(passes, value, capsys):
    """nbgrader counts what a cell's last line comes to."""
    text = "### Exercise 1: x\n\n*Warm-up · medium · 5 min.*"
    cell = v4.new_code_cell(
        f"def check_it(answer):\n    assert answer == {passes}\n\nexercises.check(check_it, True);"
    )
    editions.graded(cell, "x-1-check", {"text": text, "stub": cell})
    from whatwhere.book import exercises

    body, last = cell.source.rsplit("\n", 1)
    names = {"exercises": exercises}
    exec(body, names)
    assert repr(eval(last, names)) == value and cell.metadata["nbgrader"]["points"] == 2


@pytest.fixture
def for_nbgrader(tmp_path):
    """A course of one small chapter, which needs what lies beside the book's notebooks."""
    exercise = "### Exercise 1: twice\n\n*Warm-up · medium · 2 min.*\n\nDouble."
    cells = [
        v4.new_code_cell(
            "import os\n\n\nclass checks:\n    def double(f):\n"
            "        return f(2) == 4 and os.path.isdir('../data/models')"
        ),
        v4.new_markdown_cell(exercise),
        v4.new_code_cell(
            "example = 3\n\n\ndef double(x):\n    # your code\n    return None",
            metadata={"tags": ["exercise"], "exercise": 1},
        ),
        v4.new_code_cell("checks.double(double)", metadata={"tags": ["check"]}),
    ]
    notebook = v4.new_notebook(
        cells=[v4.new_markdown_cell("# A trial\n\n[![Open in Colab](x)](y)"), *cells],
        metadata={"kernelspec": {"name": "python3", "display_name": "x", "language": "python"}},
    )
    path = tmp_path / "01_trial.ipynb"
    nbformat.write(notebook, path)
    nbgrader_course.write(tmp_path / "course", [path])
    return tmp_path / "course", path


def test_a_course_for_nbgrader_is_laid_out(for_nbgrader):
    folder, path = for_nbgrader
    source = folder / "source" / "01_trial" / "01_trial.ipynb"
    assert (folder / "nbgrader_config.py").read_bytes() == nbgrader_course.CONFIG.read_bytes()
    ids = [cell.metadata.nbgrader.grade_id for cell in chapters.read(source).cells[3:]]
    assert ids == ["trial-1-answer", "trial-1-check"]
    nbgrader_course.write(folder, [path])
    changed = chapters.read(source)
    del changed.cells[2:]
    nbformat.write(changed, source)
    with pytest.raises(SystemExit, match="someone has worked in 01_trial.ipynb"):
        nbgrader_course.write(folder, [path])
    assert len(chapters.read(source).cells) == 2


def test_the_settings_for_nbgrader(monkeypatch):
    monkeypatch.setattr(os, "environ", {})
    parts = ("CourseDirectory", "ClearSolutions", "Execute")
    c = SimpleNamespace(**{name: SimpleNamespace() for name in parts})
    code = nbgrader_course.CONFIG.read_text(encoding="utf-8")
    exec(code, {"get_config": lambda: c})
    assert c.ClearSolutions.enabled is False and c.Execute.timeout >= 600
    (start,) = c.Execute.extra_arguments
    assert repr(str(chapters.ROOT / "notebooks")) in start
    assert Path(os.environ["WHATWHERE_CLAIMS"]).is_dir(), "no claim of the book is written anew"


def test_nbgrader_hands_out_and_marks(for_nbgrader):
    """With nbgrader itself, where it is installed: it is not among the book's own packages."""
    pytest.importorskip("nbgrader")
    from nbgrader.api import Gradebook

    folder, path = for_nbgrader

    def nbgrader(what):
        asked = [sys.executable, "-m", "nbgrader", what, "01_trial"]
        beside = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        done = subprocess.run(
            asked, cwd=folder, capture_output=True, text=True, env=os.environ | {"PATH": beside}
        )
        assert done.returncode == 0, done.stderr

    nbgrader("generate_assignment")
    right = "import warnings\n\n\ndef double(x):\n    warnings.warn('large')\n    return 2 * x"
    for who, answer in {"ada": right, "bob": None}.items():
        notebook = chapters.read(folder / "release" / "01_trial" / path.name)
        assert notebook.cells[3].source.endswith("# your code\n    return None"), (
            "the stub is whole"
        )
        notebook.cells[3].source = answer or notebook.cells[3].source
        place = folder / "submitted" / who / "01_trial"
        place.mkdir(parents=True)
        nbformat.write(notebook, place / path.name)
    nbgrader("autograde")
    nbgrader("generate_feedback")
    with Gradebook(f"sqlite:///{folder}/gradebook.db") as book:
        points = {who: book.find_submission("01_trial", who).score for who in ("ada", "bob")}
    assert points == {"ada": 2, "bob": 0}
    assert len(list(folder.glob("feedback/*/01_trial/*.html"))) == 2


# --- the plan of the course ---


def test_the_plan_adds_up():
    plan = course.load()
    assert len(plan["weeks"]) == 4
    for week in plan["weeks"]:
        assert len(week["meetings"]) == 2 and week["milestone"] and week["project"]
        for meeting in week["meetings"]:
            assert sum(minutes for minutes, _ in meeting["plan"]) == plan["minutes"], meeting[
                "title"
            ]
    assert sum(points for points, *_ in plan["grading"]["parts"]) == 100
    limits = [least for least, *_ in plan["grading"]["grades"]]
    assert limits == sorted(limits, reverse=True) and limits[-1] == 0


def test_the_plan_names_chapters_and_no_numbers():
    text = course.FILE.read_text(encoding="utf-8")
    for name in re.findall(course.NAME, text.split("minutes:", 1)[1]):
        assert course.chapter(name)
    for week in course.load()["weeks"]:
        for meeting in week["meetings"]:
            assert all(map(course.chapter, meeting["chapters"]))
    assert not re.search(r"[Cc]hapter \d", text)
    with pytest.raises(KeyError, match="names a chapter 'nowhere'"):
        course.said("See {nowhere}.")


def test_the_third_week_is_the_lightest():
    """Fewest minutes of reading, by the chapters' own word."""

    def reading(week):
        names = {name for meeting in week["meetings"] for name in meeting["chapters"]}
        heads = [chapters.read(course.chapter(name)).cells[0].source for name in names]
        return sum(int(re.search(r"\*\*Time:\*\* (\d+)", head)[1]) for head in heads)

    weeks = course.load()["weeks"]
    assert len(re.findall(course.NAME, weeks[2]["hand_in"])) == 2, "little is handed in"
    assert "light" in weeks[2] and reading(weeks[2]) <= reading(weeks[1])


def test_the_pages_of_the_course():
    first = chapters.NOTEBOOKS[0]
    assert course.colab(first.stem[3:]) in chapters.read(first).cells[0].source, "as its badge"
    for number in (1, 2, 3, 4):
        page = course.week(number)
        assert page.count("<table") == 2 and "{" not in page and "Milestone" in page
        ET.fromstring(f"<div>{page}</div>")
    for page in (course.overview(), course.milestones(), course.grades()):
        ET.fromstring(f"<div>{page}</div>")
    for name in re.findall(
        r"course\.page\('(\w+)'\)",
        (chapters.ROOT / "book" / "teaching_course.md").read_text(encoding="utf-8"),
    ):
        assert (chapters.ROOT / "book" / f"{name}.md").exists()
        assert course.page(name).endswith(f"/book/{name}.html")
    assert course.clock([[10, "a"], [80, "b"]]) == [(0, 10, "a"), (10, 80, "b")]
    hub = (chapters.ROOT / "book" / "teaching.md").read_text(encoding="utf-8")
    for what in (
        "teaching_course.md",
        "teaching_notes.md",
        "make slides",
        "make quizzes",
        "make student",
    ):
        assert what in hub, f"the page for teachers does not lead to {what}"


# --- marking in a container ---


@pytest.fixture
def engine(tmp_path):
    """A container engine that writes down what it was asked, and marks as its image would."""
    file = tmp_path / "engine"
    file.write_text(
        "#!/bin/sh\n"
        f'echo "$@" >> {tmp_path}/asked\n'
        'for each in "$@"; do case "$each" in *:/grades) out="${each%:/grades}";; *:/submissions/*) in="${each%%:*}";; esac; done\n'
        'who=$(basename "$in")\n'
        'test "$who" = bob && { echo "out of memory" >&2; exit 137; }\n'
        'printf "student,exercise,points\\n$who,1,2\\nada,2,99\\n" > "$out/grades.csv"\n'
    )
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return file


def test_every_student_gets_a_container(engine, tmp_path, monkeypatch):
    for who in ("ada", "bob", "cy"):
        (tmp_path / "submissions" / who).mkdir(parents=True)
    out = tmp_path / "grades.csv"
    asked = ["container", str(tmp_path / "submissions"), "--out", str(out), "--engine", str(engine)]
    monkeypatch.setattr("sys.argv", asked)
    container.main()
    table = pd.read_csv(out)
    assert table.groupby("student").size().to_dict() == {"ada": 2, "bob": 1, "cy": 1}
    assert 99 not in table[table.student != "ada"].points.tolist(), "nobody writes another's marks"
    assert table[table.student == "bob"].said.tolist() == ["the container stopped: out of memory"]
    lines = (tmp_path / "asked").read_text().splitlines()
    assert len(lines) == 3
    for line in lines:
        given = shlex.split(line)
        assert {"--network=none", "--read-only", "--cap-drop=ALL"} <= set(given)
        assert sum(part.endswith(":ro") for part in given) == 1, "the submission is read-only"
        assert (
            "--memory=6g" in given and "--pids-limit=256" in given and given[-1] == container.IMAGE
        )


def test_a_container_that_does_not_end(tmp_path, monkeypatch):
    def late(command, timeout, **_):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(container.subprocess, "run", late)
    (tmp_path / "ada").mkdir()
    assert (
        container.marked("docker", tmp_path / "ada").said[0].endswith("not done after 30 minutes")
    )


def test_the_image_copies_what_there_is():
    file = chapters.ROOT / "tools" / "course" / "marking.Dockerfile"
    text = file.read_text(encoding="utf-8")
    for sources in re.findall(r"^COPY (.+) \S+$", text, flags=re.MULTILINE):
        for source in sources.split():
            assert (chapters.ROOT / source).exists(), source
    assert "USER 65534" in text and '"tools.course.grade"' in text
    assert (chapters.ROOT / "tools" / "course" / "grade.py").exists()
