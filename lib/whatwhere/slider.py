"""A token map as a page can show it: words on the dimmed picture, and a slider over depth, or over depth and layer.

One piece of HTML with its own style and script, no other file and no network. The slider is a plain range
input (arrow keys), the map a table that a screen reader can walk and in which arrow keys pick a patch; what
changed is said in a live region. Without a script, and on paper, the deepest map stays as a plain figure.
"""

import base64
import json
import re
from collections import Counter
from html import escape
from io import BytesIO

import numpy as np

# Okabe–Ito, lightened where needed to be read as text on a dark picture
KIND_COLOURS = ("#6cc5f5", "#f5a623", "#2fd6a3", "#f5a0d0", "#f0e442", "#ff9a6b", "#b9b4ff", "#d0d0d0")
SHOWN = 3  # words told for a picked patch
HINT = "Point at a patch, or walk over the map with the arrow keys, for its best words."
# JupyterLab takes the arrow keys for itself, except from what bears this mark
OWN_KEYS = "data-lm-suppress-shortcuts"
PICTURE = 768  # pixels, the longest side of the picture that is carried along


class Slider:
    """Shows itself in a notebook and in the built page.

    image: PIL. words, probabilities: (depth, row, column, rank). depths: the number of each map. layers: of which LM
    layers; where there are several, all depths of the first come first, and the page has a second slider.
    kinds: {word: kind} or None.
    """

    def __init__(self, image, words, probabilities, depths, layers, kinds=None):
        self.image, self.words, self.probabilities = image, words, probabilities
        self.depths, self.layers, self.kinds = list(depths), list(layers), kinds or {}

    def __repr__(self):
        rows, columns = self.words.shape[1:3]
        return f"Slider(ViT depths {self.depths}, LM layers {self.layers}, {rows} × {columns} patches)"

    def _repr_html_(self):
        return self.html()

    def html(self, at=-1):
        """The page's HTML; `at` is the index of the map that is there before a slider is moved."""
        rows, columns = self.words.shape[1:3]
        at = range(len(self.words))[at]
        vocabulary, index = np.unique(self.words[..., :SHOWN].astype(str), return_inverse=True)
        index = index.reshape(self.words[..., :SHOWN].shape)
        names = list(dict.fromkeys(self.kinds.values()))
        lower = {word.lower(): names.index(kind) % len(KIND_COLOURS) for word, kind in self.kinds.items()}
        kind = [lower.get(word.lower(), -1) for word in vocabulary]
        told = [self._told(n) for n in range(len(self.words))]
        data = {
            "words": list(vocabulary),
            "kinds": kind,
            "columns": columns,
            "told": told,
            "names": [[_name(axis, n) for n in range(len(axis))] for axis in (self.depths, self.layers)],
            "ranks": index.shape[-1],
            "ids": [each.reshape(-1).tolist() for each in index],
            "percent": [np.rint(100 * each[..., :SHOWN]).astype(int).reshape(-1).tolist() for each in self.probabilities],
        }
        cells = [
            f'<span role="cell"{_kind(kind[word])}{_narrow(vocabulary[word])}>{escape(vocabulary[word])}</span>'
            for word in index[at, ..., 0].reshape(-1)
        ]
        body = "".join(f'<div role="row">{"".join(cells[r * columns : (r + 1) * columns])}</div>' for r in range(rows))
        legend = "".join(
            f'<span class="ww-key"><i{_kind(n % len(KIND_COLOURS))}></i>{escape(str(name))}</span>'
            for n, name in enumerate(names)
        )
        width, height = self.image.size
        return (
            f'<figure class="ww-map" data-map="{escape(json.dumps(data, ensure_ascii=False, separators=(",", ":")))}" '
            f'style="--columns:{columns};--ratio:{width / columns:.4g}/{height / rows:.4g};'
            f'--wide:{min(960, max(560, 40 * columns))}px"><style>{STYLE}</style>'
            f'<div class="ww-bar">{self._ranges(at)}'
            f'<label class="ww-only"><input type="checkbox" {OWN_KEYS} onchange="whatwhereMap(this)"> picture only</label></div>'
            f'<div class="ww-scroll"><div class="ww-box"><div class="ww-grid" role="table" tabindex="0" {OWN_KEYS} '
            f'onclick="whatwhereMap(this,event)" '
            f'onpointerover="whatwhereMap(this,event)" onkeydown="whatwhereMap(this,event)" '
            f'aria-label="{rows} rows and {columns} columns of words on the picture; arrow keys pick a patch" '
            f'style="background-image:url({data_uri(self.image)})">{body}</div></div></div>'
            f'<figcaption><p class="ww-told" aria-live="polite">{escape(told[at])}</p>'
            f'<p class="ww-patch" aria-live="polite">{HINT}</p>'
            f"{f'<p>{legend}</p>' if legend else ''}</figcaption>"
            f"<noscript><style>.ww-bar,.ww-patch{{display:none!important}}</style></noscript>"
            f"<script>{SCRIPT}</script></figure>"
        )

    def _ranges(self, at):
        """A slider for the depths, and one for the layers if there are several."""
        layer, depth = divmod(at, len(self.depths))
        axes = [("ViT depth", self.depths, depth), ("LM layer", self.layers, layer)][: 2 if len(self.layers) > 1 else 1]
        return "".join(
            f'<span><label>{label} <input type="range" {OWN_KEYS} min="0" max="{len(axis) - 1}" step="1" value="{n}" '
            f'aria-valuetext="{escape(_name(axis, n))}" oninput="whatwhereMap(this)"></label> '
            f"<output>{escape(_name(axis, n))}</output></span>"
            for label, axis, n in axes
        )

    def _told(self, at):
        """One map in a sentence."""
        counts = Counter(self.words[at, ..., 0].reshape(-1).tolist())
        common = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:4]
        layer, depth = divmod(at, len(self.depths))
        return (
            f"ViT depth {_name(self.depths, depth)}, LM layer {self.layers[layer]}. Most common: "
            + ", ".join(f"{word} ({n})" for word, n in common)
            + f"; {len(counts)} different words."
        )


