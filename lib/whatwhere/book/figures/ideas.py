"""Pictures of ideas: what a chapter is about, drawn from a real model, scene, word or vector.

    fig = ideas.pipeline(vlm, scene.image, "what is the yellow object ?")
    fig.told                       # the same in words, for its alt text

Nothing on them is invented: shapes, words, angles and lengths are those of what the function is
given. They are narrow and tall, so that their texts can be read on a telephone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle, Wedge

from ... import geometry
from ...compress import groups
from ...hooks import check_range
from ...relations import centred, cosines
from ...scenes import OPPOSITE
from ...tokens import columns as width_of
from . import sheet
from .paper import INK, MARKERS, PALETTE, PAPER, SOFT, tell
from .sheet import COLOURS, LINE, NAME, NOTE

if TYPE_CHECKING:
    from ...models import VLM
    from ...rope import Rotary
    from ...types import ImageLike

FEW = 8  # blocks that are all drawn; of more, the first two and the last
ALL_AXES = {1: ("position",), 2: ("row", "column"), 3: ("time", "row", "column")}


# -- the model ------------------------------------------------------------------------------------


@torch.no_grad()
def pipeline(vlm: VLM, image: ImageLike, question: str) -> Figure:
    """The way from a picture to a word: on the left what is done, on the right what comes of it, as
    it is in this model, with its shape.

    States are drawn as matrices, a column for each patch or token and a row for each number, red
    above zero and blue below. Where patches are merged, there are fewer columns after the
    connector, and patches of one token are neighbours before it.

    Args:
        image: anything that the model takes.
        question: asked about it; the bars are the likeliest next words after it.
    """
    grid, token_grid = geometry.grids(vlm, image)
    pixels = _seen(vlm, image, grid)
    merge, n_patches = vlm.adapter.merge, grid[0] * grid[1]
    state = vlm.vit_states(image, [vlm.last_depth])[0].reshape(n_patches, -1)
    tokens = vlm.visual_tokens(image)[:, : vlm.unembedding.weight.shape[1]]
    inputs = vlm.prepare(image, question)
    ids, visual = (each[0].cpu() for each in (inputs["input_ids"], vlm.image_places(inputs)))
    chances = vlm.logits(image, question)[-1].float().softmax(-1)
    best = chances.topk(min(4, len(chances)))
    likeliest = [(str(vlm.words[n]), p.item()) for n, p in zip(best.indices, best.values)]
    answer = vlm.answer(image, question, max_new_tokens=12)
    sides = [pixels.shape[axis] // grid[axis] for axis in (0, 1)]

    left, width, right, wide, high = 0.1, 1.7, 2.25, 3.05, 0.8
    merging = f"{merge} × {merge} patches a token" if merge > 1 else "a token for each patch"
    steps = [
        ("picture", "", SOFT),
        ("patches", "cut apart", SOFT),
        ("vision encoder", f"{vlm.last_depth} blocks", COLOURS[0]),
        ("connector", merging, COLOURS[2]),
        ("sentence", "with the question", SOFT),
        ("language model", f"{vlm.n_layers} blocks, final norm,\nunembedding", COLOURS[1]),
    ]
    shapes = [
        f"{pixels.shape[0]} × {pixels.shape[1]} pixels, 3 colours",
        f"{grid[0]} × {grid[1]} = {n_patches} patches of {sides[0]} × {sides[1]} pixels",
        f"patches' states ({n_patches}, {state.shape[1]})",
        f"visual tokens ({len(tokens)}, {tokens.shape[1]})",
        f"({len(ids)}, {tokens.shape[1]}), of which {int(visual.sum())} are visual tokens",
        f"probabilities ({len(chances):,}): “{sheet.short(answer, 22)}”",
    ]
    chips, lines = _sentence(vlm, ids, visual, wide)
    tall = 1.15  # of the picture
    highs = [tall, tall, high, high, 0.3 * lines, high]
    tops = [0.12 + sum(highs[:n]) + 0.45 * n for n in range(6)]
    fig, ax = sheet.new(5.4, tops[-1] + high + 0.37)
    middles = [top + each / 2 for top, each in zip(tops, highs)]
    for n, ((name, note, colour), middle) in enumerate(zip(steps, middles)):
        sheet.box(ax, left, middle - 0.36, width, 0.72, colour, name, note)
        if n:
            sheet.arrow(ax, (left + width / 2, middles[n - 1] + 0.38), (None, middle - 0.39))
        sheet.arrow(ax, (left + width + 0.04, middle), (right - 0.07, None), SOFT)
        sheet.write(ax, right, tops[n] + highs[n] + 0.15, shapes[n], ha="left")
    across = min(tall * pixels.shape[1] / pixels.shape[0], wide)
    down = min(tall, across * pixels.shape[0] / pixels.shape[1])
    sheet.image(ax, pixels, right, middles[0] - down / 2, across, down)
    sheet.image(ax, sheet.apart(pixels, grid), right, middles[1] - down / 2, across, down)
    sheet.matrix(ax, state, right, tops[2], wide, high)
    sheet.matrix(ax, tokens, right, tops[3], wide * len(tokens) / n_patches, high)
    for x, line, each, chip in chips:
        _chip(ax, right + x, tops[4] + 0.3 * line, each, chip, pixels, token_grid)
    for n, (word, chance) in enumerate(likeliest):
        y = tops[5] + 0.1 + 0.2 * n
        ax.add_patch(Rectangle((right + 1.1, y - 0.07), 1.3 * chance, 0.14, color=COLOURS[1]))
        sheet.write(ax, right + 1.02, y, sheet.short(word, 13), ha="right")
        sheet.write(ax, right + 1.15 + 1.3 * chance, y, f"{chance:.2f}", ha="left")
    told = (
        f"{vlm.name}, step by step. "
        + " ".join(
            f"{name.capitalize()}{f' ({note})' if note else ''}: {shape}."
            for (name, note, _), shape in zip(steps, shapes)
        ).replace("\n", " ")
        + f" Asked “{question}”, its likeliest next words are "
        + ", ".join(f"{word} {chance:.2f}" for word, chance in likeliest)
        + f"; it answers “{answer}”."
    )
    return tell(fig, told)


@torch.no_grad()
def taps(vlm: VLM, image: ImageLike) -> Figure:
    """The residual stream as a line from patches to the next word: each block reads from it and
    adds to it; between blocks are the taps where the book reads, with their names.

    Of a tower with many blocks the first two and the last are drawn. ViT depths that are added
    again in the LM (Qwen3-VL) are dashed.

    Args:
        image: for the shapes of states.
    """
    (rows, columns), _ = geometry.grids(vlm, image)
    features = vlm.vit_states(image, [0]).shape[-1] // vlm.adapter.merge**2
    n_tokens, lm_width = vlm.visual_tokens(image).shape[0], vlm.unembedding.weight.shape[1]
    extra = vlm.adapter.extra_depths
    vit = _drawn_blocks(vlm.last_depth, extra)
    lm = _drawn_blocks(vlm.n_layers, range(1, len(extra) + 1))
    unread = len(vlm.vision_blocks) - vlm.last_depth

    step, head, line, box = 0.52, 0.6, 1.25, 1.9
    height = 3 * head + step * (len(vit) + len(lm)) + 1.05 + (0.34 if unread else 0)
    fig, ax = sheet.new(5.2, height)
    at: dict[str, float] = {}

    def tower(top, name, blocks, colour, notes):
        """Draws blocks below a height; gives the height of the last tap."""
        ax.add_patch(
            Rectangle((0.08, top - 0.22), 5.04, step * len(blocks) + 0.44, color=colour, alpha=0.09)
        )
        for n, note in enumerate(notes):
            sheet.write(ax, box + 1.42, top + 0.2 + 0.18 * n, note, color=SOFT, ha="left")
        for n, block in enumerate(blocks):
            y = top + step * n
            if isinstance(block, tuple):
                first, last = block
                tap(y, f"{name} {first - 1}")
                ax.plot([line, line], [y + 0.04, y + step], ":", color=INK, linewidth=2)
                sheet.write(ax, box + 0.65, y + step / 2, f"blocks {first} to {last}", color=SOFT)
                continue
            tap(y, f"{name} {block - 1}")
            ax.plot([line, line], [y, y + step], color=INK, linewidth=2.2, zorder=1)
            ax.plot([line, box], [y + 0.17] * 2, color=colour, linewidth=1.5, zorder=1)
            sheet.box(ax, box, y + 0.1, 1.3, 0.37, colour, f"block {block}")
            sheet.arrow(ax, (box - 0.03, y + 0.4), (line + 0.11, y + 0.4), colour)
            ax.add_patch(Circle((line, y + 0.4), 0.085, facecolor="white", edgecolor=colour))
            sheet.write(ax, line, y + 0.395, "+")
        tap(top + step * len(blocks), f"{name} {vlm.last_depth if name == 'ViT' else vlm.n_layers}")
        return top + step * len(blocks)

    def tap(y, name):
        if name not in at:
            at[name] = y
            ax.plot([0.85, line], [y, y], color=INK, linewidth=1, zorder=1)
            ax.plot(line, y, "o", color=INK, markersize=7, zorder=3)
            sheet.write(ax, 0.8, y, name, fontsize=NAME, ha="right", weight="bold")

    def through(y, names, notes, colour, above=0.56, below=0.56):
        """A box on the line itself, with two lines of text beside it."""
        ax.plot([line, line], [y - above, y + below], color=INK, linewidth=2.2, zorder=1)
        sheet.box(ax, line - 0.75, y - 0.18, 1.5, 0.36, colour, names)
        for n, note in enumerate(notes):
            sheet.write(ax, line + 0.87, y + 0.18 * (n - (len(notes) - 1) / 2), note, ha="left")

    sheet.write(ax, line, 0.14, "patches", fontsize=NAME)
    y = 0.55
    vit_shape, lm_shape = (rows * columns, features), (n_tokens, lm_width)
    blocks_of = f"vision encoder: {vlm.last_depth} blocks"
    shapes = [blocks_of, f"patches' states {vit_shape}"]
    through(y, "patch embedding", shapes, COLOURS[0], above=0.3)
    notes = ["attention, then a", "small network: both", "add to the stream"]
    if extra:  # their lines pass here
        notes = []
    y = tower(y + head - 0.1, "ViT", vit, COLOURS[0], notes)
    if unread:
        y += 0.34
        ax.plot([line, line], [y - 0.34, y], color=INK, linewidth=2.2, zorder=1)
        note = f"{unread} more block{'s' if unread > 1 else ''}, which the connector does not read"
        sheet.write(ax, line + 0.2, y - 0.03, note, color=SOFT, ha="left")
    y += head - 0.05
    blocks_of = f"language model: {vlm.n_layers} blocks"
    through(y, "connector", [blocks_of, f"visual tokens' states {lm_shape}"], COLOURS[2])
    notes = ["here a place attends", "to itself and to the", "places before it"]
    if extra:
        notes = ["dashed: added", "again, here"]
    y = tower(y + head - 0.05, "LM", lm, COLOURS[1], notes)
    y += head - 0.05
    ends = ["final norm, then unembedding:", f"a score for each of {len(vlm.words):,} words"]
    through(y, "to words", ends, SOFT, below=0)
    for n, depth in enumerate(extra, start=1):
        x = 4.95 - 0.13 * (n - 1)
        start, end = at[f"ViT {depth}"], at[f"LM {n}"] + 0.06
        ax.plot([line, x, x], [start, start, end], "--", color=COLOURS[4], linewidth=1.3)
        sheet.arrow(ax, (x, end), (line + 0.06, None), COLOURS[4], dashed=True)
    ax.set_ylim(y + 0.3, 0)
    fig.set_size_inches(5.2, y + 0.3)
    told = (
        f"The residual stream of {vlm.name}, a line from patches to words. After the patch "
        f"embedding, {vlm.last_depth} blocks of the vision encoder add to {rows * columns} states "
        f"of {features} numbers, with taps ViT 0 to ViT {vlm.last_depth}; after the connector, "
        f"{vlm.n_layers} blocks of the language model add to {n_tokens} visual tokens of "
        f"{lm_width} numbers, with taps LM 0 to LM {vlm.n_layers}; then come the final norm and "
        f"the unembedding."
        + (f" The connector does not read {unread} more of the encoder." if unread else "")
        + "".join(
            f" What ViT {depth} holds is added again after LM block {n}."
            for n, depth in enumerate(extra, start=1)
        )
    )
    return tell(fig, told)


@torch.no_grad()
def early_exit(vlm: VLM, image: ImageLike, patch: tuple[int, int], layer: int) -> Figure:
    """The logit lens as an early exit: one visual token on its way through the LM, once to the end
    and once from a layer straight to the final norm and the unembedding, with the words that come
    out of either.

    Args:
        patch: (row, column) of the visual token.
        layer: where it leaves, before the last.

    Raises:
        ValueError: for a patch outside the grid, and for the last layer, after which nothing is
            left out.
    """
    rows, columns = vlm.patch_grid(image)
    _check_on_grid(patch, (rows, columns))
    check_range("layer", layer, vlm.n_layers)
    if layer == vlm.n_layers:
        raise ValueError(
            f"An early exit leaves blocks out, and after layer {layer} of {vlm.name} there are "
            f"none; take a layer from 0 to {vlm.n_layers - 1}."
        )
    inputs = vlm.prepare(image, "")
    given, positions = vlm.embed(inputs), vlm.position_ids(inputs)
    place = vlm.positions(image).index[patch[0] * columns + patch[1]]
    read = []
    for each in (vlm.n_layers, layer):
        state = vlm.lm_hidden(given, inputs["attention_mask"], positions, layer=each)[0, place]
        chances = vlm.unembedding(vlm.final_norm(state)).float().softmax(-1).cpu()
        best = chances.topk(3)
        read.append([(str(vlm.words[n]), p.item()) for n, p in zip(best.indices, best.values)])

    blocks = _drawn_blocks(vlm.n_layers, (layer, layer + 1))
    step, top, line, exit_x = 0.56, 2.3, 1.25, 3.85
    bottom = top + step * len(blocks)
    fig, ax = sheet.new(5.2, bottom + 1.85)
    pixels = _seen(vlm, image, geometry.grids(vlm, image)[0])
    high = min(1.25, 2.0 * pixels.shape[0] / pixels.shape[1])
    wide = high * pixels.shape[1] / pixels.shape[0]
    sheet.image(ax, pixels, line - wide / 2, 0.1, wide, high)
    corner = (line - wide / 2 + patch[1] * wide / columns, 0.1 + patch[0] * high / rows)
    frame = Rectangle(
        corner, wide / columns, high / rows, fill=False, edgecolor="white", linewidth=2.5
    )
    ax.add_patch(frame)
    ax.add_patch(_thin(frame))
    sheet.image(ax, sheet.field(pixels, (rows, columns), *patch), exit_x - 0.42, 0.12, 0.84, 0.84)
    for dy, y in ((0, 0.12), (1, 0.96)):
        near = corner[0] + wide / columns, corner[1] + dy * high / rows
        ax.plot(*zip(near, (exit_x - 0.42, y)), color=SOFT, linewidth=0.8)
    sheet.write(ax, exit_x, 1.12, f"row {patch[0]}, column {patch[1]}")
    sheet.box(ax, line - 0.95, top - 0.72, 1.9, 0.42, COLOURS[2], "encoder, connector")
    sheet.arrow(ax, (line, 0.1 + high + 0.02), (None, top - 0.74))
    sheet.arrow(ax, (line, top - 0.28), (None, top - 0.06))
    for n, block in enumerate(blocks):
        y = top + step * n
        if isinstance(block, tuple):
            _exit_tap(ax, line, y, block[0] - 1, False)
            ax.plot([line, line], [y, y + step], ":", color=INK, linewidth=2)
            sheet.write(
                ax,
                line + 0.2,
                y + step / 2,
                f"blocks {block[0]} to {block[1]}",
                color=SOFT,
                ha="left",
            )
            continue
        _exit_tap(ax, line, y, block - 1, block - 1 == layer)
        ax.plot([line, line], [y, y + step], color=INK, linewidth=2.2, zorder=1)
        sheet.box(ax, line - 0.6, y + 0.12, 1.2, 0.33, COLOURS[1], f"block {block}")
        if block - 1 == layer:
            way = [(line, y), (exit_x, y), (exit_x, bottom + 0.27)]
            ax.plot(*zip(*way[:2]), color=COLOURS[4], linewidth=2.6, zorder=1)
            sheet.write(
                ax,
                exit_x - 0.1,
                y - 0.15,
                f"exit at layer {layer}",
                fontsize=NAME,
                ha="right",
                color=COLOURS[4],
                weight="bold",
            )
            sheet.arrow(ax, way[1], way[2], COLOURS[4], width=2.6)
            between = " and " if vlm.n_layers - layer == 2 else " to "
            numbers = dict.fromkeys((str(layer + 1), str(vlm.n_layers)))
            left_out = f"block{'s' if len(numbers) > 1 else ''} {between.join(numbers)}"
            for m, text in enumerate((left_out, "left out")):
                middle = (y + bottom + 0.1) / 2 + 0.19 * m
                sheet.write(ax, exit_x - 0.12, middle, text, color=SOFT, ha="right")
    _exit_tap(ax, line, bottom, vlm.n_layers, False)
    sheet.arrow(ax, (line, bottom), (None, bottom + 0.27))
    for x, colour, words in ((line, INK, read[0]), (exit_x, COLOURS[4], read[1])):
        sheet.box(ax, x - 1.15, bottom + 0.3, 2.3, 0.45, colour, "final norm, unembedding")
        for n, (word, chance) in enumerate(words):
            y = bottom + 1.0 + 0.24 * n
            sheet.write(ax, x - 0.28, y, sheet.short(word, 10), fontsize=NAME, ha="right")
            ax.add_patch(Rectangle((x - 0.2, y - 0.07), 0.8 * chance, 0.14, color=colour))
            sheet.write(ax, x - 0.14 + 0.8 * chance, y, f"{chance:.2f}", ha="left")
    listed = [", ".join(f"{word} {chance:.2f}" for word, chance in words) for words in read]
    told = (
        f"The visual token at row {patch[0]}, column {patch[1]} passes the {vlm.n_layers} blocks "
        f"of {vlm.name}'s language model; after all of them, final norm and unembedding read "
        f"{listed[0]}. An arrow leaves at layer {layer}, past the other "
        f"{vlm.n_layers - layer} blocks, to the same two steps, which read {listed[1]}."
    )
    return tell(fig, told)


def _seen(vlm, image, grid):
    """(height, width, 3) the pixels that become patches, (rows, columns) of them: all that is seen
    but for a last strip too narrow for a patch."""
    pixels = np.asarray(vlm.seen(image).convert("RGB"))
    rows, columns = (side // cells * cells for side, cells in zip(pixels.shape, grid))
    return pixels[:rows, :columns]


def _thin(frame):
    """The same frame again, thin and dark, so that it is seen on light and on dark pixels."""
    return Rectangle(
        frame.get_xy(),
        frame.get_width(),
        frame.get_height(),
        fill=False,
        edgecolor=INK,
        linewidth=0.8,
    )


def _exit_tap(ax, x, y, layer, leaves):
    colour = COLOURS[4] if leaves else INK
    ax.plot(x, y, "o", color=colour, markersize=8 if leaves else 6, zorder=3)
    sheet.write(ax, x - 0.7, y, f"LM {layer}", fontsize=NAME, ha="right", color=colour)


def _drawn_blocks(n, also=()):
    """Numbers of the blocks that are drawn, from 1, and (first, last) of those left out between."""
    if n <= FEW:
        return list(range(1, n + 1))
    near = {number + more for number in also for more in (0, 1)} | {1, 2, n}
    kept = sorted(number for number in near if 1 <= number <= n)
    drawn: list[int | tuple[int, int]] = []
    for before, number in zip([0, *kept], kept):
        if number - before == 2:  # a single one is as soon drawn as left out
            drawn.append(number - 1)
        elif number - before > 2:
            drawn.append((before + 1, number - 1))
        drawn.append(number)
    return drawn


# -- words ----------------------------------------------------------------------------------------


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


# -- positions ------------------------------------------------------------------------------------


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
            _check_on_grid(place, grid)
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
    _check_on_grid(query, grid)
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


# -- trainings ------------------------------------------------------------------------------------


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


# -- vectors --------------------------------------------------------------------------------------


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


# -- the world ------------------------------------------------------------------------------------


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


def _named(thing):
    """ "red striped mug": attributes before the category, as one says it."""
    category = getattr(thing, "category", thing.words[0])
    rest = [word for word in thing.words if word != category]
    if category == "sign" and rest:
        return f"sign “{' '.join(rest)}”"
    return " ".join([*rest, category])


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


def _sentence(vlm, ids, visual, width):
    """Tokens of a prompt in lines: ([(x, line, width, what)], lines), where `what` is a word, or
    the number of a visual token. Of long texts, and of the picture, the middle is left out."""
    first, last = visual.nonzero()[[0, -1], 0].tolist()
    before, after = list(range(first)), list(range(last + 1, len(ids)))
    before = before if len(before) <= 4 else [*before[:2], None, *before[-1:]]
    after = after if len(after) <= 12 else [*after[:8], None, *after[-3:]]
    words = {
        at: sheet.short(str(vlm.words[ids[at]]), 16) for at in (*before, *after) if at is not None
    }
    n = last - first + 1
    pieces = [words.get(at, "…") for at in before] + [*range(min(3, n)), "…", n - 1]
    chips, x, line = [], 0.0, 0
    for piece in pieces + [words.get(at, "…") for at in after]:
        wide = 0.24 if isinstance(piece, int) else 0.12 + 0.079 * width_of(piece)
        if x + wide > width:
            x, line = 0.0, line + 1
        chips.append((x, line, wide, piece))
        x += wide
    return chips, line + 1


def _chip(ax, x, y, width, piece, pixels, grid):
    """A word in a box, or a visual token as the piece of the picture that it stands for."""
    if isinstance(piece, str):
        box = Rectangle((x, y), width - 0.04, 0.24, facecolor="white", edgecolor=LINE)
        ax.add_patch(box)
        sheet.write(ax, x + width / 2 - 0.02, y + 0.125, piece)
        return
    sheet.image(
        ax,
        sheet.field(pixels, grid, *divmod(piece % (grid[0] * grid[1]), grid[1])),
        x,
        y + 0.01,
        0.21,
        0.23,
    )


def _check_on_grid(place, grid):
    if len(place) != 2 or not all(0 <= at < side for at, side in zip(place, grid)):
        raise ValueError(
            f"A place on this grid is (row, column), from 0 to {grid[0] - 1} and {grid[1] - 1}; "
            f"got {tuple(float(at) for at in place)}."
        )
