"""Which of a checkpoint's chat templates is taken: the one that transformers' own processors
take."""

import json
import shutil

import pytest
from transformers import LlavaProcessor

import whatwhere as ww
from whatwhere.book.rehearsal.checkpoints import QWEN_TEMPLATE, qwen2vl
from whatwhere.templates import chat_template

# fails on a list of text and image
OF_AN_LM = "{% for m in messages %}{{ m['role'] + m['content'] }}{% endfor %}"
PLACES = {  # {where a template may stand: how it is written there}
    "processor_config.json": lambda text: json.dumps({"chat_template": text}),
    "processor_config.json, several": lambda text: json.dumps(
        {"chat_template": {"default": text, "other": OF_AN_LM}}
    ),
    "chat_template.json": lambda text: json.dumps({"chat_template": text}),
    "chat_template.jinja": str,
    "additional_chat_templates/default.jinja": str,
    "additional_chat_templates/tool_use.jinja": str,
}


def put(folder, place, text):
    path = folder / place.partition(",")[0]
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(PLACES[place](text))


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    """A small Qwen2.5-VL in which no file holds a template."""
    folder = tmp_path_factory.mktemp("qwen")
    qwen2vl(folder, window=2)
    (folder / "chat_template.jinja").unlink()
    return folder


def of_the_tokenizer(folder, template):
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": template}))


@pytest.mark.parametrize("place", [place for place in PLACES if "tool_use" not in place])
def test_the_processors_template_comes_before_that_of_the_tokenizers_lm(qwen, tmp_path, place):
    folder = shutil.copytree(qwen, tmp_path / "hub")
    of_the_tokenizer(folder, OF_AN_LM)
    put(folder, place, QWEN_TEMPLATE)
    vlm = ww.load(folder)
    assert vlm.tokenizer.chat_template == QWEN_TEMPLATE
    assert ww.load(vlm.save(tmp_path / "saved")).tokenizer.chat_template == QWEN_TEMPLATE


@pytest.mark.parametrize("first", PLACES)
@pytest.mark.parametrize("second", PLACES)
def test_of_two_the_one_that_transformers_takes(tmp_path, first, second):
    put(tmp_path, first, "first")
    put(tmp_path, second, "second")
    try:
        theirs = LlavaProcessor.get_processor_dict(tmp_path)[0]["chat_template"]
    except ValueError:  # beside chat_template.json it takes no others, and so does not choose
        assert {first, second} > {"chat_template.json"}
        theirs = "first" if first == "chat_template.json" else "second"
    if isinstance(theirs, dict):
        theirs = theirs.get("default", "the tokenizer's")
    assert chat_template(str(tmp_path), "a model", own="the tokenizer's") == theirs


def test_the_tokenizers_own_comes_last(qwen, tmp_path):
    folder = shutil.copytree(qwen, tmp_path / "hub")
    with pytest.raises(
        ValueError, match="has no chat template, so it is not known how it is to be asked"
    ):
        ww.load(folder)
    of_the_tokenizer(
        folder, [{"name": "other", "template": "x"}, {"name": "default", "template": QWEN_TEMPLATE}]
    )
    assert ww.load(folder).tokenizer.chat_template == QWEN_TEMPLATE
    of_the_tokenizer(folder, [{"name": "one", "template": "x"}, {"name": "two", "template": "y"}])
    with pytest.raises(
        ValueError, match=r"several chat templates \(one, two\), and none named 'default'"
    ):
        ww.load(folder)


def test_a_mark_before_the_template_is_no_part_of_it(qwen, tmp_path):
    folder = shutil.copytree(qwen, tmp_path / "hub")
    (folder / "chat_template.jinja").write_text(QWEN_TEMPLATE, encoding="utf-8-sig")
    assert ww.load(folder).tokenizer.chat_template == QWEN_TEMPLATE
