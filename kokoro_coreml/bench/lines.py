"""What is said in a benchmark: cases of a suite, as token ids and voice rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kokoro_coreml.config import ModelConfig
from kokoro_coreml.manifest import Manifest
from kokoro_coreml.parity.suite import Suite, SuiteCase, SuiteError, suite_voice
from kokoro_coreml.progress import Reporter
from kokoro_coreml.synthesis import Utterance
from kokoro_coreml.tables import nearest
from kokoro_coreml.vocabulary import Vocabulary

ENGLISH = "en"


@dataclass(frozen=True)
class Line:
    """One utterance, the same for every runner; goes to child processes."""

    case: str
    ids: tuple[int, ...]
    """Token ids, the boundary zeros included."""
    ref_s: np.ndarray
    """One voice row, float32 [1, 256]."""
    speed: float

    @property
    def utterance(self) -> Utterance:
        """As the bundle is given it."""
        return Utterance(self.ids, self.ref_s, self.speed)


def chosen(suite: Suite, ids: Sequence[str]) -> list[SuiteCase]:
    """Cases by their ids, in the order asked for; without ids the English ones of the suite.

    Raises:
        SuiteError: there is no such case, or the suite has no English one.
    """
    if not ids:
        found = [case for case in suite.cases if case.language.split("-")[0] == ENGLISH]
        if not found:
            raise SuiteError(f"the suite {suite.name} has no English case; name some with --case")
        return found
    known = {case.id: case for case in suite.cases}
    for name in ids:
        if name not in known:
            raise SuiteError(
                f"the suite {suite.name} has no case '{name}'; {nearest(name, list(known))}"
            )
    return [known[name] for name in dict.fromkeys(ids)]


def prepare(
    cases: Sequence[SuiteCase],
    bundle: Path,
    manifest: Manifest,
    config: ModelConfig,
    reporter: Reporter,
) -> list[Line]:
    """Encode cases for a bundle.

    Raises:
        VoiceError: a voice is neither among the suites' nor in the bundle.
        PhonemeError: the bundle does not know a phoneme, or takes fewer of them.
    """
    vocabulary = Vocabulary(config.vocab, manifest.max_phonemes)
    lines = []
    for case in cases:
        voice = suite_voice(case, config, search=[bundle / "voices"], reporter=reporter)
        ids = tuple(vocabulary.encode(case.phonemes))
        lines.append(Line(case.id, ids, voice.row(len(case.phonemes)), case.speed))
    return lines
