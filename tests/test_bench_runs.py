"""A run of a benchmark: killed, split, short of memory or of disk, it ends in the very rows of one
that was left alone."""

import errno
import fcntl
import json
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from contextlib import ExitStack
from functools import cache
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest
import torch

import whatwhere as ww
from whatwhere import benchmarks, compress, conditions
from whatwhere.__main__ import main
from whatwhere.benchmarks import identity, running, tabletop
from whatwhere.benchmarks.item import Item, blinded

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:(Out of memory|.* has only ever seen)"),
]
ROOT = Path(__file__).parents[1]
N, SIZE = 16, 4  # questions, and how many at once
BENCH = [
    "bench",
    "toy-qwen2vl",
    "tabletop-b",
    "--limit",
    str(N),
    "--batch-size",
    str(SIZE),
    "--out",
]
SMALL = {
    "OMP_NUM_THREADS": "1",
    "TQDM_DISABLE": "1",
    "HF_HUB_OFFLINE": "1",
    "CUDA_VISIBLE_DEVICES": "",
}
# spares each of the many processes the seconds that torch takes to be imported
fork = multiprocessing.get_context("fork")


@pytest.fixture(scope="module", autouse=True)
def quiet():
    """No bars, and the scenes drawn only once, here and in every process that is forked from
    here."""
    with pytest.MonkeyPatch.context() as patched:
        for name, value in SMALL.items():
            patched.setenv(name, value)
        patched.setattr(tabletop, "controlled", cache(tabletop.controlled))
        yield


@pytest.fixture(scope="module", autouse=True)
def launched(quiet, tmp_path_factory):
    """Two commands that are begun at once, since they are slow to start: two processes, and one
    that is killed half-way."""
    root = tmp_path_factory.mktemp("launched")
    launcher = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--multi_gpu",
        "--num_processes",
        "2",
        "--num_machines",
        "1",
        "--mixed_precision",
        "no",
        "--dynamo_backend",
        "no",
        "--main_process_port",
        str(free_port()),
    ]
    commands = {"two": launcher, "killed": [sys.executable]}
    found = {}
    for name, start in commands.items():
        log = (root / f"{name}.log").open("w")
        command = [*start, "-m", "whatwhere", *BENCH, str(root / name)]
        found[name] = subprocess.Popen(
            command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **SMALL}
        )
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
    return benchmarks.run(
        vlm, benchmark, out=out, **{"limit": N, "batch_size": SIZE, "progress": False, **more}
    )


def lines(folder):
    """All rows, byte for byte, in the order of their questions."""
    found = [
        line
        for path in Path(folder).glob("rows-*.jsonl")
        for line in path.read_bytes().splitlines(keepends=True)
    ]
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
    """Run the command in a process of its own, which ends with what the shell would be told. most:
    bytes of a file."""
    # a shell's background jobs are born deaf to it
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.update(environment or {})
    fsync = os.fsync
    # so that there is time to kill it, on a busy machine too
    os.fsync = lambda handle: (fsync(handle), time.sleep(0.1))
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
    shared = {
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
    }
    return [
        started(out, {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)})[0] for rank in range(2)
    ]


def finished(processes):
    for process in processes:
        process.join(90)
    return [process.exitcode for process in processes]


def killed(processes, out, bytes_):
    watch(out, bytes_, lambda: [process.kill() for process in processes])
    return finished(processes)


# -- killed, and gone on with
# --------------------------------------------------------------------------------------------


def test_a_run_writes_every_row_and_ends_in_a_result(whole, vlm):
    result = benchmarks.load(whole)
    assert result.complete and len(result.rows) == N and len(lines(whole)) == N
    assert list(result.scores) == ["accuracy", "pairs", "sets of four"] and result.accuracy > 0.9
    unkept = run(vlm, None)
    assert unkept.rows.to_json() == run(vlm, whole).rows.to_json(), (
        "with or without a folder, asked or read"
    )


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
    lambda data: data.replace(b'"answer"', b'"amswer"', 1),
    lambda data: data[:50] + b"\0" * 40 + data[90:], lambda data: data.replace(b"\n", b"", 1),
    lambda data: b"\n" + data, lambda data: data.replace(b"{", b"[", 1),
    lambda data: b"\xff" + data,
])  # fmt: skip
def test_damage_in_the_middle_is_refused_by_name_and_left_as_it_is(tmp_path, whole, vlm, damage):
    out = shutil.copytree(whole, tmp_path / "run")
    path = out / "rows-0.jsonl"
    broken = damage(path.read_bytes())
    path.write_bytes(broken)
    for again in (lambda: run(vlm, out), lambda: benchmarks.load(out)):
        with pytest.raises(
            ValueError, match=f"'{path}' is damaged after 0 rows, not at its end; delete it"
        ):
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


# -- settings
# --------------------------------------------------------------------------------------------------


def refused(call, *words):
    """The sentence with which a run does not go on with another's."""
    with pytest.raises(
        ValueError, match="holds a run of something else, and answers that do not belong together"
    ) as caught:
        call()
    said = str(caught.value)
    assert "What differs: " in said and re.search(
        r"Name\s+another folder, delete that one", said
    ), said
    differs = re.search(r"What differs: (.*?)\. ", said)[1]
    assert re.fullmatch("; ".join(rf"[^;]*{re.escape(word)}[^;]*" for word in words), differs), (
        differs
    )
    return said


@pytest.mark.parametrize("words, change", [
    (["the seed (0 then, 1 now)"], {"seed": 1}),
    (["the number of questions (16 then, 20 now)"], {"limit": N + 4}),
    (["the number of questions at once (4 then, 5 now)"], {"batch_size": 5}),
    (["RoPE scaling (scale) (none then, alpha 99, p 8 now)"], {"scale": (99, 8)}),
    (["RoPE scaling (scale) (none then, alpha 99, k 40, c 0.6 now)"],
     {"scale": {"alpha": 99, "k": 40, "c": 0.6}}),
    (["compression (compress) (none then, method random, keep 0.5"],
     {"compress": "random", "keep": 0.5}),
    (["the benchmark (tabletop-b then, tabletop-a now)"], {"benchmark": "tabletop-a"}),
    (["beside another scene's picture (blind) (False then, True now)"], {"blind": True}),
    (["how many blocks the ViT ends (depth) (none then, 3 now)"], {"depth": 3}),
    (["not told where patches are (without_positions) (none then, all now)"],
     {"without_positions": "all"}),
    (["is shuffled (shuffle) (none then, tokens now)"], {"shuffle": "tokens"}),
    (["see of each other (image_attention) (none then, removed now)"],
     {"image_attention": "removed"}),
])  # fmt: skip
def test_other_settings_are_refused_and_change_nothing(whole, vlm, words, change):
    before = {path: path.read_bytes() for path in whole.iterdir()}
    refused(lambda: run(vlm, whole, **change), *words)
    assert {path: path.read_bytes() for path in whole.iterdir()} == before


