"""Changes to a running model: just the masked patches, seen however it is run, as said, and undone
bit for bit."""

from contextlib import ExitStack, contextmanager, nullcontext

import numpy as np
import pytest
import torch
from PIL import Image

import whatwhere as ww
from closeness import OTHER, SAME, apart
from whatwhere import answers, compress, intervene, rope
from whatwhere.book.rehearsal.checkpoints import internvl, llava, qwen2vl

pytestmark = pytest.mark.usefixtures("one_thread")
PROMPTS = ["is there a red cup ?", "what colour ?", "how many"]
SIZES = (3, 5), (1, 6), (5, 3)  # tokens; LLaVA resizes them all to one grid
VIT, LM = 24, 32  # features of a state, in rehearsal/checkpoints.py
SHAPES = {
    "llava": (llava, {}),
    "llava, class token kept, second-last block": (
        llava,
        dict(strategy="full", feature_layer=-2, image=30),
    ),
    "qwen2vl": (qwen2vl, {}),
    "qwen2vl, merging 3 x 3": (qwen2vl, dict(merge=3, layers=2, kv_heads=1)),
    "qwen2.5vl": (qwen2vl, dict(window=2)),
}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    made = {}

    @torch.no_grad()
    def load(name):
        if name not in made:
            make, options = SHAPES[name]
            make(folder := tmp_path_factory.mktemp("checkpoint"), **options)
            made[name] = vlm = ww.load(folder, device="cpu", dtype="float32")
            # transformers adds hooks of its own on the first run, for good
            vlm.model(**vlm.prepare(pictures(vlm), PROMPTS))
        return made[name]

    return load


@pytest.fixture(params=SHAPES)
def vlm(request, loaded):
    return loaded(request.param)


@pytest.fixture(params=["llava", "qwen2vl"])
def square(request, loaded):
    """One of each family, to be shown `picture(vlm, 4, 4)`, which has 4 × 4 visual tokens in
    both."""
    return loaded(request.param)


@pytest.fixture(params=[name for name in SHAPES if name.startswith("qwen")])
def turning(request, loaded):
    """With 2-D RoPE."""
    return loaded(request.param)


@pytest.fixture(params=[name for name in SHAPES if name.startswith("llava")])
def tabled(request, loaded):
    """With a learnt table of positions."""
    return loaded(request.param)


def picture(vlm, rows, columns, seed=0):
    side = vlm.adapter.merge * getattr(vlm.adapter, "_patch", 8)
    return Image.fromarray(
        np.random.default_rng(seed).integers(
            0, 256, (rows * side, columns * side, 3), dtype=np.uint8
        )
    )


def pictures(vlm):
    return [picture(vlm, *size, seed) for seed, size in enumerate(SIZES)]


def everywhere(vlm):
    return [{"depth": n} for n in range(vlm.last_depth + 1)] + [
        {"layer": n} for n in range(vlm.n_layers + 1)
    ]


def drawn(vlm, images, place, seed=0, share=0.4):
    """A mask for each image, true at its first patch and elsewhere by chance; and a vector for
    each."""
    rng, each = np.random.default_rng(seed), vlm.adapter.merge if "depth" in place else 1
    masks = [rng.random(np.multiply(vlm.patch_grid(image), each)) < share for image in images]
    for mask in masks:
        mask.flat[0], mask.flat[-1] = True, False
    features = VIT if "depth" in place else LM
    return masks, torch.from_numpy(2 * rng.standard_normal((len(images), features))).float()


def movable(vlm, images):
    """Masks of patches that have one above them and one to the left, for a learnt table has no
    others."""
    masks = drawn(vlm, images, {"depth": 0}, share=0.7)[0]
    for mask in masks:
        mask[0], mask[:, 0], mask[1, 1] = False, False, True
    return masks


def states(vlm, images, prompts, depth=None, layer=None):
    """The states at one place: (rows, columns, features) of each image's patches, and those of all
    that is no patch."""
    inputs = vlm.prepare(images, prompts)
    if layer is None:
        m, found = vlm.adapter.merge, []
        for image, (state,) in zip(images, vlm.vit_states(images, [depth])):
            rows, columns = vlm.patch_grid(image)
            found.append(
                state.reshape(rows, columns, m, m, VIT)
                .transpose(1, 2)
                .reshape(rows * m, columns * m, VIT)
            )
        return found, torch.cat(
            [each[0, : vlm.adapter.leading] for each in vlm.visual(inputs, [depth])]
        )
    hidden = vlm.lm_hidden(
        vlm.embed(inputs), inputs["attention_mask"], vlm.position_ids(inputs), layer
    )
    found, rest = [], torch.ones(hidden.shape[:2], dtype=torch.bool)
    for n, (image, prompt) in enumerate(zip(images, prompts)):
        # alone, it has no padding
        at = vlm.positions(image, prompt).index + (inputs["attention_mask"][n] == 0).sum()
        found.append(hidden[n, at].reshape(*vlm.patch_grid(image), LM))
        rest[n, at] = False
    return found, hidden[rest]


@torch.no_grad()
def native(vlm, images, prompts):
    return vlm.model(**vlm.prepare(images, prompts)).logits


def hooks(vlm):
    return sum(
        len(each)
        for m in vlm.model.modules()
        for each in (m._forward_hooks, m._forward_pre_hooks, m._backward_hooks)
    )


# -- exactly the masked patches
# -----------------------------------------------------------------------------------


