"""What: the lens, two stages, segments, things that are not there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from .. import benchmarks, compress, lens, stages, stats
from ..models import VLM
from ..photographs import words
from ..scenes import cover_of
from ..world import gestalt
from .experiment import Cost, Finding, Interval, register, verdict
from .study import PICTURES, Study

PROBED = 60  # pictures that the linear probe and k-means see: their states fill the memory
PROBES = 200  # Gestalt probes
POPE = 500  # its pictures, each with six questions in each of three parts
OTHERS = "maps of other pictures"
NEAR = 0.05  # of chance: as far from it as a share of right answers may be and still count as at it


# -- reading
# --------------------------------------------------------------------------------------------------


def counted(readings: stages.Readings, scenes: Sequence[Any]) -> dict[str, np.ndarray]:
    """Sums by picture and depth: patches of things, and of these those that say an own word, an own
    attribute, an own category; the same with other pictures' maps."""
    columns = {"own": "own word", "attribute": "attribute, own", "object": "object, own"}
    sums = {}
    for name, maps in (("", readings), ("other ", readings.of_other_scenes())):
        table = stages.counts(maps, scenes)
        sums["patches"] = _by_scene(table, "object patches")
        sums |= {name + short: _by_scene(table, column) for short, column in columns.items()}
    return sums


def _by_scene(table, column):
    """(scenes, depths) of a column of a table of `stages.counts`."""
    return table.pivot(index="scene", columns="depth", values=column).to_numpy(float)


