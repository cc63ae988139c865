"""From what a model said to right or wrong.

| benchmark | read by the rule of | function |
|---|---|---|
| MMBench | lmms-eval's task mmbench_en_dev_static | `choice` |
| POPE | lmms-eval; POPE's own evaluation is a second score | `only_yes_or_no`, `yes_or_no` |
| GQA | lmms-eval | `word` |
| TextVQA | lmms-eval: the VQA challenge's | `soft`, `vqa` |
| What's Up, COCO- and GQA-spatial | our own, strict | `letter` |

`make agreement` holds the first four to lmms-eval on 100,000 generated answers each. An answer that
its rule cannot read counts as wrong, and is counted: `unparsed` says how many there were.
"""

import re
import string

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_THOUGHTS = (("<think>", "</think>"), ("<analysis>", "</analysis>"))


def said(answer: str) -> str:
    """An answer without outer blanks, and without what a model thinks aloud between tags."""
    for start, end in _THOUGHTS:
        answer = re.sub(f"{start}.*?{end}", "", answer, flags=re.DOTALL)
        if start not in answer:  # the prompt may have begun the thought
            answer = answer.rpartition(end)[2]
    return answer.strip()


# -- by letter -------------------------------------------------------------------------------------


def letter(answer: str, options: dict[str, str]) -> str | None:
    """The letter that an answer gives, or None: "B", "(B)", "B.", "B. the caption", or the caption.

    Args:
        options: {letter: text}. Strict on purpose, for What's Up, COCO- and GQA-spatial, which have
            no rule of their own for sentences: a guess at what is meant would be right in a quarter
            or half of all cases. `choice` is MMBench's more lenient rule.
    """
    answer = answer.strip()
    match = re.fullmatch(r"\(?([A-Za-z])\)?[.:)]?(?:\s+(.+))?", answer, flags=re.DOTALL)
    if match:
        chosen, caption = match[1].upper(), match[2]
        if chosen in options and (caption is None or _plain(caption) == _plain(options[chosen])):
            return chosen
    letters = [letter for letter, text in options.items() if _plain(text) == _plain(answer)]
    return letters[0] if len(letters) == 1 else None


def choice(answer: str, options: dict[str, str]) -> str | None:
    """MMBench's reading: the letter that an answer gives, among whatever else it says, or None.

    Args:
        options: {letter: text}, without those that a question lacks (on the hub they are "nan",
            which lmms-eval finds in "banana"). Three rules, of which the first that finds a letter
            decides: the only letter that stands as a word; the only option whose text occurs; the
            letter in the most telling place. The first two are MMBench's own, after which lmms-eval
            asks a language model (or, where it reaches none, draws a letter). The third is that of
            its task without such a judge. It guesses: where there is nothing better, the last
            capital of an option decides.
    """
    return (
        _lone_letter(answer.split())
        or _lone_text(answer.lower(), options)
        or _likeliest_letter(answer, sorted(options))
    )


# how a letter may stand as a word of its own, in the order in which these are tried
_ALONE = "{} {}. {}, {}: {}) {}). ({}) ({}). :{} :{}, :{}. :{}) :{}).".split()


def _lone_letter(words):
    """The letter of A to E that alone stands in one of the forms. E is no option, but a letter."""
    for form in _ALONE:
        letters = [letter for letter in "ABCDE" if form.format(letter) in words]
        article = form == "{}" and letters == ["A"] and len(words) > 3
        if len(letters) == 1 and not article:
            return letters[0]
    return None


def _lone_text(answer, options):
    letters = [letter for letter, text in options.items() if text.lower() in answer]
    return letters[0] if len(letters) == 1 else None


_PHRASES = (
    "answer is", "the answer is", "correct answer is", "the correct answer is", "best answer is",
    "the best answer is", "my answer is", "correct option is", "the correct option is",
    "best option is", "the best option is", "choice is", "the choice is", "correct choice is",
    "the correct choice is", "my choice is", "i choose", "i select", "i pick",
    "옵션", "정답은", "답은", "답:", "答案是", "答案为", "选", "答えは",
)  # fmt: skip


