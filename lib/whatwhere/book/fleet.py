"""The book's claims over a fleet: a few organisms of each kind, raised by one recipe from different
seeds.

`make fleet` raises them and executes the chapters on each. What was measured is in
data/results/fleet.json, with the exams of those organisms. Seed 0 is the book's own: its rows are
the ledger's, and its exam lies beside its weights.

Every function takes the book's folder `data`, by default that of the book around it.
"""

from collections.abc import Callable, Iterable
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import stats
from ..files import read_json
from . import ledger

LEAST = 3  # organisms of a kind; of fewer, nothing is said about the kind
OWN = "0"  # the seed of the book's own
GAP = "…"  # in the place of words in which organisms differ
COLUMNS = (
    "claim", "kind", "seed", "value", "low", "high", "control", "verdict", "unit", "beside",
    "also", "counts", "tolerance",
)  # fmt: skip


def folder(kind: str, seed: int, data: str | Path | None = None) -> Path:
    """The checkpoint folder of one organism, for `ww.load`.

    Raises:
        FileNotFoundError: where no such organism was raised.
    """
    data = _data(data)
    path = data / "models" / kind if seed == int(OWN) else data / "fleet" / f"{kind}-seed{seed}"
    if not (path / "training.json").is_file():
        raise FileNotFoundError(
            f"There is no organism '{kind}' of seed {seed} in '{data}'. `make fleet` raises those "
            "from seed 1 on."
        )
    return path


def facts(organism: str | Path) -> dict[str, Any]:
    """Hours of training, lens layer, machine and exam of an organism, by its checkpoint folder.

    The hours are those of an undisturbed run: each stage's steps by the median time of a step, so
    that a machine's pauses do not count. The exam is {family of questions: share of right answers}
    on test scenes.
    """
    numbers = read_json(Path(organism) / "training.json")
    hours = sum(stage["steps"] * _pace(stage["log"]) for stage in numbers["stages"]) / 3600
    return {
        "hours": round(hours, 2), "lens_layer": numbers["lens_layer"],
        "machine": numbers["machine"],
        "exam": {family: each["accuracy"] for family, each in numbers["test"].items()},
    }  # fmt: skip


def exams(data: str | Path | None = None) -> pd.DataFrame:
    """The exams of all members: a row for each, with its kind, seed, hours of training and lens
    layer, and the share of right answers in each family of questions.

    Raises:
        ValueError: as for `table`.
    """
    data = _data(data)
    members = _large_enough(_read(data), data)["members"]
    kinds = list(next(iter(members.values())))
    members = {OWN: {kind: facts(data / "models" / kind) for kind in kinds}, **members}
    found = []
    for kind in kinds:
        for seed in sorted(members, key=int):
            of = members[seed][kind]
            known = {"kind": kind, "seed": int(seed), "hours": of["hours"]}
            found.append({**known, "lens layer": of["lens_layer"], **of["exam"]})
    return pd.DataFrame(found)


def shorter(data: str | Path | None = None) -> pd.DataFrame:
    """What `make shorter` found: exams of organisms with a share of the steps of training, beside
    those of full length.

    A row for each kind and share (1 is the full length), a column for each family of questions:
    the share of right answers; and `hours`. At full length, the median of the kind's organisms.
    Empty where nothing was measured.

    Raises:
        ValueError: as for `table`, where there is something to compare.
    """
    data = _data(data)
    file = data / "results" / "shorter.json"
    if not file.is_file():
        return pd.DataFrame()
    whole = exams(data)
    found = []
    for kind, by_share in read_json(file)["exams"].items():
        own = whole[whole["kind"] == kind].drop(columns=["kind", "seed", "lens layer"])
        found.append({"kind": kind, "share": 1.0, **own.median()})
        for share in sorted(by_share, key=float, reverse=True):
            of = by_share[share]
            found.append({"kind": kind, "share": float(share), **of["exam"], "hours": of["hours"]})
    return pd.DataFrame(found).set_index(["kind", "share"])


