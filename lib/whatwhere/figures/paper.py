"""The paper that figures are drawn on, its colours, and how a figure gets onto a page: with alt text or not at all."""

import base64
import warnings
from html import escape
from io import BytesIO

from matplotlib.text import Text

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
    for text in fig.findobj(Text):  # a word may hold dollars, and means no formula by them; a logarithmic axis does
        if "$" in text.get_text() and "mathdefault" not in text.get_text():
            text.set_parse_math(False)
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
        f'style="width:{escape(str(width))}px;max-width:100%;height:auto;padding:0;'
        f'background:{PAPER};border-radius:6px">'
    )


def _forget(fig):
    """Keep a figure made with pyplot from being shown a second time, without alt text."""
    if fig.canvas.manager is not None:
        from matplotlib import pyplot

        pyplot.close(fig)
