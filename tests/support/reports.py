"""Realistic reports: what a verification finds, with audio that sounds a little like speech."""

from __future__ import annotations

import dataclasses

import numpy as np

from kokoro_coreml.parity.metrics import audio_metrics
from kokoro_coreml.parity.report import Listening
from kokoro_coreml.parity.results import (
    BundleFacts,
    CaseResult,
    Check,
    DeviceUse,
    Leg,
    OperationError,
    PackageTiming,
    RangeFinding,
    Report,
    StageResult,
    Suspect,
    Threshold,
    finite,
)

RATE = 24_000
PACKAGE = "package = upstream"
STAGES = ("albert", "bert_encoder", "durations", "f0", "energy", "decoder", "source", "generator")

THRESHOLDS = (
    Threshold("stage_snr_db", "rewrite = upstream", 90.0, "higher", "Float32 on both sides."),
    Threshold("audio_snr_db", "padded = exact", 90.0, "higher", "Padding must change nothing."),
    Threshold("stage_snr_db", "stages of the package", 40.0, "higher", "Half precision rounds."),
    Threshold("duration_errors", PACKAGE, 0.0, "lower", "One wrong duration shifts all speech."),
    Threshold("audio_snr_db", PACKAGE, 30.0, "higher", "Ten dB from upstream's own variation."),
    Threshold("log_spectral_distance_db", PACKAGE, 0.5, "lower", "A third of its own variation."),
    Threshold("log_mel_cosine", PACKAGE, 0.999, "higher", "Two runs of upstream reach 0.995."),
    Threshold("level_difference_db", PACKAGE, 0.1, "lower", "A lost window sum shows as 3.5 dB."),
    Threshold("word_errors", "same words", 0.0, "lower", "The judge is a listener."),
)

TEXTS = {
    "en-numbers": ("en-us", "am_michael", "In 1987 we sold 36 kites; 12 came back (torn)."),
    "fr-slow": ("fr-fr", "ff_siwis", "Les enfants ont trouvé un hérisson sous la vieille barque."),
    "en-blend": ("en-us", "af_heart*0.6+am_michael*0.4", "Keep the ladder away, please."),
}


