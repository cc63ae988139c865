"""The chapters' quizzes for a learning platform: a file for Moodle, and one for Canvas.

    python -m tools.course.quizzes [folder]     # make quizzes: into _build/quizzes

`moodle.xml` is Moodle's own format (Question bank > Import > Moodle XML), with a category for each
chapter. `canvas.zip` is a QTI 1.2 package (Settings > Import Course Content > QTI .zip file), with
a quiz for each chapter; Canvas, Blackboard, D2L and Sakai read that format. Every question has one
right option, one point, and for each option the chapter's sentence on why it is right or wrong.
Formulas are MathML, which browsers set without a script.
"""

import argparse
import re
import zipfile
from pathlib import Path
from xml.etree import ElementTree as ET

import mistune

from tools.course.chapters import NOTEBOOKS, ROOT, read
from tools.site.maths import Setter

OUT = ROOT / "_build" / "quizzes"
QUESTION = re.compile(r"^\*\*(\d\. .*?)\*\*$", re.MULTILINE | re.DOTALL)
OPTION = re.compile(r"<details><summary>(.*?)</summary>\n\n(.*?)\n\n</details>", re.DOTALL)
MATHS = re.compile(r"(`[^`\n]+`)|\$([^$\n]+?)\$")
LINK = re.compile(r"\[([^\]]+)\]\([^)\s]+\)")
QTI = "http://www.imsglobal.org/xsd/ims_qtiasiv1p2"
PACKAGE = "http://www.imsglobal.org/xsd/imsccv1p1/imscp_v1p1"
DATE = (1980, 1, 1, 0, 0, 0)  # the same questions make the same zip


def quiz(notebook):
    """{question: [(option, why it is right or wrong)]} of a chapter. The right option's reason
    starts with "Yes"."""
    cell = next((cell.source for cell in notebook.cells if cell.source.startswith("## Quiz")), "")
    questions = QUESTION.split(cell)[1:]
    return {
        question: OPTION.findall(text) for question, text in zip(questions[::2], questions[1::2])
    }


def found(path, setter):
    """(name, question, [(option, why, whether it is right)]) for each question of a chapter, as
    HTML."""

    def html(text):
        def formula(match):
            if match[1]:
                return match[0]
            page = setter.html(match[2])  # KaTeX gives HTML, and MathML for screen readers
            return page[page.index("<math") : page.index("</math>") + len("</math>")]

        # links would lead to files that lie nowhere near
        said = MATHS.sub(formula, LINK.sub(r"\1", " ".join(text.split())))
        return str(mistune.html(said)).strip()

    out = []
    for n, (question, options) in enumerate(quiz(read(path)).items(), start=1):
        text = re.sub(r"^\d+\. ", "", question)
        each = [(html(option), html(why), why.startswith("Yes")) for option, why in options]
        out.append((f"{short(path)}-{n}", html(text), each))
    return out


def short(path):
    """A chapter's name without its number, which may change."""
    return path.stem[3:]


def title(path):
    """The chapter's number and title."""
    heading = read(path).cells[0].source.splitlines()[0].lstrip("# ")
    return f"Chapter {int(path.stem[:2])}: {re.sub(r'[*`$]', '', heading)}"


def add(parent, tag, text=None, **attributes):
    """A new element at the end of `parent`."""
    node = ET.SubElement(parent, tag, {key.rstrip("_"): value for key, value in attributes.items()})
    node.text = text
    return node


def moodle(chapters):
    """Moodle XML. chapters: {title: questions}."""
    root = ET.Element("quiz")
    for name, questions in chapters.items():
        category = add(root, "question", type="category")
        # a slash would begin a category below
        place = f"$course$/What and Where/{name.replace('/', '//')}"
        add(add(category, "category"), "text", place)
        for ident, text, options in questions:
            node = add(root, "question", type="multichoice")
            add(add(node, "name"), "text", ident)
            add(add(node, "questiontext", format="html"), "text", text)
            for key, value in {
                "defaultgrade": "1",
                "single": "true",
                "shuffleanswers": "true",
                "answernumbering": "abc",
            }.items():
                add(node, key, value)
            for option, why, right in options:
                answer = add(node, "answer", fraction="100" if right else "0", format="html")
                add(answer, "text", option)
                add(add(answer, "feedback", format="html"), "text", why)
    return root


