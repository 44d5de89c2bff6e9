"""Schemes have one text form each; anything else is refused."""

from __future__ import annotations

import pytest

from kokoro_coreml.compression.scheme import Scheme
from kokoro_coreml.errors import RecipeError


@pytest.mark.parametrize(
    ("text", "scheme"),
    [
        ("int8", Scheme("int8")),
        ("palette8", Scheme("palette", 8)),
        ("palette6", Scheme("palette", 6)),
        ("palette3", Scheme("palette", 3)),
        ("palette4/16", Scheme("palette", 4, 16)),
    ],
)
def test_text_form_reads_back(text: str, scheme: Scheme) -> None:
    assert Scheme.parse(text) == scheme
    assert str(scheme) == text


@pytest.mark.parametrize(
    "text",
    ["", "int4", "int8/16", "palette", "palette5", "palette16", "palette4/0", "palette4/", " int8"],
)
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(RecipeError):
        Scheme.parse(text)


def test_obstacles_are_told() -> None:
    grouped, three = Scheme.parse("palette4/16"), Scheme.parse("palette3")
    assert grouped.obstacle((32, 5), axis=0) is None
    assert "no multiple of 16" in str(grouped.obstacle((32, 5), axis=1))
    assert "iOS 18" in str(grouped.obstacle((32, 5), axis=0, opset="iOS17"))
    assert "iOS 18" in str(three.obstacle((32, 5), axis=0, opset="iOS17"))
    assert Scheme("int8").obstacle((32, 5), axis=0, opset="iOS17") is None
