"""Every plot of the book. A figure is shown with alt text or not at all.

    fig = lines_with_intervals(range(7), {"trained": (mean, low, high)}, "ViT depth", "hits")
    show(fig, alt=f"Hits rise from {mean[0]:.0%} at depth 0 to {mean[-1]:.0%} at depth 6.")

Figures are drawn on light paper of their own, so that they read the same on a light and on a dark page.
Colours are Okabe and Ito's, which stay apart for colour-blind eyes; series differ in marker as well.
"""

import base64
import warnings
from html import escape
from io import BytesIO

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from .slider import KIND_COLOURS

PAPER, INK, SOFT = "#fbfaf7", "#1d1f24", "#5b6068"
PALETTE = {
    "blue": "#0072b2",
    "orange": "#d98200",
    "green": "#009e73",
    "pink": "#cc79a7",
    "vermillion": "#d55e00",
    "sky": "#56b4e9",
    "black": "#000000",
}  # Okabe–Ito; orange a little darker, and no yellow, on paper
MARKERS = "osD^vPX"
NO_CARD = (
    "html[data-theme=dark] .bd-content div.cell_output .text_html:has(.ww-figure){background:none!important;padding:0!important}"
)
SHORTEST_ALT = 20  # characters


def show(fig, alt, width=None):
    """Display `fig` as an image with `alt` text; returns nothing, so that it may be a cell's last line.

    alt: one or two sentences that say what the figure shows, with its numbers. width: in CSS pixels; by default
    the figure's own, and never more than the page has.
    """
    from IPython.display import HTML, display

    display(HTML(html(fig, alt, width)))


def html(fig, alt, width=None):
    """The figure as an `<img>` with everything in it."""
    alt = " ".join(alt.split()) if isinstance(alt, str) else ""
    if len(alt) < SHORTEST_ALT:
        raise ValueError(
            "A figure needs alt text: a sentence that says what it shows, with its numbers, for a reader who "
            f"cannot see it (at least {SHORTEST_ALT} characters; got {len(alt)})."
        )
    buffer = BytesIO()
    with warnings.catch_warnings():  # a word in a script that the font lacks is drawn as a box
        warnings.filterwarnings("ignore", "Glyph .* missing")
        # no software version in the file: the same figure gives the same bytes
        fig.savefig(buffer, format="png", dpi=160, facecolor=PAPER, metadata={"Software": None})
    _forget(fig)
    data = base64.b64encode(buffer.getvalue()).decode()
    width = width or round(fig.get_size_inches()[0] * 96)
    # in dark mode pydata-sphinx-theme dims pictures, "dark-light" excepted, and puts a light card behind outputs
    return (
        f'<style>{NO_CARD}</style><img class="dark-light ww-figure" alt="{escape(alt)}" src="data:image/png;base64,{data}" '
        f'style="width:{width}px;max-width:100%;height:auto;padding:0;'
        f'background:{PAPER};border-radius:6px">'
    )


def lines_with_intervals(x, series, xlabel, ylabel, title="", percent=False, ylim=None, size=(6.4, 3.8)):
    """Lines over `x`, each with its interval shaded.

    series: {name: (mean, low, high)} or {name: mean}, each of shape (len(x),), or arrays (3, len(x)). percent: label y in
    per cent.
    """
    fig, (ax,) = _axes(size, xlabel, ylabel, [title])
    _draw_lines(ax, list(x), series, percent, ylim)
    return fig


def panels_with_intervals(x, panels, xlabel, ylabel, percent=False, ylim=None):
    """Lines as in `lines_with_intervals`, in panels side by side that share x, the y axis and one legend.

    panels: {title: series}; `in_words` says the same for those who cannot see it.
    """
    fig, axes = _axes((8.4, 3.9), xlabel, ylabel, list(panels))
    for ax, series in zip(axes, panels.values()):
        _draw_lines(ax, list(x), series, percent, ylim)
        if ax.legend_:
            ax.legend_.remove()
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, labelcolor=INK)
    return fig


def trade_offs(panels, xlabel, ylabel, ylim=None):
    """Curves of points that each have a place of their own on both axes, in per cent, with error bars; panels share the rest.

    panels: {title: {name: (x, mean, low, high)}}, each of shape (points,).
    """
    fig, axes = _axes((8.4, 4.4), xlabel, ylabel, list(panels))
    for ax, curves in zip(axes, panels.values()):
        for (name, points), colour, marker in zip(curves.items(), PALETTE.values(), MARKERS):
            x, mean, low, high = np.asarray(points)[:, np.argsort(points[0])]
            style = {"marker": marker, "color": colour, "label": name, "linewidth": 1.8, "markersize": 5.5}
            ax.errorbar(x, mean, yerr=[mean - low, high - mean], elinewidth=0.8, **style)
        ax.grid(axis="y", color="#e3e1da", linewidth=0.8)
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
        if ylim:
            ax.set_ylim(*ylim)
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, labelcolor=INK)
    return fig


