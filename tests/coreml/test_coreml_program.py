"""Predictions through coremltools' own Python, with a stand-in for its native half."""

from pathlib import Path

import numpy as np
import pytest

from kokoro_coreml.coreml import CoreMLError, CoreMLUnavailableError, measure
from kokoro_coreml.coreml.program import CoreMLProgram
from kokoro_coreml.errors import PackageError
from kokoro_coreml.executor import Program
from tests.support.fake_coreml import Asked

X = np.arange(8, dtype=np.float32).reshape(2, 4)
N = np.array([1, 2, 3], dtype=np.int32)


def test_it_gives_what_the_executor_gives_with_the_described_types(fake_mac, simple_package):
    with CoreMLProgram.load(simple_package, compute_units="CPU_AND_NE") as program:
        outputs = program({"x": X, "n": N})
        expected = Program.load(simple_package)({"x": X, "n": N})
        assert {n: (a.dtype.name, a.shape) for n, a in outputs.items()} == {
            "y": ("float32", (2, 3)),
            "half": ("float32", (2, 3)),
            "m": ("int32", (3,)),
        }
        for name, array in expected.items():
            np.testing.assert_array_equal(outputs[name], array)
        assert [units for _, units, _ in Asked.loaded] == ["CPU_AND_NE"]
        assert Asked.loaded[0][2] == "", "macOS 14 refuses a function's name"
        assert len(program.run_seconds) == 1
        assert program.load_seconds > 0
        assert program.compile_seconds > 0
        assert list(program.inputs) == ["x", "n"]
        assert str(program.outputs["half"]) == "float16 [2, 3]"
    assert not Path(Asked.loaded[0][0]).exists(), "what was compiled is left behind"
    with pytest.raises(CoreMLError, match="is closed"):
        program({"x": X, "n": N})


def test_arrays_reach_the_binding_as_it_needs_them_and_the_callers_stay(fake_mac, simple_package):
    x = np.asfortranarray(X)
    x.flags.writeable = False
    n = np.broadcast_to(np.int32(2), (3,))
    given = {"x": x, "n": n}
    with CoreMLProgram.load(simple_package) as program:
        outputs = program(given)
    np.testing.assert_array_equal(outputs["m"], [3, 5, 7])
    assert given["x"] is x
    (predicted,) = Asked.predicted
    assert predicted["x"].flags.c_contiguous
    assert not np.shares_memory(predicted["x"], x)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": X.astype(np.float64)}, r"'x': expected an array of float32, found float64.*astype"),
        ({"n": N.astype(np.int64)}, "'n': expected an array of int32, found int64"),
        ({"x": X[:1]}, r"'x'.* found shape \[1, 4\]"),
        ({"x": [1.0]}, "'x': expected a numpy array, found list"),
        ({"z": X}, r"missing \[\], unknown \['z'\]"),
        ({"x": None}, "expected a numpy array, found NoneType"),
    ],
)
def test_wrong_inputs_are_named_before_core_ml_sees_them(fake_mac, simple_package, change, message):
    with (
        CoreMLProgram.load(simple_package) as program,
        pytest.raises(CoreMLError, match=message)
        if "shape" not in message
        else pytest.raises(PackageError, match=message),
    ):
        program({"x": X, "n": N} | change)
    assert not Asked.predicted


def test_a_missing_input_is_named(fake_mac, simple_package):
    with (
        CoreMLProgram.load(simple_package) as program,
        pytest.raises(CoreMLError, match=r"missing \['n'\]"),
    ):
        program({"x": X})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ("type", "as float64; described is"),
        ("shape", "found shape"),
        ("missing", "gave the outputs"),
        ("extra", r"gave the outputs \[.*'more'"),
        ("scalar", "as float; described is"),
    ],
)
def test_outputs_that_are_not_as_described_are_errors(fake_mac, simple_package, spoil, message):
    fake_mac(spoil=spoil)
    with (
        CoreMLProgram.load(simple_package) as program,
        pytest.raises(PackageError, match=message),
    ):
        program({"x": X, "n": N})


