"""Exams: what they call right is what greedy decoding says, shared or not, and sums and losses are
as by hand.

And the chances of words: those of the logits, in a batch as alone.
"""

import json
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from PIL import Image

import whatwhere as ww
from closeness import OTHER, SAME, apart
from whatwhere import answers, compress, intervene, stats


@pytest.mark.parametrize("name", ["toy-llava", "toy-qwen2vl"])
def test_an_exam_is_right_where_greedy_decoding_is(name):
    vlm, families = (
        ww.load(name, device="cpu", dtype="float32"),
        ("existence", "colour", "reading", "counting", "relation"),
    )
    asked = [
        (s.image, q.text, q.answer)
        for s in ww.world.scenes("dev", 12)
        for q in ww.world.questions(s, families)
    ]
    exam, shared = (
        answers.Exam(vlm, *map(list, zip(*asked)), shared=shared, batch_size=20)
        for shared in (False, True)
    )
    squeezed = (
        compress.compressed(vlm, "fastv-rank", keep=0.1),
        compress.compressed(vlm, "grid", keep=9, lengths="kept"),
    )
    for context in (nullcontext(), *squeezed):
        with context:
            right = exam.right()
            said = vlm.answer([i for i, *_ in asked], [q for _, q, _ in asked], max_new_tokens=4)
            asks = context is squeezed[0]
            with (
                pytest.raises(ValueError, match="needs a question after the image")
                if asks
                else nullcontext()
            ):
                assert shared.right().tolist() == right.tolist()
        assert 0.1 < right.mean() < 1 and right.tolist() == [
            one == answer for one, (*_, answer) in zip(said, asked)
        ]


def by_hand(vlm, image, question, ends, most):
    """Token ids: the likeliest next one, again and again, each from a forward pass of its own;
    without what ends them."""
    inputs, said = vlm.prepare(image, question), []
    with torch.no_grad():
        embedded, positions = vlm.embed(inputs), vlm.position_ids(inputs)
        while len(said) < most:
            hidden = vlm.lm_hidden(embedded, torch.ones(embedded.shape[:2]).long(), positions)
            said.append(int(vlm.unembedding(vlm.final_norm(hidden))[0, -1].argmax()))
            if said[-1] in ends:
                return said[:-1]
            embedded = torch.cat(
                [embedded, vlm.model.get_input_embeddings()(torch.tensor([said[-1:]]))], 1
            )
            positions = torch.cat(
                [positions, torch.full_like(positions[..., :1], int(positions.max()) + 1)], -1
            )
    return said


@pytest.mark.parametrize("family", ["llava", "qwen2vl"])
def test_answers_are_plainly_greedy_whatever_the_checkpoint_asks_for(folders, tmp_path, family):
    """Qwen2.5-VL's checkpoints ask for a penalty on repetition: with it, `answer` and `Exam` were
    of different answers."""
    plain = ww.load(folders / family, device="cpu", dtype="float32")
    asked = [(image, question) for image in pictures() for question in (*QUESTIONS, "what is it ?")]
    free = [by_hand(plain, *each, (), 5) for each in asked]
    # of several, as real checkpoints have
    ends = [plain.tokenizer.eos_token_id, {"llava": 34, "qwen2vl": 40}[family]]
    due = [by_hand(plain, *each, ends, 5) for each in asked]
    assert {0, 5} < {len(ids) for ids in due}, "some end at once, some later, some not at all"
    often = free[0][0]
    plain.model.generation_config.update(
        eos_token_id=ends, repetition_penalty=1.9, no_repeat_ngram_size=1, bad_words_ids=[[often]],
        suppress_tokens=[often], begin_suppress_tokens=[often], min_new_tokens=4,
        forced_bos_token_id=7, forced_eos_token_id=7, num_beams=3,
        length_penalty=3.0, exponential_decay_length_penalty=(1, 2.0), do_sample=True,
        temperature=9.0, top_p=0.1, top_k=1, renormalize_logits=True,
        sequence_bias=[[[often], -50.0]], stop_strings=["a"], use_cache=False,
    )  # fmt: skip
    asks = plain.model.generation_config
    path = plain.save(tmp_path / "asks")
    # transformers refuses to write some of it
    (path / "generation_config.json").write_text(json.dumps(asks.to_diff_dict()))
    vlm = ww.load(path, device="cpu", dtype="float32")
    before = vlm.model.generation_config, vlm.model.generation_config.to_dict()
    assert before[1]["repetition_penalty"] == 1.9 and before[1]["suppress_tokens"] == [often]
    said = vlm.answer(
        [image for image, _ in asked], [question for _, question in asked], max_new_tokens=5
    )
    assert said == [vlm.tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in due]
    assert vlm.model.generation_config is before[0] and before[0].to_dict() == before[1], (
        "and the model keeps what it asks for"
    )
    stopped = [
        len(ids) < 5 and vlm.tokenizer(text, add_special_tokens=False)["input_ids"] == ids
        for text, ids in zip(said, due)
    ]
    exam = answers.Exam(vlm, *map(list, zip(*asked)), said)
    assert exam.right().tolist() == stopped and any(stopped)
    vlm.model.generation_config.update(
        forced_bos_token_id=None, forced_eos_token_id=None, stop_strings=None
    )
    assert vlm.answer(*map(list, zip(*asked)), max_new_tokens=5, plain=False) != said, (
        "which can be had"
    )


