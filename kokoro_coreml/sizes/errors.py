"""What can go wrong with a table of sizes as a whole."""

from __future__ import annotations

from typing import ClassVar

from kokoro_coreml.errors import PackageError


class SizesError(PackageError):
    """A table of sizes was asked for what does not exist, could not be read, or had a row fail."""

    title: ClassVar[str] = "sizes"
