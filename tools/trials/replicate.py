"""Does `whatwhere replicate` find on the organisms what their chapters found?

    python -m tools.trials.replicate            # make replicate: both, some minutes each
    python -m tools.trials.replicate toy-llava --scenes 30

The organisms' world is drawn into the published files of every data set, and the command is put to
each organism on them. The rows go to data/results/replication.json, as chapter 13 shows them.
"""

import argparse
import json
import tempfile
from datetime import date
from pathlib import Path

import whatwhere as ww
from tools.course import execute
from tools.course.chapters import ROOT
from whatwhere import compress, replication
from whatwhere.files import write

RESULTS = ROOT / "data" / "results" / "replication.json"
SCENES, LESSONS = 300, 500
KEPT = ("id", "experiment", "state", "measured", "control", "verdict", "why", "seconds")


def study(name, data, folder):
    """The rows of one organism, shortened."""
    vlm = ww.load(name)
    taught = compress.lessons(vlm, [scene.image for scene in ww.world.scenes("train", LESSONS)])
    decoder = compress.distil(vlm, taught, epochs=8, lr=1e-3, folder=folder / "decoder")
    rows = replication.run(vlm, folder / "study", data=data, decoder=decoder, batch_size=32)
    for row in rows:
        if row["measured"]:
            row["measured"]["model"] = name
    return [{key: row.get(key) for key in KEPT} for row in rows]


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("organisms", nargs="*", default=["toy-llava", "toy-qwen2vl"])
    parser.add_argument("--scenes", type=int, default=SCENES)
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        data = replication.stand_in.write(Path(folder) / "data", chosen.scenes)
        studies = {name: study(name, data, Path(folder) / name) for name in chosen.organisms}
    about = {
        "date": date.today().isoformat(), "machine": execute.machine(), "scenes": chosen.scenes,
    }  # fmt: skip
    write(RESULTS, json.dumps(about | {"studies": studies}, indent=1, ensure_ascii=False) + "\n")
    for name, rows in studies.items():
        for row in rows:
            print(f"{name}: {row['id']}: {row['verdict'] or row['state']} {row['why']}")


if __name__ == "__main__":
    main()
