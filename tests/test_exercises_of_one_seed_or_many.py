"""The checks of the chapter on a fleet take right answers and refuse plausible wrong ones, without
a hint at the right ones."""

from itertools import permutations

import numpy as np
import pytest
from scipy.stats import norm, pearsonr, t

from whatwhere.book.exercises import one_seed_or_many as checks


def said(check, *answer, capsys):
    """Whether an answer passes, and the last line that the check prints."""
    passed = check(*answer)
    return bool(passed), capsys.readouterr().out.splitlines()[-1]


def needed(spread, half, factor=lambda n: t.ppf(0.975, n - 1), first=2):
    n = first
    while factor(n) * spread / np.sqrt(n) > half:
        n += 1
    return n


def unseen(n, chance=0.05):
    return 1 - chance ** (1 / n)


def by_chance(exam, values, strength=abs, slack=1e-9):
    own = strength(np.corrcoef(exam, values)[0, 1])
    orders = [strength(np.corrcoef(exam, list(o))[0, 1]) for o in permutations(values)]
    return np.mean([each >= own - slack for each in orders])


def test_right_answers_pass(capsys):
    for check, answer in (
        (checks.needed, needed), (checks.unseen, unseen), (checks.by_chance, by_chance)
    ):  # fmt: skip
        assert said(check, answer, capsys=capsys)[0]


WRONG = [
    (checks.needed, lambda s, h: needed(s, h, lambda n: norm.ppf(0.975)), "still wider"),
    (checks.needed, lambda s, h: needed(s, h) + 1, "fewer organisms would do"),
    (checks.needed, lambda s, h: needed(s, h, lambda n: t.ppf(0.975, n)), "still wider"),
    (checks.needed, lambda s, h: (1.96 * s / h) ** 2, "a whole number"),
    (checks.needed, lambda s, h: 1, "one organism alone has no spread"),
    (checks.needed, lambda s, h: None, "is there a return"),
    (checks.unseen, lambda n: 3 / n, "a share, between 0 and 1"),
    (checks.unseen, lambda n: 0.05 ** (1 / n), "the chance of meeting none"),
    (checks.unseen, lambda n: unseen(n, 0.025), "the chance of meeting none"),
    (checks.unseen, lambda n: 0, "the chance of meeting none"),
    (checks.by_chance, lambda e, v: by_chance(e, v, float), "as far below zero"),
    (checks.by_chance, lambda e, v: 1 - by_chance(e, v), "is another than"),
    (checks.by_chance, lambda e, v: abs(np.corrcoef(e, v)[0, 1]), "is another than"),
    (checks.by_chance, lambda e, v: 0.0, "counts itself"),
    (checks.by_chance, lambda e, v: by_chance(e, v, slack=-1e-9), "in its last digits"),
    (checks.by_chance, lambda e, v: pearsonr(e, v).pvalue, "each order tried, and once"),
    (checks.by_chance, lambda e, v: 24, "between 0 and 1"),
]


@pytest.mark.parametrize(("check", "answer", "sentence"), WRONG)
def test_wrong_answers_are_refused(check, answer, sentence, capsys):
    passed, line = said(check, answer, capsys=capsys)
    assert not passed and sentence in line, line
    for right in (f"{unseen(5):.2f}", f"{unseen(2):.2f}", "ppf", "0.05"):
        assert right not in line
