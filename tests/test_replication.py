"""The paper's experiments as a command: rules, rows, resuming; and that a study of the organisms'
world finds what the world's own statistics find."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import whatwhere as ww
from tools.trials import replicate
from whatwhere import __main__ as command
from whatwhere import replication, stages, stats
from whatwhere.benchmarks import Item, Result, tabletop
from whatwhere.book import ledger, rehearsal
from whatwhere.photographs import Photograph, Thing, words
from whatwhere.replication import EXPERIMENTS, Study, stand_in
from whatwhere.replication.experiment import verdict
from whatwhere.replication.tables import _null, able, as_reported, of_reading

N = 9
CLAIMS = Path(__file__).parents[1] / "data" / "claims"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The organisms' world in every data set's files."""
    return stand_in.write(tmp_path_factory.mktemp("data"), N)


@pytest.fixture(scope="module")
def llava():
    return ww.load("toy-llava")


@pytest.fixture(scope="module")
def qwen():
    return ww.load("toy-qwen2vl")


def by_id(rows):
    return {row["id"]: row for row in rows}


# ------------------------------------------------------------------------- the strong test


def test_a_study_of_the_world_in_cocos_files_finds_what_the_world_finds(tmp_path, data, llava):
    rows = replication.run(llava, tmp_path, claims=["segmentation"], data=data, progress=False)
    (row,) = rows
    scenes = list(ww.world.scenes("test", N))
    merged = [
        Photograph(str(n), scene.image, (scene.width, scene.height),
                   tuple(Thing(t.category, mask=m) for t, m in zip(scene.things, scene.masks)))
        .by_category() for n, scene in enumerate(scenes)
    ]  # fmt: skip
    own = [scene for n, scene in enumerate(merged) if n % 3 != 2]
    maps = stages.segments(stages.read(llava, own, depths=[llava.last_depth]), own)
    sums, things = stages.overlap(maps, own, llava)
    expected = stats.share(sums[:, 0], things)
    assert row["measured"]["value"] == pytest.approx(expected[0])
    assert row["measured"]["n"] == len(own) and row["state"] == "measured"


def test_the_learnt_table_is_as_chapter_6_found_it(tmp_path, llava):
    (row,) = replication.run(llava, tmp_path, claims=["absolute"], progress=False)
    (own,) = [row for row in ledger.rows(CLAIMS) if row["id"] == "where.absolute.grid"]
    assert row["verdict"] == own["verdict"]
    for part in ("measured", "control"):
        assert row[part]["value"] == pytest.approx(own[part]["value"], abs=own["tolerance"])


