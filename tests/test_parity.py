"""`whatwhere check`: a sound model passes on every family; a mistake in an adapter is found, and
its member is named."""

import copy
import json

import numpy as np
import pytest
import torch
from PIL import Image

import shapes
import whatwhere as ww
from processors import processor
from tools.trials import standin
from whatwhere import families
from whatwhere.__main__ import main
from whatwhere.families import forward, parity, registry
from whatwhere.images import View

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", params=["hub/llava", "hub/qwen2_5_vl"])
def vlm(request, checkpoint):
    return ww.load(checkpoint(request.param))


def test_every_family_is_checked(checkpoint):
    """One that is registered has a line in tests/shapes.py."""
    configs = [json.loads((checkpoint(name) / "config.json").read_text()) for name in shapes.CHECK]
    ours = {kind for kind, adapter in registry._known.items() if "whatwhere." in adapter.__module__}
    assert {config["model_type"] for config in configs} == ours


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", shapes.CHECK)
def test_a_sound_model_passes_on_a_gpu_and_in_half_precision(checkpoint, name, dtype):
    with standin.cuda():
        vlm = ww.load(checkpoint(name), dtype=dtype)
        assert vlm.device.type == "cuda"
        before = {name: each.clone() for name, each in vlm.model.state_dict().items()}
        attention = [
            vlm.lm.config._attn_implementation,
            vlm.adapter.vision.config._attn_implementation,
        ]
        found = families.check(vlm, processor(vlm))
        assert (found.works == "yes").all(), found.to_string()
        assert len(found) >= 15 and found.what.is_unique
        assert all(torch.equal(each, before[name]) for name, each in vlm.model.state_dict().items())
        assert attention == [
            vlm.lm.config._attn_implementation,
            vlm.adapter.vision.config._attn_implementation,
        ]
        hooks = [
            [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
            for module in vlm.model.modules()
        ]
        assert not any(hook.__module__.startswith("whatwhere") for hook in sum(hooks, []))


def wrong(vlm, **changed):
    """The same model with another adapter: each named member is a function of the adapter's own."""
    other = copy.copy(vlm)
    other.adapter = copy.copy(vlm.adapter)
    for name, how in changed.items():
        if how is MISSING:
            del vars(other.adapter)[name]
        else:
            vars(other.adapter)[name] = how(getattr(vlm.adapter, name, None))
    other.last_depth = other.adapter.depth
    return other


MISSING = object()


def turned(own):
    return lambda *given: [each.flip(0) for each in own(*given)]


def without(own, name="mask"):
    return lambda *given: {**own(*given), "attention_mask": own(*given)["attention_mask"] * 0 + 1}


def narrower(own):
    return lambda *given: [each[:, 1:] for each in own(*given)]


def shuffled(own):
    return lambda block: own(block)[::-1]


MISTAKES = {  # what is wrong, and a part of the sentence that says so
    "tokens reversed": (dict(connect=turned), "reversed: `adapter.connect`"),
    "tokens rolled": (
        dict(connect=lambda own: lambda *a: [each.roll(1, 0) for each in own(*a)]),
        "in another order: `adapter.connect`",
    ),
    "the depth before": (
        dict(depth=lambda own: own - 1),
        "reads ViT depth ., and `adapter.depth` says .",
    ),
    "patches reversed": (dict(patches=turned), "corner is read at token .*: `adapter.patches`"),
    "maps mirrored": (
        dict(in_vit=lambda own: lambda maps: own([each.flip(1) for each in maps])),
        "`adapter.in_vit`",
    ),
    "places reversed": (
        dict(patch_positions=lambda own: lambda *a: own(*a).flip(0)),
        "`adapter.patch_positions`",
    ),
    "the picture shown mirrored": (
        dict(seen=lambda own: lambda image: own(image).transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
        "`adapter.seen`",
    ),
    "a picture said to be padded": (
        dict(viewed=lambda _: lambda size: View((64, 48), (0, -8, 64, 56))),
        "A picture of 480 × 320 pixels is not shown as said by `adapter.viewed`",
    ),
    "a picture said to be out of sight": (
        dict(viewed=lambda _: lambda size: View((64, 64), (64, 0, 128, 64))),
        "Nothing of a picture of 480 × 320 pixels is in the box of `adapter.viewed`",
    ),
    "LM positions from the end": (
        dict(position_ids=lambda own: lambda inputs: own(inputs).flip(-1)),
        "`adapter.position_ids`",
    ),
    "pixels of another picture": (
        dict(
            vision_arguments=lambda own: (
                lambda pixels: ((own(pixels)[0][0].flip(-1),), own(pixels)[1])
            )
        ),
        "`adapter.vision_arguments`",
    ),
    "a batch that sees its padding": (
        dict(model_inputs=without),
        "Prompts differ when they are batched",
    ),
    "a member missing": (dict(merge=MISSING), "lacks `merge`. Patches along a side"),
    "a member misnamed": (
        dict(position_tabel=lambda _: None),
        "has `position_tabel`, .*Is it `position_table`",
    ),
    "a member of another kind": (dict(depth=float), "has a float as `depth`, which takes int"),
    "patches of another width": (
        dict(patches=narrower),
        r"`adapter.patches` gives \[\(\d+, \d+\), .*\], not ",
    ),
    "visual tokens of another width": (dict(connect=narrower), "`adapter.connect` gives .*, not "),
    "a map of another shape": (
        dict(in_vit=lambda own: lambda maps: own(maps).flatten()[1:]),
        "`adapter.in_vit` gives .*, not ",
    ),
    "positions of one axis": (
        dict(position_ids=lambda own: lambda inputs: own(inputs).flatten()),
        "`adapter.position_ids` gives .*, not ",
    ),
    "queries for values": (dict(lm_heads=shuffled), "`adapter.lm_heads` gives what does not fit"),
    "a member misspelt": (
        dict(connect=lambda own: lambda *a: own.nothing),
        "AttributeError: .*nothing",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found_and_named(vlm, mistake):
    changed, sentence = MISTAKES[mistake]
    found = families.check(wrong(vlm, **changed))
    bad = found[found.works != "yes"]
    said = "; ".join(f"{what}: {works}" for what, works in zip(bad.what, bad.works))
    assert bad.works.str.contains(sentence).any(), said


def test_a_prompt_is_held_to_that_of_the_family_s_processor(vlm, monkeypatch):
    monkeypatch.setattr(vlm.adapter, "around", ("yes", "no"))
    works = families.check(vlm, processor(vlm)).set_index("what").works
    assert "`adapter.around`" in works["prompt and pixels are the family's own"]


def test_what_is_added_in_the_lm_is_checked(checkpoint):
    vlm = ww.load(checkpoint("hub/qwen3_vl"))
    for changed, sentence in (
        (
            dict(connect_extra=turned),
            "What is added in the LM's first layers is not the model's: `adapter.connect_extra`",
        ),
        (dict(connect_extra=narrower), "`adapter.connect_extra.…, 1.` gives .*, not"),
        (
            dict(unpack=lambda _: lambda wide: {"inputs_embeds": wide[..., :32]}),
            "LM's states differ from layer 2 on.*`unpack`",
        ),
    ):
        found = families.check(wrong(vlm, **changed))
        assert found.works.str.contains(sentence).any(), found.to_string()


def test_questions_that_the_processor_would_ask_otherwise_are_found(vlm):
    images = [Image.new("RGB", (64, 48), "red"), Image.new("RGB", (48, 64), "blue")]
    questions = ["is there a cup ?", "how many ?"]
    found = families.check(vlm, vlm.prepare, images, questions)
    assert found.set_index("what").works["prompt and pixels are the family's own"] == "yes"
    found = families.check(
        vlm, lambda image, question: vlm.prepare(image, question + " yes"), images, questions
    )
    assert (
        "`adapter.around`"
        in found.set_index("what").works["prompt and pixels are the family's own"]
    )


def test_other_weights_for_the_words_are_numbers_that_are_none(checkpoint):
    vlm = ww.load(checkpoint("hub/llava"))
    with torch.no_grad():
        vlm.lm_layers[1].mlp.down_proj.weight.mul_(torch.inf)
    works = families.check(vlm).set_index("what").works
    assert "LM layer 2" in works["numbers are finite at every depth and layer"]


def test_two_pictures_and_two_questions(vlm):
    with pytest.raises(
        ValueError, match="two images at least and a question for each; got 1 and 1"
    ):
        families.check(vlm, images=[Image.new("RGB", (8, 8))], questions=["what ?"])


def test_the_command(checkpoint, capsys, monkeypatch):
    assert main(["check", str(checkpoint("hub/qwen2_vl")), "--dtype", "float32"]) == 0
    said = capsys.readouterr().out
    assert (
        "visual tokens are the model's own, in its order: yes" in said and "float32 on cpu" in said
    )
    for part in (forward, parity):
        monkeypatch.setattr(part, "ALLOWED", dict.fromkeys(part.ALLOWED, -1.0))
    assert main(["check", str(checkpoint("hub/qwen2_vl"))]) == 1
    assert main(["check", "toy-lava"]) == 1 and "did you mean" in capsys.readouterr().err


def test_noise_is_the_same_every_time():
    assert np.array_equal(parity._noise(48, 64, 0), parity._noise(48, 64, 0)) and parity._noise(
        48, 64, 0
    ).size == (256, 192)
