"""Every method of compression on the organisms, at equal tokens: who answers what under which.

    python -m tools.bench.fair    # about an hour on one quiet core; killed, it goes on where it was

Writes data/results/fair_bench.json, which the chapter about the fair bench reads: a row for each
model, method, share of tokens and way of counting, with every single answer, so that any two can be
compared question by question.
"""

from __future__ import annotations

import json
import platform
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import whatwhere as ww
from whatwhere import compress, world
from whatwhere.compress import judge

OUT = Path("data/results/fair_bench.json")
FAMILIES = {
    "existence": ["existence"], "attributes": ["colour", "texture"], "relation": ["relation"],
    "reading": ["reading"], "counting": ["counting"], "description": ["description"],
}  # fmt: skip
MODELS = ("toy-llava", "toy-qwen2vl")
START, SCENES = 120_000, 120
SHARES = (0.25, 0.11, 0.5, 0.33, 0.75)
DRAWS = (1, 2, 3, 4)  # of random tokens, besides the first
# of the methods that drop tokens: what they drop joins what they keep
GATHERED = ("random", "fastv", "cdpruner", "dart")
# of those that merge
MERGING = ("grid", "tome-like", "tome", "visionzip", "prumerge", "runs", "regions", "gather")

CURVES = {"gather": "kept", "random": None, "divprune": None, "fastv": None, "visionzip": None,
          "smaller": None}  # fmt: skip


def jobs() -> Iterator[dict[str, Any]]:
    """What is to be measured: all tokens, each method as published at each share, the repairs, and
    the codes of words."""
    for model in MODELS:
        yield {"model": model, "method": None}
        for same, lengths in ((1, "dropped"), (2, "kept"), (3, "kept")):
            yield {"model": model, "method": "rle", "same": same, "lengths": lengths}
    for share in SHARES:
        if share == SHARES[1]:
            yield from curves()
        for model in MODELS:
            named = {"model": model, "keep": share}
            for method in compress.METHODS:
                yield named | {"method": method}
            for seed in DRAWS if share == SHARES[0] else DRAWS[:1]:
                yield named | {"method": "random", "seed": seed}
            for method in MERGING:
                yield named | {"method": method, "lengths": "kept"}
            for method in GATHERED if share in SHARES[:1] else ():
                yield named | {"method": method, "gathered": True}
                yield named | {"method": method, "gathered": True, "lengths": "kept"}


def curves() -> Iterator[dict[str, Any]]:
    """Those that the chapter draws, which are measured before all others."""
    for share in SHARES[1:3]:
        for method, lengths in CURVES.items():
            for model in MODELS:
                job = {"model": model, "keep": share, "method": method}
                yield job | ({"lengths": lengths} if lengths else {})


def asked(scenes: list) -> list[tuple[int, int, Any]]:
    """(number of the scene, of the family, question) of all questions, in the order of answers."""
    return [
        (n, f, question)
        for n, scene in enumerate(scenes)
        for f, kinds in enumerate(FAMILIES.values())
        for question in scene.questions(kinds)
    ]


def measured(vlm: Any, scenes: list, job: dict[str, Any], decoder: Any) -> dict[str, Any] | None:
    """The row of a job; None where the method cannot serve this model."""
    job = {name: value for name, value in job.items() if name != "model"}
    which, keep = job.pop("method"), job.pop("keep", None)
    try:
        if job.pop("gathered", False):
            which, keep = compress.gathered(compress.METHODS[which](keep)), None
        if which == "rle":
            job["decoder"] = decoder
        found = judge.judged(vlm, scenes, FAMILIES, which, keep, **job)
    except ValueError as error:
        if "class token" not in str(error):
            raise
        return None
    return {
        "kept": found.kept, "given": found.given, "on_average": found.on_average,
        "each": np.packbits(found.each).tobytes().hex(),
    }  # fmt: skip


def taught(vlm: Any) -> Any:
    """A decoder of chapter 6's kind."""
    pictures = [scene.image for scene in world.scenes("train", 200)]
    return compress.distil(vlm, compress.lessons(vlm, pictures), lr=0.03, epochs=10)


def main(out: Path = OUT, n_scenes: int = SCENES) -> None:
    """Measures what is not in the file yet, and writes it after each row."""
    warnings.simplefilter("ignore")
    scenes = list(world.scenes("test", n_scenes, start=START))
    settings = {
        "split": "test",
        "start": START,
        "scenes": n_scenes,
        "questions": len(asked(scenes)),
    }
    saved = {**settings, "machine": platform.processor() or platform.machine(), "rows": []}
    if out.is_file():
        saved = json.loads(out.read_text(encoding="utf-8"))
        if any(saved[name] != value for name, value in settings.items()):
            sys.exit(f"'{out}' is of other scenes; move it away, or measure on the same.")
    done = [{k: v for k, v in row.items() if k in KEYS} for row in saved["rows"]]
    models, decoders = {}, {}
    for job in jobs():
        if job in done:
            continue
        done.append(job)
        name = job["model"]
        vlm = models.setdefault(name, None) or ww.load(name)
        models[name] = vlm
        if job["method"] == "rle" and name not in decoders:
            decoders[name] = taught(vlm)
        row = measured(vlm, scenes, job, decoders.get(name))
        saved["rows"].append(job | (row or {}))
        text = ",\n".join(map(json.dumps, saved["rows"]))
        head = json.dumps({**saved, "rows": 0}, indent=1).rsplit("0", 1)[0]
        out.write_text(f"{head}[\n{text}\n]}}\n", encoding="utf-8")
        print(job, row and round(row["kept"], 1), flush=True)


KEYS = ("model", "method", "keep", "lengths", "gathered", "same", "seed")

if __name__ == "__main__":
    main(*(Path(each) for each in sys.argv[1:2]))
