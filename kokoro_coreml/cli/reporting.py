"""Progress on standard error: live on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from kokoro_coreml.progress import Advance, Reporter


def error_console() -> Console:
    """A console on the standard error of this moment."""
    return Console(stderr=True, soft_wrap=True, highlight=False)


@dataclass
class RichReporter(Reporter):
    """Shows steps, notes and warnings; steps may be nested.

    On a terminal a running step has a spinner, a bar when its length is known, and the time so far.
    Every step ends as one line with its mark and duration.
    """

    console: Console = field(default_factory=error_console)
    quiet: bool = False
    """Show nothing but warnings."""
    _live: Progress | None = field(default=None, init=False)

    @contextmanager
    def step(self, title: str, total: int | None = None) -> Iterator[Advance]:
        """Bracket one long step, as `Reporter.step` says."""
        if self.quiet:
            yield lambda _units: None
            return
        if not self.console.is_terminal:
            self._say(f"  {title} ...")
        began = time.monotonic()
        try:
            with self._shown(title, total) as advance:
                yield advance
        except BaseException:
            self._say(f"✗ {title} ({time.monotonic() - began:.1f} s)", "red")
            raise
        self._say(f"✓ {title} ({time.monotonic() - began:.1f} s)", "green")

    def note(self, message: str) -> None:
        """Print a line, unless quiet."""
        if not self.quiet:
            self._say(f"  {message}")

    def warn(self, message: str) -> None:
        """Print a warning, also when quiet."""
        self._say(f"warning: {message}", "yellow")

    @contextmanager
    def _shown(self, title: str, total: int | None) -> Iterator[Advance]:
        if not self.console.is_terminal:
            yield lambda _units: None
            return
        outermost = self._live is None
        live = self._live or _progress(self.console)
        task = live.add_task(title, total=total)
        if outermost:
            self._live = live
            live.start()
        try:
            yield lambda units: live.advance(task, units)
        finally:
            live.remove_task(task)
            if outermost:
                live.stop()
                self._live = None

    def _say(self, message: str, style: str = "") -> None:
        # Text, because a path may hold what rich takes for markup
        self.console.print(Text(message, style=style))


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
