import pytest

from whatwhere.book.exercises import check


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


def test_the_readers_own_mistakes_are_shown():
    with pytest.raises(TypeError):
        check(check_sum, lambda: 1)
    with pytest.raises(NameError):
        check(check_sum, lambda x: y)  # noqa: F821


def test_several_answers():
    def check_both(a, b):
        assert a < b, "a should be smaller"

    assert check(check_both, 1, 2) and not check(check_both, 2, 1)


def test_a_notebook_shows_the_line_once():
    outcome = check(check_double, lambda x: 2 * x)
    assert repr(outcome) == "✓ double" and outcome._ipython_display_() is None
