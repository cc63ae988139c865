"""Our names and paths against the untouched transformers forward, and what they refuse."""

import json
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

import shapes
import whatwhere as ww
from closeness import OTHER, SAME, apart
from processors import prepared
from whatwhere import images, models
from whatwhere.book import rehearsal
from whatwhere.book.rehearsal.checkpoints import llava, qwen2vl

SMOLVLM = ("smolvlm", "idefics3")
# the ViT's own norm, where the connector reads through one
NORMS = {"internvl": "layernorm"} | dict.fromkeys(SMOLVLM, "post_layernorm")
QUESTIONS = [
    "is there a cup?",
    "what colour is the bear on the left of the striped bowl?",
    "how many?",
]


def picture(width=40, height=28, seed=0):
    return Image.fromarray(
        np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    )


@pytest.fixture(scope="module", params=shapes.PARITY)
def vlm(request, checkpoint):
    return ww.load(checkpoint(request.param))


def theirs(vlm, images, questions):
    """Inputs made without us: by the family's own processor, or, for some, the placeholder expanded
    in the string, and padding."""
    by_hand = vlm.family in ("llava", "internvl") or "qwen" in vlm.family
    if "/hub/" in vlm.name or not by_hand:
        return prepared(vlm, images, questions)
    given = dict(vlm.image_processor(images, return_tensors="pt"))
    config = vlm.model.config
    if vlm.family == "llava":
        whole = config.vision_feature_select_strategy == "full"
        counts = [
            (config.vision_config.image_size // config.vision_config.patch_size) ** 2 + whole
        ] * len(images)
        mark, written = "<image>", "{}"
    elif vlm.family == "internvl":
        given.pop("num_patches")
        counts, mark, written = (
            [config.image_seq_length] * len(images),
            "<IMG_CONTEXT>",
            "<img>{}</img>",
        )
    else:
        counts = (
            given["image_grid_thw"].prod(-1) // config.vision_config.spatial_merge_size**2
        ).tolist()
        mark, written = "<|image_pad|>", "{}"
    texts = [
        vlm.tokenizer.apply_chat_template(
            [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}],
            tokenize=False,
            add_generation_prompt=True,
        ).replace(mark, written.format(mark * n))
        for question, n in zip(questions, counts)
    ]
    text = vlm.tokenizer(texts, padding=True, return_tensors="pt")
    kinds = {"mm_token_type_ids": (text["input_ids"] == vlm.model.config.image_token_id).int()}
    return {
        "input_ids": text["input_ids"],
        "attention_mask": text["attention_mask"],
        **given,
        **(kinds if "qwen" in vlm.family else {}),
    }


def pixels(inputs):
    """Of these, what a ViT takes."""
    return {name: inputs[name] for name in ("pixel_values", "image_grid_thw") if name in inputs}


def hooks(model):
    return {
        name: (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks))
        for name, m in model.named_modules()
    }


@torch.no_grad()
def test_logits_are_those_of_transformers(vlm):
    images = [picture(40, 28), picture(24, 48, 1), picture(31, 31, 2)]
    inputs = theirs(vlm, images, QUESTIONS)
    expected = vlm.model(**inputs).logits
    ours = vlm.logits(images, QUESTIONS)
    real = inputs["attention_mask"].bool()
    assert real.logical_not().any(), "the batch should hold padding"
    assert ours.shape == expected.shape
    assert apart(ours[real], expected[real]) < SAME
    assert expected[real].std() > 0.1, "logits too alike to tell a mistake"
    for image, question, row, keep in zip(images, QUESTIONS, expected, real):
        # alone: no padding, other kernels
        assert apart(vlm.logits(image, question), row[keep]) < SAME


