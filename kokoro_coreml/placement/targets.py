"""What to inspect: a package, a package of a bundle, or all packages of a bundle."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kokoro_coreml.coreml.plan import ComputePlan
from kokoro_coreml.errors import BundleError, PlacementError
from kokoro_coreml.manifest import MANIFEST_NAME, Manifest, PackageRecord, read_manifest
from kokoro_coreml.placement.agreement import with_plan
from kokoro_coreml.placement.inspection import Question, assemble, inspect_package
from kokoro_coreml.placement.results import Inspection, PackageInspection
from kokoro_coreml.placement.rules import load_rules

Planner = Callable[[Path, str, str], ComputePlan | None]
"""Asks Core ML for the plan of (package, function, compute units); None if it cannot be asked."""


@dataclass(frozen=True)
class Target:
    """One package and what its bundle says of it.

    Attributes:
        path: of the `.mlpackage`.
        compute_units: from the manifest, or None.
        functions: its names in the manifest; empty where there is no bundle.
        seconds: of audio that one call gives, by function, where its bucket has frames.
    """

    path: Path
    compute_units: str | None = None
    functions: tuple[str, ...] = ()
    seconds: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Options:
    """How to inspect.

    Attributes:
        compute_units: instead of the bundle's; required where there is no bundle.
        function: one of the package's; all by default. In a bundle, packages without it are left
            out.
        generation: of the Neural Engine, or a chip; all that the rules know by default.
        seconds: of audio that one call gives, instead of what follows from the bundle's frames.
        plan: Core ML's, saved on a Mac, to set beside the prediction.
        planner: asks Core ML itself, where there is no plan.
    """

    compute_units: str | None = None
    function: str | None = None
    generation: str | None = None
    seconds: float | None = None
    plan: ComputePlan | None = None
    planner: Planner | None = None


def targets(path: Path) -> tuple[Target, ...]:
    """The packages at `path`: a bundle's all, or the one, looked up in the bundle it lies in.

    Raises:
        BundleError: a bundle's manifest is wrong.
        PlacementError: there is neither a package nor a bundle.
    """
    if _has(path, MANIFEST_NAME):
        manifest = read_manifest(path)
        return tuple(_target(path, manifest, package) for package in manifest.packages)
    if not _has(path, "Manifest.json"):
        raise PlacementError(f"'{path}' is neither a .mlpackage nor a bundle")
    for folder in path.resolve().parents:
        for package, manifest in _packages(folder):
            if (folder / package.file).resolve() == path.resolve():
                return (_target(folder, manifest, package),)
    return (Target(path),)


def _packages(folder: Path) -> list[tuple[PackageRecord, Manifest]]:
    """Of the bundle in `folder`; none if it is no bundle, whatever else it holds."""
    if not _has(folder, MANIFEST_NAME):
        return []
    try:
        manifest = read_manifest(folder)
    except BundleError:
        return []
    return [(package, manifest) for package in manifest.packages]


def _has(folder: Path, name: str) -> bool:
    """Whether a file has exactly this name; macOS does not tell its case apart."""
    try:
        return (folder / name).is_file() and any(p.name == name for p in folder.iterdir())
    except OSError:
        return False


def inspect(path: Path, options: Options) -> Inspection:
    """Inspect a package, or all packages of a bundle.

    Args:
        path: of the `.mlpackage`, or of the bundle's folder.
        options: how.

    Raises:
        BundleError: the bundle's manifest is wrong.
        PackageError: a package is missing or corrupt, or has no such function.
        PlacementError: something asked for is unknown or missing, or the plan is of another
            package, function or choice of compute units.
    """
    found = targets(path)
    if options.function is not None and len(found) > 1:
        found = tuple(t for t in found if options.function in t.functions)
    if not found:
        raise PlacementError(f"no package of '{path}' has a function '{options.function}'")
    inspected = [_inspect(target, options) for target in found]
    if options.plan is not None:
        inspected = _beside(inspected, options.plan)
    return assemble(inspected, load_rules())


def _inspect(target: Target, options: Options) -> PackageInspection:
    units = options.compute_units or target.compute_units
    if units is None:
        raise PlacementError(
            f"'{target.path.name}' lies in no bundle that says what it runs on; pass "
            "--compute-units ALL, CPU_ONLY, CPU_AND_GPU or CPU_AND_NE"
        )
    seconds = options.seconds if options.seconds is not None else target.seconds
    question = Question.of(units, generation=options.generation, seconds=seconds)
    inspected = inspect_package(target.path, question, function=options.function)
    if options.planner is None or options.plan is not None:
        return inspected
    for function in inspected.functions:
        plan = options.planner(target.path, function.function, units)
        inspected = inspected if plan is None else with_plan(inspected, plan)
    return inspected


def _beside(inspected: list[PackageInspection], plan: ComputePlan) -> list[PackageInspection]:
    own = [p for p in inspected if p.model_sha256 == plan.model_sha256]
    if not own and len(inspected) > 1:
        raise PlacementError(f"the plan is of '{plan.package}', which is none of these packages")
    return [with_plan(p, plan) if p in (own or inspected) else p for p in inspected]


def _target(bundle: Path, manifest: Manifest, package: PackageRecord) -> Target:
    frame = manifest.samples_per_frame / manifest.sample_rate
    return Target(
        bundle / package.file,
        package.compute_units,
        tuple(f.name for f in package.functions),
        {f.name: f.bucket.frames * frame for f in package.functions if f.bucket.frames},
    )
