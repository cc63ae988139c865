"""Does our harness agree with lmms-eval? The same questions to the same model by both, compared
answer by answer.

The second half of `make agreement` (the first, lmms_strings.py, is about reading answers), in an
environment of its own (.venv-lmms): lmms-eval without most of what it asks for, torchvision and
gigabytes, which neither half needs. The questions are of the organisms' own world, written as the
hub's parquet files, and go three ways: What's Up's controlled sets by letter; such sets in the
organisms' own words, scored as lmms-eval scores GQA; and POPE, by lmms-eval's own functions. Each
once as the model is, once scaled and once compressed. No organism answers by letter, so that a
model of lmms-eval's own, which always says A, is scored on the captions as well. The figures go to
data/results/lmms_eval_agreement.json.
"""

import json
import subprocess
import sys
import tempfile
from importlib.metadata import version
from io import BytesIO
from pathlib import Path

import pandas as pd

from whatwhere import benchmarks, files
from whatwhere.book.training.scaling_study import machine

ROOT = Path(__file__).parents[2]
TASKS = ROOT / "lib/whatwhere/lmms/tasks"
RESULT = ROOT / "data/results/lmms_eval_agreement.json"
MODEL, LIMIT, SPLIT = "toy-qwen2vl", 120, "Controlled_Images_B"
WAYS = {  # for lmms-eval, and for us
    "as it is": ("", {}),
    "scaled": (",alpha=9,p=2", {"scale": (9, 2)}),
    "compressed": (",method=grid,keep=0.5", {"compress": "grid", "keep": 0.5}),
}

OWN = """
task: {task}
dataset_path: {folder}
test_split: {task}
output_type: generate_until
doc_to_visual: !function whatwhere.lmms.tasks.utils.pictures
doc_to_text: question
doc_to_target: answer
generation_kwargs: {{max_new_tokens: 16, temperature: 0, do_sample: false}}
"""
LIKE_GQA = """
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true, ignore_case: true, ignore_punctuation: true}
"""
POPE = "lmms_eval.tasks.pope.utils.pope"
LIKE_POPE = f"\nprocess_results: !function {POPE}_process_results\nmetric_list:\n" + "".join(
    f"  - metric: pope_{name}\n    aggregation: !function {POPE}_aggregate_{name}\n    "
    "higher_is_better: true\n"
    for name in ("accuracy", "precision", "recall", "f1_score", "yes_ratio")
)


def main():
    """Run both, compare, write; returns 0 if every answer and every score is the same."""
    folder = Path(tempfile.mkdtemp())
    tasks = {
        "tabletop_b_narrow": "tabletop-b-narrow",
        "tabletop_pope": "tabletop-pope",
        "here_b": "whatsup-b",
    }
    _write(folder)
    found, agreed = {}, True
    for way, (arguments, how) in WAYS.items():
        theirs = _lmms(folder, list(tasks), f"pretrained={MODEL},device=cpu{arguments}")
        for task, benchmark in tasks.items():
            data, limit = (folder / SPLIT, None) if task == "here_b" else (None, LIMIT)
            ours = benchmarks.run(
                MODEL, benchmark, data=data, limit=limit, batch_size=8, progress=False, **how
            )
            answers, scores = theirs[task]
            same = sum(a == b for a, b in zip(answers, ours.rows["answer"], strict=True))
            run = {
                "questions": len(answers),
                "same answers": same,
                "ours": _values(ours),
                "lmms-eval": scores,
            }
            found[f"{benchmark}, {way}"] = run
            score = next(
                scores[name]
                for name in ("accuracy", "exact_match", "pope_accuracy")
                if name in scores
            )
            agreed &= same == len(answers) and abs(score - ours.accuracy) < 1e-9
            print(
                f"{benchmark}, {way}: {same} of {len(answers)} answers the same; "
                f"{ours.accuracy} and {score}",
                flush=True,
            )
    answers, scores = _lmms(folder, ["here_b"], "response=A", "dummy")["here_b"]
    asked = benchmarks.items("whatsup-b", folder / SPLIT)[0]
    ours = benchmarks.Result(
        {"benchmark": "whatsup-b", "questions": len(asked)}, [item.row("A") for item in asked]
    )
    found["whatsup-b, always A"] = {
        "questions": len(answers),
        "ours": _values(ours),
        "lmms-eval": scores,
    }
    agreed &= [scores[name] for name in ("accuracy", "pairs", "sets")] == list(
        _values(ours).values()
    )[:3]
    about = {"model": MODEL, "machine": machine(), "agreed": agreed}
    about |= {package: version(package) for package in ("lmms-eval", "torch", "transformers")}
    files.write(RESULT, json.dumps({"about": about, "runs": found}, indent=2) + "\n")
    return 0 if agreed else 1


def _values(result):
    return {name: score.value for name, score in result.scores.items()}


def _write(folder):
    """The questions as parquet files, named as the hub names its splits, and the task files that
    point there."""
    for benchmark, how in (("tabletop-b-narrow", LIKE_GQA), ("tabletop-pope", LIKE_POPE)):
        task = benchmark.replace("-", "_")
        rows = [
            {
                "question_id": item.id,
                "question": item.question,
                "answer": item.gold,
                "image_options": _picture(item.image),
            }
            for item in benchmarks.items(benchmark, limit=LIMIT)[0]
        ]
        _parquet(folder, task, rows)
        (folder / f"{task}.yaml").write_text(OWN.format(task=task, folder=folder / task) + how)
    drawn = json.loads(
        (
            benchmarks.tabletop.write(folder / "drawn", "B", 10) / "controlled_clevr_dataset.json"
        ).read_text()
    )
    rows = [
        {
            "image_options": {
                "bytes": (folder / "drawn" / row["image_path"].removeprefix("data/")).read_bytes(),
                "path": None,
            },
            "caption_options": row["caption_options"],
        }
        for row in drawn
    ]
    _parquet(folder, SPLIT, rows)
    (folder / "here_b.yaml").write_text(
        f"include: {TASKS / 'whatsup_b.yaml'}\ntask: here_b\ndataset_path: {folder / SPLIT}\n"
    )


def _parquet(folder, split, rows):
    from datasets import Dataset, Image

    path = folder / split / "data" / f"{split}-00000-of-00001.parquet"
    path.parent.mkdir(parents=True)
    Dataset.from_list(rows).cast_column("image_options", Image()).to_parquet(path)


def _picture(image):
    data = BytesIO()
    image.save(data, "PNG")
    return {"bytes": data.getvalue(), "path": None}


def _lmms(folder, tasks, arguments, model="whatwhere"):
    """{task: (answers in the order of the questions, scores)} of lmms-eval's own command."""
    out = Path(tempfile.mkdtemp())
    subprocess.run(
        [sys.executable, "-m", "lmms_eval", "--model", model, "--model_args", arguments, "--tasks",
         ",".join(tasks),
         "--include_path", str(folder), "--batch_size", "8", "--log_samples", "--output_path",
         str(out)],
        check=True, cwd=ROOT,
    )  # fmt: skip
    scores = json.loads(next(out.rglob("*_results.json")).read_text())["results"]
    found = {}
    for task in tasks:
        rows = pd.read_json(next(out.rglob(f"*_samples_{task}.jsonl")), lines=True).sort_values(
            "doc_id"
        )
        answers = [row[0] if isinstance(row, list) else row for row in rows["filtered_resps"]]
        values = {
            n.split(",")[0]: value
            for n, value in scores[task].items()
            if isinstance(value, float) and "stderr" not in n
        }
        found[task] = answers, values
    return found


if __name__ == "__main__":
    sys.exit(main())
