"""Small random checkpoints in the true classes, saved as standard folders.

    llava(folder)            # LlavaForConditionalGeneration, CLIP ViT, Llama
    qwen2vl(folder, merge=3)  # Qwen2VLForConditionalGeneration; with window=2 the class of Qwen2.5
    qwen3vl(folder), internvl(folder), smolvlm(folder)

Each folder has config.json, model.safetensors, tokenizer, chat template and image processor, as a
hub checkpoint has, and is read back by `whatwhere.load`. Weights are large enough that mistakes
show.
"""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import (
    CLIPVisionConfig,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Config,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

WORDS = (
    "is there a an the what which how many colour color object on in front behind left right of "
    "under cup bear bowl book red green blue yellow striped plain wood grass yes no one two three "
    "four ? . , :"
).split()

LLAVA_TEMPLATE = (
    "{% for m in messages %}{{ 'user : ' }}{% for c in m['content'] %}{% if c['type'] == "
    "'image' %}<image> {% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endfor "
    "%}{% if add_generation_prompt %}{{ ' assistant :' }}{% endif %}"
)
QWEN_TEMPLATE = (
    "<s>{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'image' "
    "%}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c['text'] }}{% endif "
    "%}{% endfor %}{% endfor %}{% if add_generation_prompt %}{{ ' :' }}{% endif %}"
)
SMOLVLM_TEMPLATE = (
    "<s>{% for m in messages %}{{ 'user :' }}{% for c in m['content'] %}{% if c['type'] == "
    "'image' %}<image>"
    "{% else %}{{ c['text'] }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant :' }}{% endif %}"
)
SMOLVLM = {  # by `model_type`
    "smolvlm": (SmolVLMConfig, SmolVLMForConditionalGeneration, SmolVLMImageProcessorPil),
    "idefics3": (Idefics3Config, Idefics3ForConditionalGeneration, Idefics3ImageProcessorPil),
}


def word_tokenizer(template: str, *own: str) -> PreTrainedTokenizerFast:
    """A word-level tokenizer: lower case, split at blanks and punctuation, `own` special tokens of
    the family."""
    special = ["<pad>", "<s>", "</s>", "<unk>", *own]
    core = Tokenizer(WordLevel({w: i for i, w in enumerate([*special, *WORDS])}, unk_token="<unk>"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        padding_side="left",
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(own)})
    tokenizer.chat_template = template
    return tokenizer


def llava(
    folder: str | Path,
    *,
    image: int = 24,
    patch: int = 6,
    vision_blocks: int = 3,
    feature_layer: int | list[int] = -1,
    strategy: str = "default",
    layers: int = 3,
    heads: int = 4,
    kv_heads: int = 2,
    tied: bool = False,
    hidden: int = 32,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    about: dict | None = None,
    **config: Any,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, Any]:
    """Save a random LLaVA to `folder` and return (model, tokenizer, image_processor)."""
    tokenizer = word_tokenizer(LLAVA_TEMPLATE, "<image>")
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": image}, crop_size={"height": image, "width": image}
    )
    settings = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=24,
            intermediate_size=48,
            num_hidden_layers=vision_blocks,
            num_attention_heads=2,
            image_size=image,
            patch_size=patch,
            projection_dim=8,
        ),
        text_config=LlamaConfig(**language(tokenizer, layers, tied, hidden, heads, kv_heads)),
        **{
            "image_token_index": tokenizer.convert_tokens_to_ids("<image>"),
            "image_seq_length": (image // patch) ** 2,
            "vision_feature_layer": feature_layer,
            "vision_feature_select_strategy": strategy,
            "tie_word_embeddings": tied,
            **_noted(about),
            **config,
        },
    )
    return save(folder, LlavaForConditionalGeneration, settings, tokenizer, processor, dtype, seed)


