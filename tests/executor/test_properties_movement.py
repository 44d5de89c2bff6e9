"""Operations that move elements, against numpy and plain loops over random shapes."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from properties import EXAMPLES, apply, arrays, same, shapes


@st.composite
def slices(draw):
    x = draw(shapes().flatmap(arrays))
    columns = {"begin": [], "end": [], "stride": []}
    masks = {k: [] for k in ("begin_mask", "end_mask", "squeeze_mask")}
    picks = []
    for size in x.shape:
        squeeze = draw(st.booleans()) and draw(st.booleans())
        stride = 1 if squeeze else draw(st.sampled_from([1, 1, 2, 3, -1, -2]))
        bound = st.integers(-size, size - 1) if squeeze else st.integers(-size - 2, size + 2)
        first, last = draw(bound), draw(st.integers(-size - 2, size + 2))
        free = [draw(st.booleans()) and not squeeze, draw(st.booleans()) and not squeeze]
        for key, value in zip(columns, (first, last, stride), strict=True):
            columns[key].append(value)
        for key, value in zip(masks, (*free, squeeze), strict=True):
            masks[key].append(value)
        low, high = None if free[0] else first, None if free[1] else last
        picks.append(first if squeeze else slice(low, high, stride))
    return x, columns, masks, tuple(picks)


@EXAMPLES
@given(case=slices())
def test_slice_by_index_is_a_numpy_slice(case):
    x, columns, masks, picks = case
    same(apply("slice_by_index", x=x, **columns, **masks), x[picks])


@EXAMPLES
@given(case=slices(), data=st.data())
def test_slice_update_writes_where_slice_by_index_reads(case, data):
    x, columns, masks, picks = case
    update = data.draw(arrays(x[picks].shape))
    expected = x.copy()
    expected[picks] = update
    same(apply("slice_update", x=x, update=update, **columns, **masks), expected)


@EXAMPLES
@given(x=shapes().flatmap(arrays), data=st.data())
def test_slice_by_size_takes_so_many_elements(x, data):
    begin = [data.draw(st.integers(0, n - 1)) for n in x.shape]
    size = [data.draw(st.integers(1, n - b)) for n, b in zip(x.shape, begin, strict=True)]
    asked = [
        -1 if b + s == n and data.draw(st.booleans()) else s
        for n, b, s in zip(x.shape, begin, size, strict=True)
    ]
    picks = tuple(slice(b, b + s) for b, s in zip(begin, size, strict=True))
    same(apply("slice_by_size", x=x, begin=begin, size=asked), x[picks])


@EXAMPLES
@given(
    x=shapes(largest=4).flatmap(arrays),
    mode=st.sampled_from([("constant", "constant"), ("reflect", "reflect"), ("replicate", "edge")]),
    data=st.data(),
)
def test_pad_is_numpys_pad_of_the_last_dimensions(x, mode, data):
    ours, numpys = mode
    padded = data.draw(st.integers(1, x.ndim))
    largest = [n - 1 if ours == "reflect" else 5 for n in x.shape]
    pairs = [
        (0, 0) if d < x.ndim - padded else tuple(data.draw(st.integers(0, m)) for _ in range(2))
        for d, m in enumerate(largest)
    ]
    flat = [p for pair in pairs[x.ndim - padded :] for p in pair]
    options = {"constant_values": 1.5} if ours == "constant" else {}
    expected = np.pad(x, pairs, numpys, **options)
    same(apply("pad", x=x, pad=flat, mode=ours, constant_val=1.5), expected)


@pytest.mark.parametrize("pad", [(0, 4), (4, 0)])
def test_a_reflection_longer_than_the_axis_is_an_error(pad):
    x = np.arange(4, dtype=np.float32)
    with pytest.raises(ValueError, match="does not fit an axis of 4"):
        apply("pad", x=x, pad=list(pad), mode="reflect")


def indices_for(draw, size, shape, opset):
    return draw(arrays(shape, st.integers(-size if opset < 17 else 0, size - 1), np.int32))


opsets = st.sampled_from([15, 16, 17, 18])


@EXAMPLES
@given(x=shapes().flatmap(arrays), opset=opsets, data=st.data())
def test_gather_is_numpys_take(x, opset, data):
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    shape = data.draw(shapes(low=0, high=3, largest=3))
    indices = indices_for(data.draw, x.shape[axis], shape, opset)
    same(apply("gather", x=x, indices=indices, axis=axis, opset=opset), np.take(x, indices, axis))


@EXAMPLES
@given(x=shapes(low=2).flatmap(arrays), opset=st.sampled_from([17, 18]), data=st.data())
def test_gather_with_batch_dimensions_gathers_each_item_by_itself(x, opset, data):
    batch_dims = data.draw(st.integers(1, x.ndim - 1))
    axis = data.draw(st.integers(batch_dims, x.ndim - 1))
    rest = data.draw(shapes(low=1, high=2, largest=3))
    batch = x.shape[:batch_dims]
    indices = indices_for(data.draw, x.shape[axis], (*batch, *rest), opset)
    items = [np.take(x[i], indices[i], axis - batch_dims) for i in np.ndindex(batch)]
    expected = np.stack(items).reshape(*batch, *items[0].shape)
    found = apply("gather", x=x, indices=indices, axis=axis, batch_dims=batch_dims, opset=opset)
    same(found, expected)


@EXAMPLES
@given(x=shapes().flatmap(arrays), opset=opsets, data=st.data())
def test_gather_along_axis_is_numpys(x, opset, data):
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    shape = list(x.shape)
    shape[axis] = data.draw(st.integers(1, 4))
    indices = indices_for(data.draw, x.shape[axis], tuple(shape), opset)
    found = apply("gather_along_axis", x=x, indices=indices, axis=axis, opset=opset)
    same(found, np.take_along_axis(x, indices.astype(np.int64), axis))


@st.composite
def coordinates(draw, x, opset):
    depth = draw(st.integers(1, x.ndim))
    shape = draw(shapes(low=1, high=2, largest=3))
    parts = [indices_for(draw, n, shape, opset) for n in x.shape[:depth]]
    return np.stack(parts, -1)


@EXAMPLES
@given(x=shapes().flatmap(arrays), opset=opsets, data=st.data())
def test_gather_nd_reads_the_coordinates_in_its_last_axis(x, opset, data):
    indices = data.draw(coordinates(x, opset))
    found = apply("gather_nd", x=x, indices=indices, opset=opset)
    same(found, x[tuple(np.moveaxis(indices, -1, 0))])


COMBINE = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
}


def scattered(data, updates, places, mode):
    """One update after the other, in row-major order."""
    result = data.copy()
    for place, update in zip(places, updates, strict=True):
        result[place] = COMBINE[mode](result[place], update)
    return result


@EXAMPLES
@given(x=shapes(largest=4).flatmap(arrays), opset=opsets, mode=st.sampled_from(sorted(COMBINE)),
       data=st.data())  # fmt: skip
def test_scatter_nd_combines_every_update(x, opset, mode, data):
    indices = data.draw(coordinates(x, opset))
    updates = data.draw(arrays((*indices.shape[:-1], *x.shape[indices.shape[-1] :])))
    rows = indices.reshape(-1, indices.shape[-1])
    places = [tuple(row) for row in rows]
    found = apply("scatter_nd", data=x, indices=indices, updates=updates, mode=mode, opset=opset)
    expected = scattered(x, updates.reshape(len(rows), *x.shape[len(rows[0]) :]), places, mode)
    same(found, expected, 1e-4)


@EXAMPLES
@given(x=shapes(largest=4).flatmap(arrays), opset=opsets, mode=st.sampled_from(sorted(COMBINE)),
       data=st.data())  # fmt: skip
def test_scatter_combines_slices_of_one_axis(x, opset, mode, data):
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    count = data.draw(st.integers(1, 4))
    indices = indices_for(data.draw, x.shape[axis], (count,), opset)
    moved = np.moveaxis(x, axis, 0)
    updates = data.draw(arrays((count, *moved.shape[1:])))
    expected = np.moveaxis(scattered(moved, updates, list(indices), mode), 0, axis)
    found = apply("scatter", data=x, indices=indices, updates=np.moveaxis(updates, 0, axis),
                  axis=axis, mode=mode, opset=opset)  # fmt: skip
    same(found, expected, 1e-4)


@EXAMPLES
@given(x=shapes(largest=4).flatmap(arrays), opset=opsets, mode=st.sampled_from(sorted(COMBINE)),
       data=st.data())  # fmt: skip
def test_scatter_along_axis_combines_element_by_element(x, opset, mode, data):
    axis = data.draw(st.integers(0, x.ndim - 1))
    indices = indices_for(data.draw, x.shape[axis], x.shape, opset)
    updates = data.draw(arrays(x.shape))
    places = [(*at[:axis], int(indices[at]), *at[axis + 1 :]) for at in np.ndindex(x.shape)]
    found = apply("scatter_along_axis", data=x, indices=indices, updates=updates, axis=axis,
                  mode=mode, opset=opset)  # fmt: skip
    same(found, scattered(x, updates.reshape(-1), places, mode), 1e-4)


@EXAMPLES
@given(x=shapes().flatmap(arrays), exclusive=st.booleans(), reverse=st.booleans(), data=st.data())
def test_cumsum_adds_up_what_precedes(x, exclusive, reverse, data):
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    moved = np.moveaxis(x, axis, 0)[:: -1 if reverse else 1]
    expected = np.empty_like(moved)
    total = np.zeros_like(moved[0])
    for i, row in enumerate(moved):
        expected[i] = total if exclusive else total + row
        total = total + row
    expected = np.moveaxis(expected[:: -1 if reverse else 1], 0, axis)
    same(apply("cumsum", x=x, axis=axis, exclusive=exclusive, reverse=reverse), expected)


@EXAMPLES
@given(x=shapes().flatmap(arrays), data=st.data())
def test_transpose_is_numpys_and_its_inverse_restores(x, data):
    perm = data.draw(st.permutations(range(x.ndim)))
    found = apply("transpose", x=x, perm=list(perm))
    same(found, x.transpose(perm))
    same(apply("transpose", x=found, perm=[int(p) for p in np.argsort(perm)]), x)


@EXAMPLES
@given(x=shapes().flatmap(arrays), data=st.data())
def test_reshape_keeps_row_major_order(x, data):
    factors = data.draw(st.permutations(x.shape))
    shape = [int(np.prod(factors[:2])), *factors[2:]]
    inferred = list(shape)
    inferred[data.draw(st.integers(0, len(shape) - 1))] = -1
    expected = x.reshape(shape)
    same(apply("reshape", x=x, shape=shape), expected)
    same(apply("reshape", x=x, shape=inferred), expected)
    same(apply("reshape", x=x, shape=[0] * x.ndim), x)


@EXAMPLES
@given(shape=shapes(), count=st.integers(1, 4), data=st.data())
def test_concat_split_and_stack_undo_one_another(shape, count, data):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    parts = []
    for _ in range(count):
        size = list(shape)
        size[axis] = data.draw(st.integers(1, 3))
        parts.append(data.draw(arrays(tuple(size))))
    joined = apply("concat", values=parts, axis=axis)
    same(joined, np.concatenate(parts, axis))
    sizes = [p.shape[axis] for p in parts]
    for found, part in zip(
        apply("split", x=joined, axis=axis, split_sizes=sizes), parts, strict=True
    ):
        same(found, part)
    alike = [data.draw(arrays(shape)) for _ in range(count)]
    stacked = apply("stack", values=alike, axis=axis)
    same(stacked, np.stack(alike, axis))
    for found, part in zip(
        apply("split", x=stacked, axis=axis, num_splits=count), alike, strict=True
    ):
        same(apply("squeeze", x=found, axes=[axis]), part)
    woven = apply("concat", values=alike, axis=axis, interleave=True)
    for i, part in enumerate(alike):
        same(np.moveaxis(np.moveaxis(woven, axis, 0)[i::count], 0, axis), part)


@EXAMPLES
@given(x=shapes(largest=3).flatmap(arrays), data=st.data())
def test_tile_reverse_expand_and_squeeze_are_numpys(x, data):
    reps = [data.draw(st.integers(1, 3)) for _ in x.shape]
    same(apply("tile", x=x, reps=reps), np.tile(x, reps))
    axes = data.draw(st.lists(st.integers(0, x.ndim - 1), unique=True, min_size=1))
    same(apply("reverse", x=x, axes=axes), np.flip(x, axes))
    rank = x.ndim + 2
    new = data.draw(st.lists(st.integers(-rank, rank - 1), min_size=2, max_size=2))
    assume(new[0] % rank != new[1] % rank)
    wide = apply("expand_dims", x=x, axes=new)
    same(wide, np.expand_dims(x, new))
    same(apply("squeeze", x=wide, axes=new), x)


@EXAMPLES
@given(x=shapes(largest=6).flatmap(arrays), data=st.data())
def test_sliding_windows_and_topk(x, data):
    axis = data.draw(st.integers(0, x.ndim - 1))
    size = data.draw(st.integers(1, x.shape[axis]))
    stride = data.draw(st.integers(1, 3))
    windows = np.lib.stride_tricks.sliding_window_view(x, size, axis)
    windows = np.moveaxis(windows, -1, axis + 1)
    windows = np.take(windows, range(0, windows.shape[axis], stride), axis)
    same(apply("sliding_windows", x=x, axis=axis, size=size, stride=stride), windows)
    ascending = data.draw(st.booleans())
    values, indices = apply("topk", x=x, k=size, axis=axis, ascending=ascending)
    order = np.argsort(x if ascending else -x, axis, kind="stable").astype(np.int32)
    order = np.take(order, range(size), axis)
    same(indices, order)
    same(values, np.take_along_axis(x, order, axis))


@EXAMPLES
@given(
    start=st.integers(-9, 9), end=st.integers(-9, 9), step=st.sampled_from([-3, -2, -1, 1, 2, 3])
)
def test_range_1d_is_numpys_arange(start, end, step):
    assume((end - start) * step > 0)
    same(apply("range_1d", start=start, end=end, step=step), np.arange(start, end, step, np.int32))


def interpolated(line, position, nearest):
    low = int(np.floor(position))
    high = min(low + 1, len(line) - 1)
    return line[low] if nearest else line[low] + (line[high] - line[low]) * (position - low)


def source(i, size, target, mode):
    """Where result i reads, as MIL's documentation of `resize_bilinear` defines the modes."""
    if mode == "STRICT_ALIGN_CORNERS":
        position = i * (size - 1) / (target - 1) if target > 1 else 0.0
    elif mode == "ALIGN_CORNERS":
        position = i * (size - 1) / (target - 1) if target > 1 else (size - 1) / 2
    elif mode == "DEFAULT":
        position = i * size / target
    elif mode == "OFFSET_CORNERS":
        position = (0.5 + i) * max(1, size - 1) / target
    else:
        position = (i + 0.5) * size / target - 0.5
    return min(max(position, 0.0), size - 1.0)


