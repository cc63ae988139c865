"""Finding a checkpoint and opening it: every way it can fail, in a sentence."""

import math
import re
import warnings
from contextlib import contextmanager
from copy import deepcopy
from difflib import get_close_matches
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from transformers import (
    AutoTokenizer,
    BitsAndBytesConfig,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, logging

from . import checkpoints, hub, images
from .failures import told
from .files import cause, first_line, read_json
from .finite import check_finite
from .hooks import check_range
from .models import VLM
from .rope import scaling
from .templates import chat_template

ORGANISMS, FOUR_BIT = ("toy-llava", "toy-qwen2vl"), "4-bit"
SMALL = 10**8  # parameters of a model that answers at once on any machine
QUESTION = "What is where? Xqzy."  # with a word that no vocabulary has
AGAIN = "Fetch or train it again."


def load(
    name: str | Path,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    revision: str | None = None,
    max_pixels: int | str | None = "auto",
) -> VLM:
    """Load a model by name: an organism ("toy-llava", "toy-qwen2vl"), a checkpoint folder, or a hub
    id.

    Only safetensors are read and no code from a checkpoint is run.

    Args:
        device: "auto" takes a GPU if there is one, else the CPU; or anything `torch.device` takes.
        dtype: "auto" takes float32 on a CPU and the checkpoint's own type on a GPU (float16 for
            bfloat16 where the GPU lacks it); or "float32", "bfloat16", "float16", or a torch dtype;
            or "4-bit", where bitsandbytes is installed.
        revision: of a hub model, a commit; its newest by default.
        max_pixels: of families that keep a picture's size (Qwen2-VL to Qwen3-VL), the most pixels
            that reach the ViT; larger pictures are reduced. "auto" takes the paper's bound
            (`images.MOST_PIXELS`, 1280 visual tokens) where the checkpoint's own is larger, and
            says so once when a picture is reduced; None keeps the checkpoint's own. Later:
            `vlm.max_pixels = …`, or `with images.bounded(vlm, …)`.

    Raises:
        FileNotFoundError, ValueError or MemoryError: with a sentence when the name is unknown,
            gated or out of reach, the weights are missing, damaged or too large, are a LoRA's or
            need a package, or the architecture is not one of those in `families`; the error behind
            it is chained.
    """
    if max_pixels != "auto":
        images.check_pixels(max_pixels)  # before the weights, which may be large
    vlm = VLM(*load_parts(name, device, dtype, revision), name=str(name))
    if scaling.settings(vlm) is not None:  # it was saved while its rotary frequencies were scaled
        scaling.apply(vlm)
    if max_pixels == "auto":
        vlm._bound_by_default()
    elif not isinstance(max_pixels, str) and max_pixels is not None:
        vlm.max_pixels = max_pixels
    return vlm


def load_parts(
    name: str | Path,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    revision: str | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, Any]:
    """(model, tokenizer, image_processor) of an organism, a folder or a hub id; see `load`."""
    name, source = str(name), find(name)
    if revision is not None and Path(source).is_dir():
        raise ValueError(
            f"'{name}' is a folder on this machine, and only the hub's models have revisions."
        )
    config = checkpoints.read_config(source, name, revision)
    family = checkpoints.family_of(config, name)
    device = _device(device)
    dtype = _dtype(dtype, device, config)
    checkpoints.check_readers(source, name, revision)
    telling = partial(told, name, family, device)
    model = _model(family.model_class, source, name, config, device, dtype, revision, telling)
    damage = (
        f"The tokenizer or the image processor of '{name}' could not be read: a file is "
        f"cut short or damaged. {AGAIN}"
    )
    lacks = "lacks its tokenizer or image processor"
    with telling(damage, lacks), checkpoints.unmarked(source) as folder:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, revision=revision, trust_remote_code=False
        )
        image_processor = family.image_processor_class.from_pretrained(folder, revision=revision)
    tokenizer.chat_template = chat_template(source, name, tokenizer.chat_template, revision)
    parts = model.eval().requires_grad_(False), tokenizer, image_processor
    _try_out(parts, name, family, telling)
    return parts


