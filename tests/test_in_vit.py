"""Patches that go within the ViT: the rest of it runs as if they had not been there."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import shapes
import whatwhere as ww
from closeness import OTHER, SAME, apart
from whatwhere import compress, intervene

PROMPTS = ["is there a red cup ?", "what colour ?", "how many"]
# with a class token the LM is given, and blocks after the one that the connector reads
TOKEN_KEPT = "llava, class token kept, second-last block, tied, one key head"


def picture(seed=0, size=(24, 24)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))


@pytest.fixture(scope="module", params=[*shapes.HUB, TOKEN_KEPT, "qwen2.5vl"])
def vlm(request, checkpoint):
    return ww.load(checkpoint(request.param), device="cpu", dtype="float32")


@pytest.fixture(scope="module", params=["hub/llava", "hub/qwen2_5_vl"])
def small(request, checkpoint):
    """For what does not depend on the family: a batch of sequences, and one of all patches."""
    return ww.load(checkpoint(request.param), device="cpu", dtype="float32")


def everything(sight):
    return np.arange(len(sight.tokens))


def by_brightness(sight):
    """Drops a third of the tokens, or a half, as the picture has it."""
    order = sight.tokens.sum(-1).argsort()
    chosen = everything(sight)
    chosen[order[: len(order) // (2 if sight.tokens.sum() > 0 else 3)]] = -1
    return chosen


def embedded(vlm, images, prompts, method, **options):
    """What the LM is given with a method at work, and the log."""
    given = []
    with compress.compressed(vlm, method, **options) as log:
        hook = vlm.lm.register_forward_pre_hook(
            lambda _, __, named: given.append(named["inputs_embeds"]), with_kwargs=True
        )
        try:
            vlm.model(**vlm.prepare(images, prompts))
        finally:
            hook.remove()
    return given[0], log


# -- what is computed
# ----------------------------------------------------------------------------------------------


def test_keeping_every_patch_changes_no_logit(vlm):
    images = [picture(n) for n in range(3)]
    real = vlm.prepare(images, PROMPTS)["attention_mask"].bool()
    before, said = vlm.logits(images, PROMPTS), vlm.answer(images, PROMPTS, 4)
    own = vlm.model(**vlm.prepare(images, PROMPTS)).logits
    for place in {"ViT 1", f"ViT {vlm.last_depth}"}:
        with compress.compressed(vlm, compress.Method("all", everything, place)) as log:
            assert apart(vlm.logits(images, PROMPTS)[real], before[real]) < SAME
            assert apart(vlm.model(**vlm.prepare(images, PROMPTS)).logits[real], own[real]) < SAME
            assert vlm.answer(images, PROMPTS, 4) == said
        assert log.removed == 0 and len(log.kept) == 9


@pytest.mark.parametrize("positions", compress.POSITIONS)
def test_a_dropped_patch_is_one_that_nothing_looks_at(vlm, positions):
    """Against all patches in the ViT, with its attention to the dropped ones cut from there on."""
    image = picture()
    rows, columns = vlm.patch_grid(image)
    gone, m = np.random.default_rng(1).random((rows, columns)) < 0.4, vlm.adapter.merge
    gone[0, 0], gone[-1, -1] = True, False

    def without(sight):
        return np.where(gone.ravel(), -1, everything(sight))

    patches = np.kron(gone, np.ones((m, m), bool))
    later = range(2, vlm.last_depth + 1)
    with (
        intervene.knockout(vlm, depths=later, keys=patches),
        compress.compressed(vlm, without, positions=positions),
    ):
        due = vlm.logits(image, PROMPTS[0])
    method = compress.Method("without", without, "ViT 1")
    with compress.compressed(vlm, method, positions=positions) as log:
        assert apart(vlm.logits(image, PROMPTS[0]), due) < SAME
    assert log.kept == [(~gone).sum()] and log.given == [gone.size]
    with compress.compressed(vlm, without, positions=positions):
        assert apart(vlm.logits(image, PROMPTS[0]), due) > OTHER, "the ViT saw them here"


def test_merged_patches_are_their_mean_in_a_vit_run_by_hand(checkpoint):
    """CLIP: the later blocks by hand, on the class token and the means of three groups."""
    vlm = ww.load(checkpoint("llava"), device="cpu", dtype="float32")
    image, n = picture(), 16
    groups = np.arange(n) % 4 - 1

    def fours(sight):
        return groups

    pixels = vlm.prepare(image, PROMPTS[0])["pixel_values"]
    # before: transformers' own hooks, by which the connector reads, are there when ours come
    seen = vlm.adapter.vision(pixels, output_hidden_states=True).hidden_states[1][0]
    given, log = embedded(vlm, image, PROMPTS[0], compress.Method("fours", fours, "ViT 1"))
    assert len(seen) == n + 1
    state = torch.stack([seen[0]] + [seen[1:][groups == group].mean(0) for group in range(3)])[None]
    for block in vlm.vision_blocks[1 : vlm.last_depth]:
        state = block(state, None)
        state = state[0] if isinstance(state, tuple) else state
    due = vlm.adapter.connector(state[0, 1:])
    start = int(vlm.positions(image, PROMPTS[0]).index[0])
    found = given[0, start : start + 3]
    # in raster order of the members nearest each group's middle
    order = torch.cdist(found, due).argmin(1)
    assert sorted(order.tolist()) == [0, 1, 2] and apart(found, due[order]) < SAME
    assert log.kept == [3] and log.given == [n]


def test_merged_windows_keep_the_place_of_the_middle_one(checkpoint):
    """Qwen2-VL: the later blocks by hand, on the mean of three windows, turned as the middle
    one's, beside the others."""
    vlm = ww.load(checkpoint("qwen2vl"), device="cpu", dtype="float32")
    image = picture(size=(40, 40))
    rows, columns = vlm.patch_grid(image)
    m2, n = vlm.adapter.merge**2, rows * columns
    assert columns >= 3

    def joined(sight):
        chosen = everything(sight)
        chosen[:3] = 0
        return chosen

    given, log = embedded(vlm, image, PROMPTS[0], compress.Method("joined", joined, "ViT 1"))
    args, named = vlm.adapter.vision_arguments(vlm.prepare(image, PROMPTS[0]))
    heard = {}
    hook = vlm.vision_blocks[1].register_forward_pre_hook(
        lambda _, args, named: heard.update(named, state=args[0]), with_kwargs=True
    )
    vlm.adapter.vision(*args, **named)
    hook.remove()

    def left(values, first):
        return torch.cat([first, values.unflatten(0, (n, m2))[3:].flatten(0, 1)])

    windows = heard["state"].unflatten(0, (n, m2))
    state = left(heard["state"], windows[:3].mean(0))
    turned = tuple(
        left(table, table.unflatten(0, (n, m2))[1]) for table in heard["position_embeddings"]
    )
    for block in vlm.vision_blocks[1:]:
        state = block(state, cu_seqlens=torch.tensor([0, len(state)]), position_embeddings=turned)
    due = vlm.adapter.connector(state)
    start = int(vlm.positions(image, PROMPTS[0]).index[0])
    assert apart(given[0, start : start + n - 2], due) < SAME and log.kept == [n - 2]


