from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kokoro_coreml.audio import read_wav, write_wav
from kokoro_coreml.errors import BundleError, ParityError
from kokoro_coreml.progress import Reporter


class Recorder(Reporter):
    def __init__(self):
        self.warnings = []

    def warn(self, message):
        self.warnings.append(message)


def tone(n=2400, peak=0.5):
    return (peak * np.sin(np.arange(n) * 0.1)).astype(np.float32)


def test_what_is_written_is_read_back_within_half_a_step(tmp_path):
    write_wav(tmp_path / "a.wav", tone())
    back = read_wav(tmp_path / "a.wav")
    assert back.dtype == np.float32
    assert np.max(np.abs(back - tone())) <= 0.5 / 32767 + 1e-7
    info = soundfile.info(tmp_path / "a.wav")
    assert (info.samplerate, info.channels, info.subtype) == (24_000, 1, "PCM_16")


def test_full_scale_is_exact_in_both_directions(tmp_path):
    write_wav(tmp_path / "a.wav", np.array([1.0, -1.0, 0.0], np.float32))
    assert read_wav(tmp_path / "a.wav").tolist() == [1.0, -1.0, 0.0]


def test_equal_audio_gives_equal_bytes(tmp_path):
    for name in "ab":
        write_wav(tmp_path / f"{name}.wav", tone())
    content = (tmp_path / "a.wav").read_bytes()
    assert content == (tmp_path / "b.wav").read_bytes()
    assert len(content) == 44 + 2 * 2400


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused_and_nothing_is_written(tmp_path, value):
    audio = tone()
    audio[[17, 20]] = value
    with pytest.raises(ParityError, match=r"2 samples.*first at 17"):
        write_wav(tmp_path / "a.wav", audio)
    assert not (tmp_path / "a.wav").exists()


@pytest.mark.parametrize("shape", [(0,), (1, 10)])
def test_only_one_dimension_with_samples_is_taken(tmp_path, shape):
    with pytest.raises(ParityError, match="shape"):
        write_wav(tmp_path / "a.wav", np.zeros(shape, np.float32))


def test_clipping_is_reported_and_does_not_wrap(tmp_path):
    recorder = Recorder()
    write_wav(tmp_path / "a.wav", np.array([0.5, 1.5, -2.0], np.float32), reporter=recorder)
    assert recorder.warnings == ["a.wav: 2 samples above full scale were clipped (peak 2.000)"]
    assert read_wav(tmp_path / "a.wav")[1:].tolist() == [1.0, -1.0]


def test_audio_within_full_scale_gives_no_warning(tmp_path):
    recorder = Recorder()
    write_wav(tmp_path / "a.wav", tone(peak=1.0), reporter=recorder)
    assert recorder.warnings == []


def test_a_full_disk_is_an_oserror(tmp_path, monkeypatch):
    def full(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        write_wav(tmp_path / "a.wav", tone())


@pytest.mark.parametrize(
    "options",
    [{"samplerate": 22_050}, {"subtype": "FLOAT"}, {"channels": 2}],
    ids=lambda o: next(iter(o)),
)
def test_other_formats_are_refused(tmp_path, options):
    data = np.zeros((10, options.pop("channels", 1)), np.float32)
    soundfile.write(
        tmp_path / "a.wav", data, **{"samplerate": 24_000, "subtype": "PCM_16"} | options
    )
    with pytest.raises(BundleError, match="mono PCM_16"):
        read_wav(tmp_path / "a.wav")


def test_a_missing_or_foreign_file_is_named(tmp_path):
    with pytest.raises(BundleError, match=r"none\.wav"):
        read_wav(tmp_path / "none.wav")
    (tmp_path / "text.wav").write_text("not audio")
    with pytest.raises(BundleError, match=r"text\.wav"):
        read_wav(tmp_path / "text.wav")
