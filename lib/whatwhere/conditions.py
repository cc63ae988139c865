"""A whole model under other conditions, however it is run: its ViT ends early, it is not told
where patches are, its visual tokens are shuffled, or they see all of each other or none.

    with conditions.truncated(vlm, 3):  # the connector reads after three ViT blocks
        vlm.answer(image, question)
    with conditions.without_positions(vlm): …  # no table, no 2-D RoPE in the ViT
    with conditions.shuffled(vlm, "tokens"): …  # the LM reads the patches in another order
    with conditions.image_attention(vlm, "removed"): …  # no visual token sees another in the LM

`intervene` changes some patches; here all are. `benchmarks.run` takes all four as options. When
the block is left, however it is left, the model is as it was, bit for bit.

| within it | `rope.scaled` | `compress` | `intervene` |
|---|---|---|---|
| `truncated` | yes | begin it inside | begin it inside |
| `without_positions` | yes | yes | all but `moved` |
| `shuffled`, tokens | yes | no | all but masks of visual tokens |
| `shuffled`, positions | yes | no | yes |
| `image_attention` | yes | no | yes |

All four may be nested in each other. What does not fit is refused with a sentence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from . import places
from .compress.within import at_work
from .hooks import check_count, check_range
from .intervene import MovedRows
from .selection import PairsInPrompt
from .taps import Tap, numbered, tapped

if TYPE_CHECKING:
    from .models import VLM

SHUFFLES = ("tokens", "positions")
IMAGE_ATTENTION = ("bidirectional", "removed")


# -- the ViT's depth
# --------------------------------------------------------------------------------------------------


@contextmanager
def truncated(vlm: VLM, depth: int) -> Iterator[None]:
    """Within this context the connector reads the ViT's state after `depth` blocks: the ViT ends
    there.

    It is the model whose token map `lens.token_maps` draws at this depth (paper, section 3), now
    for answers as well. `vlm.last_depth` is `depth` meanwhile, so that whatever reads or changes
    the ViT knows of no deeper block. Of a DeepStack (Qwen3-VL) what would come of deeper blocks is
    left out, as the lens leaves it out. The blocks that are passed over still run, and nothing that
    they compute is used.

    Args:
        depth: 0, the patch embedding alone, … `vlm.last_depth`, with which nothing changes.

    Raises:
        ValueError: for a depth that there is not, and where something changes deeper blocks.
    """
    check_range("depth", depth, vlm.last_depth)
    whole, adapter = vlm.last_depth, vlm.adapter
    later = vlm.vision_blocks[depth:whole]
    _check_unchanged(later, int(depth))
    with ExitStack() as stack:
        # ours first, before what transformers notes for LLaVA's connector
        for block in later:
            hook = block.register_forward_hook(_passed_over, prepend=True, with_kwargs=True)
            stack.callback(hook.remove)
        for extra_depth, connector in zip(adapter.extra_depths, adapter.extra_connectors):
            if extra_depth > depth:
                stack.callback(connector.register_forward_hook(_zeros).remove)
        _mark(vlm, stack)
        vlm.last_depth = int(depth)
        stack.callback(setattr, vlm, "last_depth", whole)
        yield


def _passed_over(_, args, named, output):
    """A block that hands on what it was given."""
    state = args[0] if args else named["hidden_states"]
    return (state, *output[1:]) if isinstance(output, tuple) else state


def _zeros(_, args, output):
    return torch.zeros_like(output)


def _check_unchanged(later, depth):
    """Refuse to end the ViT before a block that an intervention or a compression is at."""
    for number, block in enumerate(later, start=depth + 1):
        for hook in (*block._forward_pre_hooks.values(), *block._forward_hooks.values()):
            module = getattr(hook, "__module__", None) or ""
            if module.startswith("whatwhere.") and module != __name__:
                raise ValueError(
                    f"ViT block {number} is being changed, and would be passed over at depth "
                    f"{depth}: enter `with conditions.truncated(…)` first, and change its blocks "
                    "within."
                )


def _mark(vlm, stack):
    """Lets those who look at the ViT's hooks see that it is being changed (`answers.chances`)."""
    stack.callback(vlm.adapter.vision.register_forward_pre_hook(_changed).remove)


def _changed(_, args):
    return None


# -- the ViT's places
# --------------------------------------------------------------------------------------------------


