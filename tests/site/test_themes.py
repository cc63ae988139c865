"""What we show can be read wherever notebooks are shown, in the light and in the dark, whatever the
system likes.

Each page here is what one program puts around an output: the attributes by which it announces its
theme, and the rules of its own that reach into outputs. Needs no built book.
"""

from functools import cache

import checks
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from visits import THEMES, context, nothing

from whatwhere.book import figures
from whatwhere.book.doses import Doses
from whatwhere.book.phases import Phases
from whatwhere.views.slider import WIDGET_STYLE, Slider

# of the page, and of its text
GROUND = {"light": ("#ffffff", "#1f1f1f"), "dark": ("#181818", "#cccccc")}


def jupyter(theme, output):
    """JupyterLab 4 and Notebook 7: an attribute of the body, variables, and rules for HTML in
    outputs."""
    ground, ink = GROUND[theme]
    return f"""<html><body data-jp-theme-light="{str(theme == "light").lower()}" data-jp-theme-name="JupyterLab {theme}"><style>
        :root {{ --jp-layout-color0: {ground}; --jp-content-font-color1: {ink}; --jp-ui-font-color1: {ink};
            --jp-widgets-label-color: var(--jp-ui-font-color1); --jp-widgets-readout-color: var(--jp-ui-font-color1) }}
        body {{ background: var(--jp-layout-color0); color: var(--jp-ui-font-color1) }}
        .jp-RenderedHTMLCommon {{ color: var(--jp-content-font-color1) }}
        .jp-RenderedHTMLCommon table {{ color: var(--jp-ui-font-color1) }}
        .widget-label {{ color: var(--jp-widgets-label-color) }} .widget-readout {{ color: var(--jp-widgets-readout-color) }}
        </style><div class="jp-OutputArea-output jp-RenderedHTMLCommon jp-RenderedHTML">{output}</div>"""


def vscode(theme, output, kind="vscode-{}"):
    """A webview: classes and an attribute of the body, variables of the root, widgets in black
    where no theme is set for them."""
    ground, ink = GROUND[theme]
    kind = kind.format(theme)
    return f"""<html style="--vscode-editor-background: {ground}; --vscode-foreground: {ink}; --vscode-editor-foreground: {ink}">
        <body class="{kind}" data-vscode-theme-kind="{kind}" data-vscode-theme-name="any"><style>
        body {{ background: var(--vscode-editor-background); color: var(--vscode-editor-foreground) }}
        thead {{ background-color: rgba(130, 130, 130, .16) }} tr:nth-child(even) {{ background-color: rgba(130, 130, 130, .08) }}
        .widget-label, .widget-readout {{ color: {"black" if theme == "light" else "#ccc"} }}
        </style><div id="container"><div class="output">{output}</div></div>"""


def contrast(theme, output):
    return vscode(
        theme,
        output,
        {"dark": "vscode-high-contrast", "light": "vscode-high-contrast-light"}[theme],
    )


def colab(theme, output):
    """An iframe whose html has an attribute; widgets have ipywidgets' own colours, which are for
    light pages."""
    ground, ink = GROUND[theme]
    return f"""<html theme="{theme}"><body><style>
        html[theme={theme}] {{ background: {ground}; color: {ink}; --colab-primary-text-color: {ink} }}
        .widget-label, .widget-readout {{ color: #000 }}
        </style><div id="output-area"><div class="output_subarea output_html rendered_html">{output}</div></div>"""


def marimo(theme, output):
    """Classes of html and body, and color-scheme."""
    ground, ink = GROUND[theme]
    return f"""<html class="{theme}"><body class="{theme} {theme}-theme" style="color-scheme: {theme}"><style>
        .{theme} {{ --background: {ground}; --foreground: {ink} }}
        body {{ background: var(--background); color: var(--foreground) }} .markdown p, p {{ color: var(--foreground) }}
        .widget-label, .widget-readout {{ color: var(--foreground) }}
        </style><div class="output-area"><div class="output">{output}</div></div>"""


def sphinx(theme, output):
    """pydata-sphinx-theme: a card behind HTML in the dark, and an ink for paragraphs. Where it
    follows the system, it sets the same attribute."""
    ground, ink = GROUND[theme]
    if not output.startswith("<section"):  # a quiz is no output, but part of the text
        output = f'<div class="cell_output"><div class="output text_html">{output}</div></div>'
    return f"""<html data-theme="{theme}" data-mode="auto"><body><style>
        html {{ --pst-color-text-base: {ink}; background: {ground} }} body, p, label {{ color: var(--pst-color-text-base) }}
        html[data-theme=dark] .bd-content div.cell_output .text_html:not(:has(table.dataframe)) {{
            background-color: var(--pst-color-text-base); color: #111; padding: 3px }}
        .widget-label, .widget-readout {{ color: #000 }}
        </style><main class="bd-content">{output}</main>"""


