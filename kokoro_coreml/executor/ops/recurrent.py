"""Recurrent layers. Source: MIL operation documentation, iOS 15 to 18, `recurrent`.

Traps: x is [S, B, I]; LSTM gate rows are i, f, o, z where torch has i, f, z, o; GRU rows r, o, z;
there is one bias, the sum of torch's two; `direction="reverse"` returns its steps in the order they
were computed, last position first, whereas the backward half of a bidirectional layer is aligned
with its input (coremltools' own runtime tests, `test_recurrent.py`). The same tests have
`scaled_tanh` equal `tanh`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kokoro_coreml.executor.ops.registry import op


def torch_gates(rows: Tensor) -> Tensor:
    """Reorder LSTM rows (weight or bias) from i, f, o, z to torch's i, f, z, o."""
    i, f, o, z = rows.chunk(4)
    return torch.cat((i, f, z, o))


Gates = Annotated[Tensor, torch_gates]

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "hard_sigmoid": lambda x: (0.2 * x + 0.5).clamp(0, 1),
    "sigmoid_hard": lambda x: (0.2 * x + 0.5).clamp(0, 1),
    "linear": lambda x: x,
    "relu": torch.relu,
    "scaled_tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}
"""With their standard parameters; MIL has no way to give others."""


def _activation(name: str) -> Callable[[Tensor], Tensor]:
    if name not in _ACTIVATIONS:
        raise ValueError(f"activation {name!r} is unknown; known: {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[name]


class _Direction(NamedTuple):
    weight_ih: Tensor
    weight_hh: Tensor
    bias: Tensor
    peephole: Tensor | None


class _Cell(NamedTuple):
    """What differs from the plain LSTM that torch has a kernel for."""

    recurrent_activation: str
    cell_activation: str
    activation: str
    clip: float | None

    @property
    def is_plain(self) -> bool:
        return self == _Cell("sigmoid", "tanh", "tanh", None)


@op("lstm")
def lstm(
    x: Tensor,
    initial_h: Tensor,
    initial_c: Tensor,
    weight_ih: Gates,
    weight_hh: Gates,
    bias: Gates | None = None,
    peephole: Tensor | None = None,
    weight_ih_back: Gates | None = None,
    weight_hh_back: Gates | None = None,
    bias_back: Gates | None = None,
    peephole_back: Tensor | None = None,
    direction: str = "forward",
    output_sequence: bool = False,
    recurrent_activation: str = "sigmoid",
    cell_activation: str = "tanh",
    activation: str = "tanh",
    clip: float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """All steps or the last [S or 1, B, D*H], the last hidden and cell states [B, D*H]."""
    forward = _direction(weight_ih, weight_hh, bias, peephole)
    directions = [forward]
    if direction == "bidirectional":
        if weight_ih_back is None or weight_hh_back is None:
            raise ValueError("a bidirectional lstm needs weight_ih_back and weight_hh_back")
        directions.append(_direction(weight_ih_back, weight_hh_back, bias_back, peephole_back))
    elif direction == "reverse":
        x = x.flip(0)
    elif direction != "forward":
        raise ValueError(f"direction {direction!r} is unknown")
    h = torch.stack(initial_h.chunk(len(directions), 1))
    c = torch.stack(initial_c.chunk(len(directions), 1))
    cell = _Cell(recurrent_activation, cell_activation, activation, clip)
    if cell.is_plain and all(d.peephole is None for d in directions):
        steps, h, c = _fast(x, h, c, directions)
    else:
        steps, h, c = _slow(x, h, c, directions, cell)
    last_h, last_c = torch.cat(tuple(h), 1), torch.cat(tuple(c), 1)
    return steps if output_sequence else last_h.unsqueeze(0), last_h, last_c


def _direction(
    weight_ih: Tensor, weight_hh: Tensor, bias: Tensor | None, peephole: Tensor | None
) -> _Direction:
    bias = bias if bias is not None else torch.zeros(weight_ih.shape[0])
    return _Direction(weight_ih, weight_hh, bias, peephole)


def _fast(
    x: Tensor, h: Tensor, c: Tensor, directions: list[_Direction]
) -> tuple[Tensor, Tensor, Tensor]:
    weights = []
    for d in directions:
        weights += [d.weight_ih, d.weight_hh, d.bias, torch.zeros_like(d.bias)]
    bidirectional = len(directions) == 2
    steps, h, c = torch.lstm(x, (h, c), weights, True, 1, 0.0, False, bidirectional, False)
    return steps, h, c


def _slow(
    x: Tensor, h: Tensor, c: Tensor, directions: list[_Direction], cell: _Cell
) -> tuple[Tensor, Tensor, Tensor]:
    runs = [
        _scan_lstm(x.flip(0) if i else x, h[i], c[i], d, cell) for i, d in enumerate(directions)
    ]
    steps = torch.cat([s.flip(0) if i else s for i, (s, _, _) in enumerate(runs)], 2)
    return steps, torch.stack([r[1] for r in runs]), torch.stack([r[2] for r in runs])


def _scan_lstm(
    x: Tensor, h: Tensor, c: Tensor, d: _Direction, cell: _Cell
) -> tuple[Tensor, Tensor, Tensor]:
    gate, inner, outer = (_activation(name) for name in cell[:3])
    zeros = torch.zeros(3 * h.shape[1]) if d.peephole is None else d.peephole
    p_i, p_f, p_o = zeros.chunk(3)
    steps = []
    for projected in F.linear(x, d.weight_ih, d.bias):
        i, f, z, o = (projected + F.linear(h, d.weight_hh)).chunk(4, 1)
        i, f = gate(i + p_i * c), gate(f + p_f * c)
        c = f * c + i * inner(z)
        c = c if cell.clip is None else c.clamp(-cell.clip, cell.clip)
        h = gate(o + p_o * c) * outer(c)
        steps.append(h)
    return torch.stack(steps), h, c


@op("gru")
def gru(
    x: Tensor,
    initial_h: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None = None,
    direction: str = "forward",
    output_sequence: bool = False,
    recurrent_activation: str = "sigmoid",
    activation: str = "tanh",
    reset_after: bool = False,
    input_bias: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """All steps or the last [S or 1, B, H], and the last hidden state [B, H].

    Traps: the reset gate multiplies h before the product W_ho (r * h), not after it as the formula
    in the documentation has it: so say coremltools' runtime tests, which are measured on a Mac, and
    the GRU layer of `NeuralNetwork.proto`. With `reset_after` (iOS 18) it multiplies the product
    and `bias`, r * (W_ho h + b), and `input_bias` stays outside, as in torch; that form is taken
    from a runtime test which its authors mark as failing.
    """
    gate, inner = _activation(recurrent_activation), _activation(activation)
    projections = F.linear(_directed(x, direction), weight_ih, input_bias)
    w_r, w_o, w_z = weight_hh.chunk(3)
    b_r, b_o, b_z = (torch.zeros(weight_hh.shape[0]) if bias is None else bias).chunk(3)
    h, steps = initial_h, []
    for projected in projections:
        r, o, z = projected.chunk(3, 1)
        r, z = gate(r + F.linear(h, w_r, b_r)), gate(z + F.linear(h, w_z, b_z))
        hidden = r * F.linear(h, w_o, b_o) if reset_after else F.linear(r * h, w_o, b_o)
        h = (1 - z) * inner(o + hidden) + z * h
        steps.append(h)
    return torch.stack(steps) if output_sequence else h.unsqueeze(0), h


@op("rnn")
def rnn(
    x: Tensor,
    initial_h: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None = None,
    direction: str = "forward",
    output_sequence: bool = False,
    activation: str = "tanh",
) -> tuple[Tensor, Tensor]:
    """All steps or the last [S or 1, B, H], and the last hidden state [B, H]."""
    function = _activation(activation)
    h, steps = initial_h, []
    for projected in F.linear(_directed(x, direction), weight_ih, bias):
        h = function(projected + F.linear(h, weight_hh))
        steps.append(h)
    return torch.stack(steps) if output_sequence else h.unsqueeze(0), h


def _directed(x: Tensor, direction: str) -> Tensor:
    if direction not in ("forward", "reverse"):
        raise ValueError(f"direction {direction!r} is unknown")
    return x.flip(0) if direction == "reverse" else x
