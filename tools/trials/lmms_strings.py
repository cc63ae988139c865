"""Do we read answers as lmms-eval does? Generated answers, read by both, one by one.

    python -m tools.trials.lmms_strings [how many of each, 100000]

The first half of `make agreement`. It needs lmms-eval, but no model. The answers are made to be
hard to read: letters in all surroundings, options within sentences, markdown, several letters,
contractions, number words, punctuation, other scripts, nothing at all, long chatter, thinking
aloud. The counts go to data/results/lmms_eval_reading.json. Some hundred answers of each benchmark,
with what lmms-eval makes of them, go to tests/lmms_eval_reading.json: by these the tests hold us to
it where it is not installed.
"""

import json
import random
import string
import sys
from collections import Counter
from contextlib import redirect_stdout
from importlib.metadata import version
from importlib.resources import files as resources
from io import StringIO
from pathlib import Path

from whatwhere import benchmarks, files
from whatwhere.benchmarks import scoring
from whatwhere.benchmarks.item import read

ROOT = Path(__file__).parents[2]
RESULT = ROOT / "data/results/lmms_eval_reading.json"
SAMPLE = ROOT / "tests/lmms_eval_reading.json"
NUMBER, ROTATED, KEPT, SEED = 100_000, 3000, 300, 0
TASKS = {  # our benchmark: lmms-eval's task, by folder and file
    "mmbench": ("mmbench", "mmbench_en_dev_static"), "textvqa": ("textvqa", "textvqa_val"),
    "pope": ("pope", "pope"), "gqa": ("gqa", "gqa"),
}  # fmt: skip
THOUGHTS = [
    ["<think>", "</think>"],
    ["<analysis>", "</analysis>"],
]  # what its command strips unless told otherwise

# -- answers that are hard to read
# -----------------------------------------------------------------------------------

BLANKS = [" ", " ", " ", "\n", "\n\n", "\t", "  ", "\u00a0", "\u3000", "\r\n", "\x0b", "\x1c", ""]
JOINTS = [" ", " ", " ", *", |. |; |: | or | and |/| - | — |? ".split("|"), "\n", "", ".\n"]
MARKS = [*string.punctuation, *"—…“”‘’、。¿", "...", "**", "__", "```"]
WORDS = (
    """
    the a an A An The yes no Yes No NO not Not none None zero one two Three four five six seven
    eight nine ten Ten eleven man woman left right dog cat red blue Nokia coca-cola stop banana
    dominant magnet magnets repel attract each other picture image it is is there's theres dont
    don't cant wont I I'm Im its it's John's james' o'clock oclock yall y'all'd've somebody'd
    somebodyd something'll couldnt've shouldn'tve 1 2 10 1,000 3.50 3. .5 5:30 7-up e-mail $5 50%
    U.S.A. a.m. tv t-shirt and/or café naïve Straße İstanbul ǅ ﬁne Σάς кот 猫 あ
    answer Answer: option Option choice Choose E F because of in on under CD DVD ABC ABCD Both BC
    A.B D.C. Apple Dog Eagle definitely maybe <image> </s> <s> ASSISTANT: USER: nan NaN null
""".split()
    + ["zero\u200bwidth", "nul\0", "\0", "\u202eabc", "\U0001f431"]
)
SURE = """
    {}|Answer: {}|The answer is {}|the correct answer is {}.|My answer is {}!|I choose {}|So {}
    |I pick {} because|Option {}|option {} is right|The best option is {}|the choice is {}|# {}
    |It is {}.|Final answer: {}|答案是{}|选{}|정답은 {}|답: {}|答えは{}です|The ANSWER IS {}|A {}
    |I think {} is the answer|It could be {}|neither {}|{} is correct|{}:|{} -|- {}|1. {}|> {}
    |\\boxed{{{}}}
""".strip().split("|")
FORMS = (
    """
    {} {} {}. {}, {}: {}) {}). ({}) ({}). ({} :{} :{}, :{}. :{}) :{}). **{}** **{}.** __{}__ `{}`
    [{}] <{}> "{}" '{}' “{}” {}! {}? {}; {}- /{} {}/ ${}$ ({}): {}'s {}\\ {{{}}} {}。
""".split()
    + ["{}\u200b", "\u00a0{}"]
)
OPTIONS = """the magnets repel|the magnets attract|a cat|a cat on a mat|banana|Apple|yes|no|left
    |right|The D major|A|B|b.|1|2|10|nan|dominant|İstanbul|Straße|Both A and B|none
    |None of the above|blue; red|it's|(a)|E|…|France|the|repel|d|CD|猫|a|Both""".split("|")


