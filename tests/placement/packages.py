"""Small packages made with coremltools' MIL builder, inspected from disk."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import coremltools as ct
import numpy as np
import torch
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import types
from coremltools.proto import Model_pb2

from kokoro_coreml.placement import Question, inspect_package
from kokoro_coreml.placement.results import FunctionInspection

TARGETS = {15: ct.target.iOS15, 16: ct.target.iOS16, 17: ct.target.iOS17, 18: ct.target.iOS18}
TYPES = {"fp16": types.fp16, "fp32": types.fp32, "int32": types.int32}


@dataclass(frozen=True)
class Spec:
    """Type and shape of an input."""

    dtype: str
    shape: tuple[int, ...]
    state: bool = False


def half(*shape: int) -> Spec:
    return Spec("fp16", shape)


def single(*shape: int) -> Spec:
    return Spec("fp32", shape)


def whole(*shape: int) -> Spec:
    return Spec("int32", shape)


def state(*shape: int) -> Spec:
    return Spec("fp16", shape, state=True)


def f16(*shape: int, value: float = 0.5) -> np.ndarray:
    return np.full(shape, value, np.float16)


def f32(*shape: int, value: float = 0.5) -> np.ndarray:
    return np.full(shape, value, np.float32)


def save(body: Callable, specs: Sequence[Spec], path: Path, *, ios: int = 17) -> Path:
    """Save what `body` builds; no pass touches the operations."""
    inputs = [
        mb.StateTensorSpec(s.shape, dtype=TYPES[s.dtype])
        if s.state
        else mb.TensorSpec(s.shape, dtype=TYPES[s.dtype])
        for s in specs
    ]
    program = mb.program(input_specs=inputs, opset_version=TARGETS[ios])(body)
    return convert(program, path, ios=ios, pass_pipeline=ct.PassPipeline.EMPTY)


def convert(source: object, path: Path, *, ios: int = 17, **options: object) -> Path:
    model = ct.convert(
        source,
        minimum_deployment_target=TARGETS[ios],
        compute_precision=options.pop("compute_precision", ct.precision.FLOAT32),
        skip_model_load=True,
        **options,
    )
    model.save(str(path))
    return path


def from_torch(function: Callable, shape: object, path: Path) -> Path:
    """Convert a function of one tensor of the (flexible) shape."""

    class Module(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return function(x)

    example = torch.ones(2, 4)
    traced = torch.jit.trace(Module().eval(), example, check_trace=False)
    inputs = [ct.TensorType(name="x", shape=shape)]
    return convert(traced, path, inputs=inputs, compute_precision=ct.precision.FLOAT16)


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


def reshaped(model: object, *shape: int) -> None:
    """Declare every tensor of the function `main` to have this shape."""
    block, function = block_of(model), model.mlProgram.functions["main"]
    values = [*function.inputs, *(out for op in block.operations for out in op.outputs)]
    for value in values:
        tensor = value.type.tensorType
        del tensor.dimensions[:]
        tensor.rank = len(shape)
        for size in shape:
            tensor.dimensions.add().constant.size = size


def inspected(
    package: Path, units: str = "CPU_AND_NE", generation: str | None = None, **options: object
) -> FunctionInspection:
    question = Question.of(units, generation=generation, **options)
    (function,) = inspect_package(package, question).functions
    return function


def inspect_body(
    body: Callable,
    *specs: Spec,
    ios: int = 17,
    units: str = "CPU_AND_NE",
    generation: str | None = None,
) -> FunctionInspection:
    with tempfile.TemporaryDirectory() as folder:
        package = save(body, specs, Path(folder) / "case.mlpackage", ios=ios)
        return inspected(package, units, generation)
