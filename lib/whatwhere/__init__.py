"""What and Where: reading images like texts inside a vision-language model.

The helpers that the book's notebooks share. Modules are imported on first use, so that
`import whatwhere` is instant and a page that only reads the ledger never loads torch.
"""

from importlib import import_module

__version__ = "0.1.0"

_MODULES = (
    "answers", "benchmarks", "compress", "doses", "exercises", "figures", "geometry", "hub", "images", "intervene", "ledger",
    "lens", "models", "parity", "phases", "published", "rehearsal", "rope", "scenes", "stages", "stats", "training",
    "world",
)  # fmt: skip
__all__ = ["load", *_MODULES]


def __getattr__(name):
    if name == "load":
        return import_module(".models", __name__).load
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"whatwhere has no '{name}'; it has {', '.join(__all__)}")


def __dir__():
    return sorted(__all__)
