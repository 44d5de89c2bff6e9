"""Compute plans: reading them from coremltools' classes, and as saved JSON."""

import json
from pathlib import Path

import coremltools as ct
import pytest
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import types

from kokoro_coreml.coreml import CoreMLError, CoreMLUnavailableError, load_plan
from kokoro_coreml.coreml.compiled import compile_package
from kokoro_coreml.coreml.planner import read_plan
from kokoro_coreml.errors import PackageError
from kokoro_coreml.executor import Program
from kokoro_coreml.executor.package import Package
from tests.coreml.conftest import _save
from tests.support.fake_coreml import Asked


def plan_of(path, folder, function="main", units="CPU_AND_NE"):
    return read_plan(Package.load(path), function, units, folder)


def test_every_operation_has_its_device_and_constants_are_counted(
    fake_mac, simple_package, tmp_path
):
    plan = plan_of(simple_package, tmp_path)
    found = [(o.operator, o.outputs, o.device, o.supported, o.cost) for o in plan.operations]
    both = ("CPU", "NeuralEngine")
    assert found == [
        ("matmul", ("y",), "NeuralEngine", both, 0.5),
        ("mul", ("mul_0",), "NeuralEngine", both, 0.25),
        ("cast", ("half",), "NeuralEngine", both, None),
        ("cumsum", ("total",), "CPU", ("CPU",), None),
        ("add", ("m",), "NeuralEngine", both, 0.25),
    ]
    block = Package.load(simple_package).program.functions["main"].block_specializations["CoreML7"]
    assert plan.constants + len(plan.operations) == len(block.operations)
    for operation in plan.operations:
        assert block.operations[operation.position].outputs[0].name == operation.outputs[0]
        assert (operation.opset, operation.inside) == ("ios17", None)
    assert (plan.function, plan.compute_units, plan.macos) == ("main", "CPU_AND_NE", "15.3")
    assert plan.available == ("CPU", "GPU", "NeuralEngine")


def test_the_summary_counts_operations_and_shares_of_cost(fake_mac, simple_package, tmp_path):
    shares = plan_of(simple_package, tmp_path).summary()
    assert [(s.device, s.operations, s.cost_share) for s in shares] == [
        ("CPU", 1, 0.0),
        ("NeuralEngine", 4, 1.0),
    ]
    (only,) = plan_of(simple_package, tmp_path, units="CPU_ONLY").summary()
    assert (only.device, only.operations) == ("CPU", 5)
    assert len(Asked.compiled) == 1, "one compiled model serves all plans"


def test_the_plan_names_the_model_it_is_of(fake_mac, simple_package, tmp_path):
    import hashlib

    plan = plan_of(simple_package, tmp_path)
    data = (simple_package / "Data/com.apple.CoreML/model.mlmodel").read_bytes()
    assert plan.model_sha256 == hashlib.sha256(data).hexdigest()
    assert plan.package == "simple.mlpackage"


def test_nested_blocks_are_walked_in_order(fake_mac, tmp_path):
    @mb.program(input_specs=[mb.TensorSpec((1,), dtype=types.fp32)], opset_version=ct.target.iOS17)
    def body(x):
        choice = mb.squeeze(x=mb.greater(x=x, y=0.0, name="positive"), name="choice")
        y = mb.cond(
            pred=choice,
            _true_fn=lambda: mb.add(x=x, y=1.0, name="more"),
            _false_fn=lambda: mb.mul(x=x, y=2.0, name="twice"),
            name="y",
        )
        return mb.add(x=y, y=3.0, name="end")

    path = _save(body, tmp_path / "nested.mlpackage", ct.target.iOS17)
    plan = plan_of(path, tmp_path)
    found = [(o.outputs[0], o.inside) for o in plan.operations]
    assert found == [
        ("positive", None),
        ("choice", None),
        ("y", None),
        ("more", "y/0"),
        ("twice", "y/1"),
        ("end", None),
    ]
    places = {o.name: o.position for o in Program.load(path).operations}
    assert [o.position for o in plan.operations] == [places[o.outputs[0]] for o in plan.operations]


