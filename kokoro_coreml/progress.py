"""What a long function tells its caller while it works; the base class is silent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Advance = Callable[[int], None]
"""Called with the units of work done since the last call."""


class Reporter:
    """Receives steps, notes and warnings. Subclass it to show them; this one shows nothing."""

    @contextmanager
    def step(self, title: str, total: int | None = None) -> Iterator[Advance]:
        """Bracket one long step.

        Args:
            title: what is being done, as a person would say it.
            total: units of work, or None when the length is unknown.

        Yields:
            A function to call with the number of units done since the last call.
        """
        yield lambda _units: None

    def note(self, message: str) -> None:
        """Say something worth knowing (which source was used, what was measured)."""

    def warn(self, message: str) -> None:
        """Say something that must not pass unseen (a fallback); shown even when quiet."""


SILENT = Reporter()
