"""Bounds that several legs share, and those of the cut `pipeline`, each with its reason.

The numbers called measured are of the packaged weights on Linux under the same noise. A device's or
another length's rounding is no part of them.
"""

from __future__ import annotations

from kokoro_coreml.parity.results import Better

Bound = tuple[str, float, Better, str]
"""Metric, bound, direction and reason."""

FLOAT32_SOUND_DB = 40.0
"""SNR the float32 package must have in a case that is judged by `audio_snr_db`.

Below it, the float32 package itself is within a few dB of the bound, and the case is judged by what
declared precision adds (`LOSS`).
"""

LOSS = "loss_db"
"""Metric: SNR of the audio that declared precision costs beside the same package in float32."""

FLOAT32_SNR = "float32_snr_db"
"""Metric: SNR against upstream of the same package, executed in float32."""

SAME_SOURCE = "same_source_snr_db"
"""Metric: SNR against upstream's decoder and generator fed the package's own curves and source."""

DISTANCE = "log_spectral_distance_db"
"""Metric: log-spectral distance against upstream."""

ROUNDING = "rounding_distance_db"
"""Metric: log-spectral distance between the packages at declared precision and in float32."""

OWN_DISTANCE = "upstream_rounding_distance_db"
"""Metric: log-spectral distance between upstream in float32 and in double precision."""

OWN_SNR = "upstream_rounding_snr_db"
"""Metric: SNR between the two."""

LARGEST_RATIO = 1.5
"""Two roundings of equal size are the square root of 2 as far apart as either is from the truth."""

OWN_DISTANCE_SOUND_DB = 0.3 / LARGEST_RATIO
"""What upstream's own rounding may leave in a case that is judged by `log_spectral_distance_db`.

Beyond it upstream itself is not known to within that bound, and the case is judged by `RATIO`.
"""

OWN_DISTANCE_LOST_DB = 1.0 / LARGEST_RATIO
"""Where upstream's own rounding leaves more than this, `RATIO` excuses nothing: it would allow more
than 1 dB, and two runs of upstream differ by 1.07 dB."""

RATIO = "distance_over_rounding"
"""Metric: log-spectral distance against upstream, over that of upstream's own rounding."""

DURATIONS: Bound = (
    "duration_errors",
    0.0,
    "lower",
    "one frame more or less moves all that follows",
)

LENGTH: Bound = (
    "length_difference_samples",
    0.0,
    "lower",
    "the length is the sum of the durations",
)

SILENT_PADDING: Bound = (
    "padding_peak",
    0.0,
    "lower",
    "the last operation is a product with the mask, so what is left is a fault",
)

_RATIO: Bound = (
    RATIO,
    LARGEST_RATIO,
    "lower",
    f"in cases where upstream's own rounding leaves more than {OWN_DISTANCE_SOUND_DB:g} dB of "
    "spectral distance: two roundings of equal size are the square root of 2 as far apart as "
    "either is from the truth; 1.40 was measured",
)

PIPELINE_REWRITE: tuple[Bound, ...] = (
    (
        "module_snr_db",
        90.0,
        "higher",
        "fed the same inputs, a stage makes the same sums in another order, in rows of time whose "
        "halos hold everything that is read: 109.8 dB was measured in the encoder, 129 in the "
        "generator",
    ),
    DURATIONS,
    LENGTH,
    (
        "exact_snr_db",
        30.0,
        "higher",
        "bins of the source near the branch cut flip by 2 pi within rounding: 32.7 dB was measured "
        "for 1,095 frames, 33.9 dB for one phoneme",
    ),
    (
        "log_spectral_distance_db",
        0.3,
        "lower",
        "0.21 dB was measured, and 1.1 dB and more between two runs of upstream",
    ),
    _RATIO,
)

PIPELINE_PADDED: tuple[Bound, ...] = (
    DURATIONS,
    (
        "padded_snr_db",
        30.0,
        "higher",
        "the whole audio of two buckets, whose bins flip; a mask left out leaves less than 13 dB",
    ),
    (
        "bucket_snr_db",
        90.0,
        "higher",
        "every stage fed the same inputs at both buckets: whatever padding leaks in stands alone",
    ),
    SILENT_PADDING,
)

PIPELINE_TRACED: tuple[Bound, ...] = (
    (
        "traced_snr_db",
        120.0,
        "higher",
        "a trace runs the same kernels on the same inputs: no difference at all was measured",
    ),
)

