"""What an adapter's members give, in shape, and whether they agree on where a patch is."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..files import first_line
from ..finite import NotFinite
from ..hooks import residual_stream
from ..rope.projections import projected
from .forward import Found, listen

if TYPE_CHECKING:
    from ..models import VLM

MOVED = 0.25  # visual tokens that what is shown may be from where `viewed` says
VIEWED = "`adapter.viewed`, whose part is how pictures are resized, cropped and padded."
PAINTED = 0.8  # of the change that a painted cell makes, its own token holds at least


# -- shapes ----------------------------------------------------------------------------------------


def shapes(vlm: "VLM", images: list, questions: list[str]) -> Found:
    """Do the adapter's methods give what `Adapter` says, for two images at once?"""
    adapter, inputs = vlm.adapter, vlm.prepare(images, questions)
    args, named = adapter.vision_arguments(inputs)
    depths = [*adapter.extra_depths, adapter.depth]
    *deeper, state = residual_stream(adapter.vision, vlm.vision_blocks, depths, *args, **named)
    grids, m, width = adapter.grids(inputs), adapter.merge, vlm.unembedding.weight.shape[1]
    tokens = [rows * columns for rows, columns in grids]
    patches = [(rows * m, columns * m) for rows, columns in grids]
    maps = [torch.zeros(grid, dtype=torch.long, device=vlm.device) for grid in patches]
    batch, length = inputs["input_ids"].shape
    places = [(batch, length), (3, batch, length)]

    def sizes(tensors: list[Tensor]) -> list[tuple[int, ...]]:
        return [tuple(tensor.shape) for tensor in tensors]

    due: dict[str, tuple[Callable[[], Any], list]] = {  # what a member gives; what it may be
        "vit_grids": (lambda: [*map(tuple, adapter.vit_grids(args, named))], [patches]),
        "in_vit": (lambda: tuple(adapter.in_vit(maps).shape), [tuple(state.shape[:-1])]),
        "patch_positions": (
            lambda: tuple(adapter.patch_positions(inputs).shape),
            [(tokens[0] * m * m, 2)],
        ),
        "patches": (
            lambda: sizes(adapter.patches(state, inputs)),
            [[(n, m * m * state.shape[-1]) for n in tokens]],
        ),
        "connect": (
            lambda: sizes(adapter.connect(state, inputs)),
            [[(adapter.leading + n, width) for n in tokens]],
        ),
        "position_ids": (lambda: tuple(adapter.position_ids(inputs).shape), places),
        "lm_axes": (
            lambda: tuple(adapter.lm_axes().shape),
            [tuple(vlm.lm.rotary_emb.inv_freq.shape)],
        ),
        "pick": (lambda: adapter.grids(adapter.pick(vlm._pixels(images), [1])), [grids[1:]]),
        "seen": (lambda: isinstance(vlm.seen(images[0]), Image.Image), [True]),
    }
    for depth, extra in zip(adapter.extra_depths, deeper):
        due[f"connect_extra(…, {depth})"] = (
            lambda extra=extra, depth=depth: sizes(adapter.connect_extra(extra, inputs, depth)),
            [[(n, width) for n in tokens]],
        )
    due |= {  # these run more than the member alone
        "pack": (lambda: _packs(vlm, vlm.embed(inputs)), [True]),
        "vision_heads": (lambda: _vision_heads(vlm, inputs), [True]),
        "lm_heads": (lambda: _lm_heads(vlm, inputs), [True]),
    }
    for member, (give, may_be) in due.items():
        try:
            value = give()
        except NotFinite:
            raise
        except Exception as error:  # whatever a mistake in an adapter may raise
            return f"`adapter.{member}` fails: {type(error).__name__}: {first_line(error)}", ""
        if value not in may_be:
            is_due = " or ".join(map(str, may_be))
            what = "gives what does not fit" if may_be == [True] else f"gives {value}, not {is_due}"
            return f"`adapter.{member}` {what}, for images of {grids} visual tokens.", ""
    return "yes", f"{len(due)} members"


def _packs(vlm: "VLM", embeddings: Tensor) -> bool:
    """Is `unpack` undone by `pack`?"""
    return torch.equal(vlm.adapter.pack(vlm.adapter.unpack(embeddings)), embeddings)


def _vision_heads(vlm: "VLM", inputs: dict) -> bool:
    """Are queries, keys and values of the ViT alike in shape, for all its blocks that run?"""
    projections = [vlm.adapter.vision_heads(block) for block in vlm.vision_blocks[: vlm.last_depth]]
    q, k, v = projected(projections, lambda: vlm.visual(inputs, [vlm.last_depth]))
    return q.shape == k.shape == v.shape


def _lm_heads(vlm: "VLM", inputs: dict) -> bool:
    """Are there as many queries as the LM has heads, and keys and values for them to share?"""
    projections, mask = (
        [vlm.adapter.lm_heads(block) for block in vlm.lm_layers],
        inputs["attention_mask"],
    )
    positions = vlm.position_ids(inputs)
    q, k, v = projected(projections, lambda: vlm.lm_hidden(vlm.embed(inputs), mask, positions))
    heads = vlm.lm.config.num_attention_heads
    return q.shape[1] == heads and q[:, : k.shape[1]].shape == k.shape == v.shape


# -- places ----------------------------------------------------------------------------------------


