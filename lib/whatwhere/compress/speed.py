"""What compression saves, with what it costs: time to the first word, time for each word after it,
and memory.

    speed.measure(vlm, images, prompts, {"compressed": {"which": 1, "decoder": decoder}})

What is compared takes turns, so that a machine that slows down slows all alike.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from transformers import DynamicCache

from ..types import Several
from .within import compressed

if TYPE_CHECKING:
    from ..models import VLM

MIB = 2**20


@torch.no_grad()
def measure(
    vlm: VLM,
    images: Several,
    prompts: Sequence[str],
    ways: Mapping[str, Mapping[str, Any]],
    words: int = 8,
    repeats: int = 5,
) -> pd.DataFrame:
    """A table with a row for "all tokens" and two for each way: the way itself, and its ideal.

    Time runs from the visual tokens on, since the ViT is the same for all, and includes the
    decoder, the choice and the shortening. Columns: visual tokens (a prompt), prefill and word in
    milliseconds (medians over interleaved repeats), "prefill, times" (how many
    times faster than all tokens, with its smallest and largest), cache (keys and values, MiB) and
    peak (the most memory in use during prefill above what was in use before, MiB).

    Args:
        ways: {name: options of `compressed`}, of methods before the LM. The *ideal* is the same LM
            given the same shortened prompts from the start, with nothing to decide and nothing to
            hook.
        images, prompts: one batch.
        words: tokens decoded after the first.
    """
    inputs = vlm.prepare(images, prompts)
    visual = [tokens[0] for tokens in vlm.visual(inputs, [vlm.last_depth])]
    mask, positions = inputs["attention_mask"], vlm.position_ids(inputs)

    def prompt():
        return vlm.lm_inputs(vlm.embed(inputs, visual), mask, positions)

    all_tokens = sum(map(len, visual)) / len(visual) - vlm.adapter.leading
    runs: dict[str, tuple[Callable, Callable, float]] = {
        "all tokens": (nullcontext, prompt, all_tokens)
    }
    for name, options in ways.items():
        with compressed(vlm, **options) as log, _lm_inputs(vlm) as shortened:
            if log.method.place != "LM 0":
                raise ValueError(
                    f"'{name}' works at {log.method.place}; an ideal is of what shortens before "
                    "the LM."
                )
            vlm.lm(**prompt(), use_cache=False)
        kept = sum(log.kept) / len(log.kept)
        runs[name] = (lambda options=options: compressed(vlm, **options)), prompt, kept
        runs[f"{name}, ideal"] = nullcontext, (lambda given=shortened: dict(given)), kept
    measured = {name: [] for name in runs}
    for _ in range(repeats + 1):  # the first go is not counted
        for name, (context, make, _) in runs.items():
            with context():
                measured[name].append(_run(vlm, make, words))
    rows, prefill_of_all = [], np.array(measured["all tokens"][1:])[:, 0]
    for name, (_, _, kept) in runs.items():
        prefill, word, cache, peak = np.array(measured[name][1:]).T
        times = prefill_of_all / prefill
        rows.append(
            {
                "visual tokens": kept,
                "prefill": statistics.median(prefill) * 1e3,
                "word": statistics.median(word) * 1e3,
                "prefill, times": statistics.median(times),
                "least": times.min(),
                "most": times.max(),
                "cache": cache[0] / MIB,
                "peak": peak.max() / MIB,
            }
        )
    return pd.DataFrame(rows, list(runs))


def _run(vlm, make, words):
    """(seconds to the first word, seconds for each later one, bytes of the cache, bytes of memory
    at most)."""
    cache = DynamicCache(config=vlm.lm.config)
    with peak(vlm.device) as most:
        start = now(vlm.device)
        prompt = make()
        hidden = vlm.lm(**prompt, past_key_values=cache, use_cache=True).last_hidden_state
        best = vlm.unembedding(hidden[:, -1:]).argmax(-1)
        best.tolist()
        first = now(vlm.device)
    layers: Any = cache.layers  # of a usual cache, all of which have keys and values
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in layers)
    mask, position = prompt["attention_mask"], prompt["position_ids"].max() + 1
    begin = now(vlm.device)
    for n in range(words):
        mask = _longer(mask)
        named = {"inputs_embeds": vlm.model.get_input_embeddings()(best), "attention_mask": mask,
                 "position_ids": (position + n).expand(len(mask), 1)}  # fmt: skip
        hidden = vlm.lm(**named, past_key_values=cache, use_cache=True).last_hidden_state
        best = vlm.unembedding(hidden[:, -1:]).argmax(-1)
    best.tolist()
    return first - start, (now(vlm.device) - begin) / max(1, words), held, most[0]


def _longer(mask):
    """The mask for one token more, which may look at everything: of ones and zeros, or of what is
    added to logits."""
    pad = torch.nn.functional.pad
    return pad(mask, (0, 1), value=1) if mask.ndim == 2 else pad(mask[:, :, -1:], (0, 1), value=0.0)


@contextmanager
def _lm_inputs(vlm):
    """What the LM is given, after everything that shortens it."""
    given = {}
    hook = vlm.lm.register_forward_pre_hook(
        lambda _, __, named: given.update(named), with_kwargs=True
    )
    try:
        yield given
    finally:
        hook.remove()
        given.pop("use_cache", None)


def now(device: torch.device) -> float:
    """Seconds, once the device has done all that it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


@contextmanager
def peak(device: torch.device) -> Iterator[list[float]]:
    """[bytes in use at most, above those in use before]: allocated on a GPU, resident on a CPU
    (where /proc tells; else nan)."""
    most = [float("nan")]
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield most
        most[0] = torch.cuda.max_memory_allocated(device) - before
        return
    if not (statm := Path("/proc/self/statm")).is_file():
        yield most
        return
    over, resident = Event(), [_resident(statm)]

    def watch():
        while not over.wait(0.002):
            resident.append(_resident(statm))

    thread = Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()
    most[0] = max(resident) - resident[0]


def _resident(statm):
    return int(statm.read_text().split()[1]) * 4096
