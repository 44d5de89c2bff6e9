"""The command that measures what every way to store the weights costs and saves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kokoro_coreml.cli.commands import Debug, Json, Quiet, app
from kokoro_coreml.cli.edge import Edge, require_writable, working, write_whole
from kokoro_coreml.cli.proof import Suite

if TYPE_CHECKING:
    from kokoro_coreml.sizes import SizeReport


_Compressions = Annotated[
    list[str] | None,
    typer.Option(
        help="A row: exact, int8, palette8, palette4/16 and so on; repeatable [default: all]."
    ),
]
_Budgets = Annotated[
    list[str] | None,
    typer.Option(help="A row: mixed by sensitivity within a size such as 50MB; repeatable."),
]
_Tokens = Annotated[
    int | None, typer.Option(min=3, help="Token bucket [default: the recipe's nearest to 128].")
]
_Frames = Annotated[
    int | None, typer.Option(min=1, help="Frame bucket [default: the recipe's nearest to 512].")
]
_Cases = Annotated[
    list[str] | None,
    typer.Option(help="Id of a case of the suite; repeatable [default: all that fit]."),
]


@app.command()
def sizes(
    context: typer.Context,
    recipe: Annotated[
        str, typer.Argument(help="Name of a recipe of the cut pipeline, or a TOML file.")
    ] = "kokoro-82m",
    compression: _Compressions = None,
    budget: _Budgets = None,
    tokens: _Tokens = None,
    frames: _Frames = None,
    suite: Suite = "smoke",
    case: _Cases = None,
    checkpoint: Annotated[
        str | None, typer.Option(help="Weights to use instead of the recipe's; see convert.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write sizes.json here.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the table as Markdown here.")] = None,
    quiet: Quiet = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Convert and execute a recipe with its weights stored in every way, and measure each; leaves
    with 9 if a row failed."""
    from kokoro_coreml.sizes import SizesRequest, failures, render
    from kokoro_coreml.sizes import markdown as as_markdown
    from kokoro_coreml.sizes import sizes as run
    from kokoro_coreml.sizes.errors import SizesError

    edge: Edge = context.obj
    for path in (out, markdown):
        if path is not None:
            require_writable(path)
    request = SizesRequest(
        recipe,
        compressions=tuple(compression or ()),
        budgets=tuple(budget or ()),
        tokens=tokens,
        frames=frames,
        suite=suite,
        cases=tuple(case or ()),
        checkpoint=checkpoint,
    )

    def save(report: SizeReport) -> None:
        if out is not None:
            _save(out, report.to_json())
        if markdown is not None:
            _save(markdown, as_markdown(report))

    with working(edge):
        # after every row, so that hours of work are not lost with the last one
        report = run(request, reporter=edge.reporter, on_row=save)
    edge.result(report.to_dict(), render(report))
    if failures(report):
        # not raised as an error: the report was printed, and holds every reason
        raise typer.Exit(SizesError.exit_code)


def _save(path: Path, text: str) -> None:
    write_whole(path, lambda partial: partial.write_text(text, encoding="utf-8"))