def test_boxes_of_controlled_sets_are_those_of_the_things(data, qwen, tmp_path):
    study = Study(qwen, tmp_path, data)
    own = {(each.satellite, each.nucleus): each for each in tabletop.distinct("B", N // 3)}
    assert len(study.sets) == len(own)
    for each in study.sets:
        for relation, scene in each.scenes.items():
            true = own[each.satellite, each.nucleus].scenes[relation]
            for box, mask in zip(scene.masks, true.masks, strict=True):
                ends = [np.flatnonzero(of.any(0))[[0, -1]].tolist() for of in (mask, box)]
                assert not (mask & ~box).any() and ends[0] == ends[1]


# ------------------------------------------------------------------------- rows


def test_every_claim_is_of_the_catalogue_and_every_rule_says_when_it_is_not_reproduced():
    for experiment in EXPERIMENTS.values():
        assert "eproduced" in experiment.rule and ("else not" in experiment.rule
            or "not reproduced" in experiment.rule)  # fmt: skip
        assert set(experiment.needs) <= set(replication.DATA)


def test_a_claim_is_found_by_experiment_by_id_and_by_the_beginning_of_its_id():
    names = [[e.name for e in replication.chosen([word])]
             for word in ("stages", "what.stages.object_rise", "what.stages")]  # fmt: skip
    assert names == [["stages"], ["stages"], ["stages", "segmentation"]]
    assert len(replication.chosen()) == len(EXPERIMENTS)
    with pytest.raises(ValueError, match="no experiment or claim 'what.stage'"):
        replication.chosen(["what.stage"])


def test_verdicts():
    assert [verdict(*pair) for pair in ((True, True), (False, True), (False, False))] == [
        "reproduced", "partly", "not reproduced"]  # fmt: skip


def test_few_questions_do_not_reproduce_a_figure():
    """A wide interval holds the paper's figure, and all others: it must not count as agreement."""
    clear, worse = (-2.5, -3.5, -1.5), (-8, -9.5, -6.5)
    assert as_reported(clear, worse, -2.33) == "reproduced"
    assert as_reported((-2, -14, 10), (-3, -15, 9), -2.33) == "undecided"
    assert as_reported(clear, worse, 0.5) == "not reproduced"
    assert as_reported(clear, worse, None) == "undecided"


def test_only_what_reading_loses_beyond_its_control_tells_for_punctuation():
    """However many tokens are removed."""
    lost, less = (8.0, 5.0, 11.0), (0.3, -1.0, 2.0)
    for gone, said in ((0.6, "reproduced"), (0.4, "partly"), (None, "reproduced")):
        assert of_reading(lost, less, gone, True) == said
        assert of_reading(less, less, gone, True) == "not reproduced"
        assert of_reading((-8.0, -11.0, -5.0), less, gone, True) == "not reproduced"
        assert of_reading(lost, (7.0, 4.0, 10.0), gone, True) == "not reproduced"
        assert of_reading(lost, less, gone, False) == "undecided"


def test_of_a_model_that_cannot_do_the_task_nothing_is_settled(tmp_path, data, llava):
    """No organism was taught to answer captions by letter: a difference of 0 to 0 is no finding."""
    rows = replication.run(llava, tmp_path, claims=["depths", "order"], data=data, progress=False)
    assert [row["verdict"] for row in rows] == ["undecided"] * 2
    study = Study(llava, tmp_path, data, progress=False)
    assert not able(study.bench("whatsup-b"))
    assert able(ww.benchmarks.run(llava, "tabletop-b", limit=40, progress=False))


def test_random_weights_are_a_rehearsal_without_verdicts(tmp_path, data):
    vlm = ww.load(rehearsal.tiny_random(tmp_path / "tiny", "llava"))
    rows = by_id(replication.run(vlm, tmp_path / "out", claims=["stages", "absolute", "table2"],
                                 data=data, limit=6, progress=False))  # fmt: skip
    states = {row["state"] for row in rows.values()}
    assert states == {"rehearsed", "not for this model"}
    assert all(row["verdict"] is None for row in rows.values())
    assert "2-D RoPE" in rows["where.real.coco"]["why"]
    table = replication.table(tmp_path / "out").set_index("claim")
    assert table.loc["what.stages.object_rise", "verdict"] == "rehearsed"


# ------------------------------------------------------------------------- resuming


def test_a_killed_study_goes_on_and_ends_in_the_same_rows(tmp_path, data, qwen, monkeypatch):
    how = {"claims": ["stages"], "data": data, "limit": N, "progress": False}
    monkeypatch.setattr(replication.study, "CHUNK", 2)
    whole = replication.run(qwen, tmp_path / "whole", **how)
    read, calls = stages.read, []

    def killed(*args, **named):
        calls.append(args)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return read(*args, **named)

    monkeypatch.setattr(stages, "read", killed)
    with pytest.raises(KeyboardInterrupt):
        replication.run(qwen, tmp_path / "cut", **how)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cut").rglob("*.npz")}
    assert before, "nothing was kept"
    rest = replication.run(qwen, tmp_path / "cut", **how)
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())
    for ours, theirs in zip(rest, whole, strict=True):
        assert {**ours, "seconds": 0} == {**theirs, "seconds": 0}
    done = len(calls)
    replication.run(qwen, tmp_path / "cut", **how)
    assert len(calls) == done, "what is measured is not measured again"


def test_a_folder_of_another_study_is_refused(tmp_path, data, llava, qwen):
    how = {"claims": ["absolute"], "data": data, "progress": False}
    replication.run(llava, tmp_path, **how)
    with pytest.raises(ValueError, match="weights|family"):
        replication.run(qwen, tmp_path, **how)
    with pytest.raises(ValueError, match="limit=None, and this one has limit=3"):
        replication.run(llava, tmp_path, limit=3, **how)


def test_a_damaged_part_is_named(tmp_path, data, llava):
    how = {"claims": ["segmentation"], "data": data, "progress": False}
    replication.run(llava, tmp_path, **how)
    part = next((tmp_path / "parts" / "segmentation").glob("*.npz"))
    part.write_bytes(part.read_bytes()[:100])
    (tmp_path / "rows.json").unlink()
    (row,) = replication.run(llava, tmp_path, **how)
    assert row["state"] == "open" and f"'{part}' is damaged" in row["why"]


def test_parts_of_another_sample_are_other_parts(tmp_path, data, qwen):
    study = Study(qwen, tmp_path, data, progress=False)

    def shown(scenes):
        return {"ids": np.array([scene.id for scene in scenes])}

    for scenes in (study.gqa[:3], study.gqa[3:6]):
        (part,) = study.parts("some", [scenes], shown)
        assert part["ids"].tolist() == [scene.id for scene in scenes]
    # and so are those of the same sample, once a box has moved
    things = (replace(study.gqa[0].things[0], box=(0, 0, 99, 99), mask=None),)
    study.parts("some", [[replace(study.gqa[0], things=things), *study.gqa[1:3]]], shown)
    assert len(list((tmp_path / "parts" / "some").iterdir())) == 3


def test_several_processes_share_the_parts(tmp_path, qwen, monkeypatch):
    here, computed = threading.local(), []
    monkeypatch.setattr(
        ww.benchmarks, "processes", lambda: ww.benchmarks.Processes(here.rank, 2, None)
    )

    def process(rank):
        here.rank = rank

        def compute(piece):
            computed.append((rank, piece))
            return {"value": np.array([piece])}

        study = Study(qwen, tmp_path, progress=False)
        return [int(part["value"][0]) for part in study.parts("some", [7, 8, 9], compute)]

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(process, (0, 1))) == [[7, 8, 9]] * 2
    assert sorted(computed) == [(0, 7), (0, 9), (1, 8)]


