"""Checks of the chapter in which claims are put to a fleet of organisms."""

from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np
from scipy.stats import t

from . import exercise, expect, number


@exercise("the last halving of an interval costs far more organisms than the first")
def needed(needed: Callable[[float, float], Any]) -> None:
    for spread, half in ((1.0, 9.5), (1.0, 2.0), (0.05, 0.04), (0.05, 0.02), (3.0, 0.7)):
        got = number(needed(spread, half), f"needed({spread}, {half})")
        expect(got == int(got), f"needed({spread}, {half}) counts organisms: a whole number")
        expect(got >= 2, "one organism alone has no spread: two are the fewest")

        def reached(n, spread=spread):
            return t.ppf(0.975, n - 1) * spread / np.sqrt(n)

        enough, fewer = reached(got) <= half, got == 2 or reached(got - 1) > half
        expect(enough, f"needed({spread}, {half}): the interval of so few is still wider")
        expect(fewer, f"needed({spread}, {half}): fewer organisms would do as well")


@exercise("that all agree says less than it seems, while they are few")
def unseen(unseen: Callable[[int], Any]) -> None:
    for n in (1, 2, 5, 10, 59):
        got = number(unseen(n), f"unseen({n})")
        expect(0 <= got <= 1, f"unseen({n}) is a share, between 0 and 1")
        # of n organisms, none is of a sort that makes up this share of the kind
        chance = (1 - got) ** n
        expect(
            abs(chance - 0.05) < 1e-6,
            f"where the share is unseen({n}), the chance of meeting none in {n} is {chance:.3f}",
        )


@exercise("an order is compared with all orders there are, and not with a table")
def by_chance(by_chance: Callable[..., Any]) -> None:
    cases = (
        ([1.0, 2.0, 3.0, 4.0], [0.1, 0.4, 0.2, 0.9]),
        ([1.0, 2.0, 3.0, 4.0, 5.0], [5.0, 4.0, 3.0, 2.0, 1.5]),
        ([0.97, 0.99, 0.95, 0.98, 0.96], [0.3, 0.2, 0.6, 0.7, 0.1]),
    )
    for exam, values in cases:
        got = number(by_chance(np.array(exam), np.array(values)), "by_chance(exam, values)")
        expect(0 <= got <= 1, "by_chance(exam, values) is a share of orders, between 0 and 1")
        expect(got > 0, "the order that was found is one of the orders, and counts itself")
        own = np.corrcoef(exam, values)[0, 1]
        others = [np.corrcoef(exam, order)[0, 1] for order in permutations(values)]
        share = np.mean(np.abs(others) >= abs(own) - 1e-9)
        upward = np.mean(np.array(others) >= own - 1e-9)
        stronger = np.mean(np.abs(others) > abs(own) + 1e-9)
        if abs(got - share) > 1e-6:
            one_sided = abs(got - upward) < 1e-6
            expect(not one_sided, "a correlation as far below zero is as strong as one above")
            orders = got * len(others)
            whole = abs(orders - round(orders)) < 1e-6
            expect(
                not whole or not stronger - 1e-6 < got < share,
                "an order as strong as the one found counts too, the one found among them; what "
                "should be equal may differ in its last digits",
            )
            expect(
                False,
                f"for {len(exam)} organisms, the share of orders is another than {got:.3f}"
                + ("" if whole else ": is each order tried, and once?"),
            )
