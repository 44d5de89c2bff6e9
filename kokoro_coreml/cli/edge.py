"""The edge between the program and its user: exit codes, messages, signals, and what goes where.

Standard output carries results only (with `--json` exactly one JSON object); everything meant for a
person goes to standard error.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import logging
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from rich.text import Text

from kokoro_coreml import errors
from kokoro_coreml.cli.reporting import RichReporter, error_console
from kokoro_coreml.errors import BundleError, KokoroError

USAGE = 2
INTERRUPTED = 130
TERMINATED = 143
DEFECT = 1


class TerminatedError(KeyboardInterrupt):
    """SIGTERM arrived; unwinds as Ctrl-C does."""


class StoppedError(Exception):
    """Ctrl-C or SIGTERM, once everything inside has been cleaned up."""

    def __init__(self, cause: KeyboardInterrupt) -> None:
        """Remember whether it was Ctrl-C or SIGTERM."""
        terminated = isinstance(cause, TerminatedError)
        super().__init__("stopped; an earlier bundle is unchanged")
        self.title = "terminated" if terminated else "interrupted"
        self.exit_code = TERMINATED if terminated else INTERRUPTED


def exit_codes() -> dict[int, str]:
    """Every exit code of the command and its meaning, sorted by code."""
    codes = {
        0: "Success.",
        DEFECT: "A defect of this project; run again with --debug and report it.",
        USAGE: "The command line is wrong.",
        INTERRUPTED: "Interrupted (Ctrl-C).",
        TERMINATED: "Terminated (SIGTERM).",
    }
    for member in vars(errors).values():
        if inspect.isclass(member) and issubclass(member, KokoroError) and member != KokoroError:
            codes[member.exit_code] = " ".join((member.__doc__ or "").split())
    return dict(sorted(codes.items()))


@dataclass
class Edge:
    """How one run of the command speaks to its user."""

    json: bool = False
    quiet: bool = False
    debug: bool = False

    @property
    def reporter(self) -> RichReporter:
        """Progress on standard error."""
        return RichReporter(quiet=self.quiet)

    def result(self, record: Mapping[str, Any], text: str) -> None:
        """Print a result: the record with `--json`, else the text on standard error."""
        if self.json:
            self.output(record)
        elif not self.quiet:
            error_console().print(Text(text))

    def output(self, record: Mapping[str, Any]) -> None:
        """Print one JSON object on standard output."""
        print(json.dumps(record, indent=2, ensure_ascii=False), file=sys.stdout, flush=True)

    def failure(self, error: BaseException, *, kind: str, message: str, code: int) -> int:
        """Report a failure once, with its traceback only when debugging; returns the exit code."""
        if self.debug:
            traceback.print_exception(error)
        if self.json:
            name = type(error).__name__
            record = {"type": name, "title": kind, "message": message, "exit_code": code}
            self.output({"error": record})
        else:
            line = Text("error: ", style="bold red").append(f"{kind}: {message}", style="default")
            error_console().print(line)
        return code


@contextlib.contextmanager
def working(edge: Edge) -> Iterator[None]:
    """Keep libraries from writing to standard output, and their chatter from standard error."""
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        if not edge.debug:
            os.environ.setdefault("TQDM_DISABLE", "1")
            os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
            logging.getLogger("coremltools").setLevel(logging.CRITICAL)
            warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM unwind the stack, so that temporary folders are removed."""

    def unwind(_number: int, _frame: FrameType | None) -> None:
        raise TerminatedError

    try:
        before = signal.signal(signal.SIGTERM, unwind)
    except ValueError:  # only the main thread may
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def require_writable(path: Path) -> None:
    """Refuse a path that no file can be written to, before anything is run; `BundleError`."""
    if path.is_dir() or not path.name:
        raise BundleError(f"'{path}' is a folder; give the path of a file")
    if not path.parent.is_dir():
        raise BundleError(f"cannot write '{path}': its folder does not exist; make it first")


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        write(partial)
        partial.replace(path)
    except OSError as error:
        raise BundleError(f"cannot write '{path}': {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)
