"""The algebra of rotary positions against the code that runs; and what is refused."""

import math

import numpy as np
import pytest
import sympy
import torch
from transformers import Qwen2VLConfig
from transformers.models.qwen2_vl import modeling_qwen2_vl as production
from transformers.models.qwen2_vl.configuration_qwen2_vl import (
    Qwen2VLTextConfig,
    Qwen2VLVisionConfig,
)

import shapes
import whatwhere as ww
from closeness import OTHER, SAME, apart
from whatwhere import rope
from whatwhere.book.rehearsal.checkpoints import qwen2vl
from whatwhere.rope import symbolic
from whatwhere.rope.projections import projected

HEADS, GRIDS = (32, 64, 80, 128), ((4, 4), (64, 64), (6, 40))


@torch.no_grad()
def tables(head, rows, columns):
    """Cosines and sines (patches, head) as Qwen2-VL's vision tower hands them to its first block,
    and the patches' places."""
    size = {"embed_dim": 2 * head, "num_heads": 2, "patch_size": 2, "hidden_size": 8, "depth": 1}
    tower, caught = (
        production.Qwen2VisionTransformerPretrainedModel(Qwen2VLVisionConfig(**size)),
        {},
    )
    tower.blocks[0].register_forward_pre_hook(
        lambda block, args, named: caught.update(named), with_kwargs=True
    )
    tower(torch.zeros(rows * columns, 24), grid_thw=torch.tensor([[1, rows, columns]]))
    order = [
        (r + i, c + j)
        for r in range(0, rows, 2)
        for c in range(0, columns, 2)
        for i in (0, 1)
        for j in (0, 1)
    ]
    return *caught["position_embeddings"], torch.tensor(order)


def drawn(n, head, dtype, pairs=1500):
    generator = torch.Generator().manual_seed(head + n)
    q, k = torch.randn(2, pairs, head, dtype=dtype, generator=generator)
    return q, k, *torch.randint(n, (2, pairs), generator=generator)


def error(ours, theirs, q, k):
    """The largest difference, relative to the largest value that the logit could have."""
    return ((ours - theirs).abs() / (q.norm(dim=-1) * k.norm(dim=-1))).max().item()


def produced(q, k, one, two, cos, sin):
    """Production's logit of q at patch `one` with k at patch `two`."""
    if q.dtype == torch.float32:
        turn = production.apply_rotary_pos_emb_vision
        q, k = (
            turn(v[:, None], v[:, None], cos[at], sin[at])[0][:, 0]
            for v, at in ((q, one), (k, two))
        )
    # production's function would round to single precision: its tables and its `rotate_half` do not
    else:
        q, k = (v * cos[at] + production.rotate_half(v) * sin[at] for v, at in ((q, one), (k, two)))
    return (q * k).sum(-1)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("head", HEADS)
def test_the_vision_encoder_is_what_the_algebra_says(head, grid):
    cos, sin, at = tables(head, *grid)
    rotary = rope.axial(rope.frequencies(head))
    # the tables are of single precision
    for dtype, most in ((torch.float64, 1e-5), (torch.float32, SAME)):
        q, k, one, two = drawn(len(at), head, dtype)
        ours = sum(rotary.terms(q, k, at[one] - at[two])).sum(-1)
        assert error(ours, produced(q, k, one, two, cos, sin), q, k) <= most


def swapped(q, k, steps, rotary):
    """Sine for cosine and cosine for sine, in the algebra itself."""
    angle = symbolic.DISPLACEMENT * symbolic.THETA
    exchange = {sympy.cos(angle): sympy.sin(angle), sympy.sin(angle): sympy.cos(angle)}
    wrong = (symbolic.SHARED + symbolic.TELLING).subs(exchange, simultaneous=True)
    letters = (
        symbolic.Q1,
        symbolic.Q2,
        symbolic.K1,
        symbolic.K2,
        symbolic.DISPLACEMENT,
        symbolic.THETA,
    )
    made = sympy.lambdify(letters, wrong, [{"cos": torch.cos, "sin": torch.sin}])
    return made(
        *q.chunk(2, -1), *k.chunk(2, -1), steps[..., rotary.axis].to(q), rotary.theta.to(q)
    ).sum(-1)


