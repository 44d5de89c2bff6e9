"""The command that writes the golden files other implementations are tested against."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kokoro_coreml.cli.commands import Debug, Json, Quiet, app
from kokoro_coreml.cli.edge import Edge, working


@app.command()
def goldens(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("artifacts/goldens"),
    force: Annotated[bool, typer.Option("--force", help="Replace earlier golden files.")] = False,
    quiet: Quiet = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Write seeded inputs of every portable function and what Python makes of them, for tests of
    the same functions in another language."""
    edge: Edge = context.obj
    with working(edge):
        from kokoro_coreml.goldens import write_goldens

        written = write_goldens(out, force=force, reporter=edge.reporter)
    count = sum(written.cases.values())
    text = f"{out}: {count} cases of {len(written.cases)} functions, {written.bytes} bytes"
    edge.result(written.to_dict(), text)
