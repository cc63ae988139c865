"""The book's real models at their published sizes, without their weights: how large they are, and
which GPU holds them.

    published.table()                                     # model × GPU
    published.memory("llava-hf/llava-1.5-7b-hf", "float16")

Everything here is arithmetic on the published dimensions. What was measured is in
data/results/rehearsal.json (`make rehearse`).

Where the dimensions are from: the hub's config.json files as public repositories quote them
(LLaVA-1.5 in lite_llama's tests; Qwen2-VL in mllm, and as printed modules in zhenhua32/Qwen2-VL;
Qwen2.5-VL-3B whole, in notes on models; InternVL3-1B in executorch, -2B in TensorRT-Model-Connect),
and the defaults of `transformers` for the rest. InternVL3-8B is Qwen2.5-7B with InternVL's
vocabulary. The parameters that come out are the published ones: see tests/test_published.py.
"""

from collections import namedtuple
from difflib import get_close_matches
from functools import cache
from numbers import Integral, Real
from typing import Any

import pandas as pd
import torch
import transformers as hf
from torch import nn

GIB = 2**30
Language = namedtuple("Language", "hidden mlp layers heads kv vocabulary tied")
LANGUAGE = {
    "llava-hf/llava-1.5-7b-hf": Language(4096, 11008, 32, 32, 32, 32064, False),
    "Qwen/Qwen2-VL-2B-Instruct": Language(1536, 8960, 28, 12, 2, 151936, True),
    "Qwen/Qwen2-VL-7B-Instruct": Language(3584, 18944, 28, 28, 4, 152064, False),
    "Qwen/Qwen2.5-VL-3B-Instruct": Language(2048, 11008, 36, 16, 2, 151936, True),
    "Qwen/Qwen2.5-VL-7B-Instruct": Language(3584, 18944, 28, 28, 4, 152064, False),
    "OpenGVLab/InternVL3-1B-hf": Language(896, 4864, 24, 14, 2, 151674, False),
    "OpenGVLab/InternVL3-2B-hf": Language(1536, 8960, 28, 12, 2, 151674, False),
    "OpenGVLab/InternVL3-8B-hf": Language(3584, 18944, 28, 28, 4, 151674, False),
}
QWEN_TOKENS: dict[str, Any] = {
    "image_token_id": 151655, "video_token_id": 151656, "vision_start_token_id": 151652,
    "vision_end_token_id": 151653,
}  # fmt: skip
QWEN_PATCHES: dict[str, Any] = {
    "depth": 32,
    "num_heads": 16,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
}
QWEN_WINDOWS = {
    "window_size": 112,
    "fullatt_block_indexes": [7, 15, 23, 31],
    "tokens_per_second": 2,
}

# gib is what a program finds, in GiB (2³⁰ bytes): the least "total capacity" in the out-of-memory
# messages that people quote. The GB it is sold by are more: T4 and L4 spend a sixteenth on error
# correction, and the driver keeps some of every GPU.
GPU = namedtuple("GPU", "sold gib bfloat16")
GPUS = {
    "T4": GPU("16 GB", 14.56, False),  # of 2018: it multiplies float16, but not bfloat16
    "L4": GPU("24 GB", 21.96, True),
    "A100 40": GPU("40 GB", 39.38, True),
    "A100 80": GPU("80 GB", 79.14, True),
    "H200": GPU("141 GB", 139.72, True),
}
# of a number; with 4-bit, of one outside the quantised matrices
BYTES = {"bfloat16": 2, "float16": 2, "4-bit": 2, "float32": 4}
# bytes of a weight in bitsandbytes' NF4: half a byte, and a float32 scale for each 64
FOUR_BIT = 0.5 + 4 / 64
# GiB kept free: CUDA's own context (about half of it), and what the allocator holds but cannot use
MARGIN = 1.0


