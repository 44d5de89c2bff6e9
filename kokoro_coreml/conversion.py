"""`convert`: a recipe and weights in, a proven bundle out."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from kokoro_coreml import __version__
from kokoro_coreml.audio import write_wav
from kokoro_coreml.bundle import normalise_package, seal, staged
from kokoro_coreml.checkpoint import Checkpoint, load_checkpoint
from kokoro_coreml.config import SAMPLE_RATE
from kokoro_coreml.errors import PhonemeError, VoiceError
from kokoro_coreml.executor import Program
from kokoro_coreml.lowering import lower, trace
from kokoro_coreml.manifest import (
    BucketRecord,
    CheckpointRecord,
    FunctionRecord,
    LegRecord,
    Manifest,
    NoiseRecord,
    PackageRecord,
    ParityRecord,
    RecipeRecord,
    SampleRecord,
    TensorRecord,
    VoiceRecord,
)
from kokoro_coreml.memory import return_large_blocks
from kokoro_coreml.noise import ALGORITHM
from kokoro_coreml.parity.gate import (
    Case,
    package_against_rewrite,
    package_against_upstream,
    summarise,
)
from kokoro_coreml.parity.reference import Reference
from kokoro_coreml.progress import SILENT, Reporter
from kokoro_coreml.recipe import Bucket, Recipe
from kokoro_coreml.stages import Port, Stage, complete_stage
from kokoro_coreml.synthesis import Spoken, Utterance, speak
from kokoro_coreml.vocabulary import Vocabulary
from kokoro_coreml.voices import VoicePack, load_voice

CONFIG_NAME = "config.json"
SAMPLE_NAME = "sample.wav"
TOOLS = ("torch", "coremltools", "kokoro", "transformers", "numpy")
"""Distributions whose versions shape the bytes of a bundle or its verdict."""

T = TypeVar("T")

OPERATIONS_EXPECTED = 3_000
"""About how many operators and passes a lowering goes through; for the progress bar alone."""


@dataclass(frozen=True)
class ConversionResult:
    """What `convert` made."""

    bundle: Path
    manifest: Manifest
    seconds: dict[str, float]
    """Wall-clock time by step; printed, never written into the bundle."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "bundle": str(self.bundle),
            "seconds": {name: round(value, 1) for name, value in self.seconds.items()},
            "manifest": self.manifest.to_dict(),
        }


def convert(
    recipe: Recipe,
    *,
    checkpoint: str | None = None,
    voices: Sequence[str] = (),
    out: Path,
    force: bool = False,
    reporter: Reporter = SILENT,
) -> ConversionResult:
    """Convert a checkpoint, execute what was saved, and write the bundle if it is right.

    Args:
        recipe: what to build.
        checkpoint: weights to use instead of the recipe's (see `load_checkpoint`).
        voices: voices to put into the bundle instead of the recipe's; the first one speaks the
            sample.
        out: the bundle's folder.
        force: replace an earlier bundle.
        reporter: told of every step.

    Raises:
        KokoroError: one of its subclasses, by what went wrong; an earlier bundle is unchanged.
    """
    return_large_blocks()
    job = _Job(recipe, reporter)
    with staged(out, force=force) as folder:
        weights = job.timed("checkpoint", lambda: _load(recipe, checkpoint, reporter))
        packs = _voices(recipe, weights, voices)
        utterance = _sample_utterance(recipe, weights, packs[0])
        reference = job.timed("reference", lambda: _refer(recipe, weights, utterance, reporter))
        packages, legs, spoken = [], [], None
        for bucket in recipe.buckets:
            stage = complete_stage(weights, bucket, noise_seed=recipe.noise.seed)
            path = folder / f"{stage}.mlpackage"
            job.build(stage, path)
            packages.append(_package_record(stage, path, recipe))
            if len(utterance.ids) <= bucket.tokens:
                said, judged = job.check(stage, path, Case("sample", utterance, reference))
                spoken = spoken or said
                legs.extend(judged)
        parity = summarise(legs, runtime="executor")
        _write_contents(folder, weights, packs, spoken, reporter)
        record = _manifest(recipe, weights, packs, packages, parity)
        manifest = seal(folder, record)
    _announce(manifest, job.seconds, reporter)
    return ConversionResult(out, manifest, job.seconds)


class _Job:
    """Steps of one conversion, with the time each took."""

    def __init__(self, recipe: Recipe, reporter: Reporter) -> None:
        self.recipe, self.reporter = recipe, reporter
        self.seconds: dict[str, float] = {}

    def timed(self, name: str, action: Callable[[], T]) -> T:
        began = time.monotonic()
        try:
            return action()
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - began

    def build(self, stage: Stage, path: Path) -> None:
        def lowered() -> None:
            with self.reporter.step(f"convert {stage}", total=OPERATIONS_EXPECTED) as advance:
                lower(traced, stage, self.recipe.target, path, advance=advance)
                normalise_package(path)

        def trace_it() -> Any:
            with self.reporter.step(f"trace {stage}"):
                return trace(stage)

        traced = self.timed("trace", trace_it)
        self.timed("convert", lowered)

    def check(self, stage: Stage, path: Path, case: Case) -> tuple[Spoken, list[LegRecord]]:
        def checked() -> tuple[Spoken, list[LegRecord]]:
            with self.reporter.step(f"check {stage}: execute the saved package, compare"):
                spoken = speak(Program.load(path), case.utterance, stage.bucket.tokens)
                limits, label = self.recipe.parity, f"{case.name} on {stage}"
                return spoken, [
                    package_against_rewrite(
                        f"package = rewrite: {label}", stage, spoken, case, limits
                    ),
                    package_against_upstream(f"package = upstream: {label}", spoken, case, limits),
                ]

        return self.timed("check", checked)