def in_words(panels, percent=False):
    """The numbers of such panels as sentences, for alt text."""
    said = "{:.0%}" if percent else "{:.2f}"
    return " ".join(
        f"{title}, {name}: " + ", ".join(said.format(v) for v in _mean_and_interval(values)[0]) + "."
        for title, series in panels.items()
        for name, values in series.items()
    )


def _mean_and_interval(values):
    """[mean, low, high], or [mean] where there is no interval."""
    return list(values) if np.ndim(values[0]) else [values]


def _draw_lines(ax, x, series, percent, ylim):
    for (name, values), colour, marker in zip(series.items(), PALETTE.values(), MARKERS):
        mean, *interval = _mean_and_interval(values)
        ax.plot(x, mean, marker=marker, color=colour, label=name, linewidth=2, markersize=5.5)
        if interval:
            ax.fill_between(x, *interval, color=colour, alpha=0.18, linewidth=0)
    if all(isinstance(each, (int, np.integer)) for each in x) and len(x) <= 16:
        ax.set_xticks(x)
    ax.grid(axis="y", color="#e3e1da", linewidth=0.8)
    if ylim:
        ax.set_ylim(*ylim)
    if percent:
        ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
    if len(series) > 1:
        ax.legend(frameon=False, labelcolor=INK)


def label_maps(maps, names, titles, image=None, columns=7):
    """Patch grids in colour, side by side: a colour for each label.

    maps: arrays (rows, columns) of indices into `names`; below zero is no label and stays pale. titles: one a map.
    image: the picture itself, to be shown before them.
    """
    colours = list(PALETTE.values())[: len(names)]
    if len(names) > len(PALETTE):
        raise ValueError(f"label_maps has {len(PALETTE)} colours that can be told apart; {len(names)} labels are too many.")
    table = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in (*colours, "#e6e3da")], np.uint8)
    drawn = [table[np.where(np.asarray(m) < 0, -1, m)] for m in maps]
    first = [] if image is None else [(image, "the picture")]
    fig = image_grid([i for i, _ in first] + drawn, [t for _, t in first] + list(titles), columns, size=1.5)
    keys = [Rectangle((0, 0), 1, 1, facecolor=colour) for colour in colours]
    fig.legend(keys, names, loc="outside lower center", ncols=min(6, len(names)), frameon=False, labelcolor=INK)
    return fig


def mosaic(image, groups, grid):
    """(height, width, 3) the picture with each group of patches in its mean colour, and patches of no group dark.

    groups: (rows × columns,) whole numbers as `compress` gives them, below zero for no group. grid: (rows, columns).
    """
    picture = np.asarray(image, float)
    side = picture.shape[0] // grid[0], picture.shape[1] // grid[1]
    cells = np.kron(np.reshape(groups, grid), np.ones(side, int))
    for group in np.unique(groups):
        own = cells == group
        picture[own] = picture[own].mean(0) if group >= 0 else picture[own] * 0.15
    return picture.astype(np.uint8)


def heatmap(values, xlabel="", ylabel="", title="", xticks=None, yticks=None, numbers=None, limits=None, size=None):
    """A matrix (rows, columns) in colour; signed values are centred on zero.

    xticks, yticks: a label for each column and row. numbers: write values into the cells, by default if few.
    limits: (lowest, highest) colour.
    """
    values = np.asarray(values, dtype=float)
    rows, columns = values.shape
    size = size or (min(9, max(3.6, 0.5 * columns + 1.8)), min(7, max(2.8, 0.42 * rows + 1.2)))
    fig, (ax,) = _axes(size, xlabel, ylabel, [title])
    signed = np.nanmin(values) < 0
    largest = np.nanmax(np.abs(values))
    low, high = limits or ((-largest, largest) if signed else (0, largest))
    picture = ax.imshow(values, cmap="RdBu_r" if signed else "cividis", vmin=low, vmax=high, aspect="auto")
    bar = fig.colorbar(picture, ax=ax)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=SOFT, labelsize=9)
    for axis, labels, n in ((ax.xaxis, xticks, columns), (ax.yaxis, yticks, rows)):
        if labels is not None:
            axis.set_ticks(range(n), [str(label) for label in labels])
    if columns and xticks is not None and max(len(str(label)) for label in xticks) > 4:
        ax.tick_params(axis="x", rotation=40)
    if numbers if numbers is not None else values.size <= 80:
        for (row, column), value in np.ndenumerate(values):
            red, green, blue, _ = picture.cmap(picture.norm(value))
            ink = "black" if 0.3 * red + 0.59 * green + 0.11 * blue > 0.5 else "white"
            ax.text(
                column,
                row,
                f"{value:.2f}" if abs(largest) < 100 else f"{value:.0f}",
                ha="center",
                va="center",
                color=ink,
                fontsize=8,
            )
    return fig


