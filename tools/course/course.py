"""The course in four weeks, from course.yml: minute plans, milestones, points and grades, as HTML
for the page of the teachers.

Chapters are named there by their files, without the number; here they get their number and a link.
"""

import html
import re
from pathlib import Path

import yaml

from tools.course.chapters import NOTEBOOKS
from tools.site import sync

FILE = Path(__file__).with_name("course.yml")
NAME = re.compile(r"\{([a-z0-9_]+)\}")


def load():
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))


def chapter(name):
    """The notebook of a chapter that is named without its number. Raises KeyError where there is
    none."""
    found = {path.stem[3:]: path for path in NOTEBOOKS}
    if name not in found:
        raise KeyError(f"course.yml names a chapter {name!r}, and there are: {', '.join(found)}")
    return found[name]


def link(name):
    path = chapter(name)
    return f'<a href="../notebooks/{path.stem}.html">chapter {int(path.stem[:2])}</a>'


def said(text):
    """A sentence of course.yml as HTML: chapters are links, *…* is italic."""
    text = NAME.sub(lambda match: link(match[1]), html.escape(text, quote=False))
    text = re.sub(r"\*([^*]+)\*", r"<em>\1</em>", text)
    return text.replace(">chapter", ">Chapter", 1) if text.startswith("<a ") else text


def colab(name):
    """Where Colab opens a chapter as the book has it."""
    url, branch = sync.address()
    base = url.replace("https://github.com/", "https://colab.research.google.com/github/")
    return f"{base}/blob/{branch}/notebooks/{chapter(name).name}"


def page(name):
    """Where a page of the book is published."""
    return f"{sync.pages(sync.address()[0])}book/{name}.html"


def table(head, rows):
    """A table; cells are HTML already."""
    line = "<tr>{}</tr>".format
    top = line("".join(f"<th>{each}</th>" for each in head))
    body = "".join(line("".join(f"<td>{cell}</td>" for cell in row)) for row in rows)
    return f'<table class="dataframe"><thead>{top}</thead><tbody>{body}</tbody></table>'


def clock(plan):
    """The plan with the minute at which each part begins."""
    start, out = 0, []
    for minutes, what in plan:
        out.append((start, minutes, what))
        start += minutes
    return out


def week(number):
    """One week: its two meetings by the minute, what is handed in, the project."""
    one = load()["weeks"][number - 1]
    parts = [f"<p>{said(one['light'])}</p>"] if "light" in one else []
    for n, meeting in enumerate(one["meetings"], start=1):
        chapters = ", ".join(map(link, meeting["chapters"]))
        title = f"Meeting {n}: {html.escape(meeting['title'])}".rstrip(".")
        title += "" if title.endswith("?") else "."
        parts.append(
            f"<p><strong>{title}</strong> {said(meeting['before'])} "
            f"Bring: {said(meeting['bring'])}"
            + (f" Slides: {chapters}.</p>" if chapters else "</p>")
        )
        rows = [(f"{at}", f"{minutes}", said(what)) for at, minutes, what in clock(meeting["plan"])]
        parts.append(table(("from minute", "minutes", "what"), rows))
    parts.append(f"<p><strong>To hand in.</strong> {said(one['hand_in'])}</p>")
    parts.append(
        f"<p><strong>Project.</strong> {said(one['project'])} <em>Milestone:</em> "
        f"{said(one['milestone'])}</p>"
    )
    return "\n".join(parts)


def overview():
    """Four weeks in a table."""
    rows = []
    for number, one in enumerate(load()["weeks"], start=1):
        meetings = [
            ", ".join(map(link, meeting["chapters"])) + f" {html.escape(meeting['title'])}"
            for meeting in one["meetings"]
        ]
        rows.append(
            (
                f"{number} <strong>{html.escape(one['title'])}</strong>",
                *meetings,
                said(one["hand_in"]),
            )
        )
    return table(("week", "meeting 1", "meeting 2", "to hand in"), rows)


def milestones():
    rows = [
        (f"week {number}", said(one["project"]), said(one["milestone"]))
        for number, one in enumerate(load()["weeks"], start=1)
    ]
    return table(("when", "what is done", "what is shown"), rows)


def grades():
    grading = load()["grading"]
    parts = table(
        ("points", "part", "how"), [(p, html.escape(n), said(h)) for p, n, h in grading["parts"]]
    )
    lines = [(f"from {least}", *letters) for least, *letters in grading["grades"]]
    return parts + table(("points", "US", "ECTS", "Germany"), lines)
