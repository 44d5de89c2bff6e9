"""The harmonic source: `kokoro.istftnet.SineGen` and `SourceModuleHnNSF` without randomness.

Upstream accumulates phase at one value per F0 position and interpolates it linearly to samples. The
same operations are done here in the same order, because the phase grows to 1e5 rad, where float32
resolves only 0.008 rad: another order gives another source.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kokoro_coreml.config import SAMPLE_RATE

HARMONICS = 9
"""The fundamental and eight overtones; fixed in upstream's `Generator`."""
SINE_AMPLITUDE = 0.1
NOISE_STD = 0.003
"""Standard deviation of the noise where voiced; SINE_AMPLITUDE / 3 elsewhere."""
VOICED_THRESHOLD = 10.0
"""Hz."""


class SineGenDeterministic(nn.Module):
    """Sines at the harmonics of F0, started at given phases.

    With `random_phases` of zero it equals upstream, whose own initial phases are never read: they
    are added to sample 0, and the down-interpolation reads samples 149 and 150 of each block.
    """

    harmonic: Tensor

    def __init__(self, upsample_scale: int, positions: int) -> None:
        super().__init__()
        self.upsample_scale = upsample_scale
        self.positions = positions
        harmonic = torch.arange(1, HARMONICS + 1, dtype=torch.float32).view(1, HARMONICS, 1)
        self.register_buffer("harmonic", harmonic, persistent=False)

    def forward(self, f0: Tensor, random_phases: Tensor) -> tuple[Tensor, Tensor]:
        """Generate the harmonics.

        Args:
            f0: Hz, [1, positions], 0 where padded.
            random_phases: initial phase of each harmonic in cycles, [1, 9].

        Returns:
            Sines of amplitude 0.1, 0 where unvoiced, [1, 9, positions, upsample_scale], and the
            voicing [1, 1, positions, 1], 1 or 0.
        """
        cycles = f0.unsqueeze(1) * self.harmonic / float(SAMPLE_RATE)
        cycles = cycles - torch.floor(cycles)
        phase = torch.cumsum(cycles, dim=2) * 2.0 * torch.pi * float(self.upsample_scale)
        phase = F.interpolate(phase, scale_factor=float(self.upsample_scale), mode="linear")
        start = random_phases.view(1, HARMONICS, 1) * (2.0 * torch.pi)
        sines = torch.sin(phase + start) * SINE_AMPLITUDE
        sines = sines.view(1, HARMONICS, self.positions, self.upsample_scale)
        voiced = (f0 > VOICED_THRESHOLD).to(torch.float32).view(1, 1, self.positions, 1)
        return sines * voiced, voiced


class SourceModuleHnNSFDeterministic(nn.Module):
    """Merges harmonics and noise into one excitation."""

    def __init__(self, upsample_scale: int, positions: int) -> None:
        super().__init__()
        self.l_sin_gen = SineGenDeterministic(upsample_scale, positions)
        self.l_linear = nn.Linear(HARMONICS, 1)

    def forward(self, f0: Tensor, random_phases: Tensor, merged_noise: Tensor) -> Tensor:
        """Make the excitation.

        Upstream draws noise for every harmonic and merges all by `l_linear`. The noise has the same
        amplitude on each, so it can be merged first (`merge_noise`) and added as one channel.

        Args:
            f0: Hz, [1, positions], 0 where padded.
            random_phases: cycles, [1, 9].
            merged_noise: [1, positions, upsample_scale].

        Returns:
            [1, positions, upsample_scale], within -1 and 1.
        """
        sines, voiced = self.l_sin_gen(f0, random_phases)
        weight = self.l_linear.weight.view(1, HARMONICS, 1, 1)
        voiced = voiced.squeeze(1)
        amplitude = voiced * NOISE_STD + (1.0 - voiced) * SINE_AMPLITUDE / 3.0
        merged = (sines * weight).sum(dim=1) + self.l_linear.bias
        return torch.tanh(merged + amplitude * merged_noise)

    def merge_noise(self, noise: Tensor) -> Tensor:
        """Merge unit noise of all harmonics: [1, samples, 9] -> [1, positions, upsample_scale]."""
        weight = self.l_linear.weight.view(-1).double()
        merged = (noise.double() @ weight).to(torch.float32)
        return merged.view(1, -1, self.l_sin_gen.upsample_scale)
