"""A pipeline of the tiny network: the sound one passes, and a fault is found in its own stage."""

from __future__ import annotations

import numpy as np
import pytest

from kokoro_coreml.errors import BundleError
from kokoro_coreml.manifest import read_manifest
from kokoro_coreml.parity.difference import Question, compare
from kokoro_coreml.parity.pipelines import declares_half
from kokoro_coreml.parity.request import RANGE
from kokoro_coreml.parity.results import Report
from kokoro_coreml.parity.summary import summary
from kokoro_coreml.recipe import FRAME_STAGES, PIPELINE, TOKEN_STAGES
from tests.coreml.conftest import behave, fake_mac, mac_children  # noqa: F401
from tests.support.tiny_bundle import (
    PIPELINE_FRAMES,
    PIPELINE_TOKENS,
    PipelineBench,
    own_constant,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pipeline(tiny_pipeline, tmp_path_factory):
    return PipelineBench(tiny_pipeline, tmp_path_factory.mktemp("planted"))


def failed(report: Report) -> set[str]:
    return {leg.name for leg in report.legs if leg.verdict == "failed"}


def wrong_stages(report: Report, leg: str) -> set[str]:
    return {s.name for s in report.stages if s.leg == leg and s.verdict == "failed"}


def located(report: Report, stage: str) -> bool:
    """Whether the operation that is accused is of the stage."""
    return any(s.where.startswith(f"{stage}: ") and s.operation for s in report.suspects)


def of_type(operations, kind):
    return [o for o in operations if o.type == kind]


def input_name(operation, key):
    return operation.inputs[key].arguments[0].name


def test_the_sound_pipeline_passes_every_leg(pipeline):
    report = pipeline.verify(pipeline.bundle)
    assert failed(report) == set()
    assert report.verdict == "passed", summary(report)
    assert report.suspects == ()
    sizes = {**dict.fromkeys(TOKEN_STAGES, PIPELINE_TOKENS)}
    sizes |= dict.fromkeys(FRAME_STAGES, PIPELINE_FRAMES)
    traced = {s.case for s in report.stages if s.leg == "traced = eager"}
    assert traced == {f"{name}_{size}" for name in PIPELINE for size in sizes[name]}
    beside = [s for s in report.stages if s.leg == "package = rewrite"]
    assert len(beside) == len(traced)
    upstream = {s.name for s in report.stages if s.leg == "rewrite = upstream"}
    assert upstream >= {"Encoder.encoded", "Duration.text", "Generator.hidden", "Tail.audio"}
    assert {o.module.split(".")[0] for o in report.operations if o.module} == set(PIPELINE)
    positions = [o.position for o in report.operations]
    assert positions == sorted(positions)
    assert {t.package for t in report.timings} == {f"{name}.mlpackage" for name in PIPELINE}


def test_declared_precision_is_shown_beside_float32(pipeline):
    report = pipeline.verify(pipeline.bundle, "package = upstream", precision="declared")
    assert report.verdict == "passed", summary(report)
    for case in report.cases:
        metrics = case.metrics
        assert metrics["float32_snr_db"] > 10
        assert metrics["same_source_snr_db"] > 45
        assert metrics["loss_db"] == max(0.0, metrics["float32_snr_db"] - metrics["audio_snr_db"])
    (leg,) = [leg for leg in report.legs if leg.name == "package = upstream"]
    judged = {(c.where, c.metric) for c in leg.checks}
    for case in report.cases:
        metrics = case.metrics
        sound = metrics["float32_snr_db"] >= 40
        assert ((case.name, "audio_snr_db") in judged) == sound
        assert ((case.name, "loss_db") in judged) == (not sound)
        assert (f"{case.name}: float32 itself has" in leg.detail) == (not sound)
        own = metrics["upstream_rounding_distance_db"]
        ratio = metrics["log_spectral_distance_db"] / own
        assert metrics["rounding_distance_db"] > 0
        assert metrics["distance_over_rounding"] == pytest.approx(ratio, rel=1e-6)
        lost = 0.2 < own <= 1 / 1.5
        assert ((case.name, "log_spectral_distance_db") in judged) == (not lost)
        assert ((case.name, "distance_over_rounding") in judged) == lost
        assert (f"{case.name}: upstream in double precision is" in leg.detail) == lost


def test_no_value_leaves_the_range_where_subnormals_are_flushed(pipeline):
    report = pipeline.verify(pipeline.bundle, "package = upstream", RANGE, precision="stress")
    assert {f.operation for f in report.findings if f.kind != "subnormal"} == set()
    assert {leg.verdict for leg in report.legs if leg.name == RANGE} == {"passed"}
    assert all(case.metrics["rounding_distance_db"] < 0.3 for case in report.cases)


def test_a_constant_of_the_decoder(pipeline):
    def scale(operations):
        """The slope of its activations."""
        slope = of_type(operations, "leaky_relu")[0]
        value = own_constant(operations, slope, "alpha").immediateValue.tensor
        if value.floats.values:
            value.floats.values[0] = 0.5
        else:
            value.bytes.values = np.full(1, 0.5, np.float16).tobytes()

    report = pipeline.planted("Decoder", scale)
    assert "package = rewrite" in failed(report)
    assert wrong_stages(report, "package = rewrite") == {"Decoder"}
    assert located(report, "Decoder")


def test_a_mask_that_the_generator_ignores(pipeline):
    def ignore(operations):
        """Every product with `own_1` becomes its other factor."""
        for product in of_type(operations, "mul"):
            if input_name(product, "y") == "own_1":
                product.type = "identity"
                del product.inputs["y"]

    report = pipeline.planted("Generator", ignore)
    assert "package = rewrite" in failed(report)
    assert wrong_stages(report, "package = rewrite") == {"Generator"}
    assert located(report, "Generator")
    assert all("same_source_snr_db" in case.failed for case in report.cases)


def test_a_missing_window_sum_in_the_tail(pipeline):
    def drop(operations):
        division = of_type(operations, "real_div")[-1]
        division.type = "identity"
        del division.inputs["y"]

    report = pipeline.planted("Tail", drop)
    assert {"package = rewrite", "package = upstream"} <= failed(report)
    assert wrong_stages(report, "package = rewrite") == {"Tail"}
    assert located(report, "Tail")


def test_the_wrong_half_of_the_voice_in_prosody(pipeline):
    def swap(operations):
        """Timbre where prosody belongs."""
        for part in of_type(operations, "slice_by_index"):
            if input_name(part, "x") == "ref_s":
                begin = own_constant(operations, part, "begin").immediateValue
                begin.tensor.ints.values[1] = 0
                end = own_constant(operations, part, "end").immediateValue
                end.tensor.ints.values[1] = 128
                if "end_mask" in part.inputs:
                    mask = own_constant(operations, part, "end_mask").immediateValue
                    mask.tensor.bools.values[1] = False

    report = pipeline.planted("Prosody", swap)
    assert {"package = rewrite", "package = upstream"} <= failed(report)
    assert wrong_stages(report, "package = rewrite") == {"Prosody"}
    # everything behind it works on what it is given
    assert all("same_source_snr_db" not in case.failed for case in report.cases)
    assert all("audio_snr_db" in c.metrics and c.failed for c in report.cases)


def test_durations_that_differ_are_counted_and_the_audio_is_compared_anyway(pipeline):
    def slower(operations):
        """At least two frames per token."""
        for clip in of_type(operations, "clip"):
            values = own_constant(operations, clip, "alpha").immediateValue.tensor.floats.values
            if values and values[0] == 1.0:
                values[0] = 4.0

    legs = ("package = upstream",)
    report = pipeline.planted("Duration", slower, *legs, precision="declared")
    assert failed(report) == {"package = upstream"}
    (leg,) = [leg for leg in report.legs if leg.name == "package = upstream"]
    assert "with upstream's durations forced" in leg.detail
    wrong = {c.metric for c in leg.checks if c.verdict == "failed"}
    assert "suite_duration_errors_percent" in wrong
    assert "same_source_snr_db" not in wrong


def test_every_stage_runs_on_core_ml_on_its_own_units(pipeline, mac_children):  # noqa: F811
    legs = ("inputs = upstream", "coreml = upstream")
    report = pipeline.verify(pipeline.bundle, *legs, runtime="coreml")
    assert report.verdict == "passed", summary(report)
    assert [case.name for case in report.cases] == ["hello on CPU_AND_NE", "quick on CPU_AND_NE"]
    units = {t.package.removesuffix(".mlpackage"): t.compute_units for t in report.timings}
    moved = {"Decoder", "Generator"}
    assert units == {n: "CPU_AND_NE" if n in moved else "CPU_ONLY" for n in PIPELINE}
    assert {use.package for use in report.devices} == {f"{name}.mlpackage" for name in PIPELINE}


def test_diff_of_a_stage_runs_the_pipeline_up_to_it(pipeline):
    weights = str(pipeline.folder / "weights")
    asked = Question(pipeline.bundle, "Decoder", checkpoint=weights)
    answer = compare(asked)
    assert "Decoder.mlpackage:frames_128" in answer.title
    assert len(answer.operations) > 100
    assert min(o.local_snr_db for o in answer.operations) > 50
    named = Question(
        pipeline.bundle, "Prosody", "frames_256", precision="declared", checkpoint=weights
    )
    answer = compare(named)
    assert "Prosody.mlpackage:frames_256 at declared" in answer.title
    assert {o.declared[:4] for o in answer.operations} >= {"fp16", "fp32"}


@pytest.mark.parametrize(
    ("stage", "function", "message"),
    [
        (None, None, "name a stage with --stage: Encoder, Duration"),
        ("Decoder", "frames_512", "no stage 'Decoder' with a function 'frames_512'"),
        ("Vocoder", None, "no stage 'Vocoder'"),
    ],
)
def test_diff_names_what_a_pipeline_does_not_have(pipeline, stage, function, message):
    with pytest.raises(BundleError, match=message):
        compare(Question(pipeline.bundle, stage, function))


def test_half_precision_is_read_from_the_manifest(pipeline):
    assert declares_half(read_manifest(pipeline.bundle))
