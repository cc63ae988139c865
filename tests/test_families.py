"""Families that are registered, here or by another package; and what is said of an adapter that
lacks something."""

import re
import sys
from importlib.metadata import EntryPoint

import numpy as np
import pytest
from PIL import Image

import whatwhere as ww
from closeness import SAME, apart
from whatwhere import families
from whatwhere.families import Adapter, Square, registry
from whatwhere.families.idefics import SmolVLM
from whatwhere.families.llava import Llava

pytestmark = pytest.mark.usefixtures("registered")


class Mine(Llava):
    """A LLaVA by another name."""


def test_a_family_is_registered_once():
    families.register("mine", Mine)
    assert families.adapter_class("mine") is Mine and families.names()[-1] == "mine"
    with pytest.raises(
        ValueError,
        match="'mine' has an adapter, test_families.Mine: register yours with replace=True",
    ):
        families.register("mine", Llava)
    families.register("mine", Llava, replace=True)
    assert families.adapter_class("mine") is Llava
    for name in ("", None, 3):
        with pytest.raises(ValueError, match="goes by its config's `model_type`, not by"):
            families.register(name, Llava)
    with pytest.raises(ValueError, match="No family 'yours'; whatwhere knows llava, .* and mine"):
        families.adapter_class("yours")


class Unfinished(Square):
    model_class, image_processor_class = Llava.model_class, Llava.image_processor_class


class Misnamed(Unfinished):
    def conect(self, hidden, pixels):
        return []


class Helpful(Llava):
    def view(self, size):
        return False


class Nameless(Adapter):
    """All methods, and no classes to open a checkpoint with."""


for _name in Adapter.__abstractmethods__:
    setattr(Nameless, _name, lambda self, *given: None)
Nameless.__abstractmethods__ = frozenset()


@pytest.mark.parametrize(
    "wrong, sentence",
    [
        (Llava.connect, "a subclass of whatwhere.families.Adapter, not <function"),
        (dict, "a subclass of whatwhere.families.Adapter, not <class 'dict'>"),
        (
            Unfinished,
            r"test_families.Unfinished lacks `connect`. \(leading \+ tokens, LM width\) for "
            r"each image",
        ),
        (Misnamed, r"Misnamed lacks `connect`. .Its `conect` is no member: is that the one\?"),
        (
            Helpful,
            r"Helpful has `view`, which no adapter has. .Is it `viewed`\?. Names of your own "
            r"begin with '_'",
        ),
        (Nameless, "Nameless lacks `model_class`. The class of transformers"),
    ],
)
def test_what_is_no_adapter_is_not_registered(wrong, sentence):
    with pytest.raises(TypeError, match=sentence):
        families.register("wrong", wrong)
    assert "wrong" not in families.names()


@pytest.mark.parametrize(
    "change, sentence",
    [
        (
            lambda own: delattr(own, "connector"),
            "lacks `connector`. The module with the connector's weights",
        ),
        (
            lambda own: setattr(own, "positiontable", own.position_table),
            "has `positiontable`, .*Is it `position_table`",
        ),
        (
            lambda own: setattr(own, "merge", 2.0),
            "has a float as `merge`, which takes int. Patches along",
        ),
        (
            lambda own: setattr(own, "vision_blocks", [own.vision]),
            "has a list as `vision_blocks`, which takes ModuleList",
        ),
        (lambda own: setattr(own, "leading", True), "has a bool as `leading`, which takes int"),
        (lambda own: setattr(own, "depth", 4), "reads ViT depth 4, and there are 3 blocks"),
        (
            lambda own: setattr(own, "extra_depths", (1, 2, 3)),
            "adds 3 ViT depths in an LM of 3 blocks; whatwhere knows",
        ),
        (
            lambda own: setattr(own, "extra_depths", (1, 2)),
            "adds 2 ViT depths and names 0 `extra_connectors`. The modules with the weights",
        ),
    ],
)
def test_a_wrong_member_is_named_when_a_model_is_loaded(checkpoint, change, sentence):
    class Changed(Llava):
        def __init__(self, model, image_processor):
            super().__init__(model, image_processor)
            change(self)

    families.register("llava", Changed, replace=True)
    with pytest.raises(
        ValueError, match=f"The adapter test_families.*Changed {sentence}"
    ) as caught:
        ww.load(checkpoint("llava"))
    assert "damaged" not in str(caught.value)


@pytest.mark.parametrize("name", ["llava", "qwen2.5vl", "qwen3vl", "internvl", "hub/idefics3"])
def test_members_are_told_with_what_they_are(checkpoint, name):
    """Nothing public in an adapter but what the base class names."""
    vlm, known = ww.load(checkpoint(name)), families.members()
    public = {*vars(vlm.adapter), *(n for c in type(vlm.adapter).__mro__[:-2] for n in vars(c))}
    assert {each for each in public if not each.startswith("_")} == known.keys()
    assert all(re.fullmatch(r"[A-Z(].*[.?]", what) for what in known.values())


