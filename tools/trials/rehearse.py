"""The real models at full size, without their weights: every published dimension, random numbers,
the package's ordinary calls.

python -m tools.trials.rehearse                          # Qwen2-VL-2B and LLaVA-1.5-7B; 16 GB
python -m tools.trials.rehearse --models NAME … --small  # small ones, in seconds; nothing is kept

It shows that nothing on the way to a real model depends on the model being small, and what it costs
on this machine. What such a model says means nothing. Results go to data/results/rehearsal.json,
one for each model, dtype and device.
"""

import argparse
import gc
import json
import os
import platform
import statistics
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerFast

import whatwhere as ww
from whatwhere import families
from whatwhere.book import published
from whatwhere.book.training.scaling_study import processor
from whatwhere.files import write

RESULTS = Path(__file__).parents[2] / "data" / "results" / "rehearsal.json"
MODELS = ("Qwen/Qwen2-VL-2B-Instruct", "llava-hf/llava-1.5-7b-hf")
SCALING = {"alpha": 99, "p": 8}  # the paper's
PIXELS = 448  # a side: 256 visual tokens in Qwen2-VL; LLaVA-1.5 makes 576 of any picture
QUESTION = (
    "look at the picture from the left to the right and from the back of the table to its front , "
    "then say which object stands behind the mug , which colour it has , and what is written on "
    "the sign"
)

QWEN_MARKS = {"<|endoftext|>": 151643, "<|im_start|>": 151644, "<|im_end|>": 151645}
QWEN_IMAGE = {
    "<|vision_start|>": 151652,
    "<|vision_end|>": 151653,
    "<|image_pad|>": 151655,
    "<|video_pad|>": 151656,
}
MARKS = {  # special tokens at their published ids
    "llava": {"<unk>": 0, "<s>": 1, "</s>": 2, "<image>": 32000, "<pad>": 32001},
    "qwen2_vl": QWEN_MARKS | QWEN_IMAGE,
    "qwen2_5_vl": QWEN_MARKS | QWEN_IMAGE,
    "qwen3_vl": QWEN_MARKS | QWEN_IMAGE,
    "internvl": QWEN_MARKS | {"<img>": 151665, "</img>": 151666, "<IMG_CONTEXT>": 151667},
    "idefics3": {
        "<|im_start|>": 1,
        "<|im_end|>": 2,
        "<global-img>": 49152,
        "<fake_token_around_image>": 49189,
        "<image>": 49190,
        "<end_of_utterance>": 49279,
    },
}
PROMPT = {  # before the picture, the picture, after the question
    "llava": ("<s> user : ", "<image> ", " assistant :"),
    "qwen2_vl": (
        "<|im_start|> user ",
        "<|vision_start|><|image_pad|><|vision_end|>",
        " <|im_end|> <|im_start|> assistant",
    ),
    "internvl": ("<|im_start|> user ", "<IMG_CONTEXT> ", " <|im_end|> <|im_start|> assistant"),
}
PROMPT["qwen2_5_vl"] = PROMPT["qwen2_vl"]
SEEN = {  # the image processors' published settings, where they are not the class's own
    "llava": {"size": {"shortest_edge": 336}, "crop_size": {"height": 336, "width": 336}},
    "qwen2_vl": {"size": {"shortest_edge": 3136, "longest_edge": 12845056}},
    "qwen2_5_vl": {"size": {"shortest_edge": 3136, "longest_edge": 12845056}},
    "internvl": {
        "size": {"height": 448, "width": 448},
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
    },
}
SMALL = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
SMALL_ROPE = {
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]}
}
SMALL_VIT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
}


def settings(name, small=False):
    """The config of a published model; small: of the same form, with the true vocabulary and
    patches, and small otherwise."""
    if not small:
        return published.config(name)
    if "Qwen" not in name:
        return published.config(name, SMALL, SMALL_VIT)
    newer = {"hidden_size": 32, "intermediate_size": 48, "fullatt_block_indexes": [2]}
    own = newer if "2.5" in name else {"embed_dim": 32, "mlp_ratio": 2}
    return published.config(name, SMALL | SMALL_ROPE, {"depth": 3, "num_heads": 2} | own)


@torch.no_grad()
def build(config, device="cpu", dtype=torch.bfloat16, seed=0):
    """The model of this config, filled with random numbers: matrices that keep a state's length,
    norms near 1, biases near 0.

    It takes the road of `from_pretrained`: modules on `meta`, memory without contents, weights put
    in place, and what no checkpoint holds (rotary frequencies, position ids) computed by
    `transformers` itself. It needs the memory of its weights.
    """
    model = published.skeleton(config, dtype).to_empty(device=device)
    model.tie_weights()
    for each in model.parameters():
        each._is_hf_initialized = True  # as from_pretrained marks what it has read
    model.initialize_weights()
    generator = torch.Generator(device).manual_seed(seed)
    with tqdm(total=model.num_parameters(), desc="filling", unit="", unit_scale=True) as bar:
        for name, each in model.named_parameters():
            mean = float(each.ndim == 1 and "bias" not in name)
            each.normal_(
                mean, 0.02 if each.ndim == 1 else each[0].numel() ** -0.5, generator=generator
            )
            bar.update(each.numel())
    return model.eval()


