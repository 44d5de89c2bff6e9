"""What runs in the processes: the bundle, upstream, ONNX Runtime, and how they are timed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from kokoro_coreml.bench.lines import chosen, prepare
from kokoro_coreml.bench.sessions import (
    Session,
    bundle_config,
    open_executor,
    open_onnx,
    open_upstream,
)
from kokoro_coreml.bench.watching import Watch
from kokoro_coreml.errors import ParityError, PhonemeError
from kokoro_coreml.manifest import read_manifest
from kokoro_coreml.parity.suite import SuiteError, load_suite
from kokoro_coreml.progress import SILENT
from tests.bench.conftest import Clock, line
from tests.support.tiny_bundle import PACKAGE


@pytest.fixture(scope="module")
def lines(small):
    manifest = read_manifest(small.bundle)
    cases = chosen(load_suite(small.suite), ())
    return prepare(cases, small.bundle, manifest, bundle_config(small.bundle, manifest), SILENT)


def test_a_session_times_loading_and_saying():
    session = Session(lambda: lambda line: 48_000, clock=Clock(1.0, 3.0, 10.0, 10.25))
    loaded = session.load()
    assert loaded.seconds == 2.0
    assert loaded.peak_bytes >= loaded.base_bytes > 0
    said = session.say(line("x"))
    assert (said.seconds, said.audio_seconds, said.skipped) == (0.25, 2.0, None)
    assert session.load_seconds() == {}


def test_a_line_that_does_not_fit_is_skipped_and_any_other_error_is_one():
    def refuse(line):
        raise PhonemeError("too long") if line.case == "long" else ParityError("NaN")

    session = Session(lambda: refuse)
    session.load()
    assert session.say(line("long")).skipped == "too long"
    with pytest.raises(ParityError, match="NaN"):
        session.say(line("x"))


def test_a_watch_times_every_function_and_forgets_what_was_taken():
    def load(package, function, units):
        return lambda inputs: {"y": inputs["x"], "units": units}

    watch = Watch(load, clock=Clock(0.0, 5.0, 10.0, 10.5, 20.0, 21.0))
    run = watch(Path("some/P.mlpackage"), "one", "CPU_ONLY")
    assert run({"x": 3}) == {"y": 3, "units": "CPU_ONLY"}
    run({"x": 3})
    place = ("P.mlpackage", "one")
    assert watch.load_seconds == {place: 5.0}
    assert watch.take() == {place: 1.5}
    assert watch.take() == {}


def test_the_bundle_and_upstream_say_the_same_length(small, lines):
    executor = open_executor(str(small.bundle), "float32")
    upstream = open_upstream(str(small.bundle), small.checkpoint)
    assert executor.load().peak_bytes is None
    assert upstream.load().peak_bytes > 0
    assert executor.load_seconds() == {}
    for one in lines:
        mine, theirs = executor.say(one), upstream.say(one)
        assert mine.audio_seconds == theirs.audio_seconds > 0
        assert set(mine.functions) == {(PACKAGE, "main")}
        assert 0 < mine.functions[PACKAGE, "main"] < mine.seconds
        assert theirs.functions == {}
    assert set(executor.load_seconds()) == {(PACKAGE, "main")}
    assert executor.peak_bytes() > 0
    long = executor.say(line("long", tokens=60))
    assert "bucket" in long.skipped


def test_upstream_refuses_other_weights_than_the_bundles(small):
    with pytest.raises(ParityError, match="--checkpoint"):
        open_upstream(str(small.bundle), None).load()


def test_onnx_runtime_gets_the_inputs_of_the_packaged_export(tmp_path):
    # audio: as many samples as there are tokens, times the speed
    nodes = [
        helper.make_node("Cast", ["tokens"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floats", "speed"], ["fast"]),
        helper.make_node("ReduceMean", ["style"], ["mean"], keepdims=1),
        helper.make_node("Add", ["fast", "mean"], ["rows"]),
        helper.make_node("Flatten", ["rows"], ["flat"], axis=0),
        helper.make_node("Squeeze", ["flat"], ["audio"]),
    ]
    inputs = [
        helper.make_tensor_value_info("tokens", TensorProto.INT64, [1, "length"]),
        helper.make_tensor_value_info("style", TensorProto.FLOAT, [1, 256]),
        helper.make_tensor_value_info("speed", TensorProto.FLOAT, [1]),
    ]
    outputs = [helper.make_tensor_value_info("audio", TensorProto.FLOAT, ["samples"])]
    graph = helper.make_graph(nodes, "hum", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "hum.onnx")
    session = open_onnx(str(tmp_path / "hum.onnx"))
    session.load()
    assert session.say(line("x", tokens=24)).audio_seconds == 24 / 24_000


def test_english_cases_are_chosen_unless_others_are_named(small):
    smoke = load_suite("smoke")
    assert [case.id for case in chosen(smoke, ())] == [
        "en-one-phoneme",
        "en-numbers",
        "en-128-tokens",
        "en-blend",
    ]
    assert [case.id for case in chosen(smoke, ("ja-short", "en-blend", "ja-short"))] == [
        "ja-short",
        "en-blend",
    ]
    with pytest.raises(SuiteError, match="did you mean 'en-numbers'"):
        chosen(smoke, ("en-number",))


def test_lines_have_the_voice_row_of_their_length(small, lines):
    hello, quick = lines
    assert hello.ids[0] == hello.ids[-1] == 0
    assert hello.ref_s.shape == (1, 256)
    assert (hello.speed, quick.speed) == (1.0, 1.5)
    assert not np.array_equal(hello.ref_s, quick.ref_s)
