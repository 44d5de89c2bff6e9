"""Each module stage against upstream's own module, both fed the same inputs.

The inputs are what the candidate itself passed on (`modules.complete.Boundaries`), cut to the valid
length; upstream's untouched modules work on them at that length. So an error stays in the stage it
was made in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kokoro_coreml.config import F0_PER_FRAME, ModelConfig
from kokoro_coreml.modules.complete import Boundaries
from kokoro_coreml.parity.metrics import snr_db
from kokoro_coreml.parity.reference import InjectedNoise, Reference
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
        "source": _complex(at.har),
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
    features: list[Tensor] = []

    def seen(x: Tensor, *_: Tensor) -> Tensor:
        features.append(x)
        return x

    with _replaced(model.decoder.generator, "forward", seen):
        model.decoder(at.asr, at.f0, at.energy, exact.timbre)
    yield "decoder", features[0]


def _generator(generator: Any, exact: _Exact, noise: Tensor) -> Iterator[tuple[str, Tensor]]:
    at = exact.at
    bins = at.har.shape[1] // 2
    spectra: list[Tensor] = []
    transform = generator.stft.transform

    def ours(signal: Tensor) -> tuple[Tensor, Tensor]:
        spectra.append(torch.cat(transform(signal), dim=1))
        return at.har[:, :bins], at.har[:, bins:]

    hook = generator.conv_post.register_forward_hook(lambda *given: spectra.append(given[2]))
    try:
        with _replaced(generator.stft, "transform", ours), InjectedNoise(noise):
            generator(at.features, exact.timbre, at.f0)
    finally:
        hook.remove()
    yield "source", _complex(spectra[0])
    yield "generator", spectra[1]
    head = at.spectrum
    audio = generator.stft.inverse(torch.exp(head[:, :bins]), torch.sin(head[:, bins:]))
    yield "istft", audio.reshape(1, -1)


def _complex(har: Tensor) -> Tensor:
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
