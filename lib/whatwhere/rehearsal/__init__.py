"""Small models of the true classes with random weights, to walk every path of a real model before its weights are there.

    vlm = load(rehearsal.checkpoint("rehearsal/qwen2_vl", "qwen2_vl"))
    rehearsal.tour(vlm, picture)                     # which chapters' calls work on this family

What such a model says means nothing; that it says it by the very code that a real one runs is what is rehearsed. `make rehearse`
does the same at full size.
"""

from functools import partial
from pathlib import Path

from transformers.utils import logging

from .checkpoints import internvl, llava, qwen2vl
from .tour import tour

__all__ = ["FAMILIES", "checkpoint", "tour"]

FAMILIES = {
    "llava": llava,
    "qwen2_vl": qwen2vl,
    "qwen2_5_vl": partial(qwen2vl, window=2),
    "internvl": internvl,
}


def checkpoint(folder, family="qwen2_vl"):
    """Write a small random checkpoint of a family, with tokenizer, image processor and chat template; returns its folder."""
    if family not in FAMILIES:
        raise ValueError(f"There is no rehearsal for the family {family!r}; there are {', '.join(FAMILIES)}.")
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # it takes no time, and the bar would stay on the page
    try:
        FAMILIES[family](Path(folder), about={"rehearsal": True})  # so that nobody takes it for a real one: vlm.about
    finally:
        if shown:
            logging.enable_progress_bar()
    return str(folder)
