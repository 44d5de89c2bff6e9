"""Voice packs: style vectors by length of the phoneme string, read from any format, and blends.

A pack is upstream's `voices/NAME.pt`: [510, 1, 256] float32, where row `len(phonemes) - 1` is the
style of an utterance (`kokoro.pipeline.KPipeline.infer`); its first half is timbre for the
decoder, its second half prosody for the predictor.
"""

from __future__ import annotations

import hashlib
import math
import re
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file

from kokoro_coreml.checkpoint import hub as model_hub
from kokoro_coreml.checkpoint.files import MALFORMED
from kokoro_coreml.config import ModelConfig
from kokoro_coreml.errors import CheckpointError, NetworkError, VoiceError
from kokoro_coreml.progress import SILENT, Reporter

Array = NDArray[Any]

VOICE_ROWS = 510
"""Rows of a pack where no configuration says otherwise: one per possible number of phonemes."""

VOICE_COLUMNS = 256
"""Columns where no configuration says otherwise: `style_dim` each for timbre and prosody."""

SHIPPED_LICENSE = "Apache-2.0"
UNKNOWN_LICENSE = "unknown"

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_TERM = re.compile(r"(?P<spec>[^*+]+)(?:\*(?P<weight>[^*+]*[eE]\+\d[^*+]*|[^*+]*))?")
_MEMBER = re.compile(r"(?P<file>.+\.(?:npz|safetensors)):(?P<member>[^:]+)")


@dataclass(frozen=True)
class VoicePack:
    """Style vectors of one voice; build it with `VoicePack.of`, which checks them."""

    name: str
    """The voice's name, or a blend's normal form (`a*0.6+b*0.4`, weights adding up to 1)."""
    data: NDArray[np.float32] = field(repr=False, compare=False)
    """[rows, 2 * style_dim] float32, not writable."""
    sha256: str
    """Digest of the raw little-endian float32, which is that of `write_bin`'s file."""
    license: str

    @classmethod
    def of(cls, name: str, data: Array, license: str, *, config: ModelConfig | None) -> VoicePack:
        """Check an array and make it a pack.

        Args:
            data: [rows, 1, columns] or [rows, columns], floating point.
            config: gives the expected rows and columns; without it 510 and 256.

        Raises:
            VoiceError: wrong shape or type, or NaN; names found and expected.
        """
        rows, columns = expected_shape(config)
        if data.shape not in {(rows, columns), (rows, 1, columns)}:
            raise VoiceError(
                f"voice {name}: expected shape [{rows}, 1, {columns}] or [{rows}, {columns}], "
                f"found {list(data.shape)}"
            )
        if data.dtype.kind != "f":
            raise VoiceError(f"voice {name}: expected floating point, found {data.dtype}")
        flat = np.array(data, dtype=np.float32).reshape(rows, columns)
        bad = int(np.count_nonzero(~np.isfinite(flat)))
        if bad:
            raise VoiceError(f"voice {name}: {bad} of {flat.size} values are NaN or infinite")
        flat.setflags(write=False)
        digest = hashlib.sha256(_little_endian(flat)).hexdigest()
        return cls(name, flat, digest, license)

    def row(self, phoneme_count: int) -> NDArray[np.float32]:
        """Return the style [1, 2 * style_dim] for a string of `phoneme_count` phonemes.

        Raises:
            VoiceError: the count is not in 1..rows.
        """
        if not 1 <= phoneme_count <= len(self.data):
            raise VoiceError(
                f"voice {self.name}: has styles for 1 to {len(self.data)} phonemes, "
                f"asked for {phoneme_count}"
            )
        return self.data[phoneme_count - 1 : phoneme_count].copy()

    def write_bin(self, path: Path) -> None:
        """Write raw little-endian float32, [rows, 2 * style_dim], row by row."""
        path.write_bytes(_little_endian(self.data))


def expected_shape(config: ModelConfig | None) -> tuple[int, int]:
    """Return the rows and columns of a pack for this configuration."""
    if config is None:
        return VOICE_ROWS, VOICE_COLUMNS
    return config.max_phonemes, 2 * config.style_dim


def shipped_voices() -> tuple[str, ...]:
    """Return the names of the voices inside this package."""
    folder = resources.files("kokoro_coreml") / "data" / "voices"
    names = [entry.name for entry in folder.iterdir()]
    return tuple(sorted(name.removesuffix(".bin") for name in names if name.endswith(".bin")))


