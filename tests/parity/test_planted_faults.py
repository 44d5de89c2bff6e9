"""Faults that others shipped, planted one by one: each must be caught, and found where it is.

The network is the tiny random one, converted for real. Faults of a package are planted in a copy of
the bundle, which is sealed again as if nothing had happened; faults of the rewrite and of the
lowering are planted in the code that makes the package.
"""

from __future__ import annotations

import numpy as np

from kokoro_coreml.lowering import corrections
from kokoro_coreml.modules.masks import Valid
from kokoro_coreml.parity import verification
from kokoro_coreml.parity.request import EVERY_LEG, Request
from kokoro_coreml.parity.results import Report
from kokoro_coreml.parity.summary import summary
from kokoro_coreml.parity.verification import verify
from kokoro_coreml.progress import Reporter
from kokoro_coreml.voices import VoicePack
from tests.support.tiny_bundle import (
    constant,
    edit_weight,
    of_type,
    tiny_thresholds,
)

PACKAGE_LEGS = ("inputs = upstream", "package = rewrite", "package = upstream")


def failed(report: Report) -> set[str]:
    return {leg.name for leg in report.legs if leg.verdict == "failed"}


def suspect(report: Report, leg: str):
    found = [s for s in report.suspects if s.leg == leg]
    assert len(found) == 1
    return found[0]


def test_the_sound_bundle_passes_every_leg(bench):
    report = bench.verify(bench.bundle)
    assert report.verdict == "passed", summary(report)
    assert failed(report) == set()
    assert report.suspects == ()
    assert len(report.cases) == 2
    assert {s.leg for s in report.stages} == {"rewrite = upstream", "padded = exact"}
    compared = [o for o in report.operations if o.module]
    assert len(compared) > 1000
    assert min(o.local_snr_db for o in report.operations) > 90


def test_gate_order(bench):
    def swap(model, weights):
        lstm = of_type(model, "lstm")[1]

        def reorder(rows):
            i, f, o, z = np.split(rows, 4)
            return np.concatenate([i, f, z, o])

        edit_weight(model, weights, lstm.inputs["weight_ih"].arguments[0].name, reorder)
        swap.name = lstm.outputs[0].name

    report = bench.planted("gates", swap)
    assert {"package = rewrite", "package = upstream"} <= failed(report)
    found = suspect(report, "package = rewrite")
    assert "LSTM" in found.where
    assert swap.name in found.operation + found.evidence


def test_crop_of_a_transposed_convolution(bench):
    def shift(model, _weights):
        for crop in of_type(model, "conv_transpose"):
            values = constant(model, crop, "pad").immediateValue.tensor.ints.values
            if sum(values):
                values[0], values[1] = values[0] + 1, values[1] - 1
                shift.name = crop.outputs[0].name
                return

    report = bench.planted("crop", shift)
    assert "package = rewrite" in failed(report)
    found = suspect(report, "package = rewrite")
    assert "decoder.generator.ups.0" in found.where
    assert shift.name in found.operation + found.evidence


def test_epsilon(bench):
    def grow(model, _weights):
        norm = of_type(model, "layer_norm")[3]
        constant(model, norm, "epsilon").immediateValue.tensor.floats.values[0] = 1e-2
        grow.name = norm.outputs[0].name

    report = bench.planted("epsilon", grow)
    assert "package = rewrite" in failed(report)
    found = suspect(report, "package = rewrite")
    assert f"'{grow.name}'" in found.operation
    assert "layer_norm" in found.operation
    assert "LayerNorm" in found.where


def test_pad_order(bench):
    def swap(model, _weights):
        for pad in of_type(model, "pad"):
            values = constant(model, pad, "pad").immediateValue.tensor.ints.values
            if values[-1] != values[-2]:
                values[-1], values[-2] = values[-2], values[-1]
                swap.name = pad.outputs[0].name
                return

    report = bench.planted("pad", swap)
    assert "package = rewrite" in failed(report)
    found = suspect(report, "package = rewrite")
    assert f"'{swap.name}'" in found.operation
    assert "decoder.generator" in found.where


def test_missing_window_sum(bench):
    def drop(model, _weights):
        division = of_type(model, "real_div")[-1]
        division.type = "identity"
        del division.inputs["y"]
        drop.name = division.outputs[0].name

    report = bench.planted("window", drop)
    assert {"package = rewrite", "package = upstream"} <= failed(report)
    found = suspect(report, "package = rewrite")
    assert f"'{drop.name}'" in found.operation
    assert "stft" in found.where.lower()


