"""The one place where upstream's state dicts become those of the rewrites.

Upstream's attribute names are kept; what changes is listed in `translate`. The result is loaded
with `strict=True`, so a key that is missing or left over is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from kokoro_coreml.errors import CheckpointError

PAD_GATE = -100.0
"""Weight of the `is_pad` feature into the LSTM's input gate; sigmoid(-100) is 0 in float32."""

_LSTM_INPUT = re.compile(r"weight_ih_l\d+(_reverse)?$")
_SNAKE_ALPHA = re.compile(r"(^|\.)alpha([12])\.(\d+)$")
_UNUSED = re.compile(r"(^|\.)(pooler\.(weight|bias)|embeddings\.position_ids)$")


def translate(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn an upstream state dict (any part, any submodule) into the rewrite's.

    - `weight_g`, `weight_v` are folded into `weight` (`torch.nn.utils.weight_norm`, dim 0);
    - AdaIN's affine `norm.weight`, `norm.bias`, if present, are folded into the `fc` behind it;
    - LSTM input weights get the column of the `is_pad` feature;
    - Snake's `alpha` gets its reciprocal beside it, since Core ML's own reciprocal is inexact;
    - ALBERT's pooler and position ids are left out: nothing reads them.
    """
    result = {key: value for key, value in state.items() if not _UNUSED.search(key)}
    _fold_weight_norm(result)
    _fold_instance_norm_affine(result)
    for key in list(result):
        if _LSTM_INPUT.search(key):
            result[key] = _with_pad_column(result[key])
        elif match := _SNAKE_ALPHA.search(key):
            inverse = key[: match.start()] + f"{match[1]}inverse_alpha{match[2]}.{match[3]}"
            result[inverse] = _reciprocal(key, result[key])
    return result


def load_upstream(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load an upstream state dict into a rewrite, strictly.

    Raises:
        CheckpointError: a key is missing, unexpected or of another shape.
    """
    load_translated(module, translate(state))


def load_translated(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load what `translate` gave, or a part of it, strictly.

    A module that holds its weights in another form says so by `own_state`, which takes upstream's
    `weight` and `bias`. Where a parameter has more axes of length 1, the weight gets them.

    Raises:
        CheckpointError: a key is missing, unexpected or of another shape.
    """
    fitted = dict(state)
    for name, child in module.named_modules():
        layer = (f"{name}.weight", f"{name}.bias")
        if isinstance(child, OwnState) and fitted.keys() >= set(layer):
            weight, bias = (fitted.pop(key) for key in layer)
            own = child.own_state(weight, bias)
            fitted.update({f"{name}.{key}": value for key, value in own.items()})
    targets = module.state_dict()
    fitted = {key: _widened(value, targets.get(key)) for key, value in fitted.items()}
    try:
        module.load_state_dict(fitted, strict=True)
    except RuntimeError as error:
        raise CheckpointError(f"{type(module).__name__}: {error}") from error


@runtime_checkable
class OwnState(Protocol):
    """A module that holds the weights of one layer of upstream in a form of its own."""

    def own_state(self, weight: Tensor, bias: Tensor) -> dict[str, Tensor]:
        """Its state dict for upstream's `weight` and `bias`."""
        ...


def _widened(value: Tensor, target: Tensor | None) -> Tensor:
    if target is None or value.dim() >= target.dim():
        return value
    same = [n for n in value.shape if n != 1] == [n for n in target.shape if n != 1]
    return value.reshape(target.shape) if same else value


def _fold_weight_norm(state: dict[str, Tensor]) -> None:
    for key in [k for k in state if k.endswith("weight_g")]:
        stem = key.removesuffix("_g")
        state[stem] = torch._weight_norm(state.pop(f"{stem}_v"), state.pop(key), 0)


def _fold_instance_norm_affine(state: dict[str, Tensor]) -> None:
    """(1 + gamma) * (w * n + b) + beta, with gamma and beta the halves of `fc`'s output."""
    for key in [k for k in state if k.endswith("norm.weight") and _is_adain(state, k)]:
        stem = key.removesuffix("norm.weight")
        scale, shift = state.pop(key), state.pop(f"{stem}norm.bias")
        if torch.all(scale == 1) and torch.all(shift == 0):
            continue
        weight, bias = state[f"{stem}fc.weight"], state[f"{stem}fc.bias"]
        (w_gamma, w_beta), (b_gamma, b_beta) = weight.chunk(2), bias.chunk(2)
        state[f"{stem}fc.weight"] = torch.cat(
            [scale[:, None] * w_gamma, w_beta + shift[:, None] * w_gamma]
        )
        state[f"{stem}fc.bias"] = torch.cat(
            [scale * (1 + b_gamma) - 1, b_beta + shift * (1 + b_gamma)]
        )


def _is_adain(state: Mapping[str, Tensor], key: str) -> bool:
    return f"{key.removesuffix('norm.weight')}fc.weight" in state


def _with_pad_column(weight: Tensor) -> Tensor:
    """[4H, I] -> [4H, I + 1]; torch's gate rows are i, f, g, o."""
    hidden = weight.shape[0] // 4
    column = weight.new_zeros(weight.shape[0], 1)
    column[:hidden] = PAD_GATE
    return torch.cat([weight, column], dim=1)


def _reciprocal(key: str, alpha: Tensor) -> Tensor:
    if not torch.all(alpha.abs() > 0):
        raise CheckpointError(f"{key}: Snake's alpha must not be 0")
    return alpha.reciprocal()
