"""The paper's own protocol, and its figures: how *Reading Images Like Texts* (arXiv 2509.19191)
asks, reads, draws and bounds.

    benchmarks.run("Qwen/Qwen2-VL-2B-Instruct", "whatsup-b", protocol="paper", scale=(99, 8))

Written from what its public code does (`Siriuslala/vlm_interp`, commit 1b502c6); the text of the
paper says nothing of this. It is here to be compared with, and is not how we would ask: see
`prompts` and `scoring`.

| what | the paper's |
|---|---|
| prompts | indented, empty lines between options; another last line for LLaVA (`asked_of`) |
| COCO-spatial | the right caption is always option A: a row of the table shows what that earns |
| reading | what was said is the right answer, to the letter, or it is wrong (`read`) |
| samples | GQA: 1,000 questions; TextVQA: the last one about each picture; MMBench: no hint |
| pictures | of Qwen's families, 256 to 1,280 visual tokens (`bounded`) |
| decoding | greedy, with the checkpoint's own generation_config; ten tokens at most |

What cannot be repeated: which 1,000 questions and which order of options were drawn (there is no
seed), and how the figures for one object and for two became one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from .. import images
from . import conditions, identity
from .item import Item
from .record import known

if TYPE_CHECKING:
    from ..models import VLM

WORDS = 10  # new tokens of an answer
TOKENS = (256, 1280)  # least and most visual tokens of a picture
LETTERS = "ABCDEFGHIJ"
PLAIN = False  # what `VLM.answer` is told

# -- prompts
# --------------------------------------------------------------------------------------------------

IN_A_WORD = "Please answer with a single word in lowercase."
YES_OR_NO = "Please answer with either 'yes' or 'no'. Your answer is:"
# as it is spelt there
WHICH_CAPTION = "Please choose the best decription for the image from the following {} options:"
OF_LLAVA = (
    "Please select the correct option and return only the letter of the option.\nYour choice is:"
)


def pope(question: str) -> str:
    """POPE's question, to be answered yes or no."""
    return f"{question}\n\n{YES_OR_NO}"


def in_a_word(question: str) -> str:
    """GQA's and TextVQA's."""
    return question + IN_A_WORD


def captions(options: list[str]) -> str:
    """Which of these captions is right, as the paper's code writes it."""
    listed = _listed(dict(zip(LETTERS, options)))
    return _indented([WHICH_CAPTION.format(len(options)), *listed], len(options), 12)


def mmbench(question: str, options: dict[str, str], hint: str = "") -> str:
    """MMBench's question without its hint.

    Args:
        options: {letter: text}.
    """
    return _indented([question, *_listed(options)], len(options), 20)


def _listed(options):
    return [f"{letter}: {text}" for letter, text in options.items()]


def _indented(lines, options, by):
    margin = "\n" + " " * by
    return margin + f"\n{margin}".join([*lines, _by_letter(options)]) + margin


def _by_letter(options):
    *others, last = LETTERS[:options]
    return f"Please answer with {', '.join(others)} or {last}.\nYour answer is:"


def asked_of(family: str, items: list[Item]) -> list[Item]:
    """The items as a family of models is asked: by letter, LLaVA is told otherwise what to
    answer."""
    if family != "llava":
        return items
    return [
        replace(item, question=item.question.replace(_by_letter(len(item.options)), OF_LLAVA))
        if item.options
        else item
        for item in items
    ]


# -- samples, pictures
# -----------------------------------------------------------------------------------------------


def some(n: int, items: list[Item], seed: int) -> list[Item]:
    """So many of the items, in their order, drawn by the seed; all if there are no more."""
    if len(items) <= n:
        return items
    kept = set(random.Random(f"paper/{seed}").sample(range(len(items)), n))
    return [item for i, item in enumerate(items) if i in kept]


def last_of_each_group(items: list[Item], seed: int) -> list[Item]:
    """Of TextVQA, the last question about each picture."""
    return list({item.group: item for item in items}.values())


def first_of_each_group(items: list[Item], seed: int) -> list[Item]:
    """Of MMBench, whose questions come with their options in several orders, the first order."""
    return [item for item in items if item.id == item.group]


@contextmanager
def bounded(vlm: VLM) -> Iterator[None]:
    """Within this context the pictures of Qwen's families become 256 to 1,280 visual tokens;
    afterwards all is as it was."""
    # it shows all pictures at one size
    if vlm.max_pixels is None or vlm.adapter.token_area is None:
        yield
        return
    least, most = (tokens * vlm.adapter.token_area for tokens in TOKENS)
    with images.bounded(vlm, min_pixels=least, max_pixels=most):
        yield


