"""The package alone, as pip installs it: no clone around it, and yet a tool."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BUILD = "from setuptools.build_meta import build_wheel; print(build_wheel('dist'))"
USE = """
import whatwhere as ww
vlm = ww.load("toy-llava")
scene = ww.world.scene(seed=7)
assert ww.__file__.startswith({site!r}) and {site!r} in str(ww.loading.find("toy-qwen2vl"))
assert "ww-map" in ww.lens.token_maps(vlm, scene.image, depths=[6]).show()._repr_html_()
assert ww.book.ledger.catalogue()
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder that holds what the wheel holds."""
    clone, site = (tmp_path_factory.mktemp(name) for name in ("clone", "site"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, clone)
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("lib", "data/models", "data/photographs"):
        shutil.copytree(ROOT / name, clone / name, ignore=ignored)
    built = subprocess.run([sys.executable, "-c", BUILD], cwd=clone, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr[-2000:]
    with zipfile.ZipFile(clone / "dist" / built.stdout.split()[-1]) as wheel:
        wheel.extractall(site)
    return site


def test_it_reads_a_picture_without_a_clone(site, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    code = USE.format(site=str(site))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_all_that_is_no_code_comes_along_and_nothing_that_does_not_belong(site):
    def others(root):
        return {
            path.relative_to(root)
            for path in root.rglob("*")
            if path.is_file() and path.suffix not in (".py", ".pyc")
        }

    inside = others(site / "whatwhere")
    shipped = {path for path in inside if path.parts[:2] == ("photographs", "shipped")}
    assert {path for path in inside - shipped if path.parts[0] != "organisms"} == others(
        ROOT / "lib" / "whatwhere"
    )
    assert {path.name for path in shipped} == {
        path.name for path in (ROOT / "data" / "photographs").iterdir()
    }
    organisms = {path.parts[1] for path in inside if path.parts[0] == "organisms"}
    assert organisms == {"toy-llava", "toy-qwen2vl"}
