"""The smallest form that a weight loses nothing in.

Weights that were once of 8 bits, as those of a quantised export, are found to be so again.
"""

from __future__ import annotations

import numpy as np

from kokoro_coreml.compression.quantise import (
    Weight,
    contents,
    dequantise,
    quantise,
    relative_error_db,
)
from kokoro_coreml.compression.scheme import PALETTE_BITS, Opset, Scheme

UNCOMPRESSED = "none"
"""Stands for no compression in a recipe."""

EXACT = "exact"
"""Stands for the smallest scheme that loses nothing, and else for no compression."""

EXACT_DB = -120.0
"""Relative error that counts as none: what float32 itself loses in a sum of some hundred terms. A
weight in half precision must come back bit for bit."""

FAR = 200.0
"""Times the RMS of a channel's other values, which would round to nothing on a grid up to such a
value. The network's weights reach 105 times, its pad gates begin at 1,276."""

_ROUNDING = 1e-12
"""Of float64, generously; a value alone in its channel is always on the grid."""

_MOST_DISTINCT = 4_096
"""Values; a weight of more does not fit 256, even where float32 rounded each in several ways."""


_found: dict[tuple[object, ...], Scheme | None] = {}


def exact_scheme(weight: Weight, axis: int, opset: Opset) -> Scheme | None:
    """The smallest scheme whose error is at most `EXACT_DB`, or None if there is none.

    A weight of the same contents is tried once per process.

    Args:
        weight: float16 or float32, finite.
        axis: of its output channels.
        opset: of the program it is in.
    """
    key = (*contents(weight), axis, opset)
    if key not in _found:
        _found[key] = _smallest(weight, axis, opset)
    return _found[key]


def _smallest(weight: Weight, axis: int, opset: Opset) -> Scheme | None:
    distinct = len(np.unique(weight.astype(np.float32)))  # see `_one_palette` of quantise.py
    palettes = [Scheme("palette", bits) for bits in PALETTE_BITS if distinct <= 1 << bits]
    if not palettes and distinct <= _MOST_DISTINCT:
        palettes = [Scheme("palette", PALETTE_BITS[-1])]
    for scheme in (*palettes[:1], Scheme("int8")):
        if scheme.obstacle(weight.shape, axis=axis, opset=opset) is None and _keeps(
            weight, scheme, axis
        ):
            return scheme
    return None


def scheme_of(text: str, weight: Weight, axis: int, opset: Opset) -> Scheme | None:
    """What a recipe's word means for one weight.

    A weight that cannot be grouped as asked gets one palette of the same bits; so does, instead of
    a linear grid, one with a value far off all others (the pad gate of `modules.lstm.MaskedLSTM`).

    Args:
        text: `EXACT`, `UNCOMPRESSED`, or what `Scheme.parse` reads.
        weight: float16 or float32, finite.
        axis: of its output channels.
        opset: of the program it is in.

    Raises:
        RecipeError: the word is unknown.
    """
    if text == UNCOMPRESSED:
        return None
    if text == EXACT:
        return exact_scheme(weight, axis, opset)
    scheme = Scheme.parse(text)
    grouped = scheme.group is not None
    if grouped and scheme.obstacle(weight.shape, axis=axis, opset=opset):
        return Scheme("palette", scheme.bits)
    if scheme.kind == "int8" and _has_far_values(weight, axis):
        return Scheme("palette", scheme.bits)
    return scheme


def _has_far_values(weight: Weight, axis: int) -> bool:
    channels = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1).astype(np.float64)
    largest = np.abs(channels).max(axis=1)
    others = np.sum(channels**2, axis=1) - largest**2
    far = largest**2 > FAR**2 * others / max(1, channels.shape[1] - 1)
    alone = others <= _ROUNDING * largest**2
    return bool(np.any(far & ~alone))


def _keeps(weight: Weight, scheme: Scheme, axis: int) -> bool:
    back = dequantise(quantise(weight, scheme, axis=axis))
    if weight.dtype == np.float16:
        return np.array_equal(back, weight)
    return relative_error_db(reference=weight, candidate=back) <= EXACT_DB
