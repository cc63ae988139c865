"""What all our HTML shares: light paper of its own under dark ink.

No theme around an output, and no preference of the system, decides whether it can be read:
JupyterLab, VS Code, Colab, marimo and Sphinx each announce their theme in another way, so that
colours which follow one of them are wrong in the next.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from html import escape
from io import BytesIO
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

PAPER, INK, SOFT = "#fbfaf7", "#1d1f24", "#5b6068"
# JupyterLab takes the arrow keys for itself, except from what bears this mark
OWN_KEYS = "data-lm-suppress-shortcuts"
PICTURE = 768  # pixels, the longest side of a picture that is carried along


def tight(text: str) -> str:
    """Without the indentation that is for us: every output on a page carries this."""
    return re.sub(r"\n\s*", "\n", text).strip()


def beside(module: str, kind: str, **values: object) -> str:
    """The style (".css") or script (".js") that lies beside a module (its `__file__`) under the
    same name, tight.

    Args:
        values: what stands for `$NAME` in it.
    """
    text = Path(module).with_suffix(kind).read_text(encoding="utf-8")
    return tight(Template(text).substitute(values) if values else text)


def islands(pieces: Iterable[str]) -> str:
    """Every second piece is a word, isolated: one that is read from right to left leaves the rest
    in its order."""
    escaped = [escape(piece) for piece in pieces]
    return "".join(f"<bdi>{piece}</bdi>" if n % 2 else piece for n, piece in enumerate(escaped))


def data_uri(image: Image.Image) -> str:
    image = image.copy()
    image.thumbnail((PICTURE, PICTURE))
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


# `color-scheme` is for sliders, check boxes and menus, which browsers draw as the system likes
# them. The last rule: in dark mode pydata-sphinx-theme puts a light card behind every HTML output.
PAPER_STYLE = beside(__file__, ".css", PAPER=PAPER, INK=INK)
