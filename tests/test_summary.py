"""The last lines of a test run say what was not run, and why."""

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent
CASES = """
import pytest

@pytest.mark.skip(reason="there is no camera")
@pytest.mark.parametrize("n", range(3))
def test_camera(n): ...

def test_package():
    pytest.importorskip("no_such_package")

def test_fine(): ...

def test_fails():
    assert {fine}
"""


def last_lines(folder, *arguments, fine=True):
    file = folder / "test_cases.py"
    file.write_text(CASES.format(fine=fine))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "conftest",
        "-p",
        "no:cacheprovider",
        "-c",
        TESTS.parent / "pyproject.toml",
    ]
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [*command, *arguments, file],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    return done.stdout.splitlines()


def test_each_reason_is_said_once_after_the_failures_and_before_the_closing_line(tmp_path):
    *before, title, camera, package, closing = last_lines(tmp_path, fine=False)
    assert "not run, and why" in title and "1 failed, 1 passed, 4 skipped" in closing
    assert any("slowest" in line for line in before) and any(
        line.startswith("FAILED") for line in before
    )
    assert camera == "3 tests in test_cases.py: there is no camera"
    assert package.startswith("1 test in test_cases.py: could not import 'no_such_package'")


def test_the_site_has_a_command_of_its_own(tmp_path):
    lines = last_lines(tmp_path, TESTS, f"--ignore-glob={TESTS}/test_*.py", "-k", "fine")
    assert "make test-site" in lines[-2] and "not run, and why" in lines[-3]
