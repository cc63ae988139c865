"""Every way a load can fail, and the sentence it fails with."""

import codecs
import json
import shutil
import traceback
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from accelerate import dispatch_model
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

import whatwhere as ww
from test_templates import OF_AN_LM
from whatwhere import checkpoints, families, files, hub, loading
from whatwhere.book.rehearsal.checkpoints import internvl, llava
from whatwhere.families.llava import Llava


def test_unknown_name():
    with pytest.raises(FileNotFoundError, match="did you mean 'toy-llava'.*hub id"):
        ww.load("toy-lava")


def test_organism_without_the_repository(monkeypatch, tmp_path):
    monkeypatch.setattr(loading, "__file__", str(tmp_path / "site-packages/whatwhere/loading.py"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="work inside a clone"):
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
    weights = broken(folders, tmp_path) / "model.safetensors"
    tensors = load_file(weights)
    name = next(name for name in tensors if "linear_1.weight" in name)
    save_file(
        {key: value for key, value in tensors.items() if key != name},
        weights,
        metadata={"format": "pt"},
    )
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
    with pytest.raises(
        ValueError,
        match=r"architecture 'bert'; whatwhere knows llava, qwen2_vl, .*, \w+ and \w+\.",
    ):
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
        file.write_text(
            file.read_text()
            .replace('"height": 24', '"height": 30')
            .replace('"width": 24', '"width": 30')
        )
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
        (
            OSError(28, "No space left on device"),
            "The disk is full, so 'someone/model' was not downloaded to its end",
        ),
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

    monkeypatch.setattr(families.adapter_class("llava").model_class, "from_pretrained", full)
    with pytest.raises(FileNotFoundError, match="The disk is full.*will be gone on with"):
        ww.load(folders / "llava")


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_a_model_that_does_not_fit(monkeypatch, folders, error):
    def full(*args, **named):
        raise error

    monkeypatch.setattr(families.adapter_class("llava").model_class, "from_pretrained", full)
    with pytest.raises(
        MemoryError, match="does not fit into the memory of cpu: take dtype='float16' or '4-bit'"
    ):
        ww.load(folders / "llava")


def lost(config):
    config["lost_config"] = config.pop("text_config")


def said(note):
    return lambda config: config.update(whatwhere=note)


@pytest.mark.parametrize(
    "change, sentence",
    [
        # the default is a model of seven billion
        (lost, "describes 6,.* parameters, and the weights are"),
        (
            lambda config: config["text_config"].update(num_hidden_layers=10**12),
            "describes no model",
        ),
        (
            lambda config: config["vision_config"].update(num_hidden_layers=10**6),
            "describes no model",
        ),
        (
            lambda config: config["text_config"].update(rms_norm_eps=float("nan")),
            "of LM layer [123] are not finite",
        ),
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


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{", "[" * 100_000, '{"model_type": ' + "9" * 5000 + "}", "\0"]
)
def test_a_config_that_is_none(folders, tmp_path, text):
    (broken(folders, tmp_path) / "config.json").write_text(text)
    with pytest.raises(
        ValueError, match="config.json.* (is damaged or cut short|describes no model)"
    ):
        ww.load(tmp_path / "broken")


def test_weights_that_are_no_numbers(folders, tmp_path):
    weights = broken(folders, tmp_path) / "model.safetensors"
    tensors = load_file(weights)
    next(tensor for name, tensor in tensors.items() if "lm_head" in name)[3, 3] = float("nan")
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(
        ValueError, match="no finite number in torch.float32, 'lm_head.weight' for one"
    ):
        ww.load(weights.parent)


def test_a_tokenizer_of_more_words_than_the_weights_have(folders, tmp_path):
    path = broken(folders, tmp_path) / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["model"]["vocab"]["bear"] = 5000
    path.write_text(json.dumps(tokenizer))
    with pytest.raises(
        ValueError, match="highest id of a word is a whole number from 0 to .* not 5000"
    ):
        ww.load(path.parent)


@pytest.mark.parametrize("family", ["llava", "qwen2vl", "internvl"])
def test_tokens_that_came_after_training_may_have_no_embedding(folders, tmp_path, family):
    """InternVL3's `<video>` is 151674, and its embeddings end at 151673; Vicuna's `<pad>` was often
    added so."""
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
    sentence = (
        f"A prompt holds only .* its tokenizer knows '<clip>' .id {rows}., and its "
        f"embeddings end at id {rows - 1}"
    )
    for ask in (vlm.answer, vlm.logits, vlm.prepare, lambda _, question: vlm.after_image(question)):
        with pytest.raises(ValueError, match=sentence):
            ask(grey, "is there a <clip> ?")
    with pytest.raises(ValueError, match=sentence):
        ww.answers.Exam(vlm, [grey], ["is there a cup ?"], ["<clip>"])


def test_a_word_does_not_pass_for_the_images_own_token(folders, tmp_path):
    """As where the tokenizer is another model's, and has the image's id for "is", which stands in a
    first question."""
    path = broken(folders, tmp_path) / "tokenizer.json"
    tokenizer, image = (
        json.loads(path.read_text()),
        ww.load(folders / "llava").model.config.image_token_id,
    )
    vocabulary, added = tokenizer["model"]["vocab"], tokenizer["added_tokens"]
    vocabulary["<image>"], vocabulary["is"] = vocabulary["is"], image
    next(each for each in added if each["content"] == "<image>")["id"] = vocabulary["<image>"]
    path.write_text(json.dumps(tokenizer))
    with pytest.raises(ValueError, match="tokenizer and chat template fail on a first question"):
        ww.load(path.parent)


def test_ids_that_no_token_has_are_shown_by_their_number(folders, tmp_path):
    path = broken(folders, tmp_path) / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    lost = tokenizer["model"]["vocab"].pop("wood")
    path.write_text(json.dumps(tokenizer))
    before, words = ww.load(folders / "llava").words, ww.load(path.parent).words
    assert words[lost] == f"‹{lost}›" and [*words[:lost], *words[lost + 1 :]] == [
        *before[:lost],
        *before[lost + 1 :],
    ]


def test_a_chat_template_without_the_image_or_none_at_all(folders, tmp_path):
    folder = broken(folders, tmp_path)
    for template, sentence in (
        (
            "{{ messages[0].content[1].text }}",
            "The chat template writes no '<image>', the visual token by the model's config",
        ),
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


# -- what else a folder may be
# ------------------------------------------------------------------------------------------


def files_of(folder, monkeypatch):
    """The hub, which holds one folder under every name."""

    def cached(source, file, **_):
        path = (Path(source) if Path(source).is_dir() else folder) / file
        return str(path) if path.is_file() else None

    for module in (checkpoints, hub):
        monkeypatch.setattr(module, "cached_file", cached)


@pytest.mark.parametrize("at", ["folder", "hub"])
def test_a_lora_is_no_model_and_none_is_left_beside_one(folders, tmp_path, monkeypatch, at):
    """With peft, transformers puts the base under an adapter, or the adapter on a model that was
    merged; without it, neither."""
    base, alone = broken(folders, tmp_path), tmp_path / "alone"
    alone.mkdir()
    for folder in (base, alone):
        (folder / "adapter_config.json").write_text(
            json.dumps({"base_model_name_or_path": "llava-hf/llava-1.5-7b-hf"})
        )
        shutil.copy(folders / "llava" / "model.safetensors", folder / "adapter_model.safetensors")
    for folder, sentence in (
        (
            alone,
            "holds a LoRA adapter of 'llava-hf/llava-1.5-7b-hf', not a whole model. Merge the "
            "two with peft",
        ),
        (
            base,
            "a whole model and a LoRA adapter .*If it was merged, move the adapter's files "
            "elsewhere; if not, merge it",
        ),
    ):
        name = folder if at == "folder" else "someone/model"
        files_of(folder, monkeypatch)
        with pytest.raises(ValueError, match=sentence):
            ww.load(name)


def test_weights_with_a_lora_that_is_not_merged(folders, tmp_path):
    weights = broken(folders, tmp_path) / "model.safetensors"
    tensors = load_file(weights)
    key = next(key for key in tensors if "q_proj.weight" in key)
    tensors[key.replace("q_proj", "q_proj.base_layer")] = tensors.pop(key)
    tensors[key.replace("q_proj", "q_proj.lora_A.default")] = torch.ones(2, 32)
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="a LoRA that is not merged: merge it with peft"):
        ww.load(weights.parent)


@pytest.mark.parametrize(
    "method, package",
    [
        ("gptq", "optimum"),
        ("awq", "gptqmodel"),
        ("bitsandbytes", "bitsandbytes"),
        ("compressed-tensors", "compressed-tensors"),
    ],
)
def test_a_quantised_checkpoint_without_its_package(folders, tmp_path, method, package):
    if find_spec(package.replace("-", "_")):
        pytest.skip(f"{package} is installed")
    folder = broken(folders, tmp_path)
    four = {"load_in_4bit": True} if method == "bitsandbytes" else {}
    edit(folder, quantization_config={"quant_method": method, "bits": 4, "group_size": 64} | four)
    with pytest.raises(
        ValueError, match=f"needs something that is not installed here.*{package}"
    ) as caught:
        ww.load(folder)
    assert isinstance(caught.value.__cause__, ImportError) and "damaged" not in str(caught.value)
    with pytest.raises(
        ValueError, match=f"is quantised already, by {method}: leave dtype='4-bit' out"
    ):
        ww.load(folder, dtype="4-bit")


@pytest.mark.parametrize(
    "said", [{"quantization_config": {"quant_method": "novel"}}, {"quantization": {"bits": 4}}]
)
def test_a_quantised_checkpoint_of_a_method_that_transformers_does_not_know(
    folders, tmp_path, said
):
    """MLX, for one, packs eight numbers into one and names the rest `scales` and `biases`."""
    weights = broken(folders, tmp_path) / "model.safetensors"
    tensors = load_file(weights)
    key = next(key for key in tensors if "q_proj.weight" in key)
    for changed in (
        {key: tensors[key][:, :4].clone()},
        {key.replace("weight", "qweight"): tensors[key]},
    ):
        save_file(
            {k: v for k, v in tensors.items() if k != key} | changed,
            weights,
            metadata={"format": "pt"},
        )
        edit(weights.parent, **said)
        with pytest.raises(
            ValueError, match="is quantised by (novel|MLX).*take one that is not quantised"
        ):
            ww.load(weights.parent)


@pytest.mark.parametrize(
    "lacking", [["bitsandbytes"], ["accelerate"], ["bitsandbytes", "accelerate"]]
)
def test_four_bits_name_the_packages_that_they_need(folders, monkeypatch, lacking):
    monkeypatch.setattr(
        loading, "find_spec", lambda package: None if package in lacking else package
    )
    with pytest.raises(
        ValueError, match=f"needs {' and '.join(lacking)}: `pip install {' '.join(lacking)}`"
    ):
        ww.load(folders / "llava", dtype="4-bit")


def test_a_folder_of_a_training_run_without_tokenizer_and_image_processor(folders, tmp_path):
    folder = broken(folders, tmp_path)
    processor = (folder / "preprocessor_config.json").read_text()
    for name in (
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "preprocessor_config.json",
    ):
        (folder / name).unlink()
    whole = (
        r"lacks its tokenizer \(tokenizer.json\) and its image processor "
        r"\(preprocessor_config.json\): .* Copy them from"
    )
    with pytest.raises(FileNotFoundError, match=whole):
        ww.load(folder)
    (folder / "processor_config.json").write_text(
        json.dumps({"image_processor": json.loads(processor)})
    )
    with pytest.raises(FileNotFoundError, match=r"lacks its tokenizer \(tokenizer.json\): "):
        ww.load(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(folders / "llava" / name, folder)
    assert (
        ww.load(folder).image_processor.to_dict()
        == ww.load(folders / "llava").image_processor.to_dict()
    )


def test_a_pointer_in_place_of_a_file(folders, tmp_path):
    for name in ("model.safetensors", "tokenizer.json"):
        path = broken(folders, tmp_path / name) / name
        path.write_text(
            "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 14190044\n"
        )
        with pytest.raises(
            ValueError,
            match=f"{name}' is a pointer of Git LFS, not the file itself: run `git lfs pull`",
        ):
            ww.load(path.parent)


@pytest.mark.parametrize(
    "name, said, sentence",
    [
        (
            "OpenGVLab/InternVL3-2B",
            {"model_type": "internvl_chat"},
            "'OpenGVLab/InternVL3-2B-hf' is the same",
        ),
        (
            "OpenGVLab/InternVL3-8B-Instruct",
            {"model_type": "internvl_chat"},
            "'OpenGVLab/InternVL3-8B-hf' is the same",
        ),
        (
            "OpenGVLab/InternVL3_5-4B",
            {"model_type": "internvl_chat"},
            "'OpenGVLab/InternVL3_5-4B-HF' is the same",
        ),
        (
            "OpenGVLab/InternVL2-1B",
            {"model_type": "internvl_chat"},
            "'OpenGVLab/InternVL3-2B-hf' is one in the form",
        ),
        (
            "liuhaotian/llava-v1.5-7b",
            {"model_type": "llava", "mm_vision_tower": "openai/clip"},
            "'llava-hf/llava-1.5-7b-hf' is",
        ),
        (
            "liuhaotian/llava-v1.5-13b",
            {"model_type": "llava_llama", "mm_vision_tower": "x"},
            "'llava-hf/llava-1.5-13b-hf' is",
        ),
        (
            "llava-hf/llava-v1.6-vicuna-7b-hf",
            {"model_type": "llava_next"},
            "tiles: take 'llava-hf/llava-1.5-7b-hf'",
        ),
        (
            "Qwen/Qwen2-7B-Instruct",
            {"model_type": "qwen2"},
            "a language model, which sees nothing: take 'Qwen/Qwen2-VL",
        ),
        (
            "Qwen/Qwen3-VL-30B-A3B-Instruct",
            {"model_type": "qwen3_vl_moe"},
            "take 'Qwen/Qwen3-VL-2B-Instruct'",
        ),
        (
            "openai/clip-vit-large-patch14",
            {"model_type": "clip"},
            "a vision encoder, which says nothing: take",
        ),
        ("someone/novel", {"model_type": "novel"}, "Another can be added"),
    ],
)
def test_a_checkpoint_that_is_nearly_the_right_one(tmp_path, monkeypatch, name, said, sentence):
    files_of(tmp_path, monkeypatch)
    (tmp_path / "config.json").write_text(json.dumps(said))
    with pytest.raises(
        ValueError, match=f"{name}' is of the architecture '{said['model_type']}'; .*{sentence}"
    ):
        ww.load(name)


# -- precision, devices, marks
# ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config, own",
    [
        ({"torch_dtype": "bfloat16", "text_config": {"dtype": "float16"}}, torch.bfloat16),
        (
            {
                "vision_config": {"torch_dtype": "float32"},
                "text_config": {"torch_dtype": "bfloat16"},
            },
            torch.bfloat16,
        ),
        ({"torch_dtype": None, "text_config": {"dtype": "float16"}}, torch.float16),
        ({"dtype": "auto", "llm_config": {"torch_dtype": "torch.bfloat16"}}, torch.bfloat16),
        ({"text_config": {}}, "auto"),
    ],
)
def test_the_precision_is_the_checkpoints_own_wherever_it_is_named(monkeypatch, config, own):
    monkeypatch.setattr(loading, "_has_bfloat16", lambda device: True)
    assert loading._dtype("auto", torch.device("cuda"), config) == own
    assert loading._dtype("auto", torch.device("cpu"), config) == torch.float32
    monkeypatch.setattr(loading, "_has_bfloat16", lambda device: False)
    assert loading._dtype("auto", torch.device("cuda"), config) == (
        torch.float16 if own == torch.bfloat16 else own
    )


@pytest.mark.parametrize("has, due", [(True, torch.bfloat16), (False, torch.float16)])
def test_a_precision_that_nothing_names_is_that_of_the_weights(tmp_path, monkeypatch, has, due):
    llava(tmp_path, dtype=torch.bfloat16)
    config = json.loads((tmp_path / "config.json").read_text())
    for part in checkpoints.parts(config):
        part.pop("dtype", None)
    (tmp_path / "config.json").write_text(json.dumps(config))
    own = loading._dtype
    monkeypatch.setattr(
        loading, "_dtype", lambda dtype, device, config: own(dtype, torch.device("cuda"), config)
    )
    monkeypatch.setattr(loading, "_has_bfloat16", lambda device: has)
    assert {each.dtype for each in ww.load(tmp_path).model.parameters()} == {due}


@pytest.mark.parametrize("device", ["cuda:9", "mps", "meta"])
def test_a_device_that_is_not_there(folders, device):
    with pytest.raises(
        ValueError, match=f"The device '{device}' cannot be used here: take device='auto' or 'cpu'"
    ):
        ww.load(folders / "llava", device=device)


def test_an_attention_that_is_not_there(folders, tmp_path):
    folder = broken(folders, tmp_path)
    edit(folder, _attn_implementation="novel")
    with pytest.raises(
        ValueError, match="names an attention that transformers lacks: take that line out"
    ):
        ww.load(folder)


@pytest.mark.parametrize("family", ["llava", "qwen2vl"])
def test_marks_that_an_editor_has_put_before_the_text_of_a_file_are_read_over(
    folders, tmp_path, family
):
    folder, grey = broken(folders, tmp_path, family), Image.new("RGB", (24, 24), "grey")
    whole = ww.load(folder)
    for path in [*folder.glob("*.json"), *folder.glob("*.jinja")]:
        path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())
    vlm = ww.load(folder)
    assert vlm.model.generation_config.to_dict() == whole.model.generation_config.to_dict()
    assert torch.equal(vlm.logits(grey, "is there a cup ?"), whole.logits(grey, "is there a cup ?"))
    (folder / "generation_config.json").unlink()
    assert ww.load(folder).answer(grey, "is there a cup ?", max_new_tokens=1)


def test_settings_of_generation_that_are_damaged_are_not_passed_over(folders, tmp_path):
    """transformers would generate by others, without a word: where the answer ends, for one."""
    folder = broken(folders, tmp_path)
    for text, sentence in (
        ('{"eos_token_id": ', "generation_config.json' is damaged or cut short"),
        ("[3]", "is damaged"),
    ):
        (folder / "generation_config.json").write_text(text)
        with pytest.raises(ValueError, match=sentence):
            ww.load(folder)


# it wants modules, and there are parameters beside them
@pytest.mark.filterwarnings("ignore:The following device_map keys")
@pytest.mark.parametrize("away", ["lm_head", "model.language_model.layers.1", "model.vision_tower"])
def test_a_model_that_is_in_part_on_the_disk(folders, tmp_path, away):
    vlm = ww.load(folders / "llava")
    within = {away: "disk"} | {
        name: "cpu" for name in vlm.model.state_dict() if not name.startswith(away + ".")
    }
    model = dispatch_model(
        vlm.model, within, main_device="cpu", offload_dir=tmp_path, force_hooks=True
    )
    with pytest.raises(
        ValueError, match=f"'{away}.*' of 'model' is offloaded, .*: load it without device_map"
    ):
        ww.models.VLM(model, vlm.tokenizer, vlm.image_processor)


def test_an_unembedding_that_holds_no_plain_numbers(folders):
    vlm = ww.load(folders / "llava")
    vlm.model.lm_head.weight = torch.nn.Parameter(
        vlm.unembedding.weight.data.to(torch.uint8), requires_grad=False
    )
    with pytest.raises(ValueError, match="The unembedding of 'model' .lm_head. is quantised"):
        ww.models.VLM(vlm.model, vlm.tokenizer, vlm.image_processor)


# -- adapters that are mistaken
# -----------------------------------------------------------------------------------------


class Misspelt(Llava):
    def grids(self, pixels):
        return [(self.sides, self.sides) for _ in pixels["pixel_values"]]


class Crooked(Llava):
    def connect(self, hidden, pixels):
        return list(self.connector(hidden[:, 1:].flatten(1)))


class Short(Llava):
    def grids(self, pixels):
        return [(self.side, self.side - 1)] * len(pixels["pixel_values"])


@pytest.mark.parametrize(
    "adapter, sentence",
    [
        (
            Misspelt,
            "Misspelt failed in its `grids` on '.*AttributeError: 'Misspelt' object has no "
            "attribute 'sides'",
        ),
        (Crooked, "Crooked failed in its `connect` on '.*RuntimeError"),
    ],
)
def test_a_mistake_in_an_adapter_is_named_as_such(folders, registered, adapter, sentence):
    families.register("llava", adapter, replace=True)
    with pytest.raises(ValueError, match=f"The adapter test_loading.{sentence}") as caught:
        ww.load(folders / "llava")
    assert "damaged" not in str(caught.value)
    assert caught.value.__cause__.__traceback__ is not None and not isinstance(
        caught.value.__cause__, ValueError
    )


def test_a_mistake_in_one_of_our_own_adapters_is_named_too(folders, monkeypatch):
    monkeypatch.setattr(Llava, "grids", Misspelt.grids)
    with pytest.raises(
        ValueError, match="The adapter whatwhere.families.llava.Llava failed in its `grids` on"
    ):
        ww.load(folders / "llava")


def test_an_adapter_that_is_wrong_elsewhere_is_suspected(folders, registered):
    families.register("llava", Short, replace=True)
    with pytest.raises(
        ValueError, match="or the adapter Short is mistaken: the model fails on a first question"
    ):
        ww.load(folders / "llava")


# -- where an error comes from
# ------------------------------------------------------------------------------------------


def test_the_error_that_a_sentence_comes_from_is_chained_to_it(folders, tmp_path):
    for name, kind in (
        ("model.safetensors", SafetensorError),
        ("tokenizer.json", Exception),
        ("config.json", ValueError),
    ):
        path = broken(folders, tmp_path / name) / name
        path.write_bytes(path.read_bytes()[:100])
        with pytest.raises(ValueError) as caught:
            ww.load(path.parent)
        assert isinstance(caught.value.__cause__, kind)


def test_what_is_chained_is_short_and_holds_no_secret():
    signed = "403 for url 'https://cdn.invalid/model?X-Amz-Signature=0123abcd&Expires=9'"
    for text, gone in (
        (signed, "0123abcd"),
        ("token hf_abcdefghijklmnop is not valid", "hf_abc"),
        ("x" * 10**6, "x" * 9999),
    ):
        for error in (OSError(text), hub_error("GatedRepoError")):
            error.__cause__ = OSError(text)
            chained = files.cause(error)
            said = "".join(traceback.format_exception(chained))
            assert gone not in said and len(said) < 5000 and type(error).__name__ in said
            assert (
                gone not in files.first_line(OSError(text))
                and len(files.first_line(OSError(text))) < 400
            )
    plain = OSError("no such file")
    assert files.cause(plain) is plain
