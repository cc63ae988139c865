"""Which tokens are meant, of sequences that are known only when the model runs.

`intervene.knockout` and `conditions.image_attention` ask for queries and keys; here their places
are found in each run.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from . import places
from .compress.within import at_work
from .taps import vit_order

if TYPE_CHECKING:
    from .models import VLM

NAMES = ("image", "after", "last")  # tokens of a prompt
FIXED_CACHE = (
    "Attention changed by tokens needs the usual growing cache, which holds the tokens that there "
    'are and no more: generate without cache_implementation="static", and without compiling.'
)


class Choice:
    """Some of a sequence's tokens: by a mask, by their places or by name; all of them if None."""

    def __init__(self, what: str, given: Any, names: Sequence[str] = ()):
        self.name, self.places = "all" if given is None else None, None
        self.masks: list[torch.Tensor] = []
        if given is None:
            return
        parts = (given, *(given if isinstance(given, (list, tuple)) else ()))
        if isinstance(given, str) and given in names:
            self.name = given
        elif any(getattr(part, "ndim", 0) > 1 for part in parts):
            self.masks = checked_masks(given)
        else:
            places = np.asarray(given.cpu() if torch.is_tensor(given) else given)
            if places.ndim > 1 or places.dtype.kind not in "iu" or not places.size:
                or_names = "".join(f", or {name!r}" for name in names)
                raise ValueError(
                    f"{what} are a mask of patches (rows, columns), or places of tokens, one whole "
                    f"number at least{or_names}; got {given!r}."
                )
            self.places = places.reshape(-1).tolist()

    @property
    def needs_end(self) -> bool:
        """Does it count from the prompt's end?"""
        return self.name == "last" or self.places is not None and min(self.places) < 0

    @property
    def answers(self) -> bool:
        """Are tokens that follow the prompt among them?"""
        return self.name in ("all", "after", "last")

    def among(
        self,
        length: int,
        patches: torch.Tensor,
        grid: tuple[int, int],
        n: int,
        images: int,
        visual: Any = None,
        end: Any = None,
    ) -> torch.Tensor:
        """(length,) booleans, for image `n` of so many `images` and its prompt.

        Args:
            patches: (rows × columns,) where its patches are, in raster order.
            visual: (length,) what stands for the image.
            end: the length of the prompt, after which an answer may come.
        """
        chosen = torch.zeros(length, dtype=torch.bool)
        if self.name == "all":
            chosen[:] = True
        elif self.name == "image":
            chosen[visual] = True
        elif self.name == "after":
            chosen[int(visual.nonzero()[-1]) + 1 :] = True
        elif self.name == "last":
            chosen[end - 1 :] = True
        elif self.places is not None:
            end = length if end is None else end
            for place in self.places:
                if not -end <= place < length:
                    raise ValueError(
                        f"There are {length} tokens, counted from 0, or back from −1, the last one "
                        f"of the prompt; got {place}."
                    )
                chosen[place if place >= 0 else end + place] = True
        else:
            if len(self.masks) not in (1, images):
                raise ValueError(
                    f"There are {len(self.masks)} masks for {images} images: give one for each, or "
                    "one for all."
                )
            mask = self.masks[n % len(self.masks)]
            if mask.shape != tuple(grid):
                raise other_grid(mask, grid)
            chosen[patches] = mask.flatten()
        return chosen


class PairsInViT:
    """Which of a ViT's tokens look, and at which: found anew whenever it is run."""

    def __init__(self, vlm: VLM, queries: Any, keys: Any, stack: ExitStack):
        self.vlm, self.sides = vlm, [Choice("Queries", queries), Choice("Keys", keys)]
        hook = vlm.adapter.vision.register_forward_pre_hook(self.look, with_kwargs=True)
        stack.callback(hook.remove)

    def look(self, _: Any, args: tuple, named: dict[str, Any]) -> None:
        if at_work(self.vlm, in_vit=True):
            raise ValueError(
                "Attention changed by tokens needs every patch in the ViT: leave `with "
                "compress.compressed(…)` first."
            )
        grids = self.vlm.adapter.vit_grids(args, named)
        image, token = vit_order(self.vlm.adapter, grids)
        sizes = image.bincount()
        index = token + (sizes.cumsum(0) - sizes)[image]
        self.chosen, self.done = [], {}
        for side in self.sides:
            by_image = []
            for n, (size, grid) in enumerate(zip(sizes.tolist(), grids)):
                patches = torch.arange(size - grid[0] * grid[1], size)
                by_image.append(side.among(size, patches, grid, n, len(grids)))
            self.chosen.append(torch.cat(by_image)[index])

    def pairs(self, number: int, shape: tuple[int, ...]) -> torch.Tensor:
        """(batch, queries, keys) booleans for the next part of block `number`: image or window."""
        batch, _, n, _ = shape
        start = self.done.get(number, 0)
        self.done[number] = end = start + batch * n
        queries, keys = (side[start:end].reshape(batch, n) for side in self.chosen)
        return queries[:, :, None] & keys[:, None]


