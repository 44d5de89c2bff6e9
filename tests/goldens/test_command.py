"""Writing golden files, by the function and by the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kokoro_coreml.cli import main
from kokoro_coreml.goldens import GoldensError, read_index, recordings, write_goldens
from kokoro_coreml.goldens import cases as registry
from kokoro_coreml.goldens.cases import Case, Function
from kokoro_coreml.goldens.recording import DEFAULT_PHRASES, Phrase
from kokoro_coreml.goldens.recordings import Recorded


@pytest.fixture
def two(monkeypatch):
    """Two small functions instead of all."""
    found = {
        "a": Function("a", 0.0, lambda: [Case("one", {"x": 1}, {"y": "é"}), Case("two", {}, {})]),
        "b": Function("b", 0.5, lambda: [Case("one", {}, {"y": 0.5})]),
    }
    monkeypatch.setattr(registry, "_FUNCTIONS", found)
    return found


def snapshot(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_files_hold_one_case_per_line(two, tmp_path):
    written = write_goldens(tmp_path / "deep" / "goldens")
    folder = written.folder
    assert folder == tmp_path / "deep" / "goldens"
    assert written.cases == {"a": 2, "b": 1}
    assert written.bytes == sum(len(data) for data in snapshot(folder).values())
    assert (folder / "a.json").read_text(encoding="utf-8") == (
        '{"schema": 1, "function": "a", "tolerance": 0, "cases": [\n'
        '{"id": "one", "input": {"x": 1}, "output": {"y": "é"}},\n'
        '{"id": "two", "input": {}, "output": {}}\n'
        "]}\n"
    )
    assert json.loads((folder / "b.json").read_text(encoding="utf-8"))["tolerance"] == 0.5
    assert set(read_index(folder)["files"]) == {"a.json", "b.json", "vocabulary.json"}


def test_earlier_files_are_replaced_only_when_asked(two, tmp_path):
    write_goldens(tmp_path)
    before = snapshot(tmp_path)
    with pytest.raises(GoldensError, match="holds golden files already; use --force"):
        write_goldens(tmp_path)
    assert snapshot(tmp_path) == before
    (tmp_path / "a.json").write_text("damaged")
    write_goldens(tmp_path, force=True)
    assert snapshot(tmp_path) == before


def test_what_is_no_golden_file_any_more_is_removed_and_nothing_else(two, tmp_path):
    write_goldens(tmp_path)
    (tmp_path / "stages").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    del two["b"]
    write_goldens(tmp_path, force=True)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"a.json", "index.json", "vocabulary.json", "stages", "notes.txt"}


@pytest.mark.parametrize("force", [False, True])
def test_another_folder_is_left_alone(two, tmp_path, force):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(GoldensError, match="is not empty and holds no golden files"):
        write_goldens(tmp_path, force=force)
    assert set(snapshot(tmp_path)) == {"notes.txt"}


@pytest.mark.parametrize("index", ["", "[]", '{"schema": 2, "files": {}}', '{"schema": 1}'])
def test_an_index_of_another_kind_is_refused(two, tmp_path, index):
    (tmp_path / "index.json").write_text(index)
    with pytest.raises(GoldensError, match="index"):
        write_goldens(tmp_path, force=True)
    assert snapshot(tmp_path) == {"index.json": index.encode()}


def test_an_index_cannot_point_out_of_its_folder(two, tmp_path):
    folder = tmp_path / "goldens"
    write_goldens(folder)
    outside = tmp_path / "x.json"
    outside.write_text("mine")
    index = read_index(folder)
    index["files"]["../x.json"] = {}
    (folder / "index.json").write_text(json.dumps(index))
    write_goldens(folder, force=True)
    assert outside.read_text() == "mine"


def test_a_file_in_the_place_of_the_folder_is_refused(two, tmp_path):
    (tmp_path / "goldens").write_text("mine")
    with pytest.raises(GoldensError, match="is a file"):
        write_goldens(tmp_path / "goldens", force=True)


def test_a_place_that_cannot_be_written_is_named(two, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(GoldensError, match=r"cannot write '.*goldens': Not a directory"):
        write_goldens(tmp_path / "file" / "goldens")


def test_nothing_is_written_when_a_case_fails(two, tmp_path):
    def broken():
        raise GoldensError("case 'one': accepted")

    two["b"] = Function("b", 0.0, broken)
    with pytest.raises(GoldensError, match="accepted"):
        write_goldens(tmp_path / "goldens")
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_to_artifacts(two, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["goldens"]) == 0
    output = capsys.readouterr()
    assert output.out == ""
    assert "artifacts/goldens: 3 cases of 2 functions" in output.err
    assert (tmp_path / "artifacts/goldens/index.json").is_file()
    assert main(["goldens"]) == 11
    assert "error: goldens: 'artifacts/goldens' holds golden files" in capsys.readouterr().err
    assert main(["goldens", "--force", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_the_command_prints_one_object(two, tmp_path, capsys):
    out = str(tmp_path / "x")
    assert main(["goldens", "--out", out, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == {"folder": out, "cases": {"a": 2, "b": 1}, "bytes": found["bytes"]}
    assert main(["goldens", "--out", out, "--json"]) == 11
    assert json.loads(capsys.readouterr().out)["error"]["title"] == "goldens"


# recordings


@pytest.fixture
def calls(monkeypatch):
    """What the command asks for, instead of recordings."""
    found = []

    def write(bundle, out, **given):
        del given["reporter"]
        found.append((bundle, out, given))
        print("a library prints to standard output")
        return Recorded(out, {"short": 7, "halves": 16}, 1234)

    monkeypatch.setattr(recordings, "write_recordings", write)
    return found


def test_a_bundle_is_recorded_whole_at_its_own_voice_and_speeds(calls, capsys):
    assert main(["goldens", "b"]) == 0
    out = Path("artifacts/goldens/recordings")
    given = {"said": DEFAULT_PHRASES, "voice": None, "largest": None, "force": False}
    assert calls == [(Path("b"), out, given)]
    output = capsys.readouterr()
    assert output.out == ""
    assert f"{out}: 2 recordings of 23 runs, 1234 bytes" in output.err


def test_every_option_of_a_recording_reaches_the_function(calls, capsys):
    options = ["--phonemes", "ɐ", "--phonemes", "ˈO", "--voice", "x", "--speed", "0.5"]
    assert (
        main(["goldens", "b", "--out", "r", *options, "--largest", "0", "--force", "--json"]) == 0
    )
    said = (Phrase("phonemes-1", "ɐ", 0.5), Phrase("phonemes-2", "ˈO", 0.5))
    given = {"said": said, "voice": "x", "largest": 0, "force": True}
    assert calls == [(Path("b"), Path("r"), given)]
    found = json.loads(capsys.readouterr().out)
    assert found == {"folder": "r", "runs": {"short": 7, "halves": 16}, "bytes": 1234}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--speed", "1"], "--speed is for the recordings of a bundle"),
        (["--voice", "x"], "--voice is for the recordings of a bundle"),
        (["--phonemes", "ɐ"], "--phonemes is for the recordings of a bundle"),
        (["--largest", "0"], "--largest is for the recordings of a bundle"),
        (["b", "--speed", "nan"], "expected a number from 0.5 to 2.0"),
        (["b", "--largest", "-1"], "largest"),
    ],
)
def test_a_wrong_command_line_writes_nothing(
    calls, tmp_path, monkeypatch, capsys, arguments, message
):
    monkeypatch.chdir(tmp_path)
    assert main(["goldens", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert calls == list(tmp_path.iterdir()) == []


def test_what_is_no_bundle_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["goldens", "nothing", "--json"]) == 11
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["title"] == "bundle"
    assert "'nothing' is not a bundle" in error["message"]
    assert list(tmp_path.iterdir()) == []
