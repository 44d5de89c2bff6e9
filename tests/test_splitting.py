"""Texts that are too long are split where one would breathe, and no word is lost."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kokoro_coreml.errors import PhonemeError
from kokoro_coreml.synthesis.splitting import CLAUSE_ENDS, SENTENCE_ENDS, halves, split

WORDS = st.text("abˈɔɪ", min_size=1, max_size=8)
ENDS = st.sampled_from(["", "", "", *SENTENCE_ENDS, *CLAUSE_ENDS])
TEXTS = st.lists(st.builds(str.__add__, WORDS, ENDS), min_size=1, max_size=40).map(" ".join)


@given(TEXTS, st.integers(9, 60))
def test_no_part_is_too_long_and_no_word_is_lost(text, limit):
    parts = split(text, limit)
    assert all(0 < len(part) <= limit for part in parts)
    assert " ".join(parts).split() == text.split()


@given(TEXTS, st.integers(9, 60))
def test_a_part_ends_within_a_sentence_only_if_the_sentence_does_not_fit(text, limit):
    parts = split(text, limit)
    for part, following in pairwise(parts):
        if part[-1] not in SENTENCE_ENDS:
            assert not any(f"{end} " in f"{part} " for end in SENTENCE_ENDS)
        if part[-1] not in SENTENCE_ENDS + CLAUSE_ENDS:
            assert not any(f"{end} " in f"{part} " for end in CLAUSE_ENDS)
        assert len(part) + 1 + len(following.split()[0]) > limit or part[-1] in (
            SENTENCE_ENDS + CLAUSE_ENDS
        )


def test_a_text_that_fits_is_left_as_it_is():
    assert split(" ab, cd. ", 9) == [" ab, cd. "]


def test_sentences_come_before_clauses_and_clauses_before_words():
    assert split("aa bb. cc, dd ee", 12) == ["aa bb.", "cc, dd ee"]
    assert split("aa bb, cc dd ee", 12) == ["aa bb,", "cc dd ee"]
    assert split("aa bb cc dd ee", 12) == ["aa bb cc dd", "ee"]


def test_a_decimal_point_is_no_sentence_end():
    assert split("a.b c.d e.f", 8) == ["a.b c.d", "e.f"]


def test_a_word_longer_than_everything_is_named():
    with pytest.raises(PhonemeError, match=r"more than 8 phonemes begins with 'abcdefghij'"):
        split("ab abcdefghij", 8)


@given(TEXTS)
def test_halves_lose_no_word(text):
    if " " not in text:
        with pytest.raises(PhonemeError, match="one word"):
            halves(text)
        return
    first, second = halves(text)
    assert first
    assert second
    assert f"{first} {second}".split() == text.split()


def test_halves_break_at_the_sentence_end_nearest_the_middle():
    assert halves("a. bbbb bbbb bbbb. cc, cc") == ("a. bbbb bbbb bbbb.", "cc, cc")
