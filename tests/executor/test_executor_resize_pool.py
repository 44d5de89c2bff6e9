import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from coremltools.converters.mil import Builder as mb
from mil_packages import close, floats, run, run_torch
from proofs import NUMPY, TORCH, proves
from torch import nn

MODES = ["STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "DEFAULT", "OFFSET_CORNERS", "UNALIGN_CORNERS"]


def grid_points(size, target, mode):
    """The formulas of MIL's `resize_bilinear`, position by position."""
    points = []
    for i in range(target):
        if mode in MODES[:2]:
            p = (size - 1) / 2 if target == 1 else i * (size - 1) / (target - 1)
        elif mode == "DEFAULT":
            p = 0 if target == 1 else i * (size - size / target) / (target - 1)
        elif mode == "OFFSET_CORNERS":
            delta = max(1, size - 1) / target
            p = 0.5 * delta + i * delta
        else:
            p = i * size / target + 0.5 * size / target - 0.5
        points.append(min(size - 1, max(0, p)))
    return points


def bilinear(x, targets, mode):
    for axis, target in zip((-2, -1), targets, strict=True):
        size = x.shape[axis]
        columns = []
        for p in grid_points(size, target, mode):
            low = math.floor(p)
            a, b = np.take(x, low, axis), np.take(x, min(size - 1, low + 1), axis)
            columns.append(a + (b - a) * (p - low))
        x = np.stack(columns, axis)
    return x.astype(np.float32)


@proves("resize_bilinear", "resize", against=NUMPY, over="all sampling modes, larger and smaller")
@pytest.mark.parametrize("mode", MODES)
def test_resize_bilinear_grids(mode):
    x = floats(1, 2, 3, 5)

    def body(x):
        return (
            *tuple(
                mb.resize_bilinear(
                    x=x, target_size_height=h, target_size_width=w, sampling_mode=mode
                )
                for h, w in ((7, 4), (2, 11))
            ),
            mb.resize(x=x, shape=[6, 9], resized_dims=np.uint32(2), sampling_mode=mode),
        )

    outputs = run(body, x, ops=["resize_bilinear", "resize"])
    for found, targets in zip(outputs, ((7, 4), (2, 11), (6, 9)), strict=True):
        close(found, bilinear(x, targets, mode), 2e-6)


@proves("resize_bilinear", against="the example in the documentation", over="four sampling modes")
def test_documented_grid_example():
    x = np.array([[[[0.0, 1.0]]]], np.float32)
    expected = {
        "UNALIGN_CORNERS": [0, 0.1, 0.5, 0.9, 1],
        "STRICT_ALIGN_CORNERS": [0, 0.25, 0.5, 0.75, 1],
        "DEFAULT": [0, 0.4, 0.8, 1, 1],
        "OFFSET_CORNERS": [0.1, 0.3, 0.5, 0.7, 0.9],
    }
    body = lambda x: tuple(  # noqa: E731
        mb.resize_bilinear(x=x, target_size_height=1, target_size_width=5, sampling_mode=m)
        for m in expected
    )
    for found, numbers in zip(run(body, x), expected.values(), strict=True):
        close(found[0, 0, 0], np.array(numbers, np.float32), 1e-6)


@proves("upsample_bilinear", against=NUMPY, over="rank 3, corners aligned and not")
@pytest.mark.parametrize(("corners", "mode"), [(True, MODES[0]), (False, MODES[4])])
def test_upsample_bilinear_aligns_corners_as_told(corners, mode):
    x = floats(2, 3, 4)
    body = lambda x: mb.upsample_bilinear(  # noqa: E731
        x=x, scale_factor_height=2, scale_factor_width=3, align_corners=corners
    )
    (found,) = run(body, x, ops=["upsample_bilinear"])
    close(found, bilinear(x, (6, 12), mode), 2e-6)


@proves(
    "upsample_nearest_neighbor",
    "resize_nearest_neighbor",
    against=NUMPY,
    over="whole factors; sizes that do not divide",
)
def test_nearest_neighbours():
    x = floats(1, 2, 3, 4)

    def body(x):
        return (
            mb.upsample_nearest_neighbor(x=x, scale_factor_height=2, scale_factor_width=3),
            mb.resize_nearest_neighbor(x=x, target_size_height=5, target_size_width=2),
        )

    up, resized = run(body, x, ops=["upsample_nearest_neighbor", "resize_nearest_neighbor"])
    close(up, x.repeat(2, 2).repeat(3, 3))
    close(resized, x[:, :, [0, 0, 1, 2, 2]][..., [1, 3]])


class Upsample(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.options = options

    def forward(self, x):
        return F.interpolate(x, **self.options)


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"scale_factor": 300.0, "mode": "linear"}, "upsample_bilinear"),
        ({"scale_factor": 1 / 300, "mode": "linear"}, "upsample_bilinear"),
        ({"scale_factor": 2.0, "mode": "nearest"}, "upsample_nearest_neighbor"),
    ],
)
def test_one_dimensional_interpolation_from_torch(options, kind):
    x = floats(1, 3, 600)
    (found,) = run_torch(Upsample(**options), x, ops=[kind])
    close(found, F.interpolate(torch.from_numpy(x), **options).numpy(), 1e-6)


@proves("max_pool", "avg_pool", against=TORCH, over="1-D, padding counted and not, ceil_mode")
@pytest.mark.parametrize(
    ("kernel", "stride", "pad", "ceil"),
    [(3, 2, 1, False), (3, 2, 1, True), (2, 3, 0, True), (4, 1, 2, False), (3, 3, 0, False)],
)
def test_pooling_equals_torch(kernel, stride, pad, ceil):
    x = floats(1, 2, 11)
    common = {"kernel_sizes": [kernel], "strides": [stride], "pad_type": "custom"}
    common |= {"pad": [pad, pad], "ceil_mode": ceil}

    def body(x):
        return (
            mb.max_pool(x=x, **common),
            mb.avg_pool(x=x, **common),
            mb.avg_pool(x=x, exclude_padding_from_average=True, **common),
        )

    largest, mean, inside = run(body, x, ops=["max_pool", "avg_pool"])
    t, args = torch.from_numpy(x), (kernel, stride, pad)
    close(largest, F.max_pool1d(t, *args, ceil_mode=ceil).numpy())
    close(mean, F.avg_pool1d(t, *args, ceil_mode=ceil).numpy())
    close(inside, F.avg_pool1d(t, *args, ceil_mode=ceil, count_include_pad=False).numpy())


@proves("max_pool", "l2_pool", against=TORCH, over="2-D, pad types same and valid")
def test_pooling_in_two_dimensions_and_l2():
    x = floats(1, 2, 6, 7)

    def body(x):
        return (
            mb.max_pool(x=x, kernel_sizes=[2, 3], strides=[2, 2], pad_type="same"),
            mb.l2_pool(x=x, kernel_sizes=[2, 3], strides=[2, 2], pad_type="valid"),
        )

    largest, norm = run(body, x, ops=["max_pool", "l2_pool"])
    padded = F.pad(torch.from_numpy(x), (1, 1, 0, 0), value=-math.inf)
    close(largest, F.max_pool2d(padded, (2, 3), 2).numpy())
    squares = F.avg_pool2d(torch.from_numpy(x) ** 2, (2, 3), 2) * 6
    close(norm, squares.sqrt().numpy())
