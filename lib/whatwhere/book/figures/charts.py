"""Lines, clouds of points and matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from .paper import INK, MARKERS, PALETTE, PAPER, SOFT, tell

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def lines_with_intervals(
    x: Sequence[float] | np.ndarray,
    series: Mapping[str, Any],
    xlabel: str,
    ylabel: str,
    title: str = "",
    percent: bool = False,
    ylim: tuple[float, float] | None = None,
    size: tuple[float, float] = (6.4, 3.8),
) -> Figure:
    """Lines over `x`, each with its interval shaded.

    Args:
        series: {name: (mean, low, high)} or {name: mean}, each of shape (len(x),), or arrays (3,
            len(x)).
        percent: label y in per cent.
    """
    fig, (ax,) = _axes(size, xlabel, ylabel, [title])
    _draw_lines(ax, list(x), series, percent, ylim)
    return tell(fig, _lines_in_words(xlabel, x, {title: series}, percent))


def panels_with_intervals(
    x: Sequence[float] | np.ndarray,
    panels: Mapping[str, Mapping[str, Any]],
    xlabel: str,
    ylabel: str,
    percent: bool = False,
    ylim: tuple[float, float] | None = None,
) -> Figure:
    """Lines as in `lines_with_intervals`, in panels side by side that share x, the y axis and one
    legend.

    Args:
        panels: {title: series}.
    """
    fig, axes = _axes((8.4, 3.9), xlabel, ylabel, list(panels))
    for ax, series in zip(axes, panels.values()):
        _draw_lines(ax, list(x), series, percent, ylim)
        if ax.legend_:
            ax.legend_.remove()
    fig.legend(
        *axes[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=3,
        frameon=False,
        labelcolor=INK,
    )
    return tell(fig, _lines_in_words(xlabel, x, panels, percent))


def grid_beside_control(
    rows: Mapping[str, Mapping[str, Mapping[str, Any]]],
    controls: Mapping[str, Mapping[str, Any]],
    xlabel: str,
    control: str,
    percent: bool = False,
    ylim: tuple[float, float] | None = None,
) -> Figure:
    """Small panels of lines, with a grey band for the control in each; all share the axes and one
    legend. Alt text has the lines' first and last values.

    Args:
        rows: {row: {column: {series: (x, values)}}}, with x and values (points,) of each series;
            the same columns in each row, and the same series in each panel.
        controls: {row: {column: (x, low, high)}}.
        control: what the band is.
    """
    columns = list(next(iter(rows.values())))
    fig = Figure(figsize=(8.4, 1.1 + 1.75 * len(rows)), layout="constrained", facecolor=PAPER)
    axes = fig.subplots(len(rows), len(columns), sharex=True, sharey=True, squeeze=False)
    for row, of_row in zip(axes, rows):
        for ax, column in zip(row, columns):
            _plain(ax)
            x, low, high = controls[of_row][column]
            _finite([low, high], control)
            ax.fill_between(x, low, high, color=SOFT, alpha=0.35, linewidth=0, label=control)
            series = rows[of_row][column].items()
            for (name, (x, values)), colour, marker in zip(series, PALETTE.values(), MARKERS):
                _finite(values, name)
                ax.plot(x, values, marker, ls="-", color=colour, label=name, lw=1.5, ms=4)
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
            ax.grid(axis="y", color="#e3e1da", linewidth=0.8)
            if ylim:
                ax.set_ylim(*ylim)
            if percent:
                ax.yaxis.set_major_formatter(PercentFormatter(1))
        row[0].set_ylabel(of_row, color=INK, fontsize=10)
    for ax, column in zip(axes[0], columns):
        ax.set_title(column, color=INK, fontsize=11, loc="left")
    for ax in axes[-1]:
        ax.set_xlabel(xlabel, color=INK, fontsize=10)
    fig.legend(
        *axes[0, 0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=4,
        frameon=False,
        labelcolor=INK,
        fontsize=9.5,
    )
    return tell(fig, _ends_in_words(rows, controls, xlabel, control, percent))


def _ends_in_words(rows, controls, xlabel, control, percent):
    """The first and the last value of each line, and the highest of each control."""
    said = "{:.0%}" if percent else "{:.2f}"
    sentences = []
    for row, of_row in rows.items():
        for column, series in of_row.items():
            each = []
            for name, (_, values) in series.items():
                ends = said.format(values[0])
                if len(values) > 1:
                    ends += f" to {said.format(values[-1])}"
                each.append(f"{name} {ends}")
            most = said.format(np.max(controls[row][column][2]))
            sentences.append(f"{row}, {column}: {', '.join(each)}; {control} up to {most}.")
    return f"From the first {xlabel} to the last. {' '.join(sentences)}"


def dots_with_intervals(
    names: Sequence[str],
    panels: Mapping[str, Mapping[str, Any]],
    xlabel: str,
    percent: bool = False,
    xlim: tuple[float, float] | None = None,
) -> Figure:
    """Dots with bars for their intervals, a row for each name from the top down, in panels side by
    side that share rows and one legend.

    Args:
        panels: {title: {series: (3, names) mean, low and high}}.
    """
    fig, axes = _axes((8.4, 1.3 + 0.36 * len(names)), xlabel, "", list(panels))
    for ax, series in zip(axes, panels.values()):
        for n, ((name, values), colour) in enumerate(zip(series.items(), PALETTE.values())):
            mean, low, high = np.asarray(_mean_and_interval(values, name), float)
            at = np.arange(len(names)) + 0.2 * (n - (len(series) - 1) / 2)
            ax.hlines(at, low, high, color=colour, linewidth=2)
            # whole at the edge of the axes, too
            style = {"color": colour, "markersize": 5.5, "clip_on": False, "zorder": 3}
            ax.plot(mean, at, MARKERS[n], label=name, **style)
        ax.set_yticks(range(len(names)), names)
        ax.grid(axis="x", color="#e3e1da", linewidth=0.8)
        if xlim:
            ax.set_xlim(*xlim)
        if percent:
            ax.xaxis.set_major_formatter(PercentFormatter(1))
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    if any(len(series) > 1 for series in panels.values()):
        fig.legend(
            *axes[0].get_legend_handles_labels(),
            loc="outside lower center",
            ncols=4,
            frameon=False,
            labelcolor=INK,
        )
    return tell(fig, _dots_in_words(names, panels, percent))


def trade_offs(
    panels: Mapping[str, Mapping[str, Any]],
    xlabel: str,
    ylabel: str,
    ylim: tuple[float, float] | None = None,
) -> Figure:
    """Curves of points that each have a place of their own on both axes, in per cent, with error
    bars; panels share the rest.

    Args:
        panels: {title: {name: (x, mean, low, high)}}, each of shape (points,).
    """
    fig, axes = _axes((8.4, 4.4), xlabel, ylabel, list(panels))
    for ax, curves in zip(axes, panels.values()):
        for (name, points), colour, marker in zip(curves.items(), PALETTE.values(), MARKERS):
            _finite(points[:2], name)
            x, mean, low, high = np.asarray(points)[:, np.argsort(points[0])]
            style = {
                "marker": marker,
                "color": colour,
                "label": name,
                "linewidth": 1.8,
                "markersize": 5.5,
            }
            ax.errorbar(x, mean, yerr=[mean - low, high - mean], elinewidth=0.8, **style)
        ax.grid(axis="y", color="#e3e1da", linewidth=0.8)
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
        if ylim:
            ax.set_ylim(*ylim)
    fig.legend(
        *axes[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=3,
        frameon=False,
        labelcolor=INK,
    )
    return tell(fig, _points_in_words(xlabel, ylabel, panels))


def _series_in_words(panels, percent):
    said = "{:.0%}" if percent else "{:.2f}"
    sentences = []
    for title, series in panels.items():
        for name, values in series.items():
            numbers = [said.format(v) for v in _mean_and_interval(values, name)[0]]
            sentences.append(f"{_named(title, name)}: {', '.join(numbers)}.")
    return " ".join(sentences)


def _named(title, name):
    return f"{title}, {name}" if title else name


def _lines_in_words(xlabel, x, panels, percent):
    places = list(x)
    return f"{xlabel}: {places[0]} to {places[-1]}. {_series_in_words(panels, percent)}"


def _dots_in_words(names, panels, percent):
    said = "{:.0%}" if percent else "{:.2f}"
    sentences = []
    for title, series in panels.items():
        for name, values in series.items():
            numbers = [said.format(value) for value in _mean_and_interval(values, name)[0]]
            each = ", ".join(f"{row} {number}" for row, number in zip(names, numbers))
            sentences.append(f"{_named(title, name)}: {each}.")
    return " ".join(sentences)


def _points_in_words(xlabel, ylabel, panels):
    sentences = [f"{ylabel} at {xlabel}."]
    for title, curves in panels.items():
        for name, points in curves.items():
            pairs = sorted(zip(points[0], points[1]))
            each = ", ".join(f"{y:.0%} at {x:.0%}" for x, y in pairs)
            sentences.append(f"{_named(title, name)}: {each}.")
    return " ".join(sentences)


def _mean_and_interval(values, name=""):
    """[mean, low, high], or [mean] where there is no interval. An interval may be nan, as that of a
    single scene is."""
    mean, *interval = list(values) if np.ndim(values[0]) else [values]
    _finite(mean, name)
    return [mean, *interval]


def _finite(values, name):
    """Raises ValueError, with the place, where a number is nan or infinite: a gap in a line says
    nothing about its cause."""
    wrong = np.argwhere(~np.isfinite(np.asarray(values, float)))
    if len(wrong):
        where = ", ".join(str(n) for n in wrong[0])
        raise ValueError(
            f"A figure shows finite numbers; {name!r} has {np.asarray(values)[tuple(wrong[0])]} at "
            f"{where} ({len(wrong)} of {np.size(values)} are not finite). Leave such points out, "
            "or mend what computed them."
        )


def _draw_lines(ax, x, series, percent, ylim):
    for (name, values), colour, marker in zip(series.items(), PALETTE.values(), MARKERS):
        mean, *interval = _mean_and_interval(values, name)
        ax.plot(x, mean, marker=marker, color=colour, label=name, linewidth=2, markersize=5.5)
        if interval:
            ax.fill_between(x, *interval, color=colour, alpha=0.18, linewidth=0)
    if all(isinstance(each, (int, np.integer)) for each in x) and len(x) <= 16:
        ax.set_xticks(x)
    ax.grid(axis="y", color="#e3e1da", linewidth=0.8)
    if ylim:
        ax.set_ylim(*ylim)
    if percent:
        ax.yaxis.set_major_formatter(PercentFormatter(1))  # as many decimals as the range asks for
    if len(series) > 1:
        ax.legend(frameon=False, labelcolor=INK)


def scatters(
    panels: Mapping[str, tuple[Any, Any]], columns: int = 3, label: str = "", size: float = 2.9
) -> Figure:
    """Clouds of points in the plane, `columns` to a row, with one colour scale for all.

    Args:
        panels: {title: (points (n, 2), values (n,) that give the colour)}.
        label: what the colour means. Axes have no scale.
    """
    rows = -(-len(panels) // columns)
    fig = Figure(figsize=(size * columns + 0.6, size * rows), layout="constrained", facecolor=PAPER)
    axes = fig.subplots(rows, columns, squeeze=False)
    for title, (points, values) in panels.items():
        _finite(points, title)
        _finite(values, title)
    low, high = (
        f(np.min(v) if f is min else np.max(v) for _, v in panels.values()) for f in (min, max)
    )
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, (title, (points, values)) in zip(axes.flat, panels.items()):
        cloud = ax.scatter(
            *np.asarray(points).T, c=values, cmap="cividis", vmin=low, vmax=high, s=16, linewidths=0
        )
        ax.set_title(title, fontsize=10, color=INK)
    _colour_bar(fig, cloud, axes, label)
    counted = "; ".join(f"{title}: {len(points)} points" for title, (points, _) in panels.items())
    return tell(fig, counted + (f"; coloured by {label}." if label else "."))


def clouds(panels: Mapping[str, Mapping[str, Any]], columns: int = 3, size: float = 2.9) -> Figure:
    """Clouds of points in the plane, `columns` to a row, with a colour and a marker for each kind
    of point.

    Args:
        panels: {title: {kind: points (n, 2)}}, the same kinds in each. Axes have no scale, and one
            unit is as long on both.
    """
    rows = -(-len(panels) // columns)
    fig = Figure(figsize=(size * columns, size * rows + 0.5), layout="constrained", facecolor=PAPER)
    axes = fig.subplots(rows, columns, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, (title, kinds) in zip(axes.flat, panels.items()):
        for (name, points), colour, marker in zip(kinds.items(), PALETTE.values(), MARKERS):
            _finite(points, name)
            ax.scatter(
                *np.asarray(points).T,
                color=colour,
                marker=marker,
                s=16,
                linewidths=0,
                alpha=0.75,
                label=name,
            )
        ax.set_aspect("equal", adjustable="datalim")
        ax.set_title(title, fontsize=10, color=INK)
    keys = axes.flat[0].get_legend_handles_labels()
    fig.legend(*keys, loc="outside lower center", ncols=6, frameon=False, labelcolor=INK)
    kinds = ", ".join(next(iter(panels.values())))
    return tell(fig, f"Points of {kinds}, in panels: {', '.join(panels)}.")


def heatmap(
    values: Sequence[Sequence[float]] | np.ndarray,
    xlabel: str = "",
    ylabel: str = "",
    title: str = "",
    xticks: Sequence[Any] | np.ndarray | None = None,
    yticks: Sequence[Any] | np.ndarray | None = None,
    numbers: bool | None = None,
    limits: tuple[float, float] | None = None,
    size: tuple[float, float] | None = None,
    ticks: bool = True,
    label: str = "",
) -> Figure:
    """A matrix (rows, columns) in colour, empty where it is not a number; signed values are centred
    on zero.

    Args:
        xticks, yticks: a label for each column and row; ticks=False shows none.
        numbers: write values into the cells, by default if few.
        limits: (lowest, highest) colour.
        label: what the colours stand for.
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 2 or np.isinf(values).any() or np.isnan(values).all():
        raise ValueError(
            "heatmap takes a matrix (rows, columns) of finite numbers, or nan for an empty cell, "
            f"one number at least; this one has shape {values.shape}, {np.isnan(values).sum()} nan "
            f"and {np.isinf(values).sum()} infinite."
        )
    rows, columns = values.shape
    size = size or (min(9, max(3.6, 0.5 * columns + 1.8)), min(7, max(2.8, 0.42 * rows + 1.2)))
    fig, (ax,) = _axes(size, xlabel, ylabel, [title])
    signed = (limits[0] if limits else np.nanmin(values)) < 0
    largest = np.nanmax(np.abs(values))
    low, high = limits or ((-largest, largest) if signed else (0, largest))
    picture = ax.imshow(
        values, cmap="RdBu_r" if signed else "cividis", vmin=low, vmax=high, aspect="auto"
    )
    _colour_bar(fig, picture, ax, label)
    if not ticks:
        ax.set_xticks([])
        ax.set_yticks([])
    for axis, labels, n in ((ax.xaxis, xticks, columns), (ax.yaxis, yticks, rows)):
        if labels is not None:
            axis.set_ticks(range(n), [str(label) for label in labels])
    if columns and xticks is not None and max(len(str(label)) for label in xticks) > 4:
        ax.tick_params(axis="x", rotation=40)
    if numbers if numbers is not None else values.size <= 80:
        for row, column in np.argwhere(np.isfinite(values)):
            value = values[row, column]
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
    return tell(fig, _matrix_in_words(values, xticks, yticks, label))


