"""The whole of `bench`: real processes, the report, its schema, and the command line."""

from __future__ import annotations

import json

import jsonschema
import pytest

import kokoro_coreml.bench
from kokoro_coreml.bench import BenchReport, BenchRequest, bench, bench_schema, load_bench, render
from kokoro_coreml.bench.errors import BenchError
from kokoro_coreml.bench.results import Conversion, ConversionRun, StepTime
from kokoro_coreml.bench.run import NO_MAC, NO_RECIPE, SESSIONS, failures
from kokoro_coreml.cli import main
from kokoro_coreml.resources import data_file
from kokoro_coreml.threads import THREADS
from tests.support.tiny_bundle import PACKAGE


@pytest.fixture(scope="module")
def report(small):
    request = BenchRequest(
        small.bundle, checkpoint=small.checkpoint, suite=small.suite, repeat=2, precision="float32"
    )
    return bench(request)


@pytest.fixture
def converted(report):
    """The report with a conversion in it, the warm one failed."""
    cold = ConversionRun("cold", "measured", None, 9.5, (StepTime("trace", 2.0, None),), 1.0, 5, 7)
    warm = ConversionRun("warm", "failed", "no room", None, (), None, None, None)
    return BenchReport(
        **(vars(report) | {"conversion": Conversion("complete", "packaged", (cold, warm), None)})
    )


def test_the_bundle_and_upstream_are_measured_and_the_other_network_is_not(report):
    executor, upstream, onnx = report.utterances.runners
    assert report.utterances.order == ("executor", "upstream", "onnxruntime")
    for runner in (executor, upstream):
        assert runner.verdict == "measured"
        assert [case.case for case in runner.cases] == ["hello", "quick"]
        assert all(len(case.seconds.values) == 2 for case in runner.cases)
        assert runner.real_time_factor > 0
        assert runner.peak_bytes > runner.base_bytes > 10_000_000
        assert runner.load_seconds > 0
    assert onnx.verdict == "skipped"
    assert "another network" in onnx.reason
    assert onnx.real_time_factor is None
    ratios = {(r.runner, r.versus, r.case) for r in report.utterances.ratios}
    assert ratios == {("executor", "upstream", case) for case in (None, "hello", "quick")}
    (function,) = executor.functions
    assert (function.package, len(function.run_seconds.values)) == (PACKAGE, 4)
    assert report.threads == THREADS
    assert {one.what: one.reason for one in report.not_measured} == {
        "devices": NO_MAC,
        "conversion": NO_RECIPE,
    }
    assert failures(report) == []


def test_a_runner_that_crashes_is_reported_and_the_others_are_measured(small, monkeypatch):
    monkeypatch.setitem(SESSIONS, "upstream", "tests.bench.sessions:open_crashing")
    request = BenchRequest(small.bundle, suite=small.suite, cases=("quick",), repeat=1)
    report = bench(request)
    executor, upstream, _ = report.utterances.runners
    assert failures(report) == [f"runner upstream: {upstream.reason}"]
    assert executor.verdict == "measured"
    assert upstream.verdict == "failed"
    assert "SIGABRT while upstream: loading" in upstream.reason
    assert upstream.cases[0].reason == upstream.reason


def test_without_onnxruntime_or_the_packages_it_is_skipped_by_name(small, monkeypatch):
    request = BenchRequest(
        small.bundle, suite=small.suite, cases=("quick",), repeat=1, runners=("onnxruntime",)
    )
    monkeypatch.setattr("kokoro_coreml.bench.run.RUNTIME", "absent_runtime")
    (runner,) = bench(request).utterances.runners
    assert (runner.verdict, runner.cases) == ("skipped", ())
    assert "absent_runtime is not installed; run: pip install" in runner.reason


def test_the_schema_file_is_the_one_generated_from_the_classes():
    stored = data_file("bench.schema.json").read_text(encoding="utf-8")
    assert stored == json.dumps(bench_schema(), indent=2, ensure_ascii=False) + "\n"
    jsonschema.Draft202012Validator.check_schema(json.loads(stored))


