"""The page "Adding a family of models": its code is run as it stands there, on small random
checkpoints of the true classes."""

import copy
import inspect
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import whatwhere as ww
from closeness import OTHER, SAME, apart
from processors import prepared
from whatwhere import families
from whatwhere.book.rehearsal.checkpoints import smolvlm
from whatwhere.families import idefics, registry

PAGE = Path(__file__).parents[1] / "book/new_adapter.md"
ADAPTER, CHECKS = re.findall(
    r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
)
HUB = '"HuggingFaceTB/SmolVLM-256M-Instruct"'
QUESTIONS = [
    "is there a cup?",
    "what colour is the bear on the left of the striped bowl?",
    "how many?",
]
SHAPES = {  # the 256M model merges 4 x 4 patches; the 2.2B model has no token <global-img>
    "smolvlm": dict(family="smolvlm"),
    "smolvlm, merging 3 x 3, a last strip of pixels unseen, tied": dict(
        family="smolvlm", merge=3, image=26, tied=True
    ),
    "idefics3, merging 4 x 4": dict(family="idefics3", merge=4, image=32),
    "idefics3, no token for the whole image": dict(family="idefics3", whole=()),
}


@pytest.fixture(scope="module")
def page():
    """The names that the page's first block makes, with its families known for as long as this file
    is tested."""
    names = {"__name__": "page"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_known", dict(registry._known))
        exec(compile(ADAPTER, str(PAGE), "exec"), names)
        yield names


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
    return Image.fromarray(
        np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    )


PICTURES = [picture(40, 28), picture(24, 48, 1), picture(31, 31, 2)]


# -- the page
# --------------------------------------------------------------------------------------------------


def test_the_page_runs_as_it_stands(page, vlm):
    assert CHECKS.count(HUB) == 1 and type(vlm.adapter).__module__ == "page"
    names = {"__name__": "page"}
    exec(compile(CHECKS.replace(HUB, repr(vlm.name)), str(PAGE), "exec"), names)
    for checks in (
        names["checks"],
        families.check(names["vlm"], names["processor"], PICTURES, QUESTIONS),
    ):
        assert (checks.works == "yes").all() and len(checks) >= 15, checks.to_string()


def test_the_adapter_on_the_page_is_the_package_s_own():
    """But for where it imports from, and that it is registered."""
    classes = [inspect.getsource(each) for each in (idefics.SmolVLM, idefics.Idefics3)]
    assert all(each in ADAPTER for each in classes)
    assert max(map(len, (ADAPTER + CHECKS).splitlines())) <= 100


def test_the_page_lists_every_member(page):
    """With what the class says of it, and where SmolVLM has a method from."""
    text = PAGE.read_text(encoding="utf-8")
    for name, what in families.members().items():
        method = vars(families.Adapter).get(name)
        row = f"| `{name}` | {what} |"
        if inspect.isfunction(method):
            takes = ", ".join(list(inspect.signature(method).parameters)[1:])
            owner = next(kind for kind in page["SmolVLM"].__mro__ if name in vars(kind))
            row = (
                f"| `{name}({takes})` | {what} | "
                f"{'here' if owner is page['SmolVLM'] else f'`{owner.__name__}`'} |"
            )
        assert row in text.splitlines(), row
    assert text.count("\n| `") == len(families.members())


MISTAKES = {  # what is wrong, and the member that is named
    "tokens out of order": (
        lambda own: {"connect": lambda *given: [each.roll(1, 0) for each in own.connect(*given)]},
        "connect",
    ),
    "the last norm forgotten": (
        lambda own: {"connect": lambda states, _: list(own.connector(states.contiguous()))},
        "connect",
    ),
    "a block too few": (lambda own: {"depth": own.depth - 1}, "depth"),
    "no token for the whole image": (
        lambda own: {"around": ("<fake_token_around_image>",) * 2},
        "around",
    ),
    "the picture as in a mirror": (
        lambda own: {
            "vision_arguments": lambda pixels: ((pixels["pixel_values"][:, 0].flip(-1),), {})
        },
        "vision_arguments",
    ),
    "positions from the end": (
        lambda own: {"position_ids": lambda inputs: own.position_ids(inputs).flip(-1)},
        "position_ids",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_checks_find_a_wrong_adapter(one, mistake):
    wrong, (change, member) = copy.copy(one), MISTAKES[mistake]
    wrong.adapter = copy.copy(one.adapter)
    vars(wrong.adapter).update(change(one.adapter))
    wrong.last_depth = wrong.adapter.depth
    theirs = lambda image, question: prepared(one, [image], [question])  # noqa: E731
    checks = families.check(wrong, theirs, PICTURES, QUESTIONS)
    assert checks.works.str.contains(f"`adapter.{member}`").any(), checks.to_string()


def test_an_unknown_architecture_names_the_known_and_the_page(tmp_path):
    smolvlm(tmp_path, family="smolvlm")
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(
        config.replace('"model_type": "smolvlm"', '"model_type": "mystery"')
    )
    with pytest.raises(
        ValueError, match=r"'mystery'; whatwhere knows llava, qwen2_vl, .*\(book/new_adapter\.md\)"
    ):
        ww.load(tmp_path)


# -- the rest of the package on it: what tests/shapes.py does not lead through for every family
# -----------------------


@torch.no_grad()
def test_one_whole_picture(one):
    """No pixel of it is padding, and the batch is padded on the left."""
    ours, expected = one.prepare(PICTURES, QUESTIONS), prepared(one, PICTURES, QUESTIONS)
    assert expected["pixel_attention_mask"].all() and ours.keys() == expected.keys()
    real = expected["attention_mask"].bool()
    assert not real[0, 0] and real[:, -1].all()


def test_a_painted_cell_changes_that_cell_and_is_seen_there(vlm):
    (rows, columns), scale = (
        vlm.patch_grid(PICTURES[0]),
        vlm.adapter.merge * vlm.model.config.vision_config.patch_size,
    )
    plain = Image.new("RGB", (vlm.model.config.vision_config.image_size,) * 2, (90, 90, 90))
    for row, column in ((0, columns - 1), (rows - 1, 0), (rows // 2, 1)):
        painted, whole = (
            plain.copy(),
            (column * scale, row * scale, (column + 1) * scale, (row + 1) * scale),
        )
        # resized twice: soft edges
        painted.paste((250, 20, 20), (whole[0] + 3, whole[1] + 3, whole[2] - 3, whole[3] - 3))
        before, after = (vlm.visual_tokens(image, 0) for image in (plain, painted))
        change = (before - after).norm(dim=-1).reshape(rows, columns)
        assert (
            change.argmax() == row * columns + column and change[row, column] > 0.8 * change.sum()
        )
        seen = np.asarray(vlm.seen(painted)).astype(int)
        assert seen.shape[:2] == plain.size
        red = (seen[..., 0] - seen[..., 1] > 100).nonzero()
        assert {(at // scale, over // scale) for at, over in zip(*red)} == {(row, column)}


def test_interventions(one):
    """Adding nothing changes nothing; what is added in the ViT and the LM arrives where it should;
    patches swap places."""
    image, side, merge = PICTURES[0], one.adapter.side, one.adapter.merge
    patch = torch.zeros(side, side, dtype=torch.bool)
    patch[2, 3] = True
    usual = one.vit_states(image)
    with ww.intervene.added(one, patch, torch.ones(24), depth=1):
        moved = (one.vit_states(image)[1] - usual[1]).unflatten(-1, (merge**2, -1)).abs().sum(-1)
    # token (1, 1), the second of its four patches
    assert moved.nonzero().tolist() == [[1 * (side // merge) + 1, 1]]
    with ww.intervene.moved(one, patch, (2, -1)):
        states = one.vit_states(image, [0])[0].unflatten(-1, (merge**2, -1))[side // merge + 1, 1]
        logits = one.model(**one.prepare(image, QUESTIONS[0])).logits[0]
        assert apart(one.logits(image, QUESTIONS[0]), logits) < SAME  # the model itself sees it too
    table = one.adapter.position_table.weight
    expected = (
        usual[0].unflatten(-1, (merge**2, -1))[side // merge + 1, 1]
        - table[2 * side + 3]
        + table[4 * side + 2]
    )
    assert apart(states, expected) < SAME
    with (
        pytest.raises(ValueError, match="lead off the picture"),
        ww.intervene.moved(one, patch, (-3, 0)),
    ):
        one.vit_states(image)
    cell = torch.zeros(side // merge, side // merge, dtype=torch.bool)
    cell[0, 1] = True
    usual = one.logits(image, QUESTIONS[0])
    with ww.intervene.added(one, cell, torch.ones(32), layer=0):
        assert apart(one.logits(image, QUESTIONS[0]), usual) > OTHER
        assert (
            apart(
                one.logits(image, QUESTIONS[0]),
                one.model(**one.prepare(image, QUESTIONS[0])).logits[0],
            )
            < SAME
        )


def test_compression(one):
    before = one.answer(PICTURES, QUESTIONS, max_new_tokens=4)
    for keep, which in ((4, "grid"), (0.5, "tome-like")):
        with ww.compress.compressed(one, which, keep=keep) as log:
            assert all(
                isinstance(text, str) for text in one.answer(PICTURES, QUESTIONS, max_new_tokens=4)
            )
        assert log.given == [9] * 3 and log.removed > 0
    with ww.compress.compressed(one, "grid", keep=9) as log:  # all of them
        assert one.answer(PICTURES, QUESTIONS, max_new_tokens=4) == before
    taught = ww.compress.lessons(one, PICTURES, progress=False)
    decoder = ww.compress.distil(one, taught, epochs=1)
    with ww.compress.compressed(one, 1, decoder) as log:
        one.answer(PICTURES, QUESTIONS, max_new_tokens=4)
    assert log.given == [9] * 3


def test_saved_and_loaded_again(one, tmp_path):
    again = ww.load(one.save(tmp_path))
    assert torch.equal(
        again.logits(PICTURES[0], QUESTIONS[0]), one.logits(PICTURES[0], QUESTIONS[0])
    )
    assert "smolvlm" in repr(again)
