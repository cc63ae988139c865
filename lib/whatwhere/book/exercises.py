"""Visible checks for the exercises.

A check is a function that takes the reader's answer and asserts what should hold, each assertion
with a sentence. `check` runs it and prints one line. A stub that is still empty is no error: the
line says so.
"""

from collections.abc import Callable
from typing import Any

_EMPTY = ("'NoneType'", "'ellipsis'")


class Outcome:
    """What `check` returns: true if the check passed. It shows nothing more in a notebook."""

    def __init__(self, passed: bool, sentence: str):
        self.passed, self.sentence = passed, sentence

    def __bool__(self):
        return self.passed

    def __repr__(self):
        return self.sentence

    def _ipython_display_(self):
        pass  # the sentence is already printed


def check(test: Callable[..., Any], *answer: Any) -> Outcome:
    """Run test(*answer) and print "✓ …" or "✗ not yet: …".

    An unmet assertion and a stub without an answer give a ✗; any other error is the reader's to
    see. The ✓ line quotes the test's docstring, or else its name.
    """
    try:
        test(*answer)
    except NotImplementedError:
        outcome = Outcome(False, "✗ not yet: this one still waits for your code")
    except AssertionError as error:
        outcome = Outcome(False, f"✗ not yet: {str(error).strip() or 'the answer is not right'}")
    except (TypeError, AttributeError) as error:
        if not any(word in str(error) for word in _EMPTY):
            raise
        outcome = Outcome(
            False,
            f"✗ not yet: something is still None; does your function return its answer? ({error})",
        )
    else:
        said = (test.__doc__ or "").strip().splitlines()
        name = test.__name__.removeprefix("check_").replace("_", " ")
        outcome = Outcome(True, f"✓ {said[0] if said else name}")
    print(outcome.sentence)
    return outcome
