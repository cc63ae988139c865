"""A model, its data, and the folder in which a study keeps its parts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from .. import benchmarks, photographs
from ..benchmarks import identity, running
from ..files import first_line, together
from ..photographs import Photograph, PhotographSet

if TYPE_CHECKING:
    from ..compress import Decoder
    from ..models import VLM

# {name: what lies in that folder of the data}; benchmarks without a folder come from the hub
DATA = {
    "gqa-scenes": "val_sceneGraphs.json of GQA, and images/ with its pictures (or they are fetched "
    "one by one)",
    "coco": "instances_val2017.json of COCO, and val2017/ with its pictures (or they are fetched "
    "one by one)",
    "whatsup-b": "controlled_clevr_dataset.json, controlled_clevr/ and the paper's bbox.jsonl (or "
    "all three are fetched)",
    **{
        name: benchmarks.BENCHMARKS[name].layout + " (or fetched from the hub)"
        for name in (
            "whatsup-a",
            "coco-spatial",
            "gqa-spatial",
            "gqa",
            "textvqa",
            "mmbench",
            "pope",
        )
    },
    "tuned": "a checkpoint of this model that `whatwhere finetune` wrote",
    "tuned-scaled": "the same, fine-tuned with RoPE scaling",
}
PICTURES, SETS = 300, 102  # by default: of a sample of photographs; What's Up B has 102 sets
CHUNK = 16  # pictures in one part, each control picture among them


@dataclass
class Study:
    """What all experiments of one run share.

    Attributes:
        vlm: the model.
        folder: where parts, answers and rows are kept.
        data: a folder with a folder for each name in `DATA`, as far as there is one.
        limit: pictures, sets or questions of each experiment, at most.
        seed: of samples, shuffled options and shuffled patches.
        decoder: the visual decoder that the paper's compression reads with, or None.
        protocol: of benchmarks, "ours" or "paper".
        batch_size: questions at once.
        progress: show how far it is?
    """

    vlm: VLM
    folder: Path
    data: Path | None = None
    limit: int | None = None
    seed: int = 0
    decoder: Decoder | None = None
    protocol: str = "ours"
    batch_size: int = 8
    progress: bool = True

    def source(self, name: str) -> Path | None:
        """The folder of that name in the data; None where there is none."""
        path = self.data / name if self.data else None
        return path if path and path.is_dir() else None

    def size(self, usual: int) -> int:
        """How many of something are taken: as many as usual, or the limit."""
        return usual if self.limit is None else min(usual, self.limit)

    @cached_property
    def gqa(self) -> list[Photograph]:
        """A sample of GQA's pictures with their things, attributes and relations; things of one
        category in a picture are one thing."""
        scenes = self._annotated("gqa-scenes", "val_sceneGraphs.json", photographs.gqa, "images")
        return [photograph.by_category() for photograph in scenes]

    @cached_property
    def coco(self) -> list[Photograph]:
        """A sample of COCO's pictures with masks; things of one category are one thing."""
        scenes = self._annotated("coco", "instances_val2017.json", photographs.coco, "val2017")
        return [photograph.by_category() for photograph in scenes]

    @cached_property
    def sets(self) -> list[PhotographSet]:
        """What's Up B with its boxes: the same two things in four relations."""
        folder = self.source("whatsup-b")
        boxes = folder / "bbox.jsonl" if folder and (folder / "bbox.jsonl").is_file() else None
        return photographs.whatsup_sets(folder, boxes)[: self.size(SETS)]

    def _annotated(self, name, file, read, pictures):
        folder = self.source(name)
        if folder is None:
            raise FileNotFoundError(
                f"{file} is needed, and is on no hub: put it into a folder '{name}', and give the "
                "folder around that as data (--data)."
            )
        own = folder / pictures if (folder / pictures).is_dir() else None
        wanted = self.size(PICTURES)
        try:
            return read(folder, sample=wanted, seed=self.seed, pictures=own)
        except ValueError as error:
            if "fewer than" not in str(error) or self.limit is not None:
                raise
            return read(folder, pictures=own)  # it has fewer: all of them

    def split(self, scenes: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """(development, test): every third to choose on, and the others to report."""
        return list(scenes[2::3]), [scene for n, scene in enumerate(scenes) if n % 3 != 2]

    def chunks(self, scenes: Iterable[Any]) -> tuple[list[list[Any]], int]:
        """Scenes in lists of one patch grid, so that each has others beside it as a control; and
        how many were left alone, and so out."""
        by_grid: dict[tuple[int, int], list[Any]] = {}
        for scene in scenes:
            by_grid.setdefault(self.vlm.patch_grid(scene.image), []).append(scene)
        chunks, alone = [], 0
        for alike in by_grid.values():
            parts = [alike[start : start + CHUNK] for start in range(0, len(alike), CHUNK)]
            if len(parts) > 1 and len(parts[-1]) == 1:
                parts[-2:] = [parts[-2] + parts[-1]]
            if len(parts[-1]) == 1:
                alone += 1
                parts.pop()
            chunks += parts
        if not chunks:
            raise ValueError(
                "No two of these pictures have the same patch grid, so that none has another "
                "beside it as a control: take more."
            )
        return chunks, alone

    def parts(
        self, name: str, pieces: Sequence[Any], compute: Callable[[Any], Mapping[str, Any]]
    ) -> list[dict[str, np.ndarray]]:
        """compute(piece) of all pieces, each of which is kept, as arrays by name, once it is there.

        Of several processes each computes its share, and all get all.
        """
        folder, process = self.folder / "parts" / name, benchmarks.processes()
        # of another sample, or of other annotations, the parts are others
        paths = [folder / f"{n}-{_key(piece)}.npz" for n, piece in enumerate(pieces)]
        mine = [n for n in range(len(pieces)) if n % process.count == process.rank]
        quiet: dict[str, Any] = {} if self.progress and process.rank == 0 else {"disable": True}
        for n in tqdm(mine, desc=name, unit="part", leave=False, **quiet):
            if not paths[n].is_file():
                with together(folder) as new:
                    np.savez(new / paths[n].name, **dict(compute(pieces[n])))
        self._wait(paths)
        return [_arrays(path) for path in paths]

    def _wait(self, paths):
        """Until another process has written them."""
        changed = time.time()
        missing = [path for path in paths if not path.is_file()]
        while missing:
            time.sleep(1)
            left = [path for path in missing if not path.is_file()]
            changed = time.time() if len(left) < len(missing) else changed
            if left and time.time() - changed > running.PATIENCE:
                raise ValueError(
                    f"{len(left)} parts are missing, and for {running.PATIENCE // 60} minutes none "
                    "has come: another process has died. Run the same command again."
                )
            missing = left

    def bench(self, benchmark: str, **how: Any) -> benchmarks.Result:
        """`benchmarks.run` of this study's model, kept in a folder of its own; the same run is made
        once, whichever experiment asks for it."""
        scale = how.get("scale")
        words = [f"{name}-{_named(value)}" for name, value in how.items() if name != "scale"]
        words += [f"scale-{'-'.join(f'{x:g}' for x in scale)}"] if scale else []
        out = self.folder / "bench" / "-".join([benchmark, *words])
        if how.get("compress") in ("rle", "rle-drop", "rle-drop-both"):
            how["decoder"] = self.decoder
        return benchmarks.run(
            self.vlm, benchmark, data=self.source(benchmark), limit=self.limit, seed=self.seed,
            out=out, batch_size=self.batch_size, protocol=self.protocol, progress=self.progress,
            **how,
        )  # fmt: skip


def _key(piece):
    """A short name for what a part is computed of: scenes, with their things, or anything else."""
    if isinstance(piece, PhotographSet):
        piece = list(piece.scenes.values())
    listed = piece if isinstance(piece, list) else [piece]
    return identity.short([
        [part.id, [list(thing.words) for thing in part.things], part.cover(9, 9).round(6).tolist()]
        if hasattr(part, "things") else str(part)
        for part in listed
    ])  # fmt: skip


def _named(value):
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("/", "-")


def _arrays(path):
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception as error:  # a zip file that was cut short has many
        raise ValueError(
            f"'{path}' is damaged ({first_line(error)}): delete it, and run the same command again."
        ) from error
