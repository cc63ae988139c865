"""Tables 1 and 2, and what happens to answers when the ViT or its positions are cut short."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from .. import benchmarks, loading, rope
from ..benchmarks import Result, gain, known, paper
from ..benchmarks.scores import Score, headline, macro
from ..models import VLM
from .experiment import Cost, Finding, Interval, Scope, Verdict, register, verdict
from .study import Study
from .what import needed

UNABLE = (
    " Nothing is settled (undecided) where the model, as it is, cannot do the task: where fewer "
    "than 95% of its answers can be read, or its accuracy is not above guessing (one of the "
    "options; a half for yes and no; a twentieth for a word)."
)
METHODS = ("rle", "rle-drop", "rle-drop-both")  # the paper's 1, 2 and 3
GENERAL = ("gqa", "pope", "textvqa", "mmbench")  # Table 1's columns
SPATIAL = ("whatsup-a", "whatsup-b", "coco-spatial", "gqa-spatial")  # Table 2's
SCALE, STRONG = (99, 8), (29, 2)  # the paper's, and one that chapter 15 found to be too much
SWAPS = 500
SWAPPED = f"the two answer sheets swapped at random, {SWAPS} times: the middle 95%"
QUESTIONS = {  # of a whole benchmark
    "gqa": 12578, "pope": 9000, "textvqa": 5000, "mmbench": 4329, "whatsup-a": 412,
    "whatsup-b": 408, "coco-spatial": 2687, "gqa-spatial": 1451,
}  # fmt: skip


def points(score: Score) -> Interval:
    """A score in points: (value, low, high)."""
    return 100 * score.value, 100 * score.low, 100 * score.high


def asking(scope: Scope, names: Sequence[str], ways: int) -> Cost:
    """What it costs to put these benchmarks to a model in so many ways."""
    n = ways * sum(scope.size(QUESTIONS[name]) for name in names)
    return Cost(vit=n, lm=n, words=4 * n)


def _beside(result: Result) -> str:
    """What the paper has for this run, "" for none."""
    value, otherwise = paper.figure(result.settings)
    if value is None:
        return ""
    return f"The paper: {value:g}{f' ({otherwise})' if otherwise else ''}."


def _theirs(before: Result, after: Result) -> float | None:
    """What the paper gains from one run to another, in points; None where it has not both."""
    first, second = (paper.figure(result.settings)[0] for result in (before, after))
    return None if first is None or second is None else second - first


def _table(study: Study, name: str, results: dict[str, dict[str, Result]]) -> None:
    """{way: {benchmark: Result}} as a table of accuracies in the study's folder."""
    if benchmarks.processes().rank:
        return
    lines = [
        {
            "way": way, "removed, %": round(100 * np.mean([r.removed for r in row.values()]), 2),
            **{key: round(100 * result.accuracy, 2) for key, result in row.items()},
        }
        for way, row in results.items()
    ]  # fmt: skip
    study.folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(lines).to_csv(study.folder / f"{name}.csv", index=False)


