"""The field's benchmarks, in their official formats and by their official rules, on any model that
`load` opens.

    model = "Qwen/Qwen2-VL-2B-Instruct"
    result = benchmarks.run(model, "whatsup-b", scale=(99, 8), out="results/scaled")
    result.accuracy, result.table(), result.rows

The same from a shell: `whatwhere bench Qwen/Qwen2-VL-2B-Instruct whatsup-b --scale 99 8 --out
results/scaled`. Killed, it goes on where it was; under `accelerate launch` it is split over all
GPUs; the rows are the same in any case. No pictures come with the book: they are fetched from the
hub, or read from a folder in the benchmark's original layout. A benchmark is one record, a
`Benchmark`; `register` makes one of your own known.
"""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from numbers import Real
from pathlib import Path
from typing import Any

import torch

from .. import compress as _compress
from .. import hub, loading, rope
from ..hooks import check_count
from ..models import VLM
from ..processes import Processes, processes
from . import conditions, fingerprint, identity, paper, prompts, records, running, scores, tabletop
from .files import Folder, check_pictures
from .item import Item, blinded, digest, sample
from .record import BENCHMARKS, Benchmark, Paper, known, register
from .results import Result, by_method, compare, gain, load
from .scores import Score

__all__ = [
    "BENCHMARKS", "PROTOCOLS", "Benchmark", "Folder", "Item", "Paper", "Processes", "Result",
    "Score", "by_method", "compare", "gain", "items", "load", "paper", "processes", "records",
    "register", "run", "scores", "tabletop",
]  # fmt: skip
# whose words, samples, reading of answers, pixels and decoding
PROTOCOLS = {"ours": prompts, "paper": paper}


def items(
    benchmark: str,
    data: str | Path | None = None,
    seed: int = 0,
    limit: int | None = None,
    revision: str | None = None,
    protocol: str = "ours",
) -> tuple[list[Item], str | None]:
    """(items, revision) of a benchmark: a list of `Item`, and the revision of the hub's data set
    that they are of, or None.

    Args:
        data: a folder in the original layout, or of the hub's files; fetched from the hub if None.
        seed: shuffles the options of those who choose among captions, and draws the sample.
        limit: a sample of about so many questions.
        protocol: "ours" (lmms-eval's words), or "paper", whose own samples are then drawn (see
            `paper`).

    Raises:
        ValueError, FileNotFoundError or ConnectionError: with a sentence.
    """
    record = known(benchmark)
    if not isinstance(protocol, str) or protocol not in PROTOCOLS:
        raise ValueError(f"There is no protocol {protocol!r}; there are {' and '.join(PROTOCOLS)}.")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed is a whole number from 0 up, not {seed!r}.")
    if data is not None and revision is not None:
        raise ValueError(
            "A revision is one of the hub's data sets: give either data, a folder of your own, "
            "or a revision."
        )
    paper_record = record.paper if protocol == "paper" else None
    if protocol == "paper" and paper_record is None:
        raise ValueError(f"The paper has no protocol for {benchmark}: leave protocol out.")
    if record.draw is not None:
        if data is not None or revision is not None:
            raise ValueError(
                f"{benchmark} is drawn on the spot: it takes neither data nor a revision."
            )
        listed = record.draw()
    else:
        if data is None:
            if not record.hub:
                files = record.layout or "its files"
                raise ValueError(
                    f"{benchmark} is not on the hub: give data, the folder that holds {files}."
                )
            data, revision = hub.dataset(record.hub, record.patterns, revision or record.revision)
        order = None if paper_record and not paper_record.shuffled else seed
        assert record.read is not None  # a record that draws no items reads them: `register` looks
        listed = check_pictures(
            record.read(Folder(data, benchmark), order, (paper_record or record).ask), benchmark
        )
    if not isinstance(listed, list) or not all(isinstance(item, Item) for item in listed):
        raise ValueError(
            f"The items of {benchmark} are not a list of benchmarks.Item, as its record should "
            "give them."
        )
    if not listed:
        raise ValueError(f"The files of {benchmark} hold no question.")
    names = [item.id for item in listed]
    if not all(name.strip() for name in names):
        raise ValueError(f"The files of {benchmark} hold a question without a number.")
    if len(set(names)) < len(names):
        twice = next(name for n, name in enumerate(names) if name in names[:n])
        raise ValueError(f"The files of {benchmark} hold question '{twice}' twice.")
    for part in record.parts:  # of an empty one the mean of the others would pass for that of all
        if not any(item.about.get("part") == part for item in listed):
            raise ValueError(f"The files of {benchmark} hold no question of the part '{part}'.")
    if paper_record and paper_record.drawn:
        listed = paper_record.drawn(listed, seed)
    return (sample(listed, limit, seed) if limit is not None else listed), revision


