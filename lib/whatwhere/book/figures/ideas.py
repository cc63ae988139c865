"""Pictures of what chapters are about: runs of words, arms of an experiment, centring, scenes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ...compress import groups
from ...hooks import check_range
from ...relations import centred, cosines
from ...scenes import OPPOSITE
from ...tokens import columns as width_of
from . import sheet
from .paper import INK, MARKERS, SOFT, tell
from .sheet import COLOURS, LINE, NAME


def runs(image: Any, words: Sequence[Sequence[str]] | np.ndarray, rows: Sequence[int]) -> Figure:
    """Rows of a token map as a run-length code: patches, their words, the runs of equal words, and
    one token for each run, in the place of its middle, with its length.

    Args:
        image: the picture that the grid lies over, as the model sees it.
        words: (rows, columns) a word for each visual token.
        rows: numbers of the rows to be drawn.

    Raises:
        ValueError: where words have no rows and columns, or there is no such row.
    """
    words = np.asarray(words)
    if words.ndim != 2 or not words.size:
        raise ValueError(
            "The words of a token map are in rows and columns, one for each visual token; the "
            f"array given has shape {words.shape}."
        )
    rows = [int(row) for row in rows]
    for row in rows:
        check_range("row", row, len(words) - 1)
    if not rows:
        raise ValueError("Name one row of the token map at least, such as rows=[5].")
    pixels, columns = np.asarray(image)[..., :3], words.shape[1]
    colour_of = {
        word: COLOURS[n % len(COLOURS)]
        for n, word in enumerate(dict.fromkeys(words[rows].ravel().tolist()))
    }
    left, width, letter = 0.9, 5.6, 0.086
    cell = (width - left - 0.1) / columns
    long = min(14, max(width_of(str(word)) for word in words[rows].flat))
    strip, high, gap = min(cell, 0.4), 0.16 + letter * long, 0.26
    tall = strip + 2 * high + gap + 0.95
    fig, ax = sheet.new(width, tall * len(rows) + 0.05)
    tokens, told = 0, []
    for n, row in enumerate(rows):
        y = 0.1 + tall * n
        sheet.write(ax, left, y + 0.06, f"row {row}", fontsize=NAME, weight="bold", ha="left")
        y += 0.22
        for text, at in (
            ("patches", y + strip / 2),
            ("words", y + strip + high / 2 + 0.04),
            ("tokens", y + strip + 0.04 + high + gap + high / 2),
            ("column", y + strip + 0.04 + 2 * high + gap + 0.13),
            ("length", y + strip + 0.04 + 2 * high + gap + 0.33),
        ):
            sheet.write(ax, left - 0.1, at, text, color=SOFT, ha="right")
        for column in range(columns):
            x = left + column * cell
            field = sheet.field(pixels, words.shape, row, column)
            sheet.image(ax, field, x + 0.01, y, cell - 0.02, strip)
            word = str(words[row, column])
            _cell(ax, x, y + strip + 0.04, cell, high, word, colour_of[word], 0.22)
        group, code = groups.rows(words[row : row + 1]), []
        for number in np.unique(group):
            members = np.flatnonzero(group == number)
            first, last, length = int(members[0]), int(members[-1]), len(members)
            middle = (first + last) // 2  # of two, the first, as `compress.compressed` has it
            word = str(words[row, first])
            y1, y2 = y + strip + 0.08 + high, y + strip + 0.04 + high + gap
            x0, x1 = left + first * cell + 0.04, left + (last + 1) * cell - 0.04
            x = left + (middle + 0.5) * cell
            ax.plot([x0, x0, x1, x1], [y1, y1 + 0.06, y1 + 0.06, y1], color=INK, linewidth=1.1)
            sheet.arrow(ax, (x, y1 + 0.06), (None, y2 - 0.01), INK)
            _cell(ax, left + middle * cell, y2, cell, high, word, colour_of[word], 0.55)
            sheet.write(ax, x, y2 + high + 0.13, str(middle))
            sheet.write(ax, x, y2 + high + 0.33, f"×{length}", weight="bold")
            code.append(f"{length} × {word} at {middle}")
        tokens += len(code)
        told.append(f"Row {row}: {', '.join(code)}.")
    summary = (
        f"{len(rows) * columns} patches in {len(rows)} rows of a token map become {tokens} tokens, "
        "one for each run of equal words, at the column of its middle. "
        if len(rows) > 1
        else f"{columns} patches in a row of a token map become {tokens} tokens, one for each run "
        "of equal words, at the column of its middle. "
    )
    return tell(fig, summary + " ".join(told))


def timelines(arms: Mapping[str, Sequence[str | tuple[str, int]]], change: str) -> Figure:
    """What is trained and when: a line for each arm of an experiment, from left to right.

    A stretch of training is as long as it has steps, and in another colour once the change has been
    made. Events have no length.

    Args:
        arms: {name: parts in their order}; a part is the name of an event, such as "scale" or
            "test", or (name, steps) of a stretch of training.
        change: the event after which stretches are drawn in the other colour.

    Raises:
        ValueError: where there is no arm, an arm has no stretch, or a stretch has no steps.
    """
    if not arms:
        raise ValueError("There is no line: give one arm at least, {name: parts}.")
    for name, parts in arms.items():
        steps = [part[1] for part in parts if not isinstance(part, str)]
        if not steps or min(steps) < 1:
            raise ValueError(f"{name!r} has {parts!r}; each arm trains for one step or more.")
    left, wide, event, each = 0.15, 5.1, 0.56, 1.02
    longest = max(
        sum(0 if isinstance(part, str) else part[1] for part in parts) for parts in arms.values()
    )
    most = max(sum(isinstance(part, str) for part in parts) for parts in arms.values())
    inches = (wide - most * event) / longest  # for a step
    fig, ax = sheet.new(5.4, 0.1 + each * len(arms))
    told = []
    for n, (name, parts) in enumerate(arms.items()):
        y = 0.22 + each * n
        sheet.write(ax, left, y, name, ha="left", fontsize=NAME, weight="bold")
        y, x, colour = y + 0.44, left, COLOURS[0]
        for part in parts:
            if isinstance(part, str):
                colour = COLOURS[1] if part == change else colour
                edge = COLOURS[1] if part == change else INK
                ax.plot([x, x + event], [y, y], color=LINE, linewidth=2, zorder=0)
                ax.plot(x + event / 2, y, "o", color=edge, markersize=9)
                sheet.write(ax, x + event / 2, y + 0.27, part, color=edge)
                x += event
                continue
            what, steps = part
            ax.add_patch(
                Rectangle(
                    (x, y - 0.21),
                    steps * inches,
                    0.42,
                    facecolor=sheet.tint(colour, 0.18),
                    edgecolor=colour,
                    linewidth=1.4,
                )
            )
            sheet.write(ax, x + steps * inches / 2, y - 0.08, what)
            sheet.write(ax, x + steps * inches / 2, y + 0.09, f"{steps:,}", color=SOFT)
            x += steps * inches
        listed = [
            part if isinstance(part, str) else f"{part[0]} ({part[1]:,} steps)" for part in parts
        ]
        told.append(f"{name}: {', then '.join(listed)}")
    return tell(fig, f"Lines of time. {'. '.join(told)}.")


def centring(
    images: Sequence[Any], vectors: np.ndarray | Sequence[Sequence[float]], names: Sequence[str]
) -> Figure:
    """The pictures of one controlled set, and their vectors as arrows, as they are and with their
    mean taken away, each time in the plane that holds most of them.

    A plane has no up and right of its own. On the left the mean is drawn to the right; on the right
    the change from left to right is: which way it points says nothing of the model.

    The number under each plane is the share of the vectors' squared length that lies in it; cosines
    are of the whole vectors.

    Args:
        images: one for each vector.
        vectors: (relations, features).
        names: their relations. Cosines are given for those that are opposites.

    Raises:
        ValueError: where the three do not fit, or a number is not finite.
    """
    values = np.asarray(vectors, float)
    if values.ndim != 2 or not len(values) == len(images) == len(names) >= 2:
        raise ValueError(
            "Centring takes a picture, a vector and a name for each relation, two at least; got "
            f"{len(images)} pictures, vectors of shape {values.shape} and {len(names)} names."
        )
    if len(values) > len(COLOURS):
        raise ValueError(f"Centring draws {len(COLOURS)} relations at most; got {len(values)}.")
    if not np.isfinite(values).all():
        raise ValueError(
            "The vectors hold numbers that are not finite (nan or infinite); mend what computed "
            "them."
        )
    less = centred(values)
    panels = {"as they are; dashed, their mean": values, "less their mean": less}
    opposites = [
        (a, names.index(OPPOSITE[name]))
        for a, name in enumerate(names)
        if OPPOSITE.get(name) in names and a < list(names).index(OPPOSITE[name])
    ]
    n, width = len(values), 5.4
    side = (width - 0.1 * (n + 1)) / n
    high = max(side * np.shape(i)[0] / np.shape(i)[1] for i in map(np.asarray, images))
    height = 0.33 + high + 0.35 + 2.5 + 0.5 + 0.2 * max(1, len(opposites))
    fig, ax = sheet.new(width, height)
    for m, (image, name) in enumerate(zip(images, names)):
        x = 0.1 + m * (side + 0.1)
        sheet.image(ax, np.asarray(image)[..., :3], x, 0.33, side, high)
        ax.add_patch(
            Rectangle((x, 0.33), side, high, fill=False, edgecolor=COLOURS[m], linewidth=3)
        )
        centre = x + side / 2
        offset = 0.5 * 0.09 * width_of(name) + 0.1
        ax.plot(centre - offset, 0.17, MARKERS[m], color=COLOURS[m], markersize=7)
        sheet.write(ax, centre + 0.06, 0.17, name, fontsize=NAME, weight="bold")
    # planes have no up and right of their own: what is shared points right, then right points right
    steps = [values[a] - values[b] for a, b in opposites] or [values[0] - values[1]]
    towards = [(values.mean(0), steps[0]), (-steps[-1], steps[0])]
    told = []
    for m, (title, of) in enumerate(panels.items()):
        plane, share = _plane(of, *towards[m])
        flat = of @ plane.T
        x, y = 0.1 + m * 2.7, 0.33 + high + 0.35
        panel = fig.add_axes((x / width, 1 - (y + 2.5) / height, 2.5 / width, 2.5 / height))
        room = 1.15 * max(np.abs(flat).max(), 1e-12)
        panel.set(xlim=(-room, room), ylim=(-room, room), xticks=[], yticks=[], facecolor="white")
        for spine in panel.spines.values():
            spine.set_color("#c9c6bd")
        panel.axhline(0, color="#e3e1da", linewidth=0.8, zorder=0)
        panel.axvline(0, color="#e3e1da", linewidth=0.8, zorder=0)
        if m == 0:
            middle = flat.mean(0)
            panel.plot(*zip((0, 0), middle), "--", color=SOFT, linewidth=1.5, zorder=1)
        for tip, colour, marker in zip(flat, COLOURS, MARKERS):
            panel.annotate(
                "",
                tip,
                (0, 0),
                arrowprops={
                    "arrowstyle": "-",
                    "color": colour,
                    "linewidth": 2.2,
                    "shrinkA": 0,
                    "shrinkB": 0,
                },
            )
            panel.plot(*tip, marker, color=colour, markersize=8, zorder=3)
        panel.plot(0, 0, "o", color=INK, markersize=4, zorder=4)
        panel.set_title(title, fontsize=NAME, color=INK)
        y += 2.5
        found = cosines(of)
        lines = [f"{share:.0%} lies in this plane"]
        lines += [
            f"{names[a]}, {names[b]}: cosine {found[a, b]:.2f}".replace("-", "−")
            for a, b in opposites
        ]
        for line, text in enumerate(lines):
            sheet.write(ax, x, y + 0.17 + 0.2 * line, text, ha="left")
        told.append(f"{title.capitalize()}, {'; '.join(lines)}")
    return tell(
        fig,
        f"Pictures of {', '.join(names)}, and their {n} vectors as arrows in the plane that holds "
        f"most of their squared length, turned so that the mean, and then {names[-1]}, points "
        f"right. {'. '.join(told)}. Less their mean, they sum to zero.",
    )


def worlds(scenes: Sequence[Any], titles: Sequence[str] = (), columns: int = 2) -> Figure:
    """Scenes side by side, each with what is on it in words, or with a title of its own.

    Args:
        scenes: with an `image` and `things`, such as `world.scene(7)`.
        titles: in place of the words.
        columns: pictures in a row.

    Raises:
        ValueError: for no scenes, or another number of titles.
    """
    scenes = list(scenes)
    if not scenes:
        raise ValueError("There are no scenes to draw.")
    if titles and len(titles) != len(scenes):
        n = len(scenes)
        takes = "1 scene takes one title" if n == 1 else f"{n} scenes take as many titles"
        raise ValueError(f"{takes}; got {len(titles)}.")
    if isinstance(columns, bool) or int(columns) != columns or columns < 1:
        raise ValueError(f"A row has one picture or more; got {columns!r} columns.")
    listed = [[_named(thing) for thing in scene.things] for scene in scenes]
    columns = min(columns, len(scenes))
    gap, line = 0.12, 0.19
    side = min((5.2 - gap * (columns - 1)) / columns, 3.4)
    texts = [
        sheet.wrapped(title, int(side / 0.075))
        for title in (titles or [", ".join(words) or "nothing" for words in listed])
    ]
    pixels = [np.asarray(scene.image)[..., :3] for scene in scenes]
    highs = [side * each.shape[0] / each.shape[1] for each in pixels]
    below = [high + 0.2 + line * (text.count("\n") + 1) for high, text in zip(highs, texts)]
    rows = [max(below[n : n + columns]) for n in range(0, len(scenes), columns)]
    fig, ax = sheet.new(0.2 + columns * (side + gap) - gap, 0.12 + sum(rows))
    for n, text in enumerate(texts):
        x, y = 0.1 + n % columns * (side + gap), 0.1 + sum(rows[: n // columns])
        sheet.image(ax, pixels[n], x, y, side, highs[n])
        sheet.write(ax, x, y + highs[n] + 0.06, text, va="top", linespacing=1.25, ha="left")
    told = "; ".join(
        f"{titles[n]}: {', '.join(words) or 'nothing'}" if titles else ", ".join(words) or "nothing"
        for n, words in enumerate(listed)
    )
    return tell(fig, f"{len(scenes)} scene{'s' if len(scenes) > 1 else ''}. {told}.")


def _cell(ax, x, y, width, height, word, colour, strength):
    """A cell of a token map with its word written upwards."""
    ax.add_patch(
        Rectangle(
            (x + 0.01, y),
            width - 0.02,
            height,
            facecolor=sheet.tint(colour, strength),
            edgecolor=colour,
            linewidth=0.8,
        )
    )
    sheet.write(
        ax,
        x + width / 2,
        y + height / 2,
        sheet.short(word, 14),
        fontsize=min(NAME, 60 * width),
        rotation=90,
    )


def _plane(vectors, right, up):
    """(2, features) orthonormal: the plane that holds most of the vectors' squared length, turned
    so that `right` points right in it and `up` not down; and the share that it holds."""
    _, sizes, directions = np.linalg.svd(vectors, full_matrices=False)
    plane = directions[:2] if len(directions) > 1 else np.vstack([directions, 0 * directions])
    x, y = plane @ right
    length = math.hypot(x, y)
    if length > 1e-9 * (np.linalg.norm(right) or 1):
        plane = np.array([[x, y], [-y, x]]) / length @ plane
    plane = plane * np.array([[1], [-1 if plane[1] @ up < 0 else 1]])
    return plane, float((sizes[:2] ** 2).sum() / ((sizes**2).sum() or 1))


def _named(thing):
    """ "red striped mug": attributes before the category, as one says it."""
    category = getattr(thing, "category", thing.words[0])
    rest = [word for word in thing.words if word != category]
    if category == "sign" and rest:
        return f"sign “{' '.join(rest)}”"
    return " ".join([*rest, category])
