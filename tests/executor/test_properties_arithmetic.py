"""Operations that compute, against numpy and plain loops over random shapes and parameters."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from properties import EXAMPLES, apply, arrays, same, shapes

small = st.integers(-6, 6)

REDUCERS = {
    "reduce_sum": np.sum,
    "reduce_mean": np.mean,
    "reduce_max": np.max,
    "reduce_min": np.min,
    "reduce_prod": np.prod,
    "reduce_l1_norm": lambda x, **k: np.sum(np.abs(x), **k),
    "reduce_l2_norm": lambda x, **k: np.sqrt(np.sum(x * x, **k)),
    "reduce_sum_square": lambda x, **k: np.sum(x * x, **k),
    "reduce_log_sum": lambda x, **k: np.log(np.sum(np.abs(x) + 1, **k)),
    "reduce_log_sum_exp": lambda x, **k: np.log(np.sum(np.exp(x), **k)),
}


@EXAMPLES
@given(
    name=st.sampled_from(sorted(REDUCERS)),
    x=shapes().flatmap(arrays),
    keep=st.booleans(),
    data=st.data(),
)
def test_reductions_are_numpys(name, x, keep, data):
    axes = data.draw(st.lists(st.integers(0, x.ndim - 1), unique=True, min_size=1))
    signed = [a - x.ndim if data.draw(st.booleans()) else a for a in axes]
    for asked, numpys in ((signed, tuple(axes)), (None, None)):
        given = np.abs(x) + 1 if name == "reduce_log_sum" else x
        found = apply(name, x=given, axes=asked, keep_dims=keep)
        expected = REDUCERS[name](x.astype(np.float64), axis=numpys, keepdims=keep)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
        assert found.shape == np.shape(expected)


@EXAMPLES
@given(x=shapes().flatmap(lambda s: arrays(s, small, np.int32)), keep=st.booleans(), data=st.data())
def test_reductions_of_whole_numbers_stay_whole(x, keep, data):
    axis = data.draw(st.integers(0, x.ndim - 1))
    for name in ("reduce_sum", "reduce_max", "reduce_min", "reduce_prod"):
        expected = REDUCERS[name](x, axis=axis, keepdims=keep).astype(np.int32)
        same(apply(name, x=x, axes=[axis], keep_dims=keep), expected)
    for name, function in (("reduce_argmax", np.argmax), ("reduce_argmin", np.argmin)):
        found = apply(name, x=x, axis=axis, keep_dims=keep)
        assert found.shape == function(x, axis=axis, keepdims=keep).shape
        best = np.take_along_axis(x, found if keep else np.expand_dims(found, axis), axis)
        same(best, REDUCERS[name.replace("arg", "")](x, axis=axis, keepdims=True))


@st.composite
def broadcastable(draw, elements=None, dtype=np.float32):
    shape = draw(shapes(low=1, high=4, largest=4))
    pair = []
    for _ in range(2):
        rank = draw(st.integers(0, len(shape)))
        cut = tuple(1 if draw(st.booleans()) else n for n in shape[len(shape) - rank :])
        pair.append(draw(arrays(cut, elements, dtype)))
    return pair


BINARY = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "maximum": np.maximum,
    "minimum": np.minimum, "equal": np.equal, "not_equal": np.not_equal, "greater": np.greater,
    "greater_equal": np.greater_equal, "less": np.less, "less_equal": np.less_equal,
}  # fmt: skip
DIVISIONS = {
    "floor_div": np.floor_divide,
    "mod": np.mod,
    "real_div": lambda x, y: np.trunc(x / y).astype(np.int32),
}


@EXAMPLES
@given(
    name=st.sampled_from(sorted(BINARY)),
    pair=st.one_of(broadcastable(), broadcastable(small, np.int32)),
)
def test_binary_operations_broadcast_as_numpy(name, pair):
    x, y = pair
    same(apply(name, x=x, y=y), BINARY[name](x, y))


@EXAMPLES
@given(name=st.sampled_from(sorted(DIVISIONS)), pair=broadcastable(small, np.int32))
def test_divisions_of_whole_numbers_are_numpys(name, pair):
    x, y = pair
    y = np.where(y == 0, 5, y).astype(np.int32)
    same(apply(name, x=x, y=y), DIVISIONS[name](x, y).astype(np.int32))


@EXAMPLES
@given(
    pair=broadcastable(st.booleans(), np.bool_),
    name=st.sampled_from(["logical_and", "logical_or", "logical_xor"]),
)
def test_logical_operations_broadcast_as_numpy(pair, name):
    x, y = pair
    same(apply(name, x=x, y=y), getattr(np, name)(x, y))


@EXAMPLES
@given(pair=broadcastable(), data=st.data())
def test_select_broadcasts_all_three(pair, data):
    a, b = pair
    shape = np.broadcast_shapes(a.shape, b.shape)
    cond = data.draw(arrays(tuple(1 if data.draw(st.booleans()) else n for n in shape),
                            st.booleans(), np.bool_))  # fmt: skip
    same(apply("select", cond=cond, a=a, b=b), np.where(cond, a, b))


@pytest.mark.parametrize("x", [-(2**31), 2**31 - 1, 7])
def test_the_smallest_whole_number_divided_by_minus_one_does_not_end_the_process(x):
    numbers, divisor = np.full(9, x, np.int32), np.full(9, -1, np.int32)
    wrapped = (-numbers.astype(np.int64)).astype(np.int32)
    for name in ("real_div", "floor_div"):
        same(apply(name, x=numbers, y=divisor), wrapped)
    same(apply("mod", x=numbers, y=divisor), np.zeros(9, np.int32))


@EXAMPLES
@given(data=st.data(), transpose_x=st.booleans(), transpose_y=st.booleans())
def test_matmul_transposes_and_broadcasts_as_numpy(data, transpose_x, transpose_y):
    n, k, m = (data.draw(st.integers(1, 4)) for _ in range(3))
    batch = data.draw(shapes(low=0, high=2, largest=3))
    cuts = []
    for _ in range(2):
        rank = data.draw(st.integers(0, len(batch)))
        kept = batch[len(batch) - rank :]
        cuts.append(tuple(1 if data.draw(st.booleans()) else d for d in kept))
    x = data.draw(arrays((*cuts[0], *((k, n) if transpose_x else (n, k)))))
    y = data.draw(arrays((*cuts[1], *((m, k) if transpose_y else (k, m)))))
    expected = np.matmul(
        np.swapaxes(x, -1, -2) if transpose_x else x, np.swapaxes(y, -1, -2) if transpose_y else y
    )
    same(
        apply("matmul", x=x, y=y, transpose_x=transpose_x, transpose_y=transpose_y), expected, 1e-5
    )


@EXAMPLES
@given(data=st.data(), biased=st.booleans())
def test_linear_multiplies_by_the_transposed_weight(data, biased):
    x = data.draw(shapes(low=1, high=3).flatmap(arrays))
    weight = data.draw(arrays((data.draw(st.integers(1, 4)), x.shape[-1])))
    bias = data.draw(arrays((weight.shape[0],))) if biased else None
    expected = x @ weight.T + (bias if biased else 0)
    same(apply("linear", x=x, weight=weight, bias=bias), expected.astype(np.float32), 1e-5)


@EXAMPLES
@given(data=st.data())
def test_einsum_is_numpys(data):
    sizes = {letter: data.draw(st.integers(1, 3)) for letter in "abcde"}
    letters = st.lists(st.sampled_from("abcde"), unique=True, min_size=1, max_size=4)
    one, two = "".join(data.draw(letters)), "".join(data.draw(letters))
    kept = data.draw(st.permutations(sorted({*one, *two})))
    out = "".join(kept[: data.draw(st.integers(0, len(kept)))])
    x, y = (data.draw(arrays(tuple(sizes[c] for c in text))) for text in (one, two))
    equation = f"{one},{two}->{out}"
    same(apply("einsum", values=(x, y), equation=equation), np.einsum(equation, x, y), 1e-4)


def padding(pad_type, pad, sizes, kernel, strides):
    """(before, after) of each dimension: `same` makes ceil(size / stride) windows fit."""
    if pad_type == "custom":
        return list(zip(pad[::2], pad[1::2], strict=True))
    pairs = []
    for size, k, s in zip(sizes, kernel, strides, strict=True):
        total = max(0, (math.ceil(size / s) - 1) * s + k - size) if "same" in pad_type else 0
        less, more = total // 2, total - total // 2
        pairs.append((more, less) if pad_type == "same_lower" else (less, more))
    return pairs


def naive_conv(x, weight, strides, dilations, pairs, groups):
    """Element by element; x [n, C_in, *D], weight [C_out, C_in / groups, *K]."""
    x = np.pad(x, [(0, 0), (0, 0), *pairs])
    kernel = weight.shape[2:]
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    counts = [(n - r) // s + 1 for n, r, s in zip(x.shape[2:], reach, strides, strict=True)]
    per_group = weight.shape[0] // groups
    y = np.zeros((x.shape[0], weight.shape[0], *counts))
    for item, channel, *at in np.ndindex(y.shape):
        first = channel // per_group * weight.shape[1]
        for offset in np.ndindex(kernel):
            place = tuple(
                a * s + o * d for a, s, o, d in zip(at, strides, offset, dilations, strict=True)
            )
            for c in range(weight.shape[1]):
                y[(item, channel, *at)] += (
                    x[(item, first + c, *place)] * weight[(channel, c, *offset)]
                )
    return y


@st.composite
def convolutions(draw):
    rank = draw(st.sampled_from([1, 1, 2, 2, 3]))
    groups, per_in, per_out = (draw(st.integers(1, 2)) for _ in range(3))
    kernel = tuple(draw(st.integers(1, 3)) for _ in range(rank))
    strides = [draw(st.integers(1, 3)) for _ in range(rank)]
    dilations = [draw(st.integers(1, 2)) for _ in range(rank)]
    size = {1: 8, 2: 5, 3: 3}[rank]
    sizes = tuple(draw(st.integers(1, size)) for _ in range(rank))
    pad_type = draw(st.sampled_from(["valid", "custom", "same", "same_lower"]))
    pad = [draw(st.integers(0, 2)) for _ in range(2 * rank)]
    x = draw(arrays((draw(st.integers(1, 2)), groups * per_in, *sizes)))
    return x, kernel, strides, dilations, pad_type, pad, groups, per_in, per_out


@EXAMPLES
@given(case=convolutions(), biased=st.booleans(), data=st.data())
def test_conv_is_a_sum_over_its_window(case, biased, data):
    x, kernel, strides, dilations, pad_type, pad, groups, per_in, per_out = case
    weight = data.draw(arrays((groups * per_out, per_in, *kernel)))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    pairs = padding(pad_type, pad, x.shape[2:], reach, strides)
    assume(all(n + b + a >= r for n, (b, a), r in zip(x.shape[2:], pairs, reach, strict=True)))
    bias = data.draw(arrays((weight.shape[0],))) if biased else None
    expected = naive_conv(x, weight, strides, dilations, pairs, groups)
    if biased:
        expected += bias.reshape(-1, *[1] * len(kernel))
    found = apply("conv", x=x, weight=weight, bias=bias, strides=strides, pad_type=pad_type,
                  pad=pad if pad_type == "custom" else None,
                  dilations=dilations, groups=groups)  # fmt: skip
    same(found, expected.astype(np.float32), 1e-3)


def naive_transposed(x, weight, strides, dilations, groups):
    """Every input element adds its kernel to the full result."""
    kernel = weight.shape[2:]
    full = [
        (n - 1) * s + (k - 1) * d + 1
        for n, s, k, d in zip(x.shape[2:], strides, kernel, dilations, strict=True)
    ]
    per_in, per_out = x.shape[1] // groups, weight.shape[1]
    y = np.zeros((x.shape[0], groups * per_out, *full))
    for item, channel, *at in np.ndindex(x.shape):
        for c, *offset in np.ndindex(weight.shape[1:]):
            place = (
                a * s + o * d for a, s, o, d in zip(at, strides, offset, dilations, strict=True)
            )
            y[(item, channel // per_in * per_out + c, *place)] += (
                x[(item, channel, *at)] * weight[(channel, c, *offset)]
            )
    return y


@EXAMPLES
@given(case=convolutions(), biased=st.booleans(), data=st.data())
def test_conv_transpose_adds_kernels_and_crops(case, biased, data):
    x, kernel, strides, dilations, pad_type, pad, groups, per_in, per_out = case
    weight = data.draw(arrays((groups * per_in, per_out, *kernel)))
    full = naive_transposed(x, weight, strides, dilations, groups)
    if pad_type == "custom":
        pairs = list(zip(pad[::2], pad[1::2], strict=True))
    elif pad_type == "valid":
        pairs = [(0, 0)] * len(kernel)
    else:
        pairs = []
        for f, n, s in zip(full.shape[2:], x.shape[2:], strides, strict=True):
            assume(f >= n * s)
            total = f - n * s
            half = total // 2
            pairs.append((half, total - half) if pad_type == "same" else (total - half, half))
    assume(all(f > b + a for f, (b, a) in zip(full.shape[2:], pairs, strict=True)))
    crops = tuple(slice(b, f - a) for f, (b, a) in zip(full.shape[2:], pairs, strict=True))
    expected = full[(slice(None), slice(None), *crops)]
    bias = data.draw(arrays((groups * per_out,))) if biased else None
    if biased:
        expected = expected + bias.reshape(-1, *[1] * len(kernel))
    found = apply("conv_transpose", x=x, weight=weight, bias=bias, strides=strides,
                  pad_type=pad_type, pad=pad if pad_type == "custom" else None,
                  dilations=dilations, groups=groups)  # fmt: skip
    same(found, expected.astype(np.float32), 1e-3)


@EXAMPLES
@given(case=convolutions(), name=st.sampled_from(["max_pool", "avg_pool", "l2_pool"]),
       exclude=st.booleans())  # fmt: skip
def test_pooling_looks_at_each_window(case, name, exclude):
    x, kernel, strides, _, pad_type, pad, *_ = case
    pairs = padding(pad_type, pad, x.shape[2:], kernel, strides)
    assume(all(max(p) < k for p, k in zip(pairs, kernel, strict=True)))
    assume(all(n + b + a >= k for n, (b, a), k in zip(x.shape[2:], pairs, kernel, strict=True)))
    edges = [(0, 0), (0, 0), *pairs]
    filled = np.pad(x.astype(np.float64), edges, constant_values=-np.inf)
    counts = [(n - k) // s + 1 for n, k, s in zip(filled.shape[2:], kernel, strides, strict=True)]
    expected = np.zeros((*x.shape[:2], *counts))
    for at in np.ndindex(*counts):
        window = tuple(slice(a * s, a * s + k) for a, s, k in zip(at, strides, kernel, strict=True))
        seen = filled[(slice(None), slice(None), *window)].reshape(*x.shape[:2], -1)
        zeroed = np.where(np.isinf(seen), 0, seen)
        if name == "max_pool":
            value = seen.max(-1)
        elif name == "l2_pool":
            value = np.sqrt((zeroed**2).sum(-1))
        else:
            inside = np.isfinite(seen).sum(-1)
            value = zeroed.sum(-1) / (np.maximum(inside, 1) if exclude else seen.shape[-1])
        expected[(slice(None), slice(None), *at)] = value
    options = {"exclude_padding_from_average": exclude} if name == "avg_pool" else {}
    found = apply(name, x=x, kernel_sizes=list(kernel), strides=strides, pad_type=pad_type,
                  pad=pad if pad_type == "custom" else None, **options)  # fmt: skip
    same(found, expected.astype(np.float32), 1e-4)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def naive_lstm(x, h, c, weight_ih, weight_hh, bias):
    """MIL's equations: rows of the weights are input, forget, output, cell."""
    steps = []
    for row in x:
        i, f, o, z = np.split(row @ weight_ih.T + h @ weight_hh.T + bias, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(z)
        h = sigmoid(o) * np.tanh(c)
        steps.append(h)
    return np.stack(steps), h, c


@EXAMPLES
@given(
    data=st.data(),
    direction=st.sampled_from(["forward", "reverse", "bidirectional"]),
    sequence=st.booleans(),
)
def test_lstm_follows_mils_equations(data, direction, sequence):
    s, b, i, h = (data.draw(st.integers(1, 3)) for _ in range(4))
    ways = 2 if direction == "bidirectional" else 1
    x = data.draw(arrays((s, b, i)))
    state = [data.draw(arrays((b, ways * h))) for _ in range(2)]
    parts = [
        [data.draw(arrays(shape)) for shape in ((4 * h, i), (4 * h, h), (4 * h,))]
        for _ in range(ways)
    ]
    runs = []
    for way, weights in enumerate(parts):
        backward = way == 1 or direction == "reverse"
        begin = [part[:, way * h : (way + 1) * h] for part in state]
        steps, *last = naive_lstm(x[::-1] if backward else x, *begin, *weights)
        runs.append((steps[::-1] if way == 1 else steps, *last))
    names = ("weight_ih", "weight_hh", "bias")
    bound = dict(zip(names, parts[0], strict=True))
    if ways == 2:
        bound.update(zip((f"{n}_back" for n in names), parts[1], strict=True))
    found = apply("lstm", x=x, initial_h=state[0], initial_c=state[1], direction=direction,
                  output_sequence=sequence, **bound)  # fmt: skip
    joined = [np.concatenate(group, -1).astype(np.float32) for group in zip(*runs, strict=True)]
    joined[0] = joined[0] if sequence else joined[1][None]
    for one, other in itertools.zip_longest(found, joined):
        same(one, other, 1e-4)


@EXAMPLES
@given(
    x=shapes(low=1, high=3).flatmap(arrays),
    signed=st.booleans(),
    per_channel=st.booleans(),
    data=st.data(),
)
def test_quantizing_rounds_clips_and_comes_back_within_half_a_step(x, signed, per_channel, data):
    axis = data.draw(st.integers(0, x.ndim - 1))
    count = (x.shape[axis],) if per_channel else ()
    scale = np.exp2(data.draw(arrays(count, st.integers(-5, 0), np.int32))).astype(np.float32)
    kind = np.int8 if signed else np.uint8
    low, high = np.iinfo(kind).min, np.iinfo(kind).max
    zero = data.draw(arrays(count, st.integers(low + 60, high - 60), kind))
    view = [1] * x.ndim
    view[axis] = -1
    wide = (lambda p: p.reshape(view)) if per_channel else (lambda p: p)
    bound = {"scale": scale, "zero_point": zero, "axis": axis if per_channel else None}
    name = "int8" if signed else "uint8"
    found = apply("quantize", input=x, output_dtype=name, **bound)
    levels = np.round(x / wide(scale)) + wide(zero).astype(np.float32)
    same(found, np.clip(levels, low, high).astype(kind))
    back = apply("dequantize", input=found, **bound)
    same(back, ((found.astype(np.float32) - wide(zero).astype(np.float32)) * wide(scale)))
    unclipped = (levels >= low) & (levels <= high)
    assert (np.abs(back - x) <= wide(scale) / 2 + 1e-6)[unclipped].all()


@EXAMPLES
@given(x=shapes(low=2).flatmap(arrays), lower=st.integers(-1, 4), upper=st.integers(-1, 4))
def test_band_part_keeps_the_band(x, lower, upper):
    rows, columns = np.indices(x.shape[-2:])
    keep = ((lower < 0) | (rows - columns <= lower)) & ((upper < 0) | (columns - rows <= upper))
    same(apply("band_part", x=x, lower=lower, upper=upper), np.where(keep, x, 0).astype(x.dtype))


@EXAMPLES
@given(x=shapes().flatmap(arrays), data=st.data(), affine=st.booleans())
def test_layer_norm_over_any_axes(x, data, affine):
    axes = sorted(data.draw(st.lists(st.integers(0, x.ndim - 1), unique=True, min_size=1)))
    inner = tuple(x.shape[a] for a in axes)
    gamma, beta = (data.draw(arrays(inner)) if affine else None for _ in range(2))
    wide = x.astype(np.float64)
    mean, variance = (f(wide, axis=tuple(axes), keepdims=True) for f in (np.mean, np.var))
    expected = (wide - mean) / np.sqrt(variance + 1e-3)
    if affine:
        view = [n if d in axes else 1 for d, n in enumerate(x.shape)]
        expected = expected * gamma.reshape(view) + beta.reshape(view)
    found = apply("layer_norm", x=x, axes=axes, gamma=gamma, beta=beta, epsilon=1e-3)
    same(found, expected.astype(np.float32), 1e-3)


@EXAMPLES
@given(x=shapes().flatmap(lambda s: arrays(s, st.floats(-80, 80, width=32))), data=st.data())
def test_softmax_sums_to_one_and_ignores_a_shift(x, data):
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    found = apply("softmax", x=x, axis=axis)
    shifted = np.exp(x.astype(np.float64) - x.max(axis, keepdims=True))
    same(found, (shifted / shifted.sum(axis, keepdims=True)).astype(np.float32), 1e-5)
    np.testing.assert_allclose(found.sum(axis), 1, rtol=1e-5)
