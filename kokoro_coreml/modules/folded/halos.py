"""How wide the halos of folded rows are: as wide as the generator's convolutions reach.

Behind the last upsampler a kernel reaches over less time than behind the first, so rows are cropped
between the two: the narrow halo is where most of the arithmetic is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from kokoro_coreml.config import F0_PER_FRAME, IstftNetConfig
from kokoro_coreml.errors import CheckpointError
from kokoro_coreml.modules.folded.geometry import CORE, Folding
from kokoro_coreml.modules.folded.upsample import phases, widths
from kokoro_coreml.modules.generator import NOISE_DILATIONS, NOISE_KERNELS

ALIGNMENT = 32
"""Half-precision values in the 64 bytes that a Neural Engine pads rows to."""


def foldings(frames: int, config: IstftNetConfig) -> tuple[Folding, ...]:
    """Rows for a frame bucket, as they are behind each upsampler; features come in the first's.

    Raises:
        ValueError: the frames do not fill whole rows.
        CheckpointError: the generator reaches further than rows can hold.
    """
    rows, rest = divmod(frames * F0_PER_FRAME, CORE)
    if rest or rows < 1:
        raise ValueError(
            f"{frames} frames do not fill rows of {CORE} positions; expected a multiple of "
            f"{CORE // F0_PER_FRAME}"
        )
    return tuple(Folding(rows, halo) for halo in halos(config))


def halos(config: IstftNetConfig) -> list[int]:
    """Positions of a halo behind each upsampler: its `reaches`, and rows that are aligned.

    Raises:
        CheckpointError: the generator reaches further than rows can hold.
    """
    rates = widths(config.upsample_rates)
    # features stand in the first folding at one value per position
    coarsest = [1, *rates[1:]]
    wanted = zip(reaches(config), coarsest, strict=True)
    found = [_aligned(reach, rate) for reach, rate in wanted]
    if 2 * max(found) > CORE:
        raise CheckpointError(
            f"the generator's kernels reach {max(found)} positions (two per frame) at upsampling "
            f"rates {', '.join(map(str, config.upsample_rates))}; rows of {CORE} hold "
            f"{CORE // 2}. Use the recipe 'complete'"
        )
    return found


def reaches(config: IstftNetConfig) -> list[int]:
    """Positions outside of a row's core that it is computed from, behind each upsampler.

    The larger of both sides, from the last upsampler, behind which nothing outside is read, back to
    the first one.
    """
    rates = widths(config.upsample_rates)
    blocks = zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True)
    body = max(_block(kernel, dilations) for kernel, dilations in blocks)
    found: list[int] = []
    needed = 0  # values of the body's result that the next upsampler reads, at this one's rate
    for i in reversed(range(len(rates))):
        last, stride = i + 1 == len(rates), config.upsample_rates[i]
        read = needed + body
        source = read + _block(NOISE_KERNELS[last], NOISE_DILATIONS)
        taps = phases(config.upsample_kernel_sizes[i], stride)
        needed = _ceil(read, stride) + max(max(group.left, group.right) for group in taps)
        found.append(max(_ceil(source, rates[i]), _ceil(needed, rates[i] // stride)))
    # the noise convolutions, which all read the last folding, reach over less than one position
    return found[::-1]


def _block(kernel: int, dilations: Sequence[int]) -> int:
    """Of an `AdaINResBlock`: a dilated convolution and one without, over and over."""
    return sum((kernel - 1) // 2 * (dilation + 1) for dilation in dilations)


def _aligned(halo: int, rate: int) -> int:
    """The halo, or so many more that a row is a multiple of `ALIGNMENT`, as its core is."""
    step = ALIGNMENT // math.gcd(ALIGNMENT, 2 * rate)
    return _ceil(halo, step) * step


def _ceil(count: int, size: int) -> int:
    return -(-count // size)