def test_exactly_the_masked_patches_change(vlm):
    images = pictures(vlm)
    for place in everywhere(vlm):
        masks, vectors = drawn(vlm, images, place)
        before, rest = states(vlm, images, PROMPTS, **place)
        for change, becomes in (
            (intervene.added(vlm, masks, vectors, **place), lambda state, vector: state + vector),
            (
                intervene.replaced(vlm, masks, vectors, **place),
                lambda state, vector: vector.expand_as(state),
            ),
            (
                intervene.replaced(vlm, masks, vectors, 0.3, **place),
                lambda state, vector: 0.7 * state + 0.3 * vector,
            ),
            (intervene.replaced(vlm, masks, vectors, 0, **place), lambda state, vector: state),
        ):
            with change:
                after, others = states(vlm, images, PROMPTS, **place)
            for one, two, mask, vector in zip(before, after, masks, vectors, strict=True):
                assert (
                    one.shape[:2] == mask.shape
                    and apart(two[mask], becomes(one[mask], vector)) < SAME
                )
                assert torch.equal(two[~mask], one[~mask]), place
            assert torch.equal(others, rest), place


def test_what_is_added_and_what_replaces_is_exact(vlm):
    images = pictures(vlm)
    for place in ({"depth": 1}, {"layer": 1}):
        masks, vectors = drawn(vlm, images, place)
        before, _ = states(vlm, images, PROMPTS, **place)
        with intervene.added(vlm, masks, vectors, **place):
            more, _ = states(vlm, images, PROMPTS, **place)
        with intervene.replaced(vlm, masks, vectors, **place):
            other, _ = states(vlm, images, PROMPTS, **place)
        for n, mask in enumerate(masks):
            assert torch.equal(more[n][mask], before[n][mask] + vectors[n])
            assert (other[n][mask] == vectors[n]).all()


def test_a_batch_is_changed_as_one_at_a_time_is(vlm):
    """With prompts of three lengths: padding on the left shifts nothing."""
    images = pictures(vlm)
    assert (vlm.prepare(images, PROMPTS)["attention_mask"] == 0).any()
    before = vlm.logits(images, PROMPTS)
    for place in ({"depth": 0}, {"depth": 1}, {"layer": 0}, {"layer": 1}):
        masks, vectors = drawn(vlm, images, place)
        with intervene.added(vlm, masks, vectors, **place):
            together = vlm.logits(images, PROMPTS)
        for n, (image, prompt) in enumerate(zip(images, PROMPTS)):
            with intervene.added(vlm, masks[n], vectors[n], **place):
                alone = vlm.logits(image, prompt)
            assert (
                apart(together[n, -len(alone) :], alone)
                < SAME
                < OTHER
                < apart(together[n][-1], before[n][-1])
            )


def test_one_mask_and_one_vector_go_with_every_image(square):
    images = [picture(square, 4, 4, seed) for seed in range(3)]
    (mask, *_), (vector, *_) = drawn(square, images, {"layer": 1})

    def found(masks, vectors):
        with intervene.added(square, masks, vectors, layer=1):
            return square.logits(images, PROMPTS)

    usual = found([mask] * 3, torch.stack([vector] * 3))
    for masks in (
        mask,
        [mask],
        torch.from_numpy(mask),
        np.stack([mask] * 3),
        (torch.from_numpy(mask),) * 3,
    ):
        for vectors in (vector, vector.numpy(), vector.tolist(), [vector.tolist()] * 3):
            assert torch.equal(found(masks, vectors), usual)
    assert not torch.equal(found(mask, -vector), usual)


def test_a_model_in_half_precision_is_changed_too(tmp_path):
    for make, family in ((llava, "llava"), (qwen2vl, "qwen2vl")):
        make(tmp_path / family, dtype=torch.bfloat16)
        vlm = ww.load(tmp_path / family, device="cpu", dtype="bfloat16")
        images = pictures(vlm)
        for place in ({"depth": 1}, {"layer": 1}):
            masks, vectors = drawn(vlm, images, place)
            before, _ = states(vlm, images, PROMPTS, **place)
            with intervene.added(vlm, masks, vectors, **place):
                after, _ = states(vlm, images, PROMPTS, **place)
            for n, mask in enumerate(masks):
                assert torch.equal(
                    after[n][mask].bfloat16(), before[n][mask].bfloat16() + vectors[n].bfloat16()
                )
                assert torch.equal(after[n][~mask], before[n][~mask])
        before = vlm.logits(images, PROMPTS)
        with intervene.moved(vlm, movable(vlm, images), (0, -1)):
            after = vlm.logits(images, PROMPTS)
        assert vlm.dtype == torch.bfloat16 and not torch.equal(after, before)


# -- however the model is run
# -------------------------------------------------------------------------------------


def spoken(vlm, images, n=4):
    """By `generate`, with its cache: the ids of `n` tokens, none of them special."""
    inputs = vlm.prepare(images, PROMPTS)
    never = {
        "eos_token_id": -1,
        "pad_token_id": 0,
        "suppress_tokens": vlm.tokenizer.all_special_ids,
    }
    return vlm.model.generate(**inputs, max_new_tokens=n, do_sample=False, **never)[
        :, inputs["input_ids"].shape[1] :
    ].tolist()


