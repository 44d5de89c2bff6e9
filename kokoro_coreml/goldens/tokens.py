"""Phonemes to token ids, and token ids to a bucket."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from kokoro_coreml.goldens.arrays import integers
from kokoro_coreml.goldens.cases import Case, case, drawn, golden
from kokoro_coreml.goldens.inputs import (
    changed,
    character,
    config,
    exactly,
    letters,
    seeded,
    sentence,
    suite_phonemes,
)
from kokoro_coreml.vocabulary import Vocabulary, pad
from kokoro_coreml.voices import VOICE_COLUMNS, VOICE_ROWS, VoicePack

UNKNOWN = {
    "emoji": "\N{SPEAKING HEAD IN SILHOUETTE}",
    "emoji-joined": "\N{WOMAN}\N{ZERO WIDTH JOINER}\N{PERSONAL COMPUTER}",
    "flag": "\N{REGIONAL INDICATOR SYMBOL LETTER D}\N{REGIONAL INDICATOR SYMBOL LETTER E}",
    "capital": "E",
    "latin-g": "g",
    "precomposed": "\N{LATIN SMALL LETTER E WITH TILDE}",
    "combining-acute": "\N{COMBINING ACUTE ACCENT}",
    "line-feed": "\n",
    "tab": "\t",
    "null": "\0",
    "no-break-space": "\N{NO-BREAK SPACE}",
    "line-separator": "\N{LINE SEPARATOR}",
    "byte-order-mark": "\N{ZERO WIDTH NO-BREAK SPACE}",
    "digit": "7",
    "apostrophe": "'",
    "han": "語",
    "hangul": "각",
    "private": "\ue000",
    "noncharacter": "\uffff",
    "last": "\U0010ffff",
}
"""No phonemes of the vocabulary; some are several characters that are seen as one."""


@golden("tokenizer")
def tokenizer() -> Iterator[Case]:
    """Phonemes to ids and the voice's row."""
    rng = seeded("tokenizer")
    for name, text in suite_phonemes().items():
        yield _encoded(name, text)
    for number in range(40):
        yield _encoded(f"random-{number:02}", sentence(rng, rng.randint(1, 25)))
    for length in (1, 2, 509, 510):
        yield _encoded(f"length-{length}", exactly(rng, length))
    for name, text in _odd().items():
        yield _encoded(name, text)
    yield from _refused()


def _odd() -> dict[str, str]:
    """Within the vocabulary, but not what a tool expects of a text."""
    tilde = "\N{COMBINING TILDE}"
    return {
        "every-phoneme": "".join(config().vocab),
        "every-phoneme-backwards": "".join(list(config().vocab)[::-1]),
        "combining-tilde": f"bɔ{tilde} vɛ{tilde}",
        "combining-tilde-first": f"{tilde}a",
        "combining-tilde-alone": tilde,
        "combining-tilde-twice": f"ɑ{tilde}{tilde}",
        "tilde-on-space": f"a {tilde}b",
        "space": " ",
        "spaces": "  a  b  ",
        "quotes": '“a” "b" (c)',
        "arrows": "↓→↗↘",
        "modifiers": "aːʰʲᵊᵝ",
    }


def _refused() -> Iterator[Case]:
    rng = seeded("tokenizer refused")
    yield _encoded("empty", "", refused=["the phoneme string is empty"])
    for length in (511, 512, 600, 1_500):
        text = exactly(rng, length)
        said = [f"{length} phonemes", "at most 510"]
        yield _encoded(f"length-{length}", text, refused=said)
    for name, wrong in UNKNOWN.items():
        head, tail = sentence(rng, 2), sentence(rng, 1)
        said = [f"U+{ord(c):04X}" for c in wrong] + [f"at index {len(head)}"]
        yield _encoded(f"unknown-{name}", head + wrong + tail, refused=said)
    said = ["U+0067", "at index 0, 2", "U+0031", "at index 3, 6"]
    yield _encoded("unknown-several", "gag1ab1", refused=said)
    yield _encoded("unknown-and-too-long", "a" * 600 + "g", refused=["U+0067", "at index 600"])


@drawn("tokenizer")
def any_phonemes(rng: random.Random, name: str) -> Case:
    """A text as long as it may be and longer, often with something else in it."""
    text = exactly(rng, rng.choice((rng.randint(1, 60), rng.randint(1, 530))))
    if rng.random() < 0.4:
        others = (
            *rng.sample(list(UNKNOWN.values()), 2),
            character(rng),
            "a",
            "\N{COMBINING TILDE}",
        )
        text = changed(rng, text, others, most=3)
    return _encoded(name, text, refused=None)


def _encoded(name: str, phonemes: str, *, refused: Sequence[str] | None = ()) -> Case:
    vocabulary = Vocabulary.from_config(config())

    def compute() -> Mapping[str, Any]:
        ids = vocabulary.encode(phonemes)
        row = int(_rows().row(len(phonemes))[0, 0])
        return {"ids": ids, "voice_row": row}

    return case(name, {"phonemes": phonemes}, compute, refused=refused)


@functools.cache
def _rows() -> VoicePack:
    """A pack whose every row holds its own index, so that the row that is taken shows."""
    index = np.arange(VOICE_ROWS, dtype=np.float32)
    data = np.repeat(index[:, None], VOICE_COLUMNS, axis=1)
    return VoicePack.of("rows", data, "none", config=None)


@golden("padding")
def padding() -> Iterator[Case]:
    """Ids to a bucket, with the mask."""
    rng = seeded("padding")
    ids = Vocabulary.from_config(config()).encode
    for bucket in (32, 64, 128, 256, 512):
        for length in (1, bucket // 2, bucket - 3, bucket - 2):
            yield _padded(f"{length}-in-{bucket}", ids(exactly(rng, length)), bucket)
    for number in range(20):
        text = sentence(rng, rng.randint(1, 8))
        tokens = len(text) + 2 + rng.randint(0, 40)
        yield _padded(f"random-{number:02}", ids(text), tokens)
    for count in (33, 40, 512):
        wrong = ids("".join(rng.choice(letters()) for _ in range(min(count - 2, 510))))
        said = [f"{count} token ids", "a bucket of 32 tokens"]
        yield _padded(f"{count}-in-32", wrong, 32, refused=said)
    for short in ([], [0], [0, 0]):
        said = [f"{len(short)} token ids", "at least one phoneme"]
        yield _padded(f"only-{len(short)}-ids", short, 32, refused=said)


def _padded(name: str, ids: list[int], tokens: int, *, refused: list[str] | None = None) -> Case:
    def compute() -> Mapping[str, Any]:
        input_ids, mask = pad(ids, tokens)
        return {"input_ids": integers(input_ids), "attention_mask": integers(mask)}

    return case(name, {"ids": ids, "tokens": tokens}, compute, refused=refused or ())
