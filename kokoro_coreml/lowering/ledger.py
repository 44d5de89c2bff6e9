"""The ledger of corrections, `patches/*.toml`: where other software is wrong or untraceable for us.

One file per place. Each states what is wrong and in which versions, how it is handled here, and
when that can go; each but a version pin carries a reproducer, which `reproduce` lowers, saves and
executes, so that both the fault and its cure are measured rather than remembered.
"""

from __future__ import annotations

import logging
import math
import tomllib
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal

import coremltools as ct
import numpy as np
import torch
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from torch import Tensor, nn
from torch.nn import functional as F

from kokoro_coreml.errors import ConversionError
from kokoro_coreml.executor import run_package
from kokoro_coreml.lowering.corrections import CORRECTIONS, corrected
from kokoro_coreml.lowering.lower import INEXACT_PASSES
from kokoro_coreml.resources import patches_folder
from kokoro_coreml.tables import Limits, decode

SCHEMA = 1
"""Version of the form of `patches/*.toml`."""

_LOWERING_ERRORS = (
    RuntimeError,
    ValueError,
    TypeError,
    NotImplementedError,
    LookupError,
    AttributeError,
    AssertionError,
)
"""What coremltools raises for a graph it cannot lower."""

Line = Annotated[str, Limits(minimum=1, pattern=r"[^\n]+", meaning="one line of text")]
Text = Annotated[str, Limits(minimum=1)]


class LedgerError(ConversionError):
    """The ledger is unreadable, contradicts itself, or differs from the registered corrections."""


@dataclass(frozen=True)
class Input:
    """One input of a reproducer."""

    dtype: Literal["float32", "int32"]
    shape: tuple[Annotated[int, Limits(minimum=1)], ...]
    values: tuple[float, ...] | None = None
    """Row-major; without them the input is sin(1), sin(2), ..."""

    def array(self) -> np.ndarray:
        """The values as a numpy array of `shape` and `dtype`."""
        size = math.prod(self.shape)
        values = np.sin(np.arange(1, size + 1)) if self.values is None else np.array(self.values)
        return values.reshape(self.shape).astype(self.dtype)


@dataclass(frozen=True)
class Reproducer:
    """The smallest graph that shows the fault."""

    inputs: Annotated[Mapping[str, Input], Limits(minimum=1)]
    expression: Text
    """PyTorch over the inputs, with the names `torch` and `F`; gives one tensor."""
    replacement: Text | None = None
    """What to write instead; equal to `expression`, and lowered rightly."""
    tolerance: Annotated[float, Limits(minimum=0)] = 1e-6
    """Largest error that counts as right, relative to the larger of 1 and the true value."""


@dataclass(frozen=True)
class Entry:
    """One place where another package is wrong or untraceable for us: `patches/ID.toml`."""

    schema: Literal[1]
    id: Annotated[str, Limits(pattern=r"[a-z0-9]+(-[a-z0-9]+)*", meaning="words joined by hyphens")]
    """The file's stem, and the name of the registered correction where there is one."""
    title: Line
    package: Line
    """The distribution at fault."""
    versions: Line
    """PEP 440 specifier of the versions at fault."""
    symbol: Line
    """The function or operator at fault."""
    kind: Literal["miscompile", "fails", "pin"]
    """Converts and is wrong; conversion raises; breaks and is kept out by a version pin."""
    handling: Literal["correction", "rewrite", "pass", "pin"]
    """Registered in `lowering.corrections`; avoided by the modules; a graph pass that `lower`
    leaves out; kept out by a version pin."""
    drop_when: Line
    explanation: Text
    upstream: Annotated[str, Limits(pattern=r"https://\S+", meaning="a https:// URL")] | None = None
    """The issue in which its authors treat it."""
    reproducer: Reproducer | None = None

    def applies(self) -> bool:
        """Whether the installed version of `package` is one of those at fault."""
        return SpecifierSet(self.versions).contains(version(self.package), prereleases=True)


