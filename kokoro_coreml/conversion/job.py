"""The steps that the conversion of every cut has in common."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from kokoro_coreml.audio import write_wav
from kokoro_coreml.bundle.contents import CONFIG_NAME, SAMPLE_NAME, config_json, voice_file
from kokoro_coreml.checkpoint import Checkpoint, load_checkpoint
from kokoro_coreml.errors import ParityError, PlacementError, RecipeError, VoiceError
from kokoro_coreml.executor import Program
from kokoro_coreml.manifest import LegRecord, PackageRecord
from kokoro_coreml.placement import severe_findings
from kokoro_coreml.progress import Reporter
from kokoro_coreml.recipe import Recipe
from kokoro_coreml.stages import Stage
from kokoro_coreml.voices import VoicePack, load_voice

PROBE_SPEED = 1.25
"""The sample is also checked this much faster, so that a package deaf to `speed` is found."""

_MIL_TYPES = {"float32": "fp32", "float16": "fp16", "int32": "int32"}

OPERATIONS_EXPECTED = 3_000
"""About how many operators and passes a lowering goes through; for the progress bar alone."""


@dataclass(frozen=True)
class Built:
    """What the conversion of a cut gives."""

    packages: tuple[PackageRecord, ...]
    legs: tuple[LegRecord, ...]
    audio: np.ndarray
    """The recipe's sample, as the saved packages speak it."""


@dataclass
class Job:
    """One conversion: what it follows, where it writes, and how long each step took."""

    recipe: Recipe
    folder: Path
    reporter: Reporter
    seconds: dict[str, float] = field(default_factory=dict)

    def load(self, spec: str | None) -> Checkpoint:
        """The weights: `spec`, or else what the recipe pins."""
        pin = self.recipe.checkpoint
        with self.timed("checkpoint"), self.reporter.step(f"checkpoint {spec or pin.source}"):
            if spec is not None:
                weights = load_checkpoint(spec, reporter=self.reporter)
            else:
                weights = load_checkpoint(
                    pin.source,
                    revision=pin.revision,
                    sha256=pin.sha256,
                    fallback=pin.fallback,
                    reporter=self.reporter,
                )
        source = weights.provenance
        self.reporter.note(f"weights: {source.source}, {source.location}")
        return weights

    def voices(self, weights: Checkpoint, specs: Sequence[str]) -> list[VoicePack]:
        """The bundle's voices; the one that speaks the sample comes first."""
        speaker = self.recipe.sample.voice
        names = list(specs) or [speaker, *(v for v in self.recipe.voices if v != speaker)]
        source, pin = weights.provenance, self.recipe.checkpoint
        hub: str = pin.source
        revision: str | None = pin.revision
        if source.source == "hub":
            hub, revision = source.location, source.revision
        pinned = pin.sha256 if (hub, revision) == (pin.source, pin.revision) else {}
        packs = [
            load_voice(
                name,
                config=weights.config,
                hub=hub,
                revision=revision,
                sha256=pinned,
                reporter=self.reporter,
            )
            for name in names
        ]
        twice = {pack.name for pack in packs if [p.name for p in packs].count(pack.name) > 1}
        if twice:
            raise VoiceError(f"voices given twice: {', '.join(sorted(twice))}")
        return packs

    def write(self, weights: Checkpoint, packs: Sequence[VoicePack], audio: np.ndarray) -> None:
        """Put in what a bundle holds beside its packages."""
        (self.folder / CONFIG_NAME).write_bytes(config_json(weights))
        (self.folder / "voices").mkdir()
        for pack in packs:
            pack.write_bin(self.folder / voice_file(pack.name))
        write_wav(self.folder / SAMPLE_NAME, np.asarray(audio), reporter=self.reporter)

    def inspect(self, record: PackageRecord) -> None:
        """Refuse a package that its compute units cannot or must not run; `PlacementError`."""
        path, units = self.folder / record.file, record.compute_units
        with self.timed("inspect"), self.reporter.step(f"inspect {record.file}"):
            found = severe_findings(path, compute_units=units)
        if found:
            raise PlacementError(
                f"{record.file} must not be shipped for {units}: {len(found)} severe findings, "
                f"the first is {found[0]}"
            )

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add what happens inside to the time of a step."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[step] = self.seconds.get(step, 0.0) + time.monotonic() - began


def require_room(recipe: Recipe, axis: Literal["tokens", "frames"], needed: int) -> None:
    """Refuse buckets of the cut `complete` that cannot hold the sample; `RecipeError`."""
    tight = [str(bucket) for bucket in recipe.buckets if getattr(bucket, axis) < needed]
    if tight:
        raise RecipeError(
            f"{recipe.name}: the sample needs {needed} {axis}, more than {', '.join(tight)} "
            "(tokens x frames) holds; every bucket is checked with the sample, so shorten it or "
            "enlarge the bucket"
        )


def require_positions(recipe: Recipe, weights: Checkpoint) -> None:
    """Refuse buckets of more tokens than the checkpoint takes; `RecipeError`."""
    limit = weights.config.plbert.max_position_embeddings
    large = [f"{bucket} (tokens x frames)" for bucket in recipe.buckets if bucket.tokens > limit]
    large += [f"{size} tokens" for size in recipe.tokens if size > limit]
    if large:
        raise RecipeError(
            f"{recipe.name}: the checkpoint takes at most {limit} tokens, fewer than "
            f"{', '.join(large)} has; make the bucket smaller"
        )


def require_interface(program: Program, stage: Stage) -> None:
    """The saved package must have the ports that the manifest will promise; `ParityError`."""
    ports = (*stage.inputs, *stage.outputs)
    promised = {port.name: (_MIL_TYPES[port.dtype], port.shape) for port in ports}
    saved = {**program.inputs, **program.outputs}
    found = {name: (spec.dtype, spec.shape) for name, spec in saved.items()}
    if found != promised:
        raise ParityError(f"{stage}: the saved package has {found}, the stage declares {promised}")
