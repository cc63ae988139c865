"""Measuring elsewhere: on organisms of other seeds, on other scenes."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import nbformat
import pytest
import torch
from safetensors.torch import load_file

from tools.course.chapters import NOTEBOOKS, ROOT
from tools.trials import draws, fleet, measure, shorter
from whatwhere.book import fleet as library
from whatwhere.book import ledger
from whatwhere.book.training import ORGANISMS, RECIPES

HOME = ROOT / "data" / "models"


START = f"exec(compile(open({str(measure.ELSEWHERE)!r}).read(), 'elsewhere', 'exec'))\n"


def in_a_kernel(code, **variables):
    """What is printed by code that runs after tools/trials/elsewhere.py."""
    done = subprocess.run(
        [sys.executable, "-c", START + code],
        env=os.environ | variables, capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    return done.stdout.strip()


def test_other_organisms_are_loaded_in_place_of_the_books_own(tmp_path):
    (tmp_path / "toy-llava").symlink_to(HOME / "toy-llava-without-text")
    code = (
        "import whatwhere as ww\n"
        "for name in ('toy-llava', 'toy-qwen2vl'): print(ww.loading.find(name))\n"
        "print(ww.load('toy-llava').name)"
    )
    there, at_home, name = in_a_kernel(code, WHATWHERE_ORGANISMS=str(tmp_path)).splitlines()
    assert there == str(tmp_path / "toy-llava") and name == "toy-llava"
    assert at_home == str(HOME / "toy-qwen2vl"), "what the folder lacks is the book's own"


def test_a_draw_has_other_scenes_and_the_same_choices():
    code = (
        "import os\n"
        "from whatwhere import world\n"
        "def seeds(scenes): return [scene.seed for scene in scenes]\n"
        "def show():\n"
        "    sets = [world.controlled('B', 2, split='dev'),\n"
        "            world.controlled('B', 2, 'narrow', start=3)]\n"
        "    print([seeds(world.scenes(each, 2, start=5)) for each in ('dev', 'test', 'train')],\n"
        "          [seeds(one.scenes['left'] for one in each) for each in sets],\n"
        "          world.gestalt.lone(7).seed, world.scene(12).seed)\n"
        "show()\n"
        "os.environ['WHATWHERE_DRAW'] = '2'\n"
        f"{START}show()"
    )
    plain, drawn = in_a_kernel(code).splitlines()
    far = 2 * 10_000_000
    assert plain == "[[5, 6], [5, 6], [5, 6]] [[0, 1], [3, 4]] 7 12", "nothing is asked of it"
    assert drawn == (
        f"[[5, 6], [{far + 5}, {far + 6}], [{far + 5}, {far + 6}]] "
        f"[[0, 1], [{far + 3}, {far + 4}]] {far + 7} 12"
    ), "development scenes and single scenes stay"


def notebook(folder, *cells):
    path = folder / "02_reading_patches_as_words.ipynb"
    kinds = {"code": nbformat.v4.new_code_cell, "markdown": nbformat.v4.new_markdown_cell}
    made = [kinds["markdown" if text.startswith("#") else "code"](text) for text in cells]
    nbformat.write(nbformat.v4.new_notebook(cells=made), path)
    return path


RECORD = """
import os
from whatwhere.book import fleet as library
from whatwhere.book import ledger
for name in ("toy-llava",):
    assert name == "what the text says of the book's own organism"
    ledger.record(
        "02_reading_patches_as_words", id="what.lens.on_topic", verdict="partly", tolerance=0.1,
        measured={"value": float(os.environ["VALUE"]), "ci95": None, "n": 3, "unit": "u",
                  "model": name}, control={"what": "c", "value": 0.0, "ci95": None})
