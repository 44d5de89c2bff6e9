"""The command that writes the golden files other implementations are tested against."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kokoro_coreml.cli.commands import Debug, Json, Quiet, app, check_speed
from kokoro_coreml.cli.edge import Edge, working

FUNCTIONS_FOLDER = Path("artifacts/goldens")
RANDOM_FOLDER = Path("artifacts/random/goldens")
RECORDINGS_FOLDER = FUNCTIONS_FOLDER / "recordings"


def _speed(value: float | None) -> float | None:
    return None if value is None else check_speed(value)


_Bundle = Annotated[
    Path | None,
    typer.Argument(help="Folder of a bundle to record; without it, the portable functions."),
]
_Out = Annotated[
    Path | None,
    typer.Option(
        help=f"Folder to write to [default: {FUNCTIONS_FOLDER}, with --random "
        f"{RANDOM_FOLDER}, of a bundle {RECORDINGS_FOLDER}]."
    ),
]
_Seed = Annotated[
    int | None,
    typer.Option(
        "--random", min=0, max=2**64 - 1, metavar="SEED", help="Random cases of a seed instead."
    ),
]
_Count = Annotated[
    int | None,
    typer.Option(min=1, help="Of every function that has random cases [default: 500]."),
]
_Largest = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Bytes of an array that is kept whole; of larger ones that only packages read, "
        "the digest is. All are whole by default.",
    ),
]


@app.command()
def goldens(
    context: typer.Context,
    bundle: _Bundle = None,
    out: _Out = None,
    seed: _Seed = None,
    cases: _Count = None,
    phonemes: Annotated[
        list[str] | None,
        typer.Option(help="What the bundle says instead of three sentences; may be repeated."),
    ] = None,
    voice: Annotated[
        str | None, typer.Option(help="A voice of the bundle [default: its sample's].")
    ] = None,
    speed: Annotated[
        float | None,
        typer.Option(callback=_speed, help="Of everything that is said; 1 is the voice's own."),
    ] = None,
    largest: _Largest = None,
    force: Annotated[bool, typer.Option("--force", help="Replace earlier golden files.")] = False,
    quiet: Quiet = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Write seeded inputs of every portable function and what Python makes of them, or with a
    bundle what its packages take and give while it speaks, for tests in another language."""
    edge: Edge = context.obj
    if bundle is None:
        given = {"phonemes": phonemes, "voice": voice, "speed": speed, "largest": largest}
        for name in (name for name, value in given.items() if value not in (None, [])):
            raise typer.BadParameter(f"--{name} is for the recordings of a bundle; name the bundle")
        if cases is not None and seed is None:
            raise typer.BadParameter("--cases is for random ones; give --random a seed")
        _write_functions(edge, out, seed=seed, cases=cases, force=force)
        return
    if seed is not None or cases is not None:
        raise typer.BadParameter("--random and --cases are for functions; name no bundle")
    with working(edge):
        from kokoro_coreml.goldens.recordings import phrases, write_recordings

        recorded = write_recordings(
            bundle,
            out or RECORDINGS_FOLDER,
            said=phrases(phonemes or (), speed=speed),
            voice=voice,
            largest=largest,
            force=force,
            reporter=edge.reporter,
        )
    count = sum(recorded.runs.values())
    text = f"{recorded.folder}: {len(recorded.runs)} recordings of {count} runs"
    edge.result(recorded.to_dict(), f"{text}, {recorded.bytes} bytes")


def _write_functions(
    edge: Edge, out: Path | None, *, seed: int | None, cases: int | None, force: bool
) -> None:
    with working(edge):
        from kokoro_coreml.goldens import Drawing, write_goldens

        drawing = None if seed is None else Drawing(seed, cases or Drawing.cases)
        place = out or (FUNCTIONS_FOLDER if drawing is None else RANDOM_FOLDER)
        written = write_goldens(place, drawing=drawing, force=force, reporter=edge.reporter)
    count = sum(written.cases.values())
    text = f"{place}: {count} cases of {len(written.cases)} functions, {written.bytes} bytes"
    edge.result(written.to_dict(), text)
