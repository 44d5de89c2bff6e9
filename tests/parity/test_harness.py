"""The document of `kokoro-harness verify`: what is written is read, what is wrong is refused."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kokoro_coreml.bench.results import load_bench
from kokoro_coreml.coreml.plan import DeviceShare, load_plan
from kokoro_coreml.errors import ParityError
from kokoro_coreml.parity.harness import (
    CaseSaid,
    FunctionCheck,
    HarnessArray,
    HarnessBundle,
    HarnessMachine,
    HarnessRecordings,
    HarnessReport,
    PartSaid,
    StageMeasure,
    UnitResult,
    harness_schema,
    held,
    load_harness,
)
from kokoro_coreml.parity.merging import read_merged
from kokoro_coreml.parity.recorded import read_recordings
from kokoro_coreml.parity.results import DeviceUse, PackageTiming
from kokoro_coreml.resources import data_file

ROOT = Path(__file__).parents[2]
RECORDINGS = ROOT / "artifacts" / "goldens" / "recordings"
FROM_LINUX = ROOT / "tests" / "data" / "harness-linux.json"
"""What the Swift package wrote on Linux, its stages played back; `docs/harness.md` says how."""

texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
digests = st.binary(min_size=1, max_size=4).map(lambda b: hashlib.sha256(b).hexdigest())
numbers = st.floats(-999, 999)
seconds = st.none() | st.floats(0, 1e6)
errors = st.none() | st.text(max_size=8)
counts = st.integers(1, 1 << 40)
indices = st.integers(0, 99)
tables = st.dictionaries(texts, numbers, max_size=3)


def rows(values):
    return st.lists(values, max_size=3).map(tuple)


arrays = st.builds(
    HarnessArray,
    st.sampled_from(["float32", "float16", "int32"]),
    rows(counts),
    st.text("AQgw", max_size=8),
)
parts = st.builds(PartSaid, texts, counts, counts, st.dictionaries(texts, digests, max_size=3))
cases = st.builds(CaseSaid, texts, tables, rows(parts), seconds, errors)
stages = st.builds(StageMeasure, texts, indices, indices, texts, texts, tables, seconds, errors)
times = rows(st.floats(0, 9))
timings = st.builds(PackageTiming, texts, texts, texts, st.floats(0, 9), times, times)
devices = st.builds(DeviceUse, texts, texts, texts, texts, indices, st.floats(0, 1))
units = st.builds(UnitResult, texts, rows(stages), rows(cases), rows(timings), rows(devices))
reports = st.builds(
    HarnessReport,
    schema_version=st.just(1),
    harness_version=texts,
    runtime=st.sampled_from(["coreml", "recorded"]),
    machine=st.builds(HarnessMachine, texts, texts, texts, texts, counts, counts),
    versions=st.dictionaries(texts, texts, max_size=2),
    bundle=st.builds(HarnessBundle, texts, texts, digests),
    recordings=st.builds(HarnessRecordings, digests),
    functions=rows(st.builds(FunctionCheck, texts, counts, rows(texts))),
    units=rows(units),
    arrays=st.dictionaries(digests, arrays, max_size=2),
)


def says_something_twice(report):
    names = [[unit.compute_units for unit in report.units]]
    for unit in report.units:
        names += [[c.id for c in unit.cases], [(s.case, s.part, s.run) for s in unit.stages]]
    return any(len(set(found)) < len(found) for found in names)


def test_the_schema_file_is_the_one_generated_from_the_classes():
    stored = data_file("harness.schema.json").read_text(encoding="utf-8")
    assert stored == json.dumps(harness_schema(), indent=2, ensure_ascii=False) + "\n"
    jsonschema.Draft202012Validator.check_schema(json.loads(stored))


@given(reports)
def test_any_result_is_read_back_as_it_was_and_fits_its_schema(tmp_path_factory, report):
    path = tmp_path_factory.mktemp("harness") / "mac.json"
    path.write_text(report.to_json(), encoding="utf-8")
    jsonschema.validate(json.loads(report.to_json()), harness_schema())
    if says_something_twice(report):
        with pytest.raises(ParityError, match="stands there twice"):
            load_harness(path)
    else:
        assert load_harness(path) == report


def places(value, path=()):
    """Every place of a document, itself included."""
    yield path
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(item, (*path, key))


def at(value, path):
    for key in path:
        value = value[key]
    return value


WRONG = (float("nan"), [[]], {"surprise": 1}, True, "", -1, None)


def _constants(raw):
    """NaN and infinities, which are numbers to Python alone; a text may well be 'NaN'."""
    found = []
    json.loads(json.dumps(raw), parse_constant=found.append)
    return found


@given(reports, st.data())
def test_what_the_schema_refuses_is_refused(tmp_path_factory, report, data):
    raw = json.loads(report.to_json())
    path = data.draw(st.sampled_from([p for p in places(raw) if p]))
    holder = at(raw, path[:-1])
    action = data.draw(st.sampled_from(["replace", "remove", "add"]))
    if action == "replace":
        holder[path[-1]] = data.draw(st.sampled_from(WRONG))
    elif action == "remove":
        del holder[path[-1]]
    elif isinstance(holder, dict):
        holder["surprise"] = [None]
    file = tmp_path_factory.mktemp("harness") / "mac.json"
    file.write_text(json.dumps(raw), encoding="utf-8")
    validator = jsonschema.Draft202012Validator(harness_schema())
    sound = validator.is_valid(raw) and not _constants(raw)
    if not sound:
        with pytest.raises(ParityError):
            load_harness(file)
        return
    with said_twice_is_refused():
        found = load_harness(file)
        assert found.to_dict() == json.loads(found.to_json())


@contextlib.contextmanager
def said_twice_is_refused():
    """What no schema can say."""
    try:
        yield
    except ParityError as error:
        if "stands there twice" not in str(error):
            raise


@pytest.mark.parametrize("content", [None, b"", b"{", b"[1]", b"\xff", b'{"schema_version": 2}'])
def test_what_is_no_result_at_all_is_refused(content, tmp_path):
    path = tmp_path / "mac.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ParityError, match=r"mac\.json"):
        load_harness(path)


@given(
    st.sampled_from([np.float32, np.float16, np.int32]),
    st.lists(st.integers(1, 4), max_size=3),
    st.integers(0, 1 << 31),
)
def test_an_array_comes_back_bit_for_bit(dtype, shape, seed):
    rng = np.random.default_rng(seed)
    values = (rng.integers(-3, 3, shape) * rng.integers(0, 2, shape)).astype(dtype)
    digest, array = held(values)
    report = dataclasses.replace(EMPTY, arrays={digest: array})
    found = report.array(digest)
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, values)


def test_an_array_that_is_not_its_digest_is_refused():
    digest, array = held(np.arange(4, dtype=np.int32))
    other = "0" * 64
    for wrong, named in (
        ({other: array}, other),
        ({digest: dataclasses.replace(array, shape=(5,))}, digest),
        ({digest: dataclasses.replace(array, data="AAAA")}, digest),
        ({digest: dataclasses.replace(array, data="?")}, digest),
        ({}, digest),
    ):
        with pytest.raises(ParityError):
            dataclasses.replace(EMPTY, arrays=wrong).array(named)
    with pytest.raises(ParityError, match="float64"):
        held(np.zeros(1))


EMPTY = HarnessReport(
    schema_version=1,
    harness_version="0.1.0",
    runtime="coreml",
    machine=HarnessMachine("macOS", "15.1", "Mac14,3", "Apple M2", 8, 1 << 34),
    versions={},
    bundle=HarnessBundle("bundle", "tiny", "0" * 64),
    recordings=HarnessRecordings("0" * 64),
    functions=(),
    units=(),
    arrays={},
)


def test_what_swift_wrote_is_read_and_is_no_macs():
    report = load_harness(FROM_LINUX)
    recordings = read_recordings(RECORDINGS)
    assert report.bundle.manifest_sha256 == recordings.manifest_sha256
    assert report.recordings.index_sha256 == recordings.index_sha256
    assert report.runtime == "recorded"
    assert {f.name for f in report.functions} >= {"tokenizer", "noise", "audio_metrics"}
    assert not any(f.failures for f in report.functions)
    (unit,) = report.units
    assert {case.id for case in unit.cases} == {r.id for r in recordings.recordings}
    for case, recorded in ((c, r) for c in unit.cases for r in recordings.recordings):
        if case.id == recorded.id:
            assert case.metrics["audio_snr_db"] == 999
            assert case.metrics["duration_errors"] == 0
            said = [(p.phonemes, p.tokens, p.frames) for p in case.parts]
            assert said == [(p.phonemes, p.tokens, p.frames) for p in recorded.parts]
            for part in case.parts:
                durations = report.array(part.values["pred_dur"])
                assert durations.dtype == np.int32
                assert 0 < durations.sum() <= part.frames
    with pytest.raises(ParityError, match="no Core ML"):
        read_merged([FROM_LINUX], RECORDINGS, recordings.manifest_sha256)


def test_a_bench_and_a_plan_that_swift_wrote_are_read():
    bench = load_bench(FROM_LINUX.with_name("bench-linux.json"))
    assert [device.compute_units for device in bench.devices] == ["CPU_AND_NE", "bundle"]
    for device in bench.devices:
        assert device.verdict == "measured"
        assert device.peak_bytes >= device.base_bytes > 0
        assert {f.package for f in device.functions} >= {"Encoder.mlpackage", "Tail.mlpackage"}
        assert all(len(f.run_seconds.values) == 2 for f in device.functions)
        assert [len(case.seconds.values) for case in device.cases] == [2]
    plan = load_plan(FROM_LINUX.with_name("plan-linux.json"))
    assert (plan.package, plan.function, plan.compute_units) == (
        "Tail.mlpackage",
        "frames_128",
        "CPU_ONLY",
    )
    assert plan.summary() == (DeviceShare("CPU", 1, 1.0),)
