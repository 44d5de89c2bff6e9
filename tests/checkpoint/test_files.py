from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from kokoro.model import KModel
from safetensors.torch import save_file

from kokoro_coreml.checkpoint import PARTS, Checkpoint, load_checkpoint, write_pth
from kokoro_coreml.checkpoint.files import flatten
from kokoro_coreml.errors import CheckpointError
from tests.support.tiny import tiny_checkpoint, tiny_config


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(tiny_config()), encoding="utf-8")
    return tmp_path


def assert_tiny(loaded: Checkpoint) -> None:
    for part in PARTS:
        expected = tiny_checkpoint().state[part]
        assert loaded.state[part].keys() == expected.keys()
        assert all(torch.equal(v, expected[k]) for k, v in loaded.state[part].items()), part


def test_pth_with_module_prefix_loads_from_its_folder(tiny_folder: Path) -> None:
    loaded = load_checkpoint(tiny_folder)
    assert_tiny(loaded)
    data = (tiny_folder / "tiny.pth").read_bytes()
    assert loaded.provenance.source == "file"
    assert loaded.provenance.location == "tiny.pth"
    assert loaded.provenance.files["tiny.pth"] == hashlib.sha256(data).hexdigest()
    assert set(loaded.provenance.files) == {"config.json", "tiny.pth"}
    assert str(tiny_folder) not in json.dumps(loaded.provenance.to_dict())


def test_pth_without_prefix_loads_as_a_file_given_as_text(folder: Path) -> None:
    torch.save({p: dict(s) for p, s in tiny_checkpoint().state.items()}, folder / "w.pth")
    assert_tiny(load_checkpoint(str(folder / "w.pth")))


def test_pth_of_the_old_format_that_cannot_be_mapped_loads(folder: Path) -> None:
    state = {p: dict(s) for p, s in tiny_checkpoint().state.items()}
    torch.save(state, folder / "w.pth", _use_new_zipfile_serialization=False)
    assert_tiny(load_checkpoint(folder))


def test_flat_state_dict_of_a_whole_kmodel_loads(folder: Path) -> None:
    buffer = io.BytesIO()
    write_pth(tiny_checkpoint(), buffer)
    buffer.seek(0)
    model: Any = KModel(repo_id="tiny", config=tiny_config(), model=buffer)
    torch.save(model.state_dict(), folder / "w.pth")
    assert_tiny(load_checkpoint(folder))


def test_written_pth_reaches_every_weight_of_upstreams_model(tiny_folder: Path) -> None:
    model: Any = KModel(repo_id="tiny", config=tiny_config(), model=str(tiny_folder / "tiny.pth"))
    for part in PARTS:
        held = getattr(model, part).state_dict()
        for key, value in tiny_checkpoint().state[part].items():
            assert torch.equal(held[key], value), f"{part}.{key}"


@pytest.mark.parametrize("prefix", ["", "module."])
def test_safetensors_with_flat_keys_loads(folder: Path, prefix: str) -> None:
    flat = {f"{prefix}{k}": v for k, v in flatten(tiny_checkpoint().state).items()}
    save_file(flat, folder / "w.safetensors")
    assert_tiny(load_checkpoint(folder / "w.safetensors"))


def test_safetensors_with_prefix_inside_the_part_loads(folder: Path) -> None:
    flat = {f"{p}.module.{k}": v for p, s in tiny_checkpoint().state.items() for k, v in s.items()}
    save_file(flat, folder / "w.safetensors")
    assert_tiny(load_checkpoint(folder))


def test_config_from_elsewhere_is_taken_and_recorded(tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "w.pth").symlink_to(tiny_folder / "tiny.pth")
    with pytest.raises(CheckpointError, match=r"w\.pth: no config\.json beside it"):
        load_checkpoint(tmp_path / "w.pth")
    (tmp_path / "mine.json").write_text(json.dumps(tiny_config()), encoding="utf-8")
    loaded = load_checkpoint(tmp_path / "w.pth", config=tmp_path / "mine.json")
    assert "mine.json" in loaded.provenance.files


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".onnx"])
@pytest.mark.parametrize("data", [b"", b"no weights at all\n" * 40, b"PK\x03\x04" + b"\0" * 400])
def test_empty_and_foreign_files_are_named(folder: Path, suffix: str, data: bytes) -> None:
    (folder / f"w{suffix}").write_bytes(data)
    with pytest.raises(CheckpointError, match=rf"w\{suffix}: "):
        load_checkpoint(folder)


@pytest.mark.parametrize("keep", [0.999, 0.5, 0.001])
def test_truncated_pth_is_refused(tiny_folder: Path, folder: Path, keep: float) -> None:
    data = (tiny_folder / "tiny.pth").read_bytes()
    (folder / "w.pth").write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(CheckpointError, match=r"w\.pth: not a PyTorch checkpoint, or truncated"):
        load_checkpoint(folder)


