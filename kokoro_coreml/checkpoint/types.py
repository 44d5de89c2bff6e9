"""What every source of weights is turned into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from kokoro_coreml.config import ModelConfig

PARTS = ("bert", "bert_encoder", "predictor", "decoder", "text_encoder")
"""The five state dicts of an upstream checkpoint, by upstream's attribute names."""

StateDict = Mapping[str, Tensor]


@dataclass(frozen=True)
class Provenance:
    """Where weights came from; stands in the manifest word for word.

    Holds no path of the machine it was made on, so that equal inputs give equal bundles.
    """

    source: str
    """`hub`, `packaged`, `file` or `onnx`."""
    location: str
    """Hub id, package names, or the bare file name."""
    revision: str | None
    files: Mapping[str, str]
    """File name to SHA-256 of every file that was read."""
    license: str
    """SPDX id, or `unknown` where the source does not say."""
    fallback_from: str | None = None
    """The source that was asked for first, and could not be had."""
    notes: tuple[str, ...] = ()
    """What was done to the weights on the way (dequantized, parts left out)."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, keys in declaration order."""
        return asdict(self) | {"files": dict(self.files), "notes": list(self.notes)}


@dataclass(frozen=True)
class Checkpoint:
    """One set of weights of the Kokoro architecture.

    `state` holds upstream's own keys without the `module.` prefix, float32, weight norm as
    `weight_g` and `weight_v`; every tensor was checked against `config`.
    """

    config: ModelConfig
    state: Mapping[str, StateDict] = field(repr=False)
    provenance: Provenance
