"""What upstream's own modules make of the inputs of every stage of a pipeline.

As in `parity.stages`, the inputs are what the candidate itself passed on, cut to the valid length.
`conv_post` stands in the stage `Tail`, so `Generator` is compared by what `conv_post` reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kokoro_coreml.modules.generator import POST_SLOPE
from kokoro_coreml.parity.flows import COMPARED, Arrays, Lengths, frames_of
from kokoro_coreml.parity.metrics import snr_db
from kokoro_coreml.parity.reference import Noise, Reference
from kokoro_coreml.parity.stages import (
    as_complex,
    decoder_features,
    given_curves,
    run_on_source,
    spectral_head,
)
from kokoro_coreml.synthesis import Utterance

Named = Iterator[tuple[str, Tensor]]


def pipeline_snr_db(
    reference: Reference,
    utterance: Utterance,
    exact: Mapping[str, Tensor],
    *,
    noise: Callable[[int], Tensor],
) -> dict[str, float]:
    """SNR in dB of every stage against upstream fed the same inputs.

    Args:
        reference: upstream.
        utterance: what was said.
        exact: from `Lengths.exact`, of the candidate; of all stages, or of those over tokens.
        noise: of its source.

    Returns:
        `Stage.value`, such as `Duration.text`, to SNR; infinite where equal.
    """
    found = shown(exact)
    with torch.inference_mode():
        expected = dict(_expected(reference, utterance, exact, noise))
        return {
            f"{stage}.{name}": snr_db(
                reference=expected[name].numpy(), candidate=found[name].numpy()
            )
            for stage, names in COMPARED.items()
            for name in names
            if name in expected
        }


def shown(exact: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The values as they are compared: spectra as complex numbers, `hidden` activated."""
    found = dict(exact)
    if "har" in found:
        found["har"] = as_complex(found["har"])
    if "hidden" in found:
        found["hidden"] = F.leaky_relu(found["hidden"], POST_SLOPE)
    return found


def same_source_audio(
    reference: Reference,
    utterance: Utterance,
    lengths: Lengths,
    values: Arrays,
    frames: int,
    *,
    noise: Noise,
) -> np.ndarray:
    """Audio of upstream's decoder and generator on a package's own curves, text and source.

    Args:
        reference: upstream.
        utterance: what was said.
        lengths: of the speech.
        values: that crossed from stage to stage in the package.
        frames: the bucket they stand in.
        noise: for upstream's own source, whose result is not used.

    Returns:
        float32 [samples].
    """
    wanted = {name: values[name] for name in ("f0", "curves", "levels", "asr", "har")}
    exact = lengths.exact(wanted, frames)
    timbre, _ = _halves(reference, utterance)
    decoder = reference.model.decoder

    def run() -> Tensor:
        result: Tensor = decoder(exact["asr"], exact["f0"], exact["f0"], timbre)
        return result

    with torch.inference_mode(), given_curves(decoder, frames_of(exact)):
        _, audio = run_on_source(decoder.generator, run, exact["har"], noise)
        return np.asarray(audio.reshape(-1).numpy())


def _halves(reference: Reference, utterance: Utterance) -> tuple[Tensor, Tensor]:
    """Timbre and prosody."""
    row = torch.from_numpy(np.asarray(utterance.ref_s, dtype=np.float32))
    half = reference.config.style_dim
    return row[:, :half], row[:, half:]


def _expected(
    reference: Reference, utterance: Utterance, at: Mapping[str, Tensor], noise: Noise
) -> Named:
    model = reference.model
    timbre, style = _halves(reference, utterance)
    ids = torch.tensor([utterance.ids])
    yield from _tokens(model, ids, style, utterance.speed, at)
    if "asr" not in at:
        return
    index = torch.repeat_interleave(torch.arange(ids.shape[1]), at["pred_dur"].reshape(-1).long())
    yield "asr", at["text"][:, :, index]
    f0, energy = model.predictor.F0Ntrain(at["d"].transpose(1, 2)[:, :, index], style)
    yield "f0", f0
    yield "f0_frames", model.decoder.F0_conv(f0.unsqueeze(1)).squeeze(1)
    yield "energy_frames", model.decoder.N_conv(energy.unsqueeze(1)).squeeze(1)
    with given_curves(model.decoder, frames_of(at)):
        yield "features", decoder_features(model.decoder, at["asr"], at["f0"], at["f0"], timbre)
    generator = model.decoder.generator
    made, _ = run_on_source(
        generator, lambda: generator(at["features"], timbre, at["f0"]), at["har"], noise
    )
    yield "har", as_complex(made.har)
    yield "hidden", made.hidden
    spectrum = generator.conv_post(F.leaky_relu(at["hidden"], POST_SLOPE))
    yield "audio", spectral_head(generator, spectrum)


def _tokens(
    model: Any, ids: Tensor, style: Tensor, speed: float, at: Mapping[str, Tensor]
) -> Named:
    lengths, mask = torch.tensor([ids.shape[1]]), torch.zeros_like(ids).bool()
    hidden = model.bert(ids, attention_mask=torch.ones_like(ids))
    yield "encoded", model.bert_encoder(hidden).transpose(1, 2)
    yield "text", model.text_encoder(ids, lengths, mask)
    yield "d", model.predictor.text_encoder(at["encoded"], style, lengths, mask)
    logits = model.predictor.duration_proj(model.predictor.lstm(at["d"])[0])
    duration = torch.sigmoid(logits).sum(dim=-1) / speed
    yield "pred_dur", torch.round(duration).clamp(min=1)
