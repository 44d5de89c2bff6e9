"""The network's configuration, as read from a checkpoint's `config.json`.

Nothing here is a constant of the 82 M checkpoint: sizes are read, and the units of time that follow
from them (`units of time` below) are derived. Source of the field names: `kokoro.model.KModel`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from kokoro_coreml.errors import CheckpointError
from kokoro_coreml.strict_json import parse_json

SAMPLE_RATE = 24_000
"""Samples per second; upstream's `Generator` fixes it."""

F0_PER_FRAME = 2
"""F0 positions per aligned frame: the predictor upsamples once by two."""

LARGEST_SIZE = 2**63 - 1
"""Of whatever is a number of things; no reader has wider integers."""

LARGEST_ID = 2**31 - 1
"""Of a token: the packages take ids as int32."""

BOUNDARY_TOKENS = 2
"""The zero token in front of and behind the phonemes."""


@dataclass(frozen=True)
class AlbertConfig:
    """PL-BERT's part of the configuration; defaults are those of `transformers.AlbertConfig`."""

    hidden_size: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    num_hidden_layers: int
    embedding_size: int = 128
    num_hidden_groups: int = 1
    inner_group_num: int = 1
    type_vocab_size: int = 2
    hidden_act: str = "gelu_new"
    layer_norm_eps: float = 1e-12
    dropout: float = 0.0


@dataclass(frozen=True)
class IstftNetConfig:
    """The generator's part of the configuration."""

    upsample_kernel_sizes: tuple[int, ...]
    upsample_rates: tuple[int, ...]
    gen_istft_hop_size: int
    gen_istft_n_fft: int
    resblock_dilation_sizes: tuple[tuple[int, ...], ...]
    resblock_kernel_sizes: tuple[int, ...]
    upsample_initial_channel: int


@dataclass(frozen=True)
class ModelConfig:
    """Configuration of one checkpoint of the Kokoro architecture."""

    istftnet: IstftNetConfig
    plbert: AlbertConfig
    vocab: Mapping[str, int]
    hidden_dim: int
    style_dim: int
    n_layer: int
    n_token: int
    n_mels: int
    max_dur: int
    text_encoder_kernel_size: int
    dropout: float = 0.0
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """The JSON object as it was read, for the reference and for the bundle."""

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], *, source: str = "config.json") -> ModelConfig:
        """Check and convert a parsed `config.json`.

        Raises:
            CheckpointError: a key is missing or has the wrong type; the message names it.
        """
        known = {f.name for f in fields(cls)} - {"raw", "istftnet", "plbert", "vocab"}
        values: dict[str, Any] = {k: v for k, v in raw.items() if k in known}
        config: ModelConfig = _build(
            cls,
            values
            | {
                "istftnet": _build(IstftNetConfig, _section(raw, "istftnet", source), source),
                "plbert": _build(AlbertConfig, _section(raw, "plbert", source), source),
                "vocab": _vocabulary(raw, source),
                "raw": dict(raw),
            },
            source,
        )
        config._check(source)
        return config

    @classmethod
    def from_json(cls, text: str | bytes, *, source: str = "config.json") -> ModelConfig:
        """Parse and check a `config.json`; raises `CheckpointError` as `from_dict` does."""
        try:
            raw = parse_json(text)
        except ValueError as error:
            raise CheckpointError(f"{source}: not valid JSON ({error})") from error
        if not isinstance(raw, dict):
            raise CheckpointError(f"{source}: expected a JSON object, found {type(raw).__name__}")
        return cls.from_dict(raw, source=source)

    def _check(self, source: str) -> None:
        net = self.istftnet
        if len(net.upsample_rates) != len(net.upsample_kernel_sizes):
            raise CheckpointError(
                f"{source}: istftnet.upsample_rates has {len(net.upsample_rates)} entries but "
                f"upsample_kernel_sizes has {len(net.upsample_kernel_sizes)}"
            )
        if len(net.resblock_kernel_sizes) != len(net.resblock_dilation_sizes):
            raise CheckpointError(
                f"{source}: istftnet.resblock_kernel_sizes has {len(net.resblock_kernel_sizes)} "
                f"entries but resblock_dilation_sizes has {len(net.resblock_dilation_sizes)}"
            )
        highest = max(self.vocab.values())
        if highest >= min(self.n_token, LARGEST_ID + 1):
            raise CheckpointError(
                f"{source}: vocab holds id {highest}, but n_token is {self.n_token}"
            )

    # units of time
    @property
    def upsample_scale(self) -> int:
        """Samples per F0 position (300 in the 82 M checkpoint)."""
        return math.prod(self.istftnet.upsample_rates) * self.istftnet.gen_istft_hop_size

    @property
    def samples_per_frame(self) -> int:
        """Samples per aligned frame (600 in the 82 M checkpoint)."""
        return F0_PER_FRAME * self.upsample_scale

    @property
    def columns_per_frame(self) -> int:
        """STFT columns per aligned frame (120 in the 82 M checkpoint)."""
        return F0_PER_FRAME * math.prod(self.istftnet.upsample_rates)

    @property
    def max_phonemes(self) -> int:
        """Longest phoneme string the network takes (510 in the 82 M checkpoint)."""
        return self.plbert.max_position_embeddings - BOUNDARY_TOKENS


def _section(raw: Mapping[str, Any], key: str, source: str) -> Mapping[str, Any]:
    value = raw.get(key)
    if not isinstance(value, Mapping):
        raise CheckpointError(f"{source}: expected an object under '{key}', found {value!r:.60}")
    return value


def _vocabulary(raw: Mapping[str, Any], source: str) -> dict[str, int]:
    vocab = _section(raw, "vocab", source)
    bad = [k for k, v in vocab.items() if not isinstance(v, int) or isinstance(v, bool) or v < 0]
    if not vocab or bad:
        raise CheckpointError(f"{source}: 'vocab' must map phonemes to ids >= 0; wrong: {bad[:5]}")
    return dict(vocab)


def _build(cls: type[Any], values: Mapping[str, Any], source: str) -> Any:
    converted: dict[str, Any] = {}
    for f in fields(cls):
        if f.name not in values:
            continue
        converted[f.name] = _convert(f"{source}: {f.name}", str(f.type), values[f.name])
    try:
        return cls(**converted)
    except TypeError as error:
        raise CheckpointError(f"{source}: {error}") from error


def _convert(where: str, kind: str, value: Any) -> Any:
    if kind == "int":
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= LARGEST_SIZE:
            raise CheckpointError(f"{where} must be a whole number above 0, found {value!r:.60}")
    elif kind == "float":
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise CheckpointError(f"{where} must be a number, found {value!r:.60}")
    elif kind == "str":
        if not isinstance(value, str):
            raise CheckpointError(f"{where} must be a string, found {value!r:.60}")
    elif kind.startswith("tuple[tuple"):
        return tuple(_convert(where, "tuple[int, ...]", v) for v in _as_list(where, value))
    elif kind.startswith("tuple"):
        return tuple(_convert(where, "int", v) for v in _as_list(where, value))
    return value


def _as_list(where: str, value: Any) -> list[Any] | tuple[Any, ...]:
    if not isinstance(value, list | tuple) or not value:
        raise CheckpointError(f"{where} must be a list, found {value!r:.60}")
    return value
