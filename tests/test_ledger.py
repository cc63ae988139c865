import json

import numpy as np
import pytest

from tools.course import chapters
from whatwhere import replication
from whatwhere.book import ledger

NOTEBOOK = "02_reading_patches_as_words"
NUMBERS = {path.stem[3:]: int(path.stem[:2]) for path in chapters.NOTEBOOKS}
N = 39  # claims of the paper


def arguments(**changes):
    row = {
        "id": "what.lens.on_topic",
        "measured": {
            "value": 0.612345,
            "ci95": [0.581, 0.64],
            "n": 812,
            "unit": "share",
            "model": "toy-llava",
        },
        "control": {"what": "shuffled maps", "value": 0.0712, "ci95": (0.05, 0.09)},
        "verdict": "reproduced",
        "tolerance": 0.02,
    }
    return row | changes


@pytest.fixture(autouse=True)
def claims(tmp_path, monkeypatch):
    monkeypatch.setenv("WHATWHERE_CLAIMS", str(tmp_path))
    return tmp_path


def measured(**changes):
    return arguments()["measured"] | changes


def control(**changes):
    return arguments()["control"] | changes


def test_catalogue():
    claims = ledger.catalogue()
    assert len(claims) == len({claim["id"] for claim in claims})
    assert len([claim for claim in claims if "source" not in claim]) == N
    for claim in claims:
        # what only real weights can settle, with the commands that do
        real = claim["chapter"] >= NUMBERS["real_models"]
        assert set(claim) - {"source", "percent"} == {
            "id",
            "chapter",
            "statement",
            "paper",
            *(["command"] if real else []),
        }
        assert claim["id"].startswith(("what.", "where."))
        if claim["id"].split(".")[1] == "real":
            assert claim["chapter"] == NUMBERS["real_models"]
        if claim.get("source") == ledger.OURS:
            assert claim["paper"] is None, "a claim of our own has no paper's value"
        else:
            assert set(claim["paper"]) == {"value", "unit", "where"}
        if "source" not in claim:  # the paper's own order
            first = claim["chapter"] <= NUMBERS["run_length_compression"]
            assert real or claim["id"].startswith("what." if first else "where.")
        assert claim["statement"][0].isupper() and not claim["statement"].endswith(".")


