"""What the cases are made of: phonemes of the suites, and seeded words and numbers.

`random.Random` of a string gives the same numbers on every machine; numpy promises that of no
distribution.
"""

from __future__ import annotations

import functools
import random
import unicodedata
from collections.abc import Mapping, Sequence

import numpy as np

from kokoro_coreml.config import ModelConfig
from kokoro_coreml.parity.suite import load_suite, suite_names
from kokoro_coreml.resources import data_file

BREATHS = (".", "!", "?", "…", ";", ":", ",", "—")
"""Ends of sentences and clauses."""


def seeded(name: str) -> random.Random:
    """Random numbers of their own for every name."""
    return random.Random(f"kokoro-coreml goldens: {name}")


@functools.cache
def config() -> ModelConfig:
    """Of the 82 M checkpoint."""
    return ModelConfig.from_json(data_file("kokoro-82m.config.json").read_bytes())


@functools.cache
def suite_phonemes() -> Mapping[str, str]:
    """Phonemes of every case of the suites, by suite and id, each once."""
    found: dict[str, str] = {}
    for name in suite_names():
        for case in load_suite(name).cases:
            if case.phonemes not in found.values():
                found[f"{name}-{case.id}"] = case.phonemes
    return found


@functools.cache
def letters() -> str:
    """Phonemes of the vocabulary that neither end a word nor stand around one.

    Among them are a combining tilde and modifier letters.
    """
    return "".join(c for c in config().vocab if unicodedata.category(c)[0] in "LM")


def word(rng: random.Random, longest: int) -> str:
    """1 to `longest` random phonemes."""
    return "".join(rng.choice(letters()) for _ in range(rng.randint(1, longest)))


def sentence(rng: random.Random, words: int, *, longest: int = 9, breaths: float = 0.2) -> str:
    """Random words with ends of sentences and clauses between them.

    Args:
        rng: random numbers.
        words: their number.
        longest: phonemes of a word.
        breaths: share of the words with such an end behind them.
    """
    parts = []
    for _ in range(words):
        end = rng.choice(BREATHS) if rng.random() < breaths else ""
        parts.append(word(rng, longest) + end)
    return " ".join(parts)


def exactly(rng: random.Random, length: int) -> str:
    """A random sentence of `length` phonemes."""
    text = sentence(rng, length)[:length]
    return text if not text.endswith(" ") else f"{text[:-1]}."


def changed(rng: random.Random, text: str, pieces: Sequence[str], *, most: int) -> str:
    """A text with 1 to `most` characters taken out, or one of `pieces` put in."""
    for _ in range(rng.randint(1, most)):
        place = rng.randint(0, len(text))
        put_in = rng.random() < 0.7
        text = text[:place] + rng.choice(pieces) * put_in + text[place + (not put_in) :]
    return text


def character(rng: random.Random) -> str:
    """Any but half a surrogate pair."""
    code = rng.randrange(0x110000 - 0x800)
    return chr(code if code < 0xD800 else code + 0x800)


def samples(rng: random.Random, count: int, *, peak: float = 1.0) -> np.ndarray:
    """Random float32 [count] within -`peak` and `peak`."""
    return np.array([rng.uniform(-peak, peak) for _ in range(count)], dtype=np.float32)
