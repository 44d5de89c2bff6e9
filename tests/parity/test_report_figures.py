"""Sound, pictures and coordinates behind `parity.html`."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
import struct
import zlib

import numpy as np
import pytest
import soundfile

from kokoro_coreml.errors import ParityError
from kokoro_coreml.parity.report import Listening, figures, graph, numbers
from kokoro_coreml.parity.report.audio import flac_uri
from kokoro_coreml.parity.report.listening import listening_view
from kokoro_coreml.parity.report.words import compare_words
from kokoro_coreml.parity.results import CAP, OperationError
from tests.support.reports import RATE, operations, perturbed, speech


def content(uri: str) -> bytes:
    return base64.b64decode(uri.partition(",")[2])


def decoded(uri: str) -> np.ndarray:
    return soundfile.read(io.BytesIO(content(uri)), dtype="int16")[0]


def pixels(picture: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Indices [height, width] and colours [N, 3] of a palette PNG, every checksum checked."""
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(picture):
        (length,) = struct.unpack(">I", picture[at : at + 4])
        kind, data = picture[at + 4 : at + 8], picture[at + 8 : at + 8 + length]
        (check,) = struct.unpack(">I", picture[at + 8 + length : at + 12 + length])
        assert check == zlib.crc32(kind + data)
        chunks[kind], at = data, at + 12 + length
    width, height = struct.unpack(">II", chunks[b"IHDR"][:8])
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, width + 1)
    assert not rows[:, 0].any(), "no row is filtered"
    return rows[:, 1:], np.frombuffer(chunks[b"PLTE"], np.uint8).reshape(-1, 3)


def heard(reference: np.ndarray, candidate: np.ndarray) -> Listening:
    return Listening("case", np.float32(reference), np.float32(candidate), RATE)


def test_reference_and_candidate_are_kept_to_the_last_of_16_bits():
    audio = speech(0.5, 1)
    view = listening_view(heard(audio, perturbed(audio, 40.0, 2)))
    assert np.array_equal(decoded(view.sides[0].audio), np.rint(audio * 32768.0).astype(np.int16))


def test_the_difference_player_plays_the_difference_times_the_stated_factor():
    audio = speech(0.5, 1)
    pair = heard(audio, perturbed(audio, 40.0, 2))
    side = listening_view(pair).sides[2]
    assert f"amplified {pair.gain:,} times" in side.note
    expected = (pair.candidate.astype(float) - pair.reference) * pair.gain
    assert np.max(np.abs(decoded(side.audio) / 32768.0 - expected)) <= 0.5 / 256 + 1e-9


@pytest.mark.parametrize("distance", [15.0, 40.0, 80.0])
def test_the_amplified_difference_is_about_as_loud_as_the_speech_and_never_clips(distance):
    audio = speech(1.0, 3)
    pair = heard(audio, perturbed(audio, distance, 4))
    amplified = pair.difference * pair.gain
    assert np.max(np.abs(amplified)) <= 0.9
    assert str(pair.gain).rstrip("0") in ("1", "2", "5")
    loudness = np.sqrt(np.mean(amplified**2) / np.mean(audio**2))
    assert 0.2 < loudness <= 1.0


def test_equal_audio_has_nothing_to_hear_in_its_difference():
    side = listening_view(heard(speech(0.2, 1), speech(0.2, 1))).sides[2]
    assert side.audio is None
    assert "every sample is equal" in side.note


def test_nan_and_infinity_are_silent_and_counted_and_full_scale_is_clipped():
    audio = np.array([0.5, np.nan, np.inf, -np.inf, 3.0, -3.0])
    assert decoded(flac_uri(audio, RATE)).tolist() == [16384, 0, 0, 0, 32767, -32768]
    view = listening_view(heard(np.zeros(6), audio))
    assert view.sides[1].problem == "3 samples NaN or infinite"
    assert view.sides[2].problem == "3 samples NaN or infinite"
    assert view.sides[0].problem is None


@pytest.mark.parametrize(("cut", "word"), [(240, "shorter"), (-240, "longer")])
def test_unequal_lengths_are_said_and_the_missing_part_is_difference(cut, word):
    audio = speech(0.5, 1)
    short, long = audio[: -abs(cut)], audio
    pair = heard(long, short) if cut > 0 else heard(short, long)
    assert "240 samples (10.0 ms)" in listening_view(pair).lengths
    assert word in listening_view(pair).lengths
    assert pair.difference.size == audio.size
    assert np.allclose(np.abs(pair.difference[-240:]), np.abs(audio[-240:]))
    assert not pair.difference[:-240].any()


