"""See the package: make bench."""

import argparse
import json
import sys
from datetime import date
from pathlib import Path

from whatwhere.book.training.scaling_study import machine
from whatwhere.files import write

from . import book, checks, compression, lens, methods, readers, scaling

RESULTS = Path(__file__).parents[2] / "data" / "results"
KEPT, COMPRESSION = RESULTS / "performance.json", RESULTS / "compression_speed.json"
NAMES = ("toy-llava", "toy-qwen2vl")
PARTS = ("lens", "floor", "readers", "checks", "scaling", "compression", "methods", "book")
WORSE = 0.8  # of a ratio on record: less is a regression


def measured(part, only):
    """(what goes into the record, its ratios {name: number}, of which more is better)."""
    if part == "lens":
        rows = []
        for row in lens.measure(NAMES, only):
            rows.append(row)
            print(shown(row), flush=True)
        return {"rows": rows}, dict(lens.ratios(rows))
    if part == "floor":
        rows = []
        for row in lens.distances(NAMES, only):
            rows.append(row)
            above, products = row["above the floor"]["times"], row["in products"]["times"]
            print(
                f"{row['what']}: ours {row['seconds']['ours']:.3f} s, {above:.2f} times the floor, "
                f"{products:.0%} in products; {row['more at once']['depths']} depths at once: "
                f"{row['more at once']['times']:.2f} of the time",
                flush=True,
            )
        return {"rows": rows}, {
            f"{row['what']}: floor over ours": 1 / row["above the floor"]["times"] for row in rows
        }
    if part == "readers":
        rows = list(readers.measure(NAMES))
        for row in rows:
            print(
                f"{row['model']}, {row['lens']}: {row['seconds']:.4f} s, "
                f"{row['times']['times']:.2f} times the logit lens, {row['peak']:.0f} MiB"
            )
        return {"rows": rows}, {
            f"{row['model']}: logit lens over {row['lens']}": 1 / row["times"]["times"]
            for row in rows
        }
    if part == "checks":
        return {"rows": dict(checks.shares(NAMES))}, {}
    if part == "scaling":
        rows = dict(scaling.overhead(NAMES))
        return {"rows": rows}, {
            f"{name}: unscaled over scaled": 1 / row["times"] for name, row in rows.items()
        }
    if part == "compression":
        tables, more = compression.tables(NAMES), dict(compression.shares(NAMES))
        for what, table in (tables | more).items():
            print(f"\n{what}\n{table.round(2).to_string()}")
        reached = {what: compression.reached(table) for what, table in (tables | more).items()}
        crossing = {what: compression.crossing(table) for what, table in more.items()}
        if compression.PUBLISHED in tables:
            crossing[compression.PUBLISHED] = compression.crossing(tables[compression.PUBLISHED])
        ratios = {
            f"{what}, {way}: of the ideal": value
            for what, each in reached.items()
            for way, value in each.items()
        }
        listed = {what: as_rows(table) for what, table in tables.items()}
        return {
            "reached": reached,
            "crossing": crossing,
            "shares": {what: as_rows(table) for what, table in more.items()},
            "tables": listed,
        }, ratios
    if part == "methods":
        found = methods.measure()
        ratios = {f"{row['method']}: of the ideal": row["of the ideal"] for row in found["rows"]}
        return found, ratios
    steps, chapters, slow = book.measure()
    return {"seconds": steps, "chapters": chapters, "slowest tests": slow}, {}


def as_rows(table):
    return table.round(4).reset_index(names="way").to_dict("records")


def shown(row):
    """A row of the lens's table, for the eye."""
    times = ", ".join(
        f"{way} {each['times']:.2f} ({each['least']:.2f} to {each['most']:.2f})"
        for way, each in row["times"].items()
    )
    peaks = ", ".join(f"{way} {mib:.0f}" for way, mib in row["peak"].items())
    ours = f"{row['seconds']['ours']:.3f} s"
    return f"{row['what']}: ours {ours}; times ours: {times}; MiB: {peaks}"


def worse(ratios, before):
    """A sentence for each ratio that is worse than on record by more than a fifth."""
    return [f"{name} is {ratios[name]:.2f}, on record {old:.2f}" for name, old in before.items()
            if name in ratios and ratios[name] < WORSE * old]  # fmt: skip


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"({' '.join(PARTS)})")
    parser.add_argument("--save", action="store_true", help=f"write the figures to {KEPT.name}")
    parser.add_argument(
        "--only", nargs="+", metavar="ROW", help="rows of the lens's tables, such as '8 ViT blocks'"
    )
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    record = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}
    here, said = record.get(machine(), {}), []
    print(machine())
    for part in chosen.parts or PARTS:
        found, ratios = measured(part, chosen.only)
        before = here.get(part, {}).get("ratios", {})
        if not before:
            print(f"{part}: no figures of this machine are on record, so none can be worse.")
        said += [f"{part}: {sentence}" for sentence in worse(ratios, before)]
        if chosen.save:
            here[part] = {"date": date.today().isoformat(), "ratios": ratios} | found
            write(KEPT, json.dumps(record | {machine(): here}, indent=1, ensure_ascii=False) + "\n")
            if part == "compression" and compression.PUBLISHED in found["tables"]:
                write(
                    COMPRESSION,
                    json.dumps({"machine": machine(), "rows": found["tables"]}, indent=1) + "\n",
                )
            if part == "methods":
                methods.save(found)
    print("\n".join(said) or "Nothing is slower than on record by more than a fifth.")
    return len(said) > 0


if __name__ == "__main__":
    sys.exit(main())
