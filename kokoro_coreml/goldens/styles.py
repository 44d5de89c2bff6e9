"""Voice packs and blends."""

from __future__ import annotations

import dataclasses
import functools
import random
import struct
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kokoro_coreml.config import BOUNDARY_TOKENS, ModelConfig
from kokoro_coreml.goldens.arrays import floats, raw
from kokoro_coreml.goldens.cases import Case, case, drawn, golden
from kokoro_coreml.goldens.inputs import changed, config, seeded
from kokoro_coreml.voices import VOICE_COLUMNS, VOICE_ROWS, load_voice, parse_blend

MULTIPLIER = 2_654_435_761
"""Of the multiplicative hash (Knuth, The Art of Computer Programming, section 6.4)."""

FILE_BYTES = VOICE_ROWS * VOICE_COLUMNS * 4


Shape = tuple[int, int]
"""Rows and columns of a pack."""

STANDARD: Shape = (VOICE_ROWS, VOICE_COLUMNS)

_SPECIAL = (0x7F80_0000, 0xFF80_0000, 0x7FC0_0000, 0x7F80_0001, 0xFFFF_FFFF)
_UNUSUAL = (0x8000_0000, 0x0000_0001, 0x007F_FFFF, 0x7F7F_FFFF, 0xFF7F_FFFF)


@functools.lru_cache(maxsize=64)
def pack(seed: int, shape: Shape = STANDARD) -> np.ndarray:
    """A voice that needs no file: float32 of a shape, whose value k in row order is
    `((k + seed) * 2654435761 mod 2^32) / 2^32 - 0.5`, computed in float64 and rounded once."""
    places = np.arange(shape[0] * shape[1], dtype=np.uint64) + np.uint64(seed)
    hashed = places * np.uint64(MULTIPLIER) % np.uint64(2**32)
    values = hashed.astype(np.float64) / 2.0**32 - 0.5
    return values.astype(np.float32).reshape(shape)


