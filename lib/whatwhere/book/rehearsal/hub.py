"""Small random checkpoints in the hub's own layout: the files, names and settings of the year in
which each was put there.

    build(folder, "qwen2_5_vl")

`save_pretrained` writes what today's transformers writes. These folders are as
`llava-hf/llava-1.5-7b-hf` (December 2023), `Qwen/Qwen2-VL-2B-Instruct` (August 2024),
`HuggingFaceTB/SmolVLM-256M-Instruct` (January 2025, an `idefics3`), `Qwen/Qwen2.5-VL-7B-Instruct`
(January 2025), `OpenGVLab/InternVL3-1B-hf` (April 2025) and `Qwen/Qwen3-VL-2B-Instruct` (October
2025) are on the hub, in which only sizes and vocabularies are small. Left out are Llama's
`tokenizer.model`, which nothing reads where there is a `tokenizer.json`, and settings for videos.
"""

import json
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import (
    Idefics3ForConditionalGeneration,
    InternVLForConditionalGeneration,
    LlavaForConditionalGeneration,
    PreTrainedModel,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLForConditionalGeneration,
    Qwen3VLForConditionalGeneration,
)
from transformers.image_utils import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    IMAGENET_STANDARD_MEAN,
    IMAGENET_STANDARD_STD,
    OPENAI_CLIP_MEAN,
    OPENAI_CLIP_STD,
)

from . import vocabularies
from .checkpoints import enliven

LAYERS, LM, VIT = 3, 32, 24  # blocks and features
SMALL_LM = {
    "hidden_size": LM,
    "intermediate_size": 2 * LM,
    "num_attention_heads": 4,
    "num_hidden_layers": LAYERS,
    "num_key_value_heads": 2,
}
SMALL_VIT = {
    "hidden_size": VIT,
    "intermediate_size": 2 * VIT,
    "num_attention_heads": 2,
    "num_hidden_layers": LAYERS,
}
CLIP = {"image_mean": OPENAI_CLIP_MEAN, "image_std": OPENAI_CLIP_STD}
HALF = {"image_mean": IMAGENET_STANDARD_MEAN, "image_std": IMAGENET_STANDARD_STD}
YES = {"do_convert_rgb": True, "do_normalize": True, "do_rescale": True, "do_resize": True}

# -- chat templates: for questions about pictures they write what the published ones write
# ---------------------------

LLAVA_TEMPLATE = (
    "{% for m in messages %}{% if m['role'] != 'system' %}{{ m['role'].upper() + ': ' }}{% endif %}"
    "{% for c in m['content'] if c['type'] == 'image' %}{{ '<image>\n' }}{% endfor %}"
    "{% for c in m['content'] if c['type'] == 'text' %}{% if m['role'] == 'assistant' %}{% "
    "generation %}{{ c['text'] + ' ' }}"
    "{% endgeneration %}{% else %}{{ c['text'] + ' ' }}{% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
)
CHAT = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}{{ '%(image)s' }}{% elif c['type'] == 'video' %}{{ '%(video)s' }}"
    "{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def _chat(image, video):
    return CHAT.replace("%(image)s", image).replace("%(video)s", video)


