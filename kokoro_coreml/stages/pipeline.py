"""The `pipeline` cut: stages that each suit one processor, and what passes between them.

Token axes end at the bucket in `Encoder` and `Duration`, and at the network's longest, M, behind
them, so that each later stage has one axis alone. Time is folded into rows behind `Decoder` (see
`modules.folded.geometry`). Half precision is declared only where the values' range and meaning
allow it: F0 goes to the source in float32, because it is summed up to a phase.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kokoro_coreml.config import F0_PER_FRAME
from kokoro_coreml.modules.decoder import GENERATOR_INPUT
from kokoro_coreml.modules.folded.halos import foldings
from kokoro_coreml.modules.folded.upsample import widths
from kokoro_coreml.modules.pipeline import (
    DecoderStage,
    DurationStage,
    EncoderStage,
    GeneratorStage,
    PipelineNetwork,
    ProsodyStage,
    SourceStage,
    TailStage,
)
from kokoro_coreml.modules.source import HARMONICS
from kokoro_coreml.recipe import PIPELINE
from kokoro_coreml.stages.types import Port, Stage


def pipeline_stage(network: PipelineNetwork, name: str, size: int) -> Stage:
    """Bind one stage to a bucket.

    Args:
        network: the weights.
        name: one of `PIPELINE`.
        size: tokens for `TOKEN_STAGES`, frames for `FRAME_STAGES`.

    Raises:
        ValueError: there is no such stage, or the frames do not fill whole rows.
    """
    if name not in _STAGES:
        raise ValueError(f"no stage '{name}'; known: {', '.join(PIPELINE)}")
    return _STAGES[name](network, size)


def _half(name: str, shape: tuple[int, ...], description: str) -> Port:
    return Port(name, "float16", shape, description)


def _single(name: str, shape: tuple[int, ...], description: str) -> Port:
    return Port(name, "float32", shape, description)


def _integers(name: str, shape: tuple[int, ...], description: str) -> Port:
    return Port(name, "int32", shape, description)


class _Ports:
    """Everything that crosses a stage's edge, at one bucket."""

    def __init__(self, network: PipelineNetwork, size: int) -> None:
        self.network, self.config, self.size = network, network.config, size

    def encoded(self) -> Port:
        shape = (1, self.config.hidden_dim, 1, self.size)
        return _single("encoded", shape, "ALBERT's output behind bert_encoder")

    def ref_s(self) -> Port:
        return _single("ref_s", (1, 2 * self.config.style_dim), "One voice row")

    def timed(self) -> list[Port]:
        config = self.config
        longest = config.plbert.max_position_embeddings
        return [
            _single(
                "d",
                (1, longest, config.hidden_dim + config.style_dim),
                "The predictor's text encoder, 0 behind the tokens",
            ),
            _single(
                "text", (1, config.hidden_dim, longest), "The decoder's text encoder, likewise"
            ),
            _integers("pred_dur", (1, longest), "Frames per token, 0 behind the tokens"),
        ]

    def styles(self, stage: str) -> list[Port]:
        channels: int = getattr(self.network, f"{stage}_styles").channels
        shape = (1, channels, 1, 1)
        return [
            _half(f"{stage}_scale", shape, f"1 + gamma of every AdaIN of the {stage}"),
            _half(f"{stage}_shift", shape, f"beta of every AdaIN of the {stage}"),
        ]

    def f0(self) -> Port:
        shape = (1, F0_PER_FRAME * self.size)
        return _single("f0", shape, "Hz, two positions per frame, 0 where padded")

    def aligned(self) -> list[Port]:
        return [
            _half("asr", (1, self.config.hidden_dim, 1, self.size), "Text aligned to frames"),
            _half("curves", (1, 2, 1, self.size), "F0 and energy less their means"),
            _half("levels", (1, 2, 1, 1), "The means of F0 and energy"),
            _half("frame_mask", (1, 1, 1, self.size), "1 for frames of speech, then 0"),
        ]

    def frames(self) -> Port:
        return _integers("frames", (1,), "Frames of speech: the sum of pred_dur")

    def features(self) -> Port:
        folding = foldings(self.size, self.config.istftnet)[0]
        shape = (1, GENERATOR_INPUT, folding.rows, folding.width(1))
        return _half("features", shape, "The decoder's output, folded into rows")

    def _last(self, channels: int) -> tuple[int, ...]:
        net = self.config.istftnet
        folding, rates = foldings(self.size, net)[-1], widths(net.upsample_rates)
        return (1, channels, folding.rows, folding.width(rates[-1]))

    def har(self) -> Port:
        shape = self._last(self.config.istftnet.gen_istft_n_fft + 2)
        return _half("har", shape, "Magnitude and phase (radians) of the source, in rows")

    def hidden(self) -> Port:
        shape = self._last(self.network.conv_post.in_channels)
        return _half("hidden", shape, "The generator in front of conv_post, in rows")

    def rows(self) -> list[Port]:
        net, ports = self.config.istftnet, []
        behind = zip(foldings(self.size, net), widths(net.upsample_rates), strict=True)
        for i, (folding, rate) in enumerate(behind, start=1):
            shape = (1, 1, folding.rows, folding.width(rate))
            ports += [
                _half(f"valid_{i}", shape, f"1 for speech, at {rate} values per position"),
                _half(f"own_{i}", shape, "The same without the rows' neighbours"),
                _half(f"share_{i}", (1, 1, 1, 1), "Width of a row over the number of values"),
            ]
        return ports


