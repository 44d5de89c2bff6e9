"""What once had 8 bits is found to have them again; what never had is left alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kokoro_coreml.compression import Scheme, dequantise, exact_scheme, quantise, relative_error_db
from kokoro_coreml.compression.exact import EXACT_DB, scheme_of
from kokoro_coreml.errors import RecipeError


@given(
    seed=st.integers(0, 2**32 - 1),
    steps=st.integers(7, 127),
    rows=st.integers(1, 40),
    columns=st.integers(80, 400),
    half=st.booleans(),
)
def test_a_grid_per_channel_comes_back(
    seed: int, steps: int, rows: int, columns: int, half: bool
) -> None:
    random = np.random.default_rng(seed)
    data = random.integers(-steps, steps + 1, (rows, columns))
    data[:, 0] = steps  # a channel's largest value is on its grid, as an export leaves it
    scale = random.uniform(1e-3, 1.0, (rows, 1)).astype(np.float32)
    weight = (data * scale).astype(np.float16 if half else np.float32)
    scheme = exact_scheme(weight, 0, "iOS18")
    if not half:
        assert scheme is not None
    if scheme is not None:
        assert scheme.bits == 8 or len(np.unique(weight)) <= 1 << scheme.bits
        back = dequantise(quantise(weight, scheme))
        assert relative_error_db(reference=weight, candidate=back) <= EXACT_DB
        if half:
            np.testing.assert_array_equal(back, weight)


@pytest.mark.parametrize(("distinct", "bits"), [(2, 1), (3, 2), (16, 4), (17, 6), (256, 8)])
def test_the_smallest_palette_that_holds_every_value(distinct: int, bits: int) -> None:
    random = np.random.default_rng(0)
    values = random.choice(np.arange(1_000), distinct, replace=False).astype(np.float16)
    weight = np.resize(values, (64, 100))
    assert len(np.unique(weight)) == distinct
    assert exact_scheme(weight, 0, "iOS18") == Scheme("palette", bits)


def test_values_that_float32_rounded_in_several_ways_are_one_value() -> None:
    random = np.random.default_rng(1)
    grid = (np.arange(200) / 7).astype(np.float32)
    weight = grid[random.integers(0, 200, (300, 300))]
    shaken = np.nextafter(weight, random.choice([-np.inf, np.inf], weight.shape).astype(np.float32))
    assert len(np.unique(shaken)) > 256
    assert exact_scheme(shaken, 0, "iOS18") == Scheme("palette", 8)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_weights_that_never_were_of_8_bits_are_left_alone(dtype: type) -> None:
    weight = np.random.default_rng(2).standard_normal((300, 300)).astype(dtype)
    assert exact_scheme(weight, 0, "iOS18") is None


@pytest.mark.parametrize(("loss_db", "kept"), [(-130.0, True), (-110.0, False), (-70.0, False)])
def test_how_much_counts_as_nothing(loss_db: float, kept: bool) -> None:
    random = np.random.default_rng(5)
    data = random.integers(-100, 101, (30, 500)) * 0.01
    shaken = data + 10 ** (loss_db / 20) * np.sqrt(np.mean(data**2)) * random.standard_normal(
        data.shape
    )
    scheme = exact_scheme(shaken.astype(np.float32), 0, "iOS18")
    assert (scheme is not None) == kept


@pytest.mark.parametrize(("far", "kind"), [(105.0, "int8"), (1_276.0, "palette")])
def test_which_values_are_too_far_for_a_grid(far: float, kind: str) -> None:
    weight = np.random.default_rng(6).choice([-1.0, 1.0], (8, 600)).astype(np.float32)
    weight[3, 5] = far
    scheme = scheme_of("int8", weight, 0, "iOS18")
    assert scheme is not None
    assert scheme.kind == kind


def test_the_words_of_a_recipe() -> None:
    weight = np.random.default_rng(3).standard_normal((20, 300)).astype(np.float32)
    assert scheme_of("none", weight, 0, "iOS18") is None
    assert scheme_of("exact", weight, 0, "iOS18") is None
    assert scheme_of("int8", weight, 0, "iOS18") == Scheme("int8")
    assert scheme_of("palette4/10", weight, 0, "iOS18") == Scheme("palette", 4, 10)
    assert scheme_of("palette4/16", weight, 0, "iOS18") == Scheme("palette", 4)
    with pytest.raises(RecipeError, match="smaller"):
        scheme_of("smaller", weight, 0, "iOS18")


def test_a_pad_gate_does_not_ruin_its_rows() -> None:
    weight = np.random.default_rng(4).standard_normal((64, 300)).astype(np.float32) * 0.05
    weight[:16, -1] = -100.0
    scheme = scheme_of("int8", weight, 0, "iOS18")
    assert scheme == Scheme("palette", 8)
    back = dequantise(quantise(weight, scheme))
    rest = {"reference": weight[:, :-1], "candidate": back[:, :-1]}
    assert relative_error_db(**rest) < -35.0
    alone = np.zeros((4, 600), dtype=np.float32)
    alone[:, 3] = 1.5
    assert scheme_of("int8", alone, 0, "iOS18") == Scheme("int8")
