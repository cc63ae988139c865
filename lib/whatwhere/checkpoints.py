"""What a checkpoint is, told from its small files before anything large is opened."""

import codecs
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from transformers.utils import cached_file

from . import families, hub
from .files import cause, read_json

DEEPEST = (
    1000  # layers; a config that asks for more is damaged, and making them would fill the memory
)
WEIGHTS = "model.safetensors", "model.safetensors.index.json"
TOKENIZERS = "tokenizer.json", "tokenizer.model", "vocab.json"
POINTER = b"version https://git-lfs.github.com/"
SEEING = "'Qwen/Qwen2-VL-2B-Instruct' or 'llava-hf/llava-1.5-7b-hf'"
LMS = "llama vicuna mistral qwen2 qwen2_moe qwen3 gemma2 phi3 internlm2".split()
VITS = "clip clip_vision_model siglip siglip_vision_model intern_vit_6b".split()

# {model_type: (what such a checkpoint is, which to take instead)}, of those that one may well type
INSTEAD = {
    "llava_next": ("LLaVA-1.6, which cuts pictures into tiles", "'llava-hf/llava-1.5-7b-hf'"),
    "llava_onevision": ("LLaVA-OneVision, which cuts them too", "'llava-hf/llava-1.5-7b-hf'"),
    "qwen": ("the first Qwen-VL, or a language model", "'Qwen/Qwen2-VL-2B-Instruct'"),
    "qwen3_vl_moe": ("Qwen3-VL with experts", "'Qwen/Qwen3-VL-2B-Instruct'"),
    **dict.fromkeys(LMS, ("a language model, which sees nothing", SEEING)),
    **dict.fromkeys(VITS, ("a vision encoder, which says nothing", SEEING)),
}


def check_folder(folder: Path) -> None:
    """Refuse a folder that is no whole checkpoint, in a sentence that says what it is."""
    whole = any((folder / name).is_file() for name in WEIGHTS)
    if (folder / "adapter_config.json").is_file():
        raise ValueError(_adapter(folder, folder / "adapter_config.json", whole))
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"The folder '{folder}' holds no config.json, so it is not a checkpoint."
        )
    if not whole:
        raise FileNotFoundError(
            f"The folder '{folder}' holds no weights: a model.safetensors is missing, or an index "
            f"of several, {WEIGHTS[1]}. (Pickled weights, *.bin, can run code and are not read.)"
        )
    for path in sorted(folder.iterdir()):
        if path.is_file() and _begins(path, POINTER):
            raise ValueError(
                f"'{path}' is a pointer of Git LFS, not the file itself: run `git lfs pull` in "
                f"'{folder}'."
            )


def _begins(path, mark):
    try:
        with path.open("rb") as file:
            return file.read(len(mark)) == mark
    except OSError:  # what needs the file will say so
        return False


def _adapter(name, path, whole):
    """What to do with a LoRA: transformers applies it where peft is installed, else ignores it."""
    about = read_json(path)
    base = about.get("base_model_name_or_path") if isinstance(about, dict) else None
    of = f" of '{base}'" if isinstance(base, str) and 0 < len(base) < 200 else ""
    if whole:
        return (
            f"'{name}' holds a whole model and a LoRA adapter{of} (adapter_config.json), and "
            "nothing says whether the model has it already. If it was merged, move the adapter's "
            "files elsewhere; if not, merge it with peft's `merge_and_unload()`."
        )
    return (
        f"'{name}' holds a LoRA adapter{of}, not a whole model. Merge the two with peft, "
        "`PeftModel.from_pretrained(base, adapter).merge_and_unload().save_pretrained(folder)`, "
        "and load that folder."
    )


def read_config(source: str, name: str, revision: str | None = None) -> dict:
    """What its config.json says, as a dictionary; refused where it names code, or is a LoRA's."""
    if Path(source).is_dir():
        path = Path(source) / "config.json"
    else:
        try:
            path = cached_file(source, "config.json", revision=revision)
        except (OSError, ValueError) as error:
            why = hub.reason(error, name)
            raise FileNotFoundError(
                f"'{name}' is not a folder on this machine, nor to be had. {why}"
            ) from cause(error)
        adapter = hub.part_of(source, name, "adapter_config.json", revision)
        if adapter:
            raise ValueError(_adapter(name, adapter, whole=path is not None))
        if path is None:
            raise FileNotFoundError(
                f"'{name}' holds no config.json, so it is not a checkpoint that whatwhere can open."
            )
    config = read_json(path)
    sound = isinstance(config, dict) and isinstance(config.get("model_type"), str)
    within = parts(config) if sound else []
    layers = [part.get(key, 0) for part in within for key in ("num_hidden_layers", "depth")]
    if not sound or any(type(n) is int and n > DEEPEST for n in layers):
        raise ValueError(
            f"The config.json of '{name}' describes no model: it is damaged, or of something else."
        )
    code = [
        value
        for part in within
        for key, value in part.items()
        if key.endswith("attn_implementation") and "/" in str(value)
    ]
    if code:
        raise ValueError(
            f"The config.json of '{name}' names code to be fetched and run, {code[0]!r}: take that "
            "line out."
        )
    return config


