"""A run of a benchmark: killed, split, short of memory or of disk, it ends in the very rows of one that was left alone."""

import errno
import fcntl
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from functools import cache
from pathlib import Path

import pytest
import torch

import whatwhere as ww
from whatwhere import benchmarks, compress
from whatwhere.__main__ import main
from whatwhere.benchmarks import running, tabletop
from whatwhere.benchmarks.items import Item, blinded

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore:(Out of memory|.* has only ever seen)")]
ROOT = Path(__file__).parents[1]
N, SIZE = 16, 4  # questions, and how many at once
BENCH = ["bench", "toy-qwen2vl", "tabletop-b", "--limit", str(N), "--batch-size", str(SIZE), "--out"]
SMALL = {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
fork = multiprocessing.get_context("fork")  # spares each of the many processes the seconds that torch takes to be imported


@pytest.fixture(scope="module", autouse=True)
def quiet():
    """No bars, and the scenes drawn only once, here and in every process that is forked from here."""
    with pytest.MonkeyPatch.context() as patched:
        for name, value in SMALL.items():
            patched.setenv(name, value)
        patched.setattr(tabletop, "controlled", cache(tabletop.controlled))
        yield


@pytest.fixture(scope="module", autouse=True)
def launched(quiet, tmp_path_factory):
    """Two commands that are begun at once, since they are slow to start: two processes, and one that is killed half-way."""
    root = tmp_path_factory.mktemp("launched")
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
                "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", str(free_port())]  # fmt: skip
    commands = {"two": launcher, "killed": [sys.executable]}
    found = {}
    for name, start in commands.items():
        log = (root / f"{name}.log").open("w")
        command = [*start, "-m", "whatwhere", *BENCH, str(root / name)]
        found[name] = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **SMALL})
    watch(root / "killed", 1, found["killed"].kill)
    yield root, found
    for process in found.values():
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def vlm(quiet):
    return ww.load("toy-qwen2vl", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def whole(vlm, tmp_path_factory):
    """The folder of a run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(vlm, folder)
    return folder


def run(vlm, out, benchmark="tabletop-b", **more):
    return benchmarks.run(vlm, benchmark, out=out, **{"limit": N, "batch_size": SIZE, "progress": False, **more})


def lines(folder):
    """All rows, byte for byte, in the order of their questions."""
    found = [line for path in Path(folder).glob("rows-*.jsonl") for line in path.read_bytes().splitlines(keepends=True)]
    assert all(line.endswith(b"\n") for line in found)
    return sorted(found, key=lambda line: json.loads(line)["id"])


def size(folder):
    return sum(path.stat().st_size for path in Path(folder).glob("rows-*.jsonl"))


def watch(folder, bytes_, act):
    """Act as soon as a run has written so many bytes."""

    def wait():
        end = time.monotonic() + 120
        while size(folder) < bytes_ and time.monotonic() < end:
            time.sleep(0.001)
        act()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def command(arguments, log, environment=None, most=None):
    """Run the command in a process of its own, which ends with what the shell would be told. most: bytes of a file."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are born deaf to it
    os.environ.update(environment or {})
    fsync = os.fsync
    os.fsync = lambda handle: (fsync(handle), time.sleep(0.1))  # so that there is time to kill it, on a busy machine too
    with open(log, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)
    if most:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    code = main([str(each) for each in arguments])
    sys.stdout.flush()
    sys.exit(code)


def started(out, environment=None, most=None):
    log = out.parent / f"{out.name}{(environment or {}).get('RANK', '')}.log"
    process = fork.Process(target=command, args=([*BENCH, out], log, environment, most))
    process.start()
    return process, log


def two(out):
    """The two processes that a launcher would start."""
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    return [started(out, {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)})[0] for rank in range(2)]


def finished(processes):
    for process in processes:
        process.join(90)
    return [process.exitcode for process in processes]


def killed(processes, out, bytes_):
    watch(out, bytes_, lambda: [process.kill() for process in processes])
    return finished(processes)


# -- killed, and gone on with --------------------------------------------------------------------------------------------