def test_a_batch_is_shortened_as_one_at_a_time(vlm):
    """Of pictures that are left with different numbers of patches."""
    images = [picture(n, (32, 32)) for n in range(4)]
    prompts = [*PROMPTS, "is the bear blue or green ?"]

    def one_more(sight):
        chosen = by_brightness(sight)
        chosen[: int(np.abs(sight.tokens[0, 0].item()) * 1e4) % 3] = -1
        return chosen

    with compress.compressed(vlm, compress.Method("bright", one_more, "ViT 1")) as log:
        together = vlm.logits(images, prompts)
        alone = [vlm.logits(image, prompt) for image, prompt in zip(images, prompts)]
    for batch, single in zip(together, alone):
        assert apart(batch[-len(single) :], single) < SAME
    assert log.kept[:4] == log.kept[4:] and len(set(log.kept)) > 1


@pytest.mark.parametrize("pool", compress.POOLS)
def test_with_and_without_a_cache_and_with_beams_it_is_chosen_once(small, pool):
    asked = []

    def drawn(sight):
        asked.append(sight)
        return np.where(sight.rng.random(len(sight.tokens)) < 0.5, 0, everything(sight))

    inputs = small.prepare([picture(0), picture(1)], PROMPTS[:2])
    never = {
        "eos_token_id": -1,
        "pad_token_id": 0,
        "suppress_tokens": small.tokenizer.all_special_ids,
    }
    for beams in (1, 2):
        said = []
        for cached in (True, False):
            method = compress.Method("drawn", drawn, "ViT 1")
            with compress.compressed(small, method, pool=pool) as log:
                ids = small.model.generate(
                    **inputs, max_new_tokens=4, do_sample=False, use_cache=cached,
                    num_beams=beams, **never,
                )  # fmt: skip
            said.append((ids.tolist(), log.kept))
            assert len(asked) == 2 and len(log.kept) == 2 * beams
            asked.clear()
        assert said[0] == said[1]


