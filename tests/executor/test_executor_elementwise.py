import math

import numpy as np
import pytest
import torch
from coremltools.converters.mil import Builder as mb
from mil_packages import close, floats, run
from proofs import NUMPY, TORCH, proves

UNARY = {
    "abs": np.abs,
    "acos": np.arccos,
    "asin": np.arcsin,
    "atan": np.arctan,
    "atanh": np.arctanh,
    "ceil": np.ceil,
    "cos": np.cos,
    "cosh": np.cosh,
    "erf": np.vectorize(math.erf, otypes=[np.float32]),
    "exp": np.exp,
    "exp2": np.exp2,
    "floor": np.floor,
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "round": np.rint,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "sign": np.sign,
    "silu": lambda x: x / (1 + np.exp(-x)),
    "sin": np.sin,
    "sinh": np.sinh,
    "softplus": lambda x: np.log1p(np.exp(x)),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "sqrt": np.sqrt,
    "square": np.square,
    "tan": np.tan,
    "tanh": np.tanh,
}


LARGE = ["abs", "ceil", "floor", "relu", "relu6", "sign", "sigmoid", "softplus", "tanh", "erf"]

BINARY = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "real_div": np.divide,
    "floor_div": np.floor_divide,
    "mod": np.mod,
    "maximum": np.maximum,
    "minimum": np.minimum,
}

COMPARISONS = {
    "equal": np.equal,
    "not_equal": np.not_equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "less": np.less,
    "less_equal": np.less_equal,
}

LOGIC = {
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "logical_xor": np.not_equal,
}

PARAMETRIC = (
    "leaky_relu",
    "clamped_relu",
    "elu",
    "linear_activation",
    "scaled_tanh",
    "sigmoid_hard",
    "thresholded_relu",
    "prelu",
    "softplus_parametric",
)


@proves(*UNARY, against=NUMPY, over="values from 0 to 1")
def test_every_unary_operation_equals_numpy():
    x = floats(3, 5, low=0.01, high=0.99)
    outputs = run(lambda x: tuple(getattr(mb, n)(x=x) for n in UNARY), x, ops=list(UNARY))
    for found, (_, expected) in zip(outputs, UNARY.items(), strict=True):
        close(found, expected(x).astype(np.float32))


@proves(*LARGE, against=NUMPY, over="-100 to 90, -0")
def test_unary_operations_at_negative_and_large_values():
    x = np.array([-100, -7.5, -0.5, -0.0, 0.5, 7.5, 90], np.float32)
    outputs = run(lambda x: tuple(getattr(mb, n)(x=x) for n in LARGE), x)
    with np.errstate(over="ignore"):
        for found, name in zip(outputs, LARGE, strict=True):
            close(found, UNARY[name](x.astype(np.float64)).astype(np.float32))


@proves("round", "cast", against=NUMPY, over="halves, both signs, to int32 and bool")
def test_round_is_half_to_even_and_cast_truncates():
    x = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 2.7, -2.7], np.float32)
    rounded, whole, truth = run(
        lambda x: (
            mb.round(x=x),
            mb.cast(x=x, dtype="int32"),
            mb.cast(x=mb.cast(x=mb.floor(x=x), dtype="bool"), dtype="fp32"),
        ),
        x,
        ops=["round", "cast"],
    )
    assert rounded.tolist() == [-2, -2, 0, 0, 2, 2, 3, -3]
    assert whole.tolist() == [-2, -1, 0, 0, 1, 2, 2, -2]
    assert truth.tolist() == [1, 1, 1, 0, 1, 1, 1, 1]


@proves(
    "inverse", "log", "rsqrt", against=NUMPY, over="0 and small values, default and given epsilon"
)
def test_added_epsilons_and_their_defaults():
    x = np.array([0.0, 1e-3, 2.0], np.float32)
    bodies = lambda x: (  # noqa: E731
        mb.inverse(x=x),
        mb.inverse(x=x, epsilon=np.float32(0.5)),
        mb.log(x=x),
        mb.rsqrt(x=x),
        mb.rsqrt(x=x, epsilon=np.float32(1.0)),
    )
    inverse, inverse_half, log, rsqrt, rsqrt_one = run(bodies, x)
    close(inverse, (1 / (x + np.float32(1e-4))).astype(np.float32))
    close(inverse_half, 1 / (x + np.float32(0.5)))
    assert log[0] == pytest.approx(-103.28, abs=0.01)
    close(log[1:], np.log(x[1:]))
    close(rsqrt, (1 / np.sqrt(x.astype(np.float64) + 1e-12)).astype(np.float32))
    close(rsqrt_one, 1 / np.sqrt(x + 1))