def test_every_way_of_compressing_counts(tmp_path, vlm):
    first, second = (
        compress.Decoder(vlm.unembedding.weight.detach() * f, vlm.words) for f in (1.0, 1.5)
    )
    how = {"compress": 1, "decoder": first, "limit": 4}
    for _ in range(2):
        assert "compressed: method rle\n" in repr(run(vlm, tmp_path / "run", **how)), (
            "what is as always is not said"
        )
    for change in (
        {"shape": "regions"},
        {"pool": "first"},
        {"same": 2},
        {"positions": "renumbered"},
        {"lengths": "kept"},
        {"marks": "unicode"},
    ):
        ((name, value),) = change.items()
        said = refused(
            lambda change=change: run(vlm, tmp_path / "run", **how, **change),
            "compression (compress) (method rle",
        )
        assert f"{name} {value}" in said
    refused(
        lambda: run(vlm, tmp_path / "run", **{**how, "compress": 2}),
        "(method rle, same 1, shape rows, pool mean, ",
    )
    refused(
        lambda: run(vlm, tmp_path / "run", **{**how, "decoder": second}),
        "the visual decoder (not those of then)",
    )
    other = run(vlm, None, **how, positions="renumbered", shape="raster")
    assert "compressed: method rle, shape raster, positions renumbered\n" in repr(other)
    assert (
        other.settings["compress"]["positions"] == "renumbered"
        and other.removed >= run(vlm, None, **how).removed
    )
    with pytest.raises(
        TypeError,
        match="run takes no 'form'; what it hands on to compress.compressed is same, shape, pool",
    ):
        run(vlm, None, **how, form="rows")


def test_a_run_that_was_begun_under_a_methods_former_name_is_gone_on_with(tmp_path, vlm):
    how = {"compress": "tome-like", "keep": 0.5, "limit": 4}
    run(vlm, tmp_path / "run", **how)
    edited(
        tmp_path / "run" / "run.json",
        lambda settings: settings["compress"].update(method="similar"),
    )
    assert "compressed: method tome-like, keep 0.5\n" in repr(
        run(vlm, tmp_path / "run", **{**how, "compress": "similar"})
    )
    assert "compressed: method tome-like" in repr(benchmarks.load(tmp_path / "run"))


def every(n):
    """A way that keeps every n-th token."""

    def way(sight):
        chosen = range(len(sight.tokens))
        return [i if i % n == 0 else -1 for i in chosen]

    return way


