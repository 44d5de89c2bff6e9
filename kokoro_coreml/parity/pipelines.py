"""The legs of the cut `pipeline`: a package per stage, a function per bucket."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

import numpy as np
from torch import Tensor

from kokoro_coreml.errors import KokoroError
from kokoro_coreml.executor import Program
from kokoro_coreml.executor.precision import Finding
from kokoro_coreml.manifest import Manifest
from kokoro_coreml.modules.pipeline import PipelineNetwork
from kokoro_coreml.noise import merged_noise
from kokoro_coreml.parity.bounds import (
    DISTANCE,
    FLOAT32_SNR,
    FLOAT32_SOUND_DB,
    LOSS,
    OWN_DISTANCE,
    RATIO,
    SAME_SOURCE,
)
from kokoro_coreml.parity.counterparts import same_source_audio
from kokoro_coreml.parity.flows import Around, Arrays, ForcedDurations, Lengths, Replayed
from kokoro_coreml.parity.metrics import duration_errors, log_spectral_distance_db, snr_db
from kokoro_coreml.parity.modules import spoken_metrics
from kokoro_coreml.parity.packages import Said, case_name, unheard, yardstick_of
from kokoro_coreml.parity.pipeline_devices import PipelineDevice
from kokoro_coreml.parity.pipeline_legs import PipelineLegs
from kokoro_coreml.parity.pipeline_measures import (
    beside_float32,
    beside_rounding,
    distance_that_does_not_apply,
)
from kokoro_coreml.parity.reference import Reference
from kokoro_coreml.parity.results import PackageTiming
from kokoro_coreml.parity.run import Run
from kokoro_coreml.parity.stored import stored_network
from kokoro_coreml.parity.thresholds import YARDSTICK_MARGIN
from kokoro_coreml.parity.trials import Trial
from kokoro_coreml.progress import Reporter
from kokoro_coreml.recipe import PIPELINE, Bucket, Compression
from kokoro_coreml.synthesis import Backend
from kokoro_coreml.synthesis.pipeline import Flow, Pipeline, Stages
from kokoro_coreml.synthesis.stages import PackagedStages

REPLAYED = ("pred_dur", "f0", "curves", "levels", "asr", "har", "audio")
"""What a Mac's result must hold of every case: what `measure` looks at."""


