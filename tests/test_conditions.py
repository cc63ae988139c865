"""A whole model under other conditions: what is said of them holds however it is run, in every
family, and is undone bit for bit."""

import copy
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
import torch
from PIL import Image

import shapes
import whatwhere as ww
from closeness import OTHER, SAME, apart
from whatwhere import answers, compress, conditions, intervene, lens, rope
from whatwhere.models import VLM

pytestmark = pytest.mark.usefixtures("one_thread")
PROMPTS = ["is there a red cup ?", "how many"]
SIZES = (3, 5), (4, 4)  # tokens; families of square pictures resize them to one grid
FAMILIES = [
    "llava, class token kept, second-last block, tied, one key head",
    "qwen2vl",
    "qwen2.5vl",
    "qwen3vl, no merging, tied, the last block added first",
    "internvl, tied, normed after the ViT, queries and keys normed",
    "smolvlm, merging 3 x 3, a last strip of pixels unseen, tied",
    "idefics3, merging 4 x 4, no token for the whole image",
]
EITHER = ["llava", "qwen2vl"]  # a table of positions, and 2-D RoPE


@pytest.fixture(scope="module")
def loaded(checkpoint):
    made = {}

    @torch.no_grad()
    def load(name):
        if name not in made:
            made[name] = vlm = ww.load(checkpoint(name), device="cpu", dtype="float32")
            # transformers adds hooks of its own on the first run, for good
            vlm.model(**vlm.prepare(pictures(vlm), PROMPTS))
        return made[name]

    return load


@pytest.fixture(params=FAMILIES)
def vlm(request, loaded):
    return loaded(request.param)


@pytest.fixture(params=EITHER)
def either(request, loaded):
    return loaded(request.param)


@pytest.fixture(params=[name for name in FAMILIES if name.startswith("qwen")])
def turning(request, loaded):
    """With 2-D RoPE."""
    return loaded(request.param)


def picture(vlm, rows, columns, seed=0):
    side = vlm.adapter.merge * vlm.adapter._patch
    pixels = np.random.default_rng(seed).integers(0, 256, (rows * side, columns * side, 3))
    return Image.fromarray(pixels.astype(np.uint8))


def pictures(vlm):
    return [picture(vlm, *size, seed) for seed, size in enumerate(SIZES)]


@torch.no_grad()
def native(vlm, images, prompts=PROMPTS):
    """(tokens, vocabulary) the model's own logits, padding left out."""
    inputs = vlm.prepare(images, prompts)
    return vlm.model(**inputs).logits[inputs["attention_mask"].bool()]


def by_parts(vlm, images):
    real = vlm.prepare(images, PROMPTS)["attention_mask"].bool()
    return vlm.logits(images, PROMPTS)[real]


def spoken(vlm, images, **how):
    """The ids of four tokens, with the growing cache or without one, none of them special."""
    inputs = vlm.prepare(images, PROMPTS)
    ids = vlm.model.generate(
        **inputs, max_new_tokens=4, do_sample=False, eos_token_id=-1, pad_token_id=0,
        suppress_tokens=vlm.tokenizer.all_special_ids, **how,
    )  # fmt: skip
    return ids[:, inputs["input_ids"].shape[1] :].tolist()


def changed(vlm, change):
    """A copy of the model that is changed for good."""
    return VLM(change(copy.deepcopy(vlm.model)), vlm.tokenizer, vlm.image_processor)


def drop_half(sight):
    return np.where(np.arange(len(sight.tokens)) % 2, -1, np.arange(len(sight.tokens)))


# -- the ViT's depth
# --------------------------------------------------------------------------------------------------


def test_a_truncated_model_is_the_one_that_the_lens_reads_at_this_depth(vlm):
    images, inputs = pictures(vlm), vlm.prepare(pictures(vlm), PROMPTS)
    whole, maps = native(vlm, images), lens.token_maps(vlm, images[0])
    for depth in range(vlm.last_depth + 1):
        with torch.no_grad():
            visual = [tokens[0] for tokens in vlm.visual(inputs, [depth])]
            expected = vlm.embed(inputs, visual)
        with conditions.truncated(vlm, depth), torch.no_grad():
            assert torch.equal(vlm.embed(inputs), expected)
            assert torch.equal(vlm.embed_with_states(inputs)[0], expected)
            logits = native(vlm, images)
            assert apart(by_parts(vlm, images), logits) < SAME
            inside = lens.token_maps(vlm, images[0])
        assert inside.depths == list(range(depth + 1))
        assert (inside.ids == maps.ids[: depth + 1]).all()
        assert torch.equal(logits, whole) == (depth == vlm.last_depth)


