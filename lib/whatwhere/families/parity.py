"""Is what this package reads off a model what the model itself computes?

    vlm = ww.load("Qwen/Qwen2-VL-2B-Instruct")
    ww.families.check(vlm)                # a table: "yes", or a sentence that says what is at fault
    ww.families.check(vlm, processor)     # the prompt too, against the family's own processor

For a new adapter, and for your own model, machine and precision. The model's own forward pass is
run once, untouched, and listened to; the package's parts are held to what was heard. Differences
are relative to the size of what they are between, and more is allowed where the model's precision
is less (`ALLOWED`).
"""

import warnings
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

from .. import lens
from ..compress.speed import now, peak
from ..files import first_line
from ..finite import NotFinite
from .adapter import check_members
from .forward import ALLOWED, Found, Run, all_layers, distance, verdict
from .shapes import corners, shapes, viewed

if TYPE_CHECKING:
    from ..models import VLM

RESIZED = 0.02  # allowed between pixels that two libraries resized
QUESTIONS = ["what is this ?", "what is on the left, and which colour does it have ?"]
WORDS = 6  # of an answer that are compared


def check(
    vlm: "VLM",
    processor: Callable[..., Any] | None = None,
    images: list | None = None,
    questions: list[str] | None = None,
) -> pd.DataFrame:
    """Hold an adapter, and all that is built on it, to the model's own forward pass.

    Args:
        vlm: the model, on the device and in the precision that it will be used in.
        processor: the family's own, such as `AutoProcessor.from_pretrained(…)` gives; or a function
            of an image and a question that gives what it makes of them, a dictionary with
            `input_ids` and `pixel_values`. Without it, prompt and pixels are not checked.
        images, questions: two of each, images of unequal sizes; noise and plain questions if None.

    Returns:
        A table with a row for each check: `what` is checked, whether it `works` ("yes", or a
        sentence that names the member at fault, as far as that can be told), what was `measured`.

    Raises ValueError for fewer than two images, or not as many questions. No other error leaves it
    but KeyboardInterrupt: one that a check meets is its sentence. The model is not changed.
    """
    images = [_noise(48, 64, 0), _noise(72, 48, 1)] if images is None else list(images)
    questions = QUESTIONS if questions is None else list(questions)
    if len(images) < 2 or len(images) != len(questions):
        raise ValueError(
            "A check takes two images at least and a question for each; got "
            f"{len(images)} and {len(questions)}."
        )
    first = images[0], questions[0]
    run = Run(vlm, *first)
    usual = vlm.model.config._attn_implementation
    checks = {
        "the adapter has all its members": lambda: _members(vlm),
        "members give what is due, in shape": lambda: shapes(vlm, images[:2], questions[:2]),
        "numbers are finite at every depth and layer": lambda: _finite(vlm, *first),
        "the ViT is run as the model runs it": run.vit,
        "visual tokens are the model's own, in its order": run.tokens,
        "the LM's layers are the model's own": run.layers,
        "logits are the model's own": run.logits,
        "the lens at the last layer gives the model's own words": run.lens,
        "a batch gives what single prompts give": lambda: _batch(vlm, images, questions),
        "greedy answers are the likeliest words, one by one": lambda: _answer(vlm, *first),
        "patches are in raster order, in the picture's corners": lambda: corners(vlm, QUESTIONS[0]),
        "pictures that are no squares are shown as `viewed` says": lambda: viewed(vlm),
    }
    if processor is not None:
        what = "prompt and pixels are the family's own"
        checks[what] = lambda: _prompt(vlm, images, questions, processor)
    for name in sorted({"eager", "sdpa"} - {usual}):
        checks[f"attention '{name}' gives the same"] = partial(_attention, vlm, *first, name)
    checks["one token map, all depths"] = lambda: _cost(vlm, images[0])
    checks["precision"] = lambda: _precision(vlm)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that an organism has never seen noise
        rows = [(what, *_tried(act)) for what, act in checks.items()]
    return pd.DataFrame(rows, columns=["what", "works", "measured"])


def _tried(act: Callable[[], Found]) -> Found:
    try:
        return act()
    except (torch.OutOfMemoryError, MemoryError):
        return "The memory is too small for this check; nothing else is known of it.", ""
    except NotFinite as error:
        return str(error), ""
    except Exception as error:  # whatever a wrong adapter, or a library, may raise
        return f"It stopped with {type(error).__name__}: {first_line(error)}", ""


def _noise(height: int, width: int, seed: int) -> Image.Image:
    """Squares of random colours, in a picture large enough for some patches of every model."""
    generator = np.random.default_rng(seed)
    colours = generator.integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8)
    return Image.fromarray(colours).resize((4 * width, 4 * height), Image.Resampling.NEAREST)


# -- the checks ------------------------------------------------------------------------------------


def _members(vlm: "VLM") -> Found:
    try:
        check_members(vlm.adapter)
    except ValueError as error:
        return str(error), ""
    return "yes", ""


def _finite(vlm: "VLM", image: Any, question: str) -> Found:
    inputs = vlm.prepare(image, question)
    mask, positions = inputs["attention_mask"], vlm.position_ids(inputs)
    states = [vlm.vit_states(image), vlm.visual_tokens_by_depth(image)]
    states += vlm.lm_hidden(vlm.embed(inputs), mask, positions, all_layers(vlm))
    largest = max(state.abs().max().item() for state in (*states, vlm.logits(image, question)))
    advice = "load the model with dtype='float32', or 'bfloat16' where the GPU has it."
    works = "yes" if np.isfinite(largest) else f"Some number is not finite: {advice}"
    return works, f"largest {largest:.3g}"