# ------------------------------------------------------------------------- bad input


def test_what_is_not_there_leaves_a_claim_open_with_a_sentence(tmp_path, data, llava):
    rows = by_id(replication.run(llava, tmp_path, claims=["stages", "decoder"], progress=False))
    assert "val_sceneGraphs.json is needed" in rows["what.stages.object_rise"]["why"]
    assert "whatwhere distil" in rows["what.decoder.agreement"]["why"]
    # and is tried again
    again = replication.run(llava, tmp_path, claims=["segmentation"], data=data, progress=False)
    assert again[0]["state"] == "measured"
    with pytest.raises(FileNotFoundError, match="is no folder"):
        replication.run(llava, tmp_path, data=tmp_path / "none")


def test_a_sample_larger_than_the_set_is_said(tmp_path, data, llava):
    (row,) = replication.run(llava, tmp_path, claims=["segmentation"], data=data, limit=99,
                             progress=False)  # fmt: skip
    assert row["state"] == "open" and f"{N} photographs" in row["why"]


def test_pope_asks_in_its_own_words_alone(data):
    items, _ = ww.benchmarks.items("pope", data / "pope")
    scenes = replication.what.asked_by_pope(items)
    assert len(scenes) == N and all(len(s.existence("random")) == 2 for s in scenes)
    with pytest.raises(ValueError, match="and not whether there is something"):
        replication.what.asked_by_pope([replace(items[0], question="What is it?")])


