import numpy as np
import pytest
from coremltools.converters.mil import Builder as mb
from hypothesis import given, settings
from hypothesis import strategies as st
from mil_packages import close, floats, run
from proofs import NUMPY, proves

from kokoro_coreml.errors import PackageError

REDUCTIONS = {
    "reduce_sum": np.sum,
    "reduce_mean": np.mean,
    "reduce_max": np.max,
    "reduce_min": np.min,
    "reduce_prod": np.prod,
    "reduce_l1_norm": lambda x, **k: np.abs(x).sum(**k),
    "reduce_l2_norm": lambda x, **k: np.sqrt((x**2).sum(**k)),
    "reduce_log_sum": lambda x, **k: np.log(x.sum(**k)),
    "reduce_log_sum_exp": lambda x, **k: np.log(np.exp(x).sum(**k)),
    "reduce_sum_square": lambda x, **k: (x**2).sum(**k),
}


@proves(*REDUCTIONS, against=NUMPY, over="any axes, kept or not")
@settings(max_examples=15, deadline=None)
@given(
    axes=st.lists(st.integers(-3, 2), min_size=1, max_size=2, unique_by=lambda a: a % 3),
    keep=st.booleans(),
    every=st.booleans(),
)
def test_reductions_equal_numpy_over_any_axes(axes, keep, every):
    x = floats(3, 4, 2, low=0.5)
    axes = None if every and keep else axes

    def body(x):
        options = {} if axes is None else {"axes": axes}
        return tuple(getattr(mb, n)(x=x, keep_dims=keep, **options) for n in REDUCTIONS)

    outputs = run(body, x, ops=list(REDUCTIONS))
    for found, function in zip(outputs, REDUCTIONS.values(), strict=True):
        close(found, function(x, axis=None if axes is None else tuple(axes), keepdims=keep), 3e-6)


@proves("reduce_argmax", "reduce_argmin", against=NUMPY, over="any axis, kept or not")
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_arguments_of_extremes(axis):
    x = floats(3, 4, 5)
    body = lambda x: (  # noqa: E731
        mb.reduce_argmax(x=x, axis=axis),
        mb.reduce_argmin(x=x, axis=axis, keep_dims=True),
    )
    largest, smallest = run(body, x, ops=["reduce_argmax", "reduce_argmin"])
    assert largest.dtype == smallest.dtype == np.int32
    np.testing.assert_array_equal(largest, x.argmax(axis))
    np.testing.assert_array_equal(smallest, x.argmin(axis, keepdims=True))


@proves("reduce_sum", "cumsum", against=NUMPY, over="int32")
def test_integer_sums_keep_their_type():
    x = np.arange(-3, 9, dtype=np.int32).reshape(3, 4)
    total, running = run(lambda x: (mb.reduce_sum(x=x, axes=[1]), mb.cumsum(x=x, axis=1)), x)
    assert total.dtype == running.dtype == np.int32
    np.testing.assert_array_equal(total, x.sum(1))
    np.testing.assert_array_equal(running, x.cumsum(1))


@proves("cumsum", against=NUMPY, over="exclusive, reverse, any axis")
@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_cumsum(axis, reverse, exclusive):
    x = floats(2, 3, 4)
    body = lambda x: mb.cumsum(x=x, axis=axis, exclusive=exclusive, reverse=reverse)  # noqa: E731
    (found,) = run(body, x, ops=["cumsum"])
    y = np.flip(x, axis) if reverse else x
    total = y.cumsum(axis) - (y if exclusive else 0)
    close(found, np.flip(total, axis) if reverse else total)


@proves("argsort", "topk", against=NUMPY, over="both orders, any axis")
def test_sorting_and_topk():
    x = floats(3, 6)

    def body(x):
        return (
            mb.argsort(x=x, axis=1),
            mb.argsort(x=x, axis=0, ascending=True),
            *mb.topk(x=x, k=2, axis=1),
            *mb.topk(x=x, k=2, axis=0, ascending=True),
        )

    down, up, best, where, least, least_at = run(body, x, ops=["argsort", "topk"])
    np.testing.assert_array_equal(down, np.argsort(-x, 1))
    np.testing.assert_array_equal(up, np.argsort(x, 0))
    close(best, -np.sort(-x, 1)[:, :2])
    np.testing.assert_array_equal(where, np.argsort(-x, 1)[:, :2])
    close(least, np.sort(x, 0)[:2])
    np.testing.assert_array_equal(least_at, np.argsort(x, 0)[:2])


@proves(
    "fill",
    "fill_like",
    "range_1d",
    "band_part",
    against=NUMPY,
    over="a shape and an end at run time, int32 value",
)
def test_constant_tensors_and_ranges():
    x, n = floats(2, 3), np.array([2, 4], np.int32)

    def body(x, n):
        return (
            mb.fill(shape=n, value=1.5),
            mb.fill_like(ref_tensor=x, value=np.int32(7)),
            mb.range_1d(start=0, end=mb.reduce_max(x=n), step=1),
            mb.band_part(x=x, lower=0, upper=1),
        )

    filled, like, steps, band = run(body, x, n, ops=["fill", "fill_like", "range_1d", "band_part"])
    close(filled, np.full((2, 4), 1.5, np.float32))
    assert (like.dtype, like.tolist()) == (np.int32, [[7] * 3] * 2)
    assert (steps.dtype, steps.tolist()) == (np.int32, [0, 1, 2, 3])
    close(band, np.triu(x) - np.triu(x, 2))


@proves("band_part", against=NUMPY, over="infinities")
def test_band_part_of_infinities_is_zero_outside_the_band():
    x = np.full((3, 3), -np.inf, np.float32)
    (found,) = run(lambda x: mb.band_part(x=x, lower=-1, upper=0), x, ops=["band_part"])
    assert np.isneginf(found[np.tril_indices(3)]).all()
    assert not found[np.triu_indices(3, 1)].any()


