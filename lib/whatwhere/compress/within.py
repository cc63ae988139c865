"""Compression at work: the language model is given fewer visual tokens, and the model is otherwise
left as it is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch

from . import groups as ways
from . import registry, smaller
from .shortener import ONCE, Log, Shortener

if TYPE_CHECKING:
    from ..models import VLM
    from .decoder import Decoder
    from .groups import Keep, Sight

POOLS = ("mean", "first", "random")
POSITIONS = ("kept", "renumbered")
LENGTHS = ("dropped", "kept")


@contextmanager
def compressed(
    vlm: VLM,
    which: int | str | Callable[[Sight], Any],
    decoder: Decoder | None = None,
    *,
    same: int = 1,
    shape: str = "rows",
    pool: str = "mean",
    positions: str = "kept",
    lengths: str = "dropped",
    keep: Keep | None = None,
    seed: int = 0,
    marks: str = "paper",
) -> Iterator[Log]:
    """Within this context `vlm` is given fewer visual tokens, however it is run; afterwards it is
    as before, bit for bit.

    Yields a `Log`. An image that would lose all its tokens keeps the middle one, with a warning.
    Prompts of any batch and any grid, padded on the left; greedy decoding, sampling and beams, with
    the usual growing cache or without one. Equal prompts that stand next to each other, as those of
    beams do, are shortened alike. A method whose place is "LM 2" leaves the first two blocks, and
    their cache, all tokens. One whose place is "ViT 2" is asked by picture, before the prompt is
    known: equal pictures next to each other are shortened alike. The ViT's blocks from there on run
    on fewer patches; what is read between them (`vlm.vit_states`, say) has a state for every patch
    all the same, that of its group.

    Args:
        which: "rle", "rle-drop" or "rle-drop-both", the paper's methods 1, 2 and 3, by name or
            number, which need a `decoder`; "random", "grid", "tome-like", "fastv-rank" or another
            of `compress.METHODS`, which need `keep`; a `groups.Method`; or any function of a
            `groups.Sight`.
        same: for the methods, how many of two tokens' best words must be the same, in order, for
            them to be equal.
        shape: for the methods, what counts as neighbours: "rows", "raster" (runs go on into the
            next row, as in the public code) or "regions" (connected in two dimensions).
        pool: what goes on for a group: the "mean" of its tokens, at the place of the one nearest
            its middle, or its "first" or a "random" member, where it stands.
        positions: "kept", each token has the position that it had, text included; or "renumbered"
            from zero without gaps, which with M-RoPE leaves no rows and columns (as the public code
            does).
        lengths: "dropped", a token that stands for n counts once, as in the paper; or "kept", it is
            attended to like n copies of itself: log n is added to its attention logits (Token
            Merging's proportional attention). In the LM alone: within the ViT a group counts once.
        keep: for the others, how many tokens an image keeps in the end: a number, a share, or
            (at "LM 0") another way, such as `by_words(decoder, "rle")`, to be equalled image by
            image. Where an image has fewer than the number, it keeps all, with a warning.
        marks: for methods 2 and 3, what punctuation is: the "paper"'s set, "paper-in" with that
            word, or "unicode"'s (`punctuation` has them).

    Raises:
        ValueError: for a cache of fixed length; for a place that the model does not have, or where
            there is none of what the method needs; and, with a place in the ViT, for visual tokens
            that were not made within this context.
    """
    way = _way(vlm, which, decoder, same, shape, keep, marks)
    for name, value, known in (
        ("pool", pool, POOLS),
        ("positions", positions, POSITIONS),
        ("lengths", lengths, LENGTHS),
    ):
        ways.check(value, known, f"choice of {name}")
    if at_work(vlm):
        raise ValueError(ONCE)
    if way.place == smaller.PLACE:
        smaller.check_plain(way, pool, positions, lengths)
        with smaller.shown(vlm, way, Log(way)) as log:
            yield log
        return
    depths, layers = _places(vlm, way)
    own = vlm.lm.config._attn_implementation
    if lengths == "kept" and own not in ("sdpa", "eager"):
        raise ValueError(f"Lengths are kept in 'sdpa' and 'eager' attention, not in '{own}'.")
    if layers != [0]:
        _check_inside(vlm, way, positions)
    if depths:
        _check_in_vit(way)
    if "class_token" in way.needs and not _has_class_token(vlm):
        raise ValueError(
            f"Method '{way.name}' ranks patches by a class token, and the ViT of {vlm.name} has "
            "none: take a method without that need, such as 'visionzip', or a LLaVA."
        )
    shortener = Shortener(
        vlm, way, depths, layers, pool, positions == "kept", lengths == "kept", seed, keep
    )
    with ExitStack() as stack:
        shortener.attach(stack)
        yield shortener.log


def at_work(vlm: VLM, in_vit: bool = False) -> bool:
    """Is this model being given fewer visual tokens just now?

    Args:
        in_vit: from a place in its ViT on?
    """
    owners = [getattr(hook, "__self__", None) for hook in vlm.lm._forward_pre_hooks.values()]
    return any(
        isinstance(owner, Shortener)
        and not (in_vit and owner.vit is None)
        or isinstance(owner, smaller.Shown)
        for owner in owners
    )


def _way(vlm, which, decoder, same, shape, keep, marks):
    """The `Method` that is asked for."""
    if callable(which):
        if decoder is not None or keep is not None:
            raise ValueError(
                "A function of a Sight takes neither decoder nor keep: what it needs, it brings "
                "along."
            )
        return (
            which
            if isinstance(which, ways.Method)
            else ways.Method(getattr(which, "__name__", type(which).__name__), which)
        )
    name = registry.named(which)
    if name not in ways.WORDS:
        ways.check_keep(keep)
        method = registry.METHODS[name](keep)
        if callable(keep) and method.place != "LM 0":
            raise ValueError(
                f"Method '{name}' works at {method.where}, where the way that is to be equalled "
                "cannot be asked: give keep as a number of tokens, or a share."
            )
        return method
    if decoder is None or keep is not None:
        raise ValueError(
            f"Method {which} takes a decoder and no keep: the words decide how many tokens go."
        )
    return ways.by_words(decoder.check_fits(vlm), name, shape, same, marks)


def _places(vlm, way):
    """After which blocks a method shortens: a list of the ViT's, or []; and of the LM's, or [0]."""
    last, added = vlm.last_depth, len(vlm.adapter.extra_depths)
    in_vit = {f"ViT {n}": [n] for n in range(1, last + 1)}
    in_vit |= {"ViT last": [last], "ViT all": [*range(1, last + 1)]}
    in_lm = {f"LM {n}": [n] for n in range(vlm.n_layers)}
    names = [way.place] if isinstance(way.place, str) else list(way.place)
    found = {"ViT": [], "LM": []}
    for name in names:
        if name in in_vit:
            found["ViT"] += in_vit[name]
        elif (share := _share(name)) is not None:  # never before all is added, or behind the end
            least, most = max(1, added), vlm.n_layers - 1
            found["LM"].append(max(least, min(most, math.floor(share * vlm.n_layers + 0.5))))
        elif name in in_lm:
            found["LM"] += in_lm[name]
        else:
            raise ValueError(
                f"The place of method '{way.name}' is {name!r}; {vlm.name} can be given fewer "
                f"tokens from 'LM 0', what the connector gives, to 'LM {vlm.n_layers - 1}', before "
                f"the last block, and from 'ViT 1' to 'ViT {last}', what the connector reads."
            )
    depths, layers = (sorted(set(numbers)) for numbers in found.values())
    if bool(depths) == bool(layers) or (len(layers) > 1 and layers[0] == 0):
        raise ValueError(
            f"The places of method '{way.name}' are {way.where}: several places are all in the "
            "ViT, or all between blocks of the LM."
        )
    between = [layer for layer in layers if 0 < layer < added]
    if between:
        raise ValueError(
            f"{vlm.name} adds more of the picture to its visual tokens after LM blocks 1 to "
            f"{added} (DeepStack): method '{way.name}' can drop tokens at 'LM 0' or from 'LM "
            f"{added}' on, not at 'LM {between[0]}'."
        )
    return depths, layers or [0]


def _has_class_token(vlm):
    """Has its ViT a token without a place?"""
    m = vlm.adapter.merge
    return vlm.adapter.in_vit([torch.zeros(m, m, dtype=torch.long)]).numel() > m * m


def _share(name):
    """1/2 of "LM 1/2"; None for a place of another form."""
    if not isinstance(name, str) or not (found := re.fullmatch(r"LM (\d+)/(\d+)", name)):
        return None
    part, whole = map(int, found.groups())
    return part / whole if 0 < part < whole else None


def _check_in_vit(way):
    """Refuse what a method between the ViT's blocks cannot do."""
    early = [need for need in way.needs if need not in ways.IN_VIT]
    if early:
        raise ValueError(
            f"The place of method '{way.name}' is in the ViT ({way.where}), where there is none "
            f"of what it needs: {', '.join(early)}. A method there may need "
            f"{' and '.join(ways.IN_VIT)}."
        )


def _check_inside(vlm, way, positions):
    """Refuse what a method between the LM's blocks cannot do."""
    config = vlm.lm.config
    if positions != "kept":
        raise ValueError(
            f"Method '{way.name}' drops tokens at {way.where}, after they were given positions: "
            "these are kept."
        )
    sliding = set(getattr(config, "layer_types", None) or ()) - {"full_attention"}
    if config._attn_implementation not in ("sdpa", "eager") or sliding:
        kind = f"'{config._attn_implementation}'" + "".join(f", {each}" for each in sorted(sliding))
        raise ValueError(
            "Between LM blocks tokens are dropped in full 'sdpa' and 'eager' attention, not in "
            f"{kind}."
        )
