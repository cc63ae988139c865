"""The tuned lens: the logit lens, after a translator for each LM layer.

    tuned = tune(vlm, images=images)                    # or texts=[…]
    tuned.save("my-lens"); tuned = load_tuned("my-lens", vlm)

After Belrose et al. (arXiv 2303.08112): h becomes h + A h + b, with A and b learnt so that the
final norm and the unembedding give of it what they give of the last layer. So it cannot know more
than the last layer will say at that place.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn import functional as F
from tqdm import tqdm  # plain text: a notebook's widget would ask the built page for the network

from .. import images as pictures
from .. import places
from ..files import first_line, together
from ..finite import not_finite
from ..hooks import check_count
from . import texts as reading
from .keeping import UNFINISHED, check_model, model_of, opened, resumed
from .readers import Lens, Table, chosen_layers

if TYPE_CHECKING:
    from ..models import VLM

WEIGHTS = "translators.safetensors"
LARGEST = 2**23  # logits in one piece: 32 MiB in float32, whatever the vocabulary
MOMENTUM, DECAY, LONGEST_STEP = 0.9, 1e-3, 1.0


class TunedLens(Lens):
    """softmax(W_U · norm(h + A h + b)), with A and b of the layer; the last layer has none.

    Attributes:
        translators: {layer: (hidden, hidden + 1)} A, and b as the last column, in float32.
        losses: (steps, layers) mean divergence from the last layer, in nats.
        about: how it was trained.
    """

    name = "tuned lens"

    def __init__(
        self,
        vlm: VLM,
        translators: dict[int, torch.Tensor],
        about: dict[str, Any] | None = None,
        losses: np.ndarray | None = None,
    ):
        super().__init__(vlm)
        self.translators, self.about = translators, about or {}
        self.losses = np.zeros((0, len(translators))) if losses is None else losses
        self.layers = tuple(sorted({*translators, vlm.n_layers}))
        if self.layer not in self.layers:
            self.layer = self.layers[0]

    def prepared(self, hidden: torch.Tensor, layer: int) -> torch.Tensor:
        if layer in self.translators:
            hidden = translated(hidden, self.translators[layer])
        return self.vlm.final_norm(hidden.to(self.vlm.unembedding.weight))

    def table(self, layer: int) -> Table:
        unembedding = self.vlm.unembedding
        return Table(unembedding.weight, getattr(unembedding, "bias", None))

    def save(self, folder: str | Path) -> None:
        """Write `translators.safetensors` into `folder`.

        Raises:
            ValueError: where another tuned lens is there, which stays.
        """
        resumed(folder, WEIGHTS, self.about, "tuned lens")
        with together(folder) as new:
            tensors = {f"layer.{n}": each.cpu() for n, each in self.translators.items()}
            tensors["losses"] = torch.from_numpy(self.losses)
            save_file(tensors, new / WEIGHTS, {"about": json.dumps(self.about)})


def translated(hidden: torch.Tensor, translator: torch.Tensor) -> torch.Tensor:
    """h + A h + b of states (…, hidden), in float32."""
    hidden = hidden.to(translator)
    return hidden + F.linear(hidden, translator[:, :-1], translator[:, -1])


def tune(
    vlm: VLM,
    images: Sequence[Any] | None = None,
    texts: str | Path | Iterable[str] | None = None,
    layers: Iterable[int] | None = None,
    *,
    steps: int = 250,
    batch: int = 8,
    lr: float = 1.0,
    seed: int = 0,
    folder: str | Path | None = None,
    save_every: float = 300,
) -> TunedLens:
    """A `TunedLens`, trained as in its paper: gradient descent with Nesterov's momentum of 0.9 and
    a weight decay of 0.001, gradients cut to length 1, a rate that falls linearly from `lr` to 0.

    Args:
        images: what it learns from are their visual tokens, as a lens on pictures reads them;
            anything `images.read` takes, unlabelled.
        texts: instead, all tokens of texts, as in the paper, whose batches have 262,144 of them;
            a list, or a file with one a line.
        layers: LM layers to translate; all but the last by default.
        batch: images or texts a step.
        folder: keep the work there, go on from it if there is some, and save the lens there in the
            end.
        save_every: seconds between two states of the work kept.

    Raises:
        TypeError: for images, texts or layers that are no list.
        ValueError: unless either images or texts are given, for settings that are none, and for a
            folder that was begun otherwise.
        NotFinite: where a loss is nan or infinite.
    """
    if (images is None) == (texts is None):
        raise ValueError("A tuned lens learns from images or from texts: give one of the two.")
    for name, number in {"steps": steps, "batch": batch}.items():
        check_count(name, number)
    chosen = chosen_layers(layers, vlm.n_layers - 1)
    of_images, digest = images is not None, hashlib.sha256()
    if of_images:
        given = _pictures(images)
        for pixels in map(pictures.read, given):
            digest.update(f"{pixels.size}".encode() + pixels.tobytes())
    else:
        listed = reading.read(() if texts is None else texts)
        digest.update("\n".join(listed).encode(errors="replace"))
        given = reading.encoded(vlm, listed)
    if not given or not chosen:
        raise ValueError("A tuned lens needs a layer, and an image or a text to learn from.")
    about = model_of(vlm) | {
        "layers": chosen, "steps": steps, "batch": batch, "lr": lr, "seed": seed,
        "learnt from": "images" if of_images else "texts", "of them": len(given),
        "digest": digest.hexdigest(),
    }  # fmt: skip
    width = vlm.unembedding.weight.shape[1]
    learnt = torch.zeros(len(chosen), width, width + 1, device=vlm.device, requires_grad=True)
    optimiser = torch.optim.SGD(
        [learnt], lr=lr, momentum=MOMENTUM, nesterov=True, weight_decay=DECAY
    )
    learns_from = _of_images if of_images else _of_texts
    losses, saved = _go_on(folder, about, learnt, optimiser), monotonic()
    with tqdm(total=steps, initial=len(losses), desc=f"{vlm.name}, tuned lens", leave=False) as bar:
        for step in range(len(losses), steps):
            rng = np.random.default_rng([seed, step])
            of_step = [given[i] for i in rng.permutation(len(given))[:batch]]
            states = learns_from(vlm, of_step, chosen)
            optimiser.zero_grad()
            losses.append(_learn(vlm, learnt, states))
            if not np.isfinite(losses[-1]).all():
                raise not_finite(f"the tuned lens's loss at step {step + 1}", vlm.dtype)
            torch.nn.utils.clip_grad_norm_([learnt], LONGEST_STEP)
            optimiser.param_groups[0]["lr"] = lr * (1 - step / steps)
            optimiser.step()
            bar.update()
            bar.set_postfix(nats=f"{np.mean(losses[-1]):.3f}", refresh=False)
            if folder and monotonic() - saved >= save_every:
                _keep(folder, about, learnt, optimiser, losses)
                saved = monotonic()
    translators = dict(zip(chosen, learnt.detach()))
    tuned = TunedLens(vlm, translators, about, np.array(losses))
    if folder:
        tuned.save(folder)
        (Path(folder) / UNFINISHED).unlink(missing_ok=True)
    return tuned


def load_tuned(folder: str | Path, vlm: VLM) -> TunedLens:
    """The tuned lens saved in `folder`, for the model that it was trained on.

    Raises:
        FileNotFoundError: where there is none.
        ValueError: where it is damaged or of another model.
    """
    path = Path(folder) / WEIGHTS
    if not path.is_file():
        raise FileNotFoundError(
            f"'{folder}' holds no tuned lens: {WEIGHTS} is what `TunedLens.save` writes."
        )
    about, tensors = opened(path, "tuned lens")[2:]
    check_model(about, vlm, "tuned lens")
    width = vlm.unembedding.weight.shape[1]
    try:
        losses = tensors.pop("losses").numpy()
        translators = {int(name.removeprefix("layer.")): each for name, each in tensors.items()}
        shapes = {each.shape for each in translators.values()}
        if shapes != {(width, width + 1)} or not set(translators) < set(range(vlm.n_layers + 1)):
            raise ValueError("it holds no translators of this model")
    except Exception as error:  # of names that are no layers' and of missing keys
        raise ValueError(
            f"'{path}' could not be read ({first_line(error)}); train the lens again."
        ) from error
    translators = {layer: each.to(vlm.device) for layer, each in translators.items()}
    return TunedLens(vlm, translators, about, losses)


def _pictures(images):
    """The pictures of a list; one picture alone would be taken apart, row by row."""
    alone = isinstance(images, (str, bytes, np.ndarray, torch.Tensor))
    if alone or not isinstance(images, Iterable):
        raise TypeError(
            "images is a list of pictures, such as [scene.image], not "
            f"{type(images).__name__}: put one picture into a list, or an array of several through "
            "list()."
        )
    return list(images)


@torch.no_grad()
def _of_images(vlm, images, layers):
    """(layers + 1, tokens, hidden) states of the visual tokens of images, the last layer's last."""
    by_grid, found = {}, []
    for image in images:
        by_grid.setdefault(vlm.patch_grid(image), []).append(image)
    for alike in by_grid.values():
        inputs = vlm.prepare(alike, [""] * len(alike))
        places.check_order(vlm, "A tuned lens is")
        of_image = places.find(vlm, inputs["input_ids"])
        index, end = of_image.index[0], of_image.end[0]
        mask, positions = inputs["attention_mask"][:, :end], vlm.position_ids(inputs)[..., :end]
        embeddings = vlm.embed(inputs)[:, :end]
        states = vlm.lm_hidden(embeddings, mask, positions, [*layers, vlm.n_layers])
        found.append(torch.stack([of_layer[:, index].flatten(0, 1) for of_layer in states]))
    return torch.cat(found, 1)[..., : vlm.unembedding.weight.shape[1]]


