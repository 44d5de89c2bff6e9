"""Inspections of whole packages and bundles: functions, blocks, constants, sums, refusals."""

from __future__ import annotations

import json
from dataclasses import replace

import jsonschema
import numpy as np
import pytest
from coremltools.converters.mil import Builder as mb

from kokoro_coreml.coreml import load_plan
from kokoro_coreml.coreml.compiled import model_sha256
from kokoro_coreml.coreml.plan import ComputePlan, PlannedOperation
from kokoro_coreml.errors import PlacementError
from kokoro_coreml.executor import Program
from kokoro_coreml.executor.package import Package
from kokoro_coreml.placement import (
    Options,
    Question,
    inspect,
    inspect_package,
    inspection_schema,
    severe_findings,
    targets,
)
from kokoro_coreml.resources import data_file
from tests.placement.packages import edit, half, inspect_body, inspected, save
from tests.placement.placement_docs import PAGE, SCHEMA, page, schema


def ask(units="CPU_AND_NE", **options):
    return Question.of(units, **options)


def test_operations_stand_where_the_executor_has_them(package):
    function = inspected(package)
    names = {o.name: o.position for o in Program.load(package).operations if o.type != "const"}
    assert {o.name: o.position for o in function.operations} == names
    assert [(o.type, o.name) for o in function.operations] == [
        ("conv", "body"),
        ("sin", "wave"),
        ("cumsum", "total"),
        ("mul", "out"),
    ]
    (result,) = function.operations[0].results
    assert (result.dtype, result.shape) == ("fp16", (1, 8, 2, 64))


def test_the_summary_adds_up(package):
    summary = inspected(package, generation="M4").summary
    assert [(d.device, d.operations) for d in summary.devices] == [("NeuralEngine", 3), ("CPU", 1)]
    conv = 1 * 8 * 2 * 64 * (4 * 3)
    assert summary.multiply_adds == conv
    elements = 1 * 8 * 2 * 64
    assert summary.arithmetic == 2 * conv + 3 * elements
    share = {d.device: d.share for d in summary.devices}
    assert share["CPU"] == pytest.approx(elements / summary.arithmetic)
    assert sum(share.values()) == pytest.approx(1)
    assert summary.switches == 2
    assert (summary.largest_axis, summary.largest_axis_at) == (64, "conv body")
    assert summary.findings["severe"] == 1


def test_seconds_of_audio_divide_the_sums(package):
    (function,) = inspect_package(package, ask(seconds=0.5)).functions
    summary = function.summary
    assert summary.seconds == 0.5
    assert summary.multiply_adds_per_second == 2 * summary.multiply_adds
    assert summary.arithmetic_per_second == 2 * summary.arithmetic
    moved = sum(o.weight_bytes + o.input_bytes + o.output_bytes for o in function.operations)
    assert summary.bytes_per_second == 2 * moved
    assert inspected(package).summary.multiply_adds_per_second is None


def test_severe_findings_are_what_a_conversion_asks_for(package):
    (found,) = severe_findings(package, compute_units="CPU_AND_NE")
    assert (found.rule, found.name) == ("running-sum", "total")
    assert str(found).startswith("severe: running-sum: main: operation")
    crashing = severe_findings(package, compute_units="CPU_ONLY", function="main")
    assert {f.rule for f in crashing} == {"half-on-the-cpu"}
    assert len(crashing) == 4
    with pytest.raises(PlacementError, match="unknown compute units"):
        severe_findings(package, compute_units="NE")


