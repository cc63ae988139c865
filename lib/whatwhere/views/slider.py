"""A token map as a page can show it: words on the dimmed picture, and a slider over depth, or over
depth and layer.

One piece of HTML with its own style and script, no other file and no network. The slider is a plain
range input (arrow keys), the map a table that a screen reader can walk and in which arrow keys pick
a patch; what changed is said in a live region. Without a script, and on paper, the deepest map
stays as a plain figure.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from ..tokens import columns as width_of
from .page import INK, OWN_KEYS, PAPER, PAPER_STYLE, SOFT, beside, data_uri, islands

if TYPE_CHECKING:
    from ipywidgets import VBox
    from PIL.Image import Image

# Okabe–Ito, lightened where needed to be read as text on a dark picture
KIND_COLOURS = (
    "#6cc5f5",
    "#f5a623",
    "#2fd6a3",
    "#f5a0d0",
    "#f0e442",
    "#ff9a6b",
    "#b9b4ff",
    "#d0d0d0",
)
# how opaque the dark veil is that dims the picture: a word of any colour has contrast 4.5 on white
VEIL = 0.78
SHOWN = 3  # words told for a picked patch
ROUNDING = 1e-3  # by which a softmax in half precision may exceed one
HINT = "Point at a patch, or walk over the map with the arrow keys, for its best words."


class Slider:
    """Shows itself in a notebook and in the built page.

    Args:
        image: PIL.
        words, scores: (depth, row, column, rank).
        depths: the number of each map.
        layers: of which LM layers; where there are several, all depths of the first come first, and
            the page has a second slider.
        kinds: {word: kind} or None.
        measure: what the scores are, "probability" or "cosine".

    Raises:
        ValueError: where there is no word to show, where shapes do not agree, or where a score is
            none.
    """

    def __init__(
        self,
        image: Image,
        words: Sequence[Any] | np.ndarray,
        scores: Sequence[Any] | np.ndarray,
        depths: Sequence[int],
        layers: Sequence[int],
        kinds: Mapping[str, str] | None = None,
        measure: str = "probability",
    ):
        self.image, self.words, self.scores = image, np.asarray(words), np.asarray(scores)
        self.measure = measure
        self.depths, self.layers, self.kinds = list(depths), list(layers), kinds or {}
        self._check()

    def _check(self):
        shape, maps = self.words.shape, len(self.depths) * len(self.layers)
        if len(shape) != 4 or not self.words.size:
            raise ValueError(
                "A map shows words, one or more for each depth, row and column, best first: an "
                f"array (depth, row, column, rank); the one given has shape {shape}."
            )
        if self.scores.shape != shape or len(self.words) != maps:
            raise ValueError(
                f"Words have a {self.measure} each, and there is a map for each depth and layer; "
                f"words of shape {shape}, scores of shape {self.scores.shape}, "
                f"{len(self.depths)} depths and {len(self.layers)} layers do not fit together."
            )
        numbers, least = self.scores.astype(float), 0 if self.measure == "probability" else -1
        # nan among them
        wrong = np.argwhere(~((numbers >= least) & (numbers <= 1 + ROUNDING)))
        if len(wrong):
            index, row, column, rank = wrong[0]
            layer, depth = divmod(index, len(self.depths))
            raise ValueError(
                f"A {self.measure} is a number from {least} to 1; at ViT depth {self.depths[depth]}, LM "
                f"layer {self.layers[layer]}, row {row}, column {column} it is "
                f"{numbers[index, row, column, rank]:g}, and {len(wrong)} of {numbers.size} are "
                "none. States that overflow in float16 give such numbers: load the model "
                "with "
                'dtype="float32" or "bfloat16".'
            )

    def __repr__(self):
        rows, columns = self.words.shape[1:3]
        return (
            f"Slider(ViT depths {self.depths}, LM layers {self.layers}, {rows} × {columns} patches)"
        )

    def _repr_html_(self):
        return self.html()

    def html(self, at: int = -1) -> str:
        """The page's HTML; `at` is the index of the map that is there before a slider is moved."""
        rows, columns = self.words.shape[1:3]
        at = range(len(self.words))[at]
        vocabulary, index = np.unique(self.words[..., :SHOWN].astype(str), return_inverse=True)
        index = index.reshape(self.words[..., :SHOWN].shape)
        names = list(dict.fromkeys(self.kinds.values()))
        lower = {
            word.lower(): names.index(kind) % len(KIND_COLOURS) for word, kind in self.kinds.items()
        }
        kind = [lower.get(word.lower(), -1) for word in vocabulary]
        told = [self._told(n) for n in range(len(self.words))]
        data = {
            "words": list(vocabulary),
            "kinds": kind,
            "sizes": [_size(word) for word in vocabulary],
            "columns": columns,
            "told": told,
            "names": [
                [_name(axis, n) for n in range(len(axis))] for axis in (self.depths, self.layers)
            ],
            "ranks": min(SHOWN, self.words.shape[-1]),
            "ids": [each.reshape(-1).tolist() for each in index],
            "percent": [
                np.rint(100 * each[..., :SHOWN]).astype(int).reshape(-1).tolist()
                for each in self.scores
            ],
            "unit": "%" if self.measure == "probability" else "",
        }
        cells = [
            "<span "
            f'role="cell"{_kind(kind[word])}{_narrow(vocabulary[word])}>{escape(vocabulary[word])}</span>'
            for word in index[at, ..., 0].reshape(-1)
        ]
        body = "".join(
            f'<div role="row">{"".join(cells[r * columns : (r + 1) * columns])}</div>'
            for r in range(rows)
        )
        legend = "".join(
            f'<span class="ww-key"><i{_kind(n % len(KIND_COLOURS))}></i>{escape(str(name))}</span>'
            for n, name in enumerate(names)
        )
        width, height = self.image.size
        return (
            '<figure class="ww-map ww-paper" '
            f'data-map="{escape(json.dumps(data, ensure_ascii=False, separators=(",", ":")))}" '
            f'style="--columns:{columns};--ratio:{width / columns:.4g}/{height / rows:.4g};'
            f'--wide:{min(960, max(560, 40 * columns))}px"><style>{PAPER_STYLE}{STYLE}</style>'
            f'<div class="ww-bar">{self._ranges(at)}'
            f'<label class="ww-only"><input type="checkbox" {OWN_KEYS} '
            'onchange="window.whatwhereMap?.(this)"> '
            "picture only</label></div>"
            '<div class="ww-scroll"><div class="ww-box"><div class="ww-grid" role="table" '
            f'tabindex="0" {OWN_KEYS} '
            f'onclick="window.whatwhereMap?.(this,event)" '
            'onpointerover="window.whatwhereMap?.(this,event)" '
            'onkeydown="window.whatwhereMap?.(this,event)" '
            f'aria-label="{rows} rows and {columns} columns of words on the picture; arrow keys '
            'pick a patch" '
            f'style="background-image:url({data_uri(self.image)})">{body}</div></div></div>'
            f'<figcaption><p class="ww-told" aria-live="polite">{islands(told[at])}</p>'
            f'<p class="ww-patch" aria-live="polite">{HINT}</p>'
            f"{f'<p>{legend}</p>' if legend else ''}</figcaption>"
            f"<noscript><style>.ww-bar,.ww-patch{{display:none!important}}</style></noscript>"
            f"<script>{SCRIPT}</script></figure>"
        )

    def _ranges(self, at):
        """A slider for the depths, and one for the layers if there are several."""
        layer, depth = divmod(at, len(self.depths))
        axes = [("ViT depth", self.depths, depth), ("LM layer", self.layers, layer)][
            : 2 if len(self.layers) > 1 else 1
        ]
        return "".join(
            f'<span><label>{label} <input type="range" {OWN_KEYS} min="0" max="{len(axis) - 1}" '
            f'step="1" value="{n}" '
            f'aria-valuetext="{escape(_name(axis, n))}" '
            'oninput="window.whatwhereMap?.(this)"></label> '
            f"<output>{escape(_name(axis, n))}</output></span>"
            for label, axis, n in axes
        )

    def _told(self, at):
        """One map in a sentence, in pieces of which every second one is a word."""
        counts = Counter(self.words[at, ..., 0].reshape(-1).tolist())
        common = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:4]
        layer, depth = divmod(at, len(self.depths))
        pieces = [
            f"ViT depth {_name(self.depths, depth)}, LM layer {self.layers[layer]}. Most common: "
        ]
        for word, n in common:
            pieces += [str(word), f" ({n}), "]
        pieces[-1] = f" ({common[-1][1]}); {len(counts)} different words."
        return pieces


