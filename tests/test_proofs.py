"""Equations of the chapters on rotary positions: what is proved, and what is refused."""

import pytest
import sympy as sp

from whatwhere.book import proofs

x, y, a, b = sp.symbols("x y a b", real=True)
z = sp.symbols("z", complex=True)
PARTS = {z: a + sp.I * b}


def test_a_true_equation_is_returned_with_its_two_sides():
    equation = proofs.proved(sp.cos(x) ** 2 + sp.sin(x) ** 2, 1)
    assert equation.lhs == sp.cos(x) ** 2 + sp.sin(x) ** 2 and equation.rhs == 1
    assert proofs.proved((x + y) ** 2, x**2 + 2 * x * y + y**2, "S").lhs == sp.Symbol("S")


@pytest.mark.parametrize(
    ("left", "right"),
    [(sp.cos(-x), -sp.cos(x)), (sp.sqrt(x**2), x), (x, x + sp.Float("1e-9")), (sp.re(z), z)],
)
def test_a_false_one_is_refused(left, right):
    with pytest.raises(ValueError, match="is not shown to be"):
        proofs.proved(left, right, parts=PARTS)


def test_complex_letters_have_parts():
    assert proofs.is_zero(z * sp.conjugate(z) - a**2 - b**2, PARTS)
    assert proofs.proved(sp.im(sp.conjugate(z)), -b, parts=PARTS).rhs == -b


def test_matrices_are_compared_entry_by_entry():
    turn = sp.Matrix([[sp.cos(x), -sp.sin(x)], [sp.sin(x), sp.cos(x)]])
    assert proofs.is_zero(turn * turn.T - sp.eye(2))
    assert not proofs.is_zero(sp.Matrix([0, 0, x]))
    with pytest.raises(ValueError, match=r"shapes \(2, 2\) and \(\)"):
        proofs.proved(turn, 1)


def test_sums_of_any_length_are_compared_term_by_term():
    i, n = sp.symbols("i N", integer=True, positive=True)
    c = sp.IndexedBase("c", real=True)

    def total(x):
        return sp.Sum(c[i] * sp.cos(x * i), (i, 0, n - 1))

    assert proofs.is_zero(total(x) - total(-x))
    assert not proofs.is_zero(total(x) - total(2 * x))