def parts(config: dict) -> list[dict]:
    """A config and those within it, the LM's first: the model's precision may stand there alone."""
    within = [value for value in config.values() if isinstance(value, dict)]
    return [config, *sorted(within, key=lambda part: part is not config.get("text_config"))]


def family_of(config: dict, name: str) -> type[families.Adapter]:
    """The adapter's class for a config's architecture.

    Raises:
        ValueError: with what to take else.
    """
    kind, original = config["model_type"], _original(config, name)
    *others, last = families.names()
    if kind in (*others, last) and not original:
        return families.adapter_class(kind)
    hint = "Another can be added: see 'Adding a family of models' (book/new_adapter.md)."
    if kind in INSTEAD:
        hint = "That is {}: take {}.".format(*INSTEAD[kind])
    raise ValueError(
        f"'{name}' is of the architecture '{kind}'; whatwhere knows {', '.join(others)} and "
        f"{last}. {original or hint}"
    )


def _original(config, name):
    """What to take in place of a model in its makers' form, which only their own code reads."""
    if config["model_type"] == "internvl_chat":
        match = re.match(r"(OpenGVLab/InternVL3(_5)?-\d+B)\b", name)
        again = "'OpenGVLab/InternVL3-2B-hf' is one"
        if match:
            again = f"'{match[1]}-{'HF' if match[2] else 'hf'}' is the same"
        return f"That is OpenGVLab's own form of it: {again} in the form of transformers."
    if "mm_vision_tower" in config:
        size = "13b" if "13b" in name.lower() else "7b"
        again = f"'llava-hf/llava-1.5-{size}-hf' is one"
        return f"That is LLaVA's own form of it: {again} in the form of transformers."
    return None


def quantisation(config: dict) -> str | None:
    """By which method a checkpoint's weights are kept in few bits; None where they are not."""
    for part in parts(config):
        settings = part.get("quantization_config")
        if isinstance(settings, dict) and settings:
            return str(
                settings.get("quant_method")
                or ("bitsandbytes" if "load_in_4bit" in settings else "a method without a name")
            )
        if isinstance(part.get("quantization"), dict):
            return "MLX, for Apple's processors"
    return None


def check_readers(source: str, name: str, revision: str | None = None) -> None:
    """Refuse a checkpoint without tokenizer or image processor: a training run may save neither."""

    def lacks(*files):
        return not any(hub.part_of(source, name, file, revision) for file in files)

    missing = ["its tokenizer (tokenizer.json)"] if lacks(*TOKENIZERS) else []
    if lacks("preprocessor_config.json"):
        path = hub.part_of(source, name, "processor_config.json", revision)
        whole = read_json(path) if path else None
        if not isinstance(whole, dict) or "image_processor" not in whole:  # as transformers 5 saves
            missing.append("its image processor (preprocessor_config.json)")
    if missing:
        raise FileNotFoundError(
            f"'{name}' lacks {' and '.join(missing)}: a training run may save the weights alone. "
            "Copy them from the model that was trained: all its files but weights and config.json."
        )


@contextmanager
def unmarked(source: str) -> Iterator[str]:
    """The source; or, where an editor has begun a text with a mark (BOM), a copy of texts without.

    transformers reads no JSON that begins so. Weights are not copied.
    """
    kinds = (".json", ".jinja", ".txt", ".model")
    texts = [path for path in Path(source).glob("*") if path.suffix in kinds and path.is_file()]
    if not any(_begins(path, codecs.BOM_UTF8) for path in texts):
        yield source
        return
    with TemporaryDirectory() as folder:
        for path in texts:
            (Path(folder) / path.name).write_bytes(path.read_bytes().removeprefix(codecs.BOM_UTF8))
        yield folder
