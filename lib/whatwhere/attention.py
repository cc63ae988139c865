"""Attention: what each token collects from which others, in the ViT and in the language model of every family.

    seen = vlm.attention("photo.jpg", "what is on the table?", answer="a lamp")
    seen.weights[0, 3]      # LM block 1, head 4: (tokens, tokens), row i is what token i collects; rows sum to one
    seen.on_image()         # (blocks, heads, tokens, rows, columns): the same, on the patches alone
    seen.show()             # on the picture, from any word or patch
    vlm.attention("photo.jpg", depths=[1, 2])               # the ViT, from patch to patch

The model runs as it always does. transformers lets a block's attention be computed by a function of one's own (its
`AttentionInterface`): ours hands everything on to the function that the model was loaded with ("sdpa", say), and works out the
weights beside it in the blocks that were asked for, in float32. `intervene.knockout` cuts attention by the same function.
"""

import copy
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral
from typing import Any
from weakref import WeakKeyDictionary

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import AttentionInterface

from .finite import check_finite
from .streams import off_device, residual_stream

NAME = "whatwhere"  # under which transformers finds our function
SINK = 5.0  # a sink receives so many times an equal share
LEAST_ROWS = 0.25  # of all tokens so many look at a sink: what two or three do is no habit


@dataclass(frozen=True, eq=False)
class Attention:
    """The attention of some blocks to one image and its prompt.

    weights: (blocks, heads, tokens, tokens), in float32 on the CPU: in row i what token i collects, from itself too. A row sums
        to one (or is zero, where all of it is knocked out). A word's row goes into the choice of the *next* word.
    blocks: their numbers, from 1. tower: "LM" or "ViT". words: (tokens,) what each token is. image: as the model sees it.
    places: (rows × columns,) which tokens are the patches of `grid`, in raster order. In the LM all of the prompt comes in its
        order; in the ViT tokens without a place (CLIP's class token) come first, then the patches in raster order.
    """

    weights: Tensor
    blocks: list[int]
    tower: str
    words: list[str]
    places: Tensor
    grid: tuple[int, int]
    image: Image.Image

    def on_image(self) -> Tensor:
        """(blocks, heads, tokens, rows, columns): what each token collects from each patch, and not what it does elsewhere."""
        return self.weights[..., self.places].unflatten(-1, self.grid)

    def received(self) -> Tensor:
        """(blocks, heads, tokens): what a token receives from those that see it, on average; 1 is an equal share of all they see.

        Its own look at itself is left out. Tokens that fewer than a quarter of all see (the last ones of a prompt) get nan.
        """
        n, received = len(self.words), []
        for weights in self.weights:  # (heads, tokens, tokens)
            sees = (weights > 0).any(0)  # what came before, or a window of the ViT: the same for all heads
            times = weights * sees.sum(-1, keepdim=True)
            seen_by = sees.fill_diagonal_(False).sum(0)
            times.diagonal(dim1=-2, dim2=-1).zero_()
            received.append((times.sum(-2) / seen_by).masked_fill(seen_by < LEAST_ROWS * n, torch.nan))
        return torch.stack(received)

    def sinks(self, above: float = SINK) -> Tensor:
        """(blocks, tokens) booleans: which tokens receive more than `above` times an equal share, on average over heads.

        Attention sinks draw attention from whatever looks, for what they are and not for what they show: a text's first token
        (Xiao et al., ICLR 2024), patches of the ground in a ViT (Darcet et al., ICLR 2024), visual tokens of no use to the
        question (Kang et al., ICLR 2025). Those works go by their share or by the size of their states; here it is the share.
        """
        return self.received().mean(1) > above

    def show(self, **choice):
        """A picture of it for a notebook or a page; arguments as for `attention_map.AttentionMap`."""
        from .attention_map import AttentionMap

        return AttentionMap(self, **choice)

    def __repr__(self) -> str:
        _, heads, tokens, _ = self.weights.shape
        return f"Attention({self.tower} blocks {self.blocks}, {heads} heads, {tokens} tokens)"


