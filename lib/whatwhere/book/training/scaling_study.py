"""The study behind chapters 15 and 16, `make scaling`: does RoPE scaling help a model to see where?

Five small organisms from different seeds and toy-qwen2vl: scaled without training, scaled and
fine-tuned, and, for the small ones, scaled from the start. Every figure goes to
data/results/rope_scaling.json. Every step's result is written down as soon as it is there, so that
a killed run goes on from the last one.
"""

import argparse
import json
import os
import platform
import random
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ... import rope, world
from ...files import read_json, write
from ...loading import load
from . import small as organisms
from .data import draw_questions
from .evaluate import exact
from .small import FINE_TUNING, PRETRAINING, Small, Stage, controlled, learn
from .towers import Tower

ALPHAS, POWERS = (3, 9, 29, 99, 299, 999), (1, 2, 4, 8)
SETTINGS = tuple(product("AB", ("wide", "narrow")))
# the first for all seeds
FROM_THE_START = ("α 29, p 2", "α 9, p 2", "paper: α 99, p 8", "base 10000 → 100")
LARGE = 216  # pixels a side: 24 × 24 patches where training had 16 × 16
BIG_TUNING = Stage("fine-tune", 100, 16, rate=3e-4, muon=5e-4, warm=10)


def scalings(n: int) -> dict[str, torch.Tensor]:
    """{name: gains (n,) or (2, n)} of what is compared: the paper's own setting, others of its
    formula, and other formulas."""
    one = torch.ones(n, dtype=torch.float64)
    slope = torch.arange(n) / n
    strong = rope.gains(n, 29, 2)
    return {
        "none": one, "paper: α 99, p 8": rope.gains(n, 99, 8), "α 9, p 2": rope.gains(n, 9, 2),
        "α 29, p 2": strong, "base 10000 → 100": 100.0**slope, "all × 1.5": 1.5 * one,
    }  # fmt: skip


def alternatives(n: int) -> dict[str, torch.Tensor]:
    """{name: gains} of what is tried without training besides: is it the formula, or one
    frequency?"""
    some = scalings(n)
    some |= {
        f"base 10000 → {base}": (10_000 / base) ** (torch.arange(n) / n)
        for base in (5000, 2500, 1000)
    }
    some |= {
        f"all × {gain}": torch.full((n,), gain, dtype=torch.float64)
        for gain in (0.667, 0.8, 1.1, 1.25)
    }
    # in the paper's code, beside p 8
    some |= {f"α 99, p {p}": rope.gains(n, 99, p) for p in (6, 10)}
    some |= {
        f"sigmoid: α {a}, k 40, c {c}": rope.sigmoid_gains(n, a, 40, c)
        for a, c in ((99, 0.6), (0.5, 0.1))
    }
    for gain in (1.25, 1.5):
        some |= {
            f"frequency {i + 1} alone × {gain}": 1
            + (gain - 1) * torch.eye(n, dtype=torch.float64)[i]
            for i in range(n)
        }
    for alpha in (9, 29):
        gains, one = rope.gains(n, alpha, 2), torch.ones(n, dtype=torch.float64)
        some |= {
            f"α {alpha}, p 2, rows alone": torch.stack([gains, one]),
            f"α {alpha}, p 2, columns alone": torch.stack([one, gains]),
            f"α {alpha}, p 2, without frequency 2": torch.where(torch.arange(n) == 1, one, gains),
        }
    return some


def gains_of(name: str, n: int) -> torch.Tensor:
    """The gains (n,) of "α/p", or of "none"."""
    return (
        torch.ones(n, dtype=torch.float64)
        if name == "none"
        else rope.gains(n, *map(float, name.split("/")))
    )


