"""What is no number is refused by whoever reads it, in a sentence that names the place and what
helps."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from PIL import Image

import whatwhere as ww
from whatwhere import answers, compress, finite, geometry, intervene, lens, rope, stages
from whatwhere.finite import NotFinite

NAN, INF = float("nan"), float("inf")
PICTURE = Image.effect_noise((48, 48), 60).convert("RGB")
QUESTION = "what is this ?"


@pytest.fixture(scope="module", params=["llava", "qwen2vl"])
def vlm(folders, request):
    return ww.load(folders / request.param)


@contextmanager
def poisoned(module, value=NAN):
    """Within it, one number of what a module gives is `value`."""

    def poison(_, args, output):
        states = output[0] if isinstance(output, tuple) else output
        states = states.clone()
        states.view(-1)[-1] = value
        return (states, *output[1:]) if isinstance(output, tuple) else states

    handle = module.register_forward_hook(poison)
    try:
        yield
    finally:
        handle.remove()


def exam(vlm):
    return answers.Exam(vlm, [PICTURE], [QUESTION], ["red"])


READERS = {
    "token maps": lambda vlm: lens.token_maps(vlm, PICTURE),
    "readings": lambda vlm: stages.read(vlm, [PICTURE], asked=["red"]),
    "visual tokens": lambda vlm: vlm.visual_tokens(PICTURE),
    "states at every place": lambda vlm: list(geometry.states(vlm, [PICTURE])),
    "logits": lambda vlm: vlm.logits(PICTURE, QUESTION),
    "answer": lambda vlm: vlm.answer(PICTURE, QUESTION, max_new_tokens=2),
    "exam": lambda vlm: exam(vlm).right(),
    "chances": lambda vlm: answers.chances(
        vlm, vlm.prepare([PICTURE], [QUESTION]), ["red", "blue"]
    ),
    "lessons": lambda vlm: compress.lessons(vlm, [PICTURE], progress=False),
}
OF_THE_VIT = {"states of the ViT": lambda vlm: vlm.vit_states(PICTURE)}


@pytest.mark.parametrize("reader", READERS | OF_THE_VIT)
@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_every_reader_refuses_a_state_of_the_vit(vlm, reader, value):
    read = (READERS | OF_THE_VIT)[reader]
    with poisoned(vlm.vision_blocks[1], value), pytest.raises(NotFinite) as refused:
        read(vlm)
    # an answer is made by transformers in one go, and only its end is seen
    place = "the logits of the answer" if reader == "answer" else "ViT depth [23]"
    assert refused.match(f"numbers of {place}.* are not finite .*float32")
    read(vlm)  # and without it, it reads


@pytest.mark.parametrize("reader", [name for name in READERS if name != "visual tokens"])
def test_every_reader_refuses_a_state_of_the_lm(vlm, reader):
    with (
        poisoned(vlm.lm_layers[0]),
        pytest.raises(NotFinite, match="LM layer|the logits|words that may come next"),
    ):
        READERS[reader](vlm)


def test_the_first_place_is_named(vlm):
    with poisoned(vlm.vision_blocks[1]), pytest.raises(NotFinite, match="of ViT depth 2 "):
        vlm.vit_states(PICTURE)
    with (
        poisoned(vlm.connector),
        pytest.raises(NotFinite, match="of the connector, .* at ViT depth 1 "),
    ):
        vlm.visual_tokens(PICTURE, depth=1)
    inputs = vlm.prepare(PICTURE, QUESTION)
    with poisoned(vlm.lm_layers[1]), pytest.raises(NotFinite, match="of LM layer 2 "):
        vlm.lm_hidden(
            vlm.embed(inputs), inputs["attention_mask"], vlm.position_ids(inputs), [0, 1, 2, 3]
        )


def test_what_was_before_the_fault_can_still_be_read(vlm):
    before = vlm.vit_states(PICTURE, depths=[0, 1])
    with poisoned(vlm.vision_blocks[1]):
        assert torch.equal(vlm.vit_states(PICTURE, depths=[0, 1]), before)


def test_padding_may_hold_anything(vlm):
    """Some kinds of attention give nan where there is nothing to attend to; nobody reads it."""
    inputs = vlm.prepare(
        [PICTURE, PICTURE], ["red ?", "is there a red cup on the left of the blue bowl ?"]
    )
    assert not inputs["attention_mask"][0, 0]
    named = vlm.embed(inputs), inputs["attention_mask"], vlm.position_ids(inputs), 1

    def poison(_, args, output):
        states = (output[0] if isinstance(output, tuple) else output).clone()
        states[0, 0] = NAN
        return (states, *output[1:]) if isinstance(output, tuple) else states

    handle = vlm.lm_layers[0].register_forward_hook(poison)
    try:
        assert vlm.lm_hidden(*named)[0, 0].isnan().all()
    finally:
        handle.remove()


@pytest.mark.parametrize(
    "dtype, helps", [("float16", "bfloat16"), ("bfloat16", "float32"), ("float32", "damaged")]
)
def test_the_sentence_says_what_helps(folders, dtype, helps):
    vlm = ww.load(folders / "llava", dtype=dtype)
    states = torch.full((1, 32), NAN, dtype=vlm.dtype)
    with pytest.raises(NotFinite, match=f"given to the lens are not finite .* in {dtype}.*{helps}"):
        lens.logit_lens(vlm, states, top_k=2)


def test_float16_that_overflows(folders):
    """What was trained in bfloat16 may grow beyond 65504, where float16 ends: Qwen2-VL on a T4."""
    vlm = ww.load(folders / "qwen2vl", dtype="float16")
    large = vlm.lm_layers[1].mlp.down_proj.weight
    large.mul_(3e4)
    with pytest.raises(NotFinite, match="of LM layer 2 are not finite .* in float16.*bfloat16"):
        lens.token_maps(vlm, PICTURE, layer=2)


def test_logits_that_overflow_under_finite_states(folders):
    vlm = ww.load(folders / "llava", dtype="float16")
    vlm.unembedding.weight.mul_(6e4)
    with pytest.raises(NotFinite, match="of the logits are not finite"):
        lens.logit_lens(vlm, torch.ones(1, 32, dtype=torch.float16), norm=False)


def test_heads_and_decoders(folders):
    vlm = ww.load(folders / "qwen2vl")
    with poisoned(vlm.vision_blocks[0].attn.qkv), pytest.raises(NotFinite, match="ViT"):
        rope.heads(vlm, PICTURE)
    with poisoned(vlm.lm_layers[0].self_attn.k_proj), pytest.raises(NotFinite, match="LM"):
        rope.language_heads(vlm, PICTURE, QUESTION)
    taught = compress.lessons(vlm, [PICTURE], progress=False)
    decoder = compress.distil(vlm, taught, epochs=1)
    with pytest.raises(NotFinite, match="the decoder reads"):
        decoder.top(taught[0][0] * NAN)
    with pytest.raises(NotFinite, match="loss at step 1"):
        compress.distil(vlm, [(tokens, states * INF) for tokens, states in taught], epochs=1)


def test_an_intervention_that_goes_too_far_is_found(vlm):
    whole = np.ones(vlm.patch_grid(PICTURE), bool)
    far = torch.full((vlm.unembedding.weight.shape[1],), 3e38)
    with intervene.added(vlm, whole, far, layer=1), intervene.added(vlm, whole, far, layer=1):
        with pytest.raises(NotFinite, match="LM layer"):
            lens.token_maps(vlm, PICTURE, layer=vlm.n_layers)


def test_what_is_checked_is_left_as_it_is():
    values = torch.randn(3, 4, requires_grad=True)
    assert finite.check_finite(values, "here") is values
    assert finite.check_finite(torch.empty(0), "nothing").numel() == 0
    for bad in (NAN, INF, -INF):
        with pytest.raises(NotFinite, match="numbers of here are not finite"):
            finite.check_finite(torch.tensor([0.0, bad, 1.0]), "here")