def scene(image, grid=None, boxes=None, title="", size=4.2):
    """One picture, with its (rows, columns) patch grid and {name: (left, top, right, bottom)} boxes in pixels."""
    image = np.asarray(image)
    height, width = image.shape[:2]
    fig, ax = _picture(image, size * width / max(height, width), size * height / max(height, width), title)
    if grid:
        rows, columns = grid
        for x in np.linspace(0, width, columns + 1)[1:-1]:
            ax.axvline(x - 0.5, color="white", linewidth=0.8, alpha=0.75)
        for y in np.linspace(0, height, rows + 1)[1:-1]:
            ax.axhline(y - 0.5, color="white", linewidth=0.8, alpha=0.75)
    for (name, (left, top, right, bottom)), colour in zip((boxes or {}).items(), list(PALETTE.values()) * 4):
        ax.add_patch(Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, edgecolor=colour, linewidth=2))
        ax.text(
            left,
            max(top - 1, 0),
            name,
            fontsize=9,
            color="white",
            va="bottom" if top > height / 8 else "top",
            bbox={"facecolor": colour, "edgecolor": "none", "pad": 1.5},
        )
    return fig


def image_grid(images, titles=None, columns=4, size=2.0):
    """Pictures side by side, `columns` to a row, each with its title."""
    images = list(images)
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    fig = Figure(figsize=(size * columns, (size + (0.3 if titles else 0)) * rows), layout="constrained", facecolor=PAPER)
    for ax in fig.subplots(rows, columns, squeeze=False).flat:
        ax.set_axis_off()
    for n, (ax, image) in enumerate(zip(fig.axes, images)):
        ax.imshow(np.asarray(image))
        if titles:
            ax.set_title(titles[n], fontsize=10, color=INK)
    return fig


def word_map(words, image, kinds=None, title="", size=6.0):
    """One token map as a still figure: `words` (rows, columns) on the dimmed picture, coloured by kind.

    kinds: {word: kind}; a word of no kind stays grey.
    """
    words = np.asarray(words)
    rows, columns = words.shape
    image = np.asarray(image)
    height, width = image.shape[:2]
    dimmed = (image[..., :3] * 0.34 + 10).astype(np.uint8)
    fig, ax = _picture(dimmed, size, size * height / width + (0.55 if kinds else 0), title)
    names = list(dict.fromkeys((kinds or {}).values()))
    colours = {word.lower(): KIND_COLOURS[names.index(kind) % len(KIND_COLOURS)] for word, kind in (kinds or {}).items()}
    cell = size * 72 / columns  # points
    for (row, column), word in np.ndenumerate(words):
        colour = colours.get(str(word).lower())
        fontsize = min(0.3 * cell, 1.35 * cell / max(1, len(str(word))))
        ax.text(
            (column + 0.5) * width / columns - 0.5,
            (row + 0.5) * height / rows - 0.5,
            str(word).replace("$", r"\$"),
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
    if names:
        keys = [
            Rectangle((0, 0), 1, 1, facecolor=KIND_COLOURS[n % len(KIND_COLOURS)], edgecolor="#555", linewidth=0.6)
            for n in range(len(names))
        ]
        fig.legend(keys, names, loc="outside lower center", ncols=min(3, len(names)), frameon=False, labelcolor=INK, fontsize=10)
    return fig


def _axes(size, xlabel, ylabel, titles):
    fig = Figure(figsize=size, layout="constrained", facecolor=PAPER)
    axes = fig.subplots(1, len(titles), sharey=True, squeeze=False)[0]
    for ax, title in zip(axes, titles):
        ax.set_facecolor("none")
        ax.spines[["top", "right"]].set_visible(False)
        ax.spines[["left", "bottom"]].set_color(SOFT)
        ax.tick_params(colors=SOFT, labelcolor=INK, labelsize=10)
        ax.set_xlabel(xlabel, color=INK, fontsize=11)
        if title:
            ax.set_title(title, color=INK, fontsize=12, loc="left")
    axes[0].set_ylabel(ylabel, color=INK, fontsize=11)
    return fig, axes


def _picture(image, width, height, title):
    fig = Figure(figsize=(width, height + (0.35 if title else 0)), layout="constrained", facecolor=PAPER)
    ax = fig.add_subplot()
    ax.imshow(image)
    ax.set_axis_off()
    if title:
        ax.set_title(title, color=INK, fontsize=11, loc="left")
    return fig, ax


def _forget(fig):
    """Keep a figure made with pyplot from being shown a second time, without alt text."""
    if fig.canvas.manager is not None:
        from matplotlib import pyplot

        pyplot.close(fig)
