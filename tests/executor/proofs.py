"""What each test proves about which operation, and the check that it ran what it claims.

    @proves("relu", "abs", against=NUMPY, over="any shape, both signs, NaN")
    def test_...

`conftest.py` fails a test whose claimed operations the executor did not run, from the source it
claims: a package made with the MIL builder, or one converted from torch.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from kokoro_coreml.executor.documentation import Proof
from kokoro_coreml.executor.ops.registry import OPS, OpDefinition

BUILDER, FROM_TORCH = "MIL builder", "torch"
SOURCES = (BUILDER, FROM_TORCH)

NUMPY = "numpy definition"
TORCH = "torch"
DEVICE = "values coremltools' tests expect of a Mac"
DECOMPRESSOR = "coremltools' decompressor"

_CLAIMING = ("proves(", "built(", "traced(")
"""What stands in a test file that claims proofs."""

_source = BUILDER


def proves(*ops: str, against: str, over: str, source: str = BUILDER) -> pytest.MarkDecorator:
    """Mark a test, or one of its parameters, as the proof of operations.

    Args:
        ops: MIL's names; each must be run by the test.
        against: what the results are compared with.
        over: parameters and edge cases covered, a few words.
        source: where the package comes from, one of `SOURCES`.
    """
    assert source in SOURCES
    return pytest.mark.proves(ops=ops, against=against, over=over, source=source)


@contextmanager
def converted_from(source: str) -> Iterator[None]:
    """Within it, operations that run come from `source`."""
    global _source
    before, _source = _source, source
    try:
        yield
    finally:
        _source = before


@contextmanager
def watched() -> Iterator[set[tuple[str, str]]]:
    """Pairs of operation and source, filled as the executor runs operations."""
    executed: set[tuple[str, str]] = set()
    originals = dict(OPS)
    OPS.update({name: _recording(d, executed) for name, d in originals.items()})
    try:
        yield executed
    finally:
        OPS.update(originals)


def _recording(definition: OpDefinition, executed: set[tuple[str, str]]) -> OpDefinition:
    def call(*args: Any, **arguments: Any) -> Any:
        result = definition.function(*args, **arguments)
        executed.add((definition.name, _source))
        return result

    call.__doc__ = definition.function.__doc__
    return replace(definition, function=call)


def unproven(claims: Iterable[pytest.Mark], executed: set[tuple[str, str]]) -> list[str]:
    """Operations claimed but not run."""
    return sorted(
        f"{name} (from {claim.kwargs['source']})"
        for claim in claims
        for name in claim.kwargs["ops"]
        if (name, claim.kwargs["source"]) not in executed
    )


def collect() -> tuple[Proof, ...]:
    """All proofs that the tests of this folder claim."""
    found: list[Proof] = []
    for module in _modules():
        for name, test in vars(module).items():
            if name.startswith("test_") and callable(test):
                found += [proof for mark in _claims(test) for proof in _proofs(mark)]
    return tuple(dict.fromkeys(found))


def _modules() -> Iterator[ModuleType]:
    folder = Path(__file__).parent
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    for path in sorted(folder.glob("test_*.py")):
        if any(word in path.read_text(encoding="utf-8") for word in _CLAIMING):
            yield importlib.import_module(path.stem)


def _claims(test: Callable[..., Any]) -> Iterator[pytest.Mark]:
    for mark in getattr(test, "pytestmark", ()):
        if mark.name == "proves":
            yield mark
        if mark.name == "parametrize":
            for values in mark.args[1]:
                yield from (m.mark for m in getattr(values, "marks", ()) if m.name == "proves")


def _proofs(mark: pytest.Mark) -> Iterator[Proof]:
    claim = mark.kwargs
    for name in claim["ops"]:
        yield Proof(name, claim["source"], claim["against"], claim["over"])
