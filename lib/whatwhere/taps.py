"""A block's attention, tapped while the model runs: its weights are read, some of them are cut, or
some that a causal mask hides are let through.

    with tapped([(vlm.lm_layers[2], Tap(take=kept.append))]):
        vlm.answer(image, question)      # kept: (batch, heads, queries, keys), for each run

transformers lets attention be computed by a function of one's own (its `AttentionInterface`), by
the name in a module's config. Ours hands on to the function that the model was loaded with, so that
not a bit of what the model computes changes, and works out the weights beside it, in float32. Only
where something is cut or opened does it compute what goes on itself, as "eager" attention does.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from numbers import Integral
from operator import or_
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from .finite import check_finite

if TYPE_CHECKING:
    from .families import Adapter
    from .models import VLM

NAME = "whatwhere"  # under which transformers finds our function
USUAL = ("eager", "sdpa")  # whose masks we can read


Choose = Callable[[tuple[int, int, int, int]], "Tensor | None"]


@dataclass(frozen=True, eq=False)
class Tap:
    """What somebody wants of a block's attention.

    Attributes:
        cut: a function of the shape (batch, heads, queries, keys) that gives booleans which
            broadcast to it, true where attention is taken away; or None, where nothing is.
        opened: the same, true where a token may look although a mask hides it. Never of padding.
        take: is given the weights, of that shape, in float32 on the model's device, after all cuts.
            A row sums to one; it is zero where all of it is cut, and where its token is padding.
    """

    cut: Choose | None = None
    opened: Choose | None = None
    take: Callable[[Tensor], Any] | None = None


_TAPPED: WeakKeyDictionary = WeakKeyDictionary()  # {attention module: (its own config, its taps)}


@contextmanager
def tapped(taps: Iterable[tuple[nn.Module, Tap]]) -> Iterator[None]:
    """Within this context each block's attention is open to its tap. Contexts may be nested.

    The attention module of a block is given a copy of its config with our name in it, so that no
    other block, and no mask that the model makes, knows of it; and in the end its own config again.
    """
    entered = []
    try:
        for block, tap in taps:
            module = attention_of(block)
            if module not in _TAPPED:
                config = module.config
                _TAPPED[module] = config, []
                module.config = copy.copy(config)
                module.config._attn_implementation = {"": NAME}  # not of configs within this one
            _TAPPED[module][1].append(tap)
            entered.append((module, tap))
        yield
    finally:
        for module, tap in reversed(entered):
            config, open_taps = _TAPPED[module]
            open_taps.remove(tap)
            if not open_taps:
                module.config = config
                del _TAPPED[module]


def attention_of(block: nn.Module) -> Any:
    """The module in a block that calls transformers' attention interface.

    Raises:
        ValueError: where there is not just one, and where its attention is neither of `USUAL`.
    """
    modules: list[Any] = list(block.modules())
    attentions = [m for m in modules if hasattr(m, "is_causal") and hasattr(m, "config")]
    if len(attentions) != 1:
        raise ValueError(
            f"A {type(block).__name__} has {len(attentions)} modules that look like attention; "
            "whatwhere reads blocks with one."
        )
    config = _TAPPED[attentions[0]][0] if attentions[0] in _TAPPED else attentions[0].config
    if config._attn_implementation not in USUAL:
        raise ValueError(
            f"Attention is read and cut where it is {' or '.join(map(repr, USUAL))}, and this "
            f"model's is {config._attn_implementation!r}: call "
            "vlm.model.set_attn_implementation('sdpa') first."
        )
    return attentions[0]


def n_heads(block: nn.Module) -> int:
    """How many heads attend in a block: those of the queries, where several share their keys."""
    config = attention_of(block).config
    return getattr(config, "num_attention_heads", None) or config.num_heads


def numbered(
    vlm: VLM, layers: int | Iterable[int] | None, depths: int | Iterable[int] | None
) -> dict[int, nn.Module]:
    """{number, from 1: block} of the LM (layers) or else of the ViT (depths), in order."""
    wanted: Any
    if layers is None:
        tower, wanted, blocks = "ViT", depths, vlm.vision_blocks[: vlm.last_depth]
    else:
        tower, wanted, blocks = "LM", layers, vlm.lm_layers
    chosen = list(wanted) if isinstance(wanted, Iterable) else [wanted]
    if not chosen:
        raise ValueError(f"Name one block of the {tower} at least.")
    for number in chosen:
        whole = isinstance(number, Integral) and not isinstance(number, bool)
        if not whole or not 1 <= int(number) <= len(blocks):
            raise ValueError(
                f"The {tower}'s blocks are counted from 1 to {len(blocks)} here; got {number!r}."
            )
    return {int(number): blocks[number - 1] for number in sorted(set(chosen))}


def takes(
    blocks: dict[int, nn.Module], take: Callable[[int, Tensor], Any]
) -> list[tuple[nn.Module, Tap]]:
    """What `tapped` is to be given so that take(number, weights) is called for each of `blocks`."""
    return [
        (block, Tap(take=lambda weights, number=number: take(number, weights)))
        for number, block in blocks.items()
    ]


@contextmanager
def vit_tapped(
    vlm: VLM,
    args: tuple,
    named: dict[str, Any],
    blocks: dict[int, nn.Module],
    keep: Callable[[int, Tensor], Any],
) -> Iterator[int]:
    """Within this context one run of the ViT hands out the attention of these blocks.

    Yields how many tokens of each image have no place (CLIP's class token).

    Args:
        args, named: what the ViT is to be called with.
        blocks: as `numbered` gives them.
        keep: keep(number, weights) is called for each image in turn, with (heads, tokens, tokens),
            float32, tokens in the order of `Attention`.
    """
    grids = vlm.adapter.vit_grids(args, named)
    image, token = vit_order(vlm.adapter, grids)
    sizes = image.bincount().tolist()
    done, whole = dict.fromkeys(blocks, 0), {}

    def take(number, weights):
        """Some families run a block image by image, or window by window: the parts are joined."""
        check_finite(weights, f"the attention in ViT block {number}")
        for part in weights:  # (heads, n, n): of the next n tokens
            start, end = done[number], done[number] + part.shape[-1]
            n, index = int(image[start]), token[start:end].to(part.device)
            if n not in whole:
                whole[n] = part.new_zeros(len(part), sizes[n], sizes[n])
            whole[n][:, index[:, None], index] = part
            done[number] = end
            if end == len(image) or int(image[end]) != n:
                keep(number, whole.pop(n))

    with tapped(takes(blocks, take)):
        yield sizes[0] - grids[0][0] * grids[0][1]


def vit_order(adapter: Adapter, grids: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """Of all tokens of a ViT's run, in its own order: (n,) of which image each is, and (n,) which.

    An image's tokens are counted as in `Attention`: those without a place first, then the patches
    in raster order.
    """
    sizes = torch.tensor([rows * columns for rows, columns in grids])
    starts = sizes.cumsum(0) - sizes
    numbers = [
        torch.arange(start, start + size).reshape(*grid)
        for start, size, grid in zip(starts.tolist(), sizes.tolist(), grids)
    ]
    order = adapter.in_vit(numbers).cpu()
    extra = (order.numel() - int(sizes.sum())) // len(grids)
    if extra:  # (images, extra + patches)
        order = order.reshape(len(grids), -1)
        image = torch.arange(len(grids))[:, None].expand_as(order)
        without_place = order < 0
        patches = order - starts[:, None] + extra
        return image.flatten(), torch.where(
            without_place, without_place.cumsum(1) - 1, patches
        ).flatten()
    order = order.flatten()
    image = torch.searchsorted(starts, order, right=True) - 1
    return image, order - starts[image]


def _attend(module, query, key, value, attention_mask, scaling=None, **named):
    """The attention of a tapped module: as its own config has it, unless something is changed."""
    config, taps = _TAPPED[module]
    shape = (*query.shape[:3], key.shape[2])
    hidden = _hidden(module, attention_mask, shape, query.device, named.get("is_causal"))
    cut = _any_of([tap.cut for tap in taps if tap.cut], shape, query.device)
    opened = _any_of([tap.opened for tap in taps if tap.opened], shape, query.device)
    now_hidden = hidden
    if opened is not None:
        now_hidden = now_hidden & ~opened
    if cut is not None:
        now_hidden = now_hidden | cut
    # what is never looked at may be cut, and what is seen opened: not a bit changes
    unchanged = now_hidden is hidden or not (now_hidden ^ hidden).any()
    takes = [tap.take for tap in taps if tap.take]
    if unchanged:
        usual = _usual(module, config)
        output = usual(module, query, key, value, attention_mask, scaling=scaling, **named)
        if not takes:
            return output
    if named.get("softcap") is not None or named.get("s_aux") is not None:
        raise ValueError(
            "This model's attention is more than a softmax of scores (softcap, or learnt sinks): "
            "whatwhere cannot read or change it."
        )
    weights = _weights(query, key, attention_mask, now_hidden, scaling)
    for take in takes:
        take(weights)
    if unchanged:
        return output[0], weights
    value = value.repeat_interleave(query.shape[1] // value.shape[1], 1)
    return (weights.to(value.dtype) @ value).transpose(1, 2).contiguous(), weights


def _any_of(choices, shape, device):
    """Booleans that broadcast to `shape`, true where a choice is; None where none is made."""
    chosen = [pairs.to(device) for choose in choices if (pairs := choose(shape)) is not None]
    return reduce(or_, chosen) if chosen else None


def _weights(query, key, mask, hidden, scaling):
    """(batch, heads, queries, keys), in float32: float16 would overflow in some models' scores."""
    key = key.repeat_interleave(query.shape[1] // key.shape[1], 1)  # heads share their keys
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = query.float() @ key.float().transpose(2, 3) * scaling
    if mask is not None and mask.dtype != torch.bool:
        mask = mask[..., : key.shape[2]]
        # what it hides is in `hidden`, unless it was opened
        scores = scores + mask.masked_fill(_hides(mask), 0).float()
    scores = scores.masked_fill(hidden, torch.finfo(scores.dtype).min)
    return scores.softmax(-1).masked_fill(hidden, 0.0)


def _hidden(module, mask, shape, device, is_causal):
    """Booleans that broadcast to `shape`: true where a query may not look, whatever is cut."""
    *_, queries, keys = shape
    if mask is None:
        causal = module.is_causal if is_causal is None else is_causal
        hidden = torch.zeros(queries, keys, dtype=torch.bool, device=device)
        return ((~hidden).triu(1) if causal and queries > 1 else hidden)[None, None]
    if mask.ndim != 4 or mask.shape[-1] < keys:
        raise ValueError(
            f"A mask of shape {tuple(mask.shape)} is none of {' or '.join(USUAL)} attention: "
            "whatwhere cannot read it."
        )
    mask = mask[..., :keys]
    return ~mask if mask.dtype == torch.bool else _hides(mask)


def _hides(mask):
    """Where a mask that is added to the scores takes all attention away."""
    return mask < torch.finfo(mask.dtype).min / 2


def _usual(module, config):
    """The function that would compute this attention without us."""
    if config._attn_implementation == "eager":  # each of transformers' modelling files has its own
        return sys.modules[type(module).__module__].eager_attention_forward
    return AttentionInterface()[config._attn_implementation]


AttentionInterface.register(NAME, _attend)
