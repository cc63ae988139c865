"""Checks of the chapter in which the book's calls are made on real models."""

from typing import Any

from ... import benchmarks
from .. import published
from . import exercise, expect, number, pair

TRIED = (
    ("Qwen/Qwen2-VL-2B-Instruct", "float16", 14.6),
    ("Qwen/Qwen2-VL-7B-Instruct", "4-bit", 14.6),
    ("Qwen/Qwen2-VL-7B-Instruct", "float16", 14.6),
    ("Qwen/Qwen2-VL-2B-Instruct", "4-bit", 80),
)
MOST = 256  # prompts at once that exercise 3 asks for


@exercise("it goes by its word, whatever the picture shows")
def lazy(lazy: Any, items: Any) -> None:
    result = None
    for word in ("left", "behind"):
        result = lazy(list(items), word)
        expect(result is not None, "lazy(items, word) is None: is there a return at the end?")
        expect(
            isinstance(result, benchmarks.Result),
            f"lazy(items, word) is a benchmarks.Result, not a {type(result).__name__}",
        )
        rows = result.rows
        expect(
            list(rows["id"]) == [item.id for item in items],
            f"there is a row for each of the {len(items)} questions, in their order; you have "
            f"{len(rows)}",
        )
        for options, letter in zip(rows["options"], rows["parsed"]):
            expect(letter in options, f"an answer is the letter of a caption, not {letter!r}")
            picked = options[letter]
            expect(word in picked, f"asked for '{word}', it also picks {picked!r}")
    if result is not None:
        print(result.table())


@exercise("the rule is fooled in both directions")
def misread(misread: Any, read: Any) -> None:
    expect(isinstance(misread, (list, tuple)), "misread is a list of pairs (answer, meaning)")
    meant = []
    for entry in misread:
        answer, meaning = pair(entry, "each entry")
        expect(isinstance(answer, str), f"an answer is a text, not {answer!r}")
        expect(meaning in ("yes", "no"), f"an answer means 'yes' or 'no', not {meaning!r}")
        plain = answer.strip(" .!").lower()
        expect(len(plain) > 1, "an answer has words")
        honest = plain not in ("yes", "no") or plain == meaning
        expect(honest, f"{answer!r} does not mean {meaning}")
        expect(read(answer) != meaning, f"{answer!r} is read as it is meant")
        meant.append(meaning)
    expect(len({str(answer) for answer, _ in misread}) == len(misread), "one stands there twice")
    for meaning in ("yes", "no"):
        n = meant.count(meaning)
        expect(n >= 2, f"of those that mean {meaning}, you have {n}: two are asked for")
    for answer, meaning in misread:
        print(f"{answer!r} means {meaning}, and is read as {read(answer)}")


@exercise("as many as fit, and not one more")
def largest(largest: Any, prompt: Any) -> Any:
    for name, dtype, gib in TRIED:
        where = f"{name.split('/')[1]}, {dtype}, {gib} GiB"
        got = number(largest(name, dtype, gib), f"largest(…) for {where}")
        whole = got == int(got) and 0 <= got <= MOST
        expect(whole, f"{where}: a whole number from 0 to {MOST}, not {got:g}")
        n, room = int(got), (gib - published.MARGIN) * published.GIB

        def fits(batch, name=name, dtype=dtype, room=room):
            need = published.memory(name, dtype, **prompt, batch=batch)["total"]
            return need <= room

        expect(n == 0 or fits(n), f"{where}: {n} prompts do not fit (bytes, and the margin?)")
        expect(n == MOST or not fits(n + 1), f"{where}: more than {n} prompts would fit")
        print(f"{where}: {n}")
