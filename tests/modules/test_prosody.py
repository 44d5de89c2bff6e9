"""F0 and energy: equal to upstream, and to themselves under padding."""

from __future__ import annotations

import pytest
import torch

from kokoro_coreml.modules.masks import valid_prefix
from tests.modules.conftest import EXACT_DB, Pair, snr

FRAMES = 23


@pytest.mark.parametrize("padded", [23, 24, 60])
def test_curves_equal_upstream_under_any_padding(pair: Pair, padded: int) -> None:
    config = pair.checkpoint.config
    en = torch.randn(1, config.hidden_dim + config.style_dim, FRAMES)
    style = torch.randn(1, config.style_dim)
    expected = pair.upstream.predictor.F0Ntrain(en, style)
    count = torch.full((1, 1, 1), float(FRAMES))
    padded_en = torch.nn.functional.pad(en, (0, padded - FRAMES))
    found = pair.rewrite(4, padded).predictor.curves(
        padded_en, style, valid_prefix(count, padded), valid_prefix(count * 2, padded * 2)
    )
    for want, got in zip(expected, found, strict=True):
        assert snr(want, got[:, : 2 * FRAMES]) >= EXACT_DB
        assert torch.all(got[:, 2 * FRAMES :] == 0)
