"""Hostile manifests, model files and weight files: refused with a reason, never a hang."""

import gc
import json
import os
import shutil
import socket
import struct
from pathlib import Path

import numpy as np
import pytest
from coremltools.converters.mil import Builder as mb
from coremltools.proto import MIL_pb2, Model_pb2
from hostile_packages import model_path, weight_path
from mil_packages import block_of, edit, floats, operation_of, save

from kokoro_coreml.errors import PackageError
from kokoro_coreml.executor import Package, Program
from kokoro_coreml.executor.package import MAX_MANIFEST_BYTES, MAX_MODEL_BYTES, WeightFile
from kokoro_coreml.executor.types import BY_NAME

X = floats(2, 6)
WEIGHTS = [floats(4, 6, seed=1), floats(4, 6, seed=2)]
linux = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="reads /proc")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    def body(x):
        one, two = (mb.linear(x=x, weight=w) for w in WEIGHTS)
        return mb.gelu(x=mb.mul(x=one, y=two), mode="EXACT", name="the_output")

    return save(body, [X], tmp_path_factory.mktemp("package") / "m.mlpackage")


@pytest.fixture
def package(original, tmp_path):
    return shutil.copytree(original, tmp_path / "copy.mlpackage")


def run(package):
    return Program.load(package)({"x": X})["the_output"]


def refuses(package, match):
    with pytest.raises(PackageError, match=match):
        run(package)


def manifest(package, root, entries):
    text = json.dumps({"rootModelIdentifier": root, "itemInfoEntries": entries})
    (package / "Manifest.json").write_text(text)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["pipe", "folder", "socket"])
@pytest.mark.parametrize("place", ["manifest", "model", "weights"])
def test_what_is_not_a_regular_file_is_refused_and_does_not_hang(package, place, kind, monkeypatch):
    path = {
        "manifest": package / "Manifest.json",
        "model": model_path(package),
        "weights": weight_path(package),
    }[place]
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        monkeypatch.chdir(path.parent)  # a socket's path may not be long
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind(path.name)
    refuses(package, f"{path.name}: cannot be read .not a regular file")


@pytest.mark.parametrize("place", ["manifest", "model", "weights"])
@pytest.mark.parametrize("target", ["/dev/zero", "/etc/passwd", "/proc/self/mem", "../../other"])
def test_links_that_lead_out_of_the_package_are_refused(package, place, target):
    path = {
        "manifest": package / "Manifest.json",
        "model": model_path(package),
        "weights": weight_path(package),
    }[place]
    path.unlink()
    path.symlink_to(target if target.startswith("/") else package.parent.parent / "other")
    refuses(package, "leads out of the package")


def test_a_link_to_itself_and_a_link_inside_the_package(package, tmp_path):
    weights = weight_path(package)
    moved = weights.rename(weights.with_name("moved.bin"))
    weights.symlink_to(moved.name)
    expected = run(package)
    weights.unlink()
    weights.symlink_to(weights.name)
    refuses(package, "not a path|cannot be read")
    weights.unlink()
    moved.rename(weights)
    (tmp_path / "link.mlpackage").symlink_to(package)
    np.testing.assert_array_equal(run(tmp_path / "link.mlpackage"), expected)


@pytest.mark.parametrize(
    ("root", "entries", "match"),
    [
        (0, [], "names no root model"),
        (0, "text", "names no root model"),
        ("a", {"a": {"path": "\ud800"}}, "not a path"),
        ("a", {"a": {"path": "x" * 5000}}, "not a path|cannot be read"),
        ("a", {"a": {"path": "."}}, "not a regular file"),
        ("a", {"a": {"path": ""}}, "not a regular file"),
        ("a", {"a": {"path": "com.apple.CoreML/../../../up"}}, "leads out of the package"),
        ("a", {"a": {"path": "nothing"}}, "cannot be read"),
        ("a", {"a": {"path": None}}, "path is None"),
        (None, {None: {"path": "x"}}, "names no root model"),
    ],
)
def test_a_manifest_that_names_no_file(package, root, entries, match):
    manifest(package, root, entries)
    refuses(package, match)