@torch.no_grad()
def test_vit_states_are_what_the_connector_makes_visual_tokens_of(vlm):
    images = [picture(40, 28), picture(24, 48, 1)]
    every = vlm.vit_states(images)
    for states, tokens in zip(every, vlm.visual_tokens_by_depth(images), strict=True):
        assert states.shape[:2] == tokens.shape[:2] == (vlm.last_depth + 1, tokens.shape[1])
        width = (
            vlm.vision_blocks[0].norm1.weight.numel() if "qwen" in vlm.family else states.shape[-1]
        )
        by_patch, connector = states.unflatten(-1, (vlm.adapter.merge**2, -1)), vlm.connector
        if vlm.family in NORMS:  # patch by patch
            states = getattr(vlm.adapter.vision, NORMS[vlm.family])(by_patch).flatten(-2)
        if vlm.family in SMOLVLM:
            connector = connector.modality_projection
        assert apart(connector(states.reshape(-1, width)).reshape(tokens.shape), tokens) < SAME
    assert torch.equal(vlm.vit_states(images[1], [1]), vlm.vit_states(images[1])[1:2])
    with pytest.raises(ValueError, match="depth"):
        vlm.vit_states(images[0], [vlm.last_depth + 1])


@torch.no_grad()
def test_prepared_inputs_are_those_of_transformers(vlm):
    images = [picture(40, 28), picture(24, 48, 1)]
    ours, expected = vlm.prepare(images, QUESTIONS[:2]), theirs(vlm, images, QUESTIONS[:2])
    assert ours.keys() == expected.keys()
    for name in ours:
        assert torch.equal(ours[name], expected[name]), name


