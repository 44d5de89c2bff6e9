"""The cache of stages gives back the very bytes, never damaged ones, and never breaks its user."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kokoro_coreml import cache
from kokoro_coreml.cache import StageCache
from kokoro_coreml.fingerprint import Key, stage_key
from kokoro_coreml.progress import Reporter

FILES = {
    "Manifest.json": b"{}",
    "Data/com.apple.CoreML/model.mlmodel": bytes(range(256)),
    "Data/com.apple.CoreML/weights/weight.bin": bytes(4096),
    "Data/com.apple.CoreML/empty.txt": b"",
}
SIZE = sum(map(len, FILES.values()))

DEFAULT = StageCache.default
"""As it is outside the tests, which put another in its place (`conftest.own_stage_cache`)."""


class Notes(Reporter):
    def __init__(self) -> None:
        self.messages: list[str] = []

    def note(self, message: str) -> None:
        self.messages.append(message)


def key(number: int) -> Key:
    return stage_key({"number": number})


def write_package(path: Path, mark: bytes = b"") -> Path:
    for name, content in FILES.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    (path / "Manifest.json").write_bytes(mark.ljust(2))
    (path / "Data" / "folder").mkdir()  # coremltools leaves an empty one without weights
    return path


def snapshot(path: Path) -> dict[str, bytes | None]:
    return {
        p.relative_to(path).as_posix(): None if p.is_dir() else p.read_bytes()
        for p in path.rglob("*")
    }


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def stages(tmp_path: Path, notes: Notes) -> StageCache:
    return StageCache(tmp_path / "cache", reporter=notes)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return write_package(tmp_path / "one.mlpackage", b"1")


def entries(stages: StageCache) -> set[str]:
    return {p.name for p in stages.folder.iterdir()} - {"lock"}


def held(stages: StageCache, tmp_path: Path, *numbers: int) -> list[bool]:
    """Which entries are there, without using them."""
    return [(stages.folder / str(key(number))).is_dir() for number in numbers]


def test_what_was_put_comes_back_byte_for_byte(
    stages: StageCache, package: Path, tmp_path: Path, notes: Notes
) -> None:
    target = tmp_path / "out.mlpackage"
    assert not stages.get(key(1), target)
    stages.put(key(1), package)
    assert stages.get(key(1), target)
    assert snapshot(target) == snapshot(package)
    assert not stages.get(key(2), tmp_path / "other.mlpackage")
    assert {p.name for p in tmp_path.iterdir()} == {"cache", "one.mlpackage", "out.mlpackage"}
    assert notes.messages == []


def test_an_entry_is_a_copy_on_both_sides(
    stages: StageCache, package: Path, tmp_path: Path
) -> None:
    expected = snapshot(package)
    stages.put(key(1), package)
    (package / "Manifest.json").write_bytes(b"changed")
    first, second = tmp_path / "first", tmp_path / "second"
    assert stages.get(key(1), first)
    (first / "Manifest.json").write_bytes(b"changed")
    assert stages.get(key(1), second)
    assert snapshot(second) == expected


def flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "model": lambda e: flip(e / "package/Data/com.apple.CoreML/model.mlmodel"),
    "weights": lambda e: flip(e / "package/Data/com.apple.CoreML/weights/weight.bin"),
    "truncated": lambda e: os.truncate(e / "package/Manifest.json", 1),
    "missing file": lambda e: (e / "package/Data/com.apple.CoreML/empty.txt").unlink(),
    "missing folder": lambda e: (e / "package/Data/folder").rmdir(),
    "extra file": lambda e: (e / "package/Data/extra").write_bytes(b""),
    "link": lambda e: (e / "package/Data/extra").symlink_to("folder"),
    "no package": lambda e: shutil.rmtree(e / "package"),
    "no record": lambda e: (e / "record.json").unlink(),
    "empty record": lambda e: (e / "record.json").write_bytes(b""),
    "list for a record": lambda e: (e / "record.json").write_bytes(b"[1]"),
    "record of nothing": lambda e: (e / "record.json").write_bytes(b'{"key": 1, "package": 2}'),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_entry_is_removed_noted_and_made_anew(
    how: str, stages: StageCache, package: Path, tmp_path: Path, notes: Notes
) -> None:
    stages.put(key(1), package)
    DAMAGE[how](stages.folder / str(key(1)))
    assert not stages.get(key(1), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert entries(stages) == set()
    assert "damaged" in notes.messages[0]
    assert str(key(1)) in notes.messages[0]
    stages.put(key(1), package)
    assert stages.get(key(1), tmp_path / "out")
    assert len(notes.messages) == 1


@pytest.mark.parametrize("place", range(0, 700, 41))
def test_no_flipped_byte_of_the_record_goes_unseen(
    place: int, stages: StageCache, package: Path, tmp_path: Path
) -> None:
    """But for one that leaves its meaning as it is."""
    stages.put(key(1), package)
    record = stages.folder / str(key(1)) / "record.json"
    raw = bytearray(record.read_bytes())
    raw[place % len(raw)] ^= 1
    record.write_bytes(raw)
    if stages.get(key(1), tmp_path / "out"):
        assert snapshot(tmp_path / "out") == snapshot(package)


def test_an_entry_in_the_place_of_another_is_damage(
    stages: StageCache, package: Path, tmp_path: Path, notes: Notes
) -> None:
    stages.put(key(1), package)
    (stages.folder / str(key(1))).rename(stages.folder / str(key(2)))
    assert not stages.get(key(2), tmp_path / "out")
    assert f"stored under {key(1)}" in notes.messages[0]


def test_the_one_used_longest_ago_goes_first(package: Path, tmp_path: Path, notes: Notes) -> None:
    stages = StageCache(tmp_path / "cache", limit_bytes=4 * SIZE, reporter=notes)
    for number in (1, 2, 3):
        stages.put(key(number), package)
    assert stages.get(key(1), tmp_path / "out")
    stages.put(key(4), package)  # records take space as well: three fit
    assert held(stages, tmp_path, 1, 2, 3, 4) == [True, False, True, True]
    stages.put(key(3), package)  # there already, and so used
    stages.put(key(5), package)
    assert held(stages, tmp_path, 1, 2, 3, 4, 5) == [False, False, True, True, True]
    assert len(entries(stages)) == 3
    assert notes.messages == []


def test_what_is_larger_than_the_limit_is_not_kept(
    package: Path, tmp_path: Path, notes: Notes
) -> None:
    stages = StageCache(tmp_path / "cache", limit_bytes=SIZE - 1, reporter=notes)
    stages.put(key(1), package)
    assert not stages.folder.exists()
    assert f"{SIZE} bytes are more than the {SIZE - 1}" in notes.messages[0]


def test_only_old_remains_of_dead_processes_are_removed(stages: StageCache, package: Path) -> None:
    dead, alive = (stages.folder / f".new-{digit * 32}" for digit in "01")
    for path in (dead, alive):
        path.mkdir(parents=True)
    long_ago = time.time() - 2 * cache.ABANDONED_SECONDS
    os.utime(dead, (long_ago, long_ago))
    stages.put(key(1), package)
    assert entries(stages) == {str(key(1)), alive.name}


def test_a_folder_that_cannot_be_used_is_no_cache(
    package: Path, tmp_path: Path, notes: Notes
) -> None:
    (tmp_path / "file").touch()
    stages = StageCache(tmp_path / "file" / "cache", reporter=notes)
    for number in (1, 2):
        stages.put(key(number), package)
        assert not stages.get(key(number), tmp_path / str(number))
    assert len(notes.messages) == 1
    assert "cannot be used" in notes.messages[0]


def test_a_folder_without_locks_is_no_cache(
    stages: StageCache, package: Path, tmp_path: Path, notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages.put(key(1), package)

    def refuse(*_args: object, **_options: object) -> None:
        raise NotImplementedError("no locks here")

    monkeypatch.setattr(cache, "FileLock", refuse)
    assert not stages.get(key(1), tmp_path / "out")
    stages.put(key(2), package)
    assert notes.messages == [
        "Cache of finished stages: it cannot be used and is left alone from here on "
        "(no locks here)."
    ]


@pytest.fixture
def filling_up(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The disk is full after the first file; what was written is listed."""
    written: list[str] = []

    def copy(source: str, target: str, **_options: object) -> str:
        if written:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(target)
        return shutil.copyfile(source, target)

    monkeypatch.setattr(cache.shutil, "copy", copy)
    return written