def run(
    model: VLM | str | Path,
    benchmark: str,
    *,
    scale: tuple[float, float] | dict[str, float] | None = None,
    compress: int | str | Callable[..., Any] | None = None,
    decoder: _compress.Decoder | str | Path | None = None,
    keep: int | float | Callable[..., Any] | None = None,
    depth: int | None = None,
    without_positions: str | int | Iterable[int] | None = None,
    shuffle: str | None = None,
    image_attention: str | None = None,
    data: str | Path | None = None,
    limit: int | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    batch_size: int = 8,
    revision: str | None = None,
    dtype: str | torch.dtype = "auto",
    blind: bool = False,
    progress: bool = True,
    protocol: str = "ours",
    max_pixels: int | str | None = "auto",
    **ways: Any,
) -> Result:
    """Put a benchmark to a model: a `Result`.

    Answers are decoded greedily, as `VLM.answer` does it; with protocol="paper" by the checkpoint's
    generation_config too. A model that is scaled already is asked, and recorded, as it is. Under
    `accelerate launch`, each process answers its share, and all return the result of all.

    Args:
        model: a `VLM`, or what `load` takes, as is dtype.
        scale: what `rope.scaled` takes, (alpha, p) or a dictionary such as {"alpha": 99, "k": 40,
            "c": 0.6}.
        compress, decoder, keep, ways: what `compress.compressed` takes; ways are same, shape, pool,
            positions, lengths and so on. Any function of a `compress.Sight` will do: a run records
            its name and a checksum of its code and of what it holds on to (`fingerprint`), so that
            answers of two functions never share a folder.
        depth: after how many blocks the ViT ends (`conditions.truncated`).
        without_positions: where the ViT is not told where patches are: "all", or blocks, such as
            [1, 2, 3] or "1-3,6", of one with 2-D RoPE (`conditions.without_positions`).
        shuffle: what of the visual tokens is shuffled, "tokens" or "positions", by the run's seed
            (`conditions.shuffled`).
        image_attention: what visual tokens see of each other in the LM, "bidirectional" or
            "removed" (`conditions.image_attention`).
        data, limit, seed, revision, protocol: see `items`.
        out: the folder that every answer is written to at once; a run that was killed goes on
            there, if nothing has changed that can change an answer. None keeps nothing.
        batch_size: questions at once; halved where memory ends.
        blind: put each question beside the picture of another scene, as a control: what is right
            then is habit or luck.
        max_pixels: what `load` takes; for a `VLM` set `vlm.max_pixels`.
    """
    process = processes()
    if process.count > 1 and out is None:
        raise ValueError(
            "A run that is split over several processes needs out=, the folder in which their "
            "rows come together."
        )
    check_count("batch_size", batch_size)
    if max_pixels != "auto" and isinstance(model, VLM):
        raise ValueError(
            "A model that is loaded has its bound already: set vlm.max_pixels, or use `with "
            "images.bounded(…)`."
        )
    if max_pixels != "auto" and protocol == "paper":
        raise ValueError(
            "The paper's protocol has its own bounds of pixels: leave max_pixels out, or take "
            "protocol='ours'."
        )
    scaling = _scaling(scale)
    compressed = _compression(compress, decoder, keep, ways, out is not None)
    asked_under = conditions.checked(depth, without_positions, shuffle, image_attention, compress)
    # before the model, which may be large
    questions, revision = items(benchmark, data, seed, limit, revision, protocol)
    vlm, device = model, process.device or "auto"
    if not isinstance(vlm, VLM):
        vlm = loading.load(vlm, device=device, dtype=dtype, max_pixels=max_pixels)
    if isinstance(decoder, (str, Path)):
        decoder = _compress.load_decoder(decoder, vlm)
    plain = PROTOCOLS[protocol].PLAIN
    with ExitStack() as changes:
        if scaling is not None:
            changes.enter_context(rope.scaled(vlm, **scaling))
        if protocol == "paper":
            changes.enter_context(paper.bounded(vlm))
            questions = paper.asked_of(vlm.family, questions)
        settings = {
            "benchmark": benchmark, "protocol": protocol, "model": vlm.name,
            **identity.of(vlm, plain), "compress": compressed,
            "decoder": None if decoder is None else identity.decoder(decoder), **asked_under,
            "blind": blind, "limit": limit, "seed": seed, "batch_size": batch_size,
            "max_new_tokens": paper.WORDS if protocol == "paper" else known(benchmark).words,
            "revision": revision, "questions": len(questions), "data": digest(questions),
            "device": str(vlm.device),
        }  # fmt: skip
        if blind:
            questions = blinded(questions, seed)
        how = None
        if compress is not None:
            how = {"which": compress, "decoder": decoder, "keep": keep, **ways}
        runner = running.Runner(
            vlm, questions, batch_size, settings["max_new_tokens"], how, seed, plain
        )
        hooks = identity.changing(vlm.model)
        changes.enter_context(conditions.set_on(vlm, asked_under, seed))
        runner.try_first()
        if hooks and out is not None:
            raise ValueError(
                f"{vlm.name} is being changed by {', '.join(hooks)}, and a folder could not say "
                "what that does: leave its context first, say the same by an option of run "
                f"(compress, scale, {', '.join(conditions.NONE)}), or keep nothing (out=None)."
            )
        settings |= {"hooks": hooks} if hooks else {}
        # what cannot be asked for is refused before there is a folder that says it was
        with runner.shortened(0):
            pass
        folder = running.begin(out, settings) if out is not None else None
        rows = runner.run(folder, process, progress)
    rows = {row["id"]: row for row in (running.gathered(folder, questions) if folder else rows)}
    return Result(settings, [rows[item.id] for item in questions if item.id in rows])


