"""The named bounds of every leg of parity, and why each is where it is.

The numbers called measured are of the packaged weights on Linux under the same noise, the worst of
27 cases of both suites that fit 128 tokens x 400 frames: 8 voices, 7 languages, speeds 0.5 to 2.
The yardstick is upstream against itself under another noise, the same cases: 17 to 23.5 dB SNR,
1.07 to 1.88 dB log-spectral distance.

A recipe may ask for more than these bounds, never for less.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kokoro_coreml.errors import ParityError
from kokoro_coreml.parity import bounds
from kokoro_coreml.parity.bounds import DURATIONS, LENGTH, SILENT_PADDING, Bound
from kokoro_coreml.parity.results import Threshold
from kokoro_coreml.recipe import Thresholds

REWRITE_UPSTREAM = "rewrite = upstream"
PADDED_EXACT = "padded = exact"
TRACED_EAGER = "traced = eager"
PACKAGE_REWRITE = "package = rewrite"
PACKAGE_UPSTREAM = "package = upstream"
COREML_UPSTREAM = "coreml = upstream"
WORDS = "words"

LEGS = (
    REWRITE_UPSTREAM,
    PADDED_EXACT,
    TRACED_EAGER,
    PACKAGE_REWRITE,
    PACKAGE_UPSTREAM,
    COREML_UPSTREAM,
    WORDS,
)
"""Names of the legs, in the order in which an error travels."""

YARDSTICK_MARGIN = "snr_above_yardstick_db"
"""Audio SNR of a case less that of upstream's own two runs of it."""

_REWRITE: tuple[Bound, ...] = (
    (
        "module_snr_db",
        90.0,
        "higher",
        "fed the same inputs, a module makes the same sums in another order: 112 dB was measured",
    ),
    DURATIONS,
    LENGTH,
    (
        "exact_snr_db",
        30.0,
        "higher",
        "bins of the source near the branch cut flip by 2 pi within rounding: 36.1 dB was measured "
        "for one phoneme, 40.3 to 61 dB for others; unmasked padding leaves less than 13 dB",
    ),
    (
        "log_spectral_distance_db",
        0.3,
        "lower",
        "0.19 dB was measured, and 1.1 dB and more between two runs of upstream",
    ),
)

_PADDED: tuple[Bound, ...] = (
    DURATIONS,
    (
        "padded_snr_db",
        30.0,
        "higher",
        "from the exact length, where kernels add the tail in another order and bins flip: 36.6 dB "
        "was measured for one phoneme, 47.8 dB and more for others; a mask left out leaves less "
        "than 13 dB",
    ),
    (
        "bucket_snr_db",
        90.0,
        "higher",
        "between lengths that are multiples of 64 frames nothing flips: 115 dB was measured",
    ),
    SILENT_PADDING,
)

_TRACED: tuple[Bound, ...] = (
    DURATIONS,
    (
        "traced_snr_db",
        120.0,
        "higher",
        "a trace runs the same kernels on the same inputs: no difference at all was measured",
    ),
)

_PACKAGE_REWRITE: tuple[Bound, ...] = (
    DURATIONS,
    (
        "rewrite_snr_db",
        90.0,
        "higher",
        "the package does what the traced module does, operation by operation: 111 dB was measured",
    ),
    (
        "opening_snr_db",
        80.0,
        "higher",
        "the first 50 ms lie 130 dB below the speech, where no other metric sees them go wrong: "
        "106 dB was measured; 20 ms of zeros leave 32 dB or less",
    ),
    (
        "tail_snr_db",
        80.0,
        "higher",
        "the last 50 ms likewise: 99.8 dB was measured; 20 ms of zeros leave 28 dB or less",
    ),
    SILENT_PADDING,
)

_AUDIO_FLOAT32: tuple[Bound, ...] = (
    DURATIONS,
    LENGTH,
    (
        "audio_snr_db",
        30.0,
        "higher",
        "39.7 dB was measured, the rest being flips at the branch cut; on a processor with AMX "
        "one of them leaves 31.8 dB of a single phoneme; a shift of one sample leaves 17 dB, a "
        "wrong row of the voice or a pitch 0.2 % too high less than 0",
    ),
    (
        "log_spectral_distance_db",
        0.3,
        "lower",
        "0.19 dB was measured; less than a third of the distance between any two runs of upstream",
    ),
    (
        "f0_error_hz",
        0.1,
        "lower",
        "0.025 Hz was measured, a pitch 1 % too high is 2 Hz off",
    ),
    (
        "voicing_errors_percent",
        1.5,
        "lower",
        "0.14 % was measured; one frame of the shortest case is 1.4 %",
    ),
)

_AUDIO_FLOAT16: tuple[Bound, ...] = (
    (
        "suite_duration_errors_percent",
        0.1,
        "lower",
        "999 of 1,000 tokens of the suite: a duration close to a half may round either way",
    ),
    (
        "audio_snr_db",
        38.0,
        "higher",
        "float32 itself has 39.7 dB in its worst case; a decoder and generator whose every "
        "convolution is rounded to half precision have 49.8 dB against upstream",
    ),
    (
        "log_spectral_distance_db",
        0.3,
        "lower",
        "less than a third of the distance between any two runs of upstream",
    ),
    (
        "f0_error_hz",
        0.2,
        "lower",
        "0.08 Hz was measured in the worst of 48 cases; a pitch 1 % too high is 2 Hz off",
    ),
    (
        "voicing_errors_percent",
        1.5,
        "lower",
        "one frame of the shortest case; two runs of upstream differ by as much",
    ),
)