def speech(seconds: float, seed: int) -> np.ndarray:
    """Voiced and unvoiced stretches with a moving pitch, float32 [samples]."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    pitch = 150.0 + 40.0 * np.sin(2 * np.pi * 0.7 * time + seed)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    formant = 900.0 + 600.0 * np.sin(2 * np.pi * 1.9 * time)
    voiced = sum(
        np.exp(-(((h * pitch - formant) / 700.0) ** 2)) * np.sin(h * phase) for h in range(1, 30)
    )
    syllables = np.clip(np.sin(2 * np.pi * 2.3 * time), 0, 1) ** 0.5
    hiss = np.clip(np.sin(2 * np.pi * 2.3 * time + 2.4), 0, 1) * rng.standard_normal(time.size)
    floor = 3e-4 * rng.standard_normal(time.size)
    return (0.12 * syllables * voiced + 0.02 * hiss + floor).astype(np.float32)


def perturbed(audio: np.ndarray, snr_db: float, seed: int) -> np.ndarray:
    """The audio with every sample scaled by a slowly changing random factor near 1."""
    white = np.random.default_rng(seed).standard_normal(audio.size + 480)
    slow = np.convolve(white, np.hanning(481), "valid")
    noise = audio.astype(np.float64) * slow
    gain = np.sqrt(np.sum(audio.astype(np.float64) ** 2) / np.sum(noise**2)) * 10 ** (-snr_db / 20)
    return (audio + gain * noise).astype(np.float32)


def operations(count: int, *, broken_at: int | None = None) -> tuple[OperationError, ...]:
    """A graph whose second half is declared fp16 and loses precision as it goes."""
    rng = np.random.default_rng(7)
    parts = [("bert", "Albert"), ("predictor", "Prosody"), ("decoder", "Decoder")]
    parts.append(("generator", "Generator"))
    found, total = [], 999.0
    for i in range(count):
        path, kind = parts[4 * i // count]
        half = 2 * i > count and i % 7 != 0
        local = 74.4 + 3 * rng.standard_normal() - (18 if i % 61 == 3 else 0) if half else 999.0
        if not half and i % 5:
            local = 140.0 + 5 * rng.standard_normal()
        local = 8.0 if i == broken_at else local
        total = 999.0 if min(total, local) >= 999.0 else _added(total, local)
        declared = (
            "fp16[1, 512, 800]" if half else "int32[1]" if i % 11 == 0 else "fp32[1, 128, 768]"
        )
        module = None if i % 13 == 0 else f"{path}.blocks.{i % 4} ({kind}Block)"
        found.append(
            OperationError(
                position=3 * i,
                type=("conv", "mul", "add", "linear", "softmax")[i % 5],
                name=f"{path}_{i}_cast_fp16" if half else f"{path}_{i}",
                module=module,
                declared=declared,
                snr_db=min(total + 2 * rng.standard_normal(), 999.0),
                local_snr_db=local,
            )
        )
    return tuple(found)


def passed_report() -> tuple[Report, list[Listening]]:
    """Three cases, all within their bounds, off-Mac."""
    listenings, cases = _cases({"en-numbers": 44.0, "fr-slow": 41.5, "en-blend": 47.0})
    stages = tuple(
        StageResult(stage, leg, case.name, bound + 4 * i + 3 * j, bound, "passed")
        for leg, bound in (("rewrite = upstream", 90.0), ("stages of the package", 40.0))
        for i, stage in enumerate(STAGES)
        for j, case in enumerate(cases)
    )
    report = Report(
        schema_version=1,
        project_version="0.1.0",
        verdict="passed",
        bundle=BundleFacts("kokoro-82m", "complete", "hub hexgrad/Kokoro-82M@f3ff3571", "ab" * 32),
        runtime="executor",
        precision="declared",
        compute_units=(),
        suite="smoke",
        versions={"coremltools": "9.0", "kokoro": "0.9.4", "numpy": "2.3.5", "torch": "2.13.0"},
        machine="Linux x86_64",
        thresholds=THRESHOLDS,
        legs=_legs(cases, stages),
        stages=stages,
        cases=cases,
        operations=operations(300),
        operations_title="The package rounded to its declared types against itself in float32",
        suspects=(),
        timings=(
            PackageTiming(
                package="KokoroComplete_128x400.mlpackage",
                function="main",
                compute_units="CPU_ONLY",
                load_seconds=1.84,
                run_seconds=(6.1, 5.9, 7.9),
                eager_seconds=(5.2, 5.0, 5.1),
            ),
        ),
    )
    return report, listenings


def failed_report() -> tuple[Report, list[Listening]]:
    """One case far out of bounds, shorter and with NaN in it, and where that comes from."""
    report, listenings = passed_report()
    first = listenings[0]
    candidate = perturbed(first.reference, 11.0, 99)[:-2400]
    candidate[30_000:30_400] = np.nan
    found = audio_metrics(reference=first.reference, candidate=candidate, sample_rate=RATE)
    metrics = _table(found) | {"duration_errors": 4.0, "word_errors": 3.0}
    case = dataclasses.replace(
        report.cases[0],
        metrics=metrics,
        failed=_failed(metrics),
        words_reference="In 1987 we sold 36 kites, 12 came back, torn.",
        words_candidate="In 1987 we sold sixty six kites, 12 came torn.",
    )
    cases = (case, *report.cases[1:])
    stages = tuple(
        dataclasses.replace(s, snr_db=8.2, verdict="failed")
        if (s.leg, s.name, s.case) == ("stages of the package", "decoder", case.name)
        else s
        for s in report.stages
    )
    suspect = Suspect(
        leg="stages of the package",
        where="decoder.blocks.2 (AdainResBlk1d)",
        operation="decoder_190_cast_fp16",
        evidence="8.0 dB alone, where its neighbours keep 74 dB; fed the reference's own inputs",
    )
    failed = dataclasses.replace(
        report,
        verdict="failed",
        cases=cases,
        stages=stages,
        legs=_legs(cases, stages),
        operations=operations(300, broken_at=190),
        suspects=(suspect, dataclasses.replace(suspect, where="generator", operation=None)),
    )
    return failed, [dataclasses.replace(first, candidate=candidate), *listenings[1:]]


def device_report() -> tuple[Report, list[Listening]]:
    """Core ML as runtime: two compute units, so every case twice; and findings of ranges."""
    report, listenings = passed_report()
    units = ("CPU_AND_NE", "ALL")
    package = report.timings[0].package
    kinds = ("subnormal", "accumulator", "subnormal", "overflow")
    found = tuple(
        RangeFinding(
            kind=kinds[i % 4],
            case=report.cases[i % 3].name,
            operation=f"generator_{i}_cast_fp16",
            module=f"generator.resblocks.{i % 3} (AdaINResBlock1)" if i % 5 else None,
            count=17 * i + 1,
            elements=409_600,
            largest=1e-6 if kinds[i % 4] == "subnormal" else 40_000.0 + i,
        )
        for i in range(60)
    )
    changed = dataclasses.replace(
        report,
        runtime="coreml",
        compute_units=units,
        legs=tuple(leg for leg in report.legs if leg.verdict != "not run"),
        cases=report.cases * 2,
        devices=tuple(
            DeviceUse(package, "main", unit, device, operations, cost)
            for unit in units
            for device, operations, cost in (("Neural Engine", 1604, 0.93), ("CPU", 588, 0.07))
        ),
        findings=found,
    )
    return changed, listenings * 2


def empty_report() -> Report:
    """Nothing but a verdict: what is left when all else could not be run."""
    report, _ = passed_report()
    nothing = {"thresholds": (), "stages": (), "cases": (), "operations": (), "timings": ()}
    leg = Leg("package = upstream", "failed", (), 0.0, "the package could not be read")
    return dataclasses.replace(
        report, verdict="failed", legs=(leg,), operations_title="", versions={}, **nothing
    )


def _cases(distances: dict[str, float]) -> tuple[list[Listening], tuple[CaseResult, ...]]:
    listenings, cases = [], []
    for seed, (name, distance) in enumerate(distances.items()):
        language, voice, text = TEXTS[name]
        reference = speech(2.0 + 0.6 * seed, seed)
        candidate = perturbed(reference, distance, seed + 10)
        again = perturbed(reference, 20.0 + seed, seed + 20)
        found, own = (
            audio_metrics(reference=reference, candidate=other, sample_rate=RATE)
            for other in (candidate, again)
        )
        heard = text if language == "en-us" else None
        metrics = _table(found) | {"duration_errors": 0.0}
        metrics |= {"word_errors": 0.0} if heard else {}
        listenings.append(Listening(name, reference, candidate, RATE))
        cases.append(
            CaseResult(
                name=name,
                text=text,
                phonemes="ɪn nˌIntˈin ˈATi sˈɛvən wi sˈOld θˈɜɹTi sˈɪks kˈIts.",
                language=language,
                voice=voice,
                speed=1.0,
                bucket="128 x 400",
                tokens=48 + seed,
                frames=reference.size // 600,
                seconds=reference.size / RATE,
                metrics=metrics,
                yardstick=_table(own) | {"duration_errors": 0.0},
                failed=_failed(metrics),
                words_reference=heard,
                words_candidate=heard,
            )
        )
    return listenings, tuple(cases)


def _legs(cases: tuple[CaseResult, ...], stages: tuple[StageResult, ...]) -> tuple[Leg, ...]:
    bounds = {t.metric: t for t in THRESHOLDS if t.leg == PACKAGE}
    package = tuple(
        Check(
            metric,
            case.name,
            case.metrics[metric],
            bound.bound,
            bound.better,
            "failed" if metric in case.failed else "passed",
        )
        for case in cases
        for metric, bound in bounds.items()
    )
    by_stage = {
        leg: tuple(
            Check("stage_snr_db", f"{s.name}, {s.case}", s.snr_db, s.bound, "higher", s.verdict)
            for s in stages
            if s.leg == leg
        )
        for leg in ("rewrite = upstream", "stages of the package")
    }
    words = tuple(
        Check("word_errors", c.name, c.metrics["word_errors"], 0.0, "lower", _verdict(c))
        for c in cases
        if "word_errors" in c.metrics
    )
    padded = Check("audio_snr_db", "128 x 256", 114.2, 90.0, "higher", "passed")
    detail = "needs macOS: run the same command on a Mac"
    return (
        _leg("rewrite = upstream", by_stage["rewrite = upstream"]),
        _leg("padded = exact", (padded,)),
        _leg("stages of the package", by_stage["stages of the package"]),
        _leg(PACKAGE, package),
        _leg("same words", words),
        Leg("coreml = upstream", "not run", (), 0.0, detail),
    )


def _leg(name: str, checks: tuple[Check, ...]) -> Leg:
    wrong = [c.metric for c in checks if c.verdict == "failed"]
    detail = f"out of bounds: {', '.join(wrong)}" if wrong else None
    return Leg(name, "failed" if wrong else "passed", checks, 12.4, detail)


def _verdict(case: CaseResult) -> str:
    return "failed" if "word_errors" in case.failed else "passed"


def _failed(metrics: dict[str, float]) -> tuple[str, ...]:
    bounds = [t for t in THRESHOLDS if t.leg in (PACKAGE, "same words")]
    return tuple(t.metric for t in bounds if t.metric in metrics and not t.holds(metrics[t.metric]))


def _table(found: dict[str, float]) -> dict[str, float]:
    higher = {"audio_snr_db", "log_mel_cosine"}
    return {k: finite(v, "higher" if k in higher else "lower") for k, v in found.items()}


def _added(total: float, local: float) -> float:
    return float(-10.0 * np.log10(10 ** (-total / 10) + 0.05 * 10 ** (-local / 10)))
