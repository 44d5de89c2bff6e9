"""What `verify` can be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kokoro_coreml.coreml import COMPUTE_UNITS, require_mac
from kokoro_coreml.errors import ParityError
from kokoro_coreml.executor import PRECISIONS
from kokoro_coreml.parity import location
from kokoro_coreml.parity.results import Threshold
from kokoro_coreml.parity.thresholds import COREML_UPSTREAM, LEGS

RUNTIMES = ("executor", "coreml")
"""What can run a bundle's packages."""

RANGE = "range"
"""Leg of the mode `stress`: no value that a device may not hold."""

RECORDINGS = Path("artifacts/goldens/recordings")
"""Where the recordings of a bundle are looked for."""

EVERY_LEG = (location.INPUTS_UPSTREAM, *LEGS, RANGE)
"""Names of all legs; `RANGE` is judged in the mode `stress` only."""

RANGE_THRESHOLDS = (
    Threshold(
        "values_out_of_range",
        RANGE,
        0.0,
        "lower",
        "sums of products over 32,752, overflow and NaN in half precision; subnormals are only "
        "reported",
    ),
)


@dataclass(frozen=True)
class Request:
    """What to verify, and how."""

    bundle: Path
    runtime: str = "executor"
    precision: str = "declared"
    """Numeric mode of the executor, one of `PRECISIONS`; Core ML has its own."""
    suite: str = "smoke"
    compute_units: tuple[str, ...] = ()
    """For the runtime `coreml`, and for what is merged; empty means all of them."""
    checkpoint: str | None = None
    """Where the weights are, if not where the manifest says."""
    waive: tuple[str, ...] = ()
    """Legs to leave out; they are named in the report."""
    merge: tuple[Path, ...] = ()
    """Results of `kokoro-harness verify` on Macs, from which leg 6 is judged."""
    recordings: Path = RECORDINGS
    """Folder of the recordings that these are of."""
    thresholds: tuple[Threshold, ...] | None = None
    """Bounds in place of `thresholds_for`, for networks that are not Kokoro; they stand in the
    report."""


def check_request(request: Request) -> None:
    """Refuse what does not exist.

    Raises:
        ParityError: the runtime, the precision, a leg or compute units are unknown, or a result is
            to be merged into a leg that is run or left out.
        CoreMLUnavailableError: the runtime is `coreml` and this is no Mac.
    """
    for what, value, known in (
        ("runtime", request.runtime, RUNTIMES),
        ("precision", request.precision, PRECISIONS),
        *(("leg", name, EVERY_LEG) for name in request.waive),
        *(("compute units", name, COMPUTE_UNITS) for name in request.compute_units),
    ):
        if value not in known:
            raise ParityError(f"unknown {what} {value!r}; known: {', '.join(known)}")
    if request.merge and (request.runtime == "coreml" or COREML_UPSTREAM in request.waive):
        raise ParityError(
            f"a result to merge is for the leg '{COREML_UPSTREAM}'; leave out --runtime coreml and "
            "do not waive that leg"
        )
    if request.runtime == "coreml":
        require_mac()
