"""Writing a folder beside its final place and moving it there when it is whole.

The work folder has a fixed name, `.NAME.partial`, and its writer holds a lock on it for as long as
it exists. The lock dies with the process, so a folder that can be locked is the leftover of a
killed run. Inside, `new/` is being filled, and `earlier/` is the replaced bundle during the swap.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kokoro_coreml.errors import BundleError, KokoroError
from kokoro_coreml.manifest import MANIFEST_NAME

DEFAULT_NEED_BYTES = 1 << 30
"""Room asked for when the caller knows no better: a float32 bundle of 82 M weights, three times."""

FULL_BELOW_BYTES = 1 << 20
"""With less room than this left, a failed write is put down to the disk."""

_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.ENOLCK: "its file system has no locks",
}
_MANIFEST_KEYS = {"schema_version", "project_version", "recipe", "packages", "files"}
_NEXT = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.ENOLCK: "use a local disk",
}


@contextmanager
def staged(out: Path, *, force: bool, need_bytes: int = DEFAULT_NEED_BYTES) -> Iterator[Path]:
    """Yield an empty folder that becomes `out` when the block ends well.

    On any exception, an interrupt included, the folder is removed and an earlier bundle at `out`
    stays as it was. Leftovers of a killed run are cleaned up first.

    Args:
        out: the bundle's final place; missing parents are made.
        force: replace an earlier bundle. Anything that is not a bundle is never replaced.
        need_bytes: free space to insist on before starting.

    Raises:
        BundleError: `out` is occupied, another process is writing it, its parent cannot be
            written to, or the disk has or leaves too little room.
    """
    final = Path(os.path.realpath(out))
    if not final.name:
        raise BundleError(f"cannot write a bundle to '{out}'; give the path of a folder")
    with _named_failures(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        work, lock = _claim(final)
        try:
            _recover(work, final)
            _check_free(final, force=force)
            _check_room(final.parent, need_bytes)
            new = work / "new"
            new.mkdir()
            yield new
            _sync(new)
            _move(work, final, force=force)
        finally:
            # removed before the lock is given up, so that the next writer finds nothing of ours;
            # kept where the earlier bundle is still in it, for `_recover` to put back
            if final.exists() or not (work / "earlier").exists():
                shutil.rmtree(work, ignore_errors=True)
            os.close(lock)


def is_bundle(folder: Path) -> bool:
    """Whether a folder was written by this project, by the keys of its manifest."""
    try:
        raw = json.loads((folder / MANIFEST_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(raw, dict) and raw.keys() >= _MANIFEST_KEYS


def _claim(final: Path) -> tuple[Path, int]:
    """Make the work folder, or take over a dead one, and lock it."""
    work = final.with_name(f".{final.name}.partial")
    while True:
        work.mkdir(exist_ok=True)
        try:
            lock = os.open(work, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except FileNotFoundError:
            continue  # its owner finished between the two calls
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            raise BundleError(
                f"another process is writing '{final}'; wait for it, or choose another place"
            ) from error
        if _is_same(work, lock):
            return work, lock
        os.close(lock)  # locked what its owner had just removed


def _is_same(folder: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(folder.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _recover(work: Path, final: Path) -> None:
    """Put back what a run that was killed during its swap had set aside, and clear the rest."""
    earlier = work / "earlier"
    if earlier.exists() and not final.exists():
        earlier.rename(final)
    for entry in work.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _check_free(final: Path, *, force: bool) -> None:
    if not final.exists():
        return
    if not final.is_dir():
        raise BundleError(f"'{final}' is a file; expected a folder, or nothing, in its place")
    if not any(final.iterdir()):
        return
    if not is_bundle(final):
        raise BundleError(
            f"'{final}' is not empty and is not a bundle, so it is never overwritten; "
            "choose another place"
        )
    if not force:
        raise BundleError(f"'{final}' holds a bundle already; use --force to replace it")


def _check_room(parent: Path, need_bytes: int) -> None:
    free = shutil.disk_usage(parent).free
    if free < need_bytes:
        raise BundleError(
            f"'{parent}' has {_megabytes(free)} free, but converting needs "
            f"{_megabytes(need_bytes)}; free some space or choose another place"
        )


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"


def _sync(folder: Path) -> None:
    for root, _folders, files in os.walk(folder):
        for path in (*(Path(root, name) for name in files), Path(root)):
            _sync_one(path)


def _sync_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _move(work: Path, final: Path, *, force: bool) -> None:
    _check_free(final, force=force)
    earlier = work / "earlier"
    try:
        if final.exists():
            final.rename(earlier)
        (work / "new").rename(final)
    except BaseException:
        if earlier.exists() and not final.exists():
            earlier.rename(final)
        raise
    _sync_one(final.parent)


@contextmanager
def _named_failures(final: Path) -> Iterator[None]:
    try:
        yield
    except KokoroError:
        raise
    except OSError as error:
        if error.errno in _REASONS and _concerns(error, final):
            raise _failure(final, error.errno) from error
        raise
    except Exception as error:
        # native writers (coremltools, libsndfile) report a full disk as a bare RuntimeError
        if shutil.disk_usage(final.parent).free < FULL_BELOW_BYTES:
            raise _failure(final, errno.ENOSPC) from error
        raise


def _concerns(error: OSError, final: Path) -> bool:
    """Whether a failure is about the bundle's place: a refusal elsewhere is someone else's."""
    if error.errno not in (errno.EACCES, errno.EPERM) or error.filename is None:
        return True
    ancestors = (final.parent, *final.parent.parents)
    place = Path(os.path.realpath(os.fspath(error.filename)))
    return place.is_relative_to(final.parent) or place in ancestors


def _failure(final: Path, code: int) -> BundleError:
    advice = _NEXT.get(code, "make its folder writable")
    return BundleError(
        f"cannot write '{final}': {_REASONS[code]}; {advice} or choose another place. "
        "An earlier bundle there is unchanged"
    )