@dataclass(frozen=True)
class Outcome:
    """What became of a reproducer."""

    verdict: Literal["right", "wrong", "failed"]
    error: float
    """Largest error as `Reproducer.tolerance` measures it; inf without a comparable result."""
    detail: str
    """In words, or the message of the failure."""


def load_ledger(
    folder: Path | None = None, *, corrections: Collection[str] = tuple(CORRECTIONS)
) -> tuple[Entry, ...]:
    """Read the ledger, in the order of its ids, and hold it against the registered corrections.

    Args:
        folder: of the entries; `patches/` unless given.
        corrections: names of the registered corrections.

    Raises:
        LedgerError: an entry is unreadable, holds an unknown key or a wrong value or contradicts
            itself; a registered correction has no entry; or an entry no registered correction.
    """
    paths = sorted((patches_folder() if folder is None else folder).glob("*.toml"))
    entries = tuple(_read(path) for path in paths)
    claimed = {entry.id for entry in entries if entry.handling == "correction"}
    if missing := sorted(set(corrections) - claimed):
        raise LedgerError(
            f"corrections without an entry in the ledger: {', '.join(missing)}; "
            f"write patches/{missing[0]}.toml"
        )
    if idle := sorted(claimed - set(corrections)):
        raise LedgerError(
            f"entries without a registered correction: {', '.join(idle)}; register one in "
            "lowering/corrections.py or change the entry's 'handling'"
        )
    left_out = {entry.symbol for entry in entries if entry.handling == "pass"}
    if folder is None and left_out != set(INEXACT_PASSES):
        raise LedgerError(
            f"passes in the ledger: {sorted(left_out)}, but lowering/lower.py leaves out "
            f"{sorted(INEXACT_PASSES)}; make them the same"
        )
    return entries


def reproduce(entry: Entry, *, corrected: bool, folder: Path) -> Outcome:
    """Lower an entry's reproducer, execute what was saved, and compare it with PyTorch.

    Args:
        entry: of a kind that has a reproducer.
        corrected: lower as this project does: with the registered corrections, and for a rewrite
            the replacement in place of the expression. Otherwise as coremltools does.
        folder: an existing one, where the package is saved.

    Raises:
        LedgerError: the entry has no reproducer.
        PackageError: the executor cannot run the saved package.
    """
    if entry.reproducer is None:
        raise LedgerError(f"patches/{entry.id}.toml has no [reproducer] to run")
    reproducer = entry.reproducer
    arrays = {name: given.array() for name, given in reproducer.inputs.items()}
    expected = _Expression(reproducer.expression, arrays).value().numpy()
    rewritten = corrected and entry.handling == "rewrite"
    source = reproducer.replacement if rewritten else reproducer.expression
    assert source is not None
    path = folder / f"{entry.id}.mlpackage"
    try:
        save_expression(source, arrays, path, corrected=corrected)
    except _LOWERING_ERRORS as error:
        return Outcome("failed", math.inf, f"{type(error).__name__}: {error}")
    (actual,) = run_package(path, arrays).values()
    return _compare(expected, actual, reproducer.tolerance)


def save_expression(
    expression: str, inputs: Mapping[str, np.ndarray], path: Path, *, corrected: bool
) -> None:
    """Trace a PyTorch expression, lower it in float32 for iOS 17 and save it.

    Args:
        expression: over the inputs, with the names `torch` and `F`; gives one tensor.
        inputs: float32 or int32 arrays by name.
        path: the `.mlpackage` to write.
        corrected: lower with the registered corrections in place and without the passes that
            `lower` leaves out.

    Raises:
        RuntimeError: or another of Python's own errors, when coremltools cannot lower it.
    """
    module = _Expression(expression, inputs)
    pipeline = ct.PassPipeline.DEFAULT
    if corrected:
        pipeline.remove_passes(INEXACT_PASSES)
    with _quiet(), torch.inference_mode():
        traced = torch.jit.trace(  # type: ignore[no-untyped-call]
            module, module.arguments(), check_trace=False
        )
        with _corrected() if corrected else nullcontext():
            model = ct.convert(
                traced,
                convert_to="mlprogram",
                inputs=[
                    ct.TensorType(name=name, shape=array.shape, dtype=array.dtype.type)
                    for name, array in inputs.items()
                ],
                minimum_deployment_target=ct.target.iOS17,
                compute_precision=ct.precision.FLOAT32,
                compute_units=ct.ComputeUnit.CPU_ONLY,
                pass_pipeline=pipeline,
                skip_model_load=True,
            )
    model.save(str(path))


