"""`kokoro.istftnet.Generator` between its source and its spectral head, over folded rows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kokoro_coreml.config import IstftNetConfig
from kokoro_coreml.modules.folded.blocks import AdaINResBlock
from kokoro_coreml.modules.folded.geometry import Folding
from kokoro_coreml.modules.folded.norm import Rows, Styles
from kokoro_coreml.modules.folded.upsample import PolyphaseUpsample, widths
from kokoro_coreml.modules.generator import (
    NOISE_DILATIONS,
    NOISE_KERNELS,
    UPSAMPLE_SLOPE,
)

SOURCE_GAIN = 8.0
"""Of the source blocks, whose channels have deviations of 0.002 and reach 3."""


class _NoiseConv(nn.Module):
    """Brings the source's spectrum to the rate of one upsampler.

    Column c of the spectrum is position c - 1, so the kernel reaches one further to the left than
    upstream's padding says.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        kernel = 1 if stride == 1 else 2 * stride
        padding = (stride + 1) // 2
        self.padding = (0, 0) if stride == 1 else (padding + 1, stride - padding - 1)
        self.conv = nn.Conv2d(channels_in, channels_out, (1, kernel), stride=(1, stride))

    def forward(self, har: Tensor) -> Tensor:
        """[1, C, rows, width] -> [1, C', rows, width / stride]."""
        result: Tensor = self.conv(F.pad(har, self.padding) if self.stride > 1 else har)
        return result

    def own_state(self, weight: Tensor, bias: Tensor) -> dict[str, Tensor]:
        """The state dict for upstream's weight [out, in, kernel] and bias."""
        return {"conv.weight": weight.unsqueeze(2), "conv.bias": bias}


class GeneratorRows(nn.Module):
    """Decoder features and the source's spectrum in; what `conv_post` reads out."""

    def __init__(self, config: IstftNetConfig) -> None:
        super().__init__()
        self.rates = config.upsample_rates
        self.num_kernels = len(config.resblock_kernel_sizes)
        self.ups, self.resblocks = nn.ModuleList(), nn.ModuleList()
        self.noise_convs, self.noise_res = nn.ModuleList(), nn.ModuleList()
        spectrum = config.gen_istft_n_fft + 2
        channels = config.upsample_initial_channel
        stages = zip(self.rates, config.upsample_kernel_sizes, strict=True)
        for i, (rate, kernel) in enumerate(stages):
            out = channels // 2
            self.ups.append(PolyphaseUpsample(channels, out, kernel, rate))
            for k, d in zip(
                config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True
            ):
                self.resblocks.append(AdaINResBlock(out, k, d))
            last = i + 1 == len(self.rates)
            self.noise_convs.append(_NoiseConv(spectrum, out, math.prod(self.rates[i + 1 :])))
            source = AdaINResBlock(out, NOISE_KERNELS[last], NOISE_DILATIONS, SOURCE_GAIN)
            self.noise_res.append(source)
            channels = out

    def forward(
        self,
        x: Tensor,
        har: Tensor,
        at: Sequence[Rows],
        styles: Styles,
        foldings: Sequence[Folding],
    ) -> Tensor:
        """Upsampling and resblocks.

        Args:
            x: [1, channels, rows, width], in the first folding, 0 where padded.
            har: magnitude and phase of the source, [1, n_fft + 2, rows, width of the last rate],
                in the last folding with one position in front, 0 where padded.
            at: positions behind each upsampler.
            styles: of all AdaINs.
            foldings: behind each upsampler, none with a wider halo than the one before.

        Returns:
            [1, channels of the last rate, rows, its width], 0 where padded; the halo has no
            meaning.
        """
        rates = widths(self.rates)
        for i, (rate, folding) in enumerate(zip(rates, foldings, strict=True)):
            if i:
                x = foldings[i - 1].narrowed(x, rates[i - 1], folding)
            # AdaIN reads valid positions alone, and every convolution a masked input, so neither
            # needs its own input masked
            source, last = self.noise_convs[i](har), i + 1 == len(rates)
            if not last:
                # the spectrum stands in the last folding, whose halo is too narrow for this one
                source = foldings[-1].exchanged(source, rate, folding)
            source = self.noise_res[i](source, styles, at[i])
            x = self.ups[i](F.leaky_relu(x, UPSAMPLE_SLOPE))
            if last:
                x = _reflected(x, folding, folding.halo * rate)
            x = x + source
            blocks = self.resblocks[i * self.num_kernels : (i + 1) * self.num_kernels]
            total = blocks[0](x, styles, at[i])
            for block in blocks[1:]:
                total = total + block(x, styles, at[i])
            x = total * (1.0 / self.num_kernels) * at[i].valid
        return x


def _reflected(x: Tensor, folding: Folding, start: int) -> Tensor:
    """Upstream's `ReflectionPad1d((1, 0))`: position -1 of the first row becomes position 1.

    In the other rows the same place holds the last position of their neighbour, which stays.
    """
    first = (torch.arange(folding.rows) == 0).to(x.dtype).view(1, 1, folding.rows, 1)
    before = x[..., start - 1 : start]
    mirrored = x[..., start + 1 : start + 2]
    edge = before * (1.0 - first) + mirrored * first
    return torch.cat([x[..., : start - 1], edge, x[..., start:]], dim=3)
