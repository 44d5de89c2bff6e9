"""The Gaussian noise of a seed, the same on every machine and for every length.

Philox4x64-10 (Salmon et al. 2011) keyed by the seed gives 64-bit words; each pair of words gives
two normal deviates by Box and Muller (1958), computed in float64 and rounded once. Values depend
on their place alone, so a longer run starts with the shorter one: buckets share their noise.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from kokoro_coreml.modules.source import HARMONICS

ALGORITHM = "philox4x64-10/box-muller/float64"


def gaussian(seed: int, count: int) -> np.ndarray:
    """`count` unit normal deviates of `seed`, float32 [count].

    Raises:
        ValueError: the seed is negative or above 2^64 - 1.
    """
    if not 0 <= seed < 2**64:
        raise ValueError(f"noise seed {seed} is not within 0 and 2^64 - 1")
    pairs = (count + 1) // 2
    key = np.array([seed, 0], dtype=np.uint64)
    words = np.random.Philox(key=key).random_raw(2 * pairs).reshape(pairs, 2) >> np.uint64(11)
    uniform = (words.astype(np.float64) + 0.5) * 2.0**-53
    radius = np.sqrt(-2.0 * np.log(uniform[:, 0]))
    angle = 2.0 * np.pi * uniform[:, 1]
    deviates = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return deviates.reshape(-1)[:count].astype(np.float32)


def source_noise(seed: int, samples: int) -> Tensor:
    """Unit noise for every harmonic of the source, float32 [1, samples, 9]."""
    return torch.from_numpy(gaussian(seed, samples * HARMONICS)).view(1, samples, HARMONICS)


def merged_noise(seed: int, weight: Tensor) -> Callable[[int], Tensor]:
    """Noise of all harmonics whose weighted sum is the norm of the weights times one channel.

    The pipeline's source takes the sum alone, one value per sample; upstream takes nine and sums
    them. A sum of independent Gaussian noises is one Gaussian noise, so both hear the same.

    Args:
        seed: of the one channel, `gaussian(seed, samples)`.
        weight: of `m_source.l_linear`, [1, 9].

    Returns:
        From a number of samples to noise [1, samples, 9].
    """
    direction = weight.view(-1).double() / weight.double().norm()

    def of(samples: int) -> Tensor:
        one = torch.from_numpy(gaussian(seed, samples)).double()
        spread: Tensor = one.view(1, -1, 1) * direction
        return spread.to(torch.float32)

    return of
