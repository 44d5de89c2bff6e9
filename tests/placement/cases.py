"""For every rule a package it matches, and a package that differs in the one thing it is about."""

from __future__ import annotations

from dataclasses import dataclass

import coremltools as ct
import numpy as np
from coremltools.converters.mil import Builder as mb

from tests.placement.builders import (
    Make,
    added,
    angle,
    attention,
    chain,
    choice,
    conv,
    conv_transpose,
    crossed,
    drawn,
    flexible,
    gather,
    generator,
    half_turn,
    layer_norm,
    listed,
    matmul,
    of,
    pad,
    pool,
    recurrent,
    slices,
    stated,
    stateful,
    unary,
    with_epsilon,
)
from tests.placement.packages import half, single, whole


@dataclass(frozen=True)
class Case:
    """What makes a matching package, and one that does not match.

    Attributes:
        matching: writes the first.
        other: writes the second.
        units: asked for.
        generation: asked for; None is all.
        other_generation: asked for of the second package, if another.
        other_units: likewise.
    """

    matching: Make
    other: Make
    units: str = "CPU_AND_NE"
    generation: str | None = None
    other_generation: str | None = None
    other_units: str | None = None


RELU, FLOAT = unary("relu"), unary("relu", "fp32")
ADD_INTEGERS = of(lambda x: mb.add(x=x, y=np.int32(1)), whole(1, 4, 2, 32))
WIDE, NARROW = unary("relu", shape=(1, 4, 1, 16385)), unary("relu", shape=(1, 4, 1, 16384))
WIDER, WIDEST = unary("relu", shape=(1, 1, 1, 65537)), unary("relu", shape=(1, 1, 1, 65536))
COMPUTED_GATHER = of(lambda x, i: mb.gather(x=x, indices=i, axis=1), half(1, 4, 32), whole(2))
COMPUTED_SLICE = of(
    lambda x, b: mb.slice_by_size(x=x, begin=b, size=[1, 2, 8]), half(1, 4, 32), whole(3)
)
TILE = of(lambda x: mb.tile(x=x, reps=[1, 1, 2, 1]), half(1, 4, 2, 32))
TO_INTEGERS = of(lambda x: mb.cast(x=x, dtype="int32"), half(1, 4, 2, 32))
TO_FLOATS = of(lambda x: mb.cast(x=x, dtype="fp32"), half(1, 4, 2, 32))
TOPK = of(lambda x: mb.topk(x=x, k=2, axis=-1)[0], half(1, 4, 2, 32))
ARGSORT = of(lambda x: mb.argsort(x=x, axis=-1), half(1, 4, 2, 32))
ARGMAX = of(lambda x: mb.reduce_argmax(x=x, axis=-1), half(1, 4, 2, 32))
SUM = of(lambda x: mb.reduce_sum(x=x, axes=[-1], keep_dims=True), half(1, 4, 2, 65505))
SHORTER_SUM = of(lambda x: mb.reduce_sum(x=x, axes=[-1], keep_dims=True), half(1, 4, 2, 65504))
SHORT_SUM = of(lambda x: mb.reduce_sum(x=x, axes=[-1], keep_dims=True), half(1, 4, 2, 2048))
SINGLE_SUM = of(lambda x: mb.reduce_sum(x=x, axes=[-1], keep_dims=True), single(1, 4, 2, 65505))
QUOTIENT = of(lambda x, y: mb.atan(x=mb.real_div(x=x, y=y)), half(1, 32), half(1, 32))
TWICE = of(lambda x: mb.sub(x=x, y=x), half(1, 32))
DIFFERENCE = of(lambda x, y: mb.sub(x=x, y=y), half(1, 32), half(1, 32))
FLOOR_BY_ONE = of(lambda x: mb.floor_div(x=x, y=np.float16(1)), half(1, 32))
FLOOR_BY_TWO = of(lambda x: mb.floor_div(x=x, y=np.float16(2)), half(1, 32))
AND = of(
    lambda x, y: mb.select(
        cond=mb.logical_and(x=mb.greater(x=x, y=y), y=mb.less(x=x, y=y)), a=x, b=y
    ),
    half(1, 32),
    half(1, 32),
)
OR = of(
    lambda x, y: mb.select(
        cond=mb.logical_or(x=mb.greater(x=x, y=y), y=mb.less(x=x, y=y)), a=x, b=y
    ),
    half(1, 32),
    half(1, 32),
)
ALONG = of(
    lambda x: mb.gather_along_axis(x=x, indices=np.zeros((1, 4, 2), np.int32), axis=2),
    half(1, 4, 32),
)
MULTIPLY_INTEGERS = of(lambda x: mb.mul(x=x, y=np.int32(600)), whole(4))
COUNT = of(
    lambda x: mb.mul(
        x=mb.reduce_sum(x=mb.cast(x=mb.greater(x=x, y=np.float16(0)), dtype="int32"), axes=[0]),
        y=np.int32(600),
    ),
    half(4),
)
SCALAR = stated("fp16", "relu")
MODULO = of(lambda x: mb.mod(x=x, y=np.float16(2)), half(1, 32))
SWITCHING = of(lambda x: mb.relu(x=mb.cumsum(x=mb.relu(x=x), axis=1)), half(4, 32))

