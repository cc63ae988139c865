"""What lenses keep on disk: by which model they were made, and work that can be gone on with."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from safetensors import safe_open

from ..files import first_line

if TYPE_CHECKING:
    from ..models import VLM

UNFINISHED = "unfinished.safetensors"


class Kept(NamedTuple):
    """A file of tensors: whether the work in it is finished, how it was made, and what it holds."""

    finished: bool
    header: dict[str, str]
    about: dict[str, Any]
    tensors: dict[str, torch.Tensor]


def model_of(vlm: VLM) -> dict[str, Any]:
    """What a language model and its tokenizer are known by again, in any dtype."""
    numbers = []
    for part in (vlm.model.get_input_embeddings(), *vlm.lm_layers):
        weights = max(part.parameters(), key=torch.numel).detach().flatten()
        at = torch.linspace(0, len(weights) - 1, 4, dtype=torch.float64).long()
        numbers += weights[at.to(weights.device)].float().tolist()
    tokens = hashlib.sha256("\n".join(vlm.texts).encode(errors="replace")).hexdigest()
    return {"model": vlm.name, "mark": numbers, "tokenizer": tokens}


def check_model(about: dict[str, Any], vlm: VLM, what: str) -> None:
    """ValueError unless `what` ("bank") was made with this model and this tokenizer."""
    ours = model_of(vlm)
    if about.get("tokenizer") != ours["tokenizer"]:
        differs = f"with the tokenizer of {about.get('model')}, which is not that of {vlm.name}"
    elif not _alike(about, ours):
        differs = f"with {about.get('model')}, whose weights are not those of {vlm.name}"
    else:
        return
    raise ValueError(f"This {what} was made {differs}: make one with {vlm.name}.")


def _alike(one, other):
    mark, theirs = one.get("mark"), other.get("mark")
    if not isinstance(mark, list) or not isinstance(theirs, list):
        return mark == theirs
    return len(mark) == len(theirs) and np.allclose(mark, theirs, rtol=0.02, atol=1e-6)


def opened(path: Path, what: str) -> Kept:
    """A file as it was kept.

    Raises:
        ValueError: for one that is damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            tensors, header = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()
        if not all(each.isfinite().all() for each in tensors.values()):
            raise ValueError("it holds what is no number")
        return Kept(path.name != UNFINISHED, header, json.loads(header["about"]), tensors)
    except Exception as error:  # safetensors and json raise each their own for a broken file
        raise ValueError(
            f"'{path}' is damaged ({first_line(error)}); delete it, and make the {what} again."
        ) from error


def resumed(folder: str | Path | None, name: str, about: dict[str, Any], what: str) -> Kept | None:
    """What is in a folder of the work that is to be done or saved there, finished or not; None for
    nothing.

    Args:
        name: of the file of finished work.

    Raises:
        ValueError: where it is other work, of which nothing is overwritten.
    """
    for path in [Path(folder) / name, Path(folder) / UNFINISHED] if folder else ():
        if not path.is_file():
            continue
        kept = opened(path, what)
        other = [key for key in {**kept.about, **about} if key != "mark"]
        other = [key for key in other if kept.about.get(key) != about.get(key)]
        other += [] if _alike(kept.about, about) else ["mark"]
        if other:
            raise ValueError(
                f"'{path}' is of another {what} ({', '.join(other)} differ). Nothing was "
                "overwritten: give another folder, or delete it."
            )
        return kept
    return None
