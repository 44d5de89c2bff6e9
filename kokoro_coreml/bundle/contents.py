"""What a bundle holds beside its packages, and the manifest that describes all of it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import re
from collections.abc import Sequence
from pathlib import Path

from kokoro_coreml import __version__
from kokoro_coreml.checkpoint import Checkpoint
from kokoro_coreml.checkpoint.types import Provenance
from kokoro_coreml.config import SAMPLE_RATE
from kokoro_coreml.errors import CheckpointError
from kokoro_coreml.manifest import (
    BucketRecord,
    CheckpointRecord,
    FunctionRecord,
    Manifest,
    NoiseRecord,
    PackageRecord,
    ParityRecord,
    RecipeRecord,
    SampleRecord,
    TensorRecord,
    VoiceRecord,
)
from kokoro_coreml.noise import ALGORITHM
from kokoro_coreml.recipe import Recipe
from kokoro_coreml.stages import Port, Stage
from kokoro_coreml.voices import VoicePack

CONFIG_NAME = "config.json"
SAMPLE_NAME = "sample.wav"
TOOLS = (
    "torch",
    "coremltools",
    "kokoro",
    "transformers",
    "numpy",
    "protobuf",
    "soundfile",
    "jinja2",
)
"""Distributions whose versions shape the bytes of a bundle or its verdict."""

LONGEST_STEM = 48
"""Characters of a voice's name kept in a file name that cannot be the name itself."""

DEVICE_NAMES = re.compile(r"con|prn|aux|nul|(com|lpt)\d")
"""Names that Windows keeps for devices, whatever their ending."""


def config_json(weights: Checkpoint) -> bytes:
    """The configuration as it was understood, in one layout for every source of weights.

    The bytes of the original are not kept: their digest stands in the manifest, and an app gets
    valid, readable UTF-8 whatever the original was.
    """
    try:
        text = json.dumps(weights.config.raw, indent=2, ensure_ascii=False, allow_nan=False)
        return f"{text}\n".encode()
    except ValueError as error:
        raise CheckpointError(f"{CONFIG_NAME}: cannot be written as JSON ({error})") from error


def voice_file(name: str) -> str:
    """Path of a voice in the bundle, safe on every file system and different for every name.

    A name of a-z, 0-9, `_` and `-` is its own file name. Any other (a blend holds `*` and `+`; two
    names may differ in case alone) keeps its letters for the reader, and gets a dot and a digest.
    """
    plain = re.fullmatch(r"[a-z0-9_-]+", name) and len(name) <= LONGEST_STEM
    if plain and not DEVICE_NAMES.fullmatch(name):
        return f"voices/{name}.bin"
    stem = re.sub(r"[^a-z0-9_]+", "-", name.lower()).strip("-")[:LONGEST_STEM]
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"voices/voice-{stem}.{digest}.bin"


def package_record(
    stages: Sequence[Stage], path: Path, recipe: Recipe, *, functions: bool = False
) -> PackageRecord:
    """Describe a saved package.

    Args:
        stages: what it holds, one per function.
        path: of the package.
        recipe: that was followed.
        functions: whether they are named after their buckets; otherwise the only one is `main`.
    """
    name = stages[0].name
    build = recipe.build(name)
    return PackageRecord(
        file=path.name,
        cut=recipe.cut,
        stage=name if recipe.cut == "pipeline" else None,
        functions=tuple(
            FunctionRecord(
                name=stage.function if functions else "main",
                bucket=BucketRecord(tokens=stage.tokens, frames=stage.frames),
                inputs=tuple(_tensor_record(port) for port in stage.inputs),
                outputs=tuple(_tensor_record(port) for port in stage.outputs),
            )
            for stage in stages
        ),
        precision=build.precision,
        minimum_deployment_target=build.minimum_deployment_target,
        compute_units=build.compute_units,
    )


def _tensor_record(port: Port) -> TensorRecord:
    return TensorRecord(port.name, port.dtype, port.shape)


def _checkpoint_record(provenance: Provenance) -> CheckpointRecord:
    return CheckpointRecord(
        source=provenance.source,
        location=provenance.location,
        revision=provenance.revision,
        files=provenance.files,
        license=provenance.license,
        fallback_from=provenance.fallback_from,
        notes=provenance.notes,
    )


def build_manifest(
    recipe: Recipe,
    weights: Checkpoint,
    packs: Sequence[VoicePack],
    packages: Sequence[PackageRecord],
    parity: ParityRecord,
) -> Manifest:
    """Describe a bundle; `bundle.seal` adds its files.

    Args:
        recipe: what was followed.
        weights: what was converted.
        packs: the voices; the first one spoke the sample.
        packages: from `package_record`, in the recipe's order of buckets.
        parity: what was measured.
    """
    return Manifest(
        schema_version=1,
        project_version=__version__,
        recipe=RecipeRecord(recipe.name, recipe.to_dict()),
        checkpoint=_checkpoint_record(weights.provenance),
        sample_rate=SAMPLE_RATE,
        samples_per_frame=weights.config.samples_per_frame,
        max_phonemes=weights.config.max_phonemes,
        vocabulary=CONFIG_NAME,
        packages=tuple(packages),
        buckets=(
            *(BucketRecord(bucket.tokens, bucket.frames) for bucket in recipe.buckets),
            *(BucketRecord(size, None) for size in recipe.tokens),
            *(BucketRecord(None, size) for size in recipe.frames),
        ),
        noise=NoiseRecord(ALGORITHM, recipe.noise.seed),
        voices=tuple(
            VoiceRecord(
                name=pack.name,
                file=voice_file(pack.name),
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
        tools=tool_versions(),
        parity=parity,
        files={},
    )


def tool_versions() -> dict[str, str]:
    """Versions of `TOOLS` and of Python, as installed."""
    versions = {name: importlib.metadata.version(name) for name in TOOLS}
    return versions | {"python": platform.python_version()}
