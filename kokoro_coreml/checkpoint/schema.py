"""What a checkpoint must hold, asked of upstream's own classes, and the one form all sources take.

This is the only place where keys are translated: prefixes, the three ways weight norm is written,
and the tensors upstream carries but never uses. Everything behind it sees one form.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from kokoro.istftnet import Decoder
from kokoro.modules import CustomAlbert, ProsodyPredictor, TextEncoder
from torch import Tensor, nn
from transformers import AlbertConfig

from kokoro_coreml.checkpoint.types import PARTS, StateDict
from kokoro_coreml.config import ModelConfig
from kokoro_coreml.errors import CheckpointError

Shapes = dict[str, tuple[int, ...]]

SHOWN_PROBLEMS = 8
"""Problems listed in one message; the rest are counted."""

UNUSED_SUFFIXES = ("position_ids", "token_type_ids", "pooler.weight", "pooler.bias")
"""ALBERT's buffers and pooler: `CustomAlbert` returns `last_hidden_state`, which needs none."""

AFFINE = (".norm.weight", ".norm.bias")
"""AdaIN's instance norm affine: a workaround for an exporter, absent from real checkpoints."""


def build_parts(config: ModelConfig) -> dict[str, nn.Module]:
    """Instantiate the five parts as `kokoro.model.KModel.__init__` does, on the current device.

    Raises:
        CheckpointError: upstream's classes refuse the configuration.
    """
    plbert = config.raw.get("plbert") or asdict(config.plbert)
    try:
        return _build_quietly(config, plbert)
    except (ValueError, TypeError, RuntimeError, LookupError, ZeroDivisionError) as error:
        raise CheckpointError(
            f"config.json: upstream's network cannot be built from it ({error})"
        ) from error


def _build_quietly(config: ModelConfig, plbert: Mapping[str, Any]) -> dict[str, nn.Module]:
    # Upstream's constructors warn of a deprecated weight norm and of dropout on one LSTM layer.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", UserWarning)
        bert = CustomAlbert(AlbertConfig(vocab_size=config.n_token, **plbert))
        return {
            "bert": bert,
            "bert_encoder": nn.Linear(config.plbert.hidden_size, config.hidden_dim),
            "predictor": ProsodyPredictor(
                style_dim=config.style_dim,
                d_hid=config.hidden_dim,
                nlayers=config.n_layer,
                max_dur=config.max_dur,
                dropout=config.dropout,
            ),
            "decoder": Decoder(
                dim_in=config.hidden_dim,
                style_dim=config.style_dim,
                dim_out=config.n_mels,
                **asdict(config.istftnet),
            ),
            "text_encoder": TextEncoder(
                channels=config.hidden_dim,
                kernel_size=config.text_encoder_kernel_size,
                depth=config.n_layer,
                n_symbols=config.n_token,
            ),
        }


def expected_shapes(config: ModelConfig) -> dict[str, Shapes]:
    """Return part -> key -> shape of the canonical form, without allocating any weight."""
    with torch.device("meta"):
        parts = build_parts(config)
    return {
        part: {
            key: tuple(value.shape)
            for key, value in parts[part].state_dict().items()
            if not key.endswith((*UNUSED_SUFFIXES, *AFFINE))
        }
        for part in PARTS
    }


def canonical(
    parts: Mapping[str, Mapping[str, Tensor]], config: ModelConfig, *, source: str
) -> tuple[dict[str, StateDict], tuple[str, ...]]:
    """Check every tensor against `config` and bring it into the one form.

    The form: upstream's keys, no `module.`, contiguous float32, weight norm as `weight_g` and
    `weight_v`, no ALBERT pooler or index buffers, AdaIN's affine only where it was trained.

    Args:
        parts: state dicts by part; keys with or without `module.`; weight norm as `weight_g/_v`,
            as `parametrizations.weight.original0/1`, or folded into `weight`.
        source: name of the file or repository, for messages.

    Returns:
        The five state dicts, and notes on what was left out or changed.

    Raises:
        CheckpointError: a part or key is missing or unexpected, a shape or type is wrong, or a
            value is not finite. The message counts the problems and lists the first of them.
    """
    shapes = expected_shapes(config)
    problems = [
        f"{name}: not a part of this network (parts: {', '.join(PARTS)})"
        for name in parts
        if name not in PARTS
    ]
    state: dict[str, dict[str, Tensor]] = {}
    affines: dict[str, dict[str, Tensor]] = {}
    notes: set[str] = set()
    for part in PARTS:
        if part not in parts:
            problems.append(f"{part}: missing, expected {len(shapes[part])} tensors")
            continue
        given = _rename(parts[part], part, problems)
        given = _without_unused(given, notes)
        affine = {k: given.pop(k) for k in list(given) if k.endswith(AFFINE)}
        state[part] = _checked(given, shapes[part], part, problems)
        if not problems:
            affines[part] = _trained_affine(affine, state[part], part, problems)
    _raise_if(problems, source)
    ordered: dict[str, StateDict] = {
        p: {key: state[p][key] for key in shapes[p]} | affines[p] for p in PARTS
    }
    return ordered, tuple(sorted(notes))


