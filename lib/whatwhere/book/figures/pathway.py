"""Pictures of a model: its way from an image to an answer, drawn from a real model.

They are narrow and tall, so that their texts can be read on a telephone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle

from ... import geometry
from ...hooks import check_range
from ...tokens import columns as width_of
from . import sheet
from .paper import INK, SOFT, tell
from .sheet import COLOURS, LINE, NAME

if TYPE_CHECKING:
    from ...models import VLM
    from ...types import ImageLike

FEW = 8  # blocks that are all drawn; of more, the first two and the last


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
    sheet.check_on_grid(patch, (rows, columns))
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
