"""Every rule against a package it matches and one it does not; the rules file; every operator."""

from __future__ import annotations

import copy
import tomllib

import pytest
from coremltools.converters.mil import Builder as mb

from kokoro_coreml.errors import PackageError, PlacementError
from kokoro_coreml.executor import OPS, REFUSED
from kokoro_coreml.placement import Question, inspect_package, load_rules
from kokoro_coreml.placement.rules import RULES_FILE, parse_rules, read_rules
from kokoro_coreml.resources import data_file
from tests.placement.cases import CASES
from tests.placement.packages import block_of, edit, half, inspect_body, inspected, save

RULES = load_rules()


def rules_of(function) -> set[str]:
    """Of the findings, and of the operations as they were decided."""
    return {f.rule for f in function.findings} | {r for o in function.operations for r in o.rules}


@pytest.mark.parametrize("rule", [r.id for r in RULES.rules])
def test_a_rule_matches_what_it_is_about_and_nothing_else(rule, tmp_path):
    case = CASES[rule]
    found = inspected(case.matching(tmp_path / "a.mlpackage"), case.units, case.generation)
    assert rule in rules_of(found)
    units = case.other_units or case.units
    generation = case.other_generation or case.generation
    other = inspected(case.other(tmp_path / "b.mlpackage"), units, generation)
    assert rule not in rules_of(other)


def test_every_case_is_of_a_rule():
    assert set(CASES) == {r.id for r in RULES.rules}


def test_a_finding_says_what_was_found_where_and_who_says_so():
    def body(x):
        return mb.cumsum(x=mb.relu(x=x), axis=1, name="total")

    function = inspect_body(body, half(4, 32))
    (found,) = [f for f in function.findings if f.rule == "running-sum"]
    total = next(o for o in function.operations if o.type == "cumsum")
    assert (found.severity, found.type, found.name) == ("severe", "cumsum", "total")
    assert found.position == total.position
    assert found.found
    assert found.expected
    assert found.sources[0].startswith("https://github.com/751K/")
    assert found.generations == (), "it holds for all that were asked about"
    assert total.predicted == "CPU"
    assert total.rules == ("running-sum",)


def test_numbers_stand_in_the_message():
    function = inspect_body(lambda x: mb.relu(x=x), half(1, 4, 1, 20000))
    (found,) = [f for f in function.findings if f.rule == "axis-over-16384"]
    assert "an axis of 20,000," in found.found
    assert found.generations == ("H13", "H14", "H15")
    (operation,) = function.operations
    assert operation.predicted == "unknown"
    assert dict(operation.devices) == {
        "H13": "CPU",
        "H14": "CPU",
        "H15": "CPU",
        "H16": "NeuralEngine",
        "H17": "NeuralEngine",
        "H18": "NeuralEngine",
    }


@pytest.mark.parametrize(
    ("generation", "device"), [("A15", "CPU"), ("M4 Pro", "NeuralEngine"), ("h16", "NeuralEngine")]
)
def test_a_generation_decides(generation, device):
    function = inspect_body(lambda x: mb.relu(x=x), half(1, 4, 1, 20000), generation=generation)
    assert function.operations[0].predicted == device


def test_where_the_gpu_is_allowed_nothing_is_guessed():
    function = inspect_body(lambda x: mb.relu(x=x), half(1, 4, 2, 32), units="ALL")
    assert function.operations[0].predicted == "unknown"
    assert "prefers" in function.operations[0].reason
    windows = inspect_body(
        lambda x: mb.sliding_windows(x=x, axis=1, size=4), half(1, 32), units="ALL"
    )
    assert windows.operations[0].predicted == "CPU"


def test_a_program_that_is_too_large_leaves_its_generation_unknown(tmp_path):
    """What the CPU alone takes stays there; other generations are predicted as before."""

    def body(x):
        for _ in range(346):
            x = mb.relu(x=x)
        return mb.relu(x=mb.cumsum(x=x, axis=1, name="total"), name="end")

    package = save(body, [half(4, 32)], tmp_path / "a.mlpackage")
    on_a14 = inspected(package, generation="A14")
    end, total = ({o.name: o for o in on_a14.operations}[n] for n in ("end", "total"))
    assert (end.predicted, end.rules, total.predicted) == ("unknown", ("program-size",), "CPU")
    assert "348 operations in all" in end.reason
    assert on_a14.summary.switches == 0
    on_m4 = inspected(package, generation="M4")
    assert on_m4.operations[-1].predicted == "NeuralEngine"
    every = inspected(package)
    assert every.operations[-1].predicted == "unknown"
    assert every.operations[-1].devices["H13"] == "unknown"
    assert every.operations[-1].devices["H16"] == "NeuralEngine"
    assert every.summary.switches == 0, "on the H13 nothing is known to change"
    (switches,) = (f for f in every.findings if f.rule == "switches")
    assert "at least 2 times" in switches.found, "which it does on the H16"
    assert inspected(package, "CPU_ONLY").operations[-1].predicted == "CPU"