def test_a_truncated_model_is_the_one_whose_later_blocks_are_taken_out(vlm):
    images = pictures(vlm)
    inputs = vlm.prepare(images, PROMPTS)
    # transformers' LLaVA has no state without a block
    for depth in range(int(vlm.family == "llava"), vlm.last_depth):
        by_hand = shapes.cut(vlm, depth)
        with torch.no_grad():
            expected = by_hand(**inputs).logits[inputs["attention_mask"].bool()]
        with conditions.truncated(vlm, depth):
            assert apart(native(vlm, images), expected) < SAME


def test_a_truncated_model_knows_of_no_deeper_block(either):
    images, whole = pictures(either), either.last_depth
    vector = torch.ones(1)
    mask = np.ones(np.multiply(either.patch_grid(images[0]), either.adapter.merge), bool)
    with conditions.truncated(either, 1):
        for ask in (
            lambda: either.visual_tokens(images[0], 2),
            lambda: intervene.added(either, mask, vector, depth=2).__enter__(),
            lambda: conditions.truncated(either, 2).__enter__(),
        ):
            with pytest.raises(ValueError, match="depth is a whole number from 0 to 1 "):
                ask()
        for ask in (
            lambda: either.attention(images[0], depths=2),
            lambda: intervene.knockout(either, depths=2, heads=0).__enter__(),
        ):
            with pytest.raises(ValueError, match="ViT's blocks are counted from 1 to 1 "):
                ask()
        with conditions.truncated(either, 0):
            innermost = native(either, images)
        assert either.last_depth == 1 and not torch.equal(native(either, images), innermost)
    assert either.last_depth == whole
    with conditions.truncated(either, 0):
        assert torch.equal(native(either, images), innermost)


def test_an_intervention_within_a_truncated_model_reaches_it_however_it_is_run(either):
    images = pictures(either)
    grids = [np.multiply(either.patch_grid(image), either.adapter.merge) for image in images]
    masks = [np.ones(grid, bool) for grid in grids]
    features = len(either.vit_states(images[0], [0]).flatten()) // masks[0].size
    with conditions.truncated(either, 2):
        before = native(either, images)
        for depth in range(3):
            with intervene.added(either, masks, torch.arange(features) % 3, depth=depth):
                after = native(either, images)
                assert apart(by_parts(either, images), after) < SAME
            assert apart(after, before) > OTHER


# -- the ViT's places
# --------------------------------------------------------------------------------------------------


@torch.no_grad()
def zeroed(model):
    """Its table of positions and its frequencies are zero."""
    names = [
        name
        for name, _ in [*model.named_parameters(), *model.named_buffers()]
        if any(part in name for part in ("vision", "visual"))
        and any(part in name for part in ("position_embedding", "pos_embed", "inv_freq"))
    ]
    tensors = dict([*model.named_parameters(), *model.named_buffers()])
    assert names
    for name in names:
        tensors[name].zero_()
    return model


def test_without_positions_is_a_table_of_zeros_and_an_angle_of_zero(vlm):
    images, by_hand = pictures(vlm), changed(vlm, zeroed)
    with conditions.without_positions(vlm):
        assert torch.equal(native(vlm, images), native(by_hand, images))
        for states, expected in zip(vlm.vit_states(images), by_hand.vit_states(images)):
            assert torch.equal(states, expected)
        assert apart(by_parts(vlm, images), native(vlm, images)) < SAME
        inside = native(vlm, images)
    assert apart(inside, native(vlm, images)) > SAME


