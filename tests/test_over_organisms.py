"""The book's claims over a fleet: what is read, what is refused, and what becomes of a claim."""

import json
from importlib import import_module

import numpy as np
import pandas as pd
import pytest

from whatwhere.book import figures, fleet, ledger

CHAPTER, OTHER = "02_reading_patches_as_words", "04_from_attributes_to_objects"
ID, LATER = "what.lens.on_topic", "what.gestalt.closure"
CHANCE = "shuffled maps"


def row(value, verdict, id=ID, kind="toy-llava", layer=4):
    """A row as `make fleet` keeps it; the interval is 0.05 wide on either side."""
    interval = [round(value - 0.05, 4), round(value + 0.05, 4)]
    return {
        "id": id,
        "measured": {"value": value, "ci95": interval, "n": 300, "model": kind,
                     "unit": f"share of patches, LM layer {layer}; n counts scenes"},
        "control": {"what": CHANCE, "value": value / 10, "ci95": None},
        "verdict": verdict,
    }  # fmt: skip


def entry(mark, *rows):
    """What `make fleet` keeps of one chapter on one seed."""
    return {"mark": mark, "models": {"toy-llava": "w"}, "rows": list(rows)}


def own(**more):
    claim = ledger.entry(more["id"])
    of = {"statement": claim["statement"], "paper": claim["paper"], "tolerance": 0.02}
    return {**more, **of, "notebook": CHAPTER}


def exam(right):
    # an hour and half an hour; the machine has slept for a day in between
    pace = [{"step": n, "seconds": 36 * n + (86400 if n > 50 else 0)} for n in range(10, 101, 10)]
    short = [{"step": 50, "seconds": 1800}]
    return {
        "stages": [{"steps": 100, "log": pace}, {"steps": 50, "log": short}], "lens_layer": 4,
        "machine": {"device": "a CPU"},
        "test": {"colour": {"accuracy": right, "n": 3}, "counting": {"accuracy": 0.5}},
    }  # fmt: skip


class Data:
    """A book's data folder with a fleet of three, which a test may change."""

    def __init__(self, folder):
        self.folder = folder
        for name in ("claims", "results", "models/toy-llava"):
            (folder / name).mkdir(parents=True)
        (folder / "models/toy-llava/training.json").write_text(json.dumps(exam(0.9)))
        stranger = own(**row(0.1, "partly", kind="any head with 2-D RoPE"))
        rows = [own(**row(0.7, "reproduced")), stranger]
        (folder / "claims" / f"{CHAPTER}.json").write_text(json.dumps(rows))
        member = {"hours": 2.0, "lens_layer": 5, "exam": {"colour": 0.8}, "weights": "w"}
        self.results = {
            "members": {seed: {"toy-llava": member} for seed in "12"},
            "rows": {
                "1": {CHAPTER: entry("a", row(0.5, "partly", layer=3))},
                "2": {CHAPTER: entry("a", row(0.6, "reproduced"))},
            },
        }
        self.save()

    def save(self):
        file = self.folder / "results" / "fleet.json"
        file.write_text(json.dumps(self.results))
        return self.folder


@pytest.fixture
def data(tmp_path):
    return Data(tmp_path / "data")


def test_all_members_are_in_the_table_with_the_books_own_as_seed_0(data):
    table = fleet.table(data.folder)
    assert list(table["seed"]) == [0, 1, 2] and set(table["kind"]) == {"toy-llava"}
    assert list(table["value"]) == [0.7, 0.5, 0.6]
    assert list(table["verdict"]) == ["reproduced", "partly", "reproduced"]
    assert table["low"][1] == 0.45 and table["control"][2] == 0.06
    assert table["tolerance"][0] == 0.02 and table["tolerance"][1:].isna().all()


def test_exams_of_all_members(data):
    exams = fleet.exams(data.folder)
    assert list(exams["seed"]) == [0, 1, 2] and list(exams["hours"]) == [1.5, 2, 2]
    assert list(exams["lens layer"]) == [4, 5, 5]
    assert list(exams["colour"]) == [0.9, 0.8, 0.8] and exams["counting"].isna().sum() == 2


def test_an_organism_is_found_by_its_kind_and_seed(data):
    assert fleet.folder("toy-llava", 0, data.folder) == data.folder / "models/toy-llava"
    with pytest.raises(FileNotFoundError, match="no organism 'toy-llava' of seed 1 in"):
        fleet.folder("toy-llava", 1, data.folder)
    other = data.folder / "fleet/toy-llava-seed1"
    other.mkdir(parents=True)
    (other / "training.json").write_text("{}")
    assert fleet.folder("toy-llava", 1, data.folder) == other