def test_a_full_disk_leaves_the_cache_as_it_was(
    stages: StageCache, package: Path, notes: Notes, filling_up: list[str]
) -> None:
    stages.put(key(2), package)
    assert filling_up
    assert entries(stages) == set()
    assert "No space left" in notes.messages[0]


def test_a_full_disk_leaves_no_half_package(
    stages: StageCache, package: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    stages.put(key(1), package)
    written = request.getfixturevalue("filling_up")
    assert not stages.get(key(1), tmp_path / "out" / "one.mlpackage")
    assert written
    assert list((tmp_path / "out").iterdir()) == []
    assert entries(stages) == {str(key(1))}


def test_a_package_with_a_link_is_not_kept(stages: StageCache, package: Path, notes: Notes) -> None:
    (package / "link").symlink_to("Manifest.json")
    stages.put(key(1), package)
    assert entries(stages) == set()
    assert "neither a file nor a folder" in notes.messages[0]


def test_the_default_follows_the_variable(
    tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KOKORO_COREML_CACHE", str(tmp_path / "elsewhere"))
    DEFAULT().put(key(1), package)
    assert (tmp_path / "elsewhere" / "stages" / str(key(1))).is_dir()


WORKER = """
import sys
from pathlib import Path
from kokoro_coreml.cache import StageCache
from kokoro_coreml.fingerprint import Key
from kokoro_coreml.progress import Reporter

class Loud(Reporter):
    def note(self, message):
        sys.exit(message)

folder, package, limit = sys.argv[1:]
stages = StageCache(Path(folder), limit_bytes=int(limit), reporter=Loud())
print("ready", flush=True)
sys.stdin.readline()
for round in range(12):
    key = Key(f"{round % 3:064x}")
    target = Path(f"{package}-{round}")
    if stages.get(key, target):
        assert len((target / "Manifest.json").read_bytes()) == 2, "not whole"
    stages.put(key, Path(package))
"""


def test_processes_that_put_get_and_evict_at_once_do_not_disturb_each_other(
    stages: StageCache, tmp_path: Path
) -> None:
    limit = 3 * SIZE  # two entries with their records: one of the three keys is always evicted
    workers = []
    for mark in "12":
        package = write_package(tmp_path / f"{mark}.mlpackage", mark.encode())
        arguments = [str(stages.folder), str(package), str(limit)]
        workers.append(
            subprocess.Popen(
                [sys.executable, "-c", WORKER, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    for worker in workers:
        assert worker.stdout
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin
        worker.stdin.write("go\n")
        worker.stdin.flush()
    for worker in workers:
        _, errors = worker.communicate(timeout=300)
        assert worker.returncode == 0, errors
    left = entries(stages)
    assert len(left) == 2
    for name in left:
        assert stages.get(Key(name), tmp_path / name)
