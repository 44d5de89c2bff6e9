"""`manifest.json`: what a bundle holds, what it was made from, and what was measured on it.

One object, schema version 1 (`data/manifest.schema.json` is generated from the classes below):

- `schema_version`, `project_version`
- `recipe`: name, and the recipe's full content as a record of what was asked for
- `checkpoint`: `Provenance.to_dict()`, that is source, revision, SHA-256 of what was read, licence
- `sample_rate` in Hz, `samples_per_frame`, `max_phonemes`, `vocabulary` (file with the `vocab` key)
- `packages`: file, cut, stage, precision, deployment target, compute units, and per function its
  bucket and the name, type and shape of every input and output
- `buckets`: every static shape the bundle can be run at; `noise`: algorithm and seed
- `voices`: name, file, rows, columns, type, licence; `sample`: what `sample.wav` says
- `tools`: version of every tool that shaped the bytes
- `parity`: verdict, and per leg its verdict, metrics and thresholds
- `files`: SHA-256 and size in bytes of every file but the manifest itself

It holds no time and no path of the machine, so that equal inputs give equal bytes. Paths are
relative to the bundle, with forward slashes. Metrics are finite numbers: cap an infinite SNR.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from kokoro_coreml.errors import BundleError
from kokoro_coreml.strict_json import parse_json
from kokoro_coreml.tables import Limits, decode, encode, json_schema

SCHEMA_VERSION = 1
"""Version of the manifest format this code writes and reads."""

MANIFEST_NAME = "manifest.json"

Text = Annotated[str, Limits(minimum=1)]
RelativePath = Annotated[
    str,
    Limits(
        pattern=r"(?!\.{1,2}(/|$))[^/\\:\x00-\x1f]+(/(?!\.{1,2}(/|$))[^/\\:\x00-\x1f]+)*",
        meaning="a path inside the bundle, with forward slashes and without '.' or '..'",
    ),
]
Sha256 = Annotated[
    str, Limits(pattern=r"[0-9a-f]{64}", meaning="a SHA-256 of 64 lower-case hexadecimal digits")
]
Positive = Annotated[int, Limits(minimum=1, maximum=2**31 - 1)]
Verdict = Literal["passed", "failed", "not run"]
DType = Literal["float32", "float16", "int32"]


@dataclass(frozen=True)
class RecipeRecord:
    """The recipe that was followed; `content` is a record, not an interface."""

    name: Text
    content: Mapping[str, Any]


@dataclass(frozen=True)
class CheckpointRecord:
    """Where the weights came from; the fields of `checkpoint.types.Provenance`."""

    source: Text
    location: Text
    revision: str | None
    files: Mapping[str, Sha256]
    license: Text
    fallback_from: str | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class BucketRecord:
    """A static shape; an axis that a stage does not have is null, but not both."""

    tokens: Positive | None
    frames: Positive | None


@dataclass(frozen=True)
class TensorRecord:
    """One input or output of a function."""

    name: Text
    dtype: DType
    shape: tuple[Positive, ...]


@dataclass(frozen=True)
class FunctionRecord:
    """One function of a package; a package for iOS 17 has only `main`."""

    name: Text
    bucket: BucketRecord
    inputs: Annotated[tuple[TensorRecord, ...], Limits(minimum=1)]
    outputs: Annotated[tuple[TensorRecord, ...], Limits(minimum=1)]


@dataclass(frozen=True)
class PackageRecord:
    """One `.mlpackage`; `stage` is null where the cut is one package."""

    file: RelativePath
    cut: Text
    stage: str | None
    functions: Annotated[tuple[FunctionRecord, ...], Limits(minimum=1)]
    precision: Text
    minimum_deployment_target: Text
    compute_units: Literal["ALL", "CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE"]


@dataclass(frozen=True)
class NoiseRecord:
    """How the constant noise was drawn."""

    algorithm: Text
    seed: Annotated[int, Limits(minimum=0, maximum=2**63 - 1)]


@dataclass(frozen=True)
class VoiceRecord:
    """One voice pack: raw little-endian values, row by row."""

    name: Text
    file: RelativePath
    rows: Positive
    columns: Positive
    dtype: DType
    license: Text


@dataclass(frozen=True)
class SampleRecord:
    """What the converted network says in the sample file."""

    file: RelativePath
    text: Text
    phonemes: Text
    voice: Text
    speed: float


@dataclass(frozen=True)
class LegRecord:
    """One leg of parity. Metrics and thresholds carry their unit in the name (`audio_snr_db`)."""

    name: Text
    verdict: Verdict
    metrics: Mapping[str, float]
    thresholds: Mapping[str, float]
    detail: str | None = None
    """Why it failed or was not run."""


@dataclass(frozen=True)
class ParityRecord:
    """Summary of what was executed and compared."""

    verdict: Verdict
    runtime: Text
    """`executor`, or `coreml` on a Mac."""
    legs: tuple[LegRecord, ...]


@dataclass(frozen=True)
class FileRecord:
    """Content and size of one file."""

    sha256: Sha256
    bytes: Annotated[int, Limits(minimum=0, maximum=2**63 - 1)]


@dataclass(frozen=True)
class Manifest:
    """The whole of `manifest.json`."""

    schema_version: Literal[1]
    project_version: Text
    recipe: RecipeRecord
    checkpoint: CheckpointRecord
    sample_rate: Positive
    samples_per_frame: Positive
    max_phonemes: Positive
    vocabulary: RelativePath
    packages: Annotated[tuple[PackageRecord, ...], Limits(minimum=1)]
    buckets: Annotated[tuple[BucketRecord, ...], Limits(minimum=1)]
    noise: NoiseRecord
    voices: tuple[VoiceRecord, ...]
    sample: SampleRecord | None
    tools: Mapping[str, Text]
    parity: ParityRecord
    files: Mapping[RelativePath, FileRecord]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, fields in declaration order, tables sorted by key."""
        result: dict[str, Any] = encode(self)
        return result

    def to_json(self) -> str:
        """The file's text, the same for equal manifests.

        Raises:
            BundleError: the manifest would not be readable again (a metric that is NaN or
                infinite, an absolute path, a package or voice without its files).
        """
        raw = self.to_dict()
        parse_manifest(raw)
        try:
            text = json.dumps(raw, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
            parse_json(text)
        except (ValueError, TypeError) as error:
            raise BundleError(f"{MANIFEST_NAME}: cannot be written as JSON ({error})") from error
        return text


def read_manifest(bundle: Path) -> Manifest:
    """Read and check the manifest of a bundle folder.

    Raises:
        BundleError: there is none, it is not valid JSON, it has another schema version, or
            something in it is missing, unknown, of the wrong type or contradictory.
    """
    path = bundle / MANIFEST_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BundleError(
            f"'{bundle}' is not a bundle: cannot read {MANIFEST_NAME} ({error.strerror})"
        ) from error
    except UnicodeDecodeError as error:
        raise BundleError(f"{path}: not UTF-8 ({error})") from error
    try:
        raw = parse_json(text)
    except ValueError as error:
        raise BundleError(f"{path}: not valid JSON ({error})") from error
    return parse_manifest(raw, document=str(path))


def parse_manifest(raw: object, *, document: str = MANIFEST_NAME) -> Manifest:
    """Check a parsed manifest; raises `BundleError` as `read_manifest` does."""
    version = raw.get("schema_version") if isinstance(raw, Mapping) else None
    if type(version) is int and version != SCHEMA_VERSION:
        raise BundleError(
            f"{document}: manifest schema version {version}, but this version of kokoro-coreml "
            f"reads {SCHEMA_VERSION}; use the version that wrote the bundle, or convert again"
        )
    manifest = decode(Manifest, raw, document=document, error=BundleError)
    _check(manifest, document)
    return manifest


def manifest_schema() -> dict[str, Any]:
    """JSON Schema of the manifest; `data/manifest.schema.json` holds it as generated."""
    header = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"kokoro-coreml bundle manifest, schema version {SCHEMA_VERSION}",
    }
    return header | json_schema(Manifest)


