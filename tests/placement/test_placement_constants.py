"""How large constants are, in bytes and as numbers: plain, palettes, scales, and large blobs."""

from __future__ import annotations

import numpy as np
import pytest
from coremltools.converters.mil import Builder as mb
from torch import tensor

from kokoro_coreml.executor.extremes import PIECE, Extremes, extremes, pieces
from kokoro_coreml.executor.types import BY_NAME
from tests.placement.packages import f16, half, inspect_body


def palette(*entries: float, rows: int = 8):
    """A product with a weight of 8-bit palette entries, 64 numbers a row."""

    def body(x):
        lut = np.resize(np.array(entries, np.float16), (1, 1, 256, 1))
        indices = np.zeros((rows, 64), np.uint8)
        return mb.linear(x=x, weight=mb.constexpr_lut_to_dense(indices=indices, lut=lut))

    return inspect_body(body, half(1, 64), ios=18)


def scaled(scale: float, number: int = 100):
    def body(x):
        weight = mb.constexpr_blockwise_shift_scale(
            data=np.full((8, 64), number, np.int8), scale=f16(8, 1, value=scale)
        )
        return mb.linear(x=x, weight=weight)

    return inspect_body(body, half(1, 64), ios=18)


def affine(scale: float):
    def body(x):
        weight = mb.constexpr_affine_dequantize(
            quantized_data=np.full((8, 64), 3, np.uint8),
            zero_point=np.uint8(1),
            scale=np.float16(scale),
            axis=0,
        )
        return mb.linear(x=x, weight=weight)

    return inspect_body(body, half(1, 64), ios=16)


def plain(last: float):
    """A product with a weight of more than one piece, whose last number is given."""
    weight = f16(PIECE // 512, 1024)
    weight[-1, -1] = last
    return inspect_body(lambda x: mb.linear(x=x, weight=weight), half(1, 1024))


def rules_of(function) -> set[str]:
    return {f.rule for f in function.findings} & {"half-constant", "half-infinity"}


def test_a_palette_of_ios_18_counts_as_it_is_stored():
    function = palette(0.5, rows=100)
    (linear,) = function.operations
    bias = 2 * 100
    stored = 100 * 64 + 2 * 256 + bias
    assert linear.weight_bytes == function.summary.weight_bytes == stored


@pytest.mark.parametrize(
    ("function", "rule"),
    [
        (lambda: palette(0.5, np.inf), "half-infinity"),
        (lambda: palette(0.5, np.nan), "half-infinity"),
        (lambda: palette(0.5, -40000), "half-constant"),
        (lambda: scaled(np.inf, 0), "half-infinity"),
        (lambda: scaled(700), "half-infinity"),
        (lambda: scaled(400), "half-constant"),
        (lambda: affine(np.inf), "half-infinity"),
        (lambda: affine(20000), "half-constant"),
        (lambda: plain(-np.inf), "half-infinity"),
        (lambda: plain(np.nan), "half-infinity"),
        (lambda: plain(40000), "half-constant"),
    ],
)
def test_a_number_too_large_is_found_wherever_it_stands(function, rule):
    assert rules_of(function()) == {rule}


@pytest.mark.parametrize(
    "function",
    [
        lambda: palette(0.5, 32752),
        lambda: scaled(320),
        lambda: affine(16000),
        lambda: plain(32752),
    ],
)
def test_numbers_that_fit_are_not_found(function):
    assert rules_of(function()) == set()


@pytest.mark.parametrize("element", ["fp16", "int8", "uint6", "uint4", "uint1"])
def test_pieces_together_are_the_whole(element):
    """Elements of which bytes hold several are cut between bytes."""
    kind, count = BY_NAME[element], 2 * PIECE + 3
    raw = np.zeros((kind.bits * count + 7) // 8, np.uint8)
    raw[-2:] = 1
    found = [p.numel() for p in pieces(raw, kind, count)]
    assert found == [PIECE, PIECE, 3]
    measured = extremes(pieces(raw, kind, count))
    assert measured is not None
    assert measured.high > 0
    assert measured.least is not None


def test_extremes_are_of_all_numbers():
    assert extremes([tensor([3.0, 0.0]), tensor([]), tensor([-4])]) == Extremes(-4, 3, 3)
    assert extremes([tensor([0, 0])]) == Extremes(0, 0, None)
    assert extremes([tensor([])]) is None
    assert extremes([tensor([1.0, float("nan")])]).magnitude == float("inf")
