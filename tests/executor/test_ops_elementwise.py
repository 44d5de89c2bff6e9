"""Elementwise operations, activations and reductions at their edges, with the MIL builder."""

import math

import numpy as np
import pytest
from coremltools.converters.mil import Builder as mb
from mil_packages import built, check, floats

INF, NAN = np.inf, np.nan
SPECIAL = np.array([-INF, -1e30, -2.5, -1.0, -0.0, 0.0, 1e-30, 0.5, 1.0, 3.5, 1e30, INF, NAN], "f4")
X = floats(2, 3, 4)
WHOLE = np.array([[-7, 3, 0, 5], [2, -4, 7, 1]], np.int32)


def quiet(function):
    def call(*arrays):
        with np.errstate(all="ignore"):
            result = function(*(a.astype(np.float64) if a.dtype.kind == "f" else a for a in arrays))
        return np.asarray(result).astype(np.float32)

    return call


def one(name, **parameters):
    return lambda x: getattr(mb, name)(x=x, **parameters)


def each(function):
    return np.vectorize(function, otypes=[np.float64])


UNARY = {
    "abs": np.abs,
    "acos": np.arccos,
    "asin": np.arcsin,
    "atan": np.arctan,
    "atanh": np.arctanh,
    "ceil": np.ceil,
    "cosh": np.cosh,
    "erf": each(math.erf),
    "exp": np.exp,
    "exp2": np.exp2,
    "floor": np.floor,
    "relu": lambda x: np.where(np.isnan(x), x, np.maximum(x, 0)),
    "relu6": lambda x: np.clip(x, 0, 6),
    "round": np.rint,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "sign": np.sign,
    "sinh": np.sinh,
    "softplus": lambda x: np.logaddexp(0, x),
    "sqrt": np.sqrt,
    "square": np.square,
    "tanh": np.tanh,
}
"""In float64; `sin`, `cos` and `tan` of infinities are left out, they are NaN of either sign."""

CASES = [
    built(
        name,
        "infinities, NaN, both zeros, 1e-30 to 1e30",
        one(name),
        quiet(function),
        SPECIAL[:-1] if name == "sign" else SPECIAL,  # torch has no sign of NaN
        tolerance=1e-6,
        inferable=name not in {"sign", "sigmoid", "softplus"},
    )
    for name, function in UNARY.items()
]

TRIGONOMETRY = np.array([-1000.5, -3.2, -np.pi / 2, 0, 1e-4, np.pi, 30, 1e4], np.float32)
CASES += [
    built(
        name,
        "up to 10,000 radians",
        one(name),
        quiet(function),
        TRIGONOMETRY[[0, 1, 3, 4, 5, 6, 7]],
    )
    for name, function in {"sin": np.sin, "cos": np.cos, "tan": np.tan}.items()
]