def test_a_run_writes_every_row_and_ends_in_a_result(whole, vlm):
    result = benchmarks.load(whole)
    assert result.complete and len(result.rows) == N and len(lines(whole)) == N
    assert list(result.scores) == ["accuracy", "pairs", "sets of four"] and result.accuracy > 0.9
    unkept = run(vlm, None)
    assert unkept.rows.to_json() == run(vlm, whole).rows.to_json(), "with or without a folder, asked or read"


def test_a_run_that_is_killed_again_and_again_ends_in_the_same_rows(tmp_path, whole):
    rnd, out, ends = random.Random(5), tmp_path / "run", []
    for _ in range(3):
        before = size(out)
        ends += killed([started(out)[0]], out, before + rnd.randrange(1, size(whole) // 4))
        assert size(out) >= before, "nothing that was kept is lost"
    assert ends.count(-signal.SIGKILL) >= 2 and set(ends) <= {0, -signal.SIGKILL}
    assert finished([started(out)[0]]) == [0]
    assert lines(out) == lines(whole)


@pytest.mark.parametrize("seed", range(6))
def test_a_file_that_ends_anywhere_is_gone_on_with(tmp_path, whole, vlm, seed):
    out = shutil.copytree(whole, tmp_path / "run")
    data = (out / "rows-0.jsonl").read_bytes()
    ends = [0, 1, data.index(b"\n"), data.index(b"\n") + 1, len(data) - 1]
    keep = ends[seed] if seed < len(ends) else random.Random(seed).randrange(len(data))
    (out / "rows-0.jsonl").write_bytes(data[:keep])
    if keep > data.index(b"\n"):
        assert len(benchmarks.load(out).rows) == data[:keep].count(b"\n") < N
    else:
        with pytest.raises(ValueError, match="nothing to score"):
            benchmarks.load(out)
    run(vlm, out)
    assert lines(out) == lines(whole)


def test_a_character_that_was_cut_in_two_is_gone_on_with(tmp_path):
    rows = [Item(f"{n}", None, "?", "word", "é").row("é…日") for n in range(2)]
    data = b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)
    for cut in range(len(data)):
        (tmp_path / "rows-0.jsonl").write_bytes(data[:cut])
        assert running.rows(tmp_path) == rows[: data[:cut].count(b"\n")]


@pytest.mark.parametrize("damage", [
    lambda data: data.replace(b'"answer"', b'"amswer"', 1), lambda data: data[:50] + b"\0" * 40 + data[90:],
    lambda data: data.replace(b"\n", b"", 1), lambda data: b"\n" + data, lambda data: data.replace(b"{", b"[", 1),
    lambda data: b"\xff" + data,
])  # fmt: skip
def test_damage_in_the_middle_is_refused_by_name_and_left_as_it_is(tmp_path, whole, vlm, damage):
    out = shutil.copytree(whole, tmp_path / "run")
    path = out / "rows-0.jsonl"
    broken = damage(path.read_bytes())
    path.write_bytes(broken)
    for again in (lambda: run(vlm, out), lambda: benchmarks.load(out)):
        with pytest.raises(ValueError, match=f"'{path}' is damaged after 0 rows, not at its end; delete it"):
            again()
    assert path.read_bytes() == broken


def test_the_command_itself_killed_and_gone_on_with(launched, whole, vlm):
    root, processes = launched
    assert processes["killed"].wait(120) == -signal.SIGKILL, (root / "killed.log").read_text()
    assert 0 < size(root / "killed") < size(whole)
    run(vlm, root / "killed")
    assert lines(root / "killed") == lines(whole)


def test_an_interrupt_from_the_keyboard_keeps_what_was_answered(tmp_path, whole):
    out = tmp_path / "run"
    process, log = started(out)
    watch(out, 1, lambda: os.kill(process.pid, signal.SIGINT))
    assert finished([process]) == [130]
    said = log.read_text()
    assert "Interrupted. What was answered is kept" in said and "Traceback" not in said
    assert lines(out) == [line for line in lines(whole) if line in set(lines(out))] and lines(out)


# -- settings ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, change", [
    ("seed", {"seed": 1}), ("limit", {"limit": N + 4}), ("batch_size", {"batch_size": 5}), ("scale", {"scale": (99, 8)}),
    ("compress", {"compress": "random", "keep": 0.5}), ("benchmark", {"benchmark": "tabletop-a"}),
])  # fmt: skip
def test_other_settings_are_refused_and_change_nothing(whole, vlm, name, change):
    before = {path: path.read_bytes() for path in whole.iterdir()}
    with pytest.raises(
        ValueError, match=rf"holds a run with (data|questions|{name}) = .*, and this one has .*Name another folder"
    ):
        run(vlm, whole, **change)
    assert {path: path.read_bytes() for path in whole.iterdir()} == before


