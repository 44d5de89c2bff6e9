"""Layers at their edges, detection and quantisation, with the MIL builder."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from coremltools.converters.mil import Builder as mb
from mil_packages import built, check, floats, run
from proofs import DEVICE, TORCH, proves

from kokoro_coreml.errors import PackageError

X = floats(2, 4, 9)
IMAGE = floats(1, 4, 7, 6)
VOLUME = floats(1, 2, 4, 5, 6)


def by_torch(function):
    def expected(*arrays):
        result = function(*(torch.from_numpy(a) for a in arrays))
        result = result if isinstance(result, tuple) else (result,)
        return tuple(r.numpy() for r in result)

    return expected


def layer(ops, over, body, expected, *arrays, **options):
    """Against torch."""
    return built(ops, over, body, by_torch(expected), *arrays, against=TORCH, **options)


W = floats(6, 2, 3, 2, seed=1)
BIAS = floats(6, seed=2)
BYTES = np.random.default_rng(0).integers(0, 256, (6, 2, 3, 2)).astype(np.uint8)
SCALES = floats(6, seed=3, low=0.1) / 100


def dequantized(scale, bias):
    shape = (-1, 1, 1, 1) if np.ndim(scale) else ()
    return torch.from_numpy(
        BYTES.astype(np.float32) * np.reshape(scale, shape) + np.reshape(bias, shape)
    ).float()


def quantized(scale, offset, **options):
    return lambda x: mb.conv_quantized(
        x=x,
        weight=BYTES,
        quantization_type="linear",
        quant_scale=scale,
        quant_bias=offset,
        groups=2,
        **options,
    )


CONVOLVED = [
    layer(
        "conv",
        "2-D, groups, uneven strides, dilations and pads",
        lambda x: mb.conv(
            x=x,
            weight=W,
            bias=BIAS,
            strides=[2, 1],
            dilations=[1, 2],
            groups=2,
            pad_type="custom",
            pad=[1, 0, 2, 1],
        ),
        lambda x: F.conv2d(
            F.pad(x, (2, 1, 1, 0)), torch.tensor(W), torch.tensor(BIAS), (2, 1), 0, (1, 2), 2
        ),
        IMAGE,
    ),
    layer(
        "conv",
        "depthwise, weight and bias at run time (iOS 17)",
        lambda x, w, b: mb.conv(x=x, weight=w, bias=b, groups=4),
        lambda x, w, b: F.conv1d(x, w, b, groups=4),
        X,
        floats(4, 1, 3, seed=4),
        floats(4, seed=5),
    ),
    layer(
        "conv",
        "same_lower with an even kernel and a stride, 2-D (iOS 16)",
        lambda x: mb.conv(x=x, weight=W, groups=2, strides=[2, 2], pad_type="same_lower"),
        lambda x: F.conv2d(F.pad(x, (0, 0, 1, 1)), torch.tensor(W), stride=2, groups=2),
        IMAGE,
        ios=16,
    ),
    layer(
        "conv_transpose",
        "2-D and 3-D, groups, dilations, weight at run time",
        lambda x, v, w: (
            mb.conv_transpose(
                x=x, weight=W[:4], groups=2, strides=[2, 1], dilations=[1, 3], bias=BIAS[:4]
            ),
            mb.conv_transpose(x=v, weight=w, strides=[1, 2, 1]),
        ),
        lambda x, v, w: (
            F.conv_transpose2d(
                x, torch.tensor(W[:4]), torch.tensor(BIAS[:4]), (2, 1), groups=2, dilation=(1, 3)
            ),
            F.conv_transpose3d(v, w, stride=(1, 2, 1)),
        ),
        IMAGE,
        VOLUME,
        floats(2, 3, 2, 2, 1, seed=6),
    ),
    layer(
        "conv_quantized",
        "one scale, groups, strides",
        quantized(np.float32(0.02), np.float32(-1.5), strides=[1, 2]),
        lambda x: F.conv2d(x, dequantized(0.02, -1.5), stride=(1, 2), groups=2),
        IMAGE,
        ios=15,
        tolerance=1e-4,
    ),
    layer(
        "conv_quantized",
        "a scale and an offset per channel, pads, a bias",
        quantized(
            SCALES,
            -BIAS,
            bias=np.arange(6, dtype=np.uint8),
            pad_type="custom",
            pad=[1, 2, 0, 1],
            nbits=8,
        ),
        lambda x: F.conv2d(
            F.pad(x, (0, 1, 1, 2)), dequantized(SCALES, -BIAS), torch.arange(6.0), groups=2
        ),
        IMAGE,
        ios=16,
        tolerance=1e-4,
    ),
]

POOL_2D = {"kernel_sizes": [3, 2], "strides": [2, 2], "pad_type": "custom", "pad": [1, 1, 1, 1]}


def l2(x, kernel, stride, pads=(0, 0, 0, 0)):
    mean = F.avg_pool2d(F.pad(x.square(), pads), kernel, stride)
    return (mean * math.prod(kernel)).sqrt()


POOLED = [
    layer(
        "max_pool avg_pool",
        "3-D",
        lambda v: (
            mb.max_pool(x=v, kernel_sizes=[2, 3, 2], strides=[2, 1, 2], pad_type="valid"),
            mb.avg_pool(x=v, kernel_sizes=[2, 3, 2], strides=[2, 1, 2], pad_type="valid"),
        ),
        lambda v: (
            F.max_pool3d(v, (2, 3, 2), (2, 1, 2)),
            F.avg_pool3d(v, (2, 3, 2), (2, 1, 2)),
        ),
        VOLUME,
    ),
    layer(
        "avg_pool max_pool",
        "2-D, uneven kernels, padding counted and not, all negative",
        lambda x: (
            mb.avg_pool(x=x, exclude_padding_from_average=False, **POOL_2D),
            mb.avg_pool(x=x, exclude_padding_from_average=True, **POOL_2D),
            mb.max_pool(x=x, **POOL_2D),
        ),
        lambda x: (
            F.avg_pool2d(x, (3, 2), 2, 1),
            F.avg_pool2d(x, (3, 2), 2, 1, count_include_pad=False),
            F.max_pool2d(x, (3, 2), 2, 1),
        ),
        -np.abs(IMAGE) - 1,
    ),
    layer(
        "avg_pool",
        "pad types same and same_lower, padding not counted",
        lambda x: tuple(
            mb.avg_pool(x=x, kernel_sizes=[2], pad_type=p, exclude_padding_from_average=True)
            for p in ("same", "same_lower")
        ),
        lambda x: (
            torch.cat((F.avg_pool1d(x, 2, 1), x[..., -1:]), -1),
            torch.cat((x[..., :1], F.avg_pool1d(x, 2, 1)), -1),
        ),
        X,
        ios=16,
    ),
    layer(
        "l2_pool",
        "padding, a window over the whole input",
        lambda x: (
            mb.l2_pool(
                x=x, kernel_sizes=[3, 3], strides=[2, 1], pad_type="custom", pad=[1, 1, 0, 2]
            ),
            mb.l2_pool(x=x, kernel_sizes=[7, 6], pad_type="valid"),
        ),
        lambda x: (l2(x, (3, 3), (2, 1), (0, 2, 1, 1)), l2(x, (7, 6), 1)),
        IMAGE,
    ),
]


def normalised(x, axes, epsilon=1e-5):
    variance, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
    return (x - mean) / (variance + epsilon).sqrt()


GAMMA, BETA = floats(4, seed=7), floats(4, seed=8)

NORMALISED = [
    layer(
        "layer_norm",
        "axes in another order and apart, gamma only; a constant row",
        lambda x, r: (
            mb.layer_norm(x=x, axes=[-1, 1]),
            mb.layer_norm(x=x, axes=[1], gamma=GAMMA),
            mb.layer_norm(x=r, axes=[0]),
        ),
        lambda x, r: (
            normalised(x, (1, 3)),
            normalised(x, (1,)) * torch.tensor(GAMMA).reshape(4, 1, 1),
            r * 0,
        ),
        IMAGE,
        np.full(3, 7.0, np.float32),
    ),
    layer(
        "batch_norm",
        "rank 3 and 5, default epsilon against a small variance",
        lambda x, v: (
            mb.batch_norm(x=x, mean=BETA, variance=np.abs(GAMMA) / 1e4),
            mb.batch_norm(x=v, mean=BETA[:2], variance=np.abs(GAMMA[:2]), gamma=GAMMA[2:]),
        ),
        lambda x, v: (
            (x - torch.tensor(BETA)[:, None])
            / (torch.tensor(np.abs(GAMMA) / 1e4)[:, None] + 1e-5).sqrt(),
            F.batch_norm(
                v,
                torch.tensor(BETA[:2]),
                torch.tensor(np.abs(GAMMA[:2])),
                torch.tensor(GAMMA[2:]),
            ),
        ),
        X,
        VOLUME,
    ),
    layer(
        "instance_norm",
        "rank 4, gamma and beta, items that differ in scale",
        lambda x: mb.instance_norm(x=x, gamma=GAMMA, beta=BETA, epsilon=np.float32(1e-3)),
        lambda x: F.instance_norm(x, weight=torch.tensor(GAMMA), bias=torch.tensor(BETA), eps=1e-3),
        np.concatenate([IMAGE, IMAGE * 100 + 5]),
        tolerance=5e-5,
    ),
    layer(
        "l2_norm",
        "rank 3 and 5, zeros",
        lambda x, v: (mb.l2_norm(x=x), mb.l2_norm(x=v), mb.l2_norm(x=mb.mul(x=x, y=0.0))),
        lambda x, v: (
            x / (x.square().sum() + 1e-6).sqrt(),
            v / (v.square().sum((-3, -2, -1), keepdim=True) + 1e-6).sqrt(),
            x * 0,
        ),
        X[:1],
        VOLUME,
    ),
    layer(
        "local_response_norm",
        "rank 3, more neighbours than channels; a single one",
        lambda x: (
            mb.local_response_norm(x=x, size=9, alpha=2.0),
            mb.local_response_norm(x=x, size=1, alpha=3.0, beta=1.0, k=0.5),
        ),
        lambda x: (F.local_response_norm(x, 9, 2.0), x / (0.5 + 3 * x.square())),
        X,
    ),
]


def attended(q, k, v, mask=None):
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    return torch.softmax(scores if mask is None else scores + mask, -1) @ v


PRODUCTS = [
    layer(
        "linear",
        "rank 1 and 2, one output",
        lambda x, r: (
            mb.linear(x=x, weight=W.reshape(12, 6), bias=floats(12)),
            mb.linear(x=r, weight=BIAS[None]),
        ),
        lambda x, r: (
            F.linear(x, torch.tensor(W).reshape(12, 6), torch.tensor(floats(12))),
            F.linear(r, torch.tensor(BIAS[None])),
        ),
        IMAGE[0, 0],
        BIAS,
    ),
    layer(
        "matmul",
        "a vector on the left; int32",
        lambda x, r, w: (
            mb.matmul(x=r, y=x, transpose_y=True),
            mb.matmul(x=w, y=w, transpose_y=True),
        ),
        lambda x, r, w: (r @ x.T, w @ w.T),
        floats(5, 6),
        BIAS,
        np.array([[100000, 3], [-7, 2]], np.int32),
    ),
    layer(
        "scaled_dot_product_attention",
        "without a mask; rank 3; a mask that broadcasts; queries of one",
        lambda q, k, v, m: (
            mb.scaled_dot_product_attention(query=q, key=k, value=v),
            mb.scaled_dot_product_attention(query=q, key=k, value=v, attn_mask=m),
        ),
        lambda q, k, v, m: (attended(q, k, v), attended(q, k, v, m)),
        floats(2, 1, 4),
        floats(2, 5, 4, seed=1),
        floats(2, 5, 3, seed=2),
        floats(1, 1, 5, seed=3) * 5,
        ios=18,
    ),
    layer(
        "scaled_dot_product_attention",
        "a boolean mask of one row for all; rank 5",
        lambda q, k, v, m: mb.scaled_dot_product_attention(
            query=q, key=k, value=v, attn_mask=mb.greater(x=m, y=0.0)
        ),
        lambda q, k, v, m: attended(q, k, v, torch.where(m > 0, 0.0, -math.inf)),
        floats(1, 2, 2, 3, 4),
        floats(1, 2, 2, 5, 4, seed=1),
        floats(1, 2, 2, 5, 4, seed=2),
        np.array([[1, -1, 1, 1, -1]], np.float32),
        ios=18,
    ),
]

RANGE = np.array([[-1e3, -3.5, -0.75, -0.25], [0.25, 0.75, 2.5, 1e3]], np.float32)
STEPS = np.array([0.5, 2], np.float32)

QUANTISED = [
    built(
        "quantize dequantize cast",
        "uint8; scale and zero point along an axis",
        lambda x: (
            mb.cast(
                x=mb.quantize(
                    input=x,
                    scale=STEPS,
                    zero_point=np.array([128, 3], np.uint8),
                    output_dtype="uint8",
                    axis=0,
                ),
                dtype="int32",
            ),
            mb.dequantize(
                input=mb.quantize(input=x, scale=STEPS, output_dtype="int8", axis=0),
                scale=STEPS,
                axis=0,
            ),
        ),
        lambda x: (
            np.int32([[0, 121, 126, 128], [3, 3, 4, 255]]),
            np.float32([[-64, -3.5, -1, 0], [0, 0, 2, 254]]),
        ),
        RANGE,
    ),
    built(
        "quantize dequantize",
        "along the last axis, without zero point",
        lambda x: mb.dequantize(
            input=mb.quantize(input=x, scale=floats(4, low=0.5), output_dtype="int8", axis=-1),
            scale=floats(4, low=0.5),
            axis=-1,
        ),
        lambda x: np.clip(np.rint(x / floats(4, low=0.5)), -128, 127) * floats(4, low=0.5),
        RANGE,
    ),
]

BOXES = np.array(
    [
        [
            [10, 10, 10, 10],
            [11, 10, 10, 10],
            [30, 30, 4, 8],
            [10, 11, 10, 10],
            [30, 30, 4, 4],
            [0, 0, 0, 0],
        ]
    ],
    np.float32,
)
SCORES = np.array(
    [[[0.2, 0.9], [0.8, 0.1], [0.3, 0.4], [0.1, 0.7], [0.6, 0.5], [0.05, 0.04]]], np.float32
)


def suppressed(threshold, count, *, ios, **options):
    lowest = {"score_threshold": np.float32(options.pop("lowest"))} if ios < 17 else {}
    return lambda b, s: mb.non_maximum_suppression(
        boxes=b,
        scores=s,
        iou_threshold=np.float32(threshold),
        max_boxes=count,
        **lowest,
        **options,
    )


def chosen(indices, count):
    """Results up to iOS 16 for one item."""

    def expected(boxes, scores):
        rest = count - len(indices)
        pad = ((0, 0), (0, rest), (0, 0))
        return (
            np.pad(boxes[:, indices], pad),
            np.pad(scores[:, indices], pad),
            np.int32([indices + [-1] * rest]),
            np.int32([len(indices)]),
        )

    return expected


def swapped(results):
    def expected(boxes, scores):
        found = results(boxes.transpose(0, 2, 1), scores.transpose(0, 2, 1))
        return found[0].transpose(0, 2, 1), found[1].transpose(0, 2, 1), found[2]

    return expected


DETECTED = [
    built(
        "non_maximum_suppression",
        "the values of the runtime test, boxes without overlap",
        suppressed(0.2, 2, ios=15, lowest=0.4, per_class_suppression=True),
        chosen([1, 2], 2),
        np.arange(4, dtype=np.float32).repeat(4).reshape(1, 4, 4),
        np.array([-3.5, 9.4, 2.3, 0.7], np.float32).reshape(1, 4, 1),
        ios=15,
        against=DEVICE,
    ),
    *(
        built("non_maximum_suppression", over, body, chosen(kept, count), BOXES, SCORES, ios=15)
        for over, body, kept, count in (
            (
                "all classes together, fewer left than asked for",
                suppressed(0.4, 5, ios=15, lowest=0.3),
                [0, 4],
                5,
            ),
            (
                "a higher overlap allowed",
                suppressed(0.9, 6, ios=15, lowest=0.0),
                [0, 1, 3, 4, 2, 5],
                6,
            ),
            (
                "each class by itself",
                suppressed(0.4, 6, ios=15, lowest=0.3, per_class_suppression=True),
                [0, 1, 4, 2],
                6,
            ),
            ("more left than asked for", suppressed(0.9, 2, ios=15, lowest=0.0), [0, 1], 2),
            ("no score high enough", suppressed(0.4, 2, ios=15, lowest=5.0), [0], 2),
        )
    ),
    built(
        "non_maximum_suppression",
        "iOS 17: boxes last, no lowest score",
        suppressed(0.4, 4, ios=17),
        swapped(chosen([0, 4, 5], 4)),
        BOXES.transpose(0, 2, 1).copy(),
        SCORES.transpose(0, 2, 1).copy(),
    ),
]


@pytest.mark.parametrize(
    "case", [*CONVOLVED, *POOLED, *NORMALISED, *PRODUCTS, *QUANTISED, *DETECTED]
)
def test_layer_equals_its_definition(case):
    check(case)


def test_quantised_convolution_with_a_table_is_refused():
    body = lambda x: mb.conv_quantized(  # noqa: E731
        x=x,
        weight=BYTES,
        quantization_type="lut",
        quant_scale=np.float32(1),
        quant_bias=np.float32(0),
        groups=2,
    )
    with pytest.raises(PackageError, match=r"conv_quantized.*only 'linear'"):
        run(body, IMAGE)


EQUATIONS = {
    "abcd,adce->abce": ((2, 3, 4, 5), (2, 5, 4, 3)),
    "xyz,zyw->xyw": ((3, 4, 5), (5, 4, 1)),
}


@pytest.mark.parametrize(("equation", "shapes"), EQUATIONS.items())
@proves("einsum", against=TORCH, over="other letters")
def test_equation_in_other_letters(equation, shapes):
    x, y = (floats(*shape, seed=i) for i, shape in enumerate(shapes))
    (found,) = run(lambda x, y: mb.einsum(values=(x, y), equation=equation), x, y, ops=["einsum"])
    expected = torch.einsum(equation, torch.from_numpy(x), torch.from_numpy(y)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