PROGRAMS = {
    "JupyterLab and Notebook": jupyter,
    "VS Code": vscode,
    "VS Code, high contrast": contrast,
    "Colab": colab,
    "marimo": marimo,
    "Sphinx": sphinx,
}


@cache
def outputs():
    """{what: HTML} of each kind of output, on the brightest and the darkest picture."""
    rng = np.random.default_rng(0)
    words = np.array(["red", "cup", "‹U+200B›", "中文", "שלום"], dtype=object)[
        rng.integers(0, 5, (2, 3, 4, 3))
    ]
    kinds = {"red": "colour", "cup": "category", "中文": "language"}
    white, black = (Image.new("RGB", (48, 36), colour) for colour in ("white", "black"))
    maps = {name: Slider(image, words, np.full(words.shape, 0.5), [0, 1], [3], kinds).html()
            for name, image in (("map, white", white), ("map, black", black))}  # fmt: skip
    # as ipywidgets builds the box of a slider and an HTML widget
    widget = f"""<div class="widget-box jupyter-widgets ww-widget"><div class="widget-hslider jupyter-widgets">
        <label class="widget-label">ViT depth</label><div class="widget-readout">3</div></div>
        <div class="widget-html"><style>{WIDGET_STYLE}</style>{maps["map, white"]}</div></div>"""
    doses = Doses(
        white, "Is it red?", ["yes", "no"], [0, 1], {"steered": np.full((2, 2), 0.5)}
    )._repr_html_()
    still = figures.html(
        figures.word_map([["red", "cup"]], white, kinds),
        "A map of two words, red and cup, in a row.",
    )
    table = pd.DataFrame({"word": ["red", "中文"], "share": [0.5, 0.25]})._repr_html_()
    quiz = (
        "<p><strong>1. What?</strong></p><details open><summary>This</summary><p>No. "
        "Because.</p></details>"
    )
    quiz = f'<section id="quiz">{quiz}</section>'
    phases = Phases()._repr_html_()
    return maps | {
        "widget": widget,
        "doses": doses,
        "phases": phases,
        "figure": still,
        "table": table,
        "quiz": quiz,
    }


@pytest.mark.parametrize("system", THEMES)
@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("program", PROGRAMS)
def test_everything_can_be_read(program, theme, system, chromium):
    window = context(chromium, theme=system)
    page = window.new_page()
    wrong = []
    for what, output in outputs().items():
        page.set_content(
            "<!doctype html><meta charset=utf-8>" + PROGRAMS[program](theme, output),
            wait_until="load",
        )
        found, looked = checks.contrasts(page)
        # a figure is opaque: test_figures.py
        assert looked or what == "figure", f"no text was found in {what}"
        wrong += [f"{what}: {each}" for each in found]
    window.close()
    nothing(wrong, f"{program}, {theme}, and the system likes {system}")


# where each piece of a line begins, from the left
BEGINS = """line => [...line.childNodes].filter(piece => piece.textContent.trim()).map(piece => {
    const range = document.createRange();
    range.selectNodeContents(piece);
    return Math.round(range.getBoundingClientRect().left);
})"""


def test_words_from_right_to_left_leave_everything_else_in_its_order(chromium):
    """Hebrew, Arabic, and a sign that would turn all that follows."""
    words = np.array(["שלום", "مرحبا", "\u202eabc", "cup"], dtype=object).reshape(1, 2, 2, 1)[
        ..., [0, 0, 0]
    ]
    made = Slider(Image.new("RGB", (60, 60)), words, np.full(words.shape, 0.5), [0], [3]).html()
    doses = Doses(
        Image.new("RGB", (9, 9)), "?", ["שלום", "مرحبا"], [0, 1], {"none": np.full((2, 2), 0.5)}
    )._repr_html_()
    window = context(chromium)
    page = window.new_page()
    page.set_content(
        "<!doctype html><meta charset=utf-8><style>p, figcaption { white-space: nowrap }</style>"
        + made
        + doses
    )
    page.locator("[role=cell]").nth(0).click()
    lines = [
        page.locator(line).evaluate(BEGINS)
        for line in (".ww-told", ".ww-patch", ".ww-doses figcaption")
    ]
    cells = page.locator("[role=cell]").evaluate_all(
        "all => all.map(each => each.getBoundingClientRect().left)"
    )
    window.close()
    assert [len(line) for line in lines] == [9, 7, 7], (
        "words and what stands between them are pieces of their own"
    )
    assert all(line == sorted(line) for line in lines), "from left to right"
    assert cells[0] == cells[2] < cells[1] == cells[3], "a word is in the patch that it belongs to"