def alignments(data: str | Path | None = None) -> pd.DataFrame:
    """What `make alignment` found: a row for each connector that was fitted.

    Columns: `lm`, `encoder` and `data`, the seeds of the language model, of the encoder with the
    connector's first weights, and of the scenes and questions it learns from; `right`, the share
    of answers right at the end; `on topic`, the share of object patches whose visual token reads
    as a word of their object.

    Raises:
        FileNotFoundError: where nothing was measured.
    """
    file = _data(data) / "results" / "alignment.json"
    if not file.is_file():
        raise FileNotFoundError(f"There is no '{file}'. `make alignment` measures it.")
    return pd.DataFrame(read_json(file)["runs"])


def table(data: str | Path | None = None) -> pd.DataFrame:
    """What all members gave for all claims, in the book's order: a row for each claim, kind and
    seed.

    Columns: claim, kind, seed; value with its interval over scenes, low and high (NaN where it has
    none), control, verdict, unit; what stands `beside` it as control; `also`, the row's further
    numbers {what: value}, and which of these are `counts`, such as a depth; the claim's tolerance,
    known for seed 0 only. What is not there, `missing` tells.

    Raises:
        ValueError: without results, for fewer than LEAST members, where a chapter was changed
            between one member and the next, and where rows are of other weights than the member
            now has.
    """
    data = _data(data)
    results = _large_enough(_read(data), data)
    return _table(results, data, sorted(set().union(*results["rows"].values())))


def missing(data: str | Path | None = None) -> list[str]:
    """A sentence for each chapter that was not measured on a member, and for each claim that a
    member gave no row for though another did.

    Raises:
        ValueError: as for `table`.
    """
    data = _data(data)
    results, found = _large_enough(_read(data), data), table(data)
    chapters = sorted(set().union(*results["rows"].values()))
    seeds = sorted(_members(results), key=int)
    said = [
        f"Seed {seed} has no results of {chapter}."
        for seed in seeds[1:]
        for chapter in chapters
        if chapter not in results["rows"].get(seed, {})
    ]
    number = {claim["id"]: claim["chapter"] for claim in ledger.catalogue()}
    for (claim, kind), each in _by_claim(found).items():
        there = {str(one["seed"]) for one in each}
        for seed in (seed for seed in seeds if seed not in there):
            if seed == OWN or any(
                int(chapter[:2]) == number[claim] for chapter in results["rows"].get(seed, {})
            ):
                said.append(f"{kind} of seed {seed} has no row of {claim}.")
    return said


def judged(
    table: pd.DataFrame, rule: Callable[[list[str]], str], least: int = LEAST
) -> list[dict[str, Any]]:
    """A row of the ledger for each claim and kind, over its organisms: what `ledger.record` takes
    beside the notebook.

    The value is the mean over organisms with Student's interval, and so is the control.

    Args:
        table: as the function `table` returns it.
        rule: the verdict on a kind by the verdicts on its organisms.
        least: claims with fewer organisms of a kind are left out.
    """
    found = []
    for (claim, kind), each in _by_claim(table).items():
        n = len(each)
        if n < least:
            continue
        interval = f"Student's t over {n} organisms"
        # the claim's own, which seed 0 has
        tolerance = [one["tolerance"] for one in each if not np.isnan(one["tolerance"])]
        also = [
            {
                "what": f"seed {one['seed']}: {one['verdict']}",
                "value": one["value"],
                "ci95": None if np.isnan(one["low"]) else [one["low"], one["high"]],
            }
            for one in each
        ]
        measured = {
            **ledger.number(stats.over_models([one["value"] for one in each])),
            "n": n, "unit": in_common(one["unit"] for one in each), "model": kind,
            "interval": interval, "also": also,
        }  # fmt: skip
        control = {
            **ledger.number(stats.over_models([one["control"] for one in each])),
            "what": in_common(one["beside"] for one in each), "interval": interval,
        }  # fmt: skip
        verdict = rule([one["verdict"] for one in each])
        found.append(
            {"id": ledger.ORGANISMS + claim, "measured": measured, "control": control,
             "verdict": verdict, "tolerance": max(tolerance, default=0.0)}
        )  # fmt: skip
    return found