def test_a_shorter_training_stands_beside_the_median_of_full_length(data):
    assert fleet.shorter(data.folder).empty, "nothing was measured"
    short = {"hours": 0.6, "lens_layer": 4, "machine": {}, "exam": {"colour": 0.7}}
    shorter = {"exams": {"toy-llava": {"0.25": short | {"hours": 0.3}, "0.5": short}}}
    (data.folder / "results/shorter.json").write_text(json.dumps(shorter))
    table = fleet.shorter(data.folder)
    assert list(table.index) == [("toy-llava", share) for share in (1.0, 0.5, 0.25)]
    # seed 0 has 0.9 and took 1.5 hours, the two others 0.8 and 2
    assert list(table["colour"]) == [0.8, 0.7, 0.7]
    assert list(table["hours"]) == [2, 0.6, 0.3]


def test_a_claim_over_organisms_by_hand(data, monkeypatch, tmp_path):
    (found,) = fleet.judged(fleet.table(data.folder), lambda verdicts: "partly")
    measured, control = found["measured"], found["control"]
    # the values 0.7, 0.5 and 0.6 have s = 0.1; Student's t with 2 degrees of freedom is 4.3027
    half = 4.302653 * 0.1 / 3**0.5
    assert measured["value"] == pytest.approx(0.6)
    assert measured["ci95"] == pytest.approx([0.6 - half, 0.6 + half], rel=1e-6)
    assert control["ci95"] == pytest.approx([0.06 - half / 10, 0.06 + half / 10], rel=1e-6)
    assert measured["n"] == 3 and measured["unit"] == "share of patches, LM layer …"
    assert found["id"] == f"organisms.{ID}" and found["tolerance"] == 0.02
    assert measured["also"][1] == {"what": "seed 1: partly", "value": 0.5, "ci95": [0.45, 0.55]}
    # and it is a row that the ledger takes
    monkeypatch.setenv("WHATWHERE_CLAIMS", str(tmp_path / "claims"))
    kept = ledger.record("17_one_seed_or_many", **found)
    assert ledger.rows() == [kept] and kept["measured"]["value"] == 0.6
    assert kept["statement"].startswith("In all organisms of a kind: patches of an object")
    verdicts = [verdict for _, _, verdict in ledger.by_organism(kept)]
    assert verdicts == ["reproduced", "partly", "reproduced"]


def test_the_rule_has_all_verdicts(data):
    seen = []
    fleet.judged(fleet.table(data.folder), lambda verdicts: seen.append(verdicts) or "partly")
    assert seen == [["reproduced", "partly", "reproduced"]]


def test_a_value_without_an_interval_keeps_none(data):
    data.results["rows"]["1"][CHAPTER]["rows"][0]["measured"]["ci95"] = None
    table = fleet.table(data.save())
    assert np.isnan(table["low"][1])
    (found,) = fleet.judged(table, lambda verdicts: "partly")
    assert [each["ci95"] is None for each in found["measured"]["also"]] == [False, True, False]


def test_the_box_has_counts_from_the_lowest_to_the_highest(data):
    for n, seed in enumerate("12"):
        depth = {"what": "first depth", "value": 4 + n, "ci95": None, "percent": False}
        data.results["rows"][seed][CHAPTER]["rows"][0]["measured"]["also"] = [depth]
    own_row = json.loads((data.folder / "claims" / f"{CHAPTER}.json").read_text())
    own_row[0]["measured"]["also"] = [{**depth, "value": 2}]
    (data.folder / "claims" / f"{CHAPTER}.json").write_text(json.dumps(own_row))
    assert "; first depth: 2 to 5." in fleet.over_organisms(ID, data=data.save())
    assert [each["first depth"] for each in fleet.table(data.folder)["also"]] == [2, 4, 5]
    own_row[0]["measured"]["also"] = []
    (data.folder / "claims" / f"{CHAPTER}.json").write_text(json.dumps(own_row))
    assert "; first depth: 4 to 5." in fleet.over_organisms(ID, data=data.folder), "not in all"


def test_fewer_than_three_are_no_fleet(data):
    del data.results["members"]["2"], data.results["rows"]["2"]
    data.save()
    for read in (fleet.table, fleet.exams, fleet.missing):
        with pytest.raises(ValueError, match="3 organisms or more; .* seed 0 and 1. `make fleet`"):
            read(data.folder)
    (data.folder / "results" / "fleet.json").unlink()
    with pytest.raises(ValueError, match="has results of seed 0. `make fleet` raises more"):
        fleet.table(data.folder)


