"""The contextual lens: a state is read as the word whose state in some text is most like it.

    made = bank(vlm, "sentences.txt", layers=[2, 8])       # states of words, where texts use them
    made.save("my-bank"); made = load_bank("my-bank", vlm)
    lens.token_maps(vlm, image, lens=ContextualLens(vlm, made), layer=2)

After LatentLens (arXiv 2602.00462): the logit lens asks which word a state would say next, this one
asks which word, read in its context, looks like this inside of the model. Nothing is trained.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import save_file
from tqdm import tqdm  # plain text: a notebook's widget would ask the built page for the network

from ..files import first_line, together
from ..finite import check_finite
from ..hooks import check_count
from . import texts as reading
from .keeping import UNFINISHED, check_model, model_of, opened, resumed
from .readers import COSINE, Lens, Table, chosen_layers, directions

if TYPE_CHECKING:
    from ..models import VLM

WEIGHTS, AROUND = "bank.safetensors", 30  # letters of a context on either side


@dataclass(repr=False)
class Bank:
    """States of words in texts, by LM layer.

    Attributes:
        words: (words,) in small letters, sorted.
        ids: (entries,) whose state each entry is, an index into `words`, ascending.
        states: {layer: (entries, hidden)} directions: states at length 1.
        contexts: (entries,) the word in its text, between some of what stands before and after.
        about: how it was made: the model's name and mark, texts, prefix, entries a word, seed.
    """

    words: np.ndarray
    ids: torch.Tensor
    states: dict[int, torch.Tensor]
    contexts: np.ndarray
    about: dict[str, Any] = field(default_factory=dict)

    def __repr__(self):
        return (
            f"Bank({len(self.words)} words, {len(self.ids)} entries, LM layers "
            f"{', '.join(map(str, self.layers))} of {self.about.get('model')})"
        )

    @property
    def layers(self) -> tuple[int, ...]:
        """The LM layers that it has states of."""
        return tuple(sorted(self.states))

    def check_fits(self, vlm: VLM) -> None:
        """ValueError unless these states are of this model, read with this tokenizer."""
        check_model(self.about, vlm, "bank")

    def save(self, folder: str | Path) -> None:
        """Write `bank.safetensors` into `folder`.

        Raises:
            ValueError: where another bank is there, which stays.
        """
        resumed(folder, WEIGHTS, self.about, "bank")
        with together(folder) as new:
            tensors = {f"layer.{layer}": states for layer, states in self.states.items()}
            header = {"about": json.dumps(self.about), "words": json.dumps(list(self.words))}
            header["contexts"] = json.dumps(list(self.contexts))
            save_file({**tensors, "ids": self.ids}, new / WEIGHTS, header)


def bank(
    vlm: VLM,
    texts: str | Path | Iterable[str],
    layers: Iterable[int] | None = None,
    *,
    words: Iterable[str] | None = None,
    per_word: int = 50,
    prefix: str = "",
    seed: int = 0,
    batch_size: int = 16,
    folder: str | Path | None = None,
    save_every: float = 300,
) -> Bank:
    """A `Bank` of the states that words have in texts, each at the last of its tokens.

    Args:
        texts: a list, or a file with one text a line. Of a text, 512 tokens are read.
        layers: LM layers, 0 … `vlm.n_layers`; all of them by default. Each takes two or four bytes
            for every entry and hidden dimension: 100,000 entries of LLaVA-1.5-7B take 0.8 GB.
        words: keep these only; by default all that occur.
        per_word: of a word that occurs more often, so many occurrences are drawn at random.
        prefix: put before each text, such as the beginning of a chat; its words are not kept.
        seed: of that draw.
        folder: keep the work there, go on from it if there is some, and save the bank there in the
            end.
        save_every: seconds between two states of the work kept.

    Raises:
        TypeError: for texts or words that are no strings, and layers that are no list.
        ValueError: for texts without words, for `words` that never occur in them, for a layer that
            the model lacks, and for a folder that was begun otherwise.
        NotFinite: where a state is nan or infinite.
    """
    check_count("per_word", per_word)
    check_count("batch_size", batch_size)
    chosen = chosen_layers(layers, vlm.n_layers)
    if not chosen:
        raise ValueError("A bank holds states of one LM layer at least; it was given none.")
    listed = reading.read(texts)
    if words is not None:
        words = reading.strings("words", words)
    encoded = reading.encoded(vlm, listed, prefix)
    known, drawn = _draw(encoded, words, per_word, seed)
    digest = hashlib.sha256("\n".join([*listed, *known]).encode(errors="replace")).hexdigest()
    about = model_of(vlm) | {
        "prefix": prefix, "per_word": per_word, "seed": seed, "texts": len(listed),
        "layers": chosen, "digest": digest,
    }  # fmt: skip
    width = vlm.unembedding.weight.shape[1]
    states = {layer: torch.zeros(len(drawn), width, dtype=vlm.dtype) for layer in chosen}
    # what is drawn of each text: (entry, place)
    of_text: dict[int, list[tuple[int, int]]] = {}
    for entry, (_, text, place, _) in enumerate(drawn):
        of_text.setdefault(text, []).append((entry, place))
    order = sorted(of_text)
    done = _go_on(folder, about, states, len(order))
    saved = monotonic()
    run = reading.states(vlm, [encoded[text] for text in order[done:]], chosen, batch_size)
    with tqdm(total=len(order), initial=done, desc=f"{vlm.name}, bank", leave=False) as bar:
        for number, of_layers in enumerate(run, done):
            entries, places = (list(part) for part in zip(*of_text[order[number]]))
            for layer, of_layer in zip(chosen, of_layers):
                check_finite(of_layer, f"the texts' states at LM layer {layer}")
                states[layer][entries] = directions(of_layer[places]).to("cpu", vlm.dtype)
            bar.update()
            if folder and monotonic() - saved >= save_every:
                _keep(folder, about, states, number + 1)
                saved = monotonic()
    ids = torch.tensor([word for word, *_ in drawn])
    contexts = np.array([_context(listed[text], *span) for _, text, _, span in drawn], dtype=object)
    made = Bank(np.array(known, dtype=object), ids, states, contexts, about)
    if folder:
        made.save(folder)
        (Path(folder) / UNFINISHED).unlink(missing_ok=True)
    return made


def _draw(encoded, words, per_word, seed):
    """(words, [(word, text, place, span), …]) of the occurrences that are kept, sorted by word."""
    occurrences: dict[str, list[tuple[int, int, tuple[int, int]]]] = {}
    for number, text in enumerate(encoded):
        for word, place, span in zip(text.words, text.places, text.spans):
            occurrences.setdefault(word, []).append((number, place, span))
    known = sorted(occurrences) if words is None else sorted({word.lower() for word in words})
    never = [word for word in known if word not in occurrences]
    if never or not known:
        raise ValueError(
            f"{', '.join(map(repr, never[:5])) or 'No word'}{', …' if len(never) > 5 else ''} "
            f"{'occur' if len(never) > 1 else 'occurs'} in none of the texts: leave it out, or "
            "give texts that use it."
        )
    rng, drawn = np.random.default_rng(seed), []
    for n, word in enumerate(known):
        of_word = occurrences[word]
        kept = np.sort(rng.permutation(len(of_word))[:per_word])
        drawn += [(n, *of_word[k]) for k in kept]
    return known, drawn


def _context(text, start, end):
    """A word in brackets, between some of what stands before and after it."""
    before, after = text[max(0, start - AROUND) : start], text[end : end + AROUND]
    before, after = ("…" * (start > AROUND)) + before, after + "…" * (end + AROUND < len(text))
    return f"{before}[{text[start:end]}]{after}"


def _keep(folder, about, states, done):
    tensors = {f"layer.{layer}": of_layer for layer, of_layer in states.items()}
    with together(folder) as new:
        save_file(tensors, new / UNFINISHED, {"about": json.dumps(about), "done": str(done)})


def _go_on(folder, about, states, n_texts):
    """How many of the texts are done, with `states` as they were."""
    kept = resumed(folder, WEIGHTS, about, "bank")
    if kept is None:
        return 0
    for layer, of_layer in states.items():
        of_layer.copy_(kept.tensors[f"layer.{layer}"])
    return n_texts if kept.finished else int(kept.header["done"])


def load_bank(folder: str | Path, vlm: VLM) -> Bank:
    """The bank saved in `folder`, for the model that it was made with.

    Raises:
        FileNotFoundError: where there is none.
        ValueError: where it is damaged or of another model.
    """
    path = Path(folder) / WEIGHTS
    if not path.is_file():
        raise FileNotFoundError(f"'{folder}' holds no bank: {WEIGHTS} is what `Bank.save` writes.")
    kept = opened(path, "bank")
    try:
        words, ids = json.loads(kept.header["words"]), kept.tensors.pop("ids")
        states = {int(name.removeprefix("layer.")): each for name, each in kept.tensors.items()}
        sizes = {len(ids), *(len(of_layer) for of_layer in states.values())}
        contexts = np.array(json.loads(kept.header["contexts"]), dtype=object)
        sizes.add(len(contexts))
        ascending = (ids.diff() >= 0).all() and ids.min() >= 0 and ids.max() < len(words)
        if not states or len(sizes) > 1 or not ascending:
            raise ValueError("its numbers are not those of a bank")
    except Exception as error:  # of json, of missing keys and of tensors of other shapes
        raise ValueError(
            f"'{path}' could not be read ({first_line(error)}); make it again."
        ) from error
    made = Bank(np.array(words, dtype=object), ids, states, contexts, kept.about)
    made.check_fits(vlm)
    return made


class ContextualLens(Lens):
    """The word of a bank whose state is most like the one read, by cosine (LatentLens, arXiv
    2602.00462). States are (…, hidden), of the layers that the bank has.

    Args:
        bank: of this model.
        against: LM layers of the bank to compare with, all of them together, as LatentLens does by
            default; None compares each layer with itself.
    """

    name, measure = "contextual lens", COSINE

    def __init__(self, vlm: VLM, bank: Bank, against: Sequence[int] | None = None):
        super().__init__(vlm)
        bank.check_fits(vlm)
        self.bank, self.words, self.tokenizer = bank, bank.words, None
        if against is not None:
            against = chosen_layers(against, vlm.n_layers)
        lacking = sorted(set(against or ()) - set(bank.layers))
        if lacking or (against is not None and not against):
            raise ValueError(
                f"The bank has LM layers {', '.join(map(str, bank.layers))}, and not "
                f"{', '.join(map(str, lacking)) or 'none'}: compare with those, or make a bank "
                "with others."
            )
        self.against = against
        self.layers = bank.layers if against is None else self.layers
        if self.layer not in self.layers:
            self.layer = self.layers[0]
        self._tables: dict[int | None, Table] = {}

    def neighbours(
        self, state: torch.Tensor, layer: int | None = None, top_k: int = 5
    ) -> list[tuple[str, float]]:
        """The contexts whose words look most like one state (hidden,), with their cosines, best
        first: several of one word, perhaps."""
        weight = self.table(self.at(layer)).weight
        cosines = weight.float() @ directions(state.to(weight.device))
        best = cosines.topk(min(top_k, len(weight)))
        found = zip(best.indices.tolist(), best.values.tolist())
        # where several layers are compared with, all entries come once for each
        return [(str(self.bank.contexts[i % len(self.bank.ids)]), cosine) for i, cosine in found]

    def prepared(self, hidden: torch.Tensor, layer: int) -> torch.Tensor:
        return directions(hidden)

    def table(self, layer: int) -> Table:
        key = layer if self.against is None else None
        if key not in self._tables:
            chosen = [layer] if self.against is None else self.against
            weight = torch.cat([self.bank.states[each] for each in chosen]).to(self.vlm.device)
            ids = self.bank.ids.repeat(len(chosen)).to(self.vlm.device)
            self._tables[key] = Table(weight, None, ids)
        return self._tables[key]
