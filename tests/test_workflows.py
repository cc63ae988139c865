"""The workflows name targets and files that exist, and take no right that they do not need."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
every_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
WRITES = {  # the only rights beyond reading, and the job that has them
    ("publish", "deploy"): {"pages", "id-token"},
    ("preview", "comment"): {"pull-requests"},
    ("release", "attach"): {"contents"},
}
CRON = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))  # minute, hour, day, month, day of the week


def read(path):
    """The workflow; YAML takes its key `on` for a truth."""
    told = yaml.safe_load(path.read_text(encoding="utf-8"))
    return told | {"on": told[True]}


def steps(told):
    return [step for job in told["jobs"].values() for step in job["steps"]]


def commands(told):
    return [step["run"] for step in steps(told) if "run" in step]


def cron_is_valid(text):
    """Five fields of *, numbers, ranges, lists and steps, each number within what its field can
    hold."""
    fields = text.split()
    if len(fields) != 5:
        return False
    for field, (low, high) in zip(fields, CRON):
        for part in field.split(","):
            if not re.fullmatch(r"(\*|\d+(-\d+)?)(/[1-9]\d*)?", part):
                return False
            numbers = [int(n) for n in re.findall(r"\d+", part.split("/")[0])]
            if any(not low <= n <= high for n in numbers) or numbers != sorted(numbers):
                return False
    return True


@every_workflow
def test_it_names_targets_and_files_that_exist(path):
    targets = set(
        re.findall(
            r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE
        )
    )
    for command in commands(read(path)):
        for target in re.findall(r"\bmake ([a-z-]+)", command):
            assert target in targets, (
                f"{path.name} runs make {target}, which the Makefile does not know"
            )
        for name in re.findall(r"(?:tools|tests|\.ci)/[\w./-]+", command):
            assert (ROOT / name).exists(), f"{path.name} runs {name}, which does not exist"


@every_workflow
def test_it_has_the_least_rights(path):
    told = read(path)
    assert "pull_request_target" not in path.read_text(encoding="utf-8"), (
        "it would give a fork's code this repository's rights"
    )
    assert told["permissions"] == {"contents": "read"}
    for name, job in told["jobs"].items():
        written = {right for right, how in job.get("permissions", {}).items() if how == "write"}
        assert written == WRITES.get((path.stem, name), set()), f"{path.stem}, {name}"
        if written:
            assert not any("checkout" in step.get("uses", "") for step in job["steps"]), (
                "what may write runs nothing of ours"
            )
    assert "secrets." not in path.read_text(encoding="utf-8")
    assert all(
        step["with"]["persist-credentials"] is False
        for step in steps(told)
        if "actions/checkout" in step.get("uses", "")
    )


@every_workflow
def test_actions_are_at_a_major_version(path):
    told = read(path)
    for step in steps(told):
        assert "run" in step or re.fullmatch(r"actions/[a-z-]+@v\d+", step["uses"]), step
    for job in told["jobs"].values():
        assert job["runs-on"] == "ubuntu-latest"


@every_workflow
def test_nothing_of_a_pull_request_is_pasted_into_a_command(path):
    for command in commands(read(path)):
        assert "${{" not in command, (
            f"{path.name}: give it to the command as an environment variable"
        )


@every_workflow
def test_schedules_are_valid(path):
    triggers = read(path)["on"]
    for entry in triggers.get("schedule", []) if isinstance(triggers, dict) else []:
        assert cron_is_valid(entry["cron"]), entry


def test_an_action_has_one_version_everywhere():
    used = {step["uses"] for path in WORKFLOWS for step in steps(read(path)) if "uses" in step}
    assert len(used) == len({each.split("@")[0] for each in used}), sorted(used)
