"""Which tokens go on as one, and which go: by hand where it is small, against a library where it is not."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from whatwhere import compress
from whatwhere.compress import groups


def sight(tokens, grid, attention=None, seed=0):
    return compress.Sight(tokens, grid, attention, np.random.default_rng(seed))


def test_runs_and_regions_by_hand():
    labels = np.array([[1, 1, 2], [2, 2, 2], [1, 2, 1]])
    assert groups.rows(labels).tolist() == [0, 0, 1, 2, 2, 2, 3, 4, 5]
    assert groups.raster(labels).tolist() == [0, 0, 1, 1, 1, 1, 2, 3, 4]
    regions = groups.regions(labels)
    assert regions.tolist() == [0, 0, 1, 1, 1, 1, 2, 1, 3]
    one = groups.rows(np.array([[7, 7, 7, 7]]))
    assert one.tolist() == [0] * 4 and groups.raster(np.array([[7]])).tolist() == [0]


def test_regions_are_those_of_an_image_library():
    labels = np.random.default_rng(0).integers(0, 3, (14, 9))
    found = groups.regions(labels)
    expected = np.zeros(labels.shape, int)
    for value in range(3):
        own, n = ndimage.label(labels == value)
        expected[own > 0] = own[own > 0] + expected.max()
    pairs = set(zip(found.tolist(), expected.ravel().tolist()))
    assert len(pairs) == len(set(found.tolist())) == expected.max()


def test_the_papers_methods_by_hand():
    """Words: 0 is a full stop, 1 a comma, 2 and 3 are words. Each token says first and second word as told."""
    said = np.array([[0, 1], [0, 2], [2, 0], [2, 3], [2, 3], [0, 1], [3, 2], [1, 0]])
    tokens = torch.zeros(8, 4).scatter_(1, torch.from_numpy(said[:, :1]), 2.0).scatter_(1, torch.from_numpy(said[:, 1:]), 1.0)
    decoder = compress.Decoder(torch.eye(4), np.array([".", ",", "cup", "red"], object))
    assert decoder.top(tokens, 2).tolist() == said.tolist() and decoder.punctuation.tolist() == [True, True, False, False]
    found = {n: compress.by_words(decoder, n)(sight(tokens, (2, 4))).tolist() for n in (1, 2, 3)}
    assert found[1] == [0, 0, 1, 1, 2, 3, 4, 5]
    assert [g >= 0 for g in found[2]] == [False, False, True, True, True, False, True, False]
    assert found[2][2] == found[2][3] != found[2][4]
    assert [g >= 0 for g in found[3]] == [False, True, True, True, True, False, True, False]
    assert groups.count(np.array(found[3])) == 4
    strict = compress.by_words(decoder, 1, same=2)(sight(tokens, (2, 4)))
    assert groups.count(strict) == 8, "equal in both words: none of these neighbours are"


@pytest.mark.parametrize("name", compress.BASELINES)
@pytest.mark.parametrize("grid", [(12, 12), (3, 7), (1, 5), (6, 1)])
def test_baselines_leave_as_many_as_they_are_told(name, grid):
    n = grid[0] * grid[1]
    tokens = torch.randn(n, 8, generator=torch.Generator().manual_seed(0))
    looked = sight(tokens, grid, lambda layer: np.random.default_rng(layer).random(n))
    for keep in sorted({1, 2, n // 3 or 1, n - 1 or 1, n, n + 5}):
        found = compress.BASELINES[name](keep)(looked)
        assert found.shape == (n,) and groups.count(found) == min(keep, n), (name, grid, keep)
        if name in ("grid", "similar"):
            assert (found >= 0).all(), "it merges, it drops nothing"
    assert groups.count(compress.BASELINES[name](0.5)(looked)) == max(1, round(n / 2))
    assert groups.count(compress.BASELINES[name](lambda s: np.zeros(n, int))(looked)) == 1


def test_a_uniform_grid_is_uniform():
    found = compress.BASELINES["grid"](9)(sight(torch.zeros(144, 2), (12, 12))).reshape(12, 12)
    assert np.unique(found, return_counts=True)[1].tolist() == [16] * 9
    for value in range(9):
        rows, columns = np.where(found == value)
        assert np.ptp(rows) == np.ptp(columns) == 3


def test_merging_by_similarity_merges_what_is_alike():
    kind = np.array([0, 0, 1, 1, 2, 2, 0, 0])  # each has a copy on the other side, so that four merges make no mistake
    noise = 0.01 * torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    found = compress.BASELINES["similar"](4)(sight(torch.eye(3)[kind] + noise, (2, 4)))
    assert len(set(zip(found.tolist(), kind.tolist()))) == 4
    tokens = torch.tensor([[1.0, 0], [1, 0.1], [0, 1], [-1, 0]])
    assert compress.BASELINES["similar"](3)(sight(tokens, (1, 4))).tolist() == [0, 0, 1, 2]
