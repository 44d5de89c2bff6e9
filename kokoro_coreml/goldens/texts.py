"""Where a text is split."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kokoro_coreml.goldens.cases import Case, case, drawn, golden
from kokoro_coreml.goldens.inputs import (
    BREATHS,
    changed,
    exactly,
    seeded,
    sentence,
    suite_phonemes,
    word,
)
from kokoro_coreml.synthesis.splitting import halves, split

LONGEST_WORD = 12
"""Phonemes of the random words: the smallest limit that they can be split at."""

_TILDE = "\N{COMBINING TILDE}"

ODD = {
    "sentences": "a b. c d! e f? g h… i",
    "clauses": "a b; c d: e f, g h— i",
    "dashes-between-spaces": "a — b — c — d",
    "end-within-word": "a.b c.d e.f g.h",
    "ellipsis-of-periods": "ab... cd... ef... gh",
    "end-before-quote": "“ab.” “cd.” “ef.” gh",
    "ends-in-a-row": "ab?! cd!? ef?? gh",
    "end-last": "abc def ghi.",
    "spaces": "  ab   cd   ef   gh  ",
    "space-before-end": "ab . cd . ef . gh",
    "combining": f"bɔ{_TILDE}. vɛ{_TILDE}, dɑ{_TILDE} blɑ{_TILDE}",
    "combining-on-end": f"ab.{_TILDE} cd. ef,{_TILDE} gh",
    "combining-on-space": f"abc {_TILDE}def ghi",
    "joined-emoji": "ab \N{WOMAN}\N{ZERO WIDTH JOINER}\N{PERSONAL COMPUTER} cd. ef gh",
    "flags": "\N{REGIONAL INDICATOR SYMBOL LETTER D}\N{REGIONAL INDICATOR SYMBOL LETTER E} ab cd",
    "line-feeds": "ab.\ncd. \nef\n gh ij",
    "carriage-return": "ab.\r\n cd. ef\r\n gh",
    "no-break-spaces": "\N{NO-BREAK SPACE}ab \N{NO-BREAK SPACE}cd\N{NO-BREAK SPACE} ef gh",
    "ideographic-spaces": "\N{IDEOGRAPHIC SPACE}ab \N{IDEOGRAPHIC SPACE}cd ef gh",
    "information-separators": "\x1cab \x1d cd \x1e ef \x1f gh",
    "zero-width-spaces": "\N{ZERO WIDTH SPACE} ab \N{ZERO WIDTH SPACE}cd ef gh",
}
"""Splittable at 8 phonemes and more."""


@golden("splitting")
def splitting() -> Iterator[Case]:
    """A text to parts of at most so many phonemes."""
    rng = seeded("splitting")
    for number, (name, text) in enumerate(suite_phonemes().items()):
        longest = max(len(part) for part in text.split(" "))
        for limit in sorted({max(longest, (20, 30, 45)[number % 3]), 126}):
            yield _split(f"{name}-at-{limit}", text, limit)
    for number in range(50):
        breaths = (0.0, 0.05, 0.2, 0.6)[number % 4]
        text = sentence(rng, rng.randint(2, 50), longest=LONGEST_WORD - 1, breaths=breaths)
        yield _split(f"random-{number:02}", text, rng.randint(LONGEST_WORD, 60))
    for limit in (30, 62, 126, 254, 510):
        for length in (limit, limit + 1, 3 * limit):
            yield _split(f"length-{length}-at-{limit}", exactly(rng, length), limit)
    for end in (*BREATHS, ""):
        text = " ".join(word(rng, 6) + end for _ in range(24))
        yield _split(f"every-word-with-U+{ord(end):04X}" if end else "no-breath", text, 40)
    for name, text in ODD.items():
        for limit in (8, 12, 40):
            yield _split(f"{name}-at-{limit}", text, limit)
    yield _split("empty", "", 10)
    yield _split("only-spaces", " " * 12, 10)
    yield _split("long-clause", " ".join(["abcd"] * 400) + ". efgh.", 510)
    yield from _unsplittable()


def _unsplittable() -> Iterator[Case]:
    for name, text, limit in (
        ("one-word", "a" * 11, 10),
        ("second-word", "abc " + "d" * 11, 10),
        ("behind-a-sentence", "abc. " + "ɔ" * 30 + " d", 20),
        ("no-break-at-all", "ɑ" * 511, 510),
        ("ends-without-spaces", "ab.cd,ef;gh", 10),
        ("combining-counts", f"a{_TILDE}" * 6, 11),
    ):
        long = max(text.split(" "), key=len)
        said = [f"more than {limit} phonemes", f"'{long[:20]}"]
        yield _split(f"refused-{name}", text, limit, refused=said)


def _any_text(rng: random.Random, words: int) -> str:
    breaths = rng.choice((0.0, 0.05, 0.2, 0.6))
    text = sentence(rng, rng.randint(1, words), longest=LONGEST_WORD - 1, breaths=breaths)
    pieces = (*BREATHS, " ", "  ", _TILDE, "\n", "\u2003", "\x1f", rng.choice(list(ODD.values())))
    return changed(rng, text, pieces, most=5) if rng.random() < 0.6 else text


@drawn("splitting")
def any_split(rng: random.Random, name: str) -> Case:
    """A text with anything in it, at a limit that its words may exceed."""
    limit = rng.choice((rng.randint(1, 16), rng.randint(12, 80)))
    return _split(name, _any_text(rng, 50), limit, refused=None)


@drawn("halves")
def any_two(rng: random.Random, name: str) -> Case:
    """A text with anything in it, often of few words."""
    return _halved(name, _any_text(rng, rng.choice((2, 2, 30))), refused=None)


def _split(name: str, text: str, limit: int, *, refused: Sequence[str] | None = ()) -> Case:
    given = {"phonemes": text, "limit": limit}
    return case(name, given, lambda: {"parts": split(text, limit)}, refused=refused)


@golden("halves")
def two() -> Iterator[Case]:
    """A text to two."""
    rng = seeded("halves")
    for name, text in suite_phonemes().items():
        if " " in text:
            yield _halved(name, text)
    for number in range(25):
        breaths = (0.0, 0.05, 0.3)[number % 3]
        text = sentence(rng, rng.randint(2, 30), breaths=breaths)
        yield _halved(f"random-{number:02}", text)
    for name, text in ODD.items():
        yield _halved(name, text)
    yield _halved("two-equally-near", "ab cd ef gh")
    yield _halved("end-far-from-the-middle", "ab. " + " ".join(["cd"] * 30))
    for name, text in (
        ("one-word", "ɐbˈʌv"),
        ("one-long-word", "ˈʌ" * 60),
        ("between-spaces", "  ab  "),
        ("ends-without-spaces", "ab.cd,ef"),
        ("empty", ""),
    ):
        said = [f"'{text.strip():.40}' is one word"]
        yield _halved(f"refused-{name}", text, refused=said)


def _halved(name: str, text: str, *, refused: Sequence[str] | None = ()) -> Case:
    def compute() -> Mapping[str, Any]:
        left, right = halves(text)
        return {"left": left, "right": right}

    return case(name, {"phonemes": text}, compute, refused=refused)