def test_a_run_with_a_function_of_a_sight_is_gone_on_with_by_that_function_alone(tmp_path, vlm):
    out, how = tmp_path / "run", {"limit": 4}
    first = run(vlm, out, compress=every(2), **how)
    assert first.removed == 0.5 and first.settings["compress"]["method"].startswith(
        "every.<locals>.way "
    )
    (rows,) = out.glob("rows-*.jsonl")
    whole = rows.read_bytes()
    rows.write_bytes(whole[: len(whole) // 2])
    assert list(run(vlm, out, compress=every(2), **how).rows["answer"]) == list(
        first.rows["answer"]
    )
    assert rows.read_bytes() == whole
    refused(
        lambda: run(vlm, out, compress=every(3), **how),
        "compression (compress) (method every.<locals>.way ",
    )
    named = compress.Method("thin", every(2))
    assert run(vlm, None, compress=named, **how).settings["compress"]["method"] == "thin"
    with pytest.raises(
        ValueError,
        match="holds on to a Random, which no checksum can tell from another: .*out=None",
    ):
        run(vlm, tmp_path / "other", compress=every(random.Random(0)), **how)
    assert not (tmp_path / "other").exists()


# -- the identity of a run: what can change an answer, and nothing else
# --------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A folder with a small model, one with pictures, and that of a run on them."""
    from whatwhere.book.rehearsal.checkpoints import qwen2vl

    root = tmp_path_factory.mktemp("identity")
    qwen2vl(root / "m")
    tabletop.write(root / "data", "B", 2)
    asked(root / "m", root, root / "run")
    return root


def asked(model, root, out, **more):
    return run(model, out, "whatsup-b", data=root / "data", **{"limit": 6, **more})


def edited(path, change):
    """A JSON file with something in it changed."""
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def nudged(model, name, at):
    """One bit of one number of one tensor."""
    model.get_parameter(name).data.view(-1).view(torch.int32)[at] += 1


def reworded(folder):
    """A tokenizer whose pieces are all there, and which makes other ones of a text."""
    edited(
        folder / "tokenizer.json",
        lambda made: made.update(
            normalizer={"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "Lowercase"}]}
        ),
    )


def grown(folder):
    # which is a word, and now a piece of "fourth"
    token = {"id": 45, "content": "four", "normalized": True}
    token |= dict.fromkeys(("single_word", "lstrip", "rstrip", "special"), False)
    edited(folder / "tokenizer.json", lambda made: made["added_tokens"].append(token))


def swapped(folder):
    def swap(made):
        words = made["model"]["vocab"]
        words["red"], words["blue"] = words["blue"], words["red"]

    edited(folder / "tokenizer.json", swap)


# (which tensor, which of its numbers)
NUDGES = [(0, 0), (1, -1), (2, 7), (-1, -1), (-2, 0), (5, 1)]
IN_FILES = {
    "image processor": (
        lambda f: edited(
            f / "preprocessor_config.json", lambda p: p.update(image_mean=[0.4, 0.4, 0.4])
        ),
        "the image processor's settings",
    ),
    "normaliser": (reworded, "the tokenizer"),
    "added token": (grown, "the tokenizer"),
    "vocabulary": (swapped, "the tokenizer"),
    "template": (
        lambda f: (f / "chat_template.jinja").write_text(
            (f / "chat_template.jinja").read_text() + "!"
        ),
        "the chat template",
    ),
    "config": (
        lambda f: edited(f / "config.json", lambda c: c["text_config"].update(rms_norm_eps=1e-4)),
        "the model's config",
    ),
    "ends": (
        lambda f: edited(f / "generation_config.json", lambda g: g.update(eos_token_id=[2, 5])),
        "how answers are decoded",
    ),
}


@pytest.mark.parametrize("what", IN_FILES)
def test_whatever_in_a_checkpoints_files_can_change_an_answer_is_noticed(tmp_path, small, what):
    change, word = IN_FILES[what]
    folder = shutil.copytree(small / "m", tmp_path / "m")
    change(folder)
    refused(lambda: asked(folder, small, small / "run"), word)


def test_one_bit_of_one_weight_is_noticed_wherever_it_is(small):
    names = [name for name, _ in ww.load(small / "m", device="cpu").model.named_parameters()]
    for which, at in NUDGES:
        vlm = ww.load(small / "m", device="cpu")
        nudged(vlm.model, names[which], at)
        refused(
            lambda vlm=vlm: asked(vlm, small, small / "run"),
            "the model's weights (not those of then)",
        )


IN_MEMORY = {
    "size": (lambda v: setattr(v.image_processor, "size",
        {"shortest_edge": 64, "longest_edge": 2304}), "the image processor's"),
    "max_pixels": (lambda v: setattr(v.image_processor, "max_pixels", 64 * 16),
        "the image processor's"),
    "attention": (lambda v: v.model.set_attn_implementation("eager"), "attention (model sdpa"),
    "frequencies": (lambda v: v.adapter.rotary.inv_freq[-1:].mul_(1.001),
        "the rotary frequencies (not those of then)"),
    "lm frequencies": (lambda v: v.lm.rotary_emb.inv_freq.mul_(1.01), "the rotary frequencies"),
    "template": (lambda v: setattr(v.tokenizer, "chat_template", v.tokenizer.chat_template + "!"),
        "the chat template"),
    "added": (lambda v: v.tokenizer.add_tokens(["zebra"]), "the tokenizer"),
    "training": (lambda v: v.model.train(), "the model's config"),
}  # fmt: skip


@pytest.mark.parametrize("what", IN_MEMORY)
def test_whatever_of_a_loaded_model_can_change_an_answer_is_noticed(small, what):
    """For one the size of pictures: old answers came back, 1.0 in place of 0.28."""
    change, word = IN_MEMORY[what]
    vlm = ww.load(small / "m", device="cpu")
    change(vlm)
    refused(lambda: asked(vlm, small, small / "run"), word)


def test_precision_is_noticed(small):
    refused(
        lambda: asked(small / "m", small, small / "run", dtype="bfloat16"),
        "precision (dtype) (float32 then, bfloat16 now)",
    )
    usual = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        refused(
            lambda: asked(small / "m", small, small / "run"),
            "(float32 highest then, float32 medium now)",
        )
    finally:
        torch.set_float32_matmul_precision(usual)
    with torch.autocast("cpu", torch.bfloat16):
        refused(lambda: asked(small / "m", small, small / "run"), "autocast torch.bfloat16 now")


def test_the_papers_protocol_is_one_of_its_own(tmp_path, small):
    """Its words, its pixels, its ten tokens; and with it, all that a checkpoint asks for in
    decoding counts."""
    folder, out = shutil.copytree(small / "m", tmp_path / "m"), tmp_path / "run"
    found = asked(folder, small, out, protocol="paper")
    assert (
        found.rows["question"][0].strip().startswith("Please choose the best")
        and found.settings["max_new_tokens"] == 10
    )
    assert found.settings["decoding"][
        "greedy"
    ] != "plain" and "decoded greedily, by what else" in repr(found)
    assert (
        "who always says A" in found.scores and benchmarks.load(out).settings["protocol"] == "paper"
    )
    assert asked(folder, small, out, protocol="paper").complete
    refused(lambda: asked(folder, small, out), "the protocol (paper then, ours now)")
    edited(folder / "generation_config.json", lambda asks: asks.update(repetition_penalty=1.05))
    refused(lambda: asked(folder, small, out, protocol="paper"), "how answers are decoded (greedy ")
    vlm, seen = ww.load(small / "m", device="cpu"), []
    had, pixels = vlm.image_processor.size, vlm.adapter.pixels
    vlm.adapter.pixels = lambda images: seen.append(pixels(images)) or seen[-1]
    asked(vlm, small, None, protocol="paper", limit=4)
    assert {
        256 <= rows * columns <= 1280 for each in seen for rows, columns in vlm.adapter.grids(each)
    } == {True}
    assert vlm.image_processor.size is had
    square = ww.load("toy-llava", device="cpu")
    before = str(square.image_processor.to_dict())
    with benchmarks.paper.bounded(square):  # whose pictures are all of one size
        assert str(square.image_processor.to_dict()) == before


def test_words_and_options_are_noticed(tmp_path, small):
    data = shutil.copytree(small / "data", tmp_path / "data")
    edited(
        data / "controlled_clevr_dataset.json", lambda rows: rows[0]["caption_options"].reverse()
    )
    refused(
        lambda: run(small / "m", small / "run", "whatsup-b", data=data, limit=6),
        "the questions, options or right answers",
    )


def test_a_picture_that_was_asked_about_is_noticed_and_one_that_was_not_may_be_mended(
    tmp_path, small
):
    data, out = (
        shutil.copytree(small / "data", tmp_path / "data"),
        shutil.copytree(small / "run", tmp_path / "run"),
    )
    pictures = [
        data / Path(row["image_path"]).relative_to("data")
        for row in json.loads((data / "controlled_clevr_dataset.json").read_text())
    ]
    again = lambda: run(small / "m", out, "whatsup-b", data=data, limit=6)  # noqa: E731
    ids = list(benchmarks.load(out).rows["id"])
    path = pictures[int(ids[1].rpartition("/")[2])]
    whole = path.read_bytes()
    path.write_bytes(whole + b"\0")
    with pytest.raises(
        ValueError,
        match=f"picture of question '{ids[1]}' is not the one that was answered about.*Name "
        "another",
    ):
        again()
    kept = (out / "rows-0.jsonl").read_bytes()
    (out / "rows-0.jsonl").write_bytes(kept[: kept.index(b"\n") + 1])
    again()
    path.write_bytes(whole)
    with pytest.raises(ValueError, match=f"picture of question '{ids[1]}' is not the one"):
        again()
    row = json.loads(kept.splitlines()[0])
    assert len(row.pop("picture")) == 16
    (out / "rows-0.jsonl").write_bytes(
        json.dumps(row).encode() + b"\n" + kept[kept.index(b"\n") + 1 :]
    )
    assert again().complete, "rows of an earlier version say nothing of their pictures"


def test_versions_are_noticed_by_their_first_two_numbers_and_it_is_said_what_to_install(
    tmp_path, small
):
    for name, number, counts in (
        ("torch", "2.1.9", True),
        ("tokenizers", "0.1.0", True),
        ("pillow", "9.5.0", True),
        ("transformers", "5.23.99", False),
    ):
        out = shutil.copytree(small / "run", tmp_path / name)
        if name == "transformers":
            number = (
                ".".join(
                    json.loads((out / "run.json").read_text())["versions"][name].split(".")[:2]
                )
                + ".99"
            )
        edited(
            out / "run.json",
            lambda settings, name=name, number=number: settings["versions"].update({name: number}),
        )
        if not counts:
            assert asked(small / "m", small, out).complete
            continue
        said = refused(
            lambda out=out: asked(small / "m", small, out),
            f"the versions of libraries ({name} {number} then, ",
        )
        assert f"or install those of then (pip install {name}=={number})" in said


def test_what_cannot_change_an_answer_is_not_noticed(tmp_path, small, monkeypatch):
    """Another spelling, a copy, a moved folder, another device's name, other labels, other defaults
    that do not count."""
    monkeypatch.chdir(small)
    before = (
        (small / "run" / "run.json").read_bytes(),
        (small / "run" / "rows-0.jsonl").read_bytes(),
    )
    copy = shutil.copytree(small / "m", tmp_path / "another name")
    (copy / "README.md").write_text("A card.")
    edited(
        copy / "config.json",
        lambda config: config.update(whatwhere={"organism": False}, transformers_version="5.4.0"),
    )
    edited(
        copy / "generation_config.json",
        lambda asks: asks.update(repetition_penalty=1.05, do_sample=True, temperature=0.1),
    )
    for model in (
        "m",
        "m/",
        "./m",
        "../" + small.name + "/m",
        str(small / "m"),
        small / "m",
        copy,
        str(copy) + "/",
    ):
        assert asked(model, small, small / "run").complete, model
    data = shutil.copytree(small / "data", tmp_path / "elsewhere")
    vlm = ww.load("m", device="cpu")
    vlm.name = "another"
    # of one call, which the tokenizer remembers
    vlm.tokenizer(["a", "b c"], padding=True, truncation=True, max_length=3)
    vlm.answer(ww.world.scene(1).image, "what ?", max_new_tokens=3)
    vlm.lm.rotary_emb.inv_freq.mul_(1 + 2**-23)  # as another device may compute them
    moved = shutil.copytree(small / "run", tmp_path / "moved")
    assert run(vlm, moved, "whatsup-b", data=data, limit=6).complete
    edited(
        moved / "run.json",
        lambda settings: settings.update(device="cuda:7", model="x", revision="abc", limit=None),
    )
    assert run(vlm, moved, "whatsup-b", data=data, limit=6).complete
    assert (
        (small / "run" / "run.json").read_bytes(),
        (small / "run" / "rows-0.jsonl").read_bytes(),
    ) == before


def test_a_run_of_an_earlier_version_is_kept_and_not_gone_on_with(tmp_path, small):
    out = shutil.copytree(small / "run", tmp_path / "run")
    old = (
        "benchmark",
        "model",
        "weights",
        "dtype",
        "scale",
        "compress",
        "decoder",
        "blind",
        "limit",
        "seed",
        "batch_size",
        "max_new_tokens",
        "revision",
        "questions",
        "data",
    )
    edited(
        out / "run.json", lambda settings: [settings.pop(name) for name in set(settings) - set(old)]
    )
    before = {path: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(
        ValueError,
        match="an earlier version of this package began, which did not write .*image proc",
    ) as said:
        asked(small / "m", small, out)
    assert (
        "Its answers are all there, for `benchmarks.load` and `whatwhere table`; name another "
        "folder" in str(said.value)
    )
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    assert benchmarks.load(out).complete and len(benchmarks.compare([out])) == 1


def test_a_model_that_is_changed_from_outside_is_recorded_as_it_is(tmp_path, small, vlm):
    """The sigmoid's form, applied by hand, was recorded as unscaled, and shown beside the paper's
    unscaled figure."""
    with ww.rope.scaled(vlm, 99, k=40, c=0.6):
        outside = run(vlm, tmp_path / "run", limit=4)
        with pytest.raises(ValueError, match="scaled already"):
            run(vlm, None, limit=4, scale=(99, 8))
    assert outside.settings["scale"] == {
        "alpha": 99.0,
        "k": 40.0,
        "c": 0.6,
    } and "alpha 99, k 40, c 0.6" in repr(outside)
    inside = run(vlm, tmp_path / "run", limit=4, scale={"alpha": 99, "k": 40, "c": 0.6})
    assert inside.settings == outside.settings, "one identity"
    refused(
        lambda: run(vlm, tmp_path / "run", limit=4, scale=(99, 8)),
        "(alpha 99, k 40, c 0.6 then, alpha 99, p 8 now)",
    )
    with compress.compressed(vlm, "random", keep=0.5):
        assert any("Shortener" in name for name in run(vlm, None, limit=4).settings["hooks"])
        with pytest.raises(
            ValueError,
            match="is being changed by .*Shortener.*a folder could not say what that does",
        ):
            run(vlm, tmp_path / "other", limit=4)
    assert "hooks" not in run(vlm, None, limit=4).settings and not (tmp_path / "other").exists()


@pytest.mark.parametrize("wrong, words", [
    ({"compress": "randm", "keep": 0.5}, "compress is rle, rle-drop, rle-drop-both, random"),
    ({"compress": "random"}, "'random' needs keep="),
    ({"compress": 1}, "give decoder="),
    ({"compress": len, "keep": 3}, "takes neither decoder nor keep"),
    ({"keep": 0.5}, "say which by compress"), ({"decoder": "folder"}, "say which by compress"),
    ({"shape": "rows"}, "say which by compress"),
    ({"compress": "random", "keep": 3, "pool": "best"}, "No choice of pool 'best'"),
    ({"protocol": "lmms"}, "no protocol 'lmms'; there are ours and paper"),
    ({"protocol": "paper"}, "has no protocol for"),
    ({"decoder": "nowhere", "compress": 1}, "holds no decoder"),
    ({"compress": "grid", "keep": "half"}, "keep is a whole number"),
    ({"compress": "random", "keep": 1.5}, "keep is a whole number"),
    ({"scale": (1, 2, 3)}, "scale is two numbers"),
    ({"scale": {"alpha": 9}}, "scale is two numbers"),
    ({"scale": {"alpha": 9, "k": "4", "c": 1}}, "scale is two numbers"),
    ({"scale": 5}, "scale is two numbers"), ({"scale": ("a", "b")}, "scale is two numbers"),
    ({"scale": (float("nan"), 8)}, "alpha|finite|number"),
    ({"batch_size": 0}, "batch_size is a whole number"),
    ({"batch_size": 2.0}, "batch_size is a whole number"),
    ({"limit": 0}, "limit is a whole number"),
    ({"seed": -1}, "seed is a whole number"),
    ({"depth": -1}, "depth is a whole number from 0 up"),
    ({"depth": 1.5}, "depth is a whole number from 0 up"),
    ({"depth": 7}, "depth is a whole number from 0 to 6 in this model"),
    ({"without_positions": "some"}, "without_positions is 'all', or ViT blocks"),
    ({"without_positions": "4-2"}, "without_positions is 'all', or ViT blocks"),
    ({"without_positions": [0]}, "without_positions is 'all', or ViT blocks"),
    ({"without_positions": []}, "without_positions is 'all', or ViT blocks"),
    ({"without_positions": True}, "without_positions is 'all', or ViT blocks"),
    ({"without_positions": "5-7"}, "blocks are counted from 1 to 6 here; got 7"),
    ({"depth": 2, "without_positions": 3}, "blocks are counted from 1 to 2 here; got 3"),
    ({"shuffle": "order"}, "shuffle is 'tokens' or 'positions'"),
    ({"shuffle": "tokens", "compress": "random", "keep": 0.5}, "either shuffled or compressed"),
    ({"image_attention": "all"}, "image_attention is 'bidirectional' or 'removed'"),
    ({"image_attention": "removed", "compress": "random", "keep": 0.5}, "a compression drops some"),
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
            with pytest.raises(
                ValueError, match="run.json' (is damaged|holds no settings).*delete the folder"
            ):
                again()
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot be a folder for answers.*name another"):
        run(vlm, tmp_path / "file")
    with pytest.raises(OSError, match="cannot be a folder for answers"):
        run(vlm, tmp_path / "file" / "below")


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16, torch.uint8, torch.float64, torch.bool]
)
def test_a_checksum_is_of_every_number_in_its_place(dtype):
    values = (torch.arange(3 * identity.PIECE + 5) * 7 % 251 > 100).to(dtype)
    first, n = identity.checksum({"w": values}), len(values)
    assert (
        first
        == identity.checksum({"w": values.clone()})
        == identity.checksum({"w": values[None].mT.contiguous()[:, 0]})
    )
    for at in (0, 1, 2, 3, identity.PIECE - 1, identity.PIECE, n // 2, n - 2, n - 1):
        other = values.clone()
        other[at] = not other[at]
        assert identity.checksum({"w": other}) != first, at
        swapped = values.clone()  # two numbers in each other's place
        one, two = at, next(i % n for i in range(at + 1, at + n) if values[i % n] != values[at])
        swapped[[one, two]] = values[[two, one]]
        assert identity.checksum({"w": swapped}) != first, at
    for other in ({"v": values}, {"w": values[None]}, {"w": values[:-1]}):
        assert identity.checksum(other) != first
    assert identity.checksum({"w": values[:0]}) == identity.checksum({"w": values[:0]}), (
        "and of none"
    )


def test_a_checksum_is_the_same_by_torch_as_by_numpy(monkeypatch):
    """On a GPU it is torch that counts."""
    values = {
        "w": torch.randn(identity.PIECE + 77),
        "half": torch.randn(1001).bfloat16(),
        "b": torch.arange(6).reshape(2, 3).mT,
    }
    due = identity.checksum(values)
    monkeypatch.setattr(identity, "on_the_cpu", lambda tensor: False)
    assert identity.checksum(values) == due


def test_weights_that_are_not_in_memory_have_no_identity():
    with pytest.raises(
        ValueError,
        match=r"'w' is not in memory \(offloaded\), so that it cannot be said which model's",
    ):
        identity.checksum({"w": torch.empty(3, device="meta")})


# -- several processes
# --------------------------------------------------------------------------------------------------


def test_two_processes_of_accelerate_give_the_rows_and_the_table_of_one(
    launched, whole, capsys, vlm
):
    root, processes = launched
    assert processes["two"].wait(180) == 0, (root / "two.log").read_text()
    assert lines(root / "two") == lines(whole)
    each = [path.read_bytes().count(b"\n") for path in sorted((root / "two").glob("rows-*.jsonl"))]
    assert each == [N // 2, N // 2]
    assert main([*BENCH, str(root / "two")]) == 0, "one process finds it finished"
    table = capsys.readouterr().out
    assert "sets of four" in table and table in (root / "two.log").read_text(), (
        "said once, by the first of the two"
    )


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
    with pytest.raises(
        ValueError,
        match=f"{N // 2} questions are not answered.*another process has died. Run the same "
        "command",
    ):
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
        with pytest.raises(
            ValueError, match=f"'{path}' is being written by another run; wait for its end"
        ):
            run(vlm, out)
        assert path.stat().st_size == 500, "what the other is writing is not cut"
    run(vlm, out)
    assert lines(out) == lines(whole)


# -- too little disk, too little memory
# ----------------------------------------------------------------------------------


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
            OSError,
            match=r"rows-0.jsonl' could not be written \(No space left.*before these are safe: "
            r"make room",
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
    assert (
        "could not be written (File too large). The rows before these are safe" in log.read_text()
    )
    assert "Traceback" not in log.read_text()
    assert size(out) == most and SIZE <= len(benchmarks.load(out).rows) < N
    run(vlm, out)
    assert lines(out) == lines(whole)


def test_settings_that_cannot_be_written(tmp_path, monkeypatch, vlm):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(running, "write", full)
    with pytest.raises(
        OSError, match=r"cannot be a folder for answers \(No space left on device\)"
    ):
        run(vlm, tmp_path / "run")


class Small:
    """A model's `answer` that has memory for so many questions at once."""

    def __init__(self, vlm, most):
        self.usual, self.most, self.tried, self.left = vlm.answer, most, [], []

    def __call__(self, pictures, questions, *rest):
        self.tried.append(len(pictures))
        assert all(ref() is None for ref in self.left), (
            "what a failed attempt held is free before the next one"
        )
        if len(pictures) > self.most:
            tensor = torch.zeros(3)  # noqa: F841
            self.left.append(weakref.ref(tensor))
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return self.usual(pictures, questions, *rest)


@pytest.mark.parametrize("most, due", [(3, [4, 2, 2]), (1, [4, 2, 1, 1, 1, 1])])
def test_without_memory_for_a_batch_it_is_halved_and_the_rows_are_the_same(
    tmp_path, whole, vlm, monkeypatch, most, due
):
    small = Small(vlm, most)
    monkeypatch.setattr(vlm, "answer", small)
    with pytest.warns(UserWarning, match="Out of memory with 4 questions at once: going on with 2"):
        run(vlm, tmp_path / "run")
    assert small.tried[: len(due)] == due and max(small.tried[len(due) :]) == due[-1], (
        "and it is not tried again"
    )
    assert lines(tmp_path / "run") == lines(whole)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 "
            "bytes."
        ),
        MemoryError(),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("MPS backend out of memory (MPS allocated: 18.00 GB)"),
    ],
)
def test_every_way_of_saying_that_memory_is_full_is_understood(error):
    assert running.out_of_memory(error) and not running.out_of_memory(ValueError(str(error)))


def test_one_question_that_does_not_fit_is_an_error_and_the_others_are_kept(
    tmp_path, whole, vlm, monkeypatch
):
    usual, calls = vlm.answer, []

    def fails_later(*some):
        calls.append(some)
        if len(calls) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return usual(*some)

    out = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(vlm, "answer", fails_later)
        with (
            pytest.warns(UserWarning),
            pytest.raises(MemoryError, match=r"too small for even one question \('.*'\).*is kept"),
        ):
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


# -- compressed, scaled, and pictures of one's own
# -----------------------------------------------------------------------


@pytest.mark.parametrize("cut", [0, 3, 9])
def test_a_random_compression_draws_the_same_however_it_is_interrupted(tmp_path, folders, cut):
    """On random weights, whose answers are others where other tokens are kept."""
    vlm = ww.load(folders / "qwen2vl", device="cpu", dtype="float32")
    how = {"compress": "random", "keep": 0.5, "limit": 12}
    plain = run(vlm, tmp_path / "plain", **how)
    asked, _ = benchmarks.items("tabletop-b", limit=12)
    alone = running.Processes(0, 1, None)
    how_else = {"which": "random", "keep": 0.5}
    other = running.Runner(vlm, asked, SIZE, 16, how_else, seed=1).run(None, alone, progress=False)
    assert [row["answer"] for row in other] != list(plain.rows["answer"]), (
        "another seed draws others"
    )
    assert (
        plain.removed == pytest.approx(0.5, abs=0.01)
        and (plain.rows["given"] > plain.rows["kept"]).all()
    )
    out = shutil.copytree(tmp_path / "plain", tmp_path / "cut")
    rows = (out / "rows-0.jsonl").read_bytes().splitlines(keepends=True)
    (out / "rows-0.jsonl").write_bytes(b"".join(rows[:cut]) + rows[cut][:30])
    run(vlm, out, **how)
    assert lines(out) == lines(tmp_path / "plain")
    assert not compress.within.at_work(vlm)


def test_a_scaled_run_leaves_the_model_as_it_was(tmp_path, vlm, whole):
    scaled = run(vlm, tmp_path / "scaled", scale=(99, 8))
    assert scaled.settings["scale"] == {
        "alpha": 99.0,
        "p": 8.0,
    } and "scaled: alpha 99, p 8" in repr(scaled)
    run(vlm, tmp_path / "plain")
    assert lines(tmp_path / "plain") == lines(whole)
    gain = benchmarks.gain(benchmarks.load(whole), scaled)
    assert gain.value == pytest.approx(scaled.accuracy - benchmarks.load(whole).accuracy)


@pytest.mark.parametrize("asked, label", [
    ({"without_positions": "all"}, "no positions in the ViT"),
    ({"without_positions": "1-2,4", "depth": 4}, "ViT depth 4, no positions in ViT blocks 1, 2, 4"),
    ({"without_positions": (4, 2, 1), "depth": 5, "shuffle": "positions"},
     "ViT depth 5, no positions in ViT blocks 1, 2, 4, shuffled positions"),
    ({"shuffle": "tokens", "image_attention": "bidirectional"},
     "shuffled tokens, image attention bidirectional"),
    ({"image_attention": "removed"}, "image attention removed"),
])  # fmt: skip
def test_a_run_under_a_condition_is_of_the_model_under_it_and_says_so(
    tmp_path, vlm, whole, asked, label
):
    weights, depth = identity.checksum(vlm.model.state_dict()), vlm.last_depth
    result = run(vlm, tmp_path / "run", **asked)
    assert f"tabletop-b, under: {label}\n" in repr(result)
    settings = json.loads((tmp_path / "run" / running.SETTINGS).read_text())
    blocks = settings["without_positions"]
    assert blocks in (None, "all", [1, 2, 4]) and "hooks" not in settings
    table = benchmarks.compare([whole, tmp_path / "run"])
    assert table["conditions"].tolist() == ["", label]
    assert (identity.checksum(vlm.model.state_dict()), vlm.last_depth) == (weights, depth)
    items, _ = benchmarks.items("tabletop-b", limit=N)
    with ExitStack() as stack:
        if asked.get("depth"):
            stack.enter_context(conditions.truncated(vlm, asked["depth"]))
        if blocks:
            named = None if blocks == "all" else blocks
            stack.enter_context(conditions.without_positions(vlm, named))
        if asked.get("shuffle"):
            stack.enter_context(conditions.shuffled(vlm, asked["shuffle"], 0))
        if asked.get("image_attention"):
            stack.enter_context(conditions.image_attention(vlm, asked["image_attention"]))
        batches = [items[n : n + SIZE] for n in range(0, N, SIZE)]
        expected = [
            answer
            for batch in batches
            for answer in vlm.answer([i.image for i in batch], [i.question for i in batch], 16)
        ]
    assert list(result.rows["answer"]) == expected
    # one condition however it is said
    run(vlm, tmp_path / "run", **{**asked, "without_positions": blocks})


def test_a_run_that_was_begun_before_there_were_conditions_is_gone_on_with(tmp_path, vlm, whole):
    out = shutil.copytree(whole, tmp_path / "run")
    names = ("depth", "without_positions", "shuffle", "image_attention")
    edited(out / running.SETTINGS, lambda settings: [settings.pop(name) for name in names])
    assert benchmarks.load(out).settings["depth"] is None
    for path in out.glob("rows-*.jsonl"):
        path.write_bytes(path.read_bytes()[:-40])
    assert "under" not in repr(run(vlm, out))
    assert lines(out) == lines(whole)
    refused(
        lambda: run(vlm, out, shuffle="tokens"), "is shuffled (shuffle) (none then, tokens now)"
    )


@pytest.mark.parametrize("name, value", [
    ("depth", "3"), ("depth", True), ("without_positions", "some"), ("without_positions", [0]),
    ("without_positions", 3), ("shuffle", "all"), ("shuffle", True),
    ("image_attention", "none"),
])  # fmt: skip
def test_conditions_that_are_none_are_no_settings(tmp_path, whole, name, value):
    out = shutil.copytree(whole, tmp_path / "run")
    edited(out / running.SETTINGS, lambda settings: settings.update({name: value}))
    with pytest.raises(ValueError, match="holds no settings"):
        benchmarks.load(out)


def test_a_model_that_is_under_a_condition_already_is_not_taken_for_a_whole_one(tmp_path, vlm):
    for condition in (
        conditions.truncated(vlm, 2),
        conditions.without_positions(vlm),
        conditions.shuffled(vlm, "tokens"),
        conditions.image_attention(vlm, "removed"),
    ):
        with condition, pytest.raises(ValueError, match="is being changed by whatwhere"):
            run(vlm, tmp_path / "run", limit=4)
    assert not (tmp_path / "run").exists()


def test_a_blind_run_shows_pictures_of_other_scenes_and_is_not_mixed_with_one_that_sees(
    tmp_path, vlm, whole
):
    asked, _ = benchmarks.items("tabletop-b", limit=N)
    for seed in range(3):
        shown = blinded(asked, seed)
        assert [item.row("") for item in shown] == [item.row("") for item in asked]
        whose = {id(item.image): item.group for item in asked}
        assert all(whose[id(item.image)] != item.group for item in shown)
    with pytest.raises(ValueError, match="take more of them"):
        blinded(asked[:4], 0)
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
    n = next(
        n
        for n, each in enumerate(json.loads((data / "controlled_clevr_dataset.json").read_text()))
        if picture.name in each["image_path"]
    )
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


# -- the command
# --------------------------------------------------------------------------------------------------


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


def test_a_run_with_bounded_pixels(capsys, tmp_path, vlm):
    with pytest.raises(ValueError, match="loaded has its bound already: set vlm.max_pixels"):
        benchmarks.run(vlm, "tabletop-b", max_pixels=18**2)
    bench = "bench", "toy-qwen2vl", "tabletop-b", "--limit", "4", "--dtype", "float32"
    said(capsys, 0, *bench, "--max-pixels", 18**2, "--out", tmp_path / "one token")
    small = ww.load("toy-qwen2vl", max_pixels=18**2)
    assert small.patch_grid(ww.world.scene(7).image) == (1, 1)
    assert benchmarks.load(tmp_path / "one token").rows.equals(
        benchmarks.run(small, "tabletop-b", limit=4).rows
    )
    refused = (
        ("toy-qwen2vl", 323, "is 324 pixels"),
        ("toy-qwen2vl", 0, "not 0"),
        ("toy-llava", 999, "at one size"),
    )
    for model, pixels, due in refused:
        assert due in said(
            capsys,
            1,
            *bench[:1],
            model,
            *bench[2:],
            "--max-pixels",
            pixels,
            "--out",
            tmp_path / "none",
        )


def test_the_command_prints_one_table_of_several_runs(capsys, whole, tmp_path, vlm):
    run(vlm, tmp_path / "half", compress="random", keep=0.5, limit=8)
    table = said(capsys, 0, "table", whole, tmp_path / "half").splitlines()
    assert len(table) == 3
    for line, due in zip(
        table,
        (["model", "95% interval", "paper"], ["toy-qwen2vl", "tabletop-b"], ["random", "50.0"]),
    ):
        assert all(each in line for each in due), line


@pytest.mark.parametrize("arguments, words", [
    (["bench", "toy-qwen2vl", "whatsup-c"], "There is no benchmark 'whatsup-c'"),
    (["bench", "no-model", "tabletop-b", "--limit", "4"], "'no-model' is not a model's name"),
    (["bench", "toy-qwen2vl", "tabletop-b", "--limit", "0"], "limit is a whole number"),
    (["bench", "toy-qwen2vl", "tabletop-b", "--batch-size", "0"], "batch_size is a whole number"),
    (["bench", "toy-qwen2vl", "pope", "--data", "/nowhere"], "There is no folder '/nowhere'"),
    (["bench", "toy-qwen2vl", "tabletop-b", "--keep", "0.5"], "say which by compress"),
    (["bench", "toy-qwen2vl", "tabletop-b", "--compress", "random", "--keep", "2.5"],
     "a whole number of visual tokens"),
    (["bench", "toy-qwen2vl", "tabletop-b", "--compress", "random", "--keep", "inf"],
     "a whole number of visual tokens"),
    (["bench", "toy-qwen2vl", "tabletop-b", "--compress", "²", "--keep", "2"],
     "compress is rle, rle-drop, "),
    (["bench", "toy-qwen2vl", "tabletop-b", "--revision", "abc"],
     "takes neither data nor a revision"),
    (["table", "/nowhere"], "'/nowhere' holds no run"),
    (["table", "nowhere/*"], "'nowhere/*' holds no run"),
    (["bench", "toy-qwen2vl", "tabletop-b", "--scale", "9", "2", "--sigmoid", "9", "4", "1"],
     "two forms of one thing"),
    (["bench", "toy-qwen2vl", "tabletop-b", "--protocol", "paper"],
     "The paper has no protocol for tabletop-b"),
    (["bench", "toy-qwen2vl", "tabletop-b", "--pool", "first"], "say which by compress"),
    (["bench", "toy-qwen2vl", "tabletop-b", "--vit-depth", "7"],
     "depth is a whole number from 0 to 6"),
    (["bench", "toy-qwen2vl", "tabletop-b", "--without-positions", "none"],
     "without_positions is 'all', or ViT blocks"),
    (["bench", "toy-llava", "tabletop-b", "--without-positions", "1-2"],
     "has a table of positions, read once before the first block"),
    (["bench", "toy-qwen2vl", "tabletop-b", "--shuffle", "words"], "shuffle is 'tokens' or"),
    (["distil", "toy-qwen2vl", ".", "--limit", "0", "--out", "x"],
     "--limit is a whole number from 1 up"),
])  # fmt: skip
def test_the_command_says_in_a_sentence_what_is_wrong(
    capsys, tmp_path, monkeypatch, arguments, words
):
    monkeypatch.chdir(tmp_path)
    err = said(capsys, 1, *arguments)
    assert err.startswith("whatwhere: ") and words in err and err.count("\n") == 1
    assert not any(tmp_path.iterdir()), "and leaves nothing behind"


def test_a_wrong_benchmark_is_found_before_a_model_is_loaded(monkeypatch):
    monkeypatch.setattr(ww.loading, "load", lambda *_, **__: pytest.fail("a model was loaded"))
    for wrong in (
        {"benchmark": "whatsup-c"},
        {"benchmark": "tabletop-b", "limit": 0},
        {"benchmark": "pope", "data": "/nowhere"},
    ):
        with pytest.raises((ValueError, FileNotFoundError)):
            benchmarks.run("toy-qwen2vl", **wrong)


def test_the_command_names_a_folder_by_what_it_does(capsys, tmp_path, monkeypatch):
    asked = {}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        benchmarks, "run", lambda model, benchmark, **more: asked.update(more) or "the result"
    )
    printed = said(
        capsys, 0, *BENCH[:5], "--compress", "grid", "--keep", "0.5", "--scale", "99", "8"
    )
    due = Path(f"results/toy-qwen2vl-tabletop-b-scaled-99-8-compressed-grid-0.5-{N}")
    assert printed == f"the result\nanswers: {due}\n"
    assert (asked["compress"], asked["keep"], asked["scale"]) == ("grid", 0.5, [99.0, 8.0])
    said(capsys, 0, *BENCH[:3], "--compress", "2", "--decoder", "d")
    assert (asked["compress"], asked["keep"], asked["decoder"]) == (2, None, "d")
    said(capsys, 0, *BENCH[:3], "--compress", "fastv-rank", "--keep", "32")
    assert asked["keep"] == 32 and isinstance(asked["keep"], int) and asked["protocol"] == "ours"
    more = (
        "--sigmoid 99 40 0.6 --protocol paper --compress 1 --decoder d --positions "
        "renumbered --shape raster"
    )
    printed = said(
        capsys,
        0,
        *BENCH[:3],
        *more.split(),
        *"--pool random --lengths kept --same 2 --marks unicode".split(),
    )
    due = {
        "positions": "renumbered",
        "shape": "raster",
        "pool": "random",
        "lengths": "kept",
        "same": 2,
        "marks": "unicode",
        "protocol": "paper",
    }
    assert {name: asked[name] for name in due} == due and asked["scale"] == {
        "alpha": 99,
        "k": 40,
        "c": 0.6,
    }
    ways = "shape-raster-pool-random-positions-renumbered-lengths-kept-same-2-marks-unicode"
    assert (
        str(Path(f"toy-qwen2vl-tabletop-b-sigmoid-99-40-0.6-compressed-1-{ways}-paper")) in printed
    )
    under = "--vit-depth 0 --without-positions 1-3,6 --shuffle positions --image-attention removed"
    printed = said(capsys, 0, *BENCH[:3], *under.split())
    due = {
        "depth": 0, "without_positions": "1-3,6", "shuffle": "positions",
        "image_attention": "removed",
    }  # fmt: skip
    assert {name: asked[name] for name in due} == due
    name = (
        "toy-qwen2vl-tabletop-b-depth-0-without-positions-1-3,6-shuffled-positions"
        "-image-attention-removed"
    )
    assert printed.endswith(f"{Path('results') / name}\n")


def test_a_pattern_that_the_shell_left_as_it_is_means_all_runs(
    capsys, whole, tmp_path, monkeypatch
):
    for name in ("one", "two"):
        shutil.copytree(whole, tmp_path / "results" / name)
    (tmp_path / "results" / "notes.txt").write_text("no run")
    monkeypatch.chdir(tmp_path)
    table = said(capsys, 0, "table", "results/*").splitlines()
    assert len(table) == 3 and table[1].endswith("one") and table[2].endswith("two")
    shutil.copytree(whole, tmp_path / "odd[1]")
    assert said(capsys, 0, "table", "odd[1]").splitlines()[1].endswith("odd[1]"), (
        "a folder that is called like a pattern"
    )


@pytest.mark.parametrize("codec", ["cp1252", "ascii"])
def test_a_terminal_that_lacks_a_character_is_no_reason_to_fail(
    tmp_path, whole, monkeypatch, codec
):
    """A console on Windows often knows 256 characters; 日本 is not among them."""
    out = shutil.copytree(whole, tmp_path / "日本-α")
    for arguments, code in (
        ([*BENCH, str(out)], 0),
        (["table", str(out)], 0),
        (["table", "/日本"], 1),
    ):
        streams = [TextIOWrapper(BytesIO(), encoding=codec) for _ in range(2)]
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stdout", streams[0])
            patched.setattr(sys, "stderr", streams[1])
            assert main(arguments) == code
        for stream in streams:
            stream.flush()
        said = streams[code].buffer.getvalue()
        assert b"\\u65e5\\u672c" in said and (code or b"tabletop-b" in said)


def test_distil_skips_what_is_no_picture_and_says_so(capsys, tmp_path, monkeypatch):
    """One bad file among thousands ended it; so did the ._x.jpg that macOS writes beside each
    x.jpg."""
    pictures, taught = tmp_path / "pictures", []
    (pictures / ".thumbnails").mkdir(parents=True)
    for n in range(4):
        ww.world.scene(n).image.save(pictures / f"{n}.jpg")
    for name in ("._0.jpg", ".thumbnails/1.jpg", ".hidden.png"):
        (pictures / name).write_bytes(b"Mac OS X")
    (pictures / "bad.jpg").write_bytes((pictures / "0.jpg").read_bytes()[:400])
    (pictures / "empty.png").write_bytes(b"")
    ww.images.read(pictures / "1.jpg").resize((900, 2)).save(pictures / "line.png")
    monkeypatch.setattr(
        compress,
        "distil",
        lambda vlm, paths, *_, **__: taught.append([path.name for path in paths]),
    )
    command = ["distil", "toy-qwen2vl", str(pictures), "--out", str(tmp_path / "decoder")]
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert taught == [["0.jpg", "1.jpg", "2.jpg", "3.jpg"]]
    assert "taught by 4 pictures (3 that could not be read were skipped)" in out
    skipped = [line for line in err.splitlines() if line.startswith("skipped: ")]
    assert (
        len(skipped) == 3
        and [name in line for name, line in zip(("bad.jpg", "empty.png", "900"), skipped)]
        == [True] * 3
    )
    assert main([*command, "--limit", "2"]) == 0 and taught[1] == ["0.jpg", "1.jpg"]
    for path in pictures.glob("[0-9].jpg"):
        path.write_bytes(b"none")
    assert main(command) == 1 and "None of the 7 pictures in" in capsys.readouterr().err


@pytest.mark.parametrize("error, code, words", [
    (KeyboardInterrupt(), 130, "Interrupted. What was answered is kept"),
    (MemoryError("No room."), 1, "whatwhere: No room."),
    (ConnectionError("No hub."), 1, "whatwhere: No hub."),
    (ImportError("No pyarrow."), 1, "whatwhere: No pyarrow."),
])  # fmt: skip
def test_how_the_command_ends(capsys, tmp_path, monkeypatch, error, code, words):
    def failing(*_, **__):
        raise error

    monkeypatch.setattr(benchmarks, "run", failing)
    assert words in said(capsys, code, *BENCH, tmp_path / "run")


def test_a_command_that_is_none_ends_with_two(capsys):
    for arguments in (
        [],
        ["bench"],
        ["bench", "toy-qwen2vl"],
        ["table"],
        ["other"],
        [*BENCH, "x", "--limit", "many"],
    ):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2 and "usage: whatwhere" in capsys.readouterr().err
