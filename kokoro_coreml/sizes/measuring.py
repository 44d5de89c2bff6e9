"""What the packages of a row say, measured against upstream by parity's own functions.

Where a duration differs, the audio that is measured has upstream's durations forced, since one
frame more moves all that follows (as `verify` does); the words are those of the audio as it would
be heard.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version

import numpy as np
from torch import Tensor

from kokoro_coreml.errors import KokoroError
from kokoro_coreml.modules.pipeline import PipelineNetwork
from kokoro_coreml.noise import merged_noise
from kokoro_coreml.parity.bounds import SAME_SOURCE
from kokoro_coreml.parity.counterparts import same_source_audio
from kokoro_coreml.parity.flows import Around, Arrays, ForcedDurations, Lengths, steps_until
from kokoro_coreml.parity.metrics import duration_errors, snr_db, word_errors
from kokoro_coreml.parity.modules import spoken_metrics
from kokoro_coreml.parity.packages import yardstick_of
from kokoro_coreml.parity.recognition import Recogniser
from kokoro_coreml.parity.reference import Reference
from kokoro_coreml.parity.results import finite
from kokoro_coreml.parity.trials import Trial
from kokoro_coreml.progress import Reporter
from kokoro_coreml.recipe import Bucket
from kokoro_coreml.sizes.results import CaseQuality, Said
from kokoro_coreml.sizes.tolerances import METRICS, TOLERANCES, WORD_ERRORS
from kokoro_coreml.synthesis import Backend
from kokoro_coreml.synthesis.pipeline import Flow, Pipeline, Stages

NO_RECOGNISER = "install the recogniser: pip install 'kokoro-coreml[asr]'"
NOT_ASKED = "the suite does not ask for recognition of this case"
NO_SOURCE = "upstream's second run has no source of a package's"


def recogniser_name() -> str | None:
    """The recogniser that listens; None where it is not installed."""
    if not Recogniser.available():
        return None
    return f"Whisper tiny.en by faster-whisper {version('faster-whisper')}"


@dataclass(frozen=True)
class Fitting:
    """The one bucket, for `parity.trials.Trials`."""

    buckets: Sequence[Bucket]
    network: PipelineNetwork

    def noise(self, seed: int) -> Callable[[int], Tensor]:
        """Upstream's noise that is the same as the packages' of a seed."""
        return merged_noise(seed, self.network.source.l_linear.weight)


@dataclass
class Measurer:
    """Measures rows, one after the other, on the same trials."""

    reference: Reference
    trials: Sequence[Trial]
    noise: Callable[[int], Tensor]
    """Of upstream's source; the same as the packages'."""
    seed: int
    """Of the packages' noise."""
    reporter: Reporter
    recogniser: Recogniser | None
    _heard: dict[str, list[str]] = field(default_factory=dict)

    def said(self) -> tuple[Said, ...]:
        """What upstream says, and what is heard in it."""
        return tuple(
            Said(
                case=trial.case.id,
                language=trial.case.language,
                voice=trial.case.voice,
                speed=trial.case.speed,
                tokens=len(trial.utterance.ids),
                frames=trial.frames,
                heard=" ".join(self._expected(trial)) if self._listens(trial) else None,
            )
            for trial in self.trials
        )

    def variation(self) -> tuple[CaseQuality, ...]:
        """Upstream's second run against its first."""
        cases = []
        for trial in self.trials:
            metrics: dict[str, float] = dict(yardstick_of(trial))
            heard, notes = self._listen(trial, trial.again.audio, metrics)
            cases.append(_case(trial, metrics, heard, [NO_SOURCE, *notes]))
        return tuple(cases)

    def measure(self, stages: Stages) -> tuple[CaseQuality, ...]:
        """Let a row's packages say every trial; one that they cannot say is null, with a reason."""
        cases = []
        with self.reporter.step("execute the packages", len(self.trials)) as one:
            for trial in self.trials:
                try:
                    cases.append(self._measure(trial, stages))
                except KokoroError as error:
                    cases.append(_case(trial, {}, None, [f"not said: {error}"]))
                one(1)
        return tuple(cases)

    def _measure(self, trial: Trial, stages: Stages) -> CaseQuality:
        steps = steps_until(self._pipeline(stages), trial.utterance, "Duration")
        known = _Known(stages, {name: step.outputs for name, step in steps.items()})
        own = known.known["Duration"]["pred_dur"].reshape(-1)[: len(trial.utterance.ids)]
        theirs = trial.reference.durations
        errors = duration_errors(reference=theirs, candidate=own)
        as_heard: Stages = known
        measured: Stages = ForcedDurations(known, theirs) if errors else known
        flow = self._pipeline(measured).speak(trial.utterance)
        samples = abs(int(own.sum()) - trial.frames) * self.reference.config.samples_per_frame
        metrics = spoken_metrics(flow.spoken, trial) | {
            "duration_errors": float(errors),
            "length_difference_samples": float(samples),
            SAME_SOURCE: self._same_source(trial, flow),
        }
        notes = []
        if errors:
            notes.append("durations differ: the audio was measured with upstream's forced")
        if not self._listens(trial):
            return _case(trial, metrics, None, [*notes, self._deaf()])
        try:
            spoken = self._pipeline(as_heard).speak(trial.utterance) if errors else flow
        except KokoroError as error:
            return _case(trial, metrics, None, [*notes, f"not heard: {error}"])
        heard, more = self._listen(trial, spoken.spoken.audio, metrics)
        return _case(trial, metrics, heard, [*notes, *more])

    def _pipeline(self, stages: Stages) -> Pipeline:
        return Pipeline(stages, self.reference.config, noise_seed=self.seed)

    def _same_source(self, trial: Trial, flow: Flow) -> float:
        frames = int(flow.spoken.durations.sum())
        lengths = Lengths(self.reference.config, len(trial.utterance.ids), frames)
        reference = same_source_audio(
            self.reference,
            trial.utterance,
            lengths,
            flow.values,
            flow.bucket.frames,
            noise=self.noise,
        )
        return snr_db(reference=reference, candidate=flow.spoken.audio)

    # -- words ----------------------------------------------------------------------------------

    def _listens(self, trial: Trial) -> bool:
        return self.recogniser is not None and trial.case.recognise

    def _deaf(self) -> str:
        return NO_RECOGNISER if self.recogniser is None else NOT_ASKED

    def _expected(self, trial: Trial) -> list[str]:
        """Words in upstream's audio, recognised once."""
        assert self.recogniser is not None
        if trial.case.id not in self._heard:
            self._heard[trial.case.id] = self.recogniser.words(trial.reference.audio)
        return self._heard[trial.case.id]

    def _listen(
        self, trial: Trial, audio: np.ndarray, metrics: dict[str, float]
    ) -> tuple[str | None, list[str]]:
        """Add the word errors to the metrics; gives what was heard, or why nothing was."""
        if self.recogniser is None or not trial.case.recognise:
            return None, [self._deaf()]
        expected = self._expected(trial)
        if not expected:
            return None, ["no word is recognised in upstream's audio"]
        found = self.recogniser.words(audio)
        metrics[WORD_ERRORS] = float(word_errors(reference=expected, candidate=found))
        return " ".join(found), []


@dataclass
class _Known(Around):
    """Stages of which some have run already."""

    known: Mapping[str, Mapping[str, np.ndarray]]

    def call(self, name: str, size: int, backend: Backend, inputs: Arrays) -> dict[str, np.ndarray]:
        """What the stage gave before, or else what it gives now."""
        if name in self.known:
            return dict(self.known[name])
        return backend(inputs)


def _case(
    trial: Trial, metrics: Mapping[str, float], heard: str | None, notes: Sequence[str]
) -> CaseQuality:
    """The metrics of the table as JSON can hold them; NaN is null."""
    better = {one.metric: one.better for one in TOLERANCES}
    kept: dict[str, float | None] = dict.fromkeys(METRICS)
    lost = []
    for name in METRICS:
        value = metrics.get(name)
        if value is not None and math.isnan(value):
            lost.append(f"{name} is not a number")
        elif value is not None:
            kept[name] = finite(value, better[name])
    return CaseQuality(trial.case.id, kept, heard, (*notes, *lost))