def test_another_function_than_the_default_one_is_planned_by_a_linked_copy(
    fake_mac, two_functions, tmp_path
):
    files = [p for p in two_functions.rglob("*") if p.is_file()]
    before = {p: (p.read_bytes(), p.stat().st_nlink) for p in files}
    plan = plan_of(two_functions, tmp_path, "eight")
    assert {o.device for o in plan.operations} == {"CPU", "NeuralEngine"}
    assert plan.function == "eight"
    assert {p: (p.read_bytes(), p.stat().st_nlink) for p in files} == before
    assert plan_of(two_functions, tmp_path, "four").operations == plan.operations
    assert len(Asked.compiled) == 2
    assert {p.suffix for p in tmp_path.iterdir()} == {".mlmodelc"}


def test_weights_are_linked_while_the_copy_is_compiled(fake_mac, two_functions, tmp_path):
    from tests.support import fake_coreml

    package = Package.load(two_functions)
    name = "Data/com.apple.CoreML/weights/weight.bin"
    seen = []
    original = fake_coreml._MLModelProxy.compileModel

    def compile_model(path):
        seen.append(Path(path, name).samefile(two_functions / name))
        return original(path)

    fake_coreml._MLModelProxy.compileModel = staticmethod(compile_model)
    try:
        compile_package(package, tmp_path, default_function="eight")
    finally:
        fake_coreml._MLModelProxy.compileModel = staticmethod(original)
    assert seen == [True], "the weights were copied, or compiled from elsewhere"
    assert package.model.description.defaultFunctionName == "four"


def test_a_plan_that_says_nothing_is_an_error(fake_mac, simple_package, tmp_path):
    fake_mac(silent_plan=True)
    with pytest.raises(CoreMLError, match="names no device for any of 5 operations"):
        plan_of(simple_package, tmp_path)


def test_a_plan_needs_macos_14_4(fake_mac, simple_package, tmp_path):
    fake_mac(macos=[14, 3])
    with pytest.raises(CoreMLUnavailableError, match=r"macOS 14\.4 or later.* has 14\.3"):
        plan_of(simple_package, tmp_path)
    fake_mac(macos=[14, 4])
    assert plan_of(simple_package, tmp_path).macos == "14.4"


@pytest.fixture
def saved(fake_mac, simple_package, tmp_path):
    plan = plan_of(simple_package, tmp_path)
    path = tmp_path / "plan.json"
    path.write_text(plan.to_json(), encoding="utf-8")
    return plan, path


def test_a_saved_plan_reads_back_equal(saved):
    plan, path = saved
    assert load_plan(path) == plan
    assert json.loads(path.read_text())["schema_version"] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.update(schema_version=2), "schema 2, but this version .* reads 1"),
        (lambda r: r.update(extra=1), "unknown key 'extra'"),
        (lambda r: r.pop("macos"), "lacks the key 'macos'"),
        (
            lambda r: r["operations"][0].update(device="ANE"),
            r"operations\[0\].device.*one of 'CPU'",
        ),
        (lambda r: r["operations"][0].update(cost=-0.1), "at least 0"),
        (lambda r: r["operations"][1].update(position=0), "do not rise"),
        (
            lambda r: r["operations"][1].update(position=r["operations"][0]["position"]),
            "do not rise",
        ),
        (lambda r: r.update(compute_units="NE"), "must be one of"),
        (lambda r: r.update(model_sha256="abc"), "SHA-256"),
    ],
)
def test_a_plan_of_another_schema_is_refused(saved, change, message):
    _, path = saved
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))
    with pytest.raises(PackageError, match=message):
        load_plan(path)


def test_what_is_no_json_is_refused(tmp_path):
    path = tmp_path / "plan.json"
    path.write_text("{")
    with pytest.raises(PackageError, match="cannot read the compute plan"):
        load_plan(path)
    with pytest.raises(PackageError, match="cannot read the compute plan"):
        load_plan(tmp_path / "absent.json")
    path.write_text("[]")
    with pytest.raises(PackageError, match="must be a table"):
        load_plan(path)
