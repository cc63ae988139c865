"""The page "Adding a family of models": its code is run as it stands there, on small random checkpoints of the true classes."""

import copy
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3Processor,
    LlamaConfig,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

import whatwhere as ww
from closeness import OTHER, SAME, apart
from whatwhere.book.rehearsal.checkpoints import save, special_ids, word_tokenizer
from whatwhere.families import FAMILIES

PAGE = Path(__file__).parents[1] / "book/new_adapter.md"
ADAPTER, CHECKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
HUB = '"HuggingFaceTB/SmolVLM-256M-Instruct"'
QUESTIONS = ["is there a cup?", "what colour is the bear on the left of the striped bowl?", "how many?"]
CLASSES = {
    "smolvlm": (SmolVLMConfig, SmolVLMForConditionalGeneration, SmolVLMImageProcessorPil),
    "idefics3": (Idefics3Config, Idefics3ForConditionalGeneration, Idefics3ImageProcessorPil),
}
TEMPLATE = (
    "<s>{% for m in messages %}{{ 'user :' }}{% for c in m['content'] %}{% if c['type'] == 'image' %}<image>"
    "{% else %}{{ c['text'] }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant :' }}{% endif %}"
)
SHAPES = {  # the 256M model merges 4 x 4 patches; the 2.2B model has no token <global-img>
    "smolvlm": dict(family="smolvlm"),
    "smolvlm, merging 3 x 3, a last strip of pixels unseen, tied": dict(family="smolvlm", merge=3, image=26, tied=True),
    "idefics3, merging 4 x 4": dict(family="idefics3", merge=4, image=32),
    "idefics3, no token for the whole image": dict(family="idefics3", whole=()),
}


def smolvlm(folder, *, family, image=24, patch=4, merge=2, layers=3, tied=False, whole=("<global-img>",), seed=0):
    """Save a random SmolVLM to `folder`."""
    config_class, model_class, processor_class = CLASSES[family]
    tokenizer = word_tokenizer(TEMPLATE, "<fake_token_around_image>", "<image>", "<end_of_utterance>", *whole)
    processor = processor_class(size={"longest_edge": 2 * image}, max_image_size={"longest_edge": image})
    settings = config_class(
        vision_config=dict(hidden_size=24, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2, image_size=image,
                           patch_size=patch),
        text_config=LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=layers, num_attention_heads=4,
            num_key_value_heads=2, tie_word_embeddings=tied, max_position_embeddings=512, **special_ids(tokenizer),
        ),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=merge,
        tie_word_embeddings=tied,
    )  # fmt: skip
    return save(folder, model_class, settings, tokenizer, processor, torch.float32, seed)


@pytest.fixture(scope="module")
def page():
    """The names that the page's first block makes, with its families known for as long as this file is tested."""
    before, names = dict(FAMILIES), {"__name__": "page"}
    try:
        exec(compile(ADAPTER, str(PAGE), "exec"), names)
        yield names
    finally:
        FAMILIES.clear()
        FAMILIES.update(before)


@pytest.fixture(scope="module", params=SHAPES)
def vlm(request, page, tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    smolvlm(folder, **SHAPES[request.param])
    return ww.load(folder)


@pytest.fixture(scope="module")
def one(page, tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    smolvlm(folder, family="smolvlm")
    return ww.load(folder)


def picture(width=40, height=28, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8))


PICTURES = [picture(40, 28), picture(24, 48, 1), picture(31, 31, 2)]


def theirs(vlm, images, questions):
    """Inputs by the family's own processor, without us. (SmolVLM's writes the same, and needs packages for video.)"""
    processor = Idefics3Processor(vlm.image_processor, copy.deepcopy(vlm.tokenizer), vlm.model.model.image_seq_len)
    texts = [
        vlm.tokenizer.apply_chat_template(
            [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}],
            tokenize=False,
            add_generation_prompt=True,
        )
        for question in questions
    ]
    made = processor(text=texts, images=[[i] for i in images], do_image_splitting=False, padding=True, return_tensors="pt")
    return dict(made)


