"""`load_checkpoint`: one function for every source of weights."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from kokoro_coreml.checkpoint import hub, packaged
from kokoro_coreml.checkpoint.cache import Built, cached
from kokoro_coreml.checkpoint.files import (
    Parts,
    check_digest,
    read_pth,
    read_safetensors,
    sha256_of,
)
from kokoro_coreml.checkpoint.onnx_export import read_onnx
from kokoro_coreml.checkpoint.schema import canonical
from kokoro_coreml.checkpoint.types import Checkpoint, Provenance
from kokoro_coreml.config import ModelConfig
from kokoro_coreml.errors import CheckpointError, NetworkError
from kokoro_coreml.progress import SILENT, Reporter

PACKAGED = "packaged"
CONFIG_NAME = "config.json"
SUFFIXES = (".pth", ".safetensors", ".onnx")
HUB_ID = re.compile(r"(?P<repo>[\w-][\w.-]*/[\w-][\w.-]*)(?:@(?P<revision>[\w./-]+))?")

LICENSED_FILES = {
    "496dba118d1a58f5f3db2efc88dbdc216e0483fc89fe6e47ee1f2c53f18ad1e4": "Apache-2.0",
    packaged.ONNX_DIGEST: packaged.LICENSE,
}
"""Licence of files known by their SHA-256: Kokoro-82M v1.0's `.pth`, and its int8 export."""


def load_checkpoint(
    spec: str | Path,
    *,
    revision: str | None = None,
    sha256: Mapping[str, str] | None = None,
    config: Path | None = None,
    fallback: str | None = None,
    reporter: Reporter = SILENT,
) -> Checkpoint:
    """Load weights, check every tensor against the configuration, and say where they came from.

    Args:
        spec: an existing folder (with `config.json` and exactly one `.pth`, `.safetensors` or
            `.onnx`) or file of these kinds; the word `packaged`; or a Hub id `owner/name`,
            optionally `owner/name@revision`.
        revision: branch, tag or commit, for a Hub id only.
        sha256: digest by file name; each of these files that is read must have it.
        config: the `config.json` of a file that has none beside it.
        fallback: another spec, used if and only if the Hub cannot be reached. It is reported with
            `reporter.warn` and stands in `provenance.fallback_from`. Pins do not apply to it.

    Raises:
        NetworkError: the Hub cannot be reached and there is no fallback.
        CheckpointError: anything missing, damaged, foreign, or not matching its configuration.
    """
    try:
        return _load(spec, revision, sha256, config, reporter)
    except NetworkError as error:
        if fallback is None:
            raise
        reporter.warn(f"{error}. Using {fallback!r} instead.")
    loaded = _load(fallback, None, None, None, reporter)
    asked = f"{spec}@{revision}" if revision and "@" not in str(spec) else str(spec)
    return replace(loaded, provenance=replace(loaded.provenance, fallback_from=asked))


def _load(
    spec: str | Path,
    revision: str | None,
    sha256: Mapping[str, str] | None,
    config: Path | None,
    reporter: Reporter,
) -> Checkpoint:
    path = Path(spec).expanduser()
    remote = HUB_ID.fullmatch(str(spec)) if isinstance(spec, str) else None
    is_hub = remote is not None and path.suffix not in SUFFIXES and not path.exists()
    if revision is not None and not is_hub:
        raise CheckpointError(f"{spec}: a revision ({revision}) goes only with a Hub id")
    if config is not None and not path.is_file():
        raise CheckpointError(f"{spec}: a separate config goes only with a file of weights")
    if spec == PACKAGED:
        return _from_packaged(sha256, reporter)
    if path.is_dir():
        return _from_file(_only_weights(path), path / CONFIG_NAME, sha256, reporter)
    if path.is_file():
        return _from_file(path, config or path.parent / CONFIG_NAME, sha256, reporter)
    if is_hub and remote is not None:
        at = remote["revision"]
        if at and revision and at != revision:
            raise CheckpointError(f"{spec}: asks for revision {at}, but {revision} is given too")
        return _from_hub(remote["repo"], revision or at, sha256, reporter)
    raise CheckpointError(
        f"{str(spec)!r}: no such file or folder, and not a Hub id (owner/name) or {PACKAGED!r}"
    )


