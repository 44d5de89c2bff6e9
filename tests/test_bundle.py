from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections import namedtuple
from pathlib import Path

import pytest

from kokoro_coreml.bundle import (
    hash_files,
    is_bundle,
    normalise_package,
    render_card,
    seal,
    sha256_of,
    staged,
    verify_files,
)
from kokoro_coreml.bundle.card import base_model, languages
from kokoro_coreml.errors import BundleError, PackageError, ParityError
from kokoro_coreml.manifest import read_manifest
from tests.support.bundles import CONTENT, example_manifest, fill, snapshot

ROOT = Path(__file__).parent.parent
NEED = 1000


def write_bundle(out, *, force=False, need_bytes=NEED):
    with staged(out, force=force, need_bytes=need_bytes) as folder:
        fill(folder)


def fail_inside(out, exception):
    with staged(out, force=True, need_bytes=NEED) as folder:
        fill(folder)
        raise exception


@pytest.fixture
def earlier(tmp_path):
    """A bundle that is there before the test, with a mark that no new one has."""
    out = tmp_path / "bundle"
    write_bundle(out)
    manifest = read_manifest(out)
    (out / "sample.wav").write_bytes(b"earlier")
    seal(out, manifest)
    return out


@pytest.fixture
def unchanged(earlier):
    before = snapshot(earlier)
    yield
    assert snapshot(earlier) == before
    assert_alone(earlier)


def assert_alone(out):
    assert [p.name for p in out.parent.iterdir()] == [out.name]


def start(code):
    """A Python process; the caller waits for the line it prints when it is where it should be."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


HOLD = """
    import sys, time
    from pathlib import Path
    from kokoro_coreml.bundle import staged
    with staged(Path({out!r}), force=True, need_bytes=1) as folder:
        (folder / "half").write_text("half")
        print("ready", flush=True)
        time.sleep(60)
