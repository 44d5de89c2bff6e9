"""`convert`: a recipe and weights in, a proven bundle out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kokoro_coreml.bundle import seal, staged
from kokoro_coreml.bundle.contents import build_manifest
from kokoro_coreml.bundle.staging import DEFAULT_NEED_BYTES
from kokoro_coreml.checkpoint import Checkpoint
from kokoro_coreml.compression.asked import require_pipeline
from kokoro_coreml.conversion.complete import convert_complete
from kokoro_coreml.conversion.compressing import Budget, require_fit
from kokoro_coreml.conversion.job import Built, Job
from kokoro_coreml.conversion.pipeline import build_pipeline, convert_pipeline, refer
from kokoro_coreml.manifest import Manifest
from kokoro_coreml.memory import peak_memory
from kokoro_coreml.parity.gate import looser_than_usual, summarise
from kokoro_coreml.progress import SILENT, Reporter
from kokoro_coreml.recipe import Recipe
from kokoro_coreml.threads import fixed_threads
from kokoro_coreml.voices import VoicePack

__all__ = ["ConversionResult", "convert"]

_CUTS: Mapping[str, Callable[[Job, Checkpoint, Sequence[VoicePack]], Built]] = {
    "complete": convert_complete,
    "pipeline": convert_pipeline,
}


@dataclass(frozen=True)
class ConversionResult:
    """What `convert` made."""

    bundle: Path
    manifest: Manifest
    seconds: dict[str, float]
    """Wall-clock time by step; printed, never written into the bundle."""
    peak_memory: int
    """Largest resident size of this process so far, in bytes."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "bundle": str(self.bundle),
            "seconds": {name: round(value, 1) for name, value in self.seconds.items()},
            "peak_memory": self.peak_memory,
            "manifest": self.manifest.to_dict(),
        }


def convert(
    recipe: Recipe,
    *,
    checkpoint: str | None = None,
    voices: Sequence[str] = (),
    out: Path,
    force: bool = False,
    budget: int | None = None,
    reporter: Reporter = SILENT,
) -> ConversionResult:
    """Convert a checkpoint, execute what was saved, and write the bundle if it is right.

    Every bucket of the recipe is executed with the recipe's sample, which must therefore fit each
    of them. Equal inputs give equal bytes: with the same versions of `TOOLS`, on processors of one
    kind (another instruction set adds in another order).

    Args:
        recipe: what to build.
        checkpoint: weights to use instead of the recipe's (see `load_checkpoint`).
        voices: voices to put into the bundle instead of the recipe's. The first one speaks the
            recipe's sample in place of its own voice, whatever language that voice is of.
        out: the bundle's folder.
        force: replace an earlier bundle.
        budget: bytes of all packages together, for which compression is chosen by measured error
            instead of the recipe's; of the cut `pipeline`.
        reporter: told of every step.

    Raises:
        KokoroError: one of its subclasses, by what went wrong; an earlier bundle is unchanged.
    """
    if budget is not None:
        require_pipeline(recipe, "budget")
    room = DEFAULT_NEED_BYTES * max(len(recipe.buckets), len(recipe.frames))
    with fixed_threads(), staged(out, force=force, need_bytes=room) as folder:
        job = Job(recipe, folder, reporter)
        if looser := looser_than_usual(recipe):
            reporter.warn(f"{recipe.name} lets more pass than this project does: {looser}")
        weights = job.load(checkpoint)
        packs = job.voices(weights, voices)
        if budget is None:
            built = _CUTS[recipe.cut](job, weights, packs)
        else:
            recipe, built = _within(budget, job, weights, packs)
        parity = summarise(list(built.legs), runtime="executor")
        job.write(weights, packs, built.audio)
        manifest = seal(folder, build_manifest(recipe, weights, packs, built.packages, parity))
    result = ConversionResult(out, manifest, job.seconds, peak_memory())
    _announce(result, reporter)
    return result


def _within(
    budget: int, job: Job, weights: Checkpoint, packs: Sequence[VoicePack]
) -> tuple[Recipe, Built]:
    """Choose the compression and build with it; what the recipe has wrong is refused before."""
    cases = refer(job, weights, packs[0])
    recipe = Budget(job, weights, packs[0]).recipe(budget)
    built = build_pipeline(replace(job, recipe=recipe), weights, packs, cases)
    require_fit(job.folder, [package.file for package in built.packages], budget)
    return recipe, built


def _announce(result: ConversionResult, reporter: Reporter) -> None:
    for record in result.manifest.parity.legs:
        numbers = ", ".join(f"{key} {value:.4g}" for key, value in record.metrics.items())
        reporter.note(f"{record.name}: {record.verdict} ({numbers})")
    seconds = ", ".join(f"{name} {value:.1f} s" for name, value in result.seconds.items())
    reporter.note(f"time: {seconds}; peak memory {result.peak_memory / 1e9:.2f} GB")
