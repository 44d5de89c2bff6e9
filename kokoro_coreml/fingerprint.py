"""Digests of everything a conversion depends on: values, weights, source code and tools.

Equal digests mean equal inputs: every encoding here is unambiguous, so two different inputs never
give the same bytes to hash.
"""

from __future__ import annotations

import ast
import hashlib
import platform
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec, resolve_name
from pathlib import Path
from types import ModuleType
from typing import Union

import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from torch import Tensor

from kokoro_coreml import IMPORTED

Part = Union[None, bool, int, float, str, bytes, "Sequence[Part]", "Mapping[str, Part]"]
"""What a key can be made of. Lists and tuples of equal items are the same; 1, 1.0 and True are
three different parts."""

TOOLS = ("coremltools", "numpy", "scikit-learn", "torch")
"""Distributions that decide what comes out of a conversion, with all that they require;
coremltools uses scikit-learn if it is there."""

SCHEMA = 1
"""Version of the encoding; part of every key."""


@dataclass(frozen=True)
class Key:
    """Names one result by all that it depends on."""

    digest: str
    """SHA-256, 64 lower-case hexadecimal digits."""

    def __str__(self) -> str:
        return self.digest


def stage_key(parts: Mapping[str, Part]) -> Key:
    """The key of a stage made from `parts` by the installed tools.

    Args:
        parts: everything else that decides the result: stage, shapes, options, the digests of
            weights (`tensors_digest`) and of code (`source_digest`).

    Raises:
        TypeError: a part is of a type that has no encoding.
    """
    whole: Mapping[str, Part] = {"schema": SCHEMA, "parts": parts, "tools": tool_versions()}
    return Key(hashlib.sha256(encode(whole)).hexdigest())


def encode(part: Part) -> bytes:
    """One part as bytes that no other part has: a letter for its type, its length, its content.

    Raises:
        TypeError: it is of another type than `Part` names; the place is given.
    """
    return _encode(part, "the key")


def _encode(part: object, where: str) -> bytes:
    if isinstance(part, Mapping):
        wrong = [key for key in part if not isinstance(key, str)]
        if wrong:
            raise TypeError(f"{where}: the name {wrong[0]!r} is not a string")
        items = (_encode(k, where) + _encode(part[k], f"{where}, '{k}'") for k in sorted(part))
        return _framed(b"m", b"".join(items))
    if isinstance(part, list | tuple):
        return _framed(b"l", b"".join(_encode(p, f"{where}, [{i}]") for i, p in enumerate(part)))
    return _framed(*_scalar(part, where))


def _scalar(part: object, where: str) -> tuple[bytes, bytes]:
    if part is None:
        return b"n", b""
    if isinstance(part, bool):
        return b"b", bytes([part])
    if isinstance(part, int):
        return b"i", str(int(part)).encode()
    if isinstance(part, float):
        return b"f", struct.pack("<d", part)
    if isinstance(part, str):
        return b"s", part.encode("utf-8", "surrogatepass")
    if isinstance(part, bytes):
        return b"y", part
    raise TypeError(
        f"{where}: {type(part).__name__} has no encoding; expected None, bool, int, float, str, "
        "bytes, a list or tuple, or a mapping of them"
    )


