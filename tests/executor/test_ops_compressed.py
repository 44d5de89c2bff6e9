"""Compressed constants: every form the iOS 16 and 18 sets have, alone and chained.

Expected weights come from coremltools' own decompressors, which it uses when it reads a package
back, or from the dense weights that its compressors were given.
"""

import coremltools as ct
import coremltools.optimize.coreml as cto
import numpy as np
import pytest
import torch
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import types
from mil_packages import call, close, floats, run
from proofs import DECOMPRESSOR, FROM_TORCH, NUMPY, converted_from, proves
from torch import nn

from kokoro_coreml.executor import Program

X = floats(3, 8)


def whole(name, *shape, seed=0):
    """Random numbers over the range of a type below 8 bits or of 8."""
    signed = name.startswith("int")
    bits = int(name.strip("uint"))
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
    numbers = np.random.default_rng(seed).integers(low, high, shape)
    kind = types.nptype_from_builtin(getattr(types, name))
    return numbers.astype(np.int8 if signed else np.uint8).astype(kind)


def weight_of(body, ios):
    """What the executor makes of a constant [6, 8] weight, and what coremltools makes of it."""
    seen = {}

    def model(x):
        weight = body()
        seen["weight"] = weight
        return mb.linear(x=x, weight=weight)

    identity = np.eye(8, dtype=np.float32)
    (found,) = run(model, identity, ios=ios)
    return found.T, seen["weight"].op.materialized_val_inference()


def blocks(*groups, data="int8", offset=False, seed=0):
    def body():
        values = whole(data, 6, 8, seed=seed)
        options = {"offset": whole(data, *groups, seed=seed + 2)} if offset else {}
        scale = floats(*groups, seed=seed + 1, low=0.1)
        return mb.constexpr_blockwise_shift_scale(data=values, scale=scale, **options)

    return body


def palette(bits, *groups, vector=1, axis=None):
    def body():
        shape = [6, 8]
        if axis is not None:
            shape[axis] //= vector
        options = {} if axis is None else {"vector_axis": axis}
        lut = floats(*groups, 2**bits, vector, seed=bits)
        return mb.constexpr_lut_to_dense(indices=whole(f"uint{bits}", *shape), lut=lut, **options)

    return body


MASK = np.random.default_rng(5).integers(0, 2, (6, 8))
COUNT = int(MASK.sum())


def mask_of(array):
    return array.astype(types.nptype_from_builtin(types.uint1))


def sparse(data):
    def body():
        values = floats(COUNT) if data == "fp32" else whole(data, COUNT)
        return mb.constexpr_sparse_to_dense(nonzero_data=values, mask=mask_of(MASK))

    return body


def sparse_blocks(*groups, data="int8", offset=False):
    def body():
        options = {"offset": whole(data, *groups, seed=2)} if offset else {}
        mask, values = mb.constexpr_sparse_blockwise_shift_scale(
            data_mask=mask_of(MASK),
            nonzero_data=whole(data, COUNT),
            scale=floats(*groups, seed=1, low=0.1),
            **options,
        )
        return mb.constexpr_sparse_to_dense(nonzero_data=values, mask=mask)

    return body


def sparse_palette(bits, *groups, vector=1, axis=None):
    def body():
        mask, options = MASK, {}
        if axis is not None:
            mask = np.take(MASK, range(0, (6, 8)[axis], vector), axis)
            options = {"vector_axis": axis}
        mask, values = mb.constexpr_lut_to_sparse(
            indices_mask=mask_of(mask),
            indices_nonzero_data=whole(f"uint{bits}", int(mask.sum())),
            lut=floats(*groups, 2**bits, vector, seed=3),
            **options,
        )
        return mb.constexpr_sparse_to_dense(nonzero_data=values, mask=mask)

    return body


def palette_of_whole_numbers():
    """A palette of int8 entries, which are scaled afterwards."""
    indices = mb.constexpr_lut_to_dense(
        indices=whole("uint4", 6, 8), lut=whole("int8", 1, 1, 16, 1, seed=1)
    )
    return mb.constexpr_blockwise_shift_scale(data=indices, scale=floats(6, 1, seed=2))