@torch.no_grad()
def spelled_out(vlm, images, n=4):
    """The same token by token, with the whole prompt run again each time, part by part."""
    inputs, said = vlm.prepare(images, PROMPTS), torch.zeros(len(images), 0, dtype=torch.long)
    pixels = {name: value for name, value in inputs.items() if "pixel" in name or "image" in name}
    for _ in range(n):
        ids, mask = (
            torch.cat([inputs["input_ids"], said], 1),
            torch.cat([inputs["attention_mask"], torch.ones_like(said)], 1),
        )
        grown = vlm.adapter.model_inputs(ids, mask, pixels)
        hidden = vlm.lm_hidden(vlm.embed(grown), mask, vlm.position_ids(grown))
        logits = vlm.unembedding(vlm.final_norm(hidden[:, -1]))
        logits[:, vlm.tokenizer.all_special_ids] = -torch.inf
        said = torch.cat([said, logits.argmax(-1, keepdim=True)], 1)
    return said.tolist()


def test_the_model_sees_the_change_however_it_is_run(vlm):
    images, inputs = pictures(vlm), vlm.prepare(pictures(vlm), PROMPTS)
    real, visual = inputs["attention_mask"].bool(), vlm.image_places(inputs)
    before, said, told = (
        vlm.logits(images, PROMPTS),
        vlm.answer(images, PROMPTS, 4),
        spoken(vlm, images),
    )
    for place in everywhere(vlm):
        with intervene.replaced(vlm, *drawn(vlm, images, place, share=0.8), **place):
            ours, theirs = vlm.logits(images, PROMPTS), native(vlm, images, PROMPTS)
            answer, ids, by_hand = (
                vlm.answer(images, PROMPTS, 4),
                spoken(vlm, images),
                spelled_out(vlm, images),
            )
        assert apart(ours[real], theirs[real]) < SAME and ids == by_hand, place
        changed = (ours - before).abs().amax(-1) > 1e-2
        if place == {"layer": vlm.n_layers}:  # nobody looks there any more
            assert (
                changed[visual].any()
                and not changed[~visual].any()
                and (answer, ids) == (said, told)
            )
        else:
            assert changed[:, -1].all() and answer != said and ids != told, place


def test_the_model_sees_where_patches_are_however_it_is_run(vlm):
    images = pictures(vlm)
    real = vlm.prepare(images, PROMPTS)["attention_mask"].bool()
    before = vlm.logits(images, PROMPTS)
    masks, steps = movable(vlm, images), torch.tensor([[0.0, -1], [-1, 0], [-1, -1]])
    with intervene.moved(vlm, masks, steps):
        ours, theirs = vlm.logits(images, PROMPTS), native(vlm, images, PROMPTS)
        assert spoken(vlm, images) == spelled_out(vlm, images)
    for n, (image, prompt) in enumerate(zip(images, PROMPTS)):
        with intervene.moved(vlm, masks[n], steps[n]):
            alone = vlm.logits(image, prompt)
        assert apart(ours[n, -len(alone) :], alone) < SAME
    assert apart(ours[real], theirs[real]) < SAME
    assert all(apart(one[-1], other[-1]) > OTHER for one, other in zip(ours, before))


def test_a_prompt_without_an_image_passes(vlm):
    ids = torch.tensor([[15, 16, 17, 18]])
    with torch.no_grad():
        before = vlm.model(input_ids=ids).logits
        with intervene.added(vlm, *drawn(vlm, pictures(vlm), {"layer": 1}), layer=1):
            vlm.logits(pictures(vlm), PROMPTS)  # it knows of an image, and that it is gone
            assert torch.equal(vlm.model(input_ids=ids).logits, before)


def test_an_image_token_that_the_model_says_is_no_image(square):
    images, said = pictures(square), square.model.config.image_token_id
    no_other = [token for token in range(square.unembedding.weight.shape[0]) if token != said]
    with intervene.added(square, *drawn(square, images, {"layer": 1}), layer=1):
        inputs = square.prepare(images, PROMPTS)
        ids = square.model.generate(
            **inputs, max_new_tokens=3, do_sample=False, eos_token_id=-1, suppress_tokens=no_other
        )
    assert (ids[:, -3:] == said).all()


def test_what_was_embedded_once_may_be_run_twice(square):
    """The second run of the LM on the same embeddings is changed like the first, not let through
    without a word."""
    image, place = picture(square, 4, 4), {"layer": 1}
    inputs = square.prepare(image, PROMPTS[0])
    (mask,), vector = drawn(square, [image], place)
    with intervene.added(square, mask, vector, **place):
        named = square.embed(inputs), inputs["attention_mask"], square.position_ids(inputs)
        first, second = square.lm_hidden(*named, 1), square.lm_hidden(*named, 1)
    assert torch.equal(first, second) and not torch.equal(first, square.lm_hidden(*named, 1))


# -- undone
# --------------------------------------------------------------------------------------------------


@contextmanager
def added(vlm, images):
    with intervene.added(vlm, *drawn(vlm, images, {"layer": 1}), layer=1):
        yield


@contextmanager
def replaced_everywhere(vlm, images):
    with ExitStack() as stack:
        for place in everywhere(vlm):
            stack.enter_context(intervene.replaced(vlm, *drawn(vlm, images, place), 0.9, **place))
        yield


@contextmanager
def moved(vlm, images):
    with intervene.moved(vlm, movable(vlm, images), (-1, -1)):
        yield


