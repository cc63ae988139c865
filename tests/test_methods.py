"""Methods of compression in their own places: exact where nothing goes, as many tokens as asked for,
a batch like one at a time, with a cache as without; and each by hand where it is small."""

import itertools

import numpy as np
import pytest
import torch
from PIL import Image

import shapes
import whatwhere as ww
from closeness import SAME, apart
from whatwhere import __main__ as cli
from whatwhere import benchmarks, compress
from whatwhere.compress import groups, judge, smaller
from whatwhere.compress.methods import by_class_token, by_text, diverse, in_lm, runs, tome

PROMPTS = ["is there a red cup ?", "what colour ?", "how many"]
NAMES = [name for name in compress.METHODS if name not in compress.BASELINES]


def picture(seed=0, size=(32, 32)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))


@pytest.fixture(scope="module", params=shapes.HUB)
def vlm(request, checkpoint):
    return ww.load(checkpoint(request.param), device="cpu", dtype="float32")


@pytest.fixture(params=NAMES)
def name(request, vlm):
    """A method that this family can serve; the others are refused with a sentence."""
    try:
        with compress.compressed(vlm, request.param, keep=2):
            pass
    except ValueError as error:
        assert "has none: take a method without that need" in str(error)
        assert request.param == "prumerge" and vlm.family not in ("llava", "internvl")
        pytest.skip(str(error))
    return request.param


# -- on every family
# --------------------------------------------------------------------------------------------------


def test_keeping_all_tokens_changes_no_logit(vlm, name):
    images = [picture(n) for n in range(3)]
    real = vlm.prepare(images, PROMPTS)["attention_mask"].bool()
    before, said = vlm.logits(images, PROMPTS), vlm.answer(images, PROMPTS, 4)
    own = vlm.model(**vlm.prepare(images, PROMPTS)).logits
    with compress.compressed(vlm, name, keep=1.0) as log:
        assert apart(vlm.logits(images, PROMPTS)[real], before[real]) < SAME
        assert apart(vlm.model(**vlm.prepare(images, PROMPTS)).logits[real], own[real]) < SAME
        assert vlm.answer(images, PROMPTS, 4) == said
    assert log.removed == 0 and log.kept == log.given == log.on_average


@pytest.mark.parametrize("keep", [1, 4, 0.5])
def test_as_many_as_asked_for_and_a_batch_like_one_at_a_time(vlm, name, keep):
    images, grids = [picture(n) for n in range(3)], []
    grids = [vlm.patch_grid(image) for image in images]
    due = [rows * columns for rows, columns in grids]
    wanted = [max(1, round(keep * n)) if isinstance(keep, float) else min(keep, n) for n in due]
    usual = vlm.logits(images, PROMPTS)
    with compress.compressed(vlm, name, keep=keep) as log:
        together = vlm.logits(images, PROMPTS)
        alone = [vlm.logits(image, prompt) for image, prompt in zip(images, PROMPTS)]
    for batch, single in zip(together, alone):
        assert apart(batch[-len(single) :], single) < SAME
    assert log.given == due * 2
    if name == "smaller":
        assert all(0 < kept <= most for kept, most in zip(log.kept, wanted * 2))
    else:
        assert log.kept == wanted * 2
    place = compress.METHODS[name](1).where
    inside = place.startswith("LM") and place != "LM 0"
    for kept, all_of_them, seen in zip(log.kept, log.given, log.on_average):
        assert kept < seen < all_of_them if inside and kept < all_of_them else seen == kept
    if max(log.kept) < min(log.given):
        assert together.shape != usual.shape or apart(together[:, -1], usual[:, -1]) > SAME


@pytest.mark.parametrize("lengths", compress.LENGTHS)
def test_a_cached_answer_is_the_answer_without_a_cache(vlm, name, lengths):
    if name == "smaller" and lengths == "kept":
        pytest.skip("its tokens stand for themselves")
    images = [picture(n) for n in range(3)]
    never = {
        "eos_token_id": -1,
        "pad_token_id": 0,
        "suppress_tokens": vlm.tokenizer.all_special_ids,
    }
    said = []
    for beams, cached in itertools.product((1, 2), (True, False)):
        with compress.compressed(vlm, name, keep=3, lengths=lengths) as log:
            inputs = vlm.prepare(images, PROMPTS)
            ids = vlm.model.generate(
                **inputs, max_new_tokens=4, do_sample=False, use_cache=cached, num_beams=beams,
                **never,
            )  # fmt: skip
        said.append((ids.tolist(), log.kept))
    if name == "smaller":  # its log is of every run
        said = [(ids, None) for ids, _ in said]
    assert said[0] == said[1] and said[2] == said[3]