def neighbours(q):
    return torch.cat([q[..., ::2], q[..., 1::2]], -1)


def logit(q, k, steps, rotary):
    return sum(rotary.terms(q, k, steps)).sum(-1)


MUTATIONS = {
    "sine for cosine": swapped,
    "row for column": lambda q, k, steps, rotary: logit(q, k, steps.flip(-1), rotary),
    "interleaved for split-half": lambda q, k, steps, rotary: logit(
        neighbours(q), neighbours(k), steps, rotary
    ),
    "the other way round": lambda q, k, steps, rotary: logit(q, k, -steps, rotary),
    "slowest frequency first": lambda q, k, steps, rotary: logit(
        q, k, steps, rope.Rotary(rotary.theta.flip(0), rotary.axis)
    ),
    "frequencies one per cent off": lambda q, k, steps, rotary: logit(
        q, k, steps, rope.Rotary(1.01 * rotary.theta, rotary.axis)
    ),
}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_the_check_can_fail(mutation, head):
    cos, sin, at = tables(head, 6, 40)
    q, k, one, two = drawn(len(at), head, torch.float32)
    wrong = MUTATIONS[mutation](q, k, at[one] - at[two], rope.axial(rope.frequencies(head)))
    assert error(wrong, produced(q, k, one, two, cos, sin), q, k) > 5e-4


def test_patches_in_raster_order_are_caught():
    cos, sin, at = tables(80, 6, 40)
    q, k, one, two = drawn(len(at), 80, torch.float32)
    raster = torch.cartesian_prod(torch.arange(6), torch.arange(40))
    wrong = logit(q, k, raster[one] - raster[two], rope.axial(rope.frequencies(80)))
    assert error(wrong, produced(q, k, one, two, cos, sin), q, k) > 1e-2


@pytest.mark.parametrize(
    ("head", "sections"),
    [(32, [4, 6, 6]), (64, [8, 12, 12]), (80, [12, 14, 14]), (128, [16, 24, 24])],
)
def test_m_rope_is_what_the_algebra_says(head, sections):
    """The language model's rotary embedding, three axes, at positions as large as a 64 × 64 picture
    gives."""
    rope_parameters = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": sections}
    size = {
        "hidden_size": 2 * head,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "vocab_size": 9,
    }
    config = Qwen2VLTextConfig(**size, num_key_value_heads=2, rope_parameters=rope_parameters)
    lm = production.Qwen2VLTextModel(config).eval()
    at = torch.randint(64, (3, 1, 50), generator=torch.Generator().manual_seed(0))
    caught = {}
    attention = lm.layers[0].self_attn
    for name in ("q_proj", "k_proj", "v_proj"):
        getattr(attention, name).register_forward_hook(
            lambda m, a, out, name=name: caught.update(
                {name: out[0].detach().unflatten(-1, (2, head)).transpose(0, 1).double()}
            )
        )
    attention.o_proj.register_forward_pre_hook(
        lambda m, args: caught.update(out=args[0][0].detach())
    )
    with torch.no_grad():
        for part in (attention.q_proj, attention.k_proj):
            part.weight.normal_(0, 0.3)
        lm(
            inputs_embeds=torch.randn(1, 50, 2 * head, generator=torch.Generator().manual_seed(1)),
            position_ids=at,
            attention_mask=torch.ones(1, 50, dtype=torch.long),
            use_cache=False,
        )
    rotary = rope.Rotary(
        lm.rotary_emb.inv_freq, torch.arange(3).repeat_interleave(torch.tensor(sections))
    )
    later = torch.ones(50, 50, dtype=torch.bool).triu(1)

    def output(positions):
        weights = (
            rotary.logits(caught["q_proj"], caught["k_proj"], positions)
            .masked_fill(later, -math.inf)
            .softmax(-1)
        )
        return (weights @ caught["v_proj"]).transpose(0, 1).flatten(1)

    assert apart(output(at[:, 0].T), caught["out"]) < SAME
    assert apart(output(at[[0, 2, 1], 0].T), caught["out"]) > OTHER  # row for column