@pytest.mark.parametrize("change", [added, replaced_everywhere, moved])
def test_afterwards_the_model_is_as_before_bit_for_bit(vlm, change):
    images, counted = pictures(vlm), hooks(vlm)
    before, said, weights = (
        vlm.logits(images, PROMPTS),
        native(vlm, images, PROMPTS),
        vlm.model.state_dict(),
    )
    weights = {name: each.clone() for name, each in weights.items()}

    def check():
        assert hooks(vlm) == counted
        assert torch.equal(vlm.logits(images, PROMPTS), before) and torch.equal(
            native(vlm, images, PROMPTS), said
        )

    with change(vlm, images):
        inside = vlm.logits(images, PROMPTS)
        assert hooks(vlm) > counted and not torch.equal(inside, before)
        vlm.answer(images, PROMPTS, 3)
    check()
    with pytest.raises(RuntimeError, match="on purpose"), change(vlm, images):
        assert torch.equal(vlm.logits(images, PROMPTS), inside)
        raise RuntimeError("on purpose")
    check()
    for run in (vlm.logits, vlm.answer, native):  # what the intervention itself raises, half-way
        with pytest.raises(ValueError, match="There are 3 masks for 2 images"), change(vlm, images):
            run(vlm, images[:2], PROMPTS[:2]) if run is native else run(images[:2], PROMPTS[:2])
        check()
    with change(vlm, images):
        with pytest.raises(ValueError, match="There are 3 masks for 1 images"):
            vlm.logits(images[0], PROMPTS[0])
        assert torch.equal(vlm.logits(images, PROMPTS), inside), (
            "one run that failed spoils none after it"
        )
    check()
    assert all(torch.equal(weights[name], each) for name, each in vlm.model.state_dict().items())


@pytest.mark.parametrize("name", ["toy-llava", "toy-qwen2vl"])
def test_afterwards_a_trained_organism_is_as_before(name):
    vlm, image = ww.load(name, device="cpu", dtype="float32"), ww.world.scene(7).image
    native(vlm, [image], PROMPTS[:1])
    before, counted = vlm.logits(image, PROMPTS[0]), hooks(vlm)
    token = np.zeros(vlm.patch_grid(image), bool)
    token[4:6, 3:5] = True
    patches, mean = (
        np.kron(token, np.ones((vlm.adapter.merge,) * 2, bool)),
        vlm.visual_tokens(image).mean(0),
    )
    for change in (
        intervene.replaced(vlm, token, mean, layer=0),
        intervene.moved(vlm, patches, (0, 3)),
    ):
        with change:
            assert apart(vlm.logits(image, PROMPTS[0]), before) > OTHER
        assert torch.equal(vlm.logits(image, PROMPTS[0]), before) and hooks(vlm) == counted


# -- elsewhere, with 2-D RoPE
# -----------------------------------------------------------------------------------------


def test_a_zero_step_is_bit_identical(vlm):
    images = pictures(vlm)
    before = vlm.logits(images, PROMPTS)
    with intervene.moved(vlm, drawn(vlm, images, {"depth": 0})[0], (0, 0)):
        assert torch.equal(vlm.logits(images, PROMPTS), before)


def test_moving_all_alike_changes_nothing(turning):
    images = pictures(turning)
    before, everything = (
        turning.logits(images, PROMPTS),
        drawn(turning, images, {"depth": 0}, share=2)[0],
    )
    for mask in everything:
        mask[:] = True
    for steps in ((3, -2), (0.5, 7.25), torch.tensor([[1, 0.0], [0, -9], [20, 20]])):
        with intervene.moved(turning, everything, steps):
            assert apart(turning.logits(images, PROMPTS), before) < SAME
    everything[1][0, 0] = False
    with intervene.moved(turning, everything, (3, -2)):
        off = [apart(*both) for both in zip(turning.logits(images, PROMPTS), before)]
    assert off[1] > OTHER and max(off[0], off[2]) < SAME


def attended(vlm, images, block=1):
    """What the attention of a ViT block puts out, before its projection: (patches, features) for
    each image."""
    caught, sizes = [], [np.prod(vlm.patch_grid(image)) * vlm.adapter.merge**2 for image in images]
    hook = vlm.vision_blocks[block - 1].attn.proj.register_forward_pre_hook(
        lambda _, args: caught.append(args[0])
    )
    try:
        vlm.vit_states(images, [vlm.last_depth])
    finally:
        hook.remove()
    return caught[0].split([int(size) for size in sizes])


def test_the_attention_is_that_of_patches_elsewhere(turning):
    """By `Rotary.logits`, which knows nothing of the tables that are turned here; some steps are
    fractions, some lead far off."""
    images, steps = pictures(turning), torch.tensor([[0.0, 5], [1.5, -2], [-30, 0.25]])
    masks, rotary = drawn(turning, images, {"depth": 0})[0], rope.vision(turning)
    with intervene.moved(turning, masks, steps):
        found = attended(turning, images)
    for image, mask, step, really in zip(images, masks, steps.double(), found):
        heads = rope.heads(turning, image)
        q, k, v, at = (
            heads.q[0].double(),
            heads.k[0].double(),
            heads.v[0].double(),
            heads.at.double(),
        )
        meant = torch.from_numpy(mask)[heads.at[:, 0], heads.at[:, 1]][:, None]
        # Qwen2.5-VL sees nothing beyond
        window = heads.at // (getattr(turning.adapter, "_window", 99) * turning.adapter.merge)
        unseen = (window[:, None] != window).any(-1)

        def off(at, q=q, k=k, v=v, really=really, unseen=unseen):
            ours = (
                (rotary.logits(q, k, at).masked_fill(unseen, -torch.inf).softmax(-1) @ v)
                .transpose(0, 1)
                .flatten(1)
            )
            return apart(ours, really)

        assert off(at + meant * step) < SAME
        assert (
            min(
                off(at),
                off(at - meant * step),
                off(at + meant * step.flip(0)),
                off(at + ~meant * step),
            )
            > OTHER
        )