class PairsInPrompt:
    """Which tokens look, and at which, while a prompt is read and while its answer is written."""

    def __init__(self, vlm: VLM, queries: Any, keys: Any, stack: ExitStack):
        self.vlm = vlm
        self.sides = [Choice("Queries", queries, NAMES), Choice("Keys", keys, NAMES)]
        self.running = places.Running(vlm)
        self.prompt: Any = None  # (batch, length) ids of the last prompt, without its answer
        self.of_prompt: Any = None  # (batch, length) which of its tokens look, and at which
        self.of_run: Any = None  # (batch, queries) and (batch, keys), of what the LM runs on
        stack.callback(self.running.attach().remove)
        hook = vlm.model.get_input_embeddings().register_forward_hook(self.read)
        stack.callback(hook.remove)
        stack.callback(vlm.lm.register_forward_pre_hook(self.look, with_kwargs=True).remove)

    def read(self, _: Any, args: tuple, output: torch.Tensor) -> None:
        """After the input embeddings: where does a prompt with an image end?"""
        ids = args[0]
        if self.running.found is not None:
            # who writes without a cache feeds the answer with its prompt, which ends where it did
            before, length = self.prompt, 0 if self.prompt is None else self.prompt.shape[1]
            grown = length and ids.shape[1] > length and torch.equal(ids[:, :length], before)
            self.prompt = before if grown else ids

    def look(self, _: Any, args: tuple, named: dict[str, Any]) -> None:
        """Before the LM: what of it is meant?"""
        cache, (batch, new) = named.get("past_key_values"), named["inputs_embeds"].shape[:2]
        past = 0 if cache is None else cache.get_seq_length()
        image_places = self.running.found
        if image_places is not None:
            if at_work(self.vlm) or not self.running.fits(named["inputs_embeds"]) or past:
                raise ValueError(
                    "Attention changed by tokens needs the whole prompt and every patch of it, "
                    "once, in an empty cache: leave `with compress.compressed(…)` first, and start "
                    "each conversation anew."
                )
            if any(side.masks for side in self.sides):
                places.check_order(self.vlm, "A mask is")
            self.of_run = self.of_prompt = self._of_prompt(image_places, named)
        elif not past or self.of_prompt is None:  # a text without an image
            self.of_run = None
        else:
            length = self.of_prompt[0].shape[1]
            times = batch // len(self.of_prompt[0])  # a cache is repeated for several ways to go on
            queries, keys = (
                torch.nn.functional.pad(chosen, (0, past + new - length), value=side.answers)
                .repeat_interleave(times, 0)
                for side, chosen in zip(self.sides, self.of_prompt)
            )  # fmt: skip
            self.of_run = queries[:, past:], keys

    def _of_prompt(self, image_places, named):
        mask = named.get("attention_mask")
        if mask is not None and (not torch.is_tensor(mask) or mask.ndim != 2):
            raise ValueError(FIXED_CACHE)
        image, patches = image_places.mask.cpu(), image_places.patches.cpu()
        real = torch.ones_like(image) if mask is None else mask.bool().cpu()
        if any(side.needs_end for side in self.sides) and image[:, -1].any():
            raise ValueError(
                "These prompts end with the image (as those of an exam with shared=True do), so "
                "that none has a last token."
            )
        grids = places.grids(self.vlm, image_places, places.plain(named.get("position_ids")))
        chosen = [torch.zeros_like(image) for _ in self.sides]
        for n, (tokens, grid) in enumerate(zip(real, grids)):  # without padding
            visual, index = image[n, tokens], patches[n, tokens].nonzero()[:, 0]
            end = self.prompt.shape[1] - int((~tokens).sum())
            for side, of_side in zip(self.sides, chosen):
                of_side[n, tokens] = side.among(len(visual), index, grid, n, len(real), visual, end)
        return chosen

    def pairs(self, number: int, shape: tuple[int, ...]) -> torch.Tensor | None:
        """(batch, queries, keys) booleans; None of a text without an image."""
        if self.of_run is None:
            return None
        queries, keys = self.of_run
        if (len(queries), queries.shape[1], keys.shape[1]) != (shape[0], *shape[2:]):
            raise ValueError(FIXED_CACHE)
        return queries[:, :, None] & keys[:, None]


def other_grid(mask: torch.Tensor, grid: tuple[int, int]) -> ValueError:
    """The error for a mask of other patches than there are."""
    return ValueError(
        f"This mask has {mask.shape[0]} × {mask.shape[1]} patches, and the grid here has {grid[0]} "
        f"× {grid[1]}: the ViT's patches at a depth, the visual tokens at a layer."
    )


def checked_masks(masks: Any) -> list[torch.Tensor]:
    """A list of boolean tensors (rows, columns), none of them empty."""
    many = isinstance(masks, (list, tuple)) or getattr(masks, "ndim", 0) == 3
    masks = masks if many else [masks]
    masks = [mask.cpu().numpy() if torch.is_tensor(mask) else np.asarray(mask) for mask in masks]
    if not masks:
        raise ValueError("There is no mask: say which patches are meant.")
    for n, mask in enumerate(masks):
        if mask.ndim != 2 or mask.dtype != bool:
            raise ValueError(
                "A mask is booleans (rows, columns), true where a patch is meant; got "
                f"{mask.dtype} {mask.shape}."
            )
        if not mask.any():
            raise ValueError(f"Mask {n} is true nowhere: there is no patch to change.")
    return [torch.from_numpy(mask.copy()) for mask in masks]
