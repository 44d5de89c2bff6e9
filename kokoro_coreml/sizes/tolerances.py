"""How much worse than the uncompressed packages a metric may be before it tells them apart.

A tolerance is compared case by case, so a good case cannot make up for a bad one. Where two runs of
upstream differ among themselves (`parity.thresholds`: 1.07 dB log-spectral distance and more, a
cosine of 0.99985 and less, 0.4 Hz at the median), it is about a tenth of that.
"""

from __future__ import annotations

from kokoro_coreml.parity.bounds import SAME_SOURCE
from kokoro_coreml.sizes.results import Tolerance

WORD_ERRORS = "word_errors"

TOLERANCES: tuple[Tolerance, ...] = (
    Tolerance(
        "duration_errors",
        0.0,
        "lower",
        "one frame more or less moves all that follows",
    ),
    Tolerance(
        "length_difference_samples",
        0.0,
        "lower",
        "the length is the sum of the durations",
    ),
    Tolerance(
        "audio_snr_db",
        3.0,
        "higher",
        "the power of the error may at most double, as `verify` allows for half precision: bins of "
        "the source near the branch cut of its phase flip within rounding",
    ),
    Tolerance(
        SAME_SOURCE,
        3.0,
        "higher",
        "the power of the error may at most double; no bin flips here",
    ),
    Tolerance(
        "log_spectral_distance_db",
        0.1,
        "lower",
        "a tenth of the least distance between two runs of upstream",
    ),
    Tolerance(
        "log_mel_cosine",
        1.5e-5,
        "higher",
        "a tenth of what the nearest two runs of upstream lack to 1",
    ),
    Tolerance(
        "f0_error_hz",
        0.04,
        "lower",
        "a tenth of the distance between two runs of upstream at the median",
    ),
    Tolerance(
        WORD_ERRORS,
        0.0,
        "lower",
        "a word that is heard otherwise is what every listener can tell",
    ),
)
"""Of every metric that is measured, in the order of the table."""

METRICS = tuple(one.metric for one in TOLERANCES)

VARIATION: tuple[Tolerance, ...] = tuple(
    Tolerance(one.metric, 0.0, one.better, "no further from upstream than its own second run")
    for one in TOLERANCES
    if one.metric != SAME_SOURCE
)
"""Beside upstream's second run, which has no source of the package's."""