# -- what a method sees there
# ----------------------------------------------------------------------------------------------


def test_what_a_method_sees_in_the_vit(vlm):
    images, seen = [picture(0), picture(1)], []
    due = vlm.vit_states(images, range(vlm.last_depth + 1))

    def look(sight):
        depths = {depth: sight.states(depth) for depth in (0, 1, vlm.last_depth)}
        seen.append((sight, depths, sight.vision_attention(1)))
        return by_brightness(sight)

    for n in {1, vlm.last_depth}:
        seen.clear()
        with compress.compressed(vlm, compress.Method("look", look, f"ViT {n}")):
            vlm.logits(images, PROMPTS[:2])
        for own, image, (sight, depths, received) in zip(due, images, seen, strict=True):
            assert sight.grid == vlm.patch_grid(image)
            assert apart(sight.tokens, own[n]) < SAME
            assert all(apart(state, own[depth]) < SAME for depth, state in depths.items())
            assert received.shape == (len(sight.tokens),) and (received > 0).all()
            assert sight.attention is None and sight.ids is None
            with pytest.raises(ValueError, match="has no prompt: it was made by hand, or its meth"):
                sight.text  # noqa: B018


def test_baselines_work_in_the_vit(small):
    for make in ("tome-like", "grid", "random"):
        method = replace(compress.BASELINES[make](3), place=f"ViT {small.last_depth}")
        with compress.compressed(small, method) as log:
            small.answer([picture(0), picture(1)], PROMPTS[:2], 2)
        assert log.kept == [3, 3]


# -- putting back, and bad input
# ----------------------------------------------------------------------------------------------


def test_afterwards_the_vit_is_as_before(small):
    before, config = small.logits(picture(), PROMPTS[0]), small.adapter.vision.config
    hooks = [len(b._forward_hooks) + len(b._forward_pre_hooks) for b in small.vision_blocks]
    usual = config._attn_implementation

    def fails(sight):
        sight.vision_attention(1)
        raise RuntimeError("in the middle")

    with compress.compressed(small, compress.Method("bright", by_brightness, "ViT 1")):
        assert small.logits(picture(), PROMPTS[0]).shape != before.shape
    with (
        pytest.raises(RuntimeError, match="in the middle"),
        compress.compressed(small, compress.Method("fails", fails, "ViT 1")),
    ):
        small.logits(picture(), PROMPTS[0])
    assert torch.equal(small.logits(picture(), PROMPTS[0]), before)
    assert hooks == [len(b._forward_hooks) + len(b._forward_pre_hooks) for b in small.vision_blocks]
    assert config._attn_implementation == usual
    assert all(
        getattr(m, "config", config)._attn_implementation == usual
        for m in small.adapter.vision.modules()
    )


