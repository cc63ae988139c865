"""Texts in a VLM's language model: their words, and the states of these."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from ..files import read_text

if TYPE_CHECKING:
    from ..models import VLM

WORD = re.compile(r"\w+(?:['’-]\w+)*")
LONGEST = 512  # tokens of a text that are run; what comes after them is not read


class Encoded(NamedTuple):
    """A text as token ids; its words in small letters, the place of each one's last token, and
    where in the text it is written (first letter, end)."""

    ids: list[int]
    words: list[str]
    places: list[int]
    spans: list[tuple[int, int]]


def read(texts: str | Path | Iterable[str]) -> list[str]:
    """Texts as they come, or the lines of a file; those without a word are left out.

    Raises:
        TypeError: for what is no list of texts.
        ValueError: where no text is left.
    """
    if isinstance(texts, (str, Path)):
        listed = read_text(texts).splitlines()
    else:
        listed = strings("texts", texts)
    kept = [text for text in listed if WORD.search(text)]
    if not kept:
        raise ValueError(
            "There is no word in these texts: give a list of them, or a file with one a line."
        )
    return kept


def strings(what: str, given: Iterable[str]) -> list[str]:
    """A list of strings as it is.

    Raises:
        TypeError: for what is none; one string, too, would be read letter by letter.
    """
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise TypeError(f"{what} is a list of strings, such as [{str(given)!r}], not {given!r}.")
    listed = list(given)
    for n, each in enumerate(listed):
        if not isinstance(each, str):
            raise TypeError(f"{what} is a list of strings; number {n} of these is {each!r:.60}.")
    return listed


def encoded(vlm: VLM, texts: Iterable[str], prefix: str = "") -> list[Encoded]:
    """Texts as token ids, each after the prefix, whose words do not count.

    Raises:
        ValueError: for a tokenizer that does not tell where in a text its tokens are.
    """
    if not vlm.tokenizer.is_fast:
        raise ValueError(
            f"The tokenizer of {vlm.name} does not tell where in a text its tokens are: load it "
            "with the package `tokenizers`, as its fast version."
        )
    return [_encoded(vlm, prefix, text) for text in texts]


def _encoded(vlm, prefix, text):
    whole = prefix + text
    made = vlm.tokenizer(whole, return_offsets_mapping=True, truncation=True, max_length=LONGEST)
    starts, ends = np.array(made["offset_mapping"]).reshape(-1, 2).T
    words, places, spans = [], [], []
    for match in WORD.finditer(whole, len(prefix)):
        reach = np.flatnonzero((starts < match.end()) & (ends >= match.end()))
        if not len(reach):  # the text was cut before it
            break
        words.append(match[0].lower())
        places.append(int(reach[-1]))  # one letter may be several tokens
        spans.append((match.start() - len(prefix), match.end() - len(prefix)))
    return Encoded(made["input_ids"], words, places, spans)


@torch.no_grad()
def states(
    vlm: VLM, texts: Sequence[Encoded], layers: Sequence[int], batch_size: int = 16
) -> Iterator[list[torch.Tensor]]:
    """Yields, for one text after the other, the states (tokens, hidden) of each of the layers."""
    width = vlm.unembedding.weight.shape[1]
    for start in range(0, len(texts), batch_size):
        batch = [text.ids for text in texts[start : start + batch_size]]
        length = max(map(len, batch))
        ids = torch.tensor([row + [0] * (length - len(row)) for row in batch])
        mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in batch])
        ids, mask = ids.to(vlm.device), mask.to(vlm.device)
        embeddings = vlm.model.get_input_embeddings()(ids)
        embeddings = vlm.adapter.pack({"inputs_embeds": embeddings})
        of_layers = vlm.lm_hidden(embeddings, mask, None, list(layers))
        for n, row in enumerate(batch):
            yield [of_layer[n, : len(row), :width] for of_layer in of_layers]