def test_two_moves_add_up(turning):
    images = pictures(turning)
    masks, other = (drawn(turning, images, {"depth": 0}, seed)[0] for seed in (0, 1))
    with intervene.moved(turning, masks, (3, -1.5)):
        once = turning.logits(images, PROMPTS)
    with intervene.moved(turning, masks, (1, -1)), intervene.moved(turning, masks, (2, -0.5)):
        assert apart(turning.logits(images, PROMPTS), once) < SAME
    with intervene.moved(turning, masks, (1, -1)):
        assert apart(turning.logits(images, PROMPTS), once) > OTHER
    parts = (
        [mask & ~another for mask, another in zip(masks, other)],
        [mask & another for mask, another in zip(masks, other)],
    )
    with (
        intervene.moved(turning, parts[0], (3, -1.5)),
        intervene.moved(turning, parts[1], (3, -1.5)),
    ):
        assert apart(turning.logits(images, PROMPTS), once) < SAME


def test_patches_are_elsewhere_in_some_blocks_only(turning):
    images = pictures(turning)
    masks = drawn(turning, images, {"depth": 0})[0]

    def found(blocks):
        with intervene.moved(turning, masks, (2, 3), blocks=blocks):
            return turning.vit_states(images)

    before, second = turning.vit_states(images), found([2])
    for one, two in zip(before, second):
        assert torch.equal(one[:2], two[:2]) and ((one - two)[2:].abs().amax((1, 2)) > 1e-2).all()
    everywhere = found(None)
    for same, other in (
        (found([1, 2, 3]), everywhere), (found(range(1, 4)), everywhere), (found((2, 2)), second),
        (found([]), before),
    ):  # fmt: skip
        assert all(map(torch.equal, same, other))
    assert not torch.equal(everywhere[0], second[0])
    with (
        intervene.moved(turning, masks, (2, 3), blocks=[1, 3]),
        intervene.moved(turning, masks, (2, 3), blocks=[2]),
    ):
        assert all(map(torch.equal, turning.vit_states(images), everywhere))


def test_steps_may_be_of_any_kind_of_number(vlm):
    """Whole numbers are not taken for the precision to be counted in."""
    images, steps = pictures(vlm), (0, -1)
    masks = movable(vlm, images)
    with intervene.moved(vlm, masks, steps):
        once = vlm.logits(images, PROMPTS)
    arrays = (
        np.array(steps),
        np.array(steps, np.int8),
        torch.tensor(steps, dtype=torch.float64),
        torch.tensor(steps),
    )
    for given in (list(steps), [steps] * 3, *arrays):
        with intervene.moved(vlm, masks, given):
            assert apart(vlm.logits(images, PROMPTS), once) < SAME, given


def test_gradients_reach_the_steps_and_the_vectors(turning):
    """Those of its own image, and of no other."""
    images, options = pictures(turning), ["cup", "bear", "red"]
    steps = torch.full((3, 2), 0.5, requires_grad=True)
    with intervene.moved(turning, drawn(turning, images, {"depth": 0})[0], steps):
        said = answers.chances(turning, turning.prepare(images, PROMPTS), options)
    slopes = torch.autograd.grad(said.log().sum(), steps, retain_graph=True)[0].abs()
    assert (slopes > SAME * slopes.max()).all()
    own = torch.autograd.grad(said[1].log().sum(), steps)[0].abs().sum(1)
    assert (own > SAME * own.max()).tolist() == [False, True, False]
    for place in ({"depth": 1}, {"layer": 1}):
        masks, vectors = drawn(turning, images, place)
        with intervene.added(turning, masks, vectors.requires_grad_(), **place):
            said = answers.chances(turning, turning.prepare(images, PROMPTS), options)
        own = torch.autograd.grad(said[1].log().sum(), vectors)[0].abs().sum(1)
        assert (own > SAME * own.max()).tolist() == [False, True, False]


# -- elsewhere, with a learnt table
# -----------------------------------------------------------------------------------


@contextmanager
def table_exchanged(vlm, masks, steps):
    """The same by hand: what comes out of the table, not what goes in."""
    side, rows = vlm.adapter.side, vlm.adapter.position_table.weight

    def exchange(_, args, output):
        output = output.expand(len(masks), -1, -1).clone()
        for n, (mask, (down, right)) in enumerate(zip(masks, steps)):
            for row, column in zip(*mask.nonzero()):
                output[n, 1 + side * row + column] = rows[1 + side * (row + down) + column + right]
        return output

    hook = vlm.adapter.position_table.register_forward_hook(exchange)
    try:
        yield
    finally:
        hook.remove()


def test_the_patches_are_given_the_vectors_of_other_places(tabled):
    images, side, steps = pictures(tabled), tabled.adapter.side, [(1, -1), (-1, 0), (1, 1)]
    masks = movable(tabled, images)
    for mask in masks:
        mask[-1], mask[:, -1] = False, False
    before = tabled.vit_states(images)
    with table_exchanged(tabled, masks, steps):
        expected = tabled.vit_states(images)
    with intervene.moved(tabled, masks, steps):
        found = tabled.vit_states(images)
    for n, mask in enumerate(masks):
        assert mask.shape == (side, side) and torch.equal(found[n], expected[n])
        changed = (found[n] - before[n]).abs().amax(-1) > 1e-3
        assert (changed[0].reshape(side, side) == torch.from_numpy(mask)).all() and changed[
            1:
        ].all()


