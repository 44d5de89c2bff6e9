"""Small packages for iOS 18 to merge, and what is asked of the merged one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import types
from coremltools.proto import Model_pb2

from kokoro_coreml.executor import Program
from kokoro_coreml.lowering.functions import merge_functions

MODEL = Path("Data/com.apple.CoreML/model.mlmodel")
WEIGHTS = Path("Data/com.apple.CoreML/weights/weight.bin")
SHARED = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
DATE = "com.github.apple.coremltools.conversion_date"


def save(body: Callable[..., Any], rows: int, path: Path, *, target: Any = None) -> Path:
    """Convert with the default passes what `body` makes of `x [rows, 64]`."""
    target = target or ct.target.iOS18
    program = mb.program(input_specs=[mb.TensorSpec(shape=(rows, 64))], opset_version=target)(body)
    return save_source(program, path, minimum_deployment_target=target)


def save_source(source: Any, path: Path, **options: Any) -> Path:
    options.setdefault("minimum_deployment_target", ct.target.iOS18)
    model = ct.convert(
        source,
        compute_precision=ct.precision.FLOAT32,
        compute_units=ct.ComputeUnit.CPU_ONLY,
        skip_model_load=True,
        **options,
    )
    model.short_description = path.stem
    model.author = "somebody"
    model.save(str(path))
    return path


def dense(own: np.ndarray) -> Callable[..., Any]:
    """A body with a weight all share, one of its own, and one inside a nested block."""

    def body(x: Any) -> Any:
        y = mb.linear(x=x, weight=SHARED)
        y = mb.add(x=y, y=own)
        positive = mb.greater(x=mb.reduce_sum(x=y, axes=[0, 1], keep_dims=False), y=0.0)
        return mb.cond(
            pred=positive,
            _true_fn=lambda: mb.linear(x=y, weight=SHARED.T.copy()),
            _false_fn=lambda: mb.mul(x=y, y=own),
            name="y",
        )

    return body


def palettes(x: Any) -> Any:
    """Weights of iOS 18's compressed operations, chained, some of them smaller than a byte."""
    rng = np.random.default_rng(1)
    index = rng.integers(0, 8, (64, 64)).astype(types.nptype_from_builtin(types.uint3))
    table = rng.standard_normal((16, 1, 8, 1)).astype(np.float32)
    int4 = rng.integers(-8, 8, (64, 64)).astype(types.nptype_from_builtin(types.int4))
    scale = rng.standard_normal((64, 2)).astype(np.float32)
    palette = mb.constexpr_lut_to_dense(indices=index, lut=table)
    blocks = mb.constexpr_blockwise_shift_scale(data=int4, scale=scale)
    return mb.linear(x=mb.linear(x=x, weight=palette), weight=blocks, name="y")


def merged(packages: Mapping[str, Path], folder: Path) -> Path:
    out = folder / "merged.mlpackage"
    merge_functions(packages, out, default=next(iter(packages)))
    return out


def execute(path: Path, function: str, seed: int = 0) -> dict[str, np.ndarray]:
    program = Program.load(path, function)
    rng = np.random.default_rng(seed)
    return program(
        {
            name: rng.standard_normal([d or 1 for d in spec.shape]).astype(spec.numpy_dtypes[0])
            for name, spec in program.inputs.items()
        }
    )


def require_equal_execution(packages: Mapping[str, Path], out: Path) -> None:
    for name, single in packages.items():
        for seed in range(2):  # both branches
            expected, found = execute(single, "main", seed), execute(out, name, seed)
            assert expected.keys() == found.keys()
            for key, array in expected.items():
                np.testing.assert_array_equal(found[key], array)


def blobs(path: Path) -> int:
    return int.from_bytes((path / WEIGHTS).read_bytes()[:4], "little")


def snapshot(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def model(path: Path) -> Any:
    return Model_pb2.Model.FromString((path / MODEL).read_bytes())


def change(path: Path, copy: Path, edit: Callable[[Any], None]) -> Path:
    """A copy of a package with its model changed."""
    shutil.copytree(path, copy)
    changed = model(copy)
    edit(changed)
    (copy / MODEL).write_bytes(changed.SerializeToString())
    return copy