@register(
    name="table1", title="compression on four benchmarks",
    claims=(
        "what.real.gqa", "what.real.pope", "what.real.reading", "what.real.mmbench",
        "what.compress.rle", "what.compress.punctuation_top1", "what.compress.punctuation_top2",
        "what.compress.beats_random", "what.compress.positions",
    ),
    needs=GENERAL,
    rule="Differences in points of accuracy on the same questions, intervals over groups of "
    "questions. The control drops as many tokens at random as method 1 removes. what.real.* "
    "(method 1 less the whole picture, on one benchmark): reproduced if the interval holds the "
    "paper's difference and lies above the control's, the two apart; not reproduced if it lies "
    "wholly above or below the paper's difference; else undecided: an interval that holds both "
    "tells nothing. what.compress.rle is reproduced if "
    "method 1 removes at least a quarter and loses at most one point of GQA (lower end of the "
    "interval); partly if it removes as much and loses less than random, their intervals apart; "
    "else not. what.compress.punctuation_top1: reproduced if method 2 costs TextVQA more than "
    "method 1 does, by more than the interval, and more than it costs POPE, intervals apart, and "
    "removes more than half; partly if it removes less; else not. what.compress.punctuation_top2: "
    "reproduced if method 3 reads TextVQA better than method 2, by more than the interval, and "
    "gains more than on POPE, intervals apart; else not. "
    "what.compress.beats_random: reproduced if method 1 beats random on GQA by more than the "
    "interval; else not. what.compress.positions: reproduced if kept positions beat "
    "renumbered ones on GQA by more than the interval; else not. The control of the two: the "
    "same difference with the two answer sheets swapped at random, group by group." + UNABLE,
    cost=lambda scope: asking(scope, GENERAL, 5),
)  # fmt: skip
def _table1(study: Study) -> list[Finding]:
    needed(study.decoder)
    rows: dict[str, dict[str, Result]] = {"all tokens": {}, **{way: {} for way in METHODS}}
    for name in GENERAL:
        rows["all tokens"][name] = study.bench(name)
        for way in METHODS:
            rows[way][name] = study.bench(name, compress=way)
    removed = float(np.mean([result.removed for result in rows["rle"].values()]))
    keep = round(1 - removed, 3)
    if not 0 < keep < 1:
        raise ValueError(
            f"Method 1 removes {removed:.0%} of this model's tokens, so that there is no random "
            "control to hold it against."
        )
    rows["random"] = {name: study.bench(name, compress="random", keep=keep) for name in GENERAL}
    _table(study, "table1", rows)
    loss = {
        (way, name): points(gain(rows["all tokens"][name], rows[way][name]))
        for way in (*METHODS, "random") for name in GENERAL
    }  # fmt: skip
    can = {name: able(result) for name, result in rows["all tokens"].items()}
    n, findings = {name: len(rows["rle"][name].rows) for name in GENERAL}, []
    claims = dict(zip(("what.real.gqa", "what.real.pope", "what.real.reading", "what.real.mmbench"),
                      GENERAL))  # fmt: skip
    for claim, name in claims.items():
        ours, control = loss["rle", name], loss["random", name]
        theirs = _theirs(rows["all tokens"][name], rows["rle"][name])
        findings.append(Finding(
            claim, ours, control, f"points of {name} by method 1, {removed:.1%} removed",
            "as many tokens dropped at random", n[name],
            as_reported(ours, control, theirs if can[name] else None),
            " ".join(_beside(rows[way][name]) for way in ("all tokens", "rle")),
        ))  # fmt: skip
    rle, random = loss["rle", "gqa"], loss["random", "gqa"]
    findings.append(Finding(
        "what.compress.rle", rle, random, f"points of gqa, {removed:.1%} removed by method 1",
        "as many tokens dropped at random", n["gqa"],
        verdict(
            removed >= 0.25 and rle[1] >= -1, removed >= 0.25 and rle[1] > random[2], can["gqa"]
        ),
    ))  # fmt: skip
    for claim, worse, better in (
        ("what.compress.punctuation_top1", "rle-drop", "rle"),
        ("what.compress.punctuation_top2", "rle-drop", "rle-drop-both"),
    ):
        reading, there = (
            points(gain(rows[worse][name], rows[better][name])) for name in ("textvqa", "pope")
        )
        gone = float(np.mean([result.removed for result in rows["rle-drop"].values()]))
        share = gone if claim.endswith("top1") else None
        findings.append(Finding(
            claim, reading, there, f"points of TextVQA that {better} is above {worse}",
            "the same difference on POPE", n["textvqa"],
            of_reading(reading, there, share, can["textvqa"]),
            f"{worse} removes {gone:.1%}.",
        ))  # fmt: skip
    renumbered = study.bench("gqa", compress="rle", positions="renumbered")
    for claim, than, before in (
        ("what.compress.beats_random", "as many tokens dropped at random", rows["random"]["gqa"]),
        ("what.compress.positions", "renumbered positions", renumbered),
    ):
        better = points(gain(before, rows["rle"]["gqa"]))
        findings.append(Finding(
            claim, better, _null(before, rows["rle"]["gqa"], study.seed),
            f"points of GQA that method 1 is above {than}", SWAPPED, n["gqa"],
            verdict(better[1] > 0, able=can["gqa"]),
        ))  # fmt: skip
    return findings


def of_reading(ours: Interval, control: Interval, gone: float | None, can: bool) -> Verdict:
    """Is it reading that a difference is about? `gone` is the share of tokens removed, where the
    claim asks for more than half."""
    clearly = ours[1] > max(0.0, control[2])
    return verdict(clearly and (gone is None or gone > 0.5), clearly, can)