@contextmanager
def without_positions(vlm: VLM, blocks: int | Iterable[int] | None = None) -> Iterator[None]:
    """Within this context the ViT is not told where its patches are.

    A learnt table (CLIP, SigLIP, InternVL) adds nothing, neither to patches nor to a class token.
    With 2-D RoPE, queries and keys are not turned. The LM's own positions stay.

    Args:
        blocks: with 2-D RoPE, in which ViT blocks, counted from 1; in all by default. Where there
            is a table besides (Qwen3-VL), it is read once, before the first block: it goes with all
            blocks, and stays where some are named.

    Raises:
        ValueError: for blocks that there are not, or of a ViT with a table alone; for a ViT that is
            told nothing of places; and, when the model is run, within `intervene.moved`.
    """
    adapter = vlm.adapter
    table, tensor = adapter.position_table, adapter.position_tensor
    if table is None and tensor is None and adapter.rotary is None:
        raise ValueError(
            f"{vlm.name} has neither a table of positions nor 2-D RoPE in its ViT that whatwhere "
            "knows of: there is nothing to delete."
        )
    if adapter.rotary is None and blocks is not None:
        raise ValueError(
            f"{vlm.name} has a table of positions, read once before the first block: leave "
            "`blocks` out."
        )
    not_turned: Iterable[Any] = ()
    if adapter.rotary is not None:
        not_turned = vlm.vision_blocks if blocks is None else numbered(vlm, None, blocks).values()

    def look(_, args):
        owners = map(_owner, adapter.vision._forward_pre_hooks.values())
        if any(isinstance(owner, MovedRows) for owner in owners):
            raise ValueError(
                "Patches that have no places cannot be moved: leave `with intervene.moved(…)` or "
                "`with conditions.without_positions(…)`."
            )

    with ExitStack() as stack:
        stack.callback(adapter.vision.register_forward_pre_hook(look).remove)
        if blocks is None and table is not None:
            stack.callback(table.register_forward_hook(_zeros).remove)
        if blocks is None and tensor is not None:
            stack.enter_context(_emptied(tensor))
        for block in not_turned:
            hook = block.register_forward_pre_hook(_by_no_angle, with_kwargs=True)
            stack.callback(hook.remove)
        yield


def _by_no_angle(_, args, named):
    cos, sin = named["position_embeddings"]
    tables = torch.ones_like(cos), torch.zeros_like(sin)
    return args, {**named, "position_embeddings": tables}


@contextmanager
def _emptied(tensor):
    """Zeros in the place of a tensor that no hook reaches. (`vlm.save` would save them.)"""
    with torch.no_grad():
        before = tensor.clone()
        tensor.zero_()
    try:
        yield
    finally:
        with torch.no_grad():
            tensor.copy_(before)


def _owner(hook):
    return getattr(hook, "__self__", None)


# -- the order of visual tokens
# --------------------------------------------------------------------------------------------------


def order(n: int, seed: int = 0) -> Tensor:
    """(n,) whole numbers: the order in which `shuffled` deals out `n` visual tokens; place i gets
    patch order[i]."""
    return torch.from_numpy(np.random.default_rng([seed, n]).permutation(n))


@contextmanager
def shuffled(vlm: VLM, what: str, seed: int = 0) -> Iterator[None]:
    """Within this context the LM is given an image's visual tokens in another order, or with
    each other's positions.

    Either way patch order[i] is told the position that the i-th patch of the raster had (with
    M-RoPE its time, row and column together), by the same `order`. What differs is who comes
    before whom, since a token sees only those before it:

    - "tokens": the patches change places in the prompt, and take the positions of their new places;
    - "positions": the patches stay in raster order, and have each other's positions.

    Words after the image see all its tokens. So in an LM's first block the two are the same to
    them, whatever kind of RoPE it has, and from the second on they are not. A class token that is
    kept stays where it is.

    Args:
        what: "tokens" or "positions".
        seed: all pictures of so many visual tokens have one order, so that a picture has it
            whenever it is asked about, in any batch; another seed gives another.

    Raises:
        ValueError: for another `what` or a seed that is no whole number from 0 up; for "positions"
            in an LM without rotary positions; and, when the model is run, under
            `compress.compressed`, and where something is read or changed by patches that now stand
            elsewhere (token maps, attention, masks).
    """
    if what not in SHUFFLES:
        raise ValueError(f"What is shuffled is {' or '.join(map(repr, SHUFFLES))}; not {what!r}.")
    check_count("seed", seed, 0)
    shuffle: Any = (_Tokens if what == "tokens" else _Positions)(vlm, seed)
    with ExitStack() as stack:
        stack.callback(shuffle.attach().remove)
        stack.callback(vlm.lm.register_forward_pre_hook(shuffle.give, with_kwargs=True).remove)
        if what == "positions":
            rotary = getattr(vlm.lm, "rotary_emb", None)
            if rotary is None:
                raise ValueError(
                    f"The LM of {vlm.name} has no rotary positions (`rotary_emb`) to be shuffled."
                )
            stack.callback(rotary.register_forward_pre_hook(shuffle.turn, with_kwargs=True).remove)
        yield


