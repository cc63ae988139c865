"""The Hugging Face hub: what can go wrong there, in a sentence; and data sets at a pinned revision,
with checksums."""

import errno
import hashlib
import json
import os
import re
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import HfApi, constants, hf_hub_download
from huggingface_hub import errors as hub
from transformers.utils import cached_file

from .files import alone, cause, first_line, read_json, write

FULL = (errno.ENOSPC, errno.EDQUOT)


def reason(error: BaseException, name: str) -> str:
    """Why `name` could not be had, as a sentence: what the hub or the disk said, or else the
    error's first line."""
    return refusal(error, name) or first_line(error).rstrip(".") + "."


def refusal(error: BaseException, name: str) -> str | None:
    """What the hub or the disk said against `name`, as a sentence: the most telling error in this
    one's chain; else None."""
    chain = list(_chain(error))

    def found(*kinds):
        return next((each for each in chain if isinstance(each, kinds)), None)

    if found(hub.GatedRepoError):
        return (
            f"'{name}' is gated: accept its terms on huggingface.co, then log in here (`hf "
            "auth login`, or HF_TOKEN)."
        )
    if found(hub.RevisionNotFoundError):
        return (
            f"The hub no longer has that revision of '{name}', or never had it: name one "
            "that its page lists."
        )
    if found(hub.RepositoryNotFoundError):
        return (
            f"The hub has no '{name}', or shows it only to those who may see it (`hf auth login`)."
        )
    if any(
        getattr(each, "errno", None) in FULL or "No space left on device" in str(each)
        for each in chain
    ):
        return (
            f"The disk is full, so '{name}' was not downloaded to its end. What arrived is kept "
            f"and will be gone on with: make room in {constants.HF_HUB_CACHE}, or name another "
            "folder by HF_HOME, and call again."
        )
    refused = found(hub.HfHubHTTPError)
    if refused and not isinstance(refused, hub.EntryNotFoundError):
        return (
            f"The hub answered with an error when it was asked for '{name}': "
            f"{first_line(refused).rstrip('.')}. Try later."
        )
    # the hub's own HTTPError, since its releases are built on different libraries: httpx before 2,
    # httpx2 from then on
    if (
        found(hub.LocalEntryNotFoundError, ConnectionError, TimeoutError, hub.HTTPError)
        and not refused
    ):
        return (
            f"'{name}' is not on this machine, and the hub could not be reached: no network, "
            "or it is switched off."
        )
    return None


def part_of(source: str, name: str, file: str, revision: str | None = None) -> str | None:
    """The path of one file of a checkpoint, a folder or a hub id; None where it has no such file.

    Raises:
        FileNotFoundError: with a sentence where that could not be found out.
    """
    try:
        return cached_file(
            source, file, revision=revision, _raise_exceptions_for_missing_entries=False
        )
    except OSError as error:
        raise FileNotFoundError(
            f"'{file}' of '{name}' is not to be had. {reason(error, name)}"
        ) from cause(error)


def _chain(error):
    """The error, and those that it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def dataset(name: str, patterns: Sequence[str], revision: str | None = None) -> tuple[Path, str]:
    """The folder of a hub data set at one pinned revision, with the files that match `patterns`;
    downloaded once, with progress.

    The revision is the one asked for, else that of the first download on this machine. Every file's
    checksum is compared with the one noted at its first download, which is the hub's own; a file
    that differs is refused.

    Returns:
        (folder, revision).

    Raises:
        ConnectionError or ValueError: with a sentence.
    """
    noted = _noted().get(name, {"files": {}})
    revision = revision or noted.get("revision")
    try:
        # none, or a branch, which may be another tomorrow
        if not re.fullmatch("[0-9a-f]{40}", revision or ""):
            revision = HfApi().dataset_info(name, revision=revision).sha or ""
        revision = str(revision)
        sums = noted["files"].get(revision)
        if sums is None:  # of all its files, so that those of other patterns can be had later
            infos = HfApi().list_repo_tree(
                name, recursive=True, repo_type="dataset", revision=revision
            )
            # a folder has none
            sums = {info.path: _sum(info) for info in infos if hasattr(info, "blob_id")}
        wanted = [path for path in sums if any(fnmatch(path, pattern) for pattern in patterns)]
        if not wanted:
            raise ValueError(
                f"The data set '{name}' has no files like {patterns[0]} at revision {revision}."
            )
        got = [
            Path(hf_hub_download(name, path, repo_type="dataset", revision=revision))
            for path in wanted
        ]
        for path, file in zip(wanted, got):
            if not _same(file, sums[path]):
                raise ValueError(
                    f"The file {path} of '{name}' is not the one that revision {revision[:12]} "
                    f"has: it was damaged on its way or changed since. Delete '{file.resolve()}' "
                    "and call again."
                )
        _note(name, revision, sums)
    # RuntimeError is how the hub's own downloader says that it failed
    except (hub.HTTPError, OSError, RuntimeError) as error:
        raise ConnectionError(reason(error, name)) from cause(error)
    root = got[0]
    for _ in Path(wanted[0]).parts:
        root = root.parent
    return root, revision


def _noted():
    return _read(_own()) if _own().is_file() else {}


def _note(name, revision, sums):
    """Add what was downloaded to what this machine has noted so far, also by another process
    meanwhile."""
    _own().parent.mkdir(parents=True, exist_ok=True)
    with alone(_own().parent):
        pins = _noted()
        before = pins.get(name, {"revision": revision, "files": {}})
        noted = {"revision": before["revision"], "files": before["files"] | {revision: sums}}
        write(_own(), json.dumps(pins | {name: noted}, indent=2))


def _own():
    """Where this machine notes what it downloaded first."""
    return Path(os.environ.get("WHATWHERE_PINS") or Path(constants.HF_HOME) / "whatwhere-pins.json")


def _sum(info):
    """The hub's own checksum of a file: sha256 of a large one, git's of a small one."""
    return f"sha256:{info.lfs.sha256}" if info.lfs else f"git:{info.blob_id}"


def _same(file, due):
    kind, _, value = due.partition(":")
    found = (
        hashlib.sha256()
        if kind == "sha256"
        else hashlib.sha1(f"blob {file.stat().st_size}\0".encode())
    )
    with file.open("rb") as opened:
        while block := opened.read(2**20):
            found.update(block)
    return found.hexdigest() == value


def _read(path):
    """{data set: {"revision": the first one had, "files": {revision: {path: checksum}}}}"""
    try:
        pins = read_json(path)
        sums = [
            each
            for noted in pins.values()
            for sums in noted["files"].values()
            for each in sums.values()
        ]
        if all(
            isinstance(each, str)
            for each in [*sums, *(noted["revision"] for noted in pins.values())]
        ):
            return pins
    except (ValueError, AttributeError, KeyError, TypeError):
        pass
    raise ValueError(f"'{path}', which notes what was downloaded first, is damaged: delete it.")