class PipelineCut:
    """See `run.Cut`."""

    def __init__(self, run: Run, compression: Compression | None) -> None:
        """Find the functions; each is loaded when it is first run.

        Args:
            run: what is verified.
            compression: how the recipe stores the weights.

        Raises:
            BundleError: a stage is missing, or its stages do not share their buckets.
            ParityError: a package holds other weights than the recipe's compression gives.
        """
        self.run = run
        self.network = PipelineNetwork(run.checkpoint)
        self.seed = run.manifest.noise.seed
        precision = run.request.precision
        self.half = precision != "float32" and declares_half(run.manifest)
        self.plain = self._packaged("float32")
        self.judged = self._packaged(precision) if self.half else self.plain
        self.lossy = compression is not None and compression.lossy
        stored = stored_network(self.network, compression, self.plain)
        self.legs = PipelineLegs(run, self.network, self.plain, stored)
        self.stored = self.legs.stored
        self.in_float32: dict[str, np.ndarray | None] = {}
        """Audio of the cases said so far, by the packages in float32; None where it failed."""

    def _packaged(self, precision: str) -> PackagedStages:
        def load(path: Path, function: str, _units: str) -> Backend:
            return Program.load(path, function, precision=precision)

        return PackagedStages(self.run.request.bundle, self.run.manifest.packages, load)

    @property
    def buckets(self) -> Sequence[Bucket]:
        """Every pair of tokens and frames, few frames first."""
        return [Bucket(t, f) for f, t in product(self.plain.frames, self.plain.tokens)]

    @property
    def staged(self) -> bool:
        """Seven of them."""
        return True

    def noise(self, seed: int) -> Callable[[int], Tensor]:
        """Noise whose weighted sum is the one channel that the stage `Source` takes."""
        return merged_noise(seed, self.network.source.l_linear.weight)

    def double(self) -> Reference:
        """Upstream in double precision: long speech is judged by what float32 can know of it."""
        return Reference(self.run.checkpoint, double=True)

    def parts(self, case: str) -> dict[str, str]:
        """Every stage, as `say` writes it in front of an operation."""
        return {f"{name} ": f"{case} in {name}" for name in PIPELINE}

    def judge_modules(self, trials: Sequence[Trial]) -> None:
        """Judge every stage at every bucket."""
        self.legs.judge(trials)

    def say(self, trials: Sequence[Trial]) -> list[Said]:
        """What the executor says to every trial, bucket by bucket."""
        run = self.run
        watched = Watched(self.judged)
        said: dict[str, Said] = {}
        title = f"package = upstream: the suite {run.suite.name} at {run.request.precision}"
        with run.reporter.step(title, len(trials)) as one:
            for trial in sorted(trials, key=lambda t: (t.bucket.frames, t.bucket.tokens)):
                said[trial.case.id] = self.measure(trial, watched)
                for where, finding in watched.taken():
                    labels = self.legs.labels.get(where, {})
                    stage, size = where
                    known = labels.get(finding.name)
                    module = f"{stage}.{known}" if known else None
                    run.note(trial, finding, module, where=f"{stage} {size}")
                one(1)
        self._time(watched)
        return [said[trial.case.id] for trial in trials]

    def _time(self, watched: Watched) -> None:
        for (name, size), seconds in watched.run_seconds.items():
            package, function = self.judged.function(name, size)
            eager = self.legs.eager.seconds.get((name, size), [])
            self.run.timings.append(
                PackageTiming(
                    package=package.file,
                    function=function.name,
                    compute_units="executor",
                    load_seconds=round(watched.load_seconds[name, size], 3),
                    run_seconds=tuple(round(s, 3) for s in seconds),
                    eager_seconds=tuple(round(s, 3) for s in eager),
                )
            )

    def device(self, units: str, compiled: Path, reporter: Reporter) -> PipelineDevice:
        """The packages on one choice of compute units."""
        folder, packages = self.run.request.bundle, self.run.manifest.packages
        return PipelineDevice(units, compiled, reporter, folder, packages, self.measure)

    def replay(self, trial: Trial, values: Arrays, units: str) -> Said:
        """What the packages gave on a Mac, measured beside upstream; an error is kept.

        Other durations than upstream's cannot be forced on what was said elsewhere, so they are an
        error.
        """
        lacking = [name for name in REPLAYED if name not in values]
        if lacking:
            return unheard(trial, units, f"the result lacks {', '.join(lacking)}")
        count = len(trial.utterance.ids)
        durations = values["pred_dur"].reshape(-1)[:count]
        wrong = duration_errors(reference=trial.reference.durations, candidate=durations)
        if wrong:
            return unheard(trial, units, f"{wrong} durations are not upstream's")
        return self.measure(trial, Replayed(self.plain, values), units)

    # -- one case -------------------------------------------------------------------------------

    def measure(self, trial: Trial, stages: Stages, units: str | None = None) -> Said:
        """Let a pipeline speak one trial and measure it beside upstream's own two runs.

        Where a duration differs, the audio is that of upstream's durations, since one frame more
        moves all that follows; the error counts as a duration's.

        Args:
            trial: what to say.
            stages: what runs it.
            units: compute units it runs on, for the name.
        """
        name, yardstick = case_name(trial, units), yardstick_of(trial)
        try:
            own = self._speak(trial, stages)
            durations = trial.reference.durations
            errors = duration_errors(reference=durations, candidate=own.spoken.durations)
            flow = self._speak(trial, ForcedDurations(stages, durations)) if errors else own
        except KokoroError as error:
            return Said(trial, name, None, {}, yardstick, f"{name}: {error}")
        longer = abs(int(own.spoken.durations.sum()) - trial.frames)
        metrics = spoken_metrics(flow.spoken, trial) | {
            "duration_errors": float(errors),
            "length_difference_frames": float(longer),
            "length_difference_percent": 100.0 * longer / trial.frames,
            "length_difference_samples": float(
                longer * self.run.checkpoint.config.samples_per_frame
            ),
            SAME_SOURCE: self._same_source(trial, flow),
        }
        metrics[YARDSTICK_MARGIN] = metrics["audio_snr_db"] - yardstick["audio_snr_db"]
        metrics |= beside_rounding(trial, metrics[DISTANCE])
        note = None
        if errors:
            note = (
                f"{name}: {errors} durations differ and {longer} frames in all; its audio was "
                "compared with upstream's durations forced"
            )
        said = Said(trial, name, own.spoken, metrics, yardstick, note=note)
        if self.lossy:
            return replace(said, metrics=metrics | self._beside_stored(trial, own))
        return self._beside_float32(said, flow, executed=units is None)

    def _speak(self, trial: Trial, stages: Stages) -> Flow:
        pipeline = Pipeline(stages, self.run.checkpoint.config, noise_seed=self.seed)
        return pipeline.speak(trial.utterance)

    def _beside_stored(self, trial: Trial, own: Flow) -> dict[str, float]:
        """The same utterance by the network in PyTorch with the weights that the packages hold."""
        theirs = self._speak(trial, self.stored).spoken
        errors = duration_errors(reference=theirs.durations, candidate=own.spoken.durations)
        pair = {"reference": theirs.audio, "candidate": own.spoken.audio}
        same = theirs.audio.shape == own.spoken.audio.shape
        return {
            "stored_duration_errors": float(errors),
            "stored_snr_db": snr_db(**pair) if same else math.nan,
            "stored_spectral_distance_db": log_spectral_distance_db(**pair) if same else math.nan,
        }

    def _same_source(self, trial: Trial, flow: Flow) -> float:
        frames = int(flow.spoken.durations.sum())
        lengths = Lengths(self.run.checkpoint.config, len(trial.utterance.ids), frames)
        reference = same_source_audio(
            self.run.reference,
            trial.utterance,
            lengths,
            flow.values,
            flow.bucket.frames,
            noise=self.noise(self.seed),
        )
        return snr_db(reference=reference, candidate=flow.spoken.audio)

    def _beside_float32(self, said: Said, flow: Flow, *, executed: bool) -> Said:
        """Add what the same packages reach in float32, and say which bounds that leads to."""
        audio, trial = flow.spoken.audio, said.trial
        if executed and not self.half:
            self.in_float32[trial.case.id] = audio
        elif trial.case.id not in self.in_float32:
            self.in_float32[trial.case.id] = self._float32(trial)
        plain = self.in_float32[trial.case.id]
        metrics = {**said.metrics, **beside_float32(trial.reference.audio, plain, audio)}
        excused = {distance_that_does_not_apply(metrics)}
        notes = [said.note] if said.note else []
        if OWN_DISTANCE not in metrics:
            notes.append(f"{said.name}: upstream in double precision takes other durations")
        if RATIO not in excused:
            own = f"upstream in double precision is {metrics[OWN_DISTANCE]:.2f} dB from itself"
            notes.append(f"{said.name}: {own}, so its spectral distance is judged by {RATIO}")
        if self.half and not math.isnan(metrics[FLOAT32_SNR]):
            sound = metrics[FLOAT32_SNR] >= FLOAT32_SOUND_DB
            excused.add(LOSS if sound else "audio_snr_db")
            if not sound:
                own = f"float32 itself has {metrics[FLOAT32_SNR]:.1f} dB"
                notes.append(f"{said.name}: {own}, so its SNR is judged by {LOSS}")
        note = "; ".join(notes) or None
        return replace(said, metrics=metrics, excused=frozenset(excused), note=note)

    def _float32(self, trial: Trial) -> np.ndarray | None:
        """What the packages say in float32; None where they cannot say it."""
        stages = ForcedDurations(self.plain, trial.reference.durations)
        try:
            return self._speak(trial, stages).spoken.audio
        except KokoroError:
            return None


def declares_half(manifest: Manifest) -> bool:
    """Whether a package holds half-precision weights or passes on half-precision values."""
    return any(
        package.precision == "float16" or port.dtype == "float16"
        for package in manifest.packages
        for function in package.functions
        for port in (*function.inputs, *function.outputs)
    )


@dataclass
class Watched(Around):
    """Stages the executor runs, with their times and what was found in them."""

    run_seconds: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    load_seconds: dict[tuple[str, int], float] = field(default_factory=dict)
    found: list[tuple[tuple[str, int], Finding]] = field(default_factory=list)

    def call(self, name: str, size: int, backend: Backend, inputs: Arrays) -> dict[str, np.ndarray]:
        """Run one stage and remember it."""
        outputs = backend(inputs)
        assert isinstance(backend, Program)
        self.run_seconds.setdefault((name, size), []).append(backend.run_seconds or 0.0)
        self.load_seconds[name, size] = backend.load_seconds
        self.found += [((name, size), finding) for finding in backend.findings]
        return outputs

    def taken(self) -> list[tuple[tuple[str, int], Finding]]:
        """What was found since the last time."""
        found, self.found = self.found, []
        return found
