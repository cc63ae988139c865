"""Checks of the chapter that derives what rotary positions do to left and right."""

from collections.abc import Callable, Sequence
from typing import Any

import sympy as sp

from . import exercise, expect

Answer = Callable[..., Any]


def _expression(answer: Any, what: str) -> Any:
    expect(answer is not None, f"{what} is None: is there a return at the end?")
    try:
        answer = sp.sympify(answer)
    except (sp.SympifyError, TypeError):
        answer = None
    expect(isinstance(answer, sp.Expr), f"{what} should be a sympy expression")
    return answer


def _matrix(answer: Any, shape: tuple[int, int], what: str) -> Any:
    expect(answer is not None, f"{what} is None: is there a return at the end?")
    expect(isinstance(answer, sp.MatrixBase), f"{what} should be a sympy Matrix")
    turned = " (rows and columns are the other way round)"
    found = answer.shape
    wrong = f"{what} should have the shape {shape}; it has {found}"
    expect(found == shape, wrong + (turned if found == shape[::-1] else ""))
    return answer


def _zero(entry):
    return sp.simplify(entry) == 0


@exercise("the sum is right for every head, and every distance on both axes")
def diagonal(diagonal: Answer, logit: Answer, m: sp.Symbol, n: sp.Symbol) -> None:
    answer = _expression(diagonal(), "diagonal()")
    loose = any(symbol.name == "i" for symbol in answer.free_symbols)
    expect(not loose, "this is what one pair of each half gives: a head adds up all of them")
    used = {m, n} <= answer.free_symbols
    expect(used, "the sum should depend on both distances, m and n")
    expect(_zero(answer.subs({m: 0, n: 0})), "where A does not move, the logits do not differ")
    due = logit(-m, -n) - logit(m, n)
    expect(_zero((due - answer).subs(n, 0)), "with n = 0 it should be left minus right")
    turned = _zero((due + answer).subs(m, 0)) and not _zero((due - answer).subs(m, 0))
    expect(not turned, "with m = 0 the sign is that of front minus behind")
    expect(_zero(due - answer), "this is not the difference of the two logits")
    expect(not answer.has(sp.cos), "it can be written as one sum, without what the two share")


@exercise("one axis cannot keep rows and columns apart")
def raster(raster: Answer, confused: Answer, letters: Sequence[sp.Symbol], n: sp.Symbol) -> None:
    a, b, theta, width = letters
    x, y = sp.symbols("x y", real=True)
    found = _expression(raster(x, y), "raster(x, y)")
    expect(_zero(raster(0, 0) - a), "without a displacement nothing turns: what is left then?")
    alone = _zero(found.subs(y, 0).diff(width))
    wide = _zero(found.subs(x, 0).diff(width))
    turned = "x counts columns and y rows (rows and columns are the other way round)"
    expect(not (wide and not alone), turned)
    expect(alone, "a step across counts one position, however wide the picture")
    due = a * sp.cos(x * theta) - b * sp.sin(x * theta)
    expect(_zero(found.subs(y, 0) - due), "within a row the pair should do what it does in step 3")
    rows = found.subs(x, 0) - due.subs(x, width * y)
    expect(_zero(rows), "a step down is not counted as the positions are")
    expect(_zero(found - due.subs(x, x + width * y)), "the two steps do not add up as they should")
    same = _expression(confused(), "confused()")
    expect(same.free_symbols <= {n, width}, "confused() should be made of n and W alone")
    expect(_zero(raster(same, 0) - raster(0, n)), "these two displacements can be told apart")


@exercise("three axes, three directions, at right angles")
def film(film: Answer, gram: Answer) -> None:
    pairs = [sp.symbols(f"a_{axis} b_{axis} theta_{axis}", real=True) for axis in "try"]
    m, n = sp.symbols("m n", real=True)
    still = _matrix(film(pairs, 0, 0, 0), (3, 1), "film(pairs, frames, rows, columns)")
    due = sp.Matrix([pair[0] for pair in pairs])
    expect(sp.simplify(still - due).is_zero_matrix, "at no displacement, nothing should turn")
    for axis, name in enumerate(("frame", "row", "column")):
        steps = [m if at == axis else 0 for at in range(3)]
        moved = sp.simplify(film(pairs, *steps) - still)
        others = [at for at in range(3) if at != axis]
        only = all(moved[at] == 0 for at in others) and moved[axis] != 0
        expect(only, f"where only the {name} differs, only the {name}'s pair should notice")
        a, b, theta = pairs[axis]
        turned = a * sp.cos(m * theta) - b * sp.sin(m * theta)
        right = _zero(film(pairs, *steps)[axis] - turned)
        expect(right, f"the {name}'s pair should do what a pair does in step 3")
    found = sp.simplify(_matrix(gram(pairs, m, n), (3, 3), "gram(pairs, m, n)"))
    expect(found.is_diagonal(), "the three differences should be orthogonal to each other")
    due = []
    for (_, b, theta), distance in zip(pairs, (1, n, m)):
        due.append(4 * b**2 * sp.sin(distance * theta) ** 2)
    right = [_zero(found[at, at] - due[at]) for at in range(3)]
    known = [any(_zero(found[at, at] - each) for each in due) for at in range(3)]
    expect(all(right) or not all(known), "the three differences are not in the order of the text")
    names = ("earlier minus later", "front minus behind", "left minus right")
    for each, name in zip(right, names):
        expect(each, f"the squared length of {name} is not right")