def tokenizer(config, marks=None):
    """Whole words, lower case: one for every id of the true vocabulary, so that whatever the model
    says can be spelt.

    marks: the special tokens' ids, where they are not the published ones.
    """
    marks, (before, picture, after) = marks or MARKS[config.model_type], PROMPT[config.model_type]
    words = [f"w{n}" for n in range(config.text_config.vocab_size)]
    for n, word in enumerate(dict.fromkeys(f"user assistant : {QUESTION}".split()), start=10):
        words[n] = word
    for word, n in marks.items():
        words[n] = word
    core = Tokenizer(WordLevel({word: n for n, word in enumerate(words)}, unk_token="w9"))
    core.pre_tokenizer = Whitespace()
    end, pad = ("</s>", "<pad>") if "</s>" in marks else ("<|im_end|>", "<|endoftext|>")
    made = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token=end, pad_token=pad, padding_side="left"
    )
    made.add_special_tokens(
        {"additional_special_tokens": [word for word in marks if word not in (end, pad)]}
    )
    made.chat_template = (
        "{% for m in messages %}"
        + before
        + "{% for c in m['content'] %}{% if c['type'] == 'image' %}"
        + picture
        + "{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endfor %}{% if "
        "add_generation_prompt %}" + after + "{% endif %}"
    )
    return made


def dress(model, name, marks=None):
    """A `VLM` of a model without its checkpoint's other files: a made-up tokenizer, and the
    published image processor."""
    model.generation_config.eos_token_id = None  # say as many words as are asked for
    processor = families.adapter_class(model.config.model_type).image_processor_class(
        **SEEN[model.config.model_type]
    )
    return ww.models.VLM(
        model, tokenizer(model.config, marks), processor, f"{name}, random weights"
    )


def rehearse(vlm, depths=3, words=8):
    """(seconds {what: s}, tokens {what: n}) of the package's ordinary calls, one after the other
    and each once.

    depths: how many ViT depths are read, from none of its blocks to all. words: tokens said after
        the first. Raises ValueError where something comes out that is not a finite number, or where
        RoPE scaling changes nothing or does not go away again.
    """
    image = ww.world.scene(seed=7).image.resize((PIXELS, PIXELS))
    read = (
        sorted({round(vlm.last_depth * n / (depths - 1)) for n in range(depths)})
        if depths > 1
        else [vlm.last_depth]
    )
    turns = vlm.adapter.rotary is not None
    if vlm.device.type == "cuda":  # which loads its kernels when they are first called
        vlm.answer(image, "which", max_new_tokens=2)
    seconds, said = {}, []

    def step(what, act):
        bar.set_description(what)
        start = now(vlm.device)
        found = act()
        seconds[what] = now(vlm.device) - start
        bar.update()
        return found

    def hear(module, args, logits):
        said.append((now(vlm.device), bool(torch.isfinite(logits[:, -1]).all())))

    with tqdm(total=3 + turns) as bar:
        plain = step("ViT and connector", lambda: vlm.visual_tokens_by_depth(image, read))
        if turns:
            before = vlm.adapter.rotary.inv_freq.clone()
            with ww.rope.scaled(vlm, **SCALING):
                scaled = step(
                    "ViT and connector, RoPE scaled",
                    lambda: vlm.visual_tokens_by_depth(image, read),
                )
            if torch.equal(plain[-1], scaled[-1]) or not torch.equal(
                before, vlm.adapter.rotary.inv_freq
            ):
                raise ValueError("RoPE scaling changed nothing, or left the frequencies changed.")
        maps = step("lens", lambda: ww.lens.token_maps(vlm, image, depths=read))
        heard = vlm.unembedding.register_forward_hook(hear)
        try:
            start = now(vlm.device)
            step("answer", lambda: vlm.answer(image, QUESTION, max_new_tokens=words + 1))
        finally:
            heard.remove()
    if not (
        torch.isfinite(plain).all()
        and (maps.probabilities > 0).all()
        and all(fine for _, fine in said)
    ):
        raise ValueError("Some states or logits are not finite numbers.")
    times = [at for at, _ in said]
    seconds["first word"] = times[0] - start  # one forward pass over the whole prompt
    seconds["each later word"] = statistics.median(b - a for a, b in zip(times, times[1:]))
    length = vlm.prepare(image, QUESTION)["input_ids"].shape[1]
    tokens = {
        "prompt": length,
        "visual": maps.ids[0].size,
        "said": len(times),
        "ViT depths": read,
        "lens layer": maps.layer,
    }
    return {what: round(value, 3) for what, value in seconds.items()}, tokens


