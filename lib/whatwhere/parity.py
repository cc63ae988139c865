"""Is what this package reads off a model what the model itself computes? A check for your own model, machine and precision.

    vlm = ww.load("Qwen/Qwen2-VL-2B-Instruct")
    ww.parity.check(vlm)                             # a table: "yes", or a sentence that says what is at fault

The model's own forward pass is run once, untouched, and listened to; the package's parts are held to what was heard. Differences
are relative to the size of what they are between, and more is allowed where the model's precision is less (`ALLOWED`).
"""

import warnings
from collections.abc import Callable
from contextlib import ExitStack

import numpy as np
import pandas as pd
import torch
from PIL import Image

from . import lens
from .compress.speed import now, peak
from .files import first_line
from .finite import NotFinite
from .models import VLM

ALLOWED = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 0.05, torch.float16: 0.02}
QUESTIONS = ["what is this ?", "what is on the left, and which colour does it have ?"]
WORDS = 6  # of an answer that are compared
PAINTED = 0.8  # of the change that a painted cell makes, its own token holds at least

Found = tuple[str, str]  # "yes" or a sentence, and what was measured


def check(
    vlm: VLM, images: list | None = None, questions: list[str] | None = None, prepared: Callable | None = None
) -> pd.DataFrame:
    """A table with a row for each check: `what` is checked, whether it `works` ("yes", or a sentence), what was `measured`.

    images, questions: two of each, of unequal size; noise and plain questions by default. prepared: a function of an image and a
    question that gives what the family's own processor makes of them, a dictionary with `input_ids` and `pixel_values`.

    No error leaves it but KeyboardInterrupt: one that a check meets is its sentence. Nothing of the model is changed.
    """
    images = [_noise(48, 64, 0), _noise(72, 48, 1)] if images is None else list(images)
    questions = QUESTIONS if questions is None else list(questions)
    if len(images) < 2 or len(images) != len(questions):
        raise ValueError(f"A check takes two images at least and a question for each; got {len(images)} and {len(questions)}.")
    one = _Run(vlm, images[0], questions[0])
    checks = {
        "numbers are finite at every depth and layer": lambda: _finite(vlm, images[0], questions[0]),
        "prompt and pixels are the family's own": lambda: _prompt(vlm, images, questions, prepared),
        "the ViT is run as the model runs it": one.vit,
        "visual tokens are the model's own, in its order": one.tokens,
        "the LM's layers are the model's own": one.layers,
        "logits are the model's own": one.logits,
        "the lens at the last layer gives the model's own words": one.lens,
        "a batch gives what single prompts give": lambda: _batch(vlm, images, questions),
        "greedy answers are the likeliest words, one by one": lambda: _answer(vlm, images[0], questions[0]),
        "patches are in raster order, in the picture's corners": lambda: _corners(vlm),
        **{f"attention '{name}' gives the same": lambda name=name: _attention(vlm, images[0], questions[0], name)
           for name in ("eager", "sdpa") if name != vlm.model.config._attn_implementation},
        "one token map, all depths": lambda: _cost(vlm, images[0]),
        "precision": lambda: _precision(vlm),
    }  # fmt: skip
    if prepared is None:
        del checks["prompt and pixels are the family's own"]
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that an organism has never seen noise
        found = [(what, *_tried(each)) for what, each in checks.items()]
    return pd.DataFrame(found, columns=["what", "works", "measured"])


def _tried(each: Callable[[], Found]) -> Found:
    try:
        return each()
    except (torch.OutOfMemoryError, MemoryError):
        return "The memory is too small for this check; nothing else is known of it.", ""
    except NotFinite as error:
        return str(error), ""
    except Exception as error:  # whatever a wrong adapter, or a library, may raise
        return f"It stopped with {type(error).__name__}: {first_line(error)}", ""


def _noise(height: int, width: int, seed: int) -> Image.Image:
    """Squares of random colours, in a picture large enough for some patches of every model."""
    colours = np.random.default_rng(seed).integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8)
    return Image.fromarray(colours).resize((4 * width, 4 * height), Image.Resampling.NEAREST)


