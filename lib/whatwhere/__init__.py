"""What and Where: reading images like texts inside a vision-language model.

Three storeys, and arrows point down only:

    replication                      the paper's experiments on real models, claim by claim
    book                             what chapters and pages alone use: organisms, ledger, figures
    benchmarks, lmms, photographs    the field's benchmarks; pictures in which things are marked
    tuning                           fine-tuning on a benchmark's train questions
    world                            the organisms' world, with questions
    models, lens, compress, rope, …  what reads and changes a model, and knows nothing of the above

Modules are imported on first use, so that `import whatwhere` is instant and a page that only reads
the ledger never loads torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for editors and checkers, which do not run `__getattr__`
    from . import (
        answers,
        attention,
        benchmarks,
        book,
        compress,
        conditions,
        families,
        geometry,
        hub,
        images,
        intervene,
        lens,
        loading,
        models,
        photographs,
        places,
        relations,
        replication,
        rope,
        scenes,
        stages,
        stats,
        tuning,
        world,
    )
    from .loading import load

__version__ = "0.1.0"

__all__ = [
    "answers", "attention", "benchmarks", "book", "compress", "conditions", "families",
    "geometry", "hub", "images", "intervene", "lens", "load", "loading", "models", "photographs",
    "places", "relations", "replication", "rope", "scenes", "stages", "stats", "tuning", "world",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "load":
        return import_module(".loading", __name__).load
    if name in __all__:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"whatwhere has no '{name}'; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)