@pytest.mark.parametrize("text", ["[]", '{"rows": {}}', '{"rows": [], "members": {}}', "{"])
def test_a_broken_file_is_refused(text, data):
    (data.folder / "results" / "fleet.json").write_text(text)
    with pytest.raises(ValueError, match=r"fleet\.json"):
        fleet.table(data.folder)


def test_what_is_missing_is_told(data):
    assert fleet.missing(data.folder) == []
    data.results["rows"]["1"][OTHER] = entry("b", row(0.2, "partly", LATER))
    data.results["rows"]["2"][CHAPTER]["rows"] = []
    assert fleet.missing(data.save()) == [
        f"Seed 2 has no results of {OTHER}.",
        f"toy-llava of seed 2 has no row of {ID}.",
        f"toy-llava of seed 0 has no row of {LATER}.",
    ]
    table = fleet.table(data.folder)
    assert len(table) == 3 and fleet.judged(table, lambda verdicts: "partly") == []
    few = "`toy-llava`: *reproduced* in 1, *partly* in 1 (1 of 3 without a row);"
    assert few in fleet.over_organisms(ID, data=data.folder)
    one = "`toy-llava`: one organism *partly* (2 of 3 without a row)."
    assert one in fleet.over_organisms(LATER, data=data.folder)
    # a member that was raised, and not measured
    data.results["members"]["3"] = data.results["members"]["1"]
    assert f"Seed 3 has no results of {CHAPTER}." in fleet.missing(data.save())


def test_a_chapter_that_changed_between_members_is_refused(data):
    data.results["rows"]["2"][CHAPTER]["mark"] = "later"
    said = f"The chapter {CHAPTER} was changed between the measurements of seed 1 and seed 2"
    with pytest.raises(ValueError, match=said):
        fleet.table(data.save())
    with pytest.raises(ValueError, match=said):
        fleet.over_organisms(ID, data=data.folder)
    assert ": open." in fleet.over_organisms(LATER, data=data.folder), "another chapter's claim"


def test_rows_of_other_weights_than_the_members_are_refused(data):
    data.results["members"]["2"] = {"toy-llava": {**data.results["members"]["1"]["toy-llava"]}}
    data.results["members"]["2"]["toy-llava"]["weights"] = "v"
    with pytest.raises(ValueError, match="on seed 2 were measured on other weights than this mem"):
        fleet.table(data.save())


def test_the_box_of_a_chapter(data):
    said = fleet.over_organisms(ID, data=data.folder)
    assert said.startswith("> **Over organisms.** This chapter's rules on 3 organisms of a kind")
    assert "\n>\n> *Patches of an object decode" in said
    assert said.endswith(
        "\n>\n> - `toy-llava`: *reproduced* in 2, *partly* in 1; 50.0% to 70.0% (mean 60.0%) share "
        "of patches, LM layer ….\n>\n> (… stands where the organisms differ in what was chosen.)"
    )
    with pytest.raises(ValueError, match="'what.none' is no claim of the catalogue"):
        fleet.over_organisms("what.none", data=data.folder)
    data.results["rows"] = {}
    data.results["members"] = {}
    said = fleet.over_organisms(ID, LATER, data=data.save())
    assert said.startswith("> **Over organisms.** Open.") and "`make fleet`" in said
    (data.folder / "results" / "fleet.json").unlink()
    assert fleet.over_organisms(ID, data=data.folder) == said


def test_the_box_tells_of_a_verdict_that_depends_on_the_draw(data):
    def said(*verdicts):
        kept = {}
        for n, verdict in enumerate(verdicts):
            kept[n] = {CHAPTER: {"rows": [row(n / 10, verdict)]}}
        (data.folder / "results" / "draws.json").write_text(json.dumps({"rows": kept}))
        return fleet.over_organisms(ID, data=data.folder)

    assert "other draws" not in said(*["reproduced"] * 4, "partly")
    told = "*reproduced* in seed 0 depends on the scenes: of 4 other draws, *reproduced* in 1, "
    assert f"LM layer …; {told}*partly* in 3.\n" in said("reproduced", *["partly"] * 3)


def test_the_words_that_units_have_in_common():
    assert fleet.in_common(["a b; n counts c"]) == "a b"
    assert fleet.in_common(["fall from 5 of 6", "fall from 1 of 6"]) == "fall from … of 6"
    three = ["fall at 5, read at 2", "fall at 1, read at 2", "fall at 5, read at 4"]
    assert fleet.in_common(three) == "fall at … read at …"
    assert fleet.in_common(["same", "same"]) == "same" and fleet.in_common(["a", "b"]) == "…"


