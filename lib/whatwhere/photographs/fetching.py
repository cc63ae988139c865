"""Pictures and files from the web: one by one, each whole or not at all, and kept."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..files import together
from ..images import fetch


def cache() -> Path:
    """The folder for what is fetched: WHATWHERE_CACHE, or else the user's own."""
    return Path(
        os.environ.get("WHATWHERE_CACHE") or Path.home() / ".cache" / "whatwhere"
    ).expanduser()


def fetched(address: str, name: str, checksum: str | None = None) -> Path:
    """The path of a file from the web, which is fetched if it is not there yet.

    Args:
        name: its path in the cache.
        checksum: its sha256, where one is known.

    Raises:
        ConnectionError: without a network, with what to do.
        ValueError: where the file is not the one with that checksum.
    """
    path = cache() / name
    if not path.is_file():
        data = fetch(address)
        if checksum and hashlib.sha256(data).hexdigest() != checksum:
            raise ValueError(
                f"What lies at '{address}' is not the file that it was: its checksum is another."
            )
        with together(path.parent) as new:
            (new / path.name).write_bytes(data)
    elif checksum and hashlib.sha256(path.read_bytes()).hexdigest() != checksum:
        raise ValueError(f"'{path}' is damaged: its checksum is another. Delete it and call again.")
    return path


def kept(addresses: Mapping[Any, tuple[str, list[str]]], source: str) -> dict[Any, Path]:
    """{key: path} of pictures: those that are not there yet are fetched, and a run that is stopped
    goes on from there.

    Args:
        addresses: {key: (file name, addresses to try in turn)}.
        source: their folder in the cache.
    """
    paths = {key: cache() / source / name for key, (name, _) in addresses.items()}
    missing = [key for key, path in paths.items() if not path.is_file()]
    for key in tqdm(missing, desc=f"{source}, fetching", leave=False, disable=None):
        name, places = addresses[key]
        for place in places:
            try:
                fetched(place, f"{source}/{name}")
                break
            except ConnectionError:
                if place == places[-1]:
                    raise
    return paths
