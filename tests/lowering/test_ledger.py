"""Every entry of the ledger is measured: the stock lowering is still wrong, ours is right."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from kokoro_coreml.lowering.corrections import CORRECTIONS
from kokoro_coreml.lowering.ledger import Entry, Input, LedgerError, load_ledger, reproduce
from kokoro_coreml.resources import patches_folder

LEDGER = load_ledger()
REPRODUCED = [entry for entry in LEDGER if entry.reproducer is not None]
PINS = [entry for entry in LEDGER if entry.handling == "pin"]
PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"

NARROW = (patches_folder() / "narrow-to-the-end.toml").read_text(encoding="utf-8")


def named(entry: Entry) -> str:
    return entry.id


def entry_of(name: str) -> Entry:
    return next(entry for entry in LEDGER if entry.id == name)


@pytest.mark.parametrize("entry", REPRODUCED, ids=named)
def test_the_stock_lowering_is_still_wrong(entry: Entry, tmp_path: Path) -> None:
    outcome = reproduce(entry, corrected=False, folder=tmp_path)
    assert outcome.verdict != "right", f"stock has become right: drop patches/{entry.id}.toml"
    expected = {"miscompile": "wrong", "fails": "failed"}[entry.kind]
    assert outcome.verdict == expected, f"patches/{entry.id}.toml: {outcome.detail}"


@pytest.mark.parametrize("entry", REPRODUCED, ids=named)
def test_our_lowering_is_right(entry: Entry, tmp_path: Path) -> None:
    outcome = reproduce(entry, corrected=True, folder=tmp_path)
    assert outcome.verdict == "right", f"patches/{entry.id}.toml: {outcome.detail}"


@pytest.mark.parametrize("entry", REPRODUCED, ids=named)
def test_the_installed_version_is_one_of_those_at_fault(entry: Entry) -> None:
    assert entry.applies(), f"measure patches/{entry.id}.toml with the installed {entry.package}"


@pytest.mark.parametrize("entry", PINS, ids=named)
def test_a_pin_keeps_out_the_versions_at_fault_and_says_why(entry: Entry) -> None:
    text = PYPROJECT.read_text(encoding="utf-8")
    project = tomllib.loads(text)["project"]
    requirements = {r.name: r for r in map(Requirement, project["dependencies"])}
    (first,) = SpecifierSet(entry.versions)
    assert first.operator == ">="
    assert not requirements[entry.package].specifier.contains(first.version)
    assert not entry.applies()
    assert entry.upstream is not None
    issue = entry.upstream.rsplit("/", 1)[1]
    assert re.search(rf'#.*#{issue}.*\n\s*"{entry.package}\b', text), "the pin's reason is missing"


def test_an_outcome_names_a_wrong_shape_type_or_value(tmp_path: Path) -> None:
    narrow = reproduce(entry_of("narrow-to-the-end"), corrected=False, folder=tmp_path)
    assert narrow.detail == "shape [3, 0] instead of [3, 2]"
    division = reproduce(entry_of("integer-division-rounding"), corrected=False, folder=tmp_path)
    assert division.detail == "float32 instead of int32"
    reciprocal = reproduce(entry_of("reciprocal-epsilon"), corrected=False, folder=tmp_path)
    assert reciprocal.detail.endswith(" instead of -999.999939")
    assert reciprocal.error == pytest.approx(1 / 9, rel=1e-3)
    infinities = reproduce(entry_of("triangle-of-infinities"), corrected=False, folder=tmp_path)
    assert infinities.detail.startswith("nan instead of")
    assert infinities.error == np.inf


def test_a_result_within_the_tolerance_is_right_and_beyond_it_wrong(tmp_path: Path) -> None:
    entry = entry_of("reciprocal-epsilon")
    assert entry.reproducer is not None
    loose = dataclasses.replace(
        entry, reproducer=dataclasses.replace(entry.reproducer, tolerance=0.2)
    )
    assert reproduce(loose, corrected=False, folder=tmp_path).verdict == "right"
    assert reproduce(entry, corrected=False, folder=tmp_path).verdict == "wrong"


def test_a_pin_has_nothing_to_reproduce(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match=r"no \[reproducer\]"):
        reproduce(PINS[0], corrected=True, folder=tmp_path)


def test_an_input_without_values_is_a_fixed_sequence_of_distinct_ones() -> None:
    array = Input("float32", (2, 3)).array()
    np.testing.assert_array_equal(array, np.sin(np.arange(1, 7)).reshape(2, 3).astype(np.float32))
    assert Input("int32", (2,), (3.0, -4.0)).array().tolist() == [3, -4]


def test_every_registered_correction_needs_an_entry() -> None:
    with pytest.raises(LedgerError, match=r"without an entry.*unheard-of.*patches/unheard-of.toml"):
        load_ledger(corrections=(*CORRECTIONS, "unheard-of"))


def test_every_correction_entry_needs_a_registered_correction() -> None:
    registered = [name for name in CORRECTIONS if name != "atan2-branch-cut"]
    with pytest.raises(LedgerError, match=r"without a registered correction: atan2-branch-cut"):
        load_ledger(corrections=registered)


def test_entries_come_in_the_order_of_their_ids() -> None:
    ids = [entry.id for entry in LEDGER]
    assert ids == sorted(ids)
    assert {*CORRECTIONS} == {entry.id for entry in LEDGER if entry.handling == "correction"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("schema = 1", "schema = 2", r"narrow-to-the-end.toml: 'schema' must be one of 1"),
        ("title =", "titel =", r"unknown key 'titel'.*did you mean 'title'"),
        ("expression =", "expresion =", r"unknown key 'expresion' in table 'reproducer'"),
        ('id = "narrow-to-the-end"', 'id = "narrow"', r"'id' must be the file's stem"),
        ('"rewrite"', '"ignored"', r"'handling' must be one of"),
        ('"rewrite"', '"correction"', r"'replacement' is needed for the handling 'rewrite'"),
        ('"rewrite"', '"pin"', r"kind 'pin' and the handling 'pin' go together"),
        ('"==9.0"', '"nine"', r"'versions' must be a PEP 440 specifier"),
        ('"https://', '"http://', r"'upstream' must be a https:// URL"),
        ('"float32"', '"float16"', r"'reproducer.inputs.x.dtype' must be one of"),
        ("shape = [3, 4]", "shape = [3, 4]\nvalues = [1]", r"input 'x' needs 12 values"),
        ("[reproducer]", "[reproducer", r"cannot read narrow-to-the-end.toml"),
        (NARROW[NARROW.index("[reproducer]") :], "", r"a \[reproducer\] is needed"),
    ],
)
def test_a_wrong_entry_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in NARROW
    (tmp_path / "narrow-to-the-end.toml").write_text(NARROW.replace(old, new), encoding="utf-8")
    with pytest.raises(LedgerError, match=message):
        load_ledger(tmp_path, corrections=())


def test_the_unchanged_entry_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "narrow-to-the-end.toml").write_text(NARROW, encoding="utf-8")
    (entry,) = load_ledger(tmp_path, corrections=())
    assert entry == entry_of("narrow-to-the-end")


def test_the_passes_left_out_and_the_ledger_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kokoro_coreml.lowering.ledger.INEXACT_PASSES", ("common::other",))
    with pytest.raises(LedgerError, match="divide_to_multiply"):
        load_ledger()