class Notes:
    """What a task has found so far, in a file: {step: result}. A step that is there already is not
    done again."""

    def __init__(self, file: str | Path):
        self.file = Path(file)
        self.found = read_json(self.file) if self.file.exists() else {}
        if not isinstance(self.found, dict):
            raise ValueError(
                f"'{self.file}' holds no results; delete it, and they are measured again."
            )

    def once(self, step: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        if step not in self.found:
            start = time.monotonic()
            self.found[step] = {**measure(), "seconds": round(time.monotonic() - start, 1)}
            write(self.file, json.dumps(self.found))
            print(f"{self.file.stem}: {step}, {self.found[step]['seconds']:.0f} s", flush=True)
        return self.found[step]


def by_set(organism: Small, items: Iterable[tuple[world.Scene, Sequence[world.Question]]]) -> str:
    """Right answers of controlled sets: "1101 0111 …", a word for each set, a letter for each of
    its relations, in order."""
    return " ".join(
        "".join(map(str, each))
        for each in np.array(exact(organism.tower, items), int).reshape(-1, 4)
    )


def where(
    organism: Small, draw: Callable[..., Any], split: str, n: int, large: int = 0
) -> dict[str, str]:
    """{setting: right answers} on controlled sets of a split; `large` more of set B in a larger
    room."""
    found = {" ".join(at): by_set(organism, draw(*at, split, n)) for at in SETTINGS}
    if large:
        for spacing in ("wide", "narrow"):
            found[f"B {spacing} large"] = by_set(organism, draw("B", spacing, split, large, LARGE))
    return found


def general(organism: Small, split: str, n: int) -> dict[str, list[int]]:
    """{family: [right, asked]} on scenes of a split."""
    rnd = random.Random(f"general/{split}")
    items = [(scene, organism.examine(scene, rnd)) for scene in world.scenes(split, n)]
    found = {}
    for (_, asked), verdicts in zip(items, exact(organism.tower, items)):
        for question, verdict in zip(asked, verdicts):
            one = found.setdefault(question.family, [0, 0])
            one[0] += int(verdict)
            one[1] += 1
    return found


def sit(
    organism: Small, draw: Callable[..., Any], sets: int = 50, large: int = 20, scenes: int = 200
) -> dict[str, Any]:
    """The whole test: controlled sets, also in a larger room and of unseen pairs, and every family
    of questions."""
    return {
        "where": where(organism, draw, "test", sets, large),
        "unseen": {
            " ".join(at): by_set(organism, draw(*at, "unseen", sets // 2)) for at in SETTINGS
        },
        "general": general(organism, "test", scenes),
    }


def scaled_by(organism: Small, gains: torch.Tensor | float) -> None:
    """The frequencies that gains make of the unscaled ones."""
    organism.frequencies = rope.frequencies(4 * organism.pairs) * gains


def surface(organism: Small, notes: Notes, draw: Callable[..., Any], dev: int, test: int) -> None:
    """Without training: every (α, p) and every alternative on development sets, and on test sets;
    and what else it changes."""
    points = {
        f"{alpha}/{p}": rope.gains(organism.pairs, alpha, p) for alpha, p in product(ALPHAS, POWERS)
    }
    for name, gains in {**points, **alternatives(organism.pairs)}.items():

        def measure(gains=gains):
            scaled_by(organism, gains)
            return {
                split: where(organism, draw, split, n)
                for split, n in (("dev", dev), ("test", test))
                if n
            }

        notes.once(f"free {name}", measure)

        def cost(gains=gains):
            scaled_by(organism, gains)
            return {"general": general(organism, "dev", 100)}

        notes.once(f"free {name}, general", cost)
    scaled_by(organism, 1.0)


def hits(text: str) -> np.ndarray:
    """(sets, 4) 0 or 1: `by_set`'s words, read."""
    return np.array([[int(letter) for letter in one] for one in text.split()])


def score(
    found: dict[str, Any],
    name: str,
    settings: Iterable[tuple[str, str]] = SETTINGS,
    split: str = "dev",
) -> float:
    """The share of relation questions that are right, mean over settings, in what `surface` has
    noted under a name.

    On and under are the same pictures at both spacings of A: of the narrow ones left and right
    alone are counted.
    """
    rows = {at: hits(found[f"free {name}"][split][" ".join(at)]) for at in settings}
    return float(
        np.mean(
            [
                each[:, 2:].mean() if at == ("A", "narrow") else each.mean()
                for at, each in rows.items()
            ]
        )
    )


def ability(found: dict[str, Any], name: str) -> float:
    """The share of all questions about ordinary development scenes that are right, mean over
    families."""
    return float(
        np.mean(
            [right / asked for right, asked in found[f"free {name}, general"]["general"].values()]
        )
    )


def choose(
    found: dict[str, Any], settings: Iterable[tuple[str, str]] = SETTINGS, loss: float = 0.01
) -> str:
    """The (α, p), as "α/p", that is best on development sets among those that cost at most `loss`
    of ability; or "none".

    found: what `surface` has noted. Of equals it is the smallest α.
    """
    names = ["none", *(f"{alpha}/{p}" for alpha, p in product(ALPHAS, POWERS))]
    least = ability(found, "none") - loss - 1e-9
    return max(
        (name for name in names if ability(found, name) >= least),
        key=lambda name: round(score(found, name, settings), 9),
    )


def grow(seed: int, work: Path) -> None:
    """One small organism: pretraining, scaling without training, with fine-tuning, and from the
    start."""
    notes, kept = Notes(work / f"small-{seed}.json"), work / f"small-{seed}.safetensors"
    watched = [item for at in SETTINGS for item in controlled(*at, "dev", 8)]

    def watch(organism):
        return {"relations right": round(float(np.mean(exact(organism.tower, watched))), 4)}

    def born(gains):
        organism = organisms.sprout(seed)
        scaled_by(organism, gains)
        logs = {
            stage.name: learn(organism, stage, watch if stage.name == "tune" else None)
            for stage in PRETRAINING
        }
        return organism, {"log": logs, **sit(organism, controlled)}

    def base():
        organism, found = born(1.0)
        organisms.keep(organism, kept)
        scaled_by(organism, 0.0)  # the control: a tower that knows no places
        return {**found, "without positions": where(organism, controlled, "test", 50)}

    notes.once("from the start none", base)
    organism = organisms.reopen(kept, seed)
    surface(organism, notes, controlled, 15, 30)
    for name, gains in scalings(organism.pairs).items():

        def tuned(gains=gains):
            organism = organisms.reopen(kept, seed)
            scaled_by(organism, gains)
            before = sit(organism, controlled)
            log = learn(organism, FINE_TUNING, watch, every=20)
            return {"before": before, "log": log, **sit(organism, controlled)}

        notes.once(f"tuned {name}", tuned)
    for name, gains in scalings(organism.pairs).items():
        if name in FROM_THE_START[: 4 if seed < 3 else 1]:
            notes.once(f"from the start {name}", lambda gains=gains: born(gains)[1])


def big(work: Path, tuning: bool) -> None:
    """toy-qwen2vl: scaled without training; or, `tuning`, fine-tuned with and without scaling, on
    three draws of scenes."""

    def fresh(seed):
        model = load(organisms.NAME, "cpu", "float32").model
        return Small(
            Tower(model, organisms.NAME),
            nn.Identity(),
            seed,
            draw_questions,
            lambda scene, rnd: world.questions(scene),
        )

    def draw(which, spacing, split, n, size=world.SIZE):
        sets = world.controlled(which, n, spacing, split, size=size)
        return [(scene, [question]) for group in sets for scene, question in group.asked()]

    if not tuning:
        notes = Notes(work / "toy-qwen2vl.json")
        organism = fresh(0)
        for name, gains in scalings(organism.pairs).items():

            def measure(gains=gains):
                scaled_by(organism, gains)
                return sit(organism, draw)

            notes.once(f"whole test {name}", measure)
        surface(organism, notes, draw, 25, 0)
        scaled_by(organism, gains_of(choose(notes.found), organism.pairs))
        notes.once(f"whole test {choose(notes.found)}", lambda: sit(organism, draw))
        return
    notes = Notes(work / "toy-qwen2vl-tuned.json")
    for seed, (name, gains) in product(range(3), scalings(6).items()):
        if name in ("none", "paper: α 99, p 8", "α 9, p 2"):

            def tuned(seed=seed, gains=gains):
                organism = fresh(seed)
                scaled_by(organism, gains)
                return {
                    "log": learn(organism, BIG_TUNING, every=20),
                    **sit(organism, draw, 30, 0, 100),
                }

            notes.once(f"seed {seed}, {name}", tuned)


def run(task: tuple[Any, ...], work: Path) -> None:
    """One task in a process of its own, on one thread."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    kind, *rest = task
    if kind == "small":
        grow(rest[0], work)
    else:
        big(work, kind == "tuned")


def machine() -> str:
    """What this was measured on, in words."""
    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    return f"{processor()}, {os.cpu_count()} cores, torch {torch.__version__}"


def processor() -> str:
    """The processor's name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next(
        (line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine()
    )


def main() -> None:
    root = Path(__file__).parents[4]
    parser = argparse.ArgumentParser(
        prog="whatwhere.book.training.scaling_study", description=__doc__
    )
    parser.add_argument("--out", type=Path, default=root / "data" / "results" / "rope_scaling.json")
    parser.add_argument(
        "--work",
        type=Path,
        default=root / ".training" / "scaling",
        help="where unfinished results are kept",
    )
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes, of one thread each"
    )
    args = parser.parse_args()
    tasks = [
        ("small", 0),
        ("big",),
        ("small", 1),
        ("small", 2),
        ("tuned",),
        ("small", 3),
        ("small", 4),
    ]
    with ProcessPoolExecutor(args.workers, get_context("spawn")) as pool:
        for done in [pool.submit(run, task, args.work) for task in tasks]:
            done.result()
    found = {file.stem: json.loads(file.read_text()) for file in sorted(args.work.glob("*.json"))}
    write(args.out, json.dumps({"machine": machine(), "found": found}, indent=1) + "\n")
    print(f"{args.out} holds what was found")


if __name__ == "__main__":
    main()
