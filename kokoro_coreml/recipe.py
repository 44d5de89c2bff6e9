"""Recipes: one TOML file per thing that can be built, read strictly into frozen dataclasses.

A recipe is data: it pins the weights, the target, the shapes, the seed and the thresholds, so that
the same recipe on the same versions gives the same bytes.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from kokoro_coreml.compression.exact import EXACT, UNCOMPRESSED
from kokoro_coreml.compression.scheme import Scheme
from kokoro_coreml.config import BOUNDARY_TOKENS
from kokoro_coreml.errors import RecipeError
from kokoro_coreml.resources import locate, recipes_folder
from kokoro_coreml.tables import Limits, decode, encode

SCHEMA = 1
"""Version of the recipe format this code reads."""

TOKEN_STAGES = ("Encoder", "Duration")
FRAME_STAGES = ("Prosody", "Decoder", "Source", "Generator", "Tail")
PIPELINE = (*TOKEN_STAGES, *FRAME_STAGES)
"""Stages of the cut `pipeline`, in the order they run."""

FRAMES_PER_ROW = 128
"""Frame buckets of the cut `pipeline` fill rows of time (`modules.folded.geometry`)."""

MAX_FRAMES = 10_000
"""250 s of speech: far beyond any bucket, and short of what memory holds."""

Name = Annotated[
    str, Limits(pattern=r"[a-z0-9][a-z0-9._-]*", meaning="a name of a-z, 0-9, '.', '_' and '-'")
]
Text = Annotated[str, Limits(minimum=1)]
Sha256 = Annotated[
    str, Limits(pattern=r"[0-9a-f]{64}", meaning="a SHA-256 of 64 lower-case hexadecimal digits")
]
Decibel = Annotated[float, Limits(minimum=0.0)]


@dataclass(frozen=True)
class CheckpointPin:
    """Which weights, and what they must hash to."""

    source: Text
    """Hub id, such as `hexgrad/Kokoro-82M`."""
    revision: Annotated[
        str, Limits(pattern=r"[0-9a-f]{40}", meaning="a full commit id of 40 hexadecimal digits")
    ]
    sha256: Annotated[Mapping[str, Sha256], Limits(minimum=1)]
    """File name to SHA-256, for every file that is read from the Hub."""
    fallback: Literal["packaged"] | None = None
    """Where the weights come from when the Hub cannot be reached; None makes that an error."""


DeploymentTarget = Literal["iOS17", "iOS18"]
"""As coremltools names it; iOS17 is macOS 14 as well, iOS18 macOS 15."""
Precision = Literal["float32", "float16"]
ComputeUnits = Literal["ALL", "CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE"]
"""What an app should ask Core ML for, as `coremltools.ComputeUnit` names it."""


@dataclass(frozen=True)
class Target:
    """What the packages are built for."""

    minimum_deployment_target: DeploymentTarget
    precision: Literal["float32"] | None = None
    """Of the cut `complete`; the stages of `pipeline` say it themselves."""
    compute_units: ComputeUnits | None = None
    """Of the cut `complete`, likewise."""
    multifunction: bool = False
    """Of the cut `pipeline`: one package per stage with a function per bucket, which needs iOS18;
    otherwise one package per stage and bucket."""


@dataclass(frozen=True)
class StageTarget:
    """How one stage of the pipeline is built."""

    precision: Precision
    compute_units: ComputeUnits
    reason: Text
    """Why it is so, with what was measured."""


@dataclass(frozen=True)
class Build:
    """What one package is lowered for."""

    minimum_deployment_target: DeploymentTarget
    precision: Precision
    compute_units: ComputeUnits


@dataclass(frozen=True)
class Compression:
    """How large weights are stored, as `compression.Scheme` writes it: `palette8`, `int8`, ...

    A weight named in `weights` is stored as it says there, else as its stage, else as `default`;
    `none` leaves it as it is, and `exact` is what loses nothing (`compression.exact_scheme`).
    """

    default: Text
    reason: Text
    """Why it is so, with what was measured."""
    stages: Mapping[str, Text] = field(default_factory=dict)
    weights: Mapping[str, Text] = field(default_factory=dict)
    """By path of the parameter in `modules.pipeline.PipelineNetwork`."""

    def text(self, stage: str, weight: str) -> str:
        """How a weight of a stage is to be stored.

        Args:
            stage: one of `PIPELINE`.
            weight: path of the parameter.
        """
        return self.weights.get(weight, self.stages.get(stage, self.default))

    @property
    def lossy(self) -> bool:
        """Whether any weight may be changed."""
        texts = {self.default, *self.stages.values(), *self.weights.values()}
        return not texts <= {EXACT, UNCOMPRESSED}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        result: dict[str, Any] = encode(self)
        return result


@dataclass(frozen=True, order=True)
class Bucket:
    """One static shape: room for `tokens` token ids and `frames` aligned frames of 600 samples."""

    tokens: Annotated[int, Limits(minimum=BOUNDARY_TOKENS + 1, maximum=MAX_FRAMES)]
    frames: Annotated[int, Limits(minimum=1, maximum=MAX_FRAMES)]

    def __str__(self) -> str:
        """`128x400`: tokens, then frames."""
        return f"{self.tokens}x{self.frames}"


@dataclass(frozen=True)
class Noise:
    """The constant noise of the harmonic source."""

    seed: Annotated[int, Limits(minimum=0, maximum=2**63 - 1)]


@dataclass(frozen=True)
class Sample:
    """The sentence the converted network speaks into `sample.wav`."""

    text: Text
    phonemes: Text
    voice: Text
    speed: Annotated[float, Limits(minimum=0.5, maximum=2.0)]


@dataclass(frozen=True)
class Thresholds:
    """What a conversion must reach; the reasons stand beside the numbers in the recipe."""

    module_snr_db: Decibel
    """Least SNR of each module against upstream, both fed the same inputs."""
    bucket_snr_db: Decibel
    """Least SNR of one sentence between any two buckets."""
    rewrite_snr_db: Decibel
    """Least SNR of the saved package against the module it was traced from."""
    audio_snr_db: Decibel
    """Least SNR of the audio against upstream under the same noise."""
    log_spectral_distance_db: Decibel
    """Largest log-spectral distance of the audio from upstream under the same noise."""
    half_rewrite_snr_db: Decibel = 50.0
    """Least SNR of a stage with half-precision weights, executed in float32, against its module."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what `convert` builds."""

    schema: Literal[1]
    name: Name
    description: Text
    cut: Literal["complete", "pipeline"]
    bundle: Name
    """Name of the folder under `artifacts/`."""
    voices: Annotated[tuple[Text, ...], Limits(minimum=1)]
    checkpoint: CheckpointPin
    target: Target
    noise: Noise
    sample: Sample
    parity: Thresholds
    buckets: tuple[Bucket, ...] = ()
    """Of the cut `complete`."""
    tokens: tuple[Annotated[int, Limits(minimum=BOUNDARY_TOKENS + 1, maximum=MAX_FRAMES)], ...] = ()
    """Token buckets of the cut `pipeline`, rising."""
    frames: tuple[Annotated[int, Limits(minimum=1, maximum=MAX_FRAMES)], ...] = ()
    """Frame buckets of the cut `pipeline`, rising."""
    stages: Mapping[str, StageTarget] = field(default_factory=dict)
    """Every stage of the cut `pipeline`."""
    compression: Compression | None = None
    """Of the cut `pipeline`; None stores every weight in the stage's precision."""

    def build(self, stage: str) -> Build:
        """What the packages of one stage are lowered for.

        Args:
            stage: one of `PIPELINE`, or the only stage of the cut `complete`.
        """
        target = self.target
        chosen = self.stages.get(stage, target)
        assert chosen.precision is not None  # both by `_check`
        assert chosen.compute_units is not None
        return Build(target.minimum_deployment_target, chosen.precision, chosen.compute_units)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, keys in declaration order."""
        result: dict[str, Any] = encode(self)
        return result


def load_recipe(name_or_path: str | Path) -> Recipe:
    """Read a recipe by name (`complete`) or by path (anything with a slash or ending in `.toml`).

    Raises:
        RecipeError: it is unknown or unreadable, or a key or value in it is wrong; the message
            names the key, its table, and the nearest known key.
    """
    path = locate(name_or_path, folder=recipes_folder(), what="recipe", error=RecipeError)
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"cannot read the recipe {name_or_path}: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path.name} is not valid TOML: {error}") from error
    return parse_recipe(raw, document=path.name)


def parse_recipe(raw: Mapping[str, Any], *, document: str) -> Recipe:
    """Check a parsed recipe; raises `RecipeError` as `load_recipe` does."""
    found = raw.get("schema")
    if type(found) is int and found != SCHEMA:
        raise RecipeError(
            f"{document}: recipe schema {found}, but this version reads {SCHEMA}; "
            "use a kokoro-coreml that knows it"
        )
    recipe = decode(Recipe, raw, document=document, error=RecipeError)
    _check(recipe, document)
    return recipe


def recipe_names() -> list[str]:
    """Names of the recipes that come with the project, sorted."""
    return sorted(path.stem for path in recipes_folder().glob("*.toml"))


def _check(recipe: Recipe, document: str) -> None:
    for problem in _cut_problems(recipe):
        raise RecipeError(f"{document}: {problem}")
    for key, values in (("buckets", recipe.buckets), ("voices", recipe.voices)):
        twice = [v for i, v in enumerate(values) if v in values[:i]]
        if twice:
            raise RecipeError(f"{document}: '{key}' holds '{twice[0]}' twice")
    if recipe.sample.voice not in recipe.voices:
        raise RecipeError(
            f"{document}: 'sample.voice' is '{recipe.sample.voice}', which is not among 'voices'"
        )
    needed = len(recipe.sample.phonemes) + BOUNDARY_TOKENS
    if recipe.tokens and needed > recipe.tokens[-1]:
        raise RecipeError(
            f"{document}: 'sample.phonemes' needs {needed} tokens, more than the largest of "
            f"'tokens' ({recipe.tokens[-1]}) holds; shorten it or add a bucket"
        )
    tight = [str(bucket) for bucket in recipe.buckets if bucket.tokens < needed]
    if tight:
        raise RecipeError(
            f"{document}: 'sample.phonemes' needs {needed} tokens, more than {', '.join(tight)} "
            "(tokens x frames) holds; every bucket is checked with the sample, so shorten it or "
            "enlarge the bucket"
        )


def _cut_problems(recipe: Recipe) -> Iterator[str]:
    """What a recipe holds that its cut does not have, or lacks that it needs."""
    pipeline = recipe.cut == "pipeline"
    needed = {
        "buckets": not pipeline,
        "tokens": pipeline,
        "frames": pipeline,
        "stages": pipeline,
        "target.precision": not pipeline,
        "target.compute_units": not pipeline,
    }
    for key, wanted in needed.items():
        owner = recipe.target if key.startswith("target.") else recipe
        if bool(getattr(owner, key.removeprefix("target."))) != wanted:
            what = "is needed for" if wanted else "does not belong to"
            yield f"'{key}' {what} the cut '{recipe.cut}'"
    if not pipeline:
        if recipe.target.multifunction:
            yield "'target.multifunction' does not belong to the cut 'complete'"
        if recipe.compression is not None:
            yield "'compression' does not belong to the cut 'complete'"
        return
    yield from compression_problems(recipe.compression, recipe.target)
    if sorted(recipe.stages) != sorted(PIPELINE):
        yield f"'stages' must name {', '.join(PIPELINE)}; found {', '.join(recipe.stages)}"
    for key, sizes in (("tokens", recipe.tokens), ("frames", recipe.frames)):
        if list(sizes) != sorted(set(sizes)):
            yield f"'{key}' must rise, found {list(sizes)}"
    uneven = [size for size in recipe.frames if size % FRAMES_PER_ROW]
    if uneven:
        yield f"'frames' must be multiples of {FRAMES_PER_ROW}, found {uneven[0]}"
    if recipe.target.multifunction and recipe.target.minimum_deployment_target == "iOS17":
        yield "'target.multifunction' needs 'minimum_deployment_target' iOS18"


def compression_problems(compression: Compression | None, target: Target) -> Iterator[str]:
    """What is wrong with how weights are to be stored on a deployment target."""
    if compression is None:
        return
    unknown = [name for name in compression.stages if name not in PIPELINE]
    if unknown:
        yield f"'compression.stages' names '{unknown[0]}'; known: {', '.join(PIPELINE)}"
    texts = [compression.default, *compression.stages.values(), *compression.weights.values()]
    for text in dict.fromkeys(texts):
        if text not in (UNCOMPRESSED, EXACT):
            try:
                scheme = Scheme.parse(text)
            except RecipeError as error:
                yield f"'compression': {error}; besides, {UNCOMPRESSED} and {EXACT}"
                continue
            if target.minimum_deployment_target == "iOS17" and scheme.too_new:
                yield f"'compression': {text}: {scheme.too_new}"