@pytest.mark.parametrize("generation", ["M2", "M3", "M4", "M5", "M6", None])
@pytest.mark.parametrize("name", ["arguments", "argsort-on-m1"])
def test_where_sources_conflict_the_device_is_unknown_and_the_finding_severe(
    name, generation, tmp_path
):
    """One source measured the M4 through Core ML, the other the chips outside it."""
    function = inspected(CASES[name].matching(tmp_path / "a.mlpackage"), generation=generation)
    operation = function.operations[-1]
    assert operation.predicted == "unknown"
    assert "arguments" in operation.rules
    (found,) = [f for f in function.findings if f.rule == "arguments"]
    assert (found.severity, found.confidence) == ("severe", "reported")
    assert any("751K" in s for s in found.sources)
    assert any("op-catalog" in s for s in found.sources)


@pytest.mark.parametrize(("units", "severity"), [("CPU_AND_NE", "severe"), ("ALL", "severe")])
def test_a_tile_may_not_ship_where_the_neural_engine_may_run_it(units, severity, tmp_path):
    tile = inspected(CASES["tile"].matching(tmp_path / "a.mlpackage"), units)
    assert [f.severity for f in tile.findings if f.rule == "tile"] == [severity]


@pytest.mark.parametrize("units", ["CPU_AND_NE", "ALL", "CPU_ONLY"])
def test_every_operator_has_a_rule_or_is_unknown(units, tmp_path):
    package = save(lambda x: mb.relu(x=x), [half(1, 4, 2, 32)], tmp_path / "a.mlpackage")
    ruled = {o for r in RULES.rules if r.verdict for o in r.operators}
    names = [n for n in (*OPS, *REFUSED, "brand_new") if not n.startswith("constexpr_")]
    for name in names:
        edit(package, lambda model, n=name: setattr(block_of(model).operations[-1], "type", n))
        (operation,) = inspected(package, units).operations
        assert operation.type == name
        if units == "CPU_AND_NE" and name not in ruled:
            assert (operation.predicted, operation.rules) == ("unknown", ())
            assert "no public source" in operation.reason
    assert {"conv_quantized", "brand_new", "classify"} <= set(names) - ruled


def test_what_the_pipeline_uses_is_on_the_neural_engine():
    """Of stages in rank 4, (1, channels, rows, width), from M3 on."""
    used = (
        "conv concat slice_by_index slice_by_size pad reshape transpose linear matmul softmax gelu "
        "select reduce_mean reduce_sum sin exp add mul sub real_div rsqrt sqrt square leaky_relu "
        "layer_norm instance_norm split squeeze expand_dims stack"
    )
    admitted = {
        o
        for r in RULES.rules
        if r.verdict == "neural_engine" and "H15" in r.holds_for
        for o in r.operators
    }
    assert set(used.split()) <= admitted


def raw():
    return copy.deepcopy(tomllib.loads(data_file(RULES_FILE).read_text(encoding="utf-8")))


def test_every_rule_has_a_source_and_its_own_name():
    assert all(r.sources for r in RULES.rules)
    ids = [r.id for r in RULES.rules]
    assert len(set(ids)) == len(ids)
    addresses = [s.url for s in RULES.sources]
    assert len(set(addresses)) == len(addresses)


def test_what_was_measured_was_measured_on_each_generation_it_claims():
    by_id = {s.id: s for s in RULES.sources}
    beyond = {}
    for rule in (r for r in RULES.rules if r.confidence == "measured by others"):
        chips = [chip for s in rule.sources for chip in by_id[s].measured]
        measured = {RULES.generation_of(chip).name for chip in chips}
        beyond[rule.id] = set(rule.generations) - measured
    assert {i: g for i, g in beyond.items() if g} == {}


