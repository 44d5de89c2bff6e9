"""Decoder, source and generator: equal to upstream, and to themselves under padding."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from kokoro_coreml.modules.complete import KokoroCompleteCoreML
from kokoro_coreml.modules.generator import GeneratorMasks
from kokoro_coreml.modules.masks import valid_prefix
from kokoro_coreml.modules.source import HARMONICS
from kokoro_coreml.noise import source_noise
from kokoro_coreml.parity.reference import InjectedNoise
from tests.modules.conftest import EXACT_DB, Pair, snr

FRAMES = 21
PADDED = [21, 22, 50]


def _f0() -> torch.Tensor:
    """Voiced and unvoiced stretches, a negative and a tiny value, [1, 2 * FRAMES]."""
    t = torch.arange(2 * FRAMES)
    f0 = 180 + 60 * torch.sin(t / 7.0) + torch.randn(2 * FRAMES)
    f0[10:16], f0[30:33] = -3.0, 0.5
    return f0.unsqueeze(0)


def _rewrite(pair: Pair, padded: int) -> tuple[KokoroCompleteCoreML, GeneratorMasks]:
    rewrite = pair.rewrite(4, padded)
    count = torch.full((1, 1, 1), float(FRAMES))
    return rewrite, rewrite.decoder.generator.masks(count)


def _upstream_source(pair: Pair, f0: torch.Tensor) -> torch.Tensor:
    """[1, samples]."""
    generator = pair.upstream.decoder.generator
    noise = source_noise(0, pair.checkpoint.config.samples_per_frame * FRAMES)
    with InjectedNoise(noise):
        source, _, _ = generator.m_source(generator.f0_upsamp(f0[:, None]).transpose(1, 2))
    return source.squeeze(-1)


def _complex(har: torch.Tensor) -> torch.Tensor:
    """Magnitude and phase as a real and an imaginary part, which have no branch cut."""
    magnitude, phase = har.chunk(2, dim=1)
    return torch.cat([magnitude * torch.cos(phase), magnitude * torch.sin(phase)], dim=1)


@pytest.mark.parametrize("padded", PADDED)
def test_source_with_zero_phases_equals_upstream(pair: Pair, padded: int) -> None:
    f0 = _f0()
    expected = _upstream_source(pair, f0)
    rewrite, _ = _rewrite(pair, padded)
    source = rewrite.decoder.generator.m_source(
        F.pad(f0, (0, 2 * (padded - FRAMES))), torch.zeros(1, HARMONICS), rewrite.noise
    )
    assert snr(expected, source.reshape(1, -1)[:, : expected.shape[1]]) >= EXACT_DB


def test_random_phases_shift_each_harmonic(pair: Pair) -> None:
    rewrite, _ = _rewrite(pair, FRAMES)
    generate = rewrite.decoder.generator.m_source.l_sin_gen
    f0 = torch.full((1, 2 * FRAMES), 150.0)
    plain, _ = generate(f0, torch.zeros(1, HARMONICS))
    for harmonic in range(HARMONICS):
        phases = torch.zeros(1, HARMONICS)
        phases[0, harmonic] = 0.5
        shifted, _ = generate(f0, phases)
        assert snr(-plain[:, harmonic], shifted[:, harmonic]) > 60
        others = [h for h in range(HARMONICS) if h != harmonic]
        assert torch.equal(plain[:, others], shifted[:, others])


@pytest.mark.parametrize("padded", PADDED)
def test_stft_reflects_at_the_valid_end_as_upstream_does(pair: Pair, padded: int) -> None:
    config, stft = pair.checkpoint.config, pair.upstream.decoder.generator.stft
    signal = torch.randn(1, config.samples_per_frame * FRAMES)
    expected = torch.cat(stft.transform(signal), dim=1)
    rewrite, masks = _rewrite(pair, padded)
    framed = F.pad(signal, (0, config.samples_per_frame * (padded - FRAMES)))
    found = rewrite.decoder.generator.stft(
        framed.view(1, padded, -1), masks.frames.mask.transpose(1, 2), masks.stages[-1].mask
    )
    columns = expected.shape[-1]
    assert columns == config.columns_per_frame * FRAMES + 1
    assert snr(_complex(expected), _complex(found[:, :, :columns])) >= EXACT_DB
    assert torch.all(found[:, :, columns:] == 0)


def test_phase_at_dc_and_nyquist_is_zero_or_pi(pair: Pair) -> None:
    config = pair.checkpoint.config
    rewrite, masks = _rewrite(pair, FRAMES)
    signal = torch.randn(1, FRAMES, config.samples_per_frame)
    har = rewrite.decoder.generator.stft(
        signal, masks.frames.mask.transpose(1, 2), masks.stages[-1].mask
    )
    bins = har.shape[1] // 2
    phase = har[:, [bins, 2 * bins - 1]]
    assert torch.all((phase == 0) | (phase == torch.pi))
    assert torch.any(phase == torch.pi)


@pytest.mark.parametrize("padded", PADDED)
def test_decoder_features_equal_upstream_under_any_padding(pair: Pair, padded: int) -> None:
    config, decoder = pair.checkpoint.config, pair.upstream.decoder
    asr, energy = torch.randn(1, config.hidden_dim, FRAMES), torch.randn(1, 2 * FRAMES)
    f0, style = _f0(), torch.randn(1, config.style_dim)
    seen: list[torch.Tensor] = []
    hook = decoder.generator.register_forward_pre_hook(lambda _module, given: seen.append(given[0]))
    noise = source_noise(0, config.samples_per_frame * FRAMES)
    with InjectedNoise(noise):
        decoder(asr, f0, energy, style)
    hook.remove()
    extra = padded - FRAMES
    count = torch.full((1, 1, 1), float(FRAMES))
    rewrite, _ = _rewrite(pair, padded)
    found = rewrite.decoder.features(
        F.pad(asr, (0, extra)),
        F.pad(f0, (0, 2 * extra)),
        F.pad(energy, (0, 2 * extra)),
        style,
        valid_prefix(count, padded),
        valid_prefix(count * 2, padded * 2),
    )
    assert snr(seen[0], found[:, :, : 2 * FRAMES]) >= EXACT_DB
    assert torch.all(found[:, :, 2 * FRAMES :] == 0)


@pytest.mark.parametrize("padded", PADDED)
def test_generator_fed_the_same_spectrum_equals_upstream(pair: Pair, padded: int) -> None:
    """Upstream is given our source by its own `stft.transform`, so no branch cut comes between."""
    config, generator = pair.checkpoint.config, pair.upstream.decoder.generator
    x, style, f0 = torch.randn(1, 512, 2 * FRAMES), torch.randn(1, config.style_dim), _f0()
    spectrum: list[tuple[torch.Tensor, torch.Tensor]] = []
    transform = generator.stft.transform

    def recorded(signal: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        spectrum.append(transform(signal))
        return spectrum[-1]

    noise = source_noise(0, config.samples_per_frame * FRAMES)
    generator.stft.transform = recorded
    try:
        with InjectedNoise(noise):
            expected = generator(x, style, f0)
    finally:
        del generator.stft.transform
    har = torch.cat(spectrum[0], dim=1)
    rewrite, masks = _rewrite(pair, padded)
    extra = padded - FRAMES
    body = rewrite.decoder.generator.body(
        F.pad(x, (0, 2 * extra)), style, F.pad(har, (0, config.columns_per_frame * extra)), masks
    )
    found = rewrite.decoder.generator.tail(body, masks)
    samples = expected.shape[-1]
    assert snr(expected.reshape(-1), found[0, 0, :samples]) >= EXACT_DB
    assert torch.all(found[0, 0, samples:] == 0)


def test_tail_survives_what_exp_makes_of_the_padding(pair: Pair) -> None:
    config = pair.checkpoint.config
    rewrite, masks = _rewrite(pair, 30)
    columns = masks.stages[-1].mask.shape[-1]
    spectrum = torch.full((1, config.istftnet.gen_istft_n_fft + 2, columns), 200.0)
    valid = config.columns_per_frame * FRAMES + 1
    spectrum[:, :, :valid] = torch.randn(1, spectrum.shape[1], valid)
    audio = rewrite.decoder.generator.tail(spectrum, masks)
    assert torch.all(torch.isfinite(audio))
