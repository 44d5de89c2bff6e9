"""Arrays in JSON: base64 of their little-endian bytes, under a key that names the type."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np

FLOATS, INTEGERS, BYTES = "f32le", "i32le", "base64"

_TYPES = {FLOATS: "<f4", INTEGERS: "<i4"}


def floats(values: Any) -> dict[str, str]:
    """`{"f32le": ...}` of an array, flattened, rounded to float32."""
    return _encoded(FLOATS, np.asarray(values, dtype="<f4").tobytes())


def integers(values: Any) -> dict[str, str]:
    """`{"i32le": ...}` of an array of integers, flattened."""
    return _encoded(INTEGERS, np.asarray(values, dtype="<i4").tobytes())


def raw(content: bytes) -> dict[str, str]:
    """`{"base64": ...}` of a file's content."""
    return _encoded(BYTES, content)


def array(value: Mapping[str, str]) -> np.ndarray:
    """What `floats` or `integers` wrote: float32 or int32 [N].

    Raises:
        ValueError: it is neither, or not base64 of whole numbers.
    """
    if len(value) != 1 or not value.keys() <= _TYPES.keys():
        raise ValueError(f"expected one of the keys {', '.join(_TYPES)}, found {list(value)}")
    ((kind, text),) = value.items()
    return np.frombuffer(base64.b64decode(text, validate=True), dtype=_TYPES[kind])


def content(value: Mapping[str, str]) -> bytes:
    """What `raw` wrote."""
    return base64.b64decode(value[BYTES], validate=True)


def _encoded(kind: str, data: bytes) -> dict[str, str]:
    return {kind: base64.b64encode(data).decode("ascii")}
