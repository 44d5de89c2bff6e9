"""Manifests that are valid, and manifests that must be refused."""

from __future__ import annotations

import json
import math
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kokoro_coreml.goldens.cases import Case, case, drawn, golden
from kokoro_coreml.goldens.inputs import seeded
from kokoro_coreml.goldens.manifest_drawn import any_text
from kokoro_coreml.goldens.manifest_example import example
from kokoro_coreml.goldens.manifest_mutations import (
    FUNCTION,
    PACKAGE,
    RECORD,
    compact,
    edited,
    mutations,
    replaced,
)
from kokoro_coreml.goldens.manifest_random import random_manifest
from kokoro_coreml.manifest import MANIFEST_NAME, Manifest, read_manifest
from kokoro_coreml.strict_json import DEEPEST

RANDOM = 40
"""Random valid manifests."""


@golden("manifests")
def manifests() -> Iterator[Case]:
    """The text of a manifest to whether it is valid."""
    for name, text in _valid().items():
        yield _read(name, text)
    rng = seeded("manifests")
    for number in range(RANDOM):
        raw = random_manifest(rng).to_dict()
        yield _read(f"random-{number:02}", json.dumps(raw, ensure_ascii=number % 2 == 0))
    for mutation in mutations():
        yield _read(mutation.id, mutation.text, refused=mutation.said)
    for name, text in _no_json().items():
        yield _read(f"no-json-{name}", text, refused=["not valid JSON"])
    for name, text in (("list", "[]"), ("text", '"manifest"'), ("number", "1"), ("null", "null")):
        yield _read(f"no-table-{name}", text, refused=["must be a table"])
    yield _read("empty-table", "{}", refused=["the top level lacks the key 'schema_version'"])


LARGEST_EXACT = 2**53
"""Of the whole numbers that float64 holds all."""


@drawn("manifests")
def any_manifest(rng: random.Random, name: str) -> Case:
    """A manifest that is valid, or wrong somewhere, and what was read of it."""
    text = any_text(rng)
    given = {"json": text, "read": True}

    def compute() -> Mapping[str, Any]:
        return {"valid": True, "read": _plain(_manifest(text).to_dict())}

    return case(name, given, compute, refused=None)


def _read(name: str, text: str, *, refused: Sequence[str] = ()) -> Case:
    def compute() -> Mapping[str, Any]:
        _manifest(text)
        return {"valid": True}

    return case(name, {"json": text}, compute, refused=refused)


def _manifest(text: str) -> Manifest:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / MANIFEST_NAME).write_bytes(text.encode("utf-8"))
        return read_manifest(Path(folder))


