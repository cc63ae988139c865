"""Twins: the same two things with the same pixels, one exactly five patches left of the other, and
then five to its right. Chapter 11 asks what a head makes of the difference.

    left, right = twins.of(scene)
    outputs, told = twins.placed(vlm, left)
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from .. import rope

if TYPE_CHECKING:
    from ..models import VLM
    from ..world import Scene

GRID = (16, 16)  # patches of the vision encoder of toy-qwen2vl, nine pixels each
STEPS = 5  # patches between the two things
SHIFT = 45  # the same in pixels


class Seen(NamedTuple):
    """A picture, and which patches of its two things to look at: (16, 16) booleans each."""

    scene: Scene
    satellite: np.ndarray
    nucleus: np.ndarray


def beside(scene: Scene, pixels: int) -> Scene:
    """The scene with its first thing, the satellite, so many pixels to the right of its second,
    and as near."""
    satellite, nucleus = scene.things
    satellite = replace(satellite, x=nucleus.x + pixels, y=nucleus.y)
    return replace(scene, things=(satellite, nucleus))


def of(scene: Scene) -> tuple[Seen, Seen]:
    """The scene with its satellite on the left, and on the right, of its nucleus.

    Patches are those that a thing covers entirely in both pictures: `right.satellite` is
    `left.satellite`, ten columns further right, so that the two hold the same pixels.
    """
    left, right = beside(scene, -SHIFT), beside(scene, SHIFT)
    in_left, in_right = left.cover(*GRID) == 1, right.cover(*GRID) == 1
    satellite = in_left[0] & np.roll(in_right[0], -2 * STEPS, axis=1)
    nucleus = in_left[1] & in_right[1]
    moved = np.roll(satellite, 2 * STEPS, axis=1)
    return Seen(left, satellite, nucleus), Seen(right, moved, nucleus)


def numbers(heads: rope.Heads, mask: np.ndarray) -> torch.Tensor:
    """(n,) numbers, in the vision encoder's own order, of the patches of a mask (rows, columns);
    row by row."""
    order = torch.zeros(mask.shape, dtype=torch.long)
    row, column = heads.at.T
    order[row, column] = torch.arange(len(heads.at))
    return order[torch.from_numpy(mask)]


def four_places(apart: torch.Tensor) -> dict[str, torch.Tensor]:
    """Displacements (…, row and column) of a satellite on the left, turned to all four places."""
    mirror = torch.tensor([1, -1])
    turned = apart.flip(-1)  # columns become rows
    return {"left": apart, "right": apart * mirror, "behind": turned, "front": turned * -mirror}


@torch.no_grad()
def placed(
    vlm: VLM, seen: Seen, patches: int | None = None
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """What the heads give to the satellite where the nucleus is placed by angle alone, with the
    queries, keys and values of one picture; all else that the satellite looks at stays.

    Args:
        seen: a picture with the satellite on the left.
        patches: so many of the nucleus are placed so; all by default.

    Returns:
        {place: (blocks, heads, satellite's patches, head size) outputs}, float64. Places are left,
        right, behind and front; "none", without the telling parts of left; and "first order", its
        change towards left to first order in these. Then the telling logits of left, (blocks,
        heads, satellite's patches, nucleus').
    """
    turning = rope.vision(vlm)
    columns = turning.axis == 1
    heads = rope.heads(vlm, seen.scene.image)
    s, n = numbers(heads, seen.satellite), numbers(heads, seen.nucleus)[:patches]
    q, k, v = (part.double() for part in (heads.q[:, :, s], heads.k, heads.v))
    scores = turning.logits(q, k, heads.at[s], heads.at)
    logits, telling = {}, {}
    for place, apart in four_places(heads.at[s][:, None] - heads.at[n]).items():
        terms = torch.stack(turning.terms(q[:, :, :, None], k[:, :, None, n], apart))
        terms = terms / turning.head_size**0.5
        logits[place], telling[place] = terms.sum((0, -1)), terms[1, ..., columns].sum(-1)
    told = telling["left"]
    logits["none"] = logits["left"] - told
    weights = {place: scores.index_copy(3, n, each).softmax(-1) for place, each in logits.items()}
    delta, plain = torch.zeros_like(scores).index_copy(3, n, told), weights["none"]
    weights["first order"] = plain * (delta - (plain * delta).sum(-1, keepdim=True))
    return {place: each @ v for place, each in weights.items()}, told


def looks_elsewhere(outputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """(blocks, heads, satellite's patches): where the nucleus gets no attention to speak of,
    wherever it is placed, so that there is no change whose direction could be measured."""
    across = (outputs["left"] - outputs["right"]).norm(dim=-1)
    along = (outputs["front"] - outputs["behind"]).norm(dim=-1)
    return torch.minimum(across, along) < 1e-6 * outputs["none"].norm(dim=-1)
