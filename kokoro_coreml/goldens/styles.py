"""Voice packs and blends."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kokoro_coreml.goldens.arrays import floats
from kokoro_coreml.goldens.cases import Case, case, golden
from kokoro_coreml.goldens.inputs import seeded
from kokoro_coreml.voices import VOICE_COLUMNS, VOICE_ROWS, load_voice, parse_blend

MULTIPLIER = 2_654_435_761
"""Of the multiplicative hash (Knuth, The Art of Computer Programming, section 6.4)."""

FILE_BYTES = VOICE_ROWS * VOICE_COLUMNS * 4


@functools.lru_cache(maxsize=64)
def pack(seed: int) -> np.ndarray:
    """A voice that needs no file: float32 [510, 256], whose value k in row order is
    `((k + seed) * 2654435761 mod 2^32) / 2^32 - 0.5`, computed in float64 and rounded once."""
    places = np.arange(VOICE_ROWS * VOICE_COLUMNS, dtype=np.uint64) + np.uint64(seed)
    hashed = places * np.uint64(MULTIPLIER) % np.uint64(2**32)
    values = hashed.astype(np.float64) / 2.0**32 - 0.5
    return values.astype(np.float32).reshape(VOICE_ROWS, VOICE_COLUMNS)


@golden("voices")
def voices() -> Iterator[Case]:
    """The row of a pack for a number of phonemes."""
    rng = seeded("voices")
    for count in (1, 2, 3, 127, 128, 255, 256, 509, 510):
        yield _row(f"row-{count}", 0, count)
    for number in range(25):
        yield _row(f"random-{number:02}", rng.randrange(2**32), rng.randint(1, VOICE_ROWS))
    for count in (-1, 0, 511, 1_000):
        said = ["1 to 510 phonemes", f"asked for {count}"]
        yield _row(f"count-{count}", 1, count, refused=said)
    for wrong in ([0], [130_559], [5, 6, 70_000]):
        said = [f"{len(wrong)} of 130560 values", "NaN"]
        name = "-".join(map(str, wrong))
        yield _row(f"nan-at-{name}", 2, 1, nan_at=wrong, refused=said)
    sizes = (0, 1, 4, 1_024, FILE_BYTES // 2, FILE_BYTES - 4, FILE_BYTES - 1, FILE_BYTES + 1)
    for size in (*sizes, FILE_BYTES + 1_024, 2 * FILE_BYTES):
        yield _sized(size)


def _row(
    name: str,
    seed: int,
    count: int,
    *,
    nan_at: Sequence[int] = (),
    refused: Sequence[str] = (),
) -> Case:
    given: dict[str, Any] = {"seed": seed, "phoneme_count": count}
    if nan_at:
        given["nan_at"] = list(nan_at)

    def compute() -> Mapping[str, Any]:
        data = pack(seed).copy()
        data.reshape(-1)[list(nan_at)] = np.nan
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "voice.bin"
            path.write_bytes(data.astype("<f4").tobytes())
            return {"row": floats(load_voice(path).row(count))}

    return case(name, given, compute, refused=refused)


def _sized(size: int) -> Case:
    def compute() -> Mapping[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "voice.bin"
            path.write_bytes(bytes(size))
            return {"row": floats(load_voice(path).row(1))}

    said = [f"expected {FILE_BYTES} bytes", f"found {size}"]
    return case(f"file-of-{size}-bytes", {"bytes": size}, compute, refused=said)


ACCEPTED = (
    "af_heart",
    " af_heart ",
    "a+b",
    "a+b+c",
    "a*0.6+b*0.4",
    "a*3+b*1",
    " a * 0.6 + b * 0.4 ",
    "a*.5+b*5.",
    "a*1e-3+b*2E-3",
    "a*1e+3+b*1E+2",
    "a*1e3+b*1",
    "a*1e308+b*1e-15",
    "a*0.1+b*0.2+c*0.3",
    "a*0.7+b*0.1+c*0.1+d*0.1",
    "a*1e16+b*1+c*1",
    "a*4.9e-324",
    "a*007+b*1",
    "a*2",
    "A+a",
    "a-b+a_b",
    "mine.bin*0.5+folder/yours.pt*0.5",
    "v.npz:af*0.2+v.npz:am*0.8",
    "é*1+e\N{COMBINING ACUTE ACCENT}*1",
)

REFUSED: Mapping[str, tuple[str, ...]] = {
    "": ("expected a name or file at ''",),
    " ": ("expected a name or file at ' '",),
    "+": ("expected a name or file at '+'",),
    "+a": ("expected a name or file at '+a'",),
    "a+": ("expected a name or file at ''",),
    "a++b": ("expected a name or file at '+b'",),
    "a+ +b": ("expected a name or file at ' +b'",),
    "*0.5": ("expected a name or file at '*0.5'",),
    "a+*2": ("expected a name or file at '*2'",),
    "a*": ("'' is not a weight",),
    "a* +b*1": ("'' is not a weight",),
    "a*x+b*1": ("'x' is not a weight",),
    "a*0,5+b*0,5": ("'0,5' is not a weight",),
    "a*0x10+b*1": ("'0x10' is not a weight",),
    "a*1e+b*1": ("'1e' is not a weight",),
    "a*1 2+b*1": ("'1 2' is not a weight",),
    "a*½+b*1": ("'½' is not a weight",),
    "a*0": ("above 0", "found 0"),
    "a*0.0+b*1": ("above 0", "found 0.0"),
    "a*-1+b*2": ("above 0", "found -1"),
    "a*1e-400+b*1": ("above 0", "found 1e-400"),
    "a*1e400+b*1": ("above 0", "found 1e400"),
    "a*inf+b*1": ("above 0", "found inf"),
    "a*nan+b*1": ("above 0", "found nan"),
    "a*1*2": ("expected '+' at '*2'",),
    "a*1**2": ("expected '+' at '**2'",),
    "a*1+b": ("give every voice a weight",),
    "a+b*1": ("give every voice a weight",),
    "a+a": ("once",),
    "a*1+b*2+ a *3": ("once",),
    "a*1e308+b*1e308": ("too large to add up",),
    "a*1e300+b*1e-300": ("too small beside the others",),
}
"""Blends that cannot be parsed, with what the message says."""


@golden("blends")
def blends() -> Iterator[Case]:
    """The text of a blend to names and weights."""
    rng = seeded("blends")
    for number, spec in enumerate(ACCEPTED):
        yield _parsed(f"accepted-{number:02}", spec)
    for number, (spec, said) in enumerate(REFUSED.items()):
        yield _parsed(f"refused-{number:02}", spec, refused=said)
    for number in range(30):
        yield _parsed(f"random-{number:02}", _blend(rng.randint(2, 6), rng.random))


def _blend(count: int, uniform: Any) -> str:
    weights = [f"{1e-3 + uniform() * 10:.{2 + int(uniform() * 15)}g}" for _ in range(count)]
    return "+".join(f"voice_{number}*{weight}" for number, weight in enumerate(weights))


def _parsed(name: str, spec: str, *, refused: Sequence[str] = ()) -> Case:
    def compute() -> Mapping[str, Any]:
        return {"parts": [[part, weight] for part, weight in parse_blend(spec)]}

    return case(name, {"spec": spec}, compute, refused=refused)


@golden("blended_rows")
def blended_rows() -> Iterator[Case]:
    """A row of a blend of packs."""
    rng = seeded("blended rows")
    yield _mixed("alone", "voice_0", {"voice_0": 3}, 5)
    yield _mixed("alone-with-weight", "voice_0*0.3", {"voice_0": 3}, 5)
    yield _mixed("equal", "voice_0+voice_1", {"voice_0": 1, "voice_1": 2}, 510)
    for number in range(22):
        count = rng.randint(2, 4)
        seeds = {f"voice_{n}": rng.randrange(2**32) for n in range(count)}
        row = rng.randint(1, VOICE_ROWS)
        yield _mixed(f"random-{number:02}", _blend(count, rng.random), seeds, row)
    said = ["1 to 510 phonemes", "asked for 511"]
    seeds = {"voice_0": 1, "voice_1": 2}
    yield _mixed("count-511", "voice_0+voice_1", seeds, 511, refused=said)


def _mixed(
    name: str, spec: str, seeds: Mapping[str, int], count: int, *, refused: Sequence[str] = ()
) -> Case:
    def compute() -> Mapping[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            for voice, seed in seeds.items():
                (Path(folder) / f"{voice}.bin").write_bytes(pack(seed).astype("<f4").tobytes())
            return {"row": floats(load_voice(spec, search=[Path(folder)]).row(count))}

    given = {"spec": spec, "seeds": dict(seeds), "phoneme_count": count}
    return case(name, given, compute, refused=refused)
