"""The checks of chapter 9 refuse plausible wrong answers, and do not say the right one."""

import pytest
import sympy as sp

from whatwhere.book.exercises import deriving_2d_rope as checks

i = sp.symbols("i", integer=True, nonnegative=True)
N = sp.symbols("N", integer=True, positive=True)
m, n = sp.symbols("m n", real=True)
a, b, theta, W = sp.symbols("a b theta W", real=True)
aX, bX, aY, bY, th = (sp.IndexedBase(name, real=True) for name in ("aX", "bX", "aY", "bY", "th"))


def logit(x, y):
    across = aX[i] * sp.cos(x * th[i]) - bX[i] * sp.sin(x * th[i])
    along = aY[i] * sp.cos(y * th[i]) - bY[i] * sp.sin(y * th[i])
    return sp.Sum(across + along, (i, 0, N - 1))


def total(across, along):
    return sp.Sum(
        across * bX[i] * sp.sin(m * th[i]) + along * bY[i] * sp.sin(n * th[i]), (i, 0, N - 1)
    )


def test_the_diagonal(capsys):
    assert checks.diagonal(lambda: total(2, 2), logit, m, n)
    capsys.readouterr()
    only_across = 2 * sp.Sum(bX[i] * sp.sin(m * th[i]), (i, 0, N - 1))
    for wrong in (total(2, -2), total(-2, -2), total(1, 1), only_across, "2 sin", None):
        assert not checks.diagonal(lambda wrong=wrong: wrong, logit, m, n)
        assert "sin(" not in capsys.readouterr().out
    assert not checks.diagonal(lambda: total(2, 2).function, logit, m, n)
    assert "adds up all" in capsys.readouterr().out
    assert not checks.diagonal(lambda: logit(-m, -n) - logit(m, n), logit, m, n)
    assert "without what the two share" in capsys.readouterr().out


def turn(angle):
    return a * sp.cos(angle * theta) - b * sp.sin(angle * theta)


def check_raster(raster, confused):
    return checks.raster(raster, lambda: confused, (a, b, theta, W), n)


def test_one_axis(capsys):
    assert check_raster(lambda x, y: turn(x + W * y), n * W)
    assert check_raster(lambda x, y: sp.expand_trig(turn(x + W * y)), n * W)
    capsys.readouterr()
    wrong = [
        (lambda x, y: turn(W * x + y), n * W, "the other way round"),
        (lambda x, y: turn(x + y), n * W, "a step down"),
        (lambda x, y: turn(x) + turn(W * y), n * W, "without a displacement"),
        (lambda x, y: turn(-x - W * y), n * W, "step 3"),
        (lambda x, y: turn(x + W * y), n / W, "told apart"),
        (lambda x, y: turn(x + W * y), n, "told apart"),
        (lambda x, y: turn(x + W * y), m, "n and W alone"),
    ]
    for raster, confused, why in wrong:
        assert not check_raster(raster, confused)
        said = capsys.readouterr().out
        assert why in said and "W*" not in said and "n*W" not in said


def film(pairs, frames, rows, columns):
    moves = zip(pairs, (frames, rows, columns))
    return sp.Matrix([a * sp.cos(s * t) - b * sp.sin(s * t) for (a, b, t), s in moves])


def gram(pairs, m, n, half=False, order=(0, 1, 2)):
    moves = [(-1, 0, 0), (0, n, 0), (0, 0, -m)]
    moves = [moves[axis] for axis in order]
    still = [0 * step for step in (1, 1, 1)]
    changes = [
        film(pairs, *move) - film(pairs, *(still if half else [-step for step in move]))
        for move in moves
    ]
    together = sp.Matrix.hstack(*changes)
    return together.T * together


def test_three_axes():
    assert checks.film(film, gram)


@pytest.mark.parametrize(
    ("film", "gram", "why"),
    [
        (lambda p, t, r, c: film(p, t, c, r), gram, "only the row's pair"),
        (lambda p, t, r, c: film(p, t, r, c).T, gram, "the other way round"),
        (lambda p, t, r, c: film(p, t + r + c, r, c), gram, "only the row's pair"),
        (lambda p, t, r, c: film(p, -t, r, c), gram, "the frame's pair should do"),
        (film, lambda p, m, n: gram(p, m, n, half=True), "earlier minus later"),
        (film, lambda p, m, n: gram(p, m, n, order=(0, 2, 1)), "order"),
        (film, lambda p, m, n: gram(p, n, m), "front minus behind"),
        (film, lambda p, m, n: sp.eye(3), "earlier minus later"),
        (film, lambda p, m, n: gram(p, m, n)[:2, :2], "shape"),
    ],
)
def test_other_films_are_refused(film, gram, why, capsys):
    assert not checks.film(film, gram)
    said = capsys.readouterr().out
    assert said.startswith("✗") and why in said and "sin" not in said
