"""Fine-tuning on GQA's train questions with a spatial word, with and without RoPE scaling (paper,
section 5 and table 2).

    tuning.finetune("Qwen/Qwen2-VL-2B-Instruct", "gqa", "tuned", scale=(99, 10))
    load("tuned")  # scaled for good: its config says so, and a benchmark's run records it
    tuning.finetune("Qwen/Qwen2-VL-7B-Instruct", "gqa", "tuned-7b", scale=(49, 8), lora=True)

The same from a shell: `whatwhere finetune MODEL --data gqa --out tuned --scale 99 10`. Training is
that of transformers' `Trainer`; killed, the same call goes on; under `accelerate launch` each GPU
takes its part. What is not said here is as in the paper's public code (`Siriuslala/vlm_interp`,
commit 1b502c6): the words, the bare question as prompt, AdamW with weight decay, the cosine, LoRA's
places and dropout. Two things differ: it takes the first 60,000 such questions of the file, and we
draw them; it trains in bfloat16, in which steps of 3e-6 are mostly rounded away, and we keep all
weights in float32 while they are trained.
"""

from __future__ import annotations

import json
import math
import os
import random
import re
import shutil
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from . import benchmarks, checkpoints, images, loading, rope
from .benchmarks import formats
from .benchmarks.files import Folder, check_pictures
from .benchmarks.item import Item, digest
from .benchmarks.running import out_of_memory
from .files import read_json, write
from .finite import check_finite
from .hooks import check_count
from .processes import processes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .models import VLM

# the paper's code counts a question in which one of them stands, or the answer to it
SPATIAL = (
    "left", "right", "top", "bottom", "in front of", "behind", "above", "below", "next to",
    "beside", "between", "on top of", "under", "over",
)  # fmt: skip
LORA = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.05}
# the attention of the language model, by its names in transformers; the ViT's is left alone
ATTENTION = r".*\.(language_model|text_model)\.layers\.\d+\.self_attn\.[qkvo]_proj"
CARD, UNFINISHED, ADAPTER = "tuning.json", "unfinished", "adapter"
IGNORED = -100  # the label of a token that no loss is taken at
GIB = 2**30
_SPATIAL = re.compile(rf"\b({'|'.join(SPATIAL)})\b", re.IGNORECASE)


def is_spatial(question: str, answer: str) -> bool:
    """Does one of the words in `SPATIAL` stand, as a whole word, in a question or its answer?"""
    return bool(_SPATIAL.search(question) or _SPATIAL.search(answer))


def questions(data: str | Path, limit: int | None = 60_000, seed: int = 0) -> list[Item]:
    """GQA's balanced train questions with a spatial word: a list of `benchmarks.Item`.

    Args:
        data: the folder with `train_balanced_questions.json` and `images/`, as GQA publishes them.
        limit: so many of them, at random; None takes all.
        seed: of the draw.

    Raises:
        FileNotFoundError or ValueError: with a sentence, where a file or picture is missing or
            damaged, and where there are fewer such questions.
    """
    if limit is not None:
        check_count("limit", limit)
    what = "fine-tuning on GQA"
    folder = Folder(data, what, at_hub=False)
    items = formats.gqa(folder, None, str, stem="train_balanced", wanted=is_spatial)
    if not items:
        raise ValueError(
            f"None of the train questions in '{folder.path}' has a spatial word "
            f"({', '.join(SPATIAL)})."
        )
    if limit is not None and limit > len(items):
        raise ValueError(
            f"'{folder.path}' holds {len(items)} train questions with a spatial word, fewer than "
            f"the {limit} that were asked for: give a smaller limit."
        )
    if limit is not None:
        items = random.Random(f"finetune/{seed}").sample(items, limit)
    return check_pictures(items, what)


class Estimate(NamedTuple):
    """What a training needs, by arithmetic.

    Attributes:
        parameters, trained: how many numbers the model has, and how many of them (or of LoRA's)
            are trained.
        weights, gradients, adam: bytes of memory in each process.
        disk: bytes: the new checkpoint, and two states to go on from, the older of which is deleted
            only when the newer is whole.
    """

    parameters: int
    trained: int
    weights: int
    gradients: int
    adam: int
    disk: int

    @property
    def memory(self) -> int:
        """Bytes of memory in each process, without what a batch takes on top."""
        return self.weights + self.gradients + self.adam

    def __str__(self):
        gib = {name: f"{getattr(self, name) / GIB:.1f}" for name in (*self._fields, "memory")}
        return (
            f"{self.parameters:,} parameters, {self.trained:,} trained. Memory, by arithmetic: "
            f"weights {gib['weights']} + gradients {gib['gradients']} + Adam {gib['adam']} = "
            f"{gib['memory']} GiB in each process, and what a batch takes on top. Disk: "
            f"{gib['disk']} GiB."
        )


