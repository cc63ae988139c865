"""Compression at work: the language model is given fewer visual tokens, and the model is otherwise left as it is.

Two hooks for as long as the context lasts: one on the LM's input embeddings, to see where the image stands in a prompt, and
one before the LM, to shorten what it is given. A later token of a generated answer finds the shortened cache, with the mask
and the positions that belong to it.
"""

import warnings
from collections import namedtuple
from contextlib import contextmanager
from functools import cache

import numpy as np
import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from ..finite import check_finite
from . import groups as ways

POOLS = ("mean", "first", "random")
POSITIONS = ("kept", "renumbered")
LENGTHS = ("dropped", "kept")
EXACT = "whatwhere_float32"  # the name of an attention that tells its weights, computed in float32 whatever the model's type is


class Log:
    """What a compression did: `kept` and `given`, numbers of visual tokens for each prompt, and the share `removed`."""

    def __init__(self):
        self.kept, self.given = [], []

    def __repr__(self):
        did = f"{len(self.kept)} prompts, {self.removed:.1%} of visual tokens removed" if self.kept else "no prompt yet"
        return f"Log({did})"

    @property
    def removed(self):
        if not self.given:
            raise ValueError("No prompt has been shortened yet: run the model inside the context first.")
        return 1 - sum(self.kept) / sum(self.given)


@contextmanager
def method(
    vlm, which, decoder=None, *, same=1, shape="rows", pool="mean", positions="kept", lengths="dropped", keep=None, seed=0,
    marks="paper",
):  # fmt: skip
    """Within this context `vlm` is given fewer visual tokens, however it is run; afterwards it is as before, bit for bit.

    which: 1, 2 or 3, the paper's methods, which need a `decoder`; "random", "grid", "similar" or "attended", the baselines,
        which need `keep`; or any function of a `groups.Sight`.
    same: for the methods, how many of two tokens' best words must be the same, in order, for them to be equal.
    shape: for the methods, what counts as neighbours: "rows", "raster" (runs go on into the next row, as in the public code)
        or "regions" (connected in two dimensions).
    pool: what goes on for a group: the "mean" of its tokens, at the place of the one nearest its middle, or its "first" or a
        "random" member, where it stands.
    positions: "kept", each token has the position that it had, text included; or "renumbered" from zero without gaps, which
        with M-RoPE leaves no rows and columns (as the public code does).
    lengths: "dropped", a token that stands for n counts once, as in the paper; or "kept", it is attended to like n copies of
        itself: log n is added to its attention logits (Token Merging's proportional attention).
    keep: for the baselines, how many tokens an image keeps: a number, a share, or another way (such as
        `by_words(decoder, 1)`), to be equalled image by image.
    marks: for methods 2 and 3, what punctuation is: the "paper"'s set, "paper-in" with that word, or "unicode"'s
        (`punctuation` has them).

    Yields a `Log`. An image that would lose all its tokens keeps the middle one, with a warning. Prompts of any batch and any
    grid, padded on the left; greedy decoding, sampling and beams, with the usual growing cache or without one. Equal prompts
    that stand next to each other, as those of beams do, are shortened alike. Raises ValueError for a cache of fixed length.
    """
    way = _way(vlm, which, decoder, same, shape, keep, marks)
    for name, value, known in (("pool", pool, POOLS), ("positions", positions, POSITIONS), ("lengths", lengths, LENGTHS)):
        ways.check(value, known, f"choice of {name}")
    if lengths == "kept" and vlm.lm.config._attn_implementation not in ("sdpa", "eager"):
        raise ValueError(f"Lengths are kept in 'sdpa' and 'eager' attention, not in '{vlm.lm.config._attn_implementation}'.")
    shortener = _Shortener(vlm, way, pool, positions == "kept", lengths == "kept", seed)
    handles = [
        vlm.model.get_input_embeddings().register_forward_hook(shortener.look),
        vlm.lm.register_forward_pre_hook(shortener.shorten, with_kwargs=True),
    ]
    try:
        yield shortener.log
    finally:
        for handle in handles:
            handle.remove()


def at_work(vlm):
    """Is this model being given fewer visual tokens just now?"""
    return any(isinstance(getattr(hook, "__self__", None), _Shortener) for hook in vlm.lm._forward_pre_hooks.values())


def _way(vlm, which, decoder, same, shape, keep, marks):
    if callable(which):
        return which
    ways.check(which, (1, 2, 3, *ways.BASELINES), "method")
    if which in ways.BASELINES:
        ways.check_keep(keep)
        return ways.BASELINES[which](keep)
    if decoder is None or keep is not None:
        raise ValueError(f"Method {which} takes a decoder and no keep: the words decide how many tokens go.")
    return ways.by_words(decoder.check_fits(vlm), which, shape, same, marks)


_Shortened = namedtuple("_Shortened", "ids visual made")  # ids of prompts, their visual tokens, and what was made of these


