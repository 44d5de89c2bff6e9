"""The reference is upstream as installed: nothing but its noise comes from us."""

from __future__ import annotations

import inspect
from types import ModuleType
from typing import Any

import kokoro.istftnet
import kokoro.model
import kokoro.modules
import numpy as np
import pytest
import torch

from kokoro_coreml.checkpoint import Checkpoint
from kokoro_coreml.errors import ParityError
from kokoro_coreml.modules.source import HARMONICS
from kokoro_coreml.noise import source_noise
from kokoro_coreml.parity.metrics import snr_db
from kokoro_coreml.parity.reference import InjectedNoise, Reference, ReferenceSpeech
from tests.support.tiny import tiny_checkpoint

IDS = [0, 43, 83, 0]
UPSTREAM = (kokoro.istftnet, kokoro.model, kokoro.modules)


def say(reference: Reference, seed: int) -> ReferenceSpeech:
    style = np.random.default_rng(3).standard_normal((1, 256)).astype(np.float32)
    return reference.speak(IDS, style * np.float32(0.15), noise=seed)


@pytest.fixture(scope="module")
def speech(tiny_reference: Reference) -> ReferenceSpeech:
    return say(tiny_reference, 0)


def functions(module: ModuleType) -> dict[str, Any]:
    """Every function and method that the module's classes define, by qualified name."""
    classes = [c for _, c in inspect.getmembers(module, inspect.isclass)]
    own = [c for c in classes if c.__module__ == module.__name__]
    found = {f"{c.__qualname__}.{n}": f for c in own for n, f in vars(c).items() if callable(f)}
    return found | dict(inspect.getmembers(module, inspect.isfunction))


def test_the_same_noise_gives_the_same_bytes_whatever_torchs_own_generator_holds(
    tiny_reference: Reference, speech: ReferenceSpeech
) -> None:
    torch.manual_seed(99)
    before = torch.get_rng_state()
    again = say(tiny_reference, 0)
    assert torch.equal(torch.get_rng_state(), before)
    assert again.audio.tobytes() == speech.audio.tobytes()
    assert np.array_equal(again.durations, speech.durations)


def test_other_noise_gives_other_audio_and_the_same_durations(
    tiny_reference: Reference, speech: ReferenceSpeech
) -> None:
    other = say(tiny_reference, 1)
    assert other.audio.shape == speech.audio.shape
    assert not np.array_equal(other.audio, speech.audio)
    assert np.array_equal(other.durations, speech.durations)


def test_audio_is_finite_and_as_long_as_its_durations_say(
    tiny_reference: Reference, speech: ReferenceSpeech
) -> None:
    assert speech.audio.dtype == np.float32
    assert np.all(np.isfinite(speech.audio))
    assert np.any(speech.audio)
    assert speech.durations.shape == (len(IDS),)
    frames = int(speech.durations.sum())
    assert speech.audio.size == frames * tiny_reference.config.samples_per_frame


def test_noise_is_handed_out_from_its_first_sample() -> None:
    noise = source_noise(0, 50)
    with InjectedNoise(noise):
        drawn = torch.randn_like(torch.empty(1, 20, HARMONICS))
    assert torch.equal(drawn, noise[:, :20])


def test_phases_and_dropped_noise_are_zero() -> None:
    with InjectedNoise(source_noise(0, 50)):
        assert not torch.rand(1, 9).any()
        assert not torch.randn_like(torch.empty(1, 20, 1)).any()


def test_less_noise_than_asked_for_is_an_error() -> None:
    with (
        InjectedNoise(source_noise(0, 19)),
        pytest.raises(ParityError, match="asked for 20 samples of noise, 19 given"),
    ):
        torch.randn_like(torch.empty(1, 20, HARMONICS))