"""


def test_a_chapter_is_measured_up_to_its_quiz_and_without_asserts(tmp_path):
    path = notebook(tmp_path, "x = 1  # set", RECORD, "## Quiz", "1 / 0")
    kept, said = {}, []
    wanted = {"a": {"VALUE": "0.25"}, "b": {"VALUE": "0.75"}}
    save = lambda: said.append(json.dumps(kept))  # noqa: E731
    assert measure.measure([path], wanted, kept, save) == []
    rows = {name: of[path.stem]["rows"] for name, of in kept.items()}
    assert [rows[name][0]["measured"]["value"] for name in "ab"] == [0.25, 0.75]
    assert rows["a"][0]["verdict"] == "partly" and json.loads(said[-1]) == kept
    # what was measured is not measured again, until the chapter changes
    assert measure.missing([path], wanted, kept) == []
    notebook(tmp_path, "x = 1  # another comment", RECORD, "## Quiz", "2 / 0")
    assert measure.missing([path], wanted, kept) == [], "comments and exercises do not count"
    notebook(tmp_path, "x = 2", RECORD, "## Quiz")
    assert measure.missing([path], {"b": {}}, kept) == [("b", path)]
    # nor on other weights
    notebook(tmp_path, "x = 1", RECORD, "## Quiz")
    weights = {"a": {"toy-llava": "v"}, "b": {"toy-llava": "w"}}
    assert measure.measure([path], wanted, kept, save, weights) == []
    assert measure.missing([path], wanted, kept, weights) == []
    weights["b"] = {"toy-llava": "another"}
    assert measure.missing([path], wanted, kept, weights) == [("b", path)]
    assert kept["a"][path.stem]["processor"] and kept["a"][path.stem]["models"] == weights["a"]


def test_a_cell_that_fails_elsewhere_is_told_and_the_rest_goes_on(tmp_path, capsys):
    path = notebook(tmp_path, "raise ValueError('this organism has no words')")
    kept = {}
    (sentence,) = measure.measure([path], {"seed 9": {}}, kept, lambda: None)
    assert "seed 9, 02_reading" in sentence and "this organism has no words" in sentence
    assert kept == {} and "seed 9" in capsys.readouterr().out


def test_members_are_kept_at_half_precision_and_whole(tmp_path):
    target = fleet.member(tmp_path, "toy-llava", 1)
    fleet.halved(HOME / "toy-llava", target)
    assert fleet.raised(tmp_path, "toy-llava", 1) and not fleet.raised(tmp_path, "toy-llava", 2)
    half, full = (load_file(each / "model.safetensors") for each in (target, HOME / "toy-llava"))
    assert all(each.dtype == torch.float16 for each in half.values())
    assert half.keys() == full.keys()
    assert all(torch.allclose(half[k].float(), full[k], rtol=1e-3, atol=1e-6) for k in full)
    assert not list(tmp_path.glob("*.part"))


def test_a_fleet_of_another_recipe_is_refused_and_nothing_is_overwritten(tmp_path):
    fleet.check(tmp_path / "new")
    fleet.check(tmp_path / "new")  # and again
    name = ORGANISMS[0]
    shorter = (replace(RECIPES[name][0], steps=10), *RECIPES[name][1:])
    with pytest.raises(ValueError, match="raised by another recipe than the package now has"):
        fleet.check(tmp_path / "new", {**RECIPES, name: shorter})
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="it is no fleet's folder"):
        fleet.check(tmp_path / "other")
    assert [each.name for each in (tmp_path / "other").iterdir()] == ["thesis.txt"]
    with pytest.raises(SystemExit, match="it is no fleet's folder"):
        fleet.main(["--folder", str(tmp_path / "other"), "--only", "raise"])


def test_a_fleet_has_no_member_of_seed_0(capsys):
    with pytest.raises(SystemExit):
        fleet.main(["--seeds", "0"])
    assert "seed 0 are the book's own" in capsys.readouterr().err


def test_a_fleet_that_is_not_there_is_not_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(measure, "into", lambda *_, **more: pytest.fail("it measures"))
    folder = tmp_path / "fleet"
    measured = ["--folder", str(folder), "--only", "measure"]
    with pytest.raises(SystemExit, match="is not there: raise a fleet in it first"):
        fleet.main(measured)
    assert not folder.exists()
    fleet.check(folder)
    fleet.member(folder, ORGANISMS[0], 1).symlink_to(HOME / ORGANISMS[0])
    with pytest.raises(SystemExit, match=f"lacks {ORGANISMS[1]}-seed1, so nothing is measured"):
        fleet.main([*measured, "--seeds", "1"])
    with pytest.raises(SystemExit):
        fleet.main([*measured, "--chapters", "4"])
    assert "in chapter 4; they are in 02, 03," in capsys.readouterr().err


def test_another_fleets_results_lie_beside_it(tmp_path, monkeypatch):
    fleet.check(tmp_path / "mine")
    for name in ORGANISMS:
        fleet.member(tmp_path / "mine", name, 1).symlink_to(HOME / name)
    written = []
    monkeypatch.setattr(measure, "into", lambda file, *_, **more: written.append(file))
    fleet.main(["--folder", str(tmp_path / "mine"), "--seeds", "1", "--only", "measure"])
    monkeypatch.setattr(fleet, "raised", lambda *_: True)
    fleet.main(["--seeds", "1", "--only", "measure"])
    assert written == [tmp_path / "mine.json", fleet.RESULTS]


def test_fleet_and_draws_measure_all_chapters_that_have_claims_of_organisms():
    number = {path.stem[3:]: int(path.stem[:2]) for path in NOTEBOOKS}
    chapters = {claim["chapter"] for claim in ledger.catalogue() if "command" not in claim}
    # which reads what was measured
    chapters -= {number["a_fair_bench"]}
    fleets = {int(path.stem[:2]) for path in fleet.CHAPTERS}
    others = ("deriving_2d_rope", "checking_the_derivation", "scaling_and_training")
    assert fleets == chapters - {number[stem] for stem in others}
    # which compare two computations, or read a study's file: there is nothing to draw
    drawn = {int(path.stem[:2]) for path in draws.CHAPTERS}
    undrawn = {number["checking_the_derivation"], number["scaling_and_training"]}
    assert drawn == chapters - undrawn
    assert set(fleet.CHAPTERS) | set(draws.CHAPTERS) <= set(NOTEBOOKS)


def test_training_that_was_killed_goes_on_and_half_a_member_is_none(tmp_path, monkeypatch):
    folder, work, calls = tmp_path / "fleet", tmp_path / "work", []
    fleet.check(folder)
    name = ORGANISMS[0]

    def train(command, **more):
        calls.append(command[command.index("--work") + 1])
        if len(calls) == 1:
            raise subprocess.CalledProcessError(-9, command)
        (work / "out").mkdir(parents=True)
        fleet.member(work / "out", name, 1).symlink_to(HOME / name)

    monkeypatch.setattr(fleet.subprocess, "run", train)
    with pytest.raises(subprocess.CalledProcessError):
        fleet.bring_up(name, 1, folder, work)
    assert not fleet.raised(folder, name, 1)
    # killed once more, while it was written
    part = folder / f"{name}-seed1.part"
    part.mkdir()
    (part / "training.json").write_text("{")
    fleet.bring_up(name, 1, folder, work)
    assert fleet.raised(folder, name, 1) and not part.exists()
    assert calls == [work, work], "it went on from the same unfinished work"


def test_shorter_trainings_that_were_killed_go_on_and_are_held_to_the_recipe(tmp_path, monkeypatch):
    results, trained = tmp_path / "shorter.json", []
    arguments = ["--results", str(results), "--work", str(tmp_path / "work"), "--shares", "0.5"]

    def run(command, **more):
        value = dict(zip(command, command[1:]))
        trained.append((command[3], value["--share"]))
        if len(trained) == 2:
            raise KeyboardInterrupt
        folder = value["--out"] / f"{command[3]}-seed1-share0.5"
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.unlink(missing_ok=True)
        folder.symlink_to(HOME / command[3])

    monkeypatch.setattr(fleet.subprocess, "run", run)
    monkeypatch.setattr(shorter, "ThreadPoolExecutor", lambda _: ThreadPoolExecutor(1))
    with pytest.raises(KeyboardInterrupt):
        shorter.main(arguments)
    assert list(json.loads(results.read_text())["exams"]) == [ORGANISMS[0]]
    shorter.main(arguments)
    assert [name for name, _ in trained] == [ORGANISMS[0], ORGANISMS[1], ORGANISMS[1]]
    shorter.main(arguments)
    assert len(trained) == 3, "nothing is due"
    kept = json.loads(results.read_text())
    assert kept["exams"][ORGANISMS[1]]["0.5"] == library.facts(HOME / ORGANISMS[1])
    # exams of another recipe are no answer, and are not thrown away
    results.write_text(json.dumps({**kept, "recipes": {}}))
    with pytest.raises(SystemExit, match="of another recipe than the package now has"):
        shorter.main(arguments)
    assert len(trained) == 3 and json.loads(results.read_text())["exams"] == kept["exams"]


def test_what_is_raised_is_not_raised_again(tmp_path, monkeypatch):
    fleet.check(tmp_path)
    for name in ORGANISMS:
        fleet.member(tmp_path, name, 1).symlink_to(HOME / name)
    asked = []
    monkeypatch.setattr(fleet, "bring_up", lambda name, seed, *_: asked.append((name, seed)))
    fleet.main(["--folder", str(tmp_path), "--seeds", "1", "2", "--only", "raise"])
    assert sorted(asked) == [(name, 2) for name in sorted(ORGANISMS)]


def test_a_fleet_of_another_recipe_is_left_alone_by_make_fleet(tmp_path, monkeypatch):
    folder, results = tmp_path / "fleet", tmp_path / "fleet.json"
    name = ORGANISMS[0]
    shorter = (replace(RECIPES[name][0], steps=10), *RECIPES[name][1:])
    fleet.check(folder, {**RECIPES, name: shorter})
    (folder / "toy-llava-seed1").mkdir()
    results.write_text("{}")
    monkeypatch.setattr(fleet, "bring_up", lambda *_: pytest.fail("it trains"))
    monkeypatch.setattr(measure, "into", lambda *_, **more: pytest.fail("it measures"))
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    with pytest.raises(SystemExit, match="raised by another recipe than the package now has"):
        fleet.main(["--folder", str(folder), "--results", str(results)])
    assert before == {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}


def test_measuring_that_was_killed_goes_on(tmp_path, monkeypatch):
    paths = [notebook(tmp_path, "x = 1"), tmp_path / "04_from_attributes_to_objects.ipynb"]
    nbformat.write(nbformat.read(paths[0], as_version=4), paths[1])
    file, measured = tmp_path / "fleet.json", []

    def rows(path, variables):
        measured.append(path.stem)
        if len(measured) == 2:
            raise KeyboardInterrupt
        return [{"id": "x", "verdict": "partly"}]

    monkeypatch.setattr(measure, "rows", rows)
    # one after another
    monkeypatch.setattr(measure, "ThreadPoolExecutor", lambda _: ThreadPoolExecutor(1))
    with pytest.raises(KeyboardInterrupt):
        measure.into(file, paths, {"1": {}}, members={"1": {}})
    assert list(json.loads(file.read_text())["rows"]["1"]) == [paths[0].stem]
    measure.into(file, paths, {"1": {}}, members={"1": {}})
    assert measured == [paths[0].stem, paths[1].stem, paths[1].stem]
    assert list(json.loads(file.read_text())["rows"]["1"]) == [path.stem for path in paths]


def test_members_that_were_measured_before_are_kept(tmp_path, monkeypatch):
    fleet.check(tmp_path / "fleet")
    for name in ORGANISMS:
        fleet.member(tmp_path / "fleet", name, 3).symlink_to(HOME / name)
    file = tmp_path / "fleet.json"
    file.write_text(json.dumps({"members": {"1": {"toy-llava": {}}}, "rows": {"1": {}}}))
    monkeypatch.setattr(measure, "measure", lambda *_: [])
    asked = ["--folder", str(tmp_path / "fleet"), "--results", str(file), "--seeds", "3"]
    fleet.main([*asked, "--only", "measure"])
    kept = json.loads(file.read_text())
    assert list(kept["members"]) == ["1", "3"] and kept["rows"] == {"1": {}}
    assert set(kept["members"]["3"]) == set(ORGANISMS)
    assert kept["members"]["3"]["toy-llava"]["exam"]["colour"] > 0.9
    assert kept["members"]["3"]["toy-llava"]["weights"] == fleet.digest(HOME / "toy-llava")


def test_a_chapters_number_and_sentences_do_not_count(tmp_path):
    path = notebook(tmp_path, RECORD, 'Markdown(f"{1 / 0}")')
    before = measure.mark(path)
    assert "Markdown" not in str(measure.measured_part(path).cells)
    notebook(tmp_path, RECORD.replace("02_reading", "03_reading"), 'Markdown("Another.")')
    assert measure.mark(path) == before
    notebook(tmp_path, RECORD.replace("02_reading", "02_writing"), 'Markdown("Another.")')
    assert measure.mark(path) != before


def test_the_committed_fleet_was_measured_by_the_chapters_as_they_are():
    results = json.loads(fleet.RESULTS.read_text(encoding="utf-8"))
    if not results["rows"]:
        pytest.skip("no fleet is measured yet")
    members = results["members"]
    assert set(results["rows"]) == set(members)
    weights = {
        seed: {kind: fleet.digest(fleet.member(fleet.FLEET, kind, seed)) for kind in of}
        for seed, of in members.items()
    }
    older = measure.missing(fleet.CHAPTERS, members, results["rows"], weights)
    assert not older, "make fleet FLEET='--only measure' measures these again: " + ", ".join(
        f"{path.stem} on seed {seed}" for seed, path in older
    )
    chapters = {path.stem for path in fleet.CHAPTERS}
    assert all(set(of) == chapters for of in results["rows"].values()), "a chapter of another name"
    assert all(each["processor"] for of in results["rows"].values() for each in of.values())


def test_the_committed_draws_were_measured_by_the_chapters_as_they_are():
    if not draws.RESULTS.exists():
        pytest.skip("no draw is measured yet")
    rows = json.loads(draws.RESULTS.read_text(encoding="utf-8"))["rows"]
    older = measure.missing(draws.CHAPTERS, rows, rows)
    assert not older, "make draws measures these again: " + ", ".join(
        f"{path.stem} in draw {name}" for name, path in older
    )