def test_a_sound_stage_has_no_severe_finding(tmp_path):
    """The operators of a folded generator, in rank 4 and half precision."""

    def body(x):
        y = mb.conv(x=x, weight=np.full((4, 4, 1, 11), 0.1, np.float16), dilations=[1, 5])
        mean = mb.reduce_mean(x=y, axes=[2, 3], keep_dims=True)
        y = mb.mul(x=mb.sub(x=y, y=mean), y=np.float16(2))
        y = mb.add(x=y, y=mb.square(x=mb.sin(x=y)))
        return mb.pad(x=mb.leaky_relu(x=y, alpha=np.float16(0.1)), pad=[25, 25], mode="constant")

    package = save(body, [half(1, 4, 3, 114)], tmp_path / "a.mlpackage")
    assert severe_findings(package, compute_units="CPU_AND_NE") == ()
    on_m4 = inspected(package, generation="M4")
    assert {o.predicted for o in on_m4.operations} == {"NeuralEngine"}
    assert all(o.rules for o in on_m4.operations)


def test_all_functions_are_inspected_or_the_one_named(two_functions):
    found = inspect_package(two_functions, ask()).functions
    assert [f.function for f in found] == ["frames_64", "frames_128"]
    assert [f.operations[0].multiply_adds for f in found] == [
        8 * 2 * 64 * 12,
        8 * 2 * 128 * 12,
    ]
    (one,) = inspect_package(two_functions, ask(), function="frames_128").functions
    assert one == found[1]
    assert {f.function for f in found[1].findings} == {"frames_128"}


def test_nested_blocks_are_read_in_their_place():
    def body(x):
        positive = mb.squeeze(x=mb.greater(x=x, y=np.float16(0)))
        y = mb.cond(
            pred=positive,
            _true_fn=lambda: mb.sqrt(x=x, name="root"),
            _false_fn=lambda: mb.abs(x=x, name="size"),
            name="y",
        )
        return mb.add(x=y, y=np.float16(1), name="end")

    function = inspect_body(body, half(1), generation="M4")
    inside = {o.name: o.inside for o in function.operations}
    assert (inside["y"], inside["root"], inside["size"], inside["end"]) == (
        None,
        "y/0",
        "y/1",
        None,
    )
    predicted = {o.name: o.predicted for o in function.operations}
    assert (predicted["y"], predicted["root"]) == ("CPU", "NeuralEngine")


def test_a_bundle_says_its_compute_units_and_seconds(bundle):
    (found,) = inspect(bundle, Options()).packages
    assert [f.compute_units for f in found.functions] == ["CPU_AND_NE", "CPU_AND_NE"]
    assert [f.summary.seconds for f in found.functions] == [64 * 600 / 24_000, 128 * 600 / 24_000]
    (same,) = inspect(bundle / "Two.mlpackage", Options()).packages
    assert same == found, "a package is looked up in the bundle it lies in"
    (other,) = inspect(bundle, Options(compute_units="CPU_ONLY", seconds=2)).packages
    assert {f.compute_units for f in other.functions} == {"CPU_ONLY"}
    assert {f.summary.seconds for f in other.functions} == {2}


def test_what_is_missing_is_asked_for(package, bundle, tmp_path):
    with pytest.raises(PlacementError, match="pass --compute-units ALL, CPU_ONLY"):
        inspect(package, Options())
    with pytest.raises(PlacementError, match=r"neither a \.mlpackage nor a bundle"):
        inspect(tmp_path, Options())
    with pytest.raises(PlacementError, match=r"neither a \.mlpackage nor a bundle"):
        inspect(tmp_path / "absent", Options())
    assert targets(bundle)[0].functions == ("frames_64", "frames_128")


def test_another_manifest_above_a_package_is_no_bundle(package, tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    moved = tmp_path / "a" / "Stage.mlpackage"
    moved.parent.mkdir()
    package_files = {p.relative_to(package): p for p in package.rglob("*") if p.is_file()}
    for relative, file in package_files.items():
        (moved / relative).parent.mkdir(parents=True, exist_ok=True)
        (moved / relative).write_bytes(file.read_bytes())
    (found,) = inspect(moved, Options(compute_units="CPU_AND_NE")).packages
    assert found.package == "Stage.mlpackage"


def test_a_record_keeps_to_its_schema_and_names_its_rules(bundle):
    inspection = inspect(bundle, Options())
    record = json.loads(json.dumps(inspection.to_dict(), allow_nan=False))
    jsonschema.validate(record, inspection_schema())
    assert record["schema_version"] == 1
    functions = record["packages"][0]["functions"]
    named = {r for f in functions for o in f["operations"] for r in o["rules"]}
    named |= {finding["rule"] for f in functions for finding in f["findings"]}
    assert named == set(record["rules"])
    assert all(rule["sources"] for rule in record["rules"].values())
    broken = record | {"schema_version": 2}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, inspection_schema())