@torch.no_grad()
def read(vlm, images: list, questions: list[str], answers: list[str] | None, layers, depths, take) -> list:
    """For each image an `Attention`, or, with `take`, a list of what it makes of each block: see `VLM.attention`."""
    if layers is not None and depths is not None:
        raise ValueError("Ask for blocks of the ViT (depths) or of the LM (layers), one of the two at a time.")
    if layers is None and depths is None:
        layers = range(1, vlm.n_layers + 1)
    blocks = numbered(vlm, layers, depths)
    inputs = vlm.prepare(images, questions, answers)
    if answers is not None:
        if len(images) > 1:  # no padding between a prompt and its answer
            single = zip(images, questions, answers)
            return [read(vlm, [image], [asked], [said], layers, depths, take)[0] for image, asked, said in single]
        # whoever listens to the prompt (`intervene.knockout`) hears where it ends
        vlm.model.get_input_embeddings()(vlm.prepare(images, questions)["input_ids"])
    kept = {number: [] for number in blocks}
    run, parts = (_lm if depths is None else _vit)(vlm, inputs, images)

    def keep(number, of_image):
        kept[number].append(off_device(take(of_image) if take else of_image))

    taps = [(block, Tap(take=parts(number, keep))) for number, block in blocks.items()]
    with tapped(taps):
        about = run(max(blocks))
    by_image = list(zip(*kept.values()))
    if take:
        return [list(own) for own in by_image]
    tower = "LM" if depths is None else "ViT"
    return [
        Attention(torch.stack(own), list(blocks), tower, *rest, vlm.seen(image))
        for own, rest, image in zip(by_image, about, images)
    ]


def _lm(vlm, inputs, images):
    from .compress.within import at_work  # here, so that loading a model does not import what compression needs

    if at_work(vlm):
        raise ValueError("Attention is read on a whole picture: leave `with compress.method(…)` first.")
    real, visual = inputs["attention_mask"].bool(), vlm.image_places(inputs)
    about = []
    for ids, own, seen, grid in zip(inputs["input_ids"], real, visual, vlm.adapter.grids(inputs)):
        places = seen[own].nonzero()[:, 0][vlm.adapter.leading :].cpu()
        words = vlm.words[ids[own].cpu().numpy()].tolist()
        for n, place in enumerate(places.tolist()):
            words[place] = _patch(n, grid[1])
        about.append((words, places, tuple(grid)))

    def parts(number, keep):
        def take(weights):
            for own, of_prompt in zip(real, check_finite(weights, f"the attention in LM block {number}")):
                keep(number, of_prompt[:, own][:, :, own])

        return take

    def run(last):
        named = {**inputs, "use_cache": False, "what": "LM layer", "real": inputs["attention_mask"]}
        residual_stream(vlm.model, vlm.lm_layers, [last], **named)
        return about

    return run, parts


def _vit(vlm, inputs, images):
    args, named = vlm.adapter.vision_arguments(inputs)
    grids = vlm.adapter.vit_grids(args, named)
    image, token = vit_order(vlm.adapter, grids)
    sizes = image.bincount().tolist()
    extra = sizes[0] - grids[0][0] * grids[0][1]

    def parts(number, keep):
        made = {}  # {image: (heads, tokens, tokens)}: a block may be run in parts, image by image or window by window
        done = [0]

        def take(weights):
            for part in check_finite(weights, f"the attention in ViT block {number}"):
                own = slice(done[0], done[0] + part.shape[-1])
                n, at = int(image[own][0]), token[own].to(part.device)
                if n not in made:
                    made[n] = part.new_zeros(len(part), sizes[n], sizes[n])
                made[n][:, at[:, None], at] = part
                done[0] = own.stop
                if own.stop == len(image) or int(image[own.stop]) != n:
                    keep(number, made.pop(n))

        return take

    def run(last):
        residual_stream(vlm.adapter.vision, vlm.vision_blocks, [last], *args, what="ViT depth", **named)
        names = ["class token" if extra == 1 else f"token {n}" for n in range(extra)]
        patches = [[_patch(n, columns) for n in range(rows * columns)] for rows, columns in grids]
        return [(names + own, torch.arange(extra, extra + len(own)), tuple(grid)) for own, grid in zip(patches, grids)]

    return run, parts


