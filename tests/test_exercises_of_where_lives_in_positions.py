"""The checks of chapter 8 refuse plausible wrong answers, and do not say the right one."""

import numpy as np
import pytest

import whatwhere as ww
from whatwhere.book.exercises import where_lives_in_positions as checks

SIDE = (12, 12)
PLACES = np.indices(SIDE).reshape(2, -1).T


@pytest.fixture(scope="module")
def vlm():
    return ww.load("toy-llava")


@pytest.fixture(scope="module")
def table(vlm):
    return vlm.adapter.position_table.weight.detach()[1:].float().numpy()


def explained_by(vectors, labels):
    means = np.zeros(vectors.shape)
    for label in np.unique(labels):
        means[labels == label] = vectors[labels == label].mean(axis=0)
    return ((means - vectors.mean(0)) ** 2).sum() / ((vectors - vectors.mean(0)) ** 2).sum()


def forgot_the_mean(vectors, labels):
    means = np.array([vectors[labels == label].mean(axis=0) for label in labels])
    return (means**2).sum() / (vectors**2).sum()


def one_group_a_vote(vectors, labels):
    """Groups weigh alike, however many members they have, and not as their patches do."""
    means = np.array([vectors[labels == label].mean(axis=0) for label in np.unique(labels)])
    return ((means - means.mean(0)) ** 2).sum() / ((vectors - vectors.mean(0)) ** 2).sum()


def groups_weigh_alike(vectors, labels):
    """Right where all groups are of one size."""
    means = np.array([vectors[labels == label].mean(axis=0) for label in np.unique(labels)])
    about = means - vectors.mean(axis=0)
    return (about**2).sum(axis=1).mean() / vectors.var(axis=0).sum()


def test_groups_of_different_sizes(table, capsys):
    assert not checks.explained_by(groups_weigh_alike, table, PLACES)
    assert "of different sizes" in capsys.readouterr().out


@pytest.mark.parametrize(
    "wrong",
    [forgot_the_mean, one_group_a_vote, lambda v, n: 1 - explained_by(v, n), lambda v, n: None],
)
def test_groups_refused(wrong, table, capsys):
    assert not checks.explained_by(wrong, table, PLACES)
    said = capsys.readouterr().out
    assert said.startswith("✗") and f"{explained_by(table, PLACES[:, 0]):.1%}" not in said


def test_groups_taken(table):
    assert checks.explained_by(explained_by, table, PLACES)


def readable(states, places, penalty=1.0, parts=12):
    """R² of ridge regression by hand, on parts left out."""
    x, y = states - states.mean(0), places - places.mean(0)
    said = np.zeros(y.shape)
    for part in np.array_split(np.arange(len(x)), parts):
        rest = np.setdiff1d(np.arange(len(x)), part)
        mean_x, mean_y = x[rest].mean(0), y[rest].mean(0)
        a = x[rest] - mean_x
        weights = np.linalg.solve(a.T @ a + penalty * np.eye(a.shape[1]), a.T @ (y[rest] - mean_y))
        said[part] = (x[part] - mean_x) @ weights + mean_y
    return 1 - ((said - y) ** 2).sum(0) / (y**2).sum(0)


def fitted_to_itself(states, places):
    x, y = states - states.mean(0), places - places.mean(0)
    weights = np.linalg.lstsq(x, y, rcond=None)[0]
    return 1 - ((x @ weights - y) ** 2).sum(0) / (y**2).sum(0)


def solid(states, places):
    """Penalties as the solution chooses them: small for few features, larger for many."""
    return readable(states, places, 1e-2 if states.shape[1] < 10 else 10.0)


@pytest.mark.parametrize(
    "wrong",
    [fitted_to_itself, lambda s, p: solid(s, p)[::-1], lambda s, p: solid(s, p).mean()],
)
def test_reading_refused(wrong, vlm, table, capsys):
    assert not checks.readable(wrong, vlm, table, PLACES)
    assert capsys.readouterr().out.startswith("✗")


def test_reading_what_was_fitted(vlm, table, capsys):
    def fitted(states, places):
        # so strong a penalty that it hides in noise
        x, y = states - states.mean(0), places - places.mean(0)
        penalty = 1e-2 if x.shape[1] < 20 else 1000.0
        weights = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ y)
        return 1 - ((x @ weights - y) ** 2).sum(0) / (y**2).sum(0)

    assert not checks.readable(fitted, vlm, table, PLACES)
    assert "a code of its own" in capsys.readouterr().out


def test_reading_taken(vlm, table):
    assert checks.readable(solid, vlm, table, PLACES)


def moved(table, which, by, clip=True, down=False, least=0):
    row, column = np.indices(SIDE)
    if down:
        row = np.clip(row + by * which, 0, 11)
    else:
        column = column + by * which
        column = np.clip(column, least, 11) if clip else column % 12
    return table.reshape(*SIDE, -1)[row, column].reshape(table.shape)


def test_moving_refused(table, capsys):
    def ask(scene, vectors):
        raise AssertionError("no model is asked about a table of the wrong form")

    wrong = [
        lambda which, by: moved(table, which, by, down=True),
        lambda which, by: moved(table, which, by, clip=False),
        lambda which, by: moved(table, which, -by),
        lambda which, by: moved(table, which, by, least=-12),
        lambda which, by: moved(table, ~which, by),
        lambda which, by: moved(table, which, by).reshape(*SIDE, -1),
    ]
    for answer in wrong:
        assert not checks.moved(answer, table, SIDE, ask)
    said = capsys.readouterr().out.splitlines()
    assert "rows and columns are the other way round" in said[0]
    assert "at its edge" in said[3], "a place left of the first is none at the right"
    assert len(set(said)) == len(wrong) - 1 and "shape" in said[-1]


def test_a_table_is_not_to_be_changed(table, capsys):
    own = table.copy()

    def in_place(which, by):
        own[which.ravel()] = moved(own, which, by)[which.ravel()]
        return own

    assert not checks.moved(in_place, own, SIDE, lambda scene, vectors: "right")
    assert "has changed" in capsys.readouterr().out


def test_moving_taken(table, capsys):
    def right(which, by):
        return moved(table, which, by)

    assert checks.moved(right, table, SIDE, lambda scene, vectors: "right")
    assert not checks.moved(right, table, SIDE, lambda scene, vectors: "left")
    assert "right" not in capsys.readouterr().out.splitlines()[-1]
