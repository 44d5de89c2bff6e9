"""Fixtures shared by all tests: the tiny random network and the real, packaged one."""

from __future__ import annotations

import pytest

from kokoro_coreml.checkpoint import Checkpoint, load_checkpoint
from kokoro_coreml.parity.reference import Reference
from tests.support.tiny import tiny_checkpoint


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
