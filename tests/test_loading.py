"""Every way a load can fail, and the sentence it fails with."""

import json
import shutil

import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer

import whatwhere as ww
from test_templates import OF_AN_LM
from whatwhere import checkpoints, loading
from whatwhere.families import FAMILIES
from whatwhere.rehearsal.checkpoints import internvl, llava


def test_unknown_name():
    with pytest.raises(FileNotFoundError, match="did you mean 'toy-llava'.*hub id"):
        ww.load("toy-lava")


def test_organism_without_the_repository(monkeypatch, tmp_path):
    monkeypatch.setattr(loading, "__file__", str(tmp_path / "site-packages/whatwhere/loading.py"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="Clone the repository"):
        ww.load("toy-llava")


def test_organism_is_found_from_inside_a_clone(monkeypatch, tmp_path, folders):
    monkeypatch.setattr(loading, "__file__", str(tmp_path / "site-packages/whatwhere/loading.py"))
    (tmp_path / "data/models").mkdir(parents=True)
    (tmp_path / "notebooks").mkdir()
    shutil.copytree(folders / "llava", tmp_path / "data/models/toy-llava")
    monkeypatch.chdir(tmp_path / "notebooks")
    assert ww.load("toy-llava").name == "toy-llava"


def test_hub_out_of_reach():
    with pytest.raises(FileNotFoundError, match="hub"):
        ww.load("llava-hf/no-such-model-of-ours")


def broken(folders, tmp_path, family="llava"):
    return shutil.copytree(folders / family, tmp_path / "broken")


def test_folder_without_config(tmp_path):
    with pytest.raises(FileNotFoundError, match="no config.json"):
        ww.load(tmp_path)


def test_folder_without_weights(folders, tmp_path):
    folder = broken(folders, tmp_path)
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="no weights"):
        ww.load(folder)
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match="can run code"):
        ww.load(folder)


@pytest.mark.parametrize("keep", [0, 5, 4000])
def test_truncated_weights(folders, tmp_path, keep):
    weights = broken(folders, tmp_path) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(ValueError, match="could not be read.*Fetch or train it again"):
        ww.load(weights.parent)


def test_weights_of_another_shape_or_missing(folders, tmp_path):
    from safetensors.torch import load_file, save_file

    weights = broken(folders, tmp_path) / "model.safetensors"
    tensors = load_file(weights)
    name = next(name for name in tensors if "linear_1.weight" in name)
    save_file({key: value for key, value in tensors.items() if key != name}, weights, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="lack 1 of the model's tensors"):
        ww.load(weights.parent)
    save_file({**tensors, name: tensors[name][:, :-1].clone()}, weights, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="another shape"):
        ww.load(weights.parent)


def edit(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def test_wrong_architecture(folders, tmp_path):
    folder = broken(folders, tmp_path)
    edit(folder, model_type="bert")
    with pytest.raises(ValueError, match="architecture 'bert'; whatwhere knows llava, qwen2_vl, qwen2_5_vl and internvl"):
        ww.load(folder)
    edit(folder, model_type="llava", vision_feature_layer=[-2, -1])
    with pytest.raises(ValueError, match="several ViT layers|another shape"):
        ww.load(folder)


def test_several_feature_layers(tmp_path):
    folder = tmp_path / "two"
    llava(folder, feature_layer=[-2, -1])
    with pytest.raises(ValueError, match="several ViT layers at once"):
        ww.load(folder)


def test_processor_of_another_size(folders, tmp_path):
    folder = broken(folders, tmp_path)
    for file in (path for path in folder.glob("*processor*.json")):
        file.write_text(file.read_text().replace('"height": 24', '"height": 30').replace('"width": 24', '"width": 30'))
    with pytest.raises(ValueError, match="30 × 30 pixels, but the ViT takes 24 × 24"):
        ww.load(folder)


def test_no_chat_template_or_the_old_file(folders, tmp_path):
    folder = broken(folders, tmp_path)
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ValueError, match="no chat template"):
        ww.load(folder)
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    assert ww.load(folder).tokenizer.chat_template == template


def hub_error(kind):
    """One of the hub's own errors, as transformers wraps it."""
    import httpx
    from huggingface_hub import errors

    answer = httpx.Response(403, request=httpx.Request("GET", "https://hub.invalid"))
    wrapped = OSError("transformers says something long about it")
    wrapped.__cause__ = getattr(errors, kind)("from the hub", response=answer)
    return wrapped


@pytest.mark.parametrize(
    "error, sentence",
    [
        (hub_error("GatedRepoError"), "'someone/model' is gated: accept its terms"),
        (hub_error("RepositoryNotFoundError"), "The hub has no 'someone/model'"),
        (hub_error("RevisionNotFoundError"), "no longer has that revision"),
        (OSError(28, "No space left on device"), "The disk is full, so 'someone/model' was not downloaded to its end"),
    ],
)
def test_what_the_hub_refuses(monkeypatch, folders, error, sentence):
    def refuse(*args, **named):
        raise error

    monkeypatch.setattr(checkpoints, "cached_file", refuse)
    with pytest.raises(FileNotFoundError, match=sentence):
        ww.load("someone/model", revision="abc")


def test_a_disk_that_fills_while_the_weights_arrive(monkeypatch, folders):
    def full(*args, **named):
        raise RuntimeError("Data processing error") from OSError(28, "No space left on device")

    monkeypatch.setattr(FAMILIES["llava"].model_class, "from_pretrained", full)
    with pytest.raises(FileNotFoundError, match="The disk is full.*will be gone on with"):
        ww.load(folders / "llava")


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_a_model_that_does_not_fit(monkeypatch, folders, error):
    def full(*args, **named):
        raise error

    monkeypatch.setattr(FAMILIES["llava"].model_class, "from_pretrained", full)
    with pytest.raises(MemoryError, match="does not fit into the memory of cpu: take dtype='float16' or '4-bit'"):
        ww.load(folders / "llava")


