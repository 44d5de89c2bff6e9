"""How large the numbers of a constant are: plain, from a palette, or scaled when loaded."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from kokoro_coreml.errors import PackageError
from kokoro_coreml.executor.extremes import Extremes, extremes
from kokoro_coreml.executor.package import Package
from kokoro_coreml.executor.types import BY_NAME, TensorSpec
from kokoro_coreml.executor.values import decode_value
from kokoro_coreml.placement.reading import Tensor

MAX_FOLDS = 8
"""Unpackings of one constant, one after another; a compressed weight takes three at most."""

_DATA = ("data", "quantized_data", "nonzero_data")
_ENTRIES = ("lut", "nonzero_data", "source_val")
"""Parameters of `constexpr_*` operations: what a scale multiplies, and what is kept as it is."""


def reach(tensor: Tensor, package: Package, depth: int = 0) -> Extremes | None:
    """Between which numbers those of a constant lie; None for no constant and for no numbers.

    Exact but for scaled numbers, whose bounds are the largest scale times the number that is
    farthest from its offset, though they may stand in different blocks.

    Raises:
        PackageError: the constant cannot be read.
    """
    if depth > MAX_FOLDS:
        raise PackageError(f"a constant is unpacked more than {MAX_FOLDS} times")
    if tensor.constant is not None:
        return _plain(tensor, package)
    parts = {
        key: found
        for key, part in tensor.parts.items()
        if (found := reach(part, package, depth + 1)) is not None
    }
    if "scale" in tensor.parts:
        return _scaled(parts)
    return next((parts[key] for key in _ENTRIES if key in parts), None)


def _plain(tensor: Tensor, package: Package) -> Extremes | None:
    spec, constant = tensor.spec, tensor.constant
    if not isinstance(spec, TensorSpec) or spec.dtype not in BY_NAME or spec.dtype == "bool":
        return None
    if constant.WhichOneof("value") == "blobFileValue" and None not in spec.shape:
        blob, count = constant.blobFileValue, math.prod(d or 0 for d in spec.shape)
        return package.extremes(blob.fileName, blob.offset, BY_NAME[spec.dtype], count)
    value = decode_value(constant, package.read_blob, f"constant '{tensor.name}'")
    return extremes([value]) if isinstance(value, torch.Tensor) else None


def _scaled(parts: Mapping[str, Extremes]) -> Extremes | None:
    data = next((parts[key] for key in _DATA if key in parts), None)
    scale, offset = parts.get("scale"), parts.get("offset") or parts.get("zero_point")
    if data is None or scale is None:
        return None
    low, high = (offset.low, offset.high) if offset else (0.0, 0.0)
    farthest = max(abs(data.high - low), abs(data.low - high))
    bound = scale.magnitude * farthest
    bound = math.inf if math.isnan(bound) else bound
    return Extremes(-bound, bound, None)
