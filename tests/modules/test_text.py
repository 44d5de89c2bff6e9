"""Rewrites over the token axis: equal to upstream, and to themselves under padding."""

from __future__ import annotations

import pytest
import torch

from kokoro_coreml.modules.alignment import create_alignment_matrix
from tests.modules.conftest import EXACT_DB, Pair, snr

TOKENS = 37
PADDED = [37, 38, 64, 128]


def _ids(pair: Pair, padded: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    ids = torch.zeros(1, padded, dtype=torch.int32)
    high = pair.checkpoint.config.n_token
    ids[0, :TOKENS] = torch.randint(1, high, (TOKENS,), generator=generator, dtype=torch.int32)
    mask = torch.zeros(1, padded)
    mask[0, :TOKENS] = 1
    return ids, mask


def _upstream_arguments() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor([TOKENS]), torch.zeros(1, TOKENS, dtype=torch.bool)


@pytest.mark.parametrize("padded", PADDED)
def test_albert_equals_upstream_under_any_padding(pair: Pair, padded: int) -> None:
    ids, mask = _ids(pair, padded)
    expected = pair.upstream.bert(ids[:, :TOKENS].long(), attention_mask=torch.ones(1, TOKENS))
    found = pair.rewrite(padded, 8).bert(ids, mask)[:, :TOKENS]
    assert snr(expected, found) >= EXACT_DB


@pytest.mark.parametrize("padded", PADDED)
def test_text_encoder_equals_upstream_and_is_silent_in_its_padding(pair: Pair, padded: int) -> None:
    ids, mask = _ids(pair, padded)
    expected = pair.upstream.text_encoder(ids[:, :TOKENS].long(), *_upstream_arguments())
    found = pair.rewrite(padded, 8).text_encoder(ids, mask)
    assert snr(expected, found[:, :, :TOKENS]) >= EXACT_DB
    assert torch.all(found[:, :, TOKENS:] == 0)


@pytest.mark.parametrize("padded", PADDED)
def test_duration_encoder_equals_upstream_whatever_stands_in_the_padding(
    pair: Pair, padded: int
) -> None:
    config = pair.checkpoint.config
    x = torch.randn(1, padded, config.hidden_dim)
    x[:, TOKENS:] *= 1e5  # opens an LSTM's gates, however far its own mask closes them
    style = torch.randn(1, config.style_dim)
    mask = (torch.arange(padded) < TOKENS).float().unsqueeze(0)
    exact = x[:, :TOKENS].transpose(1, 2)
    expected = pair.upstream.predictor.text_encoder(exact, style, *_upstream_arguments())
    found = pair.rewrite(padded, 8).predictor.text_encoder(x, style, mask)
    assert snr(expected, found[:, :TOKENS]) >= EXACT_DB
    assert torch.all(found[:, TOKENS:] == 0)


@pytest.mark.parametrize("speed", [0.5, 1.0, 2.0])
def test_durations_are_upstreams(pair: Pair, speed: float) -> None:
    config, predictor = pair.checkpoint.config, pair.upstream.predictor
    d = torch.randn(1, TOKENS, config.hidden_dim + config.style_dim)
    logits = predictor.duration_proj(predictor.lstm(d)[0])
    expected = torch.round(torch.sigmoid(logits).sum(-1) / speed).clamp(min=1)
    padded = torch.cat([d, torch.zeros(1, 20, d.shape[-1])], dim=1)
    mask = (torch.arange(TOKENS + 20) < TOKENS).float().unsqueeze(0)
    found = pair.rewrite(TOKENS + 20, 8).predictor.durations(padded, torch.tensor([speed]), mask)
    assert torch.equal(found[:, :TOKENS], expected)
    assert torch.all(found[:, TOKENS:] == 0)


@pytest.mark.parametrize("frames", [20, 26, 40])
def test_alignment_is_upstreams_repeat_interleave(frames: int) -> None:
    durations = torch.tensor([[3.0, 1.0, 7.0, 2.0, 13.0, 0.0, 0.0]])
    token = torch.repeat_interleave(torch.arange(7), durations[0].long())
    expected = torch.zeros(7, max(frames, 26))
    expected[token, torch.arange(26)] = 1
    found = create_alignment_matrix(durations, frames)
    assert torch.equal(found[0], expected[:, :frames])