def test_afterwards_the_model_is_as_before(vlm, name):
    image, before = picture(), vlm.logits(picture(), PROMPTS[0])
    grid, weights = vlm.patch_grid(image), {k: v.clone() for k, v in vlm.model.state_dict().items()}
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in vlm.model.modules()]
    settings, members = str(vars(vlm.image_processor)), str(sorted(vars(vlm.adapter)))
    with compress.compressed(vlm, name, keep=2):
        vlm.logits(image, PROMPTS[0])
    with pytest.raises(RuntimeError, match="on purpose"), compress.compressed(vlm, name, keep=2):
        vlm.logits(image, PROMPTS[0])
        raise RuntimeError("on purpose")
    assert torch.equal(vlm.logits(image, PROMPTS[0]), before) and vlm.patch_grid(image) == grid
    assert all(torch.equal(v, weights[k]) for k, v in vlm.model.state_dict().items())
    assert hooks == [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in vlm.model.modules()]
    assert settings == str(vars(vlm.image_processor))
    assert members == str(sorted(vars(vlm.adapter)))
    assert not compress.within.at_work(vlm)


# -- several places
# --------------------------------------------------------------------------------------------------


def keeping(*steps):
    """A method that keeps, at each of its places, the tokens in these cells."""

    def choose(sight):
        return groups.only(
            np.flatnonzero(np.isin(sight.cells, steps[sight.step])), len(sight.cells)
        )

    return choose


def test_tokens_that_go_in_two_steps_are_hidden_from_the_blocks_after_each(vlm):
    """Against the whole sequence, hidden by a mask from the block on before which they go."""
    if vlm.n_layers < 3 or vlm.adapter.extra_depths:
        pytest.skip("needs two places between blocks")
    image, first, second = picture(), [0, 1, 3], [1, 3]
    inputs, at = vlm.prepare(image, PROMPTS[0]), vlm.positions(image, PROMPTS[0]).index
    n = inputs["input_ids"].shape[1]
    later, masks, left = torch.ones(n, n, dtype=torch.bool).triu(1), {}, None
    for block, kept in ((1, first), (2, second)):
        left = torch.ones(n, dtype=torch.bool)
        left[at[[cell for cell in range(len(at)) if cell not in kept]]] = False
        never = torch.finfo(torch.float32).min
        masks[block] = torch.zeros(n, n).masked_fill(later | ~left, never)[None, None]
    handles = [
        vlm.lm_layers[number].register_forward_pre_hook(
            lambda _, args, named, number=number: (
                args, {**named, "attention_mask": masks[min(number, 2)]},
            ),
            with_kwargs=True,
        )
        for number in range(1, vlm.n_layers)
    ]  # fmt: skip
    try:
        given = vlm.lm_inputs(vlm.embed(inputs), None, vlm.position_ids(inputs))
        due = vlm.unembedding(vlm.lm(**given).last_hidden_state[0, left])
    finally:
        for handle in handles:
            handle.remove()
    method = compress.Method("two", keeping(first, second), place=("LM 1", "LM 2"))
    with compress.compressed(vlm, method) as log:
        found = vlm.logits(image, PROMPTS[0])
        cache = vlm.model(**inputs, use_cache=True).past_key_values
    assert apart(found, due) < SAME and log.kept == [2, 2]
    assert log.groups[0].tolist() == [-1, 0, -1, 1, *[-1] * (len(at) - 4)]
    lengths = [layer.keys.shape[-2] for layer in cache.layers]
    gone = len(at)
    assert lengths[:3] == [n, n - gone + 3, n - gone + 2]
    assert log.on_average[0] == (gone + 3 + 2 * (vlm.n_layers - 2)) / vlm.n_layers


