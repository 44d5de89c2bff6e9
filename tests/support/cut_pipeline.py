"""The recipe `kokoro-82m` cut to the small buckets that the committed recordings are of.

`python -m tests.support.cut_pipeline FILE` writes it, for `kokoro-coreml convert`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np

from kokoro_coreml.bundle import seal
from kokoro_coreml.bundle.contents import build_manifest
from kokoro_coreml.cache import StageCache
from kokoro_coreml.checkpoint import Checkpoint
from kokoro_coreml.conversion.building import Builder
from kokoro_coreml.conversion.job import Job
from kokoro_coreml.manifest import ParityRecord
from kokoro_coreml.modules.pipeline import PipelineNetwork
from kokoro_coreml.progress import SILENT
from kokoro_coreml.recipe import PIPELINE, load_recipe
from kokoro_coreml.resources import recipes_folder

RECORDINGS = Path(__file__).parents[2] / "artifacts" / "goldens" / "recordings"

CHANGES = {
    "tokens": "[32, 64]",
    "frames": "[128]",
    "text": '"Keep the ladder away from the window, please."',
    "phonemes": '"kˈip ðə lˈædəɹ əwˈA fɹʌm ðə wˈɪndO, plˈiz."',
}


def recipe_text() -> str:
    """The recipe, with a sample that its buckets hold."""
    text = (recipes_folder() / "kokoro-82m.toml").read_text(encoding="utf-8")
    for key, value in CHANGES.items():
        text, found = re.subn(rf"(?m)^{key} = .*$", f"{key} = {value}", text)
        assert found == 1, key
    return text


def build_unjudged(folder: Path, weights: Checkpoint, parity: ParityRecord) -> None:
    """Fill `folder` with the bundle that `convert` makes, but for its verdict, which is given.

    What `convert` compares is proven elsewhere, and takes as long again.
    """
    path = folder.with_suffix(".toml")
    path.write_text(recipe_text(), encoding="utf-8")
    folder.mkdir()
    job = Job(load_recipe(path), folder, SILENT)
    packs = job.voices(weights, ())
    builder = Builder(job, PipelineNetwork(weights), StageCache.default())
    packages = [record for name in PIPELINE for record in builder.build(name)]
    job.write(weights, packs, np.zeros(1, dtype=np.float32))
    seal(folder, build_manifest(job.recipe, weights, packs, packages, parity))


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(recipe_text(), encoding="utf-8")
