"""Visible checks for the exercises: one module a chapter, named like it without its number.

    from whatwhere.book.exercises import reading_patches_as_words as checks
    checks.segments(segments);      # prints "✓ …" or "✗ not yet: …"

A check takes the reader's answer and raises an AssertionError with a sentence where something does
not hold: the form of an answer first (type, shape, order), its values last. Neither its name,
nor its sentences, nor what it says on success gives the solution away. Whatever else goes wrong in
the reader's code becomes a "✗" too, with the reader's own line.
"""

import linecache
import sysconfig
import traceback
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np

PACKAGE = str(Path(__file__).resolve().parents[2])
# what may lie between the reader's line and an error, beside other packages
NOT_OWN = (PACKAGE, sysconfig.get_path("stdlib"))
STUB = "this one still waits for your code"


class Outcome:
    """What a check returns: true if it passed. It shows nothing more in a notebook."""

    def __init__(self, passed: bool, sentence: str):
        self.passed, self.sentence = passed, sentence

    def __bool__(self):
        return self.passed

    def __repr__(self):
        return self.sentence

    def _ipython_display_(self):
        pass  # the sentence is already printed


def check(test: Callable[..., Any], *answer: Any, done: str = "") -> Outcome:
    """Run test(*answer) and print "✓ …" or "✗ not yet: …"; no exception leaves it.

    Args:
        done: what the ✓ line says; by default the test's docstring, or else its name.
    """
    if any(each is None or each is ... for each in answer):
        outcome = Outcome(False, f"✗ not yet: {STUB}")
    else:
        try:
            test(*answer)
        except NotImplementedError:
            outcome = Outcome(False, f"✗ not yet: {STUB}")
        except AssertionError as error:
            said = str(error).strip() or "the answer is not right"
            outcome = Outcome(False, f"✗ not yet: {said}")
        except Exception as error:
            outcome = Outcome(False, f"✗ not yet: {_told(error)}")
        else:
            first = (test.__doc__ or "").strip().splitlines()
            name = test.__name__.removeprefix("check_").replace("_", " ")
            outcome = Outcome(True, f"✓ {done or (first[0] if first else name)}")
    print(outcome.sentence)
    return outcome


def exercise(done: str) -> Callable[[Callable[..., Any]], Callable[..., Outcome]]:
    """Make a check of a function: it is called with the reader's answer, and prints its one line.

    Args:
        done: what the line says where the answer is right.
    """

    def decorated(test: Callable[..., Any]) -> Callable[..., Outcome]:
        @wraps(test)
        def run(*answer: Any) -> Outcome:
            return check(test, *answer, done=done)

        return run

    return decorated


def expect(holds: object, sentence: str) -> None:
    """Raises AssertionError with the sentence unless something holds."""
    if not holds:
        raise AssertionError(sentence)


def array(answer: Any, shape: tuple[int, ...], what: str = "your answer") -> np.ndarray:
    """An answer as numbers of one shape.

    Raises:
        AssertionError: where it is none, has another shape (the same turned round is said to be
            that), or holds what is no finite number.
    """
    expect(answer is not None, f"{what} is None: is there a return at the end?")
    if hasattr(answer, "detach"):
        answer = answer.detach().cpu()
    try:
        numbers = np.asarray(answer, dtype=float)
    except (TypeError, ValueError):
        raise AssertionError(
            f"{what} should be numbers of shape {shape}; it is {_kind(answer)}"
        ) from None
    wanted = f"have the shape {shape}" if shape else "be one number"
    turned = len(shape) == 2 and numbers.shape == shape[::-1]
    expect(
        numbers.shape == shape,
        f"{what} should {wanted}; it has the shape {numbers.shape}"
        + (" (rows and columns are the other way round)" if turned else ""),
    )
    expect(np.isfinite(numbers).all(), f"{what} holds what is no finite number")
    return numbers


def number(answer: Any, what: str = "your answer") -> float:
    """An answer as one finite number; see `array`."""
    return float(array(answer, (), what))


def pair(answer: Any, what: str = "your answer") -> tuple[Any, Any]:
    """An answer as two things.

    Raises:
        AssertionError: where it is not two.
    """
    expect(answer is not None, f"{what} is None: is there a return at the end?")
    two = isinstance(answer, (tuple, list, np.ndarray)) and len(answer) == 2
    expect(two, f"{what} should be two things; it is {_kind(answer)}")
    first, second = answer
    return first, second


def _kind(answer):
    size = f" of {len(answer)}" if hasattr(answer, "__len__") else ""
    return f"{type(answer).__name__}{size}"


def _told(error):
    """An exception as a sentence, with the last line of the reader's own code that led to it."""
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(NOT_OWN) and "site-packages" not in frame.filename
    ]
    said = f"{type(error).__name__}: {error}"
    if not own:
        return f"the answer cannot be used here ({said})"
    frame = own[-1]
    line = linecache.getline(frame.filename, frame.lineno or 0).strip()
    return f"your line {frame.lineno}, `{line}`, raises {said}"