def test_groups_of_groups_have_the_mean_of_all_that_they_stand_for(checkpoint):
    """In the ViT: two steps, of which the second joins a group of three with a single token."""
    vlm = ww.load(checkpoint("llava"), device="cpu", dtype="float32")
    image, seen = picture(), []

    def choose(sight):
        seen.append(sight)
        if sight.step == 0:
            return np.r_[0, 0, 0, np.arange(3, len(sight.tokens))]
        return np.r_[0, 0, np.arange(2, len(sight.tokens))]

    last = vlm.last_depth
    method = compress.Method("twice", choose, place=(f"ViT {last - 1}", f"ViT {last}"))
    made = []
    with compress.compressed(vlm, method, lengths="kept") as log:
        hook = vlm.lm.register_forward_pre_hook(
            lambda _, __, named: made.append(named["inputs_embeds"]), with_kwargs=True
        )
        vlm.logits(image, PROMPTS[0])
        hook.remove()
    first, second = seen
    n = len(first.tokens)
    assert log.groups[0].tolist() == [0, 0, 0, 0, *range(1, n - 3)]
    assert log.kept == [n - 3] and second.sizes.tolist() == [3] + [1] * (n - 3)
    assert second.cells.tolist() == [1, *range(3, n)] and len(second.tokens) == n - 2
    due = (3 * second.tokens[0] + second.tokens[1]) / 4
    at = int(vlm.positions(image, PROMPTS[0]).index[0])
    assert apart(made[0][0, at], vlm.adapter.connector(due[None])[0]) < SAME


def test_attention_at_the_place_is_the_blocks_own_and_costs_no_second_run(vlm):
    layer = max(2, len(vlm.adapter.extra_depths))
    if layer >= vlm.n_layers:
        pytest.skip("too few blocks")
    image, seen, runs_of_first = picture(), [], []
    own = vlm.attention(image, PROMPTS[0], layers=[layer]).weights[0].mean(0)[-1]
    index = vlm.positions(image, PROMPTS[0]).index

    def look(sight):
        seen.append(sight.attention(sight.block))
        return np.arange(len(sight.tokens))

    method = compress.Method("look", look, f"LM {layer}", needs=("attention", "question"))
    hook = vlm.lm_layers[0].register_forward_hook(lambda *_: runs_of_first.append(1))
    with compress.compressed(vlm, method):
        vlm.logits(image, PROMPTS[0])
    hook.remove()
    assert apart(seen[0], own[index]) < SAME and len(runs_of_first) == 1


def test_what_a_method_sees_where_the_connector_reads(vlm):
    image, seen, run = picture(), [], []
    last = vlm.last_depth
    projection, split = vlm.adapter.vision_heads(vlm.vision_blocks[last - 1])[1]
    keys = []
    hook = projection.register_forward_hook(lambda _, __, output: keys.append(split(output)))
    due = []

    def second_pass(sight):
        due.append(sight.vision_attention(last))
        return np.arange(len(sight.tokens))

    with compress.compressed(vlm, second_pass):  # before the LM, by a second pass
        vlm.logits(image, PROMPTS[0])
    keys.clear()

    def look(sight):
        seen.append((sight.vision_attention(sight.block), sight.vision_keys(sight.block)))
        with pytest.raises(ValueError, match="keys are those of the block at the method's place"):
            sight.vision_keys(sight.block + 1)
        return np.arange(len(sight.tokens))

    watch = vlm.vision_blocks[0].register_forward_hook(lambda *_: run.append(1))
    needs = ("vision_attention", "vision_keys")
    with compress.compressed(vlm, compress.Method("look", look, "ViT last", needs)):
        vlm.logits(image, PROMPTS[0])
    watch.remove()
    hook.remove()
    assert apart(seen[0][0], due[0]) < SAME and len(run) == 1
    # the patches of a token side by side, in raster order, as `patches` sorts any ViT state
    inputs = vlm.prepare(image, PROMPTS[0])
    (own,) = vlm.adapter.patches(keys[0].float().mean(-2), inputs)
    assert torch.equal(seen[0][1], own)


# -- by hand
# --------------------------------------------------------------------------------------------------


def sight(tokens, grid, **more):
    return compress.Sight(torch.as_tensor(tokens, dtype=torch.float32), grid, **more)