CASES += [
    built("silu", "±80", lambda x: mb.silu(x=x), quiet(lambda x: x / (1 + np.exp(-x))), X * 40),
    built("softsign", "±8e9", lambda x: mb.softsign(x=x), lambda x: x / (1 + np.abs(x)), X * 4e9),
    built("gelu", "±80", lambda x: mb.gelu(x=x), lambda x: np.where(x > 0, x, 0), X.round() * 40),
    built(
        "log",
        "0, a subnormal, infinity, a negative number",
        lambda x: mb.log(x=x),
        lambda x: np.array([-103.27893, np.log(1e-40), INF, NAN], np.float32),
        np.array([0, 1e-40, INF, -1], np.float32),
        tolerance=1e-4,
        inferable=False,  # its own inference adds epsilon in float64
    ),
    built(
        "rsqrt",
        "0, infinity",
        lambda x: mb.rsqrt(x=x),
        lambda x: np.array([1e6, 0], np.float32),
        np.array([0, INF], np.float32),
    ),
    built(
        "inverse",
        "0, infinities, a negative number",
        lambda x: mb.inverse(x=x),
        lambda x: np.array([1e4, 0, 0, 1 / (-2 + 1e-4)], np.float32),
        np.array([0, INF, -INF, -2], np.float32),
    ),
    built(
        "clip threshold",
        "infinities, a bound that is met",
        lambda x: (mb.clip(x=x, alpha=-1.0, beta=3.5), mb.threshold(x=x, alpha=0.5)),
        lambda x: (np.clip(x, -1, 3.5), np.maximum(x, 0.5)),
        SPECIAL[:-1],
        tolerance=0,
    ),
    built(
        "threshold",
        "int32",
        lambda x: mb.threshold(x=x, alpha=np.int32(1)),
        lambda x: np.maximum(x, 1),
        WHOLE,
        tolerance=0,
    ),
    built(
        "cast",
        "to int8, uint8, int16, uint16 and back (iOS 17)",
        lambda x: tuple(
            mb.cast(x=mb.cast(x=x, dtype=t), dtype="int32")
            for t in ("int8", "uint8", "int16", "uint16")
        ),
        lambda x: (x.astype(int).astype(np.int32),) * 4,
        np.array([0, 1.9, 100.5, 127], np.float32),
        tolerance=0,
    ),
    built(
        "cast",
        "between int32, fp32, fp16 and bool",
        lambda x: (
            mb.cast(x=x, dtype="fp32"),
            mb.cast(x=mb.cast(x=x, dtype="bool"), dtype="int32"),
            mb.cast(x=mb.cast(x=x, dtype="fp16"), dtype="fp32"),
        ),
        lambda x: (x.astype("f4"), (x != 0).astype(np.int32), x.astype("f4")),
        WHOLE,
        tolerance=0,
    ),
    built(
        "logical_not logical_and logical_or logical_xor select",
        "broadcast rank 0 conditions",
        lambda x: mb.select(
            cond=mb.logical_or(
                x=mb.logical_and(x=mb.greater(x=x, y=0.0), y=mb.less(x=x, y=1.0)),
                y=mb.logical_xor(x=mb.logical_not(x=mb.equal(x=x, y=0.0)), y=np.bool_(True)),
            ),
            a=x,
            b=np.float32(-5),
        ),
        lambda x: np.where(((x > 0) & (x < 1)) | (x == 0), x, np.float32(-5)),
        np.array([-1, 0, 0.5, 2], np.float32),
        tolerance=0,
    ),
    built(
        "equal not_equal greater greater_equal less less_equal",
        "NaN and infinities",
        lambda x, y: tuple(
            mb.cast(x=getattr(mb, n)(x=x, y=y), dtype="int32")
            for n in ("equal", "not_equal", "greater", "greater_equal", "less", "less_equal")
        ),
        lambda x, y: tuple(
            r.astype(np.int32) for r in (x == y, x != y, x > y, x >= y, x < y, x <= y)
        ),
        np.array([NAN, NAN, INF, INF, 0.0, 1], np.float32),
        np.array([NAN, 1, INF, -INF, -0.0, NAN], np.float32),
        tolerance=0,
    ),
    built(
        "maximum minimum",
        "NaN wins, infinities",
        lambda x, y: (mb.maximum(x=x, y=y), mb.minimum(x=x, y=y)),
        lambda x, y: (np.maximum(x, y), np.minimum(x, y)),
        np.array([NAN, 1, INF, -INF], np.float32),
        np.array([1, NAN, 2, 3], np.float32),
        tolerance=0,
    ),
    built(
        "real_div",
        "by zero; of int32, truncated",
        lambda x, y, w: (mb.real_div(x=x, y=y), mb.real_div(x=w, y=np.int32(3))),
        lambda x, y, w: (np.array([INF, -INF, NAN], "f4"), np.trunc(w / 3).astype(np.int32)),
        np.array([1, -1, 0], np.float32),
        np.zeros(3, np.float32),
        WHOLE,
        inferable=False,  # its own inference floors, or divides by zero aloud
    ),
    built(
        "floor_div mod",
        "floats, all pairs of signs, a divisor of 1",
        lambda x, y: (mb.floor_div(x=x, y=y), mb.mod(x=x, y=y)),
        lambda x, y: (np.floor(x / y), x - np.floor(x / y) * y),
        np.array([5.5, -5.5, 5.5, -5.5, 3.25, -3.25], np.float32),
        np.array([2, 2, -2, -2, 1, 1], np.float32),
    ),
    built(
        "pow",
        "0 to the 0, a negative base, a fractional and a negative exponent",
        lambda x, y: mb.pow(x=x, y=y),
        lambda x, y: np.array([1, -8, 0.25, 2, NAN], np.float32),
        np.array([0, -2, -2, 4, -2], np.float32),
        np.array([0, 3, -2, 0.5, 0.5], np.float32),
    ),
    built(
        "pow",
        "int32",
        lambda x: mb.pow(x=x, y=np.int32(2)),
        lambda x: x**2,
        WHOLE,
        tolerance=0,
    ),
    built(
        "prelu",
        "rank 4, slopes of either sign",
        lambda x: mb.prelu(x=x, alpha=np.array([0.1, -2, 3], np.float32)),
        lambda x: np.where(x > 0, x, x * np.array([0.1, -2, 3], "f4").reshape(3, 1, 1)),
        floats(2, 3, 4, 2),
    ),
    built(
        "leaky_relu clamped_relu",
        "slopes above 1 and below 0, infinity",
        lambda x: (mb.leaky_relu(x=x, alpha=2.0), mb.clamped_relu(x=x, alpha=-1.0, beta=2.0)),
        lambda x: (np.where(x >= 0, x, 2 * x), np.minimum(np.where(x >= 0, x, -x), 2)),
        np.array([-3, -0.5, 0, 0.5, 3, INF], np.float32),
    ),
    built(
        "elu softplus_parametric",
        "±100",
        lambda x: (
            mb.elu(x=x, alpha=1.5),
            mb.softplus_parametric(x=x, alpha=np.float32([2, 2]), beta=np.float32([1, 1])),
        ),
        lambda x: (
            np.where(x > 0, x, 1.5 * np.expm1(np.minimum(x, 0))).astype("f4"),
            (2 * np.logaddexp(0, x.astype("f8"))).astype("f4"),
        ),
        np.array([[[[-100, -1]], [[1, 100]]]], np.float32),
        inferable=False,  # its own inference overflows
    ),
    built(
        "softmax",
        "rows of -1e4 and of equal numbers",
        lambda x: mb.softmax(x=x, axis=-1),
        lambda x: np.array([[0.5, 0.5, 0], [1 / 3, 1 / 3, 1 / 3]], np.float32),
        np.array([[1, 1, -1e4], [-1e4, -1e4, -1e4]], np.float32),
    ),
]

