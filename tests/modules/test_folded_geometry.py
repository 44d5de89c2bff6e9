"""Time folded into rows: nothing is lost, each position counts once, halos are their neighbours."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kokoro_coreml.errors import CheckpointError
from kokoro_coreml.modules.folded.geometry import Folding
from kokoro_coreml.modules.folded.halos import ALIGNMENT
from kokoro_coreml.modules.folded.halos import foldings as behind
from kokoro_coreml.modules.folded.norm import AdaIN, Rows, Styles
from kokoro_coreml.modules.folded.upsample import widths
from kokoro_coreml.modules.masks import valid_prefix
from kokoro_coreml.modules.norm import AdaIN1d
from kokoro_coreml.recipe import FRAMES_PER_ROW, load_recipe
from tests.support.folded import real_config

foldings = st.builds(
    Folding,
    rows=st.integers(1, 5),
    core=st.integers(6, 20),
    halo=st.integers(1, 3),
)
rates = st.integers(1, 7)
extras = st.integers(0, 1)


def _time(folding: Folding, rate: int, extra: int) -> torch.Tensor:
    """Every position its own number, from 1; 0 is padding."""
    length = folding.rows * folding.core * rate + extra
    return torch.arange(1, length + 1, dtype=torch.float32).view(1, 1, 1, length)


def _place(folding: Folding, rate: int, extra: int) -> torch.Tensor:
    """Where each value of the rows stands on the axis of time, [rows, width]."""
    start = torch.arange(folding.rows)[:, None] * folding.core * rate
    return start + torch.arange(folding.width(rate)) - folding.halo * rate + extra


@given(folding=foldings, rate=rates, extra=extras)
def test_unfolding_gives_back_what_was_folded(folding: Folding, rate: int, extra: int) -> None:
    x = _time(folding, rate, extra)
    rows = folding.fold(torch.cat([x, -x], dim=1), rate, extra=extra)
    assert rows.shape == (1, 2, folding.rows, folding.width(rate))
    back = folding.unfold(rows, rate, extra=extra)
    assert torch.equal(back, torch.cat([x, -x], dim=1).squeeze(2))


@given(folding=foldings, rate=rates, extra=extras)
def test_every_value_of_every_row_is_that_of_its_place_in_time(
    folding: Folding, rate: int, extra: int
) -> None:
    x = _time(folding, rate, extra)
    place = _place(folding, rate, extra)
    inside = (place >= 0) & (place < x.shape[3])
    expected = torch.where(inside, place + 1, 0).to(torch.float32)
    assert torch.equal(folding.fold(x, rate, extra=extra)[0, 0], expected)


@given(folding=foldings, rate=rates, extra=extras)
def test_each_halo_holds_its_neighbours_core(folding: Folding, rate: int, extra: int) -> None:
    rows = folding.fold(_time(folding, rate, extra), rate, extra=extra)[0, 0]
    core, halo = folding.core * rate, folding.halo * rate
    for left, right in pairwise(rows):
        assert torch.equal(right[:halo], left[core : core + halo])
        assert torch.equal(left[halo + core :], right[halo : 2 * halo])


@given(folding=foldings, rate=rates, extra=extras, data=st.data())
def test_masks_hold_the_valid_positions_and_own_counts_each_once(
    folding: Folding, rate: int, extra: int, data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, folding.rows * folding.core))
    valid = folding.valid(torch.full((1, 1, 1, 1), float(count)), rate, extra=extra)
    own = folding.own(valid, rate, extra=extra)
    place = _place(folding, rate, extra)
    assert torch.equal(valid[0, 0], ((place >= 0) & (place < count * rate + extra)).float())
    assert float(own.sum()) == count * rate + extra
    counted = place[own[0, 0] == 1].tolist()
    assert sorted(counted) == list(range(count * rate + extra))
    assert torch.all(own <= valid)


@given(rows=st.integers(1, 4), rate=rates)
def test_the_position_in_front_of_the_first_is_owned_once(rows: int, rate: int) -> None:
    folding = Folding(rows, 2, core=8)
    valid = folding.valid(torch.full((1, 1, 1, 1), 8.0 * rows), rate, extra=1)
    own = folding.own(valid, rate, extra=1)
    edge = folding.halo * rate - 1
    assert own[0, 0, :, edge].tolist() == [1.0] + [0.0] * (rows - 1)


@pytest.mark.parametrize("frames", [0, 1, 127, 129, 192, -128])
def test_frames_that_do_not_fill_rows_are_refused(frames: int) -> None:
    with pytest.raises(ValueError, match=f"{frames} frames.*multiple of 128"):
        behind(frames, real_config().istftnet)


def test_the_recipe_and_the_rows_agree_on_a_rows_frames() -> None:
    for rows in (1, 5):
        found = behind(rows * FRAMES_PER_ROW, real_config().istftnet)
        assert [folding.rows for folding in found] == [rows, rows]


def test_rows_fit_every_neural_engine_and_are_aligned() -> None:
    net = real_config().istftnet
    rates = widths(net.upsample_rates)
    for frames in load_recipe("kokoro-82m").frames:
        found = behind(frames, net)
        all_widths = [found[0].width(1), *(f.width(r) for f, r in zip(found, rates, strict=True))]
        assert max(all_widths) <= 16_384
        assert all(width % ALIGNMENT == 0 for width in all_widths)


def test_halos_wider_than_half_a_row_are_refused() -> None:
    with pytest.raises(ValueError, match=r"halos of 20 positions.*rows of 32; at most 16"):
        Folding(3, 20, core=32)
    assert Folding(1, 20, core=32).width(1) == 72
    with pytest.raises(ValueError, match="3 positions is wider than one of 2"):
        Folding(2, 2).narrowed(torch.zeros(1, 1, 2, 260), 1, Folding(2, 3))


def test_a_generator_that_reaches_too_far_is_refused() -> None:
    config = dataclasses.replace(real_config().istftnet, upsample_rates=(1, 1))
    with pytest.raises(CheckpointError, match=r"reach \d+ positions.*rows of 256 hold 128"):
        behind(128, config)


@given(folding=foldings, rate=rates, off=st.integers(0, 3))
def test_a_narrower_halo_is_the_inner_part(folding: Folding, rate: int, off: int) -> None:
    to = dataclasses.replace(folding, halo=max(0, folding.halo - off))
    x = _time(folding, rate, 0)
    narrowed = folding.narrowed(folding.fold(x, rate), rate, to)
    assert torch.equal(narrowed, to.fold(x, rate))


@given(folding=foldings, rate=rates, halo=st.integers(1, 3))
def test_an_exchanged_halo_is_the_neighbours_core(folding: Folding, rate: int, halo: int) -> None:
    to = dataclasses.replace(folding, halo=halo)
    x = _time(folding, rate, 0)
    rows = folding.fold(x, rate)
    rows[..., : folding.halo * rate] = -1.0
    rows[..., (folding.halo + folding.core) * rate :] = -1.0
    assert torch.equal(folding.exchanged(rows, rate, to), to.fold(x, rate))


# statistics


def _norm_pair(channels: int) -> tuple[AdaIN1d, AdaIN, Styles, torch.Tensor]:
    whole, folded, style = AdaIN1d(4, channels), AdaIN(channels), torch.randn(1, 4)
    gamma, beta = whole.fc(style).view(1, 2, channels, 1, 1).unbind(1)
    return whole, folded, Styles(1.0 + gamma, beta), style


@settings(max_examples=30)
@given(
    folding=foldings,
    rate=rates,
    extra=extras,
    offset=st.sampled_from([0.0, 3.0, -40.0]),
    data=st.data(),
)
def test_statistics_over_rows_are_those_of_the_axis(
    folding: Folding, rate: int, extra: int, offset: float, data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, folding.rows * folding.core))
    torch.manual_seed(0)
    whole, folded, styles, style = _norm_pair(3)
    length = folding.rows * folding.core * rate + extra
    at = valid_prefix(torch.full((1, 1, 1), float(count * rate + extra)), length)
    x = (torch.randn(1, 3, length) + offset) * at.mask
    positions = torch.full((1, 1, 1, 1), float(count))
    valid = folding.valid(positions, rate, extra=extra)
    share = float(folding.width(rate)) / (positions * rate + extra)
    rows = Rows(valid, folding.own(valid, rate, extra=extra), share)
    with torch.inference_mode():
        expected = whole(x, style, at) * at.mask
        found = folded(folding.fold(x.unsqueeze(2), rate, extra=extra), styles, rows) * valid
        found = folding.unfold(found, rate, extra=extra)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-4)


def test_neighbours_that_count_twice_change_the_statistics() -> None:
    folding = Folding(2, 3, core=8)
    _, norm, styles, _ = _norm_pair(3)
    x = folding.fold(torch.randn(1, 3, 1, 16), 1)
    valid = folding.valid(torch.full((1, 1, 1, 1), 16.0), 1)
    share = torch.full((1, 1, 1, 1), folding.width(1) / 16.0)
    right = norm(x, styles, Rows(valid, folding.own(valid, 1), share))
    assert not torch.allclose(right, norm(x, styles, Rows(valid, valid, share)), atol=1e-3)