def estimate(model: str | Path, lora: bool = False) -> Estimate:
    """What `finetune` will need, from the config alone.

    Weights that are trained have four bytes each in memory, as have their gradients, and Adam keeps
    twice that; weights that are not, under LoRA, have two on a GPU.

    Args:
        model, lora: as for `finetune`.

    Raises:
        FileNotFoundError, ValueError or ImportError: as `finetune` does.
    """
    _check_packages(lora)
    name = str(model)
    config = checkpoints.read_config(loading.find(name), name)
    family = checkpoints.family_of(config, name)
    with torch.device("meta"):
        model_class: Any = family.model_class
        skeleton = model_class._from_config(model_class.config_class.from_dict(deepcopy(config)))
    parameters = skeleton.num_parameters()
    stored = (loading.stored_dtype(config) or torch.float32).itemsize
    in_half = lora and torch.cuda.is_available()
    trained, weights = parameters, parameters * (2 if in_half else 4)
    if lora:
        low_rank = _with_lora(skeleton)
        trained = sum(each.numel() for each in low_rank.parameters() if each.requires_grad)
        weights += 4 * trained
    disk = parameters * stored + 2 * 12 * trained
    return Estimate(parameters, trained, weights, 4 * trained, 8 * trained, disk)


def finetune(
    model: str | Path,
    data: str | Path,
    out: str | Path,
    *,
    scale: tuple[float, float] | dict[str, float] | None = None,
    lora: bool = False,
    limit: int | None = 60_000,
    seed: int = 0,
    lr: float = 3e-6,
    epochs: int = 3,
    batch: int = 32,
    at_once: int = 8,
    warmup: float = 0.03,
    max_pixels: int = 50_176,
    save_every: int = 500,
) -> Path:
    """Train a model on GQA's train questions with a spatial word; returns the folder of the new
    checkpoint, which `load` opens.

    All weights are trained, or with `lora` low-rank changes of the LM's attention (rank 16, α 32),
    which are merged into the new checkpoint, since that is what `load` and everything else opens;
    by themselves they are kept in its folder `adapter`. The loss is that of the answer's tokens and
    the token that ends it. `tuning.json` in the folder says how it was trained, and the losses.
    Meanwhile the folder `unfinished` holds the `Trainer`'s own states, in which a run that was
    killed goes on; its random states and Adam's are torch's pickles, and are read from nowhere
    else. In the end it is deleted.

    Args:
        model: what `load` takes.
        data, limit, seed: see `questions`; seed also orders them, and draws LoRA's first weights.
        out: the folder of the new checkpoint.
        scale: what `benchmarks.run` takes, (alpha, p) or {"alpha", "k", "c"}: the ViT's RoPE is so
            scaled while it is trained, and in the new checkpoint.
        lr: the highest rate: it rises in the share `warmup` of the steps, and falls to zero along a
            cosine.
        batch: questions for a step, on all processes together.
        at_once: of which so many go through a process at once; fewer need less memory and give the
            same, but for rounding.
        max_pixels: larger pictures are reduced, where the family keeps a picture's size.
        save_every: steps between two states to go on from.

    Raises:
        FileNotFoundError, ValueError, OSError, MemoryError or ImportError: with a sentence, where
            something is missing, damaged, not as it should be, or clearly too small.
    """
    scaling = benchmarks._scaling(scale)
    needed = estimate(model, lora)  # which also refuses models and packages that there are not
    accumulated = _accumulated(batch, at_once)
    _check_numbers(lr, epochs, warmup, max_pixels, save_every)
    items = questions(data, limit, seed)
    settings = {
        "model": str(model), "scale": scaling, "lora": dict(LORA) if lora else None,
        "questions": len(items), "data": digest(items), "seed": seed, "lr": lr, "epochs": epochs,
        "batch": batch, "warmup": warmup, "max_pixels": max_pixels,
    }  # fmt: skip
    out = Path(out).expanduser()
    if _is_finished(out, settings):
        return out
    mine = processes()
    device = loading._device(mine.device or "auto")
    _check_room(needed, out, device)
    vlm = loading.load(model, device=device, dtype="auto" if lora else "float32")
    with ExitStack() as changes:
        if scaling is not None:
            changes.enter_context(rope.scaled(vlm, **scaling))
        if mine.rank == 0:
            write(out / CARD, json.dumps(settings | {"finished": False}, indent=2) + "\n")
        losses = _train(vlm, items, settings, out, at_once, accumulated, save_every)
        if mine.rank == 0:  # within the context, so that the config says how it is scaled
            _save(vlm, out, settings | {"finished": True, "losses": losses})
    return out