def qwen2vl(
    folder: str | Path,
    *,
    patch: int = 4,
    merge: int = 2,
    vision_blocks: int = 3,
    layers: int = 3,
    heads: int = 4,
    kv_heads: int = 2,
    tied: bool = False,
    hidden: int = 32,
    max_tokens: int = 128,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    about: dict | None = None,
    window: int | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, Any]:
    """Save a random Qwen2-VL to `folder` and return (model, tokenizer, image_processor).

    window: visual tokens a side; with it, it is a Qwen2.5-VL whose last block alone sees the whole
        picture.
    """
    tokenizer = word_tokenizer(QWEN_TEMPLATE, *QWEN_MARKS)
    token = (patch * merge) ** 2
    processor = Qwen2VLImageProcessorPil(
        size={"shortest_edge": token, "longest_edge": max_tokens * token},
        patch_size=patch,
        merge_size=merge,
    )
    half = hidden // heads // 2
    common = dict(depth=vision_blocks, num_heads=2, patch_size=patch, spatial_merge_size=merge)
    vision: dict[str, Any] = dict(embed_dim=24, hidden_size=hidden, mlp_ratio=2)
    config_class, model_class = Qwen2VLConfig, Qwen2VLForConditionalGeneration
    if window:
        vision = dict(
            hidden_size=24,
            out_hidden_size=hidden,
            intermediate_size=48,
            window_size=window * merge * patch,
            fullatt_block_indexes=[vision_blocks - 1],
        )
        config_class, model_class = Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
    settings = config_class(
        vision_config=common | vision,
        text_config=dict(
            **language(tokenizer, layers, tied, hidden, heads, kv_heads),
            rope_parameters={
                "rope_type": "default",
                "rope_theta": 1e4,
                "mrope_section": [half - 2 * (half // 3), half // 3, half // 3],
            },
        ),
        tie_word_embeddings=tied,
        **qwen_ids(tokenizer),
        **_noted(about),
    )
    return save(folder, model_class, settings, tokenizer, processor, dtype, seed)


def qwen3vl(
    folder: str | Path,
    *,
    patch: int = 4,
    merge: int = 2,
    vision_blocks: int = 3,
    deepstack: tuple[int, ...] = (0, 1),
    layers: int = 3,
    kv_heads: int = 2,
    tied: bool = False,
    table: int = 5,
    max_tokens: int = 128,
    seed: int = 0,
    about: dict | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, Any]:
    """Save a random Qwen3-VL to `folder` and return (model, tokenizer, image_processor).

    deepstack: the ViT blocks, from 0, whose states are added in the LM. table: places a side of the
    table that is interpolated. Heads are wider than the LM's states divided by their number.
    """
    tokenizer = word_tokenizer(QWEN_TEMPLATE, *QWEN_MARKS)
    token = (patch * merge) ** 2
    processor = Qwen2VLImageProcessorPil(
        size={"shortest_edge": token, "longest_edge": max_tokens * token},
        patch_size=patch,
        merge_size=merge,
    )
    rotary = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 2, 2]}
    settings = Qwen3VLConfig(
        vision_config=dict(
            depth=vision_blocks,
            hidden_size=24,
            intermediate_size=48,
            num_heads=2,
            patch_size=patch,
            spatial_merge_size=merge,
            out_hidden_size=32,
            num_position_embeddings=table**2,
            deepstack_visual_indexes=list(deepstack),
        ),
        text_config=dict(
            **language(tokenizer, layers, tied, kv_heads=kv_heads),
            head_dim=16,
            rope_parameters=rotary | {"mrope_interleaved": True},
        ),
        tie_word_embeddings=tied,
        **qwen_ids(tokenizer),
        **_noted(about),
    )
    model_class = Qwen3VLForConditionalGeneration
    return save(folder, model_class, settings, tokenizer, processor, torch.float32, seed)


QWEN_MARKS = ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>", "<|video_pad|>")


def _noted(about: dict | None, **named: Any) -> dict[str, Any]:
    """What else a config says: `about`, where the package looks for it."""
    return named | ({"whatwhere": about} if about else {})


