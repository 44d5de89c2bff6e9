"""Resizing, sampling and detection, with the MIL builder.

Cases against `DEVICE` restate inputs and expected values of coremltools' runtime tests
(`test_image_resizing.py`, `test_tensor_operation.py`), which are run on Macs.
"""

import math

import numpy as np
import pytest
from coremltools.converters.mil import Builder as mb
from mil_packages import built, check, floats, run
from proofs import DEVICE

from kokoro_coreml.errors import PackageError

SQUARE = np.arange(1, 17, dtype=np.float32).reshape(1, 1, 4, 4)
SMALL = np.array([[[[11, 22], [33, 44]]]], np.float32)
PAIR = np.array([[[[1, 2]]]], np.float32)
TURN = np.array([[-1, -2, -3.7, -1, 3.5, 1.2]], np.float32)
PLACES = np.array([-1, -2, -3.7, -1, 0, 0, 3.5, 1.2], np.float32).reshape(1, 2, 2, 2)
IMAGE = floats(2, 3, 4, 5)
POINTS = floats(2, 6, 3, 2, seed=1, low=-2.5, high=2.5)


def grey(*numbers, shape):
    return lambda *_: np.array(numbers, np.float32).reshape(shape)


def resampled(sampling, padding, value, mode, corners):
    return lambda x, places: mb.resample(
        x=x,
        coordinates=places,
        sampling_mode=sampling,
        padding_mode=padding,
        padding_value=value,
        coordinates_mode=mode,
        align_corners=corners,
    )


def moved(height, width):
    return lambda x, matrix: mb.affine(
        x=x,
        transform_matrix=matrix,
        output_height=height,
        output_width=width,
        sampling_mode="bilinear",
        padding_mode="constant",
        padding_value=0.0,
        coordinates_mode="normalized_minus_one_to_one",
        align_corners=True,
    )


CENTRE = ("normalized_minus_one_to_one", True)
WHOLE_PLACES = np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int32).reshape(1, 2, 2, 2)

RESAMPLED = [
    built(
        "resample",
        f"{args[0]}, {args[1]}, {args[3]}, align_corners {args[4]}",
        resampled(*args),
        grey(*numbers, shape=(1, 1, 2, 2)),
        SMALL,
        PLACES,
        against=DEVICE,
    )
    for args, numbers in (
        (("bilinear", "constant", 6.17, *CENTRE), (8.585, 6.17, 27.5, 6.17)),
        (("nearest", "border", -1.0, "unnormalized", False), (11, 11, 11, 44)),
        (("bilinear", "reflection", -1.0, "normalized_zero_to_one", True), (22, 36.3, 11, 34.1)),
        (("nearest", "symmetric", -1.0, "normalized_zero_to_one", False), (22, 33, 11, 33)),
    )
]
RESAMPLED.append(
    built(
        "resample",
        "int32 coordinates",
        resampled("bilinear", "constant", 6.17, *CENTRE),
        grey(27.5, 44, 27.5, 44, shape=(1, 1, 2, 2)),
        SMALL,
        WHOLE_PLACES,
        against=DEVICE,
    )
)
RESAMPLED.append(
    built(
        "resample",
        "nearest, halves go to the even pixel both ways",
        resampled("nearest", "border", 0.0, "unnormalized", True),
        lambda x, places: x[:, :, [0, 2, 2], [0, 2, 2]].reshape(1, 1, 1, 3),
        SQUARE,
        np.array([0.5, 0.5, 1.5, 1.5, 2.5, 2.5], np.float32).reshape(1, 1, 3, 2),
        tolerance=0,
    )
)


def pixel(x, b, row, column, padding, value):
    """One pixel of a padded image, by the pictures in MIL's documentation."""
    indices = []
    for index, size in zip((row, column), x.shape[2:], strict=True):
        if not 0 <= index < size:
            if padding == "constant":
                return np.full(x.shape[1], value, np.float32)
            line = np.arange(size)
            mode = {"border": "edge", "reflection": "reflect"}.get(padding, padding)
            index = int(np.pad(line, 40, mode)[index + 40])
        indices.append(index)
    return x[b, :, indices[0], indices[1]]


