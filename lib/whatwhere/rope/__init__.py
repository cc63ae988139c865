"""Rotary positions in two dimensions: the terms as algebra, the same in numbers, and in a model.

    theta = rope.frequencies(80)  # Qwen2-VL's, radians per patch
    shared, telling = rope.axial(theta).terms(q, k, rope.place("left", 3))
    rope.vision(vlm), rope.heads(vlm, image)  # a loaded model's own
    with rope.scaled(vlm, alpha=9, p=2): …  # some frequencies turn faster

The scaling is section 5 of the paper.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .projections import Heads, heads, language, language_heads, vision
from .rotary import PLACES, Rotary, axial, frequencies, gains, largest_alpha, place, sigmoid_gains
from .scaling import scaled

if TYPE_CHECKING:  # for editors and checkers, which do not run `__getattr__`
    from . import symbolic

__all__ = [
    "PLACES", "Heads", "Rotary", "axial", "frequencies", "gains", "heads", "language",
    "language_heads", "largest_alpha", "place", "scaled", "sigmoid_gains", "symbolic", "vision",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "symbolic":  # it needs sympy, which nobody else does
        return import_module(".symbolic", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