def _try_out(parts, name, family, telling):
    """Ask it something about a grey square: files that are damaged, or of different models, show it
    here, in a sentence."""
    model = parts[0]
    for part, weight in model.named_parameters():
        # torch has no minimum of 8-bit floats
        whole = weight.is_floating_point() and weight.dtype.itemsize > 1
        if whole and weight.numel() and not torch.stack(torch.aminmax(weight)).isfinite().all():
            raise ValueError(
                f"The weights of '{name}' hold what is no finite number in {weight.dtype}, "
                f"'{part}' for one. Take another dtype; or, if they are damaged, fetch or train "
                "them again."
            )
    grey = Image.new("RGB", (64, 64), "grey")

    def trying(what, **named):
        ours = family.__module__.startswith("whatwhere.")  # and so tested
        mistaken = "" if ours else f", or the adapter {family.__name__} is mistaken"
        why = f"damaged, or not of one model{mistaken}: {what} on a first question"
        return telling(f"The files of '{name}' are {why}. {AGAIN}", **named)

    # with which it refuses, in sentences, what it does not know
    with trying("parts are missing", own=ValueError):
        vlm = VLM(*parts, name=name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a grey square is none of an organism's scenes
        damage = "writes no question about an image: it is damaged, or a text model's."
        with telling(f"The chat template of '{name}' {damage}"):
            vlm.as_chat(QUESTION)
        with trying("its tokenizer and chat template fail"):
            # added tokens may have come after training
            words = vlm.tokenizer.get_vocab().items() - vlm.tokenizer.get_added_vocab().items()
            check_range(
                "highest id of a word",
                max(token_id for _, token_id in words),
                len(vlm.unembedding.weight) - 1,
            )
            for question in (QUESTION, ""):  # in which no word can pass for the image's own token
                vlm.after_image(question)
        with trying("its image processor fails"):
            vlm.patch_grid(grey)
        with trying("the model fails"):
            check_range("lens_layer", vlm.lens_layer, vlm.n_layers)
            for part, values in vlm.prepare(grey, QUESTION).items():
                check_finite(values, f"the image processor, {part},")
            if model.num_parameters() <= SMALL:
                vlm.logits(grey, QUESTION)
                vlm.answer(grey, QUESTION, max_new_tokens=1)


def find(name: str | Path) -> str:
    """The folder of an organism or a path, as a string; a hub id is returned as it is."""
    name = str(name)
    if name in ORGANISMS:
        # of a clone, wherever the package was installed to: the notebooks run inside the clone;
        # else those in the package
        clones = [
            root / "data/models"
            for root in (Path(__file__).parents[2], Path.cwd(), *Path.cwd().parents)
        ]
        places = [*clones, Path(__file__).parent / "organisms"]
        folder = next((place / name for place in places if (place / name).is_dir()), None)
        if folder is None:
            raise FileNotFoundError(
                f"The organism '{name}' is neither in this installation of whatwhere nor in a "
                f"clone around {Path.cwd()}, under data/models/. Install the package anew, or work "
                "inside a clone of the book's repository."
            )
        return _complete(folder)
    try:
        folder = Path(name).expanduser()
        is_folder = folder.is_dir()
    except (OSError, RuntimeError):  # a name too long for a folder, the home of nobody
        is_folder = False
    if is_folder:
        return _complete(folder)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and name[0] not in "./":
        return name
    close = get_close_matches(name, ORGANISMS, 1)
    raise FileNotFoundError(
        f"'{name}' is not a model's name{f' (did you mean {close[0]!r}?)' if close else ''}: give "
        f"{' or '.join(ORGANISMS)}, a checkpoint folder, or a hub id such as "
        "'llava-hf/llava-1.5-7b-hf'."
    )


def _complete(folder):
    checkpoints.check_folder(folder)
    return str(folder)


def _model(model_class, source, name, config, device, dtype, revision, telling):
    method, is_folder = checkpoints.quantisation(config), Path(source).is_dir()
    options = _options(device, dtype, method, name)
    with telling(
        f"The config.json of '{name}' is damaged: no model of its kind can be made of it. {AGAIN}"
    ):
        settings = model_class.config_class.from_dict(deepcopy(config))
    path = hub.part_of(source, name, "generation_config.json", revision)
    generation_settings = read_json(path) if path else config | {"_from_model_config": True}
    with telling(f"The generation_config.json of '{name}' is damaged. {AGAIN}"):
        generation = GenerationConfig.from_dict(dict(generation_settings))
    _check_index(source, name, revision)
    unread = partial(_unread, name, method)
    with _quiet(without_bar=is_folder):
        if is_folder and not method:  # which keeps several numbers as one
            with telling(unread):
                described, stored = _sizes(model_class, settings, source)
            if described > 2 * stored:  # what the weights lack would be made, however much it is
                raise ValueError(
                    f"The config.json of '{name}' describes {described:,} parameters, and the "
                    f"weights are {stored:,}: one of the two is damaged, or of another model. "
                    f"{AGAIN}"
                )
        with telling(unread, "has no safetensors that could be had"):
            model, report = model_class.from_pretrained(
                source, config=settings, generation_config=generation, **options, revision=revision,
                use_safetensors=True, output_loading_info=True,
            )  # fmt: skip
            if "device_map" not in options:
                model = model.to(device)
            lacked = model.dtype == torch.bfloat16 and not _has_bfloat16(device)
            if dtype == "auto" and not method and lacked:
                model = model.half()
    missing = sorted(report["missing_keys"])
    if any("lora_" in key for key in report["unexpected_keys"]):
        raise ValueError(
            f"The weights of '{name}' hold a LoRA that is not merged: merge it with peft's "
            "`merge_and_unload()`."
        )
    if missing and method:
        raise ValueError(unread(None))
    if missing:  # transformers would go on with random numbers in their place
        raise ValueError(
            f"The weights of '{name}' lack {len(missing)} of the model's tensors, "
            f"'{missing[0]}' for one; the file does not belong to this config.json."
        )
    return model


def _unread(name, method, error):
    """Why weights could not be read, as a sentence."""
    if method:
        return (
            f"'{name}' is quantised by {method}, and cannot be read here: take one that is "
            "not quantised."
        )
    if "attn_implementation" in str(error):
        return (
            f"The config.json of '{name}' names an attention that transformers lacks: take "
            "that line out."
        )
    if isinstance(error, SafetensorError):
        return f"The weights of '{name}' could not be read: a file is cut short or damaged. {AGAIN}"
    return (
        f"The weights of '{name}' could not be read: damaged, or of another shape than "
        f"config.json says. {AGAIN}"
    )


@contextmanager
def _quiet(without_bar):
    """What transformers warns of, our sentences say; a progress bar over a folder would only litter
    the page."""
    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    if without_bar:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()


def _check_index(source, name, revision):
    """Of weights in several files, refuse an index that names any but safetensors beside it: others
    would be unpickled."""
    path = hub.part_of(source, name, SAFE_WEIGHTS_INDEX_NAME, revision)
    index = read_json(path) if path else {"weight_map": {}}
    files = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(files, dict):
        raise ValueError(f"'{path}' names no files of weights: it is damaged. {AGAIN}")
    for file in files.values():
        beside = isinstance(file, str) and Path(file).name == file
        if not beside or not file.endswith(".safetensors"):
            raise ValueError(
                f"'{path}' names {str(file)[:99]!r}, which is no safetensors file beside it."
            )


def _sizes(model_class, settings, folder):
    """How many numbers a config describes, and how many a folder's weights are."""
    stored = 0
    for path in Path(folder).glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            stored += sum(math.prod(file.get_slice(key).get_shape()) for key in file.keys())
    with torch.device("meta"):
        return model_class._from_config(deepcopy(settings)).num_parameters(), stored


def _options(device, dtype, method, name):
    """What `from_pretrained` is told of precision and place."""
    if dtype == FOUR_BIT and method:
        raise ValueError(f"'{name}' is quantised already, by {method}: leave dtype='4-bit' out.")
    if dtype == FOUR_BIT:
        return _four_bit(device)
    placed = method and find_spec("accelerate")  # else the method itself says that it is needed
    return {"dtype": dtype} | ({"device_map": {"": device}} if placed else {})


def _four_bit(device):
    """What loads a model's matrices as NF4, the unembedding excepted: a quarter of the memory of
    half precision."""
    lacking = [package for package in ("bitsandbytes", "accelerate") if find_spec(package) is None]
    if lacking:
        needed, install = " and ".join(lacking), " ".join(lacking)
        raise ValueError(
            f"dtype='4-bit' needs {needed}: `pip install {install}`, or take 'float16' or "
            "'bfloat16'."
        )
    half = torch.bfloat16 if _has_bfloat16(device) else torch.float16
    settings = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=half
    )
    return {"quantization_config": settings, "dtype": half, "device_map": {"": device}}


