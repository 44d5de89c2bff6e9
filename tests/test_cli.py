from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import types
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from kokoro_coreml import __version__, errors
from kokoro_coreml.bundle import staged
from kokoro_coreml.cli import exit_codes, main
from kokoro_coreml.cli.reporting import RichReporter
from kokoro_coreml.errors import KokoroError
from kokoro_coreml.manifest import Manifest
from tests.support.bundles import fill, snapshot

ROOT = Path(__file__).parent.parent


@dataclass
class Result:
    bundle: Path
    manifest: Manifest

    def to_dict(self):
        return {"bundle": str(self.bundle), "parity": self.manifest.parity.verdict}


class Stub:
    """Stands in for `kokoro_coreml.conversion.convert`; writes the small bundle."""

    def __init__(self):
        self.calls = []
        self.error = None

    def convert(self, recipe, *, checkpoint, voices, out, force, budget, reporter):
        self.calls.append(
            {
                "recipe": recipe.name,
                "checkpoint": checkpoint,
                "voices": voices,
                "out": out,
                "force": force,
                "budget": budget,
                "compression": recipe.compression and recipe.compression.default,
            }
        )
        print("a library prints to standard output")
        with reporter.step("Tracing", total=2) as advance:
            advance(2)
        reporter.note("weights: packaged")
        reporter.warn("the Hub could not be reached")
        if self.error is not None:
            raise self.error
        with staged(out, force=force, need_bytes=1) as folder:
            manifest = fill(folder)
        return Result(out, manifest)


@pytest.fixture
def stub(monkeypatch, tmp_path):
    stub = Stub()
    module = types.ModuleType("kokoro_coreml.conversion")
    module.convert = stub.convert
    monkeypatch.setitem(sys.modules, "kokoro_coreml.conversion", module)
    monkeypatch.chdir(tmp_path)
    return stub


# convert


def test_convert_without_arguments_builds_the_pipeline_in_artifacts(stub, tmp_path, capsys):
    assert main(["convert"]) == 0
    assert stub.calls == [
        {
            "recipe": "kokoro-82m",
            "checkpoint": None,
            "voices": (),
            "out": Path("artifacts/kokoro-82m"),
            "force": False,
            "budget": None,
            "compression": "exact",
        }
    ]
    assert (tmp_path / "artifacts/kokoro-82m/manifest.json").is_file()
    output = capsys.readouterr()
    assert output.out == ""
    for part in ("✓ Tracing", "weights: packaged", "warning: the Hub", "Bundle: artifacts/"):
        assert part in output.err


def test_every_option_reaches_the_function(stub):
    arguments = ["--checkpoint", "x.pth", "--voice", "a", "--voice", "b*0.5+c*0.5", "--force"]
    assert main(["convert", "complete", *arguments, "--out", "here"]) == 0
    assert stub.calls == [
        {
            "recipe": "complete",
            "checkpoint": "x.pth",
            "voices": ("a", "b*0.5+c*0.5"),
            "out": Path("here"),
            "force": True,
            "budget": None,
            "compression": None,
        }
    ]


def test_compression_and_budget_reach_the_function(stub, capsys):
    assert main(["convert", "kokoro-82m", "--compression", "palette6/16"]) == 0
    assert main(["convert", "kokoro-82m", "--budget", "45 MB", "--force"]) == 0
    found = [(call["compression"], call["budget"]) for call in stub.calls]
    assert found == [("palette6/16", None), ("exact", 45_000_000)]
    for arguments, code in (
        (["kokoro-82m", "--compression", "int8", "--budget", "45MB"], 2),
        (["kokoro-82m", "--compression", "int7"], 3),
        (["kokoro-82m", "--budget", "small"], 3),
        (["complete", "--budget", "45MB"], 3),
    ):
        assert main(["convert", *arguments]) == code, arguments
        capsys.readouterr()
    assert len(stub.calls) == 2


def test_json_prints_exactly_one_object_on_standard_output(stub, capsys):
    assert main(["convert", "--json"]) == 0
    output = capsys.readouterr()
    assert json.loads(output.out) == {"bundle": "artifacts/kokoro-82m", "parity": "passed"}
    assert "a library prints" in output.err


