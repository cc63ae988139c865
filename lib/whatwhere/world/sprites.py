"""How things look: silhouettes, colours, textures, backgrounds, letters.

Categories share colours and textures, so one patch of an object rarely gives its category away;
the silhouette does, and a silhouette spans several patches.
"""

from functools import cache, lru_cache

import numpy as np
from PIL import Image, ImageDraw

SIZE = 144  # pixels; the organisms' image side

PORTABLE = (
    "apple",
    "boot",
    "bottle",
    "bowl",
    "candle",
    "fish",
    "hat",
    "house",
    "key",
    "lamp",
    "mug",
    "star",
)
STANDS = ("stool", "table")
CATEGORIES = (*PORTABLE, *STANDS, "sign")
COLOURS = {
    "red": (205, 40, 40), "orange": (240, 135, 25), "yellow": (242, 222, 55),
    "green": (40, 150, 65), "blue": (40, 85, 205), "purple": (125, 55, 165),
    "pink": (243, 150, 190), "white": (242, 242, 242),
}  # fmt: skip
TEXTURES = ("plain", "striped", "dotted", "checked")
BACKGROUNDS = ("brick", "grass", "sand", "snow", "water", "wood")
# no "a" and no "i": on their own they would be words of a question
CHARACTERS = tuple("cehklntvxz")

# Five by seven dots a letter, a row to a string.
_GLYPHS = {
    "c": (".###.", "#...#", "#....", "#....", "#....", "#...#", ".###."),
    "e": ("#####", "#....", "#....", "####.", "#....", "#....", "#####"),
    "h": ("#...#", "#...#", "#...#", "#####", "#...#", "#...#", "#...#"),
    "k": ("#...#", "#..#.", "#.#..", "##...", "#.#..", "#..#.", "#...#"),
    "l": ("#....", "#....", "#....", "#....", "#....", "#....", "#####"),
    "n": ("#...#", "##..#", "##..#", "#.#.#", "#..##", "#..##", "#...#"),
    "t": ("#####", "..#..", "..#..", "..#..", "..#..", "..#..", "..#.."),
    "v": ("#...#", "#...#", "#...#", "#...#", ".#.#.", ".#.#.", "..#.."),
    "x": ("#...#", "#...#", ".#.#.", "..#..", ".#.#.", "#...#", "#...#"),
    "z": ("#####", "....#", "...#.", "..#..", ".#...", "#....", "#####"),
}
DOT, PITCH = 3, 18  # pixels a dot, pixels from one letter to the next
BOARD = (2 * PITCH + 4, 7 * DOT + 6)  # width and height of a sign's board; its post adds 10 pixels
_POST = 10


@cache
def _silhouette(category):
    """Draw a category on a 400 x 400 canvas, in units of a hundredth of its side."""
    canvas = Image.new("L", (400, 400))
    pen = ImageDraw.Draw(canvas)

    def at(*values):
        return [4 * v for v in values]

    def polygon(*points):
        pen.polygon([(4 * x, 4 * y) for x, y in points], fill=255)

    def box(*b):
        pen.rectangle(at(*b), fill=255)

    def oval(*b):
        pen.ellipse(at(*b), fill=255)

    def ring(b, width):
        pen.ellipse(at(*b), outline=255, width=4 * width)

    match category:
        case "apple":
            oval(6, 26, 62, 98)
            oval(38, 26, 94, 98)
            polygon((46, 32), (54, 32), (66, 4), (56, 2))
        case "boot":
            polygon((18, 3), (56, 3), (56, 58), (92, 72), (97, 97), (18, 97))
        case "bottle":
            box(30, 42, 70, 98)
            box(42, 2, 58, 30)
            polygon((42, 28), (58, 28), (70, 44), (30, 44))
        case "bowl":
            pen.pieslice(at(2, -34, 98, 90), 0, 180, fill=255)
            box(32, 86, 68, 96)
        case "candle":
            box(36, 40, 64, 98)
            oval(40, 3, 60, 36)
            box(16, 88, 84, 98)
        case "fish":
            oval(2, 24, 76, 80)
            polygon((60, 52), (98, 20), (98, 84))
        case "hat":
            oval(1, 68, 99, 96)
            box(24, 18, 76, 84)
        case "house":
            polygon((50, 3), (98, 48), (2, 48))
            box(14, 46, 86, 97)
        case "key":
            ring((2, 28, 46, 72), 11)
            box(44, 44, 98, 56)
            box(70, 54, 79, 74)
            box(88, 54, 97, 74)
        case "lamp":
            polygon((30, 3), (70, 3), (92, 50), (8, 50))
            box(45, 50, 55, 90)
            box(26, 87, 74, 97)
        case "mug":
            box(12, 16, 66, 97)
            ring((50, 30, 94, 80), 10)
        case "star":
            turn = np.pi * (np.arange(10) / 5 - 0.5)
            far = np.where(np.arange(10) % 2 == 0, 50, 20)
            polygon(*zip(50 + far * np.cos(turn), 52 + far * np.sin(turn), strict=True))
        case "stool":
            oval(2, 14, 98, 40)
            polygon((16, 34), (27, 34), (14, 98), (3, 98))
            polygon((73, 34), (84, 34), (97, 98), (86, 98))
        case "table":
            box(0, 14, 100, 30)
            box(5, 30, 16, 98)
            box(84, 30, 95, 98)
        case _:
            raise ValueError(
                f"No silhouette for category {category!r}; there are "
                f"{', '.join(PORTABLE + STANDS)}."
            )
    return canvas.crop(canvas.getbbox())


