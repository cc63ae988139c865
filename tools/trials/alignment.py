"""What decides whether a connector finds the words: the language model, the encoder, or the data?

    python -m tools.trials.alignment            # make alignment, after make fleet

Some members of the fleet came out with visual tokens that answer questions and hardly read as words,
and their learning curves part in the stage in which the connector is fitted alone. That stage is
run again, for a third of its steps, with the language model of one member, the encoder of another,
from which the connector's first weights are taken as well, and the scenes and questions of a third.
What came of it is in
data/results/alignment.json: the share of answers right at the end, and the share of object patches
whose visual token reads as a word of their object. A run that was measured is not run again.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from tools.course.chapters import ROOT
from tools.trials.fleet import SEEDS, WORK, about, member
from whatwhere import lens, load, stages, world
from whatwhere.book.training import RECIPES, build
from whatwhere.book.training.checkpoints import resume
from whatwhere.book.training.scaling_study import processor
from whatwhere.book.training.stages import Reader, named, optimizers, run, trainable
from whatwhere.book.training.towers import Tower
from whatwhere.files import read_json, write

RESULTS = ROOT / "data" / "results" / "alignment.json"
KIND = "toy-qwen2vl"
OWN = 0  # the data of the book's own organism, which is not among the others
STAGES = {stage.name: stage for stage in RECIPES[KIND]}
SHORT = replace(STAGES["align"], steps=STAGES["align"].steps // 3)
SCENES = 60


def put(tower, reader, stage, seed, work):
    """Give the parts that a stage trains the weights that a member had after it. The parts of
    "vision" hold the connector, which that stage leaves as it began."""
    matrices, rest = trainable(tower, reader, stage.name)
    own = named(tower, reader, matrices + rest)
    resume(member(work, KIND, seed), stage, own, optimizers(matrices, rest, stage), seed)


def trained(work, seed):
    """Has this member finished the stages that come before?"""
    files = [member(work, KIND, seed) / f"{name}.json" for name in ("text", "vision")]
    steps = [read_json(file)["step"] if file.is_file() else 0 for file in files]
    return steps == [STAGES["text"].steps, STAGES["vision"].steps]


def on_topic(vlm):
    """Share of object patches whose visual token reads as a word of their object, by the logit
    lens, on development scenes."""
    scenes = list(world.scenes("dev", SCENES))
    states = torch.stack(vlm.states([scene.image for scene in scenes], 0))
    words = lens.LogitLens(vlm).read(states, 0, top_k=1).words[..., 0]
    hits = []
    for said, scene in zip(words, scenes):
        owner = stages.owners(scene, vlm.patch_grid(scene.image)).ravel()
        things = [(word, scene.things[n]) for word, n in zip(said, owner) if n >= 0]
        hits += [word in thing.words for word, thing in things]
    return float(np.mean(hits))


def aligned(job):
    """What comes of a connector's first steps between two members; job: (lm, encoder, data, work
    folder)."""
    lm, encoder, data, work = job
    tower, reader = Tower(build.model(KIND), KIND), Reader(build.VISION_WIDTH)
    tower.start()
    put(tower, reader, STAGES["text"], lm, work)
    put(tower, reader, STAGES["vision"], encoder, work)
    with tempfile.TemporaryDirectory() as folder:
        tower.model.train()
        progress = run(tower, reader, SHORT, folder, workers=0, seed=data)
        tower.model.eval()
        vlm = load(build.save(tower.model, KIND, Path(folder) / KIND), "cpu", "float32")
        found = {"right": progress["log"][-1]["right"], "on topic": round(on_topic(vlm), 4)}
    return {"lm": lm, "encoder": encoder, "data": data, **found}


def as_in_training():
    """How the processes compute."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), metavar="N")
    parser.add_argument("--work", type=Path, default=WORK, help="where the fleet was trained")
    parser.add_argument("--results", type=Path, default=RESULTS)
    chosen = parser.parse_args(arguments)
    absent = [str(seed) for seed in chosen.seeds if not trained(chosen.work, seed)]
    if absent:
        sys.exit(
            f"'{chosen.work}' has no language model and encoder of {KIND} from the training of "
            f"seed {' and '.join(absent)}. `make fleet` leaves them there; name the folder with "
            "--work."
        )
    kept = {"recipe": about()[KIND], "steps": SHORT.steps, "scenes": SCENES, "runs": []}
    if chosen.results.exists():
        kept = read_json(chosen.results)
        if kept["recipe"] != about()[KIND]:
            sys.exit(
                f"The runs in '{chosen.results}' are of organisms of another recipe than the "
                "package now has. Name another file with --results, or remove this one."
            )
    kept["processor"] = processor()
    # every language model with every encoder, on the data of none of them; then the two of one
    # member on the data of all
    wanted = [(lm, encoder, OWN) for lm, encoder in product(chosen.seeds, repeat=2)]
    wanted += [(own, own, data) for own, data in product(chosen.seeds, repeat=2)]
    done = {(of["lm"], of["encoder"], of["data"]) for of in kept["runs"]}
    due = [(*job, chosen.work) for job in wanted if job not in done]
    # two processes, since the seed of random numbers is one of a whole process
    with get_context("spawn").Pool(2, as_in_training) as pool:
        for found in pool.imap_unordered(aligned, due):
            kept["runs"].append(found)
            kept["runs"].sort(key=lambda of: (of["lm"], of["encoder"], of["data"]))
            write(chosen.results, json.dumps(kept, indent=1) + "\n")
            print(found, flush=True)


if __name__ == "__main__":
    sys.exit(main())
