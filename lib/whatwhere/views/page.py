"""What all our HTML shares: light paper of its own under dark ink.

No theme around an output, and no preference of the system, decides whether it can be read: JupyterLab, VS Code, Colab, marimo
and Sphinx each announce their theme in another way, so that colours which follow one of them are wrong in the next.
"""

import base64
import re
from io import BytesIO

PAPER, INK, SOFT = "#fbfaf7", "#1d1f24", "#5b6068"
# JupyterLab takes the arrow keys for itself, except from what bears this mark
OWN_KEYS = "data-lm-suppress-shortcuts"
PICTURE = 768  # pixels, the longest side of a picture that is carried along


def tight(text):
    """Without the indentation that is for us: every output on a page carries this."""
    return re.sub(r"\n\s*", "\n", text).strip()


def data_uri(image):
    image = image.copy()
    image.thumbnail((PICTURE, PICTURE))
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


# `color-scheme` is for sliders, check boxes and menus, which browsers draw as the system likes them. The last rule: in dark
# mode pydata-sphinx-theme puts a light card behind every HTML output.
PAPER_STYLE = tight(f"""
    .ww-paper {{ margin: 1em 0 !important; padding: .9em 1em; background: {PAPER} !important; border-radius: 6px;
        color: {INK}; color-scheme: light; font: 15px/1.45 system-ui, sans-serif; text-align: left }}
    .ww-paper :is(p, label, output, figcaption, select, option, .ww-answer) {{ color: {INK} }}
    .ww-paper figcaption {{ max-width: none; font: inherit; text-align: left; overflow-wrap: anywhere }}
    .ww-paper :is(input, select):focus-visible {{ outline: 3px solid #d98200; outline-offset: 2px }}
    .ww-paper input {{ accent-color: #0072b2 }}
    html[data-theme=dark] .bd-content div.cell_output .text_html:has(.ww-paper, .ww-figure) {{
        background: none !important; padding: 0 !important }}
""")
