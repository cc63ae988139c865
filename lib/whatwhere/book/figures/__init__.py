"""Every plot of the book. A figure is shown with alt text or not at all.

    fig = lines_with_intervals(range(7), {"trained": (mean, low, high)}, "ViT depth", "hits")
    show(fig, "Hits by ViT depth.")

The alt text is that sentence and what the figure tells of itself: its numbers, or its words.
Figures are drawn on light paper of their own, so that they read the same on a light and on a dark
page, and words in any script for which a font is installed. Colours are Okabe and Ito's, which stay
apart for colour-blind eyes; series differ in marker as well.

Pictures of ideas (`pipeline`, `taps`, `early_exit`, `runs`, `turning`, `dials`, `split_logit`,
`centring`, `rulers`, `worlds`) are drawn from a real model, scene or vector, and nothing on them is
invented; `timelines` shows what is trained.
"""

from .angles import dials, rulers, split_logit, turning
from .charts import (
    clouds,
    dots_with_intervals,
    grid_beside_control,
    heatmap,
    lines_with_intervals,
    panels_with_intervals,
    scatters,
    trade_offs,
)
from .forest import forest, show_forests
from .ideas import centring, runs, timelines, worlds
from .paper import PALETTE, SOFT, html, show, tell, told
from .pathway import early_exit, pipeline, taps
from .pictures import image_grid, label_maps, mosaic, scene, word_map, word_maps

__all__ = [
    "PALETTE", "SOFT", "centring", "clouds", "dials", "dots_with_intervals",
    "early_exit", "forest", "grid_beside_control", "heatmap", "html", "image_grid", "label_maps",
    "lines_with_intervals", "mosaic", "panels_with_intervals", "pipeline", "rulers", "runs",
    "scatters", "scene", "show", "show_forests", "split_logit", "taps", "tell", "timelines",
    "told", "trade_offs", "turning", "word_map", "word_maps", "worlds",
]  # fmt: skip
