"""What the processes of one test run have in common: how many there are, and what they share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

MOST_WORKERS = 4
"""More would wait for the longest file."""

BYTES_PER_WORKER = 7 * 2**29
"""A worker holds the real network two or three times over while it converts and judges it."""

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",  # where two threads are asked for, do not spin on a busy core
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
"""One core for each worker."""


def count_workers(*, cores: int, memory_bytes: int) -> int:
    """As many as there are cores for and room for, at least 1."""
    return max(1, min(cores, MOST_WORKERS, memory_bytes // BYTES_PER_WORKER))


def usable_cores() -> int:
    """Of this process, which may be allowed fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_bytes() -> int:
    """Of the machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def run_folder(factory: pytest.TempPathFactory) -> Path:
    """A temporary folder of this run, the same one in all its workers."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def once_per_run(
    factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]
) -> Path:
    """A folder that the first worker to ask fills by `make`; the others wait and only read it.

    A folder whose making failed is made anew by the next that asks.
    """
    folder = run_folder(factory) / f"once-{name}"
    done = folder.with_suffix(".done")
    with FileLock(folder.with_suffix(".lock")):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            done.touch()
    return folder