def resample_by_hand(sampling, padding, value, mode, corners):
    """Pads without end and interpolates; only for modes whose pads begin at whole pixels."""

    def expected(x, places):
        y = np.empty((x.shape[0], x.shape[1], *places.shape[1:3]), np.float32)
        for b, i, j in np.ndindex(places.shape[:3]):
            spots = []
            for c, size in zip(places[b, i, j], x.shape[:1:-1], strict=True):
                u = {"normalized_minus_one_to_one": (c + 1) / 2}.get(mode, c)
                full = u * (size - 1) if corners else u * size - 0.5
                spots.append(float(c if mode == "unnormalized" else full))
            column, row = spots
            if sampling == "nearest":
                y[b, :, i, j] = pixel(x, b, round(row), round(column), padding, value)
                continue
            y[b, :, i, j] = 0
            for r, c in np.ndindex(2, 2):
                top, left = math.floor(row) + r, math.floor(column) + c
                weight = (1 - abs(row - top)) * (1 - abs(column - left))
                y[b, :, i, j] += weight * pixel(x, b, top, left, padding, value)
        return y

    return expected


for _sampling in ("bilinear", "nearest"):
    for _padding in ("constant", "border", "reflection", "symmetric"):
        for _mode in ("unnormalized", "normalized_minus_one_to_one", "normalized_zero_to_one"):
            for _corners in (True, False):
                _arguments = (_sampling, _padding, 0.5, _mode, _corners)
                RESAMPLED.append(
                    built(
                        "resample",
                        f"{_sampling}, {_padding}, {_mode}, align_corners {_corners}",
                        resampled(*_arguments),
                        resample_by_hand(*_arguments),
                        IMAGE,
                        POINTS,
                    )
                )

MOVED = [
    built(
        "affine",
        f"{h} by {w}",
        moved(h, w),
        grey(*numbers, shape=(1, 1, h, w)),
        SMALL,
        TURN,
        against=DEVICE,
    )
    for h, w, numbers in (
        (3, 3, (10.752501, 2.5025, 0, 1.9799997, 0, 0, 0, 0, 0)),
        (2, 5, (10.752501, 5.94, 2.5025, 0.44, 0, 0, 0, 0, 0, 0)),
    )
]
MOVED.append(
    built(
        "affine",
        "one matrix per item, or one for all; a single row",
        lambda x, m: (
            moved(4, 5)(x, m),
            moved(1, 3)(x, np.array([[1, 0, 0, 0, 1, 0]], np.float32)),
        ),
        lambda x, m: (
            np.stack([x[0], x[1, :, ::-1]]),
            (x[:, :, 1:2, [0, 2, 4]] + x[:, :, 2:3, [0, 2, 4]]) / 2,
        ),
        IMAGE,
        np.array([[1, 0, 0, 0, 1, 0], [1, 0, 0, 0, -1, 0]], np.float32),
    )
)


def boxes_17(boxes, **options):
    return lambda x: mb.crop_resize(
        x=x, boxes=np.array(boxes, np.float32), target_height=2, target_width=2, **options
    )


def roi_15(roi, size=2, **options):
    rows = np.array(roi, np.float32)
    return lambda x: mb.crop_resize(
        x=x,
        roi=rows.reshape(len(rows), 1, -1, 1, 1),
        target_height=size,
        target_width=size,
        **options,
    )


ALIGNED = {"sampling_mode": "ALIGN_CORNERS"}
PADDED = [3.1, 5.2, 10, 10, 10, 7.9, 10, 13.9, 2.2, 3.1, 9.4, 10.3]
THREE = [[0.1, 0.3, 1.3, 1.0], [0.5, 1.8, 1.0, 0.3], [0.0, 0.4, 0.6, 0.7]]
EVEN = [6, 6 + 1 / 3, 6 + 2 / 3, 7]

