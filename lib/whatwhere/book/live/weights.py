"""A model organism as one script, with which a page runs it by itself: no server, no network, no
kernel.

    Path("engine.js").write_text(weights.engine())
    Path("toy-llava.js").write_text(weights.export("toy-llava"))

The second sets `whatwhereModels["toy-llava"]`, which `engine.js` opens. It is no JSON file, since
a page that is read from a disk may load scripts there and fetch nothing. What differs between the
families (names, separate or joint projections, frequencies, axes) is settled here: the engine
knows one layout.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import loading
from ...compress.decoder import punctuation

if TYPE_CHECKING:
    from torch import Tensor

    from ...models import VLM

Weights = dict[str, "Tensor"]
FAMILIES = ("llava", "qwen2_vl")
PARTS = (
    "simd",
    "kernels",
    "vit",
    "language",
    "engine",
    "experiments",
)  # of the engine, in this order
QUESTION = "\0"  # stands for the question in the chat template; no template and no reader writes it


def engine() -> str:
    """All of the engine as one script, for a page or a Worker: it sets `whatwhereLive`."""
    folder = Path(__file__).parent
    return "\n".join((folder / f"{part}.js").read_text(encoding="utf-8") for part in PARTS)


def export(name: str) -> str:
    """The script of one organism, "toy-llava", "toy-qwen2vl" or a folder, by whose last name it is
    then opened: some 3.5 MB of ASCII, the same each time.

    It holds what the model computes with (sizes, frequencies, axes), its vocabulary, the ids of
    what its chat template writes around a question, and its weights in half precision.

    Raises:
        ValueError: for a model of another family, for one that takes pictures of any size, and
            for weights that half precision cannot hold.
    """
    vlm = loading.load(name, device="cpu", dtype="float32")
    known, pixels = vlm.family in FAMILIES, vlm.about.get("image_size")
    if not known or pixels is None:
        raise ValueError(
            f"A page runs the book's organisms, which see pictures of one size and are a "
            f"{' or a '.join(FAMILIES)}; '{name}' is a {vlm.family}"
            f"{'' if pixels else ' without an `image_size` in its config'}."
        )
    for config in (vlm.model.config.vision_config, vlm.lm.config):
        if config.hidden_act not in ("gelu", "silu"):
            raise ValueError(f"The engine computes GELU and SiLU, and no '{config.hidden_act}'.")
    parts = weights(vlm)
    name = Path(name).name
    described = {
        "name": name,
        "picture": _picture(vlm, pixels),
        "vision": _vision(vlm),
        "language": _language(vlm),
        "text": _text(vlm),
        "tensors": [[key, list(tensor.shape)] for key, tensor in parts.items()],
        "weights": base64.b64encode(b"".join(map(_halves, parts.values()))).decode("ascii"),
    }
    # a script, a page's worker and Node each call the global object so
    return (
        "globalThis.whatwhereModels = globalThis.whatwhereModels || {};\n"
        f"globalThis.whatwhereModels[{json.dumps(name)}] = {json.dumps(described)};\n"
    )


def weights(vlm: VLM) -> Weights:
    """{the engine's name: weight} of all that the engine computes with, (outputs, inputs) each."""
    read = _llava if vlm.family == "llava" else _qwen
    return {name: tensor.detach() for name, tensor in (read(vlm) | _of_language(vlm)).items()}


def _halves(tensor: Tensor) -> bytes:
    """Half precision, the lower byte first."""
    halves = tensor.numpy().astype("<f2")
    if not np.isfinite(halves).all():
        raise ValueError("A weight of this model is too large for half precision.")
    return halves.tobytes()


# -- sizes and words ------------------------------------------------------------------------------


def _picture(vlm: VLM, pixels: int) -> dict[str, Any]:
    """What the image processor does to a picture that has the right size: nothing but scaling."""
    processor = vlm.image_processor
    return {
        "size": pixels,
        "patch": _patch_size(vlm),
        "merge": vlm.adapter.merge,
        "rescale": processor.rescale_factor,
        "mean": list(processor.image_mean),
        "deviation": list(processor.image_std),
    }


def _patch_size(vlm: VLM) -> int:
    return vlm.model.config.vision_config.patch_size


def _vision(vlm: VLM) -> dict[str, Any]:
    config, rotary = vlm.model.config.vision_config, vlm.adapter.rotary
    first = vlm.vision_blocks[0]
    norm = first.layer_norm1 if rotary is None else first.norm1
    return {
        "width": norm.normalized_shape[0],
        "heads": config.num_attention_heads if rotary is None else config.num_heads,
        "depth": vlm.last_depth,
        "epsilon": norm.eps,
        # of rows and of columns, or a learnt table instead
        "frequencies": None if rotary is None else rotary.inv_freq.tolist(),
    }


def _language(vlm: VLM) -> dict[str, Any]:
    config = vlm.lm.config
    return {
        "width": config.hidden_size,
        "heads": config.num_attention_heads,
        "keyHeads": config.num_key_value_heads,
        "layers": vlm.n_layers,
        "lensLayer": vlm.lens_layer,
        "epsilon": vlm.final_norm.variance_epsilon,
        "frequencies": vlm.lm.rotary_emb.inv_freq.tolist(),
        # 0: time, or the only axis; 1: row; 2: column
        "axes": vlm.adapter.lm_axes().tolist(),
    }


def _text(vlm: VLM) -> dict[str, Any]:
    """The vocabulary, and the prompt around a question as ids: `before` the visual tokens,
    `between` them and the question, and `after` it."""
    chat = vlm.as_chat(QUESTION)
    start, end = vlm.token_ids(chat.split(QUESTION))
    place = start.index(vlm.model.config.image_token_id)
    return {
        "words": vlm.words.tolist(),
        "special": sorted(vlm.tokenizer.all_special_ids),
        "ends": sorted(vlm.ends),
        "replaced": _replaced(vlm),
        # as method 2 of chapter 6 has them
        "punctuation": np.flatnonzero(punctuation(vlm.texts)).tolist(),
        "before": start[:place],
        "between": start[place + 1 :],
        "after": end,
    }


def _replaced(vlm: VLM) -> list[list[str]]:
    """What the tokenizer reads as something else, besides capitals: [[from, to], …]."""
    parts = json.loads(vlm.tokenizer.backend_tokenizer.to_str())["normalizer"]["normalizers"]
    return [
        [part["pattern"]["String"], part["content"]] for part in parts if part["type"] == "Replace"
    ]


# -- weights under one set of names ---------------------------------------------------------------


def _llava(vlm: VLM) -> Weights:
    import torch

    tower = vlm.adapter.vision
    tower = getattr(tower, "vision_model", tower)  # transformers before 5.6 wraps once more
    embeddings, found = tower.embeddings, {}
    found["vision.patch.weight"] = embeddings.patch_embedding.weight[:, :, None]
    found["vision.class.weight"] = embeddings.class_embedding
    found["vision.places.weight"] = embeddings.position_embedding.weight
    found |= _affine("vision.before", tower.pre_layrnorm)
    for n, block in enumerate(vlm.vision_blocks):
        of, attention = f"vision.{n}", block.self_attn
        three = [attention.q_proj, attention.k_proj, attention.v_proj]
        found |= _affine(f"{of}.norm1", block.layer_norm1)
        found[f"{of}.heads.weight"] = torch.cat([each.weight for each in three])
        found[f"{of}.heads.bias"] = torch.cat([each.bias for each in three])
        found |= _affine(f"{of}.joined", attention.out_proj)
        found |= _affine(f"{of}.norm2", block.layer_norm2)
        found |= _affine(f"{of}.wide", block.mlp.fc1) | _affine(f"{of}.narrow", block.mlp.fc2)
    found |= _affine("connector.wide", vlm.connector.linear_1)
    return found | _affine("connector.narrow", vlm.connector.linear_2)


def _qwen(vlm: VLM) -> Weights:
    found = {"vision.patch.weight": vlm.adapter.vision.patch_embed.proj.weight}
    for n, block in enumerate(vlm.vision_blocks):
        of = f"vision.{n}"
        found |= _affine(f"{of}.norm1", block.norm1) | _affine(f"{of}.heads", block.attn.qkv)
        found |= _affine(f"{of}.joined", block.attn.proj) | _affine(f"{of}.norm2", block.norm2)
        found |= _affine(f"{of}.wide", block.mlp.fc1) | _affine(f"{of}.narrow", block.mlp.fc2)
    found |= _affine("connector.norm", vlm.connector.ln_q)
    found |= _affine("connector.wide", vlm.connector.mlp[0])
    return found | _affine("connector.narrow", vlm.connector.mlp[2])


def _of_language(vlm: VLM) -> Weights:
    import torch

    found = {"language.words.weight": vlm.model.get_input_embeddings().weight}
    for n, block in enumerate(vlm.lm_layers):
        of, attention = f"language.{n}", block.self_attn
        three = [attention.q_proj, attention.k_proj, attention.v_proj]
        found[f"{of}.norm1.weight"] = block.input_layernorm.weight
        found[f"{of}.heads.weight"] = torch.cat([each.weight for each in three])
        if attention.q_proj.bias is not None:
            found[f"{of}.heads.bias"] = torch.cat([each.bias for each in three])
        found |= _affine(f"{of}.joined", attention.o_proj)
        found[f"{of}.norm2.weight"] = block.post_attention_layernorm.weight
        found |= _affine(f"{of}.gate", block.mlp.gate_proj)
        found |= _affine(f"{of}.wide", block.mlp.up_proj)
        found |= _affine(f"{of}.narrow", block.mlp.down_proj)
    found["language.norm.weight"] = vlm.final_norm.weight
    return found | {"language.said.weight": vlm.unembedding.weight}


def _affine(name: str, module: Any) -> Weights:
    """Weight and bias of one module, if it has one."""
    found = {f"{name}.weight": module.weight}
    return found if module.bias is None else found | {f"{name}.bias": module.bias}