def _encoder(network: PipelineNetwork, size: int) -> Stage:
    shape = (1, 1, 1, size)
    inputs = (
        _single("input_ids", shape, "Phoneme ids, a zero in front and behind, then 0"),
        _single("attention_mask", shape, "1 for phoneme ids and their zeros, then 0"),
    )
    outputs = (_Ports(network, size).encoded(),)
    return Stage("Encoder", EncoderStage(network), size, None, inputs, outputs)


def _duration(network: PipelineNetwork, size: int) -> Stage:
    ports = _Ports(network, size)
    inputs = (
        ports.encoded(),
        _integers("input_ids", (1, size), "Phoneme ids, a zero in front and behind, then 0"),
        _integers("attention_mask", (1, size), "1 for phoneme ids and their zeros, then 0"),
        ports.ref_s(),
        _single("speed", (1,), "1 is the voice's own pace, 2 twice as fast"),
    )
    outputs = (*ports.timed(), *ports.styles("decoder"), *ports.styles("generator"))
    return Stage("Duration", DurationStage(network, size), size, None, inputs, outputs)


def _prosody(network: PipelineNetwork, size: int) -> Stage:
    ports = _Ports(network, size)
    asr, curves, levels, mask = ports.aligned()
    inputs = (*ports.timed(), ports.ref_s())
    outputs = (ports.f0(), curves, levels, asr, mask)
    return Stage("Prosody", ProsodyStage(network, size), None, size, inputs, outputs)


def _decoder(network: PipelineNetwork, size: int) -> Stage:
    ports = _Ports(network, size)
    inputs = (*ports.aligned(), *ports.styles("decoder"))
    outputs = (ports.features(),)
    return Stage("Decoder", DecoderStage(network, size), None, size, inputs, outputs)


def _source(network: PipelineNetwork, size: int) -> Stage:
    ports = _Ports(network, size)
    positions = F0_PER_FRAME * size
    scale = network.config.samples_per_frame // F0_PER_FRAME
    inputs = (
        ports.f0(),
        ports.frames(),
        _single("random_phases", (1, HARMONICS), "Start of each harmonic in cycles; 0 is upstream"),
        _single("noise", (1, positions, scale), "Unit Gaussian noise, one value per sample"),
    )
    outputs = (ports.har(), *ports.rows())
    return Stage("Source", SourceStage(network, size), None, size, inputs, outputs)


def _generator(network: PipelineNetwork, size: int) -> Stage:
    ports = _Ports(network, size)
    inputs = (ports.features(), ports.har(), *ports.styles("generator"), *ports.rows())
    outputs = (ports.hidden(),)
    return Stage("Generator", GeneratorStage(network, size), None, size, inputs, outputs)


def _tail(network: PipelineNetwork, size: int) -> Stage:
    ports = _Ports(network, size)
    samples = (1, network.config.samples_per_frame * size)
    outputs = (_single("audio", samples, "24 kHz mono, silent behind the speech"),)
    inputs = (ports.hidden(), ports.frames())
    return Stage("Tail", TailStage(network, size), None, size, inputs, outputs)


_STAGES: Mapping[str, Callable[[PipelineNetwork, int], Stage]] = {
    "Encoder": _encoder,
    "Duration": _duration,
    "Prosody": _prosody,
    "Decoder": _decoder,
    "Source": _source,
    "Generator": _generator,
    "Tail": _tail,
}
