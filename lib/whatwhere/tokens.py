"""Tokens as a reader reads them."""

import re

import numpy as np

VISIBLE = {" ": "␣", "\n": "⏎", "\t": "⇥", "\r": "␍", "": "∅"}


def readable(pieces):
    """(vocabulary,) array of strings from a tokenizer's raw pieces.

    The mark of a word's start is dropped ("▁bear", "Ġbear" → "bear"), bytes become the characters they spell
    or, where they are part of one, their hexadecimal value ("‹E4›"), and blanks are made visible ("⏎"). None
    stands for an id that has a row in the unembedding but no token.
    """
    words = [f"‹{i}›" if word is None else _show(word) for i, word in enumerate(_spelt(pieces))]
    return np.array(words, dtype=object)


def spelt(pieces: list[str | None]) -> np.ndarray:
    """(vocabulary,) array of strings from a tokenizer's raw pieces: what each adds to a text, blanks and all.

    The mark of a word's start is a blank ("▁bear", "Ġbear" → " bear"), bytes are as in `readable`. None becomes "‹id›".
    """
    texts = [f"‹{i}›" if text is None else text for i, text in enumerate(_spelt(pieces))]
    return np.array(texts, dtype=object)


def _spelt(pieces):
    byte_level = any(piece and piece.startswith("Ġ") for piece in pieces)
    return [(_byte_level if byte_level else _sentencepiece)(piece) for piece in pieces]


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
