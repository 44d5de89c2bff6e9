"""The numeric modes: what is rounded, and what `stress` reports."""

import coremltools as ct
import numpy as np
import pytest
import torch
from coremltools.converters.mil import Builder as mb
from hypothesis import given, settings
from hypothesis import strategies as st
from mil_packages import close, convert, floats, save
from torch import nn

from kokoro_coreml.errors import PackageError
from kokoro_coreml.executor import PRECISIONS, Program
from kokoro_coreml.executor.graph import Operation
from kokoro_coreml.executor.precision import Numerics
from kokoro_coreml.executor.types import TensorSpec


def half(x):
    return x.astype(np.float16).astype(np.float32)


def chain(x, y):
    h = mb.cast(x=x, dtype="fp16", name="h")
    k = mb.cast(x=y, dtype="fp16", name="k")
    p = mb.mul(x=h, y=k, name="p")
    q = mb.add(x=p, y=h, name="q")
    return mb.cast(x=q, dtype="fp32", name="out")


X, Y = floats(5, 7, low=0.1), floats(5, 7, seed=1, low=0.1)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return save(chain, [X, Y], tmp_path_factory.mktemp("precision") / "m.mlpackage")


def test_float32_rounds_nothing(path):
    close(Program.load(path)({"x": X, "y": Y})["out"], X * Y + X, 1e-7)


def test_declared_rounds_once_after_each_operation(path):
    h, k = half(X), half(Y)
    expected = half(half(h * k) + h)
    found = Program.load(path, precision="declared")({"x": X, "y": Y})["out"]
    np.testing.assert_array_equal(found, expected)
    assert np.any(found != X * Y + X)


def test_the_modes_have_names(path):
    assert PRECISIONS == ("float32", "declared", "stress")
    with pytest.raises(PackageError, match="'bfloat16' does not exist; available: float32, decl"):
        Program.load(path, precision="bfloat16")
    assert Program.load(path, precision="stress").precision == "stress"


def test_half_precision_inputs_are_rounded(tmp_path):
    path = save(
        lambda x: mb.cast(x=x, dtype="fp32", name="out"),
        [X.astype(np.float16)],
        tmp_path / "m.mlpackage",
    )
    exact = X + np.float32(1e-5)
    close(Program.load(path)({"x": exact})["out"], exact, 0)
    found = Program.load(path, precision="declared")({"x": exact})["out"]
    np.testing.assert_array_equal(found, half(exact))


def test_stress_finds_sums_that_no_accumulator_holds(tmp_path):
    class Dot(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(4, 2, 1, bias=False)
            self.conv.weight.data = torch.tensor([[1.0] * 4, [0.25] * 4])[..., None]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.conv(x))

    traced = torch.jit.trace(Dot().eval(), torch.zeros(1, 4, 3))
    path = convert(
        traced,
        tmp_path / "m.mlpackage",
        inputs=[ct.TensorType(name="x", shape=(1, 4, 3))],
        compute_precision=ct.precision.FLOAT16,
    )
    x = np.full((1, 4, 3), 9000, np.float32)
    program = Program.load(path, precision="stress")
    assert program.findings == ()
    program({"x": x})
    (finding,) = program.findings
    assert finding.kind == "accumulator"
    assert finding.operation.type == "conv"
    assert (finding.count, finding.elements, finding.largest) == (3, 6, 36_000)
    assert "3 of 6 elements" in str(finding)
    program({"x": x / 100})
    assert program.findings == ()
    program({"x": x * 3})
    assert {f.kind for f in program.findings} == {"accumulator", "overflow"}
    first = program.findings[0].operation
    assert (first.type, first.position) == ("conv", first.position)


def test_stress_reports_and_flushes_subnormals_and_sees_nan(path):
    program = Program.load(path, precision="stress")
    x, y = X.copy(), Y.copy()
    x[0, 0], y[0, 0] = 1e-3, 1e-3
    out = program({"x": x, "y": y})["out"]
    (finding,) = program.findings
    assert (finding.kind, finding.name, finding.count) == ("subnormal", "p", 1)
    assert finding.largest == pytest.approx(1e-6, rel=1e-2)
    assert out[0, 0] == half(x)[0, 0]
    kept = Program.load(path, precision="declared")({"x": x, "y": y})["out"]
    assert kept[0, 0] == half(half(half(x) * half(y)) + half(x))[0, 0]
    x[1, 1], y[1, 1] = 1e5, 0
    program({"x": x, "y": y})
    kinds = [(f.kind, f.name) for f in program.findings]
    assert ("overflow", "h") in kinds
    assert ("nan", "p") in kinds
    assert kinds[0] == ("overflow", "h")


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    values=st.lists(
        st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=20
    )
)
def test_rounding_is_numpys_and_findings_count_what_they_say(values):
    array = np.array(values, np.float32)
    operation = Operation(0, "conv", {}, (("y", TensorSpec("fp16", (len(array),))),))
    findings = []
    (declared,) = Numerics("declared").result(operation, (torch.from_numpy(array),), print)
    (stressed,) = Numerics("stress").result(operation, (torch.from_numpy(array),), findings.append)
    with np.errstate(over="ignore"):
        expected = half(array)
    np.testing.assert_array_equal(declared.numpy(), expected)
    tiny = (array != 0) & (np.abs(expected) < 2.0**-14)
    np.testing.assert_array_equal(stressed.numpy(), np.where(tiny, 0, expected))
    counted = {f.kind: f.count for f in findings}
    counts = {
        "overflow": int(np.isinf(expected).sum()),
        "subnormal": int(tiny.sum()),
        "accumulator": int((np.abs(array) > 32_752).sum()),
    }
    assert counted == {kind: n for kind, n in counts.items() if n}


def test_full_precision_results_are_left_alone():
    x = torch.tensor([1e6, 1e-20])
    operation = Operation(0, "conv", {}, (("y", TensorSpec("fp32", (2,))),))
    for precision in PRECISIONS:
        (found,) = Numerics(precision).result(operation, (x,), pytest.fail)
        assert torch.equal(found, x)


def test_a_hook_may_replace_results_and_is_held_to_the_declaration(path):
    program = Program.load(path)

    def zero(operation, results):
        return (torch.zeros_like(results[0]),) if operation.name == "p" else None

    close(program({"x": X, "y": Y}, on_operation=zero)["out"], X, 1e-7)

    def wrong(operation, results):
        return (results[0][:1],) if operation.name == "p" else None

    with pytest.raises(PackageError, match=r"'p' is declared fp16\[5, 7\] but is float32\[1, 7\]"):
        program({"x": X, "y": Y}, on_operation=wrong)


def test_times_are_reported(path):
    program = Program.load(path)
    assert program.load_seconds > 0
    assert program.run_seconds is None
    program({"x": X, "y": Y})
    assert program.run_seconds > 0


def test_infinities_made_before_rounding_and_inputs_too_large_are_reported(tmp_path):
    path = save(
        lambda x: mb.cast(x=mb.exp(x=x, name="e"), dtype="fp32", name="out"),
        [X.astype(np.float16)],
        tmp_path / "m.mlpackage",
    )
    program = Program.load(path, precision="stress")
    x = X.copy()
    x[0, 0], x[1, 1] = 100.0, 1e6
    program({"x": x})
    found = {(f.kind, f.operation.type, f.name): f.count for f in program.findings}
    assert found["overflow", "input", "x"] == 1
    assert found["overflow", "exp", "e"] == 2
