import numpy as np
import pytest
import torch
import torch.nn.functional as F
from coremltools.converters.mil import Builder as mb
from hypothesis import given, settings
from hypothesis import strategies as st
from mil_packages import close, floats, run, run_torch
from proofs import FROM_TORCH, TORCH, proves
from torch import nn

CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


@proves(
    "conv",
    against=TORCH,
    over="1-D, any stride, dilation, groups, uneven padding, with and without bias",
)
@settings(max_examples=30, deadline=None)
@given(
    length=st.integers(9, 20),
    channels=st.sampled_from([(4, 6, 1), (4, 6, 2), (3, 3, 3), (4, 8, 4)]),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    pads=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    bias=st.booleans(),
)
def test_conv_1d_equals_torch_for_any_parameters(
    length, channels, kernel, stride, dilation, pads, bias
):
    c_in, c_out, groups = channels
    x, w, b = floats(2, c_in, length), floats(c_out, c_in // groups, kernel, seed=1), floats(c_out)

    def body(x):
        return mb.conv(
            x=x,
            weight=w,
            strides=[stride],
            dilations=[dilation],
            pad_type="custom",
            pad=list(pads),
            groups=groups,
            **({"bias": b} if bias else {}),
        )

    (found,) = run(body, x, ops=["conv"])
    padded = F.pad(torch.from_numpy(x), pads)
    expected = F.conv1d(
        padded,
        torch.from_numpy(w),
        torch.from_numpy(b) if bias else None,
        stride,
        0,
        dilation,
        groups,
    )
    close(found, expected.numpy())


@proves("conv", against=TORCH, over="1 to 3 dimensions, even and uneven padding")
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("asymmetric", [False, True])
def test_conv_in_one_two_and_three_dimensions(rank, asymmetric):
    x, w = floats(1, 2, *[7, 6, 5][:rank]), floats(3, 2, *[3, 2, 3][:rank], seed=1)
    pairs = [(1, 2), (0, 1), (2, 0)][:rank] if asymmetric else [(1, 1), (2, 2), (0, 0)][:rank]
    flat = [p for pair in pairs for p in pair]
    (found,) = run(lambda x: mb.conv(x=x, weight=w, pad_type="custom", pad=flat), x, ops=["conv"])
    torch_pad = [p for pair in reversed(pairs) for p in pair]
    expected = CONV[rank](F.pad(torch.from_numpy(x), torch_pad), torch.from_numpy(w))
    close(found, expected.numpy())


@proves("conv", against=TORCH, over="pad types same, same_lower, valid; strides 1 to 3")
@pytest.mark.parametrize(
    ("kernel", "stride", "length"), [(3, 1, 8), (4, 1, 8), (3, 2, 8), (5, 3, 10)]
)
@pytest.mark.parametrize("pad_type", ["same", "same_lower", "valid"])
def test_conv_pad_types(pad_type, kernel, stride, length):
    x, w = floats(1, 2, length), floats(3, 2, kernel, seed=1)
    body = lambda x: mb.conv(x=x, weight=w, strides=[stride], pad_type=pad_type)  # noqa: E731
    (found,) = run(body, x, ops=["conv"])
    total = (
        0 if pad_type == "valid" else max(0, (-(-length // stride) - 1) * stride + kernel - length)
    )
    small, large = total // 2, total - total // 2
    pads = (large, small) if pad_type == "same_lower" else (small, large)
    expected = F.conv1d(F.pad(torch.from_numpy(x), pads), torch.from_numpy(w), stride=stride)
    close(found, expected.numpy())


@proves("conv_transpose", against=TORCH, over="1-D, any stride, dilation, groups, uneven crops")
@settings(max_examples=30, deadline=None)
@given(
    length=st.integers(2, 9),
    groups=st.sampled_from([1, 2]),
    kernel=st.integers(2, 6),
    stride=st.integers(1, 4),
    dilation=st.integers(1, 2),
    crop=st.tuples(st.integers(0, 1), st.integers(0, 1)),
)
def test_conv_transpose_equals_the_cropped_full_result(
    length, groups, kernel, stride, dilation, crop
):
    x, w, b = floats(1, 4, length), floats(4, 6 // groups, kernel, seed=1), floats(6)
    full = (length - 1) * stride + (kernel - 1) * dilation + 1

    def body(x):
        return mb.conv_transpose(
            x=x,
            weight=w,
            bias=b,
            strides=[stride],
            dilations=[dilation],
            pad_type="custom",
            pad=list(crop),
            groups=groups,
        )

    (found,) = run(body, x, ops=["conv_transpose"])
    t = [torch.from_numpy(a) for a in (x, w, b)]
    whole = F.conv_transpose1d(*t, stride=stride, groups=groups, dilation=dilation)
    close(found, whole[..., crop[0] : full - crop[1]].numpy())


@proves(
    "conv_transpose",
    against=TORCH,
    over="1-D, kernels up to 20, strides up to 10, output padding, groups",
    source=FROM_TORCH,
)
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "output_padding", "groups"),
    [(20, 10, 5, 0, 1), (12, 6, 3, 0, 1), (3, 2, 1, 1, 4), (5, 2, 2, 1, 1), (4, 3, 1, 2, 2)],
)
def test_conv_transpose_from_torch(kernel, stride, padding, output_padding, groups):
    torch.manual_seed(0)
    module = nn.ConvTranspose1d(4, 8, kernel, stride, padding, output_padding, groups)
    x = floats(1, 4, 7)
    (found,) = run_torch(module, x, ops=["conv_transpose"])
    with torch.inference_mode():
        close(found, module(torch.from_numpy(x)).numpy())


@proves("conv_transpose", against=TORCH, over="2-D, uneven crops")
def test_conv_transpose_in_two_dimensions_with_uneven_crops():
    x, w = floats(1, 2, 4, 5), floats(2, 3, 3, 4, seed=1)
    body = lambda x: mb.conv_transpose(  # noqa: E731
        x=x, weight=w, strides=[2, 3], pad_type="custom", pad=[1, 0, 2, 1]
    )
    (found,) = run(body, x, ops=["conv_transpose"])
    whole = F.conv_transpose2d(torch.from_numpy(x), torch.from_numpy(w), stride=(2, 3))
    close(found, whole[..., 1:, 2:-1].numpy())


@proves("conv_transpose", against=TORCH, over="output_shape that cuts and that extends")
def test_conv_transpose_output_shape_sets_the_end():
    x, w, b = floats(1, 2, 4), floats(2, 3, 3, seed=1), floats(3)
    whole = F.conv_transpose1d(*(torch.from_numpy(a) for a in (x, w, b)), stride=2).numpy()
    ends = ((9, 0), (8, 0), (7, 1), (12, 0))

    def body(x):
        return tuple(
            mb.conv_transpose(
                x=x,
                weight=w,
                bias=b,
                strides=[2],
                pad_type="custom",
                pad=[start, 0],
                output_shape=[1, 3, length],
            )
            for length, start in ends
        )

    extended = np.concatenate([whole, np.broadcast_to(b[:, None], (1, 3, 9))], 2)
    for found, (length, start) in zip(run(body, x, ops=["conv_transpose"]), ends, strict=True):
        close(found, extended[..., start : start + length])


@proves("conv_transpose", against=TORCH, over="pad type same")
@pytest.mark.parametrize("kernel", [2, 3, 5])
def test_conv_transpose_same_multiplies_the_size(kernel):
    x, w = floats(1, 2, 5), floats(2, 3, kernel, seed=1)
    body = lambda x: mb.conv_transpose(x=x, weight=w, strides=[2], pad_type="same")  # noqa: E731
    (found,) = run(body, x, ops=["conv_transpose"])
    whole = F.conv_transpose1d(torch.from_numpy(x), torch.from_numpy(w), stride=2)
    start = max(0, kernel - 2) // 2
    close(found, whole[..., start : start + 10].numpy())
