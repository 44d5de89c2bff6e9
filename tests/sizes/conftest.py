"""The tiny network's recipe, weights and suite, and its trials at one bucket."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from kokoro_coreml import threads
from kokoro_coreml.modules.pipeline import PipelineNetwork
from kokoro_coreml.parity.flows import EagerStages
from kokoro_coreml.parity.suite import load_suite
from kokoro_coreml.progress import SILENT
from kokoro_coreml.recipe import Bucket, load_recipe
from kokoro_coreml.sizes.measuring import Fitting, Measurer
from kokoro_coreml.sizes.request import at_one_bucket
from kokoro_coreml.sizes.run import _trials
from tests.support.tiny_bundle import write_checkpoint, write_suite
from tests.support.tiny_pipeline import pipeline_recipe

TOKENS, FRAMES = 32, 128


@dataclass
class Small:
    folder: Path

    @property
    def recipe(self):
        return str(self.folder / "tiny.toml")

    @property
    def suite(self):
        return str(self.folder / "suite.toml")

    @property
    def weights(self):
        return str(self.folder / "weights")


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sizes")
    pipeline_recipe(folder / "tiny.toml")
    write_suite(folder / "suite.toml")
    write_checkpoint(folder / "weights")
    return Small(folder)


@pytest.fixture(scope="session")
def tiny_network(tiny):
    return PipelineNetwork(tiny)


@pytest.fixture(scope="session")
def tiny_trials(small, tiny, tiny_network, tiny_reference):
    """Those of the suite, with the noise of upstream's source."""
    recipe = at_one_bucket(load_recipe(small.recipe), TOKENS, FRAMES)
    fitting = Fitting([Bucket(TOKENS, FRAMES)], tiny_network)
    trials, skipped = _trials(
        recipe, tiny, tiny_reference, fitting, load_suite(small.suite), SILENT
    )
    assert not skipped
    return trials, fitting.noise(recipe.noise.seed), recipe.noise.seed


@pytest.fixture
def measurer(tiny_trials, tiny_reference):
    trials, noise, seed = tiny_trials
    return Measurer(tiny_reference, trials, noise, seed, SILENT, None)


@pytest.fixture
def eager(tiny_network):
    """The modules in place of packages."""
    return EagerStages(tiny_network, [TOKENS], [FRAMES])


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    monkeypatch.setattr(threads, "THREADS", 1)  # quicker where other processes run