@pytest.mark.parametrize("sizes", [(0, 0), (1, 0), (0, 1000), (1, 1)])
def test_audio_of_no_or_one_sample_is_shown_all_the_same(sizes):
    view = listening_view(heard(*(np.full(n, 0.25) for n in sizes)))
    assert [side.audio is not None for side in view.sides[:2]] == [n > 0 for n in sizes]


@pytest.mark.parametrize(("shape", "rate"), [((2, 5), RATE), ((), RATE), ((5,), 0), ((5,), -1)])
def test_a_listening_of_the_wrong_form_is_refused(shape, rate):
    with pytest.raises(ParityError, match="case 'case'"):
        Listening("case", np.zeros(shape, np.float32), np.zeros(5, np.float32), rate)


def test_a_tone_lights_the_row_of_its_frequency():
    tone = 0.5 * np.sin(2 * np.pi * 3000.0 * np.arange(RATE) / RATE)
    spectra = figures.power(tone)
    shown, colours = pixels(content(figures.spectrogram_uri(spectra, loudest=spectra.max())))
    assert shown.shape == (figures.ROWS, spectra.shape[1])
    assert np.array_equal(colours, figures.palette())
    row = figures.ROWS - 1 - int(3000.0 / 12_000.0 * figures.ROWS)
    assert abs(int(np.argmax(shown.mean(axis=1))) - row) <= 1
    assert shown[row - 20].max() < shown[row].max() - 10


def test_colours_of_all_three_spectrograms_are_relative_to_the_reference():
    audio = speech(1.0, 1)
    view = listening_view(heard(audio, 0.01 * audio))
    reference, candidate = (pixels(content(s.spectrogram))[0].astype(int) for s in view.sides[:2])
    step = figures.RANGE_DB / (figures.LEVELS - 1)
    visible = candidate > 0
    assert np.mean((reference - candidate)[visible]) == pytest.approx(40.0 / step, abs=0.3)


def test_long_audio_is_pooled_to_the_width_of_the_picture():
    spectra = figures.power(speech(6.0, 1))
    assert spectra.shape[1] > figures.COLUMNS
    shown, _ = pixels(content(figures.spectrogram_uri(spectra, loudest=spectra.max())))
    assert shown.shape == (figures.ROWS, figures.COLUMNS)


def test_the_colour_map_grows_lighter_in_even_steps():
    srgb = figures.palette() / 255.0
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    lightness = np.cbrt(luminance)
    assert np.all(np.diff(lightness) > 0.005)
    assert luminance[0] < 0.01
    assert luminance[-1] > 0.8


def test_a_png_of_any_size_holds_its_pixels():
    image = np.random.default_rng(0).integers(0, figures.LEVELS, (7, 13)).astype(np.uint8)
    assert np.array_equal(pixels(figures.png(image, figures.palette()))[0], image)


def outline(svg):
    path = re.search(r'class="env" d="M([^"]+)Z"', svg)[1]
    return [tuple(map(float, point.split())) for point in path.split("L")]


def test_a_waveform_reaches_its_extremes_where_they_are_and_marks_nan():
    audio = np.zeros(4000)
    audio[2000], audio[3000] = 1.0, -0.5
    audio[1000] = np.nan
    svg = figures.waveform_svg(audio, total=4000, peak=1.0, description="d")
    assert min(y for x, y in outline(svg) if x == 200) == 1.0
    assert max(y for x, y in outline(svg) if x == 300) == 74.5
    assert re.search(r'class="bad" d="([^"]*)"', svg)[1] == "M100 0v100"


def test_a_shorter_signal_ends_where_it_ends():
    svg = figures.waveform_svg(np.ones(500), total=1000, peak=1.0, description="d")
    assert max(x for x, _ in outline(svg)) == 199


def dots(mark):
    """x, y of the upper and y of the lower dot."""
    x, y, step = re.fullmatch(r"M([\d.]+) ([\d.]+)h0m0 ([\d.]+)h0", mark.path).groups()
    return float(x), float(y), float(y) + float(step)


def operation(position, declared="fp16[1]", snr=70.0, local=74.0, module="a.b (C)"):
    return OperationError(position, "conv", f"op_{position}", module, declared, snr, local)


def test_the_line_of_one_rounding_is_what_rounding_to_half_precision_costs():
    values = 2.0 ** np.random.default_rng(0).uniform(-4, 4, 2_000_000)
    error = values - values.astype(np.float16).astype(np.float64)
    measured = 10 * np.log10(np.sum(values**2) / np.sum(error**2))
    assert measured == pytest.approx(graph.HALF_ROUNDING_DB, abs=0.1)