def _plain(value: Any) -> Any:
    """With numbers that float64 does not hold as texts."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    is_large = isinstance(value, int) and abs(value) > LARGEST_EXACT
    is_infinite = isinstance(value, float) and not math.isfinite(value)
    return str(value) if is_large or is_infinite else value


def _valid() -> dict[str, str]:
    """Unusual, but right."""
    plain = compact(example().to_dict())
    changes: Mapping[str, tuple[tuple[str | int, ...], object]] = {
        "no-sample": (("sample",), None),
        "no-voices": (("voices",), []),
        "no-tools": (("tools",), {}),
        "no-legs": (("parity", "legs"), []),
        "scalar-tensor": ((*FUNCTION, "inputs", 0, "shape"), []),
        "revision": (("checkpoint", "revision"), "f3ff357"),
        "whole-speed": (("sample", "speed"), 1),
        "large-speed": (("sample", "speed"), 10**300),
        "negative-speed": (("sample", "speed"), -0.0),
        "largest-seed": (("noise", "seed"), 2**63 - 1),
        "largest-size": (("max_phonemes",), 2**31 - 1),
        "empty-stage": ((*PACKAGE, "stage"), ""),
        "unknown-cut": ((*PACKAGE, "cut"), "another"),
        "content-as-deep-as-may-be": (("recipe", "content", "a"), _deep(DEEPEST - 3)),
        "content-of-any-type": (("recipe", "content"), {"a": [None, {"b": 10**30}], "": 1.5}),
        "empty-file": (("files", "config.json", "bytes"), 0),
    }
    named = {name: replaced(path, value) for name, (path, value) in changes.items()}
    return {
        "example": plain,
        "as-it-is-written": example().to_json(),
        "detail-left-out": edited(lambda leg: leg.pop("detail"), ("parity", "legs", 0)),
        "longest-first": edited(lambda buckets: buckets.reverse(), ("buckets",)),
        "keys-backwards": compact(dict(reversed(example().to_dict().items()))),
        "white-space": f"\r\n\t {plain.replace(',', ' ,')} \n",
        "escapes": plain.replace("config.json", "\\u0063onfig.json").replace("/", "\\/"),
        "exponent": plain.replace('"speed":1.0', '"speed":10.0e-1'),
        "key-twice-right-last": plain.replace('"noise":', '"noise":7,"noise":'),
        **named,
        **_listed(),
    }


def _listed() -> dict[str, str]:
    """Names and paths that a bundle may have."""
    acute = "\N{COMBINING ACUTE ACCENT}"
    paths = ("...", ".hidden", "a b", "a..b/..c/d..", "e" + acute, "é", "语/\x7f", f"a/{acute}b")

    def more(raw: Any) -> None:
        raw["files"] |= dict.fromkeys(paths, RECORD)

    def normal_forms(raw: Any) -> None:
        for name in ("é", "e" + acute):
            raw["voices"].append(raw["voices"][0] | {"name": name})

    def behind_a_slash(raw: Any) -> None:
        files = raw["files"]
        files[f"Tail.mlpackage/{acute}x"] = files.pop("Tail.mlpackage/Manifest.json")

    changes: Mapping[str, Callable[[Any], None]] = {
        "unusual-paths": more,
        "names-in-two-normal-forms": normal_forms,
        "combining-mark-behind-a-slash": behind_a_slash,
    }
    return {name: edited(change) for name, change in changes.items()}


def _no_json() -> dict[str, str]:
    plain = compact(example().to_dict())
    return {
        "empty": "",
        "white-space": " \n",
        "cut-off": plain[:-1],
        "cut-in-half": plain[: len(plain) // 2],
        "followed": plain + "{}",
        "comma-last": plain[:-1] + ",}",
        "comma-first": "{," + plain[1:],
        "comment": plain[:-1] + "/* */}",
        "single-quotes": "{'schema_version': 1}",
        "bare-key": "{schema_version: 1}",
        "byte-order-mark": "\N{ZERO WIDTH NO-BREAK SPACE}" + plain,
        "nan": plain.replace('"speed":1.0', '"speed":NaN'),
        "infinity": plain.replace('"speed":1.0', '"speed":-Infinity'),
        "leading-zero": plain.replace("24000", "024000"),
        "plus": plain.replace("24000", "+24000"),
        "hexadecimal": plain.replace("24000", "0x5dc0"),
        "point-last": plain.replace('"speed":1.0', '"speed":1.'),
        "point-first": plain.replace('"speed":1.0', '"speed":.5'),
        "exponent-empty": plain.replace('"speed":1.0', '"speed":1e'),
        "line-feed-in-text": plain.replace("Hello world", "Hello\nworld"),
        "unknown-escape": plain.replace("Hello world", "Hello\\x20world"),
        "short-escape": plain.replace("Hello world", "Hello\\u20"),
        "no-break-space": plain[:-1] + "\N{NO-BREAK SPACE}}",
        "python-constants": plain.replace("null", "None"),
        "brackets": "[" * 3_000,
        "too-deep": replaced(("recipe", "content", "a"), _deep(DEEPEST - 2)),
        "too-deep-and-replaced": plain.replace(
            '"noise":', f'"noise":{compact(_deep(DEEPEST))},"noise":'
        ),
        **_halves(plain),
    }


def _deep(depth: int) -> list[Any]:
    """Empty lists in one another."""
    return [_deep(depth - 1)] if depth > 1 else []


def _halves(plain: str) -> dict[str, str]:
    """Surrogates alone; a reader that makes U+FFFD of them takes two names for one."""
    voices = edited(lambda raw: raw["voices"].append(raw["voices"][0] | {"name": "y"}))
    names = voices.replace('"af_heart","file"', '"\\ud800","file"').replace('"y"', '"\\ud801"')
    return {
        "half-a-pair-first": plain.replace("Hello world", "Hello \\ud83d world"),
        "half-a-pair-second": plain.replace("Hello world", "Hello \\udde3"),
        "halves-exchanged": plain.replace("Hello world", "\\udde3\\ud83d"),
        "half-a-pair-in-a-name": plain.replace('"torch"', '"\\udfff"'),
        "half-a-pair-in-two-names": names,
        "half-a-pair-replaced": plain.replace('"noise":', '"noise":"\\ud800","noise":'),
    }
