"""What a run is of: everything that can change an answer, in short, so that answers of two kinds
are not mixed.

What stands in WORDS is compared. A folder's spelling, a device, the number of processes and the
time are not among it, and what the model is called is only a label: `models/m`, `./models/m` and a
copy of that folder hold one model. Pictures have names of their own, in the rows (`picture`): one
that is not asked about yet may still be mended.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .. import images
from ..compress.groups import ALIASES
from ..rope import scaling
from . import conditions

if TYPE_CHECKING:
    from ..compress import Decoder
    from ..models import VLM

PIECE = 2**18  # 32-bit numbers in a piece of a tensor, which has a checksum of its own
# The arithmetic; models and image processors; a prompt's tokens; a picture's pixels, decoded and
# resized; and 4-bit matrices. Of their versions the first two numbers count: a release that only
# mends faults should not end a run that is half done.
LIBRARIES = ("torch", "transformers", "tokenizers", "pillow", "bitsandbytes")
# {what is compared: (in words, from which other differences it would follow)}
WORDS = {
    "benchmark": ("the benchmark", ()), "protocol": ("the protocol", ()),
    "questions": ("the number of questions", ()),
    "blind": ("whether each question is put beside another scene's picture (blind)", ()),
    "seed": ("the seed", ()),
    "data": ("the questions, options or right answers",
        ("benchmark", "protocol", "questions", "seed")),
    "family": ("the model's family", ()), "dtype": ("the precision (dtype)", ()),
    "arithmetic": ("how exactly matrices are multiplied (float32 matmul precision, autocast)", ()),
    "quantisation": ("the quantisation", ()), "attention": ("the implementation of attention", ()),
    "scale": ("RoPE scaling (scale)", ()),
    "frequencies": ("the rotary frequencies", ("scale", "family")),
    "config": ("the model's config", ("family", "quantisation", "versions")),
    "weights": ("the model's weights", ("family", "dtype", "quantisation")),
    "image processor": ("the image processor's settings", ("protocol", "family", "versions")),
    "tokenizer": ("the tokenizer", ("family", "versions")),
    "chat template": ("the chat template", ("family",)),
    "decoding": ("how answers are decoded", ("protocol", "family")),
    "max_new_tokens": ("the most tokens of an answer", ("benchmark", "protocol")),
    "batch_size": ("the number of questions at once", ()),
    "compress": ("the compression (compress)", ()),
    "decoder": ("the visual decoder", ("compress",)),
    "depth": ("after how many blocks the ViT ends (depth)", ()),
    "without_positions":
        ("where the ViT is not told where patches are (without_positions)", ()),
    "shuffle": ("what of the visual tokens is shuffled (shuffle)", ()),
    "image_attention": ("what visual tokens see of each other (image_attention)", ()),
    "versions": ("the versions of libraries", ()),
}  # fmt: skip


def of(vlm: VLM, plain: bool = True) -> dict[str, Any]:
    """{name: value} of a model as it is now, scaled or not: all of it that can change what it
    answers.

    Args:
        plain: does it decode by likelihood alone? Else all of its generation_config counts.

    Raises:
        ValueError: where a part of the model is not in memory.
    """
    model, tokenizer = vlm.model, vlm.tokenizer
    config = model.config.to_dict()
    quantisation = config.pop("quantization_config", None)
    parts = {"model": model.config} | {
        name: getattr(model.config, name, None) for name in model.config.sub_configs
    }
    buffers = dict(model.named_buffers())
    tensors = buffers | model.state_dict()  # which has the scales of quantised matrices as well
    rotary = {name: tensors.pop(name) for name in buffers if name.endswith("inv_freq")}
    kind = vlm.device.type
    cast = str(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else None
    greedy = "plain" if plain else short(_without(model.generation_config.to_dict()))
    return {
        "family": vlm.family,
        "dtype": str(vlm.dtype).removeprefix("torch."),
        "arithmetic": {"float32": torch.get_float32_matmul_precision(), "autocast": cast},
        "quantisation": None if quantisation is None else short(quantisation),
        "attention": {
            name: part._attn_implementation for name, part in parts.items() if part is not None
        },
        "scale": scaling.settings(vlm),
        "frequencies": {
            name: _numbers(buffer) for name, buffer in rotary.items() if "original_" not in name
        },
        "config": short([_without(config), model.training]),
        "weights": checksum(tensors),
        "image processor": short(_without(vlm.image_processor.to_dict())),
        "tokenizer": short(_tokenizer(tokenizer)),
        "chat template": short(tokenizer.chat_template),
        "decoding": {"greedy": greedy, "ends": sorted(vlm.ends)},
        "versions": {name: _version(name) for name in LIBRARIES[: 5 if quantisation else 4]},
    }


def _numbers(tensor):
    """Rotary frequencies, which each device computes for itself, and which may differ in their last
    bit."""
    return " ".join(f"{number:.9g}" for number in tensor.flatten().tolist())


def _without(settings):
    """Settings less what is no more than a label, or stands elsewhere, at any depth."""
    labels = {"_name_or_path", "name_or_path", "transformers_version", "whatwhere", "dtype",
        "torch_dtype", "architectures",
              "_attn_implementation", "attn_implementation", "_commit_hash", "_processor_class",
              "processor_class",
              "_attn_implementation_internal", "_attn_implementation_autoset"}  # fmt: skip
    if isinstance(settings, dict):
        return {
            str(name): _without(value) for name, value in settings.items() if name not in labels
        }
    if isinstance(settings, (list, tuple)):
        return [_without(value) for value in settings]
    return settings


def _tokenizer(tokenizer):
    """All that makes tokens of a text and a text of tokens."""
    special = {name: str(value) for name, value in tokenizer.special_tokens_map.items()}
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:  # one in Python
        return [special, tokenizer.get_vocab(), str(tokenizer.init_kwargs)]
    settings = json.loads(backend.to_str())
    for name in ("padding", "truncation"):  # those of the last call
        settings.pop(name, None)
    return [special, getattr(tokenizer, "clean_up_tokenization_spaces", None), settings]


def _version(name):
    try:
        return version(name).partition("+")[0]  # not which build of it
    except PackageNotFoundError:
        return "none"


def short(value: Any) -> str:
    """A short name for a value of JSON."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@torch.no_grad()