def _prompt(vlm: "VLM", images: list, questions: list[str], processor: Callable[..., Any]) -> Found:
    part = getattr(processor, "image_processor", None)
    apart, allowed = 0.0, ALLOWED[vlm.dtype]
    if part is not None and type(part) is not type(vlm.image_processor):  # on torchvision, say
        allowed = max(allowed, RESIZED)
    for image, question in zip(images, questions):
        ours = vlm.prepare(image, question)
        ask = processor if part is None else _asked(vlm, processor)
        theirs = ask(image, question)
        if ours["input_ids"].tolist() != torch.as_tensor(theirs["input_ids"]).tolist():
            who = "the chat template, `adapter.around` or `adapter.grids`"
            return f"The token ids differ: {who}.", ""
        pixels = theirs["pixel_values"].to(vlm.dtype)
        apart = np.maximum(apart, distance(ours["pixel_values"].cpu(), pixels))
    wrong = "The pixels differ: `adapter.pixels`, or `processor_options`."
    return "yes" if apart <= allowed else wrong, f"{apart:.1g}"


def _asked(vlm: "VLM", processor: Callable[..., Any]) -> Callable[[Any, str], Any]:
    """What a processor of transformers makes of a question about an image, as a function."""

    def ask(image: Any, question: str) -> Any:
        text = vlm.as_chat(question)
        if getattr(processor, "chat_template", None):
            content = [{"type": "image"}, {"type": "text", "text": question}]
            chat = [{"role": "user", "content": content}]
            text = processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        how = vlm.adapter.processor_options
        return processor(text=[text], images=[[image]], return_tensors="pt", **how)

    return ask


def _batch(vlm: "VLM", images: list, questions: list[str]) -> Found:
    apart = 0.0
    for row, image, question in zip(vlm.logits(images, questions), images, questions):
        alone = vlm.logits(image, question)
        apart = np.maximum(apart, distance(row[-len(alone) :], alone))
    members = "`adapter.position_ids`, `model_inputs` or `pick`, or the attention"
    return verdict(vlm, apart, f"Prompts differ when they are batched: {members}.")


def _answer(vlm: "VLM", image: Any, question: str) -> Found:
    """What `generate` says, with its cache, beside the likeliest words when all is run anew."""
    inputs = vlm.prepare(image, question)
    greedy = {"do_sample": False, "num_beams": 1, "repetition_penalty": 1.0, "pad_token_id": 0}
    unset = dict.fromkeys(("temperature", "top_p", "top_k"))
    answer = vlm.model.generate(**inputs, **greedy, **unset, max_new_tokens=WORDS)
    answer = answer[0, inputs["input_ids"].shape[1] :]
    sequence, positions = vlm.embed(inputs), vlm.position_ids(inputs)
    for n, word in enumerate(answer.tolist(), start=1):
        state = vlm.lm_hidden(sequence, None, positions)[:, -1:]
        logits = vlm.unembedding(vlm.final_norm(state)).float()[0, 0]
        short = (logits.max() - logits[word]).item() / logits.abs().max().item()
        if short > ALLOWED[vlm.dtype]:
            wrong = f"At word {n}, `generate` takes another than the likeliest"
            return f"{wrong}: its settings, cache or positions.", f"{short:.1g}"
        following = vlm.model.get_input_embeddings()(answer[None, n - 1 : n])
        sequence = torch.cat([sequence, vlm.adapter.pack({"inputs_embeds": following})], 1)
        positions = torch.cat([positions, positions[..., -1:] + 1], -1)
    return "yes", f"{len(answer)} words"


def _attention(vlm: "VLM", image: Any, question: str, name: str) -> Found:
    config, inputs = vlm.model.config, vlm.prepare(image, question)
    parts = [config, *(getattr(config, key) for key in config.sub_configs)]
    usual, before = [part._attn_implementation for part in parts], vlm.model(**inputs).logits
    try:
        vlm.model.set_attn_implementation(name)
        apart = distance(vlm.model(**inputs).logits, before)
    finally:
        for part, implementation in zip(parts, usual):
            part._attn_implementation = implementation
    differ = f"'{name}' and '{usual[0]}' differ"
    wrong = f"{differ}: trust neither in this precision without a look at float32."
    return verdict(vlm, apart, wrong, roundings=2)


def _cost(vlm: "VLM", image: Any) -> Found:
    lens.token_maps(vlm, image)  # the first one warms up
    with peak(vlm.device) as most:
        start = now(vlm.device)
        maps = lens.token_maps(vlm, image)
        seconds = now(vlm.device) - start
    depths, rows, columns, _ = maps.top_ids.shape
    took = f"{seconds:.2g} s, {most[0] / 2**20:.0f} MiB above the model"
    return "yes", f"{took}, for {depths} depths of {rows} × {columns}"


def _precision(vlm: "VLM") -> Found:
    cuda = vlm.device.type == "cuda"
    where = torch.cuda.get_device_name(vlm.device) if cuda else str(vlm.device)
    tf32 = cuda and vlm.dtype == torch.float32 and torch.backends.cudnn.allow_tf32
    dtype = str(vlm.dtype).removeprefix("torch.")
    return "yes", f"{dtype} on {where}{', convolutions in TF32' if tf32 else ''}"