CROPPED = [
    built(
        "crop_resize",
        over,
        roi_15(roi, size, **ALIGNED, **options),
        grey(*numbers, shape=(1, 1, 1, size, size)),
        SQUARE,
        ios=15,
        against=DEVICE,
    )
    for over, roi, size, options, numbers in (
        ("iOS 15: two pixels", [[1, 1, 2, 2]], 2, {}, (6, 7, 10, 11)),
        (
            "iOS 15: between the pixels",
            [[1, 1, 2, 2]],
            4,
            {},
            [v + 4 * i / 3 for i in range(4) for v in EVEN],
        ),
        ("iOS 15: one result, in the middle", [[1, 1, 2, 2]], 1, {}, (8.5,)),
        (
            "iOS 15: normalised, with an item",
            [[0, 0, 0, 1 / 3, 1 / 3]],
            2,
            {"normalized_coordinates": True},
            (1, 2, 5, 6),
        ),
        ("iOS 15: a box turned round", [[2, 2, 1, 1]], 2, {}, (11, 10, 7, 6)),
    )
]
CROPPED += [
    built(
        "crop_resize",
        "iOS 16: normalised, samples outside are pad_value",
        roi_15(
            [[0, *box] for box in THREE], normalized_coordinates=True, pad_value=10.0, **ALIGNED
        ),
        grey(*PADDED, shape=(3, 1, 1, 2, 2)),
        SQUARE,
        ios=16,
        against=DEVICE,
    ),
    built(
        "crop_resize",
        "iOS 17: boxes and box_indices, samples outside are pad_value",
        boxes_17(
            THREE,
            box_indices=np.zeros(3, np.int32),
            normalized_coordinates=True,
            pad_value=10.0,
            **ALIGNED,
        ),
        grey(*PADDED, shape=(3, 1, 2, 2)),
        SQUARE,
        against=DEVICE,
    ),
    built(
        "crop_resize",
        "iOS 17: default box_indices, spatial_scale",
        boxes_17([[2, 2, 4, 4], [0, 2, 2, 6]], spatial_scale=0.5, **ALIGNED),
        lambda x: np.stack([x[0, :, 1:3, 1:3], x[1, :, 0:2][..., [1, 3]]]),
        IMAGE,
    ),
    built(
        "crop_resize",
        "all box coordinate modes",
        lambda x: tuple(
            boxes_17([box], box_coordinate_mode=mode, **ALIGNED)(x)
            for mode, box in {
                "CORNERS_HEIGHT_FIRST": [0, 1, 2, 4],
                "CORNERS_WIDTH_FIRST": [1, 0, 4, 2],
                "CENTER_SIZE_HEIGHT_FIRST": [1, 2.5, 2, 3],
                "CENTER_SIZE_WIDTH_FIRST": [2.5, 1, 3, 2],
            }.items()
        ),
        lambda x: (x[:1, :, 0:3:2, 1:5:3],) * 4,
        IMAGE,
    ),
    built(
        "crop_resize",
        "every item of the batch (iOS 15)",
        roi_15([[0, 1, 1, 2], [1, 0, 3, 3]], **ALIGNED),
        lambda x: np.stack([x[:, :, 0:2, 1:3], x[:, :, 1:4:2, 0:4:3]]),
        IMAGE,
        ios=15,
    ),
]


def positions(mode, size, count):
    """The grids of MIL's `resize_bilinear`."""
    i = np.arange(count)
    offset = max(1, size - 1) / count
    grid = {
        "STRICT_ALIGN_CORNERS": i * (size - 1) / max(1, count - 1),
        "ALIGN_CORNERS": i * (size - 1) / max(1, count - 1),
        "DEFAULT": i * size / count,
        "OFFSET_CORNERS": (i + 0.5) * offset,
        "UNALIGN_CORNERS": (i + 0.5) * size / count - 0.5,
    }[mode]
    return np.clip(grid, 0, size - 1)


MODES = ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "DEFAULT", "OFFSET_CORNERS", "UNALIGN_CORNERS")


def whole_box(mode):
    """A box of three columns and two rows of a ramp, whose pixels are its positions."""

    def body(x):
        return mb.crop_resize(
            x=x,
            boxes=np.array([[1, 1, 2, 3]], np.float32),
            target_height=3,
            target_width=5,
            sampling_mode=mode,
        )

    def expected(x):
        down, across = 1 + positions(mode, 2, 3), 1 + positions(mode, 3, 5)
        return (1 + 4 * down[:, None] + across).reshape(1, 1, 3, 5).astype(np.float32)

    return body, expected


CROPPED += [
    built("crop_resize", f"sampling mode {mode}", *whole_box(mode), SQUARE) for mode in MODES
]


def nearest(mode):
    def body(x):
        return mb.resize(
            x=x,
            shape=[8, 8],
            resized_dims=np.uint32(2),
            interpolation_mode="NEAREST_NEIGHBOR",
            sampling_mode=mode,
        )

    def expected(x):
        same = "UNALIGN_CORNERS" if mode == "DEFAULT" else mode
        rows, columns = (
            np.floor(positions(same, n, m) + 0.5).astype(int)
            for n, m in zip(x.shape[2:], (8, 8), strict=True)
        )
        return x[:, :, rows][..., columns]

    return body, expected


RESIZED = [
    built("resize", f"nearest neighbour, {mode}", *nearest(mode), IMAGE, tolerance=0)
    for mode in MODES
]
RESIZED += [
    built(
        "resize",
        "nearest neighbour of rank 5, fewer sizes than axes; int32",
        lambda x: mb.resize(
            x=mb.cast(x=x, dtype="int32"),
            shape=[1, 1, 3, 2],
            resized_dims=np.uint32(2),
            interpolation_mode="NEAREST_NEIGHBOR",
        ),
        lambda x: np.array([-6, -6, 9, 9, 9, 9], np.int32).reshape(1, 1, 1, 3, 2),
        np.array([-6, 9], np.float32).reshape(1, 1, 1, 2, 1),
        against=DEVICE,
        tolerance=0,
    ),
    built(
        "resize",
        "linear, a shape at run time in which 0 keeps a size",
        lambda x, n: mb.resize(x=x, shape=n, resized_dims=np.uint32(2)),
        lambda x, n: np.repeat([[0, 0.4, 0.8, 1, 1]], 2, 0).astype("f4")[None],
        np.array([[[0, 1], [0, 1]]], np.float32),
        np.array([7, 0, 5], np.int32),
    ),
    built(
        "resize",
        "linear, three dimensions",
        lambda x: mb.resize(x=x, shape=[3, 1, 4], resized_dims=np.uint32(3)),
        lambda x: np.array([0, 0.5, 1, 1], np.float32) + np.array([0, 4 / 3, 2])[:, None, None],
        np.arange(4, dtype=np.float32).reshape(2, 1, 2),
    ),
]


