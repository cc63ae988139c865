"""The checks of chapter 19 take right answers and refuse plausible wrong ones, without a hint at
the right ones."""

import math

from whatwhere.book.exercises import the_paper_on_its_own_models as checks


def said(check, answer, capsys):
    """Whether an answer passes, and the last line that the check prints."""
    passed = check(answer)
    return bool(passed), capsys.readouterr().out.splitlines()[-1]


def landed(box, size, view, crop=True):
    scale = [new / old for new, old in zip(view.size, size)] * 2
    edges = [*view.box[:2]] * 2 if crop else [0] * 4
    return tuple(x * s - e for x, s, e in zip(box, scale, edges))


def cut_off(box, size, view):
    """It keeps to what the model sees."""
    left, top, right, bottom = view.box
    ends = (right - left, bottom - top) * 2
    return [min(max(x, 0), end) for x, end in zip(landed(box, size, view), ends)]


def test_where_a_box_lands(capsys):
    assert said(checks.landed, landed, capsys)[0]
    for wrong, sentence in {
        lambda *of: landed(*of, crop=False): "also cropped",
        cut_off: "should not be cut off",
        lambda *of: [landed(*of)[n] for n in (1, 0, 3, 2)]: "the other way round",
        lambda box, size, view: box: "this is not where it lands",
        lambda *of: landed(*of)[:2]: "the shape (4,)",
        lambda *of: None: "is there a return",
    }.items():
        passed, line = said(checks.landed, wrong, capsys)
        assert not passed and sentence in line
        assert "-56" not in line.replace("(-56, 0, 392, 336)", "") or "way round" in line


def questions(gain, changed, z=1.96):
    return math.ceil(z**2 * changed / gain**2 - 1e-9)


def test_how_many_questions(capsys):
    assert said(checks.questions, questions, capsys)[0]
    assert said(checks.questions, lambda g, c: int(math.ceil(1.96**2 * c / g**2)), capsys)[0]
    for wrong, sentence in {
        lambda *of: questions(*of) - 1: "are then larger than the gain",
        lambda *of: questions(*of) + 1: "fewer would do",
        lambda *of: questions(*of, z=1): "are then larger than the gain",
        lambda gain, changed: 1.96**2 * changed / gain**2: "is whole",
        lambda gain, changed: math.ceil(1.96 * changed / gain): "are then larger",
        lambda *of: None: "is there a return",
    }.items():
        passed, line = said(checks.questions, wrong, capsys)
        assert not passed and sentence in line
        assert "193" not in line


def test_a_hit_by_chance(capsys):
    assert said(checks.by_chance, lambda s, n: 1 - (1 - s) ** n, capsys)[0]
    for wrong, sentence in {
        lambda s, n: (1 - s) ** n: "*no* patch says it",
        lambda s, n: s**n: "another share says yes",
        lambda s, n: s * n: "another share says yes",
        lambda s, n: 100 * (1 - (1 - s) ** n): "between 0 and 1",
        lambda s, n: 1 - math.exp(-s * n): "another share says yes",
        lambda s, n: 1 - (1 - s) ** n + 1e-4 * (0 < s < 1): "not exactly",
        lambda s, n: None: "is there a return",
    }.items():
        passed, line = said(checks.by_chance, wrong, capsys)
        assert not passed and sentence in line
        assert "0.64" not in line