@pytest.mark.parametrize(
    "text",
    ["[" * 10**5, '{"rootModelIdentifier": ' + "9" * 5000 + "}", "\xff\xfe", "NaN", '"\\ud8"'],
)
def test_a_manifest_that_is_no_json(package, text):
    (package / "Manifest.json").write_bytes(text.encode("latin-1"))
    refuses(package, "not valid JSON|names no root model")


@pytest.mark.parametrize(
    ("place", "limit"), [("Manifest.json", MAX_MANIFEST_BYTES), ("model.mlmodel", MAX_MODEL_BYTES)]
)
def test_a_file_beyond_its_limit_is_not_read(package, place, limit):
    (path,) = package.rglob(place)
    with path.open("r+b") as file:
        file.truncate(limit + 1)
    refuses(package, f"{limit + 1} bytes found, at most {limit} expected")


def test_a_model_cut_short_anywhere_is_refused(package):
    path = model_path(package)
    whole = path.read_bytes()
    for size in {*range(0, len(whole), 37), *range(40), len(whole) - 1}:
        path.write_bytes(whole[:size])
        with pytest.raises(PackageError):
            run(package)
    path.write_bytes(whole)
    assert run(package).shape == (2, 4)


def test_a_weight_file_cut_short_anywhere_is_refused(package):
    path = weight_path(package)
    whole = path.read_bytes()
    assert len(whole) == 64 + 2 * (64 + 128) - 32
    for size in range(0, len(whole), 4):
        path.write_bytes(whole[:size])
        refuses(package, "truncated|cannot be read|overlap|not inside")
    path.write_bytes(whole)
    assert run(package).shape == (2, 4)


@pytest.mark.parametrize(
    ("place", "value", "match"),
    [
        (80, 0, "overlaps a header"),
        (80, 64, "overlaps a header"),
        (80, 2**64 - 64, "not inside the file"),
        (80, 2**64 - 1, "not inside the file"),
        (72, 2**64 - 1, "18446744073709551615 bytes stored, 96 expected"),
        (72, 0, "0 bytes stored"),
        (88, 1, "1 bits unused, 0 expected"),
        (88, 2**64 - 1, "bits unused, 0 expected"),
    ],
)
def test_a_blob_whose_metadata_lies(package, place, value, match):
    path = weight_path(package)
    raw = bytearray(path.read_bytes())
    struct.pack_into("<Q", raw, place, value)
    path.write_bytes(raw)
    refuses(package, match)


def test_data_before_its_own_metadata_must_not_reach_into_it(package):
    path = weight_path(package)
    raw = bytearray(path.read_bytes())
    second = 64 + 64 + 128
    struct.pack_into("<Q", raw, second + 16, second - 64)  # 96 bytes from 64 before: 32 too many
    path.write_bytes(raw)
    refuses(package, "overlaps a header")


def test_the_header_is_not_taken_for_a_blob(package):
    path = weight_path(package)
    raw = bytearray(path.read_bytes())
    struct.pack_into("<IIQQQ", raw, 0, 0xDEADBEEF, 2, 96, 128, 0)
    path.write_bytes(raw)

    def change(model):
        operation_of(model, "const").attributes["val"].blobFileValue.offset = 0

    refuses(edit(package, change), "blob at 0: not the place of a blob")


def test_blobs_that_share_their_bytes_are_refused(tmp_path):
    """Else a small file could be decoded into any number of large tensors."""
    count = 8
    path = tmp_path / "weight.bin"
    data = 64 + 64 * count
    header = struct.pack("<II56x", count, 2)
    metadata = struct.pack("<IIQQQ32x", 0xDEADBEEF, 1, 2000, data, 0)
    path.write_bytes(header + metadata * count + bytes(2048))
    weights = WeightFile(path)
    assert weights.read(64, BY_NAME["fp16"], 1000).size == 2000
    assert weights.read(64, BY_NAME["fp16"], 1000).size == 2000
    with pytest.raises(PackageError, match=r"2 blobs read so far take \d+ bytes.*they overlap"):
        weights.read(128, BY_NAME["fp16"], 1000)


