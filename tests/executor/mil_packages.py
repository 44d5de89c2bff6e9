"""Small packages made with coremltools' MIL builder or from torch, saved, and run from disk."""

import gc
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import coremltools as ct
import numpy as np
import torch
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import types
from coremltools.proto import Model_pb2

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
    module: torch.nn.Module, *arrays: np.ndarray, ops: Sequence[str] = ()
) -> list[np.ndarray]:
    """Trace, convert with the default passes, save, load and run."""
    tensors = tuple(torch.from_numpy(a) for a in arrays)
    with torch.inference_mode():
        traced = torch.jit.trace(module.eval(), tensors, check_trace=False)
    inputs = [
        ct.TensorType(name=f"input_{i}", shape=a.shape, dtype=a.dtype.type)
        for i, a in enumerate(arrays)
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = convert(traced, Path(folder) / "case.mlpackage", inputs=inputs)
        program = Program.load(path)
    return call(program, arrays, ops)


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
