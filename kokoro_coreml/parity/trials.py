"""The cases of a suite made ready: what upstream says to each, and which bucket holds it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from kokoro_coreml.checkpoint import Checkpoint
from kokoro_coreml.errors import PhonemeError
from kokoro_coreml.manifest import Manifest
from kokoro_coreml.parity.reference import Noise, Reference, ReferenceSpeech, upstream_inputs
from kokoro_coreml.parity.suite import Suite, SuiteCase, suite_voice
from kokoro_coreml.progress import Reporter
from kokoro_coreml.recipe import Bucket
from kokoro_coreml.synthesis import Utterance
from kokoro_coreml.vocabulary import Vocabulary
from kokoro_coreml.voices import VoicePack

OTHER_NOISE = 1
"""Added to the bundle's seed for the second run of upstream, the yardstick."""


@dataclass(frozen=True)
class Trial:
    """One case with both sides' inputs and upstream's speech."""

    case: SuiteCase
    utterance: Utterance
    """What the package is given, by the project's own vocabulary and voices."""
    upstream_ids: tuple[int, ...]
    upstream_row: np.ndarray
    reference: ReferenceSpeech
    again: ReferenceSpeech
    """Upstream under another noise."""
    bucket: Bucket
    """The smallest that holds it."""
    exact: ReferenceSpeech | None = None
    """Upstream in double precision, under the same noise; None where it was not asked for, or where
    a duration so close to a half is rounded the other way."""

    @property
    def frames(self) -> int:
        """Frames upstream gave the case."""
        return int(self.reference.durations.sum())


@dataclass(frozen=True)
class Skipped:
    """A case that no bucket of the bundle holds."""

    case: SuiteCase
    reason: str


class Fitting(Protocol):
    """What a trial must know of the bundle's cut."""

    @property
    def buckets(self) -> Sequence[Bucket]:
        """Every shape the bundle can be run at, from the quickest to the slowest."""
        ...

    def noise(self, seed: int) -> Noise:
        """Upstream's noise that is the same as the bundle's of a seed."""
        ...


class Trials:
    """Prepares cases one by one."""

    def __init__(
        self,
        manifest: Manifest,
        checkpoint: Checkpoint,
        reference: Reference,
        cut: Fitting,
        voices: Path,
        reporter: Reporter,
        double: Reference | None = None,
    ) -> None:
        """Bind.

        Args:
            manifest: of the bundle.
            checkpoint: the weights.
            reference: upstream.
            cut: gives buckets, from the quickest to the slowest, and upstream's noise.
            voices: the bundle's folder of voice packs, for names the suites do not bring.
            reporter: told of every case.
            double: upstream in double precision, where its own rounding is asked for.
        """
        self.double = double
        self.manifest, self.checkpoint, self.reference = manifest, checkpoint, reference
        self.cut, self.folder, self.reporter = cut, voices, reporter
        limit = min(manifest.max_phonemes, checkpoint.config.max_phonemes)
        self.vocabulary = Vocabulary(checkpoint.config.vocab, limit)

    def prepare(self, suite: Suite) -> tuple[list[Trial], list[Skipped]]:
        """Let upstream speak every case twice, and once more in double precision if asked to.

        Raises:
            VoiceError: a voice of the suite cannot be had.
            PhonemeError: the checkpoint does not know a phoneme of the suite.
        """
        trials: list[Trial] = []
        skipped: list[Skipped] = []
        with self.reporter.step(f"upstream speaks the suite {suite.name}", len(suite.cases)) as one:
            for case in suite.cases:
                made = self._trial(case)
                (trials if isinstance(made, Trial) else skipped).append(made)  # type: ignore[arg-type]
                one(1)
        return trials, skipped

    def _trial(self, case: SuiteCase) -> Trial | Skipped:
        voice = self._voice(case)
        try:
            ids = self.vocabulary.encode(case.phonemes)
        except PhonemeError as error:
            raise PhonemeError(f"case '{case.id}': {error}") from error
        if not any(bucket.tokens >= len(ids) for bucket in self.cut.buckets):
            return Skipped(case, f"needs {len(ids)} tokens")
        upstream_ids, row = upstream_inputs(self.checkpoint.config, case.phonemes, voice)
        seed = self.manifest.noise.seed
        noise, other = self.cut.noise(seed), self.cut.noise(seed + OTHER_NOISE)
        first = self.reference.speak(upstream_ids, row, noise=noise, speed=case.speed)
        frames = int(first.durations.sum())
        bucket = self._fit(len(ids), frames)
        if bucket is None:
            return Skipped(case, f"needs {len(ids)} tokens and {frames} frames")
        again = self.reference.speak(upstream_ids, row, noise=other, speed=case.speed)
        utterance = Utterance(tuple(ids), voice.row(len(case.phonemes)), case.speed)
        trial = Trial(case, utterance, tuple(upstream_ids), row, first, again, bucket)
        return replace(trial, exact=self._exact(trial, noise))

    def _exact(self, trial: Trial, noise: Noise) -> ReferenceSpeech | None:
        if self.double is None:
            return None
        ids, row = list(trial.upstream_ids), trial.upstream_row
        found = self.double.speak(ids, row, noise=noise, speed=trial.case.speed)
        same = np.array_equal(found.durations, trial.reference.durations)
        return found if same else None

    def _fit(self, tokens: int, frames: int) -> Bucket | None:
        fitting = (b for b in self.cut.buckets if b.tokens >= tokens and b.frames >= frames)
        return next(fitting, None)

    def _voice(self, case: SuiteCase) -> VoicePack:
        return suite_voice(
            case, self.checkpoint.config, search=[self.folder], reporter=self.reporter
        )


def longest(trials: Iterable[Trial]) -> Trial | None:
    """The trial that fills most of its bucket, at the voice's own pace if there is one."""
    found = sorted(trials, key=lambda t: (t.case.speed == 1.0, t.frames))
    return found[-1] if found else None
