"""Fixtures shared by all tests: the tiny random network and the real, packaged one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kokoro_coreml.cache import StageCache
from kokoro_coreml.checkpoint import Checkpoint, load_checkpoint
from kokoro_coreml.parity.reference import Reference
from kokoro_coreml.progress import SILENT, Reporter
from tests.support.tiny import tiny_checkpoint
from tests.support.tiny_bundle import Bench, convert_tiny, write_suite


@pytest.fixture(scope="session", autouse=True)
def own_stage_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Finished stages of this run alone: what the machine's user converted before is not seen."""
    folder = tmp_path_factory.mktemp("stages")

    def default(*, reporter: Reporter = SILENT) -> StageCache:
        return StageCache(folder, reporter=reporter)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StageCache, "default", default)
        yield


@pytest.fixture(scope="session")
def tiny() -> Checkpoint:
    return tiny_checkpoint()


@pytest.fixture(scope="session")
def packaged() -> Checkpoint:
    return load_checkpoint("packaged")


@pytest.fixture(scope="session")
def tiny_reference(tiny: Checkpoint) -> Reference:
    return Reference(tiny)


@pytest.fixture(scope="session")
def packaged_reference(packaged: Checkpoint) -> Reference:
    return Reference(packaged)


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A bundle of the tiny network, converted for real, and what verifies copies of it."""
    folder = tmp_path_factory.mktemp("tiny_bundle")
    write_suite(folder / "suite.toml")
    return Bench(folder, convert_tiny(folder))
