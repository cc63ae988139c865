"""Exams: what they call right is what greedy decoding says, shared or not, and sums and losses are as by hand."""

from contextlib import nullcontext

import numpy as np
import pytest

import whatwhere as ww
from whatwhere import answers, compress


@pytest.mark.parametrize("name", ["toy-llava", "toy-qwen2vl"])
def test_an_exam_is_right_where_greedy_decoding_is(name):
    vlm, families = ww.load(name, device="cpu", dtype="float32"), ("existence", "colour", "reading", "counting", "relation")
    asked = [(s.image, q.text, q.answer) for s in ww.world.scenes("dev", 12) for q in ww.world.questions(s, families)]
    exam, shared = (answers.Exam(vlm, *map(list, zip(*asked)), shared=shared, batch_size=20) for shared in (False, True))
    squeezed = compress.method(vlm, "attended", keep=0.1), compress.method(vlm, "grid", keep=9, lengths="kept")
    for context in (nullcontext(), *squeezed):
        with context:
            right = exam.right()
            said = vlm.answer([i for i, *_ in asked], [q for _, q, _ in asked], max_new_tokens=4)
            asks = context is squeezed[0]
            with pytest.raises(ValueError, match="needs a question after the image") if asks else nullcontext():
                assert shared.right().tolist() == right.tolist()
        assert 0.1 < right.mean() < 1 and right.tolist() == [one == answer for one, (*_, answer) in zip(said, asked)]


def test_an_exam_needs_an_answer_for_each_question():
    with pytest.raises(ValueError, match="1 images, 2 questions and 2 answers"):
        answers.Exam(None, ["a picture"], ["what ?", "where ?"], ["red", "left"])


def test_an_exam_on_scenes_counts_by_family():
    vlm, scenes = ww.load("toy-llava", device="cpu", dtype="float32"), list(ww.world.scenes("dev", 6))
    families = {"existence": ["existence"], "attributes": ["colour", "texture"], "reading": ["reading"]}
    exam = answers.Exam.on(vlm, scenes, families)
    asked = [[len(ww.world.questions(s, kinds)) for kinds in families.values()] for s in scenes]
    assert exam.counts.tolist() == asked and (exam.tally() <= exam.counts).all()
    assert exam.tally().sum() == exam.right().sum() > 0


def test_accuracy_and_loss_by_hand():
    counts = np.array([[2.0, 1.0], [2.0, 0.0]])
    before, after = np.array([[2.0, 1.0], [2.0, 0.0]]), np.array([[1.0, 1.0], [2.0, 0.0]])
    assert answers.accuracy(before, counts) == 1 and answers.accuracy(after, counts) == pytest.approx((3 / 4 + 1) / 2)
    assert answers.accuracy(after, counts, [0]) == pytest.approx(3 / 4)
    value, low, high = answers.loss(before, after, counts, [0])
    assert value == pytest.approx(25) and low == 0 and high == pytest.approx(50)
    assert answers.loss(after, after, counts).tolist() == [0, 0, 0], "the same sheet twice: no difference in any draw"
