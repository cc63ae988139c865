"""A sheet of paper to draw on, in inches from its top left corner, and what is drawn on it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, Rectangle

from ...tokens import columns as width_of
from .paper import INK, PALETTE, PAPER, SOFT

NAME, NOTE = 10.5, 9.5  # font sizes, in points
COLOURS = [PALETTE[name] for name in ("blue", "orange", "green", "pink", "vermillion", "sky")]
LINE = "#b9b5a9"  # of what is only there to be drawn on


def new(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure and axes over all of it, in which places are inches from its top left corner."""
    fig = Figure(figsize=(width, height), facecolor=PAPER)
    ax = fig.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, width), ylim=(height, 0), autoscale_on=False)
    ax.set_axis_off()
    return fig, ax


def write(ax: Axes, x: float, y: float, text: str, **how: Any) -> None:
    """A text with its middle at (x, y), if it is not said otherwise."""
    usual = {"fontsize": NOTE, "color": INK, "ha": "center", "va": "center"}
    ax.text(x, y, text, **{**usual, **how})


def wrapped(text: str, letters: int) -> str:
    """The text in lines of so many letters at most, as far as its words allow."""
    lines = [""]
    for word in text.split():
        if lines[-1] and width_of(lines[-1]) + 1 + width_of(word) > letters:
            lines.append("")
        lines[-1] += (" " if lines[-1] else "") + word
    return "\n".join(lines)


def short(word: str, letters: int) -> str:
    """As much of a word as fits, with dots for the rest."""
    if width_of(word) <= letters:
        return word
    while width_of(word) >= letters:
        word = word[:-1]
    return word + "…"


def box(
    ax: Axes,
    x: float,
    y: float,
    width: float,
    height: float,
    colour: str,
    name: str,
    note: str = "",
) -> None:
    """A box with a name and, smaller, a note below it."""
    ax.add_patch(
        FancyBboxPatch(
            (x + 0.05, y + 0.05),
            width - 0.1,
            height - 0.1,
            boxstyle="round,pad=0.05",
            facecolor=tint(colour, 0.12),
            edgecolor=colour,
            linewidth=1.4,
        )
    )
    lines = note.count("\n") + 1 if note else 0
    middle = y + height / 2
    write(ax, x + width / 2, middle - 0.085 * lines, name, fontsize=NAME, weight="bold")
    if note:
        write(ax, x + width / 2, middle + 0.1, note, fontsize=NOTE - 0.5, linespacing=1.05)


def arrow(
    ax: Axes, start: Any, end: Any, colour: str = INK, width: float = 1.5, dashed: bool = False
) -> None:
    """An arrow; a coordinate of the end that is None is the start's."""
    end = tuple(a if b is None else b for a, b in zip(start, end))
    how = {"arrowstyle": "-|>", "color": colour, "linewidth": width, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", end, start, arrowprops={**how, "linestyle": "--" if dashed else "-"})


def dial(
    ax: Axes,
    x: float,
    y: float,
    radius: float,
    angles: Any,
    edge: str = LINE,
    width: float = 1.0,
    hands: Any = None,
) -> None:
    """A circle with a hand for each angle, counterclockwise from the right (y runs down)."""
    ax.add_patch(Circle((x, y), radius, facecolor="white", edgecolor=edge, linewidth=width))
    ax.plot([x + 0.8 * radius, x + radius], [y, y], color=LINE, linewidth=1)
    for angle, colour, thick in zip(angles, hands or COLOURS, (3.4, 1.9, 1.5, 1.3, 1.2, 1.1)):
        tip = (x + radius * 0.86 * math.cos(angle), y - radius * 0.86 * math.sin(angle))
        if hands:
            thick = 1.6
        ax.plot([x, tip[0]], [y, tip[1]], color=colour, linewidth=thick, solid_capstyle="round")
    ax.plot(x, y, "o", color=INK, markersize=2.2)


def image(
    ax: Axes, pixels: Any, x: float, y: float, width: float, height: float, **how: Any
) -> None:
    """Pixels in a box of inches, with its top left corner at (x, y)."""
    limits = ax.get_xlim(), ax.get_ylim()
    extent = (x, x + width, y + height, y)
    ax.imshow(pixels, extent=extent, aspect="auto", interpolation="nearest", zorder=1, **how)
    ax.set(xlim=limits[0], ylim=limits[1])


def matrix(ax: Axes, rows: Any, x: float, y: float, width: float, height: float) -> None:
    """States (tokens, features) in colour, a column for each token."""
    values = rows.float().numpy().T
    limit = np.quantile(np.abs(values), 0.98) or 1.0
    image(ax, values, x, y, width, height, cmap="RdBu_r", vmin=-limit, vmax=limit)
    ax.add_patch(
        Rectangle((x, y), width, height, fill=False, edgecolor=SOFT, linewidth=0.8, zorder=2)
    )


def field(pixels: Any, grid: Any, row: Any, column: Any) -> Any:
    """The pixels of one cell of a grid (rows, columns)."""
    (top, bottom), (left, right) = (
        (
            round(at * side / cells),
            max(round(at * side / cells) + 1, round((at + 1) * side / cells)),
        )
        for at, side, cells in zip((row, column), pixels.shape, grid)
    )
    return pixels[top:bottom, left:right]


def apart(pixels: Any, grid: Any) -> Any:
    """The picture with its patches moved apart, paper between them."""
    rows, columns = grid
    gap = max(1, round(min(pixels.shape[0] / rows, pixels.shape[1] / columns) / 6))
    blank = (np.array(to_rgb(PAPER)) * 255).round().astype(np.uint8)
    lines = [round(r * pixels.shape[0] / rows) for r in range(1, rows)]
    steps = [round(c * pixels.shape[1] / columns) for c in range(1, columns)]
    wider = np.insert(pixels, np.repeat(lines, gap), blank, axis=0)
    return np.insert(wider, np.repeat(steps, gap), blank, axis=1)


def tint(colour: str, strength: Any) -> Any:
    """A colour thinned with paper."""
    return tuple(strength * np.array(to_rgb(colour)) + (1 - strength) * np.array(to_rgb(PAPER)))


def check_on_grid(place: Any, grid: Any) -> None:
    """Raises ValueError where a place (row, column) is not on a grid (rows, columns)."""
    if len(place) != 2 or not all(0 <= at < side for at, side in zip(place, grid)):
        raise ValueError(
            f"A place on this grid is (row, column), from 0 to {grid[0] - 1} and {grid[1] - 1}; "
            f"got {tuple(float(at) for at in place)}."
        )
