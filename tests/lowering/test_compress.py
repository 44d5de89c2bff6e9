"""What the pass stores is what PyTorch computes with dequantised weights, and as small as told."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import coremltools as ct
import numpy as np
import pytest
import torch
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import types
from torch import nn
from torch.nn import functional as F

from kokoro_coreml.compression import (
    Opset,
    Scheme,
    bytes_of,
    dequantise,
    named_by,
    quantise,
    relative_error_db,
)
from kokoro_coreml.compression.sensitivity import replaced
from kokoro_coreml.errors import ConversionError
from kokoro_coreml.executor import Program
from kokoro_coreml.lowering.compress import Choose, CompressWeights, add_compression

EXACT_DB = -100.0
"""Of float32 arithmetic in another order."""
HALF_DB = -55.0
"""Of activations and other constants in half precision; a compressed weight of 8 bits is worse."""

ZERO_POINTS = 64 + 128
"""Bytes of an LSTM weight's zero points in iOS 17; those of its four weights are stored once."""

TOKENS = 12
AXES = {"up.weight": 1, "mix": 1}
"""Output channels of the weights below that have them elsewhere than along axis 0."""


class Net(nn.Module):
    """Every operation whose weights are compressed, one linear layer twice."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(96, 64)
        self.linear = nn.Linear(64, 64)
        self.conv = nn.Conv2d(64, 48, (1, 3), padding=(0, 1))
        self.up = nn.ConvTranspose1d(48, 32, 4, stride=2, padding=1)
        self.lstm = nn.LSTM(32, 32, bidirectional=True, batch_first=True)
        self.mix = nn.Parameter(torch.randn(64, 48) / 8)
        self.small = nn.Linear(48, 40)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.linear(torch.relu(self.linear(self.embedding(ids)))))
        x = self.conv(x.transpose(1, 2)[:, :, None])[:, :, 0]
        x = self.lstm(F.leaky_relu(self.up(x)).transpose(1, 2))[0]
        return self.small(x @ self.mix)


COMPRESSED = (
    *("embedding.weight", "linear.weight", "conv.weight", "up.weight", "mix"),
    *("lstm.weight_ih_l0", "lstm.weight_ih_l0_reverse"),
    *("lstm.weight_hh_l0", "lstm.weight_hh_l0_reverse"),
)


@pytest.fixture(scope="module")
def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture(scope="module")
def traced(net: Net) -> torch.jit.ScriptModule:
    with torch.inference_mode():
        return torch.jit.trace(net, torch.zeros(1, TOKENS, dtype=torch.int32))


def convert(
    traced: torch.jit.ScriptModule, path: Path, ios: int, dtype: str, choose: Choose | None
) -> Program:
    pipeline = ct.PassPipeline.DEFAULT
    if choose is not None:
        add_compression(pipeline, choose)
    model = ct.convert(
        traced,
        convert_to="mlprogram",
        inputs=[ct.TensorType("ids", (1, TOKENS), np.int32)],
        outputs=[ct.TensorType("y", dtype=np.float32)],
        minimum_deployment_target=ct.target[f"iOS{ios}"],
        compute_precision=ct.precision[dtype.upper()],
        pass_pipeline=pipeline,
        skip_model_load=True,
    )
    model.save(str(path))
    return Program.load(path)


@pytest.fixture(scope="module", params=["float16", "float32"])
def dtype(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module", params=[17, 18])
def ios(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture(scope="module")
def plain(
    traced: torch.jit.ScriptModule, tmp_path_factory: pytest.TempPathFactory, ios: int, dtype: str
) -> tuple[Program, int]:
    """The network without compression, and the bytes of its weights."""
    path = tmp_path_factory.mktemp("plain") / "x.mlpackage"
    return convert(traced, path, ios, dtype, None), weight_bytes(path)


def weight_bytes(path: Path) -> int:
    return (path / "Data/com.apple.CoreML/weights/weight.bin").stat().st_size


def dequantised(net: Net, scheme: Scheme, dtype: str) -> dict[str, torch.Tensor]:
    parameters = dict(net.named_parameters())
    return {
        path: torch.from_numpy(
            dequantise(
                quantise(
                    parameters[path].detach().numpy().astype(dtype),
                    scheme,
                    axis=AXES.get(path, 0),
                )
            ).astype(np.float32)
        )
        for path in COMPRESSED
    }


@pytest.mark.parametrize(
    "text", ["int8", "palette8", "palette6", "palette4", "palette2", "palette3", "palette4/16"]
)
def test_package_computes_with_the_dequantised_weights(
    net: Net,
    traced: torch.jit.ScriptModule,
    plain: tuple[Program, int],
    tmp_path: Path,
    ios: int,
    dtype: str,
    text: str,
) -> None:
    scheme = Scheme.parse(text)
    if ios == 17 and text in ("palette3", "palette4/16"):
        with pytest.raises(ConversionError, match="need iOS 18"):
            convert(traced, tmp_path / "x.mlpackage", ios, dtype, lambda *_: scheme)
        return
    name_of = named_by(dict(net.named_parameters()))
    seen: list[str] = []

    def choose(name: str, value: np.ndarray, _axis: int, _opset: Opset) -> Scheme:
        assert value.dtype == dtype
        seen.append(name_of(name, value))
        return scheme

    program = convert(traced, tmp_path / "x.mlpackage", ios, dtype, choose)
    assert sorted(seen) == sorted(COMPRESSED)
    constants = [o for o in program.operations if o.type.startswith("constexpr_")]
    assert len(constants) == len(COMPRESSED)
    ids = np.random.default_rng(0).integers(0, 96, (1, TOKENS)).astype(np.int32)
    found, original = program({"ids": ids})["y"], plain[0]({"ids": ids})["y"]
    with replaced(net, dequantised(net, scheme, dtype)), torch.inference_mode():
        true = net(torch.from_numpy(ids)).numpy()
    bound = EXACT_DB if dtype == "float32" else HALF_DB
    assert relative_error_db(reference=true, candidate=found) <= bound
    assert relative_error_db(reference=original, candidate=found) > HALF_DB
    shared = 3 * ZERO_POINTS if (ios, text) == (17, "int8") else 0
    saved = plain[1] - weight_bytes(tmp_path / "x.mlpackage")
    assert saved == saving(net, scheme, dtype, ios) + shared


def saving(net: Net, scheme: Scheme, dtype: str, ios: int) -> int:
    opset = "iOS18" if ios == 18 else "iOS17"
    shapes = {path: tuple(p.shape) for path, p in net.named_parameters() if path in COMPRESSED}
    return sum(
        bytes_of(None, shape, dtype)
        - bytes_of(scheme, shape, dtype, axis=AXES.get(path, 0), opset=opset)
        for path, shape in shapes.items()
    )


def test_unchosen_weights_stay_and_names_are_paths_in_any_precision(
    traced: torch.jit.ScriptModule, tmp_path: Path
) -> None:
    names: dict[str, list[str]] = {"float16": [], "float32": []}

    for dtype, seen in names.items():

        def choose(
            name: str, _value: np.ndarray, _axis: int, _opset: Opset, seen: list[str] = seen
        ) -> Scheme | None:
            seen.append(name)
            return Scheme("int8") if name == "linear.weight" else None

        program = convert(traced, tmp_path / f"{dtype}.mlpackage", 18, dtype, choose)
        (compressed,) = [o for o in program.operations if o.type.startswith("constexpr_")]
        assert compressed.name.startswith("linear_weight")
        assert compressed.name.endswith("_int8")
    assert sorted(names["float16"]) == sorted(names["float32"])
    assert {"conv.weight", "up.weight", "embedding.weight"} < set(names["float16"])


def test_functions_of_one_package_share_compressed_weights(net: Net, tmp_path: Path) -> None:
    for tokens in (TOKENS, 2 * TOKENS):
        with torch.inference_mode():
            traced = torch.jit.trace(net, torch.zeros(1, tokens, dtype=torch.int32))
        pipeline = ct.PassPipeline.DEFAULT
        add_compression(pipeline, lambda *_: Scheme("palette", 4))
        ct.convert(
            traced,
            inputs=[ct.TensorType("ids", (1, tokens), np.int32)],
            minimum_deployment_target=ct.target.iOS18,
            pass_pipeline=pipeline,
            skip_model_load=True,
        ).save(str(tmp_path / f"{tokens}.mlpackage"))
    single = weight_bytes(tmp_path / f"{TOKENS}.mlpackage")
    merged = ct.utils.MultiFunctionDescriptor()
    for tokens in (TOKENS, 2 * TOKENS):
        merged.add_function(str(tmp_path / f"{tokens}.mlpackage"), "main", f"f{tokens}")
    merged.default_function_name = f"f{TOKENS}"
    ct.utils.save_multifunction(merged, str(tmp_path / "both.mlpackage"))
    assert weight_bytes(tmp_path / "both.mlpackage") <= single + 512
    for tokens in (TOKENS, 2 * TOKENS):
        program = Program.load(tmp_path / "both.mlpackage", f"f{tokens}")
        alone = Program.load(tmp_path / f"{tokens}.mlpackage")
        ids = {"ids": np.arange(tokens, dtype=np.int32)[None]}
        for found, true in zip(program(ids).values(), alone(ids).values(), strict=True):
            np.testing.assert_array_equal(found, true)


def built(body: Callable, *shapes: tuple[int, ...]) -> object:
    specs = [mb.TensorSpec(shape=shape, dtype=types.fp32) for shape in shapes]
    return mb.program(input_specs=specs, opset_version=ct.target.iOS18)(body)


def compressed_types(program: object, scheme: str) -> Mapping[str, object]:
    graph_pass = CompressWeights()
    graph_pass.choose = lambda *_: Scheme.parse(scheme)
    graph_pass.apply(program)
    operations = program.functions["main"].operations
    return {o.op_type: o for o in operations if o.op_type.startswith("constexpr_")}


def floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("constant_first", [False, True])
def test_scales_of_a_matmul_follow_its_output_channels(
    transposed: bool, constant_first: bool
) -> None:
    stored = floats(60, 40)
    rows, columns = stored.shape[::-1] if transposed else stored.shape

    def body(x: object) -> object:
        if constant_first:
            return mb.matmul(x=stored, y=x, transpose_x=transposed)
        return mb.matmul(x=x, y=stored, transpose_y=transposed)

    shape = (columns, 5) if constant_first else (5, rows)
    (operation,) = compressed_types(built(body, shape), "int8").values()
    outputs = rows if constant_first else columns
    assert math.prod(operation.scale.shape) == outputs
    assert operation.scale.shape.index(outputs) == stored.shape.index(outputs)


def test_only_weights_of_known_operations_are_touched() -> None:
    weight, vector = floats(64, 64), floats(4_096)
    kept = {
        "other operation": lambda x: mb.add(x=x, y=weight),
        "also used elsewhere": lambda x: mb.add(x=mb.linear(x=x, weight=(w := const())), y=w),
        "a vector": lambda x: mb.add(x=x, y=mb.reshape(x=vector, shape=(64, 64))),
        "too small": lambda x: mb.linear(x=x, weight=weight[:32]),
    }

    def const() -> object:
        return mb.const(val=weight)

    for body in kept.values():
        assert not compressed_types(built(body, (64, 64)), "int8")
    assert compressed_types(built(lambda x: mb.linear(x=x, weight=weight), (64, 64)), "int8")


def test_a_scheme_that_does_not_fit_names_the_weight(
    traced: torch.jit.ScriptModule, tmp_path: Path
) -> None:
    with pytest.raises(ConversionError, match=r"'.+' of shape \[.*\] .* palette4/7: .*multiple"):
        convert(traced, tmp_path / "x", 18, "float32", lambda *_: Scheme.parse("palette4/7"))


def test_the_pass_needs_a_choice() -> None:
    program = built(lambda x: mb.linear(x=x, weight=floats(64, 64)), (64, 64))
    with pytest.raises(ConversionError, match="add_compression"):
        CompressWeights().apply(program)