@pytest.mark.parametrize(
    ("generation", "confidence"),
    [
        ("M4", "measured by others"),
        ("M3", "inferred"),
        (None, "measured by others, inferred for H15 and H18"),
    ],
)
def test_a_finding_says_where_its_sources_infer(generation, confidence, tmp_path):
    package = CASES["unsupported-structure"].matching(tmp_path / "a.mlpackage")
    found = inspected(package, generation=generation).findings
    of_rule = [f.confidence for f in found if f.rule == "unsupported-structure"]
    assert of_rule == [confidence]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r["rules"][3].update(sevrity={}), "unknown key 'sevrity'.*'severity'"),
        (lambda r: r["rules"][3].pop("sources"), "lacks the key 'sources'"),
        (lambda r: r["rules"][3].update(sources=[]), "a length of at least 1"),
        (lambda r: r["rules"][3].update(id=r["rules"][4]["id"]), "occurs twice"),
        (lambda r: r["rules"][3].update(sources=["nobody"]), "unknown source 'nobody'"),
        (lambda r: r["rules"][3].update(generations=["H99"]), "unknown generation 'H99'"),
        (lambda r: r["rules"][3].update(generations=[], inferred=[]), "names no generation"),
        (lambda r: r["rules"][3].pop("expected"), "does not say what is expected"),
        (lambda r: r["rules"][3].update(found="{colour}"), "unknown fact 'colour'"),
        (lambda r: r["rules"][3]["when"].update(bounds=[{"fact": "size"}]), "unknown fact 'size'"),
        (lambda r: r["rules"][3]["when"].update(device=["CPU"]), "unknown key 'device'"),
        (lambda r: r["rules"][3].update(severity={"ANE": "note"}), "must be one of"),
        (lambda r: r["rules"][3].update(verdict="maybe"), "must be one of"),
        (lambda r: r["rules"][3]["when"].update(devices=["CPU"]), "decides the device"),
        (
            lambda r: r["rules"][3].update(generations=["H15"], inferred=[]),
            "none of its sources measured H15",
        ),
        (lambda r: r["rules"][3].update(inferred=["H13"]), "the generation 'H13' twice"),
        (lambda r: r["rules"][3].update(inferred=["H99"]), "unknown generation 'H99'"),
        (lambda r: r["rules"][3].update(sources=["751k-hal"]), "measured a chip"),
        (lambda r: r["sources"][0].update(measured=["Z80"]), "unknown chip 'Z80'"),
        (lambda r: r["sources"][0].pop("measured"), "lacks the key 'measured'"),
        (lambda r: r.update(schema=2), "schema 2, but this version .* reads 1"),
        (lambda r: r["sources"][0].update(url="http://a"), "an https address"),
        (
            lambda r: r["sources"].append(
                {"id": "extra", "title": "x", "url": "https://x", "measured": []}
            ),
            "no rule uses the source 'extra'",
        ),
    ],
)
def test_a_wrong_rules_file_is_refused(change, message):
    table = raw()
    change(table)
    with pytest.raises(PlacementError, match=message):
        parse_rules(table, document="rules.toml")


def test_what_is_no_toml_is_refused(tmp_path):
    path = tmp_path / "rules.toml"
    path.write_text("schema = ")
    with pytest.raises(PlacementError, match="cannot read the rules"):
        read_rules(path)


@pytest.mark.parametrize(
    ("name", "generation"),
    [("M1 Ultra", "H13"), ("A14", "H13"), ("a16", "H15"), ("A17 Pro", "H16"), ("A18 Pro", "H17")],
)
def test_chips_have_their_generation(name, generation):
    assert RULES.generation_of(name).name == generation


def test_an_unknown_chip_or_unit_is_named(tmp_path):
    with pytest.raises(PlacementError, match="unknown generation 'Z80'"):
        Question.of("ALL", generation="Z80")
    with pytest.raises(PlacementError, match="unknown compute units 'ANE'; known: ALL"):
        Question.of("ANE")
    with pytest.raises(PlacementError, match="expected more than 0"):
        Question.of("ALL", seconds=0.0)


def test_a_broken_package_is_an_error_that_names_the_operation(tmp_path):
    package = save(lambda x: mb.relu(x=x), [half(1, 32)], tmp_path / "a.mlpackage")
    question = Question.of("CPU_ONLY")

    def unbind(model):
        block_of(model).operations[-1].inputs["x"].arguments[0].name = "nothing"

    edit(package, unbind)
    with pytest.raises(PackageError, match=r"operation \d+, relu, x reads 'nothing' before"):
        inspect_package(package, question)
    with pytest.raises(PackageError, match="no function 'other'"):
        inspect_package(package, question, function="other")
