"""What a run is of: everything that can change an answer, in short, so that answers of two kinds are not mixed.

A folder's spelling, a device, the number of processes and the time are not among it. What the model is called is only a label:
`models/m`, `./models/m` and a copy of that folder hold one model.
"""

import hashlib
import json
import re
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import torch

from .. import images
from ..rope import scaling

PIECE = 2**18  # 32-bit numbers in a piece of a tensor, which has a checksum of its own
# {library: what of an answer it makes}. Their third number, of releases that mend faults, may differ.
LIBRARIES = {
    "torch": "the arithmetic", "transformers": "the models and image processors", "tokenizers": "a prompt's tokens",
    "pillow": "a picture's pixels, once it is decoded and resized", "whatwhere": "how the model is asked",
}  # fmt: skip
LABELS = {"model", "revision", "limit", "device"}  # what a reader wants to know, and no answer depends on
# {what is compared: in words, and what it follows from if that differs as well}
WORDS = {
    "benchmark": ("the benchmark", ()), "protocol": ("the protocol", ()), "questions": ("the number of questions", ()),
    "blind": ("whether each question is put beside another scene's picture (blind)", ()),
    "seed": ("the seed", ()), "data": ("the questions, options or right answers", ("benchmark", "protocol", "questions", "seed")),
    "family": ("the model's family", ()), "dtype": ("the precision (dtype)", ()),
    "arithmetic": ("how exactly matrices are multiplied (float32 matmul precision, autocast)", ()),
    "quantisation": ("the quantisation", ()), "attention": ("the implementation of attention", ()),
    "scale": ("RoPE scaling (scale)", ()), "frequencies": ("the ViT's rotary frequencies", ("scale", "family")),
    "config": ("the model's config", ("family", "quantisation")), "weights": ("the model's weights", ("family", "dtype", "quantisation")),
    "image processor": ("the image processor's settings", ("protocol", "family")), "tokenizer": ("the tokenizer", ("family",)),
    "chat template": ("the chat template", ("family",)), "decoding": ("how answers are decoded", ("protocol", "family")),
    "max_new_tokens": ("the most tokens of an answer", ("benchmark", "protocol")), "batch_size": ("the number of questions at once", ()),
    "compress": ("the compression (compress)", ()), "decoder": ("the visual decoder", ("compress",)),
    "versions": ("the versions of libraries", ()),
}  # fmt: skip


def of(vlm, plain=True):
    """{name: value} of a model as it is now, scaled or not: all of it that can change what it answers.

    plain: does it decode by likelihood alone? Else all of its generation_config counts.
    Raises ValueError where a part of the model is not in memory.
    """
    model, tokenizer = vlm.model, vlm.tokenizer
    config = model.config.to_dict()
    quantisation = config.pop("quantization_config", None)
    parts = {"": model.config, **{name: getattr(model.config, name) for name in model.config.sub_configs}}
    tensors = {**dict(model.named_buffers()), **model.state_dict()}  # which has a quantised matrix's scales as well
    rotary = getattr(vlm.adapter.rotary, "inv_freq", None)
    rest = {name: tensor for name, tensor in tensors.items() if rotary is None or tensor.data_ptr() != rotary.data_ptr()}
    kind = vlm.device.type
    cast = str(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else None
    own = model.generation_config.to_dict()
    return {
        "family": vlm.family, "dtype": str(vlm.dtype).removeprefix("torch."),
        "arithmetic": {"float32": torch.get_float32_matmul_precision(), "autocast": cast},
        "quantisation": None if quantisation is None else short(quantisation),
        "attention": {name or "model": part._attn_implementation for name, part in parts.items()},
        "scale": scaling.settings(vlm), "frequencies": None if rotary is None else checksum({"frequencies": rotary}),
        "config": short([_without(config), model.training]), "weights": checksum(rest),
        "image processor": short(_without(vlm.image_processor.to_dict())),
        "tokenizer": short(_tokenizer(tokenizer)), "chat template": short(tokenizer.chat_template),
        "decoding": {"greedy": "plain" if plain else short(_without(own)), "ends": sorted(vlm.ends)},
        "versions": {name: found for name in (*LIBRARIES, *["bitsandbytes"] * bool(quantisation)) if (found := _version(name))},
    }  # fmt: skip


def _without(settings):
    """Settings less what is no more than a label, or stands elsewhere, at any depth."""
    labels = {"_name_or_path", "name_or_path", "transformers_version", "whatwhere", "dtype", "torch_dtype", "architectures",
              "_attn_implementation", "attn_implementation", "_commit_hash", "_processor_class", "processor_class",
              "_attn_implementation_internal", "_attn_implementation_autoset"}  # fmt: skip
    if isinstance(settings, dict):
        return {str(name): _without(value) for name, value in settings.items() if name not in labels}
    return [_without(value) for value in settings] if isinstance(settings, (list, tuple)) else settings


def _tokenizer(tokenizer):
    """All that makes tokens of a text and a text of tokens."""
    special = {name: str(value) for name, value in tokenizer.special_tokens_map.items()}
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:  # one in Python
        return [special, tokenizer.get_vocab(), str(tokenizer.init_kwargs)]
    made = json.loads(backend.to_str())
    return [special, getattr(tokenizer, "clean_up_tokenization_spaces", None),
            {name: value for name, value in made.items() if name not in ("padding", "truncation")}]  # of the last call alone  # fmt: skip


def _version(name):
    try:
        return version(name).split("+")[0]  # not which build of it
    except PackageNotFoundError:
        return None


def short(value):
    """A short name for a value of JSON."""
    told = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@torch.no_grad()
def checksum(tensors):
    """A short name for {name: tensor}: of every bit of them, wherever they are. Any one number changed gives another name.

    Each piece is summed up, every 32 bits times an odd number of their own, modulo 2³²: a change of one of them, times an odd
    number, is not zero. That is several times faster than a cryptographic checksum, and on a GPU nothing need be copied.
    """
    found, odd = hashlib.sha256(), _odd()
    for name, tensor in sorted(tensors.items()):
        if tensor.is_meta:
            raise ValueError(f"'{name}' is not in memory (offloaded), so that it cannot be said which model's answers these are.")
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} {_sums(tensor, odd)}".encode())
    return found.hexdigest()[:16]