def test_other_words_mean_one_thing_only():
    named = [word for name in words._OTHERS for word in words.synonyms(name)]
    assert len(named) == len(set(named))
    assert words.synonyms("bicycle")[:2] == ("bicycle", "bike") and words.synonyms("x") == ("x",)


def test_things_of_one_category_are_one_thing():
    masks = np.zeros((2, 4, 4), bool)
    masks[0, 0], masks[1, 3] = True, True
    things = [Thing("cup", ("red",), mask=masks[0]), Thing("dog", box=(0, 1, 2, 2)),
              Thing("cup", ("blue",), mask=masks[1])]  # fmt: skip
    cup, dog = Photograph("x", None, (4, 4), tuple(things)).by_category().things
    assert cup.attributes == ("red", "blue") and (cup.region((4, 4)) == masks.any(0)).all()
    assert dog is things[1]


# ------------------------------------------------------------------------- the command


def test_the_command_plans_runs_and_says_what_is_open(tmp_path, data, capsys):
    out = str(tmp_path / "out")
    asked = ["replicate", "toy-llava", "--claims", "absolute", "stages", "--out", out]
    assert command.main([*asked, "--plan"]) == 0
    assert "A100" in capsys.readouterr().out and not (tmp_path / "out").exists()
    assert command.main([*asked, "--limit", "3"]) == 1
    said = capsys.readouterr()
    assert "where.absolute.grid" in said.out and "val_sceneGraphs.json" in said.err
    rows = json.loads((tmp_path / "out" / "rows.json").read_text())
    assert {row["state"] for row in rows} == {"measured", "open"}
    assert all(row["device"] == "cpu" and row["versions"] for row in rows)


def test_answer_sheets_are_swapped_many_times():
    """With 64 pictures of a question each, on which the second sheet is always better: a swap gives
    the mean of 64 signs, so 95% of them lie within 1.96 / √64 of zero."""
    item = Item("0", "image.png", "what ?", "word", "a")
    rows = [replace(item, id=str(n), group=str(n)).row("b") for n in range(64)]
    before, after = (Result({"benchmark": "textvqa"}, rows) for _ in range(2))
    before.rows["right"], after.rows["right"] = 0.0, 1.0
    value, low, high = _null(before, after, seed=0)
    assert (
        abs(value) < 2 and low == pytest.approx(-24.5, abs=4) and high == pytest.approx(24.5, abs=4)
    )
    assert _null(before, before, seed=0) == (0, 0, 0)


def test_a_gain_has_to_be_clearly_more_than_the_blind_one(monkeypatch):
    from types import SimpleNamespace

    from whatwhere.benchmarks.results import Score
    from whatwhere.replication import tables

    clear, unclear, below = (Score(v, v - 0.02, v + 0.02, 9) for v in (0.05, 0.01, -0.05))
    after, blind = SimpleNamespace(unparsed=0.0), (object(), object())
    monkeypatch.setattr(tables, "able", lambda *results: True)
    for own, unseen, net, expected in (
        (clear, unclear, clear, "reproduced"),
        (clear, unclear, unclear, "undecided"),
        (clear, clear, clear, "not reproduced"),
        (unclear, unclear, unclear, "undecided"),
        (below, unclear, below, "not reproduced"),
    ):
        monkeypatch.setattr(
            tables, "gain",
            lambda old, new, beside=None, found=(own, unseen, net): found[
                2 if beside else int(new is blind[1])
            ],
        )  # fmt: skip
        assert tables._gained(object(), after, blind, 2.0) == expected


def test_chapter_19_compares_by_the_rules_of_today():
    kept = json.loads(replicate.RESULTS.read_text(encoding="utf-8"))
    assert kept["rules"] == replicate.rules(), "a rule has changed since those runs: make replicate"
