"""One object in a process of its own, so that what kills it is an error here and not the end.

A fresh interpreter is started, not a fork: Objective-C does not survive one. Nothing here knows of
Core ML.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any

from kokoro_coreml.coreml.errors import (
    CoreMLCrashError,
    CoreMLError,
    CoreMLTimeoutError,
    CoreMLUnavailableError,
)
from kokoro_coreml.errors import KokoroError, PackageError

REAP_SECONDS = 30.0
"""A crashed process may stay this long, while the system writes its crash report."""

_LAST_BYTES = 8192
_LAST_LINES = 8
"""Of what the process printed, in a message about its end."""

_KNOWN: dict[str, type[KokoroError]] = {
    kind.__name__: kind for kind in (PackageError, CoreMLError, CoreMLUnavailableError)
}
"""Errors that keep their class on the way here; every other one becomes a `CoreMLError`."""


class ChildProcess:
    """An object in a child process; `call` calls its methods.

    Arguments and results must be picklable. The process ends with `close`, or when this one ends.
    """

    def __init__(self, factory: str, arguments: Mapping[str, Any], *, timeout: float) -> None:
        """Start the process and make the object.

        Args:
            factory: "module:function" that returns the object.
            arguments: keyword arguments of the factory.
            timeout: seconds an answer may take, the making of the object included.

        Raises:
            KokoroError: whatever the factory raised, as `call` has it.
        """
        self.timeout = timeout
        self._log = _open_log()
        self._connection, theirs = Pipe()
        with theirs:
            self._process = _start(theirs, self._log)
        try:
            self._request(factory, dict(arguments), "starting")
        except BaseException:
            self.close()
            raise

    def call(self, method: str, *arguments: Any, doing: str) -> Any:
        """Call a method of the object.

        Args:
            method: its name.
            arguments: positional ones.
            doing: what it does, for messages: "loading x".

        Raises:
            CoreMLCrashError: the process ended; its signal is named. No further call is answered.
            CoreMLTimeoutError: no answer in time. The process is killed.
            KokoroError: the method raised; `PackageError` and its kin keep their class.
        """
        return self._request(method, arguments, doing)

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._connection.close()
        self._process.kill()
        self._process.wait()
        self._log.close()

    def _request(self, name: str, arguments: Any, doing: str) -> Any:
        if self._connection.closed:
            raise CoreMLError(f"cannot continue with {doing}: the process has ended before")
        try:
            self._connection.send((name, arguments))
            if not self._connection.poll(self.timeout):
                self.close()
                raise CoreMLTimeoutError(
                    f"no answer within {self.timeout:g} s while {doing}; the process was killed"
                )
            kind, value = self._connection.recv()
        except (EOFError, OSError) as error:
            raise self._crash(doing) from error
        # A half-received answer must not be taken for that of the next request.
        except BaseException:
            self.close()
            raise
        if kind == "error":
            raise _raised(doing, *value)
        return value

    def _crash(self, doing: str) -> CoreMLCrashError:
        try:
            code: int | None = self._process.wait(REAP_SECONDS)
        except subprocess.TimeoutExpired:
            code = None
        words = _last_words(self._log)
        self.close()
        said = f"; it said last: {words}" if words else ""
        return CoreMLCrashError(f"the process was ended by {_cause(code)} while {doing}{said}")


def _open_log() -> IO[bytes]:
    return tempfile.TemporaryFile()


def _start(theirs: Connection, log: IO[bytes]) -> subprocess.Popen[bytes]:
    # -P: a module of the user's folder must not stand in for one of ours.
    command = [sys.executable, "-P", "-m", "kokoro_coreml.coreml.child", str(theirs.fileno())]
    paths = [entry or str(Path.cwd()) for entry in sys.path]
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        pass_fds=[theirs.fileno()],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        start_new_session=True,  # Ctrl-C is for the parent, which then closes the pipe
    )


def _raised(doing: str, name: str, message: str, expected: bool) -> KokoroError:
    if name in _KNOWN:
        return _KNOWN[name](message)
    return CoreMLError(message if expected else f"{name} while {doing}: {message}")


def _cause(code: int | None) -> str:
    if code is None:
        return "an unknown cause"
    if code >= 0:
        return f"itself (exit code {code})"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"{name} (the system does so when memory is short)" if name == "SIGKILL" else name


def _last_words(log: IO[bytes]) -> str:
    size = log.seek(0, os.SEEK_END)
    log.seek(max(0, size - _LAST_BYTES))
    lines = [line.strip() for line in log.read().decode(errors="replace").splitlines()]
    return " | ".join([line for line in lines if line][-_LAST_LINES:])
