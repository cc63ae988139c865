"""Fewer patches within the ViT: from a method's first place on its blocks run on what is left.

Between two blocks the stream keeps its length, so that whatever else reads it (transformers, the
connector, `VLM.vit_states`) finds a state for every patch: that of its group, or, of a dropped one,
the last that it had. Before a block one copy of each state that is left is taken out, with its
place (2-D RoPE) and its image or window (cu_seqlens); after it, what it has become is put back. A
method with several places chooses again among the groups it has made; since all members of a group
have its state, the mean of their states counts each group by its size, as Token Merging does.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from inspect import signature
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..taps import Tap, tapped, vit_order, vit_tapped

if TYPE_CHECKING:
    from ..models import VLM


def pixels_shown(args: tuple, named: dict[str, Any]) -> dict[str, torch.Tensor]:
    """What an adapter calls pixels, from the arguments of its ViT."""
    pixels = {"pixel_values": args[0] if args else named["pixel_values"]}
    return pixels | ({"image_grid_thw": named["grid_thw"]} if "grid_thw" in named else {})


def received(weights: torch.Tensor, extra: int, grid: tuple[int, int], m: int) -> np.ndarray:
    """(tokens,) how much each is attended to in one image, mean over heads and its m × m patches.

    Args:
        weights: (heads, tokens, tokens) of a ViT block, those without a place first.
        extra: how many these are; the first of them asks if there is one, else all patches do.
        grid: (rows, columns) of the patches.
    """
    own = weights[:, 0, extra:] if extra else weights.mean(1)
    rows, columns = (side // m for side in grid)
    return own.mean(0).reshape(rows, m, columns, m).mean((1, 3)).flatten().cpu().numpy()


class InViT:
    """The hooks on the ViT's blocks, and what they remember of its last run.

    Attributes:
        groups: of each image that the ViT was shown last, what `choose` gave.
        last: its state where the connector reads, or None where it did not come so far.
        attention: of each image (tokens,) what `received` gives of the block at the first place,
            where the method needs that.
        keys: of each image (tokens, m² × head size) the keys of the block at the place, mean over
            heads, where it needs these.

    Args:
        depths: after how many blocks the method chooses, and again.
        needs: `Method.needs`.
        choose: choose(n, states, grid, step, before) gives the groups of image n, with `of`
            (tokens,), each token's group or −1, and `stand` (groups,), the token whose place a
            group takes; from states (tokens, m² × ViT width) in raster order, and what it gave at
            the place before, or None.
        pool: pool(groups, states) gives (kept, m² × ViT width) what goes on, and (kept,) which
            token's place each takes.
        looking: is this a run that is only looked at?
    """

    def __init__(
        self,
        vlm: VLM,
        depths: list[int],
        needs: tuple[str, ...],
        choose: Callable[[int, torch.Tensor, tuple[int, int], int, Any], Any],
        pool: Callable[[Any, torch.Tensor], tuple],
        looking: Callable[[], bool],
    ):
        self.vlm, self.depths, self.needs, self.looking = vlm, depths, needs, looking
        self.choose, self.pool = choose, pool
        self.groups: list = []
        self.last: Any = None
        self.attention: list[np.ndarray] = []
        self.keys: list[torch.Tensor] = []
        self.raw_keys: Any = None  # as they come, of what is left
        self.taps = ExitStack()  # of the run that has begun
        self.chosen: dict[int, Any] = {}  # by step: the state by which was chosen, and the groups
        self.alike: list[bool] = []  # is an image the one before it? (for beams)
        self.grids: list[tuple[int, int]] = []  # of visual tokens
        # all that follows is about the flat state (patches of all images, and class tokens)
        self.extra: Any = None  # (images × class tokens,) where these are
        self.places: list[torch.Tensor] = []  # of each image (tokens, m²) where its patches are
        self.index: Any = None  # (left,) or (images, longest) what is left of it
        self.real: Any = None  # of this shape: false for what fills up a shorter image
        self.source: Any = None  # (length,) whose state each has after a block
        self.whole: Any = None  # before a block, all of it

    def attach(self, stack: ExitStack) -> None:
        """Hang the hooks in until the stack is closed."""
        stack.callback(self.taps.close)
        first, later = self.depths[0], []
        # ours first: transformers keeps states by hooks of its own, which LLaVA's connector reads
        handles = []
        for number in range(first, self.vlm.last_depth + 1):
            block = self.vlm.vision_blocks[number - 1]
            if number in self.depths:
                if "vision_keys" in self.needs:
                    projection, split = self.vlm.adapter.vision_heads(block)[1]
                    handles.append(projection.register_forward_hook(partial(self.note, split)))
                merge = partial(self.merge, self.depths.index(number))
                handles.append(block.register_forward_hook(merge, prepend=True))
            if number > first:  # put back before there is another choice
                later.append(block)
                handles.append(block.register_forward_pre_hook(self.before, with_kwargs=True))
                handles.append(block.register_forward_hook(self.after, prepend=True))
        handles.append(
            self.vlm.vision_blocks[self.vlm.last_depth - 1].register_forward_hook(self.end)
        )
        for handle in handles:
            stack.callback(handle.remove)
        stack.enter_context(tapped([(block, Tap(cut=self.cut)) for block in later]))

    def begin(self, args: tuple, named: dict[str, Any]) -> None:
        """Before the ViT: where are the patches of each visual token?"""
        adapter, pixels, self.last = self.vlm.adapter, pixels_shown(args, named), None
        self.taps.close()
        if "vision_attention" in self.needs:
            self._watch(args, named)
        grids, m = adapter.vit_grids(args, named), adapter.merge
        image, token = vit_order(adapter, grids)
        device, extra, self.places = pixels["pixel_values"].device, [], []
        for n, (rows, columns) in enumerate(grids):
            own = (image == n).nonzero()[:, 0]
            own = own[token[own].argsort()].to(device)
            extra.append(own[: len(own) - rows * columns])
            windows = own[len(extra[-1]) :].reshape(rows // m, m, columns // m, m).transpose(1, 2)
            self.places.append(windows.reshape(-1, m * m))
        self.extra, self.grids = torch.cat(extra), [(rows // m, cols // m) for rows, cols in grids]
        pictures = [adapter.pick(pixels, [n]) for n in range(len(grids))]
        self.alike = [
            n > 0 and all(torch.equal(own[name], pictures[n - 1][name]) for name in own)
            for n, own in enumerate(pictures)
        ]

    def _watch(self, args, named):
        """Notes the attention of the block at the first place as it runs."""
        number, grids = self.depths[0], iter(self.vlm.adapter.vit_grids(args, named))
        self.attention = []

        def keep(_, weights):
            grid, m = next(grids), self.vlm.adapter.merge
            self.attention.append(received(weights, extra, grid, m))

        blocks = {number: self.vlm.vision_blocks[number - 1]}
        extra = self.taps.enter_context(vit_tapped(self.vlm, args, named, blocks, keep))

    def note(self, split: Callable, _: Any, args: tuple, output: Any) -> None:
        """The keys of a block at one of the places."""
        if not self.looking():
            self.raw_keys = split(output).float().mean(-2).flatten(0, -2)

    def _keys_by_image(self, step, length):
        keys, self.raw_keys = self.raw_keys, None
        if step:
            whole = keys.new_zeros(length, keys.shape[-1])
            whole[self.index[self.real]] = keys[self.real.flatten()]
            keys = whole
        self.keys = [keys[places].flatten(1) for places in self.places]

    def merge(self, step: int, _: Any, args: tuple, output: Any) -> Any:
        """After the block at one of the method's places: choose, and put the groups' states in."""
        if self.looking():
            return None
        state = output[0] if isinstance(output, tuple) else output
        flat = state.flatten(0, -2)
        by_token = [flat[places].flatten(1) for places in self.places]
        if step == 0:
            self.taps.close()
        if self.raw_keys is not None:
            self._keys_by_image(step, len(flat))
        # whoever answers without a cache shows the picture anew for each token of the answer
        if step not in self.chosen or not torch.equal(state, self.chosen[step][0]):
            groups, before = [], self.groups if step else [None] * len(by_token)
            for n, states in enumerate(by_token):
                again = groups[-1] if self.alike[n] else None
                groups.append(again or self.choose(n, states, self.grids[n], step, before[n]))
            self.chosen[step] = state, groups
        self.groups = self.chosen[step][1]
        left = torch.zeros(len(flat), dtype=torch.bool, device=flat.device)
        left[self.extra] = True
        merged, self.source = flat.clone(), torch.arange(len(flat), device=flat.device)
        for groups, places, states in zip(self.groups, self.places, by_token):
            tokens, stand, *_ = self.pool(groups, states)
            merged[places[stand]] = tokens.unflatten(1, (places.shape[1], -1))
            left[places[stand]] = True
            member = torch.from_numpy(groups.of >= 0).to(flat.device)
            owner = torch.from_numpy(groups.stand[groups.of]).to(flat.device)
            self.source[places[member]] = places[owner[member]]
        self._index(left.reshape(state.shape[:-1]))
        merged = merged[self.source].reshape(state.shape)
        return (merged, *output[1:]) if isinstance(output, tuple) else merged

    def _index(self, left):
        """Of booleans (length,) or (images, length): what a block is given, images side by side
        filled up to the longest."""
        if left.ndim == 1:
            self.index = left.nonzero()[:, 0]
            self.real = torch.ones_like(self.index, dtype=torch.bool)
            return
        counts = left.sum(1, keepdim=True)
        order = left.int().argsort(dim=1, descending=True, stable=True)[:, : int(counts.max())]
        self.index = order + left.shape[1] * torch.arange(len(left), device=left.device)[:, None]
        self.real = torch.arange(order.shape[1], device=left.device) < counts

    def before(self, block: Any, args: tuple, named: dict[str, Any]) -> Any:
        """Before a later block: only what is left."""
        if self.looking():
            return None
        state, *rest = args or [named["hidden_states"]]
        self.whole = state.flatten(0, -2)
        names = list(signature(block.forward).parameters)[1:]
        rest = [self._argument(block, *argument) for argument in zip(names, rest)]
        named = {name: self._argument(block, name, value) for name, value in named.items()}
        short = self.whole[self.index]
        return ((short, *rest), named) if args else (args, {**named, "hidden_states": short})

    def _argument(self, block, name, value: Any):
        """A block's argument for what is left of the patches."""
        if value is None:
            return None
        if name == "position_embeddings":
            return tuple(table[self.index] for table in value)
        if name == "cu_seqlens":  # where each image or window begins; without those that are empty
            begins = torch.searchsorted(self.index, value.to(self.index))
            return begins.unique_consecutive().to(value)
        if name == "attention_mask" and _hides_nothing(value):
            return None
        if torch.is_tensor(value) and name != "hidden_states":
            raise ValueError(
                f"Patches cannot be left out of the ViT of {self.vlm.name}: a "
                f"{type(block).__name__} is given `{name}`, {tuple(value.shape)}, and whatwhere "
                "does not know what of it belongs to which patch. Take a method's place in the LM."
            )
        return value

    def after(self, _: Any, args: tuple, output: Any) -> Any:
        """After a later block: what it has made of them, for every patch."""
        if self.looking():
            return None
        made = output[0] if isinstance(output, tuple) else output
        whole, self.whole = self.whole.clone(), None
        whole[self.index[self.real]] = made[self.real]
        whole = whole[self.source]
        whole = whole if made.ndim == 2 else whole.unflatten(0, (len(made), -1))
        return (whole, *output[1:]) if isinstance(output, tuple) else whole

    def end(self, _: Any, args: tuple, output: Any) -> None:
        """Where the connector reads."""
        if not self.looking():
            self.last = output[0] if isinstance(output, tuple) else output

    def cut(self, shape: tuple[int, int, int, int]) -> torch.Tensor | None:
        """What fills up a shorter image is looked at by nothing."""
        if self.looking() or self.real.all():
            return None
        return ~self.real[:, None, None]


def _hides_nothing(mask):
    """Is this an attention mask that leaves everything to be seen?"""
    return bool(mask.all() if mask.dtype == torch.bool else (mask == 0).all())
