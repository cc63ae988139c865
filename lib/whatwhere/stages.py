"""What token maps say at each depth of the ViT: attributes and objects, segments, and things that
are not there.

    read = stages.read(vlm, scenes, asked=ww.world.words_of("category"))
    table = stages.counts(read, scenes)                # a row for each scene and depth
    ww.stats.share(*table.query("depth == 3")[["attribute, own", "object patches"]].T.values)

Section 3 of *Reading Images Like Texts* (arXiv 2509.19191) counts words from a list over five
images, by substring. Here words are whole, scenes are hundreds with the truth known for each patch,
and every count can be made again on maps that cannot know the scene (`Readings.of_other_scenes`,
`Readings.shuffled`).
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm  # plain text: a notebook's widget would ask the built page for the network

from . import images as pictures
from .hooks import check_count
from .images import View
from .lens import Lens, LogitLens
from .lens.maps import chosen_lens, visual_states
from .scenes import Scene, checked, cover, vocabulary
from .scenes import existence as asked_for
from .stats import Interval, interval, share
from .tokens import Forms, forms
from .types import ImageLike

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from .models import VLM


KINDS = ("attribute", "object", "background", "function")  # and "other", which is all the rest


@dataclass(frozen=True, repr=False)
class Readings:
    """Token maps of many images, all of one grid.

    Attributes:
        ids: (images, depths, rows, columns) the best id of each patch.
        asked: words whose presence was asked after.
        scores: (images, depths, asked) the largest log-probability that any patch gives to each of
            them, or the largest cosine, where the lens compares.
        vocabulary: (vocabulary,) what each id looks like.
        depths: the ViT depths.
        layer: the LM layer read.
        tokenizer: the model's, for words that are several tokens; None where all words are whole.
        lens: what they were read with.
        views: by (width, height) of a picture, what the model sees of one; of sizes that are not
            named, all.
    """

    ids: np.ndarray
    scores: np.ndarray
    asked: tuple
    vocabulary: np.ndarray
    depths: tuple
    layer: int
    tokenizer: PreTrainedTokenizerBase | None = None
    views: Mapping[tuple[int, int], View] = field(default_factory=dict)
    lens: str = LogitLens.name

    def __repr__(self):
        images, depths, rows, columns = self.ids.shape
        return (
            f"Readings({images} images, {depths} ViT depths, {rows} × {columns} patches, LM "
            f"layer {self.layer}, {self.lens})"
        )

    @property
    def words(self) -> np.ndarray:
        """(images, depths, rows, columns) the best word of each patch."""
        return self.vocabulary[self.ids]

    def forms(self, words: str | Iterable[str]) -> Forms:
        """The tokens by which words can show in these maps: `lens.forms`."""
        return forms(self.vocabulary, words, self.tokenizer)

    def viewed(self, image: ImageLike) -> View:
        """What of a picture the model sees that these maps are of: as `vlm.viewed`."""
        size = pictures.read(image).size
        return self.views.get(size, View(size, (0, 0, *size)))

    def of_other_scenes(self) -> Readings:
        """Each image is given the maps of the image before it: same model, same words, wrong
        picture."""
        return replace(self, ids=np.roll(self.ids, 1, 0), scores=np.roll(self.scores, 1, 0))

    def shuffled(self, seed: int = 0) -> Readings:
        """The patches of each map in another order, the same at all depths: right picture, wrong
        places."""
        rng, flat = np.random.default_rng(seed), self.ids.reshape(*self.ids.shape[:2], -1)
        order = rng.permuted(
            np.broadcast_to(np.arange(flat.shape[-1]), (len(flat), flat.shape[-1])), axis=1
        )
        return replace(
            self, ids=np.take_along_axis(flat, order[:, None], -1).reshape(self.ids.shape)
        )


@torch.no_grad()
def read(
    vlm: VLM,
    images: Iterable[Any],
    layer: int | None = None,
    depths: Iterable[int] | None = None,
    asked: Sequence[str] = (),
    batch_size: int | None = None,
    lens: Lens | None = None,
) -> Readings:
    """Token maps of many images at many ViT depths in one pass over them: `Readings`.

    Args:
        images: anything `images.read` takes, scenes or Gestalt probes; all of one patch grid.
        layer, depths, batch_size, lens: as for `lens.token_maps`.
        asked: words to keep scores of; the score of a word is that of the best token by which it
            can show (`lens.forms`).

    Raises:
        ValueError: where grids differ, or a word has no such token.
    """
    images = [pictures.read(getattr(image, "image", image)) for image in images]
    grid = _one_grid(vlm, images)
    depths = tuple(range(vlm.last_depth + 1) if depths is None else depths)
    reader = chosen_lens(vlm, lens)
    layer = reader.at(layer)
    word_forms = forms(reader.words, asked, reader.tokenizer)
    _refuse_missing(word_forms, f"the {reader.name} of {vlm.name}")
    form_ids = _any_of(word_forms, asked)
    first_forms = np.cumsum([0, *(len(word_forms[word]) for word in asked)])[:-1]
    views = {
        size: vlm.viewed(image) for size, image in {image.size: image for image in images}.items()
    }
    ids, scores = [], []
    with tqdm(total=len(images), desc=f"{vlm.name}, token maps", leave=False) as bar:
        for batch, _, hidden in visual_states(vlm, images, "", layer, depths, batch_size):
            parts = zip(*reader.scored(hidden, layer, 1, form_ids))
            best_ids, _, form_scores = map(torch.cat, parts)
            ids.append(best_ids.reshape(len(batch), len(depths), *grid).cpu().numpy())
            form_scores = form_scores.reshape(*hidden.shape[:3], len(form_ids))
            scores.append(form_scores.amax(2).cpu().numpy())  # of each form's best patch
            bar.update(len(batch))
    return Readings(
        np.concatenate(ids),
        np.maximum.reduceat(np.concatenate(scores), first_forms, axis=-1),  # each word's best form
        tuple(asked),
        reader.words,
        depths,
        layer,
        reader.tokenizer,
        views,
        reader.name,
    )


def _one_grid(vlm, images):
    """(rows, columns) of the visual tokens of all of these images."""
    grids = {vlm.patch_grid(image) for image in images}
    if len(grids) != 1:
        raise ValueError(
            "Maps are read of images of one patch grid; these have "
            f"{sorted(grids) or 'no image among them'}."
        )
    return next(iter(grids))


FUNCTION = tuple(". , ? : a an the is are does there what where how many to".split())


def by_kind(vocabulary: Mapping[str, Iterable[str]]) -> dict[str, tuple[str, ...]]:
    """{kind: words} as `counts` counts them, of a `scenes.vocabulary` or `world.vocabulary()`;
    other words count as "other".

    A "category" is an "object", what is neither that nor a "background" an "attribute", and
    "function" words are added. A word that is listed twice, as an orange fruit and an orange mug,
    counts as the first of these.
    """
    words: dict[str, dict[str, str]] = {
        kind: {} for kind in ("object", "background", "attribute", "function")
    }
    for kind, listed in [*vocabulary.items(), ("function", FUNCTION)]:
        kind = {"category": "object", "background": "background", "function": "function"}.get(
            kind, "attribute"
        )
        words[kind] |= {word.lower(): word for word in listed}
    counted: set[str] = set()
    for listed in words.values():
        for word in listed.keys() & counted:
            del listed[word]
        counted |= listed.keys()
    return {kind: tuple(words[kind].values()) for kind in KINDS}


def kinds_of(
    vocabulary: np.ndarray,
    words: Mapping[str, Iterable[str]],
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> np.ndarray:
    """(vocabulary,) the kind of each id as an index into KINDS, -1 for other; a word counts by all
    its `lens.forms`.

    Args:
        words: {kind: words}.
        tokenizer: the model's, for words that are several tokens.

    Raises:
        ValueError: for a kind that is not in KINDS, for a word that no token can stand for (no
            patch could ever say it), and for one that is listed twice.
    """
    unknown = set(words) - set(KINDS)
    if unknown:
        raise ValueError(f"No kind of word {sorted(unknown)}; there are {', '.join(KINDS)}.")
    listed = [word for of_kind in words.values() for word in of_kind]
    twice = [word for word, n in Counter(word.lower() for word in listed).items() if n > 1]
    if twice:
        raise ValueError(f"The word {twice[0]!r} is listed twice; one word counts once.")
    word_forms = forms(vocabulary, listed, tokenizer)
    _refuse_missing(word_forms, "this model")
    kinds = np.full(len(vocabulary), -1)
    for kind, of_kind in words.items():
        for word in of_kind:
            kinds[word_forms[word]] = KINDS.index(kind)
    return kinds


def _refuse_missing(word_forms, name):
    if word_forms.missing:
        raise ValueError(
            f"{', '.join(map(repr, word_forms.missing))}: no word of {name}, nor a first piece "
            "that is long enough, so that no patch can decode to it. Leave it out, or list a word "
            "that can show (see lens.forms)."
        )


def _say_missing(word_forms, what):
    if word_forms.missing:
        warnings.warn(
            f"This lens can say nothing for {', '.join(map(repr, word_forms.missing))} (see "
            f"lens.forms): {what}",
            stacklevel=3,
        )


def owners(scene: Scene, grid: tuple[int, int], view: View | None = None) -> np.ndarray:
    """(rows, columns) whose patch it is: the index of the thing that covers half of it or more, -1
    for the background, -2 for neither. The grid need not divide the picture.

    Args:
        view: `vlm.viewed(scene.image)`, where the model crops or pads it.
    """
    shares = cover(scene, grid, view)
    owner = np.where(shares.max(0) >= 0.5, shares.argmax(0), -2)
    return np.where(owner == len(scene.things), -1, owner)


def _pairs(maps, scenes):
    scenes = checked(scenes)
    if len(maps) != len(scenes):
        raise ValueError(
            f"{len(maps)} maps do not belong to {len(scenes)} scenes: give one for each."
        )
    return zip(maps, scenes)


def counts(
    readings: Readings, scenes: Iterable[Scene], words: Mapping[str, Iterable[str]] | None = None
) -> pd.DataFrame:
    """How many patches say what, as a table with a row for each scene and depth.

    Columns: scene, depth; `patches`, and of these the numbers of "attribute", "object",
    "background", "function" and "other"; "object patches", and of these those that say an "own
    word" of any kind, an "attribute, own" or "attribute, other's", and the same for "object". A
    word is the patch's own if it is a word of the thing that covers half of the patch: its
    category, an attribute, or a letter of its sign. A word is said by any of its tokens
    (`lens.forms`). Where scenes name their `background`, also the number of "ground patches", which
    no thing covers by half, and of these those that say a "background, own" or "background,
    other's".

    Args:
        words: {kind: words}, by default all that such scenes may show (`by_kind` of their
            `scenes.vocabulary`), as far as the model has tokens for them: a warning names those for
            which it has none, which are then said nowhere.
    """
    scenes = checked(scenes)
    if words is None:
        words = by_kind(vocabulary(scenes))
        listed = readings.forms([word for of_kind in words.values() for word in of_kind])
        # function words are nobody's own: a lens may well do without
        lacking = readings.forms([word for word in listed.missing if word not in FUNCTION])
        _say_missing(
            lacking, "it counts nowhere, and what shows it counts as saying nothing of its own."
        )
        words = {
            kind: [word for word in of_kind if word in listed.ids]
            for kind, of_kind in words.items()
        }
    kind_of = kinds_of(readings.vocabulary, words, readings.tokenizer)
    grounds = [getattr(scene, "background", None) for scene in scenes]
    named = all(grounds)
    word_forms = _forms_of_things(readings, scenes, {**words, "ground": grounds if named else []})
    rows = []
    for n, (maps, scene) in enumerate(_pairs(readings.ids, scenes)):
        owner, kinds = owners(scene, maps.shape[1:], readings.viewed(scene.image)), kind_of[maps]
        own_word = np.zeros(maps.shape, bool)
        for i, thing in enumerate(scene.things):
            own_word |= (owner == i) & np.isin(maps, _any_of(word_forms, thing.words))
        on_things = owner >= 0
        of_depths = zip(readings.depths, maps, kinds, own_word)
        for depth, ids_here, kinds_here, own_here in of_depths:
            row = {"scene": n, "depth": depth, "patches": owner.size}
            row |= {kind: int((kinds_here == k).sum()) for k, kind in enumerate(KINDS)}
            row["other"] = int((kinds_here < 0).sum())
            row |= {"object patches": int(on_things.sum()), "own word": int(own_here.sum())}
            for k, kind in enumerate(KINDS[:2]):
                hits = (kinds_here == k) & on_things
                row[f"{kind}, own"] = int((hits & own_here).sum())
                row[f"{kind}, other's"] = int((hits & ~own_here).sum())
            if named:
                hits = (kinds_here == KINDS.index("background")) & (owner == -1)
                own_here = np.isin(ids_here, _any_of(word_forms, [grounds[n]])) & hits
                row |= {
                    "ground patches": int((owner == -1).sum()),
                    "background, own": int(own_here.sum()),
                    "background, other's": int((hits & ~own_here).sum()),
                }
            rows.append(row)
    return pd.DataFrame(rows)


def segments(readings: Readings, scenes: Iterable[Scene]) -> np.ndarray:
    """(images, depths, rows, columns) the thing that each patch's word names: its index, or -1.

    A word names a thing if it is a word of that thing and of no other in the scene; it is said by
    any of its `lens.forms`.
    """
    scenes = checked(scenes)
    word_forms, things = _forms_of_things(readings, scenes), np.full(readings.ids.shape, -1)
    for (maps, scene), of_image in zip(_pairs(readings.ids, scenes), things):
        for i, thing in enumerate(scene.things):
            others = {
                word for j, other in enumerate(scene.things) if j != i for word in other.words
            }
            of_image[np.isin(maps, _any_of(word_forms, set(thing.words) - others))] = i
    return things


def _forms_of_things(readings, scenes, words=None):
    """The forms of all words of all things, told apart from each other and from other `words`,
    {kind: words}."""
    of_things = [word for scene in scenes for thing in scene.things for word in thing.words]
    listed = [word for of_kind in (words or {}).values() for word in of_kind]
    return readings.forms([*of_things, *listed])


def _any_of(word_forms, words):
    """The ids by which any of some words can show."""
    return np.concatenate([np.array([], int), *(word_forms[word] for word in words)])


def overlap(
    predicted: np.ndarray, scenes: Iterable[Scene], vlm: VLM | Readings
) -> tuple[np.ndarray, np.ndarray]:
    """Intersection over union of each thing's predicted patches with its true ones, added up over a
    scene's things.

    Args:
        predicted: (images, depths, rows, columns) indices of things, anything else for none.
        vlm: the model whose patches they are of, or its `Readings`.

    Returns:
        (sums (images, depths), things (images,)); a thing that covers half of no patch is left out.
        The mean IoU is `sums.sum(0) / things.sum()`.

    Raises:
        ValueError: where no thing of any scene covers half of a patch.
    """
    sums, things = np.zeros(predicted.shape[:2]), np.zeros(len(predicted))
    for n, (maps, scene) in enumerate(_pairs(predicted, scenes)):
        owner = owners(scene, maps.shape[1:], vlm.viewed(scene.image))
        for i in range(len(scene.things)):
            true = owner == i
            if true.any():
                things[n] += 1
                sums[n] += ((maps == i) & true).sum((1, 2)) / ((maps == i) | true).sum((1, 2))
    if not things.any():
        raise ValueError(
            "No thing of these scenes covers half of any patch: there are no masks to compare with."
        )
    return sums, things


def mean_iou(predicted: np.ndarray, scenes: Iterable[Scene], vlm: VLM | Readings) -> np.ndarray:
    """(3, depths): value, low and high of the mean of `overlap` over things. The arguments are
    those of `overlap`."""
    sums, things = overlap(predicted, scenes, vlm)
    return np.array(interval(lambda sums, things: sums.sum(0) / things.sum(), sums, things))


def existence(readings: Readings, scenes: Iterable[Scene], kind: str = "random") -> pd.DataFrame:
    """Is it there? Two questions a scene in POPE's form (`scenes.existence`), answered by the token
    map, as a table with a row for each scene, depth and question.

    Columns: scene, depth, word, there (the truth), hit (some patch decodes to the word), score (the
    largest log-probability of the word over patches; the word must have been `asked` for when the
    maps were read).

    Args:
        kind: "random", "popular" or "adversarial", how absentees are drawn. A question about a word
            for which the model has no token (`lens.forms`) is left out, with a warning that names
            the word.

    Raises:
        ValueError: where nothing can be asked.
    """
    rows, pairs = [], list(_pairs(readings.ids, scenes))
    by_scene = asked_for([scene for _, scene in pairs], kind)
    questions = [
        (n, maps, *question)
        for n, ((maps, _), of_scene) in enumerate(zip(pairs, by_scene))
        for question in of_scene
    ]
    word_forms = readings.forms([*readings.asked, *(word for *_, word, _ in questions)])
    _say_missing(word_forms, "the questions about it are left out.")
    for n, maps, word, there in questions:
        if word in word_forms.ids:
            if word not in readings.asked:
                raise ValueError(
                    f"The maps were read without asking for {word!r}: read(…, "
                    f"asked={(*readings.asked, word)})."
                )
            hit = np.asarray(np.isin(maps, word_forms[word]).any((1, 2)))
            score = readings.scores[n, :, readings.asked.index(word)]
            rows += [
                {"scene": n, "depth": depth, "word": word, "there": there, "hit": h, "score": s}
                for depth, h, s in zip(readings.depths, hit, score)
            ]
    if not rows:
        raise ValueError(
            "There is nothing to ask of these scenes: no thing in any, none that another lacks, "
            "or no word that a token can show."
        )
    return pd.DataFrame(rows)


def right_answers(readings: Readings, scenes: Iterable[Scene], kind: str = "random") -> np.ndarray:
    """(scenes, depths): what share of a scene's questions of `existence` a token map answers
    right, with yes where some patch decodes to the word. A scene without a question that can be
    asked has no row; `existence` warns of it.
    """
    table = existence(readings, scenes, kind)
    right = (table.hit == table.there).groupby([table.scene, table.depth])
    return right.mean().unstack().to_numpy(float)


def rate(table: pd.DataFrame, hits: str, depth: int, of: str = "object patches") -> Interval:
    """The share of patches that say what the column `hits` of a table of `counts` counts, at one
    depth.

    Raises:
        ValueError: where the table has no such depth.
    """
    at = np.asarray(table["depth"] == depth)
    if not at.any():
        raise _no_depth(depth, set(table["depth"]))
    return share(np.asarray(table[hits])[at], np.asarray(table[of])[at])


def by_depth(table: pd.DataFrame, hits: str, of: str = "object patches") -> np.ndarray:
    """(3, depths): value, low and high of the share of patches that say what the column `hits` of a
    table of `counts` counts."""
    depths = [rows for _, rows in table.groupby("depth")]
    return np.array([share(rows[hits].to_numpy(), rows[of].to_numpy()) for rows in depths]).T


def rise(
    table: pd.DataFrame, hits: str, start: int, beside: pd.DataFrame | None = None
) -> Interval:
    """By how much that share of object patches rises from depth `start` to the last.

    Args:
        beside: a table of the same scenes, such as that of other scenes' maps, whose change is
            taken away, scene by scene.

    Raises:
        ValueError: where there is no such depth, or the tables are of different scenes.
    """
    gained, n = _gained(table, hits, start)
    if beside is not None:
        other, same = _gained(beside, hits, start)
        if not same.equals(n):
            raise ValueError("Tables are compared scene by scene: give two of the same scenes.")
        gained = gained - other
    return interval(lambda gained, n: gained.sum() / n.sum(), gained, n)


def fall(
    table: pd.DataFrame, hits: str, start: int, beside: pd.DataFrame | None = None
) -> Interval:
    """`rise` downwards: by how much the share falls from depth `start` to the last."""
    value, low, high = rise(table, hits, start, beside)
    return Interval(-value, -high, -low)


def _no_depth(depth, depths):
    return ValueError(
        f"The table has no depth {depth!r}; it has {', '.join(map(str, sorted(depths)))}."
    )


def _gained(table, hits, start):
    """By scene: by how many patches more a table counts at the last depth, and of how many."""
    counted, n = (
        table.pivot(index="scene", columns="depth", values=values)
        for values in (hits, "object patches")
    )
    if start not in counted:
        raise _no_depth(start, counted.columns)
    return counted.iloc[:, -1] - counted[start], n.iloc[:, -1]


def labelled(
    vlm: VLM, scenes: Iterable[Scene], batch_size: int = 50
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """What a linear probe learns from: states (depths, scenes, patches, features), and {kind: truth
    (scenes, patches)}.

    The kinds are "category" and those of attributes in the `scenes.vocabulary`, such as "colour".
    The truth is the word of that kind of the thing that covers half of a patch (the first, where it
    has several), "" where there is none.
    """
    check_count("batch_size", batch_size)
    scenes = checked(scenes)
    images = [scene.image for scene in scenes]
    grid = _one_grid(vlm, images)
    listed = {kind: set(words) for kind, words in vocabulary(scenes).items()}
    listed.pop("background", None)
    truth, states = {kind: [] for kind in listed}, []
    for scene in scenes:
        owner = owners(scene, grid, vlm.viewed(scene.image)).ravel()
        for kind, words in listed.items():
            # -1 is the ground, -2 a bit of each
            names = [_word_of(thing, kind, words) for thing in scene.things] + ["", ""]
            truth[kind].append(np.array(names)[owner])
    for start in range(0, len(scenes), batch_size):
        states += vlm.vit_states(images[start : start + batch_size])
    return torch.stack(states, 1).numpy(), {kind: np.array(rows) for kind, rows in truth.items()}


def probed(
    states: np.ndarray, truth: np.ndarray, new: np.ndarray, ground: bool = False
) -> np.ndarray:
    """(depths, scenes, patches): the words that a linear probe reads off `new` states.

    The probe is linear discriminant analysis with a little shrinkage, fitted anew at each depth.

    Args:
        states: (depths, scenes, patches, features) to learn from, as `labelled` gives them.
        truth: (scenes, patches) their words of one kind, "" where there is none.
        new: (depths, scenes, patches, features) of other scenes.
        ground: also learn from patches without a word, so that "" is one more answer.

    Raises:
        ValueError: where shapes do not go together, or fewer than two words are to be told apart.
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    fits = states.ndim == new.ndim == 4 and states.shape[1:3] == truth.shape
    if not fits or len(states) != len(new) or states.shape[-1] != new.shape[-1]:
        raise ValueError(
            "A probe takes states (depths, scenes, patches, features) with a truth (scenes, "
            f"patches), and new states of as many depths and features; got {states.shape}, "
            f"{truth.shape} and {new.shape}."
        )
    seen = np.ones(truth.shape, bool) if ground else truth != ""
    words = np.unique(truth[seen])
    if len(words) < 2:
        raise ValueError(
            f"A probe tells words apart: give it two at least, not {', '.join(words) or 'none'}."
        )
    probe: Any = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.01)
    read = []
    for known, unknown in zip(states, new):
        probe.fit(known[seen], truth[seen])
        read.append(probe.predict(unknown.reshape(-1, unknown.shape[-1])))
    return np.array(read).reshape(new.shape[:3])


