"""Connectors between language models and encoders of different members of the fleet."""

import json
from dataclasses import replace
from multiprocessing.pool import ThreadPool
from types import SimpleNamespace

import pytest
import torch

from tools.trials import alignment, fleet
from whatwhere.book import fleet as library
from whatwhere.book.training import build
from whatwhere.book.training.checkpoints import keep
from whatwhere.book.training.stages import Reader, named, trainable
from whatwhere.book.training.towers import Tower


def leave(work, seed):
    """What training a member leaves of the stages before align: {stage: {name: weights}}."""
    tower, reader = Tower(build.model(alignment.KIND, 10 + seed), alignment.KIND), Reader(96)
    left = {}
    for name in ("text", "vision"):
        stage = alignment.STAGES[name]
        matrices, rest = trainable(tower, reader, name)
        left[name] = named(tower, reader, matrices + rest)
        state = {"step": stage.steps, "seconds": 1.0, "log": [], "seed": seed}
        keep(fleet.member(work, alignment.KIND, seed), stage, left[name], [], state)
    return left


def test_a_connector_is_fitted_between_the_parts_of_two_members(tmp_path, monkeypatch):
    one, other = leave(tmp_path, 1), leave(tmp_path, 2)
    monkeypatch.setattr(alignment, "SHORT", replace(alignment.SHORT, steps=2, batch=2))
    monkeypatch.setattr(alignment, "SCENES", 2)
    seen = []
    measure = alignment.on_topic
    monkeypatch.setattr(alignment, "on_topic", lambda vlm: seen.append(vlm) or measure(vlm))
    found = alignment.aligned((1, 2, 0, tmp_path))
    assert {**found, "right": 0, "on topic": 0} == {
        "lm": 1, "encoder": 2, "data": 0, "right": 0, "on topic": 0
    }  # fmt: skip
    assert 0 <= found["right"] <= 1 and 0 <= found["on topic"] <= 1
    # two steps have changed the connector, which began as the encoder's member had it, and no more
    weights = {f"model.{name}": value for name, value in seen[0].model.named_parameters()}
    fitted = {name for name in other["vision"] if "merger" in name}
    for part in (one["text"], other["vision"]):
        for name in {*part} - fitted:
            assert name.startswith("reader.") or torch.equal(part[name], weights[name]), name
    first = torch.cat([other["vision"][name].flatten() for name in sorted(fitted)])
    last = torch.cat([weights[name].flatten() for name in sorted(fitted)])
    assert 0 < (last - first).abs().max() < 0.01
    again = alignment.aligned((1, 2, 0, tmp_path))
    assert again == found and len(seen) == 2, "seeds decide everything"


def test_pairs_that_were_measured_are_not_measured_again(tmp_path, monkeypatch):
    results, asked = tmp_path / "alignment.json", []
    for seed in (1, 2):
        leave(tmp_path, seed)

    def aligned(job):
        lm, encoder, data, _ = job
        asked.append((lm, encoder, data))
        if len(asked) == 3:
            raise RuntimeError("killed")
        return {"lm": lm, "encoder": encoder, "data": data, "right": 0.5, "on topic": 0.1}

    monkeypatch.setattr(alignment, "aligned", aligned)
    here = SimpleNamespace(Pool=lambda *_: ThreadPool(1))
    monkeypatch.setattr(alignment, "get_context", lambda _: here)
    arguments = ["--results", str(results), "--work", str(tmp_path), "--seeds", "1", "2"]
    with pytest.raises(RuntimeError, match="killed"):
        alignment.main(arguments)
    assert len(json.loads(results.read_text())["runs"]) == 2
    alignment.main(arguments)
    crossed = {(lm, encoder, 0) for lm in (1, 2) for encoder in (1, 2)}
    own = {(seed, seed, data) for seed in (1, 2) for data in (1, 2)}
    kept = json.loads(results.read_text())
    assert {(of["lm"], of["encoder"], of["data"]) for of in kept["runs"]} == crossed | own
    before = len(asked)
    alignment.main(arguments)
    assert len({*asked}) == 8 and len(asked) == before, "nothing is due"
    (tmp_path / "data" / "results").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="`make alignment` measures it"):
        library.alignments(tmp_path / "data")
    results.rename(tmp_path / "data" / "results" / "alignment.json")
    table = library.alignments(tmp_path / "data")
    assert list(table.columns) == ["lm", "encoder", "data", "right", "on topic"]


def test_what_cannot_be_put_together_is_refused(tmp_path):
    arguments = ["--results", str(tmp_path / "a.json"), "--work", str(tmp_path), "--seeds", "1"]
    with pytest.raises(
        SystemExit, match="no language model and encoder of toy-qwen2vl from .* of "
    ):
        alignment.main(arguments)
    leave(tmp_path, 1)
    (tmp_path / "a.json").write_text(json.dumps({"recipe": "another", "runs": []}))
    with pytest.raises(SystemExit, match="another recipe than the package now has"):
        alignment.main(arguments)
