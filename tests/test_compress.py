"""Compression: the path is exact, dropping is leaving out, and what is changed is put back."""

import numpy as np
import pytest
import torch
from PIL import Image

import shapes
import whatwhere as ww
from closeness import OTHER, SAME, apart
from whatwhere import compress, places
from whatwhere.book.rehearsal.checkpoints import llava, qwen2vl

PROMPTS = ["is there a red cup ?", "what colour ?", "how many"]


def picture(seed=0, size=(24, 24)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))


@pytest.fixture(scope="module", params=shapes.COMPRESS)
def vlm(request, checkpoint):
    return ww.load(checkpoint(request.param), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def decoder(vlm):
    """It knows three words, so that neighbours are often equal."""
    weight = torch.randn(vlm.unembedding.weight.shape, generator=torch.Generator().manual_seed(3))
    weight[3:] = 0
    return compress.Decoder(weight, vlm.words)


def given_to_see(vlm, inputs):
    """The visual tokens that the LM is given, with what a DeepStack adds later."""
    return [tokens[0] for tokens in vlm.visual(inputs, [vlm.last_depth])]


def everything(sight):
    return np.arange(len(sight.tokens))


def some(sight):
    """Drops a third, joins the first two that are left."""
    chosen = np.arange(len(sight.tokens))
    chosen[::3] = -1
    chosen[2] = chosen[1]
    return chosen


# -- the path itself
# ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lengths", compress.LENGTHS)
@pytest.mark.parametrize("pool", compress.POOLS)
def test_keeping_every_token_changes_no_logit(vlm, pool, lengths):
    images = [picture(0), picture(1), picture(2)]
    before, said = vlm.logits(images, PROMPTS), vlm.answer(images, PROMPTS, 5)
    own = vlm.model(**vlm.prepare(images, PROMPTS)).logits
    with compress.compressed(vlm, everything, pool=pool, lengths=lengths) as log:
        real = vlm.prepare(images, PROMPTS)["attention_mask"].bool()
        assert apart(vlm.logits(images, PROMPTS)[real], before[real]) < SAME
        assert apart(vlm.model(**vlm.prepare(images, PROMPTS)).logits[real], own[real]) < SAME
        assert vlm.answer(images, PROMPTS, 5) == said
    assert log.removed == 0 and len(log.kept) == 9


@pytest.mark.parametrize("positions", compress.POSITIONS)
def test_dropping_a_token_is_leaving_it_out(vlm, positions):
    """Against the whole sequence with the dropped tokens hidden from all others (kept), or cut out
    of it (renumbered)."""
    image, gone = picture(), np.array([0, 3, 4, 9])

    def without(sight):
        chosen = np.arange(len(sight.tokens))
        chosen[gone[gone < len(chosen)]] = -1
        return chosen

    inputs = vlm.prepare(image, PROMPTS[0])
    places = vlm.positions(image, PROMPTS[0]).index
    left = torch.ones(inputs["input_ids"].shape[1], dtype=torch.bool)
    left[places[gone[gone < len(places)]]] = False
    embeddings, ids = vlm.embed(inputs), vlm.position_ids(inputs)
    if positions == "kept":
        never = torch.finfo(torch.float32).min
        n = len(left)
        mask = torch.zeros(n, n).masked_fill(
            torch.ones(n, n, dtype=torch.bool).triu(1) | ~left, never
        )
        hidden = vlm.lm(**vlm.lm_inputs(embeddings, mask[None, None], ids)).last_hidden_state[
            :, left
        ]
    else:
        hidden = vlm.lm(**vlm.lm_inputs(embeddings[:, left])).last_hidden_state
    with compress.compressed(vlm, without, positions=positions) as log:
        found = vlm.logits(image, PROMPTS[0])
    assert found.shape[0] == left.sum() and log.given == [len(places)]
    assert apart(found, vlm.unembedding(hidden[0])) < SAME


@pytest.mark.parametrize("lengths", compress.LENGTHS)
@pytest.mark.parametrize("positions", compress.POSITIONS)
def test_a_cached_answer_is_the_answer_without_a_cache(vlm, positions, lengths):
    """Greedy decoding, token by token with the whole prompt run again each time, in a padded batch;
    both must agree."""
    images = [picture(0), picture(1), picture(2)]
    with compress.compressed(vlm, some, positions=positions, lengths=lengths):
        inputs = vlm.prepare(images, PROMPTS)
        # one may have no row in the embedding
        special = [n for n in vlm.tokenizer.all_special_ids if n < len(vlm.words)]
        never = {
            "eos_token_id": -1,
            "pad_token_id": 0,
            "suppress_tokens": special,
            "repetition_penalty": 1.0,
        }
        given = vlm.model.generate(**inputs, max_new_tokens=6, do_sample=False, **never)
        new = given[:, inputs["input_ids"].shape[1] :].tolist()
        said = [[] for _ in images]
        for n in range(6):
            ids = torch.cat(
                [inputs["input_ids"], torch.tensor(said, dtype=torch.long).reshape(3, n)], 1
            )
            mask = torch.cat([inputs["attention_mask"], torch.ones(3, n, dtype=torch.long)], 1)
            grown = vlm.adapter.model_inputs(
                ids, mask, {k: v for k, v in inputs.items() if "image" in k or "pixel" in k}
            )
            hidden = vlm.lm_hidden(vlm.embed(grown), mask, vlm.position_ids(grown))
            logits = vlm.unembedding(vlm.final_norm(hidden[:, -1]))
            logits[:, special] = -torch.inf
            best = logits.argmax(-1)
            said = [row + [int(token)] for row, token in zip(said, best)]
    assert said == new
    assert len({tuple(row) for row in new}) > 1


@pytest.mark.parametrize("lengths", compress.LENGTHS)
def test_a_batch_answers_as_one_at_a_time_does(vlm, decoder, lengths):
    images, prompts = (
        [picture(n, (32, 32)) for n in range(4)],
        PROMPTS + ["is the bear blue or green or yellow ?"],
    )
    with compress.compressed(vlm, 1, decoder, lengths=lengths) as log:
        together = vlm.logits(images, prompts)
        alone = [vlm.logits(i, p) for i, p in zip(images, prompts)]
    for batch, one in zip(together, alone):
        assert apart(batch[-len(one) :], one) < SAME
    assert log.kept[:4] == log.kept[4:] and len(set(log.kept)) > 1


def generated(vlm, inputs, how, **options):
    """Token ids of answers while compressing, and the log."""
    never = {
        "eos_token_id": -1,
        "pad_token_id": 0,
        "suppress_tokens": vlm.tokenizer.all_special_ids,
    }
    with compress.compressed(vlm, **how) as log:
        ids = vlm.model.generate(**inputs, max_new_tokens=5, do_sample=False, **never, **options)
    return ids[:, inputs["input_ids"].shape[1] :].tolist(), log


@pytest.fixture(scope="module", params=shapes.HUB)
def family(request, checkpoint):
    return ww.load(checkpoint(request.param), device="cpu", dtype="float32")


def test_a_cache_of_fixed_length_is_refused(family):
    inputs = family.prepare([picture(0), picture(1)], PROMPTS[:2])
    for kind in ("static", "sliding_window"):
        with pytest.raises(ValueError, match="needs the usual growing cache, whose mask is"):
            generated(family, inputs, dict(which="grid", keep=0.5), cache_implementation=kind)
    assert not compress.within.at_work(family)


@pytest.mark.parametrize("beams", [1, 2])
@pytest.mark.parametrize(
    "how", [dict(which="fastv-rank", keep=3), dict(which="random", keep=3, pool="random")], ids=str
)
def test_without_a_cache_a_prompt_is_shortened_once(family, how, beams):
    """What is drawn, or chosen by the question, is not chosen anew for every token of the answer,
    nor for every beam."""
    inputs = family.prepare([picture(0), picture(1)], PROMPTS[:2])
    (cached, log), (uncached, again) = (
        generated(family, inputs, how, num_beams=beams, use_cache=cached)
        for cached in (True, False)
    )
    assert cached == uncached and log.kept == again.kept == [3] * 2 * beams


def test_beams_of_a_prompt_are_shortened_alike(family):
    """By drawing, which would give each beam tokens of its own."""
    seen = []
    hook = family.lm.register_forward_pre_hook(
        lambda _, __, named: seen.append(named["inputs_embeds"]), with_kwargs=True
    )
    chosen = []

    def drawn(sight):
        chosen.append(compress.BASELINES["random"](3)(sight))
        return chosen[-1]

    try:
        generated(
            family,
            family.prepare([picture(0), picture(1)], PROMPTS[:2]),
            dict(which=drawn),
            num_beams=3,
        )
    finally:
        hook.remove()
    assert len(chosen) == 2 and len(seen[0]) == 6


def test_attention_that_overflows_float16_is_computed_in_float32(tmp_path):
    """With biases of queries and keys as large as a Qwen's, products are beyond 65504, and a
    softmax of infinities is nan."""
    qwen2vl(tmp_path)
    vlm, chosen = ww.load(tmp_path, device="cpu", dtype="float16"), []
    with torch.no_grad():
        for layer in vlm.lm_layers:
            for part in (layer.self_attn.q_proj, layer.self_attn.k_proj):
                part.bias.view(-1, 8)[:, [3, 7]] = 200.0
    heads = ww.rope.language_heads(vlm, picture(), PROMPTS[0])
    assert (heads.q[0].half() @ heads.k[0].half().mT).isinf().any()

    def keep(sight):
        chosen.append(sight.attention(1))
        return compress.BASELINES["fastv-rank"](3, layer=1)(sight)

    with compress.compressed(vlm, keep) as log:
        vlm.lm_hidden(
            vlm.embed(inputs := vlm.prepare(picture(), PROMPTS[0])), None, vlm.position_ids(inputs)
        )
    assert log.kept == [3]
    assert np.isfinite(chosen[0]).all() and (chosen[0] >= 0).all() and chosen[0].sum() <= 1.001


def test_scores_that_are_not_finite_choose_nothing(tmp_path):
    qwen2vl(tmp_path)
    vlm = ww.load(tmp_path, device="cpu", dtype="float32")
    with torch.no_grad():
        vlm.lm_layers[1].self_attn.q_proj.bias.fill_(torch.inf)
    with (
        compress.compressed(vlm, "fastv-rank", keep=3),
        pytest.raises(ValueError, match="not finite"),
    ):
        vlm.model(**vlm.prepare(picture(), PROMPTS[0]))


def test_images_of_different_grids_in_one_batch(tmp_path):
    qwen2vl(tmp_path)
    vlm = ww.load(tmp_path, device="cpu", dtype="float32")
    images = [picture(0, (32, 48)), picture(1, (24, 24)), picture(2, (16, 64))]
    with compress.compressed(vlm, "grid", keep=5) as log:
        together, alone = (
            vlm.answer(images, PROMPTS, 5),
            [vlm.answer(i, p, 5) for i, p in zip(images, PROMPTS)],
        )
    assert together == alone and log.kept == [5] * 6 and log.given[:3] == [24, 9, 16]


def test_a_class_token_is_never_dropped(tmp_path):
    llava(tmp_path, strategy="full")
    vlm = ww.load(tmp_path, device="cpu", dtype="float32")
    n = vlm.prepare(picture(), "what")["input_ids"].shape[1]
    with compress.compressed(vlm, "random", keep=3) as log:
        assert vlm.logits(picture(), "what").shape[0] == n - 13
    assert (log.kept, log.given) == ([3], [16])


# -- lengths, positions, pooling
# ------------------------------------------------------------------------------------


def test_a_token_of_length_n_is_attended_to_like_n_copies(tmp_path):
    """In one LM block, where what the copies see cannot differ: against a sequence that holds each
    copy."""
    llava(tmp_path, layers=1)
    vlm = ww.load(tmp_path, device="cpu", dtype="float32")
    image, joined = picture(), [5, 6, 7]
    inputs, at = vlm.prepare(image, "what"), vlm.positions(image, "what").index
    embeddings, ids = vlm.embed(inputs), vlm.position_ids(inputs).clone()
    embeddings[:, at[joined]] = embeddings[:, at[joined]].mean(1, keepdim=True)
    ids[:, at[joined]] = int(ids[0, at[6]])
    copies = vlm.unembedding(vlm.lm(inputs_embeds=embeddings, position_ids=ids).last_hidden_state)[
        0, -1
    ]

    def join(sight):
        return np.where(np.isin(np.arange(16), joined), 99, np.arange(16))

    with compress.compressed(vlm, join, lengths="kept"):
        assert apart(vlm.logits(image, "what")[-1], copies) < SAME
    with compress.compressed(vlm, join):
        assert apart(vlm.logits(image, "what")[-1], copies) > OTHER


@pytest.mark.parametrize("pool", compress.POOLS)
def test_what_goes_on_for_a_group(vlm, pool):
    image, members = picture(), [0, 1, 2] if vlm.patch_grid(picture())[1] > 3 else [0, 1]
    seen = {}
    with compress.compressed(
        vlm, lambda s: np.where(np.isin(np.arange(len(s.tokens)), members), 0, -1), pool=pool
    ):
        hook = vlm.lm.register_forward_pre_hook(lambda m, a, k: seen.update(k), with_kwargs=True)
        try:
            vlm.logits(image, "what")
        finally:
            hook.remove()
    tokens, before = vlm.visual_tokens(image), vlm.positions(image, "what")
    at = int(before.index[0])
    given, place = seen["inputs_embeds"][0, at], seen["position_ids"][..., 0, at]
    stands = [n for n in members if torch.equal(place, before.lm[..., n])]
    assert len(stands) == 1
    if pool == "mean":
        assert apart(given, tokens[members].mean(0)) < SAME and stands == [
            1 if len(members) == 3 else 0
        ]
    else:
        assert torch.equal(given, tokens[stands[0]]) and (pool == "random" or stands == [0])


def test_what_is_dropped_keeps_its_place_free_or_not(vlm):
    def given(positions):
        seen = []
        with compress.compressed(vlm, some, positions=positions):
            hook = vlm.lm.register_forward_pre_hook(
                lambda m, a, k: seen.append(k["position_ids"]), with_kwargs=True
            )
            try:
                vlm.answer(picture(), PROMPTS[0], 3)
            finally:
                hook.remove()
        return seen

    kept, renumbered, whole = (
        given("kept"),
        given("renumbered"),
        vlm.position_ids(vlm.prepare(picture(), PROMPTS[0])),
    )
    assert {tuple(p) for p in kept[0].reshape(-1, kept[0].shape[-1]).T.tolist()} < {
        tuple(p) for p in whole.reshape(-1, whole.shape[-1]).T.tolist()
    }
    assert renumbered[0].flatten().tolist() == list(range(renumbered[0].shape[-1]))
    assert (
        int(kept[1].flatten()[0]) == int(whole.max()) + 1
        and int(renumbered[1]) == renumbered[0].shape[-1]
    )


# -- a method's place, and what it sees
# -----------------------------------------------------------------------------


def inside(groups=some, needs=()):
    """A method that shortens what the LM's second block gives on to its third."""
    return compress.Method("inside", groups, place="LM 2", needs=needs)


@pytest.mark.parametrize("lengths", compress.LENGTHS)
def test_keeping_every_token_inside_the_lm_changes_no_logit(vlm, lengths):
    images = [picture(0), picture(1), picture(2)]
    before, said = vlm.logits(images, PROMPTS), vlm.answer(images, PROMPTS, 5)
    with compress.compressed(vlm, inside(everything), lengths=lengths) as log:
        real = vlm.prepare(images, PROMPTS)["attention_mask"].bool()
        assert apart(vlm.logits(images, PROMPTS)[real], before[real]) < SAME
        assert vlm.answer(images, PROMPTS, 5) == said
    assert log.removed == 0 and len(log.kept) == 6


def test_dropping_a_token_inside_the_lm_is_hiding_it_from_later_blocks(vlm):
    image, gone = picture(), [0, 3]
    inputs, at = vlm.prepare(image, PROMPTS[0]), vlm.positions(image, PROMPTS[0]).index
    left = torch.ones(inputs["input_ids"].shape[1], dtype=torch.bool)
    left[at[gone]] = False
    hidden_from = torch.ones(len(left), len(left), dtype=torch.bool).triu(1) | ~left
    mask = torch.zeros(hidden_from.shape).masked_fill(hidden_from, torch.finfo(torch.float32).min)[
        None, None
    ]
    embeddings, ids = vlm.embed(inputs), vlm.position_ids(inputs)
    hook = vlm.lm_layers[2].register_forward_pre_hook(
        lambda _, args, named: (args, {**named, "attention_mask": mask}), with_kwargs=True
    )
    try:
        due = vlm.unembedding(
            vlm.lm(**vlm.lm_inputs(embeddings, None, ids)).last_hidden_state[0, left]
        )
    finally:
        hook.remove()

    def without(sight):
        return np.where(
            np.isin(np.arange(len(sight.tokens)), gone), -1, np.arange(len(sight.tokens))
        )

    usual = vlm.logits(image, PROMPTS[0])
    with compress.compressed(vlm, inside(without)) as log:
        found = vlm.logits(image, PROMPTS[0])
        cache = vlm.model(**inputs, use_cache=True).past_key_values
    assert apart(found, due) < SAME and apart(found[-1], usual[-1]) > SAME
    assert log.given[0] - log.kept[0] == 2 and log.method.name == "inside"
    lengths = [layer.keys.shape[-2] for layer in cache.layers]
    assert lengths[:2] == [len(left)] * 2 and set(lengths[2:]) == {len(left) - 2}


@pytest.mark.parametrize("beams", [1, 2])
@pytest.mark.parametrize("lengths", compress.LENGTHS)
def test_inside_the_lm_a_cached_answer_is_the_answer_without_a_cache(family, lengths, beams):
    inputs = family.prepare([picture(0), picture(1), picture(2)], PROMPTS)
    how = dict(which=inside(), lengths=lengths)
    (cached, _), (uncached, _) = (
        generated(family, inputs, how, num_beams=beams, use_cache=cached)
        for cached in (True, False)
    )
    assert cached == uncached


def test_fastv_is_a_few_lines(vlm):
    """Chen et al. (ECCV 2024): after the second block, only what the question's last token attends
    to most goes on."""

    def most_attended(sight):
        groups = np.full(len(sight.tokens), -1)
        groups[np.argsort(-sight.attention(2))[:3]] = np.arange(3)
        return groups

    images, fastv = [picture(0), picture(1)], inside(most_attended, needs=("attention", "question"))
    with compress.compressed(vlm, fastv) as log:
        together, alone = (
            vlm.logits(images, PROMPTS[:2]),
            [vlm.logits(i, p) for i, p in zip(images, PROMPTS)],
        )
    assert log.kept == [3] * 4 and all(
        apart(batch[-len(one) :], one) < SAME for batch, one in zip(together, alone)
    )
    inputs = vlm.prepare(picture(), PROMPTS[0])
    ids = inputs["input_ids"][:, : places.find(vlm, inputs["input_ids"]).end[0]]
    with (
        compress.compressed(vlm, fastv),
        pytest.raises(ValueError, match="'inside' needs a question after the image"),
    ):
        vlm.lm(**vlm.lm_inputs(vlm.embed({"input_ids": ids}, given_to_see(vlm, inputs))))


def test_what_a_method_sees(vlm):
    images, seen, states = [picture(0), picture(1)], [], []

    def look(sight):
        seen.append(sight)
        last = [len(sight.ids) - 1]
        assert apart(sight.attention(1), sight.attention(1, last)) < SAME
        both = sight.attention(1, sight.asked[-2:])
        assert apart(2 * both, sight.attention(1, last) + sight.attention(1, [last[0] - 1])) < SAME
        states.append({depth: sight.states(depth) for depth in (0, vlm.last_depth)})
        return everything(sight)

    with compress.compressed(vlm, look):
        vlm.model(**vlm.prepare(images, PROMPTS[:2]))
    for n, (image, prompt, sight) in enumerate(zip(images, PROMPTS, seen)):
        alone = vlm.prepare(image, prompt)
        assert torch.equal(sight.ids, alone["input_ids"][0]) and torch.equal(
            sight.index, vlm.positions(image, prompt).index
        )
        assert torch.equal(sight.hidden[sight.index], sight.tokens) and prompt in sight.text
        assert apart(sight.hidden, vlm.embed(alone)[0, :, : sight.hidden.shape[1]]) < SAME
        for depth, own in states[n].items():
            assert apart(own, vlm.vit_states(images, [depth])[n][0]) < SAME


def test_the_vits_attention_to_each_token(vlm):
    """What CLIP's class token pays, else the mean over all patches that look; of the m × m patches
    of a token their mean."""
    images, blocks, seen, m = [picture(0), picture(1)], [vlm.last_depth, 1], [], vlm.adapter.merge

    def look(sight):
        seen.append([sight.vision_attention(block) for block in blocks])
        return everything(sight)

    with compress.compressed(vlm, look):
        vlm.logits(images, PROMPTS[:2])
    for found, own in zip(seen, vlm.attention(images, depths=blocks), strict=True):
        rows, columns = own.grid
        for received, weights in zip(found, own.weights.flip(0).double().numpy(), strict=True):
            looking = weights[:, :1] if own.words[0] == "class token" else weights
            by_patch = looking[..., own.places].mean((0, 1)).reshape(rows, columns)
            due = [
                np.mean([by_patch[m * r + i, m * c + j] for i in range(m) for j in range(m)])
                for r in range(rows // m) for c in range(columns // m)
            ]  # fmt: skip
            assert apart(received, np.array(due)) < SAME and np.ptp(received) > 0
    assert apart(seen[0][0], seen[1][0]) > 0 and apart(seen[0][0], seen[0][1]) > 0


def test_even_attention_is_an_equal_share(checkpoint):
    """Where queries are zero, a token of 16 gets 1/17, the class token being one more."""
    vlm = ww.load(checkpoint("llava"), device="cpu", dtype="float32")
    seen, attention = [], vlm.vision_blocks[0].self_attn
    with torch.no_grad():
        attention.q_proj.weight.zero_()
        attention.q_proj.bias.zero_()

    def look(sight):
        seen.append(sight.vision_attention(1))
        return everything(sight)

    with compress.compressed(vlm, look):
        vlm.logits(picture(), "what")
    assert seen[0].shape == (16,) and apart(seen[0], 1 / 17) < SAME


@pytest.mark.parametrize("cached", [True, False])
def test_beams_see_the_vits_states_too(family, cached):
    """Whether their pictures are repeated with the prompt or not."""

    def brightest(sight):
        order = (sight.states(1).sum(-1) * torch.from_numpy(sight.vision_attention(1))).argsort()
        return np.where(np.isin(everything(sight), order[:3].numpy()), everything(sight), -1)

    inputs = family.prepare([picture(0), picture(1)], PROMPTS[:2])
    options = dict(num_beams=2, use_cache=cached)
    _, log = generated(family, inputs, dict(which=brightest), **options)
    assert log.kept == [3] * 4


def test_a_choice_by_the_question(vlm):
    """The visual tokens that are nearest to the question's words, in a prompt that counts more of
    them."""

    def nearest(sight):
        unit = torch.nn.functional.normalize(sight.hidden.float(), dim=-1)
        order = (unit[sight.index] @ unit[sight.asked].T).amax(1).argsort(descending=True).tolist()
        kept = order[: 2 if "how many" in sight.text else 1]
        return np.where(np.isin(np.arange(len(order)), kept), np.arange(len(order)), -1)

    with compress.compressed(vlm, compress.Method("nearest", nearest, needs=("question",))) as log:
        vlm.logits([picture(0), picture(1)], ["how many", "is there a red cup ?"])
    assert log.kept == [2, 1]


def test_states_of_other_pictures_are_not_taken_for_this_prompts(vlm):
    def look(sight):
        sight.states(1)
        return everything(sight)

    inputs = vlm.prepare(picture(0), PROMPTS[0])
    visual = given_to_see(vlm, inputs)
    with compress.compressed(vlm, look):
        with pytest.raises(ValueError, match="the ViT did not run inside this context"):
            vlm.lm_hidden(vlm.embed(inputs, visual), None, vlm.position_ids(inputs))
        vlm.visual_tokens(picture(1))
        with pytest.raises(ValueError, match="that the ViT saw last are not those of this prompt"):
            vlm.lm_hidden(vlm.embed(inputs, visual), None, vlm.position_ids(inputs))


@pytest.mark.parametrize(
    "place, options, said",
    [
        (
            "ViT",
            {},
            "The place of method 'm' is 'ViT'; .* from 'LM 0', what the connector gives, to 'LM ",
        ),
        ("LM 99", {}, "is 'LM 99'"),
        (
            "LM 2",
            {"positions": "renumbered"},
            "at LM 2, after they were given positions: these are kept",
        ),
    ],
)
def test_a_place_that_is_not_served_is_refused(vlm, place, options, said):
    method = compress.Method("m", everything, place)
    with pytest.raises(ValueError, match=said), compress.compressed(vlm, method, **options):
        pass


def test_a_place_among_what_a_deepstack_adds_is_refused(checkpoint):
    vlm = ww.load(checkpoint("hub/qwen3_vl"), device="cpu", dtype="float32")
    added = len(vlm.adapter.extra_depths)
    with pytest.raises(
        ValueError, match=rf"drop tokens at 'LM 0' or from 'LM {added}' on, not at 'LM 1'"
    ):
        with compress.compressed(vlm, compress.Method("m", everything, "LM 1")):
            pass


# -- putting back
# --------------------------------------------------------------------------------------------------


def test_afterwards_the_model_is_as_before(vlm, decoder):
    weights = {name: each.clone() for name, each in vlm.model.state_dict().items()}
    usual, before = vlm.lm.config._attn_implementation, vlm.logits(picture(), PROMPTS[0])
    with compress.compressed(vlm, "fastv-rank", keep=3, lengths="kept"):
        assert not vlm.logits(picture(), PROMPTS[0]).shape == before.shape
    with pytest.raises(RuntimeError, match="on purpose"), compress.compressed(vlm, 1, decoder):
        raise RuntimeError("on purpose")

    def fails(sight):
        sight.attention(1)
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"), compress.compressed(vlm, fails):
        vlm.logits(picture(), PROMPTS[0])
    assert torch.equal(vlm.logits(picture(), PROMPTS[0]), before)
    assert vlm.lm.config._attn_implementation == usual
    assert not vlm.lm._forward_pre_hooks and not vlm.model.get_input_embeddings()._forward_hooks
    assert not any(layer.self_attn._forward_hooks for layer in vlm.lm_layers)
    assert all(torch.equal(weights[name], each) for name, each in vlm.model.state_dict().items())


def test_a_prompt_without_an_image_passes(vlm):
    ids = torch.tensor([[15, 16, 17, 18]])
    before = vlm.model(input_ids=ids).logits
    with compress.compressed(vlm, "random", keep=1) as log:
        vlm.answer(picture(), "what", 2)
        assert torch.equal(vlm.model(input_ids=ids).logits, before)
    assert len(log.kept) == 1


def test_attention_is_that_of_the_model(vlm, folders, request):
    images, seen = [picture(0), picture(1)], []
    folder, how = (
        folders / request.node.callspec.params["vlm"],
        {"dtype": torch.float32, "attn_implementation": "eager"},
    )
    eager = type(vlm.model).from_pretrained(folder, **how).eval()
    inputs = vlm.prepare(images, PROMPTS[:2])
    own = eager(**inputs, output_attentions=True).attentions[1][:, :, -1].mean(1)

    def look(sight):
        seen.append(sight.attention(2))
        return everything(sight)

    with compress.compressed(vlm, look):
        vlm.logits(images, PROMPTS[:2])
    for n, found in enumerate(seen):
        assert apart(found, own[n][vlm.image_places(inputs)[n]]) < SAME
    most = np.argsort(-seen[0])[:3]
    kept = compress.BASELINES["fastv-rank"](3)(
        compress.Sight(torch.zeros(len(seen[0]), 1), None, lambda layer: seen[0])
    )
    assert set(np.flatnonzero(kept >= 0)) == set(most)


# -- bad input
# --------------------------------------------------------------------------------------------------


def test_everything_dropped_leaves_the_middle(vlm):
    with compress.compressed(vlm, lambda s: np.full(len(s.tokens), -1)) as log:
        with pytest.warns(UserWarning, match="the middle one was kept"):
            vlm.logits(picture(), "what")
    assert log.kept == [1]


@pytest.mark.parametrize(
    ("which", "options", "said"),
    [
        (
            4,
            {},
            "No method 4; there are rle, rle-drop, rle-drop-both, random, grid, tome-like, "
            "fastv-rank",
        ),
        ("token merging", {}, "No method 'token merging'"),
        (1, {}, "Method 1 takes a decoder and no keep"),
        ("random", {}, "keep is a whole number of tokens from 1 up, a share"),
        ("random", {"keep": 0}, "keep is a whole number"),
        ("random", {"keep": 1.5}, "keep is a whole number"),
        (
            "random",
            {"keep": 4, "pool": "max"},
            "No choice of pool 'max'; there are mean, first, random",
        ),
        (
            "random",
            {"keep": 4, "positions": "new"},
            "No choice of positions 'new'; there are kept, renumbered",
        ),
        (
            "random",
            {"keep": 4, "lengths": True},
            "No choice of lengths True; there are dropped, kept",
        ),
        (lambda sight: [0, 1], {}, "A way of choosing gives a whole number for each of"),
        (lambda sight: [0, 1], {"keep": 4}, "A function of a Sight takes neither decoder nor keep"),
    ],
)
def test_bad_choices_are_refused(vlm, which, options, said):
    with pytest.raises(ValueError, match=said), compress.compressed(vlm, which, **options):
        vlm.logits(picture(), "what")


def test_bad_words_are_refused(vlm, decoder):
    for options, said in (
        ({"shape": "columns"}, "No shape 'columns'"),
        ({"same": 0}, "same is a whole number of words from 1"),
        ({"marks": "ours"}, "No set of punctuation marks 'ours'; there are 'paper', "),
    ):
        with pytest.raises(ValueError, match=said), compress.compressed(vlm, 1, decoder, **options):
            pass
    with pytest.raises(ValueError, match="no keep"), compress.compressed(vlm, 1, decoder, keep=4):
        pass
    for weight in (decoder.weight[:-1], decoder.weight[:, :-1]):
        other = compress.Decoder(weight.detach().clone(), vlm.words[: len(weight)])
        with (
            pytest.raises(ValueError, match="This decoder knows"),
            compress.compressed(vlm, 1, other),
        ):
            pass


def test_one_compression_at_a_time_and_no_map_inside(vlm):
    with compress.compressed(vlm, "random", keep=3) as log:
        with pytest.raises(ValueError, match="No prompt has been shortened yet"):
            log.removed  # noqa: B018
        with pytest.raises(ValueError, match="needs every visual token"):
            ww.lens.token_maps(vlm, picture())
        with (
            pytest.raises(ValueError, match="leave one"),
            compress.compressed(vlm, "random", keep=2),
        ):
            vlm.logits(picture(), "what")
    with (
        pytest.raises(ValueError, match="0 images do not pair with 0 prompts"),
        compress.compressed(vlm, "random", keep=3),
    ):
        vlm.answer([], [])
