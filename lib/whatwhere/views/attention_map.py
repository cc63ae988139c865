"""Attention on the picture: what one token collects from each patch and word.

Sliders go over blocks and heads. One piece of HTML with its own style and script
(`attention_map.css` and `.js`), no other file and no network. Words are buttons and the picture is
a table, both for the mouse and for the keyboard; what changed is said in a live region. Without a
script, and on paper, the first view stays as a plain figure.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from html import escape
from numbers import Integral
from typing import TYPE_CHECKING

import numpy as np
import torch

from .page import OWN_KEYS, PAPER_STYLE, beside, data_uri, islands

if TYPE_CHECKING:
    from ..attention import Attention

MOST = 4 * 2**20  # bytes of weights in one figure
VEIL = 0.8  # how opaque the dark veil is over a patch from which nothing is collected
HINT = "Point at a patch, or walk with the arrow keys"
LEGEND = (
    "The brighter a patch, and the longer the bar under a word, the more is collected from it; "
    "numbers are percent."
)
SINKS = (
    "attention sinks: tokens that receive, on average over heads, more than "
    "{:g} times an equal share, whoever looks."
)
CALL = "window.whatwhereAttention?.(this,event)"
STYLE, SCRIPT = (beside(__file__, kind) for kind in (".css", ".js"))


class AttentionMap:
    """Shows itself in a notebook and in the built page.

    Args:
        attention: an `attention.Attention`.
        of: who looks at first: a word (its last occurrence), the place of a token, or a patch
            (row, column). By default the last word of a prompt; in the ViT the patch in the middle.
        block, head: what is shown at first; by default the last block and the mean over heads.
        heads: False carries the mean over heads alone.
        queries: only these tokens can look; all by default.

    Raises:
        ValueError: for a word, place, block or head that is not there, and for a figure too large
            for a page: it carries a byte for each weight, so of a large model a few blocks, the
            mean over heads, or some queries.
    """

    def __init__(
        self,
        attention: Attention,
        *,
        of: str | int | tuple[int, int] | None = None,
        block: int | None = None,
        head: int | None = None,
        heads: bool = True,
        queries: Iterable[int] | None = None,
    ):
        self.attention, self.heads = attention, heads
        n_blocks, n_heads, n_tokens, _ = attention.weights.shape
        self.at = _token(attention, of)
        self.rows = (
            list(range(n_tokens))
            if queries is None
            else sorted({_token(attention, q) for q in queries} | {self.at})
        )
        self.block = n_blocks - 1 if block is None else _index(attention.blocks, block, "blocks")
        self.head = 0 if head is None else 1 + _index(range(n_heads if heads else 0), head, "heads")
        size = n_blocks * (1 + n_heads * heads) * len(self.rows) * n_tokens
        if size > MOST:
            raise ValueError(
                f"This figure would carry {size / 2**20:.0f} MiB, and at most {MOST / 2**20:.0f} "
                "are good for a page: read fewer blocks, or show(heads=False) for the mean over "
                "heads alone, or show(queries=[-1]) for some of the tokens."
            )

    def __repr__(self) -> str:
        return f"AttentionMap({self.attention!r}, of {self.attention.words[self.at]!r})"

    def _repr_html_(self) -> str:
        return self.html()

    def html(self) -> str:
        """The page's HTML."""
        attention, n_heads = self.attention, self.attention.weights.shape[1]
        (rows, columns), places = attention.grid, attention.places.tolist()
        weights = attention.weights[:, :, self.rows]
        mean = weights.mean(1, keepdim=True)
        weights = torch.cat([mean, weights], 1) if self.heads else mean
        # cube roots keep the small ones apart; what is shown here is what the script will show
        carried = np.rint(255 * np.cbrt(weights.clamp(0, 1).numpy())).astype(np.uint8)
        heads = [f"mean of {n_heads} heads", *(f"head {n}" for n in range(weights.shape[1] - 1))]
        sinks = [np.flatnonzero(of_block).tolist() for of_block in attention.sinks()]
        data = {
            "weights": base64.b64encode(carried.tobytes()).decode(), "words": attention.words,
            "places": places, "rows": self.rows, "columns": columns, "at": self.at, "sinks": sinks,
            "veil": VEIL, "tower": attention.tower,
            "names": [[f"{n}" for n in attention.blocks], heads],
        }  # fmt: skip
        shares = (carried[self.block, self.head, self.rows.index(self.at)] / 255.0) ** 3
        text = [n for n in range(len(shares)) if n not in set(places)]
        most = max(shares[places].max(), 1e-9)
        cells = [
            f'<span role="cell"{self._classes(n, sinks)} '
            f'style="--v:{VEIL * (1 - shares[n] / most):.3f}">{_percent(shares[n])}</span>'
            for n in places
        ]
        body = "".join(
            f'<div role="row">{"".join(cells[row * columns : (row + 1) * columns])}</div>'
            for row in range(rows)
        )
        buttons = "".join(
            f'<button type="button" {OWN_KEYS} data-n="{n}" '
            f'aria-pressed="{str(n == self.at).lower()}"{self._classes(n, sinks)} '
            f"{'' if n in self.rows else 'disabled '}"
            f'style="--w:{shares[n]:.3f}" onclick="{CALL}">'
            f"<bdi>{escape(attention.words[n])}</bdi></button>"
            for n in text
        )
        can_look = set(places) & set(self.rows)
        hint = HINT + ("; a click, or Enter, lets that patch look." if can_look else ".")
        carry = escape(json.dumps(data, ensure_ascii=False, separators=(",", ":")))
        ratio = f"{attention.image.width / columns:.4g}/{attention.image.height / rows:.4g}"
        return (
            f'<figure class="ww-attention ww-paper" data-map="{carry}" '
            f'style="--columns:{columns};--ratio:{ratio}"><style>{PAPER_STYLE}{STYLE}</style>'
            f'<div class="ww-bar">{self._ranges(data["names"])}'
            f'<label{"" if any(sinks) else " hidden"}><input type="checkbox" {OWN_KEYS} '
            f'onchange="{CALL}"> brightness without sinks</label></div>'
            '<div class="ww-words" role="group" aria-label="Words: pick the one that looks">'
            f'{buttons}</div><div class="ww-grid" role="table" tabindex="0" {OWN_KEYS} '
            f'onclick="{CALL}" onpointerover="{CALL}" onkeydown="{CALL}" aria-label="The picture '
            f"in {rows} rows and {columns} columns of patches, with the percentage collected from "
            'each; arrow keys walk, Enter lets a patch look" '
            f'style="background-image:url({data_uri(attention.image)})">{body}</div><figcaption>'
            f'<p class="ww-told" aria-live="polite">'
            f"{islands(self._told(shares, text, data['names']))}</p>"
            f'<p class="ww-patch" aria-live="polite">{hint}</p><p>{LEGEND} '
            f"{'Dashes mark' if any(sinks) else 'There are no'} "
            f"{SINKS.format(attention.SINK)}</p></figcaption>"
            "<noscript><style>.ww-bar,.ww-patch{display:none!important}</style></noscript>"
            f"<script>{SCRIPT}</script></figure>"
        )

    def _classes(self, n, sinks):
        names = ["ww-of"] * (n == self.at) + ["ww-sink"] * (n in sinks[self.block])
        return f' class="{" ".join(names)}"' if names else ""

    def _ranges(self, names):
        """A slider over blocks and one over heads, where there are several."""
        axes = (
            (f"{self.attention.tower} block", names[0], self.block),
            ("head", names[1], self.head),
        )
        return "".join(
            f'<span{"" if len(axis) > 1 else " hidden"}><label>{label} <input type="range" '
            f'{OWN_KEYS} min="0" max="{len(axis) - 1}" step="1" value="{n}" '
            f'aria-valuetext="{axis[n]}" oninput="{CALL}"></label> '
            f"<output>{axis[n]}</output></span>"
            for label, axis, n in axes
        )

    def _told(self, shares, text, names):
        """The view in a sentence, in pieces of which every second one is a word.

        The script says the same of other views.
        """
        pieces = [
            f"{self.attention.tower} block {names[0][self.block]}, {names[1][self.head]}: ",
            self.attention.words[self.at],
        ]
        pieces.append(
            f" collects {100 * shares[self.attention.places.numpy()].sum():.0f}% from the picture"
        )
        for lead, n in zip(
            (", most of the rest from ", " and "), sorted(text, key=lambda n: -shares[n])
        ):
            pieces[-1] += lead
            pieces += [self.attention.words[n], f" ({100 * shares[n]:.0f}%)"]
        pieces[-1] += "."
        return pieces


