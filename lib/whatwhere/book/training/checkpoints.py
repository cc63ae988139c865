"""What a stage of training keeps, so that a run which was killed goes on from there."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ...files import first_line, write

if TYPE_CHECKING:
    from .stages import Stage


def _files(folder, stage):
    return Path(folder) / f"{stage.name}.safetensors", Path(folder) / f"{stage.name}.json"


def keep(
    folder: str | Path,
    stage: Stage,
    own: Mapping[str, torch.Tensor],
    tools: Sequence[torch.optim.Optimizer],
    state: dict[str, Any],
) -> None:
    """Write the weights the stage trains (`own`, by name), the moments of its optimizers (`tools`),
    and its progress (`state`).

    The step number sits in the weights' own header, so they cannot part.
    """
    weights, log = _files(folder, stage)
    weights.parent.mkdir(parents=True, exist_ok=True)
    tensors = {f"w.{k}": v for k, v in own.items()}
    for i, tool in enumerate(tools):
        for j, moments in tool.state_dict()["state"].items():
            tensors |= {f"o.{i}.{j}.{k}": torch.as_tensor(v) for k, v in moments.items()}
    tensors = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    save_whole(tensors, weights, {"state": json.dumps(state), "stage": json.dumps(asdict(stage))})
    write(log, json.dumps({**state, "stage": asdict(stage)}, indent=1) + "\n")


def save_whole(tensors: dict[str, torch.Tensor], path: str | Path, header: dict[str, str]) -> None:
    """Write a safetensors file, whole or not at all; OSError with a sentence where the disk
    refuses."""
    part = Path(f"{path}.part")
    try:
        save_file(tensors, part, metadata=header)
        os.replace(part, path)
    except (OSError, SafetensorError) as error:
        part.unlink(missing_ok=True)
        raise OSError(
            f"'{path}' could not be written ({first_line(error)}). What was kept there before is "
            "whole: make room, and the next run goes on from it."
        ) from None


def resume(
    folder: str | Path,
    stage: Stage,
    own: Mapping[str, torch.Tensor],
    tools: Sequence[torch.optim.Optimizer],
    seed: int = 0,
) -> dict[str, Any]:
    """Load the stage's checkpoint if there is one and return its progress, else the start.

    Raises ValueError where the checkpoint was made by other settings of the stage or another seed.
    """
    weights, _ = _files(folder, stage)
    if not weights.exists():
        return {"step": 0, "seconds": 0.0, "log": [], "seed": seed}
    try:
        with safe_open(weights, "pt") as file:
            header = file.metadata()
            tensors = {k: file.get_tensor(k) for k in file.keys()}
        made_by, state = json.loads(header["stage"]), json.loads(header["state"])
        if made_by == asdict(stage):
            _put_back(tensors, own, tools)
            if (
                not 0 < state["step"] <= stage.steps
                or not state["seconds"] >= 0
                or not isinstance(state["log"], list)
            ):
                raise ValueError("its progress cannot be")
    except Exception as error:  # safetensors, json and torch each raise their own for a broken file
        raise ValueError(
            f"'{weights}' is damaged ({first_line(error)}); delete it, and the stage starts anew."
        ) from None
    if made_by != asdict(stage):
        made_by = f"other settings of stage '{stage.name}'"
        raise ValueError(
            f"'{weights}' was made by {made_by}; delete it, or train in another folder."
        )
    if state.setdefault("seed", 0) != seed:
        raise ValueError(
            f"'{weights}' is of seed {state['seed']}, not {seed}; delete it, or train in another "
            "folder."
        )
    return state


def _put_back(tensors, own, tools):
    """The weights and the moments of the optimizers, as they were kept."""
    if not all(each.isfinite().all() for each in tensors.values()):
        raise ValueError("it holds what is no number")
    with torch.no_grad():
        for k, p in own.items():
            p.copy_(_like(tensors[f"w.{k}"], p))
    for i, tool in enumerate(tools):
        saved, trained = {}, [p for group in tool.param_groups for p in group["params"]]
        for key, value in tensors.items():
            if key.startswith(f"o.{i}."):
                _, _, j, k = key.split(".", 3)
                saved.setdefault(int(j), {})[k] = (
                    value if value.ndim == 0 else _like(value, trained[int(j)])
                )
        tool.load_state_dict({**tool.state_dict(), "state": saved})


def _like(tensor, parameter):
    if tensor.shape != parameter.shape:  # torch would stretch it
        raise ValueError(
            f"a tensor has the shape {tuple(tensor.shape)} in place of {tuple(parameter.shape)}"
        )
    return tensor
