"""Constants: what is encoded, packed and compressed here comes back from the decoder."""

import itertools
import math
import struct

import numpy as np
import pytest
import torch
from coremltools.proto import MIL_pb2
from hypothesis import given
from hypothesis import strategies as st
from properties import EXAMPLES, apply, arrays, same, shapes

from kokoro_coreml.errors import PackageError
from kokoro_coreml.executor.package import WeightFile
from kokoro_coreml.executor.types import ELEMENT_TYPES, STRING
from kokoro_coreml.executor.values import decode_value, from_raw, packed_size

SIZES = shapes(low=0, high=3, largest=5, smallest=0)
CODES = {element.name: code for code, element in ELEMENT_TYPES.items()}
IMMEDIATE_FIELDS = {
    "bool": "bools", "fp16": "floats", "fp32": "floats", "fp64": "doubles", "int8": "ints",
    "int16": "ints", "int32": "ints", "int64": "longInts", "uint8": "ints", "uint16": "ints",
    "uint32": "longInts", "int4": "ints", "uint4": "ints", "uint2": "ints", "uint1": "ints",
    "uint6": "ints", "uint3": "ints",
}  # fmt: skip


def pack(values, bits):
    """Bytes of unsigned numbers of `bits` bits, the least significant bit first: one big number."""
    whole = sum(int(v) << (i * bits) for i, v in enumerate(values))
    return whole.to_bytes((len(values) * bits + 7) // 8, "little")


def drawn(data, element, shape):
    if element.name == "bool":
        return data.draw(arrays(shape, st.booleans(), np.bool_))
    if element.storage.kind == "f":
        width = min(element.bits, 32)
        finite = st.floats(width=width, allow_nan=False)
        return data.draw(arrays(shape, finite, element.storage))
    signed = element.storage.kind == "i"
    low = -(1 << (element.bits - 1)) if signed else 0
    high = low + (1 << element.bits) - 1
    return data.draw(arrays(shape, st.integers(low, high), element.storage))


def encode(array, element):
    if element.bits >= 8:
        return array.tobytes()
    return pack((array.astype(np.int64) % (1 << element.bits)).reshape(-1), element.bits)


def carried(array, element):
    return torch.from_numpy(array.astype(np.int64)).to(element.carrier) if (
        element.storage.kind in "iu"
    ) else torch.from_numpy(array.copy()).to(element.carrier)  # fmt: skip


def declare(value, code, shape):
    value.type.tensorType.dataType = code
    value.type.tensorType.rank = len(shape)
    for size in shape:
        value.type.tensorType.dimensions.add().constant.size = size
    return value


def nothing(*_):
    raise AssertionError("an immediate reads no file")


@EXAMPLES
@given(name=st.sampled_from(sorted(CODES)), shape=SIZES, data=st.data())
def test_every_element_type_comes_back_from_raw_bytes(name, shape, data):
    element = ELEMENT_TYPES[CODES[name]]
    array = drawn(data, element, shape)
    raw = encode(array, element)
    assert len(raw) == packed_size(element, array.size)
    found = from_raw(np.frombuffer(bytearray(raw), np.uint8), element, shape)
    assert found.dtype == element.carrier
    assert torch.equal(found, carried(array, element))
    value = declare(MIL_pb2.Value(), CODES[name], shape)
    value.immediateValue.tensor.bytes.values = raw
    assert torch.equal(decode_value(value, nothing, "here"), found)


@EXAMPLES
@given(name=st.sampled_from(sorted(CODES)), shape=SIZES, data=st.data())
def test_every_element_type_comes_back_from_a_typed_immediate(name, shape, data):
    element = ELEMENT_TYPES[CODES[name]]
    array = drawn(data, element, shape)
    value = declare(MIL_pb2.Value(), CODES[name], shape)
    stored = getattr(value.immediateValue.tensor, IMMEDIATE_FIELDS[name])
    stored.SetInParent()
    stored.values.extend(array.reshape(-1).tolist())
    found = decode_value(value, nothing, "here")
    assert found.dtype == element.carrier
    assert torch.equal(found, carried(array, element))
    stored.values.extend(array.reshape(-1).tolist()[:1] or [0])
    with pytest.raises(PackageError, match="values are stored"):
        decode_value(value, nothing, "here")


@EXAMPLES
@given(shape=shapes(low=0, high=2, largest=3), text=st.text(max_size=5), depth=st.integers(0, 3))
def test_strings_lists_and_tuples_come_back(shape, text, depth):
    value = MIL_pb2.Value()
    inner = value
    for level in range(depth):
        kind = ("list", "tuple")[level % 2]
        inner = getattr(inner.immediateValue, kind).values.add()
    declare(inner, STRING, shape)
    words = [f"{text}{i}" for i in range(math.prod(shape))]
    inner.immediateValue.tensor.strings.values.extend(words)
    expected = tuple(words) if shape else words[0]
    for _ in range(depth):
        expected = (expected,)
    assert decode_value(value, nothing, "here") == expected


@EXAMPLES
@given(data=st.data())
def test_every_blob_of_a_weight_file_comes_back(tmp_path_factory, data):
    stored = [e for e in ELEMENT_TYPES.values() if e.blob is not None]
    chosen = data.draw(st.lists(st.sampled_from(stored), min_size=1, max_size=4))
    content, expected = bytearray(struct.pack("<II56x", len(chosen), 2)), []
    for element in chosen:
        array = drawn(data, element, data.draw(shapes(low=1, high=2)))
        raw = encode(array, element)
        offset = len(content)
        unused = 8 * len(raw) - element.bits * array.size
        content += struct.pack("<IIQQQ32x", 0xDEADBEEF, element.blob, len(raw), offset + 64, unused)
        content += raw + bytes(-len(raw) % 64)
        expected.append((offset, array, raw))
    path = tmp_path_factory.mktemp("blobs") / "weight.bin"
    path.write_bytes(content)
    weights = WeightFile(path)
    for element, (offset, array, raw) in zip(chosen, expected, strict=True):
        assert weights.read(offset, element, array.size).tobytes() == raw
        with pytest.raises(PackageError, match="expected for"):
            weights.read(offset, element, array.size + 8)


PALETTE_BITS = st.sampled_from([1, 2, 4, 6, 8])


@EXAMPLES
@given(bits=PALETTE_BITS, shape=shapes(low=1, high=3), data=st.data())
def test_a_flat_packed_palette_is_looked_up(bits, shape, data):
    indices = data.draw(arrays(shape, st.integers(0, 2**bits - 1), np.uint8))
    lut = data.draw(arrays((2**bits,)))
    packed = np.frombuffer(pack(indices.reshape(-1), bits), np.uint8)
    found = apply("constexpr_lut_to_dense", indices=packed, lut=lut, shape=list(shape))
    same(found, lut[indices])


@st.composite
def grouped(draw, ranks=3):
    """A shape, and per dimension the number of groups that divides it."""
    shape = draw(shapes(low=1, high=ranks, largest=6))
    groups = tuple(draw(st.sampled_from([g for g in range(1, n + 1) if n % g == 0])) for n in shape)
    return shape, groups


def group_of(at, shape, groups):
    return tuple(i * g // n for i, n, g in zip(at, shape, groups, strict=True))


@EXAMPLES
@given(case=grouped(), bits=PALETTE_BITS, vector=st.sampled_from([1, 1, 2, 3]), data=st.data())
def test_every_group_has_its_own_palette(case, bits, vector, data):
    shape, groups = case
    indices = data.draw(arrays(shape, st.integers(0, 2**bits - 1), np.uint8))
    lut = data.draw(arrays((*groups, 2**bits, vector)))
    axis = data.draw(st.integers(0, len(shape) - 1))
    wide = tuple(n * vector if d == axis else n for d, n in enumerate(shape))
    expected = np.empty(wide, np.float32)
    for at in np.ndindex(shape):
        for part in range(vector):
            place = tuple(i * vector + part if d == axis else i for d, i in enumerate(at))
            expected[place] = lut[(*group_of(at, shape, groups), indices[at], part)]
    found = apply("constexpr_lut_to_dense", indices=indices, lut=lut,
                  vector_axis=axis if vector > 1 else None)  # fmt: skip
    same(found, expected)


@EXAMPLES
@given(case=grouped(), shifted=st.booleans(), data=st.data())
def test_every_block_has_its_own_scale_and_offset(case, shifted, data):
    shape, groups = case
    values = data.draw(arrays(shape, st.integers(-8, 7), np.int8))
    scale = data.draw(arrays(groups))
    offset = data.draw(arrays(groups, st.integers(-8, 7), np.int8)) if shifted else None
    expected = np.empty(shape, np.float32)
    for at in np.ndindex(shape):
        block = group_of(at, shape, groups)
        expected[at] = scale[block] * (int(values[at]) - (int(offset[block]) if shifted else 0))
    found = apply("constexpr_blockwise_shift_scale", data=values, scale=scale, offset=offset)
    same(found, expected)


@EXAMPLES
@given(shape=shapes(low=1, high=3), data=st.data())
def test_sparse_values_stand_where_the_mask_is_set(shape, data):
    mask = data.draw(arrays(shape, st.integers(0, 1), np.uint8))
    values = data.draw(arrays((int(mask.sum()),)))
    expected = np.zeros(shape, np.float32)
    expected[mask.astype(bool)] = values
    same(apply("constexpr_sparse_to_dense", nonzero_data=values, mask=mask), expected)
    packed = np.frombuffer(pack(mask.reshape(-1), 1), np.uint8)
    found = apply("constexpr_sparse_to_dense", nonzero_data=values, mask=packed, shape=list(shape))
    same(found, expected)


@EXAMPLES
@given(shape=shapes(low=1, high=3), data=st.data())
def test_affine_values_are_shifted_and_scaled_along_one_axis(shape, data):
    axis = data.draw(st.integers(0, len(shape) - 1))
    count = (shape[axis],) if data.draw(st.booleans()) else ()
    values = data.draw(arrays(shape, st.integers(-128, 127), np.int8))
    zero = data.draw(arrays(count, st.integers(-128, 127), np.int8))
    scale = data.draw(arrays(count))
    view = [-1 if d == axis else 1 for d in range(len(shape))] if count else ()
    expected = (values.astype(np.float32) - zero.reshape(view)) * scale.reshape(view)
    found = apply("constexpr_affine_dequantize", quantized_data=values, zero_point=zero,
                  scale=scale, axis=axis)  # fmt: skip
    same(found, expected.astype(np.float32))


def test_every_width_unpacks_every_value_at_every_position():
    for element in ELEMENT_TYPES.values():
        if element.bits >= 8:
            continue
        low = -(1 << (element.bits - 1)) if element.storage.kind == "i" else 0
        every = [low + v for v in range(1 << element.bits)]
        values = list(itertools.islice(itertools.cycle(every), 8 * len(every) + 5))
        raw = encode(np.array(values), element)
        found = from_raw(np.frombuffer(bytearray(raw), np.uint8), element, (len(values),))
        assert found.tolist() == values
