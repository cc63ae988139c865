"""`python -m whatwhere.training [toy-llava] [toy-qwen2vl]`: train organisms, or go on with what was interrupted."""

import argparse
from pathlib import Path

import torch

from . import ORGANISMS, RECIPES, prepare, train

root = Path(__file__).parents[3]
parser = argparse.ArgumentParser(prog="whatwhere.training", description=__doc__)
parser.add_argument("names", nargs="*", default=ORGANISMS, help=f"which organisms; default: {' '.join(ORGANISMS)}")
parser.add_argument("--out", type=Path, default=root / "data" / "models", help="where checkpoint folders go")
parser.add_argument("--work", type=Path, default=root / ".training", help="where unfinished stages are kept")
parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
parser.add_argument("--threads", type=int, default=torch.get_num_threads())
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--only", nargs="*", help="run these stages and stop: LM and ViT can learn side by side in two processes")
parser.add_argument("--without", nargs="*", default=[], help="stages to leave out: an ablation")
args = parser.parse_args()
unknown = [n for n in args.names if n not in ORGANISMS]
if unknown:
    parser.error(f"no organism {unknown[0]!r}; there are {', '.join(ORGANISMS)}")
torch.set_num_threads(args.threads)
for name in args.names:
    recipe = tuple(s for s in RECIPES[name] if s.name not in args.without)
    if args.only:
        prepare(name, args.work, [s for s in recipe if s.name in args.only], args.seed, args.device)
        continue
    print(f"{name} is ready in {train(name, args.out / name, args.work, recipe, args.seed, args.device)}")
