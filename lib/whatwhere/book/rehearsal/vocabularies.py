"""Small tokenizers of the two kinds that the hub's checkpoints have, learnt from the world's words
in a moment.

    byte_level(("<|endoftext|>", "<|im_start|>"))    # Qwen's: bytes, merged; then added tokens
    byte_level(("<image>",), first=("<|im_end|>",)) # SmolLM2's: some stand before the bytes
    pieces(("<image>", "<pad>"))  # Llama's: "▁" for a blank, bytes for what has no piece

All are saved as the fast tokenizers' own files.
"""

import json
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from ...stages import FUNCTION
from ...world import words_of

QWEN2_SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>",
    "<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>",
    "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
QWEN25_PLAIN = (
    "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>",
    "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>",
)  # fmt: skip
QWEN3_PLAIN = (*QWEN25_PLAIN, "<tool_response>", "</tool_response>", "<think>", "</think>")
SMOLVLM_FIRST = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
SMOLVLM_SPECIAL = (
    "<global-img>", *(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)),
    "<fake_token_around_image>", "<image>", *(f"<|reserved_special_token_{n}|>" for n in range(88)),
    "<end_of_utterance>",
)  # fmt: skip
INTERNVL_SPECIAL = (
    "<img>", "</img>", "<IMG_CONTEXT>", "<quad>", "</quad>", "<ref>", "</ref>", "<box>", "</box>",
    "<video>",
)  # fmt: skip
SEVERAL = {  # the world's words that are two pieces of Llama's vocabulary
    "bottle": ("bott", "le"), "bowl": ("bow", "l"), "candle": ("cand", "le"), "mug": ("m", "ug"),
    "stool": ("st", "ool"), "purple": ("pur", "ple"), "pink": ("p", "ink"),
    "striped": ("strip", "ed"), "dotted": ("d", "otted"),
}  # fmt: skip
WORDS = (
    "Is Are What Which How The A Answer system user assistant You helpful USER ASSISTANT yes no "
    "Yes No zero one two three four five of on in front behind left right under bear cup picture "
    "object colour color question word there not and"
).split()
# some of those that Llama's vocabulary ends with: "Ġ" is a letter there, and a blank elsewhere
LETTERS = "éıĠяж的人"
# what splits a text before bytes are merged, as in Qwen2's tokenizer.json: a letter's run keeps the
# blank before it
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| "
    r"?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def text(split: Mapping[str, tuple[str, ...]] = MappingProxyType({})) -> list[str]:
    """Lines to learn from: each word twice after a blank; of those to `split` the first piece so,
    and the last without one."""
    kinds = ("category", "attribute", "background", "character")
    world = [word for kind in kinds for word in words_of(kind) if word not in split]
    return [f"a {word} {word}" for word in (*world, *FUNCTION, *WORDS)] + 9 * [
        f"{split[w][1]} {split[w][0]}" for w in split
    ]


def _learn(core, lines, alphabet=(), first=()):
    """Merge what occurs twice until nothing does: every word of the lines that stands after a blank
    is one piece."""
    trainer = trainers.BpeTrainer(
        vocab_size=10_000, min_frequency=2, initial_alphabet=list(alphabet), show_progress=False,
        special_tokens=list(first),
    )  # fmt: skip
    core.train_from_iterator(lines, trainer)


def byte_level(
    special: Iterable[str],
    plain: Iterable[str] = (),
    more: Iterable[str] = (),
    first: Iterable[str] = (),
) -> Tokenizer:
    """A byte-level BPE with added tokens in this order, of which `plain` are none that decoding
    skips.

    first: those that stand at the beginning of the vocabulary.
    """
    core = Tokenizer(models.BPE())
    core.normalizer, core.decoder = normalizers.NFC(), decoders.ByteLevel()
    core.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    core.post_processor = processors.ByteLevel(
        add_prefix_space=False, trim_offsets=False, use_regex=False
    )
    _learn(core, text(), pre_tokenizers.ByteLevel.alphabet(), first)
    for names, skipped in ((first, True), (special, True), (plain, False), (more, True)):
        core.add_tokens([AddedToken(name, normalized=False, special=skipped) for name in names])
    return core


def pieces(more: Iterable[str]) -> Tokenizer:
    """A BPE of SentencePiece's kind: <unk>, <s>, </s>, 256 bytes, pieces, letters; then added
    tokens.

    A blank is written "▁", one is put before the text, and a letter without a piece of its own
    falls back to bytes. Some of the world's words are several pieces, as in Llama's vocabulary.
    """
    learnt = Tokenizer(models.BPE())
    learnt.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    _learn(learnt, text(split=SEVERAL))
    merges = [tuple(pair) for pair in json.loads(learnt.to_str())["model"]["merges"]]
    letters = [*sorted({letter for line in text() for letter in line} - {" "}), *LETTERS]
    start = ("<unk>", "<s>", "</s>")
    known = [
        *start,
        *(f"<0x{byte:02X}>" for byte in range(256)),
        *map("".join, merges),
        "▁",
        *letters,
    ]
    vocabulary = {piece: n for n, piece in enumerate(dict.fromkeys(known))}
    core = Tokenizer(
        models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    core.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    core.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A <s>:1 $B:1", [("<s>", 1)])
    core.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
        decoders.Strip(" ", 1, 0)
    ])  # fmt: skip
    core.add_tokens([AddedToken(name, normalized=False, special=True) for name in (*start, *more)])
    return core
