"""Tracing gives memory back early, and the graph is the one torch traces by itself."""

from __future__ import annotations

import pytest
import torch

from kokoro_coreml.checkpoint import Checkpoint
from kokoro_coreml.errors import ConversionError
from kokoro_coreml.lowering import trace, tracing
from kokoro_coreml.recipe import Bucket
from kokoro_coreml.stages import Stage, complete_stage


@pytest.fixture(scope="module")
def stage(tiny: Checkpoint) -> Stage:
    return complete_stage(tiny, Bucket(16, 32), noise_seed=0)


def test_the_graph_is_the_same_as_without_the_hooks(stage: Stage) -> None:
    example = tuple(port.example() for port in stage.inputs)
    with torch.inference_mode():
        plain = torch.jit.trace(stage.module, example, check_trace=False, strict=True)
    kinds = [node.kind() for node in plain.inlined_graph.nodes()]
    assert [node.kind() for node in trace(stage).inlined_graph.nodes()] == kinds
    assert kinds.count("aten::lstm") == 5


def test_no_hook_is_left_behind(stage: Stage) -> None:
    trace(stage)
    for module in stage.module.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_a_block_gives_back_what_it_made_but_for_its_result(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[int] = []
    leave = tracing._Scratch.leave

    def watched(self: tracing._Scratch, module: object, inputs: object, output: object) -> None:
        made = list(self.open[-1])
        leave(self, module, inputs, output)
        left.append(sum(t.untyped_storage().nbytes() > 0 for t in made) / len(made) < 0.2)

    monkeypatch.setattr(tracing._Scratch, "leave", watched)
    trace(stage)
    assert left
    assert all(left)


def test_the_module_still_runs_after_tracing(stage: Stage) -> None:
    example = tuple(port.example() for port in stage.inputs)
    with torch.inference_mode():
        before = stage.module(*example).audio.clone()
        trace(stage)
        assert torch.equal(stage.module(*example).audio, before)


def test_a_module_that_cannot_be_traced_is_named(stage: Stage) -> None:
    class Broken(torch.nn.Module):
        def forward(self, *_inputs: torch.Tensor) -> torch.Tensor:
            raise ValueError("no")

    broken = Stage("Broken", Broken(), stage.bucket, stage.inputs, stage.outputs)
    with pytest.raises(ConversionError, match="Broken_16x32"):
        trace(broken)