@proves(*BINARY, "pow", against=NUMPY, over="floats, broadcasting")
def test_binary_operations_equal_numpy_with_broadcasting():
    x, y = floats(2, 3, 4), floats(3, 1, seed=1, low=0.3)
    outputs = run(lambda x, y: tuple(getattr(mb, n)(x=x, y=y) for n in BINARY), x, y, ops=BINARY)
    for found, function in zip(outputs, BINARY.values(), strict=True):
        close(found, function(x, y))
    (power,) = run(lambda x, y: mb.pow(x=x, y=y), np.abs(x), y, ops=["pow"])
    close(power, np.power(np.abs(x), y))


@proves("mod", "floor_div", against=NUMPY, over="all pairs of signs, int32 and floats")
def test_mod_and_floor_division_take_the_sign_of_the_divisor():
    x = np.array([-7, -7, 7, 7, 0], np.int32)
    y = np.array([3, -3, 3, -3, 5], np.int32)
    fx, fy = x.astype(np.float32) + 0.5, y.astype(np.float32)
    mod, floor_div = run(lambda x, y: (mb.mod(x=x, y=y), mb.floor_div(x=x, y=y)), x, y)
    assert mod.dtype == np.int32
    assert mod.tolist() == [2, -1, 1, -2, 0]
    assert floor_div.tolist() == [-3, 2, 2, -3, 0]
    (float_mod,) = run(lambda x, y: mb.mod(x=x, y=y), fx, fy)
    close(float_mod, fx - np.floor(fx / fy) * fy)


@proves(
    "add", "sub", "mul", "maximum", "minimum", "abs", "sign", "square", against=NUMPY, over="int32"
)
def test_integers_stay_integers():
    x, y = np.array([-6, 5, 100000], np.int32), np.array([2, 4, 7], np.int32)
    names = ["add", "sub", "mul", "maximum", "minimum"]
    outputs = run(lambda x, y: tuple(getattr(mb, n)(x=x, y=y) for n in names), x, y)
    expected = [x + y, x - y, x * y, np.maximum(x, y), np.minimum(x, y)]
    for found, numbers in zip(outputs, expected, strict=True):
        assert found.dtype == np.int32
        assert found.tolist() == numbers.tolist()
    absolute, sign, square = run(lambda x: (mb.abs(x=x), mb.sign(x=x), mb.square(x=x)), x[:2])
    assert (absolute.tolist(), sign.tolist(), square.tolist()) == ([6, 5], [-1, 1], [36, 25])


@proves(
    *COMPARISONS,
    *LOGIC,
    "logical_not",
    "cast",
    against=NUMPY,
    over="equal, smaller and larger pairs",
)
def test_comparisons_and_logic():
    x, y = np.array([1, 2, 3, -1], np.float32), np.array([1, 3, 2, -1], np.float32)

    def body(x, y):
        number = lambda b: mb.cast(x=b, dtype="fp32")  # noqa: E731
        a, b = mb.greater(x=x, y=np.float32(1)), mb.greater(x=y, y=np.float32(1))
        return (
            *(number(getattr(mb, n)(x=x, y=y)) for n in COMPARISONS),
            *(number(getattr(mb, n)(x=a, y=b)) for n in LOGIC),
            number(mb.logical_not(x=a)),
        )

    outputs = run(body, x, y, ops=[*COMPARISONS, *LOGIC, "logical_not"])
    expected = [f(x, y) for f in COMPARISONS.values()]
    expected += [f(x > 1, y > 1) for f in LOGIC.values()]
    for found, truth in zip(outputs, [*expected, ~(x > 1)], strict=True):
        assert found.astype(bool).tolist() == truth.tolist()


@proves("select", "greater", against=NUMPY, over="broadcasting")
def test_select_takes_a_where_true_and_broadcasts():
    x, y = floats(2, 3), floats(1, 3, seed=1)
    body = lambda x, y: mb.select(cond=mb.greater(x=x, y=np.float32(0)), a=x, b=y)  # noqa: E731
    (found,) = run(body, x, y, ops=["select"])
    close(found, np.where(x > 0, x, np.broadcast_to(y, x.shape)))


