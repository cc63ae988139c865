"""The trial on a GPU that is not there finds what fails only there, goes on after it, and says
so."""

import json

import nbformat
import pytest
from nbformat import v4

from tools.trials import gpu_trial, steady

CELLS = (
    "import torch\nimport whatwhere as ww\nassert torch.cuda.is_available()\nvlm = "
    "ww.load('toy-llava')",
    "vlm.unembedding.weight.numpy()",
    "assert vlm.dtype == torch.bfloat16 and vlm.device.type == 'cuda'",
)


@pytest.fixture
def chapter(tmp_path):
    path = tmp_path / "02_trial.ipynb"
    nbformat.write(v4.new_notebook(cells=[v4.new_code_cell(cell) for cell in CELLS]), path)
    return path


def test_a_cell_that_fails_on_a_gpu_is_found_and_the_next_ones_run(chapter, tmp_path, monkeypatch):
    monkeypatch.setattr(
        steady, "compared", lambda path, where: {"rows": 0, "moved": 0.0, "differences": []}
    )
    environment = gpu_trial.book(tmp_path / "book", "bfloat16")
    config = json.loads((tmp_path / "book/data/models/toy-llava/config.json").read_text())
    assert config["dtype"] == "bfloat16", "the organisms say so, as hub checkpoints do"
    row = gpu_trial.chapter(chapter, tmp_path / "book", environment)
    assert row["cells"] == 3
    (failure,) = row["failures"]
    assert (
        failure["cell"] == 2
        and "can't convert cuda:0 device type tensor to numpy" in failure["error"]
    )


def test_what_is_kept_of_trials(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_trial, "RESULTS", tmp_path / "gpu.json")
    gpu_trial.keep("float32", "chapters", {"02_b": {"rows": 1}})
    gpu_trial.keep("float32", "chapters", {"01_a": {"rows": 2}})
    gpu_trial.keep("bfloat16", "commands", {"whatwhere check": ""})
    record = json.loads(gpu_trial.RESULTS.read_text())
    assert list(record["float32"]["chapters"]) == ["01_a", "02_b"] and record["bfloat16"][
        "commands"
    ] == {"whatwhere check": ""}
    assert "cores" in record["machine"]


def test_what_is_committed_ran():
    record = json.loads(gpu_trial.RESULTS.read_text(encoding="utf-8"))
    known = {path.stem for path in gpu_trial.NOTEBOOKS}
    for precision in gpu_trial.PRECISIONS:
        chapters, commands = record[precision]["chapters"], record[precision]["commands"]
        assert chapters and set(chapters) <= known  # what was not tried yet, the status page says
        assert commands and not any(commands.values())
        assert not any(row["failures"] for row in chapters.values())
    for name, row in record["float32"]["chapters"].items():
        assert not row["differences"], name
