"""The command `whatwhere`, also as `python -m whatwhere` and `accelerate launch -m whatwhere`."""

import argparse
import sys
from collections.abc import Sequence
from glob import glob, has_magic
from io import TextIOWrapper
from pathlib import Path

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns what the shell is told: 0; 1 after an error's sentence or a failed
    check; 130 if interrupted."""
    parser = argparse.ArgumentParser(
        prog="whatwhere", description="Vision-language models, read and measured."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _bench(commands)
    _distilling(commands)
    _tuning(commands)
    table = commands.add_parser(
        "table", help="one table of several runs, beside the paper's figures"
    )
    table.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="a folder that `whatwhere bench` wrote; results/* for all",
    )
    _replication(commands)
    check = commands.add_parser(
        "check", help="is what this package reads off a model what the model itself computes, here?"
    )
    check.add_argument("model", help="as for bench")
    check.add_argument("--dtype", default="auto", help="auto, float32, bfloat16, float16 or 4-bit")
    check.add_argument("--device", default="auto")
    commands.add_parser("benchmarks", help="list the benchmarks")
    commands.add_parser("methods", help="list the methods of compression, and what each needs")
    commands.add_parser(
        "tasks", help="print the folder of task files that lmms-eval's --include_path takes"
    )
    chosen = parser.parse_args(arguments)
    # a character that a terminal lacks, as α does on Windows, is no reason to fail
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        return {
            "bench": _run, "check": _check, "distil": _distil, "finetune": _finetune,
            "replicate": _replicate, "table": _table, "benchmarks": _list, "methods": _methods,
            "tasks": _tasks,
        }[chosen.command](chosen) or 0  # fmt: skip
    except KeyboardInterrupt:
        print(
            "\nInterrupted. What was answered is kept, and the last state of a training: the same "
            "command goes on from there.",
            file=sys.stderr,
        )
        return 130
    # sentences for people, not traces for us
    except (ValueError, OSError, MemoryError, ImportError) as error:
        print(f"whatwhere: {error}", file=sys.stderr)
        return 1


def _bench(commands):
    bench = commands.add_parser("bench", help="run a benchmark on a model")
    bench.add_argument(
        "model",
        help="an organism, a checkpoint folder, or a hub id such as Qwen/Qwen2-VL-2B-Instruct",
    )
    bench.add_argument("benchmark", help="one of those that `whatwhere benchmarks` lists")
    _scales(bench)
    names = (
        "rle, rle-drop or rle-drop-both, the paper's methods 1 to 3; or, with --keep, one of those "
        "that `whatwhere methods` lists; or all of these, beside all tokens, as a table"
    )
    bench.add_argument("--compress", metavar="METHOD", help=names)
    bench.add_argument(
        "--decoder", metavar="FOLDER", help="the visual decoder that the paper's methods read with"
    )
    bench.add_argument(
        "--keep",
        type=float,
        help="what the others keep: a number of visual tokens, or a share below 1",
    )
    bench.add_argument(
        "--shape", help="of what is a neighbour in methods 1 to 3: rows, raster or regions (rows)"
    )
    bench.add_argument("--pool", help="what goes on for a group: mean, first or random (mean)")
    bench.add_argument("--positions", help="of what is kept: kept or renumbered (kept)")
    bench.add_argument(
        "--lengths",
        help="of groups: dropped, or kept as so many copies would be attended to (dropped)",
    )
    bench.add_argument(
        "--same", type=int, metavar="N", help="how many best words make two tokens equal (1)"
    )
    bench.add_argument(
        "--marks",
        help="what methods 2 and 3 drop as punctuation: paper, paper-in or unicode (paper)",
    )
    bench.add_argument(
        "--vit-depth", type=int, metavar="N", help="end the ViT after N blocks, 0 for none of them"
    )
    bench.add_argument(
        "--without-positions",
        metavar="BLOCKS",
        help="do not tell the ViT where patches are: all, or blocks with 2-D RoPE, such as 1-3,6",
    )
    bench.add_argument(
        "--shuffle",
        metavar="WHAT",
        help="tokens: the visual tokens in another order; positions: that of their positions",
    )
    bench.add_argument(
        "--image-attention",
        metavar="WHAT",
        help="bidirectional: visual tokens see all of each other in the LM; removed: none",
    )
    bench.add_argument(
        "--protocol",
        default="ours",
        help="ours, or paper: its prompts, reading, samples, pixels (ours)",
    )
    bench.add_argument(
        "--data",
        metavar="FOLDER",
        help="the benchmark's own files; else they are fetched from the hub",
    )
    bench.add_argument("--revision", help="of the hub's data set, instead of the pinned one")
    bench.add_argument("--limit", type=int, metavar="N", help="a sample of about N questions")
    bench.add_argument(
        "--blind",
        action="store_true",
        help="a control: each question beside the picture of another scene",
    )
    bench.add_argument("--seed", type=int, default=0, help="shuffles options, draws the sample (0)")
    bench.add_argument(
        "--batch-size", type=int, default=8, metavar="N", help="questions at once (8)"
    )
    bench.add_argument("--dtype", default="auto", help="auto, float32, bfloat16, float16 or 4-bit")
    bench.add_argument(
        "--max-pixels",
        type=int,
        metavar="N",
        help="larger pictures are reduced to N pixels (1280 visual tokens)",
    )
    bench.add_argument(
        "--out", metavar="FOLDER", help="where answers are kept (results/MODEL-BENCHMARK…)"
    )


def _replication(commands):
    replicate = commands.add_parser(
        "replicate", help="all of the paper's experiments, on your model and your pictures"
    )
    replicate.add_argument("model", help="as for bench")
    replicate.add_argument(
        "--claims",
        nargs="+",
        metavar="NAME",
        help="experiments, claims or their beginnings, such as table2 or what.stages (all)",
    )
    replicate.add_argument(
        "--data",
        metavar="FOLDER",
        help="a folder with a folder for each data set; stand-in: the organisms' world, drawn into "
        "such files",
    )
    replicate.add_argument(
        "--limit", type=int, metavar="N", help="pictures, sets or questions of each, at most"
    )
    replicate.add_argument("--decoder", metavar="FOLDER", help="as for bench")
    replicate.add_argument("--protocol", default="ours", help="as for bench (ours)")
    replicate.add_argument("--seed", type=int, default=0, help="of samples and shuffles (0)")
    replicate.add_argument("--batch-size", type=int, default=8, metavar="N", help="as for bench")
    replicate.add_argument("--dtype", default="auto", help="as for bench")
    replicate.add_argument(
        "--plan", action="store_true", help="only say what it would take; nothing is run"
    )
    replicate.add_argument(
        "--out", metavar="FOLDER", help="where parts, answers and rows are kept (results/MODEL)"
    )


def _replicate(chosen):
    from . import benchmarks, loading, replication

    out = Path(chosen.out or Path("results") / f"{Path(chosen.model).name}-replicated")
    data, process = chosen.data, benchmarks.processes()
    if data == "stand-in":
        data = out / "stand-in"
        if process.rank == 0 and not data.is_dir():
            replication.stand_in.write(data)
    vlm = loading.load(chosen.model, device=process.device or "auto", dtype=chosen.dtype)
    if process.rank == 0:
        plan = replication.plan(vlm, chosen.claims, chosen.limit)
        print(plan.to_string(index=False), flush=True)
        print(f"The weights take {plan.attrs['weights, GiB']:.1f} GiB; prompts come on top.")
    if chosen.plan:
        return 0
    rows = replication.run(
        vlm, out, claims=chosen.claims, data=data, limit=chosen.limit, seed=chosen.seed,
        decoder=chosen.decoder, protocol=chosen.protocol, batch_size=chosen.batch_size,
    )  # fmt: skip
    if process.rank == 0:
        print(replication.table(out).to_string(index=False))
        print(f"rows: {out / 'rows.json'}")
    return int(any(row["state"] == "open" for row in rows))


def _distilling(commands):
    distil = commands.add_parser(
        "distil",
        help="teach a visual decoder, which compression by words reads with, on your pictures",
    )
    distil.add_argument("model")
    distil.add_argument(
        "pictures",
        metavar="FOLDER",
        help="pictures of any kind, without labels; all kinds of things are best",
    )
    distil.add_argument("--limit", type=int, metavar="N", help="so many of them (all)")
    distil.add_argument("--dtype", default="auto")
    distil.add_argument(
        "--out",
        required=True,
        metavar="DECODER",
        help="the decoder's folder, where an interrupted run goes on",
    )
    distil.add_argument(
        "--alpha",
        type=float,
        default=0.7,
        help="weight of the LM's whole distribution, against its first word (0.7, the paper's for "
        "LLaVA; for Qwen2.5-VL 0.8 to 0.9)",
    )
    distil.add_argument(
        "--temperature",
        type=float,
        default=2.5,
        metavar="TAU",
        help="that softens the distributions (2.5; for Qwen2.5-VL 4 to 5)",
    )
    distil.add_argument(
        "--lr", type=float, default=1e-4, help="highest rate (1e-4; for Qwen2.5-VL to 2e-4)"
    )
    distil.add_argument("--epochs", type=int, default=2, help="(2; for Qwen2.5-VL 1)")
    distil.add_argument(
        "--batch",
        type=int,
        default=16,
        metavar="N",
        help="pictures at once, on all processes together (16; for Qwen2.5-VL 32)",
    )
    distil.add_argument(
        "--warmup",
        type=int,
        metavar="N",
        help="steps in which the rate rises (1000, or a tenth of all where that is less)",
    )
    distil.add_argument(
        "--held-out",
        type=int,
        metavar="N",
        help="so many of the pictures, at random, are not learnt from: on them the agreement with "
        "the LM is measured (1000, or a tenth of all where that is less)",
    )
    distil.add_argument(
        "--measure-every", type=int, metavar="N", help="steps (a tenth of an epoch)"
    )
    distil.add_argument(
        "--patience",
        type=int,
        metavar="N",
        help="end after so many measurements without a better one, and keep the best (never; the "
        "paper's 10)",
    )
    distil.add_argument(
        "--save-every",
        type=float,
        default=15,
        metavar="MINUTES",
        help="between two states to go on from, of 1.6 GB for LLaVA-1.5-7B (15)",
    )
    distil.add_argument("--seed", type=int, default=0, help="of all that is drawn (0)")


def _tuning(commands):
    tune = commands.add_parser(
        "finetune", help="train a model on GQA's train questions with a spatial word"
    )
    tune.add_argument("model", help="as for bench")
    tune.add_argument(
        "--data",
        required=True,
        metavar="FOLDER",
        help="GQA's train_balanced_questions.json, and images/",
    )
    tune.add_argument(
        "--out",
        required=True,
        metavar="FOLDER",
        help="the new checkpoint's folder, where an interrupted run goes on",
    )
    _scales(tune)
    tune.add_argument(
        "--lora",
        action="store_true",
        help="low-rank changes of the LM's attention, which are merged in the end, instead of all "
        "weights",
    )
    tune.add_argument(
        "--limit", type=int, default=60_000, metavar="N", help="questions, at random (60000)"
    )
    tune.add_argument("--lr", type=float, default=3e-6, help="highest learning rate (3e-6)")
    tune.add_argument("--epochs", type=int, default=3, help="(3)")
    tune.add_argument(
        "--batch",
        type=int,
        default=32,
        metavar="N",
        help="questions for one step, on all processes together (32)",
    )
    tune.add_argument(
        "--at-once",
        type=int,
        default=8,
        metavar="N",
        help="of which so many go through a process at once (8); fewer need less memory",
    )
    tune.add_argument(
        "--warmup",
        type=float,
        default=0.03,
        metavar="SHARE",
        help="of the steps, in which the rate rises (0.03)",
    )
    tune.add_argument(
        "--max-pixels",
        type=int,
        default=50_176,
        metavar="N",
        help="larger pictures are reduced to N pixels (50176)",
    )
    tune.add_argument(
        "--save-every",
        type=int,
        default=500,
        metavar="N",
        help="steps between two states to go on from (500)",
    )
    tune.add_argument("--seed", type=int, default=0, help="of all that is drawn (0)")


def _scales(command):
    command.add_argument(
        "--scale",
        nargs=2,
        type=float,
        metavar=("ALPHA", "P"),
        help="RoPE scaling of the ViT, such as 99 8",
    )
    command.add_argument(
        "--sigmoid",
        nargs=3,
        type=float,
        metavar=("ALPHA", "K", "C"),
        help="its other form, such as 99 40 0.6",
    )


def _scale(chosen):
    """What was asked for by --scale or --sigmoid, as functions take it."""
    if not chosen.sigmoid:
        return chosen.scale
    if chosen.scale:
        raise ValueError("--scale and --sigmoid are two forms of one thing: give one of them.")
    alpha, k, c = chosen.sigmoid
    return {"alpha": alpha, "k": k, "c": c}


def _run(chosen):
    from . import benchmarks

    if chosen.compress == "all":
        return _run_all(chosen)
    out = Path(chosen.out or Path("results") / _name(chosen))
    result = _result(chosen, chosen.model, out)
    if benchmarks.processes().rank == 0:
        print(result)
        print(f"answers: {out}")


def _run_all(chosen):
    """Every method that the model can serve, a folder each, and a table of all that are there."""
    from . import benchmarks, compress, loading
    from .benchmarks import running

    if chosen.keep is None:
        raise ValueError(
            "All methods are compared at equal tokens: give --keep, a number or a share such "
            "as 0.5."
        )
    process, folder = benchmarks.processes(), Path(chosen.out or f"{_default(chosen)}-methods")
    bound = {} if chosen.max_pixels is None else {"max_pixels": chosen.max_pixels}
    vlm = loading.load(chosen.model, process.device or "auto", dtype=chosen.dtype, **bound)
    alone = argparse.Namespace(**{**vars(chosen), "max_pixels": None})
    words = compress.WORDS if chosen.decoder else ()
    for name in (None, *words, *compress.METHODS):
        kept = _keep(chosen) if name in compress.METHODS else None
        one = argparse.Namespace(**{**vars(alone), "compress": name, "keep": kept})
        one.decoder = chosen.decoder if name in words else None
        if name is None:
            one.shape = one.pool = one.positions = one.lengths = one.same = one.marks = None
        elif name not in words:
            try:  # a sentence, before anything is run
                with compress.compressed(vlm, name, keep=kept, **_ways(one)):
                    pass
            except ValueError as error:
                if process.rank == 0:
                    print(f"left out: {error}", flush=True)
                continue
        result = _result(one, vlm, folder / _name(one))
        if process.rank == 0:
            print(f"{name or 'all tokens'}: {100 * result.accuracy:.1f}%", flush=True)
    if process.rank == 0:
        runs = sorted(path.parent for path in folder.glob(f"*/{running.SETTINGS}"))
        print(benchmarks.by_method(runs).to_string())
        print(f"answers: {folder}")


def _default(chosen):
    return Path("results") / Path(chosen.model).name


def _keep(chosen):
    """How many visual tokens, as functions take it."""
    keep = chosen.keep
    if keep is not None and keep > 1 and not float(keep).is_integer():
        raise ValueError(
            f"--keep is a whole number of visual tokens, or a share of them below 1, not {keep:g}."
        )
    return int(keep) if keep is not None and keep >= 1 else keep


def _result(chosen, model, out):
    """The `Result` of one run, in the folder `out`."""
    from . import benchmarks

    compress = chosen.compress
    if compress is not None and compress.isdecimal():
        compress = int(compress)
    return benchmarks.run(
        model, chosen.benchmark, scale=_scale(chosen), compress=compress, decoder=chosen.decoder,
        keep=_keep(chosen), depth=chosen.vit_depth, without_positions=chosen.without_positions,
        shuffle=chosen.shuffle, image_attention=chosen.image_attention, data=chosen.data,
        limit=chosen.limit, seed=chosen.seed, out=out,
        batch_size=chosen.batch_size, revision=chosen.revision, dtype=chosen.dtype,
        blind=chosen.blind, protocol=chosen.protocol,
        max_pixels="auto" if chosen.max_pixels is None else chosen.max_pixels, **_ways(chosen),
    )  # fmt: skip


def _ways(chosen):
    """What else is said of compression, by name."""
    named = {
        name: getattr(chosen, name)
        for name in ("shape", "pool", "positions", "lengths", "same", "marks")
    }
    return {name: value for name, value in named.items() if value is not None}


def _name(chosen):
    parts = [Path(chosen.model).name, chosen.benchmark]
    for what, numbers in (("scaled", chosen.scale), ("sigmoid", chosen.sigmoid)):
        if numbers:
            parts.append("-".join([what, *(f"{x:g}" for x in numbers)]))
    if chosen.compress:
        parts.append(f"compressed-{chosen.compress}" + (f"-{chosen.keep:g}" if chosen.keep else ""))
        parts += [f"{name}-{value}" for name, value in _ways(chosen).items()]
    if chosen.vit_depth is not None:
        parts.append(f"depth-{chosen.vit_depth}")
    if chosen.without_positions:
        parts.append(f"without-positions-{chosen.without_positions}".replace(" ", ","))
    if chosen.shuffle:
        parts.append(f"shuffled-{chosen.shuffle}")
    if chosen.image_attention:
        parts.append(f"image-attention-{chosen.image_attention}")
    if chosen.protocol != "ours":
        parts.append(chosen.protocol)
    if chosen.max_pixels is not None:
        parts.append(f"pixels-{chosen.max_pixels}")
    if chosen.blind:
        parts.append("blind")
    if chosen.limit:
        parts.append(f"{chosen.limit}")
    return "-".join(parts)


def _distil(chosen):
    from random import Random

    from . import compress, loading
    from .hooks import check_count
    from .processes import processes

    root, wanted, mine = Path(chosen.pictures), chosen.limit, processes()
    counts = {"limit": 1, "held_out": 0, "epochs": 1, "batch": 1, "warmup": 0}
    for name, least in counts.items():
        if getattr(chosen, name) is not None:
            check_count(f"--{name.replace('_', '-')}", getattr(chosen, name), least)
    candidates = sorted(
        path
        for path in root.rglob("*")
        if path.suffix.lower() in PICTURES and not _hidden(path.relative_to(root))
    )
    if not candidates:
        raise FileNotFoundError(f"'{root}' holds no pictures ({', '.join(PICTURES)}).")
    vlm = loading.load(chosen.model, device=mine.device or "auto", dtype=chosen.dtype)
    paths, skipped = [], 0
    for path in candidates:
        if len(paths) == wanted:
            break
        try:
            # decoded once more than needed, since learning takes hours and should not end at a
            # picture
            vlm._read(path)
            paths.append(path)
        # one bad file among thousands is no reason to learn from none
        except (ValueError, OSError) as error:
            skipped += 1
            if mine.rank == 0:
                print(f"skipped: {error}", file=sys.stderr)
    if not paths:
        raise ValueError(
            f"None of the {skipped} pictures in '{root}' can be read; the reasons stand above."
        )
    n_out = min(1000, len(paths) // 10) if chosen.held_out is None else chosen.held_out
    if n_out >= len(paths):
        raise ValueError(
            f"--held-out {n_out} leaves none of the {len(paths)} pictures in '{root}' to learn "
            "from: take fewer."
        )
    out = set(Random(f"held out/{chosen.seed}").sample(range(len(paths)), n_out))
    held_out = [path for n, path in enumerate(paths) if n in out]
    paths = [path for n, path in enumerate(paths) if n not in out]
    steps = chosen.epochs * -(-len(paths) // chosen.batch)
    decoder = compress.distil(
        vlm, paths, chosen.alpha, chosen.temperature, chosen.lr, chosen.epochs, chosen.batch,
        seed=chosen.seed, folder=chosen.out,
        warmup=min(1000, steps // 10) if chosen.warmup is None else chosen.warmup,
        held_out=held_out, measure_every=chosen.measure_every, patience=chosen.patience,
        save_every=60 * chosen.save_every,
    )  # fmt: skip
    if mine.rank == 0:
        left = f" ({skipped} that could not be read were skipped)" if skipped else ""
        print(f"decoder, taught by {len(paths)} pictures{left}: {chosen.out}")
        if held_out and decoder.history is not None:
            measured = decoder.history["agreement"].dropna()
            share = measured.max() if chosen.patience else measured.iloc[-1]
            print(f"agreement with the LM on {len(held_out)} held-out pictures: {share:.3f}")


def _finetune(chosen):
    from . import tuning
    from .processes import processes

    scale, first = _scale(chosen), processes().rank == 0
    if first:
        print(tuning.estimate(chosen.model, chosen.lora))
    tuning.finetune(
        chosen.model, chosen.data, chosen.out, scale=scale, lora=chosen.lora, limit=chosen.limit,
        seed=chosen.seed, lr=chosen.lr, epochs=chosen.epochs, batch=chosen.batch,
        at_once=chosen.at_once, warmup=chosen.warmup, max_pixels=chosen.max_pixels,
        save_every=chosen.save_every,
    )  # fmt: skip
    if first:
        print(f"fine-tuned: {chosen.out}")


def _hidden(path):
    """Is it a system's own, such as the ._x.jpg that macOS writes beside x.jpg?"""
    return any(part.startswith(".") for part in path.parts)