def _matrix_in_words(values, xticks, yticks, label):
    """All numbers of a small matrix; of a large one its size and its extremes."""
    rows = range(len(values)) if yticks is None else yticks
    columns = range(values.shape[1]) if xticks is None else xticks
    if values.size <= 80:
        lines = [
            f"{row}: " + ", ".join("empty" if np.isnan(v) else f"{v:.2f}" for v in line)
            for row, line in zip(rows, values)
        ]
        return f"Columns {', '.join(map(str, columns))}. Rows {'; '.join(lines)}."
    said = []
    for what, place in (("lowest", np.nanargmin(values)), ("highest", np.nanargmax(values))):
        row, column = np.unravel_index(place, values.shape)
        at = f"row {list(rows)[row]}, column {list(columns)[column]}"
        said.append(f"{what} {values[row, column]:.2f} at {at}")
    size = f"{values.shape[0]} rows, {values.shape[1]} columns"
    return f"{label or 'Values'}: {size}; {'; '.join(said)}."


def _colour_bar(fig, drawn, axes, label=""):
    bar = fig.colorbar(drawn, ax=axes)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=SOFT, labelsize=9)
    bar.set_label(label, color=INK)


def _axes(size, xlabel, ylabel, titles):
    fig = Figure(figsize=size, layout="constrained", facecolor=PAPER)
    axes = fig.subplots(1, len(titles), sharey=True, squeeze=False)[0]
    for ax, title in zip(axes, titles):
        _plain(ax)
        ax.set_xlabel(xlabel, color=INK, fontsize=11)
        if title:
            ax.set_title(title, color=INK, fontsize=12, loc="left")
    axes[0].set_ylabel(ylabel, color=INK, fontsize=11)
    return fig, axes


def _plain(ax):
    """Axes without a box, on the figure's paper."""
    ax.set_facecolor("none")
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(SOFT)
    ax.tick_params(colors=SOFT, labelcolor=INK, labelsize=10)
