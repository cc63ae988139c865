"""From what an image processor gives back to a picture."""

import numpy as np
from PIL import Image


def picture(values: np.ndarray) -> Image.Image:
    """(3, height, width), 0 … 255, as a PIL image."""
    return Image.fromarray(values.transpose(1, 2, 0).round().clip(0, 255).astype(np.uint8))
