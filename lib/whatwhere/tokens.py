"""Tokens as a reader reads them, and the tokens by which a word can show."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

VISIBLE = {" ": "␣", "\n": "⏎", "\t": "⇥", "\r": "␍", "": "∅"}


def readable(pieces):
    """(vocabulary,) array of strings from a tokenizer's raw pieces.

    The mark of a word's start is dropped ("▁bear", "Ġbear" → "bear"), bytes become the characters they spell
    or, where they are part of one, their hexadecimal value ("‹E4›"), and blanks are made visible ("⏎"). None
    stands for an id that has a row in the unembedding but no token.
    """
    if _is_byte_level(pieces):
        words = [_byte_level(piece) for piece in pieces]
    else:
        words = [_sentencepiece(piece) for piece in pieces]
    return np.array([f"‹{i}›" if word is None else _show(word) for i, word in enumerate(words)], dtype=object)


def _is_byte_level(pieces):
    """By what most words begin with: Llama's SentencePiece has a piece "Ġ" too, a letter of Maltese."""
    blank = [sum(piece is not None and piece.startswith(mark) for piece in pieces) for mark in "Ġ▁"]
    return blank[0] > blank[1]


def _show(word):
    word = word[1:] if word[:1] == " " and word.strip() else word
    return "".join(VISIBLE.get(c, c) for c in word) or VISIBLE[""]


def _sentencepiece(piece):
    if piece is None:
        return None
    byte = re.fullmatch(r"<0x([0-9A-F]{2})>", piece)
    if byte:
        value = int(byte[1], 16)
        return chr(value) if value in (9, 10, 13) or 32 <= value < 127 else f"‹{byte[1]}›"
    return piece.replace("▁", " ")


def _byte_level(piece):
    if piece is None or any(c not in _BYTES for c in piece):  # an added token, kept as it is written
        return piece
    data = bytes(_BYTES[c] for c in piece)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "‹" + data.hex().upper() + "›"


def _byte_alphabet():
    """Byte-level BPE writes each byte as one printable character: itself, or one from 256 on."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(rest)}


_BYTES = _byte_alphabet()


LONG = 3  # letters of the shortest first piece that may stand for its word, and of the shortest word that has a plural


@dataclass(frozen=True)
class Forms:
    """By which tokens each of some words can show: `forms["candle"]` are their ids.

    ids: {word: (n,) ids} of the words that can show at all. collisions: {token: words} of tokens by which several of the words
    could show. Such a token counts for the word that it spells; else for the one whose plural it is; and for none if it is the
    first piece of several. missing: the words that have no token.
    """

    ids: dict[str, np.ndarray]
    collisions: dict[str, tuple[str, ...]]
    missing: tuple[str, ...]

    def __getitem__(self, word: str) -> np.ndarray:
        """(n,) ids; none for a word that cannot show."""
        return self.ids.get(word, np.array([], dtype=int))


def forms(vocabulary: np.ndarray, words: str | Iterable[str], tokenizer=None) -> Forms:
    """The tokens of a vocabulary (what each id looks like) by which words can show; see `lens.forms`.

    tokenizer: it splits the words that are no token; without one, these have no first piece.
    """
    words = list(dict.fromkeys([words] if isinstance(words, str) else words))
    known: dict[str, list[int]] = {}
    for n, token in enumerate(vocabulary):
        known.setdefault(token.lower(), []).append(n)
    spelled: dict[str, dict[str, int]] = {}  # {token: {word: how near it is to the word: itself 0, plural 1, piece 2}}
    for word in words:
        for token, distance in _spellings(word.lower(), known, tokenizer).items():
            spelled.setdefault(token, {})[word] = distance
    collisions = {token: tuple(whose) for token, whose in spelled.items() if len({word.lower() for word in whose}) > 1}
    at: dict[str, list[int]] = {}
    for token, near in spelled.items():
        nearest = [word for word, distance in near.items() if distance == min(near.values())]
        if len({word.lower() for word in nearest}) == 1:
            for word in nearest:
                at.setdefault(word, []).extend(known[token])
    found = {word: np.array(sorted(at[word])) for word in words if word in at}
    return Forms(found, collisions, tuple(word for word in words if word not in found))


def _spellings(word, known, tokenizer):
    """{token: 0, 1 or 2}: the word itself and its plurals, where they are tokens; or else the first pieces it is split into."""
    plurals = [word + "s", word + "es"] + [word[:-1] + "ies"] * word.endswith("y") if len(word) >= LONG else []
    tokens = {each: n for each, n in [(word, 0), *((each, 1) for each in plurals)] if each in known}
    if word in tokens or tokenizer is None or not word.isalpha():
        return tokens
    texts = [mark + each for mark in ("", " ") for each in (word, word.capitalize())]
    for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]:
        pieces = (tokenizer.decode([n]).strip().lower() for n in ids)
        piece = next((each for each in pieces if each), "")  # the blank before a word may be a token of its own
        if len(piece) >= max(LONG, len(word) / 2) and word.startswith(piece) and piece in known:
            tokens.setdefault(piece, 2)
    return tokens
