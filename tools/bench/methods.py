"""The time of every method of compression, from the pixels to the first word, beside its ideal.

    python -m tools.bench.methods [--layers 8 --width 1024 --keep 0.25]

The *ideal* is the same model shortened at the same places by the same groups, with nothing left to
decide: its method gives what the first one chose, and looks at nothing. That of a smaller picture
is itself. Writes data/results/fair_speed.json, which the chapter about the fair bench shows. Times
mean something on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
import warnings
from contextlib import nullcontext
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


def first_word(vlm: Any, inputs: dict[str, Any]) -> float:
    """Seconds from the pixels to the first word."""
    start = speed.now(vlm.device)
    vlm.model(**inputs, use_cache=True, logits_to_keep=1).logits.argmax(-1).tolist()
    return speed.now(vlm.device) - start


@torch.no_grad()
def table(vlm: Any, keep: float, repeats: int) -> pd.DataFrame:
    """A row for each method: tokens in the end and in a block, seconds to the first word, how many
    times as fast as with all tokens, and the share of its ideal's speed."""
    image = ww.world.scene(seed=7).image.resize((336, 336))
    usual = vlm.prepare(image, "is there a mug ?")
    runs: dict[str, tuple] = {"all tokens": (nullcontext, usual)}
    seen, left = {}, {}
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
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats + 1):  # the first go is not counted
        for name, (context, inputs) in runs.items():
            with context():
                own = vlm.prepare(image, "is there a mug ?") if inputs is None else inputs
                times[name].append(first_word(vlm, own))
    seconds = {name: statistics.median(each[1:]) for name, each in times.items()}
    rows = []
    for name in compress.METHODS:
        reached = seconds.get(f"{name}, ideal", seconds[name]) / seconds[name]
        rows.append({
            "method": name, "tokens": left[name], "in a block": round(seen[name], 1),
            "seconds": round(seconds[name], 3),
            "times as fast": round(seconds["all tokens"] / seconds[name], 2),
            "of the ideal": round(reached, 2),
            "speed holds": "yes" if reached >= ENOUGH else "no",
        })  # fmt: skip
    return pd.DataFrame(rows).set_index("method")


def main() -> None:
    """Measures, prints and writes."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (("layers", 8), ("width", 1024), ("vision-layers", 6), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--vision-width", type=int, default=512)
    parser.add_argument("--keep", type=float, default=0.25)
    parser.add_argument("--note", default="", help="such as: the machine was not quiet")
    asked = parser.parse_args()
    vlm = model(asked.layers, asked.width, asked.vision_layers, asked.vision_width)
    begin, load = time.time(), np.mean(os.getloadavg()[:2])
    found = table(vlm, asked.keep, asked.repeats)
    print(found.to_string(), f"\n{time.time() - begin:.0f} s")
    note = asked.note or f"load average {load:.1f} when it began"
    saved = {
        "what": f"{vlm.name}, {asked.keep:.0%} of 576 tokens", "machine": f"{machine()} ({note})",
        "rows": found.reset_index().to_dict("records"),
    }  # fmt: skip
    write(OUT, json.dumps(saved, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
