import numpy as np
import pytest
import torch
import torch.nn.functional as F
from coremltools.converters.mil import Builder as mb
from hypothesis import given, settings
from hypothesis import strategies as st
from mil_packages import close, floats, run
from proofs import NUMPY, proves

SHAPE = (4, 5, 6)


@st.composite
def slices(draw):
    """begin, end, stride and masks for SHAPE, none of them empty."""
    result = []
    for size in SHAPE:
        stride = draw(st.sampled_from([1, 1, 2, 3, -1, -2]))
        first = draw(st.integers(0, size - 1))
        last = draw(st.integers(0, first) if stride < 0 else st.integers(first + 1, size))
        last = last - 1 if stride < 0 else last
        begin_mask, end_mask = draw(st.booleans()), draw(st.booleans())
        squeeze = draw(st.sampled_from([False, False, True]))
        if stride < 0 and last < 0:
            end_mask = True
        if draw(st.booleans()) and not squeeze:
            first -= size
        result.append((first, last, stride, begin_mask, end_mask, squeeze))
    return result


@proves("slice_by_index", against=NUMPY, over="any bounds, strides and masks, negative ones too")
@settings(max_examples=40, deadline=None)
@given(slices())
def test_slice_by_index_equals_numpy_with_masks_and_negative_bounds(parts):
    begin, end, stride, begin_mask, end_mask, squeeze_mask = (
        list(p) for p in zip(*parts, strict=True)
    )
    x = floats(*SHAPE)

    def body(x):
        return mb.slice_by_index(
            x=x,
            begin=begin,
            end=end,
            stride=[1 if q else s for s, q in zip(stride, squeeze_mask, strict=True)],
            begin_mask=[m and not q for m, q in zip(begin_mask, squeeze_mask, strict=True)],
            end_mask=end_mask,
            squeeze_mask=squeeze_mask,
        )

    index = tuple(
        b if q else slice(None if bm else b, None if em else e, s) for b, e, s, bm, em, q in parts
    )
    if all(squeeze_mask):
        return  # a scalar cannot be a model output
    (found,) = run(body, x, ops=["slice_by_index"])
    close(found, x[index])


@proves("slice_by_index", against=NUMPY, over="masks beside bounds")
def test_slice_by_index_mask_overrides_its_bound():
    x = floats(3, 8)
    body = lambda x: mb.slice_by_index(  # noqa: E731
        x=x, begin=[2, 5], end=[3, 6], begin_mask=[True, False], end_mask=[False, True]
    )
    (found,) = run(body, x, ops=["slice_by_index"])
    close(found, x[:3, 5:])


@proves("slice_by_size", against=NUMPY, over="begin at run time, size -1")
def test_slice_by_size_with_a_begin_known_only_at_run_time():
    x, begin = floats(4, 6), np.array([1, 2], np.int32)
    sized, rest = run(
        lambda x, b: (
            mb.slice_by_size(x=x, begin=b, size=[2, 3]),
            mb.slice_by_size(x=x, begin=[1, 2], size=[-1, 3]),
        ),
        x,
        begin,
        ops=["slice_by_size"],
    )
    close(sized, x[1:3, 2:5])
    close(rest, x[1:, 2:5])


@proves("slice_update", against=NUMPY, over="strides")
def test_slice_update_replaces_the_slice_only():
    x, update = floats(4, 6), floats(2, 2, seed=1)
    body = lambda x, u: mb.slice_update(  # noqa: E731
        x=x, update=u, begin=[1, 0], end=[3, 6], stride=[1, 3]
    )
    (found,) = run(body, x, update, ops=["slice_update"], ios=18)
    expected = x.copy()
    expected[1:3, 0:6:3] = update
    close(found, expected)