@lru_cache(maxsize=4096)
def sprite(category: str, extent: int) -> tuple[np.ndarray, np.ndarray]:
    """`(alpha, edge)` of a category whose larger side is `extent` pixels.

    `alpha` is the silhouette and `edge` its outline one pixel deep, both `(height, width)`
    booleans.
    """
    shape = _silhouette(category)
    shrink = extent / max(shape.size)
    width, height = (max(1, round(side * shrink)) for side in shape.size)
    alpha = np.asarray(shape.resize((width, height), Image.Resampling.BOX)) > 127
    padded = np.pad(alpha, 1)
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return alpha, alpha & ~inside


@lru_cache(maxsize=256)
def board(text: str) -> tuple[np.ndarray, np.ndarray, tuple[tuple[int, int, int, int], ...]]:
    """`(alpha, ink, letters)` of a sign: silhouette, dark pixels, and the box of each letter (x0,
    y0, x1, y1)."""
    if not isinstance(text, str) or len(text) != 2 or set(text) - set(CHARACTERS):
        raise ValueError(f"A sign holds two of the letters {' '.join(CHARACTERS)}; got {text!r}.")
    width, height = BOARD
    alpha = np.zeros((height + _POST, width), bool)
    alpha[:height] = True
    alpha[height:, width // 2 - 2 : width // 2 + 2] = True
    ink = np.zeros_like(alpha)
    ink[[0, height - 1]] = ink[:height, 0][:, None] = ink[:height, -1][:, None] = True
    ink[height:] = alpha[height:]
    letters = []
    for i, letter in enumerate(text):
        dots = np.kron(
            np.array([[d == "#" for d in row] for row in _GLYPHS[letter]]),
            np.ones((DOT, DOT), bool),
        )
        x, y = 3 + i * PITCH, 3
        ink[y : y + dots.shape[0], x : x + dots.shape[1]] |= dots
        letters.append((x, y, x + dots.shape[1], y + dots.shape[0]))
    return alpha, ink, tuple(letters)


@cache
def texture(name: str, side: int = 160) -> np.ndarray:
    """`(side, side)` booleans: where a texture is dark. The period is 8 pixels."""
    y, x = np.mgrid[:side, :side]
    if name == "plain":
        return np.zeros((side, side), bool)
    if name == "striped":
        return (x + y) % 8 < 4
    if name == "dotted":
        return ((x % 8 - 3.5) ** 2 + (y % 8 - 3.5) ** 2) < 6
    if name == "checked":
        return (x // 4 + y // 4) % 2 == 0
    raise ValueError(f"No texture {name!r}; there are {', '.join(TEXTURES)}.")


@cache
def background(name: str, side: int = 512) -> np.ndarray:
    """`(side, side, 3)` floats in 0..255: a plane of one material, from which scenes cut their
    window."""
    if name not in BACKGROUNDS:
        raise ValueError(f"No background {name!r}; there are {', '.join(BACKGROUNDS)}.")
    rng = np.random.default_rng([BACKGROUNDS.index(name), 11])
    y, x = np.mgrid[:side, :side]
    speckle = rng.normal(size=(side, side))
    if name == "brick":
        row = y // 10
        mortar = (y % 10 < 1) | ((x + 9 * (row % 2)) % 18 < 1)
        tone = np.where(mortar, 45, rng.normal(0, 8, (side, side))[row, (x + 9 * (row % 2)) // 18])
        colour = (148, 92, 76)
    elif name == "grass":
        blade = np.repeat(rng.normal(size=(side // 4, side)), 4, axis=0)
        tone, colour = 16 * blade, (92, 122, 66)
    elif name == "sand":
        tone, colour = 13 * (speckle > 1.3) - 13 * (speckle < -1.3) + 3 * speckle, (206, 188, 146)
    elif name == "snow":
        tone, colour = 26 * (speckle > 2.2) - 3, (212, 220, 230)
    elif name == "water":
        tone, colour = 15 * np.sin(y / 2.2 + 1.6 * np.sin(x / 9)), (104, 138, 160)
    else:  # wood
        tone, colour = 12 * np.sin(y / 3 + 2.5 * np.sin(x / 60)) - 30 * (y % 32 < 1), (152, 114, 76)
    grain = rng.normal(0, 3, (side, side))
    return (np.array(colour) + (tone + grain)[..., None]).astype(np.float32)