def test_a_weight_beyond_four_gigabytes_is_found(tmp_path):
    path = tmp_path / "weight.bin"
    far = 5 * 2**30
    values = np.arange(6, dtype="<f4")
    with path.open("wb") as file:
        file.write(struct.pack("<II", 1, 2))
        file.seek(far)
        file.write(struct.pack("<IIQQQ", 0xDEADBEEF, 2, values.nbytes, far + 64, 0))
        file.seek(far + 64)
        file.write(values.tobytes())
    found = WeightFile(path).read(far, BY_NAME["fp32"], 6)
    np.testing.assert_array_equal(found.view("<f4"), values)


def test_a_weight_file_of_absurd_size_is_an_error(tmp_path):
    path = tmp_path / "weight.bin"
    try:
        with path.open("wb") as file:
            file.write(struct.pack("<II", 0, 2))
            file.truncate(2**43)
    except OSError:
        pytest.skip("this file system has no files of 8 TB")
    try:
        WeightFile(path)
    except PackageError as error:
        assert "cannot be read" in str(error)  # noqa: PT017 a large address space may map it


def test_single_precision_weights_are_mapped_and_a_blob_is_decoded_once(package):
    loaded = Package.load(package)
    offset = operation_of(loaded.model, "const").attributes["val"].blobFileValue.offset
    name = "@model_path/weights/weight.bin"
    one = loaded.read_blob(name, offset, BY_NAME["fp32"], (4, 6))
    (file,) = loaded._files.values()
    mapped = file._bytes
    first, last = mapped.ctypes.data, mapped.ctypes.data + mapped.size
    assert first <= one.data_ptr() < last
    assert loaded.read_blob(name, offset, BY_NAME["fp32"], (24,)).data_ptr() == one.data_ptr()
    with pytest.raises(PackageError, match="blob type 2, but the program declares fp16"):
        loaded.read_blob(name, offset, BY_NAME["fp16"], (4, 6))
    with pytest.raises(PackageError, match="96 bytes stored, 92 expected"):
        loaded.read_blob(name, offset, BY_NAME["fp32"], (23,))


def test_writing_to_a_mapped_weight_leaves_the_file_alone(package):
    before = weight_path(package).read_bytes()
    loaded = Package.load(package)
    offset = operation_of(loaded.model, "const").attributes["val"].blobFileValue.offset
    weight = loaded.read_blob("@model_path/weights/weight.bin", offset, BY_NAME["fp32"], (4, 6))
    weight.zero_()
    assert weight_path(package).read_bytes() == before


def test_two_packages_may_share_a_weight_file(package, tmp_path):
    expected = run(package)
    other = shutil.copytree(package, tmp_path / "other.mlpackage")
    weight_path(other).unlink()
    os.link(weight_path(package), weight_path(other))
    one, two = Program.load(package), Program.load(other)
    for program in (one, two, one):
        np.testing.assert_array_equal(program({"x": X})["the_output"], expected)


@linux
def test_files_are_closed_when_a_program_is_gone(package):
    def opened():
        gc.collect()
        return sum(
            os.path.realpath(descriptor).startswith(str(package))
            for descriptor in Path("/proc/self/fd").iterdir()
        )

    program = Program.load(package)
    assert opened() <= 1
    del program
    assert opened() == 0


def declare(value_type, code, *dimensions):
    value_type.tensorType.dataType = code
    value_type.tensorType.rank = len(dimensions)
    del value_type.tensorType.dimensions[:]
    for size in dimensions:
        value_type.tensorType.dimensions.add().constant.size = size


