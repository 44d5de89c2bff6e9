"""What speech recognition heard on both sides, and where the two part."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Piece:
    """Consecutive words that both sides share, or that this side has alone."""

    text: str
    differs: bool


@dataclass(frozen=True)
class Words:
    """Both transcripts in pieces."""

    reference: tuple[Piece, ...]
    candidate: tuple[Piece, ...]

    @property
    def differ(self) -> bool:
        """Whether any word was heard on one side alone."""
        return any(piece.differs for piece in (*self.reference, *self.candidate))


def compare_words(reference: str, candidate: str) -> Words:
    """Align two transcripts word by word; case and punctuation are not heard, so not compared."""
    ours, theirs = reference.split(), candidate.split()
    matcher = difflib.SequenceMatcher(
        a=[_spoken(w) for w in ours], b=[_spoken(w) for w in theirs], autojunk=False
    )
    left, right = [], []
    for tag, a0, a1, b0, b1 in matcher.get_opcodes():
        differs = tag != "equal"
        if a1 > a0:
            left.append(Piece(" ".join(ours[a0:a1]), differs))
        if b1 > b0:
            right.append(Piece(" ".join(theirs[b0:b1]), differs))
    return Words(tuple(left), tuple(right))


def _spoken(word: str) -> str:
    return re.sub(r"[\W_]+", "", word.casefold()) or word
