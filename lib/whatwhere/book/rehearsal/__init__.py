"""Small models of the true classes with random weights, to walk every path of a real model before
its weights are there.

    vlm = load(rehearsal.tiny_random("rehearsal/qwen2_vl", "qwen2_vl"))
    rehearsal.tour(vlm, picture)                     # which chapters' calls work on this family

What such a model says means nothing; that it says it by the very code that a real one runs is what
is rehearsed. `make rehearse` does the same at full size. A checkpoint is laid out as the hub's own
of its family (`hub`), or as today's transformers saves one (`checkpoints`), with a vocabulary of
some forty whole words.
"""

from functools import partial
from pathlib import Path

from transformers.utils import logging

from . import hub
from .checkpoints import internvl, llava, qwen2vl, qwen3vl, smolvlm
from .itinerary import tour

__all__ = ["FAMILIES", "tiny_random", "tour"]

FAMILIES = {
    "llava": llava,
    "qwen2_vl": qwen2vl,
    "qwen2_5_vl": partial(qwen2vl, window=2),
    "qwen3_vl": qwen3vl,
    "internvl": internvl,
    "idefics3": partial(smolvlm, family="idefics3"),
}


LAYOUTS = ("hub", "transformers")


def tiny_random(folder: str | Path, family: str = "qwen2_vl", layout: str = "hub") -> str:
    """Write a small random checkpoint of a family, with tokenizer, image processor and chat
    template; returns its folder.

    Args:
        layout: "hub", files, names and settings as in the family's repository on the hub; or
            "transformers", as `save_pretrained` writes them today.

    Raises:
        ValueError: for a family or a layout that is not known.
    """
    if family not in FAMILIES:
        raise ValueError(
            f"There is no rehearsal for the family {family!r}; there are {', '.join(FAMILIES)}."
        )
    if layout not in LAYOUTS:
        raise ValueError(
            f"There is no layout {layout!r} of a rehearsal; there are {' and '.join(LAYOUTS)}."
        )
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # it takes no time, and the bar would stay on the page
    try:
        about = {"rehearsal": True}  # so that nobody takes it for a real one: vlm.about
        if layout == "hub":
            hub.build(folder, family, about=about)
        else:
            FAMILIES[family](Path(folder), about=about)
    finally:
        if shown:
            logging.enable_progress_bar()
    return str(folder)
