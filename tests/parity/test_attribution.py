"""The interpreter of a trace, and which operation an error is charged to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kokoro_coreml.errors import ParityError
from kokoro_coreml.executor import Program
from kokoro_coreml.lowering import lower, trace
from kokoro_coreml.parity import attribution
from kokoro_coreml.parity.attribution import attribute, half_precision, tensor_snr_db
from kokoro_coreml.parity.location import operation_faults
from kokoro_coreml.parity.packages import has_half, named
from kokoro_coreml.parity.torchscript import TracedGraph, package_name
from kokoro_coreml.recipe import Bucket, load_recipe
from kokoro_coreml.stages import Port, Stage, complete_stage
from tests.support.tiny import tiny_checkpoint


class Body(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(4, 6, 3, padding=1)
        self.norm = nn.LayerNorm(6)
        self.lstm = nn.LSTM(6, 5, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.conv(x)).transpose(1, 2)
        y, _ = self.lstm(self.norm(h))
        parts = torch.chunk(y, 2, dim=2)
        return parts[0] * torch.sin(parts[1]) + h[:, :, :5]


X = np.random.default_rng(3).standard_normal((1, 4, 9)).astype(np.float32)


@pytest.fixture(scope="module")
def body():
    torch.manual_seed(0)
    module = Body().eval().requires_grad_(False)
    ports = (Port("x", "float32", (1, 4, 9), "in"),), (Port("y", "float32", (1, 9, 5), "out"),)
    return Stage("Body", module, 3, 1, *ports)


@pytest.fixture(scope="module")
def graph(body):
    return TracedGraph(trace(body), body.module, ["y"])


@pytest.fixture(scope="module")
def saved(body, tmp_path_factory):
    path = tmp_path_factory.mktemp("attribution") / "Body.mlpackage"
    lower(trace(body), body, load_recipe("complete").build("Body"), path)
    return path


def test_the_interpreter_gives_what_the_module_gives(body, graph):
    values = dict(graph.run([torch.from_numpy(X)]))
    with torch.inference_mode():
        expected = body.module(torch.from_numpy(X))
    assert torch.equal(values["y"], expected)
    assert any(v.shape == expected.shape and torch.equal(v, expected) for v in values.values())
    conv = torch.relu(body.module.conv(torch.from_numpy(X)))
    assert any(v.shape == conv.shape and torch.equal(v, conv) for v in values.values())


def test_the_interpreter_gives_what_the_whole_network_gives():
    stage = complete_stage(tiny_checkpoint(), Bucket(8, 48), noise_seed=0)
    traced = trace(stage)
    inputs = [port.example() for port in stage.inputs]
    names = [port.name for port in stage.outputs]
    values = dict(TracedGraph(traced, stage.module, names).run(inputs))
    with torch.inference_mode():
        expected = stage.module(*inputs)
    for name, result in zip(names, expected, strict=True):
        assert torch.equal(values[name], result)


def test_values_have_the_path_and_class_of_their_module(graph):
    labels = set(graph.modules().values())
    assert {"conv (Conv1d)", "norm (LayerNorm)", "lstm (LSTM)", "Body"} <= labels


@pytest.mark.parametrize(
    ("name", "expected"), [("771", "var_771"), ("x.17", "x_17"), ("input", "input")]
)
def test_names_are_written_as_coremltools_writes_them(name, expected):
    assert package_name(name) == expected


def test_nearly_every_operation_of_a_package_finds_its_value(graph, saved):
    program = Program.load(saved)
    found = operations(graph, program, program)
    executed = [o for o in program.operations if o.type not in ("const", "transpose")]
    assert len(found) >= 0.6 * len(executed)
    assert {"conv", "relu", "layer_norm", "add"} <= {o.type for o in found}
    assert all(o.local_snr_db > 100 for o in found)


def operations(graph, program, _):
    tensors = [torch.from_numpy(X)]
    modules = graph.modules()
    references = (graph.run(tensors), graph.run(tensors))
    return attribute(program, {"x": X}, references, set(modules), named(program, modules))


def test_only_the_guilty_operation_is_accused(graph, saved, monkeypatch):
    program = Program.load(saved)
    steps = program._body.steps
    (relu,) = [s for s in steps if s.operation.type == "relu"]
    original = relu.definition.function
    monkeypatch.setitem(
        relu.definition.__dict__, "function", lambda **given: original(**given) * 1.01
    )
    found = operations(graph, program, program)
    guilty = [o for o in found if o.local_snr_db < 80]
    assert [o.type for o in guilty] == ["relu"]
    assert guilty[0].local_snr_db == pytest.approx(40.0, abs=0.1)
    assert sum(o.snr_db < 80 for o in found) > 3, "what is behind it carries the error on"


def saved_in_half(stage, path):
    import coremltools as ct

    model = ct.convert(
        trace(stage),
        inputs=[ct.TensorType(name="x", shape=(1, 4, 9))],
        outputs=[ct.TensorType(name="y")],
        minimum_deployment_target=ct.target.iOS17,
        compute_precision=ct.precision.FLOAT16,
        skip_model_load=True,
    )
    model.save(str(path))
    return path


def test_rounding_is_charged_to_half_precision_operations(graph, body, tmp_path):
    path = saved_in_half(body, tmp_path / "half.mlpackage")
    plain, declared = Program.load(path), Program.load(path, precision="declared")
    assert has_half(plain)
    found = half_precision(plain, declared, {"x": X}, named(plain, graph.modules()))
    halves = [o for o in found if o.declared.startswith("fp16")]
    assert len(halves) > 8
    assert all(o.local_snr_db > 60 for o in halves)
    worst = min(o.snr_db for o in halves)
    assert 50 < worst < 90
    assert any(o.snr_db < o.local_snr_db - 1 for o in halves)
    assert any(o.module == "conv (Conv1d)" for o in halves)


def test_a_float32_package_declares_no_half(saved):
    assert not has_half(Program.load(saved))


@pytest.mark.parametrize(
    ("reference", "candidate", "expected"),
    [
        ([1.0, 2.0], [1.0, 2.0], float("inf")),
        ([3.0, 4.0], [3.0, 4.5], 20.0),
        ([0.0, 0.0], [0.0, 1.0], float("-inf")),
        ([float("inf"), 1.0], [float("inf"), 1.0], float("inf")),
    ],
)
def test_snr_of_tensors(reference, candidate, expected):
    found = tensor_snr_db(reference=torch.tensor(reference), candidate=torch.tensor(candidate))
    assert found == pytest.approx(expected)


def test_snr_of_infinities_nan_integers_and_booleans():
    inf = float("inf")
    right = torch.tensor([inf, 10.0])
    nan = tensor_snr_db(reference=torch.tensor([1.0]), candidate=torch.tensor([float("nan")]))
    assert np.isnan(nan)
    assert tensor_snr_db(reference=right, candidate=torch.tensor([inf, 10.0])) == inf
    wrong = tensor_snr_db(reference=right, candidate=torch.tensor([inf, 11.0]))
    assert wrong == pytest.approx(20.0)
    integers = tensor_snr_db(reference=torch.tensor([3, 4]), candidate=torch.tensor([3, 9]))
    assert integers == pytest.approx(0.0)
    booleans = tensor_snr_db(
        reference=torch.tensor([True, True]), candidate=torch.tensor([True, False])
    )
    assert booleans == pytest.approx(10 * np.log10(2))


def test_a_trace_that_cannot_be_interpreted_is_refused():
    class Branch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if bool(x.sum() > 0):
                return x
            return -x

    module = Branch().eval()
    with pytest.raises(ParityError, match="cannot be interpreted"):
        TracedGraph(torch.jit.script(module), module)


def test_a_few_large_entries_do_not_hide_that_the_others_are_wrong():
    reference = torch.cat([torch.full((400,), -1e4), torch.linspace(-3, 3, 600)])
    candidate = torch.where(reference > -5e3, reference * 1.02, reference)
    found = tensor_snr_db(reference=reference, candidate=candidate)
    assert found == pytest.approx(34.0, abs=0.1)
    inf = float("inf")
    infinite = tensor_snr_db(
        reference=torch.tensor([inf, 1.0, 2.0]), candidate=torch.tensor([inf, -50.0, 7.0])
    )
    assert infinite < 0
    nan = torch.tensor([float("nan"), 1.0])
    assert tensor_snr_db(reference=nan, candidate=nan.clone()) == inf


def test_a_result_of_another_length_is_an_error_and_not_left_out(saved):
    beside = attribution._Beside(iter([("a", torch.ones(4))]), forced=True)
    beside.expect({"a"})
    (operation,) = [o for o in Program.load(saved).operations if o.type == "relu"]
    named = replace(operation, outputs=(("a", operation.outputs[0][1]),))
    beside(named, (torch.ones(3),))
    assert beside.errors == {"a": float("-inf")}


def test_what_half_precision_cannot_hold_is_no_fault():
    reference = torch.tensor([1e-8, -2e-8, 2.9e-8])
    kept = reference.to(torch.float16).to(torch.float32)
    found = {"reference": reference, "candidate": kept}
    assert tensor_snr_db(**found) < 45
    assert tensor_snr_db(**found, resolution=attribution.HALF_STEP) == float("inf")
    wrong = {"reference": reference, "candidate": reference + 7e-8}
    assert tensor_snr_db(**wrong, resolution=attribution.HALF_STEP) < 0


class NearlyNothing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(dim=2, keepdim=True)
        return centred + 0.125 * centred.mean(dim=2, keepdim=True)


def test_a_mean_that_ought_to_be_zero_and_its_multiple_are_not_accused(tmp_path):
    ports = (Port("x", "float32", (1, 4, 9), "in"),), (Port("y", "float32", (1, 4, 9), "out"),)
    stage = Stage("Nearly", NearlyNothing().eval(), 3, 1, *ports)
    path = saved_in_half(stage, tmp_path / "half.mlpackage")
    plain, declared = Program.load(path), Program.load(path, precision="declared")
    modules = named(plain, TracedGraph(trace(stage), stage.module, ["y"]).modules())
    found = half_precision(plain, declared, {"x": X}, modules)
    means = [o for o in found if o.type == "reduce_mean"]
    assert len(means) == 2
    assert [o.type for o in found if o.snr_db < 45] == ["reduce_mean", "mul"]
    assert operation_faults("package = upstream", found, declared.operations) == []
    assert means[1].snr_db < 45, "with the rounding in front of it, nothing is left of it"
