"""The walks for those who carry on: their code runs as it stands, their files are there."""

import re
from pathlib import Path

import pytest

import whatwhere as ww
from whatwhere import benchmarks

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def walk(title):
    """(the code, the text) of a section: what is indented, and all."""
    text = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)[1]
    return "\n".join(line[4:] for line in text.splitlines() if line.startswith("    ")), text


def test_a_method_is_used_as_the_walk_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    vlm, ran = ww.load("toy-llava"), []
    usual = benchmarks.run
    monkeypatch.setattr(
        benchmarks, "run", lambda *a, **k: ran.append(usual(*a, limit=4, progress=False, **k))
    )
    place = {"vlm": vlm, "image": ww.world.scene(7).image}
    exec(walk("A compression method")[0], place)
    assert ran[0].complete and ran[0].removed == pytest.approx(1 - 64 / 144, abs=0.01)


def test_a_benchmark_is_used_as_the_walk_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "my-folder"
    (folder / "images").mkdir(parents=True)
    ww.world.scene(7).image.save(folder / "images" / "7.png")
    (folder / "questions.json").write_text(
        '[{"id": "1", "image": "images/7.png", "question": "what is there ?", "answer": "mug"}]'
    )
    monkeypatch.setattr(benchmarks.record, "BENCHMARKS", dict(benchmarks.record.BENCHMARKS))
    code = walk("A benchmark")[0].replace("benchmarks.run(", "result = benchmarks.run(")
    place = {}
    exec(code, place)
    assert place["result"].complete and len(place["result"].rows) == 1


@pytest.mark.parametrize(
    "title", ["A family of models", "A compression method", "A benchmark", "A chapter"]
)
def test_a_walk_names_three_files_at_most_and_a_test_that_is_there(title):
    _, text = walk(title)
    files = re.findall(r"^\| `([\w./]+)` \|", text, re.MULTILINE)
    assert 1 <= len(files) <= 3
    new = ("families/my_vlm.py", "methods/mine.py", "03_which_lens.ipynb", "03_which_lens.json")
    assert all((ROOT / name).is_file() for name in files if not name.endswith(new))
    proof = text.split("**The test that proves it.**")[1]
    named = re.findall(r"tests/\w+\.py", proof)
    assert named and all((ROOT / name).is_file() for name in named)