@proves("pad", against=NUMPY, over="all modes, 1 to 3 dimensions, uneven")
@settings(max_examples=30, deadline=None)
@given(
    pairs=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=3),
    mode=st.sampled_from(["constant", "reflect", "replicate"]),
)
def test_pad_pairs_run_forward_over_the_last_dimensions(pairs, mode):
    x = floats(3, 4, 5)
    flat = [p for pair in pairs for p in pair]
    (found,) = run(lambda x: mb.pad(x=x, pad=flat, mode=mode, constant_val=1.5), x, ops=["pad"])
    widths = [(0, 0)] * (3 - len(pairs)) + pairs
    numpy_mode = {"replicate": "edge"}.get(mode, mode)
    options = {"constant_values": 1.5} if mode == "constant" else {}
    close(found, np.pad(x, widths, numpy_mode, **options))


@proves("crop", against=NUMPY, over="uneven")
def test_crop():
    x = floats(1, 2, 6, 7)
    (found,) = run(lambda x: mb.crop(x=x, crop_height=[1, 2], crop_width=[0, 3]), x, ops=["crop"])
    close(found, x[:, :, 1:4, :4])


@proves("reshape", against=NUMPY, over="0 and -1, higher rank")
@pytest.mark.parametrize(
    ("shape", "expected"),
    [([6, -1], (6, 10)), ([0, 0, 5], (3, 4, 5)), ([0, -1], (4, 15)), ([1, 0, 0, 0], (1, 3, 4, 5))],
)
def test_reshape_zero_copies_from_the_right_and_minus_one_is_inferred(shape, expected):
    x = floats(3, 4, 5)
    (found,) = run(lambda x: mb.reshape(x=x, shape=shape), x, ops=["reshape"])
    close(found, x.reshape(expected))


@proves(
    "shape",
    "reshape",
    "concat",
    "slice_by_index",
    against=NUMPY,
    over="a shape computed at run time",
)
def test_shape_arithmetic_at_run_time():
    x = floats(2, 3, 4)

    def body(x):
        sizes = mb.shape(x=x)
        first = mb.slice_by_index(x=sizes, begin=[0], end=[1])
        return sizes, mb.reshape(x=x, shape=mb.concat(values=(first, [12]), axis=0))

    sizes, found = run(body, x, ops=["shape", "reshape"])
    assert (sizes.dtype, sizes.tolist()) == (np.int32, [2, 3, 4])
    close(found, x.reshape(2, 12))


@proves(
    "expand_dims",
    "squeeze",
    "transpose",
    "flatten2d",
    "identity",
    against=NUMPY,
    over="negative axes, all axes",
)
def test_dimensions_are_inserted_dropped_and_permuted():
    x = floats(2, 1, 3, 1)

    def body(x):
        return (
            mb.expand_dims(x=mb.squeeze(x=x, axes=[1]), axes=[0, -1]),
            mb.squeeze(x=x),
            mb.squeeze(x=x, axes=[-1]),
            mb.transpose(x=x, perm=[2, 0, -1, 1]),
            mb.flatten2d(x=x, axis=2),
            mb.identity(x=x),
        )

    names = ["expand_dims", "squeeze", "transpose", "flatten2d", "identity"]
    expanded, squeezed, one, permuted, flat, same = run(body, x, ops=names)
    close(expanded, x[None, :, 0, :, :, None])
    close(squeezed, x[:, 0, :, 0])
    close(one, x[..., 0])
    close(permuted, x.transpose(2, 0, 3, 1))
    close(flat, x.reshape(2, 3))
    close(same, x)


@proves("reshape_like", against=NUMPY, over="two references, an end mask")
def test_reshape_like_takes_slices_of_other_shapes():
    x, a, b = floats(30), floats(2, 3, 4), floats(1, 5, 1)
    body = lambda x, a, b: mb.reshape_like(  # noqa: E731
        x=x, ref_tensors=(a, b), begins=(0, 1), ends=(2, 0), end_masks=(False, True)
    )
    (found,) = run(body, x, a, b, ops=["reshape_like"])
    close(found, x.reshape(2, 3, 5, 1))


