"""What is known of a benchmark, in one record: how it is read, asked and scored, and what the paper
reports.

    benchmarks.register(Benchmark(
        name="mine", title="what stands where", layout="questions.json, images/",
        read=read, ask="{} Answer in a word.".format, score=scores.accuracy,
    ))
    benchmarks.run(vlm, "mine", data="my-folder")

`records` holds those that come with the package.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from .files import Folder
from .item import Item
from .scores import Score


@dataclass(frozen=True)
class Paper:
    """How *Reading Images Like Texts* asks a benchmark, and what it reports of it.

    Attributes:
        ask: as `Benchmark.ask`, in the paper's words.
        shuffled: are the options of questions by letter shuffled?
        drawn: drawn(items, seed) → those of the items that it asks; None for all.
        figures: {(model, change): accuracy in percent}; a change is None, "scaled" or the name of a
            method of compression.
        unsaid: what the paper does not say of these figures, in words; "" if nothing is missing.
    """

    ask: Callable[..., str]
    shuffled: bool = True
    drawn: Callable[[list[Item], int], list[Item]] | None = None
    figures: Mapping[tuple[str, str | None], float] = field(default_factory=dict)
    unsaid: str = ""


@dataclass(frozen=True)
class Benchmark:
    """One benchmark.

    Attributes:
        name: as `run` takes it, in small letters, digits and hyphens.
        title: what it asks, in a few words.
        score: score(rows) → {name: Score}, with one named "accuracy"; rows is a `Result`'s
            DataFrame. `scores` has some.
        read: read(folder, seed, ask) → its items, from a `Folder` in the original layout or with
            the hub's files. seed orders the options of a question by letter (`items.by_letter`);
            None leaves them in their order.
        draw: draw() → its items, of a benchmark that needs no files; then there is no `read`.
        ask: makes the question that the model is asked; `read` calls it, with whatever it takes.
        hub, patterns, revision: its data set on the hub, the files of it that are needed, and a
            pinned revision. Without a revision, that of a machine's first download counts; without
            a data set, a folder has to be given.
        layout: what a folder in its original layout holds, in words.
        words: how many new tokens an answer may have. As many as in lmms-eval (which leaves
            TextVQA's to the model: 128 for Qwen2-VL, 1,024 for LLaVA; no right answer is as long as
            either).
        parts: the parts (`Item.about["part"]`) whose plain mean is the accuracy. None of them may
            lack questions.
        counted: counted(rows) → one row for each thing that is right or wrong as a whole, where
            that is not each question.
        paper: the paper's way with it; None if it has none.

    Raises:
        ValueError: for a record that could not be run or scored.
    """

    name: str
    title: str
    score: Callable[[pd.DataFrame], dict[str, Score]] | None = None
    read: Callable[[Folder, int | None, Callable[..., str]], list[Item]] | None = None
    draw: Callable[[], list[Item]] | None = None
    ask: Callable[..., str] = str
    hub: str = ""
    patterns: Sequence[str] = ()
    revision: str | None = None
    layout: str = ""
    words: int = 16
    parts: Sequence[str] = ()
    counted: Callable[[pd.DataFrame], pd.DataFrame] | None = None
    paper: Paper | None = None

    def __post_init__(self):
        if not isinstance(self.name, str) or not re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", self.name):
            raise ValueError(
                "A benchmark's name is of small letters, digits and hyphens, such as "
                f"'whatsup-b', not {self.name!r}."
            )
        if not callable(self.score):
            raise ValueError(
                f"The benchmark '{self.name}' has no score, so that its answers would count for "
                "nothing: give score=, a function of its rows, such as `scores.accuracy`."
            )
        if (self.read is None) == (self.draw is None) or not callable(self.read or self.draw):
            raise ValueError(
                f"The benchmark '{self.name}' has its items from files, by read=, or draws "
                "them, by draw=: one of the two."
            )
        if self.hub and not self.patterns:
            raise ValueError(
                f"The benchmark '{self.name}' names no files of the hub's '{self.hub}': give "
                "patterns=."
            )
        if isinstance(self.words, bool) or not isinstance(self.words, int) or self.words < 1:
            raise ValueError(
                f"An answer to '{self.name}' has at most so many new tokens, from 1 up; not "
                f"words={self.words!r}."
            )


BENCHMARKS: dict[str, Benchmark] = {}


def register(record: Benchmark) -> Benchmark:
    """Make a benchmark known by its name, to `run`, `load` and the command line of this process.
    Returns the record.

    Raises:
        ValueError: where a benchmark of that name is known already.
        TypeError: for anything but a `Benchmark`.
    """
    if not isinstance(record, Benchmark):
        raise TypeError(
            f"A benchmark is registered by its record, a benchmarks.Benchmark, not by {record!r}."
        )
    if record.name in BENCHMARKS:
        title = BENCHMARKS[record.name].title
        raise ValueError(
            f"There is a benchmark '{record.name}' already ({title}): choose another name."
        )
    BENCHMARKS[record.name] = record
    return record


def known(name: str) -> Benchmark:
    """The record of that name.

    Raises:
        ValueError: where there is none.
    """
    if not isinstance(name, str) or name not in BENCHMARKS:
        raise ValueError(
            f"There is no benchmark {name!r}; there are {', '.join(BENCHMARKS)}. One of your own "
            "is known once it is registered (benchmarks.register)."
        )
    return BENCHMARKS[name]
