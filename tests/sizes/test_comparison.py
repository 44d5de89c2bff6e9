"""When a metric tells a row from another, and what is said of all cases together."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kokoro_coreml.sizes.comparison import compare, quality_of, same_words, smallest
from kokoro_coreml.sizes.results import CaseQuality
from kokoro_coreml.sizes.tolerances import METRICS, TOLERANCES, VARIATION
from tests.sizes.reports import GOOD, SAID, SECOND_RUN, case, row

values = st.floats(-1e3, 1e3).map(lambda x: round(x, 3))
metrics = st.fixed_dictionaries({name: st.none() | values for name in METRICS})
several = st.lists(metrics, min_size=1, max_size=4).map(
    lambda found: [CaseQuality(f"case-{i}", one, None, ()) for i, one in enumerate(found)]
)


def moved(one, metric, by):
    return replace(one, metrics=dict(one.metrics) | {metric: one.metrics[metric] + by})


@given(several)
def test_nothing_tells_a_row_from_itself(cases):
    assert compare(cases, cases, TOLERANCES).holds


@given(several, st.data())
def test_a_metric_is_told_exactly_beyond_its_slack_and_only_on_its_worse_side(cases, data):
    which = data.draw(st.integers(0, len(cases) - 1))
    tolerance = data.draw(st.sampled_from(TOLERANCES))
    if cases[which].metrics[tolerance.metric] is None:
        return
    by = data.draw(st.floats(1e-6, 100.0))
    worse = -1.0 if tolerance.better == "higher" else 1.0
    near = tolerance.slack * 0.999
    for step, told in (
        (worse * (tolerance.slack + by), True),
        (worse * near, False),
        (-worse * by, False),
    ):
        changed = [*cases]
        changed[which] = moved(cases[which], tolerance.metric, step)
        found = compare(changed, cases, TOLERANCES)
        assert found.holds is not told
        where = {(one.metric, one.case) for one in found.worse}
        assert where == ({(tolerance.metric, cases[which].case)} if told else set())


@given(several, several)
def test_what_the_base_lacks_is_not_compared_and_what_the_row_lacks_is_worse(cases, base):
    due = {(o.case, m) for o in base for m in METRICS if o.metrics[m] is not None}
    have = {(o.case, m) for o in cases for m in METRICS if o.metrics[m] is not None}
    found = {(one.case, one.metric) for one in compare(cases, base, TOLERANCES).worse}
    assert due - have <= found <= due


def test_a_case_that_could_not_be_said_tells():
    found = compare([case("one")], [case("one"), case("two")], TOLERANCES)
    assert {one.case for one in found.worse} == {"two"}
    assert all(one.value is None for one in found.worse)


def test_upstreams_second_run_has_no_source_to_compare():
    assert compare([case("one", same_source_snr_db=-5.0)], SECOND_RUN[:1], VARIATION).holds
    near = compare([case("one", audio_snr_db=19.0)], SECOND_RUN[:1], VARIATION)
    assert [one.metric for one in near.worse] == ["audio_snr_db"]


def test_all_cases_together():
    cases = [
        case("one", duration_errors=3.0, audio_snr_db=10.0, word_errors=2.0),
        case("two", duration_errors=2.0, audio_snr_db=40.0, f0_error_hz=None),
    ]
    found = quality_of(cases, SAID)
    assert (found.tokens, found.duration_errors, found.duration_errors_percent) == (100, 5, 5.0)
    assert (found.words, found.word_errors) == (5, 2)
    assert vars(found.spreads["audio_snr_db"]) == {"median": 25.0, "worst": 10.0}
    assert vars(found.spreads["log_spectral_distance_db"]) == {"median": 0.2, "worst": 0.2}
    assert vars(found.spreads["f0_error_hz"]) == {"median": 0.02, "worst": 0.02}
    assert not same_words(cases)


def test_without_any_measurement_nothing_is_claimed():
    blank = [CaseQuality("one", dict.fromkeys(METRICS), None, ("not said",))]
    found = quality_of(blank, SAID)
    assert (found.tokens, found.duration_errors_percent) == (0, None)
    assert (found.words, found.word_errors) == (0, None)
    assert found.spreads == {}
    assert same_words(blank) is None


@given(st.lists(st.tuples(st.integers(1, 9), st.booleans()), max_size=6), st.integers(1, 9))
def test_the_smallest_is_the_smallest_that_nothing_tells(others, own):
    base = [case("one")]
    rows = [row("none", own, base)]
    for i, (size, good) in enumerate(others):
        cases = base if good else [case("one", duration_errors=1.0)]
        rows.append(row(f"palette{i}", size, cases, base))
    name = smallest(rows, "none")
    sizes = {one.name: one.sizes.package_bytes for one in rows}
    allowed = {"none"} | {f"palette{i}" for i, (_, good) in enumerate(others) if good}
    assert name in allowed
    assert sizes[name] == min(sizes[one] for one in allowed)


def test_without_the_uncompressed_row_there_is_no_smallest():
    assert smallest([row("int8", 5, [case("one")])], "none") is None


@pytest.mark.parametrize("tolerances", [TOLERANCES, VARIATION])
def test_every_tolerance_has_a_reason_and_a_metric_that_is_measured(tolerances):
    assert all(one.reason and one.metric in GOOD for one in tolerances)
    assert len({one.metric for one in tolerances}) == len(tolerances)