def test_what_needs_every_patch_is_refused(small):
    method, mask = compress.Method("all", everything, "ViT 1"), None
    rows, columns = small.patch_grid(picture())
    m = small.adapter.merge
    mask = np.ones((rows * m, columns * m), bool)
    width = small.vit_states(picture(), [0]).shape[-1] // m**2
    with compress.compressed(small, method):
        with pytest.raises(ValueError, match="ViT's attention is read of a whole picture: leave"):
            small.attention(picture(), depths=1)
        with (
            pytest.raises(ValueError, match="An intervention needs every patch to be there"),
            intervene.added(small, mask, np.zeros(width), depth=1),
        ):
            small.logits(picture(), PROMPTS[0])
        with (
            pytest.raises(
                ValueError, match="Attention changed by tokens needs every patch in the ViT"
            ),
            intervene.knockout(small, depths=1, keys=mask),
        ):
            small.logits(picture(), PROMPTS[0])


def test_pictures_that_the_vit_did_not_see_are_refused(small):
    inputs = small.prepare(picture(0), PROMPTS[0])
    visual = [tokens[0] for tokens in small.visual(inputs, [small.last_depth])]
    with compress.compressed(small, compress.Method("all", everything, "ViT 1")):
        rest = small.embed(inputs, visual), None, small.position_ids(inputs)
        with pytest.raises(ValueError, match="A method in the ViT needs the picture, and the ViT"):
            small.lm_hidden(*rest)
        small.visual_tokens(picture(1))
        rest = small.embed(inputs, visual), None, small.position_ids(inputs)
        with pytest.raises(ValueError, match="that the ViT saw last are not those of this prompt"):
            small.lm_hidden(*rest)


@pytest.mark.parametrize(
    ("place", "needs", "options", "said"),
    [
        ("ViT 0", (), {}, "The place of method 'm' is 'ViT 0'; .* from 'ViT 1' to 'ViT"),
        ("ViT 99", (), {}, "The place of method 'm' is 'ViT 99'"),
        ("ViT 1", ("question", "states"), {}, "there is none of what it needs: question. A method"),
    ],
)
def test_a_method_that_cannot_work_in_the_vit_is_refused(small, place, needs, options, said):
    method = compress.Method("m", everything, place, needs)
    with pytest.raises(ValueError, match=said), compress.compressed(small, method, **options):
        pass


def test_wrong_groups_and_blocks_are_refused(small):
    for choose, said in (
        (lambda sight: [0, 1], "A way of choosing gives a whole number for each of"),
        (lambda sight: sight.vision_attention(0), r"The ViT's blocks are counted from 1 to \d+"),
        (lambda sight: sight.states(99), "The depth is a whole number from 0 to"),
    ):
        for place in ("ViT 1", "LM 0"):
            with (
                pytest.raises(ValueError, match=said),
                compress.compressed(small, compress.Method("m", choose, place)),
            ):
                small.logits(picture(), "what")


def test_a_block_that_is_told_more_about_its_patches_is_refused(checkpoint):
    vlm = ww.load(checkpoint("llava"), device="cpu", dtype="float32")
    with compress.compressed(vlm, compress.Method("m", by_brightness, "ViT 1")):
        told = vlm.vision_blocks[1].register_forward_pre_hook(
            lambda _, args, named: (args, {**named, "bias": torch.ones(37)}),
            with_kwargs=True, prepend=True,
        )  # fmt: skip
        with pytest.raises(ValueError, match=r"is given `bias`, \(37,\), and whatwhere does not"):
            vlm.logits(picture(), "what")
        told.remove()
