"""Fonts for words of any script: matplotlib's own where it has the characters, else whatever is
installed.

matplotlib's DejaVu Sans has no Chinese, Japanese or Korean and few emoji, which are a quarter of
some vocabularies.
"""

import logging
import re
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

from matplotlib import font_manager
from matplotlib.font_manager import FontProperties

from ...tokens import numbered

# Fonts that have boxes for all of Unicode, that number mathematical signs their own way, or that
# are matplotlib's own again
NO_WORDS = re.compile(r"\.?Last ?Resort|Adobe Blank|cm[a-z]+10$|STIX(NonUni|Size)|DejaVu")
OWN = "sans-serif"


def drawable(texts: list[str], caller: int = 2) -> list[str]:
    """The texts, with a mark ("‹U+4E2D›") for what no installed font can draw, and then one warning
    for all of them.

    Of several such characters in a row the first is numbered, and dots stand for the rest:
    "‹U+4E2D…›".

    Args:
        caller: how many calls up the line is that the warning names.
    """
    missing = [char for char in set("".join(texts)) if family(char) is None]
    if missing and _new_fonts():
        missing = [char for char in missing if family(char) is None]
    if not missing:
        return list(texts)
    missing = sorted(missing)
    named = ", ".join(
        f"{char if char.isprintable() else '?'} (U+{ord(char):04X})" for char in missing[:3]
    )
    more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
    warnings.warn(
        f"No installed font that matplotlib can draw with has {named}{more}, so that the figure "
        "shows numbers in their place." + _remedy(missing),
        stacklevel=caller + 1,
    )
    run = re.compile("[" + "".join(map(re.escape, missing)) + "]+")
    return [run.sub(lambda found: _mark(found[0]), text) for text in texts]


def families(text: str) -> list[str]:
    """The font families, beside matplotlib's own, that the characters of `text` need."""
    needed = {family(char) for char in text}
    return sorted(name for name in needed if name not in (None, OWN))


def family(char: str) -> str | None:
    """A font family that draws `char`, matplotlib's own if it does, or None where there is none."""
    if char.isascii() or _draws(OWN, char):
        return OWN
    return next((name for name in _others() if _draws(name, char)), None)


_seen: set[str] = set()  # files that matplotlib was offered by us


def _new_fonts():
    """Whether fonts were found that came after matplotlib made its list, perhaps because a warning
    of ours asked for them."""
    listed = {entry.fname for entry in font_manager.fontManager.ttflist}
    found = sorted(set(font_manager.findSystemFonts()) - listed - _seen)
    for path in found:
        _seen.add(path)
        # no font, or of a kind that matplotlib does not read: each has an error of its own
        with suppress(Exception):
            font_manager.fontManager.addfont(path)
    return bool(found)


def _others():
    """All other families that may draw words: those without serifs first."""
    names = {
        entry.name for entry in font_manager.fontManager.ttflist if not NO_WORDS.match(entry.name)
    }
    return sorted(names, key=lambda name: ("Sans" not in name, "Mono" in name, name))


@cache
def _draws(name, char):
    """Whether a family has outlines for a character; those of coloured emoji are pictures, which
    matplotlib cannot draw."""
    try:
        with quiet():
            found = font_manager.findfont(
                FontProperties(family=[name]), fallback_to_default=name == OWN
            )
        font = font_manager.get_font(found)
        if not font.get_char_index(ord(char)):
            return False
        font.set_size(12, 72)
        font.load_char(ord(char))
        return char.isspace() or len(font.get_path()[0]) > 0
    except (RuntimeError, ValueError, OSError):
        return False


@contextmanager
def quiet() -> Iterator[None]:
    """No word of matplotlib's about a family that has no bold, or that is bold only."""
    log = logging.getLogger("matplotlib.font_manager")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def _mark(run):
    first = numbered(run[0])
    return first if len(run) == 1 else first.replace("›", "…›")


def _remedy(chars):
    """A sentence on what to install for these characters, with the names of Debian's packages."""
    wanted = []
    for char in filter(str.isprintable, chars):  # no font has what Unicode assigns to no character
        if 0x1F000 <= ord(char) < 0x20000 or unicodedata.category(char) == "So":
            font = "Symbola or Noto Emoji, not its coloured form (apt install fonts-symbola)"
        elif unicodedata.east_asian_width(char) in "WF":
            font = "Noto Sans CJK (Debian, Ubuntu, Colab: apt install fonts-noto-cjk)"
        else:
            font = "the Noto Sans fonts (apt install fonts-noto-core fonts-noto-extra)"
        wanted += [font] if font not in wanted else []
    return f" Install {' and '.join(wanted)} and draw the figure again." if wanted else ""
