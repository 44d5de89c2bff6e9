"""Every module test runs on the tiny network and on the real one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from kokoro_coreml.checkpoint import Checkpoint
from kokoro_coreml.modules.complete import KokoroCompleteCoreML
from kokoro_coreml.noise import source_noise
from kokoro_coreml.parity.metrics import snr_db
from kokoro_coreml.parity.reference import Reference

EXACT_DB = 90.0
"""Float32 rounding in another order of summation stays above this."""


@dataclass(frozen=True)
class Pair:
    """Upstream's network and the rewrite, with the same weights."""

    checkpoint: Checkpoint
    reference: Reference

    @property
    def upstream(self) -> torch.nn.Module:
        return self.reference.model

    def rewrite(self, tokens: int, frames: int, seed: int = 0) -> KokoroCompleteCoreML:
        samples = self.checkpoint.config.samples_per_frame * frames
        return KokoroCompleteCoreML(self.checkpoint, tokens, frames, source_noise(seed, samples))


@pytest.fixture(scope="session", params=["tiny", "packaged"])
def pair(request: pytest.FixtureRequest) -> Pair:
    return Pair(
        request.getfixturevalue(request.param),
        request.getfixturevalue(f"{request.param}_reference"),
    )


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
    with torch.inference_mode():
        yield


def snr(reference: torch.Tensor, candidate: torch.Tensor) -> float:
    return snr_db(reference=np.asarray(reference), candidate=np.asarray(candidate))
