"""Phonemes and a voice in, speech out, by a converted network."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kokoro_coreml.audio import write_wav
from kokoro_coreml.bundle import verify_files
from kokoro_coreml.config import ModelConfig
from kokoro_coreml.coreml import CoreMLWorker, require_mac
from kokoro_coreml.errors import BundleError, PackageError, ParityError, PhonemeError, VoiceError
from kokoro_coreml.executor import Program
from kokoro_coreml.manifest import Manifest, VoiceRecord
from kokoro_coreml.modules.source import HARMONICS
from kokoro_coreml.progress import SILENT, Reporter
from kokoro_coreml.recipe import Bucket
from kokoro_coreml.vocabulary import Vocabulary, pad
from kokoro_coreml.voices import VoicePack

FloatArray = NDArray[np.float32]

BACKENDS = ("executor", "coreml")
"""What can run a bundle's packages; `coreml` needs a Mac."""


class Backend(Protocol):
    """Anything that runs the `complete` interface: an `executor.Program`, for one."""

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Named arrays in, named arrays out."""
        ...


@dataclass(frozen=True)
class Utterance:
    """One thing to say."""

    ids: tuple[int, ...]
    """Token ids from `Vocabulary.encode`, the boundary zeros included."""
    ref_s: FloatArray
    """One voice row, [1, 2 * style_dim]."""
    speed: float = 1.0
    phases: tuple[float, ...] = (0.0,) * HARMONICS
    """Start of each harmonic in cycles; zeros are upstream."""

    def inputs(self, tokens: int) -> dict[str, np.ndarray]:
        """Inputs of the `complete` cut for a bucket of `tokens`.

        Raises:
            PhonemeError: there are more ids than tokens.
        """
        input_ids, attention_mask = pad(self.ids, tokens)
        return {
            "input_ids": input_ids,
            "ref_s": np.asarray(self.ref_s, dtype=np.float32),
            "random_phases": np.array([self.phases], dtype=np.float32),
            "attention_mask": attention_mask,
            "speed": np.array([self.speed], dtype=np.float32),
        }


@dataclass(frozen=True)
class Spoken:
    """What a converted network said."""

    audio: FloatArray
    """[samples], its padding cut off."""
    durations: NDArray[np.int32]
    """Frames per token, boundary tokens included."""
    padding: FloatArray
    """What stood behind the audio; must be silence."""


class FrameOverflowError(PhonemeError):
    """The speech is longer than the bucket's frames."""

    def __init__(self, needed: int, held: int) -> None:
        """Both in samples."""
        super().__init__(
            f"the speech needs {needed} samples, but the bucket holds {held}; "
            "use a bucket with more frames or split the text"
        )
        self.needed = needed


def speak(backend: Backend, utterance: Utterance, tokens: int) -> Spoken:
    """Say something with the `complete` cut.

    Args:
        backend: runs the network.
        utterance: what to say.
        tokens: the bucket's tokens.

    Raises:
        PhonemeError: it does not fit the bucket; `FrameOverflowError` where it is the frames.
        ParityError: the audio holds NaN or infinity, or its length cannot be.
    """
    outputs = backend(utterance.inputs(tokens))
    audio = outputs["audio"].reshape(-1)
    length = int(outputs["audio_length_samples"][0])
    if length > audio.size:
        raise FrameOverflowError(length, audio.size)
    if length <= 0:
        raise ParityError(f"the network gave {length} samples of speech")
    if not np.all(np.isfinite(audio)):
        raise ParityError("the network gave NaN or infinite samples")
    durations = outputs["pred_dur"].reshape(-1)
    used = len(utterance.ids)
    if np.any(durations[used:] != 0):
        raise ParityError("the network gave durations to padding")
    return Spoken(audio[:length], durations[:used], audio[length:])


@dataclass(frozen=True)
class Timestamp:
    """When one token is heard."""

    phoneme: str | None
    """None for the silence of a boundary token, in front of and behind the phonemes."""
    start: float
    """Seconds from the beginning of the audio."""
    end: float


@dataclass(frozen=True)
class Speech:
    """What a bundle said."""

    audio: FloatArray = field(repr=False)
    """[samples], 1.0 being full scale."""
    sample_rate: int
    """Hz."""
    timestamps: tuple[Timestamp, ...]
    """One per token, without gaps."""
    voice: str
    speed: float
    bucket: Bucket
    """The shape it was said at."""

    @property
    def seconds(self) -> float:
        """Length of the audio."""
        return len(self.audio) / self.sample_rate

    def to_dict(self) -> dict[str, Any]:
        """Everything but the audio, in plain JSON types; times in seconds."""
        return {
            "seconds": round(self.seconds, 6),
            "sample_rate": self.sample_rate,
            "voice": self.voice,
            "speed": self.speed,
            "bucket": {"tokens": self.bucket.tokens, "frames": self.bucket.frames},
            "timestamps": [
                {"phoneme": t.phoneme, "start": round(t.start, 6), "end": round(t.end, 6)}
                for t in self.timestamps
            ],
        }


