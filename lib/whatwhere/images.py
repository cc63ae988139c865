"""Any picture, as the RGB image a person would see in it; and how many of its pixels a model is
given."""

from __future__ import annotations

import string
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException, InvalidURL
from io import BytesIO
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.error import URLError
from urllib.parse import quote, urlsplit
from urllib.request import Request, urlopen

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .types import ImageLike

if TYPE_CHECKING:
    from .models import VLM

TIMEOUT = 20  # seconds
LARGEST = 32 * 2**20  # bytes, of a file fetched from the web
# PIL knows more, and hands one of them, EPS, to another program
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")

# the paper's bound, and that of the model cards of Qwen2-VL and Qwen2.5-VL: 1280 visual tokens
MOST_PIXELS = 1280 * 28**2

ACCEPTED = (
    "a path, an http(s) address, the bytes of an image file, a PIL image, or a numpy "
    "array (rows, columns[, 3 or 4])"
)


class View(NamedTuple):
    """What of a picture reaches the patches of a ViT: it is resized to `size`, and `box` of that is
    seen.

    Attributes:
        size: (width, height).
        box: (left, top, right, bottom) in pixels of the resized picture; where it reaches beyond
            that, the model pads.
    """

    size: tuple[int, int]
    box: tuple[int, int, int, int]

    @property
    def whole(self) -> bool:
        """Is all of the picture seen, and nothing else?"""
        return self.box == (0, 0, *self.size)

    def within(self, size: tuple[int, int]) -> tuple[float, ...]:
        """The box in pixels of the picture itself, which is of this (width, height)."""
        across, down = (side / resized for side, resized in zip(size, self.size))
        left, top, right, bottom = self.box
        return left * across, top * down, right * across, bottom * down


def read(image: ImageLike) -> Image.Image:
    """Read `image` into an RGB `PIL.Image`.

    Args:
        image: a path, an http(s) address, the bytes of an image file (as an upload gives them), a
            PIL image, or a numpy array of shape (rows, columns), (rows, columns, 3) or (rows,
            columns, 4), either uint8 or float in [0, 1]. Camera rotation (EXIF) is applied,
            transparency is laid on white, 16-bit values are scaled to 8, and of an animated file
            the first frame is taken (of a PIL image, its current one).

    Raises:
        FileNotFoundError, ConnectionError, TypeError or ValueError: each with a sentence.
    """
    if isinstance(image, Image.Image):
        return _rgb(image)
    if isinstance(image, np.ndarray):
        return _rgb(_from_array(image))
    if isinstance(image, (bytes, bytearray, memoryview)):
        if not len(image):
            raise ValueError("No bytes were given, so there is no image to read.")
        return _decode(BytesIO(bytes(image)), "the bytes given")
    if isinstance(image, str) and image.lower().startswith(("http://", "https://")):
        return _decode(BytesIO(fetch(image)), image)
    if isinstance(image, str) and "://" in image:
        raise ValueError(f"The address '{image}' is not http or https; an image is {ACCEPTED}.")
    if isinstance(image, (str, Path)):
        return _from_file(Path(image))
    raise TypeError(f"An image is {ACCEPTED}, not {_a(type(image).__name__)}.")


@contextmanager
def bounded(
    vlm: VLM, *, min_pixels: int | None = None, max_pixels: int | None = None
) -> Iterator[None]:
    """Within this context pictures have at least and at most so many pixels when they reach `vlm`;
    afterwards it is as before.

    Smaller and larger pictures are resized, sides rounded to whole visual tokens; None leaves a
    bound as it is, as far as the other allows. The paper's Qwen2-VL: `with images.bounded(vlm,
    min_pixels=256 * 28**2, max_pixels=1280 * 28**2)`.

    Raises:
        ValueError: for a model that shows all pictures at one size, and for bounds that are no
            whole numbers, smaller than one visual token, or in the wrong order.
    """
    settings, names = vlm.image_processor.__dict__, ("size", "min_pixels", "max_pixels")
    before = {name: settings[name] for name in names if name in settings}
    try:
        bound(vlm, min_pixels, max_pixels)
        yield
    finally:
        for name in names:
            settings.pop(name, None)
        settings.update(before)


def bound(vlm: VLM, min_pixels: int | None = None, max_pixels: int | None = None) -> None:
    """As `bounded`, for good."""
    least, most = (
        check_pixels(value, name)
        for value, name in ((min_pixels, "min_pixels"), (max_pixels, "max_pixels"))
    )
    area = vlm.adapter.token_area
    if area is None:
        raise ValueError(
            f"{vlm.name} shows every picture to its ViT at one size, so that its pixels cannot be "
            "bounded: leave min_pixels and max_pixels out. Of the families in whatwhere, Qwen2-VL, "
            "Qwen2.5-VL and Qwen3-VL keep a picture's own size."
        )
    for name, value in (("min_pixels", least), ("max_pixels", most)):
        if value is not None and value < area:
            raise ValueError(
                f"One visual token of {vlm.name} is {area} pixels, so that {name} is {area} at "
                f"least, not {value}."
            )
    if least is not None and most is not None and least > most:
        raise ValueError(f"min_pixels is not more than max_pixels; got {least} and {most}.")
    current = vlm.adapter.bounds() or (1, 1)
    if least is None:
        least = current[0] if most is None else min(current[0], most)
    if most is None:
        most = max(current[1], least)
    vlm.adapter.set_bounds(least, most)


