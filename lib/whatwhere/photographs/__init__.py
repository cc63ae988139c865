"""Photographs in which somebody has marked the things: scenes for all statistics that take any.

    photographs.shipped()                     # six that come with the book
    photographs.read("my-folder")             # five of your own, marked by hand: see `read`
    photographs.whatsup_sets()                # What's Up B, with the paper's own boxes
    photographs.gqa("gqa", sample=500)        # scene graphs: boxes, attributes, relations
    photographs.coco("coco", sample=500)      # outlines and masks

Each is a `Photograph`, a `scenes.Scene`: truth goes through a model's own resizing and cropping.
"""

from .photograph import Photograph, Thing
from .readers import PhotographSet, coco, gqa, read, shipped, whatsup_sets

__all__ = [
    "Photograph", "PhotographSet", "Thing", "coco", "gqa", "read", "shipped", "whatsup_sets",
]  # fmt: skip