def over_organisms(*claims: str, data: str | Path | None = None) -> str:
    """A box, in Markdown, on what claims of one chapter become over organisms of other seeds, and
    over other draws of scenes where the verdict depends on them; or that this is open, while there
    are fewer than LEAST.

    Raises:
        ValueError: for an id that is no claim of the catalogue, and where a chapter was changed
            between one member and the next.
    """
    known = {claim["id"]: claim for claim in ledger.catalogue()}
    for id in claims:
        if id not in known:
            raise ValueError(f"'{id}' is no claim of the catalogue; it has {', '.join(known)}.")
    data = _data(data)
    results = _read(data)
    whole = len(_members(results))
    if whole < LEAST:
        return (
            "> **Over organisms.** Open. The rows of this chapter rest on one training run of a "
            "kind. Would another seed of weights and scenes give the same verdicts? `make fleet` "
            "raises more organisms and measures them; it takes a night."
        )
    numbers = {known[id]["chapter"] for id in claims}
    chapters = [c for c in sorted(set().union(*results["rows"].values())) if int(c[:2]) in numbers]
    found = _by_claim(_table(results, data, chapters))
    drawn = ledger.drawn(data / "results" / "draws.json")
    parts = [
        f"**Over organisms.** This chapter's rules on {whole} organisms of a kind, raised from "
        "different seeds (see *One seed or many*). Values run from the lowest "
        "organism to the highest."
    ]
    for id in claims:
        said = [
            _in_words(kind, each, known[id], whole) + _redrawn(each, drawn.get((id, kind), []))
            for (claim, kind), each in found.items()
            if claim == id
        ]
        lines = "".join(f"\n> - {line}." for line in said)
        parts.append(f"*{known[id]['statement']}*:" + (f"\n>{lines}" if lines else " open."))
    if any(GAP in part for part in parts):
        parts.append(f"({GAP} stands where the organisms differ in what was chosen.)")
    return "\n>\n".join(f"> {part}" for part in parts)


def in_common(texts: Iterable[str]) -> str:
    """What all texts say up to the first semicolon, word by word, with GAP where they differ."""
    first, *others = [text.split(";")[0].split() for text in texts]
    for other in others:
        words: list[str] = []
        steps = SequenceMatcher(None, first, other, autojunk=False).get_opcodes()
        for what, start, end, _, _ in steps:
            if what == "equal":
                words += first[start:end]
            elif words[-1:] != [GAP]:
                words.append(GAP)
        first = words
    return " ".join(first)


def _in_words(kind, each, claim, whole):
    """What the organisms of one kind, of a `whole` number, gave for a claim."""
    n, verdicts = len(each), [one["verdict"] for one in each]
    few = "" if n == whole else f" ({whole - n} of {whole} without a row)"
    if n < 2:
        return f"`{kind}`: one organism *{verdicts[0]}*{few}"
    counts = f"all {n} *{verdicts[0]}*" if len(set(verdicts)) == 1 else _counted(verdicts)
    values = [one["value"] for one in each]
    form = "{:.1%}" if claim.get("percent") else "{:.3g}"
    least, most, mean = (form.format(of(values)) for of in (min, max, np.mean))
    unit = in_common(one["unit"] for one in each)
    said = f"`{kind}`: {counts}{few}; {least} to {most} (mean {mean}) {unit}"
    for what in dict.fromkeys(name for one in each for name in one["counts"]):
        of_all = [one["also"][what] for one in each if what in one["also"]]
        said += f"; {what}: {min(of_all)} to {max(of_all)}"
    return said


def _redrawn(each, verdicts):
    """Where the verdict on the book's own organism depends on the scenes: what others gave."""
    own = [one["verdict"] for one in each if one["seed"] == int(OWN)]
    if not own or not ledger.depends(own[0], verdicts):
        return ""
    return (
        f"; *{own[0]}* in seed 0 depends on the scenes: of {len(verdicts)} other draws, "
        f"{_counted(verdicts)}"
    )