@pytest.mark.parametrize("wrong", [0, -1, True, 2.0, "8", None])
def test_numbers_of_questions_and_tokens_are_whole_and_above_zero(vlm, wrong):
    for name in ("batch_size", "max_new_tokens"):
        with pytest.raises(ValueError, match=f"{name} is a whole number from 1 up, not {wrong!r}"):
            vlm.answer(pictures()[0], "what ?", **{name: wrong})
    calls = [lambda: answers.Exam(vlm, pictures(), QUESTIONS, OPTIONS[:3], batch_size=wrong)]
    calls += [lambda: compress.lessons(vlm, pictures(), batch_size=wrong)]
    calls += [lambda: ww.stages.labelled(vlm, [ww.world.scene(1)], batch_size=wrong)]
    if wrong is not None:  # which there means: as many as go in
        calls += [lambda: ww.lens.token_maps(vlm, pictures()[0], batch_size=wrong)]
        calls += [lambda: ww.stages.read(vlm, pictures()[:1], batch_size=wrong)]
    for call in calls:
        with pytest.raises(
            ValueError, match=f"batch_size is a whole number from 1 up, not {wrong!r}"
        ):
            call()


def test_a_model_whose_answers_never_end_is_not_examined(vlm):
    vlm.model.generation_config.eos_token_id = None
    with pytest.raises(
        ValueError, match="names no eos_token_id, so no answer of its would ever end"
    ):
        answers.Exam(vlm, pictures(), QUESTIONS, OPTIONS[:3])


def test_an_exam_needs_an_answer_for_each_question():
    with pytest.raises(ValueError, match="1 images, 2 questions and 2 answers"):
        answers.Exam(None, ["a picture"], ["what ?", "where ?"], ["red", "left"])


def test_an_exam_on_scenes_counts_by_family():
    vlm, scenes = (
        ww.load("toy-llava", device="cpu", dtype="float32"),
        list(ww.world.scenes("dev", 6)),
    )
    families = {
        "existence": ["existence"],
        "attributes": ["colour", "texture"],
        "reading": ["reading"],
    }
    exam = answers.Exam.on(vlm, iter(scenes), families)
    asked = [[len(ww.world.questions(s, kinds)) for kinds in families.values()] for s in scenes]
    assert exam.counts.tolist() == asked and (exam.tally() <= exam.counts).all()
    assert exam.tally().sum() == exam.right().sum() > 0


