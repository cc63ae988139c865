"""Nothing that is read is run, nothing outside this machine is asked, nothing outside the folders
that were named is written."""

import ast
import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path
from urllib.request import urlopen

import pytest
from PIL import Image

import whatwhere as ww

ROOT = Path(__file__).parents[1]

# -- what the code may not do
# -----------------------------------------------------------------------------------------

# each runs what it reads
MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
CALLS = {
    "eval",
    "exec",
    "__import__",
    "os.system",
    "os.popen",
    "torch.load",
    "torch.save",
    "pd.read_pickle",
    "yaml.load",
    "yaml.unsafe_load",
    "pickle.load",
    "tempfile.mktemp",
}
ARGUMENTS = {"trust_remote_code": True, "shell": True, "allow_pickle": True, "weights_only": False}


def faults(source):
    """What a program does that it may not, as (line, what)."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            named = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
            )
            yield from ((node.lineno, name) for name in named if name.partition(".")[0] in MODULES)
        elif isinstance(node, ast.Call):
            if ast.unparse(node.func) in CALLS:
                yield node.lineno, ast.unparse(node.func)
            for each in node.keywords:
                harmless = isinstance(
                    each.value, ast.Constant
                ) and each.value.value != ARGUMENTS.get(each.arg)
                if each.arg in ARGUMENTS and not harmless:
                    yield node.lineno, ast.unparse(each)


def test_no_pickle_no_foreign_code_no_shell():
    code = [path for part in ("lib", "tools") for path in (ROOT / part).rglob("*.py")]
    found = {path: list(faults(path.read_text(encoding="utf-8"))) for path in code}
    assert len(code) > 60 and not {path: what for path, what in found.items() if what}


@pytest.mark.parametrize("line", [
    "import pickle", "from joblib import load", "eval('1')", "os.system('ls')", "torch.load(path)",
    "run('ls', shell=True)", "np.load(a, allow_pickle=True)", "load(a, trust_remote_code=True)",
    "load(a, trust_remote_code=trusted)",
])  # fmt: skip
def test_what_is_not_allowed_is_found(line):
    assert list(faults(line))


def test_the_repository_holds_no_pickles():
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True
    ).stdout.splitlines()
    assert not [
        name
        for name in listed
        if name.endswith((".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy"))
    ]


# -- what a checkpoint may hold, and what then happens
# ----------------------------------------------------------------


class Trap:
    """Pickled, it makes a folder when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.fixture
def trap(folders, tmp_path):
    """(a checkpoint's folder, the folder that hostile code would make, that code)"""
    sprung = str(tmp_path / "sprung")
    folder = shutil.copytree(folders / "llava", tmp_path / "checkpoint")
    (folder / "evil.py").write_text(f"import os\nos.mkdir({sprung!r})\nclass Evil: pass\n")
    yield folder, sprung
    assert not os.path.exists(sprung), "hostile code has run"


def load(folder):
    """An answer of the model, or the sentence with which it is refused."""
    try:
        vlm = ww.load(folder, device="cpu", dtype="float32")
        return vlm, vlm.answer(Image.new("RGB", (24, 24)), "is there a cup ?", max_new_tokens=2)
    except (ValueError, FileNotFoundError) as error:
        return None, str(error)


def change(folder, name, **values):
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_the_trap_works(tmp_path):
    pickle.loads(pickle.dumps(Trap(str(tmp_path / "sprung"))))
    assert (tmp_path / "sprung").is_dir()


def test_pickled_weights_are_not_opened(trap):
    folder, sprung = trap
    pickled = pickle.dumps(Trap(sprung))
    (folder / "pytorch_model.bin").write_bytes(pickled)
    assert load(folder)[0], "beside safetensors they are passed over"
    weights = (folder / "model.safetensors").rename(folder / "other.safetensors")
    for index, named in (
        ("pytorch_model.bin", "pytorch_model.bin"),
        ("model.safetensors", "pytorch_model.bin"),
        ("model.safetensors", "../sprung.safetensors"),
        ("model.safetensors", str(weights)),
    ):
        path = folder / f"{index}.index.json"
        path.write_text(json.dumps({"metadata": {}, "weight_map": {"lm_head.weight": named}}))
        assert "Weights only" not in load(folder)[1] and ("safetensors" in load(folder)[1])
        path.unlink()
    (folder / "model.safetensors").write_bytes(pickled)
    assert "could not be read" in load(folder)[1]
    for path in folder.glob("*.safetensors"):
        path.unlink()
    assert "Pickled weights, *.bin, can run code and are not read" in load(folder)[1]


