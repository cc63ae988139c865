"""How every benchmark asks: the one place where the words of a prompt are chosen.

The wordings are those of lmms-eval, the field's own engine, so that its figures and ours are of the
same questions.
"""

from collections.abc import Mapping, Sequence

LETTERS = "ABCDEFGHIJ"
PLAIN = True  # greedy decoding, whatever else a checkpoint's generation_config asks for
BRIEFLY = "Answer the question using a single word or phrase."
BY_LETTER = "Answer with the option's letter from the given choices directly."
WHICH_CAPTION = "Which caption describes the image?"


def briefly(question: str) -> str:
    """A question to be answered in a word: POPE, GQA, TextVQA."""
    return f"{question.strip()}\n{BRIEFLY}"


def statement(caption: str) -> str:
    """Is it true? VSR, in our own words."""
    return briefly(f"Is this true of the image? {caption.strip()}")


def textvqa(question: str) -> str:
    """TextVQA's question, with a capital at its start."""
    return briefly(question.capitalize())


def captions(options: Sequence[str]) -> str:
    """Which of these captions is right: What's Up, COCO-spatial, GQA-spatial."""
    return "\n".join([WHICH_CAPTION, *_listed(dict(zip(LETTERS, options))), BY_LETTER])


def mmbench(question: str, options: Mapping[str, str], hint: str = "") -> str:
    """MMBench's question, with its hint where there is one.

    Args:
        options: {letter: text}.
    """
    question = f"{hint} {question}" if hint else question
    return "\n".join([f"{question} There are several options:", *_listed(options), "", BY_LETTER])


def _listed(options):
    return [f"{letter}. {text}" for letter, text in options.items()]
