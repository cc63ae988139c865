"""Asking a model every question of a benchmark, on as many processes as there are, so that being
killed costs nothing.

A run is a folder: `run.json` says what is asked of whom, `rows-0.jsonl`, `rows-1.jsonl`, … hold a
line for every question, as it is answered, one file for each process. Questions go in batches that
are the same whoever answers them, in whatever order: a run that was killed, or is split over
several processes, ends in the very rows of one that was not.
"""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from .. import compress, images
from ..files import parsed, read_json, write
from ..processes import Processes
from . import conditions, identity
from .item import Item, is_row

if TYPE_CHECKING:
    from ..models import VLM

try:
    import fcntl  # not on Windows, where nothing keeps two runs from one file
except ImportError:
    fcntl = None

SETTINGS = "run.json"
# seconds without a new answer from any process, after which the others are taken for dead
PATIENCE = 1800
# how `compress.compressed` does what a run leaves open, by name
WAYS = {name: each.default for name, each in signature(compress.compressed).parameters.items()
        if each.kind == each.KEYWORD_ONLY and name not in ("keep", "seed")}  # fmt: skip


# what a GPU or a CPU says when its memory is full
FULL = (
    "out of memory", "can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED",
)  # fmt: skip


def gathered(folder: str | Path, asked: Sequence[Item]) -> list[dict[str, Any]]:
    """The rows of all questions, whichever process answers them, once they are there; ValueError if
    none comes any more."""
    due, begun = {item.id for item in asked}, time.time()
    while True:
        answered = rows(folder)
        missing = len(due - {row["id"] for row in answered})
        if not missing:
            return answered
        last = max([begun, *(path.stat().st_mtime for path in Path(folder).glob("rows-*.jsonl"))])
        if time.time() - last > PATIENCE:
            raise ValueError(
                f"{missing} questions are not answered, and for {PATIENCE // 60} minutes no answer "
                "has come: another process has died. Run the same command again, on as many "
                "processes as you like: it goes on from here."
            )
        time.sleep(1)


