"""Each module stage against upstream's own module, both fed the same inputs.

The inputs are what the candidate itself passed on (`modules.complete.Boundaries`), cut to the valid
length; upstream's untouched modules work on them at that length. So an error stays in the stage it
was made in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kokoro_coreml.config import F0_PER_FRAME, ModelConfig
from kokoro_coreml.modules.complete import Boundaries
from kokoro_coreml.parity.metrics import snr_db
from kokoro_coreml.parity.reference import InjectedNoise, Noise, Reference
from kokoro_coreml.synthesis import Utterance

TAPS = Boundaries._fields
"""Names of the arrays a stage comparison needs."""


@dataclass(frozen=True)
class _Exact:
    """The candidate's boundaries at their valid length, and upstream's view of the utterance."""

    ids: Tensor
    timbre: Tensor
    style: Tensor
    speed: float
    at: Boundaries
    frames: int


def stage_snr_db(
    reference: Reference, utterance: Utterance, taps: Mapping[str, np.ndarray], *, noise: Tensor
) -> dict[str, float]:
    """SNR in dB of every stage against upstream fed the same inputs.

    Spectra are compared as complex numbers, because a phase near the branch cut may be written as
    pi or -pi.

    Args:
        reference: upstream.
        utterance: what was said.
        taps: `Boundaries` by name, of the candidate, padded.
        noise: unit noise, [1, samples, 9].

    Returns:
        Stage name to SNR; infinite where equal.
    """
    with torch.inference_mode():
        exact = _cut(reference.config, utterance, taps)
        found = _found(exact)
        expected = dict(_expected(reference, exact, noise))
        return {
            name: snr_db(reference=value.numpy(), candidate=found[name].numpy())
            for name, value in expected.items()
        }


def exact_length(
    config: ModelConfig, utterance: Utterance, taps: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """What each stage gave, at its valid length, by the names of `stage_snr_db`.

    Args:
        config: of the network.
        utterance: what was said.
        taps: `Boundaries` by name, padded.
    """
    return {name: value.numpy() for name, value in _found(_cut(config, utterance, taps)).items()}


def _cut(config: ModelConfig, utterance: Utterance, taps: Mapping[str, np.ndarray]) -> _Exact:
    whole = {name: torch.from_numpy(np.asarray(taps[name])) for name in TAPS}
    tokens = len(utterance.ids)
    frames = int(whole["durations"].sum())
    length = {
        **dict.fromkeys(("hidden", "encoded", "d"), (1, tokens)),
        **dict.fromkeys(("durations",), (1, tokens)),
        **dict.fromkeys(("text",), (2, tokens)),
        **dict.fromkeys(("en", "asr"), (2, frames)),
        **dict.fromkeys(("f0", "energy"), (1, F0_PER_FRAME * frames)),
        "features": (2, F0_PER_FRAME * frames),
        **dict.fromkeys(("har", "spectrum"), (2, config.columns_per_frame * frames + 1)),
        "audio": (2, config.samples_per_frame * frames),
    }
    at = Boundaries(**{n: whole[n].narrow(axis, 0, size) for n, (axis, size) in length.items()})
    style = torch.from_numpy(utterance.ref_s)
    half = config.style_dim
    ids = torch.tensor([utterance.ids])
    return _Exact(ids, style[:, :half], style[:, half:], utterance.speed, at, frames)


def _found(exact: _Exact) -> dict[str, Tensor]:
    at = exact.at
    return {
        "albert": at.hidden,
        "bert_encoder": at.encoded,
        "predictor.text_encoder": at.d,
        "durations": at.durations,
        "alignment": torch.cat([at.en, at.asr], dim=1),
        "f0": at.f0,
        "energy": at.energy,
        "text_encoder": at.text,
        "decoder": at.features,
        "source": as_complex(at.har),
        "generator": at.spectrum,
        "istft": at.audio.reshape(1, -1),
    }


def _expected(reference: Reference, exact: _Exact, noise: Tensor) -> Iterator[tuple[str, Tensor]]:
    model, at = reference.model, exact.at
    yield "albert", model.bert(exact.ids, attention_mask=torch.ones_like(exact.ids))
    yield "bert_encoder", model.bert_encoder(at.hidden)
    yield from _tokens(model, exact)
    yield from _frames(model, exact)
    yield from _generator(model.decoder.generator, exact, noise)


def _tokens(model: Any, exact: _Exact) -> Iterator[tuple[str, Tensor]]:
    at, predictor = exact.at, model.predictor
    lengths, mask = torch.tensor([exact.ids.shape[1]]), torch.zeros_like(exact.ids).bool()
    yield "text_encoder", model.text_encoder(exact.ids, lengths, mask)
    d = predictor.text_encoder(at.encoded.transpose(1, 2), exact.style, lengths, mask)
    yield "predictor.text_encoder", d
    logits = predictor.duration_proj(predictor.lstm(at.d)[0])
    duration = torch.sigmoid(logits).sum(dim=-1) / exact.speed
    yield "durations", torch.round(duration).clamp(min=1)


def _frames(model: Any, exact: _Exact) -> Iterator[tuple[str, Tensor]]:
    at = exact.at
    index = torch.repeat_interleave(
        torch.arange(exact.ids.shape[1]), at.durations.reshape(-1).long()
    )
    both = torch.cat([at.d.transpose(1, 2), at.text], dim=1)
    yield "alignment", both[:, :, index]
    f0, energy = model.predictor.F0Ntrain(at.en, exact.style)
    yield "f0", f0
    yield "energy", energy
    yield "decoder", decoder_features(model.decoder, at.asr, at.f0, at.energy, exact.timbre)


def decoder_features(
    decoder: Any, asr: Tensor, f0: Tensor, energy: Tensor, timbre: Tensor
) -> Tensor:
    """What upstream's decoder hands to its generator, [1, 512, 2 F]."""
    features: list[Tensor] = []

    def seen(x: Tensor, *_: Tensor) -> Tensor:
        features.append(x)
        return x

    with _replaced(decoder.generator, "forward", seen):
        decoder(asr, f0, energy, timbre)
    return features[0]