def qwen_ids(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    marks = {
        "image": "image_pad",
        "video": "video_pad",
        "vision_start": "vision_start",
        "vision_end": "vision_end",
    }
    return {
        f"{part}_token_id": tokenizer.convert_tokens_to_ids(f"<|{mark}|>")
        for part, mark in marks.items()
    }


def internvl(
    folder: str | Path,
    *,
    image: int = 24,
    patch: int = 3,
    merge: int = 2,
    vision_blocks: int = 3,
    layers: int = 3,
    tied: bool = False,
    pooled: bool = True,
    normed: bool = False,
    seed: int = 0,
    about: dict | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, Any]:
    """Save a random InternVL to `folder` and return (model, tokenizer, image_processor)."""
    tokenizer = word_tokenizer(
        LLAVA_TEMPLATE.replace("<image>", "<IMG_CONTEXT>"), "<img>", "<IMG_CONTEXT>", "</img>"
    )
    processor = GotOcr2ImageProcessorPil(size={"height": image, "width": image})
    settings = InternVLConfig(
        vision_config=InternVLVisionConfig(
            hidden_size=24,
            intermediate_size=48,
            num_hidden_layers=vision_blocks,
            num_attention_heads=2,
            image_size=(image, image),
            patch_size=(patch, patch),
            use_mean_pooling=pooled,
            use_qk_norm=normed,
        ),
        text_config=Qwen2Config(**language(tokenizer, layers, tied)),
        image_seq_length=(image // patch // merge) ** 2,
        downsample_ratio=1 / merge,
        tie_word_embeddings=tied,
        **_noted(about, image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>")),
    )
    return save(
        folder,
        InternVLForConditionalGeneration,
        settings,
        tokenizer,
        processor,
        torch.float32,
        seed,
    )


def smolvlm(
    folder: str | Path,
    *,
    family: str = "smolvlm",
    image: int = 24,
    patch: int = 4,
    merge: int = 2,
    layers: int = 3,
    tied: bool = False,
    whole: tuple[str, ...] = ("<global-img>",),
    seed: int = 0,
    about: dict | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, Any]:
    """Save a random SmolVLM to `folder` and return (model, tokenizer, image_processor).

    family: the architecture's name, "smolvlm" or "idefics3". whole: the tokenizer's token for the
    whole picture; () where it has none, and writes it in several.
    """
    config_class, model_class, processor_class = SMOLVLM[family]
    marks = ("<fake_token_around_image>", "<image>", "<end_of_utterance>", *whole)
    tokenizer = word_tokenizer(SMOLVLM_TEMPLATE, *marks)
    processor = processor_class(
        size={"longest_edge": 2 * image}, max_image_size={"longest_edge": image}
    )
    settings = config_class(
        vision_config=dict(
            hidden_size=24,
            intermediate_size=48,
            num_hidden_layers=3,
            num_attention_heads=2,
            image_size=image,
            patch_size=patch,
        ),
        text_config=LlamaConfig(**language(tokenizer, layers, tied)),
        scale_factor=merge,
        tie_word_embeddings=tied,
        **_noted(about, image_token_id=tokenizer.convert_tokens_to_ids("<image>")),
    )
    return save(folder, model_class, settings, tokenizer, processor, torch.float32, seed)


def language(
    tokenizer: PreTrainedTokenizerBase,
    layers: int,
    tied: bool,
    hidden: int = 32,
    heads: int = 4,
    kv_heads: int = 2,
) -> dict[str, Any]:
    """Settings that the language models of all families have in common."""
    return dict(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        tie_word_embeddings=tied,
        max_position_embeddings=512,
        **special_ids(tokenizer),
    )


def special_ids(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    return {
        f"{part}_token_id": getattr(tokenizer, f"{part}_token_id") for part in ("pad", "bos", "eos")
    }


def save(
    folder: str | Path,
    model_class: type[PreTrainedModel],
    config: PreTrainedConfig,
    tokenizer: PreTrainedTokenizerBase,
    processor: Any,
    dtype: torch.dtype,
    seed: int,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, Any]:
    torch.manual_seed(seed)
    model = enliven(model_class(config).eval())
    weights: Any = model  # transformers' own annotation of `to` is no method's
    weights.to(dtype)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    for part in (model, tokenizer, processor):
        part.save_pretrained(folder)
    return model, tokenizer, processor


@torch.no_grad()
def enliven(model: PreTrainedModel) -> PreTrainedModel:
    """Draw all weights anew: Hugging Face's initial ones are so small that the logits hardly
    differ. Returns the model."""
    for name, weight in model.named_parameters():
        scale = 0.3 if weight.ndim == 1 else weight[0].numel() ** -0.5
        weight.copy_(
            (1.0 if weight.ndim == 1 and "bias" not in name else 0.0)
            + scale * torch.randn_like(weight)
        )
    model.tie_weights()
    return model