def _load(recipe: Recipe, spec: str | None, reporter: Reporter) -> Checkpoint:
    pin = recipe.checkpoint
    with reporter.step(f"checkpoint {spec or pin.source}"):
        if spec is not None:
            weights = load_checkpoint(spec, reporter=reporter)
        else:
            weights = load_checkpoint(
                pin.source,
                revision=pin.revision,
                sha256=pin.sha256,
                fallback=pin.fallback,
                reporter=reporter,
            )
    source = weights.provenance
    reporter.note(f"weights: {source.source}, {source.location}")
    return weights


def _voices(recipe: Recipe, weights: Checkpoint, specs: Sequence[str]) -> list[VoicePack]:
    """The bundle's voices; the one that speaks the sample comes first."""
    names = list(specs) or [
        recipe.sample.voice,
        *(v for v in recipe.voices if v != recipe.sample.voice),
    ]
    hub = weights.provenance.location if weights.provenance.source == "hub" else None
    hub = hub or recipe.checkpoint.source
    packs = [load_voice(name, config=weights.config, hub=hub) for name in names]
    twice = {pack.name for pack in packs if [p.name for p in packs].count(pack.name) > 1}
    if twice:
        raise VoiceError(f"voices given twice: {', '.join(sorted(twice))}")
    return packs


def _sample_utterance(recipe: Recipe, weights: Checkpoint, voice: VoicePack) -> Utterance:
    phonemes = recipe.sample.phonemes
    ids = Vocabulary.from_config(weights.config).encode(phonemes)
    longest = max(bucket.tokens for bucket in recipe.buckets)
    if len(ids) > longest:
        raise PhonemeError(
            f"the sample has {len(ids)} tokens, but the largest bucket holds {longest}"
        )
    return Utterance(tuple(ids), voice.row(len(phonemes)), recipe.sample.speed)


def _refer(recipe: Recipe, weights: Checkpoint, utterance: Utterance, reporter: Reporter) -> Any:
    with reporter.step("reference: upstream speaks the sample"):
        return Reference(weights).speak(
            list(utterance.ids), utterance.ref_s, noise=recipe.noise.seed, speed=utterance.speed
        )


def _package_record(stage: Stage, path: Path, recipe: Recipe) -> PackageRecord:
    return PackageRecord(
        file=path.name,
        cut=recipe.cut,
        stage=None,
        functions=(
            FunctionRecord(
                name="main",
                bucket=_bucket_record(stage.bucket),
                inputs=tuple(_tensor_record(port) for port in stage.inputs),
                outputs=tuple(_tensor_record(port) for port in stage.outputs),
            ),
        ),
        precision=recipe.target.precision,
        minimum_deployment_target=recipe.target.minimum_deployment_target,
        compute_units=recipe.target.compute_units,
    )


def _bucket_record(bucket: Bucket) -> BucketRecord:
    return BucketRecord(tokens=bucket.tokens, frames=bucket.frames)


def _tensor_record(port: Port) -> TensorRecord:
    return TensorRecord(port.name, port.dtype, port.shape)


def _write_contents(
    folder: Path,
    weights: Checkpoint,
    packs: Sequence[VoicePack],
    spoken: Spoken | None,
    reporter: Reporter,
) -> None:
    text = json.dumps(weights.config.raw, indent=2, ensure_ascii=False) + "\n"
    (folder / CONFIG_NAME).write_text(text, encoding="utf-8")
    (folder / "voices").mkdir()
    for pack in packs:
        pack.write_bin(folder / "voices" / f"{pack.name}.bin")
    if spoken is not None:
        write_wav(folder / SAMPLE_NAME, np.asarray(spoken.audio), reporter=reporter)


def _manifest(
    recipe: Recipe,
    weights: Checkpoint,
    packs: Sequence[VoicePack],
    packages: Sequence[PackageRecord],
    parity: ParityRecord,
) -> Manifest:
    provenance = weights.provenance
    return Manifest(
        schema_version=1,
        project_version=__version__,
        recipe=RecipeRecord(recipe.name, recipe.to_dict()),
        checkpoint=CheckpointRecord(
            source=provenance.source,
            location=provenance.location,
            revision=provenance.revision,
            files=provenance.files,
            license=provenance.license,
            fallback_from=provenance.fallback_from,
            notes=provenance.notes,
        ),
        sample_rate=SAMPLE_RATE,
        samples_per_frame=weights.config.samples_per_frame,
        max_phonemes=weights.config.max_phonemes,
        vocabulary=CONFIG_NAME,
        packages=tuple(packages),
        buckets=tuple(_bucket_record(bucket) for bucket in recipe.buckets),
        noise=NoiseRecord(ALGORITHM, recipe.noise.seed),
        voices=tuple(
            VoiceRecord(
                name=pack.name,
                file=f"voices/{pack.name}.bin",
                rows=pack.data.shape[0],
                columns=pack.data.shape[1],
                dtype="float32",
                license=pack.license,
            )
            for pack in packs
        ),
        sample=SampleRecord(
            file=SAMPLE_NAME,
            text=recipe.sample.text,
            phonemes=recipe.sample.phonemes,
            voice=packs[0].name,
            speed=recipe.sample.speed,
        ),
        tools=_tools(),
        parity=parity,
        files={},
    )


def _tools() -> dict[str, str]:
    versions = {name: importlib.metadata.version(name) for name in TOOLS}
    return versions | {"python": platform.python_version()}


def _announce(manifest: Manifest, seconds: dict[str, float], reporter: Reporter) -> None:
    for record in manifest.parity.legs:
        numbers = ", ".join(f"{key} {value:.4g}" for key, value in record.metrics.items())
        reporter.note(f"{record.name}: {record.verdict} ({numbers})")
    reporter.note("time: " + ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items()))