def test_accuracy_and_loss_by_hand():
    counts = np.array([[2.0, 1.0], [2.0, 0.0]])
    before, after = np.array([[2.0, 1.0], [2.0, 0.0]]), np.array([[1.0, 1.0], [2.0, 0.0]])
    assert answers.accuracy(before, counts) == 1 and answers.accuracy(
        after, counts
    ) == pytest.approx((3 / 4 + 1) / 2)
    assert answers.accuracy(after, counts, [0]) == pytest.approx(3 / 4)
    value, low, high = answers.loss(before, after, counts, [0])
    assert value == pytest.approx(25) and low == 0 and high == pytest.approx(50)
    assert answers.loss(after, after, counts) == (0, 0, 0), (
        "the same sheet twice: no difference in any draw"
    )
    with pytest.raises(ValueError, match="tallies of 2 scenes, and counts of 3"):
        answers.loss(before, after, np.ones((3, 2)))
    with pytest.raises(ValueError, match="hold what is no finite number"):
        answers.loss(before, after * np.nan, counts)


def test_a_loss_over_draws_and_beside_another_by_hand():
    rng = np.random.default_rng(0)
    counts = np.ones((400, 2))
    full = rng.random((400, 2)) < 0.9
    # three decoders, which cost 10, 20 and 30 points of every family
    after = np.stack([full * (rng.random((400, 2)) > cost) for cost in (0.1, 0.2, 0.3)])
    alone = answers.loss(full, after[1], counts)
    value, low, high = answers.loss(full, after, counts)
    assert value == pytest.approx(np.mean([answers.loss(full, each, counts)[0] for each in after]))
    assert high - low > 1.5 * (alone[2] - alone[1]), "decoders that differ widen the interval"
    first, second = (answers.loss(full, after, counts, [n])[0] for n in (0, 1))
    more = answers.loss(full, after, counts, [0], beside=(full, after, [1]))
    assert more[0] == pytest.approx(first - second) and more[1] < more[0] < more[2]
    same = answers.loss(full, after, counts, [0], beside=(full, after, [0]))
    assert same == (0, 0, 0), "beside itself nothing is lost, whatever is drawn"
    # one question a family and scene: a scene's loss is the mean of its families'
    by_scene = 100 * (full - after.astype(float)).mean(-1)
    assert answers.loss(full, after, counts) == pytest.approx(stats.crossed(by_scene))


def test_a_loss_over_draws_that_are_alike_is_that_over_scenes():
    """By another path: the linear form and Student's t against the bootstrap; scenes have one to
    four questions of the first family, and some have none of the second."""
    rng = np.random.default_rng(0)
    counts = np.stack([rng.integers(1, 5, 500), rng.integers(0, 2, 500)], 1).astype(float)
    full, after = (rng.binomial(counts.astype(int), rate).astype(float) for rate in (0.9, 0.7))
    for families in (slice(None), [0], [1]):
        one = answers.loss(full, after, counts, families)
        several = answers.loss(full, np.stack([after] * 3), counts, families)
        assert several == pytest.approx(one, abs=0.5) and several[0] == pytest.approx(one[0])
        assert several[1] < several[0] < several[2]
    beside = (full, np.stack([after] * 3), [1])
    one = answers.loss(full, after, counts, [0], beside=(full, after, [1]))
    assert answers.loss(full, beside[1], counts, [0], beside) == pytest.approx(one, abs=0.5)


# -- the chances of words
# ---------------------------------------------------------------------------------------------

QUESTIONS, OPTIONS = (
    ["is there a red cup ?", "what colour ?", "how many"],
    ["bear", "red", "no", "two"],
)


@pytest.fixture(params=["llava", "qwen2vl"])
def vlm(request, folders):
    return ww.load(folders / request.param, device="cpu", dtype="float32")


def pictures():
    """Of three grids, where the family has more than one."""
    shapes = (24, 40, 3), (16, 48, 3), (40, 24, 3)
    return [
        Image.fromarray(np.random.default_rng(n).integers(0, 256, shape, dtype=np.uint8))
        for n, shape in enumerate(shapes)
    ]