def test_token_merging_counts_by_size_and_halves_at_most():
    keys = torch.tensor([[1.0, 0], [1, 0.01], [0, 1], [0.01, 1]])
    choose = tome.tome(2).groups
    at = dict(vision_keys=lambda block: keys, block=1, steps=1)
    found = choose(sight(torch.zeros(4, 1), (2, 2), **at))
    assert found[0] == found[1] != found[2] == found[3]
    # of three steps the first takes a third; one that would take more than half does not
    for step, left in ((0, 3), (1, 3), (2, 2)):
        own = choose(sight(torch.zeros(4, 1), (2, 2), **at | {"step": step, "steps": 3}))
        assert groups.count(own) == left
    assert groups.count(tome.tome(1).groups(sight(torch.zeros(4, 1), (2, 2), **at))) == 1
    weighed = groups.matched(
        torch.tensor([[1.0, 0], [0, 1], [1.0, 1]]), torch.tensor([9, 1, 1]), 1, 1
    )
    assert weighed.tolist() == [0, 0, 0]


def test_visionzip_by_hand():
    """Of 7 kept, 6 dominant and 1 contextual, which is the first of the others and takes them."""
    attention = np.array([9.0, 1, 8, 1, 7, 1, 6, 5, 4])
    keys = torch.eye(9)
    made = by_class_token.visionzip(7).groups(
        sight(keys, (3, 3), vision_attention=lambda b: attention, vision_keys=lambda b: keys)
    )
    assert made.groups[[0, 2, 4, 6, 7, 8]].tolist() == [0, 1, 2, 3, 4, 5]
    assert made.groups[[1, 3, 5]].tolist() == [7, 7, 7]
    assert np.flatnonzero(made.centres).tolist() == [0, 1, 2, 4, 6, 7, 8]


def test_prumerge_weighs_by_attention():
    attention = np.array([4.0, 1.0, 3.0, 2.0])
    keys = torch.tensor([[1.0, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]])
    made = by_class_token.prumerge(2).groups(
        sight(keys, (2, 2), vision_attention=lambda b: attention, vision_keys=lambda b: keys)
    )
    assert made.groups.tolist() == [0, 0, 1, 1] and made.weights.tolist() == [4, 1, 3, 2]
    assert made.centres.tolist() == [True, False, True, False]


def test_weights_and_centres_are_what_goes_on(vlm):
    image, seen = picture(), {}

    def choose(sight):
        chosen = groups.only(np.arange(3), len(sight.tokens))
        chosen[:3] = 0
        weights, centres = np.ones(len(chosen)), np.zeros(len(chosen), bool)
        weights[:3], centres[2] = (1, 2, 5), True
        return compress.Merge(chosen, weights, centres)

    with compress.compressed(vlm, choose):
        hook = vlm.lm.register_forward_pre_hook(lambda m, a, k: seen.update(k), with_kwargs=True)
        vlm.logits(image, "what")
        hook.remove()
    before, tokens = vlm.positions(image, "what"), vlm.visual_tokens(image)
    at = int(before.index[0])
    due = (tokens[0] + 2 * tokens[1] + 5 * tokens[2]) / 8
    assert apart(seen["inputs_embeds"][0, at], due) < SAME
    assert torch.equal(seen["position_ids"][..., 0, at], before.lm[..., 2])


def test_fastv_and_pyramiddrop_keep_what_is_attended_to():
    attention = np.array([1.0, 5, 3, 4, 2, 0, 0, 0])
    look = dict(attention=lambda layer, asking=None: attention, block=2)
    made = in_lm.fastv(3).groups(sight(torch.zeros(8, 1), (2, 4), **look))
    assert np.flatnonzero(made >= 0).tolist() == [1, 2, 3]
    for step, left in ((0, 4), (1, 2), (2, 1)):
        more = look | {"step": step, "steps": 3}
        made = in_lm.pyramiddrop(1).groups(sight(torch.zeros(8, 1), (2, 4), **more))
        assert groups.count(made) == left, "each time by half"


def test_raters_match_the_picture_and_what_is_pruned_is_recycled():
    visual = torch.eye(4)[[0, 1, 0, 1] * 5]
    text = 5 * torch.eye(4)[[0, 3, 1]]
    asked = []

    def attention(layer, asking=None):
        asked.append(asking.tolist())
        return np.arange(20.0)[::-1]

    own = sight(
        visual, (4, 5), attention=attention, ids=torch.arange(23), index=torch.arange(20),
        embeddings=torch.cat([visual, text]), hidden=torch.cat([visual, text]), block=2,
    )  # fmt: skip
    made = by_text.sparsevlm(10).groups(own)
    assert asked == [[20, 22]], "the word that no visual token matches does not rate"
    # of 10 that go, 3 are recycled into one token, for which one more has to go
    assert groups.count(made.groups) == 10 and (made.groups >= 0).sum() == 9 + 1 + 3
    more = by_text.sparsevlm(2).groups(own)
    assert groups.count(more.groups) == 2
    assert (more.groups >= 0).sum() == 2 - 1 + 1 + round(0.3 * 18), "one goes on, one is a cluster"


