"""Names for types that several modules take or return."""

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

# what `images.read` takes: a path, an http(s) address, the bytes of an image file, a PIL image, or an array
ImageLike = PIL.Image.Image | np.ndarray | bytes | bytearray | memoryview | str | Path
Several = list[Any] | tuple[Any, ...]  # of these: a list in gives a list out
