"""What compressing one weight does to the network's output."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from kokoro_coreml.compression.plan import Candidate
from kokoro_coreml.compression.quantise import dequantise, quantise
from kokoro_coreml.compression.scheme import Opset, Scheme, bytes_of
from kokoro_coreml.errors import ConversionError
from kokoro_coreml.tables import nearest


def measure(
    weights: Mapping[str, Tensor],
    schemes: Sequence[Scheme],
    error_of: Callable[[Mapping[str, Tensor]], float],
    *,
    axes: Mapping[str, int] | None = None,
    dtype: torch.dtype = torch.float16,
    opset: Opset = "iOS18",
) -> dict[str, list[Candidate]]:
    """Try every scheme on every weight, one at a time; what `plan.allocate` takes.

    Args:
        weights: by name, in any precision.
        schemes: to try; one that does not fit a weight's shape or the opset is left out for it.
        error_of: runs the network with the named weights replaced by the given ones (float32) and
            returns the energy of the output's error; called with none for the uncompressed network.
        axes: output channels of the weights that have them elsewhere than along axis 0.
        dtype: of the weights in the package, float16 or float32.
        opset: of the package.

    Raises:
        ConversionError: a weight cannot be compressed.
    """
    unchanged = error_of({})
    found: dict[str, list[Candidate]] = {}
    for name, weight in weights.items():
        values, axis = weight.detach().to(dtype).numpy(), (axes or {}).get(name, 0)
        size = bytes_of(None, values.shape, values.dtype, axis=axis, opset=opset)
        found[name] = [Candidate(None, size, unchanged)]
        for scheme in schemes:
            if scheme.obstacle(values.shape, axis=axis, opset=opset):
                continue
            back = torch.from_numpy(dequantise(quantise(values, scheme, axis=axis))).float()
            size = bytes_of(scheme, values.shape, values.dtype, axis=axis, opset=opset)
            found[name].append(Candidate(scheme, size, error_of({name: back})))
    return found


@contextmanager
def replaced(module: nn.Module, tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """Put other values into parameters or buffers of a module; the old ones return afterwards.

    The parameter objects stay, so sharing and an LSTM's list of its weights stay intact.

    Args:
        module: its parameters are changed in place for as long as the context lasts.
        tensors: by path, as `state_dict` names them, each of its parameter's shape.

    Raises:
        ConversionError: a path is unknown or a shape differs; nothing has been changed then.
    """
    known: dict[str, Tensor] = dict(module.named_buffers(remove_duplicate=False))
    known.update(module.named_parameters(remove_duplicate=False))
    for path, tensor in tensors.items():
        if path not in known:
            raise ConversionError(f"no parameter '{path}'; {nearest(path, list(known))}")
        if tensor.shape != known[path].shape:
            raise ConversionError(
                f"'{path}' has the shape {list(known[path].shape)}, found {list(tensor.shape)}"
            )
    saved = {path: known[path].detach().clone() for path in tensors}
    try:
        _write(known, tensors)
        yield
    finally:
        _write(known, saved)


def _write(known: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for path, tensor in tensors.items():
            known[path].copy_(tensor)