def test_peaks_of_density_are_the_middles_of_heaps():
    rng = np.random.default_rng(0)
    heaps = np.repeat([[0.0, 0], [10, 0], [0, 10]], 6, axis=0) + rng.normal(0, 0.3, (18, 2))
    own = by_text.density_peaks(torch.from_numpy(heaps), 3)
    assert [len(set(own[i : i + 6])) for i in (0, 6, 12)] == [1, 1, 1] and len(set(own)) == 3
    assert set(by_text.density_peaks(torch.zeros(5, 2), 2)) == {0, 1}, "equal points, two clusters"


def test_the_greedy_determinant_is_that_of_numpy():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(7, 5))
    kernel = vectors @ vectors.T
    chosen = []
    for _ in range(5):
        left = [n for n in range(7) if n not in chosen]
        volumes = [np.linalg.det(kernel[np.ix_([*chosen, n], [*chosen, n])]) for n in left]
        chosen.append(left[int(np.argmax(volumes))])
    assert diverse.dpp(torch.from_numpy(kernel), 5).tolist() == chosen
    assert sorted(diverse.dpp(torch.from_numpy(kernel), 7)) == list(range(7)), "beyond its rank"


def test_divprune_chooses_what_is_farthest():
    angles = np.radians([0, 2, 4, 90, 180, 182])
    tokens = np.stack([np.cos(angles), np.sin(angles)], 1)
    made = diverse.divprune(3).groups(sight(tokens, (2, 3)))
    assert np.flatnonzero(made >= 0).tolist() in ([0, 3, 5], [0, 3, 4], [1, 3, 5], [2, 3, 5])
    copies = diverse.divprune(3).groups(sight(np.ones((4, 2)), (2, 2)))
    assert groups.count(copies) == 3


def test_dart_keeps_what_is_unlike_its_pivots():
    tokens = torch.eye(6)[[0, 0, 1, 2, 3, 0]] * torch.tensor([9.0, 1, 1, 1, 1, 1])[:, None]
    hidden = torch.cat([tokens, torch.eye(6)[[5]]])
    own = sight(tokens, (2, 3), hidden=hidden, ids=torch.arange(7), index=torch.arange(6))
    made = diverse.dart(5).groups(own)
    assert groups.count(made) == 5 and made[0] >= 0
    assert groups.count(diverse.dart(1).groups(own)) == 1


def test_runs_and_regions_join_alike_neighbours():
    kind = np.array([[0, 0, 1], [1, 1, 1], [2, 2, 0]])
    tokens = torch.eye(3)[kind.ravel()] + 0.01 * torch.arange(9)[:, None] / 9
    made = runs.runs(5).groups(sight(tokens, (3, 3)))
    assert made.tolist() == [0, 0, 1, 2, 2, 2, 3, 3, 4], "as groups.rows of the kinds has it"
    assert made.tolist() == groups.rows(kind).tolist()
    assert groups.count(runs.runs(2).groups(sight(tokens, (3, 3)))) == 2, "less than rows"
    found = runs.regions(4).groups(sight(tokens, (3, 3)))
    assert groups.regions(kind).tolist() == np.unique(found, return_inverse=True)[1].tolist()


@pytest.mark.parametrize(
    "grid, keep, square, due",
    [
        ((12, 12), 36, True, (6, 6)),
        ((12, 12), 48, True, (6, 6)),
        ((12, 12), 144, True, (12, 12)),
        ((12, 12), 1, True, (1, 1)),
        ((8, 8), 16, False, (4, 4)),
        ((8, 8), 32, False, (5, 6)),
        ((6, 12), 18, False, (3, 6)),
        ((4, 4), 99, False, (4, 4)),
    ],
)
def test_a_smaller_grid_has_the_shape_of_the_larger(grid, keep, square, due):
    assert smaller.grid_of(*grid, keep, square) == due


