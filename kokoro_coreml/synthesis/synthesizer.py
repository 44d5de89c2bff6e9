"""A bundle, ready to speak."""

from __future__ import annotations

import math
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from kokoro_coreml.bundle import verify_files
from kokoro_coreml.config import ModelConfig
from kokoro_coreml.coreml import CoreMLWorker, require_mac
from kokoro_coreml.errors import BundleError, PackageError, PhonemeError, VoiceError
from kokoro_coreml.executor import Program
from kokoro_coreml.manifest import VoiceRecord
from kokoro_coreml.progress import SILENT, Reporter
from kokoro_coreml.synthesis.observing import Observer, observed
from kokoro_coreml.synthesis.pipeline import Pipeline
from kokoro_coreml.synthesis.shapes import shapes_of
from kokoro_coreml.synthesis.speakers import CompleteSpeaker, PipelineSpeaker, Speaker
from kokoro_coreml.synthesis.speech import (
    Backend,
    FrameOverflowError,
    Part,
    Speech,
    Utterance,
    joined,
)
from kokoro_coreml.synthesis.splitting import halves, split
from kokoro_coreml.synthesis.stages import PackagedStages
from kokoro_coreml.vocabulary import Vocabulary
from kokoro_coreml.voices import VoicePack

BACKENDS = ("executor", "coreml")
"""What can run a bundle's packages; `coreml` needs a Mac."""


class Synthesizer:
    """A bundle, ready to speak."""

    def __init__(
        self,
        bundle: Path,
        *,
        backend: str = "executor",
        compute_units: str | None = None,
        reporter: Reporter = SILENT,
        observer: Observer | None = None,
    ) -> None:
        """Read a bundle and verify every file of it.

        Args:
            bundle: its folder.
            backend: one of `BACKENDS`.
            compute_units: for `coreml`, one of `coreml.COMPUTE_UNITS`; None is the package's own.
            reporter: told of every step.
            observer: told of every function that runs.

        Raises:
            BundleError: it is not a bundle, is not what was written, or holds no whole network.
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
        self._observer = observer or Observer()
        self._open = ExitStack()
        self.bundle, self.reporter = bundle, reporter
        with reporter.step(f"verify {bundle.name}"):
            self.manifest = verify_files(bundle)
        config = (bundle / self.manifest.vocabulary).read_bytes()
        self.config = ModelConfig.from_json(config, source=self.manifest.vocabulary)
        self.vocabulary = Vocabulary(self.config.vocab, self.manifest.max_phonemes)
        self._speaker = self._choose_speaker()

    @property
    def voices(self) -> tuple[str, ...]:
        """Names of the bundle's voices; the first is the default."""
        names = [record.name for record in self.manifest.voices]
        spoken = [self.manifest.sample.voice] if self.manifest.sample else []
        return tuple(dict.fromkeys(name for name in (*spoken, *names) if name in names))

    def say(self, phonemes: str, *, voice: str | None = None, speed: float = 1.0) -> Speech:
        """Speak at the smallest bucket that holds the phonemes and what they become.

        What no bucket holds is split between sentences, clauses or words, never cut.

        Args:
            phonemes: characters of the vocabulary, as upstream's G2P writes them.
            voice: one of `voices`.
            speed: 1 is the voice's own pace, 2 twice as fast.

        Raises:
            PhonemeError: an unknown phoneme, or no bucket holds a single word or its speech.
            VoiceError: the bundle has no such voice.
            PackageError: a package cannot be run.
            ParityError: a package gave NaN or infinity.
            ValueError: the speed is not a finite number above 0.
        """
        if not (math.isfinite(speed) and speed > 0):
            raise ValueError(f"speed must be a finite number above 0, found {speed}")
        pack = self._voice(voice)
        self.vocabulary.require_known(phonemes)
        parts = [
            part
            for text in split(phonemes, self._speaker.longest)
            for part in self._parts(text, pack, speed)
        ]
        return joined(
            parts,
            sample_rate=self.manifest.sample_rate,
            samples_per_frame=self.manifest.samples_per_frame,
            voice=pack.name,
            speed=speed,
        )

    def _parts(self, phonemes: str, pack: VoicePack, speed: float) -> list[Part]:
        """Say a text, or its halves where no bucket holds the speech."""
        ids = self.vocabulary.encode(phonemes)
        utterance = Utterance(tuple(ids), pack.row(len(phonemes)), speed)
        try:
            with self.reporter.step(f"speak {len(ids)} tokens"):
                spoken, bucket = self._speaker.speak(utterance)
        except FrameOverflowError as error:
            self.reporter.note(f"{error.needed} samples of speech fit no bucket: split")
            try:
                first, second = halves(phonemes)
            except PhonemeError as single:
                raise PhonemeError(f"{error}; {single}") from error
            return [*self._parts(first, pack, speed), *self._parts(second, pack, speed)]
        part = Part(phonemes, spoken, bucket)
        self._observer.said(part)
        return [part]

    def close(self) -> None:
        """Unload what was loaded; ends the processes of `coreml`."""
        self._speaker = self._choose_speaker()
        self._open.close()

    def __enter__(self) -> Synthesizer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _choose_speaker(self) -> Speaker:
        """The pipeline if the bundle holds one, else its `complete` packages."""
        packages = self.manifest.packages
        longest = self.manifest.max_phonemes
        if not any(package.cut == "pipeline" for package in packages):
            shapes = shapes_of(self.bundle, self.manifest)
            return CompleteSpeaker(shapes, self._load, longest, self.manifest.samples_per_frame)
        on_mac = self._backend == "coreml"
        stages = PackagedStages(self.bundle, packages, self._load, keep_all=on_mac)
        pipeline = Pipeline(stages, self.config, noise_seed=self.manifest.noise.seed)
        return PipelineSpeaker(pipeline, longest)

    def _load(self, package: Path, function: str, compute_units: str) -> Backend:
        backend = self._open_function(package, function, compute_units)
        file = package.relative_to(self.bundle).as_posix()
        return observed(backend, self._observer, file, function)

    def _open_function(self, package: Path, function: str, compute_units: str) -> Backend:
        if self._backend == "executor":
            return Program.load(package, function, precision="declared")
        units = self._compute_units or compute_units
        return self._open.enter_context(CoreMLWorker(package, function, units))

    def _voice(self, name: str | None) -> VoicePack:
        known = {record.name: record for record in self.manifest.voices}
        wanted = name or next(iter(self.voices), "")
        if wanted not in known:
            raise VoiceError(
                f"the bundle has no voice {wanted!r}; it has: {', '.join(self.voices) or 'none'}"
            )
        return _read_voice(self.bundle, known[wanted], self.config)


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
