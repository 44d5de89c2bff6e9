"""How far changed weights move what the network says, as an energy that adds up over weights.

Every stage from the first changed one on is run again in float32; those in front of it are not. The
reference's durations and the reference's source are used throughout ("teacher forcing"): otherwise
one frame more, or a phase that drifts away with F0, would drown everything else.

Three things are measured, each against a difference that is about as hard to hear, and the squares
of the ratios are added. For small changes each is quadratic in the change of a weight, so that the
energies of independent changes add up.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kokoro_coreml.compression.sensitivity import replaced
from kokoro_coreml.config import F0_PER_FRAME
from kokoro_coreml.modules.folded.halos import foldings
from kokoro_coreml.modules.folded.norm import Styles, rows_behind
from kokoro_coreml.modules.folded.upsample import widths
from kokoro_coreml.modules.generator import POST_SLOPE
from kokoro_coreml.modules.pipeline import PipelineNetwork
from kokoro_coreml.parity.flows import EagerStages, size_of
from kokoro_coreml.recipe import FRAMES_PER_ROW, MAX_FRAMES, PIPELINE
from kokoro_coreml.synthesis import Utterance
from kokoro_coreml.synthesis.pipeline import Pipeline

SPECTRUM_DB = 1.0
"""Of a bin of the spectrum. Below it, coded speech cannot be told from the original (Paliwal and
Atal 1993); a phase off by 0.115 rad makes as large an error."""

PITCH = 0.01
"""Of F0, relative. Changes of 1 to 2 % are just heard in moving contours (Klatt 1973)."""

FRAMES = 0.25
"""Of a token's duration before rounding: one token in five then gets another number of frames."""

AUDIBLE_DB = 60.0
"""Bins this far below the loudest one count as silent."""

VOICED_HZ = 10.0
"""Upstream's source is silent below."""

WINDOW = 32
"""Frames from the middle of the utterance that go through the generator, which takes most of the
time; as if they were all there is, in the reference as well."""

HOPELESS = 1e9
"""Energy of a change that gives NaN or infinity."""

_DB = 20.0 / math.log(10.0)


@dataclass(frozen=True)
class Departure:
    """How far from the reference."""

    spectrum_db: float
    """RMS over audible bins of the logarithm of the complex spectrum's ratio."""
    pitch: float
    """RMS over voiced positions of F0's relative error."""
    frames: float
    """RMS over tokens of the durations' error before rounding."""

    @property
    def energy(self) -> float:
        """The sum of squares, each over what is just heard."""
        ratios = (self.spectrum_db / SPECTRUM_DB, self.pitch / PITCH, self.frames / FRAMES)
        energy = sum(ratio * ratio for ratio in ratios)
        return energy if math.isfinite(energy) else HOPELESS


@dataclass(frozen=True)
class _Said:
    durations: Tensor
    """Frames per token before rounding, [T]."""
    f0: Tensor
    """Hz, [positions]."""
    spectrum: Tensor
    """Logarithm of magnitudes and phases, [2, bins, columns]."""