def _rename(given: Mapping[str, Tensor], part: str, problems: list[str]) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for key, value in given.items():
        name = key.removeprefix("module.")
        name = name.replace("parametrizations.weight.original0", "weight_g")
        name = name.replace("parametrizations.weight.original1", "weight_v")
        if name in renamed:
            problems.append(f"{part}.{name}: given twice, the second time as {key}")
        renamed[name] = value
    return renamed


def _without_unused(given: dict[str, Tensor], notes: set[str]) -> dict[str, Tensor]:
    kept: dict[str, Tensor] = {}
    for key, value in given.items():
        if not key.endswith(UNUSED_SUFFIXES):
            kept[key] = value
        elif "pooler" in key:
            notes.add("ALBERT pooler left out: the network does not use it")
    return kept


def _checked(
    given: dict[str, Tensor], wanted: Shapes, part: str, problems: list[str]
) -> dict[str, Tensor]:
    """Convert what fits `wanted`, and append to `problems` what does not."""
    result: dict[str, Tensor] = {}
    for key, shape in wanted.items():
        stem, _, leaf = key.rpartition(".")
        folded = f"{stem}.weight" if stem else "weight"
        if leaf in {"weight_g", "weight_v"} and folded in given:
            if leaf == "weight_v":
                value = _tensor(given.pop(folded), shape, f"{part}.{folded}", problems)
                if value is not None:
                    result[f"{stem}.weight_g"], result[key] = split_weight_norm(value)
        elif key in given:
            value = _tensor(given.pop(key), shape, f"{part}.{key}", problems)
            if value is not None:
                result[key] = value
        else:
            problems.append(f"{part}.{key}: missing, expected shape {list(shape)}")
    for key, left in given.items():
        close = difflib.get_close_matches(key, wanted, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        found = list(left.shape) if isinstance(left, Tensor) else type(left).__name__
        problems.append(f"{part}.{key}: unexpected, found shape {found}{hint}")
    _check_directions(result, part, problems)
    return result


def _tensor(value: object, shape: tuple[int, ...], name: str, problems: list[str]) -> Tensor | None:
    if not isinstance(value, Tensor):
        problems.append(f"{name}: expected a tensor, found {type(value).__name__}")
    elif tuple(value.shape) != shape:
        problems.append(f"{name}: expected shape {list(shape)}, found {list(value.shape)}")
    elif value.layout != torch.strided or value.is_meta or value.is_quantized:
        problems.append(f"{name}: expected a plain dense tensor, found {value.layout}")
    elif not value.is_floating_point():
        problems.append(f"{name}: expected floating point, found {value.dtype}")
    else:
        tensor = value.detach().to(device="cpu", dtype=torch.float32).contiguous()
        if all(bool(torch.isfinite(edge)) for edge in torch.aminmax(tensor)):
            return tensor
        bad = int((~torch.isfinite(tensor)).sum())
        problems.append(f"{name}: {bad} of {tensor.numel()} values are NaN or infinite")
    return None


def split_weight_norm(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Write a folded weight as `weight_g` and `weight_v` of `torch.nn.utils.weight_norm(dim=0)`.

    `v` is the weight itself, so that `g * v / ||v||` gives it back to float32 rounding. A row of
    zeros has no direction: it takes `g = 0` and a `v` of ones, where `v = 0` would compute NaN.
    """
    v = weight.clone()
    g = torch.norm_except_dim(v, 2, 0)
    v[g.flatten() == 0] = 1.0
    return g, v


def _check_directions(state: Mapping[str, Tensor], part: str, problems: list[str]) -> None:
    for key, v in state.items():
        if key.endswith("weight_v"):
            empty = torch.nonzero(torch.norm_except_dim(v, 2, 0).flatten() == 0).flatten().tolist()
            if empty:
                problems.append(f"{part}.{key}: row {empty[0]} is all zeros, which computes NaN")


def _trained_affine(
    given: dict[str, Tensor], state: Mapping[str, Tensor], part: str, problems: list[str]
) -> dict[str, Tensor]:
    """Check AdaIN's affine; keep it, both halves, where it is not the identity.

    Upstream's own network reads it, so it stays under upstream's keys; the rewrites fold it.
    """
    kept: dict[str, Tensor] = {}
    for norm in sorted({key.rsplit(".norm.", 1)[0] for key in given}):
        projection = state.get(f"{norm}.fc.weight")
        if projection is None:
            problems.append(f"{part}.{norm}.norm: unexpected, there is no AdaIN of this name")
            continue
        channels = (projection.shape[0] // 2,)
        identity = {"weight": torch.ones(channels), "bias": torch.zeros(channels)}
        checked = {
            f"{norm}.norm.{leaf}": _tensor(
                given.get(f"{norm}.norm.{leaf}", value),
                channels,
                f"{part}.{norm}.norm.{leaf}",
                problems,
            )
            for leaf, value in identity.items()
        }
        values = {key: value for key, value in checked.items() if value is not None}
        is_identity = all(torch.equal(v, identity[k.rsplit(".", 1)[1]]) for k, v in values.items())
        if not is_identity:
            kept.update(values)
    return kept


def _raise_if(problems: list[str], source: str) -> None:
    if not problems:
        return
    shown = "\n  ".join(problems[:SHOWN_PROBLEMS])
    left = len(problems) - SHOWN_PROBLEMS
    more = f"\n  and {left} more" if left > 0 else ""
    count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
    raise CheckpointError(
        f"{source}: the weights do not match the configuration ({count}):\n  {shown}{more}"
    )
