"""The paper that figures are drawn on, its colours, and how a figure gets onto a page: with alt
text or not at all."""

from __future__ import annotations

import base64
from html import escape
from io import BytesIO
from typing import TYPE_CHECKING

from matplotlib.text import Text
from PIL import Image

from ...views.page import INK, PAPER, PAPER_STYLE, SOFT  # noqa: F401  (all figures are drawn with them)
from . import fonts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
SHORTEST_ALT = 20  # characters
HEAVY = 300_000  # bytes
READABLE = 0.7  # of a figure's width: on a page that has less, it scrolls


def show(fig: Figure, alt: str, width: int | None = None) -> None:
    """Display `fig` as an image with alt text; returns nothing, so that it may be a cell's last
    line.

    Args:
        alt: a sentence that says what the figure shows. What the figure tells of itself, its
            numbers or words, follows it (`told`).
        width: in CSS pixels; by default the figure's own. A narrow page makes it smaller, as far
            as its letters can be read.
    """
    from IPython.display import HTML, display

    display(HTML(html(fig, alt, width)))


def html(fig: Figure, alt: str, width: int | None = None) -> str:
    """The figure as an `<img>` with everything in it."""
    alt = " ".join(alt.split()) if isinstance(alt, str) else ""
    if len(alt) < SHORTEST_ALT:
        raise ValueError(
            "A figure needs alt text: a sentence that says what it shows, for a reader who cannot "
            f"see it (at least {SHORTEST_ALT} characters; got {len(alt)})."
        )
    alt = " ".join([alt, *told(fig).split()])
    _spell(fig)
    buffer = BytesIO()
    with fonts.quiet():  # no software version in the file: the same figure gives the same bytes
        fig.savefig(buffer, format="png", dpi=160, facecolor=PAPER, metadata={"Software": None})
    _forget(fig)
    kind = "png"
    if buffer.tell() > HEAVY:
        # a photograph, which PNG keeps to the last grain
        with Image.open(buffer) as drawn:
            buffer, kind = BytesIO(), "webp"
            drawn.convert("RGB").save(buffer, kind, quality=90)
    data = base64.b64encode(buffer.getvalue()).decode()
    width = width or round(fig.get_size_inches()[0] * 96)
    # in dark mode pydata-sphinx-theme dims pictures, "dark-light" excepted, and puts a light card
    # behind outputs
    return (
        f'<style>{PAPER_STYLE}</style><img class="dark-light ww-figure" alt="{escape(alt)}" '
        f'src="data:image/{kind};base64,{data}" '
        f'style="width:{escape(str(width))}px;max-width:100%;'
        f"min-width:calc({READABLE} * {escape(str(width))}px);"
        "height:auto;padding:0;"
        f'background:{PAPER};color:{INK};border-radius:6px">'
    )


def tell(fig: Figure, text: str) -> Figure:
    """Keep with a figure what it shows in words, for its alt text; returns the figure."""
    fig.set_label(" ".join(text.split()))
    return fig


def told(fig: Figure) -> str:
    """What a figure tells of itself in words; empty for one that was drawn elsewhere."""
    return str(fig.get_label() or "")


def _spell(fig):
    """Have every text drawn as it is written: in fonts that have its characters, and as no formula.

    Labels of ticks are made as they are drawn, and made again from what their axis says: that is
    where they are changed.
    """
    for axis in (axis for ax in fig.axes for axis in (ax.xaxis, ax.yaxis)):
        labels = [label.get_text() for label in axis.get_ticklabels()]
        marked = fonts.drawable(labels, caller=4)
        if marked != labels:
            axis.set_ticks(axis.get_ticklocs(), marked)
            axis.get_ticklabels()
    texts = [text for text in fig.findobj(Text) if text.get_text()]
    for text, marked in zip(texts, fonts.drawable([text.get_text() for text in texts], caller=4)):
        text.set_text(marked)
        text.set_fontfamily([*text.get_fontfamily(), *fonts.families(marked)])
        # a word may hold dollars, and means no formula by them; a logarithmic axis does
        if "$" in marked and "mathdefault" not in marked:
            text.set_parse_math(False)


def _forget(fig):
    """Keep a figure made with pyplot from being shown a second time, without alt text."""
    if fig.canvas.manager is not None:
        from matplotlib import pyplot

        pyplot.close(fig)
