"""The functions of a bundle's packages, and the buckets they are made for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kokoro_coreml.errors import BundleError
from kokoro_coreml.manifest import Manifest
from kokoro_coreml.recipe import Bucket


@dataclass(frozen=True)
class Shape:
    """One function of the bundle's packages, and the bucket it is made for."""

    bucket: Bucket
    package: Path
    function: str
    compute_units: str
    """What the recipe says to ask Core ML for."""

    def __str__(self) -> str:
        """The file name of the package and its function."""
        return f"{self.package.name}:{self.function}"


def shapes_of(bundle: Path, manifest: Manifest) -> list[Shape]:
    """Functions of the `complete` packages, from the quickest to the slowest.

    The frames decide, then the tokens.

    Raises:
        BundleError: the bundle has none.
    """
    found = [
        Shape(
            Bucket(function.bucket.tokens, function.bucket.frames),
            bundle / package.file,
            function.name,
            package.compute_units,
        )
        for package in manifest.packages
        if package.cut == "complete"
        for function in package.functions
        if function.bucket.tokens is not None and function.bucket.frames is not None
    ]
    if not found:
        raise BundleError(f"'{bundle}' has no package of the cut 'complete'")
    return sorted(found, key=lambda shape: (shape.bucket.frames, shape.bucket.tokens))
