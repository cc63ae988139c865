"""What an experiment takes, by arithmetic on the model's own size: a guess, said before it begins.

A pass takes two operations for each parameter and token, and attention's own, at a third of a GPU's
peak; a generated word takes as long as reading all weights of the LM. No time is lost in between,
and pictures come from nowhere: on fast GPUs too kind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..models import VLM
    from .experiment import Cost

# (10¹² operations in half precision, 10⁹ bytes of memory) a second, from the vendor's data sheets
GPUS = {"T4": (65, 320), "A100": (312, 1555), "H200": (989, 4800)}
PICTURE = (640, 480)  # pixels of a usual photograph of COCO, and so of GQA and POPE
TEXT = 60  # tokens of a question with its template
__all__ = ["GPUS", "PICTURE", "memory", "seconds"]


def seconds(vlm: VLM, cost: Cost) -> dict[str, float]:
    """{GPU: seconds} for so many passes and words of this model."""
    import numpy as np

    rows, columns = vlm.patch_grid(np.zeros((PICTURE[1], PICTURE[0], 3), np.uint8))
    visual, patches = rows * columns, rows * columns * vlm.adapter.merge**2
    sight, reading = _numbers(vlm.adapter.vision), _numbers(vlm.lm)
    width = vlm.unembedding.weight.shape[1]
    config = vlm.model.config.vision_config
    own = getattr(config, "embed_dim", config.hidden_size)
    tokens = visual + TEXT
    of_vit = 2 * sight * patches + 4 * patches**2 * own * len(vlm.vision_blocks)
    of_lm = 2 * reading * tokens + 2 * tokens**2 * width * vlm.n_layers
    return {
        gpu: (cost.vit * of_vit + cost.lm * of_lm) / (peak * 1e12 / 3)
        + cost.words * 2 * reading / (memory * 1e9)
        for gpu, (peak, memory) in GPUS.items()
    }


def memory(vlm: VLM) -> float:
    """GiB that the weights take as they are loaded; a prompt's own needs come on top."""
    return sum(weight.nbytes for weight in vlm.model.parameters()) / 2**30


def _numbers(module):
    return sum(weight.numel() for weight in module.parameters())
