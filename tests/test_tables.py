"""A schema says the same in whatever order its classes were made."""

from __future__ import annotations

import json
import math
from dataclasses import make_dataclass
from typing import Annotated

import pytest

from kokoro_coreml.errors import BundleError
from kokoro_coreml.tables import Limits, decode, json_schema


def test_a_whole_limit_is_written_alike_however_it_was_given() -> None:
    for low in (0, 0.0, 2, 2.0):
        kind = make_dataclass("Kind", [("value", Annotated[float, Limits(minimum=low)])])
        text = json.dumps(json_schema(kind))
        assert f'"minimum": {int(low)}}}' in text
    half = make_dataclass("Half", [("value", Annotated[float, Limits(minimum=0.5)])])
    assert '"minimum": 0.5' in json.dumps(json_schema(half))


@pytest.mark.parametrize("value", [10**400, -(10**400), math.inf, math.nan])
def test_a_number_beyond_any_float_is_refused_and_named(value: float) -> None:
    kind = make_dataclass("Kind", [("value", float)], frozen=True)
    with pytest.raises(BundleError, match="x: 'value' must be a finite number, found"):
        decode(kind, {"value": value}, document="x", error=BundleError)
    assert decode(kind, {"value": 10**300}, document="x", error=BundleError) == kind(1e300)
