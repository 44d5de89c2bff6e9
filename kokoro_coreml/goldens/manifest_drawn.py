"""Manifests that are changed at a random place, and texts that are broken at one."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from kokoro_coreml.goldens.inputs import changed
from kokoro_coreml.goldens.manifest_example import DIGEST
from kokoro_coreml.goldens.manifest_random import random_manifest
from kokoro_coreml.strict_json import DEEPEST

_NUMBERS = (0, 1, -1, 2, 510, 2**31 - 1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 10**400)
_FLOATS = (0.0, -0.0, 1.0, 0.5, 24_000.0, 5e-324, 1.7976931348623157e308, 1e300)
_TEXTS = (
    "", "x", "a/b", "../a", "a/..", "/a", "a//b", ".", "...", "a:b", "a\\b", "a\nb", "é",
    "e\N{COMBINING ACUTE ACCENT}", "float16", "int64", "passed", "not run", "ALL", "manifest.json",
    "config.json", DIGEST, DIGEST.upper(), "0" * 63,
)  # fmt: skip
_BREAKS = (*'{}[],:"\\.-e0', "\0", "\t", "\N{NO-BREAK SPACE}", "null", "NaN", "1e999", "\\ud800",
           "\\u0041", '"x":1,', ",1", "é")  # fmt: skip


def any_text(rng: random.Random) -> str:
    """The text of a manifest that is valid, or changed in a place or two, or broken as a text.

    Args:
        rng: random numbers; equal ones give equal texts.
    """
    raw = random_manifest(rng).to_dict()
    for _ in range(rng.choice((0, 1, 1, 1, 2))):
        _change(rng, raw)
    text = json.dumps(raw, ensure_ascii=rng.random() < 0.5)
    return broken(rng, text) if rng.random() < 0.12 else text


def anything(rng: random.Random) -> Any:
    """A JSON value of any type, now and then as deep as may be or deeper."""
    if rng.random() < 0.03:
        deep: Any = rng.choice((1, "x", {}))
        for _ in range(rng.randint(DEEPEST - 6, DEEPEST + 2)):
            deep = [deep] if rng.random() < 0.5 else {"a": deep}
        return deep
    plain = (None, True, False, rng.choice(_NUMBERS), rng.choice(_FLOATS), rng.choice(_TEXTS))
    tables: tuple[Any, ...] = (
        [],
        {},
        [rng.choice(_TEXTS)],
        {rng.choice(_TEXTS): rng.choice(_NUMBERS)},
    )
    return rng.choice((*plain, *tables))


def broken(rng: random.Random, text: str) -> str:
    """A text cut off, or with a few characters put in or taken out."""
    if rng.random() < 0.1:
        return text[: rng.randrange(len(text))]
    return changed(rng, text, _BREAKS, most=2)


def _change(rng: random.Random, raw: Any) -> None:
    """Something happens to one value of a table or a list."""
    holder, key = rng.choice(list(_places(raw)))
    change = rng.choice((_like, _like, _like, _like, _replace, _drop, _add))
    change(rng, holder, key)


def _places(raw: Any) -> Iterator[tuple[Any, Any]]:
    items = raw.items() if isinstance(raw, dict) else enumerate(raw)
    for key, value in items:
        yield raw, key
        if isinstance(value, dict | list):
            yield from _places(value)


def _like(rng: random.Random, holder: Any, key: Any) -> None:
    """Another value of the same type."""
    value = holder[key]
    kinds: Mapping[type, Callable[[], Any]] = {
        str: lambda: rng.choice((*_TEXTS, f"{value}x", value.swapcase(), "x", "y")),
        int: lambda: rng.choice((*_NUMBERS, value + 1, value - 1, 1, 7, 64)),
        float: lambda: rng.choice(_FLOATS),
        bool: lambda: not value,
        list: lambda: rng.sample(value, rng.randint(min(len(value), 1), len(value))),
        dict: lambda: dict(rng.sample(list(value.items()), len(value))),
        type(None): lambda: rng.choice(_TEXTS),
    }
    holder[key] = kinds[type(value)]()


def _replace(rng: random.Random, holder: Any, key: Any) -> None:
    holder[key] = anything(rng)


def _drop(rng: random.Random, holder: Any, key: Any) -> None:
    del holder[key]


def _add(rng: random.Random, holder: Any, key: Any) -> None:
    """A key more, or the item once more."""
    if isinstance(holder, dict):
        holder[rng.choice(_TEXTS)] = copy.deepcopy(rng.choice((holder[key], anything(rng))))
    else:
        holder.insert(rng.randint(0, len(holder)), copy.deepcopy(holder[key]))