def test_other_weights_and_another_decoder_are_refused(tmp_path, whole, vlm):
    weight = vlm.connector.parameters().__next__()
    kept = weight.clone()
    try:
        weight.mul_(1.01)
        with pytest.raises(ValueError, match="holds a run with weights = "):
            run(vlm, whole)
    finally:
        weight.copy_(kept)
    first, second = (compress.Decoder(vlm.unembedding.weight.detach() * f, vlm.words) for f in (1.0, 1.5))
    run(vlm, tmp_path / "run", compress=1, decoder=first, limit=4)
    run(vlm, tmp_path / "run", compress=1, decoder=first, limit=4)
    with pytest.raises(ValueError, match="holds a run with decoder = "):
        run(vlm, tmp_path / "run", compress=1, decoder=second, limit=4)


@pytest.mark.parametrize("wrong, words", [
    ({"compress": "randm", "keep": 0.5}, "compress is 1, 2, 3, random"), ({"compress": "random"}, "'random' needs keep="),
    ({"compress": 1}, "give decoder="), ({"compress": len, "keep": 3}, "compress is 1, 2, 3"),
    ({"keep": 0.5}, "say which by compress"), ({"decoder": "folder"}, "say which by compress"),
    ({"decoder": "nowhere", "compress": 1}, "holds no decoder"), ({"compress": "grid", "keep": "half"}, "keep is a whole number"),
    ({"compress": "random", "keep": 1.5}, "keep is a whole number"), ({"scale": (1, 2, 3)}, "scale is two numbers"),
    ({"scale": 5}, "scale is two numbers"), ({"scale": ("a", "b")}, "scale is two numbers"),
    ({"scale": (float("nan"), 8)}, "alpha|finite|number"), ({"batch_size": 0}, "batch_size is a whole number"),
    ({"batch_size": 2.0}, "batch_size is a whole number"), ({"limit": 0}, "limit is a whole number"),
    ({"seed": -1}, "seed is a whole number"),
])  # fmt: skip
def test_what_cannot_be_run_is_said_before_there_is_a_folder(tmp_path, vlm, wrong, words):
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        run(vlm, tmp_path / "run", **wrong)
    assert not (tmp_path / "run").exists(), "which would refuse the right settings"


def test_a_folder_that_is_no_run(tmp_path, whole, vlm):
    with pytest.raises(FileNotFoundError, match="holds no run"):
        benchmarks.load(tmp_path)
    orphan = shutil.copytree(whole, tmp_path / "orphan")
    (orphan / "run.json").unlink()
    with pytest.raises(ValueError, match="holds rows, but no run.json"):
        run(vlm, orphan)
    for text in ("{", "[]", "null", "{}", '{"benchmark": "pope"}', "\0"):
        (orphan / "run.json").write_text(text)
        for again in (lambda: run(vlm, orphan), lambda: benchmarks.load(orphan)):
            with pytest.raises(ValueError, match="run.json' (is damaged|holds no settings).*delete the folder"):
                again()
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot be a folder for answers.*name another"):
        run(vlm, tmp_path / "file")
    with pytest.raises(OSError, match="cannot be a folder for answers"):
        run(vlm, tmp_path / "file" / "below")


def test_large_tensors_have_fingerprints_too():
    """Places in a tensor of more than 2²⁴ numbers are no float32 numbers."""
    n = 2**24 + 4
    ends = torch.zeros(1).expand(n)
    assert benchmarks._digest({"w": ends}) == benchmarks._digest({"w": ends}) != benchmarks._digest({"v": ends})
    assert benchmarks._digest({"w": torch.arange(3)}) != benchmarks._digest({"w": torch.arange(1, 4)})


# -- several processes ---------------------------------------------------------------------------------------------------


