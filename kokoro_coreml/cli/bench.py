"""The command that measures sizes, times and memory on the machine it runs on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kokoro_coreml.cli.commands import Debug, Quiet, app
from kokoro_coreml.cli.edge import Edge, require_writable, working, write_whole
from kokoro_coreml.cli.proof import STANDARD_OUTPUT, Suite

_Recipe = Annotated[
    str | None,
    typer.Option(help="Measure the conversion of a recipe too: its name, or a TOML file."),
]
_Checkpoint = Annotated[
    str | None,
    typer.Option(help="Where the weights are, if not where the bundle or the recipe says."),
]
_Runners = Annotated[
    list[str] | None,
    typer.Option(help="executor, upstream or onnxruntime; repeatable [default: all]."),
]
_Precision = Annotated[
    str, typer.Option(help="Of the executor: declared (round as declared) or float32.")
]
_Cases = Annotated[
    list[str] | None,
    typer.Option(help="Id of a case of the suite; repeatable [default: its English ones]."),
]
_ComputeUnits = Annotated[
    list[str] | None,
    typer.Option(
        help="For --runtime coreml: bundle (as it asks), ALL, CPU_ONLY, CPU_AND_GPU, "
        "CPU_AND_NE; repeatable [default: all]."
    ),
]
_Json = Annotated[
    Path | None,
    typer.Option("--json", help="Write bench.json here; - is standard output."),
]


@app.command()
def bench(
    context: typer.Context,
    bundle: Annotated[Path | None, typer.Argument(help="Folder of the bundle.")] = None,
    convert: _Recipe = None,
    checkpoint: _Checkpoint = None,
    runtime: Annotated[
        str, typer.Option(help="executor, or coreml on a Mac: its processors, one by one.")
    ] = "executor",
    runner: _Runners = None,
    precision: _Precision = "declared",
    suite: Suite = "smoke",
    case: _Cases = None,
    repeat: Annotated[int, typer.Option(min=1, help="Rounds that count.")] = 5,
    compute_units: _ComputeUnits = None,
    json: _Json = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Measure a bundle beside upstream and ONNX Runtime, or a conversion; leaves with 9 if a part
    of it failed."""
    from kokoro_coreml.bench import RUNNERS, BenchRequest, render
    from kokoro_coreml.bench import bench as run
    from kokoro_coreml.bench.errors import BenchError
    from kokoro_coreml.bench.run import failures

    edge: Edge = context.obj
    if bundle is None and convert is None:
        raise typer.BadParameter("give the folder of a bundle, --convert RECIPE, or both")
    file = json if json is not None and str(json) != STANDARD_OUTPUT else None
    # the root reads --json as a switch; here it takes a file
    edge.json = json is not None and file is None
    if file is not None:
        require_writable(file)
    request = BenchRequest(
        bundle,
        convert,
        checkpoint,
        runtime=runtime,
        runners=tuple(dict.fromkeys(runner or RUNNERS)),
        precision=precision,
        suite=suite,
        cases=tuple(case or ()),
        repeat=repeat,
        compute_units=tuple(dict.fromkeys(compute_units or ())),
    )
    with working(edge):
        report = run(request, reporter=edge.reporter)
        text = report.to_json()
        if file is not None:
            write_whole(file, lambda path: path.write_text(text, encoding="utf-8"))
    edge.result(report.to_dict(), render(report))
    if failures(report):
        # not raised as an error: the report was printed, and holds every reason
        raise typer.Exit(BenchError.exit_code)
