"""Replaced weights act and return; every measured candidate has its size and its error."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kokoro_coreml.compression import Scheme, allocate, bytes_of
from kokoro_coreml.compression.naming import fingerprint, named_by
from kokoro_coreml.compression.sensitivity import measure, replaced
from kokoro_coreml.errors import ConversionError

SCHEMES = [Scheme.parse(t) for t in ("int8", "palette6", "palette2", "palette4/7")]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(24, 40)
        self.tied = self.first
        self.lstm = nn.LSTM(40, 12, batch_first=True)
        self.register_buffer("gain", torch.ones(12))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lstm(self.tied(x))[0] * self.gain


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


@pytest.mark.parametrize("inference", [False, True])
def test_replaced_tensors_act_and_return(net: Net, inference: bool) -> None:
    x = torch.randn(1, 5, 24)
    with torch.inference_mode(inference):
        before = net(x)
        kept = {name: value.clone() for name, value in net.state_dict().items()}
        for path in ("first.weight", "lstm.weight_hh_l0", "gain"):
            with replaced(net, {path: torch.full_like(net.state_dict()[path], 0.5)}):
                assert not torch.allclose(net(x), before)
        assert torch.equal(net(x), before)
    assert all(torch.equal(value, kept[name]) for name, value in net.state_dict().items())


def test_tensors_return_after_an_error(net: Net) -> None:
    weight = net.first.weight.detach().clone()
    with pytest.raises(RuntimeError, match="inside"), replaced(net, {"first.weight": weight * 2}):
        raise RuntimeError("inside")
    assert torch.equal(net.first.weight, weight)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"first.weigth": torch.ones(40, 24)}, "did you mean 'first.weight'"),
        ({"gain": torch.zeros(12), "first.weight": torch.ones(24, 40)}, r"\[40, 24\]"),
    ],
)
def test_wrong_replacements_change_nothing(
    net: Net, tensors: dict[str, torch.Tensor], message: str
) -> None:
    with pytest.raises(ConversionError, match=message), replaced(net, tensors):
        pass
    assert torch.equal(net.gain, torch.ones(12))


def test_measured_candidates_lead_to_an_allocation(net: Net) -> None:
    x = torch.randn(1, 5, 24)
    with torch.inference_mode():
        true = net(x)

    def error_of(tensors: dict[str, torch.Tensor]) -> float:
        with replaced(net, tensors), torch.inference_mode():
            return float((net(x) - true).square().sum())

    weights = {name: dict(net.named_parameters())[name] for name in ("first.weight", WEIGHT_HH)}
    found = measure(weights, SCHEMES, error_of)
    texts = {name: [str(c.scheme) for c in options] for name, options in found.items()}
    assert texts == {name: ["None", "int8", "palette6", "palette2"] for name in weights}
    for name, options in found.items():
        assert options[0].error == 0
        assert options[1].error < options[3].error
        for option in options:
            assert option.bytes == bytes_of(option.scheme, tuple(weights[name].shape), "float16")
    chosen = allocate(found, sum(options[2].bytes for options in found.values()))
    assert set(chosen) == set(weights)


WEIGHT_HH = "lstm.weight_hh_l0"


def test_a_parameter_is_recognised_reordered_padded_and_in_half_precision(net: Net) -> None:
    name_of = named_by(dict(net.named_parameters()))
    weight = net.lstm.weight_hh_l0.detach()
    i, f, g, o = weight.chunk(4)
    lowered = torch.cat([i, f, o, g]).half()
    assert name_of("concat_5", lowered.numpy()) == WEIGHT_HH
    assert name_of("transpose_0", weight.T.numpy()) == WEIGHT_HH
    assert name_of("folded", nn.functional.pad(weight, (0, 3)).numpy()) == WEIGHT_HH
    assert name_of("foreign", (weight * 1.1).numpy()) == "foreign"
    assert fingerprint(weight.numpy()) != fingerprint(-weight.numpy())
