"""Finished stages on disk, each under the digest of everything it was made from.

A stage that was converted before, from the same weights, code, options and tools, is copied
instead of converted. Every file is compared with the digest noted when it was stored; what does not
agree is removed and made anew. No error of the cache is an error of the conversion: without a
usable folder everything works, only slower.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from kokoro_coreml.fingerprint import Key
from kokoro_coreml.progress import SILENT, Reporter

DEFAULT_LIMIT = 8 * 2**30
"""Bytes; two dozen of the largest stages, or some hundred of the smaller ones."""

LOCK_SECONDS = 300.0
"""Wait for another process that reads or evicts; that takes seconds."""

ABANDONED_SECONDS = 24 * 3600.0
"""Age at which a half-written entry cannot belong to a process that still runs."""

_PACKAGE = "package"
_RECORD = "record.json"
_ENTRY = re.compile(r"[0-9a-f]{64}")
_SCRATCH = re.compile(r"\.(new|old)-[0-9a-f]{32}")
_PROBLEMS = (OSError, NotImplementedError)
"""What an unusable folder raises; the second where a file system knows no locks."""


class StageCache:
    """A folder of packages; several processes may use it at once."""

    def __init__(
        self, folder: Path, *, limit_bytes: int = DEFAULT_LIMIT, reporter: Reporter = SILENT
    ) -> None:
        """Use `folder`, which is made when something is stored.

        Args:
            folder: holds nothing but the cache.
            limit_bytes: what all entries may take; those used longest ago go first.
            reporter: gets a note of everything that went wrong.
        """
        self.folder = folder
        self.limit_bytes = limit_bytes
        self._reporter = reporter
        self._usable = True

    @classmethod
    def default(cls, *, reporter: Reporter = SILENT) -> StageCache:
        """The cache in the user's cache folder, or in `$KOKORO_COREML_CACHE`."""
        from kokoro_coreml.checkpoint.cache import cache_folder  # brings upstream's network along

        return cls(cache_folder() / "stages", reporter=reporter)

    def get(self, key: Key, target: Path) -> bool:
        """Copy the package of `key` to `target`, where nothing may be yet; it appears whole.

        Returns:
            False if there is none, or it was damaged (it is removed) or cannot be read.
        """
        entry = self.folder / str(key)
        if not (self._usable and entry.is_dir()):
            return False
        fresh = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        try:
            with self._locked():
                if not entry.is_dir():
                    return False
                if damage := _damage(entry, key):
                    self._note(f"the stored stage {key} is damaged and removed: {damage}")
                    self._remove(entry)
                    return False
                shutil.copytree(entry / _PACKAGE, fresh, copy_function=shutil.copy)
                _touch(entry)
            fresh.rename(target)
        except _PROBLEMS as error:
            self._give_up(error)
            return False
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        return True

    def put(self, key: Key, package: Path) -> None:
        """Store a package (a folder) under `key`, unless one is there; others may go for it.

        A failure is noted and leaves the cache as it was.
        """
        if not self._usable:
            return
        fresh = self.folder / f".new-{uuid.uuid4().hex}"
        try:
            size = _size(package)
            if size > self.limit_bytes:
                self._note(f"{size} bytes are more than the {self.limit_bytes} it may take")
                return
            fresh.mkdir(parents=True)
            shutil.copytree(package, fresh / _PACKAGE, symlinks=True, copy_function=shutil.copy)
            record = {"key": str(key), "package": _contents(fresh / _PACKAGE)}
            (fresh / _RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")
            with self._locked():
                self._store(fresh, self.folder / str(key))
                self._evict()
        except _PROBLEMS as error:
            self._give_up(error)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)

    def _entries(self) -> list[Path]:
        """Of the cache, those used longest ago first."""
        found = [path for path in self.folder.iterdir() if _ENTRY.fullmatch(path.name)]
        return sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name))

    def _abandoned(self) -> Iterator[Path]:
        """What processes left behind that ended in the middle of their work."""
        for path in self.folder.iterdir():
            with suppress(FileNotFoundError):  # its owner is about to move it
                if (
                    _SCRATCH.fullmatch(path.name)
                    and time.time() - path.stat().st_mtime > ABANDONED_SECONDS
                ):
                    yield path

    def _store(self, fresh: Path, entry: Path) -> None:
        if entry.is_dir():
            _touch(entry)  # another process was quicker
            return
        _touch(fresh)
        fresh.rename(entry)

    def _evict(self) -> None:
        for path in self._abandoned():
            self._remove(path)
        entries = self._entries()
        total = sum(_size(entry) for entry in entries)
        for entry in entries:
            if total <= self.limit_bytes:
                break
            total -= _size(entry)
            self._remove(entry)

    def _remove(self, path: Path) -> None:
        """Take it out at once, then delete it: a crash leaves no half entry."""
        old = self.folder / f".old-{uuid.uuid4().hex}"
        path.rename(old)
        shutil.rmtree(old)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / "lock", timeout=LOCK_SECONDS):
            yield

    def _give_up(self, error: Exception) -> None:
        """Once only: a folder that fails would fail, or be waited for, at every stage."""
        self._usable = False
        self._note(f"it cannot be used and is left alone from here on ({error})")

    def _note(self, message: str) -> None:
        self._reporter.note(f"Cache of finished stages: {message}.")


def _contents(folder: Path) -> dict[str, str]:
    """Relative path of everything in a folder to the SHA-256 of a file, or "folder"; sorted.

    Raises:
        OSError: the folder is not there, cannot be read, or holds something else, such as a link.
    """
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise OSError(f"'{path}' is neither a file nor a folder")
        found[name] = "folder" if path.is_dir() else _sha256(path)
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _damage(entry: Path, key: Key) -> str | None:
    """What of an entry is not as it was stored; None if nothing."""
    try:
        record: Any = json.loads((entry / _RECORD).read_bytes())
        expected, found = dict(record["package"]), _contents(entry / _PACKAGE)
        if record["key"] != str(key):
            return f"it was stored under {record['key']}"
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        return f"it cannot be read, {error!r}"
    names = sorted({**expected, **found})
    changed = [name for name in names if expected.get(name) != found.get(name)]
    return f"changed, missing or new: {', '.join(changed)}" if changed else None


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _touch(entry: Path) -> None:
    """Note that the entry is used now, to the nanosecond where the file system keeps it."""
    now = time.time_ns()
    os.utime(entry, ns=(now, now))