def _from_hub(
    repo: str, revision: str | None, sha256: Mapping[str, str] | None, reporter: Reporter
) -> Checkpoint:
    files = hub.fetch_checkpoint(repo, revision, reporter=reporter)
    loaded = _from_file(files.weights, files.config, sha256, reporter)
    provenance = replace(
        loaded.provenance,
        source="hub",
        location=repo,
        revision=files.commit,
        license=files.license,
    )
    return replace(loaded, provenance=provenance)


def _from_packaged(sha256: Mapping[str, str] | None, reporter: Reporter) -> Checkpoint:
    text = packaged.packaged_config()
    check_digest(CONFIG_NAME, packaged.CONFIG_DIGEST, sha256)
    with reporter.step("Load the packaged weights"):
        data = packaged.packaged_onnx()
        state, notes = _from_onnx(data, packaged.ONNX_DIGEST, text, "packaged weights", reporter)
    parts = {f"{m}/{packaged.PART_FILE}": d for m, d in packaged.PART_DIGESTS.items()}
    return Checkpoint(
        config=ModelConfig.from_json(text, source="packaged config.json"),
        state=state,
        provenance=Provenance(
            source=PACKAGED,
            location=packaged.LOCATION,
            revision=None,
            files={CONFIG_NAME: packaged.CONFIG_DIGEST, **parts},
            license=packaged.LICENSE,
            notes=notes,
        ),
    )


def _from_file(
    weights: Path, config_path: Path, sha256: Mapping[str, str] | None, reporter: Reporter
) -> Checkpoint:
    if weights.suffix not in SUFFIXES:
        raise CheckpointError(
            f"{weights.name}: unknown kind of file, expected one of {', '.join(SUFFIXES)}"
        )
    if not config_path.is_file():
        raise CheckpointError(
            f"{weights.name}: no {config_path.name} beside it; put the model's config.json there, "
            "or name one"
        )
    files = {path.name: sha256_of(path) for path in (config_path, weights)}
    for name, found in files.items():
        check_digest(name, found, sha256)
    _check_pins(files, sha256 or {})
    text = config_path.read_bytes()
    config = ModelConfig.from_json(text, source=config_path.name)
    digest = files[weights.name]
    with reporter.step(f"Load {weights.name}"):
        if weights.suffix == ".onnx":
            data = weights.read_bytes()
            state, notes = _from_onnx(data, digest, text, weights.name, reporter)
        else:
            read = read_pth if weights.suffix == ".pth" else read_safetensors
            checked, notes = canonical(read(weights), config, source=weights.name)
            state = {part: dict(sub) for part, sub in checked.items()}
    return Checkpoint(
        config=config,
        state=state,
        provenance=Provenance(
            source="onnx" if weights.suffix == ".onnx" else "file",
            location=weights.name,
            revision=None,
            files=files,
            license=LICENSED_FILES.get(digest, "unknown"),
            notes=notes,
        ),
    )


def _from_onnx(
    data: bytes, digest: str, config_text: bytes, source: str, reporter: Reporter
) -> Built:
    """Rebuild state dicts, or take them from the cache; checked against the config either way."""
    config = ModelConfig.from_json(config_text, source=CONFIG_NAME)

    def build() -> Built:
        with reporter.step(f"Rebuild the weights from the ONNX graph of {source}"):
            rebuilt, notes = read_onnx(data, config, source=source)
            state, more = canonical(rebuilt, config, source=source)
        return {part: dict(sub) for part, sub in state.items()}, (*notes, *more)

    key = f"{digest[:32]}-{hashlib.sha256(config_text).hexdigest()[:16]}"
    found, notes = cached(key, build, reporter=reporter)
    state, _ = canonical(found, config, source=source)
    parts: Parts = {part: dict(sub) for part, sub in state.items()}
    return parts, notes


def _only_weights(folder: Path) -> Path:
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    found = [name for name in names if Path(name).suffix in SUFFIXES]
    if len(found) != 1:
        raise CheckpointError(
            f"{folder.name}: expected exactly one of {', '.join('*' + s for s in SUFFIXES)} "
            f"and {CONFIG_NAME}, found {', '.join(found or names[:10]) or 'an empty folder'}"
        )
    return folder / found[0]


def _check_pins(files: Mapping[str, str], sha256: Mapping[str, str]) -> None:
    """Pins are for all files or for none, so that a misspelt name cannot leave one unpinned."""
    pins = {name for name in sha256 if not name.startswith("voices/")}
    if pins and pins != set(files):
        raise CheckpointError(
            f"SHA-256 is pinned for {sorted(pins)}, but the files are {sorted(files)}; "
            "pin each of them by its name"
        )
