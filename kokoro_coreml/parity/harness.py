"""What `kokoro-harness verify` measured on a Mac: the classes behind its JSON, schema version 1.

The file is one object (`data/harness.schema.json` is generated from the classes below). Metrics are
written as in `parity.json`. Nothing in it is a verdict: `parity.merging` judges what it holds.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from kokoro_coreml.documents import Document
from kokoro_coreml.errors import ParityError
from kokoro_coreml.goldens.tensors import DTYPES
from kokoro_coreml.parity.results import DeviceUse, PackageTiming
from kokoro_coreml.tables import Limits, encode

SCHEMA_VERSION = 1
"""Version of the format this code reads and writes."""

APPLE = ("macOS", "iOS")
"""Systems that have Core ML."""

Text = Annotated[str, Limits(minimum=1)]
Sha256 = Annotated[str, Limits(pattern=r"[0-9a-f]{64}", meaning="a SHA-256")]
Index = Annotated[int, Limits(minimum=0)]
Count = Annotated[int, Limits(minimum=1)]
Seconds = Annotated[float, Limits(minimum=0)]


@dataclass(frozen=True)
class HarnessMachine:
    """Where the harness ran."""

    system: Text
    """`macOS`, `iOS`, or another, which has no Core ML."""
    system_version: Text
    model: Text
    """As the hardware names itself, such as `Mac14,3`."""
    processor: Text
    cores: Count
    memory_bytes: Count


@dataclass(frozen=True)
class HarnessBundle:
    """What was run."""

    name: Text
    recipe: Text
    manifest_sha256: Sha256


@dataclass(frozen=True)
class HarnessRecordings:
    """What it was compared with."""

    index_sha256: Sha256
    """Of `index.json`, which lists the digest of every recording."""


@dataclass(frozen=True)
class FunctionCheck:
    """The golden file of one portable function."""

    name: Text
    cases: Count
    failures: tuple[Text, ...]
    """A sentence per case that was not as it must be."""


@dataclass(frozen=True)
class HarnessArray:
    """An array that a stage gave."""

    dtype: Literal["float32", "float16", "int32"]
    shape: tuple[Count, ...]
    data: str
    """Base64 of the little-endian bytes, without the zeros behind the last that is none."""


@dataclass(frozen=True)
class StageMeasure:
    """One recorded run of a function, run again on the recorded inputs."""

    case: Text
    part: Index
    run: Index
    """Place of the run among those of the part, as recorded."""
    package: Text
    function: Text
    snr_db: Mapping[str, float]
    """By output, against the recorded one; of `har`, of the complex spectrum."""
    seconds: Seconds | None
    error: str | None
    """Why it was not run; the table is empty then."""


@dataclass(frozen=True)
class PartSaid:
    """A stretch of a text that was said at once."""

    phonemes: Text
    tokens: Count
    """Of the bucket."""
    frames: Count
    """Of the bucket."""
    values: Mapping[str, Sha256]
    """Digest of what crossed from stage to stage, by name; `arrays` holds it."""


@dataclass(frozen=True)
class CaseSaid:
    """One recorded utterance, said by the harness from phonemes to samples."""

    id: Text
    metrics: Mapping[str, float]
    """Against the recorded speech."""
    parts: tuple[PartSaid, ...]
    seconds: Seconds | None
    error: str | None


@dataclass(frozen=True)
class UnitResult:
    """Everything on one choice of compute units."""

    compute_units: Text
    """One of Core ML's four, or `bundle`: as each package asks."""
    stages: tuple[StageMeasure, ...]
    cases: tuple[CaseSaid, ...]
    timings: tuple[PackageTiming, ...]
    devices: tuple[DeviceUse, ...]


@dataclass(frozen=True)
class HarnessReport:
    """The whole of the file."""

    schema_version: Literal[1]
    harness_version: Text
    runtime: Literal["coreml", "recorded"]
    """`recorded`: the stages were played back, so only what lies between them was tested."""
    machine: HarnessMachine
    versions: Mapping[str, Text]
    bundle: HarnessBundle
    recordings: HarnessRecordings
    functions: tuple[FunctionCheck, ...]
    """Empty where no golden files of functions were at hand."""
    units: tuple[UnitResult, ...]
    arrays: Mapping[Sha256, HarnessArray]
    """By the SHA-256 of their little-endian bytes."""

    def array(self, digest: str) -> np.ndarray:
        """An array of the file.

        Raises:
            ParityError: it is not there, or its bytes are not those of its digest and shape.
        """
        record = self.arrays.get(digest)
        if record is None:
            raise ParityError(f"the array {digest[:12]} is not in the harness's result")
        dtype = np.dtype(DTYPES[record.dtype])
        size = dtype.itemsize * int(np.prod(record.shape, dtype=np.int64))
        try:
            data = base64.b64decode(record.data, validate=True)
        except binascii.Error as error:
            raise ParityError(f"the array {digest[:12]} is not base64: {error}") from error
        data += bytes(max(0, size - len(data)))
        if len(data) != size or hashlib.sha256(data).hexdigest() != digest:
            raise ParityError(f"the array {digest[:12]} is not what its digest and shape say")
        return np.frombuffer(data, dtype).reshape(record.shape)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, fields in declaration order."""
        result: dict[str, Any] = encode(self)
        return result

    def to_json(self) -> str:
        """The file's text; raises `ParityError` if it would not be readable again."""
        return DOCUMENT.text(self)


DOCUMENT = Document(
    HarnessReport, "harness.json", "harness's result", "harness result", SCHEMA_VERSION, ParityError
)


def held(values: np.ndarray) -> tuple[str, HarnessArray]:
    """An array's digest, and the array as the file holds it.

    Raises:
        ParityError: it is of a type that no package has.
    """
    if values.dtype.name not in DTYPES:
        raise ParityError(f"an array of {values.dtype.name}; known: {', '.join(DTYPES)}")
    little = np.ascontiguousarray(values).astype(DTYPES[values.dtype.name], copy=False)
    data = little.tobytes()
    text = base64.b64encode(data.rstrip(b"\0")).decode("ascii")
    kept = HarnessArray(values.dtype.name, tuple(values.shape), text)  # type: ignore[arg-type]
    return hashlib.sha256(data).hexdigest(), kept


def load_harness(path: Path) -> HarnessReport:
    """Read a result of the harness.

    Raises:
        ParityError: it cannot be read, is not JSON, is not of this schema, or says something twice.
    """
    report = DOCUMENT.load(path)
    for unit in report.units:
        for what, names in (
            ("case", [case.id for case in unit.cases]),
            ("run", [f"{s.case}, part {s.part}, run {s.run}" for s in unit.stages]),
        ):
            _once(path, f"{what} on {unit.compute_units}", names)
    _once(path, "compute units", [unit.compute_units for unit in report.units])
    return report


def harness_schema() -> dict[str, Any]:
    """JSON Schema; `data/harness.schema.json` holds it as generated."""
    return DOCUMENT.schema()


def _once(path: Path, what: str, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ParityError(f"{path.name}: the {what} '{twice[0]}' stands there twice")
