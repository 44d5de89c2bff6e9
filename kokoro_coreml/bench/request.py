"""What `bench` can be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kokoro_coreml.bench.errors import BenchError
from kokoro_coreml.coreml import COMPUTE_UNITS, require_mac

EXECUTOR, UPSTREAM, ONNX = "executor", "upstream", "onnxruntime"
RUNNERS = (EXECUTOR, UPSTREAM, ONNX)
"""What says the utterances, in the order of a round."""

RUNTIMES = ("executor", "coreml")
"""`coreml` measures the bundle on a Mac instead of the runners."""

PRECISIONS = ("float32", "declared")
"""Numeric modes of the executor that are measured; `stress` is for finding faults."""

BUNDLE_UNITS = "bundle"
"""The compute units that each package of the bundle asks for."""


@dataclass(frozen=True)
class BenchRequest:
    """What to measure, and how."""

    bundle: Path | None = None
    """Sizes, utterances and, on a Mac, devices are measured of it."""
    recipe: str | None = None
    """Name or path of a recipe whose conversion is measured."""
    checkpoint: str | None = None
    """Where the weights are, if not where the manifest or the recipe says."""
    runtime: str = "executor"
    runners: tuple[str, ...] = RUNNERS
    precision: str = "declared"
    suite: str = "smoke"
    cases: tuple[str, ...] = ()
    """Ids of the suite; empty means its English ones."""
    repeat: int = 5
    """Rounds that count."""
    compute_units: tuple[str, ...] = ()
    """For `coreml`; empty means the bundle's own and each of `COMPUTE_UNITS`."""


def check_request(request: BenchRequest) -> None:
    """Refuse what does not exist, before anything is measured.

    Raises:
        BenchError: nothing is to be measured, or a name or number is none that can be.
        CoreMLUnavailableError: the runtime is `coreml` and this is no Mac.
    """
    units = (BUNDLE_UNITS, *COMPUTE_UNITS)
    for what, value, known in (
        ("runtime", request.runtime, RUNTIMES),
        ("precision", request.precision, PRECISIONS),
        *(("runner", name, RUNNERS) for name in request.runners),
        *(("compute units", name, units) for name in request.compute_units),
    ):
        if value not in known:
            raise BenchError(f"unknown {what} {value!r}; known: {', '.join(known)}")
    if request.repeat < 1:
        raise BenchError(f"repeat must be 1 or more, found {request.repeat}")
    if request.bundle is None and request.recipe is None:
        raise BenchError("nothing to measure; give the folder of a bundle, or --convert RECIPE")
    if request.runtime == "coreml":
        require_mac()
    elif request.compute_units:
        raise BenchError("compute units are for --runtime coreml")
