"""A few bytes that ask for any amount of memory: refused before anything is allocated."""

import shutil

import numpy as np
import pytest
import torch
from coremltools.converters.mil import Builder as mb
from hypothesis import given
from hypothesis import strategies as st
from mil_packages import block_of, edit, floats, operation_of, save
from properties import EXAMPLES

from kokoro_coreml.errors import PackageError
from kokoro_coreml.executor import OPS, Program, limits
from kokoro_coreml.executor.limits import declared_elements, max_elements, require_room
from kokoro_coreml.executor.types import MAX_ELEMENTS, OpaqueSpec, TensorSpec

X = floats(1, 2, 3, 4)


def zeros(*shape, dtype=torch.float32):
    return torch.zeros((), dtype=dtype).expand(shape)


WIDE, TALL = zeros(1, 10**6), zeros(10**6, 1)
INDICES = zeros(10**6, dtype=torch.int32)
KERNEL = zeros(1, 1, 3)
SIGNAL = zeros(1, 1, 100)
IMAGE = zeros(1, 1, 9, 9)

ABSURD = [
    ("tile", {"x": X, "reps": (1, 1, 10**9, 1)}),
    ("fill", {"shape": (10**6, 10**6)}),
    ("range_1d", {"start": 0, "end": 2**31 - 1, "step": 1e-3}),
    ("one_hot", {"indices": INDICES, "one_hot_vector_size": 10**6}),
    ("pad", {"x": X, "pad": (0, 10**12)}),
    ("upsample_nearest_neighbor", {"x": IMAGE, "scale_factor_width": 1e12}),
    ("upsample_bilinear", {"x": IMAGE, "scale_factor_height": 1e9, "scale_factor_width": 0.2}),
    ("resize_nearest_neighbor", {"x": IMAGE, "target_size_height": 10**9, "target_size_width": 1}),
    ("resize_bilinear", {"x": IMAGE, "target_size_height": 10**6, "target_size_width": 10**6}),
    ("resize", {"x": IMAGE, "shape": (10**6, 10**6), "resized_dims": 2}),
    ("crop_resize", {"x": IMAGE, "boxes": zeros(9, 4), "target_height": 10**10}),
    ("affine", {"x": IMAGE, "output_height": 10**6, "output_width": 10**6}),
    ("resample", {"x": zeros(1, 10**5, 1, 1), "coordinates": zeros(1, 10**3, 10**3, 2)}),
    ("conv", {"x": SIGNAL, "weight": KERNEL, "pad_type": "custom", "pad": (0, 10**12)}),
    ("conv", {"x": SIGNAL, "weight": KERNEL, "pad_type": "same", "dilations": (10**12,)}),
    ("conv", {"x": zeros(1, 1, 10**6), "weight": zeros(10**6, 1, 1)}),
    ("conv_transpose", {"x": SIGNAL, "weight": KERNEL, "strides": (10**10,)}),
    ("conv_transpose", {"x": SIGNAL, "weight": KERNEL, "output_shape": (1, 1, 10**12)}),
    ("max_pool", {"x": SIGNAL, "kernel_sizes": (3,), "pad_type": "custom", "pad": (10**12, 0)}),
    ("gather", {"x": WIDE, "indices": INDICES}),
    ("gather_nd", {"x": WIDE, "indices": INDICES.reshape(-1, 1)}),
    ("list_gather", {"ls": type("L", (), {"items": (WIDE, None)}), "indices": INDICES}),
    ("concat", {"values": (zeros(2**30),) * 64, "axis": 0}),
    ("stack", {"values": (zeros(2**30),) * 64, "axis": 0}),
    ("sliding_windows", {"x": zeros(10**6), "axis": 0, "size": 5 * 10**5}),
    ("space_to_batch", {"x": IMAGE, "paddings": torch.tensor([[0, 2**31], [0, 2**31]])}),
    ("matmul", {"x": TALL, "y": WIDE}),
    ("matmul", {"x": WIDE, "y": WIDE, "transpose_x": True}),
    ("linear", {"x": TALL, "weight": TALL}),
    ("einsum", {"values": (INDICES, INDICES), "equation": "a,b->ab"}),
    ("scaled_dot_product_attention", {"query": TALL, "key": TALL}),
    ("add", {"x": TALL, "y": WIDE}),
    ("logical_and", {"x": TALL, "y": WIDE}),
    ("select", {"cond": TALL, "a": WIDE, "b": WIDE}),
    ("prelu", {"x": WIDE.reshape(1, 1, -1), "alpha": INDICES}),
    ("quantize", {"input": WIDE, "scale": INDICES, "axis": 0}),
    ("lstm", {"x": zeros(10**6, 10**4, 1), "weight_hh": zeros(4, 1)}),
    ("non_zero", {"x": zeros(2**30, *[1] * 63)}),
    ("non_maximum_suppression", {"boxes": zeros(1, 10**6, 4)}),
    ("constexpr_lut_to_dense", {"indices": INDICES, "lut": zeros(1, 2, 10**6)}),
    ("constexpr_lut_to_dense", {"indices": INDICES, "lut": zeros(2), "shape": (10**9, 10**9)}),
]


@pytest.mark.parametrize(("name", "arguments"), ABSURD, ids=[n for n, _ in ABSURD])
def test_a_result_beyond_the_machine_is_refused(name, arguments):
    arguments = {
        k: torch.tensor(v) if name == "range_1d" or isinstance(v, np.ndarray) else v
        for k, v in arguments.items()
    }
    with pytest.raises(MemoryError, match=r"at most \d+ are allowed on this machine"):
        require_room(name, arguments)


