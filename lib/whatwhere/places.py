"""Where the image stands in a prompt: the one place that finds it, for all that reads or changes
visual tokens.

    found = places.find(vlm, vlm.prepare(images, questions)["input_ids"])
    found.index[0]             # (tokens,): the first prompt's visual tokens, in raster order
    found.mask, found.patches  # (batch, length): with and without CLIP's class token

A language model is called with embeddings, in which an image's tokens look like any others:
`Running` notes the ids where they are embedded, so that a hook on the LM knows where the image
stands, however the model is run.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import torch

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle

    from .models import VLM


@dataclass(frozen=True, eq=False)
class Places:
    """Where each prompt of a batch holds its image; visual tokens come in raster order, whatever
    the family.

    Attributes:
        mask: (batch, length) booleans, true at every visual token.
        leading: how many of a prompt's visual tokens come before its first patch: 1 in a LLaVA that
            keeps CLIP's class token, else 0. All tensors are on the device of the ids.
    """

    mask: torch.Tensor
    leading: int = 0

    @cached_property
    def whole(self) -> list[torch.Tensor]:
        """For each prompt (leading + tokens,) indices in its sequence, what comes before the
        patches included."""
        return [row.nonzero()[:, 0] for row in self.mask]

    @cached_property
    def index(self) -> list[torch.Tensor]:
        """For each prompt (tokens,) indices in its sequence, in raster order, without what comes
        before the patches."""
        return [index[self.leading :] for index in self.whole]

    @cached_property
    def patches(self) -> torch.Tensor:
        """(batch, length) booleans: `mask` without what comes before the patches."""
        return self.mask & (self.mask.cumsum(-1) > self.leading)

    @cached_property
    def start(self) -> list[int]:
        """For each prompt the index of its first visual token, what comes before the patches
        included."""
        self.check_held()
        return [int(index[0]) for index in self.whole]

    @cached_property
    def end(self) -> list[int]:
        """For each prompt the index after its last visual token: nothing from there on can change
        what the LM makes of these."""
        self.check_held()
        return [int(index[-1]) + 1 for index in self.whole]

    def check_held(self) -> None:
        """Raises ValueError unless each prompt holds a piece of an image at least.

        Raises:
            ValueError: unless each prompt holds a piece of an image at least.
        """
        for n, index in enumerate(self.index):
            if not len(index):
                raise ValueError(
                    f"Prompt {n} of this batch holds no image, where each has to hold one."
                )

    def check(self, grids: Iterable[tuple[int, int]]) -> None:
        """Raises ValueError unless each prompt holds one whole image of its grid (rows, columns).

        Raises:
            ValueError: unless each prompt holds one whole image of its grid (rows, columns).
        """
        for n, (index, (rows, columns)) in enumerate(zip(self.index, grids)):
            if len(index) != rows * columns:
                raise ValueError(
                    f"Prompt {n} of this batch holds {len(index)} visual tokens, where one whole "
                    f"image has {rows} × {columns}: ask about one image at a time, and leave its "
                    "tokens together."
                )


def find(vlm: "VLM", ids: torch.Tensor) -> Places:
    """Where token ids (batch, length) stand for pieces of an image."""
    return Places(ids == vlm.model.config.image_token_id, vlm.adapter.leading)


class Running:
    """Where the image stands in the prompt that is about to reach the LM, however the model is run.

    `attach` hangs a hook on the input embeddings; `ids` and `found` are what it saw last.

    Attributes:
        ids: (batch, length), or None before anything was embedded.
        shuffles: what its owner deals out anew, "tokens" or "positions" (`conditions.shuffled`); or
            None.
        found: the `Places` in them; None where they hold no image, and where they are one token
            alone, which the model said itself: what is fed after the prompt of an answer has no
            image, even if it says the image's token.
    """

    shuffles: ClassVar[str | None] = None

    def __init__(self, vlm: "VLM"):
        self.vlm, self.ids, self.found = vlm, None, None

    def attach(self) -> "RemovableHandle":
        """Begin to look; the handle that is returned ends it (`remove()`)."""
        return self.vlm.model.get_input_embeddings().register_forward_hook(self._look)

    def _look(self, _, args, output):
        self.ids = args[0]
        image_places = find(self.vlm, self.ids)
        self.found = (
            image_places if image_places.mask.any() and image_places.mask.shape[1] > 1 else None
        )

    def fits(self, embeddings: torch.Tensor) -> bool:
        """Has the LM been given all of the prompt, and nothing but it?

        Args:
            embeddings: (batch, length, hidden).
        """
        return self.found is not None and embeddings.shape[:2] == self.found.mask.shape


def check_order(vlm: "VLM", what: str, *also: str) -> None:
    """Refuse to go by patches that stand elsewhere, while visual tokens are shuffled.

    Args:
        what: who goes by them: "A token map is".
        also: "positions", of who goes by their positions in the LM, too.

    Raises:
        ValueError: within `conditions.shuffled`.
    """
    for hook in vlm.lm._forward_pre_hooks.values():
        shuffles = getattr(getattr(hook, "__self__", None), "shuffles", None)
        if shuffles in ("tokens", *also):
            raise ValueError(
                f"{what} of visual tokens in their own places, and "
                f"{'they' if shuffles == 'tokens' else 'their positions'} are shuffled: leave "
                "`with conditions.shuffled(…)` first."
            )


def grids(vlm: "VLM", found: Places, positions: torch.Tensor | None) -> list[tuple[int, int]]:
    """(rows, columns) of each prompt's visual tokens, from the positions that the LM is given.

    Args:
        positions: `plain` ones, or None in a family all of whose pictures have one grid.

    Raises:
        ValueError: where a prompt holds no image, several, or a part of one (with M-RoPE: a part
            that is no rectangle, since a grid is all that positions tell).
    """
    found.check_held()
    by_prompt: list[Any] = [
        None if positions is None else positions[..., n, index]
        for n, index in enumerate(found.index)
    ]
    shapes = [(rows, columns) for rows, columns in map(vlm.adapter.grid_at, by_prompt)]
    found.check(shapes)
    return shapes


def plain(positions: torch.Tensor | None) -> torch.Tensor | None:
    """An LM's `position_ids` as `VLM.position_ids` makes them: (batch, length), or (3, batch,
    length) with M-RoPE.

    Where transformers hands the LM a fourth axis, that one counts the text, for the mask alone.
    """
    return positions[-3:] if positions is not None and positions.ndim == 3 else positions