def scaled_palette():
    """A palette whose entries are themselves compressed."""
    lut = mb.constexpr_blockwise_shift_scale(
        data=whole("int8", 2, 1, 4, 1), scale=floats(2, 1, 1, 1, seed=1)
    )
    return mb.constexpr_lut_to_dense(indices=whole("uint2", 6, 8), lut=lut)


def sparse_palette_of_whole_numbers():
    mask, values = mb.constexpr_lut_to_sparse(
        indices_mask=mask_of(MASK),
        indices_nonzero_data=whole("uint4", COUNT),
        lut=whole("int8", 1, 1, 16, 1, seed=1),
    )
    mask, values = mb.constexpr_sparse_blockwise_shift_scale(
        data_mask=mask, nonzero_data=values, scale=floats(1, 8, seed=2)
    )
    return mb.constexpr_sparse_to_dense(nonzero_data=values, mask=mask)


def case(ops, over, body):
    names = tuple(f"constexpr_{op}" for op in ops.split())
    marks = proves(*names, against=DECOMPRESSOR, over=f"iOS 18: {over}")
    return pytest.param(body, id=f"{ops}: {over}", marks=marks)


BLOCKS = "blockwise_shift_scale"
CASES = [
    *(
        case(BLOCKS, f"{data}, {groups[0]} by {groups[1]} blocks, offset {offset}", body)
        for data in ("int4", "uint4", "int8", "uint8")
        for groups in ((1, 1), (6, 1), (2, 4), (6, 8))
        for offset in (False, True)
        for body in [blocks(*groups, data=data, offset=offset)]
    ),
    *(case("lut_to_dense", f"{b} bits", palette(b, 1, 1)) for b in (1, 2, 3, 4, 6, 8)),
    case("lut_to_dense", "groups along both axes", palette(2, 3, 4)),
    case("lut_to_dense", "vectors of 2 along axis 0", palette(4, 1, 1, vector=2, axis=0)),
    case("lut_to_dense", "vectors of 4 along axis 1, groups", palette(3, 2, 1, vector=4, axis=1)),
    case("lut_to_dense", "vectors along axis -1", palette(1, 1, 2, vector=2, axis=-1)),
    case("sparse_to_dense", "fp32", sparse("fp32")),
    *(
        case(f"sparse_{BLOCKS} sparse_to_dense", f"{d}, {g[0]} by {g[1]}, offset {o}", body)
        for d, g, o in (
            ("int8", (1, 1), False),
            ("uint8", (6, 1), True),
            ("int4", (1, 8), False),
            ("uint4", (2, 4), True),
        )
        for body in [sparse_blocks(*g, data=d, offset=o)]
    ),
    *(
        case("lut_to_sparse sparse_to_dense", f"{b} bits", sparse_palette(b, 1, 1))
        for b in (1, 2, 3, 4, 6, 8)
    ),
    case("lut_to_sparse sparse_to_dense", "groups", sparse_palette(2, 2, 4)),
    case("lut_to_sparse", "vectors along axis 0", sparse_palette(2, 1, 1, vector=2, axis=0)),
    case("lut_to_sparse", "vectors along axis 1", sparse_palette(1, 3, 1, vector=4, axis=1)),
    case(f"lut_to_dense {BLOCKS}", "an int8 palette, then scaled", palette_of_whole_numbers),
]


