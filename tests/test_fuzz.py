"""Whatever lies in a file, it is read as what it is, or refused in a sentence: ten thousand damaged
ones of every kind."""

import copy
import json
import math
import os
import re
import shutil
import signal
import struct
from contextlib import contextmanager
from functools import partial
from io import BytesIO, StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import whatwhere as ww
from test_benchmarks import FILES, PARQUETS, WRITERS
from whatwhere import benchmarks, compress, hub, images, stats, templates
from whatwhere.benchmarks.item import is_row
from whatwhere.book import ledger
from whatwhere.book.training import Stage, build, checkpoints, scaling_study, stages
from whatwhere.book.training.towers import Tower

pytestmark = [
    pytest.mark.usefixtures("one_thread", "the_same_every_time"),
    pytest.mark.filterwarnings("ignore"),
]
ROOT = Path(__file__).parents[1]
LONGEST = 30  # seconds that one file may take
STEADY = settings(
    derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)

# of each share: a short run by default, all of it each night
PART = float(os.environ.get("WHATWHERE_FUZZ", 0.1))

# {what is damaged: (how many files there are of it, how often each is damaged anew)}
SHARES = {
    "pictures": (20, 210), "questions": (len(FILES), 280), "columns": (len(PARQUETS), 100),
    "answers": (7, 130), "claims": (1, 1000), "notes": (3, 200), "checkpoints": (14, 25),
    "decoders": (4, 60), "stages": (2, 60),
}  # fmt: skip


# -- damage
# --------------------------------------------------------------------------------------------------

DEEP, LONG = "@deep@", "@long@"  # 100,000 lists in each other, and a number of 5,000 digits
ODD = (
    None, True, False, 0, 1, -1, 3, 1.5, math.nan, math.inf, -math.inf, 1e308, 10**30, 10**400,
    DEEP, LONG, [], {}, [[]], [None],
    {"": None}, {"a": [1]}, "", " ", "\0", "x", "-1", "1e999", "NaN", "A" * 5000, "é日…\u202e",
    "\ud800", "a\nb\r\t\x1b\x85\u2028", "../../x", "/etc/passwd", "<script>alert(1)</script>",
)  # fmt: skip
BYTES = (0, 1, 0x7F, 0x80, 0xFF, *b'"{[,\n\\')


@st.composite
def damaged(draw, whole):
    """A file's bytes as a bad disk, a dropped line or a careless copy may leave them."""
    data = bytearray(whole)
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        act = draw(
            st.sampled_from(
                ["flip", "flip", "byte", "byte", "cut", "drop", "double", "splice", "zeros", "more"]
            )
        )
        at, length = draw(st.integers(0, max(0, len(data) - 1))), draw(st.integers(1, 40))
        part = slice(at, at + length)
        if act == "flip" and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif act == "byte" and data:
            data[at] = draw(st.sampled_from(BYTES))
        elif act == "cut":
            del data[at:]
        elif act == "drop":
            del data[part]
        elif act == "double":
            data[at:at] = data[part]
        elif act == "splice":
            start = draw(st.integers(0, max(0, len(data) - 1)))
            data[part] = data[start : start + length]
        elif act == "zeros":
            data[part] = bytes(length)
        else:
            data += draw(st.binary(max_size=20))
    return bytes(data)


