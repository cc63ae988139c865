"""How much shorter could the training of the organisms be, before an exam is lost?

    python -m tools.trials.shorter                 # make shorter: half of all steps, then a quarter
    python -m tools.trials.shorter --shares 0.75

Organisms of seed 1 are raised by the recipe with a share of each stage's steps, two side by side,
and go on where a run was killed. Their exams are kept, in data/results/shorter.json, and the
organisms page holds them against those of full length; the organisms themselves are not.
"""

import argparse
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

from tools.course.chapters import ROOT
from tools.trials.fleet import about, train
from whatwhere.book import fleet
from whatwhere.book.training import ORGANISMS
from whatwhere.book.training.scaling_study import processor
from whatwhere.files import read_json, write

RESULTS = ROOT / "data" / "results" / "shorter.json"
WORK = ROOT / ".training" / "shorter"
SHARES = (0.5, 0.25)
SEED = 1


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shares", type=float, nargs="+", default=list(SHARES), metavar="SHARE")
    parser.add_argument("--work", type=Path, default=WORK, help="where unfinished ones are")
    parser.add_argument("--results", type=Path, default=RESULTS)
    chosen = parser.parse_args(arguments)
    if not all(0 < share < 1 for share in chosen.shares):
        parser.error("a share of the steps is above 0 and below 1")
    kept = {"seed": SEED, "recipes": about(), "exams": {}}
    if chosen.results.exists():
        kept = read_json(chosen.results)
        if kept["recipes"] != about():
            sys.exit(
                f"The exams in '{chosen.results}' are of organisms of another recipe than the "
                "package now has. Name another file with --results, or remove this one."
            )
    kept["processor"] = processor()
    alone = Lock()

    def one(name, share):
        folder = train(name, SEED, chosen.work / "out", chosen.work, share)
        with alone:
            kept["exams"].setdefault(name, {})[f"{share:g}"] = fleet.facts(folder)
            write(chosen.results, json.dumps(kept, indent=1) + "\n")

    due = [
        (name, share)
        for share in chosen.shares
        for name in ORGANISMS
        if f"{share:g}" not in kept["exams"].get(name, {})
    ]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda each: one(*each), due))


if __name__ == "__main__":
    sys.exit(main())