def test_quiet_shows_warnings_only(stub, capsys, monkeypatch):
    convert = sys.modules["kokoro_coreml.conversion"].convert
    monkeypatch.setattr("builtins.print", lambda *_args, **_options: None)
    assert main(["convert", "--quiet"]) == 0
    assert convert.__self__ is stub
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err == "warning: the Hub could not be reached\n"


def test_an_existing_bundle_needs_force(stub, capsys):
    assert main(["convert"]) == 0
    before = snapshot(Path("artifacts/kokoro-82m"))
    capsys.readouterr()
    assert main(["convert"]) == 11
    assert "use --force" in capsys.readouterr().err
    assert snapshot(Path("artifacts/kokoro-82m")) == before
    assert main(["convert", "--force"]) == 0


def test_an_unknown_recipe_key_has_its_exit_code_and_nothing_is_converted(stub, tmp_path, capsys):
    path = tmp_path / "mine.toml"
    path.write_text('schema = 1\nvoises = ["af_heart"]\n')
    assert main(["convert", str(path)]) == 3
    error = capsys.readouterr().err
    assert "unknown key 'voises'" in error
    assert "'voices'" in error
    assert stub.calls == []


@pytest.mark.parametrize(
    "kind",
    [v for v in vars(errors).values() if isinstance(v, type) and issubclass(v, KokoroError)],
)
def test_each_error_is_one_message_with_its_exit_code(stub, capsys, kind):
    stub.error = kind("what was [wrong] and what to do")
    assert main(["convert", "--quiet"]) == kind.exit_code
    output = capsys.readouterr()
    assert output.err.splitlines()[-1] == f"error: {kind.title}: what was [wrong] and what to do"
    assert "Traceback" not in output.err
    assert output.out == ""


def test_an_error_as_json_is_the_only_object_and_names_its_class(stub, capsys):
    stub.error = errors.VoiceError("no such voice")
    assert main(["convert", "--json"]) == 6
    assert json.loads(capsys.readouterr().out) == {
        "error": {
            "type": "VoiceError",
            "title": "voice",
            "message": "no such voice",
            "exit_code": 6,
        }
    }


def test_a_long_message_stays_on_one_line(stub, capsys):
    stub.error = errors.VoiceError("word " * 80 + "end")
    main(["convert", "--quiet"])
    line = capsys.readouterr().err.splitlines()[-1]
    assert line == "error: voice: " + "word " * 80 + "end"


def test_a_defect_asks_for_debug_and_a_report(stub, capsys):
    stub.error = ZeroDivisionError("division by zero")
    assert main(["convert"]) == 1
    error = capsys.readouterr().err
    assert "ZeroDivisionError: division by zero" in error
    assert "--debug" in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("error", "code"), [(ZeroDivisionError("zero"), 1), (errors.ParityError("far"), 10)]
)
def test_debug_shows_the_traceback(stub, capsys, error, code):
    stub.error = error
    assert main(["convert", "--debug"]) == code
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert "in convert" in shown


def test_a_keyboard_interrupt_is_130(stub, capsys):
    stub.error = KeyboardInterrupt()
    assert main(["convert"]) == 130
    assert "an earlier bundle is unchanged" in capsys.readouterr().err


SLOW = """
    import sys, time, types
    from tests.support.bundles import fill
    from kokoro_coreml.bundle import staged
    def convert(recipe, *, checkpoint, voices, out, force, budget, reporter):
        with reporter.step("Tracing"), staged(out, force=force, need_bytes=1) as folder:
            fill(folder)
            (folder / "half").write_text("half")
            print("ready", flush=True)
            time.sleep(60)
    module = types.ModuleType("kokoro_coreml.conversion")
    module.convert = convert
    sys.modules["kokoro_coreml.conversion"] = module
    from kokoro_coreml.cli import main
    sys.exit(main(["convert", "--force", "--out", sys.argv[1]]))
"""


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_a_signal_during_conversion_leaves_the_earlier_bundle(tmp_path, number, code, word):
    out = tmp_path / "bundle"
    with staged(out, force=False, need_bytes=1) as folder:
        fill(folder)
    before = snapshot(out)
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SLOW), str(out)],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    shown = ""
    while "ready" not in shown:
        shown += process.stderr.readline()
    assert len(list(tmp_path.iterdir())) == 2
    process.send_signal(number)
    shown += process.communicate(timeout=20)[1]
    assert process.returncode == code
    assert f"error: {word}" in shown
    assert "Traceback" not in shown
    assert snapshot(out) == before
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]