def test_sources_are_in_the_bibliography():
    bibliography = (chapters.ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    for source in {claim.get("source", "li2026reading") for claim in ledger.catalogue()} - {
        ledger.OURS
    }:
        assert f"{{{source},\n" in bibliography, f"book/references.bib has no entry '{source}'"


OTHERS = {"chapter": NUMBERS["reading_patches_as_words"], "statement": "It rains"}
OWN = OTHERS | {"id": "what.own", "paper": None, "source": "ours"}
REPORTED = {"value": 0.5, "unit": "share", "where": "their table 1"}
THEIRS = OTHERS | {"id": "what.theirs", "paper": REPORTED, "source": "neo<2025>"}


def test_claims_of_others_are_recorded_and_shown_as_such(claims, monkeypatch):
    papers = [claim for claim in ledger.catalogue() if "source" not in claim]
    monkeypatch.setattr(ledger, "catalogue", lambda: [*papers, OWN, THEIRS])
    row = ledger.record(NOTEBOOK, **arguments(id="what.own"))
    assert row["paper"] is None and row["statement"] == "It rains" and "source" not in row
    assert ledger.rows() == [row]
    ledger.record(NOTEBOOK, **arguments(id="what.theirs", verdict="partly"))
    [own, theirs] = [
        line
        for line in ledger.table("what").split("<tr>")
        if "what.own" in line or "what.theirs" in line
    ]
    assert "<div>–<small>a claim of this book</small></div>" in own and "0.6123" in own
    assert (
        "<strong>0.5</strong> share<small>their table 1</small><small>another paper's: " in theirs
    )
    assert "neo&lt;2025&gt;</a>" in theirs
    assert ledger.progress() == (N, {"to come": N}), "the paper's claims are counted by themselves"
    assert ledger.progress(others=True) == (2, {"reproduced": 1, "partly": 1})
    with pytest.raises(ValueError, match="paper differs from the catalogue's"):
        ledger.record(NOTEBOOK, **arguments(id="what.own", paper=REPORTED))


def test_a_row_is_written_rounded_and_complete(claims):
    row = ledger.record(NOTEBOOK, **arguments())
    assert row["measured"]["value"] == 0.6123 and row["control"]["ci95"] == [0.05, 0.09]
    assert row["statement"] == ledger.catalogue()[0]["statement"] and row["paper"]["value"] is None
    assert (
        ledger.rows()
        == [row]
        == json.loads((claims / f"{NOTEBOOK}.json").read_text(encoding="utf-8"))
    )
    assert [path.name for path in claims.iterdir()] == [f"{NOTEBOOK}.json"]


def test_a_second_run_writes_the_same_bytes(claims):
    path = claims / f"{NOTEBOOK}.json"
    other = arguments(measured=measured(model="another"))
    ledger.record(NOTEBOOK, **arguments())
    ledger.record(NOTEBOOK, **other)
    first = path.read_bytes()
    ledger.record(NOTEBOOK, **other)
    ledger.record(NOTEBOOK, **arguments(measured=measured(value=0.6123449)))
    assert path.read_bytes() == first
    assert [row["measured"]["model"] for row in ledger.rows()] == ["another", "toy-llava"]


def test_numpy_numbers_are_numbers(claims):
    part = measured(value=np.float32(0.6), ci95=np.array([0.5, 0.7]), n=np.int64(10))
    row = ledger.record(NOTEBOOK, **arguments(measured=part, tolerance=np.float64(0)))
    assert row["measured"] == measured(value=0.6, ci95=[0.5, 0.7], n=10)
    assert json.loads((claims / f"{NOTEBOOK}.json").read_text())


def test_a_value_and_its_interval_are_a_rows_number():
    found = np.array([0.5, 0.25, 0.75], np.float32)
    assert ledger.number(found) == {"value": 0.5, "ci95": [0.25, 0.75]}
    assert ledger.record(NOTEBOOK, **arguments(measured=measured(**ledger.number(found))))


def test_an_exact_quantity_has_no_interval():
    assert (
        ledger.record(NOTEBOOK, **arguments(measured=measured(ci95=None)))["measured"]["ci95"]
        is None
    )


def test_a_row_says_what_its_interval_is_and_what_else_decides():
    also = ledger.also({"both moved": (0.98714, 0.9, 1.0)})
    row = ledger.record(
        NOTEBOOK,
        **arguments(
            measured=measured(interval="over five models", also=also),
            control=control(interval="middle 95% of 1,000 shuffles"),
        ),
    )
    assert row["measured"]["also"] == [{"what": "both moved", "value": 0.9871, "ci95": [0.9, 1.0]}]
    table = ledger.table("what")
    for said in ("[over five models]", "[middle 95% of 1,000 shuffles]", "98.7%", "both moved"):
        assert said in table
    other = ledger.record(
        NOTEBOOK, **arguments(measured=measured(also=[{**also[0], "value": 0.95}]))
    )
    said = "\n".join(ledger.compare([other], [row]))
    assert "measured also value is 0.95, committed is 0.9871 ± 0.02" in said
    assert "measured interval is None, committed is 'over five models'" in said
    assert "control interval is None" in said


def test_what_else_decides_may_be_no_share():
    depth = {"what": "depth", "value": 5, "ci95": None, "percent": False}
    row = ledger.record(NOTEBOOK, **arguments(measured=measured(also=[depth])))
    assert row["measured"]["also"] == [depth]
    assert "also: <strong>5</strong> depth" in ledger.table("what")


def test_an_identity_has_no_number_of_cases():
    row = ledger.record(NOTEBOOK, **arguments(measured=measured(ci95=None, n=None)))
    assert row["measured"]["n"] is None and "n = None" not in ledger.table("what")


def test_the_table_says_how_often_a_verdict_held(tmp_path, monkeypatch):
    monkeypatch.setenv("WHATWHERE_CLAIMS", str(tmp_path / "claims"))
    row = ledger.record(NOTEBOOK, **arguments())
    assert ledger.drawn() == {} and "draws" not in ledger.table("what")

    def draws(*verdicts):
        kept = {}
        for n, verdict in enumerate(verdicts):
            found = {**row, "measured": {**row["measured"], "value": n / 10}, "verdict": verdict}
            # and a row that is the same in all
            kept[str(n)] = {NOTEBOOK: {"rows": [found, {**row, "id": "what.lens.ground"}]}}
        (tmp_path / "results").mkdir(exist_ok=True)
        (tmp_path / "results" / "draws.json").write_text(json.dumps({"rows": kept}))

    draws(*["reproduced"] * 4, "partly")
    held = {(row["id"], "toy-llava"): ["reproduced"] * 4 + ["partly"]}
    assert ledger.drawn() == held, "nothing is drawn in the other one"
    assert "<small>the same in 4 of 5 draws</small>" in ledger.table("what")
    draws("reproduced", "partly", "partly")
    said = "depends on the draw: the same in 1 of 3 draws (2 partly)"
    assert f"<small>{said}</small>" in ledger.table("what")


def test_a_claim_that_needs_real_weights():
    row = ledger.record(
        "16_scaling_and_training",
        id="where.scaling.sft",
        measured=None,
        control=None,
        tolerance=None,
        verdict="needs real weights",
    )
    assert ledger.rows() == [row]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"id": "what.lens"}, "no claim of the catalogue"),
        ({"verdict": "true"}, "verdict is one of reproduced"),
        ({"verdict": "needs real weights"}, "are None where"),
        ({"measured": None}, "measured may be None only where"),
        ({"control": None}, "control may be None only where"),
        ({"tolerance": None}, "tolerance may be None only where"),
        ({"tolerance": -1}, "tolerance is a number from 0 up"),
        ({"tolerance": True}, "tolerance is a number from 0 up"),
        ({"control": {"value": 0.1}}, "control is a dictionary of what, value, ci95"),
        ({"control": {"what": "", "value": 0.1, "ci95": None}}, "control what is words"),
        ({"measured": measured(value=float("nan"))}, "value is a finite number"),
        ({"measured": measured(value="0.6")}, "value is a finite number"),
        ({"measured": measured(ci95=[0.5])}, r"ci95 is \[low, high\]"),
        ({"measured": measured(ci95=[0.7, 0.8])}, "outside its own interval"),
        ({"measured": measured(n=0)}, "n is a whole number from 1 up"),
        ({"measured": measured(n=2.5)}, "n is a whole number from 1 up"),
        ({"measured": measured(n=True)}, "n is a whole number from 1 up"),
        ({"measured": measured(n=10**400)}, "n is a whole number from 1 up"),
        ({"measured": measured(value=10**400)}, "value is a finite number"),
        ({"tolerance": 10**400}, "tolerance is a number from 0 up"),
        ({"measured": measured(unit="half a \ud800")}, "unit is words"),
        ({"measured": measured(model=None)}, "model is words"),
        ({"measured": measured(extra=1)}, "measured is a dictionary of"),
        ({"measured": measured(n=None)}, "n may be None only for an exact quantity"),
        ({"measured": measured(interval="")}, "measured interval is words"),
        ({"measured": measured(also={})}, "also is a list of further numbers"),
        (
            {"measured": measured(also=[{"what": "x", "value": 1, "ci95": None, "percent": 0}])},
            "also percent is true or false, not 0",
        ),
        ({"measured": measured(also=[{"what": "the rest"}])}, "also is a dictionary of what"),
        ({"control": control(interval=3)}, "control interval is words"),
        ({"statement": "Something else"}, "statement differs from the catalogue's"),
        ({"paper": {"value": 1, "unit": "", "where": ""}}, "paper differs from the catalogue's"),
    ],
)
def test_a_bad_row_is_refused_with_a_sentence(changes, sentence, claims):
    with pytest.raises(ValueError, match=sentence):
        ledger.record(NOTEBOOK, **arguments(**changes))
    assert not list(claims.iterdir())