OWN = {
    kind: "evil.Evil"
    for kind in ("AutoConfig", "AutoModel", "AutoModelForImageTextToText", "AutoImageProcessor")
}


@pytest.mark.parametrize("name, values", [
    ("config.json", {"auto_map": OWN}),
    ("config.json", {"auto_map": OWN, "model_type": "evil"}),
    ("config.json", {"text_config": {"auto_map": OWN, "model_type": "evil"}}),
    ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}}),
    ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.Evil", None]},
        "tokenizer_class": "Evil"}),
    *(("tokenizer_config.json", {"tokenizer_class": name}) for name in ("os.system", "evil.Evil",
        "pipeline", "RagTokenizer")),
    ("preprocessor_config.json", {"auto_map": OWN, "image_processor_type": "Evil"}),
    ("generation_config.json", {"custom_generate": "evil"}),
])  # fmt: skip
def test_code_that_a_checkpoint_brings_is_not_run(trap, name, values, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("nobody is asked whether it may"))
    change(trap[0], name, **values)
    vlm, said = load(trap[0])
    assert vlm or str(trap[0]) in said and "trust_remote_code" not in said, said


@pytest.mark.parametrize("values", [
    {"_attn_implementation": "kernels-community/evil"},
    {"vision_config": {"attn_implementation": "someone/evil@main:evil"}},
])  # fmt: skip
def test_code_of_the_hub_that_a_config_names_is_not_fetched(trap, values):
    change(trap[0], "config.json", **values)
    assert "names code to be fetched and run" in load(trap[0])[1]


@pytest.mark.parametrize("hostile", [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.mkdir('SPRUNG') }}",
    "{{ lipsum.__globals__['os'].mkdir('SPRUNG') }}", "{{ messages.append(1) }}",
    "{% include '/etc/passwd' %}",
    "{{ self.__init__.__globals__.__builtins__.__import__('os').mkdir('SPRUNG') }}",
    "{% import 'os' as os %}", "{{ '{0.__class__.__init__.__globals__}'.format(messages) }}",
    "{% for i in range(10**9) %}x{% endfor %}",
])  # fmt: skip
def test_a_template_that_reaches_out_of_its_sandbox_is_refused(trap, hostile):
    folder, sprung = trap
    path = folder / "chat_template.jinja"
    path.write_text(hostile.replace("SPRUNG", sprung) + path.read_text())
    vlm, said = load(folder)
    assert vlm is None and str(folder) in said and "root:" not in said, said


# -- the network
# --------------------------------------------------------------------------------------------------

ELSEWHERE = "192.0.2.1"  # an address that is kept for examples


def local(kind, what):
    with socket.socket(socket.AF_INET, kind) as made:
        return what(made)


@pytest.mark.parametrize("reach", [
    lambda: socket.create_connection((ELSEWHERE, 80), timeout=1),
    lambda: local(socket.SOCK_STREAM, lambda s: s.connect((ELSEWHERE, 80))),
    lambda: local(socket.SOCK_STREAM, lambda s: s.connect_ex((ELSEWHERE, 80))),
    lambda: local(socket.SOCK_DGRAM, lambda s: s.sendto(b"x", (ELSEWHERE, 53))),
    lambda: local(socket.SOCK_DGRAM, lambda s: s.sendmsg([b"x"], [], 0, (ELSEWHERE, 53))),
    lambda: socket.getaddrinfo("example.org", 80),
    lambda: socket.gethostbyname("example.org"),
    lambda: socket.gethostbyname_ex(b"127.example.org"),
    lambda: socket.gethostbyaddr(ELSEWHERE),
])  # fmt: skip
def test_no_call_reaches_another_machine(reach):
    with pytest.raises(OSError, match="the tests run offline, and one tried to reach"):
        reach()


def test_a_thread_reaches_no_other_machine_either():
    said = []

    def reach():
        try:
            socket.create_connection((ELSEWHERE, 80), timeout=1)
        except OSError as error:
            said.append(str(error))

    thread = threading.Thread(target=reach)
    thread.start()
    thread.join()
    assert "the tests run offline" in said[0]