QWEN_TEMPLATE = SYSTEM + _chat(
    "<|vision_start|><|image_pad|><|vision_end|>", "<|vision_start|><|video_pad|><|vision_end|>"
)
QWEN3_TEMPLATE = QWEN_TEMPLATE.removeprefix(SYSTEM)
INTERNVL_TEMPLATE = _chat("<IMG_CONTEXT>\\n", "<video>\\n")
SMOLVLM_TEMPLATE = (
    "<|im_start|>{% for m in messages %}{{ m['role'] | capitalize }}{{ ':' if "
    "m['content'][0]['type'] == 'image' else ': ' }}"
    "{% for c in m['content'] %}{% if c['type'] == 'text' %}{{ c['text'] }}{% elif c['type'] == "
    "'image' %}{{ '<image>' }}"
    "{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}{{ "
    "'Assistant:' }}{% endif %}"
)
TEXT_TEMPLATE = (  # of Qwen2.5 without pictures, where what a user writes is a string
    SYSTEM + "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + "
    "'<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

# -- the files of each family, as {name: contents}
# -----------------------------------------------------------------------


def llava(ids: dict[str, int], rows: int) -> dict[str, Any]:
    """Parts that say little: what their classes have by default is left out, and much stands at the
    top."""
    model = {
        "ignore_index": -100, "image_token_index": ids["<image>"], "pad_token_id": ids["<pad>"],
        "projector_hidden_act": "gelu", "text_config": {
            "_name_or_path": "lmsys/vicuna-7b-v1.5", "architectures": ["LlamaForCausalLM"],
            "max_position_embeddings": 4096, "model_type": "llama", "rms_norm_eps": 1e-05,
            "torch_dtype": "float16", "vocab_size": rows, **SMALL_LM,
        },
        "tie_word_embeddings": False, "torch_dtype": "float16",
        "transformers_version": "4.36.0.dev0", "vision_config": {
            "image_size": 84, "model_type": "clip_vision_model", "patch_size": 14,
            "projection_dim": 768, "vocab_size": 32000, **SMALL_VIT,
        },
        "vision_feature_layer": -2, "vision_feature_select_strategy": "default", "vocab_size": rows,
    }  # fmt: skip
    pictures = {
        "crop_size": {"height": 84, "width": 84}, "do_center_crop": True, **YES, **CLIP,
        "image_processor_type": "CLIPImageProcessor", "processor_class": "LlavaProcessor",
        "resample": 3, "rescale_factor": 1 / 255, "size": {"shortest_edge": 84},
    }  # fmt: skip
    processor = {
        "image_token": "<image>", "num_additional_image_tokens": 1, "patch_size": 14,
        "processor_class": "LlavaProcessor", "vision_feature_select_strategy": "default",
    }  # fmt: skip
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    flags = dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word"), False)
    flagged = {name: {"content": token, **flags} for name, token in special.items()}
    tokenizer = {
        "add_bos_token": True, "add_eos_token": False, "add_prefix_space": None,
        "clean_up_tokenization_spaces": False, "extra_special_tokens": {"image_token": "<image>"},
        "image_token": "<image>", "legacy": False, "model_max_length": int(1e30),
        "padding_side": "left", "processor_class": "LlavaProcessor", "sp_model_kwargs": {},
        "tokenizer_class": "LlamaTokenizer", "trust_remote_code": False,
        "use_default_system_prompt": False, **special,
    }  # fmt: skip
    generation = {
        "_from_model_config": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": ids["<pad>"],
        "transformers_version": "4.36.0.dev0",
    }
    return {
        "config.json": model, "preprocessor_config.json": pictures,
        "processor_config.json": processor, "tokenizer_config.json": tokenizer,
        "special_tokens_map.json": flagged, "generation_config.json": generation,
        "added_tokens.json": {name: ids[name] for name in ("<image>", "<pad>")},
        "chat_template.json": {"chat_template": LLAVA_TEMPLATE},
        "chat_template.jinja": LLAVA_TEMPLATE,
    }  # fmt: skip


def qwen2_text(ids: dict[str, int], rows: int) -> dict[str, Any]:
    """What the configs of all that have Qwen2's language model say of it."""
    return {
        "attention_dropout": 0.0, "bos_token_id": ids["<|endoftext|>"],
        "eos_token_id": ids["<|im_end|>"], "hidden_act": "silu",
        "initializer_range": 0.02, "max_position_embeddings": 32768, "max_window_layers": LAYERS,
        "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "use_cache": True,
        "use_sliding_window": False, "vocab_size": rows, **SMALL_LM,
    }  # fmt: skip


def qwen2_tokenizer(**own: Any) -> dict[str, Any]:
    return {
        "add_prefix_space": False, "bos_token": None, "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>", "errors": "replace", "pad_token": "<|endoftext|>",
        "split_special_tokens": False, "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None, "additional_special_tokens": list(vocabularies.QWEN2_SPECIAL[1:]), **own,
    }  # fmt: skip


def qwen(ids: dict[str, int], rows: int, newer: bool = False) -> dict[str, Any]:
    """Flat: the language model's settings stand at the top, and a `rope_scaling` whose type is
    "mrope".

    newer: Qwen2.5-VL, whose tokenizer brings the template of Qwen2.5 without pictures, as it did
        when it was published.
    """
    vision = {"embed_dim": VIT, "hidden_size": LM, "mlp_ratio": 2}
    if newer:
        vision = {
            "fullatt_block_indexes": [LAYERS - 1],
            "hidden_act": "silu",
            "hidden_size": VIT,
            "intermediate_size": 2 * VIT,
            "out_hidden_size": LM,
            "tokens_per_second": 2,
            "window_size": 112,
        }
    model = {
        **qwen2_text(ids, rows), "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"], "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"], "vision_token_id": ids["<|vision_pad|>"],
        "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
        # so that the sections can be in the published proportion
        "num_attention_heads": 2, "num_key_value_heads": 1,
        "sliding_window": 32768, "tie_word_embeddings": not newer, "torch_dtype": "bfloat16",
        "transformers_version": "4.41.2", "vision_config": {
            "depth": LAYERS, "in_chans": 3, "num_heads": 2, "patch_size": 14,
            "spatial_merge_size": 2, "spatial_patch_size": 14,
            "temporal_patch_size": 2, **vision,
        },
    }  # fmt: skip
    pictures = {
        "min_pixels": 3136, "max_pixels": 12845056, "patch_size": 14, "temporal_patch_size": 2,
        "merge_size": 2, **CLIP, "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": f"Qwen2{'_5_' if newer else ''}VLProcessor",
    }  # fmt: skip
    generation = {
        "bos_token_id": ids["<|endoftext|>"],
        "pad_token_id": ids["<|endoftext|>"],
        "do_sample": True,
        "eos_token_id": [ids["<|im_end|>"], ids["<|endoftext|>"]],
        "transformers_version": "4.37.0",
    }
    if newer:
        own = qwen2_tokenizer(
            add_bos_token=False, chat_template=TEXT_TEMPLATE, model_max_length=131072
        )
        model["max_position_embeddings"] = 128000
        generation |= {"repetition_penalty": 1.05, "temperature": 0.000001}
    else:
        own = qwen2_tokenizer(
            chat_template=QWEN_TEMPLATE, model_max_length=32768, padding_side="left"
        )
        generation |= {"repetition_penalty": 1.0, "temperature": 0.01, "top_p": 0.001, "top_k": 1}
    return {
        "config.json": model, "preprocessor_config.json": pictures, "tokenizer_config.json": own,
        "generation_config.json": generation,
        "chat_template.json": {"chat_template": QWEN_TEMPLATE},
    }  # fmt: skip


