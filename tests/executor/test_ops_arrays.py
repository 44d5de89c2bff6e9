"""Operations that move, pick, sort and make elements, at their edges, with the MIL builder."""

import numpy as np
import pytest
from coremltools.converters.mil import Builder as mb
from mil_packages import built, check, floats, run
from proofs import NUMPY, proves

from kokoro_coreml.errors import PackageError

X = floats(2, 3, 4)
RAMP = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
WHOLE = np.array([[-7, 3, 0, 5], [2, -4, 7, 1]], np.int32)
POINT = np.array([1], np.int32)


def scalar(x):
    return mb.squeeze(x=x, axes=[0])


def moved(ops, over, body, expected, *arrays, **options):
    return built(ops, over, body, expected, *arrays, tolerance=0, **options)


SHAPED = [
    moved(
        "transpose",
        "all orders of three axes",
        lambda x: tuple(mb.transpose(x=x, perm=p) for p in ([2, 1, 0], [1, 2, 0], [-2, -1, 0])),
        lambda x: (x.T, x.transpose(1, 2, 0), x.transpose(1, 2, 0)),
        X,
    ),
    moved(
        "reshape",
        "to a scalar and back; 0 and -1 together (iOS 16)",
        lambda x, p: (
            mb.reshape(x=mb.reshape(x=p, shape=np.array([], np.int32)), shape=[1, 1]),
            mb.reshape(x=x, shape=[0, -1, 2]),
        ),
        lambda x, p: (p.reshape(1, 1), x.reshape(2, 6, 2)),
        X,
        POINT,
        ios=16,
    ),
    moved(
        "expand_dims squeeze",
        "of scalars; several axes in any order",
        lambda x, p: (
            mb.expand_dims(x=scalar(p), axes=[0, -1]),
            mb.expand_dims(x=x, axes=[-2, 0]),
            mb.squeeze(x=mb.expand_dims(x=x, axes=[0, 3]), axes=[-2, 0]),
        ),
        lambda x, p: (p.reshape(1, 1), x.reshape(1, 2, 3, 1, 4), x),
        X,
        POINT,
    ),
    moved(
        "flatten2d",
        "every axis",
        lambda x: tuple(mb.flatten2d(x=x, axis=a) for a in (1, -1, -2)),
        lambda x: (x.reshape(2, 12), x.reshape(6, 4), x.reshape(2, 12)),
        X,
    ),
    moved(
        "concat",
        "scalars; one input; int32; an axis counted from the end",
        lambda x, w, p: (
            mb.concat(values=(scalar(p), np.int32(5), scalar(p)), axis=0),
            mb.concat(values=(x,), axis=1),
            mb.concat(values=(w, w), axis=-2),
        ),
        lambda x, w, p: (np.array([1, 5, 1], np.int32), x, np.concatenate([w, w])),
        X,
        WHOLE,
        POINT,
    ),
    moved(
        "concat",
        "three interleaved",
        lambda x: mb.concat(values=(x, x, x), axis=2, interleave=True),
        lambda x: x.repeat(3, 2),
        X,
        inferable=False,  # its own inference forgets to interleave
    ),
    moved(
        "stack",
        "scalars; a last axis",
        lambda x, p: (
            mb.stack(values=(scalar(p), np.int32(4)), axis=0),
            mb.stack(values=(x, x), axis=-1),
        ),
        lambda x, p: (np.array([1, 4], np.int32), np.stack([x, x], -1)),
        X,
        POINT,
    ),
    moved(
        "split",
        "one part; equal sizes given; a negative axis",
        lambda x: (
            mb.split(x=x, num_splits=1, axis=0),
            *mb.split(x=x, num_splits=2, split_sizes=[2, 2], axis=-1),
        ),
        lambda x: (x, x[..., :2], x[..., 2:]),
        X,
    ),
    moved(
        "tile",
        "ones; repetitions at run time",
        lambda x, n: (mb.tile(x=x, reps=[1, 1, 1]), mb.tile(x=x, reps=n)),
        lambda x, n: (x, np.tile(x, (3, 1, 2))),
        X,
        np.array([3, 1, 2], np.int32),
    ),
    moved(
        "reverse reverse_sequence",
        "negative axes; a batch axis after the sequence",
        lambda x, n: (
            mb.reverse(x=x, axes=[-1, 0]),
            mb.reverse_sequence(x=x, lengths=n, seq_axis=0, batch_axis=2),
        ),
        lambda x, n: (
            x[::-1, :, ::-1],
            np.stack([x[:, :, 0], x[::-1, :, 1], x[:, :, 2], x[::-1, :, 3]], 2),
        ),
        X,
        np.array([1, 2, 0, 2], np.int32),
    ),
    moved(
        "sliding_windows",
        "the documented example; a middle axis",
        lambda x, r: (
            mb.sliding_windows(x=r, axis=0, size=2, stride=1),
            mb.sliding_windows(x=x, axis=-2, size=3),
        ),
        lambda x, r: (np.array([[1, 2], [2, 3], [3, 4]], np.float32), x[:, None]),
        X,
        np.array([1, 2, 3, 4], np.float32),
    ),
    moved(
        "depth_to_space space_to_depth pixel_shuffle pixel_unshuffle",
        "blocks of 3, each undoes the other",
        lambda x: (
            mb.space_to_depth(x=mb.depth_to_space(x=x, block_size=3), block_size=3),
            mb.pixel_unshuffle(
                x=mb.pixel_shuffle(x=x, upscale_factor=3), downscale_factor=np.uint32(3)
            ),
        ),
        lambda x: (x, x),
        floats(2, 18, 2, 1),
        ios=16,
    ),
    moved(
        "space_to_batch batch_to_space",
        "the documented examples",
        lambda x, y: (
            mb.space_to_batch(x=x, block_shape=[2, 2], paddings=[[0, 0], [2, 0]]),
            mb.batch_to_space(x=y, block_shape=[2, 2], crops=[[0, 0], [2, 0]]),
        ),
        lambda x, y: (y, x),
        np.arange(1, 17, dtype=np.float32).reshape(2, 1, 2, 4),
        np.array([0, 1, 3, 0, 9, 11, 0, 2, 4, 0, 10, 12, 0, 5, 7, 0, 13, 15, 0, 6, 8, 0, 14, 16])
        .astype(np.float32)
        .reshape(8, 1, 1, 3),
    ),
    moved(
        "identity",
        "int32 and a scalar",
        lambda w, p: (mb.identity(x=w), mb.expand_dims(x=mb.identity(x=scalar(p)), axes=[0])),
        lambda w, p: (w, p),
        WHOLE,
        POINT,
    ),
    moved(
        "pad",
        "bounds at run time; no padding at all",
        lambda x, n: (
            mb.pad(x=x, pad=n, constant_val=0.5),
            mb.pad(x=x, pad=[0, 0], mode="reflect"),
        ),
        lambda x, n: (
            np.pad(x, ((0, 0), (1, 0), (0, 2)), constant_values=0.5),
            x,
        ),
        X,
        np.array([0, 0, 1, 0, 0, 2], np.int32),
    ),
]