def as_reported(ours: Interval, control: Interval, theirs: float | None) -> Verdict:
    """Is a difference the paper's? An interval that holds both that and the control's tells
    nothing, and neither does one without a figure of the paper."""
    if theirs is None:
        return "undecided"
    if not ours[1] <= theirs <= ours[2]:
        return "not reproduced"
    return "reproduced" if ours[1] > control[2] else "undecided"


def _null(before: Result, after: Result, seed: int) -> Interval:
    """`gain`, in points, with the two answer sheets swapped at random, group by group, SWAPS times:
    the mean, and the middle 95%."""
    record = known(before.settings["benchmark"])
    (old, counts), (new, _) = (
        headline(result.rows, bool(record.parts), record.counted) for result in (before, after)
    )
    rng, gains = np.random.default_rng(seed), []
    for _ in range(SWAPS):
        swap = rng.random((len(counts), 1)) < 0.5
        one, other = np.where(swap, new, old), np.where(swap, old, new)
        gains.append(100 * (macro(other, counts) - macro(one, counts)))
    low, high = np.quantile(gains, (0.025, 0.975))
    return float(np.mean(gains)), float(low), float(high)


def no_rope(vlm: VLM) -> str:
    """Why there is no 2-D RoPE to scale in this model; "" where there is."""
    try:
        rope.vision(vlm)
    except ValueError as error:
        return str(error)
    return ""


def able(*results: Result) -> bool:
    """Can the model do what it is asked? Of a model that cannot, nothing is learnt."""
    for result in results:
        options = [len(options) for options in result.rows["options"]]
        kinds = set(result.rows["kind"])
        by_luck = 0.5 if kinds == {"yes/no"} else 1 / np.mean(options) if all(options) else 0.05
        if result.unparsed > 0.05 or not result.scores["accuracy"].low > by_luck:
            return False
    return True


def _gained(before: Result, after: Result, blind: tuple[Result, Result], theirs: float | None):
    """The verdict of chapter 18 on a gain: its control is blind."""
    ours, unseen, net = gain(before, after), gain(*blind), gain(before, after, beside=blind)
    if not able(before) or after.unparsed > 0.05:
        return "undecided"
    if unseen.low > 0:
        return "not reproduced"
    if ours.low > 0:
        return "reproduced" if net.low > 0 else "undecided"
    below = theirs is not None and ours.high < theirs / 100
    return "not reproduced" if below else "undecided"


SPATIAL_CLAIMS = {
    "whatsup-a": "where.real.whatsup_a", "whatsup-b": "where.real.whatsup_b",
    "coco-spatial": "where.real.coco", "gqa-spatial": "where.real.gqa",
}  # fmt: skip
BLIND_RULE = (
    "The gain is the accuracy with α = 99, p = 8 less that without, on the same questions; the "
    "control is blind: each question beside the picture of another group. Reproduced if the "
    "gain's interval lies above zero, and the control's does not, and that of the gain less the "
    "control's does, group by group; not reproduced if the control's lies above zero, or the "
    "gain's does not and lies below the paper's; else undecided." + UNABLE
)


@register(
    name="table2", title="RoPE scaling without training, on four benchmarks",
    claims=(*SPATIAL_CLAIMS.values(), "where.real.seven"), needs=SPATIAL, rule=BLIND_RULE,
    cost=lambda scope: asking(scope, SPATIAL, 4), lacks=no_rope,
)  # fmt: skip
def _table2(study: Study) -> list[Finding]:
    rows: dict[str, dict[str, Result]] = {}
    for name in SPATIAL:
        for way, how in (
            ("as it is", {}), ("scaled", {"scale": SCALE}), ("blind", {"blind": True}),
            ("blind, scaled", {"scale": SCALE, "blind": True}),
        ):  # fmt: skip
            rows.setdefault(way, {})[name] = study.bench(name, **how)
    _table(study, "table2", rows)
    findings = []
    for name, claim in SPATIAL_CLAIMS.items():
        before, after = rows["as it is"][name], rows["scaled"][name]
        blind = rows["blind"][name], rows["blind, scaled"][name]
        theirs = _theirs(before, after)
        seven = name == "whatsup-b" and "7b" in study.vlm.name.lower()
        findings.append(Finding(
            "where.real.seven" if seven else claim, points(gain(before, after)),
            points(gain(*blind)),
            f"points of {name} gained", "the same, blind", len(before.rows),
            _gained(before, after, blind, theirs),
            " ".join(filter(None, map(_beside, (before, after)))),
        ))  # fmt: skip
    return findings