def test_the_whole_attention_of_both_towers_of_a_checkpoint(tmp_path):
    """From queries, keys and values before rotation to what the attention puts out; unequal sides,
    merging, grouped heads."""
    qwen2vl(tmp_path)
    vlm = ww.load(tmp_path)
    image = np.random.default_rng(0).integers(0, 255, (24, 40, 3), dtype=np.uint8)
    heads, rotary = rope.heads(vlm, image), rope.vision(vlm)
    out = []
    hooks = [
        b.attn.proj.register_forward_pre_hook(lambda m, args: out.append(args[0]))
        for b in vlm.vision_blocks
    ]
    vlm.vit_states(image, [vlm.last_depth])
    [hook.remove() for hook in hooks]
    assert heads.q.shape == (vlm.last_depth, 2, 60, rotary.head_size) and heads.at.amax(
        0
    ).tolist() == [
        5,
        9,
    ]
    for q, k, v, really in zip(heads.q.double(), heads.k.double(), heads.v.double(), out):
        ours = (rotary.logits(q, k, heads.at).softmax(-1) @ v).transpose(0, 1).flatten(1)
        assert apart(ours, really) < SAME
    assert not any(block.attn.qkv._forward_hooks for block in vlm.vision_blocks)
    sections = vlm.lm.config.rope_parameters["mrope_section"]
    assert rope.language(vlm).axis.bincount().tolist() == sections


PROJECTIONS = {
    "llava": "self_attn.out_proj",
    "internvl": "attention.projection_layer",
    "idefics3": "self_attn.out_proj",
}


@pytest.mark.parametrize(
    "name",
    [
        "llava",
        "qwen3vl",
        "internvl",
        "internvl, tied, normed after the ViT, queries and keys normed",
        "hub/idefics3",
    ],
)
@torch.no_grad()
def test_the_adapter_says_where_the_heads_of_the_vit_are(name, checkpoint):
    """From queries, keys and values by the adapter to what the attention of every block that runs
    puts out."""
    vlm, out = ww.load(checkpoint(name), device="cpu", dtype="float32"), []
    image = np.random.default_rng(0).integers(0, 255, (24, 40, 3), dtype=np.uint8)
    blocks, projection = (
        vlm.vision_blocks[: vlm.last_depth],
        PROJECTIONS.get(vlm.family, "attn.proj"),
    )
    hooks = [
        block.get_submodule(projection).register_forward_pre_hook(
            lambda _, args: out.append(args[0])
        )
        for block in blocks
    ]
    projections = [vlm.adapter.vision_heads(block) for block in blocks]
    q, k, v = projected(projections, lambda: vlm.vit_states(image, [vlm.last_depth]))
    [hook.remove() for hook in hooks]
    assert q.shape == k.shape == v.shape and q.shape[:2] == (vlm.last_depth, 2)
    logits = q.double() @ k.double().mT / math.sqrt(q.shape[-1])
    if vlm.adapter.rotary is not None:
        at = vlm.positions(image).vit
        logits = torch.stack(
            [rope.vision(vlm).logits(*each, at) for each in zip(q.double(), k.double())]
        )
    for weights, values, really in zip(logits.softmax(-1), v.double(), out, strict=True):
        assert apart((weights @ values).transpose(0, 1).flatten(1), really.flatten(0, -2)) < SAME
    assert not any(module._forward_hooks for block in projections for module, _ in block)


