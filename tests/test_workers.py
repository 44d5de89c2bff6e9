"""How many workers a run gets, and what they share."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support import workers

GIB = 2**30


class Factory:
    """Gives a folder, as pytest's own does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def getbasetemp(self) -> Path:
        return self.folder


@pytest.fixture
def factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Of a run in one process."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    return Factory(tmp_path)


@pytest.mark.parametrize(
    ("cores", "gib", "expected"), [(2, 16, 2), (1, 64, 1), (64, 64, 4), (8, 9, 2), (2, 2, 1)]
)
def test_workers_fit_the_cores_and_the_memory(cores: int, gib: int, expected: int) -> None:
    assert workers.count_workers(cores=cores, memory_bytes=gib * GIB) == expected


def test_this_machine_has_a_core_and_memory() -> None:
    assert 1 <= workers.usable_cores() <= (os.cpu_count() or 1)
    assert workers.memory_bytes() > GIB // 4


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="this is no worker")
def test_a_worker_takes_one_core() -> None:
    assert torch.get_num_threads() == 1
    assert os.environ.items() >= workers.ENVIRONMENT.items()


def test_what_is_made_once_is_made_by_the_first_and_waited_for(factory: Any) -> None:
    calls = []

    def make(folder: Path) -> None:
        calls.append(folder)
        time.sleep(0.2)
        (folder / "file").touch()

    def ask(_: int) -> bool:
        return (workers.once_per_run(factory, "thing", make) / "file").exists()

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(ask, range(4)))
    assert len(calls) == 1


def test_what_could_not_be_made_is_made_anew(factory: Any) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        workers.once_per_run(factory, "thing", fail)
    folder = workers.once_per_run(factory, "thing", lambda folder: (folder / "whole").touch())
    assert [path.name for path in folder.iterdir()] == ["whole"]


def test_workers_share_a_folder_that_is_none_of_theirs(
    factory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert workers.run_folder(factory) == factory.folder
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw1")
    assert workers.run_folder(factory) == factory.folder.parent