def vit_order(adapter, grids: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """Of all tokens of a ViT's run, in its own order: (n,) which image each belongs to, and (n,) which token of it it is.

    An image's tokens are counted as in `Attention`: those without a place first, then the patches in raster order.
    """
    sizes = torch.tensor([rows * columns for rows, columns in grids])
    ends = sizes.cumsum(0)
    order = adapter.in_vit([torch.arange(end - size, end).reshape(*grid) for end, size, grid in zip(ends, sizes, grids)]).cpu()
    extra = (order.numel() - int(ends[-1])) // len(grids)
    if extra:  # (images, extra + patches)
        order = order.reshape(len(grids), -1)
        image = torch.arange(len(grids))[:, None].expand_as(order)
        token = torch.where(order < 0, (order < 0).cumsum(1) - 1, order - (ends - sizes)[:, None] + extra)
        return image.flatten(), token.flatten()
    image = torch.searchsorted(ends, order.flatten(), right=True)
    return image, order.flatten() - (ends - sizes)[image]


def numbered(vlm, layers, depths) -> dict[int, nn.Module]:
    """{number, from 1: block} of the LM (layers) or the ViT (depths), in the order in which they run."""
    given, what, all_blocks, highest = layers, "LM", vlm.lm_layers, vlm.n_layers
    if layers is None:
        given, what, all_blocks, highest = depths, "ViT", vlm.vision_blocks, vlm.depths
    chosen = [given] if isinstance(given, Integral) else list(given)
    if not chosen:
        raise ValueError(f"Name one block of the {what} at least.")
    for number in chosen:
        if isinstance(number, bool) or not isinstance(number, Integral) or not 1 <= number <= highest:
            raise ValueError(f"The {what}'s blocks are counted from 1 to {highest} in this model; got {number!r}.")
    return {int(number): all_blocks[number - 1] for number in sorted(set(chosen))}


def _patch(n: int, columns: int) -> str:
    return f"row {n // columns}, column {n % columns}"


# -- inside a block ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Tap:
    """What somebody wants of a block's attention while it runs.

    cut: given the shape (batch, heads, queries, keys) and a device, booleans that broadcast to it, true where attention is taken
    away; or None. take: is given the weights of that shape, float32, on the model's device, after all cuts.
    """

    cut: Callable[[tuple[int, ...], torch.device], Tensor | None] | None = None
    take: Callable[[Tensor], Any] | None = None


_TAPPED: WeakKeyDictionary = WeakKeyDictionary()  # {attention module: (its own config, taps)}


@contextmanager
def tapped(taps: Iterable[tuple[nn.Module, Tap]]) -> Iterator[None]:
    """Within this context the attention of each block (of a ViT or LM) is shown to its tap. Contexts may be nested.

    A block's attention finds its function by the name in its config. It is given a copy of that config with our name in it, so
    that no other block, and no mask that the model makes, knows of it; and in the end its own config again.
    """
    entered = []
    try:
        for block, tap in taps:
            module = attention_of(block)
            if module not in _TAPPED:
                config = module.config
                _TAPPED[module] = config, []
                module.config = copy.copy(config)
                module.config._attn_implementation = {"": NAME}  # of this config alone, not of those within it
            _TAPPED[module][1].append(tap)
            entered.append((module, tap))
        yield
    finally:
        for module, tap in reversed(entered):
            config, all_taps = _TAPPED[module]
            all_taps.remove(tap)
            if not all_taps:
                module.config = config
                del _TAPPED[module]


def attention_of(block: nn.Module) -> nn.Module:
    """The module in a block that calls transformers' attention interface."""
    modules = [module for module in block.modules() if hasattr(module, "is_causal") and hasattr(module, "config")]
    if len(modules) != 1:
        raise ValueError(
            f"A {type(block).__name__} has {len(modules)} modules that look like attention; whatwhere reads blocks with one."
        )
    config = _TAPPED[modules[0]][0] if modules[0] in _TAPPED else modules[0].config
    if config._attn_implementation != "eager" and "sdpa" not in config._attn_implementation:
        raise ValueError(
            f"Attention is read and cut where it is 'sdpa' or 'eager', and this model's is '{config._attn_implementation}': call "
            'vlm.model.set_attn_implementation("sdpa") first.'
        )
    return modules[0]


def n_heads(block: nn.Module) -> int:
    """How many heads, those of the queries, attend in a block."""
    config = attention_of(block).config
    return getattr(config, "num_attention_heads", None) or config.num_heads


def _attend(module, query, key, value, attention_mask, scaling=None, **named):
    """The attention of a tapped module: as its own config has it, unless something is cut."""
    config, taps = _TAPPED[module]
    shape, device = (*query.shape[:3], key.shape[2]), query.device
    cuts = [cut for tap in taps if tap.cut and (cut := tap.cut(shape, device)) is not None]
    hidden = _hidden(module, attention_mask, shape, device, named.get("is_causal"))
    cut = None
    for each in cuts:
        cut = each if cut is None else cut | each
    if cut is not None and not (cut & ~hidden).any():  # only what none attends to anyway: not a bit changes
        cut = None
    takes = [tap.take for tap in taps if tap.take]
    output = None
    if cut is None:
        output, own = _usual(module, config)(module, query, key, value, attention_mask, scaling=scaling, **named)
        if not takes:
            return output, own
    if named.get("softcap") is not None or named.get("s_aux") is not None:
        raise ValueError(
            "This model's attention is more than a softmax of scores (softcap, or learnt sinks): whatwhere cannot read or cut it."
        )
    groups = query.shape[1] // key.shape[1]  # heads that share their keys
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = query.float() @ key.float().repeat_interleave(groups, 1).transpose(2, 3) * scaling
    if attention_mask is not None and attention_mask.dtype != torch.bool:
        scores = scores + attention_mask.float()
    hidden = hidden if cut is None else hidden | cut
    weights = scores.masked_fill(hidden, torch.finfo(scores.dtype).min).softmax(-1).masked_fill(hidden, 0.0)
    if output is None:
        output = (weights.to(value.dtype) @ value.repeat_interleave(groups, 1)).transpose(1, 2).contiguous()
    for take in takes:
        take(weights)
    return output, weights


def _usual(module, config):
    """The function that would compute this attention without us."""
    if config._attn_implementation == "eager":  # each of transformers' modelling files has its own
        return sys.modules[type(module).__module__].eager_attention_forward
    return AttentionInterface()[config._attn_implementation]


def _hidden(module, mask, shape, device, is_causal) -> Tensor:
    """Booleans that broadcast to (batch, heads, queries, keys), true where a query may not look anyway."""
    *_, queries, keys = shape
    if mask is None:
        causal = module.is_causal if is_causal is None else is_causal
        later = torch.ones(queries, keys, dtype=torch.bool, device=device)
        return (later.triu(1) if causal and queries > 1 else later & False)[None, None]
    if mask.ndim != 4 or mask.shape[-1] < keys:
        raise ValueError(f"A mask of shape {tuple(mask.shape)} is none of 'sdpa' or 'eager' attention: whatwhere cannot read it.")
    mask = mask[..., :keys]
    return ~mask if mask.dtype == torch.bool else mask < torch.finfo(mask.dtype).min / 2


AttentionInterface.register(NAME, _attend)