def _train(vlm, items, settings, out, at_once, accumulated, save_every):
    """Train the weights of `vlm`, from the last state kept or else from the beginning; returns
    [(step, loss)]."""
    from transformers import Trainer, TrainingArguments, set_seed

    set_seed(settings["seed"])
    network = vlm.model
    network.requires_grad_(True)
    if settings["lora"]:
        network = _with_lora(vlm.model)
    steps = settings["epochs"] * -(-len(items) // settings["batch"])
    on_gpu = vlm.device.type == "cuda"
    how: dict[str, Any] = dict(
        output_dir=str(out / UNFINISHED),
        per_device_train_batch_size=at_once,
        gradient_accumulation_steps=accumulated,
        num_train_epochs=settings["epochs"],
        learning_rate=settings["lr"],
        lr_scheduler_type="cosine",
        warmup_steps=math.ceil(settings["warmup"] * steps),
        weight_decay=0.01,
        seed=settings["seed"],
        data_seed=settings["seed"],
        # products in half precision where there is a GPU; weights that are trained stay in float32
        bf16=on_gpu and vlm.dtype != torch.float16 and loading._has_bfloat16(vlm.device),
        fp16=vlm.dtype == torch.float16,
        use_cpu=vlm.device.type == "cpu",
        save_steps=save_every,
        save_total_limit=1,
        logging_steps=max(1, min(10, steps // 10)),
        disable_tqdm=False,  # though all else is quiet
        report_to="none",
        label_names=["labels"],
        remove_unused_columns=False,
        dataloader_pin_memory=False,  # they are made on the GPU
    )
    with (
        loading._quiet(without_bar=True),
        _as_it_was(vlm.model.config, "use_cache"),
        _bounded(vlm, settings["max_pixels"]),
    ):
        arguments = TrainingArguments(**how)
        if arguments.n_gpu > 1:  # one process takes one GPU; without this it would take all
            arguments._n_gpu = 1
        trainer = Trainer(network, arguments, _Collator(vlm), items)
        state = _last_state(out / UNFINISHED)
        if state and not settings["lora"]:
            _take_weights(vlm.model, state)
        try:
            trainer.train(resume_from_checkpoint=state)
        except Exception as error:
            if not out_of_memory(error):
                raise
            raise MemoryError(
                f"The memory of {vlm.device} is too small for {at_once} questions at once; what "
                "was kept is there. Give a smaller at_once, which changes nothing else."
            ) from error
    vlm.model.eval().requires_grad_(False)
    for name, weight in network.named_parameters():
        check_finite(weight, f"'{name}' after training")
    if settings["lora"] and processes().rank == 0:
        network.save_pretrained(out / ADAPTER)
        network.merge_and_unload()  # into vlm.model
    rows = trainer.state.log_history
    return [[row["step"], row["loss"]] for row in rows if "loss" in row]


class _Collator:
    """Items to what the model takes, with labels."""

    def __init__(self, vlm: VLM):
        self.vlm, self.end = vlm, _end(vlm)

    def __call__(self, items: Sequence[Item]) -> dict[str, Any]:
        answers = [item.gold + self.end for item in items]
        pairs = [item.image for item in items], [item.question for item in items]
        inputs = self.vlm.prepare(*pairs, answers)
        labels = torch.full_like(inputs["input_ids"], IGNORED)
        for row, ids in enumerate(self.vlm.token_ids(answers)):  # rows end where their answers do
            labels[row, -len(ids) :] = inputs["input_ids"][row, -len(ids) :]
        return {**inputs, "labels": labels}


def _end(vlm):
    """The text of the token that ends an answer: of those at which answers are cut, the one with
    which the tokenizer ends a text."""
    end = vlm.tokenizer.eos_token
    ids = vlm.token_ids([end])[0] if isinstance(end, str) else []
    if len(ids) != 1 or ids[0] not in vlm.ends:
        raise ValueError(
            f"The tokenizer of {vlm.name} ends a text with {end!r}, which its generation_config "
            "does not name as an end of answers: nobody could tell where one it was trained to "
            "give ends."
        )
    return end


def _with_lora(model):
    """A model with low-rank changes to queries, keys, values and outputs of its LM's attention."""
    from peft import LoraConfig, get_peft_model

    return get_peft_model(model, LoraConfig(target_modules=ATTENTION, **LORA))


@contextmanager
def _bounded(vlm, max_pixels) -> Iterator[None]:
    with ExitStack() as bound:
        if vlm.max_pixels is not None:  # else all pictures are shown at one size
            most = min(max_pixels, vlm.max_pixels)
            bound.enter_context(images.bounded(vlm, max_pixels=most))
        yield


@contextmanager
def _as_it_was(config, name) -> Iterator[None]:
    """What the `Trainer` sets in a config is no part of the new checkpoint."""
    before = dict(vars(config))
    yield
    if name in before:
        setattr(config, name, before[name])
    else:
        vars(config).pop(name, None)


def _last_state(folder):
    """The newest whole state in a folder, or None: of one that was cut off, the last file is
    missing."""
    states = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json")]
    last = max(states, key=lambda path: int(path.name.rpartition("-")[2]), default=None)
    return last and str(last)


def _take_weights(model, state):
    """The weights of a state, in place.

    The `Trainer` saves them by the names that they have on the hub, and looks for them by those
    that they have in the model: where the two differ, as in Qwen2-VL and LLaVA, it would go on with
    Adam's state and the weights of the beginning.
    """
    kept, report = type(model).from_pretrained(
        state, dtype=model.dtype, use_safetensors=True, output_loading_info=True
    )
    if report["missing_keys"]:  # transformers would go on with random numbers in their place
        raise ValueError(
            f"'{state}' lacks {len(report['missing_keys'])} of the model's tensors: delete it, and "
            "the training begins anew."
        )
    model.load_state_dict(kept.state_dict())


def _save(vlm, out, card):
    """The new checkpoint in place, and what was only needed to go on deleted."""
    config = checkpoints.read_config(loading.find(card["model"]), card["model"])
    weights: Any = vlm.model  # transformers' own annotation of `to` is no method's
    weights.to(loading.stored_dtype(config) or torch.float32)
    vlm.save(out)
    write(out / CARD, json.dumps(card, indent=2) + "\n")
    shutil.rmtree(out / UNFINISHED, ignore_errors=True)


# -- what is refused
# --------------------------------------------------------------------------------------------------


def _check_packages(lora):
    lacking = [name for name in ("accelerate", *(("peft",) * lora)) if find_spec(name) is None]
    if lacking:
        raise ImportError(
            f"Fine-tuning needs {' and '.join(lacking)}: pip install {' '.join(lacking)}, or "
            "install whatwhere with its extra [tuning]."
        )
    for way in ("FSDP", "DEEPSPEED"):
        if os.environ.get(f"ACCELERATE_USE_{way}", "").lower() == "true":
            raise ValueError(
                f"accelerate is configured for {way}, which shares one model out over the "
                "processes; here each process holds all of it. Launch without it: accelerate "
                "launch --multi_gpu."
            )


def _accumulated(batch, at_once):
    """How many times each process runs for one step."""
    check_count("batch", batch)
    check_count("at_once", at_once)
    count = processes().count
    if batch % (at_once * count):
        raise ValueError(
            f"A batch of {batch} questions is not {count} × {at_once} of them (processes, and at "
            "once in each) or a multiple of that: change at_once."
        )
    return batch // (at_once * count)


def _check_numbers(lr, epochs, warmup, max_pixels, save_every):
    check_count("epochs", epochs)
    check_count("save_every", save_every)
    images.check_pixels(max_pixels)
    for name, number in (("lr", lr), ("warmup", warmup)):
        fits = isinstance(number, (int, float)) and not isinstance(number, bool)
        if not fits or not 0 <= number < 1 or (name == "lr" and not number):
            least = "above" if name == "lr" else "from"
            raise ValueError(f"{name} is a number {least} 0 and below 1, not {number!r}.")


def _is_finished(out, settings):
    """Is this training done there already? ValueError where the folder is another's."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"'{out}' is a file: name a folder.")
    if not (out / CARD).is_file():
        others = [path.name for path in out.glob("*") if path.name[0] != "."]
        if others:
            raise ValueError(
                f"'{out}' holds something else already ('{min(others)}'): name a new folder."
            )
        return False
    card = read_json(out / CARD)
    begun = card if isinstance(card, dict) else {}
    other = [name for name, value in settings.items() if begun.get(name) != value]
    if other:
        raise ValueError(
            f"'{out}' was begun otherwise ({', '.join(other)} differ). Delete it, or name another "
            "folder."
        )
    return begun.get("finished") is True


def _check_room(needed, out, device):
    """Refuse to begin what will clearly not end."""
    if device.type == "cuda":
        room = torch.cuda.mem_get_info(device)[1]
    else:
        import psutil  # accelerate brings it

        room = psutil.virtual_memory().total
    if needed.memory > room:
        raise MemoryError(
            f"{needed} '{device}' has {room / GIB:.1f} GiB: take LoRA, a smaller model or a larger "
            "machine."
        )
    begun = out / UNFINISHED
    parent = next(path for path in (out.absolute(), *out.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(parent).free
    if needed.disk > free and not begun.exists():  # which takes some of it
        raise OSError(
            f"{needed} '{parent}' has {free / GIB:.1f} GiB left: make room, or name a folder on "
            "another disk."
        )
