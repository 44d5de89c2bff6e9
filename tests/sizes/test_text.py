"""The table for a person, and as Markdown."""

from __future__ import annotations

from dataclasses import replace

from kokoro_coreml.sizes import markdown, render
from kokoro_coreml.sizes.text import HEAD, line
from tests.sizes.reports import report


def cells(text, name):
    """One row of the Markdown table."""
    (found,) = [one for one in text.splitlines() if one.startswith(f"| {name} |")]
    return dict(zip(HEAD, [cell.strip() for cell in found.strip("| ").split(" | ")], strict=True))


def test_every_row_has_its_numbers_and_its_verdicts():
    text = markdown(report())
    good, worse = cells(text, "exact"), cells(text, "palette4")
    assert (good["weights"], good["packages"]) == ("70.0 MB", "70.0 MB")
    assert good["SNR, dB"] == "41.0 (41.0)"
    assert good["mel cosine"] == "0.999996 (0.999996)"
    assert good["word errors"] == "0 of 5"
    told, near = HEAD[-2:]
    assert [good["same words"], good[told], good[near]] == ["yes", "yes", "yes"]
    assert [worse["same words"], worse[told], worse[near]] == ["no", "no", "no"]
    assert worse["SNR, dB"] == "26.5 (12.0)"
    assert worse["wrong durations"] == "3 (3 %)"
    assert cells(text, "none")[told] == "-"
    second = cells(text, "upstream's second run")
    assert (second["same source, dB"], second["weights"]) == ("-", "-")


def test_the_text_tells_what_failed_what_tells_and_what_was_left_out():
    text = render(report())
    assert "palette4/7: no | groups" in text
    assert "palette4: audio_snr_db in 1, word_errors in 1, duration_errors in 1" in text
    assert "case long: needs 600 tokens" in text
    assert "Words: Whisper, 1 cases." in text
    assert "Smallest that no metric tells from uncompressed: exact." in text
    assert "2 cases (one, two)" in text
    assert ["exact", *["10.0", "MB"] * 7] in [one.split() for one in text.splitlines()]
    assert all(one == one.rstrip() for one in text.splitlines())
    assert "`palette4/7` failed: no | groups" in markdown(report())


def test_an_export_of_8_bits_is_said_to_be_one():
    export = replace(report(), weights_from_8_bits=True)
    for show in (render, markdown):
        assert "8-bit export" in show(export)
        assert "8-bit export" not in show(report())


def test_without_a_recogniser_no_words_are_claimed():
    text = render(replace(report(), recogniser=None, smallest=None))
    assert "Words were not recognised." in text
    assert "uncompressed: no row" in text


def test_a_line_for_every_row_as_soon_as_it_is_there():
    rows = {row.name: row for row in report().rows}
    assert line(rows["palette4/7"]) == "palette4/7: failed: no | groups"
    assert "exact, weights 70.0 MB" in line(rows["exact"])