def test_two_moves_add_up_in_a_table(tabled):
    image, mask = picture(tabled, 4, 4), np.zeros((tabled.adapter.side,) * 2, bool)
    mask[:2, 2:] = True
    with intervene.moved(tabled, mask, (2, -1)):
        once = tabled.logits(image, PROMPTS[0])
    with intervene.moved(tabled, mask, (1, 0)), intervene.moved(tabled, mask, (1, -1)):
        assert torch.equal(tabled.logits(image, PROMPTS[0]), once)
    with intervene.moved(tabled, mask, (1, 0)):
        assert not torch.equal(tabled.logits(image, PROMPTS[0]), once)


def test_a_table_has_its_places_and_no_others(tabled):
    image, counted = picture(tabled, 4, 4), hooks(tabled)
    mask = np.zeros((tabled.adapter.side,) * 2, bool)
    # one can be moved to the left, the other cannot: it would come out a row above
    mask[1, :2] = True
    last = tabled.adapter.side - 1
    for steps in ((0, -1), (-2, 0), (last, 0), (0, last), (-99, 0)):
        with (
            pytest.raises(ValueError, match="lead off the picture"),
            intervene.moved(tabled, mask, steps),
        ):
            tabled.logits(image, PROMPTS[0])
    with intervene.moved(tabled, mask, (last - 1, last - 1)):
        tabled.logits(image, PROMPTS[0])  # to the last corner
    for wrong, says in (
        (dict(steps=(0.5, 0)), "nothing between its places: steps are whole numbers"),
        (dict(steps=(1, 0), blocks=[1]), "read once before the first block: leave `blocks` out"),
        (dict(steps=(1, 0), blocks=[]), "leave `blocks` out"),
    ):
        with pytest.raises(ValueError, match=says), intervene.moved(tabled, mask, **wrong):
            pass
    assert hooks(tabled) == counted


# -- one within another
# -----------------------------------------------------------------------------------------------


def test_of_two_at_one_place_the_inner_acts_first(vlm):
    images = pictures(vlm)
    for place in ({"depth": 0}, {"depth": 2}, {"layer": 0}, {"layer": 1}):
        masks, one = drawn(vlm, images, place)
        others, two = drawn(vlm, images, place, seed=5)
        before, rest = states(vlm, images, PROMPTS, **place)
        add, replace = intervene.added, intervene.replaced
        for outer, inner, both in (
            (
                add(vlm, masks, one, **place),
                add(vlm, masks, two, **place),
                lambda x, a, b: x + b + a,
            ),
            (
                replace(vlm, masks, one, 0.4, **place),
                add(vlm, masks, two, **place),
                lambda x, a, b: 0.6 * (x + b) + 0.4 * a,
            ),
            (
                add(vlm, masks, one, **place),
                replace(vlm, masks, two, **place),
                lambda x, a, b: b + a,
            ),
            (
                replace(vlm, masks, one, **place),
                replace(vlm, masks, two, **place),
                lambda x, a, b: a,
            ),
            (
                replace(vlm, masks, one, 0.25, **place),
                replace(vlm, masks, two, **place),
                lambda x, a, b: 0.75 * b + 0.25 * a,
            ),
        ):
            with outer, inner:
                after, others_after = states(vlm, images, PROMPTS, **place)
            for n, mask in enumerate(masks):
                expected = both(before[n][mask], one[n], two[n]).expand_as(after[n][mask])
                assert apart(after[n][mask], expected) < SAME, place
                assert torch.equal(after[n][~mask], before[n][~mask])
            assert torch.equal(others_after, rest)
        with replace(vlm, masks, one, **place), replace(vlm, others, two, **place):
            after, _ = states(vlm, images, PROMPTS, **place)
        for n, (mask, other) in enumerate(zip(masks, others)):
            assert (after[n][mask] == one[n]).all() and (after[n][other & ~mask] == two[n]).all()
            assert torch.equal(after[n][~mask & ~other], before[n][~mask & ~other])


def test_changes_in_several_places_are_all_there(vlm):
    """A thing is moved, steered in the ViT, and steered in the LM: taking away any one of the three
    is noticed."""
    images = pictures(vlm)
    masks = movable(vlm, images)

    def found(**left_out):
        with ExitStack() as stack:
            for name, change in (
                ("moved", intervene.moved(vlm, masks, (0, -1))),
                ("depth", intervene.added(vlm, *drawn(vlm, images, {"depth": 1}), depth=1)),
                ("layer", intervene.added(vlm, *drawn(vlm, images, {"layer": 1}), layer=1)),
            ):
                stack.enter_context(nullcontext() if name in left_out else change)
            return vlm.logits(images, PROMPTS), native(vlm, images, PROMPTS)

    real = vlm.prepare(images, PROMPTS)["attention_mask"].bool()
    ours, theirs = found()
    assert apart(ours[real], theirs[real]) < SAME
    for name in ("moved", "depth", "layer"):
        assert (found(**{name: None})[0] - ours)[:, -1].abs().amax(-1).min() > 1e-3, name


# -- refused
# --------------------------------------------------------------------------------------------------

WHOLE = np.ones((4, 4), bool)
ONE, TWO = torch.ones(LM), torch.ones(2, LM)
NAN, INF = float("nan"), float("inf")


