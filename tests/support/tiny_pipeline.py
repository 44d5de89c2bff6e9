"""The tiny random network as a pipeline: its recipe and its conversion."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kokoro_coreml import conversion
from kokoro_coreml.cache import StageCache
from kokoro_coreml.progress import SILENT, Reporter
from kokoro_coreml.recipe import Recipe, load_recipe
from kokoro_coreml.resources import recipes_folder
from tests.support.tiny_bundle import (
    PHONEMES,
    PIPELINE_FRAMES,
    PIPELINE_TOKENS,
    write_checkpoint,
    write_suite,
)

TOKENS = (32,)
FRAMES = (128, 256)

CHANGES = {
    "name": '"tiny"',
    "bundle": '"tiny"',
    "tokens": str(list(TOKENS)),
    "frames": str(list(FRAMES)),
    "phonemes": f'"{PHONEMES}"',
    # a random network amplifies flips at the branch cut
    "audio_snr_db": "20.0",
    "log_spectral_distance_db": "1.5",
}


def pipeline_recipe(path: Path, **changes: str) -> Recipe:
    """The recipe of the pipeline with the tiny network's values, written to `path`."""
    text = (recipes_folder() / "kokoro-82m.toml").read_text(encoding="utf-8")
    for key, value in (CHANGES | changes).items():
        line = f"{key} = {value}".replace("\\", r"\\")
        text, found = re.subn(rf"(?m)^{key} = .*$", line, text)
        assert found == 1, key
    path.write_text(text, encoding="utf-8")
    return load_recipe(path)


def shared_recipe(path: Path, **changes: str) -> Recipe:
    """The recipe of the bundle that `fill_folder` makes."""
    sizes = {"tokens": str(list(PIPELINE_TOKENS)), "frames": str(list(PIPELINE_FRAMES))}
    return pipeline_recipe(path, **(sizes | changes))


def convert_pipeline(folder: Path, recipe: Recipe, *, weights: Path | None = None) -> Path:
    """Convert the tiny network with a cache of its own; returns the bundle."""

    def default(*, reporter: Reporter = SILENT) -> StageCache:
        return StageCache(folder / "stages", reporter=reporter)

    weights = weights or write_checkpoint(folder / "weights")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StageCache, "default", default)
        conversion.convert(recipe, checkpoint=str(weights), out=folder / "bundle")
    return folder / "bundle"


def fill_folder(folder: Path) -> None:
    """Write `tiny.toml`, `weights`, `suite.toml` and the `bundle` made of them."""
    write_suite(folder / "suite.toml")
    convert_pipeline(folder, shared_recipe(folder / "tiny.toml"))