@pytest.mark.parametrize(
    ("declared", "kind", "limit"),
    [
        ("fp16[1, 2]", "half", graph.HALF_DROP_DB),
        ("float16[1]", "half", graph.HALF_DROP_DB),
        ("fp32[1]", "full", graph.FULL_DROP_DB),
        ("int32[1]", "other", graph.FULL_DROP_DB),
    ],
)
def test_an_operation_is_marked_below_the_limit_of_its_declared_type(declared, kind, limit):
    good, bad = operation(0, declared, local=limit), operation(1, declared, local=limit - 0.1)
    assert graph.kind(good) == kind
    assert graph.drops([good, bad]) == [bad]


def test_levels_passed_at_one_operation_are_told_together():
    steps = [operation(0, snr=CAP), operation(1, snr=70.0), operation(2, snr=45.0)]
    told = [(m.levels_db, m.operation.position) for m in graph.milestones(steps)]
    assert told == [((120.0, 100.0, 80.0), 1), ((60.0, 50.0), 2)]


def test_the_worst_operations_come_first_and_equal_ones_not_at_all():
    found = graph.chart(
        [operation(0, snr=CAP, local=CAP), operation(1, local=60), operation(2, local=50)]
    )
    assert [o.position for o in found.worst] == [2, 1]
    assert (found.equal_count, found.count) == (1, 3)
    assert len(found.marks) == 2


def test_dots_stand_at_their_position_and_decibels():
    found = graph.chart([operation(0, snr=160.0, local=0.0), operation(10, snr=80.0, local=-CAP)])
    (x0, far0, alone0), (x1, far1, alone1) = map(dots, found.marks)
    bottom = graph.PANEL_TOPS[1] + graph.PANEL_HEIGHT
    assert x0 < x1
    assert far0 == graph.PANEL_TOPS[0] < far1
    assert alone0 < alone1 == pytest.approx(bottom, abs=0.1)


def test_parts_of_the_network_are_found_below_what_all_paths_share():
    shared = [
        operation(i, module=f"net.{'encoder' if i < 50 else 'decoder'}.{i} (X)") for i in range(100)
    ]
    assert [b.name for b in graph.chart(shared).bands] == ["encoder", "decoder"]
    unknown = [dataclasses.replace(o, module=None) for o in shared]
    assert graph.chart(unknown).bands == ()


@pytest.mark.parametrize("count", [1, 2, 300])
def test_a_chart_of_any_length_stays_inside_its_frame(count):
    found = graph.chart(operations(count))
    for mark in found.marks:
        x, upper, lower = dots(mark)
        assert graph.LEFT <= x <= graph.WIDTH - graph.RIGHT
        assert graph.PANEL_TOPS[0] <= upper <= graph.PANEL_TOPS[0] + graph.PANEL_HEIGHT
        assert graph.PANEL_TOPS[1] <= lower <= graph.PANEL_TOPS[1] + graph.PANEL_HEIGHT + 0.1


def test_words_are_compared_without_case_and_punctuation():
    assert not compare_words("It came, back.", "it came back").differ
    words = compare_words("we sold 36 kites", "we sold sixty kites here")
    assert [(p.text, p.differs) for p in words.reference] == [
        ("we sold", False),
        ("36", True),
        ("kites", False),
    ]
    assert [p.text for p in words.candidate if p.differs] == ["sixty", "here"]


@pytest.mark.parametrize(("left", "right"), [("", ""), ("one two", ""), ("", "one")])
def test_silence_on_a_side_is_a_difference_unless_on_both(left, right):
    assert compare_words(left, right).differ == (left != right)


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("audio_snr_db", 43.21, "43.2 dB"),
        ("audio_snr_db", CAP, "∞"),
        ("audio_snr_db", -CAP, "NaN or −∞"),
        ("log_spectral_distance_db", 0.163, "0.16 dB"),
        ("log_spectral_distance_db", CAP, "NaN or ∞"),
        ("opening_error_db", -CAP, "−∞"),
        ("duration_errors", 4.0, "4"),
        ("length_difference_samples", CAP, "NaN or ≥ 999 samples"),
        ("length_difference_samples", 2400.0, "2400 samples"),
        ("log_mel_cosine", 0.9999964, "0.999996"),
        ("log_mel_cosine", 1.0, "1"),
    ],
)
def test_amounts_are_written_with_unit_and_without_hiding_a_difference(metric, value, text):
    assert numbers.amount(metric, value) == text


def test_a_failed_value_does_not_look_equal_to_its_bound():
    assert numbers.amount("audio_snr_db", 34.96, "higher", precise=True) == "34.96 dB"
