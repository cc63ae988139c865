"""The time and memory of every method of compression, from the pixels on, beside its ideal.

    python -m tools.bench.methods [--layers 12 --width 1024 --keep 0.25]  # make bench PARTS=methods

The *ideal* is the same model shortened at the same places by the same groups, with nothing left to
decide: its method gives what the first one chose, and looks at nothing. That of a smaller picture
is itself. Writes data/results/fair_speed.json, which the chapter about the fair bench shows.

On a processor, one thread works and its own time is counted, so that other work on the machine
matters little; on a GPU, the clock on the wall.
"""

from __future__ import annotations

import argparse
import inspect
import json
import time
import warnings
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

import whatwhere as ww
from whatwhere import compress
from whatwhere.book.training.scaling_study import machine
from whatwhere.compress import speed
from whatwhere.files import write

OUT = Path("data/results/fair_speed.json")
ENOUGH = 0.9  # of the ideal's speed


def model(layers: int, width: int, vision_layers: int, vision_width: int) -> Any:
    """A LLaVA of random weights with 576 visual tokens, as LLaVA-1.5."""
    vision = CLIPVisionConfig(
        hidden_size=vision_width, intermediate_size=4 * vision_width,
        num_hidden_layers=vision_layers, num_attention_heads=max(1, vision_width // 64),
        image_size=336, patch_size=14,
    )  # fmt: skip
    text = LlamaConfig(
        hidden_size=width, intermediate_size=round(2.7 * width), num_hidden_layers=layers,
        num_attention_heads=width // 128 or 1, vocab_size=32000,
    )  # fmt: skip
    tokenizer = ww.load("toy-llava").tokenizer
    token = tokenizer.convert_tokens_to_ids("<image>")
    torch.manual_seed(0)
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_id=token, vision_feature_layer=-2
    )
    loaded = LlavaForConditionalGeneration(config).eval().requires_grad_(False)
    side = {"height": 336, "width": 336}
    processor = CLIPImageProcessorPil(size={"shortest_edge": 336}, crop_size=side)
    name = f"random weights, LM {layers} × {width}, ViT {vision_layers} × {vision_width}"
    return ww.models.VLM(loaded, tokenizer, processor, name)


def replayed(vlm: Any, name: str, keep: float, inputs: dict[str, Any]) -> compress.Method | None:
    """The method that gives what `name` chose for these inputs, and looks at nothing."""
    method, chosen = compress.METHODS[name](keep), []

    def choose(sight):
        chosen.append(method(sight))
        return chosen[-1]

    noted = compress.Method(name, choose, method.place, method.needs)
    with compress.compressed(vlm, noted):
        vlm.model(**inputs, use_cache=False, logits_to_keep=1)
    return compress.Method(name, lambda sight: chosen[sight.step], method.place)


class Noted:
    """A streamer for `generate` that notes when the prompt goes in and when each word comes."""

    def __init__(self, device: torch.device) -> None:
        here = device.type == "cpu"
        self.clock = time.process_time if here else partial(speed.now, device)
        self.times: list[float] = []

    def put(self, value: Any) -> None:
        self.times.append(self.clock())

    def end(self) -> None:
        pass


def run(vlm: Any, inputs: dict[str, Any], words: int = 4) -> tuple[float, float, float]:
    """(seconds from the pixels to the first word, seconds for each of the `words` after it, MiB of
    keys and values)."""
    noted = Noted(vlm.device)
    length = {"max_new_tokens": words + 1, "min_new_tokens": words + 1}
    start = noted.clock()  # some methods show the ViT the picture before the prompt goes in
    cache = vlm.model.generate(
        **inputs, **length, do_sample=False, streamer=noted, return_dict_in_generate=True
    ).past_key_values
    first, last = noted.times[1], noted.times[-1]  # the prompt comes before the first word
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    return first - start, (last - first) / words, held / speed.MIB


@torch.no_grad()
def table(vlm: Any, keep: float, repeats: int) -> pd.DataFrame:
    """A row for all tokens and for each method: tokens in the end and in a block; seconds to the
    first word and for each later one; memory for keys and values; how many times as fast the first
    word comes as with all tokens, and the share of its ideal's speed."""
    image = ww.world.scene(seed=7).image.resize((336, 336))
    usual = vlm.prepare(image, "is there a mug ?")
    runs: dict[str, tuple] = {"all tokens": (nullcontext, usual)}
    given = vlm.patch_grid(image)
    tokens = given[0] * given[1]
    seen, left = {"all tokens": float(tokens)}, {"all tokens": tokens}
    for name in compress.METHODS:

        def context(name=name):
            return compress.compressed(vlm, name, keep=keep)

        with context() as log:
            inputs = vlm.prepare(image, "is there a mug ?") if name == "smaller" else usual
            vlm.model(**inputs, use_cache=False, logits_to_keep=1)
        left[name], seen[name] = log.kept[0], log.on_average[0]
        runs[name] = context, None if name == "smaller" else inputs
        if name != "smaller":
            ideal = replayed(vlm, name, keep, usual)
            runs[f"{name}, ideal"] = (lambda ideal=ideal: compress.compressed(vlm, ideal)), usual
    noted: dict[str, list] = {name: [] for name in runs}
    for _ in range(repeats + 1):  # the first go is not counted
        for name, (context, inputs) in runs.items():
            with context():
                own = vlm.prepare(image, "is there a mug ?") if inputs is None else inputs
                noted[name].append(run(vlm, own))
    first, word, cache = {}, {}, {}
    for name, each in noted.items():
        first[name], word[name], cache[name] = np.median(each[1:], axis=0).tolist()
    rows = []
    for name in ("all tokens", *compress.METHODS):
        reached = first.get(f"{name}, ideal", first[name]) / first[name]
        rows.append({
            "method": name, "tokens": left[name], "in a block": round(seen[name], 1),
            "first word, s": round(first[name], 3), "a later word, s": round(word[name], 4),
            "keys and values, MiB": round(cache[name], 1),
            "times as fast": round(first["all tokens"] / first[name], 2),
            "of the ideal": round(reached, 2),
            "speed holds": "–" if name == "all tokens" else "yes" if reached >= ENOUGH else "no",
        })  # fmt: skip
    return pd.DataFrame(rows).set_index("method")


def measure(
    layers: int = 12,
    width: int = 1024,
    vision_layers: int = 12,
    vision_width: int = 768,
    keep: float = 0.25,
    repeats: int = 5,
) -> dict[str, Any]:
    """{"what": the model and the tokens, "rows": of the table}, which is printed."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # whose time is the processor's
    try:
        vlm = model(layers, width, vision_layers, vision_width)
        found = table(vlm, keep, repeats)
    finally:
        torch.set_num_threads(threads)
    print(found.to_string())
    return {
        "what": f"{vlm.name}, {keep:.0%} of 576 tokens, one thread",
        "rows": found.reset_index().to_dict("records"),
    }


def save(found: dict[str, Any]) -> None:
    """Write what was measured to the file that the book shows."""
    write(OUT, json.dumps({"machine": machine(), **found}, indent=1, ensure_ascii=False) + "\n")


def main() -> None:
    """Measures, prints and writes."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__)
    for name, fallback in inspect.signature(measure).parameters.items():
        kind = type(fallback.default)
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=fallback.default)
    save(measure(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