@pytest.mark.parametrize("body", CASES)
def test_weight_is_what_coremltools_decompresses(body):
    found, expected = weight_of(body, 18)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@proves(
    "constexpr_blockwise_shift_scale",
    "constexpr_lut_to_dense",
    against=NUMPY,
    over="iOS 18: palette entries that are compressed themselves",
)
def test_palette_with_scaled_entries():
    model = lambda x: mb.linear(x=x, weight=scaled_palette())  # noqa: E731
    (found,) = run(model, np.eye(8, dtype=np.float32), ios=18)
    lut = whole("int8", 2, 1, 4, 1).astype("f4") * floats(2, 1, 1, 1, seed=1)
    indices = whole("uint2", 6, 8).astype(int)
    rows = [lut[r // 3, 0, indices[r], 0] for r in range(6)]
    np.testing.assert_allclose(found.T, np.stack(rows), rtol=1e-6)


@proves(
    "constexpr_lut_to_sparse",
    "constexpr_sparse_blockwise_shift_scale",
    "constexpr_sparse_to_dense",
    against=NUMPY,
    over="iOS 18: sparse, an int8 palette, then scaled",
)
def test_sparse_palette_of_whole_numbers():
    model = lambda x: mb.linear(x=x, weight=sparse_palette_of_whole_numbers())  # noqa: E731
    (found,) = run(model, np.eye(8, dtype=np.float32), ios=18)
    expected = np.zeros((6, 8), np.float32)
    lut = whole("int8", 1, 1, 16, 1, seed=1).astype("f4").reshape(16)
    expected[MASK == 1] = lut[whole("uint4", COUNT).astype(int)]
    np.testing.assert_allclose(found.T, expected * floats(1, 8, seed=2), rtol=1e-6)


@proves("constexpr_cast", against=NUMPY, over="iOS 16 and 18: half to single precision")
@pytest.mark.parametrize("ios", [16, 18])
def test_cast_constant(ios):
    half = floats(6, 8).astype(np.float16)
    body = lambda: mb.constexpr_cast(source_val=half, output_dtype="fp32")  # noqa: E731
    found, expected = weight_of(body, ios)
    np.testing.assert_array_equal(found, half.astype(np.float32))
    np.testing.assert_array_equal(expected, half.astype(np.float32))


def packed(numbers, width):
    """As coremltools packs: least significant bits first."""
    bits = (np.asarray(numbers).reshape(-1, 1) >> np.arange(width)) & 1
    return np.packbits(bits.reshape(-1).astype(np.uint8), bitorder="little")


IOS_16 = [
    pytest.param(body, id=f"{op}: {over}", marks=proves(op, against=DECOMPRESSOR, over=over))
    for op, over, body in (
        (
            "constexpr_affine_dequantize",
            "iOS 16: axis 1, scale along it, one zero point",
            lambda: mb.constexpr_affine_dequantize(
                quantized_data=whole("uint8", 6, 8),
                zero_point=np.uint8(7),
                scale=floats(8, seed=1),
                axis=1,
            ),
        ),
        (
            "constexpr_lut_to_dense",
            "iOS 16: 6 bits, padded bytes",
            lambda: mb.constexpr_lut_to_dense(
                indices=packed(whole("uint6", 6, 8).astype(int), 6),
                lut=floats(64),
                shape=np.array([6, 8], np.uint32),
            ),
        ),
        (
            "constexpr_sparse_to_dense",
            "iOS 16: coremltools packs the mask alike",
            lambda: mb.constexpr_sparse_to_dense(
                nonzero_data=floats(COUNT),
                mask=packed(MASK, 1),
                shape=np.array([6, 8], np.uint32),
            ),
        ),
    )
]


@pytest.mark.parametrize("body", IOS_16)
def test_packed_weight_is_what_coremltools_decompresses(body):
    found, expected = weight_of(body, 16)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_palette_of_another_size_and_missing_vector_axis_are_refused():
    from kokoro_coreml.executor.ops import OPS

    lookup = OPS["constexpr_lut_to_dense"].function
    indices = torch.zeros(4, dtype=torch.uint8)
    with pytest.raises(ValueError, match="not 2, 4, 16, 64 or 256"):
        lookup(indices=indices, lut=torch.zeros(3), shape=(32,))
    with pytest.raises(ValueError, match="needs vector_axis"):
        lookup(indices=indices, lut=torch.zeros(1, 2, 2))


class Net(nn.Module):
    """A convolution and a linear layer, large enough to be compressed."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(8, 16, 3, padding=1)
        self.linear = nn.Linear(16, 32)

    def forward(self, x):
        return self.linear(self.conv(x).transpose(1, 2))


def converted(ios):
    torch.manual_seed(0)
    x = floats(1, 8, 10)
    with torch.inference_mode():
        traced = torch.jit.trace(Net().eval(), torch.from_numpy(x))
    return x, ct.convert(
        traced,
        inputs=[ct.TensorType(shape=x.shape)],
        minimum_deployment_target=ios,
        compute_precision=ct.precision.FLOAT32,
        skip_model_load=True,
    )


def config(kind):
    return cto.OptimizationConfig(global_config=kind)


LINEAR = cto.OpLinearQuantizerConfig
PALETTE = cto.OpPalettizerConfig
PRUNE = cto.OpMagnitudePrunerConfig
LOW = {"weight_threshold": 0}

COMPRESSORS = [
    pytest.param(
        ios,
        steps,
        id=over,
        marks=proves(*ops, against=DECOMPRESSOR, over=over, source=FROM_TORCH),
    )
    for over, ios, ops, steps in (
        (
            "8-bit linear weights, iOS 16",
            ct.target.iOS16,
            ["constexpr_affine_dequantize"],
            [(cto.linear_quantize_weights, LINEAR(mode="linear_symmetric", **LOW))],
        ),
        (
            "pruned weights, iOS 16",
            ct.target.iOS16,
            ["constexpr_sparse_to_dense"],
            [(cto.prune_weights, PRUNE(target_sparsity=0.5, **LOW))],
        ),
        (
            "uniform palettes of 6 bits, iOS 16",
            ct.target.iOS16,
            ["constexpr_lut_to_dense"],
            [(cto.palettize_weights, PALETTE(mode="uniform", nbits=6, **LOW))],
        ),
        (
            "4-bit weights in blocks of 4, iOS 18",
            ct.target.iOS18,
            ["constexpr_blockwise_shift_scale"],
            [
                (
                    cto.linear_quantize_weights,
                    LINEAR(dtype="int4", granularity="per_block", block_size=4, **LOW),
                )
            ],
        ),
        (
            "palettes of 3 bits in groups of channels, iOS 18",
            ct.target.iOS18,
            ["constexpr_lut_to_dense"],
            [
                (
                    cto.palettize_weights,
                    PALETTE(
                        mode="uniform",
                        nbits=3,
                        granularity="per_grouped_channel",
                        group_size=4,
                        **LOW,
                    ),
                )
            ],
        ),
        (
            "pruned, then 8-bit, iOS 18",
            ct.target.iOS18,
            ["constexpr_sparse_blockwise_shift_scale", "constexpr_sparse_to_dense"],
            [
                (cto.prune_weights, PRUNE(target_sparsity=0.5, **LOW)),
                (cto.linear_quantize_weights, LINEAR(mode="linear_symmetric", **LOW)),
            ],
        ),
        (
            "pruned, then palettes of 4 bits, iOS 18",
            ct.target.iOS18,
            ["constexpr_lut_to_sparse", "constexpr_sparse_to_dense"],
            [
                (cto.prune_weights, PRUNE(target_sparsity=0.5, **LOW)),
                (cto.palettize_weights, PALETTE(mode="uniform", nbits=4, **LOW)),
            ],
        ),
    )
]


@pytest.mark.parametrize(("ios", "steps"), COMPRESSORS)
def test_compressed_network_equals_its_own_decompression(ios, steps, tmp_path):
    x, model = converted(ios)
    for i, (compress, options) in enumerate(steps):
        joint = {"joint_compression": True} if i else {}
        model = compress(model, config(options), **joint)
    model.save(str(tmp_path / "small.mlpackage"))
    cto.decompress_weights(model).save(str(tmp_path / "dense.mlpackage"))
    with converted_from(FROM_TORCH):
        small = Program.load(tmp_path / "small.mlpackage")
    (found,) = call(small, [x], [])
    (expected,) = call(Program.load(tmp_path / "dense.mlpackage"), [x], [])
    assert not {o.type for o in Program.load(tmp_path / "dense.mlpackage").operations} & {
        o.type for o in small.operations if o.type.startswith("constexpr")
    }
    close(found, expected)
    (original,) = call(Program.load(_saved(converted(ios)[1], tmp_path)), [x], [])
    assert 1e-4 < np.abs(found - original).max() < 1.0


def _saved(model, folder):
    model.save(str(folder / "original.mlpackage"))
    return folder / "original.mlpackage"