def segments_of_categories(
    read: np.ndarray, scenes: Iterable[Scene], grid: tuple[int, int]
) -> np.ndarray:
    """(images, depths, rows, columns) the thing that each patch's category names: its index, or -1
    where no thing of the scene is of it. Of two things of one category the last is meant.

    Args:
        read: (depths, scenes, patches) categories, such as a probe's of `probed`.
        grid: (rows, columns) of the patches.
    """
    things = []
    for words, scene in _pairs(np.swapaxes(read, 0, 1), scenes):
        segments = np.full(words.shape, -1)
        for i, thing in enumerate(scene.things):
            segments[words == thing.category] = i
        things.append(segments.reshape(-1, *grid))
    return np.array(things)


def clusters(vlm: VLM, scenes: Iterable[Scene]) -> np.ndarray:
    """(images, depths, rows, columns) k-means `clustered` states of the ViT at all depths, as
    indices of things, -1 for the ground."""
    found = []
    for scene in checked(scenes):
        grid, view = vlm.patch_grid(scene.image), vlm.viewed(scene.image)
        states = vlm.vit_states(scene.image).numpy()
        found.append([clustered(of_depth, scene, grid, view) for of_depth in states])
    return np.array(found)


@contextmanager
def turned(vlm: VLM, seed: int = 0) -> Iterator[None]:
    """Inside, the connector reads states turned by one random rotation; afterwards all is as
    before.

    A control for what is read at all depths by one connector: lengths of states and angles between
    them stay, and so does all that a reader fitted anew could find; the directions that the
    connector knows do not.
    """

    def turn(_, args):
        state, *others = args
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(state.shape[-1], state.shape[-1], generator=generator)
        rotation, _ = torch.linalg.qr(noise)
        return (state @ rotation.to(state), *others)

    handle = vlm.connector.register_forward_pre_hook(turn)
    try:
        yield
    finally:
        handle.remove()