@proves("clip", "threshold", against=NUMPY, over="below, between and above the limits")
def test_limits():
    x = floats(20, low=-9, high=9)
    clip, threshold = run(
        lambda x: (mb.clip(x=x, alpha=-1.5, beta=2.5), mb.threshold(x=x, alpha=0.75)), x
    )
    close(clip, np.clip(x, -1.5, 2.5))
    close(threshold, np.maximum(x, np.float32(0.75)))


@proves("gelu", against=NUMPY, over="all modes and the default")
@pytest.mark.parametrize("mode", ["EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION", None])
def test_gelu_modes(mode):
    x = floats(30, low=-4, high=4)
    (found,) = run(lambda x: mb.gelu(x=x, **({"mode": mode} if mode else {})), x, ops=["gelu"])
    cubic = np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))
    erf = np.vectorize(math.erf)(x / np.sqrt(2))
    expected = {
        "TANH_APPROXIMATION": 0.5 * x * (1 + cubic),
        "SIGMOID_APPROXIMATION": x / (1 + np.exp(-1.702 * x)),
    }.get(mode, 0.5 * x * (1 + erf))
    close(found, expected.astype(np.float32), 1e-6)


@proves(*PARAMETRIC, against=NUMPY, over="rank 4, both signs, parameters per channel")
def test_parametric_activations():
    x = floats(1, 2, 3, 4)
    a, b = np.array([0.5, 2.0], np.float32), np.array([1.5, 0.25], np.float32)
    at = lambda p: p.reshape(1, 2, 1, 1)  # noqa: E731
    cases = {
        "leaky_relu": ({"alpha": 0.1}, np.where(x >= 0, x, 0.1 * x)),
        "clamped_relu": (
            {"alpha": 0.5, "beta": 1.0},
            np.minimum(1.0, np.where(x >= 0, x, 0.5 * x)),
        ),
        "elu": ({"alpha": 0.7}, np.where(x > 0, x, 0.7 * (np.exp(x) - 1))),
        "linear_activation": ({"alpha": 3.0, "beta": -1.0}, 3 * x - 1),
        "scaled_tanh": ({"alpha": 1.7, "beta": 0.6}, 1.7 * np.tanh(0.6 * x)),
        "sigmoid_hard": ({"alpha": 0.2, "beta": 0.5}, np.clip(0.2 * x + 0.5, 0, 1)),
        "thresholded_relu": ({"alpha": 0.8}, np.where(x >= 0.8, x, 0)),
        "prelu": ({"alpha": a}, np.where(x > 0, x, at(a) * x)),
        "softplus_parametric": (
            {"alpha": a, "beta": b},
            at(a) * np.log1p(np.exp(at(b) * x)),
        ),
    }
    outputs = run(
        lambda x: tuple(getattr(mb, n)(x=x, **p) for n, (p, _) in cases.items()), x, ops=PARAMETRIC
    )
    for found, (_, expected) in zip(outputs, cases.values(), strict=True):
        close(found, expected.astype(np.float32))


@proves("thresholded_relu", against=NUMPY, over="the threshold itself")
def test_thresholded_relu_keeps_the_threshold_itself():
    x = np.array([0.5, 0.75, 1.0], np.float32)
    (found,) = run(lambda x: mb.thresholded_relu(x=x, alpha=0.75), x)
    assert found.tolist() == [0, 0.75, 1.0]


@proves("softmax", against=TORCH, over="any axis, values of ±30")
@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_softmax_along_any_axis(axis):
    x = floats(2, 3, 5, low=-30, high=30)
    (found,) = run(lambda x: mb.softmax(x=x, axis=axis), x, ops=["softmax"])
    close(found, torch.softmax(torch.from_numpy(x), axis).numpy())


@proves("reduce_sum", "mul", against=NUMPY, over="NaN, infinity")
def test_nan_passes_through_and_is_not_an_error():
    x = np.array([np.nan, 1.0, -np.inf], np.float32)
    total, same = run(lambda x: (mb.reduce_sum(x=x, axes=[0]), mb.mul(x=x, y=np.float32(2))), x)
    assert np.isnan(total).all()
    np.testing.assert_array_equal(same, x * 2)