def _likeliest_letter(answer, letters):
    """The letter in the most telling place, the last one where several places tell as much."""
    text = answer.strip()
    for mark in ",.!?;:'\"":
        text = text.strip(mark)
    text, bare = f" {text} ", text.strip()
    lowered, hits = text.lower(), []  # (how telling, where, letter)
    after = [lowered.find(phrase) + len(phrase) for phrase in _PHRASES if phrase in lowered]
    for x in letters:
        if bare.startswith(x) and not bare[1:2].isalpha():
            hits.append((7, 0, x))
        if bare.endswith(x) and not bare[-2:-1].isalpha():
            hits.append((6, 0, x))
        hits += [(5, text.find(x, start), x) for start in after if x in text[start:]]
        forms = f"({x})", f"{x}.", f"{x}:", f"{x})", f"{x} ", x
        hits += [(4 - n, text.rfind(form), x) for n, form in enumerate(forms) if form in text]
    return max(hits)[2] if hits else None


# -- yes or no -------------------------------------------------------------------------------------


def only_yes_or_no(answer: str) -> str | None:
    """lmms-eval's reading of POPE: "yes" or "no", in any case, if that is all; None of "Yes."."""
    word = answer.strip().lower()
    return word if word in ("yes", "no") else None


def yes_or_no(answer: str) -> str:
    """POPE's own reading: of the first sentence; "no" if No, no or not is in it, else "yes"."""
    words = answer.split(".")[0].replace(",", "").split(" ")
    return "no" if {"No", "no", "not"} & set(words) else "yes"


# -- in a word -------------------------------------------------------------------------------------


def word(answer: str) -> str:
    """GQA's reading: case and punctuation do not count; blanks do, wherever `said` leaves them."""
    lowered = answer.lower()[: len(answer)]  # lmms-eval's array keeps its width where "İ" grows,
    return lowered.translate(_PUNCTUATION).rstrip("\0")  # and does not know zeros at the end


def soft(answer: str, answers: list[str]) -> float:
    """VQA's soft accuracy in [0, 1]: the mean over every nine of ten people of min(1, same / 3).

    Args:
        answers: the ten people's. same: how many of the nine said what the answer says.
    """
    answer, people = vqa(answer), [vqa(gold) for gold in answers]
    same = people.count(answer)
    without = [same - (gold == answer) for gold in people]  # of the nine others
    return sum(min(1.0, n / 3) for n in without) / len(people)


# -- VQA's normalisation, after its definition on visualqa.org/evaluation --------------------------

_NUMBERS: dict[str, str] = dict(
    zip(
        "none zero one two three four five six seven eight nine ten".split(),
        "0 0 1 2 3 4 5 6 7 8 9 10".split(),
    )
)
_ARTICLES = {"a", "an", "the"}
_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_CONTRACTED = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've
    he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've
    o'clock oughtn't shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd
    someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've there're there's
    they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've when's
    where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't wouldn't've
    y'all y'all'll y'all'd've you'd you'd've you'll you're you've
""".split()  # not all there are: those that the definition mends


# {a contraction with one apostrophe too few: the contraction}, and one that is mended the wrong way
_SLIPS: dict[str, str] = {
    full[:i] + full[i + 1 :]: full for full in _CONTRACTED for i, c in enumerate(full) if c == "'"
}
_SLIPS |= {"somebody'd": "somebodyd"}


def vqa(answer: str) -> str:
    """An answer as VQA compares it.

    Lower case, no articles, digits for number words, punctuation gone, apostrophes mended.
    """
    lowered = answer.lower().replace(",", "").replace("?", "").replace("'s", " 's")
    lowered = re.sub(r"[\n\t]", " ", lowered).strip()
    closed = lowered
    for mark in _MARKS:
        loose = f"{mark} " in lowered or f" {mark}" in lowered
        closed = closed.replace(mark, "" if loose else " ")
    # 32: the definition's own code gives re.UNICODE, which is that number, where a count belongs
    closed = re.sub(r"\.(?!\d)", "", closed, count=32)
    words = (_NUMBERS.get(word, word) for word in closed.split())
    return " ".join(_SLIPS.get(word, word) for word in words if word not in _ARTICLES)


def _plain(text):
    return text.strip().rstrip(".").casefold()