class _Shuffle(places.Running):
    def __init__(self, vlm, seed):
        super().__init__(vlm)
        self.seed, self.now = seed, []

    def prompts(self, embeddings):
        """For each prompt that is about to reach the LM: its number, where its patches are in
        raster order, and where those are that take their places."""
        if self.found is None or embeddings is None:
            return []
        if at_work(self.vlm) or not self.fits(embeddings):
            raise ValueError(
                "A shuffle is of all visual tokens of a whole prompt: leave `with "
                "compress.compressed(…)` first, and give the LM all that was embedded."
            )
        return [
            (n, index, index[order(len(index), self.seed).to(index.device)])
            for n, index in enumerate(self.found.index)
        ]


class _Tokens(_Shuffle):
    shuffles = "tokens"

    def give(self, _, args, named):
        """Before the LM: the patches in another order, with what a DeepStack adds to them."""
        prompts = self.prompts(named.get("inputs_embeds"))
        if not prompts:
            return None
        given = self.vlm.adapter.pack(named)
        dealt = given.clone()
        for n, index, taken in prompts:
            dealt[n, index] = given[n, taken]
        return args, {**named, **self.vlm.adapter.unpack(dealt)}


class _Positions(_Shuffle):
    shuffles = "positions"

    def give(self, _, args, named):
        """Before the LM: where are the patches in what it is about to turn?"""
        self.now = self.prompts(named.get("inputs_embeds"))

    def turn(self, _, args, named):
        """Before angles are made of positions, so that no mask is made of shuffled ones."""
        if not self.now:
            return None
        states, *rest = args
        ids = rest[0] if rest else named["position_ids"]
        dealt = ids.expand(*ids.shape[:-2], len(states), -1).clone()
        for n, index, taken in self.now:
            dealt[..., n, taken] = ids.expand_as(dealt)[..., n, index]
        if rest:
            return (states, dealt, *rest[1:]), named
        return args, {**named, "position_ids": dealt}


# -- who sees whom
# --------------------------------------------------------------------------------------------------


@contextmanager
def image_attention(vlm: VLM, what: str) -> Iterator[None]:
    """Within this context visual tokens see all of each other in the LM, or none.

    An LM lets each token see those before it, so that the first patch of a picture sees no other.

    - "bidirectional": each visual token sees all of its image, those after it too, in every block;
    - "removed": it sees no visual token but itself, in no block. The ViT has let patches see each
      other before; what the LM adds to that is gone.

    What comes before the image is seen as ever, and so is the image by what comes after it.

    Args:
        what: "bidirectional" or "removed".

    Raises:
        ValueError: for another `what`; for attention that is neither "sdpa" nor "eager"; and, when
            the model is run, under `compress.compressed`.
    """
    if what not in IMAGE_ATTENTION:
        raise ValueError(
            f"Image attention is {' or '.join(map(repr, IMAGE_ATTENTION))}; not {what!r}."
        )
    with ExitStack() as stack:
        tokens = PairsInPrompt(vlm, "image", "image", stack)
        stack.enter_context(
            tapped(
                (block, _between(tokens, number, what))
                for number, block in enumerate(vlm.lm_layers, start=1)
            )
        )
        yield


def _between(tokens, number, what):
    def pairs(shape):
        both = tokens.pairs(number, shape)
        if both is None:
            return None
        itself = torch.eye(*both.shape[-2:], dtype=torch.bool)
        return (both & ~itself)[:, None]

    return Tap(opened=pairs) if what == "bidirectional" else Tap(cut=pairs)