class Runner:
    """Answers a list of items, batch by batch, each of which is kept in a folder as soon as it is
    there.

    Args:
        how: what `compress.compressed` takes besides the model and a seed, by name; None for none.
        plain: what `VLM.answer` takes.
    """

    def __init__(
        self,
        vlm: VLM,
        items: Sequence[Item],
        batch_size: int,
        max_new_tokens: int,
        how: dict[str, Any] | None = None,
        seed: int = 0,
        plain: bool = True,
    ):
        self.vlm, self.how, self.seed = vlm, how, seed
        self.max_new_tokens, self.plain = max_new_tokens, plain
        self.pictures = {}  # their names, once each
        self.batches = [items[i : i + batch_size] for i in range(0, len(items), batch_size)]
        self.at_once = batch_size  # fewer, once the memory has turned out too small

    def run(
        self, folder: str | Path | None, mine: Processes, progress: bool = True
    ) -> list[dict[str, Any]]:
        """Answer what is not answered yet of this process's share of the batches; returns the rows
        where there is no folder."""
        done = {row["id"]: row for row in rows(folder)} if folder else {}
        share = list(enumerate(self.batches))[mine.rank :: mine.count]
        self._same_pictures([item for _, batch in share for item in batch if item.id in done], done)
        open_ = [(n, batch) for n, batch in share if any(item.id not in done for item in batch)]
        n_done = sum(len(batch) for _, batch in share) - sum(len(batch) for _, batch in open_)
        # not False: TQDM_DISABLE may say so for all
        quiet: dict[str, Any] = {} if progress and mine.rank == 0 else {"disable": True}
        bar = tqdm(total=sum(len(b) for _, b in share), initial=n_done, unit="question", **quiet)
        added = []
        with bar, _appending(folder, mine.rank) if folder else nullcontext(added.extend) as keep:
            for n, batch in open_:
                answered = self._answered(n, batch)
                keep([row for row in answered if row["id"] not in done])
                bar.update(len(batch))
        return added

    def _answered(self, n, batch):
        """The rows of one batch, in as many parts as fit into memory."""
        answered, i = [], 0
        while i < len(batch):
            part = batch[i : i + self.at_once]
            try:
                answered += self._ask(n, part)
                i += len(part)
                continue
            except Exception as error:
                if not out_of_memory(error):
                    raise
            # only here, with the error gone, are the tensors of the failed attempt free
            if len(part) == 1:
                raise MemoryError(
                    f"The memory of {self.vlm.device} is too small for even one question "
                    f"('{part[0].id}'). What was answered is kept. Take a smaller model, "
                    "dtype='float16' or '4-bit', or a smaller picture."
                )
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self.at_once = len(part) // 2
            warnings.warn(
                f"Out of memory with {len(part)} questions at once: going on with {self.at_once}.",
                stacklevel=2,
            )
        return answered

    def try_first(self) -> None:
        """Raises `NotFinite` if the model gives no numbers for the first question: in too small a
        dtype they overflow.

        Raises:
            NotFinite: if the model gives no numbers for the first question: in too small a dtype
                they overflow.
        """
        item = self.batches[0][0]
        try:
            with _naming_pictures([item]):
                self.vlm.logits(item.image, item.question)
        # all logits of a prompt take more room than its answer, so that this need not be an end
        except Exception as error:
            if not out_of_memory(error):
                raise

    def shortened(self, n: int) -> AbstractContextManager[Any]:
        """The context in which batch `n` is asked, with a seed of its own: its rows do not depend
        on what came before."""
        if self.how is None:
            return nullcontext()
        return compress.compressed(self.vlm, **self.how, seed=1_000_003 * self.seed + n)

    def _ask(self, n, part):
        with _naming_pictures(part), self.shortened(n) as log:
            pairs = [i.image for i in part], [i.question for i in part]
            answers = self.vlm.answer(*pairs, self.max_new_tokens, len(part), self.plain)
            rows = [
                item.row(answer) | {"picture": self._picture(item.image)}
                for item, answer in zip(part, answers)
            ]
        if log:
            for row, kept, given in zip(rows, log.kept, log.given):
                row |= {"kept": int(kept), "given": int(given)}
        return rows

    def _picture(self, image):
        key = image if isinstance(image, (str, Path)) else id(image)
        if key not in self.pictures:
            self.pictures[key] = identity.picture(image)
        return self.pictures[key]

    def _same_pictures(self, items, done):
        """Refuse to go on where a picture that was asked about is another one now; what is not
        answered yet may change."""
        for item in items:
            with _naming_pictures([item]):
                if done[item.id].get("picture", "") not in ("", self._picture(item.image)):
                    raise ValueError(
                        f"The picture of question '{item.id}' is not the one that was answered "
                        "about before: answers to two sets of pictures are not mixed. Name another "
                        "folder, or put the old pictures back."
                    )


@contextmanager
def _naming_pictures(items):
    """If a picture of theirs cannot be read, the error says of which question."""
    try:
        yield
    except (ValueError, OSError):
        for item in items:
            try:
                images.read(item.image)
            except (ValueError, OSError) as error:
                raise ValueError(
                    f"The picture of question '{item.id}' cannot be used: {error}"
                ) from None
        raise


def out_of_memory(error: BaseException) -> bool:
    """Is this how a GPU or a CPU says that its memory is full?"""
    full = isinstance(error, RuntimeError) and any(words in str(error) for words in FULL)
    return full or isinstance(error, (torch.OutOfMemoryError, MemoryError))


# -- the folder
# --------------------------------------------------------------------------------------------------


def begin(folder: str | Path, settings: dict[str, Any]) -> Path:
    """Make the folder of a run, or enter that of one of the same identity; ValueError if of
    another."""
    folder = Path(folder).expanduser()
    path = folder / SETTINGS
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # looked for first: another process of this run may be beginning as well
        begun = any(folder.glob("rows-*.jsonl"))
        if not path.exists():
            if begun:
                raise ValueError(
                    f"'{folder}' holds rows, but no {SETTINGS} that says what they are; name "
                    "another folder."
                )
            write(path, json.dumps(settings, indent=2, ensure_ascii=False) + "\n")
            return folder
    except OSError as error:
        raise OSError(
            f"'{folder}' cannot be a folder for answers ({error.strerror}); name another."
        ) from None
    refusal = identity.refusal(read_settings(folder), settings)
    if refusal:
        raise ValueError(f"'{folder}' holds {refusal}")
    return folder


