"""The commands that run and judge what was saved: `run`, `verify` and `diff`."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from zipfile import BadZipFile, ZipFile

import typer

from kokoro_coreml.cli.commands import Debug, Json, Quiet, app
from kokoro_coreml.cli.edge import Edge, require_writable, working, write_whole
from kokoro_coreml.errors import BundleError, PackageError, ParityError

if TYPE_CHECKING:
    import numpy as np

    from kokoro_coreml.parity.results import OperationError

STANDARD_OUTPUT = "-"

LISTED = 20
"""Operations that `diff` lists unless asked for more."""

Precision = Annotated[
    str,
    typer.Option(help="float32, declared (round to the declared types) or stress (report range)."),
]

Suite = Annotated[str, typer.Option(help="smoke, full, or the path of a TOML file.")]


@app.command()
def run(
    context: typer.Context,
    package: Annotated[Path, typer.Argument(help="The .mlpackage.")],
    inputs: Annotated[
        Path, typer.Option("--input", "-i", help="An .npz with one array per input.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The .npz to write outputs and captures to.")
    ],
    function: Annotated[str, typer.Option(help="Function of a multifunction package.")] = "main",
    precision: Precision = "float32",
    capture: Annotated[
        list[str] | None, typer.Option(help="Name of an intermediate to keep too; repeatable.")
    ] = None,
    force: Annotated[bool, typer.Option(help="Replace an earlier output file.")] = False,
    quiet: Quiet = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Run a saved package without a Mac: arrays in, arrays out."""
    from kokoro_coreml.executor import Program

    edge: Edge = context.obj
    _require_free(output, force=force)
    arrays = _read_npz(inputs)
    with working(edge):
        with edge.reporter.step(f"load {package.name}"):
            program = Program.load(package, function, precision=precision)
        with edge.reporter.step(f"run {package.name}:{function}"):
            found = program(arrays, capture=capture or ())
    write_whole(output, lambda path: _save_npz(path, found))
    record = {
        "package": str(package),
        "function": function,
        "precision": precision,
        "output": str(output),
        "arrays": {n: {"dtype": str(a.dtype), "shape": list(a.shape)} for n, a in found.items()},
        "load_seconds": round(program.load_seconds, 4),
        "run_seconds": round(program.run_seconds or 0.0, 4),
        "findings": [str(finding) for finding in program.findings],
    }
    lines = [f"{n}: {a.dtype}{list(a.shape)}" for n, a in found.items()]
    lines += [f"found: {finding}" for finding in program.findings]
    times = f"loaded in {program.load_seconds:.2f} s, ran in {program.run_seconds:.2f} s"
    lines.append(f"wrote {output}; {times}")
    edge.result(record, "\n".join(lines))


_ComputeUnits = Annotated[
    list[str] | None,
    typer.Option(
        help="For --runtime coreml and --merge: ALL, CPU_ONLY, CPU_AND_GPU, CPU_AND_NE; all."
    ),
]
_Waived = Annotated[
    list[str] | None,
    typer.Option(help="A leg to leave out and name in the report, such as 'words'; repeatable."),
]
_Merged = Annotated[
    list[Path] | None,
    typer.Option(
        help="A result of `kokoro-harness verify` on a Mac, to judge Core ML by; repeatable."
    ),
]
_Json = Annotated[
    Path | None,
    typer.Option("--json", help="Write parity.json here; - is standard output."),
]


