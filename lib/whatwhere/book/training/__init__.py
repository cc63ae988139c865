"""The organisms, trained from scratch: `python -m whatwhere.book.training toy-llava` (or `make
train`).

The recipe follows the real models: the language model first learns language, the vision tower first
learns to name what pictures show, a connector is fitted between the two with both frozen, and then
all is tuned on questions. What this puts into the models on purpose, and what nobody asked for, is
said on their cards.
"""

import hashlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ...files import read_json, write
from ...loading import load
from . import build, evaluate
from .build import ORGANISMS
from .card import render
from .stages import Reader, Stage, run
from .towers import Tower

__all__ = ["ORGANISMS", "RECIPES", "Stage", "train"]


def _recipe(vision):
    return (
        Stage("text", 2400, 16, rate=1e-3, muon=2e-3),
        Stage("close-ups", 2000, 32, rate=2e-3, muon=1e-2, cool=0.3),
        Stage("vision", vision, 32, rate=2e-3, muon=5e-3),
        Stage("align", 600, 16, rate=1e-3),
        Stage("tune", 2400, 16, rate=5e-4, muon=1e-3, text_every=4),
    )


# Where things are takes longer to learn from a table of places than from rotations.
RECIPES = {"toy-llava": _recipe(vision=1200), "toy-qwen2vl": _recipe(vision=600)}


def train(
    name: str,
    out: str | Path,
    work: str | Path,
    recipe: Sequence[Stage] | None = None,
    seed: int = 0,
    device: str = "cpu",
    workers: int = 1,
    scenes: int = 1000,
) -> Path:
    """Train an organism and write it to `out` as a checkpoint folder with a model card; returns the
    folder.

    `work` is this run's own folder for the checkpoints of its stages: a killed run goes on from
    there. A recipe that leaves a stage out is an ablation.

    Raises:
        ValueError: for an unknown name.
    """
    tower, reader, report = prepare(
        name, work, recipe or RECIPES.get(name, ()), seed, device, workers
    )
    model = tower.model
    started = time.monotonic()
    numbers = {
        "name": Path(out).name, "organism": name, "seed": seed,
        "parameters": sum(p.numel() for p in model.parameters()),
        "machine": {"device": _device(device), "torch": torch.__version__.split("+")[0]},
        "stages": report,
        "test": evaluate.families(tower, "test", scenes, device),
        "unseen": evaluate.families(tower, "unseen", scenes, device),
        "controlled": evaluate.controlled(tower, "test", max(2, scenes // 5), device),
    }  # fmt: skip
    numbers["evaluation_minutes"] = round((time.monotonic() - started) / 60, 1)
    folder = build.save(model.cpu(), name, out)
    model.config.whatwhere["lens_layer"] = numbers["lens_layer"] = evaluate.lens_layer(
        load(folder, device, "float32")
    )
    model.config.save_pretrained(folder)
    write(folder / "training.json", json.dumps(numbers, indent=1) + "\n")
    write(folder / "README.md", render(numbers))
    return folder


def prepare(
    name: str,
    work: str | Path,
    recipe: Sequence[Stage],
    seed: int = 0,
    device: str = "cpu",
    workers: int = 1,
) -> tuple[Tower, Reader, list[dict[str, Any]]]:
    """Run stages of a recipe, or load what is already done; returns (tower, reader, report of the
    stages).

    Stages that train different parts (`text`; `close-ups` and `vision`) may be run by different
    processes first.
    """
    model: Any = build.model(name, seed)
    model.to(device)
    tower, reader = Tower(model, name), Reader(build.VISION_WIDTH).to(device)
    tower.start()
    report = []
    for stage in recipe:
        model.train()
        state = run(tower, reader, stage, work, device, workers, seed=seed)
        model.eval()
        brought = _remembered(
            Path(work), stage.name, lambda name=stage.name: effect(tower, reader, name, device)
        )
        report.append({
            "stage": stage.name, "steps": stage.steps, "batch": stage.batch,
            "text_every": stage.text_every, "minutes": round(state["seconds"] / 60, 1),
            "log": state["log"], "effect": brought,
        })  # fmt: skip
    return tower, reader, report


def _device(device):
    return (
        torch.cuda.get_device_name()
        if torch.device(device).type == "cuda"
        else f"a CPU with {os.cpu_count()} cores"
    )


def _remembered(work, stage, measure):
    """A stage's effect, measured once for each checkpoint: it takes a while, and a resumed run need
    not do it again."""
    file, of = (
        work / f"{stage}.effect.json",
        hashlib.sha256((work / f"{stage}.safetensors").read_bytes()).hexdigest(),
    )
    kept = read_json(file) if file.exists() else {}
    if not isinstance(kept, dict) or kept.get("of") != of or "effect" not in kept:
        kept = {"of": of, "effect": measure()}
        write(file, json.dumps(kept))
    return kept["effect"]


def effect(tower: Tower, reader: Reader, stage: str, device: str) -> dict[str, float]:
    """What a stage has brought, measured on development scenes."""
    if stage == "text":
        return {
            "answers right when the scene is told in words": evaluate.told(tower, device=device)
        }
    if stage in ("close-ups", "vision"):
        return {
            f"{k} words right": v
            for k, v in evaluate.labelling(tower, reader, device=device).items()
        }
    return {k: v["accuracy"] for k, v in evaluate.families(tower, "dev", 200, device).items()}
