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

PIPELINE_REWRITE: tuple[Bound, ...] = (
    (
        "module_snr_db",
        90.0,
        "higher",
        "fed the same inputs, a stage makes the same sums in another order, in rows of time whose "
        "halo was measured to leave 91.9 dB in the generator",
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
        "length_difference_frames",
        1.0,
        "lower",
        "a duration close to a half may round either way, and then the speech is a frame longer",
    ),
)

COMPRESSED: tuple[Bound, ...] = (
    (
        "suite_duration_errors_percent",
        10.0,
        "lower",
        "a token in ten may be a frame (25 ms) longer or shorter: 5.5 % was measured at 45 MB, 49 "
        "with one palette of 4 bits per weight, whose words are others",
    ),
    ("length_difference_percent", 3.0, "lower", "the pace; 1.5 % was measured at 45 MB"),
    (
        "log_spectral_distance_db",
        6.0,
        "lower",
        "4.4 dB was measured at 45 MB, 7.8 dB with one palette of 4 bits per weight; two runs of "
        "upstream lie 1.07 to 1.88 dB apart",
    ),
    ("log_mel_cosine", 0.99, "higher", "0.996 was measured with palettes of 6 bits, 0.952 with 4"),
    ("f0_error_hz", 5.0, "lower", "2.3 Hz was measured with palettes of 6 bits, 17.5 Hz with 4"),
    ("level_difference_db", 1.0, "lower", "what is just heard; 0.5 dB was measured at 45 MB"),
    ("opening_error_db", -50.0, "lower", "no click where nothing is said yet"),
    ("tail_error_db", -50.0, "lower", "as the opening"),
    SILENT_PADDING,
)
"""Against upstream, of packages whose weights lost something when they were compressed.

How much may be lost is the choice of whoever asks for a size; `kokoro-coreml sizes` shows it beside
upstream's own two runs. These bounds only tell speech that lost precision from speech that is
wrong. An SNR would say nothing: F0 is another in its last digits, with it the phase of the source,
and with that the waveform. Where durations differ, upstream's are forced before the audio is
compared. What was saved is still held to PyTorch sample by sample, with the weights it holds
(`parity.stored`), and the words to those heard in upstream's speech.
"""