@pytest.mark.parametrize("notebook", ["reading patches", "../02_x", "2_x", ""])
def test_a_bad_notebook_name_is_refused(notebook, claims):
    with pytest.raises(ValueError, match="notebook is a name such as"):
        ledger.record(notebook, **arguments())
    assert not list(claims.iterdir())


def test_a_claim_belongs_to_its_chapter():
    with pytest.raises(ValueError, match="belongs to chapter 2"):
        ledger.record("04_from_attributes_to_objects", **arguments())


def test_a_row_with_other_fields_is_refused():
    with pytest.raises(ValueError, match="missing: .*'verdict'.*unknown: .*'colour'"):
        ledger.validate({"id": "what.lens.on_topic", "colour": "red"})


@pytest.mark.parametrize("text", ["[", "{}", "[3]", "[{}]"])
def test_a_broken_file_is_named(text, claims):
    (claims / f"{NOTEBOOK}.json").write_text(text)
    with pytest.raises(ValueError, match="02_reading|claim row"):
        ledger.rows()


def test_a_row_that_is_there_twice_is_refused(claims):
    ledger.record(NOTEBOOK, **arguments())
    (claims / "copy.json").write_bytes((claims / f"{NOTEBOOK}.json").read_bytes())
    with pytest.raises(
        ValueError, match="what.lens.on_topic on toy-llava twice; delete one of them"
    ):
        ledger.rows()


