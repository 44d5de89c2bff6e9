"""Phonemes to token ids. Upstream (`kokoro.model.KModel.forward`) drops what it does not know;
this refuses it, because a dropped phoneme is a word said wrongly.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kokoro_coreml.config import BOUNDARY_TOKENS, ModelConfig
from kokoro_coreml.errors import PhonemeError

BOUNDARY_ID = 0
"""Token in front of and behind the phonemes; also what padding is filled with."""

Int32Array = NDArray[np.int32]


@dataclass(frozen=True)
class Vocabulary:
    """The phonemes a checkpoint knows, one character each, and how many it takes at once."""

    mapping: Mapping[str, int]
    max_phonemes: int

    @classmethod
    def from_config(cls, config: ModelConfig) -> Vocabulary:
        """The vocabulary of a checkpoint's `config.json`."""
        return cls(config.vocab, config.max_phonemes)

    def encode(self, phonemes: str) -> list[int]:
        """Token ids `[0, *phonemes, 0]`: `len(phonemes) + 2` of them.

        Raises:
            PhonemeError: `phonemes` is empty, holds unknown characters (all are named, with code
                point and index), or is longer than `max_phonemes`.
        """
        self.require_known(phonemes)
        if len(phonemes) > self.max_phonemes:
            raise PhonemeError(
                f"{len(phonemes)} phonemes, but the network takes at most {self.max_phonemes}; "
                "split the text at a sentence or clause end"
            )
        return [BOUNDARY_ID, *(self.mapping[c] for c in phonemes), BOUNDARY_ID]

    def require_known(self, phonemes: str) -> None:
        """Refuse what `encode` refuses but for the length.

        Raises:
            PhonemeError: `phonemes` is empty or holds unknown characters.
        """
        if not phonemes:
            raise PhonemeError("the phoneme string is empty; expected at least one phoneme")
        unknown = _positions(phonemes, self.mapping)
        if unknown:
            named = "; ".join(_describe(c, at) for c, at in unknown.items())
            raise PhonemeError(
                f"not in the vocabulary: {named}. Remove or replace what the checkpoint's "
                "config.json does not list"
            )


def pad(ids: Sequence[int], tokens: int) -> tuple[Int32Array, Int32Array]:
    """Fill token ids up to a bucket.

    Args:
        ids: what `Vocabulary.encode` returned.
        tokens: tokens the bucket holds.

    Returns:
        `input_ids` int32 [1, tokens], padded with 0, and `attention_mask` int32 [1, tokens],
        1 at the given ids and 0 at the padding.

    Raises:
        PhonemeError: the ids are fewer than one phoneme with its boundaries, or exceed the bucket.
    """
    if len(ids) <= BOUNDARY_TOKENS:
        raise PhonemeError(
            f"{len(ids)} token ids; expected at least one phoneme between two boundary tokens"
        )
    if len(ids) > tokens:
        raise PhonemeError(
            f"{len(ids)} token ids do not fit a bucket of {tokens} tokens; use a larger bucket "
            "or split the text"
        )
    input_ids = np.full((1, tokens), BOUNDARY_ID, dtype=np.int32)
    input_ids[0, : len(ids)] = ids
    attention_mask = np.zeros((1, tokens), dtype=np.int32)
    attention_mask[0, : len(ids)] = 1
    return input_ids, attention_mask


def _positions(phonemes: str, known: Mapping[str, int]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for index, character in enumerate(phonemes):
        if character not in known:
            found.setdefault(character, []).append(index)
    return found


def _describe(character: str, at: Sequence[int]) -> str:
    name = unicodedata.name(character, "unnamed")
    return f"{character!r} (U+{ord(character):04X} {name}) at index {', '.join(map(str, at))}"