def load_voice(
    spec: str | Path,
    *,
    config: ModelConfig | None = None,
    search: Sequence[Path] = (),
    hub: str | None = None,
    revision: str | None = None,
    sha256: Mapping[str, str] | None = None,
    reporter: Reporter = SILENT,
) -> VoicePack:
    """Load a voice, or a blend of several.

    Args:
        spec: a file (`.pt`, `.bin` of raw little-endian float32, `.npz` or `.safetensors` with one
            array, or `file.npz:name`); a name, looked up among the shipped voices, then in
            `search`, then as `voices/NAME.pt` of `hub`; or a blend of these, as `parse_blend`
            reads it.
        config: gives the expected shape; without it [510, 256].
        search: folders to look for `NAME.bin`, `.pt`, `.npz` or `.safetensors` in.
        hub: Hub id of the model whose voices may be fetched; None asks no Hub.
        revision: of that repository.
        sha256: digest by file name (`voices/NAME.pt`) for what comes from the Hub.

    Raises:
        VoiceError: unknown or unreadable, of the wrong shape, or a blend that cannot be parsed.
        NetworkError: the Hub is the only place left and cannot be reached.
    """
    finder = _Finder(config, search, hub, revision, sha256 or {}, reporter)
    if isinstance(spec, Path) or Path(spec).is_file():
        return finder.file(Path(spec))
    terms = parse_blend(spec)
    if len(terms) == 1:
        return finder.find(terms[0][0])
    packs = [(finder.find(part), weight) for part, weight in terms]
    mixed = np.zeros(packs[0][0].data.shape, dtype=np.float64)
    for pack, weight in packs:
        mixed += weight * pack.data.astype(np.float64)
    licenses = sorted({pack.license for pack, _ in packs})
    license = UNKNOWN_LICENSE if UNKNOWN_LICENSE in licenses else " AND ".join(licenses)
    name = "+".join(f"{pack.name}*{weight:.6g}" for pack, weight in packs)
    return VoicePack.of(name, mixed, license, config=config)


def parse_blend(spec: str) -> tuple[tuple[str, float], ...]:
    """Split `a*0.6+b*0.4` into specs and weights that add up to 1.

    Either every voice has a weight or none has, which makes them equal. Weights are finite numbers
    above 0; they need not add up to 1, only their ratio counts (`a*3+b*1` is `a*0.75+b*0.25`). A
    voice may stand in it once. `*` and `+` cannot be part of a name or path in a blend.

    Raises:
        VoiceError: anything else; the message quotes the part that is wrong.
    """
    terms: list[tuple[str, float | None]] = []
    position = 0
    while True:
        match = _TERM.match(spec, position)
        if match is None or not match["spec"].strip():
            raise VoiceError(f"voice {spec!r}: expected a name or file at {spec[position:]!r}")
        terms.append((match["spec"].strip(), _weight(spec, match["weight"])))
        position = match.end()
        if position == len(spec):
            break
        if spec[position] != "+":
            raise VoiceError(f"voice {spec!r}: expected '+' at {spec[position:]!r}")
        position += 1
    names = [name for name, _ in terms]
    given = [weight for _, weight in terms if weight is not None]
    if len(set(names)) != len(names):
        raise VoiceError(f"voice {spec!r}: each voice may stand in a blend once")
    if given and len(given) != len(terms):
        raise VoiceError(f"voice {spec!r}: give every voice a weight (a*0.6+b*0.4), or none")
    weights = given or [1.0] * len(terms)
    total = 0.0
    for weight in weights:
        total += weight  # `sum` compensates from Python 3.12 on, and the last bit would differ
    if not math.isfinite(total):
        raise VoiceError(f"voice {spec!r}: the weights are too large to add up")
    shares = tuple(weight / total for weight in weights)
    if min(shares) <= 0.0:
        raise VoiceError(f"voice {spec!r}: a weight is too small beside the others to count")
    return tuple(zip(names, shares, strict=True))


