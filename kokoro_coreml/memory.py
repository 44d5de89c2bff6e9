"""Memory: how much was used, and giving large tensors back when they are freed."""

from __future__ import annotations

import ctypes
import re
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

M_MMAP_THRESHOLD = -3
"""`mallopt`'s name for the setting, from glibc's malloc.h."""

LARGE_BYTES = 1 << 20
USUAL_BYTES = 32 << 20
"""Where glibc's own threshold ends up in a process that frees large blocks."""


@contextmanager
def large_blocks_returned() -> Iterator[None]:
    """Let glibc map every block of 1 MiB or more on its own, and return it when it is freed.

    By default it raises that threshold to 32 MiB as it goes, and the activations a trace keeps (25
    MB each) then fragment its heap: 9 GB instead of 3 at 400 frames. Only for tracing: mapping
    makes a run of the network take 1.7 times as long, and saves it nothing. Does nothing elsewhere.
    """
    _map_from(LARGE_BYTES)
    try:
        yield
    finally:
        _map_from(USUAL_BYTES)


def _map_from(size: int) -> None:
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, size)


def peak_memory() -> int:
    """Largest resident size this process has had, in bytes.

    Linux hands on the figure of `getrusage` from a parent to what it starts; not so that of proc.
    """
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="ascii"))
        if found:
            return int(found[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
