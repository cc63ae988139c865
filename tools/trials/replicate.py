"""Does `whatwhere replicate` find on the organisms what their chapters found?

    python -m tools.trials.replicate            # make replicate: both, some minutes each
    python -m tools.trials.replicate --organisms toy-llava --families --scenes 30

The organisms' world is drawn into the published files of every data set, and the command is put to
each organism on them; then to the same scenes without files between, which know each thing by its
own mask and by all its words. And does every part run on small random models of every family? The
rows go to data/results/replication.json, as chapter 19 shows them.
"""

import argparse
import hashlib
import json
import shutil
import tempfile
from datetime import date
from functools import partial
from pathlib import Path

import whatwhere as ww
from tools.course import execute
from tools.course.chapters import ROOT
from whatwhere import compress, photographs, replication
from whatwhere.benchmarks import tabletop
from whatwhere.book import rehearsal
from whatwhere.files import write
from whatwhere.replication.study import Study

RESULTS = ROOT / "data" / "results" / "replication.json"
SCENES, LESSONS = 300, 400
FEW = 9  # scenes of a rehearsal
# experiments whose scenes can be the world's own
EXACT = ("lens", "stages", "segmentation", "relations", "axes", "blend", "erasure")
KEPT = ("id", "experiment", "state", "measured", "control", "verdict", "why", "seconds")


def study(vlm, data, folder, images):
    """All rows of a model, shortened; its decoder learns from the images."""
    lessons = compress.lessons(vlm, images)
    # as in chapter 5
    decoder = compress.distil(vlm, lessons, epochs=6, lr=0.03, folder=folder / "decoder")
    rows = replication.run(vlm, folder / "study", data=data, decoder=decoder, batch_size=32)
    for row in rows:
        if row["measured"]:
            row["measured"]["model"] = vlm.name
    return [{key: row.get(key) for key in KEPT} for row in rows]


def organisms(names, scenes, folder):
    """{name: rows}"""
    data = replication.stand_in.write(folder / "data", scenes)
    images = [scene.image for scene in ww.world.scenes("train", LESSONS)]
    return {name: study(ww.load(name), data, folder / name, images) for name in names}


def exactly(names, scenes, folder):
    """{name: [{"id", "measured", "control", "verdict"}]} of the scenes and sets themselves."""
    pictures = list(ww.world.scenes("test", scenes))
    sets = tabletop.distinct("B", max(2, scenes // 3), "test")
    found = {}
    for name in names:
        study = Study(ww.load(name), folder / f"{name}, exactly", progress=False)
        study.gqa = study.coco = pictures
        study.sets = sets
        experiments = [replication.EXPERIMENTS[each] for each in EXACT]
        found[name] = [
            {"id": finding.claim, "measured": finding.measured, "control": finding.control,
             "verdict": finding.verdict}
            for experiment in experiments if not experiment.impossible(study.vlm)
            for finding in experiment.measure(study)
        ]  # fmt: skip
    return found


def families(names, folder):
    """{family: rows} of small random models of the true classes: does every part run?"""
    data = replication.stand_in.write(folder / "small", FEW)
    images = [photograph.image for photograph in photographs.shipped()]
    found = {}
    for name in names:
        vlm = ww.load(rehearsal.tiny_random(folder / "models" / name, name))
        vlm.name = name
        for tuned in ("tuned", "tuned-scaled"):  # no training here: tests/test_tuning.py has some
            shutil.copytree(folder / "models" / name, data / tuned, dirs_exist_ok=True)
        found[name] = study(vlm, data, folder / name, images)
    return found


def rules():
    """{experiment: a digest of its rules}, by which rows of other rules are found out."""
    return {
        name: hashlib.sha256(each.rule.encode()).hexdigest()[:16]
        for name, each in replication.EXPERIMENTS.items()
    }


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--organisms", nargs="*", default=["toy-llava", "toy-qwen2vl"])
    parser.add_argument("--families", nargs="*", default=list(rehearsal.FAMILIES))
    parser.add_argument("--scenes", type=int, default=SCENES)
    chosen = parser.parse_args(arguments)
    record = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        for part, names, rows in (
            ("studies", chosen.organisms, partial(organisms, scenes=chosen.scenes)),
            ("exactly", chosen.organisms, partial(exactly, scenes=chosen.scenes)),
            ("rehearsals", chosen.families, families),
        ):
            if names:
                made = rows(names, folder=Path(folder))
                record[part] = record.get(part, {}) | made
                for name, listed in made.items():
                    for row in listed:
                        state = row["verdict"] or row["state"]
                        print(f"{name}: {row['id']}: {state} {row.get('why', '')}")
    record |= {"date": date.today().isoformat(), "machine": execute.machine()}
    if chosen.organisms:
        record |= {"scenes": chosen.scenes, "rules": rules()}
    write(RESULTS, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
