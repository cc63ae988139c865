"""Where, as vectors: what things' patches hold at every place of a model.

    vectors = geometry.thing_vectors(vlm, scenes)  # {"ViT 0": (scenes, 2, features), …, "LM 4": …}
    relation = {place: of[:, 0] - of[:, 1] for place, of in vectors.items()}

Depths and layers are counted as in `models`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm

from .answers import chances
from .images import View
from .images import read as read_image
from .intervene import moved
from .places import find
from .rope import Heads, Rotary, vision
from .scenes import Scene, checked, cover
from .types import ImageLike, Several

if TYPE_CHECKING:
    from .models import VLM

# images, and numbers of their states, 1 GiB in float32, that are held at once
AT_ONCE, NUMBERS = 16, 2**28


def grids(vlm: VLM, image: ImageLike) -> tuple[tuple[int, int], tuple[int, int]]:
    """(rows, columns) of the ViT's patches and of the visual tokens of `image`: the same where no
    patches are merged."""
    rows, columns = vlm.patch_grid(image)
    return (rows * vlm.adapter.merge, columns * vlm.adapter.merge), (rows, columns)


def masks(
    scene: Scene, grid: tuple[int, int], least: float = 0.25, view: View | None = None
) -> np.ndarray:
    """(things, rows, columns) booleans: each thing's patches, of which it covers `least` and no
    other thing more.

    Args:
        view: `vlm.viewed(scene.image)`, where the model crops or pads the picture; the grid is laid
            over all of it otherwise.
    """
    shares = cover(scene, grid, view)[:-1]
    if not len(shares):
        return np.zeros((0, *grid), bool)
    return (shares >= least) & (shares.argmax(0) == np.arange(len(shares))[:, None, None])


def has_patches(vlm: VLM, scene: Scene, about: Sequence[int] = (0, 1), least: float = 0.25) -> bool:
    """Do the things `about` of a scene have patches of their own, in the ViT and as visual
    tokens?"""
    checked([scene], about)
    view = vlm.viewed(scene.image)
    return all(
        masks(scene, grid, least, view)[list(about)].any((1, 2)).all()
        for grid in set(grids(vlm, scene.image))
    )


def pairs(vlm: VLM, sets: Iterable, n: int = 100) -> list:
    """The first `n` of controlled sets in which both things have patches of their own in all
    relations.

    Args:
        sets: each with `scenes`, {relation: scene}, such as `world.controlled("B", 1000)`; no more
            are looked at than it takes.

    Raises:
        ValueError: where there are fewer.
    """
    fit, looked_at = [], 0
    for controlled in sets:
        looked_at += 1
        if all(has_patches(vlm, scene) for scene in controlled.scenes.values()):
            fit.append(controlled)
            if len(fit) == n:
                return fit
    raise ValueError(
        f"{vlm.name}'s grid is too coarse: both things have patches of their own in {len(fit)} "
        f"of {looked_at} sets, and {n} are needed."
    )


def patches(
    vlm: VLM, scenes: Iterable[Scene], thing: int, place: str, least: float = 0.25
) -> list[np.ndarray]:
    """For each scene the mask of one thing's patches on the grid of a place, as `intervene` takes
    it.

    Args:
        least: as for `masks`.
    """
    return [
        masks(scene, grid, least, view)[thing]
        for scene, grid, view in _seen(vlm, checked(scenes, [thing]), place)
    ]


def _seen(vlm, scenes, place):
    """Each scene, its grid at a place, and what of its picture is seen."""
    for scene in scenes:
        image = read_image(scene.image)
        yield scene, grids(vlm, image)[place.startswith("LM")], vlm.viewed(image)


def bare(vlm: VLM, scenes: Iterable[Scene], place: str) -> list[np.ndarray]:
    """For each scene a mask of all patches of no thing at all; padding is no ground either."""
    return [
        ~masks(scene, grid, 0.01, view).any(0) & (cover(scene, grid, view).sum(0) > 0.5)
        for scene, grid, view in _seen(vlm, checked(scenes), place)
    ]


def ground(vlm: VLM, scenes: Iterable[Scene], thing: int, place: str) -> list[np.ndarray]:
    """For each scene a mask of as many patches as `patches` gives the thing, but of no thing at
    all: a control.

    Raises:
        ValueError: for a scene that has not so many.
    """
    scenes = checked(scenes)
    masks_of_thing, free_patches = patches(vlm, scenes, thing, place), bare(vlm, scenes, place)
    for scene, free, mask in zip(scenes, free_patches, masks_of_thing):
        if free.sum() < mask.sum():
            raise ValueError(
                f"Scene {scene.id} has {mask.sum()} patches of thing {thing}, and of {mask.size} "
                f"in all only {free.sum()} of no thing: too few for this control. Leave it out, or "
                "take a larger picture."
            )
    return [
        free & (free.cumsum().reshape(free.shape) <= mask.sum())
        for free, mask in zip(free_patches, masks_of_thing)
    ]


def at(vlm: VLM, place: str) -> dict[str, int]:
    """A place as `intervene` takes it: "LM 0" is {"layer": 0}, "ViT 4" {"depth": 4}.

    Raises:
        ValueError: for a place that this model does not have.
    """
    if place not in hook_points(vlm):
        raise ValueError(
            f"{vlm.name} has the places 'ViT 0' to 'ViT {vlm.last_depth}' and 'LM 0' to "
            f"'LM {vlm.n_layers}'; got {place!r}."
        )
    tower, number = place.split()
    return {"layer" if tower == "LM" else "depth": int(number)}


def hook_points(vlm: VLM) -> list[str]:
    """Where the residual stream is read: "ViT 0" (the patch embedding) to the ViT's last depth, "LM
    0" (the connector's output) to the LM's last layer."""
    return [f"ViT {n}" for n in range(vlm.last_depth + 1)] + [
        f"LM {n}" for n in range(vlm.n_layers + 1)
    ]


