"""Rotary phases to play with: sliders for distance, frequency, phase and RoPE scaling, drawn by the
page itself.

One piece of HTML with its own style and script, no other file, no network and no kernel. A head is
shown whose pairs all have the same strength and the same phase of q k*, which no trained head has;
what it teaches is what each number does.
"""

import json
from html import escape

from ..rope import frequencies
from ..views.page import OWN_KEYS, PAPER_STYLE, beside

# name, label, lowest, highest, step, what is set first; "frequency" gets its highest from the head
SLIDERS = (
    ("distance", "distance m, in patches", 1, 20, 1, 4),
    ("frequency", "frequency i", 0, None, 1, 3),
    ("phase", "phase of q k*, in degrees", -180, 180, 5, 60),
    ("alpha", "scaling α", 0, 100, 1, 0),
    ("p", "scaling p", 1, 10, 1, 8),
)
PANELS = (
    ("circle", "One pair: q k* turned by ∓mθ. What counts is how far right it ends."),
    ("bars", "All pairs: how far cos mθ (shared) and sin mθ (telling) are from zero."),
    ("curve", "Attention to the other object, among 16 patches, by displacement."),
)


class Phases:
    """Shows itself in a notebook and in the built page.

    Args:
        head_size, base: as `rope.frequencies` takes them.
    """

    def __init__(self, head_size: int = 80, base: float = 10_000.0):
        self.head_size, self.theta = head_size, frequencies(head_size, base).tolist()

    def __repr__(self):
        return (
            f"Phases(a head of {self.head_size} dimensions, {len(self.theta)} frequencies an axis)"
        )

    def _repr_html_(self):
        sliders = "".join(
            f'<label><span>{label}</span><input type="range" {OWN_KEYS} name="{name}" '
            f'min="{low}" step="{step}" '
            f'value="{at}" max="{len(self.theta) - 1 if high is None else high}" '
            f"oninput=\"whatwherePhases(this.closest('.ww-phases'))\"><output>{at}</output></label>"
            for name, label, low, high, step, at in SLIDERS
        )
        panels = "".join(
            f'<div><p>{said}</p><div class="ww-{name}"></div></div>' for name, said in PANELS
        )
        data = escape(json.dumps({"theta": self.theta}))
        return (
            f'<figure class="ww-phases ww-paper" data-phases="{data}"><style>{STYLE}</style>'
            f'<div class="ww-sliders">{sliders}</div><div '
            f'class="ww-panels">{panels}</div><figcaption aria-live="polite">'
            "The pictures are drawn by a script, which does not run here; the figures of this "
            f"chapter show some settings.</figcaption><script>{SCRIPT}</script></figure>"
        )


STYLE = PAPER_STYLE + beside(__file__, ".css")

# Blue with a square is left, orange with a dot is right; a black bar has gone past half a turn.
SCRIPT = beside(__file__, ".js")