SLICED = [
    moved(
        "slice_by_index",
        "bounds at run time; bounds beyond the axis; negative strides",
        lambda x, b, e: (
            mb.slice_by_index(x=x, begin=b, end=e),
            mb.slice_by_index(x=x, begin=[0, -9, 1], end=[9, 9, 99]),
            mb.slice_by_index(
                x=x, begin=[1, 2, 3], end=[0, 0, 0], stride=[-1, -2, -1], end_mask=[True] * 3
            ),
        ),
        lambda x, b, e: (x[1:2, 0:2, 1:4], x[0:, :, 1:], x[::-1, ::-2, ::-1]),
        X,
        np.array([1, 0, 1], np.int32),
        np.array([2, 2, 4], np.int32),
    ),
    moved(
        "slice_by_index",
        "int32, every axis but one dropped",
        lambda w: mb.slice_by_index(
            x=w, begin=[-1, 0], end=[0, 4], squeeze_mask=[True, False], end_mask=[True, False]
        ),
        lambda w: w[-1],
        WHOLE,
    ),
    moved(
        "slice_by_size",
        "negative begin; everything",
        lambda x: (
            mb.slice_by_size(x=x, begin=[-1, 0, -3], size=[1, 3, 2]),
            mb.slice_by_size(x=x, begin=[0, 0, 0], size=[-1, -1, -1]),
        ),
        lambda x: (x[-1:, :, 1:3], x),
        X,
    ),
    moved(
        "slice_update",
        "masks, a dropped axis, bounds at run time",
        lambda x, u, v, b: (
            mb.slice_update(
                x=x,
                update=u,
                begin=[0, 1, 0],
                end=[0, 0, 0],
                begin_mask=[True, False, True],
                end_mask=[True, False, True],
                squeeze_mask=[False, True, False],
            ),
            mb.slice_update(x=x, update=v, begin=b, end=[2, 3, 4]),
        ),
        lambda x, u, v, b: (
            np.stack([x[:, 0], u, x[:, 2]], 1),
            np.concatenate([x[:1], np.concatenate([x[1:, :2], v], 1)]),
        ),
        X,
        floats(2, 4, seed=1),
        floats(1, 1, 4, seed=2),
        np.array([1, 2, 0], np.int32),
        ios=18,
    ),
]

