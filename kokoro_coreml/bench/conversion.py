"""The conversion of a recipe: with an empty cache of stages, and with what that left in it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kokoro_coreml.bench.results import Conversion, ConversionRun, StepTime
from kokoro_coreml.bench.steps import StepMemory
from kokoro_coreml.bench.turns import Remote
from kokoro_coreml.bench.utterances import rounded
from kokoro_coreml.bench.watching import CLOCK, Clock
from kokoro_coreml.checkpoint.cache import CACHE_VARIABLE
from kokoro_coreml.coreml.process import ChildProcess
from kokoro_coreml.errors import KokoroError
from kokoro_coreml.progress import Reporter
from kokoro_coreml.recipe import load_recipe

TIMEOUT_SECONDS = 4 * 3600.0
"""For one conversion."""

SESSION_FACTORY = "kokoro_coreml.bench.conversion:Converter"


@dataclass(frozen=True)
class Converted:
    """What one conversion took."""

    seconds: float
    steps: Mapping[str, float]
    peaks: Mapping[str, int]
    """By step; empty where the system cannot tell."""
    peak_bytes: int
    bundle_bytes: int


class Converter:
    """Converts once, in a process of its own."""

    def __init__(self, recipe: str, checkpoint: str | None, cache: str) -> None:
        """Say what; `cache` is the folder of everything that is kept between conversions."""
        self._recipe, self._checkpoint = recipe, checkpoint
        os.environ[CACHE_VARIABLE] = cache

    def convert(self, out: str, clock: Clock = CLOCK) -> Converted:
        """Convert into the folder `out`; raises as `conversion.convert` does."""
        from kokoro_coreml.conversion import convert

        memory, began = StepMemory(), clock()
        result = convert(
            load_recipe(self._recipe),
            checkpoint=self._checkpoint,
            out=Path(out),
            reporter=memory,
        )
        seconds = clock() - began
        size = sum(path.stat().st_size for path in result.bundle.rglob("*") if path.is_file())
        return Converted(seconds, result.seconds, memory.peaks, memory.total(), size)


Start = Callable[[str, Mapping[str, Any]], Remote]


def start(factory: str, arguments: Mapping[str, Any]) -> Remote:
    """A process with a `Converter` in it; raises KokoroError."""
    return ChildProcess(factory, arguments, timeout=TIMEOUT_SECONDS)


def measure_conversion(
    recipe: str, checkpoint: str | None, *, reporter: Reporter, start: Start = start
) -> Conversion:
    """Convert twice, in two processes that share a cache which is empty at first.

    The bundles are deleted. A conversion that fails is reported as failed, and the warm one is
    then skipped.

    Args:
        recipe: name or path.
        checkpoint: weights to use instead of the recipe's.
        reporter: told of both conversions.
        start: makes the processes.

    Raises:
        RecipeError: there is no such recipe, or it is wrong.
    """
    found = load_recipe(recipe)
    with tempfile.TemporaryDirectory(prefix="kokoro-coreml-bench-") as folder:
        arguments = {
            "recipe": recipe,
            "checkpoint": checkpoint,
            "cache": str(Path(folder) / "cache"),
        }
        runs = [_run("cold", arguments, Path(folder), reporter, start)]
        if runs[0].verdict == "measured":
            runs.append(_run("warm", arguments, Path(folder), reporter, start))
        else:
            runs.append(_without("warm", "skipped", "the cold conversion failed"))
    cold, warm = (run.seconds for run in runs)
    return Conversion(
        recipe=found.name,
        checkpoint=_named(checkpoint) or found.checkpoint.source,
        runs=tuple(runs),
        times_as_fast=rounded(cold / warm) if cold and warm else None,
    )


def _named(checkpoint: str | None) -> str | None:
    """Without the folders of this machine, which are nobody's business."""
    return Path(checkpoint).name if checkpoint and Path(checkpoint).exists() else checkpoint


def _run(
    name: Literal["cold", "warm"],
    arguments: Mapping[str, Any],
    folder: Path,
    reporter: Reporter,
    start: Start,
) -> ConversionRun:
    try:
        with (
            reporter.step(f"convert, {name} cache"),
            closing(start(SESSION_FACTORY, arguments)) as child,
        ):
            converted: Converted = child.call(
                "convert", str(folder / name), doing=f"converting with a {name} cache"
            )
    except KokoroError as error:
        return _without(name, "failed", str(error))
    return ConversionRun(
        name=name,
        verdict="measured",
        reason=None,
        seconds=rounded(converted.seconds),
        steps=tuple(
            StepTime(step, rounded(seconds), converted.peaks.get(step))
            for step, seconds in converted.steps.items()
        ),
        other_seconds=rounded(converted.seconds - sum(converted.steps.values())),
        peak_bytes=converted.peak_bytes,
        bundle_bytes=converted.bundle_bytes,
    )


def _without(
    name: Literal["cold", "warm"], verdict: Literal["failed", "skipped"], reason: str
) -> ConversionRun:
    return ConversionRun(name, verdict, reason, None, (), None, None, None)
