"""Equations that are proved before they are shown, with sympy.

    from whatwhere.book import proofs
    x = sympy.symbols("x", real=True)
    proofs.proved(sympy.cos(x) ** 2 + sympy.sin(x) ** 2, 1)

What is true for one choice of letters only is refused with a ValueError.
"""

from collections.abc import Mapping
from typing import Any

import sympy


def is_zero(expression: Any, parts: Mapping[Any, Any] | None = None) -> bool:
    """Is an expression, or every entry of a matrix, zero whatever its letters stand for?

    False means that sympy could not show it, and for the algebra of rotations (powers, sines,
    cosines, exponentials) that it is not so.

    Args:
        parts: {complex letter: its real and imaginary part}, put in before anything is simplified.

    Sums over an index are compared term by term.
    """
    return all(_is_zero(entry, parts or {}) for entry in sympy.Matrix([expression]))


def proved(left: Any, right: Any, name: str = "", parts: Mapping[Any, Any] | None = None) -> Any:
    """The equation left = right, to be shown, once it is proved for all values of its letters.

    Args:
        left, right: expressions, or matrices of one shape.
        name: what the left side is called where it is shown (LaTeX); by default it is written out.
        parts: see `is_zero`.

    Raises:
        ValueError: where the two differ, or cannot be shown to be equal.
    """
    left, right = sympy.sympify(left), sympy.sympify(right)
    shapes = [getattr(side, "shape", ()) for side in (left, right)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"The two sides have the shapes {shapes[0]} and {shapes[1]}.")
    if not is_zero(left - right, parts):
        raise ValueError(
            f"{left} is not shown to be {right} for all values of the letters: check signs, and "
            "which letters are real."
        )
    return sympy.Eq(sympy.Symbol(name) if name else left, right, evaluate=False)


def _is_zero(entry, parts):
    if not entry.has(sympy.Sum):
        entry = sympy.expand_complex(entry.subs(parts))
    return sympy.simplify(entry) == 0
