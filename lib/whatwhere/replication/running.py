"""A study from its beginning to its table: which experiments, what they will cost, their rows."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from .. import benchmarks, compress, loading
from ..benchmarks import identity
from ..book import ledger
from ..files import read_json, write
from ..hooks import check_count
from ..models import VLM
from .cost import seconds, size_of
from .experiment import Experiment, Finding, Scope, chosen
from .study import DATA, Study

STUDY, ROWS = "study.json", "rows.json"
# what ends one experiment, and not the study
FAILS = (ValueError, OSError, ImportError, MemoryError)


def run(
    model: VLM | str | Path,
    out: str | Path,
    *,
    claims: Iterable[str] | None = None,
    data: str | Path | None = None,
    limit: int | None = None,
    seed: int = 0,
    decoder: compress.Decoder | str | Path | None = None,
    protocol: str = "ours",
    batch_size: int = 8,
    dtype: str | torch.dtype = "auto",
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Put the paper's experiments to a model; returns the rows of all claims that were asked for.

    An experiment whose data are not there, or that fails, leaves its claims open, and the row says
    why; the others go on. A run that was killed goes on where it was, in the same folder.

    Args:
        model: a `VLM`, or what `load` takes, as is dtype.
        out: the folder for parts, answers and rows.
        claims: experiments or claims (`chosen`); by default all.
        data: a folder with a folder for each name in `DATA`.
        limit: pictures, sets or questions of each experiment, at most.
        seed: of samples, shuffled options and shuffled patches.
        decoder: the visual decoder for the paper's compression (`whatwhere distil`).
        protocol, batch_size: of benchmarks, as for `benchmarks.run`.

    Raises:
        ValueError: for an unknown claim, and where the folder was begun with another model or
            other settings.
    """
    experiments = chosen(claims)
    if limit is not None:
        check_count("limit", limit)
    if data is not None and not Path(data).is_dir():
        raise FileNotFoundError(
            f"'{data}' is no folder. Data is a folder that holds, as far as you have them, "
            + ", ".join(DATA) + "."
        )  # fmt: skip
    process = benchmarks.processes()
    vlm = model
    if not isinstance(vlm, VLM):
        vlm = loading.load(vlm, device=process.device or "auto", dtype=dtype)
    if isinstance(decoder, (str, Path)):
        decoder = compress.load_decoder(decoder, vlm)
    study = Study(
        vlm, Path(out).expanduser(), Path(data) if data else None, limit, seed, decoder, protocol,
        batch_size, progress,
    )  # fmt: skip
    settings = _begin(study)
    for experiment in experiments:
        done = [row for row in _kept(study.folder) if row["experiment"] == experiment.name]
        if done and all(row["state"] != "open" for row in done):
            continue
        fresh = _rows(study, experiment, settings)
        if process.rank == 0:
            _keep(study.folder, fresh)
    names = {experiment.name for experiment in experiments}
    return [row for row in _kept(study.folder) if row["experiment"] in names]


def _begin(study):
    """The study's settings, which are written to its folder, or are those it was begun with."""
    settings = {
        "model": study.vlm.name, **identity.of(study.vlm), "limit": study.limit,
        "seed": study.seed, "protocol": study.protocol, "batch_size": study.batch_size,
        "data folder": str(study.data) if study.data else None,
    }  # fmt: skip
    path = study.folder / STUDY
    if not path.is_file():
        if any(study.folder.glob("parts/*/*")):
            raise ValueError(
                f"'{study.folder}' holds parts, but no {STUDY} that says what they are of; name "
                "another folder."
            )
        write(path, json.dumps(settings, indent=2, ensure_ascii=False) + "\n")
        return settings
    before = read_json(path)
    if not isinstance(before, dict) or "model" not in before:
        raise ValueError(f"'{path}' is damaged; name another folder.")
    refusal = identity.refusal(before, settings)
    if refusal:
        raise ValueError(f"'{study.folder}' holds {refusal}")
    if before.get("limit") != study.limit:
        raise ValueError(
            f"'{study.folder}' holds a study with limit={before.get('limit')}, and this one has "
            f"limit={study.limit}: take that, or name another folder."
        )
    return before


def _rows(study, experiment: Experiment, settings):
    """One row for each claim of an experiment."""
    about = {
        "experiment": experiment.name, "rule": experiment.rule,
        "model": study.vlm.name, "device": _device(study.vlm), "dtype": settings.get("dtype"),
        "versions": settings.get("versions"), "weights": settings.get("weights"),
        "protocol": study.protocol, "limit": study.limit, "seed": study.seed,
        "date": date.today().isoformat(),
    }  # fmt: skip
    why = experiment.impossible(study.vlm)
    if why:
        return [_row(claim, "not for this model", about, why=why) for claim in experiment.claims]
    start = time.monotonic()
    try:
        findings = experiment.measure(study)
    except FAILS as error:
        print(f"{experiment.name}: {error}", file=sys.stderr)
        return [_row(claim, "open", about, why=str(error)) for claim in experiment.claims]
    about["seconds"] = round(time.monotonic() - start, 1)
    state = "rehearsed" if "rehearsal" in study.vlm.about else "measured"
    by_claim = {finding.claim: finding for finding in findings}
    missing = sorted(set(experiment.claims) - set(by_claim))
    return [_row(claim, state, about, finding) for claim, finding in by_claim.items()] + [
        _row(claim, "not for this model", about, why="A claim about a model of another size.")
        for claim in missing
    ]