def test_generated_files_are_current():
    again = "python tests/placement/placement_docs.py"
    assert page() == PAGE.read_text(encoding="utf-8"), again
    assert schema() == SCHEMA.read_text(encoding="utf-8"), again
    assert data_file(SCHEMA.name) == SCHEMA


def planned(package, **changes):
    """A plan as a Mac might have made it: the sine on the CPU, and nothing about the product."""
    devices = {"body": "NeuralEngine", "wave": "CPU", "total": "CPU", "out": None}
    every = ("CPU", "NeuralEngine")
    operations = tuple(
        PlannedOperation(
            o.position,
            o.type,
            "ios18",
            (o.name,),
            None,
            devices[o.name],
            () if devices[o.name] is None else every[: 1 if o.type == "cumsum" else 2],
            None,
        )
        for o in inspected(package).operations
    )
    plan = ComputePlan(
        schema_version=1,
        project_version="0.1.0",
        package=package.name,
        model_sha256=model_sha256(Package.load(package)),
        function="main",
        compute_units="CPU_AND_NE",
        macos="15.3",
        processor="Apple M4",
        coremltools="9.0",
        available=("CPU", "GPU", "NeuralEngine"),
        constants=10,
        operations=operations,
    )
    return replace(plan, **changes)


def test_a_plan_stands_beside_the_prediction(package, tmp_path):
    path = tmp_path / "plan.json"
    path.write_text(planned(package).to_json(), encoding="utf-8")
    options = Options("CPU_AND_NE", generation="M4", plan=load_plan(path))
    (found,) = inspect(package, options).packages
    agreement = found.functions[0].agreement
    assert (agreement.compared, agreement.agreed, agreement.admissible) == (3, 2, 3)
    assert (agreement.unpredicted, agreement.unplanned) == (0, 1)
    assert agreement.table == {
        "NeuralEngine > NeuralEngine": 1,
        "NeuralEngine > CPU": 1,
        "CPU > CPU": 1,
    }
    (differing,) = agreement.disagreements
    assert (differing.name, differing.predicted, differing.planned) == (
        "wave",
        "NeuralEngine",
        "CPU",
    )
    assert differing.supported == ("CPU", "NeuralEngine")


def test_an_unknown_prediction_is_not_compared(package):
    options = Options("CPU_AND_NE", plan=planned(package))
    agreement = inspect(package, options).packages[0].functions[0].agreement
    assert (agreement.compared, agreement.unpredicted) == (2, 1), "chips differ about the sine"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_sha256": "0" * 64}, "the plan is of 'Stage.mlpackage' with model 000000"),
        ({"function": "other"}, "of the function 'other', but inspected: main"),
        ({"compute_units": "ALL"}, "for ALL, but CPU_AND_NE were inspected"),
    ],
)
def test_a_plan_of_something_else_is_refused(package, changes, message):
    options = Options("CPU_AND_NE", plan=planned(package, **changes))
    with pytest.raises(PlacementError, match=message):
        inspect(package, options)


def test_an_operation_that_the_executor_refuses_is_inspected(tmp_path):
    package = save(lambda x: mb.relu(x=x), [half(1, 32)], tmp_path / "a.mlpackage")

    def rename(model):
        main = model.mlProgram.functions["main"]
        main.block_specializations[main.opset].operations[-1].type = "classify"

    (operation,) = inspected(edit(package, rename)).operations
    assert (operation.type, operation.predicted, operation.operations) == (
        "classify",
        "unknown",
        None,
    )
