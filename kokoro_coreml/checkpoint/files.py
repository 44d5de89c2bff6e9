"""Reading `.pth` and `.safetensors` without ever running code from them, and writing a `.pth`."""

from __future__ import annotations

import hashlib
import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from kokoro_coreml.checkpoint.types import PARTS, Checkpoint
from kokoro_coreml.errors import CheckpointError

Parts = dict[str, dict[str, Tensor]]

MALFORMED = (
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    ImportError,
    OverflowError,
    AssertionError,
    RecursionError,
    struct.error,
    zipfile.BadZipFile,
)
"""What `torch.load(weights_only=True)` raises on files that are refused, cut short or foreign."""


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as lower-case hex.

    Raises:
        CheckpointError: the file cannot be read, or is empty.
    """
    try:
        if path.stat().st_size == 0:
            raise CheckpointError(f"{path.name}: the file is empty; fetch it again")
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path.name}: cannot be read ({error.strerror})") from error


def check_digest(name: str, found: str, expected: Mapping[str, str] | None) -> None:
    """Compare a file's digest with its pin, if it has one.

    Raises:
        CheckpointError: they differ; names the file and both digests.
    """
    wanted = (expected or {}).get(name)
    if wanted is not None and wanted.lower() != found:
        raise CheckpointError(
            f"{name}: SHA-256 is {found}, expected {wanted.lower()}; "
            "the file is damaged, or not the one that was pinned"
        )


def read_pth(path: Path) -> Parts:
    """Read a PyTorch checkpoint as tensors only (`torch.load(weights_only=True)`), memory-mapped.

    Accepts upstream's dict of five state dicts, and the flat `KModel.state_dict()`.

    Raises:
        CheckpointError: truncated, foreign, or holding objects other than tensors.
    """
    try:
        # TorchScript archives draw a warning before they are refused.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = torch.load(
                path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
            )
    except MALFORMED as error:
        refused = re.search(r"GLOBAL (\S+)|Unsupported (?:global|class|operand)", str(error))
        if refused and isinstance(error, pickle.UnpicklingError):
            what = f" ({refused[1]})" if refused[1] else ""
            raise CheckpointError(
                f"{path.name}: refused, because it holds objects other than tensors{what}; "
                "save it again as a dict of state dicts, or as .safetensors"
            ) from error
        raise CheckpointError(
            f"{path.name}: not a PyTorch checkpoint, or truncated ({_first_line(error)})"
        ) from error
    if not isinstance(loaded, Mapping) or not loaded:
        raise CheckpointError(
            f"{path.name}: expected a dict of the state dicts {', '.join(PARTS)}, "
            f"found {type(loaded).__name__}"
        )
    if all(isinstance(value, Tensor) for value in loaded.values()):
        return unflatten(loaded)
    wrong = [str(k) for k, v in loaded.items() if not isinstance(v, Mapping)]
    if wrong:
        raise CheckpointError(
            f"{path.name}: expected only state dicts, found other values under {wrong[:5]}"
        )
    return {str(part): {str(k): v for k, v in sub.items()} for part, sub in loaded.items()}


def read_safetensors(path: Path) -> Parts:
    """Read flat keys `part.key`, with `module.` in front of either or not.

    Raises:
        CheckpointError: truncated or foreign.
    """
    try:
        return unflatten(load_file(path, device="cpu"))
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path.name}: not a safetensors file, or truncated ({_first_line(error)})"
        ) from error


def unflatten(flat: Mapping[str, Tensor]) -> Parts:
    """Split `part.key` names by part; names that hold no dot become parts, to be refused later."""
    parts: Parts = {}
    for name, value in flat.items():
        part, _, key = str(name).removeprefix("module.").partition(".")
        parts.setdefault(part, {})[key] = value
    return parts


def flatten(state: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Join parts and keys to `part.key`."""
    return {f"{part}.{key}": value for part, sub in state.items() for key, value in sub.items()}


def write_pth(checkpoint: Checkpoint, file: Path | IO[bytes]) -> None:
    """Write a `.pth` that upstream's `KModel(config=..., model=file)` loads.

    Keys get the prefix `module.`: `KModel` loads strictly first, fails for want of the tensors
    nobody uses (AdaIN's affine, ALBERT's pooler), and then strips seven characters from each key.
    """
    prefixed = {
        part: {f"module.{key}": value for key, value in sub.items()}
        for part, sub in checkpoint.state.items()
    }
    torch.save(prefixed, file)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