def now(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def forget_peak(device):
    """Begin anew to note the most memory in use."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    elif Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")


def peak(device):
    """The most memory in use since, in GiB: allocated on a GPU, resident on a CPU; None where the
    system does not tell."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / published.GIB, 2)
    return kibibytes("/proc/self/status", "VmHWM")


def kibibytes(file, what):
    """A line "what: n kB" of one of Linux's files, in GiB; None where there is no such file."""
    lines = Path(file).read_text().splitlines() if Path(file).is_file() else []
    return next(
        (round(int(line.split()[1]) / 2**20, 2) for line in lines if line.startswith(what)), None
    )


def free(device):
    """GiB that could be taken now, or None."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] / published.GIB
    return kibibytes("/proc/meminfo", "MemAvailable")


def run(name, device, dtype="bfloat16", small=False, depths=3, words=8, seed=0, beside=""):
    """The row of one model. Raises MemoryError, before it builds anything, where less memory is
    free than arithmetic asks for."""
    config = settings(name, small)
    forget_peak(device)
    asked = {
        part: round(n / published.GIB, 2)
        for part, n in published.memory(config, dtype, new=words + 1).items()
    }
    room = free(device)
    if room is not None and room < asked["total"]:
        raise MemoryError(
            f"{name} in {dtype} takes {asked['total']:.1f} GiB, and {room:.1f} are free."
        )
    load = [round(os.getloadavg()[0], 1)]
    start = now(device)
    vlm = dress(build(config, device, getattr(torch, dtype), seed), name)
    built = now(device) - start
    seconds, tokens = rehearse(vlm, depths, words)
    load.append(round(os.getloadavg()[0], 1))
    most = "allocated" if device.type == "cuda" else "resident, the whole process"
    return {
        "model": name, "dtype": dtype,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
        "small": small, "weights": f"random numbers, seed {seed}",
        "parameters": published.parameters(config), "tokens": tokens,
        "measured": {"seconds": {"build": round(built, 1)} | seconds,
            "peak memory, GiB": peak(device), "peak is": most},
        "arithmetic": {"memory, GiB": asked},
        "machine": {"cores": os.cpu_count(), "threads": torch.get_num_threads(),
                    "memory, GiB": kibibytes("/proc/meminfo", "MemTotal"),
                    "load before and after": load, "beside": beside},
        "versions": {"python": platform.python_version(), "torch": torch.__version__,
            "transformers": transformers.__version__,
                     "whatwhere": ww.__version__},
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }  # fmt: skip


def keep(row, file):
    """Write a row to a file of rows, in the place of that of the same model, dtype and device."""
    key = ("model", "dtype", "device", "small")
    old = json.loads(file.read_text(encoding="utf-8"))["runs"] if file.exists() else []
    rows = [each for each in old if [each[k] for k in key] != [row[k] for k in key]] + [row]
    about = (
        "Published dimensions, random weights: make rehearse. Seconds are of single runs; "
        "what was said means nothing."
    )
    rows.sort(key=lambda each: [each[k] for k in key])
    write(file, json.dumps({"about": about, "runs": rows}, indent=1, ensure_ascii=False) + "\n")


def shown(row):
    """A row as lines of text."""
    measured, asked = row["measured"], row["arithmetic"]["memory, GiB"]
    lines = {"parameters": f"{row['parameters']['total']:,}"} | {
        f"{what}, s": n for what, n in measured["seconds"].items()
    }
    lines[f"peak memory ({measured['peak is']}), GiB"] = measured["peak memory, GiB"]
    lines["memory by arithmetic, GiB"] = asked["total"]
    lines |= {f"tokens, {what}": row["tokens"][what] for what in ("prompt", "visual", "said")}
    lines |= {what: row["tokens"][what] for what in ("ViT depths", "lens layer")}
    head = f"{row['model']}, {row['dtype']}, {row['device']}{', small' if row['small'] else ''}"
    return "\n".join([head, *(f"  {what:50}{value}" for what, value in lines.items())])


def main(arguments=None):
    """Returns what the shell is told: 0, or 1 where a model could not be rehearsed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--models", nargs="+", default=MODELS, metavar="NAME", help=f"({' '.join(MODELS)})"
    )
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float16", "float32"))
    parser.add_argument(
        "--small", action="store_true", help="small dimensions; written down only with --out"
    )
    parser.add_argument(
        "--depths", type=int, default=3, metavar="N", help="ViT depths that the lens reads (3)"
    )
    parser.add_argument(
        "--words", type=int, default=8, metavar="N", help="tokens said after the first (8)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=Path, help="where rows are kept (data/results/rehearsal.json)"
    )
    parser.add_argument(
        "--beside",
        default="not known",
        metavar="TEXT",
        help="what else the machine was doing, for the record",
    )
    chosen = parser.parse_args(arguments)
    if chosen.depths < 1 or chosen.words < 1:
        parser.error("--depths and --words are whole numbers from 1 on.")
    out = chosen.out or (None if chosen.small else RESULTS)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    failed = 0
    for name in chosen.models:
        try:
            row = run(
                name,
                device,
                chosen.dtype,
                chosen.small,
                chosen.depths,
                chosen.words,
                chosen.seed,
                chosen.beside,
            )
        except (MemoryError, ValueError) as error:
            print(f"rehearse: {error}", file=sys.stderr)
            failed = 1
            continue
        if out:
            keep(row, out)
        print(f"\n{shown(row)}", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
