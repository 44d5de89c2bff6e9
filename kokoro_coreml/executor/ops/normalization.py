"""Normalisations. Source: MIL operation documentation, iOS 15 and 17, `normalization`.

All variances are biased (divided by the count).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kokoro_coreml.executor.ops.registry import Ints, op


def _channels(parameter: Tensor, x: Tensor) -> Tensor:
    return parameter.reshape(1, -1, *[1] * (x.ndim - 2))


@op("layer_norm")
def layer_norm(
    x: Tensor,
    axes: Ints | None = None,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    """Normalise over `axes` (all by default); gamma and beta have the shape of those axes."""
    dims = sorted(a % x.ndim for a in axes) if axes is not None else list(range(x.ndim))
    if dims == list(range(x.ndim - len(dims), x.ndim)):
        return F.layer_norm(x, x.shape[dims[0] :], gamma, beta, epsilon)
    shape = [n if d in dims else 1 for d, n in enumerate(x.shape)]
    variance, mean = torch.var_mean(x, dims, correction=0, keepdim=True)
    y = (x - mean) / torch.sqrt(variance + epsilon)
    y = y if gamma is None else y * gamma.reshape(shape)
    return y if beta is None else y + beta.reshape(shape)


@op("instance_norm")
def instance_norm(
    x: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None, epsilon: float = 1e-5
) -> Tensor:
    """Normalise every channel of every item over its positions; a single position is allowed."""
    variance, mean = torch.var_mean(x, tuple(range(2, x.ndim)), correction=0, keepdim=True)
    y = (x - mean) / torch.sqrt(variance + epsilon)
    y = y if gamma is None else y * _channels(gamma, x)
    return y if beta is None else y + _channels(beta, x)


@op("batch_norm")
def batch_norm(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta, all along axis 1."""
    return F.batch_norm(x, mean, variance, gamma, beta, False, 0.0, epsilon)


@op("l2_norm")
def l2_norm(x: Tensor, epsilon: float = 1e-6) -> Tensor:
    """x / sqrt(sum of squares over the last three axes + epsilon)."""
    return x / torch.sqrt(x.square().sum((-3, -2, -1), keepdim=True) + epsilon)


@op("local_response_norm")
def local_response_norm(
    x: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """x / (k + alpha / size * sum of squares over neighbouring channels) ^ beta."""
    return F.local_response_norm(x, size, alpha, beta, k)