def test_a_failed_write_leaves_the_old_rows(claims, monkeypatch):
    before = ledger.record(NOTEBOOK, **arguments())

    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr(ledger.os, "replace", full)
    with pytest.raises(OSError, match="disk full"):
        ledger.record(NOTEBOOK, **arguments(tolerance=0.5))
    assert ledger.rows() == [before] and len(list(claims.iterdir())) == 1


def test_compare_within_tolerance():
    old = ledger.record(NOTEBOOK, **arguments())
    near = ledger.record(NOTEBOOK, **arguments(measured=measured(value=0.63, ci95=[0.6, 0.66])))
    assert ledger.compare([near], [old]) == [] == ledger.compare([], [])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"measured": measured(value=0.59)}, "measured value is 0.59, committed is 0.6123 ± 0.02"),
        ({"measured": measured(ci95=[0.5, 0.64])}, "measured ci95 is"),
        ({"measured": measured(ci95=None)}, "measured ci95 is None"),
        ({"measured": measured(n=813)}, "measured n is 813, committed is 812"),
        (
            {"control": {"what": "shuffled maps", "value": 0.2, "ci95": [0.1, 0.3]}},
            "control value is 0.2",
        ),
        ({"verdict": "partly"}, "verdict is 'partly', committed is 'reproduced'"),
        ({"tolerance": 0.5}, "tolerance is 0.5"),
    ],
)
def test_compare_says_what_differs(changes, sentence):
    old = ledger.record(NOTEBOOK, **arguments())
    new = ledger.record(NOTEBOOK, **arguments(**changes))
    said = ledger.compare([new], [old])
    assert any(sentence in line and "what.lens.on_topic on toy-llava" in line for line in said), (
        said
    )


def test_compare_names_missing_and_extra_rows():
    row = ledger.record(NOTEBOOK, **arguments())
    assert ledger.compare([], [row]) == [
        "what.lens.on_topic on toy-llava is committed, but the run did not record it"
    ]
    assert ledger.compare([row], []) == [
        "what.lens.on_topic on toy-llava was recorded, but is not committed"
    ]


def test_the_page_shows_every_claim(claims):
    assert ledger.progress() == (N, {"to come": N})
    ledger.record(NOTEBOOK, **arguments())
    assert ledger.progress() == (N, {"reproduced": 1, "to come": N - 1})
    page = ledger.table("what") + ledger.table("where")
    every = len(ledger.catalogue())  # those of others as well
    assert page.count("<tr>") == every + 2 and page.count("chapter to come") == every - 1
    assert "<strong>61.2%</strong>" in page and "[58.1%, 64%]" in page and "shuffled maps" in page
    assert f"../notebooks/{NOTEBOOK}.html" in page


