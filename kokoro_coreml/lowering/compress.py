"""The graph pass that stores large constant weights compressed.

Given:

    %w = const()
    %y = linear(x=%x, weight=%w)

Result, for iOS 17 and 18:

    %w_int8 = constexpr_affine_dequantize()            %w_int8 = constexpr_blockwise_shift_scale()
    %y = linear(x=%x, weight=%w_int8)                  %y = linear(x=%x, weight=%w_int8)

and `constexpr_lut_to_dense` in both for a palette. Core ML expands these constants itself, when it
loads the package or while it computes; coremltools folds none of them back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil._deployment_compatibility import AvailableTarget
from coremltools.converters.mil.mil import types
from coremltools.converters.mil.mil.passes.graph_pass import AbstractGraphPass
from coremltools.converters.mil.mil.passes.helper import block_context_manager
from coremltools.converters.mil.mil.passes.pass_registry import register_pass

from kokoro_coreml.compression.quantise import Compressed, Linear, Palette, Weight, quantise
from kokoro_coreml.compression.scheme import Opset, Scheme
from kokoro_coreml.errors import ConversionError

Choose = Callable[[str, Weight, int, Opset], Scheme | None]
"""The scheme of a weight by its constant's name, which is the parameter's path in PyTorch where
lowering kept it, its value, the axis of its output channels and the opset of the program; None
leaves it as it is."""

THRESHOLD = 2_048
"""Elements; a weight of no more is left as it is, for it would save less than a page."""

PASS_NAME = "kokoro::compress_weights"

CHANNELS = {
    ("conv", "weight"): 0,
    ("conv_transpose", "weight"): 1,
    ("linear", "weight"): 0,
    ("lstm", "weight_ih"): 0,
    ("lstm", "weight_hh"): 0,
    ("lstm", "weight_ih_back"): 0,
    ("lstm", "weight_hh_back"): 0,
    ("gather", "x"): 0,
    ("matmul", "x"): -2,
    ("matmul", "y"): -1,
}
"""Operations and their inputs that hold weights, with the axis of the output channels."""

_CAST_SUFFIX = "_to_fp16"
"""What coremltools appends to the name of a constant that it casts."""


def add_compression(pipeline: Any, choose: Choose) -> None:
    """Append the pass to a `coremltools.PassPipeline`.

    Args:
        pipeline: the one given to `coremltools.convert`, with all its other passes in place.
        choose: called for every large weight; must give the same answer for the same weight in
            every function of a package, or its copies are not shared.
    """
    pipeline.append_pass(PASS_NAME)
    pipeline.set_options(PASS_NAME, {"choose": choose})


@register_pass(namespace="kokoro", name="compress_weights")
class CompressWeights(AbstractGraphPass):  # type: ignore[misc]
    """Compresses each large weight as `choose` says; one that several operations use, once."""

    choose: Choose | None = None

    def apply(self, prog: Any) -> None:
        """Compress the weights of every function.

        Raises:
            ConversionError: a weight cannot be stored as chosen; or no choice was given.
        """
        if self.choose is None:
            raise ConversionError(f"{PASS_NAME} needs `choose`; append it with `add_compression`")
        for function in prog.functions.values():
            opset = "iOS18" if function.opset_version >= AvailableTarget.iOS18 else "iOS17"
            _compress_block(function, self.choose, opset)


@block_context_manager  # type: ignore[untyped-decorator]
def _compress_block(block: Any, choose: Choose, opset: Opset) -> None:
    for operation in list(block.operations):
        for inner in operation.blocks:
            _compress_block(inner, choose, opset)
        if operation.op_type == "const" and (axis := _channel_axis(operation)) is not None:
            _compress(block, operation, axis, choose, opset)


def _channel_axis(const: Any) -> int | None:
    """Of the output channels, or None if the constant is no large weight of known operations."""
    (var,) = const.outputs
    value = var.val
    if not isinstance(value, np.ndarray) or value.dtype not in (np.float16, np.float32):
        return None
    if value.ndim < 2 or value.size <= THRESHOLD or var in const.enclosing_block.outputs:
        return None
    axes = [_axis_in(user, var) for user in var.child_ops]
    return axes[0] if axes and None not in axes else None


def _axis_in(user: Any, var: Any) -> int | None:
    slots = [slot for slot, given in user.inputs.items() if given is var]
    if len(slots) != 1:
        return None
    axis = CHANNELS.get((user.op_type, slots[0]))
    if user.op_type == "matmul" and axis is not None:
        transposed = getattr(user, f"transpose_{slots[0]}").val
        axis = -3 - axis if transposed else axis
    return None if axis is None else axis % var.rank


def _compress(block: Any, const: Any, axis: int, choose: Choose, opset: Opset) -> None:
    (var,) = const.outputs
    name = const.name.removesuffix(_CAST_SUFFIX)
    scheme = choose(name, var.val, axis, opset)
    if scheme is None:
        return
    if obstacle := scheme.obstacle(var.shape, axis=axis, opset=opset):
        raise ConversionError(
            f"weight '{name}' of shape {list(var.shape)} cannot be stored as {scheme}: {obstacle}"
        )
    compressed = quantise(var.val, scheme, axis=axis)
    build = _older if opset == "iOS17" else _newer
    suffix = str(scheme).replace("/", "_")
    stored = build(compressed, axis, name=f"{const.name}_{suffix}", before=const)
    block.replace_uses_of_var_after_op(anchor_op=const, old_var=var, new_var=stored)
    block.remove_ops([const])


def _newer(compressed: Compressed, _axis: int, *, name: str, before: Any) -> Any:
    """The iOS 18 form."""
    if isinstance(compressed, Linear):
        return mb.constexpr_blockwise_shift_scale(
            data=compressed.data, scale=compressed.scale, name=name, before_op=before
        )
    index = types.nptype_from_builtin(types.string_to_builtin(f"uint{compressed.bits}"))
    return mb.constexpr_lut_to_dense(
        indices=compressed.indices.astype(index), lut=compressed.lut, name=name, before_op=before
    )


def _older(compressed: Compressed, axis: int, *, name: str, before: Any) -> Any:
    """The iOS 16 form, which holds in iOS 17 as well."""
    if isinstance(compressed, Linear):
        scale = compressed.scale.reshape(-1)
        return mb.constexpr_affine_dequantize(
            quantized_data=compressed.data,
            zero_point=np.zeros(scale.shape, dtype=np.int8),
            scale=scale,
            axis=np.int32(axis),
            name=name,
            before_op=before,
        )
    return mb.constexpr_lut_to_dense(
        indices=_packed(compressed),
        lut=compressed.lut.reshape(-1),
        shape=np.array(compressed.indices.shape, dtype=np.uint32),
        name=name,
        before_op=before,
    )


def _packed(palette: Palette) -> Any:
    """Indices end to end, least significant bits first, filled up to a whole byte."""
    bits = np.unpackbits(palette.indices.reshape(-1, 1), axis=1, bitorder="little")
    return np.packbits(bits[:, : palette.bits], bitorder="little")