def test_chances_are_those_of_the_logits(vlm):
    """Of the whole vocabulary, not of the options alone; padding on the left tells on none."""
    said = answers.chances(vlm, vlm.prepare(pictures(), QUESTIONS), OPTIONS)
    ids = vlm.tokenizer.convert_tokens_to_ids(OPTIONS)
    assert said.shape == (3, 4) and (said.sum(1) < 0.9).all() and said.std(0).min() > 1e-4
    assert apart(said, vlm.logits(pictures(), QUESTIONS)[:, -1].softmax(-1)[:, ids]) < SAME
    for row, image, question in zip(said, pictures(), QUESTIONS):
        assert apart(answers.chances(vlm, vlm.prepare(image, question), OPTIONS)[0], row) < SAME
        assert apart(vlm.logits(image, question)[-1].softmax(-1)[ids], row) < SAME
    of_one = answers.chances(vlm, vlm.prepare(pictures()[0], QUESTIONS), OPTIONS[::-1])
    assert apart(of_one[0].flip(0), said[0]) < SAME < OTHER < apart(of_one[1].flip(0), said[1])


def test_chances_see_what_is_done_to_the_model(vlm):
    """In the ViT and in the LM, to each image of a batch its own; and they keep the gradient where
    one is asked for."""
    before = answers.chances(vlm, vlm.prepare(pictures(), QUESTIONS), OPTIONS)
    assert not before.requires_grad
    mask = [np.ones(vlm.patch_grid(image), bool) for image in pictures()]
    patches = [np.kron(each, np.ones((vlm.adapter.merge,) * 2, bool)) for each in mask]
    for place, masks, features in (("depth", patches, 24), ("layer", mask, 32)):
        vectors = torch.zeros(3, features)
        vectors[1] = torch.randn(features, generator=torch.Generator().manual_seed(0))
        vectors.requires_grad_()
        with intervene.added(vlm, masks, vectors, **{place: 1}):
            said = answers.chances(vlm, vlm.prepare(pictures(), QUESTIONS), OPTIONS)
        assert apart(said[[0, 2]], before[[0, 2]]) < SAME < OTHER < apart(said[1], before[1])
        slope = torch.autograd.grad(said[2].log().sum(), vectors)[0].abs().sum(1)
        assert (slope > SAME * slope.max()).tolist() == [False, False, True]
        with torch.no_grad(), intervene.added(vlm, masks, vectors, **{place: 1}):
            assert not answers.chances(
                vlm, vlm.prepare(pictures(), QUESTIONS), OPTIONS
            ).requires_grad


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["red", "red"], "begin with different tokens; 'red', 'red' do not"),
        (
            ["red cup", "no", "red bowl"],
            "begin with different tokens; 'red cup', 'no', 'red bowl' do not",
        ),
        (["red", ""], "begin with different tokens; 'red', '' do not"),
        ([" "], "begin with different tokens; ' ' do not"),
        ([], "begin with different tokens; none do not"),
    ],
)
def test_options_that_begin_alike_are_refused(vlm, options, says):
    with pytest.raises(ValueError, match=says):
        answers.chances(vlm, vlm.prepare(pictures()[0], "what colour ?"), options)


def test_only_the_beginning_of_an_option_counts(vlm):
    inputs = vlm.prepare(pictures()[0], "what ?")
    one, two = (
        answers.chances(vlm, inputs, options) for options in (["red cup", "no bear"], ["red", "no"])
    )
    assert torch.equal(one, two)


def test_what_the_vit_gave_may_be_used_again_unless_it_is_being_changed(vlm):
    inputs, mask = vlm.prepare(pictures(), QUESTIONS), np.ones(vlm.patch_grid(pictures()[0]), bool)
    seen = [each[0] for each in vlm.visual(inputs, [vlm.last_depth])]
    assert torch.equal(
        answers.chances(vlm, inputs, OPTIONS, seen), answers.chances(vlm, inputs, OPTIONS)
    )
    other = answers.chances(vlm, inputs, OPTIONS, [each.flip(0) for each in seen])
    assert apart(other, answers.chances(vlm, inputs, OPTIONS)) > OTHER
    patches = np.kron(mask, np.ones((vlm.adapter.merge,) * 2, bool))
    for change in (
        intervene.added(vlm, patches, torch.ones(24), depth=0),
        intervene.moved(vlm, patches, (0, 0)),
    ):
        with change, pytest.raises(ValueError, match="leave that out, and it runs again"):
            answers.chances(vlm, inputs, OPTIONS, seen)
