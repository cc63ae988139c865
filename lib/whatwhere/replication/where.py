"""Where: positions, 2-D RoPE, relations, interventions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from .. import conditions, geometry, relations, rope, stages, stats
from ..benchmarks import gain
from ..models import VLM
from ..photographs import PhotographSet
from .experiment import Cost, Finding, register, verdict
from .study import PICTURES, SETS, Study
from .tables import UNABLE, able, asking, no_rope, points
from .what import OTHERS, counted, joined, left_out, share

SOME = 40  # sets, in what looks at every head of every block
FOUR = 4  # pictures in a set
SHUFFLES = 200
ASKED = (
    "Where is the {satellite} relative to the {nucleus}? Answer with one word in lowercase: left, "
    "right, behind or front."
)


# -- what the ViT is told of places
# --------------------------------------------------------------------------------------------------


def _no_table(vlm: VLM) -> str:
    if vlm.adapter.position_table is None:
        return f"{vlm.name} has no learnt table of positions, one vector for each patch."
    return ""


@register(
    name="absolute", title="rows and columns in the learnt table",
    claims=("where.absolute.grid",), needs=(),
    rule="As in chapter 8: reproduced if rows plus columns explain more of the table's variance "
    "than in 97.5% of shuffled tables, and both the row and the column of held-out patches are "
    "predicted with R² above one half; partly if only the first; else not.",
    cost=lambda scope: Cost(), lacks=_no_table,
)  # fmt: skip
def _absolute(study: Study) -> list[Finding]:
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import cross_val_predict

    table: Any = study.vlm.adapter.position_table
    table = table.weight.detach().float().cpu().numpy()
    side = int(len(table) ** 0.5)
    table = table[len(table) - side**2 :]  # before the patches, a class token may have its own
    at = np.indices((side, side)).reshape(2, -1).T

    def explained(vectors):
        """The share of the variance that rows and columns explain."""
        grid = vectors.reshape(side, side, -1) - vectors.mean(0)
        by_row, by_column = ((grid.mean(axis) ** 2).sum() * side for axis in (1, 0))
        return (by_row + by_column) / (grid**2).sum()

    rng = np.random.default_rng(study.seed)
    shuffled = [explained(rng.permutation(table)) for _ in range(SHUFFLES)]
    low, high = np.quantile(shuffled, (0.025, 0.975))
    told = cross_val_predict(RidgeCV(np.logspace(-2, 4, 13)), table, at, cv=12)
    fit = 1 - ((told - at) ** 2).sum(0) / ((at - at.mean(0)) ** 2).sum(0)
    value = float(explained(table))
    return [
        Finding(
            "where.absolute.grid", (value, value, value),
            (float(np.mean(shuffled)), float(low), float(high)),
            "of the table's variance is explained by row plus column", "tables in shuffled order",
            len(table), verdict(value > high and fit.min() > 0.5, value > high),
            f"Held-out patches: R² {fit[0]:.2f} of the row, {fit[1]:.2f} of the column.",
        )
    ]  # fmt: skip


def _no_positions(vlm: VLM) -> str:
    try:
        with conditions.without_positions(vlm):
            return ""
    except ValueError as error:
        return str(error)


@register(
    name="deleted", title="the lens, with the ViT's positions deleted",
    claims=("what.lens.positions",), needs=("gqa-scenes",),
    rule="At the last ViT depth, without positions: reproduced if the share of patches of things "
    "that say an own word has the lower end of its interval above half the share with positions, "
    "and above three times the upper end of the control's (other pictures' maps); partly if only "
    "above the control's; else not.",
    cost=lambda scope: Cost(vit=2 * scope.size(PICTURES), lm=2 * scope.size(PICTURES)),
    lacks=_no_positions,
)  # fmt: skip
def _deleted(study: Study) -> list[Finding]:
    vlm = study.vlm
    last = [vlm.last_depth]

    def read(scenes):
        sums = counted(stages.read(vlm, scenes, depths=last), scenes)
        with conditions.without_positions(vlm):
            without = counted(stages.read(vlm, scenes, depths=last), scenes)
        return sums | {"without": without["own"], "other without": without["other own"]}

    chunks, alone = study.chunks(study.gqa)
    sums = joined(study.parts("deleted", chunks, read))
    own, without, other = (share(sums, name) for name in ("own", "without", "other without"))
    return [
        Finding(
            "what.lens.positions", without, other,
            "of patches of things say a word of their thing, without positions", OTHERS,
            len(sums["own"]),
            verdict(without[1] > max(own[0] / 2, 3 * other[2]), without[1] > other[2]),
            f"With positions: {own[0]:.3g} ({own[1]:.3g} to {own[2]:.3g}). {left_out(alone)}",
        )
    ]  # fmt: skip


@register(
    name="depths", title="answers with the ViT cut short",
    claims=("what.answers.depth",), needs=("whatsup-b",),
    rule="Accuracy on What's Up B with the whole ViT less that with half of it. Reproduced if its "
    "interval lies above zero and the control's, the same on blind questions (each beside another "
    "set's picture), does not; partly if both do; else not." + UNABLE,
    cost=lambda scope: asking(scope, ("whatsup-b",), 4),
)  # fmt: skip
def _depths(study: Study) -> list[Finding]:
    vlm = study.vlm
    half = vlm.last_depth // 2
    whole, blind = study.bench("whatsup-b"), study.bench("whatsup-b", blind=True)
    lost = points(gain(study.bench("whatsup-b", depth=half), whole))
    control = points(gain(study.bench("whatsup-b", depth=half, blind=True), blind))
    above = lost[1] > 0
    return [
        Finding(
            "what.answers.depth", lost, control,
            f"points of What's Up B that ViT depths {half + 1} to {vlm.last_depth} are worth",
            "the same, blind", len(whole.rows),
            verdict(above and not control[1] > 0, above, able(whole)),
        )
    ]  # fmt: skip


@register(
    name="order", title="visual tokens shuffled, positions deleted",
    claims=("where.order.shuffled",), needs=("whatsup-b",),
    rule="Accuracy on What's Up B as it is less that with the visual tokens in another order (each "
    "keeps its position where the LM has positions of its own for it), and, as the control that "
    "must cost something, less that with the ViT's positions deleted. Reproduced if deleting "
    "costs more than its interval and more than shuffling, the two intervals apart; partly if "
    "deleting costs more than its interval; else not." + UNABLE,
    cost=lambda scope: asking(scope, ("whatsup-b",), 4), lacks=_no_positions,
)  # fmt: skip
def _order(study: Study) -> list[Finding]:
    return _beside_deleted(
        study, "where.order.shuffled", {"shuffle": "tokens"}, {"shuffle": "positions"},
        "points of What's Up B that the order of visual tokens is worth",
        "The LM's positions of visual tokens",
    )  # fmt: skip


@register(
    name="attention", title="visual tokens see all of each other in the LM, or none",
    claims=("where.order.attention",), needs=("whatsup-b",),
    rule="Accuracy on What's Up B as it is less that where no visual token sees another in the LM, "
    "and, as the control that must cost something, less that with the ViT's positions deleted. "
    "Reproduced if deleting costs more than its interval and more than cutting, the two intervals "
    "apart; partly if deleting costs more than its interval; else not." + UNABLE,
    cost=lambda scope: asking(scope, ("whatsup-b",), 4), lacks=_no_positions,
)  # fmt: skip
def _attention(study: Study) -> list[Finding]:
    return _beside_deleted(
        study, "where.order.attention", {"image_attention": "removed"},
        {"image_attention": "bidirectional"},
        "points of What's Up B that attention among visual tokens in the LM is worth",
        "That each sees only those before it",
    )  # fmt: skip


def _beside_deleted(study, claim, change, another, unit, of_another):
    """What a change costs on What's Up B, beside what deleting the ViT's positions costs."""
    whole = study.bench("whatsup-b")
    cost, other, deleted = (
        points(gain(study.bench("whatsup-b", **how), whole))
        for how in (change, another, {"without_positions": "all"})
    )
    return [
        Finding(
            claim, cost, deleted, unit, "what the ViT's positions are worth", len(whole.rows),
            verdict(deleted[1] > max(0, cost[2]), deleted[1] > 0, able(whole)),
            f"{of_another}: {other[0]:.2f} points ({other[1]:.2f} to {other[2]:.2f}).",
        )
    ]  # fmt: skip


# -- 2-D RoPE
# --------------------------------------------------------------------------------------------------


@register(
    name="rope", title="the derivation, in this model's heads",
    claims=("where.rope.numeric", "where.rope.weak_signal"), needs=("whatsup-b",),
    rule="where.rope.numeric: attention computed by the derived sum over pairs, from the model's "
    "own queries and keys, against the attention that the ViT's last block pays. Reproduced if the "
    "largest difference is at most 4 roundings of the model's precision (1e-4 in float32), and "
    "with rows and columns exchanged it is at least ten times as large; else not. "
    "where.rope.weak_signal, as in chapter 10, the satellite left of the nucleus: the share of the "
    "energy of all terms that tells left from right; reproduced if the upper end of the strongest "
    "head's interval is below one quarter, and the median head's share is smaller than with the "
    "same queries and keys at random angles, by the interval of the difference; partly if that "
    "holds with the median head's share in the place of the strongest head's; else not.",
    cost=lambda scope: Cost(vit=3 * scope.size(SOME)), lacks=no_rope,
)  # fmt: skip
def _rope(study: Study) -> list[Finding]:
    vlm = study.vlm
    rotary, sets = rope.vision(vlm), study.sets[: study.size(SOME)]
    kept, left_out = relations.usable(vlm, sets)
    scenes = [each.scenes["left"] for each in kept.values()]
    half = rotary.axis == 1  # the pairs that columns turn

    def energies(scene, heads, lost):
        """(heads, 2): the energy that tells left from right, and all of it."""
        satellite, nucleus = (
            torch.from_numpy(geometry.patches(vlm, [scene], n, "ViT 0")[0][tuple(heads.at.T)])
            for n in (0, 1)
        )
        q, k = heads.q[:, :, satellite, None].float(), heads.k[:, :, None, nucleus].float()
        apart = (heads.at[satellite][:, None] - heads.at[nucleus]).float()
        if lost:
            dice = torch.Generator().manual_seed(study.seed)
            apart = 1e5 * torch.rand(apart.shape, generator=dice)
        shared, telling = (
            term.square().mean((2, 3)).flatten(0, 1) for term in rotary.terms(q, k, apart)
        )
        whole = (shared + telling).sum(-1)
        return torch.stack([telling[:, half].sum(-1), whole], -1).numpy()

    @torch.no_grad()
    def look(scene):
        heads = rope.heads(vlm, scene.image)
        q, k = heads.q[-1].double(), heads.k[-1].double()
        paid = vlm.attention(scene.image, "", depths=vlm.last_depth).weights[0].double()
        # the ViT's own order is not the raster's where the connector merges patches
        rows, columns = (heads.at.amax(0) + 1).tolist()
        raster = (heads.at[:, 0] * columns + heads.at[:, 1]).argsort()
        differences = []
        for at in (heads.at, heads.at.flip(-1)):
            weights = rotary.logits(q, k, at).softmax(-1)[:, raster][:, :, raster]
            differences.append(
                (weights - paid[:, -rows * columns :, -rows * columns :]).abs().max()
            )
        return {
            "gap": np.array([[float(gap) for gap in differences]]),
            "own": energies(scene, heads, False)[None],
            "lost": energies(scene, heads, True)[None],
        }

    parts = study.parts("rope", scenes, look)
    gaps, own, lost = (
        np.concatenate([part[name] for part in parts]) for name in ("gap", "own", "lost")
    )
    gap, exchanged = gaps.max(0)
    bound = max(1e-4, 4 * torch.finfo(vlm.dtype).eps)

    def told(energy):
        """(heads,) share of the energy that tells left from right."""
        return energy[:, :, 0].sum(0) / energy[:, :, 1].sum(0)

    def median_head(energy):
        return np.median(told(energy))

    by_head = stats.interval(told, own)
    median, null = (stats.interval(median_head, energy) for energy in (own, lost))
    less = stats.interval(lambda own, lost: median_head(own) - median_head(lost), own, lost)
    strongest = by_head[2].max()
    remark = f"{len(left_out)} sets are left out." if left_out else ""
    return [
        Finding(
            "where.rope.numeric", (gap, gap, gap), (exchanged, exchanged, exchanged),
            "largest difference of an attention weight from the derivation's",
            "rows and columns exchanged", len(scenes),
            verdict(gap <= bound and exchanged >= 10 * gap), remark,
        ),
        Finding(
            "where.rope.weak_signal", median, null,
            "of the energy tells left from right, median head",
            "the same queries and keys at random angles", len(scenes),
            verdict(less[2] < 0 and strongest < 0.25, less[2] < 0 and median[2] < 0.25),
            f"The strongest head: {by_head[0].max():.2f}. {remark}",
        ),
    ]  # fmt: skip


# -- relations
# --------------------------------------------------------------------------------------------------


def _sets(study: Study, name: str, measure: Callable[..., pd.DataFrame], n: int = SETS):
    """(table of all sets, a remark on those left out), kept set by set."""
    sets = study.sets[: study.size(n)]
    kept, left_out = relations.usable(study.vlm, sets)

    def one(chosen: PhotographSet):
        rows = measure(study.vlm, [chosen]).drop(columns="set")
        columns = {column: rows[column].to_numpy() for column in rows}
        # words as fixed strings: files without pickle hold no Python objects
        return {name: of.astype(str) if of.dtype == object else of for name, of in columns.items()}

    parts = study.parts(name, list(kept.values()), one)
    tables = [pd.DataFrame(dict(part)).assign(set=number) for number, part in zip(kept, parts)]
    remark = f"{len(left_out)} of {len(sets)} sets are left out: a thing has no patch of its own."
    return pd.concat(tables, ignore_index=True), remark if left_out else ""


def _asking(change: Callable[..., pd.DataFrame]) -> Callable[..., pd.DataFrame]:
    """An intervention where the LM is given the picture (after a DeepStack, where it has been given
    all of it), and in words that a model answers with one of the four: an organism has its own."""

    def measure(vlm, sets):
        added = len(vlm.adapter.extra_depths)
        how = {"place": f"LM {added + 1 if added else 0}"}
        if not vlm.about.get("organism"):
            how["where"] = ASKED
        return change(vlm, sets, **how)

    return measure


def _over(table: Any, value: str, per: str | None = None) -> tuple[float, float, float]:
    row = relations.over_sets(table.assign(all=0), "all", value, per).iloc[0]
    return float(row["value"]), float(row["low"]), float(row["high"])


@register(
    name="relations", title="left is minus right, and front is across",
    claims=("where.relations.collinear", "where.relations.orthogonal"), needs=("whatsup-b",),
    rule="As in chapter 12, for the vectors that the LM receives (LM 0); each condition for the "
    "whole interval. Collinear: reproduced if the cosine of left and right is below −0.7; partly "
    "if it is not, but lies below that of shuffled labels, set by set, and below −0.7 after "
    "centring; else not. Orthogonal: reproduced if the cosine of left and front is within ±0.2; "
    "partly if it is not, but that of left − right and behind − front is, while that of axes put "
    "together wrongly is wholly outside; else not. Controls: relations shuffled within each set; "
    "the axes put together wrongly.",
    cost=lambda scope: Cost(vit=FOUR * scope.size(SETS), lm=FOUR * scope.size(SETS)),
)  # fmt: skip
def _relations(study: Study) -> list[Finding]:
    table, remark = _sets(study, "relations", relations.similarities)
    at = table[table.place == "LM 0"].assign(less=lambda rows: rows.value - rows.null)
    names = {frozenset(name.split(", ")): name for name in at.measure.unique()
             if name.count(", ") == 1 and "−" not in name}  # fmt: skip

    def measure(*words: str, centred: bool = False):
        name = names[frozenset(words)] + (", centred" if centred else "")
        rows = at[at.measure == name]
        return _over(rows, "value"), _over(rows, "null")

    (opposite, null), (middle, _) = (
        measure("left", "right"),
        measure("left", "right", centred=True),
    )
    across, null_across = measure("left", "front")
    less = _over(at[at.measure == names[frozenset(("left", "right"))]], "less")
    axes = at[at.measure.str.contains("−")]
    of_axes, wrongly = _over(axes, "value"), _over(axes, "null")

    def near(interval: Sequence[float]) -> bool:
        return -0.2 <= interval[1] and interval[2] <= 0.2

    outside = wrongly[2] < -0.2 or wrongly[1] > 0.2
    n = at.set.nunique()
    return [
        Finding(
            "where.relations.collinear", opposite, null, "cosine of left and right at LM 0",
            "relations shuffled within each set", n,
            verdict(opposite[2] < -0.7, less[2] < 0 and middle[2] < -0.7),
            f"Centred: {middle[0]:.2f}. {remark}",
        ),
        Finding(
            "where.relations.orthogonal", across, wrongly, "cosine of left and front at LM 0",
            "axes put together wrongly", n, verdict(near(across), near(of_axes) and outside),
            f"Of the two axes: {of_axes[0]:.2f}; shuffled: {null_across[0]:.2f}. {remark}",
        ),
    ]  # fmt: skip


@register(
    name="axes", title="which axis the ViT's heads go by",
    claims=("where.attention.axis_ratio", "where.attention.vit_axis"), needs=("whatsup-b",),
    rule="Y over X in the ViT, all blocks together, for left and right; no question is asked. "
    "where.attention.vit_axis, the statistic of the paper's code (signed logits from the "
    "satellite's patches to the nucleus's), as in chapter 13: reproduced if its interval lies "
    "above 1, and so for behind and front, and with no displacement (all patches at one place), "
    "for then Y leads by itself; partly if it lies above 1, but not in both; else not. "
    "where.attention.axis_ratio, ours (spread of each axis's part over all patches): reproduced if "
    "its interval lies above 1 and above that of behind and front; partly if above 1; else not.",
    cost=lambda scope: Cost(vit=FOUR * scope.size(SOME)), lacks=no_rope,
)  # fmt: skip
def _axes(study: Study) -> list[Finding]:
    table, remark = _sets(study, "axes", relations.axis_logits, SOME)
    across = table[table.relation.isin(("left", "right"))]
    along = table[~table.relation.isin(("left", "right"))]

    def ratio(rows, statistic):
        return _over(rows[rows.statistic == statistic], "rows", "columns")

    theirs, still = ratio(across, "logits"), ratio(across, "logits, no displacement")
    mirror, ours = ratio(along, "logits"), ratio(across, "spread")
    ours_mirror, n = ratio(along, "spread"), table.set.nunique()
    return [
        Finding(
            "where.attention.vit_axis", theirs, still, "rows by columns in signed logits",
            "no displacement", n,
            verdict(min(theirs[1], still[1], mirror[1]) > 1, theirs[1] > 1),
            f"Behind and front: {mirror[0]:.2f}. {remark}",
        ),
        Finding(
            "where.attention.axis_ratio", ours, ours_mirror, "rows by columns in spread",
            "behind and front", n,
            verdict(ours[1] > max(1, ours_mirror[2]), ours[1] > 1), remark,
        ),
    ]  # fmt: skip


@register(
    name="blend", title="things are blended towards the opposite relation",
    claims=("where.intervention.flip",), needs=("whatsup-b",),
    rule="At the connector's output, weight 1. Reproduced if the satellite's step alone turns more "
    "than half of the answers to the opposite, interval included, and each control (random "
    "direction, same relation, wrong thing) fewer than a tenth; partly if that takes the steps of "
    "both things; else not. Nothing is settled where fewer than half of the untouched answers are "
    "right.",
    cost=lambda scope: Cost(vit=FOUR * scope.size(SETS), lm=5 * 5 * FOUR * scope.size(SETS)),
)  # fmt: skip
def _blend(study: Study) -> list[Finding]:
    table, remark = _sets(study, "blend", _asking(relations.blended))
    table["is opposite"] = table["is opposite"].astype(float)
    right = _over(table[table.weight == 0], "is correct")
    full = table[table.weight == 1]
    turned = {name: _over(rows, "is opposite") for name, rows in full.groupby("condition")}
    worst = max(
        (turned[name] for name in ("random direction", "same relation", "wrong thing")),
        key=lambda interval: interval[2],
    )
    alone, both = turned["satellite alone"], turned["both things"]
    quiet = worst[2] < 0.1
    settled = verdict(quiet and alone[1] > 0.5, quiet and both[1] > 0.5, right[1] > 0.5)
    return [
        Finding(
            "where.intervention.flip", alone, worst,
            "of answers turn to the opposite with the satellite's step", "the worst of three "
            "controls", table.set.nunique(), settled,
            f"Both things: {both[0]:.2f}. Untouched, {right[0]:.2f} are right. {remark}",
        )
    ]  # fmt: skip


@register(
    name="erasure", title="things are erased",
    claims=("where.erasure.drop",), needs=("whatsup-b",),
    rule="As in chapter 14, after the connector, with the ground's mean: reproduced if erasing the "
    "satellite leaves less than 40% right, interval included, and erasing the nucleus as well, "
    "while under both controls (the ground by its own mean, as much ground by the nucleus's) at "
    "least 90% of what is right stays right; partly if, under the same controls, erasing one of "
    "the two leaves less than half right, interval included; else not. Nothing is settled where "
    "fewer than half of the untouched answers are right.",
    cost=lambda scope: Cost(vit=FOUR * scope.size(SETS), lm=14 * FOUR * scope.size(SETS)),
)  # fmt: skip
def _erasure(study: Study) -> list[Finding]:
    table, remark = _sets(study, "erasure", _asking(relations.erased))
    table["is correct"] = table["is correct"].astype(float)
    left = {name: _over(rows, "is correct") for name, rows in table.groupby("condition")}
    right = left["untouched"]
    low = min((left[name] for name in ("ground", "as much ground")), key=lambda x: x[1])
    gone = [left[name] for name in ("satellite", "nucleus")]
    stays = low[1] >= 0.9 * right[0]
    settled = verdict(
        stays and all(x[2] < 0.4 for x in gone), stays and any(x[2] < 0.5 for x in gone),
        right[1] > 0.5,
    )  # fmt: skip
    return [
        Finding(
            "where.erasure.drop", left["satellite"], low, "right with the satellite erased",
            "the worse of two controls", table.set.nunique(),
            settled,
            f"Nucleus erased: {left['nucleus'][0]:.2f}; both: {left['both'][0]:.2f}; exchanged: "
            f"{left['exchanged'][0]:.2f}; untouched: {right[0]:.2f}. {remark}",
        )
    ]  # fmt: skip