@contextmanager
def given_curves(decoder: Any, frames: Tensor) -> Iterator[None]:
    """Let upstream's decoder read these curves, whatever F0 and energy it is called with.

    Args:
        decoder: upstream's.
        frames: what its `F0_conv` and `N_conv` are to give, [1, 2, 1, F].
    """
    f0, energy = frames.unbind(dim=1)
    with (
        _replaced(decoder.F0_conv, "forward", lambda _: f0),
        _replaced(decoder.N_conv, "forward", lambda _: energy),
    ):
        yield


class Generated(NamedTuple):
    """What upstream's generator made of a given source."""

    har: Tensor
    """Its own source's magnitude and phase, which were not used."""
    hidden: Tensor
    """What `conv_post` read."""
    spectrum: Tensor
    """What `conv_post` gave."""


def run_on_source(
    generator: Any, run: Callable[[], Any], har: Tensor, noise: Noise
) -> tuple[Generated, Any]:
    """Run upstream with its source's spectrum replaced.

    Args:
        generator: upstream's.
        run: calls it, or the decoder around it.
        har: magnitude and phase to use, [1, n_fft + 2, columns].
        noise: of its own source.

    Returns:
        What went on inside, and what `run` returned.
    """
    bins = har.shape[1] // 2
    own: list[Tensor] = []
    post: list[tuple[Tensor, Tensor]] = []
    transform = generator.stft.transform

    def given(signal: Tensor) -> tuple[Tensor, Tensor]:
        own.append(torch.cat(transform(signal), dim=1))
        return har[:, :bins], har[:, bins:]

    hook = generator.conv_post.register_forward_hook(
        lambda _module, inputs, output: post.append((inputs[0], output))
    )
    try:
        with _replaced(generator.stft, "transform", given), InjectedNoise(noise):
            result = run()
    finally:
        hook.remove()
    return Generated(own[0], *post[0]), result


def spectral_head(generator: Any, spectrum: Tensor) -> Tensor:
    """Upstream's audio of what `conv_post` gave, [1, samples]."""
    bins = spectrum.shape[1] // 2
    audio: Tensor = generator.stft.inverse(
        torch.exp(spectrum[:, :bins]), torch.sin(spectrum[:, bins:])
    )
    return audio.reshape(1, -1)


def _generator(generator: Any, exact: _Exact, noise: Tensor) -> Iterator[tuple[str, Tensor]]:
    at = exact.at
    made, _ = run_on_source(
        generator, lambda: generator(at.features, exact.timbre, at.f0), at.har, noise
    )
    yield "source", as_complex(made.har)
    yield "generator", made.spectrum
    yield "istft", spectral_head(generator, at.spectrum)


def as_complex(har: Tensor) -> Tensor:
    """Real and imaginary parts of magnitude and phase: pi and -pi are the same phase."""
    magnitude, phase = har.chunk(2, dim=1)
    return torch.cat([magnitude * torch.cos(phase), magnitude * torch.sin(phase)], dim=1)


@contextmanager
def _replaced(owner: Any, name: str, value: Callable[..., Any]) -> Iterator[None]:
    """Put an attribute in front of a class's method, for one object and one block."""
    setattr(owner, name, value)
    try:
        yield
    finally:
        delattr(owner, name)