"""


def hold(out):
    process = start(HOLD.format(out=str(out)))
    assert process.stdout.readline() == "ready\n"
    return process


# staging


def test_the_folder_appears_whole_and_nothing_else_is_left(tmp_path):
    out = tmp_path / "new" / "bundle"
    with staged(out, force=False, need_bytes=NEED) as folder:
        fill(folder)
        assert not out.exists()
        assert folder.stat().st_dev == tmp_path.stat().st_dev
    assert verify_files(out).recipe.name == "complete"
    assert_alone(out)


def test_an_empty_folder_is_filled(tmp_path):
    out = tmp_path / "bundle"
    out.mkdir()
    write_bundle(out)
    assert is_bundle(out)
    assert_alone(out)


@pytest.mark.usefixtures("unchanged")
def test_an_earlier_bundle_is_not_replaced_without_force(earlier):
    with (
        pytest.raises(BundleError, match=r"holds a bundle already; use --force"),
        staged(earlier, force=False, need_bytes=NEED),
    ):
        pytest.fail("the block must not be entered")


def test_force_replaces_an_earlier_bundle(earlier):
    write_bundle(earlier, force=True)
    assert (earlier / "sample.wav").read_bytes() == CONTENT["sample.wav"]
    verify_files(earlier)
    assert_alone(earlier)


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_that_is_not_a_bundle_is_never_replaced(tmp_path, force):
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "manifest.json").write_text('{"name": "an npm package"}')
    with pytest.raises(BundleError, match="not a bundle"):
        write_bundle(out, force=force)
    assert [p.name for p in out.iterdir()] == ["manifest.json"]
    assert_alone(out)


def test_a_file_in_the_way_is_named(tmp_path):
    out = tmp_path / "bundle"
    out.write_text("mine")
    with pytest.raises(BundleError, match="is a file"):
        write_bundle(out, force=True)
    assert out.read_text() == "mine"
    assert_alone(out)


def test_a_place_that_fills_while_converting_is_not_overwritten(tmp_path):
    out = tmp_path / "bundle"

    def occupied_meanwhile():
        with staged(out, force=True, need_bytes=NEED) as folder:
            fill(folder)
            out.mkdir()
            (out / "notes.txt").write_text("mine")

    with pytest.raises(BundleError, match="never overwritten"):
        occupied_meanwhile()
    assert (out / "notes.txt").read_text() == "mine"
    assert_alone(out)


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    "exception",
    [ParityError("too far"), KeyboardInterrupt(), SystemExit(143), ZeroDivisionError(), OSError(5)],
    ids=repr,
)
def test_any_exception_leaves_the_earlier_bundle_and_passes_through(earlier, exception):
    with pytest.raises(type(exception)) as caught:
        fail_inside(earlier, exception)
    assert caught.value is exception


@pytest.mark.usefixtures("unchanged")
def test_a_failing_move_puts_the_earlier_bundle_back(earlier, monkeypatch):
    rename = Path.rename

    def failing(self, target):
        if self.name == "new":
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="Input/output"):
        write_bundle(earlier, force=True)


def test_a_bundle_that_cannot_be_put_back_is_kept_for_the_next_run(earlier, monkeypatch, tmp_path):
    before = snapshot(earlier)
    rename = Path.rename

    def failing(self, target):
        if self.name in ("new", "earlier"):
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="Input/output"):
        write_bundle(earlier, force=True)
    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(BundleError, match="use --force"):
        write_bundle(earlier, force=False)
    assert snapshot(earlier) == before


def test_a_folder_with_a_manifest_of_another_make_is_never_replaced(tmp_path):
    web = tmp_path / "web"
    web.mkdir()
    (web / "manifest.json").write_text('{"schema_version": 3, "name": "app"}', encoding="utf-8")
    with pytest.raises(BundleError, match="not a bundle"), staged(web, force=True, need_bytes=1):
        raise AssertionError("entered")
    assert (web / "manifest.json").exists()


@pytest.mark.usefixtures("unchanged")
def test_too_little_room_is_said_before_anything_is_done(earlier, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(10**9, 10**9, 5_000_000))
    with (
        pytest.raises(BundleError, match=r"5 MB free.*needs 300 MB"),
        staged(earlier, force=True, need_bytes=300_000_000),
    ):
        pytest.fail("the block must not be entered")


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "the file system is read-only"),
    ],
)
def test_a_disk_that_refuses_mid_write_is_a_bundle_error(earlier, code, reason):
    with pytest.raises(BundleError, match=reason):
        fail_inside(earlier, OSError(code, os.strerror(code), str(earlier / "weight.bin")))


@pytest.mark.usefixtures("unchanged")
def test_a_native_writer_failing_on_a_full_disk_is_a_bundle_error(earlier, monkeypatch):
    free = iter([NEED, 100])
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(10**9, 10**9, next(free)))
    with pytest.raises(BundleError, match="the disk is full"):
        fail_inside(earlier, RuntimeError("write failed"))


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_a_read_only_place_is_a_bundle_error(tmp_path, monkeypatch, code):
    mkdir = os.mkdir

    def refusing(path, *args, **kwargs):
        if str(path).startswith(str(tmp_path)):
            raise OSError(code, os.strerror(code), str(path))
        return mkdir(path, *args, **kwargs)

    monkeypatch.setattr(os, "mkdir", refusing)
    with pytest.raises(BundleError, match=r"cannot write .*bundle.*(read-only|denied)"):
        write_bundle(tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root ignores permission bits")
def test_a_folder_without_write_permission_is_a_bundle_error(tmp_path):
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(BundleError, match="permission denied"):
            write_bundle(tmp_path / "bundle")
    finally:
        tmp_path.chmod(0o755)


def test_a_refusal_elsewhere_is_not_blamed_on_the_bundle(tmp_path):
    refusal = PermissionError(errno.EACCES, "Permission denied", "/elsewhere/checkpoint.pth")
    with pytest.raises(PermissionError), staged(tmp_path / "b", force=False, need_bytes=NEED):
        raise refusal


@pytest.mark.parametrize("out", ["/", "/.."])
def test_the_root_is_refused(out):
    with pytest.raises(BundleError, match="give the path of a folder"):
        write_bundle(Path(out))


def test_a_link_to_a_bundle_is_followed_and_kept(earlier):
    link = earlier.parent / "link"
    link.symlink_to(earlier.name)
    write_bundle(link, force=True)
    assert link.is_symlink()
    assert (earlier / "sample.wav").read_bytes() == CONTENT["sample.wav"]


@pytest.mark.usefixtures("unchanged")
def test_a_second_writer_is_refused_and_does_not_disturb_the_first(earlier):
    process = hold(earlier)
    try:
        with pytest.raises(BundleError, match="another process is writing"):
            write_bundle(earlier, force=True)
        (work,) = earlier.parent.glob(".bundle.*")
        assert (work / "new" / "half").read_text() == "half"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(10)


def test_what_a_killed_run_left_is_cleaned_by_the_next(earlier):
    process = hold(earlier)
    process.kill()
    process.wait(10)
    assert len(list(earlier.parent.iterdir())) == 2
    write_bundle(earlier, force=True)
    assert not (earlier / "half").exists()
    assert_alone(earlier)


def test_a_bundle_set_aside_by_a_run_killed_in_its_swap_is_put_back(earlier):
    before = snapshot(earlier)
    work = earlier.parent / ".bundle.partial"
    (work / "new").mkdir(parents=True)
    earlier.rename(work / "earlier")
    with pytest.raises(BundleError, match="use --force"):
        write_bundle(earlier)
    assert snapshot(earlier) == before
    assert_alone(earlier)


def test_a_work_folder_that_vanishes_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    out, flock, calls = tmp_path / "bundle", fcntl.flock, []

    def late(descriptor, operation):
        calls.append(operation)
        if len(calls) == 1:
            (tmp_path / ".bundle.partial").rmdir()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    write_bundle(out)
    assert len(calls) == 2
    assert_alone(out)


def test_many_writers_at_once_leave_one_whole_bundle(tmp_path):
    out = tmp_path / "bundle"
    code = """
        from pathlib import Path
        from tests.support.bundles import fill
        from kokoro_coreml.bundle import staged
        from kokoro_coreml.errors import BundleError
        done = 0
        for _ in range(40):
            try:
                with staged(Path({out!r}), force=True, need_bytes=1) as folder:
                    fill(folder)
                done += 1
            except BundleError as error:
                assert "another process" in str(error), error
        print(done)
    """
    processes = [start(code.format(out=str(out))) for _ in range(3)]
    done = [int(p.communicate(timeout=120)[0]) for p in processes]
    assert [p.returncode for p in processes] == [0, 0, 0]
    assert sum(done) >= 3
    verify_files(out)
    assert_alone(out)


# files


def test_every_file_is_hashed_by_relative_path(tmp_path):
    fill(tmp_path)
    (tmp_path / ".DS_Store").write_bytes(b"finder")
    found = hash_files(tmp_path)
    assert list(found) == sorted([*CONTENT, "LICENSE", "NOTICE", "README.md"])
    assert found["sample.wav"].bytes == 4
    assert found["sample.wav"].sha256 == sha256_of(tmp_path / "sample.wav")


def test_a_link_inside_a_bundle_is_refused(tmp_path):
    fill(tmp_path)
    (tmp_path / "link").symlink_to("sample.wav")
    with pytest.raises(BundleError, match="link"):
        hash_files(tmp_path)


def test_missing_changed_and_extra_files_are_all_named(tmp_path):
    fill(tmp_path)
    verify_files(tmp_path)
    (tmp_path / "sample.wav").unlink()
    (tmp_path / "voices/af_heart.bin").write_bytes(b"voicf")
    (tmp_path / "voices/extra.bin").write_bytes(b"")
    with pytest.raises(BundleError) as caught:
        verify_files(tmp_path)
    for part in (
        "missing: sample.wav;",
        "changed: voices/af_heart.bin;",
        "extra: voices/extra.bin.",
    ):
        assert part in str(caught.value)


def test_two_sealed_bundles_are_the_same_bytes(tmp_path):
    for name in "ab":
        write_bundle(tmp_path / name)
    assert snapshot(tmp_path / "a") == snapshot(tmp_path / "b")


def test_sealing_refuses_a_manifest_whose_package_is_not_there(tmp_path):
    fill(tmp_path)
    manifest = read_manifest(tmp_path)
    shutil.rmtree(tmp_path / "KokoroComplete.mlpackage")
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(BundleError, match=r"KokoroComplete\.mlpackage"):
        seal(tmp_path, manifest)
    assert not is_bundle(tmp_path)


def test_licence_and_notice_travel_with_the_bundle(tmp_path):
    fill(tmp_path)
    assert "Apache License" in (tmp_path / "LICENSE").read_text(encoding="utf-8")
    notice = (tmp_path / "NOTICE").read_text(encoding="utf-8")
    for name in ("hexgrad", "StyleTTS", "thewh1teagle", "af_heart"):
        assert name in notice


# model card


def test_the_card_states_origin_interface_parity_and_limits():
    card = render_card(example_manifest())
    front, body = card.split("\n---\n", 1)
    assert front.splitlines()[:6] == [
        "---",
        "license: apache-2.0",
        "library_name: coreml",
        "pipeline_tag: text-to-speech",
        "base_model: hexgrad/Kokoro-82M",
        "language:",
    ]
    assert "- en" in front
    for part in (
        "source: packaged",
        "hub, could not be had",
        "| input | `input_ids` | int32 | [1, 128] |",
        "| output | `audio` | float32 | [1, 1, 240000] |",
        "at most 10.0 s of speech",
        "| audio | passed | audio_snr_db 41.2 | audio_snr_db 35 |",
        "At most 510 phonemes",
        "Core ML itself was not run",
        "MLShapedArray<Int32>(scalars: input_ids, shape: [1, 128])",
        "computeUnits = .cpuOnly",
    ):
        assert part in body
    assert "{{" not in card
    assert "\n\n\n" not in card


def test_languages_come_from_upstream_voice_names_only():
    assert languages(["af_heart", "bm_george", "ff_siwis", "em_alex", "mine"]) == ["en", "es", "fr"]
    assert languages(["mine"]) == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [("hub", "someone/Fork"), ("packaged", "hexgrad/Kokoro-82M"), ("file", None), ("onnx", None)],
)
def test_the_base_model_is_named_only_where_it_is_known(source, expected):
    import dataclasses

    manifest = example_manifest()
    checkpoint = dataclasses.replace(manifest.checkpoint, source=source, location="someone/Fork")
    changed = dataclasses.replace(manifest, checkpoint=checkpoint)
    assert base_model(changed) == expected
    assert ("base_model:" in render_card(changed)) == (expected is not None)


# packages

CONVERT = """
    import datetime, sys, torch, coremltools as ct
    from unittest import mock
    from pathlib import Path
    from coremltools.converters import _converters_entry as entry
    class Day(datetime.date):
        @classmethod
        def today(cls):
            return cls(2020, 1, int(sys.argv[1]) if len(sys.argv) > 1 else {day})
    entry.date = Day
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.Tanh(), torch.nn.Linear(32, 16))
    traced = torch.jit.trace(net.eval(), torch.zeros(1, 64))
    model = ct.convert(traced, inputs=[ct.TensorType("x", shape=(1, 64))],
        minimum_deployment_target=ct.target.iOS17, compute_precision=ct.precision.FLOAT32,
        skip_model_load=True)
    model.save({path!r})
    print("saved")
