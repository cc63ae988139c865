"""Would the verdicts be the same on other scenes? Every row again, over ten draws of them.

    python -m tools.trials.draws                # beside make steady: ten draws of every chapter
    python -m tools.trials.draws --draws 3 --chapters 04 06

In each draw the chapters that measure are executed on the book's own organisms with test and
training scenes of other seeds, and with decoders that began from other seeds; what is chosen on
development scenes is chosen as before. The rows go to data/results/draws.json, and the ledger says
how often each verdict held. A draw that was measured is not measured again until its chapter
changes.
"""

import argparse
import sys
from pathlib import Path

from tools.course.chapters import NOTEBOOKS, ROOT
from tools.trials import measure
from whatwhere.book import ledger

RESULTS = ROOT / "data" / "results" / "draws.json"
# these check an identity, read what was measured before, or wait for real weights
WITHOUT = (
    "a_fair_bench", "checking_the_derivation", "scaling_and_training", ledger.FLEET, "real_models",
    "the_paper_on_its_own_models",
)  # fmt: skip
CHAPTERS = [p for p in NOTEBOOKS if p.stem[3:] not in WITHOUT and measure.records(p)]


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=10, metavar="N")
    parser.add_argument("--chapters", nargs="+", metavar="NN", help="such as 04 06")
    parser.add_argument("--results", type=Path, default=RESULTS)
    chosen = parser.parse_args(arguments)
    chapters = [p for p in CHAPTERS if not chosen.chapters or p.stem[:2] in chosen.chapters]
    wanted = {str(n): {"WHATWHERE_DRAW": str(n)} for n in range(1, chosen.draws + 1)}
    return bool(measure.into(chosen.results, chapters, wanted))


if __name__ == "__main__":
    sys.exit(main())