def test_a_claim_stands_once_with_all_its_models():
    for model in ("a", "b", "c"):
        ledger.record(NOTEBOOK, **arguments(measured=measured(model=model)))
    page = ledger.table("what")
    assert page.count("Patches of an object decode") == 1 and page.count("rowspan='3'") == 2
    assert (
        page.count("<tbody>")
        == page.count("</tbody>")
        == sum(claim["id"].startswith("what.") for claim in ledger.catalogue())
    )
    assert [page.count(f"<small>{model}, n = 812</small>") for model in "abc"] == [1, 1, 1]


def test_rows_by_what_they_are_measured_in():
    ledger.record(NOTEBOOK, **arguments())
    found = ledger.by_scale()
    assert [row["id"] for row in found["shares"]] == ["what.lens.on_topic"]
    assert found["points"] == found["others"] == []


def test_of_several_models_the_least_favourable_verdict_counts():
    for model, verdict in (
        ("a", "partly"),
        ("b", "reproduced"),
        ("c", "not reproduced"),
        ("d", "reproduced"),
    ):
        ledger.record(NOTEBOOK, **arguments(measured=measured(model=model), verdict=verdict))
    assert ledger.progress() == (N, {"not reproduced": 1, "to come": N - 1})
    ledger.record(
        NOTEBOOK,
        **arguments(measured=None, control=None, tolerance=None, verdict="needs real weights"),
    )
    assert ledger.progress() == (N, {"not reproduced": 1, "to come": N - 1})


def test_words_in_a_row_are_escaped():
    ledger.record(NOTEBOOK, **arguments(measured=measured(unit="<script>")))
    assert "<script>" not in ledger.table("what")


def test_the_rows_live_in_the_book(monkeypatch, tmp_path):
    monkeypatch.delenv("WHATWHERE_CLAIMS")
    assert ledger.folder().parts[-2:] == ("data", "claims")
    monkeypatch.setattr(ledger, "__file__", str(tmp_path / "a" / "b" / "ledger.py"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="set WHATWHERE_CLAIMS"):
        ledger.folder()


def test_the_committed_rows_are_well_formed(monkeypatch):
    monkeypatch.delenv("WHATWHERE_CLAIMS")
    ledger.rows()


def test_a_claim_that_waits_for_weights_shows_what_settles_it_and_then_no_longer_waits(claims):
    waiting = {
        "measured": None,
        "control": None,
        "tolerance": None,
        "verdict": "needs real weights",
    }
    ledger.record("18_real_models", id="where.real.whatsup_b", **waiting)
    page = ledger.table("where")
    assert (
        page.count("colspan='2'") == 1
        and "whatwhere bench Qwen/Qwen2-VL-2B-Instruct whatsup-b --scale 99 8</code>" in page
    )
    ledger.record(
        "18_real_models",
        **arguments(
            id="where.real.whatsup_b", measured=measured(model="Qwen/Qwen2-VL-2B-Instruct")
        ),
    )
    [row] = ledger.rows()
    assert row["verdict"] == "reproduced" and "colspan" not in ledger.table("where")


def test_a_box_says_what_a_claim_becomes_on_photographs(tmp_path):
    said = ledger.on_a_photograph("what.lens.on_topic", "what.lens.ground")
    assert said.startswith("> **On a real photograph.** *Patches of an object decode")
    assert "`whatwhere replicate MODEL --claims what.lens.on_topic`" in said
    assert said.count(": open.") == 2 and said.count("measured by") == 1
    part = {"value": 0.41, "ci95": [0.4, 0.42], "unit": "share", "model": "llava-1.5-7b", "n": 500}
    row = {"id": "what.lens.on_topic", "measured": part, "verdict": "partly"}
    (tmp_path / "rows.json").write_text(json.dumps([row]))
    said = ledger.on_a_photograph("what.lens.on_topic", file=tmp_path / "rows.json")
    assert said.endswith("0.41 (0.4 to 0.42) share, llava-1.5-7b: *partly*.")
    asked = {claim for each in replication.EXPERIMENTS.values() for claim in each.claims}
    unasked = {claim["id"] for claim in ledger.catalogue()} - asked
    assert unasked == set(ledger.NO_EXPERIMENT), "replicate measures no other claims: name them"
    with pytest.raises(ValueError, match="'what.lens.none' is no claim"):
        ledger.on_a_photograph("what.lens.none")
