"""Speech as a WAV file, whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from kokoro_coreml.audio import write_wav
from kokoro_coreml.errors import BundleError
from kokoro_coreml.progress import SILENT, Reporter
from kokoro_coreml.synthesis.speech import Speech


def write_speech(
    path: Path, speech: Speech, *, force: bool = False, reporter: Reporter = SILENT
) -> None:
    """Write speech as a WAV file, whole or not at all.

    Raises:
        BundleError: the file exists and `force` is not given, or it cannot be written.
    """
    check_writable(path, force=force)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        write_wav(partial, speech.audio, reporter=reporter)
        partial.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise BundleError(f"cannot write '{path}': {reason}; choose another place") from error
    finally:
        partial.unlink(missing_ok=True)


def check_writable(path: Path, *, force: bool) -> None:
    """Refuse a place for a file before any work is done for it; raises as `write_speech` does."""
    if path.is_dir() or not path.name:
        raise BundleError(f"'{path}' is a folder; give the path of a WAV file")
    if path.exists() and not force:
        raise BundleError(f"'{path}' exists already; use --force to replace it")
    if not path.parent.is_dir():
        raise BundleError(f"cannot write '{path}': {os.strerror(errno.ENOENT)}; make its folder")