PICKED = [
    moved(
        "gather",
        "one index; the last axis; uint16 indices (iOS 17)",
        lambda x, p: (
            mb.gather(x=x, indices=scalar(p), axis=1),
            mb.gather(x=x, indices=p, axis=-1),
            mb.gather(x=x, indices=mb.cast(x=p, dtype="uint16"), axis=0, validate_indices=True),
        ),
        lambda x, p: (x[:, 1], x[..., 1:2], x[1:]),
        X,
        POINT,
    ),
    moved(
        "gather gather_along_axis gather_nd",
        "negative indices up to iOS 16",
        lambda x, i, a, n: (
            mb.gather(x=x, indices=i, axis=2),
            mb.gather_along_axis(x=x, indices=a, axis=0),
            mb.gather_nd(x=x, indices=n),
        ),
        lambda x, i, a, n: (x[..., [-1, 0]], np.take_along_axis(x, a, 0), x[[-1], [-2], [-4]]),
        X,
        np.array([-1, 0], np.int32),
        np.full((1, 3, 4), -1, np.int32),
        np.array([[-1, -2, -4]], np.int32),
        ios=15,
    ),
    moved(
        "gather_nd",
        "whole slices; two batch dimensions",
        lambda x, n, b: (mb.gather_nd(x=x, indices=n), mb.gather_nd(x=x, indices=b, batch_dims=2)),
        lambda x, n, b: (x[[1, 0]], np.take_along_axis(x, b, 2)[..., 0]),
        X,
        np.array([[1], [0]], np.int32),
        np.array([[[0], [1], [2]], [[3], [0], [1]]], np.int32),
    ),
    moved(
        "scatter",
        "update, a negative index up to iOS 16",
        lambda x, i, u: mb.scatter(data=x, indices=i, updates=u, axis=1, mode="update"),
        lambda x, i, u: np.concatenate([x[:, :2], u], 1),
        X,
        np.array([-1], np.int32),
        floats(2, 1, 4, seed=1),
        ios=16,
    ),
]

SORTED = [
    moved(
        "argsort topk",
        "equal elements keep their order",
        lambda x: (
            mb.argsort(x=x, axis=0, ascending=True),
            mb.argsort(x=x, axis=0),
            mb.topk(x=x, k=3, axis=0)[1],
        ),
        lambda x: tuple(
            np.array(i, np.int32) for i in ([3, 0, 2, 1, 4], [1, 4, 0, 2, 3], [1, 4, 0])
        ),
        np.array([1, 2, 1, 0, 2], np.float32),
        inferable=False,  # the order of equal elements is left open
    ),
    moved(
        "topk",
        "all of them, values only, int32, unsorted, uint16 indices (iOS 17)",
        lambda w, x: (
            mb.topk(x=w, k=4, axis=1)[0],
            mb.topk(x=x, k=1, axis=2, sort=False, return_indices=False),
            mb.cast(x=mb.topk(x=w, k=2, axis=1, output_indices_dtype="uint16")[1], dtype="int32"),
        ),
        lambda w, x: (-np.sort(-w, 1), x.max(2, keepdims=True), np.argsort(-w, 1)[:, :2]),
        WHOLE,
        X,
        inferable=False,  # it infers no result from return_indices
    ),
]

MADE = [
    moved(
        "band_part",
        "every pair of widths; int32; batches",
        lambda w, x: (
            mb.band_part(x=w, lower=0, upper=0),
            mb.band_part(x=x, lower=1, upper=-1),
            mb.band_part(x=x, lower=-1, upper=-1),
        ),
        lambda w, x: (w * np.eye(2, 4, dtype=np.int32), np.triu(x, -1), x),
        WHOLE,
        X,
    ),
    built(
        "cumsum",
        "exclusive and reverse together; a single element",
        lambda x: (
            mb.cumsum(x=x, axis=2, exclusive=True, reverse=True),
            mb.cumsum(x=mb.slice_by_size(x=x, begin=[0, 0, 0], size=[1, 3, 4]), exclusive=True),
        ),
        lambda x: (x[..., ::-1].cumsum(2)[..., ::-1] - x, np.zeros((1, 3, 4), np.float32)),
        X,
        inferable=False,  # its own inference knows neither
    ),
    moved(
        "fill fill_like",
        "bool and int32 values; the default",
        lambda x: (
            mb.cast(x=mb.fill(shape=[2], value=np.bool_(True)), dtype="int32"),
            mb.fill(shape=[1, 2]),
            mb.fill_like(ref_tensor=x),
        ),
        lambda x: (np.ones(2, np.int32), np.zeros((1, 2), "f4"), np.zeros((2, 3, 4), "f4")),
        X,
    ),
    moved(
        "range_1d",
        "downwards; fractions; nothing",
        lambda p: (
            mb.range_1d(start=5, end=scalar(p), step=-2),
            mb.range_1d(start=0.0, end=1.0, step=0.25),
            mb.concat(values=(p, mb.range_1d(start=3, end=scalar(p), step=2)), axis=0),
        ),
        lambda p: (np.int32([5, 3]), np.arange(0, 1, 0.25, "f4"), p),
        POINT,
    ),
    moved(
        "one_hot",
        "a negative index, rank 2, a middle axis",
        lambda w: mb.one_hot(indices=w, one_hot_vector_size=4, axis=1, on_value=2, off_value=7),
        lambda w: np.where(np.arange(4)[None, :, None] == w[:, None], 2, 7).astype(np.int32),
        WHOLE,
        inferable=False,  # it has none
    ),
    moved(
        "non_zero shape",
        "int32; no element",
        lambda w: (mb.non_zero(x=w), mb.shape(x=mb.non_zero(x=mb.mul(x=w, y=0)))),
        lambda w: (np.argwhere(w).astype(np.int32), np.int32([0, 2])),
        WHOLE,
    ),
    moved(
        "reshape_like",
        "one reference, bounds of either sign",
        lambda x, y: mb.reshape_like(
            x=y, ref_tensors=(x,), begins=(0,), ends=(3,), end_masks=(False,)
        ),
        lambda x, y: y.reshape(2, 3, 4),
        X,
        floats(24),
    ),
]


