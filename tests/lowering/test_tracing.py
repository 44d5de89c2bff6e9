"""A trace made of shapes alone is the trace that computing gives, and costs next to nothing."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kokoro_coreml.bundle import normalise_package
from kokoro_coreml.checkpoint import Checkpoint
from kokoro_coreml.errors import ConversionError
from kokoro_coreml.lowering import lower, trace, tracing
from kokoro_coreml.lowering.shapes_only import ShapesOnly
from kokoro_coreml.memory import peak_memory
from kokoro_coreml.modules.pipeline import PipelineNetwork
from kokoro_coreml.recipe import PIPELINE, TOKEN_STAGES, Bucket, Build
from kokoro_coreml.stages import Port, Stage, complete_stage, pipeline_stage

COMPLETE = "KokoroComplete"
EVERY = (*PIPELINE, COMPLETE)
HIGHEST = {"input_ids": 178, "attention_mask": 2, "pred_dur": 3, "frames": 128}
FREE = {"empty", "set_", "detach", "alias", "view", "select", "slice", "unsqueeze", "t"}
"""Operators that allocate or look, but touch no value."""
FEW = 50_000
"""More than the positions that masks are counted along, less than one activation has values."""


@pytest.fixture(scope="module")
def stages(tiny: Checkpoint) -> Mapping[str, Stage]:
    network = PipelineNetwork(tiny)
    found = {n: pipeline_stage(network, n, 32 if n in TOKEN_STAGES else 128) for n in PIPELINE}
    return {**found, COMPLETE: complete_stage(tiny, Bucket(16, 32), noise_seed=0)}


@pytest.fixture(scope="module")
def traces(stages: Mapping[str, Stage]) -> Mapping[str, torch.jit.ScriptModule]:
    return {name: trace(stage) for name, stage in stages.items()}


@pytest.fixture(scope="module")
def computed(stages: Mapping[str, Stage]) -> Mapping[str, torch.jit.ScriptModule]:
    return {name: trace_computing(stage) for name, stage in stages.items()}


def trace_computing(stage: Stage) -> torch.jit.ScriptModule:
    """What `torch.jit.trace` does of ones."""
    example = tuple(port.example() for port in stage.inputs)
    with torch.inference_mode(), tracing.Numbered(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(stage.module, example, check_trace=False, strict=True)


def stage_of(module: nn.Module, **ports: tuple[int, ...]) -> Stage:
    inputs = tuple(Port(name, "float32", shape, "") for name, shape in ports.items())
    return Stage("Some", module, None, 8, inputs, (Port("y", "float32", (), ""),))


# the same graph


@pytest.mark.parametrize("name", EVERY)
def test_the_graph_is_the_one_that_computing_gives(name: str, traces, computed) -> None:
    found, expected = (canonical(made[name].inlined_graph) for made in (traces, computed))
    assert found == expected
    assert any("aten::" in line for line in found)


@pytest.mark.parametrize("name", EVERY)
def test_the_constants_are_those_that_computing_gives(name: str, traces, computed) -> None:
    found, expected = (constants(made[name].inlined_graph) for made in (traces, computed))
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        if isinstance(other, Tensor):
            assert torch.equal(one, other)
        else:
            assert one == other


@pytest.mark.parametrize("name", EVERY)
def test_parameters_and_buffers_are_the_modules_own(name: str, traces, stages) -> None:
    module, traced = stages[name].module, traces[name]
    own = {t.data_ptr() for t in (*module.parameters(), *module.buffers())}
    held = [t.data_ptr() for t in (*traced.parameters(), *traced.buffers())]
    assert set(held) == own
    assert 0 not in own


def test_lstms_stay_whole(traces) -> None:
    kinds = [node.kind() for node in traces[COMPLETE].inlined_graph.nodes()]
    assert kinds.count("aten::lstm") == 5


def test_values_do_not_take_the_names_of_outputs() -> None:
    class Named(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = x + 1
            return y * 2

    graph = trace(stage_of(Named(), x=(3,))).inlined_graph
    assert "y" not in {value.debugName() for node in graph.nodes() for value in node.outputs()}


def canonical(graph: Any) -> list[str]:
    """Its text without what differs by chance or means nothing.

    Torch numbers classes of one name per process; the stride of an axis of length 1 is arbitrary;
    the line of code that a node came from is lost for most.
    """

    def strides(found: re.Match[str]) -> str:
        shape, stride = (list(map(int, found[i].split(", "))) for i in (1, 2))
        return f"({[(n, s) for n, s in zip(shape, stride, strict=True) if n != 1]}"

    text = re.sub(r"___torch_mangle_\d+\.| # .*", "", str(graph))
    return re.sub(r"\(([\d, ]+), strides=\[([\d, ]+)\]", strides, text).splitlines()


def constants(graph: Any) -> list[Any]:
    nodes = graph.findAllNodes("prim::Constant")
    return [leaf for node in nodes for leaf in tree_leaves(node.output().toIValue())]


# the same numbers


@pytest.mark.parametrize("name", EVERY)
def test_the_traced_module_gives_the_modules_numbers(name: str, traces, stages) -> None:
    stage = stages[name]
    inputs = [some(port) for port in stage.inputs]
    with torch.inference_mode():
        found, expected = traces[name](*inputs), stage.module(*inputs)
    assert len(found) == len(expected) == len(stage.outputs)
    for one, other in zip(found, expected, strict=True):
        assert torch.isfinite(other).all()
        assert torch.equal(one, other)


def some(port: Port) -> Tensor:
    generator = torch.Generator().manual_seed(len(port.name))
    if port.dtype == "int32":
        high = HIGHEST[port.name]
        return torch.randint(high, port.shape, generator=generator, dtype=torch.int32)
    return torch.rand(port.shape, generator=generator) + 0.5


def test_the_package_has_the_same_bytes(traces, computed, stages, tmp_path: Path) -> None:
    target = Build("iOS18", "float16", "CPU_AND_NE")
    files = []
    for kind, traced in (("shapes", traces["Decoder"]), ("computed", computed["Decoder"])):
        path = tmp_path / kind / "Decoder.mlpackage"
        lower(traced, stages["Decoder"], target, path)
        normalise_package(path)
        files.append({p.relative_to(path): p.read_bytes() for p in path.rglob("*") if p.is_file()})
    assert {p.name for p in files[0]} == {"Manifest.json", "model.mlmodel", "weight.bin"}
    assert files[0] == files[1]


# nothing computed


class Watch(TorchDispatchMode):
    """Counts the values that operators outside the meta device make."""

    def __init__(self) -> None:
        super().__init__()
        self.made: dict[str, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.__name__.partition(".")[0]
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and not leaf.is_meta and name not in FREE:
                self.made[name] = self.made.get(name, 0) + leaf.numel()
        return result


@pytest.mark.parametrize("name", EVERY)
def test_nothing_is_computed(name: str, stages, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch()

    class Watched(ShapesOnly):
        def __enter__(self) -> Any:
            watch.__enter__()
            return super().__enter__()

        def __exit__(self, *failure: Any) -> None:
            super().__exit__(*failure)
            watch.__exit__(*failure)

    monkeypatch.setattr(tracing, "ShapesOnly", Watched)
    trace(stages[name])
    assert sum(watch.made.values()) < FEW
    assert not watch.made.keys() & {"convolution", "_convolution", "mm", "bmm", "addmm", "lstm"}


def test_what_is_computed_would_be_seen(stages) -> None:
    stage = stages["Decoder"]
    with torch.no_grad(), Watch() as watch:
        stage.module(*(port.example() for port in stage.inputs))
    assert watch.made["convolution"] > FEW


def test_a_long_bucket_takes_no_memory(tiny: Checkpoint) -> None:
    forget = Path("/proc/self/clear_refs")
    if not forget.exists():
        pytest.skip("only Linux forgets the peak of a process")
    stage = pipeline_stage(PipelineNetwork(tiny), "Generator", 2048)
    forget.write_text("5")
    before = peak_memory()
    trace(stage)
    assert peak_memory() - before < 64e6


# what cannot be traced


def test_a_module_that_cannot_be_traced_is_named() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ValueError("no")

    with pytest.raises(ConversionError, match="Some_8: tracing failed: no"):
        trace(stage_of(Broken(), x=(3,)))


class Asks(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.sum() > 0 else x


class Writes(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = torch.zeros(3)
        y[1:] = x[1:]
        return y


class Picks(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[x > 0]


@pytest.mark.parametrize(
    ("module", "operator"),
    [(Asks(), "_local_scalar_dense"), (Writes(), "copy_"), (Picks(), "nonzero")],
)
def test_a_module_that_needs_values_is_refused(module: nn.Module, operator: str) -> None:
    with pytest.raises(ConversionError, match=f"Some_8: tracing failed: .*{operator}"):
        trace(stage_of(module, x=(3,)))
    assert not torch.jit.is_tracing()


def test_a_result_taken_for_a_constant_is_refused() -> None:
    class Keeps(nn.Module):
        kept: Tensor | None = None

        def forward(self, x: Tensor) -> Tensor:
            if self.kept is None:
                self.__dict__["kept"] = x * 2
            return x + self.kept.detach()

    stage = stage_of(Keeps(), x=(3,))
    trace(stage)
    with pytest.raises(ConversionError, match="taken for a constant"):
        trace(stage)


def test_the_callers_modes_do_not_matter() -> None:
    conv = nn.Conv1d(2, 3, 3)
    stage = stage_of(conv, x=(1, 2, 8))
    plain = canonical(trace(stage).inlined_graph)
    with torch.inference_mode():
        assert canonical(trace(stage).inlined_graph) == plain
    assert any("aten::_convolution" in line for line in plain)
    assert torch.is_grad_enabled()
