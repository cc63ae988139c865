"""A chapter from the template: it keeps to the skeleton, and whatever speaks of those after it
speaks of their new numbers."""

import json
import re
import shutil
import subprocess

import pytest

import test_notebooks as skeleton
from tools.course import chapters, new_chapter
from whatwhere.book import ledger

LINK = re.compile(
    r"\[[^\]\[]*?[Cc]hapter (\d+)[^\]\[]*\]\([^)\s]*?(\d\d)_[a-z0-9_]+\.(?:ipynb|html|md)"
)
DIGITS = re.compile(r"\d+")


def texts(root):
    """{path relative to the root: text} of all files in which a chapter may be mentioned."""
    return {
        path.relative_to(root).as_posix(): path.read_text(encoding="utf-8")
        for path in new_chapter._files(root)
    }


def git(root, *arguments):
    subprocess.run(
        ["git", "-C", root, "-c", "user.name=a", "-c", "user.email=a@b", *arguments], check=True
    )


@pytest.fixture(scope="module")
def committed(tmp_path_factory):
    """A copy of the book's text files, committed, for tests that leave it as it is."""
    root = tmp_path_factory.mktemp("committed")
    for path in new_chapter._files(chapters.ROOT):
        copy = root / path.relative_to(chapters.ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message", "As it is")
    return root


@pytest.fixture(scope="module")
def inserted(committed, tmp_path_factory):
    """(a copy of the book with a chapter after 02, its notebook)"""
    root = tmp_path_factory.mktemp("inserted") / "book"
    shutil.copytree(committed, root)
    return root, new_chapter.add("an_invented_one", "02", root)


def test_the_new_chapter_keeps_to_the_skeleton(inserted):
    root, path = inserted
    assert path == root / "notebooks" / "03_an_invented_one.ipynb"
    for test in (
        skeleton.test_skeleton, skeleton.test_size, skeleton.test_plain_markdown,
        skeleton.test_no_stored_outputs, skeleton.test_exercises_are_complete,
        skeleton.test_an_open_exercise_says_what_a_good_answer_holds,
        skeleton.test_stub_and_solution_have_the_same_signature, skeleton.test_quiz,
    ):  # fmt: skip
        test(path)
    text = path.read_text(encoding="utf-8")
    assert (
        "Before you start:** [" in text
        and f"({chapters.NOTEBOOKS[1].name})" in text
        and "# TODO: An invented one" in text
    )


def test_the_new_chapter_runs_and_its_checks_tell_a_solution_from_a_stub(inserted, capsys):
    notebook, place = chapters.read(inserted[1]), {}
    for cell in chapters.code_cells(notebook):
        if "check" not in chapters.tags(cell):
            exec(cell.source, place)
    for exercise in chapters.exercises(notebook)[:-1]:
        for code, mark in ((exercise["stub"].source, "✗"), (exercise["solution"], "✓")):
            capsys.readouterr()
            exec(code, place)
            for check in exercise["checks"]:
                exec(check.source, place)
            assert mark in capsys.readouterr().out, f"exercise {exercise['number']}"


def test_chapters_after_it_have_new_numbers_wherever_they_are_named(committed, inserted):
    """Nothing but numbers changes, and only from a chapter's old number to its new one."""
    root, path = inserted
    old, new = texts(committed), texts(root)
    stems = [path.stem for path in sorted((committed / "notebooks").glob("*.ipynb"))]
    renamed = {stem: f"{int(stem[:2]) + 1:02d}{stem[2:]}" for stem in stems[2:]}
    added = [path.relative_to(root).as_posix()]
    for name, text in old.items():
        for stem, now in renamed.items():
            name = name.replace(stem, now)
        added.append(name)
        if name == "_toc.yml":
            assert new[name].count("- file: notebooks/03_an_invented_one\n") == 1
            new[name] = new[name].replace("      - file: notebooks/03_an_invented_one\n", "")
        if name == "book/teaching_notes.md":
            start, end = (new[name].index(f"## Chapter {n}:") for n in (3, 4))
            assert "](../notebooks/03_an_invented_one.ipynb)" in new[name][start:end]
            new[name] = new[name][:start] + new[name][end:]
        assert DIGITS.sub("#", new[name]) == DIGITS.sub("#", text), name
        for before, now in zip(DIGITS.findall(text), DIGITS.findall(new[name])):
            assert now == before or 3 <= int(before) == int(now) - 1 <= len(stems), name
        for stem in renamed:
            assert not re.search(rf"\b{stem}\b", new[name]), name
        for number, linked in LINK.findall(new[name]):
            assert int(number) == int(linked), f"{name} links chapter {number} to {linked}"
    assert sorted(added) == sorted(new)
    for claim_old, claim in zip(
        *(json.loads(t["lib/whatwhere/book/catalogue.json"]) for t in (old, new))
    ):
        assert claim["chapter"] == claim_old["chapter"] + (claim_old["chapter"] > 2)
    for name, numbers in (
        (
            "book/notation.md",
            r"\$r\$ \| (\d+) \| a row",
        ),
        ("lib/whatwhere/book/rehearsal/itinerary.py", r'\((\d+), "states at every place"'),
    ):
        before, now = (re.search(numbers, tree[name]).groups() for tree in (old, new))
        assert [int(n) + 1 for n in before] == [int(n) for n in now], name


RENAMED = {f"{n:02d}_{name}": f"{n + 1:02d}_{name}" for n, name in ((3, "c"), (9, "i"), (10, "j"))}


@pytest.mark.parametrize(("before", "after"), [
    ("Chapter 3's lens, and chapters 2, 3 and 9.", "Chapter 4's lens, and chapters 2, 4 and 10."),
    ("chapters 3 to 10; chapters 9–10; chapters 1 or\n  # 3",
     "chapters 4 to 11; chapters 10–11; chapters 1 or\n  # 4"),
    ("--chapters 03 09 and in chapter\n3", "--chapters 04 10 and in chapter\n4"),
    ('"in chapter\\n",\n    "9, later\\n"', '"in chapter\\n",\n    "10, later\\n"'),
    ("[chapter 9](../notebooks/09_i.ipynb)", "[chapter 10](../notebooks/10_i.ipynb)"),
    ("| symbol | chapters |\n|---|---|\n| $\\|3\\|$ | 3, 4, 9 |",
     "| symbol | chapters |\n|---|---|\n| $\\|3\\|$ | 4, 4, 10 |"),
    (r'claim["chapter"] == 9 or claim[\"chapter\"] == 3', r'claim["chapter"] == 10 or claim[\"chapter\"] == 4'),
    ("In chapter 9, 3 of 10 scenes", "In chapter 10, 3 of 10 scenes"),
    *[(same, same) for same in (
        "section 3 and exercise 9", "chapter 2", "03_cat 03_c_d 103_c", "| 3 | 9 |",
        "this chapter: 3", "layer 3", "a chapter has 3 exercises", "subchapter 3", "chapter 33",
        '"chapter": 3',
    )],
])  # fmt: skip
def test_what_names_a_chapter_and_what_does_not(before, after):
    assert new_chapter.renumbered(before, RENAMED, "book/page.md") == after


def test_without_after_it_comes_last_and_nothing_is_renumbered(committed, tmp_path):
    root = tmp_path / "book"
    shutil.copytree(committed, root)
    last = len(list((root / "notebooks").glob("*.ipynb"))) + 1
    assert new_chapter.add("an_invented_one", root=root).name == f"{last}_an_invented_one.ipynb"
    old, new = texts(committed), texts(root)
    assert {name for name in new if new[name] != old.get(name)} == {
        f"notebooks/{last}_an_invented_one.ipynb", "_toc.yml", "book/teaching_notes.md"
    }  # fmt: skip
    assert new["book/teaching_notes.md"].startswith(old["book/teaching_notes.md"].rstrip("\n"))


@pytest.mark.parametrize(
    ("name", "after", "sentence"),
    [
        (
            "Which lens",
            None,
            "small letters, digits and underscores, such as which_lens, not 'Which lens'",
        ),
        ("../which", None, "small letters, digits and underscores"),
        ("03_which", None, "small letters, digits and underscores"),
        ("reading_patches_as_words", None, "There is a chapter 'reading_patches_as_words' already"),
        ("an_invented_one", "77", "no chapter '77' to come after: AFTER is one of 01, 02"),
        ("an_invented_one", "two", "no chapter 'two'"),
        ("an_invented_one", "0", "no chapter '0'"),
    ],
)
def test_what_cannot_be_a_chapter_is_refused(name, after, sentence, committed):
    before = texts(committed)
    with pytest.raises(ValueError, match=sentence):
        new_chapter.add(name, after, committed)
    assert texts(committed) == before


def test_changes_that_are_not_committed_are_not_mixed_with_a_renumbering(committed, tmp_path):
    root = tmp_path / "book"
    shutil.copytree(committed, root)
    page = root / "book" / "intro.md"
    page.write_text(page.read_text(encoding="utf-8") + "More in chapter 12.\n", encoding="utf-8")
    before = texts(root)
    with pytest.raises(
        ValueError, match="not committed would be mixed with new numbers, in book/intro.md: commit"
    ):
        new_chapter.add("an_invented_one", "02", root)
    assert texts(root) == before
    shutil.rmtree(root / ".git")
    with pytest.raises(ValueError, match="in a git repository, but git says"):
        new_chapter.add("an_invented_one", "02", root)


def test_numbers_of_chapters_are_those_of_their_files():
    """In the book as it is: a link's words and its address agree, and claims and notes are of
    chapters that exist."""
    stems = {int(path.stem[:2]): path.stem for path in chapters.NOTEBOOKS}
    assert list(stems) == list(range(1, len(stems) + 1))
    linked = [
        (name, *link) for name, text in texts(chapters.ROOT).items() for link in LINK.findall(text)
    ]
    assert len(linked) > 20
    for name, number, file in linked:
        if not name.startswith("tests/"):
            assert int(number) == int(file), f"{name} links chapter {number} to {file}"
    for claim in ledger.catalogue():
        assert claim["chapter"] in stems, (
            f"{claim['id']} belongs to chapter {claim['chapter']}, which is not there"
        )
    notes = (chapters.ROOT / "book" / "teaching_notes.md").read_text(encoding="utf-8")
    sections = re.findall(
        r"^## Chapter (\d+):.*\n\n\[Read it\]\(\.\./notebooks/(.+)\.ipynb\)", notes, re.MULTILINE
    )
    assert {int(number): stem for number, stem in sections} == stems
