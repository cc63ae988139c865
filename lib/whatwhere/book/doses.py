"""An intervention to play with: drag the dose, and watch the probabilities of the answers.

One piece of HTML with its own style and script, no other file, no network and no kernel: all doses
have been computed before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from ..views.page import OWN_KEYS, PAPER_STYLE, beside, data_uri

if TYPE_CHECKING:
    from PIL.Image import Image


class Doses:
    """Shows itself in a notebook and in the built page.

    Args:
        image: the picture that was asked about.
        question: a string.
        options: the answers.
        doses: (doses,) numbers in rising order.
        curves: {what was done: (doses, options) probabilities}.

    Raises:
        ValueError: where shapes do not agree.
    """

    def __init__(
        self,
        image: Image,
        question: str,
        options: Sequence[str],
        doses: Sequence[float] | np.ndarray,
        curves: Mapping[str, Sequence[Sequence[float]] | np.ndarray],
    ):
        self.image, self.question, self.options, self.doses = (
            image,
            question,
            list(options),
            np.asarray(doses, float),
        )
        self.curves = {name: np.asarray(values, float) for name, values in curves.items()}
        if not self.curves or len(self.doses) < 2 or (np.diff(self.doses) <= 0).any():
            raise ValueError(
                "Doses take two doses or more, in rising order, and one curve or more."
            )
        due = len(self.doses), len(self.options)
        for name, values in self.curves.items():
            if values.shape != due or not np.isfinite(values).all():
                raise ValueError(
                    f"A curve has {due[0]} doses × {due[1]} options, all finite; {name!r} has "
                    f"shape {values.shape}."
                )

    def __repr__(self):
        return (
            f"Doses({', '.join(self.curves)}; {len(self.doses)} doses from {self.doses[0]:g} "
            f"to {self.doses[-1]:g})"
        )

    def _repr_html_(self):
        last, none = len(self.doses) - 1, int(np.abs(self.doses).argmin())
        change = f"{OWN_KEYS} oninput=\"whatwhereDoses(this.closest('.ww-doses'))\""
        kinds = "".join(
            f'<option value="{n}">{escape(str(name))}</option>'
            for n, name in enumerate(self.curves)
        )
        bars = "".join(
            "<div "
            f'class="ww-answer"><span>{escape(str(word))}</span><i><b></b></i><output></output></div>'
            for word in self.options
        )
        percent = [np.round(100 * values, 1).tolist() for values in self.curves.values()]
        data = json.dumps(
            {"doses": self.doses.round(4).tolist(), "options": self.options, "percent": percent}
        )
        return (
            '<figure class="ww-doses ww-paper" '
            f'data-doses="{escape(data)}"><style>{STYLE}</style><div class="ww-sides">'
            f'<img alt="The picture that is asked about: {escape(self.question)}" '
            f'src="{data_uri(self.image)}"><div>'
            f"<p>{escape(self.question)}</p>{bars}<label><span>what is done</span><select "
            f"{change}>{kinds}</select></label>"
            f'<label><span>dose</span><input type="range" min="0" max="{last}" step="1" '
            f'value="{none}" {change}>'
            '<output></output></label></div></div><figcaption aria-live="polite">The bars are '
            "drawn by a script, which does not run here; the figures of this chapter show the "
            f"same over many pictures.</figcaption><script>{SCRIPT}</script></figure>"
        )


STYLE = PAPER_STYLE + beside(__file__, ".css")

SCRIPT = beside(__file__, ".js")
