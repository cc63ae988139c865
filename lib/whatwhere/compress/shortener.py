"""The hooks of a compression, and what they have to remember between them.

They sit on the LM's input embeddings, to see where the image stands in a prompt; on the ViT, to
know what it was shown; and before the LM, or before its blocks or the ViT's from a method's place
on, to shorten what they are given. A later token of a generated answer finds the shortened cache,
with the mask and the positions that belong to it.
"""

from __future__ import annotations

import warnings
from collections import namedtuple
from contextlib import ExitStack
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .. import places
from ..finite import check_finite
from ..hooks import check_range, residual_stream
from ..taps import USUAL, Tap, numbered, takes, tapped, vit_tapped
from . import groups as ways
from .in_vit import InViT, pixels_shown, received

if TYPE_CHECKING:
    from ..models import VLM
    from .groups import Keep

ONCE = (
    "A compression shortens whole prompts, once, into an empty cache: leave one `with "
    "compress.compressed(…)` before the next, and start each conversation anew."
)
NOT_SHOWN = (
    "{} needs the picture, and the ViT did not run inside this context: give the model the "
    "picture, not visual tokens that were made before (as an exam does)."
)


class Log:
    """What a compression did: `kept` and `given`, numbers of visual tokens for each prompt, and the
    share `removed`.

    Attributes:
        kept, given: lists, for each prompt how many visual tokens are left in the end, and of how
            many.
        on_average: a list, for each prompt how many a block of the LM is given on average: what
            the LM's work goes by. More than `kept` where a method's place is between its blocks.
        groups: a list, for each prompt (tokens,) which of the tokens that are left in the end each
            of the picture's has gone into, in raster order; −1 where it was dropped.

    Args:
        method: the `Method` at work. What it removes, the LM's blocks before its place still have.
    """

    def __init__(self, method: ways.Method):
        self.method, self.kept, self.given = method, [], []
        self.on_average: list[float] = []
        self.groups: list[np.ndarray] = []

    def __repr__(self):
        did = (
            f"{len(self.kept)} prompts, {self.removed:.1%} of visual tokens removed"
            if self.kept
            else "no prompt yet"
        )
        return f"Log({did})"

    @property
    def removed(self) -> float:
        """The share of visual tokens that were saved, over all prompts."""
        if not self.given:
            raise ValueError(
                "No prompt has been shortened yet: run the model inside the context first."
            )
        return 1 - sum(self.kept) / sum(self.given)


# ids of prompts, their visual tokens, and what was made of these
_Shortened = namedtuple("_Shortened", "ids visual made")
# prompts as they reached the LM. At each of a method's places are new: ids, embeddings, mask and
# positions of what is left; `at`, for each prompt the indices of its visual tokens in these; the
# `cells` of the grid where they stand; and for how many tokens each of a sequence stands (`sizes`).
# `before` is what was made of the same prompts when their answer was shorter, or None
_Call = namedtuple(
    "_Call", "found ids given mask positions grids embeddings at cells sizes of before visual"
)
# numpy arrays: (tokens,) each token's group, −1 where dropped; of each group (groups,) the token
# whose place it takes, and its size; (tokens,) how much each counts in a mean, or None
_Groups = namedtuple("_Groups", "of stand sizes weights", defaults=[None])


def _into(of, groups):
    """(tokens,) which of the tokens that are left, in raster order, each of the picture's is in.

    of: which of the tokens before it was in, −1 where it was dropped already.
    """
    rank = np.argsort(np.argsort(groups.stand))
    group = np.where(of >= 0, groups.of[of], -1)
    return np.where(group >= 0, rank[group], -1)