# -- the page -----------------------------------------------------------------------------------------------------


def test_the_adapter_is_short():
    assert len(ADAPTER.splitlines()) <= 60
    assert max(map(len, (ADAPTER + CHECKS).splitlines())) <= 130


def test_the_page_runs_as_it_stands(page, vlm):
    assert CHECKS.count(HUB) == 1
    names = {"__name__": "page"}
    exec(compile(CHECKS.replace(HUB, repr(vlm.name)), str(PAGE), "exec"), names)
    for found in (names["found"], ww.parity.check(names["vlm"], PICTURES, QUESTIONS, names["theirs"])):
        assert (found.works == "yes").all() and len(found) >= 12, found.to_string()


MISTAKES = {  # what is wrong, and the member that is named
    "tokens out of order": (lambda own: {"connect": lambda *given: [each.roll(1, 0) for each in own.connect(*given)]}, "connect"),
    "the last norm forgotten": (lambda own: {"connect": lambda states, _: list(own.connector(states.contiguous()))}, "connect"),
    "a block too few": (lambda own: {"depth": own.depth - 1}, "depth"),
    "no token for the whole image": (lambda own: {"around": ("<fake_token_around_image>",) * 2}, "around"),
    "the picture as in a mirror": (
        lambda own: {"vision_arguments": lambda pixels: ((pixels["pixel_values"][:, 0].flip(-1),), {})}, "vision_arguments"),
    "positions from the end": (lambda own: {"position_ids": lambda inputs: own.position_ids(inputs).flip(-1)}, "position_ids"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_checks_find_a_wrong_adapter(one, mistake):
    wrong, (change, member) = copy.copy(one), MISTAKES[mistake]
    wrong.adapter = copy.copy(one.adapter)
    vars(wrong.adapter).update(change(one.adapter))
    wrong.depths = wrong.adapter.depth
    single = lambda image, question: theirs(one, [image], [question])  # noqa: E731
    found = ww.parity.check(wrong, PICTURES, QUESTIONS, single)
    assert found.works.str.contains(f"`adapter.{member}`").any(), found.to_string()


def test_the_page_tells_every_attribute_and_method(page, one):
    text = PAGE.read_text(encoding="utf-8")
    for name in (*vars(one.adapter), *(n for c in type(one.adapter).__mro__ for n in vars(c) if not n.startswith("_"))):
        assert f"`{name}" in text or name in ("image_processor", "size"), name


def test_an_unknown_architecture_names_the_known_and_the_page(folders, tmp_path):
    smolvlm(tmp_path, family="smolvlm")
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace('"model_type": "smolvlm"', '"model_type": "mystery"'))
    with pytest.raises(ValueError, match=r"'mystery'; whatwhere knows llava, qwen2_vl, .*\(book/new_adapter\.md\)"):
        ww.load(tmp_path)


# -- parity -------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_prepared_inputs_are_those_of_transformers(vlm):
    ours, expected = vlm.prepare(PICTURES, QUESTIONS), theirs(vlm, PICTURES, QUESTIONS)
    assert expected["pixel_attention_mask"].all()  # one whole picture: no pixel is padding
    assert ours.keys() == expected.keys()
    for name in ours:
        assert torch.equal(ours[name], expected[name]), name


@torch.no_grad()
def test_logits_are_those_of_transformers(vlm):
    inputs = theirs(vlm, PICTURES, QUESTIONS)
    expected, real = vlm.model(**inputs).logits, inputs["attention_mask"].bool()
    assert real.logical_not().any(), "the batch should hold padding"
    assert not real[0, 0] and real[:, -1].all(), "and on the left"
    ours = vlm.logits(PICTURES, QUESTIONS)
    assert ours.shape == expected.shape and apart(ours[real], expected[real]) < SAME
    assert expected[real].std() > 0.1, "logits too alike to tell a mistake"
    for image, question, row, keep in zip(PICTURES, QUESTIONS, expected, real):
        assert apart(vlm.logits(image, question), row[keep]) < SAME


def test_answers_are_those_of_generate(vlm):
    inputs = theirs(vlm, PICTURES, QUESTIONS)
    ids = vlm.model.generate(**inputs, do_sample=False, max_new_tokens=6, pad_token_id=0)
    expected = [vlm.tokenizer.decode(row[inputs["input_ids"].shape[1] :], skip_special_tokens=True) for row in ids]
    assert vlm.answer(PICTURES, QUESTIONS, max_new_tokens=6) == [text.strip() for text in expected]


@torch.no_grad()
def test_a_shorter_vit_is_a_model_with_fewer_blocks(vlm):
    pixels = vlm.prepare(PICTURES, QUESTIONS)["pixel_values"]
    by_depth = vlm.visual_tokens_by_depth(PICTURES)
    assert all(len(each) == vlm.depths + 1 for each in by_depth)
    for depth in range(vlm.depths + 1):
        cut = copy.deepcopy(vlm.model)
        cut.model.vision_model.encoder.layers = cut.model.vision_model.encoder.layers[:depth]
        for ours, expected in zip(by_depth, cut.get_image_features(pixels).pooler_output, strict=True):
            assert apart(ours[depth], expected) < SAME
    assert torch.equal(vlm.visual_tokens(PICTURES[0]), vlm.visual_tokens(PICTURES[0], vlm.depths))
    assert apart(by_depth[0][0], by_depth[0][1]) > OTHER


@torch.no_grad()
def test_vit_states_are_what_the_connector_makes_visual_tokens_of(vlm):
    for states, tokens in zip(vlm.vit_states(PICTURES), vlm.visual_tokens_by_depth(PICTURES), strict=True):
        normed = vlm.adapter.vision.post_layernorm(states.unflatten(-1, (vlm.adapter.merge**2, -1))).flatten(-2)
        assert apart(vlm.connector.modality_projection(normed), tokens) < SAME


# -- the rest of the package on it --------------------------------------------------------------------------------


@torch.no_grad()
def test_the_lens_is_exact_at_every_depth_and_layer(vlm):
    image, question = PICTURES[0], QUESTIONS[1]
    inputs, index = vlm.prepare(image, question), vlm.positions(image, question).index
    for layer in (0, 1, vlm.n_layers):
        maps = ww.lens.token_maps(vlm, image, question, layer=layer, top_k=7)
        assert maps.top_ids.shape == (vlm.depths + 1, *vlm.patch_grid(image), 7)
        for depth in range(vlm.depths + 1):
            cut = copy.deepcopy(vlm.model)
            cut.model.vision_model.encoder.layers = cut.model.vision_model.encoder.layers[:depth]
            out = cut(**inputs, output_hidden_states=True)
            logits = out.logits if layer == vlm.n_layers else cut.lm_head(cut.model.text_model.norm(out.hidden_states[layer]))
            expected = logits[0, index].softmax(-1).topk(7)
            assert apart(maps.probabilities[depth].reshape(-1, 7), expected.values) < SAME


def test_a_painted_cell_changes_that_cell_and_is_seen_there(vlm):
    (rows, columns), scale = vlm.patch_grid(PICTURES[0]), vlm.adapter.merge * vlm.model.config.vision_config.patch_size
    plain = Image.new("RGB", (vlm.model.config.vision_config.image_size,) * 2, (90, 90, 90))
    for row, column in ((0, columns - 1), (rows - 1, 0), (rows // 2, 1)):
        painted, whole = plain.copy(), (column * scale, row * scale, (column + 1) * scale, (row + 1) * scale)
        painted.paste((250, 20, 20), (whole[0] + 3, whole[1] + 3, whole[2] - 3, whole[3] - 3))  # resized twice: soft edges
        before, after = (vlm.visual_tokens(image, 0) for image in (plain, painted))
        change = (before - after).norm(dim=-1).reshape(rows, columns)
        assert change.argmax() == row * columns + column and change[row, column] > 0.8 * change.sum()
        seen = np.asarray(vlm.seen(painted)).astype(int)
        assert seen.shape[:2] == plain.size
        red = (seen[..., 0] - seen[..., 1] > 100).nonzero()
        assert {(at // scale, over // scale) for at, over in zip(*red)} == {(row, column)}


def test_positions(vlm):
    rows, columns = vlm.patch_grid(PICTURES[0])
    index, lm, vit = vlm.positions(PICTURES[0], QUESTIONS[0])
    assert len(index) == rows * columns and torch.equal(lm, index)
    side = torch.arange(rows * vlm.adapter.merge)
    assert torch.equal(vit, torch.cartesian_prod(side, side))


def test_interventions(one):
    """Adding nothing changes nothing; what is added in the ViT and the LM arrives where it should; patches swap places."""
    image, side, merge = PICTURES[0], one.adapter.side, one.adapter.merge
    patch = torch.zeros(side, side, dtype=torch.bool)
    patch[2, 3] = True
    usual = one.vit_states(image)
    with ww.intervene.added(one, patch, torch.ones(24), depth=1):
        moved = (one.vit_states(image)[1] - usual[1]).unflatten(-1, (merge**2, -1)).abs().sum(-1)
    assert moved.nonzero().tolist() == [[1 * (side // merge) + 1, 1]]  # token (1, 1), the second of its four patches
    with ww.intervene.moved(one, patch, (2, -1)):
        states = one.vit_states(image, [0])[0].unflatten(-1, (merge**2, -1))[side // merge + 1, 1]
        logits = one.model(**one.prepare(image, QUESTIONS[0])).logits[0]
        assert apart(one.logits(image, QUESTIONS[0]), logits) < SAME  # the model itself sees it too
    table = one.adapter.position_table.weight
    expected = usual[0].unflatten(-1, (merge**2, -1))[side // merge + 1, 1] - table[2 * side + 3] + table[4 * side + 2]
    assert apart(states, expected) < SAME
    with pytest.raises(ValueError, match="lead off the picture"), ww.intervene.moved(one, patch, (-3, 0)):
        one.vit_states(image)
    cell = torch.zeros(side // merge, side // merge, dtype=torch.bool)
    cell[0, 1] = True
    usual = one.logits(image, QUESTIONS[0])
    with ww.intervene.added(one, cell, torch.ones(32), layer=0):
        assert apart(one.logits(image, QUESTIONS[0]), usual) > OTHER
        assert apart(one.logits(image, QUESTIONS[0]), one.model(**one.prepare(image, QUESTIONS[0])).logits[0]) < SAME


def test_compression(one):
    before = one.answer(PICTURES, QUESTIONS, max_new_tokens=4)
    for keep, which in ((4, "grid"), (0.5, "tome-like")):
        with ww.compress.compressed(one, which, keep=keep) as log:
            assert all(isinstance(text, str) for text in one.answer(PICTURES, QUESTIONS, max_new_tokens=4))
        assert log.given == [9] * 3 and log.removed > 0
    with ww.compress.compressed(one, "grid", keep=9) as log:  # all of them
        assert one.answer(PICTURES, QUESTIONS, max_new_tokens=4) == before
    taught = ww.compress.lessons(one, PICTURES, progress=False)
    decoder = ww.compress.distil(one, taught, epochs=1)
    with ww.compress.compressed(one, 1, decoder) as log:
        one.answer(PICTURES, QUESTIONS, max_new_tokens=4)
    assert log.given == [9] * 3


def test_there_is_no_rope_to_scale(one):
    with pytest.raises(ValueError, match="no 2-D RoPE: its ViT adds a learnt table"), ww.rope.scaled(one, alpha=9, p=8):
        pass


def test_saved_and_loaded_again(one, tmp_path):
    again = ww.load(one.save(tmp_path))
    assert torch.equal(again.logits(PICTURES[0], QUESTIONS[0]), one.logits(PICTURES[0], QUESTIONS[0]))
    assert "smolvlm" in repr(again)
