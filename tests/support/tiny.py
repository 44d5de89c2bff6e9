"""A random network of upstream's architecture, as small as upstream's classes allow.

`Decoder` fixes 512, 1024 and 64 channels and `KModel` splits the style at 128, so about 40 M of
the parameters cannot be made to go away; everything else is small, and no size or rate equals the
82 M checkpoint's where upstream lets it differ (32 samples per frame instead of 600).
"""

from __future__ import annotations

import functools
import hashlib
import json
from importlib import resources
from typing import Any

import torch

from kokoro_coreml.checkpoint import PARTS, Checkpoint, Provenance
from kokoro_coreml.checkpoint.schema import build_parts, canonical
from kokoro_coreml.config import ModelConfig

VOICED_HZ = 140.0
"""Where the random pitch is centred; upstream's sine source is silent below 10 Hz."""


def tiny_config() -> dict[str, Any]:
    """Return a fresh `config.json` object; the vocabulary is the real one."""
    shipped = resources.files("kokoro_coreml") / "data" / "kokoro-82m.config.json"
    return {
        "istftnet": {
            "upsample_kernel_sizes": [8, 4],
            "upsample_rates": [4, 2],
            "gen_istft_hop_size": 2,
            "gen_istft_n_fft": 8,
            "resblock_dilation_sizes": [[1, 3, 5], [1, 2, 3]],
            "resblock_kernel_sizes": [3, 5],
            "upsample_initial_channel": 512,
        },
        "plbert": {
            "hidden_size": 48,
            "num_attention_heads": 4,
            "intermediate_size": 64,
            "max_position_embeddings": 512,
            "num_hidden_layers": 3,
            "embedding_size": 32,
            "dropout": 0.1,
        },
        "vocab": json.loads(shipped.read_text(encoding="utf-8"))["vocab"],
        "dim_in": 64,
        "dropout": 0.2,
        "hidden_dim": 512,
        "max_conv_dim": 512,
        "max_dur": 10,
        "multispeaker": True,
        "n_layer": 2,
        "n_mels": 80,
        "n_token": 178,
        "style_dim": 128,
        "text_encoder_kernel_size": 3,
    }


@functools.lru_cache(maxsize=2)
def tiny_checkpoint(seed: int = 0) -> Checkpoint:
    """Return the random checkpoint of `seed`; the object is shared, so do not write to its tensors.

    Its durations vary around 5 frames per token, its pitch around 140 Hz with unvoiced stretches,
    and its audio is finite.
    """
    config = ModelConfig.from_dict(tiny_config())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts = {name: module.state_dict() for name, module in build_parts(config).items()}
        for part in PARTS:
            parts[part] = {key: _shake(key, value) for key, value in parts[part].items()}
    predictor = parts["predictor"]
    predictor["F0_proj.weight"] *= 400.0
    predictor["F0_proj.bias"] += VOICED_HZ
    predictor["duration_proj.linear_layer.weight"] *= 20.0
    state, _ = canonical(parts, config, source=f"tiny random checkpoint {seed}")
    digest = hashlib.sha256(f"tiny {seed}".encode()).hexdigest()
    return Checkpoint(
        config=config,
        state=state,
        provenance=Provenance(
            source="file",
            location=f"tiny-{seed}.pth",
            revision=None,
            files={f"tiny-{seed}.pth": digest},
            license="Apache-2.0",
        ),
    )


def _shake(key: str, value: torch.Tensor) -> torch.Tensor:
    """Move a freshly initialised parameter off the special values that hide mistakes (0 and 1)."""
    if key.endswith((".norm.weight", ".norm.bias")):
        return value  # AdaIN's identity affine: real checkpoints leave it out, and so does ours
    leaf = key.rsplit(".", 2)
    if "alpha" in key:
        return value * torch.empty_like(value).uniform_(0.5, 2.0)
    if leaf[-1] in {"gamma", "beta", "bias"} or "LayerNorm" in key or "layer_norm" in key:
        return value + 0.1 * torch.randn_like(value)
    return value
