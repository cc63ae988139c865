"""A linear probe as a lens: what a classifier that is told the answers can read from states.

    probed = probe(vlm, ww.world.scenes("train", 200), layer=1)
    stages.read(vlm, scenes, lens=probed)

All other lenses take their words from the model. This one is taught which words are right, so it
says what is in a state, in a straight line: a yardstick, and no reading. It is as good as its
scenes are many, and other lenses may pass it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..hooks import check_count, check_range
from ..scenes import Scene, checked, cover
from ..tokens import forms
from .maps import visual_states
from .readers import Lens, Table

if TYPE_CHECKING:
    from ..models import VLM


class Probe(Lens):
    """Multinomial logistic regression from states (…, hidden) of one LM layer to words, after Alain
    and Bengio (arXiv 1610.01644).

    Args:
        weight: (words, hidden) and `bias` (words,), of states less `mean` (hidden,), divided by
            `scale` (hidden,).
        words: (words,) what it can say.
    """

    name = "linear probe"

    def __init__(
        self,
        vlm: VLM,
        layer: int,
        words: np.ndarray,
        weight: torch.Tensor,
        bias: torch.Tensor,
        mean: torch.Tensor,
        scale: torch.Tensor,
    ):
        super().__init__(vlm)
        self.words, self.tokenizer = words, None
        self.layer, self.layers = layer, (layer,)
        self.mean, self.scale, self._table = mean, scale, Table(weight, bias)

    def prepared(self, hidden: torch.Tensor, layer: int) -> torch.Tensor:
        return (hidden.to(self.mean) - self.mean) / self.scale

    def table(self, layer: int) -> Table:
        return self._table

    def limited(self, words: Iterable[str]) -> Lens:
        """As `Lens.limited`, but words that it was not taught are left out, with a warning: it
        never says them, limited or not."""
        words = list(dict.fromkeys(words))
        untaught = forms(self.words, words, self.tokenizer).missing
        taught = [word for word in words if word not in untaught]
        if untaught and taught:
            warnings.warn(
                f"This {self.name} never says {', '.join(map(repr, untaught))}: no patch of its "
                "training scenes shows that. Give it more scenes if it should.",
                stacklevel=2,
            )
        return super().limited(taught or words)


def probe(
    vlm: VLM,
    scenes: Iterable[Scene],
    layer: int | None = None,
    depth: int | None = None,
    *,
    most: int = 6000,
    seed: int = 0,
) -> Probe:
    """A `Probe` of the visual tokens of scenes whose truth is known.

    Each patch that one thing covers by half or more is an example of every word of that thing; a
    patch of the ground, of the scene's `background` where it names one.

    Args:
        scenes: of one patch grid.
        layer: the LM layer, `vlm.lens_layer` by default.
        depth: the ViT depth, the last by default.
        most: of more patches than this, so many are drawn at random.
        seed: of that draw.

    Raises:
        ValueError: for scenes with fewer than two words between them.
    """
    from sklearn.linear_model import LogisticRegression

    check_count("most", most)
    scenes, layer = checked(scenes), vlm.lens_layer if layer is None else layer
    check_range("layer", layer, vlm.n_layers)
    depth = vlm.last_depth if depth is None else depth
    states, words = [], []
    images = [scene.image for scene in scenes]
    found = visual_states(vlm, images, "", layer, [depth])
    per_image = (
        (image_states[0], grid) for _, grid, batch in found for image_states in batch.float().cpu()
    )
    for scene, (of_scene, grid) in zip(scenes, per_image):
        shares = cover(scene, grid, vlm.viewed(scene.image)).reshape(len(scene.things) + 1, -1)
        ground = getattr(scene, "background", None)
        of_thing = [*(tuple(thing.words) for thing in scene.things), (ground,) if ground else ()]
        for patch in np.flatnonzero(shares.max(0) >= 0.5):
            if of_thing[shares[:, patch].argmax()]:
                states.append(of_scene[patch])
                words.append(of_thing[shares[:, patch].argmax()])
    chosen = np.random.default_rng(seed).permutation(len(states))[:most]
    # a patch with three words is three examples
    examples = [(states[i], word.lower()) for i in chosen for word in words[i]]
    if len({word for _, word in examples}) < 2:
        raise ValueError("A probe learns to tell words apart: give scenes with two at least.")
    x = torch.stack([state for state, _ in examples])
    mean, scale = x.mean(0), x.std(0).clamp(min=1e-6)
    fitted: Any = LogisticRegression(C=0.1, tol=1e-3, max_iter=1000).fit(
        ((x - mean) / scale).numpy(), [word for _, word in examples]
    )
    weight, bias = (torch.from_numpy(part).float() for part in (fitted.coef_, fitted.intercept_))
    if len(weight) == 1:  # of two words, scikit-learn keeps the second's
        weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
    parts = [part.to(vlm.device) for part in (weight, bias, mean, scale)]
    return Probe(vlm, layer, np.array(fitted.classes_, dtype=object), *parts)
