"""What an app sees of a package: described arrays, their flexible shapes, and the program's own."""

import coremltools as ct
import numpy as np
import pytest
import torch
from coremltools.converters.mil import Builder as mb
from coremltools.models.utils import MultiFunctionDescriptor, save_multifunction
from coremltools.proto import Model_pb2
from mil_packages import convert, floats, save

from kokoro_coreml.errors import PackageError
from kokoro_coreml.executor.interface import DescribedArray, check_interface
from kokoro_coreml.executor.package import Package
from kokoro_coreml.executor.types import OpaqueSpec, TensorSpec

FP32, FP16 = 0x10020, 0x10010


def feature(*shape, code=FP32, name="x"):
    described = Model_pb2.FeatureDescription(name=name)
    described.type.multiArrayType.shape.extend(shape)
    described.type.multiArrayType.dataType = code
    return described


def ranged(default, *ranges, code=FP32):
    described = feature(*default, code=code)
    for lower, upper in ranges:
        described.type.multiArrayType.shapeRange.sizeRanges.add(lowerBound=lower, upperBound=upper)
    return described


def enumerated(default, *shapes):
    described = feature(*default)
    for shape in shapes:
        described.type.multiArrayType.enumeratedShapes.shapes.add(shape=shape)
    return described


def read(described):
    return DescribedArray.read(described, "input")


@pytest.mark.parametrize(
    ("described", "text", "admitted", "refused"),
    [
        (feature(1, 64), "float32 [1, 64]", [(1, 64)], [(1, 63), (64,), (1, 64, 1), (64, 1), ()]),
        (feature(1), "float32 [1]", [(1,), ()], [(2,), (1, 1)]),
        (feature(4, code=FP16), "float16 [4]", [(4,)], [(3,)]),
        (feature(), "float32 of any shape", [(), (1,), (3, 4)], []),
        (
            ranged((1, 8, 64), (1, 1), (3, 128), (64, 64)),
            "float32 [1, 3..128, 64]",
            [(1, 3, 64), (1, 128, 64), (1, 50, 64)],
            [(1, 2, 64), (1, 129, 64), (2, 50, 64), (1, 50), (1, 50, 65)],
        ),
        (
            ranged((1, 8), (1, 1), (2, -1)),
            "float32 [1, 2..]",
            [(1, 2), (1, 10**9)],
            [(1, 1), (2, 2)],
        ),
        (
            enumerated((1, 128), (1, 64), (1, 128)),
            "float32 one of [1, 64], [1, 128]",
            [(1, 64), (1, 128)],
            [(1, 65), (1, 96), (64, 1), (1,)],
        ),
        (
            enumerated((0,), *((n,) for n in range(10))),
            "float32 one of [0], [1], [2], [3], [4], [5], [6], [7], and 2 more",
            [(9,)],
            [(10,)],
        ),
    ],
)
def test_a_described_array_says_which_shapes_it_admits(described, text, admitted, refused):
    array = read(described)
    assert str(array) == text
    assert [s for s in admitted if not array.admits(s)] == []
    assert [s for s in refused if array.admits(s)] == []
    for shape in admitted:
        array.require(shape)
    for shape in refused:
        with pytest.raises(PackageError, match="input 'x': the model description allows"):
            array.require(shape)


@pytest.mark.parametrize(
    ("described", "match"),
    [
        (Model_pb2.FeatureDescription(name="x"), "described as nothing"),
        (feature(4, code=0), "array type 0x0, which is unknown"),
        (feature(-1), "the shape .-1., which no array has"),
        (feature(*[1] * 65), "which no array has"),
        (ranged((4,), (5, 9)), r"default shape \[4\] is not allowed by \[5..9\]"),
        (ranged((), (5, 3)), "the shape .5..3., which no array has"),
        (ranged((), (2**64 - 1, 2**63 - 1)), "which no array has"),
        (enumerated((4,), (4,), (-4,)), "which no array has"),
        (enumerated((4,), (5,), (6,)), "is not allowed by one of"),
        (enumerated((4,), ()), "which no array has"),
    ],
)
def test_a_contradictory_description_is_refused(described, match):
    with pytest.raises(PackageError, match=match):
        read(described)


