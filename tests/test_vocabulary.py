from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kokoro_coreml.config import ModelConfig
from kokoro_coreml.errors import PhonemeError
from kokoro_coreml.resources import data_file
from kokoro_coreml.vocabulary import Vocabulary, pad

CONFIG = ModelConfig.from_json(data_file("kokoro-82m.config.json").read_bytes())
VOCABULARY = Vocabulary.from_config(CONFIG)
KNOWN = "".join(CONFIG.vocab)


def test_ids_stand_between_two_zero_tokens():
    ids = VOCABULARY.encode("jˈɛs.")
    assert ids == [0, *(CONFIG.vocab[c] for c in "jˈɛs."), 0]


@given(st.text(alphabet=KNOWN, min_size=1, max_size=510))
def test_every_phoneme_becomes_one_id_and_can_be_read_back(phonemes):
    ids = VOCABULARY.encode(phonemes)
    names = {v: k for k, v in CONFIG.vocab.items()}
    assert ids[0] == ids[-1] == 0
    assert "".join(names[i] for i in ids[1:-1]) == phonemes


@given(st.text(alphabet=KNOWN, max_size=20), st.characters(), st.text(alphabet=KNOWN, max_size=20))
def test_an_unknown_phoneme_is_never_dropped(before, character, after):
    if character in CONFIG.vocab:
        assert len(VOCABULARY.encode(before + character + after)) == len(before + after) + 3
        return
    with pytest.raises(PhonemeError) as caught:
        VOCABULARY.encode(before + character + after)
    assert f"U+{ord(character):04X}" in str(caught.value)
    assert f"index {len(before)}" in str(caught.value)


def test_all_unknown_phonemes_are_named_with_code_point_and_index():
    with pytest.raises(PhonemeError) as caught:
        VOCABULARY.encode("a¿b7c¿")
    message = str(caught.value)
    assert "'¿' (U+00BF INVERTED QUESTION MARK) at index 1, 5" in message
    assert "'7' (U+0037 DIGIT SEVEN) at index 3" in message


def test_the_empty_string_is_refused():
    with pytest.raises(PhonemeError, match="empty"):
        VOCABULARY.encode("")


def test_510_phonemes_are_taken_and_511_refused_with_count_and_limit():
    assert len(VOCABULARY.encode("a" * 510)) == 512
    with pytest.raises(PhonemeError, match=r"511 phonemes.*at most 510"):
        VOCABULARY.encode("a" * 511)


@given(st.integers(3, 40), st.integers(0, 40))
def test_padding_is_zero_and_masked(length, extra):
    ids = [0, *range(1, length - 1), 0]
    input_ids, mask = pad(ids, length + extra)
    assert input_ids.shape == mask.shape == (1, length + extra)
    assert input_ids.dtype == mask.dtype == np.int32
    assert input_ids[0, :length].tolist() == ids
    assert not input_ids[0, length:].any()
    assert mask[0].tolist() == [1] * length + [0] * extra


def test_a_bucket_overflow_is_an_error_with_both_numbers():
    pad([0] + [1] * 126 + [0], 128)
    with pytest.raises(PhonemeError, match="129 token ids do not fit a bucket of 128"):
        pad([0] + [1] * 127 + [0], 128)


@pytest.mark.parametrize("ids", [[], [0], [0, 0]])
def test_ids_without_a_phoneme_are_refused(ids):
    with pytest.raises(PhonemeError, match="at least one phoneme"):
        pad(ids, 128)
