"""Files: written all or nothing; and JSON, with a sentence for whatever is wrong with it."""

import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

LONGEST = 300  # characters of another's error in a sentence

try:
    import fcntl  # not on Windows, where nothing keeps two processes from one file
except ImportError:
    fcntl = None


def write(path: str | Path, text: str) -> None:
    """Write `text` to `path` so that a reader, or a crash, never meets half of it.

    Raises:
        OSError: with a sentence.
    """
    path, name = Path(path), None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=".tmp")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException as error:
        if name:
            os.unlink(name)
        if not isinstance(error, OSError):
            raise
        explained = type(error)(
            f"'{path}' could not be written ({error.strerror or error}); what was there before "
            "is as it was."
        )
        explained.strerror = error.strerror
        raise explained from error


@contextmanager
def together(folder: str | Path) -> Iterator[Path]:
    """A folder for several new files, which take their places in `folder` once all of them are
    written: else all stays there.

    Raises:
        OSError: with a sentence where the disk refuses.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".") as new:
            yield Path(new)
            for path in Path(new).iterdir():
                os.replace(path, folder / path.name)
    except Exception as error:
        # which is how safetensors tells of one
        if not isinstance(error, OSError) and "os error" not in str(error):
            raise
        raise OSError(
            f"'{folder}' could not be written ({first_line(error)}); what it held before is as "
            "it was."
        ) from error


@contextmanager
def alone(folder: str | Path) -> Iterator[None]:
    """Where two processes read a file, change it and write it, one waits here until the other has
    done so."""
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some file systems have no locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def read_text(path: str | Path) -> str:
    """The text in a file, without the mark that Windows' editors begin it with.

    Raises:
        ValueError: with a sentence.
    """
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"'{path}' is damaged: it holds no UTF-8 text.") from error
    except OSError as error:
        raise ValueError(f"'{path}' cannot be read ({error.strerror}).") from error


def read_json(path: str | Path) -> Any:
    """The value in a file of JSON.

    Raises:
        ValueError: with a sentence that names the file.
    """
    return parsed(read_text(path), f"'{path}'")


def parsed(text: str, name: str) -> Any:
    """The value of a text of JSON.

    Args:
        name: where it stands.

    Raises:
        ValueError: with a sentence.
    """
    try:
        value = json.loads(text)
        # half a character: nobody could print it, or write it to a file
        if re.search(r"\\u[dD]", text):
            json.dumps(value, ensure_ascii=False).encode()
        return value
    # no JSON, numbers of thousands of digits, thousands of lists in each other
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} is damaged or cut short: {first_line(error)}.") from cause(error)


def first_line(error: BaseException) -> str:
    """What an error says, in a line of bearable length; its kind if it says nothing."""
    line = (_discreet(str(error)).strip().splitlines() or [type(error).__name__])[0]
    return line if len(line) <= LONGEST else f"{line[:LONGEST]} …"


def cause(error: BaseException) -> BaseException:
    """The error, to be chained to the sentence that tells of it; in short, where its text is
    endless or holds a secret."""
    chain, link = [], error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    if all(len(str(link)) <= 10 * LONGEST and _discreet(str(link)) == str(link) for link in chain):
        return error
    return RuntimeError(f"{type(error).__name__}: {first_line(error)}").with_traceback(
        error.__traceback__
    )


def _discreet(text):
    """A text without the hub's tokens and the signatures in its addresses."""
    return re.sub(r"\bhf_\w{8,}", "hf_…", re.sub(r"(https?://[^\s?]+)\?[^\s'\"]+", r"\1?…", text))