# where the ViT sees such a picture pixel by pixel: Idefics3's image processor blurs it
@pytest.mark.parametrize("name", ["llava", "qwen2vl", "qwen3vl", "internvl"])
def test_without_positions_patches_that_change_places_take_their_states_along(loaded, name):
    vlm = loaded(name)
    rows, columns = vlm.patch_grid(picture(vlm, 4, 4))
    seen = picture(vlm, rows, columns)
    a_row = seen.height // rows
    rolled = Image.fromarray(np.roll(np.asarray(seen), a_row, axis=0))

    def differ():
        states = vlm.vit_states(seen).unflatten(1, (rows, columns)).roll(1, dims=1)
        return apart(states.flatten(1, 2), vlm.vit_states(rolled))

    assert differ() > OTHER
    with conditions.without_positions(vlm):
        assert differ() < SAME


def test_positions_are_deleted_block_by_block(turning):
    images = pictures(turning)
    last, names = turning.last_depth, range(1, turning.last_depth + 1)
    before = turning.vit_states(images)
    with conditions.without_positions(turning):
        everywhere = turning.vit_states(images)
    table = turning.adapter.position_table is not None
    for block in names:
        with conditions.without_positions(turning, block):
            for states, whole in zip(turning.vit_states(images), before):
                assert torch.equal(states[:block], whole[:block])
                assert apart(states[block], whole[block]) > SAME
    with ExitStack() as stack:
        for block in names:
            stack.enter_context(conditions.without_positions(turning, [block]))
        for states, due in zip(turning.vit_states(images), everywhere):
            assert torch.equal(states, due) != table, "a table goes with all blocks alone"
    with conditions.without_positions(turning, names):
        angles_alone = turning.vit_states(images)
    assert all(torch.equal(a, b) != table for a, b in zip(angles_alone, everywhere))
    with pytest.raises(ValueError, match=f"ViT's blocks are counted from 1 to {last} "):
        conditions.without_positions(turning, [1, last + 1]).__enter__()


# -- the order of visual tokens
# --------------------------------------------------------------------------------------------------


def test_an_order_is_the_same_whenever_it_is_asked_for():
    for n in (0, 1, 16, 576):
        assert conditions.order(n).sort().values.tolist() == list(range(n))
        assert torch.equal(conditions.order(n, 7), conditions.order(n, 7))
    assert not torch.equal(conditions.order(16, 1), conditions.order(16, 2))


def test_shuffled_tokens_are_those_that_are_dealt_out_by_hand(vlm):
    images, inputs = pictures(vlm), vlm.prepare(pictures(vlm), PROMPTS)
    leading = vlm.adapter.leading
    with torch.no_grad():
        visual = [tokens[0] for tokens in vlm.visual(inputs, [vlm.last_depth])]
    dealt = [
        torch.cat([each[:leading], each[leading:][conditions.order(len(each) - leading, 3)]])
        for each in visual
    ]
    mask, positions = inputs["attention_mask"], vlm.position_ids(inputs)
    before = native(vlm, images)
    with torch.no_grad():
        expected = vlm.lm_hidden(vlm.embed(inputs, dealt), mask, positions)
        with conditions.shuffled(vlm, "tokens", seed=3):
            states = vlm.lm_hidden(vlm.embed(inputs), mask, positions)
            logits = native(vlm, images)
            assert apart(by_parts(vlm, images), logits) < SAME < OTHER < apart(logits, before)
    assert torch.equal(states[mask.bool()], expected[mask.bool()])


def test_shuffled_positions_are_those_that_are_dealt_out_by_hand(vlm):
    images, inputs = pictures(vlm), vlm.prepare(pictures(vlm), PROMPTS)
    mask, positions = inputs["attention_mask"], vlm.position_ids(inputs)
    dealt = positions.clone()
    for n, index in enumerate(ww.places.find(vlm, inputs["input_ids"]).index):
        for place, patch in enumerate(conditions.order(len(index), 3).tolist()):
            dealt[..., n, index[patch]] = positions[..., n, index[place]]
    before = native(vlm, images)
    with torch.no_grad():
        expected = vlm.lm_hidden(vlm.embed(inputs), mask, dealt)
        with conditions.shuffled(vlm, "positions", seed=3):
            states = vlm.lm_hidden(vlm.embed(inputs), mask, positions)
            logits = native(vlm, images)
            assert apart(by_parts(vlm, images), logits) < SAME < apart(logits, before)
    assert torch.equal(states[mask.bool()], expected[mask.bool()])


