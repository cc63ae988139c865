"""Finding a checkpoint and opening it: every way it can fail, in a sentence."""

import math
import re
import warnings
from contextlib import contextmanager
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path

import torch
from PIL import Image
from safetensors import safe_open
from transformers import AutoTokenizer, BitsAndBytesConfig, PreTrainedConfig
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, cached_file, logging

from . import hub
from .families import FAMILIES
from .files import first_line, read_json
from .finite import NotFinite, check_finite
from .streams import check_range
from .templates import chat_template

ORGANISMS, FOUR_BIT = ("toy-llava", "toy-qwen2vl"), "4-bit"
DEEPEST = 1000  # layers; a config that asks for more is damaged, and making them would fill the memory
SMALL = 10**8  # parameters of a model that answers at once on any machine
QUESTION = "What is where? Xqzy."  # with a word that no vocabulary has


def load_parts(name, device="auto", dtype="auto", revision=None):
    """(model, tokenizer, image_processor) of an organism, a folder or a hub id; see `models.load`."""
    source = find(name)
    if revision is not None and Path(source).is_dir():
        raise ValueError(f"'{name}' is a folder on this machine, and only the hub's models have revisions.")
    config = _config(source, name, revision)
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
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=False)
        image_processor = family.image_processor_class.from_pretrained(source, revision=revision)
    except Exception as error:  # of every kind, where a file is damaged
        if isinstance(error, OSError) or hub.refusal(error, name):
            raise FileNotFoundError(f"'{name}' lacks its tokenizer or image processor. {hub.reason(error, name)}") from None
        raise ValueError(
            f"The tokenizer or the image processor of '{name}' could not be read: a file is cut short or damaged. Fetch or train "
            f"it again. ({first_line(error)})"
        ) from None
    tokenizer.chat_template = chat_template(source, name, tokenizer.chat_template, revision)
    parts = model.eval().requires_grad_(False), tokenizer, image_processor
    _try_out(parts, name)
    return parts


def _config(source, name, revision):
    """What its config.json says, as a dictionary."""
    if Path(source).is_dir():
        config = read_json(Path(source) / "config.json")
    else:
        try:
            config, _ = PreTrainedConfig.get_config_dict(source, revision=revision)
        except (OSError, ValueError) as error:
            raise FileNotFoundError(
                f"'{name}' is not a folder on this machine, nor to be had. {hub.reason(error, name)}"
            ) from None
    sound = isinstance(config, dict) and isinstance(config.get("model_type"), str)
    parts = [part for part in (config, *config.values()) if isinstance(part, dict)] if sound else []
    layers = [part.get(key, 0) for part in parts for key in ("num_hidden_layers", "depth")]
    if not sound or any(type(n) is int and n > DEEPEST for n in layers):
        raise ValueError(f"The config.json of '{name}' describes no model: it is damaged, or of something else.")
    code = [value for part in parts for key, value in part.items() if key.endswith("attn_implementation") and "/" in str(value)]
    if code:
        raise ValueError(f"The config.json of '{name}' names code to be fetched and run, {code[0]!r}: take that line out.")
    return config


def _try_out(parts, name):
    """Ask it something about a grey square: files that are damaged, or of different models, show it here, in a sentence."""
    from .models import VLM  # which imports this module

    model = parts[0]
    for part, weight in model.named_parameters():
        if weight.is_floating_point() and weight.numel() and not torch.stack(torch.aminmax(weight)).isfinite().all():
            raise ValueError(
                f"The weights of '{name}' hold what is no finite number in {weight.dtype}, '{part}' for one. Take another dtype; "
                "or, if they are damaged, fetch or train them again."
            )
    with _fitting(name, ValueError):  # with which it refuses, in sentences, what whatwhere does not know
        vlm = VLM(*parts, name=name)
    with _fitting(name), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a grey square is none of an organism's scenes
        check_range("lens_layer", vlm.lens_layer, vlm.n_layers)
        words = vlm.tokenizer.get_vocab().items() - vlm.tokenizer.get_added_vocab().items()  # those may have come after training
        check_range("highest id of a word", max(each for _, each in words), len(vlm.unembedding.weight) - 1)
        grey = Image.new("RGB", (64, 64), "grey")
        for part, values in vlm.prepare(grey, QUESTION).items():
            check_finite(values, f"the image processor, {part},")
        if model.num_parameters() <= SMALL:
            vlm.logits(grey, QUESTION)
            vlm.answer(grey, QUESTION, max_new_tokens=1)


@contextmanager
def _fitting(name, *own):
    """Tokenizers, templates, image processors and models each raise their own over a damaged file."""
    try:
        yield
    except own:
        raise
    except NotFinite as error:
        raise ValueError(f"'{name}' was asked a first question, in vain. {error}") from error
    except (MemoryError, torch.OutOfMemoryError):
        raise MemoryError(f"The memory is too small to ask '{name}' a first question: take a smaller model.") from None
    except Exception as error:
        raise ValueError(
            f"The files of '{name}' are damaged, or not of one model: a first question failed. Fetch or train it again. "
            f"({first_line(error)})"
        ) from None


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
    try:
        folder = Path(name).expanduser()
        there = folder.is_dir()
    except (OSError, RuntimeError):  # a name too long for a folder, the home of nobody
        there = False
    if there:
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
        _check_index(source, revision)
        if Path(source).is_dir():
            _check_size(model_class, source)
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


def _check_index(source, revision):
    """Of weights in several files, refuse an index that names any but safetensors beside it: others would be unpickled."""
    path = cached_file(source, SAFE_WEIGHTS_INDEX_NAME, revision=revision, _raise_exceptions_for_missing_entries=False)
    for name in set(read_json(path)["weight_map"].values()) if path else ():
        if not name.endswith(".safetensors") or Path(name).name != name:
            raise ValueError(f"its index names {name!r}, which is no safetensors file of its own")


def _check_size(model_class, folder):
    """Refuse a config.json of a much larger model than the weights: what they lack would be made, however much it is."""
    config = model_class.config_class.from_pretrained(folder)
    held = 0
    for path in Path(folder).glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            held += sum(math.prod(file.get_slice(key).get_shape()) for key in file.keys())
    with torch.device("meta"):
        wanted = model_class._from_config(config).num_parameters()
    if wanted > 2 * held and not hasattr(config, "quantization_config"):  # which says that several numbers are kept as one
        raise ValueError(f"config.json describes {wanted:,} parameters, and the weights are {held:,}")


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
        if device.type == "cpu":  # half precision is many times slower there
            return torch.float32
        said = config.get("dtype") or config.get("torch_dtype") or "float32"
        own = getattr(torch, str(said).removeprefix("torch."), None)
        if not isinstance(own, torch.dtype) or not own.is_floating_point:
            raise ValueError(f"The config.json names the dtype {said!r}, which is none; give one, such as dtype='float32'.")
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