def test_what_core_ml_refuses_is_told_with_what_was_done(fake_mac, simple_package, monkeypatch):
    fake_mac(refuse_loading=["CPU_AND_NE"])
    with pytest.raises(
        CoreMLError, match=r"while loading simple.mlpackage:main on CPU_AND_NE: .*Err"
    ):
        CoreMLProgram.load(simple_package, compute_units="CPU_AND_NE")
    from tests.support import fake_coreml

    def refuse(path):
        raise RuntimeError("{ no }")

    monkeypatch.setattr(fake_coreml._MLModelProxy, "compileModel", staticmethod(refuse))
    with pytest.raises(CoreMLError, match=r"while compiling simple.mlpackage: \{ no \}"):
        CoreMLProgram.load(simple_package)
    with pytest.raises(PackageError, match="cannot be read"):
        CoreMLProgram.load(simple_package.with_name("absent.mlpackage"))


def test_a_package_is_compiled_once_for_all_compute_units(fake_mac, simple_package, tmp_path):
    with CoreMLProgram.load(simple_package, compute_units="ALL", folder=tmp_path) as first:
        assert first.compile_seconds is not None
    with CoreMLProgram.load(simple_package, compute_units="CPU_ONLY", folder=tmp_path) as second:
        assert second.compile_seconds is None
        second({"x": X, "n": N})
    assert len(Asked.compiled) == 1
    (left,) = tmp_path.iterdir()
    assert left.suffix == ".mlmodelc"


def test_functions_of_a_package_are_chosen_by_name(fake_mac, two_functions):
    wide = np.ones((2, 8), dtype=np.float32)
    with CoreMLProgram.load(two_functions, "eight") as program:
        outputs = program({"x": wide, "n": N})
    assert Asked.loaded[-1][2] == "eight"
    expected = Program.load(two_functions, "eight")({"x": wide, "n": N})
    np.testing.assert_array_equal(outputs["y"], expected["y"])
    with pytest.raises(CoreMLError, match=r"has no function 'main'; it has: "):
        CoreMLProgram.load(two_functions)


def test_a_package_that_needs_a_newer_macos_is_not_tried(fake_mac, two_functions, simple_package):
    fake_mac(macos=[14, 7])
    with pytest.raises(CoreMLUnavailableError, match=r"two.mlpackage.* macOS 15 .* has 14\.7"):
        CoreMLProgram.load(two_functions, "four")
    CoreMLProgram.load(simple_package).close()
    fake_mac(macos=[13, 2])
    with pytest.raises(CoreMLUnavailableError, match="macOS 14 or later"):
        CoreMLProgram.load(simple_package)


def test_states_begin_with_zeros_unless_they_are_given(fake_mac, stateful_package):
    one = np.ones(3, dtype=np.float32)
    with CoreMLProgram.load(stateful_package) as program:
        for _ in range(2):
            np.testing.assert_array_equal(program({"x": one})["y"], one)
        state = program.make_state()
        program({"x": one}, state=state)
        np.testing.assert_array_equal(program({"x": one}, state=state)["y"], 2 * one)


def test_a_package_without_states_makes_none(fake_mac, simple_package):
    with CoreMLProgram.load(simple_package) as program:
        assert program.make_state() is None
        program({"x": X, "n": N})
    assert Asked.states == 0


class Clock:
    """A backend whose n-th run takes n seconds."""

    compute_units, compile_seconds, load_seconds = "CPU_ONLY", None, 7.0

    def __init__(self):
        self.run_seconds = []

    def __call__(self, inputs):
        self.run_seconds.append(float(len(self.run_seconds) + 1))
        return {}


def test_timing_keeps_first_warm_and_measured_runs_apart():
    timing = measure(Clock(), {}, warm=2, runs=3)
    assert (timing.first_seconds, timing.run_seconds) == (1.0, (4.0, 5.0, 6.0))
    assert (timing.median_seconds, timing.fastest_seconds) == (5.0, 4.0)
    assert timing.to_dict() == {
        "compute_units": "CPU_ONLY",
        "compile_seconds": None,
        "load_seconds": 7.0,
        "first_seconds": 1.0,
        "run_seconds": [4.0, 5.0, 6.0],
        "median_seconds": 5.0,
        "fastest_seconds": 4.0,
    }
    used = Clock()
    used({})
    assert measure(used, {}, warm=0, runs=1).run_seconds == (2.0,)
    with pytest.raises(ValueError, match="runs 1 or more"):
        measure(Clock(), {}, runs=0)


def test_a_loaded_program_can_be_measured(fake_mac, simple_package):
    with CoreMLProgram.load(simple_package, compute_units="CPU_AND_GPU") as program:
        timing = measure(program, {"x": X, "n": N}, warm=1, runs=2)
    assert timing.compute_units == "CPU_AND_GPU"
    assert len(Asked.predicted) == 4
    assert len(timing.run_seconds) == 2