def widget(image, words, probabilities, depths, layers, kinds=None):
    """The same sliders as an ipywidgets box, for a running kernel."""
    try:
        import ipywidgets
    except ImportError:
        raise ImportError("show(widget=True) needs ipywidgets (`pip install ipywidgets`); plain show() does not.") from None
    shown = Slider(image, words, probabilities, depths, layers, kinds)
    depth, layer = (
        ipywidgets.SelectionSlider(
            options=[(str(each), n) for n, each in enumerate(axis)], value=len(axis) - 1, description=label
        )
        for label, axis in (("ViT depth", shown.depths), ("LM layer", shown.layers))
    )
    picture = ipywidgets.HTML()

    def draw(_=None):
        # the page's own sliders would say the same thing twice
        at = layer.value * len(shown.depths) + depth.value
        picture.value = shown.html(at).replace('class="ww-bar"', 'class="ww-bar" hidden')

    depth.observe(draw, "value")
    layer.observe(draw, "value")
    draw()
    return ipywidgets.VBox([depth, *([layer] if len(shown.layers) > 1 else []), picture])


def _name(axis, at):
    """Of all numbers from 0 on, "2 of 6"; of a choice of them, the number alone."""
    return f"{axis[at]} of {axis[-1]}" if axis == list(range(len(axis))) else f"{axis[at]}"


def _kind(n):
    return f' class="ww-k{n}"' if n >= 0 else ""


def _narrow(word):
    """Long words are set smaller rather than broken."""
    return f' style="--n:{min(len(word), 12)}"' if len(word) > 5 else ""


def data_uri(image):
    image = image.copy()
    image.thumbnail((PICTURE, PICTURE))
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def tight(text):
    """Without the indentation that is for us: every map on a page carries this."""
    return re.sub(r"\n\s*", "\n", text).strip()