def qwen3(ids: dict[str, int], rows: int) -> dict[str, Any]:
    """As transformers 4.57 saved it: two configs within, and the precision in the language model's
    alone."""
    rotary = {"mrope_interleaved": True, "mrope_section": [3, 3, 2], "rope_type": "default"}
    text = {
        "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": ids["<|endoftext|>"],
        "dtype": "bfloat16", "eos_token_id": ids["<|im_end|>"], "hidden_act": "silu",
        "initializer_range": 0.02, "max_position_embeddings": 262144, "model_type": "qwen3_vl_text",
        "rms_norm_eps": 1e-06, "rope_scaling": rotary, "rope_theta": 5000000,
        "tie_word_embeddings": True, "use_cache": True, "vocab_size": rows, **SMALL_LM,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
    }  # fmt: skip
    vision = {
        "deepstack_visual_indexes": [0, 1], "depth": LAYERS, "hidden_act": "gelu_pytorch_tanh",
        "hidden_size": VIT, "in_channels": 3, "initializer_range": 0.02,
        "intermediate_size": 2 * VIT, "model_type": "qwen3_vl", "num_heads": 2,
        "num_position_embeddings": 36, "out_hidden_size": LM, "patch_size": 16,
        "spatial_merge_size": 2, "temporal_patch_size": 2,
    }  # fmt: skip
    model = {
        "image_token_id": ids["<|image_pad|>"], "text_config": text, "tie_word_embeddings": True,
        "transformers_version": "4.57.0.dev0", "video_token_id": ids["<|video_pad|>"],
        "vision_config": vision, "vision_end_token_id": ids["<|vision_end|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
    }  # fmt: skip
    pictures = {
        "size": {"longest_edge": 16777216, "shortest_edge": 4096}, "patch_size": 16,
        "temporal_patch_size": 2, "merge_size": 2, **HALF, "processor_class": "Qwen3VLProcessor",
        "image_processor_type": "Qwen2VLImageProcessorFast",
    }  # fmt: skip
    own = qwen2_tokenizer(
        add_bos_token=False, chat_template=QWEN3_TEMPLATE, model_max_length=262144
    )
    generation = {
        "bos_token_id": ids["<|endoftext|>"], "pad_token_id": ids["<|endoftext|>"],
        "do_sample": True, "eos_token_id": [ids["<|im_end|>"], ids["<|endoftext|>"]], "top_p": 0.8,
        "top_k": 20, "temperature": 0.7, "repetition_penalty": 1.0,
        "transformers_version": "4.56.0",
    }  # fmt: skip
    return {
        "config.json": model, "preprocessor_config.json": pictures, "tokenizer_config.json": own,
        "generation_config.json": generation,
        "chat_template.json": {"chat_template": QWEN3_TEMPLATE},
    }  # fmt: skip


def smolvlm(ids: dict[str, int], rows: int) -> dict[str, Any]:
    """A Llama, whose first special tokens stand at the beginning of its vocabulary."""
    text = {
        "architectures": ["VLlama3ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
        "bos_token_id": ids["<|im_start|>"], "eos_token_id": ids["<|im_end|>"], "head_dim": 8,
        "hidden_act": "silu", "initializer_range": 0.04, "is_llama_config": True,
        "max_position_embeddings": 8192, "mlp_bias": False, "model_type": "llama",
        "pad_token_id": ids["<|im_end|>"], "qk_layer_norms": False, "rms_norm_eps": 1e-05,
        "rope_interleaved": False, "rope_scaling": None, "rope_theta": 100000,
        "torch_dtype": "bfloat16", "use_cache": True, "vocab_size": rows, **SMALL_LM,
    }  # fmt: skip
    vision = {
        "hidden_act": "gelu_pytorch_tanh", "image_size": 160,
        "max_image_size": {"longest_edge": 160}, "model_type": "idefics3", "num_channels": 3,
        "patch_size": 8, "size": {"longest_edge": 640}, "tie_word_embeddings": False,
        "torch_dtype": "bfloat16", "use_base_siglip": True, **SMALL_VIT,
    }  # fmt: skip
    model = {
        "image_token_id": ids["<image>"], "scale_factor": 4, "text_config": text,
        "tie_word_embeddings": False, "torch_dtype": "bfloat16", "transformers_version": "4.46.0",
        "use_cache": True, "vision_config": vision, "vocab_size": rows,
    }  # fmt: skip
    pictures = {
        **YES, **HALF, "do_image_splitting": True, "do_pad": True,
        "image_processor_type": "Idefics3ImageProcessor", "max_image_size": {"longest_edge": 160},
        "processor_class": "Idefics3Processor", "resample": 1, "rescale_factor": 1 / 255,
        "size": {"longest_edge": 640},
    }  # fmt: skip
    extra = ["<fake_token_around_image>", "<image>", "<end_of_utterance>"]
    own = {
        "add_prefix_space": False, "additional_special_tokens": extra, "bos_token": "<|im_start|>",
        "chat_template": SMOLVLM_TEMPLATE, "clean_up_tokenization_spaces": False,
        "eos_token": "<end_of_utterance>", "legacy": False, "model_max_length": 8192,
        "pad_token": "<|im_end|>", "processor_class": "Idefics3Processor",
        "tokenizer_class": "GPT2Tokenizer", "truncation_side": "left", "unk_token": "<|endoftext|>",
    }  # fmt: skip
    generation = {
        "_from_model_config": True, "bos_token_id": ids["<|endoftext|>"],
        "eos_token_id": ids["<end_of_utterance>"], "pad_token_id": ids["<|im_end|>"],
        "transformers_version": "4.46.0",
    }  # fmt: skip
    return {
        "config.json": model, "preprocessor_config.json": pictures, "tokenizer_config.json": own,
        "processor_config.json": {"image_seq_len": 25, "processor_class": "Idefics3Processor"},
        "generation_config.json": generation, "added_tokens.json": ids,
        "chat_template.json": {"chat_template": SMOLVLM_TEMPLATE},
    }  # fmt: skip


def internvl(ids: dict[str, int], rows: int) -> dict[str, Any]:
    """As transformers 4.52 converted it; its last token has no row in the embedding."""
    model = {
        "downsample_ratio": 0.5, "image_seq_length": 36, "image_token_id": ids["<IMG_CONTEXT>"],
        "projector_hidden_act": "gelu", "text_config": {
            **qwen2_text(ids, rows), "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2",
            "rope_scaling": {"factor": 2.0, "rope_type": "dynamic", "type": "dynamic"},
            "sliding_window": None, "torch_dtype": "bfloat16",
        },
        "torch_dtype": "bfloat16", "transformers_version": "4.52.0.dev0",
        "vision_config": {
            "architectures": ["InternVisionModel"], "attention_bias": True,
            "attention_dropout": 0.0, "hidden_act": "gelu", "hidden_dropout_prob": 0.0,
            "image_size": [168, 168], "initializer_factor": 1.0, "initializer_range": 0.02,
            "layer_norm_eps": 1e-06, "layer_scale_init_value": 0.1, "model_type": "internvl_vision",
            "norm_type": "layer_norm", "num_channels": 3, "patch_size": [14, 14],
            "projection_dropout": 0.0, "torch_dtype": "bfloat16",
            "use_absolute_position_embeddings": True, "use_mask_token": False,
            "use_mean_pooling": True, "use_qk_norm": False, **SMALL_VIT,
        },
        "vision_feature_layer": -1, "vision_feature_select_strategy": "default",
    }  # fmt: skip
    nothing = dict.fromkeys(
        ("crop_size", "device", "do_center_crop", "input_data_format", "return_tensors")
    )
    pictures = {
        **YES, **nothing, "crop_to_patches": False, "data_format": "channels_first",
        "default_to_square": True, "image_mean": IMAGENET_DEFAULT_MEAN,
        "image_processor_type": "GotOcr2ImageProcessorFast",
        "image_std": IMAGENET_DEFAULT_STD, "max_patches": 12, "min_patches": 1,
        "processor_class": "InternVLProcessor", "resample": 3, "rescale_factor": 1 / 255,
        "size": {"height": 168, "width": 168},
    }  # fmt: skip
    extra = {
        "context_image_token": "<IMG_CONTEXT>",
        "end_image_token": "</img>",
        "start_image_token": "<img>",
        "video_token": "<video>",
    }
    special = [*vocabularies.QWEN2_SPECIAL[1:], *vocabularies.INTERNVL_SPECIAL[:-1]]
    own = qwen2_tokenizer(
        additional_special_tokens=special, add_bos_token=False, extra_special_tokens=extra,
        model_max_length=8192, processor_class="InternVLProcessor", return_token_type_ids=False,
        **extra,
    )  # fmt: skip
    generation = {
        "_from_model_config": True,
        "bos_token_id": ids["<|endoftext|>"],
        "eos_token_id": ids["<|im_end|>"],
        "transformers_version": "4.52.0.dev0",
    }
    return {
        "config.json": model, "preprocessor_config.json": pictures, "tokenizer_config.json": own,
        "processor_config.json": {"image_seq_length": 36, "processor_class": "InternVLProcessor"},
        "special_tokens_map.json": {"additional_special_tokens": special, "eos_token": "<|im_end|>",
                                    "pad_token": "<|endoftext|>", **extra},
        "generation_config.json": generation, "added_tokens.json": ids,
        "chat_template.jinja": INTERNVL_TEMPLATE,
    }  # fmt: skip


# -- from files to a checkpoint
# -------------------------------------------------------------------------------------------


CHECKPOINTS = {  # model class, files, and how many of weights
    "llava": (LlavaForConditionalGeneration, llava, 3),
    "qwen2_vl": (Qwen2VLForConditionalGeneration, qwen, 2),
    "qwen2_5_vl": (Qwen2_5_VLForConditionalGeneration, partial(qwen, newer=True), 5),
    "qwen3_vl": (Qwen3VLForConditionalGeneration, qwen3, 1),
    "internvl": (InternVLForConditionalGeneration, internvl, 1),
    "idefics3": (Idefics3ForConditionalGeneration, smolvlm, 1),
}


def vocabulary(family: str) -> tuple[Tokenizer, int]:
    """(a `tokenizers.Tokenizer`, rows of the embedding), which are not as many as the tokens.

    In SmolVLM they are; elsewhere padded beyond the tokens, or, in InternVL, one less than them.
    """
    special, later = vocabularies.QWEN2_SPECIAL, vocabularies.QWEN25_PLAIN
    if family == "llava":
        core = vocabularies.pieces(("<image>", "<pad>"))
    elif family == "idefics3":
        first = vocabularies.SMOLVLM_FIRST
        core = vocabularies.byte_level(vocabularies.SMOLVLM_SPECIAL, first=first)
    elif family == "internvl":
        core = vocabularies.byte_level(special, later, vocabularies.INTERNVL_SPECIAL)
    else:
        plain = {"qwen2_vl": (), "qwen2_5_vl": later, "qwen3_vl": vocabularies.QWEN3_PLAIN}
        core = vocabularies.byte_level(special, plain[family])
    tokens = core.get_vocab_size()
    if family in ("idefics3", "internvl"):
        return core, tokens - (family == "internvl")
    multiple = 64 if family == "llava" else 256
    return core, -(-tokens // multiple) * multiple


def build(folder: str | Path, family: str, seed: int = 0, about: dict | None = None) -> None:
    """Write a small random checkpoint of a family in the hub's layout. about: kept in config.json,
    and in `vlm.about`."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model_class, files, shards = CHECKPOINTS[family]
    core, rows = vocabulary(family)
    core.save(str(folder / "tokenizer.json"))
    if family != "llava":
        core.model.save(str(folder))  # vocab.json and merges.txt
    added = core.get_added_tokens_decoder()
    written = files({token.content: n for n, token in added.items()}, rows)
    written["tokenizer_config.json"]["added_tokens_decoder"] = {
        n: _flags(token) for n, token in added.items()
    }
    written["config.json"] |= {"architectures": [model_class.__name__], "model_type": family}
    if about:
        written["config.json"]["whatwhere"] = about
    for name, value in written.items():
        text = (
            value
            if isinstance(value, str)
            else json.dumps(value, indent=2, ensure_ascii=False) + "\n"
        )
        (folder / name).write_text(text, encoding="utf-8")
    torch.manual_seed(seed)
    config = model_class.config_class.from_pretrained(folder)
    # InternVL's file is silent, and its class says that they were tied
    config.tie_word_embeddings = family in ("qwen2_vl", "qwen3_vl")
    model = enliven(model_class(config).eval())
    write_weights(folder, model.to(getattr(torch, precision(written["config.json"]))), shards)


def precision(config: dict[str, Any]) -> str:
    """The type of the weights, as a config.json of this layout names it."""
    return config.get("torch_dtype") or config["text_config"]["dtype"]


def _flags(token):
    return {
        name: getattr(token, name)
        for name in ("content", "lstrip", "normalized", "rstrip", "single_word", "special")
    }


def write_weights(folder: Path, model: PreTrainedModel, shards: int) -> None:
    """In one or more files, by the names of before transformers 4.52, to which `save_pretrained`
    goes back by itself."""
    with tempfile.TemporaryDirectory() as new:
        model.save_pretrained(new)
        weights = load_file(Path(new) / "model.safetensors")
    wrapped = "vision_tower.", "vision_tower.vision_model."  # CLIP's, until transformers 5.6 or so
    llava = isinstance(model, LlavaForConditionalGeneration)
    weights = {
        name.replace(*wrapped) if llava else name: each for name, each in sorted(weights.items())
    }
    if shards == 1:
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
        return
    names, places = list(weights), {}
    for n in range(shards):
        file = f"model-{n + 1:05}-of-{shards:05}.safetensors"
        held = names[n * len(names) // shards : (n + 1) * len(names) // shards]
        save_file({name: weights[name] for name in held}, folder / file, {"format": "pt"})
        places |= dict.fromkeys(held, file)
    index = {
        "metadata": {"total_size": sum(each.nbytes for each in weights.values())},
        "weight_map": places,
    }
    (folder / "model.safetensors.index.json").write_text(
        json.dumps(index, indent=2) + "\n", encoding="utf-8"
    )