def _of_texts(vlm, texts, layers):
    """The same of all tokens of texts."""
    run = reading.states(vlm, texts, [*layers, vlm.n_layers])
    return torch.cat([torch.stack(of_text) for of_text in run], 1)


def _learn(vlm, learnt, states):
    """Adds the gradient of the mean divergence to the translators, some tokens at a time; returns
    it by layer."""
    losses, size = np.zeros(len(learnt)), max(1, LARGEST // len(vlm.unembedding.weight))
    for tokens in torch.arange(states.shape[1]).split(size):
        final = states[-1, tokens]
        share = len(tokens) / states.shape[1]
        with torch.no_grad():
            target = vlm.unembedding(vlm.final_norm(final)).float().log_softmax(-1)
        for n, of_layer in enumerate(states[:-1, tokens]):
            moved = translated(of_layer, learnt[n]).to(vlm.unembedding.weight)
            said = vlm.unembedding(vlm.final_norm(moved)).float().log_softmax(-1)
            loss = F.kl_div(said, target, reduction="batchmean", log_target=True) * share
            loss.backward()
            losses[n] += loss.item()
    return losses


def _keep(folder, about, learnt, optimiser, losses):
    """Everything that going on needs, in one file and without pickle."""
    tensors = {
        "learnt": learnt.detach(), "momentum": optimiser.state[learnt]["momentum_buffer"],
        "losses": torch.from_numpy(np.array(losses)),
    }  # fmt: skip
    with together(folder) as new:
        save_file(tensors, new / UNFINISHED, {"about": json.dumps(about)})


def _go_on(folder, about, learnt, optimiser):
    """The losses so far, with translators and optimiser as they were; [] where nothing was kept."""
    kept = resumed(folder, WEIGHTS, about, "tuned lens")
    if kept is None:
        return []
    with torch.no_grad():
        if kept.finished:
            learnt.copy_(torch.stack([kept.tensors[f"layer.{n}"] for n in about["layers"]]))
        else:
            learnt.copy_(kept.tensors["learnt"])
            momentum = kept.tensors["momentum"].to(learnt.device)
            optimiser.state[learnt]["momentum_buffer"] = momentum
    return list(kept.tensors["losses"].numpy())
