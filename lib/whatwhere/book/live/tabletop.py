"""A tabletop that a reader changes, and that a model reads again, inside a page.

    Tabletop(world.scene(7))          # as the last line of a cell: the figure
    Tabletop(scene, experiment="knockout", settings={"heads": "4.2,6.0"})   # one of EXPERIMENTS
    tabletop.assets("_static/live")   # the scripts to which it refers, once for a book

In the page stands a still figure, the token maps of the scene as Python has computed them, with a
slider over depth. Where scripts run, a button wakes the model, or scrolling to it where that costs
a reader nothing (`tabletop.js`): then `figure.js` puts the live figure in its place. Without
scripts, without the files of `assets`, and on paper, the still figure stays. All files are scripts
and one style, so that a page works that is read from a disk.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from pathlib import Path

from ... import lens, loading
from ...views.page import INK, PAPER_STYLE, SOFT, beside
from ...world import kinds_of_words
from ...world.rendering import Scene
from . import notes, weights, world_data

MODELS = ("toy-qwen2vl", "toy-llava")
BASE = "../_static/live"  # of the assets, from a chapter's page
KINDS = ("category", "colour", "texture", "background")
PAIR = ("satellite", "nucleus")  # categories of two things
# {experiment: what can be set}, as panels.js has them and as a link says them
EXPERIMENTS = {
    "runs": ("method", "same", "lengths", "positions"),
    "knockout": ("heads",),
    "relation": (*PAIR, "place"),
    "steering": (*PAIR, "toward", "dose", "who"),
    "rotation": (*PAIR, "columns", "rows", "blocks"),
    "gain": (*PAIR, "alpha", "p"),
    "attention": ("place", "head", "token", "row", "column"),
}


class Tabletop:
    """Shows itself in a notebook and in the built page.

    Args:
        scene: of the drawn world; a reader begins with it.
        model: the organism that reads it, one of `models`.
        depth, layer: the ViT depth and the LM layer that are shown first; the last depth and the
            model's lens layer by default.
        experiment: one of EXPERIMENTS, which the figure then is about; "all" for a menu of them.
        settings: of the experiment at first, texts: {"heads": "4.2,6.0"}.
        question: asked first, and again whenever the scene has changed. By default where the first
            thing is relative to the second, if there is an experiment for two things; else whether
            there is a mug.
        models: among which a reader can choose.
        name: of the figure in the page's links; figures of one page have different names.
        base: the folder of `assets`, as seen from the page.

    Raises:
        ValueError: for a scene that the page cannot draw, and for a depth or a layer that the
            model does not have.
    """

    def __init__(
        self,
        scene: Scene,
        model: str = "toy-qwen2vl",
        depth: int | None = None,
        layer: int | None = None,
        question: str | None = None,
        experiment: str | None = None,
        settings: Mapping[str, str] | None = None,
        models: Sequence[str] = MODELS,
        name: str = "tabletop",
        base: str = BASE,
    ):
        if model not in models:
            raise ValueError(f"The model is one of {', '.join(models)}; got {model!r}.")
        if scene.image.size != (144, 144):
            raise ValueError(
                f"A page draws pictures of 144 × 144 pixels; this one has {scene.image.size}."
            )
        if len(scene.things) > world_data.MOST:
            raise ValueError(
                f"A page shows {world_data.MOST} things at most, not {len(scene.things)}."
            )
        settings = dict(settings or {})
        if experiment not in (None, "all", *EXPERIMENTS):
            raise ValueError(
                f"The experiment is one of {', '.join(EXPERIMENTS)}, or 'all'; got {experiment!r}."
            )
        unknown = [key for key in settings if key not in EXPERIMENTS.get(str(experiment), ())]
        if unknown:
            raise ValueError(
                f"The experiment {experiment!r} has the settings "
                f"{', '.join(EXPERIMENTS.get(str(experiment), ())) or 'none'}; got {unknown[0]!r}."
            )
        there = [thing.category for thing in scene.things]
        absent = [key for key in PAIR if key in settings and settings[key] not in there]
        if absent:
            raise ValueError(
                f"The {absent[0]} is a thing of the scene, one of {', '.join(there)}; "
                f"got {settings[absent[0]]!r}."
            )
        if question is None:
            question = _question(scene, experiment)
        self.scene, self.model, self.question = scene, model, question
        self.experiment, self.settings = experiment, settings
        self.models, self.name, self.base = tuple(models), name, base
        self.maps = lens.token_maps(loading.load(model, device="cpu"), scene.image, layer=layer)
        self.layer, self.depth = self.maps.layer, self.maps.depths[-1] if depth is None else depth
        if self.depth not in self.maps.depths:
            raise ValueError(f"The ViT of {model} has the depths {self.maps.depths}, no {depth}.")

    def __repr__(self):
        things = ", ".join(thing.category for thing in self.scene.things)
        return f"Tabletop({things} on {self.scene.background}, {self.model})"

    def still(self) -> str:
        """The figure where no script runs: a token map, under it what the picture shows."""
        shown = self.maps.show(kinds_of_words(*KINDS))
        html: str = shown.html(self.maps.depths.index(self.depth))  # pyright: ignore
        things = "; ".join(" ".join(_named(thing)) for thing in self.scene.things)
        told = f"<p>The picture: {escape(things)}, on a ground of {self.scene.background}.</p>"
        return html.replace("</figcaption>", told + "</figcaption>", 1)

    def _repr_html_(self):
        live = {
            "scene": world_data.fields(self.scene),
            "model": self.model,
            "models": self.models,
            "depth": self.depth,
            "layer": self.layer,
            "question": self.question,
            "experiment": self.experiment,
            "settings": self.settings,
            "megabytes": round(len(_export(self.model)) / 1e6, 1),
        }
        base = escape(self.base)
        return (
            f'<div class="ww-live" id="{escape(self.name)}" data-base="{base}" '
            f'data-live="{escape(json.dumps(live, separators=(",", ":")))}">'
            f'<link rel="stylesheet" href="{base}/tabletop.css">{self.still()}'
            f'<script src="{base}/tabletop.js"></script></div>'
        )


def _question(scene, experiment):
    if experiment == "runs":
        return "how many objects are there ?"
    if experiment in (None, "all", "attention") or len(scene.things) < 2:
        return "is there a mug ?"
    one, other, *_ = scene.things
    return f"where is the {one.category} relative to the {other.category} ?"


def _named(thing):
    return (*thing.attributes, thing.category, *([f"“{thing.text}”"] if thing.text else []))


@cache
def _export(model):
    return weights.export(model)


def assets(folder: str | Path, models: Sequence[str] = MODELS) -> list[Path]:
    """Write all files to which figures refer into a folder, and say which: the same bytes each
    time.

    A page loads tabletop.js and tabletop.css; the rest comes when a figure wakes: world.js and
    world_data.js, panels.js (the experiments), figure.js, worker.js (the engine and its Worker, as
    text), a script for each model, and where an experiment needs them the model's notes.
    """
    folder, here = Path(folder), Path(__file__).parent
    style = beside(__file__, ".css", INK=INK, SOFT=SOFT)
    engine = weights.engine() + "\n" + (here / "worker.js").read_text(encoding="utf-8")
    texts = {
        "tabletop.js": (here / "tabletop.js").read_text(encoding="utf-8"),
        "tabletop.css": PAPER_STYLE + "\n" + style + "\n",
        "world.js": (here / "world.js").read_text(encoding="utf-8"),
        "panels.js": (here / "panels.js").read_text(encoding="utf-8"),
        "figure.js": (here / "figure.js").read_text(encoding="utf-8"),
        "world_data.js": world_data.script(),
        # as a string, since a page from a disk cannot read a file of which it could make a Worker
        "worker.js": f"globalThis.whatwhereWorker = {json.dumps(engine)};\n",
        **{f"{model}.js": _export(model) for model in models},
        **{f"{model}_notes.js": notes.script(model) for model in models},
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    return [folder / name for name in texts]