@proves("one_hot", "non_zero", against=NUMPY, over="an index out of range, given values and axis")
def test_one_hot_and_non_zero():
    x, picks = np.array([[0, 2, 0], [5, 0, -1]], np.float32), np.array([2, 0, 3], np.int32)

    def body(x, picks):
        return (
            mb.one_hot(indices=picks, one_hot_vector_size=4),
            mb.one_hot(indices=picks, one_hot_vector_size=4, axis=0, on_value=2.0, off_value=-1.0),
            mb.non_zero(x=x),
        )

    hot, valued, found = run(body, x, picks, ops=["one_hot", "non_zero"])
    assert (hot.dtype, hot.tolist()) == (np.int32, np.eye(4, dtype=int)[picks].tolist())
    close(valued, (np.eye(4)[picks].T * 3 - 1).astype(np.float32))
    assert found.tolist() == [[0, 1], [1, 0], [1, 2]]


@proves("gather", "gather_along_axis", "gather_nd", against=NUMPY, over="axis 1, indices of rank 2")
def test_gather_family():
    x, i = floats(3, 4, 5), np.array([[2, 0], [1, 1]], np.int32)
    nd = np.array([[0, 3], [2, 1]], np.int32)
    along = np.array([[[3, 0, 1, 2, 2]]] * 3, np.int32)

    def body(x, i, nd, along):
        return (
            mb.gather(x=x, indices=i, axis=1),
            mb.gather_along_axis(x=x, indices=along, axis=1),
            mb.gather_nd(x=x, indices=nd),
        )

    plain, chosen, points = run(
        body, x, i, nd, along, ops=["gather", "gather_along_axis", "gather_nd"]
    )
    close(plain, np.take(x, i, 1))
    close(chosen, np.take_along_axis(x, along, 1))
    close(points, x[[0, 2], [3, 1]])


@proves("gather", "gather_nd", against=NUMPY, over="batch_dims 1")
def test_gather_with_batch_dimensions():
    x, i = floats(2, 3, 4, 5), np.array([[2, 0], [1, 1]], np.int32)
    nd = np.array([[[2, 3]], [[0, 1]]], np.int32)

    def body(x, i, nd):
        return (
            mb.gather(x=x, indices=i, axis=2, batch_dims=1),
            mb.gather_nd(x=x, indices=nd, batch_dims=1),
        )

    plain, points = run(body, x, i, nd, ops=["gather", "gather_nd"])
    close(plain, np.stack([x[b][:, i[b]] for b in range(2)]))
    close(points, np.stack([x[0, 2, 3][None], x[1, 0, 1][None]]))


@proves("gather", against=NUMPY, over="negative indices in iOS 16 and 17")
def test_negative_index_counts_from_the_end_before_ios_17_and_is_refused_after():
    x, i = floats(4, 2), np.array([-1, 0], np.int32)
    body = lambda x, i: mb.gather(x=x, indices=i, axis=0)  # noqa: E731
    (found,) = run(body, x, i, ops=["gather"], ios=16)
    close(found, x[[-1, 0]])
    with pytest.raises(PackageError, match=r"gather.*indices from -1 to 0"):
        run(body, x, i, ios=17)


MODES = {
    "update": lambda d, u: u,
    "add": lambda d, u: d + u,
    "sub": lambda d, u: d - u,
    "mul": lambda d, u: d * u,
    "div": lambda d, u: d / u,
    "max": np.maximum,
    "min": np.minimum,
}


@proves("scatter", "scatter_nd", "scatter_along_axis", against=NUMPY, over="all modes")
@pytest.mark.parametrize("mode", list(MODES))
def test_scatter_family(mode):
    data, i = floats(3, 4), np.array([2, 0], np.int32)
    rows, points = floats(2, 4, seed=1, low=0.5), floats(2, seed=2, low=0.5)
    nd, along = np.array([[0, 3], [2, 1]], np.int32), np.array([[2, 0, 1, 1]], np.int32)

    def body(data, i, rows, points, nd, along):
        one = mb.slice_by_size(x=rows, begin=[0, 0], size=[1, 4])
        return (
            mb.scatter(data=data, indices=i, updates=rows, axis=0, mode=mode),
            mb.scatter_nd(data=data, indices=nd, updates=points, mode=mode),
            mb.scatter_along_axis(data=data, indices=along, updates=one, axis=0, mode=mode),
        )

    names = ["scatter", "scatter_nd", "scatter_along_axis"]
    outputs = run(body, data, i, rows, points, nd, along, ops=names)
    combine, expected = MODES[mode], [data.copy() for _ in range(3)]
    expected[0][i] = combine(data[i], rows)
    at = tuple(nd.T)
    expected[1][at] = combine(data[at], points)
    cells = (along[0], np.arange(4))
    expected[2][cells] = combine(data[cells], rows[0])
    for found, numbers in zip(outputs, expected, strict=True):
        close(found, numbers)


@proves("scatter", against=NUMPY, over="repeated indices")
def test_scatter_adds_up_repeated_indices():
    data, i, u = floats(3), np.array([1, 1, 1], np.int32), floats(3, seed=1)
    body = lambda d, i, u: mb.scatter(data=d, indices=i, updates=u, mode="add")  # noqa: E731
    (found,) = run(body, data, i, u, ops=["scatter"])
    close(found, data + np.array([0, u.sum(), 0], np.float32))


def test_index_outside_the_axis_is_an_error():
    x, i = floats(4, 2), np.array([4], np.int32)
    with pytest.raises(PackageError, match="do not fit an axis of 4"):
        run(lambda x, i: mb.gather(x=x, indices=i, axis=0), x, i)