def doubled(corners, centres):
    options = {} if centres is None else {"half_pixel_centers": centres}
    return lambda x: mb.upsample_bilinear(
        x=x, scale_factor_height=2, scale_factor_width=3, align_corners=corners, **options
    )


RESIZED += [
    built(
        "upsample_bilinear",
        f"align_corners {corners}, half_pixel_centers {centres}",
        doubled(corners, centres),
        grey(*numbers * 2, shape=(1, 1, 2, 6)),
        PAIR,
        against=DEVICE,
    )
    for corners, centres, numbers in (
        (True, False, (1, 1.2, 1.4, 1.6, 1.8, 2)),
        (True, None, (1, 1.2, 1.4, 1.6, 1.8, 2)),
        (False, True, (1, 1, 4 / 3, 5 / 3, 2, 2)),
        (False, None, (1, 1, 4 / 3, 5 / 3, 2, 2)),
        (False, False, (1, 4 / 3, 5 / 3, 2, 2, 2)),
    )
]
RESIZED += [
    built(
        "upsample_bilinear",
        "a fractional factor",
        lambda x: mb.upsample_bilinear(x=x, scale_factor_width=2.6, align_corners=False),
        grey(0, 0.1, 0.5, 0.9, 1, shape=(1, 1, 5)),
        np.array([[[0, 1]]], np.float32),
        against=DEVICE,
    ),
    built(
        "upsample_nearest_neighbor",
        "fractional factors, above and below 1",
        lambda x: (
            mb.upsample_nearest_neighbor(x=x, scale_factor_height=3.17, scale_factor_width=0.67),
            mb.upsample_nearest_neighbor(x=x, scale_factor_height=2.0, scale_factor_width=1.12),
        ),
        lambda x: (x[..., :2].repeat(3, 2), x.repeat(2, 2)),
        np.array([1.5, -2.5, 3.5], np.float32).reshape(1, 1, 1, 3),
        against=DEVICE,
        tolerance=0,
    ),
    built(
        "resize_bilinear",
        "one result of each mode; a row",
        lambda x: tuple(
            mb.resize_bilinear(x=x, target_size_height=1, target_size_width=1, sampling_mode=m)
            for m in MODES
        ),
        lambda x: tuple(np.array([[[[v]]]], np.float32) for v in (1.0, 2.0, 1.0, 2.0, 2.0)),
        np.array([[[[1, 2, 3]]]], np.float32),
    ),
    built(
        "resize_nearest_neighbor",
        "larger and smaller",
        lambda x: mb.resize_nearest_neighbor(x=x, target_size_height=3, target_size_width=7),
        lambda x: x[:, :, [0, 2, 3]][..., [0, 1, 1, 2, 3, 3, 4]],
        IMAGE,
        tolerance=0,
    ),
    built(
        "crop",
        "the documented example",
        lambda x: mb.crop(x=x, crop_height=[0, 1], crop_width=[1, 1]),
        grey(2, 3, 6, 7, 10, 11, shape=(1, 1, 3, 2)),
        SQUARE,
        against=DEVICE,
        tolerance=0,
    ),
]


@pytest.mark.parametrize("case", [*RESAMPLED, *MOVED, *CROPPED, *RESIZED])
def test_image_operation_equals_its_definition(case):
    check(case)


@pytest.mark.parametrize("mode", ["DEFAULT", "OFFSET_CORNERS", "UNALIGN_CORNERS"])
def test_box_turned_round_has_no_grid_but_aligned_ones(mode):
    with pytest.raises(PackageError, match=r"crop_resize.*ends before it starts"):
        run(boxes_17([[2, 2, 1, 1]], sampling_mode=mode), SQUARE)


def test_linear_interpolation_of_whole_numbers_is_refused():
    with pytest.raises(PackageError, match=r"resize.*not defined"):
        run(
            lambda x: mb.resize(x=x, shape=[4], resized_dims=np.uint32(1)), np.arange(3, dtype="i4")
        )
