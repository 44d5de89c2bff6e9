"""Files of the tiny network and the parts of the real one, for the tests of this folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kokoro_coreml.checkpoint import write_pth
from kokoro_coreml.checkpoint.packaged import packaged_onnx
from kokoro_coreml.progress import Reporter
from tests.support.tiny import tiny_checkpoint, tiny_config


class Recorder(Reporter):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, message: str) -> None:
        self.warnings.append(message)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds `config.json` and `tiny.pth`, as upstream writes it (with `module.`)."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "config.json").write_text(json.dumps(tiny_config()), encoding="utf-8")
    write_pth(tiny_checkpoint(), folder / "tiny.pth")
    return folder


@pytest.fixture(scope="session")
def onnx_bytes() -> bytes:
    return packaged_onnx()