def corners(vlm: "VLM", question: str) -> Found:
    """A picture whose corner changes: what sees the change, and where?"""
    plain = Image.new("RGB", (336, 336), (90, 90, 90))
    for _ in range(2):  # the size that is kept as it is
        plain = vlm.seen(plain)
    rows, columns = vlm.patch_grid(plain)
    reading = {
        "`adapter.patches`": vlm.vit_states,
        "`adapter.connect` (or `grids`)": vlm.visual_tokens_by_depth,
    }
    shares = []
    for name, row, column in (("upper right", 0, columns - 1), ("lower left", rows - 1, 0)):
        change = f"A change in the picture's {name} corner"
        painted = _painted(plain, row / rows, column / columns, 1 / rows, 1 / columns)
        for member, read in reading.items():
            before, after = (read(image, [0])[0] for image in (plain, painted))
            moved = (before - after).double().norm(dim=-1).reshape(rows, columns)
            shares.append((moved[row, column] / moved.sum()).item())
            if moved.argmax() != row * columns + column or shares[-1] < PAINTED:
                place = divmod(int(moved.argmax()), columns)
                where = f"read at token {place} of {rows} × {columns}"
                return f"{change} is {where}: {member}.", f"{shares[-1]:.2f}"
        change_seen = np.asarray(vlm.seen(painted), int) - np.asarray(vlm.seen(plain), int)
        change_seen = np.abs(change_seen).sum(-1)
        y, x = np.array(np.nonzero(change_seen)).mean(1) / change_seen.shape * (rows, columns)
        if (int(y), int(x)) != (row, column):
            return f"{change} is shown at row {int(y)}, column {int(x)}: `adapter.seen`.", ""
        wrong = _vit_order(vlm, plain, painted, question, row, column)
        if wrong:
            return f"{change} is looked for elsewhere among the ViT's patches: {wrong}.", ""
    if tuple(vlm.adapter.grid_at(vlm.positions(plain, question).lm)) != (rows, columns):
        wrong = "The grid that is found from positions in the LM is not that of the picture"
        return f"{wrong}: `adapter.grid_at`.", ""
    return "yes", f"{min(shares):.0%} of the change in its own token"


def viewed(vlm: "VLM") -> Found:
    """Are pictures that are no squares shown as `viewed` says?

    Red grows to the right and green downwards: a colour says where in the picture it is from.
    """
    apart = 0.0  # visual tokens
    for size in ((480, 320), (320, 480)):
        y, x = np.indices(size[::-1]) + 0.5
        ramps = np.stack([255 * x / size[0], 255 * y / size[1], 0 * x], axis=-1)
        image = Image.fromarray(ramps.astype(np.uint8))
        shown, view = np.asarray(vlm.adapter.seen(image), float), vlm.adapter.viewed(size)
        # where all is seen, any size may stand for it
        scale = np.divide(view.size, shown.shape[1::-1]) if view.whole else np.ones(2)
        start, end = np.array(view.box[:2]), np.array(view.box[2:])
        pixels = np.moveaxis(np.indices(shown.shape[:2])[::-1], 0, -1) + 0.5
        places = pixels * scale + start  # in the resized picture
        inside = ((places > 0) & (places < view.size) & (places < end)).all(-1)  # no padding
        picture = f"picture of {size[0]} × {size[1]} pixels"
        if not inside.any():
            return f"Nothing of a {picture} is in the box of {VIEWED}", ""
        token = (end - start) / vlm.patch_grid(image)[::-1]
        moved = np.abs(shown[..., :2] / 255 * view.size - places) / token
        apart = max(apart, moved[inside].max())
        if apart > MOVED:
            return f"A {picture} is not shown as said by {VIEWED}", f"{apart:.2g} visual tokens"
    return "yes", f"{apart:.2g} visual tokens"


def _painted(plain: Image.Image, top: float, left: float, high: float, wide: float) -> Image.Image:
    """A copy with a red spot within a cell, whose place and size are shares of the picture's."""
    painted = plain.copy()
    left, right = (round((left + share * wide) * plain.width) for share in (0.2, 0.8))
    top, bottom = (round((top + share * high) * plain.height) for share in (0.2, 0.8))
    painted.paste((250, 20, 20), (left, top, right, bottom))
    return painted


def _vit_order(vlm, plain, painted, question: str, row: int, column: int) -> str | None:
    """Which member of the adapter takes the changed patches to be elsewhere, if any."""
    states = []
    for image in (plain, painted):
        with ExitStack() as stack:
            listen(stack, vlm.vision_blocks, first_states := [])
            inputs = vlm.prepare(image, question)
            vlm.visual(inputs, [vlm.last_depth])
        states.append(first_states[0].flatten(0, -2))
    change = (states[0] - states[1]).double().norm(dim=-1).cpu()
    (rows, columns), m = vlm.patch_grid(plain), vlm.adapter.merge
    numbers = torch.arange(rows * m * columns * m).reshape(rows * m, columns * m)
    order = vlm.adapter.in_vit([numbers.to(vlm.device)]).flatten().cpu()
    y, x = divmod(int(order[change.argmax()]), columns * m)
    if (y // m, x // m) != (row, column):
        return "`adapter.in_vit`"
    y, x = vlm.adapter.patch_positions(inputs)[change[order >= 0].argmax()].tolist()
    return None if (y // m, x // m) == (row, column) else "`adapter.patch_positions`"
