"""How wide the halos of folded rows are: as wide as the generator's convolutions reach.

Behind the last upsampler a kernel reaches over less time than behind the first, so rows are cropped
between the two: the narrow halo is where most of the arithmetic is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from kokoro_coreml.config import F0_PER_FRAME, IstftNetConfig
from kokoro_coreml.modules.folded.geometry import CORE, Folding
from kokoro_coreml.modules.folded.upsample import phases, widths
from kokoro_coreml.modules.generator import NOISE_DILATIONS, NOISE_KERNELS

ALIGNMENT = 32
"""Half-precision values in the 64 bytes that a Neural Engine pads rows to."""


def foldings(frames: int, config: IstftNetConfig) -> tuple[Folding, ...]:
    """Rows for a frame bucket, as they are behind each upsampler; features come in the first's.

    Raises:
        ValueError: the frames do not fill whole rows.
    """
    rows, rest = divmod(frames * F0_PER_FRAME, CORE)
    if rest or rows < 1:
        raise ValueError(
            f"{frames} frames do not fill rows of {CORE} positions; expected a multiple of "
            f"{CORE // F0_PER_FRAME}"
        )
    return tuple(Folding(rows, halo) for halo in halos(config))


def halos(config: IstftNetConfig) -> list[int]:
    """Positions of a halo behind each upsampler: its `reaches`, and rows that are aligned."""
    rates = widths(config.upsample_rates)
    # features stand in the first folding at one value per position
    finest = [1, *rates[1:]]
    return [_aligned(reach, rate) for reach, rate in zip(reaches(config), finest, strict=True)]


def reaches(config: IstftNetConfig) -> list[int]:
    """Positions beyond a row's core that its core depends on, behind each upsampler."""
    rates = widths(config.upsample_rates)
    body = max(
        _block(kernel, dilations)
        for kernel, dilations in zip(
            config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True
        )
    )
    found, needed = [], 0
    for i in reversed(range(len(rates))):
        last = i + 1 == len(rates)
        read = needed + body
        source = read + _block(NOISE_KERNELS[last], NOISE_DILATIONS)
        stride = config.upsample_rates[i]
        taps = phases(config.upsample_kernel_sizes[i], stride)
        needed = -(-read // stride) + max(max(group.left, group.right) for group in taps)
        found.append(max(-(-source // rates[i]), -(-needed // (rates[i] // stride))))
    found.reverse()
    # the spectrum stands in the last folding, and the first noise convolution reads it from there
    spectrum = 2 * math.prod(config.upsample_rates[1:])
    found[-1] = max(found[-1], -(-spectrum // rates[-1]))
    return found


def _block(kernel: int, dilations: Sequence[int]) -> int:
    """Of an `AdaINResBlock`: a dilated convolution and one without, over and over."""
    return sum((kernel - 1) // 2 * (dilation + 1) for dilation in dilations)


def _aligned(halo: int, rate: int) -> int:
    step = ALIGNMENT // math.gcd(ALIGNMENT, 2 * rate)
    return -(-halo // step) * step