@proves("concat", "stack", "split", against=NUMPY, over="interleaved, equal parts, given sizes")
def test_joining_and_splitting():
    x, y = floats(2, 3, 4), floats(2, 3, 4, seed=1)

    def body(x, y):
        return (
            mb.concat(values=(x, y, x), axis=-1),
            mb.concat(values=(x, y), axis=1, interleave=True),
            mb.stack(values=(x, y), axis=1),
            *mb.split(x=x, num_splits=2, axis=2),
            *mb.split(x=x, split_sizes=[1, 2], axis=1),
        )

    outputs = run(body, x, y, ops=["concat", "stack", "split"])
    interleaved = np.empty((2, 6, 4), np.float32)
    interleaved[:, 0::2], interleaved[:, 1::2] = x, y
    expected = [np.concatenate([x, y, x], 2), interleaved, np.stack([x, y], 1)]
    expected += [x[..., :2], x[..., 2:], x[:, :1], x[:, 1:]]
    for found, numbers in zip(outputs, expected, strict=True):
        close(found, numbers)


@proves(
    "tile",
    "reverse",
    "reverse_sequence",
    "sliding_windows",
    against=NUMPY,
    over="given and all axes, lengths of 0, strides",
)
def test_repeating_reversing_and_windows():
    x, lengths = floats(3, 5), np.array([5, 0, 3], np.int32)

    def body(x, n):
        return (
            mb.tile(x=x, reps=[2, 3]),
            mb.reverse(x=x, axes=[1]),
            mb.reverse(x=x),
            mb.reverse_sequence(x=x, lengths=n, seq_axis=1, batch_axis=0),
            mb.sliding_windows(x=x, axis=1, size=3, stride=2),
        )

    names = ["tile", "reverse", "reverse_sequence", "sliding_windows"]
    tiled, flipped, both, partly, windows = run(body, x, lengths, ops=names)
    close(tiled, np.tile(x, (2, 3)))
    close(flipped, x[:, ::-1])
    close(both, x[::-1, ::-1])
    close(partly, np.stack([x[0, ::-1], x[1], np.concatenate([x[2, 2::-1], x[2, 3:]])]))
    close(windows, np.stack([x[:, 0:3], x[:, 2:5]], 1))


@proves(
    "depth_to_space",
    "space_to_depth",
    "pixel_shuffle",
    "pixel_unshuffle",
    against=NUMPY,
    over="blocks of 2",
)
def test_depth_and_space():
    x, y = floats(1, 8, 3, 4), floats(1, 2, 6, 8, seed=1)

    def body(x, y):
        return (
            mb.depth_to_space(x=x, block_size=2),
            mb.space_to_depth(x=y, block_size=2),
            mb.pixel_shuffle(x=x, upscale_factor=2),
            mb.pixel_unshuffle(x=y, downscale_factor=np.uint32(2)),
        )

    names = ["depth_to_space", "space_to_depth", "pixel_shuffle", "pixel_unshuffle"]
    depth, space, shuffled, unshuffled = run(body, x, y, ops=names)
    expected = np.empty((1, 2, 6, 8), np.float32)
    for i in range(2):
        for j in range(2):
            expected[:, :, i::2, j::2] = x[:, (i * 2 + j) * 2 : (i * 2 + j + 1) * 2]
    close(depth, expected)
    close(space, np.concatenate([y[:, :, i::2, j::2] for i in range(2) for j in range(2)], 1))
    close(shuffled, F.pixel_shuffle(torch.from_numpy(x), 2).numpy())
    close(unshuffled, F.pixel_unshuffle(torch.from_numpy(y), 2).numpy())


@proves("space_to_batch", "batch_to_space", against=NUMPY, over="uneven blocks, paddings and crops")
def test_batch_and_space():
    x = floats(1, 2, 4, 5)

    def body(x):
        batch = mb.space_to_batch(x=x, block_shape=[2, 3], paddings=[[0, 0], [0, 1]])
        return batch, mb.batch_to_space(x=batch, block_shape=[2, 3], crops=[[1, 0], [0, 1]])

    batch, back = run(body, x, ops=["space_to_batch", "batch_to_space"])
    padded = np.pad(x, ((0, 0), (0, 0), (0, 0), (0, 1)))
    close(batch, np.concatenate([padded[:, :, i::2, j::3] for i in range(2) for j in range(3)]))
    close(back, x[:, :, 1:])