def lost(config):
    config["lost_config"] = config.pop("text_config")


def said(note):
    return lambda config: config.update(whatwhere=note)


@pytest.mark.parametrize(
    "change, sentence",
    [
        (lost, "describes 6,.* parameters, and the weights are"),  # the default is a model of seven billion
        (lambda config: config["text_config"].update(num_hidden_layers=10**12), "describes no model"),
        (lambda config: config["vision_config"].update(num_hidden_layers=10**6), "describes no model"),
        (lambda config: config["text_config"].update(rms_norm_eps=float("nan")), "of LM layer [123] are not finite"),
        (lambda config: config.update(model_type=["llava"]), "describes no model"),
        (said({"lens_layer": 9}), "lens_layer is a whole number from 0 to 3 in this model, not 9"),
        (said([3]), "are damaged, or not of one model"),
    ],
)
def test_a_config_that_cannot_be_is_refused_at_once(folders, tmp_path, change, sentence):
    folder = broken(folders, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=sentence):
        ww.load(folder)


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "[" * 100_000, '{"model_type": ' + "9" * 5000 + "}", "\0"])
def test_a_config_that_is_none(folders, tmp_path, text):
    (broken(folders, tmp_path) / "config.json").write_text(text)
    with pytest.raises(ValueError, match="config.json.* (is damaged or cut short|describes no model)"):
        ww.load(tmp_path / "broken")


def test_weights_that_are_no_numbers(folders, tmp_path):
    from safetensors.torch import load_file, save_file

    weights = broken(folders, tmp_path) / "model.safetensors"
    tensors = load_file(weights)
    next(tensor for name, tensor in tensors.items() if "lm_head" in name)[3, 3] = float("nan")
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="no finite number in torch.float32, 'lm_head.weight' for one"):
        ww.load(weights.parent)


def test_a_tokenizer_of_more_words_than_the_weights_have(folders, tmp_path):
    path = broken(folders, tmp_path) / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["model"]["vocab"]["bear"] = 5000
    path.write_text(json.dumps(tokenizer))
    with pytest.raises(ValueError, match="highest id of a word is a whole number from 0 to .* not 5000"):
        ww.load(path.parent)


@pytest.mark.parametrize("family", ["llava", "qwen2vl", "internvl"])
def test_tokens_that_came_after_training_may_have_no_embedding(folders, tmp_path, family):
    """InternVL3's `<video>` is 151674, and its embeddings end at 151673; Vicuna's `<pad>` was often added so."""
    if family == "internvl":
        internvl(tmp_path / "broken")
    folder = tmp_path / "broken" if family == "internvl" else broken(folders, tmp_path, family)
    alike = ww.load(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<clip>"], special_tokens=True)
    tokenizer.add_special_tokens({"pad_token": "<filler>"})
    tokenizer.save_pretrained(folder)
    vlm, grey = ww.load(folder), Image.new("RGB", (24, 24), "grey")
    rows = len(vlm.unembedding.weight)
    assert tokenizer.convert_tokens_to_ids(["<clip>", "<filler>"]) == [rows, rows + 1]
    assert vlm.words.tolist() == alike.words.tolist() and len(vlm.words) == rows
    asked = ["is there a cup ?", "is there a red cup on the bowl ?"]
    assert vlm.answer(grey, asked, max_new_tokens=3) == alike.answer(grey, asked, max_new_tokens=3)
    sentence = f"A prompt holds only .* its tokenizer knows '<clip>' .id {rows}., and its embeddings end at id {rows - 1}"
    for ask in (vlm.answer, vlm.logits, vlm.prepare, lambda _, question: vlm.after_image(question)):
        with pytest.raises(ValueError, match=sentence):
            ask(grey, "is there a <clip> ?")
    with pytest.raises(ValueError, match=sentence):
        ww.answers.Exam(vlm, [grey], ["is there a cup ?"], ["<clip>"])


def test_ids_that_no_token_has_are_shown_by_their_number(folders, tmp_path):
    path = broken(folders, tmp_path) / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    lost = tokenizer["model"]["vocab"].pop("wood")
    path.write_text(json.dumps(tokenizer))
    before, words = ww.load(folders / "llava").words, ww.load(path.parent).words
    assert words[lost] == f"‹{lost}›" and [*words[:lost], *words[lost + 1 :]] == [*before[:lost], *before[lost + 1 :]]


def test_a_chat_template_without_the_image_or_none_at_all(folders, tmp_path):
    folder = broken(folders, tmp_path)
    for template, sentence in (
        ("{{ messages[0].content[1].text }}", "The chat template writes no '<image>'"),
        ("{% for m in messages %}", "writes no question about an image.*TemplateSyntaxError"),
        ("{{ 1 / 0 }}", "writes no question about an image.*ZeroDivisionError"),
        (OF_AN_LM, "writes no question about an image.*TypeError"),
    ):
        (folder / "chat_template.jinja").write_text(template)
        with pytest.raises(ValueError, match=sentence):
            ww.load(folder)


@pytest.mark.parametrize("name", ["~nobody-of-that-name/model", "a" * 5000, "\0"])
def test_names_that_no_folder_can_have(name):
    with pytest.raises(FileNotFoundError, match="is not a model's name"):
        ww.load(name)
