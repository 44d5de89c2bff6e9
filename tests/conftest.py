"""Fixtures shared by all tests, and how a run is divided among processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from kokoro_coreml import threads
from kokoro_coreml.cache import StageCache
from kokoro_coreml.checkpoint import Checkpoint, load_checkpoint
from kokoro_coreml.manifest import read_manifest
from kokoro_coreml.parity.reference import Reference
from kokoro_coreml.progress import SILENT, Reporter
from tests.support import cut_pipeline, workers
from tests.support import tiny_bundle as complete
from tests.support import tiny_pipeline as pipeline
from tests.support.tiny import tiny_checkpoint

settings.register_profile("unhurried", deadline=None)  # a busy machine is no defect
settings.load_profile("unhurried")

LONGEST_FIRST = (
    "test_pipeline_conversion.py",
    "test_conversion.py",
    "test_real_weights.py",
    "test_real_pipeline.py",
    "parity/test_planted_faults.py",
    "parity/test_pipeline_faults.py",
    "checkpoint/test_files.py",
    "test_cli_proof.py",
    "parity/test_half_precision.py",
    "modules/test_pipeline.py",
    "parity/test_recognition.py",
    "lowering/test_tracing.py",
    "parity/test_stored.py",
    "compression/test_budget.py",
    "goldens/test_recorded_network.py",
    "test_pipeline_ios17.py",
    "sizes/test_run.py",
    "goldens/test_recordings.py",
    "coreml/test_coreml_verify.py",
    "bench/test_bench.py",
)
"""Files that take long, so that no worker begins one when the others have nothing left."""


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Several processes for the whole suite; this one alone for files that are named."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    if config.args and all(".py" in argument for argument in config.args):
        return 0
    return workers.count_workers(cores=workers.usable_cores(), memory_bytes=workers.memory_bytes())


def pytest_xdist_setupnodes() -> None:
    """The workers inherit the environment, and libraries read it when they are loaded."""
    os.environ.update(workers.ENVIRONMENT)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Workers take files in this order."""
    folder = Path(__file__).parent
    place = {folder / name: number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


@pytest.fixture(scope="session", autouse=True)
def own_stage_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Finished stages of this run alone: what the machine's user converted before is not seen."""
    folder = tmp_path_factory.mktemp("stages")

    def default(*, reporter: Reporter = SILENT) -> StageCache:
        return StageCache(folder, reporter=reporter)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StageCache, "default", default)
        yield


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> None:
    """A shell's job in the background ignores Ctrl-C, and so would every process it starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Quicker where other workers run; fixtures of a module or the session are set up before."""
    monkeypatch.setattr(threads, "THREADS", 1)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)  # what measures sets it for its whole process


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
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny network converted by the cut `complete`, once for all workers: read it only."""
    return workers.once_per_run(tmp_path_factory, "complete", complete.fill_folder)


@pytest.fixture(scope="session")
def tiny_pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same by the cut `pipeline`."""
    return workers.once_per_run(tmp_path_factory, "pipeline", pipeline.fill_folder)


@pytest.fixture(scope="session")
def recorded_bundle(packaged: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small cut of the default recipe, of the real weights: the bundle of the recordings."""

    def fill(folder: Path) -> None:
        parity = read_manifest(cut_pipeline.RECORDINGS).parity
        cut_pipeline.build_unjudged(folder / "bundle", packaged, parity)

    return workers.once_per_run(tmp_path_factory, "recorded", fill) / "bundle"


@pytest.fixture(scope="session")
def bench(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> complete.Bench:
    return complete.Bench(tiny_bundle, tmp_path_factory.mktemp("planted"))