@pytest.mark.parametrize(
    "draw",
    [
        lambda: torch.randn(3),
        lambda: torch.normal(0.0, 1.0, (3,)),
        lambda: torch.bernoulli(torch.ones(3)),
        lambda: torch.rand_like(torch.ones(3)),
    ],
)
def test_an_unexpected_draw_is_an_error(draw: Any) -> None:
    with InjectedNoise(source_noise(0, 1)), pytest.raises(ParityError, match="unexpected call"):
        draw()


@pytest.mark.parametrize(
    "draw",
    [
        lambda: torch.empty(3).normal_(),
        lambda: torch.empty(3).uniform_(),
        lambda: torch.randint(0, 9, (3,)),
        lambda: torch.randperm(3),
        lambda: torch.nn.functional.dropout(torch.ones(99), training=True),
    ],
)
def test_a_draw_that_passes_by_is_an_error_on_leaving(draw: Any) -> None:
    with pytest.raises(ParityError, match="not known"), InjectedNoise(0):
        draw()


def test_a_seed_draws_what_its_tensor_holds() -> None:
    like = torch.empty(1, 20, HARMONICS)
    with InjectedNoise(7):
        drawn = torch.randn_like(like)
    assert torch.equal(drawn, source_noise(7, 20))


def test_a_draw_that_a_new_upstream_adds_is_an_error(
    tiny_reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = tiny_reference.model.decoder.generator
    forward = generator.forward
    monkeypatch.setattr(
        generator, "forward", lambda x, s, f0: forward(x + torch.rand_like(x), s, f0)
    )
    with pytest.raises(ParityError, match="rand_like"):
        say(tiny_reference, 0)


def test_upstreams_functions_are_the_same_after_our_package_ran(tiny: Checkpoint) -> None:
    before = {module.__name__: functions(module) for module in UPSTREAM}
    assert all(before.values())
    say(Reference(tiny), 0)
    for module in UPSTREAM:
        assert functions(module) == before[module.__name__]


def test_upstreams_functions_come_from_its_own_files() -> None:
    for module in UPSTREAM:
        for name, function in functions(module).items():
            code = getattr(inspect.unwrap(function), "__code__", None)
            if code is not None and not name.startswith("_") and name not in vars(module):
                assert code.co_filename == module.__file__, name


def test_double_precision_is_the_same_network_rounded_less(
    tiny: Checkpoint, tiny_reference: Reference, speech: ReferenceSpeech
) -> None:
    double = Reference(tiny, double=True)
    assert {p.dtype for p in double.model.parameters()} == {torch.float64}
    exact, again = say(double, 0), say(double, 0)
    assert torch.get_default_dtype() == torch.float32
    assert exact.audio.dtype == np.float32
    assert exact.audio.tobytes() == again.audio.tobytes()
    assert np.array_equal(exact.durations, speech.durations)
    near = snr_db(reference=exact.audio, candidate=speech.audio)
    assert 20 < near < 130, "the same speech, but for the rounding of float32"
    assert snr_db(reference=exact.audio, candidate=say(tiny_reference, 1).audio) < near - 10


def test_double_precision_ends_with_an_error_too(tiny: Checkpoint) -> None:
    with pytest.raises(ParityError, match="asked for"):
        Reference(tiny, double=True).speak(IDS, np.zeros((1, 256)), noise=torch.zeros(1, 5, 9))
    assert torch.get_default_dtype() == torch.float32


def test_a_weight_that_upstream_did_not_take_is_found(
    tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = kokoro.model.KModel.__init__

    def spoilt(self: Any, *args: Any, **kwargs: Any) -> None:
        build(self, *args, **kwargs)
        with torch.no_grad():
            self.predictor.F0_proj.bias += 1e-3

    monkeypatch.setattr(kokoro.model.KModel, "__init__", spoilt)
    with pytest.raises(ParityError, match=r"did not load predictor\.F0_proj\.bias"):
        Reference(tiny)


def test_another_checkpoints_weights_are_found(tiny_reference: Reference) -> None:
    with pytest.raises(ParityError, match="did not load"):
        tiny_reference._check(tiny_checkpoint(1))
