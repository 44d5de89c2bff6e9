"""`convert`: a recipe and weights in, a proven bundle out."""

from __future__ import annotations

import dataclasses
import gc
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kokoro_coreml.audio import write_wav
from kokoro_coreml.bundle import normalise_package, seal, staged
from kokoro_coreml.bundle.contents import (
    CONFIG_NAME,
    SAMPLE_NAME,
    build_manifest,
    config_json,
    package_record,
    voice_file,
)
from kokoro_coreml.bundle.staging import DEFAULT_NEED_BYTES
from kokoro_coreml.checkpoint import Checkpoint, load_checkpoint
from kokoro_coreml.errors import ParityError, PhonemeError, RecipeError, VoiceError
from kokoro_coreml.executor import Program, TensorSpec
from kokoro_coreml.lowering import lower, trace
from kokoro_coreml.manifest import (
    LegRecord,
    Manifest,
    PackageRecord,
)
from kokoro_coreml.memory import peak_memory
from kokoro_coreml.modules.source import HARMONICS
from kokoro_coreml.parity.gate import (
    Case,
    leg,
    package_against_rewrite,
    package_against_upstream,
    summarise,
)
from kokoro_coreml.parity.metrics import snr_db
from kokoro_coreml.parity.reference import Reference, ReferenceSpeech, upstream_inputs
from kokoro_coreml.progress import SILENT, Reporter
from kokoro_coreml.recipe import Bucket, Recipe, Sample
from kokoro_coreml.stages import Port, Stage, complete_stage
from kokoro_coreml.synthesis import Spoken, Utterance, speak
from kokoro_coreml.threads import fixed_threads
from kokoro_coreml.vocabulary import Vocabulary
from kokoro_coreml.voices import VoicePack, load_voice

PROBE_SPEED = 1.25
"""The sample is also checked this much faster, so that a package deaf to `speed` is found."""

_MIL_TYPES = {"float32": "fp32", "int32": "int32"}

