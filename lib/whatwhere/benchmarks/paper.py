"""The paper's own protocol, and its figures: how *Reading Images Like Texts* (arXiv 2509.19191) asks, reads, draws and bounds.

    benchmarks.run("Qwen/Qwen2-VL-2B-Instruct", "whatsup-b", protocol="paper", scale=(99, 8))

Written from what its public code does (`Siriuslala/vlm_interp`, commit 1b502c6); the text of the paper says nothing of this.
It is here to be compared with, and is not how we would ask: see `prompts` and `scoring`.

| what | the paper's |
|---|---|
| prompts | indented by blanks, empty lines between the options; another last line for LLaVA (`asked_of`) |
| COCO-spatial | the right caption is always option A: whoever says "A" has all points, and a row of the table says so |
| reading | what was said is the right answer, to the letter, or it is wrong (`read`) |
| samples | GQA: 1,000 questions; TextVQA: the last one about each picture; MMBench: without hint, options in one order |
| pictures | of Qwen's families, 256 to 1,280 visual tokens (`bounded`) |
| decoding | greedy, with the rest of the checkpoint's generation_config (a penalty on repetition, say); ten tokens at most |

What cannot be repeated: which 1,000 questions and which order of options were drawn (there is no seed), and how the figures
for one object and for two became one.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from .. import images
from .items import Item

WORDS = 10  # new tokens of an answer
SAMPLE = {"gqa": 1000}
TOKENS = (256, 1280)  # least and most visual tokens of a picture
LETTERS = "ABCDEFGHIJ"
PLAIN = False  # what `VLM.answer` is told

# -- prompts ---------------------------------------------------------------------------------------------------------

IN_A_WORD = "Please answer with a single word in lowercase."
YES_OR_NO = "Please answer with either 'yes' or 'no'. Your answer is:"
WHICH_CAPTION = "Please choose the best decription for the image from the following {} options:"  # as it is spelt there
OF_LLAVA = (
    "Please select the correct option and return only the letter of the option.\nYour choice is:"
)


def shuffled(benchmark: str) -> bool:
    """Are the options of a benchmark by letter shuffled?"""
    return benchmark != "coco-spatial"


def pope(question: str) -> str:
    return f"{question}\n\n{YES_OR_NO}"


def gqa(question: str) -> str:
    return question + IN_A_WORD


def textvqa(question: str) -> str:
    return question + IN_A_WORD


def captions(options: list[str]) -> str:
    return _indented(
        [WHICH_CAPTION.format(len(options)), *_listed(dict(zip(LETTERS, options)))],
        len(options),
        12,
    )


def mmbench(question: str, options: dict[str, str], hint: str = "") -> str:
    """MMBench's question without its hint. options: {letter: text}."""
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
    """The items as a family of models is asked: by letter, LLaVA is told otherwise what to answer."""
    if family != "llava":
        return items
    return [
        replace(i, question=i.question.replace(_by_letter(len(i.options)), OF_LLAVA))
        if i.options
        else i
        for i in items
    ]


# -- samples, pictures -----------------------------------------------------------------------------------------------


def drawn(items: list[Item], benchmark: str, seed: int) -> list[Item]:
    """Those of a benchmark's questions that are asked: 1,000 of GQA, of TextVQA the last about each picture, all of others.

    Of MMBench, whose questions come with their options in several orders, the first order.
    """
    if benchmark == "textvqa":
        return list({item.group: item for item in items}.values())
    if benchmark == "mmbench":
        return [item for item in items if item.id == item.group]
    if len(items) > SAMPLE.get(benchmark, len(items)):
        kept = set(random.Random(f"paper/{seed}").sample(range(len(items)), SAMPLE[benchmark]))
        return [item for n, item in enumerate(items) if n in kept]
    return items


@contextmanager
def bounded(vlm) -> Iterator[None]:
    """Within this context the pictures of Qwen's families become 256 to 1,280 visual tokens; afterwards all is as it was."""
    if vlm.max_pixels is None:  # it shows all pictures at one size
        yield
        return
    least, most = (tokens * vlm.adapter.token_area for tokens in TOKENS)
    with images.bounded(vlm, min_pixels=least, max_pixels=most):
        yield


# -- reading ---------------------------------------------------------------------------------------------------------


def reader(family: str | None) -> Callable[[dict], tuple[str | None, float]]:
    """What reads a row, as `items.read` does, of a model of this family: (parsed, right in [0, 1])."""
    return lambda row: read(row, family)


def read(row: dict, family: str | None = None) -> tuple[str | None, float]:
    """(parsed, right) of a row: right is what was said if it is what was to be said, to the letter.

    LLaVA's words are made lower case first; of LLaVA's and InternVL's letters "A: …" is read as "A". (Outer blanks are gone
    before, which in the public code they are not.)
    """
    said, gold = row["answer"], row["gold"]
    if row["options"]:
        if family in ("llava", "internvl") and len(said) > 1:
            said = said[0] if said[1] == ":" or not said[1:].strip(" ") else ""
        return (said if said in row["options"] else None), float(said == gold)
    said = said.lower() if family == "llava" else said
    if row["kind"] == "soft":
        return said or None, min(1.0, gold.count(said) / 3)
    parsed = said if row["kind"] != "yes/no" or said in ("yes", "no") else None
    return parsed or None, float(said == gold)