def widget(
    image: Image,
    words: np.ndarray,
    scores: np.ndarray,
    depths: Sequence[int],
    layers: Sequence[int],
    kinds: Mapping[str, str] | None = None,
    measure: str = "probability",
) -> VBox:
    """The same sliders as an ipywidgets box, for a running kernel."""
    try:
        import ipywidgets
    except ImportError:
        raise ImportError(
            "show(widget=True) needs ipywidgets (`pip install ipywidgets`); plain show() does not."
        ) from None
    slider = Slider(image, words, scores, depths, layers, kinds, measure)
    depth, layer = (
        ipywidgets.SelectionSlider(
            options=[(str(each), n) for n, each in enumerate(axis)],
            value=len(axis) - 1,
            description=label,
        )
        for label, axis in (("ViT depth", slider.depths), ("LM layer", slider.layers))
    )
    picture = ipywidgets.HTML()

    def draw(_=None):
        # the page's own sliders would say the same thing twice
        index = layer.value * len(slider.depths) + depth.value
        picture.value = f"<style>{WIDGET_STYLE}</style>" + slider.html(index).replace(
            'class="ww-bar"', 'class="ww-bar" hidden'
        )

    depth.observe(draw, "value")
    layer.observe(draw, "value")
    draw()
    box = ipywidgets.VBox([depth, *([layer] if len(slider.layers) > 1 else []), picture])
    return box.add_class("ww-widget")


