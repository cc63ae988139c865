"""Every chapter's calls on every family's true class: they work, or say why not; and 4-bit loading asks for what it needs."""

import pytest

import whatwhere as ww
from whatwhere import rehearsal

pytestmark = pytest.mark.usefixtures("one_thread")
NO_ROTATIONS, ONE_TENSOR = "has no 2-D RoPE", "which no hook reaches"
REFUSED = {
    "llava": {"queries and keys of the ViT's 2-D RoPE": NO_ROTATIONS, "RoPE scaling": NO_ROTATIONS},
    "qwen2_vl": {},
    "qwen2_5_vl": {},
    "internvl": {
        "queries and keys of the ViT's 2-D RoPE": NO_ROTATIONS, "RoPE scaling": NO_ROTATIONS,
        "patches moved elsewhere": ONE_TENSOR,
    },
}  # fmt: skip


@pytest.mark.parametrize("family", rehearsal.FAMILIES)
def test_every_call_works_or_says_why_not(family, tmp_path):
    vlm = ww.load(rehearsal.checkpoint(tmp_path / family, family))
    before = [p.clone() for p in vlm.model.parameters()]
    tour = rehearsal.tour(vlm, ww.world.scene(seed=3).image)
    assert len(tour) == 12 and set(tour["chapter"]) == {1, 2, 3, 4, 5, 6, 8, 9, 10, 11}
    for _, (_, what, works) in tour.iterrows():
        due = REFUSED[family].get(what, "yes")
        assert due in works and (due == "yes") == (works == "yes"), (what, works)
    assert all(a.equal(b) for a, b in zip(before, vlm.model.parameters()))
    assert not vlm.lm._forward_pre_hooks and not vlm.adapter.vision._forward_pre_hooks


def test_a_family_without_a_rehearsal(tmp_path):
    with pytest.raises(ValueError, match="no rehearsal for the family 'gpt'; there are llava, qwen2_vl"):
        rehearsal.checkpoint(tmp_path, "gpt")


def test_a_fault_in_the_code_is_no_refusal(monkeypatch, tmp_path):
    vlm = ww.load(rehearsal.checkpoint(tmp_path / "llava", "llava"))
    monkeypatch.setattr(vlm, "vit_states", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        rehearsal.tour(vlm, ww.world.scene(seed=3).image)


def test_four_bits_need_bitsandbytes(monkeypatch, tmp_path):
    from whatwhere import loading

    folder = rehearsal.checkpoint(tmp_path / "llava", "llava")
    monkeypatch.setattr(loading, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="needs bitsandbytes: `pip install bitsandbytes`"):
        ww.load(folder, dtype="4-bit")


def test_four_bits_where_bitsandbytes_is(tmp_path):
    pytest.importorskip("bitsandbytes")
    folder = rehearsal.checkpoint(tmp_path / "qwen2_vl", "qwen2_vl")
    vlm, picture = ww.load(folder, dtype="4-bit"), ww.world.scene(seed=3).image
    assert type(vlm.lm_layers[0].mlp.down_proj).__name__ == "Linear4bit"
    assert vlm.answer(picture, "what is this ?", max_new_tokens=2)
    assert ww.lens.token_maps(vlm, picture).ids.shape[0] == vlm.depths + 1


def test_a_folder_has_no_revision(tmp_path):
    folder = rehearsal.checkpoint(tmp_path / "llava", "llava")
    with pytest.raises(ValueError, match="only the hub's models have revisions"):
        ww.load(folder, revision="abc")