@register(
    name="tuned", title="RoPE scaling with fine-tuning",
    claims=("where.scaling.sft",), needs=("whatsup-b", "tuned", "tuned-scaled"),
    rule="On What's Up B, after fine-tuning on the same questions with RoPE scaling and without: "
    "the accuracy with it less that without it. Reproduced if the interval lies above zero, and so "
    "does that of the difference less the control's, the same on blind questions; else not "
    "reproduced." + UNABLE,
    cost=lambda scope: asking(scope, ("whatsup-b",), 4), lacks=no_rope,
)  # fmt: skip
def _tuned(study: Study) -> list[Finding]:
    results = {}
    for name in ("tuned", "tuned-scaled"):
        folder = study.source(name)
        if folder is None:
            raise FileNotFoundError(
                f"A fine-tuned checkpoint is needed, in a folder '{name}' of the data: whatwhere "
                f"finetune MODEL --data GQA --out {name}, and the other with --scale 99 10."
            )
        vlm = loading.load(folder, device=str(study.vlm.device))
        if vlm.family != study.vlm.family:
            raise ValueError(
                f"'{folder}' is of the family {vlm.family}, and this study of {study.vlm.family}."
            )
        own = replace(study, vlm=vlm, folder=study.folder / name)
        for blind in (False, True):
            results[name, blind] = own.bench("whatsup-b", **({"blind": True} if blind else {}))
    before, after = (results[name, False] for name in ("tuned", "tuned-scaled"))
    blind = results["tuned", True], results["tuned-scaled", True]
    ours, unseen, net = gain(before, after), gain(*blind), gain(before, after, beside=blind)
    settled = verdict(ours.low > 0 and net.low > 0, able=able(before, after))
    return [
        Finding(
            "where.scaling.sft", points(ours), points(unseen), "points of What's Up B gained",
            "the same, blind", len(before.rows), settled,
            f"Fine-tuned: {100 * before.accuracy:.2f}; with scaling: {100 * after.accuracy:.2f}.",
        )
    ]  # fmt: skip


@register(
    name="general", title="general ability with RoPE scaling",
    claims=("where.scaling.general",), needs=GENERAL,
    rule="As in chapter 15: the mean over GQA, POPE, TextVQA and MMBench of the accuracy with "
    "α = 99, p = 8 less that without. Reproduced if it loses at most one point, interval "
    "included; partly if the interval reaches further, but contains zero or lies above it; both "
    "only if the control (α = 29, p = 2) loses more (the difference, question by question, has its "
    "interval above zero); else not." + UNABLE,
    cost=lambda scope: asking(scope, GENERAL, 3), lacks=no_rope,
)  # fmt: skip
def _general(study: Study) -> list[Finding]:
    changes: dict[str, list[Score]] = {"ours": [], "control": [], "more": []}
    can = True
    for name in GENERAL:
        before = study.bench(name)
        can = can and able(before)
        scaled, strong = (study.bench(name, scale=scale) for scale in (SCALE, STRONG))
        changes["ours"].append(gain(before, scaled))
        changes["control"].append(gain(before, strong))
        changes["more"].append(gain(strong, scaled))
    ours, control, more = map(_mean, changes.values())
    loses_more = more[1] > 0
    return [
        Finding(
            "where.scaling.general", ours, control, "points, mean of four benchmarks",
            "α = 29, p = 2", sum(each.n for each in changes["ours"]),
            verdict(ours[1] >= -1 and loses_more, ours[2] >= 0 and loses_more, can),
        )
    ]  # fmt: skip


def _mean(scores: Sequence[Score]) -> tuple[float, float, float]:
    """The mean of independent gains, in points: half widths add up as squares do."""
    value = float(np.mean([score.value for score in scores]))
    below, above = (
        float(np.sqrt(sum((score.value - end) ** 2 for score, end in zip(scores, ends))))
        / len(scores)
        for ends in ([score.low for score in scores], [score.high for score in scores])
    )
    return 100 * value, 100 * (value - below), 100 * (value + above)