@pytest.mark.parametrize("name", ["toy-llava", "toy-qwen2vl", *shapes.LANGUAGES])
def test_the_whole_attention_of_the_language_model(name, checkpoint):
    """From queries, keys and values before rotation to what the attention of every layer puts out,
    text and image alike."""
    toy = name.startswith("toy")
    vlm = ww.load(name if toy else checkpoint(name), device="cpu", dtype="float32")
    image = np.random.default_rng(0).integers(
        0, 255, (144, 144, 3) if toy else (24, 36, 3), dtype=np.uint8
    )
    question, out = "where is the mug relative to the lamp ?", []
    attention = [layer.self_attn for layer in vlm.lm_layers]
    hooks = [
        each.o_proj.register_forward_pre_hook(lambda m, args: out.append(args[0][0]))
        for each in attention
    ]
    vlm.logits(image, question)
    [hook.remove() for hook in hooks]
    heads, rotary = rope.language_heads(vlm, image, question), rope.language(vlm)
    length, config = vlm.prepare(image, question)["input_ids"].shape[1], vlm.lm.config
    shape = (vlm.n_layers, config.num_attention_heads, length, attention[0].head_dim)
    assert (
        heads.q.shape == heads.k.shape == heads.v.shape == shape and rotary.head_size == shape[-1]
    )
    assert heads.at.shape == (length, 3 if "qwen" in vlm.family else 1)
    later = torch.ones(length, length, dtype=torch.bool).triu(1)

    def off(q, k, v, really, at=heads.at):
        weights = (
            rotary.logits(q.double(), k.double(), at).masked_fill(later, -math.inf).softmax(-1)
        )
        return apart((weights @ v.double()).transpose(0, 1).flatten(1), really)

    found = [off(*each) for each in zip(heads.q, heads.k, heads.v, out, strict=True)]
    assert max(found) < SAME
    # row for column
    elsewhere = heads.at[:, [0, 2, 1]] if "qwen" in vlm.family else heads.at.flip(0)
    assert max(off(*each, elsewhere) for each in zip(heads.q, heads.k, heads.v, out)) > OTHER
    assert not any(
        part._forward_hooks
        for each in attention
        for part in (each.q_proj, each.k_proj, each.v_proj)
    )


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_the_parts_of_the_axes_are_the_logit(axes):
    """Each part is that of its own pairs, and moves with its own axis alone."""
    axis, generator = torch.arange(6) % axes, torch.Generator().manual_seed(axes)
    rotary = rope.Rotary(10.0 ** -(torch.arange(6) / 6), axis)
    q, k = (torch.randn(2, 3, n, 12, dtype=torch.float64, generator=generator) for n in (5, 7))
    at_q, at_k = (torch.randint(9, (n, axes), generator=generator) for n in (5, 7))
    parts = rotary.logits_by_axis(q, k, at_q, at_k)
    assert parts.shape == (axes, 2, 3, 5, 7)
    by_pair = sum(
        rotary.terms(q[..., :, None, :], k[..., None, :, :], at_q[:, None] - at_k)
    ) / math.sqrt(12)
    assert torch.allclose(parts.sum(0), by_pair.sum(-1)) and torch.allclose(
        parts.sum(0), rotary.logits(q, k, at_q, at_k)
    )
    turned = (
        rotary.turned(q, at_q)[..., :, None, :] * rotary.turned(k, at_k)[..., None, :, :].conj()
    )
    assert torch.allclose(turned.real / math.sqrt(12), by_pair)
    with pytest.raises(ValueError, match="have 10 dimensions; this head has 12"):
        rotary.turned(q[..., :10], at_q)
    assert torch.equal(rotary.logits_by_axis(q, q, at_q), rotary.logits_by_axis(q, q, at_q, at_q))
    for n, part in enumerate(parts):
        assert torch.allclose(part, by_pair[..., axis == n].sum(-1))
        moved = at_q + 4 * (torch.arange(axes) == n)
        changed = (rotary.logits_by_axis(q, k, moved, at_k) - parts).abs().amax((1, 2, 3, 4)) > 1e-6
        assert changed.tolist() == [other == n for other in range(axes)]