@pytest.mark.parametrize(
    ("code", "match"),
    [
        (0, "UNUSED_TYPE"),
        (13, "bfloat16 is not supported: no operation set takes it"),
        (34, "uint64 is not supported"),
        (40, "fp8e4m3fn is not supported"),
        (41, "fp8e5m2"),
        (99, "number 99 is unknown; known are bool, fp16"),
        (-1, "number -1 is unknown"),
    ],
)
def test_an_element_type_that_is_unknown_is_named(package, code, match):
    def change(model):
        operation_of(model, "mul").outputs[0].type.tensorType.dataType = code

    refuses(edit(package, change), match)


@pytest.mark.parametrize(
    ("dimensions", "match"),
    [
        ((2**64 - 1,), "more than .* elements"),
        ((2**33, 2**33), "more than .* elements"),
        ((0, 2**64 - 1), "more than .* elements"),
        ((0, 2**31, 2**31), "more than .* elements"),
        ((1,) * 65, "rank 65 is above"),
        ((), "is declared fp32.. but is"),
        ((2, 4, 1), "is declared fp32.2, 4, 1. but is"),
    ],
)
def test_absurd_declared_shapes(package, dimensions, match):
    def change(model):
        declare(operation_of(model, "mul").outputs[0].type, MIL_pb2.FLOAT32, *dimensions)

    refuses(edit(package, change), match)


def test_a_weight_with_no_elements_and_an_absurd_dimension(package):
    def change(model):
        value = operation_of(model, "const").attributes["val"]
        declare(value.type, MIL_pb2.FLOAT32, 0, 2**62)
        value.immediateValue.tensor.floats.SetInParent()

    refuses(edit(package, change), "more than .* elements")


def immediate(model, code, field, values, *dimensions):
    """Make the second weight an immediate of this type, kept in this field."""
    consts = [o for o in block_of(model).operations if o.type == "const"]
    weight = next(o for o in consts if o.attributes["val"].WhichOneof("value") == "blobFileValue")
    value = weight.attributes["val"]
    declare(value.type, code, *dimensions)
    stored = getattr(value.immediateValue.tensor, field)
    stored.SetInParent()
    if field == "bytes":
        stored.values = values
    else:
        stored.values.extend(values)


@pytest.mark.parametrize(
    ("code", "field", "values", "dimensions", "match"),
    [
        (MIL_pb2.FLOAT32, "strings", ["a"], (1,), "stored in the field strings"),
        (MIL_pb2.FLOAT32, "ints", [1], (1,), "stored in the field ints"),
        (MIL_pb2.INT32, "floats", [1.0], (1,), "stored in the field floats"),
        (MIL_pb2.BOOL, "ints", [1], (1,), "stored in the field ints"),
        (MIL_pb2.STRING, "floats", [1.0], (), "a string is declared, found the field floats"),
        (MIL_pb2.STRING, "strings", [], (), "shape .. are declared, 0 are stored"),
        (MIL_pb2.STRING, "strings", ["a", "b"], (), "shape .. are declared, 2 are stored"),
        (MIL_pb2.STRING, "strings", ["a", "b"], (3,), "shape .3. are declared, 2 are stored"),
        (MIL_pb2.STRING, "strings", ["a"], (2**40,), "more than .* elements"),
        (MIL_pb2.INT32, "ints", [1, 2], (3,), "declared int32.3., but 2 values are stored"),
        (MIL_pb2.INT32, "ints", [], (2**31,), "but 0 values are stored"),
        (MIL_pb2.INT32, "longInts", [2**40], (1,), "a value does not fit int32"),
        (MIL_pb2.UINT8, "ints", [-1], (1,), "a value does not fit uint8"),
        (MIL_pb2.INT4, "ints", [8], (1,), "a value does not fit int4"),
        (MIL_pb2.UINT3, "ints", [8], (1,), "a value does not fit uint3"),
        (MIL_pb2.FLOAT16, "bytes", b"123", (2,), "takes 4 bytes, but 3 are stored"),
        (MIL_pb2.UINT1, "bytes", b"1", (9,), "takes 2 bytes, but 1 are stored"),
    ],
)
def test_immediates_that_are_not_what_is_declared(package, code, field, values, dimensions, match):
    change = lambda model: immediate(model, code, field, values, *dimensions)  # noqa: E731
    refuses(edit(package, change), match)


