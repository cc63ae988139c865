"""Pictures of positions as angles: how queries and keys turn, and what a distance does to them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle, Wedge

from . import sheet
from .paper import INK, PALETTE, PAPER, SOFT, tell
from .sheet import COLOURS, LINE, NAME, NOTE

if TYPE_CHECKING:
    from ...rope import Rotary

ALL_AXES = {1: ("position",), 2: ("row", "column"), 3: ("time", "row", "column")}


def turning(
    q: Sequence[float] | np.ndarray | torch.Tensor,
    k: Sequence[float] | np.ndarray | torch.Tensor,
    theta: float,
    positions: Sequence[tuple[float, float]] = ((0, 0), (3, 1), (7, 5), (1, 3)),
) -> Figure:
    """One pair of dimensions of a query and of a key on a circle, each turned by its position: the
    angle between them depends on the difference of the two positions alone. A difference that comes
    more than once is bold.

    Args:
        q, k: (2,) before they are turned, which is drawn dashed.
        theta: radians per patch.
        positions: (m, n) of the query and of the key, a circle for each.

    Raises:
        ValueError: for what are no two finite numbers, and a vector without length.
    """
    vectors = [np.asarray(each, float).ravel() for each in (q, k)]
    for name, vector in zip(("query", "key"), vectors):
        if vector.shape != (2,) or not np.isfinite(vector).all() or not vector.any():
            raise ValueError(
                f"A pair of dimensions of a {name} is two finite numbers, not both zero; got "
                f"{vector.tolist()}."
            )
    places = np.asarray(positions, float)
    if places.ndim != 2 or places.shape[1] != 2 or not np.isfinite(places).all():
        raise ValueError(
            "Positions are pairs (m, n) of finite numbers, of the query and of the key; got "
            f"{positions!r}."
        )
    if not math.isfinite(theta):
        raise ValueError(f"A frequency is a finite number of radians per patch; got {theta!r}.")
    one, other = (complex(*vector) for vector in vectors)
    longest = max(abs(one), abs(other))
    rows = -(-len(places) // 2)
    high, side, width = 3.05, 2.25, 5.2
    fig = Figure(figsize=(width, high * rows + 0.05), facecolor=PAPER)
    differences, told = [round(float(m - at), 9) for m, at in places], []
    for n, (m, at) in enumerate(places):
        x, y = (n % 2) * width / 2 + (width / 2 - side) / 2, high * (n // 2) + 0.57
        height = high * rows + 0.05
        box = (x / width, 1 - (y + side) / height, side / width, side / height)
        ax = fig.add_axes(box)
        ax.set(xlim=(-1.25, 1.25), ylim=(-1.25, 1.25), aspect="equal")
        ax.set_axis_off()
        ax.add_patch(Circle((0, 0), 1, fill=False, edgecolor="#c9c6bd"))
        query, key = (z * np.exp(1j * p * theta) for z, p in ((one, m), (other, at)))
        between = float(np.angle(query * np.conj(key)))
        low = np.degrees(np.angle(key))
        sweep = sorted((low, low + np.degrees(between)))
        ax.add_patch(Wedge((0, 0), 0.42, *sweep, facecolor=PALETTE["sky"], alpha=0.45))
        for z, unturned, name, colour in (
            (query, one, "q", COLOURS[4]),
            (key, other, "k", COLOURS[0]),
        ):
            tip, before = z / longest, unturned / longest
            ax.plot([0, before.real], [0, before.imag], "--", color=colour, linewidth=1, alpha=0.6)
            ax.annotate(
                "",
                (tip.real, tip.imag),
                (0, 0),
                arrowprops={
                    "arrowstyle": "-|>",
                    "color": colour,
                    "linewidth": 2.4,
                    "shrinkA": 0,
                    "shrinkB": 0,
                },
            )
            label = z / abs(z) * (abs(tip) + 0.14)
            sheet.write(
                ax, label.real, label.imag, name, fontsize=NAME + 1, color=colour, weight="bold"
            )
        degrees, dot = np.degrees(between), (query * np.conj(key)).real
        sheet.write(ax, 0, 1.6, f"q at {m:g}, k at {at:g}", fontsize=NAME)
        again = differences.count(differences[n]) > 1
        difference = f"difference {m - at:g}".replace("-", "−")
        sheet.write(ax, 0, 1.39, difference, fontsize=NAME, weight="bold" if again else "normal")
        said = f"angle {degrees:.0f}°, q · k = {dot:.2f}".replace("-", "−")
        sheet.write(ax, 0, -1.38, said, weight="bold" if again else "normal")
        told.append(f"q at {m:g} and k at {at:g}, {difference}: {said}")
    return tell(
        fig,
        f"A query's and a key's pair of dimensions on a circle, turned by θ = {theta:.3g} radians "
        f"per patch. {'; '.join(told)}.",
    )


def dials(
    rotary: Rotary,
    places: Mapping[str, Sequence[float] | np.ndarray | torch.Tensor],
    image: Any = None,
    grid: tuple[int, int] | None = None,
) -> Figure:
    """A head's rotary positions as banks of dials, one for each axis and in it one for each pair of
    dimensions, with a hand for each place.

    A hand stands at the angle by which the pair is turned there: at zero it points right, and it
    turns counterclockwise, as $e^{iφ}$ does. Pairs are numbered in the head's own order, which
    shows how axes are laid out over pairs (blocks, or interleaved).

    Args:
        rotary: of a ViT (`rope.vision`: two banks) or an LM (`rope.language`: with M-RoPE three).
        places: {name: position}, a number for each axis; at most six.
        image, grid: the picture and its (rows, columns), in which the places of a ViT are marked.

    Raises:
        ValueError: for places of another number of axes, none, or too many.
    """
    axes = int(rotary.axis.max()) + 1
    at = {name: np.asarray(place, float).ravel() for name, place in places.items()}
    if not 1 <= len(at) <= len(COLOURS):
        raise ValueError(f"Dials show one to {len(COLOURS)} places; got {len(at)}.")
    for name, place in at.items():
        if len(place) != axes or not np.isfinite(place).all():
            raise ValueError(
                f"A position here is {axes} finite numbers ({', '.join(ALL_AXES[axes])}); "
                f"{name!r} has {place.tolist()}."
            )
    if (image is None) != (grid is None):
        raise ValueError("Give the image and its grid (rows, columns) together, or neither.")
    if image is not None and grid is not None:
        if axes != 2:
            raise ValueError(
                "Places are marked in an image where they are a row and a column; these are "
                f"{', '.join(ALL_AXES[axes])}."
            )
        for place in at.values():
            sheet.check_on_grid(place, grid)
    theta, axis = rotary.theta.numpy(), rotary.axis.numpy()
    size = 0.84
    sizes = [int((axis == n).sum()) for n in range(axes)]
    lines = [-(-pairs // 6) for pairs in sizes]  # of six dials at most, and of as many each
    above = 2.35 if image is not None else 0.1
    key = 0.24 * len(at)
    # one bank: a title, then lines of dials with two lines of text below each
    fig, ax = sheet.new(5.3, above + key + 0.2 + sum(0.36 + line * (size + 0.4) for line in lines))
    if image is not None and grid is not None:
        pixels = np.asarray(image)[..., :3]
        high = min(2.15, 4.4 * pixels.shape[0] / pixels.shape[1])
        wide = high * pixels.shape[1] / pixels.shape[0]
        x0 = (5.3 - wide) / 2
        sheet.image(ax, pixels, x0, 0.1, wide, high)
        for (row, column), colour in zip(at.values(), COLOURS):
            corner = (x0 + column * wide / grid[1], 0.1 + row * high / grid[0])
            for edge, width in (("white", 4.5), (colour, 2.4)):
                ax.add_patch(
                    Rectangle(
                        corner,
                        wide / grid[1],
                        high / grid[0],
                        fill=False,
                        edgecolor=edge,
                        linewidth=width,
                    )
                )
    y = above + 0.12
    for (name, place), colour in zip(at.items(), COLOURS):
        listed = ", ".join(f"{a} {value:g}" for a, value in zip(ALL_AXES[axes], place))
        ax.plot([0.25, 0.6], [y, y], color=colour, linewidth=3)
        sheet.write(ax, 0.7, y, f"{name}: {listed}", fontsize=NAME, ha="left")
        y += 0.24
    told = []
    for n, lines_of_bank in enumerate(lines):
        y += 0.16
        title = f"turned by the {ALL_AXES[axes][n]}"
        sheet.write(ax, 0.12, y, title, fontsize=NAME, weight="bold", ha="left")
        y += 0.2
        pairs = np.flatnonzero(axis == n)
        across = -(-len(pairs) // max(1, lines_of_bank))
        pitch = min(5.04 / max(1, across), 1.26)
        for m, pair in enumerate(pairs):
            x = 0.14 + pitch * (m % across + 0.5)
            middle = y + (m // across) * (size + 0.4) + size / 2
            sheet.dial(ax, x, middle, 0.36, [place[n] * theta[pair] for place in at.values()])
            sheet.write(ax, x, middle + 0.47, f"pair {pair}", fontsize=NOTE - 0.5, color=SOFT)
            sheet.write(
                ax, x, middle + 0.62, f"θ {theta[pair]:.2g}", fontsize=NOTE - 0.5, color=SOFT
            )
        y += lines_of_bank * (size + 0.4)
        told.append(
            f"the {ALL_AXES[axes][n]} turns pairs {', '.join(map(str, pairs))}, by "
            + "; ".join(
                f"{', '.join(f'{np.degrees(place[n] * theta[pair]):.0f}°' for pair in pairs)} "
                f"for {name}"
                for name, place in at.items()
            )
        )
    listed = "; ".join(
        f"{name} at {', '.join(f'{a} {v:g}' for a, v in zip(ALL_AXES[axes], place))}"
        for name, place in at.items()
    )
    return tell(fig, f"Dials for {listed}. In banks, {'. Then '.join(told)}.")


def split_logit(
    image: Any,
    by_axis: Sequence[Any] | np.ndarray | torch.Tensor,
    query: tuple[int, int],
    outlined: Mapping[str, Any] | None = None,
) -> Figure:
    """Where one patch looks in one head: the part of its attention logits that rows give, the part
    that columns give, their sum, and the weights that the softmax makes of it.

    Red is above zero and blue below, on one scale for the three maps.

    Args:
        image: the picture that the grid lies over, as the model sees it.
        by_axis: (2, rows, columns) the two parts, for every key; see `Rotary.logits_by_axis`.
        query: (row, column) of the patch that asks.
        outlined: {name: (rows, columns) booleans}: patches whose outline is drawn; two at most.

    Raises:
        ValueError: for parts that are no two finite maps, a patch outside them, a mask of another
            shape or without a patch, and too many of them.
    """
    parts = np.asarray(by_axis, float)
    if parts.ndim != 3 or len(parts) != 2 or not parts.size or not np.isfinite(parts).all():
        raise ValueError(
            "A split logit is two maps of finite numbers, (2, rows, columns): the rows' part and "
            f"the columns'; got the shape {parts.shape}."
        )
    grid = parts.shape[1:]
    sheet.check_on_grid(query, grid)
    marked = {name: np.asarray(mask, bool) for name, mask in (outlined or {}).items()}
    edges = (COLOURS[2], COLOURS[3])
    if len(marked) > len(edges):
        raise ValueError(f"Two masks are outlined at most; got {len(marked)}.")
    for name, mask in marked.items():
        if mask.shape != grid or not mask.any():
            raise ValueError(
                f"Patches are outlined on the grid of the maps, {grid[0]} × {grid[1]}, one at "
                f"least; {name!r} has the shape {mask.shape} and {mask.sum()} patches."
            )
    logits = parts.sum(0)
    weights = np.exp(logits - logits.max())
    weights = weights / weights.sum()
    pixels = np.asarray(image)[..., :3]
    gap, left = 0.3, 0.1
    side = (5.4 - 2 * left - 2 * gap) / 3
    high = side * pixels.shape[0] / pixels.shape[1]
    xs = [left + n * (side + gap) for n in range(3)]
    above, below = 0.32, 0.32 + high + 0.72
    fig, ax = sheet.new(5.4, below + high + 0.35)
    limit = np.abs(np.stack([*parts, logits])).max() or 1.0
    signed = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
    panels = [
        ("picture", pixels, xs[0], above, {}),
        ("attention weights", weights, xs[2], above, {"cmap": "Greys_r", "vmin": 0}),
        ("rows' part", parts[0], xs[0], below, signed),
        ("columns' part", parts[1], xs[1], below, signed),
        ("logit", logits, xs[2], below, signed),
    ]
    cell = (side / grid[1], high / grid[0])
    for title, values, x, y, how in panels:
        sheet.image(ax, values, x, y, side, high, **how)
        ax.add_patch(Rectangle((x, y), side, high, fill=False, edgecolor=LINE, linewidth=0.8))
        sheet.write(ax, x + side / 2, y - 0.15, title, fontsize=NAME, weight="bold")
        for mask, colour in zip(marked.values(), edges):
            for edge, width in (("white", 3.2), (colour, 1.6)):
                for line in _outline(mask, x, y, cell):
                    ax.plot(*zip(*line), color=edge, linewidth=width, solid_capstyle="round")
        corner = (x + query[1] * cell[0], y + query[0] * cell[1])
        for edge, width in (("white", 4.2), (PALETTE["black"], 2.0)):
            ax.add_patch(
                Rectangle(corner, *cell, fill=False, edgecolor=edge, linewidth=width, zorder=4)
            )
    for x, sign in zip(xs[1:], "+="):
        sheet.write(ax, x - gap / 2, below + high / 2, sign, fontsize=NAME + 4, weight="bold")
    sheet.arrow(ax, (xs[2] + side / 2, below - 0.26), (None, above + high + 0.05))
    sheet.write(ax, xs[2] + side / 2 - 0.1, below - 0.47, "softmax", ha="right", color=SOFT)
    notes = [("the patch that asks", PALETTE["black"]), *zip(marked, edges)]
    for n, (note, colour) in enumerate(notes):
        y = above + high / 2 + 0.4 * (n - (len(notes) - 1) / 2)
        ax.add_patch(
            Rectangle(
                (xs[1] - 0.1, y - 0.07), 0.14, 0.14, fill=False, edgecolor=colour, linewidth=2
            )
        )
        sheet.write(ax, xs[1] + 0.12, y, sheet.wrapped(note, 18), ha="left", linespacing=1.1)
    scale = f"red above zero, blue below; the darkest stands for ±{limit:.3g}"
    sheet.write(ax, 2.7, below + high + 0.17, scale, color=SOFT)
    best = np.unravel_index(weights.argmax(), grid)
    told = (
        f"The patch at row {query[0]}, column {query[1]} of {grid[0]} × {grid[1]} looks at row "
        f"{best[0]}, column {best[1]} most, with {weights.max():.0%} of its weight. Over all keys "
        f"the rows' part is {parts[0].min():.2f} to {parts[0].max():.2f}, the columns' part "
        f"{parts[1].min():.2f} to {parts[1].max():.2f}."
    )
    for name, mask in marked.items():
        rows, columns = parts[:, mask].mean(1)
        told += (
            f" On {name} ({mask.sum()} patches) they are {rows:.2f} and {columns:.2f} on average."
        )
    return tell(fig, told.replace("-", "−"))


def _outline(mask, x, y, cell):
    """The edges between marked cells of a grid and others, as lines on the sheet."""
    padded = np.pad(mask, 1)
    lines = []
    for row, column in np.argwhere(mask):
        near = padded[row : row + 3, column : column + 3]
        left, top = x + column * cell[0], y + row * cell[1]
        right, bottom = left + cell[0], top + cell[1]
        lines += [] if near[0, 1] else [((left, top), (right, top))]
        lines += [] if near[2, 1] else [((left, bottom), (right, bottom))]
        lines += [] if near[1, 0] else [((left, top), (left, bottom))]
        lines += [] if near[1, 2] else [((right, top), (right, bottom))]
    return lines


def rulers(
    image: Any,
    columns: int,
    frequencies: Mapping[str, float],
    origin: tuple[str, float],
    other: tuple[str, float],
) -> Figure:
    """Frequencies as rulers laid over one picture: for each a dial at every column of patches, with
    the angle by which it is turned there, seen from one thing.

    A ruler's band is green where the frequency has turned by less than half a turn: that far left
    and right have sines of different sign. Framed are the columns at which the dial stands as it
    does at the other thing: a fast frequency takes them for each other.

    Args:
        image: as the model sees it.
        columns: patches in a row of it.
        frequencies: {name: radians per patch}, such as one before and after scaling.
        origin, other: (name, column) of two things; the first is where angles are zero. Columns
            count from 0 and need not be whole.

    Raises:
        ValueError: for a frequency that is not above zero, and a column outside the picture.
    """
    if isinstance(columns, bool) or int(columns) != columns or columns < 2:
        raise ValueError(f"A picture has two columns of patches or more; got {columns!r}.")
    for name, column in (origin, other):
        if not 0 <= column <= columns - 1:
            raise ValueError(
                f"{name!r} is at column {column!r}; the picture has columns 0 to {columns - 1}."
            )
    if not frequencies:
        raise ValueError("There is no ruler: give one frequency at least, {name: radians}.")
    for name, theta in frequencies.items():
        if not (math.isfinite(theta) and theta > 0):
            raise ValueError(
                f"A frequency is a finite number of radians per patch, above zero; {name!r} is "
                f"{theta!r}."
            )
    pixels = np.asarray(image)[..., :3]
    left, wide = 0.15, 5.1
    cell = wide / columns
    high = wide * pixels.shape[0] / pixels.shape[1]
    each, radius = cell + 0.42, min(0.43 * cell, 0.3)
    start = 0.35 + high
    fig, ax = sheet.new(5.4, start + 0.1 + each * len(frequencies) + 0.55)
    sheet.image(ax, pixels, left, 0.3, wide, high)
    for column in range(1, columns):
        x = left + column * cell
        ax.plot([x, x], [0.3, 0.3 + high], color="white", linewidth=0.6, alpha=0.5)
    colours = (PALETTE["black"], COLOURS[4])
    close = abs(other[1] - origin[1]) * cell < 1.1
    for n, ((name, column), colour) in enumerate(zip((origin, other), colours)):
        x = left + (column + 0.5) * cell
        ax.plot([x, x], [0.28, start], color="white", linewidth=4, solid_capstyle="butt")
        ax.plot([x, x], [0.28, start], color=colour, linewidth=2, solid_capstyle="butt")
        outward = "right" if column < (other, origin)[n][1] else "left"
        side = outward if close else "center"
        sheet.write(ax, x, 0.17, name, fontsize=NAME, color=colour, weight="bold", ha=side)
    told = []
    displacement = other[1] - origin[1]
    for n, (name, theta) in enumerate(frequencies.items()):
        y = start + each * n + 0.2
        reach = math.pi / theta
        note = f"{name}: θ = {theta:.3g}, half a turn after {reach:.3g} patches"
        sheet.write(ax, left, y, note, ha="left")
        y += 0.17
        low, top = (
            np.clip(origin[1] + 0.5 + side * reach, 0, columns) * cell + left for side in (-1, 1)
        )
        ax.add_patch(Rectangle((left, y), wide, cell + 0.04, color="#e9e6dd"))
        band = Rectangle((low, y), top - low, cell + 0.04, color=PALETTE["green"], alpha=0.35)
        ax.add_patch(band)
        same = []
        for column in range(columns):
            angle = (column - origin[1]) * theta
            off = (angle - displacement * theta + math.pi) % (2 * math.pi) - math.pi
            alike = abs(off) <= theta / 2
            same += [column] if alike else []
            x, middle = left + (column + 0.5) * cell, y + cell / 2 + 0.02
            edge = COLOURS[4] if alike else LINE
            sheet.dial(ax, x, middle, radius, [angle], edge, 2.2 if alike else 0.8, [INK])
        turned = abs(math.degrees(displacement * theta))
        told.append(
            f"{name}, θ = {theta:.3g} radians per patch, has turned by {turned:.0f}° between "
            f"the two and by half a turn after {reach:.3g} patches; it stands alike at column"
            f"{'s' if len(same) > 1 else ''} {', '.join(map(str, same))}"
        )
    y = start + 0.2 + each * len(frequencies)
    ax.add_patch(Rectangle((left, y - 0.09), 0.3, 0.18, color=PALETTE["green"], alpha=0.35))
    by_name = f"{origin[0]}: less than half a turn, left and right differ"
    sheet.write(ax, left + 0.4, y, f"seen from the {by_name}", ha="left")
    ax.add_patch(
        Circle((left + 0.15, y + 0.25), 0.1, facecolor="white", edgecolor=COLOURS[4], linewidth=2.2)
    )
    sheet.write(ax, left + 0.4, y + 0.25, f"stands as it does at the {other[0]}", ha="left")
    return tell(
        fig,
        f"{other[0].capitalize()} at column {other[1]:.3g}, {origin[0]} at column {origin[1]:.3g} "
        f"of {columns}, with a ruler of dials for each frequency. {'. '.join(told)}.",
    )