# other commands


def test_recipes_lists_names_and_descriptions(capsys):
    assert main(["recipes"]) == 0
    assert capsys.readouterr().out.startswith("complete  Kokoro-82M")
    assert main(["recipes", "--json"]) == 0
    assert "complete" in json.loads(capsys.readouterr().out)["recipes"]


def test_check_accepts_a_whole_bundle_and_names_what_changed(tmp_path, capsys):
    fill(tmp_path)
    assert main(["check", str(tmp_path)]) == 0
    assert "whole; 8 files" in capsys.readouterr().err
    assert main(["check", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == 8
    (tmp_path / "sample.wav").write_bytes(b"RIFG")
    assert main(["check", str(tmp_path)]) == 11
    assert "changed: sample.wav" in capsys.readouterr().err


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"


# usage


@pytest.mark.parametrize(
    "arguments", [[], ["build"], ["convert", "--fast"], ["convert", "a", "b"], ["check"]]
)
def test_a_wrong_command_line_is_exit_code_2(arguments, capsys):
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith("error: usage: ")
    assert main([*arguments, "--json"]) == 2
    record = json.loads(capsys.readouterr().out)["error"]
    assert (record["title"], record["exit_code"]) == ("usage", 2)


def test_help_lists_every_exit_code(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for code, meaning in exit_codes().items():
        assert f"{code:>3}  {meaning}" in text


def test_exit_codes_are_distinct_and_cover_every_error():
    kinds = [v for v in vars(errors).values() if isinstance(v, type) and issubclass(v, KokoroError)]
    own = [kind.exit_code for kind in kinds if kind is not KokoroError]
    assert len(own) == len(set(own)) == 10
    assert set(exit_codes()) == {0, 1, 2, 130, 143, *own}


def test_help_imports_nothing_heavy():
    code = """
        import sys
        from kokoro_coreml.cli import main
        main(["convert", "--help"])
        heavy = {"torch", "coremltools", "numpy", "transformers", "soundfile"} & set(sys.modules)
        sys.exit(f"imported {heavy}" if heavy else 0)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


# progress


def shown_by(terminal, quiet, act):
    stream = StringIO()
    console = Console(file=stream, force_terminal=terminal, width=80, soft_wrap=True)
    reporter = RichReporter(console, quiet=quiet)
    act(reporter)
    return stream.getvalue()


def nested(reporter):
    with reporter.step("Outer [a]") as outer, reporter.step("Inner", total=4) as inner:
        outer(1)
        inner(4)
        time.sleep(0.15)
        reporter.warn("careful")


def test_a_terminal_sees_running_steps_and_their_marks():
    text = shown_by(True, False, nested)
    assert "\x1b[" in text
    assert text.index("✓ Inner (0.") < text.index("✓ Outer [a] (0.")
    assert "━" in text
    assert "0:00:00" in text


def test_without_a_terminal_each_step_is_plain_lines():
    lines = shown_by(False, False, nested).splitlines()
    assert lines[:3] == ["  Outer [a] ...", "  Inner ...", "warning: careful"]
    assert lines[3].startswith("✓ Inner (0.")
    assert lines[4].startswith("✓ Outer [a] (0.")
    assert len(lines) == 5


def test_quiet_keeps_warnings():
    assert shown_by(False, True, nested) == "warning: careful\n"


@pytest.mark.parametrize("terminal", [True, False])
def test_a_failing_step_is_marked_and_the_error_passes(terminal):
    def act(reporter):
        with pytest.raises(KeyboardInterrupt), reporter.step("Tracing"):
            raise KeyboardInterrupt
        with reporter.step("Again"):
            pass

    text = shown_by(terminal, False, act)
    assert "✗ Tracing (0.0 s)" in text
    assert "✓ Again (0.0 s)" in text
    assert "✓ Tracing" not in text


def test_the_readme_lists_every_exit_code() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    for code, meaning in exit_codes().items():
        assert f"| {code} | {meaning} |" in readme
