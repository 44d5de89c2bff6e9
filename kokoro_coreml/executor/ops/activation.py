"""Activations. Source: MIL operation documentation, iOS 15 and 17, `activation`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kokoro_coreml.executor.ops.registry import op, table


def _per_channel(parameter: Tensor, x: Tensor) -> Tensor:
    """Shape a [C] parameter so that it runs along axis 1 of `x`."""
    if parameter.ndim != 1:
        return parameter
    return parameter.reshape(1, -1, *[1] * (x.ndim - 2))


@op("gelu")
def gelu(x: Tensor, mode: str = "EXACT") -> Tensor:
    """Three formulas; the default is the exact one, with erf."""
    if mode == "SIGMOID_APPROXIMATION":
        return x * torch.sigmoid(1.702 * x)
    known = {"EXACT": "none", "TANH_APPROXIMATION": "tanh"}
    if mode not in known:
        raise ValueError(f"gelu mode {mode!r} is unknown")
    return F.gelu(x, approximate=known[mode])


@op("leaky_relu")
def leaky_relu(x: Tensor, alpha: float) -> Tensor:
    """x where x >= 0, else alpha * x; correct for a negative alpha and for alpha > 1."""
    return F.leaky_relu(x, alpha)


@op("clamped_relu")
def clamped_relu(x: Tensor, alpha: float, beta: float) -> Tensor:
    """min(beta, x) where x >= 0, else min(beta, alpha * x)."""
    return F.leaky_relu(x, alpha).clamp(max=beta)


@op("elu")
def elu(x: Tensor, alpha: float) -> Tensor:
    """x where x > 0, else alpha * (e^x - 1)."""
    return F.elu(x, alpha)


@op("linear_activation")
def linear_activation(x: Tensor, alpha: float, beta: float) -> Tensor:
    """alpha * x + beta."""
    return x * alpha + beta


@op("prelu")
def prelu(x: Tensor, alpha: Tensor) -> Tensor:
    """x where x > 0, else alpha_c * x, with alpha along axis 1."""
    return torch.where(x > 0, x, _per_channel(alpha, x) * x)


@op("scaled_tanh")
def scaled_tanh(x: Tensor, alpha: float, beta: float) -> Tensor:
    """alpha * tanh(beta * x)."""
    return alpha * torch.tanh(beta * x)


@op("sigmoid_hard")
def sigmoid_hard(x: Tensor, alpha: float, beta: float) -> Tensor:
    """min(max(alpha * x + beta, 0), 1)."""
    return (alpha * x + beta).clamp(0, 1)


@op("softplus_parametric")
def softplus_parametric(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """alpha_c * log(1 + e^(beta_c * x)), with alpha and beta along axis 1."""
    return _per_channel(alpha, x) * softplus(_per_channel(beta, x) * x)


@op("softmax")
def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """exp(x) over its sum along `axis`."""
    return torch.softmax(x, axis)


@op("thresholded_relu")
def thresholded_relu(x: Tensor, alpha: float) -> Tensor:
    """x where x >= alpha, else 0 (torch's threshold is strict, so it is not used)."""
    return torch.where(x >= alpha, x, torch.zeros((), dtype=x.dtype))


def softplus(x: Tensor) -> Tensor:
    """log(1 + e^x) without overflow; torch's own switches to x above 20, which is not exact."""
    return torch.logaddexp(x, torch.zeros((), dtype=x.dtype))


table(
    "activation",
    "x",
    {
        "relu": (F.relu, "max(x, 0)."),
        "relu6": (F.relu6, "min(max(x, 0), 6)."),
        "sigmoid": (torch.sigmoid, "1 / (1 + e^-x)."),
        "silu": (F.silu, "x / (1 + e^-x)."),
        "softplus": (softplus, "log(1 + e^x) without overflow."),
        "softsign": (F.softsign, "x / (1 + |x|)."),
    },
)