class Shortener:
    """The hooks, and what they have to remember between them and from a prompt to its answer."""

    def __init__(
        self,
        vlm: VLM,
        way: ways.Method,
        depths: list[int],
        layers: list[int],
        pool: str,
        keep_positions: bool,
        keep_lengths: bool,
        seed: int,
        keep: Keep | None,
    ):
        self.vlm, self.way, self.layers, self.pool = vlm, way, layers, pool
        self.keep_positions, self.keep_lengths = keep_positions, keep_lengths
        self.rng, self.log = np.random.default_rng(seed), Log(way)
        self.most = keep if isinstance(keep, int) else 0  # tokens that were asked for
        self.prompt = places.Running(vlm)  # of the prompt that is about to reach the LM
        self.shown: Any = None  # (arguments, named ones) of the ViT's last call
        # of the prompt in the cache: for how many tokens each stands (batch, length), 0 for
        # padding, at each of the method's places; the next position (batch, 1); and how long it was
        # for the blocks that see all of it
        self.sizes: list = []
        self.following: Any = None
        self.length: Any = None
        self.last: list = []  # what was shortened last, as `_Shortened`, at each place
        self.call: Any = None  # a prompt on its way to the method's next place, as `_Call`
        self.inside: Any = None  # what the blocks from there on are given
        self.inside_before: Any = None  # of a prompt, at the place before
        self.later: list = []  # the same for a token of an answer, at each place
        self.looking = self.warned = False
        self.kept: dict[int, int] = {}  # of each prompt, tokens that blocks of the LM see, summed
        self.seen: dict[int, Any] = {}  # attention of blocks at the method's places, as they ran
        self.taps = ExitStack()  # of the prompt that is on its way
        self.vit: Any = None  # for a place in the ViT
        if depths:
            args = depths, way.needs, self._in_vit, self._pooled, lambda: self.looking
            self.vit = InViT(vlm, *args)

    def attach(self, stack: ExitStack) -> None:
        """Hang the hooks in until the stack is closed."""
        stack.callback(self.taps.close)
        handles = [
            self.prompt.attach(),
            self.vlm.adapter.vision.register_forward_pre_hook(self.look, with_kwargs=True),
            self.vlm.lm.register_forward_pre_hook(self.shorten, with_kwargs=True),
        ]
        if self.layers[0]:
            for n in range(self.layers[0], self.vlm.n_layers):
                step = self.layers.index(n) if n in self.layers else None
                hook = partial(self.within, step)
                handles.append(
                    self.vlm.lm_layers[n].register_forward_pre_hook(hook, with_kwargs=True)
                )
        for handle in handles:
            stack.callback(handle.remove)
        if self.vit is not None:
            self.vit.attach(stack)

    def look(self, _: Any, args: tuple, named: dict[str, Any]) -> None:
        """Before the ViT: what is it shown?"""
        if not self.looking:
            self.shown = args, named
            if self.vit is not None:
                self.vit.begin(args, named)

    def shorten(self, _: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Before the LM: a prompt with an image, or the next token of an answer to one; anything
        else is let through."""
        given, cached = kwargs.get("inputs_embeds"), kwargs.get("past_key_values")
        if given is not None and self.prompt.found is not None:
            given = self.vlm.adapter.pack(kwargs)  # with what a DeepStack adds later
        past = 0 if cached is None else cached.get_seq_length()
        if self.looking or given is None:
            return None
        self.call = self.inside = None
        if self.prompt.found is not None:
            self.call = self._prompt(
                given, kwargs.get("attention_mask"), kwargs.get("position_ids"), past
            )
            if self.layers[0]:
                self._watch()
                return None
            short = self._left_of_prompt()
        elif past and self.sizes:
            since = past - self.length  # tokens of the answer that are in the cache already
            # the cache may have been repeated, for several ways to go on
            times = len(given) // len(self.following)
            grown = [
                torch.cat([sizes, sizes.new_ones(len(given), since + given.shape[1])], 1)
                for sizes in (each.repeat_interleave(times, 0) for each in self.sizes)
            ]
            if self.layers[0]:
                self.later = [{"attention_mask": self._added(sizes, given)} for sizes in grown]
                return None
            following = self.following.repeat_interleave(times, 0)
            positions = following + since + torch.arange(given.shape[1], device=given.device)
            short = {"attention_mask": self._mask(grown[0], given), "position_ids": positions}
        else:
            return None
        return args, {
            **kwargs,
            **short,
            **({"cache_position": None} if "cache_position" in kwargs else {}),
        }

    def _watch(self):
        """Notes the attention of the blocks at the method's places, as they run on a prompt."""
        self.seen = {}
        self.taps.close()
        if "attention" in self.way.needs:
            blocks = {n: self.vlm.lm_layers[n - 1] for n in self.layers}
            self.taps.enter_context(tapped(takes(blocks, self._saw)))

    def _saw(self, layer, weights):
        if not self.looking:
            self.seen[layer] = check_finite(weights.mean(1), f"the attention in LM block {layer}")

    def within(self, step: int | None, _: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Before an LM block from the method's first place on; at its places it shortens.

        step: which of these the block is at, or None.
        """
        if self.looking:
            return None
        if step is not None and self.call is not None:
            states, *rest = args or [kwargs["hidden_states"]]
            if states.shape[:2] != self.call.mask.shape:
                raise ValueError(ONCE)
            rows, index, states = self._short(states, step)
            self.inside = {"attention_mask": self._added(self.sizes[step], states)}
            own = kwargs if step == 0 else self.inside_before
            self.inside["position_embeddings"] = tuple(
                table.expand(*table.shape[:-3], len(states), -1, -1)[..., rows, index, :]
                for table in own["position_embeddings"]
            )
            if own.get("position_ids") is not None:
                ids = own["position_ids"]
                self.inside["position_ids"] = ids.expand(*ids.shape[:-2], len(states), -1)[
                    ..., rows, index
                ]
            self.inside_before = self.inside
            args, kwargs = (
                ((states, *rest), kwargs) if args else (args, {**kwargs, "hidden_states": states})
            )
            if step == len(self.layers) - 1:
                self.call = self.inside_before = None
                self.taps.close()
        elif step is not None and self.later:
            self.inside = self.later[step]
            if step == len(self.layers) - 1:
                self.later = []
        return None if self.inside is None else (args, {**kwargs, **self.inside})

    def _prompt(self, given, mask, positions, past):
        """The prompt that has reached the LM, if it is one that can be shortened."""
        found, self.prompt.found = self.prompt.found, None
        if past or found is None or found.mask.shape != given.shape[:2]:
            raise ValueError(ONCE)
        # made for a cache of fixed length
        if mask is not None and (not torch.is_tensor(mask) or mask.ndim != 2):
            raise ValueError(
                "A compression needs the usual growing cache, whose mask is (batch, length): "
                "generate without "
                'cache_implementation="static", and without compiling.'
            )
        if "question" in self.way.needs and found.mask[:, -1].any():
            raise ValueError(
                f"Method '{self.way.name}' needs a question after the image; an exam with "
                "shared=True has none there."
            )
        mask = torch.ones_like(found.mask) if mask is None else mask.bool()
        positions = (
            (mask.cumsum(-1) - 1).clamp(min=0) if positions is None else places.plain(positions)
        )
        visual = check_finite(given[found.mask], "the visual tokens that reach the LM")
        grids = places.grids(self.vlm, found, positions)
        before = self._made_before(self.prompt.ids, visual)
        if not before:
            self.last = []
        cells = [np.arange(rows * columns) for rows, columns in grids]
        self.sizes = []
        return _Call(
            found, self.prompt.ids, given, mask, positions, grids, given, found.index, cells,
            mask.long(), cells, before, visual,
        )  # fmt: skip

    def _left_of_prompt(self):
        """The LM's arguments for what is left of each prompt, padded on the left."""
        positions = self.call.positions
        rows, index, embeddings = self._short(self.call.given)
        self.call, (sizes,) = None, self.sizes
        positions = positions[..., rows, index]
        if not self.keep_positions:
            there = (sizes > 0).long()
            positions, self.following = (
                (there.cumsum(-1) - 1).clamp(min=0),
                there.sum(-1, keepdim=True),
            )
        self.length = sizes.shape[1]
        return self.vlm.lm_inputs(embeddings, self._mask(sizes, embeddings), positions)

    def _short(self, states, step=0):
        """Chooses, by the states (batch, length, hidden) of the prompt at the method's place; what
        is left of them.

        Gives (batch, 1) rows, (batch, short) indices into each, −1 for padding on the left, and
        (batch, short, hidden) states.
        """
        call, found, into = self.call, self.call.found, []
        made, left, orders, sizes = [], states.clone(), [], call.sizes.clone()
        sights = self._sights(states, call, step)
        in_vit = None if self.vit is None or call.before else self._chosen_in_vit(call)
        for n, at in enumerate(call.at):
            if call.before:
                made.append(call.before[step][n])
            # beams of one prompt
            elif n and all(torch.equal(each[n], each[n - 1]) for each in (call.given, found.mask)):
                made.append(made[-1])
                into.append(into[-1])
            else:
                groups = self._groups(sights(n)) if in_vit is None else in_vit[n]
                counts = call.sizes[n, at] if step else None
                made.append(self._pooled(groups, states[n, at], counts))
                into.append(_into(call.of[n], groups))
            tokens, stand, standing_for = made[-1]
            sizes[n, at] = 0
            sizes[n, at[stand]], left[n, at[stand]] = standing_for, tokens
            orders.append(sizes[n].nonzero()[:, 0])
            if not call.before:
                self._log(n, into[n], step)
        if not call.before:
            self.last.append(_Shortened(self.prompt.ids, call.visual, made))
        length = max(map(len, orders))
        index = torch.stack(
            [torch.nn.functional.pad(order, (length - len(order), 0), value=-1) for order in orders]
        )
        rows = torch.arange(len(index), device=index.device)[:, None]
        if step == 0:
            self.length = sizes.shape[1]  # for blocks before the method's place
            highest = call.positions.reshape(-1, *sizes.shape).amax((0, 2))
            self.following = highest[:, None] + 1
        sizes = sizes[rows, index].where(index >= 0, 0)
        self.sizes.append(sizes)
        if step + 1 < len(self.layers):
            self._go_on(call._replace(of=into), made, sizes, rows, index)
        return rows, index, left[rows, index]

    def _go_on(self, call, made, sizes, rows, index):
        """What is left of the prompts, on its way to the method's next place."""
        at, cells = [], []
        for n, (_, stand, _) in enumerate(made):
            at.append(torch.isin(index[n], call.at[n][stand]).nonzero()[:, 0])
            cells.append(call.cells[n][stand.cpu().numpy()])
        self.call = call._replace(
            ids=call.ids[rows, index], embeddings=call.embeddings[rows, index], mask=sizes > 0,
            at=at, cells=cells, sizes=sizes,
        )  # fmt: skip

    def _log(self, n, into, step):
        """Notes which visual tokens of the n-th prompt are left at a place."""
        log, given, kept = self.log, len(self.call.found.index[n]), int(into.max()) + 1
        ends = [*self.layers[1:], self.vlm.n_layers]
        if step == 0:
            self.kept = {} if n == 0 else self.kept
            self.kept[n] = given * self.layers[0]
        self.kept[n] += kept * (ends[step] - self.layers[step])
        if step == len(self.layers) - 1:
            log.kept.append(kept)
            log.given.append(given)
            log.on_average.append(self.kept[n] / self.vlm.n_layers)
            log.groups.append(into)

    def _sights(self, states, call, step):
        """A function that makes the `Sight` of the n-th prompt; what is costly is computed once for
        all, when it is asked for."""
        starts = call.mask.long().argmax(1).tolist()  # padding is on the left
        weights = cache(partial(self._attention, call, step))
        seen, vision_attention = self._by_second_pass(call)

        def attention(n, start, at, layer, asking=None):
            if asking is None:
                return weights(layer)[n, at].cpu().numpy()
            asking = torch.as_tensor(asking, device=at.device).reshape(-1) + start
            return weights(layer, every=True)[n, asking][:, at].mean(0).cpu().numpy()

        def sight(n):
            start, at, cells = starts[n], call.at[n], call.cells[n]
            # without what a DeepStack adds later
            width = self.vlm.unembedding.weight.shape[1]
            hidden, embeddings = (each[n, start:, :width] for each in (states, call.embeddings))
            return ways.Sight(
                hidden[at - start], call.grids[n], partial(attention, n, start, at), self.rng,
                ids=call.ids[n, start:], index=at - start, hidden=hidden,
                decode=partial(self.vlm.tokenizer.decode, skip_special_tokens=True),
                states=lambda depth: self._by_prompt(call, seen(depth))[n][cells],
                vision_attention=lambda block: (
                    self._by_prompt(call, vision_attention(block))[n][cells]
                ),
                embeddings=embeddings, block=self.layers[step], step=step, steps=len(self.layers),
                cells=cells, sizes=call.sizes[n, at].cpu().numpy(),
            )  # fmt: skip

        return sight

    @staticmethod
    def _by_prompt(call, pictures):
        """What there is for each picture, for each prompt: beams repeat the prompt, but maybe not
        its picture."""
        prompts = len(call.found.index)
        return [pictures[n * len(pictures) // prompts] for n in range(prompts)]

    def _in_vit(self, n, states, grid, step, before):
        """The groups of image n, by the ViT's states (tokens, features) at one of the method's
        places, where it has made groups `before`, or None."""
        seen, attention = self._by_second_pass()
        cells, sizes, depths = np.arange(len(states)), None, self.vit.depths
        if before is not None:
            order = np.argsort(before.stand)
            cells, sizes = before.stand[order], before.sizes[order]

        def vision_attention(block):
            here = step == 0 and block == depths[0] and self.vit.attention
            return (self.vit.attention if here else attention(block))[n][cells]

        def vision_keys(block):
            if block != depths[step] or "vision_keys" not in self.way.needs:
                raise ValueError(
                    "The ViT's keys are those of the block at the method's place (sight.block), "
                    "and the method names them among its needs ('vision_keys')."
                )
            return self.vit.keys[n][cells]

        groups = self._groups(
            ways.Sight(
                states[cells], grid, rng=self.rng, states=lambda depth: seen(depth)[n][cells],
                vision_attention=vision_attention, vision_keys=vision_keys, block=depths[step],
                step=step, steps=len(depths), cells=cells, sizes=sizes,
            )
        )  # fmt: skip
        if before is None:
            return groups
        # of groups of groups, those of the picture's tokens
        of = np.where(before.of >= 0, groups.of[np.argsort(order)[before.of]], -1)
        return _Groups(of, cells[groups.stand], np.bincount(of[of >= 0]))

    def _chosen_in_vit(self, call):
        """The groups of each prompt's picture, which the ViT is past."""
        if self.vit.last is None:
            raise ValueError(NOT_SHOWN.format("A method in the ViT"))
        self._check_shown(self.vit.last, pixels_shown(*self.shown), call)
        return self._by_prompt(call, self.vit.groups)

    def _by_second_pass(self, call=None):
        """Two functions: of a depth, for each image (tokens, features) the ViT's states; of a
        block, for each image (tokens,) how much each is attended to. Of what the ViT was shown
        last.

        Args:
            call: the prompts, to see that the LM is given these pictures; or None.
        """
        again = partial(self._second_pass, self.shown, call)

        @cache
        def states(depth):
            check_range("depth", depth, self.vlm.last_depth)
            return again(depth)

        @cache
        def attention(block):
            blocks, by_image, m = numbered(self.vlm, None, [block]), [], self.vlm.adapter.merge

            def keep(grid, extra, weights):
                """Of one image (heads, tokens, tokens), at once, so that not all are in memory."""
                by_image.append(received(weights, extra, grid, m))

            again(block, blocks, keep)
            return by_image

        return states, attention

    def _second_pass(self, shown, call, depth, blocks=None, keep: Any = None):
        """For each image (tokens, features) the ViT's states after `depth` blocks, of what it was
        shown last; on the way keep(grid, extra, weights) is given the attention of `blocks`."""
        if shown is None:
            raise ValueError(NOT_SHOWN.format("A choice by what is in the ViT"))
        (args, named), adapter = shown, self.vlm.adapter
        pixels, grids = pixels_shown(args, named), iter(adapter.vit_grids(args, named))
        wanted = [depth] if call is None else [depth, self.vlm.last_depth]
        with ExitStack() as stack:
            if blocks:
                extra = stack.enter_context(
                    vit_tapped(
                        self.vlm, args, named, blocks,
                        lambda _, weights: keep(next(grids), extra, weights),
                    )
                )  # fmt: skip
            self.looking = True
            stack.callback(setattr, self, "looking", False)
            state, *last = residual_stream(
                adapter.vision, self.vlm.vision_blocks, wanted, *args, what="ViT depth", **named
            )
        if last:
            self._check_shown(last[0], pixels, call)
        return adapter.patches(state, pixels)

    def _check_shown(self, state, pixels, call):
        """Refuse visual tokens of other pictures than those that left this last state in the
        ViT."""
        visual = call.visual
        # of a DeepStack, the first part
        own = torch.cat(self._by_prompt(call, self.vlm.adapter.connect(state, pixels))).to(visual)
        visual = visual[:, : own.shape[1]]
        near = 1e-3 if visual.dtype in (torch.float32, torch.float64) else 5e-2
        if own.shape != visual.shape or (own - visual).abs().max() > near * visual.abs().max():
            raise ValueError(
                "The pictures that the ViT saw last are not those of this prompt: run the model "
                "on the pictures."
            )

    def _made_before(self, ids, visual):
        """What was made of these prompts, if they are those of last time and begun answers: one is
        written without a cache."""
        if len(self.last) < len(self.layers):
            return None
        length = self.last[0].ids.shape[1]
        grown = ids.shape[1] > length and torch.equal(ids[:, :length], self.last[0].ids)
        same = grown and torch.equal(visual, self.last[0].visual)
        return [each.made for each in self.last] if same else None

    def _chosen(self, sight):
        """The way's groups, checked, as a `Merge`."""
        given, n = self.way(sight), len(sight.tokens)
        given = given if isinstance(given, ways.Merge) else ways.Merge(given)
        chosen = np.asarray(given.groups)
        if self.most > n and sight.step == 0:
            warnings.warn(
                f"Method '{self.way.name}' was asked to keep {self.most} tokens of an image that "
                f"has {n}: it keeps them all.",
                stacklevel=2,
            )
        if chosen.shape != (n,) or not np.issubdtype(chosen.dtype, np.integer):
            raise ValueError(
                f"A way of choosing gives a whole number for each of {n} tokens, not "
                f"{chosen.dtype} {chosen.shape}."
            )
        if (chosen < 0).all():
            if not self.warned:
                self.warned = True
                warnings.warn(
                    "Every visual token of an image was to be dropped; the middle one was kept.",
                    stacklevel=2,
                )
            chosen = np.full(n, -1)
            middle = n // 2 + sight.grid[1] // 2 * (sight.grid[0] % 2 == 0)
            chosen[middle if len(sight.cells) == sight.grid[0] * sight.grid[1] else n // 2] = 0
            given = ways.Merge(chosen)
        weights = given.weights
        if weights is not None:
            weights = np.asarray(weights, float)
            if weights.shape != (n,) or not (np.isfinite(weights) & (weights > 0)).all():
                raise ValueError(
                    f"Weights in a mean are {n} finite numbers above zero, one a token; method "
                    f"'{self.way.name}' gave {weights.shape}, from {np.min(weights):g}."
                )
        return ways.Merge(chosen, weights, given.centres)

    def _groups(self, sight):
        """The way's groups, checked, and whose place each takes, as `_Groups`."""
        merge = self._chosen(sight)
        chosen, weights = merge.groups, merge.weights
        members = np.flatnonzero(chosen >= 0)
        _, group, sizes = np.unique(chosen[members], return_inverse=True, return_counts=True)
        cost = np.zeros(len(members))  # of equals, the first
        if self.pool == "random":
            cost = self.rng.random(len(members))
        if self.pool == "mean" and merge.centres is not None:
            cost = -np.asarray(merge.centres, float)[members]
        elif self.pool == "mean":
            for axis in np.unravel_index(sight.cells[members], sight.grid):
                cost += (axis - (np.bincount(group, axis) / sizes)[group]) ** 2
        of = np.full(len(chosen), -1)
        of[members] = group
        stand = members[np.lexsort((cost.round(6), group))[np.cumsum(sizes) - sizes]]
        return _Groups(of, stand, sizes, weights)

    def _pooled(self, groups, given, counts=None):
        """(kept, width) what goes on of `given` (tokens, width) for each group, (kept,) whose place
        it takes, in raster order, and (kept,) for how many tokens it stands.

        counts: (tokens,) for how many each of `given` stands; one each by default.
        """
        of, stand, _, weights = groups
        on, members = given.device, np.flatnonzero(of >= 0)
        each = np.ones(len(of)) if counts is None else counts.cpu().numpy()
        sizes = np.bincount(of[members], each[members]).round().astype(int)
        if self.pool == "mean":
            share = np.zeros((len(stand), len(of)))
            share[of[members], members] = (each if weights is None else each * weights)[members]
            share = torch.from_numpy((share / share.sum(1, keepdims=True)).astype(np.float32))
            tokens = (share.to(on) @ given.float()).to(given.dtype)
        else:
            tokens = given[torch.from_numpy(stand).to(on)]
        raster = torch.from_numpy(np.argsort(stand))
        stand, sizes = (torch.from_numpy(part)[raster].to(on) for part in (stand, sizes))
        return tokens[raster.to(on)], stand, sizes

    def _mask(self, sizes, given):
        """(batch, length) what is no padding; with lengths kept (batch, 1, new, length) what is
        added to attention logits."""
        return self._added(sizes, given) if self.keep_lengths else (sizes > 0).long()

    def _added(self, sizes, given):
        """(batch, 1, new, length) what is added to attention logits: never for what comes later or
        is padding."""
        new, length = given.shape[1], sizes.shape[1]
        never = torch.finfo(given.dtype).min
        later = torch.ones(new, length, dtype=torch.bool, device=given.device).triu(
            length - new + 1
        )
        counted = sizes.clamp(min=1) if self.keep_lengths else torch.ones_like(sizes)
        weights = counted.log().to(given.dtype)[:, None, None]
        return weights.expand(-1, 1, new, -1).masked_fill(
            later | (sizes == 0)[:, None, None], never
        )

    def _attention(self, call, step, layer, every=False):
        """(batch, length) attention of the last token in LM block `layer` (from 1), on average over
        heads: as the block ran, or by a pass of its own.

        every: (batch, length, length), that of every token.
        """
        if layer < 1:
            raise ValueError("The layer of attention is counted from 1, the first block of the LM.")
        if call.found.mask[:, -1].any():
            raise ValueError(
                "A choice by attention needs a question after the image; an exam with "
                "shared=True has none there."
            )
        if layer in self.seen and layer == self.layers[step]:
            return self.seen[layer] if every else self.seen[layer][:, -1]
        if step:
            raise ValueError(
                "Where tokens are gone already, attention is that of the block at the method's "
                f"place (sight.block, here {self.layers[step]}), not of block {layer}."
            )
        kept, config = [], self.vlm.lm.config
        usual = config._attn_implementation
        self.looking = True
        # others do not let their weights be worked out
        config._attn_implementation = usual if usual in USUAL else "sdpa"
        try:
            with tapped([(self.vlm.lm_layers[layer - 1], Tap(take=kept.append))]):
                self.vlm.lm_hidden(call.given, call.mask.long(), call.positions, layer)
        finally:
            self.looking, config._attn_implementation = False, usual
        weights = kept[0] if every else kept[0][:, :, -1]
        return check_finite(weights.mean(1), f"the attention in LM block {layer}")