def test_answers_are_those_of_generate(vlm):
    images = [picture(40, 28), picture(24, 48, 1)]
    inputs = theirs(vlm, images, QUESTIONS[:2])
    plain = {
        "do_sample": False,
        "repetition_penalty": 1.0,
        "pad_token_id": vlm.tokenizer.pad_token_id,
    }
    ids = vlm.model.generate(**inputs, **plain, max_new_tokens=6)
    expected = [
        vlm.tokenizer.decode(row[inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        for row in ids
    ]
    assert vlm.answer(images, QUESTIONS[:2], max_new_tokens=6) == [
        text.strip() for text in expected
    ]
    assert vlm.answer(images, QUESTIONS[:2], max_new_tokens=6, batch_size=1) == [
        text.strip() for text in expected
    ]
    alone = vlm.answer(images[0], QUESTIONS[0], max_new_tokens=6)
    assert isinstance(alone, str) and alone == expected[0].strip()
    assert (
        len(vlm.answer(images[0], QUESTIONS)) == len(vlm.answer([images[0]] * 3, QUESTIONS[0])) == 3
    )


@torch.no_grad()
def test_nothing_is_left_behind(vlm):
    image = picture()
    # transformers adds hooks of its own on the first run, for good
    vlm.model(**vlm.prepare(image, QUESTIONS[0]))
    weights = {name: value.clone() for name, value in vlm.model.state_dict().items()}
    before = hooks(vlm.model)
    vlm.answer(image, QUESTIONS[0], max_new_tokens=2)
    vlm.logits(image, QUESTIONS[0])
    vlm.visual_tokens_by_depth(image)
    ww.lens.token_maps(vlm, image)
    inputs = vlm.prepare(image, QUESTIONS[0])
    with pytest.raises(RuntimeError):  # half-way
        vlm.lm_hidden(vlm.embed(inputs), position_ids=vlm.position_ids(inputs)[..., 1:])
    assert hooks(vlm.model) == before
    assert all(torch.equal(value, weights[name]) for name, value in vlm.model.state_dict().items())
    assert not vlm.model.training and not any(p.requires_grad for p in vlm.model.parameters())


@torch.no_grad()
def test_every_depth_is_a_vit_with_its_later_blocks_removed(vlm):
    images = [picture(40, 28), picture(24, 48, 1)]
    inputs = theirs(vlm, images, QUESTIONS[:2])
    by_depth = vlm.visual_tokens_by_depth(images)
    for depth in range(1, vlm.last_depth + 1):
        features = shapes.cut(vlm, depth).model.get_image_features(**pixels(inputs))
        for ours, expected in zip(by_depth, features.pooler_output):
            # a class token that is kept
            expected = expected[1:] if len(expected) > ours.shape[1] else expected
            assert apart(ours[depth], expected) < SAME
    assert torch.equal(vlm.visual_tokens(images[0]), vlm.visual_tokens(images[0], vlm.last_depth))
    assert apart(vlm.visual_tokens(images)[1], by_depth[1][-1]) < SAME
    assert apart(vlm.visual_tokens(images[0], 0), vlm.visual_tokens(images[0], 1)) > OTHER


@torch.no_grad()
def test_what_deeper_vit_blocks_would_add_in_the_lm_is_left_out(checkpoint):
    """DeepStack, with the ViT cut at every depth: additions and logits are those of a model without
    the later blocks."""
    for name in ("qwen3vl", "qwen3vl, no merging, tied, the last block added first"):
        vlm = ww.load(checkpoint(name))
        inputs, width = (
            vlm.prepare([picture(40, 28), picture(24, 48, 1)], QUESTIONS[:2]),
            vlm.unembedding.weight.shape[1],
        )
        real, seen = inputs["attention_mask"].bool(), vlm.visual(inputs)
        assert (
            len(vlm.adapter.extra_depths) == 2 and vlm.visual_tokens(picture()).shape[-1] == width
        )
        for depth in range(1, vlm.last_depth + 1):
            short, own = shapes.cut(vlm, depth), [tokens[depth] for tokens in seen]
            added = short.get_image_features(
                inputs["pixel_values"], inputs["image_grid_thw"]
            ).deepstack_features
            for n, extra in enumerate(vlm.adapter.extra_depths):
                part = torch.cat(own)[:, (n + 1) * width : (n + 2) * width]
                assert apart(part, torch.cat(added[n])) < SAME if extra <= depth else not part.any()
            hidden = vlm.lm_hidden(
                vlm.embed(inputs, own), inputs["attention_mask"], vlm.position_ids(inputs)
            )
            logits = vlm.unembedding(vlm.final_norm(hidden))
            assert apart(logits[real], short(**inputs).logits[real]) < SAME
        without = [torch.nn.functional.pad(tokens[:, :width], (0, 2 * width)) for tokens in own]
        hidden = vlm.lm_hidden(
            vlm.embed(inputs, without), inputs["attention_mask"], vlm.position_ids(inputs)
        )
        assert apart(vlm.unembedding(vlm.final_norm(hidden))[real], logits[real]) > OTHER, (
            "the additions should matter"
        )
        embeddings, states = vlm.embed_with_states(inputs)
        assert torch.equal(embeddings, vlm.embed(inputs)) and len(states[0]) == vlm.last_depth + 1


@torch.no_grad()
def test_depth_zero_is_a_vit_without_blocks(vlm):
    inputs = vlm.prepare(picture(), QUESTIONS[0])
    if vlm.family == "llava":  # in which transformers finds no state to read without blocks
        tower = getattr(vlm.model.model.vision_tower, "vision_model", vlm.model.model.vision_tower)
        states = tower.pre_layrnorm(tower.embeddings(inputs["pixel_values"]))
        expected = vlm.connector(states)[0, 1:]
    else:
        expected = shapes.cut(vlm, 0).model.get_image_features(**pixels(inputs)).pooler_output[0]
    assert apart(vlm.visual_tokens(picture(), 0), expected) < SAME


@torch.no_grad()
def test_states_of_a_picture_are_those_of_its_tokens(vlm):
    inputs = vlm.prepare(picture(), QUESTIONS[0])
    index = vlm.positions(picture(), QUESTIONS[0]).index
    embeddings, places = vlm.embed(inputs), vlm.position_ids(inputs)
    for layer in range(vlm.n_layers + 1):
        whole = vlm.lm_hidden(embeddings, inputs["attention_mask"], places, layer)
        assert apart(vlm.states(picture(), layer, QUESTIONS[0]), whole[0, index]) < SAME
    last = vlm.states([picture()], prompt=QUESTIONS[0])
    assert len(last) == 1 and apart(last[0], whole[0, index]) < SAME
    with pytest.raises(ValueError, match="layer"):
        vlm.states(picture(), vlm.n_layers + 1)


@torch.no_grad()
def test_states_of_several_pictures_at_several_layers(vlm, monkeypatch):
    monkeypatch.setattr(models, "AT_ONCE", 2)
    pictures = [picture(seed=seed) for seed in range(3)]
    layers, depth = [0, vlm.n_layers], vlm.last_depth - 1
    found = vlm.states(pictures, layers, depth=depth)
    for image, states in zip(pictures, found, strict=True):
        assert apart(states[0], vlm.visual_tokens(image, depth)) < SAME
        assert apart(states[1], vlm.states(image, depth=depth)) < SAME
    assert apart(found[0], vlm.states(pictures[0], layers)) > 100 * SAME, "depth counts"
    with pytest.raises(ValueError, match="depth"):
        vlm.states(pictures, depth=vlm.last_depth + 1)


@torch.no_grad()
def test_layers_are_those_of_transformers(vlm):
    inputs = vlm.prepare(picture(), QUESTIONS[0])
    expected = vlm.model(**inputs, output_hidden_states=True).hidden_states
    found = vlm.lm_hidden(
        vlm.embed(inputs),
        inputs["attention_mask"],
        vlm.position_ids(inputs),
        layer=list(range(vlm.n_layers + 1)),
    )
    for layer in range(vlm.n_layers):  # transformers norms its last one
        assert apart(found[layer], expected[layer]) < SAME
    assert apart(vlm.final_norm(found[-1]), expected[-1]) < SAME
    ran = []
    handle = vlm.lm_layers[-1].register_forward_hook(lambda *_: ran.append(1))
    vlm.lm_hidden(vlm.embed(inputs), layer=vlm.n_layers - 1)
    handle.remove()
    assert not ran, "blocks after the asked layer should not run"


def test_positions_and_grid(vlm):
    image = picture(40, 24)
    rows, columns = vlm.patch_grid(image)
    index, lm, vit = vlm.positions(image)
    assert len(index) == rows * columns and index.diff().eq(1).all()
    ids = vlm.prepare(image, QUESTIONS[0])["input_ids"][0]
    assert (ids[index] == vlm.model.config.image_token_id).all()
    if "qwen" not in vlm.family:
        m = vlm.adapter.merge
        assert torch.equal(lm, index)
        assert torch.equal(
            vit, torch.cartesian_prod(torch.arange(rows * m), torch.arange(columns * m))
        )
    else:
        merge, start = vlm.model.config.vision_config.spatial_merge_size, int(index[0])
        patches = theirs(vlm, [image], QUESTIONS[:1])["image_grid_thw"][0, 1:]
        assert (rows, columns) == tuple((patches // merge).tolist())
        time, row, column = lm
        # 5.4 counts its seconds otherwise
        assert (time == time[0]).all() and (time[0] == start or vlm.family == "qwen2_5_vl")
        assert torch.equal(row, start + torch.arange(rows).repeat_interleave(columns))
        assert torch.equal(column, start + torch.arange(columns).repeat(rows))
        # the patches of one token lie in one block
        blocks = vit.reshape(rows * columns, merge * merge, 2) // merge
        assert (blocks == blocks[:, :1]).all()
        # in Qwen2.5-VL a window's tokens follow each other
        window = getattr(vlm.adapter, "_window", max(rows, columns))
        places = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).tolist()
        assert blocks[:, 0].tolist() == sorted(
            places, key=lambda at: (at[0] // window, at[1] // window)
        )
        assert (
            len({tuple(place) for place in vit.tolist()})
            == len(vit)
            == rows * columns * merge * merge
        )


@torch.no_grad()
def test_the_patches_stand_where_the_vision_tower_turns_them(vlm):
    """What `positions` says of every patch against the cosines that the tower hands to its first
    block; `in_vit` orders alike."""
    if vlm.adapter.rotary is None:
        return
    caught, images = {}, [picture(40, 24), picture(24, 48, 1)]
    hook = vlm.vision_blocks[0].register_forward_pre_hook(
        lambda block, args, named: caught.update(named), with_kwargs=True
    )
    vlm.vit_states(images)
    hook.remove()
    at = torch.cat([vlm.positions(image).vit for image in images])
    angles = (at[..., None] * vlm.adapter.rotary.inv_freq).flatten(1).repeat(1, 2)
    assert apart(caught["position_embeddings"][0], angles.cos()) < SAME
    m, grids = vlm.adapter.merge, [vlm.patch_grid(image) for image in images]
    maps = [
        torch.arange(rows * m * columns * m).reshape(rows * m, columns * m)
        for rows, columns in grids
    ]
    assert vlm.adapter.in_vit(maps).tolist() == [
        row * columns * m + column
        for image, (_, columns) in zip(images, grids)
        for row, column in vlm.positions(image).vit.tolist()
    ]


def test_what_is_seen(vlm):
    image = Image.new("RGB", (40, 24), (200, 30, 60))
    image.paste((20, 90, 220), (20, 0, 40, 24))
    seen = np.asarray(vlm.seen(image)).astype(int)
    rows, columns = vlm.patch_grid(image)
    assert abs(seen.shape[1] / seen.shape[0] - columns / rows) < 1e-6
    seen = seen[len(seen) * 3 // 8 : len(seen) * 5 // 8]  # some families pad above and below
    assert (
        np.abs(seen[:, 1] - [200, 30, 60]).max() < 12
        and np.abs(seen[:, -2] - [20, 90, 220]).max() < 12
    )


@pytest.mark.parametrize("family", ["llava", "qwen2vl", "hub/llava", "hub/qwen2_5_vl"])
@torch.no_grad()
def test_bfloat16_within_its_precision(folders, family):
    vlm, exact = (ww.load(folders / family, dtype=dtype) for dtype in ("bfloat16", "float32"))
    assert vlm.dtype == torch.bfloat16
    expected = vlm.model(**vlm.prepare(picture(), QUESTIONS[0])).logits[0].float()
    ours = vlm.logits(picture(), QUESTIONS[0]).float()
    error = (expected - exact.logits(picture(), QUESTIONS[0])).abs().max()
    # no further from transformers than bfloat16 is from float32, or so
    assert (ours - expected).abs().max() <= 2 * error


@pytest.mark.parametrize("family", ["llava", "qwen2vl", "hub/qwen2_5_vl"])
@pytest.mark.parametrize("size", [(1, 1), (3, 3), (1, 3), (3, 40), (40, 1)])
def test_tiny_pictures_are_scaled_up(folders, family, size):
    vlm = ww.load(folders / family)
    image = Image.new("RGB", size, (10, 200, 40))
    rows, columns = vlm.patch_grid(image)
    assert vlm.visual_tokens(image).shape == (rows * columns, 32)
    seen = np.asarray(vlm.seen(image)).reshape(-1, 3).astype(int)
    # rows and colours not confused: still one flat green
    assert np.abs(seen - [10, 200, 40]).max() <= 1
    assert isinstance(vlm.answer(image, QUESTIONS[0], max_new_tokens=2), str)


def test_words_and_repr(vlm):
    assert len(vlm.words) == vlm.unembedding.weight.shape[0]
    assert vlm.words[vlm.tokenizer("a bear", add_special_tokens=False)["input_ids"][-1]] == "bear"
    assert vlm.family in repr(vlm) and f"{vlm.n_layers} LM layers" in repr(vlm)


# -- pixels
# --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[None, 2], ids=["qwen2_vl", "qwen2_5_vl"])
def as_published(request, tmp_path_factory):
    """Patches of 14 pixels, 2 × 2 merged, and the bounds of Qwen's own checkpoints: up to 16384
    visual tokens a picture."""
    folder = tmp_path_factory.mktemp("published")
    qwen2vl(folder, patch=14, max_tokens=16384, vision_blocks=2, window=request.param)
    return folder


def photograph(width=4032, height=3024):
    """Of 12 megapixels by default, as a telephone makes it."""
    return Image.linear_gradient("L").resize((width, height)).convert("RGB")


def test_a_large_photograph_is_reduced_by_default_and_said_to_be(as_published):
    vlm, image = ww.load(as_published), photograph()
    with pytest.warns(
        UserWarning, match="of 4032 × 3024 pixels is reduced for .*: to 30 × 41 visual tokens"
    ) as said:
        rows, columns = vlm.patch_grid(image)
    assert (rows, columns) == (30, 41) and "the checkpoint itself allows 12845056 pixels" in str(
        said[0].message
    )
    with warnings.catch_warnings():  # once
        warnings.simplefilter("error")
        maps = ww.lens.token_maps(vlm, image, top_k=1, layer=1)
    assert (
        maps.ids.shape == (3, 30, 41)
        and maps.image.size == (41 * 28, 30 * 28)
        and vlm.max_pixels == 1280 * 28**2
    )


def test_a_small_picture_is_left_as_it_is(as_published):
    vlm = ww.load(as_published)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert vlm.patch_grid(photograph(1120, 896)) == (32, 40), (
            "1280 visual tokens, neither more nor fewer"
        )


def test_pixels_are_bounded_as_asked(as_published):
    with warnings.catch_warnings():  # what one has asked for oneself needs no warning
        warnings.simplefilter("error")
        for most, grid in (
            (640 * 28**2, (21, 29)),
            (1e5, (9, 13)),
            (28**2, (1, 1)),
            (2000 * 28**2, (38, 51)),
        ):
            vlm = ww.load(as_published, max_pixels=most)
            assert vlm.max_pixels == most and vlm.patch_grid(photograph()) == grid
        vlm = ww.load(as_published, max_pixels=None)
        assert vlm.max_pixels == 16384 * 28**2 and vlm.patch_grid(photograph(2800, 2800)) == (
            100,
            100,
        )
        vlm.max_pixels = 28**2 * 100
        assert vlm.patch_grid(photograph(2800, 2800)) == (10, 10)


def test_bounds_for_a_while(as_published):
    vlm = ww.load(as_published)
    before = vlm.image_processor.size, dict(vars(vlm.image_processor))
    large, small = photograph(2000, 2000), photograph(100, 100)
    with images.bounded(vlm, min_pixels=256 * 28**2, max_pixels=512 * 28**2):
        assert vlm.patch_grid(large) == (22, 22) and vlm.patch_grid(small) == (16, 16)
        # the other bound gives way
        with pytest.raises(KeyError), images.bounded(vlm, min_pixels=2000 * 28**2):
            assert min(vlm.patch_grid(small)) >= 44
            raise KeyError
        assert vlm.patch_grid(small) == (16, 16)
    with images.bounded(vlm, max_pixels=28**2):
        assert vlm.patch_grid(small) == vlm.patch_grid(large) == (1, 1)
    assert vlm.image_processor.size is before[0] and vars(vlm.image_processor) == before[1]
    assert vlm.patch_grid(small) == (4, 4)


@pytest.mark.parametrize("change", ["size", "max_pixels", "do_resize"])
def test_a_changed_image_processor_is_asked_anew(as_published, change):
    vlm, image = ww.load(as_published), photograph(560, 280)
    assert vlm.patch_grid(image) == (10, 20)
    if change == "size":
        vlm.image_processor.size = {"shortest_edge": 28**2, "longest_edge": 50 * 28**2}
    elif change == "max_pixels":
        vlm.image_processor.max_pixels = 50 * 28**2
        assert vlm.max_pixels == 50 * 28**2
        with images.bounded(vlm, max_pixels=18 * 28**2):
            assert vlm.patch_grid(image) == (3, 6)
    else:
        vlm.image_processor.do_resize, image = False, photograph(112, 56)
        assert vlm.patch_grid(image) == (2, 4)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # transformers', of max_pixels
        assert vlm.patch_grid(image) == (5, 10) and vlm.seen(image).size == (280, 140)


def test_a_checkpoint_is_saved_with_its_own_bound(as_published, tmp_path):
    own = json.loads((as_published / "preprocessor_config.json").read_text())
    vlm = ww.load(as_published)
    vlm.save(tmp_path / "a")
    assert (
        json.loads((tmp_path / "a/preprocessor_config.json").read_text()) == own
        and vlm.max_pixels == images.MOST_PIXELS
    )
    vlm.max_pixels = 100 * 28**2  # which somebody wanted
    vlm.save(tmp_path / "b")
    assert ww.load(tmp_path / "b").max_pixels == 100 * 28**2


@pytest.mark.parametrize(
    "bad", [0, -1, True, float("nan"), float("inf"), 1.5, "many", [784], 28**2 - 1]
)
def test_bounds_that_are_none(as_published, bad):
    for set_to in (
        lambda: ww.load(as_published, max_pixels=bad),
        lambda: setattr(ww.load(as_published), "max_pixels", bad),
    ):
        with pytest.raises(
            ValueError, match="whole number of pixels|One visual token of .* is 784 pixels"
        ):
            set_to()
    with pytest.raises(ValueError, match="min_pixels is not more than max_pixels"):
        with images.bounded(ww.load(as_published), min_pixels=2000, max_pixels=1000):
            pass


@pytest.mark.parametrize("family", ["llava", "internvl"])
def test_a_model_of_one_size_has_no_bound(tmp_path, family):
    vlm = ww.load(rehearsal.tiny_random(tmp_path, family))
    assert vlm.max_pixels is None
    for set_to in (
        lambda: ww.load(tmp_path, max_pixels=10**6),
        lambda: setattr(vlm, "max_pixels", 10**6),
    ):
        with pytest.raises(ValueError, match="at one size, so that its pixels cannot be bounded"):
            set_to()


# -- refusals
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", ["", "  \n", None, 3])
def test_empty_prompt(folders, prompt):
    vlm = ww.load(folders / "llava")
    for ask in (vlm.answer, vlm.logits):
        with pytest.raises(ValueError, match="question in words"):
            ask(picture(), prompt)


def test_placeholder_in_the_prompt(folders):
    with pytest.raises(ValueError, match="put in by the chat template"):
        ww.load(folders / "llava").answer(picture(), "is there a cup in <image> ?")


def test_depth_and_layer_out_of_range(folders):
    vlm = ww.load(folders / "qwen2vl")
    for depth in (-1, 4, 1.5, True, "2"):
        with pytest.raises(ValueError, match="depth is a whole number from 0 to 3"):
            vlm.visual_tokens(picture(), depth)
    with pytest.raises(ValueError, match="layer is a whole number from 0 to 3"):
        vlm.lm_hidden(torch.zeros(1, 2, 32), layer=4)


@pytest.mark.parametrize("name", ["llava", "qwen3vl"])
def test_embeddings_of_another_width(checkpoint, name):
    """In Qwen3-VL too, where those of words alone would leave out what is added later."""
    vlm = ww.load(checkpoint(name))
    inputs = vlm.prepare(picture(), QUESTIONS[0])
    alone = vlm.model.get_input_embeddings()(inputs["input_ids"])
    with pytest.raises(
        ValueError, match=r"as `vlm.embed` makes them, of width (32|96), not (16|32)"
    ):
        vlm.lm_hidden(alone if name == "qwen3vl" else alone[..., :16])
    tokens = vlm.visual_tokens(picture())
    with pytest.raises(
        ValueError,
        match="visual tokens of width (32|96), as `vlm.visual` makes them .*; not (31|32)",
    ):
        vlm.embed(inputs, [tokens if name == "qwen3vl" else tokens[:, 1:]])


def test_pairs_lines_devices_and_dtypes(folders):
    vlm = ww.load(folders / "llava")
    with pytest.raises(ValueError, match="2 images do not pair with 3 prompts"):
        vlm.answer([picture()] * 2, QUESTIONS)
    with pytest.raises(ValueError, match="more a line than a picture"):
        vlm.patch_grid(Image.new("RGB", (900, 2)))
    with pytest.raises(ValueError, match="device is"):
        ww.load(folders / "llava", device="gpu")
    for dtype in ("int8", "nonsense", 3):
        with pytest.raises(ValueError, match="dtype is"):
            ww.load(folders / "llava", dtype=dtype)


def test_numpy_integers_are_whole_numbers(folders):
    vlm = ww.load(folders / "llava")
    assert torch.equal(vlm.visual_tokens(picture(), np.int64(2)), vlm.visual_tokens(picture(), 2))
    assert (
        ww.lens.token_maps(vlm, picture(), layer=np.argmax([0, 1]), depths=np.arange(2)).layer == 1
    )
    with pytest.raises(ValueError, match="one ViT depth at least"):
        vlm.visual_tokens_by_depth(picture(), [])


def test_an_organism_says_once_what_it_knows(tmp_path):
    llava(
        tmp_path / "toy",
        about={"organism": True, "world": "tabletop", "image_size": 24, "lens_layer": 1},
    )
    vlm = ww.load(tmp_path / "toy")
    assert vlm.lens_layer == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vlm.answer(picture(24, 24), QUESTIONS[0], max_new_tokens=1)
    picture().save(tmp_path / "photo.png")
    with pytest.warns(UserWarning, match="only ever seen the tabletop world"):
        vlm.answer(tmp_path / "photo.png", QUESTIONS[0], max_new_tokens=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vlm.answer(picture(), QUESTIONS[0], max_new_tokens=1)
    for other in (picture(), np.asarray(picture())):
        with pytest.warns(UserWarning, match="whether they fit or not"):
            ww.lens.token_maps(ww.load(tmp_path / "toy"), other)