def joined(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """{name: (scenes, …)} of the parts of several chunks; scenes without a patch of a thing go.

    Raises:
        ValueError: where no scene is left.
    """
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    patches = whole["patches"].reshape(len(whole["patches"]), -1)
    some = patches[:, 0] > 0
    if not some.any():
        raise ValueError("No thing covers half of any patch in any of these pictures.")
    return {name: values[some] for name, values in whole.items()}


def share(sums: Mapping[str, np.ndarray], name: str, column: int = -1) -> Interval:
    """Of all patches of things, those that `counted` under this name, at a depth or layer."""
    return stats.share(sums[name][:, column], sums["patches"][:, column])


def above(own: np.ndarray, other: np.ndarray, patches: np.ndarray) -> tuple[Interval, Interval]:
    """By how much a share is above three times its control's, and above the control's: differences
    picture by picture, of hits (pictures,)."""
    return stats.share(own - 3 * other, patches), stats.share(own - other, patches)


def left_out(alone: int) -> str:
    """A sentence on how many pictures had none of their size beside them; "" for none."""
    return f"{alone} pictures with a patch grid of their own are left out." if alone else ""


@register(
    name="lens", title="which LM layer names the things",
    claims=("what.lens.layer", "what.lens.on_topic"), needs=("gqa-scenes",),
    rule="The LM layer is chosen on every third picture, and reported on the others. "
    "what.lens.layer is reproduced if the 95% interval of the best layer, as a share of the LM's "
    "depth, comes within 1/8 of the paper's 25 of 32, and does not overlap the control's (the best "
    "layer of other pictures' maps); partly if the best layer is neither the first nor the last; "
    "else not; and not where what.lens.on_topic is not above its control. what.lens.on_topic is "
    "reproduced if at that layer the share of patches of things that say a word of their own thing "
    "is above three times the control's; partly if above the control's; else not. (Intervals of "
    "differences, picture by picture.)",
    cost=lambda scope: Cost(
        vit=scope.size(PICTURES) * scope.n_layers,
        lm=scope.size(PICTURES) * scope.n_layers / 2,
    ),
)  # fmt: skip
def _lens(study: Study) -> list[Finding]:
    vlm = study.vlm
    last, layers = [vlm.last_depth], range(vlm.n_layers + 1)

    def read(scenes):
        by_layer = [
            counted(stages.read(vlm, scenes, layer, last), scenes) for layer in layers
        ]  # at the last depth only: (scenes, 1)
        return {name: np.hstack([sums[name] for sums in by_layer]) for name in by_layer[0]}

    dev, test = study.split(study.gqa)
    (chunks, alone), (dev_chunks, _) = study.chunks(test), study.chunks(dev)
    chosen_on = joined(study.parts("lens-dev", dev_chunks, read))
    sums = joined(study.parts("lens", chunks, read))
    n, layer = len(sums["own"]), int(_best(chosen_on["own"], chosen_on["patches"]))
    own, other = share(sums, "own", layer), share(sums, "other own", layer)
    triple, more = above(
        sums["own"][:, layer], sums["other own"][:, layer], sums["patches"][:, layer]
    )
    best, best_of_others = (
        stats.interval(
            lambda hits, patches: _best(hits, patches) / vlm.n_layers, sums[name], sums["patches"]
        )
        for name in ("own", "other own")
    )
    near = best[1] - 1 / 8 <= 25 / 32 <= best[2] + 1 / 8
    apart = best[1] > best_of_others[2] or best[2] < best_of_others[1]
    reads = more[1] > 0  # nothing is said of a best layer among layers that do not read
    return [
        Finding(
            "what.lens.layer", best, best_of_others, "of the LM's depth is where it reads best",
            OTHERS, n, verdict(reads and near and apart, reads and 0 < best[0] < 1),
            f"Chosen on other pictures: layer {layer} of {vlm.n_layers}. {left_out(alone)}",
        ),
        Finding(
            "what.lens.on_topic", own, other, "of patches of things say a word of their thing",
            OTHERS, n, verdict(triple[1] > 0, more[1] > 0),
            f"LM layer {layer} of {vlm.n_layers}. {left_out(alone)}",
        ),
    ]  # fmt: skip


def _best(hits, patches):
    """The layer at which the largest share says an own word."""
    return np.argmax(hits.sum(0) / patches.sum(0))


@contextmanager
def _turned(vlm: VLM, seed: int = 0) -> Iterator[None]:
    """Within this context the connector reads states turned by one random rotation: lengths, and
    the angles between states, stay."""

    def turn(module, args):
        state = args[0]
        noise = torch.randn(
            state.shape[-1], state.shape[-1], generator=torch.Generator().manual_seed(seed)
        )
        return (state @ torch.linalg.qr(noise)[0].to(state), *args[1:])

    handle = vlm.connector.register_forward_pre_hook(turn)
    try:
        yield
    finally:
        handle.remove()


@register(
    name="stages", title="attributes first, objects later",
    claims=("what.lens.residual_flow", "what.stages.attribute_peak", "what.stages.object_rise"),
    needs=("gqa-scenes",),
    rule="As in chapter 4, on photographs. what.lens.residual_flow, at half depth: reproduced if "
    "the share of patches of things that say an own word is more than half of the share at full "
    "depth (interval of the ratio) and above three times the control's (the connector reads states "
    "turned by a random rotation; interval of the difference, picture by picture); partly if only "
    "above the control's; else not. The depth at which own attributes peak is chosen on "
    "every third picture. what.stages.attribute_peak is reproduced if it lies strictly inside the "
    "ViT and own attributes fall from there to the last depth, and by more than on other pictures' "
    "maps (interval of the difference, picture by picture); partly if they fall; else not. "
    "what.stages.object_rise is reproduced if own categories rise from that depth to the last, and "
    "by more than on other pictures' maps; else not.",
    cost=lambda scope: Cost(
        vit=2 * scope.size(PICTURES), lm=scope.size(PICTURES) * (scope.last_depth + 2)
    ),
)  # fmt: skip
def _stages(study: Study) -> list[Finding]:
    vlm = study.vlm
    half = vlm.last_depth // 2

    def read(scenes):
        sums = counted(stages.read(vlm, scenes), scenes)
        with _turned(vlm, study.seed):
            turned = counted(stages.read(vlm, scenes, depths=[half]), scenes)
        return sums | {"turned": turned["own"]}

    dev, test = study.split(study.gqa)
    (chunks, alone), (dev_chunks, _) = study.chunks(test), study.chunks(dev)
    chosen_on = joined(study.parts("stages-dev", dev_chunks, read))
    sums = joined(study.parts("stages", chunks, read))
    at_half = share(sums, "own", half)
    turned = stats.share(sums["turned"][:, 0], sums["patches"][:, half])
    triple, more = above(sums["own"][:, half], sums["turned"][:, 0], sums["patches"][:, half])
    n, peak = len(sums["own"]), int(chosen_on["attribute"].sum(0).argmax())

    # where nothing is read at full depth, there is nothing to have half of
    read_at_all = sums["own"][:, -1].any()
    part = stats.share(sums["own"][:, half], sums["own"][:, -1]) if read_at_all else (0.0, 0.0, 0.0)

    def gained(name, sign=1):
        """By how much the share at the last depth is above that at the peak, times sign: on own
        maps, on other pictures', and the difference."""
        own, other = sums[name], sums[f"other {name}"]
        return [
            stats.interval(
                lambda hits, patches: (
                    0.0 + sign * (hits[:, -1] - hits[:, peak]).sum() / patches[:, -1].sum()
                ),
                hits, sums["patches"],
            )
            for hits in (own, other, own - other)
        ]  # fmt: skip

    fall, no_fall, net_fall = gained("attribute", -1)
    rise, no_rise, net_rise = gained("object")
    inside, remark = 0 < peak < vlm.last_depth, f"LM layer {vlm.lens_layer}. {left_out(alone)}"
    return [
        Finding(
            "what.lens.residual_flow", at_half, turned,
            f"of patches of things say an own word at ViT depth {half} of {vlm.last_depth}",
            "states turned by a random rotation", n,
            verdict(part[1] > 0.5 and triple[1] > 0, more[1] > 0), remark,
        ),
        Finding(
            "what.stages.attribute_peak", fall, no_fall,
            f"fall of own attributes from ViT depth {peak} of {vlm.last_depth} to the last", OTHERS,
            n, verdict(inside and fall[1] > 0 and net_fall[1] > 0, inside and fall[1] > 0), remark,
        ),
        Finding(
            "what.stages.object_rise", rise, no_rise,
            f"rise of own categories from ViT depth {peak} of {vlm.last_depth} to the last", OTHERS,
            n, verdict(rise[1] > 0 and net_rise[1] > 0), remark,
        ),
    ]  # fmt: skip


# -- segments
# --------------------------------------------------------------------------------------------------


@register(
    name="segmentation", title="token maps as segmentation",
    claims=("what.stages.segmentation",), needs=("coco",),
    rule="As in chapter 4, against COCO's masks at the last ViT depth, but by intervals, since the "
    "probe reads fewer pictures: reproduced if the lower end of the mean IoU's interval is above "
    "half of what a linear probe reaches in the same states, and above three times the upper end "
    "of the control's (maps of other pictures); partly if only above the control's; else not. The "
    "probe learns on every third picture. Things of one category in a picture are one thing.",
    cost=lambda scope: Cost(
        vit=scope.size(PICTURES) + 2 * min(PROBED, scope.size(PICTURES)), lm=scope.size(PICTURES)
    ),
)  # fmt: skip
def _segmentation(study: Study) -> list[Finding]:
    vlm = study.vlm
    last = [vlm.last_depth]

    def read(scenes):
        readings, sums = stages.read(vlm, scenes, depths=last), {}
        for name, maps in (("own", readings), ("other", readings.of_other_scenes())):
            sums[name], sums["things"] = _overlap(stages.segments(maps, scenes), scenes, vlm)
        return sums

    dev, test = study.split(study.coco)
    chunks, alone = study.chunks(test)
    sums = study.parts("segmentation", chunks, read)
    whole = {name: np.concatenate([part[name] for part in sums]) for name in sums[0]}
    found, control = (stats.share(whole[name], whole["things"]) for name in ("own", "other"))
    probe, helped = (stats.share(hits, things) for hits, things in _baselines(study, dev, test))
    good = found[1] > max(probe[0] / 2, 3 * control[2])
    return [
        Finding(
            "what.stages.segmentation", found, control, "mean IoU with COCO's masks", OTHERS,
            len(whole["own"]), verdict(good, found[1] > control[2]),
            f"A linear probe reaches {_spoken(probe)}, k-means with help {_spoken(helped)}, both "
            f"on fewer pictures. {left_out(alone)}",
        )
    ]  # fmt: skip


def _overlap(predicted, scenes, vlm):
    """(sums (scenes,), things (scenes,)): of a scene whose things cover half of no patch, 0."""
    try:
        sums, things = stages.overlap(predicted, scenes, vlm)
    except ValueError as error:
        if "no masks" not in str(error):
            raise
        return np.zeros(len(predicted)), np.zeros(len(predicted))
    return sums[:, 0], things


def _baselines(study, dev, test):
    """(sums, things) of a linear probe, which learns on dev, and of k-means, both on test."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    vlm = study.vlm
    probe: Any = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.01)

    def states(scenes):
        grid = vlm.patch_grid(scenes[0].image)
        owner = [stages.owners(scene, grid, vlm.viewed(scene.image)).ravel() for scene in scenes]
        names = [
            np.array([*(thing.category for thing in scene.things), "", ""])[own]  # -1, -2: none
            for scene, own in zip(scenes, owner)
        ]
        images = [scene.image for scene in scenes]
        seen = np.stack([state[0].numpy() for state in vlm.vit_states(images, [vlm.last_depth])])
        return {"states": seen, "names": np.array(names)}

    learn, tested = study.chunks(dev[:PROBED])[0], study.chunks(test[:PROBED])[0]
    taught = study.parts("probe-dev", learn, states)
    learnt = np.concatenate(
        [part["states"].reshape(-1, part["states"].shape[-1]) for part in taught]
    )
    names = np.concatenate([part["names"].ravel() for part in taught])
    listed, counts = np.unique(names, return_counts=True)
    often = np.isin(names, listed[counts > 1])  # of one patch nobody knows how such patches vary
    probe.fit(learnt[often], names[often])
    results = [([], []), ([], [])]
    for scenes, part in zip(tested, study.parts("probe", tested, states)):
        grid = vlm.patch_grid(scenes[0].image)
        named = probe.predict(part["states"].reshape(-1, part["states"].shape[-1]))
        by_probe = []
        for scene, categories in zip(scenes, named.reshape(len(scenes), *grid)):
            numbers = {thing.category: n for n, thing in enumerate(scene.things)}
            by_probe.append([[numbers.get(name, -1) for name in row] for row in categories])
        clustered = [
            stages.clustered(state, scene, grid, vlm.viewed(scene.image))
            for scene, state in zip(scenes, part["states"])
        ]
        for (sums, things), predicted in zip(results, (by_probe, clustered)):
            overlap, n = _overlap(np.array(predicted)[:, None], scenes, vlm)
            sums.extend(overlap)
            things.extend(n)
    return [(np.array(sums), np.array(things)) for sums, things in results]


def _spoken(interval):
    return "{:.3g} ({:.3g} to {:.3g})".format(*interval)


# -- things that are not there
# --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Asked:
    """A picture of POPE as a scene: what is asked of it, in each of the three parts."""

    id: str
    image: Any = field(repr=False)
    asked: dict
    things: tuple = ()

    def cover(self, rows: int, columns: int) -> np.ndarray:
        return cover_of([], (columns, rows), rows, columns)

    def relation(self, a: int, b: int) -> None:
        return None

    def existence(self, kind: str) -> list[tuple[str, bool]]:
        return self.asked[kind]


def asked_by_pope(items: list[benchmarks.Item]) -> list[_Asked]:
    """POPE's pictures as scenes that know what is asked of them.

    Raises:
        ValueError: for a question in another form than POPE's.
    """
    pictures: dict[str, _Asked] = {}
    for item in items:
        named = re.search(r"[Ii]s there an? (.+?) in the im", item.question)
        if not named:
            raise ValueError(
                f"Question '{item.id}' of POPE asks {item.question[:60]!r}, and not whether there "
                "is something in the image."
            )
        empty = {part: [] for part in benchmarks.known("pope").parts}
        picture = pictures.setdefault(item.group, _Asked(item.group, item.image, empty))
        picture.asked[item.about["part"]].append((named[1], item.gold == "yes"))
    return list(pictures.values())


@register(
    name="hallucination", title="existence read off the maps, by ViT depth",
    claims=("what.hallucination.onset",), needs=("pope",),
    rule="As in chapter 4, on POPE's own pictures and questions of its random part: a map says yes "
    "where any patch decodes to the word, or to another word for the same thing "
    "(photographs.words). A depth has left chance if there, and at all later depths, a map "
    "answers at least five points better than another picture's map does (interval of the "
    "difference, picture by picture). Reproduced if that happens, and not before half depth; "
    "partly if it happens sooner; else not.",
    cost=lambda scope: Cost(
        vit=scope.size(POPE), lm=scope.size(POPE) * (scope.last_depth + 1) + scope.size(9000),
        words=2 * scope.size(9000),
    ),
)  # fmt: skip
def _hallucination(study: Study) -> list[Finding]:
    vlm, parts = study.vlm, benchmarks.known("pope").parts
    items, _ = benchmarks.items("pope", study.source("pope"), study.seed)
    scenes = asked_by_pope(items)
    order = np.random.default_rng(study.seed).permutation(len(scenes))
    scenes = [scenes[n] for n in sorted(order[: study.size(POPE)])]
    spelt = {
        word: words.synonyms(word) for s in scenes for of in s.asked.values() for word, _ in of
    }
    forms = lens.forms(vlm, sorted({each for listed in spelt.values() for each in listed}))

    def read(some):
        readings = stages.read(vlm, some)
        answers = {}
        for name, maps in (("own", readings), ("other", readings.of_other_scenes())):
            answers |= {f"{name} {part}": _right(maps, some, part, spelt, forms) for part in parts}
        return answers

    chunks, alone = study.chunks(scenes)
    kept = study.parts("pope", chunks, read)
    shares = {}
    for name in kept[0]:
        rows = np.concatenate([part[name] for part in kept])
        if rows[:, 0, 1].sum():
            shares[name] = np.array(
                [stats.share(of_depth[:, 0], of_depth[:, 1]) for of_depth in rows.swapaxes(0, 1)]
            ).T  # (3, depths)
    if "own random" not in shares:
        raise ValueError("None of POPE's random questions names a thing that a token can show.")
    right, none = shares["own random"], shares["other random"]
    own, other = (
        np.concatenate([part[f"{whose} random"] for part in kept]) for whose in ("own", "other")
    )
    depths = range(vlm.last_depth + 1)
    some = own[:, 0, 1] > 0  # pictures with a question that a token can answer
    gain = np.array(
        stats.interval(
            lambda more, asked: more.sum(0) / asked.sum(0),
            (own - other)[some, :, 0], own[some, :, 1],
        )
    )  # fmt: skip
    onset = min((d for d in depths if (gain[1, d:] > NEAR).all()), default=None)
    answers = study.bench("pope")
    others = [f"{part} {_spoken(shares[f'own {part}'][:, -1])}" for part in parts[1:]
              if f"own {part}" in shares]  # fmt: skip
    left = "never" if onset is None else f"at depth {onset} of {vlm.last_depth}"
    return [
        Finding(
            "what.hallucination.onset", tuple(right[:, -1]), tuple(none[:, -1]),
            f"right answers read off the map of the last depth; chance is left {left}", OTHERS,
            sum(map(len, chunks)),
            verdict(onset is not None and onset >= len(depths) // 2, onset is not None),
            f"Other parts, last depth: {', '.join(others) or 'none'}. The model's own answers: "
            f"{100 * answers.accuracy:.1f}% right. {left_out(alone)}",
        )
    ]  # fmt: skip


def _right(readings, scenes, part, spelt, forms):
    """(scenes, depths, 2): how many questions of a part the maps answer rightly, and of how many;
    those about what no token can show are left out."""
    tally = np.zeros((*readings.ids.shape[:2], 2))
    for n, (maps, scene) in enumerate(zip(readings.ids, scenes)):
        for word, there in scene.existence(part):
            ids = [forms[each] for each in spelt[word] if each in forms.ids]
            if ids:
                hit = np.isin(maps, np.concatenate(ids)).any((1, 2))
                tally[n, :, 0] += hit == there
                tally[n, :, 1] += 1
    return tally


# -- parts that are hidden, and the decoder
# --------------------------------------------------------------------------------------------------


@register(
    name="gestalt", title="hidden parts are filled in",
    claims=("what.gestalt.closure",), needs=(),
    rule="As in chapter 4, on the book's drawn probes: at the last ViT depth, reproduced if the "
    "share of hidden patches that say an own word of the thing is above half of what patches of "
    "the whole thing say, and above three times the same board's over empty ground; partly if "
    "only above the latter; else not. (Intervals of differences, probe by probe.)",
    cost=lambda scope: Cost(vit=3 * scope.size(PROBES), lm=3 * scope.size(PROBES)),
)  # fmt: skip
def _gestalt(study: Study) -> list[Finding]:
    vlm = study.vlm
    things = [gestalt.lone(seed) for seed in range(study.size(PROBES))]
    grid, last = vlm.patch_grid(things[0].image), [vlm.last_depth]
    kinds = {
        "hidden": [gestalt.occluded(thing, grid, True, True) for thing in things],
        "ground": [gestalt.occluded(thing, grid, False, True) for thing in things],
        "shown": [gestalt.apart(thing, 0) for thing in things],
    }

    def read(name):
        of = "shown" if name == "shown" else "hidden"
        hits, patches = stages.said(vlm, kinds[name], of, lambda thing: thing.words, last)
        return {"hits": hits[:, 0], "patches": patches}

    counts = dict(zip(kinds, study.parts("gestalt", list(kinds), read)))
    hidden, ground = (
        stats.share(counts[name]["hits"], counts[name]["patches"]) for name in ("hidden", "ground")
    )
    triple, more = above(
        counts["hidden"]["hits"], counts["ground"]["hits"], counts["hidden"]["patches"]
    )
    half = stats.interval(
        lambda hits, patches, seen, shown: (
            hits.sum() / patches.sum() - seen.sum() / shown.sum() / 2
        ),
        *(counts[name][what] for name in ("hidden", "shown") for what in ("hits", "patches")),
    )
    return [
        Finding(
            "what.gestalt.closure", hidden, ground,
            "of hidden patches say a word of the thing", "the same board over empty ground",
            len(things), verdict(half[1] > 0 and triple[1] > 0, more[1] > 0),
        )
    ]  # fmt: skip


@register(
    name="decoder", title="the distilled decoder says what the LM would say",
    claims=("what.decoder.agreement",), needs=("gqa-scenes",),
    rule="As in chapter 5: reproduced if on patches of things of pictures that taught nothing, the "
    "decoder's first word is the LM's in a share with the lower end of its interval above one "
    "half, and above three times the control's (the LM's words for another picture; interval of "
    "the difference, picture by picture); partly if only above the control's; else not.",
    cost=lambda scope: Cost(vit=scope.size(PICTURES), lm=scope.size(PICTURES)),
)  # fmt: skip
def _decoder(study: Study) -> list[Finding]:
    vlm, reader = study.vlm, needed(study.decoder)

    def read(scenes):
        taught = compress.lessons(vlm, [scene.image for scene in scenes], progress=False)
        grid, said = vlm.patch_grid(scenes[0].image), []
        for _, states in taught:
            logits = vlm.unembedding(vlm.final_norm(states.to(vlm.device)))
            said.append(logits.argmax(-1).cpu().numpy())
        ours = [reader(tokens).argmax(-1).cpu().numpy() for tokens, _ in taught]
        on = np.array([stages.owners(s, grid, vlm.viewed(s.image)).ravel() >= 0 for s in scenes])
        said, ours = np.array(said), np.array(ours)
        other = np.roll(said, 1, 0)
        return {
            "patches": on.sum(1, keepdims=True).astype(float),
            "own": ((ours == said) & on).sum(1, keepdims=True).astype(float),
            "other own": ((ours == other) & on).sum(1, keepdims=True).astype(float),
        }

    chunks, alone = study.chunks(study.gqa)
    name = f"decoder-{benchmarks.identity.decoder(reader)}"
    sums = joined(study.parts(name, chunks, torch.no_grad()(read)))
    own, other = share(sums, "own"), share(sums, "other own")
    triple, more = above(*(sums[name][:, 0] for name in ("own", "other own", "patches")))
    return [
        Finding(
            "what.decoder.agreement", own, other,
            "of patches of things: decoder and LM have the same first word",
            "the LM's words for another picture", len(sums["own"]),
            verdict(own[1] > 0.5 and triple[1] > 0, more[1] > 0), left_out(alone),
        )
    ]  # fmt: skip


def needed(decoder: compress.Decoder | None) -> compress.Decoder:
    """The decoder, or a sentence that says how to have one."""
    if decoder is None:
        raise FileNotFoundError(
            "A visual decoder is needed: whatwhere distil MODEL PICTURES --out DECODER, and then "
            "--decoder DECODER."
        )
    return decoder