_AUDIO_ALWAYS: tuple[Bound, ...] = (
    (
        YARDSTICK_MARGIN,
        10.0,
        "higher",
        "at most a tenth of the power by which two runs of upstream differ; 20 dB was measured",
    ),
    (
        "log_mel_cosine",
        0.9999,
        "higher",
        "0.999996 was measured, 0.99985 and less between two runs of upstream",
    ),
    (
        "level_difference_db",
        0.02,
        "lower",
        "0.001 dB was measured, and 0.006 dB between two runs of upstream at the median",
    ),
    (
        "gross_pitch_errors_percent",
        2.0,
        "lower",
        "one frame of 87 was measured once in 41 cases, where the tracker's choice of octave is a "
        "tie, else none; a wrong octave in the network would show in most frames",
    ),
    (
        "opening_error_db",
        -60.0,
        "lower",
        "above 16-bit rounding (-69 dB beside the quietest case) and below a click of 0.002 of "
        "full scale (-59 dB); -125 dB was measured",
    ),
    ("tail_error_db", -60.0, "lower", "as the opening; -82 dB was measured"),
    SILENT_PADDING,
)

_ON_A_DEVICE = "; as in the executor, not yet measured on a Mac"

_WORDS: tuple[Bound, ...] = (
    (
        "word_errors",
        0.0,
        "lower",
        "the words heard in upstream's audio, where it is English at a pace the recogniser follows",
    ),
)


def thresholds_for(
    precision: str,
    recipe_thresholds: Thresholds | None = None,
    cut: str = "complete",
    *,
    lossy: bool = False,
) -> tuple[Threshold, ...]:
    """Return the bounds of every leg for packages of one precision.

    Args:
        precision: `float32`, or `float16` for packages that declare half precision anywhere.
        recipe_thresholds: of the bundle's recipe; where one is stricter, it is the bound.
        cut: of the bundle's packages, `complete` or `pipeline`.
        lossy: whether weights were changed by compression; a recipe's bounds against upstream are
            for weights that were not.

    Raises:
        ParityError: the precision is unknown.
    """
    audio = {"float32": _AUDIO_FLOAT32, "float16": _AUDIO_FLOAT16}.get(precision)
    if audio is None:
        raise ParityError(f"no thresholds for precision {precision!r}; known: float32, float16")
    legs = dict(_pipeline(precision) if cut == "pipeline" else _complete(audio))
    if lossy:
        legs[PACKAGE_UPSTREAM] = bounds.COMPRESSED
        legs[COREML_UPSTREAM] = tuple(_on_a_device(bounds.COMPRESSED))
    found = [Threshold(m, leg, b, better, r) for leg in legs for m, b, better, r in legs[leg]]
    changed = (PACKAGE_UPSTREAM, COREML_UPSTREAM) if lossy else ()
    return tuple(
        threshold if threshold.leg in changed else _stricter(threshold, recipe_thresholds)
        for threshold in found
    )


def _complete(audio: tuple[Bound, ...]) -> Mapping[str, tuple[Bound, ...]]:
    return {
        REWRITE_UPSTREAM: _REWRITE,
        PADDED_EXACT: _PADDED,
        TRACED_EAGER: _TRACED,
        PACKAGE_REWRITE: _PACKAGE_REWRITE,
        PACKAGE_UPSTREAM: (*audio, *_AUDIO_ALWAYS),
        COREML_UPSTREAM: tuple(_on_a_device((*audio, *_AUDIO_ALWAYS))),
        WORDS: _WORDS,
    }


def _pipeline(precision: str) -> Mapping[str, tuple[Bound, ...]]:
    """As `_complete`, with the bounds that a pipeline is judged by in addition or instead."""
    if precision == "float32":
        # what float32 can reach against upstream is bounded as `FLOAT32_SNR`
        plain = [b for b in _AUDIO_FLOAT32 if b[0] != "audio_snr_db"]
        audio = (*plain, *bounds.PIPELINE_FLOAT32)
    else:
        audio = (*_AUDIO_FLOAT16, *bounds.PIPELINE_FLOAT16)
    audio = tuple(dict.fromkeys((*audio, *_AUDIO_ALWAYS)))
    # a device's float32 stages add in their own order, so its source is another
    on_a_device = tuple(bound for bound in audio if bound[0] != bounds.ROUNDING)
    return {
        REWRITE_UPSTREAM: bounds.PIPELINE_REWRITE,
        PADDED_EXACT: bounds.PIPELINE_PADDED,
        TRACED_EAGER: bounds.PIPELINE_TRACED,
        PACKAGE_REWRITE: bounds.PIPELINE_PACKAGE,
        PACKAGE_UPSTREAM: audio,
        COREML_UPSTREAM: tuple(_on_a_device(on_a_device)),
        WORDS: _WORDS,
    }


def of_leg(thresholds: tuple[Threshold, ...], leg: str) -> dict[str, Threshold]:
    """Return the thresholds of one leg by metric.

    Raises:
        ParityError: the leg has none, so that it could not fail.
    """
    found = {threshold.metric: threshold for threshold in thresholds if threshold.leg == leg}
    if not found:
        raise ParityError(f"the leg {leg!r} has no threshold; known: {', '.join(LEGS)}")
    return found


def _on_a_device(bounds: tuple[Bound, ...]) -> Iterator[Bound]:
    for metric, bound, better, reason in bounds:
        yield metric, bound, better, reason + _ON_A_DEVICE


def _stricter(threshold: Threshold, recipe: Thresholds | None) -> Threshold:
    """The recipe's bound where it asks for more; its fields are named as the metrics are."""
    asked = getattr(recipe, threshold.metric, None)
    if asked is None or asked == threshold.bound or not threshold.holds(asked):
        return threshold
    reason = f"asked for by the recipe; without it {threshold.bound:g}: {threshold.reason}"
    return Threshold(threshold.metric, threshold.leg, asked, threshold.better, reason)
