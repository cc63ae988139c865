"""The visual decoder: one linear layer from visual tokens to the words that the LM would end up
with.

    taught = lessons(vlm, images)                  # what the LM makes of its visual tokens
    decoder = distil(vlm, taught)
    decoder.save("my-decoder"); load_decoder("my-decoder", vlm)

Section on compression in *Reading Images Like Texts* (arXiv 2509.19191): bias-free, begun as the
unembedding, distilled from the LM's final logits at the visual positions with unlabelled images
only.
"""

from __future__ import annotations

import json
import math
import string
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from tqdm import tqdm  # plain text: a notebook's widget would ask the built page for the network

from .. import places
from ..files import first_line, read_json, together
from ..finite import check_finite, not_finite
from ..hooks import check_count
from ..processes import processes

if TYPE_CHECKING:
    from ..models import VLM

WEIGHTS, CARD, UNFINISHED = "decoder.safetensors", "decoder.json", "unfinished.safetensors"
NEVER = float("nan")  # in the history, where nothing was measured
LARGEST = 2**23  # numbers in one piece of logits: 32 MiB in float32, whatever the vocabulary


class Decoder(torch.nn.Module):
    """Reads visual tokens as words, before the language model: `decoder(tokens)` are logits (…,
    vocabulary).

    Attributes:
        weight: (vocabulary, hidden).
        words: (vocabulary,) what each id looks like.
        texts: (vocabulary,) what each adds to a text, as `vlm.texts`; the words themselves if None.
        punctuation: (vocabulary,) which of them are, by the paper's set.
        history: its distillation by step: losses "soft" and "hard", and where there were held-out
            pictures "agreement", nan at steps after which it was not measured.
        about: how it was made.
        ids: None, or where its words stand in the model's vocabulary, if it was `narrowed` to some
            of them.
    """

    def __init__(
        self,
        weight: torch.Tensor,
        words: np.ndarray,
        about: dict[str, Any] | None = None,
        history: pd.DataFrame | None = None,
        ids: np.ndarray | None = None,
        texts: np.ndarray | None = None,
    ):
        super().__init__()
        self.weight = torch.nn.Parameter(weight, requires_grad=False)
        self.words, self.texts = words, words if texts is None else texts
        self.punctuation = punctuation(self.texts)
        self.about, self.history, self.ids = about or {}, history, ids

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(…, vocabulary) logits of visual tokens (…, hidden)."""
        return F.linear(tokens.to(self.weight), self.weight)

    @torch.no_grad()
    def top(self, tokens: torch.Tensor, k: int = 1) -> np.ndarray:
        """(…, k) ids of the best words of tokens (…, hidden), as a numpy array:
        `decoder.words[ids]` names them."""
        best = self(tokens).topk(k)
        check_finite(best.values, "the visual tokens that the decoder reads")
        return best.indices.cpu().numpy()

    def narrowed(self, ids: Sequence[int] | np.ndarray) -> Decoder:
        """A decoder that knows only the words `ids` of this one, and costs so much less to read
        with.

        Its words are counted anew, from 0.

        Raises:
            ValueError: unless `ids` are two at least and all different.
        """
        ids = np.array(ids)
        words, texts = _chosen(self.words, ids), _chosen(self.texts, ids)
        in_model = ids if self.ids is None else self.ids[ids]
        return Decoder(self.weight[ids], words, self.about, self.history, in_model, texts)

    def check_fits(self, vlm: VLM) -> Decoder:
        """This decoder, if `vlm` is the model that it can read; otherwise a ValueError."""
        n, width = vlm.unembedding.weight.shape
        words_fit = len(self.weight) == n if self.ids is None else self.ids.max() < n
        if not words_fit or self.weight.shape[1] != width:
            raise ValueError(
                f"This decoder knows {len(self.weight)} words and reads tokens of width "
                f"{self.weight.shape[1]}; {vlm.name} has {n} and {width}."
            )
        mark = self.about.get("mark")
        if mark is not None and not np.allclose(mark, _mark(vlm), rtol=0.02, atol=1e-6):
            raise ValueError(
                f"This decoder was taught by another checkpoint ({self.about.get('model')}): its "
                f"shape fits {vlm.name}, but the connector's weights are not those that it learnt "
                f"to read. Distil one from {vlm.name}."
            )
        return self

    def save(self, folder: str | Path) -> None:
        """Write `decoder.safetensors` and `decoder.json` into `folder`."""
        with together(folder) as new:
            tensors = {"weight": self.weight.detach().contiguous().cpu()}
            if self.ids is not None:
                tensors["ids"] = torch.as_tensor(self.ids).contiguous()
            save_file(tensors, new / WEIGHTS)
            (new / CARD).write_text(json.dumps(self.about, indent=2) + "\n", encoding="utf-8")


def load_decoder(folder: str | Path, vlm: VLM) -> Decoder:
    """The decoder saved in `folder`, for the model that it was made for.

    Raises:
        FileNotFoundError: where there is none.
        ValueError: where it is damaged or belongs to another model.
    """
    folder = Path(folder)
    if not (folder / WEIGHTS).is_file() or not (folder / CARD).is_file():
        raise FileNotFoundError(
            f"'{folder}' holds no decoder: {WEIGHTS} and {CARD} are what `Decoder.save` writes."
        )
    try:
        about, tensors = read_json(folder / CARD), load_file(folder / WEIGHTS)
        weight, ids = tensors["weight"], tensors["ids"].numpy() if "ids" in tensors else None
        words, texts = (
            listed if ids is None else _chosen(listed, ids) for listed in (vlm.words, vlm.texts)
        )
        mark = np.asarray(about.get("mark", [0] * 16), float)
        fits = weight.ndim == 2 and mark.shape == (16,) and (ids is None or len(ids) == len(weight))
        if not fits or not weight.isfinite().all() or not np.isfinite(mark).all():
            raise ValueError("its numbers are not those of a decoder")
    except Exception as error:  # safetensors and json raise each their own for a broken file
        raise ValueError(
            f"The decoder in '{folder}' could not be read; make it again. ({error})"
        ) from None
    weight = weight.to(vlm.device, vlm.dtype)
    return Decoder(weight, words, about, ids=ids, texts=texts).check_fits(vlm)


def _chosen(words, ids):
    """The words of `ids` among all `words`."""
    fine = ids.ndim == 1 and ids.dtype.kind in "iu" and len(ids) > 1 and len(set(ids)) == len(ids)
    if not fine or min(ids) < 0 or max(ids) >= len(words):
        raise ValueError(
            "A decoder of fewer words is told which: two at least, each once, by ids from 0 to "
            f"{len(words) - 1}; not {ids!r}."
        )
    return words[ids]


def _mark(vlm):
    """Sixteen numbers by which a checkpoint is known again, in any dtype: from the connector's last
    vector, or else matrix."""
    last = sorted(vlm.connector.parameters(), key=lambda p: p.ndim == 1)[-1]
    vector = last.detach().flatten().float().cpu()
    return vector[np.linspace(0, len(vector) - 1, 16).astype(int)].tolist()


def _ascii(text):
    return all(c in string.punctuation or c.isspace() for c in text)


def _unicode(text):
    text = text.removeprefix(" ")  # the mark of a word's start
    return bool(text) and all(unicodedata.category(c)[0] == "P" for c in text)


# What counts as punctuation. The paper's code drops `string.punctuation`, white space and the empty
# string, and in some variants the word "in"; we take what is made of several such marks along.
# Unicode's own punctuation is narrower in ASCII, where it has no $ + < = > ^ ` | ~ and no white
# space, and wider elsewhere (— 、 «).
MARKS = {
    "paper": _ascii,
    "paper-in": lambda text: _ascii(text) or text.strip() == "in",
    "unicode": _unicode,
}


def punctuation(texts: Iterable[str], marks: str = "paper") -> np.ndarray:
    """(vocabulary,) true where a text (of `vlm.texts`) is punctuation.

    Args:
        marks: by which set of MARKS: "paper", made of ASCII punctuation marks and white space
            alone, or empty; "paper-in", also the word "in"; "unicode", made of what Unicode calls
            punctuation, without the blank of a word's start.

    Raises:
        ValueError: for another set.
    """
    if not isinstance(marks, str) or marks not in MARKS:
        raise ValueError(
            f"No set of punctuation marks {marks!r}; there are {', '.join(map(repr, MARKS))}."
        )
    return np.array([MARKS[marks](text) for text in texts], bool)


def lessons(
    vlm: VLM, images: Sequence[Any], batch_size: int = 16, progress: bool = True
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """What the LM makes of its visual tokens: for each image (tokens, states), both (rows ×
    columns, hidden).

    `tokens` are the connector's, `states` the residual stream after the last LM layer at the same
    places, on the CPU, where many images' find room; the teacher's logits are
    `vlm.unembedding(vlm.final_norm(states.to(vlm.device)))`.

    Args:
        images: unlabelled, anything `images.read` takes.
    """
    if not len(images):
        raise ValueError("A decoder needs images to learn from; it was given none.")
    check_count("batch_size", batch_size)
    taught = []
    # not False: TQDM_DISABLE may say so for all
    quiet: dict[str, Any] = {} if progress else {"disable": True}
    with tqdm(total=len(images), desc=f"{vlm.name}, lessons", leave=False, **quiet) as bar:
        for batch in _same_grid(vlm, images, batch_size):
            taught += _lessons(vlm, batch)
            bar.update(len(batch))
    return taught


@torch.no_grad()
def _lessons(vlm, batch):
    inputs = vlm.prepare(batch, [""] * len(batch))
    places.check_order(vlm, "A lesson is", "positions")
    image_places = places.find(vlm, inputs["input_ids"])
    # what comes after the image cannot change what the LM makes of it
    index, end = image_places.index[0], image_places.end[0]
    mask, positions = inputs["attention_mask"][:, :end], vlm.position_ids(inputs)[..., :end]
    states = vlm.lm_hidden(vlm.embed(inputs)[:, :end], mask, positions, [0, vlm.n_layers])
    return list(zip(*(of_layer[:, index].cpu() for of_layer in states)))


def _same_grid(vlm, images, batch_size):
    """Images in their order, in batches of one patch grid."""
    batch, grid = [], None
    for image in images:
        next_grid = vlm.patch_grid(image)
        if batch and (next_grid != grid or len(batch) == batch_size):
            yield batch
            batch = []
        batch, grid = [*batch, image], next_grid
    yield batch


def distil(
    vlm: VLM,
    taught: Sequence[Any],
    alpha: float = 0.7,
    temperature: float = 2.5,
    lr: float = 1e-4,
    epochs: int = 2,
    batch: int = 16,
    start: str = "unembedding",
    seed: int = 0,
    folder: str | Path | None = None,
    *,
    warmup: int = 0,
    held_out: Sequence[Any] = (),
    measure_every: int | None = None,
    patience: int | None = None,
    save_every: float = 900,
) -> Decoder:
    """A `Decoder` that says what the LM would say, by gradient descent on α τ² KL(teacher ‖
    decoder) + (1 − α) CE.

    The defaults are what the paper's code takes for LLaVA-1.5, but for its warm-up of 1,000 steps.
    For Qwen2.5-VL it takes one epoch, batch=32, lr=1e-4 or 2e-4, α = 0.8 or 0.9 and τ = 4 or 5.

    Under `accelerate launch` each process takes its part of every batch, with the model on its own
    device (`processes.processes().device`), and all return the same decoder: that of one process,
    but for rounding. The folder has to be one that all of them see.

    Args:
        taught: `lessons(vlm, images)`; or a list of images, whose lessons are then taken anew in
            each epoch: slower, but those of 100,000 images fit in no memory.
        alpha, temperature: α weighs the teacher's whole distribution, softened by τ as the
            decoder's is, against its first word.
        lr: where a cosine that ends at zero begins; AdamW, gradients cut to length 1.
        batch: images at once, on all processes together.
        start: "unembedding" (the paper's), "zeros" or "random".
        folder: keep the work there, go on from it if there is some, and save the decoder there in
            the end.
        warmup: steps in which the rate rises to `lr` before the cosine begins.
        held_out: other lessons, or other images. Their agreement, the share of visual tokens for
            which the decoder's first word is the LM's, is measured now and then; it stands in the
            decoder's history and beside the progress bar. 1,000 in the paper's code.
        measure_every: steps between two measurements, by default a tenth of an epoch; the last step
            is followed by one in any case.
        patience: after so many measurements that were no better than the best one, training ends;
            the decoder is then that of the best measurement. None goes on to the end, and takes the
            last one. 10 in the paper's code, which measures the loss.
        save_every: seconds between two states kept. Each holds three numbers of four bytes for
            every weight, 1.6 GB for LLaVA-1.5-7B (with patience, the best weights as well).

    Raises:
        ValueError: for settings that are none, and for a folder that was begun with others.
        ImportError: where several processes lack accelerate.
    """
    if not 0 <= alpha <= 1 or temperature <= 0 or epochs < 1 or not len(taught):
        raise ValueError(
            "α is from 0 to 1, τ above 0, and there is an epoch and a lesson at least, not α "
            f"{alpha!r}, τ {temperature!r}, {epochs!r} epochs, {len(taught)} lessons."
        )
    check_count("batch", batch)
    of_epoch = -(-len(taught) // batch)
    steps = epochs * of_epoch
    measure_every = max(1, of_epoch // 10) if measure_every is None else measure_every
    _check_schedule(steps, warmup, len(held_out), measure_every, patience, save_every)
    about = {
        "model": vlm.name,
        "mark": _mark(vlm),
        "alpha": alpha,
        "temperature": temperature,
        "lr": lr,
        "epochs": epochs,
        "batch": batch,
        "start": start,
        "seed": seed,
        "images": len(taught),
        "warmup": warmup,
        "held_out": len(held_out),
        "measure_every": measure_every if len(held_out) else None,
        "patience": patience,
    }
    mine, added = processes(), _adding(vlm)
    weight = _start(vlm, start, seed).requires_grad_()
    optimiser = torch.optim.AdamW([weight], lr=lr, weight_decay=0.0)
    history, best = _go_on(folder, about, weight, optimiser)
    saved = monotonic()
    # not False: TQDM_DISABLE may say so for all
    quiet: dict[str, Any] = {} if mine.rank == 0 else {"disable": True}
    with tqdm(
        total=steps, initial=len(history), desc=f"{vlm.name}, distilling", leave=False, **quiet
    ) as bar:
        for step in range(len(history), steps):
            if _enough(history, patience):
                break
            chosen = [taught[i] for i in _batch(step, len(taught), batch, seed)]
            tokens, states = _pooled(vlm, chosen[mine.rank :: mine.count])
            optimiser.zero_grad()
            total = int(added(torch.tensor(len(tokens))))
            losses = _learn(vlm, weight, tokens, states, alpha, temperature, total)
            soft, hard = added(torch.tensor(losses, dtype=torch.float64)).tolist()
            if not math.isfinite(soft + hard):  # before the weight takes it over
                raise not_finite(f"the decoder's loss at step {step + 1}", vlm.dtype)
            gradient: Any = weight.grad  # there is one by now
            weight.grad = added(gradient)
            torch.nn.utils.clip_grad_norm_([weight], 1.0)
            optimiser.param_groups[0]["lr"] = lr * _rate(step, steps, warmup)
            optimiser.step()
            agreement = NEVER
            if len(held_out) and ((step + 1) % measure_every == 0 or step + 1 == steps):
                counts = _agreement(vlm, weight, held_out[mine.rank :: mine.count], batch)
                agreed, seen = added(counts).tolist()
                agreement = agreed / seen
                if patience is not None and not agreement <= _highest(history):
                    best = weight.detach().to(vlm.dtype, copy=True)
            history.append((soft, hard, agreement))
            bar.update()
            shown = {"soft": f"{soft:.3f}", "hard": f"{hard:.3f}"}
            if len(held_out):
                shown["agreement"] = f"{_latest(history):.3f}"
            bar.set_postfix(shown, refresh=False)
            if folder and mine.rank == 0 and monotonic() - saved >= save_every:
                _keep(folder, about, weight, optimiser, history, best)
                saved = monotonic()
    weight = weight.detach().to(vlm.dtype) if best is None else best
    table = pd.DataFrame(history, columns=["soft", "hard", "agreement"]).rename_axis("step")
    if not len(held_out):
        table = table.drop(columns="agreement")
    decoder = Decoder(weight, vlm.words, about, table, texts=vlm.texts)
    if folder and mine.rank == 0:
        decoder.save(folder)
        (Path(folder) / UNFINISHED).unlink(missing_ok=True)
    added(torch.zeros(1))  # all wait here until the first has written
    return decoder


def _check_schedule(steps, warmup, held_out, measure_every, patience, save_every):
    """Refuse what no training can follow."""
    check_count("warmup", warmup, 0)
    check_count("measure_every", measure_every)
    if warmup >= steps:
        raise ValueError(
            f"A warm-up of {warmup} steps leaves nothing of a training of {steps}: take a shorter "
            "one, or more images or epochs."
        )
    if patience is not None:
        check_count("patience", patience)
        if not held_out:
            raise ValueError(
                "Patience is with the agreement on held-out pictures: give some, by held_out."
            )
    if isinstance(save_every, bool) or not save_every >= 0:
        raise ValueError(f"save_every is a number of seconds from 0 up, not {save_every!r}.")


def _adding(vlm) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function that adds a tensor up over all processes, on the device of its own."""
    if processes().count == 1:
        return lambda tensor: tensor
    if find_spec("accelerate") is None:
        raise ImportError("Several processes are joined by accelerate: pip install accelerate.")
    from accelerate import Accelerator

    accelerator: Any = Accelerator(cpu=vlm.device.type == "cpu")
    return lambda tensor: accelerator.reduce(tensor.to(vlm.device), "sum").to(tensor.device)


def _pooled(vlm, chosen):
    """(tokens, states) of some lessons or images, one after the other: both (tokens, hidden)."""
    if not len(chosen):  # of a last batch smaller than the number of processes
        nothing = torch.zeros(0, vlm.unembedding.weight.shape[1])
        return nothing, nothing
    if not isinstance(chosen[0], tuple):
        chosen = lessons(vlm, chosen, progress=False)
    tokens, states = map(torch.cat, zip(*chosen))
    return tokens, states


def _rate(step, steps, warmup):
    """The share of the highest rate that a step is taken with."""
    if step < warmup:
        return (step + 1) / warmup
    return (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2


@torch.no_grad()
def _agreement(vlm, weight, taught, batch):
    """(2,) for how many visual tokens the decoder's first word is the LM's, and of how many."""
    counts, size = torch.zeros(2, dtype=torch.int64), max(1, LARGEST // len(weight))
    for begin in range(0, len(taught), batch):
        tokens, states = _pooled(vlm, taught[begin : begin + batch])
        for part, final in zip(tokens.split(size), states.split(size)):
            part, final = part.to(weight.device), final.to(weight.device)
            words = vlm.unembedding(vlm.final_norm(final)).argmax(-1)
            alike = F.linear(part.float(), weight).argmax(-1) == words
            counts += torch.tensor([int(alike.sum()), len(part)])
    return counts


def _measured(history):
    return [row[2] for row in history if not math.isnan(row[2])]


def _highest(history):
    return max(_measured(history), default=NEVER)


def _latest(history):
    return (_measured(history) or [NEVER])[-1]


def _enough(history, patience):
    """Has the agreement been no better than its best for so many measurements?"""
    agreements = _measured(history)
    if patience is None or not agreements:
        return False
    return len(agreements) - 1 - agreements.index(max(agreements)) >= patience


def _start(vlm, start, seed):
    weight = vlm.unembedding.weight.detach().float().clone()
    if start == "random":
        noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed))
        return (noise * weight.std().cpu()).to(weight)
    if start not in ("unembedding", "zeros"):
        raise ValueError(
            f"A decoder starts from 'unembedding', 'zeros' or 'random', not {start!r}."
        )
    return weight if start == "unembedding" else torch.zeros_like(weight)


def _batch(step, n, batch, seed):
    """Which lessons a step takes: each once an epoch, in another order each time."""
    epoch, number = divmod(step, -(-n // batch))
    order = np.random.default_rng([seed, epoch]).permutation(n)
    return order[number * batch : (number + 1) * batch]


def _learn(vlm, weight, tokens, states, alpha, temperature, total=None):
    """Adds the gradient of the loss to `weight`, some tokens at a time; returns its two terms, τ²
    KL and CE.

    total: of how many tokens the loss is the mean, where other processes have some of them.
    """
    if not len(tokens):
        weight.grad = torch.zeros_like(weight)
        return 0.0, 0.0
    soft, hard, total = 0.0, 0.0, total or len(tokens)
    size = max(1, LARGEST // len(weight))
    for part, final in zip(tokens.split(size), states.split(size)):
        part, final = part.to(weight.device), final.to(weight.device)
        with torch.no_grad():
            teacher = vlm.unembedding(vlm.final_norm(final)).float()
        student, share = F.linear(part.float(), weight), len(part) / total
        ours, theirs = (F.log_softmax(logits / temperature, -1) for logits in (student, teacher))
        kl = temperature**2 * F.kl_div(ours, theirs, reduction="batchmean", log_target=True) * share
        ce = F.cross_entropy(student, teacher.argmax(-1)) * share
        (alpha * kl + (1 - alpha) * ce).backward()
        soft, hard = soft + kl.item(), hard + ce.item()
    return soft, hard


def _keep(folder, about, weight, optimiser, history, best):
    """Everything that going on needs, in one file and without pickle."""
    state = optimiser.state[weight]
    tensors = {"weight": weight.detach(), "mean": state["exp_avg"], "square": state["exp_avg_sq"]}
    tensors |= {} if best is None else {"best": best}
    tensors["history"] = torch.tensor(history, dtype=torch.float64)
    tensors = {name: tensor.cpu() for name, tensor in tensors.items()}
    with together(folder) as new:
        save_file(tensors, new / UNFINISHED, {"about": json.dumps(about)})


def _go_on(folder, about, weight, optimiser):
    """(history, best weights or None) so far, with weight and optimiser as they were; [] where
    nothing was kept."""
    path = Path(folder or "") / UNFINISHED
    if not folder or not path.is_file():
        return [], None
    try:
        with safe_open(path, "pt") as file:
            begun = json.loads(file.metadata()["about"])
            kept = {name: file.get_tensor(name).to(weight.device) for name in file.keys()}
            history = [tuple(row) for row in kept["history"].tolist()]
            moments = {"exp_avg": kept["mean"], "exp_avg_sq": kept["square"]}
            before, best = kept["weight"], kept.get("best")
    except Exception as error:  # safetensors and json raise each their own for a broken file
        raise ValueError(
            f"'{path}' is damaged ({first_line(error)}); delete it, and the decoder is taught anew."
        ) from None
    if begun != about:
        other = ", ".join(name for name in about if begun.get(name) != about[name])
        raise ValueError(
            f"'{path}' was begun otherwise ({other} differ). Delete it, or give another folder."
        )
    with torch.no_grad():
        weight.copy_(before)
    optimiser.state[weight] = {"step": torch.tensor(float(len(history))), **moments}
    return history, best
