"""Upsampling without transposed convolutions: the same numbers, for any kernel and stride."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from kokoro_coreml.modules.folded.generator import GeneratorRows, _NoiseConv
from kokoro_coreml.modules.folded.upsample import (
    DoublingPool,
    PolyphaseUpsample,
    doubled,
    interleave,
    phases,
    widths,
)
from kokoro_coreml.modules.masks import repeat_each
from tests.support.folded import few_channels

shapes = st.integers(1, 12).flatmap(
    lambda stride: st.tuples(st.just(stride), st.integers(0, 6).map(lambda n: stride + 2 * n))
)


@settings(max_examples=60)
@given(shape=shapes, length=st.integers(1, 9), rows=st.integers(1, 3), seed=st.integers(0, 99))
def test_polyphase_equals_the_transposed_convolution(
    shape: tuple[int, int], length: int, rows: int, seed: int
) -> None:
    stride, kernel = shape
    torch.manual_seed(seed)
    upstream = nn.ConvTranspose1d(3, 2, kernel, stride, padding=(kernel - stride) // 2)
    ours = PolyphaseUpsample(3, 2, kernel, stride)
    assert upstream.bias is not None
    ours.load_state_dict(ours.own_state(upstream.weight, upstream.bias), strict=True)
    x = torch.randn(1, 3, rows, length)
    expected = torch.stack([upstream(x[:, :, row]) for row in range(rows)], dim=2)
    torch.testing.assert_close(ours(x), expected, rtol=1e-4, atol=1e-5)


@given(shape=shapes)
def test_phases_are_all_there_and_read_no_zeros_in_vain(shape: tuple[int, int]) -> None:
    stride, kernel = shape
    groups = phases(kernel, stride)
    covered = [group.first + i for group in groups for i in range(group.count)]
    assert covered == list(range(stride))
    used = sum(group.count * group.taps for group in groups)
    assert used == kernel


@pytest.mark.parametrize(("kernel", "stride"), [(20, 10), (12, 6), (8, 4), (4, 2)])
def test_kernels_stay_narrow(kernel: int, stride: int) -> None:
    assert max(group.taps for group in phases(kernel, stride)) <= kernel // stride + 1


@settings(max_examples=30)
@given(channels=st.integers(1, 5), length=st.integers(1, 9), rows=st.integers(1, 3))
def test_doubling_pool_equals_upstreams(channels: int, length: int, rows: int) -> None:
    torch.manual_seed(channels)
    upstream = nn.ConvTranspose1d(
        channels, channels, 3, stride=2, groups=channels, padding=1, output_padding=1
    )
    pool = DoublingPool(channels)
    pool.load_state_dict(upstream.state_dict(), strict=True)
    x = torch.randn(1, channels, rows, length)
    expected = torch.stack([upstream(x[:, :, row]) for row in range(rows)], dim=2)
    torch.testing.assert_close(pool(x), expected, rtol=1e-5, atol=1e-6)


@given(
    times=st.integers(1, 7),
    channels=st.integers(1, 4),
    rows=st.integers(1, 3),
    width=st.integers(1, 5),
)
def test_interleave_puts_channel_k_at_every_kth_place(
    times: int, channels: int, rows: int, width: int
) -> None:
    parts = torch.randn(1, times * channels, rows, width)
    found = interleave(parts, times)
    assert found.shape == (1, channels, rows, width * times)
    for k in range(times):
        assert torch.equal(found[..., k::times], parts[:, k * channels : (k + 1) * channels])


def test_doubled_repeats_each_position() -> None:
    x = torch.randn(1, 3, 1, 7)
    assert torch.equal(doubled(x).squeeze(2), repeat_each(x.squeeze(2), 2))


def test_widths_multiply() -> None:
    assert widths([10, 6]) == [10, 60]
    assert widths([4, 2, 3]) == [4, 8, 24]


@settings(max_examples=40)
@given(stride=st.integers(2, 9), positions=st.integers(2, 12), seed=st.integers(0, 9))
def test_noise_convolution_equals_upstreams_at_every_column(
    stride: int, positions: int, seed: int
) -> None:
    """A row of the folded spectrum has column 0 in its halo: here a halo of one position."""
    torch.manual_seed(seed)
    upstream = nn.Conv1d(4, 3, 2 * stride, stride, padding=(stride + 1) // 2)
    ours = _NoiseConv(4, 3, stride)
    assert upstream.bias is not None
    ours.load_state_dict(ours.own_state(upstream.weight, upstream.bias), strict=True)
    har = torch.randn(1, 4, positions * stride + 1)
    row = F.pad(har, (stride - 1, stride)).unsqueeze(2)
    found = ours(row).squeeze(2)[:, :, 1:-1]
    torch.testing.assert_close(found, upstream(har)[:, :, :positions], rtol=1e-4, atol=1e-5)


def test_noise_convolution_of_the_last_rate_is_one_wide() -> None:
    conv = GeneratorRows(few_channels()).noise_convs[-1]
    assert isinstance(conv, _NoiseConv)
    har = torch.randn(1, 22, 2, 9)
    assert conv(har).shape[2:] == (2, 9)
    assert conv.conv.kernel_size == (1, 1)