def config(
    name: str, language: dict[str, Any] | None = None, vision: dict[str, Any] | None = None
) -> hf.PreTrainedConfig:
    """The `transformers` config of a published model, in its true class.

    Args:
        language, vision: settings, by their names in `transformers`, that are to differ, for a
            model of the same form in other sizes.

    Raises:
        ValueError: for a name that is not in `LANGUAGE`.
    """
    if not isinstance(name, str) or name not in LANGUAGE:
        close = get_close_matches(str(name), LANGUAGE, 1, 0.3)
        meant = f" (did you mean {close[0]!r}?)" if close else ""
        raise ValueError(
            f"'{name}' is not one of the book's models{meant}: those are {', '.join(LANGUAGE)}."
        )
    own = LANGUAGE[name]
    tied: dict[str, Any] = {"tie_word_embeddings": own.tied}
    sight: Any
    text: Any = tied | {
        "hidden_size": own.hidden,
        "intermediate_size": own.mlp,
        "num_hidden_layers": own.layers,
        "num_attention_heads": own.heads,
        "num_key_value_heads": own.kv,
        "vocab_size": own.vocabulary,
    }
    if "llava" in name:
        sight = {
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "image_size": 336,
            "patch_size": 14,
            "projection_dim": 768,
        }
        text |= {"rms_norm_eps": 1e-5, "max_position_embeddings": 4096} | (language or {})
        tied |= {"image_token_index": 32000, "pad_token_id": 32001, "vision_feature_layer": -2}
        seeing, reading = hf.CLIPVisionConfig(**sight | (vision or {})), hf.LlamaConfig(**text)
        return hf.LlavaConfig(vision_config=seeing, text_config=reading, **tied)
    rope = {"rope_type": "default", "rope_theta": 1e6}
    text |= {
        "rms_norm_eps": 1e-6,
        "bos_token_id": 151643,
        "eos_token_id": 151645,
        "max_position_embeddings": 32768,
    }
    # its ViT, InternViT-300M, is what InternVLVisionConfig describes, with biases
    if "InternVL" in name:
        sight = hf.InternVLVisionConfig(
            **{"attention_bias": True, "image_size": (448, 448)} | (vision or {})
        )
        text = hf.Qwen2Config(**text | {"rope_parameters": rope} | (language or {}))
        return hf.InternVLConfig(
            vision_config=sight, text_config=text, image_token_id=151667, **tied
        )
    text |= {"rope_parameters": rope | {"mrope_section": [16, 24, 24]}} | (language or {})
    width = text["hidden_size"]  # of what the merger gives to the language model
    if "2.5" in name:
        text = {**text, "max_position_embeddings": 128000}
        sight = (
            QWEN_PATCHES
            | QWEN_WINDOWS
            | {"hidden_size": 1280, "intermediate_size": 3420, "out_hidden_size": width}
        )
        return hf.Qwen2_5_VLConfig(
            vision_config=sight | (vision or {}), text_config=text, **QWEN_TOKENS, **tied
        )
    sight = QWEN_PATCHES | {"embed_dim": 1280, "mlp_ratio": 4, "hidden_size": width}
    return hf.Qwen2VLConfig(
        vision_config=sight | (vision or {}), text_config=text, **QWEN_TOKENS, **tied
    )


def skeleton(
    which: str | hf.PreTrainedConfig, dtype: torch.dtype = torch.bfloat16
) -> hf.PreTrainedModel:
    """The model on the `meta` device: every module, name and shape, and no memory.

    Args:
        which: a name in `LANGUAGE`, or a config.
    """
    settings = which if isinstance(which, hf.PreTrainedConfig) else config(which)
    with torch.device("meta"):
        return (
            hf.AutoModelForImageTextToText.from_config(settings, dtype=dtype)
            .eval()
            .requires_grad_(False)
        )


def parameters(which: str | hf.PreTrainedConfig) -> dict[str, int]:
    """How many numbers its weights are: {"vision", "connector", "language", "total"}; tied weights
    count once.

    Args:
        which: as for `skeleton`. Qwen's merger is its connector; an unembedding that is not tied
            belongs to the language model.
    """
    return dict(_counts(which)[0])


def memory(
    which: str | hf.PreTrainedConfig,
    dtype: str = "bfloat16",
    text: int = 60,
    image: int | None = None,
    new: int = 40,
    batch: int = 1,
) -> dict[str, int]:
    """Bytes of memory to answer a question, by arithmetic: {"weights", "cache", "activations",
    "total"}.

    weights: parameters × bytes of each. With 4-bit, the matrices of linear layers without the
    unembedding are quantised, as bitsandbytes does it, and the rest has two bytes. Buffers, a few
    kilobytes, are left out. cache: keys and values of every token in every layer of the language
    model. activations: a rough upper estimate: all logits in float32, and what the largest block
    holds at once (eight states and three of its MLP a token). Attention's scores are not counted:
    PyTorch's fused kernels do not keep them. total: their sum; CUDA's own needs are not in it, see
    `MARGIN`.

    Args:
        which: as for `skeleton`.
        dtype: "bfloat16", "float16", "float32", or "4-bit" (NF4 with 16-bit arithmetic).
        text, image, new: tokens of the prompt's words, of its picture (by default 576 in LLaVA-1.5,
            and 256, for 448 × 448 pixels, in the others), of the answer.
        batch: prompts at once.

    Raises:
        ValueError: for an unknown name or dtype, and for counts that are not whole numbers from 0
            on (batch: from 1 on).
    """
    if dtype not in BYTES:
        raise ValueError(f"The dtype is {', '.join(BYTES)}, not {dtype!r}.")
    counts, quantised, settings = _counts(which)
    image = int(getattr(settings, "image_seq_length", 256)) if image is None else image
    for what, number, least in (
        ("text", text, 0),
        ("image", image, 0),
        ("new", new, 0),
        ("batch", batch, 1),
    ):
        if isinstance(number, bool) or not isinstance(number, Integral) or number < least:
            raise ValueError(f"'{what}' is a whole number from {least} on, not {number!r}.")
    lm, vit, size = settings.text_config, settings.vision_config, BYTES[dtype]
    weights = counts["total"] * size - (
        round(quantised * (size - FOUR_BIT)) if dtype == "4-bit" else 0
    )
    head = getattr(lm, "head_dim", None) or lm.hidden_size // lm.num_attention_heads
    held = (
        batch
        * (text + image + new)
        * lm.num_hidden_layers
        * 2
        * lm.num_key_value_heads
        * head
        * size
    )
    # patches a side
    merged = getattr(vit, "spatial_merge_size", None) or round(
        1 / getattr(settings, "downsample_ratio", 1)
    )
    width = getattr(vit, "embed_dim", vit.hidden_size)
    mlp = getattr(vit, "intermediate_size", None) or vit.mlp_ratio * width
    seeing = image * merged**2 * (8 * width + 3 * mlp) * size
    reading = (text + image) * ((8 * lm.hidden_size + 3 * lm.intermediate_size) * size)
    activations = batch * (max(seeing, reading) + (text + image) * lm.vocab_size * 4)
    return {
        "weights": weights,
        "cache": held,
        "activations": activations,
        "total": weights + held + activations,
    }


