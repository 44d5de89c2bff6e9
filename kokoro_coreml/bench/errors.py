"""What can go wrong with a benchmark as a whole."""

from __future__ import annotations

from typing import ClassVar

from kokoro_coreml.errors import PackageError


class BenchError(PackageError):
    """A benchmark was asked for what does not exist, could not be read, or had a part fail."""

    title: ClassVar[str] = "benchmark"