class Probe:
    """One utterance through the uncompressed network, and what changes with changed weights."""

    def __init__(self, network: PipelineNetwork, utterance: Utterance, *, noise_seed: int) -> None:
        """Run the reference; raises as `synthesis.pipeline.Pipeline.speak` does."""
        self.network, self.tokens = network, len(utterance.ids)
        frames = range(FRAMES_PER_ROW, MAX_FRAMES, FRAMES_PER_ROW)
        self._stages = EagerStages(network, [self.tokens], frames)
        pipeline = Pipeline(self._stages, network.config, noise_seed=noise_seed)
        flow = pipeline.speak(utterance)
        self.bucket, self._values = flow.bucket, dict(flow.values)
        self._count = int(flow.spoken.durations.sum())
        # taken from the modules, not from the flow, so that no change is no difference
        self._reference = self._said(PIPELINE[0])

    def departure(self, stage: str, weights: Mapping[str, Tensor]) -> Departure:
        """What other weights change.

        Args:
            stage: the first one that holds any of them.
            weights: float32, by path in the network.

        Raises:
            ConversionError: a path or a shape is wrong.
        """
        with replaced(self.network, weights):
            said = self._said(stage)
        true = self._reference
        voiced = true.f0 > VOICED_HZ
        pitch = (said.f0 - true.f0)[voiced] / true.f0[voiced]
        return Departure(
            self._spectrum_db(said.spectrum, true.spectrum),
            _rms(pitch),
            _rms(said.durations - true.durations),
        )

    def _spectrum_db(self, found: Tensor, true: Tensor) -> float:
        floor = true[0].max() - AUDIBLE_DB / _DB
        audible = true[0] > floor
        magnitude = (found[0].clamp(min=floor) - true[0])[audible]
        phase = (found[1] - true[1])[audible]
        return _DB * math.hypot(_rms(magnitude), _rms(phase))

    def _said(self, first: str) -> _Said:
        values, network = dict(self._values), self.network
        durations = f0 = None
        for name in PIPELINE[PIPELINE.index(first) : PIPELINE.index("Generator")]:
            if name == "Source" and first != "Source":
                continue
            if name == "Duration":
                with _output_of(network.predictor.duration_proj) as logits:
                    found = self._run(name, values)
                durations = torch.sigmoid(logits[0]).sum(dim=-1).view(-1) / values["speed"].item()
                del found["pred_dur"]
            else:
                found = self._run(name, values)
            if name == "Prosody":
                f0 = torch.from_numpy(found["f0"]).view(-1)[: F0_PER_FRAME * self._count]
            values.update(found)
        with torch.inference_mode():
            spectrum = self._spectrum(values)
        return _Said(
            self._reference.durations if durations is None else durations,
            self._reference.f0 if f0 is None else f0,
            spectrum,
        )

    def _run(self, name: str, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        size = size_of(name, self.bucket)
        inputs = {port: values[port] for port in self._stages.inputs(name, size)}
        if name == "Encoder":
            inputs = {k: v.astype(np.float32).reshape(1, 1, 1, -1) for k, v in inputs.items()}
        return self._stages.stage(name, size)(inputs)

    def _spectrum(self, values: Mapping[str, np.ndarray]) -> Tensor:
        """Generator and `conv_post` over the window."""
        network = self.network
        count = min(self._count, WINDOW)
        start = F0_PER_FRAME * ((self._count - count) // 2)
        net = network.config.istftnet
        whole, rates = foldings(self.bucket.frames, net), widths(net.upsample_rates)
        windows = [replace(folding, rows=1, core=F0_PER_FRAME * count) for folding in whole]

        def cut(name: str, which: int, rate: int, extra: int) -> Tensor:
            window = windows[which]
            long = whole[which].unfold(torch.from_numpy(values[name]), rate, extra=extra)
            piece = long.narrow(2, start * rate, window.core * rate + extra)
            return window.fold(piece.unsqueeze(2), rate, extra=extra)

        styles = Styles(*(torch.from_numpy(values[f"generator_{k}"]) for k in ("scale", "shift")))
        positions = torch.full((1, 1, 1, 1), float(F0_PER_FRAME * count))
        rows = rows_behind(windows, positions, rates)
        hidden = network.generator(
            cut("features", 0, 1, 0), cut("har", -1, rates[-1], 1), rows, styles, windows
        )
        x = windows[-1].unfold(hidden, rates[-1], extra=1)
        x = network.conv_post(F.leaky_relu(x, POST_SLOPE))
        magnitude, phase = x[0].chunk(2)
        return torch.stack([magnitude, torch.sin(phase)])


@contextmanager
def _output_of(module: nn.Module) -> Iterator[list[Tensor]]:
    """What a module gives while the context lasts."""
    found: list[Tensor] = []
    handle = module.register_forward_hook(lambda _module, _inputs, output: found.append(output))
    try:
        yield found
    finally:
        handle.remove()


def _rms(x: Tensor) -> float:
    return float(x.double().square().mean().sqrt()) if x.numel() else 0.0