OPERATIONS_EXPECTED = 3_000
"""About how many operators and passes a lowering goes through; for the progress bar alone."""


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
        reporter: told of every step.

    Raises:
        KokoroError: one of its subclasses, by what went wrong; an earlier bundle is unchanged.
    """
    room = DEFAULT_NEED_BYTES * len(recipe.buckets)
    with fixed_threads(), staged(out, force=force, need_bytes=room) as folder:
        job = _Job(recipe, folder, reporter)
        weights = job.load(checkpoint)
        packs = job.voices(weights, voices)
        cases = job.refer(weights, packs[0])
        built = [job.convert(weights, bucket, cases) for bucket in recipe.buckets]
        parity = summarise([*_legs(built), *_between_buckets(recipe, built)], runtime="executor")
        job.write(weights, packs, built[0].spoken)
        packages = [one.package for one in built]
        manifest = seal(folder, build_manifest(recipe, weights, packs, packages, parity))
    result = ConversionResult(out, manifest, job.seconds, peak_memory())
    _announce(result, reporter)
    return result


@dataclass(frozen=True)
class _Built:
    """One package that was saved, what it said, and how that was judged."""

    bucket: Bucket
    package: PackageRecord
    spoken: Spoken
    legs: tuple[LegRecord, ...]


@dataclass
class _Job:
    """The steps of one conversion; each frees what it needed when it ends."""

    recipe: Recipe
    folder: Path
    reporter: Reporter
    seconds: dict[str, float] = field(default_factory=dict)

    def load(self, spec: str | None) -> Checkpoint:
        """The weights: `spec`, or else what the recipe pins."""
        pin = self.recipe.checkpoint
        with self._timed("checkpoint"), self.reporter.step(f"checkpoint {spec or pin.source}"):
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

    def refer(self, weights: Checkpoint, voice: VoicePack) -> list[Case]:
        """Let upstream speak the sample, also faster, and refuse buckets that cannot hold it.

        Raises:
            PhonemeError: the checkpoint does not know one of the sample's phonemes.
            RecipeError: a bucket is too small for the sample, or too large for the checkpoint.
        """
        sample = self.recipe.sample
        ids = Vocabulary.from_config(weights.config).encode(sample.phonemes)
        _require_room(self.recipe, "tokens", len(ids))
        _require_positions(self.recipe, weights)
        row = voice.row(len(sample.phonemes))
        cases = []
        for speed in (sample.speed, sample.speed * PROBE_SPEED):
            with (
                self._timed("reference"),
                self.reporter.step(f"reference: upstream speaks the sample at speed {speed:g}"),
            ):
                speech = _upstream_says(weights, sample, voice, speed, self.recipe.noise.seed)
            _require_room(self.recipe, "frames", int(speech.durations.sum()))
            utterance = Utterance(tuple(ids), row, speed)
            cases.append(Case(f"sample at speed {speed:g}", utterance, speech))
        return cases

    def convert(self, weights: Checkpoint, bucket: Bucket, cases: Sequence[Case]) -> _Built:
        """Trace and lower one bucket, save it, and execute what was saved.

        Raises:
            ConversionError: it cannot be traced or lowered.
            PackageError: what was saved cannot be executed.
            ParityError: what was saved says something that cannot be compared.
        """
        stage = complete_stage(weights, bucket, noise_seed=self.recipe.noise.seed)
        path = self.folder / f"{stage}.mlpackage"
        with self._timed("trace"), self.reporter.step(f"trace {stage}"):
            traced = trace(stage)
        with (
            self._timed("convert"),
            self.reporter.step(f"convert {stage}", total=OPERATIONS_EXPECTED) as advance,
        ):
            lower(traced, stage, self.recipe.target, path, advance=advance)
            normalise_package(path)
        del traced
        gc.collect()  # coremltools' programs hold reference cycles
        with (
            self._timed("check"),
            self.reporter.step(f"check {stage}: execute the saved package, compare"),
        ):
            spoken, legs = self._judge(stage, _open(path, stage), cases)
        return _Built(bucket, package_record(stage, path, self.recipe), spoken, legs)

    def write(self, weights: Checkpoint, packs: Sequence[VoicePack], spoken: Spoken) -> None:
        """Put in what a bundle holds beside its packages."""
        (self.folder / CONFIG_NAME).write_bytes(config_json(weights))
        (self.folder / "voices").mkdir()
        for pack in packs:
            pack.write_bin(self.folder / voice_file(pack.name))
        write_wav(self.folder / SAMPLE_NAME, np.asarray(spoken.audio), reporter=self.reporter)

    def _judge(
        self, stage: Stage, program: Program, cases: Sequence[Case]
    ) -> tuple[Spoken, tuple[LegRecord, ...]]:
        """Run every case; every input of the package moves in one of them."""
        limits = self.recipe.parity
        said = [_package_says(program, stage, case) for case in cases]
        legs = [
            package_against_upstream(
                f"package = upstream: {case.name} on {stage}", spoken, case, limits
            )
            for case, spoken in zip(cases, said, strict=True)
        ]
        probe = _with_phases(cases[-1])
        spoken = _package_says(program, stage, probe)
        name = f"package = rewrite: {probe.name} on {stage}"
        legs.append(package_against_rewrite(name, stage, spoken, said[-1], probe, limits))
        return said[0], tuple(legs)

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[step] = self.seconds.get(step, 0.0) + time.monotonic() - began


def _require_room(recipe: Recipe, axis: Literal["tokens", "frames"], needed: int) -> None:
    tight = [str(bucket) for bucket in recipe.buckets if getattr(bucket, axis) < needed]
    if tight:
        raise RecipeError(
            f"{recipe.name}: the sample needs {needed} {axis}, more than {', '.join(tight)} "
            "(tokens x frames) holds; every bucket is checked with the sample, so shorten it or "
            "enlarge the bucket"
        )


def _require_positions(recipe: Recipe, weights: Checkpoint) -> None:
    limit = weights.config.plbert.max_position_embeddings
    large = [str(bucket) for bucket in recipe.buckets if bucket.tokens > limit]
    if large:
        raise RecipeError(
            f"{recipe.name}: the checkpoint takes at most {limit} tokens, fewer than "
            f"{', '.join(large)} (tokens x frames) has; make the bucket smaller"
        )


def _with_phases(case: Case) -> Case:
    """The same case with harmonics that start elsewhere; upstream has no such input."""
    phases = tuple((i * 0.37) % 1.0 for i in range(1, HARMONICS + 1))
    utterance = dataclasses.replace(case.utterance, phases=phases)
    return dataclasses.replace(case, name=f"{case.name} with phases", utterance=utterance)


def _upstream_says(
    weights: Checkpoint, sample: Sample, voice: VoicePack, speed: float, seed: int
) -> ReferenceSpeech:
    ids, ref_s = upstream_inputs(weights.config, sample.phonemes, voice)
    return Reference(weights).speak(ids, ref_s, noise=seed, speed=speed)


def _open(path: Path, stage: Stage) -> Program:
    program = Program.load(path)
    _require_interface(program, stage)
    _require_float32(program, stage)
    return program


def _package_says(program: Program, stage: Stage, case: Case) -> Spoken:
    try:
        return speak(program, case.utterance, stage.bucket.tokens)
    except PhonemeError as error:
        # upstream's speech was found to fit, so this one is too long because it is wrong
        raise ParityError(
            f"{case.name} on {stage}: the saved package overflows: {error}"
        ) from error


def _require_float32(program: Program, stage: Stage) -> None:
    """The executor computes half precision in float32, so its overflow must be kept out here."""
    half = [
        operation.name
        for operation in program.operations
        for _, spec in operation.outputs
        if isinstance(spec, TensorSpec) and spec.dtype == "fp16"
    ]
    if half:
        raise ParityError(
            f"{stage}: {len(half)} operations of a float32 package are in half precision, "
            f"the first is {half[0]}"
        )


def _require_interface(program: Program, stage: Stage) -> None:
    """The saved package must have the ports that the manifest will promise."""
    promised = {port.name: (_MIL_TYPES[port.dtype], port.shape) for port in _ports(stage)}
    saved = {**program.inputs, **program.outputs}
    found = {name: (spec.dtype, spec.shape) for name, spec in saved.items()}
    if found != promised:
        raise ParityError(f"{stage}: the saved package has {found}, the stage declares {promised}")


def _ports(stage: Stage) -> tuple[Port, ...]:
    return (*stage.inputs, *stage.outputs)


def _legs(built: Sequence[_Built]) -> list[LegRecord]:
    return [record for one in built for record in one.legs]


def _between_buckets(recipe: Recipe, built: Sequence[_Built]) -> list[LegRecord]:
    """Leg 2 on what was saved: the first bucket's audio against that of every other."""
    first, bound = built[0], {"bucket_snr_db": recipe.parity.bucket_snr_db}
    return [
        leg(
            f"bucket = bucket: sample on {first.bucket} and {other.bucket}",
            {"bucket_snr_db": _snr(first.spoken.audio, other.spoken.audio)},
            bound,
        )
        for other in built[1:]
    ]


def _snr(reference: np.ndarray, candidate: np.ndarray) -> float:
    if reference.shape != candidate.shape:
        return float("nan")
    return snr_db(reference=reference, candidate=candidate)


def _announce(result: ConversionResult, reporter: Reporter) -> None:
    for record in result.manifest.parity.legs:
        numbers = ", ".join(f"{key} {value:.4g}" for key, value in record.metrics.items())
        reporter.note(f"{record.name}: {record.verdict} ({numbers})")
    seconds = ", ".join(f"{name} {value:.1f} s" for name, value in result.seconds.items())
    reporter.note(f"time: {seconds}; peak memory {result.peak_memory / 1e9:.2f} GB")
