"""Every method by its name, and what each needs.

    with compress.compressed(vlm, "visionzip", keep=64):
        vlm.answer(image, question)
    compress.table()  # a row for each: its place, what it needs, whether FlashAttention stays

All take the same `keep`, so that methods are compared at equal tokens, and beside the baselines:
"random", "grid" and "smaller".
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from . import groups, smaller
from .groups import Keep, Method
from .methods import by_class_token, by_text, diverse, gather, in_lm, runs, tome

# {name: a function of keep}: baselines first
METHODS: dict[str, Callable[[Keep], Method]] = {
    **groups.BASELINES,
    "smaller": smaller.smaller,
    "tome": tome.tome,
    "visionzip": by_class_token.visionzip,
    "prumerge": by_class_token.prumerge,
    "fastv": in_lm.fastv,
    "pyramiddrop": in_lm.pyramiddrop,
    "sparsevlm": by_text.sparsevlm,
    "cdpruner": by_text.cdpruner,
    "divprune": diverse.divprune,
    "dart": diverse.dart,
    "runs": runs.runs,
    "regions": runs.regions,
    "gather": gather.gather,
}
CONTROLS = ("smaller", "random", "grid")  # what a method has to beat


def named(which: int | str) -> str:
    """The name of a method, by its name or an alias.

    Raises:
        ValueError: where there is none.
    """
    listed = (*groups.WORDS, *METHODS)
    groups.check(which, (*listed, *groups.ALIASES), "method", listed)
    return str(groups.ALIASES.get(which, which))


def table() -> pd.DataFrame:
    """A row for each method: its place, whether it reads attention weights, which FlashAttention
    never writes down, and whether it needs the question, a class token, training, or a second pass
    through the model.

    A method that reads weights of the block at its own place computes them for that block alone,
    beside what the model computes; one that reads others runs the model's first part twice.
    """
    rows = []
    for name in (*groups.WORDS, *METHODS):
        trained = name in groups.WORDS  # by a decoder, at "LM 0"
        method = METHODS["grid"](1) if trained else METHODS[name](1)
        reads = [need for need in method.needs if need in groups.WEIGHTS]
        before = method.place == "LM 0"
        rows.append(
            {
                "method": name,
                "place": method.where,
                "attention weights": bool(reads),
                "FlashAttention": not reads,
                "question": "question" in method.needs,
                "class token": "class_token" in method.needs,
                "training": trained,
                "second pass": before and bool(reads or "states" in method.needs),
            }
        )
    return pd.DataFrame(rows).set_index("method")
