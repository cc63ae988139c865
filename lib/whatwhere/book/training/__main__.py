"""`python -m whatwhere.book.training [toy-llava] [toy-qwen2vl]`: train organisms, or go on with
what was interrupted."""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from . import ORGANISMS, RECIPES, prepare, train

root = Path(__file__).parents[4]
parser = argparse.ArgumentParser(prog="whatwhere.book.training", description=__doc__)
parser.add_argument(
    "names", nargs="*", default=ORGANISMS, help=f"which organisms; default: {' '.join(ORGANISMS)}"
)
parser.add_argument(
    "--out", type=Path, default=root / "data" / "models", help="where checkpoint folders go"
)
parser.add_argument(
    "--work", type=Path, default=root / ".training", help="where unfinished stages are kept"
)
parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
parser.add_argument("--threads", type=int, default=torch.get_num_threads())
parser.add_argument("--seed", type=int, default=0)
parser.add_argument(
    "--only",
    nargs="*",
    help="run these stages and stop: LM and ViT can learn side by side in two processes",
)
parser.add_argument("--without", nargs="*", default=[], help="stages to leave out: an ablation")
parser.add_argument(
    "--share", type=float, default=1.0, help="share of each stage's steps: a shorter training"
)
args = parser.parse_args()
if not 0 < args.share <= 1:
    parser.error(f"--share is above 0 and at most 1; got {args.share}")
stages = [s.name for s in RECIPES[ORGANISMS[0]]]
for given, known in ((args.names, ORGANISMS), (args.only or [], stages), (args.without, stages)):
    for unknown in set(given) - set(known):
        parser.error(f"no {unknown!r}; there are {', '.join(known)}")
torch.set_num_threads(args.threads)
torch.set_flush_denormal(True)  # dying gradients become denormal numbers, and those are slow
# Another seed or recipe is another model: it neither resumes nor overwrites the book's own.
tag = f"-seed{args.seed}" if args.seed else ""
tag += f"-without-{'-'.join(sorted(args.without))}" if args.without else ""
tag += f"-share{args.share:g}" if args.share < 1 else ""
for name in args.names:
    recipe = tuple(s for s in RECIPES[name] if s.name not in args.without)
    recipe = tuple(replace(s, steps=max(1, round(args.share * s.steps))) for s in recipe)
    if "text" in args.without:  # all of it
        recipe = tuple(replace(s, text_every=0) for s in recipe)
    if args.only:
        chosen = [s for s in recipe if s.name in args.only]
        prepare(name, args.work / (name + tag), chosen, args.seed, args.device)
    else:
        folder = train(
            name, args.out / (name + tag), args.work / (name + tag), recipe, args.seed, args.device
        )
        print(f"{name}{tag} is ready in {folder}")
