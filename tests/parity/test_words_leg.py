"""The leg `words`: what counts as an error of the package, and what the report says of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kokoro_coreml.parity.judge import Judge
from kokoro_coreml.parity.packages import Heard, recognise, words_leg
from kokoro_coreml.parity.recognition import Comparison
from kokoro_coreml.parity.results import Threshold

TORN = "'in' for '' in 2 of 5 of upstream's own hearings"


def said(*, asked: bool = True) -> Any:
    reference = SimpleNamespace(audio=np.zeros(3))
    trial = SimpleNamespace(case=SimpleNamespace(recognise=asked), reference=reference)
    return SimpleNamespace(trial=trial, spoken=SimpleNamespace(audio=np.ones(3)))


def recognised(comparison: Comparison) -> Heard:
    found = recognise(SimpleNamespace(compare=lambda *_: comparison), said())  # type: ignore[arg-type]
    assert found is not None
    return found


def leg(**heard: Heard) -> Any:
    bound = Threshold("word_errors", "words", 0.0, "lower", "test")
    return words_leg(Judge([bound]), heard, 1.0)


def test_a_place_that_upstream_settles_is_no_error_but_is_told() -> None:
    upstream, saved = ["the", "boat"], ["in", "the", "boat"]
    found = recognised(Comparison(upstream, saved, upstream, (TORN,), voted=True))
    assert (found.reference, found.candidate, found.errors) == ("the boat", "in the boat", 0)
    result = leg(one=found)
    assert result.verdict == "passed"
    assert f"no error: one ({TORN})" in result.detail
    assert "majority of five hearings: one" in result.detail


def test_an_error_beside_it_still_counts() -> None:
    upstream, saved = ["the", "boat"], ["in", "the", "goat"]
    found = recognised(Comparison(upstream, saved, ["the", "goat"], (TORN,), voted=True))
    assert found.errors == 1
    result = leg(one=found)
    assert result.verdict == "failed"
    assert TORN in result.detail


def test_words_that_agree_have_no_detail() -> None:
    found = recognised(Comparison(["boat"], ["boat"], ["boat"], (), voted=False))
    result = leg(one=found)
    assert (result.verdict, result.detail) == ("passed", None)


def test_a_case_in_which_upstream_is_not_heard_proves_nothing() -> None:
    result = leg(one=recognised(Comparison([], [], [], (), voted=False)))
    assert result.verdict == "failed"
    assert "no word was recognised in upstream's audio of one" in (result.detail or "")


@pytest.mark.parametrize("silent", [True, False])
def test_cases_that_nobody_can_hear_are_left_out(silent: bool) -> None:
    one = said(asked=silent)
    if silent:
        one.spoken = None
    assert recognise(SimpleNamespace(), one) is None  # type: ignore[arg-type]