def chance(rnd, share):
    return rnd.random() < share


def chatter(rnd, most=60):
    """Some words with joints between them."""
    return "".join(rnd.choice(WORDS) + rnd.choice(JOINTS) for _ in range(rnd.randint(1, most)))


def noise(rnd):
    """Any characters, rarely those of another script."""
    return "".join(
        rnd.choice(MARKS)
        if chance(rnd, 0.3)
        else chr(rnd.randint(32, 126) if chance(rnd, 0.9) else rnd.randint(1, 0xD7FF))
        for _ in range(rnd.randint(1, 30))
    )


def mangled(rnd, text):
    """The same words, written otherwise."""
    changes = [
        str.upper, str.lower, str.title, str.swapcase, lambda t: t + rnd.choice(MARKS),
        lambda t: rnd.choice(MARKS) + t, lambda t: rnd.choice(["a ", "an ", "the ", "The "]) + t,
        lambda t: t.replace("'", ""), lambda t: t.replace(" ", "  "),
        lambda t: rnd.choice(BLANKS) + t + rnd.choice(BLANKS),
        lambda t: t.replace(" ", rnd.choice(BLANKS)),
        lambda t: t + rnd.choice(BLANKS) + rnd.choice(MARKS), lambda t: t[: rnd.randint(0, len(t))],
        lambda t: f"**{t}**", lambda t: t + " " + rnd.choice(WORDS),
        lambda t: t + "." * rnd.choice([1, 2, 3, 33, 40]), lambda t: "'".join(t),
        lambda t: t[: len(t) // 2] + rnd.choice(MARKS) + t[len(t) // 2 :], lambda t: f"{t}'s",
        lambda t: f"{t}\n{t}",
    ]  # fmt: skip
    for change in rnd.choices(changes, k=rnd.choice([0, 0, 1, 1, 1, 2, 3])):
        text = change(text)
    return text


def wrapped(rnd, answer):
    """Now and then: nothing at all, outer blanks, thoughts before the answer."""
    if chance(rnd, 0.01):
        return rnd.choice(["", " ", "\n", ".", "\0", "\u3000"])
    if chance(rnd, 0.05):
        start, end = rnd.choice(THOUGHTS)
        thought = f"{start}{chatter(rnd, 8)}{end}"
        answer = rnd.choice([
            thought + answer, thought + "\n\n" + answer, answer + thought, thought * 2 + answer,
            thought[len(start) :] + answer, answer + start, end + answer + end,
            start + thought + answer, thought[:-1] + answer, thought.upper() + answer,
        ])  # fmt: skip
    return rnd.choice(BLANKS) + answer + rnd.choice(BLANKS) if chance(rnd, 0.1) else answer


def by_letter(rnd):
    """(how it was made, options, answer)."""
    texts = rnd.sample(OPTIONS, rnd.choice([2, 2, 3, 4, 4, 4]))
    options = {letter: text.strip() for letter, text in zip("ABCD", texts)}

    def one():
        return rnd.choice(FORMS).format(rnd.choice("AABBCCDDEEabcdFАＢ"))

    def text():
        return mangled(rnd, rnd.choice(list(options.values())))

    how = rnd.choice(
        [
            "letter",
            "sure",
            "letters",
            "text",
            "letter and text",
            "letter and chatter",
            "text and chatter",
            "chatter",
            "noise",
            "everything",
        ]
    )
    makers = {
        "letter": one, "sure": lambda: rnd.choice(SURE).format(one()), "text": text,
        "chatter": lambda: chatter(rnd),
        "letters": lambda: rnd.choice(JOINTS).join(one() for _ in range(rnd.randint(2, 4))),
        "letter and text": lambda: one() + rnd.choice(JOINTS) + text(),
        "letter and chatter": lambda: rnd.choice([chatter(rnd, 6),
            ""]) + one() + rnd.choice(JOINTS) + chatter(rnd),
        "text and chatter": lambda: chatter(rnd, 6) + text() + rnd.choice(JOINTS) + chatter(rnd, 6),
        "noise": lambda: noise(rnd),
    }  # fmt: skip
    if how == "everything":
        parts = rnd.choices(list(makers), k=rnd.randint(2, 5))
        return how, options, wrapped(rnd, rnd.choice(JOINTS).join(makers[part]() for part in parts))
    return how, options, wrapped(rnd, makers[how]())


def phrase(rnd):
    return " ".join(rnd.choice(WORDS) for _ in range(rnd.choice([1, 1, 1, 2, 2, 3])))


def by_ten(rnd):
    """(how it was made, ten people's answers, answer)."""
    said = phrase(rnd)
    others = [said, said, phrase(rnd), rnd.choice(["a", "the", "", "unanswerable", "."])]
    people = [mangled(rnd, rnd.choice(others)) for _ in range(10)]
    how = rnd.choice(["one of them", "as they meant", "nothing left", "other", "chatter", "noise"])
    answer = {
        "one of them": lambda: rnd.choice(people), "as they meant": lambda: mangled(rnd, said),
        "other": lambda: phrase(rnd),
        "nothing left": lambda: mangled(rnd, rnd.choice(["a", "An", "the", ".", "?", ""])),
        "chatter": lambda: chatter(rnd), "noise": lambda: noise(rnd),
    }[how]()  # fmt: skip
    return how, people, wrapped(rnd, answer)


def by_yes_or_no(rnd):
    """(how it was made, the right one, answer)."""
    how = rnd.choice(["word", "mangled", "sentence", "form", "chatter", "noise"])
    word = rnd.choice(
        ["yes", "no", "Yes", "No", "YES", "NO", "yEs", "not", "nope", "y", "n", "none", "ye\u017f"]
    )
    answer = {
        "word": lambda: word, "mangled": lambda: mangled(rnd, word),
        "form": lambda: rnd.choice(FORMS).format(word),
        "sentence": lambda: word + rnd.choice(JOINTS) + chatter(rnd, 8),
        "chatter": lambda: chatter(rnd, 20), "noise": lambda: noise(rnd),
    }[how]()  # fmt: skip
    return how, rnd.choice(["yes", "no"]), wrapped(rnd, answer)


def by_word(rnd):
    """(how it was made, the right one, answer)."""
    gold = rnd.choice(
        [phrase(rnd), phrase(rnd), rnd.choice(["?", "İ", "i", "a\0", "t-shirt", "ΑΣ", "ß"])]
    )
    how = rnd.choice(["mangled", "mangled", "form", "other", "chatter", "noise"])
    answer = {
        "mangled": lambda: mangled(rnd, gold), "form": lambda: rnd.choice(FORMS).format(gold),
        "other": lambda: phrase(rnd),
        "chatter": lambda: gold + rnd.choice(JOINTS) + chatter(rnd, 10),
        "noise": lambda: noise(rnd),
    }[how]()  # fmt: skip
    return how, gold, wrapped(rnd, answer)


# Answers that were once read otherwise than by lmms-eval, or that one rule alone decides: the
# sample holds all of them
THREE = {"A": "The magnets attract.", "B": "The magnets repel.", "C": "banana"}
FOUR = {"A": "10", "B": "20", "C": "30", "D": "40"}
ONCE = {
    "mmbench": [(THREE, answer) for answer in (
        "Answer: B", "The answer is B.", "B. The magnets repel.", "Option B", "**B**", "B or C",
        "E", "the magnets repel. Or so", "A and B", "(B) or E", "A magnet is what it is", "D",
        "**D**", "A. or so I think now", "I say (B).", "Both", "b", "",
        "The answer is B, Definitely", "CD", "banana", "I choose banana or The magnets repel. B",
        "<think>C or A</think>B", "It is\nB", "A</think>B", ":B).", "[B]",
    )] + [(FOUR, answer) for answer in (
        "A is B.", "A is for B.", ":A) :B).", "the answer is A* C* D*A", "(B)* the answer is D*q",
        "A1 and B*", "(A)* or CAB", '(C)* "B"', "(C)* B.;", '"B* (C)*',
        "(C)* 옵션 B*q", "(C)* 选 B*q",
        "(C)* an answer is B*q", "an answer is B* D*, an answer is B*q", "*C *B", "B: (C)*",
        "B) C:*",
    )],
    "textvqa": [
        (["a"] * 10, "A"), (["a"] * 10, ""), (["the"] * 4 + ["x"] * 6, "an"),
        (["somebodyd"] * 10, "somebody'd"), (["x" + "." * 8] * 10, "x" + "." * 40),
        (["2"] * 10, "two"), (["don't"] * 3 + ["x"] * 7, "DONT"), (["e mail"] * 10, "e-mail"),
        (["email"] * 10, "e- mail"), (["x"] * 10, "<think>y</think> x"), (["0"] * 10, "none"),
        (["john 's"] * 10, "John's"), (["ab"] * 10, "a?b"), (["a b"] * 10, "a\tb"),
        (["5"] * 10, "5."),
        (["3.5"] * 10, "3.5"), (["ab"] * 10, "a -b"), (["a b"] * 10, "a\nb"),
        (["x yz"] * 10, "x\t-y-z"),
    ],
    "pope": [(gold, answer) for gold in ("yes", "no") for answer in (
        "Yes", "yes.", "Yes, there is a cat.", " NO\n", "No", "No.", "not", "", "yes no", "**Yes**",
        "<analysis>no</analysis>yes",
    )],
    "gqa": [
        ("woman", " Woman. "), ("woman", "woman ."), ("t-shirt", "tshirt"), ("woman", "the woman"),
        ("?", "!"), ("no", "..."), ("İ", "i̇"), ("i", "İ"), ("a", "a\0"), ("cafe", "café"),
        ("two", "2"),
        ("left", "<think>right</think>left"), ("bthinkathink", "b</think>a<think>"),
        ("b", "<think>a</think>b<think>c</think>"), ("athink", "b</think>a<think>"),
    ],
}  # fmt: skip
MAKERS = {"mmbench": by_letter, "textvqa": by_ten, "pope": by_yes_or_no, "gqa": by_word}
KINDS = {"mmbench": "choice", "textvqa": "soft", "pope": "yes/no", "gqa": "word"}

# -- both readings
# --------------------------------------------------------------------------------------------------


def ours(benchmark, gold, answer):
    """MMBench: the letter that is read; TextVQA: [what is left, how right]; else how right it
    is."""
    options, gold = (gold, "A") if benchmark == "mmbench" else ({}, gold)
    row = {"kind": KINDS[benchmark], "gold": gold, "answer": answer, "options": options}
    parsed, right = read(row)
    if benchmark == "textvqa":
        return [parsed or "", right]  # of nothing that is left, "" and None are the same
    return parsed if benchmark == "mmbench" else right


def alike(due, found):
    """The same letter or words, and equally right but for the last bits of a mean."""
    if isinstance(due, list):
        return all(map(alike, due, found))
    return abs(due - found) < 1e-12 if isinstance(due, (int, float)) else due == found


def theirs():
    """{benchmark: a function of gold (or options) and answer}, of lmms-eval's functions and
    files."""
    from lmms_eval.api.metrics import exact_match_hf_evaluate
    from lmms_eval.api.reasoning import strip_reasoning_tags
    from lmms_eval.tasks._task_utils.mcq_extract import extract_mcq_answer
    from lmms_eval.tasks.mmbench.mmbench_evals import MMBench_Evaluator
    from lmms_eval.tasks.pope.utils import pope_process_results
    from lmms_eval.tasks.textvqa.utils import textvqa_process_results
    from loguru import logger

    logger.remove()  # it says of each doubtful letter that it is one
    evaluator, [metric] = MMBench_Evaluator(), task("gqa")["metric_list"]
    ignored = {name: value for name, value in metric.items() if name.startswith("ignore_")}

    def mmbench(options, answer):
        """As its `eval_sub_data` with static_only; `whole` below goes through that itself."""
        row = dict.fromkeys("ABCD", float("nan")) | options | {"prediction": answer}
        return (
            evaluator.prefetch_answer(row)
            or extract_mcq_answer(answer, sorted(evaluator.build_choices(row)))
            or None
        )

    def textvqa(people, answer):
        found = textvqa_process_results({"answers": list(people), "question_id": 0}, [answer])
        return [found["submission"]["answer"], float(found["exact_match"])]

    def pope(gold, answer):
        return pope_process_results({"answer": gold, "question_id": 0}, [answer])["pope_accuracy"][
            "score"
        ]

    def gqa(gold, answer):
        return float(
            exact_match_hf_evaluate(predictions=[answer], references=[gold], **ignored)[
                "exact_match"
            ]
        )

    def stripped(score):
        return lambda gold, answer: score(gold, strip_reasoning_tags(answer, THOUGHTS))

    return {
        name: stripped(score)
        for name, score in dict(mmbench=mmbench, textvqa=textvqa, pope=pope, gqa=gqa).items()
    }


def task(benchmark):
    """A task file of lmms-eval, with what it includes, as a dict."""
    import yaml

    class Loader(yaml.SafeLoader):
        """Reads `!function module.name` as the text after it."""

    Loader.add_constructor("!function", lambda loader, node: loader.construct_scalar(node))
    place, name = TASKS[benchmark]
    folder = resources("lmms_eval") / "tasks" / place
    found = Loader((folder / f"{name}.yaml").read_text()).get_single_data()
    included = found.pop("include", None)
    return (Loader((folder / included).read_text()).get_single_data() if included else {}) | found


def whole(made):
    """Accuracies of questions in three rotations each, by the whole of both evaluations."""
    from lmms_eval.tasks.mmbench.mmbench_evals import MMBench_Evaluator

    rows, items, answers = [], [], []
    rnd = random.Random(SEED)
    for n, (options, answer, letter) in enumerate(made):
        right = letter if letter in options and chance(rnd, 0.9) else rnd.choice(list(options))
        index, turn = divmod(n, 3)
        number = turn * 1_000_000 + index
        texts = dict.fromkeys("ABCD", float("nan")) | options
        said = scoring.said(answer)
        rows.append({"index": number, "answer": right, "prediction": said, "category": "c"} | texts)
        how = {"kind": "choice", "gold": right, "options": options, "group": str(index)}
        items.append(benchmarks.Item(str(number), None, "?", **how))
        answers.append(answer)
    with redirect_stdout(StringIO()):  # it prints its categories
        accuracy = MMBench_Evaluator().eval_result(rows, "static")[0]
    settings = {"benchmark": "mmbench", "questions": len(items)}
    result = benchmarks.Result(settings, [item.row(a) for item, a in zip(items, answers)])
    return {"answers": len(made), "lmms-eval": float(accuracy), "ours": result.accuracy}


def lacking(score, made):
    """Options that a question lacks are the text "nan" in lmms-eval's files: do we read those
    alike, and how many answers would it matter to, had we not left such options out?"""
    fewer = [(dict.fromkeys("ABCD", "nan") | options, answer, letter)
             for options, answer, letter in made if len(options) < 4]  # fmt: skip
    read_by_us = [ours("mmbench", options, answer) for options, answer, _ in fewer]
    due = [score(options, answer) for options, answer, _ in fewer]
    return {
        "answers": len(fewer),
        "disagree": sum(a != b for a, b in zip(read_by_us, due)),
        "matter": sum(a != letter for a, (_, _, letter) in zip(due, fewer)),
    }


# -- the comparison
# --------------------------------------------------------------------------------------------------


def naive(benchmark, gold, answer):
    """What a simpler rule reads: where it differs, an answer is worth keeping."""
    if benchmark == "mmbench":
        return scoring.letter(answer, gold)
    if benchmark == "textvqa":
        return [answer.strip().lower(), min(1, gold.count(answer.strip().lower()) / 3)]
    plain = scoring.yes_or_no(answer) if benchmark == "pope" else answer.strip().lower()
    return float(plain == gold)


def generated(benchmark, number):
    """So many different (how it was made, what it goes by, answer)."""
    rnd, seen = random.Random(f"{SEED}/{benchmark}"), set()
    while len(seen) < number:
        how, gold, answer = MAKERS[benchmark](rnd)
        key = repr((gold, answer))
        if key not in seen:
            seen.add(key)
            yield how, gold, answer


def compared(benchmark, score, number):
    """(what is written of the comparison, the sample, all answers): read by both."""
    made, disagree, kinds = [], [], {}
    for n, (how, gold, answer) in enumerate(generated(benchmark, number)):
        due, found = score(gold, answer), ours(benchmark, gold, answer)
        if not alike(due, found):
            row = {"how": how, "gold": gold, "answer": answer, "lmms-eval": due, "ours": found}
            disagree.append(row)
        made.append((gold, answer, due))
        verdict = due[1] if benchmark == "textvqa" else due
        kind = how, str(verdict), alike(due, naive(benchmark, gold, answer))
        kinds.setdefault(kind, []).append(n)
    rnd, share = random.Random(SEED), max(1, KEPT // len(kinds))
    some = [n for each in kinds.values() for n in rnd.sample(each, min(share, len(each)))]
    once = [(gold, answer, score(gold, answer)) for gold, answer in ONCE[benchmark]]
    missed = [row for row in once if not alike(row[2], ours(benchmark, *row[:2]))]
    verdicts = Counter()
    for (_, verdict, _), those in kinds.items():
        verdicts[verdict] += len(those)
    about = {
        "task": TASKS[benchmark][1], "answers": number, "disagree": len(disagree) + len(missed),
        "verdicts": dict(sorted(verdicts.items())),
        "disagreements": disagree[:10] + missed,
    }  # fmt: skip
    return about, once + [made[n] for n in sorted(some) if len(made[n][1]) < 400], made


def main(number=NUMBER):
    """Compare, write; returns 0 if every answer is read as lmms-eval reads it."""
    found, samples, agreed = {}, {}, True
    for benchmark, score in theirs().items():
        about, samples[benchmark], made = compared(benchmark, score, number)
        found[benchmark] = about
        print(f"{benchmark}: {about['disagree']} of {number} answers read otherwise", flush=True)
        for each in about["disagreements"]:
            print("   ", each)
        if benchmark == "mmbench":
            about |= {
                "in rotations": whole(made[:ROTATED]),
                "options that lack": lacking(score, made),
            }
            accuracies = about["in rotations"]
            agreed &= abs(accuracies["lmms-eval"] - accuracies["ours"]) < 1e-12
            agreed &= not about["options that lack"]["disagree"]
        agreed &= not about["disagree"]
    words = {name: task(name)["generation_kwargs"].get("max_new_tokens") for name in TASKS}
    known = benchmarks.BENCHMARKS
    agreed &= all(n in (None, known[name].words) for name, n in words.items())
    if number < NUMBER:  # a try
        return 0 if agreed else 1
    about = {"lmms-eval": version("lmms-eval"), "numpy": version("numpy"), "seed": SEED}
    whole_report = {"about": about | {"agreed": agreed}, "benchmarks": found}
    files.write(RESULT, json.dumps(whole_report, indent=2, ensure_ascii=False) + "\n")
    lines = [f'"about": {json.dumps(about)}', f'"max_new_tokens": {json.dumps(words)}']
    for benchmark, sample in samples.items():  # a line for each answer
        rows = ",\n".join(map(json.dumps, sample))
        lines.append(f'"{benchmark}": [\n{rows}\n]')
    files.write(SAMPLE, "{\n" + ",\n".join(lines) + "\n}\n")
    return 0 if agreed else 1


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