def off(mask):
    """4 × 4 masks of visual tokens are as many patches of the ViT, and in the ViT of Qwen2-VL four
    times as many."""
    return lambda vlm: np.kron(mask, np.ones((vlm.adapter.merge,) * 2, bool))


ANYWHERE = [
    ([], "There is no mask"),
    (np.zeros((0, 4, 4), bool), "There is no mask"),
    (None, "mask"),
    (~WHOLE, "Mask 0 is true nowhere: there is no patch to change"),
    ([WHOLE, ~WHOLE], "Mask 1 is true nowhere"),
    (np.ones((4, 4)), "A mask is booleans .* got .*float64 .4, 4."),
    (np.ones((4, 4), int), "A mask is booleans"),
    (torch.ones(4, 4), "A mask is booleans"),
    (np.ones(16, bool), "A mask is booleans .* got .*bool .16,."),
    (np.ones((1, 1, 4, 4), bool), "A mask is booleans"),
    ([WHOLE, WHOLE], "There are 2 masks for 1 images"),
    (np.ones((3, 4), bool), "This mask has 3 × 4 patches, and the grid here has"),
    # as many patches, and another shape
    (np.ones((2, 8), bool), "This mask has 2 × 8 patches, and the grid here has"),
    (np.ones((4, 16), bool), "This mask has 4 × 16 patches, and the grid here has"),
    (np.ones((16, 4), bool), "This mask has 16 × 4 patches, and the grid here has"),
]
HERE = [  # at layer 1
    (lambda vlm: intervene.added(vlm, WHOLE, torch.ones(LM - 1), layer=1),
     "A vector has 31 numbers, and a state here has 32"),
    (lambda vlm: intervene.added(vlm, WHOLE, torch.ones(1), layer=1),
     "A vector has 1 numbers, and a state here has 32"),
    (lambda vlm: intervene.replaced(vlm, WHOLE, torch.ones(VIT), layer=1),
     "A vector has 24 numbers, and a state here has 32"),
    (lambda vlm: intervene.added(vlm, WHOLE, TWO, layer=1), "There are 2 vectors for 1 images"),
    (lambda vlm: intervene.added(vlm, WHOLE, torch.ones(0, LM), layer=1),
     "There are 0 vectors for 1 images"),
    (lambda vlm: intervene.added(vlm, WHOLE, 1.0, layer=1), "A vector is made of finite numbers"),
    (lambda vlm: intervene.added(vlm, WHOLE, torch.ones(1, 1, LM), layer=1),
     "A vector is made of finite numbers"),
    (lambda vlm: intervene.added(vlm, WHOLE, ONE * NAN, layer=1),
     "A vector is made of finite numbers"),
    (lambda vlm: intervene.replaced(vlm, WHOLE, ONE * INF, layer=1),
     "A vector is made of finite numbers"),
    (lambda vlm: intervene.replaced(vlm, WHOLE, [NAN] + [0.0] * (LM - 1), layer=1),
     "A vector is made of finite numbers"),
    *[(lambda vlm, share=share: intervene.replaced(vlm, WHOLE, ONE, share, layer=1),
        "The share is a number from 0 .* to 1")
      for share in (-0.01, 1.01, NAN, INF, True, "half", None)],
    (lambda vlm: intervene.added(vlm, WHOLE, ONE),
     "at a depth of the ViT or at a layer of the LM, one of the two"),
    (lambda vlm: intervene.added(vlm, WHOLE, ONE, depth=0, layer=0), "one of the two"),
    (lambda vlm: intervene.replaced(vlm, WHOLE, ONE), "one of the two"),
    *[(lambda vlm, depth=depth: intervene.added(vlm, off(WHOLE)(vlm), torch.ones(VIT), depth=depth),
       "The depth is a whole number from 0 to 3") for depth in (-1, 4, True, 1.0, "1")],
    *[(lambda vlm, layer=layer: intervene.replaced(vlm, WHOLE, ONE, layer=layer),
        "The layer is a whole number from 0 to 3")
      for layer in (-1, 4, False, 0.0)],
    (lambda vlm: intervene.moved(vlm, off(WHOLE)(vlm), (1,)),
     "Steps are two numbers, rows and columns"),
    (lambda vlm: intervene.moved(vlm, off(WHOLE)(vlm), (1, 2, 3)),
     "Steps are two numbers, rows and columns"),
    (lambda vlm: intervene.moved(vlm, off(WHOLE)(vlm), (NAN, 0)), "finite numbers"),
    (lambda vlm: intervene.moved(vlm, off(WHOLE)(vlm), (0, INF)), "finite numbers"),
    (lambda vlm: intervene.moved(vlm, off(WHOLE)(vlm), torch.zeros(2, 2)),
     "There are 2 .* for 1 images"),
]  # fmt: skip


def refused(vlm, make, says):
    image, counted = picture(vlm, 4, 4), hooks(vlm)
    before = vlm.logits(image, PROMPTS[0])
    with pytest.raises(ValueError, match=says), make():
        vlm.logits(image, PROMPTS[0])
    assert hooks(vlm) == counted and torch.equal(vlm.logits(image, PROMPTS[0]), before)


@pytest.mark.parametrize(("masks", "says"), ANYWHERE)
def test_a_mask_that_does_not_fit_is_refused(square, masks, says):
    assert square.patch_grid(picture(square, 4, 4)) == (4, 4)
    refused(square, lambda: intervene.added(square, masks, ONE, layer=1), says)
    refused(square, lambda: intervene.replaced(square, masks, torch.ones(VIT), depth=1), says)
    refused(square, lambda: intervene.moved(square, masks, (0, 0)), says)


