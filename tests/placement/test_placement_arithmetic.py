"""Multiply-adds, other operations and bytes against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from coremltools.converters.mil import Builder as mb
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from tests.placement.packages import (
    block_of,
    edit,
    f16,
    f32,
    half,
    inspect_body,
    inspected,
    save,
    single,
)


def the(function, kind):
    (found,) = [o for o in function.operations if o.type == kind]
    return found


CASES = {
    # result [1, 8, 6, 5], each of 4 / 2 channels times 3 x 2 taps
    "conv: groups, stride, dilation": (
        "conv",
        lambda x: mb.conv(x=x, weight=f32(8, 2, 3, 2), strides=[2, 1], dilations=[1, 2], groups=2),
        [single(1, 4, 13, 7)],
        1 * 8 * 6 * 5 * (2 * 3 * 2),
        0,
    ),
    # rank 4 with one row, kernel 1 x 11, dilation 5: width 64 - 50 = 14; a bias on each result
    "conv: one row, wide dilated kernel, bias": (
        "conv",
        lambda x: mb.conv(
            x=x, weight=f32(16, 8, 1, 11), bias=f32(16), dilations=[1, 5], pad_type="valid"
        ),
        [single(1, 8, 3, 64)],
        1 * 16 * 3 * 14 * (8 * 11),
        1 * 16 * 3 * 14,
    ),
    "conv: one dimension": (
        "conv",
        lambda x: mb.conv(x=x, weight=f32(5, 3, 7), pad_type="same"),
        [single(2, 3, 20)],
        2 * 5 * 20 * (3 * 7),
        0,
    ),
    # every one of 1 x 6 x 9 inputs meets 4 / 2 channels times 20 taps
    "conv_transpose: groups, stride 10": (
        "conv_transpose",
        lambda x: mb.conv_transpose(x=x, weight=f32(6, 2, 20), strides=[10], groups=2),
        [single(1, 6, 9)],
        1 * 6 * 9 * (2 * 20),
        0,
    ),
    "linear": (
        "linear",
        lambda x: mb.linear(x=x, weight=f32(7, 4), bias=f32(7)),
        [single(2, 3, 4)],
        2 * 3 * 7 * 4,
        2 * 3 * 7,
    ),
    "matmul: broadcast batch, transposed": (
        "matmul",
        lambda x, y: mb.matmul(x=x, y=y, transpose_x=True),
        [single(2, 1, 5, 3), single(1, 4, 5, 6)],
        2 * 4 * 3 * 6 * 5,
        0,
    ),
    "einsum": (
        "einsum",
        lambda x, y: mb.einsum(values=(x, y), equation="nchw,nwhu->nchu"),
        [single(2, 3, 4, 5), single(2, 5, 4, 6)],
        2 * 3 * 4 * 5 * 6,
        0,
    ),
    # 7 steps, batch 2, 4 gates of 3: times 5 inputs and 3 states
    "lstm": (
        "lstm",
        lambda x: mb.lstm(
            x=x,
            initial_h=f32(2, 3),
            initial_c=f32(2, 3),
            weight_ih=f32(12, 5),
            weight_hh=f32(12, 3),
            bias=f32(12),
        )[0],
        [single(7, 2, 5)],
        7 * 2 * 12 * (5 + 3),
        2 * 3,
    ),
    "lstm: both directions": (
        "lstm",
        lambda x: mb.lstm(
            x=x,
            initial_h=f32(1, 6),
            initial_c=f32(1, 6),
            weight_ih=f32(12, 5),
            weight_hh=f32(12, 3),
            weight_ih_back=f32(12, 5),
            weight_hh_back=f32(12, 3),
            direction="bidirectional",
        )[0],
        [single(4, 1, 5)],
        2 * 4 * 12 * (5 + 3),
        0,
    ),
    "gru": (
        "gru",
        lambda x: mb.gru(x=x, initial_h=f32(1, 3), weight_ih=f32(9, 5), weight_hh=f32(9, 3))[0],
        [single(4, 1, 5)],
        4 * 9 * (5 + 3),
        0,
    ),
    "exp": ("exp", lambda x: mb.exp(x=x), [single(2, 3)], 0, 6),
    "add: broadcast": ("add", lambda x: mb.add(x=x, y=f32(5, 1, 3)), [single(2, 3)], 0, 30),
    "softmax": ("softmax", lambda x: mb.softmax(x=x, axis=1), [single(2, 3)], 0, 5 * 6),
    "layer_norm": ("layer_norm", lambda x: mb.layer_norm(x=x, axes=[1]), [single(2, 3)], 0, 42),
    "reduce_mean": (
        "reduce_mean",
        lambda x: mb.reduce_mean(x=x, axes=[1]),
        [single(2, 30)],
        0,
        60,
    ),
    "max_pool": (
        "max_pool",
        lambda x: mb.max_pool(x=x, kernel_sizes=[2, 3], strides=[2, 3], pad_type="valid"),
        [single(1, 2, 4, 9)],
        0,
        1 * 2 * 2 * 3 * (2 * 3),
    ),
    "transpose": ("transpose", lambda x: mb.transpose(x=x, perm=[1, 0]), [single(2, 3)], 0, 0),
    "topk is not counted": (
        "topk",
        lambda x: mb.topk(x=x, k=2, axis=1)[0],
        [single(2, 3)],
        None,
        None,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_arithmetic_is_what_was_counted_by_hand(name):
    kind, body, specs, multiply_adds, other = CASES[name]
    found = the(inspect_body(body, *specs, units="CPU_ONLY"), kind)
    assert found.multiply_adds == multiply_adds
    expected = None if multiply_adds is None else 2 * multiply_adds + other
    assert found.operations == expected


def test_attention_counts_both_products():
    def body(q, k, v):
        return mb.scaled_dot_product_attention(query=q, key=k, value=v)

    specs = [half(1, 2, 5, 8), half(1, 2, 7, 8), half(1, 2, 7, 6)]
    found = the(inspect_body(body, *specs, ios=18), "scaled_dot_product_attention")
    assert found.multiply_adds == 2 * 5 * 7 * (8 + 6)


def test_bytes_are_those_of_the_declared_types():
    def body(x):
        return mb.conv(x=x, weight=f16(8, 4, 1, 3), bias=f16(8), pad_type="same")

    function = inspect_body(body, half(1, 4, 2, 10))
    found = the(function, "conv")
    parameters = found.weight_bytes - 2 * (8 * 4 * 3) - 2 * 8
    assert 0 <= parameters < 64, "besides weight and bias only strides, pads and the like"
    assert (found.input_bytes, found.output_bytes) == (2 * 80, 2 * 160)
    assert function.summary.activation_bytes == 2 * 160


def test_a_weight_that_two_constants_share_is_stored_once(tmp_path):
    def body(x):
        return mb.matmul(x=mb.matmul(x=x, y=f16(64, 64)), y=f16(64, 64, value=0.25))

    package = save(body, [half(2, 64)], tmp_path / "a.mlpackage")
    apart = inspected(package).summary.weight_bytes
    assert apart >= 2 * 2 * 64 * 64

    def share(model):
        blobs = [
            o.attributes["val"].blobFileValue
            for o in block_of(model).operations
            if o.type == "const" and o.attributes["val"].WhichOneof("value") == "blobFileValue"
        ]
        assert len(blobs) == 2
        blobs[1].offset = blobs[0].offset

    function = inspected(edit(package, share))
    assert min(o.weight_bytes for o in function.operations) >= 2 * 64 * 64
    assert function.summary.weight_bytes == apart - 2 * 64 * 64


def test_sums_are_those_of_the_operations():
    def body(x):
        return mb.exp(x=mb.matmul(x=x, y=f16(4, 8)))

    summary = inspect_body(body, half(3, 4)).summary
    assert summary.multiply_adds == 3 * 8 * 4
    assert summary.arithmetic == 2 * 3 * 8 * 4 + 3 * 8
    assert summary.uncounted == 0


def test_a_packed_weight_counts_as_it_is_stored():
    def body(x):
        weight = mb.constexpr_affine_dequantize(
            quantized_data=np.full((8, 100), 3, np.uint8),
            zero_point=np.uint8(1),
            scale=np.float16(0.5),
            axis=0,
        )
        return mb.linear(x=x, weight=weight)

    function = inspect_body(body, half(1, 100), ios=16)
    found = the(function, "linear")
    assert 800 <= found.weight_bytes < 800 + 32, "one byte for each of 8 x 100"
    assert function.summary.weight_bytes >= 800
    assert [o.type for o in function.operations] == ["linear"]
    assert found.multiply_adds == 800


@settings(max_examples=12, deadline=None)
@given(
    transposed=st.booleans(),
    groups=st.integers(1, 3),
    channels=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 7)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilations=st.tuples(st.integers(1, 2), st.integers(1, 3)),
    batch=st.integers(1, 2),
)
def test_convolutions_count_as_torch_counts_them(
    transposed, groups, channels, kernel, strides, dilations, batch
):
    given_, made = (groups * c for c in channels)
    first = (given_, made // groups) if transposed else (made, given_ // groups)
    weight, shape = f32(*first, *kernel), (batch, given_, 9, 24)
    build = mb.conv_transpose if transposed else mb.conv
    run = F.conv_transpose2d if transposed else F.conv2d

    def body(x):
        return build(
            x=x, weight=weight, strides=list(strides), dilations=list(dilations), groups=groups
        )

    found = the(
        inspect_body(body, single(*shape), units="CPU_ONLY"),
        "conv_transpose" if transposed else "conv",
    )
    with FlopCounterMode(display=False) as counter:
        run(
            torch.zeros(shape),
            torch.from_numpy(weight),
            stride=strides,
            dilation=dilations,
            groups=groups,
        )
    assert found.operations == counter.get_total_flops()
