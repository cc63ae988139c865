"""A folder of a benchmark's files, and what can be wrong with them, in sentences that name the file."""

import base64
import binascii
import json
from pathlib import Path

import pandas as pd


class Folder:
    """A folder of a benchmark's files, with a sentence for whatever is wrong with them."""

    def __init__(self, path, benchmark):
        self.path, self.benchmark = Path(path).expanduser(), benchmark
        if not self.path.is_dir():
            raise FileNotFoundError(f"There is no folder '{self.path}' for {benchmark} (looked from {Path.cwd()}).")

    def find(self, pattern):
        return sorted(self.path.rglob(pattern))

    def only(self, pattern):
        """The path of the one file of that name."""
        found = self.find(pattern)
        if len(found) > 1:
            raise ValueError(f"'{self.path}' holds {len(found)} files {pattern}, such as '{found[0]}'; give the folder of one.")
        if not found:
            raise FileNotFoundError(
                f"'{self.path}' holds no {pattern}, which {self.benchmark} needs; give the folder that holds it in its original "
                "layout, or none, and it is fetched from the hub."
            )
        return found[0]

    def text(self, path):
        try:
            return path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise ValueError(f"'{path}' is not UTF-8 text, so it is no file of {self.benchmark}.") from None

    def json(self, name, kind):
        path = self.only(name)
        try:
            value = json.loads(self.text(path))
        except json.JSONDecodeError as error:
            raise ValueError(f"'{path}' is damaged or cut short: {error}.") from None
        if not isinstance(value, kind):
            raise ValueError(f"'{path}' holds a {type(value).__name__} where {self.benchmark} has a {kind.__name__}.")
        return value

    def lines(self, name):
        """[(place, dictionary)] of a file of JSON lines."""
        path, rows = self.only(name), []
        for n, line in enumerate(self.text(path).split("\n"), 1):
            if line.strip():
                try:
                    rows.append((f"'{path}', line {n}", json.loads(line)))
                except json.JSONDecodeError as error:
                    raise ValueError(f"'{path}', line {n}, is damaged: {error}.") from None
        return rows

    def parquet(self, paths, columns):
        """[(place, dictionary)] of parquet files, of these columns."""
        rows = []
        for path in paths:
            try:
                table = pd.read_parquet(path)
            except ImportError:
                raise ImportError("The hub's files are parquet, which pandas reads with pyarrow: pip install pyarrow.") from None
            except Exception as error:  # pyarrow has many, for files cut short or of another kind
                raise ValueError(f"'{path}' is no parquet file that can be read ({str(error).splitlines()[0]}).") from None
            lacking = [name for name in columns if name not in table]
            if lacking:
                raise ValueError(
                    f"'{path}' has no column '{lacking[0]}', which {self.benchmark} needs; it has {', '.join(map(str, table))}."
                )
            rows += [(f"'{path}', row {n}", row) for n, row in enumerate(table.to_dict("records"))]
        return rows

    def picture(self, *names):
        """The path of a picture, by the first of these names that is there; else the first, and `check_pictures` will say so."""
        for name in names:
            if (self.path / name).is_file():
                return self.path / name
        return self.path / names[0]


def check_pictures(items, benchmark):
    """Refuse a benchmark some of whose pictures are missing, before a model is asked anything."""
    lacking = {item.image for item in items if isinstance(item.image, Path) and not item.image.is_file()}
    if lacking:
        raise FileNotFoundError(
            f"{len(lacking)} of the pictures of {benchmark} are missing, '{min(lacking)}' for one; nothing was asked. "
            "Unpack its images beside its questions."
        )
    return items


def field(row, name, kind, at):
    """A row's field, if it has one of that kind; at: where the row stands."""
    if not isinstance(row, dict) or name not in row:
        raise ValueError(f"{at} has no '{name}'; it has {', '.join(map(str, row)) if isinstance(row, dict) else repr(row)[:80]}.")
    if kind is not None and not isinstance(row[name], kind):
        raise ValueError(f"{at}: '{name}' is {str(row[name])[:80]!r}, which is not what it should be.")
    return row[name]


def from_column(image, at):
    """The bytes of the picture in a hub's column: {"bytes", "path"}, or a list of one."""
    if not isinstance(image, dict) and hasattr(image, "__len__") and len(image) == 1:
        image = image[0]
    data = image.get("bytes") if isinstance(image, dict) else None
    if not isinstance(data, bytes) or not data:
        raise ValueError(f"{at} holds no picture: its column has {str(image)[:60]!r} where the bytes of one should be.")
    return data


def from_base64(text, at):
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if not data:
        raise ValueError(f"{at} holds no picture: base64 was expected, and it has {text[:40]!r}.")
    return data


def empty(value):
    return value is None or value != value or str(value).strip() in ("", "nan")
