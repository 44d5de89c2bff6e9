"""Runs a saved `.mlpackage` without a Mac, from its protobuf and weight file alone.

coremltools' own loader re-runs type inference and can so hide an artifact's error; here nothing but
its protobuf classes is used, and every declared type and shape is asserted. In the float32 mode
fp16-declared tensors are computed and kept in float32, so what is judged is the program, not its
rounding.

    program = Program.load("Model.mlpackage")
    outputs = program({"x": array}, capture=["some_intermediate"])
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from kokoro_coreml.errors import PackageError
from kokoro_coreml.executor.graph import Operation
from kokoro_coreml.executor.ops import OPS, REFUSED, OpDefinition, Parameter
from kokoro_coreml.executor.package import Package
from kokoro_coreml.executor.program import PRECISIONS, OnOperation, Program
from kokoro_coreml.executor.types import TensorSpec

__all__ = [
    "OPS",
    "PRECISIONS",
    "REFUSED",
    "OnOperation",
    "OpDefinition",
    "Operation",
    "Package",
    "Parameter",
    "Program",
    "TensorSpec",
    "run_package",
]


def run_package(
    path: str | Path,
    inputs: Mapping[str, np.ndarray],
    *,
    function: str = "main",
    precision: str = "float32",
) -> dict[str, np.ndarray]:
    """Load a package, run one of its functions once, and return its outputs.

    Args:
        path: of the `.mlpackage` folder.
        inputs: by name; see `Program.__call__`.
        function: of a multifunction package.
        precision: one of `PRECISIONS`.

    Raises:
        PackageError: `precision` is not a numeric mode; see also `Program.load` and
            `Program.__call__`.
    """
    if precision not in PRECISIONS:
        raise PackageError(
            f"precision {precision!r} does not exist; available: {', '.join(PRECISIONS)}"
        )
    return Program.load(path, function)(inputs)
