"""The book's own: what its chapters and pages use, and a researcher does not need.

The organisms and their training, the ledger of claims, exercises, figures and widgets, checkpoints
to rehearse with, and the sizes of published models. It stands on the rest of the package, which
knows nothing of it. Modules are imported on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for editors and checkers, which do not run `__getattr__`
    from . import doses, exercises, figures, fleet, ledger, phases, published, rehearsal, training

__all__ = [
    "doses",
    "exercises",
    "figures",
    "fleet",
    "ledger",
    "phases",
    "published",
    "rehearsal",
    "training",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"whatwhere.book has no '{name}'; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)
