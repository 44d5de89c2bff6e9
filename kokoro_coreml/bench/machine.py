"""The machine and the tools a benchmark ran on."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
from pathlib import Path

from kokoro_coreml.bench.results import Machine
from kokoro_coreml.bundle.contents import tool_versions
from kokoro_coreml.coreml import mac

RUNTIME = "onnxruntime"


def describe_machine() -> Machine:
    """This machine; what the system does not tell is null."""
    darwin = platform.system() == "Darwin"
    system = f"macOS {platform.mac_ver()[0]}" if darwin else platform.system()
    return Machine(
        system=f"{system} {platform.machine()}".strip() or "unknown",
        processor=(mac.processor() if darwin else _processor()) or "unknown",
        cores=_cores(),
        memory_bytes=_memory(),
        load_average=_load(),
    )


def versions() -> dict[str, str]:
    """Of the tools that shape a bundle, and of ONNX Runtime where it is installed."""
    found = dict(tool_versions())
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        found[RUNTIME] = importlib.metadata.version(RUNTIME)
    return found


def _processor() -> str:
    """Linux names it in `/proc/cpuinfo`."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.machine()
    lines = [line.partition(":") for line in text.splitlines()]
    names = [value.strip() for key, _, value in lines if key.strip() == "model name"]
    return next((name for name in names if name), platform.machine())


def _cores() -> int | None:
    """Those this process may use, where the system says."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def _load() -> float | None:
    try:
        return round(os.getloadavg()[0], 2)
    except (OSError, AttributeError):
        return None
