"""Peak memory of every step of a conversion."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kokoro_coreml.memory import peak_memory
from kokoro_coreml.progress import Advance, Reporter

CLEAR_REFS = Path("/proc/self/clear_refs")
FORGET_PEAK = "5"
"""Lets Linux (4.0) count the peak of this process anew; see proc(5)."""


def forget_peak() -> bool:
    """Let `peak_memory` begin anew; False where the system cannot."""
    try:
        CLEAR_REFS.write_text(FORGET_PEAK, encoding="ascii")
    except OSError:
        return False
    return True


class StepMemory(Reporter):
    """Notes the peak of each kind of step, which the first word of its title names.

    A step that is inside another one counts for both.
    """

    def __init__(
        self,
        *,
        peak: Callable[[], int] = peak_memory,
        forget: Callable[[], bool] = forget_peak,
    ) -> None:
        """`peak` gives bytes since the last `forget`."""
        self._peak, self._forget = peak, forget
        self._open: list[str] = []
        self._peaks: dict[str, int] = {}
        self._exact = True
        self.highest = 0
        """Largest peak so far, up to the last end or beginning of a step."""

    @property
    def peaks(self) -> dict[str, int]:
        """Bytes by kind of step; empty where the system cannot count anew."""
        return dict(self._peaks) if self._exact else {}

    def total(self) -> int:
        """Peak of everything so far."""
        return max(self.highest, self._peak())

    @contextmanager
    def step(self, title: str, total: int | None = None) -> Iterator[Advance]:
        """Count what happens inside."""
        self._fold()
        self._open.append(title.split()[0].rstrip(":").lower())
        try:
            yield lambda _units: None
        finally:
            self._fold()
            self._open.pop()

    def _fold(self) -> None:
        """Give what was counted to all steps that are open, and count anew."""
        found = self._peak()
        self.highest = max(self.highest, found)
        for name in self._open:
            self._peaks[name] = max(self._peaks.get(name, 0), found)
        self._exact = self._forget() and self._exact