def test_the_two_shuffles_differ_by_who_comes_before_whom_alone(vlm):
    """So the question's words see the same in the first LM block, and not in the second."""
    inputs = vlm.prepare(pictures(vlm), PROMPTS)
    found = {}
    with torch.no_grad():
        for what in conditions.SHUFFLES:
            with conditions.shuffled(vlm, what):
                found[what] = vlm.lm_hidden(
                    vlm.embed(inputs), inputs["attention_mask"], vlm.position_ids(inputs), [1, 2]
                )
    first, second = (
        apart(found["tokens"][n][:, -1], found["positions"][n][:, -1]) for n in range(2)
    )
    assert first < SAME < second


@pytest.mark.parametrize("what", conditions.SHUFFLES)
def test_an_order_that_is_the_rasters_changes_nothing(vlm, what, monkeypatch):
    images = pictures(vlm)
    before, said = native(vlm, images), spoken(vlm, images)
    monkeypatch.setattr(conditions, "order", lambda n, seed: torch.arange(n))
    with conditions.shuffled(vlm, what):
        assert torch.equal(native(vlm, images), before) and spoken(vlm, images) == said


@pytest.mark.parametrize("what", conditions.SHUFFLES)
def test_a_picture_has_its_order_in_any_batch_and_without_a_mask(either, what):
    images = pictures(either)
    with conditions.shuffled(either, what):
        inputs = either.prepare(images, PROMPTS)
        length = inputs["attention_mask"].sum(1).tolist()
        together = native(either, images).split(length)
        for n, (image, prompt) in enumerate(zip(images, PROMPTS)):
            alone = native(either, image, prompt)
            assert apart(alone, together[n]) < SAME
            unmasked = either.prepare(image, prompt)
            if "image_grid_thw" not in unmasked:  # M-RoPE's positions need one
                del unmasked["attention_mask"]
            with torch.no_grad():
                assert apart(either.model(**unmasked, use_cache=False).logits[0], alone) < SAME
    ids = torch.tensor([[15, 16, 17, 18]])
    with torch.no_grad():
        before = either.model(input_ids=ids).logits
        with conditions.shuffled(either, what):
            either.logits(images, PROMPTS)  # it knows of an image, and that it is gone
            assert torch.equal(either.model(input_ids=ids).logits, before)


def test_an_exam_may_be_sat_under_a_shuffle(either):
    images = pictures(either)
    for shared in (False, True):
        exam = answers.Exam(either, images, PROMPTS, ["cup", "two"], shared)
        for what in conditions.SHUFFLES:
            with conditions.shuffled(either, what):
                assert exam.right().shape == (2,)


# -- who sees whom
# --------------------------------------------------------------------------------------------------


def by_mask(vlm, images, what):
    """The model's own logits, of the mask that the condition stands for, given to transformers."""
    inputs = vlm.prepare(images, PROMPTS)
    image, real = (
        inputs["input_ids"] == vlm.model.config.image_token_id,
        inputs["attention_mask"].bool(),
    )
    itself = torch.eye(image.shape[1], dtype=torch.bool)
    both = image[:, :, None] & image[:, None] & ~itself
    causal = itself.cumsum(0).bool() & real[:, None]
    seen = causal | both if what == "bidirectional" else causal & ~both
    mask = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)[:, None]
    hook = vlm.lm.register_forward_pre_hook(
        lambda _, args, named: (args, {**named, "attention_mask": mask}), with_kwargs=True
    )
    try:
        return native(vlm, images)
    finally:
        hook.remove()


@pytest.mark.parametrize("what", conditions.IMAGE_ATTENTION)
def test_visual_tokens_see_each_other_as_by_a_mask_of_ones_own(vlm, what):
    images = pictures(vlm)
    before, due = native(vlm, images), by_mask(vlm, images, what)
    assert apart(due, before) > OTHER
    for implementation in ("eager", "sdpa"):
        vlm.model.set_attn_implementation(implementation)
        with conditions.image_attention(vlm, what):
            assert apart(native(vlm, images), due) < SAME