def fits(gpu: str | float, margin: float = MARGIN, **prompt: Any) -> dict[str, tuple[str, ...]]:
    """{name: dtypes in which it fits} of every model on a GPU, by arithmetic; an empty tuple where
    none does.

    Args:
        gpu: a name in `GPUS`, or a number of GiB.
        margin: GiB to be left free.
        prompt: as for `memory`. It says nothing of speed, nor of whether a model trained in
            bfloat16 keeps within float16's range.

    Raises:
        ValueError: for another GPU or a negative margin.
    """
    if not isinstance(gpu, str) and _positive(gpu):
        gib, bfloat16 = gpu, True
    elif gpu in GPUS:
        _, gib, bfloat16 = GPUS[gpu]
    else:
        raise ValueError(
            f"A GPU is one of {', '.join(GPUS)}, or a number of GiB above zero; got {gpu!r}."
        )
    if margin != 0 and not _positive(margin):
        raise ValueError(f"The margin is a number of GiB from 0 on, not {margin!r}.")
    tried = [dtype for dtype in ("bfloat16", "float16", "4-bit") if bfloat16 or dtype != "bfloat16"]
    room = (gib - margin) * GIB
    return {
        name: tuple(each for each in tried if memory(name, each, **prompt)["total"] <= room)
        for name in LANGUAGE
    }


def table(margin: float = MARGIN, **prompt: Any) -> pd.DataFrame:
    """A DataFrame, model × GPU: the first dtype that fits, "–" where none does; arguments as for
    `fits`. All of it arithmetic."""
    rows: dict[str, dict[str, Any]] = {
        name: {"parameters, 10⁹": round(parameters(name)["total"] / 1e9, 2)}
        | {
            f"{dtype}, GiB": round(memory(name, dtype, **prompt)["total"] / GIB, 1)
            for dtype in ("bfloat16", "4-bit")
        }
        for name in LANGUAGE
    }
    for gpu, (_, gib, _) in GPUS.items():
        for name, dtypes in fits(gpu, margin, **prompt).items():
            rows[name][f"{gpu} ({gib:.1f} GiB)"] = dtypes[0] if dtypes else "–"
    return pd.DataFrame.from_dict(rows, "index").rename_axis(columns="by arithmetic")


def _counts(which):
    """({part: parameters}, how many of them 4-bit quantises, config)."""
    return _remembered(which) if isinstance(which, str) else _count(which)


def _count(which):
    model = skeleton(which)
    inner = model.model
    tower = getattr(inner, "visual", None) or inner.vision_tower
    merger = getattr(tower, "merger", None)
    connector = _numbers(merger or inner.multi_modal_projector)
    vision = _numbers(tower) - (connector if merger else 0)
    total = _numbers(model)
    parts = {
        "vision": vision,
        "connector": connector,
        "language": total - vision - connector,
        "total": total,
    }
    linear = (
        each
        for each in model.modules()
        if isinstance(each, nn.Linear) and each is not model.lm_head
    )
    return parts, sum(each.weight.numel() for each in linear), model.config


_remembered = cache(_count)


def _numbers(module):
    return sum(each.numel() for each in module.parameters())  # which gives a shared one once


def _positive(number: float) -> bool:
    return isinstance(number, Real) and not isinstance(number, bool) and 0 < number < float("inf")
