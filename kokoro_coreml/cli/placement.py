"""The command that says where a package's operations will run, and what in it is unsafe."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kokoro_coreml.cli.commands import Debug, Json, Quiet, app
from kokoro_coreml.cli.edge import Edge, working
from kokoro_coreml.errors import BundleError, PlacementError

if TYPE_CHECKING:
    from kokoro_coreml.coreml import ComputePlan
    from kokoro_coreml.placement import Options
    from kokoro_coreml.placement.targets import Planner

LISTED = 10
"""Operations listed per function unless asked for more."""


@app.command()
def inspect(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(help="A .mlpackage, or the folder of a bundle.")],
    function: Annotated[
        str | None, typer.Option(help="Function of a multifunction package; all by default.")
    ] = None,
    compute_units: Annotated[
        str | None,
        typer.Option(help="ALL, CPU_ONLY, CPU_AND_GPU or CPU_AND_NE; the bundle's by default."),
    ] = None,
    generation: Annotated[
        str | None, typer.Option(help="A chip such as A15 or M4, or H13 to H18; all by default.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(help="Audio that one call gives; by a bundle's frames.")
    ] = None,
    plan: Annotated[
        Path | None, typer.Option(help="A compute plan saved on a Mac, to compare with.")
    ] = None,
    save_plan: Annotated[
        Path | None, typer.Option(help="On a Mac: write Core ML's plan of one function here.")
    ] = None,
    top: Annotated[int, typer.Option(min=0, help="How many operations to list.")] = LISTED,
    strict: Annotated[
        bool, typer.Option("--strict", help="Leave with 12 if a finding is severe.")
    ] = False,
    quiet: Quiet = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show a package's operators, arithmetic, predicted devices and findings, without a Mac."""
    from kokoro_coreml.coreml import load_plan
    from kokoro_coreml.placement import Options
    from kokoro_coreml.placement import inspect as run
    from kokoro_coreml.placement.text import render

    edge: Edge = context.obj
    if plan is not None and save_plan is not None:
        raise typer.BadParameter("--plan and --save-plan exclude one another")
    with working(edge):
        asked = Options(compute_units, function, generation, seconds, planner=_planner(edge))
        if save_plan is not None:
            plan = _save(path, save_plan, asked)
        if plan is not None:
            asked = Options(compute_units, function, generation, seconds, plan=load_plan(plan))
        inspection = run(path, asked)
    edge.result(inspection.to_dict(), render(inspection, top))
    if strict and any(f.severity == "severe" for f in inspection.findings):
        # not raised as an error: the findings were printed, and hold every reason
        raise typer.Exit(PlacementError.exit_code)


def _planner(edge: Edge) -> Planner | None:
    """Asks Core ML on a Mac; elsewhere, or where it cannot say, predictions stand alone."""
    if platform.system() != "Darwin":
        return None
    from kokoro_coreml.coreml import CoreMLUnavailableError, device_plan

    def ask(path: Path, function: str, units: str) -> ComputePlan | None:
        try:
            with edge.reporter.step(f"ask Core ML about {path.name}:{function}"):
                return device_plan(path, function, units)
        except CoreMLUnavailableError as error:
            edge.reporter.warn(f"no plan of {path.name}:{function}: {error}")
            return None

    return ask


def _save(path: Path, file: Path, asked: Options) -> Path:
    from kokoro_coreml.coreml import device_plan
    from kokoro_coreml.placement import targets
    from kokoro_coreml.placement.reading import functions_of

    if platform.system() != "Darwin":
        raise PlacementError(
            "--save-plan asks Core ML, which only a Mac has; save the plan there and read it here "
            "with --plan"
        )
    if not file.parent.is_dir():
        raise BundleError(f"cannot write '{file}': its folder does not exist; make it first")
    found = [
        (target, name)
        for target in targets(path)
        for name in functions_of(target.path)
        if asked.function in (None, name)
    ]
    if len(found) != 1:
        names = ", ".join(f"{t.path.name}:{n}" for t, n in found) or "none"
        raise PlacementError(f"a plan is of one function; name it with --function, found: {names}")
    target, name = found[0]
    units = asked.compute_units or target.compute_units
    if units is None:
        raise PlacementError("say what the plan is for with --compute-units")
    text = device_plan(target.path, name, units).to_json()
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BundleError(f"cannot write '{file}': {error.strerror or error}") from error
    return file