class _Shortener:
    """The two hooks, and what they have to remember between them and from a prompt to its answer."""

    def __init__(self, vlm, way, pool, keep_positions, keep_lengths, seed):
        self.vlm, self.way, self.pool, self.keep_positions, self.keep_lengths = vlm, way, pool, keep_positions, keep_lengths
        self.rng, self.log = np.random.default_rng(seed), Log()
        self.places = None  # (batch, length) of the prompt that is about to reach the LM
        # of the prompt in the cache: for how many tokens each stands (batch, length), 0 for padding; the next position (batch, 1)
        self.sizes = self.following = None
        self.ids = self.prompt = None  # (batch, length) what is about to reach the LM; what was shortened last, as `_Shortened`
        self.looking = self.warned = False

    def look(self, _, args, output):
        """After the input embeddings: where is the image?"""
        places = args[0] == self.vlm.model.config.image_token_id
        self.places = places if places.any() and places.shape[1] > 1 else None  # one token alone: the model said it
        self.ids = args[0]

    def shorten(self, _, args, kwargs):
        """Before the LM: a prompt with an image, or the next token of an answer to one; anything else is let through."""
        given, cached = kwargs.get("inputs_embeds"), kwargs.get("past_key_values")
        if given is not None and self.places is not None:
            given = self.vlm.adapter.pack(kwargs)
        past = 0 if cached is None else cached.get_seq_length()
        if self.looking or given is None:
            return None
        if self.places is not None:
            short = self._prompt(given, kwargs.get("attention_mask"), kwargs.get("position_ids"), past)
        elif past and self.sizes is not None:
            since = past - self.sizes.shape[1]  # tokens of the answer that are in the cache already
            times = len(given) // len(self.sizes)  # the cache may have been repeated, for several ways to go on
            sizes, following = (each.repeat_interleave(times, 0) for each in (self.sizes, self.following))
            sizes = torch.cat([sizes, sizes.new_ones(len(given), since + given.shape[1])], 1)
            positions = following + since + torch.arange(given.shape[1], device=given.device)
            short = {"attention_mask": self._mask(sizes, given), "position_ids": positions}
        else:
            return None
        return args, {**kwargs, **short, **({"cache_position": None} if "cache_position" in kwargs else {})}

    def _prompt(self, given, mask, positions, past):
        places, self.places = self.places, None
        if past or places.shape != given.shape[:2]:
            raise ValueError(
                "A compression shortens whole prompts, once, into an empty cache: leave one `with compress.method(…)` before "
                "the next, and start each conversation anew."
            )
        if mask is not None and (not torch.is_tensor(mask) or mask.ndim != 2):  # made for a cache of fixed length
            raise ValueError(
                "A compression needs the usual growing cache, whose mask is (batch, length): generate without "
                'cache_implementation="static", and without compiling.'
            )
        mask = torch.ones_like(places) if mask is None else mask.bool()
        positions = (mask.cumsum(-1) - 1).clamp(min=0) if positions is None else positions
        positions = positions[-3:] if positions.ndim == 3 else positions  # a fourth axis counts text, for the mask alone
        asked_nothing = bool(places[:, -1].any())
        attention = cache(lambda layer: self._attention(given, mask, positions, asked_nothing, layer))
        visual = check_finite(given[places], "the visual tokens that reach the LM")
        before = self._made_before(visual)
        made, embeddings, orders, sizes = [], given.clone(), [], mask.long()
        for n, own in enumerate(places):
            at = own.nonzero()[:, 0][self.vlm.adapter.leading :]
            if before:
                made.append(before[n])
            elif n and all(torch.equal(each[n], each[n - 1]) for each in (given, mask)):  # beams of one prompt
                made.append(made[-1])
            else:
                grid = self.vlm.adapter.grid_at(positions[..., n, at])
                tokens = given[n, at][:, : self.vlm.unembedding.weight.shape[1]]  # without what a DeepStack adds later
                sight = ways.Sight(tokens, grid, lambda layer, n=n, at=at: attention(layer)[n, at].cpu().numpy(), self.rng)
                made.append(self._pooled(sight, self._chosen(sight), given[n, at]))
            tokens, stand, standing_for = made[-1]
            sizes[n, at] = 0
            sizes[n, at[stand]], embeddings[n, at[stand]] = standing_for, tokens
            orders.append(sizes[n].nonzero()[:, 0])
            if not before:
                self.log.kept.append(len(stand))
                self.log.given.append(len(at))
        if not before:
            self.prompt = _Shortened(self.ids, visual, made)
        return self._padded(embeddings, orders, positions, sizes)

    def _made_before(self, visual):
        """What was made of these prompts, if they are those of last time and begun answers: one is written without a cache."""
        if self.prompt is None:
            return None
        length = self.prompt.ids.shape[1]
        grown = self.ids.shape[1] > length and torch.equal(self.ids[:, :length], self.prompt.ids)
        return self.prompt.made if grown and torch.equal(visual, self.prompt.visual) else None

    def _chosen(self, sight):
        """The way's groups, checked."""
        chosen, n = np.asarray(self.way(sight)), len(sight.tokens)
        if chosen.shape != (n,) or not np.issubdtype(chosen.dtype, np.integer):
            raise ValueError(f"A way of choosing gives a whole number for each of {n} tokens, not {chosen.dtype} {chosen.shape}.")
        if (chosen < 0).all():
            if not self.warned:
                self.warned = True
                warnings.warn("Every visual token of an image was to be dropped; the middle one was kept.", stacklevel=2)
            chosen = np.full(n, -1)
            chosen[n // 2 + sight.grid[1] // 2 * (sight.grid[0] % 2 == 0)] = 0
        return chosen

    def _pooled(self, sight, chosen, given):
        """(kept, width) what goes on of `given` (tokens, width) for each group, (kept,) whose place it takes, in raster order,
        and (kept,) its size.
        """
        members = np.flatnonzero(chosen >= 0)
        _, group, sizes = np.unique(chosen[members], return_inverse=True, return_counts=True)
        cost = np.zeros(len(members))  # of equals, the first
        if self.pool == "random":
            cost = self.rng.random(len(members))
        if self.pool == "mean":
            for axis in np.unravel_index(members, sight.grid):
                cost += (axis - (np.bincount(group, axis) / sizes)[group]) ** 2
        stand = members[np.lexsort((cost.round(6), group))[np.cumsum(sizes) - sizes]]
        on = given.device
        if self.pool == "mean":
            share = np.zeros((len(sizes), len(chosen)), np.float32)
            share[group, members] = 1 / sizes[group]
            tokens = (torch.from_numpy(share).to(on) @ given.float()).to(given.dtype)
        else:
            tokens = given[torch.from_numpy(stand).to(on)]
        raster = torch.from_numpy(np.argsort(stand))
        stand, sizes = (torch.from_numpy(each)[raster].to(on) for each in (stand, sizes))
        return tokens[raster.to(on)], stand, sizes

    def _padded(self, embeddings, orders, positions, sizes):
        """The LM's arguments for what is left of each prompt, padded on the left."""
        length = max(map(len, orders))
        index = torch.stack([torch.nn.functional.pad(order, (length - len(order), 0), value=-1) for order in orders])
        rows = torch.arange(len(index), device=index.device)[:, None]
        self.sizes = sizes[rows, index].where(index >= 0, 0)
        self.following = positions.reshape(-1, *sizes.shape).amax((0, 2))[:, None] + 1
        positions = positions[..., rows, index]
        if not self.keep_positions:
            there = (self.sizes > 0).long()
            positions, self.following = (there.cumsum(-1) - 1).clamp(min=0), there.sum(-1, keepdim=True)
        embeddings = embeddings[rows, index]
        return self.vlm.lm_inputs(embeddings, self._mask(self.sizes, embeddings), positions)

    def _mask(self, sizes, given):
        """(batch, length) what is no padding; with lengths kept (batch, 1, new, length) what is added to attention logits."""
        if not self.keep_lengths:
            return (sizes > 0).long()
        new, length = given.shape[1], sizes.shape[1]
        never = torch.finfo(given.dtype).min
        later = torch.ones(new, length, dtype=torch.bool, device=given.device).triu(length - new + 1)
        weights = sizes.clamp(min=1).log().to(given.dtype)[:, None, None]
        return weights.expand(-1, 1, new, -1).masked_fill(later | (sizes == 0)[:, None, None], never)

    def _attention(self, given, mask, positions, asked_nothing, layer):
        """(batch, length) attention of the last token in LM block `layer` (from 1), on average over heads."""
        if layer < 1:
            raise ValueError("The layer of attention is counted from 1, the first block of the LM.")
        if asked_nothing:
            raise ValueError("A choice by attention needs a question after the image; an exam with shared=True has none there.")
        config, seen = self.vlm.lm.config, []
        usual = config._attn_implementation
        hook = self.vlm.lm_layers[layer - 1].self_attn.register_forward_hook(lambda _, __, output: seen.append(output[1]))
        self.looking, config._attn_implementation = True, EXACT  # the others do not tell their weights, or overflow in float16
        try:
            self.vlm.lm_hidden(given, mask.long(), positions, layer)
        finally:
            self.looking, config._attn_implementation = False, usual
            hook.remove()
        return check_finite(seen[0][:, :, -1].mean(1), f"the attention in LM block {layer}")


def _exact(module, query, key, value, attention_mask, scaling, dropout=0.0, **named):
    """Attention as "eager" does it, but in float32 until its weights are there: (what it gives on, the weights)."""
    key, value = (each.repeat_interleave(query.shape[1] // each.shape[1], 1) for each in (key, value))
    scores = query.float() @ key.float().transpose(2, 3) * scaling
    if attention_mask is not None:  # a large score would outweigh what float16 has to hide it
        scores = scores.masked_fill(attention_mask < 0, torch.finfo(scores.dtype).min)
    weights = scores.softmax(-1)
    return (weights.to(value.dtype) @ value).transpose(1, 2).contiguous(), weights


AttentionInterface.register(EXACT, _exact)
AttentionMaskInterface.register(EXACT, eager_mask)
