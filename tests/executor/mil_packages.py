"""Small packages made with coremltools' MIL builder or from torch, saved, and run from disk."""

import gc
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import coremltools as ct
import numpy as np
import pytest
import torch
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import types
from coremltools.proto import Model_pb2
from proofs import FROM_TORCH, converted_from, proves

from kokoro_coreml.executor import Program

_MIL_TYPES = {"float32": types.fp32, "float16": types.fp16, "int32": types.int32}
TARGETS = {15: ct.target.iOS15, 16: ct.target.iOS16, 17: ct.target.iOS17, 18: ct.target.iOS18}


gc.freeze()  # coremltools collects garbage at each conversion; what is imported is none


def save(body: Callable, arrays: Sequence[np.ndarray], path: Path, *, ios: int = 17) -> Path:
    """Save the program `body` builds from inputs like `arrays`; no pass touches the operations."""
    specs = [mb.TensorSpec(shape=a.shape, dtype=_MIL_TYPES[a.dtype.name]) for a in arrays]
    program = mb.program(input_specs=specs, opset_version=TARGETS[ios])(body)
    return convert(program, path, ios=ios, pass_pipeline=ct.PassPipeline.EMPTY)


def convert(source: object, path: Path, *, ios: int = 17, **options: object) -> Path:
    model = ct.convert(
        source,
        minimum_deployment_target=TARGETS[ios],
        compute_precision=options.pop("compute_precision", ct.precision.FLOAT32),
        compute_units=ct.ComputeUnit.CPU_ONLY,
        skip_model_load=True,
        **options,
    )
    model.save(str(path))
    return path


def run(
    body: Callable, *arrays: np.ndarray, ops: Sequence[str] = (), ios: int = 17
) -> list[np.ndarray]:
    """Build, save, load and run; asserts that the operations under test are in the package."""
    with tempfile.TemporaryDirectory() as folder:
        program = Program.load(save(body, arrays, Path(folder) / "case.mlpackage", ios=ios))
    return call(program, arrays, ops)


def run_torch(
    module: torch.nn.Module,
    *arrays: np.ndarray,
    ops: Sequence[str] = (),
    ios: int = 17,
    open_axes: Sequence[int] = (),
) -> list[np.ndarray]:
    """Trace, convert with the default passes, save, load and run.

    `open_axes` of every input are of a size that the package leaves open.
    """
    tensors = tuple(torch.from_numpy(a) for a in arrays)
    with torch.inference_mode():
        traced = torch.jit.trace(module.eval(), tensors, check_trace=False)
    inputs = [
        ct.TensorType(name=f"input_{i}", shape=_shape(a, open_axes), dtype=a.dtype.type)
        for i, a in enumerate(arrays)
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = convert(traced, Path(folder) / "case.mlpackage", inputs=inputs, ios=ios)
        with converted_from(FROM_TORCH):
            program = Program.load(path)
            return call(program, arrays, ops)


def _shape(array: np.ndarray, open_axes: Sequence[int]) -> tuple:
    return tuple(
        ct.RangeDim(1, 50, default=size) if axis in open_axes else size
        for axis, size in enumerate(array.shape)
    )


def infer(body: Callable, arrays: Sequence[np.ndarray], *, ios: int = 17) -> list:
    """What coremltools itself makes of constant inputs, None where it does not say."""
    inferred = []

    def constant():
        results = body(*(mb.const(val=a) for a in arrays))
        results = results if isinstance(results, (tuple, list)) else (results,)
        inferred.extend(r.val for r in results)
        return results

    mb.program(input_specs=[], opset_version=TARGETS[ios])(constant)
    return inferred


@dataclass(frozen=True)
class Case:
    """One package, its inputs, and what it must give.

    Attributes:
        body: builds the program, or is the torch function that is converted.
        arrays: inputs.
        expected: results of `arrays`, one or a tuple; for torch None, `body` itself says.
        ios: opset.
        tolerance: relative and, below 1, absolute; 0 is equality.
        ops: that must be in the package.
        inferable: whether coremltools' own value inference, where there is one, must agree too.
        open_axes: of the inputs, of a size that the package leaves open; only from torch.
    """

    body: Callable
    arrays: tuple[np.ndarray, ...]
    expected: Callable | None = None
    ios: int = 17
    tolerance: float = 1e-5
    ops: tuple[str, ...] = ()
    inferable: bool = True
    open_axes: tuple[int, ...] = ()


def built(
    ops: str, over: str, body: Callable, expected: Callable, *arrays: np.ndarray, **options: object
) -> object:
    """A pytest parameter: `ops` built with the MIL builder, against a numpy definition."""
    names = tuple(ops.split())
    against = options.pop("against", "numpy definition")
    marks = proves(*names, against=against, over=over)
    case = Case(body, arrays, expected, ops=names, **options)
    return pytest.param(case, id=_label(names[0], over), marks=marks)


def _label(name: str, over: str) -> str:
    return f"{name}: {over}".replace("±", "+-")


def traced(ops: str, over: str, body: Callable, *arrays: np.ndarray, **options: object) -> object:
    """A pytest parameter: `ops` converted from a torch function, against that function."""
    names = tuple(ops.split())
    marks = proves(*names, against="torch", over=over, source=FROM_TORCH)
    return pytest.param(
        Case(body, arrays, ops=names, **options), id=_label(names[0], over), marks=marks
    )


def check(case: Case) -> None:
    """Run a case of `built` and compare, with coremltools' own value inference as well."""
    outputs = run(case.body, *case.arrays, ops=case.ops, ios=case.ios)
    expected = case.expected(*case.arrays)
    expected = expected if isinstance(expected, tuple) else (expected,)
    for found, numbers in zip(outputs, expected, strict=True):
        same(found, np.asarray(numbers), case.tolerance)
    if case.inferable:
        inferred = infer(case.body, case.arrays, ios=case.ios)
        for found, numbers in zip(outputs, inferred, strict=True):
            if numbers is not None:
                same(found, np.asarray(numbers), case.tolerance)


class _Call(torch.nn.Module):
    def __init__(self, function: Callable) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: torch.Tensor) -> object:
        return self.function(*inputs)