def _counted(verdicts):
    """How many there are of each verdict, in words."""
    found = [one for one in ledger.VERDICTS if one in verdicts]
    return ", ".join(f"*{one}* in {verdicts.count(one)}" for one in found)


def _by_claim(table):
    """{(claim, kind): what each organism gave}, in the table's order."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for one in table.to_dict("records"):
        found.setdefault((one["claim"], one["kind"]), []).append(one)
    return found


def _data(data):
    return ledger.home() / "data" if data is None else Path(data)


def _read(data):
    """What `make fleet` wrote, or what it would write of no members."""
    file = data / "results" / "fleet.json"
    if not file.is_file():
        return {"members": {}, "rows": {}}
    results = read_json(file)
    whole = isinstance(results, dict) and {"members", "rows"} <= results.keys()
    if not whole or not all(isinstance(results[key], dict) for key in ("members", "rows")):
        raise ValueError(f"'{file}' holds no members and rows as `make fleet` writes them.")
    return results


def _pace(log):
    """Median seconds of a step, from a log whose lines have the seconds up to a step."""
    seconds, steps = ([0, *(line[key] for line in log)] for key in ("seconds", "step"))
    return float(np.median(np.diff(seconds) / np.diff(steps)))


def _members(results):
    return {OWN, *results["members"], *results["rows"]}


def _large_enough(results, data):
    seeds = sorted(_members(results), key=int)
    if len(seeds) < LEAST:
        raise ValueError(
            f"What holds for a kind is asked of {LEAST} organisms or more; '{data}' has results of "
            f"seed {' and '.join(seeds)}. `make fleet` raises more and measures them."
        )
    return results


def _table(results, data, chapters):
    """`table`, of some chapters, without counting members."""
    kinds = {kind for of in results["members"].values() for kind in of}
    found = []
    for chapter in chapters:
        of = {seed: each[chapter] for seed, each in results["rows"].items() if chapter in each}
        seeds_by_form: dict[str, list[str]] = {}
        for seed in sorted(of, key=int):
            seeds_by_form.setdefault(of[seed]["mark"], []).append(seed)
        if len(seeds_by_form) > 1:
            forms = " and ".join(f"seed {', '.join(each)}" for each in seeds_by_form.values())
            raise ValueError(
                f"The chapter {chapter} was changed between the measurements of {forms}: they are "
                "no fleet's. `make fleet` measures again what was measured by an older form."
            )
        for seed, each in of.items():
            members = results["members"].get(seed, {})
            weights = {kind: member.get("weights") for kind, member in members.items()}
            if each.get("models") != weights:
                raise ValueError(
                    f"The rows of {chapter} on seed {seed} were measured on other weights than "
                    "this member now has. `make fleet` measures them again."
                )
        own = data / "claims" / f"{chapter}.json"
        rows = {OWN: read_json(own) if own.is_file() else []}
        rows |= {seed: each["rows"] for seed, each in of.items()}
        for seed, each in rows.items():
            for row in each:
                if row["measured"] and row["measured"]["model"] in kinds:
                    found.append(_line(seed, row))
    order = {claim["id"]: n for n, claim in enumerate(ledger.catalogue())}
    # a claim that was renamed since has no place; its chapter's form has changed then as well
    found = [line for line in found if line["claim"] in order]
    found.sort(key=lambda line: (order[line["claim"]], line["kind"], line["seed"]))
    return pd.DataFrame(found, columns=list(COLUMNS))


def _line(seed, row):
    part, control = row["measured"], row["control"]
    also = part.get("also", [])
    low, high = part["ci95"] or (np.nan, np.nan)
    return {
        "claim": row["id"], "kind": part["model"], "seed": int(seed), "value": part["value"],
        "low": low, "high": high, "control": control["value"], "verdict": row["verdict"],
        "unit": part["unit"], "beside": control["what"],
        "also": {each["what"]: each["value"] for each in also},
        "counts": [each["what"] for each in also if not each.get("percent", True)],
        "tolerance": row.get("tolerance", np.nan),
    }  # fmt: skip