def test_two_processes_of_accelerate_give_the_rows_and_the_table_of_one(launched, whole, capsys, vlm):
    root, processes = launched
    assert processes["two"].wait(180) == 0, (root / "two.log").read_text()
    assert lines(root / "two") == lines(whole)
    each = [path.read_bytes().count(b"\n") for path in sorted((root / "two").glob("rows-*.jsonl"))]
    assert each == [N // 2, N // 2]
    assert main([*BENCH, str(root / "two")]) == 0, "one process finds it finished"
    table = capsys.readouterr().out
    assert "sets of four" in table and table in (root / "two.log").read_text(), "said once, by the first of the two"


def test_two_processes_killed_and_finished_by_one(tmp_path, whole, vlm):
    out = tmp_path / "run"
    assert killed(two(out), out, size(whole) // 4) == [-signal.SIGKILL] * 2
    assert 0 < size(out) < size(whole)
    run(vlm, out)
    assert lines(out) == lines(whole)


def test_one_process_killed_and_finished_by_two(tmp_path, whole):
    out = tmp_path / "run"
    assert killed([started(out)[0]], out, size(whole) // 4) == [-signal.SIGKILL]
    assert finished(two(out)) == [0, 0]
    assert lines(out) == lines(whole)


def test_several_processes_need_a_folder(monkeypatch, vlm):
    monkeypatch.setattr(benchmarks, "processes", lambda: running.Processes(0, 2, None))
    with pytest.raises(ValueError, match="needs out="):
        run(vlm, None)


def test_a_process_that_died_is_not_waited_for_for_ever(monkeypatch, tmp_path, vlm):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(running, "PATIENCE", 0.5)
    with pytest.raises(ValueError, match=f"{N // 2} questions are not answered.*another process has died. Run the same command"):
        run(vlm, tmp_path / "run")
    monkeypatch.delenv("WORLD_SIZE")
    assert run(vlm, tmp_path / "run").complete, "and the same call goes on from there"


def test_processes_that_begin_at_once_meet_in_one_folder(tmp_path, monkeypatch):
    """The other may write its settings and its first row between any two steps of this one."""
    settings = {"benchmark": "pope", "model": "m", "questions": 1, "scale": None, "compress": None}
    exists = Path.exists

    def other_first(path, **more):
        if path.name == "run.json" and not exists(path):
            path.write_text(json.dumps(settings))
            (path.parent / "rows-1.jsonl").write_text("")
            return False  # what was seen before the other came
        return exists(path, **more)

    monkeypatch.setattr(Path, "exists", other_first)
    assert running.begin(tmp_path / "run", settings) == tmp_path / "run"


def test_a_folder_that_another_run_is_writing_is_refused(tmp_path, whole, vlm):
    out = shutil.copytree(whole, tmp_path / "run")
    path = out / "rows-0.jsonl"
    path.write_bytes(path.read_bytes()[:500])
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match=f"'{path}' is being written by another run; wait for its end"):
            run(vlm, out)
        assert path.stat().st_size == 500, "what the other is writing is not cut"
    run(vlm, out)
    assert lines(out) == lines(whole)


# -- too little disk, too little memory ----------------------------------------------------------------------------------


def test_a_disk_that_fills_up_loses_no_earlier_row(tmp_path, whole, vlm, monkeypatch):
    out, fsync, calls = tmp_path / "run", os.fsync, []

    def full(handle):
        calls.append(handle)
        if len(calls) > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return fsync(handle)

    with monkeypatch.context() as patched:
        patched.setattr(running.os, "fsync", full)
        with pytest.raises(
            OSError, match=r"rows-0.jsonl' could not be written \(No space left.*before these are safe: make room"
        ):
            run(vlm, out)
    assert len(benchmarks.load(out).rows) >= 2 * SIZE
    run(vlm, out)
    assert lines(out) == lines(whole)


def test_a_file_that_may_not_grow_is_gone_on_with_once_it_may(tmp_path, whole, vlm):
    """Truly refused by the system, in the middle of a line."""
    out = tmp_path / "run"
    most = size(whole) // 2 + 7
    process, log = started(out, most=most)
    assert finished([process]) == [1]
    assert "could not be written (File too large). The rows before these are safe" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert size(out) == most and SIZE <= len(benchmarks.load(out).rows) < N
    run(vlm, out)
    assert lines(out) == lines(whole)


def test_settings_that_cannot_be_written(tmp_path, monkeypatch, vlm):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(running, "write", full)
    with pytest.raises(OSError, match=r"cannot be a folder for answers \(No space left on device\)"):
        run(vlm, tmp_path / "run")


class Small:
    """A model's `answer` that has memory for so many questions at once."""

    def __init__(self, vlm, most):
        self.usual, self.most, self.tried, self.left = vlm.answer, most, [], []

    def __call__(self, pictures, questions, *rest):
        self.tried.append(len(pictures))
        assert all(ref() is None for ref in self.left), "what a failed attempt held is free before the next one"
        if len(pictures) > self.most:
            tensor = torch.zeros(3)  # noqa: F841
            self.left.append(weakref.ref(tensor))
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return self.usual(pictures, questions, *rest)


@pytest.mark.parametrize("most, due", [(3, [4, 2, 2]), (1, [4, 2, 1, 1, 1, 1])])
def test_without_memory_for_a_batch_it_is_halved_and_the_rows_are_the_same(tmp_path, whole, vlm, monkeypatch, most, due):
    small = Small(vlm, most)
    monkeypatch.setattr(vlm, "answer", small)
    with pytest.warns(UserWarning, match="Out of memory with 4 questions at once: going on with 2"):
        run(vlm, tmp_path / "run")
    assert small.tried[: len(due)] == due and max(small.tried[len(due) :]) == due[-1], "and it is not tried again"
    assert lines(tmp_path / "run") == lines(whole)


@pytest.mark.parametrize("error", [
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."), MemoryError(),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("MPS backend out of memory (MPS allocated: 18.00 GB)"),
])  # fmt: skip
def test_every_way_of_saying_that_memory_is_full_is_understood(error):
    assert running.out_of_memory(error) and not running.out_of_memory(ValueError(str(error)))


def test_one_question_that_does_not_fit_is_an_error_and_the_others_are_kept(tmp_path, whole, vlm, monkeypatch):
    usual, calls = vlm.answer, []

    def fails_later(*some):
        calls.append(some)
        if len(calls) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return usual(*some)

    out = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(vlm, "answer", fails_later)
        with pytest.warns(UserWarning), pytest.raises(MemoryError, match=r"too small for even one question \('.*'\).*is kept"):
            run(vlm, out)
    assert len(lines(out)) == 2 * SIZE
    run(vlm, out)
    assert lines(out) == lines(whole)


def test_another_error_is_not_taken_for_a_lack_of_memory(tmp_path, vlm, monkeypatch):
    def failing(*_):
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(vlm, "answer", failing)
    with pytest.raises(RuntimeError, match="device-side assert"):
        run(vlm, tmp_path / "run")


# -- compressed, scaled, and pictures of one's own -----------------------------------------------------------------------


@pytest.mark.parametrize("cut", [0, 3, 9])
def test_a_random_compression_draws_the_same_however_it_is_interrupted(tmp_path, folders, cut):
    """On random weights, whose answers are others where other tokens are kept."""
    vlm = ww.load(folders / "qwen2vl", device="cpu", dtype="float32")
    how = {"compress": "random", "keep": 0.5, "limit": 12}
    plain = run(vlm, tmp_path / "plain", **how)
    asked, _ = benchmarks.items("tabletop-b", limit=12)
    alone = running.Processes(0, 1, None)
    other = running.Runner(vlm, asked, SIZE, 16, ("random", None, 0.5), seed=1).run(None, alone, progress=False)
    assert [row["answer"] for row in other] != list(plain.rows["answer"]), "another seed draws others"
    assert plain.removed == pytest.approx(0.5, abs=0.01) and (plain.rows["given"] > plain.rows["kept"]).all()
    out = shutil.copytree(tmp_path / "plain", tmp_path / "cut")
    rows = (out / "rows-0.jsonl").read_bytes().splitlines(keepends=True)
    (out / "rows-0.jsonl").write_bytes(b"".join(rows[:cut]) + rows[cut][:30])
    run(vlm, out, **how)
    assert lines(out) == lines(tmp_path / "plain")
    assert not compress.within.at_work(vlm)


def test_a_scaled_run_leaves_the_model_as_it_was(tmp_path, vlm, whole):
    scaled = run(vlm, tmp_path / "scaled", scale=(99, 8))
    assert scaled.settings["scale"] == {"alpha": 99.0, "p": 8.0} and "scaled: alpha 99, p 8" in repr(scaled)
    run(vlm, tmp_path / "plain")
    assert lines(tmp_path / "plain") == lines(whole)
    gain = benchmarks.gain(benchmarks.load(whole), scaled)
    assert gain.value == pytest.approx(scaled.accuracy - benchmarks.load(whole).accuracy)


def test_a_blind_run_shows_pictures_of_other_scenes_and_is_not_mixed_with_one_that_sees(tmp_path, vlm, whole):
    asked, _ = benchmarks.items("tabletop-b", limit=N)
    for seed in range(3):
        shown = blinded(asked, seed)
        assert [item.row("") for item in shown] == [item.row("") for item in asked]
        whose = {id(item.image): item.group for item in asked}
        assert all(whose[id(item.image)] != item.group for item in shown)
    with pytest.raises(ValueError, match="take more of them"):
        blinded(asked[:4], 0)
    with pytest.raises(ValueError, match="holds a run with blind = False, and this one has True"):
        run(vlm, whole, blind=True)
    result = run(vlm, tmp_path / "run", blind=True)
    assert result.accuracy < 0.8 and "blind" in repr(result)


def test_a_model_whose_numbers_are_not_finite_is_refused(tmp_path, vlm):
    endless = vlm.lm_layers[0].register_forward_hook(lambda *_: float("inf") * _[-1])
    try:
        with pytest.raises(ValueError, match="LM layer .* not finite .* in float32"):
            run(vlm, tmp_path / "run")
    finally:
        endless.remove()
    assert not (tmp_path / "run").exists()


def test_too_little_memory_for_the_first_look_is_no_end(tmp_path, vlm, whole, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(vlm, "logits", full)
    run(vlm, tmp_path / "run")
    assert lines(tmp_path / "run") == lines(whole)


def test_a_picture_that_is_none_is_named_with_its_question_and_the_others_are_kept(tmp_path, vlm):
    data = tabletop.write(tmp_path / "data", "B", 2)
    picture = sorted((data / "controlled_clevr").iterdir())[-1]
    n = next(n for n, each in enumerate(json.loads((data / "controlled_clevr_dataset.json").read_text()))
             if picture.name in each["image_path"])  # fmt: skip
    whole = picture.read_bytes()
    due = f"The picture of question 'Controlled_Images_B/{n}' cannot be used: .*{picture.name}"
    for broken in (b"", b"no picture", whole[: len(whole) // 2]):
        picture.write_bytes(broken)
        with pytest.raises(ValueError, match=due):
            run(vlm, tmp_path / "run", "whatsup-b", data=data, limit=None, batch_size=1)
        with pytest.raises(ValueError, match=due):
            running.Runner(vlm, benchmarks.items("whatsup-b", data)[0][n:], 1, 16).try_first()
    assert len(lines(tmp_path / "run")) == n
    picture.write_bytes(whole)
    assert run(vlm, tmp_path / "run", "whatsup-b", data=data, limit=None, batch_size=1).complete


# -- the command ---------------------------------------------------------------------------------------------------------


def said(capsys, code, *arguments):
    """What the command prints, given that it ends so."""
    assert main([str(each) for each in arguments]) == code
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return out if code == 0 else err


def test_the_command_lists_the_benchmarks(capsys):
    listed = said(capsys, 0, "benchmarks")
    assert all(f"{name} " in listed for name in benchmarks.BENCHMARKS)
    assert "lmms-lab/POPE" in listed and "controlled_clevr_dataset.json" in listed


def test_the_command_prints_one_table_of_several_runs(capsys, whole, tmp_path, vlm):
    run(vlm, tmp_path / "half", compress="random", keep=0.5, limit=8)
    table = said(capsys, 0, "table", whole, tmp_path / "half").splitlines()
    assert len(table) == 3
    for line, due in zip(table, (["model", "95% interval", "paper"], ["toy-qwen2vl", "tabletop-b"], ["random", "50.0"])):
        assert all(each in line for each in due), line


@pytest.mark.parametrize("arguments, words", [
    (["bench", "toy-qwen2vl", "whatsup-c"], "There is no benchmark 'whatsup-c'"),
    (["bench", "no-model", "tabletop-b", "--limit", "4"], "'no-model' is not a model's name"),
    (["bench", "toy-qwen2vl", "tabletop-b", "--limit", "0"], "limit is a whole number"),
    (["bench", "toy-qwen2vl", "tabletop-b", "--batch-size", "0"], "batch_size is a whole number"),
    (["bench", "toy-qwen2vl", "pope", "--data", "/nowhere"], "There is no folder '/nowhere'"),
    (["bench", "toy-qwen2vl", "tabletop-b", "--keep", "0.5"], "say which by compress"),
    (["bench", "toy-qwen2vl", "tabletop-b", "--compress", "random", "--keep", "2.5"], "a whole number of visual tokens"),
    (["bench", "toy-qwen2vl", "tabletop-b", "--compress", "random", "--keep", "inf"], "a whole number of visual tokens"),
    (["bench", "toy-qwen2vl", "tabletop-b", "--compress", "²", "--keep", "2"], "compress is 1, 2, 3"),
    (["bench", "toy-qwen2vl", "tabletop-b", "--revision", "abc"], "takes neither data nor a revision"),
    (["table", "/nowhere"], "'/nowhere' holds no run"),
])  # fmt: skip
def test_the_command_says_in_a_sentence_what_is_wrong(capsys, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    err = said(capsys, 1, *arguments)
    assert err.startswith("whatwhere: ") and words in err and err.count("\n") == 1
    assert not any(tmp_path.iterdir()), "and leaves nothing behind"


def test_a_wrong_benchmark_is_found_before_a_model_is_loaded(monkeypatch):
    monkeypatch.setattr(ww.models, "load", lambda *_, **__: pytest.fail("a model was loaded"))
    for wrong in ({"benchmark": "whatsup-c"}, {"benchmark": "tabletop-b", "limit": 0}, {"benchmark": "pope", "data": "/nowhere"}):
        with pytest.raises((ValueError, FileNotFoundError)):
            benchmarks.run("toy-qwen2vl", **wrong)


def test_the_command_names_a_folder_by_what_it_does(capsys, tmp_path, monkeypatch):
    asked = {}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(benchmarks, "run", lambda model, benchmark, **more: asked.update(more) or "the result")
    printed = said(capsys, 0, *BENCH[:5], "--compress", "grid", "--keep", "0.5", "--scale", "99", "8")
    due = Path(f"results/toy-qwen2vl-tabletop-b-scaled-99-8-compressed-grid-0.5-{N}")
    assert printed == f"the result\nanswers: {due}\n"
    assert (asked["compress"], asked["keep"], asked["scale"]) == ("grid", 0.5, [99.0, 8.0])
    said(capsys, 0, *BENCH[:3], "--compress", "2", "--decoder", "d")
    assert (asked["compress"], asked["keep"], asked["decoder"]) == (2, None, "d")
    said(capsys, 0, *BENCH[:3], "--compress", "attended", "--keep", "32")
    assert asked["keep"] == 32 and isinstance(asked["keep"], int)


@pytest.mark.parametrize("error, code, words", [
    (KeyboardInterrupt(), 130, "Interrupted. What was answered is kept"), (MemoryError("No room."), 1, "whatwhere: No room."),
    (ConnectionError("No hub."), 1, "whatwhere: No hub."), (ImportError("No pyarrow."), 1, "whatwhere: No pyarrow."),
])  # fmt: skip
def test_how_the_command_ends(capsys, tmp_path, monkeypatch, error, code, words):
    def failing(*_, **__):
        raise error

    monkeypatch.setattr(benchmarks, "run", failing)
    assert words in said(capsys, code, *BENCH, tmp_path / "run")


def test_a_command_that_is_none_ends_with_two(capsys):
    for arguments in ([], ["bench"], ["bench", "toy-qwen2vl"], ["table"], ["other"], [*BENCH, "x", "--limit", "many"]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2 and "usage: whatwhere" in capsys.readouterr().err
