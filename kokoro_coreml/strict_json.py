"""JSON as every reader of a bundle takes it, also one whose strings are Unicode alone."""

from __future__ import annotations

import json
import re
from typing import Any

DEEPEST = 100
"""Lists and tables may be this deep in one another; the Swift package reads no deeper."""

_STRINGS_AND_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]')
_HALF_A_PAIR = re.compile("[\ud800-\udfff]")


def parse_json(text: str | bytes) -> Any:
    """Read a whole document. Of a key that stands twice in a table the last value counts.

    Args:
        text: as bytes it is UTF-8 without a byte order mark.

    Raises:
        ValueError: it is no JSON or not UTF-8, holds NaN or infinity, is nested deeper than
            `DEEPEST`, or has half a surrogate pair in a text, which is no character.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8")
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise _too_deep() from error
    _check(text)
    return value


def _check(text: str) -> None:
    """Of every part of a document, also of values that do not count."""
    depth = 0
    for match in _STRINGS_AND_BRACKETS.finditer(text):
        found = match.group()
        if found[0] in "[{":
            depth += 1
            if depth > DEEPEST:
                raise _too_deep()
        elif found[0] in "]}":
            depth -= 1
        elif _HALF_A_PAIR.search(json.loads(found) if "\\u" in found else found):
            raise ValueError(f"half a surrogate pair at character {match.start()}")


def _too_deep() -> ValueError:
    return ValueError(f"nested deeper than {DEEPEST}")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")
