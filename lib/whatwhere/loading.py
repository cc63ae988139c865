"""Finding a checkpoint and opening it: every way it can fail, in a sentence."""

import json
import re
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import AutoTokenizer, BitsAndBytesConfig, PreTrainedConfig
from transformers.utils import cached_file, logging

from . import hub
from .families import FAMILIES

ORGANISMS, FOUR_BIT = ("toy-llava", "toy-qwen2vl"), "4-bit"


def load_parts(name, device="auto", dtype="auto", revision=None):
    """(model, tokenizer, image_processor) of an organism, a folder or a hub id; see `models.load`."""
    source = find(name)
    if revision is not None and Path(source).is_dir():
        raise ValueError(f"'{name}' is a folder on this machine, and only the hub's models have revisions.")
    try:
        config, _ = PreTrainedConfig.get_config_dict(source, revision=revision)
    except (OSError, ValueError) as error:
        raise FileNotFoundError(f"'{name}' is not a folder on this machine, nor to be had. {hub.reason(error, name)}") from None
    family = FAMILIES.get(config.get("model_type"))
    if family is None:
        *known, last = FAMILIES
        raise ValueError(
            f"'{name}' is of the architecture '{config.get('model_type')}'; whatwhere knows {', '.join(known)} and {last}. "
            "Another can be added, from outside the package: see 'Adding a family of models' (book/new_adapter.md)."
        )
    device = _device(device)
    model = _model(family.model_class, source, name, device, _dtype(dtype, device, config), revision)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision)
        image_processor = family.image_processor_class.from_pretrained(source, revision=revision)
    except (OSError, ValueError) as error:
        raise FileNotFoundError(f"'{name}' lacks its tokenizer or image processor. {hub.reason(error, name)}") from None
    if tokenizer.chat_template is None:
        tokenizer.chat_template = _old_chat_template(source, name, revision)
    return model.eval().requires_grad_(False), tokenizer, image_processor


def find(name):
    """The folder of an organism or a path, as a string; a hub id is returned as it is."""
    name = str(name)
    if name in ORGANISMS:
        # from a clone, wherever the package was installed to: the notebooks run inside the clone
        roots = [Path(__file__).parents[2], Path.cwd(), *Path.cwd().parents]
        folder = next((root / "data/models" / name for root in roots if (root / "data/models" / name).is_dir()), None)
        if folder is None:
            raise FileNotFoundError(
                f"The organism '{name}' lives in the book's repository, in data/models/. Clone the "
                "repository and work inside it, or make it with `make train`."
            )
        return str(_complete(folder))
    folder = Path(name).expanduser()
    if folder.is_dir():
        return str(_complete(folder))
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and name[0] not in "./":
        return name
    close = get_close_matches(name, ORGANISMS, 1)
    raise FileNotFoundError(
        f"'{name}' is not a model's name{f' (did you mean {close[0]!r}?)' if close else ''}: give "
        f"{' or '.join(ORGANISMS)}, a checkpoint folder, or a hub id such as "
        "'llava-hf/llava-1.5-7b-hf'."
    )


def _complete(folder):
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"The folder '{folder}' holds no config.json, so it is not a checkpoint.")
    if not any(folder.glob("*.safetensors")):
        raise FileNotFoundError(
            f"The folder '{folder}' holds no weights: a model.safetensors is missing. (Pickled "
            "weights, *.bin, can run code and are not read.)"
        )
    return folder


def _model(model_class, source, name, device, dtype, revision):
    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # what its warnings say, the sentences below say
    if Path(source).is_dir():  # fast: a progress bar would only litter the page
        logging.disable_progress_bar()
    how = _four_bit(device) if dtype == FOUR_BIT else {"dtype": dtype}
    try:
        model, report = model_class.from_pretrained(
            source, **how, revision=revision, use_safetensors=True, output_loading_info=True
        )
        if dtype != FOUR_BIT:
            model = model.to(device)
    except Exception as error:  # safetensors, torch and transformers each raise their own for a broken file
        if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
            raise MemoryError(
                f"'{name}' does not fit into the memory of {device}: take dtype='float16' or '4-bit', or a smaller model."
            ) from None
        if isinstance(error, OSError) or hub.refusal(error, name):
            raise FileNotFoundError(f"'{name}' has no safetensors that could be had. {hub.reason(error, name)}") from None
        raise ValueError(
            f"The weights of '{name}' could not be read: the file is cut short, damaged, or of another "
            f"shape than config.json says. Fetch or train it again. ({hub.reason(error, name)})"
        ) from None
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()
    missing = sorted(report["missing_keys"])
    if missing:  # transformers would go on with random numbers in their place
        raise ValueError(
            f"The weights of '{name}' lack {len(missing)} of the model's tensors, '{missing[0]}' for one; "
            "the file does not belong to this config.json."
        )
    return model


def _four_bit(device):
    """What loads a model's matrices as NF4, the unembedding excepted: a quarter of the memory of half precision."""
    if find_spec("bitsandbytes") is None:
        raise ValueError("dtype='4-bit' needs bitsandbytes: `pip install bitsandbytes`, or take 'float16' or 'bfloat16'.")
    half = torch.bfloat16 if _has_bfloat16(device) else torch.float16
    settings = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=half)
    return {"quantization_config": settings, "dtype": half, "device_map": {"": device}}


def _device(device):
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        return torch.device(device)
    except (RuntimeError, TypeError):
        raise ValueError(f"The device is 'auto', 'cpu', 'cuda' or another torch device, not {device!r}.") from None


def _dtype(dtype, device, config):
    if dtype == "auto":
        own = config.get("dtype") or config.get("torch_dtype") or "float32"
        if device.type == "cpu":  # half precision is many times slower there
            return torch.float32
        own = getattr(torch, str(own).removeprefix("torch."))
        return torch.float16 if own == torch.bfloat16 and not _has_bfloat16(device) else own
    if dtype == FOUR_BIT:
        return FOUR_BIT
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ValueError(f"The dtype is 'auto', 'float32', 'bfloat16', 'float16' or '4-bit', not {dtype!r}.")
    return found


def _has_bfloat16(device):
    """A T4, for one, computes in it only by detours."""
    return device.type == "cpu" or device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def _old_chat_template(source, name, revision=None):
    """Hub checkpoints of 2024 keep the template beside the processor, where the tokenizer does not look."""
    path = cached_file(source, "chat_template.json", revision=revision, _raise_exceptions_for_missing_entries=False)
    if path is None:
        raise ValueError(f"'{name}' has no chat template, so it is not known how it is to be asked.")
    return json.loads(Path(path).read_text())["chat_template"]
