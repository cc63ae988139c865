import json
import re

import numpy as np
import pytest
import torch

from whatwhere.book.exercises import array, check, exercise, expect, number, pair


# Raised by hand: inside the test suite pytest would add its own words to an assert.
def check_double(answer):
    if answer(2) != 4:
        raise AssertionError("double(2) should be 4")


def check_sum(answer):
    """the sum is right"""
    if answer(1) + 1 != 2:
        raise AssertionError


def test_right_answer(capsys):
    assert check(check_double, lambda x: 2 * x)
    assert capsys.readouterr().out == "✓ double\n"


def test_the_docstring_is_what_it_says(capsys):
    assert check(check_sum, lambda x: x)
    assert capsys.readouterr().out == "✓ the sum is right\n"


def test_wrong_answer_quotes_the_sentence(capsys):
    assert not check(check_double, lambda x: x)
    assert capsys.readouterr().out == "✗ not yet: double(2) should be 4\n"


def test_wrong_answer_without_a_sentence(capsys):
    assert not check(check_sum, lambda x: x + 1)
    assert capsys.readouterr().out == "✗ not yet: the answer is not right\n"


def unfinished(x):
    raise NotImplementedError


@pytest.mark.parametrize("stub", [unfinished, lambda x: None, lambda x: ...])
def test_a_stub_is_no_error(stub, capsys):
    assert not check(check_sum, stub)
    assert capsys.readouterr().out.startswith("✗ not yet: ")


def test_an_attribute_of_nothing_is_no_error():
    def check_shape(answer):
        if answer().shape != (2,):
            raise AssertionError("the shape should be (2,)")

    assert not check(check_shape, lambda: None)


def test_the_readers_own_mistakes_are_shown_with_their_line(capsys):
    def divides(x):
        nothing = 0
        return x / nothing

    assert not check(check_sum, divides)
    said = capsys.readouterr().out
    assert said.startswith("✗ not yet: your line ") and "`return x / nothing`" in said
    assert "ZeroDivisionError" in said
    # an error inside the standard library is told with the line that led there
    assert not check(check_sum, lambda x: json.loads("not json"))
    assert "json.loads(" in capsys.readouterr().out
    assert not check(check_sum, lambda: 1), "a signature that does not fit"
    assert "TypeError" in capsys.readouterr().out
    assert not check(check_sum, 3), "no function at all"
    assert "TypeError" in capsys.readouterr().out


def test_a_stub_and_a_wrong_answer_differ(capsys):
    check(check_double, unfinished)
    stub = capsys.readouterr().out
    check(check_double, lambda x: None)
    assert capsys.readouterr().out == "✗ not yet: double(2) should be 4\n" != stub
    for waiting in (None, ...):
        assert not check(check_double, waiting)
        assert capsys.readouterr().out == stub


def test_a_decorated_check_says_what_is_done(capsys):
    @exercise("twice it is")
    def double(answer):
        expect(answer(2) == 4, "double(2) should be 4")

    assert double(lambda x: 2 * x) and capsys.readouterr().out == "✓ twice it is\n"
    assert not double(lambda x: x)
    assert capsys.readouterr().out == "✗ not yet: double(2) should be 4\n"


def test_the_form_of_an_answer_is_checked_first():
    assert array([[1, 2, 3]], (1, 3)).tolist() == [[1, 2, 3]]
    assert array(torch.ones(2, requires_grad=True), (2,)).tolist() == [1, 1]
    assert number(np.float32(2)) == 2 and pair((1, "b")) == (1, "b")
    for answer, sentence in {
        None: "is there a return at the end",
        "many": "should be numbers of shape (2, 3); it is str of 4",
        ((1, 2), (3, 4), (5, 6)): "the other way round",
        (1, 2): "it has the shape (2,)",
        ((1, 2, 3), (4, 5, float("nan"))): "no finite number",
    }.items():
        with pytest.raises(AssertionError, match=re.escape(sentence)):
            array(answer, (2, 3))
    with pytest.raises(AssertionError, match=re.escape("be one number; it has the shape (2,)")):
        number([1, 2])
    with pytest.raises(AssertionError, match="two things; it is tuple of 3"):
        pair((1, 2, 3))


def test_several_answers():
    def check_both(a, b):
        assert a < b, "a should be smaller"

    assert check(check_both, 1, 2) and not check(check_both, 2, 1)


def test_a_notebook_shows_the_line_once():
    outcome = check(check_double, lambda x: 2 * x)
    assert repr(outcome) == "✓ double" and outcome._ipython_display_() is None
