"""Lenses: readers of the residual stream, which say of a state the word that it holds.

All of them score words by one product with a table, of states that each prepares in its own way:

    logit lens       the unembedding's rows; states after the final norm
    embedding lens   the input embeddings, compared by their cosine
    contextual lens  states of words in texts, compared by their cosine (`lens.contextual`)
    tuned lens       the unembedding's rows; states translated to the last layer (`lens.tuned`)
    decoder lens     a distilled `compress.Decoder`
    probe            what a linear classifier has learnt from labels (`lens.probes`)

so that maps, statistics and limits of the vocabulary are the same for all.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from numbers import Integral
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from ..finite import not_finite
from ..hooks import check_range
from ..tokens import forms

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from ..compress import Decoder
    from ..models import VLM

PROBABILITY, COSINE = "probability", "cosine"


class Reading(NamedTuple):
    """The top words of hidden states, best first: three arrays of shape (…, top_k). Scores are
    probabilities or cosines, as the lens's `measure` says."""

    ids: np.ndarray
    words: np.ndarray
    scores: np.ndarray


class Table(NamedTuple):
    """What states are multiplied with: `weight` (entries, width), `bias` (entries,) or None, and
    `ids` (entries,), the word that each entry stands for; None where entry i is word i."""

    weight: torch.Tensor
    bias: torch.Tensor | None = None
    ids: torch.Tensor | None = None