MODES = ["STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "DEFAULT", "OFFSET_CORNERS", "UNALIGN_CORNERS"]


def resampled(x, target, mode, nearest=False):
    for axis, size in ((-2, target[0]), (-1, target[1])):
        positions = [source(i, x.shape[axis], size, mode) for i in range(size)]
        line = lambda v, p=positions: np.array([interpolated(v, at, nearest) for at in p])  # noqa: E731
        x = np.apply_along_axis(line, axis, x)
    return x.astype(np.float32)


@EXAMPLES
@given(x=shapes(low=3, high=4, largest=4).flatmap(arrays), mode=st.sampled_from(MODES),
       target=st.tuples(st.integers(1, 9), st.integers(1, 9)))  # fmt: skip
def test_resize_bilinear_reads_between_two_elements(x, mode, target):
    found = apply("resize_bilinear", x=x, target_size_height=target[0],
                  target_size_width=target[1], sampling_mode=mode)  # fmt: skip
    same(found, resampled(x.astype(np.float64), target, mode), 1e-4)


@EXAMPLES
@given(x=shapes(low=3, high=4, largest=4).flatmap(arrays),
       target=st.tuples(st.integers(1, 9), st.integers(1, 9)))  # fmt: skip
def test_resize_nearest_neighbor_reads_one_element(x, target):
    found = apply("resize_nearest_neighbor", x=x, target_size_height=target[0],
                  target_size_width=target[1])  # fmt: skip
    rows, columns = (
        [math.floor((i + 0.5) * n / t) for i in range(t)]
        for n, t in zip(x.shape[-2:], target, strict=True)
    )
    same(found, x[..., rows, :][..., columns])


@EXAMPLES
@given(
    x=shapes(low=3, high=4, largest=4).flatmap(arrays),
    align=st.booleans(),
    scale=st.tuples(st.sampled_from([1.0, 1.5, 2.0, 3.0]), st.sampled_from([1.0, 2.0, 2.5])),
)
def test_upsampling_is_resizing_to_the_scaled_size(x, align, scale):
    target = tuple(int(n * s) for n, s in zip(x.shape[-2:], scale, strict=True))
    mode = "STRICT_ALIGN_CORNERS" if align else "UNALIGN_CORNERS"
    found = apply("upsample_bilinear", x=x, scale_factor_height=scale[0],
                  scale_factor_width=scale[1], align_corners=align)  # fmt: skip
    same(found, resampled(x.astype(np.float64), target, mode), 1e-4)
    found = apply("upsample_nearest_neighbor", x=x, scale_factor_height=scale[0],
                  scale_factor_width=scale[1])  # fmt: skip
    rows = [i * x.shape[-2] // target[0] for i in range(target[0])]
    columns = [i * x.shape[-1] // target[1] for i in range(target[1])]
    same(found, x[..., rows, :][..., columns])


@EXAMPLES
@given(n=st.integers(1, 2), c=st.integers(1, 3), h=st.integers(1, 3), w=st.integers(1, 3),
       block=st.integers(2, 3), data=st.data())  # fmt: skip
def test_blocks_of_space_and_depth_undo_one_another(n, c, h, w, block, data):
    deep = data.draw(arrays((n, c * block**2, h, w)))
    for there, back in (("depth_to_space", "space_to_depth"), ("pixel_shuffle", "pixel_unshuffle")):
        sizes = {"block_size": block} if there == "depth_to_space" else {"upscale_factor": block}
        spread = apply(there, x=deep, **sizes)
        expected = np.empty_like(spread)
        for row, column, channel in np.ndindex(block, block, c):
            at = (
                (row * block + column) * c + channel
                if there == "depth_to_space"
                else channel * block**2 + row * block + column
            )
            expected[:, channel, row::block, column::block] = deep[:, at]
        same(spread, expected)
        sizes = {"block_size": block} if there == "depth_to_space" else {"downscale_factor": block}
        same(apply(back, x=spread, **sizes), deep)


@pytest.mark.parametrize("index", [-5, 4])
@pytest.mark.parametrize("name", ["gather", "gather_along_axis", "gather_nd"])
def test_an_index_out_of_bounds_is_an_error(name, index):
    x = np.zeros((4,), np.float32)
    with pytest.raises(IndexError, match="do not fit an axis of 4"):
        apply(name, x=x, indices=np.array([index], np.int32), opset=15)
    with pytest.raises(IndexError, match="do not fit an axis of 4"):
        apply(name, x=x, indices=np.array([-1], np.int32), opset=17)