# -- reading
# --------------------------------------------------------------------------------------------------


def reader(family: str | None) -> Callable[[dict], tuple[str | None, float]]:
    """What reads a row, as `items.read` does, of a model of this family: (parsed, right in [0,
    1])."""
    return lambda row: read(row, family)


def read(row: dict, family: str | None = None) -> tuple[str | None, float]:
    """(parsed, right) of a row: right is what was said if it is what was to be said, to the letter.

    LLaVA's words are made lower case first; of LLaVA's and InternVL's letters "A: …" is read as
    "A". (Outer blanks are gone before, which in the public code they are not.)
    """
    answer, gold = row["answer"], row["gold"]
    if row["options"]:
        if family in ("llava", "internvl") and len(answer) > 1:
            answer = answer[0] if answer[1] == ":" or not answer[1:].strip(" ") else ""
        return (answer if answer in row["options"] else None), float(answer == gold)
    answer = answer.lower() if family == "llava" else answer
    if row["kind"] == "soft":
        return answer or None, min(1.0, gold.count(answer) / 3)
    parsed = answer if row["kind"] != "yes/no" or answer in ("yes", "no") else None
    return parsed or None, float(answer == gold)


# -- figures
# --------------------------------------------------------------------------------------------------

# of table 2: its code has these powers, and the text does not say which gave which figure
POWERS, ALPHA = (6, 8, 10), 99
# the hub's names of its models, of which any other with such a beginning is a relative: fine-tuned,
# rounded, …
MODELS = {
    "LLaVA-1.5-7B": "llava-1.5-7b-hf", "Qwen2.5-VL-7B": "Qwen2.5-VL-7B-Instruct",
    "Qwen2-VL-2B": "Qwen2-VL-2B-Instruct", "Qwen2-VL-7B": "Qwen2-VL-7B-Instruct",
}  # fmt: skip
COMPRESSED = {
    "shape": "raster",
    "pool": "random",
    "positions": "renumbered",
    "lengths": "dropped",
    "same": 1,
    "marks": "paper",
}


def figure(settings: dict) -> tuple[float | None, list[str]]:
    """(the paper's accuracy in percent, what is otherwise there) of the run that is nearest to this
    one; (None, []) if none is.

    The figure is of the same thing only where nothing is otherwise: model, scaling, compression,
    training and protocol.
    """
    name = settings["model"].replace("\\", "/").rstrip("/").rpartition("/")[2].lower()
    model = next((model for model in MODELS if model.lower() in name), None)
    record, scale, compressed = (
        known(settings["benchmark"]).paper,
        settings["scale"],
        settings["compress"],
    )
    changed = settings["blind"] or settings.get("hooks") or conditions.plainly(settings)
    if model is None or record is None or changed:
        return None, []
    if scale and compressed:
        return None, []
    change = identity.method(compressed) if compressed else "scaled" if scale else None
    value = record.figures.get((model, change))
    if value is None:
        return None, []
    otherwise = []
    if name != MODELS[model].lower():
        otherwise.append(f"{MODELS[model]} as it was published")
    if settings.get("quantisation") or settings.get("dtype") == "4-bit":
        otherwise.append("weights that are not rounded")
    if scale and not (scale.get("alpha") == ALPHA and scale.get("p") in POWERS):
        otherwise.append(f"α {ALPHA}")
    if scale:
        otherwise.append("p {}, {} or {} (not said which)".format(*POWERS))
    if compressed:
        otherwise += [
            f"{option} {theirs}"
            for option, theirs in COMPRESSED.items()
            if compressed.get(option, theirs) != theirs
        ]
        otherwise.append("a decoder of its own")
    if settings.get("protocol") != "paper":
        otherwise.append("its own protocol")
    if settings.get("limit"):
        otherwise.append("all of its questions")
    if record.unsaid:
        otherwise.append(record.unsaid)
    return value, otherwise


def beside(settings: dict) -> str:
    """The paper's figure in words, with all that is otherwise there: "58.25 with p 6, 8 or 10 (not
    said which)"; "" if none."""
    value, otherwise = figure(settings)
    if value is None:
        return ""
    return f"{value:.2f}" + (f" with {', '.join(otherwise)}" if otherwise else "")