def test_a_report_is_read_back_as_it_was_and_fits_its_schema(report, converted, tmp_path):
    for one in (report, converted):
        path = tmp_path / "bench.json"
        path.write_text(one.to_json(), encoding="utf-8")
        assert load_bench(path) == one
        jsonschema.validate(json.loads(one.to_json()), bench_schema())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("nonsense", "cannot read the benchmark"),
        ('{"schema_version": 2}', "benchmark schema 2, but this version reads 1"),
        ('{"schema_version": 1}', "lacks the key"),
    ],
)
def test_what_is_no_report_is_refused(tmp_path, content, message):
    path = tmp_path / "bench.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(BenchError, match=message):
        load_bench(path)


def test_the_text_has_every_part_and_every_reason(report, converted):
    text = render(converted)
    for part in ("Sizes of bundle", "executor, hello", "executor / upstream, all cases", PACKAGE):
        assert part in text
    assert "skipped: the packaged export is of Kokoro-82M" in text
    assert "Conversion of complete, weights packaged" in text
    assert "warm (failed: no room)" in text
    assert NO_RECIPE in render(report)
    assert all(line == line.rstrip() for line in text.splitlines())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"runtime": "onnx"}, "unknown runtime 'onnx'; known: executor, coreml"),
        ({"runners": ("torch",)}, "unknown runner 'torch'"),
        ({"precision": "stress"}, "unknown precision 'stress'"),
        ({"repeat": 0}, "repeat must be 1 or more"),
        ({"bundle": None}, "nothing to measure"),
        ({"compute_units": ("ALL",)}, "for --runtime coreml"),
        ({"compute_units": ("NPU",)}, "unknown compute units 'NPU'"),
    ],
)
def test_what_does_not_exist_is_refused_before_anything_is_measured(small, change, message):
    with pytest.raises(BenchError, match=message):
        bench(BenchRequest(**({"bundle": small.bundle} | change)))


@pytest.fixture
def stub(monkeypatch, converted):
    """The command with the measuring replaced; keeps what it was asked for."""
    asked = []

    def run(request, *, reporter):
        asked.append(request)
        return found[0]

    found = [converted]
    monkeypatch.setattr(kokoro_coreml.bench, "bench", run)
    return asked, found


def test_options_reach_the_request(stub, tmp_path, report):
    asked, found = stub
    found[0] = report
    code = main(
        [
            *("bench", str(tmp_path), "--convert", "complete", "--checkpoint", "packaged"),
            *("--runner", "upstream", "--runner", "executor", "--precision", "float32"),
            *("--suite", "full", "--case", "a", "--case", "b", "--repeat", "3", "--quiet"),
        ]
    )
    assert code == 0
    assert asked == [
        BenchRequest(
            tmp_path,
            "complete",
            "packaged",
            runners=("upstream", "executor"),
            precision="float32",
            suite="full",
            cases=("a", "b"),
            repeat=3,
        )
    ]


def test_a_part_that_failed_has_its_exit_code_and_the_report_is_written(stub, tmp_path, capsys):
    path = tmp_path / "bench.json"
    assert main(["bench", "somewhere", f"--json={path}"]) == BenchError.exit_code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "warm (failed: no room)" in captured.err
    assert load_bench(path) == stub[1][0]
    assert main(["bench", "somewhere", "--json", str(path)]) == BenchError.exit_code
    assert capsys.readouterr().out == "", "the report went to the file"


def test_json_on_standard_output_is_one_object(stub, capsys, report):
    stub[1][0] = report
    assert main(["bench", "somewhere", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(report.to_json())


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([], 2),
        (["absent"], 11),
        (["absent", "--repeat", "0"], 2),
        (["absent", "--runner", "torch"], 9),
        (["absent", "--runtime", "coreml"], 9),
        (["absent", "--suite", "nothing"], 3),
        (["absent", "--case", "nothing"], 3),
        (["--convert", "nothing"], 3),
        (["absent", "--json", "no/such/folder/bench.json"], 11),
    ],
)
def test_each_mistake_has_its_exit_code(arguments, code, capsys, monkeypatch):
    monkeypatch.setattr("kokoro_coreml.coreml.mac.platform.system", lambda: "Linux")
    assert main(["bench", *arguments]) == code
    assert "error" in capsys.readouterr().err + capsys.readouterr().out