def test_attention_is_shown_as_it_is_under_another_image_attention(either):
    image = picture(either, 4, 4)
    seen = either.attention(image, PROMPTS[0])
    patches = seen.weights[:, :, seen.places[:, None], seen.places]
    later = torch.ones(patches.shape[-2:], dtype=torch.bool).triu(1)
    assert (patches[..., later] == 0).all() and (patches[..., later.T] > 0).all()
    with conditions.image_attention(either, "bidirectional"):
        opened = either.attention(image, PROMPTS[0]).weights
        assert (opened[:, :, seen.places[:, None], seen.places] > 0).all()
    with conditions.image_attention(either, "removed"):
        cut = either.attention(image, PROMPTS[0]).weights
        assert (cut[:, :, seen.places[:, None], seen.places][..., later.T] == 0).all()
    for weights in (opened, cut):
        assert torch.allclose(weights.sum(-1), torch.ones(()), atol=1e-5)


def test_an_image_attention_that_there_is_not_or_that_cannot_be_is_refused(either):
    with pytest.raises(ValueError, match="'bidirectional' or 'removed'; not 'none'"):
        conditions.image_attention(either, "none").__enter__()
    image = picture(either, 4, 4)
    half = compress.Method("half", drop_half, place="LM 0")
    with conditions.image_attention(either, "removed"), compress.compressed(either, half):
        with pytest.raises(ValueError, match="needs the whole prompt and every patch of it"):
            either.logits(image, PROMPTS[0])


# -- however the model is run, and undone
# --------------------------------------------------------------------------------------------------


@contextmanager
def all_four(vlm):
    with (
        conditions.shuffled(vlm, "tokens"),
        conditions.without_positions(vlm),
        conditions.truncated(vlm, 1),
        conditions.shuffled(vlm, "positions", 1),
        conditions.image_attention(vlm, "bidirectional"),
    ):
        yield