PIPELINE_PACKAGE: tuple[Bound, ...] = (
    DURATIONS,
    (
        "rewrite_snr_db",
        70.0,
        "higher",
        "a float32 stage fed the same inputs, operation by operation: 81.4 dB was measured for "
        "Encoder at 512 tokens, 145 dB and more for the others",
    ),
    (
        "half_rewrite_snr_db",
        50.0,
        "higher",
        "a stage whose weights are rounded to half precision, computed in float32: 70 dB was "
        "measured",
    ),
    (
        "opening_snr_db",
        80.0,
        "higher",
        "the first 50 ms, where no other metric sees them go wrong; 20 ms of zeros leave 32 dB",
    ),
    ("tail_snr_db", 80.0, "higher", "the last 50 ms likewise"),
    SILENT_PADDING,
)

_PIPELINE_ALWAYS: tuple[Bound, ...] = (
    (
        FLOAT32_SNR,
        30.0,
        "higher",
        "the phase of the source grows to 1e6 rad, where float32 resolves 0.06 to 0.25 rad, and "
        "the last bit of F0 decides: 32.7 dB was measured for 1,095 frames and 33.9 dB for one "
        "phoneme; upstream itself is 42 dB apart there with another number of threads",
    ),
    (
        SAME_SOURCE,
        45.0,
        "higher",
        "upstream's decoder and generator on the package's own curves, text and source: no bin "
        "flips between the two, so nothing excuses an error; 49 dB was measured with every "
        "operation of both stages rounded",
    ),
    _RATIO,
)

PIPELINE_FLOAT32: tuple[Bound, ...] = _PIPELINE_ALWAYS

PIPELINE_FLOAT16: tuple[Bound, ...] = (
    *_PIPELINE_ALWAYS,
    (
        LOSS,
        3.0,
        "lower",
        f"in cases whose float32 run has less than {FLOAT32_SOUND_DB:g} dB, where a fixed bound "
        "would judge float32 and not the package: rounding may at most double the error's power",
    ),
    (
        ROUNDING,
        0.3,
        "lower",
        "the same packages in float32, whose source is the same to the last bit: what half "
        "precision alone costs",
    ),
    (
        "length_difference_frames",
        1.0,
        "lower",
        "a duration close to a half may round either way, and then the speech is a frame longer",
    ),
)

COMPRESSED: tuple[Bound, ...] = (
    (
        "stored_duration_errors",
        0.0,
        "lower",
        "beside the network with the same weights, durations are computed in float32",
    ),
    (
        "stored_snr_db",
        28.0,
        "higher",
        "beside the network with the same weights: 30 dB is asked of float32 against upstream, and "
        "half precision may cost what it costs elsewhere",
    ),
    (
        "stored_spectral_distance_db",
        0.3,
        "lower",
        "beside the network with the same weights, as other packages beside upstream",
    ),
    (
        "suite_duration_errors_percent",
        25.0,
        "lower",
        "a frame (25 ms) more or less: 17 % was measured with palettes of 4 bits per 16 channels, "
        "whose words are all heard, 49 % with one such palette per weight, whose words are not",
    ),
    ("length_difference_percent", 10.0, "lower", "the pace; 1.5 % was measured at 45 MB"),
    (
        "log_spectral_distance_db",
        7.0,
        "lower",
        "5.9 dB was measured with palettes of 4 bits per 16 channels, 7.8 dB with one per weight",
    ),
    ("log_mel_cosine", 0.97, "higher", "0.986 was measured likewise, 0.952 with one per weight"),
    (
        "f0_error_hz",
        12.0,
        "lower",
        "9.4 Hz was measured likewise, 17.5 Hz with one per weight, both as roots of mean squares, "
        "which are above the mean that is bounded",
    ),
    ("level_difference_db", 2.0, "lower", "1.0 dB was measured likewise"),
    SILENT_PADDING,
)
"""Of packages whose weights lost something when they were compressed.

What was saved is held to PyTorch with the weights it holds (`parity.stored`), stage by stage at
the bounds of other packages, and as a whole by the first three bounds. Against upstream an SNR says
nothing: F0 is another in its last digits, with it the phase of the source, and with that the
waveform. How much may be lost is the choice of whoever asks for a size (`kokoro-coreml sizes` shows
it); the other bounds only end where words do. Where durations differ, upstream's are forced before
the audio is compared.
"""
