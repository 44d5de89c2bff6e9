"""What says the utterances: each of these runs in a process of its own.

A session loads what it needs, says lines and times itself, so that the way to its process and back
is in no figure. `coreml.child` makes it from a factory below.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from kokoro_coreml.bench.lines import Line
from kokoro_coreml.bench.watching import CLOCK, Clock, Place, Watch
from kokoro_coreml.config import SAMPLE_RATE, ModelConfig
from kokoro_coreml.errors import PhonemeError
from kokoro_coreml.executor import Program
from kokoro_coreml.manifest import Manifest, read_manifest
from kokoro_coreml.memory import peak_memory
from kokoro_coreml.parity.reference import Reference
from kokoro_coreml.parity.weights import weights_of
from kokoro_coreml.progress import SILENT
from kokoro_coreml.synthesis import Backend, shapes_of
from kokoro_coreml.synthesis.pipeline import Pipeline
from kokoro_coreml.synthesis.speakers import CompleteSpeaker, PipelineSpeaker, Speaker
from kokoro_coreml.synthesis.stages import Load, PackagedStages
from kokoro_coreml.threads import THREADS


@dataclass(frozen=True)
class Loaded:
    """What loading took."""

    seconds: float
    base_bytes: int
    """Peak resident size of the process before."""
    peak_bytes: int | None
    """And after; None where functions load later, when a line first needs them."""


@dataclass(frozen=True)
class Said:
    """One line, said once."""

    seconds: float
    audio_seconds: float
    functions: Mapping[Place, float] = field(default_factory=dict)
    """Seconds of each function of the bundle that ran."""
    skipped: str | None = None
    """Why it could not be said here; the rest is then 0."""


class Voice(Protocol):
    """Loads itself when it is made; says lines."""

    def __call__(self, line: Line) -> int:
        """Number of samples said; PhonemeError where it does not fit."""
        ...


class Session:
    """Makes a voice and lets it say lines, all timed."""

    def __init__(
        self, make: Callable[[], Voice], *, watch: Watch | None = None, clock: Clock = CLOCK
    ) -> None:
        """Bind; `watch` is the one that the voice loads functions through."""
        self._make, self._watch, self._clock = make, watch, clock
        self._voice: Voice | None = None

    def load(self) -> Loaded:
        """Load; raises what the voice raises."""
        base, began = peak_memory(), self._clock()
        self._voice = self._make()
        seconds = self._clock() - began
        return Loaded(seconds, base, peak_memory() if self._watch is None else None)

    def say(self, line: Line) -> Said:
        """Say a line once; raises what the voice raises but for PhonemeError."""
        assert self._voice is not None, "load comes first"
        if self._watch is not None:
            self._watch.take()
        began = self._clock()
        try:
            samples = self._voice(line)
        except PhonemeError as error:
            return Said(0.0, 0.0, skipped=str(error))
        seconds = self._clock() - began
        functions = {} if self._watch is None else self._watch.take()
        return Said(seconds, samples / SAMPLE_RATE, functions)

    def peak_bytes(self) -> int:
        """Peak resident size of the process so far."""
        return peak_memory()

    def load_seconds(self) -> dict[Place, float]:
        """Of every function of the bundle that was loaded."""
        return {} if self._watch is None else dict(self._watch.load_seconds)


def open_executor(bundle: str, precision: str) -> Session:
    """The bundle through the executor; its functions load when a line first needs them."""
    torch.set_num_threads(THREADS)

    def load(path: Path, function: str, _units: str) -> Backend:
        return Program.load(path, function, precision=precision)

    watch = Watch(load)
    return Session(lambda: BundleVoice(Path(bundle), watch), watch=watch)


def open_upstream(bundle: str, checkpoint: str | None) -> Session:
    """Upstream's `KModel` in PyTorch, as installed, with the bundle's weights."""
    torch.set_num_threads(THREADS)
    return Session(lambda: _UpstreamVoice(Path(bundle), checkpoint))


def open_onnx(model: str) -> Session:
    """ONNX Runtime on an export with the inputs `tokens`, `style` and `speed`."""
    return Session(lambda: _OnnxVoice(model))


class BundleVoice:
    """Either cut of a bundle; every function that was loaded stays loaded."""

    def __init__(self, bundle: Path, load: Load) -> None:
        """Read what the bundle says of itself; raises as `read_manifest` does."""
        manifest = read_manifest(bundle)
        self._speaker = speaker_of(bundle, manifest, load)

    def __call__(self, line: Line) -> int:
        """As `Voice` says."""
        spoken, _ = self._speaker.speak(line.utterance)
        return len(spoken.audio)


def speaker_of(bundle: Path, manifest: Manifest, load: Load) -> Speaker:
    """The pipeline if the bundle holds one, else its `complete` packages."""
    longest = manifest.max_phonemes
    if not any(package.cut == "pipeline" for package in manifest.packages):
        shapes = shapes_of(bundle, manifest)
        return CompleteSpeaker(shapes, load, longest, manifest.samples_per_frame)
    stages = PackagedStages(bundle, manifest.packages, load, keep_all=True)
    pipeline = Pipeline(stages, bundle_config(bundle, manifest), noise_seed=manifest.noise.seed)
    return PipelineSpeaker(pipeline, longest)


def bundle_config(bundle: Path, manifest: Manifest) -> ModelConfig:
    """Configuration of the network in a bundle."""
    text = (bundle / manifest.vocabulary).read_bytes()
    return ModelConfig.from_json(text, source=manifest.vocabulary)


class _UpstreamVoice:
    def __init__(self, bundle: Path, checkpoint: str | None) -> None:
        record = read_manifest(bundle).checkpoint
        self._reference = Reference(weights_of(record, checkpoint, SILENT))

    def __call__(self, line: Line) -> int:
        """Nothing is injected here, which would cost time at every call of torch."""
        speech = self._reference.speak(list(line.ids), line.ref_s, noise=None, speed=line.speed)
        return len(speech.audio)


class _OnnxVoice:
    def __init__(self, model: str) -> None:
        onnxruntime: Any = importlib.import_module("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = THREADS, 1
        # its threads would otherwise wait busily while the other runners have their turns
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self._session: Any = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, line: Line) -> int:
        inputs = {
            "tokens": np.array([line.ids], dtype=np.int64),
            "style": np.asarray(line.ref_s, dtype=np.float32),
            "speed": np.array([line.speed], dtype=np.float32),
        }
        (audio,) = self._session.run(["audio"], inputs)
        return int(np.asarray(audio).size)
