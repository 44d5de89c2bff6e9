"""Corrupt, truncated and hostile packages: a clear error each time, never a crash."""

import contextlib
import json
import shutil
import struct

import numpy as np
import pytest
from coremltools.converters.mil import Builder as mb
from coremltools.proto import MIL_pb2
from hypothesis import given, settings
from hypothesis import strategies as st
from mil_packages import block_of, edit, floats, operation_of, save

from kokoro_coreml.errors import PackageError
from kokoro_coreml.executor import Program

X = floats(1, 3, 20)
WEIGHT = floats(4, 3, 5, seed=1)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    def body(x):
        y = mb.conv(x=x, weight=WEIGHT, pad_type="custom", pad=[2, 2], name="the_conv")
        return mb.softmax(x=mb.concat(values=(y, y), axis=1), axis=-1, name="the_output")

    return save(body, [X], tmp_path_factory.mktemp("package") / "m.mlpackage")


@pytest.fixture
def package(original, tmp_path):
    return shutil.copytree(original, tmp_path / "copy.mlpackage")


def weights(package):
    return package / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"


def refuses(package, match):
    with pytest.raises(PackageError, match=match):
        Program.load(package)({"x": X})


def test_the_package_runs_before_it_is_damaged(package):
    found = Program.load(package)({"x": X})["the_output"]
    np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-5)


def test_missing_folder_and_missing_manifest(package, tmp_path):
    refuses(tmp_path / "nothing.mlpackage", "Manifest.json: cannot be read")
    (package / "Manifest.json").unlink()
    refuses(package, "Manifest.json: cannot be read")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", "not valid JSON"),
        ("[]", "names no root model"),
        ("{}", "names no root model"),
        ('{"rootModelIdentifier": [], "itemInfoEntries": {}}', "names no root model"),
        ('{"rootModelIdentifier": "a", "itemInfoEntries": {"a": {"path": 3}}}', "path is 3"),
        (
            '{"rootModelIdentifier": "a", "itemInfoEntries": {"a": {"path": "../../up"}}}',
            "leads out of the package",
        ),
        (
            '{"rootModelIdentifier": "a", "itemInfoEntries": {"a": {"path": "/etc/passwd"}}}',
            "leads out of the package",
        ),
        (
            '{"rootModelIdentifier": "a", "itemInfoEntries": {"a": {"path": "x\\u0000"}}}',
            "not a path",
        ),
    ],
)
def test_broken_manifest(package, text, match):
    (package / "Manifest.json").write_text(text)
    refuses(package, match)


def test_missing_model_and_garbage_model(package):
    identifier = json.loads((package / "Manifest.json").read_text())["rootModelIdentifier"]
    assert identifier
    model = package / "Data" / "com.apple.CoreML" / "model.mlmodel"
    model.write_bytes(b"\xff" * 400)
    refuses(package, "not a Core ML model")
    model.write_bytes(b"")
    refuses(package, "expected an ML Program .* found None")
    model.unlink()
    refuses(package, "cannot be read")


def test_missing_weight_file(package):
    weights(package).unlink()
    refuses(package, "weight.bin: cannot be read")


@pytest.mark.parametrize("size", [0, 10, 64, 100, 128, 200])
def test_truncated_weight_file(package, size):
    path = weights(package)
    path.write_bytes(path.read_bytes()[:size])
    refuses(package, "truncated|cannot be read")


@pytest.mark.parametrize(
    ("place", "form", "value", "match"),
    [
        (4, "<I", 1, "storage version 1"),
        (64, "<I", 0xDEAD, "no blob here"),
        (68, "<I", 1, "stored as blob type 1, but the program declares fp32"),
        (72, "<Q", 12, "12 bytes stored, 240 expected"),
        (72, "<Q", 2**63, "bytes stored"),
        (80, "<Q", 2**40, "not inside the file"),
        (80, "<Q", 130, "not inside the file"),
        (80, "<Q", 2**64 - 64, "not inside the file"),
        (88, "<Q", 9, "bytes stored"),
    ],
)
def test_damaged_weight_metadata(package, place, form, value, match):
    path = weights(package)
    raw = bytearray(path.read_bytes())
    struct.pack_into(form, raw, place, value)
    path.write_bytes(raw)
    refuses(package, match)


@pytest.mark.parametrize("offset", [63, 128, 2**20, 2**64 - 1])
def test_weight_offset_that_leads_nowhere(package, offset):
    def change(model):
        operation_of(model, "const").attributes["val"].blobFileValue.offset = offset

    refuses(edit(package, change), "blob")


def test_weight_file_outside_the_package(package):
    def change(model):
        blob = operation_of(model, "const").attributes["val"].blobFileValue
        blob.fileName = "@model_path/../../../../etc/passwd"

    refuses(edit(package, change), "leads out of the package")


def test_every_missing_operation_is_named_before_anything_runs(package):
    def change(model):
        operation_of(model, "softmax").type = "brand_new"
        operation_of(model, "concat").type = "random_normal"

    with pytest.raises(PackageError) as caught:
        Program.load(edit(package, change))
    message = str(caught.value)
    assert "2 of" in message
    assert "brand_new 'the_output': not in the operator table" in message
    assert "random_normal 'concat_0': random results cannot be reproduced" in message


