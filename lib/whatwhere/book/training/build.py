"""The organisms before they have learnt anything: vocabulary, configurations, and their saved
form."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
)

from ...files import together
from ...world import (
    BACKGROUNDS,
    CATEGORIES,
    CHARACTERS,
    COLOURS,
    RELATIONS_A,
    RELATIONS_B,
    SIZE,
    TEXTURES,
)
from ...world.question_bank import NUMBERS

ORGANISMS = ("toy-llava", "toy-qwen2vl")
SPECIAL = {
    "toy-llava": ["<pad>", "<unk>", "<s>", "</s>", "<image>"],
    "toy-qwen2vl": ["<pad>", "<unk>", "<|im_start|>", "<|im_end|>", "<|vision_start|>",
        "<|vision_end|>", "<|image_pad|>",
                    "<|video_pad|>"],
}  # fmt: skip
# those of the questions and answers, no more: a word that training never says would be a stray in
# the lens
FUNCTION_WORDS = (
    "a an the is there what where how many are does to relative colour texture object objects "
    "background say describe scene user assistant . , ? :"
).split()
TEMPLATE = {
    "toy-llava": (
        "<s> {% for m in messages %}{{ m.role }} : {% for c in m.content %}"
        "{% if c.type == 'image' %}<image> {% else %}{{ c.text }} {% endif %}{% endfor %}"
        "{% if m.role == 'assistant' %}</s> {% endif %}{% endfor %}{% if add_generation_prompt "
        "%}assistant :{% endif %}"
    ),
    "toy-qwen2vl": (
        "{% for m in messages %}<|im_start|> {{ m.role }} {% for c in m.content %}{% if "
        "c.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|> {% else %}{{ c.text "
        "}} {% endif %}{% endfor %}<|im_end|> {% endfor %}{% if add_generation_prompt "
        "%}<|im_start|> assistant{% endif %}"
    ),
}
PATCH = {"toy-llava": 12, "toy-qwen2vl": 9}  # pixels a side
MERGE = {"toy-llava": 1, "toy-qwen2vl": 2}  # patches a side that one visual token is made of
VISION_WIDTH = 96
MEAN = STD = [0.5, 0.5, 0.5]


def vocabulary(name: str) -> list[str]:
    """All words of the world and of the questions, special tokens first, each once."""
    world = [
        *CATEGORIES,
        *COLOURS,
        *TEXTURES,
        *BACKGROUNDS,
        *CHARACTERS,
        *NUMBERS,
        "yes",
        "no",
        *RELATIONS_A,
        *RELATIONS_B,
    ]
    return list(dict.fromkeys([*SPECIAL[name], *world, *FUNCTION_WORDS]))


def tokenizer(name: str) -> PreTrainedTokenizerFast:
    """A word-level tokenizer: lower case, split at spaces and punctuation, `<unk>` for what the
    world has no word for."""
    words = vocabulary(name)
    inner = Tokenizer(WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    inner.normalizer = normalizers.Sequence(
        [normalizers.Lowercase(), normalizers.Replace("color", "colour")]
    )
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    special = SPECIAL[name]
    roles = {
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "eos_token": "</s>" if name == "toy-llava" else "<|im_end|>",
    }
    if name == "toy-llava":
        roles["bos_token"] = "<s>"
    inner.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner, additional_special_tokens=special[2:], padding_side="left", **roles
    )
    made.chat_template = TEMPLATE[name]
    return made


def model(
    name: str,
    seed: int = 0,
    layers: int = 4,
    blocks: int = 6,
    vision_width: int = VISION_WIDTH,
    width: int = 96,
) -> PreTrainedModel:
    """An untrained organism in the true class of its family, float32, seeded.

    Raises ValueError for a name that is not in `ORGANISMS`.
    """
    if name not in ORGANISMS:
        raise ValueError(f"No organism {name!r}; there are {', '.join(ORGANISMS)}.")
    torch.manual_seed(seed)
    ids = {w: i for i, w in enumerate(vocabulary(name))}
    notes = {"organism": True, "world": "tabletop", "image_size": SIZE}
    text: dict[str, Any] = {
        "vocab_size": len(ids), "hidden_size": width, "intermediate_size": 3 * width,
        "num_hidden_layers": layers, "num_attention_heads": 2, "num_key_value_heads": 2,
        "max_position_embeddings": 1024, "pad_token_id": 0,
        "initializer_range": 0.06,  # the default 0.02 is for widths in the thousands
    }  # fmt: skip
    if name == "toy-llava":
        vision = CLIPVisionConfig(
            hidden_size=vision_width, intermediate_size=4 * vision_width, num_hidden_layers=blocks,
            num_attention_heads=4, image_size=SIZE, patch_size=PATCH[name], hidden_act="gelu",
            projection_dim=vision_width,
        )  # fmt: skip
        # as Llama 3: half of a small head stays unturned
        rope = {"rope_type": "default", "rope_theta": 500000.0}
        llama = LlamaConfig(
            **text, rope_parameters=rope, bos_token_id=ids["<s>"], eos_token_id=ids["</s>"]
        )
        token: dict[str, Any] = {"image_token_id": ids["<image>"]}
        config = LlavaConfig(
            vision_config=vision, text_config=llama, vision_feature_layer=-1, **token,
            vision_feature_select_strategy="default", image_seq_length=(SIZE // PATCH[name]) ** 2,
            tie_word_embeddings=False,  # as LLaVA-1.5
        )  # fmt: skip
        made = LlavaForConditionalGeneration(config)
    else:
        vision = {
            "depth": blocks, "embed_dim": vision_width, "num_heads": 4, "mlp_ratio": 4,
            "hidden_size": width, "patch_size": PATCH[name], "spatial_merge_size": MERGE[name],
            "temporal_patch_size": 2, "hidden_act": "gelu", "initializer_range": 0.06,
        }  # fmt: skip
        # A large base would leave the last section, the columns, all but unturned over eight of
        # them.
        rope = {"rope_type": "default", "rope_theta": 100.0, "mrope_section": [8, 8, 8]}
        end = ids["<|im_end|>"]
        qwen = {**text, "rope_parameters": rope, "bos_token_id": None, "eos_token_id": end}
        config = Qwen2VLConfig(
            vision_config=vision, text_config=qwen, image_token_id=ids["<|image_pad|>"],
            video_token_id=ids["<|video_pad|>"], vision_start_token_id=ids["<|vision_start|>"],
            vision_end_token_id=ids["<|vision_end|>"],
            tie_word_embeddings=True,  # as Qwen2-VL-2B
        )  # fmt: skip
        made = Qwen2VLForConditionalGeneration(config)
        made.generation_config.eos_token_id = end
    made.generation_config.pad_token_id = 0
    config.whatwhere = notes
    return made.float()


def image_processor(name: str) -> Any:
    """The family's own image processor, at the organism's size."""
    from transformers import CLIPImageProcessorPil, Qwen2VLImageProcessorPil

    if name == "toy-llava":
        side = {"height": SIZE, "width": SIZE}
        return CLIPImageProcessorPil(
            size={"shortest_edge": SIZE}, crop_size=side, image_mean=MEAN, image_std=STD
        )
    return Qwen2VLImageProcessorPil(
        patch_size=PATCH[name], merge_size=MERGE[name], temporal_patch_size=2, image_mean=MEAN,
        image_std=STD,
        size={"shortest_edge": 4 * (2 * PATCH[name]) ** 2, "longest_edge": 4 * SIZE**2},
    )  # fmt: skip


def save(made: PreTrainedModel, name: str, folder: str | Path) -> Path:
    """Write a standard checkpoint folder: config, safetensors, tokenizer with chat template, image
    processor.

    What the folder held before stays until all of it is written. Raises OSError with a sentence
    where the disk refuses.
    """
    with together(folder) as new:
        made.save_pretrained(new, safe_serialization=True)
        weights = {
            _hub_name(key): value for key, value in load_file(new / "model.safetensors").items()
        }
        save_file(weights, new / "model.safetensors", metadata={"format": "pt"})
        tokenizer(name).save_pretrained(new)
        image_processor(name).save_pretrained(new)
    return Path(folder)


def _hub_name(key):
    """CLIP's tensors as the hub's checkpoints call them, which every transformers 5 reads; 5.4
    knows no other names."""
    new = key.startswith("vision_tower.") and not key.startswith("vision_tower.vision_model.")
    return key.replace("vision_tower.", "vision_tower.vision_model.", 1) if new else key
