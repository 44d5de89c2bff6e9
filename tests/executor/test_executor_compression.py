import numpy as np
import pytest
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import types
from mil_packages import close, floats, run
from proofs import NUMPY, proves


def packed(numbers, width):
    """Least significant bits first, as MIL's documentation draws them."""
    bits = [(int(n) >> b) & 1 for n in numbers for b in range(width)]
    bits += [0] * (-len(bits) % 8)
    return np.array(
        [sum(bit << i for i, bit in enumerate(bits[k : k + 8])) for k in range(0, len(bits), 8)],
        np.uint8,
    )


@proves(
    "constexpr_affine_dequantize",
    against=NUMPY,
    over="int8 and uint8; scalar and vector scale and zero point",
)
def test_affine_weights_with_scalar_and_vector_scales():
    x = floats(2, 3)
    rng = np.random.default_rng(0)
    q8 = rng.integers(-128, 128, (4, 3)).astype(np.int8)
    u8 = rng.integers(0, 256, (4, 3)).astype(np.uint8)
    scale, zero = floats(4, low=0.1), np.array([1, -2, 3, 0], np.int8)

    def body(x):
        per_row = mb.constexpr_affine_dequantize(
            quantized_data=q8, zero_point=zero, scale=scale, axis=0
        )
        whole = mb.constexpr_affine_dequantize(
            quantized_data=u8, zero_point=np.uint8(128), scale=np.float32(0.5), axis=0
        )
        return mb.linear(x=x, weight=per_row), mb.linear(x=x, weight=whole)

    per_row, whole = run(body, x, ops=["constexpr_affine_dequantize"])
    close(per_row, x @ ((q8.astype(np.float32) - zero[:, None]) * scale[:, None]).T)
    close(whole, x @ ((u8.astype(np.float32) - 128) * 0.5).T)


@proves(
    "constexpr_lut_to_dense",
    against=NUMPY,
    over="iOS 16: palettes of 1, 2, 4, 6 and 8 bits, packed",
)
@pytest.mark.parametrize("width", [1, 2, 4, 6, 8])
def test_palette_of_every_width(width):
    x, lut = floats(2, 7), floats(2**width, seed=1)
    indices = np.random.default_rng(2).integers(0, 2**width, (5, 7))

    def body(x):
        weight = mb.constexpr_lut_to_dense(
            indices=packed(indices.reshape(-1), width), lut=lut, shape=np.array([5, 7], np.uint32)
        )
        return mb.linear(x=x, weight=weight)

    (found,) = run(body, x, ops=["constexpr_lut_to_dense"])
    close(found, x @ lut[indices].T)


@proves("constexpr_sparse_to_dense", against=NUMPY, over="iOS 16: packed mask")
def test_sparse_weights():
    x, mask = floats(2, 3), np.array([0, 1, 1, 0, 0, 1, 1, 1, 0, 1, 0, 0])
    values = floats(int(mask.sum()), seed=1)

    def body(x):
        weight = mb.constexpr_sparse_to_dense(
            nonzero_data=values, mask=packed(mask, 1), shape=np.array([4, 3], np.uint32)
        )
        return mb.linear(x=x, weight=weight)

    (found,) = run(body, x, ops=["constexpr_sparse_to_dense"])
    dense = np.zeros(12, np.float32)
    dense[mask == 1] = values
    close(found, x @ dense.reshape(4, 3).T)


@proves(
    "constexpr_blockwise_shift_scale",
    "constexpr_lut_to_dense",
    against=NUMPY,
    over="iOS 18: 4-bit blocks with offset, palettes in groups of rows",
)
def test_ios_18_blockwise_and_grouped_palettes():
    x = floats(2, 6)
    rng = np.random.default_rng(0)
    int4 = rng.integers(-8, 8, (4, 6)).astype(np.int8).astype(types.nptype_from_builtin(types.int4))
    index = rng.integers(0, 4, (4, 6)).astype(types.nptype_from_builtin(types.uint2))
    scale, offset = floats(2, 3, low=0.1), rng.integers(-8, 8, (2, 3)).astype(int4.dtype)
    lut = floats(2, 1, 4, 1, seed=5)

    def body(x):
        blockwise = mb.constexpr_blockwise_shift_scale(data=int4, scale=scale, offset=offset)
        grouped = mb.constexpr_lut_to_dense(indices=index, lut=lut)
        return mb.linear(x=x, weight=blockwise), mb.linear(x=x, weight=grouped)

    names = ["constexpr_blockwise_shift_scale", "constexpr_lut_to_dense"]
    blockwise, grouped = run(body, x, ops=names, ios=18)
    spread = lambda p: p.astype(np.float32).repeat(2, 0).repeat(2, 1)  # noqa: E731
    close(blockwise, x @ (spread(scale) * (int4.astype(np.float32) - spread(offset))).T)
    rows = [lut[r // 2, 0, index[r].astype(int), 0] for r in range(4)]
    close(grouped, x @ np.stack(rows).T)


@proves("constexpr_lut_to_dense", against=NUMPY, over="iOS 18: vectors of two")
def test_vector_palette_fills_along_its_axis():
    x, lut = floats(2, 3), floats(1, 1, 2, 2, seed=1)
    index = np.array([[0, 1, 1], [1, 0, 0]]).astype(types.nptype_from_builtin(types.uint1))

    def body(x):
        weight = mb.constexpr_lut_to_dense(indices=index, lut=lut, vector_axis=0)
        return mb.linear(x=x, weight=weight)

    (found,) = run(body, x, ops=["constexpr_lut_to_dense"], ios=18)
    weight = np.empty((4, 3), np.float32)
    for r in range(2):
        for c in range(3):
            weight[2 * r : 2 * r + 2, c] = lut[0, 0, int(index[r, c])]
    close(found, x @ weight.T)


@proves(
    "quantize", "dequantize", "cast", against=NUMPY, over="int8; halves, saturation, zero point"
)
def test_quantize_rounds_half_to_even_and_saturates():
    x = np.array([[0.5, 1.5, 300.0, -300.0]], np.float32)

    def body(x):
        q = mb.quantize(input=x, scale=np.float32(1), zero_point=np.int8(3), output_dtype="int8")
        return mb.cast(x=q, dtype="int32"), mb.dequantize(
            input=q, scale=np.float32(0.5), zero_point=np.int8(3)
        )

    quantized, back = run(body, x, ops=["quantize", "dequantize"])
    assert quantized.tolist() == [[3, 5, 127, -128]]
    close(back, np.array([[0, 1, 62, -65.5]], np.float32))


@proves("add", "mul", against=NUMPY, over="half-precision inputs and constants")
def test_half_precision_weights_and_immediates_are_read_as_raw_bytes():
    x = floats(3, 20).astype(np.float16)
    large, small = floats(20).astype(np.float16), np.float16(0.1)
    found, scaled = run(lambda x: (mb.add(x=x, y=large), mb.mul(x=x, y=small)), x, ops=["add"])
    assert found.dtype == np.float32
    close(found, x.astype(np.float32) + large.astype(np.float32))
    close(scaled, x.astype(np.float32) * np.float32(small))
