"""What `sizes` can be asked for, and the rows that come of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kokoro_coreml.compression.asked import parse_size, uniform
from kokoro_coreml.compression.exact import EXACT, UNCOMPRESSED
from kokoro_coreml.errors import RecipeError
from kokoro_coreml.recipe import FRAMES_PER_ROW, Recipe
from kokoro_coreml.sizes.errors import SizesError

RECIPE = "kokoro-82m"
TOKENS, FRAMES = 128, 512
"""What holds most of the suite `smoke`; the recipe's nearest buckets are taken."""

COMPRESSIONS = (
    EXACT,
    "int8",
    "palette8",
    "palette6",
    "palette6/16",
    "palette4",
    "palette4/16",
)
BUDGETS = ("50MB",)
"""Rows if none are asked for."""


@dataclass(frozen=True)
class SizesRequest:
    """Which rows to measure, on what."""

    recipe: str = RECIPE
    compressions: tuple[str, ...] = ()
    """As a recipe writes them; with `budgets` empty as well, the rows above."""
    budgets: tuple[str, ...] = ()
    """For all packages together at the buckets below, as in `50MB`."""
    tokens: int | None = None
    frames: int | None = None
    """Buckets to use instead of the recipe's nearest to `TOKENS` and `FRAMES`."""
    suite: str = "smoke"
    cases: tuple[str, ...] = ()
    """Ids of the suite; empty means all of it."""
    checkpoint: str | None = None
    """Weights to use instead of the recipe's."""

    def uniform(self, recipe: Recipe) -> dict[str, Recipe]:
        """Name and recipe of the rows without a budget, the uncompressed one first.

        Args:
            recipe: from `at_one_bucket`.

        Raises:
            RecipeError: one is no compression.
        """
        asked = self.compressions or (() if self.budgets else COMPRESSIONS)
        rows = {UNCOMPRESSED: recipe}
        return rows | {text: uniform(recipe, text) for text in asked if text != UNCOMPRESSED}

    def limits(self) -> dict[str, int]:
        """Name and bytes of the rows with a budget; raises RecipeError for one that is no size."""
        asked = self.budgets or (() if self.compressions else BUDGETS)
        return {text: parse_size(text) for text in asked}


def at_one_bucket(recipe: Recipe, tokens: int | None, frames: int | None) -> Recipe:
    """The recipe with one token and one frame bucket, uncompressed.

    Args:
        recipe: of the cut `pipeline`.
        tokens: the bucket; None is the recipe's nearest to `TOKENS`.
        frames: the bucket; None is the recipe's nearest to `FRAMES`.

    Raises:
        SizesError: the recipe is of another cut.
        RecipeError: the frames do not fill rows of time.
    """
    if recipe.cut != "pipeline":
        raise SizesError(
            f"the recipe {recipe.name} is of the cut '{recipe.cut}', whose weights are not "
            "compressed; choose one of the cut 'pipeline'"
        )
    if frames is not None and frames % FRAMES_PER_ROW:
        raise RecipeError(f"frames must be a multiple of {FRAMES_PER_ROW}, found {frames}")
    return replace(
        recipe,
        tokens=(tokens or _nearest(recipe.tokens, TOKENS),),
        frames=(frames or _nearest(recipe.frames, FRAMES),),
        compression=None,
    )


def _nearest(sizes: Sequence[int], wanted: int) -> int:
    return min(sizes, key=lambda size: (abs(size - wanted), size))
