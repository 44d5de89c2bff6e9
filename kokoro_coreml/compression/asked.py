"""Compression as a user asks for it, and as a recipe holds it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from kokoro_coreml.errors import RecipeError
from kokoro_coreml.recipe import Compression, Recipe, compression_problems, parse_recipe

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(|k|m|g)(i?)b", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3}


def parse_size(text: str) -> int:
    """Bytes of a size such as `45MB`, `45 MB`, `45MiB` or `1.2GB`, in any case.

    Raises:
        RecipeError: the text is no size, or below one byte.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None or (match[3] and not match[2]):
        raise RecipeError(f"unknown size '{text}'; write it as in 45MB, 45MiB or 1.2GB")
    unit: int = (1024 if match[3] else 1000) ** _POWERS[match[2].lower()]
    count = int(Decimal(match[1]) * unit)
    if count < 1:
        raise RecipeError(f"'{text}' is less than a byte; write it as in 45MB")
    return count


def uniform(recipe: Recipe, text: str) -> Recipe:
    """The recipe with every large weight stored in one way, instead of its own `[compression]`.

    Args:
        recipe: of the cut `pipeline`.
        text: `none`, `exact`, or what `Scheme.parse` reads.

    Raises:
        RecipeError: the text is unknown or not for the recipe's target, or the recipe is of another
            cut.
    """
    require_pipeline(recipe, "compression")
    compression = Compression(text, reason=f"--compression {text}")
    for problem in compression_problems(compression, recipe.target):
        raise RecipeError(problem)
    return replace(recipe, compression=compression)


def require_pipeline(recipe: Recipe, what: str) -> None:
    """Raises `RecipeError` for a recipe of another cut."""
    if recipe.cut != "pipeline":
        raise RecipeError(
            f"'{recipe.name}' is of the cut '{recipe.cut}', whose weights are not compressed: use "
            f"a recipe of the cut 'pipeline', such as kokoro-82m, or leave out the {what}"
        )


def save(recipe: Mapping[str, object], path: Path) -> None:
    """Write the `[compression]` table of a manifest's recipe, to be pasted into another recipe.

    Raises:
        RecipeError: it has none.
        OSError: the file cannot be written.
    """
    compression = parse_recipe(dict(recipe), document="the recipe").compression
    if compression is None:
        raise RecipeError(f"the recipe has no [compression], so '{path}' was not written")
    path.write_text(to_toml(compression), encoding="utf-8")


def to_toml(compression: Compression) -> str:
    """The `[compression]` table of a recipe."""
    found = compression.to_dict()
    lines = ["[compression]", *_pairs({k: found[k] for k in ("default", "reason")})]
    for key in ("stages", "weights"):
        if found[key]:
            lines += ["", f"[compression.{key}]", *_pairs(found[key])]
    return "\n".join(lines) + "\n"


def _pairs(table: Mapping[str, str]) -> list[str]:
    # a JSON string is a TOML string, but for characters that neither of these tables holds
    return [f"{_key(key)} = {json.dumps(text, ensure_ascii=False)}" for key, text in table.items()]


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)
