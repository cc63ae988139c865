"""Which build of torch a new environment gets, on machines and networks that are made up here."""

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from tools import torch_build

ROOT = Path(__file__).resolve().parent.parent
PIN = torch_build.pinned()
OFFERS = {"page": f"torch (2.99.0+cpu)\nAvailable versions: 2.99.0+cpu, {PIN}+cpu, 2.6.0+cpu\n",
          "only others": "torch (2.99.0+cpu)\nAvailable versions: 2.99.0+cpu, 2.6.0+cpu\n",
          "pip's": f"torch (2.99.0)\nAvailable versions: 2.99.0, {PIN}\n"}  # fmt: skip


@pytest.fixture
def machine(monkeypatch):
    """make(...) of a machine: its system, its driver's traces, the torch it has, what is offered
    where pip looks and on PyTorch's page. Returns the list of what pip was asked to install."""

    def make(
        system="linux", traces=(), smi=False, torch=None, here="pip's", page="page", breaks=False
    ):
        asked = []

        def pip(*arguments, **options):
            where = page if "-i" in arguments else here
            if arguments[0] == "index":
                if where == "hangs":
                    raise subprocess.TimeoutExpired("pip", options["timeout"])
                return SimpleNamespace(returncode=int(where is None), stdout=OFFERS.get(where, ""))
            asked.append(arguments)
            return SimpleNamespace(returncode=int(breaks))

        monkeypatch.setattr(torch_build, "pip", pip)
        monkeypatch.setattr(torch_build, "installed", lambda: torch)
        monkeypatch.setattr(sys, "platform", system)
        monkeypatch.setattr(
            torch_build.shutil, "which", lambda name: "/usr/bin/" + name if smi else None
        )
        monkeypatch.setattr(torch_build.os.path, "exists", lambda path: path in traces)
        return asked

    return make


def test_without_a_gpu_on_linux_the_cpu_build_comes_from_pytorchs_page(machine, capsys):
    asked = machine()
    assert torch_build.main([]) == 0
    (line,) = asked
    assert line[-3:] == (f"torch=={PIN}+cpu", "-i", torch_build.PAGE) and "--no-deps" in line
    assert "No NVIDIA GPU" in capsys.readouterr().out


def test_a_mirror_or_a_disk_that_has_it_is_asked_first(machine):
    asked = machine(here="page", page=None)
    assert torch_build.main([]) == 0 and asked[0][-1] == f"torch=={PIN}+cpu" and len(asked) == 1


@pytest.mark.parametrize(
    "facts",
    [
        dict(smi=True),
        *[dict(traces={trace}) for trace in (*torch_build.DRIVER, torch_build.DRIVER_OF_WSL)],
        dict(system="darwin"),
        dict(system="win32"),
        dict(torch=PIN),
    ],
    ids=str,
)
def test_elsewhere_torch_is_left_to_pip(machine, facts, capsys):
    asked = machine(**facts)
    assert torch_build.main([]) == 0 and not asked and capsys.readouterr().out == ""


def test_a_torch_of_another_version_does_not_count(machine):
    """constraints.txt has moved on: pip would put a CUDA build in the CPU build's place."""
    asked = machine(torch="2.6.0")
    assert torch_build.main([]) == 0 and len(asked) == 1


@pytest.mark.parametrize("page", [None, "hangs", "only others", "pip's"])
def test_where_it_cannot_be_reached_a_sentence_says_so_and_pip_goes_on(machine, page, capsys):
    asked = machine(page=page)
    assert torch_build.main([]) == 0 and not asked
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "cannot be reached" in said and "gigabytes of CUDA" in said
    assert torch_build.main(["cpu"]) == 1, "asked for by name, nothing else will do"
    assert "leave TORCH=cpu out" in capsys.readouterr().out


def test_the_readers_word_counts_more_than_the_machine(machine, capsys):
    asked = machine(smi=True)
    assert torch_build.main(["cpu"]) == 0 and len(asked) == 1
    asked = machine()
    assert torch_build.main(["cuda"]) == 0 and not asked
    assert torch_build.main(["gpu"]) == 2 and not asked
    assert "TORCH=gpu is no choice" in capsys.readouterr().out


def test_an_installation_that_fails_is_not_passed_over(machine, capsys):
    machine(breaks=True)
    assert torch_build.main([]) == 1 and "try again" in capsys.readouterr().out


def test_a_place_that_does_not_answer_costs_seconds(monkeypatch):
    monkeypatch.setattr(torch_build, "PATIENCE", 0.5)
    run = subprocess.run
    sleeping = [sys.executable, "-c", "import time; time.sleep(60)"]
    monkeypatch.setattr(subprocess, "run", lambda command, **options: run(sleeping, **options))
    assert not torch_build.offered(f"{PIN}+cpu", ("-i", torch_build.PAGE))


def test_the_address(machine, capsys):
    """For other ways of installing, such as conda's."""
    machine()
    assert (
        torch_build.main(["--address"]) == 0 and capsys.readouterr().out == torch_build.PAGE + "\n"
    )
    machine(smi=True)
    assert torch_build.main(["--address"]) == 0 and capsys.readouterr().out == "\n"


def test_it_is_named_in_one_place():
    tracked = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    named = [name for name in tracked.stdout.splitlines()
             if (ROOT / name).suffix in {".py", ".md", ".yml", ".toml", ".txt",
                 ""} and (ROOT / name).is_file()
             and "download." + "pytorch.org" in (ROOT / name).read_text(encoding="utf-8",
                 errors="ignore")]  # fmt: skip
    assert named == ["tools/torch_build.py"]


def test_make_decides_before_it_installs():
    recipe = (
        (ROOT / "Makefile").read_text(encoding="utf-8").split("$(READY):", 1)[1].split("\n\n")[0]
    )
    assert recipe.index("tools/torch_build.py $(TORCH)") < recipe.index("pip install")


def test_conda_gets_the_same_environment():
    """What environment.yml has pip install is what make has it install."""
    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    *packages, by_pip = conda["dependencies"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    made = re.search(r"pip install .*? (-c constraints\.txt) (-e) '(\.\[[\w,]+\])'", makefile)
    assert by_pip["pip"] == [made[1], f"{made[2]} {made[3]}"]
    assert packages[0].startswith("python=3.1") and {"pip", "make"} <= set(packages)