def _device(device):
    if device == "auto":
        mps = torch.backends.mps.is_available()
        device = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"The device is 'auto', 'cpu', 'cuda' or another torch device, not {device!r}."
        ) from cause(error)
    try:
        if chosen.type == "meta":
            raise ValueError("it holds no numbers")
        torch.empty(1, device=chosen)
    # torch raises AssertionError, RuntimeError or NotImplementedError, by device
    except Exception as error:
        raise ValueError(
            f"The device '{chosen}' cannot be used here: take device='auto' or 'cpu'. "
            f"({first_line(error)})"
        ) from cause(error)
    return chosen


def stored_dtype(config: dict) -> torch.dtype | None:
    """The type of number that a config says its weights are kept in; None where it says nothing.

    Raises:
        ValueError: where it names something else.
    """
    listed = [
        part.get(key) for part in checkpoints.parts(config) for key in ("dtype", "torch_dtype")
    ]
    named = next((entry for entry in listed if entry not in (None, "auto")), None)
    if named is None:
        return None
    stored = getattr(torch, str(named).removeprefix("torch."), None)
    if not isinstance(stored, torch.dtype) or not stored.is_floating_point:
        raise ValueError(
            f"The config.json names the dtype {named!r}, which is none; give one, such as "
            "dtype='float32'."
        )
    return stored


def _dtype(dtype, device, config):
    if dtype == "auto":
        if device.type == "cpu":  # half precision is many times slower there
            return torch.float32
        stored = stored_dtype(config)
        if stored is None:
            return "auto"  # that of the weights
        return torch.float16 if stored == torch.bfloat16 and not _has_bfloat16(device) else stored
    if dtype == FOUR_BIT:
        return FOUR_BIT
    chosen = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(chosen, torch.dtype) or not chosen.is_floating_point:
        raise ValueError(
            f"The dtype is 'auto', 'float32', 'bfloat16', 'float16' or '4-bit', not {dtype!r}."
        )
    return chosen


def _has_bfloat16(device):
    """A T4, for one, computes in it only by detours."""
    return (
        device.type == "cpu"
        or device.type == "cuda"
        and torch.cuda.is_bf16_supported(including_emulation=False)
    )
