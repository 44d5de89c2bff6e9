"""Runs a saved `.mlpackage` without a Mac, from its protobuf and weight file alone.

coremltools' own loader re-runs type inference and can so hide an artifact's error; here nothing but
its protobuf classes is used, and every declared type and shape is asserted. What is rounded on the
way is decided by the numeric mode: see `precision`.

    program = Program.load("Model.mlpackage", precision="declared")
    outputs = program({"x": array}, capture=["some_intermediate"])
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from kokoro_coreml.executor.graph import Operation
from kokoro_coreml.executor.ops import OPS, REFUSED, OpDefinition, Parameter
from kokoro_coreml.executor.package import Package
from kokoro_coreml.executor.precision import PRECISIONS, Finding
from kokoro_coreml.executor.program import Program, State
from kokoro_coreml.executor.steps import OnOperation
from kokoro_coreml.executor.types import StateSpec, TensorSpec

__all__ = [
    "OPS",
    "PRECISIONS",
    "REFUSED",
    "Finding",
    "OnOperation",
    "OpDefinition",
    "Operation",
    "Package",
    "Parameter",
    "Program",
    "State",
    "StateSpec",
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
        PackageError: see `Program.load` and `Program.__call__`.
    """
    return Program.load(path, function, precision=precision)(inputs)