CASES: dict[str, Case] = {
    "only-cpu": Case(RELU, RELU, units="CPU_ONLY", other_units="CPU_AND_NE"),
    "no-neural-engine": Case(RELU, RELU, units="CPU_AND_GPU", other_units="CPU_AND_NE"),
    "single-precision": Case(FLOAT, RELU),
    "integers": Case(ADD_INTEGERS, RELU),
    "cast-of-integers": Case(TO_INTEGERS, TO_FLOATS),
    "cast": Case(TO_FLOATS, RELU),
    "axis-over-16384": Case(WIDE, NARROW, generation="M3"),
    "axis-over-65536": Case(WIDER, WIDEST, generation="M4"),
    "channels-over-65536": Case(
        unary("relu", shape=(1, 65537, 1, 1)), unary("relu", shape=(1, 65536, 1, 1))
    ),
    "rank-over-5": Case(stated("fp16", "relu", 1, 1, 1, 1, 2, 2), RELU),
    "open-shape": Case(flexible((ct.RangeDim(1, 9, default=2), 4)), RELU),
    "range-shape": Case(flexible((ct.RangeDim(1, 9, default=2), 4)), RELU),
    "enumerated-shape": Case(flexible(ct.EnumeratedShapes([(2, 4), (3, 4)], default=(2, 4))), RELU),
    "rank-0-output": Case(SCALAR, RELU),
    "program-size": Case(chain(347), chain(346), generation="M1"),
    "sines-and-norms": Case(generator("sin"), generator("tanh")),
    "switches": Case(SWITCHING, RELU, generation="M4"),
    "recurrent": Case(recurrent("fp32"), RELU),
    "unsupported-math": Case(MODULO, RELU),
    "running-sum": Case(SWITCHING, MODULO),
    "unsupported-structure": Case(
        of(lambda x: mb.band_part(x=x, lower=-1, upper=0), half(4, 4)), RELU
    ),
    "only-on-the-cpu": Case(
        of(lambda x: mb.sliding_windows(x=x, axis=1, size=4), half(1, 32)), RELU
    ),
    "random": Case(drawn("random_normal"), RELU),
    "random-uniform": Case(drawn("random_uniform"), RELU),
    "lists": Case(listed(), RELU),
    "control-flow": Case(choice(), RELU),
    "logic": Case(OR, AND),
    "logical-and": Case(AND, OR),
    "computed-indices": Case(COMPUTED_GATHER, gather()),
    "gather-along": Case(ALONG, gather()),
    "computed-slice": Case(COMPUTED_SLICE, slices(4)),
    "sorting-on-m1": Case(TOPK, TOPK, generation="M1", other_generation="M2"),
    "sorting": Case(TOPK, TOPK, generation="M2", other_generation="M1"),
    "argsort-on-m1": Case(ARGSORT, ARGSORT, generation="M1", other_generation="M2"),
    "arguments": Case(ARGMAX, RELU),
    "boxes": Case(crossed("crop_resize"), RELU),
    "convolution": Case(conv(3, 3), RELU),
    "kernel-width": Case(conv(1, 16), conv(16, 15)),
    "kernel-width-on-m1": Case(conv(1, 14), conv(1, 13), generation="M1"),
    "kernel-width-unmeasured": Case(conv(1, 15), conv(1, 13), generation="M2"),
    "kernel-height": Case(conv(32, 1), conv(31, 1)),
    "kernel-height-unmeasured": Case(conv(32, 1), conv(31, 1), generation="M2"),
    "transposed-convolution": Case(conv_transpose(4, 2), conv_transpose(4, 3)),
    "transposed-convolution-stride": Case(conv_transpose(4, 3), conv_transpose(4, 2)),
    "batched-groups": Case(conv(1, 3, 2, 2), conv(1, 3, 2, 1), generation="M1"),
    "product": Case(matmul(8), RELU),
    "product-over-32768": Case(matmul(32769), matmul(32768), generation="M4"),
    "product-over-32768-unmeasured": Case(matmul(32769), matmul(32768), generation="M5"),
    "product-over-16384": Case(matmul(16385), matmul(16384), generation="M3"),
    "attention": Case(attention(), matmul(8)),
    "pool": Case(pool("avg_pool", 3), RELU),
    "maximum-pool-width": Case(pool("max_pool", 9), pool("max_pool", 8), generation="M4"),
    "pool-window-unmeasured": Case(pool("avg_pool", 15), pool("avg_pool", 14)),
    "maximum-pool-unmeasured": Case(pool("max_pool", 9), pool("max_pool", 8), generation="M1"),
    "elementwise": Case(unary("exp"), RELU),
    "comparison": Case(AND, RELU),
    "sine": Case(unary("sin"), unary("sin"), generation="M3", other_generation="M2"),
    "sine-before-m3": Case(unary("sin"), unary("sin"), generation="M2", other_generation="M3"),
    "activation": Case(RELU, unary("exp")),
    "norm": Case(of(lambda x: mb.layer_norm(x=x, axes=[-1]), half(1, 4, 2, 32)), RELU),
    "reduction": Case(SHORT_SUM, ARGMAX),
    "movement": Case(of(lambda x: mb.transpose(x=x, perm=[0, 2, 1, 3]), half(1, 4, 2, 32)), TILE),
    "tile": Case(TILE, RELU),
    "pad-constant": Case(pad("constant"), pad("reflect")),
    "pad-with-a-number": Case(pad("constant", 1.0), pad("constant")),
    "pad-mirrored": Case(pad("reflect"), pad("reflect"), generation="M2", other_generation="M1"),
    "pad-mirrored-on-m1": Case(pad("replicate"), pad("constant"), generation="M1"),
    "constant-indices": Case(gather(), COMPUTED_GATHER, generation="M2"),
    "resize": Case(crossed("resize_bilinear"), RELU, generation="M2"),
    "resize-on-m1": Case(
        crossed("resize_bilinear"), crossed("resize_bilinear"), "CPU_AND_NE", "M1", "M2"
    ),
    "warp-on-m1": Case(crossed("affine"), crossed("affine"), "CPU_AND_NE", "M1", "M2"),
    "quantization": Case(
        of(
            lambda x: mb.dequantize(
                input=mb.quantize(input=x, scale=np.float16(0.1), output_dtype="int8"),
                scale=np.float16(0.1),
            ),
            half(1, 4, 2, 32),
        ),
        RELU,
    ),
    "state": Case(stateful(32), RELU),
    "state-width": Case(stateful(31), stateful(32)),
    "half-on-the-cpu": Case(RELU, FLOAT, units="CPU_ONLY"),
    "half-unplaced": Case(unary("sin"), RELU),
    "half-recurrent": Case(recurrent("fp16"), recurrent("fp32"), units="CPU_ONLY"),
    "recurrent-on-the-gpu": Case(
        recurrent("fp32"), recurrent("fp32"), units="ALL", other_units="CPU_ONLY"
    ),
    "gpu-aborts": Case(FLOAT, FLOAT, units="CPU_AND_GPU", other_units="CPU_ONLY"),
    "half-constant": Case(added(40000), added(32752)),
    "half-infinity": Case(added(-np.inf), added(-10000)),
    "half-tiny-floor": Case(added(1e-5), added(1e-4)),
    "half-tiny-constant": Case(added(1e-5, "mul"), added(1e-4, "mul")),
    "long-half-sum": Case(SUM, SHORTER_SUM),
    "half-sum": Case(SHORTER_SUM, SHORT_SUM),
    "half-to-integer": Case(TO_INTEGERS, TO_FLOATS),
    "half-exponential": Case(unary("exp"), unary("exp", "fp32")),
    "half-softplus": Case(unary("softplus"), unary("softplus", "fp32")),
    "half-log-sum-exp": Case(
        of(lambda x: mb.reduce_log_sum_exp(x=x, axes=[1]), half(1, 4, 2, 32)), SHORT_SUM
    ),
    "half-gelu": Case(unary("gelu"), unary("gelu", "fp32")),
    "half-silu": Case(unary("silu"), unary("silu", "fp32")),
    "half-epsilon": Case(layer_norm(1e-9), layer_norm(1e-5)),
    "half-epsilon-tiny": Case(layer_norm(1e-5), layer_norm(1e-4)),
    "unaligned-width": Case(
        unary("relu", shape=(1, 64, 32, 33)), unary("relu", shape=(1, 64, 32, 32))
    ),
    "singleton-width": Case(
        unary("relu", shape=(1, 64, 1024, 1)), unary("relu", shape=(1, 64, 1, 1024))
    ),
    "slices-side-by-side": Case(slices(4, 12), slices(0, 12), generation="M2"),
    "slice-inside-the-width": Case(slices(4), slices(0), generation="M1"),
    "slice-inside-the-width-in-dispute": Case(
        slices(4), slices(4), generation="M2", other_generation="M1"
    ),
    "epsilon-of-inverse": Case(unary("inverse"), with_epsilon("inverse", 0.0)),
    "epsilon-of-root-and-logarithm": Case(unary("log", "fp32"), with_epsilon("log", 0.0)),
    "sign-of-mod": Case(MODULO, FLOOR_BY_TWO, units="CPU_ONLY"),
    "floor-division-by-one": Case(FLOOR_BY_ONE, FLOOR_BY_TWO, units="ALL"),
    "difference-with-itself": Case(TWICE, DIFFERENCE, units="CPU_ONLY"),
    "arctangent-without-its-edge": Case(angle(), half_turn("greater_equal"), units="CPU_ONLY"),
    "arctangent-of-a-quotient": Case(QUOTIENT, angle(right=True), units="CPU_ONLY"),
    "whole-number-overflow": Case(MULTIPLY_INTEGERS, COUNT, units="CPU_ONLY"),
}
