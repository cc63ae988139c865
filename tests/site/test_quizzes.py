"""The quiz of a chapter: its questions, what a choice does, and that it needs no script."""

import re
import shutil

import checks
import pytest
from playwright.sync_api import expect
from visits import ROOT, chapters, nothing, served

TWO_QUESTIONS = """<!doctype html><html lang="en"><meta charset="utf-8"><title>A quiz</title><script src="quiz.js"></script>
<article><section id="quiz"><h2>Quiz</h2><p>Choose an answer.</p>
<p><strong>1. Which is a number?</strong></p>
<details><summary>red</summary><p>No. That is a colour.</p></details>
<details><summary>seven</summary><p>Yes. It counts things.</p></details>
<p><strong>2. Which is a colour?</strong></p>
<details><summary>blue</summary><p>Yes. It is the colour of the sky.</p></details>
<details><summary>eight</summary><p>No. That is a number.</p></details>
</section></article></html>"""


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The address of a page with a quiz of two questions."""
    folder = tmp_path_factory.mktemp("quiz")
    (folder / "quiz.html").write_text(TWO_QUESTIONS, encoding="utf-8")
    shutil.copyfile(ROOT / "book" / "_static" / "quiz.js", folder / "quiz.js")
    with served(folder) as address:
        yield address + "quiz.html"


def choose(page, text):
    option = page.locator(
        "section#quiz > details",
        has=page.locator("summary", has_text=re.compile(f"^{re.escape(text)}$")),
    )
    option.locator("summary").click()
    return option


def test_a_choice_is_judged_and_counted(small, visit):
    here = visit(small)
    page, score = here.page, here.page.locator("p.ww-score")
    assert score.get_attribute("aria-live") == "polite" and score.inner_text() == ""
    wrong = choose(page, "red")
    expect(wrong).to_have_class("ww-wrong")
    expect(wrong.locator("p")).to_be_visible()
    expect(score).to_have_text("Right at the first choice: 0 of 1 answered, 2 in all.")
    right = choose(page, "seven")
    expect(right).to_have_class("ww-right")
    assert right.get_attribute("open") is not None and wrong.get_attribute("open") is None, (
        "one answer at a time is open"
    )
    # the first choice is what counts
    expect(score).to_have_text("Right at the first choice: 0 of 1 answered, 2 in all.")
    choose(page, "blue")
    expect(score).to_have_text("Right at the first choice: 1 of 2 answered, 2 in all.")
    assert right.get_attribute("open") is not None, "the other question keeps its answer open"
    nothing(here.wrong + checks.quiz(page), "a quiz of two questions")


@pytest.mark.parametrize("name", chapters())
def test_the_quiz_of_a_chapter_can_be_answered(name, book, visit):
    here = visit(book + name)
    nothing(checks.quiz(here.page), name)
    options = here.page.locator("section#quiz > details")
    judged = [
        text.strip().startswith("Yes.")
        for text in options.locator(":scope > :nth-child(2)").all_text_contents()
    ]
    for option, right in zip(options.all(), judged):
        expect(option).not_to_have_attribute("open", "")
        option.locator("summary").click()
        expect(option).to_have_class("ww-right" if right else "ww-wrong")
        expect(option.locator(":scope > :nth-child(2)")).to_be_visible()
    # each question has one right answer, and all have been opened
    answered, questions = sum(judged), sum(judged)
    score = rf"Right at the first choice: \d+ of {answered} answered, {questions} in all\."
    expect(here.page.locator("p.ww-score")).to_have_text(re.compile(score))
    assert here.page.locator("section#quiz > details[open]").count() == questions, (
        "of each question one option is open"
    )
    nothing(here.wrong, name)


@pytest.mark.parametrize("name", chapters()[:1])
def test_a_quiz_opens_without_scripts(name, book, small, visit):
    for address in (small, book + name):
        here = visit(address, scripts=False)
        option = here.page.locator("section#quiz > details").first
        assert not option.locator(":scope > :nth-child(2)").is_visible()
        option.locator("summary").click()
        assert option.locator(":scope > :nth-child(2)").is_visible()
        nothing(here.wrong, address)
