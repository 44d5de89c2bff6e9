"""AdaIN of channels that hardly vary, where half-precision subnormals are flushed to 0."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from kokoro_coreml.checkpoint import Checkpoint
from kokoro_coreml.executor import Program
from kokoro_coreml.lowering import lower, trace
from kokoro_coreml.modules.folded import norm
from kokoro_coreml.modules.folded.decoder import RESIDUAL_GAIN, TEXT_GAIN
from kokoro_coreml.modules.folded.generator import SOURCE_GAIN
from kokoro_coreml.modules.folded.norm import AdaIN, Rows, Styles
from kokoro_coreml.modules.norm import EPSILON
from kokoro_coreml.modules.pipeline import PipelineNetwork
from kokoro_coreml.parity.metrics import snr_db
from kokoro_coreml.recipe import load_recipe
from kokoro_coreml.stages import Port, Stage
from kokoro_coreml.vocabulary import Vocabulary
from kokoro_coreml.voices import load_voice
from tests.modules.test_pipeline import Said, run

CHANNELS, WIDTH = 6, 128
SCALE, SHIFT = 1.25, 0.5


class Place(nn.Module):
    """One AdaIN with a style of its own."""

    def __init__(self, gain: float | Sequence[float], valid: int = WIDTH) -> None:
        super().__init__()
        self.norm = AdaIN(CHANNELS, gain)
        self.register_buffer("mask", (torch.arange(WIDTH) < valid).float().view(1, 1, 1, WIDTH))
        self.register_buffer("share", torch.full((1, 1, 1, 1), WIDTH / valid))

    def forward(self, x: Tensor) -> Tensor:
        ones = torch.ones(1, CHANNELS, 1, 1)
        y: Tensor = self.norm(
            x, Styles(SCALE * ones, SHIFT * ones), Rows(self.mask, self.mask, self.share)
        )
        return y


Convert = Callable[..., Path]


@pytest.fixture(scope="module")
def convert(tmp_path_factory: pytest.TempPathFactory) -> Convert:
    """Saves a `Place` in half precision."""

    def saved(gain: float | Sequence[float], valid: int = WIDTH) -> Path:
        shape = (1, CHANNELS, 1, WIDTH)
        ports = (Port("x", "float16", shape, "in"),), (Port("y", "float16", shape, "out"),)
        stage = Stage("Decoder", Place(gain, valid).eval(), None, WIDTH, *ports)
        path = tmp_path_factory.mktemp("place") / "Place.mlpackage"
        lower(trace(stage), stage, load_recipe("kokoro-82m").build("Decoder"), path)
        return path

    return saved


def _input(deviation: float) -> np.ndarray:
    random = np.random.default_rng(0).standard_normal((1, CHANNELS, 1, WIDTH))
    return (deviation * random).astype(np.float16)


def _expected(x: np.ndarray) -> np.ndarray:
    exact = x.astype(np.float64)
    centred = exact - exact.mean(axis=3, keepdims=True)
    variance = (centred**2).mean(axis=3, keepdims=True)
    return SCALE * centred / np.sqrt(variance + EPSILON) + SHIFT


def _stressed(path: Path, x: np.ndarray) -> tuple[np.ndarray, set[str]]:
    program = Program.load(path, precision="stress")
    y = program({"x": x})["y"].astype(np.float64)
    return y, {finding.kind for finding in program.findings}


def _snr(path: Path, x: np.ndarray) -> float:
    y, kinds = _stressed(path, x)
    assert kinds <= {"subnormal"}
    return snr_db(reference=_expected(x) - SHIFT, candidate=y - SHIFT)


def test_a_channel_that_does_not_vary_gives_its_shift(convert: Convert) -> None:
    constant = np.broadcast_to(
        np.float16([0.0, 1.0, -3.0, 0.75, 1e-3, 60.0])[None, :, None, None],
        (1, CHANNELS, 1, WIDTH),
    )
    y, kinds = _stressed(convert(1.0), constant)
    np.testing.assert_array_equal(y, SHIFT)
    assert kinds <= {"subnormal"}


def test_epsilon_as_upstream_writes_it_divides_by_0(
    convert: Convert, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(norm, "LEAST_SCALE", 1.0)
    _, kinds = _stressed(convert(1.0), np.ones((1, CHANNELS, 1, WIDTH), np.float16))
    assert kinds - {"subnormal"}


@pytest.mark.parametrize("seed", range(4))
def test_no_variance_is_below_0_where_its_squares_are_flushed(convert: Convert, seed: int) -> None:
    random = np.random.default_rng(seed)
    offset = random.choice([0.003, 0.02, 3.0, -40.0], size=(1, CHANNELS, 1, 1))
    x = offset * (1 + 1e-3 * random.standard_normal((1, CHANNELS, 1, WIDTH)))
    y, kinds = _stressed(convert(1.0, 3), x.astype(np.float16))
    assert np.isfinite(y).all()
    assert kinds <= {"subnormal"}


@pytest.mark.parametrize(
    ("gain", "deviation"),
    [(SOURCE_GAIN, 0.002), (TEXT_GAIN, 0.002), (RESIDUAL_GAIN, 0.01), (1.0, 0.08), (1.0, 20.0)],
)
def test_each_gain_serves_the_channels_of_its_place(
    convert: Convert, gain: float, deviation: float
) -> None:
    assert _snr(convert(gain), _input(deviation)) > 35


def test_without_its_gain_a_small_channel_loses_its_deviation(convert: Convert) -> None:
    assert _snr(convert(1.0), _input(0.002)) < 16


def test_every_channel_may_have_a_gain_of_its_own(convert: Convert) -> None:
    gain = [32.0] * 3 + [1.0] * 3
    x = np.concatenate([_input(0.002)[:, :3], _input(40.0)[:, 3:]], axis=1)
    y, kinds = _stressed(convert(gain), x)
    assert kinds <= {"subnormal"}
    expected = _expected(x)
    for some in (slice(None, 3), slice(3, None)):
        assert snr_db(reference=expected[:, some] - SHIFT, candidate=y[:, some] - SHIFT) > 35
    _, kinds = _stressed(convert(32.0), x)
    assert "overflow" in kinds


@settings(max_examples=50)
@given(
    gains=st.lists(st.integers(-3, 7), min_size=CHANNELS, max_size=CHANNELS),
    deviation=st.floats(1e-3, 1e2),
)
def test_a_gain_changes_nothing_in_single_precision(gains: list[int], deviation: float) -> None:
    x = torch.from_numpy(_input(deviation).astype(np.float32))
    gain = [2.0**g for g in gains]
    with torch.inference_mode():
        torch.testing.assert_close(Place(gain)(x), Place(1.0)(x), rtol=1e-6, atol=1e-6)


@dataclass
class Span:
    """What the squares of one AdaIN reach, and what flushing them does to its deviations."""

    largest: float = 0.0
    error: float = 0.0


def _spans(network: PipelineNetwork, monkeypatch: pytest.MonkeyPatch, said: Said) -> list[Span]:
    """Of every AdaIN of the stages in half precision, over one utterance in PyTorch."""
    parts = (network.decoder, network.generator)
    found = {m: Span() for part in parts for m in part.modules() if isinstance(m, AdaIN)}
    forward = AdaIN.forward

    def seen(self: AdaIN, x: Tensor, styles: Styles, at: Rows) -> Tensor:
        if self in found:
            owned = (x - at.mean(x * at.own)) * at.own * (1.0 if self.gain is None else self.gain)
            rows = _flushed(_flushed(owned * owned).mean(dim=3, keepdim=True))
            there = (rows * at.share).sum(dim=2, keepdim=True)
            floor = EPSILON * (1.0 if self.gain is None else self.gain**2)
            ratio = torch.sqrt((at.mean(owned * owned) + floor) / (there + floor))
            span = found[self]
            span.largest = max(span.largest, float((owned * owned).max()))
            span.error = max(span.error, float((ratio - 1.0).abs().max()))
        return forward(self, x, styles, at)

    monkeypatch.setattr(AdaIN, "forward", seen)
    with torch.inference_mode():
        run(network, said, 128, 256)
    return list(found.values())


def _flushed(x: Tensor) -> Tensor:
    return torch.where(x < torch.finfo(torch.float16).smallest_normal, 0.0, x)


@pytest.mark.slow
@pytest.mark.parametrize("phonemes", ["ɐ", load_recipe("kokoro-82m").sample.phonemes])
def test_real_channels_neither_overflow_nor_lose_their_deviations(
    packaged: Checkpoint, monkeypatch: pytest.MonkeyPatch, phonemes: str
) -> None:
    ids = Vocabulary.from_config(packaged.config).encode(phonemes)
    said = Said(tuple(ids), np.array(load_voice("af_heart").row(len(phonemes))))
    spans = _spans(PipelineNetwork(packaged), monkeypatch, said)
    assert len(spans) == 58
    assert max(span.largest for span in spans) < 32_752
    assert max(span.error for span in spans) < 0.01
