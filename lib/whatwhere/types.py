"""Names for types that several modules take or return."""

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

#: What `images.read` takes: a path, an address, an image file's bytes, a PIL image, or an array.
ImageLike = PIL.Image.Image | np.ndarray | bytes | bytearray | memoryview | str | Path

#: Of what one may also be given: a list in gives a list out.
Several = list[Any] | tuple[Any, ...]
