"""Configurations whose vocabulary is right, and ones whose is not."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kokoro_coreml.config import ModelConfig
from kokoro_coreml.goldens.cases import Case, case, drawn, golden
from kokoro_coreml.goldens.inputs import character, config, seeded
from kokoro_coreml.goldens.manifest_drawn import anything, broken
from kokoro_coreml.strict_json import DEEPEST

PHONEMES: Mapping[str, Any] = {".": 4, " ": 16, "a": 43, "ɔ": 76, "\N{COMBINING TILDE}": 17}
"""A vocabulary to change; `n_token` is 178."""


@golden("vocabularies")
def vocabularies() -> Iterator[Case]:
    """The text of a `config.json` to its vocabulary; all but the vocabulary is always right."""
    rng = seeded("vocabularies")
    every = list(config().vocab.items())
    yield _read("as-it-is", _text(config().vocab))
    for number in range(16):
        some = rng.sample(every, rng.randint(1, 12))
        yield _read(f"random-{number:02}", _text(dict(some)))
    for name, text in _valid().items():
        yield _read(name, text)
    for name, (text, said) in _wrong().items():
        yield _read(f"refused-{name}", text, refused=said)


def _text(vocab: object, **others: object) -> str:
    raw = {key: value for key, value in config().raw.items() if key != "vocab"}
    return json.dumps(raw | {"vocab": vocab} | others, ensure_ascii=False, separators=(",", ":"))


def _valid() -> dict[str, str]:
    decomposed = "e\N{COMBINING TILDE}"
    plain = _text(PHONEMES)
    return {
        "one-phoneme": _text({"a": 1}),
        "id-0": _text({"a": 0}),
        "highest-id": _text({"a": 177}),
        "one-id-twice": _text({"a": 5, "b": 5}),
        "emoji": _text({"\N{SPEAKING HEAD IN SILHOUETTE}": 5}),
        "key-never-met": _text({decomposed: 5, "a": 6}),
        "normal-forms": _text({"\N{LATIN SMALL LETTER E WITH TILDE}": 5, decomposed: 6}),
        "unknown-keys": _text(PHONEMES, surplus={"vocab": None}),
        "key-twice-right-last": plain.replace('"vocab":', '"vocab":7,"vocab":'),
        "pair": _text({}).replace("{}", '{"\\ud83d\\udde3":5}'),
        "as-deep-as-may-be": _text(PHONEMES, surplus=None).replace(
            '"surplus":null', f'"surplus":{"[" * (DEEPEST - 1)}{"]" * (DEEPEST - 1)}'
        ),
        "escapes": json.dumps(json.loads(plain)),
    }


def _wrong() -> dict[str, tuple[str, Sequence[str]]]:
    plain, section = _text(PHONEMES), "expected an object under 'vocab'"
    found: dict[str, tuple[str, Sequence[str]]] = {
        "missing": (plain.replace('"vocab"', '"vocabulary"'), [section]),
        "empty": (_text({}), ["'vocab' must map phonemes to ids"]),
        "beyond-n-token": (_text({"a": 178}), ["vocab holds id 178", "n_token is 178"]),
        "far-beyond": (_text({"a": 2**70}), [f"vocab holds id {2**70}", "n_token is 178"]),
        "beyond-int32": (
            _text({"a": 2**31}, n_token=2**62),
            [f"vocab holds id {2**31}", f"n_token is {2**62}"],
        ),
        "n-token-beyond-int64": (_text({"a": 1}, n_token=2**63), ["n_token must be a whole"]),
        "fewer-n-token": (_text({"a": 43}, n_token=43), ["vocab holds id 43", "n_token is 43"]),
    }
    for name, value in (("list", ["a"]), ("null", None), ("text", "abc"), ("number", 3)):
        found[name] = (_text(value), [section])
    for name, wrong in (
        ("negative", -1),
        ("whole-float", 5.0),
        ("float", 5.5),
        ("true", True),
        ("text", "5"),
        ("null", None),
        ("list", [5]),
    ):
        said = ["'vocab' must map phonemes to ids >= 0", "'ɔ'"]
        found[f"id-{name}"] = (_text({**PHONEMES, "ɔ": wrong}), said)
    for name, text in (
        ("no-json", plain[:-1]),
        ("no-json-empty", ""),
        ("no-json-comma", plain[:-1] + ",}"),
        ("no-json-nan", _text(PHONEMES, surplus=float("nan"))),
        ("no-json-byte-order-mark", "\N{ZERO WIDTH NO-BREAK SPACE}" + plain),
        ("no-json-too-deep", plain[:-1] + f',"surplus":{"[" * DEEPEST}{"]" * DEEPEST}}}'),
        ("no-json-half-a-pair", plain.replace('"ɔ"', '"\\ud800"')),
        ("no-json-half-a-pair-elsewhere", plain[:-1] + ',"surplus":"\\udfff"}'),
    ):
        found[name] = (text, ["not valid JSON"])
    return found | {"no-table": ("[]", ["expected a JSON object"])}


@drawn("vocabularies")
def any_vocabulary(rng: random.Random, name: str) -> Case:
    """A configuration whose vocabulary is right, or wrong in one place or as a text."""
    some: dict[str, Any] = dict(rng.sample(list(config().vocab.items()), rng.randint(1, 8)))
    if rng.random() < 0.5:
        some[character(rng)] = rng.choice((0, 177, 178, rng.randint(-2, 200)))
    ids = (5.0, True, None, "5", -1, 2**31 - 1, 2**31, 10**20, [1], 0)
    if rng.random() < 0.3:
        some[rng.choice(list(some))] = rng.choice(ids)
    sizes = (178, 178, 178, 179, rng.randint(1, 178), 2**31, 2**32, 2**63 - 1, 2**63, 178.0, "178")
    section = {"vocab": some if rng.random() < 0.9 else anything(rng), "n_token": rng.choice(sizes)}
    section |= {"surplus": anything(rng)} if rng.random() < 0.5 else {}
    text = json.dumps(section, ensure_ascii=rng.random() < 0.5)[1:]
    if rng.random() < 0.2:
        text = broken(rng, text)
    return _read(name, _text(None)[:-1].replace(',"vocab":null', "") + "," + text, refused=None)


def _read(name: str, text: str, *, refused: Sequence[str] | None = ()) -> Case:
    def compute() -> Mapping[str, Any]:
        return {"vocab": dict(ModelConfig.from_json(text).vocab)}

    return case(name, {"json": text}, compute, refused=refused)
