"""Small reports and cases of made-up numbers."""

from __future__ import annotations

from dataclasses import replace

from kokoro_coreml.recipe import PIPELINE, Compression
from kokoro_coreml.sizes.comparison import compare, quality_of, same_words, smallest
from kokoro_coreml.sizes.results import (
    CaseQuality,
    NotMeasured,
    Row,
    RowSizes,
    Said,
    SizeReport,
    StageSize,
    Variation,
)
from kokoro_coreml.sizes.tolerances import TOLERANCES, VARIATION

GOOD = {
    "duration_errors": 0.0,
    "length_difference_samples": 0.0,
    "audio_snr_db": 41.0,
    "same_source_snr_db": 50.0,
    "log_spectral_distance_db": 0.2,
    "log_mel_cosine": 0.999996,
    "f0_error_hz": 0.02,
    "word_errors": 0.0,
}
SECOND = GOOD | {
    "audio_snr_db": 20.0,
    "same_source_snr_db": None,
    "log_spectral_distance_db": 1.5,
    "log_mel_cosine": 0.9997,
    "f0_error_hz": 0.4,
}

SAID = (
    Said("one", "en-us", "af_heart", 1.0, 40, 100, "hello this is a test"),
    Said("two", "fr-fr", "ff_siwis", 0.8, 60, 150, None),
)


def case(name, /, notes=(), **changes):
    """A case with the metrics of `GOOD` but for some; the second is not listened to."""
    metrics = GOOD | changes
    if name == "two":
        metrics["word_errors"] = None
    return CaseQuality(name, metrics, None if name == "two" else "hello", tuple(notes))


def row(name, size, cases, base=None):
    """A row that was measured; sizes are of its seven stages together."""
    stages = tuple(StageSize(stage, size, size + 10) for stage in PIPELINE)
    return Row(
        name=name,
        compression=None if name == "none" else Compression(name, "test"),
        verdict="measured",
        reason=None,
        sizes=RowSizes(7 * size, 7 * (size + 10), stages),
        quality=quality_of(cases, SAID),
        same_words=same_words(cases),
        against_uncompressed=compare(cases, base, TOLERANCES) if base else None,
        against_variation=compare(cases, SECOND_RUN, VARIATION),
        cases=tuple(cases),
    )


SECOND_RUN = tuple(
    replace(case(one.case), metrics=SECOND | ({} if one.heard else {"word_errors": None}))
    for one in SAID
)


def report(**changes):
    """Four rows: uncompressed, one like it, one that is worse, and one that failed."""
    base = [case("one"), case("two")]
    worse = [case("one", word_errors=1.0, audio_snr_db=12.0), case("two", duration_errors=3.0)]
    failed = Row("palette4/7", None, "failed", "no | groups", *[None] * 5, ())
    rows = (
        row("none", 40_000_000, base),
        row("exact", 10_000_000, base, base),
        row("palette4", 5_000_000, worse, base),
        failed,
    )
    found = SizeReport(
        schema_version=1,
        project_version="0.1.0",
        recipe="tiny",
        weights="file, tiny.pth",
        weights_from_8_bits=False,
        tokens=128,
        frames=512,
        precision="declared",
        suite="smoke",
        threads=2,
        versions={"torch": "2"},
        recogniser="Whisper",
        tolerances=TOLERANCES,
        said=SAID,
        variation=Variation(quality_of(SECOND_RUN, SAID), SECOND_RUN),
        rows=rows,
        smallest=smallest(rows, "none"),
        not_measured=(NotMeasured("case long", "needs 600 tokens"),),
    )
    return replace(found, **changes)