def test_one_frame_too_many(bench):
    def grow(model, _weights):
        for clip in of_type(model, "clip"):
            alpha = constant(model, clip, "alpha").immediateValue.tensor.floats.values
            if alpha[0] == 1.0:
                alpha[0] = 6.0
                grow.name = clip.outputs[0].name
                return

    report = bench.planted("frame", grow)
    wrong = {c.metric for leg in report.legs for c in leg.checks if c.verdict == "failed"}
    assert {"duration_errors", "length_difference_samples"} <= wrong
    found = suspect(report, "package = rewrite")
    assert f"clip '{grow.name}'" in found.evidence


def test_a_shape_that_is_not_declared(bench):
    def lie(model, _weights):
        conv = of_type(model, "conv")[0]
        conv.outputs[0].type.tensorType.dimensions[2].constant.size += 1
        lie.name = conv.outputs[0].name

    report = bench.planted("shape", lie)
    assert "package = rewrite" in failed(report)
    assert any(f"'{lie.name}'" in s.evidence for s in report.suspects)


def test_the_branch_of_atan2(bench, monkeypatch):
    """The stock lowering, which gives 0 for atan2(0, -1)."""
    kept = {name: c for name, c in corrections.CORRECTIONS.items() if "atan2" not in name}
    assert len(kept) < len(corrections.CORRECTIONS)
    monkeypatch.setattr(corrections, "CORRECTIONS", kept)
    copy = bench.lowered_anew("atan2")
    monkeypatch.undo()
    report = bench.verify(copy, *PACKAGE_LEGS)
    assert "package = rewrite" in failed(report)
    assert "decoder.generator.stft" in suspect(report, "package = rewrite").where


def test_a_voice_row_off_by_one(bench, monkeypatch):
    monkeypatch.setattr(VoicePack, "row", lambda self, count: self.data[count : count + 1].copy())
    report = bench.verify(bench.bundle, *PACKAGE_LEGS)
    assert {"inputs = upstream", "package = upstream"} <= failed(report)
    assert "package = rewrite" not in failed(report)
    faults = [s for s in report.suspects if s.leg == "inputs = upstream"]
    assert [s.where for s in faults] == ["case hello, ref_s", "case quick, ref_s"]
    assert "not row 21 of the voice pack" in faults[0].evidence


def test_unmasked_padding(bench, monkeypatch):
    """Statistics over padding too: right without padding, wrong with it."""
    monkeypatch.setattr(Valid, "mean", lambda self, x: x.mean(dim=-1, keepdim=True))
    copy = bench.lowered_anew("padding")
    report = bench.verify(copy)
    assert {"padded = exact", "package = upstream"} <= failed(report)
    assert not {"rewrite = upstream", "package = rewrite"} & failed(report)
    found = suspect(report, "padded = exact")
    assert found.where in ("stage f0", "stage energy", "stage decoder")


def test_a_package_that_overflows_its_bucket_is_a_failure(bench):
    def slow(model, _weights):
        for clip in of_type(model, "clip"):
            alpha = constant(model, clip, "alpha").immediateValue.tensor.floats.values
            if alpha[0] == 1.0:
                alpha[0] = 90.0

    report = bench.planted("overflow", slow)
    assert {"package = rewrite", "package = upstream"} <= failed(report)
    assert all("not heard" in case.failed for case in report.cases)
    assert any("bucket" in (leg.detail or "") for leg in report.legs)


class Told(Reporter):
    """Warnings, and the first step behind them."""

    def __init__(self):
        self.messages = []

    def warn(self, message):
        self.messages.append(message)

    def step(self, title, total=None):
        if self.messages and "step" not in self.messages and title == "build upstream's network":
            self.messages.append("step")
        return super().step(title, total)


def test_missing_speech_recognition_is_a_failure_unless_waived(bench, monkeypatch, tmp_path):
    text = (bench.folder / "suite.toml").read_text(encoding="utf-8")
    asked = tmp_path / "words.toml"
    asked.write_text(text.replace('voice = "af_heart"', 'voice = "af_heart"\nrecognise = true'))
    monkeypatch.setattr(verification.Recogniser, "available", staticmethod(lambda: False))
    request = Request(
        bench.bundle,
        precision="float32",
        suite=str(asked),
        checkpoint=str(bench.folder / "weights"),
        thresholds=tiny_thresholds(),
        waive=tuple(n for n in EVERY_LEG if n not in ("words", "package = upstream")),
    )
    told = Told()
    report = verify(request, reporter=told).report
    assert "kokoro-coreml[asr]" in told.messages[0]
    assert told.messages[1:] == ["step"], "it is told before the first long leg"
    (words,) = [leg for leg in report.legs if leg.name == "words"]
    assert words.verdict == "not run"
    assert "kokoro-coreml[asr]" in words.detail
    assert report.verdict == "failed"
