"""Splitting phonemes that are too long to be said at once, where a speaker would breathe."""

from __future__ import annotations

from collections.abc import Sequence

from kokoro_coreml.errors import PhonemeError

SENTENCE_ENDS = ".!?…"
CLAUSE_ENDS = ";:,—"
BREAKS = (SENTENCE_ENDS, CLAUSE_ENDS, " ")
"""What to split behind, the best first."""


def split(phonemes: str, limit: int) -> list[str]:
    """Parts of at most `limit` phonemes, whose words together are those of the whole.

    As few breaks are made as possible, each behind the end of a sentence where there is one, else
    behind the end of a clause, else between words. A single part is returned as it was given.

    Raises:
        PhonemeError: a word alone is longer than the limit.
    """
    if len(phonemes) <= limit:
        return [phonemes]
    rest, parts = phonemes.strip(), []
    while len(rest) > limit:
        place = _last_break(rest, limit)
        parts.append(rest[:place].strip())
        rest = rest[place:].strip()
    return [*parts, rest] if rest else parts


def halves(phonemes: str) -> tuple[str, str]:
    """Two parts, broken as near to the middle as the best kind of break allows.

    Raises:
        PhonemeError: there is one word.
    """
    text = phonemes.strip()
    for ends in BREAKS:
        places = [p for p in _breaks(text, ends) if 0 < p < len(text)]
        if places:
            place = min(places, key=lambda p: abs(2 * p - len(text)))
            return text[:place].strip(), text[place:].strip()
    raise PhonemeError(f"'{text:.40}' is one word and cannot be split; say it faster")


def _last_break(text: str, limit: int) -> int:
    for ends in BREAKS:
        places = [p for p in _breaks(text, ends) if 0 < len(text[:p].strip()) <= limit]
        if places:
            return places[-1]
    raise PhonemeError(
        f"a word of more than {limit} phonemes begins with '{text:.20}'; the network takes no more "
        "at once"
    )


def _breaks(text: str, ends: str) -> Sequence[int]:
    """Places behind the characters of `ends` that a word does not go on behind."""
    return [
        place
        for place in range(1, len(text))
        if text[place - 1] in ends and (ends == " " or text[place] == " ")
    ]
