"""What a table of sizes holds: the classes behind `sizes.json`, schema version 1.

The file is one object (`data/sizes.schema.json` is generated from the classes below). Every number
was measured in the run that wrote it. What was not is null, and beside it, or in `not_measured`,
stands why. Sizes are bytes; an infinite SNR is written as `parity.results.CAP`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from kokoro_coreml.documents import Document
from kokoro_coreml.parity.results import Better
from kokoro_coreml.recipe import Compression
from kokoro_coreml.sizes.errors import SizesError
from kokoro_coreml.tables import Limits, encode

SCHEMA_VERSION = 1
"""Version of the `sizes.json` format this code writes and reads."""

Text = Annotated[str, Limits(minimum=1)]
Size = Annotated[int, Limits(minimum=0)]
Count = Annotated[int, Limits(minimum=1)]
Verdict = Literal["measured", "failed"]


@dataclass(frozen=True)
class NotMeasured:
    """A part of the report that is null or empty, or a case that was left out."""

    what: Text
    reason: Text


@dataclass(frozen=True)
class Tolerance:
    """How much worse a metric may be than that of what it is compared with."""

    metric: Text
    slack: Annotated[float, Limits(minimum=0.0)]
    better: Better
    """`higher`: the value may be lower by `slack`; `lower`: higher by it."""
    reason: Text

    def exceeded(self, value: float, base: float) -> bool:
        """Whether a value is worse than `base` by more than the slack."""
        lost = base - value if self.better == "higher" else value - base
        return lost > self.slack


@dataclass(frozen=True)
class Said:
    """One case of the suite, as upstream says it."""

    case: Text
    language: Text
    voice: Text
    speed: float
    tokens: Count
    frames: Count
    heard: str | None
    """What the recogniser hears in upstream's audio; null where the case does not ask for it."""


@dataclass(frozen=True)
class CaseQuality:
    """One case, measured against upstream's first run."""

    case: Text
    metrics: Mapping[str, float | None]
    """By name, one per tolerance; null where it was not measured."""
    heard: str | None
    """What the recogniser hears."""
    notes: tuple[Text, ...]
    """Why a metric is null, and what a reader must know of the others."""


@dataclass(frozen=True)
class Spread:
    """One metric over the cases."""

    median: float
    worst: float


@dataclass(frozen=True)
class Quality:
    """All cases together."""

    tokens: Size
    """Of the cases whose durations were measured."""
    duration_errors: Size
    duration_errors_percent: float | None
    words: Size
    """Heard in upstream's audio of the cases that were recognised."""
    word_errors: int | None
    """Null where nothing was recognised."""
    spreads: Mapping[str, Spread]
    """By metric; one that no case has is left out."""


@dataclass(frozen=True)
class StageSize:
    """The packages of one stage."""

    stage: Text
    weight_bytes: Size
    """Of its weight files."""
    package_bytes: Size
    """Of all its files."""


@dataclass(frozen=True)
class RowSizes:
    """The packages of one row."""

    weight_bytes: Size
    package_bytes: Size
    stages: tuple[StageSize, ...]


@dataclass(frozen=True)
class Worse:
    """A metric that tells a row from what it is compared with."""

    metric: Text
    case: Text
    value: float | None
    base: float
    slack: float


@dataclass(frozen=True)
class Comparison:
    """A row beside something else that was measured on the same cases."""

    holds: bool
    """Whether no metric of any case is worse than its tolerance allows."""
    worse: tuple[Worse, ...]


@dataclass(frozen=True)
class Row:
    """One way to store the weights."""

    name: Text
    compression: Compression | None
    """Null where nothing is compressed, or where none could be found."""
    verdict: Verdict
    reason: str | None
    """Why it failed."""
    sizes: RowSizes | None
    quality: Quality | None
    same_words: bool | None
    """Whether the words are those heard in upstream's audio; null if none was listened for."""
    against_uncompressed: Comparison | None
    """Null for the uncompressed row itself, and where one of both failed."""
    against_variation: Comparison | None
    """Beside upstream's second run, under another noise."""
    cases: tuple[CaseQuality, ...]


@dataclass(frozen=True)
class Variation:
    """Upstream's second run, under another noise, against its first: the yardstick."""

    quality: Quality
    cases: tuple[CaseQuality, ...]


@dataclass(frozen=True)
class SizeReport:
    """The whole of `sizes.json`."""

    schema_version: Literal[1]
    project_version: Text
    recipe: Text
    weights: Text
    """Source and location of the checkpoint."""
    weights_from_8_bits: bool
    """Whether the checkpoint is an 8-bit export: lossless and 8-bit rows lose less in it than in
    weights that were never quantised."""
    tokens: Count
    frames: Count
    """The one bucket of each kind that was converted and executed."""
    precision: Text
    """Numeric mode of the executor."""
    suite: Text
    threads: Count
    versions: Mapping[str, Text]
    recogniser: str | None
    tolerances: tuple[Tolerance, ...]
    said: tuple[Said, ...]
    variation: Variation
    rows: tuple[Row, ...]
    smallest: str | None
    """Name of the smallest row that cannot be told from the uncompressed one, by all files."""
    not_measured: tuple[NotMeasured, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, fields in declaration order."""
        result: dict[str, Any] = encode(self)
        return result

    def to_json(self) -> str:
        """The file's text; raises `SizesError` if it would not be readable again."""
        return DOCUMENT.text(self)


DOCUMENT = Document(
    SizeReport, "sizes.json", "table of sizes", "table of sizes", SCHEMA_VERSION, SizesError
)


def load_sizes(path: Path) -> SizeReport:
    """Read a `sizes.json`.

    Raises:
        SizesError: it cannot be read, is not JSON, or is not of this schema.
    """
    return DOCUMENT.load(path)


def sizes_schema() -> dict[str, Any]:
    """JSON Schema; `data/sizes.schema.json` holds it as generated."""
    return DOCUMENT.schema()
