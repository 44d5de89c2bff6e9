"""Refusing an operation whose result cannot fit in memory, before it is allocated.

The size of most results follows from the inputs. Of some it follows from a value in the package
(the repetitions of `tile`, the shape of `fill`) or from a product of sizes (a broadcast, a gather):
a few bytes can then ask for any amount of memory. For those this module foretells the size. Where
the package declares it, a larger result is refused at once; and any tensor may take at most a
quarter of the machine's memory in float32.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from itertools import zip_longest
from typing import Any

from torch import Tensor

from kokoro_coreml.executor.ops.conv import pad_pairs
from kokoro_coreml.executor.types import MAX_ELEMENTS, TensorSpec, ValueSpec

Arguments = Mapping[str, Any]
Sizes = tuple[int, ...]
"""Elements of the result, then of tensors made on the way."""

_BYTES = 4
_SHARE = 4

_SMALL = 2**22
"""Elements (16 MiB) below which a product of sizes is not worth working out."""


@cache
def max_elements() -> int:
    """Elements one tensor may have on this machine."""
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return MAX_ELEMENTS
    return min(MAX_ELEMENTS, memory // (_BYTES * _SHARE))


def declared_elements(specs: Iterable[ValueSpec]) -> int | None:
    """Elements of all results together, or None where one is open or not a tensor."""
    total = 0
    for spec in specs:
        if not isinstance(spec, TensorSpec) or None in spec.shape:
            return None
        total += math.prod(d for d in spec.shape if d is not None)
    return total


def require_room(operation: str, arguments: Arguments, declared: int | None = None) -> None:
    """Check an operation's appetite before it runs.

    Args:
        operation: MIL's name of it.
        arguments: as its function takes them; those that are left to their default are absent.
        declared: elements of its results, if the package says so.

    Raises:
        MemoryError: the result is larger than declared, or any tensor larger than `max_elements`.
        LookupError, TypeError, ArithmeticError: the arguments do not fit the operation.
    """
    foretell = _FORETOLD.get(operation)
    if foretell is None:
        return
    sizes = foretell(arguments)
    if max(sizes) > max_elements():
        raise MemoryError(
            f"it would make a tensor of {max(sizes)} elements; at most {max_elements()} are "
            "allowed on this machine"
        )
    if declared is not None and sizes[0] > declared:
        raise MemoryError(f"its result would have {sizes[0]} elements; {declared} are declared")


def _all_of(*tensors: Tensor) -> int:
    return sum(t.numel() for t in tensors)


def _broadcast(a: Arguments) -> Sizes:
    tensors = [v for v in a.values() if isinstance(v, Tensor)]
    if math.prod(t.numel() for t in tensors) <= _SMALL:
        return (0,)
    dimensions = zip_longest(*(reversed(t.shape) for t in tensors), fillvalue=1)
    return (math.prod(max(sizes) for sizes in dimensions),)


def _along(a: Arguments, axis: int | None) -> Sizes:
    """Vectors along one axis of the data, which may stretch it if it is 1 there.

    Arguments come in no order: constants are bound before the data is.
    """
    first = next(a[name] for name in ("x", "input", "quantized_data") if name in a)
    others = [v for v in a.values() if isinstance(v, Tensor) and v is not first]
    longest = max((t.numel() for t in others if t.ndim == 1), default=1)
    if axis is None or first.ndim <= axis or first.numel() * longest <= _SMALL:
        return (0,)
    size = first.shape[axis]
    return (first.numel() // max(1, size) * max(size, longest),)


def _matmul(a: Arguments) -> Sizes:
    x, y = a["x"], a["y"]
    if x.numel() * y.numel() <= _SMALL or min(x.ndim, y.ndim) < 2:
        return (0,)
    batch = zip_longest(reversed(x.shape[:-2]), reversed(y.shape[:-2]), fillvalue=1)
    rows = x.shape[-1 if a.get("transpose_x", False) else -2]
    columns = y.shape[-2 if a.get("transpose_y", False) else -1]
    return (math.prod(max(sizes) for sizes in batch) * rows * columns,)


def _linear(a: Arguments) -> Sizes:
    return (math.prod(a["x"].shape[:-1]) * a["weight"].shape[0],)


def _einsum(a: Arguments) -> Sizes:
    terms, _, out = a["equation"].replace(" ", "").partition("->")
    sizes: dict[str, int] = {}
    for letters, tensor in zip(terms.split(","), a["values"], strict=False):
        for letter, size in zip(letters, tensor.shape, strict=False):
            sizes[letter] = max(size, sizes.get(letter, 1))
    return (math.prod(sizes.get(letter, 1) for letter in out),)


def _attention(a: Arguments) -> Sizes:
    query, key = a["query"], a["key"]
    return (0, math.prod(query.shape[:-1]) * key.shape[-2])


def _range(a: Arguments) -> Sizes:
    start, end, step = (a[k].item() for k in ("start", "end", "step"))
    return (max(0, math.ceil((end - start) / step)),)


def _pad(a: Arguments) -> Sizes:
    sizes, pad = a["x"].shape, a["pad"]
    first = len(sizes) - len(pad) // 2
    added = [0] * first + [b + e for b, e in zip(pad[::2], pad[1::2], strict=True)]
    return (math.prod(n + p for n, p in zip(sizes, added, strict=True)),)


def _resized(x: Tensor, targets: Sequence[int]) -> Sizes:
    """The last dimensions become `targets`, one after the other."""
    kept, old = x.shape[: x.ndim - len(targets)], x.shape[x.ndim - len(targets) :]
    widest = (max(n, t) for n, t in zip(old, targets, strict=True))
    return (math.prod((*kept, *targets)), math.prod((*kept, *widest)))


def _resize_to(a: Arguments) -> Sizes:
    sizes = (a.get("target_size_height", 1), a.get("target_size_width", 1))
    return _resized(a["x"], sizes)


def _resize(a: Arguments) -> Sizes:
    x, count = a["x"], min(a["resized_dims"], len(a["shape"]))
    old, asked = x.shape[x.ndim - count :], a["shape"][len(a["shape"]) - count :]
    return _resized(x, [t or n for n, t in zip(old, asked, strict=True)])


def _upsample(a: Arguments) -> Sizes:
    scales = (a.get("scale_factor_height", 1.0), a.get("scale_factor_width", 1.0))
    x = a["x"]
    return _resized(x, [math.floor(n * s) for n, s in zip(x.shape[-2:], scales, strict=True)])


def _crop_resize(a: Arguments) -> Sizes:
    x, boxes = a["x"], a.get("boxes", a.get("roi"))
    items = 0 if boxes is None else boxes.shape[0] * (1 if "boxes" in a else x.shape[0])
    area = a.get("target_height", 1) * a.get("target_width", 1)
    return (items * x.shape[1] * area, items * math.prod(x.shape[1:]))


def _resample(a: Arguments) -> Sizes:
    x = a["x"]
    if "coordinates" in a:
        return (math.prod(x.shape[:2]) * math.prod(a["coordinates"].shape[1:3]),)
    return (math.prod(x.shape[:2]) * a["output_height"] * a["output_width"],)


def _reach(a: Arguments) -> tuple[list[int], Sequence[int]]:
    """Kernel sizes with their dilation, and strides."""
    kernel = a["weight"].shape[2:]
    ones = (1,) * len(kernel)
    strides, dilations = a.get("strides") or ones, a.get("dilations") or ones
    return [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)], strides


def _conv(a: Arguments) -> Sizes:
    x, (reach, strides) = a["x"], _reach(a)
    pairs = pad_pairs(a.get("pad_type", "valid"), a.get("pad"), x.shape[2:], reach, strides)
    padded = [n + b + e for n, (b, e) in zip(x.shape[2:], pairs, strict=True)]
    counts = [max(0, (n - r) // s + 1) for n, r, s in zip(padded, reach, strides, strict=True)]
    result = x.shape[0] * a["weight"].shape[0] * math.prod(counts)
    return (result, math.prod((*x.shape[:2], *padded)))


def _conv_transpose(a: Arguments) -> Sizes:
    x, (reach, strides) = a["x"], _reach(a)
    channels = x.shape[0] * a["weight"].shape[1] * a.get("groups", 1)
    full = [(n - 1) * s + r for n, s, r in zip(x.shape[2:], strides, reach, strict=True)]
    wanted = a.get("output_shape") or ()
    return (math.prod(wanted) if wanted else 0, channels * math.prod(full))


def _pool(a: Arguments) -> Sizes:
    x, kernel = a["x"], a["kernel_sizes"]
    strides = a.get("strides") or (1,) * len(kernel)
    pairs = pad_pairs(a["pad_type"], a.get("pad"), x.shape[2:], kernel, strides)
    padded = (n + b + e + s for n, (b, e), s in zip(x.shape[2:], pairs, strides, strict=True))
    return (0, math.prod((*x.shape[:2], *padded)))


def _gather(a: Arguments) -> Sizes:
    x, axis = a["x"], a.get("axis", 0) % a["x"].ndim
    picked = a["indices"].shape[a.get("batch_dims", 0) :]
    return (math.prod((*x.shape[:axis], *picked, *x.shape[axis + 1 :])),)


def _gather_nd(a: Arguments) -> Sizes:
    indices = a["indices"].shape
    rest = a["x"].shape[a.get("batch_dims", 0) + indices[-1] :]
    return (math.prod(indices[:-1]) * math.prod(rest),)


def _windows(a: Arguments) -> Sizes:
    x, size = a["x"], a["size"]
    length = x.shape[a["axis"]]
    count = max(0, (length - size) // a.get("stride", 1) + 1)
    return (x.numel() // max(1, length) * count * size,)


def _space_to_batch(a: Arguments) -> Sizes:
    (top, bottom), (left, right) = a["paddings"].tolist()
    n, c, h, w = a["x"].shape
    return (n * c * (h + top + bottom) * (w + left + right),)


def _recurrent(a: Arguments) -> Sizes:
    ways = 2 if a.get("direction") == "bidirectional" else 1
    return (0, math.prod(a["x"].shape[:2]) * a["weight_hh"].shape[0] * ways)


def _list_gather(a: Arguments) -> Sizes:
    items = [i for i in a["ls"].items if isinstance(i, Tensor)]
    return (a["indices"].numel() * max((i.numel() for i in items), default=0),)


def _suppression(a: Arguments) -> Sizes:
    return (0, a["boxes"].shape[0] * a["boxes"].shape[1] ** 2)


_BROADCASTING = (
    "add", "sub", "mul", "real_div", "floor_div", "mod", "pow", "maximum", "minimum", "equal",
    "not_equal", "greater", "greater_equal", "less", "less_equal", "logical_and", "logical_or",
    "logical_xor", "select",
)  # fmt: skip
_ON_CHANNELS = ("batch_norm", "instance_norm", "prelu", "softplus_parametric")
_ON_AXIS = ("quantize", "dequantize", "constexpr_affine_dequantize")

_FORETOLD: dict[str, Callable[[Arguments], Sizes]] = {
    **dict.fromkeys(_BROADCASTING, _broadcast),
    **dict.fromkeys(_ON_CHANNELS, lambda a: _along(a, 1)),
    **dict.fromkeys(_ON_AXIS, lambda a: _along(a, a.get("axis"))),
    **dict.fromkeys(("conv", "conv_quantized"), _conv),
    **dict.fromkeys(("max_pool", "avg_pool", "l2_pool"), _pool),
    **dict.fromkeys(("resize_bilinear", "resize_nearest_neighbor"), _resize_to),
    **dict.fromkeys(("upsample_bilinear", "upsample_nearest_neighbor"), _upsample),
    **dict.fromkeys(("affine", "resample"), _resample),
    **dict.fromkeys(("lstm", "gru", "rnn"), _recurrent),
    **dict.fromkeys(("concat", "stack"), lambda a: (_all_of(*a["values"]),)),
    "constexpr_lut_to_dense": lambda a: (
        (a["indices"].numel() * a["lut"].shape[-1],)
        if "shape" not in a
        else (math.prod(a["shape"]),)
    ),
    "conv_transpose": _conv_transpose,
    "crop_resize": _crop_resize,
    "einsum": _einsum,
    "fill": lambda a: (math.prod(a["shape"]),),
    "gather": _gather,
    "gather_nd": _gather_nd,
    "linear": _linear,
    "list_gather": _list_gather,
    "matmul": _matmul,
    "non_maximum_suppression": _suppression,
    "non_zero": lambda a: (0, a["x"].numel() * a["x"].ndim),
    "one_hot": lambda a: (a["indices"].numel() * a["one_hot_vector_size"],),
    "pad": _pad,
    "range_1d": _range,
    "resize": _resize,
    "scaled_dot_product_attention": _attention,
    "sliding_windows": _windows,
    "space_to_batch": _space_to_batch,
    "tile": lambda a: (a["x"].numel() * math.prod(a["reps"]),),
}
"""Sizes each operation would make, for those that can outgrow their inputs."""
