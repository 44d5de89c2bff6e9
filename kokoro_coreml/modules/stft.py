"""Short-time Fourier transforms as real convolutions: `kokoro.istftnet.TorchSTFT`, masked."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _window(n_fft: int) -> Tensor:
    return torch.hann_window(n_fft, periodic=True, dtype=torch.float64)


def _angles(n_fft: int) -> Tensor:
    """2 pi k n / N, [bins, n_fft]."""
    bins = torch.arange(n_fft // 2 + 1, dtype=torch.float64).view(-1, 1)
    taps = torch.arange(n_fft, dtype=torch.float64).view(1, -1)
    return 2.0 * torch.pi * bins * taps / n_fft


def _odd(n_fft: int) -> Tensor:
    """sin(2 pi k n / N) with the rows of DC and Nyquist exactly 0."""
    sine = torch.sin(_angles(n_fft))
    sine[0] = 0.0
    sine[-1] = 0.0
    return sine


class SourceSTFT(nn.Module):
    """Magnitude and phase of the excitation; `torch.stft(center=True)` at its valid length.

    Upstream reflects the signal at its end, which here lies inside the buffer. The reflected
    samples are the last ones of one frame, so they are put in place by frames, without a gather.
    """

    kernel: Tensor

    def __init__(self, n_fft: int, hop: int, samples_per_frame: int) -> None:
        super().__init__()
        self.hop = hop
        self.pad = n_fft // 2
        self.samples_per_frame = samples_per_frame
        taps = torch.cat([torch.cos(_angles(n_fft)), -_odd(n_fft)]) * _window(n_fft)
        kernel = taps.to(torch.float32).unsqueeze(1)
        self.register_buffer("kernel", kernel, persistent=False)

    def forward(self, signal: Tensor, frame_mask: Tensor, column_mask: Tensor) -> Tensor:
        """Transform.

        Args:
            signal: [1, F, samples_per_frame], the excitation frame by frame.
            frame_mask: [1, F, 1], 1 where valid.
            column_mask: [1, 1, columns_per_frame * F + 1].

        Returns:
            [1, 2 * bins, columns]: magnitude, then phase in radians; 0 where padded.
        """
        padded = self._reflect(signal * frame_mask, frame_mask)
        spectrum = F.conv1d(padded, self.kernel, stride=self.hop)
        real, imaginary = spectrum.chunk(2, dim=1)
        magnitude = torch.sqrt(real * real + imaginary * imaginary)
        phase = torch.atan2(imaginary, real)
        return torch.cat([magnitude, phase], dim=1) * column_mask

    def _reflect(self, signal: Tensor, frame_mask: Tensor) -> Tensor:
        """[1, F, S] -> [1, 1, F * S + 2 * pad], reflected at both ends of the valid part."""
        frames, size, pad = signal.shape[1], self.samples_per_frame, self.pad
        is_last = frame_mask - F.pad(frame_mask[:, 1:], (0, 0, 0, 1))
        tail = torch.flip(signal[:, :, size - 1 - pad : size - 1], dims=[2]) * is_last
        body = F.pad(signal, (0, 0, 0, 1)) + F.pad(tail, (0, size - pad, 1, 0))
        flat = body.reshape(1, 1, (frames + 1) * size)[:, :, : frames * size + pad]
        return torch.cat([torch.flip(flat[:, :, 1 : pad + 1], dims=[2]), flat], dim=2)


class InverseSTFT(nn.Module):
    """Overlap-add, divided by the overlap-added squared window of the valid columns alone.

    Source: Griffin and Lim 1984, as `torch.istft` does it. Without the division the result is 1.5
    times too loud for this window and hop.
    """

    kernel: Tensor
    window_square: Tensor

    def __init__(self, n_fft: int, hop: int) -> None:
        super().__init__()
        self.hop = hop
        self.pad = n_fft // 2
        weight = torch.full((n_fft // 2 + 1, 1), 2.0, dtype=torch.float64) / n_fft
        weight[0] /= 2.0
        weight[-1] /= 2.0
        taps = torch.cat([torch.cos(_angles(n_fft)) * weight, -_odd(n_fft) * weight])
        kernel = (taps * _window(n_fft)).to(torch.float32).unsqueeze(1)
        self.register_buffer("kernel", kernel, persistent=False)
        square = (_window(n_fft) ** 2).to(torch.float32).view(1, 1, n_fft)
        self.register_buffer("window_square", square, persistent=False)

    def forward(
        self, magnitude: Tensor, phase: Tensor, column_mask: Tensor, sample_mask: Tensor
    ) -> Tensor:
        """Transform back.

        Args:
            magnitude: [1, bins, columns].
            phase: radians, [1, bins, columns].
            column_mask: [1, 1, columns].
            sample_mask: [1, 1, hop * (columns - 1)].

        Returns:
            [1, 1, hop * (columns - 1)], 0 where padded.
        """
        spectrum = torch.cat([magnitude * torch.cos(phase), magnitude * torch.sin(phase)], dim=1)
        samples = sample_mask.shape[-1]
        audio = self._overlap_add(spectrum * column_mask, self.kernel, samples)
        weight = self._overlap_add(column_mask, self.window_square, samples)
        return audio * sample_mask / (weight * sample_mask + (1.0 - sample_mask))

    def _overlap_add(self, x: Tensor, kernel: Tensor, samples: int) -> Tensor:
        whole = F.conv_transpose1d(x, kernel, stride=self.hop)
        return whole[:, :, self.pad : self.pad + samples]