def check_pixels(value: Any, name: str = "max_pixels") -> int | None:
    """A number of pixels as an int, or None for none."""
    if value is None:
        return None
    real = isinstance(value, Real) and not isinstance(value, bool)
    number: Any = value  # a Real has no order to a type checker
    if not real or not 1 <= number < float("inf") or number != int(number):
        raise ValueError(f"{name} is a whole number of pixels, such as 640 * 28**2, not {value!r}.")
    return int(number)


def _from_file(path):
    try:
        path = path.expanduser()
        exists = path.exists()
    # a name too long for a file, a folder closed to us, the home of nobody
    except (OSError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or error
        raise FileNotFoundError(
            f"There is no file '{str(path)[:200]}' that can be read here ({why})."
        ) from None
    if not exists:
        raise FileNotFoundError(f"There is no file '{path}' (looked from {Path.cwd()}).")
    if not path.is_file():
        raise ValueError(f"'{path}' is a folder; give the path of one image file.")
    if path.stat().st_size == 0:
        raise ValueError(f"The file '{path}' is empty, so there is no image to read.")
    try:
        file = path.open("rb")
    except OSError as error:
        raise ValueError(f"The file '{path}' cannot be opened ({error.strerror}).") from None
    with file:
        return _decode(file, path)


def _decode(source, name):
    with _damage_in_words(name):
        opened = Image.open(source, formats=FORMATS)
    with opened:
        return _rgb(opened, name)


@contextmanager
def _damage_in_words(name):
    """What PIL says of a broken file comes as any kind of error, at any time until its last pixel
    is there."""
    try:
        yield
    except UnidentifiedImageError:
        raise ValueError(
            f"'{name}' is not an image that can be read here; PNG, JPEG, WebP, GIF, BMP and "
            "TIFF are."
        ) from None
    except (Image.DecompressionBombError, MemoryError):
        raise ValueError(
            f"The image '{name}' has too many pixels to be opened safely; make it smaller first."
        ) from None
    except Exception as error:
        raise ValueError(f"The image '{name}' is damaged or cut short ({error}).") from None


def fetch(address: str) -> bytes:
    """The bytes at an http(s) address, at most LARGEST of them."""
    try:
        parts = urlsplit(address)
        plain = {
            name: quote(getattr(parts, name), string.punctuation, errors="replace")
            for name in ("path", "query")
        }
        request = Request(parts._replace(**plain).geturl(), headers={"User-Agent": "whatwhere"})
        with urlopen(request, timeout=TIMEOUT) as answer:
            data = answer.read(LARGEST + 1)
    except URLError as error:
        raise ConnectionError(
            f"'{address}' could not be fetched ({getattr(error, 'reason', error)}). Without a "
            "network, save the image and give its path."
        ) from None
    except (ValueError, InvalidURL) as error:
        raise ValueError(
            f"'{address}' is no address that can be asked ({error}); save the image and give "
            "its path."
        ) from None
    except (OSError, HTTPException) as error:  # a time-out or a dropped connection half-way
        raise ConnectionError(
            f"'{address}' could not be fetched ({error}); try again, or save the image and give "
            "its path."
        ) from None
    if len(data) > LARGEST:
        raise ValueError(
            f"The file at '{address}' is larger than {LARGEST // 2**20} MiB; save a smaller one "
            "and give its path."
        )
    return data


def _from_array(array):
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise ValueError(
            "An image array has shape (rows, columns), (rows, columns, 3) or (rows, columns, "
            f"4), not {array.shape}."
        )
    if 0 in array.shape:
        raise ValueError(f"The image array has shape {array.shape}: it holds no pixels.")
    if np.issubdtype(array.dtype, np.floating):
        # `not (…)` so that a nan, which compares false with everything, is refused as well
        if not (array.min() >= 0 and array.max() <= 1):
            raise ValueError(
                f"A float image array holds values in [0, 1]; this one spans {array.min():.3g} to "
                f"{array.max():.3g}. Divide by its maximum, or give uint8."
            )
        array = np.round(array * 255).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise ValueError(f"An image array is uint8 (0 … 255) or float (0 … 1), not {array.dtype}.")
    return Image.fromarray(np.ascontiguousarray(array))


def _rgb(image, name="the image given"):
    if 0 in image.size:
        raise ValueError(
            f"The image is {image.width} × {image.height} pixels: it holds nothing to look at."
        )
    if image.mode == "LAB":
        raise ValueError("The image is in LAB colour; save it as RGB first.")
    with _damage_in_words(name):
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I;16"):  # PIL's own conversion would clip at 255
            image = Image.fromarray(
                (np.arange(2**16) / 257).round().astype(np.uint8)[np.asarray(image)]
            )
        elif image.mode == "I":
            values = np.asarray(image).astype(np.float64)
            deep = values.max() > 255  # it may hold 8-bit values in 32 bits
            image = Image.fromarray(
                (values / (257 if deep else 1)).round().clip(0, 255).astype(np.uint8)
            )
        elif image.mode == "F":
            values = np.nan_to_num(np.asarray(image))
            image = Image.fromarray(
                (values * (255 if values.max() <= 1 else 1)).round().clip(0, 255).astype(np.uint8)
            )
        if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = image.convert("RGB")
    image.info.clear()  # what is left describes the file, not these pixels
    return image


def _a(noun):
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"
