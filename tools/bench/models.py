"""The models that are timed beside the organisms: random ones, of chosen sizes."""

import torch

from tools.trials import rehearse
from whatwhere.book import published

NAME = "Qwen/Qwen2-VL-2B-Instruct"
WORDS = published.LANGUAGE[NAME].vocabulary
TOKEN = 28  # pixels along the side of one of its visual tokens


def half(depth=24, vocabulary=WORDS, layers=6):
    """Qwen2-VL-2B at half its widths, with fewer blocks: some 300M numbers with all of its
    vocabulary, and all of them random."""
    language = {
        "hidden_size": 768,
        "intermediate_size": 4480,
        "num_attention_heads": 6,
        "num_hidden_layers": layers,
        "vocab_size": vocabulary,
        "bos_token_id": 0,
        "eos_token_id": 1,
    }
    config = published.config(NAME, language, {"depth": depth, "embed_dim": 640, "num_heads": 8})
    less = WORDS - vocabulary  # special tokens are the last ones, there and here
    marks = {mark: n - less for mark, n in rehearse.MARKS["qwen2_vl"].items()}
    for name in published.QWEN_TOKENS:
        setattr(config, name, getattr(config, name) - less)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = rehearse.build(config, device, torch.float32)
    return rehearse.dress(model, f"half a Qwen2-VL-2B, {model.num_parameters() / 1e6:.0f}M", marks)