def read_settings(folder: str | Path) -> dict[str, Any]:
    """What a run's folder says was asked of whom."""
    path = Path(folder) / SETTINGS
    if not path.is_file():
        raise FileNotFoundError(f"'{folder}' holds no run: a {SETTINGS} is missing.")
    try:
        settings = read_json(path)
    except ValueError as error:
        raise ValueError(f"{str(error).rstrip('.')}; delete the folder and run again.") from None
    if not _are_settings(settings):
        raise ValueError(f"'{path}' holds no settings; delete the folder and run again.")
    return settings


def _are_settings(value):
    """Are these the settings of a run, as far as they are looked at again?"""
    needed = {"benchmark", "model", "questions", "scale", "compress"}
    if not isinstance(value, dict) or not needed <= set(value):
        return False
    scale, compressed, hooks = value["scale"], value["compress"], value.get("hooks", [])
    if scale is not None:
        if not isinstance(scale, dict):
            return False
        if not {type(scale.get(name)) for name in ("alpha", *scale)} <= {int, float}:
            return False
    if compressed is not None:
        if not isinstance(compressed, dict) or not isinstance(compressed.get("method"), (int, str)):
            return False
    return (
        isinstance(value["benchmark"], str)
        and isinstance(value["model"], str)
        and type(value["questions"]) is int
        and isinstance(value.get("blind", False), bool)
        and value.get("protocol", "ours") in ("ours", "paper")
        and conditions.are_settings(value)
        and isinstance(value.get("decoding", {}), dict)
        and all(_texts(value.get(name, {})) for name in ("versions", "frequencies"))
        and isinstance(hooks, list)
        and all(isinstance(hook, str) for hook in hooks)
    )


def _texts(value):
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


def rows(folder: str | Path) -> list[dict[str, Any]]:
    """All whole rows in the folder, of all processes; one row for each question, whoever answered
    it."""
    by_id = {}
    for path in sorted(Path(folder).glob("rows-*.jsonl")):
        for row in _whole(path)[0]:
            by_id.setdefault(row["id"], row)
    return list(by_id.values())


def _whole(path):
    """(rows, bytes): the whole lines of a file, and where they end. A kill may have cut the last
    one short."""
    whole, end = [], 0
    data = path.read_bytes()
    for line in data.splitlines(keepends=True):
        try:
            row = parsed(line.decode(), "a line") if line.endswith(b"\n") else None
        except ValueError:
            row = None
        if not is_row(row):
            if end + len(line) < len(data):
                raise ValueError(
                    f"'{path}' is damaged after {len(whole)} rows, not at its end; delete it, "
                    "or name another."
                )
            break
        whole.append(row)
        end += len(line)
    return whole, end


@contextmanager
def _appending(folder, rank):
    """A function that writes rows to this process's file, for good; no two processes may hold one
    file."""
    path = Path(folder) / f"rows-{rank}.jsonl"
    try:
        # with a buffer, closing it would try once more what a full disk refused
        file = path.open("ab", buffering=0)
    except OSError as error:
        raise OSError(
            f"'{path}' cannot be written to ({error.strerror}); name another folder."
        ) from None
    with file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ValueError(
                    f"'{path}' is being written by another run; wait for its end, or name "
                    "another folder."
                ) from None
        file.truncate(_whole(path)[1])

        def keep(rows):
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
            try:
                while lines:
                    lines = lines[file.write(lines) :]
                os.fsync(file.fileno())
            except OSError as error:
                raise OSError(
                    f"'{path}' could not be written ({error.strerror}). The rows before these "
                    "are safe: make room and call again."
                ) from None

        yield keep
