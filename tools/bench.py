"""Time the book's own machinery on this machine: drawing scenes, answering questions, making token maps, compression.

python tools/bench.py [model …]          # the two organisms unless told otherwise, then compression at a published size
python tools/bench.py --save [model …]   # and write what compression saves to data/results, as the book quotes it
"""

import json
import os
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

import whatwhere as ww
from whatwhere.compress import speed
from whatwhere.training.scaling import machine

RESULTS = Path(__file__).parents[1] / "data" / "results" / "compression_speed.json"
PUBLISHED = "Llama of the size of Sheared-LLaMA-2.7B, random weights, 576 visual tokens as LLaVA-1.5"


def rate(act, seconds=3.0):
    """How often act(n) runs in a second, n counting up from 0: the median of three goes."""
    act(0)
    goes = []
    for _ in range(3):
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < seconds / 3:
            count += 1
            act(count)
        goes.append(count / (time.perf_counter() - start))
    return statistics.median(goes)


def main(names, save):
    print(machine())
    print(f"{'scenes drawn a second':44}{rate(lambda n: ww.world.scene(seed=n).image):8.0f}")
    scenes = list(ww.world.scenes("test", 500))
    pictures = [ww.world.scene(seed=n).image for n in range(16)]
    for name in names:
        start = time.perf_counter()
        try:
            vlm = ww.load(name)
        except (FileNotFoundError, ValueError) as error:
            print(f"{name}: {error}")
            continue
        print(f"{name + ': seconds to load':44}{time.perf_counter() - start:8.2f}")
        answers = rate(lambda n, vlm=vlm: vlm.answer(pictures[n % 16], "is there a mug ?"))
        print(f"{name + ': answers a second, one at a time':44}{answers:8.1f}")
        maps = rate(lambda n, vlm=vlm: ww.lens.token_maps(vlm, pictures[n % 16]))
        print(f"{name + ': token maps a second, all depths':44}{maps:8.1f}")
        start = time.perf_counter()
        ww.stages.read(vlm, scenes)
        print(f"{name + f': {len(scenes)} scenes, all depths, seconds':44}{time.perf_counter() - start:8.1f}")
        start = time.perf_counter()
        for scene in scenes[:25]:
            plainly(vlm, scene.image)
        print(f"{name + ': the plain way, seconds (from 25 scenes)':44}{(time.perf_counter() - start) * len(scenes) / 25:8.1f}")
    if vlm.adapter.rotary is not None:
            print(f"{name + ': time when scaled, over unscaled':44}{overhead(vlm, pictures[0]):8.3f}")
    compression(names, save)


def overhead(vlm, image, repeats=300):
    """How much longer the vision tower takes while its frequencies are scaled: median over pairs of runs, in either order."""
    ratios = []
    for n in range(repeats):
        taken = {}
        for alpha in ((0, 9), (9, 0))[n % 2]:
            with ww.rope.scaled(vlm, alpha, 2):
                start = time.perf_counter()
                vlm.vit_states(image, [vlm.depths])
                taken[alpha] = time.perf_counter() - start
        ratios.append(taken[9] / taken[0])
    return statistics.median(ratios)


@torch.no_grad()
def plainly(vlm, image):
    """Token maps without any of the lens's savings: for each depth a whole forward pass and logits at every position."""
    for depth in range(vlm.depths + 1):
        inputs = vlm.prepare(image, "")
        embeddings = vlm.embed(inputs, [each[0] for each in vlm.visual(inputs, [depth])])
        hidden = vlm.lm_hidden(embeddings, inputs["attention_mask"], vlm.position_ids(inputs))
        vlm.unembedding(vlm.final_norm(hidden)).softmax(-1).topk(5)


def organisms(names):
    """What compression saves of each model's time, for one prompt and for sixteen at once."""
    pictures = [scene.image for scene in ww.world.scenes("dev", 16)]
    for name in names:
        vlm = ww.load(name)
        decoder = ww.compress.distil(vlm, ww.compress.lessons(vlm, pictures * 12), lr=0.03, epochs=6)
        ways = {"every token through the path": {"which": "random", "keep": 1.0},
                "method 1": {"which": 1, "decoder": decoder},
                "method 1, lengths kept": {"which": 1, "decoder": decoder, "lengths": "kept"}}  # fmt: skip
        for n in (1, 16):
            table = speed.measure(vlm, pictures[:n], ["is there a mug ?"] * n, ways, repeats=9)
            yield f"{name}, {'one prompt' if n == 1 else f'{n} prompts'}", table


def published():
    """The same at a published size, with as much removed as the paper's methods 1 and 3 remove from LLaVA-1.5-7B."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    vlm = large(device)
    image = ww.world.scene(seed=7).image
    decoder = ww.compress.Decoder(vlm.unembedding.weight.detach().clone(), vlm.words)

    def removing(share):
        """Random weights say random words: the decoder and the run-length code work in full, but how much goes is the paper's."""
        usual = ww.compress.by_words(decoder, 3)

        def choose(sight):
            usual(sight)
            n = len(sight.tokens)
            return np.arange(n) * round((1 - share) * n) // n

        return choose

    ways = {"every token through the path": {"which": "random", "keep": 1.0},
            "27.83% removed": {"which": removing(0.2783)}, "48.55% removed": {"which": removing(0.4855)}}  # fmt: skip
    return speed.measure(vlm, [image], ["is there a mug ?"], ways, words=4, repeats=2)  # some minutes on a laptop


def large(device):
    """A LLaVA with a language model of published size and hardly a vision tower, which nobody times here."""
    vision = CLIPVisionConfig(hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=1, image_size=336,
                              patch_size=14)  # fmt: skip
    text = LlamaConfig(hidden_size=2560, intermediate_size=6912, num_hidden_layers=32, num_attention_heads=20, vocab_size=32000)
    tokenizer = ww.load("toy-llava").tokenizer
    image_token = tokenizer.convert_tokens_to_ids("<image>")
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_id=image_token, vision_feature_layer=-1)
    with torch.device("meta"):
        model = LlavaForConditionalGeneration(config)
    model = model.to_empty(device=device).eval().requires_grad_(False)
    for each in model.parameters():
        each.normal_(0, 0.02)
    for module in model.modules():  # buffers are not parameters: a rotary embedding computes its own
        if hasattr(module, "inv_freq"):
            module.inv_freq = type(module)(config=module.config).inv_freq.to(device)
        if hasattr(module, "position_ids"):
            module.position_ids = torch.arange(module.position_ids.shape[-1], device=device)[None]
    processor = CLIPImageProcessorPil(size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336})
    return ww.models.VLM(model, tokenizer, processor, "published size")


def compression(names, save):
    found = dict(organisms(names))
    room = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    if room >= 16:
        found[PUBLISHED] = published()
    else:
        print(f"This machine has {room:.0f} GiB of memory; the published size needs 16.")
    for what, table in found.items():
        print(f"\n{what}\n{table.round(2).to_string()}")
    if PUBLISHED in found:
        for name, row in found[PUBLISHED].filter(like="ideal", axis=0).iterrows():
            reached = found[PUBLISHED].loc[name.removesuffix(", ideal"), "prefill, times"] / row["prefill, times"]
            print(f"{name.removesuffix(', ideal')}: {reached:.1%} of the ideal speed-up of the prefill")
    if save:
        RESULTS.parent.mkdir(exist_ok=True)
        rows = {what: table.round(4).reset_index(names="way").to_dict("records") for what, table in found.items()}
        RESULTS.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    given = [name for name in sys.argv[1:] if name != "--save"]
    main(given or ["toy-llava", "toy-qwen2vl"], "--save" in sys.argv)
