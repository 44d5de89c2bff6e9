"""The seven stages as one network: equal to the complete cut and to upstream, in any bucket."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kokoro_coreml.checkpoint import Checkpoint
from kokoro_coreml.errors import CheckpointError
from kokoro_coreml.modules import pipeline
from kokoro_coreml.modules.complete import KokoroCompleteCoreML
from kokoro_coreml.modules.folded.geometry import Folding
from kokoro_coreml.modules.folded.halos import foldings
from kokoro_coreml.modules.folded.upsample import widths
from kokoro_coreml.modules.generator import POST_SLOPE, GeneratorMasks
from kokoro_coreml.modules.pipeline import (
    Aligned,
    DecoderStage,
    DurationStage,
    EncoderStage,
    GeneratorStage,
    PipelineNetwork,
    ProsodyStage,
    SourceStage,
    TailStage,
    Timed,
)
from kokoro_coreml.modules.weights import translate
from kokoro_coreml.noise import gaussian, merged_noise
from kokoro_coreml.parity.metrics import log_spectral_distance_db, snr_db
from kokoro_coreml.parity.reference import Reference
from kokoro_coreml.recipe import load_recipe
from kokoro_coreml.vocabulary import Vocabulary, pad
from kokoro_coreml.voices import load_voice
from tests.modules.conftest import EXACT_DB, snr
from tests.support.folded import by_place, in_time, rows_of

TINY_AUDIO_DB = 20.0
"""The random network amplifies flips at the branch cut."""
REAL_AUDIO_DB = 38.0
FOLDED_DB = 85.0


class Run(NamedTuple):
    """Everything one utterance gives on its way."""

    timed: Timed
    aligned: Aligned
    features: Tensor
    source: tuple[Tensor, ...]
    hidden: Tensor
    audio: np.ndarray
    """Its padding included."""
    frames: int

    @property
    def speech(self) -> np.ndarray:
        return self.audio[: self.frames * self.per_frame]

    @property
    def per_frame(self) -> int:
        return self.audio.size // (self.aligned.f0.shape[1] // 2)


class Said(NamedTuple):
    ids: tuple[int, ...]
    row: np.ndarray
    speed: float = 1.0


def run(network: PipelineNetwork, said: Said, tokens: int, frames: int) -> Run:
    decoder, sources = DecoderStage(network, frames), SourceStage(network, frames)
    generator, tail = GeneratorStage(network, frames), TailStage(network, frames)
    input_ids, mask = (torch.from_numpy(v) for v in pad(said.ids, tokens))
    row, shape = torch.from_numpy(said.row), (1, 1, 1, tokens)
    (encoded,) = EncoderStage(network)(input_ids.float().view(shape), mask.float().view(shape))
    timing = DurationStage(network, tokens)
    t = timing(encoded, input_ids, mask, row, torch.tensor([said.speed]))
    a = ProsodyStage(network, frames)(t.d, t.text, t.pred_dur, row)
    (features,) = decoder(a.asr, a.curves, a.levels, a.frame_mask, t.decoder_scale, t.decoder_shift)
    count = t.pred_dur.sum(dim=1).to(torch.int32)
    samples = network.config.samples_per_frame
    noise = torch.from_numpy(gaussian(0, frames * samples)).view(1, 2 * frames, -1)
    source = sources(a.f0, count, torch.zeros(1, 9), noise)
    (hidden,) = generator(features, source[0], t.generator_scale, t.generator_shift, *source[1:])
    (audio,) = tail(hidden, count)
    return Run(t, a, features, source, hidden, audio.view(-1).numpy(), int(count))


@pytest.fixture(scope="module")
def network(tiny: Checkpoint) -> PipelineNetwork:
    return PipelineNetwork(tiny)


@pytest.fixture(scope="module")
def said() -> Said:
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(1, 178, (20,), generator=generator).tolist()
    style = torch.randn(1, 256, generator=generator) * 0.15
    return Said((0, *ids, 0), style.numpy())


@pytest.fixture(scope="module")
def whole(tiny: Checkpoint) -> KokoroCompleteCoreML:
    return KokoroCompleteCoreML(tiny, 40, 256, _noise(tiny, 256))


@pytest.fixture(scope="module")
def slow(network: PipelineNetwork, said: Said) -> Run:
    """So long that it reaches from the first row into the second and nearly fills it."""
    with torch.inference_mode():
        found = run(network, said._replace(speed=0.4), 40, 256)
    assert 192 < found.frames < 256
    return found


def _noise(checkpoint: Checkpoint, frames: int) -> Tensor:
    weight = checkpoint.state["decoder"]["generator.m_source.l_linear.weight"]
    return merged_noise(0, weight)(frames * checkpoint.config.samples_per_frame)


# the same speech


@pytest.mark.parametrize("speed", [0.8, 1.0, 1.7])
def test_equals_upstream_under_the_same_noise(
    tiny: Checkpoint, tiny_reference: Reference, network: PipelineNetwork, said: Said, speed: float
) -> None:
    said = said._replace(speed=speed)
    noise = merged_noise(0, tiny.state["decoder"]["generator.m_source.l_linear.weight"])
    expected = tiny_reference.speak(list(said.ids), said.row, noise=noise, speed=speed)
    found = run(network, said, 40, 256)
    assert np.array_equal(found.timed.pred_dur[0, : len(said.ids)].numpy(), expected.durations)
    assert found.speech.size == expected.audio.size
    assert snr_db(reference=expected.audio, candidate=found.speech) >= TINY_AUDIO_DB


def test_equals_the_complete_cut(
    whole: KokoroCompleteCoreML, network: PipelineNetwork, said: Said
) -> None:
    input_ids, mask = (torch.from_numpy(v) for v in pad(said.ids, 40))
    row = torch.from_numpy(said.row)
    at = whole.boundaries(input_ids, row, torch.zeros(1, 9), mask, torch.ones(1))
    found = run(network, said, 40, 256)
    used = len(said.ids)
    assert torch.equal(at.durations[0].int(), found.timed.pred_dur[0, :40])
    assert snr(at.d[:, :used], found.timed.d[:, :used]) >= EXACT_DB
    assert snr(at.text, found.timed.text[:, :, :40]) >= EXACT_DB
    assert snr(at.f0, found.aligned.f0) >= EXACT_DB
    per_frame = found.aligned.curves + found.aligned.levels * found.aligned.frame_mask
    for conv, curve, own in zip(
        (whole.decoder.F0_conv, whole.decoder.N_conv), (at.f0, at.energy), per_frame[0], strict=True
    ):
        expected = conv(curve.unsqueeze(1))[0] * found.aligned.frame_mask[0, 0]
        assert snr(expected, own) >= EXACT_DB
    assert snr(at.asr, found.aligned.asr.squeeze(2)) >= EXACT_DB
    folding = DecoderStage(network, 256).folding
    assert snr(at.features, folding.unfold(found.features, 1)) >= EXACT_DB
    audio = at.audio.view(-1).numpy()
    assert snr_db(reference=audio, candidate=found.audio) >= TINY_AUDIO_DB


@pytest.mark.parametrize(("tokens", "frames"), [(22, 128), (32, 256), (200, 128), (512, 384)])
def test_the_bucket_does_not_change_the_speech(
    network: PipelineNetwork, said: Said, tokens: int, frames: int
) -> None:
    first, other = run(network, said, 22, 256), run(network, said, tokens, frames)
    assert torch.equal(first.timed.pred_dur, other.timed.pred_dur)
    assert first.frames == other.frames <= 128
    assert snr_db(reference=first.speech, candidate=other.speech) >= TINY_AUDIO_DB
    shared = 2 * first.frames
    assert snr(first.aligned.f0[:, :shared], other.aligned.f0[:, :shared]) >= EXACT_DB


def test_behind_the_speech_there_is_silence(network: PipelineNetwork, said: Said) -> None:
    found = run(network, said, 32, 256)
    assert np.all(found.audio[found.speech.size :] == 0)
    assert np.any(found.speech[-20:] != 0)
    used = len(said.ids)
    for value in (found.timed.d[:, used:], found.timed.text[:, :, used:]):
        assert torch.all(value == 0)
    assert torch.all(found.timed.pred_dur[:, used:] == 0)
    assert torch.all(found.aligned.f0[:, 2 * found.frames :] == 0)
    assert torch.all(found.aligned.asr[..., found.frames :] == 0)
    assert float(found.aligned.frame_mask.sum()) == found.frames


def test_token_axes_end_at_the_networks_longest(network: PipelineNetwork, said: Said) -> None:
    for tokens in (22, 512):
        timed = run(network, said, tokens, 128).timed
        assert timed.d.shape == (1, 512, 640)
        assert timed.text.shape == (1, 512, 512)
        assert timed.pred_dur.shape == (1, 512)
        assert timed.pred_dur.dtype == torch.int32


def test_masks_of_the_source_count_every_column_once(network: PipelineNetwork, said: Said) -> None:
    found = run(network, said, 32, 256)
    rates, net = (8, 16), found.source[1:]
    for i, rate in enumerate(rates):
        valid, own, share = net[3 * i : 3 * i + 3]
        counted = rate * found.frames + int(i == 1)
        assert float(own.sum()) == counted
        assert float(share) == pytest.approx(own.shape[3] / counted)
        assert torch.all(valid >= own)


def test_phases_and_noise_reach_the_spectrum(network: PipelineNetwork) -> None:
    source = SourceStage(network, 128)
    f0, count = torch.full((1, 256), 150.0), torch.tensor([128], dtype=torch.int32)
    silent = torch.zeros(1, 256, 16)
    plain = source(f0, count, torch.zeros(1, 9), silent)[0]
    assert not torch.equal(plain, source(f0, count, torch.full((1, 9), 0.3), silent)[0])
    assert not torch.equal(plain, source(f0, count, torch.zeros(1, 9), silent + 1)[0])


@pytest.mark.slow
def test_real_weights_equal_upstream_on_the_recipes_sample(
    packaged: Checkpoint, packaged_reference: Reference
) -> None:
    phonemes = load_recipe("kokoro-82m").sample.phonemes
    ids = Vocabulary.from_config(packaged.config).encode(phonemes)
    said = Said(tuple(ids), np.array(load_voice("af_heart").row(len(phonemes))))
    weight = packaged.state["decoder"]["generator.m_source.l_linear.weight"]
    expected = packaged_reference.speak(ids, said.row, noise=merged_noise(0, weight))
    network = PipelineNetwork(packaged)
    found = run(network, said, 128, 256)
    assert np.array_equal(found.timed.pred_dur[0, : len(ids)].numpy(), expected.durations)
    pair = {"reference": expected.audio, "candidate": found.speech}
    assert snr_db(**pair) >= REAL_AUDIO_DB
    assert log_spectral_distance_db(**pair) <= 0.3
    wider = run(network, said, 512, 384)
    assert snr_db(reference=found.speech, candidate=wider.speech) >= REAL_AUDIO_DB


# masks


def test_without_the_frame_mask_the_decoder_says_something_else(
    network: PipelineNetwork, said: Said
) -> None:
    found = run(network, said, 32, 256)
    t, a = found.timed, found.aligned
    mask = torch.ones_like(a.frame_mask)
    stage = DecoderStage(network, 256)
    (other,) = stage(a.asr, a.curves, a.levels, mask, t.decoder_scale, t.decoder_shift)
    valid = slice(8, 8 + 2 * found.frames)
    assert snr(found.features[:, :, 0, valid], other[:, :, 0, valid]) < 60


def test_one_frame_more_or_less_changes_the_source_and_the_tail(
    network: PipelineNetwork, said: Said
) -> None:
    found = run(network, said, 32, 256)
    noise = torch.from_numpy(gaussian(0, 256 * 32)).view(1, 512, 16)
    for wrong in (found.frames - 1, found.frames + 1):
        count = torch.tensor([wrong], dtype=torch.int32)
        har = SourceStage(network, 256)(found.aligned.f0, count, torch.zeros(1, 9), noise)[0]
        assert not torch.equal(har, found.source[0])
        (audio,) = TailStage(network, 256)(found.hidden, count)
        length = min(wrong, found.frames) * found.per_frame
        assert not np.array_equal(audio.view(-1).numpy()[:length], found.speech[:length])


# rows


def test_every_halo_holds_what_its_neighbour_has(network: PipelineNetwork, slow: Run) -> None:
    """Place by place, by a reference that does not fold."""
    rates = network.config.istftnet.upsample_rates
    rate, behind = widths(rates)[-1], _behind(network)
    features = in_time(slow.features, behind[0], 1)
    assert torch.equal(slow.features, by_place(features, behind[0], 1))
    har = in_time(slow.source[0], behind[-1], rate, 1)
    assert torch.equal(slow.source[0], by_place(har, behind[-1], rate, 1))
    for axis in (features, har):
        seam = axis.shape[2] // 2
        assert torch.all(axis[..., seam - 16 : seam + 16].abs().amax(dim=1) > 0)
    expected = [value for at in rows_of(behind, rates, slow.frames) for value in at]
    for found, value in zip(slow.source[1:], expected, strict=True):
        torch.testing.assert_close(found, value, rtol=1e-6, atol=0.0)


def _behind(network: PipelineNetwork) -> tuple[Folding, ...]:
    return foldings(256, network.config.istftnet)


def test_two_rows_equal_the_unfolded_generator(
    whole: KokoroCompleteCoreML, network: PipelineNetwork, said: Said, slow: Run
) -> None:
    """Given the same features and the same source, so that no phase flips."""
    generator, (first, *_, last) = whole.decoder.generator, _behind(network)
    rate = widths(generator.rates)[-1]
    style = torch.from_numpy(said.row)[:, : network.config.style_dim]
    features, har = in_time(slow.features, first, 1), in_time(slow.source[0], last, rate, 1)
    seen: list[Tensor] = []
    hook = generator.conv_post.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    generator.body(features, style, har, _masks(whole, slow))
    hook.remove()
    found = F.leaky_relu(in_time(slow.hidden, last, rate, 1), POST_SLOPE)
    assert snr(seen[0], found) >= FOLDED_DB
    seam, columns = last.core * rate + 1, 2 * rate * slow.frames + 1
    for part in (slice(0, 20), slice(seam - 20, seam + 20), slice(columns - 20, columns)):
        assert snr(seen[0][..., part], found[..., part]) >= FOLDED_DB, part


def _masks(whole: KokoroCompleteCoreML, said: Run) -> GeneratorMasks:
    return whole.decoder.generator.masks(torch.full((1, 1, 1), float(said.frames)))


# the last frame and the column behind it


def test_the_source_ends_as_the_complete_cuts(
    tiny: Checkpoint, whole: KokoroCompleteCoreML, slow: Run
) -> None:
    """As complex numbers: a phase of pi and one of -pi are the same."""
    phases, f0 = torch.zeros(1, 9), slow.aligned.f0
    expected = whole.decoder.generator.excitation(f0, phases, whole.noise, _masks(whole, slow))
    rate = widths(tiny.config.istftnet.upsample_rates)[-1]
    found = in_time(slow.source[0], foldings(256, tiny.config.istftnet)[-1], rate, 1)
    columns = tiny.config.columns_per_frame * slow.frames + 1
    assert torch.all(found[..., columns:] == 0)
    for part in (slice(columns), *(slice(i, i + 1) for i in range(columns - 4, columns))):
        pair = [_complex(har[..., part]) for har in (expected, found)]
        assert snr(*pair) >= EXACT_DB, part


def _complex(har: Tensor) -> Tensor:
    """[1, 2 * bins, columns], magnitude and phase -> real and imaginary parts."""
    magnitude, phase = har.chunk(2, dim=1)
    return torch.cat([magnitude * torch.cos(phase), magnitude * torch.sin(phase)], dim=1)


def test_the_tail_ends_as_the_complete_cuts(
    whole: KokoroCompleteCoreML, network: PipelineNetwork, slow: Run
) -> None:
    generator = whole.decoder.generator
    hidden = in_time(slow.hidden, _behind(network)[-1], widths(generator.rates)[-1], 1)
    spectrum = generator.conv_post(F.leaky_relu(hidden, POST_SLOPE))
    expected = generator.tail(spectrum, _masks(whole, slow)).view(-1)
    found = torch.from_numpy(slow.audio)
    assert snr(expected, found) >= EXACT_DB
    end = slow.frames * slow.per_frame
    for samples in (20, 4):
        last = slice(end - samples, end)
        assert snr(expected[last], found[last]) >= EXACT_DB, samples


# noise


@pytest.mark.parametrize("samples", [1, 7, 640])
def test_merged_noise_sums_to_the_norm_times_one_channel(tiny: Checkpoint, samples: int) -> None:
    weight = tiny.state["decoder"]["generator.m_source.l_linear.weight"]
    noise = merged_noise(3, weight)(samples)
    assert noise.shape == (1, samples, 9)
    expected = float(weight.double().norm()) * gaussian(3, samples).astype(np.float64)
    summed = (noise.double() @ weight.double().view(9)).numpy()[0]
    assert np.max(np.abs(summed - expected)) <= 1e-6 * float(weight.norm())


def test_merged_noise_of_a_longer_run_begins_with_the_shorter(tiny: Checkpoint) -> None:
    of = merged_noise(3, tiny.state["decoder"]["generator.m_source.l_linear.weight"])
    assert torch.equal(of(100)[:, :40], of(40))


# weights


def _without(checkpoint: Checkpoint, part: str, change: Mapping[str, Tensor | None]) -> Checkpoint:
    """Keys replaced or, where None, left out."""
    state = {key: value for key, value in checkpoint.state[part].items() if key not in change}
    state |= {key: value for key, value in change.items() if value is not None}
    return dataclasses.replace(checkpoint, state={**checkpoint.state, part: state})


KEYS = [
    ("bert", "encoder.embedding_hidden_mapping_in.weight"),
    ("bert_encoder", "bias"),
    ("predictor", "F0_proj.bias"),
    ("text_encoder", "embedding.weight"),
    ("decoder", "F0_conv.bias"),
    ("decoder", "N_conv.bias"),
    ("decoder", "encode.norm1.fc.weight"),
    ("decoder", "decode.3.pool.bias"),
    ("decoder", "generator.ups.0.bias"),
    ("decoder", "generator.noise_convs.0.bias"),
    ("decoder", "generator.noise_res.0.adain1.0.fc.bias"),
    ("decoder", "generator.conv_post.bias"),
    ("decoder", "generator.m_source.l_linear.weight"),
]


@pytest.mark.parametrize(("part", "key"), KEYS)
def test_a_missing_key_is_refused(tiny: Checkpoint, part: str, key: str) -> None:
    assert key in tiny.state[part]
    with pytest.raises(CheckpointError):
        PipelineNetwork(_without(tiny, part, {key: None}))


@pytest.mark.parametrize(
    ("part", "key"),
    [
        ("bert", "extra.weight"),
        ("bert_encoder", "extra"),
        ("predictor", "extra.bias"),
        ("text_encoder", "cnn.9.weight"),
        ("decoder", "extra.weight"),
        ("decoder", "encode.norm3.fc.weight"),
        ("decoder", "generator.extra"),
        ("decoder", "generator.noise_res.0.adain1.7.fc.bias"),
        ("decoder", "generator.conv_post.extra"),
        ("decoder", "generator.m_source.extra"),
    ],
)
def test_a_surplus_key_is_refused(tiny: Checkpoint, part: str, key: str) -> None:
    with pytest.raises(CheckpointError):
        PipelineNetwork(_without(tiny, part, {key: torch.zeros(4)}))


@pytest.mark.parametrize(("part", "key"), KEYS)
def test_a_weight_of_another_shape_is_refused(tiny: Checkpoint, part: str, key: str) -> None:
    value = tiny.state[part][key]
    with pytest.raises(CheckpointError):
        PipelineNetwork(_without(tiny, part, {key: torch.zeros(3, *value.shape[1:])}))


def test_every_weight_of_upstream_is_held_exactly_once(
    tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each tensor holds its own number; the network must hold it as often as the tensor did."""
    names: list[str] = []
    expected: list[int] = []

    def numbered(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        translated = translate(state)
        for key, value in translated.items():
            names.append(f"{len(names)} {key}")
            upsampler = re.fullmatch(r"generator\.ups\.(\d)\.bias", key)
            times = rates[int(upsampler[1])] if upsampler else 1  # one bias per phase
            expected.append(times * value.numel())
            translated[key] = torch.full_like(value, float(len(names)))
        return translated

    rates = tiny.config.istftnet.upsample_rates
    monkeypatch.setattr(pipeline, "translate", numbered)
    state = PipelineNetwork(tiny).state_dict()
    held = sum(
        (
            torch.bincount(value.flatten().long(), minlength=len(names) + 1)
            for value in state.values()
        ),
        start=torch.zeros(len(names) + 1, dtype=torch.long),
    )
    found = dict(zip(names, held[1:].tolist(), strict=True))
    assert found == dict(zip(names, expected, strict=True))
