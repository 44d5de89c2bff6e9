"""Recipes: one TOML file per thing that can be built, read strictly into frozen dataclasses.

A recipe is data: it pins the weights, the target, the shapes, the seed and the thresholds, so that
the same recipe on the same versions gives the same bytes.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from kokoro_coreml.config import BOUNDARY_TOKENS
from kokoro_coreml.errors import RecipeError
from kokoro_coreml.resources import locate, recipes_folder
from kokoro_coreml.tables import Limits, decode, encode

SCHEMA = 1
"""Version of the recipe format this code reads."""

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


@dataclass(frozen=True)
class Target:
    """What the package is built for."""

    minimum_deployment_target: Literal["iOS17", "iOS18"]
    """As coremltools names it; iOS17 is macOS 14 as well."""
    precision: Literal["float32"]
    compute_units: Literal["ALL", "CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE"]
    """What an app should ask Core ML for, as `coremltools.ComputeUnit` names it."""


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


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what `convert` builds."""

    schema: Literal[1]
    name: Name
    description: Text
    cut: Literal["complete"]
    bundle: Name
    """Name of the folder under `artifacts/`."""
    voices: Annotated[tuple[Text, ...], Limits(minimum=1)]
    checkpoint: CheckpointPin
    target: Target
    buckets: Annotated[tuple[Bucket, ...], Limits(minimum=1)]
    noise: Noise
    sample: Sample
    parity: Thresholds

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
    for key, values in (("buckets", recipe.buckets), ("voices", recipe.voices)):
        twice = [v for i, v in enumerate(values) if v in values[:i]]
        if twice:
            raise RecipeError(f"{document}: '{key}' holds '{twice[0]}' twice")
    if recipe.sample.voice not in recipe.voices:
        raise RecipeError(
            f"{document}: 'sample.voice' is '{recipe.sample.voice}', which is not among 'voices'"
        )
    needed = len(recipe.sample.phonemes) + BOUNDARY_TOKENS
    tight = [str(bucket) for bucket in recipe.buckets if bucket.tokens < needed]
    if tight:
        raise RecipeError(
            f"{document}: 'sample.phonemes' needs {needed} tokens, more than {', '.join(tight)} "
            "(tokens x frames) holds; every bucket is checked with the sample, so shorten it or "
            "enlarge the bucket"
        )