# The map is dark in both themes, so that words are light on any picture; only the text around it follows the theme.
STYLE = """
    .ww-map { --ink: #1d1f24; --soft: #5b6068; margin: 1em 0 !important; max-width: var(--wide); text-align: left;
        color: var(--ink); font: 15px/1.45 system-ui, sans-serif }
    .ww-map .ww-bar { display: flex; flex-wrap: wrap; gap: .3em 1em; align-items: center; margin-bottom: .5em }
    .ww-map .ww-bar[hidden] { display: none }
    .ww-map label { display: inline-flex; gap: .6em; align-items: center; margin: 0; font-weight: 600 }
    .ww-map .ww-only { font-weight: 400; margin-left: auto; gap: .35em }
    .ww-map input[type=range] { width: min(15em, 42vw); accent-color: #0072b2; min-height: 24px }
    .ww-map output { min-width: 4em; font-variant-numeric: tabular-nums }
    .ww-map .ww-scroll { overflow-x: auto }
    .ww-map .ww-box { container-type: inline-size; min-width: calc(var(--columns) * 25px) }
    .ww-map .ww-grid { display: grid; grid-template-columns: repeat(var(--columns), minmax(0, 1fr));
        background-size: 100% 100%; border-radius: 4px; overflow: hidden; cursor: crosshair;
        print-color-adjust: exact; -webkit-print-color-adjust: exact }
    .ww-map [role=row] { display: contents }
    .ww-map [role=cell] { aspect-ratio: var(--ratio); display: flex; align-items: center; justify-content: center;
        overflow: hidden; background: rgba(14, 16, 20, .62); box-shadow: inset 0 0 0 .5px rgba(255, 255, 255, .22);
        color: #e4e6ea; text-align: center; line-height: 1; overflow-wrap: anywhere; --c: calc(100cqw / var(--columns));
        font-size: max(7px, min(calc(var(--c) * .28), calc(var(--c) * 1.42 / var(--n, 5)))) }
    @container (max-width: 440px) { .ww-map [role=cell] { letter-spacing: -.04em;
        font-size: max(7px, min(calc(var(--c) * .33), calc(var(--c) * 1.55 / var(--n, 5)))) } }
    .ww-map [role=cell].ww-on { outline: 2px solid #fff; outline-offset: -2px }
    .ww-map.ww-bare [role=cell] { background: none; color: transparent; box-shadow: none }
    .ww-map input:focus-visible, .ww-map .ww-grid:focus-visible { outline: 3px solid #e69f00; outline-offset: 2px }
    .ww-map figcaption { display: block; margin: 0; padding: 0; max-width: none; font: inherit; text-align: left }
    .ww-map figcaption p { display: block; margin: .35em 0 0; font: inherit; text-align: left; color: var(--soft) }
    .ww-map figcaption .ww-patch { color: var(--ink); min-height: 1.45em }
    .ww-map .ww-key { display: inline-flex; align-items: center; gap: .4em; margin-right: 1.1em }
    .ww-map .ww-key i { width: .9em; height: .9em; border-radius: 2px; background: currentColor; box-shadow: 0 0 0 1px #555 }
    KINDS
    html[data-theme=dark] .ww-map, body[data-jp-theme-light=false] .ww-map { --ink: #eceef2; --soft: #b4b9c2 }
    @media (prefers-color-scheme: dark) {
        html:not([data-theme]) body:not([data-jp-theme-light=true]) .ww-map { --ink: #eceef2; --soft: #b4b9c2 } }
    /* pydata-sphinx-theme puts a light card behind HTML outputs in dark mode */
    html[data-theme=dark] .bd-content div.cell_output .text_html:has(.ww-map) {
        background: none !important; padding: 0 !important }
    @media print {
        .ww-map { --ink: #000 !important; --soft: #000 !important; break-inside: avoid }
        .ww-map .ww-bar, .ww-map .ww-patch { display: none } }
"""
KIND = """
    .ww-map .ww-k{n} { color: {colour} }
    .ww-map:not(.ww-bare) [role=cell].ww-k{n} { font-weight: 700; box-shadow: inset 0 0 0 1.5px {colour}99 }
"""
_KINDS = "".join(KIND.replace("{n}", str(n)).replace("{colour}", colour) for n, colour in enumerate(KIND_COLOURS))
STYLE = tight(STYLE.replace("KINDS", _KINDS))

# Called by the slider, the check box and the map itself; everything is found from the element that called.
SCRIPT = tight("""
    window.whatwhereMap = function (el, event) {
        const map = el.closest('.ww-map'), data = map.data || (map.data = JSON.parse(map.dataset.map));
        const ranges = [...map.querySelectorAll('input[type=range]')], [depth, layer] = ranges.map(range => +range.value);
        const at = (layer || 0) * data.names[0].length + depth;
        const cells = [...map.querySelectorAll('[role=cell]')];
        const tell = (part, text) => { map.querySelector(part).textContent = text };
        if (el.type === 'checkbox') { map.classList.toggle('ww-bare', el.checked); return }
        if (el.type === 'range') {
            cells.forEach((cell, n) => {
                const word = data.ids[at][n * data.ranks], text = data.words[word], kind = data.kinds[word];
                cell.textContent = text;
                cell.className = kind < 0 ? '' : 'ww-k' + kind;
                cell.style.setProperty('--n', Math.min(Math.max(text.length, 5), 12));
            });
            tell('.ww-told', data.told[at]);
            const name = data.names[ranges.indexOf(el)][+el.value];
            el.closest('span').querySelector('output').textContent = name;
            el.setAttribute('aria-valuetext', name);
        } else if (event.type === 'keydown') {
            const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -data.columns, ArrowDown: data.columns }[event.key];
            if (!step) return;
            event.preventDefault();
            const next = map.picked == null ? 0 : map.picked + step;
            if (cells[next]) map.picked = next;
        } else {
            const cell = event.target.closest('[role=cell]');
            if (cell) map.picked = cells.indexOf(cell);
        }
        if (map.picked == null) return;
        cells.forEach((cell, n) => cell.classList.toggle('ww-on', n === map.picked));
        const words = [];
        for (let n = map.picked * data.ranks; n < (map.picked + 1) * data.ranks; n++)
            words.push(data.words[data.ids[at][n]] + ' ' + data.percent[at][n] + '%');
        const row = Math.floor(map.picked / data.columns), column = map.picked % data.columns;
        tell('.ww-patch', 'Row ' + row + ', column ' + column + ': ' + words.join(', '));
    };
""")
