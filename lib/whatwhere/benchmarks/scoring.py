"""From what a model said to right or wrong, by each benchmark's own definition.

An answer that its benchmark's rules cannot read counts as wrong, and is counted: `unparsed` says how many there were.
"""

import re
import string

_PUNCTUATION = str.maketrans("", "", string.punctuation)


def letter(answer, options):
    """The letter that an answer gives, or None: "B", "(B)", "B.", "B. the caption", or the caption alone, and nothing else.

    options: {letter: text}.
    """
    said = answer.strip()
    found = re.fullmatch(r"\(?([A-Za-z])\)?[.:)]?(?:\s+(.+))?", said, flags=re.DOTALL)
    if found:
        chosen, rest = found[1].upper(), found[2]
        if chosen in options and (rest is None or _plain(rest) == _plain(options[chosen])):
            return chosen
    alike = [each for each, text in options.items() if _plain(text) == _plain(said)]
    return alike[0] if len(alike) == 1 else None


def yes_or_no(answer):
    """POPE's official reading: of the first sentence; "no" if No, no or not is among its words, else "yes"."""
    words = answer.split(".")[0].replace(",", "").split(" ")
    return "no" if {"No", "no", "not"} & set(words) else "yes"


def says_yes_or_no(answer):
    """Does an answer hold yes, no or not as a word at all? POPE's reading takes any other for a yes."""
    return bool(re.search(r"\b(yes|no|not)\b", answer, flags=re.IGNORECASE))


def word(answer):
    """GQA's reading: case, punctuation and outer blanks do not count."""
    return answer.lower().translate(_PUNCTUATION).strip()


def soft(answer, answers):
    """VQA's soft accuracy in [0, 1]: the mean, over every nine of ten people, of min(1, how many said the same / 3)."""
    said, people = vqa(answer), [vqa(each) for each in answers]
    same = people.count(said)
    without = [same - (each == said) for each in people]
    return sum(min(1.0, n / 3) for n in without) / len(people)


# -- VQA's normalisation, after its definition on visualqa.org/evaluation --------------------------------------------

_NUMBERS = dict(zip("none zero one two three four five six seven eight nine ten".split(), "0 0 1 2 3 4 5 6 7 8 9 10".split()))
_ARTICLES = {"a", "an", "the"}
_MARKS = ";/[]\"{}()=+\\_-><@`,?!"
_CONTRACTED = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've
    he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've
    o'clock oughtn't shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd
    someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've there're there's
    they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've when's
    where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't wouldn't've
    y'all y'all'll y'all'd've you'd you'd've you'll you're you've
""".split()  # not all there are: those that the definition mends


# {a contraction with one apostrophe too few: the contraction}
_SLIPS = {full[:i] + full[i + 1 :]: full for full in _CONTRACTED for i, c in enumerate(full) if c == "'"}


def vqa(answer):
    """An answer as VQA compares it: lower case, no articles, digits for number words, punctuation gone, apostrophes mended."""
    said = answer.lower().replace(",", "").replace("?", "").replace("'s", " 's")
    said = re.sub(r"[\n\t]", " ", said).strip()
    closed = said
    for mark in _MARKS:
        loose = f"{mark} " in said or f" {mark}" in said
        closed = closed.replace(mark, "" if loose else " ")
    closed = re.sub(r"\.(?!\d)", "", closed)
    words = (_NUMBERS.get(each, each) for each in closed.split())
    return " ".join(_SLIPS.get(each, each) for each in words if each not in _ARTICLES)


def _plain(text):
    return text.strip().rstrip(".").casefold()
