"""The number of threads, which decides the last bits of a sum."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

THREADS = 2
"""A sum is split by thread, so their number decides the last bits of the sample and the metrics.

Fixed, so that neither a bundle nor a report depends on how many cores the machine has.
"""


@contextmanager
def fixed_threads() -> Iterator[None]:
    """Let torch use `THREADS` threads, and what it used before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        yield
    finally:
        torch.set_num_threads(before)
