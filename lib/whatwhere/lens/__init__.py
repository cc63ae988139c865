"""Lenses on visual tokens, for every depth of the ViT.

    maps = token_maps(vlm, "photo.jpg")
    maps.words[-1]          # (rows, columns): the word each patch decodes to, with the whole ViT
    maps.show()             # a slider over depth
    token_maps(vlm, "photo.jpg", lens=EmbeddingLens(vlm))  # the same by another lens

The logit lens is the method of *Reading Images Like Texts* (arXiv 2509.19191, section 3), with the
final norm applied before the unembedding: without it the last layer would not give the model's own
logits.
"""

from ..tokens import Forms
from .contextual import Bank, ContextualLens, bank, load_bank
from .maps import TokenMaps, explore, forms, token_maps
from .probes import Probe, probe
from .readers import DecoderLens, EmbeddingLens, Lens, LogitLens, Reading, Table, logit_lens
from .tuned import TunedLens, load_tuned, tune

__all__ = [
    "Bank", "ContextualLens", "DecoderLens", "EmbeddingLens", "Forms", "Lens", "LogitLens", "Probe",
    "Reading", "Table", "TokenMaps", "TunedLens", "bank", "explore", "forms", "load_bank",
    "load_tuned", "logit_lens", "probe", "token_maps", "tune",
]  # fmt: skip
