"""Changes to a running model that last as long as a `with` block: what patches hold, or where they
are.

    own = geometry.masks(scene, vlm.patch_grid(scene.image))[0]  # the first thing's visual tokens
    with intervene.added(vlm, own, vector, layer=0):  # steer
        vlm.answer(scene.image, "where is the mug relative to the lamp ?")
    with intervene.replaced(vlm, own, ground, layer=0): …  # erase, or patch in from elsewhere
    with intervene.moved(vlm, own, (0, 5)): …  # another place, the same content
    with intervene.knockout(vlm, layers=1, queries="after", keys=own): …  # no word looks at it

A *mask* is true where a patch is meant: (rows, columns), for every image that the model is shown,
or a list with one for each of them, in order. At a `depth` of the ViT, and in `moved`, its grid is
that of the ViT's patches; at a `layer` of the LM it is that of the visual tokens, which is coarser
where patches are merged (`geometry.grids`).

The first three are hooks, and `knockout` is a function that attention goes through (`taps`). They
may be nested (of two that replace the same states, the inner one acts first); and when the block is
left, however it is left, the model is as it was, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from . import places
from .compress.within import at_work
from .hooks import check_range
from .rope import vision
from .selection import PairsInPrompt, PairsInViT, checked_masks, other_grid
from .taps import Tap, n_heads, numbered, tapped

if TYPE_CHECKING:
    from .models import VLM

EVERY_PATCH = (
    "An intervention needs every patch to be there: leave `with compress.compressed(…)` first."
)


def added(
    vlm: VLM, masks: Any, vectors: Any, *, depth: int | None = None, layer: int | None = None
) -> AbstractContextManager[None]:
    """Within this context `vectors` are added to the masked patches' states, after `depth` ViT
    blocks or `layer` LM blocks.

    Args:
        vectors: (features,) for every image, or (images, features).

    Raises:
        ValueError: here or when the model is run, for a mask that is empty or of another grid, for
            other numbers of images or features, and for a number that is not finite.
    """
    vectors = _numbers(vectors, "A vector is")
    return _edited(vlm, masks, lambda states, spread: states + spread(vectors), depth, layer)


def replaced(
    vlm: VLM,
    masks: Any,
    vectors: Any,
    share: float = 1.0,
    *,
    depth: int | None = None,
    layer: int | None = None,
) -> AbstractContextManager[None]:
    """Within this context the masked patches' states are blended with `vectors`: (1 − share) ·
    state + share · vector.

    With the mean state of the ground this erases a thing; with that of a thing in another picture
    it is patching.

    Args:
        share: a number from 0 to 1. All else as for `added`.
    """
    if isinstance(share, bool) or not isinstance(share, Real) or not 0 <= share <= 1:
        raise ValueError(
            f"The share is a number from 0 (nothing changes) to 1 (all is replaced); got {share!r}."
        )
    vectors, added = _numbers(vectors, "A vector is"), len(vlm.adapter.extra_depths)
    if added and isinstance(layer, Integral) and layer <= added:
        raise ValueError(
            f"{vlm.name} adds more of the picture to its visual tokens after LM layers 1 to "
            f"{added} (DeepStack), so that a state replaced before is not all that is seen: take a "
            f"layer from {added + 1} on."
        )
    return _edited(
        vlm,
        masks,
        lambda states, spread: torch.lerp(states, spread(vectors), float(share)),
        depth,
        layer,
    )


@contextmanager
def moved(
    vlm: VLM, masks: Any, steps: Any, *, blocks: Iterable[int] | None = None
) -> Iterator[None]:
    """Within this context the ViT takes the masked patches to be elsewhere; what they show stays as
    it is.

    With a learnt table the patches are given the vectors of other places of the picture, before the
    first block: steps are whole numbers, and `blocks` stays None.

    Args:
        steps: (rows, columns), in patches, for every image, or (images, 2). With 2-D RoPE it is the
            angle that is changed by which queries and keys are turned: steps may be fractions, may
            lead off the picture, and may require a gradient.
        blocks: in which ViT blocks, counted from 1; in all by default.

    Raises:
        ValueError: as for `added`.
    """
    steps = _numbers(steps, "Steps are").to(vlm.device)
    if steps.shape[-1] != 2:
        raise ValueError(
            "Steps are two numbers, rows and columns, for every image or for each; got "
            f"{tuple(steps.shape)}."
        )
    if vlm.adapter.rotary is not None and vlm.adapter.position_table is not None:
        raise ValueError(
            f"{vlm.name} says where a patch is by a table and by 2-D RoPE, and only one of them "
            "could be changed."
        )
    place = _by_table if vlm.adapter.rotary is None else _by_angle
    with ExitStack() as stack:
        rows = MovedRows(vlm, masks, stack)
        for module, hook in place(vlm, rows, steps, blocks):
            stack.callback(module.register_forward_pre_hook(hook, with_kwargs=True).remove)
        yield


@contextmanager
def knockout(
    vlm: VLM,
    *,
    layers: int | Iterable[int] | None = None,
    depths: int | Iterable[int] | None = None,
    heads: int | Iterable[int] | None = None,
    queries: Any = None,
    keys: Any = None,
) -> Iterator[None]:
    """Within this context some attention is cut: whole heads, or from `queries` to `keys`.

    What is cut has a logit of minus infinity, so that the rest of a row still sums to one
    (attention knockout: Geva et al., EMNLP 2023). A row of which all is cut gives on zeros, and so
    does a whole head. `vlm.answer` writes its answer under it, too.

    Args:
        layers: blocks of the LM, counted from 1, or
        depths: blocks of the ViT, counted from 1: one of the two.
        heads: in these heads of those blocks, counted from 0; in all by default. Without `queries`
            and `keys` whole heads are cut.
        queries, keys: the tokens that look, and those at which they look; all by default. A mask of
            patches, as above, or places, whole numbers, counted as in `attention.Attention` (those
            below zero from the prompt's end). In the LM also "image": all visual tokens; "after":
            all that comes after the image, the answer too; "last": the prompt's last token, which
            says the answer's first word, and the answer's own.

    Raises:
        ValueError: here, for a choice of nothing or of what there is not. When the model is run,
            for a mask of another grid, a place beyond the prompt, a cache of fixed length, and,
            where tokens are chosen, under `compress.compressed`.
    """
    if (layers is None) == (depths is None):
        raise ValueError(
            "Say where: in blocks of the ViT (depths) or of the LM (layers), one of the two."
        )
    if heads is None and queries is None and keys is None:
        raise ValueError("Say what is cut: heads, queries (which tokens look) or keys (at which).")
    blocks = numbered(vlm, layers, depths)
    chosen: Any = heads
    if heads is not None and not isinstance(heads, Integral):
        chosen = list(chosen)  # an iterator is gone after the first block
    with ExitStack() as stack:
        tokens = None
        if layers is None or queries is not None or keys is not None:  # the ViT shows its changes
            find = PairsInViT if layers is None else PairsInPrompt
            tokens = find(vlm, queries, keys, stack)
        taps = [
            (block, Tap(cut=_cut(number, _heads(chosen, block), tokens)))
            for number, block in blocks.items()
        ]
        stack.enter_context(tapped(taps))
        yield


def _cut(number, heads, tokens):
    def cut(shape):
        if tokens is None:
            return heads
        pairs = tokens.pairs(number, shape)
        return None if pairs is None else heads & pairs[:, None]

    return cut


def _heads(heads, block) -> Tensor:
    """(1, heads, 1, 1) booleans: which are meant."""
    n = n_heads(block)
    if heads is None:
        heads = range(n)
    chosen = [heads] if isinstance(heads, Integral) else heads
    if not chosen:
        raise ValueError("Name one head at least.")
    for head in chosen:
        if isinstance(head, bool) or not isinstance(head, Integral) or not 0 <= int(head) < n:
            raise ValueError(f"Heads are counted from 0 to {n - 1} in this model; got {head!r}.")
    return torch.tensor([head in chosen for head in range(n)])[None, :, None, None]


def _by_angle(vlm, rows, steps, blocks):
    """To turn by φ and then by ψ is to turn by φ + ψ: the tables of cosines and sines are turned
    on."""
    numbers = range(1, len(vlm.vision_blocks) + 1)
    if blocks is None:
        blocks = numbers
    blocks = [blocks] if isinstance(blocks, Integral) else list(blocks)
    for block in blocks:
        if isinstance(block, bool) or not isinstance(block, Integral) or block not in numbers:
            raise ValueError(
                f"This ViT's blocks are counted from 1 to {len(numbers)}; got {block!r}."
            )
    rotary = vision(vlm)

    def turn(_, args, named):
        cos, sin = named["position_embeddings"]
        masked, spread = rows.of(cos.shape[:-1])
        angle = (spread(steps)[:, rotary.axis] * rotary.theta.to(steps)).repeat(1, 2).to(cos)
        new_cos = cos[masked] * angle.cos() - sin[masked] * angle.sin()
        new_sin = sin[masked] * angle.cos() + cos[masked] * angle.sin()
        tables = cos.index_put((masked,), new_cos), sin.index_put((masked,), new_sin)
        return args, {**named, "position_embeddings": tables}

    return [(vlm.vision_blocks[block - 1], turn) for block in set(blocks)]


def _by_table(vlm, rows, steps, blocks):
    if vlm.adapter.position_table is None:
        raise ValueError(
            f"{vlm.name} adds its table of positions as one tensor, which no hook reaches: "
            "patches cannot be moved."
        )
    if blocks is not None:
        raise ValueError(
            f"{vlm.name} has a table of positions, read once before the first block: leave "
            "`blocks` out."
        )
    if (steps != steps.round()).any():
        raise ValueError(
            f"{vlm.name} has a table of positions, with nothing between its places: steps are "
            "whole numbers."
        )
    side = vlm.adapter.side
    # CLIP's class token has a place of its own, before the patches
    first = vlm.adapter.position_table.num_embeddings - side**2

    def exchange(_, args, named):
        ids = args[0].expand(rows.images, -1)
        masked, spread = rows.of(ids.shape)
        patch = ids[masked] - first
        place = torch.stack([patch // side, patch % side], -1) + spread(steps).long()
        if place.min() < 0 or place.max() >= side:
            raise ValueError(
                f"These steps lead off the picture, whose table has {side} × {side} places."
            )
        ids = ids.index_put((masked,), place[:, 0] * side + place[:, 1] + first)
        return (ids, *args[1:]), named

    return [(vlm.adapter.position_table, exchange)]


@contextmanager
def _edited(vlm, masks, change, depth, layer):
    """The states of masked patches at one place become change(states (n, features), spread), where
    spread(vectors) is (n, features): each patch's vector."""
    if (depth is None) == (layer is None):
        raise ValueError(
            "Say where: at a depth of the ViT or at a layer of the LM, one of the two."
        )
    if layer is None:
        check_range("depth", depth, vlm.last_depth)
        number, blocks, find = depth, vlm.vision_blocks, _VisionRows
    else:
        check_range("layer", layer, vlm.n_layers)
        number, blocks, find = layer, vlm.lm_layers, _LanguageRows
    with ExitStack() as stack:
        rows = find(vlm, masks, stack)

        def edit(states):
            if rows.owner is None:
                return states
            masked, spread = rows.of(states.shape[:-1])
            new = change(states[masked], lambda vectors: spread(vectors, states))
            return states.index_put((masked,), new)

        def before(_, args, named):
            if args:
                return (edit(args[0]), *args[1:]), named
            return args, {**named, "hidden_states": edit(named["hidden_states"])}

        def after(_, args, output):
            return (edit(output[0]), *output[1:]) if isinstance(output, tuple) else edit(output)

        # ours first: transformers keeps states by hooks of its own, and LLaVA's connector reads
        # what these saw
        if number:
            hook = blocks[number - 1].register_forward_hook(after, prepend=True)
        else:
            hook = blocks[0].register_forward_pre_hook(before, prepend=True, with_kwargs=True)
        stack.callback(hook.remove)
        yield


class _Rows:
    """Which rows of a tensor of states are masked patches, and of which image: found anew whenever
    the model is run."""

    def __init__(self, vlm, masks):
        self.vlm, self.masks, self.images = vlm, checked_masks(masks), 0
        self.owner: Any = None  # while there is no image

    def owners(self, grids):
        """For each image (rows, columns) of its number where it is masked, else −1."""
        self.images = len(grids)
        if len(self.masks) not in (1, len(grids)):
            raise ValueError(
                f"There are {len(self.masks)} masks for {len(grids)} images: give one for each, "
                "or one for all."
            )
        owners = []
        for n, grid in enumerate(grids):
            mask = self.masks[n % len(self.masks)]
            if mask.shape != tuple(grid):
                raise other_grid(mask, grid)
            owners.append(torch.where(mask, n, -1).to(self.vlm.device))
        return owners

    def of(self, shape):
        """Of states (*shape, features): booleans (*shape), true for masked ones; and a function
        that gives each of these the vector of its image."""
        if self.owner.shape != shape:
            raise ValueError(EVERY_PATCH)
        masked = self.owner >= 0

        def spread(vectors, states=None):
            if states is not None and vectors.shape[-1] != states.shape[-1]:
                raise ValueError(
                    f"A vector has {vectors.shape[-1]} numbers, and a state here has "
                    f"{states.shape[-1]}."
                )
            if vectors.ndim == 2 and len(vectors) != self.images:
                raise ValueError(
                    f"There are {len(vectors)} vectors for {self.images} images: give one for "
                    "each, or one for all."
                )
            vectors = vectors.expand(self.images, -1)[self.owner[masked].to(vectors.device)]
            return vectors if states is None else vectors.to(states)

        return masked, spread


class _VisionRows(_Rows):
    def __init__(self, vlm, masks, stack):
        super().__init__(vlm, masks)
        stack.callback(
            vlm.adapter.vision.register_forward_pre_hook(self.look, with_kwargs=True).remove
        )

    def look(self, _, args, named):
        if at_work(self.vlm, in_vit=True):
            raise ValueError(EVERY_PATCH)
        self.owner = self.vlm.adapter.in_vit(self.owners(self.vlm.adapter.vit_grids(args, named)))


class MovedRows(_VisionRows):
    """Of patches whose place is being changed: `conditions.without_positions` looks for it."""


class _LanguageRows(_Rows):
    def __init__(self, vlm, masks, stack):
        super().__init__(vlm, masks)
        self.prompt = places.Running(vlm)
        stack.callback(self.prompt.attach().remove)
        stack.callback(vlm.lm.register_forward_pre_hook(self.look, with_kwargs=True).remove)

    def look(self, _, args, named):
        """Before the LM: which of its tokens are masked?"""
        image_places, self.owner = self.prompt.found, None
        if image_places is None:
            return
        if at_work(self.vlm) or not self.prompt.fits(named["inputs_embeds"]):
            raise ValueError(EVERY_PATCH)
        places.check_order(self.vlm, "A mask is")
        grids = places.grids(self.vlm, image_places, places.plain(named.get("position_ids")))
        mask = image_places.mask
        owner = torch.full(mask.shape, -1, device=mask.device)
        for row, index, of_image in zip(owner, image_places.index, self.owners(grids)):
            row[index] = of_image.flatten()
        self.owner = owner


def _numbers(values, what):
    """A tensor (numbers,) or (images, numbers), finite."""
    if not torch.is_tensor(values):
        values = np.asarray(values)
        if values.dtype.kind not in "fiu":
            raise ValueError(f"{what} made of numbers: got {values.dtype}.")
        values = torch.from_numpy(values.astype(np.float32))
    if values.ndim not in (1, 2) or not values.isfinite().all():
        raise ValueError(
            f"{what} made of finite numbers, for every image or a row for each; got shape "
            f"{tuple(values.shape)}."
        )
    return values if values.is_floating_point() else values.float()