def test_sharing_is_by_square_and_not_by_llava():
    assert not issubclass(families.adapter_class("internvl"), Llava) and not issubclass(
        SmolVLM, Llava
    )
    assert issubclass(families.adapter_class("internvl"), Square)


# -- from other packages
# ----------------------------------------------------------------------------------------------


def package(folder, name, code, family="mine", offers="adapters:Theirs"):
    """An installed package that offers a family, as pip leaves one."""
    module, about = folder / name, folder / f"{name}-1.0.dist-info"
    module.mkdir()
    about.mkdir()
    (module / "__init__.py").write_text("")
    (module / "adapters.py").write_text(code)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[whatwhere.families]\n{family} = {name}.{offers}\n")


THEIRS = "from whatwhere.families.llava import Llava\n\n\nclass Theirs(Llava):\n    pass\n"


def test_a_package_offers_a_family(tmp_path, monkeypatch, checkpoint):
    package(tmp_path, "sound_families", THEIRS)
    package(tmp_path, "broken_families", "import nothing_of_that_name\n", family="broken")
    package(tmp_path, "empty_families", "", family="empty")
    package(tmp_path, "other_families", "Theirs = dict\n", family="other")
    monkeypatch.syspath_prepend(tmp_path)
    assert {"mine", "broken", "empty", "other"} <= set(families.names())
    # not yet
    assert not any(name in sys.modules for name in ("sound_families", "broken_families.adapters"))
    found = families.adapter_class("mine")
    assert found.__module__ == "sound_families.adapters" and found is families.adapter_class("mine")
    for family, sentence in (
        (
            "broken",
            r"The package 'broken-families' offers .*'broken', broken_families.adapters:Theirs, "
            r"that cannot be used: "
            r".*ModuleNotFoundError: No module named 'nothing_of_that_name'",
        ),
        ("empty", "'empty-families' offers .*AttributeError"),
        ("other", "'other-families' offers .*TypeError: A family's adapter is a subclass of"),
    ):
        with pytest.raises(ValueError, match=sentence.replace("-families'", "[-_]families'")):
            families.adapter_class(family)
    ww.load(checkpoint("llava"))  # which asks for none of these


def test_two_packages_offer_the_same(monkeypatch):
    points = [EntryPoint("mine", f"{name}:Theirs", registry.GROUP) for name in ("one", "another")]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    with pytest.raises(
        ValueError,
        match="'mine' is offered by one:Theirs and by another:Theirs: uninstall all but one",
    ):
        families.adapter_class("mine")


def test_ours_come_before_those_of_packages(monkeypatch):
    monkeypatch.setattr(
        registry,
        "entry_points",
        lambda group: [EntryPoint("llava", "nothing:Theirs", registry.GROUP)],
    )
    assert families.adapter_class("llava") is Llava and families.names().count("llava") == 1


# -- what changes in a model that is given several ViT depths
# -----------------------------------------------------------


def same(one, other):
    return apart(one, other) < SAME


def test_deepstack_and_changes(checkpoint):
    """What can be changed is changed as in the model itself; what cannot is refused in a
    sentence."""
    vlm = ww.load(checkpoint("qwen3vl"))
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 40, 3), dtype=np.uint8))
    inputs, question = vlm.prepare(image, "how many ?"), "how many ?"
    mask = np.zeros(vlm.patch_grid(image), bool)
    mask[1, 2] = True
    usual = vlm.logits(image, question)
    vector = np.ones(32, np.float32)
    for layer in (0, 1, 3):
        with ww.intervene.added(vlm, mask, vector, layer=layer):
            changed = vlm.logits(image, question)
            assert same(changed, vlm.model(**inputs).logits[0]) and not same(changed, usual)
    with ww.intervene.replaced(vlm, mask, vector, layer=3):
        assert same(vlm.logits(image, question), vlm.model(**inputs).logits[0])
    for layer in (0, 2):
        with pytest.raises(
            ValueError,
            match="after LM layers 1 to 2 .DeepStack., so that a state .* take a layer from 3 on",
        ):
            ww.intervene.replaced(vlm, mask, vector, layer=layer)
    with pytest.raises(ValueError, match="says where a patch is by a table and by 2-D RoPE"):
        with ww.intervene.moved(vlm, mask.repeat(2, 0).repeat(2, 1), (0, 1)):
            pass
    with ww.rope.scaled(vlm, alpha=9, p=2):
        assert same(vlm.logits(image, question), vlm.model(**inputs).logits[0])
        assert not same(vlm.logits(image, question), usual)
    assert (vlm.logits(image, question) == usual).all()
