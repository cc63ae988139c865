"""What differs between model families: where the parts are, and how patches become visual tokens.

One small adapter per family. It finds the blocks, the connector and the norm in the untouched
Hugging Face model, and knows the order in which that family's ViT lays out its patches. All else
is shared and lives in `models`. book/new_adapter.md adds a family.

    families.members()                         # what an adapter has
    families.register("my_vlm", MyAdapter)     # a subclass of families.Adapter
    families.check(vlm, processor)             # is what is read what the model itself computes?
"""

from typing import TYPE_CHECKING, Any

from .adapter import Adapter, Grid, Model, Pixels, Projection, members
from .registry import adapter_class, names, register
from .square import Square

if TYPE_CHECKING:  # for editors and checkers, which do not run `__getattr__`
    from .parity import check

__all__ = [
    "Adapter", "Grid", "Model", "Pixels", "Square", "Projection", "adapter_class", "check",
    "members", "names", "register",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "check":  # it reads models, whose module imports this one
        from .parity import check

        return check
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
