"""The recordings that a Mac's result is of: what was said, and every run of a function."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kokoro_coreml.errors import ParityError
from kokoro_coreml.goldens.files import INDEX_NAME, read_index
from kokoro_coreml.goldens.recordings import CONFIG_NAME
from kokoro_coreml.manifest import MANIFEST_NAME
from kokoro_coreml.parity.suite import FASTEST, SLOWEST, Suite, SuiteCase

UNKNOWN_LANGUAGE = "und"
"""A recording does not say its language."""


@dataclass(frozen=True)
class RecordedRun:
    """One run of a function."""

    package: str
    function: str
    stage: str | None


@dataclass(frozen=True)
class RecordedPart:
    """A stretch of a text that was said at once."""

    phonemes: str
    tokens: int
    frames: int
    runs: tuple[RecordedRun, ...]


@dataclass(frozen=True)
class Recording:
    """One utterance."""

    id: str
    voice: str
    speed: float
    parts: tuple[RecordedPart, ...]

    def case(self, part: int) -> SuiteCase:
        """A part as a case of its own."""
        phonemes = self.parts[part].phonemes
        return SuiteCase(
            id=self.id if len(self.parts) == 1 else f"{self.id}.{part}",
            language=UNKNOWN_LANGUAGE,
            text=phonemes,
            phonemes=phonemes,
            voice=self.voice,
            speed=self.speed,
        )


@dataclass(frozen=True)
class Recordings:
    """A folder of recordings of one bundle."""

    folder: Path
    index_sha256: str
    manifest_sha256: str
    recordings: tuple[Recording, ...]

    def suite(self) -> Suite:
        """Every part of every recording."""
        cases = [r.case(part) for r in self.recordings for part in range(len(r.parts))]
        return Suite("recordings", "what was recorded of the bundle", tuple(cases))


def read_recordings(folder: Path) -> Recordings:
    """Read what a folder of recordings says was said; arrays are left alone.

    Raises:
        ParityError: a file is missing, is not what the index says, or is no recording.
        GoldensError: there is no index.
    """
    files = read_index(folder)["files"]
    contents = {name: _content(folder, name, files[name]) for name in files}
    if MANIFEST_NAME not in contents:
        raise ParityError(f"'{folder}' holds no recordings of a bundle: no {MANIFEST_NAME}")
    names = [n for n in contents if n not in (MANIFEST_NAME, CONFIG_NAME)]
    found = tuple(_recording(name, contents[name]) for name in names)
    if not found:
        raise ParityError(f"'{folder}' holds no recording")
    return Recordings(
        folder,
        hashlib.sha256((folder / INDEX_NAME).read_bytes()).hexdigest(),
        hashlib.sha256(contents[MANIFEST_NAME]).hexdigest(),
        found,
    )


def _content(folder: Path, name: str, entry: Any) -> bytes:
    try:
        data = (folder / name).read_bytes()
    except OSError as error:
        raise ParityError(f"cannot read the recording '{folder / name}': {error}") from error
    if entry != {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}:
        raise ParityError(f"'{folder / name}' is not what {INDEX_NAME} says; record it again")
    return data


def _recording(name: str, content: bytes) -> Recording:
    try:
        raw = json.loads(content)
        parts = tuple(
            RecordedPart(
                part["phonemes"],
                part["tokens"],
                part["frames"],
                tuple(RecordedRun(r["package"], r["function"], r["stage"]) for r in part["runs"]),
            )
            for part in raw["parts"]
        )
        found = Recording(raw["id"], raw["voice"], float(raw["speed"]), parts)
        schema = raw["schema"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ParityError(f"'{name}' is no recording: {error!r}") from error
    if schema != 1 or not parts or not all(part.runs for part in parts):
        raise ParityError(f"'{name}' is no recording of schema 1, or an empty one")
    if not SLOWEST <= found.speed <= FASTEST:
        raise ParityError(f"'{name}' has a speed of {found.speed}, out of what is compared")
    return found