def _config(shape: Shape) -> ModelConfig:
    """Of a network whose packs have the shape."""
    albert = dataclasses.replace(
        config().plbert, max_position_embeddings=shape[0] + BOUNDARY_TOKENS
    )
    return dataclasses.replace(config(), plbert=albert, style_dim=shape[1] // 2)


def _shape(rng: random.Random, *, standard: float) -> Shape:
    """Small, but for a share of packs as the 82 M checkpoint has them."""
    if rng.random() < standard:
        return STANDARD
    return rng.randint(1, 40), 2 * rng.randint(1, 8)


def _given(shape: Shape) -> dict[str, int]:
    return {} if shape == STANDARD else {"rows": shape[0], "columns": shape[1]}


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


@drawn("voices")
def any_row(rng: random.Random, name: str) -> Case:
    """A row that a pack has, or has not, or a pack with NaN in it."""
    shape = _shape(rng, standard=0.04)
    seed = rng.randrange(4 if shape == STANDARD else 2**32)
    count = rng.choice((rng.randint(1, shape[0]), rng.randint(-2, shape[0] + 3)))
    wrong = rng.sample(range(shape[0] * shape[1]), rng.randint(1, 2)) * (rng.random() < 0.15)
    return _row(name, seed, count, nan_at=wrong, shape=shape, refused=None)


def _row(
    name: str,
    seed: int,
    count: int,
    *,
    nan_at: Sequence[int] = (),
    shape: Shape = STANDARD,
    refused: Sequence[str] | None = (),
) -> Case:
    given: dict[str, Any] = {"seed": seed, "phoneme_count": count, **_given(shape)}
    if nan_at:
        given["nan_at"] = list(nan_at)

    def compute() -> Mapping[str, Any]:
        data = pack(seed, shape).copy()
        data.reshape(-1)[list(nan_at)] = np.nan
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "voice.bin"
            path.write_bytes(data.astype("<f4").tobytes())
            return {"row": floats(load_voice(path, config=_config(shape)).row(count))}

    return case(name, given, compute, refused=refused)


def _sized(size: int) -> Case:
    def compute() -> Mapping[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "voice.bin"
            path.write_bytes(bytes(size))
            return {"row": floats(load_voice(path).row(1))}

    said = [f"expected {FILE_BYTES} bytes", f"found {size}"]
    return case(f"file-of-{size}-bytes", {"bytes": size}, compute, refused=said)


@golden("voice_files")
def voice_files() -> Iterator[Case]:
    """The bytes of a file to the values of its pack."""
    rng = seeded("voice files")
    for shape in ((1, 2), (3, 4), (5, 8)):
        data = pack(7, shape).astype("<f4").tobytes()
        name = f"{shape[0]}x{shape[1]}"
        yield _file(name, data, shape)
        for size in (0, 1, len(data) - 4, len(data) - 1, len(data) + 1, 2 * len(data)):
            said = [f"expected {len(data)} bytes", f"found {size}"]
            yield _file(f"{name}-of-{size}-bytes", (2 * data)[:size], shape, refused=said)
    for place, word in enumerate(_SPECIAL):
        data = _with(pack(9, (2, 4)).astype("<f4").tobytes(), place, word)
        said = ["1 of 8 values", "NaN or infinite"]
        yield _file(f"refused-{word:08x}", data, (2, 4), refused=said)
    for place, word in enumerate(_UNUSUAL):
        data = _with(pack(9, (2, 4)).astype("<f4").tobytes(), place, word)
        yield _file(f"unusual-{word:08x}", data, (2, 4))
    for number in range(10):
        bits = [rng.getrandbits(32) & 0xFF7F_FFFF for _ in range(8)]
        yield _file(f"bits-{number}", struct.pack("<8I", *bits), (4, 2))


@drawn("voice_files")
def any_file(rng: random.Random, name: str) -> Case:
    """A file of any bytes, some of them changed, of one size or a little another."""
    shape = _shape(rng, standard=0.0)
    size = shape[0] * shape[1] * 4
    data = (
        rng.randbytes(size) if rng.random() < 0.1 else pack(rng.randrange(2**32), shape).tobytes()
    )
    for _ in range(rng.choice((0, 0, 1, 3))):
        word = rng.choice((*_SPECIAL, *_UNUSUAL * 3, *[rng.getrandbits(32)] * 9))
        data = _with(data, rng.randrange(size // 4), word)
    if rng.random() < 0.15:
        data = (data + rng.randbytes(9))[: max(0, size + rng.choice((-4, -1, 1, 4, -size, 8)))]
    return _file(name, data, shape, refused=None)


def _with(data: bytes, place: int, word: int) -> bytes:
    """A file with another 32-bit word."""
    return data[: 4 * place] + struct.pack("<I", word) + data[4 * place + 4 :]


def _file(name: str, data: bytes, shape: Shape, *, refused: Sequence[str] | None = ()) -> Case:
    def compute() -> Mapping[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "voice.bin"
            path.write_bytes(data)
            return {"values": floats(load_voice(path, config=_config(shape)).data)}

    given = {"rows": shape[0], "columns": shape[1], "file": raw(data)}
    return case(name, given, compute, refused=refused)


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
    "a*\x1c2+b*1",
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


_NAMES = ("a", "b", "af_heart", "é", "e\N{COMBINING ACUTE ACCENT}", "x/y.pt", "v.npz:m", " a ")
_WEIGHTS = ("1", "0.5", ".5", "5.", "1e-3", "2E+2", "1_0", "٣", "1e308", "1e-308", "0", "inf", " 2")
_PIECES = (*"+*.eE_- x0", "+", "*", "½", "٣", "\n", "\x1c", "\N{NO-BREAK SPACE}", "nan", "1e")


@drawn("blends")
def any_blend(rng: random.Random, name: str) -> Case:
    """A text that is nearly a blend, or one."""
    if rng.random() < 0.3:
        spec = _blend(rng.randint(2, 6), rng.random)
    else:
        weighted = rng.random() < 0.7
        parts = rng.sample(_NAMES, rng.randint(1, 4))
        spec = "+".join(part + f"*{rng.choice(_WEIGHTS)}" * weighted for part in parts)
    if rng.random() < 0.5:
        spec = changed(rng, spec, _PIECES, most=3)
    return _parsed(name, spec, refused=None)


def _parsed(name: str, spec: str, *, refused: Sequence[str] | None = ()) -> Case:
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


@drawn("blended_rows")
def any_mix(rng: random.Random, name: str) -> Case:
    """A row of a blend that there may not be."""
    shape = _shape(rng, standard=0.01)
    count = rng.randint(1, 5)
    seeds = {f"voice_{n}": rng.randrange(4 if shape == STANDARD else 2**32) for n in range(count)}
    spec = _blend(count, rng.random) if rng.random() < 0.8 else "+".join(seeds)
    row = rng.choice((rng.randint(1, shape[0]), rng.randint(0, shape[0] + 2)))
    return _mixed(name, spec, seeds, row, shape=shape, refused=None)


def _mixed(
    name: str,
    spec: str,
    seeds: Mapping[str, int],
    count: int,
    *,
    shape: Shape = STANDARD,
    refused: Sequence[str] | None = (),
) -> Case:
    def compute() -> Mapping[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            for voice, seed in seeds.items():
                data = pack(seed, shape).astype("<f4").tobytes()
                (Path(folder) / f"{voice}.bin").write_bytes(data)
            mixed = load_voice(spec, config=_config(shape), search=[Path(folder)])
            return {"row": floats(mixed.row(count))}

    given = {"spec": spec, "seeds": dict(seeds), "phoneme_count": count, **_given(shape)}
    return case(name, given, compute, refused=refused)
