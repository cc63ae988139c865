"""The checks refuse plausible wrong answers, without telling the right one."""

import numpy as np
import pytest

import whatwhere as ww
from whatwhere import world
from whatwhere.book.exercises import a_fair_bench as checks
from whatwhere.compress import groups, judge

FAMILIES = {"existence": ["existence"], "attributes": ["colour"]}


def sentence(capsys, outcome):
    assert not outcome
    return capsys.readouterr().out.splitlines()[-1]


@pytest.fixture(scope="module")
def models():
    return {"toy-llava": ww.load("toy-llava")}


@pytest.fixture(scope="module")
def scenes():
    return list(world.scenes("dev", 2))


def farthest(distances, n, joined=np.minimum, used=-1, start=0):
    chosen, nearest = [start], distances[start].copy()
    while len(chosen) < n:
        nearest[chosen[-1]] = used
        chosen.append(int(nearest.argmax()))
        nearest = joined(nearest, distances[chosen[-1]])
    return chosen


def from_the_first(distances, n):
    return np.argsort(-distances[0], kind="stable")[-1:].tolist() + list(
        np.argsort(-distances[0], kind="stable")[: n - 1]
    )


def last_of_equals(distances, n):
    chosen = [0]
    while len(chosen) < n:
        nearest = distances[chosen].min(axis=0)
        nearest[chosen] = -1
        chosen.append(int(np.flatnonzero(nearest == nearest.max())[-1]))
    return chosen


def changes_what_it_is_given(distances, n):
    chosen = farthest(distances, n)
    distances[chosen] = -1
    return chosen


def test_farthest(capsys):
    assert checks.farthest(farthest)
    assert checks.farthest(lambda d, n: np.array(farthest(d, n))), "an array will do"
    capsys.readouterr()
    for wrong, said in {
        from_the_first: "another point is farther",
        lambda d, n: farthest(d, n, joined=np.maximum): "chosen twice",
        lambda d, n: farthest(d, n, joined=np.add, used=-np.inf): "another point is farther",
        lambda d, n: list(range(n)): "another point is farther",
        lambda d, n: farthest(d, n, start=1): "given in the text",
        lambda d, n: farthest(d, n)[:1] * n: "chosen twice",
        lambda d, n: [0, *[99] * (n - 1)]: "no numbers of points",
        lambda d, n: farthest(d, n)[1:]: "should have the shape",
        last_of_equals: "equally far",
        changes_what_it_is_given: "should not change",
        lambda d, n: None: "is None",
    }.items():
        assert said in sentence(capsys, checks.farthest(wrong)), said


def longest(sight, keep, descending=True):
    lengths = sight.tokens.norm(dim=-1)
    rank = lengths.argsort(descending=descending, stable=True)
    return groups.only(rank[:keep].numpy(), len(sight.tokens))


def test_longest(models, scenes, capsys):
    assert checks.longest(longest, models, scenes, FAMILIES)
    capsys.readouterr()

    def by_sum(sight, keep):
        rank = sight.tokens.sum(dim=-1).argsort(descending=True)
        return groups.only(rank[:keep].numpy(), len(sight.tokens))

    def by_absolute_sum(sight, keep):
        rank = sight.tokens.abs().sum(dim=-1).argsort(descending=True)
        return groups.only(rank[:keep].numpy(), len(sight.tokens))

    def first_ones(sight, keep):
        return groups.only(np.arange(keep), len(sight.tokens))

    for wrong, said in {
        lambda s, k: longest(s, k, descending=False): "is shorter than one that goes",
        by_sum: "is shorter than one that goes",
        by_absolute_sum: "is shorter than one that goes",
        first_ones: "is shorter than one that goes",
        lambda s, k: longest(s, k + 1): "of 40 tokens",
        lambda s, k: longest(s, 2): "of 40 tokens",
        lambda s, k: np.flatnonzero(longest(s, k) >= 0): "should have the shape",
        lambda s, k: None: "is None",
    }.items():
        assert said in sentence(capsys, checks.longest(wrong, models, scenes, FAMILIES)), said


def equal_work(vlm, scenes, keep, first="fastv", second="divprune", turned=False, **how):
    inside = judge.judged(vlm, scenes, FAMILIES, first, keep)
    many = how.get("many", round(inside.on_average))
    before = judge.judged(vlm, scenes, FAMILIES, second, many)
    return (before, inside) if turned else (inside, before)


def test_equal_work(models, scenes, capsys):
    assert checks.equal_work(equal_work, models, scenes, FAMILIES)
    capsys.readouterr()
    for wrong, said in {
        lambda v, s, k: equal_work(v, s, k, many=k): "as many tokens as the first",
        lambda v, s, k: equal_work(v, s, k, second="fastv"): "as many tokens as the first",
        lambda v, s, k: equal_work(v, s, 2 * k): "`keep` tokens in the end",
        lambda v, s, k: equal_work(v, s, k, turned=True): "the other way round",
        lambda v, s, k: equal_work(v, s[:1], k): "all the scenes",
        lambda v, s, k: [each.accuracy for each in equal_work(v, s, k)]: "judge.judged",
        lambda v, s, k: equal_work(v, s, k)[0]: "two things",
        lambda v, s, k: None: "is None",
    }.items():
        assert said in sentence(capsys, checks.equal_work(wrong, models, scenes, FAMILIES)), said

    # where it matters which tokens stay
    told = {"description": ["description"]}

    def at_random(vlm, scenes, keep):
        inside = judge.judged(vlm, scenes, told, "fastv", keep)
        return inside, judge.judged(vlm, scenes, told, "random", round(inside.on_average))

    some = list(world.scenes("dev", 12))
    said = sentence(capsys, checks.equal_work(at_random, models, some, told))
    assert "not what divprune answers" in said