def checksum(tensors: Mapping[str, torch.Tensor]) -> str:
    """A short name for {name: tensor}: of every bit of them, wherever they are. Any one number
    changed gives another name.

    Each piece is summed up, every 32 bits times an odd number of their own, modulo 2³²: a change of
    one of them, times an odd number, is not zero. That is several times faster than a cryptographic
    checksum, and on a GPU nothing need be copied.
    """
    digest, odd = hashlib.sha256(), _odd()
    for name, tensor in sorted(tensors.items()):
        if tensor.is_meta:
            raise ValueError(
                f"'{name}' is not in memory (offloaded), so that it cannot be said which "
                "model's answers these are."
            )
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} {_sums(tensor, odd)}".encode())
    return digest.hexdigest()[:16]


def _sums(tensor, odd):
    """One whole number below 2³² for each piece of a tensor."""
    flat = torch.zeros(0, dtype=torch.uint8)
    if tensor.numel():
        flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    if len(flat) % 4:
        flat = torch.cat([flat, flat.new_zeros(-len(flat) % 4)])
    pieces = flat.view(torch.int32).split(PIECE)
    if on_the_cpu(flat):
        return [int(np.dot(piece.numpy().view(np.uint32), odd[: len(piece)])) for piece in pieces]
    factors = torch.from_numpy(odd.view(np.int32)).to(flat.device)
    sums = [(piece * factors[: len(piece)]).sum(dtype=torch.int64) for piece in pieces]
    return [total % 2**32 for total in torch.stack(sums).tolist()]


def on_the_cpu(tensor: torch.Tensor) -> bool:
    return tensor.device.type == "cpu"


def _odd():
    """(PIECE,) odd 32-bit numbers, all different, and without a pattern of their own."""
    numbers = np.arange(PIECE, dtype=np.uint32) * np.uint32(2654435761)
    return numbers << np.uint32(1) | np.uint32(1)


def decoder(reader: Decoder) -> str:
    """A short name for a visual decoder: its weights, and its words, which say what is equal and
    what is punctuation."""
    texts = list(map(str, getattr(reader, "texts", reader.words)))
    return short([checksum({"weight": reader.weight}), texts])


def method(compressed: dict[str, Any]) -> Any:
    """The name of a recorded compression's method, whatever it was called when the run began."""
    return ALIASES.get(compressed["method"], compressed["method"])