def _check(chosen):
    from . import families, loading

    vlm = loading.load(chosen.model, device=chosen.device, dtype=chosen.dtype)
    print(vlm)
    table = families.check(vlm)
    for what, works, measured in table.itertuples(index=False):
        print(f"{what}: {works}{f' ({measured})' if measured else ''}")
    return int((table.works != "yes").any())


def _table(chosen):
    from . import benchmarks

    runs = []
    for run in chosen.runs:
        # a shell on Windows leaves * to the command
        is_pattern = has_magic(run) and not Path(run).exists()
        folders = sorted(path for path in glob(run) if Path(path).is_dir()) if is_pattern else []
        runs += folders or [run]
    print(benchmarks.compare(runs).to_string(index=False))


def _list(_):
    from .benchmarks import BENCHMARKS

    for name, benchmark in BENCHMARKS.items():
        print(f"{name:14} {benchmark.title}")
        if benchmark.layout:
            print(f"{'':14} hub: {benchmark.hub}; or a folder with {benchmark.layout}")


def _methods(_):
    from . import compress

    table = compress.table()
    marks = table.drop(columns="place").replace({True: "yes", False: "–"})
    print(table[["place"]].join(marks).to_string())


def _tasks(_):
    print(Path(__file__).parent / "lmms" / "tasks")


if __name__ == "__main__":
    sys.exit(main())
