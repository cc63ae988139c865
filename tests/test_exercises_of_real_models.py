"""The checks of chapter 18 take right answers and refuse plausible wrong ones, without a hint at
the right ones."""

import pytest

from whatwhere import benchmarks
from whatwhere.book import published
from whatwhere.book.exercises import real_models as checks

PROMPT = {"text": 120, "image": 1564, "new": 10}
SETTINGS = {"benchmark": "whatsup-b"}


def said(check, *answer, capsys):
    """Whether an answer passes, and the last line that the check prints."""
    passed = check(*answer)
    return bool(passed), capsys.readouterr().out.splitlines()[-1]


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    folder = benchmarks.tabletop.write(tmp_path_factory.mktemp("sets"), "B", n=3)
    return benchmarks.items("whatsup-b", folder)[0]


def by_word(item, word):
    return next(letter for letter, caption in item.options.items() if word in caption)


def result(items, letter):
    return benchmarks.Result(SETTINGS, [item.row(letter(item)) for item in items])


def test_a_lazy_model(asked, capsys):
    def lazy(items, word):
        return result(items, lambda item: by_word(item, word))

    assert said(checks.lazy, lazy, asked, capsys=capsys)[0]
    for wrong, sentence in {
        lambda items, word: result(items, lambda item: "A"): "asked for 'left', it also picks",
        lambda items, word: result(items, lambda item: item.gold): "it also picks",
        lambda items, word: result(items, lambda item: word): "an answer is the letter",
        lambda items, word: lazy(items[:-1], word): "you have 11",
        lambda items, word: [item.row("A") for item in items]: "not a list",
        lambda items, word: None: "is there a return",
    }.items():
        passed, line = said(checks.lazy, wrong, asked, capsys=capsys)
        assert not passed and sentence in line
        assert "25" not in line


RIGHT = [
    ("Yes, there is no doubt about it.", "yes"),
    ("There is not one cat, there are two!", "yes"),
    ("NO", "no"),
    ("There isn't any.", "no"),
]


def test_answers_that_are_misread(capsys):
    read = benchmarks.scoring.yes_or_no
    assert said(checks.misread, RIGHT, read, capsys=capsys)[0]
    for wrong, sentence in (
        ([*RIGHT[:3], ("No, there is none.", "no")], "is read as it is meant"),
        (RIGHT[:3], "of those that mean no, you have 1"),
        ([*RIGHT, RIGHT[0]], "twice"),
        ([*RIGHT, ("No.", "yes")], "does not mean yes"),
        ([*RIGHT, ("Hardly.", False)], "means 'yes' or 'no'"),
        ([*RIGHT, "There is none"], "two things"),
        ([*RIGHT, (".", "no")], "an answer has words"),
        ("no", "a list of pairs"),
    ):
        passed, line = said(checks.misread, wrong, read, capsys=capsys)
        assert not passed and sentence in line


def largest(name, dtype, gib, margin=published.MARGIN, unit=2**30, more=0):
    room = (gib - margin) * unit
    n = 0
    while n < 256:
        if published.memory(name, dtype, **PROMPT, batch=n + 1)["total"] > room:
            break
        n += 1
    return n + more


def test_how_many_prompts_fit(capsys):
    assert said(checks.largest, largest, PROMPT, capsys=capsys)[0]
    for wrong, sentence in {
        lambda *of: largest(*of, margin=0): "do not fit",
        lambda *of: largest(*of, unit=10**9): "would fit",
        lambda *of: largest(*of, more=1): "do not fit",
        lambda *of: largest(*of) / 2 + 0.25: "a whole number",
        lambda *of: 300: "from 0 to 256",
        lambda *of: None: "is there a return",
    }.items():
        passed, line = said(checks.largest, wrong, PROMPT, capsys=capsys)
        assert not passed and sentence in line