def _apart(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """The largest difference of two vectors (the last axis), as a share of their length; infinite where shapes differ.

    Vector by vector, since the first token's states are often a hundred times as large as all others.
    """
    if ours.shape != theirs.shape:
        return float("inf")
    ours, theirs = ours.double(), theirs.double()
    return ((ours - theirs).norm(dim=-1) / theirs.norm(dim=-1).clamp(min=1e-12)).max().item()


def _along(vlm: VLM, ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> tuple[float, int | None]:
    """The largest of the differences between two lists of states, and the first place where it is more than allowed."""
    apart = [_apart(a, b) for a, b in zip(ours, theirs)]
    return float(np.max(apart)), next((n for n, each in enumerate(apart) if not each <= ALLOWED[vlm.dtype]), None)


def _verdict(vlm: VLM, apart: float, sentence: str, roundings: int = 1) -> Found:
    """roundings: how many of the two that are compared round in a way of their own."""
    return "yes" if apart <= roundings * ALLOWED[vlm.dtype] else sentence, f"{apart:.1g}"


class _Run:
    """One forward pass of the model itself, untouched and listened to, and what the package says of the same prompt."""

    def __init__(self, vlm: VLM, image, question: str):
        self.vlm, self.image, self.question, self._heard = vlm, image, question, None

    @property
    def heard(self) -> dict:
        """`logits`, the LM's `embeddings` and `positions`, the states `vit` and `lm`, each a list from 0 to the last."""
        if self._heard is None:
            vlm, heard = self.vlm, {"vit": [], "lm": []}
            self.inputs = vlm.prepare(self.image, self.question)

            def given(_, args, named):
                heard["embeddings"], heard["positions"] = named["inputs_embeds"], named.get("position_ids")

            with ExitStack() as stack:
                for name, blocks in (("vit", vlm.vision_blocks), ("lm", vlm.lm_layers)):
                    _listen(stack, blocks, heard[name])
                stack.callback(vlm.lm.register_forward_pre_hook(given, with_kwargs=True).remove)
                heard["logits"] = vlm.model(**self.inputs).logits
            self._heard = heard
        return self._heard

    @property
    def places(self) -> torch.Tensor:
        """Where the visual tokens stand, a leading one included."""
        return self.vlm.image_places(self.inputs)[0]

    def vit(self) -> Found:
        theirs = self.heard["vit"]
        vlm, ours = self.vlm, []
        with ExitStack() as stack:
            _listen(stack, vlm.vision_blocks, ours)
            vlm.visual(self.inputs, [vlm.depths])
        apart, first = _along(vlm, ours, theirs)
        who = "what it is given is not what the model gives it: `adapter.vision_arguments`"
        if first:
            who = f"its states differ from block {first} on: `adapter.vision_arguments` or `vision_blocks`"
        return _verdict(vlm, apart, f"The ViT is run otherwise; {who}.")

    def tokens(self) -> Found:
        theirs = self.heard["embeddings"][0, self.places]
        vlm, near = self.vlm, ALLOWED[self.vlm.dtype]
        ours = vlm.visual(self.inputs)[0].to(theirs)  # (depths, tokens, hidden)
        apart = _apart(ours[vlm.depths], theirs)
        at = self._deeper(theirs) if apart > near else []
        if at:
            return f"The model's connector reads ViT depth {at[0]}, and `adapter.depth` says {vlm.depths}.", f"{apart:.1g}"
        if apart > near and ours[0].shape == theirs.shape:
            order = torch.cdist(ours[vlm.depths].double(), theirs.double()).argmin(1)
            if len(order.unique()) == len(order) and _apart(ours[vlm.depths], theirs[order]) <= near:
                kind = "reversed" if order.tolist() == list(range(len(order)))[::-1] else "in another order"
                return f"The visual tokens are the model's, but {kind}: `adapter.connect` (or what it sorts by).", f"{apart:.1g}"
        return _verdict(vlm, apart, "The visual tokens are others than the model gives its LM: `adapter.connect`.")

    def _deeper(self, theirs: torch.Tensor) -> list[int]:
        """At which other depths the connector would give the model's own tokens."""
        vlm, pixels = self.vlm, self.inputs
        given = [torch.cat(list(vlm.adapter.connect(state, pixels))) for state in self.heard["vit"]]
        return [n for n, each in enumerate(given) if n != vlm.depths and _apart(each.to(theirs), theirs) <= ALLOWED[vlm.dtype]]

    def layers(self) -> Found:
        heard, vlm = self.heard, self.vlm
        positions = vlm.position_ids(self.inputs)
        if heard["positions"] is not None:
            own = heard["positions"]
            own = own[-3:] if own.ndim == 3 and positions.ndim == 3 else own
            if own.shape[-1] != positions.shape[-1] or not torch.equal(own.expand_as(positions).to(positions), positions):
                return "The model gives its LM other positions: `adapter.position_ids`.", ""
        ours = vlm.lm_hidden(heard["embeddings"], self.inputs["attention_mask"], positions, list(range(vlm.n_layers + 1)))
        apart, first = _along(vlm, ours, heard["lm"])
        return _verdict(vlm, apart, f"The LM's states differ from layer {first} on: `adapter.position_ids`, `lm` or its mask.")

    def logits(self) -> Found:
        apart = _apart(self.vlm.logits(self.image, self.question), self.heard["logits"][0].cpu())
        return _verdict(self.vlm, apart, "The logits, computed part by part, are not the model's: see the rows above.")

    def lens(self) -> Found:
        own = self.heard["logits"][0, self.places][self.vlm.adapter.leading :].float().softmax(-1).cpu()
        maps = lens.token_maps(self.vlm, self.image, self.question, self.vlm.n_layers, [self.vlm.depths], top_k=1)
        said = torch.from_numpy(maps.top_ids).reshape(-1, 1), torch.from_numpy(maps.probabilities).flatten()
        if len(said[1]) != len(own):
            return "There are more or fewer patches on the map than visual tokens in the prompt: `adapter.grids`.", ""
        apart = np.maximum(_apart(said[1], own.gather(-1, said[0])[:, 0]), _apart(said[1], own.amax(-1)))
        return _verdict(self.vlm, apart, "The lens gives other words than the model's own logits: see the rows above.")


def _listen(stack: ExitStack, blocks, states: list) -> None:
    """While the stack lasts, the states before the first block and after each are added to `states`."""

    def before(_, args, named):
        states.append(args[0] if args else named["hidden_states"])

    stack.callback(blocks[0].register_forward_pre_hook(before, with_kwargs=True).remove)
    for block in blocks:
        hook = block.register_forward_hook(lambda _, __, out: states.append(out[0] if isinstance(out, tuple) else out))
        stack.callback(hook.remove)


def _finite(vlm: VLM, image, question: str) -> Found:
    largest = max(each.abs().max().item() for each in (vlm.vit_states(image), vlm.visual_tokens_by_depth(image)))
    inputs = vlm.prepare(image, question)
    hidden = vlm.lm_hidden(
        vlm.embed(inputs), inputs["attention_mask"], vlm.position_ids(inputs), list(range(vlm.n_layers + 1))
    )
    largest = max(largest, *(each.abs().max().item() for each in hidden), vlm.logits(image, question).abs().max().item())
    bad = "Some number is not finite: load the model with dtype='float32', or 'bfloat16' where the GPU has it."
    return "yes" if np.isfinite(largest) else bad, f"largest {largest:.3g}"


def _prompt(vlm: VLM, images, questions, prepared) -> Found:
    apart = 0.0
    for image, question in zip(images, questions):
        ours, theirs = vlm.prepare(image, question), prepared(image, question)
        if ours["input_ids"].tolist() != torch.as_tensor(theirs["input_ids"]).tolist():
            return "The token ids differ: the chat template, `adapter.around` or `adapter.grids`.", ""
        apart = np.maximum(apart, _apart(ours["pixel_values"].cpu(), theirs["pixel_values"].to(vlm.dtype)))
    return _verdict(vlm, apart, "The pixels differ: `adapter.pixels`.")


def _batch(vlm: VLM, images, questions) -> Found:
    apart = 0.0
    for n, row in enumerate(vlm.logits(list(images), list(questions))):
        single = vlm.logits(images[n], questions[n])
        apart = np.maximum(apart, _apart(row[-len(single) :], single))
    return _verdict(
        vlm, apart, "Prompts differ when they are batched: `adapter.position_ids`, `model_inputs` or `pick`, or the attention."
    )


def _answer(vlm: VLM, image, question: str) -> Found:
    """The words that `generate` gives, with its cache, beside those that are likeliest when each prefix is run anew."""
    inputs = vlm.prepare(image, question)
    greedy = {"do_sample": False, "num_beams": 1, "repetition_penalty": 1.0, "temperature": None, "top_p": None, "top_k": None}
    said = vlm.model.generate(**inputs, **greedy, max_new_tokens=WORDS, pad_token_id=0)[0, inputs["input_ids"].shape[1] :]
    sequence, positions = vlm.embed(inputs), vlm.position_ids(inputs)
    for n, word in enumerate(said.tolist(), start=1):
        logits = vlm.unembedding(vlm.final_norm(vlm.lm_hidden(sequence, None, positions)[:, -1:])).float()[0, 0]
        near = (logits.max() - logits[word]).item() / logits.abs().max().item()
        if near > ALLOWED[vlm.dtype]:
            return f"At word {n}, `generate` takes another than the likeliest: its settings, cache or positions.", f"{near:.1g}"
        following = vlm.model.get_input_embeddings()(said[None, n - 1 : n])
        sequence = torch.cat([sequence, following], 1)
        positions = torch.cat([positions, positions[..., -1:] + 1], -1)
    return "yes", f"{len(said)} words"


def _corners(vlm: VLM) -> Found:
    """A picture whose corner changes: what sees the change, and where?"""
    plain = Image.new("RGB", (336, 336), (90, 90, 90))
    for _ in range(2):  # the size that is kept as it is
        plain = vlm.seen(plain)
    rows, columns = vlm.patch_grid(plain)
    adapter, shares = vlm.adapter, []
    for row, column in ((0, columns - 1), (rows - 1, 0)):
        painted, place = plain.copy(), f"the picture's {'upper right' if row == 0 else 'lower left'} corner"
        high, wide = plain.height / rows, plain.width / columns
        box = [round(each) for each in ((column + 0.2) * wide, (row + 0.2) * high, (column + 0.8) * wide, (row + 0.8) * high)]
        painted.paste((250, 20, 20), box)
        for name, read in (("`adapter.patches`", vlm.vit_states), ("`adapter.connect` (or `grids`)", vlm.visual_tokens_by_depth)):
            before, after = (read(each, [0])[0] for each in (plain, painted))
            change = (before - after).double().norm(dim=-1).reshape(rows, columns)
            shares.append((change[row, column] / change.sum()).item())
            if change.argmax() != row * columns + column or shares[-1] < PAINTED:
                there = divmod(int(change.argmax()), columns)
                return f"A change in {place} is read at token {there} of {rows} × {columns}: {name}.", f"{shares[-1]:.2f}"
        seen = np.abs(np.asarray(vlm.seen(painted), int) - np.asarray(vlm.seen(plain), int)).sum(-1)
        y, x = np.array(np.nonzero(seen)).mean(1) / seen.shape * (rows, columns)
        if (int(y), int(x)) != (row, column):
            return f"A change in {place} is shown at row {int(y)}, column {int(x)}: `adapter.seen`.", ""
        wrong = _vit_order(vlm, plain, painted, row, column)
        if wrong:
            return f"A change in {place} is looked for elsewhere among the ViT's patches: {wrong}.", ""
    if tuple(adapter.grid_at(vlm.positions(plain, QUESTIONS[0]).lm)) != (rows, columns):
        return "The grid that is found from positions in the LM is not that of the picture: `adapter.grid_at`.", ""
    return "yes", f"{min(shares):.0%} of the change in its own token"


def _vit_order(vlm: VLM, plain, painted, row: int, column: int) -> str | None:
    """Which member of the adapter takes the changed patches to be elsewhere, if any."""
    states = []
    for image in (plain, painted):
        with ExitStack() as stack:
            _listen(stack, vlm.vision_blocks, heard := [])
            pixels = vlm.prepare(image, QUESTIONS[0])
            vlm.visual(pixels, [vlm.depths])
        states.append(heard[0].flatten(0, -2))
    change, m = (states[0] - states[1]).double().norm(dim=-1).cpu(), vlm.adapter.merge
    rows, columns = vlm.patch_grid(plain)
    numbers = torch.arange(rows * m * columns * m).reshape(rows * m, columns * m).to(vlm.device)
    order = vlm.adapter.in_vit([numbers]).flatten().cpu()
    at = divmod(int(order[change.argmax()]), columns * m)
    if (at[0] // m, at[1] // m) != (row, column):
        return "`adapter.in_vit`"
    at = vlm.adapter.patch_positions(pixels)[change[order >= 0].argmax()].tolist()
    return None if (at[0] // m, at[1] // m) == (row, column) else "`adapter.patch_positions`"


def _attention(vlm: VLM, image, question: str, name: str) -> Found:
    config, inputs = vlm.model.config, vlm.prepare(image, question)
    parts = [config, *(getattr(config, key) for key in config.sub_configs)]
    usual, before = [each._attn_implementation for each in parts], vlm.model(**inputs).logits
    try:
        vlm.model.set_attn_implementation(name)
        apart = _apart(vlm.model(**inputs).logits, before)
    finally:
        for each, its in zip(parts, usual):
            each._attn_implementation = its
    differ = f"'{name}' and '{usual[0]}' differ: trust neither in this precision without a look at float32."
    return _verdict(vlm, apart, differ, roundings=2)


def _cost(vlm: VLM, image) -> Found:
    lens.token_maps(vlm, image)  # the first one warms up
    with peak(vlm.device) as most:
        start = now(vlm.device)
        maps = lens.token_maps(vlm, image)
        seconds = now(vlm.device) - start
    depths, rows, columns, _ = maps.top_ids.shape
    return "yes", f"{seconds:.2g} s, {most[0] / 2**20:.0f} MiB above the model, for {depths} depths of {rows} × {columns}"


def _precision(vlm: VLM) -> Found:
    where = torch.cuda.get_device_name(vlm.device) if vlm.device.type == "cuda" else str(vlm.device)
    tf32 = vlm.device.type == "cuda" and vlm.dtype == torch.float32 and torch.backends.cudnn.allow_tf32
    return "yes", f"{str(vlm.dtype).removeprefix('torch.')} on {where}{', convolutions in TF32' if tf32 else ''}"
