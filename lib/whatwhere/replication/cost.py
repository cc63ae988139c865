"""What an experiment takes, by arithmetic on a model's size: a guess, said before it begins.

A pass takes two operations for each parameter and token, and attention's own, at a third of a GPU's
peak; a generated word takes as long as reading all weights of the LM. No time is lost in between,
and pictures come from nowhere: on fast GPUs too kind.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image

from ..book import published

if TYPE_CHECKING:
    from ..models import VLM
    from .experiment import Cost

# (10¹² operations in half precision, 10⁹ bytes of memory) a second, from the vendor's data sheets
SPEED = {"T4": (65, 320), "A100": (312, 1555), "H200": (989, 4800)}
PICTURE = (640, 480)  # pixels of a usual photograph of COCO, and so of GQA and POPE
TEXT = 60  # tokens of a question with its template


@dataclass(frozen=True)
class Size:
    """How large a model is, and how many tokens a usual photograph is to it.

    Attributes:
        vision, language: numbers in the ViT and in the LM.
        patches, tokens: of the ViT, and visual tokens of the LM.
        widths: features of the ViT and of the LM.
        last_depth, n_layers: blocks of the ViT that the connector reads, and of the LM.
        weights: bytes.
    """

    vision: int
    language: int
    patches: int
    tokens: int
    widths: tuple[int, int]
    last_depth: int
    n_layers: int
    weights: int


def size_of(model: VLM | str) -> Size:
    """The `Size` of a model, or of one of `published.LANGUAGE` without its weights, in half
    precision."""
    if isinstance(model, str):
        return _published(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an organism's, that it knows another world
        rows, columns = model.patch_grid(Image.new("RGB", PICTURE))
    towers = (model.adapter.vision, model.lm)
    numbers = [sum(weight.numel() for weight in tower.parameters()) for tower in towers]
    return Size(
        numbers[0], numbers[1], rows * columns * model.adapter.merge**2, rows * columns,
        (_width(model.model.config.vision_config), model.unembedding.weight.shape[1]),
        model.last_depth, model.n_layers, sum(w.nbytes for w in model.model.parameters()),
    )  # fmt: skip


def _published(name):
    config, numbers = published.config(name), published.parameters(name)
    vision, text = config.vision_config, config.text_config
    merge, patch = getattr(vision, "spatial_merge_size", None), _side(vision.patch_size)
    if merge:  # which keeps a picture's own size
        rows, columns = (pixels // (patch * merge) for pixels in reversed(PICTURE))
        tokens, patches = rows * columns, rows * columns * merge**2
    else:
        patches = (_side(vision.image_size) // patch) ** 2
        tokens = patches // (4 if "Intern" in name else 1)
    depth = getattr(vision, "num_hidden_layers", None) or vision.depth
    return Size(
        numbers["vision"], numbers["language"], patches, tokens, (_width(vision), text.hidden_size),
        depth - ("llava" in name), text.num_hidden_layers, 2 * numbers["total"],
    )  # fmt: skip


def _side(pixels: Any) -> int:
    return pixels[0] if isinstance(pixels, (list, tuple)) else pixels


def _width(config: Any) -> int:
    return getattr(config, "embed_dim", config.hidden_size)


def seconds(size: Size, cost: Cost) -> dict[str, float]:
    """{GPU: seconds} for so many passes and words of a model of this size."""
    tokens = size.tokens + TEXT
    of_vit = 2 * size.vision * size.patches
    of_vit += 4 * size.patches**2 * size.widths[0] * size.last_depth
    of_lm = 2 * size.language * tokens + 2 * tokens**2 * size.widths[1] * size.n_layers
    return {
        gpu: (cost.vit * of_vit + cost.lm * of_lm) / (peak * 1e12 / 3)
        + cost.words * 2 * size.language / (width * 1e9)
        for gpu, (peak, width) in SPEED.items()
    }
