"""Ports of the pipeline's stages: what modules give, what fits the Neural Engine."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from kokoro_coreml.checkpoint import Checkpoint
from kokoro_coreml.modules.pipeline import PipelineNetwork
from kokoro_coreml.recipe import FRAME_STAGES, PIPELINE, TOKEN_STAGES, load_recipe
from kokoro_coreml.stages import Port, Stage, pipeline_stage
from tests.support.folded import real_config

LONGEST_AXIS = 16_384
"""Of every Neural Engine up to A15 and M3 (FACTS.md section 6)."""
CASES = [
    *((name, size) for name in TOKEN_STAGES for size in (3, 32, 512)),
    *((name, size) for name in FRAME_STAGES for size in (128, 256)),
]

MASKS = {f"{kind}_{i}": "float16" for kind in ("valid", "own", "share") for i in (1, 2)}
TYPES = {
    "Encoder": {"input_ids": "float32", "attention_mask": "float32", "encoded": "float32"},
    "Duration": {
        "encoded": "float32",
        "input_ids": "int32",
        "attention_mask": "int32",
        "ref_s": "float32",
        "speed": "float32",
        "d": "float32",
        "text": "float32",
        "pred_dur": "int32",
        "decoder_scale": "float16",
        "decoder_shift": "float16",
        "generator_scale": "float16",
        "generator_shift": "float16",
    },
    "Prosody": {
        "d": "float32",
        "text": "float32",
        "pred_dur": "int32",
        "ref_s": "float32",
        "f0": "float32",
        "curves": "float16",
        "levels": "float16",
        "asr": "float16",
        "frame_mask": "float16",
    },
    "Decoder": {
        "asr": "float16",
        "curves": "float16",
        "levels": "float16",
        "frame_mask": "float16",
        "decoder_scale": "float16",
        "decoder_shift": "float16",
        "features": "float16",
    },
    "Source": {
        "f0": "float32",
        "frames": "int32",
        "random_phases": "float32",
        "noise": "float32",
        "har": "float16",
        **MASKS,
    },
    "Generator": {
        "features": "float16",
        "har": "float16",
        "generator_scale": "float16",
        "generator_shift": "float16",
        **MASKS,
        "hidden": "float16",
    },
    "Tail": {"hidden": "float16", "frames": "int32", "audio": "float32"},
}
"""Of every port. What F0 and the durations come from must not be in half precision."""

DOCUMENT = Path(__file__).parents[2] / "docs" / "pipeline.md"


@pytest.fixture(scope="module")
def network(tiny: Checkpoint) -> PipelineNetwork:
    return PipelineNetwork(tiny)


@pytest.fixture(scope="module")
def shapes() -> PipelineNetwork:
    """The real network without weights, for its shapes alone."""
    checkpoint = Checkpoint.__new__(Checkpoint)
    object.__setattr__(checkpoint, "config", real_config())
    object.__setattr__(checkpoint, "state", {})
    with pytest.MonkeyPatch.context() as patch, torch.device("meta"):
        patch.setattr(PipelineNetwork, "_load", lambda _self, _parts: None)
        return PipelineNetwork(checkpoint)


@pytest.mark.parametrize(("name", "size"), CASES)
def test_ports_are_what_the_module_takes_and_gives(
    network: PipelineNetwork, name: str, size: int
) -> None:
    stage = pipeline_stage(network, name, size)
    assert stage.name == name
    with torch.inference_mode():
        outputs = stage.module(*(port.example() for port in stage.inputs))
    assert [tuple(value.shape) for value in outputs] == [port.shape for port in stage.outputs]
    integers = {port.name: port.dtype == "int32" for port in stage.outputs}
    found = {p.name: v.dtype == torch.int32 for p, v in zip(stage.outputs, outputs, strict=True)}
    assert found == integers


def test_names_and_order_of_the_ports(network: PipelineNetwork) -> None:
    rows = [f"{kind}_{i}" for i in (1, 2) for kind in ("valid", "own", "share")]
    timed, aligned = ["d", "text", "pred_dur"], ["asr", "curves", "levels", "frame_mask"]
    decoder, generator = (
        [f"{stage}_scale", f"{stage}_shift"] for stage in ("decoder", "generator")
    )
    expected = {
        "Encoder": (["input_ids", "attention_mask"], ["encoded"]),
        "Duration": (
            ["encoded", "input_ids", "attention_mask", "ref_s", "speed"],
            [*timed, *decoder, *generator],
        ),
        "Prosody": ([*timed, "ref_s"], ["f0", "curves", "levels", "asr", "frame_mask"]),
        "Decoder": ([*aligned, *decoder], ["features"]),
        "Source": (["f0", "frames", "random_phases", "noise"], ["har", *rows]),
        "Generator": (["features", "har", *generator, *rows], ["hidden"]),
        "Tail": (["hidden", "frames"], ["audio"]),
    }
    assert list(expected) == list(PIPELINE)
    for name, (inputs, outputs) in expected.items():
        stage = pipeline_stage(network, name, 128)
        assert [port.name for port in stage.inputs] == inputs
        assert [port.name for port in stage.outputs] == outputs


def test_what_one_stage_gives_the_next_takes(network: PipelineNetwork) -> None:
    """By name, shape and type; ids and mask alone change their form."""
    given = {"ref_s", "speed", "random_phases", "noise", "frames", "input_ids", "attention_mask"}
    known: dict[str, Port] = {}
    for name in PIPELINE:
        stage = pipeline_stage(network, name, 128)
        for port in stage.inputs:
            if port.name in given:
                continue
            assert port == known[port.name], f"{name}.{port.name}"
        known |= {port.name: port for port in stage.outputs}


def test_every_port_has_its_type(network: PipelineNetwork) -> None:
    assert list(TYPES) == list(PIPELINE)
    for name, size in CASES:
        stage = pipeline_stage(network, name, size)
        ports = (*stage.inputs, *stage.outputs)
        assert {port.name: port.dtype for port in ports} == TYPES[name]


def test_the_documented_types_are_the_ports() -> None:
    row = r"(?m)^\| (`.*?`) \| (float16|float32|int32) \| \[.*?\] \| (.*?) \| (.*?) \|$"
    documented: dict[str, dict[str, str]] = {name: {} for name in PIPELINE}
    for names, dtype, *ends in re.findall(row, DOCUMENT.read_text(encoding="utf-8")):
        for stage in set(re.findall(r"`([A-Z]\w+)`", " ".join(ends))):
            documented[stage] |= dict.fromkeys(re.findall(r"`(\w+)`", names), dtype)
    assert documented == TYPES


@pytest.mark.parametrize("name", PIPELINE)
def test_functions_are_named_after_their_bucket(network: PipelineNetwork, name: str) -> None:
    stage = pipeline_stage(network, name, 256)
    axis = "tokens" if name in TOKEN_STAGES else "frames"
    assert stage.function == f"{axis}_256"
    assert str(stage) == f"{name}_256"
    assert (stage.tokens, stage.frames) == ((256, None) if axis == "tokens" else (None, 256))
    with pytest.raises(ValueError, match="one axis"):
        _ = stage.bucket


def test_an_unknown_stage_or_an_uneven_bucket_is_refused(network: PipelineNetwork) -> None:
    with pytest.raises(ValueError, match=r"no stage 'Vocoder'; known: Encoder, .*Tail"):
        pipeline_stage(network, "Vocoder", 128)
    for name in ("Decoder", "Source", "Generator", "Tail"):
        with pytest.raises(ValueError, match="200 frames"):
            pipeline_stage(network, name, 200)


def _neural_engine(network: PipelineNetwork, size: int) -> list[Stage]:
    return [pipeline_stage(network, name, size) for name in ("Decoder", "Generator")]


@pytest.mark.parametrize("size", load_recipe("kokoro-82m").frames)
def test_no_axis_of_the_real_network_is_too_long_for_the_neural_engine(
    shapes: PipelineNetwork, size: int
) -> None:
    for stage in _neural_engine(shapes, size):
        ports = (*stage.inputs, *stage.outputs)
        assert {port.dtype for port in ports} == {"float16"}
        assert all(len(port.shape) <= 4 for port in ports)
        assert max(max(port.shape) for port in ports) <= LONGEST_AXIS


def test_the_largest_bucket_of_the_real_network_has_these_shapes(shapes: PipelineNetwork) -> None:
    ports = {p.name: p.shape for s in _neural_engine(shapes, 2048) for p in (*s.inputs, *s.outputs)}
    assert ports["features"] == (1, 512, 16, 288)
    assert ports["har"] == (1, 22, 16, 15_840)
    assert ports["hidden"] == (1, 128, 16, 15_840)
    assert ports["valid_1"] == (1, 1, 16, 2_880)
    assert ports["own_2"] == (1, 1, 16, 15_840)
    assert ports["curves"] == (1, 2, 1, 2048)


def test_examples_are_ones_of_the_ports_type(network: PipelineNetwork) -> None:
    for port in pipeline_stage(network, "Tail", 128).inputs:
        example = port.example()
        assert example.dtype == (torch.int32 if port.dtype == "int32" else torch.float32)
        assert np.all(example.numpy() == 1)
    half = dataclasses.replace(pipeline_stage(network, "Tail", 128).inputs[0], dtype="float16")
    assert half.example().dtype == torch.float32