def test_declared_shape_that_is_not_what_the_operation_gives(package):
    def change(model):
        kind = operation_of(model, "conv").outputs[0].type.tensorType
        kind.dimensions[1].constant.size = 5

    refuses(
        edit(package, change),
        r"conv 'the_conv': 'the_conv' is declared fp32\[1, 5, 20\] but is float32\[1, 4, 20\]",
    )


def test_declared_type_that_is_not_what_the_operation_gives(package):
    def change(model):
        operation_of(model, "conv").outputs[0].type.tensorType.dataType = MIL_pb2.INT32

    refuses(edit(package, change), r"declared int32\[1, 4, 20\] but is float32")


def test_weight_declared_with_another_shape(package):
    def change(model):
        const = operation_of(model, "const")
        const.attributes["val"].type.tensorType.dimensions[0].constant.size = 8

    refuses(edit(package, change), "240 bytes stored, 480 expected")


@pytest.mark.parametrize("size", [2**40, 2**63])
def test_absurd_shape_is_refused_before_memory_is_taken(package, size):
    def change(model):
        operation_of(model, "conv").outputs[0].type.tensorType.dimensions[2].constant.size = size

    refuses(edit(package, change), "more than .* elements")


def test_half_precision_immediate_stored_as_floats_is_rounded(package):
    def change(model):
        conv = operation_of(model, "conv")
        number = conv.inputs["bias"].arguments.add().value
        number.type.tensorType.dataType = MIL_pb2.FLOAT16
        number.type.tensorType.rank = 1
        number.type.tensorType.dimensions.add().constant.size = 4
        number.immediateValue.tensor.floats.values.extend([0.1] * 4)

    before = Program.load(package)({"x": X}, capture=["the_conv"])["the_conv"]
    after = Program.load(edit(package, change))({"x": X}, capture=["the_conv"])["the_conv"]
    np.testing.assert_allclose(after - before, np.float32(np.float16(0.1)), atol=1e-6)


def test_immediate_with_too_few_values(package):
    def change(model):
        for o in block_of(model).operations:
            if o.outputs[0].name == "the_conv_pad_0":
                o.attributes["val"].immediateValue.tensor.ints.values.pop()

    refuses(edit(package, change), "declared int32.2., but 1 values are stored")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            lambda o: o.inputs["x"].arguments[0].__setattr__("name", "nowhere"),
            "before it is defined",
        ),
        (lambda o: o.inputs["x"].arguments[0].__setattr__("name", "the_output"), "before it is"),
        (lambda o: o.inputs["x"].arguments.add(name="x"), "takes one value, 2 are bound"),
        (lambda o: o.inputs["other"].arguments.add(name="x"), "has no parameter 'other'"),
        (lambda o: o.inputs.pop("weight"), "required 'weight' is not bound"),
        (lambda o: o.outputs.add(name="x").type.CopyFrom(o.outputs[0].type), "is empty or taken"),
        (
            lambda o: o.outputs.add(name="new").type.CopyFrom(o.outputs[0].type),
            "declares 2 results",
        ),
        (lambda o: o.outputs[0].ClearField("type"), "no type is declared"),
        (lambda o: o.outputs[0].type.tensorType.__setattr__("dataType", 40), "fp8e4m3fn"),
        (lambda o: o.outputs[0].type.tensorType.__setattr__("rank", 2), "rank is declared as 2"),
        (lambda o: o.outputs[0].type.tensorType.__setattr__("rank", -1), "open rank"),
        (
            lambda o: o.inputs["strides"].arguments[0].__setattr__("name", "the_conv_pad_0"),
            "failed",
        ),
        (lambda o: o.inputs["pad_type"].arguments[0].__setattr__("name", "x"), "failed"),
    ],
)
def test_inconsistent_operations(package, change, match):
    refuses(edit(package, lambda model: change(operation_of(model, "conv"))), match)


def test_wrong_opset_output_and_description(package, tmp_path):
    for number, (change, match) in enumerate(
        (
            (lambda m: m.mlProgram.functions["main"].__setattr__("opset", "Other"), "unknown"),
            (lambda m: m.mlProgram.functions["main"].__setattr__("opset", "CoreML5"), "no block"),
            (lambda m: block_of(m).outputs.append("nowhere"), "'nowhere' is not defined"),
            (lambda m: m.description.output[0].__setattr__("name", "b"), "model description"),
            (
                lambda m: m.description.input[0].type.multiArrayType.shape.__setitem__(2, 7),
                "the model description says",
            ),
            (lambda m: m.mlProgram.functions.pop("main"), "no function 'main'"),
        )
    ):
        copy = shutil.copytree(package, tmp_path / f"{number}.mlpackage")
        refuses(edit(copy, change), match)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_damaged_byte_gives_an_error_or_a_result_but_no_crash(original, data):
    path = original / "Data" / "com.apple.CoreML" / "model.mlmodel"
    intact = path.read_bytes()
    damaged = bytearray(intact)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(damaged)
    try:
        with contextlib.suppress(PackageError):
            Program.load(original)({"x": X})
    finally:
        path.write_bytes(intact)
