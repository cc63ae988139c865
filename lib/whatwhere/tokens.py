"""Tokens as a reader reads them, and the tokens by which a word can show."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

VISIBLE = {" ": "␣", "\n": "⏎", "\t": "⇥", "\r": "␍", "": "∅"}
# What Python calls printable and is drawn as nothing: fillers, selectors of variants (Unicode's
# Default_Ignorable_Code_Point) and the blank pattern of Braille
UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
CIRCLE = "◌"  # what Unicode puts under a combining mark that stands alone


def readable(pieces: Iterable[str | bytes | None]) -> np.ndarray:
    """(vocabulary,) array of strings from a tokenizer's raw pieces.

    The mark of a word's start is dropped ("▁bear", "Ġbear" → "bear"), bytes become the characters
    they spell or, where they are part of one, their hexadecimal value ("‹E4›"), and blanks are made
    visible ("⏎"). Whatever nobody would see is named by its number ("‹U+200B›"): spaces of other
    widths, characters of control and of format (such as those that turn the direction of reading),
    selectors of variants, and what is assigned to no character. A combining mark that has nothing
    to combine with gets a circle ("◌́"). None stands for an id that has a row in the unembedding
    but no token.
    """
    words = [f"‹{i}›" if word is None else _show(word) for i, word in enumerate(_spelt(pieces))]
    return np.array(words, dtype=object)


def spelt(pieces: list[str | None]) -> np.ndarray:
    """(vocabulary,) array of strings from a tokenizer's raw pieces: what each adds to a text,
    blanks and all.

    The mark of a word's start is a blank ("▁bear", "Ġbear" → " bear"), bytes are as in `readable`.
    None becomes "‹id›".
    """
    texts = [f"‹{i}›" if text is None else text for i, text in enumerate(_spelt(pieces))]
    return np.array(texts, dtype=object)


def _spelt(pieces):
    byte_level = _is_byte_level(pieces)
    return [(_byte_level if byte_level else _sentencepiece)(piece) for piece in pieces]


def columns(word: str) -> int:
    """How wide a word is drawn, in letters: characters of Chinese, Japanese, Korean and emoji count
    two, marks on others none."""
    return len(word) if word.isascii() else sum(_columns(c) for c in word)


def _columns(char):
    if unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _is_byte_level(pieces):
    """By what most words begin with: Llama's SentencePiece has a piece "Ġ" too, a letter of
    Maltese."""
    blank = [sum(piece is not None and piece.startswith(mark) for piece in pieces) for mark in "Ġ▁"]
    return blank[0] > blank[1]


def _show(word):
    word = word[1:] if word[:1] == " " and word.strip() else word
    if word.isascii() and word.isprintable() and " " not in word:
        return word or VISIBLE[""]
    text, base = "", False  # base: whether there is something for a combining mark to stand on
    for char in word:
        if char in VISIBLE or not char.isprintable() or UNSEEN.match(char):
            text, base = text + (VISIBLE.get(char) or numbered(char)), False
        else:
            alone = unicodedata.category(char)[0] == "M" and not base
            text, base = text + CIRCLE * alone + char, True
    return text


def numbered(char: str) -> str:
    """A character that cannot be shown, by its number: "‹U+200B›"."""
    return f"‹U+{ord(char):04X}›"


def _sentencepiece(piece):
    if piece is None:
        return None
    byte = re.fullmatch(r"<0x([0-9A-F]{2})>", piece)
    if byte:
        value = int(byte[1], 16)
        return chr(value) if value < 128 else f"‹{byte[1]}›"
    return piece.replace("▁", " ")


def _byte_level(piece):
    # an added token, kept as it is written
    if piece is None or any(c not in _BYTES for c in piece):
        return piece
    data = bytes(_BYTES[c] for c in piece)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "‹" + data.hex().upper() + "›"


def _byte_alphabet():
    """Byte-level BPE writes each byte as one printable character: itself, or one from 256 on."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(others)}


_BYTES = _byte_alphabet()


# letters of the shortest first piece that may stand for its word, and of the shortest word that has
# a plural
LONG = 3


@dataclass(frozen=True)
class Forms:
    """By which tokens each of some words can show: `forms["candle"]` are their ids.

    Attributes:
        ids: {word: (n,) ids} of the words that can show at all.
        collisions: {token: words} of tokens by which several of the words could show. Such a token
            counts for the word that it spells; else for the one whose plural it is; and for none if
            it is the first piece of several.
        missing: the words that have no token.
    """

    ids: dict[str, np.ndarray]
    collisions: dict[str, tuple[str, ...]]
    missing: tuple[str, ...]

    def __getitem__(self, word: str) -> np.ndarray:
        """(n,) ids; none for a word that cannot show."""
        return self.ids.get(word, np.array([], dtype=int))


def forms(
    vocabulary: np.ndarray,
    words: str | Iterable[str],
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> Forms:
    """The tokens of a vocabulary (what each id looks like) by which words can show; see
    `lens.forms`.

    Args:
        tokenizer: it splits the words that are no token; without one, these have no first piece.
    """
    words = list(dict.fromkeys([words] if isinstance(words, str) else words))
    lower = [token.lower() for token in vocabulary]
    lexicon = set(lower)
    # {token: {word: how near it is to the word: itself 0, plural 1, piece 2}}
    spelled: dict[str, dict[str, int]] = {}
    for word in words:
        for token, distance in _spellings(word.lower(), lexicon, tokenizer).items():
            spelled.setdefault(token, {})[word] = distance
    collisions = {
        token: tuple(near)
        for token, near in spelled.items()
        if len({word.lower() for word in near}) > 1
    }
    counts_for = {}  # {token: words}
    for token, near in spelled.items():
        nearest = [word for word, distance in near.items() if distance == min(near.values())]
        counts_for[token] = nearest if len({word.lower() for word in nearest}) == 1 else []
    ids: dict[str, list[int]] = {}
    for n, token in enumerate(lower):
        for word in counts_for.get(token, ()):
            ids.setdefault(word, []).append(n)
    ids_of_word = {word: np.array(ids[word]) for word in words if word in ids}
    return Forms(ids_of_word, collisions, tuple(word for word in words if word not in ids_of_word))


def _spellings(word, lexicon, tokenizer):
    """{token: 0, 1 or 2}: the word itself and its plurals, where they are tokens; or else the first
    pieces it is split into."""
    tokens = {form: n for form, n in ((_plural(word), 1), (word, 0)) if form in lexicon}
    if word in tokens or tokenizer is None or not word.isalpha():
        return tokens
    for ids in tokenizer([word, " " + word], add_special_tokens=False)["input_ids"]:
        pieces = (tokenizer.decode([n]).strip().lower() for n in ids)
        # the blank before a word may be a token of its own
        piece = next(filter(None, pieces), "")
        if len(piece) >= max(LONG, len(word) / 2) and word.startswith(piece) and piece in lexicon:
            tokens.setdefault(piece, 2)
    return tokens


def _plural(word):
    """The regular English plural; the word itself where it is too short to have one."""
    if len(word) < LONG:
        return word
    if re.search("[^aeiou]y$", word):
        return word[:-1] + "ies"
    return word + ("es" if re.search("(s|x|z|ch|sh)$", word) else "s")
