"""A schema says the same in whatever order its classes were made."""

from __future__ import annotations

import json
from dataclasses import make_dataclass
from typing import Annotated

from kokoro_coreml.tables import Limits, json_schema


def test_a_whole_limit_is_written_alike_however_it_was_given() -> None:
    for low in (0, 0.0, 2, 2.0):
        kind = make_dataclass("Kind", [("value", Annotated[float, Limits(minimum=low)])])
        text = json.dumps(json_schema(kind))
        assert f'"minimum": {int(low)}}}' in text
    half = make_dataclass("Half", [("value", Annotated[float, Limits(minimum=0.5)])])
    assert '"minimum": 0.5' in json.dumps(json_schema(half))
