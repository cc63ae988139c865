"""Where the image stands in a prompt: found once, and refused where there is not one whole
image."""

import numpy as np
import pytest
import torch
from PIL import Image

import whatwhere as ww
from whatwhere import compress, intervene, places
from whatwhere.book.rehearsal.checkpoints import llava, qwen2vl

PROMPTS = ["how many", "is there a red cup ?"]


def picture(seed=0, size=(24, 24)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))


@pytest.fixture(scope="module", params=["llava", "qwen2vl"])
def vlm(request, folders):
    return ww.load(folders / request.param, device="cpu", dtype="float32")


def test_what_is_found_is_where_the_visual_tokens_are_put(vlm):
    """In a padded batch: of the embeddings, those that `embed` fills in, in the connector's
    order."""
    images = [picture(0), picture(1)]
    inputs = vlm.prepare(images, PROMPTS)
    found = places.find(vlm, inputs["input_ids"])
    text = vlm.model.get_input_embeddings()(inputs["input_ids"])
    embeddings = vlm.embed(inputs)
    assert torch.equal((embeddings != text).any(-1), found.mask) and torch.equal(
        found.mask, found.patches
    )
    for n, tokens in enumerate(vlm.visual_tokens(images)):
        assert torch.equal(embeddings[n, found.index[n]], tokens)
        assert (
            found.mask[n, found.start[n] : found.end[n]].all()
            and not found.mask[n, found.end[n] :].any()
        )
    assert found.start[0] > found.start[1], "the shorter one is padded on the left"


def test_a_class_token_stands_before_the_patches(tmp_path):
    llava(tmp_path, strategy="full")
    vlm = ww.load(tmp_path, device="cpu", dtype="float32")
    inputs = vlm.prepare([picture(), picture(1)], PROMPTS)
    found = places.find(vlm, inputs["input_ids"])
    for n in range(2):
        assert (
            found.whole[n].tolist() == [found.start[n], *found.index[n].tolist()]
            and len(found.index[n]) == 16
        )
        assert found.patches[n].nonzero()[:, 0].tolist() == found.index[n].tolist()
    assert torch.equal(vlm.positions(picture(1), PROMPTS[1]).index, found.index[1])


def test_images_of_several_grids(tmp_path):
    qwen2vl(tmp_path)
    vlm = ww.load(tmp_path, device="cpu", dtype="float32")
    images = [picture(0, (32, 48)), picture(1, (24, 24)), picture(2, (16, 64))]
    inputs = vlm.prepare(images, "what")
    found = places.find(vlm, inputs["input_ids"])
    assert places.grids(vlm, found, vlm.position_ids(inputs)) == [
        vlm.patch_grid(image) for image in images
    ]


def test_a_running_model_is_seen_through_its_embeddings(vlm):
    prompt, inputs, seen = places.Running(vlm), vlm.prepare([picture(0), picture(1)], PROMPTS), []
    handles = [
        prompt.attach(),
        vlm.lm.register_forward_pre_hook(lambda *_: seen.append(prompt.found)),
    ]
    try:
        vlm.model.generate(**inputs, max_new_tokens=3, min_new_tokens=3, do_sample=False)
        assert torch.equal(seen[0].mask, vlm.image_places(inputs)) and prompt.ids.shape == (2, 1)
        assert seen[1:] == [None, None], "what is fed after the prompt has no image"
        image = torch.full((2, 1), vlm.model.config.image_token_id)
        vlm.model.get_input_embeddings()(image)
        assert prompt.found is None, "not even if the model says the image's own token"
    finally:
        for handle in handles:
            handle.remove()
    assert not vlm.model.get_input_embeddings()._forward_hooks


def without(ids, image, change):
    """Ids in which one prompt holds no image, two, or a piece of one; as long as before."""
    ids, at = ids.clone(), (ids[1] == image).nonzero()[:, 0]
    if change == "none":
        ids[1, at] = 15
    elif change == "piece":
        ids[1, at[4:]] = 15
    else:
        ids[1, at[-1] + 1] = image
    return ids


@pytest.mark.parametrize("change, said", [
    ("none", "Prompt 1 of this batch holds no image"),
    ("piece", "Prompt 1 of this batch holds 4 visual tokens, where one whole"),
    ("more", "Prompt 1 of this batch holds .* visual tokens, where one whole image has"),
])  # fmt: skip
def test_a_prompt_that_holds_not_one_whole_image_is_refused_by_all(vlm, change, said):
    inputs = vlm.prepare([picture(0), picture(1)], PROMPTS[1])
    ids = without(inputs["input_ids"], vlm.model.config.image_token_id, change)
    positions, mask = (
        vlm.position_ids(inputs),
        torch.ones(vlm.patch_grid(picture()), dtype=torch.bool),
    )
    width = vlm.unembedding.weight.shape[1]
    changes = (
        compress.compressed(vlm, "grid", keep=3),
        compress.compressed(
            vlm, compress.Method("inside", lambda sight: np.zeros(len(sight.tokens), int), "LM 1")
        ),
        intervene.added(vlm, mask, np.ones(width), layer=1),
    )
    for context in changes:
        with context, pytest.raises(ValueError, match=said):
            embeddings = vlm.model.get_input_embeddings()(ids)
            vlm.lm(
                inputs_embeds=embeddings,
                attention_mask=inputs["attention_mask"],
                position_ids=positions,
            )
    if change == "none":
        with pytest.raises(ValueError, match=said):
            places.find(vlm, ids).end  # noqa: B018