def assessment(ident, name, questions):
    """A quiz in QTI 1.2."""
    root = ET.Element("questestinterop", {"xmlns": QTI})
    test = add(root, "assessment", ident=ident, title=name)
    section = add(test, "section", ident="root_section")
    for question, text, options in questions:
        item = add(section, "item", ident=question, title=question)
        fields = add(add(item, "itemmetadata"), "qtimetadata")
        for label, entry in {
            "question_type": "multiple_choice_question",
            "points_possible": "1",
        }.items():
            one = add(fields, "qtimetadatafield")
            add(one, "fieldlabel", label)
            add(one, "fieldentry", entry)
        shown = add(item, "presentation")
        add(add(shown, "material"), "mattext", text, texttype="text/html")
        choice = add(shown, "response_lid", ident="response1", rcardinality="Single")
        listed = add(choice, "render_choice")
        scoring = add(item, "resprocessing")
        add(
            add(scoring, "outcomes"),
            "decvar",
            maxvalue="100",
            minvalue="0",
            varname="SCORE",
            vartype="Decimal",
        )
        for n, (option, _, right) in enumerate(options):
            answer = add(listed, "response_label", ident=f"option{n}")
            add(add(answer, "material"), "mattext", option, texttype="text/html")
            rule = add(scoring, "respcondition", continue_="No" if right else "Yes")
            chosen = add(rule, "conditionvar")
            add(chosen, "varequal", f"option{n}", respident="response1")
            if right:
                add(rule, "setvar", "100", action="Set", varname="SCORE")
            add(rule, "displayfeedback", feedbacktype="Response", linkrefid=f"option{n}_fb")
        for n, (_, why, _) in enumerate(options):
            feedback = add(add(item, "itemfeedback", ident=f"option{n}_fb"), "flow_mat")
            add(add(feedback, "material"), "mattext", why, texttype="text/html")
    return root


def manifest(names):
    """The package's list of files."""
    root = ET.Element("manifest", {"xmlns": PACKAGE, "identifier": "what-and-where"})
    about = add(root, "metadata")
    add(about, "schema", "IMS Content")
    add(about, "schemaversion", "1.1.3")
    add(root, "organizations")
    resources = add(root, "resources")
    for name in names:
        one = add(resources, "resource", identifier=name, type="imsqti_xmlv1p2")
        add(one, "file", href=f"{name}/{name}.xml")
    return root


def text(root):
    ET.indent(root)
    return ET.tostring(root, encoding="utf-8", xml_declaration=True)


def write(folder=OUT, paths=NOTEBOOKS):
    """Both files. Returns how many questions they hold."""
    folder.mkdir(parents=True, exist_ok=True)
    setter = Setter()
    try:
        asked = {path: found(path, setter) for path in paths}
    finally:
        setter.close()
    (folder / "moodle.xml").write_bytes(text(moodle({title(p): asked[p] for p in paths})))
    files = {"imsmanifest.xml": text(manifest([short(path) for path in paths]))}
    for path, questions in asked.items():
        name = short(path)
        files[f"{name}/{name}.xml"] = text(assessment(name, title(path), questions))
    with zipfile.ZipFile(folder / "canvas.zip", "w", zipfile.ZIP_DEFLATED) as package:
        for name, content in files.items():
            package.writestr(zipfile.ZipInfo(name, DATE), content)
    return sum(len(questions) for questions in asked.values())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=OUT)
    place = parser.parse_args().folder
    print(f"Wrote {write(place)} questions into {place}: moodle.xml and canvas.zip")