CONDITIONS = {
    "truncated": lambda vlm: conditions.truncated(vlm, 1),
    "without positions": conditions.without_positions,
    "tokens": lambda vlm: conditions.shuffled(vlm, "tokens"),
    "positions": lambda vlm: conditions.shuffled(vlm, "positions"),
    "bidirectional": lambda vlm: conditions.image_attention(vlm, "bidirectional"),
    "removed": lambda vlm: conditions.image_attention(vlm, "removed"),
    "all four": all_four,
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_an_answer_is_written_under_the_condition(vlm, name):
    images = pictures(vlm)
    with CONDITIONS[name](vlm):
        assert apart(by_parts(vlm, images), native(vlm, images)) < SAME
        assert spoken(vlm, images) == spoken(vlm, images, use_cache=False)


def hooks(vlm):
    return [
        (module, list(by_id.values()))
        for module in vlm.model.modules()
        for by_id in (module._forward_hooks, module._forward_pre_hooks)
    ]


@pytest.mark.parametrize("name", CONDITIONS)
def test_afterwards_the_model_is_as_before_bit_for_bit(vlm, name):
    images, hung, depth = pictures(vlm), hooks(vlm), vlm.last_depth
    before, parts = native(vlm, images), vlm.logits(images, PROMPTS)
    weights = {key: each.clone() for key, each in vlm.model.state_dict().items()}

    def check():
        assert hooks(vlm) == hung and vlm.last_depth == depth
        after = vlm.model.state_dict()
        assert all(torch.equal(after[key], each) for key, each in weights.items())
        assert torch.equal(native(vlm, images), before)
        assert torch.equal(vlm.logits(images, PROMPTS), parts)

    with CONDITIONS[name](vlm):
        inside = native(vlm, images)
        assert hooks(vlm) != hung and not torch.equal(inside, before)
    check()
    with pytest.raises(RuntimeError, match="on purpose"), CONDITIONS[name](vlm):
        assert torch.equal(native(vlm, images), inside)
        raise RuntimeError("on purpose")
    check()


# -- what goes together
# --------------------------------------------------------------------------------------------------


def whole_mask(vlm, image, fine=False):
    return np.ones(np.multiply(vlm.patch_grid(image), vlm.adapter.merge if fine else 1), bool)


@pytest.mark.parametrize("what", conditions.SHUFFLES)
def test_a_shuffle_and_a_compression_refuse_each_other(either, what):
    image = picture(either, 4, 4)
    for place in ("LM 0", "LM 1", "ViT 1"):
        method = compress.Method("half", drop_half, place=place)
        both = [
            lambda method=method: compress.compressed(either, method),
            lambda: conditions.shuffled(either, what),
        ]
        for one, other in (both, both[::-1]):
            with one(), other(), pytest.raises(ValueError, match="A shuffle is of all visual tok"):
                either.logits(image, PROMPTS[0])


def test_what_goes_by_patches_refuses_shuffled_tokens_and_not_shuffled_positions(either):
    image = picture(either, 4, 4)
    mask, width = whole_mask(either, image), either.unembedding.weight.shape[1]

    def under(change):
        with change:
            either.logits(image, PROMPTS[0])

    by_patch = {
        "A token map": lambda: lens.token_maps(either, image),
        "Attention": lambda: either.attention(image, PROMPTS[0]),
        "A place's state": lambda: list(ww.geometry.states(either, [image])),
        "A mask": lambda: under(intervene.added(either, mask, torch.ones(width), layer=1)),
        "A mask is": lambda: under(intervene.knockout(either, layers=1, keys=mask)),
    }
    by_position = {
        "A lesson": lambda: compress.lessons(either, [image], progress=False),
        "Queries": lambda: rope.language_heads(either, image, PROMPTS[0]),
    }
    with conditions.shuffled(either, "tokens"):
        for words, read in {**by_patch, **by_position}.items():
            with pytest.raises(ValueError, match=f"^{words}.* own places, and they are shuffled"):
                read()
        under(intervene.knockout(either, layers=1, keys="image"))
        under(intervene.added(either, whole_mask(either, image, True), 0 * vit(either), depth=1))
    with conditions.shuffled(either, "positions"):
        for read in by_patch.values():
            read()
        for words, read in by_position.items():
            with pytest.raises(ValueError, match=f"^{words}.*their positions are shuffled"):
                read()


def vit(vlm):
    config = vlm.model.config.vision_config
    return torch.ones(getattr(config, "embed_dim", None) or config.hidden_size)


def test_no_patch_without_a_place_is_moved(either):
    image = picture(either, 4, 4)
    mask = np.zeros_like(whole_mask(either, image, True))
    mask[1, 1] = True
    both = [
        lambda: intervene.moved(either, mask, (0, 1)),
        lambda: conditions.without_positions(either),
    ]
    for one, other in (both, both[::-1]):
        with one(), other(), pytest.raises(ValueError, match="no places cannot be moved"):
            either.logits(image, PROMPTS[0])


def test_a_change_of_deeper_blocks_is_not_passed_over_without_a_word(either):
    image, last = picture(either, 4, 4), either.last_depth
    mask = whole_mask(either, image, True)
    method = compress.Method("half", drop_half, place="ViT 1")
    for change in (
        intervene.added(either, mask, vit(either), depth=last),
        compress.compressed(either, method),
    ):
        with change, pytest.raises(ValueError, match="^ViT block . is being changed, and would"):
            conditions.truncated(either, 1).__enter__()
    assert either.last_depth == last
    with conditions.without_positions(either), conditions.truncated(either, 1):
        nested = native(either, image, PROMPTS[0])
    with conditions.truncated(either, 1), conditions.without_positions(either):
        assert torch.equal(native(either, image, PROMPTS[0]), nested)


@pytest.mark.parametrize("place", ["LM 0", "LM 1", "ViT 1"])
def test_a_truncated_model_is_compressed_as_the_one_that_was_cut(either, place):
    images = [picture(either, 4, 4, seed) for seed in range(2)]
    method = compress.Method("half", drop_half, place=place)

    def compressed(vlm):
        with compress.compressed(vlm, method) as log:
            logits = vlm.logits(images, PROMPTS)
        assert log.removed > 0.4
        return logits

    cut = compressed(changed(either, lambda model: shapes.cut(either, 2)))
    with conditions.truncated(either, 2):
        assert apart(compressed(either), cut) < SAME
        if place != "ViT 1":
            ranked = compress.compressed(either, "fastv-rank", keep=0.5)
            with ranked:  # reads the LM's attention in a second pass
                either.logits(images, PROMPTS)


def test_what_is_compressed_in_the_vit_has_no_positions_there(loaded):
    vlm = loaded("qwen2vl")
    image, by_hand = picture(vlm, 4, 4), changed(vlm, zeroed)
    method = compress.Method("half", drop_half, place="ViT 1")
    with compress.compressed(by_hand, method):
        expected = by_hand.logits(image, PROMPTS[0])
    both = [
        lambda: compress.compressed(vlm, method),
        lambda: conditions.without_positions(vlm),
    ]
    for one, other in (both, both[::-1]):
        with one(), other():
            assert torch.equal(vlm.logits(image, PROMPTS[0]), expected)


def test_rope_scaling_goes_with_all_of_them(turning):
    images = pictures(turning)
    with conditions.without_positions(turning):
        plain = native(turning, images)
    with rope.scaled(turning, alpha=99, p=2):
        with conditions.without_positions(turning):
            assert torch.equal(native(turning, images), plain), "nothing turns"
        with conditions.truncated(turning, 1):
            scaled = native(turning, images)
            assert apart(by_parts(turning, images), scaled) < SAME
    with conditions.truncated(turning, 1):
        assert not torch.equal(native(turning, images), scaled)


def test_visual_tokens_of_another_vit_are_not_taken(either):
    image = picture(either, 4, 4)
    inputs = either.prepare(image, PROMPTS[0])
    visual = [tokens[0] for tokens in either.visual(inputs, [either.last_depth])]
    for change in (conditions.truncated(either, 1), conditions.without_positions(either)):
        with change, pytest.raises(ValueError, match="The ViT is being changed, and `visual`"):
            answers.chances(either, inputs, ["red", "cup"], visual)


# -- what there is not
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [-1, 4, 1.0, True, "1", None])
def test_a_depth_is_one_of_the_vits(loaded, depth):
    with pytest.raises(ValueError, match="depth is a whole number from 0 to 3 in this model"):
        conditions.truncated(loaded("qwen2vl"), depth).__enter__()


