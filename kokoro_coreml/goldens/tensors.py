"""Arrays of recordings in JSON: type, shape, digest, some of the values, and all of them or not."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from kokoro_coreml.goldens.cases import GoldensError

DTYPES = {"float32": "<f4", "float16": "<f2", "int32": "<i4"}
"""numpy's name of each type that a manifest has, and its little-endian form."""

MOST_SAMPLES = 32
"""Values that stand beside a digest, so that a difference can be judged by eye."""


def tensor(name: str, values: np.ndarray, *, whole: bool) -> dict[str, Any]:
    """An array as a recording holds it.

    Args:
        name: of the input or output.
        values: float32, float16 or int32 of any shape.
        whole: keep its bytes, not only their digest.

    Raises:
        GoldensError: it is of another type.
    """
    dtype = values.dtype.name
    if dtype not in DTYPES:
        raise GoldensError(f"'{name}' is {dtype}; a recording holds {', '.join(DTYPES)}")
    flat = np.ascontiguousarray(values).reshape(-1).astype(DTYPES[dtype], copy=False)
    data = flat.tobytes()
    stride = max(1, -(-flat.size // MOST_SAMPLES))
    return {
        "name": name,
        "dtype": dtype,
        "shape": list(values.shape),
        "sha256": hashlib.sha256(data).hexdigest(),
        "data": base64.b64encode(data.rstrip(b"\0")).decode("ascii") if whole else None,
        "sample": {"stride": stride, "values": [float(v) for v in flat[::stride]]},
    }


def values_of(record: Mapping[str, Any]) -> np.ndarray | None:
    """What `tensor` was given, or None if its bytes were not kept.

    Raises:
        GoldensError: the bytes are not those of the digest, or more than the shape holds.
    """
    if record["data"] is None:
        return None
    dtype = np.dtype(DTYPES[record["dtype"]])
    size = int(np.prod(record["shape"], dtype=np.int64)) * dtype.itemsize
    data = base64.b64decode(record["data"], validate=True).ljust(size, b"\0")
    if len(data) != size or hashlib.sha256(data).hexdigest() != record["sha256"]:
        raise GoldensError(f"'{record['name']}': its bytes are not those of its digest")
    return np.frombuffer(data, dtype).reshape(record["shape"])
