"""Operations that the torch converter writes, against the torch function that was converted."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mil_packages import check_torch, floats, traced
from torch import nn

X = floats(2, 3, 8)
POSITIVE = floats(2, 3, 8, seed=1, low=0.1)
UNIT = floats(2, 3, 8, low=-0.9, high=0.9)
WIDE = floats(2, 3, 8, low=-9, high=9)
IMAGE = floats(1, 4, 6, 8)
ROWS, OTHER = floats(4, 6), floats(4, 6, seed=1)
WHOLE = np.array([[-7, 3, 0, 5], [2, -4, 7, 1]], np.int32)
PICKS = np.array([2, 0, 3, 3], np.int32)


def number(condition):
    return condition.to(torch.float32)


def slopes():
    module = nn.PReLU(4)
    module.weight.data = torch.tensor([0.1, 0.4, -0.3, 2.0])
    return module


def trained(norm):
    """Statistics and parameters that are not the initial ones."""
    for i, tensor in enumerate((*norm.parameters(), norm.running_mean, norm.running_var)):
        tensor.data.copy_(torch.from_numpy(floats(*tensor.shape, seed=i, low=0.2)))
    return norm


class Attention(nn.Module):
    """Attends to itself."""

    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))

    def forward(self, x):
        q, k, v = (part(x).reshape(2, 5, 2, 4).transpose(1, 2) for part in self.parts)
        weights = torch.softmax(q @ k.transpose(-1, -2) / 2, -1)
        return (weights @ v).transpose(1, 2).reshape(2, 5, 8)


class Turned(nn.Module):
    """Samples a fixed affine grid."""

    def forward(self, x):
        matrix = torch.tensor([[[0.9, -0.4, 0.1], [0.3, 1.2, -0.2]]])
        grid = F.affine_grid(matrix.expand(2, 2, 3), (2, 3, 5, 4), align_corners=True)
        return F.grid_sample(x, grid, align_corners=True)


UNARY = [
    traced(name, "both signs", function, WIDE)
    for name, function in {
        "abs": torch.abs,
        "atan": torch.atan,
        "ceil": torch.ceil,
        "cos": torch.cos,
        "erf": torch.erf,
        "exp2": torch.exp2,
        "floor": torch.floor,
        "relu": torch.relu,
        "relu6": F.relu6,
        "round": torch.round,
        "sigmoid": torch.sigmoid,
        "sign": torch.sign,
        "silu": F.silu,
        "sin": torch.sin,
        "softplus": F.softplus,
        "tanh": torch.tanh,
    }.items()
]
UNARY += [
    traced(name, over, function, array)
    for name, over, function, array in (
        ("acos", "-0.9 to 0.9", torch.acos, UNIT),
        ("asin", "-0.9 to 0.9", torch.asin, UNIT),
        ("atanh", "-0.9 to 0.9", torch.atanh, UNIT),
        ("tan", "-0.9 to 0.9", torch.tan, UNIT),
        ("cosh", "-2 to 2", torch.cosh, X),
        ("sinh", "-2 to 2", torch.sinh, X),
        ("exp", "-2 to 2", torch.exp, X),
        ("log", "0.1 to 2", torch.log, POSITIVE),
        ("rsqrt", "0.1 to 2", torch.rsqrt, POSITIVE),
        ("sqrt", "0.1 to 2", torch.sqrt, POSITIVE),
    )
]

ACTIVATIONS = [
    traced("gelu", "exact", F.gelu, X),
    traced("gelu", "tanh", lambda x: F.gelu(x, approximate="tanh"), X),
    traced("leaky_relu", "slope 0.2", lambda x: F.leaky_relu(x, 0.2), X),
    traced("elu", "alpha 0.7", lambda x: F.elu(x, 0.7), X),
    traced("prelu", "a slope per channel", slopes(), IMAGE),
    traced("sigmoid_hard", "hardsigmoid", F.hardsigmoid, WIDE),
    traced("softmax", "axis 1", lambda x: torch.softmax(x, 1), WIDE),
    traced("softplus_parametric", "beta 2", nn.Softplus(beta=2), IMAGE),
    traced("clip", "hardtanh", lambda x: F.hardtanh(x, -0.5, 1.5), X),
    traced("thresholded_relu sigmoid_hard", "hardswish", F.hardswish, WIDE),
    traced(
        "threshold linear_activation",
        "what is below becomes 3",
        lambda x: F.threshold(x, 0.5, 3.0),
        X,
    ),
    traced("threshold", "what is below becomes the bound", lambda x: F.threshold(x, 0.5, 0.5), X),
]

BINARY = [
    traced(name, "broadcasting", function, X, floats(3, 1, seed=2, low=0.3))
    for name, function in {
        "add": torch.add,
        "sub": torch.sub,
        "mul": torch.mul,
        "real_div": torch.div,
        "maximum": torch.maximum,
        "minimum": torch.minimum,
        "floor_div": torch.floor_divide,
    }.items()
]
BINARY += [
    traced(name, "equal and unequal whole numbers", function, WHOLE, WHOLE[::-1].copy())
    for name, function in {
        "equal": lambda x, y: number(x == y),
        "not_equal": lambda x, y: number(x != y),
        "greater": lambda x, y: number(x > y),
        "greater_equal": lambda x, y: number(x >= y),
        "less": lambda x, y: number(x < y),
        "less_equal": lambda x, y: number(x <= y),
        "logical_and": lambda x, y: number(torch.logical_and(x > 0, y > 0)),
        "logical_or": lambda x, y: number(torch.logical_or(x > 0, y > 0)),
        "logical_xor": lambda x, y: number(torch.logical_xor(x > 0, y > 0)),
        "logical_not": lambda x, y: number(torch.logical_not(x > y)),
        "cast": lambda x, y: (x > y).to(torch.int32) + y,
    }.items()
]
BINARY += [
    traced("pow", "positive base", torch.pow, POSITIVE, X),
    traced("pow", "whole exponent", lambda x: x**3, X),
    traced("select", "broadcast", lambda x, y: torch.where(x > 0, x, y), X, floats(8, seed=3)),
    traced("select", "masked_fill", lambda x: x.masked_fill(x > 0.5, -1e4), X),
    traced("inverse", "1 / x of values far from 0", torch.reciprocal, POSITIVE, tolerance=1e-3),
    traced("mul floor_div sub", "remainder, both signs", torch.remainder, WIDE, floats(8, seed=2)),
]

PRODUCTS = [
    traced("linear", "with bias", nn.Linear(8, 5), X),
    traced("linear", "without bias", nn.Linear(8, 5, bias=False), X),
    traced("matmul", "batches", lambda x, y: x @ y, X, floats(2, 8, 4, seed=2)),
    traced("matmul", "a transposed operand", lambda x, y: x @ y.transpose(1, 2), X, X),
    traced(
        "einsum",
        "an equation MIL knows",
        lambda x, y: torch.einsum("nchw,nwhu->nchu", x, y),
        floats(2, 3, 4, 5),
        floats(2, 5, 4, 6, seed=1),
    ),
    traced(
        "scaled_dot_product_attention",
        "a float mask",
        lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, attn_mask=m),
        floats(1, 2, 3, 4),
        floats(1, 2, 5, 4, seed=1),
        floats(1, 2, 5, 4, seed=2),
        floats(3, 5),
        ios=18,
    ),
    traced("conv", "1-D, stride 2, padding", nn.Conv1d(3, 6, 3, 2, 1), X),
    traced("conv", "2-D, groups, dilation", nn.Conv2d(4, 6, 3, 1, 2, 2, 2), IMAGE),
    traced("conv", "2-D, padding same", nn.Conv2d(4, 6, 4, padding="same"), IMAGE),
    traced("conv", "3-D", nn.Conv3d(2, 3, (1, 2, 3)), floats(1, 2, 3, 4, 5)),
    traced("conv_transpose", "2-D, groups", nn.ConvTranspose2d(4, 6, 3, 2, 1, groups=2), IMAGE),
    traced(
        "conv_transpose crop", "2-D, output padding", nn.ConvTranspose2d(4, 6, 5, 2, 2, 1), IMAGE
    ),
    traced("conv", "weights given at run time", F.conv1d, X, floats(6, 3, 2, seed=5)),
]

NORMS = [
    traced("layer_norm", "the last axis", nn.LayerNorm(8, eps=1e-3), X),
    traced("layer_norm", "two axes", nn.LayerNorm((3, 8)), X),
    traced("batch_norm", "rank 3", trained(nn.BatchNorm1d(3)), X),
    traced("batch_norm", "rank 4", trained(nn.BatchNorm2d(4)), IMAGE),
    traced("batch_norm", "rank 5", trained(nn.BatchNorm3d(2)), floats(1, 2, 3, 2, 4)),
    traced("reduce_mean sub square", "var", lambda x: x.var(1, unbiased=False), X),
    traced("instance_norm", "rank 3", nn.InstanceNorm1d(3, affine=True), X),
    traced("instance_norm", "rank 4", nn.InstanceNorm2d(4, eps=1e-2), IMAGE),
    traced("reduce_mean sub", "group_norm", nn.GroupNorm(2, 4), IMAGE),
    traced(
        "slice_by_size concat reshape",
        "group_norm of open sizes",
        nn.GroupNorm(2, 4),
        IMAGE,
        open_axes=(2, 3),
    ),
    traced("reduce_l2_norm", "one axis", lambda x: torch.linalg.vector_norm(x, dim=1), X),
]

REDUCTIONS = [
    traced("reduce_sum", "two axes", lambda x: x.sum((0, 2)), X),
    traced("reduce_mean", "kept", lambda x: x.mean(-1, keepdim=True), X),
    traced("reduce_max", "amax", lambda x: x.amax(1), X),
    traced("reduce_min", "amin", lambda x: x.amin((1, 2)), X),
    traced("reduce_prod shape", "numel, open", lambda x: x.numel() + x, X, open_axes=(2,)),
    traced("reduce_argmax", "with ties", lambda x: x.round().argmax(1), X),
    traced("reduce_argmin", "kept", lambda x: x.argmin(2, keepdim=True), X),
    traced("cumsum", "axis 1", lambda x: x.cumsum(1), X),
    traced("argsort", "both orders", lambda x: (x.argsort(1), x.argsort(0, descending=True)), X),
    traced("topk", "smallest", lambda x: torch.topk(x, 3, 2, largest=False), X),
    traced("topk", "largest", lambda x: torch.topk(x, 2, 1), X),
]

POOLS = [
    traced("max_pool", "1-D, padding", nn.MaxPool1d(3, 2, 1), X),
    traced("max_pool", "2-D, ceil_mode", nn.MaxPool2d(3, 2, 1, ceil_mode=True), floats(1, 2, 8, 8)),
    traced("max_pool", "3-D", nn.MaxPool3d(2), floats(1, 2, 4, 4, 6)),
    traced("avg_pool", "1-D, padding counted", nn.AvgPool1d(3, 2, 1), X),
    traced("avg_pool", "2-D, not counted", nn.AvgPool2d(3, 2, 1, count_include_pad=False), IMAGE),
    traced("avg_pool", "3-D", nn.AvgPool3d(2), floats(1, 2, 4, 4, 6)),
    traced("reduce_mean", "adaptive to 1", nn.AdaptiveAvgPool2d(1), IMAGE),
]


OPEN = [
    traced("shape fill", "open sizes", lambda x: torch.ones(x.shape[1], x.shape[2]), X),
    traced("range_1d shape", "as long as an open axis", lambda x: torch.arange(x.shape[2]) + x, X),
    traced("mod", "roll of an open axis", lambda x: x.roll(3, 2), X),
    traced("reshape", "open sizes merged", lambda x: x.reshape(x.shape[0], -1), X),
    traced("slice_by_index", "up to an open size", lambda x: x[..., : x.shape[2] // 2], X),
    traced("tile", "an open size", lambda x: x[:, :1].expand(-1, x.shape[2], -1) + 0, X),
]
OPEN = [pytest.param(replace(p.values[0], open_axes=(1, 2)), id=p.id, marks=p.marks) for p in OPEN]

LAYERS = [
    traced("scatter while_loop", "inside the loop of a GRU", nn.GRU(3, 4), floats(5, 2, 3)),
    traced(
        "quantize dequantize",
        "a scale and zero point for all",
        lambda x: torch.quantize_per_tensor(x, 0.1, 3, torch.qint8).dequantize(),
        floats(4, 5, low=-20, high=20),
    ),
    traced("rnn", "batch first", nn.RNN(3, 4, batch_first=True), floats(2, 5, 3)),
    traced("softmax matmul", "multi-head attention", Attention(), floats(2, 5, 8)),
]


def resized(**options):
    return lambda x: F.interpolate(x, **options)


IMAGES = [
    traced(
        "upsample_bilinear",
        "corners aligned",
        resized(scale_factor=2, mode="bilinear", align_corners=True),
        IMAGE,
    ),
    traced(
        "upsample_bilinear",
        "half-pixel centres, another factor each way",
        resized(scale_factor=(1.5, 3), mode="bilinear"),
        IMAGE,
    ),
    traced(
        "upsample_bilinear",
        "1-D, 300 times",
        resized(scale_factor=300.0, mode="linear"),
        floats(1, 3, 20),
        tolerance=1e-6,
    ),
    traced(
        "upsample_bilinear",
        "1-D, 1/300",
        resized(scale_factor=1 / 300, mode="linear"),
        floats(1, 3, 600),
        tolerance=1e-6,
    ),
    traced("upsample_nearest_neighbor", "2-D", resized(scale_factor=(2, 3)), IMAGE, tolerance=0),
    traced("upsample_nearest_neighbor", "1-D", resized(scale_factor=2.0), X, tolerance=0),
    traced("pixel_shuffle", "factor 2", lambda x: F.pixel_shuffle(x, 2), IMAGE, tolerance=0),
    traced("pixel_unshuffle", "factor 2", lambda x: F.pixel_unshuffle(x, 2), IMAGE, tolerance=0),
]
for _padding in ("zeros", "border", "reflection"):
    for _mode in ("bilinear", "nearest"):
        for _corners in (True, False):
            if _padding == "reflection" and not _corners:
                continue
            IMAGES.append(
                traced(
                    "resample",
                    f"grid_sample, {_mode}, {_padding}, align_corners {_corners}",
                    lambda x, g, m=_mode, p=_padding, c=_corners: F.grid_sample(x, g, m, p, c),
                    IMAGE,
                    floats(1, 5, 7, 2, low=-1.4, high=1.4),
                )
            )
IMAGES.append(
    traced(
        "affine",
        "affine_grid and grid_sample",
        Turned(),
        floats(2, 3, 6, 8),
    )
)

MOVES = [
    traced(ops, over, function, *arrays, tolerance=0)
    for ops, over, function, *arrays in (
        ("transpose", "three axes", lambda x: x.permute(2, 0, 1), X),
        ("reshape", "with -1", lambda x: x.reshape(4, -1), X),
        ("expand_dims", "two axes", lambda x: x[:, None, :, None], X),
        ("squeeze", "one axis", lambda x: x.squeeze(1), floats(2, 1, 3)),
        ("concat", "three inputs", lambda x, y: torch.cat((x, y, x), -1), X, UNIT),
        ("stack", "a middle axis", lambda x, y: torch.stack((x, y), 1), X, UNIT),
        ("split", "chunks", lambda x: x.chunk(2, 2), X),
        ("split", "uneven sizes", lambda x: torch.split(x, [1, 5, 2], 2), X),
        ("tile", "repeat", lambda x: x.repeat(2, 1, 3), X),
        ("tile", "expand", lambda x: x.expand(4, 3, 8) + 0, floats(1, 3, 8)),
        ("reverse", "two axes", lambda x: x.flip((0, 2)), X),
        ("slice_by_index", "bounds and steps", lambda x: x[:, 1:, 1:7:2], X),
        ("slice_by_index", "one index", lambda x: x[:, -1], X),
        ("slice_by_index", "narrow", lambda x: x.narrow(2, 3, 4), X),
        ("pad", "constant, uneven", lambda x: F.pad(x, (1, 2, 0, 1), value=3.0), X),
        ("pad", "reflect", lambda x: F.pad(x, (3, 2), mode="reflect"), X),
        ("pad", "replicate", lambda x: F.pad(x, (3, 2), mode="replicate"), X),
        ("fill_like", "full_like", lambda x: torch.full_like(x, 2.0), X),
        ("identity", "an input that is a result", lambda x: (x.type_as(x), x.neg()), X),
        ("band_part", "triu and tril", lambda x: (x.triu(1), x.tril()), floats(5, 6)),
        ("range_1d", "arange", lambda n: torch.arange(n.sum()), WHOLE),
        ("one_hot", "all classes", lambda i: F.one_hot(i.long(), 5), PICKS),
        ("non_zero", "coordinates", lambda x: (x > 0.5).nonzero(), ROWS),
    )
]

GATHERS = [
    traced(ops, over, function, *arrays, **options)
    for ops, over, function, *arrays, options in (
        ("gather", "index_select", lambda x, i: x.index_select(2, i), X, PICKS, {"tolerance": 0}),
        ("gather", "embedding", lambda x, i: F.embedding(i, x), ROWS, PICKS, {"tolerance": 0}),
        (
            "gather_along_axis",
            "gather",
            lambda x, i: x.gather(0, i.long()),
            ROWS,
            np.array([[0, 3, 1, 2, 2, 0]], np.int32),
            {"tolerance": 0},
        ),
        ("gather_nd", "two index tensors", lambda x, i: x[i, i], ROWS, PICKS, {"tolerance": 0}),
        (
            "scatter_along_axis",
            "scatter_add, repeated",
            lambda x, i, y: x.scatter_add(0, i.long(), y),
            ROWS,
            np.array([[0, 3, 1, 2, 2, 0]] * 4, np.int32),
            OTHER,
            {},
        ),
        (
            "scatter_nd",
            "index_put",
            lambda x, i, y: x.index_put((i.long(),), y, accumulate=True),
            ROWS,
            PICKS,
            OTHER,
            {},
        ),
    )
]


class Write(nn.Module):
    """Writes into a slice of a copy."""

    def forward(self, x, y):
        z = x + 0
        z[1:3, ::2] = y
        return z


GATHERS.append(
    traced(
        "slice_by_size scatter_nd",
        "index_put of an open number of rows, negative ones",
        lambda x, i, y: x.index_put((i.long(),), y),
        ROWS,
        np.array([2, -4, 3, -3], np.int32),
        OTHER,
        open_axes=(0,),
        tolerance=0,
    )
)
GATHERS.append(
    traced("slice_update", "a strided slice", Write(), ROWS, floats(2, 3), ios=18, tolerance=0)
)


@pytest.mark.parametrize(
    "case",
    [
        *UNARY,
        *ACTIVATIONS,
        *BINARY,
        *PRODUCTS,
        *NORMS,
        *REDUCTIONS,
        *POOLS,
        *OPEN,
        *LAYERS,
        *IMAGES,
        *MOVES,
        *GATHERS,
    ],
)
def test_converted_operation_equals_torch(case):
    torch.manual_seed(0)
    check_torch(case)
