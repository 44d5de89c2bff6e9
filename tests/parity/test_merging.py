"""A Mac's result is judged here, by the thresholds of leg 6, and whatever is missing fails."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kokoro_coreml.cli import main
from kokoro_coreml.errors import ParityError
from kokoro_coreml.goldens.recording import Phrase
from kokoro_coreml.goldens.recordings import write_recordings
from kokoro_coreml.parity import verification
from kokoro_coreml.parity.harness import FunctionCheck
from kokoro_coreml.parity.judge import merged as together
from kokoro_coreml.parity.merging import Merged, read_merged
from kokoro_coreml.parity.recorded import read_recordings
from kokoro_coreml.parity.report import view
from kokoro_coreml.parity.request import EVERY_LEG, Request
from kokoro_coreml.parity.results import load_report
from kokoro_coreml.parity.trials import Trials
from tests.support.harness import (
    UNITS,
    mac_report,
    value,
    with_case,
    with_stage,
    with_unit,
    with_value,
)
from tests.support.tiny_bundle import PHONEMES, pipeline_thresholds, tiny_thresholds

pytestmark = pytest.mark.slow

LEG = "coreml = upstream"
SAID = (Phrase("once", "ɐ tˈɛst.", 1.5), Phrase("parts", PHONEMES + " ɐ tˈɛst."))
"""The second is longer than the largest bucket of tokens."""


class Mac:
    """A bundle, its recordings, and a verification that only merges."""

    def __init__(self, folder, recordings, thresholds):
        write_recordings(folder / "bundle", recordings, said=SAID)
        self.folder, self.recordings = folder, recordings
        self.request = Request(
            folder / "bundle",
            suite=str(folder / "suite.toml"),
            checkpoint=str(folder / "weights"),
            compute_units=UNITS,
            thresholds=thresholds,
            recordings=recordings,
        )
        self.sound = mac_report(recordings)
        self.verifier = verification._open(self.request, verification.SILENT)

    def judge(self, report):
        """The leg that comes of a report, and the names of the stages that failed."""
        run = self.verifier.run
        run.legs, run.stages, run.suspects = [], [], []
        self.verifier.merged = Merged((("mac.json", report),), read_recordings(self.recordings))
        self.verifier._coreml([])
        (leg,) = together(run.legs)
        return leg, {s.name for s in run.stages if s.verdict == "failed"}


@pytest.fixture(scope="module")
def spoken_once():
    """What upstream says to the recordings, for all tests."""
    kept = {}
    prepare = Trials.prepare

    def once(self, suite):
        key = (id(self.manifest), suite)
        if key not in kept:
            kept[key] = prepare(self, suite)
        return kept[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trials, "prepare", once)
        yield


@pytest.fixture(scope="module")
def pipeline(tiny_pipeline, tmp_path_factory, spoken_once):
    folder = tmp_path_factory.mktemp("mac") / "recordings"
    return Mac(tiny_pipeline, folder, pipeline_thresholds("float16"))


@pytest.fixture(scope="module")
def complete(tiny_bundle, tmp_path_factory, spoken_once):
    folder = tmp_path_factory.mktemp("mac") / "recordings"
    # in a random network one bin that flips is heard, and which one does is the processor's choice
    bounds = [replace(t, bound=5.0) if t.metric == "audio_snr_db" else t for t in tiny_thresholds()]
    return Mac(tiny_bundle, folder, tuple(bounds))


def test_a_sound_result_passes_on_every_compute_unit(pipeline):
    leg, wrong = pipeline.judge(pipeline.sound)
    assert (leg.verdict, wrong) == ("passed", set()), leg.detail
    said = {check.where for check in leg.checks}
    names = ("once", "parts.0", "parts.1")
    assert said >= {f"{name} on {unit}" for name in names for unit in UNITS}
    metrics = {check.metric for check in leg.checks}
    assert metrics >= {"same_source_snr_db", "log_mel_cosine", "padding_peak", "rewrite_snr_db"}
    assert "Mac14,3" in leg.detail
    runs = len(pipeline.sound.units[0].stages)
    assert len(pipeline.verifier.run.stages) == runs * len(UNITS)
    assert {s.leg for s in pipeline.verifier.run.stages} == {LEG}


def test_the_whole_network_in_one_package_is_judged_likewise(complete):
    leg, _ = complete.judge(complete.sound)
    assert leg.verdict == "passed", leg.detail
    louder = with_value(complete.sound, "audio", np.float32(1.1) * value(complete.sound, "audio"))
    leg, _ = complete.judge(louder)
    assert leg.verdict == "failed"
    assert "level_difference_db on once on CPU_ONLY" in leg.detail
    leg, _ = complete.judge(with_value(complete.sound, "audio_length_samples", None))
    assert "lacks audio_length_samples" in leg.detail


def scaled(name, gain):
    return lambda r: with_value(r, name, (gain * value(r, name)).astype(value(r, name).dtype))


def spoiled(name, to):
    def change(report):
        values = value(report, name)
        values.reshape(-1)[7] = to
        return with_value(report, name, values)

    return change


def reshaped(name):
    return lambda report: with_value(report, name, value(report, name).reshape(-1))


def stages_but_the_last(report):
    return with_unit(report, stages=report.units[0].stages[:-1])


def twice_as_many_parts(report):
    return with_case(report, parts=2 * report.units[0].cases[0].parts)


def in_another_bucket(report):
    part = report.units[0].cases[0].parts[0]
    return with_case(report, parts=(replace(part, frames=256),))


def another_text(report):
    part = report.units[0].cases[0].parts[0]
    return with_case(report, parts=(replace(part, phonemes="ɐ"),))


def another_array(report):
    digest = report.units[0].cases[0].parts[0].values["audio"]
    array = replace(report.arrays[digest], data="AAAA")
    return replace(report, arrays={**report.arrays, digest: array})


def without_arrays(report):
    return replace(report, arrays={})


def longer(report):
    durations = value(report, "pred_dur")
    durations[0, 1] += 1
    return with_value(report, "pred_dur", durations)


FAULTS = {
    "louder": (scaled("audio", 1.1), "level_difference_db on once on CPU_ONLY"),
    "another source": (scaled("har", 0.5), "same_source_snr_db on once on CPU_ONLY"),
    "NaN in the audio": (spoiled("audio", np.nan), "gave NaN or infinity in 'audio'"),
    "infinity in a curve": (spoiled("f0", np.inf), "gave NaN or infinity in 'f0'"),
    "sound behind the end": (
        lambda r: with_value(
            r, "audio", np.concatenate([value(r, "audio")[:, :-1], [[np.float32(0.5)]]], axis=1)
        ),
        "padding_peak on once on CPU_ONLY",
    ),
    "a frame more": (longer, "1 durations are not upstream's"),
    "no source": (lambda r: with_value(r, "har", None), "lacks har"),
    "no audio": (lambda r: with_value(r, "audio", None), "lacks audio"),
    "another shape": (reshaped("audio"), "expected float32[1, "),
    "another array than its digest": (another_array, "is not what its digest and shape say"),
    "no arrays": (without_arrays, "is not in the harness's result"),
    "another text": (another_text, "recorded 'ɐ tˈɛst.'"),
    "another bucket": (in_another_bucket, "was said at 24 x 256"),
    "too many parts": (twice_as_many_parts, "said in 2 parts, recorded in 1"),
    "a case that failed": (
        lambda r: with_case(r, error="Core ML was interrupted"),
        "Core ML was interrupted",
    ),
    "no such case": (
        lambda r: with_unit(r, cases=r.units[0].cases[1:]),
        "once on CPU_ONLY: the result lacks it",
    ),
    "no cases": (lambda r: with_unit(r, cases=()), "parts.1 on CPU_ONLY: the result lacks it"),
    "no such unit": (lambda r: replace(r, units=r.units[1:]), "CPU_ONLY: no result to merge"),
    "nothing": (lambda r: replace(r, units=()), "CPU_AND_NE: no result to merge"),
    "a wrong function": (
        lambda r: replace(r, functions=(FunctionCheck("wav", 3, ("wav one: no",)),)),
        "mac.json: wav one: no",
    ),
    "no last stage": (stages_but_the_last, "Tail.mlpackage:frames_"),
    "a stage that failed": (
        lambda r: with_stage(r, error="out of memory", snr_db={}),
        "out of memory",
    ),
    "a bad stage": (lambda r: with_stage(r, snr_db={"audio": 60.0}), "stage Tail on parts, part 1"),
    "NaN of a stage": (lambda r: with_stage(r, snr_db={"audio": -999.0}), "stage Tail on parts"),
    "another output": (lambda r: with_stage(r, snr_db={"sound": 99.0}), "stage Tail on parts"),
    "no outputs": (lambda r: with_stage(r, snr_db={}), "stage Tail on parts"),
    "another function": (lambda r: with_stage(r, function="frames_9"), "stage Tail on parts"),
    "a run too many": (lambda r: with_stage(r, run=99), "a run that was not recorded"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_or_missing_fails_and_is_named(pipeline, fault):
    change, said = FAULTS[fault]
    leg, _ = pipeline.judge(change(pipeline.sound))
    assert leg.verdict == "failed"
    assert said in leg.detail


def test_a_stage_below_its_bound_is_the_suspect(pipeline):
    leg, wrong = pipeline.judge(with_stage(pipeline.sound, snr_db={"audio": 60.0}))
    assert leg.verdict == "failed"
    assert wrong == {"Tail"}
    assert any(s.leg == LEG and "Tail" in s.where for s in pipeline.verifier.run.suspects)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: replace(r, bundle=replace(r.bundle, manifest_sha256="0" * 64)), "other bundle"),
        (
            lambda r: replace(r, recordings=replace(r.recordings, index_sha256="0" * 64)),
            "other recordings",
        ),
        (lambda r: replace(r, runtime="recorded"), "no Core ML"),
        (lambda r: replace(r, machine=replace(r.machine, system="Linux")), "made on Linux"),
        (lambda r: replace(r, units=(*r.units, r.units[0])), "stands there twice"),
    ],
)
def test_a_result_of_something_else_is_refused(pipeline, tmp_path, change, said):
    path = tmp_path / "mac.json"
    path.write_text(change(pipeline.sound).to_json(), encoding="utf-8")
    recordings = read_recordings(pipeline.recordings)
    with pytest.raises(ParityError, match=said):
        read_merged([path], pipeline.recordings, recordings.manifest_sha256)


def test_recordings_of_another_bundle_and_changed_ones_are_refused(pipeline, tmp_path):
    with pytest.raises(ParityError, match="recordings of another bundle"):
        read_merged([], pipeline.recordings, "0" * 64)
    for path in pipeline.recordings.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "once.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ParityError, match=r"is not what index\.json says"):
        read_recordings(tmp_path)


def test_units_of_two_files_are_merged_and_the_same_ones_refused(pipeline, tmp_path):
    manifest = read_recordings(pipeline.recordings).manifest_sha256
    files = []
    for unit in pipeline.sound.units:
        files.append(tmp_path / f"{unit.compute_units}.json")
        files[-1].write_text(replace(pipeline.sound, units=(unit,)).to_json(), encoding="utf-8")
    found = read_merged(files, pipeline.recordings, manifest)
    assert all(found.unit(unit) for unit in UNITS)
    with pytest.raises(ParityError, match="stand in two of the files"):
        read_merged([files[0], files[0]], pipeline.recordings, manifest)


def merge(pipeline, path, *more):
    kept = (LEG, "inputs = upstream", "package = upstream")
    waive = [part for leg in EVERY_LEG if leg not in kept for part in ("--waive", leg)]
    units = [part for unit in UNITS for part in ("--compute-units", unit)]
    place = ["--merge", str(path), "--recordings", str(pipeline.recordings)]
    suite = ["--suite", str(pipeline.folder / "suite.toml")]
    weights = ["--checkpoint", str(pipeline.folder / "weights")]
    bundle = str(pipeline.folder / "bundle")
    return main(["verify", bundle, *suite, *weights, *units, *place, *waive, *more])


def test_the_command_merges_and_its_report_shows_the_leg(pipeline, tmp_path, monkeypatch, capsys):
    bounds = pipeline_thresholds("float16")
    monkeypatch.setattr(verification, "thresholds_for", lambda *_, **__: bounds)
    path = tmp_path / "mac.json"
    path.write_text(pipeline.sound.to_json(), encoding="utf-8")
    files = ["--json", str(tmp_path / "parity.json"), "--html", str(tmp_path / "parity.html")]
    assert merge(pipeline, path, *files) == 0
    assert f"passed   {LEG} (CPU_ONLY from mac.json" in capsys.readouterr().err
    report = load_report(tmp_path / "parity.json")
    assert report.compute_units == UNITS
    assert {"hello", "once on CPU_ONLY", "parts.1 on CPU_AND_NE"} <= {c.name for c in report.cases}
    assert {t.compute_units for t in report.timings} == {"executor", *UNITS}
    assert {use.compute_units for use in report.devices} == set(UNITS)
    assert "in results merged from Macs, on Core ML" in view.sentence(report)
    assert "Core ML itself: not run" not in view.sentence(report)
    page = (tmp_path / "parity.html").read_text(encoding="utf-8")
    assert "parts.1 on CPU_AND_NE" in page
    assert "Mac14,3" in page
    path.write_text(scaled("audio", 1.1)(pipeline.sound).to_json(), encoding="utf-8")
    assert merge(pipeline, path) == ParityError.exit_code


def test_a_leg_that_is_run_or_waived_takes_no_result(pipeline, capsys):
    for more in (["--runtime", "coreml"], ["--waive", LEG]):
        assert merge(pipeline, "mac.json", *more) == ParityError.exit_code
        assert "leave out --runtime coreml" in " ".join(capsys.readouterr().err.split())