"""


def contents(package):
    return {
        p.relative_to(package).as_posix(): p.read_bytes() for p in package.rglob("*") if p.is_file()
    }


@pytest.fixture(scope="module")
def twice_converted(tmp_path_factory):
    """The same network converted by two processes on two days, with different hash seeds."""
    folder = tmp_path_factory.mktemp("packages")
    paths = [folder / f"{day}.mlpackage" for day in (1, 2)]
    for day, path in enumerate(paths, start=1):
        process = start(CONVERT.format(day=day, path=str(path)))
        assert "saved" in process.communicate(timeout=200)[0]
    return paths


@pytest.fixture
def packages(twice_converted, tmp_path):
    return [Path(shutil.copytree(path, tmp_path / path.name)) for path in twice_converted]


def test_two_conversions_are_the_same_bytes_once_normalised(packages):
    first, second = packages
    differing = {k for k, v in contents(first).items() if contents(second)[k] != v}
    model = "Data/com.apple.CoreML/model.mlmodel"
    assert differing == {"Manifest.json", model}, "coremltools has become deterministic"
    for package in packages:
        normalise_package(package)
    assert contents(first) == contents(second)


def test_normalising_keeps_versions_drops_the_day_and_changes_nothing_twice(packages):
    import coremltools

    normalise_package(packages[0])
    once = contents(packages[0])
    normalise_package(packages[0])
    assert contents(packages[0]) == once
    spec = coremltools.models.MLModel(str(packages[0]), skip_model_load=True).get_spec()
    metadata = spec.description.metadata.userDefined
    assert metadata["com.github.apple.coremltools.version"] == "9.0"
    assert not any("date" in key for key in metadata)


def test_identifiers_follow_the_weights(packages):
    weights = packages[1] / "Data/com.apple.CoreML/weights/weight.bin"
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    for package in packages:
        normalise_package(package)
    assert contents(packages[0])["Manifest.json"] != contents(packages[1])["Manifest.json"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("Manifest.json", b"{"),
        ("Manifest.json", b"[]"),
        ("Manifest.json", b'{"itemInfoEntries": {}, "rootModelIdentifier": "x"}'),
        ("Data/com.apple.CoreML/model.mlmodel", b"\xff\xff\xff"),
        ("Data/com.apple.CoreML/model.mlmodel", None),
    ],
)
def test_a_broken_package_is_refused(packages, name, content):
    path = packages[0] / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(PackageError):
        normalise_package(packages[0])
