"""Any picture is read as a person sees it, or refused with a sentence."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from whatwhere import images

RED, BLUE = (220, 20, 40), (20, 40, 220)


def halves(size=(40, 20)):
    """Red on the left, blue on the right."""
    image = Image.new("RGB", size, RED)
    image.paste(BLUE, (size[0] // 2, 0, *size))
    return image


def close(image, expected, tolerance=6):
    assert image.mode == "RGB"
    ours, theirs = np.asarray(image).astype(int), np.asarray(expected.convert("RGB")).astype(int)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= tolerance


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tiff", "a.webp", "a.gif", "a.jpg"])
def test_files(tmp_path, name):
    options = (
        {"quality": 100, "subsampling": 0}
        if name.endswith("jpg")
        else {"lossless": True}
        if "webp" in name
        else {}
    )
    halves().save(tmp_path / name, **options)
    close(images.read(tmp_path / name), halves(), 12)
    close(images.read(str(tmp_path / name)), halves(), 12)


def test_pil_is_read_and_not_changed():
    image = halves()
    result = images.read(image)
    close(result, image, 0)
    result.putpixel((0, 0), (0, 0, 0))
    assert image.getpixel((0, 0)) == RED


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "I", "F", "I;16"]
)
def test_modes_of_grey(mode):
    grey = Image.new("L", (6, 4), 255)
    grey.paste(0, (0, 0, 3, 4))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
        assert image.mode == "I;16"
    elif mode in ("PA", "LA"):
        image = grey.convert("LA").convert(mode)
    else:
        image = (grey if mode in "1LIF" else grey.convert("RGB")).convert(mode)
    close(images.read(image), grey)


def test_sixteen_bit_file_keeps_its_greys(tmp_path):
    values = np.array([[0, 128 * 257, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    assert np.asarray(images.read(tmp_path / "deep.png"))[0, :, 0].tolist() == [0, 128, 255]
    # nearly black, not grey
    Image.fromarray(np.full((2, 2), 200, dtype=np.uint16)).save(tmp_path / "dark.png")
    assert np.asarray(images.read(tmp_path / "dark.png")).max() == 1


def test_transparency_is_white_paper(tmp_path):
    image = halves().convert("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 20, 20))
    expected = halves()
    expected.paste("white", (0, 0, 20, 20))
    close(images.read(image), expected, 0)
    close(images.read(np.asarray(image)), expected, 0)
    palette = image.convert("P")
    palette.info["transparency"] = palette.getpixel((0, 0))
    palette.save(tmp_path / "palette.png")
    close(images.read(tmp_path / "palette.png"), expected, 60)


def test_camera_rotation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it a quarter to the right
    halves().save(tmp_path / "turned.jpg", exif=exif, quality=100, subsampling=0)
    seen = images.read(tmp_path / "turned.jpg")
    assert seen.size == (20, 40)
    close(seen, halves().rotate(-90, expand=True), 12)
    with Image.open(tmp_path / "turned.jpg") as opened:
        assert images.read(opened).size == (20, 40)


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
def test_animated_file_gives_its_first_frame(tmp_path, name):
    other = Image.new("RGB", (40, 20), (0, 200, 0))
    halves().save(
        tmp_path / name,
        save_all=True,
        append_images=[other, other],
        duration=50,
        **({"lossless": True} if "webp" in name else {}),
    )
    close(images.read(tmp_path / name), halves(), 12)


def test_arrays():
    array = np.asarray(halves())
    close(images.read(array), halves(), 0)
    close(images.read(array / 255), halves(), 0)
    close(images.read((array / 255).astype(np.float32)), halves(), 1)
    close(images.read(array[..., 0]), Image.fromarray(array[..., 0]), 0)
    close(images.read(array[:, ::-1]), Image.fromarray(array[:, ::-1].copy()), 0)
    assert images.read(np.zeros((1, 1), np.uint8)).size == (1, 1)


@pytest.mark.parametrize(
    "array, sentence",
    [
        (np.zeros((2, 4, 4, 3), np.uint8), "has shape"),
        (np.zeros((4, 4, 2), np.uint8), "has shape"),
        (np.zeros((3, 8, 9), np.uint8), "has shape"),
        (np.zeros(5, np.uint8), "has shape"),
        (np.zeros((0, 4, 3), np.uint8), "no pixels"),
        (np.zeros((4, 4), np.int64), "uint8"),
        (np.zeros((4, 4), bool), "uint8"),
        (np.full((4, 4), 255.0), r"in \[0, 1\]"),
        (np.full((4, 4), np.nan), r"in \[0, 1\]"),
        (np.full((4, 4), -0.1), r"in \[0, 1\]"),
        (np.array([["a"]]), "uint8"),
    ],
)
def test_arrays_that_are_not_images(array, sentence):
    with pytest.raises(ValueError, match=sentence):
        images.read(array)


@pytest.mark.parametrize("thing", [None, 3, {"image": 1}, [1, 2]])
def test_other_things(thing):
    with pytest.raises(TypeError, match="An image is a path, an http"):
        images.read(thing)


def test_the_bytes_of_a_file_as_an_upload_gives_them():
    file = BytesIO()
    Image.new("RGB", (4, 3), "red").save(file, "PNG")
    for data in (file.getvalue(), bytearray(file.getvalue()), memoryview(file.getvalue())):
        assert images.read(data).getpixel((0, 0)) == (255, 0, 0)
    with pytest.raises(ValueError, match="the bytes given' is not an image"):
        images.read(b"\x89PNG")
    with pytest.raises(ValueError, match="No bytes"):
        images.read(b"")


def test_bad_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file.*looked from"):
        images.read(tmp_path / "missing.png")
    with pytest.raises(ValueError, match="is a folder"):
        images.read(tmp_path)
    (tmp_path / "empty.png").write_bytes(b"")
    with pytest.raises(ValueError, match="is empty"):
        images.read(tmp_path / "empty.png")
    (tmp_path / "text.png").write_text("not an image at all")
    with pytest.raises(ValueError, match="not an image that can be read"):
        images.read(tmp_path / "text.png")
    for name in ("a" * 5000, "~nobody-of-that-name/a.png"):
        with pytest.raises(FileNotFoundError, match="no file.*that can be read here"):
            images.read(name)
    for name in ("cut.png", "cut.jpg"):
        Image.fromarray(
            np.random.default_rng(0).integers(0, 255, (90, 90, 3), dtype=np.uint8)
        ).save(tmp_path / name)
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) // 2])
        with pytest.raises(ValueError, match="damaged or cut short"):
            images.read(tmp_path / name)
    with pytest.raises(ValueError, match="0 × 5 pixels"):
        images.read(Image.new("RGB", (0, 5)))


def test_a_format_that_another_program_would_be_asked_to_read_is_refused(tmp_path):
    halves().save(tmp_path / "a.eps")
    with pytest.raises(ValueError, match="is not an image that can be read here; PNG, JPEG"):
        images.read(tmp_path / "a.eps")


def test_what_pil_says_of_a_broken_image_that_it_has_opened(tmp_path):
    halves((900, 900)).save(tmp_path / "cut.jpg")
    data = (tmp_path / "cut.jpg").read_bytes()
    with Image.open(BytesIO(data[: len(data) // 2])) as opened:
        with pytest.raises(ValueError, match="The image 'the image given' is damaged or cut short"):
            images.read(opened)


def test_bomb(tmp_path, monkeypatch):
    halves().save(tmp_path / "big.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match="too many pixels"):
        images.read(tmp_path / "big.png")


@pytest.fixture
def server(tmp_path):
    """A little web server on this machine."""
    halves().save(tmp_path / "a.png")
    files = {
        "/a.png": (tmp_path / "a.png").read_bytes(),
        "/page": b"<html>",
        "/large.png": b"x" * 5000,
    }
    files["/caf%C3%A9%20a.png?of=%C3%A9"] = files["/a.png"]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path in files else 404)
            self.end_headers()
            self.wfile.write(files.get(self.path, b""))

        def log_message(self, *_):
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()


def test_addresses(server, monkeypatch):
    close(images.read(f"{server}/a.png"), halves(), 0)
    close(images.read(f"{server}/café a.png?of=é"), halves(), 0)
    close(images.read(f"{server}/caf%C3%A9%20a.png?of=%C3%A9"), halves(), 0)
    with pytest.raises(ValueError, match="not an image"):
        images.read(f"{server}/page")
    with pytest.raises(ConnectionError, match="could not be fetched.*404|could not be fetched"):
        images.read(f"{server}/none.png")
    monkeypatch.setattr(images, "LARGEST", 1000)
    with pytest.raises(ValueError, match="larger than"):
        images.read(f"{server}/large.png")


def test_addresses_that_cannot_be():
    with pytest.raises(ConnectionError, match="Without a network, save the image"):
        images.read("http://127.0.0.1:9/a.png")  # nothing listens there
    with pytest.raises((ConnectionError, ValueError), match="could not be fetched"):
        images.read("http://nowhere.invalid/a.png")
    for address in (
        "http://[",
        "http://localhost:x/a.png",
        f"http://{'a' * 70}.invalid/",
        "http://\0",
    ):
        with pytest.raises(
            (ConnectionError, ValueError),
            match="is no address that can be asked|could not be fetched",
        ):
            images.read(address)
    for address in ("ftp://example.org/a.png", "file:///etc/hosts", "s3://bucket/a.png"):
        with pytest.raises(ValueError, match="not http or https"):
            images.read(address)