def test_terms_are_even_and_odd_and_match_a_rotation_by_hand():
    rotary = rope.axial(rope.frequencies(8))
    q, k = torch.randn(2, 5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    step = torch.tensor([2, -3])
    (shared, telling), (back_shared, back_telling) = (
        rotary.terms(q, k, step),
        rotary.terms(q, k, -step),
    )
    assert torch.allclose(shared, back_shared) and torch.allclose(telling, -back_telling)
    turned = torch.complex(*q.chunk(2, -1)) * torch.complex(*k.chunk(2, -1)).conj()
    turned = turned * torch.exp(1j * step[rotary.axis] * rotary.theta)
    assert torch.allclose(shared + telling, turned.real)
    assert torch.allclose(rotary.terms(q, k, torch.zeros(2))[0].sum(-1), (q * k).sum(-1))


def test_left_and_right_behind_and_front():
    assert rope.place("left", 3).tolist() == [0, -3] and rope.place("front").tolist() == [1, 0]
    rotary = rope.axial(rope.frequencies(80))
    q, k = torch.randn(2, 40, 80, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    all_of = {name: sum(rotary.terms(q, k, rope.place(name, 4))) for name in rope.PLACES}
    across, along = all_of["left"] - all_of["right"], all_of["front"] - all_of["behind"]
    assert (
        across[:, :20].abs().max() == 0
        and along[:, 20:].abs().max() == 0
        and across.norm() > 1
        and along.norm() > 1
    )


def test_frequencies_are_qwens():
    tower = production.Qwen2VisionTransformerPretrainedModel(
        Qwen2VLVisionConfig(embed_dim=160, num_heads=2, hidden_size=8, depth=1)
    )
    assert torch.allclose(rope.frequencies(80), tower.rotary_pos_emb.inv_freq.double(), rtol=SAME)
    vision = Qwen2VLConfig().vision_config
    assert vision.embed_dim // vision.num_heads == 80  # what the book calls Qwen2-VL's


def test_the_largest_alpha_is_the_largest():
    theta = rope.frequencies(80)
    for side in (16, 32, 64):
        for p in (1, 6, 8):
            alpha = rope.largest_alpha(theta, side, p)
            before = ((side - 1) * theta <= math.pi).sum()
            for factor, fewer in ((0.999, False), (1.001, True)):
                after = ((side - 1) * theta * rope.gains(20, factor * alpha, p) <= math.pi).sum()
                assert (after < before) == fewer
    assert rope.largest_alpha([1.0], 16, 2) == math.inf  # the only pair is ambiguous unscaled
    assert rope.gains(4, 99, 2).tolist() == pytest.approx(
        [1, 1 + 99 / 16, 1 + 99 / 4, 1 + 99 * 9 / 16]
    )


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: rope.frequencies(81), "an odd number of dimensions makes no pairs"),
        (lambda: rope.frequencies(82), "multiple of four"),
        (lambda: rope.frequencies(0), "multiple of four"),
        (lambda: rope.frequencies("80"), "multiple of four"),
        (lambda: rope.frequencies(80, base=1), "above one"),
        (lambda: rope.frequencies(80, base=float("nan")), "above one"),
        (lambda: rope.place("left", 0), "above zero"),
        (lambda: rope.place("left", -2), "above zero"),
        (lambda: rope.place("left", float("nan")), "above zero"),
        (lambda: rope.place("above"), "left, right, behind, front"),
        (lambda: rope.gains(4, -1, 2), "alpha is a finite number above -1"),
        (lambda: rope.gains(4, float("inf"), 2), "alpha"),
        (lambda: rope.gains(4, 1, 0), "p is a finite number above 0"),
        (lambda: rope.largest_alpha([0.1], 1, 2), "2 or more"),
        (lambda: rope.Rotary([1.0, 2.0], [0]), "an axis for each pair"),
        (lambda: rope.Rotary([float("nan")], [0]), "finite frequency"),
        (
            lambda: rope.axial([1.0, 0.1]).terms(torch.ones(6), torch.ones(8), torch.zeros(2)),
            "The query has 6 dimensions",
        ),
        (
            lambda: rope.axial([1.0, 0.1]).terms(torch.ones(8), torch.ones(8), torch.zeros(1)),
            "one for each axis",
        ),
    ],
)
def test_bad_input_is_refused_in_a_sentence(wrong, says):
    with pytest.raises(ValueError, match=says):
        wrong()


def test_a_model_without_two_axes_is_refused(folders):
    vlm = ww.load(folders / "llava")
    for ask in (rope.vision, lambda vlm: rope.heads(vlm, np.zeros((24, 24, 3), np.uint8))):
        with pytest.raises(ValueError, match="has no 2-D RoPE: its ViT adds a learnt table"):
            ask(vlm)
    assert set(rope.language(vlm).axis.tolist()) == {0}