@pytest.mark.parametrize("case", [*SHAPED, *SLICED, *PICKED, *SORTED, *MADE])
def test_array_operation_equals_numpy(case):
    check(case)


NEGATIVE = {
    "gather": lambda x, i, u: mb.gather(x=x, indices=i, axis=0),
    "gather_along_axis": lambda x, i, u: mb.gather_along_axis(
        x=x, indices=mb.expand_dims(x=i, axes=[0]), axis=1
    ),
    "gather_nd": lambda x, i, u: mb.gather_nd(x=x, indices=mb.expand_dims(x=i, axes=[0])),
    "scatter": lambda x, i, u: mb.scatter(data=x, indices=i, updates=u, mode="update"),
    "scatter_along_axis": lambda x, i, u: mb.scatter_along_axis(
        data=x, indices=mb.expand_dims(x=i, axes=[0]), axis=1, updates=u, mode="update"
    ),
    "scatter_nd": lambda x, i, u: mb.scatter_nd(
        data=x, indices=mb.expand_dims(x=i, axes=[1]), updates=u, mode="update"
    ),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=proves(n, against=NUMPY, over="a negative index in iOS 16 and 17"))
        for n in NEGATIVE
    ],
)
def test_negative_index_is_the_last_up_to_ios_16_and_an_error_after(name):
    x, i, u = floats(1, 1), np.array([-1], np.int32), floats(1, 1, seed=1)
    (found,) = run(NEGATIVE[name], x, i, u, ops=[name], ios=16)
    np.testing.assert_array_equal(found.reshape(-1), (x if "gather" in name else u).reshape(-1))
    with pytest.raises(PackageError, match=f"{name}.*indices from -1"):
        run(NEGATIVE[name], x, i, u, ios=17)


MODES = {"add": np.add.at, "mul": np.multiply.at, "max": np.maximum.at, "min": np.minimum.at}


@pytest.mark.parametrize("mode", [*MODES, "sub", "div"])
@proves(
    "scatter",
    "scatter_nd",
    "scatter_along_axis",
    against=NUMPY,
    over="indices repeated in every mode, an axis other than the first",
)
def test_scattering_to_one_place_again_and_again(mode):
    data, i, u = floats(2, 3), np.array([1, 1, 2], np.int32), floats(2, 3, seed=1, low=0.5)

    def body(data, i, u):
        flat = mb.reshape(x=u, shape=[6])
        places = np.array([[0, 1], [0, 1], [1, 2], [0, 1], [1, 2], [0, 0]], np.int32)
        grid = mb.stack(values=(i, i), axis=0)
        return (
            mb.scatter(data=data, indices=i, updates=u, axis=1, mode=mode),
            mb.scatter_nd(data=data, indices=places, updates=flat, mode=mode),
            mb.scatter_along_axis(data=data, indices=grid, updates=u, axis=-1, mode=mode),
        )

    combine = {"sub": np.subtract.at, "div": np.divide.at, **MODES}[mode]
    first, second = data.copy(), data.copy()
    combine(first, (slice(None), i), u)
    combine(second, ([0, 0, 1, 0, 1, 0], [1, 1, 2, 1, 2, 0]), u.reshape(-1))
    for found, expected in zip(run(body, data, i, u), (first, second, first), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6)