_corrected = corrected  # `corrected` is also the natural name of the flag


class _Expression(nn.Module):
    """A module whose forward evaluates an expression over named inputs."""

    def __init__(self, expression: str, inputs: Mapping[str, np.ndarray]) -> None:
        super().__init__()
        self.inputs = dict(inputs)
        self.code = compile(expression.strip(), "<reproducer>", "eval")

    def forward(self, *values: Tensor) -> Tensor:
        names = dict(zip(self.inputs, values, strict=True))
        result = eval(self.code, {"torch": torch, "F": F, **names})
        assert isinstance(result, Tensor)
        return result

    def arguments(self) -> tuple[Tensor, ...]:
        return tuple(torch.from_numpy(array) for array in self.inputs.values())

    def value(self) -> Tensor:
        with torch.inference_mode():
            return self(*self.arguments())  # type: ignore[no-any-return]


def _read(path: Path) -> Entry:
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise LedgerError(f"cannot read {path.name}: {error}") from error
    entry = decode(Entry, raw, document=path.name, error=LedgerError)
    for wrong, message in _contradictions(entry, path):
        if wrong:
            raise LedgerError(f"{path.name}: {message}")
    try:
        SpecifierSet(entry.versions)
    except InvalidSpecifier as error:
        raise LedgerError(
            f"{path.name}: 'versions' must be a PEP 440 specifier: {error}"
        ) from error
    return entry


def _contradictions(entry: Entry, path: Path) -> Iterator[tuple[bool, str]]:
    reproducer = entry.reproducer
    pinned = entry.handling == "pin"
    yield entry.id != path.stem, f"'id' must be the file's stem, found {entry.id!r}"
    yield pinned != (entry.kind == "pin"), "the kind 'pin' and the handling 'pin' go together"
    yield pinned != (reproducer is None), "a [reproducer] is needed, but not for a pin"
    if reproducer is None:
        return
    rewritten = entry.handling == "rewrite"
    yield (
        rewritten != (reproducer.replacement is not None),
        ("a 'replacement' is needed for the handling 'rewrite', and only there"),
    )
    for name, given in reproducer.inputs.items():
        size = math.prod(given.shape)
        yield (
            given.values is not None and len(given.values) != size,
            (f"input '{name}' needs {size} values for its shape"),
        )


def _compare(expected: np.ndarray, actual: np.ndarray, tolerance: float) -> Outcome:
    if expected.shape != actual.shape:
        detail = f"shape {list(actual.shape)} instead of {list(expected.shape)}"
        return Outcome("wrong", math.inf, detail)
    if _is_float(expected) != _is_float(actual):
        return Outcome("wrong", math.inf, f"{actual.dtype} instead of {expected.dtype}")
    true, found = expected.astype(np.float64), actual.astype(np.float64)
    with np.errstate(invalid="ignore"):
        errors = np.abs(found - true) / np.maximum(1.0, np.abs(true))
    same = (found == true) | (np.isnan(found) & np.isnan(true))
    error = float(np.max(np.where(same, 0.0, np.nan_to_num(errors, nan=np.inf)), initial=0.0))
    if error <= tolerance:
        return Outcome("right", error, f"largest error {error:.3g}")
    worst = int(np.argmax(np.where(same, 0.0, np.nan_to_num(errors, nan=np.inf))))
    detail = f"{found.flat[worst]:.9g} instead of {true.flat[worst]:.9g}"
    return Outcome("wrong", error, detail)


def _is_float(array: np.ndarray) -> bool:
    return bool(np.issubdtype(array.dtype, np.floating))


@contextmanager
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("coremltools")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
