"""Choosing a bucket and saying when each phoneme is heard, with a network that is a stand-in."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from kokoro_coreml.audio import read_wav
from kokoro_coreml.bundle import seal
from kokoro_coreml.cli import main
from kokoro_coreml.errors import BundleError, PackageError, ParityError, PhonemeError, VoiceError
from kokoro_coreml.executor import Program
from kokoro_coreml.manifest import BucketRecord, VoiceRecord, read_manifest
from kokoro_coreml.resources import data_file
from kokoro_coreml.synthesis import Observer, Synthesizer, timestamps, write_speech
from kokoro_coreml.voices import load_voice
from tests.support.bundles import CONTENT, example_manifest

BUCKETS = [(64, 800), (64, 100), (128, 400), (16, 400)]
"""As they stand in the manifest; sorted they are 64x100, 16x400, 128x400, 64x800."""


class Network:
    """Stands in for a package: every token lasts `frames`, the audio is a ramp."""

    def __init__(self):
        self.frames, self.value, self.calls, self.styles = 10, 0.5, [], []

    def load(self, package, function, *, precision):
        assert precision == "declared"
        tokens, frames = map(int, package.stem.split("_")[-1].split("x"))

        def run(inputs):
            self.calls.append(f"{tokens}x{frames}")
            self.styles.append((inputs["ref_s"], inputs["speed"]))
            assert inputs["input_ids"].shape == (1, tokens)
            durations = inputs["attention_mask"] * self.frames
            audio = np.full((1, 1, frames * 600), self.value, dtype=np.float32)
            samples = np.array([durations.sum() * 600], dtype=np.int32)
            return {"audio": audio, "audio_length_samples": samples, "pred_dur": durations}

        return run


@pytest.fixture
def network(monkeypatch):
    network = Network()
    monkeypatch.setattr(Program, "load", network.load)
    return network


@pytest.fixture
def bundle(tmp_path):
    folder = tmp_path / "bundle"
    heart = np.asarray(load_voice("af_heart").data)
    names = [f"KokoroComplete_{t}x{f}.mlpackage" for t, f in BUCKETS]
    content = {path: data for path, data in CONTENT.items() if "mlpackage" not in path}
    content |= {f"{name}/Manifest.json": b"{}" for name in names}
    content["config.json"] = data_file("kokoro-82m.config.json").read_bytes()
    content["voices/af_heart.bin"] = heart.tobytes()
    content["voices/other.bin"] = (heart * 2).tobytes()
    for name, data in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    manifest = example_manifest()
    (package,), (voice,) = manifest.packages, manifest.voices
    buckets = tuple(BucketRecord(*b) for b in BUCKETS)
    packages = tuple(
        dataclasses.replace(
            package,
            file=name,
            functions=(dataclasses.replace(package.functions[0], bucket=bucket),),
        )
        for name, bucket in zip(names, buckets, strict=True)
    )
    other = VoiceRecord("other", "voices/other.bin", 510, 256, "float32", "unknown")
    seal(
        folder,
        dataclasses.replace(manifest, packages=packages, buckets=buckets, voices=(other, voice)),
    )
    return folder


@pytest.mark.parametrize(
    ("phonemes", "frames", "calls"),
    [
        (8, 10, ["64x100"]),
        (9, 10, ["64x100", "16x400"]),
        (20, 18, ["64x100", "128x400"]),
        (20, 19, ["64x100", "64x800"]),
        (100, 3, ["128x400"]),
    ],
)
def test_the_smallest_bucket_that_holds_tokens_and_frames_is_used(
    bundle, network, phonemes, frames, calls
):
    network.frames = frames
    speech = Synthesizer(bundle).say("a" * phonemes)
    assert network.calls == calls
    assert str(speech.bucket) == calls[-1]
    assert speech.seconds == pytest.approx((phonemes + 2) * frames * 0.025)


@pytest.mark.parametrize(
    ("phonemes", "frames", "message"),
    [
        (60, 13, "needs 483600 samples.*one word and cannot be split; say it faster"),
        (127, 1, "a word of more than 126 phonemes"),
        (511, 1, "a word of more than 126 phonemes"),
        (0, 1, "empty"),
    ],
)
def test_what_no_bucket_holds_is_refused(bundle, network, phonemes, frames, message):
    network.frames = frames
    with pytest.raises(PhonemeError, match=message):
        Synthesizer(bundle).say("a" * phonemes)


def test_timestamps_cover_the_audio_with_silence_at_both_ends():
    marks = timestamps("ab", [2, 0, 3, 1], 0.025)
    assert [m.phoneme for m in marks] == [None, "a", "b", None]
    assert [(m.start, m.end) for m in marks] == [
        (0.0, 0.05),
        (0.05, 0.05),
        (0.05, 0.125),
        (0.125, pytest.approx(0.15)),
    ]
    with pytest.raises(ValueError, match="zip"):
        timestamps("abc", [2, 0, 3, 1], 0.025)


def test_voice_and_speed_reach_the_network_and_the_samples_voice_is_the_default(bundle, network):
    synthesizer = Synthesizer(bundle)
    assert synthesizer.voices == ("af_heart", "other")
    row = load_voice("af_heart").row(3)
    assert synthesizer.say("abs").voice == "af_heart"
    assert synthesizer.say("abs", voice="other", speed=1.5).speed == 1.5
    assert np.array_equal(network.styles[0][0], row)
    assert np.array_equal(network.styles[1][0], row * 2)
    assert [float(speed[0]) for _, speed in network.styles] == [1.0, 1.5]
    assert synthesizer.say("abs", voice="").voice == "af_heart"


def test_an_unknown_voice_backend_or_speed_is_refused(bundle, network):
    with pytest.raises(VoiceError, match=r"no voice 'am'; it has: af_heart, other"):
        Synthesizer(bundle).say("a", voice="am")
    with pytest.raises(PackageError, match=r"'npu'.*available: executor, coreml"):
        Synthesizer(bundle, backend="npu")
    for speed in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="speed"):
            Synthesizer(bundle).say("a", speed=speed)
    assert network.calls == []


@pytest.mark.parametrize("shape", [(255, 512), (1020, 128), (510, 128), (300, 256)])
def test_a_voice_of_another_shape_than_the_configurations_is_refused(bundle, network, shape):
    rows, columns = shape
    (bundle / "voices/other.bin").write_bytes(np.zeros(shape, dtype="<f4").tobytes())
    manifest = read_manifest(bundle)
    other, voice = manifest.voices
    changed = dataclasses.replace(other, rows=rows, columns=columns)
    seal(bundle, dataclasses.replace(manifest, voices=(changed, voice)))
    with pytest.raises(VoiceError, match=r"voice other: expected shape \[510, 1, 256\]"):
        Synthesizer(bundle).say("a", voice="other")


def test_a_changed_bundle_is_not_spoken_with(bundle, network):
    (bundle / "voices/other.bin").write_bytes(b"x")
    with pytest.raises(BundleError, match=r"changed: voices/other\.bin"):
        Synthesizer(bundle)


@pytest.mark.parametrize(("value", "frames"), [(np.nan, 1), (0.5, 0), (0.5, -1)])
def test_nan_and_impossible_lengths_are_no_speech(bundle, network, value, frames):
    network.value, network.frames = value, frames
    with pytest.raises(ParityError):
        Synthesizer(bundle).say("a")


def test_speech_that_cannot_be_written_leaves_the_earlier_file(
    bundle, network, tmp_path, monkeypatch
):
    speech = Synthesizer(bundle).say("a")
    out = tmp_path / "a.wav"
    out.write_bytes(b"earlier")
    with pytest.raises(BundleError, match="use --force"):
        write_speech(out, speech)

    def full(path, *_arguments, **_options):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("kokoro_coreml.synthesis.files.write_wav", full)
        with pytest.raises(BundleError, match="No space left"):
            write_speech(out, speech, force=True)
    assert out.read_bytes() == b"earlier"
    assert {p.name for p in tmp_path.iterdir()} == {"a.wav", "bundle"}
    write_speech(out, speech, force=True)
    assert len(read_wav(out)) == 3 * 10 * 600


# the command


def test_say_writes_a_wav_and_prints_timestamps(bundle, network, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["say", str(bundle), "--phonemes", "ab", "--json", "--speed", "1.25"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["file"] == "speech.wav"
    assert record["seconds"] == 1.0
    assert (record["voice"], record["speed"]) == ("af_heart", 1.25)
    assert record["bucket"] == {"tokens": 64, "frames": 100}
    assert record["timestamps"] == [
        {"phoneme": None, "start": 0.0, "end": 0.25},
        {"phoneme": "a", "start": 0.25, "end": 0.5},
        {"phoneme": "b", "start": 0.5, "end": 0.75},
        {"phoneme": None, "start": 0.75, "end": 1.0},
    ]
    assert read_wav(tmp_path / "speech.wav") == pytest.approx(np.full(24_000, 0.5), abs=1e-4)


def test_say_prints_the_length_and_keeps_an_earlier_file(bundle, network, tmp_path, capsys):
    out = tmp_path / "ab.wav"
    arguments = ["say", str(bundle), "--phonemes", "ab", "--voice", "other", "--out", str(out)]
    assert main(arguments) == 0
    shown = capsys.readouterr()
    assert f"{out}: 1.000 s, voice other, bucket 64x100" in shown.err
    assert shown.out == ""
    before = out.read_bytes()
    network.value, network.calls = 0.25, []
    assert main(arguments) == 11
    assert "use --force" in capsys.readouterr().err
    assert (out.read_bytes(), network.calls) == (before, [])
    assert main([*arguments, "--force"]) == 0
    assert out.read_bytes() != before


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--phonemes", "a7"], 7),
        (["--phonemes", "a" * 511], 7),
        (["--phonemes", ""], 7),
        (["--phonemes", "a", "--voice", "nobody"], 6),
        (["--phonemes", "a", "--speed", "nan"], 2),
        (["--phonemes", "a", "--speed", "3"], 2),
        (["--phonemes", "a", "--out", "no/such/folder/a.wav"], 11),
        (["--phonemes", "a", "--out", "."], 11),
        ([], 2),
    ],
)
def test_say_has_the_documented_exit_codes(bundle, network, tmp_path, monkeypatch, options, code):
    monkeypatch.chdir(tmp_path)
    assert main(["say", str(bundle), *options]) == code
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]


def test_say_needs_a_bundle(tmp_path):
    assert main(["say", str(tmp_path), "--phonemes", "a", "--out", str(tmp_path / "a.wav")]) == 11


class Listener(Observer):
    def __init__(self):
        self.heard = []

    def ran(self, package, function, inputs, outputs):
        assert inputs["input_ids"].shape[1] == outputs["pred_dur"].shape[1]
        self.heard.append(f"{package}:{function}")

    def said(self, part):
        self.heard.append(part.phonemes)


def test_an_observer_is_told_of_every_run_and_then_of_the_part(bundle, network):
    network.frames, listener = 19, Listener()
    Synthesizer(bundle, observer=listener).say("a" * 20)
    assert listener.heard == [
        "KokoroComplete_64x100.mlpackage:main",
        "KokoroComplete_64x800.mlpackage:main",
        "a" * 20,
    ]


def test_an_observer_hears_of_a_part_behind_what_ran_for_it(bundle, network):
    network.frames, listener = 13, Listener()
    Synthesizer(bundle, observer=listener).say("a" * 30 + " " + "b" * 29)
    long, short = "KokoroComplete_64x800.mlpackage:main", "KokoroComplete_64x100.mlpackage:main"
    assert listener.heard == [short, short, long, "a" * 30, short, long, "b" * 29]
