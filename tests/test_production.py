"""What chapter 11 catches of transformers' own code."""

import pytest
import torch

import whatwhere as ww
from whatwhere import world
from whatwhere.book import production


def test_tables_are_the_cosines_and_sines_of_row_and_column():
    state = torch.get_rng_state()
    cos, sin = production.tables(8, (4, 6))
    assert torch.equal(torch.get_rng_state(), state), "nobody's random numbers change"
    assert cos.shape == sin.shape == (24, 8)
    at = production.merged_order((4, 6)).double()
    # two frequencies, 1 and 10000 ** (-1 / 2), for the row and then for the column; all twice
    theta = torch.tensor([1.0, 0.01]).double()
    angles = torch.cat([at[:, :1] * theta, at[:, 1:] * theta], dim=1).repeat(1, 2)
    assert torch.allclose(cos.double(), angles.cos(), atol=1e-6)
    assert torch.allclose(sin.double(), angles.sin(), atol=1e-6)


def test_four_patches_of_a_token_follow_each_other():
    at = production.merged_order((4, 6)).tolist()
    assert at[:5] == [[0, 0], [0, 1], [1, 0], [1, 1], [0, 2]]
    assert sorted(map(tuple, at)) == [(r, c) for r in range(4) for c in range(6)]


def test_an_odd_grid_is_refused():
    with pytest.raises(ValueError, match="two by two|Two by two"):
        production.tables(8, (3, 4))


def test_what_heads_put_out_leads_to_what_the_block_adds():
    vlm = ww.load("toy-qwen2vl")
    image = world.scene(3).image
    caught = production.vision_outputs(vlm, image)
    patches = len(vlm.positions(image).vit)
    size = vlm.vision_blocks[0].attn.proj.in_features
    assert [each.shape for each in caught] == [(patches, size)] * len(vlm.vision_blocks)
    said = production.language_outputs(vlm, image, "what colour is the mug ?")
    tokens = vlm.prepare(image, "what colour is the mug ?")["input_ids"].shape[1]
    assert len(said) == vlm.n_layers and {len(each) for each in said} == {tokens}
    again = production.vision_outputs(vlm, image)
    assert len(again) == len(caught), "the hooks are taken away"