def _row(claim, state, about, finding: Finding | None = None, why=""):
    entry = next(entry for entry in ledger.catalogue() if entry["id"] == claim)
    row = {"id": claim, "state": state, "statement": entry["statement"], "paper": entry["paper"]}
    if finding is None:
        return row | {"measured": None, "control": None, "verdict": None, "why": why} | about
    measured, control = (
        {"value": float(value), "ci95": [float(low), float(high)]}
        for value, low, high in (finding.measured, finding.control)
    )
    return row | {
        "measured": measured | {"n": int(finding.n), "unit": finding.unit},
        "control": control | {"what": finding.null},
        # random weights settle nothing, whatever their numbers
        "verdict": finding.verdict if state == "measured" else None,
        "why": finding.remark,
    } | about  # fmt: skip


def _device(vlm):
    kind = vlm.device
    return torch.cuda.get_device_name(kind) if kind.type == "cuda" else str(kind)


def _kept(folder):
    path = Path(folder) / ROWS
    if not path.is_file():
        return []
    kept = read_json(path)
    if not isinstance(kept, list) or not all(
        isinstance(row, dict) and {"id", "experiment", "state"} <= set(row) for row in kept
    ):
        raise ValueError(f"'{path}' holds no rows of claims; delete it, and they are made anew.")
    return kept


def _keep(folder, fresh):
    """Rows into the study's file, in the catalogue's order, in the place of older ones."""
    order = [claim["id"] for claim in ledger.catalogue()]
    new = {(row["experiment"], row["id"]) for row in fresh}
    kept = [row for row in _kept(folder) if (row["experiment"], row["id"]) not in new]
    listed = sorted([*kept, *fresh], key=lambda row: order.index(row["id"]))
    write(Path(folder) / ROWS, json.dumps(listed, indent=1, ensure_ascii=False) + "\n")


def rows(out: str | Path) -> list[dict[str, Any]]:
    """All rows of a study's folder.

    Raises:
        FileNotFoundError: where there is none.
    """
    if not (Path(out) / STUDY).is_file():
        raise FileNotFoundError(f"'{out}' holds no study: a {STUDY} is missing.")
    return _kept(out)


def table(out: str | Path) -> pd.DataFrame:
    """The verdicts of a study, a row for each claim: the paper's value, what was measured with its
    interval, the control, the verdict or else the state."""
    lines = []
    for row in rows(out):
        measured, control = row["measured"], row["control"]
        paper = (row["paper"] or {}).get("value")
        lines.append({
            "claim": row["id"], "paper": "" if paper is None else f"{paper:g}",
            "measured": _spoken(measured), "unit": measured["unit"] if measured else "",
            "control": _spoken(control), "n": measured["n"] if measured else "",
            "verdict": row["verdict"] or row["state"], "why": row["why"],
        })  # fmt: skip
    return pd.DataFrame(lines)


def _spoken(part):
    if part is None:
        return ""
    low, high = part["ci95"]
    return f"{part['value']:.4g}" + ("" if low == high else f" ({low:.4g} to {high:.4g})")


def plan(
    model: VLM | str, claims: Iterable[str] | None = None, limit: int | None = None
) -> pd.DataFrame:
    """What the experiments will cost, by arithmetic (`cost`), before any is run.

    Args:
        model: a `VLM`, or the name of one of `published.LANGUAGE`, which need not be here.
        claims, limit: as for `run`.

    Returns:
        experiment, claims, passes of ViT and LM, words, and minutes on each GPU; of a `VLM` also
        what it cannot do, and why. `attrs["weights, GiB"]` is what the weights take.
    """
    size, lines = size_of(model), []
    for experiment in chosen(claims):
        cost = experiment.cost(Scope(size.last_depth, size.n_layers, limit))
        lines.append({
            "experiment": experiment.name, "claims": len(experiment.claims), **asdict(cost),
            **{f"{gpu}, min": round(s / 60, 1) for gpu, s in seconds(size, cost).items()},
            "lacks": experiment.impossible(model) if isinstance(model, VLM) else "",
        })  # fmt: skip
    table = pd.DataFrame(lines)
    table.attrs["weights, GiB"] = size.weights / 2**30
    return table