@pytest.mark.parametrize(("make", "says"), HERE)
def test_what_cannot_be_done_is_refused_in_a_sentence(square, make, says):
    refused(square, lambda: make(square), says)


def test_the_grid_is_that_of_the_place(turning):
    """Where patches are merged, a mask of tokens is none of patches."""
    tokens, patches = WHOLE, off(WHOLE)(turning)
    says = "the ViT's patches at a depth, the visual tokens at a layer"
    refused(turning, lambda: intervene.added(turning, patches, ONE, layer=1), says)
    refused(turning, lambda: intervene.added(turning, tokens, torch.ones(VIT), depth=1), says)
    refused(turning, lambda: intervene.moved(turning, tokens, (0, 1)), says)
    tall = np.kron(np.ones((5, 3), bool), np.ones((turning.adapter.merge,) * 2, bool))
    for place, mask, vector in (
        ({"layer": 1}, np.ones((5, 3), bool), ONE),
        ({"depth": 1}, tall, torch.ones(VIT)),
    ):
        with pytest.raises(ValueError, match=says), intervene.added(turning, mask, vector, **place):
            turning.logits(picture(turning, 3, 5), PROMPTS[0])  # on its side


def test_a_block_that_feeds_nothing_is_no_depth(vlm):
    """LLaVA-1.5 has one more block than its connector waits for: what is changed after it, nobody
    would see."""
    for what, highest in (("depth", vlm.last_depth), ("layer", vlm.n_layers)):
        (mask, *_), (vector, *_) = drawn(vlm, pictures(vlm), {what: 0})
        with pytest.raises(
            ValueError, match=f"The {what} is a whole number from 0 to {highest} in this model"
        ):
            with intervene.added(vlm, mask, vector, **{what: highest + 1}):
                pass


@pytest.mark.parametrize("block", [0, 4, -1, True, 1.5, 2.0])
def test_a_block_that_is_not_there_is_refused(turning, block):
    refused(
        turning,
        lambda: intervene.moved(turning, off(WHOLE)(turning), (0, 1), blocks=[1, block]),
        "from 1 to 3; got",
    )


def first_only(sight):
    """Of the first image every token, of the others every second: the sequence is as long as it
    was."""
    first_only.calls += 1
    return (
        np.arange(16) if first_only.calls == 1 else np.where(np.arange(16) % 2, np.arange(16), -1)
    )


@pytest.mark.parametrize("order", ["inside", "outside"])
@pytest.mark.parametrize(
    ("way", "options"),
    [
        ("random", {"keep": 3}),
        ("grid", {"keep": 0.5}),
        ("fastv-rank", {"keep": 3}),
        (first_only, {}),
    ],
)
def test_a_prompt_that_is_shortened_has_no_patches_to_mask(square, way, options, order):
    """Never a change of the wrong tokens, or of none, without a word."""
    images, counted, first_only.calls = (
        [picture(square, 4, 4, seed) for seed in range(2)],
        hooks(square),
        0,
    )
    both = [
        compress.compressed(square, way, **options),
        intervene.added(square, np.eye(4, dtype=bool), ONE, layer=1),
    ]
    before = square.logits(images, PROMPTS[0])
    with pytest.raises(
        ValueError, match="needs every patch to be there: leave `with compress.compressed"
    ):
        with both[order == "outside"], both[order == "inside"]:
            square.logits(images, PROMPTS[0])
    assert hooks(square) == counted and torch.equal(square.logits(images, PROMPTS[0]), before)


def test_the_vit_may_be_changed_while_prompts_are_shortened(square):
    """Nothing is shortened there."""
    image = picture(square, 4, 4)
    with compress.compressed(square, "grid", keep=5):
        before = square.logits(image, PROMPTS[0])
    for change in (
        lambda: intervene.added(
            square, off(np.eye(4, dtype=bool))(square), torch.ones(VIT), depth=1
        ),
        lambda: intervene.moved(square, off(np.eye(4, dtype=bool))(square), (0, 0)),
    ):
        with compress.compressed(square, "grid", keep=5), change():
            inside = square.logits(image, PROMPTS[0])
        with change(), compress.compressed(square, "grid", keep=5):
            assert torch.equal(square.logits(image, PROMPTS[0]), inside)
    assert torch.equal(inside, before), "a zero step"


def test_a_table_that_no_hook_reaches_is_said_to_be_so(tmp_path):
    """InternVL is steered and erased like the others, but its patches cannot be told another
    place."""
    internvl(tmp_path / "internvl")
    vlm = ww.load(tmp_path / "internvl", device="cpu", dtype="float32")
    image, mask = Image.new("RGB", (24, 24), (90, 20, 60)), np.eye(4, dtype=bool)
    with pytest.raises(ValueError, match="as one tensor, which no hook reaches"):
        with intervene.moved(vlm, np.eye(8, dtype=bool), (0, 1)):
            pass
    plain = vlm.visual_tokens(image)
    with intervene.added(vlm, np.eye(8, dtype=bool), np.ones(VIT), depth=vlm.last_depth):
        changed = (vlm.visual_tokens(image) - plain).abs().amax(-1).reshape(
            4, 4
        ) > SAME * plain.abs().max()
    assert changed.tolist() == mask.tolist(), (
        "the tokens that these patches are merged into, and no others"
    )
    assert torch.equal(vlm.visual_tokens(image), plain)