@torch.no_grad()
def states(vlm: VLM, images: Several) -> Iterator[dict[str, np.ndarray]]:
    """Yields for each image {place: (rows, columns, features)}, patches in the ViT and visual
    tokens in the LM, in raster order.

    No question is asked: in the LM, visual tokens do not see what follows them.
    """
    merge = vlm.adapter.merge
    n_at_once = min((at_once(vlm, image) for image in images), default=1)
    for start in tqdm(range(0, len(images), n_at_once), desc=f"{vlm.name}, states", leave=False):
        batch = images[start : start + n_at_once]
        inputs = vlm.prepare(batch, [""] * len(batch))
        embeddings, vit_states = vlm.embed_with_states(inputs)
        hidden = vlm.lm_hidden(
            embeddings,
            inputs["attention_mask"],
            vlm.position_ids(inputs),
            list(range(vlm.n_layers + 1)),
        )
        indices = find(vlm, inputs["input_ids"]).index
        for n, (image, vit, index) in enumerate(zip(batch, vit_states, indices)):
            rows, columns = vlm.patch_grid(image)
            vit = (
                vit.reshape(len(vit), rows, columns, merge, merge, -1)
                .transpose(2, 3)
                .reshape(len(vit), rows * merge, columns * merge, -1)
            )
            lm = [layer[n, index].reshape(rows, columns, -1) for layer in hidden]
            yield dict(
                zip(hook_points(vlm), [state.float().cpu().numpy() for state in (*vit, *lm)])
            )