def test_an_empty_choice_of_shapes_is_refused():
    described = feature(4)
    described.type.multiArrayType.enumeratedShapes.SetInParent()
    with pytest.raises(PackageError, match="enumerates no shape"):
        read(described)


@pytest.mark.parametrize("kind", ["imageType", "dictionaryType", "stringType", "sequenceType"])
def test_other_kinds_of_input_are_refused_by_name(kind):
    described = Model_pb2.FeatureDescription(name="x")
    getattr(described.type, kind).SetInParent()
    with pytest.raises(PackageError, match=f"described as {kind}"):
        read(described)


def description(*inputs, output=None, states=()):
    made = Model_pb2.ModelDescription(input=inputs, output=[output or feature(name="y")])
    for state in states:
        added = made.state.add(name=state.name)
        added.type.stateType.arrayType.CopyFrom(state.type.multiArrayType)
    return made


def compare(described, shape, dtype="fp32"):
    check_interface(
        description(described), "main", {"x": TensorSpec(dtype, shape)}, {"y": OpaqueSpec("list")}
    )


@pytest.mark.parametrize(
    ("described", "shape"),
    [
        (feature(1, 64), (1, 64)),
        (feature(1, 64), (1, None)),
        (feature(1), ()),
        (feature(), (3, None)),
        (ranged((1, 8), (1, 1), (3, 128)), (1, None)),
        (enumerated((1, 8), (1, 8), (1, 9)), (1, None)),
    ],
)
def test_a_description_the_program_can_keep_is_accepted(described, shape):
    compare(described, shape)


@pytest.mark.parametrize(
    ("described", "shape", "dtype"),
    [
        (feature(1, 64), (1, 65), "fp32"),
        (feature(1, 64), (64,), "fp32"),
        (feature(1, 64), (1, 64), "fp16"),
        (feature(1, 64), (1, 64), "bool"),
        (feature(2), (), "fp32"),
        (ranged((1, 8), (1, 1), (3, 128)), (1, 8), "fp32"),
        (ranged((1, 8), (1, 2), (3, 128)), (1, None), "fp32"),
        (ranged((1, 8), (1, 1), (3, 128)), (1, None, 4), "fp32"),
        (enumerated((1, 8), (1, 8), (1, 9)), (1, 8), "fp32"),
    ],
)
def test_a_description_the_program_cannot_keep_is_refused(described, shape, dtype):
    with pytest.raises(PackageError, match=r"the model description says .*, the program"):
        compare(described, shape, dtype)


def test_names_of_inputs_outputs_and_states_must_agree():
    specs = {"x": TensorSpec("fp32", (4,))}
    check = check_interface
    good = description(feature(4), output=feature(4, name="y"), states=[feature(4, name="s")])
    outputs = {"y": TensorSpec("fp32", (4,))}
    assert check(good, "main", specs, outputs, {"s": specs["x"]})["x"].admits((4,))
    for inputs, given, states, match in (
        ({**specs, "z": specs["x"]}, outputs, None, "has the inputs .'x'., but .* has .'x', 'z'."),
        (specs, {"z": specs["x"]}, None, "has the outputs .'y'., but function 'main' has .'z'."),
        (specs, outputs, {}, "has the states .'s'., but function 'main' has .."),
        (specs, outputs, {"t": specs["x"]}, "has the states"),
        (specs, outputs, {"s": TensorSpec("fp32", (5,))}, "state 's': the model description says"),
        (specs, outputs, {"s": TensorSpec("fp16", (4,))}, "state 's': the model description says"),
    ):
        with pytest.raises(PackageError, match=match):
            check(good, "main", inputs, given, states)


def test_a_feature_described_twice_is_refused():
    twice = description(feature(4), feature(4))
    with pytest.raises(PackageError, match="has the inputs"):
        check_interface(twice, "main", {"x": TensorSpec("fp32", (4,))}, {"y": OpaqueSpec("list")})


def test_a_message_does_not_list_thousands_of_names():
    many = description(*(feature(name=f"x{i}") for i in range(1000)))
    with pytest.raises(PackageError, match=r"and 992 more, but function 'main' has \[\]") as caught:
        check_interface(many, "main", {}, {})
    assert len(str(caught.value)) < 300


