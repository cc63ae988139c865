"""The claim ledger: one row for every claim that a notebook has measured, of the paper or not.

    ledger.record("02_reading_patches_as_words", id="what.lens.on_topic",
                  measured={"value": 0.61, "ci95": [0.58, 0.64], "n": 812,
                            "unit": "share of patches", "model": "toy-llava"},
                  control={"what": "shuffled token maps", "value": 0.07, "ci95": [0.05, 0.09]},
                  verdict="reproduced", tolerance=0.02)

writes data/claims/02_reading_patches_as_words.json. The statement and the paper's value come from
the catalogue of all claims, so that they are worded once. Rows are kept at DIGITS significant
digits: a second run on the same machine writes the same bytes. `tolerance` says how far, in the
row's own unit, an honest run on another machine may be from the row. WHATWHERE_CLAIMS names another
folder to write to and read from.

`ci95` is a percentile bootstrap over the n cases that were drawn, or None for an exact quantity,
which needs no n either. Where it is anything else, `interval` says what, in words, of the measured
value or of the control. `also` lists what else the verdict hangs on, as
{"what": …, "value": …, "ci95": …}; with "percent": false where it is no share, though the claim's
own value is one.

A claim of the catalogue is the paper's (li2026reading) unless it names its `source`: "ours", with
null in the place of a paper's value, or the citation key of another paper, as in
book/references.bib. The table says so, and the paper's tally leaves it out.

Any claim may be put to a fleet of organisms, as organisms.<its id>: a row for each kind, whose n
counts organisms, and whose `also` has each of them, as {"what": "seed 3: partly", …}. Such claims
are worded by the catalogue's own, and recorded by the one chapter FLEET.
"""

import html
import json
import math
import os
import re
import sys
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, NoReturn

from ..files import alone, read_json, write

DIGITS = 4
VERDICTS = ("reproduced", "partly", "not reproduced", "needs real weights")
UNMEASURED = "needs real weights"
# the share of other draws below which the table says that a verdict depends on them
STEADY = 0.8
OURS = "ours"  # the source of a claim that this book makes itself
ORGANISMS = "organisms."  # before the id of a claim that is put to a fleet
FLEET = "one_seed_or_many"  # the chapter, without its number, that does so
# claims that `whatwhere replicate` does not measure
NO_EXPERIMENT = (
    "what.lens.contextual", "what.lens.ground", "what.lens.which", "what.compress.speed",
    "what.fair.controls", "what.fair.lengths", "what.fair.gather", "where.rope.conjugate",
    "where.rope.orthogonal", "where.scaling.training_free",
)  # fmt: skip
_FIELDS = ("id", "statement", "paper", "measured", "control", "verdict", "tolerance", "notebook")


def catalogue() -> list[dict[str, Any]]:
    """Every claim, in the book's order: id, chapter, statement and the value of the paper that
    makes it.

    Those that are not the paper's have a source: "ours", without such a value (None), or another
    paper's citation key. Those that are measured as shares have "percent": true, and are shown so.
    Those that only real weights can settle have the commands that do, which are to be run in turn.
    """
    return json.loads(
        resources.files("whatwhere.book").joinpath("catalogue.json").read_text(encoding="utf-8")
    )


def entry(id: str) -> dict[str, Any] | None:
    """The catalogue's entry of a claim, or None. One of a fleet has the wording of its claim."""
    known = {claim["id"]: claim for claim in catalogue()}
    own = known.get(id.removeprefix(ORGANISMS))
    if own is None or not id.startswith(ORGANISMS):
        return own
    said = own["statement"]
    more = {"percent": True} if own.get("percent") else {}
    return {"id": id, "source": OURS, "paper": None, **more,
            "statement": f"In all organisms of a kind: {said[0].lower()}{said[1:]}"}  # fmt: skip


def folder() -> Path:
    """Where the rows live: WHATWHERE_CLAIMS if it is set, else data/claims of the book."""
    if os.environ.get("WHATWHERE_CLAIMS"):
        return Path(os.environ["WHATWHERE_CLAIMS"])
    return home() / "data" / "claims"