def _scaling(scale: Any) -> dict[str, Any] | None:
    """What `rope.scaled` takes by name, of two numbers or of a dictionary; None for none."""
    named: Any = scale
    if isinstance(scale, (tuple, list)) and len(scale) == 2:
        named = dict(zip(("alpha", "p"), scale))
    if named is None:
        return None
    fits = isinstance(named, dict) and set(named) in ({"alpha", "p"}, {"alpha", "k", "c"})
    if not fits or not all(isinstance(number, Real) for number in named.values()):
        raise ValueError(
            "scale is two numbers, alpha and p, or a dictionary of alpha, k and c, the "
            f"sigmoid's; not {scale!r}."
        )
    return named


def _compression(compress, decoder, keep, ways, kept):
    """What a run's settings say of its compression, everything that was left open included; None
    for none.

    kept: are its rows? Then a function needs a checksum.
    """
    unknown = [name for name in ways if name not in running.WAYS]
    if unknown:
        raise TypeError(
            f"run takes no {unknown[0]!r}; what it hands on to compress.compressed is "
            f"{', '.join(running.WAYS)}."
        )
    if compress is None and (keep is not None or decoder is not None or ways):
        raise ValueError(
            f"keep, decoder, {', '.join(running.WAYS)} belong to a way of compressing: say "
            "which by compress."
        )
    if compress is None:
        return None
    if callable(compress):
        if decoder is not None or keep is not None:
            raise ValueError(
                "A function of a Sight takes neither decoder nor keep: what it needs, it brings "
                "along."
            )
        name = fingerprint.of(compress) if kept else fingerprint.label(compress)
        return {"method": name, "keep": None, **running.WAYS, **ways}
    try:
        name = _compress.named(compress)
    except ValueError:
        choices = ", ".join((*_compress.WORDS, *_compress.METHODS))
        raise ValueError(
            f"compress is {choices}, or a function of a compress.Sight, not {compress!r}."
        ) from None
    if name in _compress.WORDS and decoder is None:
        raise ValueError(
            f"Method {compress} reads with a visual decoder: give decoder=, a folder that "
            "`whatwhere distil` wrote."
        )
    if name in _compress.METHODS and keep is None:
        raise ValueError(
            f"'{compress}' needs keep=, how many visual tokens are to be left: a number, or a "
            "share such as 0.5."
        )
    return {"method": name, "keep": keep, **running.WAYS, **ways}
