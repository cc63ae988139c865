"""Fewer visual tokens: a decoder that reads them before the language model, and what its words let
go.

    decoder = compress.distil(vlm, compress.lessons(vlm, images))  # one layer, taught by the LM
    with compress.compressed(vlm, "rle", decoder) as log:  # run-length code of its words
        vlm.answer(image, "what is on the table ?")
    log.removed  # share of visual tokens that were saved

The visual decoder and methods 1 to 3 of *Reading Images Like Texts* (arXiv 2509.19191), and what to
hold them against.
"""

from .decoder import MARKS, Decoder, distil, lessons, load_decoder, punctuation
from .groups import BASELINES, NEEDS, SHAPES, WORDS, Merge, Method, Sight, by_words
from .methods.gather import gathered
from .registry import CONTROLS, METHODS, named, table
from .within import LENGTHS, POOLS, POSITIONS, Log, compressed

__all__ = [
    "BASELINES", "CONTROLS", "LENGTHS", "MARKS", "METHODS", "NEEDS", "POOLS", "POSITIONS", "SHAPES",
    "WORDS", "Decoder", "Log", "Merge", "Method", "Sight", "by_words", "compressed", "distil",
    "gathered", "lessons", "load_decoder", "named", "punctuation", "table",
]  # fmt: skip