@pytest.mark.parametrize("blocks", [0, 4, [1, 4], "all", 1.5, True])
def test_blocks_are_those_of_the_vit(loaded, blocks):
    with pytest.raises(ValueError, match="ViT's blocks are counted from 1 to 3 "):
        conditions.without_positions(loaded("qwen2vl"), blocks).__enter__()
    with pytest.raises(ValueError, match="a table of positions, read once before the first block"):
        conditions.without_positions(loaded("llava"), blocks).__enter__()


def test_no_blocks_are_no_choice(loaded):
    with pytest.raises(ValueError, match="Name one block of the ViT at least"):
        conditions.without_positions(loaded("qwen2vl"), []).__enter__()


def test_a_vit_of_which_no_positions_are_known_is_refused(loaded, monkeypatch):
    vlm = loaded("llava")
    monkeypatch.setattr(vlm.adapter, "position_table", None)
    with pytest.raises(ValueError, match="neither a table of positions nor 2-D RoPE"):
        conditions.without_positions(vlm).__enter__()


def test_a_shuffle_is_of_tokens_or_positions_by_a_seed(loaded):
    vlm = loaded("llava")
    for what in ("token", "order", None, 1):
        with pytest.raises(ValueError, match="What is shuffled is 'tokens' or 'positions'; not"):
            conditions.shuffled(vlm, what).__enter__()
    for seed in (-1, 1.5, True, "0"):
        with pytest.raises(ValueError, match="seed is a whole number from 0 up"):
            conditions.shuffled(vlm, "tokens", seed).__enter__()
    hung = hooks(vlm)
    with pytest.MonkeyPatch.context() as patched:
        patched.delattr(vlm.lm, "rotary_emb")
        with pytest.raises(ValueError, match="has no rotary positions"):
            conditions.shuffled(vlm, "positions").__enter__()
    assert hooks(vlm) == hung
    inputs = vlm.prepare(picture(vlm, 4, 4), PROMPTS[0])
    with conditions.shuffled(vlm, "tokens"), torch.no_grad():
        part = vlm.embed(inputs)[:, :-1]
        with pytest.raises(ValueError, match="of a whole prompt"):
            vlm.lm_hidden(part, inputs["attention_mask"][:, :-1])
