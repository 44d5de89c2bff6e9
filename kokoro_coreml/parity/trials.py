"""The cases of a suite made ready: what upstream says to each, and which bucket holds it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kokoro_coreml.checkpoint import Checkpoint
from kokoro_coreml.errors import PhonemeError
from kokoro_coreml.manifest import Manifest
from kokoro_coreml.parity.reference import Reference, ReferenceSpeech, upstream_inputs
from kokoro_coreml.parity.suite import Suite, SuiteCase, suite_voice
from kokoro_coreml.progress import Reporter
from kokoro_coreml.synthesis import Shape, Utterance
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
    shape: Shape

    @property
    def frames(self) -> int:
        """Frames upstream gave the case."""
        return int(self.reference.durations.sum())


@dataclass(frozen=True)
class Skipped:
    """A case that no bucket of the bundle holds."""

    case: SuiteCase
    reason: str


class Trials:
    """Prepares cases one by one."""

    def __init__(
        self,
        manifest: Manifest,
        checkpoint: Checkpoint,
        reference: Reference,
        shapes: Sequence[Shape],
        voices: Path,
        reporter: Reporter,
    ) -> None:
        """`voices`: the bundle's folder of voice packs, for names the suites do not bring."""
        self.manifest, self.checkpoint, self.reference = manifest, checkpoint, reference
        self.shapes, self.folder, self.reporter = shapes, voices, reporter
        limit = min(manifest.max_phonemes, checkpoint.config.max_phonemes)
        self.vocabulary = Vocabulary(checkpoint.config.vocab, limit)

    def prepare(self, suite: Suite) -> tuple[list[Trial], list[Skipped]]:
        """Let upstream speak every case twice.

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
        if not any(s.bucket.tokens >= len(ids) for s in self.shapes):
            return Skipped(case, f"needs {len(ids)} tokens")
        upstream_ids, row = upstream_inputs(self.checkpoint.config, case.phonemes, voice)
        seed = self.manifest.noise.seed
        first = self.reference.speak(upstream_ids, row, noise=seed, speed=case.speed)
        frames = int(first.durations.sum())
        shape = self._fit(len(ids), frames)
        if shape is None:
            return Skipped(case, f"needs {len(ids)} tokens and {frames} frames")
        again = self.reference.speak(upstream_ids, row, noise=seed + OTHER_NOISE, speed=case.speed)
        utterance = Utterance(tuple(ids), voice.row(len(case.phonemes)), case.speed)
        return Trial(case, utterance, tuple(upstream_ids), row, first, again, shape)

    def _fit(self, tokens: int, frames: int) -> Shape | None:
        fitting = (
            s for s in self.shapes if s.bucket.tokens >= tokens and s.bucket.frames >= frames
        )
        return next(fitting, None)

    def _voice(self, case: SuiteCase) -> VoicePack:
        return suite_voice(
            case, self.checkpoint.config, search=[self.folder], reporter=self.reporter
        )


def longest(trials: Iterable[Trial]) -> Trial | None:
    """The trial that fills most of its bucket, at the voice's own pace if there is one."""
    found = sorted(trials, key=lambda t: (t.case.speed == 1.0, t.frames))
    return found[-1] if found else None
