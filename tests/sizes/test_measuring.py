"""What is measured on the tiny network's own modules, and on modules with something changed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from kokoro_coreml.parity.flows import Around
from kokoro_coreml.sizes.measuring import (
    NO_RECOGNISER,
    NO_SOURCE,
    NOT_ASKED,
    Measurer,
    recogniser_name,
)
from kokoro_coreml.sizes.tolerances import METRICS


@dataclass
class Changed(Around):
    """Stages with what one of them gives changed; the calls of each are counted."""

    stage_name: str
    change: object
    calls: dict = field(default_factory=dict)

    def call(self, name, size, backend, inputs):
        self.calls[name] = self.calls.get(name, 0) + 1
        outputs = backend(inputs)
        return self.change(outputs) if name == self.stage_name else outputs


@dataclass
class Ears:
    """Hears as many words as there are tenths of a second."""

    heard: list = field(default_factory=list)

    def words(self, audio):
        self.heard.append(audio.size)
        return ["word"] * (audio.size // 32)


def longer(outputs):
    """One frame more for the second token."""
    durations = outputs["pred_dur"].copy()
    durations.reshape(-1)[1] += 1
    return outputs | {"pred_dur": durations}


def listening(measurer):
    """Every case asks for recognition."""
    trials = [replace(t, case=replace(t.case, recognise=True)) for t in measurer.trials]
    return replace(measurer, trials=trials, recogniser=Ears())


def test_the_modules_themselves_are_near_upstream(measurer, eager):
    for one in measurer.measure(eager):
        assert set(one.metrics) == set(METRICS)
        assert one.metrics["duration_errors"] == 0
        assert one.metrics["length_difference_samples"] == 0
        assert one.metrics["audio_snr_db"] > 20
        assert one.metrics["same_source_snr_db"] > 80
        assert one.metrics["word_errors"] is None
        assert one.notes == (NO_RECOGNISER,)


def test_tokens_are_run_once_and_the_words_are_those_of_the_packages_own_durations(measurer, eager):
    stages = Changed(eager, "Duration", longer)
    found = listening(measurer).measure(stages)
    plain = measurer.measure(eager)
    for one, sound in zip(found, plain, strict=True):
        assert one.metrics["duration_errors"] == 1
        assert one.metrics["length_difference_samples"] == 32
        assert one.metrics["audio_snr_db"] == sound.metrics["audio_snr_db"]
        assert one.metrics["word_errors"] == 1
        assert "upstream's forced" in one.notes[0]
    cases = len(found)
    assert stages.calls["Encoder"] == stages.calls["Duration"] == cases
    assert stages.calls["Tail"] == 2 * cases


def test_a_speech_is_run_twice_only_where_its_words_are_asked_for(measurer, eager):
    stages = Changed(eager, "Duration", longer)
    found = replace(measurer, recogniser=Ears()).measure(stages)
    assert stages.calls["Tail"] == len(found)
    assert all(NOT_ASKED in one.notes for one in found)


def test_noise_in_the_decoder_shows_at_the_same_source(measurer, eager):
    rng = np.random.default_rng(0)

    def noisy(outputs):
        features = outputs["features"]
        noise = rng.standard_normal(features.shape).astype(features.dtype) * features.std()
        return outputs | {"features": features + noise}

    for one in measurer.measure(Changed(eager, "Decoder", noisy)):
        assert one.metrics["same_source_snr_db"] < 40
        assert one.metrics["duration_errors"] == 0


def test_what_cannot_be_said_is_null_with_its_reason(measurer, eager):
    def broken(outputs):
        return outputs | {"encoded": np.full_like(outputs["encoded"], np.nan)}

    for one in measurer.measure(Changed(eager, "Encoder", broken)):
        assert set(one.metrics.values()) == {None}
        assert "not said: the stage Encoder gave NaN" in one.notes[0]


def test_speech_too_long_to_be_heard_is_still_measured(measurer, eager):
    def endless(outputs):
        durations = outputs["pred_dur"].copy()
        durations.reshape(-1)[1] += 1000
        return outputs | {"pred_dur": durations}

    for one in listening(measurer).measure(Changed(eager, "Duration", endless)):
        assert one.metrics["audio_snr_db"] > 20
        assert one.metrics["length_difference_samples"] == 32_000
        assert one.metrics["word_errors"] is None
        assert any(note.startswith("not heard: ") for note in one.notes)


def test_upstreams_words_are_recognised_once(measurer, eager):
    ears = listening(measurer)
    said = ears.said()
    ears.measure(eager)
    ears.measure(eager)
    assert len(ears.recogniser.heard) == 3 * len(said)
    assert [one.heard.split() for one in said] == [["word"] * one.frames for one in said]


def test_silence_in_upstream_proves_nothing(measurer, eager):
    deaf = replace(listening(measurer), recogniser=Silence())
    for one in deaf.measure(eager):
        assert one.metrics["word_errors"] is None
        assert "no word is recognised in upstream's audio" in one.notes


class Silence:
    def words(self, _audio):
        return []


def test_upstreams_second_run_is_told_from_its_first(measurer):
    for one in measurer.variation():
        assert one.metrics["duration_errors"] == 0
        assert one.metrics["audio_snr_db"] < 20
        assert one.metrics["same_source_snr_db"] is None
        assert NO_SOURCE in one.notes


@pytest.mark.parametrize(("available", "name"), [(True, "Whisper tiny.en"), (False, None)])
def test_the_recogniser_is_named(monkeypatch, available, name):
    monkeypatch.setattr("kokoro_coreml.sizes.measuring.Recogniser.available", lambda: available)
    found = recogniser_name()
    assert found == name or (name is not None and found.startswith(name))


def test_a_measurer_without_trials_measures_nothing(measurer, eager):
    assert replace(measurer, trials=[]).measure(eager) == ()
    assert isinstance(measurer, Measurer)