# -- figures ---------------------------------------------------------------------------------------------------------

# Table 1: accuracy, and the share of visual tokens removed, in percent
TABLE_1 = {
    ("LLaVA-1.5-7B", None): dict(gqa=60.50, textvqa=45.01, mmbench=53.73, pope=85.96),
    ("LLaVA-1.5-7B", 1): dict(gqa=61.32, textvqa=43.16, mmbench=51.40, pope=86.00, removed=27.83),
    ("LLaVA-1.5-7B", 2): dict(gqa=60.14, textvqa=35.04, mmbench=47.33, pope=85.66, removed=58.35),
    ("LLaVA-1.5-7B", 3): dict(gqa=61.06, textvqa=38.53, mmbench=50.45, pope=85.90, removed=48.55),
    ("Qwen2.5-VL-7B", None): dict(gqa=61.20, textvqa=78.21, mmbench=84.68, pope=89.23),
    ("Qwen2.5-VL-7B", 1): dict(gqa=60.80, textvqa=76.33, mmbench=84.27, pope=87.46, removed=16.19),
    ("Qwen2.5-VL-7B", 3): dict(gqa=60.03, textvqa=74.78, mmbench=83.58, pope=86.83, removed=32.09),
}
# Table 2: (model, scaled), training-free. Its code has these powers, and the text does not say which gave which figure
POWERS, ALPHA = (6, 8, 10), 99
TABLE_2 = {
    ("Qwen2-VL-2B", False): {
        "whatsup-a": 74.61,
        "whatsup-b": 53.16,
        "coco-spatial": 49.84,
        "gqa-spatial": 76.61,
    },
    ("Qwen2-VL-2B", True): {
        "whatsup-a": 77.27,
        "whatsup-b": 58.25,
        "coco-spatial": 50.24,
        "gqa-spatial": 78.22,
    },
    ("Qwen2-VL-7B", False): {
        "whatsup-a": 98.06,
        "whatsup-b": 87.84,
        "coco-spatial": 88.79,
        "gqa-spatial": 92.84,
    },
    ("Qwen2-VL-7B", True): {
        "whatsup-a": 98.86,
        "whatsup-b": 88.97,
        "coco-spatial": 89.27,
        "gqa-spatial": 94.31,
    },
}
# the hub's names of its models, of which any other with such a beginning is a relative: fine-tuned, rounded, …
MODELS = {
    "LLaVA-1.5-7B": "llava-1.5-7b-hf", "Qwen2.5-VL-7B": "Qwen2.5-VL-7B-Instruct", "Qwen2-VL-2B": "Qwen2-VL-2B-Instruct",
    "Qwen2-VL-7B": "Qwen2-VL-7B-Instruct",
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
    """(the paper's accuracy in percent, what is otherwise there) of the run that is nearest to this one; (None, []) if none is.

    The figure is of the same thing only where nothing is otherwise: model, scaling, compression, training and protocol.
    """
    own = settings["model"].replace("\\", "/").rstrip("/").rpartition("/")[2].lower()
    model = next((each for each in MODELS if each.lower() in own), None)
    which, scale, compressed = settings["benchmark"], settings["scale"], settings["compress"]
    method = compressed["method"] if compressed else None
    if settings["blind"] or scale and compressed or settings.get("hooks"):
        return None, []
    one, two = (
        TABLE_1.get((model, method), {}).get(which),
        TABLE_2.get((model, bool(scale)), {}).get(which),
    )
    value = (None if scale else one) or (None if compressed else two)
    if value is None:
        return None, []
    said = []
    if own != MODELS[model].lower():
        said.append(f"{MODELS[model]} as it was published")
    if settings.get("quantisation") or settings.get("dtype") == "4-bit":
        said.append("weights that are not rounded")
    if scale and not (scale.get("alpha") == ALPHA and scale.get("p") in POWERS):
        said.append(f"α {ALPHA}")
    if scale:
        said.append("p {}, {} or {} (not said which)".format(*POWERS))
    if compressed:
        other = [
            f"{name} {each}"
            for name, each in COMPRESSED.items()
            if compressed.get(name, each) != each
        ]
        said += [*other, "a decoder of its own"]
    if settings.get("protocol") != "paper":
        said.append("its own protocol")
    if settings.get("limit"):
        said.append("all of its questions")
    if which in ("coco-spatial", "gqa-spatial"):
        said.append("one object and two joined in a way that is not said")
    return value, said


def beside(settings: dict) -> str:
    """The paper's figure in words, with all that is otherwise there: "58.25 with p 6, 8 or 10 (not said which)"; "" if none."""
    value, otherwise = figure(settings)
    return (
        ""
        if value is None
        else f"{value:.2f}" + (f" with {', '.join(otherwise)}" if otherwise else "")
    )