@st.composite
def twisted(draw, value):
    """A tree of JSON in which some parts are something else, missing, doubled, renamed or in each
    other's place."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        places = list(within(value))
        if not places or draw(st.integers(0, 40)) == 0:
            return draw(st.sampled_from(ODD))
        act = draw(st.sampled_from(["replace"] * 5 + ["drop", "double", "rename", "swap", "wrap"]))
        (holder, key), (other, at) = (
            places[draw(st.integers(0, len(places) - 1))] for _ in range(2)
        )
        if act == "drop":
            del holder[key]
        elif act == "wrap":
            holder[key] = [holder[key]]
        elif act == "swap":
            holder[key] = copy.deepcopy(other[at])
        elif act == "double" and isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
        elif act in ("double", "rename") and isinstance(holder, dict):
            name = draw(st.sampled_from(["", "x", "\ud800", "__class__", key.upper()]))
            holder[name] = holder[key] if act == "double" else holder.pop(key)
        else:
            holder[key] = copy.deepcopy(draw(st.sampled_from(ODD)))
    return value


def within(value):
    """Every place of a tree, as what holds it and under which key."""
    for key in (
        list(value)
        if isinstance(value, dict)
        else range(len(value))
        if isinstance(value, list)
        else ()
    ):
        yield value, key
        yield from within(value[key])


def as_json(value, **how):
    text = json.dumps(value, **how)
    return (
        text.replace(f'"{DEEP}"', "[" * 100_000 + "]" * 100_000)
        .replace(f'"{LONG}"', "9" * 5000)
        .encode()
    )


def as_lines(value):
    return b"\n".join([*map(as_json, value), b""]) if isinstance(value, list) else as_json(value)


def json_damage(whole, written=as_json):
    """Damage to a file of JSON: to its bytes, and twice as often to what they say."""
    twist = twisted(
        [json.loads(line) for line in whole.splitlines()]
        if written is as_lines
        else json.loads(whole)
    ).map(written)
    return st.one_of(damaged(whole), twist, twist)


def attempt(kind, damage, check):
    """Check so many damaged files of a kind, each of which is given a while at most."""
    tried, share = [], round(SHARES[kind][1] * PART)

    @settings(STEADY, max_examples=share)
    @given(damage)
    def each(content):
        tried.append(1)
        with no_longer_than(LONGEST):
            check(content)

    each()
    assert len(tried) >= share


@contextmanager
def no_longer_than(seconds):
    def late(*_):
        raise TimeoutError(f"this took more than {seconds} seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def read_or_refused(read, *names):
    """What `read` gives, or None if it refuses by an error that its documentation names, in a
    sentence with one of the names."""
    try:
        return read()
    except (ValueError, FileNotFoundError) as error:
        said = str(error)
        assert type(error) in (ValueError, FileNotFoundError), repr(error)
        assert re.fullmatch(r"[\w'].{25,}[.)]", said, flags=re.DOTALL) and any(
            name in said for name in names
        ), said
        return None


# -- pictures
# --------------------------------------------------------------------------------------------------


def picture(kind, mode="RGB", **how):
    rng, file = np.random.default_rng(0), BytesIO()
    made = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
    if mode == "I;16":
        made = Image.fromarray(rng.integers(0, 2**16, (7, 9), dtype=np.uint16))
    elif mode == "F":
        made = Image.fromarray(rng.random((7, 9), np.float32))
    if how.get("save_all"):
        how["append_images"] = [made.rotate(180).convert(mode)]
    made.convert(mode).save(file, kind, **how)
    return file.getvalue()


TURNED = Image.Exif()
TURNED[0x0112], TURNED[0x010F] = 6, "a camera"
PICTURES = {
    "png": picture("PNG"), "png, palette": picture("PNG", "P", transparency=3),
    "png, 16 bits": picture("PNG", "I;16"), "png, alpha": picture("PNG", "RGBA"),
    "png, moving": picture("PNG", save_all=True), "jpeg": picture("JPEG", exif=TURNED),
    "jpeg, progressive": picture("JPEG", progressive=True), "jpeg, CMYK": picture("JPEG", "CMYK"),
    "gif": picture("GIF", "P", save_all=True), "webp": picture("WEBP"),
    "webp, alpha": picture("WEBP", "RGBA", lossless=True),
    "webp, moving": picture("WEBP", save_all=True, exif=TURNED), "bmp": picture("BMP"),
    "bmp, palette": picture("BMP", "P"), "tiff": picture("TIFF", exif=TURNED),
    "tiff, LZW": picture("TIFF", compression="tiff_lzw"),
    "tiff, JPEG": picture("TIFF", compression="jpeg"), "tiff, 16 bits": picture("TIFF", "I;16"),
    "tiff, float": picture("TIFF", "F"), "tiff, fax": picture("TIFF", "1", compression="group4"),
}  # fmt: skip


@pytest.mark.parametrize("kind", PICTURES)
def test_a_damaged_picture(kind, tmp_path):
    path = tmp_path / "picture"

    def check(content):
        path.write_bytes(content)
        seen = read_or_refused(lambda: images.read(path), path.name)
        assert (
            seen is None
            or seen.mode == "RGB"
            and np.asarray(seen).shape == (seen.height, seen.width, 3)
            and not seen.info
        )

    assert images.read(PICTURES[kind]).size in ((9, 7), (7, 9))
    attempt("pictures", damaged(PICTURES[kind]), check)


@settings(STEADY, max_examples=200)
@given(st.text(max_size=200) | st.sampled_from(["a" * 5000, "~nobody/a.png", "\0", "\ud800", ""]))
def test_any_text_as_a_path_or_an_address(text):
    for name in (
        text,
        f"http://127.0.0.1:9/{text}",
        f"http://127.0.0.1:9?{text}",
        f"http://{text}".replace("http:///", "http://"),
    ):
        try:
            images.read(name)
        except (FileNotFoundError, ConnectionError, ValueError) as error:
            assert not isinstance(error, UnicodeError), repr(error)
            assert re.fullmatch("['T].{20,}[.)]", str(error), flags=re.DOTALL), repr(error)
        else:
            raise AssertionError("there was no such picture")


# -- benchmarks
# --------------------------------------------------------------------------------------------------


def check_questions(benchmark, folder, path, content):
    path.write_bytes(content)
    found = read_or_refused(lambda: benchmarks.items(benchmark, folder)[0], path.name, benchmark)
    if found is None:
        return
    assert found and len({item.id for item in found}) == len(found)
    for item in found:
        row = item.row("an answer")
        assert (
            is_row(row)
            and item.id
            and item.question.strip()
            and json.dumps(row, ensure_ascii=False).encode()
        )
        assert item.kind != "soft" or len(item.gold) == 10
        assert isinstance(item.image, bytes) or item.image.resolve().is_relative_to(folder), (
            "no other folder is looked into"
        )


def as_table(rows):
    """The bytes of a table with tabs; of what is no table, as much as there is."""
    try:
        return pd.DataFrame(rows).to_csv(sep="\t", index=False).encode(errors="replace")
    except Exception:
        return str(rows).encode(errors="replace")


@pytest.mark.parametrize("benchmark, name", FILES)
def test_a_damaged_file_of_questions(benchmark, name, tmp_path):
    WRITERS[benchmark](tmp_path, False)
    path = tmp_path / name
    whole = path.read_bytes()
    if benchmark == "mmbench":
        rows = pd.read_csv(
            StringIO(whole.decode()), sep="\t", dtype=str, keep_default_na=False
        ).to_dict("records")
        damage = st.one_of(damaged(whole), twisted(rows).map(as_table))
    else:
        damage = json_damage(whole, as_lines if benchmark in ("pope", "vsr") else as_json)
    attempt("questions", damage, partial(check_questions, benchmark, tmp_path, path))


@pytest.mark.parametrize("benchmark", PARQUETS)
def test_a_damaged_file_of_the_hub(benchmark, tmp_path):
    WRITERS[benchmark](tmp_path, True)
    path = tmp_path / PARQUETS[benchmark][0]
    attempt(
        "columns", damaged(path.read_bytes()), partial(check_questions, benchmark, tmp_path, path)
    )


@pytest.mark.parametrize(
    "benchmark", ["whatsup-a", "coco-spatial", "pope", "vsr", "gqa", "textvqa", "mmbench"]
)
def test_damaged_answers_and_settings_of_a_run(benchmark, tmp_path, monkeypatch):
    for name in ("share", "interval"):  # how wide the intervals are is not looked at here
        monkeypatch.setattr(stats, name, partial(getattr(stats, name), resamples=10))
    WRITERS[benchmark](tmp_path / "data", False)
    asked, run = benchmarks.items(benchmark, tmp_path / "data")[0], tmp_path / "run"
    about = {"benchmark": benchmark, "model": "m", "questions": len(asked),
        "scale": {"alpha": 99.0, "p": 8.0},
             "compress": {"method": "random", "keep": 0.5}, "blind": False, "protocol": "ours",
             "hooks": ["a.b"], "limit": 9,
             "decoding": {"greedy": "plain", "ends": [2]},
             "versions": {"torch": "2.13.0"}}  # fmt: skip
    rows = [item.row(f"{item.gold}.") | {"kept": 5, "given": 10} for item in asked]
    whole = {"run.json": as_json(about), "rows-0.jsonl": as_lines(rows)}
    run.mkdir()

    def check(name_and_content):
        name, content = name_and_content
        for each in whole:
            (run / each).write_bytes(content if each == name else whole[each])
        result = read_or_refused(lambda: benchmarks.load(run), *whole, "question")
        if result is not None:
            assert (
                0 <= result.accuracy <= 1 and 0 <= result.unparsed <= 1 and 0 <= result.removed <= 1
            )
            assert all(0 <= score.value <= 1 for score in result.scores.values())
            assert repr(result) and len(result.table()) and len(benchmarks.compare([run])) == 1

    check(("", b""))
    one = st.tuples(st.just("run.json"), json_damage(whole["run.json"]))
    other = st.tuples(st.just("rows-0.jsonl"), json_damage(whole["rows-0.jsonl"], as_lines))
    attempt("answers", st.one_of(one, other, other), check)


# -- claims, and notes of what was done
# -------------------------------------------------------------------------------


def test_damaged_claim_rows(tmp_path, monkeypatch):
    monkeypatch.setenv("WHATWHERE_CLAIMS", str(tmp_path))
    kept = {name: json.loads((ROOT / f"data/claims/{name}.json").read_text(encoding="utf-8"))
            for name in ("02_reading_patches_as_words", "18_real_models")}  # fmt: skip
    rows = [*kept["02_reading_patches_as_words"][:2], kept["18_real_models"][0]]
    path = tmp_path / "rows.json"

    def check(content):
        path.write_bytes(content)
        found = read_or_refused(ledger.rows, path.name, str(tmp_path))
        for row in found or ():
            assert ledger.validate(row) is row and (
                row["measured"] is None or type(row["measured"]["n"]) is int
            )
        if found is not None:
            assert all(
                isinstance(said, str)
                for said in ledger.compare(found, rows) + ledger.compare(rows, found)
            )
            assert (ledger.table("what") + ledger.table("where")).encode() and ledger.progress()

    check(as_json(rows))
    assert len(ledger.rows()) == 3
    attempt("claims", json_damage(as_json(rows, indent=2)), check)


PIN = {"revision": "1" * 40, "files": {"1" * 40: {"data/x": "git:00", "data/y": "sha256:11"}}}
NOTES = {  # {what: (what stands there, how it is read, as what)}
    "what was downloaded": ({"a/b": PIN, "c/d": PIN}, hub._read, dict),
    "what a study has found": ({"none": {"found": 1.5, "seconds": 3.0}},
        lambda path: scaling_study.Notes(path).found, dict),
    "how a model was asked once": (
        {"chat_template": "{{ messages }}"},
        lambda path: templates.chat_template(str(path.parent), "a model"), str
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", NOTES)
def test_damaged_notes(what, tmp_path):
    value, read, kind = NOTES[what]
    path = tmp_path / "chat_template.json"

    def check(content):
        path.write_bytes(content)
        found = read_or_refused(lambda: read(path), path.name)
        assert found is None or isinstance(found, kind)

    check(as_json(value))
    attempt("notes", json_damage(as_json(value)), check)


# -- checkpoints
# --------------------------------------------------------------------------------------------------

PARTS = (
    "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
    "tokenizer_config.json", "preprocessor_config.json", "chat_template.jinja",
)  # fmt: skip
GREY = Image.new("RGB", (24, 24), "grey")


def tensors_damage(whole):
    """Damage to a file of safetensors: to its bytes, or to its header, with its length mended."""
    length = struct.unpack("<Q", whole[:8])[0]
    header, rest = json.loads(whole[8 : 8 + length]), whole[8 + length :]

    def packed(value):
        text = as_json(value)
        return struct.pack("<Q", len(text)) + text + rest

    return st.one_of(
        damaged(whole),
        damaged(whole[: 8 + length]).map(lambda head: head + rest),
        twisted(header).map(packed),
    )


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("family", ["llava", "qwen2vl"])
def test_a_damaged_checkpoint(family, part, folders, tmp_path):
    folder = shutil.copytree(folders / family, tmp_path / "checkpoint")
    config = json.loads((folder / "config.json").read_text())
    noted = {"organism": True, "world": "grey", "image_size": 24, "lens_layer": 2}
    (folder / "config.json").write_text(json.dumps(config | {"whatwhere": noted}))
    path, other = (
        folder / part,
        (folders / {"llava": "qwen2vl", "qwen2vl": "llava"}[family] / part).read_bytes(),
    )
    whole = path.read_bytes()
    made = {".json": json_damage, ".safetensors": tensors_damage}.get(path.suffix, damaged)(whole)

    def check(content):
        path.write_bytes(content)
        vlm = read_or_refused(
            lambda: ww.load(folder, device="cpu", dtype="float32"),
            str(folder),
            "image processor",
            "ViT",
        )
        if vlm is None:
            return
        inputs = vlm.prepare(GREY, "is there a cup ?")
        rows, columns = vlm.patch_grid(GREY)
        assert inputs["input_ids"].shape == inputs["attention_mask"].shape
        assert vlm.image_places(inputs).sum() == rows * columns + vlm.adapter.leading
        logits = vlm.logits(GREY, "is there a cup ?")
        assert (
            logits.shape == (inputs["input_ids"].shape[1], len(vlm.words))
            and logits.isfinite().all()
        )
        assert isinstance(vlm.answer(GREY, "is there a cup ?", max_new_tokens=2), str)
        maps = ww.lens.token_maps(vlm, GREY)
        assert maps.show().html() and np.isfinite(maps.probabilities).all() and repr(vlm)

    check(whole)
    attempt(
        "checkpoints",
        st.one_of(made, made, made, made, st.sampled_from([b"", b"null", other])),
        check,
    )


@pytest.mark.parametrize("name", ["decoder.safetensors", "decoder.json"])
@pytest.mark.parametrize("words", ["all", "some"])
def test_a_damaged_decoder(name, words, folders, tmp_path):
    vlm = ww.load(folders / "llava", device="cpu", dtype="float32")
    decoder = compress.Decoder(
        vlm.unembedding.weight.detach(), vlm.words, {"model": vlm.name, "mark": [0.5] * 16}
    )
    (decoder if words == "all" else decoder.narrowed([7, 0, 3])).save(tmp_path)
    path = tmp_path / name
    whole = path.read_bytes()

    def check(content):
        path.write_bytes(content)
        decoder = read_or_refused(lambda: compress.load_decoder(tmp_path, vlm), "decoder")
        assert decoder is None or decoder.top(vlm.visual_tokens(GREY)).shape == (16, 1)

    check(whole)
    attempt("decoders", tensors_damage(whole) if name.endswith("s") else json_damage(whole), check)


@pytest.mark.parametrize(
    "stage",
    [Stage("align", 4, 2, warm=2), Stage("vision", 2, 2, warm=2)],
    ids=lambda stage: stage.name,
)
def test_a_damaged_stage_of_training(stage, tmp_path):
    model = build.model("toy-llava", layers=1, blocks=1)
    tower, reader = Tower(model, "toy-llava"), stages.Reader(build.VISION_WIDTH)
    stages.run(tower, reader, stage, tmp_path, workers=0)
    chosen = stages.trainable(tower, reader, stage.name)
    own, path = stages.named(tower, reader, sum(chosen, [])), tmp_path / f"{stage.name}.safetensors"

    def check(content):
        path.write_bytes(content)
        tools = stages.optimizers(*chosen, stage)
        state = read_or_refused(lambda: checkpoints.resume(tmp_path, stage, own, tools), path.name)
        if state is not None:
            assert 0 <= state["step"] <= stage.steps and all(
                p.isfinite().all() for p in own.values()
            )
            for tool in tools:
                for p, moments in tool.state.items():
                    assert all(
                        m.shape in ((), p.shape) and m.isfinite().all()
                        for m in moments.values()
                        if torch.is_tensor(m)
                    )

    whole = path.read_bytes()
    check(whole)
    attempt("stages", tensors_damage(whole), check)


# -- prompts
# --------------------------------------------------------------------------------------------------

PROMPTS = (
    "", " ", "\0", "\n\u2028", "\u202e abc", "🙂", "{{ messages }}", "{% for", "</s>", "<s> <pad>",
    "<image>", "<|image_pad|>", "<|vision_start|>", "<|video_pad|>", "\x1b[31m red",
)  # fmt: skip


@pytest.fixture(scope="module", params=["llava", "qwen2vl"])
def vlm(request, folders):
    return ww.load(folders / request.param, device="cpu", dtype="float32")


def test_any_text_as_a_prompt(vlm):
    rows, columns = vlm.patch_grid(GREY)

    @settings(STEADY, max_examples=150)
    @given(
        st.one_of(
            st.text(max_size=100),
            st.lists(st.sampled_from(PROMPTS)).map(" ".join),
            st.sampled_from(PROMPTS),
        )
    )
    def each(prompt):
        inputs = read_or_refused(lambda: vlm.prepare(GREY, prompt), "A prompt")
        answer = read_or_refused(lambda: vlm.answer(GREY, prompt, max_new_tokens=1), "A prompt")
        assert (answer is None) == (inputs is None or not prompt.strip())
        if inputs is not None:
            assert inputs["input_ids"].shape == inputs["attention_mask"].shape
            assert vlm.image_places(inputs).sum() == rows * columns
            asked = vlm.after_image(prompt)
            assert inputs["input_ids"][0, -len(asked) :].tolist() == asked

    each()


@pytest.mark.parametrize("prompt", ["a" * 100_000, "cup " * 25_000], ids=["one word", "many words"])
def test_a_prompt_of_a_hundred_thousand_characters(vlm, prompt):
    inputs = vlm.prepare(GREY, prompt)
    assert inputs["input_ids"].shape == inputs["attention_mask"].shape and inputs[
        "input_ids"
    ].shape[1] > prompt.count(" ")


def test_half_a_character_as_a_prompt(vlm):
    with pytest.raises(ValueError, match="A prompt"):
        vlm.answer(GREY, "is there a \ud800 ?")