def test_every_operation_whose_size_is_foretold_is_in_the_table_and_tried():
    assert set(limits._FORETOLD) <= set(OPS)
    families = {id(f) for n, f in limits._FORETOLD.items() if n in dict(ABSURD)}
    assert {id(f) for f in limits._FORETOLD.values()} == families


def test_a_result_larger_than_declared_is_refused_and_the_declared_one_is_not():
    arguments = {"x": torch.zeros(3), "reps": (4,)}
    require_room("tile", arguments, 12)
    require_room("tile", arguments, None)
    with pytest.raises(MemoryError, match="12 elements; 11 are declared"):
        require_room("tile", arguments, 11)
    require_room("relu", {"x": torch.zeros(3)}, 0)


def test_a_tensor_made_on_the_way_may_be_larger_than_what_is_declared():
    require_room("resize_bilinear", {"x": IMAGE, "target_size_height": 100}, 100)


@EXAMPLES
@given(memory=st.integers(2**20, 2**45))
def test_the_limit_is_a_quarter_of_the_memory_in_float32(memory):
    pages = {"SC_PHYS_PAGES": memory // 4096, "SC_PAGE_SIZE": 4096}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits.os, "sysconf", pages.__getitem__)
        max_elements.cache_clear()
        assert max_elements() == min(MAX_ELEMENTS, memory // 4096 * 4096 // 16)
        patch.setattr(limits.os, "sysconf", lambda _: (_ for _ in ()).throw(ValueError()))
        max_elements.cache_clear()
        assert max_elements() == MAX_ELEMENTS
    max_elements.cache_clear()


def test_declared_elements_of_several_results():
    one, two = TensorSpec("fp32", (2, 3)), TensorSpec("int32", ())
    assert declared_elements([one, two]) == 7
    assert declared_elements([]) == 0
    assert declared_elements([one, TensorSpec("fp32", (None,))]) is None
    assert declared_elements([one, OpaqueSpec("string")]) is None


def growing(x):
    y = mb.tile(x=x, reps=[1, 1, 1, 2], name="tiled")
    y = mb.pad(x=y, pad=[0, 1], mode="constant", constant_val=0.0)
    y = mb.upsample_nearest_neighbor(x=y, scale_factor_height=2.0, scale_factor_width=1.0)
    y = mb.resize_bilinear(x=y, target_size_height=4, target_size_width=5)
    y = mb.conv(x=y, weight=floats(2, 2, 3, 3), pad_type="custom", pad=[1, 1, 1, 1])
    y = mb.conv_transpose(x=y, weight=floats(2, 2, 2, 2), strides=[2, 2], pad_type="valid")
    shape = mb.concat(values=(mb.shape(x=x), np.array([1], np.int32)), axis=0)
    return y, mb.fill(shape=mb.slice_by_size(x=shape, begin=[2], size=[2]), value=1.0)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return save(growing, [X], tmp_path_factory.mktemp("package") / "m.mlpackage")


@pytest.fixture
def package(original, tmp_path):
    return shutil.copytree(original, tmp_path / "copy.mlpackage")


def set_constant(model, kind, key, values):
    name = operation_of(model, kind).inputs[key].arguments[0].name
    (const,) = [o for o in block_of(model).operations if o.outputs[0].name == name]
    tensor = const.attributes["val"].immediateValue.tensor
    stored = getattr(tensor, tensor.WhichOneof("value")).values
    assert len(stored) == len(values)
    stored[:] = values


CHANGES = [
    ("tile", "reps", [1, 1, 1000, 1]),
    ("pad", "pad", [10**4, 10**4]),
    ("upsample_nearest_neighbor", "scale_factor_height", [1e4]),
    ("resize_bilinear", "target_size_width", [10**4]),
    ("conv", "pad", [10**4, 0, 10**3, 0]),
    ("conv_transpose", "strides", [100, 100]),
]


@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize(("kind", "key", "values"), CHANGES, ids=[c[0] for c in CHANGES])
def test_absurd_parameters_of_a_package_are_refused(
    package, kind, key, values, opened, monkeypatch
):
    monkeypatch.setattr(limits, "max_elements", lambda: 10_000)

    def change(model):
        set_constant(model, kind, key, values)
        if opened:
            for dimension in operation_of(model, kind).outputs[0].type.tensorType.dimensions:
                dimension.unknown.variadic = False

    with pytest.raises(PackageError, match=f"{kind} .* elements; at most 10000 are allowed"):
        Program.load(edit(package, change))({"x": X})


def test_a_slightly_larger_result_than_declared_is_refused_before_it_is_made(package):
    def change(model):
        set_constant(model, "tile", "reps", [1, 1, 1, 3])

    with pytest.raises(PackageError, match=r"tiled.*would have 72 elements; 48 are declared"):
        Program.load(edit(package, change))({"x": X})


def test_the_package_runs_before_it_is_changed(package):
    found = list(Program.load(package)({"x": X}).values())
    assert sorted(f.shape for f in found) == [(1, 2, 8, 10), (3, 4)]


def test_a_weight_where_a_list_of_numbers_belongs(package):
    with pytest.raises(TypeError, match="a list of whole numbers is expected, found int32"):
        OPS["transpose"].parameters["perm"].convert(torch.zeros(2**17, dtype=torch.int32))
    with pytest.raises(TypeError, match="a list of booleans is expected, found bool"):
        OPS["slice_by_index"].parameters["end_mask"].convert(torch.zeros(2**17).bool())
