"""What is read as JSON, and what only Python would read."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kokoro_coreml.strict_json import DEEPEST, parse_json

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
    max_leaves=12,
)  # fmt: skip


def nested(depth):
    return "[" * depth + "]" * depth


@given(VALUES, st.booleans())
def test_what_json_writes_is_read(value, ascii_only):
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert parse_json(text) == parse_json(text.encode("utf-8")) == value


@given(st.text(), st.booleans())
def test_a_text_is_refused_for_a_surrogate_alone(text, ascii_only):
    whole = json.loads(json.dumps(text))  # two halves side by side are a pair
    document = json.dumps({whole: 1}, ensure_ascii=ascii_only)
    if any("\ud800" <= c <= "\udfff" for c in whole):
        with pytest.raises(ValueError, match="surrogate"):
            parse_json(document)
    else:
        assert parse_json(document) == {whole: 1}


def test_nesting_is_read_as_deep_as_it_may_be_and_no_deeper():
    assert parse_json(nested(DEEPEST))
    assert parse_json('{"a":' * DEEPEST + "1" + "}" * DEEPEST)
    assert parse_json(f"[{','.join(['[]'] * 300)}]")
    assert parse_json(json.dumps("[{" * 300))
    assert parse_json(json.dumps('"\\' + "[" * 300))
    for depth in (DEEPEST + 1, 900, 100_000):
        with pytest.raises(ValueError, match="nested deeper than 100"):
            parse_json(nested(depth))
    with pytest.raises(ValueError, match="nested deeper than 100"):
        parse_json(f'{{"a": {nested(DEEPEST)}, "a": 1}}')


@pytest.mark.parametrize(
    "text",
    [
        "NaN", "[-Infinity]", "\N{ZERO WIDTH NO-BREAK SPACE}1", b"\xef\xbb\xbf1", b'"\xff"',
        b'"\xed\xa0\x80"', "1".encode("utf-16"), "1" * 4301, '{"a": "\\ud800", "a": 1}',
    ],
)  # fmt: skip
def test_what_another_reader_refuses_is_refused(text):
    with pytest.raises(ValueError):  # noqa: PT011
        parse_json(text)
