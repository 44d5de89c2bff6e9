"""Rewrite of `kokoro.istftnet.Generator`: excitation, upsampling, resblocks and iSTFT."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kokoro_coreml.config import F0_PER_FRAME, IstftNetConfig
from kokoro_coreml.modules.blocks import AdaINResBlock1
from kokoro_coreml.modules.masks import Valid, valid_prefix
from kokoro_coreml.modules.source import SourceModuleHnNSFDeterministic
from kokoro_coreml.modules.stft import InverseSTFT, SourceSTFT

UPSAMPLE_SLOPE = 0.1
POST_SLOPE = 0.01
NOISE_KERNELS = (7, 11)
"""Kernel widths of the noise branch's blocks: all but the last, and the last."""
NOISE_DILATIONS = (1, 3, 5)


class GeneratorMasks(NamedTuple):
    """Valid positions of every axis the generator works on."""

    frames: Valid
    stages: list[Valid]
    """After each upsampler; the last one is over STFT columns."""
    samples: Valid


class GeneratorDeterministic(nn.Module):
    """Decoder features, style, F0, phases and noise in; audio out; no randomness."""

    def __init__(self, config: IstftNetConfig, style_dim: int, frames: int) -> None:
        super().__init__()
        self.frames = frames
        self.rates = config.upsample_rates
        self.hop = config.gen_istft_hop_size
        self.bins = config.gen_istft_n_fft // 2 + 1
        scale = math.prod(self.rates) * self.hop
        self.samples_per_frame = F0_PER_FRAME * scale
        self.m_source = SourceModuleHnNSFDeterministic(scale, F0_PER_FRAME * frames)
        self.stft = SourceSTFT(config.gen_istft_n_fft, self.hop, self.samples_per_frame)
        self.istft = InverseSTFT(config.gen_istft_n_fft, self.hop)
        self._build_upsamplers(config, style_dim)

    def _build_upsamplers(self, config: IstftNetConfig, style_dim: int) -> None:
        self.num_kernels = len(config.resblock_kernel_sizes)
        self.ups, self.resblocks = nn.ModuleList(), nn.ModuleList()
        self.noise_convs, self.noise_res = nn.ModuleList(), nn.ModuleList()
        spectrum = config.gen_istft_n_fft + 2
        channels = config.upsample_initial_channel
        stages = zip(self.rates, config.upsample_kernel_sizes, strict=True)
        for i, (rate, kernel) in enumerate(stages):
            out = channels // 2
            self.ups.append(
                nn.ConvTranspose1d(channels, out, kernel, rate, padding=(kernel - rate) // 2)
            )
            for k, d in zip(
                config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True
            ):
                self.resblocks.append(AdaINResBlock1(out, k, d, style_dim))
            last = i + 1 == len(self.rates)
            stride = math.prod(self.rates[i + 1 :])
            self.noise_convs.append(
                nn.Conv1d(spectrum, out, 1)
                if last
                else nn.Conv1d(spectrum, out, stride * 2, stride, padding=(stride + 1) // 2)
            )
            noise_kernel = NOISE_KERNELS[1] if last else NOISE_KERNELS[0]
            self.noise_res.append(AdaINResBlock1(out, noise_kernel, NOISE_DILATIONS, style_dim))
            channels = out
        self.conv_post = nn.Conv1d(channels, spectrum, 7, padding=3)

    def masks(self, frame_count: Tensor) -> GeneratorMasks:
        """Valid positions for `frame_count` frames, float32 [1, 1, 1]."""
        stages, rate = [], F0_PER_FRAME
        for i, factor in enumerate(self.rates):
            rate *= factor
            extra = 1 if i + 1 == len(self.rates) else 0
            stages.append(valid_prefix(frame_count * rate + extra, self.frames * rate + extra))
        samples = self.samples_per_frame
        return GeneratorMasks(
            frames=valid_prefix(frame_count, self.frames),
            stages=stages,
            samples=valid_prefix(frame_count * samples, self.frames * samples),
        )

    def excitation(
        self, f0: Tensor, random_phases: Tensor, merged_noise: Tensor, masks: GeneratorMasks
    ) -> Tensor:
        """Spectrum of the source, upstream's `har`.

        Args:
            f0: Hz, [1, 2 F], 0 where padded.
            random_phases: cycles, [1, 9].
            merged_noise: [1, 2 F, samples per position], see `SourceModuleHnNSFDeterministic`.
            masks: of this bucket.

        Returns:
            [1, n_fft + 2, columns]: magnitude, then phase in radians.
        """
        signal = self.m_source(f0, random_phases, merged_noise)
        signal = signal.reshape(1, self.frames, self.samples_per_frame)
        frame_mask = masks.frames.mask.transpose(1, 2)
        result: Tensor = self.stft(signal, frame_mask, masks.stages[-1].mask)
        return result

    def body(self, x: Tensor, style: Tensor, har: Tensor, masks: GeneratorMasks) -> Tensor:
        """Upsampling and resblocks.

        Args:
            x: [1, channels, 2 F], 0 where padded.
            style: [1, style_dim], the timbre half of a voice row.
            har: [1, n_fft + 2, columns], 0 where padded.
            masks: of this bucket.

        Returns:
            [1, n_fft + 2, columns], the output of `conv_post`.
        """
        for i, valid in enumerate(masks.stages):
            source = self.noise_res[i](self.noise_convs[i](har) * valid.mask, style, valid)
            x = self.ups[i](F.leaky_relu(x, UPSAMPLE_SLOPE))
            if i + 1 == len(self.rates):
                x = torch.cat([x[:, :, 1:2], x], dim=2)
            x = (x + source) * valid.mask
            blocks = self.resblocks[i * self.num_kernels : (i + 1) * self.num_kernels]
            total = blocks[0](x, style, valid)
            for block in blocks[1:]:
                total = total + block(x, style, valid)
            x = total / float(self.num_kernels) * valid.mask
        result: Tensor = self.conv_post(F.leaky_relu(x, POST_SLOPE))
        return result

    def tail(self, spectrum: Tensor, masks: GeneratorMasks) -> Tensor:
        """Spectral head and iSTFT: [1, n_fft + 2, columns] -> audio [1, 1, samples]."""
        column_mask = masks.stages[-1].mask
        spectrum = spectrum * column_mask
        magnitude = torch.exp(spectrum[:, : self.bins])
        phase = torch.sin(spectrum[:, self.bins :])
        result: Tensor = self.istft(magnitude, phase, column_mask, masks.samples.mask)
        return result

    def forward(
        self,
        x: Tensor,
        style: Tensor,
        f0: Tensor,
        random_phases: Tensor,
        merged_noise: Tensor,
        frame_count: Tensor,
    ) -> Tensor:
        """Audio [1, 1, samples_per_frame * F]; arguments as in the three parts above."""
        masks = self.masks(frame_count)
        har = self.excitation(f0, random_phases, merged_noise, masks)
        return self.tail(self.body(x, style, har, masks), masks)
