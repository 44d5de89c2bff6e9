"""Saved packages on a Mac: predictions, timings and device plans by Core ML itself.

**Nothing in this room has run on a Mac yet.** It is written from coremltools 9.0's sources, its
native binding (`coremlpython/*.mm`) included, and tested on Linux against a stand-in for that
binding. The process boundary (`process`, `child`) is tested for real.

    with CoreMLWorker(package, "main", "CPU_AND_NE") as backend:
        timing = measure(backend, inputs)
    plan = device_plan(package, "main", "CPU_AND_NE")
"""

from kokoro_coreml.coreml.errors import (
    CoreMLCrashError,
    CoreMLError,
    CoreMLTimeoutError,
    CoreMLUnavailableError,
)
from kokoro_coreml.coreml.mac import COMPUTE_UNITS, require_bridge, require_mac
from kokoro_coreml.coreml.plan import ComputePlan, DeviceShare, PlannedOperation, load_plan
from kokoro_coreml.coreml.timing import Timing, measure
from kokoro_coreml.coreml.worker import CoreMLWorker, device_plan

__all__ = [
    "COMPUTE_UNITS",
    "ComputePlan",
    "CoreMLCrashError",
    "CoreMLError",
    "CoreMLTimeoutError",
    "CoreMLUnavailableError",
    "CoreMLWorker",
    "DeviceShare",
    "PlannedOperation",
    "Timing",
    "device_plan",
    "load_plan",
    "measure",
    "require_bridge",
    "require_mac",
]