def picture(image: Any) -> str:
    """A short name for a picture: of its file's bytes, or of the pixels of one in memory.

    Raises:
        ValueError or OSError: with a sentence, as `images.read` does, where there is no such
            picture.
    """
    if isinstance(image, (bytes, bytearray, memoryview)):
        return hashlib.sha256(bytes(image)).hexdigest()[:16]
    try:
        return hashlib.sha256(image.read_bytes()).hexdigest()[:16]
    except (AttributeError, OSError):  # no path, or none that can be read, as `images` says
        pixels = images.read(image)
    return hashlib.sha256(f"{pixels.size}".encode() + pixels.tobytes()).hexdigest()[:16]


def changing(model: torch.nn.Module) -> list[str]:
    """The names of functions that others hung into the model, and that may change what it
    answers."""
    hooks = [
        hook
        for module in model.modules()
        for by_id in (module._forward_hooks, module._forward_pre_hooks)
        for hook in by_id.values()
    ]
    names = {
        f"{getattr(hook, '__module__', '')}.{getattr(hook, '__qualname__', type(hook).__name__)}"
        for hook in hooks
    }
    return sorted(
        name
        for name in names
        if not name.startswith(("torch.", "transformers.", "accelerate.", "bitsandbytes."))
    )


def refusal(before: dict[str, Any], now: dict[str, Any]) -> str | None:
    """Why answers with settings `now` may not join those that were begun with `before`, and what to
    do; None if they may."""
    before = {**conditions.NONE, **before}
    lacking = [WORDS[name][0] for name in WORDS if name in now and name not in before]
    if lacking:
        return (
            "a run that an earlier version of this package began, which did not write down "
            f"{', '.join(lacking)}: it cannot be said whether this one would go on with it. Its "
            "answers are all there, for `benchmarks.load` and `whatwhere table`; name another "
            "folder for new ones."
        )
    different = [name for name in WORDS if not _alike(name, before.get(name), now.get(name))]
    if not different:
        return None
    # what follows from another difference is no second one
    first = [name for name in different if not {*different} & {*WORDS[name][1]}]
    differ = "; ".join(
        f"{WORDS[name][0]} ({_values(name, before.get(name), now.get(name))})" for name in first
    )
    installed = " ".join(_newer(before, now))  # then
    back = hint = ""
    if "versions" in different:
        back = f", or install those of then (pip install {installed})"
    elif installed:
        hint = f" It may be the doing of {installed}, which were installed then."
    return (
        "a run of something else, and answers that do not belong together are not mixed. What "
        f"differs: {differ}.{hint} Name another folder, delete that one{back}; `whatwhere table` "
        "shows what it holds."
    )


def _newer(before, now):
    """["pillow==12.1.0", …]: what was installed then and is another version now."""
    then, today = before.get("versions") or {}, now.get("versions") or {}
    return [f"{name}=={number}" for name, number in then.items() if number != today.get(name)]


def _alike(name, before, now):
    if name == "frequencies" and before and now and before.keys() == now.keys():
        pairs = [(_floats(before[buffer]), _floats(now[buffer])) for buffer in now]
        return all(len(a) == len(b) and np.allclose(a, b, 1e-5, 0) for a, b in pairs)
    if name == "compress" and before and now:
        before, now = {**before, "method": method(before)}, {**now, "method": method(now)}
    return _series(before) == _series(now) if name == "versions" else before == now


def _floats(text):
    try:
        return np.array(text.split(), float)
    except ValueError:  # somebody wrote something else into run.json
        return np.zeros(0)


def _series(versions):
    """{library: [first number, second number]}"""
    return {name: re.findall(r"\d+", number)[:2] for name, number in (versions or {}).items()}


def _values(name, before, now):
    """What was and what is, where a reader can do something with it."""
    if name == "versions":
        was, is_ = _series(before), _series(now)
        return ", ".join(
            f"{library} {before.get(library)} then, {now.get(library)} now"
            for library in {**was, **is_}
            if was.get(library) != is_.get(library)
        )
    checksums = (isinstance(v, str) and re.fullmatch("[0-9a-f]{16}", v) for v in (before, now))
    if name == "frequencies" or all(checksums):
        return "not those of then"
    return f"{plainly(before)} then, {plainly(now)} now"


def plainly(value: Any) -> str:
    """{"alpha": 99.0, "p": 8.0} as "alpha 99, p 8"; None as "none"."""
    if isinstance(value, dict):
        parts = [f"{name} {plainly(part)}" for name, part in value.items() if part is not None]
        return ", ".join(parts) or "none"
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
