"""Packages to merge, each set converted once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coremltools.converters.mil import Builder as mb

from tests.lowering.merging import SHARED, WEIGHTS, dense, palettes, save


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three functions of one network in several shapes, one of them without weights."""
    folder = tmp_path_factory.mktemp("packages")
    rng = np.random.default_rng(2)
    made = {
        f"rows_{n}": save(
            dense(rng.standard_normal((n, 64)).astype(np.float32)), n, folder / f"{n}.mlpackage"
        )
        for n in (2, 5)
    }
    made["plain"] = save(lambda x: mb.relu(x=x, name="y"), 3, folder / "plain.mlpackage")
    return made


@pytest.fixture(scope="module")
def compressed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("compressed")
    return {f"rows_{n}": save(palettes, n, folder / f"{n}.mlpackage") for n in (2, 5)}


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Functions without nested blocks, one of them without weights."""
    folder = tmp_path_factory.mktemp("straight")

    def body(x: Any) -> Any:
        y = mb.linear(x=x, weight=SHARED)
        y = mb.add(x=y, y=np.full(x.shape, 0.5, np.float32))
        return mb.linear(x=y, weight=SHARED.T.copy(), bias=SHARED[0], name="y")

    made = {f"rows_{n}": save(body, n, folder / f"{n}.mlpackage") for n in (2, 5)}
    made["plain"] = save(lambda x: mb.relu(x=x, name="y"), 3, folder / "plain.mlpackage")
    return made


@pytest.fixture
def without_weights(packages: dict[str, Path], tmp_path: Path) -> Iterator[Path]:
    copy = shutil.copytree(packages["rows_2"], tmp_path / "copy.mlpackage")
    (copy / WEIGHTS).unlink()
    return copy