def test_a_state_must_be_described_as_one():
    made = description(feature(4))
    made.state.add(name="s").type.multiArrayType.shape.append(4)
    with pytest.raises(PackageError, match="state 's' is described as multiArrayType"):
        check_interface(
            made, "main", {"x": TensorSpec("fp32", (4,))}, {"y": OpaqueSpec("list")},
            {"s": TensorSpec("fp16", (4,))},
        )  # fmt: skip


@pytest.mark.parametrize(
    ("code", "field", "value", "expected"),
    [
        (FP32, "floatDefaultValue", 0.5, 0.5),
        (FP32, "doubleDefaultValue", 2.0, 2.0),
        (0x20020, "intDefaultValue", 7, 7),
        (0x20020, "floatDefaultValue", 7.0, 7),
        (0x20020, "floatDefaultValue", 7.5, PackageError),
        (0x20008, "intDefaultValue", 128, PackageError),
        (0x20020, "floatDefaultValue", float("nan"), PackageError),
        (0x20020, "doubleDefaultValue", float("inf"), PackageError),
    ],
)
def test_the_default_of_an_optional_input(code, field, value, expected):
    described = feature(2, 3, code=code)
    setattr(described.type.multiArrayType, field, value)
    described.type.isOptional = True
    if expected is PackageError:
        with pytest.raises(PackageError, match=r"default .* is not an int"):
            read(described)
        return
    found = read(described).default_array()
    assert found.dtype == read(described).numpy_dtype
    np.testing.assert_array_equal(found, np.full((2, 3), expected))
    described.type.isOptional = False
    assert read(described).default_array() is None


class Double(torch.nn.Module):
    def forward(self, x):
        return x * 2


TRACED = torch.jit.trace(Double(), torch.zeros(1, 4, 8))


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ((1, 4, 8), "float16 [1, 4, 8]"),
        (
            ct.EnumeratedShapes([[1, 4, 8], [1, 4, 16]], default=[1, 4, 16]),
            "float16 one of [1, 4, 16], [1, 4, 8]",
        ),
        (
            ct.Shape((1, ct.RangeDim(2, 9, default=4), ct.RangeDim(1, 100, default=8))),
            "float16 [1, 2..9, 1..100]",
        ),
    ],
)
def test_the_description_of_converted_packages(tmp_path, shape, text):
    kind = ct.TensorType(name="x", shape=shape, dtype=np.float16)
    package = Package.load(convert(TRACED, tmp_path / "m.mlpackage", inputs=[kind]))
    assert str(read(package.model.description.input[0])) == text


def test_an_optional_input_of_a_converted_package(tmp_path):
    default = np.full((1, 4, 8), 3, np.int32)
    kind = ct.TensorType(name="x", shape=default.shape, dtype=np.int32, default_value=default)
    package = Package.load(convert(TRACED, tmp_path / "m.mlpackage", inputs=[kind]))
    np.testing.assert_array_equal(
        read(package.model.description.input[0]).default_array(), default, strict=True
    )


def test_each_function_of_a_package_has_its_own_description(tmp_path):
    descriptor = MultiFunctionDescriptor()
    for width in (4, 6):
        path = tmp_path / f"{width}.mlpackage"
        save(lambda x: mb.relu(x=x, name="y"), [floats(1, width)], path, ios=18)
        descriptor.add_function(str(path), "main", f"f{width}")
    descriptor.default_function_name = "f4"
    save_multifunction(descriptor, str(tmp_path / "both.mlpackage"))
    described = Package.load(tmp_path / "both.mlpackage").model.description
    for width in (4, 6):
        spec = TensorSpec("fp32", (1, width))
        found = check_interface(described, f"f{width}", {"x": spec}, {"y": spec}, {})
        assert str(found["x"]) == f"float32 [1, {width}]"
        with pytest.raises(PackageError, match="the model description says"):
            check_interface(described, f"f{10 - width}", {"x": spec}, {"y": spec})
    with pytest.raises(PackageError, match=r"0 functions named 'main'; it has \['f4', 'f6'\]"):
        check_interface(described, "main", {}, {})
    described.functions[1].name = "f4"
    with pytest.raises(PackageError, match="2 functions named 'f4'"):
        check_interface(described, "f4", {}, {})
