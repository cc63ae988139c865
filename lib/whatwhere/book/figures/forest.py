"""All intervals of the ledger in one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from .. import ledger
from .paper import INK, PALETTE, PAPER, SOFT, show, tell

MARKS = {"reproduced": ("o", "blue"), "partly": ("s", "orange"), "not reproduced": ("v", "pink")}
COUNTS, STEP = 1.03, 0.04  # where the numbers of organisms stand, in widths of the axes
SCALES = {
    "shares": "share, or difference of shares",
    "points": "points of accuracy",
    "others": "cosine, ratio or error",
}


def show_forests(fleet: bool = False) -> None:
    """Show all measured rows of the ledger, a `forest` for each scale; or, with `fleet`, those over
    the organisms of each kind."""
    for scale, rows in ledger.by_scale(fleet).items():
        if rows:
            label = SCALES[scale] + (", mean of the organisms" if fleet else "")
            what = "over the organisms of each kind" if fleet else "one line a row of the ledger"
            fig = forest(rows, label, percent=scale == "shares")
            show(fig, f"Claims that are measured in {scale}, {what}: intervals and controls.")


def forest(rows: Sequence[Mapping[str, Any]], xlabel: str, percent: bool = False) -> Figure:
    """Rows of the ledger from the top down: what was measured with its interval, in the mark of its
    verdict, and under it in grey what its control gave. Of rows over a fleet, small marks above it
    are the organisms, and the numbers at the right, under the mark of each verdict, say how many
    have it.

    Args:
        rows: as `ledger.rows` returns them, measured ones.

    Raises:
        ValueError: where there is none.
    """
    if not rows:
        raise ValueError("forest draws measured rows of the ledger; it was given none.")
    fig = Figure(figsize=(8.4, 0.9 + 0.36 * len(rows)), layout="constrained", facecolor=PAPER)
    ax = fig.add_subplot()
    names, told, last, shade = [], [], None, False
    if any(map(ledger.by_organism, rows)):
        for k, (marker, colour) in enumerate(MARKS.values()):
            ax.plot(
                COUNTS + STEP * k, -0.75, marker, color=PALETTE[colour], markersize=5,
                transform=ax.get_yaxis_transform(), clip_on=False,
            )  # fmt: skip
    for n, row in enumerate(rows):
        claim, model = row["id"].removeprefix(ledger.ORGANISMS), row["measured"]["model"]
        shade ^= claim != last
        if shade:
            ax.axhspan(n - 0.5, n + 0.5, color="#e3e1da", alpha=0.5, linewidth=0)
        names.append(f"{claim if claim != last else ''}  {model}")
        last = claim
        marker, colour = MARKS[row["verdict"]]
        _dot(ax, n - 0.06, row["measured"], marker, PALETTE[colour], 6)
        _dot(ax, n + 0.24, row["control"], "x", SOFT, 4)
        said = f"{claim}, {model}: {_number(row['measured'], percent)}, {row['verdict']}"
        told.append(said + _organisms(ax, n, ledger.by_organism(row)))
    ax.axvline(0, color=SOFT, linewidth=0.8)
    ax.set_yticks(range(len(rows)), names, fontsize=8.5, color=INK)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.tick_params(colors=SOFT, labelcolor=INK)
    ax.set_facecolor("none")
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.spines["bottom"].set_color(SOFT)
    ax.set_xlabel(xlabel, color=INK, fontsize=11)
    if percent:
        ax.xaxis.set_major_formatter(PercentFormatter(1))
    keys = [_key(*MARKS[verdict], verdict) for verdict in MARKS]
    keys.append(Line2D([], [], color=SOFT, marker="x", markersize=4, label="control"))
    fig.legend(handles=keys, loc="outside lower center", ncols=4, frameon=False, labelcolor=INK)
    return tell(fig, "; ".join(told) + ".")


def _key(marker, colour, verdict):
    return Line2D([], [], color=PALETTE[colour], marker=marker, markersize=6, label=verdict)


def _dot(ax, y, part, marker, colour, size):
    if part["value"] is not None:
        ax.plot(part["value"], y, marker, color=colour, markersize=size)
    if part.get("ci95"):
        ax.hlines(y, *part["ci95"], color=colour, linewidth=1.6)


def _organisms(ax, n, organisms):
    """Small marks for the organisms behind a row, and beside it how many have each verdict; returns
    these numbers in words."""
    counts = {verdict: 0 for verdict in MARKS}
    for _, value, verdict in organisms:
        marker, colour = MARKS[verdict]
        ax.plot(value, n - 0.35, marker, color=PALETTE[colour], markersize=3, alpha=0.8)
        counts[verdict] += 1
    if not organisms:
        return ""
    for k, (verdict, count) in enumerate(counts.items()):
        ax.text(
            COUNTS + STEP * k, n, str(count), color=PALETTE[MARKS[verdict][1]] if count else SOFT,
            transform=ax.get_yaxis_transform(), ha="center", va="center", fontsize=8.5,
        )  # fmt: skip
    return " (" + ", ".join(f"{count} {verdict}" for verdict, count in counts.items()) + ")"


def _number(part, percent):
    value = part["value"]
    return f"{value:.1%}" if percent else f"{value:.3g}"
