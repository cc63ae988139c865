"""Do the verdicts hold for other seeds? A fleet of organisms, raised by the same recipes.

    python -m tools.trials.fleet                # make fleet: raise them, then measure them
    python -m tools.trials.fleet --seeds 1 --only raise
    python -m tools.trials.fleet --only measure

Each member is raised as the book's own organisms were, by the same recipe, from another seed of
weights, scenes and questions: two side by side, one thread each, some two hours a pair on two
free cores, going on where a run was killed. It is kept at half precision in `data/fleet`, and the
chapters' claims are put to it by the chapters themselves, with the rules as they are. The rows go
to data/results/fleet.json; the members of seed 0 are the book's own, and their rows are the
ledger's.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from safetensors.torch import load_file, save_file

from tools.course.chapters import NOTEBOOKS, ROOT
from tools.trials import measure
from whatwhere.book import fleet, ledger
from whatwhere.book.training import ORGANISMS, RECIPES
from whatwhere.files import read_json, write

FLEET, WORK = ROOT / "data" / "fleet", ROOT / ".training" / "fleet"
RESULTS = ROOT / "data" / "results" / "fleet.json"
SEEDS = (1, 2, 3, 4)
# the fair bench reads what was measured on the book's own; two chapters are about any head with
# 2-D RoPE; training with RoPE scaling has five organisms of its own; one reads the fleet's results;
# the last two wait for real weights
WITHOUT = (
    "a_fair_bench", "deriving_2d_rope", "checking_the_derivation", "scaling_and_training",
    ledger.FLEET, "real_models", "the_paper_on_its_own_models",
)  # fmt: skip
CHAPTERS = [p for p in NOTEBOOKS if p.stem[3:] not in WITHOUT and measure.records(p)]
ABOUT = "about.json"


def about(recipes=None):
    """What all members of a fleet share: a digest of each organism's recipe."""
    recipes = RECIPES if recipes is None else recipes
    return {
        name: hashlib.sha256(json.dumps([asdict(s) for s in recipe]).encode()).hexdigest()[:16]
        for name, recipe in recipes.items()
    }


def check(folder, recipes=None):
    """Mark a new fleet's folder with its recipes.

    Raises ValueError where there are members of other recipes."""
    file = folder / ABOUT
    if not file.exists():
        if folder.exists() and any(folder.iterdir()):
            raise ValueError(
                f"'{folder}' holds files but no {ABOUT}: it is no fleet's folder. Name another one."
            )
        write(file, json.dumps(about(recipes), indent=1) + "\n")
    elif read_json(file) != about(recipes):
        raise ValueError(
            f"The organisms in '{folder}' were raised by another recipe than the package now has, "
            "and organisms of two recipes are no fleet. Name another folder, or go back to the "
            "version that raised them."
        )


def member(folder, name, seed):
    return folder / f"{name}-seed{seed}"


def raised(folder, name, seed):
    """Is this member there, whole?"""
    return (member(folder, name, seed) / "training.json").is_file()


def train(name, seed, out, work, share=1.0):
    """Train one organism on one thread, or go on with it, by the recipe or a `share` of its steps;
    returns its folder in `out`."""
    command = [
        sys.executable, "-m", "whatwhere.book.training", name, "--seed", str(seed),
        "--threads", "1", "--device", "cpu", "--out", out, "--work", work,
    ]  # fmt: skip
    tag = ""
    if share < 1:
        command += ["--share", f"{share:g}"]
        tag = f"-share{share:g}"
    # as in the Makefile: glibc keeps large blocks
    variables = os.environ | {
        "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1",
        "MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "8589934592",
    }  # fmt: skip
    print(f"{name}, seed {seed}{tag}: training", flush=True)
    subprocess.run(command, check=True, env=variables, stdout=subprocess.DEVNULL)
    return Path(f"{member(out, name, seed)}{tag}")


def bring_up(name, seed, folder, work):
    """Train one member, or go on with it, and keep it at half precision."""
    halved(train(name, seed, work / "out", work), member(folder, name, seed))
    print(f"{name}, seed {seed}: raised", flush=True)


def halved(source, target):
    """A checkpoint folder with its weights in float16; written whole or not at all."""
    part = Path(f"{target}.part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(source, part)
    weights = part / "model.safetensors"
    tensors = {name: tensor.half() for name, tensor in load_file(weights).items()}
    save_file(tensors, weights, metadata={"format": "pt"})
    part.rename(target)


def digest(organism):
    """By which an organism's weights are known."""
    return hashlib.sha256((organism / "model.safetensors").read_bytes()).hexdigest()[:16]


def elsewhere(folder, seed, place):
    """The environment in which chapters meet the members of one seed."""
    there = Path(place) / f"seed {seed}"
    there.mkdir()
    for name in ORGANISMS:
        (there / name).symlink_to(member(folder, name, seed).resolve())
    return {"WHATWHERE_ORGANISMS": str(there)}


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), metavar="N")
    parser.add_argument("--only", choices=("raise", "measure"))
    parser.add_argument("--chapters", nargs="+", metavar="NN", help="such as 04 05")
    parser.add_argument("--folder", type=Path, default=FLEET, help="where members are kept")
    parser.add_argument("--work", type=Path, default=WORK, help="where unfinished ones are")
    parser.add_argument(
        "--results", type=Path, help="by default the book's; another fleet's lie beside it"
    )
    chosen = parser.parse_args(arguments)
    if min(chosen.seeds) < 1:
        parser.error("seeds are from 1 up: the organisms of seed 0 are the book's own")
    unknown = sorted({*(chosen.chapters or ())} - {path.stem[:2] for path in CHAPTERS})
    if unknown:
        parser.error(
            f"no claims of organisms are measured in chapter {', '.join(unknown)}; they are in "
            f"{', '.join(path.stem[:2] for path in CHAPTERS)}"
        )
    folder, results = chosen.folder, chosen.results
    if results is None:
        own = folder.resolve() == FLEET.resolve()
        results = RESULTS if own else folder.with_name(f"{folder.name}.json")
    try:
        if chosen.only == "measure" and not folder.is_dir():
            raise ValueError(f"'{folder}' is not there: raise a fleet in it first.")
        check(folder)
    except ValueError as error:
        sys.exit(str(error))
    asked = [(name, seed) for seed in chosen.seeds for name in ORGANISMS]
    if chosen.only != "measure":
        due = [each for each in asked if not raised(folder, *each)]
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda each: bring_up(*each, folder, chosen.work), due))
    if chosen.only == "raise":
        return False
    lacking = [f"{name}-seed{seed}" for name, seed in asked if not raised(folder, name, seed)]
    if lacking:
        sys.exit(
            f"'{folder}' lacks {', '.join(lacking)}, so nothing is measured: raise them, or name "
            "the seeds whose two organisms are there."
        )
    chapters = [p for p in CHAPTERS if not chosen.chapters or p.stem[:2] in chosen.chapters]
    members = read_json(results).get("members", {}) if results.exists() else {}
    weights = {}
    for seed in chosen.seeds:
        places = {name: member(folder, name, seed) for name in ORGANISMS}
        weights[str(seed)] = {name: digest(place) for name, place in places.items()}
        members[str(seed)] = {
            name: {**fleet.facts(place), "weights": weights[str(seed)][name]}
            for name, place in places.items()
        }
    with tempfile.TemporaryDirectory() as place:
        wanted = {str(seed): elsewhere(folder, seed, place) for seed in chosen.seeds}
        return bool(measure.into(results, chapters, wanted, weights, members=members))


if __name__ == "__main__":
    sys.exit(main())
