"""Where one thing is to another: the paper's experiments on controlled sets, with controls.

    sets = world.controlled("B", 100)  # or photographs.whatsup_sets()
    table = relations.blended(vlm, sets)
    relations.over_sets(table, ["condition", "weight"], "is opposite")

A *controlled set* shows the same two things in several relations: `scenes`, {relation: scene}, in
which thing 0 is the satellite and thing 1 the nucleus. Each experiment takes any model and any such
sets, drawn or photographed, and gives a table with a row for each set, relation and condition:
`similarities` of relation vectors, `axis_logits` of a ViT's heads, and the answers when things are
`blended`, `moved` and `erased`. Sets that a model's grid is too coarse for are left out:
`table.attrs["left_out"]` is {number of the set: why}.
"""

from .axes import axis_logits
from .interventions import THERE, WHERE, blended, erased, means, moved, parts
from .sets import ControlledSet, names, over_sets, usable
from .vectors import (
    centred,
    cosine_of_axes,
    cosines,
    geometry_score,
    null,
    permuted,
    similarities,
    states,
)

__all__ = [
    "THERE", "WHERE", "ControlledSet", "axis_logits", "blended", "centred", "cosine_of_axes",
    "cosines", "erased", "geometry_score", "means", "moved", "names", "null", "over_sets", "parts",
    "permuted", "similarities", "states", "usable",
]  # fmt: skip
