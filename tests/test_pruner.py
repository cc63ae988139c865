"""The pruner of book/pruner.md: its code, as it stands on the page, against our own path."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import whatwhere as ww
from closeness import SAME, apart
from whatwhere import compress

PAGE = Path(__file__).parents[1] / "book" / "pruner.md"


@pytest.fixture(scope="module")
def pruner():
    """{name: what the page's first block of code defines}."""
    code = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)[0]
    defined = {}
    exec(compile(code, str(PAGE), "exec"), defined)
    return defined


def picture(seed, size):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))


@pytest.mark.parametrize("name, function", [("runs", "run_lengths"), ("gather", "gather")])
@pytest.mark.parametrize("rate", [0.25, 0.6, 0.9])
@pytest.mark.parametrize("family", ["toy-llava", "toy-qwen2vl", "hub/qwen2_5_vl", "hub/internvl"])
def test_the_language_model_is_given_the_same(pruner, checkpoint, family, name, function, rate):
    path = checkpoint(family) if family.startswith("hub") else family
    vlm = ww.load(path, device="cpu", dtype="float32")
    scene = ww.world.scene(seed=7).image
    image = picture(3, (40, 56)) if family.startswith("hub") else scene
    tokens, grid = vlm.visual_tokens(image), vlm.patch_grid(image)
    at, seen = vlm.positions(image, "what"), {}
    mask, merged, lengths = pruner[function](tokens, grid, rate)
    kept = pruner["retained_count"](len(tokens), rate)
    assert (int(mask.sum()), len(merged), int(lengths.sum())) == (kept, kept, len(tokens))
    with compress.compressed(vlm, name, keep=kept) as log:
        hook = vlm.lm.register_forward_pre_hook(lambda m, a, k: seen.update(k), with_kwargs=True)
        vlm.logits(image, "what")
        hook.remove()
    start = int(at.index[0])
    assert torch.equal(seen["position_ids"][..., 0, start : start + kept], at.lm[..., mask])
    assert apart(seen["inputs_embeds"][0, start : start + kept], merged) < SAME
    assert np.bincount(log.groups[0]).tolist() == lengths.tolist()


def test_how_many_stay_is_known_from_the_grid_alone(pruner):
    for n, rate, due in ((576, 0.0, 576), (576, 0.75, 144), (10, 0.999, 1), (1, 0.5, 1)):
        assert pruner["retained_count"](n, rate) == due
    for function in ("run_lengths", "gather"):
        same = torch.ones(12, 4)  # all alike: an exact number all the same
        mask, merged, lengths = pruner[function](same, (3, 4), 0.5)
        assert int(mask.sum()) == 6 and torch.equal(merged, torch.ones(6, 4))
        assert int(lengths.sum()) == 12