def test_truncated_safetensors_is_refused(folder: Path) -> None:
    save_file(flatten(tiny_checkpoint().state), folder / "w.safetensors")
    data = (folder / "w.safetensors").read_bytes()
    (folder / "w.safetensors").write_bytes(data[:-5])
    with pytest.raises(CheckpointError, match=r"w\.safetensors: not a safetensors file"):
        load_checkpoint(folder)


class Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, tuple[str, int]]:
        return os.mkdir, (str(self.target), 0o700)


@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_code_is_refused_and_never_run(folder: Path, zipped: bool) -> None:
    target = folder / "exploded"
    content = {"bert": {"weight": Bomb(target)}}
    torch.save(content, folder / "w.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match="refused, because it holds objects other than"):
        load_checkpoint(folder)
    assert not target.exists()
    pickle.loads(pickle.dumps(Bomb(target)))
    assert target.exists(), "the bomb is live, so the test means something"


@pytest.mark.parametrize("content", [[1, 2], {"net": {}, "epoch": 3}, torch.zeros(3), {}])
def test_pth_of_another_make_is_refused(folder: Path, content: Any) -> None:
    torch.save(content, folder / "w.pth")
    with pytest.raises(CheckpointError, match=r"w\.pth: "):
        load_checkpoint(folder)


def test_pin_that_differs_names_file_and_both_digests(tiny_folder: Path) -> None:
    found = hashlib.sha256((tiny_folder / "tiny.pth").read_bytes()).hexdigest()
    config = hashlib.sha256((tiny_folder / "config.json").read_bytes()).hexdigest()
    load_checkpoint(tiny_folder, sha256={"tiny.pth": found.upper(), "config.json": config})
    with pytest.raises(CheckpointError, match=rf"tiny\.pth: SHA-256 is {found}, expected 0000"):
        load_checkpoint(tiny_folder, sha256={"tiny.pth": "0" * 64})
    with pytest.raises(CheckpointError, match=r"config\.json: SHA-256"):
        load_checkpoint(tiny_folder, sha256={"config.json": "0" * 64})


def test_a_misspelt_pin_does_not_leave_a_file_unpinned(tiny_folder: Path) -> None:
    found = hashlib.sha256((tiny_folder / "tiny.pth").read_bytes()).hexdigest()
    with pytest.raises(CheckpointError, match=r"pin each of them"):
        load_checkpoint(tiny_folder, sha256={"tiny.pth": found})
    with pytest.raises(CheckpointError, match=r"tiny\.phtt"):
        load_checkpoint(tiny_folder, sha256={"tiny.phtt": "0" * 64})


@pytest.mark.parametrize("zipped", [True, False])
def test_every_truncation_and_flipped_byte_is_a_checkpoint_error(
    folder: Path, zipped: bool
) -> None:
    path = folder / "w.pth"
    torch.save(
        {"bert_encoder": {"weight": torch.ones(2, 2), "bias": torch.ones(2)}},
        path,
        _use_new_zipfile_serialization=zipped,
    )
    whole = path.read_bytes()
    step = max(1, len(whole) // 150)
    damaged = [whole[:k] for k in range(0, len(whole), step)]
    for k in range(0, len(whole), step):
        damaged.append(whole[:k] + bytes([whole[k] ^ 0xFF]) + whole[k + 1 :])
    for data in damaged:
        path.write_bytes(data)
        with pytest.raises(CheckpointError):
            load_checkpoint(folder)


def test_folder_with_several_weights_lists_them(folder: Path) -> None:
    (folder / "a.pth").touch()
    (folder / "b.onnx").touch()
    with pytest.raises(CheckpointError, match=r"exactly one of .*found a\.pth, b\.onnx"):
        load_checkpoint(folder)


def test_folder_without_weights_lists_what_it_holds(folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"exactly one of .*found config\.json"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    "spec", ["nothing-here", "weights/none.pth", "./none", "a/b/c", " ", "owner/name@", "/no/where"]
)
def test_spec_that_is_nothing_says_what_was_tried(spec: str) -> None:
    with pytest.raises(CheckpointError, match="no such file or folder, and not a Hub id"):
        load_checkpoint(spec)


def test_unknown_kind_of_file_is_refused(folder: Path) -> None:
    (folder / "w.gguf").write_bytes(b"GGUF")
    with pytest.raises(CheckpointError, match=r"w\.gguf: unknown kind of file"):
        load_checkpoint(folder / "w.gguf")


def test_arguments_that_do_not_go_together_are_refused(tiny_folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"revision .* goes only with a Hub id"):
        load_checkpoint(tiny_folder, revision="main")
    with pytest.raises(CheckpointError, match="config goes only with a file"):
        load_checkpoint(tiny_folder, config=tiny_folder / "config.json")
    with pytest.raises(CheckpointError, match="asks for revision a, but b"):
        load_checkpoint("owner/name@a", revision="b")