@dataclass(frozen=True)
class Shape:
    """One function of the bundle's packages, and the bucket it is made for."""

    bucket: Bucket
    package: Path
    function: str
    compute_units: str
    """What the recipe says to ask Core ML for."""

    def __str__(self) -> str:
        """The file name of the package and its function."""
        return f"{self.package.name}:{self.function}"


class Synthesizer:
    """A bundle, ready to speak."""

    def __init__(
        self,
        bundle: Path,
        *,
        backend: str = "executor",
        compute_units: str | None = None,
        reporter: Reporter = SILENT,
    ) -> None:
        """Read a bundle and verify every file of it.

        Args:
            bundle: its folder.
            backend: one of `BACKENDS`.
            compute_units: for `coreml`, one of `coreml.COMPUTE_UNITS`; None is the package's own.
            reporter: told of every step.

        Raises:
            BundleError: it is not a bundle, is not what was written, or has no `complete` package.
            PackageError: the backend does not exist here, or the compute units are not for it.
            CheckpointError: its configuration cannot be read.
        """
        if backend not in BACKENDS:
            raise PackageError(
                f"backend {backend!r} cannot run a bundle here; available: {', '.join(BACKENDS)}"
            )
        if backend == "coreml":
            require_mac("--backend")
        elif compute_units is not None:
            raise PackageError(f"compute units are for the backend 'coreml', not for {backend!r}")
        self._backend, self._compute_units = backend, compute_units
        self._open = ExitStack()
        self.bundle, self.reporter = bundle, reporter
        with reporter.step(f"verify {bundle.name}"):
            self.manifest = verify_files(bundle)
        config = (bundle / self.manifest.vocabulary).read_bytes()
        self.config = ModelConfig.from_json(config, source=self.manifest.vocabulary)
        self.vocabulary = Vocabulary(self.config.vocab, self.manifest.max_phonemes)
        self._shapes = shapes_of(bundle, self.manifest)
        self._programs: dict[Shape, Backend] = {}

    @property
    def voices(self) -> tuple[str, ...]:
        """Names of the bundle's voices; the first is the default."""
        names = [record.name for record in self.manifest.voices]
        spoken = [self.manifest.sample.voice] if self.manifest.sample else []
        return tuple(dict.fromkeys(name for name in (*spoken, *names) if name in names))

    def say(self, phonemes: str, *, voice: str | None = None, speed: float = 1.0) -> Speech:
        """Speak at the smallest bucket that holds the phonemes and what they become.

        Args:
            phonemes: characters of the vocabulary, as upstream's G2P writes them.
            voice: one of `voices`.
            speed: 1 is the voice's own pace, 2 twice as fast.

        Raises:
            PhonemeError: an unknown phoneme, or no bucket holds the text or its speech.
            VoiceError: the bundle has no such voice.
            PackageError: a package cannot be run.
            ParityError: a package gave NaN or infinity.
            ValueError: the speed is not a finite number above 0.
        """
        if not (math.isfinite(speed) and speed > 0):
            raise ValueError(f"speed must be a finite number above 0, found {speed}")
        pack = self._voice(voice)
        ids = self.vocabulary.encode(phonemes)
        utterance = Utterance(tuple(ids), pack.row(len(phonemes)), speed)
        spoken, bucket = self._fit(utterance)
        seconds_per_frame = self.manifest.samples_per_frame / self.manifest.sample_rate
        return Speech(
            audio=spoken.audio,
            sample_rate=self.manifest.sample_rate,
            timestamps=timestamps(phonemes, spoken.durations, seconds_per_frame),
            voice=pack.name,
            speed=speed,
            bucket=bucket,
        )

    def _fit(self, utterance: Utterance) -> tuple[Spoken, Bucket]:
        """Go through the buckets from small to large until the speech is held."""
        needed = 0
        for shape in self._shapes:
            bucket = shape.bucket
            samples = bucket.frames * self.manifest.samples_per_frame
            if bucket.tokens < len(utterance.ids) or samples < needed:
                continue
            try:
                with self.reporter.step(f"speak at {bucket}"):
                    return speak(self._program(shape), utterance, bucket.tokens), bucket
            except FrameOverflowError as error:
                needed = error.needed
                self.reporter.note(f"the speech is longer than {bucket} holds")
        frames = f" and {-(-needed // self.manifest.samples_per_frame)} frames" if needed else ""
        buckets = ", ".join(str(shape.bucket) for shape in self._shapes)
        raise PhonemeError(
            f"the text needs {len(utterance.ids)} tokens{frames}, more than any bucket of the "
            f"bundle holds (tokens x frames: {buckets}); split the text"
        )

    def close(self) -> None:
        """Unload what was loaded; ends the processes of `coreml`."""
        self._programs.clear()
        self._open.close()

    def __enter__(self) -> Synthesizer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _program(self, shape: Shape) -> Backend:
        if shape not in self._programs:
            self._programs[shape] = self._load(shape)
        return self._programs[shape]

    def _load(self, shape: Shape) -> Backend:
        if self._backend == "executor":
            return Program.load(shape.package, shape.function)
        units = self._compute_units or shape.compute_units
        return self._open.enter_context(CoreMLWorker(shape.package, shape.function, units))

    def _voice(self, name: str | None) -> VoicePack:
        known = {record.name: record for record in self.manifest.voices}
        wanted = name or next(iter(self.voices), "")
        if wanted not in known:
            raise VoiceError(
                f"the bundle has no voice {wanted!r}; it has: {', '.join(self.voices) or 'none'}"
            )
        return _read_voice(self.bundle, known[wanted], self.config)