def _sums(tensor, odd):
    """One whole number below 2³² for each piece of a tensor."""
    flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8) if tensor.numel() else torch.zeros(0, dtype=torch.uint8)
    if len(flat) % 4:
        flat = torch.cat([flat, flat.new_zeros(-len(flat) % 4)])
    pieces = flat.view(torch.int32).split(PIECE)
    if flat.device.type == "cpu":
        return [int(np.dot(each, odd[: len(each)])) for each in (piece.numpy().view(np.uint32) for piece in pieces)]
    there = torch.from_numpy(odd.view(np.int32)).to(flat.device)
    sums = [(piece * there[: len(piece)]).sum(dtype=torch.int64) for piece in pieces]
    return [each % 2**32 for each in torch.stack(sums).tolist()]


def _odd():
    """(PIECE,) odd 32-bit numbers, all different, and without a pattern of their own."""
    return (np.arange(PIECE, dtype=np.uint32) * np.uint32(2654435761)) << np.uint32(1) | np.uint32(1)


def decoder(made):
    """A short name for a visual decoder: its weights, its words, and which of them it takes for punctuation."""
    ids = [] if made.ids is None else [int(each) for each in made.ids]
    return short([checksum({"weight": made.weight}), ids, [bool(each) for each in made.punctuation]])


def picture(image):
    """A short name for a picture: of its file's bytes, or of the pixels of one in memory.

    Raises ValueError or OSError with a sentence, as `images.read` does, where there is no such picture.
    """
    if isinstance(image, (bytes, bytearray, memoryview)):
        return hashlib.sha256(bytes(image)).hexdigest()[:16]
    try:
        return hashlib.sha256(image.read_bytes()).hexdigest()[:16]
    except (AttributeError, OSError):  # no path, or none that can be read, as `images` says in a sentence
        seen = images.read(image)
    return hashlib.sha256(f"{seen.size}".encode() + seen.tobytes()).hexdigest()[:16]


def changing(model):
    """The names of functions that others hung into the model, and that may change what it answers."""
    own = ("torch.", "transformers.", "accelerate.")
    hooks = [hook for part in model.modules() for hung in (part._forward_hooks, part._forward_pre_hooks) for hook in hung.values()]
    return sorted({f"{hook.__module__}.{hook.__qualname__}" for hook in hooks if not str(hook.__module__).startswith(own)})


def differences(before, now):
    """[sentence part] of what changes answers and differs between two runs' settings; [] where one may go on with the other."""
    found = {name for name in WORDS if not _alike(name, before.get(name), now.get(name))}
    said = [name for name in WORDS if name in found and not found & set(WORDS[name][1])]
    return [f"{WORDS[name][0]} ({_values(name, before.get(name), now.get(name))})" for name in said]


def _alike(name, before, now):
    if name != "versions":
        return before == now
    series = [{each: _series(found) for each, found in (side or {}).items()} for side in (before, now)]
    return series[0] == series[1]


def _series(number):
    return re.findall(r"\d+", number)[:2]


def _values(name, before, now):
    """What was and what is, where a reader can do something with it."""
    if name == "versions":
        pairs = ((each, (before or {}).get(each, "none"), (now or {}).get(each, "none")) for each in {**(before or {}), **(now or {})})
        return ", ".join(f"{each} {old} then, {new} now" for each, old, new in pairs if _series(old) != _series(new))
    if isinstance(before, str) and re.fullmatch("[0-9a-f]{16}", before):
        return "not those of then"
    return f"{plainly(before)} then, {plainly(now)} now"


def plainly(value):
    """{"alpha": 99.0, "p": 8.0} as "alpha 99, p 8"; None as "none"."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {plainly(each)}" for name, each in value.items() if each is not None) or "none"
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def lacking(settings):
    """What an earlier version of this package did not write down of a run, in words."""
    return [words for name, (words, _) in WORDS.items() if name not in settings]