def test_a_number_where_a_string_is_wanted_and_the_reverse(package, tmp_path):
    def number(model):
        operation_of(model, "gelu").inputs["mode"].arguments[0].name = "x"

    def text(model):
        inputs = operation_of(model, "gelu").inputs
        inputs["x"].arguments[0].name = inputs["mode"].arguments[0].name

    copy = shutil.copytree(package, tmp_path / "text.mlpackage")
    refuses(edit(package, number), "a string is expected, found Tensor")
    refuses(edit(copy, text), "a tensor is expected, found str")


@pytest.mark.parametrize("kind", ["tuple", "list"])
@pytest.mark.parametrize("depth", [10, 30])
def test_nested_values_are_read_or_refused_but_never_too_deep(package, kind, depth):
    def change(model):
        value = operation_of(model, "const").attributes["val"]
        for _ in range(depth):
            value = getattr(value.immediateValue, kind).values.add()
        declare(value.type, MIL_pb2.INT32)
        value.immediateValue.tensor.ints.values.append(1)

    path = model_path(package)
    model = Model_pb2.Model.FromString(path.read_bytes())
    change(model)
    path.write_bytes(model.SerializeToString())
    refuses(package, "not a Core ML model|is declared|but is tuple")


def test_types_nested_beyond_what_the_format_allows(package):
    inner = MIL_pb2.ValueType()
    declare(inner, MIL_pb2.INT32)
    for _ in range(200):
        outer = MIL_pb2.ValueType()
        outer.stateType.wrappedType.CopyFrom(inner)
        inner = outer

    def change(model):
        operation_of(model, "mul").outputs[0].type.CopyFrom(inner)

    path = model_path(package)
    model = Model_pb2.Model.FromString(path.read_bytes())
    change(model)
    path.write_bytes(model.SerializeToString())
    refuses(package, "not a Core ML model|is not supported")


@pytest.mark.parametrize("opset", ["CoreML" + "9" * 5000, "CoreML\u0667", "CoreML4", "CoreML"])
def test_an_operation_set_that_is_no_version(package, opset):
    def change(model):
        function = model.mlProgram.functions["main"]
        function.block_specializations[opset].CopyFrom(block_of(model))
        function.opset = opset

    refuses(edit(package, change), "is unknown; expected CoreML5 to CoreML9")


def test_a_model_of_a_few_hundred_kilobytes_cannot_hold_a_million_operations(package):
    """Two bytes hold an empty operation, which takes a thousand times as much once read."""
    place = MIL_pb2.Block.DESCRIPTOR.fields_by_name["operations"].number << 3 | 2
    block = bytes([place, 0]) * 250_000
    refuses(edit(package, lambda model: block_of(model).MergeFromString(block)), "more than 200000")


def test_duplicate_names_cycles_and_missing_outputs(package, tmp_path):
    def twice(model):
        operation_of(model, "mul").outputs[0].name = "linear_0"

    def cycle(model):
        operation_of(model, "linear").inputs["x"].arguments[0].name = "mul_0"

    def lost(model):
        block_of(model).outputs[0] = "nowhere"

    def none(model):
        del block_of(model).outputs[:]

    for number, (change, match) in enumerate(
        (
            (twice, "which is empty or taken"),
            (cycle, "reads 'mul_0' before it is defined"),
            (lost, "'nowhere' is not defined"),
            (none, "has the outputs .'the_output'., but function 'main' has .."),
        )
    ):
        copy = shutil.copytree(package, tmp_path / f"{number}.mlpackage")
        refuses(edit(copy, change), match)