@app.command()
def verify(
    context: typer.Context,
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.")],
    runtime: Annotated[str, typer.Option(help="executor, or coreml on a Mac.")] = "executor",
    precision: Precision = "declared",
    suite: Suite = "smoke",
    compute_units: _ComputeUnits = None,
    checkpoint: Annotated[
        str | None, typer.Option(help="Where the bundle's weights are, if not where it says.")
    ] = None,
    waive: _Waived = None,
    merge: _Merged = None,
    recordings: Annotated[
        Path, typer.Option(help="For --merge: the recordings that the result is of.")
    ] = Path("artifacts/goldens/recordings"),
    json: _Json = None,
    html: Annotated[Path | None, typer.Option(help="Write parity.html here.")] = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Judge a bundle by every leg of parity; leaves with 10 unless all that are due passed."""
    from kokoro_coreml.parity.report import write_html
    from kokoro_coreml.parity.request import Request
    from kokoro_coreml.parity.summary import summary
    from kokoro_coreml.parity.verification import verify as judge

    edge: Edge = context.obj
    files = [path for path in (json, html) if path is not None and str(path) != STANDARD_OUTPUT]
    for path in files:
        require_writable(path)
    request = Request(
        bundle,
        runtime=runtime,
        precision=precision,
        suite=suite,
        compute_units=tuple(compute_units or ()),
        checkpoint=checkpoint,
        waive=tuple(waive or ()),
        merge=tuple(merge or ()),
        recordings=recordings,
    )
    with working(edge):
        found = judge(request, reporter=edge.reporter)
        text = found.report.to_json()
        if json in files:
            write_whole(json, lambda path: path.write_text(text, encoding="utf-8"))
        if html is not None:
            write_whole(html, lambda path: write_html(path, found.report, found.listenings))
    edge.result(found.report.to_dict(), summary(found.report))
    if found.report.verdict != "passed":
        # not raised as an error: the report was printed, and holds every reason
        raise typer.Exit(ParityError.exit_code)


@app.command()
def diff(
    context: typer.Context,
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.")],
    stage: Annotated[
        str | None, typer.Option(help="Stage, package or file name; the only one by default.")
    ] = None,
    function: Annotated[
        str | None,
        typer.Option(help="Function, such as frames_256; that which the words need by default."),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(help="float32: against the traced module. declared: against float32."),
    ] = "float32",
    case: Annotated[
        str | None, typer.Option(help="Case of the suite 'full' to run; the sample by default.")
    ] = None,
    checkpoint: Annotated[
        str | None, typer.Option(help="Where the bundle's weights are, if not where it says.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many operations to list.")] = LISTED,
    quiet: Quiet = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """List a package's operations in order of the error each one adds."""
    from kokoro_coreml.parity.difference import Question, compare

    edge: Edge = context.obj
    question = Question(bundle, stage, function, precision, case, checkpoint)
    with working(edge):
        answer = compare(question, reporter=edge.reporter)
    listed = answer.worst(top)
    record = {
        "title": answer.title,
        "compared": len(answer.operations),
        "operations": answer.executed,
        "suspects": [s.evidence for s in answer.suspects],
        "worst": [_row(o) for o in listed],
    }
    edge.result(record, _table(answer.title, answer.executed, len(answer.operations), listed))


def _row(operation: OperationError) -> dict[str, Any]:
    return {
        "position": operation.position,
        "type": operation.type,
        "name": operation.name,
        "module": operation.module,
        "declared": operation.declared,
        "local_snr_db": operation.local_snr_db,
        "snr_db": operation.snr_db,
    }


def _table(title: str, executed: int, compared: int, rows: Sequence[OperationError]) -> str:
    lines = [
        f"{title}: {compared} of {executed} operations compared, those that add most error first",
        f"{'added':>9} {'in all':>9}  operation",
    ]
    for o in rows:
        module = o.module or "no module known"
        lines.append(
            f"{_decibel(o.local_snr_db):>9} {_decibel(o.snr_db):>9}  "
            f"{o.position} {o.type} {o.name} {o.declared} in {module}"
        )
    return "\n".join(lines)


def _decibel(value: float) -> str:
    return "equal" if value >= 999.0 else f"{value:.1f} dB"


def _read_npz(path: Path) -> Mapping[str, np.ndarray]:
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise PackageError(f"'{path}' holds one array; an .npz with names is needed")
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, NotImplementedError, BadZipFile, zlib.error) as error:
        raise PackageError(f"cannot read the inputs '{path}': {error}") from error


def _save_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """As `numpy.savez`, which cannot take an array named `file`."""
    import numpy as np

    with ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array(  # type: ignore[no-untyped-call]
                    stream, np.asanyarray(array), allow_pickle=False
                )


def _require_free(path: Path, *, force: bool) -> None:
    require_writable(path)
    if path.suffix != ".npz":
        raise BundleError(f"'{path}' must end in .npz")
    if path.exists() and not force:
        raise BundleError(f"'{path}' exists already; use --force to replace it")