class Lens:
    """A reader of hidden states, made for one model. A lens of your own has a `name`, `prepared`
    and `table`.

    Attributes:
        vlm: the model.
        words: (words,) what each id looks like that this lens can say.
        tokenizer: the model's, where ids are its tokens; None where each is a whole word.
        measure: what its scores are, "probability" or "cosine".
        layer: the LM layer that it reads where none is asked for.
        layers: all that it can read.
    """

    name = "lens"
    measure = PROBABILITY

    def __init__(self, vlm: VLM):
        self.vlm = vlm
        self.words: np.ndarray = vlm.words
        self.tokenizer: PreTrainedTokenizerBase | None = vlm.tokenizer
        self.layer: int = vlm.lens_layer
        self.layers: tuple[int, ...] = tuple(range(vlm.n_layers + 1))
        self._limit: torch.Tensor | None = None

    def __repr__(self):
        return f"<{self.name} of {self.vlm.name}>"

    def prepared(self, hidden: torch.Tensor, layer: int) -> torch.Tensor:
        """States (rows, width) of an LM layer, ready to be multiplied with the table."""
        raise NotImplementedError

    def table(self, layer: int) -> Table:
        """What the states of this LM layer are multiplied with."""
        raise NotImplementedError

    def at(self, layer: int | None) -> int:
        """The LM layer to read: `layer`, else this lens's own.

        Raises:
            ValueError: for a layer that it cannot read.
        """
        layer = self.layer if layer is None else layer
        check_range("layer", layer, self.vlm.n_layers)
        if layer not in self.layers:
            raise ValueError(
                f"The {self.name} cannot read LM layer {layer}; it can read "
                f"{', '.join(map(str, self.layers))}."
            )
        return layer

    def check_fits(self, vlm: VLM) -> None:
        """ValueError unless this lens was made for that model."""
        if vlm is not self.vlm:
            raise ValueError(
                f"This {self.name} was made for {self.vlm.name}, another model than the one to be "
                f"read: make one for {vlm.name}."
            )

    def limited(self, words: Iterable[str]) -> Lens:
        """This lens, able to say some words only: a vocabulary that is the same for several lenses
        makes them comparable.

        A word is kept with all tokens by which it can show (`forms`).

        Raises:
            ValueError: for words that this lens cannot say.
        """
        words = list(dict.fromkeys(words))
        of_word = forms(self.words, words, self.tokenizer)
        if of_word.missing or not words:
            raise ValueError(
                f"The {self.name} cannot be limited to "
                f"{', '.join(map(repr, of_word.missing)) or 'no words at all'}: it knows no such "
                "word."
            )
        limited = copy.copy(self)
        kept = np.unique(np.concatenate([of_word[word] for word in words]))
        limited._limit = torch.from_numpy(kept)
        return limited

    @torch.no_grad()
    def read(self, hidden: torch.Tensor, layer: int | None = None, top_k: int = 5) -> Reading:
        """The `top_k` best words of hidden states (…, width) of an LM layer: a `Reading`.

        Raises:
            NotFinite: where a state or a score is nan or infinite.
            ValueError: for a layer that it cannot read, and for more words than it knows.
        """
        parts = zip(*((i.cpu(), s.cpu()) for i, s, _ in self.scored(hidden, layer, top_k)))
        ids, scores = (torch.cat(part).reshape(*hidden.shape[:-1], top_k).numpy() for part in parts)
        scores = np.exp(scores) if self.measure == PROBABILITY else scores
        return Reading(ids, self.words[ids], scores)

    @torch.no_grad()
    def scored(
        self,
        hidden: torch.Tensor,
        layer: int | None = None,
        top_k: int = 1,
        asked: Sequence[int] | np.ndarray = (),
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Yields, for some rows of hidden (…, width) at a time, their `top_k` best ids (rows,
        top_k), the scores of these, and those of the ids `asked` (rows, asked): log-probabilities
        or cosines. A word of several entries has the score of the best.

        All scores are computed, but not kept: some thousand entries are multiplied at a time, their
        best and their sum noted, and the next take their place. So memory grows neither with depths
        nor with the vocabulary, and a CPU works within its caches.
        """
        layer = self.at(layer)
        table = self._limited(self.table(layer))
        known = len(table.weight) if table.ids is None else len(torch.unique(table.ids))
        check_top_k(top_k, known)
        wanted = torch.as_tensor(asked, dtype=torch.long, device=table.weight.device)
        if table.ids is not None and not torch.isin(wanted, table.ids).all():
            raise ValueError(f"The {self.name} is asked for words that it cannot say.")
        n_rows, n_entries = _tile(table.weight)
        for rows in hidden.reshape(-1, hidden.shape[-1]).split(n_rows):
            rows = self.prepared(rows.to(table.weight.device), layer).to(table.weight)
            if table.ids is None or known == len(table.ids):
                ids, best, scores = _of_words(rows, table, top_k, wanted, n_entries, self.measure)
            else:
                ids, best, scores = _of_entries(rows, table, top_k, wanted, n_entries)
            if not best[:, 0].isfinite().all():  # one such number, and all scores are none
                raise not_finite(
                    "the logits" if hidden.isfinite().all() else "the states given to the lens",
                    rows.dtype,
                )
            if self.measure == COSINE:  # which rounding may lift above one
                best, scores = best.clamp(-1, 1), scores.clamp(-1, 1)
            yield ids, best, scores

    def _limited(self, table):
        if self._limit is None:
            return table
        limit = self._limit.to(table.weight.device)
        ids = (
            torch.arange(len(table.weight), device=limit.device) if table.ids is None else table.ids
        )
        kept = torch.isin(ids, limit)
        bias = None if table.bias is None else table.bias[kept]
        return Table(table.weight[kept], bias, ids[kept])


def chosen_layers(layers: Iterable[int] | None, highest: int) -> list[int]:
    """The LM layers asked for, each once and in order; None asks for all, 0 … `highest`.

    Raises:
        TypeError: for what is no list.
        ValueError: for a layer that there is not.
    """
    if layers is None:
        return list(range(highest + 1))
    if not isinstance(layers, Iterable):
        raise TypeError(f"layers is a list of LM layers, such as [{layers!r}], not {layers!r}.")
    listed = list(layers)
    for layer in listed:
        check_range("layer", layer, highest)
    return sorted(set(listed))


def check_top_k(top_k: int, known: int) -> None:
    """ValueError unless `top_k` words can be had of `known`."""
    if isinstance(top_k, bool) or not isinstance(top_k, Integral) or not 1 <= top_k <= known:
        raise ValueError(
            f"top_k is a whole number from 1 to {known}, the size of the vocabulary, not {top_k!r}."
        )


def _of_words(rows, table, top_k, asked, n_entries, measure):
    """Where each entry is a word of its own: ids, scores, scores of those asked."""
    weight, bias, names = table
    best = rows.new_full((len(rows), top_k), -torch.inf, dtype=torch.float32)
    ids = torch.zeros_like(best, dtype=torch.long)
    total = best[:, :1].clone()
    for start in range(0, len(weight), n_entries):
        part = slice(start, start + n_entries)
        logits = F.linear(rows, weight[part], None if bias is None else bias[part]).float()
        most = logits.amax(-1, keepdim=True)
        # the further on, the fewer rows have a better word to sort in
        better = (most > best[:, -1:]).nonzero()[:, 0]
        top = logits[better].topk(min(top_k, logits.shape[-1]))
        best[better], order = torch.cat((best[better], top.values), -1).topk(top_k)
        ids[better] = torch.cat((ids[better], top.indices + start), -1).gather(-1, order)
        if measure == PROBABILITY:
            total = total.logaddexp(logits.sub_(most).exp_().sum(-1, keepdim=True).log() + most)
        del logits  # before the next take their place
    if names is not None:
        ids = names[ids]
        asked = (names[:, None] == asked).int().argmax(0)
    scores = F.linear(rows, weight[asked], None if bias is None else bias[asked]).float()
    if measure != PROBABILITY:
        return ids, best, scores
    # where one logit is nan or infinite, the total is, and so is what it is taken from
    return ids, best - total, scores - total


def _of_entries(rows, table, top_k, asked, n_entries):
    """Where a word has several entries: the best of them counts."""
    weight, bias, names = table
    known, places = torch.unique(names, return_inverse=True)
    scores = rows.new_full((len(rows), len(known)), -torch.inf, dtype=torch.float32)
    for start in range(0, len(weight), n_entries):
        part = slice(start, start + n_entries)
        of_entries = F.linear(rows, weight[part], None if bias is None else bias[part]).float()
        scores.scatter_reduce_(1, places[part].expand(len(rows), -1), of_entries, "amax")
    best = scores.topk(top_k)
    return known[best.indices], best.values, scores[:, torch.searchsorted(known, asked)]


def _tile(weight):
    """(rows, entries) of the scores made at once: 4 MiB of float32 on a CPU, whose caches hold
    little, and 128 MiB elsewhere."""
    on_cpu = weight.device.type == "cpu"
    entries = min(len(weight), 1024) if on_cpu else len(weight)
    return max(1, (2**20 if on_cpu else 2**25) // entries), entries


class LogitLens(Lens):
    """softmax(W_U · norm(h)) of states h (…, hidden): what the model would say if it had to speak
    at once (nostalgebraist, "interpreting GPT: the logit lens", 2020; arXiv 2509.19191 reads visual
    tokens with it).

    Args:
        norm: False leaves out the final norm, as the paper's public code does.
    """

    name = "logit lens"

    def __init__(self, vlm: VLM, norm: bool = True):
        super().__init__(vlm)
        self.norm = norm

    def prepared(self, hidden: torch.Tensor, layer: int) -> torch.Tensor:
        hidden = hidden.to(self.vlm.unembedding.weight)
        return self.vlm.final_norm(hidden) if self.norm else hidden

    def table(self, layer: int) -> Table:
        unembedding = self.vlm.unembedding
        return Table(unembedding.weight, getattr(unembedding, "bias", None))


class EmbeddingLens(Lens):
    """The word whose input embedding a state (…, hidden) points along, by cosine: no norm, nothing
    trained. It reads LM layer 0 by default, where visual tokens stand among these embeddings."""

    name, measure = "embedding lens", COSINE

    def __init__(self, vlm: VLM):
        super().__init__(vlm)
        self.layer = 0

    def prepared(self, hidden: torch.Tensor, layer: int) -> torch.Tensor:
        return directions(hidden)

    def table(self, layer: int) -> Table:
        return Table(self._directions)

    @cached_property
    def _directions(self):
        """The embeddings at length 1: a copy, as large as they are."""
        # the table may have rows to spare, for which the tokenizer has no token
        embeddings = self.vlm.model.get_input_embeddings().weight[: len(self.words)]
        return directions(embeddings).to(embeddings.dtype)


class DecoderLens(Lens):
    """What a distilled `compress.Decoder` (arXiv 2509.19191) says of visual tokens (…, hidden), at
    LM layer 0, where it reads."""

    name = "distilled decoder"

    def __init__(self, vlm: VLM, decoder: Decoder):
        super().__init__(vlm)
        decoder.check_fits(vlm)
        self.decoder, self.words = decoder, decoder.words
        self.layer, self.layers = 0, (0,)

    def prepared(self, hidden: torch.Tensor, layer: int) -> torch.Tensor:
        return hidden

    def table(self, layer: int) -> Table:
        return Table(self.decoder.weight)


def directions(vectors: torch.Tensor) -> torch.Tensor:
    """Vectors (…, width) at length 1, in float32; the null vector stays what it is."""
    return F.normalize(vectors.float(), dim=-1)


def logit_lens(vlm: VLM, hidden: torch.Tensor, top_k: int = 5, norm: bool = True) -> Reading:
    """What the model would say if it had to speak at once from `hidden`.

    Args:
        hidden: (…, hidden) states of the LM's residual stream, at any layer, on any device.
        top_k: how many words to keep.
        norm: False skips the final norm, to show why it is needed.

    Returns:
        A `Reading`: softmax(W_U · norm(hidden)), its `top_k` best ids, words and probabilities.

    Raises:
        NotFinite: where a state or a logit is nan or infinite.
    """
    return LogitLens(vlm, norm).read(hidden, top_k=top_k)
