"""`run`, `verify` and `diff` on the command line."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from kokoro_coreml.cli import main
from kokoro_coreml.cli.commands import _wants_json
from kokoro_coreml.errors import ParityError
from kokoro_coreml.parity import verification
from kokoro_coreml.parity.request import EVERY_LEG
from kokoro_coreml.parity.results import load_report
from kokoro_coreml.parity.summary import summary
from kokoro_coreml.recipe import Bucket
from kokoro_coreml.synthesis import shapes_of
from tests.support.tiny_bundle import PACKAGE, tiny_thresholds

SHORT = ("inputs = upstream", "package = upstream")


@pytest.fixture
def inputs(bench, tmp_path):
    """Inputs of the tiny package as an .npz."""
    path = tmp_path / "in.npz"
    mask = np.zeros((1, 32), np.int32)
    mask[:, :8] = 1
    np.savez(
        path,
        input_ids=np.pad(np.full((1, 6), 50, np.int32), ((0, 0), (1, 25))),
        attention_mask=mask,
        ref_s=np.linspace(-1, 1, 256, dtype=np.float32)[None],
        random_phases=np.zeros((1, 9), np.float32),
        speed=np.ones(1, np.float32),
    )
    return path


def test_run_writes_outputs_and_captures(bench, inputs, tmp_path, capsys):
    out = tmp_path / "out.npz"
    arguments = ["run", str(bench.bundle / PACKAGE), "--input", str(inputs), "--output", str(out)]
    assert main([*arguments, "--capture", "var_184", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    found = np.load(out)
    assert set(found.files) == {"audio", "audio_length_samples", "pred_dur", "var_184"}
    assert record["arrays"]["audio"] == {"dtype": "float32", "shape": [1, 1, 6656]}
    assert record["load_seconds"] > 0
    assert record["run_seconds"] > 0
    assert found["pred_dur"][0, 8:].sum() == 0
    assert main(arguments) == 11
    assert "--force" in capsys.readouterr().err
    assert main([*arguments, "--force", "--precision", "stress", "--quiet"]) == 0
    assert set(np.load(out).files) == {"audio", "audio_length_samples", "pred_dur"}
    assert list(tmp_path.glob(".*")) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--capture", "nothing"], "cannot capture nothing"),
        (["--function", "other"], "no function 'other' in this package; it has: main"),
        (["--precision", "half"], "'half' does not exist"),
    ],
)
def test_run_names_what_does_not_exist(bench, inputs, tmp_path, capsys, change, message):
    arguments = ["run", str(bench.bundle / PACKAGE), "-i", str(inputs)]
    assert main([*arguments, "-o", str(tmp_path / "out.npz"), *change]) == 9
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out.npz").exists()


def test_run_refuses_inputs_that_are_no_archive(bench, tmp_path, capsys):
    for name, content in (("a.npz", b"no zip"), ("b.npz", b""), ("c.npz", b"PK\x03\x04garbage")):
        path = tmp_path / name
        path.write_bytes(content)
        out = tmp_path / "out.npz"
        assert main(["run", str(bench.bundle / PACKAGE), "-i", str(path), "-o", str(out)]) == 9
        assert "cannot read the inputs" in capsys.readouterr().err


def verify(bench, *more):
    suite = ["--suite", str(bench.folder / "suite.toml")]
    return main(
        ["verify", str(bench.bundle), "--checkpoint", str(bench.folder / "weights"), *suite, *more]
    )


def waive(*kept):
    return [part for leg in EVERY_LEG if leg not in kept for part in ("--waive", leg)]


@pytest.fixture
def loose(monkeypatch):
    """Bounds that a random network can keep."""
    monkeypatch.setattr(verification, "thresholds_for", lambda *_, **__: tiny_thresholds())


def test_verify_passes_and_writes_its_reports(bench, loose, tmp_path, capsys):
    files = ["--json", str(tmp_path / "parity.json"), "--html", str(tmp_path / "parity.html")]
    assert verify(bench, *waive(*SHORT), *files) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "passed: bundle, suite tiny, declared" in captured.err
    report = load_report(tmp_path / "parity.json")
    assert report.verdict == "passed", summary(report)
    assert {leg.name for leg in report.legs if leg.verdict == "waived"} == {
        name for name in EVERY_LEG if name not in (*SHORT, "range")
    }
    assert (tmp_path / "parity.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert list(tmp_path.glob(".*")) == []


def test_verify_fails_with_its_own_code_and_one_json_object(bench, tmp_path, capsys):
    code = verify(bench, *waive(*SHORT), "--json", "-", "--html", str(tmp_path / "p.html"))
    assert code == ParityError.exit_code
    record = json.loads(capsys.readouterr().out)
    assert record["verdict"] == "failed"
    assert any("audio_snr_db" in case["failed"] for case in record["cases"])
    assert (tmp_path / "p.html").is_file()


def test_words_that_no_case_asks_for_are_no_failure(bench, loose, capsys):
    assert verify(bench, *waive("inputs = upstream", "package = upstream", "words")) == 0
    assert "not run  words (no case of the suite asks for it)" in capsys.readouterr().err


def test_a_verdict_needs_the_package_itself(bench, loose, capsys):
    assert verify(bench, *waive("inputs = upstream")) == ParityError.exit_code
    assert "failed: bundle" in capsys.readouterr().err


def test_a_bucket_that_no_case_reaches_is_a_failure(bench, loose, capsys, monkeypatch):
    def two(bundle, manifest):
        (shape,) = shapes_of(bundle, manifest)
        return [shape, replace(shape, bucket=Bucket(32, 4000))]

    monkeypatch.setattr(verification, "shapes_of", two)
    assert verify(bench, *waive(*SHORT)) == ParityError.exit_code
    assert "no case of the suite tiny belongs to" in " ".join(capsys.readouterr().err.split())


def test_stress_on_a_float32_package_says_that_nothing_was_examined(bench, loose, capsys):
    kept = [*SHORT, "range"]
    assert verify(bench, *waive(*kept), "--precision", "stress") == 0
    message = " ".join(capsys.readouterr().err.split())
    assert "not run range (nothing is declared in half precision)" in message


def test_an_unexpected_error_fails_its_leg_and_the_report_is_written(
    bench, loose, capsys, monkeypatch, tmp_path
):
    def broken(*_):
        raise RuntimeError("something else")

    monkeypatch.setattr(verification.packages, "say", broken)
    out = tmp_path / "parity.json"
    assert verify(bench, *waive(*SHORT), "--json", str(out)) == ParityError.exit_code
    assert "RuntimeError: something else" in out.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "json"),
    [
        (["verify", "b", "--json", "p.json"], False),
        (["verify", "b", "--json", "-"], True),
        (["verify", "b", "--json=-"], True),
        (["check", "verify", "--json"], True),
        (["say", "b", "--phonemes", "verify", "--json"], True),
        (["verify", "b"], False),
    ],
)
def test_when_standard_output_is_json(arguments, json):
    assert _wants_json(arguments) is json


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--runtime", "gpu"], 10, "unknown runtime 'gpu'; known: executor, coreml"),
        (["--precision", "int8"], 10, "unknown precision 'int8'; known: float32, declared, stress"),
        (["--waive", "audio"], 10, "unknown leg 'audio'; known: inputs = upstream,"),
        (["--compute-units", "NPU"], 10, "unknown compute units 'NPU'"),
        (["--suite", "huge"], 3, "unknown suite 'huge'"),
        (["--json", "missing/parity.json"], 11, "its folder does not exist"),
    ],
)
def test_verify_names_what_does_not_exist(bench, capsys, arguments, code, message):
    assert verify(bench, *arguments) == code
    assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.skipif(sys.platform == "darwin", reason="a Mac has Core ML")
def test_core_ml_needs_a_mac(bench, capsys):
    assert verify(bench, "--runtime", "coreml") == 9
    assert "needs macOS" in " ".join(capsys.readouterr().err.split())


def test_verify_wants_the_bundles_own_weights(bench, capsys):
    assert main(["verify", str(bench.bundle)]) == 10
    assert "--checkpoint" in capsys.readouterr().err
    assert main(["verify", str(bench.bundle), "--checkpoint", "packaged"]) == 10
    message = " ".join(capsys.readouterr().err.split())
    assert "not the weights the bundle was made from" in message


def test_diff_lists_operations_with_the_modules_they_come_from(bench, capsys):
    arguments = ["diff", str(bench.bundle), "--checkpoint", str(bench.folder / "weights")]
    assert main([*arguments, "--stage", "KokoroComplete", "--top", "5", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["compared"] > 0.9 * record["operations"]
    assert record["suspects"] == []
    worst = record["worst"]
    assert len(worst) == 5
    assert [o["local_snr_db"] for o in worst] == sorted(o["local_snr_db"] for o in worst)
    assert worst[0]["module"] == "decoder.generator.stft (SourceSTFT)"
    assert main([*arguments, "--stage", "Decoder"]) == 11
    assert "no stage 'Decoder'" in capsys.readouterr().err
