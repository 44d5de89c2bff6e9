"""Rebuilt weights on disk, so that a graph is taken apart once per machine.

An entry is trusted only if its bytes have the digest noted when it was written; anything else is
rebuilt. Without a usable folder everything works, only slower.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from kokoro_coreml.checkpoint.files import Parts, flatten, sha256_of, unflatten
from kokoro_coreml.errors import CheckpointError
from kokoro_coreml.progress import SILENT, Reporter

CACHE_VARIABLE = "KOKORO_COREML_CACHE"

REBUILD_VERSION = 1
"""Raise it when what is rebuilt from the same source changes."""

LOCK_SECONDS = 300.0
"""Wait for another process that rebuilds the same entry; a rebuild takes seconds."""

Built = tuple[Parts, tuple[str, ...]]


def cache_folder() -> Path:
    """Return the cache folder: `$KOKORO_COREML_CACHE`, else the user's cache folder."""
    override = os.environ.get(CACHE_VARIABLE)
    return Path(override) if override else Path(platformdirs.user_cache_dir("kokoro-coreml"))


def cached(key: str, build: Callable[[], Built], *, reporter: Reporter = SILENT) -> Built:
    """Return the entry `key`, building and keeping it if there is no sound one.

    One process builds while others of the same key wait; the file appears whole or not at all.

    Args:
        key: digests of everything the result depends on.
        build: makes the state dicts and the notes on them.
        reporter: warned when an entry is damaged or the folder cannot be used.
    """
    folder = cache_folder() / "weights"
    entry = folder / f"{key}-v{REBUILD_VERSION}.safetensors"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(entry.with_suffix(".lock"), timeout=LOCK_SECONDS)
        lock.acquire()
    except (OSError, Timeout) as error:
        reporter.warn(f"Rebuilt weights are not kept: the cache cannot be used ({error}).")
        return build()
    try:
        found = _read(entry, reporter)
        if found is None:
            found = build()
            _write(entry, found, reporter)
        return found
    finally:
        lock.release()


def _read(entry: Path, reporter: Reporter) -> Built | None:
    sidecar = entry.with_suffix(".json")
    if not entry.exists():
        return None
    try:
        record = json.loads(sidecar.read_bytes())
        if sha256_of(entry) != record["sha256"]:
            raise CheckpointError("its digest is not the one noted when it was written")
        notes = tuple(str(note) for note in record["notes"])
        return unflatten(load_file(entry, device="cpu")), notes
    except (OSError, ValueError, LookupError, TypeError, SafetensorError, CheckpointError) as error:
        reporter.warn(f"The cached weights {entry.name} are damaged ({error}); rebuilding them.")
        return None


def _write(entry: Path, built: Built, reporter: Reporter) -> None:
    state, notes = built
    sidecar = entry.with_suffix(".json")
    fresh = [path.with_name(f"{path.name}.{os.getpid()}.tmp") for path in (entry, sidecar)]
    try:
        save_file(flatten(state), fresh[0])
        record = {"sha256": sha256_of(fresh[0]), "notes": list(notes)}
        fresh[1].write_text(json.dumps(record, indent=1), encoding="utf-8")
        # A crash between the two leaves a pair that does not match, which is rebuilt.
        fresh[0].replace(entry)
        fresh[1].replace(sidecar)
    except (OSError, SafetensorError) as error:
        reporter.warn(f"Rebuilt weights are not kept: the cache cannot be written ({error}).")
    finally:
        for path in fresh:
            path.unlink(missing_ok=True)
