"""What an experiment is: the claims that it measures, by which rule, and what it costs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ..book import ledger

if TYPE_CHECKING:
    from ..models import VLM
    from .study import Study

Verdict = Literal["reproduced", "partly", "not reproduced", "undecided"]
Interval = tuple[float, float, float]  # value, low, high


@dataclass(frozen=True)
class Finding:
    """What an experiment has found about one claim.

    Attributes:
        claim: its id in the catalogue.
        measured, control: (value, low, high); the two last are the value again where nothing was
            sampled.
        unit: what the value is, in words, as after a number.
        null: what the control is, in words.
        n: how many pictures, sets or questions were measured.
        verdict: by the experiment's rule.
        remark: what a reader should know besides, such as how many pictures were left out.
    """

    claim: str
    measured: Interval
    control: Interval
    unit: str
    null: str
    n: int
    verdict: Verdict
    remark: str = ""


@dataclass(frozen=True)
class Cost:
    """How often an experiment runs which part of the model: passes of the ViT over a picture, of
    the LM over a prompt, and words that are generated."""

    vit: float = 0
    lm: float = 0
    words: float = 0


@dataclass(frozen=True)
class Scope:
    """What an experiment's cost depends on: the model's depth, and how much is asked."""

    last_depth: int
    n_layers: int
    limit: int | None = None

    def size(self, usual: int) -> int:
        """How many of something are taken: as many as usual, or the limit."""
        return usual if self.limit is None else min(usual, self.limit)


@dataclass(frozen=True)
class Experiment:
    """One of the paper's experiments.

    Attributes:
        name: as `run` takes it.
        title: what is done, in a few words.
        claims: ids of the catalogue that it settles.
        rule: when each of them is reproduced, partly, or not; fixed before any number is known.
        needs: names in `study.DATA`.
        measure: measure(study) → its findings.
        cost: cost(scope) → its `Cost`.
        lacks: lacks(vlm) → why this model cannot do it, "" if it can; None where every model can.
    """

    name: str
    title: str
    claims: Sequence[str]
    rule: str
    needs: Sequence[str]
    measure: Callable[[Study], list[Finding]]
    cost: Callable[[Scope], Cost]
    lacks: Callable[[VLM], str] | None = None

    def impossible(self, vlm: VLM) -> str:
        """Why this model cannot do it, in a sentence; "" if it can."""
        return self.lacks(vlm) if self.lacks else ""

    @property
    def where(self) -> str:
        """Where the paper has it, as the catalogue says of the first claim."""
        (entry,) = (claim for claim in ledger.catalogue() if claim["id"] == self.claims[0])
        return (entry["paper"] or {}).get("where", "")


Measure = Callable[["Study"], list[Finding]]
EXPERIMENTS: dict[str, Experiment] = {}


def register(**about: Any) -> Callable[[Measure], Measure]:
    """Make a function the `measure` of an `Experiment`, and the experiment known by its name.

    Raises:
        ValueError: for a name that is known already, and for a claim that the catalogue lacks.
    """
    known = {claim["id"] for claim in ledger.catalogue()}

    def keep(measure):
        record = Experiment(measure=measure, **about)
        unknown = sorted(set(record.claims) - known)
        if record.name in EXPERIMENTS or unknown or not record.rule.strip():
            raise ValueError(
                f"The experiment '{record.name}' is there already, has no rule, or claims what no "
                f"catalogue has: {', '.join(unknown) or 'nothing'}."
            )
        EXPERIMENTS[record.name] = record
        return measure

    return keep


def chosen(names: Iterable[str] | None = None) -> list[Experiment]:
    """The experiments with these names, or that settle a claim of these names or beginnings of
    names ("what", "where.relations"); all without any.

    Raises:
        ValueError: for a name that is neither.
    """
    names = list(names or ())
    if not names:
        return list(EXPERIMENTS.values())
    picked = {}
    for name in names:
        begins = re.compile(re.escape(name) + r"(\.|$)")
        fits = {
            key: record
            for key, record in EXPERIMENTS.items()
            if key == name or any(begins.match(claim) for claim in record.claims)
        }
        if not fits:
            raise ValueError(
                f"There is no experiment or claim {name!r}; experiments are "
                f"{', '.join(EXPERIMENTS)}, and claims are the ledger's, such as "
                "what.stages.attribute_peak, or a part of them, such as where.relations."
            )
        picked |= fits
    return [record for key, record in EXPERIMENTS.items() if key in picked]


def verdict(good: bool, fair: bool = False, able: bool = True) -> Verdict:
    """ "reproduced" if good, else "partly" if fair, else "not reproduced"; "undecided" of a model
    that is not able to do what is asked."""
    if not able:
        return "undecided"
    return "reproduced" if good else "partly" if fair else "not reproduced"