def check_torch(case: Case) -> None:
    """Run a case of `traced` and compare."""
    module = case.body if isinstance(case.body, torch.nn.Module) else _Call(case.body)
    outputs = run_torch(module, *case.arrays, ops=case.ops, ios=case.ios, open_axes=case.open_axes)
    with torch.inference_mode():
        expected = module(*(torch.from_numpy(a) for a in case.arrays))
    expected = expected if isinstance(expected, (tuple, list)) else (expected,)
    for found, tensor in zip(outputs, expected, strict=True):
        same(found, tensor.numpy(), case.tolerance)


def same(found: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """Shape, kind of type and numbers; infinities and NaN in the same places."""
    assert found.shape == expected.shape
    assert (found.dtype.kind == "f") == (expected.dtype.kind == "f")
    np.testing.assert_allclose(
        found.astype(np.float64), expected.astype(np.float64), rtol=tolerance, atol=tolerance
    )


def call(program: Program, arrays: Sequence[np.ndarray], ops: Sequence[str]) -> list[np.ndarray]:
    present = {o.type for o in program.operations}
    assert set(ops) <= present, f"{set(ops) - present} were optimised away"
    outputs = program(dict(zip(program.inputs, arrays, strict=True)))
    return [outputs[name] for name in program.outputs]


def edit(package: Path, change: Callable) -> Path:
    """Change the saved protobuf in place."""
    path = package / "Data" / "com.apple.CoreML" / "model.mlmodel"
    model = Model_pb2.Model()
    model.ParseFromString(path.read_bytes())
    change(model)
    path.write_bytes(model.SerializeToString())
    return package


def block_of(model: object, name: str = "main") -> object:
    function = model.mlProgram.functions[name]
    return function.block_specializations[function.opset]


def operation_of(model: object, kind: str) -> object:
    return next(o for o in block_of(model).operations if o.type == kind)


def floats(*shape: int, seed: int = 0, low: float = -2.0, high: float = 2.0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)


def close(found: np.ndarray, expected: np.ndarray, tolerance: float = 1e-5) -> None:
    """Same type, shape and numbers, relative to the largest one."""
    expected = np.asarray(expected)
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    scale = max(1.0, float(np.abs(expected[np.isfinite(expected)]).max(initial=0)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * scale)