def _token(attention, of) -> int:
    """The place of a token that is given as a word, as a place or as a patch."""
    n, (rows, columns) = len(attention.words), attention.grid
    if of is None:
        of = -1 if attention.tower == "LM" else (rows // 2, columns // 2)
    if isinstance(of, str):
        if of not in attention.words:
            raise ValueError(f"No token here is {of!r}; `words` of the attention lists them.")
        return n - 1 - attention.words[::-1].index(of)
    if isinstance(of, tuple) and len(of) == 2 and 0 <= of[0] < rows and 0 <= of[1] < columns:
        return int(attention.places[of[0] * columns + of[1]])
    if isinstance(of, bool) or not isinstance(of, Integral) or not -n <= int(of) < n:
        raise ValueError(
            f"A token is a word, a place from 0 to {n - 1}, or a patch (row, column) of {rows} × "
            f"{columns}; got {of!r}."
        )
    return int(of) % n


def _index(choices, choice, what) -> int:
    choices = list(choices)
    if isinstance(choice, bool) or choice not in choices:
        raise ValueError(f"This figure has the {what} {choices}; got {choice!r}.")
    return choices.index(choice)


def _percent(weight) -> str:
    """Of half a percent and more the number."""
    return f"{100 * weight:.0f}" if weight >= 0.005 else ""