def at_once(vlm: VLM, image: ImageLike) -> int:
    """How many such images' states at all places are held at once: of large ones few."""
    (rows, columns), config = vlm.patch_grid(image), vlm.model.config.vision_config
    width = getattr(config, "embed_dim", config.hidden_size)
    of_vit = vlm.adapter.merge**2 * width * (vlm.last_depth + 1)
    of_lm = vlm.unembedding.weight.shape[1] * (vlm.n_layers + 1)
    return min(AT_ONCE, max(1, NUMBERS // (rows * columns * (of_vit + of_lm))))


def thing_vectors(
    vlm: VLM, scenes: Iterable[Scene], about: Sequence[int] = (0, 1), least: float = 0.25
) -> dict[str, np.ndarray]:
    """{place: (scenes, things, features)}: the mean state of the patches of the things `about`, by
    index, in each scene.

    Args:
        least: as for `masks`.

    Raises:
        ValueError: for a thing that has no patch.
    """
    scenes = checked(scenes, about)
    vectors = {place: [] for place in hook_points(vlm)}
    for scene, by_place in zip(scenes, states(vlm, [scene.image for scene in scenes])):
        view = vlm.viewed(scene.image)
        masks_by_grid = {
            grid: masks(scene, grid, least, view)
            for grid in dict.fromkeys(state.shape[:2] for state in by_place.values())
        }
        for grid, mask in masks_by_grid.items():
            for n in about:
                if not mask[n].any():
                    raise ValueError(
                        f"The {scene.things[n].category} of scene {scene.id} covers {least:.0%} "
                        f"of no patch of {grid[0]} × {grid[1]}: leave the scene out "
                        "(`geometry.has_patches`), or ask for less."
                    )
        for place, state in by_place.items():
            mask = masks_by_grid[state.shape[:2]]
            vectors[place].append([state[mask[n]].mean(0) for n in about])
    return {place: np.array(rows) for place, rows in vectors.items()}


def axis_attention(rotary: Rotary, heads: Heads, queries: Any, keys: Any) -> np.ndarray:
    """(blocks, heads, axes): how much the pairs of each axis have to say on where `queries` look
    among `keys`.

    The mean size of their part of the logits, less its mean over the keys, since what is the same
    for all keys is lost in the softmax.

    Args:
        rotary: `rope.vision` or `rope.language`.
        heads: a `rope.Heads`.
        queries, keys: indices of tokens.
    """
    by_block = []
    for q, k in zip(heads.q[:, :, queries], heads.k[:, :, keys]):
        q, k = rotary.turned(q.float(), heads.at[queries]), rotary.turned(k.float(), heads.at[keys])
        parts = (
            torch.stack(
                [
                    (q[..., rotary.axis == axis] @ k[..., rotary.axis == axis].mH).real
                    for axis in range(int(rotary.axis.max()) + 1)
                ]
            )
            / rotary.head_size**0.5
        )
        by_block.append((parts - parts.mean(-1, keepdim=True)).abs().mean((-1, -2)).T)
    return torch.stack(by_block).numpy()


def axis_sensitivity(
    vlm: VLM,
    images: Several,
    questions: Sequence[str],
    right: Sequence[str],
    wrong: Sequence[str],
    masks: Any,
    blocks: Iterable[int] | None = None,
) -> np.ndarray:
    """(questions, 2): how log P(right) − log P(wrong) grows with each row, and each column, by
    which the masked patches move.

    A derivative, by what the ViT's rotary positions say; content stays.

    Args:
        right, wrong: a word for each question.
        masks, blocks: as `intervene.moved` takes them.

    Raises:
        ValueError: for a ViT without 2-D RoPE.
    """
    vision(vlm)  # a learnt table has nothing between its places
    words = list(dict.fromkeys([*right, *wrong]))
    steps = torch.zeros(len(images), 2, device=vlm.device, requires_grad=True)
    with torch.enable_grad(), moved(vlm, masks, steps, blocks=blocks):
        log_p = chances(vlm, vlm.prepare(images, questions), words).log()
        rows = torch.arange(len(log_p))
        of_right, of_wrong = (
            log_p[rows, [words.index(word) for word in column]] for column in (right, wrong)
        )
        return torch.autograd.grad((of_right - of_wrong).sum(), steps)[0].cpu().numpy()
