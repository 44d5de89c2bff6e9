"""Each element gets the nearest number its scheme has; what can be stored exactly is."""

from __future__ import annotations

import math

import numpy as np
import pytest
from coremltools.converters.mil.mil.ops.defs.iOS18.compression import (
    constexpr_blockwise_shift_scale,
    constexpr_lut_to_dense,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from kokoro_coreml.compression.quantise import (
    Linear,
    Palette,
    dequantise,
    quantise,
    relative_error_db,
)
from kokoro_coreml.compression.scheme import Scheme
from kokoro_coreml.errors import ConversionError

properties = settings(max_examples=60, deadline=None, derandomize=True)
dtypes = st.sampled_from([np.float16, np.float32])
shapes = st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple)
palettes = st.sampled_from([1, 2, 3, 4, 6, 8]).map(lambda bits: Scheme("palette", bits))


@st.composite
def weights(draw: st.DrawFn) -> np.ndarray:
    shape = draw(shapes)
    size = math.prod(shape)
    numbers = st.floats(-8, 8, width=16, allow_subnormal=False)
    values = draw(st.lists(numbers, min_size=size, max_size=size))
    return np.array(values, dtype=draw(dtypes)).reshape(shape)


def normal(*shape: int, dtype: type = np.float32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@properties
@given(weight=weights(), data=st.data())
def test_int8_is_off_by_at_most_half_a_step_of_its_channel(
    weight: np.ndarray, data: st.DataObject
) -> None:
    axis = data.draw(st.integers(-weight.ndim, weight.ndim - 1))
    stored = quantise(weight, Scheme("int8"), axis=axis)
    assert isinstance(stored, Linear)
    assert stored.data.dtype == np.int8
    assert stored.scale.dtype == weight.dtype
    kept = [n if d == axis % weight.ndim else 1 for d, n in enumerate(weight.shape)]
    assert list(stored.scale.shape) == kept
    assert np.all(stored.scale >= np.finfo(weight.dtype).tiny)
    exact = stored.data * stored.scale.astype(np.float64)
    rounding = np.abs(weight) * np.finfo(weight.dtype).eps
    assert np.all(np.abs(exact - weight) <= 0.5 * stored.scale + rounding)


@properties
@given(weight=weights(), scheme=palettes)
def test_palette_gives_each_element_its_nearest_entry(weight: np.ndarray, scheme: Scheme) -> None:
    stored = quantise(weight, scheme)
    assert isinstance(stored, Palette)
    assert stored.bits == scheme.bits
    assert stored.lut.shape == (*[1] * weight.ndim, 2**scheme.bits, 1)
    assert stored.lut.dtype == weight.dtype
    entries = stored.lut.reshape(-1).astype(np.float64)
    assert np.all(np.diff(entries) >= 0)
    exact = weight.astype(np.float64)
    nearest = np.abs(exact[..., None] - entries).min(axis=-1)
    np.testing.assert_array_equal(np.abs(dequantise(stored) - exact), nearest)
    if len(np.unique(weight)) <= 2**scheme.bits:
        np.testing.assert_array_equal(dequantise(stored), weight)


@properties
@given(axis=st.integers(0, 2), groups=st.integers(1, 4), size=st.integers(1, 3), data=st.data())
def test_each_group_of_channels_has_its_own_palette(
    axis: int, groups: int, size: int, data: st.DataObject
) -> None:
    shape = [2, 3, 4]
    shape[axis] = groups * size
    weight = normal(*shape, seed=data.draw(st.integers(0, 99)))
    stored = quantise(weight, Scheme("palette", 2, size), axis=axis)
    assert isinstance(stored, Palette)
    assert stored.lut.shape[axis] == groups
    back = dequantise(stored)
    for group in np.split(np.arange(groups * size), groups):
        alone = quantise(weight.take(group, axis), Scheme("palette", 2), axis=axis)
        np.testing.assert_array_equal(back.take(group, axis), dequantise(alone))


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("axis", [0, 1, 3])
@pytest.mark.parametrize("text", ["int8", "palette6", "palette3", "palette4/2"])
def test_coremltools_expands_the_stored_form_to_the_same_numbers(
    dtype: type, axis: int, text: str
) -> None:
    stored = quantise(normal(8, 6, 1, 4, dtype=dtype), Scheme.parse(text), axis=axis)
    if isinstance(stored, Linear):
        theirs = constexpr_blockwise_shift_scale.decompress(stored.data, stored.scale, None)
    else:
        theirs = constexpr_lut_to_dense.decompress(stored.indices, stored.lut, None)
    ours = dequantise(stored)
    assert ours.dtype == dtype
    np.testing.assert_array_equal(ours, theirs)


def test_error_falls_with_bits_and_with_groups() -> None:
    weight = normal(64, 128) * np.exp(normal(64, 1, seed=1))
    errors = {
        text: relative_error_db(
            reference=weight, candidate=dequantise(quantise(weight, Scheme.parse(text)))
        )
        for text in ("palette8", "palette6", "palette4/8", "palette4", "palette2", "palette1")
    }
    assert list(errors.values()) == sorted(errors.values())
    assert errors["palette8"] < -40
    assert errors["palette1"] > -8


def test_channels_of_zeros_and_of_tiny_numbers_stay_finite() -> None:
    weight = np.zeros((3, 4), dtype=np.float16)
    weight[1] = np.finfo(np.float16).smallest_subnormal
    weight[2] = 6e4
    for scheme in (Scheme("int8"), Scheme("palette", 2)):
        back = dequantise(quantise(weight, scheme))
        assert np.all(np.isfinite(back))
        np.testing.assert_allclose(back.astype(float), weight.astype(float), atol=6e-5, rtol=1e-3)


def test_equal_contents_are_compressed_once() -> None:
    weight = normal(40, 50)
    scheme = Scheme("palette", 4)
    assert quantise(weight, scheme) is quantise(weight.copy(order="F"), scheme, axis=-2)
    assert quantise(weight, scheme) is not quantise(weight.reshape(50, 40), scheme)
    assert quantise(weight, scheme) is not quantise(weight, Scheme("palette", 4, 20))


@pytest.mark.parametrize(
    ("weight", "scheme", "message"),
    [
        (np.ones((4, 4)), "int8", "float64"),
        (np.ones((4, 0), np.float32), "int8", "no elements"),
        (np.array([1, np.nan], np.float32), "palette8", "NaN or infinity"),
        (np.array([1, np.inf], np.float16), "int8", "NaN or infinity"),
        (np.ones((10, 4), np.float32), "palette4/4", "10 output channels are no multiple of 4"),
    ],
)
def test_what_cannot_be_compressed_is_refused(
    weight: np.ndarray, scheme: str, message: str
) -> None:
    with pytest.raises(ConversionError, match=message):
        quantise(weight, Scheme.parse(scheme))


def test_relative_error_is_in_decibels_of_energy() -> None:
    ones = np.ones(4, np.float32)
    assert relative_error_db(reference=ones, candidate=ones * 0.9) == pytest.approx(-20, abs=1e-4)
    assert relative_error_db(reference=ones, candidate=ones) == -math.inf
    assert relative_error_db(reference=ones * 0, candidate=ones) == math.inf
    with pytest.raises(ValueError, match="differ"):
        relative_error_db(reference=ones, candidate=ones[:1])


def test_a_half_precision_weight_of_few_values_is_kept_exactly() -> None:
    """numpy 2.3 sorts such arrays wrongly on processors with AVX-512."""
    rng = np.random.default_rng(0)
    weight = (np.round(rng.standard_normal((1024, 514)) * 10) / 100).astype(np.float16)
    assert len(set(weight.reshape(-1).tolist())) > 64
    coarse = np.clip(weight, -0.3, 0.3)
    palette = quantise(coarse, Scheme("palette", 6), axis=0)
    assert np.array_equal(dequantise(palette), coarse)
    finer, wider = (
        quantise(w, Scheme("palette", 6), axis=0) for w in (weight, weight.astype(np.float32))
    )
    assert isinstance(finer, Palette)
    assert isinstance(wider, Palette)
    assert np.array_equal(finer.lut, wider.lut.astype(np.float16))
