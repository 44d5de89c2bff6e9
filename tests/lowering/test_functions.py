"""Merged packages execute as their parts do, hold each weight once, and agree with coremltools'."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import pytest
from coremltools.converters.mil import Builder as mb
from coremltools.models.utils import MultiFunctionDescriptor, save_multifunction
from coremltools.optimize.coreml import (
    OpPalettizerConfig,
    OptimizationConfig,
    palettize_weights,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kokoro_coreml.bundle import normalise_package
from kokoro_coreml.executor import Package, Program
from kokoro_coreml.executor.package import WeightFile
from kokoro_coreml.executor.types import BY_NAME
from kokoro_coreml.executor.values import packed_size
from kokoro_coreml.lowering import functions
from kokoro_coreml.lowering.functions import merge_functions
from kokoro_coreml.lowering.weights_file import WeightFileWriter
from tests.lowering.merging import (
    DATE,
    MODEL,
    SHARED,
    WEIGHTS,
    blobs,
    change,
    merged,
    model,
    require_equal_execution,
    save,
    save_source,
    snapshot,
)


def test_every_function_executes_to_the_bits_of_its_single_package(
    packages: dict[str, Path], tmp_path: Path
) -> None:
    require_equal_execution(packages, merged(packages, tmp_path))


def test_compressed_weights_are_shared_and_execute_to_the_same_bits(
    compressed: dict[str, Path], tmp_path: Path
) -> None:
    out = merged(compressed, tmp_path)
    require_equal_execution(compressed, out)
    # A palette, its indices, int4 data and their scale, and the zeros that are both biases.
    assert blobs(out) == 5
    kinds = {o.type for o in Program.load(out, "rows_2").operations}
    assert {"constexpr_lut_to_dense", "constexpr_blockwise_shift_scale"} <= kinds


def test_a_package_compressed_by_coremltools_merges(tmp_path: Path) -> None:
    made: dict[str, Path] = {}
    for n in (2, 5):
        plain = save(lambda x: mb.linear(x=x, weight=SHARED, name="y"), n, tmp_path / "p.mlpackage")
        config = OpPalettizerConfig(mode="uniform", nbits=4, weight_threshold=10)
        smaller = palettize_weights(
            ct.models.MLModel(str(plain), skip_model_load=True), OptimizationConfig(config)
        )
        shutil.rmtree(plain)
        made[f"rows_{n}"] = tmp_path / f"{n}.mlpackage"
        smaller.save(str(made[f"rows_{n}"]))
    out = merged(made, tmp_path)
    require_equal_execution(made, out)
    assert blobs(out) == blobs(made["rows_2"])
    assert "constexpr_lut_to_dense" in {o.type for o in Program.load(out, "rows_5").operations}


def test_states_are_described_and_work(tmp_path: Path) -> None:
    import torch

    class Sum(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("total", torch.zeros(3, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.total.add_(x)  # type: ignore[operator]
            return self.total * 2  # type: ignore[operator]

    with torch.inference_mode():
        traced = torch.jit.trace(Sum().eval(), torch.zeros(3, 4))  # type: ignore[no-untyped-call]
    single = save_source(
        traced,
        tmp_path / "sum.mlpackage",
        inputs=[ct.TensorType(name="x", shape=(3, 4))],
        states=[ct.StateType(ct.TensorType(shape=(3, 4), dtype=np.float16), name="total")],
    )
    program = Program.load(merged({"sum": single}, tmp_path), "sum")
    state, one = program.make_state(), np.ones((3, 4), np.float32)
    program({"x": one}, state=state)
    program({"x": one}, state=state)
    np.testing.assert_array_equal(state.read("total"), 2 * one)


def test_shared_weights_are_stored_once(packages: dict[str, Path], tmp_path: Path) -> None:
    out = merged(packages, tmp_path)
    parts = [(packages[name] / WEIGHTS).stat().st_size for name in ("rows_2", "rows_5")]
    own = 64 + 2 * 64 * 4  # metadata and data of what the smaller one does not share
    assert (out / WEIGHTS).stat().st_size <= max(parts) + own
    assert blobs(out) == 5  # SHARED, its transpose, zeros of a bias, and one of each function


def test_one_package_may_stand_for_several_functions(
    packages: dict[str, Path], tmp_path: Path
) -> None:
    twice = {"one": packages["rows_2"], "two": packages["rows_2"]}
    (tmp_path / "single").mkdir()
    single = merged({"one": packages["rows_2"]}, tmp_path / "single")
    out = merged(twice, tmp_path)
    require_equal_execution(twice, out)
    assert (out / WEIGHTS).read_bytes() == (single / WEIGHTS).read_bytes()


def test_a_single_package_becomes_a_package_of_one_function(
    packages: dict[str, Path], tmp_path: Path
) -> None:
    alone = {"alone": packages["rows_5"]}
    out = merged(alone, tmp_path)
    require_equal_execution(alone, out)
    assert list(Package.load(out).program.functions) == ["alone"]


def test_without_any_weight_no_weight_file_is_made(
    packages: dict[str, Path], tmp_path: Path
) -> None:
    plain = {"plain": packages["plain"]}
    out = merged(plain, tmp_path)
    require_equal_execution(plain, out)
    assert (out / WEIGHTS).parent.is_dir()
    assert not (out / WEIGHTS).exists()


def test_what_no_program_refers_to_is_left_out(packages: dict[str, Path], tmp_path: Path) -> None:
    copy = shutil.copytree(packages["rows_2"], tmp_path / "copy.mlpackage")
    with WeightFileWriter(tmp_path / "weight.bin") as writer:
        writer.place(2, memoryview(bytes(4096)), 0)
    extra = (tmp_path / "weight.bin").read_bytes()[64:]
    whole = (copy / WEIGHTS).read_bytes()
    (copy / WEIGHTS).write_bytes(whole + bytes(-len(whole) % 64) + extra)
    (tmp_path / "clean").mkdir()
    clean = merged({"one": packages["rows_2"]}, tmp_path / "clean")
    assert snapshot(merged({"one": copy}, tmp_path)) == snapshot(clean)


def test_nothing_in_the_programs_changes_but_offsets(
    packages: dict[str, Path], tmp_path: Path
) -> None:
    program = model(merged(packages, tmp_path)).mlProgram
    for name, single in packages.items():
        before, after = model(single).mlProgram.functions["main"], program.functions[name]
        for function in (before, after):
            for value in functions._values_in_files(function):
                value.blobFileValue.offset = 0
        assert after == before
    assert program.version == 1
    assert "buildInfo" in program.attributes


def by_content(path: Path) -> Any:
    """The model of a package in which weights are named by content in place of their offsets."""
    found = model(path)
    raw = (path / WEIGHTS).read_bytes()
    for value in functions._values_in_files(found.mlProgram):
        metadata = raw[(at := value.blobFileValue.offset) : at + 64]
        size, start = (int.from_bytes(metadata[i : i + 8], "little") for i in (8, 16))
        content = metadata[4:8] + metadata[24:32] + raw[start : start + size]
        value.blobFileValue.offset = int.from_bytes(hashlib.sha256(content).digest()[:8], "little")
    return found


def merged_by_coremltools(packages: Mapping[str, Path], folder: Path) -> Path:
    out = folder / "theirs.mlpackage"
    descriptor = MultiFunctionDescriptor()
    for name, path in packages.items():
        descriptor.add_function(str(path), "main", name)
    descriptor.default_function_name = next(iter(packages))
    save_multifunction(descriptor, str(out))
    return out


@pytest.mark.parametrize("which", ["straight", "compressed"])
def test_the_result_is_that_of_coremltools(
    which: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    given: dict[str, Path] = request.getfixturevalue(which)
    ours, theirs = merged(given, tmp_path), merged_by_coremltools(given, tmp_path)
    found, expected = by_content(ours), by_content(theirs)
    for left_out in (found.description.metadata, found.mlProgram.attributes["buildInfo"]):
        assert left_out.ByteSize()
    found.description.ClearField("metadata")
    found.mlProgram.ClearField("attributes")
    assert found == expected
    assert blobs(ours) == blobs(theirs)
    assert (ours / WEIGHTS).stat().st_size == (theirs / WEIGHTS).stat().st_size
    names = {str(p.relative_to(theirs)) for p in theirs.rglob("*")}
    assert {str(p.relative_to(ours)) for p in ours.rglob("*")} == names
    require_equal_execution(given, theirs)


def test_nested_blocks_execute_as_coremltools_has_them_and_share_more(
    packages: dict[str, Path], tmp_path: Path
) -> None:
    ours, theirs = merged(packages, tmp_path), merged_by_coremltools(packages, tmp_path)
    require_equal_execution(packages, theirs)
    assert blobs(ours) < blobs(theirs)  # which stores the weights of every block anew


def test_the_description_names_functions_in_order_and_keeps_the_metadata(
    packages: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "merged.mlpackage"
    merge_functions(packages, out, default="rows_5")
    description = model(out).description
    assert [f.name for f in description.functions] == list(packages)
    assert description.defaultFunctionName == "rows_5"
    assert (len(description.input), len(description.output)) == (0, 0)
    assert description.metadata == model(packages["rows_5"]).description.metadata


def test_equal_inputs_give_equal_bytes(packages: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    copies = {
        name: shutil.copytree(path, tmp_path / f"{name}.mlpackage")
        for name, path in packages.items()
    }
    for copy in copies.values():  # map fields are written in any order
        (copy / MODEL).write_bytes(model(copy).SerializeToString())
    one, two = merged(packages, tmp_path / "one"), merged(copies, tmp_path / "two")
    assert snapshot(one) == snapshot(two)


def test_weights_keep_the_order_of_their_file(compressed: dict[str, Path], tmp_path: Path) -> None:
    def swap(changed: Any) -> None:
        first, second = (
            changed.mlProgram.functions["main"].block_specializations["CoreML8"].operations[:2]
        )
        kept = type(first).FromString(first.SerializeToString())
        first.CopyFrom(second)
        second.CopyFrom(kept)

    (tmp_path / "straight").mkdir()
    single = compressed["rows_2"]
    straight = merged({"one": single}, tmp_path / "straight")
    swapped = merged({"one": change(single, tmp_path / "copy.mlpackage", swap)}, tmp_path)
    assert (swapped / WEIGHTS).read_bytes() == (straight / WEIGHTS).read_bytes()


def test_a_merged_package_can_be_normalised(packages: dict[str, Path], tmp_path: Path) -> None:
    out = merged(packages, tmp_path)
    normalise_package(out)
    once = snapshot(out)
    normalise_package(out)
    assert snapshot(out) == once
    assert DATE not in model(out).description.metadata.userDefined
    require_equal_execution(packages, out)


def test_coremltools_reads_a_merged_package(packages: dict[str, Path], tmp_path: Path) -> None:
    out = merged(packages, tmp_path)
    read = ct.models.MLModel(str(out), skip_model_load=True, function_name="rows_5")
    assert read.get_spec().description.defaultFunctionName == "rows_2"


ELEMENTS = ("fp16", "fp32", "int8", "uint8", "int4", "uint1", "uint3", "int32")


@st.composite
def stored(draw: st.DrawFn) -> tuple[str, int, bytes]:
    """Few distinct bytes, so that equal ones of several types and lengths are common."""
    name = draw(st.sampled_from(ELEMENTS))
    count = draw(st.integers(0, 12))
    size = packed_size(BY_NAME[name], count)
    return name, count, bytes([draw(st.integers(0, 1))]) * size


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(stored(), min_size=1, max_size=30))
def test_blobs_are_shared_if_type_bytes_and_padding_are_equal(
    tmp_path_factory: pytest.TempPathFactory, given: list[tuple[str, int, bytes]]
) -> None:
    path = tmp_path_factory.mktemp("blobs") / "weight.bin"
    places, identities = [], []
    with WeightFileWriter(path) as writer:
        for name, count, content in given:
            element = BY_NAME[name]
            assert element.blob is not None
            unused = 8 * len(content) - element.bits * count
            places.append(writer.place(element.blob, memoryview(content), unused))
            identities.append((element.blob, content, unused))
    file = WeightFile(path)
    for (name, count, content), place in zip(given, places, strict=True):
        assert file.read(place, BY_NAME[name], count).tobytes() == content
    assert len(set(places)) == len(set(identities))
    assert len(set(zip(places, identities, strict=True))) == len(set(places))
    assert int.from_bytes(path.read_bytes()[:4], "little") == len(set(places))


def retype(code: int, factor: int) -> Callable[[Any], None]:
    """Declare all float32 weights of a model as another type, of `factor` times the elements."""

    def edit(changed: Any) -> None:
        for value in functions._values_in_files(changed.mlProgram):
            value.type.tensorType.dataType = code
            value.type.tensorType.dimensions[-1].constant.size *= factor

    return edit


def test_equal_bytes_of_another_type_are_not_merged(
    packages: dict[str, Path], tmp_path: Path
) -> None:
    single = packages["rows_2"]
    other = change(single, tmp_path / "other.mlpackage", retype(10, 2))  # fp16
    raw = bytearray((other / WEIGHTS).read_bytes())
    for offset in {
        v.blobFileValue.offset for v in functions._values_in_files(model(other).mlProgram)
    }:
        raw[offset + 4] = 1
    (other / WEIGHTS).write_bytes(raw)
    assert blobs(merged({"one": single, "two": other}, tmp_path)) == 2 * 4