def test_a_smaller_picture_is_what_one_would_show_oneself(checkpoint):
    """Where pictures keep their size: the same as showing the picture that was made smaller."""
    vlm = ww.load(checkpoint("qwen2vl"), device="cpu", dtype="float32")
    image = picture(size=(48, 48))
    rows, columns = vlm.patch_grid(image)
    side = round(vlm.adapter.token_area**0.5)
    small = image.resize((side * (columns // 2), side * (rows // 2)), Image.Resampling.BICUBIC)
    with compress.compressed(vlm, "smaller", keep=rows // 2 * (columns // 2)) as log:
        found = vlm.logits(image, "what")
        assert vlm.patch_grid(image) == (rows // 2, columns // 2)
    with ww.images.bounded(vlm, min_pixels=side**2):
        assert apart(found, vlm.logits(small, "what")) < SAME
    assert log.given == [rows * columns]
    inputs = vlm.prepare(image, "what")
    with (
        compress.compressed(vlm, "smaller", keep=4),
        pytest.raises(ValueError, match="call vlm.prepare within this context"),
    ):
        vlm.model(**inputs)


# -- the registry, and bad input
# --------------------------------------------------------------------------------------------------


def test_the_table_says_what_each_method_needs():
    table = compress.table()
    assert list(table.index) == [*compress.WORDS, *compress.METHODS]
    assert not table.loc["fastv", "FlashAttention"] and table.loc["fastv", "question"]
    assert table.loc["divprune", "FlashAttention"] and not table.loc["divprune", "question"]
    assert table.loc["fastv-rank", "second pass"] and not table.loc["fastv", "second pass"]
    assert table.loc["prumerge", "class token"] and table["training"].sum() == len(compress.WORDS)
    assert set(compress.CONTROLS) < set(compress.METHODS)


@pytest.mark.parametrize(
    "which, options, said",
    [
        ("visionzip", {}, "keep is a whole number of tokens from 1 up"),
        ("visionzip", {"keep": 0}, "keep is a whole number of tokens from 1 up"),
        ("visionzip", {"keep": len}, "'visionzip' works at ViT last, where the way that is to be"),
        ("smaller", {"keep": len}, "'smaller' works at picture, where the way that is to be"),
        ("smaller", {"keep": 3, "lengths": "kept"}, "each token stands for itself: leave pool"),
        ("fastv", {"keep": 3, "positions": "renumbered"}, "drops tokens at LM 2, after they were"),
        (compress.Method("m", len, ("LM 1", "ViT 1")), {}, "several places are all in the ViT, or"),
        (compress.Method("m", len, ("LM 0", "LM 2")), {}, "several places are all in the ViT, or"),
        (compress.Method("m", len, "LM 3/2"), {}, "The place of method 'm' is 'LM 3/2'"),
    ],
)
def test_what_cannot_be_done_is_refused(checkpoint, which, options, said):
    vlm = ww.load(checkpoint("llava"), device="cpu", dtype="float32")
    with pytest.raises(ValueError, match=said), compress.compressed(vlm, which, **options):
        vlm.logits(picture(), "what")


def test_more_than_there_are_is_all_of_them_with_a_warning(checkpoint):
    vlm = ww.load(checkpoint("llava"), device="cpu", dtype="float32")
    with (
        compress.compressed(vlm, "divprune", keep=999) as log,
        pytest.warns(UserWarning, match="asked to keep 999 tokens of an image that has 16"),
    ):
        vlm.logits(picture(), "what")
    assert log.kept == log.given == [16]


@pytest.mark.parametrize(
    "outer, inner", [("random", "tome"), ("smaller", "fastv"), ("tome", "smaller")]
)
def test_two_methods_at_once_are_refused(checkpoint, outer, inner):
    vlm = ww.load(checkpoint("llava"), device="cpu", dtype="float32")
    with (
        compress.compressed(vlm, outer, keep=3),
        pytest.raises(ValueError, match="leave one `with compress.compressed"),
        compress.compressed(vlm, inner, keep=3),
    ):
        pass
    assert not compress.within.at_work(vlm)


def test_a_method_that_ranks_by_the_class_token_is_refused_where_there_is_none(checkpoint):
    vlm = ww.load(checkpoint("qwen2vl"), device="cpu", dtype="float32")
    with (
        pytest.raises(
            ValueError, match="'prumerge' ranks patches by a class token, and the ViT of"
        ),
        compress.compressed(vlm, "prumerge", keep=3),
    ):
        pass


@pytest.mark.parametrize("weights", [[1.0, 2.0], [np.nan] * 16, [0.0] * 16])
def test_weights_that_are_none_are_refused(checkpoint, weights):
    vlm = ww.load(checkpoint("llava"), device="cpu", dtype="float32")
    choose = lambda sight: compress.Merge(np.zeros(16, int), weights)  # noqa: E731
    with pytest.raises(ValueError, match="Weights in a mean"), compress.compressed(vlm, choose):
        vlm.logits(picture(), "what")


# -- all of them, on a benchmark
# --------------------------------------------------------------------------------------------------


def test_the_command_compares_all_methods_and_goes_on(checkpoint, tmp_path, capsys):
    folder, out = str(checkpoint("qwen2vl")), tmp_path / "all"
    command = ["bench", folder, "tabletop-b", "--limit", "4", "--keep", "2", "--out", str(out)]
    assert cli.main([*command, "--compress", "all"]) == 0
    said = capsys.readouterr().out
    assert (
        "left out: Method 'prumerge' ranks patches" in said and "method visionzip, keep 2" in said
    )
    rows = sorted(out.glob("*/rows-0.jsonl"))
    assert len(rows) == len(compress.METHODS), "all tokens, and all methods but one"
    before = [path.read_bytes() for path in rows]
    assert cli.main([*command, "--compress", "all"]) == 0
    assert capsys.readouterr().out == said
    assert [path.read_bytes() for path in rows] == before, "nothing is asked again"
    table = benchmarks.by_method(path.parent for path in rows)
    assert table.index[0] == "all tokens" and list(table.columns) == ["removed", "tabletop-b"]
    with pytest.raises(ValueError, match="No run here asks tabletop-b with all tokens"):
        benchmarks.by_method(path.parent for path in rows if "compressed" in str(path))
    assert cli.main([*command[:5], "--compress", "all"]) == 1
    assert "All methods are compared at equal tokens: give --keep" in capsys.readouterr().err


def test_methods_are_listed(capsys):
    assert cli.main(["methods"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in compress.METHODS) and "FlashAttention" in said


def test_the_judgement_is_the_exam(checkpoint):
    """At "LM 0" against an exam as chapter 6 sits it, and for all methods the same questions."""
    vlm = ww.load("toy-llava")
    scenes, families = list(ww.world.scenes("dev", 18)), {"a": ["existence"], "b": ["colour"]}
    exam = ww.answers.Exam.on(vlm, scenes, families, shared=True)
    whole = judge.judged(vlm, scenes, families)
    assert np.array_equal(whole.right, exam.tally()) and np.array_equal(whole.counts, exam.counts)
    with compress.compressed(vlm, "divprune", keep=20):
        due = exam.tally()
    found = judge.judged(vlm, scenes, families, "divprune", 20)
    assert np.array_equal(found.right, due) and (found.kept, found.given) == (20, 144)
    inside = judge.judged(vlm, scenes[:3], families, "fastv", 36)
    assert inside.kept == 36 < inside.on_average == (144 + 36) / 2
    assert inside.each.sum() == inside.right.sum() and len(inside.each) == inside.counts.sum()


def test_what_is_dropped_joins_what_it_is_most_alike():
    tokens = torch.eye(3)[[0, 1, 2, 1, 0, 0]].float()

    def keeps(sight):
        return groups.only(np.array([1, 4]), 6)

    made = compress.gathered(compress.Method("m", keeps))(sight(tokens, (2, 3)))
    assert made.groups.tolist() == [1, 0, 0, 0, 1, 1] and np.flatnonzero(made.centres).tolist() == [
        1,
        4,
    ]
    assert groups.count(compress.METHODS["gather"](2)(sight(tokens, (2, 3))).groups) == 2


def test_the_log_says_where_each_token_went(vlm, name):
    if name == "smaller":
        pytest.skip("its tokens are other tokens")
    image = picture()
    with compress.compressed(vlm, name, keep=3) as log:
        vlm.logits([image, image], PROMPTS[:2])
    for of, kept, given in zip(log.groups, log.kept, log.given):
        assert of.shape == (given,) and set(of) - {-1} == set(range(kept))