def home() -> Path:
    """The book's own folder."""
    here = Path(__file__).resolve()
    for root in (here.parents[3], Path.cwd(), *Path.cwd().parents):
        if (root / "_config.yml").is_file() and (root / "data").is_dir():
            return root
    raise ValueError(
        "the ledger finds no book around it: run from inside the book's folder, or set "
        "WHATWHERE_CLAIMS to the folder that the claim rows should go to"
    )


def record(
    notebook: str,
    *,
    id: str,
    measured: dict[str, Any] | None,
    control: dict[str, Any] | None,
    verdict: str,
    tolerance: float,
    statement: str | None = None,
    paper: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Validate one row, round it and write it to the notebook's file; returns the row as written.

    A row with the same id and model is replaced. `statement` and `paper` come from the catalogue.
    """
    claim = entry(id)
    if claim is None:
        raise ValueError(
            f"'{id}' is no claim of the catalogue; it has "
            + ", ".join(c["id"] for c in catalogue())
        )
    row = {
        "id": id,
        "statement": claim["statement"] if statement is None else statement,
        "paper": claim["paper"] if paper is None else paper,
        "measured": measured,
        "control": control,
        "verdict": verdict,
        "tolerance": tolerance,
        "notebook": notebook,
    }
    row = validate(_rounded(_plain(row)))
    where = folder()
    path = where / f"{notebook}.json"
    try:
        where.mkdir(parents=True, exist_ok=True)
        with alone(where):  # two runs at once lose no row of each other
            kept = [old for old in _read(path) if _key(old) != _key(row)] if path.exists() else []
            if row["measured"]:  # the claim no longer waits
                kept = [old for old in kept if old["id"] != row["id"] or old["measured"]]
            write(
                path,
                json.dumps(sorted([*kept, row], key=_key), indent=2, ensure_ascii=False) + "\n",
            )
    except OSError as error:
        raise type(error)(
            f"The claim row '{id}' could not be kept ({error.strerror or error}). WHATWHERE_CLAIMS "
            "can name another folder, one that may be written to."
        ) from None
    return row


def number(found: Iterable[Any]) -> dict[str, Any]:
    """(value, low, high) as a row says it: {"value": value, "ci95": [low, high]}."""
    value, low, high = map(float, found)
    return {"value": value, "ci95": [low, high]}


def also(found: Mapping[str, Iterable[Any]]) -> list[dict[str, Any]]:
    """{what: (value, low, high)} as a row says what else its verdict hangs on."""
    return [{"what": what, **number(each)} for what, each in found.items()]


def rows(where: str | Path | None = None) -> list[dict[str, Any]]:
    """Every row in the folder (by default the ledger's own), sorted by id and model."""
    where = folder() if where is None else Path(where)
    found = sorted((row for path in sorted(where.glob("*.json")) for row in _read(path)), key=_key)
    for one, other in zip(found, found[1:]):
        if _key(one) == _key(other):
            raise ValueError(
                f"the claim rows in {where} have {_name(_key(one))} twice; delete one of them."
            )
    return found


def compare(fresh: Iterable[dict[str, Any]], committed: Iterable[dict[str, Any]]) -> list[str]:
    """A sentence for every way in which the fresh rows differ from the committed ones beyond
    tolerance."""
    run, kept = ({_key(row): row for row in some} for some in (fresh, committed))
    said = [
        f"{_name(k)} is committed, but the run did not record it" for k in kept.keys() - run.keys()
    ]
    said += [f"{_name(k)} was recorded, but is not committed" for k in run.keys() - kept.keys()]
    for key in run.keys() & kept.keys():
        new, old, name = run[key], kept[key], _name(key)
        for field in ("statement", "paper", "verdict", "tolerance", "notebook"):
            if new[field] != old[field]:
                said.append(f"{name}: {field} is {new[field]!r}, committed is {old[field]!r}")
        for field in ("measured", "control"):
            said += _differences(name, field, new[field], old[field], old["tolerance"])
    return sorted(said)


def drawn(file: str | Path | None = None) -> dict[tuple[str, str], list[str]]:
    """{(id, model): verdicts} of rows that were measured again on other draws of scenes, by
    `tools/trials/draws.py`; without a file, those of the book. A row that is the same to its last
    digit in all draws is left out: nothing in it is drawn, and its verdict could not but hold."""
    file = folder().parent / "results" / "draws.json" if file is None else Path(file)
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    if file.is_file():
        for chapters in read_json(file)["rows"].values():
            for row in (row for chapter in chapters.values() for row in chapter["rows"]):
                found.setdefault(_key(row), []).append(row)
    return {
        key: [row["verdict"] for row in each]
        for key, each in found.items()
        if any(row["measured"] != each[0]["measured"] for row in each)
    }


def depends(verdict: str, others: list[str]) -> bool:
    """Does a verdict depend on the draw, by those of other draws (if there were some)?"""
    return others.count(verdict) < STEADY * len(others)


def table(part: str) -> str:
    """The claims whose id starts with `part` ("what" or "where") as an HTML table, measured or not:
    one block for each claim, with a line for each model."""
    measured, again = rows(), drawn()
    blocks = []
    for claim in catalogue():
        if claim["id"].split(".")[0] == part:
            own = [row for row in measured if row["id"] == claim["id"]]
            blocks.append(_block(claim, own or [None], again))
    heads = "".join(f"<th scope='col'>{head}</th>" for head in _HEADS)
    return f"<table class='ww-claims'><thead><tr>{heads}</tr></thead>{''.join(blocks)}</table>"


def by_scale(fleet: bool = False) -> dict[str, list[dict[str, Any]]]:
    """Measured rows in the book's order, by what they are measured in: "shares", "points" of
    accuracy, and "others", such as cosines and ratios.

    fleet: those of a fleet of organisms instead of a model's own.
    """
    measured, before = [row for row in rows() if row["measured"]], ORGANISMS if fleet else ""
    scales: dict[str, list[dict[str, Any]]] = {"shares": [], "points": [], "others": []}
    for claim in catalogue():
        for row in (row for row in measured if row["id"] == before + claim["id"]):
            in_points = row["measured"]["unit"].startswith("points")
            scale = "shares" if claim.get("percent") else "points" if in_points else "others"
            scales[scale].append(row)
    return scales


def by_organism(row: Mapping[str, Any]) -> list[tuple[str, float, str]]:
    """(which organism, its value, its verdict) of a row over a fleet; none of another row."""
    if not row["id"].startswith(ORGANISMS):
        return []
    told = [(*each["what"].rsplit(": ", 1), each["value"]) for each in row["measured"]["also"]]
    return [(which, value, verdict) for which, verdict, value in told]


def on_a_photograph(*claims: str, file: str | Path | None = None) -> str:
    """A box, in Markdown, on what claims become with a real model and real pictures: what was
    measured, or that the claim is open, and the command that measures it.

    Args:
        file: a list of rows as `whatwhere replicate` keeps them; without one, those of the book, in
            data/results/photographs.json.

    Raises:
        ValueError: for an id that is no claim of the catalogue.
    """
    file = home() / "data" / "results" / "photographs.json" if file is None else Path(file)
    measured, known = read_json(file), {claim["id"]: claim for claim in catalogue()}
    lines = []
    for id in claims:
        if id not in known:
            raise ValueError(f"'{id}' is no claim of the catalogue; it has {', '.join(known)}.")
        said = f"*{known[id]['statement']}*: "
        found = [row for row in measured if row["id"] == id]
        for row in found:
            part = row["measured"]
            number = f"{part['value']:.{DIGITS}g}"
            if part["ci95"]:
                number += " ({:.{d}g} to {:.{d}g})".format(*part["ci95"], d=DIGITS)
            lines.append(f"{said}{number} {part['unit']}, {part['model']}: *{row['verdict']}*.")
        if not found:
            commands = known[id].get("command", [])
            if not commands and id not in NO_EXPERIMENT:
                commands = [f"whatwhere replicate MODEL --claims {id}"]
            how = " It is measured by " + ", then ".join(f"`{each}`" for each in commands) + "."
            lines.append(
                f"{said}open. This needs real weights, which this build has never held."
                + (how if commands else "")
            )
    return "> **On a real photograph.** " + "\n>\n> ".join(lines)


def verdicts(others: bool = False, fleet: bool = False) -> dict[str, str]:
    """{claim of the paper: its verdict}; of several models', the least favourable counts.

    Args:
        others: the claims that are not the paper's instead.
        fleet: the verdicts on a kind, over its organisms, count as well.
    """
    found = {claim["id"]: "to come" for claim in catalogue() if ("source" in claim) == others}
    # a row that waits for weights says nothing against one that was measured
    favour = (UNMEASURED, *VERDICTS)
    for row in sorted(rows(), key=lambda row: favour.index(row["verdict"])):
        claim = row["id"].removeprefix(ORGANISMS) if fleet else row["id"]
        if claim in found:
            found[claim] = row["verdict"]
    return found


def progress(others: bool = False) -> tuple[int, dict[str, int]]:
    """How many claims of the paper there are, and how many have each verdict (see `verdicts`).

    others: count the claims that are not the paper's instead.
    """
    given = list(verdicts(others).values())
    counts = {verdict: given.count(verdict) for verdict in (*VERDICTS, "to come")}
    return len(given), {verdict: count for verdict, count in counts.items() if count}


_HEADS = ("Claim", "The paper", "This book", "Control", "Verdict")


def _block(claim, rows, again):
    """A claim with the lines of all models; what they have in common stands in the first."""
    chapter = f"chapter&nbsp;{claim['chapter']}"
    if rows[0]:
        chapter = f"<a href='../notebooks/{rows[0]['notebook']}.html'>{chapter}</a>"
    name = f"{html.escape(claim['statement'])}<small><code>{claim['id']}</code> · {chapter}</small>"
    span = f" rowspan='{len(rows)}'" if len(rows) > 1 else ""
    common = _cell(0, name, span) + _cell(1, _claimed(claim), span)
    lines = [_line(claim, row, again) for row in rows]
    return (
        "<tbody>"
        + "".join(f"<tr>{'' if n else common}{line}</tr>" for n, line in enumerate(lines))
        + "</tbody>"
    )


def _line(claim, row, again):
    """What one model adds to its claim: three cells."""
    verdict = row["verdict"] if row else "chapter to come"
    mark = f"<span class='ww-verdict ww-{verdict.replace(' ', '-')}'>{verdict}</span>"
    if row:
        mark += _held(verdict, again.get(_key(row), []))
    # in the place of what is not measured: what would measure it
    if verdict == UNMEASURED and "command" in claim:
        commands = "".join(
            f"<small><code>{html.escape(command)}</code></small>" for command in claim["command"]
        )
        return _cell(2, f"to be settled by{commands}", " colspan='2'") + _cell(4, mark)
    ours = control = "–"
    if row and row["measured"]:
        part, percent = row["measured"], claim.get("percent", False)
        cases = "" if part["n"] is None else f", n = {part['n']}"
        ours = (
            f"{_value(part, part['unit'], percent)}{_meant(part)}"
            f"<small>{html.escape(part['model'])}{cases}</small>"
        )
        for more in part.get("also", ()):
            said = _value(more, more["what"], more.get("percent", percent))
            ours += f"<small>also: {said}</small>"
        control = (
            f"{_value(row['control'], percent=percent)}{_meant(row['control'])}"
            f"<small>{html.escape(row['control']['what'])}</small>"
        )
    return _cell(2, ours) + _cell(3, control) + _cell(4, mark)


def _cell(column, text, more=""):
    return f"<td data-label='{_HEADS[column]}'{more}><div>{text}</div></td>"


def _claimed(claim):
    """What the paper reports, or whose claim it is instead."""
    paper, source = claim["paper"], claim.get("source")
    if source == OURS:
        return "–<small>a claim of this book</small>"
    value = f"{_value(paper, paper['unit'])}<small>{html.escape(paper['where'])}</small>"
    if source:
        # of a key such as "li2026reading"
        author = re.match(r"([a-z]+)(\d{4})", source)
        name = f"{author[1].title()} {author[2]}" if author else html.escape(source)
        value += f"<small>another paper's: <a href='references.html'>{name}</a></small>"
    return value


def _value(part, unit="", percent=False):
    """A value, its interval and its unit; a share in per cent."""

    def said(number):
        return f"{100 * number:.3g}%" if percent else f"{number:.{DIGITS}g}"

    text = "" if part["value"] is None else f"<strong>{said(part['value'])}</strong> "
    if part.get("ci95"):
        low, high = map(said, part["ci95"])
        text += f"<span class='ww-interval'>[{low}, {high}]</span> "
    return text + html.escape(unit)


def _held(verdict, others):
    """How often other draws of scenes gave the same verdict."""
    if not others:
        return ""
    said = f"the same in {others.count(verdict)} of {len(others)} draws"
    if depends(verdict, others):
        rest = [
            f"{others.count(one)} {one}" for one in VERDICTS if one in others and one != verdict
        ]
        said = f"depends on the draw: {said} ({', '.join(rest)})"
    return f"<small>{said}</small>"


def _meant(part):
    """What the brackets are, where they are not the usual ones."""
    return f"<small>[{html.escape(part['interval'])}]</small>" if "interval" in part else ""


def validate(row: Any) -> dict[str, Any]:
    """The row itself if it is well formed; otherwise a ValueError that says what is wrong."""

    def refuse(sentence: str) -> NoReturn:
        raise ValueError(
            f"claim row '{row.get('id') if isinstance(row, dict) else row!s:.100}': {sentence}."
        )

    if not isinstance(row, dict):
        refuse("a row is a dictionary")
    if set(row) != set(_FIELDS):
        missing, extra = sorted(set(_FIELDS) - set(row)), sorted(set(row) - set(_FIELDS))
        refuse(
            f"has the fields {', '.join(_FIELDS)}; missing: {missing or 'none'}, unknown: "
            f"{extra or 'none'}"
        )
    claim = entry(row["id"]) if isinstance(row["id"], str) else None
    if claim is None:
        refuse("this id is no claim of the catalogue")
    if not isinstance(row["notebook"], str) or not re.fullmatch(
        r"[0-9]{2}_[a-z0-9_]+", row["notebook"]
    ):
        refuse(f"notebook is a name such as 02_reading_patches_as_words, not {row['notebook']!r}")
    if "chapter" not in claim:
        if row["notebook"][3:] != FLEET:
            refuse(f"belongs to the chapter {FLEET}, not to {row['notebook']}")
    elif int(row["notebook"][:2]) != claim["chapter"]:
        refuse(f"belongs to chapter {claim['chapter']}, not to {row['notebook']}")
    for field in ("statement", "paper"):
        if row[field] != claim[field]:
            refuse(
                f"{field} differs from the catalogue's; leave it out and the catalogue's is used"
            )
    if row["verdict"] not in VERDICTS:
        refuse(f"verdict is one of {', '.join(VERDICTS)}, not {row['verdict']!r}")
    if row["verdict"] == UNMEASURED:
        if any(row[field] is not None for field in ("measured", "control", "tolerance")):
            refuse(f"measured, control and tolerance are None where the verdict is '{UNMEASURED}'")
        return row
    for field in ("measured", "control", "tolerance"):
        if row[field] is None:
            refuse(f"{field} may be None only where the verdict is '{UNMEASURED}'")
    measured = row["measured"]
    _valid_value(
        "measured", measured, ("value", "ci95", "n", "unit", "model"), refuse, ("interval", "also")
    )
    _valid_value("control", row["control"], ("what", "value", "ci95"), refuse, ("interval",))
    n = measured["n"]
    if n is None and measured["ci95"] is not None:
        refuse("measured n may be None only for an exact quantity, whose ci95 is None")
    if n is not None and (not _number(n) or not isinstance(n, int) or n < 1):
        refuse(f"measured n is a whole number from 1 up, not {n!r}")
    further = measured.get("also", [])
    if not isinstance(further, list):
        refuse(f"measured also is a list of further numbers, not {further!r}")
    for more in further:
        _valid_value("also", more, ("what", "value", "ci95"), refuse, ("percent",))
        if not isinstance(more.get("percent", True), bool):
            refuse(f"also percent is true or false, not {more['percent']!r}")
    if "chapter" not in claim and (
        len(further) != n or any(each["what"].rsplit(": ")[-1] not in VERDICTS for each in further)
    ):
        refuse("also has each of the n organisms with its verdict, such as 'seed 3: partly'")
    if not _number(row["tolerance"]) or row["tolerance"] < 0:
        refuse(f"tolerance is a number from 0 up, in the row's unit, not {row['tolerance']!r}")
    return row


def _valid_value(field, part, keys, refuse, optional=()):
    if not isinstance(part, dict) or set(part) - set(optional) != set(keys):
        refuse(f"{field} is a dictionary of {', '.join(keys)}, not {part!r}")
    for key in ("unit", "model", "what", "interval"):
        if key in part and not (
            isinstance(part[key], str) and part[key].strip() and part[key].isprintable()
        ):
            refuse(f"{field} {key} is words, not {part[key]!r}")
    if not _number(part["value"]):
        refuse(f"{field} value is a finite number, not {part['value']!r}")
    interval = part["ci95"]
    if interval is None:
        return  # an exact quantity, not a sample
    if not isinstance(interval, list) or len(interval) != 2 or not all(map(_number, interval)):
        refuse(f"{field} ci95 is [low, high], or None for an exact quantity, not {interval!r}")
    if not interval[0] <= part["value"] <= interval[1]:
        refuse(f"{field} value {part['value']} lies outside its own interval {interval}")


def _differences(name, field, new, old, tolerance):
    if new is None or old is None:
        return [] if new is old else [f"{name}: {field} is {new!r}, committed is {old!r}"]
    said = []
    for key in {**old, **new}:
        ours, theirs = new.get(key), old.get(key)
        if key == "also" and ours and theirs and len(ours) == len(theirs):
            for one, other in zip(ours, theirs):
                said += _differences(name, f"{field} also", one, other, tolerance)
        elif key in ("value", "ci95"):
            if _far(ours, theirs, tolerance):
                said.append(f"{name}: {field} {key} is {ours}, committed is {theirs} ± {tolerance}")
        elif ours != theirs:
            said.append(f"{name}: {field} {key} is {ours!r}, committed is {theirs!r}")
    return said


def _far(ours, theirs, tolerance):
    """Does a number, or an end of an interval, lie farther off than the tolerance?"""
    if ours is None or theirs is None:
        return ours is not theirs
    ours, theirs = ([each] if _number(each) else each for each in (ours, theirs))
    return any(abs(a - b) > tolerance + 1e-12 for a, b in zip(ours, theirs, strict=True))


def _number(value):
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and abs(value) <= sys.float_info.max
    )


def _plain(value):
    """numpy and torch scalars as Python numbers, tuples as lists."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return value


def _rounded(value):
    """Floats at DIGITS significant digits; everything else as it is."""
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_rounded(part) for part in value]
    if isinstance(value, float) and math.isfinite(value):
        return float(f"{value:.{DIGITS}g}") + 0.0  # -0.0 becomes 0.0
    return value


def _key(row):
    return row["id"], (row["measured"] or {}).get("model", "")


def _name(key):
    return f"{key[0]} on {key[1]}" if key[1] else key[0]


def _read(path):
    rows = read_json(path)
    if not isinstance(rows, list):
        raise ValueError(f"'{path}' holds no list of claim rows.")
    try:
        return [validate(row) for row in rows]
    except ValueError as error:
        raise ValueError(f"'{path}': {error}") from None
