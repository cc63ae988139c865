"""A folder of a benchmark's files, and what can be wrong with them, in sentences that name the
file."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..files import first_line, parsed

if TYPE_CHECKING:
    from .item import Item


class Folder:
    """A folder of a benchmark's files, with a sentence for whatever is wrong with them.

    at_hub: could they be fetched from the hub instead?
    """

    def __init__(self, path: str | Path, benchmark: str, at_hub: bool = True):
        self.path, self.benchmark, self.at_hub = Path(path), benchmark, at_hub
        try:
            self.path = self.path.expanduser()
            exists = self.path.is_dir()
        except (OSError, RuntimeError):  # a name too long for a folder, the home of nobody
            exists = False
        if not exists:
            raise FileNotFoundError(
                f"There is no folder '{self.path}' for {benchmark} (looked from {Path.cwd()})."
            )

    def find(self, pattern: str) -> list[Path]:
        """The paths of all files whose name matches, in order."""
        return sorted(self.path.rglob(pattern))

    def only(self, pattern: str) -> Path:
        """The path of the one file of that name."""
        paths = self.find(pattern)
        if len(paths) > 1:
            raise ValueError(
                f"'{self.path}' holds {len(paths)} files {pattern}, such as '{paths[0]}'; give "
                "the folder of one."
            )
        if not paths:
            instead = ", or none, and it is fetched from the hub" if self.at_hub else ""
            raise FileNotFoundError(
                f"'{self.path}' holds no {pattern}, which {self.benchmark} needs; give the folder "
                f"that holds it in its original layout{instead}."
            )
        return paths[0]

    def text(self, path: Path) -> str:
        """The text in a file."""
        try:
            return path.read_text(encoding="utf-8-sig")  # some editors begin a file with a mark
        except UnicodeDecodeError:
            raise ValueError(
                f"'{path}' is not UTF-8 text, so it is no file of {self.benchmark}."
            ) from None
        except OSError as error:
            raise ValueError(f"'{path}' cannot be read ({error.strerror}).") from None

    def json(self, name: str, kind: type) -> Any:
        """The value of a file of JSON, which is of this kind."""
        path = self.only(name)
        value = parsed(self.text(path), f"'{path}'")
        if not isinstance(value, kind):
            raise ValueError(
                f"'{path}' holds a {type(value).__name__} where {self.benchmark} has a "
                f"{kind.__name__}."
            )
        return value

    def lines(self, name: str) -> list[tuple[str, dict[str, Any]]]:
        """[(place, dictionary)] of a file of JSON lines."""
        path = self.only(name)
        places = (
            (f"'{path}', line {n}", line)
            for n, line in enumerate(self.text(path).split("\n"), 1)
            if line.strip()
        )
        return [(at, parsed(line, at)) for at, line in places]

    def parquet(
        self, paths: Iterable[Path], columns: Sequence[str]
    ) -> list[tuple[str, dict[str, Any]]]:
        """[(place, dictionary)] of parquet files, of these columns."""
        rows = []
        for path in paths:
            try:
                table = pd.read_parquet(path)
                records = table.to_dict("records")  # texts are decoded only here
            except ImportError:
                raise ImportError(
                    "The hub's files are parquet, which pandas reads with pyarrow: pip install "
                    "pyarrow."
                ) from None
            except Exception as error:  # pyarrow has many, for files cut short or of another kind
                raise ValueError(
                    f"'{path}' is no parquet file that can be read ({first_line(error)})."
                ) from None
            lacking = [name for name in columns if name not in table]
            if lacking:
                raise ValueError(
                    f"'{path}' has no column '{lacking[0]}', which {self.benchmark} needs; it "
                    f"has {', '.join(map(str, table))}."
                )
            rows += [(f"'{path}', row {n}", row) for n, row in enumerate(records)]
        return rows

    def picture(self, *names: str) -> Path:
        """The path of a picture, by the first of these names that is there; else the first, and
        `check_pictures` will say so."""
        for name in names:
            if Path(name).is_absolute() or ".." in Path(name).parts:
                raise ValueError(
                    f"{self.benchmark} names a picture {str(name)[:200]!r}, which does not lie "
                    f"in '{self.path}'."
                )
        paths = [self.path / name for name in names]
        return next((path for path in paths if _is_file(path)), paths[0])


def check_pictures(items: list[Item], benchmark: str) -> list[Item]:
    """Refuse a benchmark some of whose pictures are missing, before a model is asked anything."""
    lacking = {
        item.image for item in items if isinstance(item.image, Path) and not _is_file(item.image)
    }
    if lacking:
        raise FileNotFoundError(
            f"{len(lacking)} of the pictures of {benchmark} are missing, '{min(lacking)}' for one; "
            "nothing was asked. Unpack its images beside its questions."
        )
    return items


def _is_file(path):
    try:
        return path.is_file()
    except OSError:  # a name too long for a file
        return False


def field(row: Any, name: str, kind: Any, at: str) -> Any:
    """A row's field, if it has one of that kind (no truth value passes for a number).

    Args:
        at: where the row stands.
    """
    if not isinstance(row, dict) or name not in row:
        raise ValueError(
            f"{at} has no '{name}'; it has "
            f"{', '.join(map(str, row)) if isinstance(row, dict) else repr(row)[:80]}."
        )
    if kind is not None and (not isinstance(row[name], kind) or isinstance(row[name], bool)):
        raise ValueError(
            f"{at}: '{name}' is {str(row[name])[:80]!r}, which is not what it should be."
        )
    return row[name]


def from_column(image: Any, at: str) -> bytes:
    """The bytes of the picture in a hub's column: {"bytes", "path"}, or a list of one."""
    if not isinstance(image, dict) and hasattr(image, "__len__") and len(image) == 1:
        image = image[0]
    data = image.get("bytes") if isinstance(image, dict) else None
    if not isinstance(data, bytes) or not data:
        raise ValueError(
            f"{at} holds no picture: its column has {str(image)[:60]!r} where the bytes of one "
            "should be."
        )
    return data


def from_base64(text: str, at: str) -> bytes:
    """The bytes of a picture that stands in a table as text."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if not data:
        raise ValueError(f"{at} holds no picture: base64 was expected, and it has {text[:40]!r}.")
    return data


def empty(value: Any) -> bool:
    """Is a table's cell empty, in any of the ways that readers of tables have for it?"""
    return value is None or value != value or str(value).strip() in ("", "nan")
