"""Writers of packages: small programs with one thing that a rule may be about."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from coremltools.converters.mil import Builder as mb

from kokoro_coreml.lowering.corrections import corrected
from tests.placement.packages import (
    Spec,
    edit,
    f16,
    f32,
    from_torch,
    half,
    reshaped,
    save,
    state,
)

Make = Callable[[Path], Path]


def of(body: Callable, *specs: Spec, ios: int = 17) -> Make:
    return lambda path: save(body, specs, path, ios=ios)


def unary(name: str, dtype: str = "fp16", shape: tuple[int, ...] = (1, 4, 2, 32)) -> Make:
    return of(lambda x: getattr(mb, name)(x=x), Spec(dtype, shape))


def stated(dtype: str, name: str, *shape: int) -> Make:
    """A `name` of one input whose declared shape is rewritten, as no builder would let it be."""

    def make(path: Path) -> Path:
        saved = save(lambda x: getattr(mb, name)(x=x), [Spec(dtype, (4,))], path)
        return edit(saved, lambda model: reshaped(model, *shape))

    return make


def conv(height: int, width: int, groups: int = 1, batch: int = 1, columns: int = 64) -> Make:
    def body(x):
        weight = f16(4, 4 // groups, height, width)
        return mb.conv(x=x, weight=weight, pad_type="same", groups=groups)

    return of(body, half(batch, 4, 40, columns))


def conv_transpose(width: int, stride: int) -> Make:
    def body(x):
        return mb.conv_transpose(x=x, weight=f16(4, 4, width), strides=[stride])

    return of(body, half(1, 4, 32))


def matmul(inner: int) -> Make:
    return of(lambda x: mb.matmul(x=x, y=f16(inner, 2)), half(1, inner))


def pool(name: str, width: int) -> Make:
    def body(x):
        return getattr(mb, name)(x=x, kernel_sizes=[1, width], strides=[1, 1], pad_type="same")

    return of(body, half(1, 4, 4, 64))


def pad(mode: str, value: float = 0.0) -> Make:
    def body(x):
        return mb.pad(x=x, pad=[1, 1], mode=mode, constant_val=np.float16(value))

    return of(body, half(1, 4, 2, 31))


def added(value: float, name: str = "add") -> Make:
    return of(lambda x: getattr(mb, name)(x=x, y=np.float16(value)), half(1, 4, 2, 32))


def with_epsilon(name: str, epsilon: float) -> Make:
    return of(lambda x: getattr(mb, name)(x=x, epsilon=np.float16(epsilon)), half(1, 32))


def layer_norm(epsilon: float) -> Make:
    def body(x):
        return mb.layer_norm(x=x, axes=[-1], epsilon=np.float16(epsilon))

    return of(body, half(1, 32))


def slices(*begins: int) -> Make:
    def body(x):
        parts = [mb.slice_by_size(x=x, begin=[0, 0, b], size=[1, 4, 8]) for b in begins]
        return mb.concat(values=parts, axis=2) if len(parts) > 1 else parts[0]

    return of(body, half(1, 4, 32))


def gather(axis: int = 2) -> Make:
    return of(lambda x: mb.gather(x=x, indices=[0, 3, 1], axis=axis), half(1, 4, 32))


def chain(length: int) -> Make:
    def body(x):
        for _ in range(length):
            x = mb.relu(x=x)
        return x

    return of(body, half(1, 4, 2, 32))


def recurrent(dtype: str) -> Make:
    constant = f16 if dtype == "fp16" else f32

    def body(x):
        return mb.rnn(
            x=x, initial_h=constant(1, 3), weight_ih=constant(3, 5), weight_hh=constant(3, 3)
        )[0]

    return of(body, Spec(dtype, (4, 1, 5)))


def choice() -> Make:
    def body(x):
        positive = mb.squeeze(x=mb.greater(x=x, y=np.float16(0.0)))
        return mb.cond(pred=positive, _true_fn=lambda: mb.relu(x=x), _false_fn=lambda: mb.abs(x=x))

    return of(body, half(1))


def listed() -> Make:
    def body(x):
        written = mb.list_write(
            ls=mb.make_list(init_length=1, elem_shape=[3], dtype="fp16"), index=0, value=x
        )
        return mb.list_read(ls=written, index=0)

    return of(body, half(3))


def drawn(name: str) -> Make:
    calls = {
        "random_normal": lambda zero, one: mb.random_normal(shape=[4, 32], mean=zero, stddev=one),
        "random_uniform": lambda zero, one: mb.random_uniform(shape=[4, 32], low=zero, high=one),
    }
    return of(lambda x: mb.add(x=x, y=calls[name](np.float16(0), np.float16(1))), half(4, 32))


def stateful(width: int) -> Make:
    def body(x, kept):
        return mb.add(x=mb.read_state(input=kept), y=x)

    return of(body, half(2, width), state(2, width), ios=18)


def crossed(name: str) -> Make:
    calls = {
        "affine": lambda x: mb.affine(
            x=x,
            transform_matrix=f16(1, 6),
            output_height=4,
            output_width=4,
            sampling_mode="bilinear",
            padding_mode="constant",
            padding_value=np.float16(0),
            coordinates_mode="normalized_minus_one_to_one",
            align_corners=True,
        ),
        "crop_resize": lambda x: mb.crop_resize(
            x=x,
            boxes=f16(1, 4),
            box_indices=np.zeros(1, np.int32),
            target_height=2,
            target_width=2,
        ),
        "resize_bilinear": lambda x: mb.resize_bilinear(
            x=x, target_size_height=4, target_size_width=4
        ),
    }
    return of(calls[name], half(1, 2, 4, 4))


def attention() -> Make:
    def body(q, k, v):
        return mb.scaled_dot_product_attention(query=q, key=k, value=v)

    return of(body, *[half(1, 2, 4, 8)] * 3, ios=18)


def generator(wave: str) -> Make:
    """A norm written out as far as its mean, and a wave."""

    def body(x):
        mean = mb.reduce_mean(x=x, axes=[-1], keep_dims=True)
        return getattr(mb, wave)(x=mb.sub(x=x, y=mean))

    return of(body, half(1, 4, 2, 32))


def angle(*, right: bool = False) -> Make:
    """atan2 as coremltools lowers it, or as this project does."""

    def make(path: Path) -> Path:
        with corrected() if right else nullcontext():
            return from_torch(lambda x: torch.atan2(x, x - 1), (2, 4), path)

    return make


def half_turn(comparison: str) -> Make:
    """The part of an atan2 that adds pi."""

    def body(x, y):
        above = getattr(mb, comparison)(x=y, y=np.float16(0))
        both = mb.logical_and(x=above, y=mb.less(x=x, y=np.float16(0)))
        turn = mb.mul(x=mb.cast(x=both, dtype="fp16"), y=np.float16(np.pi))
        return mb.add(x=mb.atan(x=mb.real_div(x=y, y=x)), y=turn)

    return of(body, half(1, 32), half(1, 32))


def flexible(shape: object) -> Make:
    return lambda path: from_torch(lambda x: x * 2 + 1, shape, path)