def _weight(spec: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        weight = float(text.strip())  # `float` alone leaves U+001C to U+001F in ASCII texts
    except ValueError as error:
        raise VoiceError(f"voice {spec!r}: {text.strip()!r} is not a weight") from error
    if not (math.isfinite(weight) and weight > 0):
        raise VoiceError(f"voice {spec!r}: a weight must be above 0, found {text.strip()}")
    return weight


@dataclass(frozen=True)
class _Finder:
    config: ModelConfig | None
    search: Sequence[Path]
    hub: str | None
    revision: str | None
    sha256: Mapping[str, str]
    reporter: Reporter

    def find(self, spec: str) -> VoicePack:
        member = _MEMBER.fullmatch(spec)
        path = Path(member["file"] if member else spec)
        if path.suffix in _READERS:
            return self.file(path, member["member"] if member else None)
        if not _NAME.fullmatch(spec):
            raise VoiceError(f"voice {spec!r}: not a name, and not a file of {', '.join(_READERS)}")
        if spec in shipped_voices():
            file = resources.files("kokoro_coreml") / "data" / "voices" / f"{spec}.bin"
            array = _from_bytes(file.read_bytes(), spec, self.config)
            return VoicePack.of(spec, array, SHIPPED_LICENSE, config=self.config)
        for folder in self.search:
            found = [p for s in _READERS if (p := folder / f"{spec}{s}").is_file()]
            if len(found) > 1:
                names = ", ".join(p.name for p in found)
                raise VoiceError(f"voice {spec}: found several ({names}); name one by its path")
            if found:
                return self.file(found[0])
        return self._from_hub(spec)

    def file(
        self, path: Path, member: str | None = None, license: str = UNKNOWN_LICENSE
    ) -> VoicePack:
        reader = _READERS.get(path.suffix)
        if reader is None:
            raise VoiceError(f"voice {path.name}: expected a file of {', '.join(_READERS)}")
        if not path.is_file():
            raise VoiceError(f"voice {path.name}: no such file")
        array = reader(path, member, self.config)
        return VoicePack.of(member or path.stem, array, license, config=self.config)

    def _from_hub(self, name: str) -> VoicePack:
        known = sorted({*shipped_voices(), *_names_in(self.search)})
        have = f"available here: {', '.join(known)}"
        if self.hub is None:
            raise VoiceError(f"voice {name}: unknown; {have}")
        file = f"voices/{name}.pt"
        try:
            path = model_hub.fetch(self.hub, file, self.revision, reporter=self.reporter)
        except NetworkError as error:
            raise NetworkError(f"voice {name}: {error}; {have}") from error
        except CheckpointError as error:
            raise VoiceError(f"voice {name}: {error}; {have}{self._remote_names()}") from error
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        expected = self.sha256.get(file, found).lower()
        if found != expected:
            raise VoiceError(f"voice {name}: {file} has SHA-256 {found}, expected {expected}")
        license = model_hub.KNOWN_LICENSES.get(self.hub, UNKNOWN_LICENSE)
        return self.file(path, license=license)

    def _remote_names(self) -> str:
        try:
            names = model_hub.list_files(self.hub or "", self.revision)
        except CheckpointError as error:
            return f" (the list of {self.hub} cannot be had: {error})"
        voices = [n.removeprefix("voices/")[:-3] for n in names if n.startswith("voices/")]
        return f"; in {self.hub}: {', '.join(sorted(voices))}"


def _names_in(folders: Sequence[Path]) -> set[str]:
    files = [path for folder in folders if folder.is_dir() for path in folder.iterdir()]
    return {path.stem for path in files if path.suffix in _READERS}


def _from_bytes(data: bytes, name: str, config: ModelConfig | None) -> Array:
    rows, columns = expected_shape(config)
    expected = rows * columns * 4
    if len(data) != expected:
        raise VoiceError(
            f"voice {name}: expected {expected} bytes of raw float32 [{rows}, {columns}], "
            f"found {len(data)}"
        )
    return np.frombuffer(data, dtype="<f4").reshape(rows, columns)


def _read_bin(path: Path, member: str | None, config: ModelConfig | None) -> Array:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise VoiceError(f"voice {path.name}: cannot be read ({error.strerror})") from error
    return _from_bytes(data, path.name, config)


def _read_pt(path: Path, member: str | None, config: ModelConfig | None) -> Array:
    try:
        tensor = torch.load(path, map_location="cpu", weights_only=True)
    except (*MALFORMED, OSError) as error:
        raise VoiceError(
            f"voice {path.name}: not a tensor saved by PyTorch, or truncated, or refused because "
            f"it holds other objects ({str(error).strip().splitlines()[:1]})"
        ) from error
    if not isinstance(tensor, torch.Tensor):
        raise VoiceError(f"voice {path.name}: expected one tensor, found {type(tensor).__name__}")
    return _numpy(tensor)


def _read_npz(path: Path, member: str | None, config: ModelConfig | None) -> Array:
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise VoiceError(f"voice {path.name}: a single .npy array, expected an .npz")
            array: Array = archive[_member(path, member, archive.files)]
            return array
    except (
        OSError,
        ValueError,
        EOFError,
        SyntaxError,
        zlib.error,
        zipfile.BadZipFile,
        tokenize.TokenError,
    ) as error:
        raise VoiceError(f"voice {path.name}: not an .npz file, or truncated ({error})") from error


def _read_safetensors(path: Path, member: str | None, config: ModelConfig | None) -> Array:
    try:
        tensors = load_file(path, device="cpu")
    except (SafetensorError, OSError, ValueError) as error:
        raise VoiceError(f"voice {path.name}: not safetensors, or truncated ({error})") from error
    return _numpy(tensors[_member(path, member, list(tensors))])


def _numpy(tensor: torch.Tensor) -> Array:
    # numpy has no bfloat16 or float8
    try:
        wide = tensor.float() if tensor.is_floating_point() else tensor
        array: Array = wide.detach().numpy()
    except (TypeError, RuntimeError, NotImplementedError) as error:
        raise VoiceError(f"not a plain dense tensor of numbers ({error})") from error
    return array


def _member(path: Path, member: str | None, names: Sequence[str]) -> str:
    if member is not None:
        if member not in names:
            raise VoiceError(
                f"voice {path.name}: holds no {member!r}; it holds {', '.join(sorted(names))}"
            )
        return member
    if len(names) != 1:
        raise VoiceError(
            f"voice {path.name}: holds {len(names)} arrays ({', '.join(sorted(names)[:60])}); "
            f"choose one as {path.name}:NAME"
        )
    return names[0]


def _little_endian(data: NDArray[np.float32]) -> bytes:
    return data.astype("<f4").tobytes()


_READERS: Mapping[str, Callable[[Path, str | None, ModelConfig | None], Array]] = {
    ".bin": _read_bin,
    ".pt": _read_pt,
    ".npz": _read_npz,
    ".safetensors": _read_safetensors,
}