def _word_of(thing, kind, words):
    if kind == "category":
        return thing.category
    return next((word for word in thing.attributes if word in words), "")


def clustered(
    states: np.ndarray, scene: Scene, grid: tuple[int, int], view: View | None = None
) -> np.ndarray:
    """(rows, columns) k-means clusters of states (patches, features) as indices of things, -1 for
    the ground.

    A baseline with help: it is told how many things there are, and each cluster is given to what it
    overlaps most.

    Args:
        view: as for `owners`.
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.cluster import KMeans

    true, n = owners(scene, grid, view), len(scene.things) + 1
    means: Any = KMeans
    clusters = means(n, n_init=1, random_state=0).fit_predict(states).reshape(grid)
    iou = [
        [
            ((clusters == c) & (true == i)).sum() / max(1, ((clusters == c) | (true == i)).sum())
            for i in range(-1, n - 1)
        ]
        for c in range(n)
    ]
    return (linear_sum_assignment(iou, maximize=True)[1] - 1)[clusters]


def says(
    vlm: VLM,
    probes: Sequence[Any],
    which: str,
    words: Callable[[Any], Sequence[str]],
    depths: Iterable[int] | None = None,
) -> np.ndarray:
    """(3, depths): what share of the patches of Gestalt probes that are `which` say a word of their
    thing, with its interval. The arguments are those of `said`.
    """
    hits, patches = said(vlm, probes, which, words, depths)
    return np.array([share(of_depth, patches) for of_depth in hits.T]).T


def said(
    vlm: VLM,
    probes: Sequence[Any],
    which: str,
    words: Callable[[Any], Sequence[str]],
    depths: Iterable[int] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """By Gestalt probe: how many of the patches that are `which` say a word of their thing (probes,
    depths), and of how many (probes,).

    Args:
        which: "shown" or "hidden".
        words: a function of the thing, such as `lambda thing: [thing.category]`.

    Raises:
        ValueError: where the model does not see all of a probe.
    """
    for probe in probes:
        if not vlm.viewed(probe.image).whole:
            raise ValueError(
                f"{vlm.name} does not see all of a picture of {probe.image.width} × "
                f"{probe.image.height} pixels."
            )
    readings = read(vlm, probes, depths=depths)
    cells = np.array([probe.cells(which, readings.ids.shape[2:]) for probe in probes])[:, None]
    listed = [words(probe.thing) for probe in probes]
    word_forms = readings.forms([word for of_probe in listed for word in of_probe])
    _say_missing(word_forms, "no patch can say it.")
    hits = [
        np.isin(maps, _any_of(word_forms, of_probe)) for maps, of_probe in zip(readings.ids, listed)
    ]
    return (np.array(hits) & cells).sum((2, 3)), cells.sum((1, 2, 3))
