"""Recordings of a bundle: writing them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kokoro_coreml.goldens.cases import GoldensError
from kokoro_coreml.goldens.files import INDEX_NAME, earlier_files, index_text, store
from kokoro_coreml.goldens.recording import (
    DEFAULT_PHRASES,
    Phrase,
    Switch,
    recording,
    text_of,
)
from kokoro_coreml.manifest import MANIFEST_NAME
from kokoro_coreml.progress import SILENT, Reporter
from kokoro_coreml.synthesis import Synthesizer

CONFIG_NAME = "config.json"
"""The bundle's configuration, under this name."""


@dataclass(frozen=True)
class Recorded:
    """What was written."""

    folder: Path
    runs: Mapping[str, int]
    """Number of runs of functions by recording."""
    bytes: int
    """Size of all files, the index included."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"folder": str(self.folder), "runs": dict(self.runs), "bytes": self.bytes}


def phrases(phonemes: Sequence[str] = (), *, speed: float | None = None) -> tuple[Phrase, ...]:
    """What to say: the phrases given, or the default ones; the speed, where given, for all."""
    given = tuple(Phrase(f"phonemes-{i}", text) for i, text in enumerate(phonemes, start=1))
    found = given or DEFAULT_PHRASES
    return found if speed is None else tuple(replace(phrase, speed=speed) for phrase in found)


def write_recordings(
    bundle: Path,
    out: Path,
    *,
    said: Sequence[Phrase] = DEFAULT_PHRASES,
    voice: str | None = None,
    largest: int | None = None,
    force: bool = False,
    reporter: Reporter = SILENT,
) -> Recorded:
    """Speak with a bundle, by the executor at declared precision, and write down every run.

    All files are made before the first is written, and the index is written last. Files of an
    earlier index that are none any more are removed; nothing else in the folder is touched.

    Args:
        bundle: its folder.
        out: folder; made where it is missing.
        said: what to say; every id is used once.
        voice: one of the bundle's; None is its first.
        largest: bytes of an array that is kept whole; of a larger one that only packages read,
            the digest is kept. None keeps all whole.
        force: replace earlier recordings.
        reporter: told of every phrase.

    Raises:
        GoldensError: the folder holds recordings and `force` is not given, holds something else,
            lies in the bundle, or cannot be written to.
        KokoroError: the bundle is wrong or cannot say it; see `Synthesizer`.
    """
    if out.resolve().is_relative_to(bundle.resolve()):
        raise GoldensError(f"'{out}' lies in the bundle, whose files are fixed; choose another")
    earlier = earlier_files(out, MANIFEST_NAME, force=force)
    switch, files, runs = Switch(), dict[str, str](), dict[str, int]()
    with Synthesizer(bundle, reporter=reporter, observer=switch) as synthesizer:
        files[MANIFEST_NAME] = _text(bundle / MANIFEST_NAME)
        files[CONFIG_NAME] = _text(bundle / synthesizer.manifest.vocabulary)
        for phrase in said:
            if f"{phrase.id}.json" in (*files, INDEX_NAME):
                raise GoldensError(f"the name '{phrase.id}' is taken; give the phrase another")
            with reporter.step(f"record {phrase.id}"):
                record = recording(phrase, synthesizer, switch, voice=voice, largest=largest)
            files[f"{phrase.id}.json"] = text_of(record)
            runs[phrase.id] = sum(len(part["runs"]) for part in record["parts"])
    files[INDEX_NAME] = index_text(files)
    store(out, files, earlier)
    return Recorded(out, runs, sum(len(text.encode("utf-8")) for text in files.values()))


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8")
