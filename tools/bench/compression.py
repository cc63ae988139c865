"""What compression saves of a prefill, beside the ideal, and how much has to go before it pays."""

import os

import numpy as np
import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

import whatwhere as ww
from whatwhere.compress import speed

from . import models

PUBLISHED = (
    "Llama of the size of Sheared-LLaMA-2.7B, random weights, 576 visual tokens as LLaVA-1.5"
)
PATH = "every token through the path"
SHARES = (0.1, 0.25, 0.5, 0.75)
FEW = 4096  # words of a narrowed decoder


def tables(names):
    """{model and number of prompts: a table of `compress.speed`}: what the compression methods save
    of the organisms' time, and of a large model's, where the machine has the memory for it."""
    found = dict(organisms(names))
    room = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    if room >= 16:
        found[PUBLISHED] = published()
    else:
        print(f"This machine has {room:.0f} GiB of memory; the published size needs 16.")
    return found


def reached(table):
    """{way: share of the ideal speed-up of the prefill that is reached}."""
    times = table["prefill, times"]
    return {
        way: times[way] / times[f"{way}, ideal"]
        for way in table.index
        if f"{way}, ideal" in table.index
    }


def shares(names):
    """(model, table) with more and more removed: the decoder reads every token, but not what it
    says decides how many go."""
    image = ww.world.scene(seed=7).image
    for name in names:
        vlm = ww.load(name)
        yield name, removed(vlm, image, repeats=30)
    vlm = models.half(depth=1)  # the ViT is not timed
    image = image.resize((16 * models.TOKEN,) * 2)
    yield f"{vlm.name}, one ViT block", removed(vlm, image, repeats=5)
    # which they are is all the same to speed
    some = np.linspace(0, len(vlm.words) - 1, FEW).astype(int)
    yield (
        f"{vlm.name}, one ViT block, a decoder of {FEW:,} words",
        removed(vlm, image, repeats=5, ids=some),
    )


def removed(vlm, image, repeats, shares=SHARES, words=1, ids=None):
    decoder = ww.compress.Decoder(vlm.unembedding.weight.detach().clone(), vlm.words)
    decoder = decoder if ids is None else decoder.narrowed(ids)
    ways = {PATH: {"which": "random", "keep": 1.0}} | {
        f"{share:.2%} removed": {"which": removing(decoder, share)} for share in shares
    }
    return speed.measure(vlm, [image], ["is there a mug ?"], ways, words=words, repeats=repeats)


def removing(decoder, share):
    """A way that reads every token and looks for runs, as the methods do, and then keeps so many at
    equal steps."""
    usual = ww.compress.by_words(decoder, 3)

    def choose(sight):
        usual(sight)
        n = len(sight.tokens)
        return np.arange(n) * round((1 - share) * n) // n

    return choose


def crossing(table):
    """The share of visual tokens from whose removal on the prefill is faster than with all of them;
    nan where it never is."""
    own = [way for way in table.index if way != "all tokens" and not way.endswith(", ideal")]
    tokens = table["visual tokens"]
    gone = np.array([1 - tokens[way] / tokens["all tokens"] for way in own])
    # time beyond that of all tokens
    more = np.array([1 / table.loc[way, "prefill, times"] - 1 for way in own])
    for n in range(len(own)):
        if more[n] <= 0:
            return (
                float(np.interp(0, [more[n], more[n - 1]], [gone[n], gone[n - 1]]))
                if n
                else float(gone[0])
            )
    return float("nan")


def organisms(names):
    """What compression saves of each model's time, for one prompt and for sixteen at once."""
    pictures = [scene.image for scene in ww.world.scenes("dev", 16)]
    for name in names:
        vlm = ww.load(name)
        decoder = ww.compress.distil(
            vlm, ww.compress.lessons(vlm, pictures * 12), lr=0.03, epochs=6
        )
        ways = {"every token through the path": {"which": "random", "keep": 1.0},
                "method 1": {"which": 1, "decoder": decoder},
                "method 1, lengths kept": {"which": 1, "decoder": decoder,
                    "lengths": "kept"}}  # fmt: skip
        for n in (1, 16):
            table = speed.measure(vlm, pictures[:n], ["is there a mug ?"] * n, ways, repeats=9)
            yield f"{name}, {'one prompt' if n == 1 else f'{n} prompts'}", table


def published():
    """The same at a published size, with as much removed as the paper's methods 1 and 3 remove from
    LLaVA-1.5-7B."""
    vlm = large("cuda" if torch.cuda.is_available() else "cpu")
    # some minutes on a laptop
    return removed(vlm, ww.world.scene(seed=7).image, repeats=2, shares=(0.2783, 0.4855), words=4)


def large(device):
    """A LLaVA with a language model of published size and hardly a vision tower, which nobody times
    here."""
    vision = CLIPVisionConfig(
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=1,
        image_size=336,
        patch_size=14,
    )
    text = LlamaConfig(
        hidden_size=2560,
        intermediate_size=6912,
        num_hidden_layers=32,
        num_attention_heads=20,
        vocab_size=32000,
    )
    tokenizer = ww.load("toy-llava").tokenizer
    image_token = tokenizer.convert_tokens_to_ids("<image>")
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_id=image_token, vision_feature_layer=-1
    )
    with torch.device("meta"):
        model = LlavaForConditionalGeneration(config)
    model = model.to_empty(device=device).eval().requires_grad_(False)
    for each in model.parameters():
        each.normal_(0, 0.02)
    # buffers are not parameters: a rotary embedding computes its own
    for module in model.modules():
        if hasattr(module, "inv_freq"):
            module.inv_freq = type(module)(config=module.config).inv_freq.to(device)
        if hasattr(module, "position_ids"):
            module.position_ids = torch.arange(module.position_ids.shape[-1], device=device)[None]
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336}
    )
    return ww.models.VLM(model, tokenizer, processor, "published size")