def _framed(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("<Q", len(content)) + content


def tensors_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and values of tensors, whatever their order or strides.

    Raises:
        TypeError: a tensor is sparse or quantised.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach()
        if tensor.layout != torch.strided or tensor.is_quantized:
            raise TypeError(f"'{name}' is not a dense tensor of plain numbers; densify it first")
        digest.update(encode([name, str(tensor.dtype), list(tensor.shape)]))
        flat = tensor.cpu().resolve_conj().resolve_neg().reshape(-1).contiguous()
        if flat.numel():
            digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def tool_versions(tools: Iterable[str] = TOOLS) -> dict[str, str | None]:
    """Versions of Python, the machine's kind, and distributions with all that they require.

    Returns:
        Name to version, None for one that is not installed.
    """
    versions: dict[str, str | None] = {
        "python": sys.version,
        "machine": f"{sys.platform} {platform.machine()}",
        "instructions": torch.backends.cpu.get_cpu_capability(),  # they decide the order of sums
    }
    pending = [canonicalize_name(tool) for tool in tools]
    while pending:
        name = pending.pop()
        if name in versions:
            continue
        try:
            found = distribution(name)
        except PackageNotFoundError:
            versions[name] = None
            continue
        versions[name] = found.version
        for text in found.requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                pending.append(canonicalize_name(requirement.name))
    return versions


def source_digest(*roots: str | ModuleType) -> str:
    """SHA-256 over every source file that `roots` are made of or import.

    Imports are followed through the source, also those inside functions, as far as they stay in
    the top-level package of their root. What is imported by a name made at run time is not seen.

    Args:
        roots: modules or packages, by dotted name or themselves; of a package, all that is in it.

    Raises:
        ModuleNotFoundError: there is no such root.
    """
    files = source_files(*roots)
    return hashlib.sha256(encode({n: p.read_bytes() for n, p in files.items()})).hexdigest()


def changed_since_import(files: Iterable[Path]) -> bool:
    """Whether a file was written after this package was imported.

    What runs in this process may then be another code than `source_digest` reads.
    """
    return any(path.stat().st_mtime > IMPORTED for path in files)


def source_files(*roots: str | ModuleType) -> dict[str, Path]:
    """The files `source_digest` reads: dotted name of each module to its file, sorted."""
    wanted: dict[str, list[str]] = {}
    for root in roots:
        name = root if isinstance(root, str) else root.__name__
        wanted.setdefault(name.partition(".")[0], []).append(name)
    found: dict[str, Path] = {}
    for top, names in wanted.items():
        tree = _Tree(top)
        found.update(tree.reached(module for name in names for module in tree.below(name)))
    return dict(sorted(found.items()))


class _Tree:
    """The source of one top-level package; nothing in it is imported."""

    def __init__(self, top: str) -> None:
        spec = find_spec(top)
        if spec is None or not spec.submodule_search_locations:
            raise ModuleNotFoundError(f"there is no package {top}")
        self._top = top
        self._folder = Path(spec.submodule_search_locations[0])

    def file(self, module: str) -> Path | None:
        """The file of a module or package, by dotted name; None if there is none here."""
        top, *rest = module.split(".")
        if top != self._top:
            return None
        base = self._folder.joinpath(*rest)
        candidates = [base / "__init__.py", *([base.with_name(f"{base.name}.py")] if rest else [])]
        return next((path for path in candidates if path.is_file()), None)

    def below(self, module: str) -> list[str]:
        """A module, or a package with every module in it; ModuleNotFoundError if it is neither."""
        file = self.file(module)
        if file is None:
            raise ModuleNotFoundError(f"there is no module {module} in {self._folder}")
        if file.name != "__init__.py":
            return [module]
        paths = (path.relative_to(file.parent) for path in file.parent.rglob("*.py"))
        parts = (path.with_suffix("").parts for path in paths)
        return [".".join((module, *p)).removesuffix(".__init__") for p in parts]

    def reached(self, modules: Iterable[str]) -> dict[str, Path]:
        """Files of modules, of the packages around them, and of all that these import."""
        found: dict[str, Path] = {}
        pending = list(modules)
        while pending:
            name = pending.pop()
            file = None if name in found else self.file(name)
            if file is None:
                continue
            found[name] = file
            if "." in name:
                pending.append(name.rpartition(".")[0])
            pending += _imports(name, file)
        return found


def _imports(module: str, file: Path) -> Iterator[str]:
    """Names that `import` statements of a file may mean: modules, and what is taken from them."""
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_bytes(), str(file))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
