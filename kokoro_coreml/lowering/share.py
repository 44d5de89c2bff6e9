"""The graph pass that writes a small constant once per function, however many operations use it.

coremltools shares constants from 100 elements on. What lies below (strides, pads, axes, epsilons,
names of modes) it writes for every operation anew, with a name each, and those are a quarter of a
program, which a package of several functions holds once per function. Its own pass with a lower
threshold would not do: it leaves out texts and truth values, takes numbers within 6e-8 for equal,
0.0 and -0.0 too, and keeps the threshold for the whole process.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from coremltools.converters.mil.mil import types
from coremltools.converters.mil.mil.passes.graph_pass import AbstractGraphPass
from coremltools.converters.mil.mil.passes.helper import block_context_manager
from coremltools.converters.mil.mil.passes.pass_registry import register_pass

PASS_NAME = "kokoro::share_small_constants"

THRESHOLD = 100
"""Elements; from here on coremltools' `common::const_deduplication` shares by itself."""


def add_sharing(pipeline: Any) -> None:
    """Append the pass to a `coremltools.PassPipeline`, behind all that may add constants."""
    pipeline.append_pass(PASS_NAME)


@register_pass(namespace="kokoro", name="share_small_constants")
class ShareSmallConstants(AbstractGraphPass):  # type: ignore[misc]
    """Lets all operations of a block use the first of its equal constants; no number changes."""

    def apply(self, prog: Any) -> None:
        """Share within every block of every function."""
        for function in prog.functions.values():
            _share(function)


@block_context_manager  # type: ignore[untyped-decorator]
def _share(block: Any) -> None:
    first: dict[tuple[object, ...], Any] = {}
    for operation in list(block.operations):
        for inner in operation.blocks:
            _share(inner)
        if operation.op_type != "const" or (key := _key(operation.outputs[0])) is None:
            continue
        (var,) = operation.outputs
        kept = first.setdefault(key, var)
        if kept is not var and var not in block.outputs:
            block.replace_uses_of_var_after_op(
                anchor_op=operation, old_var=var, new_var=kept, force_replace=True
            )
            block.remove_ops([operation])


def _key(var: Any) -> tuple[object, ...] | None:
    """Equal for constants of equal type, shape and bits; None for what is not to be shared."""
    value = var.val
    if value is None or types.is_list(var.sym_type):
        return None
    if isinstance(value, str):
        return (str, value)
    array = np.asarray(value)
    if array.size >= THRESHOLD or array.dtype == object:
        return None
    return (types.builtin_to_string(var.dtype), array.shape, array.dtype.str, array.tobytes())
