"""Pictures, patch grids and words on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ...tokens import columns as width_of
from ...views.slider import KIND_COLOURS, VEIL
from .fonts import drawable
from .paper import INK, PALETTE, PAPER, tell

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LONGEST = 14  # letters of a word that are written into a patch


def scene(
    image: Any,
    grid: tuple[int, int] | None = None,
    boxes: Mapping[str, tuple[float, float, float, float]] | None = None,
    title: str = "",
    size: float = 4.2,
    order: Sequence[int] = (),
) -> Figure:
    """One picture, with its (rows, columns) patch grid and {name: (left, top, right, bottom)} boxes
    in pixels.

    Args:
        order: numbers of patches, in raster order, that are written into the grid.
    """
    image = np.asarray(image)
    height, width = image.shape[:2]
    fig, ax = _picture(
        image, size * width / max(height, width), size * height / max(height, width), title
    )
    if grid:
        rows, columns = grid
        for x in np.linspace(0, width, columns + 1)[1:-1]:
            ax.axvline(x - 0.5, color="white", linewidth=0.8, alpha=0.75)
        for y in np.linspace(0, height, rows + 1)[1:-1]:
            ax.axhline(y - 0.5, color="white", linewidth=0.8, alpha=0.75)
        for n in order:
            x, y = (n % columns + 0.5) * width / columns, (n // columns + 0.5) * height / rows
            ax.text(x - 0.5, y - 0.5, str(n), ha="center", va="center", color="white", fontsize=9)
    for (name, (left, top, right, bottom)), colour in zip(
        (boxes or {}).items(), list(PALETTE.values()) * 4
    ):
        ax.add_patch(
            Rectangle(
                (left - 0.5, top - 0.5),
                right - left,
                bottom - top,
                fill=False,
                edgecolor=colour,
                linewidth=2,
            )
        )
        ax.text(
            left,
            max(top - 1, 0),
            name,
            fontsize=9,
            color="white",
            va="bottom" if top > height / 8 else "top",
            bbox={"facecolor": colour, "edgecolor": "none", "pad": 1.5},
        )
    parts = [f"a grid of {grid[0]} by {grid[1]} patches"] if grid else []
    parts += [f"boxes around {', '.join(boxes)}"] if boxes else []
    return tell(fig, f"On it {' and '.join(parts)}." if parts else "")


def image_grid(
    images: Sequence[Any], titles: Sequence[str] | None = None, columns: int = 4, size: float = 2.0
) -> Figure:
    """Pictures side by side, `columns` to a row, each with its title."""
    images = list(images)
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    fig = Figure(
        figsize=(size * columns, (size + (0.3 if titles else 0)) * rows),
        layout="constrained",
        facecolor=PAPER,
    )
    for ax in fig.subplots(rows, columns, squeeze=False).flat:
        ax.set_axis_off()
    for n, (ax, image) in enumerate(zip(fig.axes, images)):
        ax.imshow(np.asarray(image))
        if titles:
            ax.set_title(titles[n], fontsize=10, color=INK)
    return tell(fig, f"From left to right: {', '.join(titles)}." if titles else "")


def word_map(
    words: Sequence[Sequence[str]] | np.ndarray,
    image: Any,
    kinds: Mapping[str, str] | None = None,
    title: str = "",
    size: float = 6.0,
) -> Figure:
    """One token map as a still figure: `words` (rows, columns) on the dimmed picture, coloured by
    kind.

    Args:
        kinds: {word: kind}; a word of no kind stays grey. A long word is cut, and ends in dots.

    Raises:
        ValueError: where there are no rows and columns of words.
    """
    words = _in_rows(words)
    rows, columns = words.shape
    dimmed = _dimmed(image)
    height, width = dimmed.shape[:2]
    fig, ax = _picture(dimmed, size, size * height / width + (0.55 if kinds else 0), title)
    _write(ax, words, dimmed.shape[:2], size, kinds)
    _key_of_kinds(fig, kinds, 3)
    listed = "; ".join(" ".join(str(word) for word in row) for row in words)
    return tell(fig, f"{rows} by {columns} words, row by row: {listed}.")


def word_maps(
    maps: Mapping[str, Any],
    image: Any,
    kinds: Mapping[str, str] | None = None,
    columns: int = 3,
    size: float = 2.8,
) -> Figure:
    """Token maps of one picture side by side, after the picture itself, each drawn as by
    `word_map`.

    Args:
        maps: {title: words (rows, columns)}.
        columns: maps in a row.
        size: the width of each, in inches.

    Raises:
        ValueError: without maps, and where one has no rows and columns of words.
    """
    if not maps:
        raise ValueError("word_maps takes one token map at least, as {title: words}.")
    words = {title: _in_rows(each) for title, each in maps.items()}
    dimmed = _dimmed(image)
    height, width = dimmed.shape[:2]
    columns = min(columns, len(words) + 1)
    rows = -(-(len(words) + 1) // columns)
    fig = Figure(
        figsize=(size * columns, (size * height / width + 0.3) * rows + (0.5 if kinds else 0)),
        layout="constrained",
        facecolor=PAPER,
    )
    axes = list(fig.subplots(rows, columns, squeeze=False).flat)
    for ax in axes:
        ax.set_axis_off()
    axes[0].imshow(np.asarray(image))
    axes[0].set_title("the picture", fontsize=10, color=INK)
    for ax, (title, each) in zip(axes[1:], words.items()):
        ax.imshow(dimmed)
        ax.set_title(title, fontsize=10, color=INK)
        _write(ax, each, dimmed.shape[:2], 0.9 * size, kinds)
    _key_of_kinds(fig, kinds, 6)
    return tell(fig, " ".join(f"{title}: {_counted(each)}." for title, each in words.items()))


def _counted(words):
    """How often each word is said, the most common first."""
    said = Counter(str(word) for word in words.flat)
    return ", ".join(f"{word} {n}" for word, n in said.most_common())


def _in_rows(words):
    words = np.asarray(words)
    if words.ndim != 2 or not words.size:
        raise ValueError(
            "word_map takes words in rows and columns, one for each patch, such as "
            f"maps.words[-1]; the array given has shape {words.shape}."
        )
    return words


def _dimmed(image):
    return (np.asarray(image)[..., :3] * (1 - VEIL) + 16 * VEIL).astype(np.uint8)


def _write(ax, words, shape, size, kinds):
    """Words onto a picture of (height, width) pixels that is `size` inches wide, and the grid
    between them."""
    (rows, columns), (height, width) = words.shape, shape
    names = list(dict.fromkeys((kinds or {}).values()))
    colours = {
        word.lower(): KIND_COLOURS[names.index(kind) % len(KIND_COLOURS)]
        for word, kind in (kinds or {}).items()
    }
    cell = size * 72 / columns  # points
    written = drawable([str(word) for word in words.flat], caller=3)
    for ((row, column), word), shown in zip(np.ndenumerate(words), written):
        colour = colours.get(str(word).lower())
        shown = shown if width_of(shown) <= LONGEST else _cut(shown)
        fontsize = min(0.3 * cell, 1.35 * cell / max(1, width_of(shown)))
        ax.text(
            (column + 0.5) * width / columns - 0.5,
            (row + 0.5) * height / rows - 0.5,
            shown,
            ha="center",
            va="center",
            fontsize=fontsize,
            color=colour or "#e4e6ea",
            weight="bold" if colour else "normal",
            clip_on=True,
        )
    for x in np.linspace(0, width, columns + 1)[1:-1]:
        ax.axvline(x - 0.5, color="white", linewidth=0.4, alpha=0.3)
    for y in np.linspace(0, height, rows + 1)[1:-1]:
        ax.axhline(y - 0.5, color="white", linewidth=0.4, alpha=0.3)


def _key_of_kinds(fig, kinds, columns):
    names = list(dict.fromkeys((kinds or {}).values()))
    if not names:
        return
    keys = [
        Rectangle(
            (0, 0),
            1,
            1,
            facecolor=KIND_COLOURS[n % len(KIND_COLOURS)],
            edgecolor="#555",
            linewidth=0.6,
        )
        for n in range(len(names))
    ]
    fig.legend(
        keys,
        names,
        loc="outside lower center",
        ncols=min(columns, len(names)),
        frameon=False,
        labelcolor=INK,
        fontsize=10,
    )


def _cut(word):
    """As much of a word as fits."""
    while width_of(word) >= LONGEST:
        word = word[:-1]
    return word + "…"


def label_maps(
    maps: Sequence[Any] | np.ndarray,
    names: Sequence[str],
    titles: Sequence[str],
    image: Any = None,
    columns: int = 7,
) -> Figure:
    """Patch grids in colour, side by side: a colour for each label.

    Args:
        maps: arrays (rows, columns) of indices into `names`; below zero is no label and stays pale.
        titles: one a map.
        image: the picture itself, to be shown before them.
    """
    colours = list(PALETTE.values())[: len(names)]
    if len(names) > len(PALETTE):
        raise ValueError(
            f"label_maps has {len(PALETTE)} colours that can be told apart; {len(names)} labels "
            "are too many."
        )
    table = np.array(
        [[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in (*colours, "#e6e3da")], np.uint8
    )
    drawn = [table[np.where(np.asarray(m) < 0, -1, m)] for m in maps]
    first = [] if image is None else [(image, "the picture")]
    fig = image_grid(
        [i for i, _ in first] + drawn, [t for _, t in first] + list(titles), columns, size=1.5
    )
    keys = [Rectangle((0, 0), 1, 1, facecolor=colour) for colour in colours]
    fig.legend(
        keys,
        names,
        loc="outside lower center",
        ncols=min(6, len(names)),
        frameon=False,
        labelcolor=INK,
    )
    counted = [np.bincount(np.ravel(m)[np.ravel(m) >= 0], minlength=len(names)) for m in maps]
    each = [
        f"{title}: " + ", ".join(f"{name} {n}" for name, n in zip(names, counts) if n)
        for title, counts in zip(titles, counted)
    ]
    return tell(fig, f"Patches of each label. {'; '.join(each)}.")


def mosaic(image: Any, groups: Sequence[int] | np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """(height, width, 3) the picture with each group of patches in its mean colour, and patches of
    no group dark.

    Args:
        groups: (rows × columns,) whole numbers as `compress` gives them, below zero for no group.
        grid: (rows, columns).
    """
    picture = np.asarray(image, float)
    at = (np.arange(side) * cells // side for side, cells in zip(picture.shape, grid))
    cells = np.reshape(groups, grid)[np.ix_(*at)]
    for group in np.unique(groups):
        own = cells == group
        picture[own] = picture[own].mean(0) if group >= 0 else picture[own] * 0.15
    return picture.astype(np.uint8)


def _picture(image, width, height, title):
    fig = Figure(
        figsize=(width, height + (0.35 if title else 0)), layout="constrained", facecolor=PAPER
    )
    ax = fig.add_subplot()
    ax.imshow(image)
    ax.set_axis_off()
    if title:
        ax.set_title(title, color=INK, fontsize=11, loc="left")
    return fig, ax
