"""Under which conditions a run asks its model: options of `benchmarks.run`, checked, set and put
into words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from numbers import Integral
from typing import TYPE_CHECKING, Any

from .. import conditions
from ..hooks import check_count

if TYPE_CHECKING:
    from ..models import VLM

# by name; what an earlier version did not write down, it did not do
NONE: dict[str, Any] = {
    "depth": None, "without_positions": None, "shuffle": None, "image_attention": None,
}  # fmt: skip
ALL = "all"
BLOCKS = re.compile(r"\d{1,4}(-\d{1,4})?([,+ ]\d{1,4}(-\d{1,4})?)*")  # "1-3,6"


def checked(
    depth: int | None = None,
    without_positions: str | int | Iterable[int] | None = None,
    shuffle: str | None = None,
    image_attention: str | None = None,
    compress: Any = None,
) -> dict[str, Any]:
    """What a run's settings say of its conditions, under the names of NONE.

    Args:
        compress: how visual tokens are compressed, which neither a shuffle nor another image
            attention goes with; or None.

    Raises:
        ValueError: for what no model can be asked under.
    """
    if depth is not None:
        check_count("depth", depth, 0)
    if shuffle is not None and shuffle not in conditions.SHUFFLES:
        raise ValueError(
            f"shuffle is {' or '.join(map(repr, conditions.SHUFFLES))}, what of the visual tokens "
            f"is shuffled; not {shuffle!r}."
        )
    if shuffle is not None and compress is not None:
        raise ValueError(
            "Visual tokens are either shuffled or compressed, since a compression goes by who is "
            "beside whom: leave out shuffle or compress."
        )
    if image_attention is not None and image_attention not in conditions.IMAGE_ATTENTION:
        raise ValueError(
            f"image_attention is {' or '.join(map(repr, conditions.IMAGE_ATTENTION))}, what visual "
            f"tokens see of each other; not {image_attention!r}."
        )
    if image_attention is not None and compress is not None:
        raise ValueError(
            "Another image attention is between all visual tokens, of which a compression drops "
            "some: leave out image_attention or compress."
        )
    return {
        "depth": None if depth is None else int(depth),
        "without_positions": _blocks(without_positions),
        "shuffle": shuffle,
        "image_attention": image_attention,
    }


def _blocks(named):
    """None, "all" or a sorted list of ViT blocks, of what `run` takes."""
    if named is None or isinstance(named, str) and named == ALL:
        return named
    if isinstance(named, str):
        if not BLOCKS.fullmatch(named):
            raise _no_blocks(named)
        ranges = [part.split("-") for part in re.split("[,+ ]", named)]
        chosen = [n for ends in ranges for n in range(int(ends[0]), int(ends[-1]) + 1)]
    else:
        chosen = list(named) if isinstance(named, Iterable) else [named]
    if not chosen or not all(_is_block(number) for number in chosen):
        raise _no_blocks(named)
    return sorted({int(number) for number in chosen})


def _is_block(number):
    return isinstance(number, Integral) and not isinstance(number, bool) and int(number) >= 1


def _no_blocks(named):
    return ValueError(
        "without_positions is 'all', or ViT blocks counted from 1, such as [1, 2, 3] or '1-3,6'; "
        f"not {named!r}."
    )


@contextmanager
def set_on(vlm: VLM, settings: dict[str, Any], seed: int) -> Iterator[None]:
    """Within this context the model is under the conditions that settings name.

    Raises:
        ValueError: for a depth or a block that this model's ViT does not have.
    """
    depth, blocks, shuffle, attention = (settings[name] for name in NONE)
    with ExitStack() as stack:
        if depth is not None:
            stack.enter_context(conditions.truncated(vlm, depth))
        if blocks is not None:
            named = None if blocks == ALL else blocks
            stack.enter_context(conditions.without_positions(vlm, named))
        if shuffle is not None:
            stack.enter_context(conditions.shuffled(vlm, shuffle, seed))
        if attention is not None:
            stack.enter_context(conditions.image_attention(vlm, attention))
        yield


def plainly(settings: dict[str, Any]) -> str:
    """In words: "ViT depth 3, no positions in ViT blocks 1, 2, shuffled tokens"; "" for none."""
    depth, blocks, shuffle, attention = (settings.get(name) for name in NONE)
    words = [] if depth is None else [f"ViT depth {depth}"]
    if blocks is not None:
        where = "the ViT" if blocks == ALL else f"ViT blocks {', '.join(map(str, blocks))}"
        words.append(f"no positions in {where}")
    if shuffle is not None:
        words.append(f"shuffled {shuffle}")
    if attention is not None:
        words.append(f"image attention {attention}")
    return ", ".join(words)


def are_settings(value: dict[str, Any]) -> bool:
    """Are these a run's conditions, as far as settings have any?"""
    depth, blocks, shuffle, attention = (value.get(name) for name in NONE)
    listed = isinstance(blocks, list) and all(_is_block(number) for number in blocks)
    return (
        (depth is None or type(depth) is int)
        and (blocks is None or blocks == ALL or listed)
        and (shuffle is None or shuffle in conditions.SHUFFLES)
        and (attention is None or attention in conditions.IMAGE_ATTENTION)
    )