def timestamps(
    phonemes: str, durations: Sequence[int] | NDArray[np.int32], seconds_per_frame: float
) -> tuple[Timestamp, ...]:
    """When each token is heard.

    Args:
        phonemes: what was said.
        durations: frames per token, boundary tokens included: two more than phonemes.
        seconds_per_frame: length of a frame.

    Raises:
        ValueError: the numbers of phonemes and durations do not match.
    """
    ends = np.cumsum(np.asarray(durations, dtype=np.int64))
    marks = [0.0, *(int(end) * seconds_per_frame for end in ends)]
    tokens = [None, *phonemes, None]
    return tuple(
        Timestamp(phoneme, start, end)
        for phoneme, start, end in zip(tokens, marks[:-1], marks[1:], strict=True)
    )


def write_speech(
    path: Path, speech: Speech, *, force: bool = False, reporter: Reporter = SILENT
) -> None:
    """Write speech as a WAV file, whole or not at all.

    Raises:
        BundleError: the file exists and `force` is not given, or it cannot be written.
    """
    check_writable(path, force=force)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        write_wav(partial, speech.audio, reporter=reporter)
        partial.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise BundleError(f"cannot write '{path}': {reason}; choose another place") from error
    finally:
        partial.unlink(missing_ok=True)


def check_writable(path: Path, *, force: bool) -> None:
    """Refuse a place for a file before any work is done for it; raises as `write_speech` does."""
    if path.is_dir() or not path.name:
        raise BundleError(f"'{path}' is a folder; give the path of a WAV file")
    if path.exists() and not force:
        raise BundleError(f"'{path}' exists already; use --force to replace it")
    if not path.parent.is_dir():
        raise BundleError(f"cannot write '{path}': {os.strerror(errno.ENOENT)}; make its folder")


def shapes_of(bundle: Path, manifest: Manifest) -> list[Shape]:
    """Functions of the `complete` packages, from the quickest to the slowest.

    The frames decide, then the tokens.

    Raises:
        BundleError: the bundle has none.
    """
    found = [
        Shape(
            Bucket(function.bucket.tokens, function.bucket.frames),
            bundle / package.file,
            function.name,
            package.compute_units,
        )
        for package in manifest.packages
        if package.cut == "complete"
        for function in package.functions
        if function.bucket.tokens is not None and function.bucket.frames is not None
    ]
    if not found:
        raise BundleError(f"'{bundle}' has no package of the cut 'complete'")
    return sorted(found, key=lambda shape: (shape.bucket.frames, shape.bucket.tokens))


def _read_voice(bundle: Path, record: VoiceRecord, config: ModelConfig) -> VoicePack:
    data = (bundle / record.file).read_bytes()
    expected = record.rows * record.columns * np.dtype("<f4").itemsize
    if record.dtype != "float32" or len(data) != expected:
        raise BundleError(
            f"'{record.file}' must be {expected} bytes of float32 [{record.rows}, "
            f"{record.columns}], found {len(data)} bytes of {record.dtype}"
        )
    rows = np.frombuffer(data, dtype="<f4").reshape(record.rows, record.columns)
    return VoicePack.of(record.name, rows, record.license, config=config)