def _check(manifest: Manifest, document: str) -> None:
    for problem in (
        *_path_problems(manifest),
        *_bucket_problems(manifest),
        *_name_problems(manifest),
    ):
        raise BundleError(f"{document}: {problem}")


def _path_problems(manifest: Manifest) -> list[str]:
    files = manifest.files
    problems = []
    if MANIFEST_NAME in files:
        problems.append(f"'files' lists {MANIFEST_NAME}, which cannot hold its own hash")
    for path in [manifest.vocabulary, *(v.file for v in manifest.voices)]:
        if path not in files:
            problems.append(f"'{path}' is used but is not among 'files'")
    if manifest.sample is not None and manifest.sample.file not in files:
        problems.append(f"'{manifest.sample.file}' is used but is not among 'files'")
    for package in manifest.packages:
        if not any(path.startswith(f"{package.file}/") for path in files):
            problems.append(f"package '{package.file}' has no file among 'files'")
    return problems


def _bucket_problems(manifest: Manifest) -> list[str]:
    problems = []
    used = [f.bucket for package in manifest.packages for f in package.functions]
    for bucket in [*manifest.buckets, *used]:
        if bucket.tokens is None and bucket.frames is None:
            problems.append("a bucket has neither tokens nor frames")
    for bucket in used:
        if bucket not in manifest.buckets:
            problems.append(
                f"a function has the bucket {bucket.tokens} x {bucket.frames} (tokens x frames), "
                "which is not among 'buckets'"
            )
    return problems


def _name_problems(manifest: Manifest) -> list[str]:
    groups: list[tuple[str, list[str]]] = [
        ("package", [p.file for p in manifest.packages]),
        ("voice", [v.name for v in manifest.voices]),
        ("leg", [leg.name for leg in manifest.parity.legs]),
    ]
    for package in manifest.packages:
        groups.append((f"function of {package.file}", [f.name for f in package.functions]))
        for function in package.functions:
            names = [t.name for t in (*function.inputs, *function.outputs)]
            groups.append((f"tensor of {package.file}:{function.name}", names))
    return [
        f"the {kind} '{name}' occurs twice"
        for kind, names in groups
        for name in sorted({n for n in names if names.count(n) > 1})
    ]