def test_this_machine_is_reached():
    with (
        socket.create_server(("localhost", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        server.accept()[0].sendall(b"here")
        assert client.recv(4) == b"here"
    assert socket.getaddrinfo(socket.gethostname(), None) and socket.gethostbyname("localhost")


def test_what_tests_start_finds_no_network_by_the_usual_ways():
    code = (
        "import urllib.request as r\ntry: r.urlopen('http://example.org', timeout=9)\nexcept "
        "OSError as error: print(error)"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert "Connection refused" in said, "by the proxy that is not there"
    with pytest.raises(OSError, match="Connection refused"):
        urlopen("http://example.org", timeout=9)
    assert os.environ["HF_HUB_OFFLINE"] == os.environ["TRANSFORMERS_OFFLINE"] == "1"


# -- the disk
# --------------------------------------------------------------------------------------------------

USE = """
import os, sys
written = []
FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = {"os.mkdir": 1, "os.rename": 2, "os.link": 2, "os.symlink": 2, "os.remove": 1, "os.rmdir": 1, "os.truncate": 1,
           "os.chmod": 1, "os.chown": 1, "os.utime": 1, "sqlite3.connect": 1}

def note(event, arguments):
    if event == "open" and arguments[2] & FLAGS and not isinstance(arguments[0], int):
        written.append(os.path.abspath(os.fsdecode(arguments[0])))
    for path in arguments[: CHANGES.get(event, 0)]:
        if not isinstance(path, int) and -1 in arguments[1:]:  # else it is one in a folder that was opened before
            written.append(os.path.abspath(os.fsdecode(path)))

sys.addaudithook(note)
import whatwhere as ww
given = os.environ["GIVEN"]
vlm = ww.load("toy-qwen2vl", device="cpu")
scenes = [ww.world.scene(n).image for n in range(2)]
vlm.answer(scenes[0], "how many objects are there ?")
ww.lens.token_maps(vlm, scenes[0]).show().html()
ww.book.figures.html(ww.book.figures.scene(scenes[0], (8, 8)), "A scene of the world, with its grid of patches.")
ww.benchmarks.run(vlm, "tabletop-b", limit=4, progress=False)
ww.benchmarks.run(vlm, "tabletop-b", limit=4, progress=False, out=given + "/run")
ww.benchmarks.tabletop.write(given + "/data", "A", 1)
decoder = ww.compress.distil(vlm, ww.compress.lessons(vlm, scenes, progress=False), epochs=1, folder=given + "/decoder")
ww.compress.load_decoder(given + "/decoder", vlm)
with ww.rope.scaled(vlm, 9, 2):
    vlm.save(given + "/scaled")
ww.load(given + "/scaled", device="cpu")
os.environ["WHATWHERE_CLAIMS"] = given + "/claims"
value = {"value": 0.5, "ci95": None, "n": 10, "unit": "share", "model": "m"}
ww.book.ledger.record("02_reading_patches_as_words", id="what.lens.on_topic", measured=value, verdict="partly", tolerance=0.1,
                 control={"what": "none", "value": 0.1, "ci95": None})
ww.book.ledger.table("what")
print(*sorted(set(written)), sep="\\n")
"""
# in the home folder, what matplotlib knows of them
FONTS = [".cache/matplotlib", ".config/matplotlib"]


def test_what_is_used_writes_into_the_folders_that_were_named_and_nowhere_else(tmp_path):
    given, home, here, scratch = (tmp_path / name for name in ("given", "home", "here", "scratch"))
    for folder in (given, home, here, scratch):
        folder.mkdir()
    environment = os.environ | {
        "HOME": str(home),
        "GIVEN": str(given),
        "TMPDIR": str(scratch),
        "OMP_NUM_THREADS": "1",
        "TQDM_DISABLE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    for name in (
        "HF_HOME",
        "XDG_CACHE_HOME",
        "XDG_CONFIG_HOME",
        "MPLCONFIGDIR",
        "TORCHINDUCTOR_CACHE_DIR",
    ):
        environment.pop(name, None)
    before = set((ROOT / "data").rglob("*"))
    done = subprocess.run(
        [sys.executable, "-c", USE], cwd=here, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    written = [Path(line) for line in done.stdout.splitlines()]
    assert len([path for path in written if path.is_relative_to(given)]) > 10
    # by what is not Python, too
    kept = [path for folder in (home, here) for path in folder.rglob("*")]
    strays = [
        path
        for path in written + kept
        if not path.is_relative_to(given) and not path.is_relative_to(scratch)
    ]
    fonts = [home / name for name in FONTS]
    known = {Path(os.devnull), *fonts, *(each.parent for each in fonts)}
    assert not [path for path in strays if path not in known and path.parent not in fonts]
    assert set((ROOT / "data").rglob("*")) == before
