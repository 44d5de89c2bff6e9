"""Sorting. Source: MIL operation documentation, iOS 15 to 17, `tensor_operation`.

Equal elements come in the order of their index; MIL leaves it open.
"""

from __future__ import annotations

from torch import Tensor

from kokoro_coreml.executor.ops.registry import Result, op
from kokoro_coreml.executor.types import BY_NAME


@op("argsort")
def argsort(x: Tensor, axis: int = -1, ascending: bool = False) -> Tensor:
    """Indices in sorted order; descending by default."""
    return x.argsort(dim=axis, descending=not ascending, stable=True).to(BY_NAME["int32"].carrier)


@op("topk")
def topk(
    x: Tensor,
    k: int = 1,
    axis: int = -1,
    ascending: bool = False,
    sort: bool = True,
    return_indices: bool = True,
    output_indices_dtype: str = "int32",
) -> Result:
    """The k largest (smallest, if ascending) elements, sorted, and their indices; k = -1 is all."""
    size = x.shape[axis]
    values, indices = x.sort(dim=axis, descending=not ascending, stable=True)
    count = size if k == -1 else k
    values, indices = values.narrow(axis, 0, count), indices.narrow(axis, 0, count)
    if not return_indices:
        return values
    return values, indices.to(BY_NAME[output_indices_dtype].carrier)