def _name(axis, at):
    """Of all numbers from 0 on, "2 of 6"; of a choice of them, the number alone."""
    return f"{axis[at]} of {axis[-1]}" if axis == list(range(len(axis))) else f"{axis[at]}"


def _kind(n):
    return f' class="ww-k{n}"' if n >= 0 else ""


def _size(word):
    """For how many letters a word is set: long words are set smaller rather than broken."""
    return min(max(width_of(word), 5), 12)


def _narrow(word):
    return f' style="--n:{_size(word)}"' if _size(word) > 5 else ""


# Words are light on the dimmed picture, which is dark enough for every colour even where it is
# white.
KIND = """
    .ww-map .ww-k{n} { color: {colour} }
    .ww-map:not(.ww-bare) [role=cell].ww-k{n} { font-weight: 700; box-shadow: inset 0 0 0 1.5px {colour}99 }
"""
_KINDS = "".join(
    KIND.replace("{n}", str(n)).replace("{colour}", colour) for n, colour in enumerate(KIND_COLOURS)
)
STYLE = beside(__file__, ".css", KINDS=_KINDS, VEIL=VEIL, SOFT=SOFT, INK=INK)

# ipywidgets takes its colours from JupyterLab's variables, which VS Code, Colab and marimo set to
# others or not at all
WIDGET_STYLE = beside(__file__, ".widget.css", INK=INK, PAPER=PAPER)

# Called by the slider, the check box and the map itself; everything is found from the element that
# called.
SCRIPT = beside(__file__, ".js")
