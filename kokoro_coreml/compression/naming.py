"""The name of a weight that does not depend on stage, bucket or precision: its path in PyTorch.

Lowering keeps the path of most parameters in the constant's name, but not of an LSTM's, whose gate
rows it reorders, nor of matrices it transposes. Such a constant is found again by its values.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from kokoro_coreml.compression.quantise import Weight

if TYPE_CHECKING:
    from torch import Tensor


def fingerprint(weight: Weight) -> str:
    """SHA-256 of how often each non-zero value occurs in half precision.

    It does not change with order, shape, padding by zeros, or the cast from float32 to float16.
    """
    with np.errstate(over="ignore"):
        half = weight.astype(np.float16).reshape(-1)
    counts = np.bincount(half[half != 0].view(np.uint16), minlength=1 << 16)
    return hashlib.sha256(counts.astype("<i8").tobytes()).hexdigest()


def named_by(parameters: Mapping[str, Tensor]) -> Callable[[str, Weight], str]:
    """A function from a constant's name and value to the path of the parameter it came from.

    A constant whose values belong to no parameter keeps its name; of several parameters with the
    same values, the first in `parameters` gives the name.
    """
    paths: dict[str, str] = {}
    for path, parameter in parameters.items():
        if parameter.is_floating_point():
            values = parameter.detach().to("cpu").float().numpy()
            paths.setdefault(fingerprint(values), path)
    return lambda name, weight: paths.get(fingerprint(weight), name)