def test_a_row_over_organisms_names_them_all(tmp_path, monkeypatch, data):
    monkeypatch.setenv("WHATWHERE_CLAIMS", str(tmp_path / "claims"))
    (found,) = fleet.judged(fleet.table(data.folder), lambda verdicts: "partly")
    record = ledger.record
    for change, said in (
        ({"n": 4}, "also has each of the n organisms"),
        ({"also": [{**each, "what": "seed 0"} for each in found["measured"]["also"]]}, "such as"),
    ):
        with pytest.raises(ValueError, match=said):
            record("17_one_seed_or_many", **{**found, "measured": found["measured"] | change})
    with pytest.raises(ValueError, match="belongs to the chapter one_seed_or_many"):
        record(CHAPTER, **found)
    with pytest.raises(ValueError, match="no claim of the catalogue"):
        record("17_one_seed_or_many", **{**found, "id": "organisms.what.none"})
    record("17_one_seed_or_many", **found)
    before = ledger.progress(), ledger.progress(others=True)
    assert before[0][1].keys() == before[1][1].keys() == {"to come"}, "not among one organism's"
    assert ledger.verdicts(fleet=True)[ID] == "partly"
    assert ledger.by_scale()["shares"] == [] and len(ledger.by_scale(fleet=True)["shares"]) == 1
    assert "organisms." not in ledger.table("what") + ledger.table("where")
    shown = []
    module = import_module("whatwhere.book.figures.forest")
    monkeypatch.setattr(module, "show", lambda fig, alt: shown.append(alt))
    figures.show_forests()
    assert shown == [], "no row of a chapter's own"
    figures.show_forests(fleet=True)
    (alt,) = shown
    assert "measured in shares, over the organisms" in alt


def test_a_forest_shows_the_organisms(data):
    (found,) = fleet.judged(fleet.table(data.folder), lambda verdicts: "partly")
    fig = figures.forest([found], "share", percent=True)
    assert figures.told(fig) == (
        f"{ID}, toy-llava: 60.0%, partly (2 reproduced, 1 partly, 0 not reproduced)."
    )
    (ax,) = fig.axes
    drawn = [line.get_xdata()[0] for line in ax.lines if line.get_markersize() == 3]
    assert drawn == [0.7, 0.5, 0.6] and [text.get_text() for text in ax.texts] == ["2", "1", "0"]


def test_the_table_is_empty_without_rows(data):
    data.results["rows"] = {}
    assert isinstance(fleet.table(data.save()), pd.DataFrame) and fleet.table(data.folder).empty


def test_what_chapter_4_says_of_its_organisms_and_of_two_odd_rows():
    table = fleet.table().set_index(["claim", "kind", "seed"])
    table = table.loc[[claim.startswith("what.") for claim, _, _ in table.index]]

    def of(claim, kind):
        return table.loc[(f"what.{claim}", f"toy-{kind}")]

    assert of("stages.object_rise", "llava")["value"].idxmax() == 0
    assert of("gestalt.closure", "llava")["value"].idxmin() == 0
    assert of("hallucination.onset", "qwen2vl")["value"].idxmax() == 0
    for kind in ("llava", "qwen2vl"):
        assert (of("stages.attribute_peak", kind)["verdict"] == "not reproduced").any()
    flat = of("stages.object_rise", "llava").query("value == 0")
    assert flat["unit"].str.contains("from depth 6 of 6").tolist() == [True]
    closure = of("gestalt.closure", "qwen2vl").query("verdict == 'reproduced'")
    (odd,) = closure.to_dict("records")
    half = "more than half of what is said in plain sight, thing by thing"
    assert 2 * (odd["value"] - odd["also"][half]) < 0.02, "half of plain sight is next to nothing"


def test_what_chapters_5_6_and_15_say_of_other_organisms_and_draws():
    table = fleet.table().set_index(["claim", "kind", "seed"])
    agreement = table.loc["what.decoder.agreement"]["verdict"]
    assert (agreement == "partly").groupby("kind").sum().tolist() == [1, 1]
    lost = table.loc[("what.compress.rle", "toy-llava")]["value"]
    assert 2 * lost[0] < lost.drop(0).min(), (
        "the luckiest of its kind, and the others lose far more"
    )
    assert (table.loc[("where.scaling.general", "toy-qwen2vl")]["value"] < 0).all()
    draws = ledger.drawn()["what.compress.rle", "toy-qwen2vl"]
    own = table.loc[("what.compress.rle", "toy-qwen2vl", 0)]["verdict"]
    assert own == "partly" and set(draws) == {"reproduced"}
    (path,) = [row["control"] for row in ledger.rows() if row["id"] == "what.compress.speed"]
    assert path["ci95"][1] < 1, "chapter 6: the path alone costs a little"