REDUCED = {
    "reduce_sum": np.sum,
    "reduce_mean": lambda x, **k: np.trunc(x.mean(**k)),
    "reduce_max": np.max,
    "reduce_min": np.min,
    "reduce_prod": np.prod,
    "reduce_l1_norm": lambda x, **k: np.abs(x).sum(**k),
    "reduce_sum_square": lambda x, **k: (x**2).sum(**k),
}

CASES += [
    built(
        name,
        "int32",
        one(name, axes=[-1], keep_dims=True),
        lambda x, f=function: f(x, axis=-1, keepdims=True).astype(np.int32),
        WHOLE,
        tolerance=0,
        inferable=name != "reduce_mean",
    )
    for name, function in REDUCED.items()
]

CASES += [
    built(
        "reduce_log_sum_exp",
        "±1000, a row of -infinity",
        lambda x: mb.reduce_log_sum_exp(x=x, axes=[1]),
        lambda x: np.array([1000 + np.log(2), -1000 + np.log(2), -INF], np.float32),
        np.array([[1000, 1000], [-1000, -1000], [-INF, -INF]], np.float32),
        inferable=False,  # its own inference overflows
    ),
    built(
        "reduce_log_sum reduce_l2_norm",
        "a sum of 0, all axes",
        lambda x: (
            mb.reduce_log_sum(x=x, axes=[1]),
            mb.expand_dims(x=mb.reduce_l2_norm(x=x), axes=[0]),
        ),
        lambda x: (np.array([np.log(7), -INF], "f4"), np.sqrt((x**2).sum(keepdims=True))[0]),
        np.array([[3, 4], [0, 0]], np.float32),
        inferable=False,  # its own inference warns of log(0)
    ),
    built(
        "reduce_argmax reduce_argmin",
        "ties: the first",
        lambda x: (mb.reduce_argmax(x=x, axis=1), mb.reduce_argmin(x=x, axis=1)),
        lambda x: (x.argmax(1).astype(np.int32), x.argmin(1).astype(np.int32)),
        np.array([[1, 3, 3, 1], [2, 2, 2, 2]], np.float32),
        tolerance=0,
    ),
    built(
        "reduce_argmax reduce_argmin",
        "int32; uint16 results (iOS 17)",
        lambda x: tuple(
            mb.cast(x=f(x=x, axis=0, output_dtype="uint16"), dtype="int32")
            for f in (mb.reduce_argmax, mb.reduce_argmin)
        ),
        lambda x: (x.argmax(0).astype(np.int32), x.argmin(0).astype(np.int32)),
        WHOLE,
        tolerance=0,
    ),
]


@pytest.mark.parametrize("case", CASES)
def test_operation_equals_its_definition(case):
    check(case)
